//! Blocks that were given up: DA has another one, or an operator said so.
//!
//! Invariants:
//! 1. A block enters the list in the commit that takes it back or gives it up, and leaves it in the commit that stores it again;
//!    what was given up for a wrong name, together with a block below it that is stored again.
//! 2. Bounded by `limits.disowned`. Where there is no room, those go first about which DA has decided, then the highest: what
//!    stands on a block that is still listed is found by its parents.
//! 3. What was found to stand on such a block is remembered beside the list, for as long as there is room, and not on disk.

use std::collections::{BTreeMap, VecDeque};

use super::decision::Decision;
use super::descent::Below;
use super::{Change, Disowned, DisownedBy};
use crate::block::{BlockId, Hash, Height};

#[derive(Debug)]
pub(super) struct GivenUp {
    /// As it is on disk.
    listed: BTreeMap<BlockId, DisownedBy>,
    /// Found to stand on what is listed, or on what lost on DA; and what was listed in this life, with what it stands on.
    found: BTreeMap<BlockId, Found>,
    /// Those, oldest first.
    found_order: VecDeque<BlockId>,
    max: usize,
}

/// A block of which more is known than the list says.
#[derive(Clone, Copy, Debug)]
struct Found {
    by: DisownedBy,
    below: Below,
}

impl GivenUp {
    /// Goes on from what was on disk.
    pub fn new(disowned: Vec<Disowned>, max: usize) -> Self {
        let mut listed = BTreeMap::new();
        for Disowned { id, by } in disowned {
            listed.entry(id).and_modify(|known| *known = stronger(*known, by)).or_insert(by);
        }
        Self { listed, found: BTreeMap::new(), found_order: VecDeque::new(), max }
    }

    /// By whom the block was given up, if it was.
    pub fn by(&self, id: BlockId) -> Option<DisownedBy> {
        let known = [self.listed.get(&id).copied(), self.found.get(&id).map(|found| found.by)];
        known.into_iter().flatten().reduce(stronger)
    }

    /// What is known of the block below one that was given up.
    pub fn below(&self, id: BlockId) -> Below {
        self.found.get(&id).map_or(Below::Unknown, |found| found.below)
    }

    /// The blocks that are listed because of DA, lowest first.
    pub fn listed_by_da(&self) -> impl Iterator<Item = BlockId> {
        self.listed.iter().filter(|(_, by)| **by == DisownedBy::Da).map(|(id, _)| *id)
    }

    /// The blocks that are listed only since a name on DA is another one's.
    pub fn listed_for_names(&self) -> impl Iterator<Item = BlockId> {
        self.listed.iter().filter(|(_, by)| **by == DisownedBy::Name).map(|(id, _)| *id)
    }

    /// The listed blocks of this height.
    pub fn listed_at(&self, height: Height) -> impl Iterator<Item = BlockId> {
        let lowest = BlockId { height, hash: Hash([0; Hash::LEN]) };
        self.listed.range(lowest..).map(|(id, _)| *id).take_while(move |id| id.height == height)
    }

    /// `decided`: up to where DA has decided.
    pub fn disown(&mut self, id: BlockId, by: DisownedBy, decided: Option<Height>, decision: &mut Decision) {
        let known = self.listed.get(&id).copied();
        let by = known.map_or(by, |known| stronger(known, by));
        if known == Some(by) {
            return;
        }
        if known.is_none() && self.listed.len() >= self.max {
            let Some(evicted) = self.evicted_for(id, decided) else { return };
            self.listed.remove(&evicted);
            decision.change(Change::Own(evicted));
        }
        self.listed.insert(id, by);
        decision.change(Change::Disown(Disowned { id, by }));
    }

    /// The block is stored again: it, and what stands on it, may be. What is not known to be given up any more, since it may stand
    /// on this one.
    pub fn own(&mut self, id: BlockId, decision: &mut Decision) -> Vec<(BlockId, Below)> {
        let by = self.listed.remove(&id);
        if by.is_some() {
            decision.change(Change::Own(id));
        } else if !self.found.contains_key(&id) {
            return Vec::new();
        }
        let is_named = by == Some(DisownedBy::Name);
        let mut forgotten = if is_named { self.forget_named_above(id.height, decision) } else { BTreeMap::new() };
        self.found_order.clear();
        forgotten.extend(std::mem::take(&mut self.found).into_iter().map(|(id, found)| (id, found.below)));
        forgotten.into_iter().collect()
    }

    /// The name by which these were given up was wrong: it was that of the lowest one.
    fn forget_named_above(&mut self, height: Height, decision: &mut Decision) -> BTreeMap<BlockId, Below> {
        let named = self.listed.extract_if(.., |id, by| id.height > height && *by == DisownedBy::Name);
        let forget = |(id, _)| {
            decision.change(Change::Own(id));
            (id, Below::Unknown)
        };
        named.map(forget).collect()
    }

    /// The block was found to be given up, and stands on this one.
    pub fn find(&mut self, id: BlockId, by: DisownedBy, below: Below) {
        if self.max == 0 || self.found.insert(id, Found { by, below }).is_some() {
            return;
        }
        self.found_order.push_back(id);
        if self.found_order.len() > self.max
            && let Some(oldest) = self.found_order.pop_front()
        {
            self.found.remove(&oldest);
        }
    }

    /// Which one makes room for `id`; `None`: there is none for it.
    fn evicted_for(&self, id: BlockId, decided: Option<Height>) -> Option<BlockId> {
        let (lowest, _) = self.listed.first_key_value()?;
        if decided.is_some_and(|decided| lowest.height <= decided) {
            return Some(*lowest);
        }
        self.listed.last_key_value().map(|(highest, _)| *highest).filter(|highest| id < *highest)
    }
}

/// DA's word counts more than an operator's, and that one more than a name.
fn stronger(one: DisownedBy, other: DisownedBy) -> DisownedBy {
    match (one, other) {
        (DisownedBy::Da, _) | (_, DisownedBy::Da) => DisownedBy::Da,
        (DisownedBy::Operator, _) | (_, DisownedBy::Operator) => DisownedBy::Operator,
        (DisownedBy::Name, DisownedBy::Name) => DisownedBy::Name,
    }
}
