//! How often the interesting states were reached: what a run must have seen before its silence says anything.
//!
//! Invariants:
//! 1. Counted is what passes between the core and its world: inputs, effects, what hosts are told. Nothing is asked of the core
//!    for it.
//! 2. A state is counted as events, as worlds that had it at least once, and as such worlds in which a chain was truncated, too:
//!    what is rare alone is often wrong together.

use std::fmt::Write as _;
use std::time::Duration;

use super::world::Outcome;

macro_rules! states {
    ($($(#[$doc:meta])* $state:ident $name:literal,)*) => {
        /// An interesting state.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum State {
            $($(#[$doc])* $state,)*
        }

        impl State {
            pub const ALL: &[Self] = &[$(Self::$state,)*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$state => $name,)*
                }
            }
        }
    };
}

states! {
    // What nodes write.
    Truncation "truncation",
    TruncationAtSequencer "truncation_at_sequencer",
    Evidence "evidence",
    Halt "halt",
    Veto "veto",
    ScheduleEntry "schedule_entry",
    /// The chain's key changes.
    Rotation "rotation",
    /// For a second, a node does not know of a key that has signed.
    ScheduleLags "schedule_lags",
    Prune "prune",
    BackfilledBlock "backfilled_block",
    /// There was no room for what DA has of some height: it is to be read again.
    Shed "shed",
    /// A block of a proposer who is not in a node's schedule was seen on DA.
    PassedOver "passed_over",

    // What nodes ask for, and are given.
    /// A parent of a pinned block was asked for by its hash.
    WalkStep "walk_step",
    /// What a node that may sign waits for, or a parent of it, was asked for by its hash.
    AwaitedAsked "awaited_asked",
    AnswerNotFound "answer_not_found",
    AnswerCut "answer_cut",
    AnswerReset "answer_reset",
    AnswerLate "answer_late",
    AnswerInvalid "answer_invalid",
    AnswerNotSent "answer_not_sent",
    AnswerUnsupported "answer_unsupported",
    TargetDropped "target_dropped",
    Ban "ban",

    // What hosts are told.
    RetractTold "retract_told",
    GapTold "gap_told",
    /// In one world, to one host.
    GapAndRetractTold "gap_and_retract_told",
    DataLossTold "data_loss_told",
    EquivocationTold "equivocation_told",
    StreamLost "stream_lost",
    WantedNamed "wanted_named",
    ReportRefused "report_refused",
    PublishConflict "publish_conflict",
    PublishNotReady "publish_not_ready",
    PublishHalted "publish_halted",

    WatchedFromGenesis "watched_from_genesis",
    WatchedFromTip "watched_from_tip",
    /// It names one block.
    WatchedFromOne "watched_from_one",
    WatchedFromAll "watched_from_all",

    // What operators do.
    AbandonBranch "abandon_branch",
    AssertSigned "assert_signed",
    LiftVeto "lift_veto",
    ForgetConsumer "forget_consumer",
    RescanDa "rescan_da",

    // What happens to nodes and hosts.
    Crash "crash",
    DiskDamage "disk_damage",
    GuardLost "guard_lost",
    AnchorAtStart "anchor_at_start",
    Drain "drain",
    StorageFull "storage_full",
    Partition "partition",
    ClockJump "clock_jump",
    /// After healing, too.
    ClockStaysWrong "clock_stays_wrong",
    SignerAway "signer_away",
    SignerLeft "signer_left",
    HostCrash "host_crash",
    HostRestored "host_restored",
    /// A host names what it has not verified.
    CarelessHost "careless_host",
    WrongReport "wrong_report",
    /// A block of the largest size.
    LargeBlock "large_block",
    /// A node says so.
    HistoryUnavailable "history_unavailable",

    // What drawing 4 adds.
    ThirdBranch "third_branch",
    WrongName "wrong_name",
    ReportersInTurn "reporters_in_turn",
    /// A host is shown a DA height that is not so.
    Misled "misled",
    /// A store that followed it is made anew.
    MadeAnew "made_anew",
    RecordDamage "record_damage",
    ReadFailed "read_failed",
    TrustedAnew "trusted_anew",
    /// Who signed before signs no more, and the other one does.
    Failover "failover",
    /// An operator gives a block up: that nobody asked about, or as the status advises.
    Disown "disown",
    DisownAdvised "disown_advised",
    WrongEntry "wrong_entry",
    WithdrawSchedule "withdraw_schedule",
    /// Of exactly the largest size.
    LargestBlock "largest_block",
    /// A byte larger.
    TooLargeBlock "too_large_block",
    TinyBlock "tiny_block",
    LongChain "long_chain",
    ManyPeers "many_peers",
    AckElsewhere "ack_elsewhere",
    WatcherSleeps "watcher_sleeps",

    // What drawing 5 adds.
    OtherLimits "other_limits",
    /// It takes no block that is larger than so much, and others do.
    TakesOnlySmall "takes_only_small",
    OtherPolicy "other_policy",
    DaReorganised "da_reorganised",
    /// And decides otherwise than before.
    DaReversed "da_reversed",
    /// An operator has DA read again after that.
    ReadReorganised "read_reorganised",
    Orphan "orphan",
    HardRefused "hard_refused",
}

/// The states that one world reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    events: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { events: vec![0; State::ALL.len()] }
    }
}

