//! Reading: what everybody else sees of the store.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::apply::EvidenceIndex;
use super::db::DbView;
use super::disowned::DisownedList;
use super::record::HeaderRecord;
use super::{StoreError, StoreShared, check, free_bytes};
use crate::block::{Block, BlockId, Hash, Header, Height};
use crate::sync::{
    Anchor, Confirmation, DaPosition, Epoch, Evidence, EvidenceId, GuardState, Heads, Origin, Recovered, Stored,
};
use crate::util::saturate;
use crate::verify::{Rules, ScheduleEntry};

impl StoreShared {
    /// Damage that was met is looked for, everywhere, at the next opening.
    pub(super) fn note(&self, error: &StoreError) {
        if !matches!(error, StoreError::Damaged { .. }) || self.suspect.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!("{error}");
        if let Err(error) = self.paths.request_full_check() {
            tracing::error!(%error, "the damage cannot be noted for the next start");
        }
    }
}

/// Reads; cheap to clone, safe from any thread.
#[derive(Clone, Debug)]
pub struct Reader {
    shared: Arc<StoreShared>,
}

impl Reader {
    pub(super) fn new(shared: Arc<StoreShared>) -> Self {
        Self { shared }
    }

    /// The state as of one commit: nothing that happens later is seen through it. Not to be held for long: what it sees cannot be
    /// cleaned up.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { view: self.shared.db.view(), shared: Arc::clone(&self.shared) }
    }

    /// For one decision of the core.
    #[must_use]
    pub fn for_core(&self) -> CoreReader<'_> {
        CoreReader { reader: self, failed: RefCell::new(None) }
    }

    /// 16 random bytes, made with the database.
    #[must_use]
    pub fn store_id(&self) -> [u8; 16] {
        self.shared.store_id
    }

    /// Bytes that are free for us where the store lies.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the system does not tell.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        free_bytes(&self.shared.paths.dir).map_err(|error| StoreError::io(&self.shared.paths.dir, &error))
    }
}

/// The store as the core reads it, for one decision. Each look-up sees the latest commit: when one lands in between, two
/// look-ups of a decision see two states. A read cannot fail for the core; one that does is remembered: then nothing may be
/// done of what was decided, since damage looked like absence.
#[derive(Debug)]
pub struct CoreReader<'a> {
    reader: &'a Reader,
    failed: RefCell<Option<StoreError>>,
}

impl CoreReader<'_> {
    /// The first read that failed.
    #[must_use]
    pub fn failure(self) -> Option<StoreError> {
        self.failed.into_inner()
    }

    fn found<T>(&self, read: Result<Option<T>, StoreError>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        })
    }
}

impl Stored for CoreReader<'_> {
    fn hash(&self, height: Height) -> Option<Hash> {
        self.found(self.reader.snapshot().hash(height))
    }

    fn header(&self, height: Height) -> Option<Header> {
        self.found(self.reader.snapshot().header(height))
    }

    fn digest(&self, height: Height) -> Option<(Hash, usize)> {
        let block = self.found(self.reader.snapshot().block(height));
        block.map(|(block, _)| (Hash::of(block.bytes()), block.bytes().len()))
    }

    fn confirmation(&self, height: Height) -> Option<DaPosition> {
        self.found(self.reader.snapshot().confirmation(height)).map(|confirmation| confirmation.position)
    }
}

/// One state of the store. [`StoreError::Damaged`] from any of its methods means that the record is there, or must be, and
/// cannot be trusted; it is noted, and repaired at the next start.
#[derive(Debug)]
pub struct Snapshot {
    view: DbView,
    shared: Arc<StoreShared>,
}

impl Snapshot {
    /// Without `target`, which is never stored.
    pub fn heads(&self) -> Result<Heads, StoreError> {
        self.noted(self.view.stamped().map(|stamped| stamped.heads))
    }

    /// Bytes of the stored blocks, without what the database adds.
    pub fn stored_bytes(&self) -> Result<u64, StoreError> {
        self.noted(self.view.stamped().map(|stamped| stamped.blocks_bytes))
    }

