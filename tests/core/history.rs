//! Peers that have pruned what we need: they serve what is above, nobody is blamed, and the status says it when all are so.

use blocksyncd::sync::{BlockQuery, FetchOutcome, Input, Timing};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain};
use super::driver::{Core, INSTANT, Setup, fetches, peer, penalties, range_request, ranges};

fn timing() -> Timing {
    Setup::follower().config.timing
}

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
