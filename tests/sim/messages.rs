//! The messages between a node and its peers: gossip that is queued, checked and judged, and fetches whose answers are
//! gathered until they end, as the sidecar's network and verify pool do it.

use std::sync::Arc;
use std::time::Duration;

use blocksyncd::sync::{BlockQuery, Fetch, FetchOutcome, Fetched, Input, MAX_RANGE, RequestId, Ticket, Verdict};
use bytes::Bytes;

use super::byzantine_answers::Behaviour;
use super::dice::Purpose;
use super::mutations::Bug;
use super::network::{Message, Packet, StreamEnd};
use super::tally::State;
use super::world::{Event, World, index_of, peer_id};

#[derive(Debug)]
pub struct OpenFetch {
    pub fetch: Fetch,
    pub arrived: Vec<Bytes>,
}

#[derive(Debug)]
pub struct UnjudgedMessage {
    pub from: usize,
    pub message: Message,
}

impl World {
    /// A gossip message arrived: it is queued for the stateless checks, or dropped unread.
    pub fn node_receives(&mut self, n: usize, from: usize, message: Message) {
        self.check_received(n, from, &message);
        let pool = self.plan.pool;
        let check = self.plan.check;
        let now = self.now;
        let node = &mut self.nodes[n];
        let Some(life) = node.life() else { return };
        if !node.seen.insert(message.id) {
            return;
        }
        if node.checking >= pool {
            return self.handle(n, Input::GossipMissed { peer: peer_id(from) });
        }
        if self.bug == Some(Bug::ForwardBeforeVerify) {
            self.spread(n, Some(from), &message);
        }
        let node = &mut self.nodes[n];
        let ticket = node.ticket();
        node.gossip.insert(ticket, UnjudgedMessage { from, message });
        node.checking += 1;
        node.checked_until = node.checked_until.max(now) + check;
        let wait = node.checked_until.saturating_sub(now);
        self.later(wait, Event::Checked { node: n, life, ticket });
    }

    pub fn on_checked(&mut self, n: usize, ticket: Ticket) {
        let node = &mut self.nodes[n];
        node.checking -= 1;
        let Some(unjudged) = node.gossip.get(&ticket) else { return };
        let peer = peer_id(unjudged.from);
        let rules = Arc::clone(node.syncer.as_ref().expect("its process is there").rules());
        let most = node.limits.max_block_bytes;
        let outcome = self.chain.check(&rules, &unjudged.message.bytes).and_then(|block| block.within(most));
        self.handle(n, Input::Gossip { peer, ticket, outcome });
        if self.nodes[n].gossip.contains_key(&ticket) {
            self.fail(format!("n{n}: gossip {ticket} was not judged at once"));
        }
    }

    pub fn judge(&mut self, n: usize, ticket: Ticket, verdict: Verdict) {
        let verdict = match (verdict, self.bug) {
            (Verdict::Ignore, Some(Bug::KnownIsReject)) => Verdict::Reject,
            _ => verdict,
        };
        let Some(UnjudgedMessage { from, message }) = self.nodes[n].gossip.remove(&ticket) else {
            return self.fail(format!("n{n}: {ticket} was judged, but is no message that waits"));
        };
        self.check_judged(n, from, &message, verdict);
        if verdict == Verdict::Accept {
            self.spread(n, Some(from), &message);
        }
    }

