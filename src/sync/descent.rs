//! What a block stands on: whether its parents lead to our chain, or to something that was given up. Pure, and without an
//! opinion on what follows from it.
//!
//! ```text
//!   ours    o---o---o---o(DA decided)---o---o(soft)
//!                \                       \
//!                 x---x---x  given up     ?---?---?  on a branch that nobody has decided about
//! ```
//!
//! Invariants:
//! 1. A walk down ends at the first block of ours: nothing on our chain is given up, whatever the list says.
//! 2. A block is given up only because it, or a block that it stands on, is on the list, or is another one than ours where DA has
//!    decided. Never for its height or its age, nor because it is not here.

use crate::block::{BlockId, Hash, Height};

/// What is known of the block right below another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// Nothing: the block itself would have to be seen.
    Unknown,
    /// There is none, or none that can be compared with ours.
    Nothing,
    Block(Hash),
}

/// What a block with this parent stands on.
#[must_use]
pub fn below(parent: Option<Hash>) -> Below {
    parent.map_or(Below::Nothing, Below::Block)
}

/// What a walk looks at.
pub trait BranchView {
    /// What is known of the block below this one, which is not ours.
    fn below(&self, block: BlockId) -> Below;

    /// The block of our chain at this height, as far as it is stored, or known as the one that the tail links to.
    fn ours(&self, height: Height) -> Option<Hash>;

    /// Whether the block itself was given up.
    fn is_given_up(&self, block: BlockId) -> bool;

    /// Up to where DA has decided for our chain; a block that is merely trusted decides nothing.
    fn decided(&self) -> Option<Height>;

    /// The rest of a way down from this block, which was looked at before.
    fn gone_before(&self, _block: BlockId) -> Option<Gone> {
        None
    }
}

/// A way down, each block of which is known to be neither ours nor given up, and to be another one than ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// The lowest block of it...
    pub first: BlockId,
    /// ...and the one that it stands on.
    pub to: BlockId,
}

/// Where the parents of a block lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// To the block `on` of our chain; `first` is the lowest one that is not ours, `None` when all are.
    Ours { on: BlockId, first: Option<BlockId> },
    /// To a block that was given up, or to another one than ours where DA has decided.
    GivenUp,
    /// Down to this block, of which nothing is known but its name.
    Open(BlockId),
    /// Down to this block, below which nothing can be compared with ours.
    Apart(BlockId),
}

/// The lowest block that was given up of those that `block` stands on, itself included, as far as they are known.
pub fn lowest_given_up(block: BlockId, view: &impl BranchView) -> Option<BlockId> {
    let (mut next, mut found) = (Some(block), None);
    while let Some(mut lowest) = next {
        if let Some(gone) = view.gone_before(lowest) {
            found = is_at_or_below(gone.first, view.decided()).then_some(gone.first).or(found);
            lowest = gone.to;
        }
        let ours = view.ours(lowest.height);
        if ours == Some(lowest.hash) {
            return found;
        }
        if is_decided(lowest, ours, view) || view.is_given_up(lowest) {
            found = Some(lowest);
        }
        next = match view.below(lowest) {
            Below::Block(hash) => lowest.height.prev().map(|height| BlockId { height, hash }),
            Below::Unknown | Below::Nothing => None,
        };
    }
    found
}

/// Whether DA has decided for `ours`, which is another one.
fn is_decided(block: BlockId, ours: Option<Hash>, view: &impl BranchView) -> bool {
    ours.is_some_and(|ours| ours != block.hash) && is_at_or_below(block, view.decided())
}

fn is_at_or_below(block: BlockId, decided: Option<Height>) -> bool {
    decided.is_some_and(|decided| block.height <= decided)
}

/// Follows the parents of `block` down.
pub fn trace(block: BlockId, view: &impl BranchView) -> Stand {
    let (mut lowest, mut first) = (block, None);
    loop {
        if let Some(gone) = view.gone_before(lowest) {
            if is_at_or_below(gone.first, view.decided()) {
                return Stand::GivenUp;
            }
            (lowest, first) = (gone.to, Some(gone.first));
        }
        let ours = view.ours(lowest.height);
        if ours == Some(lowest.hash) {
            return Stand::Ours { on: lowest, first };
        }
        if is_decided(lowest, ours, view) || view.is_given_up(lowest) {
            return Stand::GivenUp;
        }
        let hash = match view.below(lowest) {
            Below::Unknown => return Stand::Open(lowest),
            Below::Nothing => return Stand::Apart(lowest),
            Below::Block(hash) => hash,
        };
        let Some(height) = lowest.height.prev() else { return Stand::Apart(lowest) };
        first = Some(lowest);
        lowest = BlockId { height, hash };
    }
}
