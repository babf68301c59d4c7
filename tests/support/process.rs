//! Running the real binary, as a supervisor would: homes in directories that clean up after themselves, sidecars that are
//! killed when dropped, waits for events with a deadline that only bounds a hang.
//!
//! Invariants:
//! 1. No process outlives the value that started it, also when a test panics.
//! 2. Nothing of the caller's environment configures a sidecar.
//! 3. What a sidecar logged is shown when its test fails.

// Every suite that includes this file uses a part of it.
#![allow(dead_code)]

#[path = "tempdir.rs"]
pub mod tempdir;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use serde_json::Value;

pub use tempdir::TempDir;

/// Bounds a hang, and says nothing about how fast anything is: the machine may be very busy.
pub const DEADLINE: Duration = Duration::from_mins(2);

/// The program under test, with nothing of our own settings in its environment.
pub fn blocksyncd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_blocksyncd"));
    for (name, _) in std::env::vars_os() {
        let ours = name.as_encoded_bytes().starts_with(b"BLOCKSYNCD_");
        if ours || name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" || name == "CREDENTIALS_DIRECTORY" {
            command.env_remove(name);
        }
    }
    command
}

/// How a command ended, and what it said.
#[derive(Clone, Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The standard output as JSON, of a command that succeeded.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not one JSON value ({error}): {self:?}"))
    }

    /// That it ended with this code, and one line that says why and has all of `words` in it.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "a failure says nothing on stdout");
        assert_eq!(self.stderr.lines().count(), 1, "one line: {self:?}");
        assert!(self.stderr.starts_with("blocksyncd: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not said: {self:?}");
        }
    }
}

/// Runs a command to its end, which must come before the deadline.
#[track_caller]
pub fn run(command: &mut Command) -> Ended {
    let mut child = Guard(
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts"),
    );
    let read = |mut from: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            from.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
        })
    };
    let stdout = read(Box::new(child.0.stdout.take().expect("piped")));
    let stderr = read(Box::new(child.0.stderr.take().expect("piped")));
    let status = child.wait();
    let text =
        |thread: std::thread::JoinHandle<std::io::Result<String>>| thread.join().expect("no panic").expect("read");
    Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// Runs `blocksyncd` with these arguments.
#[track_caller]
pub fn call<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ended {
    run(blocksyncd().args(args))
}

/// Makes the home of a node that signs; it listens on any free port of loopback.
#[track_caller]
pub fn init_sequencer(home: &Path, chain_id: &str) -> Value {
    call([
        OsStr::new("init"),
        home.as_ref(),
        "--json".as_ref(),
        "--sequencer".as_ref(),
        "--chain-id".as_ref(),
        chain_id.as_ref(),
    ])
    .json()
}

/// Makes the home of a node that follows the chain of `genesis`.
#[track_caller]
pub fn init_follower(home: &Path, genesis: &Path) -> Value {
    call([OsStr::new("init"), home.as_ref(), "--json".as_ref(), "--genesis".as_ref(), genesis.as_ref()]).json()
}

/// A child that does not survive us.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.0.try_wait().expect("our own child") {
                return status;
            }
            assert!(Instant::now() < end, "process {} did not end", self.0.id());
            // The standard library can wait, or look, but not wait until a deadline.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `blocksyncd run`.
#[derive(Debug)]
pub struct Sidecar {
    child: Guard,
    stdin: Option<ChildStdin>,
    stdout: mpsc::Receiver<Line>,
    log: PathBuf,
    ready: Option<Value>,
}

/// What the reader of a sidecar's standard output saw.
#[derive(Debug)]
enum Line {
    Text(String),
    End,
}

impl Sidecar {
    /// Starts a sidecar on loopback, as a supervisor would, and does not wait for it.
    pub fn spawn(home: &Path, args: &[&str]) -> Self {
        let mut command = blocksyncd();
        command.arg("run").arg("--home").arg(home);
        if !args.contains(&"--listen") {
            command.args(["--listen", "/ip4/127.0.0.1/tcp/0"]);
        }
        Self::spawn_command(command.args(args), home)
    }

    /// As [`Sidecar::spawn`], of a command that the caller made; its log goes into `home`.
    pub fn spawn_command(command: &mut Command, home: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let log = home.join(format!("stderr.{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let stderr = File::create(&log).expect("a log file");
        let mut child = Guard(
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts"),
        );
        let stdin = child.0.stdin.take();
        let from = child.0.stdout.take().expect("piped");
        let (to, stdout) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let _ = to.send(Line::Text(line.unwrap_or_else(|error| format!("unreadable: {error}"))));
            }
            let _ = to.send(Line::End);
        });
        Self { child, stdin, stdout, log, ready: None }
    }

    /// Starts a sidecar and waits until it is ready.
    #[track_caller]
    pub fn start(home: &Path, args: &[&str]) -> Self {
        let mut sidecar = Self::spawn(home, args);
        sidecar.wait_ready();
        sidecar
    }

    /// Waits for the ready line, and gives it.
    #[track_caller]
    pub fn wait_ready(&mut self) -> Value {
        if let Some(ready) = &self.ready {
            return ready.clone();
        }
        match self.stdout.recv_timeout(DEADLINE) {
            Ok(Line::Text(line)) => {
                let ready: Value = serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("the ready line is not JSON ({error}): {line}\n{}", self.log()));
                self.ready = Some(ready.clone());
                ready
            }
            other => panic!("no ready line ({other:?})\n{}", self.log()),
        }
    }

    /// That nothing follows the ready line: standard output is closed.
    #[track_caller]
    pub fn expect_silence(&self) {
        match self.stdout.recv_timeout(DEADLINE) {
            Ok(Line::End) => {}
            other => panic!("stdout should be closed after the ready line: {other:?}"),
        }
    }

    #[track_caller]
    fn said(&self, key: &str) -> &Value {
        &self.ready.as_ref().expect("wait_ready comes first")[key]
    }

    #[track_caller]
    pub fn socket(&self) -> PathBuf {
        self.said("socket").as_str().expect("a path").into()
    }

    /// Its first listen address, which others can dial.
    #[track_caller]
    pub fn address(&self) -> String {
        self.said("listen")[0].as_str().expect("an address").to_owned()
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, signal).expect("our own child");
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait()
    }

    /// Ends it gracefully, and checks that it went well.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        let _ = self.wait();
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log says `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let end = Instant::now() + DEADLINE;
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "`{text}` is never logged:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks it with `ctl`.
    #[track_caller]
    pub fn ctl(&self, args: &[&str]) -> Ended {
        run(blocksyncd().arg("ctl").arg("--socket").arg(self.socket()).args(args))
    }

    /// As [`Sidecar::ctl`], answered with one JSON value.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> Value {
        run(blocksyncd().arg("ctl").arg("--socket").arg(self.socket()).arg("--json").args(args)).json()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of sidecar {} ---\n{}--- end ---", self.pid(), self.log());
        }
    }
}

/// The most memory that the process ever had, in bytes.
pub fn peak_rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
}
