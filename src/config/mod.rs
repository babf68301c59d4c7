//! Settings: file, environment and command line become one checked [`Config`].
//!
//! Invariants:
//! 1. Everything is checked before anything is opened: a [`Config`] names a chain with a proposer, sound keys that nobody
//!    else can read, addresses that can be dialled, and a budget in which every queue holds a block.
//! 2. Whatever is wrong is said in one sentence: what, where it was set, what to do.
//! 3. Nothing is written here but by [`keys::create_file`], for `init`.

mod budget;
mod genesis;
pub mod keys;
mod layers;
pub mod settings;
pub mod units;

use std::fmt::Write as _;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use budget::{Budget, Wanted};
pub use genesis::Genesis;
pub use keys::Seed;
pub use layers::Settings;

use crate::api::MAX_SOCKET_PATH_BYTES;
use crate::block::{BlockId, ChainId, native};
use crate::p2p;
use crate::store::Durability;
use crate::sync::{History, Policy};
use crate::telemetry;
use crate::util::saturate;

/// The name of the settings file in a home.
pub const FILE_NAME: &str = "config.toml";

/// The longest configuration or genesis file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A setting that cannot be used, as one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub kind: ErrorKind,
    pub message: String,
}

/// What kind of exit code a [`ConfigError`] deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line is wrong.
    Usage,
    /// A setting, or a file that it names, is wrong.
    Config,
    /// The operating system does not let us.
    Permission,
    /// A file cannot be made.
    Create,
    Io,
}

impl ConfigError {
    pub(crate) fn usage(message: String) -> Self {
        Self { kind: ErrorKind::Usage, message }
    }

    pub(crate) fn config(message: String) -> Self {
        Self { kind: ErrorKind::Config, message }
    }

    fn permission(message: String) -> Self {
        Self { kind: ErrorKind::Permission, message }
    }

    pub(crate) fn io(message: String) -> Self {
        Self { kind: ErrorKind::Io, message }
    }

    /// A file that was needed cannot be opened or read.
    fn open(path: &Path, what: &str, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory => {
                ErrorKind::Config
            }
            _ => ErrorKind::Io,
        };
        Self { kind, message: format!("cannot read the {what} {}: {error}", path.display()) }
    }

    /// A file cannot be made.
    fn create(path: &Path, error: &std::io::Error) -> Self {
        let kind = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            _ => ErrorKind::Create,
        };
        Self { kind, message: format!("cannot make {}: {error}", path.display()) }
    }
}

/// Where settings come from, before anything of it is read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--home` or `BLOCKSYNCD_HOME`.
    pub home: Option<PathBuf>,
    /// `--config` or `BLOCKSYNCD_CONFIG`.
    pub file: Option<PathBuf>,
    /// Of the environment; see [`environment`].
    pub environment: Vec<(String, String)>,
    /// `key=value` pairs of the command line.
    pub assignments: Vec<String>,
}

/// Everything `run` needs to know, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub home: PathBuf,
    pub genesis: Genesis,
    pub p2p: P2p,
    pub api: Api,
    pub store: Store,
    pub budget: Budget,
    pub max_block_bytes: usize,
    pub sync: Sync,
    /// The key that this node signs with, unless its host signs, or nobody here does.
    pub proposer_key: Option<Seed>,
    /// On a node that signs, or whose host does.
    pub guard: Option<PathBuf>,
    pub log: Log,
    pub shutdown_grace: Duration,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<String>,
    /// What it was all made from.
    pub settings: Settings,
}

#[derive(Clone, Debug)]
pub struct P2p {
    pub listen: Vec<String>,
    pub seeds: Vec<String>,
    pub policy: p2p::Policy,
    pub node_key: Seed,
}

#[derive(Clone, Debug)]
pub struct Api {
    pub socket: PathBuf,
    pub allow_uids: Vec<u32>,
    pub max_connections: usize,
}

