//! What a host reports of its DA layer, and the answer to it: plain data that one half of the API writes and the other
//! reads.
//!
//! Invariant: of a report nothing is copied before what it brings was counted: in all, and of each part that has a bound of its own.

use bytes::Bytes;
use capnp::Error;

use super::blocksync_capnp as wire;
use super::convert::{self, count};
use crate::block::{Hash, Height, native};
use crate::sync::{DaPosition, ReportAnswer, ReportRefusal, ReportTaken, Wanted};

/// What a sighting costs in memory, beyond its bytes.
const SIGHTING_BYTES: usize = 128;

/// A sighting as the host reports it. Not a [`crate::sync::Finding`], because nothing of it is checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedSighting {
    pub position: DaPosition,
    /// `None`, of bytes only: whatever they say themselves.
    pub height: Option<Height>,
    pub what: ReportedAs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportedAs {
    /// The bytes that stand there.
    SignedBlock(Bytes),
    /// Their SHA-256.
    Digest(Hash),
    /// The hash of the block that they stand for.
    BlockHash(Hash),
    HostId(Bytes),
    PayloadHash(Hash),
}

/// What became of a report. Not [`ReportAnswer`], because a refusal travels as a reason and a text, and the API has one of
/// its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportResult {
    Taken(ReportTaken),
    /// Nothing was taken: report on from the DA height after this one.
    OutOfOrder {
        scanned_through: u64,
    },
    /// Nothing was taken.
    Refused(ReportDenial),
}

/// Why nothing of a report was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportDenial {
    pub reason: DenialReason,
    /// For people.
    pub why: String,
    /// Of the sighting that is refused; `None`: it is about the report as a whole.
    pub at: Option<DaPosition>,
}

/// As the schema's `RefusalReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenialReason {
    /// The only one that goes away by itself.
    StorageFull,
    Backwards,
    TooFar,
    TooLarge,
    NoSuchPosition,
    NotByName,
    OnlyByName,
    NameTooLong,
    OtherHeight,
    /// The sidecar is newer than this client.
    Unknown,
}

/// What one report may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReportBounds {
    /// As [`cost`] counts them.
    pub report_bytes: usize,
    /// Of one block.
    pub block_bytes: usize,
}

/// What keeps a report from being read.
pub(super) enum Unread {
    /// The host is told.
    Denied(ReportDenial),
    /// The call breaks the contract.
    Broken(Error),
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl From<capnp::NotInSchema> for Unread {
    fn from(arm: capnp::NotInSchema) -> Self {
        Self::Broken(arm.into())
    }
}

impl ReportDenial {
    fn of_report(reason: DenialReason, why: String) -> Self {
        Self { reason, why, at: None }
    }

