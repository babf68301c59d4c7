//! Any process dies in the middle, and whoever is left, or started again, goes on from what is on disk: nothing that was
//! acknowledged is lost, and no host sees a gap or a block twice.

use std::rc::Rc;

use blocksyncd::api::client::{ClientError, PublishResult};
use blocksyncd::block::BlockId;

use super::host::{Host, payload_on};
use super::mock::Mock;
use super::place::{Place, Signed};
use super::process::Sidecar;
use super::{da, hosts, within};

#[test]
fn the_publishers_sidecar_is_killed_in_the_middle_of_a_publish() {
    const ROUNDS: u64 = 3;
    const BLOCKS: u64 = 8;
    let place = Place::new();
    let full = place.full_node("full", &[]);
    let address = full.address();
    hosts(async {
        let mut b = Host::follower(&full).await;
        let mut sequencer = place.sequencer(&["--seed", &address]);
        let mut a = Host::publisher(&sequencer).await;
        let mut chain: Vec<BlockId> = Vec::new();
        for _ in 0..ROUNDS {
            let acknowledged = a.publish_chain(chain.last().copied(), BLOCKS).await;
            chain.extend(acknowledged.iter().map(|block| block.id));

            // One publish is on its way when it dies; whether it was made durable nobody knows.
            let parent = chain.last().copied();
            let next = Host::new_block(parent, payload_on(parent));
            let asked = tokio::task::spawn_local({
                let (desk, next) = (a.desk().clone(), next.clone());
                async move { desk.publish(&next).await }
            });
            tokio::task::yield_now().await;
            sequencer.kill();
            let lost = within("an answer, or none", asked).await.unwrap();

            sequencer = place.sequencer(&["--seed", &address]);
            a = a.reattach(&sequencer).await;
            for (at, id) in (1..).zip(&chain) {
                assert_eq!(a.stored(at).await, Some(*id), "acknowledged, and so durable");
            }
            // To ask again is safe and right, and the answer is the same.
            let again = match a.try_publish(&next).await {
                PublishResult::Accepted(published) | PublishResult::Duplicate(published) => published,
                other => panic!("{other:?}"),
            };
            match lost {
                Ok(PublishResult::Accepted(published)) => assert_eq!(published, again),
                Ok(other) => panic!("{other:?}"),
                Err(error) => assert!(matches!(error, ClientError::Disconnected(_)), "{error:?}"),
            }
            chain.push(again.id);
            a.until_soft(chain.len() as u64).await;
            assert_eq!(a.ledger.chain, chain);
        }
        b.until_soft(chain.len() as u64).await;
        assert_eq!(b.ledger.chain, chain);
        b.report_digests(1, &chain).await;
        b.until_hard(chain.len() as u64).await;
    });
}

#[test]
fn a_followers_sidecar_is_killed_in_the_middle_of_the_stream() {
    const BLOCKS: u64 = 60;
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let a = Rc::new(Host::publisher(&sequencer).await);
        let publishing = tokio::task::spawn_local({
            let a = a.clone();
            async move { a.publish_chain(None, BLOCKS).await }
        });
        let seed = sequencer.address();
        let mut full = place.full_node("full", &["--seed", &seed]);
        let mut b = Host::follower(&full).await;
        let mut da_height = 0;
        for at in [10, 25, 40] {
            b.until_soft(at).await;
            // Some of it is hard, and its host has seen that or not.
            da_height += 1;
            let (hard, soft) = (b.ledger.hard, b.ledger.soft());
            let newly: Vec<_> = (hard + 1..=soft - 3).map(|at| b.ledger.at(at)).collect();
            b.report_digests(da_height, &newly).await;
            full.kill();
            full = place.full_node("full", &["--seed", &seed]);
            b = b.reattach(&full).await;
            assert_eq!(b.da_position().await, da_height);
        }
        b.until_soft(BLOCKS).await;
        let chain = within("all blocks", publishing).await.unwrap();
        assert_eq!(b.ledger.chain, chain.iter().map(|block| block.id).collect::<Vec<_>>());
        let rest: Vec<_> = (1..=BLOCKS).map(|at| b.ledger.at(at)).collect();
        b.report_digests(da_height + 1, &rest).await;
        b.until_hard(BLOCKS).await;
        assert!(b.ledger.retracts.is_empty(), "{:?}", b.ledger.retracts);
    });
}

