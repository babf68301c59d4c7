//! The open requests, and what they may still bring. How many there may be is kept by `asking`.
//!
//! Invariants:
//! 1. So many heights are put off at most; the farthest go first, and are asked for again as any other.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::block::{Hash, Height};
use crate::sync::{BlockQuery, FetchOutcome, PeerId, RequestId};

/// A request in flight.
#[derive(Clone, Debug)]
pub(in crate::sync) struct OpenRequest {
    pub peer: PeerId,
    pub query: BlockQuery,
    pub sent: Duration,
    pub deadline: Duration,
    /// The answer is here, and is being checked.
    pub has_arrived: bool,
    /// The most that the answer may weigh.
    pub bytes: usize,
    /// It is for what lies below the tail.
    pub below_tail: bool,
}

/// A block that is heavier than all of the answer that it was to begin, as a peer claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PutOff {
    pub claimed_by: PeerId,
    /// What the answer might have weighed.
    pub bytes: usize,
}

#[derive(Debug)]
pub(super) struct Requests {
    open: BTreeMap<RequestId, OpenRequest>,
    next: RequestId,
    /// Not asked for before everything waits for it: then it has the room that it takes.
    put_off: BTreeMap<Height, PutOff>,
    max_put_off: usize,
}

impl Requests {
    pub fn new(max_put_off: usize) -> Self {
        Self { open: BTreeMap::new(), next: RequestId(1), put_off: BTreeMap::new(), max_put_off }
    }

    pub fn add(&mut self, open: OpenRequest) -> RequestId {
        let id = self.next;
        self.next = id.next();
        self.open.insert(id, open);
        id
    }

    /// The id of the next one.
    pub fn next(&self) -> RequestId {
        self.next
    }

    pub fn remove(&mut self, id: RequestId) -> Option<OpenRequest> {
        self.open.remove(&id)
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Requests for ranges.
    pub fn ranges(&self) -> usize {
        self.open.values().filter(|open| open.run().is_some()).count()
    }

    /// Bytes that these may still bring.
    pub fn range_bytes(&self) -> usize {
        self.open.values().filter(|open| open.run().is_some()).map(|open| open.bytes).sum()
    }

    pub fn of_peer(&self, peer: &PeerId) -> Vec<RequestId> {
        self.open.iter().filter(|(_, open)| open.peer == *peer).map(|(id, _)| *id).collect()
    }

    pub fn overdue(&self, now: Duration) -> Vec<(RequestId, FetchOutcome)> {
        let overdue = self.open.iter().filter(|(_, open)| open.deadline <= now);
        overdue
            .map(|(id, open)| (*id, if open.has_arrived { FetchOutcome::NotSent } else { FetchOutcome::Timeout }))
            .collect()
    }

    /// No answer is overdue before this moment.
    pub fn wait_until(&mut self, moment: Duration) {
        for open in self.open.values_mut() {
            open.deadline = open.deadline.max(moment);
        }
    }

    /// The answer is here, and has until this moment to be checked.
    pub fn arrived(&mut self, id: RequestId, until: Duration) {
        if let Some(open) = self.open.get_mut(&id) {
            open.has_arrived = true;
            open.deadline = until;
        }
    }

    pub fn next_deadline(&self) -> Option<Duration> {
        self.open.values().map(|open| open.deadline).min()
    }

    /// The runs of heights that are asked for, or put off until they are `next`.
    pub fn runs(&self, next: Height) -> impl Iterator<Item = HeightRun> {
        let put_off = self.put_off.range(next.next()..).map(|(height, _)| (*height, *height));
        self.open.values().filter_map(OpenRequest::run).chain(put_off)
    }

    pub fn put_off(&mut self, height: Height, put_off: PutOff) {
        self.put_off.insert(height, put_off);
        if self.put_off.len() > self.max_put_off {
            self.put_off.pop_last();
        }
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
    pub fn covering(&self, height: Height) -> impl Iterator<Item = &OpenRequest> {
        self.open.values().filter(move |open| open.covers(height))
    }

    /// The open request for what lies below the tail; there is at most one.
    pub fn below_tail(&self) -> Option<&OpenRequest> {
        self.open.values().find(|open| open.below_tail)
    }

    /// Requests for blocks by their hashes.
    pub fn by_any_hash(&self) -> usize {
        self.open.values().filter(|open| matches!(open.query, BlockQuery::Hash(_))).count()
    }

    /// The open requests for the block with this hash.
    pub fn by_hash(&self, hash: Hash) -> impl Iterator<Item = &OpenRequest> {
        self.open.values().filter(move |open| open.query == BlockQuery::Hash(hash))
    }
}

impl OpenRequest {
    pub fn run(&self) -> Option<HeightRun> {
        match self.query {
            BlockQuery::Range { from, amount } => Some((from, from.plus(amount.checked_sub(1)?))),
            BlockQuery::Head | BlockQuery::Hash(_) => None,
        }
    }

    fn covers(&self, height: Height) -> bool {
        self.run().is_some_and(|(first, last)| first <= height && height <= last)
    }
}

/// A run of heights, both ends included.
pub(in crate::sync) type HeightRun = (Height, Height);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_heights_are_put_off_at_most_and_the_farthest_go_first() {
        let height = |height| Height::new(height).expect("not 0");
        let mut requests = Requests::new(3);
        for put_off in [9, 5, 7, 6, 8, 5] {
            requests.put_off(height(put_off), PutOff { claimed_by: PeerId::new(&[1]), bytes: 10 });
        }
        let put_off: Vec<_> = requests.runs(height(1)).map(|(first, _)| first.get()).collect();
        assert_eq!(put_off, [5, 6, 7]);
    }
}
