//! What is asked of which peer: the open requests, what is known of the peers, and whom to ask next for what is missing.
//!
//! ```text
//!   what is missing --plan--> ranges --> the best peer that is not excluded --> Fetch --> answer --> AnswerUse --> scores
//!     blocks by hash ----------'                                               (hedged when the next block is late)
//! ```
//!
//! It stalls for no single peer: a request that fails goes to another one, and a peer that fails rests for a growing while. Which
//! blocks are of use is not decided here: what came of an answer is handed in as an [`AnswerUse`].
//!
//! Invariants:
//! 1. What a peer was asked is counted once, from [`Exchange::send`] to [`Exchange::take`].
//! 2. At most `limits.requests_per_peer` range requests are open at one peer, beside one for its head and a few by hash.
//! 3. The random numbers that are drawn depend on the inputs alone.

mod asking;
mod by_hash;
mod exclusions;
mod peers;
mod plan;
mod requests;

use std::collections::BTreeMap;
use std::time::Duration;

use super::decision::Decision;
use super::{BlockQuery, FetchOutcome, Limits, Offence, PeerId, PeerStanding, RequestId, Timing};
use crate::block::{BlockId, Height};
use crate::clock::Now;
use crate::util::backoff::Backoff;
use crate::verify::AuthenticBlock;

use by_hash::Searches;
use exclusions::Exclusions;
use peers::{Peer, Peers};
use plan::Sizes;
use requests::{PutOff, Requests};

pub(super) use requests::{HeightRun, OpenRequest};

/// What was answered may take so many timeouts to be checked: then the checks are taken to have been lost.
const CHECKS_TAKE: u32 = 8;

#[derive(Debug)]
pub(super) struct Exchange {
    limits: Limits,
    timing: Timing,
    max_block_bytes: usize,
    peers: Peers,
    requests: Requests,
    exclusions: Exclusions,
    searches: Searches,
    rng: fastrand::Rng,
    /// Smoothed size of a block, in bytes; the first one's, which is a peer's head, to begin with.
    block_bytes: Option<usize>,
    /// Since when the height above soft is known to exist and is not here.
    gap_since: Option<Duration>,
    /// When somebody last led nearer to the target, or proved a new one.
    led_on_at: Duration,
    /// When a peer that rests now can be asked again.
    retry_at: Option<Duration>,
    /// No range is asked for before this moment, since the last ones brought nothing that we could take;
    ranges_at: Duration,
    /// so many in a row.
    not_taken: u32,
    /// When peers that were behind may be asked for their heads again, out of turn.
    behind_at: Option<Duration>,
}

/// What is missing, as far as it decides of whom the rest of an answer is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    /// The height that the next stored block will have.
    pub next: Height,
}

/// What became of an answer, as far as it says something about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerUse {
    /// The peer gave its head, or a block by its hash. How long that took is noted; how it serves ranges is not known from it.
    OneBlock,
    /// The block with a hash did not come: it is looked for elsewhere, and nobody has failed.
    InVain,
    /// The first `given` blocks of a range were of use: it serves. What is still missing is asked of others first.
    Served { given: u64 },
    /// As `Served`, but we cut the answer off: the peer may have what is missing, too.
    ServedInPart,
    /// What was asked for is below its tail: it has failed in nothing, and is asked for what is higher up.
    BelowItsTail(Height),
    /// The block at this height is heavier than the whole answer might be, says a peer that serves: it is not asked for again
    /// before everything waits for it.
    TooHeavy(Height),
    /// Nothing was sent, for want of room on our side: no failure of the peer's, and no reason to ask again at once.
    NotSent,
    /// Nothing that counts for the peer or against it.
    Neutral,
    /// Sound blocks of our branch that we could not take, for a reason of our own: nobody has failed, and for a while, longer each time,
    /// none are asked for.
    NotTaken,
    /// Nothing of use came before we cut the answer off: the peer rests, and may have the rest all the same.
    CutShort,
    /// Nothing of use, whatever the reason: the peer rests, and others are asked first.
    Useless,
    /// Not what was asked for, or it broke the protocol, after `given` blocks that were of use: the peer rests, is punished, and others
    /// are asked first for what is missing.
    Wrong { given: u64, offence: Offence },
}

