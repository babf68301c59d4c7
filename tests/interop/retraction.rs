//! After a retraction: what Go nodes can follow, and what one on the losing branch needs. go-header knows no
//! retraction: the README says what is shown here.

use serde_json::json;

use super::chain::{LOG_GOSSIP, Maker, Place, hashes, heard_by, id_of};
use super::go::{self, Options, Peer, hex};
use super::host::Host;

/// The last height that both branches have, the head of the one that loses, and of the one that wins in the end.
const FORK: u64 = 10;
const LOST: u64 = 20;
const WON: u64 = 25;

#[test]
fn go_nodes_follow_the_branch_that_won_and_one_that_was_on_the_other_needs_its_operator() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let fork = usize::try_from(FORK).unwrap();
    let loses = Maker::new(1).chain(None, LOST);
    let branch = Maker { branch: " of the other branch", ..Maker::new(1) };
    let wins = [&loses[..fork], &branch.chain(Some(loses[fork - 1].id), WON)].concat();

    // The losing branch reaches us, and from us a Go node.
    let sequencer = place.sequencer(&[]);
    Host::publisher(&sequencer).publish(&loses);
    let ours = place.follower("ours", &[&LOG_GOSSIP[..], &["--seed", &sequencer.address()]].concat());
    let us = id_of(&ours.address());
    let host = Host::follower(&ours);
    host.until_tip(loses.last().unwrap().id);
    let badger = place.badger("misled");
    let start = |home: &str| Options::new("syncer").home(home).dial(&[&ours.address()]).start();
    let mut misled = start(&badger);
    misled.ask("start", &json!({}));
    misled.ask("wait", &json!({ "height": LOST }));
    sequencer.stop();

    // DA has the other one.
    host.report(1, &wins[..fork + 3]);
    host.until_tip(wins[fork + 2].id);
    misled.expect_not_blocked(&us);

    // A Go node that comes now follows the winner, also by gossip.
    let mut fresh = start(&place.badger("fresh"));
    fresh.ask("start", &json!({}));
    fresh.ask("wait", &json!({ "height": FORK + 3 }));
    heard_by(&ours, &fresh.id);
    let mut author = Options::new("gossip").dial(&[&ours.address()]).start();
    author.grafts(&us);
    for block in &wins[fork + 3..] {
        author.ask("publish", &json!({ "block": hex(&block.bytes) }));
        let hash = block.id.hash.to_string();
        fresh.event("header", |event| event["hash"] == hash);
    }
    host.until_tip(wins.last().unwrap().id);
    has_won(&mut fresh, &us, &hashes(&wins));
    author.expect_not_blocked(&us);

    // The misled one keeps what it has. Once it learns of the head that has outgrown its own, it asks us for what comes
    // on top of its own, gets what does not link there, and shuts us out: it cannot know better.
    misled.ask("head", &json!({}));
    misled.event("disconnected", |event| event["peer"] == us);
    assert_eq!(misled.blocked(), std::slice::from_ref(&us));
    assert_eq!(misled.ask("headers", &json!({ "from": 1, "to": LOST })), json!(hashes(&loses)));
    // Its operator stops it, takes its store back below the fork, and starts it again.
    misled.stop();
    let mut misled = start(&badger);
    assert_eq!(misled.ask("rewind", &json!({ "to": FORK }))["height"], FORK);
    misled.ask("start", &json!({}));
    misled.ask("wait", &json!({ "height": WON }));
    has_won(&mut misled, &us, &hashes(&wins));
}

fn has_won(node: &mut Peer, us: &str, wins: &[String]) {
    assert_eq!(node.ask("headers", &json!({ "from": 1, "to": WON })), json!(wins));
    node.expect_not_blocked(us);
    node.expect_tracked(us);
}
