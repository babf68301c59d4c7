//! The deterministic simulator: a small network of nodes that run the real core, and a world around them in which everything
//! goes wrong that a seed says.
//!
//! ```text
//!   seed --> Plan (which faults, how strong) --> World --> converged, every invariant kept at every step
//!                                                 |
//!     Syncer + model disk + model loop  x 2..5    |    adversaries, a twin of the sequencer
//!     host (real cursor) + DA reporter  x 2..5    |    links, partitions, clocks, DA
//! ```
//!
//! - `cargo test --no-default-features --test sim` builds and runs it without any crate that does I/O.
//! - `SIM_SEED=7 cargo test --no-default-features --test sim replay -- --nocapture` replays one seed and prints everything.
//! - `SIM_SEEDS=0..10000 cargo test --release --no-default-features --test sim seeds_keep -- --nocapture` runs a range, on as many
//!   threads as there are cores or `SIM_THREADS` says, and prints what it reached as a line of JSON.
//! - `SIM_CHECK_ALL=1` makes every check of every block, also of those that the simulator knows to be good.
//! - `SIM_PLAN=7 cargo test --no-default-features --test sim print_plan -- --nocapture` prints the plan of a seed as the text of a file
//!   for `kept/`.
//! - `SIM_HASHES=0..300 cargo test --no-default-features --test sim hashes -- --nocapture` prints a hash of everything that happened
//!   per seed. Run it before and after a change of structure: equal lines prove that no decision differs.
//!
//! A seed is valid only with the version of the drawing ([`faults::DRAWING`]): a change of what is drawn makes another world of it.
//! So a world that failed is kept as a value, in `kept/`. What is known to fail is marked in one list, in `known.rs`.
//!
//! What it is not: it knows nothing of libp2p, of Cap'n Proto, or of the real store; those have rigs of their own.

mod adversary;
mod byzantine_answers;
mod chain;
mod da;
mod delays;
mod dice;
mod disk;
mod draw;
mod fault_injection;
mod faults;
mod floors;
mod host;
mod invariants;
#[allow(
    clippy::needless_update,
    clippy::unreadable_literal,
    reason = "written by a program, with room for fields to come"
)]
mod kept;
mod known;
mod liveness;
mod messages;
mod mutations;
mod network;
mod node;
mod operators;
mod publisher;
mod reorganisation;
mod runner;
mod scene;
mod signer;
mod source;
mod tally;
mod telling;
mod trace;
mod watchers;
mod world;
mod worlds;

use std::ops::Range;

use chain::Checks;
use faults::{DRAWING, Plan};
use mutations::Bug;
use runner::{Run, in_parallel};
use source::Source as _;
use tally::Totals;
use trace::Trace;

/// How many seeds `cargo test` runs.
const SEEDS: Range<u64> = 0..300;
/// How many of these run twice, to compare what happened: once with every check made.
const TWICE: Range<u64> = 0..20;
/// So many run once more with every check made.
const CHECKED: Range<u64> = 20..220;
/// Crowds beside those.
const CROWDS: Range<u64> = 1_000..1_004;
/// A planted bug must show within so many seeds.
const SEEDS_PER_BUG: u64 = 1_000;

fn replay_command(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test --no-default-features --test sim replay -- --nocapture")
}

/// The range in the environment variable of this name, if there is one.
fn range_of(variable: &str) -> Option<Range<u64>> {
    let text = std::env::var(variable).ok()?;
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    Some(parsed.unwrap_or_else(|| panic!("{variable} is `a..b`, not `{text}`")))
}

/// Runs them all, and prints those that fail.
fn run_seeds(seeds: Range<u64>) -> Totals {
    let mut totals = Totals::default();
    let processor_time = in_parallel(
        seeds,
        |seed| Run::seed(seed).end(),
        |seed, result| match result {
            Ok(outcome) => totals.add(&outcome),
            Err(why) => {
                println!("seed {seed} of drawing {DRAWING}: {why}\n  {}", replay_command(seed));
                totals.fail(seed);
            }
        },
    );
    totals.end(processor_time);
    totals
}

