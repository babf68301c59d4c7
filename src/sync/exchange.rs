//! Peers: what they gossip and answer, and what is asked of them.

use std::time::Duration;

use super::fetch::{Open, PutOff, Sizes, ranges};
use super::peers::Peer;
use super::{
    Ask, Ctx, Effect, Ended, Fetch, Fetched, Heads, Offence, Origin, PeerId, RequestId, Syncer, Ticket, blame,
};
use crate::block::{Hash, Height, Lane};
use crate::clock::Now;
use crate::verify::{AuthenticBlock, Fault};

/// A gap of up to this many blocks is left to gossip for a moment: they are probably being verified right now. After that
/// two peers are asked for it.
const SMALL_GAP: u64 = 2;

/// So many peers that were behind are asked together whether they are so still.
const PROBED_BEHIND: usize = 3;

impl Syncer {
    pub(super) fn gossip(
        &mut self,
        ctx: Ctx<'_>,
        peer: &PeerId,
        ticket: Ticket,
        outcome: Result<AuthenticBlock, Fault>,
    ) {
        let verdict = match outcome {
            Ok(block) => {
                self.peers.delivered(peer, ctx.now.elapsed);
                self.incoming(ctx, &block, Origin::Gossip, Some(peer))
            }
            Err(fault) => {
                let (verdict, offence) = blame::of_gossip(&fault);
                if let Some(offence) = offence {
                    self.penalize(ctx.now, peer, offence);
                }
                verdict
            }
        };
        self.immediate.push(Effect::Judge { ticket, verdict });
    }

