//! The model of a node's disk: the store, the high-water mark beside it, and the guard beside the key.
//!
//! Invariants:
//! 1. One write at a time, in the order in which they were decided, wholly there or not: what a crash finds in flight is
//!    decided by a coin.
//! 2. The guard of a batch is on disk no later than the batch.
//! 3. The guard rises only, and never names a second block of one height, unless an operator resets it.
//! 4. Whatever is applied is checked: authentic by its bytes, linked to what is stored below or above it, pruned only where
//!    nobody needs it, and leaving heads that say what is stored. A batch that breaks this, or the guard's rule, is the core's bug.

use std::collections::{BTreeMap, VecDeque};

use blocksyncd::block::{BlockId, Hash, Header, Height};
use blocksyncd::sync::{
    Anchor, Batch, Change, DaNotes, DaPosition, DataLoss, Disowned, Epoch, Evidence, EvidenceId, EvidenceSide,
    GuardEntry, GuardState, Halt, Heads, History, Origin, ProvedBlock, Recovered, Sighting, Stored, Ticket,
};
use blocksyncd::verify::{AuthenticBlock, ScheduleEntry, Tip, VerifiedBlock};
use fastrand::Rng;

/// What is on disk as of one commit. Cloning shares the blocks' bytes.
#[derive(Clone, Debug)]
pub struct Image {
    pub blocks: BTreeMap<Height, (VerifiedBlock, Origin)>,
    pub heights: BTreeMap<Hash, Height>,
    pub confirmations: BTreeMap<Height, DaPosition>,
    pub sightings: BTreeMap<DaPosition, Sighting>,
    pub da_notes: DaNotes,
    pub proved: BTreeMap<BlockId, ProvedBlock>,
    pub retractions: BTreeMap<Epoch, Height>,
    pub evidence: BTreeMap<EvidenceId, Evidence>,
    pub schedule: Vec<ScheduleEntry>,
    pub vetoed: Option<BlockId>,
    pub halted: Option<Halt>,
    pub acked: BTreeMap<String, BlockId>,
    pub disowned: BTreeMap<BlockId, Disowned>,
    pub heads: Heads,
    initial_height: Height,
    /// What the lowest block links to, or the next one will.
    below: Option<BlockId>,
    /// Of the stored blocks.
    bytes: u64,
}

fn weight(block: &VerifiedBlock) -> u64 {
    block.block().bytes().len() as u64
}

impl Image {
    fn empty(initial_height: Height) -> Self {
        Self {
            blocks: BTreeMap::new(),
            heights: BTreeMap::new(),
            confirmations: BTreeMap::new(),
            sightings: BTreeMap::new(),
            da_notes: DaNotes::default(),
            proved: BTreeMap::new(),
            retractions: BTreeMap::new(),
            evidence: BTreeMap::new(),
            schedule: Vec::new(),
            vetoed: None,
            halted: None,
            acked: BTreeMap::new(),
            disowned: BTreeMap::new(),
            heads: Heads::empty(initial_height),
            initial_height,
            below: None,
            bytes: 0,
        }
    }

    pub fn id(&self, height: Height) -> Option<BlockId> {
        self.blocks.get(&height).map(|(block, _)| block.id())
    }

    pub fn block(&self, height: Height) -> Option<&VerifiedBlock> {
        self.blocks.get(&height).map(|(block, _)| block)
    }

    /// The lowest height taken back by any epoch above `epoch`.
    pub fn retracted_since(&self, epoch: Epoch) -> Option<Height> {
        self.retractions.range(epoch.next()..).map(|(_, from)| *from).min()
    }

