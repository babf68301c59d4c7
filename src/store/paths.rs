//! The names of what lies in the data directory, and what is done by name alone: taking the lock, clearing away what a killed
//! creation left, naming what a repair replaces, asking the next start for a full check.
//!
//! 1. Whatever is made here for the first time is made under a name of its own and renamed: `store` is complete, or not there;
//!    then `store.repaired` is, if anything ever was.
//! 2. Of damaged stores only the latest is kept.
//! 3. A data directory that is made is ours alone, and so is its lock: a user who can open the lock can hold it, and keep us from
//!    starting.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::error::At as _;
use super::lock::{self, NotLocked};
use crate::atomic_file::sync_dir;
use crate::foreign_file;

/// Where everything lies.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) dir: PathBuf,
    pub(super) store: PathBuf,
    /// A complete database that is to be `store`.
    pub(super) repaired: PathBuf,
    pub(super) watermark: PathBuf,
    lock: PathBuf,
    /// Its existence asks for a full check at the next opening.
    suspect: PathBuf,
    /// What was cut off a damaged database, the last time that something was.
    pub(super) cut: PathBuf,
}

const NEW: &str = "store.new-";
const DAMAGED: &str = "store.damaged-";

impl Paths {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            store: dir.join("store"),
            repaired: dir.join("store.repaired"),
            watermark: dir.join("mark"),
            lock: dir.join("lock"),
            suspect: dir.join("suspect"),
            cut: dir.join("cut"),
        }
    }

    /// A name for a database in the making.
    pub(super) fn new_store(&self) -> Result<PathBuf, StoreError> {
        let mut random = [0; 4];
        getrandom::fill(&mut random)
            .map_err(|error| StoreError::Io { context: "random numbers".into(), why: error.to_string() })?;
        Ok(self.dir.join(format!("{NEW}{:08x}", u32::from_be_bytes(random))))
    }

    /// The name for the next damaged store; older ones are removed.
    pub(super) fn next_damaged(&self) -> Result<PathBuf, StoreError> {
        let mut next = 1;
        for (name, path) in self.entries()? {
            if let Some(number) = name.strip_prefix(DAMAGED) {
                next = next.max(number.parse().unwrap_or(0_u64) + 1);
                fs::remove_dir_all(&path).at(&path)?;
            }
        }
        Ok(self.dir.join(format!("{DAMAGED}{next}")))
    }

    fn entries(&self) -> Result<Vec<(String, PathBuf)>, StoreError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).at(&self.dir)? {
            let entry = entry.at(&self.dir)?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push((name, entry.path()));
            }
        }
        Ok(found)
    }

    /// The repaired database takes the free place of the damaged one, durably. Where that place is still taken, the repair
    /// did not get so far, and is made again.
    pub(super) fn finish_repair(&self) -> Result<(), StoreError> {
        if !self.repaired.try_exists().at(&self.repaired)? {
            return Ok(());
        }
        if self.store.try_exists().at(&self.store)? {
            return fs::remove_dir_all(&self.repaired).at(&self.repaired);
        }
        fs::rename(&self.repaired, &self.store).at(&self.store)?;
        sync_dir(&self.dir).at(&self.dir)
    }

    /// Removes what killed creations left, but for a database that only had to be put into its place.
    pub(super) fn clear_up(&self) -> Result<(), StoreError> {
        self.finish_repair()?;
        for (name, path) in self.entries()? {
            if name.starts_with(NEW) {
                fs::remove_dir_all(&path).at(&path)?;
            }
        }
        Ok(())
    }

    /// The next opening is to check everything.
    pub(super) fn request_full_check(&self) -> Result<(), StoreError> {
        open_to_make(&self.suspect)?.sync_all().at(&self.suspect)?;
        sync_dir(&self.dir).at(&self.dir)
    }

    pub(super) fn is_full_check_wanted(&self) -> bool {
        self.suspect.exists()
    }

    pub(super) fn withdraw_full_check(&self) -> Result<(), StoreError> {
        match fs::remove_file(&self.suspect) {
            Ok(()) => sync_dir(&self.dir).at(&self.dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io(&self.suspect, &error)),
        }
    }

    /// The directory, made if need be, is this process's for as long as the file is open.
    pub(super) fn lock(&self) -> Result<File, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir).at(&self.dir)?;
        self.warn_of_others();
        let open = || open_to_make(&self.lock);
        let lock = open()?;
        match lock::take(&lock, &open()?) {
            Ok(()) => Ok(lock),
            Err(NotLocked::Held) => Err(StoreError::Locked(self.dir.clone())),
            Err(NotLocked::Impossible(why)) => Err(StoreError::NoLocks { path: self.lock.clone(), why }),
        }
    }

    /// The mode of a directory that was there is its owner's choice, who may not know what it leads to.
    fn warn_of_others(&self) {
        let Ok(found) = fs::metadata(&self.dir) else { return };
        // Where we may not look at what is above, anybody may come through it.
        let (mode, reaching) = (found.mode() & 0o7777, reaching(&self.dir).unwrap_or(0o077));
        let (rights, dir) = (mode & reaching, self.dir.display());
        if rights & 0o022 != 0 {
            tracing::warn!("other users can change what is in the data directory (mode {mode:04o}): chmod 700 {dir}");
        } else if rights != 0 {
            tracing::warn!("other users can look into the data directory (mode {mode:04o}): chmod 700 {dir}");
        }
    }
}

/// Of whom the rights to `dir` count, as bits of a mode: who can come as far, through all directories above it.
fn reaching(dir: &Path) -> io::Result<u32> {
    const GROUP: u32 = 0o070;
    const OTHERS: u32 = 0o007;
    let mut who = GROUP | OTHERS;
    for above in fs::canonicalize(dir)?.ancestors().skip(1) {
        let mode = fs::metadata(above)?.mode();
        if mode & 0o001 == 0 {
            who &= !OTHERS;
        }
        // The group here may be another one than the group of `dir`.
        if mode & 0o011 == 0 {
            who &= !GROUP;
        }
    }
    Ok(who)
}

/// A file of which only the existence, or the lock, says something; made if need be.
fn open_to_make(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true).mode(0o600);
    foreign_file::open(path, options).map_err(|why| StoreError::unusable(path, why))
}
