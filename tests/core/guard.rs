//! The guard: a key never signs two blocks of one height, and an operator's word is the only thing that lowers it.

use blocksyncd::block::BlockId;
use blocksyncd::sync::{
    Change, Command, Disowned, DisownedBy, Effect, GuardEntry, GuardState, Halt, Input, PublishAnswer,
};
use blocksyncd::verify::{AuthenticBlock, ScheduleEntry};

use super::blocks::{Spec, branch, chain, h, proposal, public_key};
use super::driver::{Core, Setup, asks_for_signature, at, changes, commits, published};

fn signed(last: BlockId) -> GuardState {
    GuardState::Signed(GuardEntry { last })
}

fn not_ready(core: &mut Core, block: &AuthenticBlock, why: &str) {
    for answer in [core.refusal(proposal(block)), core.publish_signed(block)] {
        assert!(matches!(&answer, PublishAnswer::NotReady(text) if text.contains(why)), "{answer:?}");
    }
    assert!(core.status().not_ready.is_some_and(|text| text.contains(why)));
}

#[test]
fn without_a_guard_nothing_is_signed() {
    let blocks = chain(1);
    let mut core = Setup::signer().guard(GuardState::Missing).start();
    not_ready(&mut core, &blocks[0], "guard file is missing or damaged");
    let effects = core.operator_may(Command::AssertSigned(None));
    assert_eq!(changes(&effects), [Change::ResetGuard(None)]);
    assert_eq!(core.status().not_ready, None);
    assert_eq!(published(&core.publish(proposal(&blocks[0]))), PublishAnswer::Accepted(blocks[0].id()));
}

#[test]
fn a_follower_misses_no_guard() {
    assert_eq!(Setup::follower().start().status().not_ready, None);
}

#[test]
fn a_guard_ahead_of_the_store_waits_until_the_store_is_there() {
    let blocks = chain(4);
    let mut core = Setup::signer().storing(&blocks[..1], 0).guard(signed(blocks[2].id())).start();
    not_ready(&mut core, &blocks[1], "this key has signed up to");
    let _ = core.gossip(&blocks[1]);
    assert!(core.status().not_ready.is_some());
    let _ = core.gossip(&blocks[2]);
    assert_eq!(core.status().not_ready, None);
    assert!(asks_for_signature(&core.propose(proposal(&blocks[3]))));
}

#[test]
fn what_was_signed_last_may_be_signed_again_and_nothing_else_at_its_height() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = Setup::signer().storing(&blocks[..1], 0).guard(signed(blocks[1].id())).start();
    assert_eq!(core.refusal(proposal(&other)), PublishAnswer::Conflict(blocks[1].id()));
    assert_eq!(core.publish_signed(&other), PublishAnswer::Conflict(blocks[1].id()));
    assert_eq!(published(&core.publish(proposal(&blocks[1]))), PublishAnswer::Accepted(blocks[1].id()));
}

#[test]
fn nothing_is_signed_on_a_branch_without_what_was_signed_before() {
    let (blocks, others) = (chain(2), branch(&[], "b", 1));
    for (guard, goes) in [(blocks[0].id(), true), (others[0].id(), false)] {
        let mut core = Setup::signer().storing(&blocks[..1], 0).guard(signed(guard)).start();
        let effects = core.propose(proposal(&blocks[1]));
        assert_eq!(asks_for_signature(&effects), goes);
        if !goes {
            let PublishAnswer::Halted(why) = published(&effects) else { panic!("{effects:?}") };
            assert_eq!(core.status().not_ready, Some(why), "the status says the same");
            let _ = core.operator_may(Command::AssertSigned(Some(blocks[0].id())));
        }
        assert_eq!(core.status().not_ready, None);
    }
}

/// It stands above soft for as long as the block is on its way.
#[test]
fn a_signature_that_is_awaited_makes_nobody_unready() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let question = core.propose(proposal(&block));
    assert_eq!(core.status().not_ready, None);
    let _ = core.sign(&question);
    assert_eq!(core.status().not_ready, None);
}

