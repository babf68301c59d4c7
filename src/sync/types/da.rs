//! DA as hosts tell it, and what is kept of it until it is judged.

use bytes::Bytes;

use super::ids::DaPosition;
use super::proved::ProvedBlock;
use crate::block::{BlockId, Hash, Header, Height, PublicKey};
use crate::util::saturate;
use crate::verify::AuthenticBlock;

/// What a host says of its DA layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaReport {
    /// The report covers the DA heights above this one...
    pub after: u64,
    /// ...up to and including this one.
    pub scanned_through: u64,
    /// In any order; duplicates are fine.
    pub findings: Vec<Finding>,
}

/// What a host found at one position, checked as far as that needs neither the chain nor a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub position: DaPosition,
    /// The rollup height that the host says it is about. Where nothing in the bytes can be read as one, it does not count.
    pub height: Height,
    pub what: Found,
}

/// How the host gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The very bytes: their SHA-256, and what they are.
    Bytes { digest: Hash, content: Content },
    /// Only the SHA-256 of the bytes.
    Digest(Hash),
    /// What the host says that they stand for.
    Named(Name),
}

/// What the bytes at a position are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A block of this chain by the chain's rules; it may be larger than this node takes.
    Block(AuthenticBlock),
    /// It would be one if its proposer, who did sign it, were the scheduled one at its height.
    Unscheduled { height: Height, proposer: PublicKey },
    /// No block of this chain.
    Junk,
}

/// The host's statement which block of its chain a blob is. It proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Block(Hash),
    /// The rollup's own id, at most [`MAX_HOST_ID_BYTES`](crate::block::native::MAX_HOST_ID_BYTES).
    HostId(Bytes),
    Payload(Hash),
}

/// Something of this chain, seen on DA above hard, and not judged yet.
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
    Block(SeenBlock),
    /// A block that is larger than this node takes.
    Oversized(Box<OversizedBlock>),
    /// The SHA-256 of its bytes: the position is open as long as nobody has given bytes of that digest.
    Digest(Hash),
    /// Only where the chain's DA is told by names.
    Named(Name),
}

impl Seen {
    /// The block that was seen, if its bytes were: they prove that it was signed.
    #[must_use]
    pub fn proved(&self) -> Option<ProvedBlock> {
        match self {
            Self::Block(SeenBlock { block, .. }) => Some(ProvedBlock::with(block.hash(), block.block().header())),
            Self::Oversized(block) => Some(ProvedBlock::with(block.hash, &block.header)),
            Self::Digest(_) | Self::Named(_) => None,
        }
    }
}

/// A block as it stands on DA, and the SHA-256 of its bytes, which cover the signature too, unlike its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenBlock {
    pub block: AuthenticBlock,
    pub digest: Hash,
}

/// What is kept of a block that this node cannot take: it passed every check but for this node's own limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OversizedBlock {
    pub header: Header,
    pub hash: Hash,
    pub digest: Hash,
    /// Of the whole block.
    pub bytes: u64,
}

impl OversizedBlock {
    #[must_use]
    pub fn of(seen: &SeenBlock) -> Self {
        let block = seen.block.block();
        let mut header = block.header().clone();
        // A copy, so that it does not keep the whole block in memory.
        header.host_id = Bytes::copy_from_slice(&header.host_id);
        Self { header, hash: block.hash(), digest: seen.digest, bytes: saturate::to_u64(seen.block.size()) }
    }

    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId { height: self.header.height, hash: self.hash }
    }
}

impl Name {
    #[must_use]
    pub fn is_of(&self, hash: Hash, header: &Header) -> bool {
        match self {
            Self::Block(named) => *named == hash,
            Self::HostId(id) => header.host_id == *id,
            Self::Payload(payload) => header.payload_hash == *payload,
        }
    }
}

impl DaPosition {
    /// The position right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.index.checked_add(1) {
            Some(index) => Self { height: self.height, index },
            None => Self::after_height(self.height),
        }
    }
}

/// An open position: its bytes are to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub position: DaPosition,
    /// As it was reported.
    pub height: Height,
    pub digest: Hash,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportAnswer {
    Taken(ReportTaken),
    /// It leaves something out, which may decide, and so nothing of it was taken: report on from the DA height after this one.
    OutOfOrder {
        scanned_through: u64,
    },
    /// Nothing of it was taken, and as it is nothing ever will be; but for [`ReportRefusal::StorageFull`].
    Refused(ReportRefusal),
}

/// What there is to say about a report that was taken. All of it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportTaken {
    /// Report on from the DA height after this one. Lower than what was reported when something is to be reported again.
    pub scanned_through: u64,
    /// Open positions, lowest on DA first; at most [`MAX_WANTED`].
    pub wanted: Vec<Wanted>,
    /// Findings of this report that are no blocks of this chain.
    pub junk: u32,
    /// Findings of this report whose proposer is not in our schedule.
    pub passed_over: u32,
}

/// The most open positions that are named at once.
pub const MAX_WANTED: usize = 256;

/// The most DA heights that a report may cover above what was reported before.
pub const MAX_REPORT_SPAN: u64 = 1 << 20;

/// DA heights are below this.
pub const MAX_DA_HEIGHT: u64 = 1 << 63;

