//! Whom to ask: not those again who failed, while there are others; and somebody who serves, where everything waits.

use std::time::Duration;

use blocksyncd::sync::{BlockQuery, FetchOutcome, Input};

use super::blocks::chain;
use super::driver::{INSTANT, Setup, fetches, peer, range_request, ranges, sorted, timing};

#[test]
fn who_failed_a_range_is_asked_for_it_again_after_everybody_else() {
    let blocks = chain(20);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let everybody: Vec<_> = (1..=6).map(peer).collect();
    let mut fetch = range_request(&core.connect_at(1, &blocks[19]));
    for name in 2..=6 {
        let _ = core.connect_at(name, &blocks[19]);
    }
    for round in 1..=2 {
        let mut asked = Vec::new();
        for _ in 0..6 {
            assert_eq!(fetch.query, BlockQuery::Range { from: blocks[1].height(), amount: 18 });
            asked.push(fetch.peer.clone());
            // Whoever failed in this round has rested.
            core.sleep(timing().backoff_min * round);
            let effects = core.answer(fetch.request, &[], FetchOutcome::Reset);
            fetch = match ranges(&effects).len() {
                0 => range_request(&core.pass(timing().backoff_min * (round * 2))),
                _ => range_request(&effects),
            };
        }
        assert_eq!(sorted(asked), everybody, "round {round}");
    }
}

#[test]
fn the_rest_of_an_answer_that_broke_off_is_asked_of_somebody_else() {
    let blocks = chain(20);
    // However slow that one is; but where it was we who had enough, the peer may well have the rest.
    for (outcome, next) in [(FetchOutcome::Reset, 2), (FetchOutcome::Timeout, 2), (FetchOutcome::Cut, 1)] {
        let mut core = Setup::follower().storing(&blocks[..1], 0).start();
        let probe = core.connect(2);
        core.sleep(Duration::from_millis(500));
        let _ = core.answer(probe, &blocks[..1], FetchOutcome::Complete);
        let fetch = range_request(&core.connect_at(1, &blocks[19]));
        let _ = core.gossip_effects(2, Ok(blocks[19].clone()));
        let effects = core.answer(fetch.request, &blocks[1..6], outcome.clone());
        assert_eq!(ranges(&effects), [(peer(next), 7, 13)], "{outcome:?}");
    }
}

/// What is left of its range: gossip brought some of it meanwhile.
#[test]
fn a_peer_that_left_in_the_middle_of_a_range_is_not_asked_for_it_first() {
    let blocks = chain(20);
    let size = blocks[1].size();
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.commit_bytes = size).start();
    let probe = core.connect(2);
    core.sleep(Duration::from_millis(500));
    let _ = core.answer(probe, &blocks[..1], FetchOutcome::Complete);
    let _ = core.connect_at(1, &blocks[19]);
    // While the disk does not keep up nobody is asked for anything.
    core.hold_writes();
    let _ = core.gossip(&blocks[1]);
    let _ = core.gossip(&blocks[2]);
    let _ = core.give(Input::PeerDown { peer: peer(1) });
    let _ = core.gossip_effects(2, Ok(blocks[19].clone()));
    let _ = core.connect_at(1, &blocks[19]);
    assert_eq!(ranges(&core.write()), [(peer(2), 4, 16)]);
}

/// As long as not everything waits for it.
#[test]
fn a_range_waits_for_somebody_who_has_not_failed_it() {
    let blocks = chain(300);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.requests_per_peer = 1).start();
    let first = range_request(&core.connect_at(1, &blocks[299]));
    let second = range_request(&core.connect_at(2, &blocks[299]));
    let _ = core.answer(second.request, &[], FetchOutcome::Reset);
    assert_eq!(ranges(&core.pass(timing().backoff_min)), [(peer(2), 130, 64)]);
    let effects = core.answer(first.request, &blocks[1..65], FetchOutcome::Complete);
    assert_eq!(ranges(&effects), [(peer(1), 66, 64)]);
    // Where only one who failed is left, it is asked.
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.requests_per_peer = 1).start();
    let _ = core.connect_at(1, &blocks[64]);
    let second = range_request(&core.connect_at(2, &blocks[299]));
    assert_eq!(second.query, BlockQuery::Range { from: blocks[65].height(), amount: 64 });
    let _ = core.answer(second.request, &[], FetchOutcome::Reset);
    assert_eq!(ranges(&core.pass(timing().backoff_min)), [(peer(2), 66, 64)]);
}

