//! The journal of fjall 3.1.13, read by ourselves before fjall reads it.
//!
//! fjall appends each write as one batch, in files `<n>.jnl`, `n` ascending, the last one active and zero-filled beyond its
//! end:
//!
//! ```text
//!   start   1 | items u32 | sequence number u64
//!   item    2 | value type u8 | compression u8 | keyspace u64 | key length u16 | value length u32 | stored length u32
//!             | key | value
//!   clear   4 | keyspace u64
//!   end     3 | XXH3-64 of the items and clears u64 | "FJL" 3                            (all little-endian)
//! ```
//!
//! After a power cut some sectors of the last batch may be missing: fjall may then refuse to open for ever. A damaged byte
//! further up makes it drop everything behind it without a word, and a damaged length makes it allocate whatever that says.
//! So before each opening:
//!
//! 1. Every journal is cut at the end of its last good batch; fjall is only ever given well-formed ones.
//! 2. What comes after a cut, or after a missing file, goes too: what is left is the state of one moment.
//! 3. Whatever is cut is copied aside first, and said. Whether it had been acknowledged is for the watermark to tell.
//!
//! It checks more than fjall does: sequence numbers, which no checksum covers, must rise.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::StoreError;
use super::error::At as _;
use super::files::Aside;
use crate::atomic_file::sync_dir;
use crate::foreign_file;
use crate::util::saturate;

const TRAILER: [u8; 4] = *b"FJL\x03";

/// What the journals hold.
#[derive(Debug, Default)]
pub(super) struct Journals {
    /// For each keyspace with keys of eight bytes, the lowest of them: where what is not in tables yet begins.
    pub(super) lowest: BTreeMap<u64, u64>,
}

/// Makes all journals of the database at `db` well-formed. What is cut goes to the directory `aside`.
pub(super) fn repair(db: &Path, aside: &mut Aside) -> Result<Journals, StoreError> {
    let mut journals = Journals::default();
    let mut last_sequence = None;
    let mut previous = None;
    let mut broken = false;
    for (number, path) in list(db)? {
        let follows = previous.is_none_or(|previous: u64| previous + 1 == number);
        if broken || !follows {
            if !broken {
                tracing::error!(journal = %path.display(), "the journal before this one is missing: it is set aside");
            }
            broken = true;
            keep(aside, &path, 0);
            fs::remove_file(&path).at(&path)?;
            continue;
        }
        previous = Some(number);
        let scan = scan(&path, &mut journals, &mut last_sequence).at(&path)?;
        if scan.damaged {
            keep(aside, &path, scan.good_end);
            tracing::warn!(journal = %path.display(), at = scan.good_end, "the journal ends in a torn or damaged write: it is cut there");
            let file = OpenOptions::new().write(true).open(&path).at(&path)?;
            file.set_len(scan.good_end).and_then(|()| file.sync_all()).at(&path)?;
            broken = true;
        }
    }
    if broken {
        sync_dir(db).at(db)?;
    }
    Ok(journals)
}

fn list(db: &Path) -> Result<BTreeMap<u64, PathBuf>, StoreError> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(db).at(db)? {
        let path = entry.at(db)?.path();
        if path.extension().is_some_and(|extension| extension == "jnl")
            && let Some(number) = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok())
        {
            found.insert(number, path);
        }
    }
    Ok(found)
}

/// Keeps what is about to be cut, for somebody to look at. That it works out is not worth failing for: the disk may be full.
fn keep(aside: &mut Aside, journal: &Path, from: u64) {
    let mut copy = || {
        let mut source = foreign_file::open_to_read(journal)?;
        source.seek(SeekFrom::Start(from))?;
        let name = journal.file_name().unwrap_or_default();
        let mut target = File::create(aside.dir()?.join(name))?;
        io::copy(&mut source.take(meaningful(journal, from)?), &mut target)
    };
    if let Err(error) = copy() {
        tracing::warn!(journal = %journal.display(), %error, "what is cut from the journal cannot be kept");
    }
}

/// How many bytes from `from` on there are before the zeros at the end.
fn meaningful(path: &Path, from: u64) -> io::Result<u64> {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    let mut file = foreign_file::open_to_read(path)?;
    let mut buffer = vec![0; ZEROS.len()];
    let (mut len, mut position) = (0, from);
    while let Some(data) = next_data(&file, position)? {
        position = file.seek(SeekFrom::Start(data))?;
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        let chunk = buffer.get(..read).unwrap_or_default();
        if chunk != ZEROS.get(..read).unwrap_or_default()
            && let Some(last) = chunk.iter().rposition(|byte| *byte != 0)
        {
            len = position + last as u64 + 1 - from;
        }
        position += read as u64;
    }
    Ok(len)
}

