//! Where a node begins, by what was on disk and what its operator says.
//!
//! Invariants:
//! 1. Where blocks are stored, or what they stood on is known, the beginning stays, and so does the floor of DA.
//! 2. An empty store begins with the block that the operator trusts, also where everything that it had was lost. Only there the
//!    floor changes.
//! 3. What was seen of DA counts only for the beginning under which it was seen, or for a higher one; but for a signature, which is
//!    waited for under any.

use super::da::DaRecords;
use super::{Anchor, Change, DataLoss, Floor, Heads, History, Recovered, Trusted};
use crate::block::Height;
use crate::verify::Rules;

/// A beginning.
#[derive(Debug)]
pub(super) struct Beginning {
    pub heads: Heads,
    /// What is known of DA.
    pub da: DaRecords,
    /// What is to be written of it.
    pub changes: Vec<Change>,
}

impl Beginning {
    /// Goes on from what was on disk, or begins anew; takes what was known of DA out of it.
    pub fn of(at: &mut Recovered, history: History, rules: &Rules) -> Self {
        let stored = at.heads;
        let heads = first_heads(stored, at.anchor, history, rules);
        let found = DaRecords {
            sightings: std::mem::take(&mut at.sightings),
            refused: std::mem::take(&mut at.refused_sightings),
            notes: std::mem::take(&mut at.da_notes),
            gone: Vec::new(),
        };
        let mut changes = Vec::new();
        if (heads.tail, heads.base, heads.floor) != (stored.tail, stored.base, stored.floor) {
            changes.push(Change::Begin { tail: heads.tail, floor: heads.floor });
        }
        let da = if heads.floor == stored.floor && heads.tail >= stored.tail {
            found
        } else {
            // What was signed stays signed.
            let (left, forgotten) = found.under_another_beginning();
            changes.extend(forgotten);
            left
        };
        Self { heads, da, changes }
    }
}

fn first_heads(stored: Heads, anchor: Option<Anchor>, history: History, rules: &Rules) -> Heads {
    let is_lost = stored.lost.is_some() || anchor.is_some();
    let goes_on = stored.soft.is_some() || (stored.base.is_some() && !is_lost);
    // What was lost is fetched again from the former tail on, where it is known what that links to. Nothing else leads there.
    let may_begin_lower = !is_lost || stored.base.is_none();
    let mut heads = match history.trusted {
        _ if goes_on => stored,
        Some(trusted) if may_begin_lower || trusted.id.height >= stored.tail => begin_with(trusted, stored),
        None if may_begin_lower => begin_at_the_start(stored, rules),
        _ => stored,
    };
    heads.scanned_through = heads.scanned_through.max(heads.da_floor());
    heads
}

fn begin_with(trusted: Trusted, stored: Heads) -> Heads {
    let tail = trusted.id.height;
    let floor = trusted.da.map(|da| Floor { id: trusted.id, da });
    let scanned_through = scanned_for(tail, floor, stored);
    Heads { tail, base: None, floor, scanned_through, lost: lost_from(tail, stored), ..stored }
}

fn begin_at_the_start(stored: Heads, rules: &Rules) -> Heads {
    let tail = rules.initial_height;
    let scanned_through = scanned_for(tail, None, stored);
    Heads { tail, floor: None, scanned_through, lost: lost_from(tail, stored), ..stored }
}

/// What is missing where an empty store begins.
fn lost_from(tail: Height, stored: Heads) -> Option<DataLoss> {
    stored.lost.filter(|lost| lost.to >= tail).map(|lost| DataLoss { from: tail, to: lost.to })
}

/// How far DA is known for another beginning: what it had below the former one was not kept.
fn scanned_for(tail: Height, floor: Option<Floor>, stored: Heads) -> u64 {
    if tail < stored.tail || floor != stored.floor { 0 } else { stored.scanned_through }
}
