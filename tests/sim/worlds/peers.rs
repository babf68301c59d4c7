//! Peers that cost something although they do nothing, and peers that are blamed for what is our own.

use std::time::Duration;

use blocksyncd::sync::{Input, Limits};
use blocksyncd::verify::AuthenticBlock;

use super::{BOUND, ensure, holds};
use crate::byzantine_answers::Behaviour;
use crate::faults::Plan;
use crate::scene::{Scene, soft};

/// How long a follower takes for 2,600 small blocks of a chain with large ones, beside peers that say nothing.
fn catching_up_beside(silent: usize) -> Result<Duration, String> {
    let limits = Limits { pending_bytes: 98 << 20, ..Limits::default() };
    let plan = Plan { max_block_bytes: 8 << 20, limits, ..Plan::calm(2, vec![Behaviour::Silent; silent]) };
    let mut scene = Scene::new(plan);
    let blocks = scene.chain(&[], 2_600, "block");
    scene.store(0, &blocks);
    scene.start(1);
    (0..silent).for_each(|peer| scene.meet(1, 2 + peer));
    scene.meet(0, 1);
    let top = blocks.last().map(AuthenticBlock::id);
    scene.until("it has all", BOUND, |world| soft(world, 1) == top)
}

#[test]
fn silent_peers_cost_no_budget() {
    holds("silent peers", || {
        let alone = catching_up_beside(0)?;
        for silent in [6, 12, 24, 50] {
            let took = catching_up_beside(silent)?;
            ensure(took <= alone * 2, || format!("beside {silent} silent peers it takes {took:?}, alone {alone:?}"))?;
        }
        Ok(())
    });
}

/// What comes while there is no room on our disk is not used, and nobody's fault.
#[test]
fn an_answer_that_there_is_no_room_for_is_nobodys_fault() {
    holds("answers while the disk is full", || {
        let mut scene = Scene::new(Plan::calm(2, Vec::new()));
        let blocks = scene.chain(&[], 300, "block");
        scene.store(0, &blocks);
        scene.start(1);
        scene.meet(0, 1);
        // The head is there, and ranges are under way.
        scene.until("it asks for blocks", BOUND, |world| {
            world.nodes[1].syncer.as_ref().is_some_and(|s| s.status().open_requests > 1)
        })?;
        scene.world.handle(1, Input::StorageFull(true));
        scene.pass(Duration::from_secs(2));
        let node = &scene.world.nodes[1];
        let now = node.now(scene.world.now, false);
        let standings = node.syncer.as_ref().map(|syncer| syncer.peer_standings(now)).unwrap_or_default();
        ensure(standings.values().all(|standing| standing.failures == 0), || format!("{standings:?}"))
    });
}