    /// `None` when nothing is stored there.
    pub fn block(&self, height: Height) -> Result<Option<(Block, Origin)>, StoreError> {
        let block = self.view.block(self.shared.format, height);
        self.noted(block.and_then(|block| self.not_missing(height, block)))
    }

    /// Bytes of the blocks from `from` to `to`, ascending, up to the first that is not stored. Does not read the payloads.
    pub fn block_sizes(&self, from: Height, to: Height) -> Result<Vec<usize>, StoreError> {
        let size = |record: HeaderRecord| saturate::to_usize(record.block_bytes);
        self.noted(self.view.header_records(from, to).map(|record| record.map(size)).collect())
    }

    /// The blocks from `from` to `to`, ascending, up to the first that is not stored, or is damaged.
    pub fn blocks(&self, from: Height, to: Height) -> impl Iterator<Item = Result<Block, StoreError>> {
        self.view.blocks(self.shared.format, from, to).map(|block| self.noted(block))
    }

    /// `None` when nothing is stored there. Does not read the payload.
    pub fn hash(&self, height: Height) -> Result<Option<Hash>, StoreError> {
        self.noted(self.view.hash(height).and_then(|hash| self.not_missing(height, hash)))
    }

    /// `None` when nothing is stored there. Does not read the payload.
    pub fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        self.noted(self.view.header(height).and_then(|header| self.not_missing(height, header)))
    }

    /// `None` when no stored block has this hash.
    pub fn height_of(&self, hash: Hash) -> Result<Option<Height>, StoreError> {
        self.noted(self.view.height_of(&hash))
    }

    /// Where, and by what, the stored block at this height was confirmed. A hard block of which there is nothing to find is hard
    /// because one above it is.
    pub fn confirmation(&self, height: Height) -> Result<Option<Confirmation>, StoreError> {
        self.noted(self.view.confirmation(height).map(|found| found.map(|(_, confirmation)| confirmation)))
    }

    /// The lowest height taken back by any epoch above `epoch`.
    pub fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, StoreError> {
        self.noted(self.view.retracted_since(epoch))
    }

    /// Ascending, above `after`, at most `max`; `first` is always `Carried`.
    pub fn evidence(&self, after: EvidenceId, max: usize) -> Result<Vec<Evidence>, StoreError> {
        self.noted(self.view.evidence(after, max))
    }

    /// What a named consumer has acknowledged.
    pub fn acked(&self, consumer: &str) -> Result<Option<BlockId>, StoreError> {
        self.noted(self.view.acked(consumer))
    }

    /// Whether this block was given up, and is not stored again.
    pub fn is_disowned(&self, hash: Hash) -> Result<bool, StoreError> {
        self.noted(self.view.is_disowned(&hash))
    }

    /// The block that a host's execution refuses.
    pub fn vetoed(&self) -> Result<Option<BlockId>, StoreError> {
        self.noted(self.view.veto())
    }

    /// What all named consumers have acknowledged, by name.
    pub fn acks(&self) -> Result<Vec<(String, BlockId)>, StoreError> {
        self.noted(self.view.acks())
    }

    /// What was appended to the genesis schedule, ascending.
    pub fn schedule(&self) -> Result<Vec<ScheduleEntry>, StoreError> {
        self.noted(self.view.schedule())
    }

    /// Reads everything, slowly. `go_on` is asked after each block, ascending, and ends it with `false`.
    pub fn verify(&self, go_on: impl FnMut(Height) -> bool) -> Result<(), StoreError> {
        self.noted(check::verify(&self.view, self.shared.format, go_on))
    }

    /// Everything that the core needs to go on.
    pub(super) fn recover(
        &self,
        rules: &Rules,
        anchor: Option<Anchor>,
        guard: GuardState,
        disowned: &DisownedList,
    ) -> Result<(Recovered, EvidenceIndex), StoreError> {
        let heads = self.heads()?;
        let (schedule, extended) = self.fitting_schedule(rules)?;
        let (sightings, refused_sightings) = self.noted(self.view.sightings(&extended))?;
        let da_notes = self.noted(self.view.da_notes())?;
        let proved = self.noted(self.view.proved())?;
        let mut evidence = self.evidence(EvidenceId(0), usize::MAX)?;
        let index: EvidenceIndex = evidence.iter().map(|evidence| (evidence.id, evidence.height)).collect();
        evidence.retain(|evidence| Some(evidence.height) > heads.hard_height());
        let vetoed = self.vetoed()?;
        let halted = self.noted(self.view.halt())?;
        let (consumers, stored_bytes) = (self.acks()?, self.stored_bytes()?);
        let lost_words = self.noted(self.view.lost_words())?;
        let recovered = Recovered {
            heads,
            sightings,
            refused_sightings,
            da_notes,
            proved,
            evidence,
            schedule,
            vetoed,
            halted,
            anchor,
            guard,
            consumers,
            disowned: disowned.iter().collect(),
            lost_words,
            stored_bytes,
        };
        Ok((recovered, index))
    }

    /// What was appended to the genesis schedule and fits onto it, and the rules with all of it.
    fn fitting_schedule(&self, rules: &Rules) -> Result<(Vec<ScheduleEntry>, Rules), StoreError> {
        let mut extended = rules.clone();
        let mut fitting = Vec::new();
        for entry in self.schedule()? {
            match extended.schedule.append(entry) {
                Ok(()) => fitting.push(entry),
                Err(error) => {
                    tracing::warn!(from = %entry.from, %error, "an entry of the stored schedule does not fit onto the genesis schedule: it is ignored");
                }
            }
        }
        Ok((fitting, extended))
    }

    /// A hole in the chain is damage, too.
    fn not_missing<T>(&self, height: Height, found: Option<T>) -> Result<Option<T>, StoreError> {
        if found.is_none() && self.view.stamped()?.heads.stores(height) {
            return Err(StoreError::damaged(format!("block {height}")));
        }
        Ok(found)
    }

    fn noted<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        read.inspect_err(|error| self.shared.note(error))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::block::{ChainId, Format, PublicKey};
    use crate::store::db::Writes;
    use crate::store::keys::{self, Space};
    use crate::store::{Durability, Options, Store};
    use crate::sync::DaEvidence;
    use crate::verify::Schedule;

    #[test]
    fn a_failed_read_is_told_to_the_node_instead_of_the_core() {
        let dir = std::env::temp_dir().join(format!("bsd-core-reader-{}", std::process::id()));
        let options = Options {
            dir: dir.clone(),
            guard: None,
            durability: Durability::Process,
            cache_bytes: 1 << 20,
            max_evidence: 1,
            da_evidence: DaEvidence::Block,
        };
        let proposer = PublicKey(ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes());
        let entry = ScheduleEntry { from: Height::MIN, proposer };
        let rules = Rules {
            format: Format::Native,
            chain_id: ChainId::new("damaged").expect("a valid id"),
            initial_height: Height::MIN,
            max_block_bytes: 1024,
            max_clock_drift: Duration::ZERO,
            schedule: Schedule::new(Height::MIN, &[entry]).expect("a sound key"),
        };
        let (store, reader, _) = Store::open(&options, &rules).expect("it opens");
        let record = ((Space::Headers, keys::height(Height::MIN).to_vec()), Some(b"no record".to_vec()));
        store.shared.db.write(Writes::from([record]), Durability::Process).expect("it is written");

        let absent = reader.for_core();
        assert_eq!(absent.hash(Height::MIN.next()), None);
        assert!(absent.failure().is_none(), "nothing there is no failure");
        let damaged = reader.for_core();
        assert_eq!((damaged.hash(Height::MIN), damaged.header(Height::MIN)), (None, None));
        assert!(matches!(damaged.failure(), Some(StoreError::Damaged { .. })));
        drop((store, reader));
        std::fs::remove_dir_all(&dir).expect("it was ours");
    }
}
