//! The chain as it is told: its heads, and the evidence of contradictions.

use super::da::Floor;
use super::ids::{Epoch, EvidenceId};
use crate::block::{BlockId, Height, SignedHeader};
use crate::verify::Tip;

/// The heights that everything else follows from.
///
/// ```text
///   tail               hard                  soft                        target
///    |------- hard -----|------- soft --------|---- wanted / pending -----|
///    '------------ stored, contiguous --------'
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// The lowest stored height; where storing will begin, while nothing is stored.
    pub tail: Height,
    /// What the block at `tail` links to: the block right below it, which is not stored (any more). Its time is 0 when only its
    /// hash is known. `None` at the initial height, and before the first block of a trusted start is here.
    pub base: Option<Tip>,
    /// Everything up to here is verified, linked and stored. go-header's *store head*.
    pub soft: Option<Tip>,
    /// Everything up to here was also seen on DA, or is trusted by the operator's word. Never moves back.
    pub hard: Option<BlockId>,
    /// The highest block that a sequencer's signature proves to exist. go-header's *network head*. Never stored.
    pub target: Option<BlockId>,
    /// Rises when stored blocks are taken back.
    pub epoch: Epoch,
    /// Everything on DA up to this DA height has been reported to us; 0 when nothing has.
    pub scanned_through: u64,
    /// The newest evidence; 0 when there is none.
    pub evidence: EvidenceId,
    /// Blocks that were stored once, were lost to damage, and are not here again yet.
    pub lost: Option<DataLoss>,
    /// Where this store's reading of DA began, when that was not at DA's own beginning.
    pub floor: Option<Floor>,
}

impl Heads {
    /// A chain of which nothing is known yet.
    #[must_use]
    pub const fn empty(initial_height: Height) -> Self {
        Self {
            tail: initial_height,
            base: None,
            soft: None,
            hard: None,
            target: None,
            epoch: Epoch(0),
            scanned_through: 0,
            evidence: EvidenceId(0),
            lost: None,
            floor: None,
        }
    }

    /// What the next stored block links to.
    #[must_use]
    pub fn top(&self) -> Option<Tip> {
        self.soft.or(self.base)
    }

    /// The height that the next stored block will have.
    #[must_use]
    pub fn next_height(&self) -> Height {
        self.soft.map_or(self.tail, |soft| soft.id.height.next())
    }

    #[must_use]
    pub fn soft_id(&self) -> Option<BlockId> {
        self.soft.map(|soft| soft.id)
    }

    #[must_use]
    pub fn soft_height(&self) -> Option<Height> {
        self.soft.map(|soft| soft.id.height)
    }

    #[must_use]
    pub fn hard_height(&self) -> Option<Height> {
        self.hard.map(|hard| hard.height)
    }

    /// The height that is judged next by what DA has.
    #[must_use]
    pub fn next_unconfirmed(&self) -> Height {
        self.hard.map_or(self.tail, |hard| hard.height.next())
    }

    /// The lowest height of which DA has anything to say: the one that is judged next, and no height at or below a trusted block
    /// with which the reading of DA began.
    #[must_use]
    pub fn first_undecided(&self) -> Height {
        self.floor.map_or(self.next_unconfirmed(), |floor| self.next_unconfirmed().max(floor.id.height.next()))
    }

    /// What the block that is judged next stands on; `None` at the initial height, and where nobody knows.
    #[must_use]
    pub fn below_unconfirmed(&self) -> Option<BlockId> {
        self.hard.or(self.base.map(|base| base.id))
    }

    /// Everything up to here DA itself has decided: hard, unless that is what the operator trusts.
    #[must_use]
    pub fn decided_by_da(&self) -> Option<Height> {
        self.hard_height().filter(|hard| self.floor.is_none_or(|floor| floor.id.height < *hard))
    }

    /// The DA height above which DA is read.
    #[must_use]
    pub fn da_floor(&self) -> u64 {
        self.floor.map_or(0, |floor| floor.da)
    }

    /// Whether a block is stored at `height`.
    #[must_use]
    pub fn stores(&self, height: Height) -> bool {
        self.soft_height().is_some_and(|soft| (self.tail..=soft).contains(&height))
    }
}

/// Damage took these heights from the store. What was lost is fetched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataLoss {
    pub from: Height,
    pub to: Height,
}

/// Two blocks that the sequencer signed for one height, or one that does not link to what it signed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub id: EvidenceId,
    pub height: Height,
    pub first: EvidenceSide,
    pub second: SignedHeader,
}

/// One side of an [`Evidence`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EvidenceSide {
    /// The stored block with this hash; the store copies its signed header when it commits.
    Stored(BlockId),
    Carried(SignedHeader),
}