/// Blocks to be asked for, the highest of which is `last`; fewer of them when nobody could have all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpanBelow {
    pub last: Height,
    /// 1 to `last`: no lower than height 1 is reached.
    pub amount: u64,
}

// ---- What is known of the peers ------------------------------------------------------------------------------------

impl Exchange {
    pub fn new(limits: Limits, timing: Timing, max_block_bytes: usize, seed: u64) -> Self {
        Self {
            limits,
            timing,
            max_block_bytes,
            peers: Peers::new(timing, limits.remembered_peers),
            requests: Requests::new(limits.exclusions),
            exclusions: Exclusions::new(limits.exclusions),
            searches: Searches::default(),
            rng: fastrand::Rng::with_seed(seed),
            block_bytes: None,
            gap_since: None,
            led_on_at: Duration::ZERO,
            retry_at: None,
            ranges_at: Duration::ZERO,
            not_taken: 0,
            behind_at: None,
        }
    }

    pub fn peer_up(&mut self, peer: PeerId, now: Duration) {
        self.peers.up(peer, now);
    }

    pub fn peer_down(&mut self, peer: &PeerId, missing: Missing) {
        for request in self.requests.of_peer(peer) {
            if let Some(open) = self.requests.remove(request) {
                self.exclude_from_range(&open, 0, missing);
            }
        }
        self.peers.down(peer);
        self.searches.forget_peer(peer);
    }

    pub fn connected_peers(&self) -> usize {
        self.peers.len()
    }

    pub fn standings(&self, now: Duration) -> BTreeMap<PeerId, PeerStanding> {
        self.peers.standings(now)
    }

    /// Requests in flight.
    pub fn open_requests(&self) -> usize {
        self.requests.len()
    }

    /// The peer gave us a block that passed its checks.
    pub fn delivered(&mut self, peer: &PeerId, now: Duration) {
        self.peers.delivered(peer, now);
    }

    /// The peer gave us this block, which therefore exists there.
    pub fn record_head(&mut self, peer: &PeerId, id: BlockId) {
        self.peers.record_head(peer, id);
    }

    /// The peer answered with its head.
    pub fn record_answered_head(&mut self, peer: &PeerId, head: BlockId) {
        let Some(known) = self.peers.get_mut(peer) else { return };
        if known.head() != Some(head) {
            self.searches.forget_peer(peer);
        }
        known.record_answered_head(head);
    }

