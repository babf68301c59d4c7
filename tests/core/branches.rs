//! Two blocks for one height: evidence, divergence from DA, the host's veto.

use std::time::Duration;

use blocksyncd::sync::{
    Basis, Change, Command, Epoch, Evidence, EvidenceId, EvidenceSide, GuardState, Halt, Input, Origin, Phase, Policy,
    PublishAnswer, RejectAnswer, Verdict,
};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{Spec, branch, chain, h, proposal};
use super::driver::{
    Core, Setup, ahead, appended, at, changes, kept_block, open, ranges, seen_block, seen_digest, verdict,
};

/// The one piece of evidence among the changes.
fn evidence(changes: &[Change]) -> Evidence {
    let [Change::Evidence(evidence)] = changes else { panic!("{changes:#?}") };
    evidence.clone()
}

// ------------------------------------------------------------------------------------------- evidence

#[test]
fn the_second_block_of_a_stored_height_is_shown_to_others_once() {
    let blocks = chain(3);
    let [second, third] = ["b", "c"].map(|name| branch(&blocks[..1], name, 1).remove(0));
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let effects = core.gossip_effects(1, Ok(second.clone()));
    assert_eq!(verdict(&effects), Verdict::Accept);
    let found = evidence(&changes(&effects));
    assert_eq!((found.id, found.height), (EvidenceId(1), h(2)));
    assert_eq!(found.first, EvidenceSide::Stored(blocks[1].id()));
    assert_eq!(found.second, second.block().signed_header());
    assert_eq!((core.heads().evidence, core.soft()), (EvidenceId(1), Some(blocks[2].id())));
    for again in [second, third] {
        let effects = core.gossip_effects(1, Ok(again));
        assert_eq!((verdict(&effects), changes(&effects)), (Verdict::Ignore, vec![]));
    }
    assert_eq!(core.gossip(&blocks[1]), Verdict::Ignore, "our own is nothing new");
}

#[test]
fn a_block_that_does_not_link_to_soft_is_evidence_against_soft() {
    let blocks = chain(2);
    let stray = branch(&branch(&[], "b", 2), "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let effects = core.gossip_effects(1, Ok(stray.clone()));
    assert_eq!(verdict(&effects), Verdict::Accept);
    let found = evidence(&changes(&effects));
    assert_eq!((found.height, found.first), (h(3), EvidenceSide::Stored(blocks[1].id())));
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[1].id()), 0));
    assert!(core.status().forked);
}

#[test]
fn evidence_is_kept_of_so_many_heights_and_the_lowest_goes_first() {
    let blocks = chain(5);
    let other = |height: usize, name: &str| branch(&blocks[..height - 1], name, 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 0).limits(|limits| limits.evidence = 2).start();
    for (block, said) in [
        (other(3, "b"), Verdict::Accept),
        (other(4, "b"), Verdict::Accept),
        (other(3, "c"), Verdict::Ignore),
        (other(5, "b"), Verdict::Accept),
        (other(4, "c"), Verdict::Ignore),
        (other(5, "c"), Verdict::Ignore),
        (other(3, "c"), Verdict::Accept),
    ] {
        assert_eq!(core.gossip(&block), said, "{:?}", block.id());
    }
    assert_eq!(core.heads().evidence, EvidenceId(4));
}

#[test]
fn evidence_found_before_a_restart_is_not_found_again() {
    let blocks = chain(2);
    let mut setup = Setup::follower().storing(&blocks, 0);
    let rival = branch(&blocks[..1], "c", 1).remove(0);
    let first = EvidenceSide::Carried(blocks[1].block().signed_header());
    let second = rival.block().signed_header();
    setup.at.evidence = vec![Evidence { id: EvidenceId(7), height: h(2), first, second }];
    setup.at.heads.evidence = EvidenceId(7);
    let mut core = setup.start();
    assert!(core.status().forked);
    assert_eq!(core.gossip(&branch(&blocks[..1], "b", 1)[0]), Verdict::Ignore);
    assert_eq!(core.gossip(&branch(&[], "b", 1)[0]), Verdict::Accept);
    assert_eq!(core.heads().evidence, EvidenceId(8));
}

