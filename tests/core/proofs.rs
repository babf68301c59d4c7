//! What proves a signature above soft is waited for, wherever the proof is kept, and whatever happens to it meanwhile.

use blocksyncd::sync::hearing::PATIENCE;
use blocksyncd::sync::{
    Anchor, BlockQuery, Change, Command, FetchOutcome, GuardEntry, GuardState, Halt, Input, Name, OversizedBlock, Seen,
    SeenBlock, Sighting,
};
use blocksyncd::verify::{AuthenticBlock, Fault};

use super::blocks::{Spec, branch, chain, h, proposal, public_key};
use super::driver::{
    Core, Setup, ahead, asked_by_hash, asks_for_signature, at, changes, digest, fetches, ranges, seen_block, seen_name,
    signed,
};

fn refuses(core: &mut Core, next: &AuthenticBlock) {
    let effects = core.propose(proposal(next));
    assert!(!asks_for_signature(&effects), "it signs {} a second time", next.id());
}

fn large_on(parent: &AuthenticBlock) -> AuthenticBlock {
    Spec { payload: vec![7; 3_000].into(), ..Spec::of("") }.on(Some(parent))
}

/// The oversized block on DA above soft is awaited in this life, and not after a restart.
#[test]
fn an_oversized_block_on_da_is_waited_for_after_a_restart() {
    let ours = chain(1);
    let large = large_on(&ours[0]);
    let setup = || Setup::signer().storing(&ours, 1).limits(|limits| limits.max_block_bytes = 2_000);
    let mut core = setup().start();
    let _ = core.report(0, 1, vec![seen_block(1, 0, &large)]);
    refuses(&mut core, &branch(&ours, "b", 1)[0]);
    let mut setup = setup();
    setup.at.heads.scanned_through = 1;
    let seen = SeenBlock { block: large.clone(), digest: digest(&large) };
    setup.at.sightings = vec![Sighting {
        position: at(1, 0),
        height: large.height(),
        what: Seen::Oversized(Box::new(OversizedBlock::of(&seen))),
    }];
    let mut core = setup.start();
    refuses(&mut core, &branch(&ours, "b", 1)[0]);
}

/// What there was no room for, of DA, is not looked at again.
#[test]
fn what_da_has_shown_and_was_missed_is_waited_for() {
    let ours = chain(2);
    let stray = branch(&branch(&[], "b", 2), "b", 3).remove(2);
    let mut core = Setup::signer().storing(&ours, 1).limits(|limits| limits.awaited = 1).start();
    let late = Spec { time_unix_nanos: Some(ahead(&core, 1_000_000_000_000)), ..Spec::of("a") }.on(Some(&ours[1]));
    let _ = core.gossip(&stray);
    let _ = core.report(0, 1, vec![seen_block(1, 0, &late)]);
    refuses(&mut core, &branch(&ours, "b", 1)[0]);
    let _ = core.operator_may(Command::Disown(stray.id()));
    let _ = core.pass(PATIENCE);
    refuses(&mut core, &branch(&ours, "b", 1)[0]);
}

/// A signature is thrown away, though somebody else has brought the very block meanwhile.
#[test]
fn the_guard_stays_on_a_block_that_somebody_has() {
    let ours = chain(2);
    let mut core = Setup::signer().storing(&ours[..1], 1).start();
    let effects = core.propose(proposal(&ours[1]));
    let (ticket, block) = signed(&effects);
    let _ = core.gossip(&block);
    assert_eq!(core.soft(), Some(block.id()));
    let _ = core.reject(block.id());
    let effects = core.give(Input::Signed { ticket, outcome: Ok(block.clone()) });
    assert!(
        !changes(&effects).iter().any(|change| matches!(change, Change::ResetGuard(_))),
        "the guard falls: {effects:#?}"
    );
}

