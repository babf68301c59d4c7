//! Between the core and the network: what is asked of peers, how answers end, what gossip is told.

use std::time::Duration;

use super::ids::{PeerId, RequestId};
use crate::block::{Hash, Height, Lane};
use crate::verify::{AuthenticBlock, Fault};

/// What gossipsub is told about a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Valid: pass it on.
    Accept,
    /// Not ours to decide, or nothing new: drop it, and blame nobody.
    Ignore,
    /// Provably wrong: drop it, and hold it against the peer that handed it to us.
    Reject,
}

/// What a peer did wrong, provably. An offence lowers a score and never travels as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Offence {
    /// It handed us bytes that are not a block of this chain.
    BadBlock,
    /// It handed us a block with a wrong signature. Go peers relay what they have not checked, so one is not proof of
    /// malice.
    BadSignature,
    /// Its range answer has other heights than asked for, a broken link inside, or a block that fails its checks.
    BadRange,
}

impl Offence {
    /// What `ctl` and the logs say.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BadBlock => "sent bytes that are not a block of this chain",
            Self::BadSignature => "sent blocks that the sequencer did not sign",
            Self::BadRange => "answered a range request with other blocks than asked for, or with broken ones",
        }
    }
}

/// What is asked of a peer, on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockQuery {
    /// Its highest block.
    Head,
    /// `amount` (1 to [`MAX_RANGE`]) blocks, ascending, from this height on.
    Range { from: Height, amount: u64 },
    /// The block with this hash.
    Hash(Hash),
}

/// The most blocks in one range request: go-header's `MaxRangeRequestSize`.
pub const MAX_RANGE: u64 = 64;

/// How the answer to a [`BlockQuery`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// All that was asked for, or fewer and an orderly end: the peer has no more.
    Complete,
    /// We took no more bytes than we allowed for: the peer may well have the rest.
    Cut,
    /// It does not have it.
    NotFound,
    /// The stream ended before any frame, or inside of one. (A yamux stream that is reset between two frames cannot be told
    /// from one that is closed there.)
    Reset,
    /// It took too long.
    Timeout,
    /// The connection went away.
    Disconnected,
    /// It does not speak the protocol.
    Unsupported,
    /// A frame broke the exchange protocol (no fault), or a block failed its stateless checks. The network, which looks at no
    /// block, reports no fault.
    Invalid(Option<Fault>),
    /// Too many requests, or too many bytes, are open already: nothing was sent.
    NotSent,
}

/// The answer to a fetch: the blocks that arrived before it ended, in the order of arrival, each already authentic. They are of use
/// however it ended; with [`FetchOutcome::Invalid`] they are what came before the bad block, or the broken frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub blocks: Vec<AuthenticBlock>,
    pub outcome: FetchOutcome,
}

/// A fetch that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub request: RequestId,
    pub peer: PeerId,
    pub lane: Lane,
    pub query: BlockQuery,
    /// The most bytes that the whole answer may have.
    pub max_bytes: usize,
    /// When the core will stop waiting.
    pub timeout: Duration,
}
