//! What the store should hold, in the plainest way.

use std::collections::BTreeMap;

use blocksyncd::block::{BlockId, Hash, Height};
use blocksyncd::store::Snapshot;
use blocksyncd::sync::{
    Basis, Batch, Change, CommitId, Confirmation, DaNotes, DaPosition, Disowned, DisownedBy, Epoch, Evidence,
    EvidenceId, EvidenceSide, GuardEntry, GuardState, Halt, Heads, LeftOut, Name, Origin, OversizedBlock, PassedOver,
    PassedOverRest, ProvedBlock, Recovered, Seen, SeenBlock, Sighting, Unremembered,
};
use blocksyncd::verify::{ScheduleEntry, Tip, VerifiedBlock};
use bytes::Bytes;

use super::{MAX_EVIDENCE, blocks};

pub struct Model {
    /// What is stored, from the tail on.
    chain: Vec<(VerifiedBlock, Origin)>,
    /// What is below the tail: pruned, or never stored.
    below: Vec<VerifiedBlock>,
    heads: Heads,
    confirmations: BTreeMap<Height, Confirmation>,
    sightings: BTreeMap<DaPosition, Sighting>,
    da_notes: DaNotes,
    proved: BTreeMap<Hash, ProvedBlock>,
    retractions: BTreeMap<Epoch, Height>,
    evidence: BTreeMap<EvidenceId, Evidence>,
    schedule: Vec<ScheduleEntry>,
    vetoed: Option<BlockId>,
    halted: Option<Halt>,
    acks: BTreeMap<String, BlockId>,
    guard: GuardState,
    /// What was truncated, and may come back.
    taken_back: Vec<VerifiedBlock>,
    disowned: BTreeMap<Hash, Disowned>,
    /// Hashes that are not stored any more and must not be found any more.
    gone: Vec<Hash>,
    /// Counts blocks, so that no two branches are alike.
    branch: u64,
    commit: CommitId,
    next_position: u64,
}

impl Model {
    /// Of a store that begins at this height.
    pub fn new(begins_at: Height) -> Self {
        Self {
            chain: Vec::new(),
            below: blocks::build_chain(begins_at.get() - 1, 50),
            heads: Heads::empty(Height::MIN),
            confirmations: BTreeMap::new(),
            sightings: BTreeMap::new(),
            da_notes: DaNotes::default(),
            proved: BTreeMap::new(),
            retractions: BTreeMap::new(),
            evidence: BTreeMap::new(),
            schedule: Vec::new(),
            vetoed: None,
            halted: None,
            acks: BTreeMap::new(),
            guard: GuardState::Missing,
            taken_back: Vec::new(),
            disowned: BTreeMap::new(),
            gone: Vec::new(),
            branch: 0,
            commit: CommitId(0),
            next_position: 1,
        }
    }

    /// A few random changes, applied to the model as they are made.
    pub fn random_batch(&mut self, random: &mut fastrand::Rng) -> Batch {
        if self.commit == CommitId(0) {
            self.heads.tail = Height::MIN.plus(self.below.len() as u64);
        }
        let mut changes = Vec::new();
        for _ in 0..random.usize(1..6) {
            if let Some(change) = self.random_change(random) {
                changes.push(change);
            }
        }
        if random.u8(..) < 12 {
            self.guard = GuardState::after(self.heads.soft_id());
            changes.push(Change::ResetGuard(self.heads.soft_id()));
        }
        let guard = self.heads.soft_id().map(|last| GuardEntry { last });
        let guard = guard.filter(|entry| random.u8(..) < 60 && self.may_sign(*entry));
        self.guard = guard.map_or(self.guard, GuardState::Signed);
        self.commit = self.commit.next();
        Batch { id: self.commit, changes, heads: self.heads, guard }
    }

    /// The guard only rises, and says nothing before an operator has spoken.
    fn may_sign(&self, entry: GuardEntry) -> bool {
        match self.guard {
            GuardState::Missing => false,
            GuardState::Unused => true,
            GuardState::Signed(known) => known == entry || known.last.height < entry.last.height,
        }
    }

