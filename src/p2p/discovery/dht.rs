//! Finding peers of the chain in a Kademlia DHT, as ev-node's nodes do: each announces itself as a provider of one key, the
//! chain's rendezvous, and asks who else does.
//!
//! Invariants:
//! 1. The DHT only says where peers may be: who is found is dialled through the gate, and believed nothing.
//! 2. It keeps providers of our own key and nothing else, and is asked again for ever, with growing pauses.

use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::kad::store::{MemoryStore, MemoryStoreConfig, RecordStore as _};
use libp2p::kad::{
    self, BucketInserts, GetProvidersOk, InboundRequest, Mode, PROTOCOL_NAME, QueryResult, RecordKey, StoreInserts,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::util::backoff::Backoff;

pub type Kad = kad::Behaviour<MemoryStore>;

/// As go-libp2p announces: a provider that is silent for longer is forgotten.
const PROVIDED_FOR: Duration = Duration::from_hours(1);

/// Between two rounds while peers are lacking, and when there are enough.
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_mins(1);
const ENOUGH: Duration = Duration::from_mins(10);

/// A newly met peer of the DHT is asked this soon.
const SOON: Duration = Duration::from_millis(500);

const MAX_PROVIDERS: usize = 64;

/// Addresses of one peer that are kept for the DHT.
const MAX_ADDRESSES: usize = 4;

/// The key of a namespace: the multihash in go-libp2p's CIDv1(raw, sha2-256(namespace)), which is what Kademlia compares.
fn rendezvous(namespace: &str) -> RecordKey {
    let digest = Sha256::digest(namespace.as_bytes());
    RecordKey::new(&[&[0x12, 0x20], &digest[..]].concat())
}

/// A server is one that others can ask.
pub fn behaviour(local: PeerId, mode: Mode) -> Kad {
    let mut config = kad::Config::new(PROTOCOL_NAME);
    config
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_query_timeout(Duration::from_secs(20))
        .set_parallelism(NonZeroUsize::new(3).expect("not 0"))
        .set_provider_record_ttl(Some(PROVIDED_FOR))
        .set_provider_publication_interval(Some(PROVIDED_FOR / 2))
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_periodic_bootstrap_interval(None)
        .set_max_packet_size(16 * 1024);
    let store = MemoryStoreConfig {
        max_records: 0,
        max_value_bytes: 0,
        max_providers_per_key: MAX_PROVIDERS,
        max_provided_keys: 2,
    };
    let mut kad = Kad::with_config(local, MemoryStore::with_config(local, store), config);
    kad.set_mode(Some(mode));
    kad
}

/// Whether there are as many peers of our own choice as we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerSupply {
    Lacking,
    Enough,
}

/// When to ask, and what for.
#[derive(Debug)]
pub struct Discovery {
    key: RecordKey,
    next: Instant,
    /// Rounds in a row that began while peers were lacking.
    lacking: u32,
    random: fastrand::Rng,
}

impl Discovery {
    pub fn new(namespace: &str, now: Instant) -> Self {
        Self { key: rendezvous(namespace), next: now + SOON, lacking: 0, random: fastrand::Rng::new() }
    }

    pub fn next(&self) -> Instant {
        self.next
    }

    /// Announces and asks, if it is time.
    pub fn ask_if_due(&mut self, kad: &mut Kad, supply: PeerSupply, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + self.pause(supply);
        if kad.kbuckets().all(|bucket| bucket.is_empty()) {
            return;
        }
        // Each fails only when there is nobody to ask, or no room for our own key, which there is.
        let _ = kad.bootstrap();
        let _ = kad.start_providing(self.key.clone());
        kad.get_providers(self.key.clone());
    }

    fn pause(&mut self, supply: PeerSupply) -> Duration {
        self.lacking = match supply {
            PeerSupply::Lacking => self.lacking.saturating_add(1),
            PeerSupply::Enough => 0,
        };
        let pause = match self.lacking {
            0 => ENOUGH,
            rounds => Backoff { shortest: SHORTEST, longest: LONGEST }.pause(rounds),
        };
        // From three quarters to five, so that nodes that started together do not ask together.
        pause.mul_f64(0.75 + self.random.f64() / 2.0)
    }

