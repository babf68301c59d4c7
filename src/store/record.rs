//! How records look on disk.
//!
//! 1. Every record of ours begins with a checksum of its keyspace, its key and its body, verified at each read: a flipped
//!    bit is noticed, and so is a record that turns up under another key.
//! 2. What is decoded was encoded here, to the last byte: nothing may be left over.

use std::path::Path;

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::encoding::{Decoder, Encoder};
use super::keys::Space;
use super::{StoreError, VERSION};
use crate::block::{BlockId, Hash, Height, PublicKey, SignedHeader, native};
use crate::sync::{
    Anchor, Basis, Confirmation, DaPosition, DataLoss, Disowned, DisownedBy, Epoch, Evidence, EvidenceId, EvidenceSide,
    Floor, Halt, Heads, Name, Origin, OversizedBlock, ProvedBlock, Seen, SeenBlock, Sighting,
};
use crate::util::saturate;
use crate::verify::{Rules, ScheduleEntry};

const CHECKSUM_BYTES: usize = 8;

/// Puts the checksum before the body.
pub(super) fn seal(space: Space, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(CHECKSUM_BYTES + parts.iter().map(|part| part.len()).sum::<usize>());
    out.extend_from_slice(&[0; CHECKSUM_BYTES]);
    for part in parts {
        out.extend_from_slice(part);
    }
    let checksum = checksum(space, key, &out[CHECKSUM_BYTES..]);
    out[..CHECKSUM_BYTES].copy_from_slice(&checksum);
    out
}

/// The body of a record; `None` when it is not what was once sealed under this key.
pub(super) fn unseal(space: Space, key: &[u8], record: fjall::Slice) -> Option<Bytes> {
    let record = Bytes::from_owner(record);
    let (sum, body) = record.split_first_chunk::<CHECKSUM_BYTES>()?;
    (checksum(space, key, body) == *sum).then(|| record.slice(CHECKSUM_BYTES..))
}

/// The body of a record that was sealed here, a moment ago.
pub(super) fn body(record: &[u8]) -> Bytes {
    Bytes::copy_from_slice(record.get(CHECKSUM_BYTES..).unwrap_or_default())
}

fn checksum(space: Space, key: &[u8], body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = Xxh3::new();
    hasher.update(space.name().as_bytes());
    hasher.update(&[0]);
    hasher.update(&saturate::to_u64(key.len()).to_be_bytes());
    hasher.update(key);
    hasher.update(body);
    hasher.digest().to_be_bytes()
}

/// What the database is, written once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) version: u32,
    pub(super) store_id: [u8; 16],
    pub(super) chain_id: String,
    pub(super) initial_height: Height,
}

impl About {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.u32(self.version).raw(&self.store_id).bytes(self.chain_id.as_bytes()).height(self.initial_height);
        encoder.0
    }
}

/// What a database says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AboutRecord {
    /// This version wrote it: the rest can be read.
    Ours(About),
    /// This other version wrote it: nothing else in it may be read, let alone changed.
    OtherVersion(u32),
}

impl AboutRecord {
    /// Reads the version first: what follows it may look different in another one.
    pub(super) fn decode(body: Bytes) -> Option<Self> {
        let mut decoder = Decoder(body);
        let version = decoder.u32()?;
        if version != VERSION {
            return Some(Self::OtherVersion(version));
        }
        let store_id = decoder.array()?;
        let chain_id = String::from_utf8(decoder.bytes()?.to_vec()).ok()?;
        let initial_height = decoder.height()?;
        decoder.end(Self::Ours(About { version, store_id, chain_id, initial_height }))
    }

    pub(super) fn known(self) -> Option<About> {
        match self {
            Self::Ours(about) => Some(about),
            Self::OtherVersion(_) => None,
        }
    }

    /// Refuses the database in `dir` when another version wrote it.
    pub(super) fn ours(self, dir: &Path) -> Result<About, StoreError> {
        match self {
            Self::Ours(about) => Ok(about),
            Self::OtherVersion(found) => Err(StoreError::WrongVersion { dir: dir.to_owned(), found, wanted: VERSION }),
        }
    }
}

