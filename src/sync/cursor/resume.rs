//! Where a host goes on: what it says of itself, compared with what we have.
//!
//! ```text
//!   host   1 -- 2 -- 3 -- 4' -- 5' -- 6'        hard: 2, given from: 1
//!                     \
//!   ours               4 -- 5                   common: 3; lowest block elsewhere: 4'
//! ```
//!
//! Invariants:
//! 1. A host goes on from the newest block in common, and never from one below its hard block.
//! 2. What it has above that block is taken back only when the fork is decided. Either by our hard block: it is at or above a
//!    block of the host's that is not ours. Or since a block that the host names there was given up, or refused by a host's
//!    execution: it, and all that stands on it, is not part of our chain.
//! 3. A hard block of the host's that is not ours is never answered with a rewind.
//! 4. A host that waits is told what for. A sparse locator may hide where the host stands: it names no block between the common
//!    one and our head. Most likely it is just ahead, and perhaps it has the only copy of what is above our head; but it may as
//!    well stand on a branch that has lost, or on a block that was refused, and wait for ever. Our hard block, and the refused one,
//!    tell these apart as soon as the host names its own block at that height.

use crate::block::{BlockId, Height};

use super::{Believed, ChainView, Cursor, EventFilter, MAX_LOCATOR, Resumed, Start, WaitsFor};
use crate::sync::Heads;

/// A host's own state: some of its blocks, the newest one that it knows to be hard, and what of the chain it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Newest first.
    blocks: Vec<BlockId>,
    hard: Option<BlockId>,
    given_from: Option<Height>,
}

impl Locator {
    /// From `given_from` on the host was given each block up to its newest one; `None`: from the initial height on. What is above
    /// the newest one means the same as right above it.
    ///
    /// # Errors
    /// Why it makes no sense, for the host to read.
    pub fn new(blocks: Vec<BlockId>, hard: Option<BlockId>, given_from: Option<Height>) -> Result<Self, String> {
        if blocks.len() > MAX_LOCATOR {
            return Err(format!("a locator has at most {MAX_LOCATOR} blocks, not {}", blocks.len()));
        }
        if !blocks.is_sorted_by(|newer, older| newer.height > older.height) {
            return Err("a locator's blocks are newest first, one per height".into());
        }
        if let (Some(newest), Some(hard)) = (blocks.first(), hard) {
            if hard.height > newest.height {
                return Err(format!("hard block {hard} is above the newest block {newest}"));
            }
            if blocks.iter().any(|block| block.height == hard.height && block.hash != hard.hash) {
                return Err(format!("the locator has another block than {hard} at its height"));
            }
        }
        Ok(Self { blocks, hard, given_from })
    }

    /// Whether the host was given a block at this height, above the common one, and does not say which.
    fn hides(&self, height: Height, on: Option<BlockId>) -> bool {
        let is_between = on.is_none_or(|on| on.height < height) && self.newest().is_some_and(|it| it.height > height);
        let was_given = self.given_from.is_none_or(|from| from <= height);
        is_between && was_given && !self.blocks.iter().any(|block| block.height == height)
    }

    /// The host's newest block.
    fn newest(&self) -> Option<BlockId> {
        self.blocks.first().copied().or(self.hard)
    }
}

/// Finds where a host goes on.
///
/// # Errors
/// What `chain` fails with.
pub fn resume<C: ChainView + ?Sized>(
    start: &Start,
    filter: EventFilter,
    initial_height: Height,
    heads: &Heads,
    chain: &C,
) -> Result<Resumed, C::Error> {
    let fresh = Cursor::fresh(filter, initial_height, heads);
    match start {
        Start::Genesis => Ok(Resumed::Started(fresh)),
        Start::Tip => Ok(Resumed::Started(fresh.at_tip(heads))),
        Start::Resume(locator) => resume_from(locator, fresh, heads, chain),
    }
}

