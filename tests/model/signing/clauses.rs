//! The rules keep the promises; and every clause of them closes a counterexample.

use crate::explore::{Outcome, explore};

use super::rules::{Clause, Rules};
use super::scopes::{self, Exploration, Size};
use super::state::{Step, World};

const MAX_STATES: usize = 1_000_000;

fn run(exploration: &Exploration, rules: Rules, max_states: usize) -> Outcome<World, Step> {
    explore(&exploration.model(rules), exploration.roots.clone(), max_states)
}

fn explored(name: &str) -> Exploration {
    let found = scopes::all(Size::Small).into_iter().find(|exploration| exploration.name == name);
    found.unwrap_or_else(|| panic!("nothing is called {name}"))
}

/// Everything that can happen in this part keeps the promises.
fn holds(name: &str) {
    let exploration = explored(name);
    let outcome = run(&exploration, Rules::default(), MAX_STATES);
    println!("signing, {name}: {}", outcome.count);
    assert!(outcome.broken.is_none(), "{}", outcome.broken.expect("just looked"));
    assert!(!outcome.cut, "there is no end of it");
    let states = outcome.count.states;
    assert!(states >= exploration.at_least, "only {states} states: too little is explored");
}

macro_rules! holds {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            holds($name);
        })*
        const TESTED: &[&str] = &[$($name),*];
    };
}

holds! {
    store_and_guard_of_any_two_moments: "hearing",
    what_cannot_be_taken_in: "trouble",
    branches_that_da_decides_between: "taken back",
    what_was_abandoned_is_repeated: "replayed",
    commits_of_which_half_is_written: "torn",
    names_that_prove_nothing: "names",
    signatures_and_answers_that_take_time: "slow",
    beginning_at_a_trusted_block: "trusted",
}

#[test]
fn every_part_is_tested() {
    let all: Vec<_> = scopes::all(Size::Small).iter().map(|exploration| exploration.name).collect();
    assert_eq!(all, TESTED);
}

/// `MODEL_STATES=12000000 cargo test --release --no-default-features --test model more_of -- --ignored --nocapture`
#[test]
#[ignore = "takes minutes and gigabytes"]
fn more_of_it_holds() {
    let max = std::env::var("MODEL_STATES").ok().and_then(|max| max.parse().ok()).unwrap_or(4_000_000);
    for exploration in scopes::all(Size::Large) {
        let outcome = run(&exploration, Rules::default(), max);
        let end = if outcome.cut { ", and there is more" } else { "" };
        println!("signing, {}, large: {}{end}", exploration.name, outcome.count);
        assert!(outcome.broken.is_none(), "{}", outcome.broken.expect("just looked"));
    }
}

/// Without the clause, this happens.
struct Counterexample {
    clause: Clause,
    exploration: &'static str,
    why: &'static str,
}

const fn without(clause: Clause, exploration: &'static str, why: &'static str) -> Counterexample {
    Counterexample { clause, exploration, why }
}

const SIGNS_TWICE: &str = "the key signs";
const STOPPED: &str = "all that stands against it is dead: yet nothing can be signed";
const NO_WAY_OUT: &str = "no operator can make it sign";
const STORED_AGAIN: &str = "was taken back, and is stored again";
const NEVER_TAKEN: &str = "is never taken";

