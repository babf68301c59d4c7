//! Watches the DA layer for this chain's blocks, and reports them to the sidecar.
//!
//! Invariants:
//! 1. What was reported is known from the sidecar's answers alone: the next report goes on where the last answer stands, also
//!    when that is lower than what was reported.
//! 2. What the sidecar wants is looked up on DA and given by its bytes, whatever they are, and gives no DA height as scanned.
//! 3. Nothing is named that was not verified, and nothing before it is on disk that it was: see [`super::da_places`].

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use super::da_places::{Bodies, Named, Naming, Place, places};
use super::host::{MockHost, SessionEnd};
use crate::api::ReportedSighting;
use crate::api::client::{ClientError, ReportDenial, ReportResult, Reporter};
use crate::cli::dev_da::{DaClient, DaError};
use crate::sync::{DaEvidence, DaPosition, Wanted};
use crate::verify::Rules;

/// Sightings that are looked for before they are reported.
const MAX_SIGHTINGS: usize = 512;
const RETRY: Duration = Duration::from_millis(200);

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct DaSettings {
    /// How often to ask for the head.
    pub poll: Duration,
    pub bodies: Bodies,
    pub evidence: DaEvidence,
}

/// Returns only when the session ends: a DA node that is away is waited for.
pub async fn watch_da(
    host: &RefCell<MockHost>,
    reporter: &Reporter,
    da: &DaClient,
    rules: &Rules,
    settings: DaSettings,
) -> Result<Infallible, SessionEnd> {
    let naming = Naming::new(settings.evidence, settings.bodies);
    let mut watch = Watch { host, reporter, da, rules, naming, at: Standing::default() };
    watch.at.scanned_through = reporter.position().await?;
    let mut begun = false;
    loop {
        let step = if begun { watch.step().await } else { watch.ask_what_is_wanted().await };
        match step {
            Ok(Step::Forward) => begun = true,
            // Nothing new.
            Ok(Step::Rest) => tokio::time::sleep(settings.poll).await,
            Err(WatchError::Da(why)) => {
                eprintln!("mock-execution: {why}");
                tokio::time::sleep(RETRY.max(settings.poll)).await;
            }
            Err(WatchError::Sidecar(ClientError::Overloaded(_))) => tokio::time::sleep(RETRY).await,
            Err(WatchError::Refused(denial)) if denial.goes_away() => tokio::time::sleep(RETRY).await,
            Err(WatchError::Refused(denial)) => {
                return Err(SessionEnd::Fatal(format!("the sidecar refuses a report: {}", denial.why)));
            }
            Err(WatchError::Sidecar(error)) => return Err(error.into()),
            Err(WatchError::State(error)) => return Err(error.into()),
        }
    }
}

/// What to do next.
enum Step {
    Forward,
    Rest,
}

enum WatchError {
    Da(DaError),
    Sidecar(ClientError),
    Refused(ReportDenial),
    /// What was to be remembered cannot be.
    State(std::io::Error),
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

/// Where the sidecar stands, by its last answer.
#[derive(Clone, Debug, Default)]
struct Standing {
    scanned_through: u64,
    wanted: Vec<Wanted>,
}

struct Watch<'a> {
    host: &'a RefCell<MockHost>,
    reporter: &'a Reporter,
    da: &'a DaClient,
    rules: &'a Rules,
    naming: Naming,
    at: Standing,
}

