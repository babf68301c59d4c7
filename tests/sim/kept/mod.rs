//! Worlds that failed once, as values: their plans, and the seeds that their runs draw from.
//!
//! Invariants:
//! 1. A kept plan names every field that there was when it was written down; `Plan::quiet` leaves off what was added since.
//! 2. The run of a plan draws as the version of its `drawing` says, so what is drawn on the way stays what it was.
//! 3. A world stays here when its fault is mended: what held once must hold for ever.
//!
//! A change of the core changes what happens in a run, and so what the draws after it are used for. So several runs are kept of
//! each plan, all of which failed when it was written down.
//!
//! `SIM_PLAN=seed cargo test --no-default-features --test sim print_plan -- --nocapture` prints a new one.

mod s1002291;
mod s1002776;
mod s1002858;
mod s1006048;
mod s1006497;
mod s1016850;
mod s8283;
mod s990;

use std::num::NonZeroU64;

use super::faults::Plan;
use super::known;
use super::runner::Run;

/// What the files here are written with.
mod words {
    pub use std::time::Duration;

    pub use blocksyncd::sync::{Limits, Policy, Timing};

    pub use super::{at_least_one, check};
    pub use crate::byzantine_answers::Behaviour;
    pub use crate::faults::{Keeps, Plan, ReportBy, Signing, Twin};
}

pub fn at_least_one(count: u64) -> NonZeroU64 {
    NonZeroU64::new(count).expect("at least one")
}

/// Runs the plan with each of the seeds, and holds what becomes of it against the list of what is known.
pub fn check(name: &str, plan: &Plan, runs: &[u64]) {
    let results = runs.iter().map(|seed| {
        let run = Run::of(Plan { seed: *seed, ..plan.clone() });
        run.end().map(drop).map_err(|why| format!("run {seed}: {why}"))
    });
    known::hold(name, results);
}