#[test]
fn what_da_has_decided_needs_no_evidence() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    let _ = core.gossip(&branch(&blocks[..1], "b", 1)[0]);
    let _ = core.da_has(&blocks[..1]);
    assert!(core.status().forked, "DA has not decided about height 2");
    let _ = core.da_has(&blocks[1..]);
    assert!(!core.status().forked);
    assert_eq!(core.gossip(&branch(&blocks[..1], "c", 1)[0]), Verdict::Ignore);
}

// ----------------------------------------------------------------------------------------- divergence

#[test]
fn a_follower_takes_back_what_da_contradicts_and_nothing_else() {
    let blocks = chain(4);
    let other = branch(&blocks[..2], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let effects = core.report(0, 1, vec![seen_block(1, 3, &other), seen_block(1, 0, &blocks[1])]).1;
    let changes = changes(&effects);
    let truncated: Vec<_> = changes.iter().filter(|change| matches!(change, Change::Truncate { .. })).collect();
    assert_eq!(truncated, [&Change::Truncate { from: h(3), epoch: Epoch(1) }]);
    assert_eq!(appended(&effects), [other.id()]);
    assert!(changes.contains(&Change::Confirm { height: h(2), position: at(1, 0), basis: Basis::Bytes }));
    assert!(changes.contains(&Change::Confirm { height: h(3), position: at(1, 3), basis: Basis::Bytes }));
    assert_eq!((core.soft(), core.hard(), core.target()), (Some(other.id()), Some(other.id()), Some(other.id())));
    assert_eq!((core.heads().epoch, core.status().halted), (Epoch(1), None));
    assert_eq!(core.status().received.da, 1);
}

#[test]
fn what_is_taken_back_forgets_what_was_built_on_it() {
    let blocks = chain(6);
    let other = branch(&[], "b", 2);
    let mut core = Setup::follower().storing(&blocks[..3], 0).start();
    let _ = core.gossip(&blocks[5]);
    assert_eq!(core.status().held_blocks, 1);
    let effects = core.da_has(&other[..1]);
    assert!(changes(&effects).contains(&Change::Truncate { from: h(1), epoch: Epoch(1) }));
    assert_eq!((core.status().held_blocks, core.target()), (0, Some(other[0].id())));
}

/// It was decided, and never durable.
#[test]
fn what_is_taken_back_leaves_its_room_to_others() {
    let blocks = chain(5);
    let size = blocks[1].size();
    let setup = Setup::follower().storing(&blocks[..1], 0);
    let mut core = setup.limits(|limits| limits.commit_bytes = 2 * size).start();
    core.hold_writes();
    for block in &blocks[1..4] {
        let _ = core.gossip(block);
    }
    assert_eq!(core.reject(blocks[3].id()), RejectAnswer::Stopped);
    let _ = core.operator_may(Command::LiftVeto);
    let _ = core.gossip(&blocks[3]);
    assert_eq!(core.soft(), Some(blocks[3].id()));
    let _ = core.gossip(&blocks[4]);
    assert_eq!(core.soft(), Some(blocks[3].id()), "there is room for one");
}

/// A core that stores blocks 1 to 3, and what it does when DA has another block 2.
fn diverging(setup: Setup) -> (Core, Vec<AuthenticBlock>, AuthenticBlock) {
    let blocks = chain(3);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = setup.storing(&blocks, 1).start();
    let effects = core.da_has(std::slice::from_ref(&other));
    assert!(!changes(&effects).iter().any(|change| matches!(change, Change::Truncate { .. })), "{effects:#?}");
    let halt = Halt::Diverged { ours: blocks[1].id(), da: other.id(), position: at(1, 0) };
    assert!(changes(&effects).contains(&Change::Halt(Some(halt))), "{effects:#?}");
    assert_eq!((core.status().halted, core.status().phase), (Some(halt), Phase::Halted));
    (core, blocks, other)
}

#[test]
fn whoever_may_have_published_halts_instead() {
    for guard in [GuardState::Unused, GuardState::after(Some(chain(1)[0].id()))] {
        let (mut core, blocks, _) = diverging(Setup::follower().guard(guard));
        assert_eq!((core.soft(), core.hard()), (Some(blocks[2].id()), Some(blocks[0].id())));
        // It follows the others, and judges no further.
        let next = branch(&blocks, "a", 1).remove(0);
        assert_eq!(core.gossip(&next), Verdict::Accept);
        let _ = core.da_has(&blocks[1..2]);
        assert_eq!((core.soft(), core.hard()), (Some(next.id()), Some(blocks[0].id())));
    }
}

/// Nobody knows what it has signed: all the less may it take anything back.
#[test]
fn whoever_lost_its_guard_halts_as_well() {
    let (mut core, blocks, other) = diverging(Setup::signer().guard(GuardState::Missing));
    // To abandon the branch does not say what was signed.
    let effects = core.operator_may(Command::AbandonBranch(blocks[1].id()));
    assert!(!changes(&effects).iter().any(|change| matches!(change, Change::ResetGuard(_))));
    let next = branch(&[blocks[0].clone(), other], "c", 1).remove(0);
    assert!(matches!(core.refusal(proposal(&next)), PublishAnswer::NotReady(_)));
}

#[test]
fn a_follower_may_be_told_to_halt() {
    let mut setup = Setup::follower();
    setup.config.on_divergence = Policy::Halt;
    let _ = diverging(setup);
}

#[test]
fn an_operator_abandons_the_branch_that_da_contradicts_and_no_other() {
    let (mut core, blocks, other) = diverging(Setup::signer());
    for wrong in [&blocks[0], &blocks[2], &other] {
        let why = core.operator_is_refused(Command::AbandonBranch(wrong.id()));
        assert!(why.contains("begins at"), "{why}");
    }
    let effects = core.operator_may(Command::AbandonBranch(blocks[1].id()));
    let changes = changes(&effects);
    assert!(changes.contains(&Change::Truncate { from: h(2), epoch: Epoch(1) }));
    assert!(changes.contains(&Change::Halt(None)));
    assert_eq!((core.soft(), core.hard()), (Some(other.id()), Some(other.id())));
    assert_eq!(core.status().halted, None);
    assert!(core.operator_is_refused(Command::AbandonBranch(blocks[1].id())).contains("nothing to abandon"));
}

#[test]
fn a_halt_outlives_a_restart() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut setup = Setup::follower().storing(&blocks, 1);
    setup.at.sightings = vec![kept_block(1, 0, &other)];
    setup.at.heads.scanned_through = 1;
    setup.at.halted = Some(Halt::Diverged { ours: blocks[1].id(), da: other.id(), position: at(1, 0) });
    let mut core = setup.start();
    let _ = core.give(Input::Wakeup);
    assert_eq!(core.soft(), Some(blocks[1].id()));
    let effects = core.operator_may(Command::AbandonBranch(blocks[1].id()));
    // Without a guard there is none to reset.
    assert!(!changes(&effects).iter().any(|change| matches!(change, Change::ResetGuard(_))));
    assert_eq!(core.hard(), Some(other.id()));
}

