//! Between the core and the store: what a decision writes, and what is there at start.
//!
//! Invariant: several batches may go into one write, but never one that takes back what somebody may be told once that write is
//! done ([`Batch::may_absorb`]). So an answer is true of what is on disk when it is given.

use super::chain::{Evidence, Heads};
use super::da::{Basis, DaNotes, Floor, Sighting};
use super::ids::{CommitId, DaPosition, Epoch, Origin};
use super::proved::ProvedBlock;
use crate::block::{BlockId, Height};
use crate::verify::{ScheduleEntry, VerifiedBlock};

/// What the guard remembers: the last block that this node's key signed, or was about to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardEntry {
    pub last: BlockId,
}

/// The guard as found at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardState {
    /// There is no guard file, so nobody knows what was signed: nothing is signed until an operator says.
    Missing,
    /// The key has never signed.
    Unused,
    Signed(GuardEntry),
}

impl GuardState {
    /// The guard of a key that signed `last`, or nothing.
    #[must_use]
    pub fn after(last: Option<BlockId>) -> Self {
        last.map_or(Self::Unused, |last| Self::Signed(GuardEntry { last }))
    }
}

/// A block that was given up: it is neither stored nor waited for, unless DA has it as the winner after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disowned {
    pub id: BlockId,
    pub by: DisownedBy,
}

/// Who gave a block up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisownedBy {
    /// It was taken back because DA has another one: the key may sign at its height again.
    Da,
    /// An operator's word: what the key signed stays signed.
    Operator,
    /// A name on DA that proves nothing is another one's: it is not stored any more, and waited for all the same, until an operator
    /// says that nobody need.
    Name,
}

/// One step of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The next block, directly above the soft head of this moment.
    Append {
        block: VerifiedBlock,
        origin: Origin,
    },
    /// Takes back every stored block from this height on, and logs `(epoch, from)` in the retraction log.
    Truncate {
        from: Height,
        epoch: Epoch,
    },
    /// An empty store begins here: the height of its first block, and where DA is read from.
    Begin {
        tail: Height,
        floor: Option<Floor>,
    },
    /// The stored block at this height was seen on DA, or is trusted.
    Confirm {
        height: Height,
        position: DaPosition,
        basis: Basis,
    },
    /// Forgets every stored block below this height, which is stored: the tail is there now.
    Prune {
        below: Height,
    },
    /// Stores the block right below the tail, which is there now.
    Prepend {
        block: VerifiedBlock,
        origin: Origin,
    },
    /// Keeps a sighting that cannot be judged yet.
    KeepSighting(Sighting),
    /// Forgets the sighting at this position: it was judged, or is to be reported again.
    DropSighting(DaPosition),
    /// What is remembered of DA beside the sightings, all of it.
    DaNotes(DaNotes),
    /// Remembers a block above hard that DA has shown, and that is no sighting any more.
    KeepProved(ProvedBlock),
    /// Forgets it: it is stored, or DA has decided about its height.
    ForgetProved(BlockId),
    Evidence(Evidence),
    /// The proposer schedule grows.
    Schedule(ScheduleEntry),
    /// The entry of the schedule that begins at this height is taken back.
    WithdrawSchedule(Height),
    /// The host's veto, or its end.
    Veto(Option<BlockId>),
    /// Publishing stops, or goes on.
    Halt(Option<Halt>),
    /// A named consumer has processed everything up to this block.
    Ack {
        consumer: String,
        up_to: BlockId,
    },
    /// Nothing is kept for this consumer any more.
    ForgetConsumer(String),
    /// Remembers a block that is given up; once more is harmless.
    Disown(Disowned),
    /// Forgets that this block was given up, if it was: it is stored again, or there is no room to remember it.
    Own(BlockId),
    /// What damage took was said again, or need not be.
    ForgetLost(LostWord),
    /// An operator overrides the guard: this, or nothing, is the last block that the key signed. The only change that may
    /// lower it.
    ResetGuard(Option<BlockId>),
}

/// Everything that one decision writes: applied in order, all or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    pub id: CommitId,
    pub changes: Vec<Change>,
    /// The heads after the last change. `target` is not stored.
    pub heads: Heads,
    /// Must be durable no later than the batch. Never lower than what the guard holds, unless a `ResetGuard` came before.
    pub guard: Option<GuardEntry>,
}

