//! Locks that are held for as long as a file is open: by one process, whatever the file is called, and until it dies.
//!
//! 1. Whoever holds a lock of [`take`] has it alone, as far as the kernel knows: a lock that does not even exclude ourselves is
//!    none, and is refused.
//! 2. Whether it excludes other machines cannot be known here: where the file system may be shared with some, that is said.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::StoreError;
use super::error::At as _;
use crate::foreign_file::private::{self, Links, Owner, Unfit};

/// Why a lock was not taken.
#[derive(Debug)]
pub(super) enum NotLocked {
    /// Somebody has it.
    Held,
    /// Nobody can have one on this file system: why.
    Impossible(String),
}

/// Locks `file`. `again` is the same file, opened once more.
pub(super) fn take(file: &File, again: &File) -> Result<(), NotLocked> {
    let impossible = |error: io::Error| NotLocked::Impossible(error.to_string());
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(NotLocked::Held),
        Err(TryLockError::Error(error)) => return Err(impossible(error)),
    }
    match again.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(()),
        Ok(()) => Err(NotLocked::Impossible("a lock on it excludes nobody".into())),
        Err(TryLockError::Error(error)) => Err(impossible(error)),
    }
}

/// The file beside a guard, `<guard>.lock`: whoever has it has the guard, also while there is none. It says which process that
/// is, and stays when it ends.
#[derive(Debug)]
pub(super) struct GuardLock {
    guard: PathBuf,
    beside: File,
}

impl GuardLock {
    pub(super) fn take(guard: &Path) -> Result<Self, StoreError> {
        let path = beside(guard, ".lock");
        let open = || {
            let mut options = OpenOptions::new();
            private::open(&path, options.read(true).write(true).create(true), Links::Refused, Owner::Us)
        };
        let (beside, again) = (open().map_err(unfit(&path))?, open().map_err(unfit(&path))?);
        let lock = Self { guard: guard.to_owned(), beside };
        lock.take_of(&lock.beside, &again)?;
        lock.sign().at(&path)?;
        warn_if_shared(&lock.beside, guard);
        Ok(lock)
    }

    /// Has the guard's own file too, by which it is known under other names.
    pub(super) fn take_guard(&self, file: &File) -> Result<(), StoreError> {
        self.take_of(file, &open_guard(&self.guard)?.ok_or_else(|| self.moved())?)
    }

    fn take_of(&self, file: &File, again: &File) -> Result<(), StoreError> {
        take(file, again).map_err(|why| match why {
            NotLocked::Held => StoreError::GuardInUse { guard: self.guard.clone(), holder: self.holder() },
            NotLocked::Impossible(why) => StoreError::NoLocks { path: self.guard.clone(), why },
        })
    }

    fn moved(&self) -> StoreError {
        StoreError::Io {
            context: self.guard.display().to_string(),
            why: "it was moved away while it was opened".into(),
        }
    }

    /// Says who has it.
    fn sign(&self) -> io::Result<()> {
        self.beside.set_len(0)?;
        (&self.beside).write_all(format!("{}\n", std::process::id()).as_bytes())
    }

    /// Who has it, as far as the file says it.
    fn holder(&self) -> Option<u32> {
        let mut text = [0; 16];
        let len = self.beside.read_at(&mut text, 0).ok()?;
        let pid: u32 = std::str::from_utf8(text.get(..len)?).ok()?.trim_end().parse().ok()?;
        (pid != std::process::id()).then_some(pid)
    }
}

/// A file of the guard's, beside it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// The guard's file, ours alone; `None` when there is none.
pub(super) fn open_guard(path: &Path) -> Result<Option<File>, StoreError> {
    let mut options = OpenOptions::new();
    match private::open(path, options.read(true).write(true), Links::Refused, Owner::Us) {
        Ok(file) => Ok(Some(file)),
        Err(Unfit::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(unfit(path)(why)),
    }
}

/// The bytes of a file of the guard's, at most so many; `None` when there is none.
pub(super) fn read_private(path: &Path, max: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(file) = open_guard(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes).at(path)?;
    Ok(Some(bytes))
}

fn unfit(path: &Path) -> impl Fn(Unfit) -> StoreError {
    move |why| match why {
        Unfit::Io(error) => StoreError::io(path, &error),
        other => StoreError::Unfit(format!("the guard {} {other}", path.display())),
    }
}

/// Locks on a file system that other machines use too are as good as its server, and as the mount: not for us to know.
fn warn_if_shared(file: &File, guard: &Path) {
    if is_shared(file) {
        tracing::warn!(
            guard = %guard.display(),
            "the guard is on a network file system: whether its lock keeps a process on another machine out cannot be known here"
        );
    }
}

#[cfg(target_os = "linux")]
fn is_shared(file: &File) -> bool {
    /// NFS, SMB (three times), FUSE, 9P, virtiofs, Ceph, AFS, Lustre, OCFS2, GFS2; as statfs(2) names them.
    const SHARED: [u32; 12] = [
        0x6969,
        0x517B,
        0xFE53_4D42,
        0xFF53_4D42,
        0x6573_5546,
        0x0102_1997,
        0x6A65_6A63,
        0x00C3_6400,
        0x5346_414F,
        0x0BD0_0BD0,
        0x7461_636F,
        0x0116_1970,
    ];
    rustix::fs::fstatfs(file).is_ok_and(|stat| SHARED.iter().any(|shared| i64::from(*shared) == stat.f_type))
}

#[cfg(not(target_os = "linux"))]
fn is_shared(_: &File) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_of_the_file_and_not_of_its_name_or_its_process() {
        let dir = std::env::temp_dir().join(format!("bsd-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("it can be made");
        let (path, other) = (dir.join("file"), dir.join("other"));
        let open = |path: &Path| OpenOptions::new().create(true).append(true).open(path).expect("it opens");
        let held = open(&path);
        assert!(take(&held, &open(&path)).is_ok());
        std::fs::hard_link(&path, &other).expect("it can be linked");
        for name in [&path, &other] {
            assert!(matches!(take(&open(name), &open(name)), Err(NotLocked::Held)));
        }
        drop(held);
        let held = open(&other);
        // What is not the same file is not excluded: as a file system whose locks do nothing.
        let stranger = open(&dir.join("stranger"));
        assert!(matches!(take(&held, &stranger), Err(NotLocked::Impossible(_))));
        assert!(!is_shared(&held) || cfg!(not(target_os = "linux")), "the tests' directory is on this machine");
        std::fs::remove_dir_all(&dir).expect("it was ours");
    }
}
