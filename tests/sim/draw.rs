//! The drawing: which plan a seed stands for.
//!
//! Swarm testing: each kind of fault is first either on or off, and only then drawn in strength. A uniform mix would hide
//! whatever shows only when the faults around it are quiet.

use std::time::Duration;

use blocksyncd::sync::{DaEvidence, Limits, Policy, Timing};
use fastrand::Rng;

use super::byzantine_answers::Behaviour;
use super::faults::{DRAWING, Keeps, Plan, ReportBy, Signing, Twin};

/// On with the given chance, and then of a strength below `max`.
fn swarm(rng: &mut Rng, chance: f64, max: f64) -> f64 {
    if rng.f64() < chance { rng.f64() * max } else { 0.0 }
}

fn millis(rng: &mut Rng, range: std::ops::RangeInclusive<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

/// Of so many seeds one goes on for longer than any deadline or patience, to see whether what was reached is kept.
const STAYS_EVERY: u64 = 16;
/// Of so many seeds one is of a crowd.
const CROWD_EVERY: u64 = 128;
const CROWD: usize = 50;

impl Plan {
    pub fn draw(seed: u64) -> Self {
        match seed % CROWD_EVERY {
            77 => Self::crowd(seed),
            13 | 78 => Self::long(seed),
            33 | 98 => Self::many(seed),
            _ => Self::mixed(seed),
        }
        .with_newest(seed)
    }

    /// What the newest drawing adds is drawn after all else, so that what else a seed means stays as it is.
    fn with_newest(self, seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed ^ 0x0005_d3a5);
        let has_twin = self.twin.is_some();
        let decides = self.report_by.evidence() == DaEvidence::Block && !self.without_da;
        // A host that signs by itself and begins anew would itself be the equivocating sequencer.
        let may_reorganise = decides && self.misled == 0.0 && self.signing != Signing::ByHost;
        let strength = |is_possible: bool, drawn: f64| if is_possible { drawn } else { 0.0 };
        Self {
            relimit: swarm(rng, 0.25, 1.0),
            orphan_rate: strength(decides && has_twin, swarm(rng, 0.5, 0.6)),
            refuses_hard: strength(decides, swarm(rng, 0.7, 5.0)),
            da_reorganises: strength(may_reorganise, swarm(rng, if has_twin { 0.8 } else { 0.2 }, 0.1)),
            ..self
        }
    }

    /// Blocks come fast, and there are more of them than one answer, one commit or one decision takes.
    fn long(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed ^ 0x0004_1046);
        Self {
            block_time: millis(rng, 25..=60),
            pipeline: 3,
            payload_bytes: rng.usize(0..=10),
            write: (Duration::ZERO, millis(rng, 1..=15)),
            untold: millis(rng, 0..=5),
            odd_sizes: 0.0,
            exact_sizes: 0.0,
            ..Self::mixed(seed)
        }
    }

    /// Dozens of peers of every kind, each of whom knows a few.
    fn many(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed ^ 0x0004_3a41);
        let count = rng.usize(12..=30);
        let adversaries = (0..count).map(|_| Behaviour::ALL[rng.usize(0..Behaviour::ALL.len())]).collect();
        Self { adversaries, sparse: true, ..Self::mixed(seed) }
    }

    /// One follower, which knows one honest peer and fifty adversaries, every kind among them. They go on for ever.
    pub fn crowd(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed ^ 0xc0_40d5);
        let mut adversaries = Behaviour::ALL.to_vec();
        adversaries.extend(
            std::iter::repeat_with(|| Behaviour::ALL[rng.usize(0..Behaviour::ALL.len())])
                .take(CROWD - adversaries.len()),
        );
        rng.shuffle(&mut adversaries);
        Self {
            honest: 2,
            keeps: vec![Keeps::default(); 2],
            without_da: false,
            adversaries,
            adversaries_persist: true,
            crowd_around: Some(1),
            max_block_bytes: 1 << 20,
            limits: Limits::default(),
            faults_last: millis(&mut rng, 10_000..=15_000),
            block_time: millis(&mut rng, 400..=1_200),
            ..Self::mixed(seed)
        }
    }

    fn mixed(seed: u64) -> Self {
        // Drawn apart, so that what else a seed means stays as it is.
        let mut late = Rng::with_seed(seed ^ 0x11a5);
        let mut rng = Rng::with_seed(seed ^ 0x51b0_c0de);
        let rng = &mut rng;
        let honest = rng.usize(2..=5);
        let mut adversaries: Vec<Behaviour> = if rng.f64() < 0.6 {
            (0..rng.usize(1..=(9 - honest).min(4))).map(|_| Behaviour::draw(rng)).collect()
        } else {
            Vec::new()
        };
        for behaviour in &mut adversaries {
            if late.f64() < 0.35 {
                let late_ones = [
                    Behaviour::HeadOnly,
                    Behaviour::TooHeavy,
                    Behaviour::Flaps,
                    Behaviour::Foreign,
                    Behaviour::Replays,
                ];
                *behaviour = late_ones[late.usize(0..late_ones.len())];
            }
        }
        let mut keeping = Rng::with_seed(seed ^ 0x4157_0123);
        let twin =
            (rng.f64() < 0.3).then(|| Twin { fork: rng.u64(1..=25), length: rng.u64(1..=40), wins: rng.f64() < 0.6 });
        let delay_min = millis(rng, 0..=20);
        let delay_max = delay_min + if rng.bool() { millis(rng, 1..=30) } else { millis(rng, 30..=600) };
        let write_min = millis(rng, 0..=5);
        let signing = match rng.u8(0..10) {
            0..=5 => Signing::Inside,
            6..=8 => Signing::Outside,
            _ => Signing::ByHost,
        };
        let quiet_disk = rng.f64() < 0.4;
        // A host that signs by itself and then forgets would itself be the equivocating sequencer.
        let host_forgets = signing != Signing::ByHost;
        let report_by = match rng.u8(0..10) {
            0..=3 => ReportBy::Hash,
            4..=6 => ReportBy::Bytes,
            7 if twin.is_none() => ReportBy::PayloadHash,
            8 if twin.is_none() => ReportBy::HostId,
            _ => ReportBy::Either,
        };
        // What is named on DA by an id alone can be brought back by nobody but the host that made it.
        let host_keeps_all = !host_forgets || matches!(report_by, ReportBy::PayloadHash | ReportBy::HostId);
        // Without DA nobody says which of two branches is the one.
        let without_da = twin.is_none() && quiet_disk && keeping.f64() < 0.3;
        let keeps = Self::keeps(honest, quiet_disk && !without_da, &mut keeping);
        let mut newer = Rng::with_seed(seed ^ 0x0003_d3a3);
        let newer = &mut newer;
        let by_bytes = report_by.evidence() == DaEvidence::Block;
        let rotation_rate = swarm(newer, 0.2, 0.1);
        let newer_signer = &mut Rng::with_seed(seed ^ 0x0004_5167);
        let second_signer = newer_signer.f64() < 0.15;
        let may_fail_over =
            second_signer && rotation_rate == 0.0 && signing != Signing::ByHost && by_bytes && !without_da;
        let may_be_misled = by_bytes && !without_da && honest > 2;
        let newest = &mut Rng::with_seed(seed ^ 0x0004_d3a4);
        let wrong_entry_rate = if rotation_rate > 0.0 { 0.0 } else { swarm(newest, 0.15, 0.15) };
        let stores_any_size = keeps.iter().all(|keeps| keeps.max_bytes.is_none());
        Self {
            drawing: DRAWING,
            seed,
            honest,
            keeps,
            without_da,
            adversaries,
            sparse: false,
            crowd_around: None,
            adversaries_persist: rng.bool(),
            twin,
            third: Self::third(twin, newest),
            twin_burst: if newest.f64() < 0.4 { newest.u64(2..=6) } else { 1 },
            policy: if rng.f64() < 0.9 { Policy::FollowDa } else { Policy::Halt },
            operator_abandons: rng.f64() < 0.7,
            operator_always_acts: newer.f64() < 0.3,
            initial_height: if rng.f64() < 0.7 { 1 } else { rng.u64(2..=1000) },
            faults_last: millis(rng, 12_000..=42_000),
            stays: Duration::from_secs(if seed % STAYS_EVERY == 5 { 90 } else { 2 }),
            block_time: millis(rng, 100..=800),
            da_block_time: millis(rng, 700..=4_000),
            payload_bytes: rng.usize(0..=60),
            odd_sizes: if stores_any_size { swarm(newer, 0.45, 0.3) } else { 0.0 },
            exact_sizes: if stores_any_size { swarm(newest, 0.4, 0.2) } else { 0.0 },
            max_block_bytes: if late.bool() { 4_096 } else { 1 << 17 },
            limits: Self::limits(rng),
            timing: Self::timing(rng),

            delay: (delay_min, delay_max),
            loss: swarm(rng, 0.5, 0.3),
            duplicate: swarm(rng, 0.3, 0.5),
            reorder: swarm(rng, 0.4, 0.3),
            reset: swarm(rng, 0.4, 0.3),
            partial: swarm(rng, 0.4, 0.4),
            stall: swarm(rng, 0.3, 0.2),
            partition_rate: swarm(rng, 0.4, 0.15),
            asymmetric: rng.bool(),
            disconnect_rate: swarm(rng, 0.4, 0.3),
            not_sent: swarm(newer, 0.2, 0.3),
            lasting: swarm(newer, 0.2, 0.1),

            write: (write_min, write_min + millis(rng, 1..=40)),
            write_stall: swarm(rng, 0.2, 0.05),
            untold: if newer.bool() { Duration::ZERO } else { millis(newer, 0..=60) },
            storage_full_rate: swarm(rng, 0.2, 0.1),
            crash_rate: swarm(rng, 0.6, 0.4),
            wipe: if quiet_disk { 0.0 } else { swarm(rng, 0.5, 0.3) },
            backup: if quiet_disk { 0.0 } else { swarm(rng, 0.5, 0.4) },
            loss_of_tail: if quiet_disk { 0.0 } else { swarm(rng, 0.6, 0.6) },
            guard_restored: signing != Signing::ByHost && by_bytes && !without_da && newer.f64() < 0.3,
            store_lost: if quiet_disk { 0.0 } else { swarm(newer, 0.5, 0.7) },
            guard_loss: if quiet_disk { 0.0 } else { swarm(rng, 0.2, 0.5) },
            record_damage: if quiet_disk { 0.0 } else { swarm(newest, if twin.is_some() { 0.9 } else { 0.5 }, 0.8) },
            failing_reads: swarm(newest, 0.2, 0.002),
            drain_rate: swarm(rng, 0.4, 0.2),
            reconfigure: swarm(newer, 0.25, 1.0),
            resync: swarm(newest, 0.5, 0.6),
            rescan_rate: swarm(newer, 0.15, 0.1),
            second_signer,
            failover_rate: if may_fail_over { swarm(newest, 0.8, 0.2) } else { 0.0 },
            disown_rate: if by_bytes && !without_da { swarm(newest, 0.2, 0.2) } else { 0.0 },
            wrong_entry_rate,
            relimit: 0.0,
            orphan_rate: 0.0,
            rotation_rate,
            signer_leaves_rate: if signing == Signing::Outside { swarm(newer, 0.4, 0.2) } else { 0.0 },

            skew: if rng.bool() { millis(rng, 0..=4_000) } else { Duration::ZERO },
            clock_jump_rate: swarm(rng, 0.3, 0.2),
            clock_stays: if newer.f64() < 0.1 { newer.i64(-30..=30) } else { 0 },
            pool: if rng.f64() < 0.8 { 64 } else { rng.usize(1..=4) },
            check: Duration::from_micros(rng.u64(50..=5_000)),

            signing,
            signer_fails: swarm(rng, 0.4, 0.3),
            pipeline: if rng.bool() { 1 } else { rng.usize(2..=4) },
            host_crash_rate: swarm(rng, 0.5, 0.2),
            host_backup: if host_keeps_all { 0.0 } else { swarm(rng, 0.5, 0.6) },
            other_block: if host_forgets { swarm(rng, 0.4, 0.2) } else { 0.0 },
            republish: swarm(rng, 0.4, 0.2),
            veto_rate: swarm(rng, 0.3, 0.04),
            vetoes_any: by_bytes && !without_da && newer.f64() < 0.4,
            refuses_hard: 0.0,
            ack: swarm(rng, 0.5, 0.5),
            ack_elsewhere: newest.f64() * 0.3,
            extend_rate: if rotation_rate + wrong_entry_rate > 0.0 { 0.0 } else { swarm(rng, 0.2, 0.2) },

            report_by,
            report_late: swarm(rng, 0.4, 0.6),
            report_repeat: swarm(rng, 0.4, 0.3),
            da_outage: swarm(rng, 0.3, 0.4),
            da_delay: if rng.bool() { Duration::ZERO } else { millis(rng, 0..=8_000) },
            da_repost: swarm(rng, 0.4, 0.4),
            da_junk: swarm(rng, 0.5, 0.6),
            report_junk: swarm(rng, 0.4, 1.0),
            careless: if by_bytes { swarm(newer, 0.3, 1.0) } else { 0.0 },
            report_wrong: if by_bytes { swarm(newer, 0.2, 0.2) } else { 0.0 },
            name_wrong: if by_bytes { 0.0 } else { swarm(newest, 0.4, 0.05) },
            reporters: swarm(newest, 0.2, 0.3),
            misled: if may_be_misled { swarm(newest, if twin.is_some() { 0.6 } else { 0.2 }, 0.8) } else { 0.0 },
            report_too_high: swarm(newer, 0.2, 0.1),
            da_reorganises: 0.0,
            watchers: if newer.f64() < 0.5 { newer.usize(1..=2) } else { 0 },
            sleepy: swarm(newest, 0.4, 0.1),
        }
    }

    /// Only where there is a second branch.
    fn third(twin: Option<Twin>, rng: &mut Rng) -> Option<Twin> {
        let third = Twin { fork: rng.u64(1..=30), length: rng.u64(1..=25), wins: rng.bool() };
        (rng.f64() < 0.4 && twin.is_some()).then_some(third)
    }

    /// In every other world, everybody keeps everything. The sequencer's node does in most others too; where it may lose its
    /// disk, somebody must have what it lost.
    fn keeps(honest: usize, may_sequencer_prune: bool, rng: &mut Rng) -> Vec<Keeps> {
        let is_history_kept = rng.bool();
        let may_sequencer_prune = may_sequencer_prune && rng.f64() < 0.8;
        let mut keeps: Vec<Keeps> = (0..honest).map(|_| Keeps::draw(rng)).collect();
        if is_history_kept {
            return vec![Keeps::default(); honest];
        }
        keeps[0].trusts_one_of = None;
        if !may_sequencer_prune {
            keeps[0] = Keeps::default();
        }
        keeps
    }

    /// Small ones in some worlds, so that every bound is met.
    pub fn limits(rng: &mut Rng) -> Limits {
        let limits = Limits::default();
        if rng.f64() < 0.6 {
            return limits;
        }
        Limits {
            max_block_bytes: usize::MAX,
            pending_blocks: rng.usize(8..=64),
            pending_bytes: rng.usize(4_096..=65_536),
            commit_bytes: rng.usize(2_048..=65_536),
            requests: 16,
            requests_per_peer: rng.usize(1..=4),
            range_bytes: rng.usize(600..=8_192),
            publish_queue: rng.usize(1..=4),
            sightings: rng.usize(4..=100),
            sighting_bytes: rng.usize(5_000..=80_000),
            evidence: rng.usize(2..=8),
            awaited: rng.usize(8..=64),
            disowned: rng.usize(64..=256),
            exclusions: 8,
            remembered_peers: rng.usize(2..=16),
            consumers: rng.usize(4..=8),
        }
    }

    pub fn timing(rng: &mut Rng) -> Timing {
        Timing {
            head_interval: millis(rng, 1_000..=5_000),
            request_timeout: millis(rng, 1_500..=4_000),
            gossip_grace: millis(rng, 20..=300),
            hedge_after: millis(rng, 200..=1_500),
            backoff_min: millis(rng, 50..=500),
            backoff_max: millis(rng, 1_000..=5_000),
            target_patience: millis(rng, 5_000..=12_000),
            ban_min: millis(rng, 2_000..=20_000),
            ban_max: millis(rng, 20_000..=120_000),
        }
    }
}
