//! What is forgotten at the lower end of the chain: how much of it, when, and for whom it waits.

use std::num::NonZeroU64;
use std::time::Duration;

use blocksyncd::block::BlockId;
use blocksyncd::sync::{
    Change, Command, Effect, FetchOutcome, GuardState, Halt, History, Input, Name, PublishAnswer, RejectAnswer, Timing,
    Verdict,
};
use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::blocks::{Spec, branch, chain, h, proposal};
use super::driver::{
    Core, Setup, appended, asked_by_hash, at, changes, commits, peer, published, range_request, ranges, seen_block,
    seen_digest, seen_name, verdict,
};

/// As in the source.
const STEP: usize = 256;
const IN_FLIGHT: usize = 4_096;

fn retaining(blocks: u64) -> History {
    History { retain_blocks: NonZeroU64::new(blocks), ..History::default() }
}

fn weighing_at_most(bytes: usize) -> History {
    History { max_bytes: NonZeroU64::new(bytes as u64), ..History::default() }
}

fn unconfirmed(history: History) -> History {
    History { prune_unconfirmed: true, ..history }
}

fn acked(mut setup: Setup, acks: &[(&str, &AuthenticBlock)]) -> Setup {
    setup.at.consumers = acks.iter().map(|(name, block)| ((*name).to_owned(), block.id())).collect();
    setup
}

/// Started, and given time to prune what it wants to.
fn settled(setup: Setup) -> Core {
    let mut core = setup.start();
    let _ = core.pass(Duration::ZERO);
    core
}

fn tail(core: &Core) -> u64 {
    core.heads().tail.get()
}

fn waits_for(core: &Core) -> Option<String> {
    core.status().pruning_waits_for
}

fn weight(blocks: &[AuthenticBlock]) -> usize {
    blocks.iter().map(AuthenticBlock::size).sum()
}

/// Below which heights these effects prune.
fn pruned(effects: &[Effect]) -> Vec<u64> {
    let below = |change: &Change| if let Change::Prune { below } = change { Some(below.get()) } else { None };
    changes(effects).iter().filter_map(below).collect()
}

fn acks(effects: &[Effect]) -> Vec<(String, BlockId)> {
    let ack = |change: &Change| match change {
        Change::Ack { consumer, up_to } => Some((consumer.clone(), *up_to)),
        _ => None,
    };
    changes(effects).iter().filter_map(ack).collect()
}

// ------------------------------------------------------------------------------------------- how much

#[test]
fn so_many_blocks_are_kept_up_to_hard() {
    let blocks = chain(7);
    for (retain, kept_from) in [(1, 5), (2, 4), (4, 2), (5, 1), (6, 1)] {
        let core = settled(Setup::follower().storing(&blocks, 5).history(retaining(retain)));
        assert_eq!(tail(&core), kept_from, "{retain}");
        let base = core.heads().base.map(|base| (base.id, base.time_unix_nanos));
        let below = kept_from.checked_sub(2).map(|index| &blocks[usize::try_from(index).expect("few")]);
        assert_eq!(base, below.map(|below| (below.id(), below.time_unix_nanos())), "{retain}");
        assert_eq!((core.soft(), core.hard()), (Some(blocks[6].id()), Some(blocks[4].id())));
    }
}

#[test]
fn nothing_is_forgotten_by_default() {
    let core = settled(Setup::follower().storing(&chain(7), 7));
    assert_eq!(tail(&core), 1);
}

#[test]
fn what_is_not_hard_stays_unless_the_operator_says_otherwise() {
    let blocks = chain(7);
    for (hard, history, kept_from) in [
        (0, retaining(2), 1),
        (0, unconfirmed(retaining(2)), 6),
        (5, retaining(2), 4),
        (5, unconfirmed(retaining(2)), 4),
    ] {
        let core = settled(Setup::follower().storing(&blocks, hard).history(history));
        assert_eq!(tail(&core), kept_from, "{hard} {history:?}");
    }
}

