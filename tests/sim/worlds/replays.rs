//! Old blocks of a branch that was given up, which anybody may replay or serve: they stop nobody.
//!
//! The branch is 200 blocks long, and higher than the chain will be for minutes: that is what the documented recovery leaves behind
//! when the sequencer's branch lost on DA.

use std::time::Duration;

use blocksyncd::sync::Phase;
use blocksyncd::verify::AuthenticBlock;

use super::{BOUND, ensure, holds};
use crate::byzantine_answers::Behaviour;
use crate::faults::Plan;
use crate::scene::{Scene, describe, hard, stored};
use crate::world::{Event, World};

const SECOND: Duration = Duration::from_secs(1);
/// An honest block whose author may publish is accepted within this.
const ACCEPTED_WITHIN: u64 = 10;
/// A signer that has just started may ask around first.
const ASKS_AROUND: u64 = 40;

struct Recovered {
    scene: Scene,
    /// What the sequencer's node made, and took back; its blocks are on DA behind those of the branch that won.
    lost: Vec<AuthenticBlock>,
}

/// The sequencer's node made 204 blocks, of which DA has the first five, and then another sixth one. Its operator has abandoned
/// its branch. Adversaries are puppets that serve that branch, and are not connected yet.
fn recovered(honest: usize, puppets: usize) -> Result<Recovered, String> {
    let fast = Duration::from_millis(50);
    let mut scene = Scene::new(Plan { block_time: fast, ..Plan::calm(honest, vec![Behaviour::Twin; puppets]) });
    for n in 0..honest {
        scene.start(n);
        if n > 0 {
            scene.meet(n - 1, n);
        }
    }
    scene.hosts_act(&(0..honest).collect::<Vec<_>>());
    scene.goes_on(Event::Produce);
    let everywhere = move |world: &World, height: u64| {
        (0..honest).all(|n| stored(world, n).is_some_and(|id| id.height.get() >= height))
    };
    scene.until("204 blocks are made", SECOND * 60, |world| everywhere(world, 204))?;
    scene.world.plan.block_time = SECOND;
    let made = scene.world.main_branch();
    let (base, lost) = (made[..5].to_vec(), made[5..204].to_vec());
    let other = scene.chain(&base, 1, "the sixth block that DA has");
    scene.da_has_each(&base);
    scene.da_has_each(&other);
    scene.until("the node halts", SECOND * 30, |world| {
        world.nodes[0].syncer.as_ref().is_some_and(|syncer| syncer.status().halted.is_some())
    })?;
    scene.world.forks[0].base = base;
    scene.world.forks[0].blocks.clone_from(&lost);
    scene.world.operator_turn();
    scene.world.schedule_da();
    scene.until("DA's branch is followed", BOUND, |world| {
        (0..honest).all(|n| hard(world, n).is_some_and(|id| id.height.get() >= 6))
    })?;
    Ok(Recovered { scene, lost })
}

/// For so many seconds `each_second` happens, and the sequencer must go on.
fn goes_on(scene: &mut Scene, seconds: u64, mut each_second: impl FnMut(&mut Scene, u64)) -> Result<(), String> {
    let (mut last, mut since) = (scene.soft(0), ASKS_AROUND);
    for second in 0..seconds {
        each_second(scene, second);
        scene.pass(SECOND);
        let now = scene.soft(0);
        if now != last {
            (last, since) = (now, second.max(ASKS_AROUND));
        }
        ensure(second.saturating_sub(since) <= ACCEPTED_WITHIN, || {
            format!("nothing was accepted for {ACCEPTED_WITHIN} s: {:?}", describe(&scene.world, 0))
        })?;
    }
    Ok(())
}

#[test]
fn a_replayed_block_of_the_abandoned_branch_does_not_stop_the_sequencer() {
    holds("replayed to the sequencer", || {
        let Recovered { mut scene, lost } = recovered(1, 1)?;
        goes_on(&mut scene, 180, |scene, second| {
            if second % 5 == 0 {
                scene.hears(0, 1, &lost[198]);
            }
        })
    });
}

#[test]
fn a_peer_that_serves_the_abandoned_branch_does_not_stop_the_sequencer() {
    holds("served to the sequencer", || {
        let mut scene = recovered(1, 1)?.scene;
        scene.meet(0, 1);
        goes_on(&mut scene, 180, |_, _| {})
    });
}

/// The node never had that branch: who stole the key has made it, above a block that is hard.
#[test]
fn a_stolen_keys_branch_from_below_hard_does_not_stop_the_sequencer() {
    holds("a stolen key's branch", || {
        let mut scene = Scene::new(Plan { block_time: SECOND, ..Plan::calm(1, vec![Behaviour::Twin]) });
        scene.start(0);
        scene.hosts_act(&[0]);
        scene.goes_on(Event::Produce);
        scene.world.schedule_da();
        scene.until("some are hard", SECOND * 60, |world| hard(world, 0).is_some_and(|id| id.height.get() >= 10))?;
        let base = scene.world.main_branch()[..5].to_vec();
        scene.world.forks[0].blocks = scene.chain(&base, 199, "by who stole the key");
        scene.world.forks[0].base = base;
        scene.meet(0, 1);
        goes_on(&mut scene, 180, |_, _| {})
    });
}

#[test]
fn a_follower_that_lacks_nothing_does_not_say_that_it_is_syncing() {
    holds("a follower's phase", || {
        let Recovered { mut scene, lost } = recovered(2, 1)?;
        let mut syncing = 0;
        for second in 0..180 {
            if second % 5 == 0 {
                scene.hears(1, 2, &lost[198]);
            }
            scene.pass(SECOND);
            syncing += u32::from(scene.status(1).phase == Phase::Syncing);
        }
        ensure(syncing <= 18, || format!("it was syncing in {syncing} of 180 seconds: {:?}", describe(&scene.world, 1)))
    });
}

/// It comes back when its node has long followed DA, and names blocks of the branch that was given up, and few of those below.
#[test]
fn a_host_that_was_away_is_led_to_das_branch() {
    holds("a host that was away", || {
        let mut scene = recovered(2, 1)?.scene;
        scene.meet(1, 2);
        scene.pass(SECOND * 30);
        let made = scene.world.forks[0].base.iter().chain(&scene.world.forks[0].blocks);
        let made: Vec<_> = made.map(AuthenticBlock::id).collect();
        let host = &mut scene.world.hosts[1];
        host.lose_node();
        (host.state.hard, host.state.chain) = (None, made[150..].to_vec());
        let goes_with_its_node = |world: &World| {
            world.hosts[1].state.tip().is_some_and(|tip| tip.height.get() < 150) && world.hosts[1].state.hard.is_some()
        };
        scene.until("the host is where its node is", BOUND, goes_with_its_node).map(drop)
    });
}
