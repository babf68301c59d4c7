//! Small files that are there whole or not at all, and directories whose entries stay.
//!
//! ```text
//!   replace      aside: create, write, sync --> rename over the file --> sync the directory
//!   create_new   create, write, sync -------------------------------> sync the directory
//! ```
//!
//! Invariants:
//! 1. What [`replace`] writes appears under the file's name only as a whole: whoever opens it finds the old contents or the
//!    new ones. What was left aside by a process that died is removed by the next one.
//! 2. A file that is there is never touched by [`create_new`].
//! 3. With [`Durability::Power`] the file is on disk, with its name, when the call returns.
//!
//! Everything here waits for the disk, and two callers must not write the same file at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// For files that anybody may read whom the umask lets.
pub const DEFAULT_MODE: u32 = 0o666;

/// What bytes that were written survive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: contents and name are synced.
    #[default]
    Power,
    /// The death of the process only: the kernel has them, and nothing is synced.
    Process,
}

/// Makes, or replaces, the file `path` by way of `aside`, which must be in the same directory. `mode` is masked by the
/// umask. Gives the file, open for reading and for writing behind its end.
pub fn replace(path: &Path, aside: &Path, contents: &[u8], mode: u32, durability: Durability) -> io::Result<File> {
    let mut file = create_aside(aside, mode)?;
    file.write_all(contents)?;
    put_in_place(&file, aside, path, durability)?;
    Ok(file)
}

/// The first half of [`replace`], for whoever writes the contents some other way: an empty file.
pub fn create_aside(aside: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(aside)
}

/// The second half of [`replace`]: what was written to `file`, which is `aside`, is the file `path` from now on.
pub fn put_in_place(file: &File, aside: &Path, path: &Path, durability: Durability) -> io::Result<()> {
    if durability == Durability::Power {
        file.sync_all()?;
    }
    fs::rename(aside, path)?;
    match durability {
        Durability::Power => sync_parent(path),
        Durability::Process => Ok(()),
    }
}

/// Makes the file `path`, which must not be there, and makes it durable. `mode` is masked by the umask.
pub fn create_new(path: &Path, contents: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(contents)?;
    file.sync_all()?;
    sync_parent(path)
}

/// Makes what was created, renamed or removed in `dir` durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// As [`sync_dir`], of the directory that `path` is in.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// A directory that is gone when the test is.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("bsd-atomic-{name}-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<String> = names.collect();
            names.sort();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_made_and_replaced_and_nothing_stays_aside() {
        let scratch = Scratch::new("replace");
        let (path, aside) = (scratch.0.join("file"), scratch.0.join("file.new"));
        for (contents, durability) in [("first", Durability::Power), ("2nd", Durability::Process)] {
            fs::write(&aside, "left by a process that died, and longer than what comes").unwrap();
            let mut file = replace(&path, &aside, contents.as_bytes(), 0o600, durability).unwrap();
            assert_eq!(
                (fs::read_to_string(&path).unwrap().as_str(), scratch.names()),
                (contents, vec!["file".to_owned()])
            );
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            file.write_all(b", more").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{contents}, more"));
        }
    }

    #[test]
    fn what_was_there_stays_when_it_cannot_be_replaced() {
        let scratch = Scratch::new("refused");
        let (path, aside) = (scratch.0.join("file"), scratch.0.join("file.new"));
        fs::write(&path, "old").unwrap();
        fs::create_dir(&aside).unwrap();
        assert!(replace(&path, &aside, b"new", 0o600, Durability::Power).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }

    #[test]
    fn a_new_file_never_touches_one_that_is_there() {
        let scratch = Scratch::new("create");
        let path = scratch.0.join("file");
        create_new(&path, b"first", 0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
        let refused = create_new(&path, b"second", 0o640).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }

    #[test]
    fn directories_are_found_also_for_bare_names() {
        sync_parent(Path::new("a_bare_name")).unwrap();
        sync_parent(Path::new("/a_file_in_the_root")).unwrap();
        assert!(sync_dir(Path::new("/there/is/no/such/directory")).is_err());
    }
}
