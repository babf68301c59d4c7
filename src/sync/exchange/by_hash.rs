//! Blocks that are asked for by their hashes, which nobody need have.
//!
//! Invariants:
//! 1. A hash that nobody has stops nothing: requests by hash have slots of their own, and take none of the room, none of the bytes
//!    and none of the turns that ranges have; and of the hashes the one that was tried least has the first turn. What comes of
//!    them says nothing of how a peer serves ranges.
//! 2. Bounded: so many hashes, requests in all, at one peer, and for one hash, as the constants here say. Who was asked in vain
//!    is remembered while it is connected.
//! 3. That a peer has not the block is no failure of the peer's. Each peer is asked once; then, one at a time, those again who were
//!    asked the longest ago, after a pause that grows. Whoever is new, or has another head, is asked at once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::peers::Peer;
use super::{Exchange, Timing};
use crate::block::Hash;
use crate::sync::decision::Decision;
use crate::sync::{BlockQuery, PeerId};
use crate::util::backoff::Backoff;

/// Hashes that are looked for at a time, the first of those that are wanted.
pub(in crate::sync) const MAX_HASHES: usize = 64;
/// Requests by hash that are open at a time: in all,
const MAX_OPEN: usize = 16;
/// at one peer,
const MAX_OPEN_PER_PEER: usize = 3;
/// and for one hash. More than one only while those who were asked first do not answer.
const MAX_OPEN_PER_HASH: usize = 8;
/// No pause before a hash is asked for again is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is looked for.
#[derive(Debug, Default)]
pub(super) struct Searches(BTreeMap<Hash, Search>);

/// Where a block was looked for.
#[derive(Debug, Default)]
struct Search {
    /// Who was asked in vain, and when last.
    in_vain: BTreeMap<PeerId, Duration>,
    /// How often it was asked of anybody.
    tries: u32,
    /// How often it was asked of somebody again.
    repeats: u32,
    /// When it may be asked of somebody again.
    again_at: Duration,
}

impl Searches {
    /// These are looked for, and no others.
    fn keep(&mut self, wanted: &[Hash]) {
        self.0.retain(|hash, _| wanted.contains(hash));
        for hash in wanted {
            self.0.entry(*hash).or_default();
        }
    }

    fn tries(&self, hash: Hash) -> u32 {
        self.0.get(&hash).map_or(0, |search| search.tries)
    }

    fn note_try(&mut self, hash: Hash) {
        if let Some(search) = self.0.get_mut(&hash) {
            search.tries = search.tries.saturating_add(1);
        }
    }

    /// The peer was asked for it, and did not give it.
    pub fn note_in_vain(&mut self, hash: Hash, peer: &PeerId, now: Duration, timing: Timing) {
        let Some(search) = self.0.get_mut(&hash) else { return };
        if search.in_vain.insert(peer.clone(), now).is_some() {
            search.repeats = search.repeats.saturating_add(1);
        }
        let pauses = Backoff { shortest: timing.backoff_min, longest: timing.backoff_max.min(LONGEST_PAUSE) };
        search.again_at = now + pauses.pause(search.repeats);
    }

    /// The peer is gone, or may have got what it had not.
    pub fn forget_peer(&mut self, peer: &PeerId) {
        for search in self.0.values_mut() {
            search.in_vain.remove(peer);
        }
    }
}

impl Search {
    /// When the peer was asked for it in vain.
    fn asked_in_vain(&self, peer: &PeerId) -> Option<Duration> {
        self.in_vain.get(peer).copied()
    }

    fn may_be_asked(&self, peer: &PeerId, now: Duration) -> bool {
        self.again_at <= now || !self.in_vain.contains_key(peer)
    }
}

impl Exchange {
    /// Asks for the blocks with these hashes, wherever they may be: those first that were tried least, and among equals in the
    /// order given. Each call names all that are wanted: what it does not name is not looked for any more.
    pub fn ask_for_hashes(&mut self, now: Duration, wanted: &[Hash], decision: &mut Decision) {
        let wanted = &wanted[..wanted.len().min(MAX_HASHES)];
        self.searches.keep(wanted);
        // What was tried least has the first turn: a hash that nobody has may be tried for ever.
        let mut turns = wanted.to_vec();
        turns.sort_by_key(|hash| self.searches.tries(*hash));
        for hash in turns {
            if self.requests.by_any_hash() >= MAX_OPEN {
                return;
            }
            self.ask_for_hash(now, hash, decision);
        }
    }

    fn ask_for_hash(&mut self, now: Duration, hash: Hash, decision: &mut Decision) {
        let asked: Vec<_> = self.requests.by_hash(hash).map(|open| (open.sent, open.peer.clone())).collect();
        if !asked.is_empty() {
            match self.hedge_due(&asked, self.timing.hedge_after).filter(|_| asked.len() < MAX_OPEN_PER_HASH) {
                Some(due) if now >= due => {}
                Some(due) => return self.look_again(due),
                None => return,
            }
        }
        let Some(search) = self.searches.0.get(&hash) else { return };
        let (again_at, is_repeated) = (search.again_at, !search.in_vain.is_empty());
        let Some(peer) = self.who_may_have(now, search, &asked) else {
            if is_repeated && again_at > now {
                self.look_again(again_at);
            }
            return;
        };
        self.searches.note_try(hash);
        self.send(self.request(now, &peer, BlockQuery::Hash(hash), self.max_block_bytes), decision);
        self.look_again(now + self.timing.hedge_after);
    }

