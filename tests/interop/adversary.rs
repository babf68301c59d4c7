//! A Go peer that means harm (`go/raw.go`), beside honest ones. Whatever it does, our memory stays within its budget,
//! the honest are served and synced with, and no honest peer loses its place.

use serde_json::{Value, json};

use super::chain::{LOG_GOSSIP, Maker, Place, Signed, hashes, heard_by, id_of};
use super::go::{self, Options, Peer, hex};
use super::host::Host;
use super::process::{Sidecar, peak_rss};

/// Small, so that nothing that is forgotten fits into it. Go peers take frames of a mebibyte.
const LIMITS: [&str; 4] = ["--set", "limits.memory_bytes=512MiB", "--set", "limits.max_block_bytes=1MiB"];
const MEMORY_BYTES: u64 = 512 << 20;

const LONG: u64 = 640;
const SIZE: usize = 16 << 10;

fn chain() -> Vec<Signed> {
    Maker { size: SIZE, ..Maker::new(1) }.chain(None, LONG)
}

#[track_caller]
fn within_budget(sidecar: &Sidecar, what: &str) {
    let peak = peak_rss(sidecar.pid());
    println!("after {what}: {} MiB at most", peak >> 20);
    assert!(peak < MEMORY_BYTES, "{peak} bytes after {what}");
}

fn start(role: &'static str) -> Peer {
    Options::new(role).start()
}

fn connect(peer: &mut Peer, to: &Sidecar) {
    peer.ask("connect", &json!({ "address": to.address() }));
}

/// Has us sync from the adversary, alone at first, and then from an honest Go server too.
fn answers(mode: &str, is_banned: bool) {
    let place = Place::new(1);
    let ours = place.follower("ours", &LIMITS);
    let us = id_of(&ours.address());
    let mut honest = start("server");
    honest.ask("build", &json!({ "to": LONG, "size": SIZE }));
    let mut adversary = start("raw");
    adversary.ask("serve", &json!({ "mode": mode, "to": LONG, "size": SIZE }));
    connect(&mut adversary, &ours);
    adversary.event("asked", |event| event["origin"].as_u64() > Some(0));
    connect(&mut honest, &ours);
    Host::follower(&ours).until_tip(chain().last().unwrap().id);
    if is_banned {
        adversary.event("disconnected", |event| event["peer"] == us);
    }
    honest.expect_not_blocked(&us);
    within_budget(&ours, mode);
}

#[test]
fn answers_that_are_wrong_cost_who_gives_them_their_place() {
    if go::is_here() {
        for mode in ["wrong heights", "wrong chain", "broken link", "forged", "padded", "other payload"] {
            answers(mode, true);
        }
    }
}

#[test]
fn answers_that_break_the_protocol_stall_nothing() {
    if go::is_here() {
        for mode in ["oversized", "endless", "reset", "invalid"] {
            answers(mode, false);
        }
    }
}

#[test]
fn answers_that_do_not_come_stall_nothing() {
    if go::is_here() {
        for mode in ["silent", "drip", "announced"] {
            answers(mode, false);
        }
    }
}

#[test]
fn requests_that_are_never_finished_or_read_leave_room_for_others() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let ours = place.sequencer(&LIMITS);
    let us = id_of(&ours.address());
    let chain = chain();
    Host::publisher(&ours).publish(&chain);
    let hashes = hashes(&chain);
    let mut honest = Options::new("client").dial(&[&ours.address()]).start();
    for mode in ["nothing", "a byte", "half", "announced", "unread"] {
        let mut adversaries = [start("raw"), start("raw")];
        for adversary in &mut adversaries {
            connect(adversary, &ours);
            let opened = adversary.ask("open", &json!({ "peer": us, "mode": mode, "count": 40 }));
            assert!(opened.as_u64() > Some(0), "it did nothing");
        }
        let range = honest.ask("range", &json!({ "from": 1, "to": LONG }));
        assert_eq!(range, json!(hashes[1..]), "beside {mode}");
        within_budget(&ours, mode);
    }
    honest.expect_not_blocked(&us);
    honest.expect_tracked(&us);
}

