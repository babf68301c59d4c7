//! A chain whose DA is told by names: what a name brings back that is refused here, since the host vetoed it, or since it was given
//! up. Whatever the kind of the name: a block's hash, the rollup's own id, or a payload's hash.

use std::time::Duration;

use blocksyncd::block::Hash;
use blocksyncd::sync::{BlockQuery, Command, FetchOutcome, Name, PublishAnswer, Verdict};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{Spec, chain, proposal};
use super::driver::{Core, Setup, asked_by_hash, asks_for_signature, fetches, published, seen_name};

/// Blocks 1 and 2 of ours, and another block 2; each with an id and a payload of its own.
fn blocks() -> ([AuthenticBlock; 2], AuthenticBlock) {
    let of = |name: &str| Spec { host_id: name.as_bytes().to_vec().into(), ..Spec::of(name) };
    let first = of("one").on(None);
    ([first.clone(), of("two").on(Some(&first))], of("other").on(Some(&first)))
}

fn names(block: &AuthenticBlock) -> [Name; 3] {
    let header = block.block().header();
    [Name::Block(block.hash()), Name::HostId(header.host_id.clone()), Name::Payload(header.payload_hash)]
}

/// A peer whose head is this block, and who has the others, too, answers for a minute.
fn serve(core: &mut Core, head: &AuthenticBlock, blocks: &[&AuthenticBlock]) -> Vec<Hash> {
    let mut effects = core.connect_at(1, head);
    let mut asked = Vec::new();
    for _ in 0..12 {
        asked.extend(asked_by_hash(&effects).into_iter().map(|(_, hash)| hash));
        for fetch in fetches(&effects) {
            let given: Vec<_> = match fetch.query {
                BlockQuery::Hash(hash) => {
                    blocks.iter().filter(|block| block.hash() == hash).map(|&it| it.clone()).collect()
                }
                BlockQuery::Head => vec![head.clone()],
                BlockQuery::Range { from, .. } => {
                    vec![head.clone()].into_iter().filter(|it| it.height() == from).collect()
                }
            };
            let outcome = if given.is_empty() { FetchOutcome::NotFound } else { FetchOutcome::Complete };
            let _ = core.answer(fetch.request, &given, outcome);
        }
        effects = core.pass(Duration::from_secs(5));
    }
    asked
}

/// Two refusals of block 2: the host's, and that of an operator who was told a wrong name.
fn refusing(ours: &[AuthenticBlock; 2], setup: Setup, by_veto: Refusal) -> Core {
    let mut core = setup.named().storing(ours, 1).start();
    match by_veto {
        Refusal::Veto => drop(core.reject(ours[1].id())),
        Refusal::Abandoned => {
            let _ = core.report(0, 1, vec![seen_name(1, 0, 2, Name::HostId("wrong".into()))]);
            assert!(core.status().halted.is_some());
            let _ = core.operator_may(Command::AbandonBranch(ours[1].id()));
            let _ = core.operator_may(Command::RescanDa(1));
        }
    }
    assert_eq!(core.soft(), Some(ours[0].id()));
    core
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Veto,
    Abandoned,
}

#[test]
fn what_is_refused_comes_back_when_da_names_it() {
    let (ours, other) = blocks();
    for refusal in [Refusal::Veto, Refusal::Abandoned] {
        for name in names(&ours[1]) {
            for setup in [Setup::follower(), Setup::signer()] {
                let mut core = refusing(&ours, setup, refusal);
                let _ = core.report(0, 1, vec![seen_name(1, 0, 2, name.clone())]);
                assert!(
                    serve(&mut core, &ours[0], &[&ours[1], &other]).contains(&ours[1].hash()),
                    "{refusal:?} {name:?}"
                );
                assert_eq!(core.hard(), Some(ours[1].id()), "{refusal:?} {name:?}");
                assert_eq!(core.status().vetoed, None, "it does not stand against DA");
            }
        }
    }
}

