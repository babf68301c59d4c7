//! Catching up: what is asked of whom, when, and what is done while nobody answers.

use std::time::Duration;

use blocksyncd::sync::{BlockQuery, Command, Fetch, FetchOutcome, Input, Name, PeerId, RequestId};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{MAX_BLOCK_BYTES, Spec, branch, chain, h};
use super::driver::{
    Core, INSTANT, Setup, ahead, asked_by_hash, cancelled, fetches, peer, range_request, ranges, seen_name, timing,
};

fn heads_asked(effects: &[blocksyncd::sync::Effect]) -> Vec<Fetch> {
    fetches(effects).into_iter().filter(|fetch| fetch.query == BlockQuery::Head).collect()
}

/// A core that stores the first block of `blocks`.
fn core_on(blocks: &[AuthenticBlock]) -> Core {
    Setup::follower().storing(&blocks[..1], 0).start()
}

// ------------------------------------------------------------------------------------------------ heads

#[test]
fn a_peer_is_asked_for_its_head_now_and_then() {
    let blocks = chain(1);
    let mut core = core_on(&blocks);
    let probe = core.connect(1);
    let effects = core.answer(probe, &blocks, FetchOutcome::Complete);
    assert_eq!(fetches(&effects), []);
    let next = core.next_wakeup().expect("it is asked again");
    let interval = timing().head_interval;
    assert!((interval..=interval + interval / 4).contains(&next), "{next:?}");
    assert_eq!(fetches(&core.almost_pass(next)), []);
    let effects = core.pass(INSTANT);
    assert_eq!(heads_asked(&effects).len(), 1);
    assert_eq!(heads_asked(&effects)[0].max_bytes, MAX_BLOCK_BYTES);
    // While it does not answer it is not asked twice.
    assert_eq!(heads_asked(&core.pass(timing().request_timeout)), []);
}

#[test]
fn after_a_message_was_missed_the_head_is_asked_for_soon() {
    let blocks = chain(1);
    let mut core = core_on(&blocks);
    let _ = core.connect_at(1, &blocks[0]);
    let _ = core.give(Input::GossipMissed { peer: peer(1) });
    assert_eq!(core.next_wakeup(), Some(timing().gossip_grace));
    assert_eq!(heads_asked(&core.almost_pass(timing().gossip_grace)), []);
    assert_eq!(heads_asked(&core.pass(INSTANT)).len(), 1);
    // Another one missed does not put it off.
    let mut core = core_on(&blocks);
    let _ = core.connect_at(1, &blocks[0]);
    let _ = core.give(Input::GossipMissed { peer: peer(1) });
    core.sleep(timing().gossip_grace / 2);
    let _ = core.give(Input::GossipMissed { peer: peer(1) });
    assert_eq!(core.next_wakeup(), Some(timing().gossip_grace));
}

#[test]
fn a_proved_head_is_the_target() {
    let blocks = chain(9);
    let mut core = core_on(&blocks);
    let _ = core.connect_at(1, &blocks[8]);
    assert_eq!(core.target(), Some(blocks[8].id()));
}

// ------------------------------------------------------------------------------------------------ ranges

#[test]
fn a_small_gap_is_left_to_gossip_for_a_moment() {
    let blocks = chain(4);
    for (head, at_once) in [(1, false), (2, false), (3, true)] {
        let mut core = core_on(&blocks);
        let effects = core.connect_at(1, &blocks[head]);
        assert_eq!(!ranges(&effects).is_empty(), at_once, "{head}");
        if head == 2 {
            assert_eq!(core.next_wakeup(), Some(timing().gossip_grace));
            assert_eq!(ranges(&core.almost_pass(timing().gossip_grace)), []);
            assert_eq!(ranges(&core.pass(INSTANT)), [(peer(1), 2, 1)], "the head waits already");
        }
    }
    // Where nothing is stored the first block is missing, too.
    let mut core = Setup::follower().start();
    assert_eq!(ranges(&core.connect_at(1, &blocks[1])), []);
    let mut core = Setup::follower().start();
    assert_eq!(ranges(&core.connect_at(1, &blocks[2])), [(peer(1), 1, 2)]);
}

#[test]
fn a_gap_that_closes_and_opens_again_has_a_moment_of_its_own() {
    let blocks = chain(5);
    let grace = timing().gossip_grace;
    let mut core = core_on(&blocks);
    let _ = core.connect_at(1, &blocks[2]);
    core.sleep(grace / 2);
    let _ = core.gossip(&blocks[1]);
    assert_eq!(core.soft(), Some(blocks[2].id()));
    let _ = core.gossip(&blocks[4]);
    assert_eq!(ranges(&core.almost_pass(grace)), []);
}

