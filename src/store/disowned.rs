//! The list of the disowned: the blocks that were given up. It is in the database, and a copy of it beside the guard, in the file
//! `<guard>.disowned`: so it stays known when the store is wiped, or a backup of it is put back.
//!
//! ```text
//!   magic 8 | chain id | store's id 16 | commit 8 | number of blocks 8 | of each: height 8, hash 32, given up for what 1 | checksum 8
//! ```
//!
//! 1. It is made durable before the guard of the same commit: a crash never leaves a guard that has fallen without the blocks
//!    for which it fell. It may be ahead of the database, by blocks that are stored still. What leaves the list leaves the copy only
//!    once the database has that commit: whatever crashes in between, nothing is missing that was acknowledged.
//! 2. At start the list is what the newer one of the two has, but for what is stored; from then on both follow it. The copy says
//!    which commit of which store it is of. The database is the newer one only when it is the same store, and has come as far; one
//!    that was put back, or made anew, is not: it may list a block that was taken back since, and whoever believes that does not
//!    wait for the block, and signs another one. The other mistake, an entry that is in neither list, makes a signer wait for a
//!    block that nobody needs, until an operator says so. Copies of before do not say what they are of: then it is what either
//!    has, and what they tell differently is as the copy has it.
//! 3. It is replaced as a whole, and never followed through a link. An unreadable copy is logged and
//!    rewritten at that start, also where the list is empty, so that no later start finds it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::db::{Db, DbView, Writes};
use super::encoding::{Decoder, Encoder};
use super::error::At as _;
use super::keys::{self, Space};
use super::lock::{self, beside};
use super::record;
use super::{Durability, StoreError};
use crate::atomic_file;
use crate::block::{ChainId, Hash};
use crate::sync::Disowned;
use crate::util::saturate;

const MAGIC: [u8; 8] = *b"BSDISOW\x02";
/// Of a copy that does not say of which commit it is.
const MAGIC_OF_BEFORE: [u8; 8] = *b"BSDISOW\x01";
const CHECKSUM_BYTES: usize = 8;
/// No longer file is read.
const MAX_FILE_BYTES: u64 = 280 + 41 * DisownedList::MAX as u64;

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DisownedList(BTreeMap<Hash, Disowned>);

impl DisownedList {
    /// More than the core ever keeps.
    pub(super) const MAX: usize = 1 << 16;

    pub(super) fn add(&mut self, disowned: Disowned) {
        self.0.insert(disowned.id.hash, disowned);
    }

    pub(super) fn remove(&mut self, hash: &Hash) {
        self.0.remove(hash);
    }

    pub(super) fn contains(&self, hash: &Hash) -> bool {
        self.0.contains_key(hash)
    }

    /// Whether it says the same of this block.
    pub(super) fn agrees(&self, disowned: Disowned) -> bool {
        self.0.get(&disowned.id.hash) == Some(&disowned)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// With what of `before` it has no more, for as long as that may still count; not more than may be kept.
    pub(super) fn with_leaving(&self, before: &Self) -> Self {
        let mut all = self.clone();
        for disowned in before.iter().filter(|disowned| !self.contains(&disowned.id.hash)) {
            if all.len() < Self::MAX {
                all.add(disowned);
            }
        }
        all
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Disowned> {
        self.0.values().copied()
    }
}

impl FromIterator<Disowned> for DisownedList {
    fn from_iter<T: IntoIterator<Item = Disowned>>(blocks: T) -> Self {
        Self(blocks.into_iter().map(|disowned| (disowned.id.hash, disowned)).collect())
    }
}

/// Of which state a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CopyStamp {
    pub(super) store_id: [u8; 16],
    pub(super) commit: u64,
}

/// A copy as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FoundCopy {
    pub(super) list: DisownedList,
    /// `None`: it is one of before.
    pub(super) stamp: Option<CopyStamp>,
}

