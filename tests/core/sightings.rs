//! What DA is known to have, above hard: kept until it can be judged, bounded, and never lost without saying so.

use blocksyncd::block::Hash;
use blocksyncd::sync::{
    Change, Command, Content, DaEvidence, DaNotes, Finding, Found, Input, LeftOut, MAX_DA_HEIGHT, MAX_REPORT_SPAN,
    MAX_WANTED, Name, ReportAnswer, ReportRefusal, Seen, Sighting,
};
use blocksyncd::verify::{AuthenticBlock, ScheduleEntry};

use super::blocks::{Spec, branch, chain, h, public_key, signed_otherwise};
use super::driver::{
    Core, Setup, at, changes, commits, digest, junk, junk_of, kept_block, kept_digest, open, seen_block, seen_digest,
    seen_name,
};

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
    let (answer, effects) = core.report(0, 3, vec![seen_digest(1, 0, &blocks[0]), seen_block(2, 5, &blocks[1])]);
    let [batch] = &commits(&effects)[..] else { panic!("{effects:#?}") };
    assert_eq!(kept(&batch.changes), [kept_digest(1, 0, &blocks[0]), kept_block(2, 5, &blocks[1])]);
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
    let (answer, effects) = core.report_answer(5, 6, vec![seen_digest(6, 0, &blocks[0])]);
    assert_eq!((answer, commits(&effects)), (ReportAnswer::OutOfOrder { scanned_through: 4 }, vec![]));
    assert_eq!(core.status().pending_sightings, 0);
    for after in [4, 2] {
        let (answer, _) = core.report(after, 6, vec![seen_digest(6, 0, &blocks[0])]);
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
    let refusal = core.refused_report(0, 1, vec![seen_digest(1, 0, &blocks[0])]);
    assert_eq!((refusal, core.hard()), (ReportRefusal::StorageFull, None));
}

/// One bad call of a host must not put off everything that DA will ever have.
#[test]
fn da_heights_are_bounded() {
    let mut core = Setup::follower().start();
    let far = 4 + MAX_REPORT_SPAN;
    let _ = core.report(0, 4, vec![]);
    for (after, through, height) in [(0, far + 1, far + 1), (4, u64::MAX, u64::MAX)] {
        let refusal = ReportRefusal::TooFar { height, scanned_through: 4 };
        assert_eq!(core.refused_report(after, through, vec![]), refusal);
    }
    let refusal = ReportRefusal::TooFar { height: far + 1, scanned_through: 4 };
    assert_eq!(core.refused_report(4, 5, vec![junk(far + 1, 0)]), refusal);
    let backwards = ReportRefusal::Backwards { after: 4, scanned_through: 3 };
    assert_eq!(core.refused_report(4, 3, vec![]), backwards);
    assert_eq!(core.refused_report(4, 4, vec![junk(0, 1)]), ReportRefusal::NoSuchPosition(at(0, 1)));
    let _ = core.report(4, 5, vec![junk(far, 0)]);
    assert_eq!(core.report(4, far, vec![]).0.scanned_through, far);
}

#[test]
fn da_heights_end_somewhere() {
    let mut setup = Setup::follower();
    setup.at.heads.scanned_through = MAX_DA_HEIGHT - 2;
    let mut core = setup.start();
    let last = MAX_DA_HEIGHT - 1;
    let refusal = ReportRefusal::TooFar { height: last + 1, scanned_through: last - 1 };
    assert_eq!(core.refused_report(last - 1, last + 1, vec![]), refusal);
    assert_eq!(core.report(last - 1, last, vec![]).0.scanned_through, last);
}