#[derive(Clone, Debug)]
pub struct Store {
    pub dir: PathBuf,
    pub durability: Durability,
    pub reserve_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct Sync {
    pub on_divergence: Policy,
    pub history: History,
    pub block_time: Duration,
    pub max_clock_drift: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub filter: String,
    pub format: telemetry::Format,
}

/// The variables of this process's environment that are ours.
pub fn environment() -> Result<Vec<(String, String)>, ConfigError> {
    std::env::vars_os()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(settings::ENV_PREFIX.as_bytes()))
        .map(|(name, value)| {
            let shown = name.to_string_lossy().into_owned();
            name.into_string()
                .and_then(|name| Ok((name, value.into_string()?)))
                .map_err(|_| ConfigError::config(format!("the environment's {shown} is not UTF-8")))
        })
        .collect()
}

impl Sources {
    /// The home, and the settings of all layers; nothing but their form is checked.
    pub fn settings(&self) -> Result<(PathBuf, Settings), ConfigError> {
        let beside = || self.file.as_ref().map(|file| file.parent().unwrap_or(Path::new("")).to_owned());
        let home = self.home.clone().or_else(beside).ok_or_else(|| {
            ConfigError::usage("say where the home is, with --home DIR; `blocksyncd init DIR` makes one".into())
        })?;
        let home = std::path::absolute(&home).map_err(|error| ConfigError::open(&home, "home", &error))?;
        match std::fs::metadata(&home) {
            Ok(meta) if meta.is_dir() => {}
            Ok(_) => return Err(ConfigError::config(format!("the home {} is not a directory", home.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let home = home.display();
                return Err(ConfigError::config(format!(
                    "there is no home {home}: make it with `blocksyncd init {home}`"
                )));
            }
            Err(error) => return Err(ConfigError::open(&home, "home", &error)),
        }

        let mut settings = Settings::new();
        let file = self.file.clone().unwrap_or_else(|| home.join(FILE_NAME));
        // A home without the file is one that is configured by its environment.
        if self.file.is_some() || std::fs::exists(&file).unwrap_or(true) {
            settings.file(&file, &read_text(&file, "configuration")?)?;
        }
        settings.environment(self.environment.iter().cloned())?;
        self.assignments.iter().try_for_each(|assignment| settings.assignment(assignment))?;
        Ok((home, settings))
    }
}

impl Config {
    /// Reads and checks everything.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let (home, settings) = sources.settings()?;
        let max_block_bytes = block_bytes(&settings)?;
        let budget = budget(&settings, max_block_bytes)?;
        let (proposer_key, guard) = signer(&settings, &home)?;
        let genesis = Genesis::read(&settings.required_path("chain.genesis", &home)?)?;
        let mut config = Self {
            log: log(&settings)?,
            sync: sync(&settings, &genesis, max_block_bytes)?,
            shutdown_grace: duration_within(&settings, "shutdown_grace", Duration::ZERO, Duration::from_mins(10))?,
            max_block_bytes,
            p2p: p2p(&settings, &home, &genesis.chain_id, &budget.p2p)?,
            genesis,
            budget,
            api: api(&settings, &home)?,
            store: store(&settings, &home)?,
            proposer_key,
            guard,
            warnings: Vec::new(),
            home,
            settings,
        };
        config.warnings = config.find_warnings();
        Ok(config)
    }

    fn find_warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.p2p.seeds.is_empty() && self.p2p.policy.persistent.is_empty() {
            warnings.push("p2p.seeds is empty: waiting for peers that dial us".to_owned());
        }
        if let Some(key) = &self.proposer_key {
            let public = key.public();
            if !self.genesis.schedule.entries().any(|entry| entry.proposer == public) {
                warnings.push(format!(
                    "signer.key has the public key {public}, which proposes at no height of the genesis file: \
                     this node cannot publish unless the schedule was extended with it"
                ));
            }
        }
        warnings
    }

    /// What `--check-config` prints: the effective settings, as a file, and where the memory goes, as comments.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut out = format!(
            "# Effective settings of {}\n# chain {}, from height {}, {} proposer(s)\n",
            self.home.display(),
            self.genesis.chain_id,
            self.genesis.initial_height,
            self.genesis.schedule.entries().len()
        );
        let _ = write!(out, "# peer id {}\n\n", p2p::peer_id_of(self.p2p.node_key.secret()));
        out.push_str(&self.settings.to_toml());
        out.push_str("\n# Memory at worst, from limits.memory_bytes\n");
        for line in self.budget.table().lines() {
            let _ = writeln!(out, "# {line}");
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "# warning: {warning}");
        }
        out
    }
}

