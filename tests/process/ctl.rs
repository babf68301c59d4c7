//! `ctl` against a running sidecar, and against none.

use std::fs;
use std::path::PathBuf;

use super::process::{Sidecar, TempDir, blocksyncd, call, init_sequencer, run};

/// A peer that is nowhere.
const STRANGER: &str = "12D3KooWRCJf2Z72hoJeejNyZfEYazyBw7fx4uxGy9ApAFQxfYtu";

struct Running {
    dir: TempDir,
    sidecar: Sidecar,
}

impl Running {
    fn new() -> Self {
        let dir = TempDir::new();
        init_sequencer(&dir.join("h"), "demo");
        let sidecar = Sidecar::start(&dir.join("h"), &[]);
        Self { dir, sidecar }
    }

    fn file(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.dir.join(name);
        fs::write(&path, contents).unwrap();
        path
    }
}

#[test]
fn where_nobody_answers_there_is_no_health() {
    let dir = TempDir::new();
    let socket = dir.join("none.sock");
    let ctl = |verb: &str| run(blocksyncd().arg("ctl").arg("--socket").arg(&socket).arg(verb));
    for verb in ["health", "info", "status", "peers", "tail", "shutdown"] {
        ctl(verb).refused(69, &["cannot connect to", "none.sock", "no sidecar runs there"]);
    }
    // Something else that is there is not trusted.
    fs::write(&socket, "").unwrap();
    ctl("health").refused(77, &["not a socket"]);
    // A listener that never says anything does not hold a probe up.
    fs::remove_file(&socket).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let late = run(blocksyncd().args(["ctl", "--timeout", "300ms", "--socket"]).arg(&socket).arg("health"));
    late.refused(69, &["did not answer within 300ms"]);

    call(["ctl", "info"]).refused(64, &["--home DIR, or --socket PATH"]);
}

/// A seed that says nothing is waited for before anything is signed: so the call waits, too, and then says for what.
#[test]
fn a_publish_is_tried_for_most_of_its_timeout_and_then_says_what_it_waits_for() {
    let dir = TempDir::new();
    init_sequencer(&dir.join("h"), "demo");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let seed = format!("/ip4/127.0.0.1/tcp/{}/p2p/{STRANGER}", silent.local_addr().unwrap().port());
    let sidecar = Sidecar::start(&dir.join("h"), &["--set", &format!("p2p.seeds={seed}")]);
    let late = sidecar.ctl(&["--timeout", "1s", "publish", "/dev/null"]);
    late.refused(69, &["not ready, though it was tried for 800ms (see --timeout)", "peers"]);
}

