//! `run`: the sidecar itself. Everything is checked, then opened, then said to be ready; then it waits to be told to end.

use std::path::PathBuf;

use tokio::sync::watch;

use super::supervisor::{self, Ending, Ready, ReadyLine};
use super::{Code, Failure};
use crate::config::{self, Config, Sources};
use crate::telemetry::{self, FilterHandle};

/// Beyond `shutdown_grace`, which the parts keep among themselves, the process is given this much to end by itself.
const LAST_GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the sidecar until it is told to end.
///
/// Settings are read from the home's config.toml, then from the environment (p2p.listen: BLOCKSYNCD_P2P_LISTEN), then from
/// the flags; the later ones win. When it is ready it prints one JSON object, with its socket and addresses, on stdout.
#[derive(Debug, clap::Args)]
pub struct Args {
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
    /// The directory that `init` made; also BLOCKSYNCD_HOME
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The settings file, unless it is config.toml in the home; also BLOCKSYNCD_CONFIG
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

pub fn run(args: &Args) -> Result<(), Failure> {
    let sources = args.settings.sources()?;
    let config = Config::load(&sources)?;
    if args.check_config {
        print!("{}", config.describe());
        return Ok(());
    }
    let ready_line = ReadyLine::prepare(args.ready_fd)?;
    let (filter, logs) = telemetry::install(&config.log.filter, config.log.format)
        .map_err(|why| Failure::new(Code::Internal, format!("cannot log: {why}")))?;
    supervisor::end_on_panic();
    if config.signer.is_some() {
        keep_memory_private();
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }

    let ending = Ending { on_stdin_eof: args.exit_on_stdin_eof, deadline: config.shutdown_grace + LAST_GRACE };
    let on_hangup = filter.clone();
    let stopped = supervisor::listen(ending, move || reload_filter(&sources, &on_hangup))?;

    let outcome = serve(config, filter, ready_line, stopped);
    supervisor::notify(&[sd_notify::NotifyState::Stopping]);
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

/// From the opening of the store to the last goodbye.
fn serve(
    config: Config,
    filter: FilterHandle,
    ready_line: ReadyLine,
    stopped: watch::Receiver<Option<supervisor::Cause>>,
) -> Result<(), Failure> {
    let _ = (config, filter, ready_line, stopped);
    Err(Failure::new(Code::Unavailable, "not built yet"))
}
