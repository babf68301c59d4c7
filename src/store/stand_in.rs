//! What stands for a record that damage took, where to forget it would break a promise.
//!
//! 1. Nothing is pruned that a consumer lacks: an acknowledgement that cannot be read counts as one of the lowest block. Where
//!    it is not even known whose are missing, [`LOST_BY_DAMAGE`](crate::sync::LOST_BY_DAMAGE) has acknowledged the lowest block, until an operator
//!    forgets it. The mark has a digest of the consumers' names, so that a missing one is missed, whatever took it.
//! 2. What was halted stays so: a halt that cannot be read is one about the block above hard, which is what all of them are
//!    about.
//! 3. Of what else hosts and operators had said a record says what was lost ([`LostWord`]), until it is said again: nothing could
//!    stand for a veto, or for a key. Where that is not even known, since all is gone, or an older state is gone on from, it
//!    says that.

use xxhash_rust::xxh3::xxh3_64;

use super::StoreError;
use super::db::DbView;
use super::error::intact;
use super::keys::{self, Space};
use super::record;
use crate::block::{BlockId, Hash, Height};
use crate::sync::{DaPosition, Halt, Heads, LostWord};

/// Says which names a set has, in whatever order they come; 0 when it has none. With a name once more, the set without it.
pub(super) fn digest<'a>(names: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    names.into_iter().map(xxh3_64).fold(0, std::ops::BitXor::bitxor)
}

/// The digest of the consumers whose names can be read.
pub(super) fn consumers(view: &DbView) -> Result<u64, StoreError> {
    let mut names = Vec::new();
    for entry in view.from(Space::Meta, keys::ACK) {
        let key = match entry {
            Ok((key, _)) | Err((Some(key), StoreError::Damaged { .. })) => key,
            Err((None, StoreError::Damaged { .. })) => break,
            Err((_, error)) => return Err(error),
        };
        match key.strip_prefix(keys::ACK) {
            Some(name) => names.push(name.to_vec()),
            None => break,
        }
    }
    Ok(digest(names.iter().map(Vec::as_slice)))
}

/// What becomes of a damaged record.
#[derive(Debug)]
pub(super) enum StandIn {
    /// It is this from now on.
    Body(Vec<u8>),
    /// It has to be said again.
    Lost(LostWord),
    None,
}

/// What stands for the record under this key, which is damaged. `heads` are what is kept.
pub(super) fn for_damaged(view: &DbView, heads: &Heads, space: Space, key: &[u8]) -> Result<StandIn, StoreError> {
    if space != Space::Meta {
        return Ok(StandIn::None);
    }
    if let Some(name) = key.strip_prefix(keys::ACK) {
        let name = String::from_utf8_lossy(name).into_owned();
        tracing::error!(consumer = name, "its acknowledgement is damaged: pruning waits for its next one");
        return Ok(StandIn::Body(record::encode_id(lowest(Some(view), heads)?)));
    }
    if key == keys::HALT {
        let height = heads.hard_height().map_or(heads.tail, Height::next);
        let ours = intact(view.hash(height))?.flatten().filter(|_| heads.stores(height));
        let halt =
            ours.map(|hash| Halt::Contradicted { ours: BlockId { height, hash }, position: DaPosition::IMPLIED });
        tracing::error!("why publishing was halted is damaged: it stays halted, at the block above hard");
        return Ok(halt.map_or(StandIn::Lost(LostWord::Unknown), |halt| StandIn::Body(record::encode_halt(halt))));
    }
    if keys::read_lost(key).is_some() {
        return Ok(StandIn::Body(Vec::new()));
    }
    let lost = match key.strip_prefix(keys::SCHEDULE).and_then(keys::read_height) {
        Some(from) => Some(LostWord::Schedule(from)),
        None => (key == keys::VETO).then_some(LostWord::Veto),
    };
    if let Some(lost) = lost {
        tracing::error!("LOST by damage: {lost}");
    }
    Ok(lost.map_or(StandIn::None, StandIn::Lost))
}

/// The lowest block that anybody can have processed.
pub(super) fn lowest(view: Option<&DbView>, heads: &Heads) -> Result<BlockId, StoreError> {
    let stored = match view {
        Some(view) => intact(view.hash(heads.tail))?.flatten().filter(|_| heads.stores(heads.tail)),
        None => None,
    };
    let absent = heads.base.map_or(BlockId { height: heads.tail, hash: Hash([0; Hash::LEN]) }, |base| base.id);
    Ok(stored.map_or(absent, |hash| BlockId { height: heads.tail, hash }))
}