/// It can be published to all the same: by a host that signs.
#[test]
fn a_node_with_a_guard_and_no_key_says_so() {
    let dir = TempDir::new();
    let home = dir.join("h");
    let made =
        call(["init", home.to_str().unwrap(), "--chain-id", "demo", "--proposer", super::drain::KEY, "--host-signs"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let sidecar = Sidecar::start(&home, &[]);
    assert!(sidecar.ctl(&["status"]).stdout.contains("NO SIGNER"));
    let status = sidecar.ask(&["status"]);
    assert_eq!((&status["awaitsSigner"], &status["notReady"]), (&true.into(), &serde_json::Value::Null));
}

#[test]
fn the_schema_is_printed_as_it_is() {
    let schema = call(["ctl", "schema"]);
    assert_eq!(schema.code, Some(0));
    let file = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/schema/blocksync.capnp")).unwrap();
    assert_eq!(schema.stdout, file);
}

#[test]
fn a_block_goes_in_and_comes_out() {
    let running = Running::new();
    let sidecar = &running.sidecar;
    let payload = running.file("payload", b"one block");

    let published = sidecar.ask(&["publish", payload.to_str().unwrap(), "--time", "1000", "--host-id", "beef"]);
    assert_eq!(published["result"], "accepted");
    assert_eq!((&published["id"]["height"], &published["durability"]), (&1.into(), &"power".into()));
    let hash = published["id"]["hash"].as_str().unwrap();
    let text = payload.to_str().unwrap();
    let again = sidecar.ask(&["publish", text, "--time", "1000", "--host-id", "beef", "--height", "1"]);
    assert_eq!((&again["result"], &again["id"]), (&"duplicate".into(), &published["id"]));

    // By height and by hash, in text and in JSON, and the payload itself.
    for which in ["1", hash] {
        let block = sidecar.ask(&["get", which]);
        assert_eq!(
            (&block["id"], &block["hostId"], &block["payloadBytes"]),
            (&published["id"], &"beef".into(), &9.into())
        );
        assert_eq!((&block["origin"], &block["inclusion"]), (&"published".into(), &serde_json::Value::Null));
    }
    let text = sidecar.ctl(&["get", "1"]);
    assert!(text.stdout.contains(hash) && text.stdout.contains("1970-01-01T00:00:00.000001000Z"), "{text:?}");
    assert_eq!(sidecar.ctl(&["get", "1", "--payload", "-"]).stdout, "one block");
    let out = running.dir.join("out");
    assert_eq!(sidecar.ctl(&["get", "1", "--payload", out.to_str().unwrap()]).code, Some(0));
    assert_eq!(fs::read(&out).unwrap(), b"one block");
    let over = sidecar.ctl(&["get", "1", "--payload", out.to_str().unwrap()]);
    assert_eq!(over.code, Some(73), "nothing is overwritten: {over:?}");

    // The whole signed block is what can be published as such.
    let whole = running.dir.join("whole");
    assert_eq!(sidecar.ctl(&["get", "1", "--signed", whole.to_str().unwrap()]).code, Some(0));
    let again = sidecar.ask(&["publish", whole.to_str().unwrap(), "--signed"]);
    assert_eq!((&again["result"], &again["id"]), (&"duplicate".into(), &published["id"]));

    // The next one, from standard input, at the next height by itself.
    let next = sidecar.ask(&["publish", "/dev/null"]);
    assert_eq!(next["id"]["height"], 2);

    let tail = |args: &[&str]| {
        let ended = sidecar.ctl(&[&["--json", "tail"], args].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines: Vec<serde_json::Value> =
            ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter().map(|line| line["soft"]["id"]["height"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(tail(&["--from", "genesis", "--count", "2"]), [1, 2]);
    assert_eq!(tail(&["--from", "1", "--count", "1"]), [1]);
    assert_eq!(tail(&["--from", "2", "--count", "1"]), [2]);
    sidecar.ctl(&["tail", "--from", "9"]).refused(65, &["no block at height 8 yet"]);
}

#[test]
fn what_cannot_be_published_says_why_and_fails() {
    let running = Running::new();
    let sidecar = &running.sidecar;
    let one = running.file("one", b"1");
    let two = running.file("two", b"2");
    let publish = |file: &PathBuf, args: &[&str]| sidecar.ctl(&[&["publish", file.to_str().unwrap()], args].concat());
    publish(&one, &["--height", "5"]).refused(65, &["not next", "height 1"]);
    assert_eq!(publish(&one, &[]).code, Some(0));
    publish(&two, &["--height", "1"]).refused(65, &["conflict"]);
    publish(&two, &["--signed"]).refused(65, &["invalid"]);
    let missing = running.dir.join("missing");
    publish(&missing, &[]).refused(74, &["cannot read"]);
    let json = run(blocksyncd()
        .args(["ctl", "--json", "--socket"])
        .arg(sidecar.socket())
        .args(["publish", "--height", "1"])
        .arg(&two));
    assert_eq!(json.code, Some(65));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json.stdout).unwrap()["result"], "conflict");

    sidecar.ctl(&["get", "7"]).refused(65, &["not on the sidecar's chain"]);
    sidecar.ctl(&["get", "xyz"]).refused(64, &["neither a height nor a hash"]);
}

#[test]
fn an_operator_sees_and_changes() {
    let running = Running::new();
    let sidecar = &running.sidecar;
    let home = running.dir.join("h");
    // The socket is found by the home's configuration as well.
    let by_home = run(blocksyncd().args(["ctl", "--json", "--home"]).arg(&home).arg("status")).json();
    assert_eq!(by_home["info"]["chainId"], "demo");
    assert_eq!(by_home["listen"][0], sidecar.address());
    let text = sidecar.ctl(&["status"]);
    for word in ["chain ", "demo", "peers", "uptime", "soft", "none"] {
        assert!(text.stdout.contains(word), "`{word}`: {text:?}");
    }
    assert_eq!(
        sidecar.ctl(&["peers"]).stdout,
        "PEER  DIR  CONNECTED  LATENCY  BLOCKS  BYTES  SELECTION  BAN SCORE  LAST OFFENCE  ADDRESS  AGENT\n"
    );
    assert_eq!(sidecar.ctl(&["evidence"]).stdout, "ID  FIRST  SECOND\n");
    assert_eq!(sidecar.ctl(&["--json", "evidence"]).stdout, "");

    let genesis = fs::read_to_string(home.join("genesis.toml")).unwrap();
    let schedule = sidecar.ask(&["schedule"]);
    assert_eq!(schedule["fromHeight"], 1);
    assert!(genesis.contains(schedule["proposer"].as_str().unwrap()));
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let add = |from: &str| sidecar.ctl(&["schedule", "add", "--from", from, "--proposer", key]);
    assert_eq!(add("100").code, Some(0));
    let after = sidecar.ctl(&["schedule"]);
    assert!(after.stdout.lines().any(|line| line == format!("100   {key}")), "{after:?}");
    add("50").refused(65, &["refused"]);
    sidecar.ctl(&["schedule", "withdraw", "50"]).refused(65, &["refused"]);
    assert_eq!(sidecar.ctl(&["schedule", "withdraw", "100"]).stdout, "done\n");
    assert!(!sidecar.ctl(&["schedule"]).stdout.contains(key));

    sidecar.ctl(&["log-filter", "blocksyncd=loud"]).refused(65, &["not a log filter"]);
    assert_eq!(sidecar.ctl(&["log-filter", "blocksyncd=debug"]).stdout, "done\n");
    sidecar.ctl(&["abandon-branch", &format!("1/{}", "0".repeat(64))]).refused(65, &["refused"]);
    assert_eq!(sidecar.ctl(&["abandon-branch", "1"]).code, Some(64));
}

#[test]
fn a_shutdown_is_asked_for_over_the_socket() {
    let mut running = Running::new();
    assert_eq!(running.sidecar.ctl(&["shutdown"]).code, Some(0));
    assert_eq!(running.sidecar.wait().code(), Some(0), "{}", running.sidecar.log());
    assert!(running.sidecar.log().contains("draining"), "{}", running.sidecar.log());

    let mut running = Running::new();
    assert_eq!(running.sidecar.ctl(&["shutdown", "--abrupt"]).code, Some(0));
    assert_eq!(running.sidecar.wait().code(), Some(0), "{}", running.sidecar.log());
    assert!(!running.sidecar.log().contains("draining"), "{}", running.sidecar.log());
}

#[test]
fn health_says_how_far_it_goes() {
    let running = Running::new();
    let health = running.sidecar.ask(&["health"]);
    let phase = health["phase"].as_str().unwrap().to_owned();
    let ready = running.sidecar.ctl(&["health", "--ready"]);
    // Whether a sequencer without peers is at the head of its chain is not for ctl to say; it must only be consistent.
    match phase.as_str() {
        "following" => assert_eq!(ready.code, Some(0), "{ready:?}"),
        _ => assert_eq!(ready.code, Some(69), "{ready:?}"),
    }
}

#[test]
fn an_operator_changes_who_is_a_peer_and_it_lasts() {
    let mut running = Running::new();
    let home = running.dir.join("h");
    let peer = "12D3KooWGjMCwqRGFRmPDrWGmPQzWRTvXMZNxSfyQdUYzyXBLVVJ";
    let address = format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}");
    let sidecar = &running.sidecar;
    assert_eq!(sidecar.ctl(&["peer", "add", &address]).stdout, "done\n");
    let ban = ["peer", "ban", "203.0.113.0/24", "--for", "2h", "--reason", "it is loud"];
    assert_eq!(sidecar.ctl(&ban).stdout, "done\n");
    sidecar.ctl(&["peer", "ban", peer]).refused(65, &["refused", "persistent"]);
    let own = sidecar.ctl(&["info", "--json"]).json()["peerId"].as_str().unwrap().to_owned();
    sidecar.ctl(&["peer", "ban", &own]).refused(65, &["refused", "this node itself"]);
    sidecar.ctl(&["peer", "add", "/ip4/127.0.0.1/tcp/1"]).refused(65, &["/p2p/"]);
    sidecar.ctl(&["peer", "unban", "203.0.113.1"]).refused(65, &["not banned"]);

    assert_eq!(running.sidecar.ctl(&["shutdown", "--abrupt"]).code, Some(0));
    running.sidecar.wait();
    running.sidecar = Sidecar::start(&home, &[]);
    let sidecar = &running.sidecar;
    let json = sidecar.ctl(&["--json", "peers"]);
    let lines: Vec<serde_json::Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{json:?}");
    assert_eq!(
        (&lines[0]["peerId"], &lines[0]["persistent"], &lines[0]["connected"]),
        (&peer.into(), &true.into(), &false.into())
    );
    assert_eq!(lines[0]["known"][0], "/ip4/127.0.0.1/tcp/1");
    assert_eq!((&lines[1]["banned"], &lines[1]["reason"]), (&"203.0.113.0/24".into(), &"it is loud".into()));
    assert_eq!(lines[1]["byOperator"], true);
    let left = lines[1]["leftMs"].as_u64().unwrap();
    assert!(left > 0 && left <= 2 * 3_600_000, "{left}");
    let text = sidecar.ctl(&["peers"]).stdout;
    assert!(text.contains("missing") && text.contains("BANNED") && text.contains("it is loud"), "{text}");

    assert_eq!(sidecar.ctl(&["peer", "remove", peer]).stdout, "done\n");
    assert_eq!(sidecar.ctl(&["peer", "unban", "203.0.113.0/24"]).stdout, "done\n");
    assert_eq!(sidecar.ctl(&["--json", "peers"]).stdout, "");
}
