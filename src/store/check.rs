//! Is what is stored one sound chain, and is it all that was acknowledged?

use super::StoreError;
use super::db::DbView;
use super::keys::{self, Space};
use super::record::StampedHeads;
use super::watermark::WatermarkState;
use crate::block::{Block, BlockId, Format, Height};
use crate::sync::Heads;
use crate::util::saturate;

/// The blocks, from soft downwards, that are verified at each opening: at most this many,
const BLOCKS: u64 = 1024;
/// and no more of them once they have this many bytes together.
const BYTES: usize = 64 << 20;

/// The verdict about an opened database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Health {
    Sound,
    /// A sound state, of a moment before the last one that was acknowledged.
    Behind,
    /// It contradicts itself, or the watermark: why.
    Broken(String),
}

/// How much is read before a database counts as sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckDepth {
    /// The heads, and the blocks that damage is most likely to have hit.
    Recent,
    /// Every record as well: damage was met since the last check.
    Everything,
}

/// What an opened database is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreCheck<'a> {
    pub(super) format: Format,
    /// The lowest height of a block that is in the journals: from there on, what is stored may be in no table yet.
    pub(super) journaled_from: Option<u64>,
    pub(super) watermark: Option<&'a WatermarkState>,
    pub(super) depth: CheckDepth,
}

impl StoreCheck<'_> {
    /// Judges what is stored by itself and against the watermark. An error is of the world around it, never damage.
    pub(super) fn judge(&self, view: &DbView) -> Result<Health, StoreError> {
        match self.read(view) {
            Ok(health) => Ok(health),
            Err(StoreError::Damaged { what }) => Ok(Health::Broken(format!("{what} is damaged"))),
            Err(other) => Err(other),
        }
    }

    fn read(&self, view: &DbView) -> Result<Health, StoreError> {
        let stamped = recent(view, self.format, self.journaled_from)?;
        match self.depth {
            CheckDepth::Recent => {}
            CheckDepth::Everything => verify(view, self.format, |_| true)?,
        }
        match self.watermark {
            Some(watermark) => against(view, &stamped, watermark),
            None => Ok(Health::Sound),
        }
    }
}

/// The heads, and the blocks that damage is most likely to have hit.
fn recent(view: &DbView, format: Format, journaled_from: Option<u64>) -> Result<StampedHeads, StoreError> {
    let stamped = view.stamped()?;
    let heads = stamped.heads;
    if view.cursor()? != heads.scanned_through {
        return Err(StoreError::damaged("the DA cursor"));
    }
    for outside in heads.tail.prev().into_iter().chain([heads.next_height()]) {
        for space in [Space::Blocks, Space::Headers, Space::Confirmations] {
            if view.contains(space, &keys::height(outside))? {
                return Err(StoreError::damaged(format!(
                    "what {} has at {outside}, outside of the chain",
                    space.name()
                )));
            }
        }
    }
    if let Some(soft) = heads.soft {
        // Tables have their own checksums; what only the journals have is verified all of it, and its seam with the tables.
        let journaled = journaled_from.and_then(Height::new).map(|lowest| lowest.prev().unwrap_or(lowest));
        let recent = soft.id.height.get().saturating_sub(BLOCKS - 1);
        let recent = Height::new(recent).unwrap_or(Height::MIN);
        chain(view, format, &heads, journaled.map_or(recent, |journaled| journaled.min(recent)), journaled)?;
        if view.tip(soft.id.height)? != Some(soft) {
            return Err(StoreError::damaged("the soft head"));
        }
    }
    if let Some(hard) = heads.hard
        && (view.confirmation(hard.height)?.map(|(hash, _)| hash) != Some(hard.hash)
            || view.hash(hard.height)? != Some(hard.hash))
    {
        return Err(StoreError::damaged("the hard head"));
    }
    view.anchor()?;
    Ok(stamped)
}

/// Verifies the stored blocks from soft down to `lowest`: at least down to `needed`, further as long as they are not too
/// many bytes.
fn chain(
    view: &DbView,
    format: Format,
    heads: &Heads,
    lowest: Height,
    needed: Option<Height>,
) -> Result<(), StoreError> {
    let (Some(soft), mut bytes) = (heads.soft, 0) else { return Ok(()) };
    let lowest = lowest.max(heads.tail);
    let mut expected = soft.id.hash;
    for height in (lowest.get()..=soft.id.height.get()).rev() {
        let Some(height) = Height::new(height) else { break };
        if bytes > BYTES && needed.is_none_or(|needed| height < needed) {
            break;
        }
        let id = BlockId { height, hash: expected };
        let block = linked(view, format, id)?;
        bytes += block.bytes().len();
        let parent = block.header().parent_hash;
        if height == heads.tail && parent != heads.base.map(|base| base.id.hash) {
            return Err(StoreError::damaged("what the lowest block links to"));
        }
        match parent {
            Some(parent) => expected = parent,
            None => break,
        }
    }
    Ok(())
}

