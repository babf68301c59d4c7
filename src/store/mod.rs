//! The block store: fjall, behind guarantees that fjall alone does not give. Only the node's writer thread writes it;
//! anyone may read, each answer from one [`Snapshot`].
//!
//! (Seam sketch: signatures are the contract, bodies are to be written.)

use std::path::PathBuf;

use crate::block::{Block, BlockId, Hash, Height};
use crate::sync::{Batch, DaPosition, Epoch, Evidence, EvidenceId, GuardEntry, Heads, Origin, Recovered};
use crate::verify::Rules;

/// What a commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Fsynced: a power cut.
    #[default]
    Power,
    /// The death of the process only.
    Process,
}

pub struct Options {
    /// The data directory; the store lives in `<dir>/store`, the high-water mark in `<dir>/mark`.
    pub dir: PathBuf,
    /// The guard's file, beside the proposer key; `None` when this node does not sign.
    pub guard: Option<PathBuf>,
    pub durability: Durability,
    pub cache_bytes: u64,
    /// The most evidence that is kept: the oldest goes first.
    pub max_evidence: usize,
}

/// Why the store cannot be opened, read or written. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another process uses {0}")]
    Locked(PathBuf),
    #[error("{dir} holds chain `{found}`, not `{wanted}`")]
    WrongChain { dir: PathBuf, found: String, wanted: String },
    #[error("{dir} was written by store version {found}; this program reads {wanted}")]
    WrongVersion { dir: PathBuf, found: u32, wanted: u32 },
    #[error("no space left on the device of {0}")]
    Full(PathBuf),
    #[error("store: {0}")]
    Io(String),
}

/// The one writer.
pub struct Store {}

impl Store {
    /// Opens, or creates, and repairs what a power cut may have torn.
    pub fn open(_options: &Options, _rules: &Rules) -> Result<(Self, Reader, Recovered), StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    /// Writes the batch, atomically. When it returns the batch has the promised durability; on an error the process must end.
    pub fn commit(&mut self, _batch: &Batch) -> Result<(), StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    /// Makes the guard durable, before a signer outside of the process is asked.
    pub fn guard(&mut self, _entry: GuardEntry) -> Result<(), StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }
}

/// Reads; cheap to clone, safe from any thread.
#[derive(Clone)]
pub struct Reader {}

impl Reader {
    /// The state as of one commit: nothing that happens later is seen through it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {}
    }

    /// 16 random bytes, made with the database.
    #[must_use]
    pub fn store_id(&self) -> [u8; 16] {
        [0; 16]
    }
}

impl crate::sync::Stored for Reader {
    fn hash(&self, _height: Height) -> Option<Hash> {
        None
    }
    fn header(&self, _height: Height) -> Option<crate::block::Header> {
        None
    }
}

impl Reader {
    /// Free bytes on the store's disk.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }
}

pub struct Snapshot {}

impl Snapshot {
    pub fn heads(&self) -> Result<Heads, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    /// Its checksum verified; `None` when nothing is stored there.
    pub fn block(&self, _height: Height) -> Result<Option<(Block, Origin)>, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    pub fn hash(&self, _height: Height) -> Result<Option<Hash>, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    pub fn height_of(&self, _hash: Hash) -> Result<Option<Height>, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    pub fn confirmation(&self, _height: Height) -> Result<Option<DaPosition>, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    /// The lowest height taken back by any epoch above `epoch`.
    pub fn retracted_since(&self, _epoch: Epoch) -> Result<Option<Height>, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    /// Ascending, above `after`, at most `max`; `first` is always `Carried`.
    pub fn evidence(&self, _after: EvidenceId, _max: usize) -> Result<Vec<Evidence>, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }

    /// What a named consumer has acknowledged.
    pub fn acked(&self, _consumer: &str) -> Result<Option<BlockId>, StoreError> {
        Err(StoreError::Io("not built yet".into()))
    }
}
