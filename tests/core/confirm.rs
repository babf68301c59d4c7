//! Hard: what DA decides, and by what.

use blocksyncd::sync::{Anchor, Change, DaPosition, Halt, Input, Phase, Seen, Sighting};
use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::blocks::{Spec, branch, chain, h};
use super::driver::{Setup, asked_by_hash, at, changes, peer, seen_block, seen_hash};

fn confirmed(changes: &[Change]) -> Vec<(u64, DaPosition)> {
    let confirm = |change: &Change| match change {
        Change::Confirm { height, position } => Some((height.get(), *position)),
        _ => None,
    };
    changes.iter().filter_map(confirm).collect()
}

/// Three blocks that have an id of the rollup's own.
fn named() -> Vec<AuthenticBlock> {
    let mut blocks: Vec<AuthenticBlock> = Vec::new();
    for name in [b"one", b"two", b"six"] {
        let spec = Spec { host_id: Bytes::from_static(name), payload: Bytes::from_static(name), ..Spec::of("") };
        blocks.push(spec.on(blocks.last()));
    }
    blocks
}

#[test]
fn hard_rises_by_whatever_names_the_stored_block() {
    let blocks = named();
    for what in [
        Seen::Block(blocks[1].clone()),
        Seen::Hash(blocks[1].hash()),
        Seen::HostId(Bytes::from_static(b"two")),
        Seen::PayloadHash(blocks[1].block().header().payload_hash),
    ] {
        // What is stored since long, and what is not durable yet.
        for fresh in [false, true] {
            let mut core = Setup::follower().storing(&blocks[..if fresh { 1 } else { 3 }], 1).start();
            if fresh {
                core.hold_writes();
                let _ = core.gossip(&blocks[1]);
            }
            let sighting = Sighting { position: at(4, 9), height: h(2), what: what.clone() };
            let (answer, effects) = core.report(0, 4, vec![sighting]);
            assert_eq!((answer.scanned_through, answer.wanted, answer.junk), (4, vec![], 0));
            assert_eq!(core.hard(), Some(blocks[1].id()), "{what:?}");
            if !fresh {
                assert_eq!(confirmed(&changes(&effects)), [(2, at(4, 9))]);
            }
        }
    }
}

#[test]
fn hard_rises_one_height_after_the_other() {
    let blocks = chain(4);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let _ = core.report(0, 1, vec![seen_hash(1, 0, &blocks[1]), seen_hash(1, 1, &blocks[3])]);
    assert_eq!((core.hard(), core.status().pending_sightings), (None, 2));
    let effects = core.report(1, 2, vec![seen_hash(2, 0, &blocks[0])]).1;
    assert_eq!(confirmed(&changes(&effects)), [(1, at(2, 0)), (2, at(1, 0))]);
    assert_eq!((core.hard(), core.status().pending_sightings), (Some(blocks[1].id()), 1));
    let _ = core.report(2, 3, vec![seen_hash(3, 0, &blocks[2])]);
    assert_eq!((core.hard(), core.status().pending_sightings), (Some(blocks[3].id()), 0));
}

