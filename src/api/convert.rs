//! Cap'n Proto to the words of the core, and back. Foreign bytes are checked here and nowhere else.

use std::time::Duration;

use capnp::Error;

use super::blocksync_capnp as wire;
use crate::block::{Block, BlockId, Hash, Height, PublicKey};
use crate::store::Durability;
use crate::sync::cursor::WaitsFor;
use crate::sync::{BanInfo, Basis, Checkpoint, Confirmation, DataLoss, Origin, PeerInfo, Phase, PublishAnswer};
use crate::util::printable::{Escape, Limit, printable};
use crate::util::saturate;
pub(super) use crate::util::saturate::millis;

/// What a client says of an answer that it cannot believe.
pub(super) fn wrong(what: &str) -> Error {
    Error::failed(format!("the sidecar's answer makes no sense: {what}"))
}

/// Why what a client wants cannot be read.
#[derive(Debug)]
pub(super) enum BadRequest {
    /// It makes no sense: the answer says why.
    Invalid(String),
    /// The message is broken: the call fails.
    Broken(Error),
}

impl BadRequest {
    /// The reason, for the answer.
    ///
    /// # Errors
    /// What the call fails with instead.
    pub fn reason(self) -> capnp::Result<String> {
        match self {
            Self::Invalid(why) => Ok(why),
            Self::Broken(error) => Err(error),
        }
    }
}

