//! `run`: the sidecar itself. Everything is checked, then opened, then said to be ready; then it waits to be told to end.

use std::path::PathBuf;

use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};

use super::print::print;
use super::supervisor::{self, Cause, Ending, ReadyLine, ReadySignal};
use super::{Code, Failure};
use crate::block::{BlockFormat as _, Format, PublicKey};
use crate::config::{self, Config, KeySeed, Sources};
use crate::node::{self, Control, Fatal, Shutdown};
use crate::store::{self, StoreError};
use crate::telemetry::{self, FilterHandle};
use crate::verify::Rules;
use crate::{api, p2p, sync};

/// The format of every chain's blocks, so far.
const FORMAT: Format = Format::Native;

/// Beyond `shutdown_grace`, which the parts keep among themselves, the process is given this much to end by itself.
const LAST_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the sidecar until it is told to end.
///
/// Settings are read from the home's config.toml, then from the environment (p2p.listen: `BLOCKSYNCD_P2P_LISTEN`), then from
/// the flags; the later ones win. When it is ready it prints one JSON object, with its socket and addresses, on stdout.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Check everything, print the effective settings and where the memory goes, and end
    #[arg(long)]
    check_config: bool,
    /// Write the ready line to this inherited descriptor, too: a pipe or a file
    #[arg(long, value_name = "N")]
    ready_fd: Option<u32>,
    /// Drain and end when standard input ends, as it does when the parent process dies
    #[arg(long)]
    exit_on_stdin_eof: bool,
}

/// Where settings come from; common to the commands that need them.
#[derive(Clone, Debug, clap::Args)]
pub struct SettingsArgs {
    /// The directory that `init` made; also `BLOCKSYNCD_HOME`
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The settings file, unless it is config.toml in the home; also `BLOCKSYNCD_CONFIG`
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any setting, as p2p.seeds=/ip4/...; lists are separated by commas; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Short for --set p2p.listen=...; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    listen: Vec<String>,
    /// Short for --set p2p.seeds=...; may be repeated
    #[arg(long = "seed", value_name = "MULTIADDR")]
    seeds: Vec<String>,
    /// Short for --set api.socket=...
    #[arg(long, value_name = "PATH")]
    socket: Option<String>,
    /// Short for --set log.filter=...
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl SettingsArgs {
    pub fn sources(&self) -> Result<Sources, Failure> {
        let mut assignments = self.set.clone();
        let lists = [("p2p.listen", &self.listen), ("p2p.seeds", &self.seeds)];
        assignments.extend(
            lists.iter().filter(|(_, list)| !list.is_empty()).map(|(k, list)| format!("{k}={}", list.join(","))),
        );
        let texts = [("api.socket", &self.socket), ("log.filter", &self.log)];
        assignments.extend(texts.iter().filter_map(|(key, text)| Some(format!("{key}={}", text.as_ref()?))));
        Ok(Sources {
            home: self.home.clone().or_else(|| super::path_variable("BLOCKSYNCD_HOME")),
            file: self.config.clone().or_else(|| super::path_variable("BLOCKSYNCD_CONFIG")),
            environment: config::environment()?,
            assignments,
        })
    }
}

pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let sources = args.settings.sources()?;
    let config = Config::load(&sources)?;
    if args.check_config {
        return print(config.describe().trim_end());
    }
    let ready_line = ReadyLine::prepare(args.ready_fd)?;
    let (filter, logs) = telemetry::install(&config.log.filter, config.log.format)
        .map_err(|why| Failure::new(Code::Internal, format!("cannot log: {why}")))?;
    supervisor::end_on_panic();
    if config.proposer_key.is_some() {
        keep_memory_private();
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }

    let ending = Ending { on_stdin_eof: args.exit_on_stdin_eof, deadline: config.shutdown_grace + LAST_GRACE };
    let on_hangup = filter.clone();
    let stopped = supervisor::listen(ending, move || reload_filter(&sources, &on_hangup))?;

    let outcome = serve(config, filter, ready_line, stopped);
    supervisor::notify(&[NotifyState::Stopping]);
    drop(logs);
    outcome
}

