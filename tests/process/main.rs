//! The process around the sidecar, with the real binary: what `init` makes, that `run` fails closed, which setting wins,
//! and everything that a supervisor relies on.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "../support/blocks.rs"]
mod blocks;
mod config;
#[path = "../support/copy_dir.rs"]
mod copy_dir;
mod ctl;
mod drain;
mod earlier;
mod guard;
mod init;
mod lifecycle;
mod odd_files;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/tracer.rs"]
mod tracer;
mod users;
