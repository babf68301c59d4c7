//! The power goes, at any moment of a recorded run: what the model of the disk then holds must open by itself, with everything
//! that was acknowledged before.

use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use blocksyncd::store::Durability;

use super::child::{Task, Told};
use super::disk::Disk;
use super::strace::{self, Call};
use super::tempdir::TempDir;
use super::{random, scale};

/// A recorded run.
struct Recording {
    dir: TempDir,
    /// What was on disk, and known, when it began.
    before: Disk,
    told: Told,
    calls: Vec<Call>,
}

/// What became of the states.
#[derive(Debug, Default)]
struct Outcome {
    states: u64,
    /// In which something was not synced when the power went.
    dirty: u64,
    /// In which a torn journal had to be cut.
    cut: u64,
    /// The most commits that were acknowledged before a cut.
    acks: u64,
    wrong: Vec<String>,
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    if !strace::available("power loss") {
        return;
    }
    let first = record(Durability::Power, 0, 110);
    let outcome = cut(&first, Durability::Power, 220 * scale(), 3);
    report("from the first start", &outcome);
    assert!(outcome.wrong.is_empty(), "{:#?}", outcome.wrong);
    assert!(outcome.acks >= 90 && outcome.dirty >= outcome.states / 2, "the rig proves nothing: {outcome:?}");

    let later = record(Durability::Power, 30, 60);
    let outcome = cut(&later, Durability::Power, 100 * scale(), 4);
    report("after a restart", &outcome);
    assert!(outcome.wrong.is_empty(), "{:#?}", outcome.wrong);
    assert!(outcome.acks >= 40 && outcome.cut > 0, "the rig proves nothing: {outcome:?}");
}

/// The rig can tell: without syncs, it finds losses.
#[test]
fn a_power_cut_loses_something_with_durability_process() {
    if !strace::available("power loss") {
        return;
    }
    let recording = record(Durability::Process, 20, 60);
    let outcome = cut(&recording, Durability::Process, 40 * scale(), 5);
    report("without syncs", &outcome);
    assert!(outcome.wrong.len() as u64 > outcome.states / 4, "the rig does not find losses: {outcome:?}");
    // Even then each state opens: what is missing is missed, or was lost together with the memory of it.
    let unopened: Vec<_> = outcome.wrong.iter().filter(|wrong| wrong.contains("does not open")).collect();
    assert!(unopened.is_empty(), "{unopened:#?}");
}

fn report(what: &str, outcome: &Outcome) {
    let Outcome { states, dirty, cut, acks, wrong } = outcome;
    println!(
        "power loss, {what}: {states} states, {dirty} with unsynced data, {cut} with a torn journal, up to {acks} commits acknowledged, {} wrong",
        wrong.len()
    );
}

/// Runs a child under strace, after another one that is not recorded.
fn record(durability: Durability, before: u64, commits: u64) -> Recording {
    let dir = TempDir::in_memory();
    let log = TempDir::in_memory();
    let log = log.path().join("strace.log");
    let mut told = Told::default();
    let task = Task { dir: dir.path().to_owned(), durability, payload: 24_000, commits: before, seed: 1 };
    if before > 0 {
        let output = task.command().output().expect("the child runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).lines().for_each(|line| told.hear(line));
    }
    let disk = Disk::load(dir.path());
    let trace = format!("trace={}", strace::CALLS);
    let log_path = log.to_str().expect("text");
    let arguments =
        ["-f", "--seccomp-bpf", "-xx", "-s", "100000000", "-o", log_path, "-e", &trace, "-e", "signal=none"];
    let task = Task { commits, seed: 2, ..task };
    let status = task.command_under("strace", &arguments).stdout(Stdio::null()).status().expect("strace runs");
    assert!(status.success(), "{status}");
    let mut calls = strace::read(&log);
    // What was acknowledged counts from the moment at which it was about to be said; a closed file is closed at once.
    calls.sort_by_key(|call| if call.name == "close" || is_told(call) { call.began } else { call.ended });
    Recording { dir, before: disk, told, calls }
}

fn is_told(call: &Call) -> bool {
    call.name == "write" && call.word(0) == "1"
}

/// Cuts the power at random moments, ascending, and checks what is left.
fn cut(recording: &Recording, durability: Durability, states: u64, rig: u64) -> Outcome {
    let mut random = random(rig);
    let begun = recording.calls.iter().position(|call| touches(call, recording)).unwrap_or(0);
    let mut moments: Vec<usize> = (0..states).map(|_| random.usize(begun..recording.calls.len())).collect();
    moments.sort_unstable();

    let mut disk = recording.before.clone();
    let mut told = recording.told.clone();
    let outcome = Mutex::new(Outcome { states, ..Outcome::default() });
    let cuts = AtomicU64::new(0);
    let (send, receive) = std::sync::mpsc::sync_channel::<(usize, TempDir, Told)>(2);
    let receive = Mutex::new(receive);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Ok((moment, dir, mut told)) = receive.lock().expect("no panic").recv() else { return };
                    let acks = told.acks;
                    let checked = told.check(dir.path(), durability);
                    cuts.fetch_add(u64::from(dir.path().join("data/cut").exists()), Ordering::Relaxed);
                    if let Err(wrong) = checked {
                        let wrong = format!("call {moment}, {acks} acknowledged: {wrong}");
                        outcome.lock().expect("no panic").wrong.push(wrong);
                    }
                }
            });
        }
        let mut next = 0;
        for moment in moments {
            for call in &recording.calls[next..moment] {
                if is_told(call) {
                    String::from_utf8_lossy(call.bytes(1)).lines().for_each(|line| told.hear(line));
                } else {
                    disk.apply(call);
                }
            }
            next = moment;
            let dir = TempDir::in_memory();
            disk.crash(&mut random, dir.path());
            {
                let mut outcome = outcome.lock().expect("no panic");
                outcome.dirty += u64::from(disk.is_dirty());
                outcome.acks = outcome.acks.max(told.acks - recording.told.acks);
            }
            send.send((moment, dir, told.clone())).expect("somebody checks");
        }
        drop(send);
    });
    let mut outcome = outcome.into_inner().expect("no panic");
    outcome.cut = cuts.into_inner();
    outcome
}

/// Whether the call is the first one about our directory.
fn touches(call: &Call, recording: &Recording) -> bool {
    let dir = recording.dir.path().as_os_str().as_encoded_bytes();
    call.arguments.iter().any(|argument| matches!(argument, strace::Argument::Bytes(bytes) if bytes.starts_with(dir)))
}
