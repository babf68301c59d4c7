//! What nobody has any more, and what was lost.

use std::time::Duration;

use blocksyncd::block::Height;
use blocksyncd::sync::{History, Trusted};
use blocksyncd::verify::AuthenticBlock;

use super::{BOUND, holds};
use crate::byzantine_answers::Behaviour;
use crate::disk::Damage;
use crate::faults::Plan;
use crate::scene::{Scene, soft};
use crate::world::World;

/// Node 0 has the blocks 90 to 120 alone.
fn pruned(honest: usize, adversaries: Vec<Behaviour>) -> (Scene, Vec<AuthenticBlock>) {
    let mut scene = Scene::new(Plan::calm(honest, adversaries));
    let blocks = scene.chain(&[], 121, "block");
    scene.store(0, &blocks[89..120]);
    scene.start(0);
    (scene, blocks)
}

/// A node that begins has met who has no more than the end, and another one that stores nothing, says whatever it likes, or says
/// nothing.
fn says_that_history_is_gone(honest: usize, adversaries: &[Behaviour]) -> Result<(), String> {
    let (mut scene, blocks) = pruned(honest, adversaries.to_vec());
    for n in 1..honest {
        scene.start(n);
    }
    for peer in [0].into_iter().chain(2..honest + adversaries.len()) {
        scene.meet(1, peer);
        scene.hears(1, peer, &blocks[120]);
    }
    let says_so =
        |world: &World| world.nodes[1].syncer.as_ref().is_some_and(|syncer| syncer.status().history_unavailable);
    scene.until("it says so", BOUND, says_so)?;
    // It goes on to say so.
    for _ in 0..60 {
        scene.pass(Duration::from_secs(1));
        if !says_so(&scene.world) {
            scene.until("it says so again", Duration::from_secs(5), says_so)?;
        }
    }
    Ok(())
}

#[test]
fn history_that_is_gone_is_said_although_a_neighbour_stores_nothing() {
    holds("an empty neighbour", || says_that_history_is_gone(3, &[]));
}

#[test]
fn history_that_is_gone_is_said_although_a_neighbour_lies() {
    for (name, behaviour) in [
        ("a neighbour that gives its head alone", Behaviour::HeadOnly),
        ("a neighbour that is always too heavy", Behaviour::TooHeavy),
        ("a neighbour that says nothing", Behaviour::Silent),
        ("a neighbour that has an old head", Behaviour::StaleHead),
    ] {
        holds(name, || says_that_history_is_gone(2, &[behaviour]));
    }
}

/// The store is gone, and the watermark knows that block 110 was hard; the operator trusts block 100.
#[test]
fn a_trusted_block_begins_a_store_that_was_lost() {
    holds("a trusted block after a loss", || {
        let (mut scene, blocks) = pruned(2, vec![]);
        scene.store(1, &blocks[79..112]);
        scene.confirm(1, Height::new(110).expect("above 0"));
        let node = &mut scene.world.nodes[1];
        node.disk.damage(Damage::StoreLost, &mut fastrand::Rng::with_seed(0));
        node.disk.history = History { trusted: Some(Trusted { id: blocks[99].id(), da: None }), ..History::default() };
        node.damaged = true;
        scene.start(1);
        scene.meet(0, 1);
        scene.until("it has all", BOUND, |world| soft(world, 1) == Some(blocks[119].id())).map(drop)
    });
}