/// Where the next bytes are that are not a hole: most of a journal is one.
fn next_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(from)) {
        Ok(position) => Ok(Some(position)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // A file system that does not tell.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::OPNOTSUPP) => Ok(Some(from)),
        Err(errno) => Err(errno.into()),
    }
}

struct JournalScan {
    /// Where the last good batch ends.
    good_end: u64,
    /// Whether something other than zeros follows.
    damaged: bool,
}

fn scan(path: &Path, journals: &mut Journals, last_sequence: &mut Option<u64>) -> io::Result<JournalScan> {
    let file = foreign_file::open_to_read(path)?;
    let len = file.metadata()?.len();
    let mut reader = JournalReader { file: BufReader::with_capacity(1 << 16, file), position: 0, len };
    let mut good_end = 0;
    loop {
        match read_batch(&mut reader) {
            Ok(Some(batch)) if last_sequence.is_none_or(|last| batch.sequence > last) => {
                *last_sequence = Some(batch.sequence);
                for (keyspace, key) in batch.lowest {
                    journals.lowest.entry(keyspace).and_modify(|lowest| *lowest = key.min(*lowest)).or_insert(key);
                }
                good_end = reader.position;
            }
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(JournalScan { good_end, damaged: meaningful(path, good_end)? > 0 })
}

struct JournalBatch {
    sequence: u64,
    lowest: BTreeMap<u64, u64>,
}

/// `None`: what is here is not a whole batch.
fn read_batch(reader: &mut JournalReader) -> io::Result<Option<JournalBatch>> {
    if reader.u8()? != 1 {
        return Ok(None);
    }
    let items = reader.u32()?;
    let mut batch = JournalBatch { sequence: reader.u64()?, lowest: BTreeMap::new() };
    let mut hasher = Xxh3::new();
    for _ in 0..items {
        match reader.u8()? {
            2 => match read_item(reader, &mut hasher)? {
                Some((keyspace, Some(key))) => {
                    batch.lowest.entry(keyspace).and_modify(|lowest| *lowest = key.min(*lowest)).or_insert(key);
                }
                Some((_, None)) => {}
                None => return Ok(None),
            },
            4 => {
                hasher.update(&[4]);
                hasher.update(&reader.u64()?.to_le_bytes());
            }
            _ => return Ok(None),
        }
    }
    let whole = reader.u8()? == 3 && reader.u64()? == hasher.digest() && reader.array::<4>()? == TRAILER;
    Ok(whole.then_some(batch))
}

/// The item's keyspace, and its key if that is a number; `None`: it is not an item.
fn read_item(reader: &mut JournalReader, hasher: &mut Xxh3) -> io::Result<Option<(u64, Option<u64>)>> {
    let head = reader.array::<20>()?;
    let [value_type, compression, rest @ ..] = head;
    let (keyspace, rest) = split::<8>(&rest);
    let (key_len, rest) = split::<2>(rest);
    let (value_len, stored_len) = split::<4>(rest);
    let key_len = u16::from_le_bytes(key_len);
    // Nothing is compressed here, so both lengths agree; fjall asserts it.
    if value_type > 2 || compression != 0 || value_len != stored_len {
        return Ok(None);
    }
    let value_len = u32::from_le_bytes(value_len);
    if u64::from(key_len) + u64::from(value_len) > reader.len.saturating_sub(reader.position) {
        return Ok(None);
    }
    hasher.update(&[2]);
    hasher.update(&head);
    let mut key = vec![0; usize::from(key_len)];
    reader.fill(&mut key)?;
    hasher.update(&key);
    reader.hash(u64::from(value_len), hasher)?;
    Ok(Some((u64::from_le_bytes(keyspace), super::keys::read_u64(&key))))
}

/// The first `N` bytes of what has at least as many.
fn split<const N: usize>(bytes: &[u8]) -> ([u8; N], &[u8]) {
    bytes.split_first_chunk::<N>().map_or(([0; N], &[]), |(head, rest)| (*head, rest))
}

struct JournalReader {
    file: BufReader<File>,
    position: u64,
    len: u64,
}

impl JournalReader {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact(buffer)?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn u8(&mut self) -> io::Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> io::Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn hash(&mut self, mut len: u64, hasher: &mut Xxh3) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while len > 0 {
            let step = saturate::to_usize(len).min(buffer.len());
            let chunk = buffer.split_at_mut(step).0;
            self.fill(chunk)?;
            hasher.update(chunk);
            len -= step as u64;
        }
        Ok(())
    }
}
