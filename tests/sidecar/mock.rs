//! The real mock execution, as a child process that is killed, with -9, when its handle is dropped.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use super::DEADLINE;
use super::process::{Sidecar, blocksyncd};

#[derive(Debug)]
pub struct Mock {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Mock {
    /// Its standard error is the test's own.
    pub fn start(sidecar: &Sidecar, state: &Path, args: &[&str]) -> Self {
        let mut command = blocksyncd();
        command.arg("mock-execution").arg("--exit-on-stdin-eof").arg("--socket").arg(sidecar.socket());
        command.arg("--state").arg(state).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Whatever is no JSON is for the test to stumble over.
                if said.send(serde_json::from_str(&line).unwrap_or(Value::String(line))).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that `filter` takes. A violation of the contract is never passed over.
    #[track_caller]
    pub fn until(&self, what: &str, filter: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    let event = line["event"].as_str();
                    assert!(matches!(event, Some("progress" | "end")), "{what}: {line}");
                    if filter(&line) {
                        return line;
                    }
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }

    /// Waits until it has ended by itself; its last line.
    #[track_caller]
    pub fn end(mut self) -> Value {
        let last = self.until("the end", |line| line["event"] == "end");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {last}");
        assert_eq!(last["violations"], 0);
        last
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