#[test]
fn only_a_batch_with_a_block_of_ours_carries_the_guard() {
    let blocks = chain(2);
    let mut core = Setup::signer().start();
    let effects = core.publish(proposal(&blocks[0]));
    assert_eq!(commits(&effects)[0].guard, Some(GuardEntry { last: blocks[0].id() }));
    let effects = core.da_has(&blocks[..1]);
    assert_eq!(commits(&effects)[0].guard, None);
}

#[test]
fn an_operator_replaces_a_guard_that_names_what_is_not_here() {
    let (blocks, lost) = (chain(2), branch(&[], "b", 1).remove(0));
    let mut core = Setup::signer().storing(&blocks[..1], 0).guard(signed(lost.id())).start();
    let effects = core.operator_may(Command::AssertSigned(Some(blocks[0].id())));
    assert_eq!(changes(&effects), [Change::ResetGuard(Some(blocks[0].id()))]);
    assert!(asks_for_signature(&core.propose(proposal(&blocks[1]))));
}

#[test]
fn an_operator_does_not_replace_a_sound_guard() {
    let blocks = chain(3);
    let mut core = Setup::signer().storing(&blocks[..2], 0).guard(signed(blocks[1].id())).start();
    for word in [None, Some(blocks[0].id()), Some(blocks[2].id())] {
        assert!(core.operator_is_refused(Command::AssertSigned(word)).contains("the guard is sound"));
    }
    let effects = core.operator_may(Command::AssertSigned(Some(blocks[1].id())));
    assert_eq!(changes(&effects), [Change::ResetGuard(Some(blocks[1].id()))]);
}

/// An operator who does not know what was signed must not guess below what can be seen here.
#[test]
fn what_is_stored_contradicts_a_word_about_the_guard() {
    let blocks = chain(4);
    let rival = branch(&blocks[..1], "b", 1).remove(0);
    let core = || Setup::signer().storing(&blocks[..3], 0).guard(GuardState::Missing).start();
    for word in [None, Some(blocks[0].id()), Some(rival.id())] {
        assert!(core().operator_is_refused(Command::AssertSigned(word)).contains("which is stored here"), "{word:?}");
    }
    let other = branch(&blocks[..2], "b", 1).remove(0);
    assert!(core().operator_is_refused(Command::AssertSigned(Some(other.id()))).contains("another block"));
    // What it says first is true from then on, if its block is here.
    let mut core = core();
    let _ = core.operator_may(Command::AssertSigned(Some(blocks[2].id())));
    for word in [None, Some(blocks[1].id()), Some(blocks[3].id())] {
        assert!(core.operator_is_refused(Command::AssertSigned(word)).contains("the guard is sound"));
    }
    assert!(asks_for_signature(&core.propose(proposal(&blocks[3]))));
}

#[test]
fn blocks_of_another_key_say_nothing_of_this_one() {
    let blocks = chain(2);
    let mut setup = Setup::signer().storing(&blocks, 0).guard(GuardState::Missing);
    setup.config.signs = Some(public_key(2));
    setup.at.schedule = vec![ScheduleEntry { from: h(3), proposer: public_key(2) }];
    let mut core = setup.start();
    let _ = core.operator_may(Command::AssertSigned(None));
    let next = Spec { proposer: 2, ..Spec::of("a") }.on(Some(&blocks[1]));
    assert!(asks_for_signature(&core.propose(proposal(&next))));
}

/// What the key signed last is lost with its disk, and what somebody else signed with it has lost on DA: nothing is in the way of a word.
#[test]
fn evidence_of_what_has_lost_on_da_contradicts_no_word_about_the_guard() {
    let blocks = chain(4);
    let mut core = Setup::signer().storing(&blocks[..2], 1).guard(signed(blocks[3].id())).start();
    let _ = core.gossip(&branch(&blocks[..1], "b", 2)[1]);
    let word = Command::AssertSigned(Some(blocks[1].id()));
    assert!(core.operator_is_refused(word.clone()).contains("ctl evidence"));
    let _ = core.da_has(&blocks[1..2]);
    let _ = core.operator_may(word);
    assert!(asks_for_signature(&core.propose(proposal(&blocks[2]))));
}

