//! How often the interesting states must be reached: a drawing that has become tame fails here, and not in silence.
//!
//! The table is what 10,000 seeds of this drawing reached. A run of 2,000 seeds or more must reach half of that, scaled to its
//! length, of each state of which it should see 20 worlds.
//!
//! `SIM_FLOORS=0..10000 cargo test --release --locked --no-default-features --test sim print_floors -- --nocapture` prints the table to
//! paste here, and what in it is rarer than it should be.

use std::fmt::Write as _;

use super::faults::DRAWING;
use super::tally::{Reached, State, Totals};

/// A state, the worlds of [`TABLE_SEEDS`] that had it, and those of them with a truncation.
type Row = (&'static str, u64, u64);

const TABLE_SEEDS: u64 = 10_000;
/// The drawing that the table is of.
const TABLE_DRAWING: u32 = 5;
const TABLE: &[Row] = &[
    ("truncation", 2115, 2115),
    ("truncation_at_sequencer", 934, 934),
    ("evidence", 2192, 1611),
    ("halt", 1787, 1312),
    ("veto", 639, 639),
    ("schedule_entry", 2875, 595),
    ("rotation", 1276, 241),
    ("schedule_lags", 540, 140),
    ("prune", 4113, 970),
    ("backfilled_block", 961, 242),
    ("shed", 1051, 405),
    ("passed_over", 524, 170),
    ("walk_step", 574, 298),
    ("awaited_asked", 1932, 1293),
    ("answer_not_found", 9798, 2097),
    ("answer_cut", 376, 109),
    ("answer_reset", 3958, 882),
    ("answer_late", 6655, 1401),
    ("answer_invalid", 3480, 717),
    ("answer_not_sent", 1926, 432),
    ("answer_unsupported", 1145, 123),
    ("target_dropped", 2288, 1594),
    ("ban", 3043, 583),
    ("retract_told", 1935, 1914),
    ("gap_told", 2593, 626),
    ("gap_and_retract_told", 319, 319),
    ("data_loss_told", 111, 47),
    ("equivocation_told", 2192, 1611),
    ("stream_lost", 254, 254),
    ("wanted_named", 5113, 1609),
    ("report_refused", 2480, 567),
    ("publish_conflict", 2930, 815),
    ("publish_not_ready", 3972, 1556),
    ("publish_halted", 1601, 1194),
    ("watched_from_genesis", 3686, 787),
    ("watched_from_tip", 3674, 817),
    ("watched_from_one", 3661, 786),
    ("watched_from_all", 3638, 779),
    ("abandon_branch", 949, 949),
    ("assert_signed", 1719, 372),
    ("lift_veto", 243, 243),
    ("forget_consumer", 1980, 502),
    ("rescan_da", 2947, 934),
    ("crash", 5506, 1218),
    ("disk_damage", 2813, 706),
    ("guard_lost", 210, 32),
    ("anchor_at_start", 1287, 415),
    ("drain", 2985, 642),
    ("storage_full", 1269, 295),
    ("partition", 2933, 636),
    ("clock_jump", 2359, 444),
    ("clock_stays_wrong", 1034, 216),
    ("signer_away", 896, 176),
    ("signer_left", 921, 178),
    ("host_crash", 6610, 1449),
    ("host_restored", 1086, 265),
    ("careless_host", 2055, 519),
    ("wrong_report", 1214, 383),
    ("large_block", 2711, 634),
    ("history_unavailable", 590, 354),
    ("third_branch", 835, 662),
    ("wrong_name", 351, 60),
    ("reporters_in_turn", 1829, 412),
    ("misled", 1756, 742),
    ("made_anew", 461, 371),
    ("record_damage", 933, 285),
    ("read_failed", 322, 96),
    ("trusted_anew", 582, 123),
    ("failover", 473, 156),
    ("disown", 1326, 498),
    ("disown_advised", 478, 261),
    ("wrong_entry", 609, 147),
    ("withdraw_schedule", 599, 140),
    ("largest_block", 1076, 260),
    ("too_large_block", 790, 184),
    ("tiny_block", 2716, 619),
    ("long_chain", 210, 44),
    ("many_peers", 234, 20),
    ("ack_elsewhere", 3855, 949),
    ("watcher_sleeps", 1921, 405),
    ("other_limits", 2138, 442),
    ("takes_only_small", 1233, 270),
    ("other_policy", 1866, 393),
    ("da_reorganised", 1304, 561),
    ("da_reversed", 377, 282),
    ("read_reorganised", 1276, 545),
    ("orphan", 851, 552),
    ("hard_refused", 215, 215),
];

/// Shorter runs are not held to the table.
const FEWEST_SEEDS: u64 = 2_000;
/// So many worlds must be expected before their number says anything.
const EXPECTED: u64 = 20;

/// Every state should be reached by one of so many worlds, and together with a truncation by one of so many.
const RARE: u64 = 100;
const RARE_WITH_TRUNCATION: u64 = 1_000;

/// What this run reached too seldom; nothing, when it is too short to say.
pub fn missed(totals: &Totals) -> Vec<String> {
    if totals.seeds < FEWEST_SEEDS || TABLE_DRAWING != DRAWING {
        return Vec::new();
    }
    let mut missed = Vec::new();
    for (name, worlds, truncated) in TABLE {
        let state = State::ALL.iter().find(|state| state.name() == *name);
        let Reached { worlds: had, truncated: had_truncated, .. } = state.map(|s| totals.of(*s)).unwrap_or_default();
        for (what, had, of_table) in [("", had, worlds), (" with a truncation", had_truncated, truncated)] {
            if !is_enough(had, *of_table, totals.seeds) {
                missed.push(format!(
                    "{name}{what}: {had} of {} worlds, {of_table} of {TABLE_SEEDS} are usual",
                    totals.seeds
                ));
            }
        }
    }
    missed
}

fn is_enough(had: u64, of_table: u64, seeds: u64) -> bool {
    let expected = of_table * seeds / TABLE_SEEDS;
    expected < EXPECTED || had >= expected / 2
}

/// The table to paste, and what in it is too rare.
pub fn table(totals: &Totals) -> String {
    let mut text = format!("const TABLE_DRAWING: u32 = {DRAWING};\nconst TABLE: &[Row] = &[\n");
    let mut rare = Vec::new();
    for state in State::ALL {
        let Reached { worlds, truncated, .. } = totals.of(*state);
        let scaled = |count: u64| count * TABLE_SEEDS / totals.seeds.max(1);
        let _ = writeln!(text, "    (\"{}\", {}, {}),", state.name(), scaled(worlds), scaled(truncated));
        if worlds * RARE < totals.seeds || truncated * RARE_WITH_TRUNCATION < totals.seeds {
            rare.push(state.name());
        }
    }
    format!("{text}];\nrarer than 1 of {RARE} worlds, or than 1 of {RARE_WITH_TRUNCATION} with a truncation: {rare:?}")
}

#[test]
fn half_of_what_is_usual_is_enough() {
    for (had, of_table, seeds, enough) in [
        (50, 500, 2_000, true),
        (49, 500, 2_000, false),
        // 19 are expected: too few to say.
        (0, 99, 2_000, true),
        (0, 100, 2_000, false),
        (10, 100, 2_000, true),
        (49, 100, 10_000, false),
    ] {
        assert_eq!(is_enough(had, of_table, seeds), enough, "{had} of {seeds}, usual are {of_table}");
    }
}
