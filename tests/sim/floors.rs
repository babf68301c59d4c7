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
    ("truncation", 2102, 2102),
    ("truncation_at_sequencer", 933, 933),
    ("evidence", 2187, 1602),
    ("halt", 1783, 1305),
    ("veto", 635, 635),
    ("schedule_entry", 2872, 595),
    ("rotation", 1273, 242),
    ("schedule_lags", 540, 142),
    ("prune", 4111, 961),
    ("backfilled_block", 957, 239),
    ("shed", 1043, 397),
    ("passed_over", 525, 171),
    ("walk_step", 578, 296),
    ("awaited_asked", 1913, 1282),
    ("answer_not_found", 9792, 2083),
    ("answer_cut", 373, 106),
    ("answer_reset", 3958, 869),
    ("answer_late", 6650, 1390),
    ("answer_invalid", 3477, 719),
    ("answer_not_sent", 1926, 432),
    ("answer_unsupported", 1145, 124),
    ("target_dropped", 2280, 1583),
    ("ban", 3040, 586),
    ("retract_told", 1926, 1905),
    ("gap_told", 2597, 625),
    ("gap_and_retract_told", 311, 311),
    ("data_loss_told", 106, 43),
    ("equivocation_told", 2187, 1602),
    ("stream_lost", 250, 250),
    ("wanted_named", 5104, 1597),
    ("report_refused", 2480, 571),
    ("publish_conflict", 2940, 816),
    ("publish_not_ready", 3961, 1544),
    ("publish_halted", 1601, 1186),
    ("watched_from_genesis", 3684, 787),
    ("watched_from_tip", 3673, 816),
    ("watched_from_one", 3659, 785),
    ("watched_from_all", 3637, 781),
    ("abandon_branch", 946, 946),
    ("assert_signed", 1706, 365),
    ("lift_veto", 242, 242),
    ("forget_consumer", 1978, 497),
    ("rescan_da", 4111, 1417),
    ("crash", 5503, 1211),
    ("disk_damage", 2817, 706),
    ("guard_lost", 209, 32),
    ("anchor_at_start", 1284, 417),
    ("drain", 2981, 636),
    ("storage_full", 1269, 294),
    ("partition", 2932, 631),
    ("clock_jump", 2359, 442),
    ("clock_stays_wrong", 1032, 213),
    ("signer_away", 894, 168),
    ("signer_left", 920, 175),
    ("host_crash", 6607, 1439),
    ("host_restored", 1086, 260),
    ("careless_host", 2058, 519),
    ("wrong_report", 1212, 379),
    ("large_block", 2709, 632),
    ("history_unavailable", 585, 351),
    ("third_branch", 833, 660),
    ("wrong_name", 351, 59),
    ("reporters_in_turn", 1828, 410),
    ("misled", 1754, 738),
    ("made_anew", 459, 368),
    ("record_damage", 928, 284),
    ("read_failed", 326, 99),
    ("trusted_anew", 581, 120),
    ("failover", 473, 155),
    ("disown", 1319, 492),
    ("disown_advised", 471, 255),
    ("wrong_entry", 609, 148),
    ("withdraw_schedule", 599, 141),
    ("largest_block", 1073, 258),
    ("too_large_block", 787, 186),
    ("tiny_block", 2715, 619),
    ("long_chain", 202, 41),
    ("many_peers", 233, 19),
    ("ack_elsewhere", 3851, 939),
    ("watcher_sleeps", 1919, 404),
    ("other_limits", 2137, 435),
    ("takes_only_small", 1231, 265),
    ("other_policy", 1863, 386),
    ("da_reorganised", 1303, 558),
    ("da_reversed", 376, 282),
    ("read_reorganised", 1275, 542),
    ("orphan", 851, 550),
    ("hard_refused", 212, 212),
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
