//! What DA is known to have, above hard: kept until it can be judged, bounded, and never lost without saying so.

use blocksyncd::sync::{Change, Input, Seen, Sighting};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain, h};
use super::driver::{Setup, at, changes, commits, junk, seen_block, seen_hash};

/// Blocks 2 to 6, none of which can be judged while block 1 is not on DA.
fn later_blocks() -> Vec<AuthenticBlock> {
    chain(6).split_off(1)
}

fn kept(changes: &[Change]) -> Vec<Sighting> {
    let keep = |change: &Change| if let Change::KeepSighting(seen) = change { Some(seen.clone()) } else { None };
    changes.iter().filter_map(keep).collect()
}

#[test]
fn sightings_and_cursor_are_committed_together() {
    let blocks = later_blocks();
    let mut core = Setup::follower().start();
    let sightings = vec![seen_hash(1, 0, &blocks[0]), seen_block(2, 5, &blocks[1])];
    let (answer, effects) = core.report(0, 3, sightings.clone());
    let [batch] = &commits(&effects)[..] else { panic!("{effects:#?}") };
    assert_eq!(kept(&batch.changes), sightings);
    assert_eq!(batch.changes.len(), 2);
    assert_eq!((batch.heads.scanned_through, answer.scanned_through), (3, 3));
    // An empty stretch of DA moves the cursor, and nothing else.
    let (answer, effects) = core.report(3, 5, vec![]);
    let [batch] = &commits(&effects)[..] else { panic!("{effects:#?}") };
    assert_eq!((batch.changes.len(), batch.heads.scanned_through, answer.scanned_through), (0, 5, 5));
    assert_eq!(commits(&core.report(5, 5, vec![]).1), [], "nothing new");
}

#[test]
fn a_report_that_leaves_something_out_is_not_taken() {
    let blocks = later_blocks();
    let mut core = Setup::follower().start();
    let _ = core.report(0, 4, vec![]);
    let (answer, effects) = core.report(5, 6, vec![seen_hash(6, 0, &blocks[0])]);
    assert_eq!((answer.scanned_through, commits(&effects)), (4, vec![]));
    assert_eq!(core.status().pending_sightings, 0);
    for after in [4, 2] {
        let (answer, _) = core.report(after, 6, vec![seen_hash(6, 0, &blocks[0])]);
        assert_eq!((answer.scanned_through, core.status().pending_sightings), (6, 1));
    }
    let (answer, _) = core.report(0, 3, vec![]);
    assert_eq!(answer.scanned_through, 6, "an older report takes nothing back");
}

#[test]
fn nothing_is_taken_while_the_disk_is_full() {
    let blocks = chain(1);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let _ = core.give(Input::StorageFull(true));
    let (answer, effects) = core.report(0, 1, vec![seen_hash(1, 0, &blocks[0])]);
    assert_eq!((answer.scanned_through, commits(&effects), core.hard()), (0, vec![], None));
}

#[test]
fn sightings_outlive_a_restart() {
    let blocks = chain(2);
    let mut setup = Setup::follower().storing(&blocks[..1], 1);
    setup.at.heads.scanned_through = 4;
    setup.at.sightings = vec![seen_hash(4, 0, &blocks[1])];
    let mut core = setup.start();
    let _ = core.gossip(&blocks[1]);
    assert_eq!(core.hard(), Some(blocks[1].id()));
}

#[test]
fn a_copy_on_da_takes_no_room() {
    let blocks = later_blocks();
    let mut core = Setup::follower().limits(|limits| limits.sightings = 1).start();
    let first = seen_block(1, 0, &blocks[0]);
    let (answer, effects) =
        core.report(0, 2, vec![first.clone(), seen_block(1, 1, &blocks[0]), seen_hash(2, 0, &blocks[0])]);
    assert_eq!(kept(&changes(&effects)), [first]);
    assert_eq!((answer.scanned_through, core.status().pending_sightings), (2, 1));
}

#[test]
fn of_copies_the_lowest_position_counts() {
    let blocks = later_blocks();
    let mut core = Setup::follower().start();
    let _ = core.report(0, 3, vec![seen_block(3, 0, &blocks[0])]);
    let (_, effects) = core.report(0, 3, vec![seen_hash(2, 7, &blocks[0])]);
    // Its bytes move with it.
    let moved = seen_block(2, 7, &blocks[0]);
    assert_eq!(changes(&effects), [Change::DropSighting(at(3, 0)), Change::KeepSighting(moved)]);
    assert_eq!(core.status().pending_sightings, 1);
}

