//! Mixed networks, in lines: nobody has what the end of the line gets from anybody but the one in the middle.

use serde_json::json;

use super::chain::{LOG_GOSSIP, Maker, Place, hashes, heard_by, id_of};
use super::go::{self, Options};
use super::host::Host;

/// What is there before the others come, and what is made while they look on.
const OLD: u64 = 500;
const ALL: u64 = 540;

/// Go sequencer, our relay, Go full node.
#[test]
fn go_leads_we_relay_go_follows() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let mut sequencer = Options::new("server").start();
    sequencer.ask("build", &json!({ "to": OLD }));
    let relay = place.follower("relay", &[&LOG_GOSSIP[..], &["--seed", &sequencer.address]].concat());
    let us = id_of(&relay.address());
    let host = Host::follower(&relay);
    host.until_soft(OLD);
    let mut follower = Options::new("syncer").home(&place.badger("badger")).dial(&[&relay.address()]).start();
    follower.ask("start", &json!({}));
    follower.ask("wait", &json!({ "height": OLD }));
    heard_by(&relay, &follower.id);
    sequencer.grafts(&us);
    for height in OLD + 1..=ALL {
        let made = sequencer.ask("publish", &json!({}));
        assert_eq!(made["height"], height);
        assert_eq!(follower.event("header", |event| event["height"] == height)["hash"], made["hash"]);
    }
    let chain = Maker::new(1).chain(None, ALL);
    host.until_tip(chain.last().unwrap().id);
    let all = json!({ "from": 1, "to": ALL });
    assert_eq!(follower.ask("headers", &all), json!(hashes(&chain)));
    sequencer.expect_not_blocked(&us);
    follower.expect_not_blocked(&us);
    follower.expect_tracked(&us);
}

/// Our sequencer, Go full node, our follower.
#[test]
fn we_lead_go_relays_we_follow() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let sequencer = place.sequencer(&LOG_GOSSIP);
    let host = Host::publisher(&sequencer);
    let chain = Maker::new(1).chain(None, ALL);
    let (old, new) = chain.split_at(usize::try_from(OLD).unwrap());
    host.publish(old);
    let mut relay = Options::new("syncer").home(&place.badger("badger")).dial(&[&sequencer.address()]).start();
    relay.ask("start", &json!({}));
    relay.ask("wait", &json!({ "height": OLD }));
    let follower = place.follower("follower", &["--seed", &relay.address]);
    let end = Host::follower(&follower);
    end.until_tip(old.last().unwrap().id);
    heard_by(&sequencer, &relay.id);
    relay.grafts(&id_of(&follower.address()));
    // At the pace of the slowest: go-header looks at messages side by side, and takes the one that it happens to look
    // at too late for an offence of whoever passed it on.
    for block in new {
        host.publish(std::slice::from_ref(block));
        relay.event("header", |event| event["height"] == block.id.height.get());
        end.until_tip(block.id);
    }
    for us in [&sequencer, &follower] {
        relay.expect_not_blocked(&id_of(&us.address()));
    }
    relay.expect_tracked(&id_of(&sequencer.address()));
}