#[test]
fn each_confirmation_lets_one_more_go() {
    let blocks = chain(7);
    let mut core = settled(Setup::follower().storing(&blocks, 2).history(retaining(2)));
    assert_eq!(tail(&core), 1);
    assert_eq!(pruned(&core.da_has(&blocks[2..3])), [2]);
    assert_eq!(pruned(&core.da_has(&blocks[3..5])), [4]);
}

#[test]
fn a_store_that_weighs_no_more_than_it_may_keeps_everything() {
    let blocks = &chain(9)[1..];
    let all = weight(blocks);
    for (max, kept_from) in [(all + 1, 2), (all, 2), (all - 1, 3), (all - blocks[0].size(), 3)] {
        let setup = Setup::follower().storing(&chain(9), 9).pruned_below(&blocks[0]);
        let core = settled(setup.history(weighing_at_most(max)));
        assert_eq!(tail(&core), kept_from, "{max} of {all}");
    }
}

#[test]
fn as_much_goes_as_must_and_hardly_more() {
    let mut blocks: Vec<AuthenticBlock> = Vec::new();
    for index in 0..40_usize {
        let payload = Bytes::from(vec![7; [10, 300, 80][index % 3]]);
        blocks.push(Spec { payload, ..Spec::of("a") }.on(blocks.last()));
    }
    let all = weight(&blocks);
    let heaviest = blocks.iter().map(AuthenticBlock::size).max().expect("some");
    for max in (1..all).step_by(97) {
        let core = settled(Setup::follower().storing(&blocks, 30).history(weighing_at_most(max)));
        let kept = &blocks[usize::try_from(tail(&core)).expect("few") - 1..];
        let may_go = tail(&core) < 30;
        assert!(weight(kept) <= max || !may_go, "{max}: {} are kept", weight(kept));
        assert!(weight(kept) + heaviest + all / blocks.len() > max, "{max}: only {} are kept", weight(kept));
        assert_eq!(core.status().storage_full, weight(kept) > max, "{max}");
    }
}

#[test]
fn the_lower_of_both_limits_counts() {
    let blocks = chain(9);
    let max = weight(&blocks[4..]);
    let by_bytes = tail(&settled(Setup::follower().storing(&blocks, 9).history(weighing_at_most(max))));
    assert_eq!(by_bytes, 5);
    for (retain, kept_from) in [(3, 7), (7, by_bytes)] {
        let history = History { retain_blocks: NonZeroU64::new(retain), ..weighing_at_most(max) };
        assert_eq!(tail(&settled(Setup::follower().storing(&blocks, 9).history(history))), kept_from, "{retain}");
    }
}

// ------------------------------------------------------------------------------------------ who waits

#[test]
fn the_slowest_consumer_holds_it_back() {
    let blocks = chain(8);
    let setup = Setup::follower().storing(&blocks, 7).history(retaining(2));
    let mut core = settled(acked(setup, &[("fast", &blocks[5]), ("slow", &blocks[3])]));
    assert_eq!((tail(&core), waits_for(&core).as_deref()), (3, Some("slow")));
    let (_, effects) = core.ack("slow", blocks[6].id());
    assert_eq!((pruned(&effects), waits_for(&core).as_deref()), (vec![5], Some("fast")));
    let (_, effects) = core.ack("fast", blocks[7].id());
    assert_eq!((pruned(&effects), waits_for(&core)), (vec![6], None), "soft is not hard");
}

#[test]
fn what_a_consumer_has_acknowledged_last_stays() {
    let blocks = chain(8);
    for history in [retaining(1), weighing_at_most(1)] {
        let setup = acked(Setup::follower().storing(&blocks, 8).history(history), &[("a", &blocks[3])]);
        assert_eq!(tail(&settled(setup)), 4, "{history:?}");
    }
}

