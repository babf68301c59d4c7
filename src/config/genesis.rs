//! The genesis file: which chain this is. TOML; everything in it is required, and nothing else is allowed.
//!
//! ```toml
//! chain_id = "my-rollup"
//! initial_height = 1
//!
//! [[proposers]]
//! from_height = 1
//! public_key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
//! ```

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use super::error::ConfigError;
use super::files::read_text;
use super::layers::{line_of, one_line};
use crate::block::{ChainId, Height, PublicKey};
use crate::verify::{Schedule, ScheduleEntry};

/// A chain's fixed points, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    pub chain_id: ChainId,
    pub initial_height: Height,
    pub schedule: Schedule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisFile {
    chain_id: String,
    initial_height: u64,
    #[serde(default)]
    proposers: Vec<Proposer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proposer {
    from_height: u64,
    public_key: String,
}

impl Genesis {
    /// Reads and checks the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &read_text(path, "genesis file")?)
    }

    /// Checks the text of a file; `path` is for the messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let refuse = |why: String| ConfigError::config(format!("the genesis file {}: {why}", path.display()));
        let file: GenesisFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            refuse(format!("line {line}: {}", one_line(error.message())))
        })?;
        let chain_id = ChainId::new(&file.chain_id).ok_or_else(|| {
            refuse(format!(
                "chain_id `{}` must have 1 to {} characters of A-Z a-z 0-9 - _ .",
                file.chain_id.escape_debug(),
                ChainId::MAX_LEN
            ))
        })?;
        let height = |number: u64, what: &str| {
            Height::new(number).ok_or_else(|| refuse(format!("{what} is 0; heights begin at 1")))
        };
        let initial_height = height(file.initial_height, "initial_height")?;
        let mut entries = Vec::with_capacity(file.proposers.len());
        for proposer in &file.proposers {
            let key = PublicKey::from_hex(&proposer.public_key).ok_or_else(|| {
                refuse(format!("public_key `{}` is not 64 hex digits", proposer.public_key.escape_debug()))
            })?;
            entries.push(ScheduleEntry { from: height(proposer.from_height, "from_height")?, proposer: key });
        }
        let schedule = Schedule::new(initial_height, &entries)
            .map_err(|why| refuse(format!("{why}; each of [[proposers]] needs from_height and public_key")))?;
        Ok(Self { chain_id, initial_height, schedule })
    }

    /// As a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = format!(
            "# The chain. All its nodes must have the same file; entries may only be added at its end.\n\
             chain_id = \"{}\"\ninitial_height = {}\n",
            self.chain_id, self.initial_height
        );
        for entry in self.schedule.entries() {
            let _ = write!(
                out,
                "\n# Who signs the blocks, from this height on.\n[[proposers]]\nfrom_height = {}\npublic_key = \"{}\"\n",
                entry.from, entry.proposer
            );
        }
        out
    }
}
