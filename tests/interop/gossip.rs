//! Gossip with Go peers that have nothing but gossip: what arrives cannot have come in any other way. Every router that
//! Go nodes use, over every transport that we have.

use serde_json::json;

use super::chain::{LOG_GOSSIP, Maker, Place, Signed, heard_by, id_of};
use super::go::{self, Options, Peer, hex};
use super::host::Host;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

#[test]
fn gossipsub_over_tcp() {
    both_ways("gossip", TCP, 0);
}

#[test]
fn gossipsub_1_1_over_tcp() {
    both_ways("gossip11", TCP, 0);
}

#[test]
fn floodsub_over_tcp() {
    both_ways("flood", TCP, 0);
}

#[test]
fn gossipsub_over_quic() {
    both_ways("gossip", QUIC, 0);
}

#[test]
fn gossipsub_1_1_over_quic() {
    both_ways("gossip11", QUIC, 0);
}

#[test]
fn floodsub_over_quic() {
    both_ways("flood", QUIC, 0);
}

/// Larger than Go takes unless told to: the page that Go chains copy says what to raise.
#[test]
fn blocks_of_mebibytes() {
    both_ways("gossip", TCP, 3 << 20);
    both_ways("flood", QUIC, 3 << 20);
}

/// Two Go peers that know nobody but us, one after the other publishing what the other one then has from us; and then
/// our own sequencer's blocks to a third one.
fn both_ways(router: &str, listen: &str, size: usize) {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let few = if size > 0 { 3 } else { 20 };
    let chain = Maker { size, ..Maker::new(1) }.chain(None, 2 * few as u64);
    let (first, second) = chain.split_at(few);
    let start =
        |address: &str| Options::new("gossip").router(router).listen(listen).max(9 << 20).dial(&[address]).start();

    let relay = place.follower("relay", &[&LOG_GOSSIP[..], &["--listen", listen]].concat());
    let us = id_of(&relay.address());
    let host = Host::follower(&relay);
    let (mut a, mut b) = (start(&relay.address()), start(&relay.address()));
    for peer in [&mut a, &mut b] {
        heard_by(&relay, &peer.id);
        if router == "flood" {
            peer.meets(&us);
        } else {
            peer.grafts(&us);
        }
    }
    // One after the other, as they are made: the queues to a peer are short, and what does not fit is fetched, not
    // gossiped.
    for block in first {
        a.ask("publish", &json!({ "block": hex(&block.bytes) }));
        hears(&mut b, block);
    }
    for block in second {
        b.ask("publish", &json!({ "block": hex(&block.bytes) }));
        hears(&mut a, block);
    }
    host.until_tip(second[few - 1].id);
    for peer in [&mut a, &mut b] {
        friends(peer, router, &us);
    }

    let sequencer = place.sequencer(&[&LOG_GOSSIP[..], &["--listen", listen]].concat());
    let us = id_of(&sequencer.address());
    let mut c = start(&sequencer.address());
    heard_by(&sequencer, &c.id);
    let host = Host::publisher(&sequencer);
    for block in &chain {
        host.publish(std::slice::from_ref(block));
        hears(&mut c, block);
    }
    friends(&mut c, router, &us);
}

fn hears(peer: &mut Peer, block: &Signed) {
    let hash = block.id.hash.to_string();
    peer.event("header", |event| event["hash"] == hash);
}

/// Nothing that we did has cost us anything with this peer.
fn friends(peer: &mut Peer, router: &str, us: &str) {
    if router != "flood" {
        let score = peer.ask("score", &json!({ "peer": us })).as_f64().unwrap();
        assert!(score > 0.0, "we brought good blocks, and the score is {score}");
    }
    peer.expect_not_blocked(us);
}