    fn of_sighting(reason: DenialReason, at: DaPosition, why: &str) -> Self {
        Self { reason, why: format!("DA height {}, index {}: {why}", at.height, at.index), at: Some(at) }
    }
}

impl From<&ReportRefusal> for ReportDenial {
    fn from(refusal: &ReportRefusal) -> Self {
        let (reason, at) = match *refusal {
            ReportRefusal::StorageFull => (DenialReason::StorageFull, None),
            ReportRefusal::Backwards { .. } => (DenialReason::Backwards, None),
            ReportRefusal::TooFar { .. } => (DenialReason::TooFar, None),
            ReportRefusal::NoSuchPosition(at) => (DenialReason::NoSuchPosition, Some(at)),
            ReportRefusal::NotByName(at) => (DenialReason::NotByName, Some(at)),
            ReportRefusal::OnlyByName(at) => (DenialReason::OnlyByName, Some(at)),
            ReportRefusal::NameTooLong(at) => (DenialReason::NameTooLong, Some(at)),
            ReportRefusal::OtherHeight { position, .. } => (DenialReason::OtherHeight, Some(position)),
        };
        Self { reason, why: refusal.to_string(), at }
    }
}

impl From<ReportAnswer> for ReportResult {
    fn from(answer: ReportAnswer) -> Self {
        match answer {
            ReportAnswer::Taken(taken) => Self::Taken(taken),
            ReportAnswer::OutOfOrder { scanned_through } => Self::OutOfOrder { scanned_through },
            ReportAnswer::Refused(refusal) => Self::Refused((&refusal).into()),
        }
    }
}

pub(super) fn write_sighting(mut to: wire::da_sighting::Builder<'_>, sighting: &ReportedSighting) {
    to.set_da_height(sighting.position.height);
    to.set_index(sighting.position.index);
    to.set_height(sighting.height.map_or(0, Height::get));
    let mut what = to.init_what();
    match &sighting.what {
        ReportedAs::SignedBlock(bytes) => what.set_signed_block(bytes),
        ReportedAs::Digest(digest) => what.set_digest(&digest.0),
        ReportedAs::BlockHash(hash) => what.set_hash(&hash.0),
        ReportedAs::HostId(bytes) => what.set_host_id(bytes),
        ReportedAs::PayloadHash(hash) => what.set_payload_hash(&hash.0),
    }
}

/// The memory that a report takes until it is answered: the schema's `Limits.maxReportBytes` counts in the same way.
pub(super) fn cost(size: capnp::MessageSize, sightings: u32) -> usize {
    let size = usize::try_from(size.word_count).unwrap_or(usize::MAX).saturating_mul(8);
    size.saturating_add((sightings as usize).saturating_mul(SIGHTING_BYTES))
}

/// All of a report's sightings, of which [`cost`] was reserved.
pub(super) fn read_sightings(
    from: capnp::struct_list::Reader<'_, wire::da_sighting::Owned>,
    bounds: ReportBounds,
) -> Result<Vec<ReportedSighting>, Unread> {
    from.iter().map(|sighting| read_sighting(sighting, bounds)).collect()
}

pub(super) fn read_sighting(
    from: wire::da_sighting::Reader<'_>,
    bounds: ReportBounds,
) -> Result<ReportedSighting, Unread> {
    use wire::da_sighting::what::Which;
    let position = DaPosition { height: from.get_da_height(), index: from.get_index() };
    let what = match from.get_what().which()? {
        Which::SignedBlock(block) => ReportedAs::SignedBlock(block_bytes(block?, position, bounds)?),
        Which::Digest(digest) => ReportedAs::Digest(convert::hash(digest?)?),
        Which::Hash(hash) => ReportedAs::BlockHash(convert::hash(hash?)?),
        Which::HostId(id) => ReportedAs::HostId(host_id(id?, position)?),
        Which::PayloadHash(hash) => ReportedAs::PayloadHash(convert::hash(hash?)?),
    };
    let height = match what {
        ReportedAs::SignedBlock(_) => Height::new(from.get_height()),
        _ => Some(convert::height(from.get_height())?),
    };
    Ok(ReportedSighting { position, height, what })
}

fn block_bytes(block: &[u8], at: DaPosition, bounds: ReportBounds) -> Result<Bytes, Unread> {
    if block.len() > bounds.block_bytes {
        return Err(Unread::Denied(too_large_block(at, block.len() as u64, bounds)));
    }
    Ok(Bytes::copy_from_slice(block))
}

fn host_id(id: &[u8], at: DaPosition) -> Result<Bytes, Unread> {
    const MAX: usize = native::MAX_HOST_ID_BYTES;
    if id.len() > MAX {
        let why = format!("a host id of {} bytes, and it may have {MAX}", id.len());
        return Err(Unread::Denied(ReportDenial::of_sighting(DenialReason::NameTooLong, at, &why)));
    }
    Ok(Bytes::copy_from_slice(id))
}

pub(super) fn too_large_block(at: DaPosition, bytes: u64, bounds: ReportBounds) -> ReportDenial {
    let why =
        format!("{bytes} bytes are no block of this chain, which has at most {}: leave it out", bounds.block_bytes);
    ReportDenial::of_sighting(DenialReason::TooLarge, at, &why)
}

pub(super) fn too_large_report(cost: usize, bounds: ReportBounds) -> ReportDenial {
    let why = format!("a report of {cost} bytes: report less at a time, at most {}", bounds.report_bytes);
    ReportDenial::of_report(DenialReason::TooLarge, why)
}

pub(super) fn write_result(to: wire::report_result::Builder<'_>, result: &ReportResult) {
    match result {
        ReportResult::Taken(taken) => write_taken(to.init_taken(), taken),
        ReportResult::OutOfOrder { scanned_through } => {
            let mut to = to;
            to.set_out_of_order(*scanned_through);
        }
        ReportResult::Refused(denial) => write_denial(to.init_refused(), denial),
    }
}

fn write_taken(mut to: wire::report_taken::Builder<'_>, taken: &ReportTaken) {
    to.set_scanned_through(taken.scanned_through);
    to.set_junk(taken.junk);
    to.set_passed_over(taken.passed_over);
    write_wanted(to.init_wanted(count(taken.wanted.len())), &taken.wanted);
}

pub(super) fn write_wanted(mut to: capnp::struct_list::Builder<'_, wire::wanted_sighting::Owned>, wanted: &[Wanted]) {
    for (index, Wanted { position, height, digest }) in (0..to.len()).zip(wanted) {
        let mut to = to.reborrow().get(index);
        to.set_da_height(position.height);
        to.set_index(position.index);
        to.set_height(height.get());
        to.set_digest(&digest.0);
    }
}

/// All but [`DenialReason::Unknown`], which is never said.
const REASONS: [(DenialReason, wire::RefusalReason); 9] = [
    (DenialReason::StorageFull, wire::RefusalReason::StorageFull),
    (DenialReason::Backwards, wire::RefusalReason::Backwards),
    (DenialReason::TooFar, wire::RefusalReason::TooFar),
    (DenialReason::TooLarge, wire::RefusalReason::TooLarge),
    (DenialReason::NoSuchPosition, wire::RefusalReason::NoSuchPosition),
    (DenialReason::NotByName, wire::RefusalReason::NotByName),
    (DenialReason::OnlyByName, wire::RefusalReason::OnlyByName),
    (DenialReason::NameTooLong, wire::RefusalReason::NameTooLong),
    (DenialReason::OtherHeight, wire::RefusalReason::OtherHeight),
];

pub(super) fn write_denial(mut to: wire::report_refusal::Builder<'_>, denial: &ReportDenial) {
    let reason = REASONS.iter().find(|(reason, _)| *reason == denial.reason);
    if let Some((_, reason)) = reason {
        to.set_reason(*reason);
    }
    to.set_why(&denial.why);
    if let Some(at) = denial.at {
        to.set_da_height(at.height);
        to.set_index(at.index);
    }
}

pub(super) fn read_result(from: wire::report_result::Reader<'_>) -> capnp::Result<ReportResult> {
    use wire::report_result::Which;
    Ok(match from.which() {
        Ok(Which::Taken(taken)) => ReportResult::Taken(read_taken(taken?)?),
        Ok(Which::OutOfOrder(scanned_through)) => ReportResult::OutOfOrder { scanned_through },
        Ok(Which::Refused(refusal)) => ReportResult::Refused(read_denial(refusal?)?),
        Err(arm) => ReportResult::Refused(ReportDenial::of_report(DenialReason::Unknown, arm.to_string())),
    })
}

fn read_taken(from: wire::report_taken::Reader<'_>) -> capnp::Result<ReportTaken> {
    Ok(ReportTaken {
        scanned_through: from.get_scanned_through(),
        wanted: read_wanted(from.get_wanted()?)?,
        junk: from.get_junk(),
        passed_over: from.get_passed_over(),
    })
}

pub(super) fn read_wanted(
    from: capnp::struct_list::Reader<'_, wire::wanted_sighting::Owned>,
) -> capnp::Result<Vec<Wanted>> {
    let wanted = |from: wire::wanted_sighting::Reader<'_>| {
        Ok(Wanted {
            position: DaPosition { height: from.get_da_height(), index: from.get_index() },
            height: convert::height(from.get_height())?,
            digest: convert::hash(from.get_digest()?)?,
        })
    };
    from.iter().map(wanted).collect()
}

pub(super) fn read_denial(from: wire::report_refusal::Reader<'_>) -> capnp::Result<ReportDenial> {
    let reason = REASONS.iter().find(|(_, reason)| from.get_reason() == Ok(*reason));
    let reason = reason.map_or(DenialReason::Unknown, |(reason, _)| *reason);
    let at = DaPosition { height: from.get_da_height(), index: from.get_index() };
    Ok(ReportDenial { reason, why: convert::text(from.get_why()?)?, at: (at.height > 0).then_some(at) })
}
