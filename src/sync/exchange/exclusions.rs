//! Who was asked for what and did not give it: it is asked of somebody else first.
//!
//! This orders, and blames nobody. A range is named by the first height of it that did not come, which is where the next
//! request for the rest begins.
//!
//! Invariants:
//! 1. Nobody is kept out for good: when only those are left who have failed, a new round begins.
//! 2. Bounded: so many heights and peers together, the farthest of which go first.

use std::collections::BTreeSet;

use crate::block::Height;
use crate::sync::PeerId;

#[derive(Debug)]
pub(super) struct Exclusions {
    ranges: BTreeSet<(Height, PeerId)>,
    max_ranges: usize,
}

impl Exclusions {
    pub fn new(max_ranges: usize) -> Self {
        Self { ranges: BTreeSet::new(), max_ranges }
    }

    /// The peer was asked for a range, and what it gave ends before this height.
    pub fn add(&mut self, from: Height, peer: PeerId) {
        self.ranges.insert((from, peer));
        if self.ranges.len() > self.max_ranges {
            self.ranges.pop_last();
        }
    }

    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    pub fn has(&self, from: Height, peer: &PeerId) -> bool {
        self.ranges.contains(&(from, peer.clone()))
    }

    /// Everybody who is left has failed: a new round.
    pub fn forget(&mut self, from: Height) {
        self.ranges.retain(|(height, _)| *height != from);
    }

    /// Everything below is here.
    pub fn forget_below(&mut self, next: Height) {
        while self.ranges.first().is_some_and(|(height, _)| *height < next) {
            self.ranges.pop_first();
        }
    }

    /// Nothing is missing any more.
    pub fn forget_ranges(&mut self) {
        self.ranges.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_the_farthest_goes_first() {
        let height = |height| Height::new(height).expect("not 0");
        let peer = |name| PeerId::new(&[name]);
        let mut exclusions = Exclusions::new(2);
        for (from, name) in [(5, 1), (9, 1), (5, 2), (7, 3)] {
            exclusions.add(height(from), peer(name));
        }
        let kept = [(5, 1), (5, 2), (7, 3), (9, 1)].map(|(from, name)| exclusions.has(height(from), &peer(name)));
        assert_eq!(kept, [true, true, false, false]);
        exclusions.forget_below(height(5));
        assert!(exclusions.has(height(5), &peer(1)));
        exclusions.forget_below(height(6));
        assert!(!exclusions.has(height(5), &peer(1)));
    }
}
