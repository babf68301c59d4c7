//! When DA is read again, and why hard stands still: schedules that were behind, blocks that this node cannot take, reports that
//! were wrong.

use blocksyncd::block::PublicKey;
use blocksyncd::sync::{
    Basis, Change, Command, Content, DaNotes, Finding, Found, Halt, HardWait, Input, Name, PassedOver, PassedOverRest,
    ProvedBlock, Seen, Sighting,
};
use blocksyncd::verify::{AuthenticBlock, ScheduleEntry};

use super::blocks::{Spec, branch, chain, h, public_key};
use super::driver::{
    Core, Setup, ahead, at, changes, commits, digest, junk, junk_of, kept_block, open, peer, ranges, seen_block,
    seen_digest, seen_name,
};

// ---- Schedules that are behind --------------------------------------------------------------------------------------

fn rotation(from: u64) -> Command {
    Command::ExtendSchedule(ScheduleEntry { from: h(from), proposer: public_key(2) })
}

/// Three blocks of the first proposer, of which one is stored, and three of the second on top of them.
fn rotated() -> Vec<AuthenticBlock> {
    let mut blocks = chain(3);
    for _ in 0..3 {
        blocks.push(Spec { proposer: 2, ..Spec::of("a") }.on(blocks.last()));
    }
    blocks
}

/// What the pool makes of a block whose proposer the schedule does not name.
fn foreign(height: u64, index: u32, block: &AuthenticBlock, proposer: PublicKey) -> Finding {
    let content = Content::Unscheduled { height: block.height(), proposer };
    Finding { what: Found::Bytes { digest: digest(block), content }, ..seen_block(height, index, block) }
}

fn by_second(height: u64, index: u32, block: &AuthenticBlock) -> Finding {
    foreign(height, index, block, public_key(2))
}

fn notes(changes: &[Change]) -> Option<DaNotes> {
    changes.iter().rev().find_map(|change| if let Change::DaNotes(notes) = change { Some(notes.clone()) } else { None })
}

#[test]
fn what_da_had_of_a_proposer_that_comes_into_the_schedule_later_is_read_again() {
    let blocks = rotated();
    let mut core = Setup::follower().storing(&blocks[..3], 3).start();
    let (answer, effects) = core.report(0, 5, vec![by_second(3, 1, &blocks[3]), by_second(4, 0, &blocks[4])]);
    assert_eq!((answer.scanned_through, answer.passed_over, answer.junk), (5, 2, 0));
    let passed = |height, position| PassedOver { height: h(height), proposer: public_key(2), position };
    let passed_over = vec![passed(4, at(3, 1)), passed(5, at(4, 0))];
    assert_eq!(notes(&changes(&effects)), Some(DaNotes { passed_over: passed_over.clone(), ..DaNotes::default() }));
    assert_eq!((core.status().passed_over, core.status().lowest_passed_over), (2, Some(passed_over[0])));
    assert_eq!(core.status().checkpoint.map(|checkpoint| checkpoint.da), Some(2), "it is not above the first of them");
    let effects = core.operator_may(rotation(4));
    assert_eq!(core.heads().scanned_through, 2);
    assert_eq!(notes(&changes(&effects)), Some(DaNotes::default()));
    // What lies before it at that DA height was passed, and stays so.
    let other = branch(&blocks[..3], "b", 1).remove(0);
    let _ =
        core.report(2, 5, vec![seen_block(3, 0, &other), seen_block(3, 1, &blocks[3]), seen_block(4, 0, &blocks[4])]);
    assert_eq!((core.hard(), core.heads().scanned_through), (Some(blocks[4].id()), 5));
}

/// By its digest nobody knows whose it is, until the bytes come.
#[test]
fn an_open_position_may_turn_out_to_be_passed_over() {
    let blocks = rotated();
    let mut core = Setup::follower().storing(&blocks[..3], 3).start();
    let (answer, _) = core.report(0, 5, vec![seen_digest(3, 0, &blocks[3])]);
    assert_eq!(answer.wanted, [open(3, 0, &blocks[3])]);
    let (answer, _) = core.report(5, 5, vec![by_second(3, 0, &blocks[3])]);
    assert_eq!((answer.wanted, answer.passed_over, core.status().pending_sightings), (vec![], 1, 0));
    let _ = core.operator_may(rotation(4));
    assert_eq!(core.heads().scanned_through, 2);
}

