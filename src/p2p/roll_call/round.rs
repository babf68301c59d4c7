//! How far a roll call is.
//!
//! Invariants:
//! 1. It ends: everybody in it is dialled once at most, and a dial has its time.
//! 2. At most [`AT_ONCE`] are being dialled at a time, in the order in which they were named.

use std::collections::{BTreeSet, VecDeque};

use libp2p::PeerId;

const AT_ONCE: usize = 32;

/// How far the roll call is.
#[derive(Debug, Default)]
pub struct RollCall {
    /// What it was called for; `None`: none is going on. A later one takes the place of an earlier one.
    round: Option<u64>,
    /// As many as the address book has, at most.
    waiting: VecDeque<PeerId>,
    dialled: BTreeSet<PeerId>,
}

impl RollCall {
    pub fn begin(&mut self, round: u64, peers: impl IntoIterator<Item = PeerId>) {
        self.round = Some(round);
        self.waiting = peers.into_iter().collect();
        self.dialled.clear();
    }

    /// The next one to be dialled, as long as not too many are.
    pub fn next(&mut self) -> Option<PeerId> {
        let peer = if self.dialled.len() < AT_ONCE { self.waiting.pop_front() } else { None };
        self.dialled.extend(peer);
        peer
    }

    pub fn tried(&mut self, peer: &PeerId) {
        self.dialled.remove(peer);
    }

    /// The round that has just ended.
    pub fn take_ended(&mut self) -> Option<u64> {
        if self.waiting.is_empty() && self.dialled.is_empty() { self.round.take() } else { None }
    }

    pub fn is_going_on(&self) -> bool {
        self.round.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_everybody_was_tried_and_dials_a_few_at_a_time() {
        let peers: Vec<_> = (0..AT_ONCE + 2).map(|_| PeerId::random()).collect();
        let mut roll = RollCall::default();
        assert_eq!(roll.take_ended(), None, "none was called");
        roll.begin(7, peers.clone());
        let dialled: Vec<_> = std::iter::from_fn(|| roll.next()).collect();
        assert_eq!(dialled, peers[..AT_ONCE]);
        roll.tried(&PeerId::random());
        assert_eq!((roll.next(), roll.take_ended()), (None, None), "a stranger's end is nobody's");
        for peer in &dialled {
            roll.tried(peer);
            roll.next();
        }
        assert_eq!(roll.take_ended(), None, "two are being dialled still");
        peers[AT_ONCE..].iter().for_each(|peer| roll.tried(peer));
        assert_eq!((roll.take_ended(), roll.take_ended()), (Some(7), None), "told once");
    }

    #[test]
    fn a_later_one_takes_the_place_of_an_earlier_one() {
        let peers = [PeerId::random(), PeerId::random()];
        let mut roll = RollCall::default();
        roll.begin(1, peers);
        roll.next();
        roll.begin(2, []);
        assert_eq!(roll.take_ended(), Some(2));
    }
}