    /// The peer was asked for `amount` blocks from `from` on, and gave the first `count` of them.
    pub fn record_answered_range(
        &mut self,
        peer: &PeerId,
        from: Height,
        amount: u64,
        count: u64,
        outcome: &FetchOutcome,
    ) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.record_answered_range(from, amount, count, outcome);
        }
    }

    /// The peer answered with a head of which our schedule does not know the proposer.
    pub fn record_claimed_head(&mut self, peer: &PeerId, height: Height) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.record_claimed_head(height);
        }
    }

    /// What the peer has from this height on our schedule does not know.
    pub fn record_unknown(&mut self, peer: &PeerId, from: Height) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.record_unknown(from);
        }
    }

    /// The peer gave the block at this height.
    pub fn record_gave(&mut self, peer: &PeerId, height: Height) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.record_gave(height);
        }
    }

    /// Whether a refusal of this height by this peer means that the height is below its tail.
    pub fn must_store(&self, peer: &PeerId, height: Height) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.must_store(height))
    }

    /// Whether the peer's last answer to a request for blocks was of use.
    pub fn serves(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(Peer::serves)
    }

    /// The peer follows another branch than ours.
    pub fn mark_elsewhere(&mut self, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.mark_elsewhere();
        }
    }

    /// The peer has another block than the one that our tail stands on.
    pub fn mark_elsewhere_at(&mut self, peer: &PeerId, below_tail: Height) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.mark_elsewhere_at(below_tail);
        }
    }

    /// Whether any peer follows another branch than ours.
    pub fn any_elsewhere(&self) -> bool {
        self.peers.iter().any(|(_, peer)| peer.is_elsewhere())
    }

    /// Whether some have blocks from `next` on, and all of these are on another branch than ours.
    pub fn are_all_elsewhere(&self, next: Height) -> bool {
        self.peers.are_all_elsewhere(next)
    }

    /// Whether some have blocks from `next` on, on our branch, and all of these have said that they have not that one.
    pub fn lack_history(&self, next: Height) -> bool {
        self.peers.lack_history(next)
    }

    /// Likewise with the block that the tail links to.
    pub fn lack_below_tail(&self, last: Height) -> bool {
        self.peers.lack_below_tail(last)
    }

    /// Ours is another branch now: who is on it is to be found out anew.
    pub fn branch_changed(&mut self) {
        self.peers.branch_changed();
    }

    /// The peer did something provably wrong.
    pub fn penalize(&mut self, now: Now, peer: &PeerId, offence: Offence, decision: &mut Decision) {
        let ban = self.peers.offended(peer, offence, now.elapsed);
        decision.penalize(peer.clone(), offence, ban);
    }

    /// Up to where peers may have blocks of our branch, from `next` on, as they proved, or claim.
    pub fn reach_beyond(&self, next: Height, now: Duration) -> Option<Height> {
        let able = self.peers.iter().filter(|(_, peer)| peer.may_serve_above(next, now));
        able.filter_map(|(_, peer)| peer.reach()).max().filter(|reach| *reach >= next)
    }

    /// The schedule is another one: what it did not know it may know now.
    pub fn schedule_changed(&mut self, now: Duration) {
        for id in self.peers.ids() {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.schedule_changed();
            }
        }
        self.probe_all_soon(now);
    }

    /// Something was missed: the peer is asked for its head soon.
    pub fn probe_soon(&mut self, now: Duration, peer: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.probe_by(now + self.timing.gossip_grace);
        }
    }

    /// All peers are asked for their heads at this moment at the latest, those that are being asked now once more.
    pub fn probe_all_by(&mut self, at: Duration) {
        for peer in self.peers.ids() {
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.probe_by(at);
            }
        }
    }

    /// The id of the next request.
    pub fn next_request(&self) -> RequestId {
        self.requests.next()
    }

    /// What is known of what is missing was forgotten when blocks were retracted: it is to be proved anew.
    pub fn probe_all_soon(&mut self, now: Duration) {
        for peer in self.peers.ids() {
            self.probe_soon(now, &peer);
        }
    }
}

// ---- What is known of the blocks -----------------------------------------------------------------------------------

impl Exchange {
    /// A block that was stored weighs this much: for how many to ask.
    pub fn learn_size(&mut self, bytes: usize) {
        self.block_bytes = Some(self.block_bytes.map_or(bytes, |known| (known * 7 + bytes) / 8));
    }

    /// As [`Self::learn_size`], of a block that may never be stored: it counts while nothing better is known.
    pub fn guess_size(&mut self, bytes: usize) {
        self.block_bytes.get_or_insert(bytes);
    }

    /// Blocks in a request that is as large as it should be, 1 to `MAX_RANGE`.
    pub fn blocks_per_request(&self) -> u64 {
        self.sizes().per_request()
    }

    /// The block is stored. A peer that said it was heavier than it is has wasted a request.
    pub fn judge_put_off(&mut self, now: Duration, block: &AuthenticBlock) {
        if let Some(put_off) = self.requests.take_put_off(block.height())
            && block.size() <= put_off.bytes
        {
            self.peers.failed(&put_off.claimed_by, now, now);
        }
    }

    /// A target that is new, or nearer than before.
    pub fn led_on(&mut self, now: Duration) {
        self.led_on_at = now;
        self.progressed();
    }

    /// Soft has risen, or may rise.
    pub fn progressed(&mut self) {
        self.ranges_at = Duration::ZERO;
        self.not_taken = 0;
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            block: self.block_bytes.unwrap_or_default(),
            max_block: self.max_block_bytes,
            range: self.limits.range_bytes,
        }
    }
}

