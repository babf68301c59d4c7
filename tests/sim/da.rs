//! The model of the DA layer: blobs at positions that never change, an oracle that says which block wins at each height, and
//! what the hosts' reporters make of it.
//!
//! The oracle is written from the rule alone, and shares no code with the core: the winner at a height is the valid block at
//! the lowest position whose parent is the winner at the height below.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blocksyncd::block::{BlockId, Hash, Height, Lane, native};
use blocksyncd::sync::{Content, DaEvidence, DaPosition, DaReport, Finding, Found, Name, ReportAnswer, Wanted};
use blocksyncd::verify::{AuthenticBlock, Fault, Rules, Tip};
use bytes::Bytes;
use fastrand::Rng;

use super::byzantine_answers;
use super::chain::Chain;
use super::dice::Purpose;
use super::faults::ReportBy;
use super::mutations::Bug;
use super::node::Waits;
use super::tally::State;
use super::world::{Event, World};

#[derive(Debug, Default)]
pub struct Da {
    /// The blobs of DA height `index + 1`.
    heights: Vec<Vec<Bytes>>,
    /// Not included yet, and not before this moment.
    pending: Vec<(Duration, Bytes)>,
    /// What is valid at each rollup height, by position; junk is not in it.
    valid: BTreeMap<Height, BTreeMap<DaPosition, AuthenticBlock>>,
    winners: BTreeMap<Height, (Tip, DaPosition)>,
    /// One fork height: of two branches, this one is to be included first.
    held_back: Vec<AuthenticBlock>,
}

impl Da {
    pub fn height(&self) -> u64 {
        self.heights.len() as u64
    }

    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty() && self.held_back.is_empty()
    }

    pub fn post(&mut self, not_before: Duration, bytes: Bytes) {
        self.pending.push((not_before, bytes));
    }

    /// The winner at `height`, as far as DA goes now. It never changes, unless DA reorganises: what comes later has a higher position.
    pub fn winner(&self, height: Height) -> Option<(Tip, DaPosition)> {
        self.winners.get(&height).copied()
    }

    /// The DA heights of the first and of the last of several blocks of this height.
    pub fn decided_between(&self, height: Height) -> Option<(u64, u64)> {
        let at = self.valid.get(&height).filter(|at| at.values().any(|block| Some(block) != at.values().next()))?;
        Some((at.keys().next()?.height, at.keys().next_back()?.height))
    }

    pub fn last_winner(&self) -> Option<BlockId> {
        self.winners.last_key_value().map(|(_, (tip, _))| tip.id)
    }

    /// Takes what is from this height on; what is left is as if nothing had been above.
    pub fn take_from(&mut self, height: u64, chain: &mut Chain) -> Vec<Bytes> {
        let kept = usize::try_from(height.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut heights = std::mem::take(&mut self.heights);
        let taken = heights.split_off(kept.min(heights.len()));
        self.valid.clear();
        self.winners.clear();
        for blobs in heights {
            self.include(blobs, chain);
        }
        taken.into_iter().flatten().collect()
    }

    pub fn include(&mut self, bytes: Vec<Bytes>, chain: &mut Chain) {
        let height = self.height() + 1;
        for (index, blob) in (0..).zip(&bytes) {
            if let Ok(block) = chain.truth(blob) {
                self.valid.entry(block.height()).or_default().insert(DaPosition { height, index }, block);
            }
        }
        self.heights.push(bytes);
        loop {
            let (next, parent) = match self.winners.last_key_value() {
                None => (chain.initial_height(), None),
                Some((height, (tip, _))) => (height.next(), Some(*tip)),
            };
            let linked = |(position, block): (&DaPosition, &AuthenticBlock)| {
                block.link(parent).ok().map(|block| (block.tip(), *position))
            };
            let Some(winner) = self.valid.get(&next).and_then(|at| at.iter().find_map(linked)) else { break };
            self.winners.insert(next, winner);
        }
    }
}

