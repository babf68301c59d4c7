//! What a mock execution has executed: its own state, from which it resumes, and against which it judges what it is told.
//!
//! "Executing" a block is one step of a running SHA-256: `state(h) = SHA-256(state(h - 1) || payload(h))`, from 32 zero bytes
//! on. The state of each height is kept, so that a retraction can undo.
//!
//! Invariants:
//! 1. The kept blocks have consecutive heights, and `hard` is one of them.
//! 2. Nothing at or below `hard` is ever undone.
//! 3. At most [`KEPT_BELOW_HARD`] blocks are kept below `hard`. How many are above it is the sequencer's to bound.

use std::cmp::Reverse;
use std::collections::VecDeque;

use sha2::Digest as _;

use crate::block::{BlockId, Hash, Height};

/// How much of the confirmed past is remembered.
pub const KEPT_BELOW_HARD: u64 = 1024;

/// The most entries of a locator: one fewer than the API's limit, for the one that we are asked for.
const MAX_LOCATOR: usize = 63;

/// An executed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    pub id: BlockId,
    /// The state after it.
    pub state: Hash,
    pub time_unix_nanos: u64,
}

/// The executed chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    initial: Height,
    blocks: VecDeque<Executed>,
    hard: Option<Height>,
}

impl Ledger {
    pub fn new(initial: Height) -> Self {
        Self { initial, blocks: VecDeque::new(), hard: None }
    }

    pub fn top(&self) -> Option<&Executed> {
        self.blocks.back()
    }

    pub fn next_height(&self) -> Height {
        self.top().map_or(self.initial, |top| top.id.height.next())
    }

    /// The state after the newest block.
    pub fn state(&self) -> Hash {
        self.top().map_or(Hash([0; Hash::LEN]), |top| top.state)
    }

    /// `None` above the top, and for what is not kept any more.
    pub fn get(&self, height: Height) -> Option<&Executed> {
        let first = self.blocks.front()?.id.height;
        let index = height.get().checked_sub(first.get())?;
        self.blocks.get(usize::try_from(index).ok()?)
    }

    pub fn hard(&self) -> Option<BlockId> {
        self.get(self.hard?).map(|block| block.id)
    }

    /// Where to resume: our newest blocks, newest first, ever sparser, down to the hard one; and the one at `named`.
    pub fn locator(&self, named: Option<Height>) -> Vec<BlockId> {
        let mut locator = Vec::new();
        let mut step = 1;
        let mut next = self.blocks.len().checked_sub(1);
        while let Some(index) = next {
            let id = self.blocks[index].id;
            locator.push(id);
            if locator.len() == MAX_LOCATOR || self.hard.is_some_and(|hard| id.height <= hard) {
                break;
            }
            if locator.len() >= 10 {
                step *= 2;
            }
            // The oldest block is always in: below it there is nothing to go back to.
            next = if index == 0 { None } else { Some(index.saturating_sub(step)) };
        }
        if let Some(named) = named.and_then(|height| self.get(height)) {
            locator.push(named.id);
            locator.sort_by_key(|id| Reverse(id.height));
            locator.dedup();
        }
        locator
    }

    /// Kept blocks, ascending.
    pub fn blocks(&self) -> impl Iterator<Item = &Executed> {
        self.blocks.iter()
    }

    /// Executes the next block.
    pub fn execute(&mut self, id: BlockId, time_unix_nanos: u64, payload: &[u8]) -> Executed {
        let digest = sha2::Sha256::new().chain_update(self.state().0).chain_update(payload).finalize();
        let executed = Executed { id, state: Hash(digest.into()), time_unix_nanos };
        self.push(executed);
        executed
    }

    /// Puts back a block that was executed in an earlier life. The first one may have any height.
    pub fn push(&mut self, executed: Executed) {
        assert!(
            self.blocks.is_empty() || executed.id.height == self.next_height(),
            "block {:?} does not follow height {:?}",
            executed.id,
            self.top()
        );
        self.blocks.push_back(executed);
    }

    /// Whether [`Self::push`] would take it.
    pub fn fits(&self, executed: &Executed) -> bool {
        self.blocks.is_empty() || executed.id.height == self.next_height()
    }

    /// Confirms a kept block, and forgets what is too far below it.
    pub fn confirm(&mut self, height: Height) {
        assert!(self.get(height).is_some() && self.hard <= Some(height), "block {height} cannot become hard");
        self.hard = Some(height);
        while self.blocks.front().is_some_and(|first| height.above(first.id.height) > KEPT_BELOW_HARD) {
            self.blocks.pop_front();
        }
    }

    /// Undoes everything above `to`; 0 undoes all.
    pub fn retract(&mut self, to: u64) {
        assert!(self.hard.is_none_or(|hard| to >= hard.get()), "a retraction to {to} is below hard");
        while self.top().is_some_and(|top| top.id.height.get() > to) {
            self.blocks.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn height(n: u64) -> Height {
        Height::new(n).unwrap()
    }

    fn id(n: u64) -> BlockId {
        BlockId { height: height(n), hash: Hash::of(&n.to_be_bytes()) }
    }

    fn ledger(blocks: u64) -> Ledger {
        let mut ledger = Ledger::new(Height::MIN);
        for n in 1..=blocks {
            ledger.execute(id(n), n, &n.to_be_bytes());
        }
        ledger
    }

    #[test]
    fn a_retraction_undoes_the_execution() {
        let five = ledger(5);
        let mut seven = ledger(7);
        assert_ne!(seven.state(), five.state());
        seven.retract(5);
        assert_eq!(seven, five);
        seven.retract(0);
        assert_eq!(seven, Ledger::new(Height::MIN));
        assert_eq!(seven.state(), Hash([0; 32]));
    }

    #[test]
    fn the_state_depends_on_every_payload() {
        let mut other = Ledger::new(Height::MIN);
        other.execute(id(1), 1, b"something else");
        for n in 2..=5 {
            other.execute(id(n), n, &n.to_be_bytes());
        }
        assert_ne!(other.state(), ledger(5).state());
    }

    #[test]
    fn only_the_recent_past_is_kept() {
        let mut ledger = ledger(3000);
        ledger.confirm(height(2000));
        assert_eq!(ledger.get(height(975)), None);
        assert_eq!(ledger.get(height(976)).unwrap().id, id(976));
        assert_eq!(ledger.hard(), Some(id(2000)));
        assert_eq!(ledger.get(height(3001)), None);
    }

    #[test]
    fn locators_are_newest_first_sparse_and_end_at_hard() {
        assert_eq!(Ledger::new(Height::MIN).locator(None), []);
        let mut ledger = ledger(3000);
        let locator = ledger.locator(None);
        assert!(locator.len() <= MAX_LOCATOR);
        assert_eq!(locator[..3], [id(3000), id(2999), id(2998)]);
        assert_eq!(locator.last(), Some(&id(1)));
        assert!(locator.is_sorted_by(|a, b| a.height > b.height));
        ledger.confirm(height(2999));
        assert_eq!(ledger.locator(None), [id(3000), id(2999)]);
        assert_eq!(ledger.locator(Some(height(3000))), [id(3000), id(2999)]);
        assert_eq!(ledger.locator(Some(height(2990))), [id(3000), id(2999), id(2990)]);
        assert_eq!(ledger.locator(Some(height(4000))), [id(3000), id(2999)]);
    }
}
