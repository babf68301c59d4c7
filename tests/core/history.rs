//! Peers that have pruned what we need: they serve what is above, nobody is blamed, and the status says it when all are so.

use std::time::Duration;

use blocksyncd::sync::{BlockQuery, FetchOutcome, Input};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain};
use super::driver::{Core, INSTANT, Setup, fetches, peer, penalties, range_request, ranges, timing};
use super::neighbours::{Kind, Neighbourhood, ROUND_TRIP};

fn is_unavailable(core: &Core) -> bool {
    core.status().history_unavailable
}

/// A core with one block, and a peer whose head is block 20 and which has no block 2.
fn with_a_pruned_peer(blocks: &[AuthenticBlock]) -> Core {
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let fetch = range_request(&core.connect_at(1, &blocks[19]));
    assert!(!is_unavailable(&core), "it has not answered");
    let effects = core.answer(fetch.request, &[], FetchOutcome::NotFound);
    assert_eq!((penalties(&effects), ranges(&effects)), (vec![], vec![]));
    core
}

#[test]
fn history_is_unavailable_when_nobody_who_is_ahead_has_the_next_block() {
    let blocks = chain(20);
    let mut core = with_a_pruned_peer(&blocks);
    assert!(is_unavailable(&core));
    // Who is not ahead, or says nothing, cannot help.
    let _ = core.connect_at(2, &blocks[0]);
    let _ = core.connect(3);
    assert!(is_unavailable(&core));
    // Who is ahead may.
    let fetch = range_request(&core.connect_at(4, &blocks[19]));
    assert_eq!(fetch.peer, peer(4));
    assert!(!is_unavailable(&core));
    let _ = core.answer(fetch.request, &[], FetchOutcome::NotFound);
    assert!(is_unavailable(&core));
    for name in [1, 4] {
        assert!(is_unavailable(&core));
        let _ = core.give(Input::PeerDown { peer: peer(name) });
    }
    assert!(!is_unavailable(&core), "nobody is ahead");
}

#[test]
fn history_may_come_back() {
    let blocks = chain(20);
    let mut core = with_a_pruned_peer(&blocks);
    // A new answer about its head is no answer about block 2.
    let _ = core.give(Input::GossipMissed { peer: peer(1) });
    let probe = fetches(&core.pass(timing().gossip_grace))[0].request;
    let effects = core.answer(probe, &blocks[19..], FetchOutcome::Complete);
    assert_eq!((ranges(&effects), is_unavailable(&core)), (vec![], true));
    // It is asked again after a while.
    let wait = timing().backoff_max.saturating_sub(timing().gossip_grace);
    assert_eq!(ranges(&core.almost_pass(wait)), []);
    let fetch = range_request(&core.pass(INSTANT));
    assert!(is_unavailable(&core));
    let _ = core.answer(fetch.request, &blocks[1..19], FetchOutcome::Complete);
    assert_eq!((is_unavailable(&core), core.soft()), (false, Some(blocks[19].id())));
}

/// What is above is of no use to anybody then; and whoever gives one block again may give the others, too.
#[test]
fn nothing_above_is_asked_for_without_its_history() {
    let blocks = chain(300);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.requests_per_peer = 2).start();
    for fetch in fetches(&core.connect_at(1, &blocks[299])) {
        let effects = core.answer(fetch.request, &[], FetchOutcome::NotFound);
        assert_eq!((ranges(&effects), is_unavailable(&core)), (vec![], true));
    }
    let effects = core.pass(timing().backoff_max);
    let again = fetches(&effects).into_iter().find(|fetch| fetch.query != BlockQuery::Head).expect("it is asked again");
    let effects = core.answer(again.request, &blocks[1..3], FetchOutcome::Reset);
    assert!(!is_unavailable(&core));
    assert!(!ranges(&effects).is_empty());
}

/// What it gossips it may not have stored yet, so it has pruned nothing.
#[test]
fn who_was_only_too_fast_has_pruned_nothing() {
    let blocks = chain(20);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let _ = core.connect_at(1, &blocks[0]);
    let fetch = range_request(&core.gossip_effects(1, Ok(blocks[19].clone())));
    let _ = core.answer(fetch.request, &[], FetchOutcome::NotFound);
    assert!(!is_unavailable(&core));
}

#[test]
fn any_other_failure_says_nothing_of_history() {
    let blocks = chain(20);
    for outcome in [
        FetchOutcome::Reset,
        FetchOutcome::Timeout,
        FetchOutcome::Complete,
        FetchOutcome::Unsupported,
        FetchOutcome::NotSent,
        FetchOutcome::Cut,
    ] {
        let mut core = Setup::follower().storing(&blocks[..1], 0).start();
        let fetch = range_request(&core.connect_at(1, &blocks[19]));
        let _ = core.answer(fetch.request, &[], outcome.clone());
        assert!(!is_unavailable(&core), "{outcome:?}");
    }
}

#[test]
fn who_is_on_another_branch_does_not_count() {
    let blocks = chain(20);
    let mut core = with_a_pruned_peer(&blocks);
    let others = branch(&[], "b", 20);
    let fetch = range_request(&core.connect_at(2, &others[19]));
    assert!(!is_unavailable(&core));
    let _ = core.answer(fetch.request, &others[1..5], FetchOutcome::Complete);
    assert!(core.status().forked && is_unavailable(&core));
}