#[test]
fn what_is_judged_is_forgotten() {
    let blocks = chain(2);
    let other = branch(&[], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let effects = core.report(0, 1, vec![seen_block(1, 0, &blocks[0]), seen_block(1, 1, &other)]).1;
    let changes = changes(&effects);
    for index in 0..2 {
        assert!(changes.contains(&Change::DropSighting(at(1, index))), "{changes:#?}");
    }
    assert_eq!(core.status().pending_sightings, 0);
    let (_, effects) = core.report(1, 2, vec![seen_block(2, 0, &other), seen_hash(2, 1, &blocks[0])]);
    assert_eq!(super::driver::changes(&effects), [], "at or below hard nothing is of interest");
}

#[test]
fn the_lowest_position_wins_whatever_comes_first() {
    let blocks = chain(1);
    let other = branch(&[], "b", 1).remove(0);
    for order in [[0, 1], [1, 0]] {
        let both = [seen_block(1, 3, &other), seen_block(2, 0, &blocks[0])];
        let mut core = Setup::follower().storing(&blocks, 0).start();
        let _ = core.report(0, 2, order.map(|index: usize| both[index].clone()).to_vec());
        assert_eq!(core.hard(), Some(other.id()));
    }
}

#[test]
fn nothing_beyond_what_is_scanned_decides() {
    let blocks = chain(1);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    // Brought before its turn, as what is wanted is.
    let _ = core.report(0, 1, vec![seen_hash(2, 0, &blocks[0])]);
    assert_eq!((core.hard(), core.status().pending_sightings), (None, 1));
    let _ = core.report(1, 2, vec![]);
    assert_eq!(core.hard(), Some(blocks[0].id()));
}

#[test]
fn a_branch_that_lost_below_does_not_win_above() {
    let blocks = chain(2);
    let lost = branch(&[], "b", 2);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let _ = core.da_has(&[lost[1].clone(), blocks[1].clone()]);
    assert_eq!((core.hard(), core.heads().epoch.0), (Some(blocks[1].id()), 0));
}

#[test]
fn da_alone_can_build_the_chain() {
    let blocks = chain(3);
    let mut core = Setup::follower().start();
    let _ = core.da_has(&blocks);
    assert_eq!((core.soft(), core.hard()), (Some(blocks[2].id()), Some(blocks[2].id())));
}

#[test]
fn an_id_that_proves_nothing_can_only_stop() {
    let blocks = named();
    for what in [Seen::HostId(Bytes::from_static(b"three")), Seen::PayloadHash(blocks[0].hash())] {
        let mut core = Setup::follower().storing(&blocks, 1).start();
        let position = at(1, 0);
        let effects = core.report(0, 1, vec![Sighting { position, height: h(2), what: what.clone() }]).1;
        let halt = Halt::Contradicted { ours: blocks[1].id(), position };
        assert!(changes(&effects).contains(&Change::Halt(Some(halt))));
        assert_eq!((core.status().halted, core.status().phase), (Some(halt), Phase::Halted));
        assert_eq!((core.soft(), core.hard()), (Some(blocks[2].id()), Some(blocks[0].id())));
        // Where nothing is stored it says nothing yet.
        let mut core = Setup::follower().storing(&blocks[..1], 1).start();
        let _ = core.report(0, 1, vec![Sighting { position, height: h(2), what }]);
        assert_eq!((core.status().halted, core.status().pending_sightings), (None, 1));
    }
}

#[test]
fn a_block_that_da_names_is_asked_of_everybody_able() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let _ = core.connect_at(1, &blocks[1]);
    let (answer, effects) = core.report(0, 1, vec![seen_hash(1, 0, &other)]);
    assert_eq!((answer.wanted, core.status().wanted), (vec![other.id()], Some(other.id())));
    assert_eq!(asked_by_hash(&effects), [(peer(1), other.hash())]);
    assert_eq!(asked_by_hash(&core.connect_at(2, &blocks[1])), [], "one asks at a time");
    assert_eq!(core.soft(), Some(blocks[1].id()), "nothing is taken back for what nobody has");
    let _ = core.gossip(&other);
    assert_eq!((core.hard(), core.status().wanted), (Some(other.id()), None));
}

#[test]
fn whoever_drains_or_has_no_room_asks_for_no_block_that_da_names() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    for stop in [Input::Drain, Input::StorageFull(true)] {
        let mut core = Setup::follower().storing(&blocks, 1).start();
        let _ = core.report(0, 1, vec![seen_hash(1, 0, &other)]);
        let _ = core.give(stop.clone());
        assert_eq!(core.status().wanted, Some(other.id()));
        assert_eq!(asked_by_hash(&core.give(Input::PeerUp { peer: peer(1) })), [], "{stop:?}");
    }
}

