//! The high-water mark, in the file `mark`: what the store has acknowledged, kept outside of the database, so that data that
//! vanishes from there is missed.
//!
//! 1. It is written after the commit that it describes: it never claims what the database does not have.
//! 2. It has the number of that commit: a database with a higher number is ahead of it, whatever it took back; so a crash between
//!    the two writes cannot look like a loss.
//! 3. An unreadable slot is logged, and rewritten at that start.
//! 4. Its hard block is the highest that was ever hard, also while the store itself is behind it.

use std::fs::OpenOptions;
use std::path::Path;

use bytes::Bytes;

use super::encoding::{Decoder, Encoder};
use super::error::At as _;
use super::record::{decode_floor, decode_heads, encode_floor, encode_heads};
use super::slots::{SlotContents, Slots};
use super::{Durability, StoreError};
use crate::foreign_file;
use crate::sync::{Anchor, Heads};

const MAGIC: [u8; 8] = *b"BSMARK\0\x01";

/// What the watermark says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WatermarkState {
    pub(super) store_id: [u8; 16],
    pub(super) chain_id: String,
    /// The number of the commit that this follows.
    pub(super) commit: u64,
    pub(super) heads: Heads,
    /// With its DA position: what a damaged store must lead to again.
    pub(super) hard: Option<Anchor>,
    /// The digest of the consumers' names (`stand_in.rs`). Older ones do not say it.
    pub(super) consumers: Option<u64>,
}

impl WatermarkState {
    fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        encoder.raw(&self.store_id).bytes(self.chain_id.as_bytes()).u64(self.commit);
        encode_heads(&mut encoder, &self.heads);
        encoder.opt(self.hard, |encoder, hard| {
            encoder.id(hard.id).position(hard.position);
        });
        encode_floor(&mut encoder, self.heads.floor);
        if let Some(consumers) = self.consumers {
            if self.heads.floor.is_none() {
                // What follows is no floor.
                encoder.u8(0);
            }
            encoder.u64(consumers);
        }
        encoder.0
    }

    fn decode(payload: Vec<u8>) -> Option<Self> {
        let mut decoder = Decoder(Bytes::from(payload));
        let mut state = Self {
            store_id: decoder.array()?,
            chain_id: String::from_utf8(decoder.bytes()?.to_vec()).ok()?,
            commit: decoder.u64()?,
            heads: decode_heads(&mut decoder)?,
            hard: decoder.opt(|decoder| Some(Anchor { id: decoder.id()?, position: decoder.position()? }))?,
            consumers: None,
        };
        state.heads.floor = decode_floor(&mut decoder)?;
        if !decoder.0.is_empty() {
            state.consumers = Some(decoder.u64()?);
        }
        decoder.end(state)
    }
}

/// The watermark's file.
#[derive(Debug)]
pub(super) struct Watermark {
    slots: Slots,
    /// Whether both slots are valid; else the next write mends the other one.
    whole: bool,
}

impl Watermark {
    /// `None` when there is none, or none that can be trusted, which is logged.
    pub(super) fn open(path: &Path) -> Result<Option<(Self, WatermarkState)>, StoreError> {
        let file = match foreign_file::open(path, OpenOptions::new().read(true).write(true)) {
            Ok(file) => file,
            Err(why) if why.is_missing() => return Ok(None),
            Err(why) => return Err(StoreError::unusable(path, why)),
        };
        match Slots::read(file, MAGIC).at(path)? {
            SlotContents::Present { slots, payload, whole } => match WatermarkState::decode(payload) {
                Some(state) => Ok(Some((Self { slots, whole }, state))),
                None => Ok(Self::distrust(path)),
            },
            SlotContents::Damaged(_) | SlotContents::Foreign => Ok(Self::distrust(path)),
        }
    }

    fn distrust<T>(path: &Path) -> Option<T> {
        tracing::error!(path = %path.display(), "the high-water mark is damaged: whether anything is missing cannot be told");
        None
    }

    pub(super) fn create(path: &Path, state: &WatermarkState) -> Result<Self, StoreError> {
        Ok(Self { slots: Slots::create(path, MAGIC, &state.encode(), 0o600).at(path)?, whole: true })
    }

    /// Whether a crash now, in the middle of a write, would leave something of it.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn write(
        &mut self,
        path: &Path,
        state: &WatermarkState,
        durability: Durability,
    ) -> Result<(), StoreError> {
        self.slots.write(&state.encode(), durability).at(path)?;
        self.whole = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockId, Hash, Height};
    use crate::store::slots::MAX_PAYLOAD;
    use crate::sync::{DaPosition, DataLoss, Floor};
    use crate::verify::Tip;

    #[test]
    fn the_largest_watermark_fits_into_its_slot_and_reads_back() {
        let id = BlockId { height: Height::MAX, hash: Hash([7; 32]) };
        let state = WatermarkState {
            store_id: [1; 16],
            chain_id: "c".repeat(crate::block::ChainId::MAX_LEN),
            commit: u64::MAX,
            heads: Heads {
                base: Some(Tip { id, time_unix_nanos: u64::MAX }),
                soft: Some(Tip { id, time_unix_nanos: u64::MAX }),
                hard: Some(id),
                lost: Some(DataLoss { from: Height::MIN, to: Height::MAX }),
                floor: Some(Floor { id, da: u64::MAX }),
                ..Heads::empty(Height::MIN)
            },
            hard: Some(Anchor { id, position: DaPosition { height: u64::MAX, index: u32::MAX } }),
            consumers: Some(u64::MAX),
        };
        assert!(state.encode().len() <= MAX_PAYLOAD, "{} bytes", state.encode().len());
        let without_floor = WatermarkState { heads: Heads { floor: None, ..state.heads }, ..state.clone() };
        let of_before = WatermarkState { consumers: None, ..without_floor.clone() };
        for state in [state, without_floor, of_before] {
            assert_eq!(WatermarkState::decode(state.encode()), Some(state));
        }
    }
}
