//! What a node that may sign waits for, and what was given up. Each clause of the rule closes a way to sign a height twice, or to
//! stop a sequencer for ever with a block that is of no use to anybody.

use std::time::Duration;

use blocksyncd::block::{BlockId, Hash};
use blocksyncd::sync::hearing::PATIENCE;
use blocksyncd::sync::{
    BlockQuery, Change, Command, Disowned, DisownedBy, Effect, Fetch, FetchOutcome, Floor, GuardEntry, GuardState,
    Halt, History, Input, Phase, PublishAnswer, Trusted, Verdict,
};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{Spec, branch, chain, proposal};
use super::driver::{
    Core, Setup, ahead, asked_by_hash, asks_for_signature, at, changes, fetches, kept_block, published, range_request,
};

const SECOND: Duration = Duration::from_secs(1);

fn waits(core: &mut Core, next: &AuthenticBlock, why: &str) {
    let answer = core.refusal(proposal(next));
    assert!(matches!(&answer, PublishAnswer::NotReady(text) if text.contains(why)), "{answer:?}");
    assert!(core.status().not_ready.is_some_and(|text| text.contains(why)));
}

fn accepts(core: &mut Core, next: &AuthenticBlock) {
    let effects = core.propose(proposal(next));
    assert!(asks_for_signature(&effects), "{effects:#?}");
    assert_eq!(published(&core.sign(&effects)), PublishAnswer::Accepted(next.id()));
}

/// The changes that give blocks up.
fn disowned(effects: &[Effect]) -> Vec<Disowned> {
    let disowned = |change: &Change| if let Change::Disown(disowned) = change { Some(*disowned) } else { None };
    changes(effects).iter().filter_map(disowned).collect()
}

fn owned(effects: &[Effect]) -> Vec<BlockId> {
    let owned = |change: &Change| if let Change::Own(id) = change { Some(*id) } else { None };
    changes(effects).iter().filter_map(owned).collect()
}

/// A sequencer whose branch `b`, which leaves `a` above block 5, lost on DA: it was abandoned, and block 6 of `a` is hard.
fn abandoned(length: usize) -> (Core, Vec<AuthenticBlock>, Vec<AuthenticBlock>) {
    let ours = chain(6);
    let lost = branch(&ours[..5], "b", length);
    let stored: Vec<_> = ours[..5].iter().chain(&lost).cloned().collect();
    let guard = GuardState::after(stored.last().map(AuthenticBlock::id));
    let mut core = Setup::signer().storing(&stored, 5).guard(guard).start();
    let _ = core.da_has(&ours[5..]);
    assert_eq!(core.status().phase, Phase::Halted);
    let effects = core.operator_may(Command::AbandonBranch(lost[0].id()));
    let by = DisownedBy::Da;
    let expected: Vec<_> = lost.iter().map(|block| Disowned { id: block.id(), by }).collect();
    assert_eq!(disowned(&effects), expected, "what is taken back is given up in the same commit");
    assert_eq!((core.soft(), core.hard()), (Some(ours[5].id()), Some(ours[5].id())));
    (core, ours, lost)
}

/// What the core asks for by hash is answered from these blocks, as long as it asks.
fn walk(core: &mut Core, mut effects: Vec<Effect>, blocks: &[AuthenticBlock]) -> Vec<Hash> {
    let mut asked = Vec::new();
    while let Some(Fetch { request, query: BlockQuery::Hash(hash), .. }) =
        fetches(&effects).into_iter().find(|fetch| matches!(fetch.query, BlockQuery::Hash(_)))
    {
        asked.push(hash);
        let found: Vec<_> = blocks.iter().filter(|block| block.hash() == hash).cloned().collect();
        let outcome = if found.is_empty() { FetchOutcome::NotFound } else { FetchOutcome::Complete };
        effects = core.answer(request, &found, outcome);
    }
    asked
}

// ----------------------------------------------------------------------------------- what stops nobody

