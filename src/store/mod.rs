//! The block store: fjall, behind guarantees that fjall alone does not give. Only the node's writer thread writes it;
//! anyone may read, each answer from one [`Snapshot`].
//!
//! ```text
//!   <dir>/lock              one process at a time
//!        /store/            the database (fjall 3.1.13): the truth
//!        /mark              the high-water mark: what was acknowledged, to miss what vanishes
//!        /store.repaired/   complete, and on its way into the place of the database
//!        /store.damaged-N/  what a repair replaced, the latest
//!        /cut/              what was cut off torn or damaged files, the latest
//!        /suspect           asks for a full check at the next start
//!   the guard               beside the proposer key: what was signed
//!   <guard>.lock            one process at a time, and which
//!   <guard>.disowned        beside the guard: a copy of the list of blocks that were taken back
//! ```
//!
//! Invariants:
//! 1. A commit is atomic. When it returns, it survives a power cut ([`Durability::Power`]) or the death of the process
//!    ([`Durability::Process`]), and so does the guard's entry in it.
//! 2. Opening needs no operator: a killed creation, a torn journal, a missing file all end in a sound store.
//! 3. Nothing that was acknowledged vanishes silently: what is lost to damage is in [`lost`](crate::sync::Heads::lost) until it is back, in the
//!    log, and the highest hard block stays pinned as [`Recovered::anchor`]. What a consumer lacks is not pruned, and what was
//!    halted stays so, also where damage took the record of it (`stand_in.rs`).
//! 4. Nothing damaged is passed on: each record is verified at each read.
//! 5. Only blocks that were verified get in, and they form one linked chain from `tail` to `soft`.
//!
//! What it is not: it decides nothing about blocks, and it does not defend against somebody who can write its files.

mod apply;
mod check;
mod da_notes;
mod db;
mod disowned;
mod encoding;
mod error;
mod files;
mod genesis;
pub mod guard;
mod journal;
mod keys;
mod lock;
mod open;
mod paths;
mod read;
mod record;
mod repair;
mod slots;
mod snapshot;
mod stand_in;
mod watermark;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub use crate::atomic_file::Durability;
pub use error::StoreError;
pub use snapshot::{CoreReader, Reader, Snapshot};

use crate::block::Format;
use crate::sync::{Batch, DaEvidence, GuardEntry, GuardState, Recovered};
use crate::verify::Rules;
use apply::ApplyState;
use db::{Db, Writes};
use disowned::{CopyStamp, DisownedList};
use guard::{Guard, GuardChange, GuardKeeper, GuardWrite, OpenedGuard, StampedList};
use open::OpenedStore;
use paths::Paths;
use watermark::{Watermark, WatermarkState};

/// The version of everything that this module writes.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug)]
pub struct Options {
    /// The data directory; see the picture above.
    pub dir: PathBuf,
    /// The guard's file, beside the proposer key; `None` when this node does not sign.
    pub guard: Option<PathBuf>,
    pub durability: Durability,
    /// Of blocks that were read. Each of the two busy keyspaces may take a quarter of it, 1 to 64 MiB, once more for what
    /// was written and is not in tables yet.
    pub cache_bytes: u64,
    /// The most evidence that is kept: the oldest goes first.
    pub max_evidence: usize,
    /// What decides on DA, as the genesis file says.
    pub da_evidence: DaEvidence,
}

/// What reading and writing share.
#[derive(Debug)]
struct StoreShared {
    db: Arc<Db>,
    paths: Paths,
    format: Format,
    store_id: [u8; 16],
    /// Whether damage was met, and noted, already.
    suspect: AtomicBool,
}

impl StoreShared {
    /// Has the guard kept, and the list beside it, which the database and the copy agree about from now on.
    fn keep_guard(
        &self,
        opened: Option<OpenedGuard>,
        commit: u64,
    ) -> Result<(Option<GuardKeeper>, GuardState, Arc<DisownedList>), StoreError> {
        let copy = opened.as_ref().and_then(|opened| opened.disowned.says());
        let stamp = CopyStamp { store_id: self.store_id, commit };
        let list = disowned::settle(&self.db, &self.db.view(), stamp, copy).inspect_err(|error| self.note(error))?;
        let list = Arc::new(list);
        let Some(OpenedGuard { guard, state, disowned }) = opened else {
            return Ok((None, GuardState::Missing, list));
        };
        let mut keeper = GuardKeeper::start(guard, state)?;
        if disowned.is_short_of(&list) {
            let stamped = StampedList { list: Arc::clone(&list), stamp };
            keeper.begin(GuardWrite { disowned: Some(stamped), ..GuardWrite::default() })?;
            keeper.finish()?;
        }
        Ok((Some(keeper), state, list))
    }
}

/// The one writer.
#[derive(Debug)]
pub struct Store {
    shared: Arc<StoreShared>,
    durability: Durability,
    max_evidence: usize,
    watermark: Watermark,
    guard: Option<GuardKeeper>,
    chain_id: String,
    state: ApplyState,
    /// A write failed: what is on disk is not known any more.
    failed: bool,
}

