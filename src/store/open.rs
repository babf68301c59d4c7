//! Opening: whatever a killed creation, a power cut or a flipped bit left behind, what comes out is a sound store that
//! knows what it lost.
//!
//! ```text
//!   lock ─ remove leftovers ─ read the watermark ─┬─ no store ─── create (empty, or with the watermark's anchor)
//!                                                 │
//!                                                 └─ verify files, cut journals ─ open ─ check ─┬─ sound ── done
//!                                                           ^                     ├─ behind the watermark ── adopt the loss
//!                                                           └──── once more ──────┴─ broken ── rebuild from what is intact
//! ```

use std::fs::File;
use std::sync::Arc;

use super::check::{CheckDepth, Health, StoreCheck};
use super::db::{Db, DbView, Writes};
use super::error::{At as _, DbFault};
use super::files::{self, Aside, FileHealth};
use super::genesis::GenesisCheck;
use super::journal::{self, Journals};
use super::keys::Space;
use super::paths::Paths;
use super::record::{self, StampedHeads};
use super::repair::{self, RepairPlan, Trust};
use super::stand_in;
use super::watermark::{Watermark, WatermarkState};
use super::{Durability, Options, StoreError};
use crate::sync::{Anchor, LOST_BY_DAMAGE};
use crate::verify::Rules;

/// An open, sound store.
#[derive(Debug)]
pub(super) struct OpenedStore {
    pub(super) db: Arc<Db>,
    pub(super) paths: Paths,
    pub(super) store_id: [u8; 16],
    pub(super) stamped: StampedHeads,
    pub(super) anchor: Option<Anchor>,
    /// The highest hard block ever: the anchor, or else the hard head.
    pub(super) hard: Option<Anchor>,
    /// The digest of the consumers.
    pub(super) consumers: u64,
    /// Says what the store says.
    pub(super) watermark: Watermark,
}

/// More repairs than this in one opening do not help.
const MAX_REPAIRS: usize = 3;

/// Opens what is at `paths`, whose `lock` is held.
pub(super) fn open(paths: Paths, lock: File, options: &Options, rules: &Rules) -> Result<OpenedStore, StoreError> {
    let lock = Arc::new(lock);
    paths.clear_up()?;
    let (watermark, marked) = Watermark::open(&paths.watermark)?.unzip();
    let opening = Opening { options, rules, paths, lock, marked };
    if let Some(marked) = &opening.marked {
        opening.genesis().require_chain(&marked.chain_id)?;
    }
    for _ in 0..=MAX_REPAIRS {
        match opening.attempt()? {
            OpenAttempt::Sound(db) => return opening.conclude(db, watermark),
            OpenAttempt::Repaired => {}
        }
    }
    let context = opening.paths.store.display().to_string();
    Err(StoreError::Io { context, why: "repairing it did not help".into() })
}

/// What an opening goes by, whatever it finds.
struct Opening<'a> {
    options: &'a Options,
    rules: &'a Rules,
    paths: Paths,
    lock: Arc<File>,
    /// What the watermark says.
    marked: Option<WatermarkState>,
}

/// What one look at the store led to.
enum OpenAttempt {
    /// It is sound: this is it.
    Sound(Arc<Db>),
    /// It was not, or was not there, and has been improved: it is looked at once more, from the start.
    Repaired,
}

/// The database, and what its files had to say before it was opened.
struct Examined {
    db: Arc<Db>,
    files: FileHealth,
    journals: Journals,
}

