//! What one input leads to: collected while the parts decide, and handed out in the order in which it must be carried out.
//!
//! ```text
//!   immediate (Judge, Fetch, Cancel, Penalize, TryKnownPeers) --> Commit --> Sign --> Announce --> Reply, Broadcast, as decided
//! ```
//!
//! Invariants:
//! 1. A decision makes at most one commit, which carries its changes in the order in which they were made. Commits are numbered
//!    from 1 on, without a gap.
//! 2. A signature is asked for after the commit of its decision: its guard stands above that commit's.
//! 3. What the guard is raised to stands above what it was lowered to in the same decision: only what was decided later.
//! 4. Whatever a host or a peer hears of a decision comes after its commit, so that it waits for durability.
//! 5. The heads are announced once whenever they have changed, and not otherwise.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Answer, Batch, Change, CommitId, Effect, Fetch, GuardEntry, Heads, Offence, PeerId, RequestId, Ticket, Verdict,
};
use crate::block::BlockId;

/// The decision that is being made.
#[derive(Debug)]
pub(super) struct Decision {
    /// What its commit writes, but for the guard.
    changes: Vec<Change>,
    guard: Option<GuardEntry>,
    /// The id that its commit will have.
    next_commit: CommitId,
    immediate: Vec<Effect>,
    signatures: Vec<Effect>,
    after_durable: Vec<Effect>,
    /// The heads as of the last commit.
    committed: Heads,
    /// The heads as they were announced last.
    announced: Option<Heads>,
}

impl Decision {
    /// For a core that goes on from these heads, which are on disk, and begins with these changes.
    pub fn new(committed: Heads, changes: Vec<Change>) -> Self {
        Self {
            changes,
            guard: None,
            next_commit: CommitId(1),
            immediate: Vec::new(),
            signatures: Vec::new(),
            after_durable: Vec::new(),
            committed,
            announced: None,
        }
    }

    /// The commit that carries the changes of this decision.
    pub fn next_commit(&self) -> CommitId {
        self.next_commit
    }

    /// One more change for the store.
    pub fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Our key has signed this block, which is among the changes.
    pub fn guard(&mut self, entry: GuardEntry) {
        self.guard = Some(entry);
    }

    /// From here on this, or nothing, is what the key signed last, whatever the guard was raised to before.
    pub fn reset_guard(&mut self, last: Option<BlockId>) {
        self.guard = None;
        self.change(Change::ResetGuard(last));
    }

    pub fn judge(&mut self, ticket: Ticket, verdict: Verdict) {
        self.immediate.push(Effect::Judge { ticket, verdict });
    }

    pub fn fetch(&mut self, fetch: Fetch) {
        self.immediate.push(Effect::Fetch(fetch));
    }

    pub fn cancel(&mut self, request: RequestId) {
        self.immediate.push(Effect::Cancel(request));
    }

    pub fn penalize(&mut self, peer: PeerId, offence: Offence, ban: Option<Duration>) {
        self.immediate.push(Effect::Penalize { peer, offence, ban });
    }

    pub fn try_known_peers(&mut self, round: u64) {
        self.immediate.push(Effect::TryKnownPeers { round });
    }

    pub fn sign(&mut self, ticket: Ticket, header_bytes: Bytes, payload: Bytes, guard: GuardEntry) {
        self.signatures.push(Effect::Sign { ticket, header_bytes, payload, guard });
    }

    pub fn reply(&mut self, ticket: Ticket, answer: Answer) {
        self.after_durable.push(Effect::Reply { ticket, answer });
    }

    pub fn broadcast(&mut self, id: BlockId) {
        self.after_durable.push(Effect::Broadcast(id));
    }

    /// Everything that was decided since the last call, as effects in their order. `heads` are those after the last change.
    pub fn take_effects(&mut self, heads: Heads) -> Vec<Effect> {
        let mut effects = std::mem::take(&mut self.immediate);
        effects.extend(self.take_batch(heads).map(Effect::Commit));
        effects.append(&mut self.signatures);
        if self.announced != Some(heads) {
            self.announced = Some(heads);
            effects.push(Effect::Announce(heads));
        }
        effects.append(&mut self.after_durable);
        effects
    }

    /// What is to be written; `None` when nothing that is stored has changed.
    fn take_batch(&mut self, heads: Heads) -> Option<Batch> {
        let guard = self.guard.take();
        // The target is proved anew after every start, so it is not worth a write.
        let stored = |heads: Heads| Heads { target: None, ..heads };
        if self.changes.is_empty() && guard.is_none() && stored(heads) == stored(self.committed) {
            return None;
        }
        self.committed = heads;
        let id = self.next_commit;
        self.next_commit = id.next();
        Some(Batch { id, changes: std::mem::take(&mut self.changes), heads, guard })
    }
}