impl Store {
    /// Opens, or creates, and repairs what a power cut may have torn.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::GuardInUse`], [`StoreError::WrongChain`] and [`StoreError::WrongVersion`] before
    /// anything is changed; otherwise what the file system says.
    pub fn open(options: &Options, rules: &Rules) -> Result<(Self, Reader, Recovered), StoreError> {
        match Self::try_open(options, rules) {
            // The second time everything is checked, and repaired; also by the next process, should this one die.
            Err(StoreError::Damaged { what }) => {
                tracing::error!("{what} is damaged on disk: everything is checked");
                let paths = Paths::new(&options.dir);
                paths.request_full_check()?;
                Self::try_open(options, rules)
            }
            other => other,
        }
    }

    fn try_open(options: &Options, rules: &Rules) -> Result<(Self, Reader, Recovered), StoreError> {
        let paths = Paths::new(&options.dir);
        let lock = paths.lock()?;
        // The key's guard is had before anything is changed: nobody else uses it, or this ends here.
        let opened = options.guard.as_ref().map(|path| Guard::open(path, &rules.chain_id)).transpose()?;
        let OpenedStore { db, paths, store_id, stamped, anchor, hard, consumers, watermark } =
            open::open(paths, lock, options, rules)?;
        let shared =
            Arc::new(StoreShared { db, paths, format: rules.format, store_id, suspect: AtomicBool::new(false) });
        let (guard, guard_state, disowned) = shared.keep_guard(opened, stamped.commit)?;
        let reader = Reader::new(Arc::clone(&shared));
        let snapshot = reader.snapshot();
        let (recovered, evidence) = snapshot.recover(rules, anchor, guard_state, &disowned)?;
        let store = Self {
            shared,
            durability: options.durability,
            max_evidence: options.max_evidence,
            watermark,
            guard,
            chain_id: rules.chain_id.to_string(),
            state: ApplyState { stamped, hard, evidence, consumers, disowned, store_id },
            failed: false,
        };
        Ok((store, reader, recovered))
    }

    /// Writes the batch, atomically. When it returns the batch has the promised durability, and its guard entry survives a power
    /// cut.
    ///
    /// # Errors
    /// Whether anything was written is then unknown: the process must end. Reads go on working. After
    /// [`StoreError::GuardRefuses`] nothing was.
    ///
    /// # Panics
    /// On a batch that breaks the chain: see the assertions of `apply`.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        if self.failed {
            let context = self.shared.paths.store.display().to_string();
            return Err(StoreError::Io { context, why: "an earlier write failed: start again".into() });
        }
        let outcome = self.try_commit(batch);
        self.failed = outcome.is_err();
        outcome
    }

    fn try_commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let view = self.shared.db.view();
        let applied = apply::apply(&view, self.shared.format, self.max_evidence, &self.state, batch)
            .inspect_err(|error| self.shared.note(error))?;
        write_both(&self.shared.db, applied.writes, self.durability, self.guard.as_mut(), applied.guard)?;
        let watermark = WatermarkState {
            store_id: self.shared.store_id,
            chain_id: self.chain_id.clone(),
            commit: applied.state.stamped.commit,
            heads: applied.state.stamped.heads,
            hard: applied.state.hard,
            consumers: Some(applied.state.consumers),
        };
        self.watermark.write(&self.shared.paths.watermark, &watermark, self.durability)?;
        self.state = applied.state;
        Ok(())
    }

    /// Bytes of the stored blocks as of the last commit, without what the database adds.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.state.stamped.blocks_bytes
    }

    /// Makes the guard durable, before a signer outside of the process is asked.
    ///
    /// # Errors
    /// Nothing may be signed then: the process must end.
    pub fn guard(&mut self, entry: GuardEntry) -> Result<(), StoreError> {
        let guard = self.guard.as_mut().ok_or_else(no_guard)?;
        guard.begin(GuardWrite { change: Some(GuardChange::Raise(entry)), ..GuardWrite::default() })?;
        guard.finish()
    }
}

fn no_guard() -> StoreError {
    StoreError::Io { context: "guard".into(), why: "this node was not configured to sign".into() }
}

/// The commit and what it writes beside the guard, each with its own sync, side by side.
fn write_both(
    db: &Db,
    writes: Writes,
    durability: Durability,
    guard: Option<&mut GuardKeeper>,
    mut write: GuardWrite,
) -> Result<(), StoreError> {
    if write.is_empty() {
        return db.write(writes, durability);
    }
    let guard = match guard {
        Some(guard) => guard,
        // The list of a node that does not sign is in the database alone.
        None if write.change.is_none() => return db.write(writes, durability),
        None => return Err(no_guard()),
    };
    let afterwards = write.afterwards.take();
    guard.begin(write)?;
    let written = db.write(writes, durability);
    // Also when the commit failed: whoever comes next must not be given this outcome.
    let guarded = guard.finish();
    written.and(guarded)?;
    if afterwards.is_some() {
        guard.begin(GuardWrite { disowned: afterwards, ..GuardWrite::default() })?;
        guard.finish()?;
    }
    Ok(())
}

/// Bytes that are free for us on the file system of `dir`.
///
/// # Errors
/// When the system does not tell.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
