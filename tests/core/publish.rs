//! Publishing: what is made of a proposal, and why it is refused.

use std::time::Duration;

use blocksyncd::block::{Hash, native};
use blocksyncd::sync::{
    Anchor, Answer, Change, Command, Effect, GuardEntry, Halt, Input, Origin, Proposal, PublishAnswer, Ticket, Verdict,
};
use blocksyncd::verify::{AuthenticBlock, Fault};

use super::blocks::{MAX_BLOCK_BYTES, Spec, branch, chain, h, proposal, public_key};
use super::driver::{Core, Setup, ahead, answers, asks_for_signature, at, broadcasts, commits, published, signed};

fn not_ready(answer: &PublishAnswer, why: &str) {
    assert!(matches!(answer, PublishAnswer::NotReady(text) if text.contains(why)), "{answer:?}");
}

fn invalid(answer: &PublishAnswer, why: &str) {
    assert!(matches!(answer, PublishAnswer::Invalid(text) if text.contains(why)), "{answer:?}");
}

#[test]
fn a_block_is_signed_then_stored_with_its_guard_then_told() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    core.hold_writes();
    let effects = core.propose(proposal(&block));
    assert_eq!(effects.len(), 2, "the heads, once, and the question: {effects:#?}");
    assert_eq!(signed(&effects).1, block);
    assert_eq!(core.soft(), None);

    let effects = core.sign(&effects);
    let [Effect::Commit(batch), Effect::Announce(heads), Effect::Broadcast(id), Effect::Reply { answer, .. }] =
        effects.as_slice()
    else {
        panic!("{effects:#?}")
    };
    assert!(matches!(batch.changes.as_slice(), [Change::Append { block: stored, origin: Origin::Published }]
        if stored.block() == block.block()));
    assert_eq!(batch.guard, Some(GuardEntry { last: block.id() }));
    assert_eq!((batch.heads, heads.soft_id(), *id), (*heads, Some(block.id()), block.id()));
    assert_eq!(*answer, Answer::Publish(PublishAnswer::Accepted(block.id())));
    assert_eq!(core.status().received.published, 1);
}

#[test]
fn the_same_proposal_again_changes_nothing_and_is_broadcast_again() {
    let blocks = chain(3);
    let mut core = Setup::signer().storing(&blocks, 1).start();
    for block in &blocks {
        let effects = core.propose(proposal(block));
        assert_eq!(published(&effects), PublishAnswer::Duplicate(block.id()));
        assert_eq!(broadcasts(&effects), [block.id()]);
        assert_eq!(commits(&effects), []);
    }
}

#[test]
fn another_block_at_a_stored_height_is_a_conflict() {
    let blocks = chain(3);
    let mut core = Setup::signer().storing(&blocks, 1).start();
    for (index, ours) in blocks.iter().enumerate() {
        let other = branch(&blocks[..index], "b", 1).remove(0);
        for parent in [other.parent_hash(), None] {
            let effects = core.propose(with_parent(proposal(&other), parent));
            assert_eq!(published(&effects), PublishAnswer::Conflict(ours.id()));
            assert_eq!((broadcasts(&effects), commits(&effects)), (vec![], vec![]));
        }
        // On another parent, too.
        let wrong = with_parent(proposal(ours), Some(other.hash()));
        assert_eq!(core.refusal(wrong), PublishAnswer::Conflict(ours.id()));
    }
}

/// A proposal that names another parent.
fn with_parent(proposal: Proposal, parent: Option<Hash>) -> Proposal {
    Proposal { parent, ..proposal }
}

#[test]
fn only_the_next_height_on_the_soft_head_can_be_published() {
    let blocks = chain(5);
    let mut core = Setup::signer().storing(&blocks[..3], 0).start();
    let expected = PublishAnswer::NotNext { height: h(4), parent: Some(blocks[2].hash()) };
    assert_eq!(core.refusal(proposal(&blocks[4])), expected);
    let elsewhere = with_parent(proposal(&blocks[3]), Some(blocks[1].hash()));
    assert_eq!(core.refusal(elsewhere), expected);
    assert!(asks_for_signature(&core.propose(with_parent(proposal(&blocks[3]), None))));
}

#[test]
fn what_the_host_signed_on_something_else_than_the_soft_head_is_not_next() {
    let blocks = chain(5);
    let stray = branch(&branch(&[], "b", 3), "b", 1).remove(0);
    let mut core = Setup::signer().storing(&blocks[..3], 0).start();
    for wrong in [&blocks[4], &stray] {
        let expected = PublishAnswer::NotNext { height: h(4), parent: Some(blocks[2].hash()) };
        assert_eq!(core.publish_signed(wrong), expected);
    }
    // What was refused is not in the way.
    assert_eq!(core.publish_signed(&blocks[3]), PublishAnswer::Accepted(blocks[3].id()));
}

