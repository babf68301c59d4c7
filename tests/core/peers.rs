//! Blame and bans: only what a peer provably did, by rate and share where it may be a mere relay.

use std::collections::BTreeSet;
use std::time::Duration;

use blocksyncd::block::Malformed;
use blocksyncd::sync::{Effect, FetchOutcome, Fetched, Input, Name, Offence, PeerId, Verdict};
use blocksyncd::verify::{AuthenticBlock, Fault};

use super::blocks::{Spec, branch, chain};
use super::driver::{Core, Setup, peer, penalties, range_request, ranges, seen_name, verdict};

fn settings() -> blocksyncd::sync::Timing {
    Setup::follower().config.timing
}

/// What a peer's forged message costs it.
fn forgery(core: &mut Core, name: u8) -> Option<Duration> {
    let effects = core.gossip_effects(name, Err(Fault::BadSignature));
    assert_eq!(verdict(&effects), Verdict::Reject);
    let [(who, Offence::BadSignature, ban)] = &penalties(&effects)[..] else { panic!("{effects:#?}") };
    assert_eq!(*who, peer(name));
    *ban
}

#[test]
fn a_malformed_message_bans_longer_each_time() {
    let (first, longest) = (settings().ban_min, settings().ban_max);
    let mut core = Setup::follower().start();
    let mut expected = first;
    for _ in 0..20 {
        let effects = core.gossip_effects(1, Err(Fault::Malformed(Malformed::NotCanonical)));
        assert_eq!(verdict(&effects), Verdict::Reject);
        assert_eq!(penalties(&effects), [(peer(1), Offence::BadBlock, Some(expected))]);
        expected = (expected * 2).min(longest);
    }
    assert_eq!(expected, longest);
    // Somebody else begins at the beginning.
    let effects = core.gossip_effects(2, Err(Fault::PayloadMismatch));
    assert_eq!(penalties(&effects), [(peer(2), Offence::BadBlock, Some(first))]);
}

#[test]
fn a_peer_is_called_by_its_last_bytes() {
    let name = |bytes: &[u8]| format!("{:?}", PeerId::new(bytes));
    assert_eq!(name(&[0, 0x24, 1, 2, 3, 0xff]), "peer..010203ff");
    assert_eq!(name(&[7]), "peer..07");
    assert_eq!(PeerId::new(&[7, 8]).as_bytes(), [7, 8]);
}

#[test]
fn each_offence_is_called_something_else() {
    let names = [Offence::BadBlock, Offence::BadSignature, Offence::BadRange].map(Offence::reason);
    assert_eq!(BTreeSet::from(names).len(), names.len(), "{names:?}");
}

#[test]
fn nobody_is_blamed_for_what_only_we_may_not_know() {
    let mut core = Setup::follower().start();
    let early = Fault::FromTheFuture { ahead: Duration::from_secs(99) };
    let effects = core.gossip_effects(1, Err(early));
    assert_eq!((verdict(&effects), penalties(&effects)), (Verdict::Ignore, vec![]));
}

#[test]
fn ten_forgeries_a_minute_ban_nobody_and_eleven_do() {
    let mut core = Setup::follower().start();
    for _ in 0..10 {
        assert_eq!(forgery(&mut core, 1), None);
    }
    assert_eq!(forgery(&mut core, 1), Some(settings().ban_min));
    assert_eq!(forgery(&mut core, 1), Some(settings().ban_min * 2));
    assert_eq!(forgery(&mut core, 2), None);
}

#[test]
fn forgeries_are_counted_by_the_minute() {
    let mut core = Setup::follower().start();
    // The first minute begins with the start of the clock.
    for _ in 0..10 {
        assert_eq!(forgery(&mut core, 1), None);
    }
    core.sleep(Duration::from_nanos(59_999_999_999));
    assert_eq!(forgery(&mut core, 1), Some(settings().ban_min));
    core.sleep(Duration::from_nanos(1));
    for _ in 0..10 {
        assert_eq!(forgery(&mut core, 1), None);
    }
    assert!(forgery(&mut core, 1).is_some());
}

