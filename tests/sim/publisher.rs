//! The first host as the publisher: it makes the blocks, says again what it said before, and posts to DA what it was told back.

use std::time::Duration;

use blocksyncd::block::{Hash, Height};
use blocksyncd::sync::{Input, Proposal};
use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::chain::{EPOCH_UNIX_NANOS, host_id};
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
    /// The publisher posts what it has not posted yet.
    pub fn post_blocks(&mut self) {
        loop {
            let state = &mut self.hosts[0].state;
            let index = state.chain.partition_point(|id| Some(id.height) <= state.posted);
            let Some(id) = state.chain.get(index).copied() else { return };
            state.posted = Some(id.height);
            if let Some(block) = self.chain.signed(id.hash).cloned() {
                // What it stands on is its own branch, whoever signed it.
                self.post_to_da(&block, false);
            }
        }
    }

    /// The publisher makes a block, or says again what it said before.
    pub fn produce(&mut self) {
        let now = self.now;
        if !self.hosts[0].up || self.nodes[0].life().is_none() {
            return;
        }
        let host = &mut self.hosts[0];
        if !host.pending.is_empty() && now > host.pending_since + ANSWER_PATIENCE {
            host.pending.clear();
        }
        if !self.healed && self.dice.common(Purpose::Publisher).f64() < self.plan.republish {
            let made: Vec<Proposal> = self.hosts[0].state.made.values().cloned().collect();
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
        while self.hosts[0].pending.len() < depth && !self.is_over() {
            if !self.make_next() {
                break;
            }
        }
    }

    /// A sidecar that lost its disk, and says nothing because it is behind its host, is given the host's history again.
    fn publish_history(&mut self) -> bool {
        let host = &self.hosts[0];
        let next = self.nodes[0].disk.image.heads.next_height();
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
        let host = &self.hosts[0];
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
            self.proposal(height, parent, payload)
        };
        self.hosts[0].state.made.insert(height, proposal.clone());
        self.hosts[0].pending_since = self.now;
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
            return Bytes::copy_from_slice(&[rng.u8(..)]);
        }
        self.tally.count(State::LargeBlock);
        let mut bytes = vec![0; most.saturating_sub(BESIDE_PAYLOAD)];
        bytes.iter_mut().take(16).for_each(|byte| *byte = rng.u8(..));
        bytes.into()
    }

    fn proposal(&self, height: Height, parent: Option<Hash>, payload: Bytes) -> Proposal {
        let parent_time =
            self.hosts[0].state.tip().and_then(|tip| self.chain.signed(tip.hash)).map(AuthenticBlock::time_unix_nanos);
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
        let life = self.hosts[0].life;
        let height = proposal.height;
        let input = if self.plan.signing == Signing::ByHost {
            let initial = self.chain.initial_height();
            let parent = match height.prev().filter(|_| height > initial) {
                None => None,
                Some(below) => match self.hosts[0].state.chain.iter().find(|id| id.height == below) {
                    Some(parent) => Some(*parent),
                    None => return false,
                },
            };
            let signatures = self.chain.signatures();
            let block = self.chain.make(parent, proposal.time_unix_nanos, &proposal.payload);
            // What it signed before is handed over again.
            if self.chain.signatures() > signatures {
                self.check_originated(0, block.id());
            }
            let ticket = self.nodes[0].wait(Waits::Publish, 0, life);
            if wait {
                self.hosts[0].pending.push_back((ticket, height));
            }
            Input::PublishSigned { ticket, outcome: Ok(block) }
        } else {
            let ticket = self.nodes[0].wait(Waits::Publish, 0, life);
            if wait {
                self.hosts[0].pending.push_back((ticket, height));
            }
            Input::Publish { ticket, proposal }
        };
        self.handle(0, input);
        true
    }

    /// Something else at a height that was published already.
    fn publish_another(&mut self) {
        let chain = &self.hosts[0].state.chain;
        let back = self.dice.common(Purpose::Publisher).usize(0..3);
        let Some(id) = chain.len().checked_sub(1 + back).map(|index| chain[index]) else { return };
        let rng = self.dice.common(Purpose::Publisher);
        let payload: Bytes = (0..9).map(|_| rng.u8(..)).collect();
        let proposal = self.proposal(id.height, None, payload);
        self.publish(proposal, false);
    }
}
