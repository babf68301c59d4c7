//! What lies below the tail, fetched downwards: when, how much at a time, of whom, and what of it is believed.

use std::num::NonZeroU64;
use std::time::Duration;

use blocksyncd::block::BlockId;
use blocksyncd::sync::{
    Change, Disowned, DisownedBy, Effect, Fetch, FetchOutcome, Finding, Found, History, Input, Offence, RejectAnswer,
    RequestId,
};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain};
use super::driver::{
    Core, INSTANT, Setup, appended, at, cancelled, changes, peer, penalties, range_request, ranges, seen_block, timing,
};

const BACKFILL: History =
    History { retain_blocks: None, max_bytes: None, prune_unconfirmed: false, trusted: None, backfill: true };

/// All of `blocks` are known to exist; those from height `tail` on are stored.
fn setup(blocks: &[AuthenticBlock], tail: usize) -> Setup {
    Setup::follower().storing(blocks, 0).pruned_below(&blocks[tail - 1]).history(BACKFILL)
}

fn tail(core: &Core) -> u64 {
    core.heads().tail.get()
}

fn prepended(effects: &[Effect]) -> Vec<BlockId> {
    let prepend = |change: &Change| if let Change::Prepend { block, .. } = change { Some(block.id()) } else { None };
    changes(effects).iter().filter_map(prepend).collect()
}

/// What the peer that was asked has from there on, as much as was asked for.
fn honest(blocks: &[AuthenticBlock], asked: (u64, u64)) -> &[AuthenticBlock] {
    let from = usize::try_from(asked.0).expect("few") - 1;
    &blocks[from..from + usize::try_from(asked.1).expect("few")]
}

fn asked(effects: &[Effect]) -> (u64, u64) {
    let [(_, from, amount)] = ranges(effects)[..] else { panic!("one request: {effects:#?}") };
    (from, amount)
}

/// A core that has asked its only peer for the `amount` blocks below height `tail`, having been given some before.
fn asking(blocks: &[AuthenticBlock], tail: usize, amount: u64) -> (Core, Fetch) {
    let given = usize::try_from(amount).expect("few") - 1;
    let mut core = setup(blocks, tail + given).start();
    let mut effects = core.connect_at(1, blocks.last().expect("some"));
    while asked(&effects).1 < amount {
        effects = core.answer(range_request(&effects).request, honest(blocks, asked(&effects)), FetchOutcome::Complete);
    }
    assert_eq!(asked(&effects), (tail as u64 - amount, amount));
    (core, range_request(&effects))
}

/// Gives a sound answer, and says what is asked for next.
fn go_on(core: &mut Core, blocks: &[AuthenticBlock], request: RequestId, run: (u64, u64)) -> Vec<Effect> {
    core.answer(request, honest(blocks, run), FetchOutcome::Complete)
}

/// It was given up for a wrong name, say, before the store was made anew with a block on top of it.
#[test]
fn what_was_given_up_and_is_fetched_again_is_given_up_no_more() {
    let blocks = chain(9);
    let given_up = blocks[2].id();
    for by in [DisownedBy::Name, DisownedBy::Da, DisownedBy::Operator] {
        let mut setup = setup(&blocks, 4);
        setup.at.disowned = vec![Disowned { id: given_up, by }];
        let mut core = setup.start();
        let effects = core.connect_at(1, &blocks[8]);
        let effects = go_on(&mut core, &blocks, range_request(&effects).request, asked(&effects));
        assert_eq!(prepended(&effects)[0], given_up, "{by:?}");
        assert!(changes(&effects).contains(&Change::Own(given_up)), "{by:?}");
    }
}

// ------------------------------------------------------------------------------------------------- when

#[test]
fn nothing_below_is_asked_for_unless_the_operator_wants_it() {
    let blocks = chain(9);
    for (history, wanted) in [
        (BACKFILL, true),
        (History::default(), false),
        (History { retain_blocks: NonZeroU64::new(1_000), ..BACKFILL }, false),
        (History { max_bytes: NonZeroU64::new(1 << 40), ..BACKFILL }, false),
    ] {
        let mut core = setup(&blocks, 5).history(history).start();
        assert_eq!(!ranges(&core.connect_at(1, &blocks[8])).is_empty(), wanted, "{history:?}");
    }
}