/// Peers written in Go pass on what they have not checked.
#[test]
fn a_relay_of_mostly_sound_messages_is_not_banned() {
    let block = chain(1).remove(0);
    let mut core = Setup::follower().start();
    for _ in 0..12 {
        let _ = core.gossip_effects(1, Ok(block.clone()));
    }
    for _ in 0..12 {
        assert_eq!(forgery(&mut core, 1), None, "as many as sound ones are not most");
    }
    assert_eq!(forgery(&mut core, 1), Some(settings().ban_min));
}

#[test]
fn what_a_peer_earned_outlives_its_connection() {
    let mut core = Setup::follower().start();
    let _ = core.connect(1);
    let _ = core.gossip_effects(1, Err(Fault::PayloadMismatch));
    let _ = core.give(Input::PeerDown { peer: peer(1) });
    let _ = core.connect(1);
    let effects = core.gossip_effects(1, Err(Fault::PayloadMismatch));
    assert_eq!(penalties(&effects)[0].2, Some(settings().ban_min * 2));
}

#[test]
fn so_many_peers_are_remembered_and_the_longest_silent_is_forgotten() {
    let mut core = Setup::follower().limits(|limits| limits.remembered_peers = 2).start();
    let ban = |core: &mut Core, name| {
        core.sleep(Duration::from_secs(1));
        penalties(&core.gossip_effects(name, Err(Fault::PayloadMismatch)))[0].2
    };
    let (first, second) = (Some(settings().ban_min), Some(settings().ban_min * 2));
    assert_eq!(ban(&mut core, 1), first);
    assert_eq!(ban(&mut core, 2), first);
    assert_eq!(ban(&mut core, 1), second);
    // Number 2 makes room for number 3.
    assert_eq!(ban(&mut core, 3), first);
    assert_eq!(ban(&mut core, 1), Some(settings().ban_min * 4));
    assert_eq!(ban(&mut core, 2), first);
}

// --------------------------------------------------------------------------------------- range answers

/// A core that stores one block, and has asked peer 1 for the blocks up to 9.
fn asking() -> (Core, blocksyncd::sync::Fetch, Vec<AuthenticBlock>) {
    let blocks = chain(9);
    let mut core = Setup::follower().storing(&blocks[..1], 0).start();
    let effects = core.connect_at(1, &blocks[8]);
    let fetch = range_request(&effects);
    (core, fetch, blocks)
}

#[test]
fn a_range_answer_is_what_was_asked_for() {
    let (mut core, fetch, blocks) = asking();
    assert_eq!(fetch.query, blocksyncd::sync::BlockQuery::Range { from: blocks[1].height(), amount: 7 });
    let effects = core.answer(fetch.request, &blocks[1..8], FetchOutcome::Complete);
    assert_eq!(penalties(&effects), []);
    assert_eq!(core.soft(), Some(blocks[8].id()), "with the head, which was here already");
}

#[test]
fn another_range_than_asked_for_is_an_offence() {
    let blocks = chain(10);
    let stray = branch(&branch(&[], "b", 2), "b", 1);
    for (wrong, good) in [
        // Higher, lower, with a hole, one too many, not linked: what comes before that is good.
        (blocks[2..5].to_vec(), 1),
        (blocks[..3].to_vec(), 1),
        (vec![blocks[1].clone(), blocks[3].clone()], 2),
        (blocks[1..9].to_vec(), 9),
        (vec![blocks[1].clone(), stray[0].clone()], 2),
    ] {
        let (mut core, fetch, _) = asking();
        let effects = core.answer(fetch.request, &wrong, FetchOutcome::Complete);
        assert_eq!(penalties(&effects), [(peer(1), Offence::BadRange, Some(settings().ban_min))], "{wrong:?}");
        assert_eq!(core.soft(), Some(blocks[good - 1].id()), "{wrong:?}");
    }
}