impl Opening<'_> {
    /// Opens the database as it is, or else improves it once.
    fn attempt(&self) -> Result<OpenAttempt, StoreError> {
        if !self.paths.store.try_exists().at(&self.paths.store)? {
            self.rebuild(None, "the store is gone")?;
            return Ok(OpenAttempt::Repaired);
        }
        let examined = match self.open_database() {
            Ok(examined) => examined,
            Err(DbFault::World(error)) => return Err(error),
            Err(DbFault::Damage(why)) => {
                self.rebuild(None, &format!("the store cannot be opened: {why}"))?;
                return Ok(OpenAttempt::Repaired);
            }
        };
        let view = examined.db.view();
        match self.judge(&examined, &view)? {
            Health::Sound => return Ok(OpenAttempt::Sound(examined.db)),
            Health::Behind => self.adopt_loss(&examined.db, &view)?,
            Health::Broken(why) => {
                drop(view);
                self.rebuild(Some(examined.db), &why)?;
            }
        }
        Ok(OpenAttempt::Repaired)
    }

    /// Repairs what can be repaired of the files themselves; fjall sees them only after that.
    fn open_database(&self) -> Result<Examined, DbFault> {
        let store = &self.paths.store;
        let mut aside = Aside::new(&self.paths.cut);
        let files = files::verify(store, &mut aside).map_err(DbFault::World)?;
        let journals = journal::repair(store, &mut aside).map_err(DbFault::World)?;
        match files {
            FileHealth::Hopeless => Err(DbFault::Damage("its own description is damaged".into())),
            FileHealth::Sound | FileHealth::Incomplete => {
                let db = Db::open(store, self.options.cache_bytes, Some(Arc::clone(&self.lock)))?;
                Ok(Examined { db: Arc::new(db), files, journals })
            }
        }
    }

    /// Whether the database is ours to open at all, and then how it is.
    fn judge(&self, examined: &Examined, view: &DbView) -> Result<Health, StoreError> {
        match view.about() {
            Ok(about) => self.genesis().require(&about.ours(&self.paths.store)?, view)?,
            // A store that does not say what it is gets rebuilt.
            Err(error @ StoreError::Damaged { .. }) => return Ok(Health::Broken(error.to_string())),
            Err(other) => return Err(other),
        }
        if examined.files == FileHealth::Incomplete {
            return Ok(Health::Broken("a keyspace is gone".into()));
        }
        let blocks = examined.db.number(Space::Blocks);
        let check = StoreCheck {
            format: self.rules.format,
            journaled_from: blocks.and_then(|number| examined.journals.lowest.get(&number)).copied(),
            watermark: self.marked.as_ref(),
            depth: if self.paths.is_full_check_wanted() { CheckDepth::Everything } else { CheckDepth::Recent },
        };
        check.judge(view)
    }

    fn genesis(&self) -> GenesisCheck<'_> {
        GenesisCheck { dir: &self.paths.dir, rules: self.rules, da_evidence: self.options.da_evidence }
    }

    /// Keeps an older, sound state, which admits what it lost.
    fn adopt_loss(&self, db: &Db, view: &DbView) -> Result<(), StoreError> {
        let plan = repair::plan(Some(view), self.marked.as_ref(), self.rules, Trust::Heads)?;
        log_loss(&plan, "the store is older than what it acknowledged");
        db.write(adoption(&plan), Durability::Power)
    }

    /// Makes the store anew, from what can be kept of `source`; without one it is created, empty.
    fn rebuild(&self, source: Option<Arc<Db>>, why: &str) -> Result<(), StoreError> {
        let view = source.as_ref().map(Db::view);
        let plan = repair::plan(view.as_ref(), self.marked.as_ref(), self.rules, Trust::Nothing)?;
        drop(view);
        log_loss(&plan, why);
        repair::install(&self.paths, self.rules, &plan, source, self.options.cache_bytes)
    }

    /// Brings the watermark up to the store, and takes back the request for a full check.
    fn conclude(self, db: Arc<Db>, watermark: Option<Watermark>) -> Result<OpenedStore, StoreError> {
        let view = db.view();
        let store_id = view.about()?.ours(&self.paths.store)?.store_id;
        self.genesis().say(&db, &view)?;
        let stamped = view.stamped()?;
        let anchor = view.anchor()?;
        let hard = match (anchor, stamped.heads.hard) {
            (Some(anchor), _) => Some(anchor),
            (None, Some(id)) => {
                view.confirmation(id.height)?.map(|(_, confirmation)| Anchor { id, position: confirmation.position })
            }
            (None, None) => None,
        };
        let chain_id = self.rules.chain_id.to_string();
        let consumers = stand_in::consumers(&view)?;
        let (commit, heads) = (stamped.commit, stamped.heads);
        let state = WatermarkState { store_id, chain_id, commit, heads, hard, consumers: Some(consumers) };
        let watermark = self.bring_up(watermark, &state, &db)?;
        self.paths.withdraw_full_check()?;
        Ok(OpenedStore { db, paths: self.paths, store_id, stamped, anchor, hard, consumers, watermark })
    }

    /// The watermark, made or written if it does not say `state` already.
    fn bring_up(&self, watermark: Option<Watermark>, state: &WatermarkState, db: &Db) -> Result<Watermark, StoreError> {
        let Some(mut watermark) = watermark else { return Watermark::create(&self.paths.watermark, state) };
        if !watermark.is_whole() {
            tracing::warn!(path = %self.paths.watermark.display(), "a half of the high-water mark was torn: it is written anew");
        }
        if self.marked.as_ref() != Some(state) || !watermark.is_whole() {
            match self.options.durability {
                // What the watermark will vouch for must not be younger than what is on disk.
                Durability::Power => db.sync()?,
                Durability::Process => {}
            }
            watermark.write(&self.paths.watermark, state, self.options.durability)?;
        }
        Ok(watermark)
    }
}

/// The write by which an older, sound state admits what it lost.
fn adoption(plan: &RepairPlan) -> Writes {
    let seal = |(key, body): (Vec<u8>, Vec<u8>)| {
        let record = record::seal(Space::Meta, &key, &[&body]);
        ((Space::Meta, key), Some(record))
    };
    plan.records().into_iter().map(seal).collect()
}

/// Nothing is logged about a store that is only just being made.
fn log_loss(plan: &RepairPlan, why: &str) {
    if plan.unknown_consumers.is_some() {
        tracing::error!(
            consumer = LOST_BY_DAMAGE,
            "which consumers had acknowledged is not known any more: nothing is pruned until each has acknowledged again, and an \
             operator says `ctl forget-consumer`"
        );
    }
    let others = "what hosts and operators had said since (schedule, veto, halt) may be missing";
    match plan.stamped.heads.lost {
        Some(lost) => tracing::error!(
            from = %lost.from, to = %lost.to,
            "DATA LOSS: {why}; these blocks are to be fetched again; {others}"
        ),
        None if plan.stamped.commit > 1 => tracing::error!("DATA LOSS: {why}; all blocks are there; {others}"),
        None => {}
    }
}
