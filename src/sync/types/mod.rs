//! The types that the modules share: what the core, the node, the network, the store and the API tell each other.
//!
//! Plain data only. A module outside of the core translates its own library's types into these, so that foreign
//! libraries stay in their folders.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::History;
use crate::block::{BlockId, Hash, Height, Lane, SignedHeader};
use crate::verify::{AuthenticBlock, Fault, ScheduleEntry, Tip, VerifiedBlock};

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
        self.0.iter().skip(self.0.len().saturating_sub(4)).try_for_each(|byte| write!(f, "{byte:02x}"))
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
pub enum Ask {
    /// Its highest block.
    Head,
    /// `amount` (1 to [`MAX_RANGE`]) blocks, ascending, from this height on.
    Range { from: Height, amount: u64 },
    /// The block with this hash.
    Hash(Hash),
}

/// The most blocks in one range request: go-header's `MaxRangeRequestSize`.
pub const MAX_RANGE: u64 = 64;

/// How the answer to an [`Ask`] ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed the stream, or gave as much as was asked for.
    Complete,
    /// We took no more bytes than we allowed for: the peer may well have the rest.
    Cut,
    /// It does not have it.
    NotFound,
    /// It reset the stream.
    Reset,
    /// It took too long.
    Timeout,
    /// The connection went away.
    Disconnected,
    /// It does not speak the protocol.
    Unsupported,
    /// A frame broke the exchange protocol, or a block failed its stateless checks.
    Invalid(Option<Fault>),
    /// We had no room to ask; nothing was sent.
    NotSent,
}

/// The answer to a fetch: the blocks that arrived before it ended, in the order of arrival, each already authentic. All of
/// them are usable, however it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub blocks: Vec<AuthenticBlock>,
    pub ended: Ended,
}

/// The heights that everything else follows from.
///
/// ```text
///   tail               hard                  soft                        target
///    |------- hard -----|------- soft --------|------ wanted / held ------|
///    '------------ stored, contiguous --------'
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The lowest stored height; where storing will begin, while nothing is stored.
    pub tail: Height,
    /// What the block at `tail` links to: the block right below it, which is not stored (any more). Its time is 0 when only its
    /// hash is known. `None` at the initial height, and before the first block of a trusted start is here.
    pub base: Option<Tip>,
    /// Everything up to here is verified, linked and stored. go-header's *store head*.
    pub soft: Option<Tip>,
    /// Everything up to here was also seen on DA, with the same hash. Never moves back.
    pub hard: Option<BlockId>,
    /// The highest block that a sequencer's signature proves to exist. go-header's *network head*. Never stored.
    pub target: Option<BlockId>,
    /// Rises when stored blocks are taken back.
    pub epoch: Epoch,
    /// Everything on DA up to this DA height has been reported to us; 0 when nothing has.
    pub scanned_through: u64,
    /// The newest evidence; 0 when there is none.
    pub evidence: EvidenceId,
    /// Blocks that were stored once, were lost to damage, and are not here again yet.
    pub lost: Option<DataLoss>,
}

impl Heads {
    /// A chain of which nothing is known yet.
    #[must_use]
    pub const fn empty(initial_height: Height) -> Self {
        Self {
            tail: initial_height,
            base: None,
            soft: None,
            hard: None,
            target: None,
            epoch: Epoch(0),
            scanned_through: 0,
            evidence: EvidenceId(0),
            lost: None,
        }
    }

    /// What the next stored block links to.
    #[must_use]
    pub fn top(&self) -> Option<Tip> {
        self.soft.or(self.base)
    }

    /// The height that the next stored block will have.
    #[must_use]
    pub fn next_height(&self) -> Height {
        self.soft.map_or(self.tail, |soft| soft.id.height.next())
    }

    #[must_use]
    pub fn soft_id(&self) -> Option<BlockId> {
        self.soft.map(|soft| soft.id)
    }

