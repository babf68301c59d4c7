//! The sightings above hard: what was seen of this chain on DA, and is not judged yet.
//!
//! Invariants:
//! 1. What stands at a position is what was reported of that position: no bytes move to another one.
//! 2. A copy is left out only where the same bytes, or verified bytes of the same block, stand at a lower position; and what
//!    brings bytes that are only named below is none.
//! 3. Of a chain whose DA is told by names there is one name per height: that of the lowest position.
//! 4. Bounded in count and in bytes by what [`Sightings::shed`] takes out; the highest heights go first.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::{BlockId, Hash, Height};
use crate::sync::{DaPosition, Name, OversizedBlock, ProvedBlock, Seen, SeenBlock, Sighting};
use crate::verify::Schedule;

const FIRST: DaPosition = DaPosition { height: 0, index: 0 };
const LAST: DaPosition = DaPosition { height: u64::MAX, index: u32::MAX };

/// The sightings above hard.
#[derive(Debug)]
pub(super) struct Sightings {
    by_position: BTreeMap<DaPosition, Sighting>,
    by_height: BTreeSet<(Height, DaPosition)>,
    /// By the SHA-256 of the bytes, whether those are here or not.
    by_digest: BTreeSet<(Height, Hash, DaPosition)>,
    /// By the hash of the block, of which bytes were verified.
    by_block: BTreeSet<(Height, Hash, DaPosition)>,
    oversized: BTreeSet<DaPosition>,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
}

/// What became of a sighting that was to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// It is kept, and these others are copies of it.
    Kept { copies: Vec<DaPosition> },
    /// It is a copy of what stands at a lower position.
    Copy,
}

impl Sightings {
    pub fn new(max_count: usize, max_bytes: usize) -> Self {
        Self {
            by_position: BTreeMap::new(),
            by_height: BTreeSet::new(),
            by_digest: BTreeSet::new(),
            by_block: BTreeSet::new(),
            oversized: BTreeSet::new(),
            bytes: 0,
            max_count,
            max_bytes,
        }
    }

    pub fn len(&self) -> usize {
        self.by_position.len()
    }

    pub fn get(&self, position: DaPosition) -> Option<&Sighting> {
        self.by_position.get(&position)
    }

    /// As DA orders them.
    pub fn all(&self) -> impl Iterator<Item = &Sighting> {
        self.by_position.values()
    }

    /// The sightings at `height`, as DA orders them.
    pub fn at(&self, height: Height) -> impl Iterator<Item = &Sighting> {
        self.by_height
            .range((height, FIRST)..=(height, LAST))
            .filter_map(|(_, position)| self.by_position.get(position))
    }

    /// The blocks above `height`.
    pub fn blocks_above(&self, height: Option<Height>) -> impl Iterator<Item = ProvedBlock> {
        let first = (height.map_or(Height::MIN, Height::next), FIRST);
        let above = self.by_height.range(first..).filter_map(|(_, position)| self.by_position.get(position));
        above.filter_map(|seen| seen.what.proved())
    }

    /// Whether the bytes of this block were seen anywhere.
    pub fn has_block(&self, id: BlockId) -> bool {
        positions(&self.by_block, id.height, id.hash).next().is_some()
    }

    /// The block at this height whose bytes have this digest, and were given at some position.
    pub fn with_digest(&self, height: Height, digest: Hash) -> Option<&Seen> {
        let given = |position| Some(&self.by_position.get(&position)?.what).filter(|seen| seen.block_hash().is_some());
        positions(&self.by_digest, height, digest).find_map(given)
    }

    /// The blocks that are larger than this node takes, or than it took when they were seen; as DA orders them.
    pub fn oversized(&self) -> impl Iterator<Item = (&Sighting, &OversizedBlock)> {
        self.oversized.iter().filter_map(|position| match self.by_position.get(position)? {
            sighting @ Sighting { what: Seen::Oversized(block), .. } => Some((sighting, &**block)),
            _ => None,
        })
    }

    /// Puts a sighting into its place, where nothing stands.
    pub fn place(&mut self, sighting: Sighting) -> Placement {
        if self.is_copy(&sighting) {
            return Placement::Copy;
        }
        let copies = self.copies_above(&sighting);
        for copy in &copies {
            self.remove(*copy);
        }
        self.insert(sighting);
        Placement::Kept { copies }
    }

    /// Whether what stands at a lower position says as much.
    fn is_copy(&self, sighting: &Sighting) -> bool {
        let Sighting { position, height, what } = sighting;
        let below =
            |of: &BTreeSet<_>, hash| positions(of, *height, hash).next().is_some_and(|lowest| lowest < *position);
        match what {
            Seen::Block(_) | Seen::Oversized(_) => what.block_hash().is_some_and(|hash| below(&self.by_block, hash)),
            Seen::Digest(digest) => below(&self.by_digest, *digest),
            Seen::Named(_) => self.at(*height).next().is_some_and(|lowest| lowest.position < *position),
        }
    }

