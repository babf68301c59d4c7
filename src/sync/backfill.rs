//! What lies below the tail of a store that began above the initial height, fetched downwards when the operator wants it.
//!
//! Each block is proved by its hash, which the block above it names: nothing has to be believed, and no peer can harm more
//! than its own standing. It is slow on purpose: one request at a time, and none while anything is missing above.
//!
//! Invariants:
//! 1. Only the block that the tail links to is put below it.
//! 2. While DA has been read and has confirmed nothing, the tail stays: what DA had for the blocks below it was not kept, and
//!    hard begins at the tail.

use std::time::Duration;

use super::fetch::Open;
use super::{Ask, Ctx, Ended, Fetched, Offence, Origin, Syncer};
use crate::block::Height;
use crate::clock::Now;

/// What is known of the blocks below.
#[derive(Debug)]
pub(super) struct Backfill {
    /// How many blocks to ask for at once: fewer after an answer that did not reach the tail, since only what does is of use.
    amount: u64,
}

impl Backfill {
    pub fn new() -> Self {
        Self { amount: 1 }
    }
}

impl Syncer {
    /// The height to be fetched next, when there is nothing better to do.
    fn next_below(&self) -> Option<Height> {
        let idle = !self.behind() && !self.is_full() && !self.draining;
        let base = self.chain.heads.base?.id;
        let next = base.height;
        let stands = self.pinned(next).is_none_or(|pinned| pinned == base);
        let wanted = self.config.history.backfills() && next >= self.rules.initial_height && stands;
        (wanted && idle && self.may_go_below()).then_some(next)
    }

    /// Whether the tail may go down: see above, and there must be one.
    fn may_go_below(&self) -> bool {
        let heads = self.chain.heads;
        heads.soft.is_some() && (heads.hard.is_some() || heads.scanned_through == 0)
    }

    /// Whether blocks below the tail are wanted, and no peer that could have them does.
    pub(super) fn lacks_below(&self) -> bool {
        self.next_below().is_some_and(|next| self.peers.lack_history(next))
    }

    /// Asks for the blocks right below the tail.
    pub(super) fn ask_below(&mut self, now: Duration) {
        let Some(last) = self.next_below() else { return };
        if self.requests.below_tail().is_some() || self.chain.fresh_bytes() > self.config.limits.commit_bytes {
            return;
        }
        let sizes = self.sizes();
        let most = last.above(self.rules.initial_height) + 1;
        let mut amount = self.backfill.amount.clamp(1, sizes.per_request()).min(most);
        let max_open = self.config.limits.requests_per_peer;
        loop {
            // No lower than the initial height, see above.
            let from = Height::new(last.get() - (amount - 1)).unwrap_or(last);
            let able = self.peers.iter().filter(|(_, peer)| peer.can_serve(from, now, max_open));
            let best = able.min_by_key(|(_, peer)| (!peer.serves(), peer.cost())).map(|(id, _)| id.clone());
            if let Some(peer) = best {
                let bytes = if amount == 1 { sizes.next_answer_bytes(1) } else { sizes.answer_bytes(amount) };
                return self.send(now, &peer, Ask::Range { from, amount }, bytes);
            }
            if amount == 1 {
                return self.retry_when_rested(now);
            }
            // Somebody may have a part of it.
            amount /= 2;
        }
    }

    /// The answer to what [`Self::ask_below`] asked for.
    pub(super) fn answered_below(&mut self, ctx: Ctx<'_>, open: &Open, fetched: &Fetched) {
        let Ask::Range { from, amount } = open.ask else { return };
        let now = ctx.now.elapsed;
        let blocks = &fetched.blocks;
        let count = u64::try_from(blocks.len()).unwrap_or(u64::MAX);
        if count > amount || !super::exchange::is_run(from, blocks) {
            return self.bad_below(ctx.now, open);
        }
        if count > 0
            && let Some(peer) = self.peers.get_mut(&open.peer)
        {
            peer.gave(from);
        }
        if count < amount {
            // It ends below the tail: the next one is to reach it.
            self.backfill.amount = count.max(1);
            let is_refusal =
                matches!(fetched.ended, Ended::NotFound) && self.peers.has_nothing_at(&open.peer, from, now);
            match fetched.ended {
                _ if count > 0 || is_refusal => {}
                Ended::NotSent => self.peers.rest(&open.peer, now),
                // It says that a block is too heavy for the answer: of one alone that cannot be.
                Ended::Cut if amount > 1 => {}
                _ => self.peers.failed(&open.peer, open.sent, now),
            }
            return;
        }
        if !self.may_go_below() {
            // That has changed since it was asked for.
            return;
        }
        for block in blocks.iter().rev() {
            if self.pinned(block.height()).is_some_and(|pinned| pinned != block.id()) {
                // Our chain is not the one that the operator trusts: it ends here.
                return;
            }
            if self.chain.prepend(block, Origin::Range).is_err() {
                // The sequencer signed it, and it is not what our chain stands on.
                if let Some(peer) = self.peers.get_mut(&open.peer) {
                    peer.other_branch = true;
                }
                return self.peers.failed(&open.peer, open.sent, now);
            }
        }
        self.backfill.amount = amount.saturating_mul(2);
        self.peers.served(&open.peer, now.saturating_sub(open.sent));
    }

    fn bad_below(&mut self, now: Now, open: &Open) {
        self.peers.failed(&open.peer, open.sent, now.elapsed);
        self.penalize(now, &open.peer, Offence::BadRange);
    }
}
