//! What DA says: reports are taken in, kept until they can be judged, and judged one height at a time.
//!
//! ```text
//!   report --> sightings (by position) --> judge hard + 1 --> confirmed | winner | wanted | too large | contradicted
//!                                             ^ only from what lies before `known_before`
//! ```
//!
//! Two nodes that scanned the same part of DA have the same hard block, whatever mixture of bytes and digests their hosts
//! reported, in whatever order, and whatever their peers gave them. What that rests on:
//!
//! Invariants:
//! 1. Every sighting above hard that was reported is in the store, or the cursor is below it, or a note says from where DA is
//!    read again before its height is judged: neither a crash, nor a full buffer, nor a schedule that lags loses any.
//! 2. The cursor (`Heads::scanned_through`) never passes what is known without a gap, and never falls below the floor.
//! 3. Before the cursor a position says something new only where it is open: its digest is known, and its bytes are not. From the
//!    cursor on the newest word counts. That a report says nothing of a position says nothing: one DA height may take several.
//!    Where a word was replaced, the cursor does not pass before what follows it was told once more: copies of it were left out.
//!    That is noted on disk, since a host may go on where it was when this node ended.
//! 4. What is taken is what the schedule of that moment makes of it, whatever it was checked by. Bytes that are not here any more and
//!    of which the schedule says otherwise now are reported again.
//! 5. What peers give is no sighting. It may be recognised as what stands at an open position, by its digest and by nothing else.

mod digests;
mod doubts;
mod judgement;
mod news;
mod notes;
mod records;
mod sightings;
mod told;

use std::collections::BTreeSet;

use super::chain::Chain;
use super::decision::Decision;
use super::pending::Pending;
use super::{
    Change, Config, Content, DaEvidence, DaNotes, DaPosition, Epoch, Finding, Found, HardWait, Heads, MAX_WANTED, Name,
    OversizedBlock, PassedOver, ProvedBlock, Seen, SeenBlock, Sighting, Stored, Wanted,
};
use crate::block::{BlockId, Hash, Height};
use crate::util::saturate;
use crate::verify::{AuthenticBlock, Schedule};

pub(super) use judgement::Judgement;
pub(super) use records::DaRecords;

use digests::{DigestAnswer, Digests};
use doubts::Doubts;
use judgement::{Below, Known, Meaning, judge};
use sightings::{Placement, Sightings};

#[derive(Debug)]
pub(super) struct Da {
    evidence: DaEvidence,
    max_block_bytes: usize,
    /// What DA has, above hard.
    sightings: Sightings,
    /// Everything before this position on DA has been reported, and kept until it was judged, or noted.
    known_before: DaPosition,
    notes: DaNotes,
    /// The notes as they were written last.
    written: DaNotes,
    digests: Digests,
    doubts: Doubts,
    /// Blocks whose sightings were forgotten, whatever for, and nobody has asked for since.
    gone: Vec<(DaPosition, ProvedBlock)>,
    /// Positions whose bytes may have to be asked for: those that are known by their digest and were not recognised, in...
    unrecognised: BTreeSet<DaPosition>,
    /// ...this epoch.
    recognised_in: Epoch,
    /// What was asked for last.
    wanted: Vec<Wanted>,
    wait: Option<HardWait>,
    /// What the host calls the block at hard + 1, while none is stored there.
    named: Option<(Height, Name)>,
    /// Findings of unscheduled proposers.
    passed_over: u64,
    /// Findings at or below the trusted block.
    below_trusted: u64,
}

/// What became of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is a block above hard.
    Block(AuthenticBlock),
    /// It is a block of a height that is hard.
    Decided(AuthenticBlock),
    Nothing,
}

/// What the meaning of a digest depends on.
#[derive(Clone, Copy)]
pub(super) struct Holdings<'a> {
    pub chain: &'a Chain,
    pub pending: &'a Pending,
    pub stored: &'a dyn Stored,
}

// ---- Start and end of what is decided ------------------------------------------------------------------------------

