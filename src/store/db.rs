//! The database: fjall, behind four calls. Nothing outside of this file and `error.rs` knows what it is.

use std::fmt;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _};

use super::Durability;
use super::error::{DbFault, StoreError, classify, is_full};
use super::keys::Space;
use super::record;
use crate::util::hex;

/// What one write changes: each key once; `None` removes it.
pub(super) type Writes = std::collections::BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>;

/// Journals are kept until every keyspace in them is flushed, so a quiet keyspace pins them; above this it is flushed.
const MAX_JOURNAL_BYTES: u64 = 128 << 20;
/// Bounds of a keyspace's write buffer: more means fewer, larger flushes.
const WRITE_BUFFER_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=64 << 20;
/// Threads that flush and compact. With more than one, fjall 3.1.13 keeps the first of them for flushes: while the others
/// compact it hands the compactions that wait round and round to itself, which was a quarter of all processor time of a node
/// that catches up.
const WORKERS: usize = 1;
/// File handles that it keeps open.
const MAX_CACHED_FILES: usize = 256;

pub(super) struct Db {
    database: Database,
    spaces: [Keyspace; Space::ALL.len()],
    path: PathBuf,
    /// Held for as long as anybody holds the database; dropped after it.
    _lock: Option<Arc<File>>,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.path.display())
    }
}

impl Db {
    /// Opens or creates. The journals must have been repaired: fjall is only ever given well-formed ones.
    pub(super) fn open(path: &Path, cache_bytes: u64, lock: Option<Arc<File>>) -> Result<Self, DbFault> {
        let opening = AssertUnwindSafe(|| {
            let database = Database::builder(path)
                .cache_size(cache_bytes)
                .max_journaling_size(MAX_JOURNAL_BYTES)
                .max_cached_files(Some(MAX_CACHED_FILES))
                .worker_threads(WORKERS)
                .open()?;
            let write_buffer = (cache_bytes / 4).clamp(*WRITE_BUFFER_BYTES.start(), *WRITE_BUFFER_BYTES.end());
            let mut spaces = Vec::with_capacity(Space::ALL.len());
            for space in Space::ALL {
                let options = || KeyspaceCreateOptions::default().max_memtable_size(write_buffer);
                spaces.push(database.keyspace(space.name(), options)?);
            }
            Ok((database, spaces))
        });
        // It asserts some of what it reads: a panic in there is a damaged file, which is for us to deal with.
        match panic::catch_unwind(opening) {
            Ok(Ok((database, spaces))) => {
                let spaces = spaces.try_into().map_err(|_| DbFault::Damage("keyspaces are missing".into()))?;
                Ok(Self { database, spaces, path: path.to_owned(), _lock: lock })
            }
            Ok(Err(error)) => Err(classify(path, &error)),
            Err(_) => Err(DbFault::Damage("it cannot be read".into())),
        }
    }

    /// The state as of the last write.
    pub(super) fn view(self: &Arc<Self>) -> DbView {
        DbView { snapshot: self.database.snapshot(), db: Arc::clone(self) }
    }

    /// Writes all or nothing; once this returns it survives what `durability` says.
    pub(super) fn write(&self, writes: Writes, durability: Durability) -> Result<(), StoreError> {
        let mode = match durability {
            Durability::Power => PersistMode::SyncData,
            Durability::Process => PersistMode::Buffer,
        };
        let mut batch = self.database.batch().durability(Some(mode));
        for ((space, key), value) in writes {
            match value {
                Some(value) => batch.insert(self.space(space), key, value),
                None => batch.remove(self.space(space), key),
            }
        }
        batch.commit().map_err(|error| self.world(&error))
    }

    /// Everything written so far survives a power cut once this returns.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(|error| self.world(&error))
    }

    /// The number by which the journal names a keyspace.
    pub(super) fn number(&self, space: Space) -> Option<u64> {
        self.space(space).path().file_name()?.to_str()?.parse().ok()
    }

    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    fn world(&self, error: &fjall::Error) -> StoreError {
        match error {
            fjall::Error::Io(io) if is_full(io) => StoreError::Full(self.path.clone()),
            other => match classify(&self.path, other) {
                DbFault::World(error) => error,
                DbFault::Damage(why) => StoreError::Io { context: self.path.display().to_string(), why },
            },
        }
    }
}

/// A key and its record's body; an error with the key, if that much can be read.
pub(super) type ScannedRecord = Result<(Vec<u8>, Bytes), (Option<Vec<u8>>, StoreError)>;

/// The database as of one moment. Records come out with their checksum verified.
pub(super) struct DbView {
    snapshot: fjall::Snapshot,
    db: Arc<Db>,
}

impl DbView {
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let read = self.snapshot.get(self.db.space(space), key).map_err(|error| self.fault(space, &error))?;
        match read {
            None => Ok(None),
            Some(record) => record::unseal(space, key, record).map(Some).ok_or_else(|| damaged(space, key)),
        }
    }

    /// Whether there is a record, sound or not.
    pub(super) fn contains(&self, space: Space, key: &[u8]) -> Result<bool, StoreError> {
        self.snapshot.contains_key(self.db.space(space), key).map_err(|error| self.fault(space, &error))
    }

    /// The records from a key on, ascending. Others may follow a damaged one.
    pub(super) fn from<'a>(
        &'a self,
        space: Space,
        from: &[u8],
    ) -> impl DoubleEndedIterator<Item = ScannedRecord> + use<'a> {
        self.snapshot.range(self.db.space(space), from..).map(move |guard| {
            let (key, record) = guard.into_inner().map_err(|error| (None, self.fault(space, &error)))?;
            match record::unseal(space, &key, record) {
                Some(body) => Ok((key.to_vec(), body)),
                None => Err((Some(key.to_vec()), damaged(space, &key))),
            }
        })
    }

    fn fault(&self, space: Space, error: &fjall::Error) -> StoreError {
        match classify(&self.db.path, error) {
            DbFault::Damage(why) => StoreError::damaged(format!("{} ({why})", space.name())),
            DbFault::World(error) => error,
        }
    }
}

impl fmt::Debug for DbView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DbView({})", self.db.path.display())
    }
}

fn damaged(space: Space, key: &[u8]) -> StoreError {
    StoreError::damaged(format!("record {} of {}", hex::encode(key), space.name()))
}