/// Each proposal needs it.
#[test]
fn the_soft_head_is_known_without_a_look_at_the_store() {
    let blocks = chain(3);
    let mut core = Setup::signer().storing(&blocks[..2], 0).start();
    core.lose_disk();
    assert_eq!(published(&core.publish(proposal(&blocks[2]))), PublishAnswer::Accepted(blocks[2].id()));
}

#[test]
fn the_first_block_has_no_parent() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let elsewhere = with_parent(proposal(&block), Some(block.hash()));
    assert_eq!(core.refusal(elsewhere), PublishAnswer::NotNext { height: h(1), parent: None });
    let effects = core.propose(proposal(&block));
    assert_eq!(signed(&effects).1.parent_hash(), None);
}

#[test]
fn nothing_is_published_below_the_tail() {
    let blocks = chain(4);
    let mut setup = Setup::signer().storing(&blocks, 3);
    setup.at.heads.tail = h(3);
    let mut core = setup.start();
    invalid(&core.refusal(proposal(&blocks[1])), "lowest that is kept");
    // At the tail the parent is gone: only a proposal that names none can be compared.
    let at_tail = with_parent(proposal(&blocks[2]), None);
    assert_eq!(core.refusal(at_tail), PublishAnswer::Conflict(blocks[2].id()));
    assert_eq!(core.refusal(proposal(&blocks[3])), PublishAnswer::Duplicate(blocks[3].id()));
}

#[test]
fn a_host_id_has_a_longest_length() {
    let longest = Spec { host_id: vec![7; native::MAX_HOST_ID_BYTES].into(), ..Spec::of("a") }.on(None);
    let mut core = Setup::signer().start();
    let mut too_long = proposal(&longest);
    too_long.host_id = vec![7; native::MAX_HOST_ID_BYTES + 1].into();
    invalid(&core.refusal(too_long), "hostId");
    assert!(asks_for_signature(&core.propose(proposal(&longest))));
}

#[test]
fn a_block_has_a_largest_size() {
    let sized = |payload: usize| Spec { payload: vec![7; payload].into(), ..Spec::of("a") };
    let overhead = sized(1_000).on(None).size() - 1_000;
    let largest = sized(MAX_BLOCK_BYTES - overhead).on(None);
    assert_eq!(largest.size(), MAX_BLOCK_BYTES);
    let mut core = Setup::signer().start();
    let mut too_large = proposal(&largest);
    too_large.payload = vec![7; MAX_BLOCK_BYTES - overhead + 1].into();
    assert_eq!(core.refusal(too_large), PublishAnswer::TooLarge { max_block_bytes: MAX_BLOCK_BYTES });
    assert!(asks_for_signature(&core.propose(proposal(&largest))));
}

#[test]
fn its_time_is_between_its_parents_and_the_clocks() {
    let parent = chain(1).remove(0);
    let of = |nanos| Spec { time_unix_nanos: Some(nanos), ..Spec::of("b") }.on(Some(&parent));
    let core = || Setup::signer().storing(std::slice::from_ref(&parent), 0).start();
    let latest = ahead(&core(), 0);
    for sound in [parent.time_unix_nanos(), latest] {
        assert!(asks_for_signature(&core().propose(proposal(&of(sound)))), "{sound}");
        assert_eq!(core().publish_signed(&of(sound)), PublishAnswer::Accepted(of(sound).id()));
    }
    let too_early = of(parent.time_unix_nanos() - 1);
    invalid(&core().refusal(proposal(&too_early)), "before its parent's");
    invalid(&core().publish_signed(&too_early), "before its parent's");
    // Time passes, and clocks are set.
    let too_late = of(latest + 1_000_000);
    for answer in [core().refusal(proposal(&too_late)), core().publish_signed(&too_late)] {
        let retry = Duration::from_millis(1);
        assert!(
            matches!(&answer, PublishAnswer::NotYet { why, retry_after } if why.contains("both clocks") && *retry_after == retry),
            "{answer:?}"
        );
    }
}

#[test]
fn who_may_not_sign_says_why() {
    let block = chain(1).remove(0);
    let mut setup = Setup::signer();
    setup.config.signs = None;
    let mut core = setup.start();
    not_ready(&core.refusal(proposal(&block)), "no signer");
    let _ = core.give(Input::Signer(Some(public_key(2))));
    not_ready(&core.refusal(proposal(&block)), "this node signs with");
    let _ = core.give(Input::Signer(Some(public_key(1))));
    assert!(asks_for_signature(&core.propose(proposal(&block))));
}

