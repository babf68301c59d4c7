//! A schedule that is behind: peers are beyond a rotation that it does not know. What can be checked is fetched, what cannot is said.

use std::time::Duration;

use blocksyncd::block::{Lane, PublicKey};
use blocksyncd::sync::{
    BlockQuery, Change, Command, FetchOutcome, Input, Phase, PublishAnswer, UnknownProposer, Verdict,
};
use blocksyncd::verify::{AuthenticBlock, Fault, ScheduleEntry};

use super::blocks::{Spec, branch, chain, h, proposal, public_key};
use super::driver::{
    Core, Setup, asks_for_signature, changes, fetches, peer, penalties, range_request, ranges, verdict,
};
use super::neighbours::{Kind, Neighbourhood};

/// Blocks of the first proposer up to this one, and of the second one above it.
const LAST_OF_THE_FIRST: usize = 150;

fn rotation(from: u64) -> Command {
    Command::ExtendSchedule(ScheduleEntry { from: h(from), proposer: public_key(2) })
}

/// So many blocks, those above [`LAST_OF_THE_FIRST`] by the second proposer.
fn rotated(count: usize) -> Vec<AuthenticBlock> {
    let mut blocks = chain(LAST_OF_THE_FIRST.min(count));
    while blocks.len() < count {
        let next = Spec { proposer: 2, ..Spec::of("a") }.on(blocks.last());
        blocks.push(next);
    }
    blocks
}

fn follower_of(blocks: &[AuthenticBlock]) -> Neighbourhood {
    Neighbourhood::of(Setup::follower().storing(&blocks[..1], 0).start())
}

fn unknown(around: &Neighbourhood) -> Option<(u64, PublicKey)> {
    around.core.status().unknown_proposer.map(|unknown| (unknown.height.get(), unknown.proposer))
}

#[test]
fn what_lies_below_a_rotation_is_fetched_from_peers_beyond_it() {
    let blocks = rotated(400);
    for kinds in [vec![Kind::Serves], vec![Kind::Serves; 3], vec![Kind::HeadOnly, Kind::Silent, Kind::Serves]] {
        let mut around = follower_of(&blocks);
        for (name, kind) in (1..).zip(&kinds) {
            around.meet(name, *kind, &blocks);
        }
        let last = LAST_OF_THE_FIRST as u64;
        let took = around.takes(Duration::from_mins(1), |around| around.soft() == last);
        assert!(took.is_some_and(|took| took < Duration::from_secs(5)), "{kinds:?}: {took:?}");
        around.pass(Duration::from_secs(1));
        assert_eq!(unknown(&around), Some((last + 1, public_key(2))), "{kinds:?}");
        assert_eq!(around.core.status().phase, Phase::Following);
        // What cannot be checked is not asked for again and again.
        let asked = around.asked.ranges.len();
        around.pass(Duration::from_mins(5));
        let more = around.asked.ranges.len() - asked;
        assert!(more <= 40, "{kinds:?}: {more} more");
        // Once the schedule has grown, it goes on, and nothing is unknown.
        around.operate(rotation(last + 1));
        assert_eq!(unknown(&around), None);
        let took = around.takes(Duration::from_mins(1), |around| around.soft() == 400);
        assert!(took.is_some_and(|took| took < Duration::from_secs(5)), "{kinds:?}: {took:?}");
        assert_eq!(unknown(&around), None);
    }
}

/// Blocks are made all the time, and gossip brings none that could be checked.
#[test]
fn a_node_that_was_left_behind_while_it_followed_says_why() {
    let blocks = rotated(400);
    let mut around = follower_of(&blocks);
    around.meet(1, Kind::Serves, &blocks[..140]);
    around.pass(Duration::from_secs(2));
    assert_eq!(around.soft(), 140);
    for made in 141..=400 {
        around.now_has(1, &blocks[..made]);
        around.hears(1, &blocks[made - 1]);
        around.pass(Duration::from_secs(1));
        assert_eq!(around.soft(), made.min(LAST_OF_THE_FIRST) as u64);
    }
    assert_eq!(unknown(&around), Some((LAST_OF_THE_FIRST as u64 + 1, public_key(2))));
    assert!(around.core.status().unknown_proposer.is_some_and(|unknown| unknown.count >= 250));
    assert!(around.asked.ranges.len() < 60, "{}", around.asked.ranges.len());
    assert_eq!(around.core.standing(1).failures, 0);
}

