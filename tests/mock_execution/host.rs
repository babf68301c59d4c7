//! The real mock execution, as a child process.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use serde_json::Value;

use crate::sidecar::{DEADLINE, Sidecar};

pub struct Host {
    process: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<Value>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Host {
    pub fn start(sidecar: &Sidecar, args: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_blocksyncd"))
            .arg("mock-execution")
            .arg("--socket")
            .arg(sidecar.socket())
            .arg("--state")
            .arg(sidecar.dir.join("state"))
            .arg("--exit-on-stdin-eof")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut stderr = process.stderr.take().unwrap();
        let (said, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let line = line.unwrap();
                // Nothing but JSON lines may come.
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if said.send(value).is_err() {
                    return;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Self { process, stdin, lines, stderr: Some(stderr) }
    }

    /// The next line that `filter` takes.
    pub fn next(&mut self, what: &str, filter: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    assert!(line.is_object(), "not a JSON object on standard output: {line}");
                    if filter(&line) {
                        return line;
                    }
                }
                Err(error) => panic!("{what}: the host says no such thing ({error}); it said: {}", self.kill()),
            }
        }
    }

    /// Kills it with -9; what it had written to standard error.
    pub fn kill(&mut self) -> String {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.stderr.take().map(|thread| thread.join().unwrap()).unwrap_or_default()
    }

    /// Closes its standard input.
    pub fn let_go(&mut self) {
        self.stdin = None;
    }

    /// Waits for its own end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("the host does not end; it said: {}", self.kill());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}
