//! The sightings above hard: what was seen of this chain on DA, and is not judged yet.
//!
//! Invariants:
//! 1. Of one DA position the first report counts, of one block the lowest position.
//! 2. Bounded in count and in bytes by what [`Sightings::shed`] takes out; the farthest on DA goes first.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::{BlockId, Hash, Height};
use crate::sync::{DaPosition, Seen, Sighting};
use crate::verify::Schedule;

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
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::sync) struct PlacementChange {
    /// Forgotten: wrong, or known better by what is kept.
    pub drop: Option<DaPosition>,
    pub keep: Option<Sighting>,
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
    /// hash, and that junk is nothing. Of one block the lowest position counts: a copy of it, which anybody can post, never
    /// decides, and so takes no room.
    pub fn place(&mut self, mut sighting: Sighting) -> PlacementChange {
        let position = sighting.position;
        if sighting.what == Seen::Junk {
            return PlacementChange { drop: self.remove(position).map(|known| known.position), keep: None };
        }
        if let Some(known) = self.by_position.get(&position) {
            return match (&known.what, &sighting.what) {
                (Seen::Hash(hash), Seen::Block(block)) if *hash == block.hash() => self.keep(sighting, None),
                _ => PlacementChange::default(),
            };
        }
        let hash = sighting.what.hash();
        let copy = self.at(sighting.height).find(|known| hash.is_some() && known.what.hash() == hash).cloned();
        match copy {
            None => self.keep(sighting, None),
            Some(copy) if copy.position < position => match (&copy.what, &sighting.what) {
                (Seen::Hash(_), Seen::Block(_)) => self.keep(Sighting { position: copy.position, ..sighting }, None),
                _ => PlacementChange::default(),
            },
            Some(copy) => {
                if let Seen::Block(_) = copy.what {
                    sighting.what = copy.what;
                }
                self.keep(sighting, Some(copy.position))
            }
        }
    }

    fn keep(&mut self, sighting: Sighting, instead_of: Option<DaPosition>) -> PlacementChange {
        self.remove(sighting.position);
        let drop = instead_of.and_then(|position| self.remove(position)).map(|known| known.position);
        self.bytes += size(&sighting.what);
        self.by_height.insert((sighting.height, sighting.position));
        self.by_position.insert(sighting.position, sighting.clone());
        PlacementChange { drop, keep: Some(sighting) }
    }

    /// Takes out what there is no room for, farthest on DA first.
    pub fn shed(&mut self) -> Option<Sighting> {
        if self.by_position.len() <= self.max_count && self.bytes <= self.max_bytes {
            return None;
        }
        let position = *self.by_position.last_key_value()?.0;
        self.remove(position)
    }

    /// The blocks at and above an entry of the schedule that another key signed.
    pub fn not_by(&self, schedule: &Schedule) -> Vec<DaPosition> {
        let foreign = |sighting: &&Sighting| match &sighting.what {
            Seen::Block(block) => schedule.proposer_at(sighting.height) != Some(block.block().header().proposer),
            Seen::Hash(_) | Seen::HostId(_) | Seen::PayloadHash(_) | Seen::Junk => false,
        };
        self.by_position.values().filter(foreign).map(|sighting| sighting.position).collect()
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

impl Seen {
    /// The hash of the block that was seen, when it is known.
    fn hash(&self) -> Option<Hash> {
        match self {
            Self::Block(block) => Some(block.hash()),
            Self::Hash(hash) => Some(*hash),
            Self::HostId(_) | Self::PayloadHash(_) | Self::Junk => None,
        }
    }
}
