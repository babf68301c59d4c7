//! What the API reads of the store: all of one answer from one [`HostView`]. The store's [`Snapshot`] is one, and tests bring
//! their own.

use crate::block::{Block, BlockId, Hash, Height};
use crate::store::{Reader, Snapshot, StoreError};
use crate::sync::cursor::ChainView;
use crate::sync::{Confirmation, Epoch, Evidence, EvidenceId, Heads, Origin};

/// Where views come from.
pub trait HostSource: Send + Sync {
    /// The present state; cheap.
    fn view(&self) -> Box<dyn HostView>;
    /// 16 bytes, made with the database.
    fn store_id(&self) -> [u8; 16];
}

/// The store at one moment. Each function is the one of [`Snapshot`] that has its name.
pub trait HostView: Send {
    fn heads(&self) -> Result<Heads, StoreError>;
    fn block(&self, height: Height) -> Result<Option<(Block, Origin)>, StoreError>;
    fn hash(&self, height: Height) -> Result<Option<Hash>, StoreError>;
    fn height_of(&self, hash: Hash) -> Result<Option<Height>, StoreError>;
    fn confirmation(&self, height: Height) -> Result<Option<Confirmation>, StoreError>;
    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, StoreError>;
    fn evidence(&self, after: EvidenceId, max: usize) -> Result<Vec<Evidence>, StoreError>;
    fn acks(&self) -> Result<Vec<(String, BlockId)>, StoreError>;
    fn is_disowned(&self, hash: Hash) -> Result<bool, StoreError>;
    fn vetoed(&self) -> Result<Option<BlockId>, StoreError>;
}

impl dyn HostView + '_ {
    /// Whether this very block is stored.
    pub(super) fn has(&self, id: BlockId) -> Result<bool, StoreError> {
        Ok(self.hash(id.height)? == Some(id.hash))
    }
}

impl ChainView for dyn HostView + '_ {
    type Error = StoreError;

    fn hash(&self, height: Height) -> Result<Option<Hash>, StoreError> {
        HostView::hash(self, height)
    }

    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, StoreError> {
        HostView::retracted_since(self, epoch)
    }

    fn is_given_up(&self, hash: Hash) -> Result<bool, StoreError> {
        self.is_disowned(hash)
    }

    fn vetoed(&self) -> Result<Option<BlockId>, StoreError> {
        HostView::vetoed(self)
    }
}

impl HostSource for Reader {
    fn view(&self) -> Box<dyn HostView> {
        Box::new(self.snapshot())
    }

    fn store_id(&self) -> [u8; 16] {
        self.store_id()
    }
}

impl HostView for Snapshot {
    fn heads(&self) -> Result<Heads, StoreError> {
        self.heads()
    }

    fn block(&self, height: Height) -> Result<Option<(Block, Origin)>, StoreError> {
        self.block(height)
    }

    fn hash(&self, height: Height) -> Result<Option<Hash>, StoreError> {
        self.hash(height)
    }

    fn height_of(&self, hash: Hash) -> Result<Option<Height>, StoreError> {
        self.height_of(hash)
    }

    fn confirmation(&self, height: Height) -> Result<Option<Confirmation>, StoreError> {
        self.confirmation(height)
    }

    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, StoreError> {
        self.retracted_since(epoch)
    }

    fn evidence(&self, after: EvidenceId, max: usize) -> Result<Vec<Evidence>, StoreError> {
        self.evidence(after, max)
    }

    fn acks(&self) -> Result<Vec<(String, BlockId)>, StoreError> {
        self.acks()
    }

    fn is_disowned(&self, hash: Hash) -> Result<bool, StoreError> {
        self.is_disowned(hash)
    }

    fn vetoed(&self) -> Result<Option<BlockId>, StoreError> {
        self.vetoed()
    }
}