const COUNTEREXAMPLES: [Counterexample; Clause::ALL.len()] = [
    without(Clause::WaitsForWhatIsAhead, "hearing", SIGNS_TWICE),
    without(Clause::WhateverItsTime, "trouble", SIGNS_TWICE),
    without(Clause::WhateverItsSize, "trouble", SIGNS_TWICE),
    without(Clause::EvenWithoutRoom, "trouble", SIGNS_TWICE),
    without(Clause::NotOnlyTheHighest, "trouble", SIGNS_TWICE),
    without(Clause::NotOnlyTheNext, "hearing", SIGNS_TWICE),
    without(Clause::FullMeansWait, "trouble", SIGNS_TWICE),
    without(Clause::DisownedIsNotWaitedFor, "taken back", NO_WAY_OUT),
    without(Clause::DisownedIsNotStored, "trouble", STORED_AGAIN),
    without(Clause::UnlessDaGivesIt, "taken back", NEVER_TAKEN),
    without(Clause::ListOfTheAbandoned, "taken back", STORED_AGAIN),
    without(Clause::ListIsDurable, "taken back", STORED_AGAIN),
    without(Clause::ListInTheSameCommit, "taken back", STORED_AGAIN),
    without(Clause::CopyBesideTheGuard, "taken back", STORED_AGAIN),
    without(Clause::WalkedByHash, "trouble", STOPPED),
    without(Clause::OtherThanDaDecided, "taken back", STOPPED),
    without(Clause::TrustedDecidesNothing, "trusted", SIGNS_TWICE),
    without(Clause::OurChainFirst, "names", NEVER_TAKEN),
    without(Clause::LeavesTheListWhenStored, "taken back", SIGNS_TWICE),
    without(Clause::NoPatience, "hearing", SIGNS_TWICE),
    without(Clause::NoAbsence, "hearing", SIGNS_TWICE),
    without(Clause::OperatorDisowns, "hearing", NO_WAY_OUT),
    without(Clause::NeverADescendantOfOurs, "hearing", SIGNS_TWICE),
    without(Clause::AbandonFreesOnlyTheDead, "replayed", SIGNS_TWICE),
    without(Clause::MismatchFreesNothing, "names", SIGNS_TWICE),
    without(Clause::WordFreesNothing, "names", SIGNS_TWICE),
    without(Clause::NamesAreWaitedFor, "names", SIGNS_TWICE),
    without(Clause::TheStrongestCounts, "names", STOPPED),
    without(Clause::DisownedGuardStopsNobody, "taken back", STOPPED),
    without(Clause::GuardFallsOverNothing, "replayed", SIGNS_TWICE),
    without(Clause::UnusedSignaturePutsBack, "slow", STOPPED),
    without(Clause::AsksAfterAStart, "taken back", SIGNS_TWICE),
    without(Clause::AsksAfterSoftFell, "taken back", SIGNS_TWICE),
    without(Clause::AsksAfterTheGuardFell, "hearing", SIGNS_TWICE),
    without(Clause::SentSinceThen, "slow", SIGNS_TWICE),
    without(Clause::EveryConnectedPeer, "hearing", SIGNS_TWICE),
    without(Clause::EveryPeerOfTheBook, "hearing", SIGNS_TWICE),
    without(Clause::AtLeastOneAnswers, "hearing", SIGNS_TWICE),
    without(Clause::OrHalfAMinute, "hearing", STOPPED),
    without(Clause::NeverSignedToo, "hearing", SIGNS_TWICE),
    without(Clause::TheBookCounts, "hearing", SIGNS_TWICE),
    without(Clause::NobodyKnownNoWait, "hearing", STOPPED),
    without(Clause::StartRaisesTheGuard, "torn", SIGNS_TWICE),
];

#[test]
fn every_clause_closes_a_counterexample() {
    for (clause, example) in Clause::ALL.into_iter().zip(COUNTEREXAMPLES) {
        assert_eq!(example.clause, clause, "each clause has its place in the table");
        let outcome = run(&explored(example.exploration), Rules { without: Some(clause) }, MAX_STATES);
        let Some(broken) = outcome.broken else {
            panic!("nothing goes wrong without {clause:?} in {}: is it needed?", outcome.count)
        };
        let steps: Vec<_> = broken.steps.iter().map(|step| format!("{step:?}")).collect();
        println!("without {clause:?}: {} ({}): {}", broken.why, example.exploration, steps.join(", "));
        assert!(broken.why.contains(example.why), "without {clause:?} something else happens: {broken}");
    }
}