/// What is in the copy's file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CopyContents {
    /// There is none.
    Missing,
    /// It cannot be trusted.
    Damaged,
    Says(FoundCopy),
}

impl CopyContents {
    pub(super) fn says(&self) -> Option<&FoundCopy> {
        match self {
            Self::Missing | Self::Damaged => None,
            Self::Says(copy) => Some(copy),
        }
    }

    /// Whether it must be written, so that nothing of `list` is known to the database alone.
    pub(super) fn is_short_of(&self, list: &DisownedList) -> bool {
        match self {
            Self::Missing => list.len() != 0,
            Self::Damaged => true,
            Self::Says(copy) => list.iter().any(|known| !copy.list.agrees(known)),
        }
    }
}

/// The copy's file, which need not exist yet.
#[derive(Debug)]
pub(super) struct DisownedCopy {
    path: PathBuf,
    chain_id: ChainId,
}

impl DisownedCopy {
    pub(super) fn beside(guard: &Path, chain_id: &ChainId) -> Self {
        Self { path: beside(guard, ".disowned"), chain_id: chain_id.clone() }
    }

    /// What is in it; damage is logged.
    pub(super) fn read(&self) -> Result<CopyContents, StoreError> {
        let Some(bytes) = lock::read_private(&self.path, MAX_FILE_BYTES)? else { return Ok(CopyContents::Missing) };
        match decode(bytes) {
            Some((found, _)) if found != self.chain_id.as_str() => {
                let wanted = self.chain_id.to_string();
                Err(StoreError::GuardOfOtherChain { path: self.path.clone(), found, wanted })
            }
            Some((_, copy)) => Ok(CopyContents::Says(copy)),
            None => {
                tracing::error!(
                    path = %self.path.display(),
                    "the copy of the disowned blocks is damaged: it is made anew from what the store has"
                );
                Ok(CopyContents::Damaged)
            }
        }
    }

    /// Durable, and whole, when it returns.
    pub(super) fn write(&self, list: &DisownedList, stamp: CopyStamp) -> Result<(), StoreError> {
        let aside = beside(&self.path, ".new");
        let bytes = encode(&self.chain_id, list, stamp);
        let written = atomic_file::replace(&self.path, &aside, &bytes, 0o600, Durability::Power);
        written.map(drop).at(&self.path)
    }
}

/// The list as of an opening: see invariant 2. The database is made to say the same.
pub(super) fn settle(
    db: &Db,
    view: &DbView,
    now: CopyStamp,
    copy: Option<&FoundCopy>,
) -> Result<DisownedList, StoreError> {
    let (mut list, mut writes) = (DisownedList::default(), Writes::new());
    let stored: DisownedList = view.disowned()?.into_iter().collect();
    let has_come_as_far = |of: CopyStamp| of.store_id == now.store_id && of.commit <= now.commit;
    let believed = match copy {
        None => vec![&stored],
        Some(FoundCopy { stamp: Some(stamp), .. }) if has_come_as_far(*stamp) => vec![&stored],
        Some(FoundCopy { stamp: Some(_), list }) => vec![list],
        Some(FoundCopy { stamp: None, list }) => vec![&stored, list],
    };
    for disowned in believed.into_iter().flat_map(DisownedList::iter) {
        if view.hash(disowned.id.height)? != Some(disowned.id.hash) && list.len() < DisownedList::MAX {
            list.add(disowned);
        }
    }
    for disowned in stored.iter().filter(|disowned| !list.contains(&disowned.id.hash)) {
        writes.insert((Space::Meta, keys::disowned(&disowned.id.hash)), None);
    }
    for disowned in list.iter().filter(|disowned| !stored.agrees(*disowned)) {
        let key = keys::disowned(&disowned.id.hash);
        let record = record::seal(Space::Meta, &key, &[&record::encode_disowned(disowned)]);
        writes.insert((Space::Meta, key), Some(record));
    }
    if !writes.is_empty() {
        tracing::warn!(
            blocks = writes.len(),
            "the store's list of disowned blocks is brought up to its copy beside the guard"
        );
        db.write(writes, Durability::Power)?;
    }
    Ok(list)
}