#[test]
fn a_consumer_is_named_only_when_something_would_go_without_it() {
    let blocks = chain(8);
    let all = weight(&blocks);
    let just_one_less = History { max_bytes: NonZeroU64::new(all as u64 - 1), ..History::default() };
    for (acks_at, history, named) in [
        (3, retaining(7), true),
        (3, retaining(8), false),
        (8, retaining(7), false),
        (1, just_one_less, true),
        (1, weighing_at_most(all), false),
        (8, weighing_at_most(1), false),
        (1, History::default(), false),
    ] {
        let setup = acked(Setup::follower().storing(&blocks, 8).history(history), &[("a", &blocks[acks_at - 1])]);
        assert_eq!(waits_for(&settled(setup)).is_some(), named, "{acks_at} {history:?}");
    }
}

/// What is about to go anyway waits for nobody.
#[test]
fn nobody_is_named_while_pruning_goes_on() {
    let blocks = chain(STEP + 10);
    let last = blocks.len();
    let setup = Setup::follower().storing(&blocks, last).history(retaining(1));
    let mut core = acked(setup, &[("a", &blocks[last - 2])]).start();
    core.hold_writes();
    let _ = core.pass(Duration::ZERO);
    assert_eq!((tail(&core), waits_for(&core)), (STEP as u64 + 1, None));
    let _ = core.write();
    assert_eq!((tail(&core), waits_for(&core).as_deref()), (last as u64 - 1, Some("a")));
}

#[test]
fn a_consumer_that_is_forgotten_holds_nothing_back() {
    let blocks = chain(8);
    let setup = Setup::follower().storing(&blocks, 8).history(retaining(2));
    let mut core = settled(acked(setup, &[("gone", &blocks[1]), ("here", &blocks[5])]));
    assert_eq!((tail(&core), waits_for(&core).as_deref()), (1, Some("gone")));
    let effects = core.operator_may(Command::ForgetConsumer("gone".to_owned()));
    let first = changes(&effects).remove(0);
    assert_eq!(first, Change::ForgetConsumer("gone".to_owned()));
    assert_eq!((pruned(&effects), waits_for(&core).as_deref()), (vec![5], Some("here")));
    // It may come back.
    assert!(core.ack("gone", blocks[5].id()).0);
}

#[test]
fn who_asks_to_forget_an_unknown_consumer_is_told_the_known_ones() {
    let blocks = chain(2);
    let mut core = acked(Setup::follower().storing(&blocks, 2), &[("a", &blocks[0]), ("b", &blocks[1])]).start();
    let forget = |name: &str| Command::ForgetConsumer(name.to_owned());
    assert!(core.operator_is_refused(forget("c")).ends_with("a, b"));
    let _ = core.operator_may(forget("a"));
    assert!(core.operator_is_refused(forget("a")).ends_with(": b"));
    let _ = core.operator_may(forget("b"));
    assert!(core.operator_is_refused(forget("a")).ends_with("none"));
}

#[test]
fn consumers_whose_block_is_taken_back_stand_at_the_new_top() {
    let blocks = chain(6);
    let setup = Setup::follower().storing(&blocks, 2);
    let mut core = acked(setup, &[("above", &blocks[4]), ("at", &blocks[3]), ("below", &blocks[2])]).start();
    let ticket = core.ticket();
    let effects = core.give(Input::HostRejected { ticket, block: blocks[3].id() });
    let top = blocks[2].id();
    assert_eq!(acks(&effects), [("above".to_owned(), top), ("at".to_owned(), top)]);
}

/// Then there is no new top, and they have processed nothing of what comes.
#[test]
fn consumers_hold_pruning_back_when_everything_is_taken_back() {
    let blocks = chain(2);
    let others = branch(&[], "b", 5);
    let setup = Setup::follower().storing(&blocks, 0).history(retaining(1));
    let mut core = acked(setup, &[("a", &blocks[1])]).start();
    let ticket = core.ticket();
    let effects = core.give(Input::HostRejected { ticket, block: blocks[0].id() });
    assert_eq!(acks(&effects), [("a".to_owned(), blocks[0].id())], "on disk, too");
    let _ = core.da_has(&others);
    assert_eq!((core.hard(), tail(&core)), (Some(others[4].id()), 1));
    assert_eq!(waits_for(&core).as_deref(), Some("a"));
    let _ = core.ack("a", others[3].id());
    assert_eq!(tail(&core), 4);
}

