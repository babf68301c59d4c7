//! What we know of each peer: what it has, how well it answers, and what it did wrong.
//!
//! Two scores, never mixed. *Selection* (latency, failures) decides whom to ask next; it decays fast and never bans.
//! *Ban* counts provable violations only; a ban is short at first, doubles, and always expires.
//!
//! Invariants:
//! 1. Nothing that a peer merely claims, and nothing that it merely fails to do, can ban it.
//! 2. A single bad signature never bans: Go peers relay what they have not checked. A ban takes a rate and a share.
//! 3. What a peer earned survives its reconnecting, as far as there is room to remember.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::block::{BlockId, Height};
use crate::sync::{BlockQuery, FetchOutcome, MAX_RANGE, Offence, PeerId, PeerStanding, RequestId, Timing};
use crate::util::backoff::Backoff;
use crate::util::saturate;

/// Above this many bad signatures a minute, and above half of what it delivers, a peer is banned.
const BAD_SIGNATURES_PER_MINUTE: u32 = 10;
const MINUTE: Duration = Duration::from_mins(1);

/// So many blocks above what a peer has pruned its tail is looked for first.
const FIRST_TAIL_SEARCH: u64 = 2 * MAX_RANGE;

/// Whoever failed so often, and was of no use since, is not one who could serve.
const REFUTED: u32 = 2;

/// A connected peer.
#[derive(Debug)]
pub(in crate::sync) struct Peer {
    /// The highest block that it proved to have, by giving it to us.
    head: Option<BlockId>,
    /// The height of the head that it answered with last: it stores everything from its tail up to there. Of what it gossips
    /// it may have stored nothing yet.
    answered: Option<Height>,
    /// That head is of a proposer whom our schedule does not know, so that it proves nothing.
    claimed: Option<Height>,
    /// From this height on it gave what our schedule does not know; until that changes.
    unknown_from: Option<Height>,
    /// It said that it does not have this height; true until its head changes.
    lacks_from: Option<Height>,
    /// It said that it has nothing at this height, which is below its head, and so nothing at all up to there.
    lacks_through: Option<Height>,
    /// So far above that its tail is looked for: twice as far each time.
    tail_search: u64,
    /// The lowest height above that of which it gave a block.
    gives_from: Option<Height>,
    /// When it may be asked again for what it lacks below its tail.
    history_at: Duration,
    /// It follows a branch that is not ours, as far as its head says so; cleared when its head changes.
    other_branch: bool,
    /// At this height, below our tail, it gave another block than the one that we stand on. Who follows another branch may have left
    /// ours above the tail, and has what is below it.
    strays_at: Option<Height>,
    /// Range requests in flight.
    open: usize,
    /// Requests by hash in flight.
    open_by_hash: usize,
    /// The head request in flight.
    probe: Option<RequestId>,
    /// When to ask for its head again.
    probe_at: Duration,
    /// Nothing is asked of it before this moment.
    rest_until: Duration,
    /// How often it failed since it was of use: once, whatever was in flight together.
    failures: u32,
    failed_at: Option<Duration>,
    /// Its last answer to a request for blocks was of use. A head is not: it costs nothing, and brings nobody further.
    serves: bool,
    /// Smoothed time of an answer.
    latency: Option<Duration>,
}

/// Whether a height is below a peer's tail, of which only refusals tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    None,
    /// Its tail is above something that it refused, and looked for higher up.
    MayBePruned,
    /// It has refused it, or something above it.
    Pruned,
}

/// What a peer did wrong; outlives its connection.
#[derive(Debug, Default)]
struct Record {
    bans: u32,
    minute: Duration,
    bad_signatures: u32,
    good: u32,
    last_offence: Option<(Offence, Duration)>,
    touched: Duration,
}

#[derive(Debug)]
pub(super) struct Peers {
    connected: BTreeMap<PeerId, Peer>,
    records: BTreeMap<PeerId, Record>,
    max_records: usize,
    timing: Timing,
}

impl Peers {
    pub fn new(timing: Timing, max_records: usize) -> Self {
        Self { connected: BTreeMap::new(), records: BTreeMap::new(), max_records, timing }
    }

    pub fn up(&mut self, peer: PeerId, now: Duration) {
        self.connected.entry(peer).or_insert_with(|| Peer {
            head: None,
            answered: None,
            claimed: None,
            unknown_from: None,
            lacks_from: None,
            lacks_through: None,
            tail_search: 0,
            gives_from: None,
            history_at: Duration::ZERO,
            other_branch: false,
            strays_at: None,
            open: 0,
            open_by_hash: 0,
            probe: None,
            probe_at: now,
            rest_until: Duration::ZERO,
            failures: 0,
            failed_at: None,
            serves: false,
            latency: None,
        });
    }