/// One old signed block, replayed every few seconds, once stopped a sequencer for good.
#[test]
fn a_replayed_block_of_an_abandoned_branch_stops_nobody() {
    let (mut core, mut ours, lost) = abandoned(199);
    let mut refused = 0;
    for second in 0..600 {
        if second % 5 == 0 {
            // Once soft has passed it, it is shown to others, as evidence.
            let _ = core.gossip(&lost[usize::from(second % 7 != 0) * 198]);
        }
        let next = branch(&ours, "a", 1).remove(0);
        let effects = core.propose(proposal(&next));
        if asks_for_signature(&effects) {
            let _ = core.sign(&effects);
            ours.push(next);
        } else {
            refused += 1;
        }
        let _ = core.pass(SECOND);
    }
    assert_eq!((refused, core.status().held_blocks), (0, 0));
}

/// Somebody else went on with it: what it stands on is learned block by block, once.
#[test]
fn a_peer_that_serves_a_longer_lost_branch_stops_nobody() {
    let (mut core, mut ours, lost) = abandoned(3);
    let longer = branch(&[ours[..5].to_vec(), lost.clone()].concat(), "b", 6);
    let head = longer.last().expect("six");
    let _ = core.connect_at(1, head);
    let next = branch(&ours, "a", 1).remove(0);
    waits(&mut core, &next, "is proved to exist");
    let effects = core.pass(SECOND);
    let asked = walk(&mut core, effects, &longer);
    let down: Vec<_> = longer[..5].iter().rev().map(AuthenticBlock::hash).collect();
    assert_eq!(asked, down, "down to the first block whose parent was taken back");
    accepts(&mut core, &next);
    ours.push(next);
    for again in [head, &longer[2], &longer[3]] {
        assert_eq!(core.gossip(again), Verdict::Ignore);
        let next = branch(&ours, "a", 1).remove(0);
        accepts(&mut core, &next);
        ours.push(next);
        assert_eq!(asked_by_hash(&core.pass(SECOND)), []);
    }
}

/// Nobody took it back here: it was never here.
#[test]
fn a_branch_that_leaves_ours_where_da_has_decided_stops_nobody() {
    let ours = chain(6);
    let other = branch(&ours[..2], "b", 7);
    let mut core = Setup::signer().storing(&ours, 5).start();
    let _ = core.connect_at(1, &other[6]);
    let next = branch(&ours, "a", 1).remove(0);
    waits(&mut core, &next, "is being asked for");
    let effects = core.pass(SECOND);
    let asked = walk(&mut core, effects, &other);
    let down: Vec<_> = other[3..6].iter().rev().map(AuthenticBlock::hash).collect();
    assert_eq!(asked, down, "down to the block on the one that is another than ours at the height of hard");
    accepts(&mut core, &next);
    assert_eq!(core.status().not_ready, None);
}

/// An operator knows before the way down has come to its end.
#[test]
fn what_a_walk_has_passed_may_be_given_up() {
    let ours = chain(6);
    let other = branch(&ours[..1], "b", 7);
    let mut core = Setup::signer().storing(&ours, 1).start();
    let _ = core.connect_at(1, &other[6]);
    let effects = core.pass(SECOND);
    let asked = walk(&mut core, effects, &other[2..]);
    assert_eq!(asked.last(), Some(&other[1].hash()));
    let _ = core.operator_may(Command::Disown(other[3].id()));
    accepts(&mut core, &branch(&ours, "a", 1)[0]);
}

#[test]
fn what_is_replayed_after_a_restart_is_given_up_still() {
    let (ours, lost) = (chain(6), branch(&chain(5), "b", 3));
    let mut setup = Setup::signer().storing(&ours, 6);
    setup.at.disowned = lost.iter().map(|block| Disowned { id: block.id(), by: DisownedBy::Da }).collect();
    let mut core = setup.start();
    assert_eq!(core.gossip(&lost[2]), Verdict::Ignore);
    let above = branch(&[&ours[..5], &lost].concat(), "b", 1).remove(0);
    assert_eq!(core.gossip(&above), Verdict::Ignore, "it stands on what was given up");
    assert_eq!((core.status().held_blocks, core.target()), (0, core.soft()));
    accepts(&mut core, &branch(&ours, "a", 1)[0]);
}