fn resume_from<C: ChainView + ?Sized>(
    locator: &Locator,
    fresh: Cursor,
    heads: &Heads,
    chain: &C,
) -> Result<Resumed, C::Error> {
    let Some(newest) = locator.newest() else { return Ok(Resumed::Started(fresh)) };
    if let Some(theirs) = locator.hard {
        match relation(theirs, heads, chain)? {
            Relation::Other(ours) if heads.hard_height().is_some_and(|hard| theirs.height <= hard) => {
                return Ok(Resumed::ForkedBelowHard { theirs, ours });
            }
            // They are ahead of us, or have seen DA further than we have: we are about to change our mind, or they are wrong.
            Relation::Above => return Ok(Resumed::Waiting(WaitsFor::Us)),
            Relation::Other(_) => return Ok(Resumed::Waiting(WaitsFor::Da)),
            Relation::Ours | Relation::Below => {}
        }
    }
    let parting = parting(locator, heads, chain)?;
    if parting.on != Some(newest) && !parting.is_decided(heads) {
        return Ok(Resumed::Waiting(parting.waits_for(heads)));
    }
    let next = parting.on.map_or(fresh.initial_height, |block| block.height.next());
    Ok(Resumed::Started(Cursor {
        next,
        on: parting.on.map(|block| block.hash),
        believed: Believed { on: parting.on, hard: locator.hard },
        must_retract: parting.on != Some(newest),
        // Of what lies below a gap that is taken back, too, nobody says whether it was given.
        given_from: locator.given_from.unwrap_or(fresh.initial_height).min(next),
        hard: locator.hard.map(|hard| hard.height),
        ..fresh
    }))
}

/// Where a host's chain and ours part, as far as the host's locator tells.
struct Parting {
    /// The newest block that both have; `None`: none that the host names.
    on: Option<BlockId>,
    /// The lowest of the host's blocks above it that is another one than ours: the two part at its height, or below.
    elsewhere: Option<Height>,
    /// The lowest of the host's blocks above it that was given up, or refused.
    given_up: Option<Height>,
    /// The height of a refused block that the host may have, and does not name.
    unnamed_veto: Option<Height>,
    /// That of our hard block, where the host has a block and does not name it.
    unnamed_hard: Option<Height>,
}

fn parting<C: ChainView + ?Sized>(locator: &Locator, heads: &Heads, chain: &C) -> Result<Parting, C::Error> {
    // Nothing below their hard block is looked at: whatever else they have, they keep that one.
    let floor = locator.hard.map(|hard| hard.height);
    let candidates = locator.blocks.iter().copied().filter(|block| Some(block.height) > floor).chain(locator.hard);
    let vetoed = chain.vetoed()?;
    let mut parting = Parting { on: None, elsewhere: None, given_up: None, unnamed_veto: None, unnamed_hard: None };
    for block in candidates {
        match relation(block, heads, chain)? {
            Relation::Above => {}
            Relation::Other(_) => parting.elsewhere = Some(block.height),
            Relation::Ours | Relation::Below => {
                parting.on = Some(block);
                break;
            }
        }
        if vetoed == Some(block) || chain.is_given_up(block.hash)? {
            parting.given_up = Some(block.height);
        }
    }
    let hides = |height: &Height| locator.hides(*height, parting.on);
    (parting.unnamed_veto, parting.unnamed_hard) =
        (vetoed.map(|vetoed| vetoed.height).filter(hides), heads.hard_height().filter(hides));
    Ok(parting)
}

impl Parting {
    /// Whether what the host has above the common block is to be taken back. Blocks above our head may be ours tomorrow; and while
    /// DA has not decided between two branches, and neither was given up, either may win.
    fn is_decided(&self, heads: &Heads) -> bool {
        self.given_up.is_some() || self.elsewhere.is_some_and(|elsewhere| heads.hard_height() >= Some(elsewhere))
    }

    /// What would decide.
    fn waits_for(&self, heads: &Heads) -> WaitsFor {
        // While we catch up, what is in common may still rise by itself.
        let catching_up = heads.target.map(|target| target.height) > heads.soft_height();
        match self.unnamed_veto.or(self.unnamed_hard.filter(|_| !catching_up)) {
            Some(deciding) => WaitsFor::Name(deciding),
            None if self.elsewhere.is_some() => WaitsFor::Da,
            None => WaitsFor::Us,
        }
    }
}

/// How a block of the host's relates to our chain.
enum Relation {
    Ours,
    /// We have this one at its height.
    Other(BlockId),
    /// Higher than anything that we have.
    Above,
    /// Lower than anything that we have: it is taken on trust.
    Below,
}

fn relation<C: ChainView + ?Sized>(block: BlockId, heads: &Heads, chain: &C) -> Result<Relation, C::Error> {
    if heads.soft_height().is_none_or(|soft| block.height > soft) {
        return Ok(if block.height < heads.tail { Relation::Below } else { Relation::Above });
    }
    if block.height < heads.tail {
        return Ok(match heads.base {
            Some(base) if base.id.height == block.height && base.id != block => Relation::Other(base.id),
            _ => Relation::Below,
        });
    }
    Ok(match chain.hash(block.height)? {
        Some(hash) if hash == block.hash => Relation::Ours,
        Some(hash) => Relation::Other(BlockId { height: block.height, hash }),
        // Stored by the heads, but not there: damage. It will be fetched again.
        None => Relation::Above,
    })
}
