//! What hosts and operators had said and damage took: it is told until it is said again.

use blocksyncd::sync::{Change, Command, HardWait, LOST_BY_DAMAGE, LostWord, RejectAnswer};
use blocksyncd::verify::ScheduleEntry;

use super::blocks::{chain, h, public_key};
use super::driver::{Core, Setup, changes, seen_block, seen_digest};

fn core_without(lost: &[LostWord]) -> Core {
    let mut setup = Setup::follower().storing(&chain(3), 1);
    setup.at.lost_words = lost.to_vec();
    setup.start()
}

fn add(from: u64) -> Command {
    Command::ExtendSchedule(ScheduleEntry { from: h(from), proposer: public_key(2) })
}

#[test]
fn the_status_says_what_is_lost_and_what_to_do() {
    let core = core_without(&[LostWord::Unknown, LostWord::Schedule(h(7)), LostWord::Veto]);
    let told = core.status().lost_words;
    assert_eq!(told.len(), 3);
    for (said, word) in told.iter().zip(["ctl lift-veto", "ctl schedule withdraw 7", "ctl forget-consumer \"lost by"]) {
        assert!(said.contains(word), "{said}");
    }
    assert_eq!(core_without(&[]).status().lost_words, [""; 0]);
}

#[test]
fn a_veto_that_is_said_again_or_lifted_is_lost_no_more() {
    let mut core = core_without(&[LostWord::Veto]);
    let blocks = chain(3);
    assert_eq!(core.reject(blocks[0].id()), RejectAnswer::Hard);
    assert_eq!(core.status().lost_words.len(), 1);
    assert_eq!(core.reject(blocks[2].id()), RejectAnswer::Stopped);
    assert_eq!(core.status().lost_words, [""; 0]);

    let mut core = core_without(&[LostWord::Veto]);
    assert_eq!(changes(&core.operator_may(Command::LiftVeto)), [Change::ForgetLost(LostWord::Veto)]);
    assert_eq!(core.status().lost_words, [""; 0]);
    assert_eq!(changes(&core.operator_may(Command::LiftVeto)), []);
}

#[test]
fn an_entry_of_the_schedule_is_added_again_or_need_not_be() {
    let lost = [2, 5, 9].map(|from| LostWord::Schedule(h(from)));
    // In whatever order: each is put back where it was.
    let mut core = core_without(&lost);
    for (from, left) in [(9, 2), (5, 1)] {
        let effects = core.operator_may(add(from));
        let entry = Change::Schedule(ScheduleEntry { from: h(from), proposer: public_key(2) });
        assert_eq!(changes(&effects), [entry, Change::ForgetLost(LostWord::Schedule(h(from)))]);
        assert_eq!(core.status().lost_words.len(), left);
    }
    // Another one says nothing of them.
    let _ = core.operator_may(add(12));
    assert_eq!(core.status().lost_words.len(), 1);
    assert_eq!(
        core.syncer().rules().schedule.entries().map(|entry| entry.from).collect::<Vec<_>>(),
        [1, 5, 9, 12].map(h)
    );

    let mut core = core_without(&lost);
    let effects = core.operator_may(Command::WithdrawSchedule(h(2)));
    assert_eq!(changes(&effects), [Change::ForgetLost(lost[0])]);
    assert_eq!(core.syncer().rules().schedule.entries().count(), 1, "the schedule is as it was");
    let refusal = core.operator_is_refused(Command::WithdrawSchedule(h(2)));
    assert!(refusal.contains("not above the soft head"), "it is said once: {refusal}");
}

/// Else nothing that DA has from there on could be judged any more.
#[test]
fn an_entry_below_soft_is_added_where_it_was_as_the_blocks_show() {
    let blocks = chain(3);
    let mut setup = Setup::follower().storing(&blocks, 1);
    setup.at.lost_words = vec![LostWord::Schedule(h(2))];
    let mut core = setup.start();
    let refusal = core.operator_is_refused(add(2));
    assert!(refusal.contains("not above the soft head"), "block 2 is another key's: {refusal}");
    let entry = ScheduleEntry { from: h(2), proposer: blocks[1].block().header().proposer };
    let effects = core.operator_may(Command::ExtendSchedule(entry));
    assert_eq!(changes(&effects), [Change::Schedule(entry), Change::ForgetLost(LostWord::Schedule(h(2)))]);
    assert_eq!(core.syncer().rules().schedule.entries().count(), 2);
}