impl Tally {
    pub fn count(&mut self, state: State) {
        self.add(state, 1);
    }

    pub fn add(&mut self, state: State, events: u64) {
        self.events[state as usize] += events;
    }

    pub fn of(&self, state: State) -> u64 {
        self.events[state as usize]
    }
}

/// How often one state was reached in many worlds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub events: u64,
    /// Worlds with at least one.
    pub worlds: u64,
    /// Worlds with at least one, and with a truncation.
    pub truncated: u64,
}

/// What many worlds amount to.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub seeds: u64,
    pub failed: Vec<u64>,
    processor_time: Option<Duration>,
    steps: u64,
    simulated: Duration,
    /// By world.
    blocks: Vec<u64>,
    reached: Vec<Reached>,
}

impl Totals {
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.simulated += outcome.simulated;
        self.blocks.push(outcome.blocks);
        self.reached.resize(State::ALL.len(), Reached::default());
        let truncated = u64::from(outcome.tally.of(State::Truncation) > 0);
        for (reached, events) in self.reached.iter_mut().zip(&outcome.tally.events) {
            let had = u64::from(*events > 0);
            reached.events += events;
            reached.worlds += had;
            reached.truncated += had * truncated;
        }
    }

    pub fn fail(&mut self, seed: u64) {
        self.seeds += 1;
        self.failed.push(seed);
    }

    /// All worlds have run.
    pub fn end(&mut self, processor_time: Option<Duration>) {
        self.failed.sort_unstable();
        self.processor_time = processor_time;
    }

    pub fn of(&self, state: State) -> Reached {
        self.reached.get(state as usize).copied().unwrap_or_default()
    }

    /// On one line, for a program to read.
    pub fn json(&self, drawing: u32) -> String {
        let ended = u32::try_from(self.blocks.len().max(1)).unwrap_or(u32::MAX);
        let mean = |sum: f64| sum / f64::from(ended);
        let mut blocks = self.blocks.clone();
        blocks.sort_unstable();
        let median = blocks.get(blocks.len() / 2).copied().unwrap_or_default();
        let mut line = format!("{{\"version\":{drawing},\"seeds\":{},\"failed\":{}", self.seeds, self.failed.len());
        let seconds = self.processor_time.map_or("null".to_owned(), |time| format!("{:.1}", time.as_secs_f64()));
        let _ =
            write!(line, ",\"cpu_s\":{seconds},\"mean\":{{\"simulated_s\":{:.1}", mean(self.simulated.as_secs_f64()));
        let _ = write!(line, ",\"steps\":{:.0}", mean(as_float(self.steps)));
        let _ = write!(line, ",\"blocks\":{:.1},\"median_blocks\":{median}}}", mean(as_float(blocks.iter().sum())));
        let states = State::ALL.iter().map(|state| {
            let Reached { events, worlds, truncated } = self.of(*state);
            let name = state.name();
            format!("\"{name}\":{{\"events\":{events},\"worlds\":{worlds},\"truncated\":{truncated}}}")
        });
        let _ = write!(line, ",\"states\":{{{}}}}}", states.collect::<Vec<_>>().join(","));
        line
    }
}

#[allow(clippy::cast_precision_loss, reason = "a mean need not be exact")]
fn as_float(count: u64) -> f64 {
    count as f64
}
