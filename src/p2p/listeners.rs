//! Which listeners have yet to say where they listen: a node is ready when none has.
//!
//! One listener may have many addresses, one for each interface when it listens on all of them, so that addresses cannot be
//! counted. Nor need it have any: where no interface has an address of its family it says nothing, and is given up.

use std::collections::HashSet;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use tokio::time::Instant;

/// The system is asked for its addresses, which takes no time; this is for when it has none.
const PATIENCE: Duration = Duration::from_secs(5);

/// What it means that a listener has said where it listens, or why it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoke {
    /// It was the last that was waited for: all have said it now. At most once.
    Last,
    /// Others are still waited for, or it was not.
    NotLast,
}

#[derive(Debug)]
pub struct Listeners {
    silent: HashSet<ListenerId>,
    give_up_at: Instant,
}

impl Listeners {
    pub fn new(all: impl IntoIterator<Item = ListenerId>, now: Instant) -> Self {
        Self { silent: all.into_iter().collect(), give_up_at: now + PATIENCE }
    }

    /// This one has said where it listens, or why it does not.
    pub fn spoke(&mut self, listener: ListenerId) -> Spoke {
        if self.silent.remove(&listener) && self.silent.is_empty() { Spoke::Last } else { Spoke::NotLast }
    }

    /// Until when they are waited for; `None` when nobody is.
    pub fn wait_until(&self) -> Option<Instant> {
        (!self.silent.is_empty()).then_some(self.give_up_at)
    }

    /// Waits for no more of them, if it is time. How many said nothing.
    pub fn give_up(&mut self, now: Instant) -> usize {
        let late = self.wait_until().is_some_and(|until| until <= now);
        let given_up = if late { self.silent.len() } else { 0 };
        if late {
            self.silent.clear();
        }
        given_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_them_are_waited_for_whatever_one_of_them_says() {
        let (now, [first, second]) = (Instant::now(), [ListenerId::next(), ListenerId::next()]);
        let mut listeners = Listeners::new([first, second], now);
        let twice = [listeners.spoke(first), listeners.spoke(first)];
        assert_eq!(twice, [Spoke::NotLast; 2], "two addresses of one listener");
        assert!(listeners.wait_until().is_some());
        assert_eq!(listeners.spoke(second), Spoke::Last);
        assert_eq!(listeners.spoke(second), Spoke::NotLast, "the last one is the last one once");
        assert_eq!((listeners.wait_until(), listeners.give_up(now + 2 * PATIENCE)), (None, 0));
    }

    #[test]
    fn a_silent_one_is_given_up_in_time() {
        let (now, [first, second]) = (Instant::now(), [ListenerId::next(), ListenerId::next()]);
        let mut listeners = Listeners::new([first, second], now);
        listeners.spoke(first);
        assert_eq!(listeners.give_up(now), 0);
        assert_eq!(listeners.give_up(now + PATIENCE), 1);
        assert_eq!(listeners.wait_until(), None);
        assert_eq!(listeners.spoke(second), Spoke::NotLast, "that it spoke after all is no news");
    }
}
