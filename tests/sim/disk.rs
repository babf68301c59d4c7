//! The model of a node's disk: the store, the high-water mark beside it, and the guard beside the key.
//!
//! Invariants:
//! 1. One write at a time, in the order in which they were decided, wholly there or not: what a crash finds in flight is
//!    decided by a coin.
//! 2. The guard of a batch is on disk no later than the batch.
//! 3. The guard rises only, and never names a second block of one height, unless an operator resets it.
//! 4. Whatever is applied is checked: authentic by its bytes, linked to what is stored below or above it, pruned only where
//!    nobody needs it, and leaving heads that say what is stored. A batch that breaks this, or the guard's rule, is the core's bug.

mod damage;
mod image;

use std::collections::{BTreeMap, VecDeque};

use blocksyncd::block::{BlockId, Height};
use blocksyncd::sync::{
    Anchor, Batch, Change, DaPosition, DataLoss, Disowned, Epoch, GuardEntry, GuardState, History, Origin, Recovered,
    Seen, Sighting, Ticket,
};
use blocksyncd::verify::{AuthenticBlock, Schedule, Tip};
use fastrand::Rng;

pub use damage::{Damage, Record, Unreadable};
pub use image::Image;
use image::disown;

/// The fsynced high-water mark: how far the store once was.
#[derive(Clone, Copy, Debug)]
struct Watermark {
    soft: Option<Height>,
    hard: Option<Anchor>,
    epoch: Epoch,
}

impl Watermark {
    fn of(image: &Image) -> Self {
        Self { soft: image.heads.soft_height(), hard: image.hard_anchor(), epoch: image.heads.epoch }
    }

    /// What was hard before damage is remembered until as much is hard again.
    fn after(self, image: &Image) -> Self {
        let now = Self::of(image);
        let height = |anchor: &Option<Anchor>| anchor.map(|anchor| anchor.id.height);
        Self { hard: [self.hard, now.hard].into_iter().max_by_key(height).flatten(), ..now }
    }

    /// What was hard before damage is the only block that may be stored at its height.
    fn allows(&self, batch: &Batch) -> Result<(), String> {
        let Some(hard) = self.hard.map(|anchor| anchor.id) else { return Ok(()) };
        let other = batch.changes.iter().find_map(|change| match change {
            Change::Append { block, .. } => Some(block.id()).filter(|id| id.height == hard.height && *id != hard),
            _ => None,
        });
        other.map_or(Ok(()), |other| Err(format!("{other:?} is stored, where {hard:?} was hard once")))
    }
}

/// What the writer does next, and says when it is done.
#[derive(Debug)]
pub enum Write {
    Commit(Box<Batch>),
    /// The guard alone, before a signer outside is asked.
    Guard(Ticket, GuardEntry),
}

/// A copy of the data directory, and of what lies beside it.
#[derive(Clone, Debug)]
struct Snapshot {
    image: Image,
    watermark: Watermark,
    guard: GuardState,
    disowned: Option<BTreeMap<BlockId, Disowned>>,
}

#[derive(Debug)]
pub struct Disk {
    /// What readers see, and what a crash leaves.
    pub image: Image,
    watermark: Watermark,
    pub guard: GuardState,
    /// What the guard was before it rose last.
    before: GuardState,
    /// An operator has spoken, and the guard has not been found anew since.
    asserted: bool,
    /// The copy, beside the guard, of what was given up. Where there is one it counts: it is never behind the image.
    disowned: Option<BTreeMap<BlockId, Disowned>>,
    /// What the node was told to keep.
    pub history: History,
    initial_height: Height,
    /// In the order of the decisions; the first one is in flight.
    writes: VecDeque<Write>,
    snapshots: Vec<Snapshot>,
    /// A backup has the guard, too.
    pub backs_up_guard: bool,
    /// In a world with a planted bug: how the disk goes wrong, and what was there before the last write.
    fault: Option<DiskFault>,
    undo: Option<(Image, Watermark, GuardState)>,
    /// What a write would do that no write may.
    wrong: Option<String>,
}

/// Whether this takes back what may have been answered while another write waited: that begins a write of its own.
fn takes_back(later: &Batch) -> bool {
    later.changes.iter().any(|change| matches!(change, Change::Truncate { .. } | Change::ResetGuard(_)))
}

/// How a disk breaks what it promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// The watermark of a write may be there without the write.
    WatermarkAhead,
    /// The last write was not there yet when it was said to be.
    FsyncLies,
}

impl Disk {
    pub fn new(initial_height: Height) -> Self {
        let image = Image::empty(initial_height);
        Self {
            watermark: Watermark::of(&image),
            image,
            guard: GuardState::Unused,
            before: GuardState::Unused,
            asserted: false,
            disowned: None,
            history: History::default(),
            initial_height,
            writes: VecDeque::new(),
            snapshots: Vec::new(),
            backs_up_guard: false,
            fault: None,
            undo: None,
            wrong: None,
        }
    }

