//! Makes a sound database of whatever is left: a new one, aside, into which everything intact is copied, and which then
//! takes the place of the damaged one. Creating an empty database is the case in which nothing is left.
//!
//! ```text
//!   store.new-X (written, synced) --> store.repaired --> store     with the damaged one moved to store.damaged-N in between
//! ```
//!
//! 1. What is kept is one chain, from the tail up to the first block that is damaged or contradicts what was hard.
//! 2. What is lost is said: in the heads, and in the log. The highest hard block is pinned as the anchor.
//! 3. Only relations within one keyspace, or proved by a hash, are relied upon: of two keyspaces one may be older.
//! 4. The epoch, the commit number and the evidence number never fall.
//! 5. The damaged database is kept, the latest one only, for somebody to look at.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::check::{linked, weight};
use super::db::{Db, DbView, Writes};
use super::error::{At as _, DbFault, intact};
use super::keys::{self, Space};
use super::paths::Paths;
use super::record::{self, About, AboutRecord, StampedHeads};
use super::stand_in::{self, StandIn};
use super::watermark::WatermarkState;
use super::{Durability, StoreError};
use crate::atomic_file::sync_dir;
use crate::block::{BlockId, Height};
use crate::sync::{Anchor, DataLoss, Epoch, EvidenceId, Heads, LOST_BY_DAMAGE, LostWord};
use crate::verify::{Rules, Tip};

/// What the repaired database will say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RepairPlan {
    pub(super) stamped: StampedHeads,
    /// Above `stamped.heads.hard`.
    pub(super) anchor: Option<Anchor>,
    /// Stands for consumers that are not known any more.
    pub(super) unknown_consumers: Option<BlockId>,
    /// What hosts and operators had said is gone without a trace.
    pub(super) lost_word: Option<LostWord>,
}

impl RepairPlan {
    /// What it writes into the meta keyspace, whatever else is kept there.
    pub(super) fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut records = vec![(keys::HEADS.to_vec(), self.stamped.encode())];
        records.extend(self.anchor.map(|anchor| (keys::ANCHOR.to_vec(), record::encode_anchor(anchor))));
        let unknown = keys::ack(LOST_BY_DAMAGE);
        records.extend(self.unknown_consumers.map(|lowest| (unknown, record::encode_id(lowest))));
        records.extend(self.lost_word.map(|word| (keys::lost(word), Vec::new())));
        records
    }
}

/// How much of the chain to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The heads are those of a sound, older state.
    Heads,
    /// Nothing: each block is read.
    Nothing,
}

/// Decides what can be kept.
pub(super) fn plan(
    view: Option<&DbView>,
    watermark: Option<&WatermarkState>,
    rules: &Rules,
    trust: Trust,
) -> Result<RepairPlan, StoreError> {
    let stamped = match view {
        Some(view) => intact(view.stamped())?,
        None => None,
    };
    let known = known_heads(stamped.as_ref(), watermark);
    let kept = match (view, trust, &stamped) {
        (Some(_), Trust::Heads, Some(stamped)) => KeptChain::as_stamped(stamped),
        (Some(view), _, _) => KeptChain::intact(view, &known, watermark, rules)?,
        (None, _, _) => KeptChain::nothing(&known, rules),
    };
    let anchor = highest_hard(view, watermark, stamped.as_ref())?
        .filter(|anchor| kept.hard.is_none_or(|hard| hard.height < anchor.id.height));
    let heads = kept.heads(view, &known)?;
    let commit = stamped.map_or(0, |stamped| stamped.commit).max(watermark.map_or(0, |watermark| watermark.commit)) + 1;
    let unknown_consumers = unknown_consumers(view, watermark, &heads)?;
    let stamped = StampedHeads { commit, heads, blocks_bytes: kept.blocks_bytes };
    // A store that is only just being made has lost nothing.
    let is_all_there = watermark.is_none() || (view.is_some() && trust == Trust::Nothing);
    let lost_word = (!is_all_there).then_some(LostWord::Unknown);
    Ok(RepairPlan { stamped, anchor, unknown_consumers, lost_word })
}

