//! Before a node signs it hears its peers: what its key signed may have been lost here, and be at theirs.

use std::time::Duration;

use blocksyncd::sync::hearing::PATIENCE;
use blocksyncd::sync::{
    Acquaintance, BlockQuery, Change, Command, Effect, FetchOutcome, GuardState, Input, PublishAnswer, RequestId,
    Verdict,
};
use blocksyncd::verify::{AuthenticBlock, Fault, TooLargeHere};

use super::blocks::{branch, chain, proposal, public_key};
use super::driver::{Core, INSTANT, Setup, asks_for_signature, changes, fetches, peer, published};

/// A key that has not signed, as far as its guard knows: a restored one looks the same.
fn knowing_somebody() -> Core {
    let mut setup = Setup::signer();
    setup.config.known_peers = Acquaintance::Somebody;
    setup.start()
}

fn hears(core: &mut Core, next: &AuthenticBlock) {
    let answer = core.refusal(proposal(next));
    assert!(matches!(&answer, PublishAnswer::NotYet { retry_after, .. } if !retry_after.is_zero()), "{answer:?}");
    assert_eq!(core.publish_signed(next), answer);
    assert!(core.status().not_ready.is_some_and(|why| why.contains("asked for their newest blocks")));
}

fn signs(core: &mut Core, next: &AuthenticBlock) {
    assert_eq!(core.status().not_ready, None);
    let effects = core.propose(proposal(next));
    assert!(asks_for_signature(&effects), "{effects:#?}");
    assert_eq!(published(&core.sign(&effects)), PublishAnswer::Accepted(next.id()));
}

/// The rounds in which everybody in the address book is to be tried.
fn tries(effects: &[Effect]) -> Vec<u64> {
    let round = |effect: &Effect| if let Effect::TryKnownPeers { round } = effect { Some(*round) } else { None };
    effects.iter().filter_map(round).collect()
}

/// The requests for heads.
fn probes(effects: &[Effect]) -> Vec<RequestId> {
    let heads = fetches(effects).into_iter().filter(|fetch| fetch.query == BlockQuery::Head);
    heads.map(|fetch| fetch.request).collect()
}

#[test]
fn who_knows_nobody_waits_for_nobody() {
    signs(&mut Setup::signer().start(), &chain(1)[0]);
}

#[test]
fn after_a_start_everybody_is_heard_first() {
    let blocks = chain(2);
    let mut core = knowing_somebody();
    assert_eq!(tries(&core.give(Input::Wakeup)), [1]);
    hears(&mut core, &blocks[0]);
    let (first, second) = (core.connect(1), core.connect(2));
    let _ = core.give(Input::KnownPeersTried { round: 1 });
    hears(&mut core, &blocks[0]);
    let _ = core.answer(first, &[], FetchOutcome::NotFound);
    hears(&mut core, &blocks[0]);
    let _ = core.answer(second, &blocks[..1], FetchOutcome::Complete);
    // It did know.
    assert_eq!(core.soft(), Some(blocks[0].id()));
    signs(&mut core, &blocks[1]);
}

#[test]
fn everybody_in_the_address_book_is_tried_first() {
    let block = chain(1).remove(0);
    let mut core = knowing_somebody();
    let probe = core.connect(1);
    let _ = core.answer(probe, &[], FetchOutcome::NotFound);
    hears(&mut core, &block);
    let _ = core.give(Input::KnownPeersTried { round: 0 });
    hears(&mut core, &block);
    let _ = core.give(Input::KnownPeersTried { round: 1 });
    signs(&mut core, &block);
}

/// Everybody in the book was tried, and nobody was there.
#[test]
fn somebody_has_to_answer_or_time_has_to_pass() {
    let block = chain(1).remove(0);
    let mut core = knowing_somebody();
    let _ = core.give(Input::Wakeup);
    let _ = core.give(Input::KnownPeersTried { round: 1 });
    hears(&mut core, &block);
    assert_eq!(core.next_wakeup(), Some(PATIENCE));
    let _ = core.almost_pass(PATIENCE);
    hears(&mut core, &block);
    let _ = core.pass(INSTANT);
    signs(&mut core, &block);
}

