//! The core: the only module that decides anything about blocks. Plain data and plain functions, no I/O, no clock.
//!
//! `node` gives it one [`Input`] after the other and carries out the [`Effect`]s in order. Effects are of two kinds:
//!
//! - *immediate* (`Judge`, `Fetch`, `Cancel`, `Penalize`, `Sign`, `Commit`): run at once;
//! - *after-durable* (`Reply`, `Announce`, `Broadcast`): run, in order, once every `Commit` before them is on disk.
//!
//! Invariants, asserted in release too:
//! 1. `tail <= hard <= soft <= target`, as far as each is there.
//! 2. `hard` never decreases and never changes its hash.
//! 3. `soft` decreases only together with a rising epoch, and never below `hard`.
//! 4. `target` rises only on a sequencer's signature.
//! 5. Nothing is told about a block of our own before it is durable.
//! 6. The same seed and the same inputs give the same effects.

pub mod cursor;
mod words;

use std::time::Duration;

use bytes::Bytes;

pub use words::*;

use crate::block::{BlockId, Hash, Height};
use crate::verify::{AuthenticBlock, Fault};

/// Everything that can happen to the core.
#[derive(Clone, Debug)]
pub enum Input {
    /// The host asks for a block to be made and signed here.
    Publish {
        ticket: Ticket,
        proposal: Proposal,
    },
    /// The host hands over a block that it signed itself.
    PublishSigned {
        ticket: Ticket,
        block: AuthenticBlock,
    },
    /// The answer to [`Effect::Sign`]; `Err` says why there is no signature.
    Signed {
        ticket: Ticket,
        outcome: Result<AuthenticBlock, String>,
    },
    /// A message was gossiped to us; its verdict is awaited.
    Gossip {
        peer: PeerId,
        ticket: Ticket,
        outcome: Result<AuthenticBlock, Fault>,
    },
    /// A gossip message was dropped unread, because we are too busy; gossipsub will not bring it again.
    GossipMissed {
        peer: PeerId,
    },
    PeerUp {
        peer: PeerId,
    },
    PeerDown {
        peer: PeerId,
    },
    /// The answer to [`Effect::Fetch`].
    Fetched {
        request: RequestId,
        fetched: Fetched,
    },
    /// The host, or a follower of our own, reports what DA has.
    Da {
        ticket: Ticket,
        report: DaReport,
    },
    /// The host's execution refuses this block.
    HostRejected {
        ticket: Ticket,
        block: BlockId,
    },
    /// A named consumer has processed everything up to this block.
    Acked {
        ticket: Ticket,
        consumer: String,
        up_to: BlockId,
    },
    Operator {
        ticket: Ticket,
        command: Command,
    },
    /// Every commit up to this one is on disk.
    Durable(CommitId),
    /// Free disk space fell below the reserve, or rose above it again.
    StorageFull(bool),
    /// Stop accepting work from the host.
    Drain,
    /// The deadline of [`Syncer::next_wakeup`] has passed.
    Wakeup,
}

/// Everything that the core can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Immediate: tells gossipsub what to do with the message.
    Judge { ticket: Ticket, verdict: Verdict },
    /// Immediate.
    Fetch(Fetch),
    /// Immediate: nobody waits for this answer any more.
    Cancel(RequestId),
    /// Immediate: lowers the peer's standing, and with `ban` keeps it away for that long.
    Penalize { peer: PeerId, offence: Offence, ban: Option<Duration> },
    /// Immediate: asks whoever holds the key to sign these header bytes. A signer outside of the process is asked only
    /// after `guard` is durable.
    Sign { ticket: Ticket, header_bytes: Bytes, payload: Bytes, guard: GuardEntry },
    /// Immediate, and everything after it that waits for durability waits for this.
    Commit(Batch),
    /// After durable.
    Reply { ticket: Ticket, answer: Answer },
    /// After durable.
    Announce(Heads),
    /// After durable: gossip this stored block.
    Broadcast(BlockId),
}

/// What the core may look up of what is already on disk. Reads are of committed state only, and of heights that the core
/// has no newer decision about.
pub trait Stored {
    /// The hash of the stored block at `height`.
    fn hash(&self, height: Height) -> Option<Hash>;
    /// The stored block's header: its time, and the ids by which hosts report it.
    fn header(&self, height: Height) -> Option<crate::block::Header>;
}