    /// The core keeps so much evidence in mind.
    pub fn keeps_evidence(&mut self, most: usize) {
        self.image.most_evidence = most;
    }

    pub fn go_wrong(&mut self, fault: DiskFault) {
        self.fault = Some(fault);
    }

    /// By hand: the next block, or the first one; `below` is what it stands on.
    pub fn put(&mut self, block: &AuthenticBlock, below: Option<Tip>) {
        let image = &mut self.image;
        if image.blocks.is_empty() {
            (image.heads.tail, image.heads.base) = (block.height(), below);
            image.below = below.map(|below| below.id);
        }
        let verified = block.link(below).expect("it links to what is below it");
        image.heads.soft = Some(verified.tip());
        image.store(verified, Origin::Range);
        self.watermark = Watermark::of(image);
    }

    /// By hand: the block at this height was seen on DA.
    pub fn confirm(&mut self, height: Height, position: DaPosition) {
        let image = &mut self.image;
        image.confirmations.insert(height, position);
        image.heads.hard = image.id(height);
        image.heads.scanned_through = image.heads.scanned_through.max(position.height);
        self.watermark = Watermark::of(image);
    }

    /// Takes a decided batch, into the commit that waits last if it may go there; true when a write starts now.
    pub fn commit(&mut self, batch: Batch) -> bool {
        match self.writes.iter_mut().skip(1).next_back() {
            Some(Write::Commit(waiting)) if waiting.may_absorb(&batch) => {
                if takes_back(&batch) {
                    self.wrong
                        .get_or_insert(format!("{batch:?} takes something back, and is in one write with {waiting:?}"));
                }
                waiting.absorb(batch);
            }
            _ => self.writes.push_back(Write::Commit(Box::new(batch))),
        }
        self.writes.len() == 1
    }

    /// Takes the guard of a signature that is asked for outside; true when a write starts now.
    pub fn write_guard(&mut self, ticket: Ticket, entry: GuardEntry) -> bool {
        self.writes.push_back(Write::Guard(ticket, entry));
        self.writes.len() == 1
    }

    /// Whether everything that was decided is on disk.
    pub fn is_idle(&self) -> bool {
        self.writes.is_empty()
    }

    /// The planted bug: the guard does not wait for the commits that were decided before it.
    pub fn write_guard_early(&mut self, entry: GuardEntry) {
        self.guard = GuardState::Signed(entry);
    }

