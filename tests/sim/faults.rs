//! What goes wrong in a world: drawn once from its seed, before anything runs.
//!
//! Swarm testing: each kind of fault is first either on or off, and only then drawn in strength. A uniform mix would hide
//! whatever shows only when the faults around it are quiet.

use std::num::NonZeroU64;
use std::time::Duration;

use blocksyncd::sync::{DaEvidence, Limits, Policy, Timing};
use fastrand::Rng;

use super::byzantine_answers::Behaviour;

/// The version of the drawing: a seed means what it means only together with this. It rises with every change that makes a seed
/// mean another world: of what is drawn here, or of what the run draws on its way.
pub const DRAWING: u32 = 3;

/// How reporters name what they saw on DA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportBy {
    Hash,
    Bytes,
    /// Now by hash, now with the bytes.
    Either,
    /// By payload hash, which proves nothing; only in worlds without a twin.
    PayloadHash,
    /// By the rollup's own id, which proves as little.
    HostId,
    /// By the hash of whatever looks like a block, before its signature was checked; asked for the bytes, it gives what is there.
    Unverified,
    /// The same, and it has no bytes to give.
    NamesAlone,
}

impl ReportBy {
    /// What this world's chain takes of DA.
    pub fn evidence(self) -> DaEvidence {
        match self {
            Self::Hash | Self::Bytes | Self::Either | Self::Unverified | Self::NamesAlone => DaEvidence::Block,
            Self::PayloadHash | Self::HostId => DaEvidence::Named,
        }
    }
}

/// How the publisher's blocks come to be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// The sidecar holds the key.
    Inside,
    /// The host signs what the sidecar asks it to sign.
    Outside,
    /// The host hands over signed blocks.
    ByHost,
}

/// The sequencer signs a second branch.
#[derive(Clone, Copy, Debug)]
pub struct Twin {
    /// The first height that has two blocks, counted from the initial height; at least 1.
    pub fork: u64,
    /// How many blocks the second branch has.
    pub length: u64,
    /// DA takes the second branch, so the honest sequencer is on the losing one.
    pub wins: bool,
}

/// How much of the chain a node keeps, and where it begins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keeps {
    pub retain_blocks: Option<NonZeroU64>,
    pub max_bytes: Option<NonZeroU64>,
    /// It trusts a block that DA has decided, or the sequencer stores, once there are so many.
    pub trusts_one_of: Option<u64>,
    pub backfill: bool,
}

impl Keeps {
    pub fn draw(rng: &mut Rng) -> Self {
        let (retains, is_bounded, trusts) = (rng.f64() < 0.4, rng.f64() < 0.25, rng.f64() < 0.35);
        let (retain_blocks, max_bytes) = (NonZeroU64::new(rng.u64(1..=40)), NonZeroU64::new(rng.u64(1_500..=20_000)));
        Self {
            retain_blocks: retain_blocks.filter(|_| retains),
            max_bytes: max_bytes.filter(|_| is_bounded),
            trusts_one_of: Some(rng.u64(1..=25)).filter(|_| trusts),
            backfill: rng.f64() < 0.7,
        }
    }
}

