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
use crate::verify::{AuthenticBlock, ScheduleEntry};

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
pub(super) struct Placed {
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
    pub fn place(&mut self, mut sighting: Sighting) -> Placed {
        let position = sighting.position;
        if sighting.what == Seen::Junk {
            return Placed { drop: self.remove(position).map(|known| known.position), keep: None };
        }
        if let Some(known) = self.by_position.get(&position) {
            return match (&known.what, &sighting.what) {
                (Seen::Hash(hash), Seen::Block(block)) if *hash == block.hash() => self.keep(sighting, None),
                _ => Placed::default(),
            };
        }
        let hash = sighting.what.hash();
        let copy = self.at(sighting.height).find(|known| hash.is_some() && known.what.hash() == hash).cloned();
        match copy {
            None => self.keep(sighting, None),
            Some(copy) if copy.position < position => match (&copy.what, &sighting.what) {
                (Seen::Hash(_), Seen::Block(_)) => self.keep(Sighting { position: copy.position, ..sighting }, None),
                _ => Placed::default(),
            },
            Some(copy) => {
                if let Seen::Block(_) = copy.what {
                    sighting.what = copy.what;
                }
                self.keep(sighting, Some(copy.position))
            }
        }
    }

    fn keep(&mut self, sighting: Sighting, instead_of: Option<DaPosition>) -> Placed {
        self.remove(sighting.position);
        let drop = instead_of.and_then(|position| self.remove(position)).map(|known| known.position);
        self.bytes += size(&sighting.what);
        self.by_height.insert((sighting.height, sighting.position));
        self.by_position.insert(sighting.position, sighting.clone());
        Placed { drop, keep: Some(sighting) }
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
    pub fn not_by(&self, entry: ScheduleEntry) -> Vec<DaPosition> {
        let foreign = |sighting: &&Sighting| match &sighting.what {
            Seen::Block(block) => sighting.height >= entry.from && block.block().header().proposer != entry.proposer,
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::block::{ChainId, Format, Lane, PublicKey, native};
    use crate::verify::{Rules, Schedule, ScheduleEntry};

    fn block(height: u64, parent: Hash, payload: &'static [u8]) -> AuthenticBlock {
        let key = SigningKey::from_bytes(&[1; 32]);
        let proposer = PublicKey(key.verifying_key().to_bytes());
        let chain_id = ChainId::new("test").expect("valid");
        let rules = Rules {
            format: Format::Native,
            chain_id: chain_id.clone(),
            initial_height: Height::MIN,
            max_block_bytes: 1024,
            max_clock_drift: std::time::Duration::from_secs(10),
            schedule: Schedule::new(Height::MIN, &[ScheduleEntry { from: Height::MIN, proposer }]).expect("sound"),
        };
        let header = native::encode_header(&Header {
            chain_id,
            height: Height::new(height).expect("not 0"),
            time_unix_nanos: 0,
            parent_hash: Some(parent),
            payload_hash: Hash::of(payload),
            proposer,
            host_id: Bytes::new(),
        });
        let signature = key.sign(&native::signing_message(&header)).to_bytes();
        rules.check(Lane::BLOCK, &native::encode(&header, &signature, &payload.into())).expect("sound")
    }

    fn seen(da_height: u64, index: u32, height: u64, what: Seen) -> Sighting {
        let height = Height::new(height).expect("not 0");
        Sighting { position: DaPosition { height: da_height, index }, height, what }
    }

    /// Judges height 8 above the winner at 7, with everything through DA height 9 known.
    fn judge_all(sightings: &[Sighting], parent: Hash, ours: Option<Hash>) -> Judgement {
        let seen: Vec<_> = sightings.iter().collect();
        judge(&seen, DaPosition::after_height(9), Some(parent), ours, || None)
    }

    #[test]
    fn a_block_named_at_one_position_and_given_at_another_is_not_wanted() {
        let parent = Hash::of(b"winner at 7");
        let winner = block(8, parent, b"a");
        let loser = block(8, Hash::of(b"another 7"), b"b");
        let (named, given) = (Seen::Hash(loser.hash()), Seen::Block(loser.clone()));
        for (first, second) in [(named.clone(), given.clone()), (given, named)] {
            let both = [seen(1, 0, 8, first), seen(2, 0, 8, second), seen(3, 0, 8, Seen::Block(winner.clone()))];
            let position = both[2].position;
            assert_eq!(judge_all(&both[..2], parent, None), Judgement::Open);
            assert_eq!(judge_all(&both, parent, None), Judgement::Winner(winner.clone(), position));
            assert_eq!(judge_all(&both, parent, Some(winner.hash())), Judgement::Confirmed(position));
        }
        // The winner itself, named first: its position there is the one that counts.
        let both = [seen(1, 4, 8, Seen::Hash(winner.hash())), seen(2, 0, 8, Seen::Block(winner.clone()))];
        assert_eq!(judge_all(&both, parent, None), Judgement::Winner(winner.clone(), both[0].position));
        assert_eq!(judge_all(&both[..1], parent, None), Judgement::Wanted(winner.id()));
    }

    #[test]
    fn nothing_beyond_what_is_known_decides() {
        let parent = Hash::of(b"winner at 7");
        let winner = block(8, parent, b"a");
        let late = [seen(10, 0, 8, Seen::Block(winner.clone()))];
        assert_eq!(judge_all(&late, parent, Some(winner.hash())), Judgement::Open);
    }
}
