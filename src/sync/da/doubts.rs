//! Digests at heights that are hard, at positions before the one by which the height became so. As a rule there are none: they come
//! when DA is read again, after a wrong report, or after damage. A block there would have won, and stops everything until an
//! operator looks; but a digest does not tell whether there is one. So its bytes are asked for, as those of an open position are.
//!
//! Invariants:
//! 1. They are no sightings: nothing is judged by them, and nothing waits for them.
//! 2. Bounded by [`MAX_WANTED`], the lowest on DA; and in memory only: after a restart DA has to be read again for them.

use std::collections::BTreeMap;

use crate::sync::{DaPosition, MAX_WANTED, Wanted};

#[derive(Debug, Default)]
pub(super) struct Doubts(BTreeMap<DaPosition, Wanted>);

impl Doubts {
    pub fn add(&mut self, wanted: Wanted) {
        self.0.insert(wanted.position, wanted);
        if self.0.len() > MAX_WANTED {
            self.0.pop_last();
        }
    }

    pub fn has(&self, position: DaPosition) -> bool {
        self.0.contains_key(&position)
    }

    pub fn names(&self, wanted: &Wanted) -> bool {
        self.0.get(&wanted.position) == Some(wanted)
    }

    /// The bytes there were given.
    pub fn settle(&mut self, position: DaPosition) {
        self.0.remove(&position);
    }

    /// Everything from this position on is reported again.
    pub fn forget_from(&mut self, position: DaPosition) {
        self.0.split_off(&position);
    }

    /// As DA orders them.
    pub fn all(&self) -> impl Iterator<Item = Wanted> {
        self.0.values().copied()
    }
}