    /// Bytes of the stored blocks.
    pub fn initial_height(&self) -> Height {
        self.initial_height
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes it in above or below what is there.
    pub fn store(&mut self, block: VerifiedBlock, origin: Origin) {
        self.bytes += weight(&block);
        self.heights.insert(block.id().hash, block.id().height);
        self.blocks.insert(block.id().height, (block, origin));
    }

    fn forget(&mut self, block: &VerifiedBlock) {
        self.bytes -= weight(block);
        self.heights.remove(&block.id().hash);
    }

    fn truncate(&mut self, from: Height) {
        for (block, _) in self.blocks.split_off(&from).values() {
            self.forget(block);
        }
        self.confirmations.split_off(&from);
    }

    /// Up to where the history may go: the lower of what is decided, and of what every consumer has acknowledged.
    pub fn prune_floor(&self, history: &History) -> Option<Height> {
        let hard = self.confirmations.keys().next_back().copied();
        let soft = self.blocks.keys().next_back().copied().filter(|_| history.prune_unconfirmed);
        let decided = hard.or(soft)?;
        Some(self.acked.values().map(|acked| acked.height).min().map_or(decided, |acked| acked.min(decided)))
    }

    fn prune(&mut self, below: Height, history: &History) -> Result<(), String> {
        if !self.blocks.contains_key(&below) {
            return Err(format!("pruned below {below}, which is not stored"));
        }
        let floor = self.prune_floor(history);
        if floor.is_none_or(|floor| floor < below) {
            return Err(format!("pruned below {below}, and nothing may go above {floor:?}; acked: {:?}", self.acked));
        }
        let kept = floor.map_or(0, |floor| floor.above(below) + 1);
        if history.max_bytes.is_none() && history.retain_blocks.is_none_or(|retain| kept < retain.get()) {
            return Err(format!("pruned below {below}, which leaves {kept} blocks up to {floor:?}: {history:?}"));
        }
        let kept = self.blocks.split_off(&below);
        self.below = self.blocks.last_key_value().map(|(_, (last, _))| last.id());
        for (block, _) in std::mem::replace(&mut self.blocks, kept).values() {
            self.forget(block);
        }
        self.confirmations = self.confirmations.split_off(&below);
        Ok(())
    }

    fn apply(&mut self, batch: &Batch, history: &History) -> Result<(), String> {
        if self.heads.top().is_none() {
            let begins = batch.changes.iter().find_map(|change| match change {
                Change::Append { block, .. } => Some(block.id().height),
                _ => None,
            });
            self.heads.tail = begins.unwrap_or(batch.heads.tail);
            self.begins_as_trusted(history)?;
        }
        for change in &batch.changes {
            self.change(change, history)?;
        }
        let before = self.heads;
        self.heads = Heads { target: None, ..batch.heads };
        self.agree(&before)
    }

    /// An empty store begins at the initial height, or at the block that the operator trusts.
    fn begins_as_trusted(&self, history: &History) -> Result<(), String> {
        let trusted = history.trusted.map(|trusted| trusted.id.height);
        if self.heads.tail == self.initial_height || Some(self.heads.tail) == trusted {
            return Ok(());
        }
        Err(format!("an empty store begins at {}, trusted is {trusted:?}", self.heads.tail))
    }

    fn change(&mut self, change: &Change, history: &History) -> Result<(), String> {
        match change {
            Change::Append { block, origin } => {
                let top = self.blocks.last_key_value().map(|(_, (top, _))| top.id()).or(self.below);
                let height = block.id().height;
                let parent = block.block().header().parent_hash;
                match top {
                    Some(top) if height != top.height.next() || parent != Some(top.hash) => {
                        return Err(format!("{:?} (parent {parent:?}) appended on {top:?}", block.id()));
                    }
                    None if height != self.heads.tail => return Err(format!("{:?} appended first", block.id())),
                    None if height > self.initial_height
                        && history.trusted.map(|trusted| trusted.id) != Some(block.id()) =>
                    {
                        return Err(format!("{:?} appended first, and nobody trusts it", block.id()));
                    }
                    _ => {}
                }
                if self.blocks.is_empty() {
                    self.below = Tip::below(block.block()).map(|below| below.id);
                }
                self.store(block.clone(), *origin);
            }
            Change::Truncate { from, epoch } => {
                if self.heads.hard_height().is_some_and(|hard| *from <= hard) {
                    return Err(format!("truncated from {from}, hard is {:?}", self.heads.hard));
                }
                self.truncate(*from);
                self.retractions.insert(*epoch, *from);
            }
            Change::Begin { tail, .. } => {
                if !self.blocks.is_empty() {
                    return Err(format!("begins at {tail}, and stores blocks"));
                }
                self.below = None;
            }
            Change::DaNotes(notes) => self.da_notes = notes.clone(),
            Change::KeepProved(proved) => drop(self.proved.insert(proved.id, *proved)),
            Change::ForgetProved(id) => drop(self.proved.remove(id)),
            Change::Confirm { height, position, .. } => {
                if !self.blocks.contains_key(height) {
                    return Err(format!("confirmed {height}, which is not stored"));
                }
                self.confirmations.insert(*height, *position);
            }
            Change::KeepSighting(sighting) => {
                self.sightings.insert(sighting.position, sighting.clone());
            }
            Change::DropSighting(position) => {
                self.sightings.remove(position);
            }
            Change::Evidence(evidence) => {
                let mut kept = evidence.clone();
                if let EvidenceSide::Stored(id) = evidence.first {
                    let stored = self.block(id.height).filter(|stored| stored.id() == id);
                    let stored = stored.ok_or_else(|| format!("evidence names {id:?}, which is not stored"))?;
                    kept.first = EvidenceSide::Carried(stored.block().signed_header());
                }
                self.evidence.insert(kept.id, kept);
            }
            Change::Schedule(entry) => self.schedule.push(*entry),
            Change::WithdrawSchedule(from) => self.schedule.retain(|entry| entry.from != *from),
            Change::Veto(vetoed) => self.vetoed = *vetoed,
            Change::Halt(halted) => self.halted = *halted,
            Change::Disown(_) | Change::Own(_) => disown(&mut self.disowned, change),
            // Not in the store: see `Disk`.
            // And damage takes no words here.
            Change::ResetGuard(_) | Change::ForgetLost(_) => {}
            Change::Ack { consumer, up_to } => {
                self.acked.insert(consumer.clone(), *up_to);
            }
            Change::ForgetConsumer(consumer) => {
                self.acked.remove(consumer);
            }
            Change::Prune { below } => self.prune(*below, history)?,
            Change::Prepend { block, origin } => {
                let lowest = self.blocks.first_key_value().map(|(_, (lowest, _))| lowest.block().header().parent_hash);
                if lowest != Some(Some(block.id().hash)) {
                    return Err(format!("{:?} put below a block with the parent {lowest:?}", block.id()));
                }
                self.below = Tip::below(block.block()).map(|below| below.id);
                self.store(block.clone(), *origin);
            }
        }
        Ok(())
    }

    /// Whether the heads say what is stored, and moved as they may.
    fn agree(&self, before: &Heads) -> Result<(), String> {
        let heads = &self.heads;
        let top = self.blocks.last_key_value().map(|(_, (block, _))| block.tip());
        if heads.soft != top {
            return Err(format!("soft says {:?}, the store's top is {top:?}", heads.soft));
        }
        let lowest = self.blocks.keys().next().copied();
        if lowest.is_some_and(|lowest| lowest != heads.tail) {
            return Err(format!("the tail says {}, the lowest block is at {lowest:?}", heads.tail));
        }
        if heads.base.map(|base| base.id) != self.below {
            return Err(format!("the base says {:?}, below the lowest block is {:?}", heads.base, self.below));
        }
        if let Some(hard) = heads.hard
            && (self.id(hard.height) != Some(hard) || !self.confirmations.contains_key(&hard.height))
        {
            return Err(format!("hard says {hard:?}, stored there is {:?}", self.id(hard.height)));
        }
        if heads.epoch < before.epoch {
            return Err(format!("epoch fell from {} to {}", before.epoch, heads.epoch));
        }
        Ok(())
    }

    /// The confirmed block at the hard head.
    fn hard_anchor(&self) -> Option<Anchor> {
        let id = self.heads.hard?;
        Some(Anchor { id, position: *self.confirmations.get(&id.height)? })
    }
}

/// Keeps the list of what was given up.
fn disown(list: &mut BTreeMap<BlockId, Disowned>, change: &Change) {
    match change {
        Change::Disown(disowned) => drop(list.insert(disowned.id, *disowned)),
        Change::Own(id) => drop(list.remove(id)),
        _ => {}
    }
}

impl Stored for Image {
    fn digest(&self, height: Height) -> Option<(Hash, usize)> {
        let bytes = self.blocks.get(&height)?.0.block().bytes();
        Some((Hash::of(bytes), bytes.len()))
    }

