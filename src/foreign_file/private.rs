//! Files that are for nobody's eyes, or hands, but ours: keys, and the guard of what a key has signed.
//!
//! Invariants:
//! 1. What is looked at is what was opened: owner and mode, too, are those of the open file, and nothing can be put in its place in
//!    between.
//! 2. The last step of the path is no symbolic link, unless the caller allows it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::Unusable;

/// Whether the last step of a path may be a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Refused,
    /// What it leads to is looked at as if it had been named.
    Followed,
}

/// Whose a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The user as whom this process runs, and nobody else may read it.
    Us,
    /// Or root's, and a group may read it: so systemd and orchestrators hand secrets over.
    UsOrRoot,
}

/// Why a file is not taken; reads on after the file's name.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    #[error("is a symbolic link: name the file itself")]
    Link,
    #[error("is {0}, and not a regular file")]
    NotAFile(&'static str),
    #[error("belongs to user {owner}, and this process runs as {us}: chown {us} {path}")]
    Owner { owner: u32, us: u32, path: String },
    #[error("can be read by others (mode {mode:04o}): chmod 600 {path}")]
    Mode { mode: u32, path: String },
    #[error("cannot be opened: {0}")]
    Io(io::Error),
}

/// Opens `path` with `options`, to which it adds flags of its own. A file that is made is `0600`.
pub fn open(path: &Path, options: &mut OpenOptions, links: Links, owner: Owner) -> Result<File, Unfit> {
    let flags = if links == Links::Refused { OFlags::NOFOLLOW } else { OFlags::empty() };
    let file = super::open_with(path, options.mode(0o600), flags).map_err(|why| refusal(path, links, why))?;
    let meta = file.metadata().map_err(Unfit::Io)?;
    let us = rustix::process::geteuid().as_raw();
    let handed_over = owner == Owner::UsOrRoot && meta.uid() == 0;
    let shown = || path.display().to_string();
    if meta.uid() != us && !handed_over {
        return Err(Unfit::Owner { owner: meta.uid(), us, path: shown() });
    }
    let forbidden = if handed_over { 0o007 } else { 0o077 };
    if meta.mode() & forbidden != 0 {
        return Err(Unfit::Mode { mode: meta.mode() & 0o7777, path: shown() });
    }
    Ok(file)
}

/// The system says nothing that a person understands when it meets a link.
fn refusal(path: &Path, links: Links, why: Unusable) -> Unfit {
    let error = match why {
        Unusable::NotAFile(kind) => return Unfit::NotAFile(kind),
        why => io::Error::from(why),
    };
    let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    if is_link && links == Links::Refused && path.is_symlink() { Unfit::Link } else { Unfit::Io(error) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_modes_and_kinds_are_refused_as_the_caller_wants_it() {
        let dir = std::env::temp_dir().join(format!("bsd-private-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("it can be made");
        let (path, link) = (dir.join("file"), dir.join("link"));
        let read = |path: &Path, links, owner| open(path, OpenOptions::new().read(true), links, owner);
        assert!(matches!(
            read(&path, Links::Refused, Owner::Us),
            Err(Unfit::Io(error)) if error.kind() == io::ErrorKind::NotFound
        ));
        let made = open(&path, OpenOptions::new().write(true).create(true), Links::Refused, Owner::Us).expect("made");
        assert_eq!(made.metadata().expect("it reads").permissions().mode() & 0o7777, 0o600);
        symlink(&path, &link).expect("it can be made");
        assert!(matches!(read(&link, Links::Refused, Owner::Us), Err(Unfit::Link)));
        assert!(read(&link, Links::Followed, Owner::Us).is_ok());
        assert!(matches!(read(&dir, Links::Refused, Owner::Us), Err(Unfit::NotAFile("a directory"))));
        let writes = open(&dir, OpenOptions::new().write(true), Links::Refused, Owner::Us);
        assert!(matches!(writes, Err(Unfit::NotAFile("a directory"))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("ours");
        for owner in [Owner::Us, Owner::UsOrRoot] {
            assert!(matches!(read(&link, Links::Followed, owner), Err(Unfit::Mode { mode: 0o604, .. })));
        }
        fs::remove_dir_all(&dir).expect("it was ours");
    }
}