// ---- Answers -------------------------------------------------------------------------------------------------------

impl Exchange {
    /// Requests whose answers are overdue, and how each is taken to have ended. Whoever comes late to a deadline has stood still, and
    /// takes a moment to read what came meanwhile.
    pub fn overdue(&mut self, now: Duration) -> Vec<(RequestId, FetchOutcome)> {
        let moment = self.timing.request_timeout / 4;
        if self.requests.next_deadline().is_some_and(|due| due + moment / 2 < now) {
            self.requests.wait_until(now + moment);
        }
        self.requests.overdue(now)
    }

    /// The answer is here, and is being checked.
    pub fn arrived(&mut self, now: Duration, request: RequestId) {
        self.requests.arrived(request, now + self.timing.request_timeout * CHECKS_TAKE);
    }

    /// A request has ended; `None` when it was given up before.
    pub fn take(&mut self, request: RequestId) -> Option<OpenRequest> {
        let open = self.requests.remove(request)?;
        if let Some(peer) = self.peers.get_mut(&open.peer) {
            peer.ask_ended(open.query);
        }
        Some(open)
    }

    /// Draws the consequences of an answer.
    pub fn settle(&mut self, now: Now, open: OpenRequest, used: AnswerUse, missing: Missing, decision: &mut Decision) {
        let took = now.elapsed.saturating_sub(open.sent);
        match used {
            AnswerUse::OneBlock => self.peers.gave_block(&open.peer, took),
            AnswerUse::InVain => self.exclude(&open, 0, missing, now.elapsed),
            AnswerUse::Served { given } => {
                self.exclude(&open, given, missing, now.elapsed);
                self.peers.served(&open.peer, took);
            }
            AnswerUse::ServedInPart => self.peers.served(&open.peer, took),
            AnswerUse::BelowItsTail(height) => {
                self.exclude(&open, 0, missing, now.elapsed);
                self.peers.record_tail_above(&open.peer, height, now.elapsed);
            }
            AnswerUse::TooHeavy(height) => {
                self.requests.put_off(height, PutOff { claimed_by: open.peer, bytes: open.bytes });
            }
            AnswerUse::NotSent => self.peers.rest(&open.peer, now.elapsed),
            AnswerUse::Neutral => {}
            AnswerUse::CutShort => self.peers.failed(&open.peer, open.sent, now.elapsed),
            AnswerUse::Useless => {
                self.peers.failed(&open.peer, open.sent, now.elapsed);
                self.exclude(&open, 0, missing, now.elapsed);
            }
            AnswerUse::NotTaken => self.pause_ranges(now.elapsed),
            AnswerUse::Wrong { given, offence } => {
                self.peers.failed(&open.peer, open.sent, now.elapsed);
                self.exclude(&open, given, missing, now.elapsed);
                self.penalize(now, &open.peer, offence, decision);
            }
        }
    }

    fn pause_ranges(&mut self, now: Duration) {
        let Timing { backoff_min, backoff_max, .. } = self.timing;
        self.ranges_at = now + Backoff { shortest: backoff_min, longest: backoff_max }.pause(self.not_taken);
        self.not_taken = self.not_taken.saturating_add(1);
    }

    /// What is missing of this answer, of which the first `given` blocks were of use, is asked of others first.
    fn exclude(&mut self, open: &OpenRequest, given: u64, missing: Missing, now: Duration) {
        if let BlockQuery::Hash(hash) = open.query {
            self.searches.note_in_vain(hash, &open.peer, now, self.timing);
        }
        self.exclude_from_range(open, given, missing);
    }

    fn exclude_from_range(&mut self, open: &OpenRequest, given: u64, missing: Missing) {
        let BlockQuery::Range { from, amount } = open.query else { return };
        // Gossip may have brought some of it meanwhile.
        let first_missing = from.plus(given).max(missing.next);
        if first_missing < from.plus(amount) {
            self.exclusions.add(first_missing, open.peer.clone());
        }
    }
}
