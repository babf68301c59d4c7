//! `init`: makes a home, from which `run` can start.
//!
//! Invariants:
//! 1. Nothing is overwritten: when anything that is to be made is there already, nothing is made.
//! 2. The settings file is made last, so a home that has one is complete.
//! 3. A guard is made only together with a new chain: on one that is there, a key may have signed.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::print::print;
use super::{Code, Failure};
use crate::block::{ChainId, Height, PublicKey};
use crate::config::genesis::{block_bytes_from_text, evidence_from_name};
use crate::config::{self, Genesis, KeySeed, keys, settings};
use crate::p2p;
use crate::store;
use crate::sync::DaEvidence;
use crate::verify::{Schedule, ScheduleEntry};

const NODE_KEY: &str = "node.key";
const PROPOSER_KEY: &str = "proposer.key";
const HOST_GUARD: &str = "signer.guard";
const GENESIS: &str = "genesis.toml";

/// Makes a home: a commented config.toml, node.key, genesis.toml and, for a sequencer, proposer.key with its guard.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The directory to make (0700)
    home: PathBuf,
    /// The new chain's id: 1 to 64 of A-Z a-z 0-9 - _ .
    #[arg(long, value_name = "ID", required_unless_present = "genesis", conflicts_with = "genesis")]
    chain_id: Option<String>,
    /// The height of the new chain's first block
    #[arg(long, value_name = "HEIGHT", default_value_t = 1, conflicts_with = "genesis")]
    initial_height: u64,
    /// This node signs: make the proposer's key and put it into the genesis file
    #[arg(long, conflicts_with_all = ["proposer", "genesis"])]
    sequencer: bool,
    /// The proposer's public key: 64 hex digits
    #[arg(long, value_name = "HEX", conflicts_with = "genesis")]
    proposer: Option<String>,
    /// The proposer's key stays with this node's host, which signs: make the guard that it needs here
    #[arg(long, requires = "proposer", conflicts_with = "genesis")]
    host_signs: bool,
    /// The new chain's largest block, encoded and signed, as 1MiB
    #[arg(long, value_name = "BYTES", default_value = "8MiB", value_parser = block_bytes_from_text, conflicts_with = "genesis")]
    max_block_bytes: usize,
    /// What decides on the new chain's DA: `block`, its signed blocks as they are; `named`, what each node's host says that
    /// another encoding there stands for
    #[arg(long, value_name = "block|named", default_value = "block", value_parser = evidence_from_name, conflicts_with = "genesis")]
    da_evidence: DaEvidence,
    /// Copy this genesis file instead of making one
    #[arg(long, value_name = "FILE")]
    genesis: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// What was made.
struct Made {
    home: PathBuf,
    genesis: Genesis,
    peer_id: String,
    proposer: Option<PublicKey>,
    files: Vec<PathBuf>,
    /// Nobody has its genesis file yet.
    is_new_chain: bool,
}

pub fn run(args: &InitArgs) -> Result<(), Failure> {
    let made = make(args)?;
    if args.json { print_json(&made) } else { print_text(&made) }
}

fn make(args: &InitArgs) -> Result<Made, Failure> {
    let home = std::path::absolute(&args.home)
        .map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", args.home.display())))?;
    let proposer = if args.sequencer { Some(KeySeed::generate()?) } else { None };
    let genesis = genesis(args, proposer.as_ref().map(KeySeed::public))?;
    let node_key = KeySeed::generate()?;

    let guard = match (&proposer, args.host_signs) {
        (Some(_), _) => Some(config::guard_beside(&home.join(PROPOSER_KEY))),
        (None, true) => Some(home.join(HOST_GUARD)),
        (None, false) => None,
    };
    let mut files = vec![home.join(NODE_KEY), home.join(GENESIS)];
    files.extend(proposer.as_ref().map(|_| home.join(PROPOSER_KEY)));
    files.extend(guard.clone());
    files.push(home.join(config::FILE_NAME));
    if let Some(there) = files.iter().find(|file| std::fs::symlink_metadata(file).is_ok()) {
        let message = format!("{} is there already, and nothing is overwritten: choose another home", there.display());
        return Err(Failure::new(Code::CannotCreate, message));
    }

    make_home(&home)?;
    keys::create(&home.join(NODE_KEY), &node_key)?;
    keys::create_file(&home.join(GENESIS), genesis.to_toml().as_bytes(), 0o644)?;
    if let Some(seed) = &proposer {
        keys::create(&home.join(PROPOSER_KEY), seed)?;
    }
    if let Some(guard) = &guard {
        create_guard(guard, &genesis)?;
    }
    let signer = match (&proposer, &guard) {
        (Some(_), _) => Some(("signer.key", PROPOSER_KEY.to_owned())),
        (None, Some(_)) => Some(("signer.guard", HOST_GUARD.to_owned())),
        (None, None) => None,
    };
    let settings = settings::commented_file(signer.as_slice());
    keys::create_file(&home.join(config::FILE_NAME), settings.as_bytes(), 0o644)?;

    let peer_id = p2p::peer_id_of(node_key.secret());
    let proposer = proposer.map(|seed| seed.public());
    Ok(Made { home, genesis, peer_id, proposer, files, is_new_chain: args.genesis.is_none() })
}

