//! How blocks travel: a *format* splits a block into one or more parts, each on its own *lane*.
//!
//! A lane is one go-header network id, with its own gossip topic and range-exchange protocol. The native format has a
//! single lane; ev-node's has two (headers and data). Everything that names a part on the wire names its lane, so that a
//! second format adds an implementation here and nothing elsewhere.

use bytes::Bytes;

use super::malformed::Malformed;
use super::{Block, ChainId, native};

/// The index of a lane in its format's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(pub u8);

impl Lane {
    /// The native format's only lane.
    pub const BLOCK: Self = Self(0);
}

/// A way of encoding blocks. Implementations are pure, and allocate no more than their input.
pub trait BlockFormat {
    /// The lanes' go-header network ids, in lane order, for this chain.
    fn network_ids(&self, chain_id: &ChainId) -> Vec<String>;

    /// Decodes what arrived on `lane`, and refuses whatever our own encoder would not have produced.
    ///
    /// # Errors
    /// [`Malformed`], always the fault of who handed the bytes over.
    fn decode(&self, lane: Lane, bytes: &Bytes, max_block_bytes: usize) -> Result<Block, Malformed>;
}

/// The formats that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// [`native`]: any rollup, one lane, the payload opaque.
    #[default]
    Native,
}

impl BlockFormat for Format {
    fn network_ids(&self, chain_id: &ChainId) -> Vec<String> {
        match self {
            Self::Native => vec![native::network_id(chain_id)],
        }
    }

    fn decode(&self, lane: Lane, bytes: &Bytes, max_block_bytes: usize) -> Result<Block, Malformed> {
        match (self, lane) {
            (Self::Native, Lane::BLOCK) => native::decode(bytes, max_block_bytes),
            (Self::Native, _) => Err(Malformed::NotProtobuf("no such lane")),
        }
    }
}