/// Who posts a block: of the first two only one may be the winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poster {
    Publisher,
    Twin,
    Third,
}

/// A host's watch over DA.
#[derive(Clone, Debug, Default)]
pub struct Reporter {
    /// Which of the two that report in turn.
    pub number: u8,
    /// How it names what it sees, if not as all others do.
    pub by: Option<ReportBy>,
    /// Its next report covers more than there is: everything up to here.
    pub exaggerates: Option<u64>,
    scanned: u64,
    waiting_since: Option<Duration>,
    wanted: Vec<Wanted>,
    /// It asked the sidecar from where to go on.
    placed: bool,
}

impl Reporter {
    /// Which reports in turn with another one.
    pub fn second() -> Self {
        Self { number: 1, ..Self::default() }
    }

    pub fn forget(&mut self) {
        *self = Self { number: self.number, by: self.by, exaggerates: self.exaggerates, ..Self::default() };
    }

    pub fn answered(&mut self, answer: &ReportAnswer) {
        self.waiting_since = None;
        match answer {
            ReportAnswer::Taken(taken) => {
                self.scanned = taken.scanned_through;
                self.wanted.clone_from(&taken.wanted);
            }
            ReportAnswer::OutOfOrder { scanned_through } => self.scanned = *scanned_through,
            // It looks at all of it again.
            ReportAnswer::Refused(_) => self.wanted.clear(),
        }
    }
}

const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

impl World {
    pub fn da_turn(&mut self) {
        let now = self.now;
        let (mut ready, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.da.pending).into_iter().partition(|(at, _)| *at <= now);
        self.da.pending = later;
        if !self.healed {
            self.dice.common(Purpose::Da).shuffle(&mut ready);
        }
        let mut blobs = Vec::new();
        for (_, blob) in ready {
            self.da_junk(&blob, &mut blobs);
            blobs.push(blob);
        }
        self.trace.note(now, format_args!("DA {} has {} blobs", self.da.height() + 1, blobs.len()));
        self.da.include(blobs, &mut self.chain);
        if let (Some(twin), Some(fork)) = (self.plan.twin, self.fork_height()) {
            self.release_losers(twin.wins, fork);
        }
    }

    /// Anybody can post to a namespace: in front of a block come copies of it that nobody signed, and plain junk.
    fn da_junk(&mut self, blob: &Bytes, blobs: &mut Vec<Bytes>) {
        let chance = if self.healed { 0.0 } else { self.plan.da_junk };
        if self.dice.common(Purpose::Da).f64() < chance
            && let Ok(block) = self.chain.truth(blob)
        {
            blobs.push(byzantine_answers::copy(&block, self.dice.common(Purpose::Da)));
            // A losing branch's block, with a junk signature, in front of the winner.
            if let Some(other) = self.other_at(&block) {
                blobs.push(super::chain::resigned(&other));
            }
        }
        let rng = self.dice.common(Purpose::Da);
        if rng.f64() < chance {
            blobs.push((0..rng.usize(0..90)).map(|_| rng.u8(..)).collect());
        }
        let repost = if self.healed { 0.0 } else { self.plan.da_repost };
        if rng.f64() < repost {
            self.da.post(self.now + Duration::from_millis(rng.u64(0..=6_000)), blob.clone());
        }
    }

    /// The publisher, or the twin, posts a block.
    pub fn post_to_da(&mut self, block: &AuthenticBlock, by: Poster) {
        if by != Poster::Third
            && let (Some(twin), Some(fork)) = (self.plan.twin, self.fork_height())
            && !self.healed
            && block.height() >= fork
            && (by == Poster::Twin) != twin.wins
            && !self.winner_is_included(fork, twin.wins)
        {
            return self.da.held_back.push(block.clone());
        }
        let span = u64::try_from(self.plan.da_delay.as_millis()).unwrap_or(0);
        let delay = if self.healed { 0 } else { self.dice.common(Purpose::Da).u64(0..=span) };
        self.da.post(self.now + Duration::from_millis(delay), block.block().bytes().clone());
    }