#[test]
fn nothing_below_is_asked_for_while_something_is_missing_above() {
    let blocks = chain(14);
    let mut core = setup(&blocks[..9], 5).start();
    let effects = core.connect_at(1, &blocks[13]);
    assert_eq!(asked(&effects), (10, 4));
    let effects = core.answer(range_request(&effects).request, &blocks[9..13], FetchOutcome::Complete);
    assert_eq!((appended(&effects).len(), asked(&effects)), (5, (4, 1)));
    // Not even while it is left to gossip.
    let mut core = setup(&blocks[..9], 5).start();
    assert_eq!(ranges(&core.connect_at(1, &blocks[10])), []);
    assert_eq!(ranges(&core.gossip_effects(1, Ok(blocks[9].clone()))), [(peer(1), 4, 1)]);
}

/// A veto keeps it from being fetched, and it is missing all the same.
#[test]
fn nothing_below_is_asked_for_while_a_veto_keeps_what_is_above_away() {
    let blocks = chain(14);
    let mut core = setup(&blocks[..9], 5).start();
    assert_eq!(core.reject(blocks[8].id()), RejectAnswer::Stopped);
    assert_eq!(ranges(&core.connect_at(1, &blocks[13])), []);
    assert!(!core.status().history_unavailable);
}

#[test]
fn a_store_without_blocks_has_nothing_to_go_down_from() {
    let blocks = chain(9);
    let mut setup = Setup::follower().pruned_below(&blocks[4]).history(BACKFILL);
    setup.at.heads.soft = None;
    assert_eq!(ranges(&setup.start().connect_at(1, &blocks[3])), []);
}

#[test]
fn nothing_below_is_asked_for_while_draining_or_full() {
    let blocks = chain(9);
    for input in [Input::Drain, Input::StorageFull(true)] {
        let mut core = setup(&blocks, 5).start();
        let _ = core.give(input.clone());
        assert_eq!(ranges(&core.connect_at(1, &blocks[8])), [], "{input:?}");
    }
}

/// What DA had for the blocks below was not kept, and hard begins at the tail.
#[test]
fn nothing_goes_below_the_tail_while_da_has_been_read_and_nothing_is_hard() {
    let blocks = chain(9);
    let mut core = setup(&blocks, 5).start();
    let _ = core.report(0, 1, vec![]);
    assert_eq!(ranges(&core.connect_at(1, &blocks[8])), []);
    assert!(!core.status().history_unavailable);
    assert_eq!(asked(&core.da_has(&blocks[4..5])), (4, 1));
}

/// What was said to stand at one position was not there, and what comes after it is read again: the cursor is where it began, and
/// what DA had before that position is not told once more.
#[test]
fn nothing_goes_below_the_tail_while_the_beginning_of_da_stays_read() {
    let blocks = chain(9);
    let mut core = setup(&blocks, 5).start();
    let wrong = Finding { position: at(1, 1), height: blocks[5].height(), what: Found::Digest(blocks[7].hash()) };
    let _ = core.report(0, 1, vec![seen_block(1, 0, &blocks[1]), wrong]);
    let (taken, _) = core.report(1, 1, vec![seen_block(1, 1, &blocks[5])]);
    assert_eq!(taken.scanned_through, 0);
    assert_eq!(ranges(&core.connect_at(1, &blocks[8])), []);
}

