//! The settings that are checked one section of the file at a time: what each part of the program is told.
//!
//! Invariants:
//! 1. A section is only made of values that were checked: against each other, too, and against what the part itself says of
//!    them.
//! 2. Every refusal names the setting, and where its value came from.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::budget::{Budget, BudgetRequest};
use super::error::ConfigError;
use super::files::check_writable;
use super::genesis::{self, Genesis};
use super::keys::{self, KeySeed};
use super::layers::SettingLayers;
use super::units;
use crate::api::{BlockBytes, MAX_SOCKET_PATH_BYTES};
use crate::block::{BlockId, ChainId};
use crate::foreign_file::private::Links;
use crate::p2p;
use crate::store::Durability;
use crate::sync::{History, MAX_DA_HEIGHT, Policy, Trusted};
use crate::telemetry;
use crate::util::saturate;

#[derive(Clone, Debug)]
pub struct P2pSection {
    pub listen: Vec<String>,
    pub seeds: Vec<String>,
    pub policy: p2p::PeerPolicy,
    pub node_key: KeySeed,
}

#[derive(Clone, Debug)]
pub struct ApiSection {
    pub socket: PathBuf,
    pub allow_uids: Vec<u32>,
    pub max_connections: usize,
}

#[derive(Clone, Debug)]
pub struct StoreSection {
    pub dir: PathBuf,
    pub durability: Durability,
    pub reserve_bytes: u64,
}

