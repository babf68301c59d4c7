//! What a supervisor relies on: the ready line, one instance only, signals, standard input, systemd's protocol.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::process::{DEADLINE, Sidecar, Signal, TempDir, blocksyncd, init_follower, init_sequencer, run};

/// The home of a sequencer.
fn home() -> (TempDir, PathBuf) {
    let dir = TempDir::new();
    let home = dir.join("h");
    init_sequencer(&home, "demo");
    (dir, home)
}

/// A second instance in the foreground, its log quiet so that what it says last is all that it says.
fn second(home: &Path, args: &[&str]) -> super::process::Ended {
    let args = [&["--log", "off", "--listen", "/ip4/127.0.0.1/tcp/0"], args].concat();
    run(blocksyncd().arg("run").arg("--home").arg(home).args(args))
}

#[test]
fn the_ready_line_is_all_that_stdout_ever_says_and_it_is_true() {
    let (_dir, home) = home();
    let mut sidecar = Sidecar::spawn(&home, &[]);
    let ready = sidecar.wait_ready();
    sidecar.expect_silence();
    assert_eq!(ready["pid"], sidecar.pid());
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ready["socket"], home.join("api.sock").to_str().unwrap());
    let peer_id = ready["peer_id"].as_str().unwrap();
    let address = sidecar.address();
    assert!(address.starts_with("/ip4/127.0.0.1/tcp/") && address.ends_with(&format!("/p2p/{peer_id}")), "{address}");
    assert!(!address.contains("/tcp/0/"), "{address}");
    assert_eq!(fs::metadata(sidecar.socket()).unwrap().permissions().mode() & 0o777, 0o600);

    let info = sidecar.ask(&["info"]);
    assert_eq!((&info["peerId"], &info["chainId"]), (&ready["peer_id"], &"demo".into()));
    sidecar.stop();
}

#[test]
fn the_ready_line_waits_for_every_listener() {
    let (_dir, home) = home();
    // Each has an address for every interface, so that the first may well have told as many as there are listeners.
    let listen = ["--listen", "/ip4/0.0.0.0/tcp/0", "--listen", "/ip4/0.0.0.0/udp/0/quic-v1"];
    let mut sidecar = Sidecar::spawn(&home, &listen);
    let ready = sidecar.wait_ready();
    let addresses: Vec<_> = ready["listen"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    for kind in ["/tcp/", "/quic-v1/"] {
        assert!(addresses.iter().any(|address| address.contains(kind)), "no {kind} in {addresses:?}");
    }
    // Nor is any address told only later.
    let status = sidecar.ask(&["status"]);
    assert_eq!(status["listen"], ready["listen"]);
    sidecar.stop();
}

#[test]
fn the_ready_line_can_go_to_a_descriptor() {
    let (dir, home) = home();
    let file = dir.join("ready");
    let mut command = blocksyncd();
    let program = command.get_program().to_owned();
    command = std::process::Command::new("sh");
    command.arg("-c").arg("exec \"$0\" \"$@\" 7>\"$READY\"").arg(program).env("READY", &file);
    command.args(["run", "--listen", "/ip4/127.0.0.1/tcp/0", "--ready-fd", "7", "--home"]).arg(&home);
    let mut sidecar = Sidecar::spawn_command(&mut command, &home);
    let ready = sidecar.wait_ready();
    // It was written there, too, and whole; after which of the two is not promised.
    let end = std::time::Instant::now() + DEADLINE;
    let text = loop {
        let text = fs::read_to_string(&file).unwrap();
        if text.ends_with('\n') {
            break text;
        }
        assert!(std::time::Instant::now() < end, "{text}");
        std::thread::yield_now();
    };
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), ready);
    sidecar.stop();

    second(&home, &["--ready-fd", "1"]).refused(64, &["--ready-fd 1"]);
    second(&home, &["--ready-fd", "99"]).refused(64, &["--ready-fd 99", "inherited pipe or file"]);
}

#[test]
fn there_is_only_one_instance() {
    let (dir, home) = home();
    let sidecar = Sidecar::start(&home, &[]);
    second(&home, &[]).refused(75, &["another process"]);
    let other_socket = dir.join("other.sock");
    second(&home, &["--socket", other_socket.to_str().unwrap()]).refused(75, &["another process", "home of its own"]);
    let other = dir.join("o");
    init_follower(&other, &home.join("genesis.toml"));
    second(&other, &["--socket", sidecar.socket().to_str().unwrap()]).refused(75, &["another process", "api.socket"]);
    // It did not mind.
    assert_eq!(sidecar.ctl(&["health"]).code, Some(0));
    sidecar.stop();
}

#[test]
fn what_a_killed_instance_leaves_is_taken_over() {
    let (_dir, home) = home();
    let sidecar = Sidecar::start(&home, &[]);
    let socket = sidecar.socket();
    sidecar.kill();
    assert!(fs::exists(&socket).unwrap(), "a stale socket is what this is about");
    let sidecar = Sidecar::start(&home, &[]);
    assert_eq!(sidecar.ctl(&["health"]).code, Some(0));
    sidecar.stop();
    assert!(!fs::exists(&socket).unwrap(), "a graceful end leaves none");
}