#[test]
fn what_was_asked_for_before_da_was_read_is_not_stored_after_it() {
    let blocks = chain(9);
    let (mut core, fetch) = asking(&blocks, 5, 2);
    let _ = core.report(0, 1, vec![]);
    let effects = core.answer(fetch.request, &blocks[2..4], FetchOutcome::Complete);
    assert_eq!((prepended(&effects), ranges(&effects), tail(&core)), (vec![], vec![], 5));
    // Nobody did anything wrong, and it is asked for again.
    assert_eq!(
        core.syncer().peer_standings(blocksyncd::clock::Now { elapsed: core.elapsed(), unix_nanos: 0 })[&peer(1)]
            .failures,
        0
    );
    let effects = core.da_has(&blocks[4..5]);
    assert_eq!((core.hard(), asked(&effects).1), (Some(blocks[4].id()), 2));
}

#[test]
fn nothing_is_put_below_a_tail_that_was_taken_back() {
    let blocks = chain(9);
    let (mut core, fetch) = asking(&blocks, 5, 2);
    assert_eq!(core.reject(blocks[4].id()), RejectAnswer::Stopped);
    let effects = core.answer(fetch.request, &blocks[2..4], FetchOutcome::Complete);
    assert_eq!((prepended(&effects), tail(&core), core.soft()), (vec![], 5, None));
    assert_eq!(core.heads().next_height(), blocks[4].height());
}

// ---------------------------------------------------------------------------------------- how much

#[test]
fn it_goes_down_to_the_initial_height_twice_as_much_each_time() {
    let blocks = chain(201);
    let mut core = setup(&blocks, 200).start();
    let mut effects = core.connect_at(1, &blocks[200]);
    let mut runs = Vec::new();
    while !ranges(&effects).is_empty() {
        let run = asked(&effects);
        runs.push(run);
        effects = go_on(&mut core, &blocks, range_request(&effects).request, run);
        let expected: Vec<_> = honest(&blocks, run).iter().rev().map(AuthenticBlock::id).collect();
        assert_eq!((prepended(&effects), tail(&core)), (expected, run.0));
    }
    let ended_at = [(199, 1), (197, 2), (193, 4), (185, 8), (169, 16), (137, 32), (73, 64), (9, 64), (1, 8)];
    assert_eq!(runs, ended_at);
    assert_eq!((core.heads().base, core.heads().epoch.0), (None, 0));
    assert!(!core.status().history_unavailable);
    assert_eq!(ranges(&core.pass(timing().head_interval)), []);
}

#[test]
fn no_more_is_asked_for_than_a_range_may_weigh() {
    let blocks = chain(40);
    let size = blocks[30].size();
    let mut core = setup(&blocks, 40).limits(|limits| limits.range_bytes = 3 * size + 20).start();
    let mut effects = core.connect_at(1, &blocks[39]);
    let mut amounts = Vec::new();
    for _ in 0..4 {
        let run = asked(&effects);
        amounts.push(run.1);
        effects = go_on(&mut core, &blocks, range_request(&effects).request, run);
    }
    assert_eq!(amounts, [1, 2, 3, 3]);
}

#[test]
fn one_request_at_a_time() {
    let blocks = chain(40);
    let (mut core, fetch) = asking(&blocks, 30, 4);
    assert_eq!(ranges(&core.pass(timing().hedge_after)), []);
    assert_eq!(ranges(&core.connect_at(2, &blocks[39])), []);
    assert!(!ranges(&core.answer(fetch.request, &blocks[25..29], FetchOutcome::Complete)).is_empty());
}

#[test]
fn nothing_is_asked_for_that_the_disk_does_not_keep_up_with() {
    let blocks = chain(40);
    let mut core = setup(&blocks, 30).limits(|limits| limits.commit_bytes = 0).start();
    let effects = core.connect_at(1, &blocks[39]);
    core.hold_writes();
    let effects = go_on(&mut core, &blocks, range_request(&effects).request, (29, 1));
    assert_eq!((tail(&core), ranges(&effects)), (29, vec![]));
    assert_eq!(asked(&core.write()), (27, 2));
}