#[test]
fn ranges_are_spread_over_all_who_have_room() {
    let blocks = chain(300);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.requests_per_peer = 2).start();
    let effects = core.connect_at(1, &blocks[299]);
    assert_eq!(ranges(&effects), [(peer(1), 2, 64), (peer(1), 66, 64)]);
    let effects = core.connect_at(2, &blocks[299]);
    // The head itself is here.
    assert_eq!(ranges(&effects), [(peer(2), 130, 64), (peer(2), 194, 64)]);
    let effects = core.connect_at(3, &blocks[299]);
    assert_eq!(ranges(&effects), [(peer(3), 258, 42)]);
}

#[test]
fn no_height_is_asked_for_twice() {
    let blocks = chain(30);
    let mut core = core_on(&blocks);
    assert_eq!(ranges(&core.connect_at(1, &blocks[29])), [(peer(1), 2, 28)]);
    assert_eq!(ranges(&core.connect_at(2, &blocks[29])), []);
    assert_eq!(ranges(&core.pass(Duration::from_millis(1))), []);
}

#[test]
fn nobody_is_asked_for_more_than_it_has() {
    let blocks = chain(40);
    let mut core = core_on(&blocks);
    let _ = core.gossip(&blocks[39]);
    assert_eq!(ranges(&core.connect_at(1, &blocks[9])), [(peer(1), 2, 8)], "the head itself is here");
    // A peer that has proved nothing is asked for nothing.
    let mut core = core_on(&blocks);
    let _ = core.gossip(&blocks[39]);
    let probe = core.connect(1);
    assert_eq!(ranges(&core.answer(probe, &[], FetchOutcome::NotFound)), []);
    // Gossip is proof as well.
    let mut core = core_on(&blocks);
    let probe = core.connect(200);
    let _ = core.answer(probe, &[], FetchOutcome::NotFound);
    core.sleep(timing().backoff_min);
    let effects = core.gossip_effects(200, Ok(blocks[39].clone()));
    assert_eq!(ranges(&effects), [(peer(200), 2, 38)]);
}

/// Its head is here as a rule, which hides whether it was asked for.
#[test]
fn a_peer_is_asked_for_its_head_with_the_rest() {
    let blocks = chain(9);
    let mut core = Setup::follower().storing(&blocks[..2], 0).start();
    let _ = core.connect_at(1, &blocks[3]);
    // To take a block back is to forget what waited above it.
    let _ = core.reject(blocks[1].id());
    let effects = core.operator_may(Command::LiftVeto);
    assert_eq!(core.status().held_blocks, 0);
    assert_eq!(ranges(&effects), [(peer(1), 2, 3)]);
}

#[test]
fn a_short_answer_is_kept_and_the_rest_asked_of_others() {
    let blocks = chain(20);
    for outcome in
        [FetchOutcome::Complete, FetchOutcome::NotFound, FetchOutcome::Reset, FetchOutcome::Timeout, FetchOutcome::Cut]
    {
        let mut core = core_on(&blocks);
        let fetch = range_request(&core.connect_at(1, &blocks[19]));
        let _ = core.connect_at(2, &blocks[19]);
        let effects = core.answer(fetch.request, &blocks[1..6], outcome.clone());
        assert_eq!(core.soft(), Some(blocks[5].id()), "{outcome:?}");
        let again = range_request(&effects);
        assert_eq!(again.query, BlockQuery::Range { from: h(7), amount: 13 }, "{outcome:?}");
        if matches!(outcome, FetchOutcome::Complete | FetchOutcome::NotFound) {
            assert_eq!(again.peer, peer(2), "it said that it has no more");
        }
    }
}

#[test]
fn what_a_peer_lacks_it_may_have_later() {
    let blocks = chain(20);
    let mut core = core_on(&blocks);
    let fetch = range_request(&core.connect_at(1, &blocks[19]));
    let effects = core.answer(fetch.request, &blocks[1..6], FetchOutcome::Complete);
    assert_eq!(ranges(&effects), []);
    let _ = core.give(Input::GossipMissed { peer: peer(1) });
    let probe = heads_asked(&core.pass(timing().gossip_grace))[0].request;
    let effects = core.answer(probe, &blocks[19..], FetchOutcome::Complete);
    assert_eq!(ranges(&effects), [(peer(1), 7, 13)]);
}