#[test]
fn a_database_of_another_chain_is_refused() {
    let (_dir, home) = home();
    Sidecar::start(&home, &[]).stop();
    let genesis = fs::read_to_string(home.join("genesis.toml")).unwrap();
    fs::write(home.join("genesis.toml"), genesis.replace("demo", "other")).unwrap();
    second(&home, &[]).refused(65, &["`demo`", "`other`", "chain.genesis"]);
    let store = second(&home, &["--set", "signer.guard=other.guard"]);
    store.refused(65, &["`demo`", "`other`", "store.dir", "chain.genesis"]);
    // With a store of its own it is still not this key's chain.
    let guard = second(&home, &["--set", "store.dir=other"]);
    guard.refused(65, &["proposer.key.guard", "`demo`", "`other`", "signer.guard"]);
}

#[test]
fn a_database_that_was_begun_with_other_rules_is_refused() {
    let (_dir, home) = home();
    Sidecar::start(&home, &[]).stop();
    let genesis = fs::read_to_string(home.join("genesis.toml")).unwrap();
    for (ours, other, said) in [
        ("evidence = \"block\"", "evidence = \"named\"", "da.evidence block"),
        ("8388608", "1048576", "max_block_bytes 8388608"),
    ] {
        fs::write(home.join("genesis.toml"), genesis.replace(ours, other)).unwrap();
        second(&home, &[]).refused(65, &["was begun with", said, "chain.genesis", "store.dir"]);
    }
    fs::write(home.join("genesis.toml"), genesis).unwrap();
    Sidecar::start(&home, &[]).stop();
}

#[test]
fn a_port_that_is_taken_is_said_and_nothing_is_left_behind() {
    let (_dir, home) = home();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for address in [
        format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port()),
        format!("/ip4/0.0.0.0/tcp/{}", tcp.local_addr().unwrap().port()),
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port()),
    ] {
        let ended = second(&home, &["--listen", &address]);
        ended.refused(74, &[&format!("cannot listen on {address}: "), "in use", "set p2p.listen"]);
        assert!(!fs::exists(home.join("api.sock")).unwrap());
    }
    // Another address of the same home is as good as ever.
    Sidecar::start(&home, &[]).stop();
}

#[test]
fn the_first_signal_drains() {
    for signal in [Signal::TERM, Signal::INT] {
        let (_dir, home) = home();
        let mut sidecar = Sidecar::start(&home, &[]);
        sidecar.signal(signal);
        assert_eq!(sidecar.wait().code(), Some(0), "{}", sidecar.log());
        assert!(sidecar.log().contains("draining"), "{}", sidecar.log());
        assert!(!fs::exists(sidecar.socket()).unwrap());
    }
}

#[test]
fn the_end_of_stdin_is_a_signal_when_asked_for() {
    let (_dir, home) = home();
    let mut sidecar = Sidecar::start(&home, &["--exit-on-stdin-eof"]);
    sidecar.close_stdin();
    assert_eq!(sidecar.wait().code(), Some(0), "{}", sidecar.log());

    let mut sidecar = Sidecar::start(&home, &[]);
    sidecar.close_stdin();
    assert_eq!(sidecar.ctl(&["health"]).code, Some(0));
    sidecar.stop();
}

#[test]
fn a_hangup_reads_the_log_filter_again_and_nothing_else() {
    let (_dir, home) = home();
    let sidecar = Sidecar::start(&home, &[]);
    let config = home.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n")).unwrap();
    let with =
        |filter: &str| text.replace("# filter = \"info,fjall=warn,lsm_tree=warn\"", &format!("filter = \"{filter}\""));
    fs::write(&config, with("blocksyncd=debug")).unwrap();
    sidecar.signal(Signal::HUP);
    sidecar.wait_for_log("the log filter was read again");
    fs::write(&config, with("blocksyncd=loud")).unwrap();
    sidecar.signal(Signal::HUP);
    sidecar.wait_for_log("the log filter stays as it is");
    sidecar.stop();
}

#[test]
fn systemd_is_told_what_it_asks_for() {
    let (dir, home) = home();
    let path = dir.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = blocksyncd();
    command.args(["run", "--listen", "/ip4/127.0.0.1/tcp/0", "--home"]).arg(&home);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let mut sidecar = Sidecar::spawn_command(&mut command, &home);
    let wait_for = |what: &str| {
        let mut buffer = [0; 4096];
        loop {
            let len = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("`{what}` is never said: {error}"));
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if text.lines().any(|line| line.starts_with(what)) {
                return text;
            }
        }
    };
    wait_for("STATUS=opening the store");
    wait_for("READY=1");
    sidecar.wait_ready();
    assert!(wait_for("STATUS=").contains("soft 0"));
    wait_for("WATCHDOG=1");
    wait_for("WATCHDOG=1");
    sidecar.signal(Signal::TERM);
    wait_for("STOPPING=1");
    assert_eq!(sidecar.wait().code(), Some(0), "{}", sidecar.log());
}
