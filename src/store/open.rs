//! Opening: whatever a killed creation, a power cut or a flipped bit left behind, what comes out is a sound store that
//! knows what it lost.
//!
//! ```text
//!   lock ─ remove leftovers ─ read the mark ─┬─ no store ──────────────── create (empty, or with the mark's anchor)
//!                                            │
//!                                            └─ verify files, cut journals ─ open ─ check ─┬─ sound ── done
//!                                                      ^                          ├─ behind the mark ── adopt the loss
//!                                                      └──────── once more ───────┴─ broken ── rebuild from what is intact
//! ```

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::check::{self, Health};
use super::db::{Db, Writes};
use super::error::{At as _, DbFault};
use super::files::{self, Aside, Files};
use super::journal;
use super::keys::{self, Space};
use super::mark::{Mark, MarkState};
use super::paths::Paths;
use super::record::{self, Stamped};
use super::repair::{self, Plan, Trust};
use super::slots::sync_dir;
use super::{Durability, StoreError};
use crate::verify::Rules;

/// An open, sound store.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: Arc<Db>,
    pub(super) paths: Paths,
    pub(super) store_id: [u8; 16],
    pub(super) stamped: Stamped,
    pub(super) anchor: Option<crate::sync::Anchor>,
    /// Says what the store says.
    pub(super) mark: Mark,
}

/// More repairs than this in one opening do not help.
const MAX_REPAIRS: usize = 3;

pub(super) fn open(dir: &Path, cache_bytes: u64, durability: Durability, rules: &Rules) -> Result<Opened, StoreError> {
    let paths = Paths::new(dir);
    fs::create_dir_all(dir).at(dir)?;
    let lock = Arc::new(paths.lock()?);
    paths.remove_unfinished()?;
    let (mark, marked) = Mark::open(&paths.mark)?.unzip();
    if let Some(marked) = &marked {
        same_chain(&paths, &marked.chain_id, rules)?;
    }
    for _ in 0..=MAX_REPAIRS {
        if let Some((db, stamped)) = settle(&paths, cache_bytes, &lock, marked.as_ref(), rules)? {
            return finish(paths, db, stamped, mark, marked.as_ref(), durability, rules);
        }
    }
    Err(StoreError::Io { context: paths.store.display().to_string(), why: "repairing it did not help".into() })
}

/// Opens the database as it is, or else improves it once.
fn settle(
    paths: &Paths,
    cache_bytes: u64,
    lock: &Arc<File>,
    marked: Option<&MarkState>,
    rules: &Rules,
) -> Result<Option<(Arc<Db>, Stamped)>, StoreError> {
    let exists = paths.store.try_exists().at(&paths.store)?;
    if !exists {
        let plan = repair::plan(None, marked, rules, Trust::Nothing)?;
        say(&plan, "the store is gone");
        repair::install(paths, rules, &plan, None, cache_bytes)?;
        return Ok(None);
    }
    let mut aside = Aside::new(&paths.cut);
    let files = files::verify(&paths.store, &mut aside)?;
    let journals = journal::repair(&paths.store, &mut aside)?;
    let opened = match files {
        Files::Hopeless => Err(DbFault::Damage("its own description is damaged".into())),
        Files::Sound | Files::Incomplete => Db::open(&paths.store, cache_bytes, Some(Arc::clone(lock))),
    };
    let db = match opened {
        Ok(db) => Arc::new(db),
        Err(DbFault::World(error)) => return Err(error),
        Err(DbFault::Damage(why)) => {
            let plan = repair::plan(None, marked, rules, Trust::Nothing)?;
            say(&plan, &format!("the store cannot be opened: {why}"));
            repair::install(paths, rules, &plan, None, cache_bytes)?;
            return Ok(None);
        }
    };
    let view = db.view();
    match view.about() {
        Ok(Ok(about)) => same_chain(paths, &about.chain_id, rules)?,
        Ok(Err(found)) => {
            return Err(StoreError::WrongVersion { dir: paths.store.clone(), found, wanted: super::VERSION });
        }
        // Checked below: a store that does not say what it is gets rebuilt.
        Err(StoreError::Damaged { .. }) => {}
        Err(other) => return Err(other),
    }
    let everything = paths.suspect.exists();
    let health = match view.about() {
        Ok(_) if files == Files::Incomplete => Health::Broken("a keyspace is gone".into()),
        Ok(_) => check::check(&db, &view, rules.format, &journals, marked, everything)?,
        Err(error) => Health::Broken(error.to_string()),
    };
    match health {
        Health::Sound => {
            let stamped = view.stamped()?;
            drop(view);
            return Ok(Some((db, stamped)));
        }
        Health::Behind => {
            let plan = repair::plan(Some(&view), marked, rules, Trust::Heads)?;
            say(&plan, "the store is older than what it acknowledged");
            db.write(adoption(&plan), Durability::Power)?;
        }
        Health::Broken(why) => {
            let plan = repair::plan(Some(&view), marked, rules, Trust::Nothing)?;
            say(&plan, &why);
            drop(view);
            repair::install(paths, rules, &plan, Some(db), cache_bytes)?;
        }
    }
    Ok(None)
}