    #[must_use]
    pub fn soft_height(&self) -> Option<Height> {
        self.soft.map(|soft| soft.id.height)
    }

    #[must_use]
    pub fn hard_height(&self) -> Option<Height> {
        self.hard.map(|hard| hard.height)
    }

    /// Whether a block is stored at `height`.
    #[must_use]
    pub fn stores(&self, height: Height) -> bool {
        self.soft_height().is_some_and(|soft| (self.tail..=soft).contains(&height))
    }
}

/// Damage took these heights from the store. What was lost is fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataLoss {
    pub from: Height,
    pub to: Height,
}

/// Something of this chain, seen on DA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub position: DaPosition,
    /// The rollup height that it is about.
    pub height: Height,
    pub what: Seen,
}

/// What was seen at a DA position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The block itself.
    Block(AuthenticBlock),
    /// Its hash, as reported by the host.
    Hash(Hash),
    /// Only the rollup's own id of it: a match hardens the stored block, a mismatch can only halt.
    HostId(Bytes),
    /// Only its payload's hash: as weak as `HostId`.
    PayloadHash(Hash),
    /// What is there turned out to be no valid block of this chain: whatever was said of this position before is forgotten.
    /// Never stored.
    Junk,
}

/// Two blocks that the sequencer signed for one height, or one that does not link to what it signed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub id: EvidenceId,
    pub height: Height,
    pub first: EvidenceSide,
    pub second: SignedHeader,
}

/// One side of an [`Evidence`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvidenceSide {
    /// The stored block with this hash; the store copies its signed header when it commits.
    Stored(BlockId),
    Carried(SignedHeader),
}

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
    /// The stored block at this height was seen on DA.
    Confirm {
        height: Height,
        position: DaPosition,
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
    Evidence(Evidence),
    /// The proposer schedule grows.
    Schedule(ScheduleEntry),
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

impl Batch {
    /// Puts `next`, decided after `self`, into the same write.
    pub fn absorb(&mut self, next: Self) {
        let resets = next.changes.iter().any(|change| matches!(change, Change::ResetGuard(_)));
        self.guard = next.guard.or(self.guard.filter(|_| !resets));
        self.id = next.id;
        self.changes.extend(next.changes);
        self.heads = next.heads;
    }
}

/// Why publishing has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// DA has another block at a height that we stored, and this node signs or was told not to follow.
    Diverged { ours: BlockId, da: BlockId, position: DaPosition },
    /// DA names, by an id that proves nothing, something else than what we stored.
    Contradicted { ours: BlockId, position: DaPosition },
}

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

/// The answer to a host, or to an operator, that waits with a [`Ticket`].
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
    Halted(String),
    StorageFull,
    Overloaded,
    Draining,
}

/// What became of a DA report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportAnswer {
    /// Durable: report on from the DA height after this one. Lower than what was reported when something had to be dropped.
    pub scanned_through: u64,
    /// Blocks that DA names and that nobody has given us: report these with their bytes.
    pub wanted: Vec<BlockId>,
    /// Sightings of this report that are no valid blocks of this chain.
    pub junk: u32,
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

/// What a host asks about its DA layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaReport {
    /// The report covers the DA heights above this one...
    pub after: u64,
    /// ...up to and including this one.
    pub scanned_through: u64,
    /// In any order; duplicates are fine.
    pub sightings: Vec<Sighting>,
}

/// What an operator may command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Append to the proposer schedule, above soft.
    ExtendSchedule(ScheduleEntry),
    /// After a divergence: take back our branch from this block on, and go on with what DA has.
    AbandonBranch(BlockId),
    /// The last block that this node's key ever signed; `None`: it never signed.
    AssertSigned(Option<BlockId>),
    /// Lift the host's veto.
    LiftVeto,
    /// Forget what the consumer of this name has acknowledged: pruning waits for it no longer.
    ForgetConsumer(String),
}