// --------------------------------------------------------------------------------- what is waited for

/// It does not wait for the highest one alone: when that one is given up, there may be another.
#[test]
fn every_block_above_soft_is_waited_for_and_not_the_highest_alone() {
    let (mut core, ours, lost) = abandoned(3);
    let mine = branch(&ours, "a", 2);
    let head = branch(&[&ours[..5], &lost[..]].concat(), "b", 2).remove(1);
    assert_eq!(core.gossip(&mine[1]), Verdict::Accept);
    let _ = core.connect_at(1, &head);
    let next = branch(&ours, "c", 1).remove(0);
    waits(&mut core, &next, "block 8 is proved to exist");
    assert_eq!(core.gossip(&mine[0]), Verdict::Accept);
    assert_eq!(core.soft(), Some(mine[1].id()));
    waits(&mut core, &branch(&[&ours[..], &mine].concat(), "a", 1)[0], "block 10 is proved to exist");
    let effects = core.pass(SECOND);
    let _ = walk(&mut core, effects, &branch(&[&ours[..5], &lost[..]].concat(), "b", 1));
    accepts(&mut core, &branch(&[&ours[..], &mine].concat(), "a", 1)[0]);
}

/// A restored backup, a clock that is behind, and the block that the key has signed already is out there.
#[test]
fn a_block_from_the_future_is_waited_for() {
    let ours = chain(1);
    let mut core = Setup::signer().storing(&ours, 0).start();
    let late = Spec { time_unix_nanos: Some(ahead(&core, 1_000_000_000_000)), ..Spec::of("a") }.on(Some(&ours[0]));
    assert_eq!(core.gossip(&late), Verdict::Ignore);
    waits(&mut core, &branch(&ours, "b", 1)[0], "block 2 is proved to exist");
    // Not by its age, nor by anybody's patience.
    for _ in 0..20 {
        let _ = core.pass(Duration::from_secs(30));
    }
    waits(&mut core, &branch(&ours, "b", 1)[0], "block 2 is proved to exist");
    let _ = core.pass(Duration::from_mins(10));
    assert_eq!(core.gossip(&late), Verdict::Accept);
    accepts(&mut core, &Spec { time_unix_nanos: Some(late.time_unix_nanos()), ..Spec::of("a") }.on(Some(&late)));
}

/// The only copy in memory goes, and what proves that the key signed stays.
#[test]
fn a_block_that_there_is_no_room_for_is_waited_for() {
    let blocks = chain(4);
    let mut core = Setup::signer().storing(&blocks[..1], 0).limits(|limits| limits.pending_blocks = 1).start();
    assert_eq!(core.gossip(&blocks[2]), Verdict::Accept);
    assert_eq!(core.gossip(&blocks[3]), Verdict::Ignore);
    assert_eq!(core.status().held_blocks, 1);
    assert_eq!(core.gossip(&blocks[1]), Verdict::Accept);
    assert_eq!(core.soft(), Some(blocks[2].id()));
    waits(&mut core, &branch(&blocks[..3], "b", 1)[0], "block 4 is proved to exist");
}

/// Of two blocks for the next height, one that does not link is evidence, and never held.
#[test]
fn evidence_above_soft_is_waited_for() {
    let ours = chain(2);
    let stray = branch(&branch(&[], "b", 2), "b", 1).remove(0);
    let mut core = Setup::signer().storing(&ours, 0).start();
    assert_eq!(core.gossip(&stray), Verdict::Accept);
    assert!(core.status().forked);
    waits(&mut core, &branch(&ours, "a", 1)[0], "block 3 is proved to exist");
}