#[test]
fn a_silent_peer_holds_signing_up_for_so_long_and_no_longer() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let _ = core.give(Input::Wakeup);
    for name in 1..4 {
        let _ = core.connect(name);
    }
    hears(&mut core, &block);
    // It goes, and has not answered; nor does an answer that breaks off tell anything.
    let _ = core.give(Input::PeerDown { peer: peer(1) });
    hears(&mut core, &block);
    for outcome in [FetchOutcome::Reset, FetchOutcome::Cut, FetchOutcome::Timeout] {
        let probe = core.connect(9);
        let _ = core.answer(probe, &[], outcome);
        let _ = core.give(Input::PeerDown { peer: peer(9) });
        hears(&mut core, &block);
    }
    let left = PATIENCE.saturating_sub(core.elapsed());
    assert_eq!(core.status().unheard, None);
    let _ = core.pass(left);
    signs(&mut core, &block);
    let unheard = core.status().unheard.expect("it says that it went on without them");
    assert_eq!((unheard.round.connected, unheard.round.heard), (2, 0));
}

/// Restored from a backup, it lost what it has signed, and was heard before.
#[test]
fn after_a_branch_was_abandoned_the_peers_are_asked_anew() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = Setup::signer().storing(&blocks, 1).guard(GuardState::after(Some(blocks[1].id()))).start();
    let before = core.connect(1);
    let _ = core.da_has(std::slice::from_ref(&other));
    let effects = core.operator_may(Command::AbandonBranch(blocks[1].id()));
    let [round] = tries(&effects)[..] else { panic!("{effects:#?}") };
    let next = branch(&[blocks[0].clone(), other.clone()], "c", 1).remove(0);
    // What was asked for before does not count; it is asked again.
    let effects = core.answer(before, std::slice::from_ref(&other), FetchOutcome::Complete);
    let [again] = probes(&effects)[..] else { panic!("{effects:#?}") };
    let _ = core.give(Input::KnownPeersTried { round });
    hears(&mut core, &next);
    let _ = core.answer(again, std::slice::from_ref(&other), FetchOutcome::Complete);
    signs(&mut core, &next);
}

/// Another node may have signed with it meanwhile.
#[test]
fn before_a_signer_that_came_back_is_asked_the_peers_are() {
    let blocks = chain(2);
    let mut core = Setup::signer().start();
    let probe = core.connect(1);
    let _ = core.answer(probe, &blocks[..1], FetchOutcome::Complete);
    let _ = core.give(Input::Signer(None));
    let effects = core.give(Input::Signer(Some(public_key(1))));
    let [probe] = probes(&effects)[..] else { panic!("{effects:#?}") };
    let [round] = tries(&effects)[..] else { panic!("{effects:#?}") };
    hears(&mut core, &blocks[1]);
    let _ = core.give(Input::KnownPeersTried { round });
    let _ = core.answer(probe, &blocks[1..], FetchOutcome::Complete);
    assert_eq!(core.soft(), Some(blocks[1].id()));
    signs(&mut core, &branch(&blocks, "a", 1)[0]);
}

/// Blocks of this key may be out there, which the host has refused here.
#[test]
fn after_a_veto_the_peers_are_asked_anew() {
    let blocks = chain(2);
    let mut core = Setup::signer().storing(&blocks, 0).start();
    let probe = core.connect(1);
    let _ = core.answer(probe, &[], FetchOutcome::NotFound);
    let ticket = core.ticket();
    let effects = core.give(Input::HostRejected { ticket, block: blocks[1].id() });
    assert_eq!((tries(&effects).len(), probes(&effects).len()), (1, 1));
}

