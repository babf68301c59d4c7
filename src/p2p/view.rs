//! What serving needs of the store: views, each of one moment.

use bytes::Bytes;

use crate::block::{Hash, Height, Lane};
use crate::store::{Reader, Snapshot, StoreError};
use crate::sync::serve::Span;

/// Where views come from. Cheap to ask, from any thread.
pub trait Source: Send + Sync + 'static {
    /// The state as of now; what happens later is not seen through it.
    fn view(&self) -> Box<dyn View>;
}

/// One moment of the store. Calls may block on the disk.
pub trait View: Send + 'static {
    /// The stored heights; `None` while nothing is stored.
    fn span(&self) -> Result<Option<Span>, StoreError>;

    /// The bytes that `lane` carries of the block at `height`; `None` when they are not there.
    fn part(&self, lane: Lane, height: Height) -> Result<Option<Bytes>, StoreError>;

    fn height_of(&self, lane: Lane, hash: Hash) -> Result<Option<Height>, StoreError>;
}

impl Source for Reader {
    fn view(&self) -> Box<dyn View> {
        Box::new(self.snapshot())
    }
}

impl View for Snapshot {
    fn span(&self) -> Result<Option<Span>, StoreError> {
        let heads = self.heads()?;
        Ok(heads.soft_height().map(|soft| Span { tail: heads.tail, soft }))
    }

    fn part(&self, lane: Lane, height: Height) -> Result<Option<Bytes>, StoreError> {
        if lane != Lane::BLOCK {
            return Ok(None);
        }
        Ok(self.block(height)?.map(|(block, _)| block.bytes().clone()))
    }

    fn height_of(&self, lane: Lane, hash: Hash) -> Result<Option<Height>, StoreError> {
        if lane != Lane::BLOCK {
            return Ok(None);
        }
        Self::height_of(self, hash)
    }
}
