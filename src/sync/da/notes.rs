//! What is remembered of DA beside the sightings: from where on it is read again, and when.
//!
//! Invariants:
//! 1. What there was no room for is at or above `left_out.height`, and at or above `left_out.position`.
//! 2. What was passed over above hard is in `passed_over` with its height and key, or within `passed_over_above`.
//! 3. At most [`MAX_PASSED_OVER`] are told apart; of more the highest heights are merged into one.
//! 4. What was shown and could not be remembered is within `unremembered`, until hard has passed it or DA has been read again from
//!    before its first position to behind its last.

use crate::block::{Hash, Height};
use crate::sync::{DaNotes, DaPosition, LeftOut, PassedOver, PassedOverRest, Unremembered};
use crate::verify::Schedule;

/// Of each height and key the lowest position counts: enough for a rotation, and for some who only pretend one.
const MAX_PASSED_OVER: usize = 64;
/// What was passed over farther above hard than this keeps no checkpoint back, or anybody could with a single post, signed by a
/// key of his own. Nothing is lost by it: to be the winner at its height, a block names the hash of the one below. So it would have
/// been signed by a proposer of the future, on a chain that was that far ahead of what DA had; and what the *scheduled* keys signed,
/// however far above, is a sighting or left out, and keeps the checkpoint back.
const NEAR: u64 = 1 << 16;

impl DaNotes {
    /// Whether this is left out, now that there was no room for others.
    pub(super) fn leaves_out(&self, height: Height, position: DaPosition) -> bool {
        self.left_out.is_some_and(|out| height > out.height || (height == out.height && position >= out.position))
    }

    /// There is no room for this.
    pub(super) fn leave_out(&mut self, height: Height, position: DaPosition) {
        let out = self.left_out.unwrap_or(LeftOut { height, position });
        self.left_out = Some(LeftOut { height: out.height.min(height), position: out.position.min(position) });
    }

    /// Where DA is to be read again, now that this height is judged next.
    pub(super) fn take_left_out(&mut self, next: Height) -> Option<DaPosition> {
        self.left_out.take_if(|out| out.height <= next).map(|out| out.position)
    }

    /// A block was seen whose proposer this schedule does not name.
    pub(super) fn pass_over(&mut self, new: PassedOver, schedule: &Schedule) {
        match self.passed_over.binary_search_by_key(&(new.height, new.proposer), |old| (old.height, old.proposer)) {
            Ok(index) => {
                let known = &mut self.passed_over[index].position;
                *known = new.position.min(*known);
            }
            Err(index) => self.passed_over.insert(index, new),
        }
        while self.passed_over.len() > MAX_PASSED_OVER
            && let Some(highest) = self.passed_over.pop()
        {
            self.merge(highest, schedule.hash());
        }
    }

    fn merge(&mut self, PassedOver { height, position, .. }: PassedOver, under: Hash) {
        let rest = self.passed_over_above.unwrap_or(PassedOverRest { from: height, through: height, position, under });
        self.passed_over_above = Some(PassedOverRest {
            from: rest.from.min(height),
            through: rest.through.max(height),
            position: rest.position.min(position),
            under,
        });
    }

    /// The lowest position of what this schedule takes and that was passed over; it is forgotten, since it is reported again.
    pub(super) fn take_scheduled(&mut self, schedule: &Schedule) -> Option<DaPosition> {
        let is_named = |passed: &PassedOver| schedule.proposer_at(passed.height) == Some(passed.proposer);
        let named = self.passed_over.iter().filter(|passed| is_named(passed)).map(|passed| passed.position);
        // Whose those are nobody knows any more.
        let rest = self.passed_over_above.take_if(|rest| rest.under != schedule.hash()).map(|rest| rest.position);
        let lowest = named.chain(rest).min();
        self.passed_over.retain(|passed| !is_named(passed));
        lowest
    }

    /// There is no room to remember that this block was shown.
    pub(super) fn not_remember(&mut self, height: Height, position: DaPosition) {
        let more = self.unremembered.unwrap_or(Unremembered { height, from: position, through: position });
        self.unremembered = Some(Unremembered {
            height: more.height.max(height),
            from: more.from.min(position),
            through: more.through.max(position),
        });
    }

    /// From where on DA is to be read again for what was not remembered, unless it is already.
    pub(super) fn take_unremembered(&mut self) -> Option<DaPosition> {
        let more = self.unremembered.as_mut().filter(|more| more.from <= more.through)?;
        Some(std::mem::replace(&mut more.from, more.through.next()))
    }

    /// Everything before this position has been told.
    pub(super) fn told_before(&mut self, known_before: DaPosition) {
        self.unremembered.take_if(|more| more.from > more.through && known_before > more.through);
    }

    /// Nothing at or below this height matters any more.
    pub(super) fn forget_through(&mut self, height: Height) {
        self.unremembered.take_if(|more| more.height <= height);
        self.passed_over.retain(|passed| passed.height > height);
        self.passed_over_above.take_if(|rest| rest.through <= height);
    }

    /// Everything from this position on is reported again.
    pub(super) fn forget_from(&mut self, position: DaPosition) {
        self.left_out.take_if(|out| out.position >= position);
        self.again_from.take_if(|again| *again >= position);
        if self.unremembered.is_some_and(|more| more.from >= position) {
            self.take_unremembered();
        }
        self.passed_over.retain(|passed| passed.position < position);
        self.passed_over_above.take_if(|rest| rest.position >= position);
    }

    /// The lowest position of what was seen above hard and is not among the sightings, as far as it may be of this chain.
    pub(super) fn lowest(&self, hard: Height) -> Option<DaPosition> {
        let near = hard.plus(NEAR);
        let passed = self.passed_over.iter().filter(|passed| passed.height <= near).map(|passed| passed.position);
        let rest = self.passed_over_above.filter(|rest| rest.from <= near).map(|rest| rest.position);
        passed.chain(rest).chain(self.left_out.map(|out| out.position)).min()
    }
}