/// Who follows has nothing to sign.
#[test]
fn a_follower_hears_nobody() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut setup = Setup::follower().storing(&blocks, 1);
    setup.config.known_peers = Acquaintance::Somebody;
    let mut core = setup.start();
    assert!(tries(&core.give(Input::Wakeup)).is_empty());
    assert_eq!((core.next_wakeup(), core.status().not_ready), (None, None));
    assert!(tries(&core.da_has(std::slice::from_ref(&other))).is_empty());
}

/// A peer that comes while the signer thinks could hold the block up for ever.
#[test]
fn who_connects_while_the_signer_thinks_is_too_late() {
    let block = chain(1).remove(0);
    let mut core = Setup::signer().start();
    let question = core.propose(proposal(&block));
    let _ = core.connect(1);
    assert_eq!(published(&core.sign(&question)), PublishAnswer::Accepted(block.id()));
    hears(&mut core, &branch(&[block], "a", 1)[0]);
}

// -------------------------------------------------------------------- a signature that is of no use

/// Somebody else's block of that height came while the signer thought; every publish was refused from then on.
#[test]
fn a_signature_that_came_too_late_is_not_held_against_the_key() {
    let blocks = chain(2);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = Setup::signer().storing(&blocks[..1], 0).guard(GuardState::after(Some(blocks[0].id()))).start();
    let question = core.propose(proposal(&blocks[1]));
    assert_eq!(core.gossip(&other), Verdict::Accept);
    let effects = core.sign(&question);
    assert_eq!(published(&effects), PublishAnswer::Conflict(other.id()));
    assert_eq!(changes(&effects), [Change::ResetGuard(Some(blocks[0].id()))], "from the next commit on");
    signs(&mut core, &branch(&[blocks[0].clone(), other], "c", 1)[0]);
}

#[test]
fn a_signature_that_came_after_a_halt_is_not_held_against_the_key() {
    let blocks = chain(2);
    let other = branch(&[], "b", 1).remove(0);
    let mut core = Setup::signer().storing(&blocks[..1], 0).start();
    let question = core.propose(proposal(&blocks[1]));
    let _ = core.da_has(std::slice::from_ref(&other));
    let effects = core.sign(&question);
    assert!(matches!(published(&effects), PublishAnswer::Halted(_)));
    assert_eq!(changes(&effects), [Change::ResetGuard(Some(blocks[0].id()))]);
}

/// The same block came from elsewhere: it is out there, and was signed.
#[test]
fn a_signature_that_somebody_brought_already_stays_in_the_guard() {
    let blocks = chain(2);
    let mut core = Setup::signer().storing(&blocks[..1], 0).start();
    let question = core.propose(proposal(&blocks[1]));
    assert_eq!(core.gossip(&blocks[1]), Verdict::Accept);
    let effects = core.sign(&question);
    assert_eq!(published(&effects), PublishAnswer::Duplicate(blocks[1].id()));
    assert_eq!(changes(&effects), []);
    let _ = core.pass(Duration::from_secs(1));
}

/// What lies at or below soft is no reason to wait, and takes no room: else any number of old blocks would have the peers asked anew.
#[test]
fn old_blocks_of_another_branch_hold_nothing_up() {
    let blocks = chain(4);
    let mut core = Setup::signer().storing(&blocks[..3], 1).limits(|limits| limits.awaited = 1).start();
    let _ = core.connect(1);
    let probe = core.connect(2);
    let _ = core.give(Input::PeerDown { peer: peer(1) });
    let _ = core.answer(probe, &blocks[..1], FetchOutcome::Complete);
    for name in ["b", "c", "d"] {
        let old = branch(&blocks[..1], name, 1).remove(0);
        let large = TooLargeHere { id: old.id(), parent: old.parent_hash(), len: 2, max: 1 };
        let _ = core.gossip_effects(2, Err(Fault::TooLargeHere(Box::new(large))));
        let _ = core.gossip(&old);
    }
    signs(&mut core, &blocks[3]);
}
