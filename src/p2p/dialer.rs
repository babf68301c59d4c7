//! Whom to dial, so that we always have some peers of our own choice, whoever dials us.
//!
//! Invariants:
//! 1. Peers from subnets that we have not dialled yet go first; then who gave us most, then who was there last.
//! 2. Who could not be reached is tried again later and later, and never more than [`AT_ONCE`] are tried at a time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::address::ip_of;
use super::address_book::{AddressBook, AddressEntry, MAX_PEERS};
use super::gate::Subnet;
use crate::util::backoff::Backoff;

const AT_ONCE: usize = 4;

/// How often it is looked whether there are enough.
const EVERY: Duration = Duration::from_secs(5);

const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_hours(1);

/// A dial of a peer at these places, if it is neither connected nor being dialled. From a new port: the listener's own may still
/// wait for the last connection to this very peer to be forgotten.
pub fn dial_of(peer: PeerId, places: Vec<Multiaddr>) -> DialOpts {
    let options = DialOpts::peer_id(peer).condition(PeerCondition::DisconnectedAndNotDialing);
    options.addresses(places).allocate_new_port().build()
}

/// Somebody who may be dialled.
struct Dialable {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    /// Of the first of the addresses.
    subnet: Subnet,
    /// The magnitude of what it gave us, then when it was there last.
    worth: (Option<u32>, Option<Duration>),
}

#[derive(Debug)]
pub struct Dialer {
    /// The number of peers that we want to have dialled.
    quota: usize,
    next: Instant,
    /// Who could not be reached: how often in a row, and until when it is left alone.
    failed: HashMap<PeerId, (u32, Instant)>,
    random: fastrand::Rng,
}

impl Dialer {
    pub fn new(quota: usize, now: Instant) -> Self {
        Self { quota, next: now + EVERY / 5, failed: HashMap::new(), random: fastrand::Rng::new() }
    }

    pub const fn quota(&self) -> usize {
        self.quota
    }

    pub const fn next(&self) -> Instant {
        self.next
    }

    /// Chooses who is to be dialled now, and where; nobody until it is time again. `have`: outbound connections; `may`: whether
    /// somebody, at an address, may be dialled at all, and is not connected.
    pub fn choose<F>(
        &mut self,
        book: &AddressBook,
        have: usize,
        subnets: &BTreeSet<Subnet>,
        may: F,
        now: Instant,
    ) -> Vec<(PeerId, Vec<Multiaddr>)>
    where
        F: Fn(&PeerId, IpAddr) -> bool,
    {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + EVERY.mul_f64(0.75 + self.random.f64() / 2.0);
        let wanted = self.quota.saturating_sub(have).min(AT_ONCE);
        if wanted == 0 {
            return Vec::new();
        }
        let mut found = self.dialable(book, may, now);
        // Those that are worth the same in any order: nobody can put itself first by its name.
        self.random.shuffle(&mut found);
        found.sort_by_key(|found| (subnets.contains(&found.subnet), Reverse(found.worth)));
        let mut taken = subnets.clone();
        let (fresh, same): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| taken.insert(found.subnet));
        fresh.into_iter().chain(same).take(wanted).map(|found| (found.peer, found.addresses)).collect()
    }

    /// Everybody in the address book who may be dialled now.
    fn dialable<F>(&self, book: &AddressBook, may: F, now: Instant) -> Vec<Dialable>
    where
        F: Fn(&PeerId, IpAddr) -> bool,
    {
        let rests = |peer: &PeerId| self.failed.get(peer).is_some_and(|(_, until)| now < *until);
        let dialable = |(peer, entry): (&PeerId, &AddressEntry)| {
            let addresses = entry.dialable(|ip| may(peer, ip));
            let subnet = Subnet::around(addresses.first().and_then(ip_of)?);
            let worth = (entry.blocks.checked_ilog2(), entry.last_success);
            Some(Dialable { peer: *peer, addresses, subnet, worth })
        };
        book.iter().filter(|(peer, entry)| !entry.added && !rests(peer)).filter_map(dialable).collect()
    }

    pub fn failed(&mut self, peer: PeerId, now: Instant) {
        if self.failed.len() >= MAX_PEERS {
            self.failed.retain(|_, (_, until)| now < *until);
        }
        if self.failed.len() < MAX_PEERS {
            let (failures, until) = self.failed.entry(peer).or_insert((0, now));
            *until = now + Backoff { shortest: SHORTEST, longest: LONGEST }.pause(*failures);
            *failures = failures.saturating_add(1);
        }
    }

    pub fn reached(&mut self, peer: &PeerId) {
        self.failed.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: Duration = Duration::from_secs(1_700_000_000);

    fn book(list: &[(&str, u64)]) -> (AddressBook, Vec<PeerId>) {
        let mut book = AddressBook::default();
        let peers = list.iter().map(|(ip, blocks)| {
            let peer = PeerId::random();
            book.reached(peer, Some(&format!("/ip4/{ip}/tcp/1")), UNIX);
            book.gave(&peer, *blocks, 0);
            peer
        });
        let peers = peers.collect();
        (book, peers)
    }

    /// The places in the list of who is dialled.
    fn dialled(dialer: &mut Dialer, book: &AddressBook, peers: &[PeerId], have: usize, near: &[&str]) -> Vec<usize> {
        let subnets = near.iter().filter_map(|ip| Some(Subnet::around(ip.parse().ok()?))).collect();
        let now = dialer.next();
        let due = dialer.choose(book, have, &subnets, |_, ip| ip != IpAddr::from([9, 9, 9, 9]), now);
        due.iter().filter_map(|(peer, _)| peers.iter().position(|known| known == peer)).collect()
    }

    #[test]
    fn new_subnets_first_then_the_useful() {
        let list = [("10.0.0.1", 1000), ("10.0.0.2", 0), ("10.0.1.1", 1), ("10.0.2.1", 100), ("9.9.9.9", 9999)];
        let (book, peers) = book(&list);
        for (have, near, expected) in [
            (0, &[][..], vec![0, 3, 2, 1]),
            (2, &[], vec![0, 3]),
            (4, &[], vec![]),
            (9, &[], vec![]),
            (0, &["10.0.0.9"], vec![3, 2, 0, 1]),
        ] {
            let mut dialer = Dialer::new(4, Instant::now());
            assert_eq!(dialled(&mut dialer, &book, &peers, have, near), expected, "{have} {near:?}");
        }
    }

    #[test]
    fn who_is_not_there_is_tried_later_and_later() {
        let (book, peers) = book(&[("10.0.0.1", 1)]);
        let mut dialer = Dialer::new(4, Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let began = dialer.next();
            while dialled(&mut dialer, &book, &peers, 0, &[]).is_empty() {}
            pauses.push(dialer.next() - began);
            let now = dialer.next();
            dialer.failed(peers[0], now);
        }
        assert!(pauses[1] + 2 * EVERY >= SHORTEST && pauses[1] <= SHORTEST + 3 * EVERY, "{pauses:?}");
        assert!(pauses[11] + 2 * EVERY >= LONGEST && pauses[11] <= LONGEST + 3 * EVERY, "{pauses:?}");
        dialer.reached(&peers[0]);
        assert_eq!(dialled(&mut dialer, &book, &peers, 0, &[]), [0]);
    }
}
