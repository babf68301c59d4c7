//! What is taken from an answer, and what of it counts against whom: the good prefix is used whoever is to blame for the rest, and
//! nobody is to blame for time, or room, that we lost.

use std::time::Duration;

use blocksyncd::block::Malformed;
use blocksyncd::sync::{BlockQuery, Fetch, FetchOutcome, Input, Offence, RequestId};
use blocksyncd::verify::{AuthenticBlock, Fault};

use super::blocks::{Spec, branch, chain, h, public_key};
use super::driver::{Core, INSTANT, Setup, ahead, cancelled, fetches, peer, penalties, range_request, ranges, timing};

/// A core that stores one block, and has asked peer 1 for the blocks 2 to 18, of 19.
fn asking() -> (Core, Fetch, Vec<AuthenticBlock>) {
    let blocks = chain(19);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let fetch = range_request(&core.connect_at(1, &blocks[18]));
    (core, fetch, blocks)
}

// ------------------------------------------------------------------------------------------- prefixes

#[test]
fn what_comes_before_a_wrong_block_is_used_and_who_gave_it_is_punished() {
    for fault in [None, Some(Fault::BadSignature), Some(Fault::Malformed(Malformed::NotCanonical))] {
        for count in [0, 5] {
            let (mut core, fetch, blocks) = asking();
            let _ = core.connect_at(2, &blocks[18]);
            let effects = core.answer(fetch.request, &blocks[1..=count], FetchOutcome::Invalid(fault.clone()));
            assert_eq!(core.soft(), Some(blocks[count].id()), "{fault:?}");
            assert_eq!(penalties(&effects), [(peer(1), Offence::BadRange, Some(timing().ban_min))], "{fault:?}");
            assert_eq!(core.standing(1).failures, 1);
            let from = count as u64 + 2;
            assert_eq!(ranges(&effects), [(peer(2), from, 20 - from - 1)], "the rest is asked of somebody else");
        }
    }
}

#[test]
fn what_comes_before_a_block_that_was_not_asked_for_is_used_and_who_gave_it_is_punished() {
    let stray = branch(&branch(&[], "b", 3), "b", 1);
    let blocks = chain(19);
    for wrong in [vec![blocks[9].clone()], vec![stray[0].clone()], vec![blocks[1].clone()]] {
        let (mut core, fetch, blocks) = asking();
        let answer = [&blocks[1..4], &wrong[..]].concat();
        let effects = core.answer(fetch.request, &answer, FetchOutcome::Complete);
        assert_eq!(core.soft(), Some(blocks[3].id()), "{wrong:?}");
        assert_eq!(penalties(&effects), [(peer(1), Offence::BadRange, Some(timing().ban_min))]);
    }
}

/// Whose schedule is behind is not known: theirs, or ours.
#[test]
fn what_comes_before_a_block_of_an_unknown_proposer_is_used_and_nobody_is_punished() {
    for count in [0, 5] {
        let (mut core, fetch, blocks) = asking();
        let height = h(count as u64 + 2);
        let fault = Fault::NotScheduled { height, proposer: public_key(2) };
        let effects = core.answer(fetch.request, &blocks[1..=count], FetchOutcome::Invalid(Some(fault)));
        assert_eq!((core.soft(), penalties(&effects)), (Some(blocks[count].id()), vec![]));
        let standing = core.standing(1);
        assert_eq!((standing.failures, standing.rests), (0, Duration::ZERO));
        // What it has from there on we cannot check, whenever it is asked.
        assert_eq!((ranges(&effects), ranges(&core.pass(Duration::from_secs(30)))), (vec![], vec![]));
    }
}

// ---------------------------------------------------------------------------------------- room of ours

#[test]
fn answers_that_come_while_our_disk_is_full_count_against_nobody() {
    let (mut core, fetch, blocks) = asking();
    let _ = core.give(Input::StorageFull(true));
    let _ = core.answer(fetch.request, &blocks[1..18], FetchOutcome::Complete);
    let standing = core.standing(1);
    assert_eq!((standing.failures, standing.rests), (0, Duration::ZERO));
    assert_eq!(ranges(&core.give(Input::StorageFull(false))), [(peer(1), 2, 17)]);
}

/// And are not asked for all the time.
#[test]
fn what_our_clock_cannot_believe_counts_against_nobody() {
    let blocks = chain(19);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let early = Spec { time_unix_nanos: Some(ahead(&core, 3_600_000_000_000)), ..Spec::of("a") }.on(Some(&blocks[0]));
    let mut effects = core.connect_at(1, &blocks[18]);
    let mut pause = timing().backoff_min;
    for _ in 0..6 {
        let fetch = range_request(&effects);
        let _ = core.answer(fetch.request, std::slice::from_ref(&early), FetchOutcome::Reset);
        assert_eq!(core.standing(1).failures, 0);
        assert_eq!(ranges(&core.almost_pass(pause)), []);
        effects = core.pass(INSTANT);
        pause = (pause * 2).min(timing().backoff_max);
    }
    // What can be believed begins anew.
    let fetch = range_request(&effects);
    let effects = core.answer(fetch.request, &blocks[1..3], FetchOutcome::Reset);
    assert_eq!(ranges(&effects), [(peer(1), 4, 15)]);
}

