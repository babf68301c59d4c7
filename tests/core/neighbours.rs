//! A core among neighbours that answer as they are told to, each after a round trip: for what takes time, or must not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blocksyncd::block::{Hash, Height, Lane};
use blocksyncd::sync::{BlockQuery, Command, Effect, Fetch, FetchOutcome, Input, PeerId, RequestId};
use blocksyncd::verify::AuthenticBlock;

use super::driver::{Core, cancelled, fetches, peer};

/// Half of it there, half of it back.
pub const ROUND_TRIP: Duration = Duration::from_millis(100);

/// How a neighbour answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has every block from its tail on, and gives what it is asked for.
    Serves,
    /// It stores nothing. It may relay gossip all the same.
    Empty,
    /// It never answers.
    Silent,
    /// It gives its head, and nothing else.
    HeadOnly,
    /// It gives its head, and says of everything else that it is heavier than what was allowed for.
    TooHeavy,
}

#[derive(Debug)]
pub struct Neighbour {
    pub kind: Kind,
    /// What it has, ascending.
    pub blocks: Vec<AuthenticBlock>,
    /// How long it takes to answer.
    pub round_trip: Duration,
}

/// How often the core asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub heads: usize,
    pub hashes: Vec<(Duration, PeerId, Hash)>,
    pub ranges: Vec<(Duration, PeerId, u64, u64)>,
}

/// An answer on its way.
type Answer = (RequestId, Vec<AuthenticBlock>, FetchOutcome);

/// See the module's documentation.
#[derive(Debug)]
pub struct Neighbourhood {
    pub core: Core,
    pub neighbours: BTreeMap<PeerId, Neighbour>,
    pub asked: Asked,
    /// The most requests for blocks by hash that were open at once: in all, and at one peer.
    pub most_by_hash: (usize, usize),
    answers: BTreeMap<(Duration, RequestId), Answer>,
    open_by_hash: BTreeMap<RequestId, PeerId>,
}

impl Neighbourhood {
    pub fn of(core: Core) -> Self {
        Self {
            core,
            neighbours: BTreeMap::new(),
            asked: Asked::default(),
            most_by_hash: (0, 0),
            answers: BTreeMap::new(),
            open_by_hash: BTreeMap::new(),
        }
    }

    pub fn meet(&mut self, name: u8, kind: Kind, blocks: &[AuthenticBlock]) {
        self.neighbours.insert(peer(name), Neighbour { kind, blocks: blocks.to_vec(), round_trip: ROUND_TRIP });
        self.give(Input::PeerUp { peer: peer(name) });
    }

    /// The neighbour makes these blocks its own, from its tail on.
    pub fn now_has(&mut self, name: u8, blocks: &[AuthenticBlock]) {
        self.neighbours.get_mut(&peer(name)).expect("it is here").blocks = blocks.to_vec();
    }

    pub fn hears(&mut self, from: u8, block: &AuthenticBlock) {
        let outcome = self.core.syncer().rules().check(Lane::BLOCK, block.block().bytes());
        let effects = self.core.gossip_effects(from, outcome);
        self.carry_out(&effects);
    }

    pub fn give(&mut self, input: Input) {
        let effects = self.core.give(input);
        self.carry_out(&effects);
    }

    pub fn operate(&mut self, command: Command) {
        let effects = self.core.operator_may(command);
        self.carry_out(&effects);
    }

    pub fn soft(&self) -> u64 {
        self.core.heads().soft_height().map_or(0, Height::get)
    }

    /// Time passes, and everything happens that is due in it.
    pub fn pass(&mut self, time: Duration) {
        let end = self.core.elapsed() + time;
        self.run(end, |_| false);
        self.core.sleep(end.saturating_sub(self.core.elapsed()));
    }

    /// How long it takes until something is so; `None`: longer than `most`.
    pub fn takes(&mut self, most: Duration, done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.core.elapsed();
        self.run(start + most, done).then(|| self.core.elapsed().saturating_sub(start))
    }