#[test]
fn one_block_is_signed_at_a_time_and_the_others_wait_in_order() {
    let blocks = chain(4);
    let mut core = Setup::signer().limits(|limits| limits.publish_queue = 2).start();
    let first = core.propose(proposal(&blocks[0]));
    for block in &blocks[1..3] {
        assert_eq!(core.propose(proposal(block)), [], "it waits");
    }
    assert_eq!(core.refusal(proposal(&blocks[3])), PublishAnswer::Overloaded);
    let second = core.sign(&first);
    assert_eq!(published(&second), PublishAnswer::Accepted(blocks[0].id()));
    assert_eq!(signed(&second).1, blocks[1]);
    let third = core.sign(&second);
    assert_eq!(published(&third), PublishAnswer::Accepted(blocks[1].id()));
    let last = core.sign(&third);
    assert_eq!(published(&last), PublishAnswer::Accepted(blocks[2].id()));
    assert!(!asks_for_signature(&last));
}

/// Its guard stands above that of the commit, and must not be overtaken by it.
#[test]
fn the_next_signature_is_asked_for_after_the_commit_before_it() {
    let blocks = chain(2);
    let mut core = Setup::signer().start();
    let first = core.propose(proposal(&blocks[0]));
    let _ = core.propose(proposal(&blocks[1]));
    core.hold_writes();
    let effects = core.sign(&first);
    let place = |wanted: fn(&Effect) -> bool| effects.iter().position(wanted).expect("it is there");
    let commit = place(|effect| matches!(effect, Effect::Commit(batch) if batch.guard.is_some()));
    let sign = place(|effect| matches!(effect, Effect::Sign { .. }));
    assert!(commit < sign, "{effects:#?}");
}

#[test]
fn a_signer_that_fails_is_asked_for_the_same_block_again_and_for_no_other() {
    let block = chain(1).remove(0);
    let other = branch(&[], "b", 1).remove(0);
    let mut core = Setup::signer().start();
    let (ticket, _) = signed(&core.propose(proposal(&block)));
    let effects = core.give(Input::Signed { ticket, outcome: Err("away".to_owned()) });
    assert_eq!(published(&effects), PublishAnswer::NotReady("away".to_owned()));
    assert_eq!(commits(&effects), []);
    assert_eq!(core.refusal(proposal(&other)), PublishAnswer::Conflict(block.id()));
    let effects = core.publish(proposal(&block));
    assert_eq!(published(&effects), PublishAnswer::Accepted(block.id()));
}

#[test]
fn what_waited_goes_on_when_the_signer_fails() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let (ticket, _) = signed(&core.propose(proposal(&block)));
    let _ = core.propose(proposal(&block));
    let effects = core.give(Input::Signed { ticket, outcome: Err("away".to_owned()) });
    assert_eq!(signed(&effects).1, block);
}

#[test]
fn a_signature_of_something_else_is_not_taken() {
    let (block, other) = (chain(1).remove(0), branch(&[], "b", 1).remove(0));
    let mut core = Setup::signer().start();
    let (ticket, _) = signed(&core.propose(proposal(&block)));
    assert_eq!(core.give(Input::Signed { ticket: Ticket(77), outcome: Ok(block.clone()) }), [], "nobody asked");
    let effects = core.give(Input::Signed { ticket, outcome: Ok(other) });
    not_ready(&published(&effects), "another block");
    assert_eq!(core.soft(), None);
    assert_eq!(core.give(Input::Signed { ticket, outcome: Ok(block) }), [], "it was given up");
}

#[test]
fn what_came_while_the_signer_thought_is_looked_at_again() {
    let (block, other) = (chain(1).remove(0), branch(&[], "b", 1).remove(0));
    for (came, answer) in
        [(&block, PublishAnswer::Duplicate(block.id())), (&other, PublishAnswer::Conflict(other.id()))]
    {
        let mut core = Setup::signer().start();
        let question = core.propose(proposal(&block));
        assert_eq!(core.gossip(came), Verdict::Accept);
        let effects = core.sign(&question);
        assert_eq!(published(&effects), answer);
        assert_eq!(core.soft(), Some(came.id()));
    }
}

