//! A plan as the Rust text that makes it: so a world that failed is kept, whatever the drawing becomes.
//!
//! Invariant: every field is written, none is left to a default. What a later version adds is not there, and the kept file's
//! `..Plan::quiet()` leaves it off.

use std::num::NonZeroU64;
use std::time::Duration;

use blocksyncd::sync::{Limits, Policy, Timing};

use super::byzantine_answers::Behaviour;
use super::faults::{Keeps, Plan, ReportBy, Signing, Twin};

/// What can be written as an expression.
pub trait Source {
    fn source(&self) -> String;
}

macro_rules! source_of_debug {
    ($($type:ty),*) => {
        $(impl Source for $type {
            fn source(&self) -> String {
                format!("{self:?}")
            }
        })*
    };
}

source_of_debug!(bool, i64, u32, u64, usize, f64);

macro_rules! source_of_enum {
    ($($type:ident),*) => {
        $(impl Source for $type {
            fn source(&self) -> String {
                format!("{}::{self:?}", stringify!($type))
            }
        })*
    };
}

source_of_enum!(Behaviour, Policy, ReportBy, Signing);

/// Written as a literal of this type, which ends in `..$rest`. A field that is not named here does not compile.
macro_rules! source_of_struct {
    ($type:ident { $($field:ident),* $(,)? } $($rest:literal)?) => {
        impl Source for $type {
            fn source(&self) -> String {
                let Self { $($field),* } = self;
                let fields = [$(format!("{}: {},", stringify!($field), $field.source())),*];
                format!("{} {{ {} {} }}", stringify!($type), fields.join(" "), concat!($("..", $rest)?))
            }
        }
    };
}

source_of_struct!(Twin { fork, length, wins });
source_of_struct!(Keeps { retain_blocks, max_bytes, trusts_one_of, backfill } "Keeps::default()");
source_of_struct!(Limits {
    max_block_bytes, pending_blocks, pending_bytes, commit_bytes, requests_per_peer, requests, range_bytes, publish_queue,
    sightings, sighting_bytes, evidence, awaited, disowned, consumers, exclusions, remembered_peers,
} "Limits::default()");
source_of_struct!(Timing {
    head_interval, request_timeout, gossip_grace, hedge_after, backoff_min, backoff_max, target_patience, ban_min, ban_max,
} "Timing::default()");
source_of_struct!(Plan {
    drawing, seed, honest, keeps, adversaries, sparse, crowd_around, adversaries_persist, twin, third, twin_burst, policy, operator_abandons,
    operator_always_acts, initial_height, faults_last, stays, block_time, da_block_time, payload_bytes, odd_sizes, exact_sizes, max_block_bytes, limits, timing, delay, loss,
    duplicate, reorder, reset, partial, stall, partition_rate, asymmetric, disconnect_rate, not_sent, lasting, write, write_stall, untold,
    storage_full_rate, crash_rate, wipe, backup, loss_of_tail, guard_restored, store_lost, guard_loss, record_damage, failing_reads, drain_rate, reconfigure, resync, rescan_rate, rotation_rate, signer_leaves_rate, second_signer, failover_rate, disown_rate, wrong_entry_rate, relimit, orphan_rate, skew, clock_jump_rate, clock_stays, pool, check,
    signing, signer_fails, pipeline, host_crash_rate, host_backup, other_block, republish, veto_rate, vetoes_any, refuses_hard, ack, ack_elsewhere, extend_rate,
    report_by, report_late, report_repeat, da_outage, da_delay, da_repost, da_junk, report_junk, careless, report_wrong, name_wrong, reporters, misled, report_too_high, da_reorganises, watchers, sleepy, without_da,
} "Plan::quiet()");

impl Source for Duration {
    fn source(&self) -> String {
        match (self.subsec_micros(), self.subsec_nanos() % 1_000) {
            (0, 0) => format!("Duration::from_secs({})", self.as_secs()),
            (micros, 0) if micros % 1_000 == 0 => format!("Duration::from_millis({})", self.as_millis()),
            (_, 0) => format!("Duration::from_micros({})", self.as_micros()),
            _ => format!("Duration::from_nanos({})", self.as_nanos()),
        }
    }
}

impl Source for NonZeroU64 {
    fn source(&self) -> String {
        format!("at_least_one({self})")
    }
}

impl<T: Source> Source for Option<T> {
    fn source(&self) -> String {
        self.as_ref().map_or("None".to_owned(), |some| format!("Some({})", some.source()))
    }
}

impl<T: Source> Source for Vec<T> {
    fn source(&self) -> String {
        format!("vec![{}]", self.iter().map(Source::source).collect::<Vec<_>>().join(", "))
    }
}

impl<A: Source, B: Source> Source for (A, B) {
    fn source(&self) -> String {
        format!("({}, {})", self.0.source(), self.1.source())
    }
}