    fn random_change(&mut self, random: &mut fastrand::Rng) -> Option<Change> {
        match random.u8(0..24) {
            0..=5 => Some(self.append(random)),
            6 => self.truncate(random),
            7..=8 => self.confirm(random),
            9 => Some(self.keep_sighting(random)),
            10 => {
                let position = *self.sightings.keys().next()?;
                self.sightings.remove(&position);
                Some(Change::DropSighting(position))
            }
            11 if random.bool() => Some(self.note_da(random)),
            11 => self.keep_evidence(random),
            12 => {
                if !self.schedule.is_empty() && random.u8(0..4) == 0 {
                    let withdrawn = self.schedule.remove(random.usize(0..self.schedule.len()));
                    return Some(Change::WithdrawSchedule(withdrawn.from));
                }
                let from = self.schedule.last().map_or(Height::MIN.plus(1_000_000), |last| last.from.next());
                let entry = ScheduleEntry { from, proposer: blocks::public_key() };
                self.schedule.push(entry);
                Some(Change::Schedule(entry))
            }
            13 => {
                self.vetoed = if random.bool() { self.heads.soft_id() } else { None };
                Some(Change::Veto(self.vetoed))
            }
            14 => {
                let position = DaPosition { height: random.u64(1..9), index: 3 };
                self.halted = self.heads.soft_id().map(|ours| {
                    if random.bool() {
                        Halt::Diverged { ours, da: BlockId { hash: Hash([9; 32]), ..ours }, position }
                    } else {
                        Halt::Contradicted { ours, position }
                    }
                });
                Some(Change::Halt(self.halted))
            }
            15 => self.prune(random),
            16..=17 => self.prepend(random),
            18 => {
                let consumer = self.acks.keys().next()?.clone();
                self.acks.remove(&consumer);
                Some(Change::ForgetConsumer(consumer))
            }
            20 => {
                let taken_back = self.taken_back.iter().map(VerifiedBlock::id);
                let absent: Vec<_> = taken_back.filter(|id| self.gone.contains(&id.hash)).collect();
                let id = *absent.get(random.usize(..absent.len().max(1)))?;
                let by = if random.bool() { DisownedBy::Da } else { DisownedBy::Operator };
                let disowned = Disowned { id, by };
                self.disowned.insert(id.hash, disowned);
                Some(Change::Disown(disowned))
            }
            21 => {
                let (_, disowned) = self.disowned.pop_first()?;
                Some(Change::Own(disowned.id))
            }
            22 => {
                let parent = random.bool().then(|| Hash([random.u8(..); 32]));
                let id = BlockId { height: self.heads.next_height(), hash: Hash([random.u8(..); 32]) };
                let proved = ProvedBlock { id, parent, proposer: blocks::public_key() };
                self.proved.insert(id.hash, proved);
                Some(Change::KeepProved(proved))
            }
            23 => self.proved.pop_first().map(|(_, proved)| Change::ForgetProved(proved.id)),
            _ => {
                let consumer = format!("consumer-{}", random.u8(0..3));
                let up_to = self.heads.soft_id()?;
                self.acks.insert(consumer.clone(), up_to);
                Some(Change::Ack { consumer, up_to })
            }
        }
    }

    fn append(&mut self, random: &mut fastrand::Rng) -> Change {
        let block = self.next_block(random);
        self.disowned.remove(&block.id().hash);
        self.gone.retain(|hash| *hash != block.id().hash);
        let origins = [Origin::Published, Origin::Gossip, Origin::Range, Origin::Da];
        let origin = origins[random.usize(..origins.len())];
        if self.heads.top().is_none() {
            self.heads.base = Tip::below(block.block());
        }
        self.chain.push((block.clone(), origin));
        self.heads.soft = Some(block.tip());
        Change::Append { block, origin }
    }

    /// A new one, or one that was taken back.
    fn next_block(&mut self, random: &mut fastrand::Rng) -> VerifiedBlock {
        self.branch += 1;
        let parent = self.top();
        let follows = |block: &&VerifiedBlock| block.block().header().parent_hash == parent.map(|top| top.id().hash);
        if random.bool()
            && let Some(known) = self.taken_back.iter().find(follows)
        {
            return known.clone();
        }
        let size = if random.u8(..) < 8 { 200_000 } else { random.usize(0..300) };
        blocks::extend(parent, 1, size, self.branch).remove(0)
    }

    /// What the next block stands on.
    fn top(&self) -> Option<&VerifiedBlock> {
        self.chain.last().map(|(block, _)| block).or(self.below.last())
    }

    fn index(&self, height: Height) -> Option<usize> {
        (height >= self.heads.tail).then(|| usize::try_from(height.above(self.heads.tail)).expect("small"))
    }

    /// Up to hard, or up to soft while there is no hard.
    fn prune(&mut self, random: &mut fastrand::Rng) -> Option<Change> {
        let tail = self.heads.tail;
        let highest = self.heads.hard_height().or(self.heads.soft_height())?;
        let below = tail.plus(random.u64(1..=highest.above(tail).clamp(1, 5)));
        if below > highest {
            return None;
        }
        let kept = self.chain.split_off(self.index(below)?);
        for (block, _) in std::mem::replace(&mut self.chain, kept) {
            self.gone.push(block.id().hash);
            self.below.push(block);
        }
        self.confirmations = self.confirmations.split_off(&below);
        self.heads.tail = below;
        self.heads.base = self.below.last().map(VerifiedBlock::tip);
        Some(Change::Prune { below })
    }