#[test]
fn a_halt_while_the_signer_thinks_keeps_the_block_back() {
    let blocks = chain(2);
    let other = branch(&[], "b", 1);
    let mut core = Setup::signer().storing(&blocks[..1], 0).start();
    let question = core.propose(proposal(&blocks[1]));
    let _ = core.da_has(&other);
    let effects = core.sign(&question);
    assert!(matches!(published(&effects), PublishAnswer::Halted(_)));
    assert_eq!(core.soft(), Some(blocks[0].id()));
    // A signer that failed says so, halted or not.
    let mut core = Setup::signer().storing(&blocks[..1], 0).start();
    let (ticket, _) = signed(&core.propose(proposal(&blocks[1])));
    let _ = core.da_has(&other);
    let effects = core.give(Input::Signed { ticket, outcome: Err("away".to_owned()) });
    not_ready(&published(&effects), "away");
}

#[test]
fn a_halt_says_what_an_operator_has_to_do() {
    let blocks = chain(2);
    let [ours, da] = [blocks[0].id(), branch(&[], "b", 1)[0].id()];
    let position = at(7, 3);
    let diverged = format!(
        "DA height 7 has block {da} where {ours} is stored: an operator must abandon the branch \
         (ctl abandon-branch {ours}); but when that was reported wrongly, have it reported anew: ctl rescan-da --from 7"
    );
    let contradicted = format!(
        "DA height 7 names something else than {ours}: an operator must find out whether the host named it rightly (then \
         ctl abandon-branch {ours}), or not (then have it reported anew: ctl rescan-da --from 7)"
    );
    let hard_contradicted = format!(
        "DA height 7 has {da}, where {ours} became hard: one of the two was reported wrongly. When it \
         is this one, have it reported anew (ctl rescan-da --from 7); else this store must be made anew"
    );
    for (halt, said) in [
        (Halt::Diverged { ours, da, position }, diverged),
        (Halt::Contradicted { ours, position }, contradicted),
        (Halt::HardContradicted { hard: ours, da, position }, hard_contradicted),
    ] {
        let mut setup = Setup::signer().storing(&blocks[..1], 0);
        setup.at.halted = Some(halt);
        assert_eq!(setup.start().refusal(proposal(&blocks[1])), PublishAnswer::Halted(said));
    }
}

#[test]
fn a_block_that_the_host_signed_is_stored_at_once() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let ticket = core.ticket();
    let effects = core.give(Input::PublishSigned { ticket, outcome: Ok(block.clone()) });
    assert_eq!(answers(&effects), [(ticket, Answer::Publish(PublishAnswer::Accepted(block.id())))]);
    assert_eq!(broadcasts(&effects), [block.id()]);
    assert_eq!(commits(&effects)[0].guard, Some(GuardEntry { last: block.id() }));
    assert_eq!(core.publish_signed(&block), PublishAnswer::Duplicate(block.id()));
}

#[test]
fn of_a_block_that_the_host_signed_badly_it_is_told_what_is_wrong() {
    let mut core = Setup::signer().start();
    let mut refuse = |fault| {
        let ticket = core.ticket();
        published(&core.give(Input::PublishSigned { ticket, outcome: Err(fault) }))
    };
    invalid(&refuse(Fault::BadSignature), "signature");
    let too_large = blocksyncd::block::Malformed::TooLarge { len: 9, max: 8 };
    assert_eq!(refuse(Fault::Malformed(too_large)), PublishAnswer::TooLarge { max_block_bytes: 8 });
}

#[test]
fn a_signed_block_does_not_overtake_one_that_is_being_signed() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let question = core.propose(proposal(&block));
    assert_eq!(core.publish_signed(&block), PublishAnswer::Overloaded);
    assert_eq!(published(&core.sign(&question)), PublishAnswer::Accepted(block.id()));
}

/// A core that stores one block, and what each way to ask for the next one is answered.
fn refusals(prepare: impl Fn(&mut Core), next: &AuthenticBlock, base: &[AuthenticBlock]) -> [PublishAnswer; 2] {
    let core = || {
        let mut core = Setup::signer().storing(base, 0).start();
        prepare(&mut core);
        core
    };
    [core().refusal(proposal(next)), core().publish_signed(next)]
}

#[test]
fn nothing_is_published_while_it_must_not_be() {
    let blocks = chain(4);
    let base = &blocks[..1];
    let drained = |core: &mut Core| drop(core.give(Input::Drain));
    assert_eq!(refusals(drained, &blocks[1], base), [PublishAnswer::Draining, PublishAnswer::Draining]);
    let full = |core: &mut Core| drop(core.give(Input::StorageFull(true)));
    assert_eq!(refusals(full, &blocks[1], base), [PublishAnswer::StorageFull, PublishAnswer::StorageFull]);
    for answer in refusals(|core| assert_eq!(core.gossip(&blocks[3]), Verdict::Accept), &blocks[1], base) {
        not_ready(&answer, "block 4 is proved to exist");
    }
    let veto = |core: &mut Core| {
        assert_eq!(core.gossip(&blocks[1]), Verdict::Accept);
        let _ = core.reject(blocks[1].id());
    };
    for answer in refusals(veto, &blocks[1], base) {
        not_ready(&answer, "veto");
    }
    let other = branch(&[], "b", 1);
    for answer in refusals(|core| drop(core.da_has(&other)), &blocks[1], base) {
        assert!(matches!(answer, PublishAnswer::Halted(_)), "{answer:?}");
    }
}

