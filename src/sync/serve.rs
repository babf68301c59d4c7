//! What to answer when a peer asks: the pure half of serving the range exchange.
//!
//! [`plan`] looks at a request and at the span of stored heights, and says which heights to send. It reads no block, so it
//! costs the same whatever a peer asks for. The rules are go-header's (v0.8.6, `p2p/server.go`), with the answers that were
//! meant where that version is known to walk the whole store, and one more: whoever stores nothing says so when it is asked for its
//! head, where Go resets the stream.
//!
//! Invariants:
//! 1. A planned range starts at the height that was asked for, lies within the stored span, and has 1 to [`MAX_RANGE`]
//!    heights.
//! 2. There is no way to answer `INVALID`: Go peers block whoever sends it. What cannot be served is reset.

use crate::block::{Hash, Height};

use super::MAX_RANGE;

/// A request as it arrived, nothing of it checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest<'a> {
    /// `amount` blocks from `origin` on; `origin` 0 means the head.
    Origin { origin: u64, amount: u64 },
    /// The block whose hash these bytes claim to be.
    Hash(&'a [u8]),
}

/// The stored heights, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub tail: Height,
    pub soft: Height,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// End the stream without a frame.
    Reset,
    /// One `NOT_FOUND` frame.
    NotFound,
    /// One frame with the block at this height, which is the head.
    Head(Height),
    /// A frame for every height from `from` to `to`, ascending.
    Range { from: Height, to: Height },
    /// One frame with this block if it is stored, one `NOT_FOUND` frame if it is not.
    ByHash(Hash),
}

/// Decides about one request. `stored` is `None` while nothing is stored.
#[must_use]
pub fn plan(request: RangeRequest<'_>, stored: Option<Span>) -> Plan {
    match request {
        // No block has a hash of another length.
        RangeRequest::Hash(bytes) => Hash::from_slice(bytes).map_or(Plan::NotFound, Plan::ByHash),
        RangeRequest::Origin { origin, amount } => plan_origin(origin, amount, stored),
    }
}

fn plan_origin(origin: u64, amount: u64, stored: Option<Span>) -> Plan {
    // `from >= to` in go-header: nothing was asked for, or the range wraps around.
    let Some(end) = origin.checked_add(amount).filter(|end| *end > origin) else {
        return Plan::Reset;
    };
    // The amount of a head request means nothing, and is not limited either. That there is no head is an answer, too.
    let Some(from) = Height::new(origin) else {
        return stored.map_or(Plan::NotFound, |span| Plan::Head(span.soft));
    };
    let Some(span) = stored else {
        return Plan::Reset;
    };
    if amount > MAX_RANGE {
        return Plan::Reset;
    }
    // Below the tail nothing is served, not even the part of the range above it: an answer starts where it was asked to.
    if from < span.tail || from > span.soft {
        return Plan::NotFound;
    }
    // `end` is above `origin >= 1`, so there is a height below it.
    let last = Height::new(end - 1).unwrap_or(from);
    Plan::Range { from, to: last.min(span.soft) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn height(height: u64) -> Height {
        Height::new(height).expect("not 0")
    }

    fn span(tail: u64, soft: u64) -> Span {
        Span { tail: height(tail), soft: height(soft) }
    }

    fn range(from: u64, to: u64) -> Plan {
        Plan::Range { from: height(from), to: height(to) }
    }

    #[test]
    fn every_row_of_the_decision_table() {
        let full = Some(span(1, 100));
        let pruned = Some(span(50, 100));
        let hash = [7; 32];
        let max = u64::MAX;
        let table = [
            // The head.
            (0, 1, full, Plan::Head(height(100))),
            (0, 64, full, Plan::Head(height(100))),
            (0, max, full, Plan::Head(height(100))),
            (0, 1, None, Plan::NotFound),
            (0, 0, full, Plan::Reset),
            // Nothing stored.
            (5, 3, None, Plan::Reset),
            // Nothing asked for, or more than there are numbers.
            (5, 0, full, Plan::Reset),
            (max, 1, full, Plan::Reset),
            (max - 3, 4, full, Plan::Reset),
            (5, max, full, Plan::Reset),
            // Too much, wherever it starts.
            (5, 65, full, Plan::Reset),
            (101, 65, full, Plan::Reset),
            (1, 1_000, full, Plan::Reset),
            // Above the head.
            (101, 1, full, Plan::NotFound),
            (max - 4, 4, full, Plan::NotFound),
            // Reaching above the head: as much as there is.
            (99, 5, full, range(99, 100)),
            (100, 64, full, range(100, 100)),
            (37, 64, full, range(37, 100)),
            // Within.
            (1, 64, full, range(1, 64)),
            (36, 64, full, range(36, 99)),
            (100, 1, full, range(100, 100)),
            // Wholly below the tail: at once, without a look at the store.
            (1, 49, pruned, Plan::NotFound),
            (49, 1, pruned, Plan::NotFound),
            // Across the tail: never an answer that starts elsewhere.
            (49, 2, pruned, Plan::NotFound),
            (1, 64, pruned, Plan::NotFound),
            (50, 2, pruned, range(50, 51)),
        ];
        for (origin, amount, stored, expected) in table {
            assert_eq!(
                plan(RangeRequest::Origin { origin, amount }, stored),
                expected,
                "{origin} x {amount} of {stored:?}"
            );
        }
        // By hash; nothing stored is for the lookup to find out.
        assert_eq!(plan(RangeRequest::Hash(&hash), full), Plan::ByHash(Hash(hash)));
        assert_eq!(plan(RangeRequest::Hash(&hash), None), Plan::ByHash(Hash(hash)));
        for bad in [&hash[..31], &[], &[7; 33]] {
            assert_eq!(plan(RangeRequest::Hash(bad), full), Plan::NotFound);
        }
    }

    /// Numbers near the ends and near each other, where the mistakes are.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0..200_u64, u64::MAX - 200..=u64::MAX, any::<u64>()]
    }

    proptest! {
        #[test]
        fn a_range_is_bounded_stored_and_starts_where_it_should(
            origin in number(), amount in number(), tail in number(), length in number(),
        ) {
            let tail = height(tail.max(1));
            let soft = tail.plus(length);
            let planned = plan(RangeRequest::Origin { origin, amount }, Some(Span { tail, soft }));
            match planned {
                Plan::Range { from, to } => {
                    prop_assert_eq!(from.get(), origin);
                    prop_assert!(tail <= from && from <= to && to <= soft);
                    prop_assert!(to.above(from) < MAX_RANGE.min(amount));
                    // All that was asked for, or all that there is.
                    prop_assert!(to == soft || to.above(from) + 1 == amount);
                }
                Plan::Head(head) => prop_assert!(origin == 0 && amount > 0 && head == soft),
                Plan::NotFound => prop_assert!(origin < tail.get() || origin > soft.get()),
                Plan::Reset => prop_assert!(
                    amount == 0 || origin.checked_add(amount).is_none() || (origin > 0 && amount > MAX_RANGE)
                ),
                Plan::ByHash(_) => prop_assert!(false, "no hash was asked for"),
            }
        }
    }
}