    pub fn down(&mut self, peer: &PeerId) {
        self.connected.remove(peer);
    }

    pub fn len(&self) -> usize {
        self.connected.len()
    }

    pub fn get(&self, peer: &PeerId) -> Option<&Peer> {
        self.connected.get(peer)
    }

    pub fn get_mut(&mut self, peer: &PeerId) -> Option<&mut Peer> {
        self.connected.get_mut(peer)
    }

    pub fn ids(&self) -> Vec<PeerId> {
        self.connected.keys().cloned().collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&PeerId, &Peer)> {
        self.connected.iter()
    }

    /// The peer gave us this block, which therefore exists there.
    pub fn record_head(&mut self, peer: &PeerId, id: BlockId) {
        let Some(peer) = self.connected.get_mut(peer) else { return };
        if peer.head.is_none_or(|head| head.height < id.height) {
            peer.head = Some(id);
            peer.lacks_from = None;
            (peer.other_branch, peer.strays_at) = (false, None);
        }
    }

    /// It gave one block, its head or one by its hash: that takes so long, and says nothing of how it serves ranges.
    pub fn gave_block(&mut self, peer: &PeerId, took: Duration) {
        if let Some(peer) = self.connected.get_mut(peer) {
            peer.took(took);
        }
    }

    /// It gave blocks that were of use.
    pub fn served(&mut self, peer: &PeerId, took: Duration) {
        let Some(peer) = self.connected.get_mut(peer) else { return };
        peer.failures = 0;
        peer.serves = true;
        peer.rest_until = Duration::ZERO;
        peer.took(took);
    }

    /// It has nothing at this height, which is below its tail: it may serve what is above, and has failed in nothing.
    pub fn record_tail_above(&mut self, peer: &PeerId, height: Height, now: Duration) {
        let again = now + self.timing.backoff_max;
        let Some(peer) = self.connected.get_mut(peer) else { return };
        if peer.gives_from.is_some_and(|gives_from| gives_from <= height) {
            peer.gives_from = None;
        }
        peer.lacks_through = peer.lacks_through.max(Some(height));
        peer.tail_search = peer.tail_search.saturating_mul(2).max(FIRST_TAIL_SEARCH);
        peer.history_at = again;
    }

    /// Whether some on our branch have said that they have pruned `next`, and nobody could serve it.
    pub fn lack_history(&self, next: Height) -> bool {
        self.lack(next, |peer| !peer.other_branch)
    }

    /// Likewise with `last`, which the tail links to.
    pub fn lack_below_tail(&self, last: Height) -> bool {
        self.lack(last, |peer| peer.strays_at != Some(last))
    }

    fn lack(&self, height: Height, is_on_ours: impl Fn(&Peer) -> bool) -> bool {
        let mut ours = self.connected.values().filter(|peer| is_on_ours(peer));
        // A head that nobody signed whom we know may be a lie, until its peer has given anything.
        let has_proved = |peer: &Peer| peer.gives_from.is_some() || peer.head.is_some_and(|head| head.height >= height);
        let has_pruned = |peer: &&Peer| peer.is_ahead(height) && has_proved(peer) && peer.lacks(height);
        ours.clone().any(|peer| has_pruned(&peer)) && !ours.any(|peer| peer.could_serve(height))
    }

    /// Whether some have blocks above `next`, and all of these are on another branch than ours.
    pub fn are_all_elsewhere(&self, next: Height) -> bool {
        let mut ahead =
            self.connected.values().filter(|peer| peer.head.is_some_and(|head| head.height >= next)).peekable();
        ahead.peek().is_some() && ahead.all(|peer| peer.other_branch)
    }

    /// Ours is another one now: who is on it is to be found out anew.
    pub fn branch_changed(&mut self) {
        for peer in self.connected.values_mut() {
            (peer.other_branch, peer.strays_at) = (false, None);
        }
    }

