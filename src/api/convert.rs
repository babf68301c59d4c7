//! Cap'n Proto to the words of the core, and back. Foreign bytes are checked here and nowhere else.

use capnp::Error;

use super::blocksync_capnp as wire;
use crate::block::{BlockId, Hash, Height};
use crate::store::Durability;
use crate::sync::{DaPosition, Phase};

type Result<T> = std::result::Result<T, Error>;

pub(super) fn text(from: capnp::text::Reader<'_>) -> Result<String> {
    Ok(from.to_str()?.to_owned())
}

pub(super) fn height(from: u64) -> Result<Height> {
    Height::new(from).ok_or_else(|| Error::failed("heights begin at 1".into()))
}

pub(super) fn hash(from: &[u8]) -> Result<Hash> {
    Hash::from_slice(from).ok_or_else(|| Error::failed(format!("a hash has 32 bytes, not {}", from.len())))
}

/// Empty bytes mean "none".
pub(super) fn optional_hash(from: &[u8]) -> Result<Option<Hash>> {
    (!from.is_empty()).then(|| hash(from)).transpose()
}

pub(super) fn id(from: wire::block_id::Reader<'_>) -> Result<BlockId> {
    Ok(BlockId { height: height(from.get_height())?, hash: hash(from.get_hash()?)? })
}

/// Height 0, which is also what a null pointer reads as, means "none".
pub(super) fn optional_id(from: wire::block_id::Reader<'_>) -> Result<Option<BlockId>> {
    (from.get_height() > 0).then(|| id(from)).transpose()
}

pub(super) fn set_id(mut to: wire::block_id::Builder<'_>, id: BlockId) {
    to.set_height(id.height.get());
    to.set_hash(&id.hash.0);
}

/// `hash` is left empty for `None`.
pub(super) fn set_height_and_hash(mut to: wire::block_id::Builder<'_>, height: Height, hash: Option<Hash>) {
    to.set_height(height.get());
    if let Some(hash) = hash {
        to.set_hash(&hash.0);
    }
}

pub(super) fn set_inclusion(mut to: wire::da_inclusion::Builder<'_>, id: BlockId, position: DaPosition) {
    to.set_da_height(position.height);
    to.set_index(position.index);
    set_id(to.init_id(), id);
}

pub(super) const fn durability_to_wire(durability: Durability) -> wire::Durability {
    match durability {
        Durability::Power => wire::Durability::Power,
        Durability::Process => wire::Durability::Process,
    }
}

pub(super) const fn durability_from_wire(durability: wire::Durability) -> Durability {
    match durability {
        wire::Durability::Power => Durability::Power,
        wire::Durability::Process => Durability::Process,
    }
}

pub(super) const fn phase_to_wire(phase: Phase) -> wire::Phase {
    match phase {
        Phase::WaitingForPeers => wire::Phase::WaitingForPeers,
        Phase::Syncing => wire::Phase::Syncing,
        Phase::Following => wire::Phase::Following,
        Phase::Halted => wire::Phase::Halted,
        Phase::Draining => wire::Phase::Draining,
    }
}

/// A phase that we do not know is `Syncing`, as the schema demands.
pub(super) fn phase_from_wire(phase: std::result::Result<wire::Phase, capnp::NotInSchema>) -> Phase {
    match phase {
        Ok(wire::Phase::WaitingForPeers) => Phase::WaitingForPeers,
        Ok(wire::Phase::Syncing) | Err(_) => Phase::Syncing,
        Ok(wire::Phase::Following) => Phase::Following,
        Ok(wire::Phase::Halted) => Phase::Halted,
        Ok(wire::Phase::Draining) => Phase::Draining,
    }
}
