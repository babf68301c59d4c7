//! Requests: the same ones to our server and to go-header's, on the same chain, in the same run; and go-header's client
//! against ours.

use serde_json::{Value, json};

use super::chain::{Maker, Place, Signed, hashes, id_of};
use super::go::{self, Options, Peer, hex};
use super::host::Host;
use super::process::Sidecar;

/// The chain begins here, so that there are heights below the tail.
const TAIL: u64 = 50;
const HEAD: u64 = 249;

fn chain() -> Vec<Signed> {
    Maker::new(TAIL).chain(None, HEAD)
}

fn at(chain: &[Signed], height: u64) -> &Signed {
    &chain[usize::try_from(height - TAIL).unwrap()]
}

/// What one request brought: the blocks, or what else was said.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Blocks(Vec<String>),
    NotFound,
    /// Nothing at all.
    Reset,
}

fn answer(raw: &Value) -> Answer {
    let frames = raw["frames"].as_array().unwrap();
    let statuses: Vec<_> = frames.iter().map(|frame| frame["status"].as_str().unwrap()).collect();
    match statuses[..] {
        [] => Answer::Reset,
        ["NOT_FOUND"] => {
            assert_eq!((&frames[0]["body"], &raw["ended"]), (&json!(""), &json!("end")), "{raw}");
            Answer::NotFound
        }
        _ => {
            assert!(statuses.iter().all(|status| *status == "OK") && raw["ended"] == "end", "{raw}");
            Answer::Blocks(frames.iter().map(|frame| frame["body"].as_str().unwrap().to_owned()).collect())
        }
    }
}

fn origin(origin: u64, amount: u64) -> Value {
    json!({ "mode": "origin", "origin": origin, "amount": amount })
}

fn by_hash(hash: &[u8]) -> Value {
    json!({ "mode": "hash", "hash": hex(hash), "amount": 1 })
}

/// A Go server with the chain, one of ours that has followed it, and a Go client that is connected to both.
struct Both {
    _place: Place,
    ours: Sidecar,
    theirs: Peer,
    client: Peer,
}

fn both(listen: &str) -> Both {
    let place = Place::new(TAIL);
    let quic = listen.contains("quic");
    let go_listen = if quic { "/ip4/127.0.0.1/udp/0/quic-v1" } else { "/ip4/127.0.0.1/tcp/0" };
    let mut theirs = Options::new("server").initial(TAIL).listen(go_listen).start();
    let head = theirs.ask("build", &json!({ "to": HEAD }));
    assert_eq!(head["hash"], chain().last().unwrap().id.hash.to_string(), "both make the same chain");
    let ours = place.follower("ours", &["--seed", &theirs.address, "--listen", listen]);
    Host::follower(&ours).until_soft(HEAD);
    let client =
        Options::new("client").initial(TAIL).listen(go_listen).dial(&[&ours.address(), &theirs.address]).start();
    Both { _place: place, ours, theirs, client }
}

#[test]
fn our_server_answers_every_request_as_go_does_over_tcp() {
    if go::is_here() {
        every_request("/ip4/127.0.0.1/tcp/0");
    }
}

#[test]
fn our_server_answers_every_request_as_go_does_over_quic() {
    if go::is_here() {
        every_request("/ip4/127.0.0.1/udp/0/quic-v1");
    }
}

