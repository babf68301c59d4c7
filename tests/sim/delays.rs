//! How long things take, in round trips, on the simulator's clock: one follower, whom its peers are introduced to one by one.
//! Links have a delay and no width, and nothing goes wrong but what a test says.

use std::time::Duration;

use blocksyncd::block::Height;
use blocksyncd::sync::{Limits, MAX_RANGE, Origin, Timing};
use blocksyncd::verify::{AuthenticBlock, VerifiedBlock};
use bytes::Bytes;

use super::byzantine_answers::Behaviour;
use super::chain::EPOCH_UNIX_NANOS;
use super::faults::Plan;
use super::network::{Message, Network};
use super::runner::Run;
use super::world::World;

const ROUND_TRIP: Duration = Duration::from_millis(100);
/// What is not on the network: checks, writes.
const OWN_TIME: Duration = Duration::from_millis(10);

/// The first nodes are servers; the last one is the follower; after it come the adversaries.
struct Scene {
    world: World,
    blocks: Vec<AuthenticBlock>,
    follower: usize,
}

impl Scene {
    /// The servers store `stored` blocks of so many, the follower the first of these.
    fn new(servers: usize, adversaries: &[Behaviour], blocks: usize, stored: usize, follower_has: usize) -> Self {
        let plan = Plan::calm(servers + 1, adversaries.to_vec());
        Self::of(plan, blocks, stored, follower_has)
    }

    fn of(plan: Plan, blocks: usize, stored: usize, follower_has: usize) -> Self {
        let servers = plan.honest - 1;
        let mut world = World::new(Run::of(plan));
        world.net = Network::empty();
        let payload = Bytes::from_static(b"payload");
        let mut all: Vec<AuthenticBlock> = Vec::new();
        for time in EPOCH_UNIX_NANOS..EPOCH_UNIX_NANOS + blocks as u64 {
            all.push(world.chain.make(all.last().map(AuthenticBlock::id), time, &payload));
        }
        let mut scene = Self { world, blocks: all, follower: servers };
        for server in 0..servers {
            scene.store(server, stored);
        }
        scene.store(servers, follower_has);
        for n in 0..=servers {
            // Hosts play no part.
            scene.world.hosts[n].up = false;
            scene.world.start_node(n);
        }
        scene
    }

    /// The node has the first so many blocks on its disk.
    fn store(&mut self, n: usize, count: usize) {
        let image = &mut self.world.nodes[n].disk.image;
        for block in &self.blocks[image.blocks.len()..count] {
            let parent = block.height().prev().and_then(|below| image.block(below)).map(VerifiedBlock::tip);
            let verified = block.link(parent).expect("they are a chain");
            image.heads.soft = Some(verified.tip());
            image.store(verified, Origin::Range);
        }
    }

    fn meet(&mut self, peer: usize) {
        self.world.connect(self.follower, peer);
    }

    fn meet_all(&mut self) {
        (0..self.follower).for_each(|server| self.meet(server));
        self.meet_adversaries();
    }

    fn meet_adversaries(&mut self) {
        (0..self.world.adversaries.len()).for_each(|adversary| self.meet(self.follower + 1 + adversary));
    }

    fn hears(&mut self, from: usize, index: usize) {
        let bytes = self.blocks[index].block().bytes().clone();
        self.world.node_receives(self.follower, from, Message { id: (from, index as u64), bytes });
    }

    fn pass(&mut self, time: Duration) {
        let end = self.world.now + time;
        self.world.run_until(end, |_| false);
    }

    fn soft(&self) -> Option<Height> {
        self.world.nodes[self.follower].syncer.as_ref().and_then(|syncer| syncer.heads().soft_height())
    }

    /// How long it takes from now on until the follower has so many blocks.
    fn takes(&mut self, count: usize) -> Duration {
        let (from, goal) = (self.world.now, self.blocks[count - 1].height());
        let follower = self.follower;
        let done = self.world.run_until(from + Duration::from_mins(10), |world| {
            world.nodes[follower].syncer.as_ref().is_some_and(|syncer| syncer.heads().soft_height() >= Some(goal))
        });
        assert!(done, "the follower is at {:?}", self.soft());
        self.world.now.saturating_sub(from)
    }
}

fn timing() -> Timing {
    Timing::default()
}

// ------------------------------------------------------------------------------------------- catching up

/// The head, and then as many round trips as what is in flight at once needs for all of it.
#[test]
fn catching_up_takes_as_many_round_trips_as_windows() {
    let per_peer = MAX_RANGE * Plan::calm(1, vec![]).limits.requests_per_peer as u64;
    for (servers, blocks) in [(1, 600), (1, 2_600), (1, 5_300), (2, 5_300), (3, 5_300)] {
        let mut scene = Scene::new(servers, &[], blocks, blocks, 1);
        scene.meet_all();
        let windows = (blocks as u64).div_ceil(per_peer * servers as u64);
        let took = scene.takes(blocks);
        let most = ROUND_TRIP * u32::try_from(1 + windows).expect("few") + OWN_TIME;
        assert!(took <= most, "{blocks} blocks of {servers}: {took:?}, not {most:?}");
    }
}

