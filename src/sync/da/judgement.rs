//! The judgement of one height: what DA says about it, from what has been seen so far.
//!
//! **DA decides by position, not by arrival.** The winner at height h is the valid block at the lowest DA position *whose
//! parent is the winner at h - 1*. Only hard + 1 is ever judged, and only from what is scanned, so that every node that
//! scanned the same DA prefix has the same hard head.
//!
//! Invariants:
//! 1. A position is decided by the bytes that stand there, and by nothing else: given, or known by their digest to be those of a
//!    verified block. Where the bytes are not known the position is open, and nothing after it decides.
//! 2. A sighting is judged only when everything before it on DA has been reported and kept.
//! 3. A name, which proves nothing, can confirm the stored block or stop, but never replace it.

use crate::block::{BlockId, Hash, Header};
use crate::sync::{Basis, DaPosition, Name, OversizedBlock, Seen, Sighting, Wanted};
use crate::verify::AuthenticBlock;

/// What there is to say about the height above hard.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sync) enum Judgement {
    /// Nothing scanned decides it yet.
    Open,
    /// The stored block is the winner.
    Confirmed(DaPosition, Basis),
    /// This block is the winner, and it is not what is stored (or nothing is).
    Winner(AuthenticBlock, DaPosition),
    /// This one is, and it is larger than this node takes.
    TooLarge(Box<OversizedBlock>, DaPosition),
    /// Nobody has given the bytes there.
    Wanted(Wanted),
    /// Whether they are those of a stored block was not looked up yet.
    Unread,
    /// A block is named, and nothing is stored there.
    Named(Name, DaPosition),
    /// A name is that of something else than the stored block.
    Contradicted(DaPosition),
}

/// A judgement, and what can never be part of this chain whatever is seen yet.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sync) struct Judged {
    pub judgement: Judgement,
    pub losers: Vec<DaPosition>,
}

/// What a winner stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// The winner below, by its hash; nothing at the initial height.
    Known(Option<Hash>),
    /// Nobody knows: only this block may begin the chain.
    Unknown(Option<BlockId>),
}

/// Whose bytes have a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Those of the stored block.
    Ours,
    /// Those of this block, which was given at another position, or waits for others.
    Of(Seen),
    /// Nobody's that we have.
    Nobody,
    Unread,
}

/// What is known of the height in question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// Everything before this position on DA was reported.
    pub before: DaPosition,
    pub below: Below,
    /// The hash of what is stored there.
    pub ours: Option<Hash>,
    /// Its header, which only names need.
    pub header: Option<&'a Header>,
}

/// What one sighting means for the height.
enum Says {
    Lost,
    Judgement(Judgement),
}

/// Judges one height. `seen` are its sightings, as DA orders them; `meaning` says whose bytes have a digest.
pub(super) fn judge(seen: &[&Sighting], known: Known<'_>, mut meaning: impl FnMut(Hash) -> Meaning) -> Judged {
    let mut judged = Judged { judgement: Judgement::Open, losers: Vec::new() };
    for Sighting { position, height, what } in seen {
        let is_open = judged.judgement == Judgement::Open && *position < known.before;
        let says = match what {
            Seen::Digest(_) | Seen::Named(_) if !is_open => continue,
            Seen::Named(name) => known.of_name(name, *position),
            Seen::Digest(digest) => match meaning(*digest) {
                Meaning::Ours => Says::Judgement(Judgement::Confirmed(*position, Basis::Bytes)),
                Meaning::Of(block) => known.of_bytes(&block, *position),
                Meaning::Nobody => {
                    let wanted = Wanted { position: *position, height: *height, digest: *digest };
                    Says::Judgement(Judgement::Wanted(wanted))
                }
                Meaning::Unread => Says::Judgement(Judgement::Unread),
            },
            bytes => known.of_bytes(bytes, *position),
        };
        match says {
            Says::Lost => judged.losers.push(*position),
            Says::Judgement(judgement) if is_open => judged.judgement = judgement,
            Says::Judgement(_) => {}
        }
    }
    judged
}

impl Known<'_> {
    fn of_bytes(&self, seen: &Seen, position: DaPosition) -> Says {
        let (id, parent) = match seen {
            Seen::Block(seen) => (seen.block.id(), seen.block.parent_hash()),
            Seen::Oversized(seen) => (seen.id(), seen.header.parent_hash),
            Seen::Digest(_) | Seen::Named(_) => return Says::Lost,
        };
        // What is stored at hard + 1 links to hard, which is the winner below.
        if Some(id.hash) == self.ours {
            return Says::Judgement(Judgement::Confirmed(position, Basis::Bytes));
        }
        let fits = match self.below {
            Below::Known(below) => parent == below,
            Below::Unknown(first) => Some(id) == first,
        };
        match seen {
            _ if !fits => Says::Lost,
            Seen::Block(seen) => Says::Judgement(Judgement::Winner(seen.block.clone(), position)),
            Seen::Oversized(seen) => Says::Judgement(Judgement::TooLarge(seen.clone(), position)),
            Seen::Digest(_) | Seen::Named(_) => Says::Lost,
        }
    }

    fn of_name(&self, name: &Name, position: DaPosition) -> Says {
        Says::Judgement(match (self.ours, self.header) {
            (Some(hash), Some(header)) if name.is_of(hash, header) => Judgement::Confirmed(position, Basis::Named),
            (Some(_), Some(_)) => Judgement::Contradicted(position),
            _ => Judgement::Named(name.clone(), position),
        })
    }
}