/// It ends below the tail, where nothing proves it.
#[test]
fn of_a_short_answer_nothing_is_stored_and_as_much_is_asked_for_again() {
    let blocks = chain(40);
    for (given, next) in [(7, 7), (3, 3), (1, 1)] {
        for outcome in [FetchOutcome::Complete, FetchOutcome::Cut, FetchOutcome::Reset, FetchOutcome::Timeout] {
            let (mut core, fetch) = asking(&blocks, 30, 8);
            let effects = core.answer(fetch.request, &blocks[21..21 + given], outcome.clone());
            assert_eq!(prepended(&effects), []);
            assert_eq!(asked(&effects), (30 - next, next), "{given} {outcome:?}");
            let effects = go_on(&mut core, &blocks, range_request(&effects).request, (30 - next, next));
            assert_eq!(asked(&effects).1, 2 * next);
        }
    }
}

#[test]
fn an_answer_that_was_too_heavy_to_begin_is_asked_for_one_by_one() {
    let blocks = chain(40);
    let (mut core, fetch) = asking(&blocks, 30, 8);
    let effects = core.answer(fetch.request, &[], FetchOutcome::Cut);
    assert_eq!(asked(&effects), (29, 1));
    // One alone may weigh whatever a block may: who says that it is too heavy is not asked again at once.
    let effects = core.answer(range_request(&effects).request, &[], FetchOutcome::Cut);
    assert_eq!(ranges(&effects), []);
    assert_eq!(asked(&core.pass(timing().backoff_min)), (29, 1));
}

// -------------------------------------------------------------------------------------------- of whom

fn failures(core: &Core, name: u8) -> u32 {
    let now = blocksyncd::clock::Now { elapsed: core.elapsed(), unix_nanos: core.unix_nanos() };
    core.syncer().peer_standings(now)[&peer(name)].failures
}

#[test]
fn who_has_it_not_is_not_blamed_and_another_one_is_asked() {
    let blocks = chain(40);
    let (mut core, fetch) = asking(&blocks, 30, 1);
    let _ = core.connect_at(2, &blocks[39]);
    let effects = core.answer(fetch.request, &[], FetchOutcome::NotFound);
    assert_eq!(ranges(&effects), [(peer(2), 29, 1)]);
    assert_eq!((penalties(&effects), failures(&core, 1)), (vec![], 0));
    assert!(!core.status().history_unavailable);
}

#[test]
fn who_has_not_all_of_it_may_have_the_upper_part() {
    let blocks = chain(40);
    let (mut core, fetch) = asking(&blocks, 30, 8);
    let effects = core.answer(fetch.request, &[], FetchOutcome::NotFound);
    assert!(!core.status().history_unavailable);
    let (from, amount) = asked(&effects);
    assert!(from > 22 && from + amount == 30, "{from} {amount}");
}

#[test]
fn history_is_unavailable_when_nobody_has_what_is_below() {
    let blocks = chain(40);
    let (mut core, fetch) = asking(&blocks, 30, 1);
    let effects = core.answer(fetch.request, &[], FetchOutcome::NotFound);
    assert_eq!((ranges(&effects), core.status().history_unavailable), (vec![], true));
    // Somebody else may have it.
    let effects = core.connect_at(2, &blocks[39]);
    assert_eq!((ranges(&effects), core.status().history_unavailable), (vec![(peer(2), 29, 1)], false));
    let effects = core.answer(range_request(&effects).request, &[], FetchOutcome::NotFound);
    assert_eq!((ranges(&effects), core.status().history_unavailable), (vec![], true));
    // Or may have it after a while.
    let effects = core.pass(timing().backoff_max);
    let effects = core.answer(range_request(&effects).request, &blocks[28..29], FetchOutcome::Complete);
    assert_eq!((prepended(&effects), core.status().history_unavailable), (vec![blocks[28].id()], false));
}

#[test]
fn who_does_not_answer_rests_and_another_one_is_asked() {
    let blocks = chain(40);
    for outcome in [
        FetchOutcome::Reset,
        FetchOutcome::Disconnected,
        FetchOutcome::Unsupported,
        FetchOutcome::Complete,
        FetchOutcome::Timeout,
    ] {
        let (mut core, fetch) = asking(&blocks, 30, 1);
        let _ = core.connect_at(2, &blocks[39]);
        let effects = core.answer(fetch.request, &[], outcome.clone());
        assert_eq!((ranges(&effects), failures(&core, 1)), (vec![(peer(2), 29, 1)], 1), "{outcome:?}");
    }
}

