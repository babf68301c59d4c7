//! Cap'n Proto answers to plain words. Whatever the sidecar says is checked as foreign data; what a newer one says in arms
//! that this client does not know is treated as the schema tells.

use std::time::Duration;

use bytes::Bytes;
use capnp::Error;

use super::info;
use super::words::{PeerView, StatusView};
use crate::api::blocksync_capnp as wire;
use crate::api::convert::{height, id, key, optional_hash, optional_id, text, wrong};
use crate::block::{BlockId, SignedHeader};
use crate::sync::{BanInfo, DaPosition, Evidence, EvidenceId, EvidenceSide, Origin, Received};
use crate::verify::ScheduleEntry;

type Result<T> = std::result::Result<T, Error>;

pub(super) fn signature(bytes: &[u8]) -> Result<[u8; 64]> {
    bytes.try_into().map_err(|_| wrong("a signature has not 64 bytes"))
}

/// All of a block but its payload, which may have to be fetched.
pub(super) fn block(from: wire::block::Reader<'_>, payload: super::words::Payload) -> Result<super::words::SoftBlock> {
    Ok(super::words::SoftBlock {
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

pub(super) fn inclusion(from: wire::da_inclusion::Reader<'_>) -> Result<(BlockId, DaPosition)> {
    Ok((id(from.get_id()?)?, DaPosition { height: from.get_da_height(), index: from.get_index() }))
}

pub(super) fn range(from: wire::range::Reader<'_>) -> Result<(crate::block::Height, crate::block::Height)> {
    Ok((height(from.get_from())?, height(from.get_to())?))
}

/// Empty: nothing was said.
fn said(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

pub(super) fn status(from: wire::status::Reader<'_>) -> Result<StatusView> {
    let received = from.get_received()?;
    let bound = |bound: u64| (bound > 0).then_some(bound);
    Ok(StatusView {
        info: info::read(from.get_info()?)?,
        uptime: Duration::from_millis(from.get_uptime_ms()),
        peers: from.get_peers(),
        received: Received {
            published: received.get_published(),
            gossip: received.get_gossip(),
            range: received.get_range(),
            da: received.get_da(),
        },
        forked: from.get_forked(),
        history_unavailable: from.get_history_unavailable(),
        stored_bytes: from.get_stored_bytes(),
        pruning_waits_for: said(text(from.get_pruning_waits_for()?)?),
        retain_blocks: bound(from.get_retain_blocks()),
        max_bytes: bound(from.get_max_bytes()),
        prune_unconfirmed: from.get_prune_unconfirmed(),
        backfills: from.get_backfills(),
        halt: said(text(from.get_halt()?)?),
        vetoed: optional_id(from.get_vetoed()?)?,
        not_ready: said(text(from.get_not_ready()?)?),
        wanted: optional_id(from.get_wanted()?)?,
        held_blocks: from.get_held_blocks(),
        open_requests: from.get_open_requests(),
        pending_sightings: from.get_pending_sightings(),
        storage_full: from.get_storage_full(),
        lost: from.has_lost().then(|| range(from.get_lost()?)).transpose()?,
        sessions: from.get_sessions(),
        streams: from.get_streams(),
        listen: from.get_listen()?.iter().map(|address| text(address?)).collect::<Result<_>>()?,
    })
}

pub(super) fn consumer(from: wire::consumer_info::Reader<'_>) -> Result<(String, BlockId)> {
    Ok((text(from.get_name()?)?, id(from.get_acked()?)?))
}

pub(super) fn peer(from: wire::peer_info::Reader<'_>) -> Result<PeerView> {
    let micros = |micros: u64| (micros > 0).then(|| Duration::from_micros(micros));
    Ok(PeerView {
        peer: text(from.get_peer_id()?)?,
        address: said(text(from.get_address()?)?),
        known: from.get_known()?.iter().map(|address| text(address?)).collect::<Result<_>>()?,
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
        last_offence: said(text(from.get_last_offence()?)?)
            .map(|offence| (offence, Duration::from_millis(from.get_last_offence_ms()))),
    })
}

pub(super) fn ban(from: wire::ban_info::Reader<'_>) -> Result<BanInfo> {
    Ok(BanInfo {
        subject: text(from.get_subject()?)?,
        reason: text(from.get_reason()?)?,
        left: Duration::from_millis(from.get_left_ms()),
        by_operator: from.get_by_operator(),
    })
}

pub(super) fn schedule_entry(from: wire::schedule_entry::Reader<'_>) -> Result<ScheduleEntry> {
    Ok(ScheduleEntry { from: height(from.get_from_height())?, proposer: key(from.get_proposer()?)? })
}

pub(super) fn evidence(from: wire::evidence_info::Reader<'_>) -> Result<Evidence> {
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