#[test]
fn what_da_has_shown_is_waited_for_after_a_restart_too() {
    let ours = chain(2);
    let other = branch(&branch(&[], "b", 2), "b", 1).remove(0);
    let mut setup = Setup::signer().storing(&ours, 1);
    setup.at.heads.scanned_through = 1;
    setup.at.sightings = vec![kept_block(1, 0, &other)];
    waits(&mut setup.start(), &branch(&ours, "a", 1)[0], "block 3 is proved to exist");
}

/// Another sidecar with the same key made it; the host's word against it does not undo its signature.
#[test]
fn what_only_the_host_refused_is_waited_for() {
    let blocks = chain(3);
    let mut core = Setup::signer().storing(&blocks, 1).start();
    let _ = core.reject(blocks[1].id());
    let effects = core.operator_may(Command::LiftVeto);
    assert_eq!(disowned(&effects), []);
    waits(&mut core, &branch(&blocks[..1], "b", 1)[0], "block 2 is proved to exist");
    assert_eq!(core.gossip(&blocks[1]), Verdict::Accept);
    waits(&mut core, &branch(&blocks[..2], "b", 1)[0], "block 3 is proved to exist");
    assert_eq!(core.gossip(&blocks[2]), Verdict::Accept);
    accepts(&mut core, &branch(&blocks, "a", 1)[0]);
}

/// Its signature exists already.
#[test]
fn the_very_block_that_is_waited_for_may_be_signed_again() {
    let blocks = chain(3);
    let mut core = Setup::signer().storing(&blocks[..1], 0).start();
    assert_eq!(core.gossip(&blocks[2]), Verdict::Accept);
    let _ = core.give(Input::StorageFull(true));
    assert_eq!(core.gossip(&blocks[1]), Verdict::Ignore);
    let _ = core.give(Input::StorageFull(false));
    waits(&mut core, &branch(&blocks[..1], "b", 1)[0], "block 2 is proved to exist");
    accepts(&mut core, &blocks[1]);
}

/// What nobody has decided about is waited for, until somebody has.
#[test]
fn a_branch_that_leaves_ours_above_hard_is_waited_for_until_da_decides() {
    let ours = chain(4);
    let other = branch(&ours[..2], "b", 4);
    let mut core = Setup::signer().storing(&ours, 1).start();
    let _ = core.connect_at(1, &other[3]);
    let effects = core.pass(SECOND);
    let _ = walk(&mut core, effects, &other);
    let next = branch(&ours, "a", 1).remove(0);
    waits(&mut core, &next, "on a branch that leaves ours above 2/");
    waits(&mut core, &next, &format!("ctl disown {}", other[0].id()));
    let _ = core.da_has(&ours[1..3]);
    accepts(&mut core, &next);
}

/// A trusted block is an operator's word: nothing was decided on DA, and the key may have signed the other one.
#[test]
fn a_trusted_block_decides_against_nobody() {
    let ours = chain(3);
    let other = branch(&ours[..1], "b", 3);
    let trusted = Trusted { id: ours[1].id(), da: Some(1) };
    let history = History { trusted: Some(trusted), ..History::default() };
    let mut setup = Setup::signer().storing(&ours, 2).history(history);
    setup.at.heads.floor = Some(Floor { id: trusted.id, da: 1 });
    setup.at.heads.scanned_through = 1;
    let mut core = setup.start();
    let _ = core.connect_at(1, &other[2]);
    let effects = core.pass(SECOND);
    let _ = walk(&mut core, effects, &other);
    waits(&mut core, &branch(&ours, "a", 1)[0], "block 4 is proved to exist");
}

