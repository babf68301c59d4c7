//! How a command ends: the exit codes, and the one line that says why.
//!
//! The numbers are those of `sysexits.h`, which systemd names in its logs and which a unit can list in
//! `RestartPreventExitStatus=64 65 77 78`: to start again does not help with those.

use std::fmt;
use std::process::ExitCode;

use crate::config::{ConfigError, ConfigErrorKind};

/// Why the program ends, as a number for supervisors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// `EX_USAGE`: the command line is wrong.
    Usage = 64,
    /// `EX_DATAERR`: the data is wrong: another chain's database, a block that cannot be published.
    Data = 65,
    /// `EX_UNAVAILABLE`: what is needed is not there: no sidecar answers, or it is not healthy.
    Unavailable = 69,
    /// `EX_SOFTWARE`: a bug of ours.
    Internal = 70,
    /// `EX_CANTCREAT`: a file that was to be made cannot be made.
    CannotCreate = 73,
    /// `EX_IOERR`: reading, writing or listening failed; no space left on the device.
    Io = 74,
    /// `EX_TEMPFAIL`: somebody else holds the lock or the socket; later it may work.
    Temporary = 75,
    /// `EX_NOPERM`: the operating system does not let us.
    Permission = 77,
    /// `EX_CONFIG`: a setting, or a file that a setting names, is wrong.
    Config = 78,
    /// Ended at once by a second interrupt (128 + SIGINT).
    Interrupted = 130,
    /// Ended at once by a second termination (128 + SIGTERM).
    Terminated = 143,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// The end of a command that did not do what it was asked for: one sentence that says what, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Code,
    pub message: String,
}

impl Failure {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints the failure, if there is one, and gives its exit code.
pub fn report(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("blocksyncd: {failure}");
            failure.code.into()
        }
    }
}

/// Prints what clap has to say: help and version go to stdout and are a success.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done when the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { Code::Usage.into() } else { ExitCode::SUCCESS }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match error.kind {
            ConfigErrorKind::Usage => Code::Usage,
            ConfigErrorKind::Config => Code::Config,
            ConfigErrorKind::Permission => Code::Permission,
            ConfigErrorKind::Create => Code::CannotCreate,
            ConfigErrorKind::Io => Code::Io,
        };
        Self::new(code, error.message)
    }
}