/// The heads, and the number of the commit that wrote them: it rises by one with each commit, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StampedHeads {
    pub(super) commit: u64,
    pub(super) heads: Heads,
    /// Bytes of the blocks that are stored.
    pub(super) blocks_bytes: u64,
}

/// What a record ends with when there is something to say, and what older ones do not have.
pub(super) fn encode_floor(encoder: &mut Encoder, floor: Option<Floor>) {
    if let Some(Floor { id, da }) = floor {
        encoder.u8(1).id(id).u64(da);
    }
}

/// The outer `None`: not a record.
#[expect(clippy::option_option, reason = "a missing value and a broken record are different things")]
pub(super) fn decode_floor(decoder: &mut Decoder) -> Option<Option<Floor>> {
    if decoder.0.is_empty() {
        return Some(None);
    }
    decoder.opt(|decoder| Some(Floor { id: decoder.id()?, da: decoder.u64()? }))
}

impl StampedHeads {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.u64(self.commit);
        encode_heads(&mut encoder, &self.heads);
        encoder.u64(self.blocks_bytes);
        encode_floor(&mut encoder, self.heads.floor);
        encoder.0
    }

    pub(super) fn decode(body: Bytes) -> Option<Self> {
        let mut decoder = Decoder(body);
        let mut stamped =
            Self { commit: decoder.u64()?, heads: decode_heads(&mut decoder)?, blocks_bytes: decoder.u64()? };
        stamped.heads.floor = decode_floor(&mut decoder)?;
        decoder.end(stamped)
    }
}

/// Without the floor, which follows what follows the heads.
pub(super) fn encode_heads(encoder: &mut Encoder, heads: &Heads) {
    encoder
        .height(heads.tail)
        .opt(heads.base, Encoder::tip)
        .opt(heads.soft, Encoder::tip)
        .opt(heads.hard, |encoder, hard| {
            encoder.id(hard);
        })
        .u64(heads.epoch.0)
        .u64(heads.scanned_through)
        .u64(heads.evidence.0)
        .opt(heads.lost, |encoder, lost| {
            encoder.height(lost.from).height(lost.to);
        });
}

pub(super) fn decode_heads(decoder: &mut Decoder) -> Option<Heads> {
    Some(Heads {
        tail: decoder.height()?,
        base: decoder.opt(Decoder::tip)?,
        soft: decoder.opt(Decoder::tip)?,
        hard: decoder.opt(Decoder::id)?,
        target: None,
        epoch: Epoch(decoder.u64()?),
        scanned_through: decoder.u64()?,
        evidence: EvidenceId(decoder.u64()?),
        lost: decoder.opt(|decoder| Some(DataLoss { from: decoder.height()?, to: decoder.height()? }))?,
        floor: None,
    })
}

pub(super) const fn encode_origin(origin: Origin) -> u8 {
    match origin {
        Origin::Published => 0,
        Origin::Gossip => 1,
        Origin::Range => 2,
        Origin::Da => 3,
    }
}

pub(super) const fn decode_origin(byte: u8) -> Option<Origin> {
    match byte {
        0 => Some(Origin::Published),
        1 => Some(Origin::Gossip),
        2 => Some(Origin::Range),
        3 => Some(Origin::Da),
        _ => None,
    }
}

/// What [`Space::Headers`] has of a block: what most look-ups need, and what its removal takes off the store's weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeaderRecord {
    pub(super) hash: Hash,
    /// Bytes of the whole block.
    pub(super) block_bytes: u64,
    /// The header's exact bytes.
    pub(super) header: Bytes,
}

impl HeaderRecord {
    /// What comes before the header's exact bytes.
    pub(super) fn prefix(hash: Hash, block_bytes: usize) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.raw(&hash.0).u64(saturate::to_u64(block_bytes));
        encoder.0
    }

    pub(super) fn decode(body: Bytes) -> Option<Self> {
        let mut decoder = Decoder(body);
        Some(Self { hash: Hash(decoder.array()?), block_bytes: decoder.u64()?, header: decoder.0 })
    }
}

