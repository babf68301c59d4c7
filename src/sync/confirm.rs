//! What DA says: sightings, kept until they can be judged, and the judgement itself.
//!
//! **DA decides by position, not by arrival.** The winner at height h is the valid block at the lowest DA position *whose
//! parent is the winner at h - 1*. Only hard + 1 is ever judged, and only from what is scanned, so that every node that
//! scanned the same DA prefix has the same hard head.
//!
//! Invariants:
//! 1. Every sighting above hard that was reported is in the store, or the cursor is below its DA height: a crash or a full
//!    buffer loses none.
//! 2. A sighting is judged only when everything before it on DA has been reported and kept.
//! 3. An id that proves nothing (`HostId`, `PayloadHash`) can confirm the stored block or stop, but never replace it.

use std::collections::{BTreeMap, BTreeSet};

use super::{DaPosition, Seen, Sighting};
use crate::block::{BlockId, Hash, Header, Height};
use crate::verify::AuthenticBlock;

/// The sightings above hard.
#[derive(Debug)]
pub(super) struct Sightings {
    by_position: BTreeMap<DaPosition, Sighting>,
    by_height: BTreeSet<(Height, DaPosition)>,
    bytes: usize,
    max_count: usize,
    max_bytes: usize,
}

/// What a sighting, put into place, changes in the store.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// It is new, or better than what was known of its position.
    Kept,
    /// Nothing new.
    Known,
    /// What was known of its position is wrong.
    Removed,
}

impl Sightings {
    pub fn new(sightings: Vec<Sighting>, max_count: usize, max_bytes: usize) -> Self {
        let mut all = Self { by_position: BTreeMap::new(), by_height: BTreeSet::new(), bytes: 0, max_count, max_bytes };
        for sighting in sightings {
            all.place(sighting);
        }
        all
    }

    pub fn len(&self) -> usize {
        self.by_position.len()
    }

    /// Puts a sighting into place. Of one position the first report counts, except that the block itself is better than its
    /// hash, and that junk is nothing.
    pub fn place(&mut self, sighting: Sighting) -> Placed {
        let known = self.by_position.get(&sighting.position);
        match (known.map(|known| &known.what), &sighting.what) {
            (Some(_), Seen::Junk) => {
                self.remove(sighting.position);
                return Placed::Removed;
            }
            (Some(Seen::Hash(hash)), Seen::Block(block)) if *hash == block.hash() => {
                self.remove(sighting.position);
            }
            (Some(_), _) | (None, Seen::Junk) => return Placed::Known,
            (None, _) => {}
        }
        self.bytes += size(&sighting.what);
        self.by_height.insert((sighting.height, sighting.position));
        self.by_position.insert(sighting.position, sighting);
        Placed::Kept
    }

    /// Takes out what there is no room for, farthest on DA first.
    pub fn shed(&mut self) -> Option<Sighting> {
        if self.by_position.len() <= self.max_count && self.bytes <= self.max_bytes {
            return None;
        }
        let position = *self.by_position.last_key_value()?.0;
        self.remove(position)
    }

    pub fn remove(&mut self, position: DaPosition) -> Option<Sighting> {
        let sighting = self.by_position.remove(&position)?;
        self.by_height.remove(&(sighting.height, position));
        self.bytes -= size(&sighting.what);
        Some(sighting)
    }

    /// Everything at or below `height`: judged by now.
    pub fn take_through(&mut self, height: Height) -> Vec<Sighting> {
        let last = DaPosition { height: u64::MAX, index: u32::MAX };
        let positions: Vec<_> = self.by_height.range(..=(height, last)).map(|(_, position)| *position).collect();
        positions.into_iter().filter_map(|position| self.remove(position)).collect()
    }

    /// The sightings at `height`, as DA orders them.
    pub fn at(&self, height: Height) -> impl Iterator<Item = &Sighting> {
        let first = DaPosition { height: 0, index: 0 };
        let last = DaPosition { height: u64::MAX, index: u32::MAX };
        self.by_height
            .range((height, first)..=(height, last))
            .filter_map(|(_, position)| self.by_position.get(position))
    }

    /// Positions at which the block with this hash was seen by its hash alone.
    pub fn by_hash(&self, id: BlockId) -> Vec<DaPosition> {
        self.at(id.height).filter(|seen| seen.what == Seen::Hash(id.hash)).map(|seen| seen.position).collect()
    }
}

fn size(what: &Seen) -> usize {
    match what {
        Seen::Block(block) => block.size(),
        Seen::Hash(_) | Seen::HostId(_) | Seen::PayloadHash(_) | Seen::Junk => 0,
    }
}

/// What there is to say about the height above hard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Nothing scanned decides it yet.
    Open,
    /// The stored block is the winner.
    Confirmed(DaPosition),
    /// This block is the winner, and it is not what is stored (or nothing is).
    Winner(AuthenticBlock, DaPosition),
    /// DA names this block, and nobody has given it to us.
    Wanted(BlockId),
    /// An id that proves nothing names something else than the stored block.
    Contradicted(DaPosition),
}

/// Judges one height, from what lies before `known_before` on DA. `seen` are its sightings, as DA orders them, `parent` is
/// the winner below it (`None` at the first height), `ours` the hash of what is stored there, and `header` looks up its
/// header, which only the ids that prove nothing need.
pub(super) fn judge(
    seen: &[&Sighting],
    known_before: DaPosition,
    parent: Option<Hash>,
    ours: Option<Hash>,
    header: impl Fn() -> Option<Header>,
) -> Judgement {
    let weak = |position, matches: &dyn Fn(&Header) -> bool| match header() {
        Some(header) if matches(&header) => Judgement::Confirmed(position),
        Some(_) => Judgement::Contradicted(position),
        None => Judgement::Open,
    };
    // A block that is on DA twice may have been given to us at one position, and named at the other.
    let given = |hash: Hash| {
        seen.iter().find_map(|seen| match &seen.what {
            Seen::Block(block) if block.hash() == hash => Some(block),
            _ => None,
        })
    };
    // `None`: valid, but on a branch that lost below.
    let of_block = |block: &AuthenticBlock, position| {
        (block.parent_hash() == parent).then(|| Judgement::Winner(block.clone(), position))
    };
    for Sighting { position, height, what } in seen {
        if *position >= known_before {
            break;
        }
        let judgement = match what {
            // What is stored at hard + 1 links to hard, which is the winner below.
            Seen::Hash(hash) if Some(*hash) == ours => Some(Judgement::Confirmed(*position)),
            Seen::Hash(hash) => match given(*hash) {
                Some(block) => of_block(block, *position),
                None => Some(Judgement::Wanted(BlockId { height: *height, hash: *hash })),
            },
            Seen::Block(block) if Some(block.hash()) == ours => Some(Judgement::Confirmed(*position)),
            Seen::Block(block) => of_block(block, *position),
            Seen::Junk => None,
            Seen::HostId(id) => Some(weak(*position, &|header| header.host_id == *id)),
            Seen::PayloadHash(hash) => Some(weak(*position, &|header| header.payload_hash == *hash)),
        };
        if let Some(judgement) = judgement {
            return judgement;
        }
    }
    Judgement::Open
}
