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
const TABLE_DRAWING: u32 = 4;
const TABLE: &[Row] = &[
    ("truncation", 1985, 1985),
    ("truncation_at_sequencer", 973, 973),
    ("evidence", 2090, 1616),
    ("halt", 1723, 1285),
    ("veto", 429, 429),
    ("schedule_entry", 2869, 559),
    ("rotation", 1277, 228),
    ("schedule_lags", 534, 135),
    ("prune", 4116, 910),
    ("backfilled_block", 935, 222),
    ("shed", 825, 281),
    ("passed_over", 514, 154),
    ("walk_step", 524, 263),
    ("awaited_asked", 1588, 1152),
    ("answer_not_found", 9776, 1961),
    ("answer_cut", 120, 44),
    ("answer_reset", 3929, 808),
    ("answer_late", 6638, 1318),
    ("answer_invalid", 3384, 632),
    ("answer_not_sent", 1921, 404),
    ("answer_unsupported", 1145, 107),
    ("target_dropped", 2004, 1500),
    ("ban", 3035, 539),
    ("retract_told", 1963, 1943),
    ("gap_told", 2548, 566),
    ("gap_and_retract_told", 285, 285),
    ("data_loss_told", 100, 38),
    ("equivocation_told", 2090, 1616),
    ("stream_lost", 46, 46),
    ("wanted_named", 5030, 1462),
    ("report_refused", 2479, 524),
    ("publish_conflict", 2945, 792),
    ("publish_not_ready", 3667, 1320),
    ("publish_halted", 1576, 1196),
    ("watched_from_genesis", 3684, 738),
    ("watched_from_tip", 3671, 761),
    ("watched_from_one", 3659, 755),
    ("watched_from_all", 3636, 731),
    ("abandon_branch", 994, 994),
    ("assert_signed", 1314, 115),
    ("lift_veto", 198, 198),
    ("forget_consumer", 1964, 455),
    ("rescan_da", 2921, 911),
    ("crash", 5500, 1073),
    ("disk_damage", 2775, 552),
    ("guard_lost", 222, 24),
    ("anchor_at_start", 1234, 289),
    ("drain", 2986, 603),
    ("storage_full", 1265, 272),
    ("partition", 2929, 600),
    ("clock_jump", 2357, 417),
    ("clock_stays_wrong", 1033, 201),
    ("signer_away", 896, 158),
    ("signer_left", 924, 154),
    ("host_crash", 6601, 1312),
    ("host_restored", 1075, 227),
    ("careless_host", 2049, 472),
    ("wrong_report", 1209, 332),
    ("large_block", 2729, 590),
    ("history_unavailable", 561, 309),
    ("third_branch", 826, 654),
    ("wrong_name", 348, 67),
    ("reporters_in_turn", 1828, 378),
    ("misled", 1754, 722),
    ("made_anew", 57, 54),
    ("record_damage", 991, 258),
    ("read_failed", 325, 89),
    ("trusted_anew", 578, 108),
    ("failover", 474, 153),
    ("disown", 949, 278),
    ("disown_advised", 37, 22),
    ("wrong_entry", 606, 134),
    ("withdraw_schedule", 605, 134),
    ("largest_block", 1084, 239),
    ("too_large_block", 798, 178),
    ("tiny_block", 2736, 587),
    ("long_chain", 206, 43),
    ("many_peers", 234, 15),
    ("ack_elsewhere", 3842, 890),
    ("watcher_sleeps", 1922, 394),
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