/// The block with which it began is pruned: the lowest one that is left shows whose it was.
#[test]
fn an_entry_below_the_tail_is_added_where_it_was() {
    let blocks = chain(6);
    let its = blocks[4].block().header().proposer;
    let entry = |from, proposer| Command::ExtendSchedule(ScheduleEntry { from: h(from), proposer });
    let mut setup = Setup::follower().storing(&blocks, 5).pruned_below(&blocks[4]);
    setup.at.lost_words = vec![LostWord::Schedule(h(2)), LostWord::Schedule(h(3))];
    let mut core = setup.start();
    let _ = core.operator_is_refused(entry(3, public_key(2)));
    let _ = core.operator_may(entry(3, its));
    // Of what the lower one governed nothing is left.
    let _ = core.operator_may(entry(2, public_key(2)));
    assert_eq!(core.status().lost_words, [""; 0]);
}

#[test]
fn whoever_has_looked_says_so_by_the_name_of_the_lost_consumers() {
    let forget = || Command::ForgetConsumer(LOST_BY_DAMAGE.to_owned());
    let mut core = core_without(&[LostWord::Unknown, LostWord::Veto]);
    assert_eq!(changes(&core.operator_may(forget())), [Change::ForgetLost(LostWord::Unknown)]);
    assert_eq!(core.status().lost_words.len(), 1);
    let _ = core.operator_is_refused(forget());
    // Both at once.
    let blocks = chain(3);
    let mut setup = Setup::follower().storing(&blocks, 1);
    setup.at.lost_words = vec![LostWord::Unknown];
    setup.at.consumers = vec![(LOST_BY_DAMAGE.to_owned(), blocks[0].id())];
    let mut core = setup.start();
    let both = [Change::ForgetLost(LostWord::Unknown), Change::ForgetConsumer(LOST_BY_DAMAGE.to_owned())];
    assert_eq!(changes(&core.operator_may(forget())), both);
}

/// Others know whose key it was, and pass over what this node would count.
#[test]
fn da_is_not_judged_where_an_entry_of_the_schedule_is_missing() {
    let blocks = chain(4);
    let entry = |from| ScheduleEntry { from: h(from), proposer: blocks[1].block().header().proposer };
    let without = |lost: u64, known: Option<u64>| {
        let mut setup = Setup::follower().storing(&blocks, 1);
        setup.at.lost_words = vec![LostWord::Schedule(h(lost))];
        setup.at.schedule = known.map(entry).into_iter().collect();
        let mut core = setup.start();
        let _ = core.report(0, 1, vec![seen_digest(1, 0, &blocks[1]), seen_block(1, 1, &blocks[2])]);
        core
    };
    for word in [Command::ExtendSchedule(entry(2)), Command::WithdrawSchedule(h(2))] {
        let mut core = without(2, None);
        assert_eq!((core.hard(), core.status().hard_waits), (Some(blocks[0].id()), Some(HardWait::Schedule(h(2)))));
        let _ = core.operator_may(word);
        assert_eq!((core.hard(), core.status().hard_waits), (Some(blocks[2].id()), None), "what was read counts");
    }
    let core = without(3, None);
    assert_eq!((core.hard(), core.status().hard_waits), (Some(blocks[1].id()), Some(HardWait::Schedule(h(3)))));
    assert_eq!(without(2, Some(3)).hard(), Some(blocks[0].id()));
    assert_eq!(without(1, Some(2)).hard(), Some(blocks[2].id()), "what is missing speaks of others");
    assert_eq!(without(4, None).hard(), Some(blocks[2].id()));
}