#[test]
fn bytes_of_another_height_than_was_said_are_refused() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks[..1], 1).start();
    let _ = core.report(0, 1, vec![seen_digest(1, 0, &blocks[1])]);
    let wrong = Finding { height: h(3), ..seen_block(1, 0, &blocks[1]) };
    let refusal = ReportRefusal::OtherHeight { position: at(1, 0), said: h(3), found: h(2) };
    assert_eq!(core.refused_report(1, 2, vec![wrong]), refusal);
    assert_eq!(core.status().wanted, [open(1, 0, &blocks[1])], "it is open still");
    let foreign = Content::Unscheduled { height: h(2), proposer: public_key(2) };
    let what = Found::Bytes { digest: digest(&blocks[1]), content: foreign };
    let wrong = Finding { position: at(1, 0), height: h(3), what };
    assert_eq!(core.refused_report(1, 2, vec![wrong]), refusal);
}

#[test]
fn sightings_outlive_a_restart() {
    let blocks = chain(2);
    let mut setup = Setup::follower().storing(&blocks[..1], 1);
    setup.at.heads.scanned_through = 4;
    setup.at.sightings = vec![kept_digest(4, 0, &blocks[1])];
    let mut core = setup.start();
    let _ = core.gossip(&blocks[1]);
    assert_eq!(core.hard(), Some(blocks[1].id()));
}

// ---- Copies --------------------------------------------------------------------------------------------------------

#[test]
fn a_copy_on_da_takes_no_room() {
    let blocks = later_blocks();
    let mut core = Setup::follower().limits(|limits| limits.sightings = 1).start();
    let copies = [seen_block(1, 1, &blocks[0]), seen_digest(2, 0, &blocks[0])];
    let other_signature = seen_block(2, 1, &signed_otherwise(&blocks[0], 1));
    let (answer, effects) =
        core.report(0, 2, [vec![seen_block(1, 0, &blocks[0])], copies.to_vec(), vec![other_signature]].concat());
    assert_eq!(kept(&changes(&effects)), [kept_block(1, 0, &blocks[0])]);
    assert_eq!((answer.scanned_through, core.status().pending_sightings), (2, 1));
}

#[test]
fn of_copies_the_lowest_position_counts() {
    let blocks = later_blocks();
    let copy = signed_otherwise(&blocks[0], 1);
    for (higher, lower, now_kept) in [
        (seen_block(3, 0, &blocks[0]), seen_block(2, 7, &copy), kept_block(2, 7, &copy)),
        (seen_digest(3, 0, &blocks[0]), seen_block(2, 7, &blocks[0]), kept_block(2, 7, &blocks[0])),
        (seen_digest(3, 0, &blocks[0]), seen_digest(2, 7, &blocks[0]), kept_digest(2, 7, &blocks[0])),
    ] {
        let mut core = Setup::follower().start();
        let _ = core.report(0, 1, vec![higher]);
        let (_, effects) = core.report(0, 3, vec![lower]);
        assert_eq!(changes(&effects), [Change::DropSighting(at(3, 0)), Change::KeepSighting(now_kept)]);
        assert_eq!(core.status().pending_sightings, 1);
    }
}

/// Otherwise bytes that we were given once would be asked for.
#[test]
fn bytes_are_no_copy_of_their_digest() {
    let blocks = later_blocks();
    for order in [[0, 1], [1, 0]] {
        let both = [seen_digest(2, 0, &blocks[0]), seen_block(3, 0, &blocks[0])];
        let mut core = Setup::follower().start();
        for index in order {
            assert_eq!(
                core.report(0, 1, vec![both[index].clone()]).0.wanted.len(),
                usize::from(order == [0, 1] && index == 0)
            );
        }
        assert_eq!((core.report(1, 3, vec![]).0.wanted, core.status().pending_sightings), (vec![], 2));
        // No bytes move; those that are given at the lower position make a copy of the others.
        let (_, effects) = core.report(3, 3, vec![seen_block(2, 0, &blocks[0])]);
        assert_eq!(kept(&changes(&effects)), [kept_block(2, 0, &blocks[0])]);
        assert!(changes(&effects).contains(&Change::DropSighting(at(3, 0))));
    }
}