/// The block there, if all its records agree on it.
pub(super) fn linked(view: &DbView, format: Format, id: BlockId) -> Result<Block, StoreError> {
    let damaged = || StoreError::damaged(format!("block {}", id.height));
    let (block, _) = view.block(format, id.height)?.ok_or_else(damaged)?;
    let header = view.header_record(id.height)?.ok_or_else(damaged)?;
    let agree = block.id() == id
        && header.hash == id.hash
        && header.block_bytes == weight(&block)
        && view.header(id.height)?.as_ref() == Some(block.header())
        && view.height_of(&id.hash)? == Some(id.height);
    if agree { Ok(block) } else { Err(damaged()) }
}

/// Bytes of the block.
pub(super) fn weight(block: &Block) -> u64 {
    saturate::to_u64(block.bytes().len())
}

/// Reads every record, and follows the chain from the tail to soft. `go_on` is asked after each block, and may end it.
pub(super) fn verify(view: &DbView, format: Format, mut go_on: impl FnMut(Height) -> bool) -> Result<(), StoreError> {
    let StampedHeads { heads, blocks_bytes, .. } = view.stamped()?;
    for space in Space::ALL {
        // The blocks follow, and with them the keyspaces that point to them.
        if !matches!(space, Space::Blocks | Space::Headers) {
            view.from(space, &[]).try_for_each(|entry| entry.map(|_| ()).map_err(|(_, error)| error))?;
        }
    }
    let Some(soft) = heads.soft else { return Ok(()) };
    let mut parent = heads.base.map(|base| base.id.hash);
    let mut bytes = 0;
    for height in heads.tail.get()..=soft.id.height.get() {
        let Some(height) = Height::new(height) else { continue };
        let damaged = || StoreError::damaged(format!("block {height}"));
        let hash = view.hash(height)?.ok_or_else(damaged)?;
        let block = linked(view, format, BlockId { height, hash })?;
        if block.header().parent_hash != parent {
            return Err(damaged());
        }
        bytes += weight(&block);
        parent = Some(hash);
        if !go_on(height) {
            return Ok(());
        }
    }
    if bytes != blocks_bytes {
        return Err(StoreError::damaged("the record of what the blocks weigh"));
    }
    if parent == Some(soft.id.hash) { Ok(()) } else { Err(StoreError::damaged("the soft head")) }
}

fn against(view: &DbView, stamped: &StampedHeads, watermark: &WatermarkState) -> Result<Health, StoreError> {
    let about = view.about()?.known();
    let holds = |id: BlockId| Ok::<_, StoreError>(view.hash(id.height)? == Some(id.hash));
    let beyond = |id: BlockId| stamped.heads.soft_height().is_none_or(|soft| id.height > soft);
    if let Some(hard) = watermark.hard
        && !beyond(hard.id)
        && hard.id.height >= stamped.heads.tail
        && !holds(hard.id)?
    {
        return Ok(Health::Broken(format!("the block at {} is not the one that was hard", hard.id.height)));
    }
    let same = about.is_some_and(|about| about.store_id == watermark.store_id);
    let admitted = stamped.heads.lost.is_some_and(|lost| Some(lost.to) >= watermark.heads.soft_height());
    if stamped.commit > watermark.commit && (same || admitted) {
        return Ok(Health::Sound);
    }
    let complete = match watermark.heads.soft_id() {
        None => true,
        Some(soft) if beyond(soft) => false,
        // It was pruned since, in the store of which this is a copy.
        Some(soft) if soft.height < stamped.heads.tail => true,
        Some(soft) if holds(soft)? => true,
        Some(soft) => return Ok(Health::Broken(format!("the block at {} is not the acknowledged one", soft.height))),
    };
    // A store that was put here from elsewhere is measured by its blocks alone.
    Ok(if complete && (!same || stamped.commit == watermark.commit) { Health::Sound } else { Health::Behind })
}
