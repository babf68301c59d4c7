//! The genesis file: which chain this is, and the rules that all its nodes share. TOML; nothing else is allowed in it.
//!
//! ```toml
//! chain_id = "my-rollup"
//! initial_height = 1
//! max_block_bytes = 8388608        # without it: 8 MiB
//!
//! [da]                             # without it: as here
//! evidence = "block"
//!
//! [[proposers]]
//! from_height = 1
//! public_key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
//! ```
//!
//! Invariant: what the file leaves out has one meaning for ever, since nodes that read the same file must judge alike.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;

use super::error::ConfigError;
use super::files::read_text;
use super::layers::{line_of, one_line};
use super::units::parse_bytes;
use crate::block::{ChainId, Height, PublicKey, native};
use crate::sync::DaEvidence;
use crate::verify::{Schedule, ScheduleEntry};

/// The largest block of a chain whose genesis file says nothing of it.
pub const DEFAULT_BLOCK_BYTES: usize = 8 << 20;
/// What a chain may choose: room for a block's own fields, and no more than a message of the network can be.
pub const BLOCK_BYTES: RangeInclusive<usize> = 2 * native::MAX_OVERHEAD_BYTES..=1 << 30;

/// A chain's fixed points, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    pub chain_id: ChainId,
    pub initial_height: Height,
    /// Of a block, encoded and signed. A node may take only smaller ones, and then it stops where there is a larger one.
    pub max_block_bytes: usize,
    pub da_evidence: DaEvidence,
    pub schedule: Schedule,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenesisFile {
    chain_id: String,
    initial_height: u64,
    max_block_bytes: Option<u64>,
    #[serde(default)]
    da: DaTable,
    #[serde(default)]
    proposers: Vec<Proposer>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DaTable {
    evidence: Option<String>,
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
        let max_block_bytes = file.max_block_bytes.map_or(Ok(DEFAULT_BLOCK_BYTES), |bytes| {
            check_block_bytes(bytes).map_err(|why| refuse(format!("max_block_bytes: {why}")))
        })?;
        let da_evidence = file.da.evidence.map_or(Ok(DaEvidence::default()), |word| {
            evidence_from_name(&word).map_err(|why| refuse(format!("da.evidence: {why}")))
        })?;
        let mut entries = Vec::with_capacity(file.proposers.len());
        for proposer in &file.proposers {
            let key = PublicKey::from_hex(&proposer.public_key).ok_or_else(|| {
                refuse(format!("public_key `{}` is not 64 hex digits", proposer.public_key.escape_debug()))
            })?;
            entries.push(ScheduleEntry { from: height(proposer.from_height, "from_height")?, proposer: key });
        }
        let schedule = Schedule::new(initial_height, &entries)
            .map_err(|why| refuse(format!("{why}; each of [[proposers]] needs from_height and public_key")))?;
        Ok(Self { chain_id, initial_height, max_block_bytes, da_evidence, schedule })
    }

    /// As a file.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = format!(
            "# The chain. All its nodes must have the same file; entries may only be added at its end.\n\
             chain_id = \"{}\"\n\
             initial_height = {}\n\
             \n\
             # The largest block, encoded and signed. A node's limits.max_block_bytes can only be lower.\n\
             max_block_bytes = {}\n\
             \n\
             # What decides on DA: `block`, only the bytes of the chain's own signed blocks; `named`, what each node's host\n\
             # says that another encoding there stands for, of a chain that does not post its blocks as they are.\n\
             [da]\n\
             evidence = \"{}\"\n",
            self.chain_id,
            self.initial_height,
            self.max_block_bytes,
            self.da_evidence.name(),
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

/// What no chain can choose.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChoice {
    #[error("{0} is not between {start} and {end}", start = BLOCK_BYTES.start(), end = BLOCK_BYTES.end())]
    BlockBytes(u64),
    #[error("it must be a number of bytes, as 1048576 or 8MiB")]
    NoBytes,
    /// Escaped already.
    #[error("`{0}` is neither `block` nor `named`")]
    Evidence(String),
}

/// A block size that a chain, or a node, may choose.
pub fn check_block_bytes(bytes: u64) -> Result<usize, BadChoice> {
    let size = usize::try_from(bytes).ok().filter(|size| BLOCK_BYTES.contains(size));
    size.ok_or(BadChoice::BlockBytes(bytes))
}

/// As a person writes it: `8MiB`.
pub fn block_bytes_from_text(text: &str) -> Result<usize, BadChoice> {
    check_block_bytes(parse_bytes(text).ok_or(BadChoice::NoBytes)?)
}

pub fn evidence_from_name(word: &str) -> Result<DaEvidence, BadChoice> {
    [DaEvidence::Block, DaEvidence::Named]
        .into_iter()
        .find(|evidence| evidence.name() == word)
        .ok_or_else(|| BadChoice::Evidence(word.escape_debug().to_string()))
}