#[test]
fn who_does_not_even_give_its_head_delays_nobody() {
    // Of the largest blocks, which the answers might be, there is room for thirteen.
    let took = |adversaries: &[Behaviour]| {
        let mut plan = Plan::calm(2, adversaries.to_vec());
        plan.max_block_bytes = 8 << 20;
        plan.limits.pending_bytes = 13 * plan.max_block_bytes;
        plan.limits.range_bytes = Limits::range_bytes_within(plan.limits.pending_bytes);
        let mut scene = Scene::of(plan, 2_600, 2_600, 1);
        scene.meet_adversaries();
        scene.meet(0);
        scene.takes(2_600)
    };
    for silent in [1, 12, 13, 50] {
        assert_eq!(took(&vec![Behaviour::Silent; silent]), took(&[]), "{silent}");
    }
}

/// Everything that was asked of it is asked of somebody else, when its turn comes, and that one has shown that it serves.
#[test]
fn who_gives_its_head_and_nothing_else_is_waited_for_once() {
    for adversaries in [1, 3] {
        let mut scene = Scene::new(1, &vec![Behaviour::HeadOnly; adversaries], 2_600, 2_600, 1);
        scene.meet_adversaries();
        scene.meet(0);
        let took = scene.takes(2_600);
        let ranges = u32::try_from(2_600_u64.div_ceil(MAX_RANGE)).expect("few");
        let most = timing().hedge_after * u32::try_from(adversaries).expect("few") + ROUND_TRIP * (ranges + 2);
        assert!(took <= most, "{adversaries} adversaries: {took:?}, not {most:?}");
    }
}

#[test]
fn a_crowd_of_fifty_around_one_honest_peer_is_passed_within_a_minute() {
    for behaviour in [
        Behaviour::HeadOnly,
        Behaviour::Drips,
        Behaviour::ShortPrefix,
        Behaviour::Stale,
        Behaviour::TooHeavy,
        Behaviour::WrongHeights,
    ] {
        let mut scene = Scene::new(1, &[behaviour; 50], 1_000, 1_000, 1);
        scene.meet_adversaries();
        scene.meet(0);
        let took = scene.takes(1_000);
        println!("50 x {behaviour:?}: {took:?}");
        assert!(took <= Duration::from_mins(1), "50 x {behaviour:?}: {took:?}");
    }
}

// ------------------------------------------------------------------------------------------- at the head

/// Servers, adversaries and the follower know each other, and each other's heads; then two blocks are made, and the follower
/// hears only of the second one, from `source`. Says how long the first one takes from the end of the grace on.
fn gap_of_one(servers: usize, adversaries: &[Behaviour], source: usize) -> Duration {
    let mut scene = Scene::new(servers, adversaries, 50, 48, 48);
    scene.meet_all();
    scene.pass(Duration::from_secs(2));
    for server in 0..servers {
        scene.store(server, 50);
    }
    scene.hears(source, 49);
    let took = scene.takes(50);
    assert!(took > timing().gossip_grace, "{took:?}");
    took.saturating_sub(timing().gossip_grace)
}

#[test]
fn a_gap_of_one_block_closes_within_two_round_trips_of_the_grace() {
    for (servers, adversaries, source) in [
        (1, &[][..], 0),
        (1, &[Behaviour::HeadOnly], 0),
        (2, &[Behaviour::Silent, Behaviour::HeadOnly], 1),
        // Whoever brought the second block does not answer.
        (1, &[Behaviour::HeadOnly], 2),
        (2, &[Behaviour::HeadOnly], 3),
    ] {
        let took = gap_of_one(servers, adversaries, source);
        assert!(took <= ROUND_TRIP * 2 + OWN_TIME, "{servers} servers, {adversaries:?}: {took:?}");
    }
}

// ------------------------------------------------------------------------------------------ nobody there

#[test]
fn after_minutes_without_any_peer_it_goes_on_as_soon_as_one_is_back() {
    let mut scene = Scene::new(1, &[], 300, 200, 1);
    scene.meet(0);
    assert!(scene.takes(200) < ROUND_TRIP * 3);
    scene.world.disconnect(scene.follower, 0);
    scene.store(0, 300);
    scene.pass(Duration::from_mins(5));
    assert_eq!(scene.soft(), Some(scene.blocks[199].height()));
    scene.meet(0);
    let took = scene.takes(300);
    assert!(took <= timing().backoff_min + ROUND_TRIP * 2, "{took:?}");
}

/// They were connected all the while.
#[test]
fn after_minutes_of_silence_it_goes_on_within_the_longest_backoff() {
    let mut scene = Scene::new(1, &[Behaviour::HeadOnly; 2], 300, 300, 1);
    scene.meet_adversaries();
    scene.pass(Duration::from_mins(5));
    assert_eq!(scene.soft(), Some(scene.blocks[0].height()));
    scene.world.adversaries.iter_mut().for_each(|adversary| adversary.behaviour = Behaviour::WeakRelay);
    let took = scene.takes(300);
    assert!(took <= timing().backoff_max + ROUND_TRIP * 2, "{took:?}");
}
