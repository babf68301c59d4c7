//! The seeds: dialled for ever, with growing pauses, whether they were never there or went away.

use std::time::Duration;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tokio::time::Instant;

use super::address::Address;
use crate::util::backoff::Backoff;

/// The pause after the first failure; it doubles with each further one.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// A connection that held for so long was a good one: the pauses start over.
const GOOD_AFTER: Duration = Duration::from_mins(1);

/// One address that is dialled for ever; stays the same while others come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedId(u64);

/// Who named a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddedBy {
    Settings,
    /// While the node ran: what was added so can be removed again.
    Operator,
}

#[derive(Debug)]
struct SeedState {
    id: SeedId,
    address: Address,
    added_by: AddedBy,
    state: DialState,
    /// Failed dials and short connections in a row.
    failures: u32,
    /// Whether anything has become of it since [`Seeds::try_all`].
    tried: Tried,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tried {
    No,
    Yes,
}

#[derive(Debug)]
enum DialState {
    Waiting {
        until: Instant,
    },
    /// Its host's name is being looked up.
    Resolving,
    Dialling(ConnectionId),
    Connected {
        peer: PeerId,
        since: Instant,
    },
}

/// What there is to do about each seed.
#[derive(Debug)]
pub struct Seeds {
    all: Vec<SeedState>,
    next: u64,
    random: fastrand::Rng,
}

impl Seeds {
    /// All are due at once.
    pub fn new(addresses: Vec<Address>, now: Instant) -> Self {
        let mut seeds = Self { all: Vec::new(), next: 0, random: fastrand::Rng::new() };
        for address in addresses {
            seeds.add(address, AddedBy::Settings, now);
        }
        seeds
    }

    /// One more, due at once; the same address is not dialled twice.
    pub fn add(&mut self, address: Address, added_by: AddedBy, now: Instant) {
        if self.all.iter().any(|seed| seed.address == address) {
            return;
        }
        let id = SeedId(self.next);
        self.next += 1;
        let state = DialState::Waiting { until: now };
        self.all.push(SeedState { id, address, added_by, state, failures: 0, tried: Tried::No });
    }

    /// Those of its addresses that the operator added are not dialled any more.
    pub fn remove_added(&mut self, peer: PeerId) {
        self.all.retain(|seed| seed.added_by == AddedBy::Settings || seed.address.peer != Some(peer));
    }

    /// It is here already: nothing is to be dialled.
    pub fn mark_connected(&mut self, peer: PeerId, now: Instant) {
        for seed in self.all.iter_mut().filter(|seed| seed.address.peer == Some(peer)) {
            seed.connected(peer, now);
        }
    }

    /// None waits for its pause to be over.
    pub fn try_all(&mut self, now: Instant) {
        for seed in &mut self.all {
            match &mut seed.state {
                DialState::Connected { .. } => continue,
                DialState::Waiting { until } => *until = now,
                DialState::Resolving | DialState::Dialling(_) => {}
            }
            seed.tried = Tried::No;
        }
    }

    /// Whether each was reached, or could not be, since [`Seeds::try_all`].
    pub fn all_tried(&self) -> bool {
        self.all.iter().all(|seed| seed.tried == Tried::Yes)
    }

    pub fn connected_peers(&self) -> impl Iterator<Item = PeerId> {
        self.all.iter().filter_map(|seed| match seed.state {
            DialState::Connected { peer, .. } => Some(peer),
            _ => None,
        })
    }

    /// Whether one of them is said to be this peer.
    pub fn names(&self, peer: PeerId) -> bool {
        self.all.iter().any(|seed| seed.address.peer == Some(peer))
    }

    /// When the next seed is to be dialled; `None` while all are connected or being dialled.
    pub fn next_dial(&self) -> Option<Instant> {
        let waiting = |seed: &SeedState| match seed.state {
            DialState::Waiting { until } => Some(until),
            _ => None,
        };
        self.all.iter().filter_map(waiting).min()
    }

    /// The seeds to be dialled now.
    pub fn due(&self, now: Instant) -> Vec<(SeedId, Address)> {
        let due = |seed: &&SeedState| matches!(seed.state, DialState::Waiting { until } if until <= now);
        self.all.iter().filter(due).map(|seed| (seed.id, seed.address.clone())).collect()
    }

    pub fn mark_resolving(&mut self, id: SeedId) {
        if let Some(seed) = self.all.iter_mut().find(|seed| seed.id == id) {
            seed.state = DialState::Resolving;
        }
    }

