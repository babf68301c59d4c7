//! What waits above a gap, and the target that says that it is there.

use std::time::Duration;

use blocksyncd::sync::{AheadOfClock, Change, EvidenceSide, FetchOutcome, Input, Phase, Verdict};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{DRIFT, Spec, branch, chain, h};
use super::driver::{
    Core, INSTANT, Setup, ahead, announced, appended, changes, commits, range_request, ranges, verdict,
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn blocks_wait_for_those_before_them() {
    let blocks = chain(4);
    let mut core = Setup::follower().start();
    for block in [&blocks[3], &blocks[1], &blocks[2]] {
        assert_eq!(core.gossip(block), Verdict::Accept);
    }
    assert_eq!((core.soft(), core.status().held_blocks), (None, 3));
    let effects = core.gossip_effects(1, Ok(blocks[0].clone()));
    assert_eq!(verdict(&effects), Verdict::Accept);
    assert_eq!(appended(&effects), blocks.iter().map(AuthenticBlock::id).collect::<Vec<_>>());
    assert_eq!(core.status().held_blocks, 0);
}

#[test]
fn what_waits_already_is_nothing_new() {
    let blocks = chain(3);
    let mut core = Setup::follower().start();
    assert_eq!(core.gossip(&blocks[2]), Verdict::Accept);
    assert_eq!(core.gossip(&blocks[2]), Verdict::Ignore);
    assert_eq!(core.status().held_blocks, 1);
}

#[test]
fn of_one_height_two_blocks_wait_and_the_second_is_evidence() {
    let blocks = chain(2);
    let [second, third] = ["b", "c"].map(|name| branch(&blocks[..1], name, 1).remove(0));
    let mut core = Setup::follower().start();
    assert_eq!(core.gossip(&blocks[1]), Verdict::Accept);
    let effects = core.gossip_effects(1, Ok(second.clone()));
    assert_eq!(verdict(&effects), Verdict::Accept);
    let [Change::Evidence(evidence)] = &changes(&effects)[..] else { panic!("{effects:#?}") };
    assert_eq!((evidence.height, evidence.second.hash()), (h(2), second.hash()));
    assert_eq!(evidence.first, EvidenceSide::Carried(blocks[1].block().signed_header()));
    assert!(core.status().forked);
    assert_eq!(core.gossip(&third), Verdict::Ignore, "more of it proves nothing more");
    assert_eq!(core.status().held_blocks, 2);
}

#[test]
fn of_two_that_wait_the_one_that_links_is_taken() {
    let blocks = chain(3);
    let fork = branch(&branch(&[], "b", 1), "b", 1).remove(0);
    let mut core = Setup::follower().start();
    assert_eq!(core.gossip(&fork), Verdict::Accept);
    assert_eq!(core.gossip(&blocks[1]), Verdict::Accept);
    assert_eq!(core.gossip(&blocks[0]), Verdict::Accept);
    assert_eq!(core.soft(), Some(blocks[1].id()));
    assert_eq!(core.status().held_blocks, 0, "the other one lost");
    let _ = core.gossip(&blocks[2]);
    assert_eq!(core.soft(), Some(blocks[2].id()));
}

#[test]
fn when_there_is_no_room_the_farthest_goes() {
    let blocks = chain(6);
    let mut core = Setup::follower().limits(|limits| limits.pending_blocks = 2).start();
    assert_eq!(core.gossip(&blocks[3]), Verdict::Accept);
    assert_eq!(core.gossip(&blocks[4]), Verdict::Accept);
    assert_eq!(core.gossip(&blocks[5]), Verdict::Ignore, "the farthest of all");
    assert_eq!(core.status().held_blocks, 2);
    assert_eq!(core.gossip(&blocks[1]), Verdict::Accept, "it takes the place of block 5");
    assert_eq!(core.status().held_blocks, 2);
    let _ = core.gossip(&blocks[0]);
    let _ = core.gossip(&blocks[2]);
    assert_eq!(core.soft(), Some(blocks[3].id()));
    // Without room it still proves that it is there.
    assert_eq!(core.target(), Some(blocks[5].id()));
}

#[test]
fn what_waits_is_bounded_in_bytes() {
    let blocks = chain(5);
    let size = blocks[2].size() + blocks[3].size();
    for (bytes, held) in [(size, 2), (size - 1, 1)] {
        let mut core = Setup::follower().limits(|limits| limits.pending_bytes = bytes).start();
        let _ = core.gossip(&blocks[2]);
        let _ = core.gossip(&blocks[3]);
        assert_eq!(core.status().held_blocks, held, "{bytes}");
        // What was taken out weighs nothing any more.
        let _ = core.gossip(&blocks[0]);
        let _ = core.gossip(&blocks[1]);
        assert_eq!(core.status().held_blocks, 0);
        let _ = core.gossip(&blocks[4]);
        let _ = core.gossip(&blocks[3]);
        assert_eq!(core.soft(), Some(blocks[4].id()), "{bytes}");
    }
}

#[test]
fn what_is_taken_out_makes_room_for_as_much_as_it_weighed() {
    let blocks = chain(7);
    let size = blocks[1].size();
    let room = 2 * size + size / 2;
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.pending_bytes = room).start();
    // Block 3 is taken out again with block 2.
    for height in [3, 5, 2, 6] {
        assert_eq!(core.gossip(&blocks[height - 1]), Verdict::Accept, "{height}");
    }
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[2].id()), 2));
    assert_eq!(core.gossip(&blocks[6]), Verdict::Ignore, "there is room for two");
}