/// The body of a confirmation. It names the block that was confirmed, so that it can never be taken for another's.
pub(super) fn encode_confirmation(hash: Hash, Confirmation { position, basis }: Confirmation) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.raw(&hash.0).position(position).u8(encode_basis(basis));
    encoder.0
}

pub(super) fn decode_confirmation(body: Bytes) -> Option<(Hash, Confirmation)> {
    let mut decoder = Decoder(body);
    let (hash, position) = (Hash(decoder.array()?), decoder.position()?);
    // Older ones do not say it: there was nothing else.
    let basis = if decoder.0.is_empty() { Basis::Bytes } else { decode_basis(decoder.u8()?)? };
    decoder.end((hash, Confirmation { position, basis }))
}

const fn encode_basis(basis: Basis) -> u8 {
    match basis {
        Basis::Bytes => 0,
        Basis::Named => 1,
        Basis::Implied => 2,
        Basis::Trusted => 3,
    }
}

const fn decode_basis(byte: u8) -> Option<Basis> {
    match byte {
        0 => Some(Basis::Bytes),
        1 => Some(Basis::Named),
        2 => Some(Basis::Implied),
        3 => Some(Basis::Trusted),
        _ => None,
    }
}

/// A body that is a single number, or height.
pub(super) fn decode_u64(body: Bytes) -> Option<u64> {
    let mut decoder = Decoder(body);
    let number = decoder.u64()?;
    decoder.end(number)
}

pub(super) fn encode_id(id: BlockId) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.id(id);
    encoder.0
}

pub(super) fn decode_id(body: Bytes) -> Option<BlockId> {
    let mut decoder = Decoder(body);
    let id = decoder.id()?;
    decoder.end(id)
}

/// The body of a block that was given up; its hash is in the key.
pub(super) fn encode_disowned(disowned: Disowned) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.height(disowned.id.height).u8(encode_disowned_by(disowned.by));
    encoder.0
}

pub(super) fn decode_disowned(body: Bytes, hash: Hash) -> Option<Disowned> {
    let mut decoder = Decoder(body);
    let id = BlockId { height: decoder.height()?, hash };
    let by = decode_disowned_by(decoder.u8()?)?;
    decoder.end(Disowned { id, by })
}

pub(super) const fn encode_disowned_by(by: DisownedBy) -> u8 {
    match by {
        DisownedBy::Da => 0,
        DisownedBy::Operator => 1,
        DisownedBy::Name => 2,
    }
}

pub(super) const fn decode_disowned_by(byte: u8) -> Option<DisownedBy> {
    match byte {
        0 => Some(DisownedBy::Da),
        1 => Some(DisownedBy::Operator),
        2 => Some(DisownedBy::Name),
        _ => None,
    }
}

/// The body of a block that DA has shown, and that is no sighting any more; its hash is in the key.
pub(super) fn encode_proved(proved: ProvedBlock) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.height(proved.id.height).raw(&proved.proposer.0).opt(proved.parent, |encoder, parent| {
        encoder.raw(&parent.0);
    });
    encoder.0
}

pub(super) fn decode_proved(body: Bytes, hash: Hash) -> Option<ProvedBlock> {
    let mut decoder = Decoder(body);
    let id = BlockId { height: decoder.height()?, hash };
    let proposer = PublicKey(decoder.array()?);
    let parent = decoder.opt(|decoder| decoder.array().map(Hash))?;
    decoder.end(ProvedBlock { id, parent, proposer })
}

pub(super) fn encode_anchor(anchor: Anchor) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.id(anchor.id).position(anchor.position);
    encoder.0
}

pub(super) fn decode_anchor(body: Bytes) -> Option<Anchor> {
    let mut decoder = Decoder(body);
    let anchor = Anchor { id: decoder.id()?, position: decoder.position()? };
    decoder.end(anchor)
}

pub(super) fn decode_key_of_schedule(body: Bytes, from: Height) -> Option<ScheduleEntry> {
    let mut decoder = Decoder(body);
    let entry = ScheduleEntry { from, proposer: PublicKey(decoder.array()?) };
    decoder.end(entry)
}

