//! How an operator ends the sidecar, and what becomes of any other order: plain data for both halves of the API.

/// What became of an operator's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorOutcome {
    /// It is in force, and on disk where it is to survive a restart.
    Done,
    /// Nothing has changed: why, and what would be needed.
    Refused(String),
}

impl From<Result<(), String>> for OperatorOutcome {
    fn from(outcome: Result<(), String>) -> Self {
        outcome.map_or_else(Self::Refused, |()| Self::Done)
    }
}

/// How the sidecar is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// As SIGTERM does: what was begun is finished.
    Drain,
    /// At once.
    Abrupt,
}