    fn run(&mut self, end: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let mut idle = 0;
        loop {
            if done(self) {
                return true;
            }
            let answer = self.answers.keys().next().copied();
            let wakeup = self.core.next_wakeup();
            let next = answer.map(|(at, _)| at).into_iter().chain(wakeup).min().unwrap_or(end);
            if next > end {
                return false;
            }
            idle = if next > self.core.elapsed() { 0 } else { idle + 1 };
            assert!(idle < 10_000, "it is woken for ever");
            self.core.sleep(next.saturating_sub(self.core.elapsed()));
            // What waits to be read is read before a deadline is judged.
            match answer.filter(|(at, _)| *at <= next).and_then(|key| self.answers.remove(&key)) {
                Some((request, blocks, outcome)) => {
                    self.open_by_hash.remove(&request);
                    let (blocks, outcome) = self.check(blocks, outcome);
                    let effects = self.core.answer(request, &blocks, outcome);
                    self.carry_out(&effects);
                }
                None if next == end => return done(self),
                None => self.give(Input::Wakeup),
            }
        }
    }

    /// As it is checked before the core hears of it: what comes after a bad block is not looked at.
    fn check(&self, blocks: Vec<AuthenticBlock>, outcome: FetchOutcome) -> (Vec<AuthenticBlock>, FetchOutcome) {
        let mut good = Vec::new();
        for block in blocks {
            match self.core.syncer().rules().check(Lane::BLOCK, block.block().bytes()) {
                Ok(block) => good.push(block),
                Err(fault) => return (good, FetchOutcome::Invalid(Some(fault))),
            }
        }
        (good, outcome)
    }

    fn carry_out(&mut self, effects: &[Effect]) {
        for request in cancelled(effects) {
            self.answers.retain(|(_, open), _| *open != request);
            self.open_by_hash.remove(&request);
        }
        for fetch in fetches(effects) {
            self.note(&fetch);
            let Some(neighbour) = self.neighbours.get(&fetch.peer) else { continue };
            let (after, blocks, outcome) = neighbour.answer(&fetch);
            let at = self.core.elapsed() + after;
            self.answers.insert((at, fetch.request), (fetch.request, blocks, outcome));
        }
    }

    fn note(&mut self, fetch: &Fetch) {
        let (now, peer) = (self.core.elapsed(), fetch.peer.clone());
        match fetch.query {
            BlockQuery::Head => self.asked.heads += 1,
            BlockQuery::Range { from, amount } => self.asked.ranges.push((now, peer, from.get(), amount)),
            BlockQuery::Hash(hash) => {
                self.open_by_hash.insert(fetch.request, peer.clone());
                let peers: BTreeSet<_> = self.open_by_hash.values().collect();
                let at = |peer: &PeerId| self.open_by_hash.values().filter(|other| *other == peer).count();
                let most = peers.into_iter().map(at).max().unwrap_or(0);
                let (all, one) = self.most_by_hash;
                self.most_by_hash = (all.max(self.open_by_hash.len()), one.max(most));
                self.asked.hashes.push((now, peer, hash));
            }
        }
    }
}

impl Neighbour {
    /// What it answers, and after how long.
    fn answer(&self, fetch: &Fetch) -> (Duration, Vec<AuthenticBlock>, FetchOutcome) {
        let never = (fetch.timeout, Vec::new(), FetchOutcome::Timeout);
        let end = |outcome| (self.round_trip, Vec::new(), outcome);
        match (self.kind, fetch.query) {
            (Kind::Silent, _) | (Kind::HeadOnly, BlockQuery::Range { .. } | BlockQuery::Hash(_)) => never,
            (Kind::Empty, BlockQuery::Hash(_) | BlockQuery::Head) => end(FetchOutcome::NotFound),
            (Kind::Empty, BlockQuery::Range { .. }) => end(FetchOutcome::Reset),
            (Kind::TooHeavy, BlockQuery::Range { .. } | BlockQuery::Hash(_)) => end(FetchOutcome::Cut),
            (Kind::Serves | Kind::HeadOnly | Kind::TooHeavy, query) => match self.find(query) {
                found if found.is_empty() => end(FetchOutcome::NotFound),
                found => (self.round_trip, found, FetchOutcome::Complete),
            },
        }
    }

    fn find(&self, query: BlockQuery) -> Vec<AuthenticBlock> {
        match query {
            BlockQuery::Head => self.blocks.last().cloned().into_iter().collect(),
            BlockQuery::Hash(hash) => {
                self.blocks.iter().find(|block| block.hash() == hash).cloned().into_iter().collect()
            }
            BlockQuery::Range { from, amount } => {
                let begins_here = self.blocks.first().is_some_and(|first| first.height() <= from);
                let asked =
                    self.blocks.iter().filter(|block| block.height() >= from && block.height() < from.plus(amount));
                if begins_here { asked.cloned().collect() } else { Vec::new() }
            }
        }
    }
}
