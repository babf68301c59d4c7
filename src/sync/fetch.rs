//! What to ask of whom: the open requests, and the plan for the next ones.
//!
//! The plan is a pure function of heights and sizes ([`ranges`], [`Sizes`]), tested by table. It stalls for no single peer:
//! a request that fails goes to another one, and a peer that fails rests for a growing while.
//!
//! Invariants:
//! 1. At most one open request per height; two for the height right above soft, where everything waits for one answer, and
//!    more only one after the other, while none of those who were asked has shown that it serves.
//! 2. What is asked for fits into the byte budget that held blocks and open requests share, but for the two requests for the
//!    next block, which everything waits for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Ask, MAX_RANGE, PeerId, RequestId};
use crate::block::{Hash, Height};

/// A request in flight.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub peer: PeerId,
    pub ask: Ask,
    pub sent: Duration,
    pub deadline: Duration,
    /// The most that the answer may weigh.
    pub bytes: usize,
    /// It is for what lies below the tail.
    pub below_tail: bool,
}

/// A block that is heavier than all of the answer that it was to begin, as somebody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PutOff {
    pub said_by: PeerId,
    /// What the answer might have weighed.
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct Requests {
    open: BTreeMap<RequestId, Open>,
    next: RequestId,
    /// Not asked for before everything waits for it: then it has the room that it takes.
    put_off: BTreeMap<Height, PutOff>,
}

impl Requests {
    pub fn new() -> Self {
        Self { open: BTreeMap::new(), next: RequestId(1), put_off: BTreeMap::new() }
    }

    pub fn add(&mut self, open: Open) -> RequestId {
        let id = self.next;
        self.next = id.next();
        self.open.insert(id, open);
        id
    }

    pub fn remove(&mut self, id: RequestId) -> Option<Open> {
        self.open.remove(&id)
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Bytes that the open requests may still bring.
    pub fn bytes(&self) -> usize {
        self.open.values().map(|open| open.bytes).sum()
    }

    pub fn of_peer(&self, peer: &PeerId) -> Vec<RequestId> {
        self.open.iter().filter(|(_, open)| open.peer == *peer).map(|(id, _)| *id).collect()
    }

    pub fn expired(&self, now: Duration) -> Vec<RequestId> {
        self.open.iter().filter(|(_, open)| open.deadline <= now).map(|(id, _)| *id).collect()
    }

    pub fn next_deadline(&self) -> Option<Duration> {
        self.open.values().map(|open| open.deadline).min()
    }

    /// The runs of heights that are asked for, or put off until they are `next`.
    pub fn runs(&self, next: Height) -> impl Iterator<Item = Run> {
        let put_off = self.put_off.range(next.next()..).map(|(height, _)| (*height, *height));
        self.open.values().filter_map(Open::run).chain(put_off)
    }

    pub fn put_off(&mut self, height: Height, put_off: PutOff) {
        self.put_off.insert(height, put_off);
    }

    /// The block has come.
    pub fn take_put_off(&mut self, height: Height) -> Option<PutOff> {
        self.put_off.remove(&height)
    }

    /// Nothing is missing any more.
    pub fn forget_put_off(&mut self) {
        self.put_off.clear();
    }

    /// How many open requests cover `height`, and to whom.
    pub fn covering(&self, height: Height) -> impl Iterator<Item = &Open> {
        self.open.values().filter(move |open| open.covers(height))
    }

    /// The open request for what lies below the tail; there is at most one.
    pub fn below_tail(&self) -> Option<&Open> {
        self.open.values().find(|open| open.below_tail)
    }

    /// The open requests for the block with this hash.
    pub fn by_hash(&self, hash: Hash) -> impl Iterator<Item = &Open> {
        self.open.values().filter(move |open| open.ask == Ask::Hash(hash))
    }
}

impl Open {
    pub fn run(&self) -> Option<Run> {
        match self.ask {
            Ask::Range { from, amount } => Some((from, from.plus(amount.checked_sub(1)?))),
            Ask::Head | Ask::Hash(_) => None,
        }
    }

    fn covers(&self, height: Height) -> bool {
        self.run().is_some_and(|(first, last)| first <= height && height <= last)
    }
}

/// How large requests should be, from what blocks have weighed lately. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Of a block, smoothed.
    pub block: usize,
    pub max_block: usize,
    /// What one answer should weigh.
    pub range: usize,
}

impl Sizes {
    /// Blocks vary: so much more than expected is always let through.
    const SLACK: usize = 64 << 10;

