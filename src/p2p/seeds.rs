//! The seeds: dialled for ever, with growing pauses, whether they were never there or went away.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::address::Address;

/// The pause after the first failure; it doubles with each further one.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// A connection that held for so long was a good one: the pauses start over.
const GOOD_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Seed {
    address: Address,
    state: State,
    /// Failed dials and short connections in a row.
    failures: u32,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Dialling(ConnectionId),
    Connected { peer: PeerId, since: Instant },
}

/// What there is to do about each seed.
#[derive(Debug)]
pub struct Seeds {
    seeds: Vec<Seed>,
    random: fastrand::Rng,
}

impl Seeds {
    /// All are due at once.
    pub fn new(addresses: Vec<Address>, now: Instant) -> Self {
        let seed = |address| Seed { address, state: State::Waiting { until: now }, failures: 0 };
        Self { seeds: addresses.into_iter().map(seed).collect(), random: fastrand::Rng::new() }
    }

    /// When the next seed is to be dialled; `None` while all are connected or being dialled.
    pub fn next_dial(&self) -> Option<Instant> {
        let waiting = |seed: &Seed| match seed.state {
            State::Waiting { until } => Some(until),
            _ => None,
        };
        self.seeds.iter().filter_map(waiting).min()
    }

    /// The seeds to be dialled now, by their index.
    pub fn due(&self, now: Instant) -> Vec<(usize, Address)> {
        let due = |seed: &Seed| matches!(seed.state, State::Waiting { until } if until <= now);
        let indexed = self.seeds.iter().enumerate();
        indexed.filter(|(_, seed)| due(seed)).map(|(index, seed)| (index, seed.address.clone())).collect()
    }

    pub fn dialling(&mut self, index: usize, connection: ConnectionId) {
        self.seeds[index].state = State::Dialling(connection);
    }

    /// It could not even be tried.
    pub fn not_dialled(&mut self, index: usize, now: Instant) {
        self.wait(index, now);
    }

    /// How long until the next try, and of which address; `None` when it was no dial of ours.
    pub fn dial_failed(&mut self, connection: ConnectionId, now: Instant) -> Option<(String, Duration)> {
        let dialled = |seed: &Seed| matches!(seed.state, State::Dialling(dialled) if dialled == connection);
        let index = self.seeds.iter().position(dialled)?;
        let pause = self.wait(index, now);
        Some((self.seeds[index].address.dial.to_string(), pause))
    }

    /// Whoever dialled: a seed that is connected is connected.
    pub fn connected(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) {
        for seed in &mut self.seeds {
            let dialled = matches!(seed.state, State::Dialling(dialled) if dialled == connection);
            let already = matches!(seed.state, State::Connected { .. });
            if dialled || (seed.address.peer == Some(peer) && !already) {
                seed.state = State::Connected { peer, since: now };
            }
        }
    }

    /// The last connection to this peer is gone.
    pub fn disconnected(&mut self, peer: PeerId, now: Instant) {
        for index in 0..self.seeds.len() {
            if let State::Connected { peer: connected, since } = self.seeds[index].state
                && connected == peer
            {
                if now.duration_since(since) >= GOOD_AFTER {
                    self.seeds[index].failures = 0;
                }
                self.wait(index, now);
            }
        }
    }

    fn wait(&mut self, index: usize, now: Instant) -> Duration {
        let seed = &mut self.seeds[index];
        let pause = SHORTEST.saturating_mul(1 << seed.failures.min(6)).min(LONGEST);
        // Up to a quarter more, so that nodes that lost a seed together do not come back together.
        let pause = pause.mul_f64(1.0 + self.random.f64() / 4.0).min(LONGEST);
        seed.failures = seed.failures.saturating_add(1);
        seed.state = State::Waiting { until: now + pause };
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::parse;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn one(peer: Option<PeerId>, now: Instant) -> Seeds {
        let address = parse("/ip4/127.0.0.1/tcp/1").expect("an address");
        Seeds::new(vec![Address { peer, ..address }], now)
    }

    fn connection(id: usize) -> ConnectionId {
        ConnectionId::new_unchecked(id)
    }

    #[test]
    fn pauses_grow_from_a_second_to_a_minute_and_never_end() {
        let mut now = Instant::now();
        let mut seeds = one(None, now);
        let mut pauses = Vec::new();
        for id in 0..12 {
            assert_eq!(seeds.due(now).len(), 1);
            seeds.dialling(0, connection(id));
            assert_eq!((seeds.due(now).len(), seeds.next_dial()), (0, None));
            assert!(seeds.dial_failed(connection(99), now).is_none());
            let (_, pause) = seeds.dial_failed(connection(id), now).expect("ours");
            assert!(seeds.due(now + pause - SECOND / 1000).is_empty());
            now += pause;
            pauses.push(pause);
        }
        assert!(pauses[0] >= SECOND && pauses[0] <= SECOND * 5 / 4, "{pauses:?}");
        assert!(pauses[3] >= 8 * SECOND && pauses[3] <= 10 * SECOND, "{pauses:?}");
        assert!(pauses[6..].iter().all(|pause| *pause == LONGEST), "{pauses:?}");
    }

    #[test]
    fn a_lost_seed_is_dialled_again_sooner_when_it_had_held() {
        let mut now = Instant::now();
        let peer = PeerId::random();
        let mut seeds = one(Some(peer), now);
        // It came by itself, and leaves at once, again and again.
        for _ in 0..5 {
            seeds.connected(peer, connection(7), now);
            assert_eq!(seeds.next_dial(), None);
            seeds.disconnected(PeerId::random(), now);
            assert_eq!(seeds.next_dial(), None);
            seeds.disconnected(peer, now);
        }
        assert!(seeds.next_dial().expect("waiting") >= now + 16 * SECOND);
        seeds.connected(peer, connection(8), now);
        now += GOOD_AFTER;
        seeds.disconnected(peer, now);
        assert!(seeds.next_dial().expect("waiting") <= now + 2 * SECOND);
    }

    #[test]
    fn a_seed_without_a_name_is_whoever_answers() {
        let now = Instant::now();
        let peer = PeerId::random();
        let mut seeds = one(None, now);
        seeds.dialling(0, connection(1));
        seeds.connected(PeerId::random(), connection(2), now);
        assert!(seeds.next_dial().is_none(), "still dialling");
        seeds.connected(peer, connection(1), now);
        seeds.disconnected(peer, now);
        assert!(seeds.next_dial().is_some());
    }
}
