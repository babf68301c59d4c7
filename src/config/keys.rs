//! Key files: a 32-byte ed25519 seed as 64 hex digits, for nobody's eyes but ours.
//!
//! Invariants:
//! 1. A key is taken only from a regular file of our own user that nobody else may read, reached without a symbolic link
//!    as its last step; looking and reading happen on the same open file.
//! 2. A key file is never overwritten, and is on disk, with its directory entry, when [`create`] returns.
//! 3. Seeds are wiped from memory when dropped, and have no text form.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::error::ConfigError;
use crate::atomic_file;
use crate::block::PublicKey;
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
pub fn read(path: &Path, what: &str) -> Result<KeySeed, ConfigError> {
    let shown = path.display();
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let custom = i32::try_from(flags).expect("open(2)'s flags are an int");
    let file = match OpenOptions::new().read(true).custom_flags(custom).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(ConfigError::config(format!("the {what} {shown} is a symbolic link: name the file itself")));
        }
        Err(error) => return Err(ConfigError::open(path, what, &error)),
    };
    let meta = file.metadata().map_err(|error| ConfigError::open(path, what, &error))?;
    if !meta.is_file() {
        return Err(ConfigError::config(format!("the {what} {shown} is not a regular file")));
    }
    check_access(path, what, &meta)?;

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

/// Nobody else may read it. systemd's credentials are the exception: root owns them, and a mask shows as group rights.
fn check_access(path: &Path, what: &str, meta: &std::fs::Metadata) -> Result<(), ConfigError> {
    let shown = path.display();
    let us = rustix::process::geteuid().as_raw();
    let credential = is_credential(path);
    if meta.uid() != us && !(credential && meta.uid() == 0) {
        return Err(ConfigError::config(format!(
            "the {what} {shown} belongs to user {}, and this process runs as {us}: chown {us} {shown}",
            meta.uid()
        )));
    }
    let forbidden = if credential { 0o007 } else { 0o077 };
    if meta.mode() & forbidden != 0 {
        return Err(ConfigError::config(format!(
            "the {what} {shown} can be read by others (mode {:04o}): chmod 600 {shown}, and think of the key as known",
            meta.mode() & 0o7777
        )));
    }
    Ok(())
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
