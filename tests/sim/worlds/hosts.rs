//! What hosts are told.

use std::time::Duration;

use blocksyncd::block::Height;
use blocksyncd::sync::{History, Input, Trusted};
use blocksyncd::verify::AuthenticBlock;

use super::{BOUND, holds};
use crate::faults::Plan;
use crate::node::Waits;
use crate::scene::{Scene, hard, soft};
use crate::world::World;

fn at(height: u64) -> Height {
    Height::new(height).expect("above 0")
}

fn host_is_at(world: &World, n: usize, height: u64) -> bool {
    world.hosts[n].state.tip().is_some_and(|tip| tip.height == at(height))
}

/// Its node begins with block 6, and fetches what lies below afterwards. What is hard then is told only of what the host has: so
/// the contract of every world says.
#[test]
fn hard_is_told_of_what_the_host_was_given() {
    holds("hard below a gap", || {
        let mut scene = Scene::new(Plan::calm(2, Vec::new()));
        let blocks = scene.chain(&[], 9, "block");
        scene.store(0, &blocks);
        scene.da_has_each(&blocks);
        scene.start(0);
        scene.world.nodes[1].disk.history =
            History { trusted: Some(Trusted { id: blocks[5].id(), da: None }), backfill: true, ..History::default() };
        scene.world.nodes[1].keeps.backfill = true;
        scene.world.plan.report_late = 1.0;
        scene.start(1);
        scene.hosts_act(&[1]);
        scene.meet(0, 1);
        scene.until("the host has the end", BOUND, |world| host_is_at(world, 1, 9))?;
        scene.until("all is fetched", BOUND, |world| world.nodes[1].disk.image.id(at(1)).is_some())?;
        scene.world.plan.report_late = 0.0;
        // It comes back, and knows of nothing that is hard.
        scene.world.hosts[1].lose_node();
        scene.until("all is hard", BOUND, |world| hard(world, 1) == Some(blocks[8].id()))?;
        scene.pass(Duration::from_secs(5));
        Ok(())
    });
}

/// Its node has an older copy of its store back, so that block 8 is soft for it again; another host refuses that block. The host
/// that calls block 10 hard must not be sent below it: so the contract of every world says.
#[test]
fn nobody_is_sent_below_its_hard_block() {
    holds("a veto below a host's hard block", || {
        let mut scene = Scene::new(Plan::calm(2, Vec::new()));
        let blocks = scene.chain(&[], 15, "block");
        scene.store(0, &blocks);
        scene.da_has_each(&blocks[..10]);
        scene.start(0);
        scene.store(1, &blocks[..12]);
        scene.confirm(1, at(5));
        scene.world.nodes[1].damaged = true;
        scene.world.plan.report_late = 1.0;
        let state = &mut scene.world.hosts[1].state;
        (state.chain, state.hard) = (blocks[..12].iter().map(AuthenticBlock::id).collect(), Some(blocks[9].id()));
        scene.start(1);
        scene.hosts_act(&[1]);
        scene.meet(0, 1);
        scene.until("it has all", BOUND, |world| soft(world, 1) == Some(blocks[14].id()))?;
        let ticket = scene.world.nodes[1].wait(Waits::Other, 1, 0);
        scene.world.handle(1, Input::HostRejected { ticket, block: blocks[7].id() });
        scene.pass(Duration::from_secs(20));
        Ok(())
    });
}