impl Watch<'_> {
    /// A report of nothing: what is wanted may have been wanted before this session.
    async fn ask_what_is_wanted(&mut self) -> Result<Step, WatchError> {
        let at = self.at.scanned_through;
        self.report(at, at, &[]).await?;
        self.give_wanted().await?;
        Ok(Step::Forward)
    }

    /// Reports what there is above what was reported.
    async fn step(&mut self) -> Result<Step, WatchError> {
        let head = self.da.network_head().await?;
        let scanned = self.at.scanned_through;
        let mut sightings = Vec::new();
        let mut through = scanned;
        while through < head && sightings.len() < MAX_SIGHTINGS {
            through += 1;
            let places = self.places(through).await?;
            for place in &places {
                sightings.extend(self.report_of(place)?);
            }
        }
        if through == scanned {
            return Ok(Step::Rest);
        }
        self.report_all(scanned, through, &sightings).await?;
        self.give_wanted().await?;
        // It has no room for all of it yet, or an operator wants it all again; then there is no hurry.
        Ok(if self.at.scanned_through <= scanned { Step::Rest } else { Step::Forward })
    }

    /// What there is to say of a place.
    fn report_of(&self, place: &Place) -> Result<Option<ReportedSighting>, WatchError> {
        let mut host = self.host.borrow_mut();
        let sighting = self.naming.report(place, self.rules, &host.journal().memory().names);
        if let Some(named) = sighting.as_ref().and_then(Named::of) {
            host.name(named).map_err(WatchError::State)?;
        }
        Ok(sighting)
    }

    async fn places(&self, da_height: u64) -> Result<Vec<Place>, DaError> {
        Ok(places(da_height, self.da.get_all(da_height).await?, self.rules.max_block_bytes))
    }

    /// In as many reports as it takes: a DA height counts as scanned with its last sighting.
    async fn report_all(
        &mut self,
        scanned: u64,
        through: u64,
        sightings: &[ReportedSighting],
    ) -> Result<(), WatchError> {
        let (mut after, mut rest) = (scanned, sightings);
        loop {
            let (now, later) = self.reporter.portion(rest);
            let complete = later.first().map_or(through, |next| next.position.height - 1).max(after);
            if let ([], [large, ..]) = (now, later) {
                // It does not fit into any report, and is here before the DA height counts as scanned.
                self.give(large).await?;
                rest = rest.get(1..).unwrap_or_default();
            } else {
                self.report(after, complete, now).await?;
                if later.is_empty() || self.at.scanned_through < complete {
                    return Ok(());
                }
                (after, rest) = (complete, later);
            }
        }
    }

    /// Answers what is wanted until nothing more is, or until what is left was given already.
    async fn give_wanted(&mut self) -> Result<(), WatchError> {
        let mut given = BTreeSet::new();
        loop {
            let next = self.at.wanted.iter().find(|wanted| !given.contains(&wanted.position));
            let Some(da_height) = next.map(|wanted| wanted.position.height) else { return Ok(()) };
            let here = |wanted: &&Wanted| wanted.position.height == da_height;
            let wanted: BTreeSet<DaPosition> = self.at.wanted.iter().filter(here).map(|it| it.position).collect();
            let places = self.places(da_height).await?;
            for place in places.iter().filter(|place| wanted.contains(&place.position)) {
                self.give(&place.given()).await?;
            }
            given.extend(wanted);
        }
    }

    /// The bytes at one place. Whatever the sidecar says of them, what is there is there.
    async fn give(&mut self, sighting: &ReportedSighting) -> Result<(), WatchError> {
        let result = self.reporter.give(sighting).await?;
        match self.hear(result) {
            Err(WatchError::Refused(denial)) if !denial.goes_away() => {
                eprintln!("mock-execution: the sidecar does not take what stands there: {}", denial.why);
                Ok(())
            }
            heard => heard,
        }
    }

    async fn report(&mut self, after: u64, through: u64, sightings: &[ReportedSighting]) -> Result<(), WatchError> {
        let result = self.reporter.report(after, through, sightings).await?;
        self.hear(result)
    }

    fn hear(&mut self, result: ReportResult) -> Result<(), WatchError> {
        self.at = match result {
            ReportResult::Taken(taken) => Standing { scanned_through: taken.scanned_through, wanted: taken.wanted },
            ReportResult::OutOfOrder { scanned_through } => Standing { scanned_through, wanted: Vec::new() },
            ReportResult::Refused(denial) => return Err(WatchError::Refused(denial)),
        };
        self.host.borrow_mut().da_height = self.at.scanned_through;
        Ok(())
    }
}