#[test]
fn what_was_passed_over_stops_nothing_and_is_forgotten_once_hard_is_above_it() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let (_, effects) = core.report(0, 2, vec![by_second(1, 0, &blocks[1]), seen_block(2, 0, &blocks[1])]);
    assert_eq!((core.hard(), notes(&changes(&effects))), (Some(blocks[1].id()), None));
    // At or below hard nothing is passed over.
    let _ = core.report(2, 3, vec![by_second(3, 0, &blocks[0])]);
    assert_eq!((core.status().lowest_passed_over, core.status().passed_over), (None, 1));
}

#[test]
fn an_entry_for_others_reads_nothing_again() {
    let blocks = rotated();
    let mut core = Setup::follower().storing(&blocks[..3], 3).start();
    let _ = core.report(0, 5, vec![by_second(3, 1, &blocks[3]), foreign(2, 0, &blocks[4], public_key(3))]);
    let _ = core.operator_may(rotation(5));
    assert_eq!(core.heads().scanned_through, 5, "its block is of height 4");
}

/// A wrong entry takes nothing away for ever.
#[test]
fn what_a_wrong_entry_dropped_is_read_again_when_it_is_withdrawn() {
    let blocks = chain(6);
    let mut core = Setup::follower().storing(&blocks[..3], 3).start();
    let _ = core.report(0, 5, vec![seen_block(4, 2, &blocks[4])]);
    let _ = core.operator_may(rotation(5));
    assert_eq!((core.status().pending_sightings, core.heads().scanned_through), (0, 5));
    let _ = core.operator_may(Command::WithdrawSchedule(h(5)));
    assert_eq!(core.heads().scanned_through, 3);
}

/// Whoever pretends to be many proposers cannot fill the memory, and makes nothing be lost.
#[test]
fn of_many_that_were_passed_over_the_highest_are_merged() {
    let blocks = rotated();
    let setup = Setup::follower().storing(&blocks[..3], 3);
    let mut core = setup.clone().start();
    let crowd = |from: u32| {
        (from..from + 64).map(|index| {
            let key = PublicKey([u8::try_from(index % 200).expect("small"); 32]);
            foreign(9, index, &blocks[3], key)
        })
    };
    let mut findings = vec![by_second(3, 0, &blocks[5])];
    findings.extend(crowd(0));
    let (_, effects) = core.report(0, 10, findings);
    let noted = notes(&changes(&effects)).expect("it is noted");
    assert_eq!(noted.passed_over.len(), 64);
    let rest = noted.passed_over_above.expect("the highest were merged");
    assert_eq!((rest.from, rest.through, rest.position), (h(6), h(6), at(3, 0)));
    // Any change may be about one of those.
    let _ = core.operator_may(rotation(5));
    assert_eq!(core.heads().scanned_through, 2);
    // So it is after a restart, if the schedule has grown in between.
    for (under, through) in [(blocks[0].hash(), 2), (setup.config.rules.schedule.hash(), 10)] {
        let mut setup = setup.clone();
        setup.at.heads.scanned_through = 10;
        setup.at.da_notes.passed_over_above = Some(PassedOverRest { under, ..rest });
        let mut core = setup.start();
        let _ = core.give(Input::Wakeup);
        assert_eq!(core.heads().scanned_through, through);
    }
}

#[test]
fn what_was_passed_over_is_remembered_over_a_restart() {
    let blocks = rotated();
    let mut setup = Setup::follower().storing(&blocks[..3], 3);
    setup.at.heads.scanned_through = 9;
    setup.at.da_notes.passed_over = vec![PassedOver { height: h(4), proposer: public_key(2), position: at(6, 1) }];
    let mut core = setup.clone().start();
    assert_eq!(commits(&core.give(Input::Wakeup)), []);
    setup.at.schedule = vec![ScheduleEntry { from: h(4), proposer: public_key(2) }];
    let mut core = setup.start();
    let _ = core.give(Input::Wakeup);
    assert_eq!(core.heads().scanned_through, 5);
}

// ---- What this node cannot take --------------------------------------------------------------------------------------

fn large_on(parent: &AuthenticBlock) -> AuthenticBlock {
    Spec { payload: vec![7; 3_000].into(), ..Spec::of("") }.on(Some(parent))
}

fn small_node(blocks: &[AuthenticBlock], hard: usize) -> Setup {
    Setup::follower().storing(blocks, hard).limits(|limits| limits.max_block_bytes = 2_000)
}