fn genesis(args: &InitArgs, sequencer: Option<PublicKey>) -> Result<Genesis, Failure> {
    if let Some(file) = &args.genesis {
        return Ok(Genesis::read(file)?);
    }
    let usage = |message: String| Failure::new(Code::Usage, message);
    let chain_id = args.chain_id.as_deref().unwrap_or_default();
    let chain_id = ChainId::new(chain_id).ok_or_else(|| {
        usage(format!("--chain-id `{}` must have 1 to 64 characters of A-Z a-z 0-9 - _ .", chain_id.escape_debug()))
    })?;
    let initial_height =
        Height::new(args.initial_height).ok_or_else(|| usage("--initial-height begins at 1".into()))?;
    let given = |text: &String| {
        PublicKey::from_hex(text)
            .ok_or_else(|| usage(format!("--proposer `{}` is not a public key of 64 hex digits", text.escape_debug())))
    };
    let proposer = match (sequencer, &args.proposer) {
        (Some(key), _) => key,
        (None, Some(text)) => given(text)?,
        (None, None) => {
            return Err(usage(
                "say who proposes: --sequencer when this node signs, --proposer HEX when another does, or --genesis FILE \
                 to join a chain that is there"
                    .into(),
            ));
        }
    };
    let schedule = Schedule::new(initial_height, &[ScheduleEntry { from: initial_height, proposer }])
        .map_err(|why| usage(format!("--proposer: {why}")))?;
    Ok(Genesis {
        chain_id,
        initial_height,
        max_block_bytes: args.max_block_bytes,
        da_evidence: args.da_evidence,
        schedule,
    })
}

fn make_home(home: &Path) -> Result<(), Failure> {
    if home.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(home).map_err(|error| {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => Code::Permission,
            _ => Code::CannotCreate,
        };
        Failure::new(code, format!("cannot make {}: {error}", home.display()))
    })
}

/// The memory of what the key has signed: nothing yet, because the chain is new.
fn create_guard(path: &Path, genesis: &Genesis) -> Result<(), Failure> {
    store::guard::create_unused(path, &genesis.chain_id)
        .map_err(|error| Failure::new(Code::CannotCreate, format!("cannot make the guard: {error}")))
}

fn print_json(made: &Made) -> Result<(), Failure> {
    let answer = json!({
        "home": made.home,
        "chain_id": made.genesis.chain_id.as_str(),
        "initial_height": made.genesis.initial_height.get(),
        "peer_id": made.peer_id,
        "proposer": made.proposer.map(|key| key.to_string()),
        "files": made.files,
    });
    print(&answer.to_string())
}

fn print_text(made: &Made) -> Result<(), Failure> {
    let home = made.home.display();
    let mut lines = vec![format!("Made the home of a node of chain `{}` in {home}", made.genesis.chain_id)];
    lines
        .extend(made.files.iter().map(|file| format!("  {}", file.strip_prefix(&made.home).unwrap_or(file).display())));
    lines.push(format!("peer id    {}", made.peer_id));
    lines.extend(made.proposer.map(|key| format!("proposer   {key}")));
    lines.push("\nNext:".into());
    lines.push(format!("  set p2p.seeds in {home}/{}, unless others dial this node", config::FILE_NAME));
    if made.is_new_chain {
        lines.push(format!("  give {home}/{GENESIS} to every other node:  blocksyncd init HOME --genesis {GENESIS}"));
    }
    if made.proposer.is_some() {
        lines.push(format!("  keep {PROPOSER_KEY} and its guard together, on one machine only"));
    }
    lines.push(format!("  blocksyncd run --home {home} --check-config"));
    lines.push(format!("  blocksyncd run --home {home}"));
    print(&lines.join("\n"))
}