/// Only the filter is read again; whatever is wrong with it is said, and nothing changes.
fn reload_filter(sources: &Sources, handle: &FilterHandle) {
    let outcome = sources
        .settings()
        .and_then(|(_, settings)| config::log(&settings))
        .map_err(|error| error.to_string())
        .and_then(|log| handle.set(&log.filter).map(|()| log.filter));
    match outcome {
        Ok(filter) => tracing::info!(filter, "the log filter was read again"),
        Err(error) => tracing::error!(error, "the log filter stays as it is"),
    }
}

/// A process that holds the proposer's key is not dumped, and not traced by others of the same user.
fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "this process can be dumped to disk, with the proposer's key in it");
    }
}

/// Threads that read the store for peers and hosts, write the address book, and look up names. Reads are short, and many are asked
/// for at once: a thread for each would cost more than it reads.
const BLOCKING_THREADS: usize = 16;

/// From the opening of the store to the last goodbye.
fn serve(
    config: Config,
    filter: FilterHandle,
    ready_line: ReadyLine,
    stopped: watch::Receiver<Option<Cause>>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("node")
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| Failure::new(Code::Internal, format!("the system gives no threads: {error}")))?;
    supervisor::notify(&[NotifyState::Status("opening the store")]);
    let outcome = runtime.block_on(supervise(config, filter, ready_line, stopped));
    // Whatever still runs has nothing left to say: what was acknowledged is on disk.
    runtime.shutdown_background();
    outcome
}

/// Runs the node, says when it is ready, and passes on that it shall end.
async fn supervise(
    config: Config,
    filter: FilterHandle,
    ready_line: ReadyLine,
    mut stopped: watch::Receiver<Option<Cause>>,
) -> Result<(), Failure> {
    let (shutdown, shutdown_seen) = watch::channel(Shutdown::No);
    let (shutdown_requested, mut requests) = mpsc::channel(1);
    let (ready, mut is_ready) = oneshot::channel();
    let control = Control {
        shutdown: shutdown_seen,
        shutdown_requested,
        ready,
        set_log_filter: Box::new(move |text| filter.set(text)),
    };
    let (socket, grace) = (config.api.socket.clone(), config.shutdown_grace);
    let mut node = std::pin::pin!(node::run(node_config(config), control));
    let mut ready_line = Some(ready_line);
    let mut asked = false;
    loop {
        tokio::select! {
            outcome = &mut node => return outcome.map_err(Failure::from),
            Ok(ready) = &mut is_ready, if ready_line.is_some() => {
                if let Some(line) = ready_line.take() {
                    line.announce(&ReadySignal::new(&socket, ready));
                    supervisor::notify(&[NotifyState::Ready]);
                    supervisor::report_to_systemd(socket.clone());
                }
            }
            Ok(()) = stopped.changed() => {
                shutdown.send_replace(Shutdown::Drain(grace));
            }
            Some(mode) = requests.recv() => {
                if mode == api::ShutdownMode::Abrupt {
                    shutdown.send_replace(Shutdown::Abrupt);
                } else if !asked {
                    // One way to end: as if the supervisor had said it.
                    asked = true;
                    supervisor::terminate_self();
                }
            }
        }
    }
}

/// What each part needs to know.
fn node_config(config: Config) -> node::Config {
    let proposer = config.proposer_key.as_ref().map(KeySeed::public);
    let limits = sync_limits(&config);
    node::Config {
        store: store::Options {
            dir: config.store.dir.clone(),
            guard: config.guard.clone(),
            durability: config.store.durability,
            cache_bytes: config.budget.store_cache as u64,
            max_evidence: limits.evidence,
            da_evidence: config.genesis.da_evidence,
        },
        p2p: p2p_config(&config),
        api: api_config(&config, proposer),
        sync: sync_config(&config, proposer, limits),
        verify_bytes: config.budget.verify,
        reserve_bytes: config.store.reserve_bytes,
        proposer_key: config.proposer_key.map(KeySeed::into_secret),
    }
}

fn p2p_config(config: &Config) -> p2p::Config {
    p2p::Config {
        node_key: *config.p2p.node_key.secret(),
        listen: config.p2p.listen.clone(),
        seeds: config.p2p.seeds.clone(),
        policy: config.p2p.policy.clone(),
        address_book: Some(config.store.dir.join("peers.json")),
        network_ids: FORMAT.network_ids(&config.genesis.chain_id),
        max_block_bytes: config.blocks.taken,
        memory_bytes: config.budget.p2p.memory_bytes,
    }
}