    /// It did not answer what was sent then, or not usefully: it rests, longer each time.
    pub fn failed(&mut self, peer: &PeerId, sent: Duration, now: Duration) {
        let Timing { backoff_min, backoff_max, .. } = self.timing;
        let Some(peer) = self.connected.get_mut(peer) else { return };
        if peer.failures > 0 && peer.failed_at.is_some_and(|failed_at| sent <= failed_at) {
            return;
        }
        peer.failed_at = Some(now);
        let backoff = Backoff { shortest: backoff_min, longest: backoff_max }.pause(peer.failures);
        peer.failures = peer.failures.saturating_add(1);
        peer.serves = false;
        peer.rest_until = now + backoff;
    }

    /// It could not be asked, for a reason of our own.
    pub fn rest(&mut self, peer: &PeerId, now: Duration) {
        let pause = now + self.timing.backoff_min;
        let Some(peer) = self.connected.get_mut(peer) else { return };
        peer.rest_until = peer.rest_until.max(pause);
        peer.probe_at = peer.probe_at.min(pause).max(now);
    }

    /// It gave us a block that passed its checks.
    pub fn delivered(&mut self, peer: &PeerId, now: Duration) {
        self.record(peer, now).good += 1;
    }

    /// It did something provably wrong. Gives the length of the ban, when it earned one.
    pub fn offended(&mut self, peer: &PeerId, offence: Offence, now: Duration) -> Option<Duration> {
        let Timing { ban_min, ban_max, .. } = self.timing;
        let record = self.record(peer, now);
        record.last_offence = Some((offence, now));
        let earned = match offence {
            Offence::BadBlock | Offence::BadRange => true,
            Offence::BadSignature => {
                record.bad_signatures += 1;
                record.bad_signatures > BAD_SIGNATURES_PER_MINUTE && record.bad_signatures > record.good
            }
        };
        if !earned {
            return None;
        }
        let ban = Backoff { shortest: ban_min, longest: ban_max }.pause(record.bans);
        record.bans = record.bans.saturating_add(1);
        Some(ban)
    }

    /// Both scores of everybody who has one.
    pub fn standings(&self, now: Duration) -> BTreeMap<PeerId, PeerStanding> {
        let mut standings: BTreeMap<PeerId, PeerStanding> = BTreeMap::new();
        for (peer, connected) in &self.connected {
            let standing = standings.entry(peer.clone()).or_default();
            standing.expected_wait = connected.cost();
            standing.failures = connected.failures;
            standing.rests = connected.rest_until.saturating_sub(now);
        }
        for (peer, record) in &self.records {
            let standing = standings.entry(peer.clone()).or_default();
            standing.bans = record.bans;
            let this_minute = now.saturating_sub(record.minute) < MINUTE;
            standing.bad_signatures = if this_minute { record.bad_signatures } else { 0 };
            standing.last_offence = record.last_offence.map(|(offence, at)| (offence, now.saturating_sub(at)));
        }
        standings
    }

    /// Its record, with the counts of the current minute.
    fn record(&mut self, peer: &PeerId, now: Duration) -> &mut Record {
        if !self.records.contains_key(peer) && self.records.len() >= self.max_records {
            let oldest = self.records.iter().min_by_key(|(_, record)| record.touched).map(|(peer, _)| peer.clone());
            oldest.and_then(|oldest| self.records.remove(&oldest));
        }
        let record = self.records.entry(peer.clone()).or_default();
        record.touched = now;
        if now.saturating_sub(record.minute) >= MINUTE {
            record.minute = now;
            record.bad_signatures = 0;
            record.good = 0;
        }
        record
    }
}

impl Peer {
    /// The highest block that it proved to have.
    pub fn head(&self) -> Option<BlockId> {
        self.head
    }

    /// Whether it follows another branch than ours.
    pub fn is_elsewhere(&self) -> bool {
        self.other_branch
    }

    /// It follows another branch than ours, until its head changes.
    pub fn mark_elsewhere(&mut self) {
        self.other_branch = true;
    }

    /// Likewise, and at this height already, below our tail.
    pub fn mark_elsewhere_at(&mut self, below_tail: Height) {
        (self.other_branch, self.strays_at) = (true, Some(below_tail));
    }

    pub fn rest_until(&self) -> Duration {
        self.rest_until
    }

    /// When it is asked for its head next; `None` while it is being asked.
    pub fn next_probe(&self) -> Option<Duration> {
        self.probe.is_none().then_some(self.probe_at)
    }

    /// It is asked for its head at this moment at the latest.
    pub fn probe_by(&mut self, at: Duration) {
        self.probe_at = self.probe_at.min(at);
    }

    /// It is asked for its head at this moment, and no earlier.
    pub fn probe_again_at(&mut self, at: Duration) {
        self.probe_at = at;
    }

