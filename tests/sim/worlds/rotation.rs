//! The key has changed, and a node's schedule lags behind: it follows as far as it can, and loses nothing.

use super::{BOUND, holds};
use crate::faults::Plan;
use crate::scene::{Scene, hard, soft};
use blocksyncd::block::Height;
use blocksyncd::sync::Command;
use blocksyncd::verify::{AuthenticBlock, ScheduleEntry};

struct Rotated {
    scene: Scene,
    entry: ScheduleEntry,
    blocks: Vec<AuthenticBlock>,
}

/// From the sixth block on another key signs. Node 0 knows, and has all of so many blocks.
fn rotated(count: usize, plan: Plan) -> Rotated {
    let mut scene = Scene::new(plan);
    let old = scene.chain(&[], 5, "block");
    let entry = scene.world.chain.rotate(Height::new(6).expect("above 0"));
    let new = scene.chain(&old, count - old.len(), "block");
    let blocks = [old, new].concat();
    scene.world.nodes[0].disk.image.schedule.push(entry);
    scene.store(0, &blocks);
    scene.start(0);
    Rotated { scene, entry, blocks }
}

#[test]
fn what_da_had_is_not_lost_because_the_schedule_lagged() {
    holds("on DA before the schedule", || {
        let plan = Plan { report_junk: 1.0, ..Plan::calm(2, Vec::new()) };
        let Rotated { mut scene, entry, blocks } = rotated(10, plan);
        scene.store(1, &blocks[..5]);
        scene.da_has_each(&blocks);
        scene.start(1);
        scene.hosts_act(&[1]);
        scene.until("the old key's are hard", BOUND, |world| hard(world, 1) == Some(blocks[4].id()))?;
        scene.world.operate(1, Command::ExtendSchedule(entry));
        scene.meet(0, 1);
        scene.world.schedule_da();
        scene.until("all are hard", BOUND, |world| hard(world, 1) == Some(blocks[9].id())).map(drop)
    });
}

#[test]
fn what_can_be_checked_is_fetched_from_those_who_are_beyond() {
    holds("peers beyond a rotation", || {
        for count in [6, 10, 150] {
            let Rotated { mut scene, blocks, .. } = rotated(count, Plan::calm(2, Vec::new()));
            scene.start(1);
            scene.meet(0, 1);
            scene.until("it has the old key's", BOUND, |world| soft(world, 1) == Some(blocks[4].id()))?;
        }
        Ok(())
    });
}