    fn prepend(&mut self, random: &mut fastrand::Rng) -> Option<Change> {
        self.heads.soft?;
        let block = self.below.pop()?;
        let origin = if random.bool() { Origin::Range } else { Origin::Da };
        self.gone.retain(|hash| *hash != block.id().hash);
        self.disowned.remove(&block.id().hash);
        self.chain.insert(0, (block.clone(), origin));
        self.heads.tail = block.id().height;
        self.heads.base = Tip::below(block.block());
        Some(Change::Prepend { block, origin })
    }

    fn truncate(&mut self, random: &mut fastrand::Rng) -> Option<Change> {
        let soft = self.heads.soft_height()?.get();
        let lowest = self.heads.hard_height().map_or(self.heads.tail.get(), |hard| hard.get() + 1);
        if lowest > soft {
            return None;
        }
        let from = Height::new(random.u64(lowest.max(soft.saturating_sub(6))..=soft))?;
        self.heads.epoch = self.heads.epoch.next();
        self.retractions.insert(self.heads.epoch, from);
        let taken = self.chain.split_off(self.index(from)?);
        self.gone.extend(taken.iter().map(|(block, _)| block.id().hash));
        self.taken_back.extend(taken.into_iter().map(|(block, _)| block));
        self.heads.soft = self.chain.last().map(|(block, _)| block.tip());
        Some(Change::Truncate { from, epoch: self.heads.epoch })
    }

    /// The next block becomes hard.
    fn confirm(&mut self, random: &mut fastrand::Rng) -> Option<Change> {
        let height = self.heads.hard_height().map_or(self.heads.tail, Height::next);
        let (block, _) = self.chain.get(self.index(height)?)?;
        let position = DaPosition { height: random.u64(1..100), index: random.u32(0..5) };
        let basis = [Basis::Bytes, Basis::Named, Basis::Trusted][random.usize(0..3)];
        self.heads.hard = Some(block.id());
        self.confirmations.insert(height, Confirmation { position, basis });
        Some(Change::Confirm { height, position, basis })
    }

    fn keep_sighting(&mut self, random: &mut fastrand::Rng) -> Change {
        self.next_position += random.u64(0..3);
        self.heads.scanned_through = self.next_position;
        let position = DaPosition { height: self.next_position, index: random.u32(0..3) };
        let parent = self.top();
        let block = blocks::next(parent, 40, 1_000_000 + self.branch);
        let block = SeenBlock { digest: Hash::of(block.block().bytes()), block };
        let what = match random.u8(0..6) {
            0 => Seen::Block(block),
            1 => Seen::Named(Name::Block(Hash([random.u8(..); 32]))),
            2 => Seen::Named(Name::HostId(Bytes::from(vec![random.u8(..); random.usize(0..64)]))),
            3 => Seen::Named(Name::Payload(Hash([random.u8(..); 32]))),
            4 => Seen::Digest(Hash([random.u8(..); 32])),
            _ => Seen::Oversized(Box::new(OversizedBlock::of(&block))),
        };
        let sighting = Sighting { position, height: self.heads.next_height(), what };
        self.sightings.insert(position, sighting.clone());
        Change::KeepSighting(sighting)
    }

    fn note_da(&mut self, random: &mut fastrand::Rng) -> Change {
        let height = self.heads.next_height();
        let position = DaPosition { height: random.u64(1..100), index: random.u32(0..5) };
        let proposer = blocks::public_key();
        let under = Hash([random.u8(..); 32]);
        self.da_notes = DaNotes {
            left_out: random.bool().then_some(LeftOut { height, position }),
            passed_over: (0..random.u64(0..4))
                .map(|n| PassedOver { height: height.plus(n), proposer, position })
                .collect(),
            passed_over_above: random.bool().then_some(PassedOverRest {
                from: height,
                through: height,
                position,
                under,
            }),
            again_from: random.bool().then_some(position),
            unremembered: random.bool().then_some(Unremembered { height, from: position, through: position.next() }),
        };
        Change::DaNotes(self.da_notes.clone())
    }