fn api_config(config: &Config, proposer: Option<PublicKey>) -> api::Config {
    api::Config {
        socket: config.api.socket.clone(),
        allow_uids: config.api.allow_uids.clone(),
        chain_id: config.genesis.chain_id.clone(),
        initial_height: config.genesis.initial_height,
        peer_id: p2p::peer_id_of(config.p2p.node_key.secret()),
        proposer,
        durability: config.store.durability,
        block_bytes: config.blocks,
        da_evidence: config.genesis.da_evidence,
        memory_bytes: config.budget.api,
        max_connections: config.api.max_connections,
        block_time: config.sync.block_time,
    }
}

fn sync_config(config: &Config, proposer: Option<PublicKey>, limits: sync::Limits) -> sync::Config {
    sync::Config {
        rules: Rules {
            format: FORMAT,
            chain_id: config.genesis.chain_id.clone(),
            initial_height: config.genesis.initial_height,
            max_block_bytes: config.blocks.of_chain,
            max_clock_drift: config.sync.max_clock_drift,
            schedule: config.genesis.schedule.clone(),
        },
        signs: proposer,
        on_divergence: config.sync.on_divergence,
        // The node says, once the network has read its address book.
        known_peers: sync::Acquaintance::Nobody,
        da_evidence: config.genesis.da_evidence,
        history: config.sync.history,
        limits,
        timing: sync::Timing::default(),
    }
}

/// The core's limits, as far as they follow from the memory that there is.
fn sync_limits(Config { budget, blocks, .. }: &Config) -> sync::Limits {
    sync::Limits {
        max_block_bytes: blocks.taken,
        pending_bytes: budget.core.held,
        requests: budget.p2p.requests(),
        range_bytes: sync::Limits::range_bytes_within(budget.core.held),
        commit_bytes: budget.core.commits,
        sighting_bytes: budget.core.sightings,
        publish_queue: budget.core.proposals,
        ..sync::Limits::default()
    }
}

impl From<Fatal> for Failure {
    /// Each part says what went wrong; what to do about it is said here.
    fn from(fatal: Fatal) -> Self {
        let (code, advice) = match &fatal {
            Fatal::Store(error) => advice_about_store(error),
            Fatal::OtherThanTrusted { .. } => (
                Code::Data,
                ": find out which of the two is the chain's; then set sync.from right, or give the node an empty store.dir",
            ),
            Fatal::Api(api::StartError::InUse(_)) => (Code::Temporary, ": stop it, or set api.socket to another path"),
            Fatal::P2p(p2p::StartError::Listen { .. }) => {
                (Code::Io, ": set p2p.listen to an address of this machine that is free")
            }
            Fatal::Threads(_) | Fatal::Ended(_) | Fatal::P2p(p2p::StartError::Library(_)) => (Code::Internal, ""),
            Fatal::Api(api::StartError::PathTooLong { .. }) | Fatal::P2p(_) => (Code::Config, ""),
            Fatal::Api(_) => (Code::Io, ""),
        };
        Self::new(code, format!("{fatal}{advice}"))
    }
}

fn advice_about_store(error: &StoreError) -> (Code, &'static str) {
    match error {
        StoreError::Locked(_) => (Code::Temporary, ": stop it, or give this node a home of its own"),
        StoreError::GuardInUse { .. } => (Code::Temporary, ": stop it, and let it end, before another one signs"),
        StoreError::NoLocks { .. } => {
            (Code::Config, ": put store.dir and signer.guard on a file system whose locks work, best on this machine")
        }
        StoreError::Unfit(_) => (Code::Config, ""),
        StoreError::GuardRefuses { .. } => (Code::Internal, ": this is a bug; restart, and report it with the log"),
        StoreError::WrongChain { .. } => (Code::Data, ": set store.dir, or chain.genesis, right"),
        StoreError::OtherGenesis { .. } => {
            (Code::Data, ": put the right genesis file at chain.genesis, or set store.dir to one of its own")
        }
        StoreError::GuardOfOtherChain { .. } => (
            Code::Data,
            ": set signer.guard (unset, it is beside signer.key, with `.guard` added to its name), or chain.genesis, right",
        ),
        StoreError::WrongVersion { .. } => (Code::Data, ": run the version that wrote it"),
        StoreError::Full(_) | StoreError::Damaged { .. } | StoreError::Io { .. } => (Code::Io, ""),
    }
}