    /// Whether the first block of the branch that is to win is on DA.
    fn winner_is_included(&self, fork: Height, twin_wins: bool) -> bool {
        let Some(at) = self.da.valid.get(&fork) else { return false };
        at.values().any(|block| self.twins.contains(&block.hash()) == twin_wins)
    }

    fn release_losers(&mut self, twin_wins: bool, fork: Height) {
        if !self.winner_is_included(fork, twin_wins) {
            return;
        }
        for block in std::mem::take(&mut self.da.held_back) {
            self.da.post(self.now, block.block().bytes().clone());
        }
    }

    /// When everything heals: a branch whose rival never came is posted after all.
    pub fn release_all(&mut self) {
        for block in std::mem::take(&mut self.da.held_back) {
            self.da.post(self.now, block.block().bytes().clone());
        }
    }

    fn other_at(&mut self, block: &AuthenticBlock) -> Option<AuthenticBlock> {
        if self.twins.contains(&block.hash()) {
            return self.main_branch().iter().find(|other| other.height() == block.height()).cloned();
        }
        let other = |hash: &Hash| self.chain.signed(*hash).filter(|other| other.height() == block.height()).cloned();
        self.twins.iter().find_map(other)
    }

    /// A reporter reads on from where it stood, and reports.
    pub fn reporter_turn(&mut self, n: usize) {
        if self.nodes[n].life().is_none() || self.plan.without_da {
            return;
        }
        self.change_reporters(n);
        let now = self.now;
        let host = &mut self.hosts[n];
        let reporter = &mut host.reporter;
        if reporter.waiting_since.is_some_and(|since| now < since + ANSWER_PATIENCE) {
            return;
        }
        if !std::mem::replace(&mut reporter.placed, true) {
            reporter.scanned = self.nodes[n].disk.image.heads.scanned_through;
            self.draw_care(n);
        }
        let healed = self.healed;
        if !healed && self.dice.of(Purpose::Reporter, n).f64() < self.plan.report_late {
            return;
        }
        let reporter = &self.hosts[n].reporter;
        let mut from = reporter.scanned.saturating_add(1);
        let rng = self.dice.of(Purpose::Reporter, n);
        if !healed && rng.f64() < self.plan.report_repeat {
            from = from.saturating_sub(rng.u64(0..6)).max(1);
        }
        let to = self.da.height().min(from.saturating_add(rng.u64(0..=7)));
        let wanted = reporter.wanted.clone();
        if !healed && self.plan.report_too_high > 0.0 {
            let rng = self.dice.of(Purpose::Mistakes, n);
            let too_high = rng.f64() < self.plan.report_too_high;
            // Further than anybody may report at once.
            let far = to.saturating_add(rng.u64(1 << 21..=1 << 62));
            self.hosts[n].reporter.exaggerates = too_high.then_some(far);
        }
        let exaggerates = self.hosts[n].reporter.exaggerates.take();
        if from > to && wanted.is_empty() && exaggerates.is_none() {
            return;
        }
        let mut findings = Vec::new();
        let mut through = from.saturating_sub(1);
        for height in from..=to {
            if !healed && self.dice.of(Purpose::Reporter, n).f64() < self.plan.da_outage {
                if self.bug == Some(Bug::CursorPastOutage) {
                    through = height;
                    continue;
                }
                break;
            }
            self.see(n, height, &mut findings);
            through = height;
        }
        if !healed && through >= from && self.plan.report_wrong > 0.0 && self.dice.of(Purpose::Mistakes, n).f64() < 0.3
        {
            // It has looked a little further already, and does not say that it has seen all there.
            let further = (through + 2).min(self.da.height());
            if further > through {
                self.see(n, further, &mut findings);
            }
        }
        for wanted in wanted {
            self.give_wanted(n, wanted, &mut findings);
        }
        if through < from && findings.is_empty() && exaggerates.is_none() {
            return;
        }
        through = exaggerates.unwrap_or(through);
        let host = &mut self.hosts[n];
        host.reporter.waiting_since = Some(now);
        let life = host.life;
        // It covers what it has read just now, and nothing else: the sidecar may have been told to forget the rest.
        let (after, scanned_through) = (from.saturating_sub(1), through);
        let by = self.hosts[n].reporter.number;
        let ticket = self.nodes[n].wait(Waits::Report { by }, n, life);
        let input = self.mutate_report(ticket, DaReport { after, scanned_through, findings });
        self.handle(n, input);
    }

