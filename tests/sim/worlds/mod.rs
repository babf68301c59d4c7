//! Worlds made by hand: what an adversary, an unlucky host or an operator can do that a seed rarely or never draws. Each says what
//! must hold; what is known not to hold is marked in `known.rs`.

mod da_evidence;
mod experiments;
mod history;
mod hosts;
mod own_key;
mod peers;
mod replays;
mod rotation;
mod unknown_hash;
mod wrong_words;

use std::time::Duration;

use super::known;
use super::runner::guarded;

/// How long it may take until a node or a host is where it should be, when nothing is in the way any more.
const BOUND: Duration = Duration::from_secs(75);

/// Holds what becomes of a world against the list of what is known.
fn holds(name: &str, world: impl FnOnce() -> Result<(), String>) {
    known::hold(name, [guarded(world)]);
}

fn ensure(is_so: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(what()) }
}
