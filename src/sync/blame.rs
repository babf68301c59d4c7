//! Who is to blame for a fault, and what gossipsub is told of it. The whole table is here.
//!
//! Invariants:
//! 1. Whatever is our own uncertainty (our clock, our schedule, our room) is [`Verdict::Ignore`] and blames nobody.
//! 2. What the sequencer did wrong is never held against who relayed it.

use super::{Offence, Verdict};
use crate::verify::Fault;

/// What to do about a fault in a gossiped message, and what to hold against the peer that handed it to us (the propagation
/// source: its author field proves nothing).
#[must_use]
pub fn of_gossip(fault: &Fault) -> (Verdict, Option<Offence>) {
    match fault {
        Fault::Malformed(_)
        | Fault::WrongChain(_)
        | Fault::BelowInitialHeight(_)
        | Fault::ParentPresence
        | Fault::PayloadMismatch => (Verdict::Reject, Some(Offence::BadBlock)),
        Fault::BadSignature => (Verdict::Reject, Some(Offence::BadSignature)),
        // Our uncertainty, or the sequencer's doing: `branches` decides whether others need to see that.
        Fault::NotScheduled { .. }
        | Fault::FromTheFuture { .. }
        | Fault::BeforeParent
        | Fault::OtherParent(_)
        | Fault::TooLargeHere(_) => (Verdict::Ignore, None),
    }
}

/// What to hold against a peer whose answer contains such a block. It chose to serve it, so it should have checked it.
#[must_use]
pub fn of_answer(fault: &Fault) -> Option<Offence> {
    match fault {
        Fault::NotScheduled { .. }
        | Fault::FromTheFuture { .. }
        | Fault::BeforeParent
        | Fault::OtherParent(_)
        | Fault::TooLargeHere(_) => None,
        Fault::Malformed(_)
        | Fault::WrongChain(_)
        | Fault::BelowInitialHeight(_)
        | Fault::ParentPresence
        | Fault::PayloadMismatch
        | Fault::BadSignature => Some(Offence::BadRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockId, ChainId, Hash, Height, Malformed, PublicKey};
    use crate::verify::TooLargeHere;

    #[test]
    fn the_table() {
        let height = Height::MIN;
        let chain = ChainId::new("x").expect("valid");
        let proposer = PublicKey([1; 32]);
        let id = BlockId { height, hash: Hash([1; 32]) };
        let large = TooLargeHere { id, parent: None, len: 2, max: 1 };
        let ahead = std::time::Duration::from_secs(11);
        let bad = (Verdict::Reject, Some(Offence::BadBlock));
        let ours = (Verdict::Ignore, None);
        let range = Some(Offence::BadRange);
        for (fault, gossip, answer) in [
            (Fault::Malformed(Malformed::NotCanonical), bad, range),
            (Fault::WrongChain(chain), bad, range),
            (Fault::BelowInitialHeight(height), bad, range),
            (Fault::ParentPresence, bad, range),
            (Fault::PayloadMismatch, bad, range),
            (Fault::BadSignature, (Verdict::Reject, Some(Offence::BadSignature)), range),
            (Fault::NotScheduled { height, proposer }, ours, None),
            (Fault::FromTheFuture { ahead }, ours, None),
            (Fault::BeforeParent, ours, None),
            (Fault::OtherParent(None), ours, None),
            (Fault::TooLargeHere(Box::new(large)), ours, None),
        ] {
            assert_eq!(of_gossip(&fault), gossip, "{fault}");
            assert_eq!(of_answer(&fault), answer, "{fault}");
        }
    }
}