#[test]
fn what_lies_below_what_a_peer_lacks_it_has() {
    let blocks = chain(140);
    let mut core = core_on(&blocks);
    let requests: Vec<_> = fetches(&core.connect_at(1, &blocks[139])).iter().map(|fetch| fetch.request).collect();
    // The third range comes, the second is cut short at block 76, the first one fails.
    let _ = core.answer(requests[2], &blocks[129..139], FetchOutcome::Complete);
    let _ = core.answer(requests[1], &blocks[65..75], FetchOutcome::Complete);
    let _ = core.answer(requests[0], &[], FetchOutcome::Reset);
    assert_eq!(ranges(&core.pass(timing().backoff_min)), [(peer(1), 2, 64)]);
}

// ----------------------------------------------------------------------------------------- whom to ask

/// Who is asked for blocks 2 to 8, of two peers whose last answers took so many milliseconds.
fn preferred(first: &[u64], second: &[u64]) -> PeerId {
    let blocks = chain(9);
    let mut core = core_on(&blocks);
    // Their heads are heard, and nothing is asked for yet.
    let _ = core.give(Input::StorageFull(true));
    for (name, latencies) in [(1, first), (2, second)] {
        let mut probe = core.connect(name);
        for (index, latency) in latencies.iter().enumerate() {
            if index > 0 {
                let _ = core.give(Input::GossipMissed { peer: peer(name) });
                probe = heads_asked(&core.pass(timing().gossip_grace))[0].request;
            }
            core.sleep(Duration::from_millis(*latency));
            let _ = core.answer(probe, &blocks[8..], FetchOutcome::Complete);
        }
    }
    let effects = core.give(Input::StorageFull(false));
    let [(peer, 2, 8)] = &ranges(&effects)[..] else { panic!("{effects:#?}") };
    peer.clone()
}

#[test]
fn whoever_answers_faster_is_asked() {
    assert_eq!(preferred(&[10], &[11]), peer(1));
    assert_eq!(preferred(&[11], &[10]), peer(2));
    // Who has never answered is taken to be of medium speed; here everybody has, and every answer counts a quarter.
    assert_eq!(preferred(&[400, 0], &[299]), peer(2));
    assert_eq!(preferred(&[400, 0], &[301]), peer(1));
}

#[test]
fn whoever_has_less_to_do_is_asked() {
    let blocks = chain(300);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.pending_blocks = 64).start();
    let mut asked = Vec::new();
    for name in [1, 2] {
        let probe = core.connect(name);
        core.sleep(Duration::from_millis(10));
        asked.extend(ranges(&core.answer(probe, &blocks[299..], FetchOutcome::Complete)));
    }
    assert_eq!(asked, [(peer(1), 2, 64)], "all that may wait");
    // Each block that is taken in makes room to ask for one more.
    for block in &blocks[1..8] {
        asked.extend(ranges(&core.gossip_effects(200, Ok(block.clone()))));
    }
    let of = |name| asked.iter().filter(|(who, ..)| *who == peer(name)).count();
    assert_eq!((of(1), of(2), asked[1].0.clone()), (4, 4, peer(2)));
}

// -------------------------------------------------------------------------------------------- branches

#[test]
fn a_peer_on_another_branch_is_left_alone_until_its_head_changes() {
    let blocks = chain(9);
    let others = branch(&[], "b", 20);
    let mut core = core_on(&blocks);
    let fetch = range_request(&core.connect_at(1, &others[9]));
    let effects = core.answer(fetch.request, &others[1..5], FetchOutcome::Complete);
    assert!(core.status().forked);
    assert_eq!(ranges(&effects), []);
    assert_eq!(ranges(&core.pass(timing().backoff_max)), [], "whatever it says, for as long as its head is that one");
    assert_eq!(core.status().held_blocks, 0, "what it gave belongs to that branch");
    let probe = heads_asked(&core.pass(timing().head_interval * 2));
    // Its first probe of this time has not been answered, so there is one.
    let request = probe.first().map(|fetch| fetch.request);
    if let Some(request) = request {
        assert_eq!(ranges(&core.answer(request, &others[9..10], FetchOutcome::Complete)), [], "the same head");
    }
}

#[test]
fn what_a_held_block_turned_out_to_be_counts_against_its_branch() {
    let blocks = chain(9);
    let others = branch(&[], "b", 9);
    let mut core = Setup::follower().start();
    // Its head is held, and then block by block it shows that it does not link to ours.
    let _ = core.connect_at(1, &others[2]);
    for block in &blocks[..2] {
        let _ = core.gossip(block);
    }
    assert!(core.status().forked);
    assert_eq!(core.status().held_blocks, 0);
    let effects = core.gossip_effects(200, Ok(blocks[8].clone()));
    assert_eq!(ranges(&effects), []);
}

