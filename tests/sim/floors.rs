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
    ("truncation", 2021, 2021),
    ("truncation_at_sequencer", 886, 886),
    ("evidence", 2193, 1599),
    ("halt", 1789, 1308),
    ("veto", 511, 511),
    ("schedule_entry", 2877, 568),
    ("rotation", 1276, 225),
    ("schedule_lags", 540, 130),
    ("prune", 4108, 926),
    ("backfilled_block", 963, 228),
    ("shed", 1049, 390),
    ("passed_over", 522, 160),
    ("walk_step", 574, 295),
    ("awaited_asked", 1936, 1282),
    ("answer_not_found", 9798, 2003),
    ("answer_cut", 371, 104),
    ("answer_reset", 3954, 844),
    ("answer_late", 6655, 1349),
    ("answer_invalid", 3481, 678),
    ("answer_not_sent", 1926, 414),
    ("answer_unsupported", 1145, 114),
    ("target_dropped", 2277, 1577),
    ("ban", 3045, 554),
    ("retract_told", 1939, 1914),
    ("gap_told", 2593, 598),
    ("gap_and_retract_told", 325, 325),
    ("data_loss_told", 109, 33),
    ("equivocation_told", 2193, 1599),
    ("stream_lost", 120, 120),
    ("wanted_named", 5110, 1522),
    ("report_refused", 2480, 534),
    ("publish_conflict", 2933, 783),
    ("publish_not_ready", 3964, 1481),
    ("publish_halted", 1606, 1194),
    ("watched_from_genesis", 3686, 754),
    ("watched_from_tip", 3674, 779),
    ("watched_from_one", 3661, 757),
    ("watched_from_all", 3638, 742),
    ("abandon_branch", 951, 951),
    ("assert_signed", 1709, 347),
    ("lift_veto", 214, 214),
    ("forget_consumer", 1979, 468),
    ("rescan_da", 2946, 910),
    ("crash", 5508, 1121),
    ("disk_damage", 2813, 614),
    ("guard_lost", 210, 24),
    ("anchor_at_start", 1294, 329),
    ("drain", 2985, 615),
    ("storage_full", 1271, 281),
    ("partition", 2935, 614),
    ("clock_jump", 2359, 418),
    ("clock_stays_wrong", 1035, 210),
    ("signer_away", 896, 164),
    ("signer_left", 921, 164),
    ("host_crash", 6615, 1360),
    ("host_restored", 1086, 242),
    ("careless_host", 2055, 486),
    ("wrong_report", 1213, 350),
    ("large_block", 2711, 610),
    ("history_unavailable", 581, 338),
    ("third_branch", 836, 661),
    ("wrong_name", 351, 60),
    ("reporters_in_turn", 1829, 395),
    ("misled", 1756, 728),
    ("made_anew", 461, 368),
    ("record_damage", 930, 258),
    ("read_failed", 319, 85),
    ("trusted_anew", 583, 114),
    ("failover", 474, 149),
    ("disown", 1325, 481),
    ("disown_advised", 477, 255),
    ("wrong_entry", 610, 141),
    ("withdraw_schedule", 598, 134),
    ("largest_block", 1076, 249),
    ("too_large_block", 790, 178),
    ("tiny_block", 2715, 598),
    ("long_chain", 211, 45),
    ("many_peers", 234, 18),
    ("ack_elsewhere", 3853, 910),
    ("watcher_sleeps", 1921, 385),
    ("other_limits", 2138, 422),
    ("takes_only_small", 1232, 257),
    ("other_policy", 1866, 374),
    ("da_reorganised", 1305, 541),
    ("da_reversed", 376, 277),
    ("read_reorganised", 1277, 525),
    ("orphan", 854, 548),
    ("hard_refused", 217, 120),
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