#[test]
fn free_disk_space_lets_publishing_go_on() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let _ = core.give(Input::StorageFull(true));
    assert!(core.status().storage_full);
    let _ = core.give(Input::StorageFull(false));
    assert_eq!(core.publish_signed(&block), PublishAnswer::Accepted(block.id()));
}

/// They would else wait for a signature that nobody will ask for.
#[test]
fn a_full_disk_answers_those_who_wait() {
    let blocks = chain(2);
    let mut core = Setup::signer().start();
    let question = core.propose(proposal(&blocks[0]));
    assert_eq!(core.propose(proposal(&blocks[1])), []);
    let _ = core.give(Input::StorageFull(true));
    let effects = core.sign(&question);
    let given: Vec<_> = answers(&effects).into_iter().map(|(_, answer)| answer).collect();
    assert_eq!(given, [PublishAnswer::Accepted(blocks[0].id()), PublishAnswer::StorageFull].map(Answer::Publish));
}

#[test]
fn no_more_is_taken_than_the_disk_keeps_up_with() {
    let blocks = chain(3);
    let size = blocks[0].size();
    let mut core = Setup::signer().limits(|limits| limits.commit_bytes = size).start();
    core.hold_writes();
    assert_eq!(core.publish_signed(&blocks[0]), PublishAnswer::Accepted(blocks[0].id()));
    // As many bytes as allowed is not too many.
    assert_eq!(core.publish_signed(&blocks[1]), PublishAnswer::Accepted(blocks[1].id()));
    assert_eq!(core.publish_signed(&blocks[2]), PublishAnswer::Overloaded);
    let _ = core.write();
    assert_eq!(core.publish_signed(&blocks[2]), PublishAnswer::Accepted(blocks[2].id()));
}

#[test]
fn a_drain_answers_everybody_who_waits_and_finishes_what_was_begun() {
    let blocks = chain(3);
    let mut core = Setup::signer().start();
    let question = core.propose(proposal(&blocks[0]));
    assert_eq!(core.propose(proposal(&blocks[1])), []);
    assert_eq!(core.propose(proposal(&blocks[2])), []);
    let effects = core.give(Input::Drain);
    let draining = Answer::Publish(PublishAnswer::Draining);
    assert_eq!(answers(&effects), [(Ticket(2), draining.clone()), (Ticket(3), draining)]);
    assert_eq!(published(&core.sign(&question)), PublishAnswer::Accepted(blocks[0].id()));
    assert_eq!(core.refusal(proposal(&blocks[1])), PublishAnswer::Draining);
}

#[test]
fn a_block_is_made_by_the_scheduled_key() {
    let blocks = chain(1);
    let mut core = Setup::signer().storing(&blocks, 0).start();
    let entry = blocksyncd::verify::ScheduleEntry { from: h(2), proposer: public_key(2) };
    let _ = core.operator_may(Command::ExtendSchedule(entry));
    let next = branch(&blocks, "a", 1).remove(0);
    not_ready(&core.refusal(proposal(&next)), "the proposer at height 2 is");
    // A host that still signs with the old key; what is refused is not in the way of what is right.
    invalid(&core.publish_signed(&next), "not the scheduled one");
    let rotated = Spec { proposer: 2, ..Spec::of("a") }.on(Some(&blocks[0]));
    assert_eq!(core.publish_signed(&rotated), PublishAnswer::Accepted(rotated.id()));
}

/// Damage took the block, and it was hard: nothing else can ever stand at its height.
#[test]
fn what_was_hard_once_is_not_made_anew() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut setup = Setup::signer().storing(&blocks[..1], 1);
    setup.at.anchor = Some(Anchor { id: blocks[1].id(), position: at(5, 0) });
    let mut core = setup.start();
    assert_eq!(core.refusal(proposal(&other)), PublishAnswer::Conflict(blocks[1].id()));
    assert_eq!(core.publish_signed(&other), PublishAnswer::Conflict(blocks[1].id()));
    assert_eq!(core.publish_signed(&blocks[1]), PublishAnswer::Accepted(blocks[1].id()));
}