/// What stood on a block that an operator gave up was forgotten; DA brings the block, and what stands on it is not awaited.
#[test]
fn what_stands_on_a_block_that_da_gives_back_is_waited_for() {
    let ours = chain(1);
    let mine = branch(&ours, "x", 2);
    let mut core = Setup::signer().storing(&ours, 1).start();
    let _ = core.give(Input::StorageFull(true));
    let _ = core.gossip(&mine[1]);
    let _ = core.give(Input::StorageFull(false));
    refuses(&mut core, &branch(&ours, "b", 1)[0]);
    let _ = core.operator_may(Command::Disown(mine[0].id()));
    let _ = core.da_has(&mine[..1]);
    assert_eq!(core.hard(), Some(mine[0].id()));
    refuses(&mut core, &branch(&mine[..1], "z", 1)[0]);
}

/// An operator gives up a block that is pinned, since it was hard before damage took it.
#[test]
fn nobody_disowns_a_pinned_block() {
    let blocks = chain(3);
    let mut setup = Setup::follower().storing(&blocks[..1], 1);
    setup.at.anchor = Some(Anchor { id: blocks[1].id(), position: at(1, 0) });
    let mut core = setup.start();
    let (outcome, _) = core.operate(Command::Disown(blocks[1].id()));
    assert!(outcome.is_err(), "what was hard once is given up");
}

#[test]
fn what_the_host_refused_is_waited_for_after_a_restart() {
    // What only the host refused is awaited; and after a restart?
    let blocks = chain(3);
    let mut setup =
        Setup::signer().storing(&blocks[..1], 1).guard(GuardState::Signed(GuardEntry { last: blocks[0].id() }));
    setup.at.vetoed = Some(blocks[1].id());
    let mut core = setup.start();
    let _ = core.operator_may(Command::LiftVeto);
    refuses(&mut core, &branch(&blocks[..1], "b", 1)[0]);
}

/// A restored backup of node and guard; the only peer is beyond a rotation that this node does not know yet. Its head says
/// that there is more, and what the key signed lies below.
#[test]
fn a_peer_beyond_our_schedule_has_told_nothing_yet() {
    let blocks = chain(2);
    let mut core = Setup::signer().storing(&blocks[..1], 1).start();
    let probe = core.connect(1);
    let fault = Fault::NotScheduled { height: h(5), proposer: public_key(2) };
    let effects = core.answer(probe, &[], FetchOutcome::Invalid(Some(fault)));
    let asked = ranges(&effects);
    let rival = core.propose(proposal(&branch(&blocks[..1], "b", 1)[0]));
    // What is asked for, and is under way, is block 2, which the key has signed.
    assert!(!asks_for_signature(&rival), "it signs block 2 while it asks for {asked:?}");
}

/// A wrong report of a block that the key did sign: the halt goes with what led to it. To abandon a good branch instead would free
/// the key to sign its heights again.
#[test]
fn a_halt_ends_with_the_report_that_led_to_it() {
    let ours = chain(2);
    let rival = branch(&ours[..1], "b", 1).remove(0);
    let mut core = Setup::signer().storing(&ours, 1).start();
    let _ = core.report(0, 7, vec![seen_block(7, 0, &rival)]);
    assert!(matches!(core.status().halted, Some(Halt::Diverged { .. })));
    let _ = core.operator_may(Command::RescanDa(7));
    assert_eq!(core.status().halted, None);
    let _ = core.report(6, 7, vec![seen_block(7, 0, &ours[1])]);
    assert_eq!((core.hard(), core.status().halted), (Some(ours[1].id()), None));
    // Where DA has it indeed, the halt comes back.
    let mut core = Setup::signer().storing(&ours, 1).start();
    let _ = core.report(0, 7, vec![seen_block(7, 0, &rival)]);
    let _ = core.operator_may(Command::RescanDa(1));
    let _ = core.report(0, 7, vec![seen_block(7, 0, &rival)]);
    assert!(matches!(core.status().halted, Some(Halt::Diverged { .. })));
}

