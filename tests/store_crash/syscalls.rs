//! SIGKILL at exact system calls of a run that begins with the first start: the call is entered, and never returns.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use blocksyncd::store::Durability;

use super::child::{Task, Told};
use super::tempdir::TempDir;
use super::{random, scale, strace};

const COMMITS: u64 = 40;
const CALLS: [&str; 9] = ["openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "mkdir", "ftruncate", "lseek"];

#[test]
fn a_kill_at_any_system_call_loses_nothing_that_was_acknowledged() {
    if !strace::available("kill at exact system calls") {
        return;
    }
    let counts = count();
    let mut random = random(2);
    let (mut killed, mut acks, mut during_creation) = (0, 0, 0);
    for point in points(&counts, 36 * scale(), &mut random) {
        let dir = TempDir::in_memory();
        let task = task(&dir, random.u64(..));
        let inject = format!("inject={}:signal=SIGKILL:when={}", point.0, point.1);
        let arguments = ["-f", "-o", "/dev/null", "-e", &format!("trace={}", point.0), "-e", &inject];
        let mut told = Told::default();
        let mut child = task.command_under("strace", &arguments).stderr(Stdio::null()).spawn().expect("strace starts");
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| told.hear(&line));
        let status = child.wait().expect("it is ours");
        killed += u64::from(!status.success());
        during_creation += u64::from(!status.success() && told.acks == 0);
        acks += told.acks;
        if let Err(wrong) = told.check(dir.path(), Durability::Power) {
            panic!("killed at {} number {}, after {} acknowledgements: {wrong}", point.0, point.1, told.acks);
        }
    }
    println!(
        "kill at system calls: {killed} kills, {during_creation} before the first acknowledgement, {acks} commits acknowledged, 0 lost"
    );
    assert!(killed >= 15, "only {killed} children were killed: the rig proves nothing");
    assert!(during_creation >= 5, "only {during_creation} children were killed while they created the store");
    assert!(acks >= 30, "only {acks} commits were acknowledged: the rig proves nothing");
}

fn task(dir: &TempDir, seed: u64) -> Task {
    let dir = dir.path().to_owned();
    Task { dir, durability: Durability::Power, payload: 3000, commits: COMMITS, seed }
}

/// How often each call happens in a run in which nobody is killed, in the thread in which it happens most.
fn count() -> BTreeMap<&'static str, u64> {
    let dir = TempDir::in_memory();
    let log = dir.path().join("strace.log");
    let trace = format!("trace={}", CALLS.join(","));
    let arguments = ["-f", "-o", log.to_str().expect("text"), "-e", &trace];
    let output = task(&dir, 1).command_under("strace", &arguments).output().expect("strace runs");
    assert!(output.status.success(), "{output:?}");
    let mut counts: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for line in std::fs::read_to_string(&log).expect("strace wrote it").lines() {
        let Some((thread, rest)) = line.split_once(char::is_whitespace) else { continue };
        let call = rest.trim_start().split('(').next().unwrap_or_default();
        if let Some(call) = CALLS.iter().find(|known| **known == call) {
            *counts.entry((thread.to_owned(), call)).or_default() += 1;
        }
    }
    let mut most = BTreeMap::new();
    for ((_, call), count) in counts {
        let known = most.entry(call).or_default();
        *known = count.max(*known);
    }
    most
}

/// Calls and numbers, spread over all of them: each kind gets its share, rare ones are hit each time.
fn points(counts: &BTreeMap<&'static str, u64>, wanted: u64, random: &mut fastrand::Rng) -> Vec<(&'static str, u64)> {
    let share = wanted.div_ceil(counts.len().max(1) as u64).max(1);
    let mut points = Vec::new();
    for (call, count) in counts {
        for part in 0..share.min(*count) {
            // A random one within each of as many equal parts.
            let (from, to) = (part * count / share.min(*count), (part + 1) * count / share.min(*count));
            points.push((*call, random.u64(from..to.max(from + 1)) + 1));
        }
    }
    points
}