impl Change {
    /// Whether it takes back what is in `before`, or what may have been answered while `before` waited.
    fn takes_back(&self, before: &Batch) -> bool {
        match self {
            Self::Truncate { .. }
            | Self::ResetGuard(_)
            | Self::ForgetConsumer(_)
            | Self::WithdrawSchedule(_)
            | Self::Veto(_)
            | Self::Halt(None) => true,
            Self::Prune { below } => before.stores_below(*below),
            Self::Ack { consumer, up_to } => before.acks_above(consumer, up_to.height),
            Self::Append { .. }
            | Self::Confirm { .. }
            | Self::Prepend { .. }
            | Self::KeepSighting(_)
            | Self::DropSighting(_)
            | Self::DaNotes(_)
            | Self::Begin { .. }
            | Self::KeepProved(_)
            | Self::ForgetProved(_)
            | Self::Evidence(_)
            | Self::Schedule(_)
            | Self::Halt(Some(_))
            | Self::Disown(_)
            | Self::Own(_)
            | Self::ForgetLost(_) => false,
        }
    }
}

impl Batch {
    /// Whether `next`, decided after `self`, may go into the same write: it takes nothing back.
    #[must_use]
    pub fn may_absorb(&self, next: &Self) -> bool {
        next.heads.scanned_through >= self.heads.scanned_through
            && !next.changes.iter().any(|change| change.takes_back(self))
    }

    /// Puts `next`, which [`Self::may_absorb`] allows, into the same write.
    pub fn absorb(&mut self, next: Self) {
        self.guard = next.guard.or(self.guard);
        self.id = next.id;
        self.changes.extend(next.changes);
        self.heads = next.heads;
    }

    fn stores_below(&self, height: Height) -> bool {
        self.changes.iter().any(|change| match change {
            Change::Append { block, .. } | Change::Prepend { block, .. } => block.id().height < height,
            _ => false,
        })
    }

    fn acks_above(&self, name: &str, height: Height) -> bool {
        self.changes.iter().any(
            |change| matches!(change, Change::Ack { consumer, up_to } if consumer == name && up_to.height > height),
        )
    }
}

/// Why publishing has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// DA has another block at a height that we stored, and this node signs or was told not to follow.
    Diverged { ours: BlockId, da: BlockId, position: DaPosition },
    /// DA names, by an id that proves nothing, something else than what we stored.
    Contradicted { ours: BlockId, position: DaPosition },
    /// DA has another block than the one that is hard, or was before damage, on the same parent and before it: one of the reports was
    /// wrong.
    HardContradicted { hard: BlockId, da: BlockId, position: DaPosition },
}

/// The name under which an operator finds, and forgets, consumers that are not known any more; and forgets that other things are
/// not.
pub const LOST_BY_DAMAGE: &str = "lost by damage";

/// Something that an operator or a host had said, and that damage took from the store. It is remembered until it is said again, or
/// until an operator says that it need not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LostWord {
    /// Which block the host's execution refuses.
    Veto,
    /// The entry of the proposer schedule that begins at this height.
    Schedule(Height),
    /// Nobody knows what.
    Unknown,
}

/// What was on disk at start: everything that the core needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// `target` is `None`: it is never stored.
    pub heads: Heads,
    /// Not judged yet, in any order; blocks among them have been checked again.
    pub sightings: Vec<Sighting>,
    /// Where there are sightings that today's rules refuse: they are to be reported again.
    pub refused_sightings: Vec<DaPosition>,
    pub da_notes: DaNotes,
    /// Blocks that DA has shown, and that are no sightings any more, in no order.
    pub proved: Vec<ProvedBlock>,
    /// What is kept of it about heights above hard, ascending; `first` is always `Carried`.
    pub evidence: Vec<Evidence>,
    /// What was appended to the genesis schedule, ascending.
    pub schedule: Vec<ScheduleEntry>,
    pub vetoed: Option<BlockId>,
    pub halted: Option<Halt>,
    /// A block that was hard once, above what the store has now: damage took it. Whatever is fetched again must lead to it.
    pub anchor: Option<Anchor>,
    pub guard: GuardState,
    /// What each consumer has acknowledged, by name.
    pub consumers: Vec<(String, BlockId)>,
    /// Blocks that were given up: what the store remembers, and what is remembered beside the guard.
    pub disowned: Vec<Disowned>,
    /// What hosts and operators had said and is not known any more.
    pub lost_words: Vec<LostWord>,
    /// Bytes of the stored blocks.
    pub stored_bytes: u64,
}

/// The pinned hard block of a damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub id: BlockId,
    pub position: DaPosition,
}
