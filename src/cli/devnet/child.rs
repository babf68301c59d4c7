//! Child processes that never outlive the devnet.
//!
//! Invariants:
//! 1. A child holds the other end of a pipe as its standard input, and ends when that closes: so it ends even when the
//!    devnet is killed with -9.
//! 2. It is in a process group of its own: a Ctrl-C reaches the devnet only, which ends everything in order.
//! 3. When its handle is dropped, it is killed.
//! 4. Its standard error goes to a log file; nothing of our own settings in the environment reaches it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::homes::without_our_settings;

/// The longest line that is read of a child; a longer one is cut.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Something that a child did, with the number that it was started with.
#[derive(Debug)]
pub enum Happened {
    Said {
        who: usize,
        line: String,
    },
    /// It closed its standard output: a sidecar once it is ready, a host when it ends.
    Fell {
        who: usize,
    },
}

/// How a child ended that was waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    ByItself,
    /// It took too long: whatever it was about to do is not done.
    Killed,
}

/// A running child.
#[derive(Debug)]
pub struct Child {
    /// As `full-1 sidecar`.
    pub name: String,
    pub log: PathBuf,
    process: Process,
    lifeline: Option<ChildStdin>,
}

impl Child {
    /// Starts this very program with other arguments. Lines of its standard output go to `happened`.
    pub fn start<A: AsRef<OsStr>>(
        who: usize,
        name: &str,
        args: impl IntoIterator<Item = A>,
        log: &Path,
        happened: &mpsc::Sender<Happened>,
    ) -> std::io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .process_group(0)
            .kill_on_drop(true);
        without_our_settings(&mut command);
        let mut process = command.spawn()?;
        let lifeline = process.stdin.take();
        if let Some(stdout) = process.stdout.take() {
            tokio::spawn(listen(who, stdout, happened.clone()));
        }
        Ok(Self { name: name.to_owned(), log: log.to_owned(), process, lifeline })
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// Tells it to end.
    pub fn let_go(&mut self) {
        self.lifeline = None;
    }

    /// Waits for its end, and kills it when that takes longer than `patience`.
    pub async fn wait(&mut self, patience: Duration) -> ChildEnd {
        if let Ok(Ok(_)) = tokio::time::timeout(patience, self.process.wait()).await {
            return ChildEnd::ByItself;
        }
        // Killing fails only when it is dead already.
        let _ = self.process.kill().await;
        ChildEnd::Killed
    }
}

async fn listen(who: usize, stdout: ChildStdout, happened: mpsc::Sender<Happened>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stdout).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if happened.send(Happened::Said { who, line }).await.is_err() {
            return;
        }
    }
    // Nobody is left to be told when the devnet itself is ending.
    let _ = happened.send(Happened::Fell { who }).await;
}
