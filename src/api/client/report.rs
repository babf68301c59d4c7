//! Reporting what DA has.
//!
//! Invariant: no report is sent that the sidecar would refuse for its size alone.

use std::rc::Rc;

use super::{ClientError, Connection, Limits, wire};
use crate::api::report::{self, DenialReason, ReportDenial, ReportResult, ReportedAs, ReportedSighting};
use crate::util::saturate;

/// More than a sighting costs beyond the bytes that it brings.
const SIGHTING_BYTES: usize = 192;

/// The DA reporter's role. It ends with [`ClientError::Disconnected`] when somebody else takes it.
#[derive(Clone)]
pub struct Reporter {
    role: wire::da_reporter::Client,
    max_report_bytes: usize,
    max_piece_bytes: usize,
    _connection: Rc<Connection>,
}

impl std::fmt::Debug for Reporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reporter")
    }
}

impl Reporter {
    pub(super) fn new(role: wire::da_reporter::Client, limits: &Limits, connection: Rc<Connection>) -> Self {
        Self {
            role,
            max_report_bytes: saturate::to_usize(limits.max_report_bytes),
            max_piece_bytes: saturate::to_usize(limits.max_inline_bytes).max(1),
            _connection: connection,
        }
    }

    /// Whether a report may bring this sighting; the bytes of one that does not fit are [given](Self::give) by themselves.
    #[must_use]
    pub fn fits(&self, sighting: &ReportedSighting) -> bool {
        cost(sighting) <= self.max_report_bytes
    }

    /// As many of the first ones as one report may bring, and the others.
    #[must_use]
    pub fn portion<'a>(&self, sightings: &'a [ReportedSighting]) -> (&'a [ReportedSighting], &'a [ReportedSighting]) {
        let mut bytes = 0_usize;
        let fits = |sighting: &&ReportedSighting| {
            bytes = bytes.saturating_add(cost(sighting));
            bytes <= self.max_report_bytes
        };
        sightings.split_at(sightings.iter().take_while(fits).count())
    }

    /// "This is everything that I saw above `after`, up to `scanned_through`", durable when it returns.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] for more than one report may bring.
    pub async fn report(
        &self,
        after: u64,
        scanned_through: u64,
        sightings: &[ReportedSighting],
    ) -> Result<ReportResult, ClientError> {
        let (all, rest) = self.portion(sightings);
        let len = u32::try_from(all.len()).ok().filter(|_| rest.is_empty());
        let len = len.ok_or_else(|| ClientError::Invalid("more than one report may bring".into()))?;
        let mut request = self.role.report_request();
        request.get().set_after(after);
        request.get().set_scanned_through(scanned_through);
        let mut list = request.get().init_sightings(len);
        for (index, sighting) in (0..len).zip(all) {
            report::write_sighting(list.reborrow().get(index), sighting);
        }
        let answer = request.send().promise.await?;
        Ok(report::read_result(answer.get()?.get_result()?)?)
    }

    /// The bytes at one position, however many. It covers no DA height.
    pub async fn give(&self, sighting: &ReportedSighting) -> Result<ReportResult, ClientError> {
        match &sighting.what {
            ReportedAs::SignedBlock(bytes) if !self.fits(sighting) => self.upload(sighting, bytes).await,
            _ => self.report(0, 0, std::slice::from_ref(sighting)).await,
        }
    }

    async fn upload(&self, sighting: &ReportedSighting, bytes: &[u8]) -> Result<ReportResult, ClientError> {
        use wire::upload_sighting_result::Which;
        let place = ReportedSighting { what: ReportedAs::SignedBlock(bytes::Bytes::new()), ..sighting.clone() };
        let mut request = self.role.upload_request();
        request.get().set_bytes(bytes.len() as u64);
        report::write_sighting(request.get().init_sighting(), &place);
        let begun = request.send().promise.await?;
        let upload = match begun.get()?.get_result()?.which()? {
            Which::Upload(upload) => upload?,
            Which::Refused(refusal) => return Ok(ReportResult::Refused(report::read_denial(refusal?)?)),
            Which::Overloaded(_) => return Err(ClientError::Overloaded("too much is on its way in".into())),
        };
        let mut offset = 0;
        for piece in bytes.chunks(self.max_piece_bytes) {
            let mut request = upload.write_request();
            request.get().set_offset(offset);
            request.get().set_data(piece);
            request.send().promise.await?;
            offset += piece.len() as u64;
        }
        let answer = upload.commit_request().send().promise.await?;
        Ok(report::read_result(answer.get()?.get_result()?)?)
    }

    /// The DA height up to which everything was reported; go on from the next one.
    pub async fn position(&self) -> Result<u64, ClientError> {
        Ok(self.role.position_request().send().promise.await?.get()?.get_scanned_through())
    }
}

fn cost(sighting: &ReportedSighting) -> usize {
    let bytes = match &sighting.what {
        ReportedAs::SignedBlock(bytes) | ReportedAs::HostId(bytes) => bytes.len(),
        ReportedAs::Digest(_) | ReportedAs::BlockHash(_) | ReportedAs::PayloadHash(_) => 0,
    };
    SIGHTING_BYTES.saturating_add(bytes)
}

impl ReportDenial {
    /// Whether the same may be taken later.
    #[must_use]
    pub fn goes_away(&self) -> bool {
        self.reason == DenialReason::StorageFull
    }
}
