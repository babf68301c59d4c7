//! Asking: which peer for what, and when again. What comes of an answer is in `mod.rs`; blocks by their hashes are in `by_hash.rs`.
//!
//! ```text
//!   heads, when due -- blocks below the tail, when idle -- blocks between soft and target -- blocks by their hashes
//!                                                          small gap: gossip first
//!                                                          next block late: hedge
//! ```
//!
//! Invariants:
//! 1. At most one open request per height; two for the height right above soft, where everything waits for one answer, and
//!    more only one after the other, while none of those who were asked has shown that it serves.
//! 2. What is asked for fits into the byte budget that pending blocks and open requests share, but for the two requests for the
//!    next block, which everything waits for.
//! 3. Everything that waits for a moment (a peer that rests, a hedge, gossip's grace) has noted that moment in `retry_at`.
//! 4. A peer that failed a range is asked for it again only after the others that may have it; one that may have pruned it, only
//!    where everything waits for it.

use std::time::Duration;

use super::peers::{Doubt, Peer};
use super::plan::{Amounts, ranges};
use super::{Exchange, OpenRequest, SpanBelow};
use crate::block::{Height, Lane};
use crate::sync::chain::Chain;
use crate::sync::decision::Decision;
use crate::sync::pending::Pending;
use crate::sync::{BlockQuery, Fetch, PeerId};
use crate::util::saturate;

/// A gap of up to this many blocks is left to gossip for a moment: they are probably being verified right now. After that
/// two peers are asked for it.
const SMALL_GAP: u64 = 2;

/// At most this many peers that were behind are asked together whether they are so still.
const PROBED_BEHIND: usize = 3;
/// Of so many requests below the tail, one on average goes to somebody quicker who failed before: else one failure would put a good
/// peer behind one that drips for ever.
const TRY_ANOTHER_EVERY: u32 = 8;

impl Exchange {
    /// When there is something to do here, whatever happens: a deadline, a head to ask for, a peer that has rested.
    pub fn next_wakeup(&self) -> Option<Duration> {
        let probes = self.peers.iter().filter_map(|(_, peer)| peer.next_probe()).min();
        [self.requests.next_deadline(), probes, self.retry_at].into_iter().flatten().min()
    }

    /// When a target that nothing leads nearer to is given up.
    pub fn patience_ends(&self) -> Duration {
        self.led_on_at + self.timing.target_patience
    }

    /// A round of asking begins: who cannot be asked now is found out anew.
    pub fn begin_round(&mut self) {
        self.retry_at = None;
    }

    /// Nothing is missing above soft, or nothing may be asked for.
    pub fn forget_ranges(&mut self, now: Duration) {
        self.requests.forget_put_off();
        self.exclusions.forget_ranges();
        self.restart_patience(now);
    }

    /// There is no target to be patient with.
    pub fn wait_for_no_target(&mut self, now: Duration) {
        self.led_on_at = now;
    }

    /// The wait for the next block begins anew.
    pub fn restart_patience(&mut self, now: Duration) {
        self.gap_since = None;
        self.led_on_at = now;
    }