/// Everything that is drawn before a world starts. Probabilities are per occasion, rates per second.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The version by which the run draws what it decides on its way.
    pub drawing: u32,
    /// What the run draws from.
    pub seed: u64,
    /// Nodes that run the core; the first one is the sequencer's.
    pub honest: usize,
    /// By node.
    pub keeps: Vec<Keeps>,
    pub adversaries: Vec<Behaviour>,
    /// All of the adversaries are around this node.
    pub crowd_around: Option<usize>,
    /// Adversaries go on misbehaving after everything else has healed.
    pub adversaries_persist: bool,
    pub twin: Option<Twin>,
    pub policy: Policy,
    /// An operator abandons the losing branch at halted nodes when everything heals.
    pub operator_abandons: bool,
    /// The operator acts while everything goes wrong, too.
    pub operator_always_acts: bool,
    pub initial_height: u64,
    pub faults_last: Duration,
    /// How long all must go on to agree, once they do.
    pub stays: Duration,
    pub block_time: Duration,
    pub da_block_time: Duration,
    pub payload_bytes: usize,
    /// Of blocks: as large as one may be, or nearly empty.
    pub odd_sizes: f64,
    /// The largest block that there may be; those that there are, are small.
    pub max_block_bytes: usize,
    pub limits: Limits,
    pub timing: Timing,

    pub delay: (Duration, Duration),
    pub loss: f64,
    pub duplicate: f64,
    /// A packet takes ten times as long, and others overtake it.
    pub reorder: f64,
    pub reset: f64,
    pub partial: f64,
    pub stall: f64,
    pub partition_rate: f64,
    pub asymmetric: bool,
    pub disconnect_rate: f64,
    /// Of requests: there are too many, and it is not sent.
    pub not_sent: f64,
    /// Of messages: how many are lost, come twice, or are late even after healing.
    pub lasting: f64,

    pub write: (Duration, Duration),
    pub write_stall: f64,
    /// How long what is written can be read before anybody is told of it.
    pub untold: Duration,
    pub storage_full_rate: f64,
    pub crash_rate: f64,
    /// Of crashes: what happens to the disk while the node is down.
    pub wipe: f64,
    pub backup: f64,
    pub loss_of_tail: f64,
    /// Whoever restores a backup restores the guard as well, which then knows nothing of what was signed since.
    pub guard_restored: bool,
    /// Everything but the mark beside the store.
    pub store_lost: f64,
    /// The guard is gone, at the signer's.
    pub guard_loss: f64,
    /// A process is asked to end in order.
    pub drain_rate: f64,
    /// Of starts: the operator has changed what is kept, and how long things may take.
    pub reconfigure: f64,
    /// How often an operator has DA read again, from anywhere.
    pub rescan_rate: f64,
    /// The chain's key changes.
    pub rotation_rate: f64,
    /// Whoever signs outside leaves, and comes back.
    pub signer_leaves_rate: f64,
    /// The second node holds the sequencer's key too, and never uses it.
    pub second_signer: bool,

    pub skew: Duration,
    pub clock_jump_rate: f64,
    /// The clock of the last node goes wrong, and stays so, by so many seconds.
    pub clock_stays: i64,
    pub pool: usize,
    pub check: Duration,

    pub signing: Signing,
    pub signer_fails: f64,
    pub pipeline: usize,
    pub host_crash_rate: f64,
    pub host_backup: f64,
    pub other_block: f64,
    pub republish: f64,
    pub veto_rate: f64,
    /// Any soft block may be refused, not the newest one alone; also by the publisher's host.
    pub vetoes_any: bool,
    /// A host says how far it has come, under one of more names than are kept.
    pub ack: f64,
    /// An operator adds an entry to the proposer schedule.
    pub extend_rate: f64,

    pub report_by: ReportBy,
    pub report_late: f64,
    pub report_repeat: f64,
    pub da_outage: f64,
    pub da_delay: Duration,
    pub da_repost: f64,
    pub da_junk: f64,
    /// Reporters say of junk that it is junk, instead of leaving it out.
    pub report_junk: f64,
    /// Of hosts' lives: it does not verify what it names, and perhaps has no bytes to give while things go wrong.
    pub careless: f64,
    /// Of findings: the digest or the name is another one.
    pub report_wrong: f64,
    /// Of reports: it covers far more than there is.
    pub report_too_high: f64,
    /// How many more streams each node has, of hosts that only watch.
    pub watchers: usize,
    /// There is no DA layer: nothing is ever hard, and nodes prune below soft.
    pub without_da: bool,
}

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
        if seed % CROWD_EVERY == 77 { Self::crowd(seed) } else { Self::mixed(seed) }
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

    /// Two nodes, and nothing goes wrong. Each kind of fault is off here: also one that was added after a plan was written down.
    pub fn quiet() -> Self {
        let soon = Duration::from_millis(1);
        Self {
            drawing: DRAWING,
            seed: 0,
            honest: 2,
            keeps: vec![Keeps::default(); 2],
            adversaries: Vec::new(),
            crowd_around: None,
            adversaries_persist: false,
            twin: None,
            policy: Policy::FollowDa,
            operator_abandons: true,
            operator_always_acts: false,
            initial_height: 1,
            faults_last: Duration::from_secs(20),
            stays: Duration::ZERO,
            block_time: Duration::from_millis(500),
            da_block_time: Duration::from_secs(1),
            payload_bytes: 20,
            odd_sizes: 0.0,
            max_block_bytes: 1 << 20,
            limits: Limits::default(),
            timing: Timing::default(),

            delay: (soon, soon * 20),
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            reset: 0.0,
            partial: 0.0,
            stall: 0.0,
            partition_rate: 0.0,
            asymmetric: false,
            disconnect_rate: 0.0,
            not_sent: 0.0,
            lasting: 0.0,

            write: (soon, soon),
            write_stall: 0.0,
            untold: Duration::ZERO,
            storage_full_rate: 0.0,
            crash_rate: 0.0,
            wipe: 0.0,
            backup: 0.0,
            loss_of_tail: 0.0,
            guard_restored: false,
            store_lost: 0.0,
            guard_loss: 0.0,
            drain_rate: 0.0,
            reconfigure: 0.0,
            rescan_rate: 0.0,
            rotation_rate: 0.0,
            signer_leaves_rate: 0.0,
            second_signer: false,

            skew: Duration::ZERO,
            clock_jump_rate: 0.0,
            clock_stays: 0,
            pool: 64,
            check: Duration::from_micros(50),

            signing: Signing::Inside,
            signer_fails: 0.0,
            pipeline: 1,
            host_crash_rate: 0.0,
            host_backup: 0.0,
            other_block: 0.0,
            republish: 0.0,
            veto_rate: 0.0,
            vetoes_any: false,
            ack: 0.0,
            extend_rate: 0.0,

            report_by: ReportBy::Bytes,
            report_late: 0.0,
            report_repeat: 0.0,
            da_outage: 0.0,
            da_delay: Duration::ZERO,
            da_repost: 0.0,
            da_junk: 0.0,
            report_junk: 0.0,
            careless: 0.0,
            report_wrong: 0.0,
            report_too_high: 0.0,
            watchers: 0,
            without_da: false,
        }
    }

    /// Nothing goes wrong, and everything takes exactly as long as it says: half a round trip of 100 ms.
    pub fn calm(honest: usize, adversaries: Vec<Behaviour>) -> Self {
        let one_way = Duration::from_millis(50);
        Self {
            honest,
            keeps: vec![Keeps::default(); honest],
            adversaries,
            adversaries_persist: true,
            delay: (one_way, one_way),
            ..Self::quiet()
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
        let stores_any_size = keeps.iter().all(|keeps| keeps.max_bytes.is_none());
        Self {
            drawing: DRAWING,
            seed,
            honest,
            keeps,
            without_da,
            adversaries,
            crowd_around: None,
            adversaries_persist: rng.bool(),
            twin,
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
            store_lost: if quiet_disk { 0.0 } else { swarm(newer, 0.5, 0.5) },
            guard_loss: if quiet_disk { 0.0 } else { swarm(rng, 0.2, 0.5) },
            drain_rate: swarm(rng, 0.4, 0.2),
            reconfigure: swarm(newer, 0.25, 1.0),
            rescan_rate: swarm(newer, 0.15, 0.1),
            second_signer: newer.f64() < 0.1,
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
            ack: swarm(rng, 0.5, 0.5),
            extend_rate: if rotation_rate > 0.0 { 0.0 } else { swarm(rng, 0.2, 0.2) },

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
            report_too_high: swarm(newer, 0.2, 0.1),
            watchers: if newer.f64() < 0.5 { newer.usize(1..=2) } else { 0 },
        }
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
    fn limits(rng: &mut Rng) -> Limits {
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
