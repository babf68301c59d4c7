//! What a host's stream says next. A cursor is a few heights; everything else follows from the heads and the store, so
//! nothing is queued for a host, and nothing can be lost.
//!
//! ```text
//!   Start --resume--> Waiting --> Cursor --step--> retract | gap | dataLoss | equivocation | hard | soft | idle
//!                                    ^                |
//!                                    '----------------'   again, until there is nothing to say
//! ```
//!
//! What a host is promised, and what the simulator holds this file to:
//! 1. In order, at least once, no gaps: a soft event is of the height after the one before it, unless a `retract` or a `gap`
//!    came between.
//! 2. `hard(h)` never before `soft(h)`, but for heights of a `gap`; ascending, though it passes over what was pruned; and it
//!    means that everything below `h` is hard, too.
//! 3. A rewind is said before anything else, to the lowest height that any rewind which the host has missed took back.
//! 4. A host is never sent below a block that it calls hard.
//! 5. What cannot be judged yet is waited for; what cannot be said truthfully ends the stream, and the host resumes from its
//!    own state.
//!
//! Not in here: bodies, sizes, waiting, Cap'n Proto. `api::feed` adds these.

use crate::block::{BlockId, Hash, Height};

use super::{DataLoss, Epoch, EvidenceId, Heads};

/// The most blocks in a host's locator.
pub const MAX_LOCATOR: usize = 64;

/// What a cursor looks up, all of it from one state of the store.
pub trait ChainView {
    type Error;

    /// The hash of the stored block at `height`.
    fn hash(&self, height: Height) -> Result<Option<Hash>, Self::Error>;

    /// The lowest height that was taken back by any epoch above `epoch`.
    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, Self::Error>;

    /// Whether evidence is kept that the sequencer contradicted itself above `height`.
    fn is_contradicted_above(&self, height: Height) -> Result<bool, Self::Error>;
}

/// Where a host wants to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the chain's initial height.
    Genesis,
    /// Above what is here now.
    Tip,
    /// From where the host itself stands.
    Resume(Locator),
}

/// A host's own state: some of its blocks, and the newest one that it knows to be hard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Newest first.
    blocks: Vec<BlockId>,
    hard: Option<BlockId>,
}

impl Locator {
    /// # Errors
    /// Why it makes no sense, for the host to read.
    pub fn new(blocks: Vec<BlockId>, hard: Option<BlockId>) -> Result<Self, String> {
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
        Ok(Self { blocks, hard })
    }

    /// The host's newest block.
    fn newest(&self) -> Option<BlockId> {
        self.blocks.first().copied().or(self.hard)
    }
}

/// What becomes of a [`Start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    Started(Cursor),
    /// We are behind the host, or have not seen enough of DA: ask again when the heads have changed.
    Waiting,
    /// The host's hard block contradicts ours. Never a rewind: an operator must find out who is wrong.
    ForkedBelowHard {
        theirs: BlockId,
        ours: BlockId,
    },
}

/// The next thing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything above `to` is taken back; `None`: everything.
    Retract {
        to: Option<BlockId>,
        epoch: Epoch,
    },
    /// Blocks that are not here any more, or never were; both ends included.
    Gap {
        from: Height,
        to: Height,
    },
    DataLoss(DataLoss),
    /// The first evidence above `after` that [`Cursor::concerns`].
    Equivocation {
        after: EvidenceId,
    },
    /// Block `.0` is hard.
    Hard(Height),
    /// Block `.0` is the next one; tell the cursor about it with [`Cursor::link`].
    Soft(Height),
    Idle,
    /// Nothing truthful can be said: the host must resume from its own state.
    Lost,
}

/// Whether a block stands on what the host was told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkCheck {
    /// It may be told.
    Sound,
    /// Nothing truthful can be said: as [`Step::Lost`].
    Broken,
}

/// Which events a host wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventFilter {
    /// Blocks as soon as they are soft.
    #[default]
    Soft,
    /// Blocks only when they are hard.
    Hard,
}