#[test]
fn bytes_that_come_later_fill_in_what_was_only_named() {
    let blocks = later_blocks();
    let filled = seen_block(1, 0, &blocks[0]);
    for bytes in [filled.clone(), seen_block(3, 2, &blocks[0])] {
        let mut core = Setup::follower().start();
        let _ = core.report(0, 3, vec![seen_hash(1, 0, &blocks[0])]);
        let (_, effects) = core.report(3, 3, vec![bytes]);
        assert_eq!(changes(&effects), [Change::KeepSighting(filled.clone())]);
        assert_eq!(core.status().pending_sightings, 1);
    }
    // The other way round nothing is learned.
    let mut core = Setup::follower().start();
    let _ = core.report(0, 3, vec![filled]);
    assert_eq!(changes(&core.report(3, 3, vec![seen_hash(1, 0, &blocks[0])]).1), []);
}

#[test]
fn of_one_position_the_first_report_counts() {
    let blocks = later_blocks();
    let mut core = Setup::follower().start();
    let _ = core.report(0, 1, vec![seen_hash(1, 0, &blocks[0])]);
    for other in [seen_hash(1, 0, &blocks[1]), seen_block(1, 0, &blocks[1])] {
        assert_eq!(kept(&changes(&core.report(1, 1, vec![other]).1)), []);
    }
}

#[test]
fn junk_takes_back_what_was_said_of_its_position() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let _ = core.report(0, 2, vec![seen_hash(2, 1, &blocks[1])]);
    let (answer, effects) = core.report(2, 2, vec![junk(2, 1), junk(2, 2), seen_hash(2, 3, &blocks[1])]);
    assert_eq!(answer.junk, 2);
    let changes = changes(&effects);
    assert!(changes.contains(&Change::DropSighting(at(2, 1))), "{changes:#?}");
    assert!(!changes.contains(&Change::DropSighting(at(2, 2))), "there was nothing");
    // A copy of it may have been left out as one.
    assert_eq!(answer.scanned_through, 2, "the report itself covers that height");
}

#[test]
fn junk_of_an_earlier_height_has_it_reported_again() {
    let mut core = Setup::follower().start();
    let _ = core.report(0, 5, vec![]);
    let (answer, _) = core.report(0, 2, vec![junk(2, 0)]);
    assert_eq!(answer.scanned_through, 2, "what lies above it is to be reported again");
}

#[test]
fn what_there_is_no_room_for_is_to_be_reported_again() {
    let blocks = later_blocks();
    let mut core = Setup::follower().limits(|limits| limits.sightings = 2).start();
    let all: Vec<_> = (1..=4).zip(&blocks).map(|(height, block)| seen_hash(height, 0, block)).collect();
    let (answer, effects) = core.report(0, 4, all.clone());
    assert_eq!(answer.scanned_through, 2);
    assert_eq!(core.status().pending_sightings, 2);
    let changes = changes(&effects);
    assert!(changes.contains(&Change::DropSighting(at(3, 0))));
    assert!(changes.contains(&Change::DropSighting(at(4, 0))));
    assert!(!changes.contains(&Change::DropSighting(at(2, 0))), "just as many as there is room for");
}

#[test]
fn the_room_for_blocks_is_counted_in_bytes() {
    let blocks = later_blocks();
    let size = blocks[0].size() + blocks[1].size();
    for (room, through) in [(size, 2), (size - 1, 1)] {
        let mut core = Setup::follower().limits(|limits| limits.sighting_bytes = room).start();
        let (answer, _) = core.report(0, 2, vec![seen_block(1, 0, &blocks[0]), seen_block(2, 0, &blocks[1])]);
        assert_eq!(answer.scanned_through, through, "{room}");
        // Hashes weigh nothing, and what is judged weighs nothing any more.
        let first = chain(1).remove(0);
        let (answer, _) = core.report(through, 9, vec![seen_hash(9, 0, &blocks[3]), seen_block(8, 0, &first)]);
        assert!(answer.scanned_through >= 7, "{answer:?}");
    }
}

/// One DA height may have more than there is room for: what is before the cut is judged all the same.
#[test]
fn a_crowded_da_height_is_passed() {
    let blocks = chain(4);
    let mut core = Setup::follower().storing(&blocks, 0).limits(|limits| limits.sightings = 2).start();
    let all: Vec<_> = (0..).zip(&blocks).map(|(index, block)| seen_hash(1, index, block)).collect();
    let mut reports = 0;
    while core.heads().scanned_through < 1 {
        reports += 1;
        assert!(reports < 5, "it is never passed: hard is {:?}", core.hard());
        let _ = core.report(0, 1, all.clone());
    }
    assert_eq!(core.hard(), Some(blocks[3].id()));
}

#[test]
fn a_sighting_is_of_the_height_that_it_names() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let wrong = Sighting { position: at(1, 0), height: h(2), what: Seen::Hash(blocks[0].hash()) };
    let _ = core.report(0, 1, vec![wrong]);
    assert_eq!((core.hard(), core.status().pending_sightings), (None, 1));
}

#[test]
fn a_block_from_da_is_evidence_as_any_other() {
    let blocks = chain(3);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let effects = core.report(0, 1, vec![seen_block(1, 0, &other)]).1;
    assert!(changes(&effects).iter().any(|change| matches!(change, Change::Evidence(_))));
    assert!(core.status().forked);
}