pub(super) fn encode_halt(halt: Halt) -> Vec<u8> {
    let mut encoder = Encoder::default();
    match halt {
        Halt::Diverged { ours, da, position } => encoder.u8(0).id(ours).id(da).position(position),
        Halt::Contradicted { ours, position } => encoder.u8(1).id(ours).position(position),
        Halt::HardContradicted { hard, da, position } => encoder.u8(2).id(hard).id(da).position(position),
    };
    encoder.0
}

pub(super) fn decode_halt(body: Bytes) -> Option<Halt> {
    let mut decoder = Decoder(body);
    let halt = match decoder.u8()? {
        0 => Halt::Diverged { ours: decoder.id()?, da: decoder.id()?, position: decoder.position()? },
        1 => Halt::Contradicted { ours: decoder.id()?, position: decoder.position()? },
        2 => Halt::HardContradicted { hard: decoder.id()?, da: decoder.id()?, position: decoder.position()? },
        _ => return None,
    };
    decoder.end(halt)
}

/// The body of a sighting; its position is the key.
pub(super) fn encode_sighting(sighting: &Sighting) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.height(sighting.height);
    match &sighting.what {
        Seen::Block(seen) => encoder.u8(0).raw(seen.block.block().bytes()),
        Seen::Named(Name::Block(hash)) => encoder.u8(1).raw(&hash.0),
        Seen::Named(Name::HostId(id)) => encoder.u8(2).raw(id),
        Seen::Named(Name::Payload(hash)) => encoder.u8(3).raw(&hash.0),
        Seen::Digest(digest) => encoder.u8(4).raw(&digest.0),
        Seen::Oversized(seen) => {
            encoder.u8(5).raw(&seen.digest.0).u64(seen.bytes).raw(&native::encode_header(&seen.header))
        }
    };
    encoder.0
}

/// A whole record of a sighting, a block in it checked again.
#[derive(Clone, Debug)]
pub(super) enum SightingRecord {
    Sound(Sighting),
    /// The rules of today refuse its block: what stands there is to be reported again.
    Refused,
}

/// `None`: not a record.
pub(super) fn decode_sighting(body: Bytes, position: DaPosition, rules: &Rules) -> Option<SightingRecord> {
    let mut decoder = Decoder(body);
    let height = decoder.height()?;
    let what = match decoder.u8()? {
        0 => match rules.check(crate::block::Lane::BLOCK, &decoder.0) {
            Ok(block) => Seen::Block(SeenBlock { block, digest: Hash::of(&decoder.0) }),
            Err(_) => return Some(SightingRecord::Refused),
        },
        1 => Seen::Named(Name::Block(Hash::from_slice(&decoder.0)?)),
        2 => Seen::Named(Name::HostId(decoder.0)),
        3 => Seen::Named(Name::Payload(Hash::from_slice(&decoder.0)?)),
        4 => Seen::Digest(Hash::from_slice(&decoder.0)?),
        5 => {
            let (digest, bytes) = (Hash(decoder.array()?), decoder.u64()?);
            let header = native::decode_header(&decoder.0).ok()?;
            if !rules.schedule.names(&header) || saturate::to_usize(bytes) > rules.max_block_bytes {
                return Some(SightingRecord::Refused);
            }
            Seen::Oversized(Box::new(OversizedBlock { hash: Hash::of(&decoder.0), header, digest, bytes }))
        }
        _ => return None,
    };
    Some(SightingRecord::Sound(Sighting { position, height, what }))
}

/// The body of an evidence, both sides carried; its id is the key.
pub(super) fn encode_evidence(height: Height, first: &SignedHeader, second: &SignedHeader) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.height(height).signed_header(first).signed_header(second);
    encoder.0
}

pub(super) fn decode_evidence(body: Bytes, id: EvidenceId) -> Option<Evidence> {
    let mut decoder = Decoder(body);
    let height = decoder.height()?;
    let first = EvidenceSide::Carried(decoder.signed_header()?);
    let second = decoder.signed_header()?;
    decoder.end(Evidence { id, height, first, second })
}