#[test]
fn whoever_failed_is_asked_for_one_range_until_it_serves() {
    let blocks = chain(400);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.requests_per_peer = 3).start();
    let asked = fetches(&core.connect_at(1, &blocks[399]));
    assert_eq!(asked.len(), 3);
    for fetch in asked {
        let _ = core.answer(fetch.request, &[], FetchOutcome::Reset);
    }
    // What was in flight together failed once.
    assert_eq!(ranges(&core.almost_pass(timing().backoff_min)), []);
    let fetch = range_request(&core.pass(INSTANT));
    assert_eq!(fetch.query, BlockQuery::Range { from: blocks[1].height(), amount: 64 });
    let effects = core.answer(fetch.request, &blocks[1..65], FetchOutcome::Complete);
    assert_eq!(ranges(&effects).len(), 3);
}

/// It costs nothing to have a head.
#[test]
fn a_head_makes_nobody_forget_who_does_not_serve() {
    let blocks = chain(20);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let fetch = range_request(&core.connect_at(1, &blocks[19]));
    let _ = core.answer(fetch.request, &[], FetchOutcome::Timeout);
    let fetch = range_request(&core.pass(timing().backoff_min));
    let _ = core.answer(fetch.request, &[], FetchOutcome::Timeout);
    let rested = core.elapsed() + timing().backoff_min * 2;
    let _ = core.give(Input::GossipMissed { peer: peer(1) });
    let probe = fetches(&core.pass(timing().gossip_grace))[0].request;
    let effects = core.answer(probe, &blocks[19..], FetchOutcome::Complete);
    assert_eq!((ranges(&effects), core.next_wakeup()), (vec![], Some(rested)));
}

#[test]
fn beside_others_somebody_is_asked_who_serves() {
    let blocks = chain(8);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let fetch = range_request(&core.connect_at(1, &blocks[3]));
    // It is slower than all the others seem to be.
    core.sleep(Duration::from_millis(500));
    let _ = core.answer(fetch.request, &blocks[1..3], FetchOutcome::Complete);
    assert_eq!(core.soft(), Some(blocks[3].id()));
    for name in 2..=6 {
        let _ = core.connect_at(name, &blocks[5]);
    }
    let _ = core.gossip_effects(1, Ok(blocks[5].clone()));
    let asked = ranges(&core.pass(timing().gossip_grace));
    assert_eq!(asked.len(), 2);
    assert!(asked.contains(&(peer(1), 5, 1)), "{asked:?}");
}

/// A few at a time, and no more often than a request that hangs is asked of somebody else.
#[test]
fn for_a_gap_those_who_were_behind_are_asked_for_their_heads() {
    let blocks = chain(6);
    let mut core = Setup::follower().storing(&blocks[..2], 0).start();
    for name in 1..=5 {
        let _ = core.connect_at(name, &blocks[1]);
    }
    let _ = core.gossip_effects(1, Ok(blocks[3].clone()));
    let effects = core.pass(timing().gossip_grace);
    assert_eq!(ranges(&effects), [(peer(1), 3, 1)], "it has what it gossips");
    let probes: Vec<_> = fetches(&effects).into_iter().filter(|fetch| fetch.query == BlockQuery::Head).collect();
    assert_eq!(probes.len(), 3);
    assert!(probes.iter().all(|probe| probe.peer != peer(1)));
    // One of them is behind still, and nobody is asked all the time; one of them has caught up.
    let effects = core.answer(probes[1].request, &blocks[1..2], FetchOutcome::Complete);
    assert_eq!(fetches(&effects), []);
    let effects = core.answer(probes[0].request, &blocks[3..4], FetchOutcome::Complete);
    assert_eq!(ranges(&effects), [(probes[0].peer.clone(), 3, 1)]);
    assert_eq!(fetches(&core.almost_pass(timing().hedge_after)), []);
    assert!(!fetches(&core.pass(INSTANT)).is_empty());
}
