//! What the core is configured with. Every limit bounds memory; every duration is on the monotonic clock.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::block::{BlockId, PublicKey};
use crate::verify::Rules;

#[derive(Clone, Debug)]
pub struct Config {
    /// The chain's rules, with the genesis schedule; what was appended to it comes with `Recovered`.
    pub rules: Rules,
    /// The key that this node signs with, when it signs by itself.
    pub signs: Option<PublicKey>,
    /// A node that may publish halts whatever this says.
    pub on_divergence: Policy,
    pub known_peers: Acquaintance,
    pub da_evidence: DaEvidence,
    pub history: History,
    pub limits: Limits,
    pub timing: Timing,
}

/// What of DA decides: a rule of the chain, the same at all its nodes and for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DaEvidence {
    /// The bytes of signed blocks, as they stand on DA, and nothing else.
    #[default]
    Block,
    /// What the host says that a blob stands for, of a chain whose DA holds another encoding. Never mixed with `Block`.
    Named,
}

impl DaEvidence {
    /// As the genesis file writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Named => "named",
        }
    }
}

/// What a follower does when DA has another block than the one it stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Take back what was stored from there on, and follow DA.
    #[default]
    FollowDa,
    /// Stop confirming, and wait for an operator.
    Halt,
}

/// Whether the address book has anybody in it at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acquaintance {
    #[default]
    Nobody,
    Somebody,
}

/// How much of the chain is kept, and where it begins. The default is everything, from the initial height on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// So many blocks are kept up to the lower of hard and what all consumers have acknowledged; `None`: all.
    pub retain_blocks: Option<NonZeroU64>,
    /// The most bytes of blocks that are stored: old ones go before this is passed, and where they may not go, nothing more is
    /// taken in.
    pub max_bytes: Option<NonZeroU64>,
    /// While DA has confirmed nothing: prune below soft instead of below hard, which is never there without a DA source.
    pub prune_unconfirmed: bool,
    /// An empty store begins with this block, on the operator's word; in any store it is the only one for its height.
    pub trusted: Option<Trusted>,
    /// Fetch what lies below the tail too, down to the initial height, while there is nothing else to do.
    pub backfill: bool,
}

/// A block that the operator trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trusted {
    pub id: BlockId,
    /// No block above it stands on DA at or below this DA height: an empty store reads DA from there on, and takes the block for
    /// hard. Without it DA has to show the block.
    pub da: Option<u64>,
}

impl History {
    /// Whether what lies below the tail is fetched: not when it would be pruned again.
    #[must_use]
    pub fn backfills(&self) -> bool {
        self.backfill && !self.prunes()
    }

    /// Whether anything is ever pruned.
    #[must_use]
    pub fn prunes(&self) -> bool {
        self.retain_blocks.is_some() || self.max_bytes.is_some()
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest block that this node takes: at most what the chain allows.
    pub max_block_bytes: usize,
    /// Verified blocks above a gap, all together.
    pub pending_blocks: usize,
    /// Their bytes, and the most that the open requests may bring. At least one block of the largest size.
    pub pending_bytes: usize,
    /// Bytes of blocks that are stored but not durable yet: above it, nothing more is taken in.
    pub commit_bytes: usize,
    /// Range requests open at one peer, beside one for its head and three by hash. Go peers accept about 64 streams per peer and
    /// protocol.
    pub requests_per_peer: usize,
    /// Requests for blocks open at all peers together, but for the few that everything waits for.
    pub requests: usize,
    /// What one range answer should weigh: more blocks per request while blocks are small.
    pub range_bytes: usize,
    /// Proposals that wait for the one before them.
    pub publish_queue: usize,
    /// DA sightings that wait to be judged.
    pub sightings: usize,
    /// The bytes of the blocks and names among them. One always has room.
    pub sighting_bytes: usize,
    /// Heights of which evidence is remembered.
    pub evidence: usize,
    /// Blocks above soft that a node which may sign waits for; and the same number of those below that they stand on.
    pub awaited: usize,
    /// Blocks that were given up and are remembered on disk.
    pub disowned: usize,
    /// Named consumers, each of which is a record for ever.
    pub consumers: usize,
    /// What peers were asked for and did not give, by peer and height; and heights that were put off, since a peer says that they are
    /// heavy.
    pub exclusions: usize,
    /// Peers that are remembered after they left, for the bans that they earned.
    pub remembered_peers: usize,
}

impl Limits {
    /// What one range answer should weigh when all together may bring so many bytes. A long one gives a stream's window the time
    /// to grow, which is what a link of high bandwidth and delay needs; and a score at once, each of which may weigh a quarter
    /// more, keep the link busy while one of them is late.
    #[must_use]
    pub fn range_bytes_within(pending_bytes: usize) -> usize {
        (pending_bytes / 24).clamp(64 << 10, 4 << 20)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_block_bytes: 8 << 20,
            pending_blocks: 16_384,
            pending_bytes: 64 << 20,
            commit_bytes: 32 << 20,
            requests_per_peer: 44,
            requests: 512,
            range_bytes: Self::range_bytes_within(64 << 20),
            publish_queue: 64,
            sightings: 65_536,
            sighting_bytes: 32 << 20,
            evidence: 1_024,
            awaited: 32_768,
            disowned: 16_384,
            consumers: 256,
            exclusions: 4_096,
            remembered_peers: 256,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Each peer is asked for its head this often.
    pub head_interval: Duration,
    /// A request is given up after this long.
    pub request_timeout: Duration,
    /// A small gap at the head is left to gossip for this long before it is asked for.
    pub gossip_grace: Duration,
    /// When the request for the height above soft takes longer than this, another peer is asked too.
    pub hedge_after: Duration,
    /// First pause after a peer failed; doubles up to `backoff_max`.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// A target that nothing led nearer to for this long is dropped.
    pub target_patience: Duration,
    /// First ban; doubles up to `ban_max`.
    pub ban_min: Duration,
    pub ban_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            head_interval: Duration::from_secs(10),
            request_timeout: Duration::from_secs(8),
            gossip_grace: Duration::from_millis(100),
            hedge_after: Duration::from_secs(1),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_secs(30),
            target_patience: Duration::from_mins(1),
            ban_min: Duration::from_mins(1),
            ban_max: Duration::from_hours(24),
        }
    }
}