/// The digest does not say whose the bytes are, beside those that have it.
#[test]
fn another_signature_below_is_no_copy_before_its_bytes_are_here() {
    let blocks = later_blocks();
    let copy = signed_otherwise(&blocks[0], 1);
    let mut core = Setup::follower().start();
    let (answer, _) = core.report(0, 3, vec![seen_block(2, 0, &blocks[0]), seen_digest(3, 0, &copy)]);
    assert_eq!((answer.wanted, core.status().pending_sightings), (vec![open(3, 0, &copy)], 2));
    let (answer, effects) = core.report(3, 3, vec![seen_block(3, 0, &copy)]);
    assert_eq!((answer.wanted, changes(&effects)), (vec![], vec![Change::DropSighting(at(3, 0))]));
}

// ---- Open positions ------------------------------------------------------------------------------------------------

#[test]
fn bytes_fill_in_what_was_only_named() {
    let blocks = later_blocks();
    let mut core = Setup::follower().start();
    let _ = core.report(0, 3, vec![seen_digest(1, 0, &blocks[0])]);
    let (answer, effects) = core.report(3, 3, vec![seen_block(1, 0, &blocks[0])]);
    assert_eq!(kept(&changes(&effects)), [kept_block(1, 0, &blocks[0])]);
    assert_eq!((answer.scanned_through, core.status().pending_sightings), (3, 1));
    // The other way round nothing is learned.
    assert_eq!(changes(&core.report(3, 3, vec![seen_digest(1, 0, &blocks[0])]).1), []);
}

#[test]
fn the_open_positions_of_all_heights_are_named_lowest_on_da_first() {
    let blocks = chain(2 + MAX_WANTED);
    let mut core = Setup::follower().start();
    let findings: Vec<_> =
        (0..).zip(blocks[1..].iter().rev()).map(|(index, block)| seen_digest(1, index, block)).collect();
    let (answer, _) = core.report(0, 1, findings.clone());
    let expected: Vec<_> = (0..).zip(blocks[1..].iter().rev()).map(|(index, block)| open(1, index, block)).collect();
    assert_eq!(answer.wanted, expected[..MAX_WANTED]);
    assert_eq!(core.status().wanted, answer.wanted);
    let (answer, _) = core.report(1, 1, vec![seen_block(1, 0, &blocks[1 + MAX_WANTED])]);
    assert_eq!(answer.wanted, expected[1..]);
}

#[test]
fn before_the_cursor_only_what_is_open_is_taken_anew() {
    let blocks = later_blocks();
    let mut core = Setup::follower().start();
    let _ = core.report(0, 3, vec![seen_digest(1, 0, &blocks[0]), seen_block(2, 0, &blocks[1])]);
    let late = [
        seen_digest(1, 0, &blocks[3]),
        junk(2, 0),
        seen_block(2, 0, &blocks[2]),
        seen_block(3, 0, &blocks[2]),
        seen_digest(3, 1, &blocks[3]),
    ];
    let (answer, effects) = core.report(3, 4, late.to_vec());
    assert_eq!((answer.scanned_through, answer.junk, changes(&effects)), (4, 1, vec![]));
    assert_eq!(answer.wanted, [open(1, 0, &blocks[0])]);
}

#[test]
fn junk_is_forgotten_and_moves_no_cursor() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let _ = core.report(0, 5, vec![seen_digest(2, 1, &blocks[1]), seen_digest(3, 0, &blocks[1])]);
    let (answer, effects) = core.report(2, 5, vec![junk_of(2, 1, digest(&blocks[1])), junk(2, 2)]);
    assert_eq!((answer.junk, answer.scanned_through), (2, 5));
    assert_eq!(changes(&effects), [Change::DropSighting(at(2, 1))]);
    let (answer, _) = core.report(0, 2, vec![junk(2, 0)]);
    assert_eq!((answer.junk, answer.scanned_through), (1, 5));
}

