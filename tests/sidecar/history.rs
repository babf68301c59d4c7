//! How much of the chain is kept, where it begins, and what is said of what is not here.

use blocksyncd::api::ReportedAs;
use blocksyncd::api::client::{Lookup, PublishResult, Which};
use blocksyncd::block::BlockId;
use blocksyncd::sync::Basis;
use serde_json::{Value, json};

use super::host::Host;
use super::place::Place;
use super::process::{Sidecar, call};
use super::{height, hosts, within};

/// What `ctl` answers, also when it is a refusal.
fn refused(sidecar: &Sidecar, args: &[&str]) -> String {
    let output = sidecar.ctl(args);
    assert_ne!(output.code, Some(0), "{output:?}");
    output.stderr
}

/// The block ids of a chain of `n` blocks that `host` publishes, the first `hard` of them reported.
async fn publish(host: &mut Host, n: u64, hard: usize) -> Vec<BlockId> {
    let chain: Vec<_> = host.publish_chain(host.ledger.tip(), n).await.into_iter().map(|block| block.id).collect();
    host.until_soft(n).await;
    host.report_digests(1, &chain[..hard]).await;
    chain
}

fn tail(sidecar: &Sidecar) -> u64 {
    sidecar.ask(&["status"])["info"]["heads"]["tail"].as_u64().unwrap()
}

/// The setting that has a node start at this block.
fn from(id: BlockId) -> String {
    format!("sync.from={id}")
}

#[test]
fn a_pruned_node_keeps_what_it_should_and_says_what_is_gone() {
    let place = Place::new();
    let pruning = ["--set", "store.retain_blocks=5"];
    let sequencer = place.sequencer(&pruning);
    let chain = hosts(async {
        let mut host = Host::publisher(&sequencer).await;
        let chain = publish(&mut host, 20, 15).await;
        host.until_status("pruning", |status| status.info.heads.tail == height(11)).await;
        for (at, found) in [(1, false), (10, false), (11, true), (20, true)] {
            let lookup = within("a lookup", host.observer().block(Which::Height(height(at)))).await.unwrap();
            match lookup {
                Lookup::Found { .. } => assert!(found, "{at}"),
                Lookup::Pruned { tail } => assert_eq!((tail, found), (height(11), false), "{at}"),
                Lookup::NotFound => panic!("{at} was here once"),
            }
        }
        let told = host.history(20, 15).await;
        assert_eq!(told, "gap1-10 11 hard11@1 12 hard12@1 13 hard13@1 14 hard14@1 15 hard15@1 16 17 18 19 20");
        chain
    });
    assert!(refused(&sequencer, &["get", "10"]).contains("the lowest one is at height 11"));
    let stores = sequencer.ctl(&["status"]).stdout;
    assert!(stores.contains("10 blocks, ") && stores.contains("keeps 5 blocks"), "{stores}");

    // It goes on so after a restart, and says how much it stores.
    let bytes = sequencer.ask(&["status"])["storedBytes"].as_u64().unwrap();
    sequencer.stop();
    let sequencer = place.sequencer(&pruning);
    assert_eq!((tail(&sequencer), sequencer.ask(&["status"])["storedBytes"].as_u64()), (11, Some(bytes)));

    // Who needs more is told that nobody has it, and who begins later follows.
    let seed = sequencer.address();
    let late = place.full_node("late", &["--seed", &seed]);
    let trusting = place.full_node("trusting", &["--seed", &seed, "--set", &from(chain[14])]);
    hosts(async {
        let host = Host::publisher(&late).await;
        let status = host.until_status("history that nobody has", |status| status.history_unavailable).await;
        assert_eq!(status.info.heads.soft, None);
        let host = Host::publisher(&trusting).await;
        let status = host.until_status("the head", |status| status.info.heads.soft == Some(chain[19])).await;
        assert_eq!(status.info.heads.tail, height(15));
        assert_eq!(host.history(20, 0).await, "gap1-14 15 16 17 18 19 20");
    });
    assert!(late.ctl(&["status"]).stdout.contains("HISTORY GONE"));
}

#[test]
fn pruning_waits_for_those_who_acknowledge() {
    let place = Place::new();
    let sequencer = place.sequencer(&["--set", "store.retain_blocks=2"]);
    hosts(async {
        let mut host = Host::publisher(&sequencer).await;
        let chain = host.publish_chain(None, 10).await;
        host.until_soft(10).await;
        assert!(host.ack_as("slow", chain[3].id).await);
        assert!(host.ack_as("fast", chain[8].id).await);
        host.report_digests(1, &chain.iter().map(|block| block.id).collect::<Vec<_>>()).await;
        let status = host.until_status("pruning", |status| status.info.heads.tail == height(3)).await;
        assert_eq!(status.pruning_waits_for.as_deref(), Some("slow"));
    });
    let consumers = sequencer.ctl(&["--json", "consumers"]).stdout;
    let names: Vec<Value> = consumers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let acked = |name: &str| names.iter().find(|line| line["name"] == name).unwrap()["acked"]["height"].clone();
    assert_eq!((acked("slow"), acked("fast")), (json!(4), json!(9)));
    assert!(sequencer.ctl(&["status"]).stdout.contains("ctl forget-consumer slow"));

    let unknown = refused(&sequencer, &["forget-consumer", "nobody"]);
    assert!(unknown.contains("fast, slow"), "{unknown}");
    sequencer.ask(&["forget-consumer", "slow"]);
    assert_eq!(tail(&sequencer), 8);
    assert_eq!(sequencer.ask(&["status"])["pruningWaitsFor"], json!("fast"));
}