    fn confirmation(&self, height: Height) -> Option<DaPosition> {
        self.confirmations.get(&height).copied()
    }

    fn hash(&self, height: Height) -> Option<Hash> {
        self.id(height).map(|id| id.hash)
    }

    fn header(&self, height: Height) -> Option<Header> {
        self.block(height).map(|block| block.block().header().clone())
    }
}

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
}

/// What happened to the disk while the node was down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The whole data directory is gone; the guard, beside the key, is not.
    Wiped,
    /// An older copy of the whole data directory was put back.
    Restored,
    /// The newest part of the store is gone; the watermark knows.
    TailLost,
    /// All of the store is gone; the watermark knows.
    StoreLost,
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
            disowned: None,
            history: History::default(),
            initial_height,
            writes: VecDeque::new(),
            snapshots: Vec::new(),
            backs_up_guard: false,
            fault: None,
            undo: None,
        }
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
            Some(Write::Commit(waiting)) if waiting.may_absorb(&batch) => waiting.absorb(batch),
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
        self.guard = GuardState::Signed(entry);
        Ok(())
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), String> {
        self.apply_guard(batch)?;
        self.image.apply(batch, &self.history)?;
        self.watermark = Watermark::of(&self.image);
        Ok(())
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

    /// While the process is down.
    pub fn damage(&mut self, damage: Damage, rng: &mut Rng) {
        let older = match self.snapshots.len() {
            0 => None,
            len => Some(self.snapshots[rng.usize(0..len)].clone()),
        };
        match (damage, older) {
            (Damage::Wiped, _) => {
                self.image = Image::empty(self.initial_height);
                self.watermark = Watermark::of(&self.image);
                self.snapshots.clear();
            }
            (Damage::Restored, Some(older)) => {
                (self.image, self.watermark) = (older.image, older.watermark);
                if self.backs_up_guard {
                    (self.guard, self.disowned) = (older.guard, older.disowned);
                }
            }
            (Damage::TailLost, Some(older)) => self.image = older.image,
            (Damage::StoreLost, _) => self.image = Image::empty(self.initial_height),
            (Damage::Restored | Damage::TailLost, None) => {}
        }
    }

    /// While the process is down: nobody knows any more what the key has signed.
    pub fn lose_guard(&mut self) {
        self.guard = GuardState::Missing;
        self.disowned = None;
    }

    /// What the next process finds.
    pub fn recover(&self) -> Recovered {
        let image = &self.image;
        let mut heads = image.heads;
        let next = heads.next_height();
        heads.epoch = heads.epoch.max(self.watermark.epoch);
        heads.lost =
            self.watermark.soft.filter(|soft| *soft >= next).map(|to| DataLoss { from: next, to }).or(heads.lost);
        let behind = |anchor: &Anchor| heads.hard.is_none_or(|hard| hard.height < anchor.id.height);
        let open = image.evidence.values().filter(|evidence| Some(evidence.height) > heads.hard_height());
        let disowned = self.disowned.as_ref().unwrap_or(&image.disowned);
        Recovered {
            heads,
            sightings: image.sightings.values().cloned().collect(),
            refused_sightings: Vec::new(),
            da_notes: image.da_notes.clone(),
            proved: image.proved.values().copied().collect(),
            evidence: open.cloned().collect(),
            schedule: image.schedule.clone(),
            vetoed: image.vetoed,
            halted: image.halted,
            anchor: self.watermark.hard.filter(behind),
            guard: self.guard,
            consumers: image.acked.iter().map(|(name, id)| (name.clone(), *id)).collect(),
            disowned: disowned.values().copied().collect(),
            lost_words: Vec::new(),
            stored_bytes: image.bytes(),
        }
    }
}
