//! What serving needs of the store: views, each of one moment.

use bytes::Bytes;

use crate::block::{Hash, Height, Lane};
use crate::store::{Reader, Snapshot, StoreError};
use crate::sync::serve::Span;

/// Where views come from. Cheap to ask, from any thread.
pub trait ServeSource: Send + Sync + 'static {
    /// The state as of now; what happens later is not seen through it.
    fn view(&self) -> Box<dyn ServeView>;
}

/// One moment of the store. Calls may block on the disk.
pub trait ServeView: Send + 'static {
    /// The stored heights; `None` while nothing is stored.
    fn span(&self) -> Result<Option<Span>, StoreError>;

    /// How many bytes `lane` carries of each block from `from` to `to`, ascending, up to the first that is not there.
    fn sizes(&self, lane: Lane, from: Height, to: Height) -> Result<Vec<usize>, StoreError>;

    /// Gives those bytes to `take`, one block after the other, up to the first that is not there.
    fn parts(&self, lane: Lane, from: Height, to: Height, take: &mut dyn FnMut(Bytes)) -> Result<(), StoreError>;

    fn height_of(&self, lane: Lane, hash: Hash) -> Result<Option<Height>, StoreError>;
}

impl ServeSource for Reader {
    fn view(&self) -> Box<dyn ServeView> {
        Box::new(self.snapshot())
    }
}

impl ServeView for Snapshot {
    fn span(&self) -> Result<Option<Span>, StoreError> {
        let heads = self.heads()?;
        Ok(heads.soft_height().map(|soft| Span { tail: heads.tail, soft }))
    }

    fn sizes(&self, lane: Lane, from: Height, to: Height) -> Result<Vec<usize>, StoreError> {
        if lane != Lane::BLOCK {
            return Ok(Vec::new());
        }
        self.block_sizes(from, to)
    }

    fn parts(&self, lane: Lane, from: Height, to: Height, take: &mut dyn FnMut(Bytes)) -> Result<(), StoreError> {
        if lane != Lane::BLOCK {
            return Ok(());
        }
        self.blocks(from, to).try_for_each(|block| {
            take(block?.bytes().clone());
            Ok(())
        })
    }

    fn height_of(&self, lane: Lane, hash: Hash) -> Result<Option<Height>, StoreError> {
        if lane != Lane::BLOCK {
            return Ok(None);
        }
        Self::height_of(self, hash)
    }
}
