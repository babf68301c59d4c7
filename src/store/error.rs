//! What can go wrong in the store, told apart by what an operator has to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::block::BlockId;
use crate::foreign_file::Unusable;

/// Why the store cannot be opened, read or written. Each says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("another process uses {0}")]
    Locked(PathBuf),
    #[error("{dir} holds chain `{found}`, not `{wanted}`")]
    WrongChain { dir: PathBuf, found: String, wanted: String },
    /// Of the same chain id, and yet another chain.
    #[error("{dir} was begun with {what} {found}, and the genesis file says {wanted}")]
    OtherGenesis { dir: PathBuf, what: &'static str, found: String, wanted: String },
    #[error("the guard {path} is of chain `{found}`, not `{wanted}`")]
    GuardOfOtherChain { path: PathBuf, found: String, wanted: String },
    #[error("{dir} was written by store version {found}; this program reads {wanted}")]
    WrongVersion { dir: PathBuf, found: u32, wanted: u32 },
    /// Two processes must never sign with one key.
    #[error(
        "{} holds the guard {}: two processes must never sign with one key",
        holder.map_or_else(|| "another process".into(), |pid| format!("process {pid}")),
        guard.display()
    )]
    GuardInUse { guard: PathBuf, holder: Option<u32> },
    /// What only one process may have could be opened by two.
    #[error("cannot lock {path}: {why}")]
    NoLocks { path: PathBuf, why: String },
    /// A file beside the key, or in the data directory, is not what it must be.
    #[error("{0}")]
    Unfit(String),
    /// What was to be signed is refused by the file that knows what was.
    #[error(
        "the guard {guard} knows of {known}, and was to name {asked} without an operator's word: nothing is signed"
    )]
    GuardRefuses { guard: PathBuf, known: String, asked: BlockId },
    /// Nothing of the failed write will be seen again, or all of it; either way the process must end.
    #[error("no space left on the device of {0}: make room, then start again")]
    Full(PathBuf),
    /// A record fails its checksum, or is not where it must be. It has been noted: the next start checks everything and
    /// repairs it.
    #[error("{what} is damaged on disk: start again, and it is repaired")]
    Damaged { what: String },
    #[error("{context}: {why}")]
    Io { context: String, why: String },
}

impl StoreError {
    pub(super) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    pub(super) fn unusable(path: &Path, why: Unusable) -> Self {
        match why {
            Unusable::Io(error) => Self::io(path, &error),
            why => Self::Unfit(format!("{} {why}", path.display())),
        }
    }

    /// Names the path, and knows a full disk when it sees one.
    pub(super) fn io(path: &Path, error: &io::Error) -> Self {
        if is_full(error) {
            return Self::Full(path.to_owned());
        }
        Self::Io { context: path.display().to_string(), why: error.to_string() }
    }
}

/// For whoever takes damage for an answer: what is damaged is not there.
pub(super) fn intact<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Damaged { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Gives I/O results the path that they are about.
pub(super) trait At<T> {
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::io(path, &error))
    }
}

pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What an error of the database tells about the database.
#[derive(Debug)]
pub(super) enum DbFault {
    /// The files are wrong: no retry will help.
    Damage(String),
    /// The world around the files: no space, no permission, no file handles, a dying disk.
    World(StoreError),
}

/// Tells damaged files from a world that does not let us read them.
pub(super) fn classify(dir: &Path, error: &fjall::Error) -> DbFault {
    let io = match error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => io,
        fjall::Error::Locked => return DbFault::World(StoreError::Locked(dir.to_owned())),
        fjall::Error::Poisoned => return DbFault::World(poisoned(dir)),
        other => return DbFault::Damage(other.to_string()),
    };
    match io.kind() {
        // A file that is missing, too short, or has nonsense where its structure was.
        io::ErrorKind::NotFound
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::InvalidData
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory
        // An offset that no file can have comes from a damaged length.
        | io::ErrorKind::InvalidInput => DbFault::Damage(io.to_string()),
        io::ErrorKind::Other if io.raw_os_error().is_none() => DbFault::Damage(io.to_string()),
        _ => DbFault::World(StoreError::io(dir, io)),
    }
}

/// The database refuses to write after a write that failed, also one in the background, and keeps the reason to itself. No
/// space is by far the most likely one, so look.
fn poisoned(dir: &Path) -> StoreError {
    /// Less than this and a write, or the flush of a write buffer, may well have failed.
    const SUSPICIOUS_BYTES: u64 = 16 << 20;
    match super::free_bytes(dir) {
        Ok(free) if free < SUSPICIOUS_BYTES => StoreError::Full(dir.to_owned()),
        _ => StoreError::Io { context: dir.display().to_string(), why: "an earlier write failed".into() },
    }
}