/// The set is full: what did not fit is asked for again before anything is signed.
#[test]
fn what_there_is_no_room_to_wait_for_is_asked_for_again() {
    let blocks = chain(5);
    let mut core = Setup::signer().storing(&blocks[..1], 0).limits(|limits| limits.awaited = 1).start();
    let _ = core.connect_at(1, &blocks[2]);
    assert_eq!(core.gossip(&blocks[4]), Verdict::Accept);
    assert_eq!(core.gossip(&blocks[3]), Verdict::Accept);
    waits(&mut core, &branch(&blocks[..1], "b", 1)[0], "block 3 is proved to exist");
    let _ = core.give(Input::StorageFull(true));
    let _ = core.give(Input::StorageFull(false));
    // The held ones follow.
    let effects = core.gossip_effects(200, Ok(blocks[1].clone()));
    assert_eq!(core.soft(), Some(blocks[4].id()));
    let next = branch(&blocks, "a", 1).remove(0);
    assert!(matches!(core.refusal(proposal(&next)), PublishAnswer::NotYet { .. }));
    let probe = fetches(&effects).into_iter().find(|fetch| fetch.query == BlockQuery::Head).expect("it is asked anew");
    let _ = core.give(Input::KnownPeersTried { round: 2 });
    let _ = core.answer(probe.request, &blocks[4..], FetchOutcome::Complete);
    accepts(&mut core, &next);
}

// ---------------------------------------------------------------------------------------- giving up

#[test]
fn what_was_given_up_is_neither_stored_nor_held() {
    let (mut core, ours, lost) = abandoned(2);
    // The store is at block 6: take it back to where the lost branch would fit on.
    let mut setup = Setup::signer().storing(&ours[..5], 5);
    setup.at.disowned = vec![Disowned { id: lost[0].id(), by: DisownedBy::Da }];
    let mut fits = setup.start();
    assert_eq!(fits.gossip(&lost[0]), Verdict::Ignore);
    assert_eq!(fits.gossip(&lost[1]), Verdict::Ignore);
    assert_eq!((fits.soft(), fits.status().held_blocks), (Some(ours[4].id()), 0));
    let answer = fits.refusal(proposal(&lost[0]));
    assert!(matches!(&answer, PublishAnswer::Invalid(why) if why.contains("given up")), "{answer:?}");
    assert_eq!(core.gossip(&lost[1]), Verdict::Ignore);
    assert_eq!(core.status().held_blocks, 0);
}

#[test]
fn da_gives_back_what_was_given_up() {
    let ours = chain(6);
    let lost = branch(&ours[..5], "b", 2);
    let mut setup = Setup::signer().storing(&ours[..5], 5);
    setup.at.disowned = lost.iter().map(|block| Disowned { id: block.id(), by: DisownedBy::Operator }).collect();
    let mut core = setup.start();
    let effects = core.da_has(&lost[..1]);
    assert_eq!(owned(&effects), [lost[0].id()], "it leaves the list in the commit that stores it");
    assert_eq!(core.hard(), Some(lost[0].id()));
    // The other one is on the list still.
    assert_eq!(core.gossip(&lost[1]), Verdict::Ignore);
    let _ = core.da_has(&lost[1..]);
    assert_eq!(core.hard(), Some(lost[1].id()));
}

#[test]
fn a_follower_gives_up_what_da_takes_back_and_not_what_its_host_refuses() {
    let blocks = chain(4);
    let other = branch(&blocks[..2], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 2).start();
    let by = DisownedBy::Da;
    let effects = core.da_has(std::slice::from_ref(&other));
    assert_eq!(disowned(&effects), [&blocks[2], &blocks[3]].map(|block| Disowned { id: block.id(), by }));
    let mut core = Setup::follower().storing(&blocks, 2).start();
    let ticket = core.ticket();
    let effects = core.give(Input::HostRejected { ticket, block: blocks[2].id() });
    assert_eq!(disowned(&effects), []);
}

