//! Real networks in one process, over loopback: what one does, the others see.

#![cfg(feature = "sidecar")]

mod attacks;
mod connections;
mod discovery;
mod exchange;
mod gate;
mod gossip;
mod network;
mod operate;
mod roll_call;
mod rpc;
mod stranger;
#[path = "../support/tempdir.rs"]
mod tempdir;
