//! The way down below soft that was looked at already, so that a step more costs a step and not the whole way.
//!
//! Invariants:
//! 1. Each block of it but the last was neither given up nor ours, and another one than ours was known at its height: this stays so
//!    until blocks of ours are taken back, or one of these is given up. Whatever DA has decided by then, it was not these.
//! 2. Bounded by what is remembered of what blocks stand on.

use super::descent::Gone;
use super::{Epoch, Heads};
use crate::block::{BlockId, Hash, Height};

#[derive(Debug)]
pub(super) struct Walked {
    /// Of the heads, when it was looked at.
    epoch: Epoch,
    highest: Height,
    /// From the highest down; the last one is what is looked at next.
    hashes: Vec<Hash>,
    end: BlockId,
}

impl Walked {
    pub fn from(block: BlockId, heads: &Heads) -> Self {
        Self { epoch: heads.epoch, highest: block.height, hashes: vec![block.hash], end: block }
    }

    /// What is looked at next.
    pub fn end(&self) -> BlockId {
        self.end
    }

    /// The block at the end is as the others are, and stands on this one.
    pub fn go_on(&mut self, below: BlockId) {
        self.hashes.push(below.hash);
        self.end = below;
    }

    /// Where the way goes on from a block of it.
    pub fn gone(&self, block: BlockId, heads: &Heads) -> Option<Gone> {
        let first = self.end.height.next();
        let is_valid = self.epoch == heads.epoch && first >= heads.tail;
        let gone = &self.hashes[..self.hashes.len() - 1];
        let at = |height: Height| {
            let index = usize::try_from(self.highest.get().checked_sub(height.get())?).ok()?;
            gone.get(index).copied()
        };
        let is_of_it = is_valid && at(block.height) == Some(block.hash);
        let hash = at(first).filter(|_| is_of_it)?;
        Some(Gone { first: BlockId { height: first, hash }, to: self.end })
    }

    /// Whether the way leads from this block to its end.
    pub fn leads_from(&self, block: BlockId, heads: &Heads) -> bool {
        (self.epoch == heads.epoch && block == self.end) || self.gone(block, heads).is_some()
    }

    pub fn highest(&self) -> Height {
        self.highest
    }

    pub fn has(&self, block: BlockId) -> bool {
        let index = self.highest.get().checked_sub(block.height.get()).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| self.hashes.get(index)) == Some(&block.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Epoch;
    use crate::sync::descent::{Below, BranchView, lowest_given_up, trace};

    const TOP: u64 = 5;

    fn h(height: u64) -> Height {
        Height::new(height).unwrap()
    }

    fn id(height: u64, branch: u8) -> BlockId {
        BlockId { height: h(height), hash: Hash([branch; 32]) }
    }

    /// Theirs leaves ours above `common`, is known down to `known`, and DA has decided up to `decided`.
    #[derive(Clone, Debug)]
    struct View<'a> {
        common: u64,
        known: u64,
        decided: u64,
        given_up: Option<u64>,
        walked: Option<(&'a Walked, Heads)>,
    }

    impl View<'_> {
        fn at(&self, height: u64) -> BlockId {
            id(height, u8::from(height > self.common))
        }
    }

    impl BranchView for View<'_> {
        fn below(&self, block: BlockId) -> Below {
            match block.height.get() {
                1 => Below::Nothing,
                height if height < self.known => Below::Unknown,
                height => Below::Block(self.at(height - 1).hash),
            }
        }

        fn ours(&self, height: Height) -> Option<Hash> {
            Some(Hash([0; 32])).filter(|_| height.get() <= TOP)
        }

        fn is_given_up(&self, block: BlockId) -> bool {
            self.given_up.map(|height| self.at(height)) == Some(block)
        }

        fn decided(&self) -> Option<Height> {
            Height::new(self.decided)
        }

        fn gone_before(&self, block: BlockId) -> Option<Gone> {
            let (walked, heads) = self.walked.as_ref()?;
            walked.gone(block, heads)
        }
    }

    /// Whatever became known since, of what lies at the end and below, and of DA.
    #[test]
    fn who_goes_on_from_the_end_comes_to_where_who_goes_all_the_way_does() {
        let mut cases = 0;
        for (common, end, highest) in
            (0..TOP).flat_map(|common| (1..=TOP).flat_map(move |end| (end..=TOP).map(move |top| (common, end, top))))
        {
            if end <= common {
                continue;
            }
            let heads = Heads::empty(h(1));
            let plain = View { common, known: 1, decided: 0, given_up: None, walked: None };
            let mut walked = Walked::from(plain.at(highest), &heads);
            (end..highest).rev().for_each(|height| walked.go_on(plain.at(height)));
            for (decided, given_up, known) in (0..=TOP)
                .flat_map(|decided| (0..=end).flat_map(move |up| (1..=end).map(move |known| (decided, up, known))))
            {
                let given_up = Some(given_up).filter(|height| *height > 0);
                let plain = View { known, decided, given_up, ..plain.clone() };
                let fast = View { walked: Some((&walked, heads)), ..plain.clone() };
                for from in end..=TOP + 1 {
                    let from = plain.at(from);
                    assert_eq!(trace(from, &fast), trace(from, &plain), "{from} {fast:?}");
                    assert_eq!(lowest_given_up(from, &fast), lowest_given_up(from, &plain), "{from} {fast:?}");
                }
                cases += 1;
            }
        }
        assert!(cases > 1_000, "{cases}");
    }

    /// Then what was gone may be ours, or cannot be compared with ours.
    #[test]
    fn the_way_counts_no_more_once_blocks_were_taken_back_or_pruned() {
        let heads = Heads::empty(h(1));
        let mut walked = Walked::from(id(4, 1), &heads);
        walked.go_on(id(3, 1));
        walked.go_on(id(2, 1));
        let gone = Some(Gone { first: id(3, 1), to: id(2, 1) });
        assert_eq!((walked.gone(id(4, 1), &heads), walked.gone(id(3, 1), &heads)), (gone, gone));
        assert_eq!((walked.gone(id(4, 0), &heads), walked.gone(id(2, 1), &heads)), (None, None));
        assert_eq!(walked.gone(id(4, 1), &Heads { epoch: Epoch(1), ..heads }), None);
        assert_eq!(walked.gone(id(4, 1), &Heads { tail: h(3), ..heads }), gone);
        assert_eq!(walked.gone(id(4, 1), &Heads { tail: h(4), ..heads }), None);
        assert!(walked.has(id(2, 1)) && walked.has(id(4, 1)) && !walked.has(id(5, 1)) && !walked.has(id(4, 0)));
    }
}
