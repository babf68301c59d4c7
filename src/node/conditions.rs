//! What is wrong is in the log as it is in the status: once when it begins, once when it is over, and in between when what there is
//! to say of it has changed.
//!
//! Invariants:
//! 1. Whoever provokes a condition from outside fills no log: of each there are two lines a minute at most.
//! 2. What lasts is told, a minute after the line before it at the latest, and so is its end.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sync::{Status, UnheardRound};

/// How soon at most a condition is told again.
const REPEAT: Duration = Duration::from_mins(1);

/// What the log has told.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    told: BTreeMap<&'static str, Told>,
    /// The number of the last round of hearing that ended without everybody's answer.
    unheard: u64,
}

/// What was told last of one condition.
#[derive(Debug)]
struct Told {
    /// `None`: that it is over.
    text: Option<String>,
    /// When it was last told to hold.
    at: Duration,
}

/// What the log is to say of one condition. `None`: it is over.
pub(super) type News = (&'static str, Option<String>);

impl Conditions {
    /// Compares what holds now with what was told.
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
    let unknown = status.unknown_proposer.map(|unknown| {
        let (height, proposer) = (unknown.height, unknown.proposer);
        format!(
            "peers have blocks of height {height} and above by {proposer}, whom the schedule does not name there: if it proposes \
             there, extend the schedule (ctl schedule add)"
        )
    });
    vec![
        ("halted", status.halted.map(|halt| halt.to_string())),
        ("vetoed", status.vetoed.map(|id| format!("the host's execution refuses {id}: DA decides, or ctl lift-veto"))),
        ("not ready to publish", status.not_ready.clone()),
        ("hard waits", status.hard_waits.map(|waits| waits.to_string())),
        ("forked", status.forked.then(|| "the sequencer signed another branch, too; only DA can decide".to_owned())),
        ("history gone", status.history_unavailable.then(|| "no peer has the blocks that are missing here".to_owned())),
        ("unknown proposer", unknown),
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
        // What lasts is told all the same.
        assert!(says(&mut told, Some("for good"), 660));
    }
}
