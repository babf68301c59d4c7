//! Byzantine peers: how each behaves, and what it answers when it is asked. They know every block that the sequencer ever
//! signed, hold no state worth losing, and never crash.

use blocksyncd::block::{Hash, Height};
use blocksyncd::sync::{BlockQuery, MAX_RANGE};
use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;
use fastrand::Rng;

use super::chain::{self, Chain};
use super::network::{Answered, StreamEnd};

/// How a peer behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Never answers, never forwards.
    Silent,
    /// Does not speak our protocol.
    Foreign,
    /// Gives its head, and answers nothing else.
    HeadOnly,
    /// Says that the first block is heavier than everything that was allowed for.
    TooHeavy,
    /// Serves, and leaves, and comes back, again and again.
    Flaps,
    /// Answers with bytes that are no blocks.
    Garbage,
    /// Answers with sound blocks of other heights than asked for.
    WrongHeights,
    /// Leaves out a block in the middle.
    BrokenLink,
    /// Claims a head far above everything, which nobody signed.
    FalseHead,
    /// Gossips and serves padded copies, and copies with a junk signature, often before the sound ones arrive.
    Copies,
    /// Gossips old blocks again and again.
    Replays,
    /// Serves the chain as it was long ago.
    Stale,
    /// Says that its head is an old one, and serves everything.
    StaleHead,
    /// Answers every range with its first block only.
    ShortPrefix,
    /// Answers with a few blocks, just before it would be given up.
    Drips,
    /// Gossips blocks that nobody signed.
    Forges,
    /// The same, now and then.
    ForgesRarely,
    /// Not Byzantine: forwards whatever it gets without looking, as Go peers do.
    WeakRelay,
    /// Holds the sequencer's key, and signs a branch of its own.
    Twin,
}

impl Behaviour {
    /// Those who do not hold the key.
    pub const ALL: [Self; 18] = [
        Self::Silent,
        Self::Foreign,
        Self::HeadOnly,
        Self::TooHeavy,
        Self::Flaps,
        Self::Garbage,
        Self::WrongHeights,
        Self::BrokenLink,
        Self::FalseHead,
        Self::Copies,
        Self::Replays,
        Self::Stale,
        Self::StaleHead,
        Self::ShortPrefix,
        Self::Drips,
        Self::Forges,
        Self::ForgesRarely,
        Self::WeakRelay,
    ];

    pub fn draw(rng: &mut Rng) -> Self {
        [
            Self::Silent,
            Self::Garbage,
            Self::WrongHeights,
            Self::BrokenLink,
            Self::FalseHead,
            Self::Copies,
            Self::Replays,
            Self::Stale,
            Self::StaleHead,
            Self::ShortPrefix,
            Self::Drips,
            Self::Drips,
            Self::Forges,
            Self::ForgesRarely,
            Self::ForgesRarely,
            Self::WeakRelay,
            Self::WeakRelay,
        ][rng.usize(0..17)]
    }

    /// Whether it hands on what others gossip.
    pub fn forwards(self) -> bool {
        !matches!(self, Self::Silent | Self::Foreign)
    }

    /// Whether it may be banned for what it does of its own.
    pub fn deserves_bans(self) -> bool {
        !matches!(
            self,
            Self::Silent
                | Self::Foreign
                | Self::HeadOnly
                | Self::TooHeavy
                | Self::Flaps
                | Self::Stale
                | Self::StaleHead
                | Self::ShortPrefix
                | Self::Drips
                | Self::WeakRelay
                | Self::Twin
                | Self::Replays
        )
    }
}

