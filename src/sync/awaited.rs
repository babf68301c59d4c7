//! What a node that may sign waits for: every block above soft that a sequencer's signature proves to exist, be it one that we
//! cannot take now.
//!
//! Invariants:
//! 1. A block leaves the set when it is stored, when soft has passed its height, when it turns out to be given up, or when who
//!    signed it is not scheduled there any more; never because of its height, its age, or because nobody has it.
//! 2. Bounded by `limits.awaited`. What came while there was no room is not forgotten: the peers are asked anew
//!    once there is ([`Awaited::take_missed`]).
//! 3. What soft has passed on another branch, above hard, is remembered: it is awaited again when soft falls. What the awaited blocks
//!    stand on further below is, as long as anything is awaited. Both bounded the same way.
//! 4. What a block stands on never changes, so that a long way down is gone once, and from where it ended when more is known: above
//!    soft, and below (`walked.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Heads;
use super::descent::{Below, Gone, Stand};
use super::walked::Walked;
use crate::block::{BlockId, Height};

/// For how long soft may stand still before the parents of what is awaited are asked for by their hashes: what is on our branch
/// comes in ranges meanwhile.
const STALL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Awaited {
    /// Above soft.
    blocks: BTreeMap<BlockId, Below>,
    /// At or below soft, and not ours: what soft has passed, and what awaited blocks stand on.
    steps: BTreeMap<BlockId, Below>,
    max: usize,
    /// Something came for which there was no room.
    missed: Missed,
    /// As of the last look.
    soft: Option<BlockId>,
    /// When that was.
    looked_at: Duration,
    /// Since when something is awaited and soft stands still.
    stalled_since: Option<Duration>,
    /// What is waited for first, and where its parents lead.
    first: Option<(BlockId, Stand)>,
    /// The last long way down to a height above soft.
    way_down: Option<WayDown>,
    /// The one below soft.
    walked: Option<Walked>,
}

/// What stands below a block was followed down to a height, or as far as it is known.
#[derive(Clone, Copy, Debug)]
struct WayDown {
    from: BlockId,
    to: Height,
    reached: BlockId,
}

/// Whether anything came while there was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    Nothing,
    Something,
}

impl Awaited {
    pub fn new(max: usize) -> Self {
        Self {
            blocks: BTreeMap::new(),
            steps: BTreeMap::new(),
            max,
            missed: Missed::Nothing,
            soft: None,
            looked_at: Duration::ZERO,
            stalled_since: None,
            first: None,
            way_down: None,
            walked: None,
        }
    }

    pub fn has(&self, id: BlockId) -> bool {
        self.blocks.contains_key(&id)
    }

    /// Whether the block is awaited, or an awaited one is known to stand on it.
    pub fn knows(&self, id: BlockId) -> bool {
        let stands_on_it =
            |(child, below): (&BlockId, &Below)| child.height == id.height.next() && *below == Below::Block(id.hash);
        self.has(id) || self.steps.contains_key(&id) || self.blocks.iter().chain(&self.steps).any(stands_on_it)
    }

    /// What is awaited, lowest first.
    pub fn ids(&self) -> impl Iterator<Item = BlockId> {
        self.blocks.keys().copied()
    }

    /// What is known of the block below this one.
    pub fn below(&self, id: BlockId) -> Below {
        self.blocks.get(&id).or_else(|| self.steps.get(&id)).copied().unwrap_or(Below::Unknown)
    }

    /// A block above soft.
    pub fn add(&mut self, id: BlockId, below: Below) {
        if self.blocks.len() < self.max {
            self.blocks.insert(id, below);
        } else if !self.has(id) {
            self.missed = Missed::Something;
        }
    }

    /// A block at or below soft that is not ours, and that an awaited one stands on.
    pub fn add_step(&mut self, id: BlockId, below: Below) {
        if self.steps.len() < self.max {
            self.steps.insert(id, below);
        }
    }

    /// The block was given up.
    pub fn remove(&mut self, id: BlockId) {
        self.blocks.remove(&id);
        self.walked.take_if(|walked| walked.has(id));
    }

    /// The schedule has changed: what its proposer signed stays.
    pub fn retain(&mut self, is_scheduled: impl Fn(BlockId) -> bool) {
        self.blocks.retain(|id, _| is_scheduled(*id));
    }