#[test]
fn floods_of_gossip_stop_no_block() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let ours = place.follower("ours", &[&LIMITS[..], &LOG_GOSSIP].concat());
    let us = id_of(&ours.address());
    let host = Host::follower(&ours);
    let mut honest = start("server");
    honest.ask("build", &json!({ "to": 10 }));
    connect(&mut honest, &ours);
    honest.grafts(&us);
    host.until_soft(10);
    let mut height = 10;
    let modes = ["subscriptions", "on and off", "ihave", "iwant", "idontwant", "graft and prune", "unsigned"];
    // In messages that are taken for what they say, and in ones that are too long for that.
    for (mode, amount) in modes.into_iter().flat_map(|mode| [(mode, 15), (mode, 1000)]) {
        let mut adversary = start("raw");
        connect(&mut adversary, &ours);
        let flooding = adversary.send("flood", &json!({ "peer": us, "mode": mode, "count": 300, "amount": amount }));
        // In the middle of it, and after it.
        honest.ask("publish", &json!({}));
        host.until_soft(height + 1);
        let sent = adversary.answer(flooding).unwrap();
        println!("{mode} x {amount}: {sent}");
        assert!(sent["sent"].as_u64() > Some(0), "it did nothing: {sent}");
        honest.ask("publish", &json!({}));
        height += 2;
        host.until_soft(height);
        within_budget(&ours, mode);
    }
    honest.expect_not_blocked(&us);
}

#[test]
fn gossip_that_is_no_block_costs_who_says_it_its_place_and_stands_in_no_block_s_way() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let ours = place.follower("ours", &LIMITS);
    let us = id_of(&ours.address());
    let host = Host::follower(&ours);
    let mut honest = start("server");
    honest.ask("build", &json!({ "to": 1 }));
    connect(&mut honest, &ours);
    honest.grafts(&us);
    host.until_soft(1);
    let good = Maker::new(1).chain(None, 4);
    let padded = [&good[1].bytes[..], &[0x48, 1]].concat();
    let mut other_payload = good[2].bytes.to_vec();
    *other_payload.last_mut().unwrap() ^= 1;
    for (bytes, next) in [(padded, &good[1]), (other_payload, &good[2]), (b"no block at all".to_vec(), &good[3])] {
        let mut adversary = start("raw");
        adversary.ask("join", &json!({}));
        connect(&mut adversary, &ours);
        adversary.meets(&us);
        adversary.ask("say", &json!({ "hex": hex(&bytes) }));
        adversary.event("disconnected", |event| event["peer"] == us);
        honest.ask("publish", &json!({}));
        host.until_tip(next.id);
    }
    honest.expect_not_blocked(&us);
    within_budget(&ours, "gossip of rubbish");
}

/// One signature is not enough to see who forged it: go-header nodes of some chains pass on what they cannot check.
#[test]
fn who_passes_on_forged_signatures_unseen_is_not_banned_while_it_brings_good_blocks() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(1);
    let ours = place.follower("ours", &[&LIMITS[..], &LOG_GOSSIP].concat());
    let us = id_of(&ours.address());
    let host = Host::follower(&ours);
    let mut relay = Options::new("careless").dial(&[&ours.address()]).start();
    let mut author = Options::new("careless").dial(&[&relay.address]).start();
    heard_by(&ours, &relay.id);
    relay.grafts(&us);
    author.grafts(&relay.id);
    let chain = Maker::new(1).chain(None, 30);
    for pair in chain.windows(2) {
        // The forged copy comes before the good one: it must not stand in its way.
        for bytes in [&pair[0].bytes[..], &forged(&pair[1])] {
            author.ask("publish", &json!({ "block": hex(bytes) }));
            relay.event("header", |_| true);
        }
        host.until_tip(pair[0].id);
    }
    ours.wait_for_log("did not sign");
    relay.expect_not_blocked(&us);
    within_budget(&ours, "forged gossip");
}

/// The same block with a signature that is wrong in its last bit.
fn forged(block: &Signed) -> Vec<u8> {
    let mut bytes = block.bytes.to_vec();
    let signature = bytes.windows(2).position(|tag| tag == [0x12, 64]).expect("a signature of 64 bytes") + 2;
    bytes[signature + 63] ^= 1;
    bytes
}

/// So that a command that is not there is not taken for an attack that failed.
#[test]
fn the_adversary_says_what_it_cannot_do() {
    if go::is_here() {
        let refused: Result<Value, String> = start("raw").try_ask("serve", &json!({ "mode": "well", "to": 1 }));
        assert!(refused.is_err());
    }
}