    /// Somebody has told what it speaks, and where it listens.
    pub fn met(
        &mut self,
        kad: &mut Kad,
        peer: PeerId,
        speaks: &[StreamProtocol],
        addresses: &[Multiaddr],
        now: Instant,
    ) {
        if !speaks.contains(&PROTOCOL_NAME) {
            return;
        }
        let was_known =
            kad.kbucket(peer).is_some_and(|bucket| bucket.iter().any(|entry| *entry.node.key.preimage() == peer));
        for address in addresses.iter().take(MAX_ADDRESSES) {
            kad.add_address(&peer, address.clone());
        }
        if !was_known {
            self.next = self.next.min(now + SOON);
        }
    }

    /// Who was found, if that is what happened.
    pub fn on_event(&self, kad: &mut Kad, event: kad::Event) -> Vec<PeerId> {
        match event {
            kad::Event::InboundRequest { request: InboundRequest::AddProvider { record: Some(record) } } => {
                // Others' keys are not our business.
                if record.key == self.key
                    && let Err(error) = kad.store_mut().add_provider(record)
                {
                    tracing::debug!(?error, "a provider is not kept");
                }
                Vec::new()
            }
            kad::Event::OutboundQueryProgressed {
                result: QueryResult::GetProviders(Ok(GetProvidersOk::FoundProviders { key, providers })),
                ..
            } if key == self.key => providers.into_iter().take(MAX_PROVIDERS).collect(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_that_of_go_libp2p() {
        // Of the namespace `abc`, whose SHA-256 is in the standard.
        let digest = crate::block::Hash::from_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let expected = [&[0x12, 0x20], &digest.expect("a hash").0[..]].concat();
        assert_eq!(rendezvous("abc").to_vec(), expected);
    }

    #[test]
    fn it_asks_for_ever_often_while_peers_lack_and_seldom_when_not() {
        let mut now = Instant::now();
        let local = PeerId::random();
        let (mut kad, mut discovery) = (behaviour(local, Mode::Server), Discovery::new("abc", now));
        let mut pauses = Vec::new();
        for round in 0..20 {
            now = discovery.next();
            discovery.ask_if_due(&mut kad, if round < 15 { PeerSupply::Lacking } else { PeerSupply::Enough }, now);
            pauses.push(discovery.next() - now);
        }
        assert!(pauses[0] <= 2 * SHORTEST * 5 / 4, "{pauses:?}");
        assert!(pauses[..15].iter().all(|pause| *pause <= LONGEST * 5 / 4), "{pauses:?}");
        assert!(pauses[15..].iter().all(|pause| *pause >= ENOUGH * 3 / 4), "{pauses:?}");
        // Somebody new is asked soon, and the same one is not new twice.
        let (peer, address) = (PeerId::random(), "/ip4/192.0.2.1/tcp/1".parse().expect("an address"));
        discovery.met(&mut kad, peer, &[], std::slice::from_ref(&address), now);
        assert!(discovery.next() > now + SOON, "it is no peer of the DHT");
        discovery.met(&mut kad, peer, &[PROTOCOL_NAME], std::slice::from_ref(&address), now);
        assert_eq!(discovery.next(), now + SOON);
        discovery.ask_if_due(&mut kad, PeerSupply::Enough, now + SOON);
        discovery.met(&mut kad, peer, &[PROTOCOL_NAME], &[address], now + SOON);
        assert!(discovery.next() > now + 2 * SOON);
    }

    #[test]
    fn only_providers_of_our_own_key_are_kept() {
        let (mut kad, discovery) = (behaviour(PeerId::random(), Mode::Server), Discovery::new("abc", Instant::now()));
        for (namespace, kept) in [("abc", 1), ("other", 0)] {
            let record = kad::ProviderRecord::new(rendezvous(namespace), PeerId::random(), Vec::new());
            let request = InboundRequest::AddProvider { record: Some(record) };
            assert!(discovery.on_event(&mut kad, kad::Event::InboundRequest { request }).is_empty());
            assert_eq!(kad.store_mut().providers(&rendezvous(namespace)).len(), kept, "{namespace}");
        }
    }
}