/// What pruning waits for in their stead, if some of the consumers that the watermark knows of are not known any more. A watermark
/// of before knows of none.
fn unknown_consumers(
    view: Option<&DbView>,
    watermark: Option<&WatermarkState>,
    heads: &Heads,
) -> Result<Option<BlockId>, StoreError> {
    let Some(watermark) = watermark else { return Ok(None) };
    let kept = view.map_or(Ok(0), stand_in::consumers)?;
    Ok((watermark.consumers != Some(kept)).then_some(stand_in::lowest(view, heads)?))
}

/// The heads that the store and the watermark remember, newest first.
fn known_heads(stamped: Option<&StampedHeads>, watermark: Option<&WatermarkState>) -> Vec<Heads> {
    let known = [
        stamped.map(|stamped| (stamped.commit, stamped.heads)),
        watermark.map(|watermark| (watermark.commit, watermark.heads)),
    ];
    let mut known: Vec<(u64, Heads)> = known.into_iter().flatten().collect();
    known.sort_by_key(|(commit, _)| std::cmp::Reverse(*commit));
    known.into_iter().map(|(_, heads)| heads).collect()
}

/// The part of the chain that is kept.
struct KeptChain {
    tail: Height,
    /// What the block at the tail links to.
    base: Option<Tip>,
    soft: Option<Tip>,
    blocks_bytes: u64,
    hard: Option<BlockId>,
    /// Up to where DA need not be reported again.
    scanned_through: u64,
}

impl KeptChain {
    /// All of a sound, older state.
    fn as_stamped(stamped: &StampedHeads) -> Self {
        let StampedHeads { heads, blocks_bytes, .. } = *stamped;
        let Heads { tail, base, soft, hard, scanned_through, .. } = heads;
        Self { tail, base, soft, blocks_bytes, hard, scanned_through }
    }

    /// What each block from the tail on proves, up to the first that does not.
    fn intact(
        view: &DbView,
        known: &[Heads],
        watermark: Option<&WatermarkState>,
        rules: &Rules,
    ) -> Result<Self, StoreError> {
        let (tail, base) = match beginning(view, known)? {
            Some(heads) => (heads.tail, heads.base),
            None => lowest(view, rules)?,
        };
        let (soft, blocks_bytes) = sound_chain(view, watermark, rules, tail, base)?;
        let hard = highest_confirmed(view, tail, soft)?;
        let mut scanned_through = trusted_cursor(view)?;
        let lost_from = hard.map_or(tail, |hard| hard.height.next());
        if let Some(was) = known.iter().filter_map(Heads::hard_height).max().filter(|was| lost_from <= *was) {
            scanned_through = scanned_through.min(before_confirmations(view, lost_from, was)?);
        }
        Ok(Self { tail, base, soft, blocks_bytes, hard, scanned_through })
    }

    fn nothing(known: &[Heads], rules: &Rules) -> Self {
        let (tail, base) = known.first().map_or((rules.initial_height, None), |heads| (heads.tail, heads.base));
        Self { tail, base, soft: None, blocks_bytes: 0, hard: None, scanned_through: 0 }
    }

    /// The heads that say what is kept and what is lost. Their numbers are no lower than any that is known.
    fn heads(&self, view: Option<&DbView>, known: &[Heads]) -> Result<Heads, StoreError> {
        let to = known.iter().flat_map(|heads| [heads.soft_height(), heads.lost.map(|lost| lost.to)]).flatten().max();
        let from = self.soft.map_or(self.tail, |soft| soft.id.height.next());
        let written = |space| view.map_or(Ok(0), |view| highest_number(view, space));
        let (logged, filed) = (written(Space::Retractions)?, written(Space::Evidence)?);
        let floor = known.iter().find_map(|heads| heads.floor);
        Ok(Heads {
            tail: self.tail,
            base: self.base,
            soft: self.soft,
            hard: self.hard,
            target: None,
            epoch: Epoch(known.iter().map(|heads| heads.epoch.0).max().unwrap_or(0).max(logged)),
            // Nothing on DA counts below the floor.
            scanned_through: self.scanned_through.max(floor.map_or(0, |floor| floor.da)),
            evidence: EvidenceId(known.iter().map(|heads| heads.evidence.0).max().unwrap_or(0).max(filed)),
            lost: to.filter(|to| *to >= from).map(|to| DataLoss { from, to }),
            floor,
        })
    }
}