#[test]
fn seeds_keep_every_invariant_and_converge() {
    let totals = run_seeds(range_of("SIM_SEEDS").unwrap_or(SEEDS));
    println!("\n{}", totals.json(DRAWING));
    let (failed, seeds) = (&totals.failed, totals.seeds);
    assert!(failed.is_empty(), "{} of {seeds} seeds of drawing {DRAWING} failed: {failed:?}", failed.len());
    let missed = floors::missed(&totals);
    assert!(missed.is_empty(), "drawing {DRAWING} has become tame: {missed:#?}");
}

/// For `SIM_FLOORS`; without it there is nothing to print.
#[test]
fn print_floors() {
    if let Some(seeds) = range_of("SIM_FLOORS") {
        println!("{}", floors::table(&run_seeds(seeds)));
    }
}

/// Fifty adversaries around one honest peer: whatever they do, the follower follows, and nobody honest is blamed.
#[test]
fn a_crowd_of_adversaries_keeps_nobody_from_the_truth() {
    for seed in CROWDS {
        if let Err(why) = Run::of(Plan::crowd(seed)).end() {
            panic!("crowd {seed} of drawing {DRAWING}: {why}");
        }
    }
}

/// Whatever is checked: what is known of a signature changes nothing.
#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in TWICE {
        let hashed = |checks| Run::seed(seed).traced(Trace::hashed()).checking(checks).end();
        assert_eq!(hashed(Checks::Unknown), hashed(Checks::All), "{}", replay_command(seed));
    }
}

#[test]
fn seeds_hold_with_every_check_made() {
    let mut failures = Vec::new();
    let end = |seed| Run::seed(seed).checking(Checks::All).end();
    in_parallel(CHECKED, end, |seed, result| failures.extend(result.err().map(|why| format!("seed {seed}: {why}"))));
    assert!(failures.is_empty(), "of drawing {DRAWING}: {failures:#?}");
}

/// For `SIM_HASHES`; without it there is nothing to print.
#[test]
fn hashes() {
    for seed in range_of("SIM_HASHES").into_iter().flatten() {
        match Run::seed(seed).traced(Trace::hashed()).end() {
            Ok(outcome) => {
                println!("seed {seed}: {:016x} after {} steps", outcome.hash.unwrap_or_default(), outcome.steps);
            }
            Err(why) => println!("seed {seed}: {why}"),
        }
    }
}

/// For `SIM_SEED`; without it there is nothing to replay.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("SIM_SEED") else { return };
    let seed = seed.parse().expect("SIM_SEED is a number");
    println!("{:#?}", Plan::draw(seed));
    match Run::seed(seed).traced(Trace::printed()).end() {
        Ok(outcome) => println!("seed {seed}: {outcome:?}"),
        Err(why) => panic!("seed {seed} of drawing {DRAWING}: {why}"),
    }
}

/// For `SIM_PLAN`; without it there is nothing to print. Of the seeds that other runs of the same plan draw from, the first few are
/// printed with which it fails, too.
#[test]
fn print_plan() {
    let Ok(seed) = std::env::var("SIM_PLAN") else { return };
    let plan = Plan::draw(seed.parse().expect("SIM_PLAN is a number"));
    println!("{}", plan.source());
    let failing = [plan.seed].into_iter().chain(0..1_000).filter_map(|seed| {
        let why = Run::of(Plan { seed, ..plan.clone() }).end().err()?;
        Some((seed, why.chars().take(100).collect::<String>()))
    });
    failing.take(6).for_each(|(seed, why)| println!("run {seed}: {why}"));
}

#[test]
fn every_planted_bug_is_caught() {
    let missed: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| !is_caught(*bug)).collect();
    assert!(missed.is_empty(), "not caught within {SEEDS_PER_BUG} seeds: {missed:?}");
}

fn is_caught(bug: Bug) -> bool {
    let caught = (0..SEEDS_PER_BUG).find_map(|seed| Run::seed(seed).with(bug).end().err().map(|why| (seed, why)));
    match &caught {
        Some((seed, why)) => println!("{bug:?}: seed {seed}: {why}"),
        None => println!("{bug:?}: missed"),
    }
    caught.is_some()
}
