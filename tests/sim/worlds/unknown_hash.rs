//! DA names by its hash what nobody has: a host that does not verify reports a junk header, and has no bytes to give. Everything
//! else goes on.

use std::time::Duration;

use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::{BOUND, ensure, holds};
use crate::faults::{Plan, ReportBy};
use crate::scene::{Scene, describe, soft};
use crate::world::index_of;

struct Waits {
    scene: Scene,
    follower: usize,
    blocks: Vec<AuthenticBlock>,
}

/// So many servers and a follower have two blocks. Three minutes ago its host has named a third one that nobody made. The servers
/// do nothing but serve what is on their disks.
fn waits(servers: usize) -> Waits {
    let mut scene = Scene::new(Plan::calm(servers + 1, Vec::new()));
    let blocks = scene.chain(&[], 400, "block");
    for n in 0..=servers {
        scene.store(n, &blocks[..2]);
    }
    scene.start(servers);
    (0..servers).for_each(|server| scene.meet(server, servers));
    scene.da_has_each(&blocks[..2]);
    let junk = scene.world.chain.forge(blocks[2].height(), blocks[1].hash(), &Bytes::from_static(b"nobody's"));
    scene.da_has(&[junk]);
    scene.world.hosts[servers].reporter.by = Some(ReportBy::NamesAlone);
    scene.hosts_act(&[servers]);
    scene.pass(Duration::from_mins(3));
    Waits { scene, follower: servers, blocks }
}

#[test]
fn ranges_are_caught_up_with() {
    holds("ranges beside an unknown hash", || {
        for servers in [1, 2, 4] {
            let Waits { mut scene, follower, blocks } = waits(servers);
            (0..servers).for_each(|server| scene.store(server, &blocks[2..]));
            let top = blocks.last().map(AuthenticBlock::id);
            scene.until("it has all blocks", BOUND, |world| soft(world, follower) == top)?;
        }
        Ok(())
    });
}

/// Every twentieth message is lost.
#[test]
fn a_lost_message_is_made_up_for() {
    holds("gossip beside an unknown hash", || {
        let Waits { mut scene, follower, blocks } = waits(1);
        for (number, block) in blocks.iter().enumerate().skip(2).take(120) {
            scene.store(0, std::slice::from_ref(block));
            if number % 20 != 0 {
                scene.hears(follower, 0, block);
            }
            scene.pass(Duration::from_secs(1));
            let lag = soft(&scene.world, follower).map_or(u64::MAX, |id| block.height().above(id.height));
            ensure(lag <= 3, || format!("it is {lag} blocks behind: {:?}", describe(&scene.world, follower)))?;
        }
        Ok(())
    });
}

#[test]
fn who_has_not_what_nobody_has_is_not_blamed() {
    holds("failures by an unknown hash", || {
        let Waits { scene, follower, .. } = waits(2);
        let node = &scene.world.nodes[follower];
        let now = node.now(scene.world.now, false);
        let standings = node.syncer.as_ref().map(|syncer| syncer.peer_standings(now)).unwrap_or_default();
        let failed = standings.iter().find(|(_, standing)| standing.failures > 0);
        ensure(failed.is_none(), || format!("honest peer {:?}", failed.map(|(id, standing)| (index_of(id), standing))))
    });
}
