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
const TABLE_DRAWING: u32 = 3;
const TABLE: &[Row] = &[
    ("truncation", 1832, 1832),
    ("truncation_at_sequencer", 844, 844),
    ("evidence", 2025, 1497),
    ("halt", 1200, 1036),
    ("veto", 438, 438),
    ("schedule_entry", 2485, 459),
    ("rotation", 1296, 236),
    ("schedule_lags", 571, 141),
    ("prune", 4045, 799),
    ("backfilled_block", 948, 187),
    ("shed", 711, 227),
    ("passed_over", 387, 114),
    ("walk_step", 276, 93),
    ("awaited_asked", 1136, 812),
    ("answer_not_found", 9756, 1807),
    ("answer_cut", 95, 30),
    ("answer_reset", 3912, 734),
    ("answer_late", 6532, 1189),
    ("answer_invalid", 3106, 538),
    ("answer_not_sent", 1924, 372),
    ("answer_unsupported", 1049, 94),
    ("target_dropped", 1729, 1301),
    ("ban", 2918, 487),
    ("retract_told", 1827, 1801),
    ("gap_told", 2551, 519),
    ("gap_and_retract_told", 265, 264),
    ("data_loss_told", 89, 28),
    ("equivocation_told", 2025, 1497),
    ("stream_lost", 35, 35),
    ("wanted_named", 5063, 1410),
    ("report_refused", 2478, 486),
    ("publish_conflict", 2933, 678),
    ("publish_not_ready", 3178, 959),
    ("publish_halted", 1144, 980),
    ("watched_from_genesis", 3626, 684),
    ("watched_from_tip", 3626, 713),
    ("watched_from_one", 3638, 705),
    ("watched_from_all", 3626, 718),
    ("abandon_branch", 824, 824),
    ("assert_signed", 1260, 98),
    ("lift_veto", 218, 218),
    ("forget_consumer", 1738, 360),
    ("rescan_da", 835, 142),
    ("crash", 5329, 941),
    ("disk_damage", 2422, 407),
    ("guard_lost", 224, 24),
    ("anchor_at_start", 1073, 205),
    ("drain", 2975, 544),
    ("storage_full", 1275, 261),
    ("partition", 2957, 539),
    ("clock_jump", 2362, 391),
    ("clock_stays_wrong", 998, 163),
    ("signer_away", 905, 157),
    ("signer_left", 937, 129),
    ("host_crash", 6574, 1196),
    ("host_restored", 1004, 214),
    ("careless_host", 2040, 451),
    ("wrong_report", 1249, 332),
    ("large_block", 2774, 590),
    ("history_unavailable", 74, 20),
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