impl Da {
    /// Goes on from what was on disk. What this node, or the chain, takes no longer is to be reported again.
    pub fn recover(
        config: &Config,
        records: DaRecords,
        heads: &Heads,
        schedule: &Schedule,
        decision: &mut Decision,
    ) -> Self {
        let limits = config.limits;
        let mut da = Self {
            evidence: config.da_evidence,
            max_block_bytes: limits.max_block_bytes,
            sightings: Sightings::new(limits.sightings, limits.sighting_bytes),
            known_before: DaPosition::after_height(heads.scanned_through),
            notes: records.notes.clone(),
            written: records.notes,
            digests: Digests::new(limits.sightings),
            doubts: Doubts::default(),
            gone: records.gone,
            unrecognised: BTreeSet::new(),
            recognised_in: heads.epoch,
            wanted: Vec::new(),
            wait: None,
            named: None,
            passed_over: 0,
            below_trusted: 0,
        };
        for position in records.refused {
            decision.change(Change::DropSighting(position));
            da.read_again_from(position);
        }
        let next = heads.next_unconfirmed();
        for sighting in records.sightings {
            da.restore(sighting, next, decision);
        }
        if let Some(position) = da.notes.take_scheduled(schedule) {
            da.read_again_from(position);
        }
        da
    }

    fn restore(&mut self, sighting: Sighting, next: Height, decision: &mut Decision) {
        let Sighting { position, height, what } = sighting;
        if height < next {
            decision.change(Change::DropSighting(position));
            return;
        }
        if matches!(what, Seen::Named(_)) != (self.evidence == DaEvidence::Named) {
            decision.change(Change::DropSighting(position));
            self.read_again_from(position);
            return;
        }
        let what = match what {
            Seen::Block(block) => self.as_taken_here(block),
            other => other,
        };
        match self.sightings.place(Sighting { position, height, what: what.clone() }) {
            Placement::Copy => decision.change(Change::DropSighting(position)),
            Placement::Kept { copies } => self.kept(position, &what, &copies, decision),
        }
    }

    /// A decision begins.
    pub fn begin(&mut self) {
        self.digests.begin();
    }

    /// Whether there is more to look up than one decision may: the next one is due at once.
    pub fn goes_on_at_once(&self) -> bool {
        self.digests.are_left_over()
    }

    /// A decision ends: what there is no room for is left out, and what has changed is written.
    pub fn settle(&mut self, chain: &mut Chain, decision: &mut Decision) {
        let next = chain.next_unconfirmed();
        while let Some(shed) = self.sightings.shed() {
            self.forgotten(shed.position, decision);
            self.gone(shed.position, &shed.what);
            if shed.height <= next {
                // What lies before it can be judged all the same, or there would never be room.
                self.read_again_from(shed.position);
            } else {
                self.notes.leave_out(shed.height, shed.position);
            }
        }
        self.read_left_out(next);
        self.known_before = self.known_before.max(DaPosition::after_height(chain.heads().da_floor()));
        chain.set_scanned_through(self.known_before.height.saturating_sub(1));
        self.notes.told_before(self.known_before);
        self.write_notes(decision);
    }

    fn write_notes(&mut self, decision: &mut Decision) {
        if self.notes != self.written {
            self.written = self.notes.clone();
            decision.change(Change::DaNotes(self.notes.clone()));
        }
    }

    /// Whether nothing of DA has been read, or all that was is to be read again. The cursor does not say this: it is at its beginning
    /// also where DA is read again from the middle of its first height.
    pub fn knows_nothing(&self) -> bool {
        self.known_before <= DaPosition::after_height(0)
    }

    fn read_again_from(&mut self, position: DaPosition) {
        self.known_before = self.known_before.min(position);
    }

    /// The same, whatever the present report covers.
    fn report_again_from(&mut self, position: DaPosition) {
        self.read_again_from(position);
        self.notes.again_from = Some(self.notes.again_from.map_or(position, |again| again.min(position)));
    }

    /// Of what was shown there, it could not be remembered that this was. Said after the decision was settled.
    pub fn not_remember(&mut self, height: Height, position: DaPosition, decision: &mut Decision) {
        self.notes.not_remember(height, position);
        self.write_notes(decision);
    }

    /// There is room for what could not be remembered.
    pub fn read_unremembered(&mut self) {
        if let Some(position) = self.notes.take_unremembered() {
            self.read_again_from(position);
        }
    }

    /// Of this height, which is judged next, there may be something for which there was no room.
    fn read_left_out(&mut self, next: Height) {
        if let Some(position) = self.notes.take_left_out(next) {
            self.read_again_from(position);
        }
    }
}

// ---- What is told of DA --------------------------------------------------------------------------------------------

impl Da {
    /// A report is taken: what it brings from the cursor on is told once more.
    pub fn begin_report(&mut self) {
        self.notes.again_from.take_if(|again| *again <= self.known_before);
    }

