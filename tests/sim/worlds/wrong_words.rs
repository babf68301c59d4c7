//! What hosts, operators and clocks say wrongly: it costs no more than it must, it is said why nothing goes on, and there is a way out.

use std::time::Duration;

use blocksyncd::block::{BlockId, Height};
use blocksyncd::sync::{Command, DaPosition, DaReport, Finding, Found, Halt, Input, Limits, Name, Seen, Status};
use blocksyncd::verify::ScheduleEntry;
use bytes::Bytes;

use super::{BOUND, ensure, holds};
use crate::faults::{Plan, ReportBy};
use crate::node::Waits;
use crate::operators::NOBODY;
use crate::scene::{Scene, hard, soft};
use crate::world::World;

/// The chain of this world is told by names.
fn named(limits: Limits) -> Scene {
    Scene::new(Plan { report_by: ReportBy::HostId, limits, ..Plan::calm(2, Vec::new()) })
}

/// The host of node 1 says that at this DA height is the block of this height, with this id.
fn says(scene: &mut Scene, at: u64, height: u64, id: Bytes) {
    let position = DaPosition { height: at, index: 0 };
    let height = Height::new(height).expect("above 0");
    let findings = vec![Finding { position, height, what: Found::Named(Name::HostId(id)) }];
    let report = DaReport { after: position.height - 1, scanned_through: position.height, findings };
    let life = scene.world.hosts[1].life;
    let ticket = scene.world.nodes[1].wait(Waits::Other, 1, life);
    scene.world.handle(1, Input::Da { ticket, report });
    scene.pass(Duration::from_millis(100));
}

fn status(world: &World) -> Option<Status> {
    world.nodes[1].syncer.as_ref().map(blocksyncd::sync::Syncer::status)
}

/// Of what names there is room for, the bytes count.
#[test]
fn the_names_that_hosts_give_are_bounded_in_bytes() {
    holds("names of any length", || {
        for length in [64, 65, 1 << 20] {
            let room = 1_000;
            let mut scene = named(Limits { sighting_bytes: room, ..Limits::default() });
            scene.start(1);
            for height in 2..=40 {
                says(&mut scene, height - 1, height, vec![7; length].into());
            }
            let names =
                scene.world.nodes[1].disk.image.sightings.values().filter_map(|sighting| match &sighting.what {
                    Seen::Named(Name::HostId(id)) => Some(id.len()),
                    _ => None,
                });
            let (count, bytes) = names.fold((0, 0), |(count, bytes), name| (count + 1, bytes + name));
            let are_kept = length > 64 || count > 10;
            ensure(are_kept, || format!("only {count} names are kept"))?;
            ensure(bytes <= room, || format!("{bytes} bytes of names are kept, there is room for {room}"))?;
        }
        Ok(())
    });
}

/// One wrong name halts the node. The host looks again, and names it rightly: nothing was lost.
#[test]
fn a_wrong_name_that_is_said_anew_costs_nothing() {
    holds("one wrong name", || {
        let mut scene = named(Limits::default());
        let blocks = scene.chain(&[], 4, "block");
        scene.store(1, &blocks);
        scene.confirm(1, blocks[0].height());
        scene.da_has_each(&blocks);
        scene.start(1);
        says(&mut scene, 2, 2, Bytes::from_static(b"another"));
        let halted = scene.status(1).halted;
        let is_named = matches!(halted, Some(Halt::Contradicted { ours, .. }) if ours == blocks[1].id());
        ensure(is_named, || format!("halted: {halted:?}"))?;
        scene.world.operate(1, Command::RescanDa(2));
        scene.hosts_act(&[1]);
        scene.until("all are hard", BOUND, |world| hard(world, 1) == Some(blocks[3].id()))?;
        let (halted, epoch) = (scene.status(1).halted, scene.status(1).heads.epoch.0);
        ensure(halted.is_none() && epoch == 0, || format!("halted: {halted:?}, taken back {epoch} times"))
    });
}

/// Nothing is taken while the clock is an hour behind, and that is said.
#[test]
fn a_clock_that_is_behind_is_in_the_status() {
    holds("a clock an hour behind", || {
        let mut scene = Scene::new(Plan::calm(2, Vec::new()));
        let blocks = scene.chain(&[], 5, "block");
        scene.store(0, &blocks);
        scene.start(0);
        scene.world.nodes[1].wall_offset = -3_600_000_000_000;
        scene.start(1);
        scene.meet(0, 1);
        let says_so = |world: &World| status(world).is_some_and(|status| status.ahead_of_clock.is_some());
        scene.until("it says so", BOUND, says_so)?;
        for _ in 0..60 {
            scene.pass(Duration::from_secs(1));
            let status = scene.status(1);
            ensure(says_so(&scene.world), || format!("it does not say so any more: {status:?}"))?;
        }
        ensure(scene.soft(1).is_none(), || format!("it believes {:?}", scene.soft(1)))?;
        scene.world.nodes[1].wall_offset = 0;
        scene.until("it follows", BOUND, |world| soft(world, 1) == Some(blocks[4].id()))?;
        ensure(!says_so(&scene.world), || "it still says so".to_owned())
    });
}

/// Nothing fits an entry of the schedule that is wrong; the operator takes it back.
#[test]
fn a_wrong_entry_of_the_schedule_is_taken_back() {
    holds("a wrong entry of the schedule", || {
        let mut scene = Scene::new(Plan::calm(2, Vec::new()));
        let blocks = scene.chain(&[], 8, "block");
        scene.store(0, &blocks);
        scene.start(0);
        scene.store(1, &blocks[..3]);
        scene.start(1);
        let top = |blocks: &[blocksyncd::verify::AuthenticBlock]| -> Option<BlockId> { Some(blocks.last()?.id()) };
        let from = blocks[5].height();
        scene.world.operate(1, Command::ExtendSchedule(ScheduleEntry { from, proposer: NOBODY }));
        scene.meet(0, 1);
        scene.until("it has what is below", BOUND, |world| soft(world, 1) == top(&blocks[..5]))?;
        scene.pass(Duration::from_secs(30));
        ensure(scene.soft(1) == top(&blocks[..5]), || format!("it has {:?}", scene.soft(1)))?;
        scene.world.operate(1, Command::WithdrawSchedule(from));
        scene.until("it has all", BOUND, |world| soft(world, 1) == top(&blocks)).map(drop)
    });
}