#[test]
fn a_signature_raises_the_target_and_nothing_else_does() {
    let blocks = chain(9);
    let mut core = Setup::follower().limits(|limits| limits.pending_blocks = 0).start();
    assert_eq!(core.target(), None);
    let effects = core.gossip_effects(1, Ok(blocks[4].clone()));
    assert_eq!(core.target(), Some(blocks[4].id()));
    assert_eq!(announced(&effects).last().and_then(|heads| heads.target), Some(blocks[4].id()));
    assert_eq!(commits(&effects), [], "it is proved anew after every start");
    let _ = core.gossip(&blocks[2]);
    assert_eq!(core.target(), Some(blocks[4].id()));
    let other = branch(&blocks[..4], "b", 1).remove(0);
    let _ = core.gossip(&other);
    assert_eq!(core.target(), Some(blocks[4].id()), "the first proof of a height stays");
    let _ = core.gossip(&blocks[5]);
    assert_eq!(core.target(), Some(blocks[5].id()));
}

#[test]
fn a_target_that_nothing_leads_to_is_dropped_after_a_while() {
    let blocks = chain(9);
    let setup = Setup::follower().storing(&blocks[..2], 0);
    let patience = setup.config.timing.target_patience;
    let mut core = setup.start();
    let _ = core.gossip(&blocks[8]);
    assert_eq!(core.next_wakeup(), Some(patience));
    let _ = core.almost_pass(patience);
    assert_eq!(core.target(), Some(blocks[8].id()));
    let _ = core.pass(INSTANT);
    assert_eq!(core.target(), Some(blocks[1].id()));
}

#[test]
fn progress_gives_the_target_more_time() {
    let blocks = chain(9);
    let setup = Setup::follower().storing(&blocks[..2], 0);
    let patience = setup.config.timing.target_patience;
    let step = patience.saturating_sub(Duration::from_secs(1));
    let mut core = setup.start();
    let request = range_request(&core.connect_at(1, &blocks[7]));
    core.sleep(SECOND);
    let _ = core.answer(request.request, &blocks[2..3], FetchOutcome::Cut);
    let _ = core.pass(step);
    assert_eq!(core.target(), Some(blocks[7].id()), "a peer gave the next block");
    let _ = core.gossip(&blocks[8]);
    let _ = core.pass(step);
    assert_eq!(core.target(), Some(blocks[8].id()), "the target rose");
    let _ = core.gossip(&blocks[3]);
    assert_eq!(core.soft(), Some(blocks[3].id()));
    let _ = core.pass(SECOND);
    assert_eq!(core.target(), Some(blocks[3].id()), "that gossip goes on shows nothing");
}