/// It would end the chain for a block that is none.
#[test]
fn a_block_that_can_never_stand_takes_nothing_back() {
    let blocks = chain(3);
    let backwards = Spec { time_unix_nanos: Some(0), ..Spec::of("b") }.on(Some(&blocks[0]));
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let effects = core.da_has(&[backwards.clone(), blocks[1].clone()]);
    let changes = changes(&effects);
    assert!(changes.contains(&Change::DropSighting(at(1, 0))), "{changes:#?}");
    assert!(changes.contains(&Change::Confirm { height: h(2), position: at(1, 1), basis: Basis::Bytes }));
    assert_eq!((core.soft(), core.hard()), (Some(blocks[2].id()), Some(blocks[1].id())));
    assert_eq!(core.heads().epoch, Epoch(0));
    // Nor does it stand where nothing is stored.
    let mut core = Setup::follower().storing(&blocks[..1], 1).start();
    let _ = core.da_has(&[backwards, blocks[1].clone()]);
    assert_eq!((core.soft(), core.hard()), (Some(blocks[1].id()), Some(blocks[1].id())));
}

#[test]
fn time_drift_delays_a_da_block_and_drops_none() {
    let mut core = Setup::follower().start();
    let early = Spec { time_unix_nanos: Some(ahead(&core, 3_000_000_000)), ..Spec::of("a") }.on(None);
    let _ = core.da_has(std::slice::from_ref(&early));
    assert_eq!((core.soft(), core.next_wakeup()), (None, Some(Duration::from_secs(3))));
    let _ = core.pass(Duration::from_nanos(2_999_999_999));
    assert_eq!((core.soft(), core.next_wakeup()), (None, Some(core.elapsed() + Duration::from_millis(1))));
    let _ = core.pass(Duration::from_nanos(1));
    assert_eq!((core.soft(), core.hard()), (Some(early.id()), Some(early.id())));
}