/// What was left out as a copy of the wrong digest is reported again.
#[test]
fn bytes_of_another_digest_than_was_said_take_the_cursor_back() {
    let blocks = chain(2);
    let [wrong, right] = [&blocks[1], &branch(&blocks[..1], "b", 1)[0]];
    for bytes in [junk(2, 1), seen_block(2, 1, right)] {
        let mut core = Setup::follower().storing(&blocks[..1], 0).start();
        let _ = core.report(0, 5, vec![seen_digest(2, 1, wrong), seen_digest(4, 0, wrong)]);
        assert_eq!(core.status().pending_sightings, 1, "a copy");
        let (answer, _) = core.report(5, 5, vec![bytes.clone()]);
        assert_eq!(answer.scanned_through, 1);
        let (answer, _) = core.report(1, 5, vec![bytes.clone(), seen_digest(4, 0, wrong)]);
        let both = if bytes == junk(2, 1) { 1 } else { 2 };
        assert_eq!((answer.scanned_through, core.status().pending_sightings), (5, both));
        assert_eq!(answer.wanted, [open(4, 0, wrong)]);
        // A report that has all of it need not come twice.
        let mut core = Setup::follower().storing(&blocks[..1], 0).start();
        let _ = core.report(0, 5, vec![seen_digest(2, 1, wrong), seen_digest(4, 0, wrong)]);
        let (answer, _) = core.report(1, 5, vec![seen_digest(4, 0, wrong), bytes]);
        assert_eq!((answer.scanned_through, core.status().pending_sightings), (5, both));
    }
}

/// Above the cursor nothing was covered yet: whoever told it may have been wrong, and tells it otherwise.
#[test]
fn of_one_position_the_newest_word_counts_until_the_cursor_has_passed_it() {
    let ours = chain(1);
    let (x, y) = (branch(&ours, "x", 1).remove(0), branch(&ours, "y", 1).remove(0));
    let start = || Setup::follower().storing(&ours, 1).start();
    let finding = |digest: bool, block| if digest { seen_digest(3, 0, block) } else { seen_block(3, 0, block) };
    for (early, late) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut core = start();
        let _ = core.report(0, 1, vec![finding(early, &x)]);
        let _ = core.report(1, 3, vec![finding(late, &y)]);
        let _ = core.report(core.heads().scanned_through, 3, vec![finding(late, &y)]);
        let _ = core.report(3, 3, vec![seen_block(3, 0, &y)]);
        assert_eq!((core.hard(), core.heads().scanned_through), (Some(y.id()), 3), "{early} {late}");
        // Then it is too late.
        assert_eq!(changes(&core.report(2, 3, vec![finding(late, &x), junk(3, 0)]).1), []);
    }
    let mut core = start();
    let _ = core.report(0, 1, vec![seen_block(3, 0, &x)]);
    let effects = core.report(1, 1, vec![junk(3, 0)]).1;
    assert!(changes(&effects).contains(&Change::DropSighting(at(3, 0))));
    let _ = core.report(1, 3, vec![]);
    assert_eq!((core.hard(), core.heads().scanned_through), (Some(ours[0].id()), 2), "it ends with what was replaced");
    let _ = core.report(2, 3, vec![junk(3, 0)]);
    assert_eq!((core.hard(), core.heads().scanned_through), (Some(ours[0].id()), 3));
}

/// The same height, or the same bytes: nothing is written, and nothing is told anew.
#[test]
fn the_same_word_once_more_says_nothing_new() {
    let blocks = later_blocks();
    for first in [seen_digest(5, 0, &blocks[0]), seen_block(5, 0, &blocks[0])] {
        let mut core = Setup::follower().start();
        let _ = core.report(0, 1, vec![first.clone()]);
        for again in [first.clone(), seen_digest(5, 0, &blocks[0])] {
            assert_eq!(changes(&core.report(1, 1, vec![again]).1), []);
        }
        let (answer, _) = core.report(1, 6, vec![first]);
        assert_eq!(answer.scanned_through, 6);
    }
    let wrong_height = Finding { height: h(9), ..seen_digest(5, 0, &blocks[0]) };
    let mut core = Setup::follower().start();
    let _ = core.report(0, 1, vec![wrong_height]);
    let effects = core.report(1, 1, vec![seen_digest(5, 0, &blocks[0])]).1;
    assert_eq!(
        changes(&effects),
        [
            Change::DropSighting(at(5, 0)),
            Change::KeepSighting(kept_digest(5, 0, &blocks[0])),
            Change::DaNotes(DaNotes { again_from: Some(at(5, 1)), ..DaNotes::default() })
        ]
    );
}

