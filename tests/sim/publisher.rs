//! The first host as the publisher: it makes the blocks, says again what it said before, and posts to DA what it was told back.

use std::time::Duration;

use blocksyncd::block::{Hash, Header, Height, native};
use blocksyncd::sync::{Input, Proposal};
use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::chain::{EPOCH_UNIX_NANOS, host_id};
use super::da::Poster;
use super::dice::Purpose;
use super::faults::Signing;
use super::node::Waits;
use super::tally::State;
use super::world::World;

const ANSWER_PATIENCE: Duration = Duration::from_secs(6);
/// Larger blocks cost more than they show.
const LARGEST: usize = 16_384;
/// What a block has beside its payload, at most.
const BESIDE_PAYLOAD: usize = 260;

impl World {
    /// A publisher posts what it has not posted yet.
    pub fn post_blocks(&mut self, n: usize) {
        loop {
            let state = &mut self.hosts[n].state;
            let index = state.chain.partition_point(|id| Some(id.height) <= state.posted);
            let Some(id) = state.chain.get(index).copied() else { return };
            state.posted = Some(id.height);
            if let Some(block) = self.chain.signed(id.hash).cloned() {
                // What it stands on is its own branch, whoever signed it.
                self.post_to_da(&block, Poster::Publisher);
            }
        }
    }

    /// The publisher makes a block, or says again what it said before.
    pub fn produce(&mut self) {
        let now = self.now;
        if !self.hosts[self.publisher].up || self.nodes[self.publisher].life().is_none() {
            return;
        }
        let host = &mut self.hosts[self.publisher];
        if !host.pending.is_empty() && now > host.pending_since + ANSWER_PATIENCE {
            host.pending.clear();
        }
        if !self.healed && self.dice.common(Purpose::Publisher).f64() < self.plan.republish {
            let made: Vec<Proposal> = self.hosts[self.publisher].state.made.values().cloned().collect();
            if let Some(again) = self.dice.common(Purpose::Publisher).choice(made) {
                self.publish(again, false);
            }
        }
        if !self.healed && self.dice.common(Purpose::Publisher).f64() < self.plan.other_block {
            self.publish_another();
        }
        if self.plan.rotation_rate > 0.0 {
            self.switch_signer();
        }
        if self.publish_history() {
            return;
        }
        let depth = self.plan.pipeline;
        while self.hosts[self.publisher].pending.len() < depth && !self.is_over() {
            if !self.make_next() {
                break;
            }
        }
    }

    /// A sidecar that lost its disk, and says nothing because it is behind its host, is given the host's history again.
    fn publish_history(&mut self) -> bool {
        let host = &self.hosts[self.publisher];
        let next = self.nodes[self.publisher].disk.image.heads.next_height();
        if host.stream.is_some() || host.state.tip().is_none_or(|tip| tip.height < next) {
            return false;
        }
        let history: Vec<Proposal> = host.state.made.range(next..).take(8).map(|(_, made)| made.clone()).collect();
        for proposal in history {
            self.publish(proposal, false);
        }
        true
    }

    /// Proposes the block after everything that it has proposed; false: not now.
    fn make_next(&mut self) -> bool {
        let initial = self.chain.initial_height();
        let host = &self.hosts[self.publisher];
        let tip = host.state.tip();
        let height = match (host.pending.back(), tip) {
            (Some((_, last)), _) => last.next(),
            (None, Some(tip)) => tip.height.next(),
            (None, None) => initial,
        };
        if self.last_to_publish.is_some_and(|last| height > last) || host.state.gap_to.is_some() {
            return false;
        }
        let on_tip = host.pending.is_empty();
        if !on_tip && self.plan.signing == Signing::ByHost {
            return false;
        }
        let proposal = if let Some(made) = host.state.made.get(&height) {
            // Its answer was lost.
            Proposal { parent: made.parent.and(tip).map(|tip| tip.hash), ..made.clone() }
        } else {
            let rng = self.dice.common(Purpose::Publisher);
            let payload: Bytes = (0..self.plan.payload_bytes).map(|_| rng.u8(..)).collect();
            let payload = self.odd_size(payload);
            let parent = if on_tip { tip.map(|tip| tip.hash) } else { None };
            let proposal = self.proposal(height, parent, payload);
            self.exact_size(proposal)
        };
        self.hosts[self.publisher].state.made.insert(height, proposal.clone());
        self.hosts[self.publisher].pending_since = self.now;
        self.publish(proposal, true)
    }

    /// Now and then a block is as large as one may be, or nearly empty.
    fn odd_size(&mut self, payload: Bytes) -> Bytes {
        if self.plan.odd_sizes == 0.0 {
            return payload;
        }
        let limits = &self.plan.limits;
        let most = [limits.pending_bytes, limits.commit_bytes, limits.sighting_bytes, LARGEST];
        let most = most.into_iter().fold(self.plan.max_block_bytes, usize::min);
        let rng = self.dice.common(Purpose::Sizes);
        if rng.f64() >= self.plan.odd_sizes {
            return payload;
        }
        if rng.bool() {
            self.tally.count(State::TinyBlock);
            return Bytes::copy_from_slice(&[self.dice.common(Purpose::Sizes).u8(..)]);
        }
        self.tally.count(State::LargeBlock);
        let mut bytes = vec![0; most.saturating_sub(BESIDE_PAYLOAD)];
        bytes.iter_mut().take(16).for_each(|byte| *byte = rng.u8(..));
        bytes.into()
    }

