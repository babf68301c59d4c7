//! The keyspaces and their keys.
//!
//! | keyspace | key | body |
//! |---|---|---|
//! | `blockEx.blocks` | height | origin, exact bytes of the block |
//! | `blockEx.headers` | height | hash, bytes of the block, exact bytes of the header: what most look-ups need, without the payload |
//! | `blockEx.hashes` | hash | height |
//! | `blockEx.confirmations` | height | hash, DA height, index, basis |
//! | `blockEx.sightings` | DA height, index; `cursor`; `notes` | what was seen there; how far DA is scanned; what is read again, and when |
//! | `blockEx.retractions` | epoch | first height taken back |
//! | `blockEx.evidence` | id | height, two signed headers |
//! | `blockEx.meta` | see below | about, first proposer, chain's rules, heads, schedule, veto, halt, anchor, acknowledgements, the disowned, the proved, lost words |
//!
//! The DA cursor lies beside the sightings, and not only in the heads, because a keyspace by itself is always the state of
//! one moment, whatever damage does to the database, and two keyspaces may be of two moments.

use crate::block::{Hash, Height};
use crate::sync::{DaPosition, Epoch, EvidenceId, LostWord};

/// A keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    Blocks,
    Headers,
    Hashes,
    Confirmations,
    Sightings,
    Retractions,
    Evidence,
    Meta,
}

impl Space {
    pub(super) const ALL: [Self; 8] = [
        Self::Blocks,
        Self::Headers,
        Self::Hashes,
        Self::Confirmations,
        Self::Sightings,
        Self::Retractions,
        Self::Evidence,
        Self::Meta,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blockEx.blocks",
            Self::Headers => "blockEx.headers",
            Self::Hashes => "blockEx.hashes",
            Self::Confirmations => "blockEx.confirmations",
            Self::Sightings => "blockEx.sightings",
            Self::Retractions => "blockEx.retractions",
            Self::Evidence => "blockEx.evidence",
            Self::Meta => "blockEx.meta",
        }
    }
}

pub(super) const ABOUT: &[u8] = b"about";
/// The key that proposes from the initial height on. Stores of before do not say it.
pub(super) const FIRST_PROPOSER: &[u8] = b"first-proposer";
/// What decides on DA, and the largest block. Stores of before do not say it.
pub(super) const CHAIN_RULES: &[u8] = b"chain-rules";
pub(super) const HEADS: &[u8] = b"heads";
pub(super) const VETO: &[u8] = b"veto";
pub(super) const HALT: &[u8] = b"halt";
pub(super) const ANCHOR: &[u8] = b"anchor";
/// Followed by the height from which the entry counts.
pub(super) const SCHEDULE: &[u8] = b"schedule/";
/// Followed by the consumer's name.
pub(super) const ACK: &[u8] = b"ack/";
/// Followed by the hash.
pub(super) const DISOWNED: &[u8] = b"disowned/";
/// Followed by the hash.
pub(super) const PROVED: &[u8] = b"proved/";
/// Followed by what was lost.
pub(super) const LOST: &[u8] = b"lost/";
/// In the keyspace of the sightings: shorter than any position.
pub(super) const CURSOR: &[u8] = b"cursor";
/// There, too.
pub(super) const DA_NOTES: &[u8] = b"notes";

pub(super) const fn height(height: Height) -> [u8; 8] {
    height.get().to_be_bytes()
}

pub(super) const fn hash(hash: &Hash) -> &[u8] {
    &hash.0
}

pub(super) const fn epoch(epoch: Epoch) -> [u8; 8] {
    epoch.0.to_be_bytes()
}

pub(super) const fn evidence(id: EvidenceId) -> [u8; 8] {
    id.0.to_be_bytes()
}

pub(super) fn position(position: DaPosition) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&position.height.to_be_bytes());
    key[8..].copy_from_slice(&position.index.to_be_bytes());
    key
}

pub(super) fn schedule(from: Height) -> Vec<u8> {
    [SCHEDULE, &height(from)].concat()
}

pub(super) fn ack(consumer: &str) -> Vec<u8> {
    [ACK, consumer.as_bytes()].concat()
}

pub(super) fn disowned(hash: &Hash) -> Vec<u8> {
    [DISOWNED, &hash.0].concat()
}

pub(super) fn proved(hash: &Hash) -> Vec<u8> {
    [PROVED, &hash.0].concat()
}

/// All of it is in the key, so that damage takes nothing from it.
pub(super) fn lost(word: LostWord) -> Vec<u8> {
    match word {
        LostWord::Veto => [LOST, b"veto"].concat(),
        LostWord::Schedule(from) => [LOST, SCHEDULE, &height(from)].concat(),
        LostWord::Unknown => [LOST, b"unknown"].concat(),
    }
}

pub(super) fn read_lost(key: &[u8]) -> Option<LostWord> {
    let word = key.strip_prefix(LOST)?;
    match (word, word.strip_prefix(SCHEDULE)) {
        (b"veto", _) => Some(LostWord::Veto),
        (_, Some(from)) => read_height(from).map(LostWord::Schedule),
        _ => Some(LostWord::Unknown),
    }
}

pub(super) fn read_u64(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

pub(super) fn read_height(key: &[u8]) -> Option<Height> {
    read_u64(key).and_then(Height::new)
}

pub(super) fn read_position(key: &[u8]) -> Option<DaPosition> {
    let (height, index) = key.split_first_chunk::<8>()?;
    Some(DaPosition { height: u64::from_be_bytes(*height), index: u32::from_be_bytes(index.try_into().ok()?) })
}
