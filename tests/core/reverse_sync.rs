//! The branch of a pinned block is found by walking down from it, when everybody ahead is on another branch than ours.

use std::time::Duration;

use blocksyncd::block::Hash;
use blocksyncd::sync::{
    Anchor, BlockQuery, Change, Effect, Epoch, FetchOutcome, GuardState, Halt, History, Timing, Trusted, Verdict,
};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain, h};
use super::driver::{Core, Setup, appended, asked_by_hash, at, changes, fetches, peer, range_request, ranges};

/// The right branch, of seven blocks, and ours, which leaves it after the second.
fn branches() -> (Vec<AuthenticBlock>, Vec<AuthenticBlock>) {
    let right = chain(7);
    let ours: Vec<_> = right[..2].iter().cloned().chain(branch(&right[..2], "b", 2)).collect();
    (right, ours)
}

fn pinned_at_six(right: &[AuthenticBlock], ours: &[AuthenticBlock]) -> Setup {
    let mut setup = Setup::follower().storing(ours, 1);
    setup.at.anchor = Some(Anchor { id: right[5].id(), position: at(9, 0) });
    setup
}

/// Gives the core what it asks for by hash, as long as it asks.
fn walk(core: &mut Core, mut effects: Vec<Effect>, right: &[AuthenticBlock]) -> (Vec<Hash>, Vec<Effect>) {
    let mut asked = Vec::new();
    while let Some(request) = fetches(&effects).into_iter().find(|fetch| matches!(fetch.query, BlockQuery::Hash(_))) {
        let BlockQuery::Hash(hash) = request.query else { unreachable!("just seen") };
        asked.push(hash);
        let block = right.iter().find(|block| block.hash() == hash).expect("it is on the right branch");
        effects = core.answer(request.request, std::slice::from_ref(block), FetchOutcome::Complete);
    }
    (asked, effects)
}

/// A peer at the head of the right branch, whose first range does not fit onto ours.
fn meet_the_right_branch(core: &mut Core, right: &[AuthenticBlock]) -> Vec<Effect> {
    let request = range_request(&core.connect_at(1, &right[6]));
    core.answer(request.request, &right[4..6], FetchOutcome::Complete)
}

#[test]
fn a_wrong_branch_is_left_where_the_parents_of_the_pinned_block_leave_it() {
    let (right, ours) = branches();
    let mut core = pinned_at_six(&right, &ours).start();
    let effects = meet_the_right_branch(&mut core, &right);
    let (asked, effects) = walk(&mut core, effects, &right);
    let down: Vec<_> = right[2..6].iter().rev().map(AuthenticBlock::hash).collect();
    assert_eq!(asked, down, "from the pinned block down to the first one that is not ours");
    assert!(changes(&effects).contains(&Change::Truncate { from: h(3), epoch: Epoch(1) }), "{effects:#?}");

    // What lost does not come back, and who was elsewhere is not any more.
    assert_eq!(core.gossip(&ours[2]), Verdict::Ignore);
    assert_eq!(core.soft(), Some(right[1].id()));
    // It has rested then from a useless answer.
    let effects = core.pass(Timing::default().backoff_min);
    assert_eq!(ranges(&effects), [(peer(1), 3, 5)]);
    let request = range_request(&effects).request;
    let ids: Vec<_> = right[2..].iter().map(AuthenticBlock::id).collect();
    assert_eq!(appended(&core.answer(request, &right[2..], FetchOutcome::Complete)), ids);
}

#[test]
fn nobody_walks_while_somebody_is_on_our_branch() {
    let (right, ours) = branches();
    let mut core = pinned_at_six(&right, &ours).start();
    let request = range_request(&core.connect_at(1, &right[6]));
    core.answer(request.request, &right[4..6], FetchOutcome::Complete);
    core.connect_at(2, &branch(&ours, "b", 3)[2]);
    assert_eq!(asked_by_hash(&core.pass(Duration::from_secs(1))), []);
}