    /// Asks for the heads that are due.
    pub fn probe_heads(&mut self, now: Duration, decision: &mut Decision) {
        let interval = self.timing.head_interval;
        let is_due = |peer: &Peer| peer.next_probe().is_some_and(|due| due <= now);
        let due: Vec<_> = self.peers.iter().filter(|(_, peer)| is_due(peer)).map(|(id, _)| id.clone()).collect();
        for peer in due {
            // Spread out, so that a node with many peers does not ask them all at once.
            let jitter = Duration::from_millis(self.rng.u64(0..=saturate::millis(interval) / 4));
            self.send(self.request(now, &peer, BlockQuery::Head, self.max_block_bytes), decision);
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.probe_again_at(now + interval + jitter);
            }
        }
    }

    /// Asks for blocks below the tail, one request at a time.
    pub fn ask_below(&mut self, now: Duration, span: SpanBelow, decision: &mut Decision) {
        let SpanBelow { last, mut amount } = span;
        let sizes = self.sizes();
        let max_open = self.limits.requests_per_peer;
        let tries_another = self.rng.u32(0..TRY_ANOTHER_EVERY) == 0;
        loop {
            // No lower than height 1: see [`SpanBelow`].
            let from = Height::new(last.get() - (amount - 1)).unwrap_or(last);
            let able = self.peers.iter().filter(|(_, peer)| peer.can_serve_below(from, last, now, max_open));
            // Whoever fails and has rested again does not come before all others for ever, however soon it answers with its head.
            let best = able.min_by_key(|(_, peer)| {
                (peer.failures(), peer.doubt(from), peer.is_elsewhere(), !peer.serves(), peer.cost())
            });
            let another =
                best.filter(|_| tries_another).and_then(|(_, best)| self.quicker_below(best, from, last, now));
            if let Some(peer) = another.or(best).map(|(id, _)| id.clone()) {
                let bytes = if amount == 1 { sizes.next_answer_bytes(1) } else { sizes.answer_bytes(amount) };
                let open = self.request(now, &peer, BlockQuery::Range { from, amount }, bytes);
                self.send(OpenRequest { below_tail: true, ..open }, decision);
                return;
            }
            if amount == 1 {
                return self.retry_when_rested(now);
            }
            // Some peer may have a part of it.
            amount /= 2;
        }
    }

    /// Of those who answer sooner than the best one, and are behind it since they failed, whoever failed longest ago.
    fn quicker_below(&self, best: &Peer, from: Height, last: Height, now: Duration) -> Option<(&PeerId, &Peer)> {
        let is_quicker = |(_, peer): &(&PeerId, &Peer)| {
            peer.can_serve_below(from, last, now, self.limits.requests_per_peer) && peer.cost() < best.cost()
        };
        self.peers.iter().filter(is_quicker).min_by_key(|(_, peer)| peer.failed_at())
    }

    /// Whether blocks below the tail are being asked for.
    pub fn asks_below(&self) -> bool {
        self.requests.below_tail().is_some()
    }

    /// Asks for what is missing between soft and `through`, unless gossip is probably bringing it, or what we were given last was
    /// nothing that we could take.
    pub fn ask_above(
        &mut self,
        now: Duration,
        through: Height,
        chain: &Chain,
        pending: &Pending,
        decision: &mut Decision,
    ) {
        let next = chain.heads().next_height();
        let until = self.gossip_has_until(now, through.above(next) + 1).max(Some(self.ranges_at));
        if let Some(until) = until.filter(|until| now < *until) {
            return self.look_again(until);
        }
        if chain.fresh_bytes() > self.limits.commit_bytes {
            return;
        }
        self.ask_for_ranges(now, next, through, pending, decision);
    }

    /// Until when a gap of `missing` blocks is left to gossip; `None` when it is too large for that.
    fn gossip_has_until(&mut self, now: Duration, missing: u64) -> Option<Duration> {
        if missing > SMALL_GAP {
            self.gap_since = None;
            return None;
        }
        let since = *self.gap_since.get_or_insert(now);
        Some(since + self.timing.gossip_grace)
    }

    fn ask_for_ranges(
        &mut self,
        now: Duration,
        next: Height,
        target: Height,
        pending: &Pending,
        decision: &mut Decision,
    ) {
        let limits = self.limits;
        self.exclusions.forget_below(next);
        // A peer that has not the next block any more may have those after it, which are of use if any peer has that one.
        let rested = self.peers.iter().filter(|(_, peer)| peer.may_serve_above(next, now));
        let slots: usize = rested.map(|(_, peer)| peer.room(limits.requests_per_peer)).sum();
        let slots = slots.min(limits.requests.saturating_sub(self.requests.ranges()));
        let can_go_on = !self.peers.lack_history(next)
            || self.peers.iter().any(|(_, peer)| peer.can_serve(next, now, limits.requests_per_peer));
        if slots == 0 || !can_go_on {
            self.ask_those_behind(now, next, decision);
            return self.retry_when_rested(now);
        }
        let mut free = limits.pending_bytes.saturating_sub(pending.bytes() + self.requests.range_bytes());
        let sizes = self.sizes();
        let farthest = next.plus(saturate::to_u64(limits.pending_blocks).saturating_sub(1));
        let mut covered = pending.runs();
        covered.extend(self.requests.runs(next));
        covered.sort_unstable();
        let last = target.min(farthest);
        // Some may have to wait for a certain peer.
        let (mut left, most) = (slots, slots.saturating_add(self.exclusions.len()));
        let amounts = Amounts { from_next: sizes.per_next_request(free), elsewhere: sizes.per_request() };
        for (from, amount) in ranges(next, last, amounts, covered.into_iter(), most) {
            let answer_bytes = if from == next { sizes.next_answer_bytes(amount) } else { sizes.answer_bytes(amount) };
            // What everything waits for is asked for in any case: pending blocks far above it would else keep it away.
            if left == 0 || (answer_bytes > free && from != next) {
                break;
            }
            let range = RangeToAsk { from, amount, answer_bytes, next };
            if self.ask_for_range(now, range, &[], decision) == Asked::Sent {
                free = free.saturating_sub(answer_bytes);
                left -= 1;
            }
        }
        self.hedge(now, next, target, free, decision);
    }

    /// Everything waits for the height above soft: when its one request takes long, a second peer is asked too. At the
    /// head, where a block more costs nothing, two are asked at once, and the first good answer wins.
    fn hedge(&mut self, now: Duration, next: Height, target: Height, free: usize, decision: &mut Decision) {
        let last = self.requests.covering(next).filter_map(OpenRequest::run).map(|(_, last)| last).max();
        let Some(last) = last else { return };
        let asked: Vec<_> = self.requests.covering(next).map(|open| (open.sent, open.peer.clone())).collect();
        let is_at_head = target.above(next) < SMALL_GAP && asked.len() == 1;
        let patience = if is_at_head { Duration::ZERO } else { self.timing.hedge_after };
        let Some(due) = self.hedge_due(&asked, patience) else { return };
        if now < due {
            return self.look_again(due);
        }
        let amount = last.above(next) + 1;
        let answer_bytes = self.sizes().next_answer_bytes(amount);
        if asked.len() > 1 && answer_bytes > free {
            return;
        }
        let asked: Vec<_> = asked.into_iter().map(|(_, peer)| peer).collect();
        let range = RangeToAsk { from: next, amount, answer_bytes, next };
        if self.ask_for_range(now, range, &asked, decision) == Asked::Sent {
            self.look_again(now + self.timing.hedge_after);
        } else {
            self.ask_those_behind(now, next, decision);
        }
    }

    /// When one more peer is to be asked for what these were asked for: `patience` after the last of them was. `None`: two are
    /// enough as soon as one of them has shown that it serves, since a slow link is not made faster by asking more.
    pub(super) fn hedge_due(&self, asked: &[(Duration, PeerId)], patience: Duration) -> Option<Duration> {
        if asked.len() > 1 && asked.iter().any(|(_, peer)| self.serves(peer)) {
            return None;
        }
        asked.iter().map(|(sent, _)| *sent + patience).max()
    }

    /// Too few are known to have the next block. Of those that had not when they were asked for their heads, some may by now:
    /// they are asked again, a few at a time, those first who serve.
    fn ask_those_behind(&mut self, now: Duration, next: Height, decision: &mut Decision) {
        let behind = self.peers.iter().filter(|(_, peer)| peer.is_behind(next, now));
        let mut behind: Vec<_> = behind.map(|(id, peer)| (!peer.serves(), peer.next_probe(), id.clone())).collect();
        if behind.is_empty() {
            return;
        }
        if let Some(due) = self.behind_at.filter(|due| now < *due) {
            return self.look_again(due);
        }
        behind.sort_unstable();
        for (_, _, id) in behind.iter().take(PROBED_BEHIND) {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.probe_again_at(now);
            }
        }
        let due = now + self.timing.hedge_after;
        self.behind_at = Some(due);
        self.look_again(due);
        self.probe_heads(now, decision);
    }

    /// Asks the best peer that was not asked yet.
    fn ask_for_range(&mut self, now: Duration, range: RangeToAsk, asked: &[PeerId], decision: &mut Decision) -> Asked {
        let RangeToAsk { from, amount, answer_bytes, next } = range;
        let Some((peer, reach)) = self.best_for_range(now, from, asked) else {
            self.retry_when_rested(now);
            return Asked::Nobody;
        };
        if from != next && self.is_better_left(now, from, &peer) {
            return Asked::Nobody;
        }
        if self.exclusions.has(from, &peer) {
            self.exclusions.forget(from);
        }
        let amount = amount.min(reach.above(from) + 1);
        self.send(self.request(now, &peer, BlockQuery::Range { from, amount }, answer_bytes), decision);
        Asked::Sent
    }

    fn best_for_range(&mut self, now: Duration, from: Height, asked: &[PeerId]) -> Option<(PeerId, Height)> {
        let max_open = self.limits.requests_per_peer;
        // A peer that is asked beside others is to help in any case: one that serves, if there is one.
        let order = |id: &PeerId, peer: &Peer| {
            (self.exclusions.has(from, id), peer.doubt(from), !asked.is_empty() && !peer.serves(), peer.cost())
        };
        let mut able: Vec<_> = self
            .peers
            .iter()
            .filter(|(id, peer)| !asked.contains(*id) && peer.can_serve(from, now, max_open))
            .filter_map(|(id, peer)| Some((id.clone(), peer.reach()?, order(id, peer))))
            .collect();
        // Equals are taken in an order that differs from time to time.
        self.rng.shuffle(&mut able);
        able.into_iter().min_by_key(|(.., order)| *order).map(|(id, reach, _)| (id, reach))
    }

    /// Whether a range that not everything waits for is better not asked of this peer, the best one that can be asked now: it may
    /// have pruned it, or has failed it, and one that has not will have room as soon as an answer comes.
    fn is_better_left(&self, now: Duration, from: Height, best: &PeerId) -> bool {
        let is_good = |id: &PeerId, peer: &Peer| !self.exclusions.has(from, id) && peer.doubt(from) == Doubt::None;
        let doubt = self.peers.get(best).map_or(Doubt::None, |peer| peer.doubt(from));
        let has_failed = self.exclusions.has(from, best);
        doubt != Doubt::None
            || has_failed && self.peers.iter().any(|(id, peer)| is_good(id, peer) && peer.will_serve(from, now))
    }

    pub(super) fn look_again(&mut self, at: Duration) {
        self.retry_at = Some(self.retry_at.map_or(at, |known| known.min(at)));
    }

    /// No peer can be asked now: look again when the first one has rested.
    fn retry_when_rested(&mut self, now: Duration) {
        let rested = self.peers.iter().map(|(_, peer)| peer.rest_until()).filter(|until| *until > now).min();
        if let Some(at) = rested {
            self.look_again(at);
        }
    }

    /// What is counted of the peer here is taken off again in [`Self::take`].
    pub(super) fn send(&mut self, open: OpenRequest, decision: &mut Decision) {
        let (peer, query, max_bytes) = (open.peer.clone(), open.query, open.bytes);
        let request = self.requests.add(open);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.asked(query, request);
        }
        let timeout = self.timing.request_timeout;
        decision.fetch(Fetch { request, peer, lane: Lane::BLOCK, query, max_bytes, timeout });
    }

    /// A request above the tail, as of now.
    pub(super) fn request(&self, now: Duration, peer: &PeerId, query: BlockQuery, max_bytes: usize) -> OpenRequest {
        // The network gives up first, and hands over what has come by then; the core's own deadline is for a network that
        // says nothing.
        let timeout = self.timing.request_timeout;
        let deadline = now + timeout + timeout / 4;
        OpenRequest {
            peer: peer.clone(),
            query,
            sent: now,
            deadline,
            has_arrived: false,
            bytes: max_bytes,
            below_tail: false,
        }
    }
}

/// What became of the wish to ask for a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// A request is under way.
    Sent,
    /// No peer can be asked now, or only one that failed it while another will have room soon.
    Nobody,
}

/// A range that is about to be asked for.
#[derive(Clone, Copy, Debug)]
struct RangeToAsk {
    from: Height,
    amount: u64,
    /// The most that its answer may weigh.
    answer_bytes: usize,
    /// The height that everything waits for.
    next: Height,
}
