//! What a host reports of its DA layer, and the answer to it: plain data that one half of the API writes and the other
//! reads.

use bytes::Bytes;
use capnp::Error;

use super::blocksync_capnp as wire;
use super::convert::{self, count};
use crate::block::{BlockId, Hash, Height};
use crate::sync::{DaPosition, ReportAnswer, ReportTaken, Wanted};

/// A sighting as the host reports it. Not a [`crate::sync::Sighting`], because blocks among them are not checked yet.
#[derive(Clone, Debug)]
pub struct ReportedSighting {
    pub position: DaPosition,
    pub height: Height,
    pub what: ReportedAs,
}

#[derive(Clone, Debug)]
pub enum ReportedAs {
    /// The SHA-256 of the whole encoded block, as it stands on DA.
    Digest(Hash),
    SignedBlock(Bytes),
    BlockHash(Hash),
    HostId(Bytes),
    PayloadHash(Hash),
}

pub(super) fn write_sighting(mut to: wire::da_sighting::Builder<'_>, sighting: &ReportedSighting) {
    to.set_da_height(sighting.position.height);
    to.set_index(sighting.position.index);
    to.set_height(sighting.height.get());
    let mut what = to.init_what();
    match &sighting.what {
        ReportedAs::Digest(hash) | ReportedAs::BlockHash(hash) => what.set_hash(&hash.0),
        ReportedAs::SignedBlock(bytes) => what.set_signed_block(bytes),
        ReportedAs::HostId(bytes) => what.set_host_id(bytes),
        ReportedAs::PayloadHash(hash) => what.set_payload_hash(&hash.0),
    }
}

pub(super) fn read_sighting(from: wire::da_sighting::Reader<'_>) -> capnp::Result<ReportedSighting> {
    use wire::da_sighting::what::Which;
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let position = DaPosition { height: from.get_da_height(), index: from.get_index() };
    if position.height == 0 {
        return Err(Error::failed("DA heights begin at 1".into()));
    }
    Ok(ReportedSighting {
        position,
        height: convert::height(from.get_height())?,
        what: match from.get_what().which()? {
            Which::Hash(hash) => ReportedAs::Digest(convert::hash(hash?)?),
            Which::SignedBlock(block) => ReportedAs::SignedBlock(bytes(block?)),
            Which::HostId(id) => ReportedAs::HostId(bytes(id?)),
            Which::PayloadHash(hash) => ReportedAs::PayloadHash(convert::hash(hash?)?),
        },
    })
}

pub(super) fn write_answer(mut to: wire::report_result::Builder<'_>, answer: &ReportAnswer) -> capnp::Result<()> {
    let taken = match answer {
        ReportAnswer::Taken(taken) => taken.clone(),
        ReportAnswer::OutOfOrder { scanned_through } => {
            ReportTaken { scanned_through: *scanned_through, ..ReportTaken::default() }
        }
        ReportAnswer::Refused(refusal) => return Err(Error::failed(refusal.to_string())),
    };
    to.set_scanned_through(taken.scanned_through);
    to.set_junk(taken.junk);
    let len = count(taken.wanted.len());
    let mut wanted = to.init_wanted(len);
    for (index, open) in (0..len).zip(&taken.wanted) {
        convert::set_id(wanted.reborrow().get(index), BlockId { height: open.height, hash: open.digest });
    }
    Ok(())
}

pub(super) fn read_answer(from: wire::report_result::Reader<'_>) -> capnp::Result<ReportAnswer> {
    let wanted = from.get_wanted()?.iter().map(|id| {
        let BlockId { height, hash: digest } = convert::id(id)?;
        Ok(Wanted { position: DaPosition::IMPLIED, height, digest })
    });
    Ok(ReportAnswer::Taken(ReportTaken {
        scanned_through: from.get_scanned_through(),
        wanted: wanted.collect::<capnp::Result<_>>()?,
        junk: from.get_junk(),
        passed_over: 0,
    }))
}