// ----------------------------------------------------------------------------------------- how quickly

#[test]
fn one_decision_forgets_a_step_and_the_next_one_goes_on() {
    let blocks = chain(2 * STEP + 10);
    let setup = Setup::follower().storing(&blocks, blocks.len()).history(retaining(1));
    let mut core = setup.start();
    core.hold_writes();
    let effects = core.pass(Duration::ZERO);
    assert_eq!(pruned(&effects), [STEP as u64 + 1]);
    // It is durable: the next step, and nothing else has to happen.
    assert_eq!(pruned(&core.write_one()), [2 * STEP as u64 + 1]);
    assert_eq!(pruned(&core.write_one()), [2 * STEP as u64 + 10]);
    assert!(pruned(&core.write_one()).is_empty());
}

#[test]
fn no_more_is_forgotten_than_the_disk_keeps_up_with() {
    let blocks = chain(IN_FLIGHT + 2 * STEP);
    let mut core = Setup::follower().storing(&blocks, blocks.len()).history(retaining(1)).start();
    core.hold_writes();
    for _ in 0..IN_FLIGHT / STEP + 3 {
        let _ = core.pass(Duration::ZERO);
    }
    assert_eq!(tail(&core), IN_FLIGHT as u64 + 1);
    assert_eq!(pruned(&core.write_one()), [(IN_FLIGHT + STEP) as u64 + 1], "as many as were removed");
}

#[test]
fn nothing_is_forgotten_while_draining() {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks, 5).history(retaining(1)).start();
    let _ = core.give(Input::Drain);
    let _ = core.pass(Duration::ZERO);
    assert_eq!(tail(&core), 1);
}

#[test]
fn a_full_disk_is_made_room_on() {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks, 5).history(retaining(1)).start();
    assert_eq!(pruned(&core.give(Input::StorageFull(true))), [5]);
    assert!(core.status().storage_full, "the disk says so");
}

// -------------------------------------------------------------------------------- when nothing may go

/// A signer that stores more than it may, of which DA has confirmed only the first block.
fn full_signer(blocks: &[AuthenticBlock]) -> Core {
    let last = blocks.last().map(AuthenticBlock::id);
    let setup = Setup::signer().storing(blocks, 1).guard(GuardState::after(last));
    settled(setup.history(weighing_at_most(weight(blocks) - 1)))
}

#[test]
fn while_it_weighs_too_much_and_nothing_may_go_nothing_is_taken_in() {
    let blocks = chain(9);
    let mut core = full_signer(&blocks[..6]);
    assert_eq!((tail(&core), core.status().storage_full), (1, true));
    assert_eq!(core.refusal(proposal(&blocks[6])), PublishAnswer::StorageFull);
    assert_eq!(core.publish_signed(&blocks[6]), PublishAnswer::StorageFull);
    assert_eq!(core.gossip(&blocks[6]), Verdict::Ignore);
    assert_eq!(ranges(&core.connect_at(1, &blocks[8])), []);
    assert_eq!(core.soft(), Some(blocks[5].id()));

    // DA is heard all the same, and what it confirms may go.
    let effects = core.da_has(&blocks[1..2]);
    assert_eq!((core.hard(), pruned(&effects)), (Some(blocks[1].id()), vec![2]));
    assert!(!core.status().storage_full);
    assert_eq!(published(&core.publish(proposal(&blocks[6]))), PublishAnswer::Accepted(blocks[6].id()));
}