/// Why a report cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportRefusal {
    #[error("the disk is full: report it again later")]
    StorageFull,
    #[error("it ends at DA height {scanned_through}, below {after}, after which it begins")]
    Backwards { after: u64, scanned_through: u64 },
    #[error(
        "DA height {height} is more than {MAX_REPORT_SPAN} above {scanned_through}, up to which DA was reported: report less at a time"
    )]
    TooFar { height: u64, scanned_through: u64 },
    #[error("DA height {height}, index {index}: DA heights begin at 1", height = .0.height, index = .0.index)]
    NoSuchPosition(DaPosition),
    #[error("DA height {height}, index {index}: on this chain's DA only bytes decide: give the bytes, or their SHA-256", height = .0.height, index = .0.index)]
    NotByName(DaPosition),
    #[error("DA height {height}, index {index}: on this chain's DA only names decide: give a block hash, a host id or a payload hash", height = .0.height, index = .0.index)]
    OnlyByName(DaPosition),
    #[error("DA height {height}, index {index}: the host id has more than {max} bytes", height = .0.height, index = .0.index, max = crate::block::native::MAX_HOST_ID_BYTES)]
    NameTooLong(DaPosition),
    #[error("DA height {height}, index {index}: the block there is of height {found}, and not {said}, as was said", height = .position.height, index = .position.index)]
    OtherHeight { position: DaPosition, said: Height, found: Height },
}

/// Why a block is hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Its bytes, or bytes of the same block, stand on DA.
    Bytes,
    /// The host said that a blob on DA stands for it.
    Named,
    /// A block above it is hard.
    Implied,
    /// The operator trusts it, and said from where on DA is to be read.
    Trusted,
}

/// Where, and by what, a stored block was confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// [`DaPosition::IMPLIED`] where there is none to tell.
    pub position: DaPosition,
    pub basis: Basis,
}

/// A start in the middle of DA, on the operator's word: no block above this one stands on DA at or below this DA height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    pub id: BlockId,
    pub da: u64,
}

/// What a new node may be started from: see [`Floor`]. Its text is what `sync.from` is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub id: BlockId,
    pub da: u64,
}

impl std::fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.id, self.da)
    }
}

/// Why hard does not rise, although DA has something to say about the next height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardWait {
    /// Nobody has given the bytes at this position.
    Bytes(Wanted),
    /// The block there is larger than this node takes.
    TooLarge { position: DaPosition, id: BlockId, bytes: u64 },
    /// What is named there is not here, and nobody leads to it.
    Named { position: DaPosition, height: Height },
    /// The time of the block there is ahead of our clock.
    FromTheFuture { position: DaPosition, id: BlockId },
    /// Damage took the entry of the schedule that begins here, and it says who signs the next height.
    Schedule(Height),
    /// The store is to begin with this block, and nobody has given it yet.
    Beginning(BlockId),
    /// The store began with this block, and DA has not shown it yet.
    Trusted(BlockId),
}

impl std::fmt::Display for HardWait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |position: DaPosition| format!("DA height {}, index {}", position.height, position.index);
        match *self {
            Self::Bytes(Wanted { position, height, .. }) => write!(
                f,
                "nobody has given the bytes at {}, which are said to be of block {height}: the host is to report them",
                at(position)
            ),
            Self::TooLarge { position, id, bytes } => write!(
                f,
                "block {id}, at {}, has {bytes} bytes, more than limits.max_block_bytes: raise that",
                at(position)
            ),
            Self::Named { position, height } => write!(
                f,
                "DA names block {height} at {}, and no peer has given it: connect one that keeps it; or its author publishes it \
                 again",
                at(position)
            ),
            Self::FromTheFuture { position, id } => {
                write!(f, "the time of block {id}, at {}, is ahead of our clock: is that right?", at(position))
            }
            Self::Schedule(from) => write!(
                f,
                "the schedule's entry at height {from} was lost, and says who signs the next block: add it again (ctl schedule \
                 add), or say that there is none (ctl schedule withdraw {from})"
            ),
            Self::Beginning(id) => write!(
                f,
                "sync.from names {id}, and nobody has given that block yet: connect a peer that keeps it, or look whether it is a \
                 block of this chain (ctl get {}, on a node that you trust)",
                id.height
            ),
            Self::Trusted(id) => write!(
                f,
                "the store began with {id}, and DA has not shown that block: have DA reported from where it does, or begin \
                 anew with sync.from = HEIGHT/HASH@DA (ctl checkpoint, on a node that has read DA)"
            ),
        }
    }
}

/// What is remembered of DA beside the sightings, so that it is read again when it matters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaNotes {
    /// There was no room for what was seen of this height and above, from this position on.
    pub left_out: Option<LeftOut>,
    /// Blocks of unscheduled proposers above hard, by height: the lowest position of each key.
    pub passed_over: Vec<PassedOver>,
    /// Those for which there was no room.
    pub passed_over_above: Option<PassedOverRest>,
    /// Some word below this position was replaced: no report covers what follows it, before that has been told once more.
    pub again_from: Option<DaPosition>,
    /// Blocks that DA has shown, beside the sightings, and of which there was no room to remember more.
    pub unremembered: Option<Unremembered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub height: Height,
    pub position: DaPosition,
}

/// They are between these positions, both included, and up to this height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unremembered {
    pub height: Height,
    /// From here on they have yet to be told anew.
    pub from: DaPosition,
    pub through: DaPosition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassedOver {
    pub height: Height,
    pub proposer: PublicKey,
    pub position: DaPosition,
}

/// The highest of what was passed over, merged into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedOverRest {
    pub from: Height,
    pub through: Height,
    /// The lowest of all.
    pub position: DaPosition,
    /// The hash of the schedule under which they were passed over.
    pub under: Hash,
}
