//! Tests of the whole: the real binary, started as a supervisor would, between real hosts that know it through the host's
//! API only, on real sockets and files.
//!
//! Invariants of these tests:
//! 1. They wait for what the API says, never for time; every deadline only bounds a hang.
//! 2. Every host judges every event against the contract, in all of them: see [`host::Ledger`].
//! 3. Every process is killed with the value that started it; every port is any free one.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod conflict;
#[path = "../support/copy_dir.rs"]
mod copy_dir;
#[path = "../mock_execution/da.rs"]
mod da;
mod da_reports;
mod divergence;
mod flow;
mod history;
mod host;
mod kills;
mod mock;
mod operator;
mod place;
#[path = "../support/process.rs"]
mod process;
mod resume;
mod signing;
mod sizes;
#[path = "../support/small_disk.rs"]
mod small_disk;
mod start;
mod storage;
mod veto;

use std::time::Duration;

use blocksyncd::block::Height;
use process::tempdir;

/// Bounds a hang, and says nothing about how fast anything is.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Runs one test's hosts, all on this thread.
fn hosts<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(test))
}

/// What must come to pass before the deadline.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("it never comes to pass: {what}"))
}

fn height(n: u64) -> Height {
    Height::new(n).unwrap()
}