/// Of the heads that are known, newest first, those that say where the chain begins: their lowest block is there. Where none
/// is, it is lost, and the newest say so.
fn beginning<'a>(view: &DbView, known: &'a [Heads]) -> Result<Option<&'a Heads>, StoreError> {
    for heads in known {
        if intact(view.hash(heads.tail))?.flatten().is_some() {
            return Ok(Some(heads));
        }
    }
    Ok(known.first())
}

/// Where the chain begins when nothing says it any more: at the lowest block that can be read.
fn lowest(view: &DbView, rules: &Rules) -> Result<(Height, Option<Tip>), StoreError> {
    for entry in view.from(Space::Headers, &[]) {
        match entry {
            Ok((key, _)) => {
                let Some(height) = keys::read_height(&key) else { continue };
                if let Some((block, _)) = intact(view.block(rules.format, height))?.flatten() {
                    return Ok((height, Tip::below(&block)));
                }
            }
            Err((Some(_), StoreError::Damaged { .. })) => {}
            Err((None, StoreError::Damaged { .. })) => break,
            Err((_, error)) => return Err(error),
        }
    }
    Ok((rules.initial_height, None))
}

/// The end of the chain that is whole from the tail on and has nothing that contradicts the watermark, and what its blocks
/// weigh.
fn sound_chain(
    view: &DbView,
    watermark: Option<&WatermarkState>,
    rules: &Rules,
    tail: Height,
    base: Option<Tip>,
) -> Result<(Option<Tip>, u64), StoreError> {
    let pinned = [
        watermark.and_then(|watermark| watermark.hard).map(|hard| hard.id),
        watermark.and_then(|watermark| watermark.heads.soft_id()),
    ];
    let mut tip: Option<Tip> = None;
    let mut bytes = 0;
    let mut height = tail;
    loop {
        let Some(hash) = intact(view.hash(height))?.flatten() else { return Ok((tip, bytes)) };
        if pinned.iter().flatten().any(|pinned| pinned.height == height && pinned.hash != hash) {
            return Ok((tip, bytes));
        }
        let Some(block) = intact(linked(view, rules.format, BlockId { height, hash }))? else {
            return Ok((tip, bytes));
        };
        if block.header().parent_hash != tip.or(base).map(|below| below.id.hash) {
            return Ok((tip, bytes));
        }
        bytes += weight(&block);
        tip = Some(Tip { id: block.id(), time_unix_nanos: block.header().time_unix_nanos });
        height = height.next();
    }
}

/// The highest block of the chain whose confirmation names it.
fn highest_confirmed(view: &DbView, tail: Height, soft: Option<Tip>) -> Result<Option<BlockId>, StoreError> {
    let Some(soft) = soft else { return Ok(None) };
    for height in (tail.get()..=soft.id.height.get()).rev() {
        let Some(height) = Height::new(height) else { continue };
        if let Some((hash, _)) = intact(view.confirmation(height))?.flatten()
            && view.hash(height)? == Some(hash)
        {
            return Ok(Some(BlockId { height, hash }));
        }
    }
    Ok(None)
}

