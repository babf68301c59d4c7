//! The driver's part in finding peers: dialling from the address book, asking the DHT, and sending away those that are not of the
//! chain.
//!
//! Invariants:
//! 1. Nobody is dialled who is connected already, or whom the gate would not let in.
//! 2. What strangers say of themselves is tried only while peers of our own choice are lacking.

pub mod dht;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId, identify, kad};
use tokio::time::Instant;

use super::address::{self, to_core, without_peer};
use super::address_book::AddressBookUpdate;
use super::dialer::dial_of;
use super::driver::Driver;
use super::peers::PeerKind;

use dht::{Discovery, PeerSupply};

/// Addresses that a peer says it listens at, as many as are kept.
const MAX_HEARD: usize = 4;

impl Driver {
    pub(super) fn next_peer_search(&self) -> Option<Instant> {
        let asks = self.discovery.as_ref().map(Discovery::next);
        [asks, Some(self.dialer.next()), self.peers.next_idle_non_chain_peer()].into_iter().flatten().min()
    }

    pub(super) fn find_peers(&mut self, now: Instant) {
        self.dial_from_address_book(now);
        self.ask_dht(now);
        for peer in self.peers.take_idle_non_chain_peers(now) {
            if !self.swarm.behaviour().gate.table.is_exempt(&to_core(peer)) {
                tracing::debug!(%peer, "a peer does not speak our protocol, and is disconnected");
                // It may have gone by itself.
                let _ = self.swarm.disconnect_peer_id(peer);
            }
        }
    }

    /// How many more peers of our own choice we want.
    fn lacking(&self) -> usize {
        self.dialer.quota().saturating_sub(self.swarm.behaviour().gate.table.outbound())
    }

    fn dial_from_address_book(&mut self, now: Instant) {
        let (unix, swarm) = (self.unix(), &self.swarm);
        let table = &swarm.behaviour().gate.table;
        let local = *swarm.local_peer_id();
        let may = |peer: &PeerId, ip| {
            *peer != local
                && !swarm.is_connected(peer)
                && !table.is_exempt(&to_core(*peer))
                && table.may_dial(Some(&to_core(*peer)), &[ip], unix).is_ok()
        };
        let due = self.dialer.choose(&self.address_book, table.outbound(), &table.outbound_subnets(), may, now);
        for (peer, addresses) in due {
            if let Err(error) = self.swarm.dial(dial_of(peer, addresses)) {
                tracing::debug!(%peer, %error, "a known peer cannot be dialled now");
                self.dialer.failed(peer, now);
            }
        }
    }

    fn ask_dht(&mut self, now: Instant) {
        let supply = if self.lacking() > 0 { PeerSupply::Lacking } else { PeerSupply::Enough };
        if let (Some(discovery), Some(kad)) = (&mut self.discovery, self.swarm.behaviour_mut().kad.as_mut()) {
            discovery.ask_if_due(kad, supply, now);
        }
    }

    /// A peer has told what it is.
    pub(super) fn met(&mut self, peer: PeerId, info: &identify::Info, kind: PeerKind) {
        // Only what we could dial: an address that names a host would have us ask for any name that a stranger likes.
        let transports = self.transports;
        let usable = |address: &&Multiaddr| {
            address::parse(&address.to_string()).is_ok_and(|address| !address.is_named() && transports.reach(&address))
        };
        let listens: Vec<_> = info.listen_addrs.iter().filter(usable).map(without_peer).take(MAX_HEARD).collect();
        if let (Some(discovery), Some(kad)) = (&mut self.discovery, self.swarm.behaviour_mut().kad.as_mut()) {
            discovery.met(kad, peer, &info.protocols, &listens, Instant::now());
        }
        if kind == PeerKind::Chain {
            for address in &listens {
                if self.address_book.heard_of(peer, &address.to_string()) == AddressBookUpdate::Changed {
                    self.address_book_writer.soon(Instant::now());
                }
            }
        }
    }

    pub(super) fn on_kad(&mut self, event: kad::Event) {
        let found = match (&self.discovery, self.swarm.behaviour_mut().kad.as_mut()) {
            (Some(discovery), Some(kad)) => discovery.on_event(kad, event),
            _ => Vec::new(),
        };
        let local = *self.swarm.local_peer_id();
        for peer in found.into_iter().filter(|peer| *peer != local).take(self.lacking()) {
            // Where it is, the DHT has just been told; the gate judges each address once it is connected.
            let options = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing);
            let options =
                options.addresses(Vec::new()).extend_addresses_through_behaviour().allocate_new_port().build();
            match self.swarm.dial(options) {
                Ok(()) => tracing::debug!(%peer, "a peer was found in the DHT, and is dialled"),
                Err(error) => tracing::debug!(%peer, %error, "a peer that was found cannot be dialled now"),
            }
        }
    }
}