    /// Against a block that is stored, or was just appended, or is carried.
    fn keep_evidence(&mut self, random: &mut fastrand::Rng) -> Option<Change> {
        let (block, _) = self.chain.last()?;
        let height = block.id().height;
        let stored = block.block().signed_header();
        let parent = self.chain.iter().rev().nth(1).map(|(parent, _)| parent).or(self.below.last());
        let second = blocks::next(parent, 8, 2_000_000 + self.branch).block().signed_header();
        self.heads.evidence = self.heads.evidence.next();
        let id = self.heads.evidence;
        let first =
            if random.bool() { EvidenceSide::Stored(block.id()) } else { EvidenceSide::Carried(stored.clone()) };
        let change = Evidence { id, height, first, second };
        if self.evidence.values().all(|known| known.height != height) {
            self.evidence.insert(id, Evidence { first: EvidenceSide::Carried(stored), ..change.clone() });
            while self.evidence.len() > MAX_EVIDENCE {
                self.evidence.pop_first();
            }
        }
        Some(Change::Evidence(change))
    }

    pub fn assert_read(&self, snapshot: &Snapshot, at: &str) {
        assert_eq!(snapshot.heads(), Ok(self.heads), "{at}");
        assert_eq!(snapshot.stored_bytes(), Ok(self.stored_bytes()), "{at}");
        for height in 1..=self.heads.next_height().get() + 1 {
            let height = Height::new(height).expect("not 0");
            let stored = self.index(height).and_then(|index| self.chain.get(index));
            let expected = stored.map(|(block, origin)| (block.block().clone(), *origin));
            assert_eq!(snapshot.block(height), Ok(expected), "{at}: block {height}");
            assert_eq!(snapshot.hash(height), Ok(stored.map(|(block, _)| block.id().hash)), "{at}: hash {height}");
            let header = stored.map(|(block, _)| block.block().header().clone());
            assert_eq!(snapshot.header(height), Ok(header), "{at}: header {height}");
            assert_eq!(snapshot.confirmation(height), Ok(self.confirmations.get(&height).copied()), "{at}: {height}");
            if let Some((block, _)) = stored {
                assert_eq!(snapshot.height_of(block.id().hash), Ok(Some(height)), "{at}");
            }
        }
        for hash in &self.gone {
            assert_eq!(snapshot.height_of(*hash), Ok(None), "{at}: a block that was taken back, or pruned");
        }
        for epoch in 0..=self.heads.epoch.0 {
            let later = self.retractions.range(Epoch(epoch + 1)..).map(|(_, from)| *from).min();
            assert_eq!(snapshot.retracted_since(Epoch(epoch)), Ok(later), "{at}: epoch {epoch}");
        }
        let evidence: Vec<_> = self.evidence.values().cloned().collect();
        assert_eq!(snapshot.evidence(EvidenceId(0), usize::MAX), Ok(evidence.clone()), "{at}");
        if let [first, rest @ ..] = evidence.as_slice() {
            let expected = rest.iter().take(2).cloned().collect();
            assert_eq!(snapshot.evidence(first.id, 2), Ok(expected), "{at}: evidence after the first");
        }
        let acks: Vec<_> = self.acks.iter().map(|(name, id)| (name.clone(), *id)).collect();
        for (name, id) in &acks {
            assert_eq!(snapshot.acked(name), Ok(Some(*id)), "{at}");
        }
        assert_eq!(snapshot.acked("nobody"), Ok(None), "{at}");
        assert_eq!(snapshot.acks(), Ok(acks), "{at}");
        assert_eq!(snapshot.schedule(), Ok(self.schedule.clone()), "{at}");
        for block in &self.taken_back {
            let listed = self.disowned.contains_key(&block.id().hash);
            assert_eq!(snapshot.is_disowned(block.id().hash), Ok(listed), "{at}");
        }
        assert_eq!(snapshot.verify(|_| true), Ok(()), "{at}");
    }

    pub fn assert_recovered(&self, recovered: &Recovered, seed: u64) {
        let hard = self.heads.hard_height();
        let expected = Recovered {
            heads: self.heads,
            sightings: self.sightings.values().cloned().collect(),
            refused_sightings: Vec::new(),
            da_notes: self.da_notes.clone(),
            proved: self.proved.values().copied().collect(),
            evidence: self.evidence.values().filter(|kept| Some(kept.height) > hard).cloned().collect(),
            schedule: self.schedule.clone(),
            vetoed: self.vetoed,
            halted: self.halted,
            anchor: None,
            guard: self.guard,
            consumers: self.acks.iter().map(|(name, id)| (name.clone(), *id)).collect(),
            disowned: self.disowned.values().copied().collect(),
            lost_words: Vec::new(),
            stored_bytes: self.stored_bytes(),
        };
        assert_eq!(*recovered, expected, "seed {seed}");
    }

    pub fn stored_bytes(&self) -> u64 {
        self.chain.iter().map(|(block, _)| block.block().bytes().len() as u64).sum()
    }
}
