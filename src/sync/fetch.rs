//! What to ask of whom: the open requests, and the plan for the next ones.
//!
//! The plan is a pure function of heights and peers ([`ranges`], [`sizes`]), tested by table. It stalls for no single peer:
//! a request that fails goes to another one, and a peer that fails rests for a growing while.
//!
//! Invariants:
//! 1. At most one open request per height; two for the height right above soft, where everything waits for one answer.
//! 2. What is asked for fits into the byte budget that held blocks and open requests share.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Ask, MAX_RANGE, PeerId, RequestId};
use crate::block::Height;

/// A request in flight.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub peer: PeerId,
    pub ask: Ask,
    pub sent: Duration,
    pub deadline: Duration,
    /// The most that the answer may weigh.
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct Requests {
    open: BTreeMap<RequestId, Open>,
    next: RequestId,
}

impl Requests {
    pub fn new() -> Self {
        Self { open: BTreeMap::new(), next: RequestId(1) }
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

    /// How many open requests cover `height`, and to whom.
    pub fn covering(&self, height: Height) -> impl Iterator<Item = &Open> {
        self.open.values().filter(move |open| open.covers(height))
    }

    pub fn by_hash(&self) -> bool {
        self.open.values().any(|open| matches!(open.ask, Ask::Hash(_)))
    }
}

impl Open {
    fn covers(&self, height: Height) -> bool {
        match self.ask {
            Ask::Range { from, amount } => height >= from && height.above(from) < amount,
            Ask::Head | Ask::Hash(_) => false,
        }
    }
}

/// How large requests should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Blocks, 1 to [`MAX_RANGE`].
    pub per_request: u64,
    /// The most that one answer may weigh. One block of any size always fits; beyond that an answer may be twice as large
    /// as meant, since blocks vary, and is cut there.
    pub answer_bytes: usize,
}

/// From the observed size of a block, and what one answer should weigh.
pub(super) fn sizes(block_bytes: usize, range_bytes: usize, max_block_bytes: usize) -> Sizes {
    let per_request = u64::try_from(range_bytes / block_bytes.max(1)).unwrap_or(MAX_RANGE).clamp(1, MAX_RANGE);
    Sizes { per_request, answer_bytes: max_block_bytes.max(range_bytes.saturating_mul(2)) }
}

/// At most `max_ranges` ranges of at most `per_request` blocks, lowest first, that are wanted from `next` through `last`: what
/// is not `covered` (held, or asked for).
pub(super) fn ranges(
    next: Height,
    last: Height,
    per_request: u64,
    is_covered: impl Fn(Height) -> bool,
    max_ranges: usize,
) -> Vec<(Height, u64)> {
    let mut wanted: Vec<(Height, u64)> = Vec::new();
    let mut height = next;
    while height <= last {
        if !is_covered(height) {
            let full = wanted.len() == max_ranges;
            match wanted.last_mut() {
                Some((from, amount)) if *amount < per_request && from.plus(*amount) == height => *amount += 1,
                _ if full => break,
                _ => wanted.push((height, 1)),
            }
        }
        if height == Height::MAX {
            break;
        }
        height = height.next();
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
        let mib = 1 << 20;
        for (block, range, max_block, per_request, answer_bytes) in [
            (1024, mib, mib, 64, 2 * mib),
            (64 * 1024, mib, mib, 16, 2 * mib),
            (8 * mib, mib, 8 * mib, 1, 8 * mib),
            (0, mib, mib, 64, 2 * mib),
        ] {
            assert_eq!(
                sizes(block, range, max_block),
                Sizes { per_request, answer_bytes },
                "{block} {range} {max_block}"
            );
        }
    }

    #[test]
    fn ranges_fill_the_gaps_lowest_first() {
        let none: &dyn Fn(Height) -> bool = &|_| false;
        let middle: &dyn Fn(Height) -> bool = &|height| (3..=6).contains(&height.get());
        for (next, last, covered, max_ranges, expected) in [
            (1, 10, none, 100, vec![(1, 4), (5, 4), (9, 2)]),
            (11, 10, none, 100, vec![]),
            (1, 10, middle, 100, vec![(1, 2), (7, 4)]),
            (u64::MAX - 1, u64::MAX, none, 100, vec![(u64::MAX - 1, 2)]),
            (1, 100, none, 2, vec![(1, 4), (5, 4)]),
            (1, u64::MAX, none, 0, vec![]),
        ] {
            let plan = ranges(h(next), h(last), 4, covered, max_ranges);
            let plan: Vec<_> = plan.into_iter().map(|(from, amount)| (from.get(), amount)).collect();
            assert_eq!(plan, expected, "{next}..={last}");
        }
    }
}