/// The logging alone, which is all that a SIGHUP reads again.
pub fn log(settings: &Settings) -> Result<Log, ConfigError> {
    let filter = settings.text_of("log.filter")?.unwrap_or("info").to_owned();
    telemetry::check_filter(&filter).map_err(|why| settings.refuse("log.filter", why))?;
    let format = match settings.choice("log.format")? {
        "text" => telemetry::Format::Text,
        "json" => telemetry::Format::Json,
        _ => telemetry::Format::Auto,
    };
    Ok(Log { filter, format })
}

/// Where a host, or `ctl`, finds the socket.
pub fn socket(settings: &Settings, home: &Path) -> Result<PathBuf, ConfigError> {
    let socket = settings.required_path("api.socket", home)?;
    let len = socket.as_os_str().len();
    if len > MAX_SOCKET_PATH_BYTES {
        return Err(settings.refuse(
            "api.socket",
            format_args!(
                "the path {} has {len} bytes, and the system allows {MAX_SOCKET_PATH_BYTES}: choose a shorter one",
                socket.display()
            ),
        ));
    }
    Ok(socket)
}

fn block_bytes(settings: &Settings) -> Result<usize, ConfigError> {
    const KEY: &str = "limits.max_block_bytes";
    let (least, most) = (2 * native::MAX_OVERHEAD_BYTES as u64, 1 << 30);
    let bytes = settings.bytes(KEY)?.unwrap_or(0);
    match usize::try_from(bytes) {
        Ok(size) if (least..=most).contains(&bytes) => Ok(size),
        _ => Err(settings.refuse(KEY, format_args!("{bytes} is not between {least} and {most}"))),
    }
}

fn budget(settings: &Settings, max_block_bytes: usize) -> Result<Budget, ConfigError> {
    const KEY: &str = "limits.memory_bytes";
    let memory = saturate::to_usize(settings.bytes(KEY)?.unwrap_or(0));
    let cache = settings.bytes("store.cache_bytes")?.map(saturate::to_usize);
    let wanted = Wanted { memory, cache, max_block: max_block_bytes, max_connections: max_connections(settings)? };
    Budget::share_out(wanted)
        .map_err(|why| settings.refuse(KEY, format_args!("{} is too small: {why}", units::show_bytes(memory))))
}

fn p2p(settings: &Settings, home: &Path, chain: &ChainId, limits: &p2p::Limits) -> Result<P2p, ConfigError> {
    let listen = settings.list("p2p.listen")?;
    for address in listen {
        p2p::check_listen_address(address).map_err(|why| settings.refuse("p2p.listen", why))?;
    }
    let seeds = settings.list("p2p.seeds")?;
    for address in seeds {
        p2p::check_seed_address(address).map_err(|why| settings.refuse("p2p.seeds", why))?;
    }
    let policy = policy(settings, chain)?;
    policy.check(limits, seeds).map_err(|error| settings.refuse(error.setting, error.why))?;
    if listen.is_empty() && seeds.is_empty() && policy.persistent.is_empty() {
        return Err(settings.refuse("p2p.listen", "it is empty, as p2p.seeds is: this node could never meet a peer"));
    }
    let node_key = keys::read(&settings.required_path("p2p.node_key", home)?, "node key")?;
    Ok(P2p { listen: listen.to_vec(), seeds: seeds.to_vec(), policy, node_key })
}

