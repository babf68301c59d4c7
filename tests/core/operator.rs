//! The proposer schedule grows: append-only, above soft, and whatever waits is held against it.

use std::sync::Arc;

use blocksyncd::sync::{Change, Command, DaNotes, PassedOver, ProvedBlock, Verdict};
use blocksyncd::verify::{AuthenticBlock, ScheduleEntry};

use super::blocks::{Spec, chain, h, public_key};
use super::driver::{Core, Setup, at, changes, fetches, seen_block, seen_digest};

/// The second proposer proposes from this height on.
fn rotation(from: u64) -> Command {
    Command::ExtendSchedule(entry(from))
}

fn entry(from: u64) -> ScheduleEntry {
    ScheduleEntry { from: h(from), proposer: public_key(2) }
}

fn by_the_second(parent: &AuthenticBlock) -> AuthenticBlock {
    Spec { proposer: 2, ..Spec::of("a") }.on(Some(parent))
}

/// Blocks 1 to 3 are stored.
fn core() -> (Core, Vec<AuthenticBlock>) {
    let blocks = chain(7);
    (Setup::follower().storing(&blocks[..3], 1).start(), blocks)
}

#[test]
fn an_entry_is_above_soft_and_above_the_last_one() {
    let (mut core, _) = core();
    assert!(core.operator_is_refused(rotation(3)).contains("not above the soft head"));
    let before = Arc::clone(core.syncer().rules());
    let effects = core.operator_may(rotation(4));
    assert_eq!(changes(&effects), [Change::Schedule(entry(4))]);
    assert!(!Arc::ptr_eq(&before, core.syncer().rules()), "whoever checks blocks can see it");
    assert_eq!(core.syncer().rules().schedule.proposer_at(h(4)), Some(public_key(2)));
    assert!(core.operator_is_refused(rotation(4)).contains("not above the entry before it"));
    let _ = core.operator_may(Command::ExtendSchedule(ScheduleEntry { from: h(5), proposer: public_key(1) }));
}

#[test]
fn while_nothing_is_stored_any_height_will_do() {
    let mut core = Setup::follower().start();
    let _ = core.operator_may(rotation(2));
}

#[test]
fn the_schedule_outlives_a_restart() {
    let blocks = chain(2);
    let mut setup = Setup::follower().storing(&blocks[..1], 0);
    setup.at.schedule = vec![entry(2)];
    let mut core = setup.start();
    assert_eq!(core.gossip(&blocks[1]), Verdict::Ignore);
    assert_eq!(core.gossip(&by_the_second(&blocks[0])), Verdict::Accept);
}

#[test]
fn blocks_that_were_checked_against_the_old_schedule_go_nowhere() {
    let (mut core, blocks) = core();
    let _ = core.operator_may(rotation(5));
    assert_eq!(core.gossip(&blocks[3]), Verdict::Accept, "below the entry nothing has changed");
    assert_eq!(core.gossip(&blocks[4]), Verdict::Ignore);
    assert_eq!((core.soft(), core.target()), (Some(blocks[3].id()), Some(blocks[3].id())));
    let rotated = by_the_second(&blocks[3]);
    assert_eq!(core.gossip(&rotated), Verdict::Accept);
    assert_eq!(core.soft(), Some(rotated.id()));
}

#[test]
fn what_waits_is_dropped_when_the_schedule_grows() {
    let (mut core, blocks) = core();
    let _ = core.gossip(&blocks[5]);
    assert_eq!(core.status().held_blocks, 1);
    let _ = core.operator_may(rotation(6));
    assert_eq!((core.status().held_blocks, core.target()), (0, Some(blocks[2].id())));
    let rotated = by_the_second(&blocks[4]);
    assert_eq!(core.gossip(&rotated), Verdict::Accept);
    let _ = core.gossip(&blocks[3]);
    let _ = core.gossip(&blocks[4]);
    assert_eq!(core.soft(), Some(rotated.id()));
}

#[test]
fn a_target_below_the_entry_is_as_well_proved_as_before() {
    let (mut core, blocks) = core();
    let _ = core.gossip(&blocks[5]);
    let _ = core.operator_may(rotation(7));
    assert_eq!(core.target(), Some(blocks[5].id()));
}

#[test]
fn what_da_has_of_the_old_proposer_is_dropped_when_the_schedule_grows() {
    let (mut core, blocks) = core();
    let rotated = by_the_second(&blocks[4]);
    let _ = core.report(
        0,
        1,
        vec![
            seen_block(1, 0, &blocks[4]),
            seen_block(1, 1, &blocks[5]),
            seen_digest(1, 2, &blocks[6]),
            seen_block(1, 3, &rotated),
        ],
    );
    let effects = core.operator_may(rotation(6));
    // Below the entry it stands, by its digest alone nobody knows who signed it; and an entry can be a wrong one.
    let passed_over = vec![PassedOver { height: h(6), proposer: public_key(1), position: at(1, 1) }];
    assert_eq!(
        changes(&effects),
        [
            Change::Schedule(entry(6)),
            Change::DropSighting(at(1, 1)),
            Change::DaNotes(DaNotes { passed_over, ..DaNotes::default() }),
            Change::KeepProved(ProvedBlock::with(blocks[5].hash(), blocks[5].block().header())),
        ]
    );
    // What was passed over as another's is reported again.
    assert_eq!((core.status().pending_sightings, core.heads().scanned_through), (2, 0));
}

#[test]
fn da_decides_among_the_blocks_of_the_scheduled_proposer() {
    let (mut core, blocks) = core();
    let _ = core.da_has(&blocks[1..3]);
    let _ = core.operator_may(rotation(4));
    let rotated = by_the_second(&blocks[2]);
    let effects = core.da_has(&[blocks[3].clone(), rotated.clone()]);
    assert_eq!((core.soft(), core.hard()), (Some(rotated.id()), Some(rotated.id())));
    assert_eq!(fetches(&effects), []);
}