    /// Takes one finding of a report.
    pub fn take(&mut self, finding: Finding, chain: &Chain, schedule: &Schedule, decision: &mut Decision) -> Taken {
        let Finding { position, height, what } = finding.judged_by(schedule);
        let next = chain.heads().first_undecided();
        if position.height <= chain.heads().da_floor() || !self.is_news(position, height, &what) {
            return Taken::Nothing;
        }
        if what.is_scheduled_after_all(schedule) {
            self.report_again_from(position);
            return Taken::Nothing;
        }
        self.forget_what_was_said(position, height, &what, decision);
        match what {
            Found::Digest(digest) => self.keep(position, height, Seen::Digest(digest), next, decision),
            Found::Named(name) => self.keep(position, height, Seen::Named(name), next, decision),
            Found::Bytes { content: Content::Junk, .. } => {}
            Found::Bytes { content: Content::Unscheduled { height, proposer }, .. } => {
                if height >= next {
                    self.pass_over(PassedOver { height, proposer, position }, schedule);
                }
            }
            Found::Bytes { content: Content::Block(block), digest } => {
                if block.height() < next {
                    return Taken::Decided(block);
                }
                let what = self.as_taken_here(SeenBlock { block: block.clone(), digest });
                self.keep(position, block.height(), what, next, decision);
                return Taken::Block(block);
            }
        }
        Taken::Nothing
    }

    /// A digest stands before the position by which its height became hard.
    pub fn doubt(&mut self, wanted: Wanted) {
        if wanted.position >= self.known_before && self.sightings.get(wanted.position).is_none() {
            self.doubts.add(wanted);
        }
    }

    /// Whether this says something new of the position: of one before the cursor only if it is open.
    fn is_news(&self, position: DaPosition, height: Height, found: &Found) -> bool {
        let may_change = position >= self.known_before;
        let Some(known) = self.sightings.get(position) else {
            let is_asked_for = matches!(found, Found::Bytes { .. }) && self.doubts.has(position);
            return is_asked_for || may_change;
        };
        let is_filled_in = match (&known.what, found) {
            (Seen::Digest(_), Found::Bytes { .. }) => true,
            (Seen::Oversized(block), Found::Bytes { digest, .. }) => {
                block.digest == *digest && self.has_room_for(block)
            }
            _ => false,
        };
        is_filled_in || (may_change && known.is_contradicted_by(height, found))
    }

    /// What was said of a position, of which there is news.
    fn forget_what_was_said(&mut self, position: DaPosition, height: Height, found: &Found, decision: &mut Decision) {
        let known = self.sightings.get(position);
        let said = known.and_then(|known| known.what.digest());
        let is_replaced = position >= self.known_before && known.is_some_and(|it| it.is_contradicted_by(height, found));
        if let (Some(said), Found::Bytes { digest, .. }) = (said, found)
            && said != *digest
        {
            // Copies of what was said to be there may have been left out.
            self.read_again_from(position.next());
        }
        if is_replaced {
            self.report_again_from(position.next());
        }
        self.doubts.settle(position);
        self.forget(position, decision);
    }

    /// Whether a block that was too large once would be taken now.
    fn has_room_for(&self, block: &OversizedBlock) -> bool {
        saturate::to_usize(block.bytes) <= self.max_block_bytes
    }

    fn as_taken_here(&self, seen: SeenBlock) -> Seen {
        if seen.block.size() > self.max_block_bytes {
            Seen::Oversized(Box::new(OversizedBlock::of(&seen)))
        } else {
            Seen::Block(seen)
        }
    }

    fn pass_over(&mut self, passed: PassedOver, schedule: &Schedule) {
        self.passed_over += 1;
        self.notes.pass_over(passed, schedule);
    }

    fn keep(&mut self, position: DaPosition, height: Height, what: Seen, next: Height, decision: &mut Decision) {
        if height < next {
            return;
        }
        if self.notes.leaves_out(height, position) {
            self.notes.leave_out(height, position);
            self.gone(position, &what);
            return;
        }
        let sighting = Sighting { position, height, what };
        if let Placement::Kept { copies } = self.sightings.place(sighting.clone()) {
            self.kept(position, &sighting.what, &copies, decision);
            decision.change(Change::KeepSighting(sighting));
        }
    }

    fn kept(&mut self, position: DaPosition, what: &Seen, copies: &[DaPosition], decision: &mut Decision) {
        for copy in copies {
            self.forgotten(*copy, decision);
        }
        if matches!(what, Seen::Digest(_)) {
            self.unrecognised.insert(position);
        }
    }

