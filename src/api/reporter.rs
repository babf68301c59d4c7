//! The DA reporter's role: sightings in, by the report or one large block in pieces.
//!
//! Invariant: whatever a report brings has its room in the intake before a byte of it is copied, until the node has answered.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use capnp::Error;
use tokio::sync::OwnedSemaphorePermit;

use super::Request;
use super::blocksync_capnp as wire;
use super::report::{self, ReportResult, ReportedAs, ReportedSighting, Unread};
use super::shared::{ClientConnection, CountGuard, Fence, RETRY_MS};
use super::upload::{Arrived, Upload, UploadParts};

/// What the role and its uploads share.
struct ReporterState {
    connection: Rc<ClientConnection>,
    fence: Fence,
    _count_guard: Rc<CountGuard>,
}

/// Tells what DA has.
pub(super) struct Reporter {
    state: Rc<ReporterState>,
}

impl Reporter {
    pub fn new(connection: Rc<ClientConnection>, fence: Fence, count_guard: Rc<CountGuard>) -> Self {
        // Nobody will complete what was begun before.
        connection.server.sighting_uploads.forget_all();
        Self { state: Rc::new(ReporterState { connection, fence, _count_guard: count_guard }) }
    }
}

/// A report, read.
struct Report {
    after: u64,
    scanned_through: u64,
    sightings: Vec<ReportedSighting>,
    permit: OwnedSemaphorePermit,
}

impl ReporterState {
    fn read(&self, from: wire::da_reporter::report_params::Reader<'_>) -> Result<Report, Unread> {
        let server = &self.connection.server;
        let bounds = server.limits.report_bounds();
        // A message may be read twice, and no more often: once here, once below.
        let list = from.get_sightings()?;
        let cost = report::cost(from.total_size()?, list.len());
        if cost > bounds.report_bytes {
            return Err(Unread::Denied(report::too_large_report(cost, bounds)));
        }
        let no_room = || Unread::Broken(Error::overloaded("too much is on its way in".into()));
        let permit = server.intake(cost).ok_or_else(no_room)?;
        let sightings = report::read_sightings(list, bounds)?;
        Ok(Report { after: from.get_after(), scanned_through: from.get_scanned_through(), sightings, permit })
    }

    async fn report(&self, report: Report) -> capnp::Result<ReportResult> {
        let Report { after, scanned_through, sightings, permit } = report;
        let request = |reply| Request::Report { after, scanned_through, sightings, reply };
        Ok(self.connection.server.ask_holding(permit, request).await?.into())
    }
}

impl wire::da_reporter::Server for Reporter {
    async fn report(
        self: Rc<Self>,
        params: wire::da_reporter::ReportParams,
        mut results: wire::da_reporter::ReportResults,
    ) -> capnp::Result<()> {
        let _call = self.state.connection.enter_as(&self.state.fence)?;
        let read = self.state.read(params.get()?);
        drop(params);
        let result = match read {
            Ok(report) => self.state.report(report).await?,
            Err(Unread::Denied(denial)) => ReportResult::Refused(denial),
            Err(Unread::Broken(error)) => return Err(error),
        };
        report::write_result(results.get().init_result(), &result);
        Ok(())
    }

    async fn position(
        self: Rc<Self>,
        _: wire::da_reporter::PositionParams,
        mut results: wire::da_reporter::PositionResults,
    ) -> capnp::Result<()> {
        let _call = self.state.connection.enter_as(&self.state.fence)?;
        results.get().set_scanned_through(self.state.connection.server.announced().heads.scanned_through);
        Ok(())
    }

    async fn upload(
        self: Rc<Self>,
        params: wire::da_reporter::UploadParams,
        mut results: wire::da_reporter::UploadResults,
    ) -> capnp::Result<()> {
        let _call = self.state.connection.enter_as(&self.state.fence)?;
        let from = params.get()?;
        let mut to = results.get().init_result();
        let (sighting, size) = match self.begin(from.get_sighting()?, from.get_bytes()) {
            Ok(begun) => begun,
            Err(Unread::Denied(denial)) => {
                report::write_denial(to.init_refused(), &denial);
                return Ok(());
            }
            Err(Unread::Broken(error)) => return Err(error),
        };
        let server = &self.state.connection.server;
        let Some(permit) = server.intake(size) else {
            to.set_overloaded(RETRY_MS);
            return Ok(());
        };
        let parts = UploadParts { work: sighting, size, bytes: BytesMut::new(), permit };
        let upload = SightingUpload { state: self.state.clone(), upload: server.sighting_uploads.begin(parts) };
        to.set_upload(capnp_rpc::new_client(upload));
        Ok(())
    }
}

impl Reporter {
    /// Where the bytes that are to come stand, and how many they are.
    fn begin(&self, sighting: wire::da_sighting::Reader<'_>, bytes: u64) -> Result<(ReportedSighting, usize), Unread> {
        let bounds = self.state.connection.server.limits.report_bounds();
        let sighting = report::read_sighting(sighting, bounds)?;
        if sighting.what != ReportedAs::SignedBlock(Bytes::new()) {
            return Err(Unread::Broken(Error::failed(
                "an upload is of a signedBlock, which is empty until then".into(),
            )));
        }
        let size = usize::try_from(bytes).ok().filter(|size| *size <= bounds.block_bytes);
        let too_large = || Unread::Denied(report::too_large_block(sighting.position, bytes, bounds));
        let size = size.ok_or_else(too_large)?;
        Ok((sighting, size))
    }
}

/// A block on DA whose bytes arrive in pieces.
struct SightingUpload {
    state: Rc<ReporterState>,
    upload: Upload<ReportedSighting>,
}

impl wire::sighting_upload::Server for SightingUpload {
    async fn write(
        self: Rc<Self>,
        params: wire::sighting_upload::WriteParams,
        mut results: wire::sighting_upload::WriteResults,
    ) -> capnp::Result<()> {
        let _call = self.state.connection.enter_as(&self.state.fence)?;
        let from = params.get()?;
        results.get().set_received(self.upload.write(from.get_offset(), from.get_data()?)?);
        Ok(())
    }

    async fn commit(
        self: Rc<Self>,
        _: wire::sighting_upload::CommitParams,
        mut results: wire::sighting_upload::CommitResults,
    ) -> capnp::Result<()> {
        let _call = self.state.connection.enter_as(&self.state.fence)?;
        let Arrived { work: sighting, bytes, permit } = self.upload.take()?;
        let sighting = ReportedSighting { what: ReportedAs::SignedBlock(bytes), ..sighting };
        // From nowhere to nowhere: it covers nothing.
        let report = Report { after: 0, scanned_through: 0, sightings: vec![sighting], permit };
        report::write_result(results.get().init_result(), &self.state.report(report).await?);
        Ok(())
    }
}