#[test]
fn the_list_has_room_for_so_many_and_the_lowest_stay() {
    let blocks = chain(5);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = Setup::follower().storing(&blocks, 1).limits(|limits| limits.disowned = 2).start();
    let effects = core.da_has(std::slice::from_ref(&other));
    let ids: Vec<_> = disowned(&effects).iter().map(|disowned| disowned.id).collect();
    assert_eq!(ids, [blocks[1].id(), blocks[2].id()]);
    // What DA has decided about goes first.
    let ours: Vec<_> = blocks[..1].iter().cloned().chain([other]).collect();
    let next = branch(&ours, "b", 1).remove(0);
    let _ = core.gossip(&next);
    let winner = branch(&ours, "c", 1).remove(0);
    let effects = core.da_has(std::slice::from_ref(&winner));
    assert_eq!((owned(&effects), disowned(&effects).len()), (vec![blocks[1].id()], 1));
}

// ------------------------------------------------------------------------------------- the operator

/// Nobody can show what it stands on: only a person can know.
#[test]
fn a_walk_that_cannot_end_is_settled_by_the_operator() {
    let ours = chain(3);
    let other = branch(&ours[..1], "b", 5);
    let mut core = Setup::signer().storing(&ours, 1).start();
    let _ = core.connect_at(1, &other[4]);
    let effects = core.pass(SECOND);
    let _ = walk(&mut core, effects, &other[3..]);
    let next = branch(&ours, "a", 1).remove(0);
    let missing = other[2].id();
    for _ in 0..10 {
        waits(&mut core, &next, &format!("ctl disown {missing}"));
        let _ = core.pass(Duration::from_mins(1));
    }
    let effects = core.operator_may(Command::Disown(missing));
    assert_eq!(disowned(&effects), [Disowned { id: missing, by: DisownedBy::Operator }]);
    accepts(&mut core, &next);
}

#[test]
fn nobody_disowns_what_is_ours_or_stands_on_our_soft_head() {
    let blocks = chain(4);
    let mut core = Setup::signer().storing(&blocks[..2], 1).start();
    assert!(core.operator_is_refused(Command::Disown(blocks[1].id())).contains("is on our chain"));
    assert_eq!(core.gossip(&blocks[3]), Verdict::Accept);
    let _ = core.give(Input::StorageFull(true));
    assert_eq!(core.gossip(&blocks[2]), Verdict::Ignore);
    for block in &blocks[2..] {
        assert!(core.operator_is_refused(Command::Disown(block.id())).contains("stands on our soft head"));
    }
    let rival = branch(&blocks[..1], "b", 1).remove(0);
    let _ = core.give(Input::StorageFull(false));
    assert!(core.operator_is_refused(Command::Disown(rival.id())).contains("nothing is known of"));
    let higher = BlockId { height: blocks[3].height().next(), ..blocks[3].id() };
    assert!(core.operator_is_refused(Command::Disown(higher)).contains("nothing is known of"));
}

/// To disown the block that the guard names, or one that it stands on, once let the key sign that height again.
#[test]
fn an_operators_word_against_a_block_frees_no_guard() {
    let blocks = chain(3);
    for disowned in [&blocks[1], &blocks[2]] {
        let guard = GuardState::Signed(GuardEntry { last: blocks[2].id() });
        let mut core = Setup::signer().storing(&blocks[..1], 0).guard(guard).start();
        let _ = core.give(Input::StorageFull(true));
        let _ = core.gossip(&blocks[2]);
        let effects = core.operator_may(Command::Disown(disowned.id()));
        let _ = core.give(Input::StorageFull(false));
        assert!(!changes(&effects).iter().any(|change| matches!(change, Change::ResetGuard(_))));
        let _ = core.gossip(&blocks[2]);
        let answer = core.refusal(proposal(&branch(&blocks[..1], "b", 1)[0]));
        assert!(matches!(&answer, PublishAnswer::NotReady(why) if why.contains("has signed up to")), "{answer:?}");
        // What it has signed last, it says for itself.
        let _ = core.operator_may(Command::AssertSigned(Some(blocks[0].id())));
        accepts(&mut core, &branch(&blocks[..1], "b", 1)[0]);
    }
}

// ---------------------------------------------------------------------------------------- the guard