    /// This was asked of it.
    pub fn asked(&mut self, query: BlockQuery, request: RequestId) {
        match query {
            BlockQuery::Head => self.probe = Some(request),
            BlockQuery::Range { .. } => self.open += 1,
            BlockQuery::Hash(_) => self.open_by_hash += 1,
        }
    }

    /// What was asked of it has ended.
    pub fn ask_ended(&mut self, query: BlockQuery) {
        match query {
            BlockQuery::Head => self.probe = None,
            BlockQuery::Range { .. } => self.open = self.open.saturating_sub(1),
            BlockQuery::Hash(_) => self.open_by_hash = self.open_by_hash.saturating_sub(1),
        }
    }

    /// It answered with its head.
    pub fn record_answered_head(&mut self, head: BlockId) {
        // What it lacked a while ago it may have now, and what ended an answer early may have been an accident.
        self.lacks_from = None;
        self.answered = Some(head.height);
        self.claimed = None;
        // It has other blocks now than those that our schedule did not know.
        self.unknown_from.take_if(|unknown| *unknown <= head.height);
        if self.head != Some(head) {
            self.head = Some(head);
            (self.other_branch, self.strays_at) = (false, None);
        }
    }

    /// It answered with a head of which our schedule does not know the proposer.
    pub fn record_claimed_head(&mut self, height: Height) {
        self.lacks_from = None;
        self.answered = Some(height);
        self.claimed = Some(height);
    }

    /// What it has from this height on our schedule does not know.
    pub fn record_unknown(&mut self, from: Height) {
        self.unknown_from = Some(self.unknown_from.map_or(from, |known| known.min(from)));
    }

    /// The schedule is another one.
    pub fn schedule_changed(&mut self) {
        self.unknown_from = None;
    }

    /// Up to where it may have blocks, as it proved, or claims.
    pub fn reach(&self) -> Option<Height> {
        self.head.map(|head| head.height).max(self.claimed)
    }

    /// It was asked for `amount` blocks from `from` on, and gave the first `count` of them.
    pub fn record_answered_range(&mut self, from: Height, amount: u64, count: u64, outcome: &FetchOutcome) {
        let says_no_more = count < amount && matches!(outcome, FetchOutcome::Complete | FetchOutcome::NotFound);
        if says_no_more && (count > 0 || self.answered.is_none_or(|answered| answered < from)) {
            self.lacks_from = Some(from.plus(count));
        }
        if count > 0 {
            self.record_gave(from);
        }
    }

    /// It gave this block.
    pub fn record_gave(&mut self, height: Height) {
        if self.lacks(height) {
            self.lacks_through = None;
            self.tail_search = 0;
        }
        self.gives_from = Some(self.gives_from.map_or(height, |known| known.min(height)));
    }

    /// Whether a refusal of this height means that the height is below its tail: it answered with a head that is no lower.
    pub fn must_store(&self, height: Height) -> bool {
        self.answered.is_some_and(|answered| answered >= height)
    }

    /// Whether it may be asked for blocks from `from` on.
    pub fn can_serve(&self, from: Height, now: Duration, max_open: usize) -> bool {
        self.may_be_asked(now, max_open) && !self.other_branch && self.seems_to_have(from, now)
    }

    /// Whether it may be asked for the blocks from `from` up to `last`, which our tail links to.
    pub fn can_serve_below(&self, from: Height, last: Height, now: Duration, max_open: usize) -> bool {
        self.may_be_asked(now, max_open) && self.strays_at != Some(last) && self.seems_to_have(from, now)
    }

    /// Whether it may be asked for some blocks from `next` on, if it has room.
    pub fn may_serve_above(&self, next: Height, now: Duration) -> bool {
        self.rest_until <= now && !self.other_branch && self.has_checkable(next)
    }

    /// Whether it may be asked for blocks from `from` on as soon as one of its requests has ended.
    pub fn will_serve(&self, from: Height, now: Duration) -> bool {
        self.open > 0 && self.rest_until <= now && !self.other_branch && self.seems_to_have(from, now)
    }

    fn seems_to_have(&self, from: Height, now: Duration) -> bool {
        self.has_checkable(from) && (now >= self.history_at || !self.lacks(from))
    }

    fn lacks(&self, height: Height) -> bool {
        self.lacks_through.is_some_and(|through| height <= through)
    }

    /// Whether it is known to have blocks from `next` on.
    fn is_ahead(&self, next: Height) -> bool {
        self.reach().is_some_and(|reach| reach >= next)
    }