/// It had nothing, and loses nothing: it serves what it has, at once.
#[test]
fn a_pruned_peer_serves_what_is_above_its_tail() {
    let blocks = chain(300);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.requests_per_peer = 1).start();
    let pruned = range_request(&core.connect_at(1, &blocks[299]));
    assert_eq!(ranges(&core.connect_at(2, &blocks[299])), [(peer(2), 66, 64)]);
    // The one who may have the history is busy.
    let effects = core.answer(pruned.request, &[], FetchOutcome::NotFound);
    assert_eq!(ranges(&effects), [(peer(1), 130, 64)]);
}

// ------------------------------------------------------------------------------- whoever else is there

/// What is said of the history is not to depend on those who say nothing of it for longer than this.
const FOUND_OUT_WITHIN: Duration = Duration::from_mins(1);

/// A core with one block, beside a peer that has pruned the second one.
fn beside_a_pruned_peer(blocks: &[AuthenticBlock]) -> Neighbourhood {
    let mut around = Neighbourhood::of(Setup::follower().storing(&blocks[..1], 0).start());
    around.meet(1, Kind::Serves, &blocks[100..200]);
    around
}

/// Every second a block is made, and everybody says so who relays gossip.
fn a_second_passes(around: &mut Neighbourhood, relays: &[u8], block: &AuthenticBlock) {
    for name in relays {
        around.hears(*name, block);
    }
    around.pass(Duration::from_secs(1));
}

#[test]
fn whoever_serves_nothing_does_not_hide_that_nobody_has_the_history() {
    let blocks = chain(600);
    let all = [Kind::Empty, Kind::Silent, Kind::HeadOnly, Kind::TooHeavy];
    let mut crowds: Vec<_> = all.iter().flat_map(|kind| [vec![*kind], vec![*kind; 3]]).collect();
    crowds.push(all.to_vec());
    for crowd in crowds {
        let mut around = beside_a_pruned_peer(&blocks);
        let names: Vec<u8> = (2..).take(crowd.len()).collect();
        names.iter().zip(&crowd).for_each(|(name, kind)| around.meet(*name, *kind, &blocks));
        for made in 201..500 {
            around.now_has(1, &blocks[100..made]);
            a_second_passes(&mut around, &names, &blocks[made - 1]);
            let is_known = around.core.elapsed() < FOUND_OUT_WITHIN || is_unavailable(&around.core);
            assert!(is_known, "{crowd:?} at {:?}", around.core.elapsed());
        }
        // Whoever comes and has it ends that.
        around.meet(9, Kind::Serves, &blocks);
        let took = around.takes(Duration::from_mins(1), |around| !is_unavailable(&around.core));
        assert!(took.is_some_and(|took| took <= ROUND_TRIP * 2), "{crowd:?}: {took:?}");
        let took = around.takes(Duration::from_mins(1), |around| around.soft() >= 499);
        assert!(took.is_some_and(|took| took < Duration::from_secs(12)), "{crowd:?}: {took:?}");
    }
}

#[test]
fn a_longer_branch_that_lost_does_not_hide_that_nobody_has_the_history() {
    let blocks = chain(200);
    let lost = branch(&blocks[..1], "b", 600);
    let lost: Vec<_> = blocks[..1].iter().cloned().chain(lost).collect();
    let mut around = Neighbourhood::of(Setup::follower().storing(&blocks[..2], 2).start());
    around.meet(1, Kind::Serves, &blocks[100..200]);
    around.meet(2, Kind::Serves, &lost[..250]);
    for made in 251..600 {
        around.now_has(2, &lost[..made]);
        a_second_passes(&mut around, &[2], &lost[made - 1]);
        let is_known = around.core.elapsed() < FOUND_OUT_WITHIN || is_unavailable(&around.core);
        assert!(is_known, "at {:?}", around.core.elapsed());
    }
}

/// It is nearer than the one who has everything.
#[test]
fn a_pruned_peer_is_not_asked_for_what_it_pruned_again_and_again() {
    let blocks = chain(1_200);
    let takes = |has_pruned: bool| {
        let size = blocks[1].size();
        let mut setup = Setup::follower().storing(&blocks[..1], 0).limits(|limits| {
            limits.range_bytes = size * 3;
            limits.pending_bytes = 1 << 20;
            limits.requests_per_peer = 3;
        });
        setup.config.rules.max_block_bytes = 4_096;
        let mut around = Neighbourhood::of(setup.start());
        if has_pruned {
            around.meet(1, Kind::Serves, &blocks[1_100..]);
            around.neighbours.get_mut(&peer(1)).expect("it is here").round_trip = ROUND_TRIP / 10;
        }
        around.meet(2, Kind::Serves, &blocks);
        let took = around.takes(Duration::from_mins(10), |around| around.soft() == 1_200).expect("it gets there");
        let asked = around.asked.ranges.iter().filter(|(_, who, from, _)| *who == peer(1) && *from < 1_101).count();
        (took, asked)
    };
    let (alone, _) = takes(false);
    let (beside, asked) = takes(true);
    assert!(beside <= alone * 11 / 10 && asked <= 16, "{beside:?}, {alone:?} without it; {asked} times in vain");
}