/// What we say of ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub heads: Heads,
    pub phase: Phase,
    /// Somebody holds a branch, signed by the sequencer, that is not ours.
    pub forked: bool,
    /// Peers have blocks above ours, and none of these peers has the next one any more: it has to come from DA, from a peer
    /// that keeps more, or from a later start. Or, while nothing is missing above: what is wanted below the tail.
    pub history_unavailable: bool,
    pub halted: Option<Halt>,
    pub vetoed: Option<BlockId>,
    /// Why nothing can be published now.
    pub not_ready: Option<String>,
    /// DA names this block at `hard + 1` and nobody has given it to us.
    pub wanted: Option<BlockId>,
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

/// A fetch that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub request: RequestId,
    pub peer: PeerId,
    pub lane: Lane,
    pub ask: Ask,
    /// The most bytes that the whole answer may have.
    pub max_bytes: usize,
    /// When the core will stop waiting.
    pub timeout: Duration,
}

/// What was on disk at start: everything that the core needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// `target` is `None`: it is never stored.
    pub heads: Heads,
    /// Not judged yet, in any order; blocks among them have been checked again.
    pub sightings: Vec<Sighting>,
    /// Heights, above hard, of which evidence is kept already.
    pub evidence: Vec<Height>,
    /// What was appended to the genesis schedule, ascending.
    pub schedule: Vec<ScheduleEntry>,
    pub vetoed: Option<BlockId>,
    pub halted: Option<Halt>,
    /// A block that was hard once, above what the store has now: damage took it. Whatever is fetched again must lead to it.
    pub anchor: Option<Anchor>,
    pub guard: GuardState,
    /// What each consumer has acknowledged, by name.
    pub consumers: Vec<(String, BlockId)>,
    /// Bytes of the stored blocks.
    pub stored_bytes: u64,
}

/// The pinned hard block of a damaged store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub id: BlockId,
    pub position: DaPosition,
}

/// A peer, for an operator to read: connected, or persistent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    /// libp2p's text form, base58.
    pub peer: String,
    /// Of the connection; then where else it may be reached.
    pub addresses: Vec<String>,
    /// Whether we dialled it.
    pub outbound: bool,
    /// As it calls itself, escaped and cut to 64 characters: not to be trusted.
    pub agent: String,
    /// For how long; `None`: it is not connected.
    pub connected: Option<Duration>,
    /// Round trip of the last ping.
    pub latency: Option<Duration>,
    /// Never evicted, and never banned by the machine.
    pub persistent: bool,
    /// What it gave us, in this and earlier connections.
    pub blocks: u64,
    pub bytes: u64,
    pub standing: PeerStanding,
}

/// A ban in force, for an operator to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanInfo {
    /// A peer id, an IP address, or a subnet.
    pub subject: String,
    pub reason: String,
    pub left: Duration,
    pub by_operator: bool,
}

/// What an operator asks of the network's peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerList {
    pub peers: Vec<PeerInfo>,
    pub bans: Vec<BanInfo>,
}

/// What the core thinks of a peer: the selection score, and the ban score.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStanding {
    /// Selection: how long an answer is expected to take now; the peer with the least is asked first.
    pub expected_wait: Duration,
    /// Selection: requests in a row that brought nothing.
    pub failures: u32,
    /// Selection: nothing is asked of it for so long.
    pub rests: Duration,
    /// Bans that it has earned since this process started; each is twice as long as the one before.
    pub bans: u32,
    /// Blocks with a wrong signature that it handed us in the current minute.
    pub bad_signatures: u32,
    /// What it did wrong last, and how long ago.
    pub last_offence: Option<(Offence, Duration)>,
}

/// What an operator orders about peers. The texts are checked by the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerOrder {
    /// Make the peer at this multiaddr a persistent one.
    Add {
        address: String,
    },
    /// It is not persistent any more.
    Remove {
        peer: String,
    },
    /// Keep a peer, an address or a subnet away for a while.
    Ban {
        subject: String,
        duration: Duration,
        reason: String,
    },
    Unban {
        subject: String,
    },
}