#[derive(Clone, Debug)]
pub struct SyncSection {
    pub on_divergence: Policy,
    pub history: History,
    pub block_time: Duration,
    pub max_clock_drift: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSection {
    pub filter: String,
    pub format: telemetry::LogFormat,
}

/// The logging alone, which is all that a SIGHUP reads again.
pub fn log(settings: &SettingLayers) -> Result<LogSection, ConfigError> {
    let filter = settings.text_of("log.filter")?.unwrap_or("info").to_owned();
    telemetry::check_filter(&filter).map_err(|why| settings.refuse("log.filter", why))?;
    let format = match settings.choice("log.format")? {
        "text" => telemetry::LogFormat::Text,
        "json" => telemetry::LogFormat::Json,
        _ => telemetry::LogFormat::Auto,
    };
    Ok(LogSection { filter, format })
}

/// Where a host, or `ctl`, finds the socket.
pub fn socket(settings: &SettingLayers, home: &Path) -> Result<PathBuf, ConfigError> {
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

/// The largest block that this node takes: the chain's, unless it is set lower.
pub(super) fn block_bytes(settings: &SettingLayers, genesis: &Genesis) -> Result<usize, ConfigError> {
    const KEY: &str = "limits.max_block_bytes";
    let Some(bytes) = settings.bytes(KEY)? else { return Ok(genesis.max_block_bytes) };
    let size = genesis::check_block_bytes(bytes).map_err(|why| settings.refuse(KEY, why))?;
    if size > genesis.max_block_bytes {
        let why = format_args!(
            "{} is more than the {} of the chain's largest block, which its genesis file says for all nodes (max_block_bytes; \
             without it, 8 MiB): a node can only take less",
            units::show_bytes(size),
            units::show_bytes(genesis.max_block_bytes)
        );
        return Err(settings.refuse(KEY, why));
    }
    Ok(size)
}

pub(super) fn budget(settings: &SettingLayers, blocks: BlockBytes) -> Result<Budget, ConfigError> {
    const KEY: &str = "limits.memory_bytes";
    let memory = saturate::to_usize(settings.bytes(KEY)?.unwrap_or(0));
    let cache = settings.bytes("store.cache_bytes")?.map(saturate::to_usize);
    let wanted = BudgetRequest { memory, cache, blocks, max_connections: max_connections(settings)? };
    Budget::share_out(wanted)
        .map_err(|why| settings.refuse(KEY, format_args!("{} is too small: {why}", units::show_bytes(memory))))
}

pub(super) fn p2p(
    settings: &SettingLayers,
    home: &Path,
    chain: &ChainId,
    limits: &p2p::Limits,
) -> Result<P2pSection, ConfigError> {
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
    let node_key = keys::read(&settings.required_path("p2p.node_key", home)?, "node key", Links::Refused)?;
    Ok(P2pSection { listen: listen.to_vec(), seeds: seeds.to_vec(), policy, node_key })
}

/// Who may be a peer; what it says is checked by the network's own rules.
fn policy(settings: &SettingLayers, chain: &ChainId) -> Result<p2p::PeerPolicy, ConfigError> {
    let number = |key| settings.integer(key).map(saturate::to_usize);
    let bytes = |key| Ok::<_, ConfigError>(settings.bytes(key)?.unwrap_or(0));
    let optional = |key| Ok::<_, ConfigError>(settings.optional_integer(key)?.map(saturate::to_usize));
    let private = settings.choice("p2p.mode")? == "private";
    let discovers = settings.choice("p2p.discovery")? == "on" && !private;
    Ok(p2p::PeerPolicy {
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

pub(super) fn api(settings: &SettingLayers, home: &Path) -> Result<ApiSection, ConfigError> {
    let socket = socket(settings, home)?;
    check_writable(socket.parent().unwrap_or(home))
        .map_err(|why| ConfigError::permission(format!("`api.socket` ({}): {why}", settings.source("api.socket"))))?;
    Ok(ApiSection {
        socket,
        allow_uids: settings.numbers("api.allow_uids")?,
        max_connections: max_connections(settings)?,
    })
}

fn max_connections(settings: &SettingLayers) -> Result<usize, ConfigError> {
    const KEY: &str = "api.max_connections";
    match usize::try_from(settings.integer(KEY)?) {
        Ok(number) if (1..=1024).contains(&number) => Ok(number),
        _ => Err(settings.refuse(KEY, "it must be between 1 and 1024")),
    }
}

pub(super) fn store(settings: &SettingLayers, home: &Path) -> Result<StoreSection, ConfigError> {
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
    Ok(StoreSection { dir, durability, reserve_bytes: settings.bytes("store.reserve_bytes")?.unwrap_or(0) })
}

pub(super) fn sync(
    settings: &SettingLayers,
    genesis: &Genesis,
    max_block_bytes: usize,
) -> Result<SyncSection, ConfigError> {
    let on_divergence = match settings.choice("sync.on_divergence")? {
        "halt" => Policy::Halt,
        _ => Policy::FollowDa,
    };
    let hour = Duration::from_hours(1);
    Ok(SyncSection {
        on_divergence,
        history: history(settings, genesis, max_block_bytes)?,
        block_time: duration_within(settings, "sync.block_time", Duration::from_millis(1), hour)?,
        max_clock_drift: duration_within(settings, "sync.max_clock_drift", Duration::ZERO, hour)?,
    })
}

/// What is kept, and where it begins.
fn history(settings: &SettingLayers, genesis: &Genesis, max_block_bytes: usize) -> Result<History, ConfigError> {
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
fn trusted(settings: &SettingLayers, genesis: &Genesis) -> Result<Option<Trusted>, ConfigError> {
    const KEY: &str = "sync.from";
    let text = settings.text_of(KEY)?.unwrap_or("genesis");
    if text == "genesis" {
        return Ok(None);
    }
    let wrong = || {
        let why = format_args!("{text:?} is neither `genesis`, nor HEIGHT/HASH@DA, nor HEIGHT/HASH, the hash in hex");
        settings.refuse(KEY, why)
    };
    let (id, da) = match text.split_once('@') {
        None => (text, None),
        Some((id, da)) => (id, Some(da.parse().map_err(|_| wrong())?)),
    };
    let id = BlockId::from_text(id).ok_or_else(wrong)?;
    let first = genesis.initial_height;
    if id.height < first {
        return Err(settings.refuse(KEY, format_args!("the chain begins at height {first}, above {}", id.height)));
    }
    if let Some(da) = da.filter(|da| *da >= MAX_DA_HEIGHT) {
        return Err(settings.refuse(KEY, format_args!("DA heights are below {MAX_DA_HEIGHT}, and not {da}")));
    }
    Ok(Some(Trusted { id, da }))
}

/// The proposer key, if it is here, and the guard. A guard without a key is that of a node whose host signs.
pub(super) fn signer(settings: &SettingLayers, home: &Path) -> Result<(Option<KeySeed>, Option<PathBuf>), ConfigError> {
    let guard = settings.path("signer.guard", home)?;
    match settings.path("signer.key", home)? {
        None => Ok((None, guard)),
        Some(path) => {
            let key = read_proposer_key(settings, &path)?;
            if guard.is_none() && path.is_symlink() {
                let why =
                    "who makes the key a link may exchange the directory that it is in: set it to a file that stays";
                return Err(settings.refuse("signer.guard", why));
            }
            let guard = guard.unwrap_or_else(|| guard_beside(&path));
            if keys::is_credential(&guard) {
                let why = "systemd takes its directory of credentials away when the service ends: set it to a file that stays";
                return Err(settings.refuse("signer.guard", why));
            }
            Ok((Some(key), Some(guard)))
        }
    }
}

fn read_proposer_key(settings: &SettingLayers, path: &Path) -> Result<KeySeed, ConfigError> {
    const MAY_BE_LINK: &str = "signer.key_may_be_link";
    let links = if settings.choice(MAY_BE_LINK)? == "on" { Links::Followed } else { Links::Refused };
    if links == Links::Refused && path.is_symlink() {
        let shown = path.display();
        return Err(ConfigError::config(format!(
            "the proposer key {shown} is a symbolic link: name the file itself, or set {MAY_BE_LINK} to on"
        )));
    }
    keys::read(path, "proposer key", links)
}

/// Where the guard of a proposer key is, unless it is set.
#[must_use]
pub fn guard_beside(key: &Path) -> PathBuf {
    let mut path = key.as_os_str().to_owned();
    path.push(".guard");
    path.into()
}

pub(super) fn shutdown_grace(settings: &SettingLayers) -> Result<Duration, ConfigError> {
    duration_within(settings, "shutdown_grace", Duration::ZERO, Duration::from_mins(10))
}

fn duration_within(
    settings: &SettingLayers,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn policy_of(assignments: &[&str]) -> p2p::PeerPolicy {
        let mut settings = SettingLayers::new();
        for assignment in assignments {
            settings.assignment(assignment).expect("a setting");
        }
        policy(&settings, &ChainId::new("chain").expect("a name")).expect("sound")
    }

    #[test]
    fn the_network_has_the_same_defaults_by_itself() {
        assert_eq!(policy_of(&["p2p.discovery=off"]), p2p::PeerPolicy::default());
    }

    #[test]
    fn peers_meet_at_the_chains_id_unless_they_are_told_not_to() {
        assert_eq!(policy_of(&[]).rendezvous.as_deref(), Some("chain"));
        for assignment in ["p2p.discovery=off", "p2p.mode=private"] {
            assert_eq!(policy_of(&[assignment]).rendezvous, None, "{assignment}");
        }
    }
}
