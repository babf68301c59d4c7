//! Files that another user or process may have put there: settings, keys, what an earlier process left. A path may lead to anything.
//!
//! Invariants:
//! 1. To open never waits, not even for the other end of a pipe, and makes no terminal ours.
//! 2. What is looked at is what was opened: only a regular file is read, or written.
//! 3. No more of it is read than the caller expects at most, whatever length it claims.

pub mod private;

use std::fs::{self, File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Why a file is not taken; reads on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("is {0}, and not a regular file")]
    NotAFile(&'static str),
    #[error("is longer than {0} bytes")]
    TooLong(u64),
    #[error("cannot be read: {0}")]
    Io(io::Error),
}

impl Unusable {
    /// Whether nothing is there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// For callers to whom a file is good or bad, whatever the reason: what we will not use is invalid.
impl From<Unusable> for io::Error {
    fn from(why: Unusable) -> Self {
        match why {
            Unusable::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other.to_string()),
        }
    }
}

/// Opens `path` with `options`, whose flags of the system are replaced.
pub fn open(path: &Path, options: &mut OpenOptions) -> Result<File, Unusable> {
    open_with(path, options, OFlags::empty())
}

/// Opens `path` to be read.
pub fn open_to_read(path: &Path) -> Result<File, Unusable> {
    open(path, OpenOptions::new().read(true))
}

/// All that is in a file of at most `max` bytes.
pub fn read(path: &Path, max: u64) -> Result<Vec<u8>, Unusable> {
    let mut bytes = Vec::new();
    open_to_read(path)?.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(Unusable::Io)?;
    if bytes.len() as u64 > max { Err(Unusable::TooLong(max)) } else { Ok(bytes) }
}

fn open_with(path: &Path, options: &mut OpenOptions, flags: OFlags) -> Result<File, Unusable> {
    let flags = (flags | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    let flags = i32::try_from(flags).map_err(|error| Unusable::Io(io::Error::other(error)))?;
    let file = options.custom_flags(flags).open(path).map_err(|error| refusal(path, error))?;
    let kind = file.metadata().map_err(Unusable::Io)?.file_type();
    if kind.is_file() { Ok(file) } else { Err(Unusable::NotAFile(name_of(kind))) }
}

/// To open a socket or a directory fails with an error of the system that does not say what it is; this says it.
fn refusal(path: &Path, error: io::Error) -> Unusable {
    let of_its_kind = error.kind() == io::ErrorKind::IsADirectory
        || error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error());
    match fs::metadata(path) {
        Ok(found) if of_its_kind && !found.is_file() => Unusable::NotAFile(name_of(found.file_type())),
        _ => Unusable::Io(error),
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;

    #[test]
    fn only_a_regular_file_of_no_more_than_was_expected_is_read() {
        let dir = std::env::temp_dir().join(format!("bsd-foreign-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("it can be made");
        let path = |name: &str| dir.join(name);
        fs::create_dir(path("dir")).expect("it can be made");
        let made = Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo runs");
        assert!(made.success());
        let _listener = UnixListener::bind(path("socket")).expect("it can be made");
        for (name, target) in [("zero", "/dev/zero"), ("nothing", "/no/such/file")] {
            symlink(target, path(name)).expect("it can be made");
        }
        for (name, kind) in [("dir", "a directory"), ("pipe", "a pipe"), ("socket", "a socket"), ("zero", "a device")] {
            for options in [
                OpenOptions::new().read(true),
                OpenOptions::new().write(true),
                OpenOptions::new().read(true).write(true),
            ] {
                match open(&path(name), options) {
                    Err(Unusable::NotAFile(found)) => assert_eq!(found, kind, "{name}"),
                    other => panic!("{name} is {other:?}"),
                }
            }
            assert!(matches!(read(&path(name), 10), Err(Unusable::NotAFile(_))), "{name}");
        }
        assert!(
            matches!(read(&path("nothing"), 10), Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound)
        );
        fs::write(path("file"), "four").expect("it can be made");
        for max in [4, u64::MAX] {
            assert_eq!(read(&path("file"), max).expect("it fits"), b"four");
        }
        assert!(matches!(read(&path("file"), 3), Err(Unusable::TooLong(3))));
        fs::remove_dir_all(&dir).expect("it was ours");
    }
}