/// Whoever serves a block follows its branch; whoever relays it may follow any.
#[test]
fn what_lost_to_another_block_counts_against_who_served_it_and_not_who_relayed_it() {
    let blocks = chain(2);
    let fork = branch(&branch(&[], "b", 1), "b", 1).remove(0);
    for served in [true, false] {
        let mut core = Setup::follower().start();
        let probe = core.connect(200);
        let _ = if served {
            core.answer(probe, std::slice::from_ref(&fork), FetchOutcome::Complete)
        } else {
            core.gossip_effects(200, Ok(fork.clone()))
        };
        for block in blocks.iter().rev() {
            let _ = core.gossip(block);
        }
        assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[1].id()), 0));
        // That there were two is settled; that the peer has the other one is not.
        let _ = core.da_has(&blocks);
        assert_eq!(core.status().forked, served);
    }
}

#[test]
fn one_block_that_does_not_link_is_enough_to_tell_another_branch() {
    let blocks = chain(9);
    let others = branch(&[], "b", 9);
    let mut core = core_on(&blocks);
    let fetch = range_request(&core.connect_at(1, &others[8]));
    let _ = core.answer(fetch.request, &others[1..2], FetchOutcome::Reset);
    assert_eq!(ranges(&core.pass(timing().backoff_max)), [], "its head is still that one");
}

#[test]
fn answers_come_in_any_order() {
    let blocks = chain(140);
    let mut core = core_on(&blocks);
    let effects = core.connect_at(1, &blocks[139]);
    assert_eq!(ranges(&effects), [(peer(1), 2, 64), (peer(1), 66, 64), (peer(1), 130, 10)]);
    let requests: Vec<_> = fetches(&effects).iter().map(|fetch| fetch.request).collect();
    let _ = core.answer(requests[1], &blocks[65..129], FetchOutcome::Complete);
    assert_eq!((core.status().held_blocks, core.status().forked), (65, false));
    let _ = core.answer(requests[0], &blocks[1..65], FetchOutcome::Complete);
    assert_eq!(core.soft(), Some(blocks[128].id()));
}

// -------------------------------------------------------------------------------------------- patience

/// Peer 1 was asked for everything up to block 19, and nobody else is there.
fn waiting() -> (Core, RequestId, Vec<AuthenticBlock>) {
    let blocks = chain(20);
    let mut core = core_on(&blocks);
    let fetch = range_request(&core.connect_at(1, &blocks[19]));
    assert_eq!(fetch.timeout, timing().request_timeout);
    (core, fetch.request, blocks)
}

/// The network gives up first, and hands over what has come by then.
#[test]
fn an_answer_is_given_up_by_the_core_only_after_the_network_had_its_say() {
    let (mut core, request, _) = waiting();
    let deadline = timing().request_timeout * 5 / 4;
    assert_eq!(cancelled(&core.almost_pass(deadline)), []);
    assert_eq!(core.next_wakeup(), Some(deadline));
    assert_eq!(cancelled(&core.pass(INSTANT)), [request]);
    // What comes now is late.
    assert_eq!(core.status().open_requests, 0);
}

#[test]
fn what_a_slow_peer_gave_until_the_timeout_is_kept() {
    let (mut core, request, blocks) = waiting();
    let effects = core.pass(timing().request_timeout);
    assert_eq!(cancelled(&effects), []);
    let effects = core.answer(request, &blocks[1..8], FetchOutcome::Timeout);
    assert_eq!(core.soft(), Some(blocks[7].id()));
    assert_eq!(ranges(&effects), [(peer(1), 9, 11)], "it was of use, and is asked on");
}

#[test]
fn whoever_fails_rests_longer_each_time() {
    let (mut core, mut request, _) = waiting();
    let mut rest = timing().backoff_min;
    for _ in 0..4 {
        let effects = core.answer(request, &[], FetchOutcome::Reset);
        assert_eq!(ranges(&effects), []);
        assert_eq!(core.next_wakeup(), Some(core.elapsed() + rest));
        assert_eq!(ranges(&core.almost_pass(rest)), []);
        request = range_request(&core.pass(INSTANT)).request;
        rest *= 2;
    }
    let effects = core.answer(request, &[], FetchOutcome::Reset);
    assert_eq!(ranges(&effects), []);
    assert_eq!(core.next_wakeup(), Some(core.elapsed() + rest));
}

#[test]
fn nobody_waits_for_a_rest_that_is_over() {
    let (mut core, request, _) = waiting();
    // It is on another branch, and so is not asked after its rest, either.
    let _ = core.answer(request, &branch(&[], "b", 2)[1..], FetchOutcome::Complete);
    assert_eq!(core.next_wakeup(), Some(timing().backoff_min));
    assert_eq!(ranges(&core.pass(timing().backoff_min)), []);
    assert!(core.next_wakeup() > Some(core.elapsed()), "it would be woken for ever");
}

