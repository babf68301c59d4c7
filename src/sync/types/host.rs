//! Between the core and those who wait for answers: hosts and operators.

use std::time::Duration;

use bytes::Bytes;

use super::chain::Heads;
use super::da::{Checkpoint, HardWait, PassedOver, ReportAnswer, Wanted};
use super::ids::Origin;
use super::store::Halt;
use crate::block::{BlockId, Hash, Height, PublicKey};
use crate::sync::{History, UnheardRound};
use crate::verify::ScheduleEntry;

/// A block that the host asks us to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub height: Height,
    /// The parent that the host built on; `None` to build on whatever is there.
    pub parent: Option<Hash>,
    pub time_unix_nanos: u64,
    pub host_id: Bytes,
    pub payload: Bytes,
    /// The SHA-256 of `payload`, computed outside of the core.
    pub payload_hash: Hash,
}

/// The answer to a host, or to an operator, that waits with a [`Ticket`](super::Ticket).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Publish(PublishAnswer),
    Report(ReportAnswer),
    Reject(RejectAnswer),
    Ack(bool),
    Operator(Result<(), String>),
}

/// What became of a publish. The block itself is read from the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishAnswer {
    /// Durable, and on its way to the peers.
    Accepted(BlockId),
    /// The very same block was here already.
    Duplicate(BlockId),
    /// Another block is stored, or was signed, at that height.
    Conflict(BlockId),
    /// This is the block that can be published now: `height`, on `parent`.
    NotNext {
        height: Height,
        parent: Option<Hash>,
    },
    Invalid(String),
    TooLarge {
        max_block_bytes: usize,
    },
    NotReady(String),
    /// As `NotReady`, and not for long.
    NotYet {
        why: String,
        retry_after: Duration,
    },
    Halted(String),
    StorageFull,
    Overloaded,
    Draining,
}

/// What became of a host's veto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectAnswer {
    /// The chain ends at its parent until DA or the operator decides.
    Stopped,
    /// It is not on our chain.
    NotFound,
    /// It is hard: DA has decided already.
    Hard,
}

/// What an operator may command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Append to the proposer schedule, above soft.
    ExtendSchedule(ScheduleEntry),
    /// Take back the entry of the schedule that begins at this height, above soft.
    WithdrawSchedule(Height),
    /// After a divergence: take back our branch from this block on, and go on with what DA has.
    AbandonBranch(BlockId),
    /// The last block that this node's key ever signed; `None`: it never signed.
    AssertSigned(Option<BlockId>),
    /// Give up a block that nobody can show what it stands on: it is not waited for any more.
    Disown(BlockId),
    /// Lift the host's veto.
    LiftVeto,
    /// Forget what the consumer of this name has acknowledged: pruning waits for it no longer.
    ForgetConsumer(String),
    /// Forget what was reported of DA from this DA height on, and lift a contradiction: it is to be reported anew.
    RescanDa(u64),
}

/// What we say of ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub heads: Heads,
    pub phase: Phase,
    /// Somebody holds a branch, signed by the sequencer, that is not ours.
    pub forked: bool,
    /// Peers have pruned the next block, and there is none that could serve it: it has to come from DA, from a peer that keeps more,
    /// or from a later start. Or, while nothing is missing above: what is wanted below the tail.
    pub history_unavailable: bool,
    /// Peers have blocks by somebody whom our schedule does not name.
    pub unknown_proposer: Option<UnknownProposer>,
    /// Blocks are refused, since their time is ahead of our clock.
    pub ahead_of_clock: Option<AheadOfClock>,
    pub halted: Option<Halt>,
    pub vetoed: Option<BlockId>,
    /// Why nothing can be published now.
    pub not_ready: Option<String>,
    /// When this node last went on to sign without having heard everybody.
    pub unheard: Option<UnheardRound>,
    /// Positions on DA whose bytes nobody has given to us, as of the last report; lowest on DA first.
    pub wanted: Vec<Wanted>,
    /// Why hard does not rise, although DA has something to say.
    pub hard_waits: Option<HardWait>,
    /// What was reported of proposers that are not in our schedule, since the start of the process...
    pub passed_over: u64,
    /// ...and the lowest of them above hard.
    pub lowest_passed_over: Option<PassedOver>,
    /// What DA had at or below the block that the operator trusts, since the start of the process: it decides nothing.
    pub below_trusted: u64,
    /// What a new node may be started from.
    pub checkpoint: Option<Checkpoint>,
    pub received: Received,
    /// Bytes of the stored blocks, as of the last commit that is durable.
    pub stored_bytes: u64,
    /// What is kept, as it was configured.
    pub history: History,
    /// The consumer for which blocks are kept that would be pruned by now; of several the one that is farthest behind.
    pub pruning_waits_for: Option<String>,
    pub held_blocks: usize,
    pub open_requests: usize,
    pub pending_sightings: usize,
    pub peers: usize,
    pub storage_full: bool,
    /// What hosts and operators had said, and damage took: what it was, and what is to be done.
    pub lost_words: Vec<String>,
}

/// What there is to say where [`Status::forked`] is set.
pub const FORKED: &str = "the sequencer signed another branch, too; only DA can decide";

/// What there is to say where [`Status::history_unavailable`] is set.
#[must_use]
pub const fn history_gone(phase: Phase) -> &'static str {
    match phase {
        // Nobody leads above our head at the moment.
        Phase::Following => "no peer has the next block, or what lies below the tail: add one that keeps more",
        _ => {
            "no peer has the next block any more: report it from DA, add a peer that keeps more, or begin later (sync.from)"
        }
    }
}

impl std::fmt::Display for UnknownProposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { height, proposer, .. } = self;
        write!(
            f,
            "peers have blocks of height {height} and above by {proposer}, whom the schedule does not name there: if it proposes \
             there, extend the schedule (ctl schedule add)"
        )
    }
}

/// By somebody whom the schedule does not name there, peers say, are blocks from this height on: it may be behind. A claim: nobody's
/// signature was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProposer {
    /// The lowest one.
    pub height: Height,
    pub proposer: PublicKey,
    /// So many such blocks were seen, copies counted.
    pub count: u64,
}

/// Blocks that are refused since their time is ahead of our clock: either it is wrong, or the proposer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AheadOfClock {
    /// How many, copies counted.
    pub blocks: u64,
    /// How far the time of the last one is ahead.
    pub last_by: Duration,
    /// When the first one was refused, on the clock of `Now::elapsed`.
    pub since: Duration,
}

/// Blocks that became soft since the start of the process, by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub published: u64,
    pub gossip: u64,
    pub range: u64,
    pub da: u64,
}

impl Received {
    pub(in crate::sync) fn count(&mut self, origin: Origin) {
        *match origin {
            Origin::Published => &mut self.published,
            Origin::Gossip => &mut self.gossip,
            Origin::Range => &mut self.range,
            Origin::Da => &mut self.da,
        } += 1;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody to sync from yet.
    WaitingForPeers,
    /// Below the target.
    Syncing,
    /// At the target.
    Following,
    /// Publishing has stopped.
    Halted,
    Draining,
}