#[test]
fn nobody_walks_without_a_pinned_block() {
    let (right, ours) = branches();
    let mut core = Setup::follower().storing(&ours, 1).start();
    let effects = meet_the_right_branch(&mut core, &right);
    assert_eq!(asked_by_hash(&effects), []);
    assert!(core.status().forked);
}

#[test]
fn a_signer_does_not_take_back_but_halts() {
    let (right, ours) = branches();
    let setup = pinned_at_six(&right, &ours).guard(GuardState::Unused);
    let mut core = setup.start();
    let effects = meet_the_right_branch(&mut core, &right);
    walk(&mut core, effects, &right);
    assert_eq!(core.soft(), Some(ours[3].id()));
    let halt = Halt::Diverged { ours: ours[2].id(), da: right[2].id(), position: at(9, 0) };
    assert_eq!(core.status().halted, Some(halt));
}

#[test]
fn a_trusted_block_leads_to_its_branch_too() {
    let (right, ours) = branches();
    let history = History { trusted: Some(Trusted { id: right[5].id(), da: None }), ..History::default() };
    let mut core = Setup::follower().storing(&ours, 1).history(history).start();
    let effects = meet_the_right_branch(&mut core, &right);
    let (asked, effects) = walk(&mut core, effects, &right);
    assert_eq!(asked.len(), 4);
    assert!(changes(&effects).contains(&Change::Truncate { from: h(3), epoch: Epoch(1) }), "{effects:#?}");

    // Not where blocks of our own may be out there: DA alone takes these back.
    let mut core = Setup::follower().storing(&ours, 1).history(history).guard(GuardState::Unused).start();
    let effects = meet_the_right_branch(&mut core, &right);
    assert_eq!(asked_by_hash(&effects), []);
}

#[test]
fn no_more_steps_than_there_is_room_for() {
    let (right, ours) = branches();
    let mut core = pinned_at_six(&right, &ours).limits(|limits| limits.pending_blocks = 2).start();
    let effects = meet_the_right_branch(&mut core, &right);
    let (asked, _) = walk(&mut core, effects, &right);
    assert_eq!(asked.len(), 2);
}

/// It is everybody else who is elsewhere: what is ours stays, and nothing is asked for again.
#[test]
fn a_walk_that_ends_on_top_of_our_own_branch_takes_nothing_back() {
    let (right, _) = branches();
    for guard in [GuardState::Missing, GuardState::Unused] {
        let mut core = pinned_at_six(&right, &right[..2]).guard(guard).start();
        let other = branch(&right[..2], "b", 5);
        let request = range_request(&core.connect_at(1, &other[4]));
        let effects = core.answer(request.request, &branch(&right[..1], "c", 5)[1..5], FetchOutcome::Complete);
        let (asked, _) = walk(&mut core, effects, &right);
        assert_eq!(asked.len(), 4, "down to the block on top of ours");
        assert_eq!((core.heads().epoch, core.status().halted), (Epoch(0), None));
        assert!(core.soft() >= Some(right[1].id()));
        // A signer asks what the others stand on; nobody asks for what is known.
        let asked = asked_by_hash(&core.pass(Duration::from_secs(2)));
        assert!(asked.iter().all(|(_, hash)| right.iter().all(|block| block.hash() != *hash)), "{asked:?}");
    }
}

/// Whoever pins a block on a branch that leaves ours below hard is wrong: DA has decided.
#[test]
fn nobody_walks_below_a_hard_block() {
    let (right, ours) = branches();
    let mut core = Setup::follower().storing(&ours, 4);
    core.at.anchor = Some(Anchor { id: right[5].id(), position: at(9, 0) });
    let mut core = core.start();
    let effects = meet_the_right_branch(&mut core, &right);
    let (asked, _) = walk(&mut core, effects, &right);
    assert_eq!(asked.len(), 1, "the pinned one: what it stands on lost on DA");
    assert_eq!((core.soft(), core.heads().epoch), (Some(ours[3].id()), Epoch(0)));
}
