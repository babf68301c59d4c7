//! When a node that may sign waits: the rules, clause by clause, each of which can be left out. Where a block's parents lead, and
//! whether enough peers were heard, the core's own functions say.

use blocksyncd::block::{BlockId, Hash, Height};
use blocksyncd::sync::descent::{self, Below, BranchView};

use crate::tree::{Block, Set};

use super::state::Lists;

/// One clause of the rules; what it says is the name, and `clauses.rs` has what goes wrong without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    WaitsForWhatIsAhead,
    WhateverItsTime,
    WhateverItsSize,
    EvenWithoutRoom,
    NotOnlyTheHighest,
    NotOnlyTheNext,
    FullMeansWait,
    DisownedIsNotWaitedFor,
    DisownedIsNotStored,
    UnlessDaGivesIt,
    ListOfTheAbandoned,
    ListIsDurable,
    ListInTheSameCommit,
    CopyBesideTheGuard,
    WalkedByHash,
    OtherThanDaDecided,
    TrustedDecidesNothing,
    OurChainFirst,
    LeavesTheListWhenStored,
    NoPatience,
    NoAbsence,
    OperatorDisowns,
    NeverADescendantOfOurs,
    AbandonFreesOnlyTheDead,
    MismatchFreesNothing,
    WordFreesNothing,
    NamesAreWaitedFor,
    TheStrongestCounts,
    DisownedGuardStopsNobody,
    GuardFallsOverNothing,
    UnusedSignaturePutsBack,
    AsksAfterAStart,
    AsksAfterSoftFell,
    AsksAfterTheGuardFell,
    SentSinceThen,
    EveryConnectedPeer,
    EveryPeerOfTheBook,
    AtLeastOneAnswers,
    OrHalfAMinute,
    NeverSignedToo,
    TheBookCounts,
    NobodyKnownNoWait,
    StartRaisesTheGuard,
}

impl Clause {
    pub const ALL: [Self; 43] = [
        Self::WaitsForWhatIsAhead,
        Self::WhateverItsTime,
        Self::WhateverItsSize,
        Self::EvenWithoutRoom,
        Self::NotOnlyTheHighest,
        Self::NotOnlyTheNext,
        Self::FullMeansWait,
        Self::DisownedIsNotWaitedFor,
        Self::DisownedIsNotStored,
        Self::UnlessDaGivesIt,
        Self::ListOfTheAbandoned,
        Self::ListIsDurable,
        Self::ListInTheSameCommit,
        Self::CopyBesideTheGuard,
        Self::WalkedByHash,
        Self::OtherThanDaDecided,
        Self::TrustedDecidesNothing,
        Self::OurChainFirst,
        Self::LeavesTheListWhenStored,
        Self::NoPatience,
        Self::NoAbsence,
        Self::OperatorDisowns,
        Self::NeverADescendantOfOurs,
        Self::AbandonFreesOnlyTheDead,
        Self::MismatchFreesNothing,
        Self::WordFreesNothing,
        Self::NamesAreWaitedFor,
        Self::TheStrongestCounts,
        Self::DisownedGuardStopsNobody,
        Self::GuardFallsOverNothing,
        Self::UnusedSignaturePutsBack,
        Self::AsksAfterAStart,
        Self::AsksAfterSoftFell,
        Self::AsksAfterTheGuardFell,
        Self::SentSinceThen,
        Self::EveryConnectedPeer,
        Self::EveryPeerOfTheBook,
        Self::AtLeastOneAnswers,
        Self::OrHalfAMinute,
        Self::NeverSignedToo,
        Self::TheBookCounts,
        Self::NobodyKnownNoWait,
        Self::StartRaisesTheGuard,
    ];
}

/// The rules, whole or with one clause left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    pub without: Option<Clause>,
}

impl Rules {
    pub fn has(self, clause: Clause) -> bool {
        self.without != Some(clause)
    }
}

/// By what a block is disowned, the weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// It was abandoned after a mismatch of names, which proves nothing: it is not stored, and waited for all the same.
    Name,
    /// An operator's word: frees no guard.
    Word,
    Da,
}

/// What is known of the branch of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It leads to our chain, to this block of it.
    On(Block),
    Disowned(By),
    /// Nobody has said yet what is below this block.
    Unknown(Block),
    /// It leads below the lowest block that is known here.
    Apart,
}

impl Stand {
    pub fn is_disowned(self) -> bool {
        matches!(self, Self::Disowned(_))
    }

