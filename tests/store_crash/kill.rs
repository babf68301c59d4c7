//! SIGKILL at random moments, again and again on the same store.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use blocksyncd::store::Durability;

use super::child::{Task, Told};
use super::tempdir::TempDir;
use super::{random, scale};

#[test]
fn kill_at_random_moments_loses_nothing_that_was_acknowledged() {
    for durability in [Durability::Power, Durability::Process] {
        let cycles = 10 * scale();
        let dir = TempDir::in_memory();
        let mut random = random(1);
        let mut told = Told::default();
        for cycle in 0..cycles {
            let task = Task {
                dir: dir.path().to_owned(),
                durability,
                payload: 20_000,
                commits: u64::MAX,
                seed: random.u64(..),
            };
            let mut child = task.command().spawn().expect("the child starts");
            let stdout = child.stdout.take().expect("it is piped");
            // Some die while they start.
            let until = told.acks + if cycle % 4 == 3 { 0 } else { random.u64(1..60) };
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            while told.acks < until
                && let Some(line) = lines.next()
            {
                told.hear(&line);
            }
            std::thread::sleep(Duration::from_micros(random.u64(0..20_000)));
            child.kill().expect("it runs for ever");
            lines.for_each(|line| told.hear(&line));
            child.wait().expect("it is ours");
            if let Err(wrong) = told.check(dir.path(), durability) {
                panic!("cycle {cycle}, {durability:?}, {} acknowledged: {wrong}", told.acks);
            }
        }
        let (acks, blocks) = (told.acks, told.acknowledged.chain.len());
        println!("kill -9, {durability:?}: {cycles} cycles, {acks} commits acknowledged, {blocks} blocks, 0 lost");
        assert!(acks >= cycles * 10, "only {acks} commits were acknowledged: the rig proves nothing");
    }
}
