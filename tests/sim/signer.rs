//! What a node must have heard, and waited for, when it signs: written from the promise alone, by what passes into this life of the
//! node and out of it.
//!
//! Invariants:
//! 1. Since its start, and since its chain was cut last, each connected peer has answered a request for its head that was made
//!    since, and anybody has; or half a minute has passed; or nobody is known.
//! 2. It was told of no block at or above the one that it signs, but of that one, and of those that were given up, or stand on what was, or on another
//!    block than its own where DA has decided.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use blocksyncd::block::{BlockId, Hash, Height, native};
use blocksyncd::sync::{
    BlockQuery, Change, Content, Disowned, DisownedBy, Effect, FetchOutcome, Found, Input, PeerId, Recovered, RequestId,
};
use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::world::World;

/// Whoever does not answer holds signing up for no longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came to the ears of one life of a node.
#[derive(Debug, Default)]
pub struct Heard {
    began: Duration,
    connected: BTreeSet<PeerId>,
    /// Requests for a head that were made since the round began.
    asked: BTreeMap<RequestId, PeerId>,
    answered: BTreeSet<PeerId>,
    knows_somebody: bool,
    has_an_answer: bool,
    told: BTreeMap<Height, BTreeSet<Hash>>,
    given_up: BTreeSet<BlockId>,
    /// So many blocks it may have known of from its start.
    recalled: usize,
}

impl Heard {
    /// A life begins, in which these blocks are given up already.
    pub fn from(now: Duration, at: &Recovered) -> Self {
        let recalled = 2 * at.evidence.len() + at.proved.len() + at.sightings.len() + at.disowned.len();
        let mut heard = Self { began: now, recalled, ..Self::default() };
        for disowned in &at.disowned {
            heard.give_up(disowned);
        }
        heard
    }

    /// What was taken back for a name on DA is waited for all the same.
    fn give_up(&mut self, disowned: &Disowned) {
        if disowned.by == DisownedBy::Name {
            self.given_up.remove(&disowned.id);
        } else {
            self.given_up.insert(disowned.id);
        }
    }

    pub fn has_given_up(&self, id: BlockId) -> bool {
        self.given_up.contains(&id)
    }

    fn told(&mut self, block: &AuthenticBlock) {
        self.told.entry(block.height()).or_default().insert(block.hash());
    }

    pub fn input(&mut self, input: &Input) {
        match input {
            Input::PeerUp { peer } => {
                self.connected.insert(peer.clone());
                self.knows_somebody = true;
            }
            Input::PeerDown { peer } => {
                self.connected.remove(peer);
                self.answered.remove(peer);
            }
            Input::Gossip { outcome: Ok(block), .. } => self.told(block),
            Input::Fetched { request, fetched } => {
                fetched.blocks.iter().for_each(|block| self.told(block));
                let has_answered = !fetched.blocks.is_empty()
                    || matches!(fetched.outcome, FetchOutcome::NotFound | FetchOutcome::Invalid(_));
                if let Some(peer) = self.asked.remove(request).filter(|_| has_answered) {
                    self.answered.insert(peer);
                    self.has_an_answer = true;
                }
            }
            Input::Da { report, .. } => {
                for finding in &report.findings {
                    if let Found::Bytes { content: Content::Block(block), .. } = &finding.what {
                        self.told(block);
                    }
                }
            }
            _ => {}
        }
    }

    /// Its chain was cut: the peers are to be asked anew.
    pub fn asks_anew(&mut self, now: Duration) {
        (self.began, self.has_an_answer) = (now, false);
        self.asked.clear();
        self.answered.clear();
    }

    fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Fetch(fetch) if fetch.query == BlockQuery::Head => {
                self.asked.insert(fetch.request, fetch.peer.clone());
            }
            Effect::Commit(batch) => {
                for change in &batch.changes {
                    match change {
                        Change::Disown(disowned) => self.give_up(disowned),
                        Change::Own(id) => drop(self.given_up.remove(id)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn has_heard_enough(&self, now: Duration) -> bool {
        let all = self.connected.iter().all(|peer| self.answered.contains(peer)) && self.has_an_answer;
        !self.knows_somebody || all || now >= self.began + PATIENCE
    }
}

impl World {
    /// Before an effect of this node is carried out.
    pub fn check_effect(&mut self, n: usize, effect: &Effect) {
        self.nodes[n].heard.effect(effect);
        if let Effect::Sign { header_bytes, .. } = effect
            && let Err(why) = self.may_sign(n, header_bytes)
        {
            self.fail(format!("n{n} signs, and {why}"));
        }
    }

    fn may_sign(&self, n: usize, header_bytes: &Bytes) -> Result<(), String> {
        let heard = &self.nodes[n].heard;
        if !heard.has_heard_enough(self.now) {
            return Err(format!("has heard {:?} of {:?} since {:?}", heard.answered, heard.connected, heard.began));
        }
        let header = native::decode_header(header_bytes).map_err(|fault| fault.to_string())?;
        // What was signed before is no new signature.
        if self.chain.signed(Hash::of(header_bytes)).is_some() {
            return Ok(());
        }
        if self.was_told_more_than_it_remembers(n) {
            return Ok(());
        }
        let alive = |hash: &&Hash| self.is_to_be_awaited(n, **hash, header.parent_hash);
        match heard.told.range(header.height..).flat_map(|(_, hashes)| hashes).find(alive) {
            Some(hash) => Err(format!(
                "was told of {:?}, when {} on {:?} was to be signed",
                self.chain.signed(*hash).map(AuthenticBlock::id),
                header.height,
                header.parent_hash
            )),
            None => Ok(()),
        }
    }

    /// Whether more blocks came than it may wait for. For what there was no room it asks the peers again, and what is no peer's head by
    /// then it does not hear of.
    fn was_told_more_than_it_remembers(&self, n: usize) -> bool {
        let heard = &self.nodes[n].heard;
        heard.recalled + heard.told.values().map(BTreeSet::len).sum::<usize>() > self.nodes[n].limits.awaited
    }

    /// Whether this block, above a chain that ends with `top`, may be part of the chain.
    fn is_to_be_awaited(&self, n: usize, hash: Hash, top: Option<Hash>) -> bool {
        let node = &self.nodes[n];
        let Some(syncer) = &node.syncer else { return false };
        let (heads, schedule) = (syncer.heads(), &syncer.rules().schedule);
        let Some(block) = self.chain.signed(hash) else { return false };
        if schedule.proposer_at(block.height()) != Some(block.block().header().proposer) {
            return false;
        }
        let down = |from: Option<Hash>| {
            let below = |block: &&AuthenticBlock| self.chain.signed(block.parent_hash()?);
            std::iter::successors(from.and_then(|hash| self.chain.signed(hash)), below)
        };
        let hard = heads.hard;
        let is_decided = |block: &&AuthenticBlock| Some(block.height()) <= hard.map(|hard| hard.height);
        let ours: BTreeSet<Hash> = down(top).take_while(|block| !is_decided(block)).map(AuthenticBlock::hash).collect();
        let is_given_up = |hash: Hash| node.heard.given_up.iter().any(|id| id.hash == hash);
        for block in down(Some(hash)) {
            // What nobody has may be given up, too.
            if block.parent_hash().is_some_and(is_given_up) {
                return false;
            }
            let stands_on_hard = hard.is_some_and(|hard| block.height() == hard.height.next());
            if stands_on_hard && block.parent_hash() != hard.map(|hard| hard.hash) {
                return false;
            }
            if node.heard.given_up.contains(&block.id()) || block.height() < heads.tail {
                return false;
            }
            if is_decided(&block) {
                return Some(block.id()) == hard;
            }
            if ours.contains(&block.hash()) {
                return true;
            }
        }
        true
    }
}