/// What DA has next is what makes room.
#[test]
fn the_block_that_da_names_is_asked_for_however_much_is_stored() {
    let blocks = chain(6);
    let room = weighing_at_most(weight(&blocks) - 1);
    let setup = Setup::follower().named().storing(&blocks, 6).history(room);
    let mut core = settled(acked(setup, &[("a", &blocks[0])]));
    assert!(core.status().storage_full);
    core.connect_at(1, &blocks[5]);
    let winner = branch(&blocks, "b", 1).remove(0);
    let (_, effects) = core.report(0, 1, vec![seen_name(1, 0, 7, Name::Block(winner.hash()))]);
    assert_eq!(asked_by_hash(&effects), [(peer(1), winner.hash())]);
}

/// What the operator has to decide about stays.
#[test]
fn nothing_is_forgotten_while_halted() {
    let blocks = chain(6);
    let history = History { prune_unconfirmed: true, ..retaining(1) };
    let mut setup = Setup::follower().storing(&blocks, 0).history(history);
    let position = at(1, 0);
    setup.at.halted = Some(Halt::Contradicted { ours: blocks[0].id(), position });
    let mut core = setup.start();
    assert!(pruned(&core.pass(Duration::ZERO)).is_empty());
    core.operator_may(Command::AbandonBranch(blocks[0].id()));
    assert_eq!(core.soft(), None);
}

#[test]
fn what_waited_for_room_goes_on_by_itself() {
    let blocks = chain(9);
    let room = weighing_at_most(weight(&blocks[..6]) - 1);
    let mut core = settled(Setup::follower().storing(&blocks[..5], 1).history(room));
    let probe = core.connect(1);
    let effects = core.answer(probe, &blocks[8..], FetchOutcome::Complete);
    assert_eq!(ranges(&effects), [(peer(1), 6, 3)]);
    let request = range_request(&effects).request;
    let effects = core.answer(request, &blocks[5..8], FetchOutcome::Complete);
    assert_eq!(appended(&effects), [blocks[5].id()], "the one that fills it");
    assert!(core.status().storage_full);
    let effects = core.da_has(&blocks[1..2]);
    assert_eq!((pruned(&effects), ranges(&effects)), (vec![2], vec![(peer(1), 7, 2)]));
    let request = range_request(&effects).request;
    assert_eq!(appended(&core.answer(request, &blocks[6..8], FetchOutcome::Complete)), [blocks[6].id()]);
    let _ = core.da_has(&blocks[2..7]);
    let effects = core.pass(Timing::default().gossip_grace);
    let request = range_request(&effects).request;
    assert_eq!(
        appended(&core.answer(request, &blocks[7..8], FetchOutcome::Complete)),
        [blocks[7].id(), blocks[8].id()]
    );
    assert!(!core.status().storage_full);
}

#[test]
fn it_is_full_when_less_may_go_than_must() {
    let all = chain(9);
    let blocks = &all[1..];
    let (weight, size) = (weight(blocks), blocks[0].size());
    for (hard, max, full) in [
        (0, weight, false),
        (0, weight - 1, true),
        (2, weight - 1, true),
        (3, weight - 1, false),
        (3, weight - size, false),
        (3, weight - size - 1, true),
        (4, weight - size - 1, false),
    ] {
        let setup = Setup::follower().storing(&all, hard).pruned_below(&blocks[0]);
        let core = setup.history(weighing_at_most(max)).start();
        assert_eq!(core.status().storage_full, full, "{hard} {max}");
    }
}

/// What is about to leave the disk weighs nothing any more, though it is there still.
#[test]
fn no_more_goes_while_the_disk_has_not_removed_what_must() {
    let all = chain(9);
    let blocks = &all[1..];
    let setup = Setup::follower().storing(&all, 9).pruned_below(&blocks[0]);
    let mut core = setup.history(weighing_at_most(weight(&blocks[3..]))).start();
    core.hold_writes();
    assert_eq!(pruned(&core.pass(Duration::ZERO)), [5]);
    assert!(pruned(&core.pass(Duration::ZERO)).is_empty());
    assert!(pruned(&core.write()).is_empty());
}