/// A copy of what was said there wrongly was left out, and may be the only one.
#[test]
fn where_a_word_was_replaced_what_follows_is_told_once_more() {
    let ours = chain(1);
    let (x, y) = (branch(&ours, "x", 1).remove(0), branch(&[], "y", 2).remove(1));
    let mut core = Setup::follower().storing(&ours, 1).start();
    let _ = core.report(0, 1, vec![seen_block(3, 0, &x), seen_block(3, 1, &x)]);
    // The rest of this DA height was told before.
    let (answer, _) = core.report(1, 3, vec![seen_block(3, 0, &y)]);
    assert_eq!((answer.scanned_through, core.hard()), (2, Some(ours[0].id())));
    let (answer, _) = core.report(2, 3, vec![seen_block(3, 0, &y), seen_block(3, 1, &x)]);
    assert_eq!((answer.scanned_through, core.hard()), (3, Some(x.id())));
}

/// One DA height may take several reports, and counts as read with the last of them.
#[test]
fn what_was_told_ahead_need_not_be_told_again() {
    let ours = chain(1);
    let x = branch(&ours, "x", 1).remove(0);
    let mut core = Setup::follower().storing(&ours, 1).start();
    let _ = core.report(0, 1, vec![seen_block(3, 0, &x)]);
    let _ = core.report(1, 3, vec![junk(3, 1)]);
    assert_eq!(core.hard(), Some(x.id()));
}

/// It was being checked while the schedule changed: the newest schedule counts.
#[test]
fn what_was_checked_by_another_schedule_is_taken_by_the_present_one() {
    let ours = chain(1);
    let of = |name: &str| Spec { proposer: 2, ..Spec::of(name) }.on(Some(&ours[0]));
    let (first, second) = (of("x"), of("y"));
    let entry = ScheduleEntry { from: h(2), proposer: public_key(2) };
    let passed_over = || Content::Unscheduled { height: h(2), proposer: public_key(2) };
    let late = Finding {
        position: at(1, 0),
        height: h(2),
        what: Found::Bytes { digest: digest(&first), content: passed_over() },
    };
    let follow = |core: &mut Core, and_then: &[Finding]| {
        for _ in 0..3 {
            let scanned = core.heads().scanned_through;
            let above = |finding: &&Finding| finding.position.height > scanned;
            let _ = core.report(scanned, 2, and_then.iter().filter(above).cloned().collect());
        }
        core.hard()
    };
    let rest = [seen_block(1, 0, &first), seen_block(2, 0, &second)];
    // It was passed over, and is taken now.
    for known in [None, Some(seen_digest(1, 0, &first))] {
        let mut core = Setup::follower().storing(&ours, 1).start();
        let _ = core.report(0, u64::from(known.is_some()), known.clone().into_iter().collect());
        let _ = core.operator_may(Command::ExtendSchedule(entry));
        let scanned = core.heads().scanned_through;
        let (answer, _) = core.report(scanned, scanned + 1, vec![late.clone()]);
        assert_eq!(answer.scanned_through, 0, "its bytes are not here any more: {known:?}");
        assert_eq!(follow(&mut core, &rest), Some(first.id()));
        assert_eq!(core.heads().scanned_through, 2);
    }
    // It was taken, and is passed over now, until the schedule names it again.
    let mut core = Setup::follower().storing(&ours, 1).start();
    let _ = core.report(0, 1, vec![seen_block(1, 0, &first)]);
    assert_eq!((core.hard(), core.status().passed_over), (Some(ours[0].id()), 1));
    let _ = core.operator_may(Command::ExtendSchedule(entry));
    assert_eq!(core.heads().scanned_through, 0);
    assert_eq!(follow(&mut core, &rest), Some(first.id()));
}

// ---- Room ----------------------------------------------------------------------------------------------------------

