//! What is on one node's disk as of one commit, and what every change of it is held to.
//!
//! Invariants, each of which a batch of the core's may break, and never does:
//! 1. What is stored is authentic, and linked to what is stored below or above it; the heads say what is stored.
//! 2. Nothing is pruned that anybody needs, and no more than must be.
//! 3. What a consumer has acknowledged is on the chain, or was pruned since.
//! 4. What is taken back, but for a host's veto, is given up in the same commit; what is stored is not given up.
//! 5. Of each height above hard the evidence is kept once.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use blocksyncd::block::{BlockId, Hash, Header, Height};
use blocksyncd::sync::{
    Anchor, Batch, Change, DaNotes, DaPosition, Disowned, Epoch, Evidence, EvidenceId, EvidenceSide, Halt, Heads,
    History, LostWord, Origin, ProvedBlock, Sighting, Stored,
};
use blocksyncd::verify::{ScheduleEntry, Tip, VerifiedBlock};

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
    /// The process that runs is to have a block above hard that was hard before a loss, or that its operator trusts.
    pub leads_back: bool,
    pub heads: Heads,
    /// What damage took of what was said.
    pub lost_words: BTreeSet<LostWord>,
    /// Consumers whose block was on the chain when they acknowledged it.
    pub(super) founded: BTreeSet<String>,
    /// So much evidence the core keeps in mind.
    pub(super) most_evidence: usize,
    initial_height: Height,
    /// What the lowest block links to, or the next one will.
    pub(super) below: Option<BlockId>,
    /// Of the stored blocks.
    bytes: u64,
}

/// So many blocks more than must be may be pruned.
const SPARE_BLOCKS: u64 = 3;

fn weight(block: &VerifiedBlock) -> u64 {
    block.block().bytes().len() as u64
}

