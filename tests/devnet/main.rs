//! `devnet` as a user runs it: real processes, judged by its JSON and its exit code. Whatever becomes of it, it leaves no
//! process behind.

#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "a test ends with what goes wrong")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

/// Only bounds a hang.
const DEADLINE: Duration = Duration::from_secs(250);
const POLL: Duration = Duration::from_millis(20);

struct Devnet {
    process: Child,
    /// Its temporary directory, in which nothing may be left after a run without fault. All its children have the path in
    /// their command lines.
    temp: PathBuf,
}

impl Devnet {
    fn start(args: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Short: there are sockets in it. The last hyphen keeps number 1 apart from number 11.
        let name = format!("bst-{}-{}-", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let temp = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&temp).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_blocksyncd"))
            .arg("devnet")
            .args(args)
            .env("TMPDIR", &temp)
            .env("BLOCKSYNCD_CHAIN_GENESIS", "/of/another/sidecar")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { process, temp }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits for a line of its standard output that `wanted` takes; keeps reading after that, so that it never blocks.
    fn wait_for_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let (found, is_found) = std::sync::mpsc::channel();
        let lines = BufReader::new(self.process.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = found.send(line);
            }
        });
        let mut seen = Vec::new();
        while let Ok(line) = is_found.recv_timeout(DEADLINE) {
            let is_wanted = wanted(&line);
            seen.push(line);
            if is_wanted {
                return;
            }
        }
        panic!("no {what} in {seen:#?}");
    }

    fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(POLL);
        }
        panic!("the devnet does not end");
    }

    /// Runs it to its end: the status, standard output and standard error.
    fn finish(&mut self) -> (ExitStatus, String, String) {
        let mut stderr = self.process.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut stdout = self.process.stdout.take().unwrap();
        let output = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stdout.read_to_string(&mut text);
            text
        });
        let status = self.wait();
        (status, output.join().unwrap(), errors.join().unwrap())
    }

    /// Its children, as (pid, command line). A zombie has no command line any more.
    fn children(&self) -> Vec<(i32, String)> {
        let ours = self.temp.to_str().unwrap();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(ours) {
                found.push((pid, command));
            }
        }
        found
    }

    /// Waits until nothing of it is left.
    fn assert_nothing_runs(&self) {
        let deadline = Instant::now() + DEADLINE;
        while !self.children().is_empty() {
            assert!(Instant::now() < deadline, "left behind: {:#?}", self.children());
            std::thread::sleep(POLL);
        }
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        std::fs::read_dir(&self.temp).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        for (pid, _) in self.children() {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = std::fs::remove_dir_all(&self.temp);
    }
}

/// Whether it can be seen which processes there are.
fn can_look_at_processes() -> bool {
    let can = std::path::Path::new("/proc/self/cmdline").exists();
    if !can {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI needs /proc");
        eprintln!("SKIPPED: without /proc nobody can say what was left behind");
    }
    can
}

/// A plain line that says that every node has a soft block.
fn all_are_soft(line: &str) -> bool {
    let soft = line.split_once("soft ").and_then(|(_, rest)| rest.split_once(',')).map(|(heights, _)| heights);
    soft.is_some_and(|heights| heights.split(' ').all(|height| height.parse::<u64>().is_ok_and(|height| height > 0)))
}