/// What is taken back weighs nothing any more, though it is on the disk still.
#[test]
fn no_more_goes_while_the_disk_has_not_removed_what_is_taken_back() {
    let ours = chain(9);
    let da = branch(&ours[..5], "da", 2);
    let room = weighing_at_most(weight(&ours[..5]) + ours[0].size());
    let mut core = settled(Setup::follower().storing(&ours, 3).history(room));
    core.hold_writes();
    let seen = ours[3..5].iter().chain(&da).zip(2..).map(|(block, height)| seen_block(height, 0, block)).collect();
    let (_, effects) = core.report(0, 9, seen);
    let taken_back = changes(&effects).iter().any(|change| matches!(change, Change::Truncate { .. }));
    assert!(taken_back, "{effects:?}");
    assert!(pruned(&effects).is_empty(), "{effects:?}");
}

/// What may go is not enough: it is as full as if nothing might.
#[test]
fn nothing_more_is_taken_in_than_what_may_go_makes_room_for() {
    let blocks = chain(12);
    let size = blocks[1].size();
    // Hard lets two blocks go, in one decision in which seven wait.
    let room = weighing_at_most(weight(&blocks[..5]));
    let mut core = settled(Setup::follower().storing(&blocks[..4], 3).history(room));
    for block in &blocks[5..] {
        assert_eq!(core.gossip(block), Verdict::Accept);
    }
    let _ = core.gossip(&blocks[4]);
    let stored = usize::try_from(core.status().stored_bytes).expect("few");
    assert_eq!(tail(&core), 3);
    assert!(stored <= weight(&blocks[..5]) + size, "one block more than it may: {stored}");
}

// ------------------------------------------------------------------------------------ what goes with it

#[test]
fn what_da_had_for_forgotten_heights_is_forgotten_too() {
    let blocks = chain(6);
    let mut core = settled(Setup::follower().storing(&blocks[..2], 0).history(unconfirmed(retaining(2))));
    let _ = core.report(
        0,
        1,
        vec![seen_digest(1, 0, &blocks[1]), seen_digest(1, 1, &blocks[2]), seen_digest(1, 2, &blocks[3])],
    );
    assert_eq!(core.status().pending_sightings, 3);
    // The tail rises by two at once, from 1 to 3.
    assert_eq!(core.gossip(&blocks[3]), Verdict::Accept);
    core.hold_writes();
    let effects = core.gossip_effects(1, Ok(blocks[2].clone()));
    assert_eq!((pruned(&effects), core.status().pending_sightings), (vec![3], 2));
    assert!(changes(&effects).contains(&Change::DropSighting(at(1, 0))));
}

#[test]
fn what_is_below_the_tail_is_of_no_interest() {
    let blocks = chain(5);
    let mut core = settled(Setup::follower().storing(&blocks, 0).history(unconfirmed(retaining(2))));
    assert_eq!(tail(&core), 4);
    let other = branch(&blocks[..2], "b", 1).remove(0);
    for block in [&blocks[2], &other] {
        let effects = core.gossip_effects(1, Ok(block.clone()));
        assert_eq!((verdict(&effects), changes(&effects)), (Verdict::Ignore, vec![]));
    }
    let other = branch(&blocks[..3], "b", 1).remove(0);
    assert_eq!(core.gossip(&other), Verdict::Accept, "at the tail it is evidence");
}

#[test]
fn publishing_goes_on_on_top_and_never_below() {
    let blocks = chain(6);
    let setup = Setup::signer().storing(&blocks[..5], 5).guard(GuardState::after(Some(blocks[4].id())));
    let mut core = settled(setup.history(retaining(1)));
    assert_eq!(tail(&core), 5);
    assert!(matches!(core.refusal(proposal(&blocks[3])), PublishAnswer::Invalid(_)));
    assert_eq!(core.refusal(proposal(&blocks[4])), PublishAnswer::Duplicate(blocks[4].id()));
    assert_eq!(published(&core.publish(proposal(&blocks[5]))), PublishAnswer::Accepted(blocks[5].id()));
}