    /// Another reporter, which was there before, takes the place of this one.
    fn change_reporters(&mut self, n: usize) {
        if self.healed || self.plan.reporters == 0.0 {
            return;
        }
        if self.dice.of(Purpose::Turns, n).f64() < self.plan.reporters {
            let host = &mut self.hosts[n];
            std::mem::swap(&mut host.reporter, &mut host.other_reporter);
            self.tally.count(State::ReportersInTurn);
        }
    }

    fn report_by(&self, n: usize) -> ReportBy {
        match self.hosts[n].reporter.by.unwrap_or(self.plan.report_by) {
            // It has them in the end.
            ReportBy::NamesAlone if self.healed => ReportBy::Unverified,
            by => by,
        }
    }

    /// Whoever reports now does so with more or less care.
    fn draw_care(&mut self, n: usize) {
        if self.plan.careless == 0.0 {
            return;
        }
        let rng = self.dice.of(Purpose::Mistakes, n);
        let by = if rng.bool() { ReportBy::Unverified } else { ReportBy::NamesAlone };
        let is_careless = rng.f64() < self.plan.careless;
        self.hosts[n].reporter.by = is_careless.then_some(by);
        self.tally.add(State::CarelessHost, u64::from(is_careless));
    }

    /// What a host says instead, now and then.
    fn mistake(&mut self, n: usize, what: Found) -> Found {
        if let (Found::Named(name), false) = (&what, self.healed) {
            return Found::Named(self.mistaken_name(n, name.clone()));
        }
        if self.healed || self.plan.report_wrong == 0.0 {
            return what;
        }
        let rng = self.dice.of(Purpose::Mistakes, n);
        if rng.f64() >= self.plan.report_wrong {
            return what;
        }
        let wrong = Hash::of(&rng.u64(..).to_le_bytes());
        self.tally.count(State::WrongReport);
        Found::Digest(wrong)
    }

    /// Another name than the right one, now and then.
    fn mistaken_name(&mut self, n: usize, name: Name) -> Name {
        if self.plan.name_wrong == 0.0 || self.dice.of(Purpose::Mistakes, n).f64() >= self.plan.name_wrong {
            return name;
        }
        self.tally.count(State::WrongName);
        let wrong = Hash::of(&self.dice.of(Purpose::Mistakes, n).u64(..).to_le_bytes());
        match name {
            Name::HostId(_) => Name::HostId(Bytes::copy_from_slice(&wrong.0)),
            Name::Payload(_) => Name::Payload(wrong),
            Name::Block(_) => Name::Block(wrong),
        }
    }

    /// A reporter looks again at an open position, and gives the bytes, if it has any.
    fn give_wanted(&mut self, n: usize, wanted: Wanted, findings: &mut Vec<Finding>) {
        if self.report_by(n) == ReportBy::NamesAlone {
            return;
        }
        let Some(syncer) = &self.nodes[n].syncer else { return };
        let rules = Arc::clone(syncer.rules());
        let Wanted { position, height, .. } = wanted;
        let blobs = self.shown(n, position.height);
        if let Some(blob) = usize::try_from(position.index).ok().and_then(|index| blobs.get(index)).cloned() {
            let height = native::decode(&blob, usize::MAX).map_or(height, |found| found.height());
            findings.push(Finding { position, height, what: self.bytes_found(&rules, &blob) });
        }
    }

