//! One thing is much worse than a seed ever draws it, in a world in which a little of everything goes wrong.

use std::ops::Range;
use std::time::Duration;

use blocksyncd::sync::Policy;
use fastrand::Rng;

use crate::byzantine_answers::Behaviour;
use crate::faults::{Keeps, Plan, ReportBy, Signing, Twin};
use crate::kept::at_least_one;
use crate::known;
use crate::range_of;
use crate::runner::{Run, in_parallel};

/// So many runs of each; others with `SIM_RUNS=a..b`.
const RUNS: Range<u64> = 0..10;
/// The first seed of those that are drawn.
const DRAWN: u64 = 3_000_000;

fn millis(from: u64, to: u64) -> (Duration, Duration) {
    (Duration::from_millis(from), Duration::from_millis(to))
}

/// A little of everything.
fn rough() -> Plan {
    let all = Keeps::default();
    let keeps = vec![
        all,
        Keeps { retain_blocks: Some(at_least_one(12)), ..all },
        Keeps { backfill: true, trusts_one_of: Some(15), ..all },
        all,
    ];
    Plan {
        honest: 4,
        keeps,
        adversaries: vec![Behaviour::WeakRelay, Behaviour::ShortPrefix, Behaviour::Replays],
        adversaries_persist: true,
        faults_last: Duration::from_secs(25),
        block_time: Duration::from_millis(400),
        da_block_time: Duration::from_millis(1_500),
        delay: millis(5, 150),
        loss: 0.1,
        duplicate: 0.1,
        reorder: 0.05,
        reset: 0.05,
        partial: 0.1,
        stall: 0.05,
        partition_rate: 0.05,
        disconnect_rate: 0.1,
        write: millis(1, 20),
        storage_full_rate: 0.02,
        crash_rate: 0.15,
        wipe: 0.05,
        backup: 0.05,
        loss_of_tail: 0.1,
        drain_rate: 0.05,
        skew: Duration::from_secs(1),
        signing: Signing::Outside,
        signer_fails: 0.1,
        pipeline: 2,
        host_crash_rate: 0.1,
        host_backup: 0.2,
        republish: 0.1,
        ack: 0.1,
        report_late: 0.2,
        report_repeat: 0.1,
        da_outage: 0.1,
        da_delay: Duration::from_secs(2),
        da_repost: 0.1,
        da_junk: 0.2,
        ..Plan::quiet()
    }
}

fn with_twin() -> Plan {
    Plan { twin: Some(Twin { fork: 12, length: 30, wins: true }), policy: Policy::FollowDa, ..rough() }
}

/// Rough worlds, with a twin and without, and drawn ones, with one thing much worse.
fn holds(name: &str, worse: impl Fn(Plan) -> Plan + Sync) {
    let runs = range_of("SIM_RUNS").unwrap_or(RUNS);
    let mut results = Vec::new();
    let run = |seed| {
        let plans = [Plan { seed, ..rough() }, Plan { seed, ..with_twin() }, Plan::draw(DRAWN + seed)];
        plans.map(|plan| {
            let (seed, drawn) = (plan.seed, plan.seed >= DRAWN);
            let end = Run::of(worse(plan)).end();
            end.map(drop).map_err(|why| format!("run {seed}, drawn: {drawn}: {why}"))
        })
    };
    in_parallel(runs, run, |_, ends| results.extend(ends));
    known::hold(name, results);
}

#[test]
fn other_settings_after_every_restart() {
    let worse = |plan: Plan| Plan { reconfigure: 1.0, crash_rate: plan.crash_rate.max(0.3), ..plan };
    holds("other settings after every restart", worse);
}

#[test]
fn vetoes_of_any_soft_block_often() {
    // What all have taken back, and DA has by an id alone or not at all, is gone.
    let decided_by_da = |plan| Plan { report_by: ReportBy::Either, without_da: false, ..plan };
    let worse = |plan| Plan { veto_rate: 0.5, vetoes_any: true, operator_always_acts: true, ..decided_by_da(plan) };
    holds("vetoes of any soft block, often", worse);
}

#[test]
fn an_operator_who_acts_during_the_faults() {
    let worse = |plan: Plan| Plan {
        operator_always_acts: true,
        operator_abandons: true,
        veto_rate: plan.veto_rate.max(0.05),
        extend_rate: 0.2,
        ..plan
    };
    holds("an operator who always acts", worse);
}

#[test]
fn requests_that_are_not_sent() {
    holds("requests that are not sent", |plan| Plan { not_sent: 0.3, ..plan });
}

#[test]
fn writes_that_take_seconds() {
    let worse = |plan| Plan { write: millis(200, 3_000), operator_always_acts: true, operator_abandons: true, ..plan };
    holds("writes that take seconds", worse);
}

#[test]
fn disks_that_are_often_full() {
    holds("disks that are often full", |plan| Plan { storage_full_rate: 0.5, ..plan });
}

#[test]
fn a_twin_in_every_world() {
    let worse = |plan: Plan| {
        let rng = &mut Rng::with_seed(plan.seed);
        let twin = Some(Twin { fork: rng.u64(1..=25), length: rng.u64(1..=100), wins: rng.bool() });
        // By an id alone, the other block of a height would be taken for ours.
        Plan { twin, report_by: ReportBy::Either, without_da: false, ..plan }
    };
    holds("a twin in every world", worse);
}

#[test]
fn damage_at_most_crashes() {
    let worse = |plan: Plan| {
        let crash_rate = plan.crash_rate.max(0.3);
        Plan { crash_rate, wipe: 0.2, backup: 0.25, loss_of_tail: 0.25, keeps: sequencer_keeps_all(plan.keeps), ..plan }
    };
    holds("damage at most crashes", worse);
}

#[test]
fn faults_for_five_minutes() {
    holds("faults for five minutes", |plan| Plan { faults_last: Duration::from_mins(5), ..plan });
}

#[test]
fn several_of_these_together() {
    let worse = |plan: Plan| Plan {
        reconfigure: 1.0,
        crash_rate: plan.crash_rate.max(0.3),
        wipe: 0.2,
        backup: 0.25,
        loss_of_tail: 0.25,
        write: millis(20, 1_000),
        not_sent: 0.1,
        operator_always_acts: true,
        keeps: sequencer_keeps_all(plan.keeps),
        ..plan
    };
    holds("several together", worse);
}

/// Where it may lose its disk, somebody must have what it lost.
fn sequencer_keeps_all(mut keeps: Vec<Keeps>) -> Vec<Keeps> {
    keeps[0] = Keeps::default();
    keeps
}
