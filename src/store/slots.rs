//! A small file that is overwritten in place and survives a power cut in the middle: two slots, written in turn.
//!
//! ```text
//!   offset 0      slot 0   magic 8 | generation 8 | length 2 | payload | zeros | checksum 8
//!   offset 4096   slot 1   the same
//! ```
//!
//! 1. A slot is 512 bytes, the smallest sector, and the two lie 4096 bytes apart, the largest: one torn write damages one
//!    slot at most.
//! 2. A write goes to the slot that does not hold the newest payload, so the newest one that was complete stays readable.
//! 3. The file appears under its name only with both slots valid, so one that is not was torn, or is damaged; or it is another
//!    file, and then it is not replaced.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::atomic_file::{self, Durability};

const SLOT_BYTES: usize = 512;
const DISTANCE: u64 = 4096;
const FILE_BYTES: u64 = DISTANCE + SLOT_BYTES as u64;
const HEADER_BYTES: usize = 18;
const CHECKSUM_BYTES: usize = 8;

/// The longest payload.
pub(super) const MAX_PAYLOAD: usize = SLOT_BYTES - HEADER_BYTES - CHECKSUM_BYTES;

/// What kind of file it is: the first eight bytes of each slot.
pub(super) type Magic = [u8; 8];

/// What was found in the file.
#[derive(Debug)]
pub(super) enum SlotContents {
    /// None of its slots can be trusted.
    Damaged(File),
    /// It was never such a file, as far as can be told: whatever it is, it is somebody else's.
    Foreign,
    Present {
        slots: Slots,
        /// Of the newest valid slot.
        payload: Vec<u8>,
        /// Whether the other slot is valid, too: if not, there may have been something newer.
        whole: bool,
    },
}

/// The open file.
#[derive(Debug)]
pub(super) struct Slots {
    file: File,
    magic: Magic,
    /// Of the newest slot.
    generation: u64,
    /// Where the next write goes.
    next: u64,
}

impl Slots {
    /// Reads the newest payload of a file that is open for reading and writing.
    pub(super) fn read(file: File, magic: Magic) -> io::Result<SlotContents> {
        let (mut newest, mut valid) = (None, 0);
        for slot in 0..2 {
            if let Some((generation, payload)) = read_slot(&file, slot, magic)? {
                valid += 1;
                if newest.as_ref().is_none_or(|(best, _, _)| generation > *best) {
                    newest = Some((generation, slot, payload));
                }
            }
        }
        Ok(match newest {
            Some((generation, slot, payload)) => {
                let slots = Self { file, magic, generation, next: 1 - slot };
                SlotContents::Present { slots, payload, whole: valid == 2 }
            }
            None if may_have_been_one(&file, magic)? => SlotContents::Damaged(file),
            None => SlotContents::Foreign,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// Makes, or replaces, the file: aside, synced, renamed. `mode` as in chmod.
    pub(super) fn create(path: &Path, magic: Magic, payload: &[u8], mode: u32) -> io::Result<Self> {
        let aside = aside(path);
        let file = atomic_file::create_aside(&aside, mode)?;
        let mut slots = Self { file, magic, generation: 0, next: 0 };
        // Both have their place on disk from the start: later writes need no new space.
        slots.write(payload, Durability::Process)?;
        slots.write(payload, Durability::Process)?;
        atomic_file::put_in_place(&slots.file, &aside, path, Durability::Power)?;
        Ok(slots)
    }

    /// Overwrites the older slot; once this returns the payload survives what `durability` says.
    pub(super) fn write(&mut self, payload: &[u8], durability: Durability) -> io::Result<()> {
        assert!(payload.len() <= MAX_PAYLOAD, "a slot's payload is bounded by its fields");
        let mut slot = [0; SLOT_BYTES];
        let generation = self.generation + 1;
        slot[..8].copy_from_slice(&self.magic);
        slot[8..16].copy_from_slice(&generation.to_be_bytes());
        slot[16..18].copy_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes());
        slot[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(payload);
        let checksum = xxh3_64(&slot[..SLOT_BYTES - CHECKSUM_BYTES]);
        slot[SLOT_BYTES - CHECKSUM_BYTES..].copy_from_slice(&checksum.to_be_bytes());
        self.file.write_all_at(&slot, self.next * DISTANCE)?;
        match durability {
            Durability::Power => self.file.sync_data()?,
            Durability::Process => {}
        }
        self.generation = generation;
        self.next = 1 - self.next;
        Ok(())
    }
}

/// Whether a file none of whose slots is valid looks like what damage leaves of one: it is as long, or begins like one, or has
/// nothing in it.
fn may_have_been_one(file: &File, magic: Magic) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut start = [0; SLOT_BYTES];
    let read = file.read_at(&mut start, 0)?;
    let start = &start[..read];
    Ok(length == FILE_BYTES || start.starts_with(&magic) || start.iter().all(|byte| *byte == 0))
}

fn read_slot(file: &File, slot: u64, magic: Magic) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut bytes = [0; SLOT_BYTES];
    match file.read_exact_at(&mut bytes, slot * DISTANCE) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let (content, checksum) = bytes.split_at(SLOT_BYTES - CHECKSUM_BYTES);
    if content[..8] != magic || xxh3_64(content).to_be_bytes() != checksum {
        return Ok(None);
    }
    let mut generation = [0; 8];
    generation.copy_from_slice(&content[8..16]);
    let len = usize::from(u16::from_be_bytes([content[16], content[17]]));
    let payload = content.get(HEADER_BYTES..HEADER_BYTES + len).map(<[u8]>::to_vec);
    Ok(payload.map(|payload| (u64::from_be_bytes(generation), payload)))
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}