/// A replayed block of a branch that lost is neither a reason to say that we sync, nor to wait with anything.
#[test]
fn a_target_that_was_given_up_does_not_rise_again_from_the_same_block() {
    let blocks = chain(5);
    let replayed = branch(&blocks[..2], "b", 9);
    let setup = Setup::follower().storing(&blocks[..2], 0);
    let patience = setup.config.timing.target_patience;
    let mut core = setup.start();
    let is_syncing = |core: &Core| (core.status().phase == Phase::Syncing, core.target() != core.soft());
    let _ = core.gossip(&replayed[8]);
    assert_eq!(is_syncing(&core), (true, true), "it may be ours");
    let _ = core.pass(patience);
    for block in &blocks[2..5] {
        let _ = core.gossip(&replayed[8]);
        assert_eq!(is_syncing(&core), (false, false), "nobody led to it");
        let _ = core.gossip(block);
        assert_eq!(core.soft(), Some(block.id()));
    }
}

/// Nobody led to the highest one, and so nobody led to those before it.
#[test]
fn with_a_target_those_are_given_up_whose_place_it_took() {
    let blocks = chain(3);
    let replayed = branch(&blocks[..2], "b", 9);
    let setup = Setup::follower().storing(&blocks[..2], 0);
    let patience = setup.config.timing.target_patience;
    let mut core = setup.start();
    for block in [&replayed[5], &replayed[8]] {
        let _ = core.gossip(block);
        assert_eq!(core.target(), Some(block.id()));
    }
    let _ = core.pass(patience);
    for block in [&replayed[5], &replayed[8]] {
        let _ = core.gossip(block);
        assert_eq!(core.target(), core.soft());
    }
    // What was no target then may be ours.
    let _ = core.gossip(&replayed[7]);
    assert_eq!(core.target(), Some(replayed[7].id()));
}

#[test]
fn what_was_given_up_is_fetched_as_soon_as_somebody_has_it() {
    let blocks = chain(9);
    let setup = Setup::follower().storing(&blocks[..2], 0);
    let patience = setup.config.timing.target_patience;
    let mut core = setup.start();
    let _ = core.gossip(&blocks[8]);
    let _ = core.pass(patience);
    assert_eq!(core.target(), core.soft());
    let request = range_request(&core.connect_at(1, &blocks[8]));
    let effects = core.answer(request.request, &blocks[2..5], FetchOutcome::Cut);
    let request = range_request(&effects);
    let _ = core.answer(request.request, &blocks[5..], FetchOutcome::Complete);
    assert_eq!(core.soft(), Some(blocks[8].id()));
}

/// All who are ahead are on another branch: there is nothing to sync up to.
#[test]
fn who_is_elsewhere_leads_nobody() {
    let blocks = chain(3);
    let longer = branch(&blocks[..1], "b", 9);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let request = range_request(&core.connect_at(1, &longer[8]));
    assert_eq!((core.status().phase, core.target()), (Phase::Syncing, Some(longer[8].id())));
    let effects = core.answer(request.request, &longer[2..8], FetchOutcome::Complete);
    let status = core.status();
    assert_eq!((status.phase, status.forked, status.heads.target), (Phase::Following, true, core.soft()));
    assert_eq!(announced(&effects).last().map(|heads| heads.target), Some(core.soft()));
}

#[test]
fn the_same_target_again_is_no_progress() {
    let blocks = chain(9);
    let setup = Setup::follower().storing(&blocks[..2], 0);
    let patience = setup.config.timing.target_patience;
    let mut core = setup.start();
    let _ = core.gossip(&blocks[8]);
    core.sleep(patience.saturating_sub(INSTANT));
    let _ = core.gossip(&blocks[8]);
    let _ = core.pass(INSTANT);
    assert_eq!(core.target(), Some(blocks[1].id()));
}

#[test]
fn what_is_below_the_tail_or_hard_is_of_no_interest() {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks[..4], 3).pruned_below(&blocks[1]).start();
    for block in &blocks[..4] {
        assert_eq!(core.gossip(block), Verdict::Ignore);
    }
    for height in 0..3 {
        let other = branch(&blocks[..height], "b", 1).remove(0);
        let effects = core.gossip_effects(1, Ok(other));
        assert_eq!((verdict(&effects), changes(&effects)), (Verdict::Ignore, vec![]), "DA has decided");
    }
    let other = branch(&blocks[..3], "b", 1).remove(0);
    assert_eq!(core.gossip(&other), Verdict::Accept, "soft: others need to see it");
}