    /// What a reporter makes of one DA height.
    fn see(&mut self, n: usize, height: u64, findings: &mut Vec<Finding>) {
        let Some(syncer) = &self.nodes[n].syncer else { return };
        let rules = Arc::clone(syncer.rules());
        let blobs = self.shown(n, height);
        for (index, blob) in (0..).zip(&blobs) {
            if let Some((height_said, what)) = self.see_blob(n, &rules, blob) {
                let what = self.mistake(n, what);
                findings.push(Finding { position: DaPosition { height, index }, height: height_said, what });
            }
        }
    }

    /// What a host is shown of a DA height: whoever is misled sees some of it in another order, and misses some.
    fn shown(&mut self, n: usize, height: u64) -> Vec<Bytes> {
        let blobs = height.checked_sub(1).and_then(|index| self.da.heights.get(usize::try_from(index).ok()?));
        let mut blobs = blobs.cloned().unwrap_or_default();
        if self.healed || self.misled != Some(n) {
            return blobs;
        }
        // Whenever it looks, it is shown the same.
        let rng = &mut Rng::with_seed(self.plan.seed ^ height << 8 ^ Purpose::Misled as u64);
        if rng.f64() < self.plan.misled {
            rng.shuffle(&mut blobs);
            if rng.bool() {
                blobs.pop();
            }
            self.tally.count(State::Misled);
        }
        blobs
    }

    /// What a reporter says of bytes, and of which height; `None`: it leaves them out.
    fn see_blob(&mut self, n: usize, rules: &Rules, blob: &Bytes) -> Option<(Height, Found)> {
        let by = self.report_by(n);
        if matches!(by, ReportBy::Unverified | ReportBy::NamesAlone) {
            let found = native::decode(blob, usize::MAX).ok()?;
            return Some((found.height(), Found::Digest(Hash::of(blob))));
        }
        if by.evidence() == DaEvidence::Named {
            // By the host's own rule, which knows nothing of the sidecar's schedule.
            let block = self.chain.truth(blob).ok()?;
            let header = block.block().header();
            let name = match by {
                ReportBy::PayloadHash => Name::Payload(header.payload_hash),
                _ => Name::HostId(header.host_id.clone()),
            };
            return Some((block.height(), Found::Named(name)));
        }
        let block = match self.bytes_found(rules, blob) {
            Found::Bytes { content: Content::Block(block), .. } => block,
            // Whatever the host's schedule makes of it, it is reported as it stands there.
            what @ Found::Bytes { content: Content::Unscheduled { height, .. }, .. } => return Some((height, what)),
            // The bug: it only looks at the header.
            _ if self.bug == Some(Bug::HashWithoutSignature) => {
                let found = native::decode(blob, usize::MAX).ok()?;
                let named = self.chain.signed(found.hash())?;
                return Some((found.height(), Found::Digest(Hash::of(named.block().bytes()))));
            }
            junk => {
                let says = self.dice.of(Purpose::Reporter, n).f64() < self.plan.report_junk;
                return says.then_some((self.chain.initial_height(), junk));
            }
        };
        let what = match by {
            ReportBy::Bytes => self.bytes_found(rules, blob),
            ReportBy::Either if self.dice.of(Purpose::Reporter, n).bool() => self.bytes_found(rules, blob),
            _ => Found::Digest(Hash::of(blob)),
        };
        Some((block.height(), what))
    }

    /// The bytes, and what a node with these rules finds them to be.
    fn bytes_found(&mut self, rules: &Rules, blob: &Bytes) -> Found {
        let content = match self.chain.check(rules, blob) {
            Ok(block) => Content::Block(block),
            Err(Fault::NotScheduled { height, proposer }) => rules
                .check_but_for_the_schedule(Lane::BLOCK, blob)
                .map_or(Content::Junk, |()| Content::Unscheduled { height, proposer }),
            Err(_) => Content::Junk,
        };
        Found::Bytes { digest: Hash::of(blob), content }
    }

    pub fn schedule_da(&mut self) {
        self.later(self.plan.da_block_time, Event::DaTurn);
    }
}
