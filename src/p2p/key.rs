//! The node key: an ed25519 seed in a file that nobody else can read. It names this node to its peers; it signs no blocks.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use libp2p::identity::Keypair;

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKeyFile(pub PathBuf);

/// Why there is no node key. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the node key {path} can be read by others (mode {mode:04o}): chmod 600 it, or delete it to get a new one")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("the node key {path} belongs to user {owner}, not to user {us} that runs this process: chown it")]
    ForeignOwner { path: PathBuf, owner: u32, us: u32 },
    #[error("the node key {0} is not a regular file: put the file itself there, not a link")]
    NotAFile(PathBuf),
    #[error("the node key {path} has {length} bytes instead of {LENGTH}: restore it, or delete it to get a new one")]
    WrongLength { path: PathBuf, length: u64 },
    #[error("cannot {action} the node key {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: io::Error },
}

const LENGTH: usize = 32;

impl NodeKeyFile {
    /// Reads the key, or makes one if there is no file.
    ///
    /// # Errors
    /// See [`KeyError`]; a file that is there is never overwritten.
    pub fn read_or_create(&self) -> Result<[u8; 32], KeyError> {
        match self.read() {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => self.create(),
            other => other,
        }
    }

    /// Reads the key that is there.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(&self) -> Result<[u8; 32], KeyError> {
        let path = &self.0;
        let io = |action| move |source| KeyError::Io { action, path: path.clone(), source };
        // What is checked is what is read: one open file, reached by no link. Not blocking, should it be a pipe.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let mut file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(KeyError::NotAFile(path.clone()));
            }
            other => other.map_err(io("open"))?,
        };
        let metadata = file.metadata().map_err(io("read"))?;
        if !metadata.is_file() {
            return Err(KeyError::NotAFile(path.clone()));
        }
        let mode = metadata.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::Exposed { path: path.clone(), mode });
        }
        let us = rustix::process::geteuid().as_raw();
        if metadata.uid() != us {
            return Err(KeyError::ForeignOwner { path: path.clone(), owner: metadata.uid(), us });
        }
        if metadata.len() != LENGTH as u64 {
            return Err(KeyError::WrongLength { path: path.clone(), length: metadata.len() });
        }
        let mut seed = [0; LENGTH];
        file.read_exact(&mut seed).map_err(io("read"))?;
        Ok(seed)
    }

    /// Makes a key. When it returns, the key survives a power cut.
    fn create(&self) -> Result<[u8; 32], KeyError> {
        let path = &self.0;
        let io = |source| KeyError::Io { action: "create", path: path.clone(), source };
        let mut seed = [0; LENGTH];
        getrandom::fill(&mut seed).map_err(|error| io(io::Error::other(error)))?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Written aside and linked into place whole: a crash never leaves half a key, and no other process's is replaced.
        let aside = directory.join(format!(".node-key.{}", std::process::id()));
        let _ = std::fs::remove_file(&aside);
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(&seed)?;
            file.sync_all()?;
            std::fs::hard_link(&aside, path)
        })();
        let removed = std::fs::remove_file(&aside);
        written.and(removed).and_then(|()| File::open(directory)?.sync_all()).map_err(io)?;
        Ok(seed)
    }
}

/// The peer id that goes with a node key, base58.
#[must_use]
pub fn peer_id_of(node_key: &[u8; 32]) -> String {
    keypair(node_key).public().to_peer_id().to_base58()
}

pub(super) fn keypair(node_key: &[u8; 32]) -> Keypair {
    // The library wipes the copy that it is given.
    let mut seed = *node_key;
    Keypair::ed25519_from_bytes(&mut seed[..]).expect("32 bytes are always a seed")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A directory of this test alone, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("blocksyncd-key-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("a scratch directory");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_key_is_made_once_and_kept() {
        let scratch = Scratch::new("kept");
        let file = NodeKeyFile(scratch.0.join("node_key"));
        let first = file.read_or_create().expect("made");
        assert_eq!(file.read_or_create().expect("read"), first);
        assert_eq!(fs::metadata(&file.0).expect("there").permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(&scratch.0).expect("there").count(), 1, "nothing is left aside");
        assert!(peer_id_of(&first).starts_with("12D3KooW"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let scratch = Scratch::new("exposed");
        let file = NodeKeyFile(scratch.0.join("node_key"));
        file.read_or_create().expect("made");
        for mode in [0o640, 0o604, 0o666] {
            fs::set_permissions(&file.0, fs::Permissions::from_mode(mode)).expect("ours");
            assert!(matches!(file.read_or_create(), Err(KeyError::Exposed { mode: found, .. }) if found == mode));
        }
    }

    #[test]
    fn links_directories_and_torn_keys_are_refused_and_never_replaced() {
        let scratch = Scratch::new("odd");
        let file = NodeKeyFile(scratch.0.join("node_key"));
        file.read_or_create().expect("made");
        let link = NodeKeyFile(scratch.0.join("link"));
        symlink(&file.0, &link.0).expect("a link");
        assert!(matches!(link.read_or_create(), Err(KeyError::NotAFile(_))));
        let dangling = NodeKeyFile(scratch.0.join("dangling"));
        symlink(scratch.0.join("nowhere"), &dangling.0).expect("a link");
        assert!(dangling.read_or_create().is_err());
        let directory = NodeKeyFile(scratch.0.clone());
        assert!(matches!(directory.read_or_create(), Err(KeyError::NotAFile(_))));
        fs::write(&file.0, b"short").expect("ours");
        assert!(matches!(file.read_or_create(), Err(KeyError::WrongLength { length: 5, .. })));
        assert_eq!(fs::read(&file.0).expect("there"), b"short");
        let nowhere = NodeKeyFile(scratch.0.join("no/such/directory"));
        assert!(matches!(nowhere.read_or_create(), Err(KeyError::Io { action: "create", .. })));
    }
}