#[test]
fn no_rest_is_longer_than_the_longest() {
    let mut setup = Setup::follower().storing(&chain(1), 0);
    setup.config.timing.backoff_max = timing().backoff_min * 3;
    let blocks = chain(9);
    let mut core = setup.start();
    let mut request = range_request(&core.connect_at(1, &blocks[8])).request;
    for factor in [1, 2, 3, 3] {
        let _ = core.answer(request, &[], FetchOutcome::Reset);
        let rest = timing().backoff_min * factor;
        assert_eq!(ranges(&core.almost_pass(rest)), []);
        request = range_request(&core.pass(INSTANT)).request;
    }
}

#[test]
fn whoever_answers_again_is_trusted_again() {
    let (mut core, request, blocks) = waiting();
    let _ = core.answer(request, &[], FetchOutcome::Reset);
    let request = range_request(&core.pass(timing().backoff_min)).request;
    let effects = core.answer(request, &blocks[1..3], FetchOutcome::Reset);
    let request = range_request(&effects).request;
    let _ = core.answer(request, &[], FetchOutcome::Reset);
    assert_eq!(core.next_wakeup(), Some(core.elapsed() + timing().backoff_min), "from the beginning");
}

#[test]
fn what_gossip_brought_meanwhile_is_no_answer() {
    let (mut core, request, blocks) = waiting();
    let _ = core.gossip(&blocks[1]);
    let effects = core.answer(request, &[], FetchOutcome::Reset);
    assert_eq!(ranges(&effects), []);
    assert_eq!(core.next_wakeup(), Some(timing().backoff_min), "it rests as after any failure");
}

/// There was no room on our side: no failure of theirs.
#[test]
fn a_full_network_is_not_asked_again_at_once() {
    let (mut core, mut request, _) = waiting();
    for _ in 0..3 {
        let effects = core.answer(request, &[], FetchOutcome::NotSent);
        assert_eq!(fetches(&effects), []);
        assert_eq!(core.next_wakeup(), Some(core.elapsed() + timing().backoff_min));
        let effects = core.pass(timing().backoff_min);
        request = range_request(&effects).request;
        for probe in heads_asked(&effects) {
            let _ = core.answer(probe.request, &[], FetchOutcome::NotSent);
        }
    }
}

#[test]
fn a_head_that_could_not_be_asked_for_is_asked_for_soon() {
    let mut core = Setup::follower().start();
    let probe = core.connect(1);
    assert_eq!(fetches(&core.answer(probe, &[], FetchOutcome::NotSent)), []);
    assert_eq!(heads_asked(&core.pass(timing().backoff_min)).len(), 1);
    // After a failure of theirs it is asked for when its time comes.
    let mut core = Setup::follower().start();
    let probe = core.connect(1);
    let _ = core.answer(probe, &[], FetchOutcome::Reset);
    assert_eq!(fetches(&core.pass(timing().backoff_min)), []);
}

#[test]
fn what_everything_waits_for_is_asked_of_a_second_peer() {
    let blocks = chain(20);
    let mut core = core_on(&blocks);
    let _ = core.connect_at(1, &blocks[19]);
    let _ = core.connect_at(2, &blocks[19]);
    let _ = core.connect_at(3, &blocks[19]);
    assert_eq!(core.next_wakeup(), Some(timing().hedge_after));
    assert_eq!(ranges(&core.almost_pass(timing().hedge_after)), []);
    let hedge = ranges(&core.pass(INSTANT));
    assert_eq!(hedge.len(), 1);
    assert_eq!((hedge[0].1, hedge[0].2), (2, 18));
    assert_ne!(hedge[0].0, peer(1));
    // Nobody knows whether these two serve.
    assert_eq!(core.next_wakeup(), Some(core.elapsed() + timing().hedge_after));
    assert_eq!(ranges(&core.almost_pass(timing().hedge_after)), []);
    let third = ranges(&core.pass(INSTANT));
    assert_eq!((third.len(), third[0].1, third[0].2), (1, 2, 18));
    assert!(third[0].0 != peer(1) && third[0].0 != hedge[0].0);
    assert_eq!(ranges(&core.pass(timing().hedge_after)), [], "all are asked");
}