    /// The best peer that can be asked now.
    fn who_may_have(&self, now: Duration, search: &Search, asked: &[(Duration, PeerId)]) -> Option<PeerId> {
        let order = |id: &PeerId, peer: &Peer| {
            (search.asked_in_vain(id), peer.rest_until() > now, !peer.serves(), !peer.gave_head(), peer.cost())
        };
        let able = self.peers.iter().filter(|(id, peer)| {
            peer.open_by_hash() < MAX_OPEN_PER_PEER
                && search.may_be_asked(id, now)
                && !asked.iter().any(|(_, asked)| asked == *id)
        });
        able.min_by_key(|(id, peer)| order(id, peer)).map(|(id, _)| id.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Height;
    use crate::clock::Now;
    use crate::sync::decision::Decision;
    use crate::sync::exchange::AnswerUse;
    use crate::sync::exchange::Missing;
    use crate::sync::{Effect, Heads, Limits, RequestId};

    fn hashes(count: u8) -> Vec<Hash> {
        (0..count).map(|name| Hash::of(&[name])).collect()
    }

    /// Among so many peers, each asked for its head.
    fn exchange_among(peers: u8) -> (Exchange, Decision) {
        let mut exchange = Exchange::new(Limits::default(), Timing::default(), 1 << 20, 7);
        for name in 0..peers {
            exchange.peer_up(PeerId::new(&[name]), Duration::ZERO);
        }
        (exchange, Decision::new(Heads::empty(Height::MIN), Vec::new()))
    }

    fn asked(decision: &mut Decision) -> Vec<(RequestId, PeerId, Hash)> {
        let effects = decision.take_effects(Heads::empty(Height::MIN));
        let by_hash = |effect| match effect {
            Effect::Fetch(fetch) => match fetch.query {
                BlockQuery::Hash(hash) => Some((fetch.request, fetch.peer, hash)),
                _ => None,
            },
            _ => None,
        };
        effects.into_iter().filter_map(by_hash).collect()
    }

    fn answer(exchange: &mut Exchange, request: RequestId, used: AnswerUse, decision: &mut Decision) {
        let now = Now { elapsed: Duration::ZERO, unix_nanos: 0 };
        let open = exchange.take(request).expect("it is open");
        exchange.settle(now, open, used, Missing { next: Height::MIN }, decision);
    }

    #[test]
    fn slots_are_bounded_at_a_peer_and_in_all_and_the_first_hashes_come_first() {
        for (peers, hashes_wanted, expected) in [(1, 2, 2), (1, 9, 3), (3, 40, 9), (9, 40, 16), (9, 255, 16)] {
            let (mut exchange, mut decision) = exchange_among(peers);
            let wanted = hashes(hashes_wanted);
            exchange.ask_for_hashes(Duration::ZERO, &wanted, &mut decision);
            let asked: Vec<_> = asked(&mut decision).into_iter().map(|(.., hash)| hash).collect();
            assert_eq!(asked, wanted[..expected], "{peers} peers");
            assert!(exchange.searches.0.len() <= MAX_HASHES);
        }
    }

    /// Nobody answers: two hashes have taken every slot before the others are wanted.
    #[test]
    fn a_hash_that_nobody_has_takes_no_other_ones_turn() {
        let (mut exchange, mut decision) = exchange_among(50);
        let mut open = std::collections::VecDeque::new();
        for second in 0..20 {
            let now = Duration::from_secs(second);
            exchange.ask_for_hashes(now, &hashes(2), &mut decision);
            open.extend(asked(&mut decision));
        }
        assert_eq!(open.len(), 16);
        let mut found = BTreeMap::new();
        for second in 20..60 {
            let now = Duration::from_secs(second);
            let (request, ..) = open.pop_front().expect("all slots are taken");
            answer(&mut exchange, request, AnswerUse::InVain, &mut decision);
            exchange.ask_for_hashes(now, &hashes(6), &mut decision);
            for (request, peer, hash) in asked(&mut decision) {
                open.push_back((request, peer, hash));
                *found.entry(hash).or_insert(0) += 1;
            }
        }
        assert!(hashes(6)[2..].iter().all(|hash| found.get(hash) >= Some(&4)), "{found:?}");
    }

    #[test]
    fn a_hash_that_nobody_has_gives_its_slot_to_the_next() {
        let (mut exchange, mut decision) = exchange_among(1);
        let wanted = hashes(6);
        exchange.ask_for_hashes(Duration::ZERO, &wanted, &mut decision);
        for (request, ..) in asked(&mut decision) {
            answer(&mut exchange, request, AnswerUse::InVain, &mut decision);
        }
        exchange.ask_for_hashes(Duration::ZERO, &wanted, &mut decision);
        let asked: Vec<_> = asked(&mut decision).into_iter().map(|(.., hash)| hash).collect();
        assert_eq!(asked, wanted[3..]);
    }

    #[test]
    fn what_is_not_wanted_any_more_is_forgotten_and_so_is_who_left() {
        let (mut exchange, mut decision) = exchange_among(2);
        exchange.ask_for_hashes(Duration::ZERO, &hashes(2), &mut decision);
        for (request, ..) in asked(&mut decision) {
            answer(&mut exchange, request, AnswerUse::InVain, &mut decision);
        }
        assert_eq!(exchange.searches.0.values().map(|search| search.in_vain.len()).sum::<usize>(), 2);
        exchange.peer_down(&PeerId::new(&[0]), Missing { next: Height::MIN });
        exchange.peer_down(&PeerId::new(&[1]), Missing { next: Height::MIN });
        assert_eq!(exchange.searches.0.values().map(|search| search.in_vain.len()).sum::<usize>(), 0);
        exchange.ask_for_hashes(Duration::ZERO, &hashes(1), &mut decision);
        assert_eq!(exchange.searches.0.len(), 1);
    }
}