#[test]
fn hard_stands_still_for_a_block_that_is_too_large_here() {
    let blocks = chain(2);
    let large = large_on(&blocks[0]);
    let mut core = small_node(&blocks, 1).start();
    let (answer, effects) = core.report(0, 2, vec![seen_block(1, 0, &large), seen_block(2, 0, &blocks[1])]);
    assert_eq!((answer.scanned_through, answer.wanted, answer.junk), (2, vec![], 0));
    let waits = HardWait::TooLarge { position: at(1, 0), id: large.id(), bytes: large.size() as u64 };
    assert_eq!((core.hard(), core.status().hard_waits), (Some(blocks[0].id()), Some(waits)));
    assert_eq!(core.soft(), Some(blocks[1].id()), "nothing is taken back for it");
    // All but its header is left out. Given more room, the node asks for its bytes.
    let kept = changes(&effects).into_iter().find_map(|change| match change {
        Change::KeepSighting(sighting @ Sighting { what: Seen::Oversized(_), .. }) => Some(sighting),
        _ => None,
    });
    let mut setup = Setup::follower().storing(&blocks, 1);
    setup.at.heads.scanned_through = 2;
    setup.at.sightings = vec![kept.expect("it is kept"), kept_block(2, 0, &blocks[1])];
    let mut core = setup.start();
    let (answer, _) = core.report(2, 2, vec![]);
    assert_eq!(answer.wanted, [open(1, 0, &large)]);
    let (answer, _) = core.report(2, 2, vec![seen_block(1, 0, &large)]);
    assert_eq!((answer.wanted, core.hard()), (vec![], Some(large.id())));
}

#[test]
fn a_large_block_that_loses_stops_nothing() {
    let blocks = chain(2);
    let lost = branch(&[], "b", 1);
    let backwards = Spec { payload: vec![7; 3_000].into(), time_unix_nanos: Some(0), ..Spec::of("") };
    for large in [large_on(&lost[0]), backwards.on(Some(&blocks[0]))] {
        let mut core = small_node(&blocks, 1).start();
        let _ = core.report(0, 2, vec![seen_block(1, 0, &large), seen_block(2, 0, &blocks[1])]);
        assert_eq!((core.hard(), core.status().hard_waits), (Some(blocks[1].id()), None));
    }
}

/// It was stored while this node had more room.
#[test]
fn a_large_block_that_is_stored_is_confirmed() {
    let mut blocks = chain(1);
    blocks.push(large_on(&blocks[0]));
    for seen in [seen_block(1, 0, &blocks[1]), seen_digest(1, 0, &blocks[1])] {
        let mut core = small_node(&blocks, 1).start();
        let _ = core.report(0, 1, vec![seen]);
        assert_eq!(core.hard(), Some(blocks[1].id()));
    }
}

#[test]
fn what_is_too_large_here_is_not_stored_from_anywhere() {
    let blocks = chain(1);
    let large = large_on(&blocks[0]);
    let mut core = small_node(&blocks, 0).start();
    let _ = core.gossip(&large);
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[0].id()), 0));
}

#[test]
fn hard_stands_still_for_a_block_ahead_of_our_clock_and_says_so() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let early = Spec { time_unix_nanos: Some(ahead(&core, 1)), ..Spec::of("b") }.on(Some(&blocks[0]));
    let _ = core.report(0, 2, vec![seen_block(1, 0, &early), seen_block(2, 0, &blocks[1])]);
    let waits = HardWait::FromTheFuture { position: at(1, 0), id: early.id() };
    assert_eq!((core.hard(), core.status().hard_waits), (Some(blocks[0].id()), Some(waits)));
    let wakeup = core.next_wakeup().expect("it looks again");
    let _ = core.pass(wakeup.saturating_sub(core.elapsed()));
    assert_eq!((core.hard(), core.status().hard_waits), (Some(early.id()), None));
}

/// Else all of it would be fetched once more for each block that becomes believable.
#[test]
fn while_the_next_block_is_ahead_of_our_clock_nothing_above_it_is_fetched() {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks[..1], 1).start();
    let early = Spec { time_unix_nanos: Some(ahead(&core, 1)), ..Spec::of("b") }.on(Some(&blocks[0]));
    let _ = core.report(0, 2, vec![seen_block(1, 0, &early)]);
    assert_eq!(ranges(&core.connect_at(1, &blocks[4])), [], "it is above the early one");
    let wakeup = core.next_wakeup().expect("it looks again");
    let effects = core.pass(wakeup.saturating_sub(core.elapsed()));
    assert_eq!((core.hard(), ranges(&effects)), (Some(early.id()), vec![(peer(1), 3, 2)]));
}

// ---- Reports that were wrong -----------------------------------------------------------------------------------------