    /// Whether a node that may sign waits for a block that stands like this.
    pub fn is_waited_for(self, rules: Rules) -> bool {
        match self {
            Self::Disowned(By::Name) => rules.has(Clause::NamesAreWaitedFor),
            Self::Disowned(By::Word | By::Da) => !rules.has(Clause::DisownedIsNotWaitedFor),
            _ => true,
        }
    }
}

/// Our chain, and what was decided about others.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    pub soft: Block,
    /// The height of the lowest block that is stored.
    pub tail: u8,
    /// Up to which height DA decided.
    pub hard: u8,
    pub lists: Lists,
}

impl Ours {
    /// Whether the block is stored, or is what the lowest stored block stands on.
    pub fn has(&self, block: Block) -> bool {
        block.height() + 1 >= self.tail && block.is_on(self.soft)
    }
}

/// What a walk down from `top` looks at.
struct View<'a> {
    rules: Rules,
    ours: &'a Ours,
    known: Set,
    top: Block,
    /// The weakest word that counts.
    counts: By,
}

impl BranchView for View<'_> {
    fn below(&self, id: BlockId) -> Below {
        let block = block_of(id);
        if block.height() < self.ours.tail || block.parent() == Block::ROOT {
            return Below::Nothing;
        }
        if self.known.has(block) { Below::Block(id_of(block.parent()).hash) } else { Below::Unknown }
    }

    fn ours(&self, height: Height) -> Option<Hash> {
        let height = u8::try_from(height.get()).expect("small");
        let stored = (height <= self.ours.soft.height()).then(|| self.ours.soft.at(height));
        let listed = |block: &Block| self.ours.lists.by(*block).is_some() && !self.rules.has(Clause::OurChainFirst);
        Some(id_of(stored.filter(|block| self.ours.has(*block) && !listed(block))?).hash)
    }

    fn is_given_up(&self, id: BlockId) -> bool {
        let block = block_of(id);
        let walked = block == self.top || self.rules.has(Clause::WalkedByHash);
        walked && self.ours.lists.by(block) >= Some(self.counts)
    }

    fn decided(&self) -> Option<Height> {
        let trusted = self.rules.has(Clause::TrustedDecidesNothing) || self.ours.tail == 1;
        let decided = if trusted { self.ours.hard } else { self.ours.tail.max(self.ours.hard) };
        Height::new(decided.into()).filter(|_| self.rules.has(Clause::OtherThanDaDecided))
    }
}

fn id_of(block: Block) -> BlockId {
    let mut hash = [0; Hash::LEN];
    hash[0] = block.number();
    BlockId { height: Height::new(block.height().into()).expect("not the root"), hash: Hash(hash) }
}

fn block_of(id: BlockId) -> Block {
    Block::numbered(id.hash.0[0])
}

/// Where the branch of `block` leads to; of the blocks in `known` it is known what they stand on.
pub fn stand(rules: Rules, ours: &Ours, block: Block, known: Set) -> Stand {
    if block == Block::ROOT {
        return Stand::On(block);
    }
    let walk = |counts| descent::trace(id_of(block), &View { rules, ours, known, top: block, counts });
    let weakest = walk(By::Name);
    if weakest == descent::Stand::GivenUp {
        let strongest = [By::Da, By::Word].into_iter().find(|by| walk(*by) == descent::Stand::GivenUp);
        let by = if rules.has(Clause::TheStrongestCounts) { strongest } else { first_word(ours, block, known) };
        return Stand::Disowned(by.unwrap_or(By::Name));
    }
    match weakest {
        descent::Stand::Ours { on, .. } => Stand::On(block_of(on)),
        descent::Stand::Open(at) => Stand::Unknown(block_of(at)),
        // The first block of the chain stands on nothing, as an empty chain does.
        descent::Stand::Apart(_) if ours.soft == Block::ROOT => Stand::On(Block::ROOT),
        descent::Stand::Apart(_) | descent::Stand::GivenUp => Stand::Apart,
    }
}

/// What the first listed block on the way down is listed for.
fn first_word(ours: &Ours, block: Block, known: Set) -> Option<By> {
    let mut at = block;
    while ours.lists.by(at).is_none() && known.has(at) && at.parent() != Block::ROOT {
        at = at.parent();
    }
    ours.lists.by(at).or(Some(By::Da))
}

/// Whether DA decided against this block, which the guard names, and against everything between it and what is stored.
pub fn frees_guard(rules: Rules, ours: &Ours, last: Block, known: Set, counts: By) -> bool {
    let view = View { rules, ours, known, top: last, counts };
    let lowest = descent::lowest_given_up(id_of(last), &view).map(block_of);
    let next = ours.soft.height() + 1;
    lowest.is_some_and(|lowest| lowest.height() <= next || !rules.has(Clause::GuardFallsOverNothing))
}