fn encode(chain_id: &ChainId, list: &DisownedList, stamp: CopyStamp) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.raw(&MAGIC).bytes(chain_id.as_str().as_bytes()).raw(&stamp.store_id).u64(stamp.commit);
    encoder.u64(saturate::to_u64(list.len()));
    for disowned in list.iter() {
        encoder.id(disowned.id).u8(record::encode_disowned_by(disowned.by));
    }
    let checksum = xxh3_64(&encoder.0);
    encoder.u64(checksum);
    encoder.0
}

fn decode(mut bytes: Vec<u8>) -> Option<(String, FoundCopy)> {
    let checksum = bytes.split_off(bytes.len().checked_sub(CHECKSUM_BYTES)?);
    if xxh3_64(&bytes).to_be_bytes() != checksum.as_slice() {
        return None;
    }
    let mut decoder = Decoder(Bytes::from(bytes));
    let magic = decoder.array()?;
    if ![MAGIC, MAGIC_OF_BEFORE].contains(&magic) {
        return None;
    }
    let chain_id = String::from_utf8(decoder.bytes()?.to_vec()).ok()?;
    let stamp = match magic {
        MAGIC => Some(CopyStamp { store_id: decoder.array()?, commit: decoder.u64()? }),
        _ => None,
    };
    let number = decoder.u64()?;
    let mut list = DisownedList::default();
    for _ in 0..number {
        let (id, by) = (decoder.id()?, record::decode_disowned_by(decoder.u8()?)?);
        list.add(Disowned { id, by });
    }
    decoder.end((chain_id, FoundCopy { list, stamp }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockId, Height};
    use crate::sync::DisownedBy;

    #[test]
    fn the_longest_list_reads_back_and_damage_is_noticed() {
        let chain_id = ChainId::new(&"c".repeat(ChainId::MAX_LEN)).expect("a valid id");
        let disowned = |number: u64| {
            let mut hash = [0; Hash::LEN];
            hash[..8].copy_from_slice(&number.to_be_bytes());
            let id = BlockId { height: Height::MIN.plus(number), hash: Hash(hash) };
            Disowned { id, by: if number.is_multiple_of(2) { DisownedBy::Da } else { DisownedBy::Operator } }
        };
        let list: DisownedList = (0..DisownedList::MAX as u64).map(disowned).collect();
        let stamp = CopyStamp { store_id: [7; 16], commit: u64::MAX };
        let copy = |list| FoundCopy { list, stamp: Some(stamp) };
        let bytes = encode(&chain_id, &list, stamp);
        assert!(bytes.len() as u64 <= MAX_FILE_BYTES, "{} bytes", bytes.len());
        assert_eq!(decode(bytes), Some((chain_id.to_string(), copy(list))));

        let short: DisownedList = (0..3).map(disowned).collect();
        let bytes = encode(&chain_id, &short, stamp);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(damaged), None, "byte {at}");
            assert_eq!(decode(bytes[..at].to_vec()), None, "cut at {at}");
        }
    }

    #[test]
    fn what_leaves_the_list_is_there_until_the_commit_is() {
        let disowned = |number: usize| {
            let hash = Hash::of(&number.to_be_bytes());
            Disowned { id: BlockId { height: Height::MIN, hash }, by: DisownedBy::Da }
        };
        let list = |numbers: std::ops::Range<usize>| numbers.map(disowned).collect::<DisownedList>();
        assert_eq!(list(1..4).with_leaving(&list(0..2)), list(0..4));
        assert_eq!(list(0..4).with_leaving(&list(1..2)), list(0..4), "nothing leaves");
        let full = list(1..DisownedList::MAX + 1);
        assert_eq!(full.with_leaving(&list(0..1)), full, "no file is longer than may be read");
    }
}
