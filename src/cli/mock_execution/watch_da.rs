//! Watches the DA layer for this chain's blocks, and reports them to the sidecar: by hash only, unless it asks for more.
//!
//! Every block found is verified before it is reported: anybody can post to a namespace, and a hash that was reported binds
//! the sidecar.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;

use super::da_blob;
use super::host::{MockHost, SessionEnd};
use crate::api::client::{ClientError, Reporter};
use crate::api::{ReportedAs, ReportedSighting};
use crate::block::{BlockId, Hash, Lane};
use crate::cli::dev_da::{DaClient, DaError};
use crate::sync::{DaPosition, ReportAnswer, ReportTaken};
use crate::verify::{AuthenticBlock, Rules};

/// Sightings in one report: a few hundred bytes of message each.
const MAX_SIGHTINGS: usize = 512;
/// Recent sightings whose place on DA is remembered, in case the sidecar wants their bytes.
const REMEMBERED: usize = 4096;
const RETRY: Duration = Duration::from_millis(200);

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct DaSettings {
    /// How often to ask for the head.
    pub poll: Duration,
    /// Answer the sidecar's `wanted` with the blocks themselves.
    pub bodies: bool,
}

/// Returns only when the session ends: a DA node that is away is waited for.
pub async fn watch_da(
    host: &RefCell<MockHost>,
    reporter: &Reporter,
    da: &DaClient,
    rules: &Rules,
    settings: DaSettings,
) -> Result<Infallible, SessionEnd> {
    let mut watch = Watch { host, reporter, da, rules, settings, seen: VecDeque::new() };
    let mut scanned = reporter.position().await?;
    loop {
        host.borrow_mut().da_height = scanned;
        match watch.step(scanned).await {
            Ok(Some(next)) => scanned = next,
            // Nothing new.
            Ok(None) => tokio::time::sleep(settings.poll).await,
            Err(WatchError::Da(why)) => {
                eprintln!("mock-execution: {why}");
                tokio::time::sleep(RETRY.max(settings.poll)).await;
            }
            Err(WatchError::Sidecar(ClientError::Overloaded(_))) => tokio::time::sleep(RETRY).await,
            Err(WatchError::Sidecar(error)) => return Err(error.into()),
        }
    }
}

enum WatchError {
    Da(DaError),
    Sidecar(ClientError),
}

impl From<DaError> for WatchError {
    fn from(error: DaError) -> Self {
        Self::Da(error)
    }
}

impl From<ClientError> for WatchError {
    fn from(error: ClientError) -> Self {
        Self::Sidecar(error)
    }
}

struct Watch<'a> {
    host: &'a RefCell<MockHost>,
    reporter: &'a Reporter,
    da: &'a DaClient,
    rules: &'a Rules,
    settings: DaSettings,
    seen: VecDeque<(BlockId, DaPosition)>,
}

impl Watch<'_> {
    /// Reports what there is above `scanned`; the DA height from which to go on, `None` when there is nothing new.
    async fn step(&mut self, scanned: u64) -> Result<Option<u64>, WatchError> {
        let head = self.da.network_head().await?;
        let mut sightings = Vec::new();
        let mut through = scanned;
        while through < head && sightings.len() < MAX_SIGHTINGS {
            through += 1;
            sightings.extend(self.look(through).await?);
        }
        if through == scanned {
            return Ok(None);
        }
        let reported = self.report(scanned, through, sightings).await?;
        self.host.borrow_mut().da_height = reported.scanned_through;
        self.answer_wanted(&reported).await?;
        if reported.scanned_through < through {
            // Something had to be dropped; it may take a moment until there is room.
            tokio::time::sleep(RETRY).await;
        }
        Ok(Some(reported.scanned_through))
    }

    /// The valid blocks of this chain at one DA height.
    async fn look(&mut self, height: u64) -> Result<Vec<ReportedSighting>, DaError> {
        let blocks = self.blocks_at(height).await?;
        let sightings = (0..).zip(blocks).map(|(index, block)| {
            let position = DaPosition { height, index };
            let digest = Hash::of(block.block().bytes());
            ReportedSighting { position, height: block.height(), what: ReportedAs::Digest(digest) }
        });
        let sightings: Vec<_> = sightings.collect();
        for sighting in &sightings {
            if let ReportedAs::Digest(hash) = sighting.what {
                self.seen.push_back((BlockId { height: sighting.height, hash }, sighting.position));
            }
        }
        let excess = self.seen.len().saturating_sub(REMEMBERED);
        self.seen.drain(..excess);
        Ok(sightings)
    }

    async fn blocks_at(&self, height: u64) -> Result<Vec<AuthenticBlock>, DaError> {
        let max_block_bytes = self.rules.max_block_bytes;
        let blobs = self.da.get_all(height).await?;
        let blocks = blobs.into_iter().flat_map(|blob| da_blob::decode(blob, max_block_bytes));
        Ok(blocks.filter_map(|bytes: Bytes| self.rules.check(Lane::BLOCK, &bytes).ok()).collect())
    }

    /// One report, or several when it is too much for one message: a DA height counts as scanned with its last sighting.
    async fn report(
        &self,
        scanned: u64,
        through: u64,
        sightings: Vec<ReportedSighting>,
    ) -> Result<ReportTaken, ClientError> {
        let (mut after, mut rest) = (scanned, sightings.as_slice());
        while rest.len() > MAX_SIGHTINGS {
            let (now, later) = rest.split_at(MAX_SIGHTINGS);
            let complete = later.first().map_or(scanned, |next| next.position.height - 1);
            let reported = taken(self.reporter.report(after, complete, now).await?)?;
            if reported.scanned_through < complete {
                return Ok(reported);
            }
            (after, rest) = (complete, later);
        }
        taken(self.reporter.report(after, through, rest).await?)
    }

    /// DA names blocks that nobody has given to the sidecar.
    async fn answer_wanted(&self, reported: &ReportTaken) -> Result<(), WatchError> {
        let wanted = reported.wanted.iter().filter(|_| self.settings.bodies);
        let found: Vec<DaPosition> = wanted
            .filter_map(|open| self.seen.iter().find(|(seen, _)| seen.hash == open.digest))
            .map(|(_, position)| *position)
            .collect();
        for position in found {
            let blocks = self.blocks_at(position.height).await?;
            let index = usize::try_from(position.index).unwrap_or(usize::MAX);
            let Some(block) = blocks.get(index) else { continue };
            let what = ReportedAs::SignedBlock(block.block().bytes().clone());
            let sighting = ReportedSighting { position, height: block.height(), what };
            self.reporter.report(reported.scanned_through, reported.scanned_through, &[sighting]).await?;
        }
        Ok(())
    }
}

/// What became of a report, as far as it goes on from there.
fn taken(answer: ReportAnswer) -> Result<ReportTaken, ClientError> {
    match answer {
        ReportAnswer::Taken(taken) => Ok(taken),
        ReportAnswer::OutOfOrder { scanned_through } => Ok(ReportTaken { scanned_through, ..ReportTaken::default() }),
        ReportAnswer::Refused(refusal) => Err(ClientError::Invalid(refusal.to_string())),
    }
}