/// The pause was for a block that we could not take; whoever brings one that we can ends it.
#[test]
fn a_pause_of_ranges_ends_when_soft_rises() {
    let blocks = chain(19);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let early = Spec { time_unix_nanos: Some(ahead(&core, 3_600_000_000_000)), ..Spec::of("a") }.on(Some(&blocks[0]));
    let mut effects = core.connect_at(1, &blocks[18]);
    let mut pause = timing().backoff_min;
    for _ in 0..4 {
        let fetch = range_request(&effects);
        let _ = core.answer(fetch.request, std::slice::from_ref(&early), FetchOutcome::Reset);
        effects = core.pass(pause);
        pause *= 2;
    }
    let fetch = range_request(&effects);
    let _ = core.answer(fetch.request, std::slice::from_ref(&early), FetchOutcome::Reset);
    assert_eq!(ranges(&core.give(Input::Wakeup)), []);
    let effects = core.gossip_effects(200, Ok(blocks[1].clone()));
    assert_eq!(core.soft(), Some(blocks[1].id()));
    assert_eq!(ranges(&effects), [(peer(1), 3, 16)]);
    // And the next one is as short as the first.
    let late = Spec { time_unix_nanos: Some(early.time_unix_nanos()), ..Spec::of("a") }.on(Some(&blocks[1]));
    let _ = core.answer(range_request(&effects).request, &[late], FetchOutcome::Reset);
    assert_eq!(ranges(&core.almost_pass(timing().backoff_min)), []);
    assert_eq!(ranges(&core.pass(INSTANT)), [(peer(1), 3, 16)]);
}

// ---------------------------------------------------------------------------------------- time of ours

/// Three peers, each asked for a range and its head.
fn three_asked() -> (Core, Vec<RequestId>, Vec<AuthenticBlock>) {
    let blocks = chain(300);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.requests_per_peer = 1).start();
    let requests = (1..=3).map(|name| range_request(&core.connect_at(name, &blocks[299])).request).collect();
    (core, requests, blocks)
}

/// They have all answered; we read it late.
#[test]
fn after_a_stall_longer_than_every_deadline_the_answers_are_read_before_anybody_is_blamed() {
    let (mut core, requests, blocks) = three_asked();
    core.sleep(Duration::from_mins(5));
    for (index, request) in requests.into_iter().enumerate() {
        let given = &blocks[1 + index * 64..][..64];
        let effects = core.answer(request, given, FetchOutcome::Complete);
        assert_eq!(cancelled(&effects), [], "{index}");
    }
    assert_eq!(core.soft(), Some(blocks[192].id()));
    for name in 1..=3 {
        assert_eq!(core.standing(name).failures, 0, "{name}");
    }
}

/// As when the whole process was stopped: the network hands over what has come only after the timer.
#[test]
fn who_is_woken_late_waits_for_a_moment_before_blaming_anybody() {
    let (mut core, requests, blocks) = three_asked();
    core.sleep(Duration::from_mins(5));
    assert_eq!(cancelled(&core.give(Input::Wakeup)), []);
    let moment = timing().request_timeout / 4;
    assert_eq!(cancelled(&core.almost_pass(moment)), []);
    let _ = core.answer(requests[0], &blocks[1..65], FetchOutcome::Complete);
    assert_eq!(core.standing(1).failures, 0);
    // Who has not answered by then has not answered.
    assert_eq!(cancelled(&core.pass(INSTANT)), requests[1..]);
    assert_eq!((core.standing(1).failures, core.standing(2).failures), (0, 1));
}

/// It has come, and waits for its checks, which are ours.
#[test]
fn an_answer_that_is_being_checked_is_late_no_more() {
    let (mut core, requests, blocks) = three_asked();
    let _ = core.give(Input::Arrived { request: requests[1] });
    let deadline = timing().request_timeout * 5 / 4;
    assert_eq!(cancelled(&core.pass(deadline)), [requests[0], requests[2]]);
    let _ = core.answer(requests[1], &blocks[65..129], FetchOutcome::Complete);
    assert_eq!([1, 2, 3].map(|name| core.standing(name).failures), [1, 0, 1]);
    // Checks that never end hold no place for ever, and are nobody's fault either.
    let (mut core, requests, _) = three_asked();
    for request in &requests {
        let _ = core.give(Input::Arrived { request: *request });
    }
    let heads = |effects: &[_]| cancelled(effects).into_iter().filter(|id| requests.contains(id)).count();
    assert_eq!(heads(&core.almost_pass(timing().request_timeout * 8)), 0);
    assert_eq!(heads(&core.pass(INSTANT)), 3);
    assert_eq!(core.standing(1).failures, 0);
}

#[test]
fn a_late_head_is_nobodys_fault() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let probe = core.connect(1);
    core.sleep(Duration::from_mins(5));
    let _ = core.give(Input::GossipMissed { peer: peer(1) });
    let _ = core.answer(probe, &blocks[2..], FetchOutcome::Complete);
    assert_eq!(core.target(), Some(blocks[2].id()));
    let effects = core.pass(timing().gossip_grace);
    assert!(fetches(&effects).iter().any(|fetch| matches!(fetch.query, BlockQuery::Range { .. })));
}
