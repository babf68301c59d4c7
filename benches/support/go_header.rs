//! go-header's own `Syncer` behind the same link: the Go peer of `tests/interop/go`, where Go is installed.
//!
//! It runs as a Go full node does: exchange, subscriber and syncer as released, the store on badger. Its header type checks what
//! ours does: hash, parent, signature, payload hash.

#[path = "../../tests/support/go_peer.rs"]
mod go_peer;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

pub use go_peer::build;

/// What the syncer is told.
pub struct Task<'a> {
    pub chain_id: &'a str,
    pub proposer: &'a str,
    /// The serving peers' addresses, with their ids.
    pub peers: &'a [String],
    /// For badger.
    pub home: &'a Path,
    /// The largest message, in bytes: go-header's own limit is 1 MiB.
    pub max_message: usize,
    /// Measured until this height is stored.
    pub height: u64,
}

/// From the moment at which the syncer, connected to all peers, begins, until the height is stored.
pub fn catch_up(program: &Path, task: &Task<'_>) -> Duration {
    let child = Command::new(program)
        .args(["-role", "syncer", "-chain", task.chain_id, "-proposer", task.proposer])
        .args(["-max", &task.max_message.to_string(), "-dial", &task.peers.join(",")])
        .arg("-home")
        .arg(task.home)
        .env("GOLOG_LOG_LEVEL", "error")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut peer = Peer::new(child);
    peer.read(|line| line["event"] == "ready");
    let begun = Instant::now();
    peer.ask(1, &json!({ "do": "start" }));
    peer.ask(2, &json!({ "do": "wait", "height": task.height }));
    begun.elapsed()
}

/// Ends with this value.
struct Peer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Peer {
    fn new(mut child: Child) -> Self {
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, lines }
    }

    fn ask(&mut self, id: u64, command: &Value) {
        let mut command = command.clone();
        command["id"] = id.into();
        let stdin = self.child.stdin.as_mut().expect("piped");
        writeln!(stdin, "{command}").expect("it reads");
        let answer = self.read(|line| line["id"] == id);
        assert!(answer.get("ok").is_some(), "{command}: {answer}");
    }

    fn read(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("text") > 0, "the Go peer ended");
            let line = serde_json::from_str(&line).expect("JSON");
            if is_it(&line) {
                return line;
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It ends with its standard input; if it does not, it is made to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