impl From<Error> for BadRequest {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

pub(super) fn text(from: capnp::text::Reader<'_>) -> capnp::Result<String> {
    Ok(from.to_str()?.to_owned())
}

/// Empty text means "none".
pub(super) fn optional_text(from: capnp::text::Reader<'_>) -> capnp::Result<Option<String>> {
    Ok(Some(text(from)?).filter(|text| !text.is_empty()))
}

pub(super) fn texts(from: capnp::text_list::Reader<'_>) -> capnp::Result<Vec<String>> {
    from.iter().map(|one| text(one?)).collect()
}

pub(super) fn set_texts(mut to: capnp::text_list::Builder<'_>, texts: &[String]) {
    for (index, one) in (0..).zip(texts) {
        to.set(index, one);
    }
}

pub(super) fn height(from: u64) -> capnp::Result<Height> {
    Height::new(from).ok_or_else(|| Error::failed("heights begin at 1".into()))
}

pub(super) fn hash(from: &[u8]) -> capnp::Result<Hash> {
    Hash::from_slice(from).ok_or_else(|| Error::failed(format!("a hash has 32 bytes, not {}", from.len())))
}

/// Empty bytes mean "none".
pub(super) fn optional_hash(from: &[u8]) -> capnp::Result<Option<Hash>> {
    (!from.is_empty()).then(|| hash(from)).transpose()
}

pub(super) fn key(bytes: &[u8]) -> capnp::Result<PublicKey> {
    PublicKey::from_slice(bytes).ok_or_else(|| wrong("a public key has not 32 bytes"))
}

/// Empty bytes mean "none".
pub(super) fn optional_key(bytes: &[u8]) -> capnp::Result<Option<PublicKey>> {
    (!bytes.is_empty()).then(|| key(bytes)).transpose()
}

pub(super) fn id(from: wire::block_id::Reader<'_>) -> capnp::Result<BlockId> {
    Ok(BlockId { height: height(from.get_height())?, hash: hash(from.get_hash()?)? })
}

/// Height 0, which is also what a null pointer reads as, means "none".
pub(super) fn optional_id(from: wire::block_id::Reader<'_>) -> capnp::Result<Option<BlockId>> {
    (from.get_height() > 0).then(|| id(from)).transpose()
}

pub(super) fn set_id(mut to: wire::block_id::Builder<'_>, id: BlockId) {
    to.set_height(id.height.get());
    to.set_hash(&id.hash.0);
}

pub(super) fn set_checkpoint(mut to: wire::checkpoint::Builder<'_>, checkpoint: Checkpoint) {
    to.set_da_height(checkpoint.da);
    set_id(to.init_id(), checkpoint.id);
}

/// A null pointer, which reads as a block of height 0, means "none".
pub(super) fn optional_checkpoint(from: wire::checkpoint::Reader<'_>) -> capnp::Result<Option<Checkpoint>> {
    let da = from.get_da_height();
    Ok(optional_id(from.get_id()?)?.map(|id| Checkpoint { id, da }))
}

pub(super) fn set_inclusion(mut to: wire::da_inclusion::Builder<'_>, id: BlockId, confirmed: Confirmation) {
    to.set_da_height(confirmed.position.height);
    to.set_index(confirmed.position.index);
    to.set_basis(match confirmed.basis {
        Basis::Bytes => wire::HardBasis::Bytes,
        Basis::Named => wire::HardBasis::Named,
        Basis::Implied => wire::HardBasis::Implied,
        Basis::Trusted => wire::HardBasis::Trusted,
    });
    set_id(to.init_id(), id);
}

/// A basis that we do not know is `Trusted`, as the schema demands.
pub(super) fn basis_from_wire(basis: Result<wire::HardBasis, capnp::NotInSchema>) -> Basis {
    match basis {
        Ok(wire::HardBasis::Bytes) => Basis::Bytes,
        Ok(wire::HardBasis::Named) => Basis::Named,
        Ok(wire::HardBasis::Implied) => Basis::Implied,
        Ok(wire::HardBasis::Trusted) | Err(_) => Basis::Trusted,
    }
}

pub(super) const fn durability_to_wire(durability: Durability) -> wire::Durability {
    match durability {
        Durability::Power => wire::Durability::Power,
        Durability::Process => wire::Durability::Process,
    }
}

/// A promise that we do not know is taken for the weakest one.
pub(super) fn durability_from_wire(durability: Result<wire::Durability, capnp::NotInSchema>) -> Durability {
    match durability {
        Ok(wire::Durability::Power) => Durability::Power,
        Ok(wire::Durability::Process) | Err(_) => Durability::Process,
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
pub(super) fn phase_from_wire(phase: Result<wire::Phase, capnp::NotInSchema>) -> Phase {
    match phase {
        Ok(wire::Phase::WaitingForPeers) => Phase::WaitingForPeers,
        Ok(wire::Phase::Syncing) | Err(_) => Phase::Syncing,
        Ok(wire::Phase::Following) => Phase::Following,
        Ok(wire::Phase::Halted) => Phase::Halted,
        Ok(wire::Phase::Draining) => Phase::Draining,
    }
}

/// A length, for a list or a counter of the schema.
pub(super) fn count(len: usize) -> u32 {
    saturate::to_u32(len)
}

/// Foreign text, fit for a log line: escaped, and at most about `max` bytes.
pub(super) fn cut(text: &str, max: usize) -> String {
    printable(text, Escape::Debug, Limit::Bytes(max))
}

/// How a block's payload is given.
pub(super) enum Payload {
    Inline,
    Omitted,
    Chunked(wire::bytes_reader::Client),
}

impl Payload {
    /// In pieces where there is a reader of them, in the message otherwise.
    pub fn of(pieces: Option<wire::bytes_reader::Client>) -> Self {
        pieces.map_or(Self::Inline, Self::Chunked)
    }
}

pub(super) fn set_block(mut to: wire::block::Builder<'_>, block: &Block, origin: Origin, payload: Payload) {
    let header = block.header();
    set_id(to.reborrow().init_id(), block.id());
    if let Some(parent) = header.parent_hash {
        to.set_parent_hash(&parent.0);
    }
    to.set_time_unix_nanos(header.time_unix_nanos);
    to.set_host_id(&header.host_id);
    to.set_proposer(&header.proposer.0);
    to.set_header(block.header_bytes());
    to.set_signature(block.signature());
    to.set_origin(match origin {
        Origin::Published => wire::Origin::Published,
        Origin::Gossip => wire::Origin::Gossip,
        Origin::Range => wire::Origin::Range,
        Origin::Da => wire::Origin::Da,
    });
    let mut to = to.init_payload();
    match payload {
        Payload::Inline => to.set_inline(block.payload()),
        Payload::Omitted => to.set_omitted(block.payload().len() as u64),
        Payload::Chunked(pieces) => to.set_chunked(pieces),
    }
}

pub(super) fn set_waits_for(mut to: wire::waits_for::Builder<'_>, waits_for: WaitsFor) {
    match waits_for {
        WaitsFor::Us => to.set_sidecar(()),
        WaitsFor::Da => to.set_da(()),
        WaitsFor::Name(height) => to.set_name(height.get()),
    }
}

/// `None` for what we do not know: it is waited on.
pub(super) fn waits_for(from: wire::waits_for::Reader<'_>) -> capnp::Result<Option<WaitsFor>> {
    use wire::waits_for::Which;
    let Ok(which) = from.which() else { return Ok(None) };
    Ok(Some(match which {
        Which::Sidecar(()) => WaitsFor::Us,
        Which::Da(()) => WaitsFor::Da,
        Which::Name(at) => WaitsFor::Name(height(at)?),
    }))
}

pub(super) fn set_range(mut to: wire::range::Builder<'_>, loss: &DataLoss) {
    to.set_from(loss.from.get());
    to.set_to(loss.to.get());
}

pub(super) fn range(from: wire::range::Reader<'_>) -> capnp::Result<(Height, Height)> {
    Ok((height(from.get_from())?, height(from.get_to())?))
}

/// What a publish comes to when there is no block to show.
pub(super) fn set_refusal(mut to: wire::publish_result::Builder<'_>, answer: &PublishAnswer, retry_ms: u32) {
    to.set_retry_after_ms(publish_retry_ms(answer));
    match answer {
        // Said elsewhere, with the block.
        PublishAnswer::Accepted(id) => set_id(to.init_accepted().init_id(), *id),
        PublishAnswer::Duplicate(id) => set_id(to.init_duplicate().init_id(), *id),
        PublishAnswer::Conflict(id) => set_id(to.init_conflict(), *id),
        PublishAnswer::NotNext { height, parent } => {
            let mut to = to.init_not_next();
            to.set_height(height.get());
            if let Some(parent) = parent {
                to.set_hash(&parent.0);
            }
        }
        PublishAnswer::Invalid(why) => to.set_invalid(why),
        PublishAnswer::TooLarge { max_block_bytes } => to.set_too_large(*max_block_bytes as u64),
        PublishAnswer::NotReady(why) | PublishAnswer::NotYet { why, .. } => to.set_not_ready(why),
        PublishAnswer::Halted(why) => to.set_halted(why),
        PublishAnswer::StorageFull => to.set_storage_full(()),
        PublishAnswer::Overloaded => to.set_overloaded(retry_ms),
        PublishAnswer::Draining => to.set_draining(()),
    }
}

/// How soon a publish may be made again that is not taken for now; 0: nobody knows.
fn publish_retry_ms(answer: &PublishAnswer) -> u32 {
    match answer {
        // Rounded up: what is asked a moment too early has to be asked once more.
        PublishAnswer::NotYet { retry_after, .. } => {
            u32::try_from(retry_after.as_millis().saturating_add(1)).unwrap_or(u32::MAX)
        }
        _ => 0,
    }
}

pub(super) fn set_peer(mut to: wire::peer_info::Builder<'_>, peer: &PeerInfo) {
    to.set_peer_id(&peer.peer);
    // The first one is that of the connection.
    let own = usize::from(peer.connected.is_some()).min(peer.addresses.len());
    let (here, others) = peer.addresses.split_at(own);
    if let [address] = here {
        to.set_address(address);
    }
    set_texts(to.reborrow().init_known(count(others.len())), others);
    to.set_outbound(peer.outbound);
    to.set_agent(&peer.agent);
    to.set_connected(peer.connected.is_some());
    to.set_connected_ms(millis(peer.connected.unwrap_or_default()));
    // 0 means that it was not measured yet.
    to.set_latency_us(peer.latency.map_or(0, |latency| micros(latency).max(1)));
    to.set_persistent(peer.persistent);
    to.set_blocks(peer.blocks);
    to.set_bytes(peer.bytes);
    let standing = &peer.standing;
    to.set_expected_wait_us(micros(standing.expected_wait));
    to.set_failures(standing.failures);
    to.set_rest_ms(millis(standing.rests));
    to.set_bans(standing.bans);
    to.set_bad_signatures(standing.bad_signatures);
    if let Some((offence, ago)) = standing.last_offence {
        to.set_last_offence(offence.reason());
        to.set_last_offence_ms(millis(ago));
    }
}

pub(super) fn set_ban(mut to: wire::ban_info::Builder<'_>, ban: &BanInfo) {
    to.set_subject(&ban.subject);
    to.set_reason(&ban.reason);
    to.set_left_ms(millis(ban.left));
    to.set_by_operator(ban.by_operator);
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(cut("plain é", 64), "plain é");
        assert_eq!(cut("two\nlines \u{1b}[31m", 64), "two\\nlines \\u{1b}[31m");
        assert_eq!(cut(&"é".repeat(100), 7), "ééé");
    }

    #[test]
    fn ids_keep_none_apart_from_nonsense() {
        let mut message = capnp::message::Builder::new_default();
        let mut to: wire::block_id::Builder<'_> = message.init_root();
        assert_eq!(optional_id(to.reborrow_as_reader()).unwrap(), None);
        assert!(id(to.reborrow_as_reader()).is_err());
        to.set_height(3);
        assert!(optional_id(to.reborrow_as_reader()).is_err(), "a height without a hash");
        to.set_hash(&[1; 31]);
        assert!(optional_id(to.reborrow_as_reader()).is_err());
        let real = BlockId { height: Height::MIN, hash: Hash([2; 32]) };
        set_id(to.reborrow(), real);
        assert_eq!(optional_id(to.into_reader()).unwrap(), Some(real));
    }

    #[test]
    fn a_phase_of_the_future_is_syncing() {
        for phase in [Phase::WaitingForPeers, Phase::Syncing, Phase::Following, Phase::Halted, Phase::Draining] {
            assert_eq!(phase_from_wire(Ok(phase_to_wire(phase))), phase);
        }
        assert_eq!(phase_from_wire(Err(capnp::NotInSchema(99))), Phase::Syncing);
    }
}
