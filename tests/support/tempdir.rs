//! A directory that goes away by itself.
//!
//! Invariants:
//! 1. Nobody else has it, or may look into it; it is empty when it is made.
//! 2. Its path is short, because sockets are made in it.

// Every suite that includes this file uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    /// Where temporary files belong on this system.
    pub fn new() -> Self {
        Self::new_in(&std::env::temp_dir())
    }

    /// In memory where there is enough of it, for tests that sync a lot.
    pub fn in_memory() -> Self {
        const ENOUGH_BYTES: u64 = 1 << 30;
        let memory = Path::new("/dev/shm");
        let roomy = blocksyncd::store::free_bytes(memory).is_ok_and(|free| free >= ENOUGH_BYTES);
        if roomy { Self::new_in(memory) } else { Self::new() }
    }

    fn new_in(parent: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("bsd-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        // Of a process that had our id before us, and was killed.
        let _ = fs::remove_dir_all(&path);
        fs::DirBuilder::new().mode(0o700).create(&path).expect("a temporary directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // With TEST_KEEP a failed test can be looked at.
        if std::env::var_os("TEST_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
