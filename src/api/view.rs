//! What the API reads of the store: all of one answer from one [`View`]. The store's [`Snapshot`] is one, and tests bring
//! their own.

use crate::block::{Block, BlockId, Hash, Height};
use crate::store::{Reader, Snapshot, StoreError};
use crate::sync::cursor::Chain;
use crate::sync::{DaPosition, Epoch, Evidence, EvidenceId, Heads, Origin};

type Result<T> = std::result::Result<T, StoreError>;

/// Where views come from.
pub trait Source: Send + Sync {
    /// The present state; cheap.
    fn view(&self) -> Box<dyn View>;
    /// 16 bytes, made with the database.
    fn store_id(&self) -> [u8; 16];
}

/// The store at one moment. Each function is the one of [`Snapshot`] that has its name.
pub trait View: Send {
    fn heads(&self) -> Result<Heads>;
    fn block(&self, height: Height) -> Result<Option<(Block, Origin)>>;
    fn hash(&self, height: Height) -> Result<Option<Hash>>;
    fn height_of(&self, hash: Hash) -> Result<Option<Height>>;
    fn confirmation(&self, height: Height) -> Result<Option<DaPosition>>;
    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>>;
    fn evidence(&self, after: EvidenceId, max: usize) -> Result<Vec<Evidence>>;
    fn acks(&self) -> Result<Vec<(String, BlockId)>>;
}

impl dyn View + '_ {
    /// Whether this very block is stored.
    pub(super) fn has(&self, id: BlockId) -> Result<bool> {
        Ok(self.hash(id.height)? == Some(id.hash))
    }
}

impl Chain for dyn View + '_ {
    type Error = StoreError;

    fn hash(&self, height: Height) -> Result<Option<Hash>> {
        View::hash(self, height)
    }

    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>> {
        View::retracted_since(self, epoch)
    }

    fn is_contradicted_above(&self, height: Height) -> Result<bool> {
        let evidence = self.evidence(EvidenceId(0), usize::MAX)?;
        Ok(evidence.iter().any(|evidence| evidence.height > height))
    }
}

impl Source for Reader {
    fn view(&self) -> Box<dyn View> {
        Box::new(self.snapshot())
    }

    fn store_id(&self) -> [u8; 16] {
        self.store_id()
    }
}

impl View for Snapshot {
    fn heads(&self) -> Result<Heads> {
        self.heads()
    }

    fn block(&self, height: Height) -> Result<Option<(Block, Origin)>> {
        self.block(height)
    }

    fn hash(&self, height: Height) -> Result<Option<Hash>> {
        self.hash(height)
    }

    fn height_of(&self, hash: Hash) -> Result<Option<Height>> {
        self.height_of(hash)
    }

    fn confirmation(&self, height: Height) -> Result<Option<DaPosition>> {
        self.confirmation(height)
    }

    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>> {
        self.retracted_since(epoch)
    }

    fn evidence(&self, after: EvidenceId, max: usize) -> Result<Vec<Evidence>> {
        self.evidence(after, max)
    }

    fn acks(&self) -> Result<Vec<(String, BlockId)>> {
        self.acks()
    }
}