    /// Takes notice of where soft and hard are. `is_ours`: whether a block at or below soft is on our chain.
    pub fn follow_heads(&mut self, heads: &Heads, is_ours: impl Fn(BlockId) -> bool, now: Duration) {
        let soft = heads.soft_id();
        let height = heads.soft_height();
        while let Some((id, below)) = pop_first_through(&mut self.blocks, height) {
            if is_ours(id) {
                continue;
            }
            if self.steps.len() < self.max {
                self.steps.insert(id, below);
            } else {
                self.missed = Missed::Something;
            }
        }
        while let Some((id, below)) = pop_last_above(&mut self.steps, height) {
            self.blocks.insert(id, below);
        }
        if self.blocks.is_empty() {
            self.steps.retain(|id, _| Some(id.height) > heads.hard_height());
            self.walked = None;
            self.stalled_since = None;
        } else if self.soft != soft || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
        self.soft = soft;
        self.looked_at = now;
    }

    /// What is waited for first, and where its parents lead; `None`: nothing is awaited.
    pub fn first(&self) -> Option<(BlockId, Stand)> {
        self.first
    }

    pub fn set_first(&mut self, first: Option<(BlockId, Stand)>) {
        self.first = first;
    }

    /// How far the way down from this block to this height was gone already.
    pub fn reached(&self, from: BlockId, to: Height) -> BlockId {
        self.way_down.filter(|way| (way.from, way.to) == (from, to)).map_or(from, |way| way.reached)
    }

    pub fn note_reached(&mut self, from: BlockId, to: Height, reached: BlockId) {
        self.way_down = Some(WayDown { from, to, reached });
    }

    /// The way down from this block below soft, as far as it was gone already.
    pub fn gone(&self, block: BlockId, heads: &Heads) -> Option<Gone> {
        self.walked.as_ref()?.gone(block, heads)
    }

    pub fn take_walked(&mut self) -> Option<Walked> {
        self.walked.take()
    }

    pub fn note_walked(&mut self, walked: Walked) {
        self.walked = Some(walked);
    }

    /// Whether it could be remembered what this block stands on.
    pub fn has_room_for(&self, step: BlockId) -> bool {
        let is_above = self.soft.is_none_or(|soft| step.height > soft.height);
        is_above || self.steps.len() < self.max
    }

    /// The block that the walk down has come to; `None`: there is none, or what is missing comes by itself.
    pub fn next_step(&self) -> Option<BlockId> {
        let missing = self.missing()?;
        (self.has_room_for(missing) && self.stalled_since? + STALL <= self.looked_at).then_some(missing)
    }

    /// When the parents of what is awaited are to be asked for, if not already.
    pub fn stall_ends(&self) -> Option<Duration> {
        self.missing()?;
        Some(self.stalled_since? + STALL).filter(|ends| *ends > self.looked_at)
    }

    /// Something came that is not remembered.
    pub fn miss(&mut self) {
        self.missed = Missed::Something;
    }

    /// Whether anything came for which there was no room, once nothing is awaited any more; said once.
    pub fn take_missed(&mut self) -> Missed {
        if self.blocks.is_empty() { std::mem::replace(&mut self.missed, Missed::Nothing) } else { Missed::Nothing }
    }

    /// The block of which nothing is known but its name, and that what is waited for first stands on.
    pub fn missing(&self) -> Option<BlockId> {
        match self.first?.1 {
            Stand::Open(missing) => Some(missing),
            Stand::Ours { .. } | Stand::GivenUp | Stand::Apart(_) => None,
        }
    }
}

fn pop_first_through(blocks: &mut BTreeMap<BlockId, Below>, height: Option<Height>) -> Option<(BlockId, Below)> {
    let lowest = *blocks.first_key_value()?.0;
    (Some(lowest.height) <= height).then(|| blocks.pop_first())?
}

fn pop_last_above(blocks: &mut BTreeMap<BlockId, Below>, height: Option<Height>) -> Option<(BlockId, Below)> {
    let highest = *blocks.last_key_value()?.0;
    (Some(highest.height) > height).then(|| blocks.pop_last())?
}