#[test]
fn two_are_enough_when_one_of_them_serves() {
    let blocks = chain(20);
    let mut core = core_on(&blocks);
    let fetch = range_request(&core.connect_at(1, &blocks[9]));
    let _ = core.answer(fetch.request, &blocks[1..9], FetchOutcome::Complete);
    assert_eq!(ranges(&core.connect_at(2, &blocks[19])), [(peer(2), 11, 9)]);
    let _ = core.connect_at(3, &blocks[19]);
    let _ = core.gossip_effects(1, Ok(blocks[19].clone()));
    assert_eq!(ranges(&core.pass(timing().hedge_after)), [(peer(1), 11, 9)]);
    assert_eq!(ranges(&core.pass(timing().hedge_after)), []);
    assert_eq!(ranges(&core.pass(timing().hedge_after)), []);
}

#[test]
fn more_than_two_are_asked_within_the_budget_only() {
    let blocks = chain(20);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.pending_bytes = 1_024).start();
    for name in 1..=3 {
        let _ = core.connect_at(name, &blocks[19]);
    }
    assert_eq!(ranges(&core.pass(timing().hedge_after)).len(), 1);
    assert_eq!(ranges(&core.pass(timing().hedge_after)), []);
}

#[test]
fn only_the_rest_of_a_range_is_asked_of_a_second_peer() {
    let blocks = chain(20);
    let mut core = core_on(&blocks);
    let _ = core.connect_at(1, &blocks[19]);
    let _ = core.connect_at(2, &blocks[19]);
    for block in &blocks[1..5] {
        let _ = core.gossip(block);
    }
    assert_eq!(ranges(&core.pass(timing().hedge_after)), [(peer(2), 6, 14)]);
}

#[test]
fn who_is_alone_is_not_asked_twice() {
    let (mut core, _, _) = waiting();
    assert_eq!(ranges(&core.pass(timing().hedge_after)), []);
}

#[test]
fn what_was_asked_of_a_peer_that_left_is_asked_of_others() {
    let blocks = chain(20);
    let mut core = core_on(&blocks);
    let _ = core.connect_at(1, &blocks[19]);
    let _ = core.connect_at(2, &blocks[19]);
    let effects = core.give(Input::PeerDown { peer: peer(1) });
    assert_eq!(ranges(&effects), [(peer(2), 2, 18)]);
    assert_eq!(core.status().peers, 1);
    assert_eq!(core.status().open_requests, 1);
}

// -------------------------------------------------------------------------------------------- budgets

#[test]
fn what_is_asked_for_fits_into_the_budget() {
    let blocks = chain(600);
    let limits = |bytes: usize| {
        move |limits: &mut blocksyncd::sync::Limits| {
            limits.range_bytes = 8_192;
            limits.pending_bytes = bytes;
        }
    };
    // The head says what a block weighs. An answer may weigh a quarter more than that lets expect, and some more.
    let size = blocks[599].size();
    let amount = u64::try_from(8_192 / size).expect("small");
    let expected = 8_192 / size * size;
    let answer = expected + expected / 4 + 65_536;
    // The head itself waits, too.
    for (bytes, requests) in [(3 * answer + size, 3), (3 * answer + size - 1, 2), (1_024, 1)] {
        let mut core = Setup::follower().storing(&blocks[..1], 0).limits(limits(bytes)).start();
        let asked = ranges(&core.connect_at(1, &blocks[599]));
        assert_eq!(asked.len(), requests, "{bytes}");
        assert!(asked.iter().all(|(_, _, asked)| *asked == amount));
        // What is on its way takes its room until it is here.
        assert_eq!(ranges(&core.connect_at(2, &blocks[599])), [], "{bytes}");
    }
}

/// Beside the largest block there is room for nothing: what is kept free for it is made use of.
#[test]
fn where_there_is_room_for_one_answer_only_it_is_a_long_one() {
    let blocks = chain(600);
    let size = blocks[599].size();
    let limits = |limits: &mut blocksyncd::sync::Limits| {
        limits.range_bytes = size * 3;
        limits.pending_bytes = MAX_BLOCK_BYTES;
    };
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(limits).start();
    let fits = u64::try_from(MAX_BLOCK_BYTES * 4 / 5 / size).expect("few");
    assert!(fits > 6);
    let fetch = range_request(&core.connect_at(1, &blocks[599]));
    assert_eq!(fetch.query, BlockQuery::Range { from: h(2), amount: fits });
    assert!(fetch.max_bytes >= MAX_BLOCK_BYTES);
    // A second peer is asked for the same; where there is room for more, requests are as long as they should be.
    let _ = core.connect_at(2, &blocks[599]);
    assert_eq!(ranges(&core.pass(timing().hedge_after)), [(peer(2), 2, fits)]);
    let roomy = |limits: &mut blocksyncd::sync::Limits| limits.range_bytes = size * 3;
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(roomy).start();
    assert_eq!(ranges(&core.connect_at(1, &blocks[599]))[0], (peer(1), 2, 3));
}

