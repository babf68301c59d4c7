//! The roll call: everybody who is known is tried once, so that whoever can be reached can be asked what it has. This is the
//! driver's part: it dials; [`round`] keeps count.
//!
//! Invariant: somebody is tried once the node was told that it is up, or when there is nothing to tell: it cannot be reached, or may
//! not be dialled. So the end is told after everybody whom it found.

pub mod round;

use std::cmp::Reverse;

use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::Event;
use super::address::to_core;
use super::dialer::dial_of;
use super::driver::Driver;

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
        let seeds_are_here = self.seeds.connected_peers().all(|peer| self.peers.is_identified(peer));
        if self.seeds.all_tried()
            && seeds_are_here
            && let Some(round) = self.roll_call.take_ended()
        {
            self.outbox.push(Event::KnownPeersTried { round });
        }
    }

    fn dial_known(&mut self, peer: PeerId) -> Dialled {
        let addresses = self.known_addresses(&peer);
        // It has come by itself, and will say what it is; or go.
        if self.swarm.is_connected(&peer) {
            return if self.peers.is_identified(peer) { Dialled::No } else { Dialled::Yes };
        }
        // A seed is dialled as one.
        if addresses.is_empty() || self.seeds.names(peer) {
            return Dialled::No;
        }
        match self.swarm.dial(dial_of(peer, addresses)) {
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
        let may = |ip| peer != self.swarm.local_peer_id() && table.may_dial(Some(&named), &[ip], unix).is_ok();
        self.address_book.get(peer).map_or_else(Vec::new, |entry| entry.dialable(may))
    }
}

/// Whether a dial is under way, of which an event of the swarm will tell the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialled {
    Yes,
    No,
}
