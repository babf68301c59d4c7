//! The judgement of one height: what DA says about it, from what has been seen so far.
//!
//! **DA decides by position, not by arrival.** The winner at height h is the valid block at the lowest DA position *whose
//! parent is the winner at h - 1*. Only hard + 1 is ever judged, and only from what is scanned, so that every node that
//! scanned the same DA prefix has the same hard head.
//!
//! Invariants:
//! 1. A sighting is judged only when everything before it on DA has been reported and kept.
//! 2. An id that proves nothing (`HostId`, `PayloadHash`) can confirm the stored block or stop, but never replace it.

use crate::block::{BlockId, Hash, Header};
use crate::sync::{DaPosition, Seen, Sighting};
use crate::verify::AuthenticBlock;

/// What there is to say about the height above hard.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sync) enum Judgement {
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
    use crate::block::{ChainId, Format, Height, Lane, PublicKey, native};
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
