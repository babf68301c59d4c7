//! Our program and real Go peers on one network: go-header, go-libp2p and go-libp2p-pubsub as released, in
//! `tests/interop/go`, against the real binary, over loopback.
//!
//! Invariants of these tests:
//! 1. They wait for events, never for time; every deadline only bounds a hang.
//! 2. Without Go they are skipped and say so; with `CI=true` that is a failure.
//! 3. Whatever our program did, no honest Go peer has blocked it at the end: [`go::Peer::expect_not_blocked`].
//! 4. Every process is killed with the value that started it; every port is any free one.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod adversary;
mod chain;
mod go;
#[path = "../support/go_peer.rs"]
mod go_peer;
mod gossip;
mod host;
mod mixed;
#[path = "../support/process.rs"]
mod process;
mod retraction;
mod sync;
mod table;

use std::time::Duration;

/// Bounds a hang, and says nothing about how fast anything is.
pub const DEADLINE: Duration = Duration::from_mins(2);