    /// What was seen there decides nothing: what comes after it on DA is judged next.
    pub fn forget(&mut self, position: DaPosition, decision: &mut Decision) {
        if let Some(sighting) = self.sightings.remove(position) {
            self.gone(position, &sighting.what);
            self.forgotten(position, decision);
        }
    }

    fn gone(&mut self, position: DaPosition, what: &Seen) {
        self.gone.extend(what.proved().map(|proved| (position, proved)));
    }

    fn forgotten(&mut self, position: DaPosition, decision: &mut Decision) {
        self.unrecognised.remove(&position);
        decision.change(Change::DropSighting(position));
    }

    /// A report covered the DA heights above `after` up to `through`, without a gap.
    pub fn cover(&mut self, after: u64, through: u64) {
        // Not if what it was based on is to be reported again itself.
        if after < self.known_before.height {
            let end = DaPosition::after_height(through);
            let end = self.notes.again_from.take_if(|again| *again < end).unwrap_or(end);
            self.known_before = self.known_before.max(end);
        }
    }

    /// A block that is neither stored nor waits, since another one stands where it would: if its bytes are those at an open
    /// position, that one is open no longer. This trusts nobody: the digest is DA's, and says which bytes stand there; whoever gives
    /// them, a host or a peer, they lead to the same judgement, and all that a peer can do is to spare the host the question.
    pub fn recognise(&mut self, block: &AuthenticBlock, decision: &mut Decision) {
        let height = block.height();
        if !self.sightings.at(height).any(|seen| matches!(seen.what, Seen::Digest(_))) {
            return;
        }
        let digest = self.digests.of_passing(block);
        let named = self.sightings.at(height).find(|seen| seen.what == Seen::Digest(digest)).map(|seen| seen.position);
        if let Some(position) = named {
            self.forget(position, decision);
            let what = self.as_taken_here(SeenBlock { block: block.clone(), digest });
            self.keep(position, height, what, height, decision);
        }
    }

    /// The schedule has changed: what it names now is judged, and what it names no longer is none of this chain.
    pub fn schedule_changed(&mut self, schedule: &Schedule, decision: &mut Decision) {
        if let Some(position) = self.notes.take_scheduled(schedule) {
            self.read_again_from(position);
        }
        for position in self.sightings.unscheduled(schedule) {
            let sighting = self.sightings.get(position);
            if let Some(ProvedBlock { id, proposer, .. }) = sighting.and_then(|sighting| sighting.what.proved()) {
                self.notes.pass_over(PassedOver { height: id.height, proposer, position }, schedule);
            }
            self.forget(position, decision);
        }
    }

    /// Everything from this DA height on is to be reported anew.
    pub fn rescan(&mut self, from: u64, decision: &mut Decision) {
        let position = DaPosition { height: from, index: 0 };
        for later in self.sightings.from(position) {
            self.forget(later, decision);
        }
        self.notes.forget_from(position);
        self.doubts.forget_from(position);
        self.read_again_from(position);
    }

    /// DA shows something at or below the block that the operator trusts.
    pub fn count_below_trusted(&mut self) {
        self.below_trusted += 1;
    }
}

// ---- Judging -------------------------------------------------------------------------------------------------------

impl Da {
    /// What DA says of the height above hard, where `ours` is stored. What can never be part of this chain is forgotten. While
    /// nobody knows what is below that height, only the `trusted` block can be there.
    pub fn judge_next(
        &mut self,
        ours: Option<Hash>,
        trusted: Option<BlockId>,
        holdings: Holdings<'_>,
        decision: &mut Decision,
    ) -> Judgement {
        let heads = holdings.chain.heads();
        let height = holdings.chain.next_unconfirmed();
        self.read_left_out(height);
        let below = match heads.below_unconfirmed() {
            Some(below) => Below::Known(Some(below.hash)),
            None if trusted.is_some_and(|trusted| trusted.height == height) => Below::Unknown(trusted),
            None => Below::Known(None),
        };
        let header = match self.evidence {
            DaEvidence::Block => None,
            DaEvidence::Named => holdings.chain.header(height, holdings.stored),
        };
        let known = Known { before: self.known_before, below, ours, header: header.as_ref() };
        let seen: Vec<_> = self.sightings.at(height).collect();
        let meaning = |digest| meaning(&self.sightings, &mut self.digests, holdings, height, digest);
        let judged = judge(&seen, known, meaning);
        for loser in judged.losers {
            self.forget(loser, decision);
        }
        self.note_what_is_missing(height, &judged.judgement);
        judged.judgement
    }

