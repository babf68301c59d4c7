//! What a host says and hears, as plain data. Where the core has a type for it already, that one is used; what has a type
//! of its own here is what travels of it, or is not checked yet.

use std::time::Duration;

use bytes::Bytes;

use super::HeadsView;
use crate::block::{BlockId, ChainId, Hash, Height, PublicKey};
use crate::store::Durability;
use crate::sync::cursor::WaitsFor;
use crate::sync::{Checkpoint, Confirmation, Origin, Phase};

/// Which roles a host takes. The newest publisher and the newest reporter fence the ones before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub observer: bool,
    pub publisher: bool,
    pub reporter: bool,
}

/// How a host introduces itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// For logs, at most 64 bytes.
    pub name: String,
    /// The chain that the host expects; `None` for any.
    pub chain_id: Option<ChainId>,
    pub roles: Roles,
}

/// Where a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the chain's initial height.
    Genesis,
    /// Only what is new from now on.
    Tip,
    /// From where the host itself stands.
    Resume {
        /// The host's blocks, newest first; sparse is fine, one is enough; at most 64.
        locator: Vec<BlockId>,
        /// The newest block that the host knows to be hard.
        hard: Option<BlockId>,
        /// From here on the host was given each block up to its newest one; `None`: from the initial height on.
        given_from: Option<Height>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// A name, at most 64 bytes, makes `ack` durable.
    pub consumer: Option<String>,
    /// `false`: soft events carry no payloads.
    pub with_bodies: bool,
    /// `false`: a block is told when it becomes hard, soft and hard together.
    pub soft_events: bool,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { consumer: None, with_bodies: true, soft_events: true }
    }
}

/// One answer of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Empty: the wait was over, or `waits_for` is another one now.
    pub events: Vec<Event>,
    /// At the moment of the answer.
    pub heads: HeadsView,
    /// [`Phase::Draining`]: no more will come; open again later.
    pub phase: Phase,
    /// Why the host cannot go on yet. With [`WaitsFor::Name`] it opens another stream, and names its block at this height, too.
    pub waits_for: Option<WaitsFor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly all events are the large one")]
pub enum Event {
    /// The next block: verified, linked, durable.
    Soft(SoftBlock),
    /// The next block that DA has confirmed.
    Hard { id: BlockId, confirmed: Confirmation },
    /// Everything above `to` is taken back (`None`: everything).
    Retract { to: Option<BlockId>, epoch: u64 },
    /// Blocks that the sidecar no longer has, both ends included.
    Gap { from: Height, to: Height },
    /// Damage took these from the sidecar's store; they will be fetched again. Nothing is undone.
    DataLoss { from: Height, to: Height },
    /// The sequencer signed two blocks for one height.
    Equivocation { height: Height, first: Hash, second: Hash },
    /// Nothing but newer heads.
    Progress,
}

/// A block as a stream tells it. Not a [`crate::block::Block`], because its payload may be left out, and nothing of it has
/// been verified here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftBlock {
    pub id: BlockId,
    /// `None` at the initial height.
    pub parent: Option<Hash>,
    pub time_unix_nanos: u64,
    pub host_id: Bytes,
    pub proposer: PublicKey,
    /// The signed header bytes.
    pub header: Bytes,
    pub signature: [u8; 64],
    pub payload: Payload,
    /// `None`: the sidecar did not say, or said it in a word that is newer than this client.
    pub origin: Option<Origin>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    Bytes(Bytes),
    /// Its size in bytes: the stream was opened without bodies.
    Omitted(u64),
}

impl Payload {
    /// The payload's size in bytes, here or not.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Omitted(size) => *size,
        }
    }
}

/// What the sidecar has of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "it is looked at once and taken apart")]
pub enum Lookup {
    Found {
        block: SoftBlock,
        /// `None`: not hard yet.
        inclusion: Option<Confirmation>,
    },
    /// Not on its chain, as far as it has it.
    NotFound,
    /// Below its tail.
    Pruned { tail: Height },
}

/// Which block: by height, by hash, or by both, which must then agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Height(Height),
    Hash(Hash),
    Id(BlockId),
}

/// A block that the host made and wants published. The core's [`crate::sync::Proposal`] knows its payload's hash, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedBlock {
    pub height: Height,
    /// The parent that the host built on; `None` to build on whatever is there.
    pub parent: Option<Hash>,
    /// Not before the parent's; part of the hash.
    pub time_unix_nanos: u64,
    /// The rollup's own block id, at most 64 bytes.
    pub host_id: Bytes,
    pub payload: Bytes,
}

/// What became of a publish. Other than in [`crate::sync::PublishAnswer`], the block that was published is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishResult {
    /// Durable, and on its way to the peers.
    Accepted(Published),
    /// The very same block was here already.
    Duplicate(Published),
    /// Another block is stored, or was signed, at this height.
    Conflict(BlockId),
    /// The block that can be published now: at `height`, on `parent`.
    NotNext {
        height: Height,
        parent: Option<Hash>,
    },
    /// The block itself is wrong; repeating it is useless.
    Invalid(String),
    TooLarge {
        max_block_bytes: u64,
    },
    /// Not yet: what is waited for; and, when that will not be long, how soon to try again.
    NotReady {
        why: String,
        retry_after: Option<Duration>,
    },
    /// Until an operator acts.
    Halted(String),
    /// Goes on by itself.
    StorageFull,
    Overloaded {
        retry_after: Duration,
    },
    /// The sidecar is about to end.
    Draining,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub id: BlockId,
    /// The encoded signed block, ready to be posted to DA.
    pub signed_block: Bytes,
    pub durability: Durability,
}

/// What another node may begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointAnswer {
    Here(Checkpoint),
    /// Why there is nothing.
    None(String),
}

/// Who is connected or persistent, and who is kept away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerLists {
    pub peers: Vec<PeerView>,
    pub bans: Vec<crate::sync::BanInfo>,
}

impl PeerLists {
    pub fn connected(&self) -> usize {
        self.peers.iter().filter(|peer| peer.connected.is_some()).count()
    }
}

/// As the schema's `PeerInfo`. Not the core's, because an offence travels as a text, and the address of the connection apart
/// from the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerView {
    pub peer: String,
    /// Of the connection.
    pub address: Option<String>,
    pub known: Vec<String>,
    pub outbound: bool,
    pub agent: String,
    /// For how long; `None`: it is missing.
    pub connected: Option<Duration>,
    pub latency: Option<Duration>,
    pub persistent: bool,
    pub blocks: u64,
    pub bytes: u64,
    pub expected_wait: Option<Duration>,
    pub failures: u32,
    pub rests: Duration,
    pub bans: u32,
    pub bad_signatures: u32,
    /// What, and how long ago.
    pub last_offence: Option<(String, Duration)>,
}