/// A host that named something wrongly, with what DA has of the next height behind it.
fn misled() -> (Core, Vec<AuthenticBlock>) {
    let blocks = chain(3);
    let mut core = Setup::follower().named().storing(&blocks, 1).start();
    let wrong = seen_name(4, 0, 2, Name::Block(blocks[0].hash()));
    let _ = core.report(0, 6, vec![wrong, seen_name(5, 0, 3, Name::Block(blocks[2].hash()))]);
    assert!(matches!(core.status().halted, Some(Halt::Contradicted { .. })));
    (core, blocks)
}

#[test]
fn a_wrong_name_has_a_remedy() {
    let (mut core, blocks) = misled();
    let before = core.heads();
    let effects = core.operator_may(Command::RescanDa(4));
    let said = changes(&effects);
    assert_eq!(said, [Change::DropSighting(at(4, 0)), Change::DropSighting(at(5, 0)), Change::Halt(None)]);
    assert_eq!(core.heads().scanned_through, 3);
    assert_eq!((core.soft(), core.hard()), (before.soft_id(), before.hard), "nothing is taken back");
    let right = [1, 2].map(|index: u32| {
        let block = &blocks[index as usize];
        seen_name(3 + u64::from(index), 0, block.height().get(), Name::Block(block.hash()))
    });
    let effects = core.report(3, 6, right.to_vec()).1;
    assert_eq!((core.hard(), core.status().halted), (Some(blocks[2].id()), None));
    let confirm = Change::Confirm { height: h(2), position: at(4, 0), basis: Basis::Named };
    assert!(changes(&effects).contains(&confirm));
}

#[test]
fn a_rescan_drops_what_lies_behind_it_and_nothing_before() {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks[..1], 1).start();
    let all = [seen_block(2, 9, &blocks[2]), seen_digest(3, 0, &blocks[3]), seen_block(7, 0, &blocks[4])];
    let _ = core.report(0, 6, all.to_vec());
    let effects = core.operator_may(Command::RescanDa(3));
    // What was signed stays signed.
    let proved = Change::KeepProved(ProvedBlock::with(blocks[4].hash(), blocks[4].block().header()));
    assert_eq!(changes(&effects), [Change::DropSighting(at(3, 0)), Change::DropSighting(at(7, 0)), proved]);
    assert_eq!((core.heads().scanned_through, core.status().pending_sightings), (2, 1));
    // Everything from there on is news.
    let _ = core.report(2, 6, vec![seen_block(3, 0, &blocks[1])]);
    assert_eq!(core.hard(), Some(blocks[2].id()));
    for (from, why) in [(0, "from its height 1 on"), (8, "up to its height 6 only")] {
        assert!(core.operator_is_refused(Command::RescanDa(from)).contains(why));
    }
    let _ = core.operator_may(Command::RescanDa(1));
    assert_eq!(core.heads().scanned_through, 0);
}

#[test]
fn what_is_hard_is_not_judged_again_but_for_a_block_that_would_have_won() {
    let blocks = chain(3);
    let rival = branch(&blocks[..1], "b", 1).remove(0);
    let lost = branch(&branch(&[], "c", 1), "c", 1).remove(0);
    let backwards = Spec { time_unix_nanos: Some(0), ..Spec::of("b") }.on(Some(&blocks[0]));
    let read = || {
        let mut core = Setup::follower().storing(&blocks, 0).start();
        let _ = core.report(0, 5, vec![seen_block(2, 0, &blocks[0]), seen_block(4, 1, &blocks[1])]);
        assert_eq!(core.hard(), Some(blocks[1].id()));
        let _ = core.operator_may(Command::RescanDa(1));
        core
    };
    for harmless in [
        seen_block(4, 1, &rival),
        seen_block(4, 2, &rival),
        seen_block(3, 0, &lost),
        seen_block(3, 0, &backwards),
        seen_block(3, 0, &blocks[1]),
        junk_of(3, 0, digest(&rival)),
    ] {
        let mut core = read();
        let _ = core.report(0, 5, vec![harmless.clone()]);
        assert_eq!((core.status().halted, core.hard()), (None, Some(blocks[1].id())), "{harmless:?}");
    }
    let mut core = read();
    let _ = core.report(0, 5, vec![seen_block(4, 0, &rival)]);
    let halt = Halt::HardContradicted { hard: blocks[1].id(), da: rival.id(), position: at(4, 0) };
    assert_eq!((core.status().halted, core.hard()), (Some(halt), Some(blocks[1].id())));
    assert!(core.operator_is_refused(Command::AbandonBranch(blocks[1].id())).contains("nothing to abandon"));
    // It was this report that was wrong.
    let _ = core.operator_may(Command::RescanDa(4));
    let _ = core.report(3, 6, vec![seen_block(4, 1, &blocks[1]), seen_block(6, 0, &blocks[2])]);
    assert_eq!((core.status().halted, core.hard()), (None, Some(blocks[2].id())));
}

