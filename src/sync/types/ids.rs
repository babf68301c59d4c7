//! Names and numbers: peers, requests, commits, epochs, places on DA, and where a block came from.

use std::fmt;
use std::sync::Arc;

use crate::util::hex;

/// A peer, named by the bytes of its libp2p peer id; opaque here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Arc<[u8]>);

impl PeerId {
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The last four bytes, which differ between peers; the first ones name the key's type.
impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("peer..")?;
        hex::write(f, &self.0[self.0.len().saturating_sub(4)..])
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Somebody outside waits for the answer that carries this number: a gossip verdict, a host's reply, a signature.
    /// Whoever asks chooses it; it is never used twice in one process.
    Ticket
}
counter! {
    /// One request to one peer, numbered by the core.
    RequestId
}
counter! {
    /// One write to the store, numbered by the core, ascending.
    CommitId
}
counter! {
    /// Rises by one whenever stored blocks are taken back. Never falls, not even over a crash.
    Epoch
}
counter! {
    /// One piece of evidence, numbered in the order of discovery; never falls.
    EvidenceId
}

/// Where on the DA layer something was seen. Ordered as DA orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DaPosition {
    /// The DA layer's own height; at least 1, but for [`Self::IMPLIED`].
    pub height: u64,
    /// The position among the blocks of this namespace within that DA height.
    pub index: u32,
}

impl DaPosition {
    /// Of a block that was never looked for on DA, and is hard because a block above it is.
    pub const IMPLIED: Self = Self { height: 0, index: 0 };

    /// The position right after everything at `height`.
    #[must_use]
    pub const fn after_height(height: u64) -> Self {
        Self { height: height.saturating_add(1), index: 0 }
    }
}

/// How a block came to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Our own host made it.
    Published,
    Gossip,
    /// The range exchange.
    Range,
    Da,
}