/// Of the pruned blocks, one is still known: the one that the tail linked to.
#[test]
fn what_stands_at_the_tail_must_link_to_what_was_below_it() {
    let blocks = chain(5);
    let (same, foreign) = (branch(&blocks[..3], "b", 1).remove(0), branch(&blocks[..2], "b", 2).remove(1));
    let setup = Setup::follower().storing(&blocks[..4], 0).history(unconfirmed(retaining(1)));
    let mut core = settled(setup);
    assert_eq!(core.reject(blocks[3].id()), RejectAnswer::Stopped);
    assert_eq!((tail(&core), core.soft()), (4, None));
    let base = core.heads().base.map(|base| base.id);
    assert_eq!(base, Some(blocks[2].id()));
    let _ = core.operator_may(Command::LiftVeto);
    assert_eq!(core.gossip(&foreign), Verdict::Ignore);
    assert_eq!(core.soft(), None);
    assert_eq!(core.gossip(&same), Verdict::Accept);
    assert_eq!((core.soft(), core.heads().base.map(|base| base.id)), (Some(same.id()), base));
}

#[test]
fn who_acknowledged_the_tail_that_is_taken_back_stands_below_it() {
    let blocks = chain(4);
    let setup = Setup::follower().storing(&blocks, 0).history(unconfirmed(retaining(1)));
    let mut core = settled(acked(setup, &[("a", &blocks[3])]));
    assert_eq!(tail(&core), 4);
    let ticket = core.ticket();
    let effects = core.give(Input::HostRejected { ticket, block: blocks[3].id() });
    assert_eq!(acks(&effects), [("a".to_owned(), blocks[2].id())]);
}

/// It never says anything about what is gone; at the tail, it must link to what was below it.
#[test]
fn da_that_comes_late_is_judged_from_the_tail_on() {
    let blocks = chain(5);
    let foreign = branch(&blocks[..2], "b", 2).remove(1);
    let setup = Setup::follower().storing(&blocks, 0).history(unconfirmed(retaining(2)));
    let mut core = settled(setup);
    assert_eq!(tail(&core), 4);
    let (_, effects) = core.report(
        0,
        1,
        vec![
            seen_block(1, 0, &branch(&blocks[..2], "b", 1)[0]),
            seen_block(1, 1, &foreign),
            seen_digest(1, 2, &blocks[3]),
        ],
    );
    assert_eq!((core.hard(), core.heads().epoch.0), (Some(blocks[3].id()), 0));
    let kept = changes(&effects).iter().filter(|change| matches!(change, Change::KeepSighting(_))).count();
    assert_eq!(kept, 2, "of what is gone nothing is kept");
    assert_eq!(commits(&effects).len(), 1);
    assert_eq!(tail(&core), 4, "from now on hard counts");
}

#[test]
fn da_may_have_another_block_at_the_tail() {
    let blocks = chain(5);
    let other = branch(&blocks[..3], "b", 1).remove(0);
    let setup = Setup::follower().storing(&blocks, 0).history(unconfirmed(retaining(2)));
    let mut core = settled(setup);
    let _ = core.da_has(std::slice::from_ref(&other));
    assert_eq!((tail(&core), core.hard(), core.soft()), (4, Some(other.id()), Some(other.id())));
    assert_eq!(core.heads().base.map(|base| base.id.height), Some(h(3)));
}

#[test]
fn the_status_says_how_much_is_stored() {
    let mut core = Setup::follower().start();
    core.hold_writes();
    let effects = core.gossip_effects(1, Ok(chain(1).remove(0)));
    let commit = commits(&effects)[0].id;
    let _ = core.give(Input::Durable { commit, stored_bytes: 12_345 });
    assert_eq!(core.status().stored_bytes, 12_345);
}