/// Nor is it stored for another one's name.
#[test]
fn what_is_refused_stays_so_when_da_names_another_one() {
    let (ours, other) = blocks();
    for refusal in [Refusal::Veto, Refusal::Abandoned] {
        for name in names(&other) {
            let mut core = refusing(&ours, Setup::follower(), refusal);
            let _ = core.report(0, 1, vec![seen_name(1, 0, 2, name.clone())]);
            let _ = core.gossip(&ours[1]);
            assert_eq!(core.soft(), Some(ours[0].id()), "{refusal:?} {name:?}");
            let _ = serve(&mut core, &ours[1], &[&ours[1]]);
            assert_eq!(core.soft(), Some(ours[0].id()), "{refusal:?} {name:?}");
            // And that one is, however it comes.
            let _ = core.gossip(&other);
            assert_eq!((core.hard(), core.status().vetoed), (Some(other.id()), None), "{refusal:?} {name:?}");
        }
    }
}

/// It was there before its name, and waited for the veto's end.
#[test]
fn what_waits_behind_a_veto_is_stored_when_da_names_it() {
    let (ours, other) = blocks();
    for name in names(&other) {
        let mut core = refusing(&ours, Setup::follower(), Refusal::Veto);
        let _ = core.gossip(&other);
        assert_eq!(core.soft(), Some(ours[0].id()));
        let _ = core.report(0, 1, vec![seen_name(1, 0, 2, name)]);
        assert_eq!((core.hard(), core.status().vetoed), (Some(other.id()), None));
    }
}

/// The name is of what comes next on DA, and of nothing above it.
#[test]
fn a_veto_stands_against_what_is_named_higher() {
    let blocks = chain(4);
    let mut core = Setup::follower().named().storing(&blocks[..3], 1).start();
    let _ = core.reject(blocks[2].id());
    let _ = core.report(0, 1, vec![seen_name(1, 0, 3, Name::Block(blocks[2].hash()))]);
    let _ = core.gossip(&blocks[2]);
    assert_eq!((core.soft(), core.status().vetoed), (Some(blocks[1].id()), Some(blocks[2].id())));
    let _ = core.report(1, 2, vec![seen_name(2, 0, 2, Name::Block(blocks[1].hash()))]);
    let _ = core.gossip(&blocks[2]);
    assert_eq!((core.hard(), core.status().vetoed), (Some(blocks[2].id()), None));
}

/// The host that refused it makes it after all, and says that it is on DA.
#[test]
fn what_is_named_may_be_published_though_it_was_refused() {
    let (ours, _) = blocks();
    let mut core = refusing(&ours, Setup::signer(), Refusal::Veto);
    let refused = core.refusal(proposal(&ours[1]));
    assert!(matches!(&refused, PublishAnswer::NotReady(why) if why.contains("veto")), "{refused:?}");
    let _ = core.report(0, 1, vec![seen_name(1, 0, 2, Name::HostId("two".into()))]);
    let effects = core.propose(proposal(&ours[1]));
    assert!(asks_for_signature(&effects), "{effects:#?}");
    assert_eq!(published(&core.sign(&effects)), PublishAnswer::Accepted(ours[1].id()));
    assert_eq!((core.hard(), core.status().vetoed), (Some(ours[1].id()), None));
}

/// Of a branch that was given up for a name only its lowest block is named again at first: with it the reason is gone for all.
#[test]
fn what_stood_on_a_block_comes_back_with_it() {
    let blocks = chain(5);
    for setup in [Setup::follower(), Setup::signer()] {
        let mut core = setup.named().storing(&blocks, 1).start();
        let _ = core.report(0, 1, vec![seen_name(1, 0, 2, Name::HostId("wrong".into()))]);
        let _ = core.operator_may(Command::AbandonBranch(blocks[1].id()));
        let _ = core.operator_may(Command::RescanDa(1));
        assert_eq!(core.gossip(&blocks[4]), Verdict::Ignore, "it is given up until then");
        let _ = core.report(0, 1, vec![seen_name(1, 0, 2, Name::Block(blocks[1].hash()))]);
        for block in &blocks[1..] {
            let _ = core.gossip(block);
        }
        assert_eq!((core.soft(), core.hard()), (Some(blocks[4].id()), Some(blocks[1].id())));
    }
}