/// How far DA need not be reported again: below the first sighting that is damaged.
fn trusted_cursor(view: &DbView) -> Result<u64, StoreError> {
    let mut cursor = intact(view.cursor())?.unwrap_or(0);
    for entry in view.from(Space::Sightings, &[]) {
        match entry {
            Err((Some(key), StoreError::Damaged { .. })) => {
                let seen = keys::read_position(&key).map_or(0, |position| position.height);
                cursor = cursor.min(seen.saturating_sub(1));
            }
            Err((None, StoreError::Damaged { .. })) => return Ok(0),
            Err((_, error)) => return Err(error),
            Ok(_) => {}
        }
    }
    Ok(cursor)
}

/// How far DA need not be reported again when hard has fallen, from `was` to below `from`: to just below the lowest position at
/// which one of the blocks between them was confirmed, since what was seen of them was judged, and dropped. Where one of these
/// positions is not known, to nowhere: a block may lie on DA long before the one below it.
fn before_confirmations(view: &DbView, from: Height, was: Height) -> Result<u64, StoreError> {
    let mut lowest = u64::MAX;
    for height in (from.get()..=was.get()).filter_map(Height::new) {
        match intact(view.confirmation(height))?.flatten() {
            Some((_, confirmation)) => lowest = lowest.min(confirmation.position.height.saturating_sub(1)),
            None => return Ok(0),
        }
    }
    Ok(lowest)
}

fn highest_hard(
    view: Option<&DbView>,
    watermark: Option<&WatermarkState>,
    stamped: Option<&StampedHeads>,
) -> Result<Option<Anchor>, StoreError> {
    let mut known = vec![watermark.and_then(|watermark| watermark.hard)];
    if let Some(view) = view {
        known.push(intact(view.anchor())?.flatten());
        if let Some(id) = stamped.and_then(|stamped| stamped.heads.hard)
            && let Some((hash, confirmation)) = intact(view.confirmation(id.height))?.flatten()
            && hash == id.hash
        {
            known.push(Some(Anchor { id, position: confirmation.position }));
        }
    }
    Ok(known.into_iter().flatten().max_by_key(|anchor| anchor.id.height))
}

fn highest_number(view: &DbView, space: Space) -> Result<u64, StoreError> {
    match view.from(space, &[]).next_back() {
        Some(Ok((key, _)) | Err((Some(key), StoreError::Damaged { .. }))) => Ok(keys::read_u64(&key).unwrap_or(0)),
        None | Some(Err((None, StoreError::Damaged { .. }))) => Ok(0),
        Some(Err((_, error))) => Err(error),
    }
}

/// Writes a database as planned, with what `source` has of it, and puts it into place.
pub(super) fn install(
    paths: &Paths,
    rules: &Rules,
    plan: &RepairPlan,
    source: Option<Arc<Db>>,
    cache_bytes: u64,
) -> Result<(), StoreError> {
    let about = describe(source.as_ref(), rules)?;
    let aside = paths.new_store()?;
    {
        let new = Db::open(&aside, cache_bytes, None).map_err(|fault| match fault {
            DbFault::World(error) => error,
            DbFault::Damage(why) => StoreError::Io { context: aside.display().to_string(), why },
        })?;
        let mut copy = RecordCopier { new: &new, writes: Writes::new(), bytes: 0 };
        if let Some(source) = &source {
            copy.everything(&source.view(), &plan.stamped.heads)?;
        }
        copy.put(Space::Meta, keys::ABOUT, &about.encode())?;
        copy.put(Space::Sightings, keys::CURSOR, &plan.stamped.heads.scanned_through.to_be_bytes())?;
        for (key, body) in plan.records() {
            copy.put(Space::Meta, &key, &body)?;
        }
        copy.flush()?;
        new.sync()?;
    }
    drop(source);
    sync_tree(&aside)?;
    replace(paths, &aside)
}

/// What the new database says it is: the same one, as long as the source still says which.
fn describe(source: Option<&Arc<Db>>, rules: &Rules) -> Result<About, StoreError> {
    let kept = match source {
        Some(source) => intact(source.view().about())?.and_then(AboutRecord::known),
        None => None,
    };
    let store_id = match kept {
        Some(about) => about.store_id,
        None => random_id()?,
    };
    Ok(About {
        version: super::VERSION,
        store_id,
        chain_id: rules.chain_id.to_string(),
        initial_height: rules.initial_height,
    })
}