/// Who may be a peer; what it says is checked by the network's own rules.
fn policy(settings: &Settings, chain: &ChainId) -> Result<p2p::Policy, ConfigError> {
    let number = |key| settings.integer(key).map(saturate::to_usize);
    let bytes = |key| Ok::<_, ConfigError>(settings.bytes(key)?.unwrap_or(0));
    let optional = |key| Ok::<_, ConfigError>(settings.optional_integer(key)?.map(saturate::to_usize));
    let private = settings.choice("p2p.mode")? == "private";
    let discovers = settings.choice("p2p.discovery")? == "on" && !private;
    Ok(p2p::Policy {
        persistent: settings.list("p2p.persistent")?.to_vec(),
        private,
        allow: settings.list("p2p.allow")?.to_vec(),
        deny: settings.list("p2p.deny")?.to_vec(),
        max_inbound: optional("p2p.max_inbound")?,
        max_outbound: optional("p2p.max_outbound")?,
        max_pending: number("p2p.max_pending")?,
        max_per_peer: number("p2p.max_per_peer")?,
        max_per_ip: number("p2p.max_per_ip")?,
        max_per_subnet: number("p2p.max_per_subnet")?,
        min_outbound: number("p2p.min_outbound")?,
        announce: settings.list("p2p.announce")?.to_vec(),
        // As ev-node's nodes: the chain's id is the namespace.
        rendezvous: discovers.then(|| chain.to_string()),
        serve_rate: bytes("p2p.serve_rate")?,
        serve_burst: bytes("p2p.serve_burst")?,
        serve_min_rate: bytes("p2p.serve_min_rate")?,
    })
}

fn api(settings: &Settings, home: &Path) -> Result<Api, ConfigError> {
    let socket = socket(settings, home)?;
    check_writable(socket.parent().unwrap_or(home))
        .map_err(|why| ConfigError::permission(format!("`api.socket` ({}): {why}", settings.source("api.socket"))))?;
    Ok(Api { socket, allow_uids: settings.numbers("api.allow_uids")?, max_connections: max_connections(settings)? })
}

fn max_connections(settings: &Settings) -> Result<usize, ConfigError> {
    const KEY: &str = "api.max_connections";
    match usize::try_from(settings.integer(KEY)?) {
        Ok(number) if (1..=1024).contains(&number) => Ok(number),
        _ => Err(settings.refuse(KEY, "it must be between 1 and 1024")),
    }
}

fn store(settings: &Settings, home: &Path) -> Result<Store, ConfigError> {
    let dir = settings.required_path("store.dir", home)?;
    if std::fs::metadata(&dir).is_ok_and(|meta| !meta.is_dir()) {
        return Err(settings.refuse("store.dir", format_args!("{} is not a directory", dir.display())));
    }
    check_writable(&dir)
        .map_err(|why| ConfigError::permission(format!("`store.dir` ({}): {why}", settings.source("store.dir"))))?;
    let durability = match settings.choice("store.durability")? {
        "process" => Durability::Process,
        _ => Durability::Power,
    };
    Ok(Store { dir, durability, reserve_bytes: settings.bytes("store.reserve_bytes")?.unwrap_or(0) })
}

fn sync(settings: &Settings, genesis: &Genesis, max_block_bytes: usize) -> Result<Sync, ConfigError> {
    let on_divergence = match settings.choice("sync.on_divergence")? {
        "halt" => Policy::Halt,
        _ => Policy::FollowDa,
    };
    let hour = Duration::from_hours(1);
    Ok(Sync {
        on_divergence,
        history: history(settings, genesis, max_block_bytes)?,
        block_time: duration_within(settings, "sync.block_time", Duration::from_millis(1), hour)?,
        max_clock_drift: duration_within(settings, "sync.max_clock_drift", Duration::ZERO, hour)?,
    })
}

/// What is kept, and where it begins.
fn history(settings: &Settings, genesis: &Genesis, max_block_bytes: usize) -> Result<History, ConfigError> {
    let retain_blocks = settings.optional_integer("store.retain_blocks")?.map(|blocks| {
        let refusal = "at least one block is kept: what comes next links to it (unset: all are)";
        NonZeroU64::new(blocks).ok_or_else(|| settings.refuse("store.retain_blocks", refusal))
    });
    let least = saturate::to_u64(max_block_bytes).saturating_mul(2);
    let max_bytes = settings.bytes("store.max_bytes")?.map(|bytes| {
        let enough = NonZeroU64::new(bytes).filter(|bytes| bytes.get() >= least);
        let refusal = || format!("{bytes} has no room for two blocks of limits.max_block_bytes");
        enough.ok_or_else(|| settings.refuse("store.max_bytes", refusal()))
    });
    let history = History {
        retain_blocks: retain_blocks.transpose()?,
        max_bytes: max_bytes.transpose()?,
        prune_unconfirmed: settings.choice("store.prune_unconfirmed")? == "on",
        trusted: trusted(settings, genesis)?,
        backfill: settings.choice("sync.backfill")? == "on",
    };
    if history.prune_unconfirmed && !history.prunes() {
        let why = "nothing is pruned unless store.retain_blocks or store.max_bytes says how much is kept";
        return Err(settings.refuse("store.prune_unconfirmed", why));
    }
    if history.backfill && history.prunes() {
        let why =
            "what it fetches would be pruned again: unset store.retain_blocks and store.max_bytes, or turn it off";
        return Err(settings.refuse("sync.backfill", why));
    }
    Ok(history)
}