    pub fn start_fetch(&mut self, n: usize, fetch: Fetch) {
        self.check_fetch(n, &fetch);
        let Some(life) = self.nodes[n].life() else { return };
        let (request, peer) = (fetch.request, index_of(&fetch.peer));
        if let BlockQuery::Hash(_) = fetch.query {
            self.tally.count(if n == self.publisher { State::AwaitedAsked } else { State::WalkStep });
        }
        let mut query = fetch.query;
        if self.bug == Some(Bug::RangeOneFurther)
            && let BlockQuery::Range { from, .. } = &mut query
        {
            *from = from.next();
        }
        let timeout = fetch.timeout;
        self.nodes[n].fetches.insert(request, OpenFetch { fetch, arrived: Vec::new() });
        if !self.healed && self.plan.not_sent > 0.0 && self.dice.of(Purpose::Requests, n).f64() < self.plan.not_sent {
            let outcome = FetchOutcome::NotSent;
            self.later(Duration::ZERO, Event::FetchLate { node: n, life, request, outcome });
        } else if self.behaviour_of(peer) == Some(Behaviour::Foreign) {
            let outcome = FetchOutcome::Unsupported;
            self.later(self.plan.delay.1, Event::FetchLate { node: n, life, request, outcome });
        } else if self.net.is_up(n, peer) {
            self.send(n, peer, Packet::BlockQuery { request, life, query });
            self.later(timeout, Event::FetchLate { node: n, life, request, outcome: FetchOutcome::Timeout });
        } else {
            self.later(
                Duration::ZERO,
                Event::FetchLate { node: n, life, request, outcome: FetchOutcome::Disconnected },
            );
        }
    }

    pub fn on_answer(&mut self, n: usize, request: RequestId, life: u64, bodies: Vec<Bytes>, end: Option<StreamEnd>) {
        if self.nodes[n].life() != Some(life) {
            return;
        }
        let Some(open) = self.nodes[n].fetches.get_mut(&request) else { return };
        let most = match open.fetch.query {
            BlockQuery::Head | BlockQuery::Hash(_) => 1,
            BlockQuery::Range { amount, .. } => usize::try_from(amount.min(MAX_RANGE)).unwrap_or(0),
        };
        let mut bytes = 0;
        let mut outcome = match end {
            None => None,
            Some(StreamEnd::Complete) => Some(FetchOutcome::Complete),
            Some(StreamEnd::NotFound) => Some(FetchOutcome::NotFound),
            Some(StreamEnd::Reset) => Some(FetchOutcome::Reset),
            // Where a block of any size is let through, we wait for it.
            Some(StreamEnd::TooHeavy) => {
                (open.fetch.max_bytes < self.plan.max_block_bytes).then_some(FetchOutcome::Cut)
            }
        };
        for body in bodies {
            bytes += body.len();
            if open.arrived.len() == most {
                // The client has what it asked for, and closes.
                outcome = Some(FetchOutcome::Complete);
                break;
            }
            if bytes > open.fetch.max_bytes {
                outcome = Some(FetchOutcome::Cut);
                break;
            }
            open.arrived.push(body);
        }
        if let Some(outcome) = outcome {
            self.end_fetch(n, request, outcome);
        }
    }

    pub fn end_fetch(&mut self, n: usize, request: RequestId, outcome: FetchOutcome) {
        let Some(open) = self.nodes[n].fetches.remove(&request) else { return };
        match &outcome {
            FetchOutcome::NotFound => self.tally.count(State::AnswerNotFound),
            FetchOutcome::Cut => self.tally.count(State::AnswerCut),
            FetchOutcome::Reset => self.tally.count(State::AnswerReset),
            FetchOutcome::Timeout => self.tally.count(State::AnswerLate),
            FetchOutcome::NotSent => self.tally.count(State::AnswerNotSent),
            FetchOutcome::Unsupported => self.tally.count(State::AnswerUnsupported),
            FetchOutcome::Complete | FetchOutcome::Disconnected | FetchOutcome::Invalid(_) => {}
        }
        let mut fetched = Fetched { blocks: Vec::new(), outcome };
        let Some(syncer) = &self.nodes[n].syncer else { return };
        let (rules, most) = (Arc::clone(syncer.rules()), self.nodes[n].limits.max_block_bytes);
        for body in &open.arrived {
            match self.chain.check(&rules, body).and_then(|block| block.within(most)) {
                Ok(block) => fetched.blocks.push(block),
                Err(fault) => {
                    self.tally.count(State::AnswerInvalid);
                    fetched.outcome = FetchOutcome::Invalid(Some(fault));
                    break;
                }
            }
        }
        self.handle(n, Input::Fetched { request, fetched });
    }
}
