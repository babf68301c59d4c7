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
//! 2. `hard(h)` only of a block that the host was given, on this stream or, as it says when it resumes, before: never of what
//!    lies in or below the last `gap`, nor of what was there when a stream began at the tip. It ascends, though it passes over
//!    what was pruned, and means that everything below `h` is hard, too.
//! 3. A rewind is said before anything else, to the lowest height that any rewind which the host has missed took back.
//! 4. A host is never sent below a block that it calls hard, whatever we call hard ourselves. Where our chain was taken back that
//!    far, the stream ends, and the next one waits until our own hard block has decided.
//! 5. A host that stands on another branch is sent to the newest block in common once our hard block has decided between the two,
//!    or a block that it names was given up or refused by a host's execution, and not before. Where its locator hides which branch it
//!    is on, it is told what to name: nobody guesses, and nobody waits for what will not come without saying so.
//! 6. What cannot be judged yet is waited for; what cannot be said truthfully ends the stream, and the host resumes from its
//!    own state.
//! 7. A cursor knows nothing that a host could not say of itself. So a host is told the same on a stream that it has kept, and
//!    on one that it has opened anew.
//!
//! Not in here: bodies, sizes, waiting, Cap'n Proto. `api::feed` adds these.

mod resume;

use crate::block::{BlockId, Hash, Height};

pub use resume::{Locator, resume};

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

    /// Whether this block was given up: it is part of our chain no more, unless DA has it after all.
    fn is_given_up(&self, hash: Hash) -> Result<bool, Self::Error>;

    /// The block that a host's execution has refused: our chain ends below it until DA or an operator decides.
    fn vetoed(&self) -> Result<Option<BlockId>, Self::Error>;
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

/// What becomes of a [`Start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    Started(Cursor),
    /// Nothing can be said yet: ask again when the heads have changed.
    Waiting(WaitsFor),
    /// The host's hard block contradicts ours. Never a rewind: an operator must find out who is wrong.
    ForkedBelowHard {
        theirs: BlockId,
        ours: BlockId,
    },
}

/// What keeps a host from going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// We have less than the host: we are to catch up, or to be given what it has.
    Us,
    /// The host's branch and ours part above our hard block: DA is to decide between them, or one is to be given up.
    Da,
    /// The host is to name its block at this height, too. It has one there, and does not say which, and our hard block is there, or
    /// one that a host's execution refused: that tells whether what the host has above it is to be taken back.
    Name(Height),
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
    Lost(Lost),
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Blocks were taken back down to where we have none to go back to.
    NothingToGoBackTo,
    /// Blocks were taken back that the host calls hard.
    BelowTheirHard,
    /// The host goes on from a block below our tail, or calls it hard; and what we fetched since is another one.
    OtherThanTrusted,
}

impl Lost {
    /// For the host to read.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NothingToGoBackTo => "blocks were taken back that we do not have",
            Self::BelowTheirHard => {
                "blocks were taken back that the host calls hard: nothing is told until our own hard block decides"
            }
            Self::OtherThanTrusted => "we have another block now than one that the host has named",
        }
    }
}

/// Whether a block stands on what the host was told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkCheck {
    /// It may be told.
    Sound,
    /// Nothing truthful can be said, as with [`Step::Lost`].
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
    believed: Believed,
    /// The host stands elsewhere than below `next` and does not know it yet.
    must_retract: bool,
    /// From here on the host was given each block below `next`.
    given_from: Height,
    /// What the host calls hard: it was told so, or said so itself.
    hard: Option<Height>,
    /// Rewinds up to this epoch are known to the host.
    epoch: Epoch,
    /// Evidence up to this one is known to the host.
    evidence: EvidenceId,
    /// Evidence at or below this height is of no interest any more.
    settled: Option<Height>,
    /// The damage that was said last.
    loss: Option<DataLoss>,
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

/// What a host has named of the chain below our tail: it is believed until we have a block there ourselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Believed {
    /// The block that it goes on from.
    on: Option<BlockId>,
    hard: Option<BlockId>,
}

impl Cursor {
    /// At the chain's beginning.
    fn fresh(filter: EventFilter, initial_height: Height, heads: &Heads) -> Self {
        Self {
            filter,
            initial_height,
            next: initial_height,
            on: None,
            believed: Believed::default(),
            must_retract: false,
            given_from: initial_height,
            hard: None,
            epoch: heads.epoch,
            evidence: EvidenceId(0),
            settled: heads.hard_height(),
            loss: None,
        }
    }

    /// Above everything that is here now.
    fn at_tip(self, heads: &Heads) -> Self {
        let shown = shown(self.filter, heads);
        let next = shown.map_or(heads.tail, |id| id.height.next());
        Self {
            next,
            on: shown.map(|id| id.hash),
            given_from: next,
            hard: heads.hard_height(),
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
        if let Some(lost) = self.misplaced(heads, chain)? {
            return Ok(lost);
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
                return self.go_back(from, heads, chain).map(Some);
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

    /// Everything from `from` on was taken back, and some of it was told.
    fn go_back<C: ChainView + ?Sized>(&mut self, from: Height, heads: &Heads, chain: &C) -> Result<Step, C::Error> {
        if self.hard >= Some(from) {
            return Ok(Step::Lost(Lost::BelowTheirHard));
        }
        let to = match from.prev().filter(|_| from > self.initial_height) {
            None => None,
            Some(height) => match known_at(height, heads, chain)? {
                Some(id) => Some(id),
                None => return Ok(Step::Lost(Lost::NothingToGoBackTo)),
            },
        };
        self.next = from;
        self.on = to.map(|to| to.hash);
        self.believed.on = None;
        self.given_from = self.given_from.min(from);
        self.must_retract = false;
        Ok(Step::Retract { to, epoch: self.epoch })
    }

    /// A block that was believed turns out to be none of ours.
    fn misplaced<C: ChainView + ?Sized>(&mut self, heads: &Heads, chain: &C) -> Result<Option<Step>, C::Error> {
        for believed in [&mut self.believed.on, &mut self.believed.hard] {
            let Some(theirs) = *believed else { continue };
            let Some(ours) = known_at(theirs.height, heads, chain)? else { continue };
            if ours != theirs {
                return Ok(Some(Step::Lost(Lost::OtherThanTrusted)));
            }
            *believed = None;
        }
        Ok(None)
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
            self.given_from = heads.tail;
            self.on = None;
            self.believed.on = None;
            if let Some(to) = heads.tail.prev() {
                return Some(Step::Gap { from, to });
            }
        }
        let next_hard = self.next_hard(heads);
        if next_hard < self.next && heads.hard_height() >= Some(next_hard) {
            self.hard = Some(next_hard);
            return Some(Step::Hard(next_hard));
        }
        if self.next > shown {
            return None;
        }
        let height = self.next;
        self.next = height.next();
        Some(Step::Soft(height))
    }

    /// The lowest block of those that the host was given, does not call hard, and we still have.
    fn next_hard(&self, heads: &Heads) -> Height {
        self.hard.map_or(self.given_from, |hard| hard.next().max(self.given_from)).max(heads.tail)
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
mod promise;
#[cfg(test)]
mod tests;