#[test]
fn a_clock_that_goes_back_delays_what_waits_and_drops_none() {
    let first = chain(1).remove(0);
    let mut core = Setup::follower().start();
    let next = Spec { time_unix_nanos: Some(ahead(&core, 0)), ..Spec::of("a") }.on(Some(&first));
    let _ = core.gossip(&next);
    core.wall_goes_back(Duration::from_secs(5));
    let _ = core.gossip(&first);
    assert_eq!((core.soft(), core.status().held_blocks), (Some(first.id()), 1));
    assert!(!core.status().forked, "it may still be ours");
    let _ = core.pass(Duration::from_secs(1));
    assert_eq!(core.next_wakeup(), Some(Duration::from_secs(5)));
    let _ = core.pass(Duration::from_secs(4));
    assert_eq!((core.soft(), core.status().held_blocks), (Some(next.id()), 0));
}

// ----------------------------------------------------------------------------------------------- veto

/// A core with blocks 1 to 3 whose host refused block 2.
fn vetoed() -> (Core, Vec<AuthenticBlock>) {
    let blocks = chain(5);
    let mut core = Setup::follower().storing(&blocks[..3], 1).start();
    assert_eq!(core.reject(blocks[1].id()), RejectAnswer::Stopped);
    (core, blocks)
}

#[test]
fn a_refused_block_ends_the_chain_at_its_parent() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks, 1).start();
    let ticket = core.ticket();
    let effects = core.give(Input::HostRejected { ticket, block: blocks[1].id() });
    assert_eq!(
        changes(&effects),
        [Change::Truncate { from: h(2), epoch: Epoch(1) }, Change::Veto(Some(blocks[1].id()))]
    );
    assert_eq!((core.soft(), core.status().vetoed), (Some(blocks[0].id()), Some(blocks[1].id())));
    let ticket = core.ticket();
    assert_eq!(changes(&core.give(Input::HostRejected { ticket, block: blocks[1].id() })), [], "it is so already");
}

#[test]
fn what_is_hard_or_not_here_cannot_be_refused() {
    let blocks = chain(3);
    let mut core = Setup::follower().storing(&blocks[..2], 1).start();
    assert_eq!(core.reject(blocks[0].id()), RejectAnswer::Hard);
    assert_eq!(core.reject(blocks[2].id()), RejectAnswer::NotFound);
    assert_eq!(core.reject(branch(&blocks[..1], "b", 1)[0].id()), RejectAnswer::NotFound);
    assert_eq!((core.soft(), core.status().vetoed), (Some(blocks[1].id()), None));
    assert_eq!(core.reject(blocks[1].id()), RejectAnswer::Stopped);
    // The second one is no longer on our chain.
    assert_eq!(core.reject(blocks[2].id()), RejectAnswer::NotFound);
}

#[test]
fn the_first_block_of_all_can_be_refused() {
    let blocks = chain(2);
    let mut core = Setup::follower().storing(&blocks, 0).start();
    assert_eq!(core.reject(blocks[0].id()), RejectAnswer::Stopped);
    assert_eq!((core.soft(), core.target()), (None, Some(blocks[0].id())), "it exists all the same");
    let _ = core.connect(1);
    assert_eq!(core.status().phase, Phase::Syncing, "it is not at the head of its chain");
}