fn left_out(changes: &[Change]) -> Option<LeftOut> {
    changes.iter().rev().find_map(|change| if let Change::DaNotes(notes) = change { notes.left_out } else { None })
}

#[test]
fn what_there_is_no_room_for_is_read_again_once_hard_stands_below() {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.sightings = 2).start();
    // The highest heights go first, wherever they are on DA.
    let all = [
        seen_block(1, 0, &blocks[4]),
        seen_block(2, 0, &blocks[2]),
        seen_block(3, 0, &blocks[1]),
        seen_block(4, 0, &blocks[3]),
    ];
    let (answer, effects) = core.report(0, 4, all.to_vec());
    let changed = changes(&effects);
    assert!(changed.contains(&Change::DropSighting(at(1, 0))) && changed.contains(&Change::DropSighting(at(4, 0))));
    assert_eq!(left_out(&changed), Some(LeftOut { height: h(4), position: at(1, 0) }));
    assert_eq!((answer.scanned_through, core.status().pending_sightings), (4, 2));
    // What is as high has no room either; what is lower has, and the cursor goes back when its time has come.
    let (answer, _) = core.report(4, 5, vec![seen_block(5, 0, &blocks[4]), seen_block(5, 1, &blocks[0])]);
    assert_eq!((core.hard(), answer.scanned_through), (Some(blocks[2].id()), 0));
    let (answer, effects) = core.report(0, 5, all.to_vec());
    assert_eq!((core.hard(), answer.scanned_through), (Some(blocks[4].id()), 5));
    assert!(changes(&effects).iter().all(|change| !matches!(change, Change::DaNotes(_))), "it is noted no longer");
}

#[test]
fn what_was_left_out_is_remembered_over_a_restart() {
    let blocks = chain(3);
    let mut setup = Setup::follower().storing(&blocks[..1], 1);
    setup.at.heads.scanned_through = 9;
    setup.at.sightings = vec![kept_block(8, 0, &blocks[1])];
    setup.at.da_notes.left_out = Some(LeftOut { height: h(3), position: at(4, 2) });
    let mut core = setup.start();
    let effects = core.give(Input::Wakeup);
    assert_eq!((core.hard(), core.heads().scanned_through), (Some(blocks[1].id()), 3));
    assert!(changes(&effects).contains(&Change::DaNotes(DaNotes::default())));
    // What was before it at that DA height was passed.
    let (answer, _) = core.report(3, 9, vec![seen_block(4, 1, &blocks[2]), seen_block(4, 2, &blocks[2])]);
    assert_eq!((answer.scanned_through, core.hard()), (9, Some(blocks[2].id())));
}

#[test]
fn the_room_for_blocks_is_counted_in_bytes() {
    let blocks = later_blocks();
    let size = blocks[0].size() + blocks[1].size();
    for (room, kept) in [(size, 2), (size - 1, 1), (0, 1)] {
        let mut core = Setup::follower().limits(|limits| limits.sighting_bytes = room).start();
        let (answer, _) = core.report(0, 2, vec![seen_block(1, 0, &blocks[0]), seen_block(2, 0, &blocks[1])]);
        assert_eq!((core.status().pending_sightings, answer.scanned_through), (kept, 2), "{room}");
    }
    // Digests weigh nothing.
    let mut core = Setup::follower().limits(|limits| limits.sighting_bytes = 0).start();
    let _ = core.report(0, 2, vec![seen_digest(1, 0, &blocks[0]), seen_digest(2, 0, &blocks[1])]);
    assert_eq!(core.status().pending_sightings, 2);
}

#[test]
fn the_room_for_names_is_counted_in_bytes() {
    let name = |position: u32| seen_name(1, position, u64::from(position) + 2, Name::HostId(vec![7; 64].into()));
    for (room, kept) in [(128, 2), (127, 1)] {
        let mut core = Setup::follower().named().limits(|limits| limits.sighting_bytes = room).start();
        let _ = core.report(0, 1, vec![name(0), name(1)]);
        assert_eq!(core.status().pending_sightings, kept, "{room}");
    }
}