/// DA has decided against the last block that the key signed, and it was taken back elsewhere, or by another's word.
#[test]
fn a_guard_whose_block_lost_on_da_stops_nobody() {
    let ours = chain(6);
    let lost = branch(&ours[..3], "b", 4);
    let next = branch(&ours, "a", 1).remove(0);
    // Decided at its height.
    let guard = |block: &AuthenticBlock| GuardState::Signed(GuardEntry { last: block.id() });
    let mut core = Setup::signer().storing(&ours, 4).guard(guard(&lost[0])).start();
    accepts(&mut core, &next);
    // Taken back once, because of DA.
    let mut setup = Setup::signer().storing(&ours, 1).guard(guard(&lost[3]));
    setup.at.disowned = vec![Disowned { id: lost[3].id(), by: DisownedBy::Da }];
    let mut core = setup.start();
    let effects = core.give(Input::Wakeup);
    assert!(changes(&effects).contains(&Change::ResetGuard(Some(ours[5].id()))), "{effects:#?}");
    accepts(&mut core, &next);
    // Its parents lead there.
    let mut core = Setup::signer().storing(&ours, 4).guard(guard(&lost[3])).start();
    let _ = core.connect_at(1, &lost[3]);
    let effects = core.pass(SECOND);
    assert_eq!(walk(&mut core, effects, &lost).len(), 2);
    // It has fallen: the peers are asked anew.
    assert!(matches!(core.refusal(proposal(&next)), PublishAnswer::NotYet { .. }));
    let _ = core.pass(PATIENCE);
    accepts(&mut core, &next);
    // Nobody has decided.
    let mut core = Setup::signer().storing(&ours, 3).guard(guard(&lost[0])).start();
    assert!(matches!(core.refusal(proposal(&next)), PublishAnswer::Halted(_)));
}

/// What was signed on the branch that is given up may be signed anew; what was signed elsewhere stays signed.
#[test]
fn to_abandon_a_branch_lowers_the_guard_only_with_the_block_that_it_names() {
    let blocks = chain(3);
    let other = branch(&blocks[..1], "b", 1);
    let elsewhere = branch(&blocks[..1], "c", 4);
    let resets = |effects: &[Effect]| -> Vec<Option<BlockId>> {
        let reset = |change: &Change| if let Change::ResetGuard(last) = change { Some(*last) } else { None };
        changes(effects).iter().filter_map(reset).collect()
    };
    for (last, expected) in [
        (blocks[2].id(), vec![Some(blocks[0].id())]),
        (blocks[1].id(), vec![Some(blocks[0].id())]),
        (elsewhere[3].id(), vec![]),
    ] {
        let guard = GuardState::Signed(GuardEntry { last });
        let mut core = Setup::signer().storing(&blocks, 1).guard(guard).start();
        let _ = core.da_has(&other);
        let effects = core.operator_may(Command::AbandonBranch(blocks[1].id()));
        assert_eq!(resets(&effects), expected, "{last}");
    }
}

/// A name on DA proves nothing: the host may have read it wrongly.
#[test]
fn after_a_mismatch_of_names_the_guard_stays() {
    let blocks = chain(3);
    let guard = GuardState::Signed(GuardEntry { last: blocks[2].id() });
    let mut setup = Setup::signer().storing(&blocks, 1).guard(guard);
    setup.at.halted = Some(Halt::Contradicted { ours: blocks[1].id(), position: at(1, 0) });
    let mut core = setup.start();
    let effects = core.operator_may(Command::AbandonBranch(blocks[1].id()));
    let by = DisownedBy::Name;
    assert_eq!(disowned(&effects), [&blocks[1], &blocks[2]].map(|block| Disowned { id: block.id(), by }));
    assert_eq!(core.gossip(&blocks[1]), Verdict::Ignore, "it does not come back by itself");
    assert_eq!((core.soft(), core.status().held_blocks), (Some(blocks[0].id()), 0));
    // Its signature is out there, and a name is no reason to sign another one.
    let _ = core.pass(SECOND);
    let rival = branch(&blocks[..1], "b", 1).remove(0);
    for block in &blocks[1..] {
        waits(&mut core, &rival, &format!("ctl disown {}", blocks[1].id()));
        let _ = core.gossip(block);
    }
    // Only an operator can know; and even then the key has signed it.
    let _ = core.operator_may(Command::Disown(blocks[1].id()));
    let answer = core.refusal(proposal(&rival));
    assert!(matches!(&answer, PublishAnswer::NotReady(why) if why.contains("has signed up to")), "{answer:?}");
    assert!(core.operator_is_refused(Command::AssertSigned(None)).contains("stored here"));
    let _ = core.operator_may(Command::AssertSigned(Some(blocks[0].id())));
    accepts(&mut core, &rival);
}