    /// The write in flight is done: gives what it wrote, and whether the next one starts.
    pub fn written(&mut self) -> Result<(Write, bool), String> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        let write = self.writes.pop_front().ok_or("a write ended that never began")?;
        if self.fault == Some(DiskFault::FsyncLies) {
            self.undo = Some((self.image.clone(), self.watermark, self.guard));
        }
        match &write {
            Write::Commit(batch) => self.apply(batch)?,
            Write::Guard(_, entry) => self.raise_guard(*entry)?,
        }
        Ok((write, !self.writes.is_empty()))
    }

    /// The key signs `entry`. The file would refuse to fall; to ask it to is wrong already.
    fn raise_guard(&mut self, entry: GuardEntry) -> Result<(), String> {
        let rises = match self.guard {
            GuardState::Missing => false,
            GuardState::Unused => true,
            GuardState::Signed(known) => known == entry || known.last.height < entry.last.height,
        };
        if !rises {
            return Err(format!("the guard was {:?}, and is to be {entry:?} without an operator's word", self.guard));
        }
        if self.guard != GuardState::Signed(entry) {
            self.before = self.guard;
        }
        self.guard = GuardState::Signed(entry);
        Ok(())
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), String> {
        self.guard_falls_no_further(batch)?;
        self.apply_guard(batch)?;
        self.watermark.allows(batch)?;
        self.image.apply(batch, &self.history)?;
        self.watermark = self.watermark.after(&self.image);
        Ok(())
    }

    /// Without an operator's word the guard falls to what it was before a signature that is not used, or to the top of what is
    /// left of our chain.
    fn guard_falls_no_further(&mut self, batch: &Batch) -> Result<(), String> {
        let resets = batch.changes.iter().filter_map(|change| match change {
            Change::ResetGuard(last) => Some(*last),
            _ => None,
        });
        let from = batch.changes.iter().find_map(|change| match change {
            Change::Truncate { from, .. } => Some(*from),
            _ => None,
        });
        let soft = self.image.heads.soft_height();
        let left = from.map_or(soft, |from| soft.min(from.prev()));
        for last in resets {
            let is_old = GuardState::after(last) == self.before || GuardState::after(last) == self.guard;
            let is_low = left.filter(|left| *left >= self.image.heads.tail) > last.map(|last| last.height);
            if !std::mem::take(&mut self.asserted) && !is_old && is_low {
                return Err(format!("the guard falls from {:?} to {last:?}, and {left:?} is left", self.guard));
            }
        }
        Ok(())
    }

    /// An operator has said what the key signed.
    pub fn guard_is_asserted(&mut self) {
        self.asserted = true;
    }

    /// What was signed after an operator's word stands above it.
    fn apply_guard(&mut self, batch: &Batch) -> Result<(), String> {
        for change in &batch.changes {
            if let Change::ResetGuard(last) = change {
                self.guard = GuardState::after(*last);
            }
            disown(self.disowned.get_or_insert_with(|| self.image.disowned.clone()), change);
        }
        batch.guard.map_or(Ok(()), |entry| self.raise_guard(entry))
    }

    /// The process dies. The write in flight is wholly there or not at all; a batch's guard may be there either way.
    pub fn crash(&mut self, rng: &mut Rng) -> Result<(), String> {
        let in_flight = self.writes.pop_front();
        self.writes.clear();
        if let Some(before) = self.undo.take() {
            (self.image, self.watermark, self.guard) = before;
            return Ok(());
        }
        match in_flight {
            None => Ok(()),
            Some(Write::Guard(_, entry)) => {
                if rng.bool() {
                    self.raise_guard(entry)
                } else {
                    Ok(())
                }
            }
            Some(Write::Commit(batch)) => self.crash_while_committing(&batch, rng),
        }
    }

    fn crash_while_committing(&mut self, batch: &Batch, rng: &mut Rng) -> Result<(), String> {
        if rng.bool() {
            return self.apply(batch);
        }
        if self.fault == Some(DiskFault::WatermarkAhead) {
            self.watermark.soft = self.watermark.soft.max(batch.heads.soft_height());
        }
        if rng.bool() { self.apply_guard(batch) } else { Ok(()) }
    }

    /// Somebody copies the data directory.
    pub fn snapshot(&mut self) {
        let (image, watermark) = (self.image.clone(), self.watermark);
        self.snapshots.push(Snapshot { image, watermark, guard: self.guard, disowned: self.disowned.clone() });
    }

    /// While the process is down: nobody knows any more what the key has signed.
    pub fn lose_guard(&mut self) {
        self.guard = GuardState::Missing;
        self.before = GuardState::Missing;
        self.disowned = None;
    }

    /// What the next process finds. From then on the list of the disowned and its copy are one. What was kept of DA and is of nobody
    /// whom the schedule names, as far as that is still known, cannot be checked, and does not count as read.
    pub fn recover(&mut self, genesis: &Schedule) -> Recovered {
        let mut disowned = self.disowned.take().unwrap_or_else(|| self.image.disowned.clone());
        disowned.retain(|id, _| self.image.id(id.height) != Some(*id));
        self.image.disowned.clone_from(&disowned);
        let listed = disowned.values().copied().collect();
        self.disowned = Some(disowned);
        let pinned = [self.watermark.hard.map(|anchor| anchor.id), self.history.trusted.map(|trusted| trusted.id)];
        self.image.leads_back =
            pinned.into_iter().flatten().any(|pinned| self.image.heads.hard_height() < Some(pinned.height));
        let image = &self.image;
        let mut heads = image.heads;
        let next = heads.next_height();
        heads.epoch = heads.epoch.max(self.watermark.epoch);
        heads.lost =
            self.watermark.soft.filter(|soft| *soft >= next).map(|to| DataLoss { from: next, to }).or(heads.lost);
        let behind = |anchor: &Anchor| heads.hard.is_none_or(|hard| hard.height < anchor.id.height);
        let schedule = genesis.extended(image.schedule.clone());
        let is_checked = |sighting: &Sighting| match &sighting.what {
            Seen::Block(seen) => schedule.names(seen.block.block().header()),
            Seen::Oversized(seen) => schedule.names(&seen.header),
            Seen::Digest(_) | Seen::Named(_) => true,
        };
        let (sightings, refused) = image.sightings.values().cloned().partition(is_checked);
        let refused: Vec<Sighting> = refused;
        let open = image.evidence.values().filter(|evidence| Some(evidence.height) > heads.hard_height());
        Recovered {
            heads,
            sightings,
            refused_sightings: refused.into_iter().map(|refused| refused.position).collect(),
            da_notes: image.da_notes.clone(),
            proved: image.proved.values().copied().collect(),
            evidence: open.cloned().collect(),
            schedule: image.schedule.clone(),
            vetoed: image.vetoed,
            halted: image.halted,
            anchor: self.watermark.hard.filter(behind),
            guard: self.guard,
            consumers: image.acked.iter().map(|(name, id)| (name.clone(), *id)).collect(),
            disowned: listed,
            lost_words: image.lost_words.iter().copied().collect(),
            stored_bytes: image.bytes(),
        }
    }
}