/// A DA layer with one blob per block and DA height.
fn da_of(chain: &[Signed]) -> String {
    let blob = |block: &Signed| {
        let mut blob = Vec::new();
        prost::encode_length_delimiter(block.bytes.len(), &mut blob).unwrap();
        blob.extend_from_slice(&block.bytes);
        vec![blob]
    };
    da::start(super::place::CHAIN_ID, chain.iter().map(blob).collect())
}

#[test]
fn a_following_host_is_killed_and_so_is_its_sidecar_and_it_resumes_from_its_own_state() {
    const BLOCKS: u64 = 400;
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    let chain = hosts(async {
        let a = Host::publisher(&sequencer).await;
        a.publish_chain(None, BLOCKS).await
    });
    let da = da_of(&chain);
    let until = BLOCKS.to_string();
    let args = ["--da", &da, "--da-poll", "10ms", "--until-hard", &until];

    // One that nobody disturbs says what is right.
    let seed = sequencer.address();
    let calm = place.full_node("calm", &["--seed", &seed]);
    let expected = Mock::start(&calm, &place.home("calm.state"), &args).end();
    assert_eq!((&expected["soft"], &expected["hard"]), (&BLOCKS.into(), &BLOCKS.into()));

    let state = place.home("full.state");
    let mut full = place.full_node("full", &["--seed", &seed]);
    let mut soft = 0;
    for round in 0..4 {
        let mock = Mock::start(&full, &state, &args);
        let line = mock.until("attached", |line| line["attached"] == true || line["event"] == "end");
        if line["event"] == "end" {
            // The one before it had come to the end before it was killed.
            break;
        }
        let now = line["soft"].as_u64().unwrap();
        assert!(now >= soft, "what it executed it has executed: {now} after {soft}");
        // A little further, unless all is done.
        let further = |line: &serde_json::Value| line["soft"].as_u64() > Some(now) || line["event"] == "end";
        soft = mock.until("progress", further)["soft"].as_u64().unwrap();
        if round % 2 == 1 {
            full.kill();
            full = place.full_node("full", &["--seed", &seed]);
        }
        drop(mock);
    }
    let ended = Mock::start(&full, &state, &args).end();
    assert_eq!(
        (&ended["hard"], &ended["state_hash"]),
        (&expected["hard"], &expected["state_hash"]),
        "each block was executed once, in order"
    );
}

#[test]
fn a_producing_host_is_killed_and_makes_no_block_twice() {
    const BLOCKS: u64 = 40;
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    let state = place.home("seq.state");
    let blocks = BLOCKS.to_string();
    let args = ["--role", "sequencer", "--blocks", &blocks, "--block-time", "5ms", "--payload-size", "100"];
    let at_least = |mock: &Mock, at: u64| mock.until("soft", |line| line["soft"].as_u64() >= Some(at));
    for at in [8, 20] {
        let mock = Mock::start(&sequencer, &state, &args);
        at_least(&mock, at);
        drop(mock);
    }
    let mock = Mock::start(&sequencer, &state, &args);
    at_least(&mock, BLOCKS);
    let follow = |sidecar: &Sidecar| {
        hosts(async {
            let mut host = Host::follower(sidecar).await;
            host.until_soft(BLOCKS).await;
            assert_eq!((host.ledger.soft(), host.ledger.equivocations.len()), (BLOCKS, 0));
            host.ledger.chain
        })
    };
    assert_eq!(follow(&sequencer), follow(&full));
}
