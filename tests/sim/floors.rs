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
const TABLE_DRAWING: u32 = 2;
const TABLE: &[Row] = &[
    ("truncation", 1887, 1887),
    ("truncation_at_sequencer", 900, 900),
    ("evidence", 2361, 1727),
    ("halt", 1367, 1220),
    ("veto", 206, 206),
    ("schedule_entry", 1466, 302),
    ("prune", 3537, 622),
    ("backfilled_block", 916, 176),
    ("shed", 24, 1),
    ("walk_step", 3, 3),
    ("answer_not_found", 6932, 1779),
    ("answer_cut", 60, 27),
    ("answer_late", 5895, 1205),
    ("answer_invalid", 3088, 580),
    ("answer_not_sent", 0, 0),
    ("answer_unsupported", 0, 0),
    ("target_dropped", 1115, 763),
    ("ban", 3437, 665),
    ("retract_told", 1867, 1850),
    ("gap_told", 2623, 499),
    ("gap_and_retract_told", 276, 275),
    ("data_loss_told", 25, 12),
    ("equivocation_told", 2361, 1727),
    ("stream_lost", 14, 14),
    ("wanted_named", 4387, 1301),
    ("publish_conflict", 3145, 572),
    ("publish_not_ready", 2307, 793),
    ("publish_halted", 1490, 1185),
    ("abandon_branch", 936, 936),
    ("assert_signed", 56, 1),
    ("lift_veto", 52, 52),
    ("forget_consumer", 1710, 289),
    ("crash", 5225, 911),
    ("disk_damage", 1806, 312),
    ("guard_lost", 187, 19),
    ("anchor_at_start", 335, 58),
    ("drain", 2934, 538),
    ("storage_full", 1183, 229),
    ("partition", 2863, 553),
    ("clock_jump", 2353, 398),
    ("signer_away", 1026, 146),
    ("host_crash", 6393, 1185),
    ("host_restored", 928, 195),
    ("history_unavailable", 58, 21),
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