#[test]
fn while_a_veto_stands_only_da_extends_the_chain() {
    let (mut core, blocks) = vetoed();
    assert_eq!(core.gossip(&blocks[1]), Verdict::Ignore, "the refused one");
    let rival = branch(&blocks[..1], "b", 1).remove(0);
    assert_eq!(core.gossip(&rival), Verdict::Accept, "held, and sound");
    assert_eq!(core.gossip(&blocks[4]), Verdict::Accept);
    assert_eq!(core.soft(), Some(blocks[0].id()));
    // Nothing is asked for, either.
    assert_eq!(ranges(&core.connect_at(1, &blocks[4])), []);
    let _ = core.da_has(std::slice::from_ref(&rival));
    assert_eq!((core.soft(), core.hard(), core.status().vetoed), (Some(rival.id()), Some(rival.id()), None));
}

/// It waited, and DA had it as well.
#[test]
fn who_gave_what_da_decided_for_is_on_our_branch() {
    let (mut core, blocks) = vetoed();
    let rival = branch(&blocks[..1], "b", 1).remove(0);
    let _ = core.connect_at(1, &rival);
    assert_eq!(core.status().held_blocks, 1);
    let _ = core.da_has(std::slice::from_ref(&rival));
    assert_eq!((core.hard(), core.status().held_blocks), (Some(rival.id()), 0));
    assert!(!core.status().forked);
}

#[test]
fn da_overrules_the_host() {
    let (mut core, blocks) = vetoed();
    let effects = core.da_has(&blocks[1..2]);
    assert!(changes(&effects).contains(&Change::Veto(None)));
    assert_eq!((core.hard(), core.status().vetoed), (Some(blocks[1].id()), None));
    // Where only the digest is known, its bytes have to be brought again, by whomever.
    let (mut core, blocks) = vetoed();
    let (answer, _) = core.report(0, 1, vec![seen_digest(1, 0, &blocks[1])]);
    assert_eq!((answer.wanted, core.status().vetoed), (vec![open(1, 0, &blocks[1])], Some(blocks[1].id())));
    assert_eq!(core.gossip(&blocks[1]), Verdict::Ignore);
    assert_eq!((core.hard(), core.status().vetoed), (Some(blocks[1].id()), None));
}

#[test]
fn an_operator_lifts_a_veto() {
    let (mut core, blocks) = vetoed();
    let effects = core.operator_may(Command::LiftVeto);
    assert_eq!(changes(&effects), [Change::Veto(None)]);
    assert_eq!(changes(&core.operator_may(Command::LiftVeto)), [], "there is none any more");
    assert_eq!(core.gossip(&blocks[1]), Verdict::Accept);
    assert_eq!(core.soft(), Some(blocks[1].id()));
}

#[test]
fn a_veto_outlives_a_restart_and_not_its_block() {
    let blocks = chain(3);
    let mut setup = Setup::follower().storing(&blocks[..1], 0);
    setup.at.vetoed = Some(blocks[1].id());
    let mut core = setup.start();
    assert_eq!(core.gossip(&blocks[1]), Verdict::Ignore);
    // DA takes back what the refused block stood on: the veto is void.
    let other = branch(&[], "b", 1).remove(0);
    let effects = core.da_has(std::slice::from_ref(&other));
    assert!(changes(&effects).contains(&Change::Veto(None)));
    assert_eq!((core.soft(), core.status().vetoed), (Some(other.id()), None));
}

#[test]
fn blocks_by_origin_are_counted() {
    let blocks = chain(3);
    let mut core = Setup::follower().start();
    let _ = core.gossip(&blocks[0]);
    let effects = core.connect_at(1, &blocks[1]);
    let origins: Vec<_> = changes(&effects)
        .into_iter()
        .filter_map(|change| if let Change::Append { origin, .. } = change { Some(origin) } else { None })
        .collect();
    assert_eq!(origins, [Origin::Range]);
    let _ = core.da_has(&blocks);
    let received = core.status().received;
    assert_eq!((received.gossip, received.range, received.da, received.published), (1, 1, 1, 0));
}