/// Also where the host reports digests: nobody knows what stands there before its bytes are given.
#[test]
fn a_digest_before_what_made_its_height_hard_is_asked_for() {
    let blocks = chain(3);
    let rival = branch(&blocks[..1], "b", 1).remove(0);
    let read = || {
        let mut core = Setup::follower().storing(&blocks, 0).start();
        let _ = core.report(0, 5, vec![seen_block(2, 0, &blocks[0]), seen_block(4, 1, &blocks[1])]);
        let _ = core.operator_may(Command::RescanDa(1));
        core
    };
    // At its own position, and after it, it says nothing new.
    let mut core = read();
    let again = vec![seen_digest(2, 0, &blocks[0]), seen_digest(4, 1, &blocks[1]), seen_digest(5, 0, &rival)];
    assert_eq!(core.report(0, 5, again).0.wanted, []);

    for (there, halts) in [(&rival, true), (&blocks[1], false)] {
        let mut core = read();
        let (answer, _) = core.report(0, 5, vec![seen_digest(4, 0, there)]);
        assert_eq!((answer.wanted, core.status().wanted), (vec![open(4, 0, there)], vec![open(4, 0, there)]));
        assert_eq!(core.status().halted, None, "a digest proves nothing");
        // It is no sighting, and what is judged next does not wait for it.
        let (answer, _) = core.report(5, 6, vec![seen_block(6, 0, &blocks[2])]);
        assert_eq!((answer.wanted.len(), core.hard()), (1, Some(blocks[2].id())));
        let (answer, _) = core.report(0, 0, vec![seen_block(4, 0, there)]);
        assert_eq!((answer.wanted, core.status().wanted), (vec![], vec![]));
        let halt = Halt::HardContradicted { hard: blocks[1].id(), da: rival.id(), position: at(4, 0) };
        assert_eq!(core.status().halted, halts.then_some(halt));
        assert_eq!(core.hard(), Some(blocks[2].id()));
    }
    // Junk, or a new scan, ends it.
    let mut core = read();
    let _ = core.report(0, 5, vec![seen_digest(4, 0, &rival)]);
    let (answer, _) = core.report(0, 0, vec![junk_of(4, 0, digest(&rival))]);
    assert_eq!((answer.wanted, core.status().halted), (vec![], None));
    let mut core = read();
    let _ = core.report(0, 5, vec![seen_digest(4, 0, &rival)]);
    let _ = core.operator_may(Command::RescanDa(4));
    assert_eq!(core.status().wanted, []);
    let _ = core.report(3, 5, vec![]);
    assert_eq!(core.report_answer(0, 0, vec![seen_block(4, 0, &rival)]).0, core.report_answer(0, 0, vec![]).0);
    assert_eq!(core.status().halted, None, "it was said that nothing stands there");
}

/// Whoever asks right after a start is not told that DA is known up to where it is to be read again.
#[test]
fn a_start_says_at_once_from_where_da_is_read_again() {
    let mut setup = Setup::follower().storing(&chain(2), 1);
    (setup.at.heads.scanned_through, setup.at.refused_sightings) = (9, vec![at(5, 0)]);
    assert_eq!(setup.start().heads().scanned_through, 4);
}

/// A copy of what was said there wrongly was left out; and the host goes on reporting where it was when this node ended.
#[test]
fn that_a_word_was_replaced_is_remembered_over_a_restart() {
    let ours = chain(1);
    let x = branch(&ours, "x", 1).remove(0);
    let setup = || Setup::follower().storing(&ours, 1);
    let mut core = setup().start();
    let mut effects = core.report(0, 1, vec![seen_digest(3, 0, &x), seen_digest(3, 1, &x)]).1;
    effects.extend(core.report(1, 2, vec![junk(3, 0)]).1);
    let mut core = setup().after(&effects).start();
    let (answer, _) = core.report(2, 3, vec![]);
    assert_eq!((answer.scanned_through, answer.wanted), (2, vec![]));
    let (answer, _) = core.report(2, 3, vec![junk(3, 0), seen_digest(3, 1, &x)]);
    assert_eq!((answer.scanned_through, answer.wanted), (3, vec![open(3, 1, &x)]));
    // Everything is to be told anew as it is.
    let mut core = setup().after(&effects).start();
    let effects = [effects, core.operator_may(Command::RescanDa(1))].concat();
    assert_eq!(setup().after(&effects).at.da_notes, DaNotes::default());
}
