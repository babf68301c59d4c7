//! What happens to a disk while its node is down, and what the store makes of it: its repair is modelled here, in the words of what
//! the core then finds ([`Recovered`](blocksyncd::sync::Recovered)).
//!
//! What the store does with a damaged record: a block ends the chain below it; a confirmation lets hard fall to the one below, and DA is
//! read again; of a sighting, DA is read again from its height on; for an acknowledgement stands one of the lowest block; for a halt one
//! at the block above hard; what else was said is lost, and known to be.

use std::cell::Cell;

use blocksyncd::block::{BlockId, Hash, Header, Height};
use blocksyncd::sync::{DaPosition, Halt, LOST_BY_DAMAGE, LostWord, Stored};
use fastrand::Rng;

use super::{Disk, Image, Watermark};

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
    /// One record cannot be read.
    Record(Record),
}

/// A record of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// Anywhere in the chain.
    Block,
    /// Of the hard block.
    Confirmation,
    Sighting,
    Ack,
    Halt,
    Veto,
    Schedule,
    Evidence,
}

impl Record {
    pub const ALL: [Self; 8] = [
        Self::Block,
        Self::Confirmation,
        Self::Sighting,
        Self::Ack,
        Self::Halt,
        Self::Veto,
        Self::Schedule,
        Self::Evidence,
    ];
}

impl Disk {
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
            (Damage::StoreLost, _) => {
                let had_consumers = !self.image.acked.is_empty();
                self.image = Image::empty(self.initial_height);
                if had_consumers {
                    self.image.lose_all();
                }
            }
            (Damage::Record(record), _) => self.image.lose(record, rng),
            (Damage::Restored | Damage::TailLost, None) => {}
        }
    }
}

impl Image {
    fn lose(&mut self, record: Record, rng: &mut Rng) {
        match record {
            Record::Block => self.lose_block(rng),
            Record::Confirmation => {
                let top = self.confirmations.keys().next_back().copied();
                if let Some(top) = top.filter(|top| *top > self.heads.tail) {
                    self.hard_falls_below(top);
                }
            }
            Record::Sighting => {
                let positions: Vec<DaPosition> = self.sightings.keys().copied().collect();
                if let Some(position) = rng.choice(positions) {
                    self.sightings.remove(&position);
                    self.read_again_from(position.height);
                }
            }
            Record::Ack => {
                let names: Vec<String> = self.acked.keys().cloned().collect();
                if let Some(name) = rng.choice(names) {
                    self.acked.insert(name, self.lowest());
                }
            }
            Record::Halt => self.lose_halt(),
            Record::Veto => {
                if self.vetoed.take().is_some() {
                    self.lost_words.insert(LostWord::Veto);
                }
            }
            Record::Schedule => {
                if !self.schedule.is_empty() {
                    let entry = self.schedule.remove(rng.usize(0..self.schedule.len()));
                    self.lost_words.insert(LostWord::Schedule(entry.from));
                }
            }
            Record::Evidence => {
                let known: Vec<_> = self.evidence.keys().copied().collect();
                if let Some(id) = rng.choice(known) {
                    self.evidence.remove(&id);
                }
            }
        }
    }

    /// The chain ends below a block that cannot be read.
    fn lose_block(&mut self, rng: &mut Rng) {
        let heights: Vec<Height> = self.blocks.keys().copied().collect();
        let Some(from) = rng.choice(heights) else { return };
        if self.heads.hard_height() >= Some(from) {
            self.hard_falls_below(from);
        }
        self.truncate(from);
        self.heads.soft = self.blocks.last_key_value().map(|(_, (block, _))| block.tip());
        self.founded.retain(|name| self.acked.get(name).is_none_or(|acked| acked.height < from));
    }

    /// DA is read again from below the lowest position that is forgotten, or from its beginning where one of them is not known: what
    /// was fetched below the tail has none.
    fn hard_falls_below(&mut self, from: Height) {
        let was = self.heads.hard_height().unwrap_or(from);
        let gone = self.confirmations.split_off(&from);
        self.heads.hard = self.confirmations.keys().next_back().and_then(|height| self.id(*height));
        let lost_from = self.heads.hard_height().map_or(self.heads.tail, Height::next);
        let lost = was.get().saturating_sub(lost_from.get()) + 1;
        let all_are_known = gone.len() as u64 == lost;
        let lowest = gone.values().map(|position| position.height).min();
        self.read_again_from(lowest.filter(|_| all_are_known).unwrap_or(0));
    }

    fn read_again_from(&mut self, da_height: u64) {
        let heads = &mut self.heads;
        heads.scanned_through = heads.scanned_through.min(da_height.saturating_sub(1)).max(heads.da_floor());
    }

    fn lose_halt(&mut self) {
        if self.halted.take().is_none() {
            return;
        }
        let height = self.heads.hard_height().map_or(self.heads.tail, Height::next);
        self.halted = self.id(height).map(|ours| Halt::Contradicted { ours, position: DaPosition::IMPLIED });
        if self.halted.is_none() {
            self.lost_words.insert(LostWord::Unknown);
        }
    }

    /// The lowest block that anybody can have processed.
    fn lowest(&self) -> BlockId {
        let absent = BlockId { height: self.heads.tail, hash: Hash([0; Hash::LEN]) };
        self.id(self.heads.tail).or(self.below).unwrap_or(absent)
    }

    /// All of it is gone, and it is known that there was more.
    pub(super) fn lose_all(&mut self) {
        self.lost_words.insert(LostWord::Unknown);
        self.acked.insert(LOST_BY_DAMAGE.to_owned(), self.lowest());
    }
}

/// A store that can be read so often, and then no more.
#[derive(Debug)]
pub struct Unreadable<'a> {
    image: &'a Image,
    left: Cell<u32>,
    has_failed: Cell<bool>,
}

impl<'a> Unreadable<'a> {
    pub fn after(reads: u32, image: &'a Image) -> Self {
        Self { image, left: Cell::new(reads), has_failed: Cell::new(false) }
    }

    pub fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    fn read<T>(&self, read: impl FnOnce(&Image) -> Option<T>) -> Option<T> {
        let found = read(self.image)?;
        let left = self.left.get().checked_sub(1);
        self.left.set(left.unwrap_or(0));
        self.has_failed.set(self.has_failed.get() || left.is_none());
        left.map(|_| found)
    }
}

impl Stored for Unreadable<'_> {
    fn digest(&self, height: Height) -> Option<(Hash, usize)> {
        self.read(|image| image.digest(height))
    }

    fn confirmation(&self, height: Height) -> Option<DaPosition> {
        self.read(|image| Stored::confirmation(image, height))
    }

    fn hash(&self, height: Height) -> Option<Hash> {
        self.read(|image| Stored::hash(image, height))
    }

    fn header(&self, height: Height) -> Option<Header> {
        self.read(|image| image.header(height))
    }
}
