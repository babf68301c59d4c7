//! Blocks of which nothing is kept but what their signed headers prove.

use crate::block::{BlockId, Hash, Header, PublicKey, SignedHeader, native};

/// A block that the signature of its proposer proves to exist, and what is kept of it where the block itself is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvedBlock {
    pub id: BlockId,
    pub parent: Option<Hash>,
    pub proposer: PublicKey,
}

impl ProvedBlock {
    /// The block with this header, whose hash is known.
    #[must_use]
    pub fn with(hash: Hash, header: &Header) -> Self {
        let id = BlockId { height: header.height, hash };
        Self { id, parent: header.parent_hash, proposer: header.proposer }
    }

    /// The block whose signed header this is; `None`: it is no header.
    #[must_use]
    pub fn of(signed: &SignedHeader) -> Option<Self> {
        native::decode_header(&signed.header).ok().map(|header| Self::with(signed.hash(), &header))
    }
}