/// A chain told by names: the host had named it wrongly, the branch was abandoned, and the host corrects itself.
#[test]
fn a_block_that_was_abandoned_for_a_name_comes_back_when_da_names_it() {
    for follower in [false, true] {
        let blocks = chain(3);
        let setup = if follower { Setup::follower() } else { Setup::signer() };
        let mut core = setup.storing(&blocks[..2], 1).named().start();
        let wrong = branch(&blocks[..1], "w", 1).remove(0);
        let _ = core.report(0, 1, vec![seen_name(1, 0, 2, Name::Block(wrong.hash()))]);
        assert!(core.status().halted.is_some());
        let _ = core.operator_may(Command::AbandonBranch(blocks[1].id()));
        assert_eq!(core.soft(), Some(blocks[0].id()));
        let _ = core.operator_may(Command::RescanDa(1));
        let (_, _) = core.report(0, 1, vec![seen_name(1, 0, 2, Name::Block(blocks[1].hash()))]);
        let mut effects = core.connect_at(1, &blocks[1]);
        for _ in 0..20 {
            for fetch in fetches(&effects) {
                let given = match fetch.query {
                    BlockQuery::Hash(hash) => blocks.iter().filter(|block| block.hash() == hash).cloned().collect(),
                    BlockQuery::Head | BlockQuery::Range { .. } => vec![blocks[1].clone()],
                };
                let _ = core.answer(fetch.request, &given, FetchOutcome::Complete);
            }
            let _ = core.gossip(&blocks[1]);
            effects = core.pass(std::time::Duration::from_secs(10));
        }
        assert_eq!(core.hard(), Some(blocks[1].id()), "follower: {follower}; it is stored again");
    }
}

/// The way down is as long as can be remembered, and nobody is asked any more: what is said of it is true, and names a remedy.
#[test]
fn a_walk_that_has_no_room_left_says_so() {
    let ours = chain(8);
    let other = branch(&ours[..2], "b", 8);
    let mut core = Setup::signer().storing(&ours, 1).limits(|limits| limits.awaited = 2).start();
    let mut effects = core.connect_at(1, &other[7]);
    let mut asked = Vec::new();
    for _ in 0..30 {
        let by_hash = asked_by_hash(&effects);
        let requests: Vec<_> =
            fetches(&effects).into_iter().filter(|fetch| matches!(fetch.query, BlockQuery::Hash(_))).collect();
        effects = Vec::new();
        for (fetch, (_, hash)) in requests.into_iter().zip(by_hash) {
            asked.push(hash);
            let found: Vec<_> = other.iter().filter(|block| block.hash() == hash).cloned().collect();
            effects.extend(core.answer(fetch.request, &found, FetchOutcome::Complete));
        }
        effects.extend(core.pass(std::time::Duration::from_secs(1)));
    }
    // Above soft is block 9 of it, and there is room for what 8 and 7 stand on.
    assert_eq!(asked, [6, 5, 4].map(|index: usize| other[index].hash()));
    let missing = other[3].id();
    let why = core.status().not_ready.unwrap_or_default();
    assert!(why.contains("which nobody is asked for") && why.contains(&format!("ctl disown {missing}")), "{why}");
    let _ = core.operator_may(Command::Disown(missing));
    let effects = core.propose(proposal(&branch(&ours, "a", 1)[0]));
    assert!(asks_for_signature(&effects));
}

/// A host that says too much of DA shows blocks all the same.
#[test]
fn what_a_refused_report_shows_is_waited_for() {
    let blocks = chain(3);
    let setup = || Setup::signer().storing(&blocks[..1], 1);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let shown = || vec![seen_block(1, 0, &blocks[2])];
    let mut core = setup().start();
    let _ = core.refused_report(0, u64::MAX, shown());
    refuses(&mut core, &other);
    // Out of order.
    let mut core = setup().start();
    let _ = core.report_answer(1, 2, shown());
    refuses(&mut core, &other);
    let mut core = setup().start();
    let _ = core.refused_report(0, u64::MAX, vec![]);
    assert!(asks_for_signature(&core.propose(proposal(&other))));
}