/// Those who answer with their heads soon, and with nothing else, have always rested again when the other one of them fails.
#[test]
fn two_who_never_answer_do_not_keep_a_slower_one_from_being_asked() {
    let blocks = chain(40);
    let mut setup = setup(&blocks, 30);
    setup.config.timing.backoff_max = setup.config.timing.backoff_min;
    let mut core = setup.start();
    let mut effects = core.connect_at(1, &blocks[39]);
    let _ = core.connect_at(2, &blocks[39]);
    let probe = core.connect(3);
    core.sleep(Duration::from_secs(1));
    let _ = core.answer(probe, &blocks[39..], FetchOutcome::Complete);
    let mut asked = Vec::new();
    for _ in 0..6 {
        let [(peer, ..)] = &ranges(&effects)[..] else { panic!("one is asked: {effects:#?}") };
        asked.push(peer.clone());
        let request = range_request(&effects).request;
        core.sleep(Duration::from_secs(1));
        effects = core.answer(request, &[], FetchOutcome::Timeout);
    }
    asked.sort();
    assert_eq!(asked, [1, 1, 2, 2, 3, 3].map(peer));
}

/// It answers in time, and slowly. The other one failed once, which is no reason to ask it never again.
#[test]
fn one_that_drips_does_not_keep_a_quicker_one_that_failed_from_being_asked() {
    let blocks = chain(200);
    let mut core = setup(&blocks, 190).start();
    let effects = core.connect_at(1, &blocks[199]);
    let _ = core.connect_at(2, &blocks[199]);
    let mut effects = core.answer(range_request(&effects).request, &[], FetchOutcome::Timeout);
    assert_eq!(ranges(&effects)[0].0, peer(2), "the first one failed");
    let mut asked_of = Vec::new();
    while tail(&core) > 100 {
        let fetch = range_request(&effects);
        core.sleep(if fetch.peer == peer(2) { Duration::from_secs(2) } else { INSTANT });
        let (from, amount) = asked(&effects);
        let given = if fetch.peer == peer(2) { amount.min(2) } else { amount };
        // What drips is the lowest of what was asked for, so that little of it reaches up to the tail.
        let (run, outcome) = ((from, given), if given < amount { FetchOutcome::Cut } else { FetchOutcome::Complete });
        asked_of.push(fetch.peer);
        effects = core.answer(fetch.request, honest(&blocks, run), outcome);
    }
    let tried = asked_of.iter().position(|asked| *asked == peer(1)).expect("the quicker one is tried again");
    assert!(asked_of[tried..].iter().all(|asked| *asked == peer(1)), "and it stays with it: {asked_of:?}");
}

#[test]
fn what_takes_too_long_is_asked_of_another_one() {
    let blocks = chain(40);
    let (mut core, fetch) = asking(&blocks, 30, 1);
    let _ = core.connect_at(2, &blocks[39]);
    let deadline = fetch.timeout + fetch.timeout / 4;
    assert_eq!(ranges(&core.almost_pass(deadline)), []);
    let effects = core.pass(INSTANT);
    assert!(cancelled(&effects).contains(&fetch.request));
    assert_eq!(ranges(&effects), [(peer(2), 29, 1)]);
}

#[test]
fn who_leaves_takes_the_request_with_it() {
    let blocks = chain(40);
    let (mut core, _) = asking(&blocks, 30, 1);
    let effects = core.give(Input::PeerDown { peer: peer(1) });
    assert_eq!(ranges(&effects), []);
    assert_eq!(ranges(&core.connect_at(2, &blocks[39])), [(peer(2), 29, 1)]);
}

