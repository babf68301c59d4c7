//! Effects that wait for a write: answers, announcements and broadcasts, in the order in which the core gave them.
//!
//! Invariant: no announcement is followed by one that waits for the same write: of two with nothing in between only the newer
//! one would be seen. So there are not more of them than of answers, broadcasts and waiting writes together, however long a
//! write takes.

use std::collections::VecDeque;

use super::writer::WriteId;
use crate::sync::Effect;

#[derive(Debug, Default)]
pub(super) struct ParkedEffects(VecDeque<(WriteId, Effect)>);

impl ParkedEffects {
    /// Keeps the effect until this write is on disk, which is not older than those before it.
    pub fn park(&mut self, write: WriteId, effect: Effect) {
        match (self.0.back_mut(), &effect) {
            (Some((last_write, last @ Effect::Announce(_))), Effect::Announce(_)) if *last_write == write => {
                *last = effect;
            }
            _ => self.0.push_back((write, effect)),
        }
    }

    /// The next effect, if its write is on disk.
    pub fn release(&mut self, durable: WriteId) -> Option<Effect> {
        self.0.pop_front_if(|(write, _)| *write <= durable).map(|(_, effect)| effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockId, Hash, Height};
    use crate::sync::Heads;

    fn announce(scanned_through: u64) -> Effect {
        Effect::Announce(Heads { scanned_through, ..Heads::empty(Height::MIN) })
    }

    fn broadcast() -> Effect {
        Effect::Broadcast(BlockId { height: Height::MIN, hash: Hash([1; 32]) })
    }

    #[test]
    fn only_the_newest_announcement_waits_where_nothing_stands_between() {
        let [first, second] = [WriteId::default(), WriteId::default().next()];
        let mut parked = ParkedEffects::default();
        for effect in [announce(1), announce(2), broadcast(), announce(3), announce(4)] {
            parked.park(first, effect);
        }
        parked.park(second, announce(5));
        parked.park(second, announce(6));
        let mut released = |durable| std::iter::from_fn(|| parked.release(durable)).collect::<Vec<_>>();
        assert_eq!(released(first), [announce(2), broadcast(), announce(4)]);
        assert_eq!(released(second), [announce(6)]);
    }
}