/// Nobody's signature was checked: whatever they claim is bounded, and decides nothing.
#[test]
fn claims_of_unknown_proposers_are_bounded_and_the_one_that_is_made_most_is_told() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let fault = |height, name: u16| {
        let mut proposer = PublicKey([9; 32]);
        proposer.0[..2].copy_from_slice(&name.to_le_bytes());
        (Fault::NotScheduled { height: h(height), proposer }, proposer)
    };
    let (_, most) = fault(9, 7);
    for name in 0..5_000 {
        let effects = core.gossip_effects(1, Err(fault(u64::from(name) + 3, name).0));
        assert_eq!(penalties(&effects), []);
        let _ = core.gossip_effects(1, Err(fault(9 + u64::from(name), 7).0));
    }
    let told = core.status().unknown_proposer.expect("it is told");
    assert_eq!(told, UnknownProposer { height: h(9), proposer: most, count: 5_001 });
    assert_eq!(core.target(), Some(blocks[1].id()));
}

#[test]
fn a_head_that_is_claimed_and_never_served_stops_nothing() {
    let blocks = chain(300);
    let mut around = follower_of(&blocks);
    // Its head is of nobody, and far above everything; it serves nothing.
    let far = rotated(400);
    (1..=20).for_each(|name| around.meet(name, Kind::HeadOnly, &far[399..]));
    around.pass(Duration::from_mins(1));
    around.meet(30, Kind::Serves, &blocks);
    let took = around.takes(Duration::from_mins(1), |around| around.soft() == 300);
    assert!(took.is_some_and(|took| took < Duration::from_secs(3)), "{took:?}");
    assert!(!around.core.status().history_unavailable);
}

/// It had blocks of another proposer there, and has others now.
#[test]
fn whoever_has_a_head_that_we_know_is_asked_again() {
    let blocks = chain(9);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let fetch = range_request(&core.connect_at(1, &blocks[7]));
    let fault = Fault::NotScheduled { height: h(2), proposer: public_key(2) };
    let _ = core.answer(fetch.request, &[], FetchOutcome::Invalid(Some(fault)));
    let _ = core.give(Input::GossipMissed { peer: peer(1) });
    let effects = core.pass(Setup::follower().config.timing.gossip_grace);
    assert_eq!(ranges(&effects), []);
    let effects = core.answer(fetches(&effects)[0].request, &blocks[8..], FetchOutcome::Complete);
    assert_eq!(ranges(&effects), [(peer(1), 2, 6)]);
}

#[test]
fn a_claimed_head_is_no_target() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let probe = core.connect(1);
    let fault = Fault::NotScheduled { height: h(900), proposer: public_key(2) };
    let _ = core.answer(probe, &[], FetchOutcome::Invalid(Some(fault)));
    assert_eq!(core.target(), Some(blocks[0].id()));
    assert!(!core.status().forked);
}

// ------------------------------------------------------------------------------------- a wrong entry

#[test]
fn a_wrong_entry_above_soft_can_be_withdrawn() {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks[..2], 0).start();
    let _ = core.operator_may(rotation(3));
    let _ = core.operator_may(rotation(9));
    let checked = core.syncer().rules().check(Lane::BLOCK, blocks[2].block().bytes());
    assert_eq!(verdict(&core.gossip_effects(1, checked)), Verdict::Ignore);
    assert!(core.status().unknown_proposer.is_some());
    let effects = core.operator_may(Command::WithdrawSchedule(h(3)));
    assert_eq!(changes(&effects), [Change::WithdrawSchedule(h(3))]);
    assert_eq!(core.status().unknown_proposer, None);
    assert_eq!(core.gossip(&blocks[2]), Verdict::Accept);
    assert_eq!(core.soft(), Some(blocks[2].id()));
    let entries: Vec<_> = core.syncer().rules().schedule.entries().map(|entry| entry.from.get()).collect();
    assert_eq!(entries, [1, 9]);
}

