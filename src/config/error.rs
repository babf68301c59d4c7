//! Why settings cannot be used: one sentence for a person, and a kind for the exit code.

use std::path::Path;

/// A setting that cannot be used, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub kind: ConfigErrorKind,
    pub message: String,
}

/// What kind of exit code a [`ConfigError`] deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigErrorKind {
    /// The command line is wrong.
    Usage,
    /// A setting, or a file that it names, is wrong.
    Config,
    /// The operating system does not let us.
    Permission,
    /// A file cannot be made.
    Create,
    Io,
}

impl ConfigError {
    pub(crate) fn usage(message: String) -> Self {
        Self { kind: ConfigErrorKind::Usage, message }
    }

    pub(crate) fn config(message: String) -> Self {
        Self { kind: ConfigErrorKind::Config, message }
    }

    pub(super) fn permission(message: String) -> Self {
        Self { kind: ConfigErrorKind::Permission, message }
    }

    pub(crate) fn io(message: String) -> Self {
        Self { kind: ConfigErrorKind::Io, message }
    }

    /// A file that was needed cannot be opened or read.
    pub(super) fn open(path: &Path, what: &str, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ConfigErrorKind::Permission,
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory => {
                ConfigErrorKind::Config
            }
            _ => ConfigErrorKind::Io,
        };
        Self { kind, message: format!("cannot read the {what} {}: {error}", path.display()) }
    }

    /// A file cannot be made.
    pub(super) fn create(path: &Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ConfigErrorKind::Permission,
            _ => ConfigErrorKind::Create,
        };
        Self { kind, message: format!("cannot make {}: {error}", path.display()) }
    }
}