/// The block that an empty store begins with, unless it begins at genesis.
fn trusted(settings: &Settings, genesis: &Genesis) -> Result<Option<BlockId>, ConfigError> {
    const KEY: &str = "sync.from";
    let text = settings.text_of(KEY)?.unwrap_or("genesis");
    if text == "genesis" {
        return Ok(None);
    }
    let wrong = || settings.refuse(KEY, format_args!("{text:?} is neither `genesis` nor HEIGHT/HASH, the hash in hex"));
    let trusted = BlockId::from_text(text).ok_or_else(wrong)?;
    let first = genesis.initial_height;
    if trusted.height < first {
        return Err(settings.refuse(KEY, format_args!("the chain begins at height {first}, above {}", trusted.height)));
    }
    Ok(Some(trusted))
}

/// The proposer key, if it is here, and the guard. A guard without a key is that of a node whose host signs.
fn signer(settings: &Settings, home: &Path) -> Result<(Option<Seed>, Option<PathBuf>), ConfigError> {
    let guard = settings.path("signer.guard", home)?;
    match settings.path("signer.key", home)? {
        None => Ok((None, guard)),
        Some(path) => {
            let key = keys::read(&path, "proposer key")?;
            let guard = guard.unwrap_or_else(|| guard_beside(&path));
            if keys::is_credential(&guard) {
                return Err(settings.refuse(
                    "signer.guard",
                    "systemd takes its directory of credentials away when the service ends: set it to a file that stays",
                ));
            }
            Ok((Some(key), Some(guard)))
        }
    }
}

/// Where the guard of a proposer key is, unless it is set.
#[must_use]
pub fn guard_beside(key: &Path) -> PathBuf {
    let mut path = key.as_os_str().to_owned();
    path.push(".guard");
    path.into()
}

fn duration_within(
    settings: &Settings,
    key: &'static str,
    least: Duration,
    most: Duration,
) -> Result<Duration, ConfigError> {
    let duration = settings.duration(key)?;
    if (least..=most).contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
    Err(settings.refuse(key, format_args!("it must be between {least} and {most}")))
}

/// Whether `path` can be made, or written into: looks at it, or at the nearest directory above it that is there.
fn check_writable(path: &Path) -> Result<(), String> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let Some(there) = path.ancestors().find(|path| std::fs::exists(path).unwrap_or(true)) else { return Ok(()) };
    accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(|error| {
        let us = rustix::process::geteuid().as_raw();
        format!("user {us} cannot write into {}: {error}", there.display())
    })
}

/// Reads a whole file of UTF-8, of at most 1 MiB.
fn read_text(path: &Path, what: &str) -> Result<String, ConfigError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| ConfigError::open(path, what, &error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ConfigError::config(format!("the {what} {} is larger than 1 MiB", path.display())));
    }
    String::from_utf8(bytes).map_err(|_| ConfigError::config(format!("the {what} {} is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_of(assignments: &[&str]) -> p2p::Policy {
        let mut settings = Settings::new();
        for assignment in assignments {
            settings.assignment(assignment).expect("a setting");
        }
        policy(&settings, &ChainId::new("chain").expect("a name")).expect("sound")
    }

    #[test]
    fn the_network_has_the_same_defaults_by_itself() {
        assert_eq!(policy_of(&["p2p.discovery=off"]), p2p::Policy::default());
    }

    #[test]
    fn peers_meet_at_the_chains_id_unless_they_are_told_not_to() {
        assert_eq!(policy_of(&[]).rendezvous.as_deref(), Some("chain"));
        for assignment in ["p2p.discovery=off", "p2p.mode=private"] {
            assert_eq!(policy_of(&[assignment]).rendezvous, None, "{assignment}");
        }
    }
}