    /// Whether it still waits for its host to be found.
    pub fn is_resolving(&self, id: SeedId) -> bool {
        self.all.iter().any(|seed| seed.id == id && matches!(seed.state, DialState::Resolving))
    }

    pub fn mark_dialling(&mut self, id: SeedId, connection: ConnectionId) {
        if let Some(seed) = self.all.iter_mut().find(|seed| seed.id == id) {
            seed.state = DialState::Dialling(connection);
        }
    }

    /// It could not even be tried.
    pub fn not_dialled(&mut self, id: SeedId, now: Instant) {
        if let Some(index) = self.all.iter().position(|seed| seed.id == id) {
            self.wait(index, now);
        }
    }

    /// How long until the next try, and of which address; `None` when it was no dial of ours.
    pub fn dial_failed(&mut self, connection: ConnectionId, now: Instant) -> Option<(String, Duration)> {
        let dialled = |seed: &SeedState| matches!(seed.state, DialState::Dialling(dialled) if dialled == connection);
        let index = self.all.iter().position(dialled)?;
        let pause = self.wait(index, now);
        Some((self.all[index].address.dial.to_string(), pause))
    }

    /// Whoever dialled: a seed that is connected is connected.
    pub fn connected(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) {
        for seed in &mut self.all {
            let dialled = matches!(seed.state, DialState::Dialling(dialled) if dialled == connection);
            let already = matches!(seed.state, DialState::Connected { .. });
            if dialled || (seed.address.peer == Some(peer) && !already) {
                seed.connected(peer, now);
            }
        }
    }

    /// Whether this peer, which is connected, is a seed.
    pub fn includes(&self, peer: PeerId) -> bool {
        self.all.iter().any(|seed| matches!(seed.state, DialState::Connected { peer: known, .. } if known == peer))
    }

    /// The last connection to this peer is gone.
    pub fn disconnected(&mut self, peer: PeerId, now: Instant) {
        for index in 0..self.all.len() {
            if let DialState::Connected { peer: connected, since } = self.all[index].state
                && connected == peer
            {
                if now.duration_since(since) >= GOOD_AFTER {
                    self.all[index].failures = 0;
                }
                self.wait(index, now);
            }
        }
    }

    fn wait(&mut self, index: usize, now: Instant) -> Duration {
        let seed = &mut self.all[index];
        let pause = Backoff { shortest: SHORTEST, longest: LONGEST }.pause(seed.failures);
        // Up to a quarter more, so that nodes that lost a seed together do not come back together.
        let pause = pause.mul_f64(1.0 + self.random.f64() / 4.0).min(LONGEST);
        seed.failures = seed.failures.saturating_add(1);
        seed.state = DialState::Waiting { until: now + pause };
        seed.tried = Tried::Yes;
        pause
    }
}

impl SeedState {
    fn connected(&mut self, peer: PeerId, now: Instant) {
        self.state = DialState::Connected { peer, since: now };
        self.tried = Tried::Yes;
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
            seeds.mark_dialling(SeedId(0), connection(id));
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
    fn seeds_come_and_go_while_it_runs() {
        let (now, [peer, other]) = (Instant::now(), [PeerId::random(), PeerId::random()]);
        let mut seeds = one(Some(peer), now);
        let address = |peer| Address { peer: Some(peer), ..parse("/ip4/127.0.0.1/tcp/2").expect("an address") };
        seeds.add(address(peer), AddedBy::Operator, now);
        seeds.add(address(other), AddedBy::Operator, now);
        seeds.add(address(other), AddedBy::Operator, now);
        let due = seeds.due(now);
        assert_eq!(due.len(), 3, "none twice");
        seeds.remove_added(peer);
        seeds.mark_dialling(due[1].0, connection(1));
        seeds.not_dialled(due[1].0, now);
        let left: Vec<_> = [0, 2].map(|place: usize| due[place].clone()).into();
        assert_eq!(seeds.due(now), left, "what is gone is gone, and the others are still themselves");
        seeds.mark_connected(other, now);
        seeds.mark_connected(peer, now);
        assert_eq!(seeds.next_dial(), None);
    }

    #[test]
    fn a_seed_without_a_name_is_whoever_answers() {
        let now = Instant::now();
        let peer = PeerId::random();
        let mut seeds = one(None, now);
        seeds.mark_dialling(SeedId(0), connection(1));
        seeds.connected(PeerId::random(), connection(2), now);
        assert!(seeds.next_dial().is_none(), "still dialling");
        seeds.connected(peer, connection(1), now);
        seeds.disconnected(peer, now);
        assert!(seeds.next_dial().is_some());
    }
}
