//! Whose turn it is: the hosts' requests and the network's events, and the deadlines of the core.
//!
//! Invariants, so that nobody can be shut out, however busy the others are:
//! 1. While requests and events both wait, neither is served twice in a row.
//! 2. A deadline that has passed is judged after what waited to be read at that moment, and before what came later.

use std::time::Instant;

use tokio::sync::mpsc;

use crate::sync::Input;

/// Two queues that are served by turns.
#[derive(Debug)]
pub(super) struct Turns<A, B> {
    pub first: mpsc::Receiver<A>,
    second: mpsc::Receiver<B>,
    /// Which one was served last.
    last: Served,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    First,
    Second,
}

/// What was served; `None`: that queue has come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn<A, B> {
    First(Option<A>),
    Second(Option<B>),
}

impl<A, B> Turns<A, B> {
    pub fn new(first: mpsc::Receiver<A>, second: mpsc::Receiver<B>) -> Self {
        Self { first, second, last: Served::Second }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.first.len() + self.second.len()
    }

    /// The next one. Nothing is lost when this is dropped before it ends.
    pub async fn next(&mut self) -> Turn<A, B> {
        let Self { first, second, last } = self;
        let turn = match last {
            Served::Second => tokio::select! {
                biased;
                one = first.recv() => Turn::First(one),
                one = second.recv() => Turn::Second(one),
            },
            Served::First => tokio::select! {
                biased;
                one = second.recv() => Turn::Second(one),
                one = first.recv() => Turn::First(one),
            },
        };
        *last = if matches!(turn, Turn::First(_)) { Served::First } else { Served::Second };
        turn
    }
}

/// A deadline that has passed while there was much to read.
#[derive(Debug, Default)]
pub(super) struct Overdue {
    /// So many turns come before it.
    before: Option<usize>,
}

impl Overdue {
    /// Before each turn: the deadline, if it is its turn. `waiting`: what is there to be read.
    pub fn turn(&mut self, deadline: Option<Instant>, now: Instant, waiting: usize) -> Option<Input> {
        if deadline.is_none_or(|deadline| deadline > now) {
            self.before = None;
            return None;
        }
        // Where nothing waits, the loop finds the deadline itself.
        let before = self.before.unwrap_or(waiting.max(1));
        self.before = before.checked_sub(1);
        (before == 0).then_some(Input::Wakeup)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_waits_for_what_waited_and_not_for_what_came_later() {
        let mut overdue = Overdue::default();
        let now = Instant::now();
        let (passed, later) = (Some(now), Some(now + Duration::from_nanos(1)));
        let mut turns = |deadline, waiting: &[usize]| -> Vec<bool> {
            waiting.iter().map(|waiting| overdue.turn(deadline, now, *waiting).is_some()).collect()
        };
        assert_eq!(turns(later, &[9, 9]), [false, false]);
        // Two wait when it passes, and many come.
        assert_eq!(turns(passed, &[2, 50, 50, 3, 50, 50, 50]), [false, false, true, false, false, false, true]);
        assert_eq!(turns(None, &[9]), [false], "it was moved");
        assert_eq!(turns(passed, &[0, 0, 0]), [false, true, false], "there is a turn between two");
    }

    #[tokio::test]
    async fn two_that_wait_are_served_by_turns_and_one_alone_at_once() {
        let ((requests, first), (events, second)) = (mpsc::channel(16), mpsc::channel(16));
        let mut turns = Turns::new(first, second);
        for number in 1..=4 {
            requests.try_send(number).expect("there is room");
        }
        for number in [10, 11] {
            events.try_send(number).expect("there is room");
        }
        let mut served = Vec::new();
        for _ in 0..6 {
            served.push(match turns.next().await {
                Turn::First(one) | Turn::Second(one) => one.expect("it goes on"),
            });
        }
        assert_eq!(served, [1, 10, 2, 11, 3, 4]);
        drop(events);
        assert_eq!(turns.next().await, Turn::Second(None));
    }
}