    /// Something was missed: ask for the head instead.
    pub(super) fn probe_soon(&mut self, now: Now, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.probe_at = peer.probe_at.min(now.elapsed + self.config.timing.gossip_grace);
        }
    }

    /// What is known of what is missing was forgotten when blocks were taken back: it is to be proved anew.
    pub(super) fn probe_all_soon(&mut self, now: Now) {
        let peers: Vec<_> = self.peers.iter().map(|(peer, _)| peer.clone()).collect();
        for peer in &peers {
            self.probe_soon(now, peer);
        }
    }

    pub(super) fn peer_down(&mut self, peer: &PeerId) {
        for request in self.requests.of_peer(peer) {
            if let Some(open) = self.requests.remove(request) {
                self.exclude(&open, 0);
            }
        }
        self.peers.down(peer);
    }

    pub(super) fn fetched(&mut self, ctx: Ctx<'_>, request: RequestId, fetched: &Fetched) {
        // A late answer to a request that was given up is no longer ours to judge.
        let Some(open) = self.requests.remove(request) else { return };
        let now = ctx.now.elapsed;
        if let Some(peer) = self.peers.get_mut(&open.peer) {
            match open.ask {
                Ask::Head => peer.probe = None,
                Ask::Range { .. } | Ask::Hash(_) => peer.open = peer.open.saturating_sub(1),
            }
        }
        if let Ended::Invalid(fault) = &fetched.ended {
            // A frame that broke the exchange protocol has no fault to name, and is as wrong.
            let offence = fault.as_ref().map_or(Some(Offence::BadRange), blame::of_answer);
            self.peers.failed(&open.peer, open.sent, now);
            self.exclude(&open, 0);
            if let Some(offence) = offence {
                self.penalize(ctx.now, &open.peer, offence);
            }
            return;
        }
        if open.below_tail {
            return self.answered_below(ctx, &open, fetched);
        }
        if let (Ended::Cut, [], Ask::Range { from, .. }) = (&fetched.ended, fetched.blocks.as_slice(), open.ask) {
            // Who has served nothing yet is not believed: it could put off height after height.
            if self.peers.get(&open.peer).is_some_and(Peer::serves) {
                self.requests.put_off(from, PutOff { said_by: open.peer, bytes: open.bytes });
            } else {
                self.peers.failed(&open.peer, open.sent, now);
                self.exclude(&open, 0);
            }
            return;
        }
        let took = now.saturating_sub(open.sent);
        let (useful, given) = match open.ask {
            Ask::Head => (self.head_answer(ctx, &open.peer, &fetched.blocks), 0),
            Ask::Hash(hash) => (self.hash_answer(ctx, &open.peer, hash, &fetched.blocks), 0),
            Ask::Range { from, amount } => {
                let useful = self.range_answer(ctx, &open.peer, from, amount, fetched);
                (useful, if useful { fetched.blocks.len() } else { 0 })
            }
        };
        if !matches!(fetched.ended, Ended::NotSent | Ended::Cut) {
            self.exclude(&open, given);
        }
        match (useful, &fetched.ended, open.ask) {
            // There was no room on our side: no failure of theirs, and no reason to ask again at once.
            (false, Ended::NotSent, _) => self.peers.rest(&open.peer, now),
            (true, _, Ask::Head) => self.peers.gave_head(&open.peer, took),
            // It is asked for it again when that is due, and may serve all the same.
            (false, _, Ask::Head) => {}
            (true, _, _) => self.peers.served(&open.peer, took),
            (false, Ended::NotFound, Ask::Range { from, .. })
                if fetched.blocks.is_empty() && self.peers.has_nothing_at(&open.peer, from, now) => {}
            (false, _, _) => self.peers.failed(&open.peer, open.sent, now),
        }
    }

    /// What is missing of this answer, of which the first blocks were of use, is asked of others first.
    fn exclude(&mut self, open: &Open, given: usize) {
        let given = u64::try_from(given).unwrap_or(u64::MAX);
        match open.ask {
            Ask::Head => {}
            Ask::Hash(hash) => {
                if self.wanted_by_hash() == Some(hash) {
                    self.exclusions.add_hash(hash, open.peer.clone());
                }
            }
            Ask::Range { from, amount } => {
                // Gossip may have brought some of it meanwhile.
                let missing = from.plus(given).max(self.chain.heads.next_height());
                if missing < from.plus(amount) {
                    self.exclusions.add(missing, open.peer.clone());
                }
            }
        }
    }

    /// Says whether the answer was of use.
    fn head_answer(&mut self, ctx: Ctx<'_>, peer: &PeerId, blocks: &[AuthenticBlock]) -> bool {
        let Some(head) = blocks.first() else { return false };
        if let Some(peer) = self.peers.get_mut(peer) {
            // What it lacked a while ago it may have now, and what ended an answer early may have been an accident.
            peer.lacks_from = None;
            peer.answered = Some(head.height());
            if peer.head != Some(head.id()) {
                peer.head = Some(head.id());
                peer.other_branch = false;
            }
        }
        self.incoming(ctx, head, Origin::Range, Some(peer));
        true
    }

    fn hash_answer(&mut self, ctx: Ctx<'_>, peer: &PeerId, hash: Hash, blocks: &[AuthenticBlock]) -> bool {
        match blocks.first() {
            Some(block) if block.hash() == hash => {
                self.incoming(ctx, block, Origin::Range, None);
                self.reverse_sync_step(ctx, block);
                self.wanted_by_hash() != Some(hash)
            }
            Some(_) => {
                self.penalize(ctx.now, peer, Offence::BadRange);
                false
            }
            None => false,
        }
    }

    fn range_answer(&mut self, ctx: Ctx<'_>, peer: &PeerId, from: Height, amount: u64, fetched: &Fetched) -> bool {
        let blocks = &fetched.blocks;
        let count = u64::try_from(blocks.len()).unwrap_or(u64::MAX);
        if count > amount || !is_run(from, blocks) {
            self.penalize(ctx.now, peer, Offence::BadRange);
            return false;
        }
        if let Some(peer) = self.peers.get_mut(peer) {
            let says_no_more = count < amount && matches!(fetched.ended, Ended::Complete | Ended::NotFound);
            if says_no_more && (count > 0 || peer.answered.is_none_or(|answered| answered < from)) {
                peer.lacks_from = Some(from.plus(count));
            }
            if count > 0 {
                peer.gave(from);
            }
        }
        for block in blocks {
            self.incoming(ctx, block, Origin::Range, Some(peer));
            if self.is_other_branch(ctx, block) {
                // What it gave beyond belongs to the same branch.
                self.pending.forget_peer(peer);
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.other_branch = true;
                }
                return false;
            }
        }
        // What could not be used, whoever is to blame, is not asked of the same peer again at once.
        count > 0 && (self.chain.heads.stores(from) || self.pending.has(from))
    }

    /// Blocks weigh this much: for how many to ask.
    pub(super) fn learn_size(&mut self, size: usize) {
        self.block_bytes = Some(self.block_bytes.map_or(size, |known| (known * 7 + size) / 8));
    }

    /// Whoever said that the block at this height is heavier than it is wasted a request.
    pub(super) fn judge_put_off(&mut self, now: Duration, block: &AuthenticBlock) {
        if let Some(put_off) = self.requests.take_put_off(block.height())
            && block.size() <= put_off.bytes
        {
            self.peers.failed(&put_off.said_by, now, now);
        }
    }

    /// Whether this block, whose height is at most the next one, is not on our branch.
    fn is_other_branch(&self, ctx: Ctx<'_>, block: &AuthenticBlock) -> bool {
        if let Some(ours) = self.chain.hash(block.height(), ctx.stored) {
            return ours != block.hash();
        }
        let pinned = self.pinned(block.height()).is_none_or(|pinned| pinned == block.id());
        block.height() == self.chain.heads.next_height() && !(pinned && self.is_next(block))
    }

    /// Gives up what took too long, and asks for what is missing.
    pub(super) fn ask_peers(&mut self, ctx: Ctx<'_>) {
        let now = ctx.now.elapsed;
        for request in self.requests.expired(now) {
            self.immediate.push(Effect::Cancel(request));
            self.fetched(ctx, request, &Fetched { blocks: Vec::new(), ended: Ended::Timeout });
        }
        self.retry_at = None;
        self.end_reverse_sync();
        self.probe_heads(now);
        if !self.storage_full && !self.draining {
            self.ask_for_wanted(now);
        }
        if !self.is_catching_up() {
            self.ask_below(now);
            self.requests.forget_put_off();
            self.exclusions.forget_ranges();
            self.gap_since = None;
            self.progress_at = now;
            return;
        }
        if now >= self.progress_at + self.config.timing.target_patience {
            self.chain.drop_target();
            self.progress_at = now;
            self.gap_since = None;
            return;
        }
        if !self.is_gap_for_gossip(now) {
            self.ask_for_ranges(now);
        }
    }

    fn probe_heads(&mut self, now: Duration) {
        let interval = self.config.timing.head_interval;
        let due: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.probe.is_none() && peer.probe_at <= now)
            .map(|(id, _)| id.clone())
            .collect();
        for peer in due {
            // Spread out, so that a node with many peers does not ask them all at once.
            let jitter = Duration::from_millis(self.rng.u64(0..=u64::try_from(interval.as_millis() / 4).unwrap_or(0)));
            self.send(now, &peer, Ask::Head, self.rules.max_block_bytes);
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.probe_at = now + interval + jitter;
            }
        }
    }

    /// The block that is asked for by its hash: one that DA names and nobody has given us, or the next one down to where our
    /// branch is another than that of a pinned block.
    fn wanted_by_hash(&self) -> Option<Hash> {
        self.wanted.or_else(|| self.next_parent_of()).map(|wanted| wanted.hash)
    }

    /// Somebody may have it.
    fn ask_for_wanted(&mut self, now: Duration) {
        let Some(hash) = self.wanted_by_hash() else { return self.exclusions.forget_hash() };
        let asked: Vec<_> = self.requests.by_hash(hash).map(|open| (open.sent, open.peer.clone())).collect();
        if !asked.is_empty() && !self.is_hedge_due(now, &asked, self.config.timing.hedge_after) {
            return;
        }
        let max_open = self.config.limits.requests_per_peer;
        let able = self
            .peers
            .iter()
            .filter(|(id, peer)| peer.may_be_asked(now, max_open) && !asked.iter().any(|(_, asked)| asked == *id));
        let best = able.min_by_key(|(id, peer)| (self.exclusions.has_hash(hash, id), !peer.serves(), peer.cost()));
        let Some(peer) = best.map(|(id, _)| id.clone()) else {
            return self.retry_when_rested(now);
        };
        if self.exclusions.has_hash(hash, &peer) {
            self.exclusions.forget_hash();
        }
        self.send(now, &peer, Ask::Hash(hash), self.rules.max_block_bytes);
        self.look_again(now + self.config.timing.hedge_after);
    }

    /// A small gap at the head is probably on its way by gossip.
    fn is_gap_for_gossip(&mut self, now: Duration) -> bool {
        let Heads { soft, target: Some(target), tail, .. } = self.chain.heads else { return false };
        let missing = soft.map_or(target.height.above(tail) + 1, |soft| target.height.above(soft.id.height));
        if missing > SMALL_GAP {
            self.gap_since = None;
            return false;
        }
        let since = *self.gap_since.get_or_insert(now);
        let until = since + self.config.timing.gossip_grace;
        if now < until {
            self.look_again(until);
            return true;
        }
        false
    }

    fn ask_for_ranges(&mut self, now: Duration) {
        let limits = self.config.limits;
        let Some(target) = self.chain.heads.target else { return };
        if self.chain.fresh_bytes() > limits.commit_bytes {
            return;
        }
        let next = self.chain.heads.next_height();
        self.exclusions.forget_below(next);
        // Somebody who has not the next block any more may have those after it, which are of use if anybody has that one.
        let rested = self.peers.iter().filter(|(_, peer)| peer.may_serve_above(next, now));
        let slots: usize = rested.map(|(_, peer)| peer.room(limits.requests_per_peer)).sum();
        let slots = slots.min(limits.requests.saturating_sub(self.requests.len()));
        let can_go_on = !self.peers.lack_history(next)
            || self.peers.iter().any(|(_, peer)| peer.can_serve(next, now, limits.requests_per_peer));
        if slots == 0 || !can_go_on {
            self.ask_those_behind(now, next);
            return self.retry_when_rested(now);
        }
        let mut free = limits.held_bytes.saturating_sub(self.pending.bytes() + self.requests.bytes());
        let sizes = self.sizes();
        let farthest = next.plus(u64::try_from(limits.held_blocks).unwrap_or(u64::MAX).saturating_sub(1));
        let mut covered = self.pending.runs();
        covered.extend(self.requests.runs(next));
        covered.sort_unstable();
        let last = target.height.min(farthest);
        // Some may have to wait for a certain peer.
        let (mut left, most) = (slots, slots.saturating_add(self.exclusions.len()));
        for (from, amount) in ranges(next, last, sizes.per_request(), covered.into_iter(), most) {
            let answer_bytes = if from == next { sizes.next_answer_bytes(amount) } else { sizes.answer_bytes(amount) };
            // What everything waits for is asked for in any case: blocks held far above it would else keep it away.
            if left == 0 || (answer_bytes > free && from != next) {
                break;
            }
            if self.ask_for_range(now, from, amount, answer_bytes, &[]) {
                free = free.saturating_sub(answer_bytes);
                left -= 1;
            }
        }
        self.hedge(now, next, target.height, free);
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            block: self.block_bytes.unwrap_or_default(),
            max_block: self.rules.max_block_bytes,
            range: self.config.limits.range_bytes,
        }
    }

    /// Everything waits for the height above soft: when its one request takes long, a second peer is asked too. At the
    /// head, where a block more costs nothing, two are asked at once, and the first good answer wins.
    fn hedge(&mut self, now: Duration, next: Height, target: Height, free: usize) {
        let last = self.requests.covering(next).filter_map(Open::run).map(|(_, last)| last).max();
        let Some(last) = last else { return };
        let asked: Vec<_> = self.requests.covering(next).map(|open| (open.sent, open.peer.clone())).collect();
        let is_at_head = target.above(next) < SMALL_GAP && asked.len() == 1;
        let patience = if is_at_head { Duration::ZERO } else { self.config.timing.hedge_after };
        let rest = last.above(next) + 1;
        let answer_bytes = self.sizes().next_answer_bytes(rest);
        if self.is_hedge_due(now, &asked, patience) && (asked.len() == 1 || answer_bytes <= free) {
            let asked: Vec<_> = asked.into_iter().map(|(_, peer)| peer).collect();
            if self.ask_for_range(now, next, rest, answer_bytes, &asked) {
                self.look_again(now + self.config.timing.hedge_after);
            } else {
                self.ask_those_behind(now, next);
            }
        }
    }

    /// Too few are known to have the next block. Of those that had not when they were asked for their heads, some may by now:
    /// they are asked again, a few at a time, those first who serve.
    fn ask_those_behind(&mut self, now: Duration, next: Height) {
        let behind = self.peers.iter().filter(|(_, peer)| peer.is_behind(next, now));
        let mut behind: Vec<_> = behind.map(|(id, peer)| (!peer.serves(), peer.probe_at, id.clone())).collect();
        if behind.is_empty() {
            return;
        }
        if let Some(due) = self.behind_at.filter(|due| now < *due) {
            return self.look_again(due);
        }
        behind.sort_unstable();
        for (_, _, id) in behind.iter().take(PROBED_BEHIND) {
            if let Some(peer) = self.peers.get_mut(id) {
                peer.probe_at = now;
            }
        }
        let due = now + self.config.timing.hedge_after;
        self.behind_at = Some(due);
        self.look_again(due);
        self.probe_heads(now);
    }

    /// Whether one more is to be asked for what these were asked for, whoever was asked last `patience` ago. Two are enough
    /// as soon as one of them has shown that it serves: a slow link is not made faster by asking more.
    fn is_hedge_due(&mut self, now: Duration, asked: &[(Duration, PeerId)], patience: Duration) -> bool {
        let serves = |peer: &PeerId| self.peers.get(peer).is_some_and(Peer::serves);
        if asked.len() > 1 && asked.iter().any(|(_, peer)| serves(peer)) {
            return false;
        }
        let Some(last) = asked.iter().map(|(sent, _)| *sent).max() else { return false };
        let due = last + patience;
        if now < due {
            self.look_again(due);
        }
        now >= due
    }

    fn look_again(&mut self, at: Duration) {
        self.retry_at = Some(self.retry_at.map_or(at, |known| known.min(at)));
    }

    /// Says whether anybody was asked.
    fn ask_for_range(
        &mut self,
        now: Duration,
        from: Height,
        amount: u64,
        answer_bytes: usize,
        asked: &[PeerId],
    ) -> bool {
        let max_open = self.config.limits.requests_per_peer;
        // Who is asked beside others is to help in any case: somebody who serves, if there is one.
        let order = |id: &PeerId, peer: &Peer| {
            (self.exclusions.has(from, id), !asked.is_empty() && !peer.serves(), peer.cost())
        };
        let mut able: Vec<_> = self
            .peers
            .iter()
            .filter(|(id, peer)| !asked.contains(*id) && peer.can_serve(from, now, max_open))
            .filter_map(|(id, peer)| Some((id.clone(), peer.head?, order(id, peer))))
            .collect();
        // Equals are taken in an order that differs from time to time.
        self.rng.shuffle(&mut able);
        let Some((peer, head, (has_failed, ..))) = able.into_iter().min_by_key(|(_, _, order)| *order) else {
            self.retry_when_rested(now);
            return false;
        };
        if has_failed {
            let mut others = self.peers.iter().filter(|(id, _)| !self.exclusions.has(from, id));
            if from != self.chain.heads.next_height() && others.any(|(_, peer)| peer.will_serve(from, now)) {
                // Not everything waits for it: it is asked of one of the others as soon as that one has room.
                return false;
            }
            self.exclusions.forget(from);
        }
        let amount = amount.min(head.height.above(from) + 1);
        self.send(now, &peer, Ask::Range { from, amount }, answer_bytes);
        true
    }

    /// Nobody can be asked now: look again when the first one has rested.
    pub(super) fn retry_when_rested(&mut self, now: Duration) {
        let rested = self.peers.iter().map(|(_, peer)| peer.rest_until).filter(|until| *until > now).min();
        if let Some(at) = rested {
            self.look_again(at);
        }
    }

    /// What is counted of the peer here is taken off again in [`Self::fetched`].
    pub(super) fn send(&mut self, now: Duration, peer: &PeerId, ask: Ask, max_bytes: usize) {
        // The network gives up first, and hands over what has come by then; the core's own deadline is for a network that
        // says nothing.
        let timeout = self.config.timing.request_timeout;
        let below_tail = matches!(ask, Ask::Range { from, .. } if from < self.chain.heads.tail);
        let deadline = now + timeout + timeout / 4;
        let open = Open { peer: peer.clone(), ask, sent: now, deadline, bytes: max_bytes, below_tail };
        let request = self.requests.add(open);
        if let Some(peer) = self.peers.get_mut(peer) {
            match ask {
                Ask::Head => peer.probe = Some(request),
                Ask::Range { .. } | Ask::Hash(_) => peer.open += 1,
            }
        }
        let peer = peer.clone();
        self.immediate.push(Effect::Fetch(Fetch { request, peer, lane: Lane::BLOCK, ask, max_bytes, timeout }));
    }
}

/// Whether the blocks are a run of linked heights from `from` on.
pub(super) fn is_run(from: Height, blocks: &[AuthenticBlock]) -> bool {
    let heights = blocks.iter().zip(0..).all(|(block, index)| block.height() == from.plus(index));
    let links = blocks.iter().zip(blocks.iter().skip(1)).all(|(a, b)| b.parent_hash() == Some(a.hash()));
    heights && links
}
