//! The core as a whole: its phases, its commits, what hosts acknowledge.

use blocksyncd::sync::{Change, DataLoss, Effect, Halt, Input, Phase};

use super::blocks::{branch, chain, h, public_key};
use super::driver::{Setup, announced, at, changes, commits, fetches};

#[test]
fn the_phase_says_what_goes_on() {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    assert_eq!(core.status().phase, Phase::WaitingForPeers);
    let _ = core.connect(1);
    assert_eq!(core.status().phase, Phase::Following);
    let _ = core.gossip(&blocks[4]);
    assert_eq!(core.status().phase, Phase::Syncing);
    let _ = core.give(Input::PeerDown { peer: super::driver::peer(1) });
    for block in &blocks[1..4] {
        let _ = core.gossip(block);
    }
    assert_eq!(core.status().phase, Phase::WaitingForPeers);
    // Whoever makes the blocks waits for nobody.
    let _ = core.give(Input::Signer(Some(public_key(1))));
    assert_eq!(core.status().phase, Phase::Following);
    let _ = core.give(Input::Drain);
    assert_eq!(core.status().phase, Phase::Draining);
}

#[test]
fn a_halt_is_a_phase_and_a_drain_is_a_later_one() {
    let blocks = chain(1);
    let mut setup = Setup::follower().storing(&blocks, 0);
    setup.at.halted = Some(Halt::Contradicted { ours: blocks[0].id(), position: at(1, 0) });
    let mut core = setup.start();
    assert_eq!(core.status().phase, Phase::Halted);
    let _ = core.give(Input::Drain);
    assert_eq!(core.status().phase, Phase::Draining);
}

#[test]
fn the_heads_are_announced_when_they_change_and_only_then() {
    let blocks = chain(2);
    let mut core = Setup::follower().start();
    assert_eq!(announced(&core.give(Input::Wakeup)).len(), 1, "those of the start");
    assert_eq!(core.give(Input::Wakeup), []);
    let effects = core.gossip_effects(1, Ok(blocks[0].clone()));
    assert_eq!(announced(&effects), [core.heads()]);
    let effects = core.gossip_effects(1, Ok(blocks[0].clone()));
    assert_eq!((announced(&effects), commits(&effects)), (vec![], vec![]));
}

#[test]
fn the_newest_stored_block_is_the_first_target() {
    let blocks = chain(2);
    assert_eq!(Setup::follower().storing(&blocks, 1).start().target(), Some(blocks[1].id()));
}

// A store that says what cannot be is not gone on from, in a release build either.

#[test]
#[should_panic(expected = "tail <= soft")]
fn nothing_is_soft_below_the_tail() {
    let mut setup = Setup::follower().storing(&chain(1), 0);
    setup.at.heads.tail = h(2);
    let _ = setup.start();
}

#[test]
#[should_panic(expected = "tail <= hard")]
fn nothing_is_hard_below_the_tail() {
    let mut setup = Setup::follower().storing(&chain(2), 1);
    setup.at.heads.tail = h(2);
    let _ = setup.start();
}

#[test]
#[should_panic(expected = "hard <= soft")]
fn nothing_is_hard_that_is_not_soft() {
    let blocks = chain(2);
    let mut setup = Setup::follower().storing(&blocks[..1], 0);
    setup.at.heads.hard = Some(blocks[1].id());
    let _ = setup.start();
}

#[test]
fn what_was_lost_is_missed_until_it_is_here_again() {
    let blocks = chain(4);
    let mut setup = Setup::follower().storing(&blocks[..1], 0);
    setup.at.heads.lost = Some(DataLoss { from: h(2), to: h(3) });
    let mut core = setup.start();
    let _ = core.gossip(&blocks[1]);
    assert!(core.heads().lost.is_some());
    let _ = core.gossip(&blocks[2]);
    assert_eq!(core.heads().lost, None);
}

#[test]
fn a_consumer_acknowledges_what_is_here() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks[..2], 1).start();
    let (known, effects) = core.ack("indexer", blocks[1].id());
    assert!(known);
    assert_eq!(changes(&effects), [Change::Ack { consumer: "indexer".to_owned(), up_to: blocks[1].id() }]);
    for stranger in [blocks[2].id(), branch(&blocks[..1], "b", 1)[0].id()] {
        let (known, effects) = core.ack("indexer", stranger);
        assert!(!known);
        assert_eq!(commits(&effects), []);
    }
}

#[test]
fn so_many_consumers_are_known_by_name() {
    let blocks = chain(1);
    let mut setup = Setup::follower().storing(&blocks, 1).limits(|limits| limits.consumers = 3);
    setup.at.consumers = vec![("since long".to_owned(), blocks[0].id())];
    let mut core = setup.start();
    for (consumer, known) in [("a", true), ("b", true), ("c", false), ("a", true), ("since long", true), ("c", false)] {
        assert_eq!(core.ack(consumer, blocks[0].id()).0, known, "{consumer}");
    }
}

/// A name takes a place only once something was acknowledged under it.
#[test]
fn what_is_not_here_takes_no_place_among_the_consumers() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks[..1], 1).limits(|limits| limits.consumers = 1).start();
    assert!(!core.ack("a", blocks[1].id()).0);
    assert!(core.ack("b", blocks[0].id()).0);
}

#[test]
fn a_commit_that_is_durable_is_looked_up_on_disk() {
    let blocks = chain(3);
    let mut core = Setup::follower().start();
    core.hold_writes();
    let _ = core.gossip(&blocks[0]);
    let _ = core.gossip(&blocks[1]);
    // Neither is on disk: the core knows both by itself.
    assert!(core.ack("a", blocks[0].id()).0);
    assert!(core.ack("a", blocks[1].id()).0);
    let _ = core.write();
    assert!(core.ack("a", blocks[0].id()).0);
    let effects = core.gossip_effects(1, Ok(blocks[2].clone()));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Commit(_))));
}

#[test]
fn whoever_drains_asks_for_nothing_more() {
    let blocks = chain(9);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let probe = core.connect(1);
    let _ = core.give(Input::Drain);
    let effects = core.answer(probe, &blocks[8..], blocksyncd::sync::FetchOutcome::Complete);
    assert_eq!(fetches(&effects), []);
}
