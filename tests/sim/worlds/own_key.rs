//! The sequencer's own node: what it signs, and what comes meanwhile.

use std::time::Duration;

use super::{BOUND, holds};
use crate::byzantine_answers::Behaviour;
use crate::faults::Plan;
use crate::scene::{Scene, soft, stored};
use crate::world::{Event, World};

/// The second block of a height comes by gossip while the key signs the first one: what was signed never left, and is in nobody's way.
#[test]
fn a_block_that_comes_while_the_key_signs_does_not_stop_the_sequencer() {
    holds("a block while the key signs", || {
        let mut scene =
            Scene::new(Plan { block_time: Duration::from_secs(1), ..Plan::calm(1, vec![Behaviour::WeakRelay]) });
        // It comes out of the checks in the midst of the 80 us that signing takes.
        scene.world.plan.check = Duration::from_micros(40);
        scene.start(0);
        scene.hosts_act(&[0]);
        scene.meet(0, 1);
        scene.goes_on(Event::Produce);
        let is_at = |height: u64| move |world: &World| stored(world, 0).is_some_and(|id| id.height.get() >= height);
        scene.until("five are made", BOUND, is_at(5))?;
        let base = scene.world.main_branch();
        let other = scene.chain(&base, 1, "signed elsewhere").remove(0);
        scene.until("the next one is being signed", BOUND, |world| world.nodes[0].is_signing())?;
        scene.hears(0, 1, &other);
        scene.until("that one is there", BOUND, |world| soft(world, 0) == Some(other.id()))?;
        scene.until("more are made", BOUND, is_at(10)).map(drop)
    });
}