#[test]
fn what_is_below_a_trusted_start_is_fetched_when_asked_for() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut host = Host::publisher(&sequencer).await;
        let chain = publish(&mut host, 150, 0).await;
        let seed = sequencer.address();
        let args = ["--seed", &seed, "--set", &from(chain[139]), "--set", "sync.backfill=on"];
        let full = place.full_node("full", &args);
        let mut follower = Host::publisher(&full).await;
        follower.until_status("all of it", |status| status.info.heads.tail == height(1)).await;
        follower.until_soft(150).await;
        assert_eq!(follower.ledger.chain, chain);
    });
}

/// DA is followed from the trusted block on: what is below is hard because something above it is.
#[test]
fn what_is_fetched_below_a_hard_block_is_hard() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut host = Host::publisher(&sequencer).await;
        let chain = publish(&mut host, 6, 0).await;
        let seed = sequencer.address();
        let trusted = from(chain[3]);
        let args = ["--seed", &seed, "--set", &trusted];
        let full = place.full_node("full", &args);
        let follower = Host::publisher(&full).await;
        follower.until_status("the head", |status| status.info.heads.soft == Some(chain[5])).await;
        // What DA has of blocks below is of no use.
        let mut seen = Vec::new();
        for id in &chain[..5] {
            seen.push((id.height, ReportedAs::SignedBlock(host.bytes_of(*id).await)));
        }
        follower.report(1, &seen).await;
        follower.until_status("a hard block", |status| status.info.heads.hard == Some(chain[4])).await;
        drop(follower);
        full.stop();

        let full = place.full_node("full", &[&args[..], &["--set", "sync.backfill=on"]].concat());
        let follower = Host::publisher(&full).await;
        follower.until_status("all of it", |status| status.info.heads.tail == height(1)).await;
        assert_eq!(follower.history(6, 5).await, "1 hard1@0 2 hard2@0 3 hard3@0 4 hard4@1 5 hard5@1 6");
        match within("a lookup", follower.observer().block(Which::Height(height(2)))).await.unwrap() {
            Lookup::Found { inclusion, .. } => {
                assert_eq!(inclusion.map(|hard| (hard.position.height, hard.basis)), Some((0, Basis::Implied)));
            }
            other => panic!("{other:?}"),
        }
        assert!(full.ctl(&["get", "2"]).stdout.contains("hard, as a block above it is"));
    });
}

#[test]
fn a_store_on_another_chain_than_the_trusted_block_is_refused() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    let mut other = hosts(async {
        let mut host = Host::publisher(&sequencer).await;
        publish(&mut host, 3, 0).await[1]
    });
    sequencer.stop();
    // What is there is fine.
    let sequencer = place.sequencer(&["--set", &from(other)]);
    sequencer.stop();
    other.hash.0[0] ^= 1;
    let home = place.home(super::place::SEQUENCER);
    let output = call(["run", "--home", home.to_str().unwrap(), "--set", &from(other)]);
    assert_eq!(output.code, Some(65), "{output:?}");
    assert!(output.stderr.contains("sync.from") && output.stderr.contains(&other.to_string()), "{output:?}");
}

#[test]
fn no_more_than_so_many_bytes_are_stored() {
    let place = Place::new();
    let limits = ["--set", "limits.max_block_bytes=64KiB", "--set", "store.max_bytes=128KiB"];
    let sequencer = place.sequencer(&limits);
    hosts(async {
        let mut host = Host::publisher(&sequencer).await;
        let mut chain: Vec<BlockId> = Vec::new();
        // Nothing is hard, so nothing may be pruned.
        loop {
            let block = Host::new_block(chain.last().copied(), vec![7; 10 << 10]);
            match host.try_publish(&block).await {
                PublishResult::Accepted(published) => chain.push(published.id),
                PublishResult::StorageFull => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(chain.len(), 13, "as many as there is room for, and the one that filled it");
        host.until_soft(13).await;
        let status = host.status().await;
        assert!(status.storage_full && status.stored_bytes > 128 << 10, "{status:?}");
        assert!(sequencer.ctl(&["status"]).stdout.contains("store.max_bytes is reached"));

        host.report_digests(1, &chain).await;
        host.until_status("room", |status| !status.storage_full && status.stored_bytes <= 128 << 10).await;
        for da_height in 2..22 {
            let block = Host::new_block(chain.last().copied(), vec![7; 10 << 10]);
            let PublishResult::Accepted(published) = host.try_publish(&block).await else { panic!("there is room") };
            chain.push(published.id);
            host.report_digests(da_height, &[published.id]).await;
        }
        let status = host.status().await;
        assert_eq!(status.info.heads.tail, height(22), "{status:?}");
    });
}