    /// Now and then a block is exactly as large as one may be, or a byte larger.
    fn exact_size(&mut self, proposal: Proposal) -> Proposal {
        let (plan, most) = (&self.plan, self.plan.max_block_bytes);
        let limits = [plan.limits.pending_bytes, plan.limits.commit_bytes, plan.limits.sighting_bytes, LARGEST];
        if plan.exact_sizes == 0.0 || limits.into_iter().any(|limit| limit < 2 * most) {
            return proposal;
        }
        let rng = self.dice.common(Purpose::Sizes);
        if rng.f64() >= self.plan.exact_sizes {
            return proposal;
        }
        let may_be_too_large = self.plan.signing != Signing::ByHost;
        let (state, wanted) = if rng.u8(..) < 64 && may_be_too_large {
            (State::TooLargeBlock, most + 1)
        } else {
            (State::LargestBlock, most)
        };
        let fill = rng.u8(..);
        // What is beside the payload is as long for each length near to this one, but for where a length takes a byte more.
        let beside = self.size_with(&proposal, most).saturating_sub(most);
        let fitting = (0..=2).map(|less| wanted.saturating_sub(beside + less));
        let Some(length) = fitting.into_iter().find(|length| self.size_with(&proposal, *length) == wanted) else {
            return proposal;
        };
        self.tally.count(state);
        self.proposal(proposal.height, proposal.parent, vec![fill; length].into())
    }

    /// How large the block is, with a payload of so many bytes.
    fn size_with(&self, proposal: &Proposal, length: usize) -> usize {
        let payload = Bytes::from(vec![0; length]);
        let initial = self.chain.initial_height();
        let header = Header {
            chain_id: self.chain.rules().chain_id.clone(),
            height: proposal.height,
            time_unix_nanos: proposal.time_unix_nanos,
            parent_hash: (proposal.height > initial).then_some(proposal.payload_hash),
            payload_hash: proposal.payload_hash,
            proposer: self.chain.public_key(),
            host_id: proposal.host_id.clone(),
        };
        native::encode(&native::encode_header(&header), &[0; 64], &payload).len()
    }

    fn proposal(&self, height: Height, parent: Option<Hash>, payload: Bytes) -> Proposal {
        let parent_time = self.hosts[self.publisher]
            .state
            .tip()
            .and_then(|tip| self.chain.signed(tip.hash))
            .map(AuthenticBlock::time_unix_nanos);
        let elapsed = u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX);
        Proposal {
            height,
            parent,
            time_unix_nanos: (EPOCH_UNIX_NANOS + elapsed).max(parent_time.unwrap_or(0)),
            host_id: host_id(&payload),
            payload_hash: Hash::of(&payload),
            payload,
        }
    }

    fn publish(&mut self, proposal: Proposal, wait: bool) -> bool {
        let life = self.hosts[self.publisher].life;
        let height = proposal.height;
        let input = if self.plan.signing == Signing::ByHost {
            let initial = self.chain.initial_height();
            let parent = match height.prev().filter(|_| height > initial) {
                None => None,
                Some(below) => match self.hosts[self.publisher].state.chain.iter().find(|id| id.height == below) {
                    Some(parent) => Some(*parent),
                    None => return false,
                },
            };
            let signatures = self.chain.signatures();
            let block = self.chain.make(parent, proposal.time_unix_nanos, &proposal.payload);
            // What it signed before is handed over again.
            if self.chain.signatures() > signatures {
                self.check_originated(self.publisher, block.id());
            }
            let ticket = self.nodes[self.publisher].wait(Waits::Publish, self.publisher, life);
            if wait {
                self.hosts[self.publisher].pending.push_back((ticket, height));
            }
            Input::PublishSigned { ticket, outcome: Ok(block) }
        } else {
            let ticket = self.nodes[self.publisher].wait(Waits::Publish, self.publisher, life);
            if wait {
                self.hosts[self.publisher].pending.push_back((ticket, height));
            }
            Input::Publish { ticket, proposal }
        };
        self.handle(self.publisher, input);
        true
    }

    /// Something else at a height that was published already.
    fn publish_another(&mut self) {
        let chain = &self.hosts[self.publisher].state.chain;
        let back = self.dice.common(Purpose::Publisher).usize(0..3);
        let Some(id) = chain.len().checked_sub(1 + back).map(|index| chain[index]) else { return };
        let rng = self.dice.common(Purpose::Publisher);
        let payload: Bytes = (0..9).map(|_| rng.u8(..)).collect();
        let proposal = self.proposal(id.height, None, payload);
        self.publish(proposal, false);
    }
}