#[test]
fn evidence_contradicts_a_word_about_the_guard() {
    let blocks = chain(2);
    let stray = branch(&branch(&[], "b", 2), "b", 1).remove(0);
    let mut core = Setup::signer().storing(&blocks, 0).guard(GuardState::Missing).start();
    let _ = core.gossip(&stray);
    let word = Command::AssertSigned(Some(blocks[1].id()));
    assert!(core.operator_is_refused(word).contains("ctl evidence"));
    let _ = core.operator_may(Command::AssertSigned(Some(stray.id())));
}

/// A power cut came between the two files: the block is stored, may have reached others, and its height must not be signed again
/// after the store alone was restored.
#[test]
fn at_a_start_the_guard_is_raised_to_what_is_stored() {
    let blocks = chain(3);
    let raised = |setup: Setup| {
        let effects = setup.start().give(Input::Wakeup);
        commits(&effects).first().and_then(|batch| batch.guard).map(|guard| guard.last)
    };
    for guard in [GuardState::Unused, signed(blocks[1].id())] {
        assert_eq!(raised(Setup::signer().storing(&blocks, 0).guard(guard)), Some(blocks[2].id()));
    }
    let lost = branch(&blocks[..1], "b", 1).remove(0);
    for guard in [GuardState::Missing, signed(blocks[2].id()), signed(lost.id())] {
        assert_eq!(raised(Setup::signer().storing(&blocks, 0).guard(guard)), None, "{guard:?}");
    }
    assert_eq!(raised(Setup::follower().storing(&blocks, 0)), None);
    // What DA had decided against: the power cut came while it was taken back.
    let mut setup = Setup::signer().storing(&blocks, 0).guard(GuardState::Unused);
    setup.at.disowned = vec![Disowned { id: blocks[1].id(), by: DisownedBy::Da }];
    assert_eq!(raised(setup), Some(blocks[0].id()));
}

#[test]
fn no_word_about_the_guard_while_a_signature_is_awaited() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let question = core.propose(proposal(&block));
    for command in [Command::AssertSigned(None), Command::AbandonBranch(block.id())] {
        assert!(core.operator_is_refused(command).contains("a signature is awaited"));
    }
    let _ = core.operator_may(Command::LiftVeto);
    let _ = core.sign(&question);
    assert!(core.operator_is_refused(Command::AssertSigned(None)).contains("the guard is sound"));
}

/// What was signed on the branch that is given up may be signed anew.
#[test]
fn to_abandon_a_branch_resets_the_guard() {
    let blocks = chain(3);
    let other = branch(&blocks[..1], "b", 1);
    let mut core = Setup::signer().storing(&blocks, 1).guard(signed(blocks[2].id())).start();
    let _ = core.da_has(&other);
    let effects = core.operator_may(Command::AbandonBranch(blocks[1].id()));
    assert!(changes(&effects).contains(&Change::ResetGuard(Some(blocks[0].id()))), "{effects:#?}");
    assert_eq!(core.soft(), Some(other[0].id()));
    let next = branch(&[blocks[0].clone(), other[0].clone()], "c", 1).remove(0);
    let effects = core.publish(proposal(&next));
    assert_eq!(published(&effects), PublishAnswer::Accepted(next.id()));
    let batch = effects.iter().find_map(|effect| match effect {
        Effect::Commit(batch) if batch.guard.is_some() => batch.guard,
        _ => None,
    });
    assert_eq!(batch, Some(GuardEntry { last: next.id() }));
}

/// The first input of a node whose guard a power cut left behind the store is the operator's abandon-branch: it once lowered the
/// guard, and raised it in the same commit to the block that was taken back in it.
#[test]
fn what_lowers_the_guard_is_not_undone_by_what_raised_it_before() {
    let ours = chain(3);
    let lost = branch(&ours[..1], "b", 2);
    let stored: Vec<_> = ours[..1].iter().chain(&lost).cloned().collect();
    let mut setup = Setup::signer().storing(&stored, 1).guard(signed(stored[1].id()));
    setup.at.halted = Some(Halt::Diverged { ours: lost[0].id(), da: ours[1].id(), position: at(1, 0) });
    let mut core = setup.start();
    let effects = core.operator_may(Command::AbandonBranch(lost[0].id()));
    let batch = commits(&effects).remove(0);
    assert!(batch.changes.contains(&Change::ResetGuard(Some(ours[0].id()))), "{batch:#?}");
    assert_eq!(batch.guard, None, "what it raises stands above what it lowers");
}
