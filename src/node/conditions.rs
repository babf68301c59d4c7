//! What is wrong is in the log as it is in the status: a line when it begins, a line when it ends, and in between one when the text
//! has changed.
//!
//! Invariants:
//! 1. A peer that provokes a condition cannot fill the log: there are at most two lines per condition and minute.
//! 2. A condition that lasts is logged, at the latest one minute after its previous line, and so is its end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sync::{FORKED, Status, UnheardRound, history_gone};

/// The shortest time between two lines that a condition holds.
const REPEAT: Duration = Duration::from_mins(1);

/// What was logged.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    told: BTreeMap<&'static str, Told>,
    /// The number of the last round of hearing that ended without everybody's answer.
    unheard: u64,
}

/// The last line about one condition.
#[derive(Debug)]
struct Told {
    /// `None`: the condition was over.
    text: Option<String>,
    /// When it was last logged that the condition holds.
    at: Duration,
}

/// What the log is to say of one condition. `None`: it is over.
pub(super) type News = (&'static str, Option<String>);

impl Conditions {
    /// The lines to log now: the present conditions compared with what was logged.
    pub fn news(&mut self, status: &Status, now: Duration) -> Vec<News> {
        conditions(status).into_iter().filter_map(|(name, text)| self.tell(name, text, now)).collect()
    }

    fn tell(&mut self, name: &'static str, text: Option<String>, now: Duration) -> Option<News> {
        let last = self.told.get(name);
        let told_at = last.map(|last| last.at);
        let is_same = last.and_then(|last| last.text.as_ref()) == text.as_ref();
        let is_early = text.is_some() && told_at.is_some_and(|at| now < at + REPEAT);
        if is_same || is_early {
            return None;
        }
        let at = if text.is_some() { now } else { told_at.unwrap_or(now) };
        self.told.insert(name, Told { text: text.clone(), at });
        Some((name, text))
    }

    /// A round of hearing that has ended without everybody's answer, if the log has not told it yet.
    pub fn unheard(&mut self, last: Option<UnheardRound>) -> Option<UnheardRound> {
        let last = last.filter(|last| last.number > self.unheard)?;
        self.unheard = last.number;
        Some(last)
    }
}

/// Everything that holds a node up, by name.
fn conditions(status: &Status) -> Vec<News> {
    vec![
        ("halted", status.halted.map(|halt| halt.to_string())),
        ("vetoed", status.vetoed.map(|id| format!("the host's execution refuses {id}: DA decides, or ctl lift-veto"))),
        ("not ready to publish", status.not_ready.clone()),
        ("hard waits", status.hard_waits.map(|waits| waits.to_string())),
        ("forked", status.forked.then(|| FORKED.to_owned())),
        ("history gone", status.history_unavailable.then(|| history_gone(status.phase).to_owned())),
        ("unknown proposer", status.unknown_proposer.map(|unknown| unknown.to_string())),
        (
            "ahead of clock",
            status.ahead_of_clock.map(|_| "blocks are refused, since their time is ahead of our clock".to_owned()),
        ),
        (
            "pruning waits",
            status.pruning_waits_for.as_ref().map(|name| format!("for the consumer {name:?} to acknowledge")),
        ),
        (
            "full",
            status
                .storage_full
                .then(|| "nothing is taken in: store.max_bytes or the disk's reserve is reached".to_owned()),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn says(told: &mut Conditions, text: Option<&str>, second: u32) -> bool {
        told.tell("forked", text.map(str::to_owned), second * SECOND).is_some()
    }

    #[test]
    fn what_holds_is_told_when_it_begins_when_it_changes_and_when_it_ends() {
        let mut told = Conditions::default();
        let said = [(None, 1), (Some("by one"), 1), (Some("by one"), 90), (Some("by two"), 90), (None, 91), (None, 92)]
            .map(|(text, second)| says(&mut told, text, second));
        assert_eq!(said, [false, true, false, true, true, false]);
    }

    #[test]
    fn whoever_provokes_a_condition_fills_no_log() {
        let mut told = Conditions::default();
        let provoked = |second: &u32| {
            let text = format!("by {second}");
            says(&mut told, second.is_multiple_of(2).then_some(&text), *second)
        };
        assert_eq!((0..600).filter(provoked).count(), 20);
        // A condition that lasts is logged all the same.
        assert!(says(&mut told, Some("for good"), 660));
    }
}