#[test]
fn a_block_from_the_future_is_not_believed() {
    let core = || Setup::follower().start();
    let latest = ahead(&core(), 0);
    for (time, believed) in [(latest, Verdict::Accept), (latest + 1, Verdict::Ignore)] {
        let mut core = core();
        let block = Spec { time_unix_nanos: Some(time), ..Spec::of("a") }.on(None);
        assert_eq!(core.gossip(&block), believed);
        assert_eq!(core.target().is_some(), believed == Verdict::Accept);
    }
}

/// A block whose time is so far ahead of what our clock can believe.
fn early(core: &Core, on: &AuthenticBlock, by: Duration) -> AuthenticBlock {
    let nanos = i64::try_from(by.as_nanos()).expect("short");
    Spec { time_unix_nanos: Some(ahead(core, nanos)), ..Spec::of("a") }.on(Some(on))
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn the_status_says_that_our_clock_keeps_us_from_believing_anybody() {
    let first = chain(1).remove(0);
    let mut core = Setup::follower().storing(std::slice::from_ref(&first), 0).start();
    assert_eq!(core.status().ahead_of_clock, None);
    let _ = core.pass(Duration::from_secs(5));
    let one = early(&core, &first, HOUR);
    assert_eq!(core.gossip(&one), Verdict::Ignore);
    let told = AheadOfClock { blocks: 1, last_by: HOUR + DRIFT, since: Duration::from_secs(5) };
    assert_eq!(core.status().ahead_of_clock, Some(told));
    // Another way to us, and another block, a second later.
    let _ = core.pass(Duration::from_secs(1));
    let probe = core.connect(1);
    let _ = core.answer(probe, &[early(&core, &one, HOUR * 2)], FetchOutcome::Complete);
    assert_eq!(core.status().ahead_of_clock, Some(AheadOfClock { blocks: 2, last_by: HOUR * 2 + DRIFT, ..told }));
    // Until the last one can be believed.
    let _ = core.almost_pass(HOUR * 2);
    assert!(core.status().ahead_of_clock.is_some());
    let _ = core.pass(INSTANT);
    assert_eq!(core.status().ahead_of_clock, None);
}

#[test]
fn a_block_that_is_believed_at_such_a_height_says_that_our_clock_is_right() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    for on in [&blocks[1], &blocks[2]] {
        let early = early(&core, on, HOUR);
        assert_eq!(core.gossip(&early), Verdict::Ignore);
    }
    let _ = core.gossip(&blocks[1]);
    assert!(core.status().ahead_of_clock.is_some(), "below all of them");
    let _ = core.gossip(&blocks[2]);
    assert_eq!(core.status().ahead_of_clock, None);
}

#[test]
fn while_the_disk_is_full_nothing_is_taken_in() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let _ = core.give(Input::StorageFull(true));
    let probe = core.connect(1);
    let effects = core.answer(probe, &blocks[2..], FetchOutcome::Complete);
    assert_eq!(ranges(&effects), []);
    for block in &blocks[1..] {
        assert_eq!(core.gossip(block), Verdict::Ignore);
    }
    assert_eq!((core.soft(), core.target()), (Some(blocks[0].id()), Some(blocks[0].id())));
    let _ = core.give(Input::StorageFull(false));
    assert_eq!(core.gossip(&blocks[1]), Verdict::Accept);
    assert_eq!(core.soft(), Some(blocks[1].id()));
}

/// Memory is bounded by what the disk keeps up with.
#[test]
fn what_the_disk_does_not_keep_up_with_waits() {
    let blocks = chain(4);
    let size = blocks[0].size();
    let mut core = Setup::follower().limits(|limits| limits.commit_bytes = size).start();
    core.hold_writes();
    for block in &blocks {
        let _ = core.gossip(block);
    }
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[1].id()), 2));
    let _ = core.write();
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[3].id()), 0));
}

#[test]
fn a_commit_that_is_durable_makes_room_for_as_much_as_it_wrote() {
    let blocks = chain(6);
    let size = blocks[1].size();
    let setup = Setup::follower().storing(&blocks[..1], 0);
    let mut core = setup.limits(|limits| limits.commit_bytes = 2 * size).start();
    core.hold_writes();
    for block in &blocks[1..] {
        let _ = core.gossip(block);
    }
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[3].id()), 2));
    let _ = core.write_one();
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[4].id()), 1));
    // Those of the other commits are not on disk: the core still knows them by itself.
    assert!(core.ack("a", blocks[2].id()).0);
}
