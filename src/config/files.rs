//! The file system, as far as settings need it: small texts are read, and what will be written into is looked at.

use std::path::Path;

use super::error::ConfigError;
use crate::foreign_file::{self, Unusable};

/// The longest configuration or genesis file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Whether `path` can be made, or written into: looks at it, or at the nearest directory above it that is there.
pub(super) fn check_writable(path: &Path) -> Result<(), String> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let Some(there) = path.ancestors().find(|path| std::fs::exists(path).unwrap_or(true)) else { return Ok(()) };
    accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(|error| {
        let us = rustix::process::geteuid().as_raw();
        format!("user {us} cannot write into {}: {error}", there.display())
    })
}

/// Reads a whole file of UTF-8, of at most 1 MiB.
pub(super) fn read_text(path: &Path, what: &str) -> Result<String, ConfigError> {
    let bytes = foreign_file::read(path, MAX_FILE_BYTES).map_err(|why| match why {
        Unusable::Io(error) => ConfigError::open(path, what, &error),
        Unusable::TooLong(_) => ConfigError::config(format!("the {what} {} is larger than 1 MiB", path.display())),
        why @ Unusable::NotAFile(_) => ConfigError::config(format!("the {what} {} {why}", path.display())),
    })?;
    String::from_utf8(bytes).map_err(|_| ConfigError::config(format!("the {what} {} is not UTF-8", path.display())))
}
