//! The roll call: everybody who is known is tried once, so that whoever can be reached can be asked what it has.
//!
//! Invariants:
//! 1. It ends: everybody in it is dialled once at most, and a dial has its time.
//! 2. Somebody is tried once the node was told that it is up, or when there is nothing to tell: it cannot be reached, or may not be
//!    dialled. So the end is told after everybody whom it found.
//! 3. At most [`AT_ONCE`] are being dialled at a time, those that were there last first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::Event;
use super::address::{ip_of, to_core};
use super::address_book::{AddressBook, AddressEntry};
use super::driver::Driver;
use crate::sync::Acquaintance;

const AT_ONCE: usize = 32;

/// Whether the node knows anybody whom it can try: somebody in the address book, or a seed.
pub fn acquaintance(book: &AddressBook, seeds: usize) -> Acquaintance {
    if seeds == 0 && book.iter().next().is_none() { Acquaintance::Nobody } else { Acquaintance::Somebody }
}

/// How far the roll call is.
#[derive(Debug, Default)]
pub struct RollCall {
    /// What it was called for; `None`: none is going on. A later one takes the place of an earlier one.
    round: Option<u64>,
    /// At most [`super::address_book::MAX_PEERS`].
    waiting: VecDeque<PeerId>,
    dialled: BTreeSet<PeerId>,
}

impl RollCall {
    fn begin(&mut self, round: u64, peers: impl IntoIterator<Item = PeerId>) {
        self.round = Some(round);
        self.waiting = peers.into_iter().collect();
        self.dialled.clear();
    }

    /// The next one to be dialled, as long as not too many are.
    fn next(&mut self) -> Option<PeerId> {
        let peer = if self.dialled.len() < AT_ONCE { self.waiting.pop_front() } else { None };
        self.dialled.extend(peer);
        peer
    }

    fn tried(&mut self, peer: &PeerId) {
        self.dialled.remove(peer);
    }

    /// The round that has just ended.
    fn take_ended(&mut self) -> Option<u64> {
        if self.waiting.is_empty() && self.dialled.is_empty() { self.round.take() } else { None }
    }

    fn is_going_on(&self) -> bool {
        self.round.is_some()
    }
}

impl Driver {
    /// Everybody who is known is tried now; [`Event::KnownPeersTried`] says when that is done.
    pub(super) fn call_the_roll(&mut self, round: u64) {
        self.seeds.try_all(Instant::now());
        let mut known: Vec<_> = self.address_book.iter().filter(|(peer, _)| !self.peers.is_up(**peer)).collect();
        known.sort_by_key(|(_, entry)| Reverse((entry.last_success, entry.blocks)));
        let known: Vec<PeerId> = known.into_iter().map(|(peer, _)| *peer).collect();
        self.roll_call.begin(round, known);
        self.go_on_with_the_roll();
    }

    /// Something has become of a dial: whoever it was is up, or cannot be reached. `None`: nobody knows who a seed is.
    pub(super) fn dial_ended(&mut self, peer: Option<PeerId>) {
        if let Some(peer) = peer {
            self.roll_call.tried(&peer);
        }
        self.go_on_with_the_roll();
    }

    fn go_on_with_the_roll(&mut self) {
        if !self.roll_call.is_going_on() {
            return;
        }
        while let Some(peer) = self.roll_call.next() {
            if self.dial_known(peer) == Dialled::No {
                self.roll_call.tried(&peer);
            }
        }
        if self.seeds.all_tried()
            && let Some(round) = self.roll_call.take_ended()
        {
            self.outbox.push(Event::KnownPeersTried { round });
        }
    }

    fn dial_known(&mut self, peer: PeerId) -> Dialled {
        let addresses = self.known_addresses(&peer);
        // A seed is dialled as one, and whoever is connected is up, or nobody to ask.
        if addresses.is_empty() || self.seeds.names(peer) || self.swarm.is_connected(&peer) {
            return Dialled::No;
        }
        let options = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing);
        match self.swarm.dial(options.addresses(addresses).allocate_new_port().build()) {
            // Where it is being dialled already, that dial is as good.
            Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => Dialled::Yes,
            Err(error) => {
                tracing::debug!(%peer, %error, "a known peer cannot be dialled now");
                Dialled::No
            }
        }
    }

    /// Where it may be dialled.
    fn known_addresses(&self, peer: &PeerId) -> Vec<Multiaddr> {
        let (unix, named) = (self.unix(), to_core(*peer));
        let table = &self.swarm.behaviour().gate.table;
        let may = |address: &Multiaddr| {
            ip_of(address).is_some_and(|ip| table.may_dial(Some(&named), &[ip], unix).is_ok())
                && peer != self.swarm.local_peer_id()
        };
        let addresses =
            |entry: &AddressEntry| entry.addresses.iter().filter_map(|text| text.parse().ok()).filter(may).collect();
        self.address_book.get(peer).map_or_else(Vec::new, addresses)
    }
}

/// Whether a dial is under way, of which an event of the swarm will tell the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialled {
    Yes,
    No,
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
