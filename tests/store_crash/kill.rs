//! SIGKILL at random moments, again and again on the same store.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use blocksyncd::store::Durability;
use rustix::process::{Pid, Signal, kill_process};

use super::child::{PID, Task, Told};
use super::tempdir::TempDir;
use super::{random, scale, strace};

#[test]
fn kill_at_random_moments_loses_nothing_that_was_acknowledged() {
    for durability in [Durability::Power, Durability::Process] {
        kill_again_and_again(&format!("{durability:?}"), durability, 10 * scale(), 1, |_, task| task.command());
    }
}

/// What a commit writes side by side: which file, and by which call.
const SIDES: [(&str, &str); 3] = [("data/store/0.jnl", "write"), ("guard", "pwrite64"), ("guard.disowned", "rename")];

/// While one of them is slow, the others are on disk without it, and most kills find it so.
#[test]
fn kill_while_one_side_of_a_commit_is_slow_loses_nothing_that_was_acknowledged() {
    if !strace::available("kill while one side of a commit is slow") {
        return;
    }
    for (file, call) in SIDES {
        kill_again_and_again(&format!("{file} slow"), Durability::Power, 10 * scale(), 6, |dir, task| {
            let (path, inject) = (dir.join(file), format!("inject={call}:delay_enter=4000"));
            let path = path.to_str().expect("text");
            task.command_under("strace", &["-f", "-o", "/dev/null", "-P", path, "-e", &inject])
        });
    }
}

fn kill_again_and_again(
    what: &str,
    durability: Durability,
    cycles: u64,
    rig: u64,
    command: impl Fn(&Path, &Task) -> Command,
) {
    let dir = TempDir::in_memory();
    let mut random = random(rig);
    let mut told = Told::default();
    for cycle in 0..cycles {
        let (commits, seed) = (u64::MAX, random.u64(..));
        let task = Task { dir: dir.path().to_owned(), durability, payload: 20_000, commits, seed };
        let mut child = command(dir.path(), &task).spawn().expect("the child starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let pid = lines.find_map(|line| line.strip_prefix(PID)?.parse().ok()).and_then(Pid::from_raw);
        // Some die while they start.
        let until = told.acks + if cycle % 4 == 3 { 0 } else { random.u64(1..60) };
        while told.acks < until
            && let Some(line) = lines.next()
        {
            told.hear(&line);
        }
        std::thread::sleep(Duration::from_micros(random.u64(0..20_000)));
        kill_process(pid.expect("it says who it is"), Signal::KILL).expect("it runs for ever");
        lines.for_each(|line| told.hear(&line));
        child.wait().expect("it is ours");
        if let Err(wrong) = told.check(dir.path(), durability) {
            panic!("cycle {cycle}, {what}, {} acknowledged: {wrong}", told.acks);
        }
    }
    let (acks, blocks) = (told.acks, told.acknowledged.chain.len());
    println!("kill -9, {what}: {cycles} cycles, {acks} commits acknowledged, {blocks} blocks, 0 lost");
    assert!(acks >= cycles * 10, "only {acks} commits were acknowledged: the rig proves nothing");
}