    /// What stands at a higher position and says no more.
    fn copies_above(&self, sighting: &Sighting) -> Vec<DaPosition> {
        let Sighting { position, height, what } = sighting;
        let mut copies: BTreeSet<DaPosition> = match what {
            Seen::Named(_) => self.at(*height).map(|other| other.position).collect(),
            _ => BTreeSet::new(),
        };
        if let Some(hash) = what.block_hash() {
            copies.extend(positions(&self.by_block, *height, hash));
        }
        if let Some(digest) = what.digest() {
            let is_named = |copy: &DaPosition| {
                self.by_position.get(copy).is_some_and(|other| matches!(other.what, Seen::Digest(_)))
            };
            copies.extend(positions(&self.by_digest, *height, digest).filter(is_named));
        }
        copies.into_iter().filter(|copy| copy > position).collect()
    }

    fn insert(&mut self, sighting: Sighting) {
        let Sighting { position, height, ref what } = sighting;
        self.bytes += size(what);
        self.by_height.insert((height, position));
        self.by_digest.extend(what.digest().map(|digest| (height, digest, position)));
        self.by_block.extend(what.block_hash().map(|hash| (height, hash, position)));
        if let Seen::Oversized(_) = what {
            self.oversized.insert(position);
        }
        self.by_position.insert(position, sighting);
    }

    pub fn remove(&mut self, position: DaPosition) -> Option<Sighting> {
        let sighting = self.by_position.remove(&position)?;
        let Sighting { height, ref what, .. } = sighting;
        self.by_height.remove(&(height, position));
        self.oversized.remove(&position);
        if let Some(digest) = what.digest() {
            self.by_digest.remove(&(height, digest, position));
        }
        if let Some(hash) = what.block_hash() {
            self.by_block.remove(&(height, hash, position));
        }
        self.bytes -= size(what);
        Some(sighting)
    }

    /// Takes out what there is no room for: of the highest height what is farthest on DA. One always has room.
    pub fn shed(&mut self) -> Option<Sighting> {
        let has_room = self.by_position.len() <= self.max_count && self.bytes <= self.max_bytes;
        if has_room || self.by_position.len() <= 1 {
            return None;
        }
        let (_, position) = *self.by_height.last()?;
        self.remove(position)
    }

    /// The blocks whose proposers this schedule does not name.
    pub fn unscheduled(&self, schedule: &Schedule) -> Vec<DaPosition> {
        let is_foreign = |sighting: &&Sighting| match &sighting.what {
            Seen::Block(SeenBlock { block, .. }) => !schedule.names(block.block().header()),
            Seen::Oversized(block) => !schedule.names(&block.header),
            Seen::Digest(_) | Seen::Named(_) => false,
        };
        self.all().filter(is_foreign).map(|sighting| sighting.position).collect()
    }

    /// Everything at or below `height`.
    pub fn through(&self, height: Height) -> Vec<DaPosition> {
        self.by_height.range(..=(height, LAST)).map(|(_, position)| *position).collect()
    }

    /// Everything from this position on DA on.
    pub fn from(&self, position: DaPosition) -> Vec<DaPosition> {
        self.by_position.range(position..).map(|(position, _)| *position).collect()
    }
}

/// Where this digest, or block, was seen at this height; ascending.
fn positions(
    of: &BTreeSet<(Height, Hash, DaPosition)>,
    height: Height,
    hash: Hash,
) -> impl Iterator<Item = DaPosition> {
    of.range((height, hash, FIRST)..=(height, hash, LAST)).map(|(_, _, position)| *position)
}

fn size(what: &Seen) -> usize {
    match what {
        Seen::Block(SeenBlock { block, .. }) => block.size(),
        Seen::Named(Name::HostId(id)) => id.len(),
        Seen::Oversized(_) | Seen::Digest(_) | Seen::Named(Name::Block(_) | Name::Payload(_)) => 0,
    }
}

impl Seen {
    /// The SHA-256 of the bytes that were seen.
    pub(super) fn digest(&self) -> Option<Hash> {
        match self {
            Self::Block(block) => Some(block.digest),
            Self::Oversized(block) => Some(block.digest),
            Self::Digest(digest) => Some(*digest),
            Self::Named(_) => None,
        }
    }

    /// The hash of the block whose bytes were seen.
    fn block_hash(&self) -> Option<Hash> {
        match self {
            Self::Block(SeenBlock { block, .. }) => Some(block.hash()),
            Self::Oversized(block) => Some(block.hash),
            Self::Digest(_) | Self::Named(_) => None,
        }
    }
}
