//! The files of fjall's keyspaces, looked at before fjall opens them.
//!
//! A keyspace is a directory: `current` names a manifest and has its checksum, the manifest `v<n>` lists the tables. fjall 3.1.13
//! does not compare that checksum, believes the lengths in there (and allocates what they say, until the process is killed), and
//! silently deletes a keyspace without `current`. So each one is verified first, down to the directory at the end of each table;
//! the blocks of a table have checksums that fjall does compare. A damaged keyspace is set aside, so that the others can be
//! opened without it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::StoreError;
use super::error::At as _;
use crate::foreign_file;

/// Where what is cut off a damaged database goes: only what the last repair cut is kept.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) path: PathBuf,
    /// Whether it has been emptied by this repair.
    emptied: bool,
}

impl Aside {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), emptied: false }
    }

    /// The directory, to put something into.
    pub(super) fn dir(&mut self) -> io::Result<&Path> {
        if !self.emptied {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::create_dir_all(&self.path)?,
            }
            self.emptied = true;
        }
        Ok(&self.path)
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileHealth {
    Sound,
    /// Some keyspaces are not there any more: the others can be opened.
    Incomplete,
    /// fjall must not touch it.
    Hopeless,
}

/// Verifies each keyspace of the database at `db`.
pub(super) fn verify(db: &Path, aside: &mut Aside) -> Result<FileHealth, StoreError> {
    let keyspaces = db.join("keyspaces");
    let entries = match fs::read_dir(&keyspaces) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(FileHealth::Hopeless),
        entries => entries.at(&keyspaces)?,
    };
    let mut found = FileHealth::Sound;
    for entry in entries {
        let path = entry.at(&keyspaces)?.path();
        if !path.is_dir() || is_sound(&path)? {
            continue;
        }
        tracing::error!(path = %path.display(), "the files of this keyspace are damaged");
        let name = path.file_name().unwrap_or_default().to_owned();
        // The first one names all others.
        if name == "0" {
            return Ok(FileHealth::Hopeless);
        }
        let target = aside.dir().at(&path)?.join(format!("keyspace-{}", name.display()));
        fs::rename(&path, &target).at(&path)?;
        found = FileHealth::Incomplete;
    }
    Ok(found)
}

fn is_sound(keyspace: &Path) -> Result<bool, StoreError> {
    let check = || -> io::Result<bool> {
        let Some(manifest) = manifest(keyspace)? else { return Ok(false) };
        let Some(tables) = tables(&manifest) else { return Ok(false) };
        for table in tables {
            let file = foreign_file::open_to_read(&keyspace.join("tables").join(table.to_string()))?;
            let Some(directory) = directory(&file)? else { return Ok(false) };
            if sections(directory).is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    };
    match check() {
        Ok(sound) => Ok(sound),
        Err(error) => match error.kind() {
            // The last one: it is no file at all, or much too long.
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Ok(false),
            _ => Err(StoreError::io(keyspace, &error)),
        },
    }
}

/// What fjall writes has 25.
const MAX_CURRENT_BYTES: u64 = 1 << 10;
/// About 33 for each table, of which there are thousands at most.
const MAX_MANIFEST_BYTES: u64 = 64 << 20;

/// The manifest that `current` names, if it is the one that `current` means.
fn manifest(keyspace: &Path) -> io::Result<Option<Bytes>> {
    let current = foreign_file::read(&keyspace.join("current"), MAX_CURRENT_BYTES)?;
    let mut fields = Fields(Bytes::from(current));
    let (Some(number), Some(checksum), Some(0)) = (fields.u64(), fields.u128(), fields.u8()) else { return Ok(None) };
    let manifest = foreign_file::read(&keyspace.join(format!("v{number}")), MAX_MANIFEST_BYTES)?;
    Ok((xxh3_128(&manifest) == checksum).then(|| manifest.into()))
}

/// The numbers of the tables that a manifest lists.
fn tables(manifest: &Bytes) -> Option<Vec<u64>> {
    let (content, trailer) = manifest.split_at_checked(manifest.len().checked_sub(TRAILER_BYTES)?)?;
    let start = usize::try_from(Trailer::read(trailer)?.position).ok()?;
    let sections = sections(Bytes::copy_from_slice(content.get(start..)?))?;
    let (position, len) = *sections.get(b"tables".as_slice())?;
    let (position, len) = (usize::try_from(position).ok()?, usize::try_from(len).ok()?);
    let mut fields = Fields(Bytes::copy_from_slice(content.get(position..position.checked_add(len)?)?));
    let mut found = Vec::new();
    for _level in 0..fields.u8()? {
        for _run in 0..fields.u8()? {
            for _table in 0..fields.u32()? {
                found.push(fields.u64()?);
                let (_checksum_type, _checksum, _sequence) = (fields.u8()?, fields.u128()?, fields.u64()?);
            }
        }
    }
    Some(found)
}

const TRAILER_BYTES: usize = 38;

/// The end of an archive: `"SFA!" | version u8 | checksum type u8 | checksum u128 | position u64 | length u64`.
struct Trailer {
    checksum: u128,
    /// Where the directory begins; it ends where the trailer begins.
    position: u64,
}

impl Trailer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(Bytes::copy_from_slice(bytes.strip_prefix(b"SFA!")?));
        let (Some(1), Some(0)) = (fields.u8(), fields.u8()) else { return None };
        Some(Self { checksum: fields.u128()?, position: fields.u64()? })
    }
}

/// A real directory has a dozen entries.
const MAX_DIRECTORY_BYTES: usize = 1 << 16;

/// The directory of an archive, if it is sound.
fn directory(file: &File) -> io::Result<Option<Bytes>> {
    let Some(end) = file.metadata()?.len().checked_sub(TRAILER_BYTES as u64) else { return Ok(None) };
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact_at(&mut trailer, end)?;
    let Some(trailer) = Trailer::read(&trailer) else { return Ok(None) };
    let len = end.checked_sub(trailer.position).and_then(|len| usize::try_from(len).ok());
    let Some(len) = len.filter(|len| *len <= MAX_DIRECTORY_BYTES) else { return Ok(None) };
    let mut directory = vec![0; len];
    file.read_exact_at(&mut directory, trailer.position)?;
    Ok((xxh3_128(&directory) == trailer.checksum).then(|| directory.into()))
}

/// Position and length of each section: `"TOC!" | entries u32 | entries of: position u64, length u64, name length u16, name`.
fn sections(directory: Bytes) -> Option<BTreeMap<Vec<u8>, (u64, u64)>> {
    let mut fields = Fields(directory);
    if fields.take(4)? != b"TOC!".as_slice() {
        return None;
    }
    let mut found = BTreeMap::new();
    for _ in 0..fields.u32()? {
        let place = (fields.u64()?, fields.u64()?);
        let len = u16::from_le_bytes(fields.array()?);
        found.insert(fields.take(usize::from(len))?.to_vec(), place);
    }
    Some(found)
}

/// Little-endian fields, one after the other.
struct Fields(Bytes);

impl Fields {
    fn take(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_le_bytes)
    }
}