#[test]
fn what_could_not_be_sent_is_sent_a_little_later() {
    let blocks = chain(40);
    let (mut core, fetch) = asking(&blocks, 30, 1);
    let effects = core.answer(fetch.request, &[], FetchOutcome::NotSent);
    assert_eq!((ranges(&effects), failures(&core, 1)), (vec![], 0));
    assert_eq!(ranges(&core.almost_pass(timing().backoff_min)), []);
    assert_eq!(ranges(&core.pass(INSTANT)), [(peer(1), 29, 1)]);
}

// -------------------------------------------------------------------------------------- what is believed

#[test]
fn an_answer_that_is_no_run_from_there_on_is_held_against_who_gave_it() {
    let blocks = chain(40);
    let mut broken = blocks[25..28].to_vec();
    broken.push(branch(&blocks[..27], "b", 2).remove(1));
    for answer in [&blocks[24..28], &blocks[26..30], &blocks[25..30], &broken[..]] {
        let (mut core, fetch) = asking(&blocks, 30, 4);
        let effects = core.answer(fetch.request, answer, FetchOutcome::Complete);
        assert_eq!(penalties(&effects), [(peer(1), Offence::BadRange, Some(timing().ban_min))]);
        assert_eq!((prepended(&effects), tail(&core)), (vec![], 30));
    }
    let (mut core, fetch) = asking(&blocks, 30, 4);
    let effects = core.answer(fetch.request, &[], FetchOutcome::Invalid(None));
    assert_eq!(penalties(&effects), [(peer(1), Offence::BadRange, Some(timing().ban_min))]);
}

/// The sequencer signed it, so nobody is to blame; but the tail does not stand on it.
#[test]
fn a_run_of_another_branch_is_not_stored_and_its_giver_not_asked_again() {
    let blocks = chain(40);
    let others = branch(&blocks[..26], "b", 3);
    let mut run = blocks[25..26].to_vec();
    run.extend(others);
    let (mut core, fetch) = asking(&blocks, 30, 4);
    let _ = core.connect_at(2, &blocks[39]);
    let effects = core.answer(fetch.request, &run, FetchOutcome::Complete);
    assert_eq!((prepended(&effects), penalties(&effects), tail(&core)), (vec![], vec![], 30));
    assert!(core.status().forked);
    assert_eq!(ranges(&effects), [(peer(2), 26, 4)]);
    assert_eq!(ranges(&core.pass(Duration::from_secs(5))), []);
}

/// Two branches part above the tail: what is below it is the same on both.
#[test]
fn who_has_left_our_branch_above_the_tail_is_asked_for_what_is_below() {
    let blocks = chain(9);
    let other = branch(&blocks[..6], "b", 6);
    let mut core = setup(&blocks, 5).start();
    let effects = core.connect_at(1, &other[5]);
    assert_eq!(asked(&effects), (10, 2));
    assert_eq!(ranges(&core.answer(range_request(&effects).request, &other[3..5], FetchOutcome::Complete)), []);
    let effects = core.pass(timing().backoff_max);
    assert!(core.status().forked);
    assert_eq!(ranges(&effects), [(peer(1), 4, 1)]);
    let effects = core.answer(range_request(&effects).request, &blocks[3..4], FetchOutcome::Complete);
    assert_eq!((prepended(&effects), asked(&effects)), (vec![blocks[3].id()], (2, 2)));
    // It has another block there as well.
    let lower = branch(&blocks[..1], "c", 2);
    let effects = core.answer(range_request(&effects).request, &lower, FetchOutcome::Complete);
    assert_eq!((prepended(&effects), ranges(&effects)), (vec![], vec![]));
    assert_eq!(ranges(&core.pass(Duration::from_mins(1))), []);
    assert!(!core.status().history_unavailable, "nobody has said that it is gone");
    // Somebody else, on a third branch, may have what we stand on.
    let effects = core.connect_at(2, &branch(&blocks[..7], "d", 2)[1]);
    assert_eq!(ranges(&effects), [(peer(2), 2, 2)]);
}
