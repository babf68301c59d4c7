//! What a crash leaves of the store: in each rig a child process writes, dies at a chosen or random moment, and what is left is
//! opened again, by itself, with every block that was acknowledged.
//!
//! | rig | how the child dies |
//! |---|---|
//! | `kill` | SIGKILL at random moments, also while one of the files that a commit writes side by side is slow |
//! | `syscalls` | SIGKILL at an exact system call, the first start included (strace) |
//! | `power` | the power goes: sectors that were not synced are dropped or torn (a recording by strace, replayed) |
//! | `damage` | not at all: bytes are flipped, files cut short or deleted |
//! | `full` | the disk is full |
//!
//! `STORE_CRASH_SCALE=n` runs each rig n times as long. `STORE_CRASH_SEED=n` chooses other random moments.
#![cfg(feature = "sidecar")]

#[path = "../support/blocks.rs"]
mod blocks;
#[path = "../support/copy_dir.rs"]
mod copy_dir;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/tempdir.rs"]
mod tempdir;
#[path = "../support/tracer.rs"]
mod tracer;

mod child;
mod damage;
mod disk;
mod full;
mod kill;
mod power;
mod strace;
mod syscalls;

/// How much longer than by default the rigs run.
fn scale() -> u64 {
    std::env::var("STORE_CRASH_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}

fn random(rig: u64) -> fastrand::Rng {
    let seed = std::env::var("STORE_CRASH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    fastrand::Rng::with_seed(seed * 1000 + rig)
}