fn same_chain(paths: &Paths, found: &str, rules: &Rules) -> Result<(), StoreError> {
    if found == rules.chain_id.as_str() {
        return Ok(());
    }
    let wanted = rules.chain_id.to_string();
    Err(StoreError::WrongChain { dir: paths.dir.clone(), found: found.to_owned(), wanted })
}

/// The write by which an older, sound state admits what it lost.
fn adoption(plan: &Plan) -> Writes {
    let mut writes = Writes::new();
    let mut put = |key: &[u8], body: &[u8]| {
        writes.insert((Space::Meta, key.to_vec()), Some(record::seal(Space::Meta, key, &[body])));
    };
    put(keys::HEADS, &plan.stamped.encode());
    if let Some(anchor) = plan.anchor {
        put(keys::ANCHOR, &record::encode_anchor(anchor));
    }
    writes
}

/// Nothing is said about a store that is only just being made.
fn say(plan: &Plan, why: &str) {
    match plan.stamped.heads.lost {
        Some(lost) => {
            tracing::error!(from = %lost.from, to = %lost.to, "DATA LOSS: {why}; these blocks are to be fetched again");
        }
        None if plan.stamped.commit > 1 => {
            tracing::error!("DATA LOSS: {why}; all blocks are there, later changes of other kinds may be missing");
        }
        None => {}
    }
}

/// Brings the mark up to the store, and takes back the request for a full check.
fn finish(
    paths: Paths,
    db: Arc<Db>,
    stamped: Stamped,
    mark: Option<Mark>,
    marked: Option<&MarkState>,
    durability: Durability,
    rules: &Rules,
) -> Result<Opened, StoreError> {
    let view = db.view();
    let store_id = match view.about()? {
        Ok(about) => about.store_id,
        Err(found) => {
            return Err(StoreError::WrongVersion { dir: paths.store.clone(), found, wanted: super::VERSION });
        }
    };
    let anchor = view.anchor()?;
    let state = MarkState {
        store_id,
        chain_id: rules.chain_id.to_string(),
        commit: stamped.commit,
        heads: stamped.heads,
        hard: match (anchor, stamped.heads.hard) {
            (Some(anchor), _) => Some(anchor),
            (None, Some(id)) => view.confirmation(id.height)?.map(|(_, position)| crate::sync::Anchor { id, position }),
            (None, None) => None,
        },
    };
    let mark = match mark {
        None => Mark::create(&paths.mark, &state)?,
        Some(mark) if marked == Some(&state) => mark,
        Some(mut mark) => {
            match durability {
                // What the mark will vouch for must not be younger than what is on disk.
                Durability::Power => db.sync()?,
                Durability::Process => {}
            }
            mark.write(&paths.mark, &state, durability)?;
            mark
        }
    };
    match fs::remove_file(&paths.suspect) {
        Ok(()) => sync_dir(&paths.dir).at(&paths.dir)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io(&paths.suspect, &error)),
    }
    Ok(Opened { db, paths, store_id, stamped, anchor, mark })
}