#[test]
fn a_short_run_passes_and_says_so_in_json() {
    let payloads = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chain.rlp");
    let mut devnet = Devnet::start(&[
        "--json",
        "--blocks",
        "20",
        "--block-time",
        "100ms",
        "--da-block-time",
        "300ms",
        "--payloads",
        payloads,
    ]);
    let (status, stdout, stderr) = devnet.finish();
    assert!(status.success(), "{status}\n{stdout}\n{stderr}");
    assert_eq!(stdout.lines().count(), 1, "one object, and nothing else: {stdout}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["blocks"], 20);
    assert_eq!(report["violations"], serde_json::json!([]));
    let nodes = report["nodes"].as_array().unwrap();
    let names: Vec<_> = nodes.iter().map(|node| (node["name"].as_str(), node["role"].as_str())).collect();
    let full = |name| (Some(name), Some("full"));
    assert_eq!(names, [(Some("sequencer"), Some("sequencer")), full("full-1"), full("full-2")]);
    for node in nodes {
        assert_eq!((&node["soft"], &node["hard"]), (&20.into(), &20.into()), "{node}");
        assert_eq!(node["state_hash"], nodes[0]["state_hash"]);
        assert!(node["hard_latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{node}");
    }
    assert_eq!(nodes[0]["received"]["published"], 20);
    assert_eq!(nodes[0]["soft_latency_ms"], Value::Null);
    for node in &nodes[1..] {
        let received = |from: &str| node["received"][from].as_u64().unwrap();
        assert_eq!((received("published"), received("da")), (0, 0), "{node}");
        assert_eq!(received("gossip") + received("range"), 20, "{node}");
        assert!(received("gossip") > 0, "{node}");
        assert!(node["soft_latency_ms"]["p50"].as_f64().unwrap() > 0.0, "{node}");
    }
    assert_eq!(devnet.leftovers(), [""; 0].map(PathBuf::from), "the temporary directory is removed");
    if can_look_at_processes() {
        devnet.assert_nothing_runs();
    }
}

#[test]
fn a_run_that_stalls_fails_and_keeps_its_logs() {
    let mut devnet =
        Devnet::start(&["--json", "--nodes", "2", "--blocks", "3", "--da-block-time", "1h", "--stall", "4s"]);
    let (status, stdout, stderr) = devnet.finish();
    assert_eq!(status.code(), Some(1), "{stdout}\n{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["nodes"][1]["hard"], 0, "{report}");
    let logs = stderr.lines().find_map(|line| line.strip_prefix("blocksyncd: devnet: the logs are in "));
    let logs = PathBuf::from(logs.unwrap());
    for process in ["sequencer-sidecar", "sequencer-host", "full-1-sidecar", "full-1-host"] {
        assert!(logs.join(format!("{process}.log")).exists(), "{process}");
    }
    assert!(logs.starts_with(&devnet.temp));
    assert_eq!(devnet.leftovers().len(), 1);
}

#[test]
fn nothing_is_left_when_it_is_killed() {
    if !can_look_at_processes() {
        return;
    }
    let mut devnet = Devnet::start(&["--blocks", "1000000", "--block-time", "50ms"]);
    devnet.wait_for_line("soft blocks", all_are_soft);
    assert_eq!(devnet.children().len(), 6, "{:#?}", devnet.children());
    devnet.process.kill().unwrap();
    devnet.wait();
    devnet.assert_nothing_runs();
}

#[test]
fn a_child_that_dies_ends_the_run() {
    if !can_look_at_processes() {
        return;
    }
    let mut devnet = Devnet::start(&["--blocks", "1000000", "--block-time", "50ms", "--nodes", "2"]);
    devnet.wait_for_line("soft blocks", all_are_soft);
    let is_victim = |command: &str| command.contains(" run ") && command.contains("/full-1");
    let victim = devnet.children().into_iter().find(|(_, command)| is_victim(command)).unwrap();
    kill_process(Pid::from_raw(victim.0).unwrap(), Signal::KILL).unwrap();
    let mut stderr = String::new();
    devnet.process.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(devnet.wait().code(), Some(1), "{stderr}");
    assert!(stderr.contains("full-1-sidecar ended before its time"), "{stderr}");
    devnet.assert_nothing_runs();
}

#[test]
fn an_interrupt_of_the_terminal_ends_it_in_order() {
    let mut devnet = Devnet::start(&["--blocks", "1000000", "--block-time", "50ms"]);
    devnet.wait_for_line("soft blocks", all_are_soft);
    // As a terminal does: to the whole process group.
    kill_process_group(devnet.pid(), Signal::INT).unwrap();
    assert_eq!(devnet.wait().code(), Some(130));
    assert_eq!(devnet.leftovers(), [""; 0].map(PathBuf::from));
    if can_look_at_processes() {
        assert_eq!(devnet.children(), [], "everything has ended before it ended");
    }
}

#[test]
fn what_cannot_be_run_is_refused_in_one_sentence() {
    let long = format!("/tmp/{}", "d".repeat(100));
    let taken = std::env::temp_dir().join(format!("bst-{}-taken", std::process::id()));
    std::fs::create_dir_all(taken.join("sequencer")).unwrap();
    std::fs::write(taken.join("sequencer/genesis.toml"), "").unwrap();
    let taken = taken.to_str().unwrap();
    for (args, code) in [
        (vec!["--nodes", "0"], 64),
        (vec!["--blocks", "0"], 64),
        (vec!["--block-time", "0s"], 64),
        (vec!["--da-block-time", "soon"], 64),
        (vec!["--dir", &long], 64),
        (vec!["--dir", taken], 73),
    ] {
        let (status, stdout, stderr) = Devnet::start(&args).finish();
        assert_eq!((status.code(), stdout.lines().count() <= 1), (Some(code), true), "{args:?}: {stdout}{stderr}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
    std::fs::remove_dir_all(taken).unwrap();
}
