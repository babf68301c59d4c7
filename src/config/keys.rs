//! Key files: a 32-byte ed25519 seed as 64 hex digits, for nobody's eyes but ours.
//!
//! Invariants:
//! 1. A key is taken only from a regular file of our own user that nobody else may read, reached without a symbolic link
//!    as its last step ([`private`]). A link, and then root's file that a group may read, is taken where the caller says so.
//! 2. A key file is never overwritten, and is on disk, with its directory entry, when [`create`] returns.
//! 3. Seeds are wiped from memory when dropped, and have no text form.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::error::ConfigError;
use crate::atomic_file;
use crate::block::PublicKey;
use crate::foreign_file::private::{self, Links, Owner, Unfit};
use crate::util::hex;

/// A secret seed.
#[derive(Clone)]
pub struct KeySeed(Zeroizing<[u8; 32]>);

impl KeySeed {
    /// From the operating system's generator.
    pub fn generate() -> Result<Self, ConfigError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice())
            .map_err(|error| ConfigError::io(format!("the system gives no random bytes: {error}")))?;
        Ok(Self(seed))
    }

    #[must_use]
    pub fn secret(&self) -> &[u8; 32] {
        &self.0
    }

    #[must_use]
    pub fn into_secret(self) -> Zeroizing<[u8; 32]> {
        self.0
    }

    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(ed25519_dalek::SigningKey::from_bytes(&self.0).verifying_key().to_bytes())
    }
}

impl fmt::Debug for KeySeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySeed(..)")
    }
}

/// Reads the key file `path`; `what` names it in messages, as `node key`.
pub fn read(path: &Path, what: &str, links: Links) -> Result<KeySeed, ConfigError> {
    let shown = path.display();
    // Whoever hands keys over does it as root, and a mask shows as the rights of a group.
    let handed_over = is_credential(path) || (links == Links::Followed && !rustix::process::geteuid().is_root());
    let owner = if handed_over { Owner::UsOrRoot } else { Owner::Us };
    let file = private::open(path, OpenOptions::new().read(true), links, owner).map_err(|why| match why {
        Unfit::Io(error) => ConfigError::open(path, what, &error),
        Unfit::Mode { .. } => ConfigError::config(format!("the {what} {shown} {why}, and think of the key as known")),
        why => ConfigError::config(format!("the {what} {shown} {why}")),
    })?;

    // One byte more than the longest file there is, so that a longer one is noticed.
    let mut text = Zeroizing::new([0_u8; 67]);
    let mut len = 0;
    loop {
        match (&file).read(&mut text[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(ConfigError::open(path, what, &error)),
        }
    }
    let digits = text[..len].trim_ascii_end();
    decode(digits).ok_or_else(|| {
        ConfigError::config(format!(
            "the {what} {shown} must hold 64 hex digits (a 32-byte ed25519 seed) and nothing else"
        ))
    })
}

/// Whether it is in the directory that systemd makes for a service's credentials at each start, and takes away at its end.
#[must_use]
pub fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|dir| path.parent() == Some(Path::new(&dir)))
}

/// Writes `seed` to a new file, 0600.
pub fn create(path: &Path, seed: &KeySeed) -> Result<(), ConfigError> {
    let mut text = Zeroizing::new(String::with_capacity(65));
    hex::write(&mut *text, seed.secret()).expect("a String grows");
    text.push('\n');
    create_file(path, text.as_bytes(), 0o600)
}

/// Writes a new file and makes it durable; an existing one is never touched.
pub fn create_file(path: &Path, contents: &[u8], mode: u32) -> Result<(), ConfigError> {
    atomic_file::create_new(path, contents, mode).map_err(|error| ConfigError::create(path, &error))
}

fn decode(digits: &[u8]) -> Option<KeySeed> {
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_into(seed.as_mut_slice(), digits)?;
    Some(KeySeed(seed))
}