/// How far one stream has come. Copy it, step the copy, and keep it once what it says has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    filter: EventFilter,
    initial_height: Height,
    /// The height of the next soft event.
    next: Height,
    /// The block below `next`, as the host was told it; `None` when the host was not told any.
    on: Option<Hash>,
    /// The host stands elsewhere than below `next` and does not know it yet.
    must_retract: bool,
    /// The height of the next hard event.
    next_hard: Height,
    /// Rewinds up to this epoch are known to the host.
    epoch: Epoch,
    /// Evidence up to this one is known to the host.
    evidence: EvidenceId,
    /// Evidence at or below this height is of no interest any more.
    settled: Option<Height>,
    /// The damage that was said last.
    loss: Option<DataLoss>,
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
            Relation::Above | Relation::Other(_) => return Ok(Resumed::Waiting),
            Relation::Ours | Relation::Below => {}
        }
    }
    let Common { on, is_sure } = common_block(locator, heads, chain)?;
    if !is_sure && !may_stand_elsewhere(on, heads, chain)? {
        return Ok(Resumed::Waiting);
    }
    Ok(Resumed::Started(Cursor {
        next: on.map_or(fresh.initial_height, |block| block.height.next()),
        on: on.map(|block| block.hash),
        must_retract: on != Some(newest),
        next_hard: locator.hard.map_or(fresh.initial_height, |hard| hard.height.next()),
        ..fresh
    }))
}

/// Where a host's chain and ours part.
struct Common {
    /// The newest block that both have; `None`: none that the host names.
    on: Option<BlockId>,
    /// Whether what the host has above it will never be ours. Blocks above our head may be ours tomorrow, but not when they stand
    /// on one that is not.
    is_sure: bool,
}

fn common_block<C: ChainView + ?Sized>(locator: &Locator, heads: &Heads, chain: &C) -> Result<Common, C::Error> {
    // Nothing below their hard block is looked at: whatever else they have, they keep that one.
    let floor = locator.hard.map(|hard| hard.height);
    let candidates = locator.blocks.iter().copied().filter(|block| Some(block.height) > floor).chain(locator.hard);
    let (mut unknown, mut other) = (false, false);
    for block in candidates {
        match relation(block, heads, chain)? {
            Relation::Above => unknown = true,
            Relation::Other(_) => other = true,
            Relation::Ours | Relation::Below => return Ok(Common { on: Some(block), is_sure: other || !unknown }),
        }
    }
    Ok(Common { on: None, is_sure: other || !unknown })
}

