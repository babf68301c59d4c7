//! The plan for the next requests: which heights, and how large. Pure functions of heights and sizes, tested by table.

use super::requests::HeightRun;
use crate::block::Height;
use crate::sync::MAX_RANGE;
use crate::util::saturate;

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

    /// The same for the request that begins with the next block, when so many bytes are free: where they do not suffice for another
    /// request beside it, as many as should fit into the largest block, for which room is kept in any case.
    pub fn per_next_request(self, free: usize) -> u64 {
        let beside = self.answer_bytes(self.per_request());
        if free >= self.next_answer_bytes(self.per_request()).saturating_add(beside) {
            return self.per_request();
        }
        let fit = saturate::to_u64(self.max_block / 5 * 4 / self.block.max(1));
        fit.clamp(self.per_request(), MAX_RANGE)
    }

    /// The most that an answer of so many blocks may weigh: a quarter more than expected. An answer that would weigh more is cut;
    /// what is cut is asked for again, and when everything waits for it, as [`Self::next_answer_bytes`].
    pub fn answer_bytes(self, amount: u64) -> usize {
        let amount = saturate::to_usize(amount);
        let expected = self.block.saturating_mul(amount);
        expected.saturating_add(expected / 4).saturating_add(Self::SLACK).min(self.max_block.saturating_mul(amount))
    }

    /// For the answer that begins with the next block: that one fits, whatever it weighs.
    pub fn next_answer_bytes(self, amount: u64) -> usize {
        self.answer_bytes(amount).max(self.max_block)
    }
}

/// How many blocks are asked for at once: from the next one on, and elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amounts {
    pub from_next: u64,
    pub elsewhere: u64,
}

/// At most `max_ranges` ranges of at most so many blocks, lowest first, that are wanted from `next` through `last`: what
/// is in no `covered` run (held, or asked for). The runs are ascending by their first height, and may overlap.
pub(super) fn ranges(
    next: Height,
    last: Height,
    amounts: Amounts,
    covered: impl Iterator<Item = HeightRun>,
    max_ranges: usize,
) -> Vec<(Height, u64)> {
    let mut wanted = Vec::new();
    let mut from = next;
    let end = [(last.next(), last)];
    for (first, through) in covered.take_while(|(first, _)| *first <= last).chain(end) {
        while from < first && wanted.len() < max_ranges {
            let most = if from == next { amounts.from_next } else { amounts.elsewhere };
            let amount = first.above(from).min(most);
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
    fn where_nothing_fits_beside_it_the_next_request_is_longer() {
        let kib = 1 << 10;
        let sizes = Sizes { block: kib, max_block: 128 * kib, range: 3 * kib };
        let both = sizes.next_answer_bytes(3) + sizes.answer_bytes(3);
        for (sizes, free, expected) in [
            (sizes, both, 3),
            (sizes, both - 1, 64),
            (Sizes { max_block: 10 * kib, ..sizes }, 0, 8),
            // Never shorter.
            (Sizes { max_block: 2 * kib, ..sizes }, 0, 3),
            (Sizes { block: 100 * kib, ..sizes }, 0, 1),
        ] {
            assert_eq!(sizes.per_next_request(free), expected, "{sizes:?} {free}");
        }
        let amounts = Amounts { from_next: 6, elsewhere: 2 };
        let plan = ranges(h(1), h(10), amounts, std::iter::once((h(8), h(8))), 9);
        assert_eq!(plan, [(h(1), 6), (h(7), 1), (h(9), 2)]);
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
            let amounts = Amounts { from_next: 4, elsewhere: 4 };
            let plan = ranges(h(next), h(last), amounts, covered, max_ranges);
            let plan: Vec<_> = plan.into_iter().map(|(from, amount)| (from.get(), amount)).collect();
            assert_eq!(plan, expected, "{next}..={last}");
        }
    }
}