#[test]
fn no_more_is_asked_of_all_together_than_there_is_room_for() {
    let blocks = chain(600);
    let few = |limits: &mut blocksyncd::sync::Limits| {
        limits.range_bytes = 8_192;
        limits.requests = 5;
    };
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(few).start();
    let asked = fetches(&core.connect_at(1, &blocks[599]));
    assert_eq!(asked.len(), 5);
    // Every answer that is awaited counts.
    assert_eq!(ranges(&core.connect_at(2, &blocks[599])), []);
    let BlockQuery::Range { from, amount } = asked[0].query else { panic!("a range") };
    let given: Vec<_> =
        blocks.iter().filter(|b| b.height() >= from).take(amount.try_into().unwrap()).cloned().collect();
    assert_eq!(ranges(&core.answer(asked[0].request, &given, FetchOutcome::Complete)).len(), 1);
}

/// A core that stores the first block, asks for one block at a time, and may be given blocks of a MiB.
fn core_for_large_blocks(blocks: &[AuthenticBlock], requests_per_peer: usize) -> Core {
    let mut setup = Setup::follower().storing(&blocks[..1], 0).limits(|limits| {
        limits.range_bytes = blocks[1].size();
        limits.requests_per_peer = requests_per_peer;
    });
    setup.config.rules.max_block_bytes = 1 << 20;
    setup.start()
}

#[test]
fn an_answer_may_weigh_a_quarter_more_than_expected_and_the_next_block_whatever_it_weighs() {
    let blocks = chain(9);
    let mut core = core_for_large_blocks(&blocks, 3);
    let asked = fetches(&core.connect_at(1, &blocks[8]));
    let room: Vec<_> = asked.iter().map(|fetch| fetch.max_bytes).collect();
    let size = blocks[8].size();
    let expected = size + size / 4 + 65_536;
    assert_eq!(room, [1 << 20, expected, expected]);
}

/// Its answer may be the largest block there can be; none of it may ever come.
#[test]
fn who_does_not_even_give_its_head_takes_no_room_from_ranges() {
    let blocks = chain(600);
    let asked = |silent: u8| {
        let mut setup = Setup::follower().storing(&blocks[..1], 0).limits(|limits| {
            limits.pending_bytes = 13 << 20;
            limits.requests = 64;
        });
        setup.config.rules.max_block_bytes = 1 << 20;
        let mut core = setup.start();
        for name in 1..=silent {
            let _ = core.connect(name);
        }
        ranges(&core.connect_at(200, &blocks[599]))
    };
    let alone = asked(0);
    assert!(alone.len() > 8, "{alone:?}");
    for silent in [1, 12, 13, 100] {
        assert_eq!(asked(silent), alone, "{silent}");
    }
}

#[test]
fn what_is_said_to_be_too_heavy_waits_until_it_is_next() {
    let blocks = chain(12);
    let mut core = core_for_large_blocks(&blocks, 1);
    let honest = range_request(&core.connect_at(1, &blocks[11]));
    let liar = range_request(&core.connect_at(2, &blocks[11]));
    assert_eq!(liar.query, BlockQuery::Range { from: h(3), amount: 1 });
    let liar = range_request(&core.answer(liar.request, &blocks[2..3], FetchOutcome::Complete));
    assert_eq!(liar.query, BlockQuery::Range { from: h(4), amount: 1 });
    // Not asked for again, and nobody rests for it.
    let instead = range_request(&core.answer(liar.request, &[], FetchOutcome::Cut));
    assert_eq!((&instead.peer, instead.query), (&liar.peer, BlockQuery::Range { from: h(5), amount: 1 }));
    let again = range_request(&core.answer(honest.request, &blocks[1..2], FetchOutcome::Complete));
    assert_eq!((&again.peer, again.query), (&honest.peer, BlockQuery::Range { from: h(4), amount: 1 }));
    assert_eq!(again.max_bytes, 1 << 20);
    // It was no heavier than others: whoever said so rests.
    core.answer(again.request, &blocks[3..4], FetchOutcome::Complete);
    assert_eq!(ranges(&core.answer(instead.request, &[], FetchOutcome::Cut)), []);
}