fn random_id() -> Result<[u8; 16], StoreError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| StoreError::Io { context: "random numbers".into(), why: error.to_string() })?;
    Ok(id)
}

/// Whether a sound record is copied as it is.
fn is_kept(heads: &Heads, space: Space, key: &[u8]) -> bool {
    match space {
        Space::Blocks | Space::Headers => keys::read_height(key).is_some_and(|height| heads.stores(height)),
        Space::Confirmations => {
            keys::read_height(key).is_some_and(|height| heads.tail <= height && heads.hard_height() >= Some(height))
        }
        // Made from the headers, as far as those are kept.
        Space::Hashes => false,
        Space::Sightings => key != keys::CURSOR,
        Space::Retractions | Space::Evidence => true,
        Space::Meta => ![keys::ABOUT, keys::HEADS, keys::ANCHOR].contains(&key),
    }
}

/// Copies records in writes of bounded size.
struct RecordCopier<'a> {
    new: &'a Db,
    writes: Writes,
    bytes: usize,
}

impl RecordCopier<'_> {
    fn everything(&mut self, source: &DbView, heads: &Heads) -> Result<(), StoreError> {
        for space in Space::ALL {
            for entry in source.from(space, &[]) {
                match entry {
                    Ok((key, body)) if is_kept(heads, space, &key) => {
                        self.put(space, &key, &body)?;
                        if space == Space::Headers
                            && let Some(hash) = body.get(..crate::block::Hash::LEN)
                        {
                            self.put(Space::Hashes, hash, &key)?;
                        }
                    }
                    Err((Some(key), StoreError::Damaged { what })) => {
                        let stand_in = stand_in::for_damaged(source, heads, space, &key)?;
                        match stand_in {
                            StandIn::Body(body) => self.put(space, &key, &body)?,
                            StandIn::Lost(word) => self.put(space, &keys::lost(word), &[])?,
                            StandIn::None => tracing::error!("{what} is damaged and cannot be kept"),
                        }
                    }
                    // It may stay there for ever when even its key cannot be read.
                    Err((None, StoreError::Damaged { what })) => {
                        tracing::error!("{what} is damaged, and what follows it cannot be kept");
                        if space == Space::Meta {
                            self.put(space, &keys::lost(LostWord::Unknown), &[])?;
                        }
                        break;
                    }
                    Err((_, error)) => return Err(error),
                    Ok(_) => {}
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, space: Space, key: &[u8], body: &[u8]) -> Result<(), StoreError> {
        const MAX_WRITE_BYTES: usize = 4 << 20;
        self.bytes += key.len() + body.len();
        self.writes.insert((space, key.to_vec()), Some(record::seal(space, key, &[body])));
        if self.bytes > MAX_WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        // Synced as a whole, once everything is there.
        self.new.write(std::mem::take(&mut self.writes), Durability::Process)
    }
}

/// Syncs every file and directory below, and the directory itself.
fn sync_tree(dir: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            fs::File::open(&path).and_then(|file| file.sync_all()).at(&path)?;
        }
    }
    sync_dir(dir).at(dir)
}

/// Puts the new database where the damaged one is, if there is one, which is kept. Whatever dies in between: the new one is
/// complete under a name that the next opening knows, and goes on from (`Paths::finish_repair`).
fn replace(paths: &Paths, new: &Path) -> Result<(), StoreError> {
    fs::rename(new, &paths.repaired).at(new)?;
    sync_dir(&paths.dir).at(&paths.dir)?;
    if paths.store.exists() {
        let kept = paths.next_damaged()?;
        fs::rename(&paths.store, &kept).at(&kept)?;
        sync_dir(&paths.dir).at(&paths.dir)?;
        tracing::error!(path = %kept.display(), "the damaged store is kept here");
    }
    paths.finish_repair()
}

#[cfg(test)]
mod tests;
