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
//! - `SIM_SEEDS=0..10000 cargo test --no-default-features --test sim seeds` runs a range.
//! - `SIM_HASHES=0..300 cargo test --no-default-features --test sim hashes -- --nocapture` prints a hash of everything that happened
//!   per seed. Run it before and after a change of structure: equal lines prove that no decision differs.
//!
//! What it is not: it knows nothing of libp2p, of Cap'n Proto, or of the real store; those have rigs of their own.

mod adversary;
mod byzantine_answers;
mod chain;
mod da;
mod delays;
mod disk;
mod fault_injection;
mod faults;
mod host;
mod invariants;
mod messages;
mod mutations;
mod network;
mod node;
mod publisher;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use faults::Plan;
use mutations::Bug;
use trace::Trace;
use world::{Outcome, World};

/// How many seeds `cargo test` runs.
const SEEDS: std::ops::Range<u64> = 0..300;
/// How many of these run twice, to compare what happened.
const TWICE: std::ops::Range<u64> = 0..20;
/// Crowds beside those.
const CROWDS: std::ops::Range<u64> = 1_000..1_004;
/// A planted bug must show within so many seeds.
const SEEDS_PER_BUG: u64 = 1_000;

/// One world; a panic of the core is a violation as any other.
fn run(seed: u64, bug: Option<Bug>, trace: Trace) -> Result<Outcome, String> {
    let world = World::new(Plan::draw(seed), bug, trace);
    catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without a text")))
    })
}

fn replay_command(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test --no-default-features --test sim replay -- --nocapture")
}

/// `SIM_SEEDS=a..b`, or the usual ones.
fn seeds_to_run() -> std::ops::Range<u64> {
    range_of("SIM_SEEDS").unwrap_or(SEEDS)
}

/// The range in the environment variable of this name, if there is one.
fn range_of(variable: &str) -> Option<std::ops::Range<u64>> {
    let text = std::env::var(variable).ok()?;
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    Some(parsed.unwrap_or_else(|| panic!("{variable} is `a..b`, not `{text}`")))
}

#[test]
fn seeds_keep_every_invariant_and_converge() {
    let seeds = seeds_to_run();
    let mut total = Outcome::default();
    let mut failures = Vec::new();
    for seed in seeds.clone() {
        match run(seed, None, Trace::off()) {
            Ok(outcome) => {
                total.steps += outcome.steps;
                total.simulated += outcome.simulated;
                total.blocks += outcome.blocks;
                total.crashes += outcome.crashes;
                total.bans += outcome.bans;
                total.retractions += outcome.retractions;
            }
            Err(why) => {
                println!("seed {seed}: {why}\n  {}", replay_command(seed));
                failures.push(seed);
            }
        }
    }
    println!("{seeds:?}: {total:?}");
    assert!(failures.is_empty(), "{} of {} seeds failed: {failures:?}", failures.len(), seeds.end - seeds.start);
}

/// Fifty adversaries around one honest peer: whatever they do, the follower follows, and nobody honest is blamed.
#[test]
fn a_crowd_of_adversaries_keeps_nobody_from_the_truth() {
    for seed in CROWDS {
        let world = World::new(Plan::crowd(seed), None, Trace::off());
        if let Err(why) = world.run() {
            panic!("crowd {seed}: {why}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in TWICE {
        let hash = || run(seed, None, Trace::hashed()).map(|outcome| (outcome.hash, outcome.steps));
        assert_eq!(hash(), hash(), "{}", replay_command(seed));
    }
}

/// For `SIM_HASHES`; without it there is nothing to print.
#[test]
fn hashes() {
    for seed in range_of("SIM_HASHES").into_iter().flatten() {
        match run(seed, None, Trace::hashed()) {
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
    match run(seed, None, Trace::printed()) {
        Ok(outcome) => println!("seed {seed}: {outcome:?}"),
        Err(why) => panic!("seed {seed}: {why}"),
    }
}

#[test]
fn every_planted_bug_is_caught() {
    let missed: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| !is_caught(*bug)).collect();
    assert!(missed.is_empty(), "not caught within {SEEDS_PER_BUG} seeds: {missed:?}");
}

fn is_caught(bug: Bug) -> bool {
    let caught = (0..SEEDS_PER_BUG).find_map(|seed| run(seed, Some(bug), Trace::off()).err().map(|why| (seed, why)));
    match &caught {
        Some((seed, why)) => println!("{bug:?}: seed {seed}: {why}"),
        None => println!("{bug:?}: missed"),
    }
    caught.is_some()
}