/// What is pending, or the target, was signed by somebody who was not to sign.
#[test]
fn what_the_withdrawn_key_signed_is_forgotten() {
    let blocks = rotated(LAST_OF_THE_FIRST + 4);
    let (soft, above) = blocks.split_at(LAST_OF_THE_FIRST);
    let mut core = Setup::follower().storing(soft, 0).start();
    let from = LAST_OF_THE_FIRST as u64 + 1;
    let _ = core.operator_may(rotation(from));
    assert_eq!(core.gossip(&above[2]), Verdict::Accept);
    assert_eq!((core.status().held_blocks, core.target()), (1, Some(above[2].id())));
    let _ = core.operator_may(Command::WithdrawSchedule(h(from)));
    assert_eq!((core.status().held_blocks, core.target()), (0, core.soft()));
    // Nor does it come back.
    assert_eq!(core.gossip(&above[0]), Verdict::Ignore);
    assert_eq!(core.target(), core.soft());
}

#[test]
fn what_was_decided_under_an_entry_keeps_it() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let entry =
        |from, proposer| Command::ExtendSchedule(ScheduleEntry { from: h(from), proposer: public_key(proposer) });
    let _ = core.operator_may(entry(4, 1));
    assert_eq!(core.gossip(&Spec::of("a").on(Some(&blocks[2]))), Verdict::Accept);
    for (from, why) in [(4, "not above the soft head"), (1, "not above the soft head"), (6, "no entry begins")] {
        let refusal = core.operator_is_refused(Command::WithdrawSchedule(h(from)));
        assert!(refusal.contains(why), "{from}: {refusal}");
    }
    // Nor one of the genesis file, while nothing is stored.
    let mut setup = Setup::follower();
    let second = ScheduleEntry { from: h(7), proposer: public_key(2) };
    setup.config.rules.schedule.append(second).expect("it fits");
    let mut core = setup.start();
    for from in [1, 7] {
        let refusal = core.operator_is_refused(Command::WithdrawSchedule(h(from)));
        assert!(refusal.contains("genesis"), "{refusal}");
    }
}

// ------------------------------------------------------------------------------------- what a signer waits for

fn signs(core: &mut Core, next: &AuthenticBlock) {
    let effects = core.propose(proposal(next));
    assert!(asks_for_signature(&effects), "{effects:#?}");
}

fn waits_for(core: &mut Core, next: &AuthenticBlock, height: u64) {
    let answer = core.refusal(proposal(next));
    let why = format!("block {height} is proved to exist");
    assert!(matches!(&answer, PublishAnswer::NotReady(text) if text.contains(&why)), "{answer:?}");
}

/// Its own key's, before a backup was put back: whoever told of it may be gone by now.
#[test]
fn a_change_of_the_schedule_forgets_nothing_that_who_proposes_there_has_signed() {
    let blocks = chain(8);
    let add = |from, proposer| Command::ExtendSchedule(ScheduleEntry { from: h(from), proposer: public_key(proposer) });
    let mut core = Setup::signer().storing(&blocks[..2], 0).start();
    assert_eq!(core.gossip(&blocks[5]), Verdict::Accept);
    let other = branch(&blocks[..2], "b", 1).remove(0);
    // The same key once more, and another one above.
    for command in [add(3, 1), add(7, 2), Command::WithdrawSchedule(h(7)), Command::WithdrawSchedule(h(3))] {
        let _ = core.operator_may(command);
        waits_for(&mut core, &other, 6);
    }
}

/// Nobody will store it: who signed it is not to propose there.
#[test]
fn what_is_awaited_of_another_proposer_is_awaited_no_more() {
    let blocks = chain(6);
    let mut core = Setup::signer().storing(&blocks[..2], 0).start();
    assert_eq!(core.gossip(&blocks[5]), Verdict::Accept);
    let other = branch(&blocks[..2], "b", 1).remove(0);
    waits_for(&mut core, &other, 6);
    let _ = core.operator_may(rotation(6));
    signs(&mut core, &other);
}

/// A stranger's key has signed its head, and it has nothing.
#[test]
fn who_lies_about_its_head_says_nothing_of_history() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let probe = core.connect(1);
    let fault = Fault::NotScheduled { height: h(900), proposer: public_key(2) };
    let mut effects = core.answer(probe, &[], FetchOutcome::Invalid(Some(fault.clone())));
    for _ in 0..6 {
        for fetch in fetches(&effects) {
            let outcome = match fetch.query {
                BlockQuery::Head => FetchOutcome::Invalid(Some(fault.clone())),
                _ => FetchOutcome::NotFound,
            };
            let _ = core.answer(fetch.request, &[], outcome);
            assert!(!core.status().history_unavailable);
        }
        effects = core.pass(Duration::from_secs(10));
    }
    assert!(core.status().unknown_proposer.is_some());
}