fn every_request(listen: &str) {
    let Both { _place, ours, theirs, mut client } = both(listen);
    let chain = chain();
    let bodies =
        |from: u64, to: u64| Answer::Blocks((from..=to).map(|height| hex(&at(&chain, height).bytes)).collect());
    let max = u64::MAX;
    let rows: Vec<(Value, Answer)> = vec![
        (origin(0, 1), bodies(HEAD, HEAD)),
        (origin(0, 64), bodies(HEAD, HEAD)),
        (origin(0, max), bodies(HEAD, HEAD)),
        (origin(0, 0), Answer::Reset),
        (origin(TAIL, 1), bodies(TAIL, TAIL)),
        (origin(100, 1), bodies(100, 100)),
        (origin(100, 64), bodies(100, 163)),
        (origin(HEAD - 63, 64), bodies(HEAD - 63, HEAD)),
        (origin(HEAD - 1, 64), bodies(HEAD - 1, HEAD)),
        (origin(HEAD, 1), bodies(HEAD, HEAD)),
        (origin(HEAD, 64), bodies(HEAD, HEAD)),
        (origin(HEAD + 1, 1), Answer::NotFound),
        (origin(HEAD + 1000, 64), Answer::NotFound),
        // Known bug of Go: before it says so, it walks its whole chain down from the head, for ten seconds if need be.
        // What we say is the same, at once.
        (origin(TAIL - 1, 1), Answer::NotFound),
        (origin(10, 5), Answer::NotFound),
        (origin(TAIL - 5, 10), Answer::NotFound),
        (origin(100, 0), Answer::Reset),
        (origin(100, 65), Answer::Reset),
        (origin(HEAD + 1, 65), Answer::Reset),
        (origin(max, 1), Answer::Reset),
        (origin(max - 3, 4), Answer::Reset),
        (origin(100, max), Answer::Reset),
        (json!({ "mode": "neither", "amount": 1 }), Answer::Reset),
        (by_hash(&at(&chain, 77).id.hash.0), bodies(77, 77)),
        (by_hash(&[9; 32]), Answer::NotFound),
        (by_hash(&[]), Answer::NotFound),
        (by_hash(&[9; 7]), Answer::NotFound),
    ];
    let (us, them) = (id_of(&ours.address()), theirs.id.clone());
    for (request, expected) in rows {
        for peer in [&them, &us] {
            // With and without a half-close: a server answers as soon as it has the request.
            for open in [false, true] {
                let mut request = request.clone();
                request["peer"] = peer.as_str().into();
                request["open"] = open.into();
                let said = client.ask("request", &request);
                let who = if *peer == us { "we" } else { "Go" };
                assert_eq!(answer(&said), expected, "{who}: {request}");
            }
        }
    }
    client.expect_not_blocked(&us);
    client.expect_not_blocked(&them);
}

#[test]
fn an_empty_store_answers_as_in_go_but_says_that_it_has_no_head() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(TAIL);
    let ours = place.sequencer(&[]);
    let theirs = Options::new("server").initial(TAIL).start();
    let mut client = Options::new("client").initial(TAIL).dial(&[&ours.address(), &theirs.address]).start();
    let us = id_of(&ours.address());
    let rows = [
        (origin(0, 1), Answer::Reset, Answer::NotFound),
        (origin(TAIL, 1), Answer::Reset, Answer::Reset),
        (origin(1, 64), Answer::Reset, Answer::Reset),
        (by_hash(&[9; 32]), Answer::NotFound, Answer::NotFound),
    ];
    for (request, from_them, from_us) in rows {
        for (peer, expected) in [(&theirs.id, from_them), (&us, from_us)] {
            let mut request = request.clone();
            request["peer"] = peer.as_str().into();
            assert_eq!(answer(&client.ask("request", &request)), expected, "{request}");
        }
    }
    client.expect_not_blocked(&us);
}

#[test]
fn a_go_exchange_gets_everything_from_us() {
    if !go::is_here() {
        return;
    }
    let place = Place::new(TAIL);
    let ours = place.sequencer(&[]);
    let chain = chain();
    Host::publisher(&ours).publish(&chain);
    let mut client = Options::new("client").initial(TAIL).dial(&[&ours.address()]).start();
    let us = id_of(&ours.address());

    let known = |height: u64| json!({ "height": height, "hash": at(&chain, height).id.hash.to_string() });
    assert_eq!(client.ask("head", &json!({})), known(HEAD));
    for height in [TAIL, 100, HEAD] {
        assert_eq!(client.ask("height", &json!({ "height": height })), known(height));
        let hash = at(&chain, height).id.hash.to_string();
        assert_eq!(client.ask("hash", &json!({ "hash": hash })), known(height));
    }
    for height in [1, TAIL - 1, HEAD + 1] {
        let refused = client.try_ask("height", &json!({ "height": height }));
        assert_eq!(refused, Err("header: not found".into()), "{height}");
    }
    assert_eq!(client.try_ask("hash", &json!({ "hash": hex(&[9; 32]) })), Err("header: not found".into()));

    // Several requests of 64 each, on several streams at once; the last is shorter.
    let hashes = hashes(&chain);
    let range = client.ask("range", &json!({ "from": TAIL, "to": HEAD }));
    assert_eq!(range, json!(hashes[1..]));
    let range = client.ask("range", &json!({ "from": 100, "to": 110 }));
    assert_eq!(range, json!(hashes[51..=60]));
    client.expect_not_blocked(&us);
    client.expect_tracked(&us);
}