#[test]
fn a_broken_answer_is_an_offence_and_a_doubtful_one_is_not() {
    for (fault, offence) in [
        (None, true),
        (Some(Fault::BadSignature), true),
        (Some(Fault::Malformed(Malformed::NotCanonical)), true),
        (Some(Fault::FromTheFuture { ahead: Duration::from_secs(99) }), false),
    ] {
        let (mut core, fetch, blocks) = asking();
        let effects = core.answer(fetch.request, &blocks[1..3], FetchOutcome::Invalid(fault.clone()));
        assert_eq!(penalties(&effects).len(), usize::from(offence), "{fault:?}");
        assert_eq!(core.soft(), Some(blocks[2].id()), "what came before is good");
        // Who is to blame rests.
        assert_eq!(ranges(&effects).is_empty(), offence);
    }
}

#[test]
fn failing_is_no_offence() {
    for outcome in [
        FetchOutcome::Complete,
        FetchOutcome::NotFound,
        FetchOutcome::Reset,
        FetchOutcome::Timeout,
        FetchOutcome::Disconnected,
        FetchOutcome::Unsupported,
        FetchOutcome::NotSent,
    ] {
        let (mut core, fetch, _) = asking();
        let effects = core.answer(fetch.request, &[], outcome.clone());
        assert_eq!((penalties(&effects), ranges(&effects)), (vec![], vec![]), "{outcome:?}");
    }
}

#[test]
fn another_valid_branch_is_no_offence() {
    let (mut core, fetch, blocks) = asking();
    let other = branch(&branch(&[], "b", 1), "b", 2);
    let effects = core.answer(fetch.request, &other, FetchOutcome::Complete);
    assert_eq!(penalties(&effects), []);
    assert!(core.status().forked);
    assert_eq!(core.soft(), Some(blocks[0].id()));
}

#[test]
fn an_answer_that_nobody_waits_for_is_not_judged() {
    let (mut core, fetch, blocks) = asking();
    let _ = core.answer(fetch.request, &blocks[1..2], FetchOutcome::Complete);
    let fetched = Fetched { blocks: blocks[5..7].to_vec(), outcome: FetchOutcome::Complete };
    assert_eq!(core.give(Input::Fetched { request: fetch.request, fetched }), []);
}

#[test]
fn a_wrong_block_for_a_hash_is_an_offence() {
    let blocks = chain(2);
    let wanted = branch(&blocks, "b", 1).remove(0);
    for (answer, guilty) in [(vec![blocks[1].clone()], true), (vec![], false)] {
        let mut core = Setup::follower().named().storing(&blocks, 2).start();
        let _ = core.connect_at(1, &blocks[1]);
        let (_, effects) = core.report(0, 1, vec![seen_name(1, 0, 3, Name::Block(wanted.hash()))]);
        let Some(Effect::Fetch(fetch)) = effects.iter().find(|effect| matches!(effect, Effect::Fetch(_))) else {
            panic!("{effects:#?}")
        };
        let effects = core.answer(fetch.request, &answer, FetchOutcome::Complete);
        assert_eq!(penalties(&effects).len(), usize::from(guilty));
        assert_eq!(super::driver::asked_by_hash(&effects), [], "it rests");
        let effects = core.pass(settings().backoff_min);
        assert_eq!(super::driver::asked_by_hash(&effects), [(peer(1), wanted.hash())]);
    }
}

#[test]
fn a_sound_answer_for_a_hash_is_taken() {
    let blocks = chain(2);
    let wanted = Spec::of("b").on(Some(&blocks[1]));
    let mut core = Setup::follower().named().storing(&blocks, 2).start();
    let _ = core.connect_at(1, &blocks[1]);
    let (_, effects) = core.report(0, 1, vec![seen_name(1, 0, 3, Name::Block(wanted.hash()))]);
    let request = super::driver::fetches(&effects)[0].request;
    let effects = core.answer(request, std::slice::from_ref(&wanted), FetchOutcome::Complete);
    assert_eq!(penalties(&effects), []);
    assert_eq!((core.soft(), core.hard()), (Some(wanted.id()), Some(wanted.id())));
}