/// The key signed what lies between the store and the branch that lost, and that is alive.
#[test]
fn the_guard_falls_no_lower_than_to_below_what_lost() {
    let blocks = chain(2);
    let lost = branch(&blocks, "b", 2);
    for (listed, falls) in [(&lost[0], false), (&blocks[0], true)] {
        let guard = GuardState::Signed(GuardEntry { last: lost[1].id() });
        let mut setup = Setup::signer().guard(guard);
        setup.at.disowned = vec![Disowned { id: listed.id(), by: DisownedBy::Da }];
        let mut core = setup.start();
        let probe = core.connect(1);
        let _ = core.answer(probe, &lost[1..], FetchOutcome::Complete);
        let effects = core.pass(SECOND);
        let _ = walk(&mut core, effects, &[lost.clone(), blocks.clone()].concat());
        let answer = core.refusal(proposal(&branch(&[], "c", 1)[0]));
        let stops = matches!(&answer, PublishAnswer::NotReady(why) if why.contains("has signed up to"));
        assert_eq!(stops, !falls, "{answer:?}");
    }
}

#[test]
fn what_soft_has_passed_is_waited_for_again_when_soft_falls() {
    let ours = chain(5);
    let other = branch(&ours[..3], "b", 2);
    let mut core = Setup::signer().storing(&ours[..3], 3).start();
    for block in [&other[1], &ours[3], &ours[4]] {
        let _ = core.gossip(block);
    }
    assert_eq!(core.soft(), Some(ours[4].id()));
    let _ = core.da_has(&other[..1]);
    let _ = core.operator_may(Command::AbandonBranch(ours[3].id()));
    assert_eq!(core.soft(), Some(other[0].id()));
    let next = branch(&[&ours[..3], &other[..1]].concat(), "c", 1).remove(0);
    waits(&mut core, &next, "is proved to exist");
}

/// By gossip, as a head, in a range: whoever signed it could be this key, and there will be no other of its height.
#[test]
fn what_is_too_large_here_is_waited_for_wherever_it_comes_from() {
    let blocks = chain(4);
    let large = |block: &AuthenticBlock| {
        block.clone().within(1).err().unwrap_or_else(|| panic!("{block:?} is larger than a byte"))
    };
    let refused = |block: &AuthenticBlock| FetchOutcome::Invalid(Some(large(block)));
    let signer = || Setup::signer().storing(&blocks[..1], 0).start();
    let next = branch(&blocks[..1], "b", 1).remove(0);

    let mut by_gossip = signer();
    let _ = by_gossip.gossip_effects(1, Err(large(&blocks[1])));
    let mut as_head = signer();
    let probe = as_head.connect(1);
    let _ = as_head.answer(probe, &[], refused(&blocks[3]));
    let mut in_a_range = signer();
    let request = range_request(&in_a_range.connect_at(1, &blocks[3]));
    let _ = in_a_range.answer(request.request, &[], refused(&blocks[1]));
    for core in [&mut by_gossip, &mut as_head, &mut in_a_range] {
        waits(core, &next, "is proved to exist");
    }
}