    fn note_what_is_missing(&mut self, height: Height, judgement: &Judgement) {
        (self.wait, self.named) = (None, None);
        match judgement {
            Judgement::Wanted(wanted) => {
                self.wait = Some(HardWait::Bytes(*wanted));
                // What it was recognised by may have gone.
                self.unrecognised.insert(wanted.position);
            }
            Judgement::TooLarge(block, position) => {
                self.wait = Some(HardWait::TooLarge { position: *position, id: block.id(), bytes: block.bytes });
            }
            Judgement::Named(name, position) => {
                self.named = Some((height, name.clone()));
                self.wait = Some(HardWait::Named { position: *position, height });
            }
            _ => {}
        }
    }

    /// Hard does not rise for this reason.
    pub fn wait_for(&mut self, wait: HardWait) {
        self.wait = Some(wait);
    }

    /// What was seen up to this height decides nothing any more.
    pub fn forget_through(&mut self, height: Height, decision: &mut Decision) {
        for judged in self.sightings.through(height) {
            self.forget(judged, decision);
        }
        self.notes.forget_through(height);
        self.digests.forget_through(height);
    }

    /// The open positions, lowest on DA first.
    pub fn ask_for_bytes(&mut self, holdings: Holdings<'_>) -> Vec<Wanted> {
        let epoch = holdings.chain.heads().epoch;
        if std::mem::replace(&mut self.recognised_in, epoch) != epoch {
            let named = self.sightings.all().filter(|seen| matches!(seen.what, Seen::Digest(_)));
            self.unrecognised = named.map(|seen| seen.position).collect();
        }
        let mut wanted = Vec::new();
        let mut recognised = Vec::new();
        for position in &self.unrecognised {
            let Some(Sighting { height, what: Seen::Digest(digest), .. }) = self.sightings.get(*position) else {
                continue;
            };
            match meaning(&self.sightings, &mut self.digests, holdings, *height, *digest) {
                Meaning::Nobody => wanted.push(Wanted { position: *position, height: *height, digest: *digest }),
                Meaning::Ours => recognised.push(*position),
                Meaning::Of(_) if self.sightings.with_digest(*height, *digest).is_some() => recognised.push(*position),
                // By a block that waits, and may go.
                Meaning::Of(_) => {}
                Meaning::Unread => break,
            }
            if wanted.len() == MAX_WANTED {
                break;
            }
        }
        for position in recognised {
            self.unrecognised.remove(&position);
        }
        self.add_undersized(&mut wanted);
        self.wanted.clone_from(&wanted);
        wanted
    }

    /// Blocks that were too large for this node before it was given more room: their bytes were not kept.
    fn add_undersized(&self, wanted: &mut Vec<Wanted>) {
        let fitting = self.sightings.oversized().filter_map(|(sighting, block)| {
            let Sighting { position, height, .. } = *sighting;
            self.has_room_for(block).then_some(Wanted { position, height, digest: block.digest })
        });
        wanted.extend(fitting.take(MAX_WANTED));
        wanted.sort_by_key(|wanted| wanted.position);
        wanted.truncate(MAX_WANTED);
        // Hard stands still for the others.
        wanted.extend(self.doubts.all().take(MAX_WANTED - wanted.len()));
        wanted.sort_by_key(|wanted| wanted.position);
    }
}

/// Whose bytes have this digest.
fn meaning(
    sightings: &Sightings,
    digests: &mut Digests,
    Holdings { chain, pending, stored }: Holdings<'_>,
    height: Height,
    digest: Hash,
) -> Meaning {
    if let Some(seen) = sightings.with_digest(height, digest) {
        return Meaning::Of(seen.clone());
    }
    if let Some(hash) = chain.hash(height, stored) {
        match digests.of(height, hash, || chain.digest(height, stored)) {
            DigestAnswer::Is(ours) if ours == digest => return Meaning::Ours,
            DigestAnswer::Is(_) => {}
            DigestAnswer::Later | DigestAnswer::Unreadable => return Meaning::Unread,
        }
    }
    for waiting in pending.at(height) {
        let block = &waiting.block;
        match digests.of_waiting(block) {
            DigestAnswer::Is(other) if other == digest => {
                return Meaning::Of(Seen::Block(SeenBlock { block: block.clone(), digest }));
            }
            DigestAnswer::Is(_) => {}
            DigestAnswer::Later | DigestAnswer::Unreadable => return Meaning::Unread,
        }
    }
    Meaning::Nobody
}