    /// Whether it is known to have blocks from `from` on, and the first of them may be one that our schedule knows.
    fn has_checkable(&self, from: Height) -> bool {
        self.is_ahead(from)
            && self.lacks_from.is_none_or(|lacks| from < lacks)
            && self.unknown_from.is_none_or(|unknown| from < unknown)
    }

    /// Whether there is reason to think that it would give `next` if it were asked, and is on our branch there: it said that it
    /// stores blocks up to there at least, never that it has pruned it, and has not failed again and again. What it merely relays
    /// is no reason.
    fn could_serve(&self, next: Height) -> bool {
        self.must_store(next) && !self.lacks(next) && self.has_checkable(next) && self.failures < REFUTED
    }

    /// How doubtful it is that it has `from`, which is below its head.
    pub fn doubt(&self, from: Height) -> Doubt {
        let Some(through) = self.lacks_through else { return Doubt::None };
        if from <= through {
            return Doubt::Pruned;
        }
        if self.gives_from.is_some_and(|gives_from| gives_from <= from) {
            return Doubt::None;
        }
        // Its tail is somewhere from here up to its head: half-way at most.
        let half_way = self.reach().map_or(0, |reach| reach.above(through) / 2);
        if from < through.plus(self.tail_search.min(half_way)) { Doubt::MayBePruned } else { Doubt::None }
    }

    /// Whether it has rested, and has room for one more request.
    pub fn may_be_asked(&self, now: Duration, max_open: usize) -> bool {
        self.rest_until <= now && self.room(max_open) > 0
    }

    /// How many more requests it may be given: one at a time after it failed, until it was of use again.
    pub fn room(&self, max_open: usize) -> usize {
        let max_open = if self.failures > 0 { max_open.min(1) } else { max_open };
        max_open.saturating_sub(self.open)
    }

    /// Whether it did not have `next` when it was asked for its head last, and can be asked again.
    pub fn is_behind(&self, next: Height, now: Duration) -> bool {
        self.probe.is_none() && self.rest_until <= now && self.reach().is_some_and(|reach| reach < next)
    }

    /// Requests by hash in flight.
    pub fn open_by_hash(&self) -> usize {
        self.open_by_hash
    }

    /// Whether it has answered with its head.
    pub fn gave_head(&self) -> bool {
        self.answered.is_some()
    }

    /// Whether what it was asked for last came.
    pub fn serves(&self) -> bool {
        self.serves
    }

    pub fn failed_at(&self) -> Option<Duration> {
        self.failed_at
    }

    /// How often it failed since it was last of use.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Lower is better: expected waiting time.
    pub fn cost(&self) -> Duration {
        let latency = self.latency.unwrap_or(Duration::from_millis(50));
        latency.saturating_mul(saturate::to_u32(self.open).saturating_add(1))
    }

    fn took(&mut self, took: Duration) {
        self.latency = Some(self.latency.map_or(took, |latency| (latency * 3 + took) / 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn h(height: u64) -> Height {
        Height::new(height).expect("above 0")
    }

    fn peer(change: impl FnOnce(&mut Peer)) -> Peer {
        let id = PeerId::new(b"someone");
        let mut peers = Peers::new(Timing::default(), 1);
        peers.up(id.clone(), NOW);
        let mut peer = peers.connected.remove(&id).expect("it is connected");
        change(&mut peer);
        peer
    }

    #[test]
    fn who_may_have_the_next_block_is_not_behind() {
        let reaching = |height| peer(|peer| peer.claimed = Some(h(height)));
        assert!(reaching(4).is_behind(h(5), NOW));
        assert!(!reaching(5).is_behind(h(5), NOW));
        assert!(!peer(|_| {}).is_behind(h(5), NOW), "nobody knows");
    }

    #[test]
    fn a_tail_is_looked_for_half_way_up_to_the_head_at_most() {
        let pruned = peer(|peer| {
            (peer.claimed, peer.lacks_through, peer.tail_search) = (Some(h(30)), Some(h(10)), 64);
        });
        let doubts = [10, 11, 19, 20].map(|height| pruned.doubt(h(height)));
        assert_eq!(doubts, [Doubt::Pruned, Doubt::MayBePruned, Doubt::MayBePruned, Doubt::None]);
    }

    #[test]
    fn a_head_that_was_told_is_known_to_have_been() {
        assert!(!peer(|_| {}).gave_head());
        assert!(peer(|peer| peer.record_claimed_head(h(3))).gave_head());
    }
}
