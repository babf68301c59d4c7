//! Several decisions in one write: what somebody is told once it is done is true then.

use blocksyncd::block::BlockId;
use blocksyncd::sync::{
    Answer, Batch, Change, Command, CommitId, Effect, Epoch, GuardEntry, Heads, Origin, PublishAnswer,
};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain, h, proposal};
use super::driver::{Core, Setup, commits};

/// Blocks that a host is told are stored, each with the newest commit that the answer waits for.
#[derive(Default)]
struct Told {
    waits_for: CommitId,
    stored: Vec<(CommitId, BlockId)>,
}

impl Told {
    fn listen(&mut self, effects: &[Effect]) {
        if let Some(batch) = commits(effects).last() {
            self.waits_for = batch.id;
        }
        for effect in effects {
            if let Effect::Reply { answer: Answer::Publish(answer), .. } = effect
                && let PublishAnswer::Accepted(id) | PublishAnswer::Duplicate(id) = answer
            {
                self.stored.push((self.waits_for, *id));
            }
        }
    }

    /// Everything is written, and each answer given as soon as it may be.
    fn hear(mut self, core: &mut Core) {
        assert_eq!(self.stored.len(), 1);
        core.write_in_groups(|core, durable| {
            for (_, id) in self.stored.extract_if(.., |(commit, _)| *commit <= durable) {
                assert!(core.has_on_disk(id), "the host is told that {id} is stored");
            }
        });
        assert_eq!(self.stored, [], "everything was told");
    }
}

/// Two blocks on disk, and another one of height 2 on DA.
fn core() -> (Core, Vec<AuthenticBlock>, AuthenticBlock) {
    let blocks = chain(3);
    let other = branch(&blocks[..1], "b", 1).remove(0);
    let mut core = Setup::signer().storing(&blocks[..2], 1).start();
    core.hold_writes();
    (core, blocks, other)
}

#[test]
fn a_block_that_was_published_and_taken_back_was_there_when_it_was_accepted() {
    let (mut core, blocks, other) = core();
    let mut told = Told::default();
    told.listen(&core.publish(proposal(&blocks[2])));
    told.listen(&core.da_has(&[other]));
    told.listen(&core.operator_may(Command::AbandonBranch(blocks[1].id())));
    told.hear(&mut core);
    assert!(!core.has_on_disk(blocks[2].id()));
}

/// The answer has no change of its own, and waits for what was decided before it.
#[test]
fn a_block_that_was_known_and_taken_back_was_there_when_that_was_said() {
    let (mut core, blocks, other) = core();
    let mut told = Told::default();
    told.listen(&core.da_has(&[]));
    told.listen(&core.propose(proposal(&blocks[1])));
    told.listen(&core.da_has(&[other]));
    told.listen(&core.operator_may(Command::AbandonBranch(blocks[1].id())));
    told.hear(&mut core);
    assert!(!core.has_on_disk(blocks[1].id()));
}

fn batch(id: u64, scanned_through: u64, changes: Vec<Change>) -> Batch {
    Batch { id: CommitId(id), changes, heads: Heads { scanned_through, ..Heads::empty(h(1)) }, guard: None }
}

#[test]
fn what_takes_something_back_begins_a_new_write() {
    let blocks = chain(2);
    let stored = blocks[0].link(None).expect("the first block");
    let ack = |name: &str, block: &AuthenticBlock| Change::Ack { consumer: name.into(), up_to: block.id() };
    let append = || Change::Append { block: stored.clone(), origin: Origin::Gossip };
    let may = |before: Vec<Change>, next: Change| batch(1, 0, before).may_absorb(&batch(2, 0, vec![next]));
    // Also what was answered without a change may be untrue afterwards.
    for taken_back in [
        Change::Truncate { from: h(9), epoch: Epoch(1) },
        Change::ResetGuard(None),
        Change::ForgetConsumer("a".into()),
        Change::Veto(None),
        Change::Halt(None),
    ] {
        assert!(!may(vec![], taken_back.clone()), "{taken_back:?}");
    }
    assert!(!may(vec![append()], Change::Prune { below: h(2) }));
    assert!(may(vec![append()], Change::Prune { below: h(1) }), "another block is pruned");
    assert!(!may(vec![ack("a", &blocks[1])], ack("a", &blocks[0])));
    assert!(may(vec![ack("a", &blocks[0])], ack("a", &blocks[1])));
    assert!(may(vec![ack("b", &blocks[1])], ack("a", &blocks[0])));
    assert!(may(vec![ack("a", &blocks[0])], append()));
    assert!(batch(1, 5, vec![]).may_absorb(&batch(2, 5, vec![])));
    assert!(!batch(1, 5, vec![]).may_absorb(&batch(2, 4, vec![])), "DA was read up to 5");
}

#[test]
fn the_newest_guard_of_a_write_counts() {
    let ids: Vec<_> = chain(2).iter().map(AuthenticBlock::id).collect();
    for (first, second, guard) in
        [(None, None, None), (Some(0), None, Some(0)), (None, Some(1), Some(1)), (Some(0), Some(1), Some(1))]
    {
        let entry = |index: Option<usize>| index.map(|index| GuardEntry { last: ids[index] });
        let mut all = Batch { guard: entry(first), ..batch(1, 0, vec![Change::Halt(None)]) };
        all.absorb(Batch { guard: entry(second), ..batch(2, 9, vec![Change::Veto(None)]) });
        assert_eq!(all, Batch { guard: entry(guard), ..batch(2, 9, vec![Change::Halt(None), Change::Veto(None)]) });
    }
}
