//! Cap'n Proto answers to plain words. Whatever the sidecar says is checked as foreign data; what a newer one says in arms
//! that this client does not know is treated as the schema tells.

use std::time::Duration;

use bytes::Bytes;
use capnp::Error;

use super::types::PeerView;
use crate::api::blocksync_capnp as wire;
use crate::api::convert::{basis_from_wire, height, id, key, optional_hash, optional_text, text, texts, wrong};
use crate::block::{BlockId, SignedHeader};
use crate::sync::{BanInfo, Confirmation, DaPosition, Evidence, EvidenceId, EvidenceSide, Origin};
use crate::verify::ScheduleEntry;

pub(super) fn signature(bytes: &[u8]) -> capnp::Result<[u8; 64]> {
    bytes.try_into().map_err(|_| wrong("a signature has not 64 bytes"))
}

/// All of a block but its payload, which may have to be fetched.
pub(super) fn block(
    from: wire::block::Reader<'_>,
    payload: super::types::Payload,
) -> capnp::Result<super::types::SoftBlock> {
    Ok(super::types::SoftBlock {
        id: id(from.get_id()?)?,
        parent: optional_hash(from.get_parent_hash()?)?,
        time_unix_nanos: from.get_time_unix_nanos(),
        host_id: Bytes::copy_from_slice(from.get_host_id()?),
        proposer: key(from.get_proposer()?)?,
        header: Bytes::copy_from_slice(from.get_header()?),
        signature: signature(from.get_signature()?)?,
        payload,
        origin: match from.get_origin() {
            Ok(wire::Origin::Published) => Some(Origin::Published),
            Ok(wire::Origin::Gossip) => Some(Origin::Gossip),
            Ok(wire::Origin::Range) => Some(Origin::Range),
            Ok(wire::Origin::Da) => Some(Origin::Da),
            Ok(wire::Origin::Unknown) | Err(_) => None,
        },
    })
}

pub(super) fn inclusion(from: wire::da_inclusion::Reader<'_>) -> capnp::Result<(BlockId, Confirmation)> {
    let position = DaPosition { height: from.get_da_height(), index: from.get_index() };
    Ok((id(from.get_id()?)?, Confirmation { position, basis: basis_from_wire(from.get_basis()) }))
}

pub(super) fn consumer(from: wire::consumer_info::Reader<'_>) -> capnp::Result<(String, BlockId)> {
    Ok((text(from.get_name()?)?, id(from.get_acked()?)?))
}

pub(super) fn peer(from: wire::peer_info::Reader<'_>) -> capnp::Result<PeerView> {
    let micros = |micros: u64| (micros > 0).then(|| Duration::from_micros(micros));
    Ok(PeerView {
        peer: text(from.get_peer_id()?)?,
        address: optional_text(from.get_address()?)?,
        known: texts(from.get_known()?)?,
        outbound: from.get_outbound(),
        agent: text(from.get_agent()?)?,
        connected: from.get_connected().then(|| Duration::from_millis(from.get_connected_ms())),
        latency: micros(from.get_latency_us()),
        persistent: from.get_persistent(),
        blocks: from.get_blocks(),
        bytes: from.get_bytes(),
        expected_wait: micros(from.get_expected_wait_us()),
        failures: from.get_failures(),
        rests: Duration::from_millis(from.get_rest_ms()),
        bans: from.get_bans(),
        bad_signatures: from.get_bad_signatures(),
        last_offence: optional_text(from.get_last_offence()?)?
            .map(|offence| (offence, Duration::from_millis(from.get_last_offence_ms()))),
    })
}

pub(super) fn ban(from: wire::ban_info::Reader<'_>) -> capnp::Result<BanInfo> {
    Ok(BanInfo {
        subject: text(from.get_subject()?)?,
        reason: text(from.get_reason()?)?,
        left: Duration::from_millis(from.get_left_ms()),
        by_operator: from.get_by_operator(),
    })
}

pub(super) fn schedule_entry(from: wire::schedule_entry::Reader<'_>) -> capnp::Result<ScheduleEntry> {
    Ok(ScheduleEntry { from: height(from.get_from_height())?, proposer: key(from.get_proposer()?)? })
}

pub(super) fn evidence(from: wire::evidence_info::Reader<'_>) -> capnp::Result<Evidence> {
    let signed = |header: &[u8], signed: &[u8]| {
        Ok::<_, Error>(SignedHeader { header: Bytes::copy_from_slice(header), signature: signature(signed)? })
    };
    Ok(Evidence {
        id: EvidenceId(from.get_id()),
        height: height(from.get_height())?,
        first: EvidenceSide::Carried(signed(from.get_first_header()?, from.get_first_signature()?)?),
        second: signed(from.get_second_header()?, from.get_second_signature()?)?,
    })
}
