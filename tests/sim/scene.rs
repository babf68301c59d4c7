//! A world that is set up by hand: nobody knows anybody, nobody acts, nothing goes wrong, but for what a test says.
//!
//! The nodes come first, then the adversaries, as in every world. Node 0 holds the key; blocks that nobody publishes are made
//! here, signed, and given to whom they belong. What comes again and again (hosts, DA, the publisher) begins when it is asked for.

use std::time::Duration;

use blocksyncd::block::{BlockId, Height};
use blocksyncd::sync::{DaPosition, Heads, Status};
use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::chain::EPOCH_UNIX_NANOS;
use super::faults::Plan;
use super::network::{Message, Network};
use super::runner::Run;
use super::world::{Event, World};

#[derive(Debug)]
pub struct Scene {
    pub world: World,
    messages: u64,
}

impl Scene {
    pub fn new(plan: Plan) -> Self {
        let mut world = World::new(Run::of(plan));
        world.net = Network::empty();
        world.hosts.iter_mut().for_each(|host| host.up = false);
        Self { world, messages: 0 }
    }

    // ---- Blocks ----------------------------------------------------------------------------------------------------

    /// So many blocks on top of `below`, a millisecond apart; what differs in `tag` are different blocks.
    pub fn chain(&mut self, below: &[AuthenticBlock], count: usize, tag: &'static str) -> Vec<AuthenticBlock> {
        let mut parent = below.last().cloned();
        let payload = Bytes::from_static(tag.as_bytes());
        let next = || {
            let time = parent.as_ref().map_or(EPOCH_UNIX_NANOS, |below| below.time_unix_nanos() + 1_000_000);
            let block = self.world.chain.make(parent.as_ref().map(AuthenticBlock::id), time, &payload);
            parent = Some(block.clone());
            block
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    /// The node has these blocks on its disk, on top of what it has. The first ones may begin anywhere.
    pub fn store(&mut self, n: usize, blocks: &[AuthenticBlock]) {
        for block in blocks {
            let below = self.world.tip_below(block);
            self.world.nodes[n].disk.put(block, below);
        }
    }

    /// What the node stores up to here is hard, each at a DA height of its own.
    pub fn confirm(&mut self, n: usize, up_to: Height) {
        let disk = &mut self.world.nodes[n].disk;
        let heights: Vec<Height> = disk.image.blocks.range(..=up_to).map(|(height, _)| *height).collect();
        for (da_height, height) in (1..).zip(heights) {
            disk.confirm(height, DaPosition { height: da_height, index: 0 });
        }
    }

    /// The next DA height has these blobs.
    pub fn da_has(&mut self, blobs: &[Bytes]) {
        self.world.da.include(blobs.to_vec(), &mut self.world.chain);
    }

    /// Each block is on DA, at a height of its own.
    pub fn da_has_each(&mut self, blocks: &[AuthenticBlock]) {
        for block in blocks {
            self.da_has(&[block.block().bytes().clone()]);
        }
    }

    // ---- Who acts --------------------------------------------------------------------------------------------------

    pub fn start(&mut self, n: usize) {
        self.world.start_node(n);
    }

    /// These hosts act from now on: they follow their nodes, and report what is on DA.
    pub fn hosts_act(&mut self, hosts: &[usize]) {
        for n in hosts {
            self.world.hosts[*n].up = true;
        }
        self.goes_on(Event::HostsTurn);
    }

    /// From now on this comes again and again.
    pub fn goes_on(&mut self, regular: Event) {
        self.world.later(Duration::from_millis(1), regular);
    }

    pub fn meet(&mut self, a: usize, b: usize) {
        self.world.connect(a, b);
    }

    /// The node is gossiped a block.
    pub fn hears(&mut self, n: usize, from: usize, block: &AuthenticBlock) {
        self.messages += 1;
        let message = Message { id: (from, 1 << 32 | self.messages), bytes: block.block().bytes().clone() };
        self.world.node_receives(n, from, message);
    }

    // ---- What happens ----------------------------------------------------------------------------------------------

    pub fn pass(&mut self, time: Duration) {
        let end = self.world.now + time;
        self.world.run_until(end, |_| false);
    }

    /// Lets things happen until `done`; how long it took, or what is not done after `most`.
    pub fn until(&mut self, what: &str, most: Duration, done: impl Fn(&World) -> bool) -> Result<Duration, String> {
        let from = self.world.now;
        if self.world.run_until(from + most, done) {
            return Ok(self.world.now.saturating_sub(from));
        }
        let nodes: Vec<_> = (0..self.world.nodes.len()).filter_map(|n| describe(&self.world, n)).collect();
        Err(format!("not within {most:?}: {what}; {}", nodes.join("; ")))
    }

    pub fn status(&self, n: usize) -> Status {
        self.world.nodes[n].syncer.as_ref().expect("it was started").status()
    }

    pub fn soft(&self, n: usize) -> Option<BlockId> {
        soft(&self.world, n)
    }
}

/// In short.
pub fn describe(world: &World, n: usize) -> Option<String> {
    let status = world.nodes[n].syncer.as_ref()?.status();
    let Heads { tail, soft, hard, target, scanned_through, .. } = status.heads;
    let soft = soft.map(|soft| soft.id);
    Some(format!(
        "n{n} {tail}..{soft:?}, hard {hard:?}, target {target:?}, DA {scanned_through}, {:?}, not ready: {:?}, history gone: {}",
        status.phase, status.not_ready, status.history_unavailable
    ))
}

/// What is durable.
pub fn stored(world: &World, n: usize) -> Option<BlockId> {
    world.nodes[n].disk.image.heads.soft_id()
}

pub fn soft(world: &World, n: usize) -> Option<BlockId> {
    world.nodes[n].syncer.as_ref()?.heads().soft_id()
}

pub fn hard(world: &World, n: usize) -> Option<BlockId> {
    world.nodes[n].syncer.as_ref()?.heads().hard
}