/// One DA height may have more than there is room for: what is before the cut is judged all the same.
#[test]
fn a_crowded_da_height_is_passed() {
    let blocks = chain(4);
    let mut core = Setup::follower().storing(&blocks[..1], 0).limits(|limits| limits.sightings = 2).start();
    let all: Vec<_> = (0..).zip(blocks.iter().rev()).map(|(index, block)| seen_block(1, index, block)).collect();
    let mut reports = 0;
    while core.heads().scanned_through < 1 || core.hard() != Some(blocks[3].id()) {
        reports += 1;
        assert!(reports < 5, "it is never passed: hard is {:?}", core.hard());
        let _ = core.report(0, 1, all.clone());
    }
}

/// Of the next height itself there may be more than there is room for: what is open there is asked for, part by part.
#[test]
fn a_height_that_is_crowded_with_junk_is_passed() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 1).limits(|limits| limits.sightings = 3).start();
    let bad = |index: u32| Hash::of(&index.to_be_bytes());
    let mut all: Vec<_> = (0..20)
        .map(|index| Finding { position: at(2, index), height: h(2), what: Found::Digest(bad(index)) })
        .collect();
    all.push(seen_digest(3, 0, &blocks[1]));
    let mut reports = 0;
    let (mut answer, _) = core.report(0, 3, all.clone());
    while core.hard() != Some(blocks[1].id()) {
        reports += 1;
        assert!(reports < 30, "{answer:?}");
        let junk = answer.wanted.iter().map(|open| junk_of(open.position.height, open.position.index, open.digest));
        let mut findings: Vec<_> = junk.collect();
        findings.extend(all.clone());
        let after = core.heads().scanned_through;
        answer = core.report(after, 3, findings).0;
    }
}

#[test]
fn losers_at_the_next_height_are_forgotten_at_once() {
    let blocks = chain(2);
    let lost = branch(&[], "b", 2).remove(1);
    let mut core = Setup::follower().storing(&blocks[..1], 1).start();
    // Even beyond what is scanned.
    let _ = core.report(0, 1, vec![seen_block(2, 0, &lost)]);
    assert_eq!(core.status().pending_sightings, 0);
}

// ---- Rest ----------------------------------------------------------------------------------------------------------

#[test]
fn a_sighting_is_of_the_height_that_it_names() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let wrong = Finding { height: h(2), ..seen_digest(1, 0, &blocks[0]) };
    let _ = core.report(0, 1, vec![wrong]);
    assert_eq!((core.hard(), core.status().pending_sightings), (None, 1));
}

/// Of an older version, which took them for as much.
#[test]
fn what_this_chains_da_does_not_take_is_dropped_at_start_and_read_again() {
    let blocks = chain(2);
    let name = Sighting { position: at(4, 0), height: h(2), what: Seen::Named(Name::Block(blocks[1].hash())) };
    for (evidence, dropped, read_to) in [(DaEvidence::Block, at(4, 0), 3), (DaEvidence::Named, at(6, 1), 5)] {
        let mut setup = Setup::follower().storing(&blocks[..1], 1);
        setup.config.da_evidence = evidence;
        setup.at.heads.scanned_through = 9;
        setup.at.sightings = vec![name.clone(), kept_block(6, 1, &blocks[1])];
        let mut core = setup.start();
        let effects = core.give(Input::Wakeup);
        assert!(changes(&effects).contains(&Change::DropSighting(dropped)));
        assert_eq!(commits(&effects)[0].heads.scanned_through, read_to);
    }
}

#[test]
fn what_todays_rules_refuse_is_dropped_at_start_and_read_again() {
    let mut setup = Setup::follower();
    setup.at.heads.scanned_through = 9;
    setup.at.refused_sightings = vec![at(7, 1), at(5, 0)];
    let mut core = setup.start();
    let effects = core.give(Input::Wakeup);
    assert_eq!(changes(&effects), [Change::DropSighting(at(7, 1)), Change::DropSighting(at(5, 0))]);
    assert_eq!(core.heads().scanned_through, 4);
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