/// Whether a host that is ahead of us may stand on a branch that lost, so that it is to go on from the newest block that it has
/// in common with us.
///
/// A sparse locator may hide where it stands: it names no block between the common one and our head. Most likely it is just
/// ahead, and we catch up. But when there are two branches above the common block, DA has decided there, and nobody proves that
/// there is more to catch up with, then to wait on is perhaps to wait for a branch that never comes: the host is told anew what
/// is there. Without evidence of two branches it must not be: it may have the only copy of what is above our head.
fn may_stand_elsewhere<C: ChainView + ?Sized>(
    common: Option<BlockId>,
    heads: &Heads,
    chain: &C,
) -> Result<bool, C::Error> {
    let Some(common) = common else { return Ok(false) };
    let next = common.height.next();
    let catching_up = heads.target.map(|target| target.height) > heads.soft_height();
    let decided = heads.hard_height() >= Some(next);
    // Below our tail there is nothing to go on from.
    Ok(decided && !catching_up && next >= heads.tail && chain.is_contradicted_above(common.height)?)
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

/// The block of our chain at this height: a stored one, or the one that the tail links to.
fn known_at<C: ChainView + ?Sized>(height: Height, heads: &Heads, chain: &C) -> Result<Option<BlockId>, C::Error> {
    match heads.base {
        Some(base) if base.id.height == height => Ok(Some(base.id)),
        _ => Ok(chain.hash(height)?.map(|hash| BlockId { height, hash })),
    }
}

/// The newest block that a host with these wishes is told.
fn shown(filter: EventFilter, heads: &Heads) -> Option<BlockId> {
    match filter {
        EventFilter::Soft => heads.soft_id(),
        EventFilter::Hard => heads.hard,
    }
}

/// What may be told of a state of the store, which may be ahead of what was announced as durable. `None`: nothing yet, the
/// announcement of a rewind, or of what was pruned, is on its way.
#[must_use]
pub fn visible(announced: &Heads, stored: &Heads) -> Option<Heads> {
    // What was announced may have been pruned since.
    let pruned = announced.hard_height().or(announced.soft_height()).is_some_and(|height| height < stored.tail);
    if announced.epoch != stored.epoch || pruned {
        return None;
    }
    Some(Heads {
        soft: if announced.soft_height() < stored.soft_height() { announced.soft } else { stored.soft },
        hard: if announced.hard_height() < stored.hard_height() { announced.hard } else { stored.hard },
        target: announced.target,
        scanned_through: announced.scanned_through.min(stored.scanned_through),
        evidence: announced.evidence.min(stored.evidence),
        ..*stored
    })
}

impl Cursor {
    /// At the chain's beginning.
    fn fresh(filter: EventFilter, initial_height: Height, heads: &Heads) -> Self {
        Self {
            filter,
            initial_height,
            next: initial_height,
            on: None,
            must_retract: false,
            next_hard: initial_height,
            epoch: heads.epoch,
            evidence: EvidenceId(0),
            settled: heads.hard_height(),
            loss: None,
        }
    }

    /// Above everything that is here now.
    fn at_tip(self, heads: &Heads) -> Self {
        let shown = shown(self.filter, heads);
        Self {
            next: shown.map_or(heads.tail, |id| id.height.next()),
            on: shown.map(|id| id.hash),
            next_hard: heads.hard_height().map_or(self.initial_height, Height::next),
            evidence: heads.evidence,
            loss: heads.lost,
            ..self
        }
    }

    /// Says what comes next, and takes it as said. `heads` and `chain` are of one state of the store.
    ///
    /// # Errors
    /// What `chain` fails with.
    pub fn step<C: ChainView + ?Sized>(&mut self, heads: &Heads, chain: &C) -> Result<Step, C::Error> {
        if let Some(rewind) = self.rewind(heads, chain)? {
            return Ok(rewind);
        }
        let news = self.new_loss(heads).or_else(|| self.new_evidence(heads));
        Ok(news.or_else(|| self.next_block(heads)).unwrap_or(Step::Idle))
    }

    /// A rewind that the host has not heard of, or its return from a branch that is not ours.
    fn rewind<C: ChainView + ?Sized>(&mut self, heads: &Heads, chain: &C) -> Result<Option<Step>, C::Error> {
        if heads.epoch > self.epoch {
            let from = chain.retracted_since(self.epoch)?;
            self.epoch = heads.epoch;
            if let Some(from) = from.filter(|from| *from < self.next) {
                let to = match from.prev().filter(|_| from > self.initial_height) {
                    None => None,
                    Some(height) => match known_at(height, heads, chain)? {
                        Some(id) => Some(id),
                        None => return Ok(Some(Step::Lost)),
                    },
                };
                self.next = from;
                self.on = to.map(|to| to.hash);
                self.must_retract = false;
                return Ok(Some(Step::Retract { to, epoch: self.epoch }));
            }
        }
        if !self.must_retract {
            return Ok(None);
        }
        self.must_retract = false;
        let to = match (self.next.prev(), self.on) {
            (Some(height), Some(hash)) => Some(BlockId { height, hash }),
            _ => None,
        };
        Ok(Some(Step::Retract { to, epoch: self.epoch }))
    }

    /// Damage that is larger than what was said of it.
    fn new_loss(&mut self, heads: &Heads) -> Option<Step> {
        let said = self.loss;
        self.loss = heads.lost.and(said);
        let lost = heads.lost.filter(|lost| said.is_none_or(|said| lost.from < said.from || lost.to > said.to))?;
        self.loss = Some(lost);
        Some(Step::DataLoss(lost))
    }

    fn new_evidence(&mut self, heads: &Heads) -> Option<Step> {
        let after = self.evidence;
        if heads.evidence <= after {
            return None;
        }
        self.evidence = heads.evidence;
        Some(Step::Equivocation { after })
    }

    /// A gap, the next hard block, or the next soft one.
    fn next_block(&mut self, heads: &Heads) -> Option<Step> {
        let shown = shown(self.filter, heads)?.height;
        if self.next < heads.tail {
            let from = self.next;
            self.next = heads.tail;
            self.on = None;
            if let Some(to) = heads.tail.prev() {
                return Some(Step::Gap { from, to });
            }
        }
        self.next_hard = self.next_hard.max(heads.tail);
        if heads.hard_height().is_some_and(|hard| self.next_hard <= hard) && self.next_hard < self.next {
            let height = self.next_hard;
            self.next_hard = height.next();
            return Some(Step::Hard(height));
        }
        if self.next > shown {
            return None;
        }
        let height = self.next;
        self.next = height.next();
        Some(Step::Soft(height))
    }

    /// Takes the block of the [`Step::Soft`] that was just taken as told.
    #[must_use]
    pub fn link(&mut self, id: BlockId, parent: Option<Hash>) -> LinkCheck {
        let links = self.on.is_none_or(|on| parent == Some(on)) && id.height.next() == self.next;
        self.on = Some(id.hash);
        if links { LinkCheck::Sound } else { LinkCheck::Broken }
    }

    /// Evidence was said up to and including `said`; more of what [`Step::Equivocation`] promised is left.
    pub fn evidence_left(&mut self, said: EvidenceId) {
        self.evidence = said;
    }

    /// Whether evidence about `height` is still of interest: DA had not decided when the stream began.
    #[must_use]
    pub fn concerns(&self, height: Height) -> bool {
        self.settled.is_none_or(|settled| height > settled)
    }
}

#[cfg(test)]
mod tests;