impl Image {
    pub(super) fn empty(initial_height: Height) -> Self {
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
            leads_back: false,
            heads: Heads::empty(initial_height),
            lost_words: BTreeSet::new(),
            founded: BTreeSet::new(),
            most_evidence: usize::MAX,
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

    pub(super) fn truncate(&mut self, from: Height) {
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
        let is_too_few = history.retain_blocks.is_none_or(|retain| kept < retain.get());
        if history.max_bytes.is_none() && is_too_few {
            return Err(format!("pruned below {below}, which leaves {kept} blocks up to {floor:?}: {history:?}"));
        }
        // Blocks are taken to be of mean size.
        let slack = self.blocks.values().map(|(block, _)| weight(block)).max().unwrap_or(0) * SPARE_BLOCKS;
        let kept = self.blocks.split_off(&below);
        self.below = self.blocks.last_key_value().map(|(_, (last, _))| last.id());
        for (block, _) in std::mem::replace(&mut self.blocks, kept).values() {
            self.forget(block);
        }
        self.confirmations = self.confirmations.split_off(&below);
        let needless = history.max_bytes.map(NonZeroU64::get).filter(|max| is_too_few && self.bytes + slack < *max);
        match needless {
            Some(max) => Err(format!("pruned below {below}, which leaves {} bytes, may be {max}", self.bytes)),
            None => Ok(()),
        }
    }

    pub(super) fn apply(&mut self, batch: &Batch, history: &History) -> Result<(), String> {
        if self.heads.top().is_none() {
            let begins = batch.changes.iter().find_map(|change| match change {
                Change::Append { block, .. } => Some(block.id().height),
                _ => None,
            });
            self.heads.tail = begins.unwrap_or(batch.heads.tail);
            self.begins_as_trusted(history)?;
        }
        let lost = self.lowest_taken_back(batch);
        for change in &batch.changes {
            self.change(change, history)?;
        }
        let before = self.heads;
        self.heads = Heads { target: None, ..batch.heads };
        self.agree(&before)?;
        self.acked_is_here()?;
        self.given_up_is_gone(lost)
    }

    /// What a batch takes back, for another reason than a host's veto.
    fn lowest_taken_back(&self, batch: &Batch) -> Option<BlockId> {
        if batch.changes.iter().any(|change| matches!(change, Change::Veto(Some(_)))) {
            return None;
        }
        let from = batch.changes.iter().find_map(|change| match change {
            Change::Truncate { from, .. } => Some(*from),
            _ => None,
        });
        from.and_then(|from| self.id(from))
    }

    fn given_up_is_gone(&self, lost: Option<BlockId>) -> Result<(), String> {
        let stored = |id: &&BlockId| self.id(id.height) == Some(**id);
        // Back to the branch of such a block: of what lost by that nothing is said before DA shows it.
        let lost = lost.filter(|_| !self.leads_back);
        if let Some(both) = self.disowned.keys().find(stored) {
            return Err(format!("{both:?} is given up, and stored"));
        }
        let is_forgotten = |lost: &BlockId| {
            let is_decided = Some(lost.height) <= self.heads.hard_height();
            self.id(lost.height) != Some(*lost) && !self.disowned.contains_key(lost) && !is_decided
        };
        match lost.filter(is_forgotten) {
            Some(lost) => Err(format!("{lost:?} was taken back, and is not given up")),
            None => Ok(()),
        }
    }

    fn acked_is_here(&self) -> Result<(), String> {
        let is_gone = |id: &BlockId| id.height >= self.heads.tail && self.id(id.height) != Some(*id);
        match self.acked.iter().find(|(name, id)| self.founded.contains(*name) && is_gone(id)) {
            Some((name, id)) => Err(format!("{name} has acknowledged {id:?}, which was taken back")),
            None => Ok(()),
        }
    }

    /// A consumer has acknowledged what is here. Where nothing is, it is the lowest block that was.
    fn ack(&mut self, consumer: &str, up_to: BlockId) -> Result<(), String> {
        let is_here = self.id(up_to.height) == Some(up_to) || self.below == Some(up_to);
        if !is_here && up_to.height >= self.heads.tail && !self.blocks.is_empty() {
            return Err(format!("{consumer} has acknowledged {up_to:?}, which is not stored"));
        }
        self.acked.insert(consumer.to_owned(), up_to);
        if is_here {
            self.founded.insert(consumer.to_owned());
        } else {
            self.founded.remove(consumer);
        }
        Ok(())
    }

    fn keep_evidence(&mut self, evidence: &Evidence) -> Result<(), String> {
        let mut kept = evidence.clone();
        if let EvidenceSide::Stored(id) = evidence.first {
            let stored = self.block(id.height).filter(|stored| stored.id() == id);
            let stored = stored.ok_or_else(|| format!("evidence names {id:?}, which is not stored"))?;
            kept.first = EvidenceSide::Carried(stored.block().signed_header());
        }
        let hard = self.heads.hard_height();
        let open: BTreeSet<_> = self.evidence.values().map(|known| known.height).filter(|h| Some(*h) > hard).collect();
        if open.len() < self.most_evidence && open.contains(&evidence.height) {
            return Err(format!("evidence of height {} is kept once more", evidence.height));
        }
        self.evidence.insert(kept.id, kept);
        Ok(())
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
            Change::Evidence(evidence) => self.keep_evidence(evidence)?,
            Change::Schedule(entry) => {
                self.schedule.push(*entry);
                self.schedule.sort_unstable_by_key(|entry| entry.from);
            }
            Change::WithdrawSchedule(from) => self.schedule.retain(|entry| entry.from != *from),
            Change::Veto(vetoed) => self.vetoed = *vetoed,
            Change::Halt(halted) => self.halted = *halted,
            Change::Disown(_) | Change::Own(_) => disown(&mut self.disowned, change),
            // Not in the store: see `Disk`.
            Change::ResetGuard(_) => {}
            Change::ForgetLost(word) => drop(self.lost_words.remove(word)),
            Change::Ack { consumer, up_to } => self.ack(consumer, *up_to)?,
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
    pub(super) fn hard_anchor(&self) -> Option<Anchor> {
        let id = self.heads.hard?;
        Some(Anchor { id, position: *self.confirmations.get(&id.height)? })
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

/// Keeps the list of what was given up.
pub(super) fn disown(list: &mut BTreeMap<BlockId, Disowned>, change: &Change) {
    match change {
        Change::Disown(disowned) => drop(list.insert(disowned.id, *disowned)),
        Change::Own(id) => drop(list.remove(id)),
        _ => {}
    }
}
