//! What a mock execution says on its standard output: one JSON object per line, for whoever started it (`devnet`, tests).
//!
//! ```text
//!   {"event":"progress","attached":true,"soft":12,"hard":8,"state_hash":"..","peers":2,"received":{..},..}
//!   {"event":"violation","rule":"gap","height":7,"detail":"soft 7 was told where 6 was due"}
//!   {"event":"end", ..as progress..}
//! ```
//!
//! `progress` comes when something in it has changed, at most ten times a second; each `violation` once, as it is found;
//! `end` is the last line of an orderly end. Fields may be added; a reader ignores those that it does not know.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;

use serde::{Deserialize, Serialize};

use super::checker::Violation;
use super::latency::Percentiles;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum ReportLine {
    Progress(Progress),
    Violation(Violation),
    End(Progress),
}

/// Where a mock execution stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Whether it has a session with its sidecar.
    pub attached: bool,
    /// The newest executed height; 0: none.
    pub soft: u64,
    /// The newest height that it was told to be hard; 0: none.
    pub hard: u64,
    /// By what that one is hard, as the API calls it; of this life of the process.
    pub hard_basis: Option<String>,
    /// After the newest executed block; 64 hex digits.
    pub state_hash: String,
    /// The newest DA height that its sidecar has taken its report of.
    pub da_height: u64,
    /// Blocks posted to DA, up to this height (a sequencer's).
    pub posted: u64,
    /// Of its sidecar, as last asked.
    pub peers: u32,
    /// Of its sidecar, as last asked.
    pub received: ReceivedCounts,
    /// From the time in the block to the soft event here; a full node's.
    pub soft_latency_ms: Option<Percentiles>,
    /// From the time in the block to the hard event here.
    pub hard_latency_ms: Option<Percentiles>,
    /// What it is waiting for, when something is in the way.
    pub waiting_for: Option<String>,
    pub violations: usize,
}

/// Blocks that became soft since the sidecar started, by where they came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceivedCounts {
    pub published: u64,
    pub gossip: u64,
    pub range: u64,
    pub da: u64,
}

impl From<crate::sync::Received> for ReceivedCounts {
    fn from(received: crate::sync::Received) -> Self {
        let crate::sync::Received { published, gossip, range, da } = received;
        Self { published, gossip, range, da }
    }
}

impl ReportLine {
    /// Reads a line; `None` for what is none of ours.
    pub fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

/// Standard output, taken away from everybody else: libraries that print there print to standard error from then on.
#[derive(Debug)]
pub struct Teller(File);

impl Teller {
    pub fn new() -> std::io::Result<Self> {
        let out = std::io::stdout().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stdout(std::io::stderr().as_fd())?;
        Ok(Self(out.into()))
    }

    /// Nobody reading it any more is no reason to stop.
    pub fn tell(&self, line: &ReportLine) {
        if let Ok(mut text) = serde_json::to_string(line) {
            text.push('\n');
            let _ = (&self.0).write_all(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checker::Rule;
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let progress =
            Progress { soft: 3, soft_latency_ms: Some(Percentiles { p50: 1.5, p99: 2.0 }), ..Progress::default() };
        let lines = [
            ReportLine::Progress(progress.clone()),
            ReportLine::Violation(Violation::new(Rule::HardBeforeSoft, 7, "x")),
            ReportLine::End(progress),
        ];
        for line in lines {
            assert_eq!(ReportLine::read(&serde_json::to_string(&line).unwrap()), Some(line));
        }
        let text = serde_json::to_string(&ReportLine::Violation(Violation::new(Rule::HardBeforeSoft, 7, "x"))).unwrap();
        assert_eq!(text, r#"{"event":"violation","rule":"hard_before_soft","height":7,"detail":"x"}"#);
        assert_eq!(ReportLine::read("ERROR: something else"), None);
    }
}
