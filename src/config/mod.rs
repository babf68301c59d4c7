//! Settings: file, environment and command line become one checked [`Config`].
//!
//! Invariants:
//! 1. Everything is checked before anything is opened: a [`Config`] names a chain with a proposer, sound keys that nobody
//!    else can read, addresses that can be dialled, and a budget in which every queue holds a block.
//! 2. Whatever is wrong is said in one sentence: what, where it was set, what to do.
//! 3. Nothing is written here but by [`keys::create_file`], for `init`.

mod budget;
mod error;
mod files;
pub mod genesis;
pub mod keys;
mod layers;
mod sections;
pub mod settings;
pub mod units;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use budget::{Budget, BudgetRequest};
pub use error::{ConfigError, ConfigErrorKind};
pub use genesis::Genesis;
pub use keys::KeySeed;
pub use layers::SettingLayers;
pub use sections::{ApiSection, LogSection, P2pSection, StoreSection, SyncSection, guard_beside, log, socket};

use crate::api::BlockBytes;
use crate::p2p;
use files::read_text;

/// The name of the settings file in a home.
pub const FILE_NAME: &str = "config.toml";

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
    pub p2p: P2pSection,
    pub api: ApiSection,
    pub store: StoreSection,
    pub budget: Budget,
    pub blocks: BlockBytes,
    pub sync: SyncSection,
    /// The key that this node signs with, unless its host signs, or nobody here does.
    pub proposer_key: Option<KeySeed>,
    /// On a node that signs, or whose host does.
    pub guard: Option<PathBuf>,
    pub log: LogSection,
    pub shutdown_grace: Duration,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<String>,
    /// What it was all made from.
    pub settings: SettingLayers,
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
    pub fn settings(&self) -> Result<(PathBuf, SettingLayers), ConfigError> {
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

        let mut settings = SettingLayers::new();
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
        let genesis = Genesis::read(&settings.required_path("chain.genesis", &home)?)?;
        let max_block_bytes = sections::block_bytes(&settings, &genesis)?;
        let blocks = BlockBytes { taken: max_block_bytes, of_chain: genesis.max_block_bytes };
        let budget = sections::budget(&settings, blocks)?;
        let (proposer_key, guard) = sections::signer(&settings, &home)?;
        let p2p = sections::p2p(&settings, &home, &genesis.chain_id, &budget.p2p)?;
        if proposer_key.as_ref().is_some_and(|key| key.public() == p2p.node_key.public()) {
            return Err(settings.refuse(
                "p2p.node_key",
                "it is the proposer's key, too, which nobody else is to see: make another one",
            ));
        }
        let mut config = Self {
            log: log(&settings)?,
            sync: sections::sync(&settings, &genesis, max_block_bytes)?,
            shutdown_grace: sections::shutdown_grace(&settings)?,
            blocks,
            p2p,
            genesis,
            budget,
            api: sections::api(&settings, &home)?,
            store: sections::store(&settings, &home)?,
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
        if self.guard.is_some() && self.blocks.taken < self.blocks.of_chain {
            let largest = units::show_bytes(self.blocks.of_chain);
            warnings.push(format!(
                "limits.max_block_bytes is below the chain's {largest}: a node that signs is to wait for every block of its key, and \
                 cannot even read a larger one: leave it unset"
            ));
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
            "# Effective settings of {}\n# chain {}, from height {}, {} proposer(s), blocks of at most {}, DA evidence `{}`\n",
            self.home.display(),
            self.genesis.chain_id,
            self.genesis.initial_height,
            self.genesis.schedule.entries().len(),
            units::show_bytes(self.genesis.max_block_bytes),
            self.genesis.da_evidence.name(),
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
