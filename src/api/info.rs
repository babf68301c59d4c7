//! Who the sidecar is and where it stands: plain data that the server writes and a client reads. Neither half of the
//! API is named here.

use std::time::Duration;

use capnp::Error;

use super::blocksync_capnp as wire;
use super::convert::{
    count, durability_from_wire, durability_to_wire, hash, height, optional_key, phase_from_wire, phase_to_wire,
    set_texts, text, texts, wrong,
};
use crate::block::{BlockId, Height, PublicKey};
use crate::store::Durability;
use crate::sync::{DaEvidence, Heads, Phase};

/// Who the sidecar is and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    pub version: String,
    pub schema_revision: u32,
    /// Names of optional abilities.
    pub features: Vec<String>,
    pub chain_id: String,
    pub initial_height: Height,
    /// Differs after the database was made anew.
    pub store_id: [u8; 16],
    /// libp2p's text form, base58.
    pub peer_id: String,
    pub limits: Limits,
    pub phase: Phase,
    pub heads: HeadsView,
    /// The key that the node signs with, when it does.
    pub proposer: Option<PublicKey>,
    /// What an accepted publish survives.
    pub durability: Durability,
    /// Of the chain's largest block.
    pub max_block_bytes: u64,
    /// What of DA decides; `None`: a rule that is newer than this client.
    pub da_evidence: Option<DaEvidence>,
}

/// The bounds that the sidecar holds its clients to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A larger message ends the connection.
    pub max_message_bytes: u64,
    /// Of an encoded signed block that the sidecar takes.
    pub max_block_bytes: u64,
    /// A larger payload travels in pieces; this client does that by itself.
    pub max_inline_bytes: u64,
    /// In one batch of a stream.
    pub max_events: u32,
    /// The longest long poll.
    pub max_wait: Duration,
    /// In flight on one connection; one more fails with [`super::client::ClientError::Overloaded`].
    pub max_calls: u32,
    /// Of one report of DA.
    pub max_report_bytes: u64,
}

/// The heights as a host is told them: `tail <= hard <= soft <= target`, as far as each is there. Not [`Heads`], because
/// the base, the blocks' times, the target's hash, and what there is of evidence and damage do not travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadsView {
    pub tail: Height,
    pub hard: Option<BlockId>,
    pub soft: Option<BlockId>,
    pub target: Option<Height>,
    pub epoch: u64,
    pub scanned_through: u64,
}

impl From<&Heads> for HeadsView {
    fn from(heads: &Heads) -> Self {
        Self {
            tail: heads.tail,
            hard: heads.hard,
            soft: heads.soft_id(),
            target: heads.target.map(|target| target.height),
            epoch: heads.epoch.0,
            scanned_through: heads.scanned_through,
        }
    }
}

pub(super) fn write(mut to: wire::server_info::Builder<'_>, info: &ServerInfo) {
    to.set_version(&info.version);
    to.set_schema_revision(info.schema_revision);
    set_texts(to.reborrow().init_features(count(info.features.len())), &info.features);
    to.set_chain_id(&info.chain_id);
    to.set_initial_height(info.initial_height.get());
    to.set_store_id(&info.store_id);
    to.set_peer_id(&info.peer_id);
    let mut limits = to.reborrow().init_limits();
    limits.set_max_message_bytes(info.limits.max_message_bytes);
    limits.set_max_block_bytes(info.limits.max_block_bytes);
    limits.set_max_inline_bytes(info.limits.max_inline_bytes);
    limits.set_max_events(info.limits.max_events);
    limits.set_max_wait_ms(u32::try_from(info.limits.max_wait.as_millis()).unwrap_or(u32::MAX));
    limits.set_max_calls(info.limits.max_calls);
    limits.set_max_report_bytes(info.limits.max_report_bytes);
    to.set_phase(phase_to_wire(info.phase));
    write_heads(to.reborrow().init_heads(), &info.heads);
    if let Some(proposer) = info.proposer {
        to.set_proposer(&proposer.0);
    }
    to.set_durability(durability_to_wire(info.durability));
    to.set_max_block_bytes(info.max_block_bytes);
    if let Some(evidence) = info.da_evidence {
        to.set_da_evidence(match evidence {
            DaEvidence::Block => wire::DaEvidence::Block,
            DaEvidence::Named => wire::DaEvidence::Named,
        });
    }
}

pub(super) fn read(from: wire::server_info::Reader<'_>) -> capnp::Result<ServerInfo> {
    let limits = from.get_limits()?;
    Ok(ServerInfo {
        version: text(from.get_version()?)?,
        schema_revision: from.get_schema_revision(),
        features: texts(from.get_features()?)?,
        chain_id: text(from.get_chain_id()?)?,
        initial_height: height(from.get_initial_height())?,
        store_id: from.get_store_id()?.try_into().map_err(|_| wrong("the store id has not 16 bytes"))?,
        peer_id: text(from.get_peer_id()?)?,
        limits: Limits {
            max_message_bytes: limits.get_max_message_bytes(),
            max_block_bytes: limits.get_max_block_bytes(),
            max_inline_bytes: limits.get_max_inline_bytes(),
            max_events: limits.get_max_events(),
            max_wait: Duration::from_millis(limits.get_max_wait_ms().into()),
            max_calls: limits.get_max_calls(),
            max_report_bytes: limits.get_max_report_bytes(),
        },
        phase: phase_from_wire(from.get_phase()),
        heads: read_heads(from.get_heads()?)?,
        proposer: optional_key(from.get_proposer()?)?,
        durability: durability_from_wire(from.get_durability()),
        max_block_bytes: from.get_max_block_bytes(),
        da_evidence: match from.get_da_evidence() {
            Ok(wire::DaEvidence::Block) => Some(DaEvidence::Block),
            Ok(wire::DaEvidence::Named) => Some(DaEvidence::Named),
            Err(_) => None,
        },
    })
}

pub(super) fn write_heads(mut to: wire::heads::Builder<'_>, heads: &HeadsView) {
    to.set_tail(heads.tail.get());
    if let Some(hard) = heads.hard {
        to.set_hard(hard.height.get());
        to.set_hard_hash(&hard.hash.0);
    }
    if let Some(soft) = heads.soft {
        to.set_soft(soft.height.get());
        to.set_soft_hash(&soft.hash.0);
    }
    to.set_target(heads.target.map_or(0, Height::get));
    to.set_epoch(heads.epoch);
    to.set_scanned_through(heads.scanned_through);
}

pub(super) fn read_heads(from: wire::heads::Reader<'_>) -> capnp::Result<HeadsView> {
    let head = |at: u64, bytes: &[u8]| {
        Height::new(at).map(|height| Ok::<_, Error>(BlockId { height, hash: hash(bytes)? })).transpose()
    };
    Ok(HeadsView {
        tail: height(from.get_tail())?,
        hard: head(from.get_hard(), from.get_hard_hash()?)?,
        soft: head(from.get_soft(), from.get_soft_hash()?)?,
        target: Height::new(from.get_target()),
        epoch: from.get_epoch(),
        scanned_through: from.get_scanned_through(),
    })
}
