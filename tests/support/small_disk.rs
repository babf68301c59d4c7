//! A file system of a chosen size, for as long as it lives.

use std::path::Path;
use std::process::Command;

use super::tempdir::TempDir;

#[derive(Debug)]
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// `size` as mount(8) reads it. `None`, which is said, where mounting is not permitted.
    pub fn mount(size: &str) -> Option<Self> {
        let dir = TempDir::new();
        let options = format!("size={size}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        if mount.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self(dir));
        }
        println!("SKIPPED: full disk: mounting a tmpfs is not permitted");
        None
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let status = Command::new("mount").args(["-o", &options]).arg(self.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "it can be resized");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg(self.path()).status().ok();
    }
}
