//! What goes wrong in a world: a plan, made before anything runs. How it is drawn from a seed is in [`super::draw`].

use std::num::NonZeroU64;
use std::time::Duration;

use blocksyncd::sync::{DaEvidence, Limits, Policy, Timing};
use fastrand::Rng;

use super::byzantine_answers::Behaviour;

/// The version of the drawing: a seed means what it means only together with this. It rises with every change that makes a seed
/// mean another world: of what is drawn here, or of what the run draws on its way.
pub const DRAWING: u32 = 5;

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
    /// Each adversary knows only a few.
    pub sparse: bool,
    /// All of the adversaries are around this node.
    pub crowd_around: Option<usize>,
    /// Adversaries go on misbehaving after everything else has healed.
    pub adversaries_persist: bool,
    pub twin: Option<Twin>,
    /// And a third branch, beside the second one or on top of it.
    pub third: Option<Twin>,
    /// How many blocks whoever stole the key signs at once.
    pub twin_burst: u64,
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
    /// Of blocks: of exactly the largest size that there may be, or a byte larger.
    pub exact_sizes: f64,
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
    /// Of crashes: a part of the store is damaged: a block in the middle, a confirmation, what an operator or a host had said.
    pub record_damage: f64,
    /// Of inputs: the store cannot be read, and the process ends.
    pub failing_reads: f64,
    /// A process is asked to end in order.
    pub drain_rate: f64,
    /// Of starts: the operator has changed what is kept, and how long things may take.
    pub reconfigure: f64,
    /// Of such starts: another block is trusted, and DA is followed where it was not.
    pub resync: f64,
    /// How often an operator has DA read again, from anywhere.
    pub rescan_rate: f64,
    /// The chain's key changes.
    pub rotation_rate: f64,
    /// Whoever signs outside leaves, and comes back.
    pub signer_leaves_rate: f64,
    /// The second node holds the sequencer's key too, and uses it only where the roles change.
    pub second_signer: bool,
    /// How often the two signers change their roles.
    pub failover_rate: f64,
    /// How often an operator gives up a block that nobody asked about.
    pub disown_rate: f64,
    /// How often an operator adds a wrong entry to the schedule, and takes it back later.
    pub wrong_entry_rate: f64,
    /// Of starts: the operator has set other limits and another policy than before.
    pub relimit: f64,
    /// How often whoever stole the key signs a block on what nobody has, shortly before everything heals.
    pub orphan_rate: f64,

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
    /// How often another host refuses what a host calls hard, and its node does not any more.
    pub refuses_hard: f64,
    /// A host says how far it has come, under one of more names than are kept.
    pub ack: f64,
    /// Of these: it names a block that is not on the chain.
    pub ack_elsewhere: f64,
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
    /// Of names, where a chain is told by names: it is another one.
    pub name_wrong: f64,
    /// Of reports: another reporter takes its place, which was there before.
    pub reporters: f64,
    /// Of DA heights: the last node's host is shown another one than all others.
    pub misled: f64,
    /// Of reports: it covers far more than there is.
    pub report_too_high: f64,
    /// How often the newest part of DA is replaced.
    pub da_reorganises: f64,
    /// How many more streams each node has, of hosts that only watch.
    pub watchers: usize,
    /// Of turns: whoever only watches does not look for a while.
    pub sleepy: f64,
    /// There is no DA layer: nothing is ever hard, and nodes prune below soft.
    pub without_da: bool,
}

impl Plan {
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
            sparse: false,
            adversaries_persist: false,
            twin: None,
            third: None,
            twin_burst: 1,
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
            exact_sizes: 0.0,
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
            record_damage: 0.0,
            failing_reads: 0.0,
            drain_rate: 0.0,
            reconfigure: 0.0,
            resync: 0.0,
            rescan_rate: 0.0,
            rotation_rate: 0.0,
            signer_leaves_rate: 0.0,
            second_signer: false,
            failover_rate: 0.0,
            disown_rate: 0.0,
            wrong_entry_rate: 0.0,
            relimit: 0.0,
            orphan_rate: 0.0,

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
            refuses_hard: 0.0,
            ack: 0.0,
            ack_elsewhere: 0.0,
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
            name_wrong: 0.0,
            reporters: 0.0,
            misled: 0.0,
            report_too_high: 0.0,
            da_reorganises: 0.0,
            watchers: 0,
            sleepy: 0.0,
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
}