    /// Blocks, 1 to [`MAX_RANGE`].
    pub fn per_request(self) -> u64 {
        u64::try_from(self.range / self.block.max(1)).unwrap_or(MAX_RANGE).clamp(1, MAX_RANGE)
    }

    /// The most that an answer of so many blocks may weigh: a quarter more than expected. An answer that would weigh more is cut;
    /// what is cut is asked for again, and when everything waits for it, as [`Self::next_answer_bytes`].
    pub fn answer_bytes(self, amount: u64) -> usize {
        let amount = usize::try_from(amount).unwrap_or(usize::MAX);
        let expected = self.block.saturating_mul(amount);
        expected.saturating_add(expected / 4).saturating_add(Self::SLACK).min(self.max_block.saturating_mul(amount))
    }

    /// For the answer that begins with the next block: that one fits, whatever it weighs.
    pub fn next_answer_bytes(self, amount: u64) -> usize {
        self.answer_bytes(amount).max(self.max_block)
    }
}

/// A run of heights, both ends included.
pub(super) type Run = (Height, Height);

/// At most `max_ranges` ranges of at most `per_request` blocks, lowest first, that are wanted from `next` through `last`: what
/// is in no `covered` run (held, or asked for). The runs are ascending by their first height, and may overlap.
pub(super) fn ranges(
    next: Height,
    last: Height,
    per_request: u64,
    covered: impl Iterator<Item = Run>,
    max_ranges: usize,
) -> Vec<(Height, u64)> {
    let mut wanted = Vec::new();
    let mut from = next;
    let end = [(last.next(), last)];
    for (first, through) in covered.take_while(|(first, _)| *first <= last).chain(end) {
        while from < first && wanted.len() < max_ranges {
            let amount = first.above(from).min(per_request);
            wanted.push((from, amount));
            from = from.plus(amount);
        }
        if wanted.len() == max_ranges {
            break;
        }
        from = from.max(through.next());
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h(height: u64) -> Height {
        Height::new(height).expect("not 0")
    }

    #[test]
    fn sizes_follow_the_block_size() {
        let (kib, mib) = (1 << 10, 1 << 20);
        for (block, max_block, per_request, answer, next_answer) in [
            (1024, mib, 64, 144 * kib, mib),
            (64 * kib, mib, 3, 304 * kib, mib),
            // No more than so many blocks can weigh.
            (8 * mib, 8 * mib, 1, 8 * mib, 8 * mib),
            (mib, 8 * mib, 1, mib + 320 * kib, 8 * mib),
            (0, mib, 64, 64 * kib, mib),
            // A large block came after small ones: one at a time until the average has learned.
            (200 * kib, mib, 1, 314 * kib, mib),
        ] {
            let sizes = Sizes { block, max_block, range: 192 * kib };
            let amount = sizes.per_request();
            let found = (amount, sizes.answer_bytes(amount), sizes.next_answer_bytes(amount));
            assert_eq!(found, (per_request, answer, next_answer), "{block} {max_block}");
        }
    }

    #[test]
    fn ranges_fill_the_gaps_lowest_first() {
        let none: &[(u64, u64)] = &[];
        let middle = &[(3, 6)];
        let all = u64::MAX;
        for (next, last, covered, max_ranges, expected) in [
            (1, 10, none, 100, vec![(1, 4), (5, 4), (9, 2)]),
            (11, 10, none, 100, vec![]),
            (1, 10, middle, 100, vec![(1, 2), (7, 4)]),
            (4, 10, middle, 100, vec![(7, 4)]),
            (1, 5, middle, 100, vec![(1, 2)]),
            (1, 10, &[(1, 10)], 100, vec![]),
            (5, 10, &[(1, 2), (8, 9)], 100, vec![(5, 3), (10, 1)]),
            // They overlap, and one lies in another.
            (1, 12, &[(2, 8), (3, 4), (6, 10)], 100, vec![(1, 1), (11, 2)]),
            (1, 12, &[(20, 30)], 2, vec![(1, 4), (5, 4)]),
            (all - 2, all, none, 100, vec![(all - 2, 2)]),
            (1, 100, none, 2, vec![(1, 4), (5, 4)]),
            (1, all, none, 0, vec![]),
        ] {
            let covered = covered.iter().map(|(first, through)| (h(*first), h(*through)));
            let plan = ranges(h(next), h(last), 4, covered, max_ranges);
            let plan: Vec<_> = plan.into_iter().map(|(from, amount)| (from.get(), amount)).collect();
            assert_eq!(plan, expected, "{next}..={last}");
        }
    }
}