/// What a peer of this behaviour answers to `ask`; `branch` is the chain that its answers are made of. `None`: it lets the stream hang.
pub fn answer(
    behaviour: Behaviour,
    query: BlockQuery,
    branch: &[AuthenticBlock],
    chain: &Chain,
    rng: &mut Rng,
) -> Option<Answered> {
    let head = branch.last();
    let honest = honest(query, branch);
    let end = StreamEnd::Complete;
    Some(match behaviour {
        Behaviour::Silent | Behaviour::Foreign => return None,
        Behaviour::HeadOnly if query != BlockQuery::Head => return None,
        Behaviour::TooHeavy if matches!(query, BlockQuery::Range { .. }) => {
            Answered { bodies: Vec::new(), end: StreamEnd::TooHeavy }
        }
        Behaviour::Garbage => {
            let junk = (0..rng.usize(1..4)).map(|_| (0..rng.usize(0..120)).map(|_| rng.u8(..)).collect()).collect();
            Answered { bodies: junk, end }
        }
        Behaviour::WrongHeights => match query {
            BlockQuery::Range { from, amount } => {
                let shifted = BlockQuery::Range { from: from.plus(rng.u64(1..4)), amount };
                Answered { bodies: bodies(&self::honest(shifted, branch)), end }
            }
            BlockQuery::Head => Answered { bodies: bodies(&honest), end },
            BlockQuery::Hash(_) => Answered { bodies: branch.first().map(body).into_iter().collect(), end },
        },
        Behaviour::BrokenLink => {
            let mut blocks = honest;
            if blocks.len() > 2 {
                blocks.remove(rng.usize(1..blocks.len() - 1));
            }
            Answered { bodies: bodies(&blocks), end }
        }
        Behaviour::FalseHead => {
            let height = Height::MIN.plus(rng.u64(1_000..=1 << 40));
            let forged = chain.forge(height, Hash::of(b"nothing"), &Bytes::from_static(b"far"));
            match query {
                BlockQuery::Head => Answered { bodies: vec![forged], end },
                BlockQuery::Range { .. } | BlockQuery::Hash(_) => Answered { bodies: bodies(&honest), end },
            }
        }
        Behaviour::Copies => Answered { bodies: honest.iter().map(|block| copy(block, rng)).collect(), end },
        Behaviour::Forges | Behaviour::ForgesRarely => {
            let from = match query {
                BlockQuery::Range { from, .. } => from,
                BlockQuery::Head | BlockQuery::Hash(_) => head.map_or(Height::MIN, AuthenticBlock::height),
            };
            Answered { bodies: vec![chain.forge(from, Hash::of(b"forged"), &Bytes::from_static(b"forged"))], end }
        }
        Behaviour::Stale => {
            let stale = &branch[..branch.len() / 4];
            Answered::of(self::honest(query, stale).iter().map(body).collect())
        }
        Behaviour::StaleHead => {
            let old = if query == BlockQuery::Head { &branch[..branch.len() / 2] } else { branch };
            Answered::of(self::honest(query, old).iter().map(body).collect())
        }
        Behaviour::Drips => Answered { bodies: bodies(&honest[..honest.len().min(rng.usize(1..=3))]), end },
        Behaviour::ShortPrefix => Answered::of(honest.first().map(body).into_iter().collect()),
        Behaviour::HeadOnly
        | Behaviour::TooHeavy
        | Behaviour::Flaps
        | Behaviour::Replays
        | Behaviour::WeakRelay
        | Behaviour::Twin => Answered::of(bodies(&honest)),
    })
}

/// A padded copy, or one with a junk signature.
pub fn copy(block: &AuthenticBlock, rng: &mut Rng) -> Bytes {
    if rng.bool() { chain::padded(block) } else { chain::resigned(block) }
}

fn body(block: &AuthenticBlock) -> Bytes {
    block.block().bytes().clone()
}

fn bodies(blocks: &[AuthenticBlock]) -> Vec<Bytes> {
    blocks.iter().map(body).collect()
}

/// The branch has each height once, ascending.
fn honest(query: BlockQuery, branch: &[AuthenticBlock]) -> Vec<AuthenticBlock> {
    match query {
        BlockQuery::Head => branch.last().cloned().into_iter().collect(),
        BlockQuery::Hash(hash) => branch.iter().find(|block| block.hash() == hash).cloned().into_iter().collect(),
        BlockQuery::Range { from, amount } => {
            let below = |end: Height| branch.partition_point(|block| block.height() < end);
            branch[below(from)..below(from.plus(amount.min(MAX_RANGE)))].to_vec()
        }
    }
}
