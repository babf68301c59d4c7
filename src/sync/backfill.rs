//! What lies below the tail of a store that began above the initial height, fetched downwards when the operator wants it.
//!
//! Each block is proved by its hash, which the block above it names: no peer has to be believed, and none can harm more
//! than its own standing. It is slow on purpose: one request at a time, and none while anything is missing above.
//!
//! Invariants:
//! 1. Only the block that the tail links to is put below it.
//! 2. While any of DA has been read, be it the first position alone, and has confirmed nothing, the tail stays: what DA had for the
//!    blocks below it was not kept, and hard begins at the tail.
//! 3. Whoever follows another branch is asked, too: it may have left ours above the tail. Only who gave another block than the one
//!    that the tail links to is not asked for that one again, until its head changes.

use super::History;
use super::chain::Chain;
use super::da::Da;
use super::exchange::{Exchange, SpanBelow};
use super::reverse_sync::ReverseSync;
use crate::block::Height;

#[derive(Debug)]
pub(super) struct Backfill {
    wanted: bool,
    initial_height: Height,
    /// How many blocks to ask for at once: fewer after an answer that did not reach the tail, since only what does is of use.
    amount: u64,
}

impl Backfill {
    pub fn new(history: History, initial_height: Height) -> Self {
        Self { wanted: history.backfills(), initial_height, amount: 1 }
    }

    /// The block that the tail links to, when it is to be fetched.
    pub fn next(&self, chain: &Chain, da: &Da, reverse_sync: &ReverseSync) -> Option<Height> {
        let base = chain.heads().base?.id;
        let next = base.height;
        let stands = reverse_sync.pinned(next).is_none_or(|pinned| pinned == base);
        let wanted = self.wanted && next >= self.initial_height && stands;
        (wanted && tail_may_fall(chain, da)).then_some(next)
    }

    /// The blocks to ask for next, the highest of which is `last`.
    pub fn span(&self, last: Height, exchange: &Exchange) -> SpanBelow {
        let most = last.above(self.initial_height) + 1;
        SpanBelow { last, amount: self.amount.clamp(1, exchange.blocks_per_request()).min(most) }
    }

    /// An answer brought all of this many blocks that it was asked for.
    pub fn answered_in_full(&mut self, amount: u64) {
        self.amount = amount.saturating_mul(2);
    }

    /// An answer brought no more than this: the next one is to reach the tail.
    pub fn answered_in_part(&mut self, count: u64) {
        self.amount = count.max(1);
    }
}

/// Whether the tail may go down: see invariant 2, and there must be a stored block.
pub(super) fn tail_may_fall(chain: &Chain, da: &Da) -> bool {
    let heads = chain.heads();
    heads.soft.is_some() && (heads.hard.is_some() || da.knows_nothing())
}