#[test]
fn a_block_that_da_names_and_that_waits_already_is_not_asked_for() {
    let blocks = chain(2);
    let others = branch(&[], "b", 2);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    // Of a branch that we are not on, and so far away that it waits.
    let far = branch(&others, "b", 1).remove(0);
    let _ = core.gossip(&far);
    assert_eq!(core.status().held_blocks, 1);
    let (answer, _) =
        core.report(0, 1, vec![seen_block(1, 0, &others[0]), seen_block(1, 1, &others[1]), seen_hash(1, 2, &far)]);
    // What was built on the branch that is taken back is forgotten, and so it is wanted.
    assert_eq!(answer.wanted, vec![far.id()]);
    let _ = core.gossip(&far);
    assert_eq!(core.hard(), Some(far.id()));

    let mut core = Setup::follower().storing(&blocks[..1], 1).start();
    core.hold_writes();
    let next = chain(3);
    let _ = core.gossip(&next[2]);
    let (answer, _) = core.report(0, 1, vec![seen_block(1, 0, &next[1]), seen_hash(1, 1, &next[2])]);
    assert_eq!((answer.wanted, core.hard()), (vec![], Some(next[2].id())));
}

#[test]
fn a_block_that_da_names_is_looked_for_among_those_that_a_veto_keeps_waiting() {
    let blocks = chain(2);
    let [rival, third] = ["b", "c"].map(|name| branch(&blocks[..1], name, 1).remove(0));
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let _ = core.reject(blocks[1].id());
    let _ = core.gossip(&rival);
    let _ = core.gossip(&third);
    let (answer, _) = core.report(0, 1, vec![seen_hash(1, 0, &rival)]);
    assert_eq!((answer.wanted, core.hard()), (vec![], Some(rival.id())));
}

#[test]
fn what_da_names_first_is_waited_for_whatever_else_it_gives() {
    let blocks = chain(2);
    let [rival, third] = ["b", "c"].map(|name| branch(&blocks[..1], name, 1).remove(0));
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let (answer, _) = core.report(0, 1, vec![seen_hash(1, 0, &rival), seen_block(1, 1, &third)]);
    assert_eq!((answer.wanted, core.soft()), (vec![rival.id()], Some(blocks[1].id())));
}

#[test]
fn what_is_reported_with_its_bytes_need_not_be_asked_for() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let _ = core.report(0, 1, vec![seen_hash(1, 0, &other)]);
    let (answer, _) = core.report(1, 1, vec![seen_block(1, 0, &other)]);
    assert_eq!((answer.wanted, core.hard()), (vec![], Some(other.id())));
}

#[test]
fn what_was_hard_before_a_loss_is_what_comes_back() {
    let blocks = chain(3);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut setup = Setup::follower().storing(&blocks[..1], 1);
    setup.at.anchor = Some(Anchor { id: blocks[1].id(), position: at(7, 0) });
    let mut core = setup.start();
    let _ = core.gossip(&other);
    assert_eq!(core.soft(), Some(blocks[0].id()), "nothing else is taken there");
    let _ = core.da_has(std::slice::from_ref(&other));
    assert_eq!(core.soft(), Some(blocks[0].id()), "not even from DA");
    let _ = core.gossip(&blocks[1]);
    let _ = core.gossip(&blocks[2]);
    assert_eq!(core.soft(), Some(blocks[2].id()));
    let _ = core.da_has(&blocks[1..]);
    assert_eq!(core.hard(), Some(blocks[2].id()));
}

#[test]
fn what_was_hard_before_a_loss_is_pinned_until_it_is_hard_again() {
    let blocks = chain(3);
    let other = branch(&blocks[..2], "b", 1).remove(0);
    let mut setup = Setup::follower().storing(&blocks[..1], 1);
    setup.at.anchor = Some(Anchor { id: blocks[2].id(), position: at(7, 0) });
    let mut core = setup.start();
    let _ = core.da_has(&blocks[1..2]);
    assert_eq!(core.hard(), Some(blocks[1].id()));
    let _ = core.gossip(&other);
    assert_eq!(core.soft(), Some(blocks[1].id()));
}