/// It could put off one height after the other, each of which would wait to be asked for alone.
#[test]
fn who_has_served_nothing_is_not_believed_that_a_block_is_too_heavy() {
    let blocks = chain(12);
    let mut core = core_for_large_blocks(&blocks, 1);
    let _ = core.connect_at(1, &blocks[11]);
    let liar = range_request(&core.connect_at(2, &blocks[11]));
    assert_eq!(ranges(&core.answer(liar.request, &[], FetchOutcome::Cut)), []);
    // Somebody else is asked for it.
    assert_eq!(ranges(&core.connect_at(3, &blocks[11])), [(peer(3), 3, 1)]);
}

#[test]
fn for_the_one_block_that_is_missing_two_peers_are_asked_at_once() {
    let blocks = chain(4);
    let mut core = Setup::follower().storing(&blocks[..2], 0).start();
    core.connect_at(1, &blocks[3]);
    core.connect_at(2, &blocks[3]);
    let mut asked = ranges(&core.pass(timing().gossip_grace));
    asked.sort_unstable();
    assert_eq!(asked, [(peer(1), 3, 1), (peer(2), 3, 1)]);
}

#[test]
fn nothing_is_asked_for_beyond_what_can_wait() {
    let blocks = chain(200);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.pending_blocks = 10).start();
    assert_eq!(ranges(&core.connect_at(1, &blocks[199])), [(peer(1), 2, 10)]);
}

#[test]
fn requests_follow_the_size_of_the_blocks() {
    let blocks = chain(200);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| {
        limits.range_bytes = 4_096;
        limits.requests_per_peer = 1;
    });
    core.config.limits.pending_bytes = 1 << 20;
    let mut core = core.start();
    let fetch = range_request(&core.connect_at(1, &blocks[199]));
    let amount = u64::try_from(4_096 / blocks[199].size()).expect("small");
    assert_eq!(fetch.query, BlockQuery::Range { from: h(2), amount });
    let effects = core.answer(fetch.request, &blocks[1..5], FetchOutcome::Reset);
    let size = (0..4).fold(blocks[199].size(), |size, _| (size * 7 + blocks[1].size()) / 8);
    assert_eq!(ranges(&effects), [(peer(1), 6, u64::try_from(4_096 / size).expect("small"))]);
}

#[test]
fn while_the_disk_does_not_keep_up_nothing_is_asked_for() {
    let blocks = chain(30);
    let size = blocks[1].size();
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.commit_bytes = size).start();
    core.hold_writes();
    let fetch = range_request(&core.connect_at(1, &blocks[29]));
    let effects = core.answer(fetch.request, &blocks[1..4], FetchOutcome::Reset);
    assert_eq!((core.soft(), ranges(&effects)), (Some(blocks[2].id()), vec![]));
    assert_eq!(ranges(&core.pass(Duration::from_millis(1))), []);
    let effects = core.write();
    assert_eq!(core.soft(), Some(blocks[3].id()));
    assert_eq!(ranges(&effects), [(peer(1), 5, 25)]);
}

#[test]
fn as_many_bytes_as_the_disk_may_lag_behind_are_not_too_many_to_ask_for_more() {
    let blocks = chain(30);
    let size = blocks[1].size();
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.commit_bytes = size).start();
    core.hold_writes();
    let _ = core.gossip(&blocks[1]);
    assert_eq!(ranges(&core.connect_at(1, &blocks[29])), [(peer(1), 3, 27)]);
}

/// Whoever is to blame for it, to ask the same peer for the same again at once would be a loop.
#[test]
fn what_is_of_no_use_is_not_asked_of_the_same_peer_again_at_once() {
    let blocks = chain(9);
    let mut core = core_on(&blocks);
    let early = Spec { time_unix_nanos: Some(ahead(&core, 1)), ..Spec::of("a") }.on(Some(&blocks[0]));
    let fetch = range_request(&core.connect_at(1, &blocks[8]));
    let effects = core.answer(fetch.request, std::slice::from_ref(&early), FetchOutcome::Reset);
    assert_eq!((core.soft(), fetches(&effects)), (Some(blocks[0].id()), vec![]));
    assert_eq!(ranges(&core.almost_pass(timing().backoff_min)), []);
    assert_eq!(ranges(&core.pass(INSTANT)).len(), 1);

    let mut core = Setup::follower().named().storing(&blocks[..1], 1).start();
    let _ = core.connect_at(1, &blocks[0]);
    let (_, effects) = core.report(0, 1, vec![seen_name(1, 0, 2, Name::Block(early.hash()))]);
    let request = fetches(&effects)[0].request;
    assert_eq!(fetches(&core.answer(request, std::slice::from_ref(&early), FetchOutcome::Complete)), []);
    assert_eq!(asked_by_hash(&core.almost_pass(timing().backoff_min)), []);
    assert_eq!(asked_by_hash(&core.pass(INSTANT)), [(peer(1), early.hash())]);
}
