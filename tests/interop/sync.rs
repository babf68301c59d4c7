//! Long chains, both ways: our client behind a Go server, and all of go-header, on badger, behind ours.

use serde_json::json;

use super::chain::{LOG_GOSSIP, Maker, Place, hashes, heard_by, id_of};
use super::go::{self, Options};
use super::host::Host;

const LONG: u64 = 10_000;

/// Go server -> we -> Go syncer: what arrives at the end went through both wires.
#[test]
fn ten_thousand_blocks_from_go_to_us_and_from_us_to_go() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let mut server = Options::new("server").start();
    let head = server.ask("build", &json!({ "to": LONG }));
    let ours = place.follower("ours", &["--seed", &server.address]);
    let us = id_of(&ours.address());
    let began = std::time::Instant::now();
    let soft = Host::follower(&ours).until_soft(LONG);
    println!("we took {LONG} blocks from Go in {:?}", began.elapsed());
    assert_eq!(head, json!({ "height": LONG, "hash": soft.hash.to_string() }));
    server.expect_not_blocked(&us);

    let mut syncer = Options::new("syncer").home(&place.badger("badger")).dial(&[&ours.address()]).start();
    let began = std::time::Instant::now();
    syncer.ask("start", &json!({}));
    assert_eq!(syncer.ask("wait", &json!({ "height": LONG })), head);
    println!("a Go syncer took {LONG} blocks from us in {:?}", began.elapsed());
    assert_eq!(syncer.ask("tail", &json!({}))["height"], 1);
    let all = hashes(&Maker::new(1).chain(None, LONG));
    assert_eq!(syncer.ask("headers", &json!({ "from": 1, "to": LONG })), json!(all));
    syncer.expect_not_blocked(&us);
    syncer.expect_tracked(&us);
}

/// A Go full node that is behind, catches up, and then follows what our sequencer gossips.
#[test]
fn a_go_syncer_catches_up_and_follows_our_gossip() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let ours = place.sequencer(&LOG_GOSSIP);
    let us = id_of(&ours.address());
    let host = Host::publisher(&ours);
    let chain = Maker::new(1).chain(None, 300);
    let (before, after) = chain.split_at(200);
    host.publish(before);
    let mut syncer = Options::new("syncer").home(&place.badger("badger")).dial(&[&ours.address()]).start();
    syncer.ask("start", &json!({}));
    syncer.ask("wait", &json!({ "height": 200 }));
    heard_by(&ours, &syncer.id);
    // Each by gossip: none of them waits for a question of the syncer's.
    for block in after {
        host.publish(std::slice::from_ref(block));
        let hash = block.id.hash.to_string();
        syncer.event("header", |event| event["hash"] == hash);
    }
    assert_eq!(syncer.ask("headers", &json!({ "from": 1, "to": 300 })), json!(hashes(&chain)));
    let score = syncer.ask("score", &json!({ "peer": us })).as_f64().unwrap();
    assert!(score > 0.0, "we brought good blocks, and the score is {score}");
    syncer.expect_not_blocked(&us);
    syncer.expect_tracked(&us);
}

/// A Go node whose home is on disk: what it had is still good after it was killed, and the rest comes from us.
#[test]
fn a_go_syncer_that_was_killed_goes_on_with_us() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let ours = place.sequencer(&[]);
    let us = id_of(&ours.address());
    let host = Host::publisher(&ours);
    let chain = Maker::new(1).chain(None, 600);
    let (before, after) = chain.split_at(300);
    host.publish(before);
    let badger = place.badger("badger");
    let start = || {
        let mut syncer = Options::new("syncer").home(&badger).dial(&[&ours.address()]).start();
        syncer.ask("start", &json!({}));
        syncer
    };
    let mut syncer = start();
    syncer.ask("wait", &json!({ "height": 300 }));
    drop(syncer);
    host.publish(after);
    let mut syncer = start();
    syncer.ask("wait", &json!({ "height": 600 }));
    assert_eq!(syncer.ask("headers", &json!({ "from": 1, "to": 600 })), json!(hashes(&chain)));
    syncer.expect_not_blocked(&us);
}
