//! `ctl publish`: a file's contents as the payload of the next block, and what becomes of it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::super::print::print;
use super::show::{Printer, durability_name, id_json, millis, plain};
use super::{CallContext, Code, Failure, granted, height, hello};
use crate::api::client::{ProposedBlock, PublishResult, Published, Publisher, Roles, patiently};
use crate::block::Height;
use crate::clock::Clock;
use crate::sync::hearing::PATIENCE;
use crate::util::hex;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 30;
/// How long the whole call may take where `--timeout` is not given: longer than a sidecar waits for its peers before it signs.
pub const TIMEOUT: Duration = Duration::from_secs(PATIENCE.as_secs() * 3 / 2);
const _: () = assert!(TIMEOUT.as_secs() * 4 / 5 > PATIENCE.as_secs(), "a fifth of it is kept to show the last answer");

#[derive(Debug, clap::Args)]
pub struct PublishArgs {
    /// The payload; - reads stdin
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Instead of the next height
    #[arg(long, value_parser = height)]
    height: Option<Height>,
    /// The rollup's own id of the block, in hex, at most 64 bytes
    #[arg(long, value_name = "HEX", value_parser = host_id)]
    host_id: Option<Bytes>,
    /// The block's time, in nanoseconds since the Unix epoch, instead of now
    #[arg(long, value_name = "NANOS")]
    time: Option<u64>,
    /// The file is an encoded `SignedBlock`, not a payload
    #[arg(long, conflicts_with_all = ["height", "host_id", "time"])]
    signed: bool,
}

fn host_id(text: &str) -> Result<Bytes, String> {
    hex::decode(text.as_bytes()).map(Bytes::from).ok_or_else(|| "it must be an even number of hex digits".into())
}

pub async fn run(context: &CallContext, args: &PublishArgs) -> Result<(), Failure> {
    let bytes = read_input(&args.file)?;
    // The last answer is shown in time, before the whole call is given up.
    let patience = context.timeout.saturating_sub(context.timeout / 5);
    let client = context.connect().await?;
    let info = client.info().await?;
    let roles = Roles { publisher: true, ..Roles::default() };
    let publisher: Publisher = granted(client.open(&hello(roles), None).await?.publisher)?;
    let result = if args.signed {
        patiently(patience, || publisher.publish_signed(&bytes)).await?
    } else {
        let next = info.heads.soft.map_or(info.heads.tail, |soft| soft.height.next());
        let block = ProposedBlock {
            height: args.height.unwrap_or(next),
            parent: None,
            time_unix_nanos: args.time.unwrap_or_else(|| Clock::start().now().unix_nanos),
            host_id: args.host_id.clone().unwrap_or_default(),
            payload: bytes,
        };
        patiently(patience, || publisher.publish(&block)).await?
    };
    show(context.printer, &result, patience)
}

fn read_input(file: &Path) -> Result<Bytes, Failure> {
    let source: Box<dyn std::io::Read> = if file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(file).map_err(|error| unreadable(file, &error))?)
    };
    let mut bytes = Vec::new();
    source.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(file, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::new(Code::Data, format!("{} is larger than any block", file.display())));
    }
    Ok(bytes.into())
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Code::Io, format!("cannot read {}: {error}", file.display()))
}

fn published(printer: Printer, result: &str, published: &Published) -> Result<(), Failure> {
    printer.say(
        || {
            json!({
                "result": result,
                "id": id_json(published.id),
                "signedBlockBytes": published.signed_block.len(),
                "durability": durability_name(published.durability),
            })
        },
        || format!("{result} {}", published.id),
    )
}

/// Every answer is printed; those that did not publish the block are failures, too. `patience`: for how long it was tried while the
/// sidecar said that it would not be long.
fn show(printer: Printer, result: &PublishResult, patience: Duration) -> Result<(), Failure> {
    // In text, the failure says all.
    let refused = |code: Code, message: String, line: Value| {
        if printer.json {
            print(&line.to_string())?;
        }
        Err(Failure::new(code, message))
    };
    let because = |code: Code, name: &str, result: &str, why: &str| {
        refused(code, format!("{name}: {}", plain(why)), json!({ "result": result, "why": why }))
    };
    match result {
        PublishResult::Accepted(block) => published(printer, "accepted", block),
        PublishResult::Duplicate(block) => published(printer, "duplicate", block),
        PublishResult::Conflict(id) => refused(
            Code::Data,
            format!("conflict: {id} is stored, or was signed, at that height"),
            json!({ "result": "conflict", "id": id_json(*id) }),
        ),
        PublishResult::NotNext { height, parent } => refused(
            Code::Data,
            format!("not next: publish height {height} first"),
            json!({ "result": "notNext", "height": height.get(), "parent": parent.map(|hash| hash.to_string()) }),
        ),
        PublishResult::Invalid(why) => because(Code::Data, "invalid", "invalid", why),
        PublishResult::TooLarge { max_block_bytes } => refused(
            Code::Data,
            format!("too large: a block may have {max_block_bytes} bytes"),
            json!({ "result": "tooLarge", "maxBlockBytes": max_block_bytes }),
        ),
        PublishResult::NotReady { why, retry_after: Some(_) } => {
            let tried = humantime::format_duration(patience);
            let name = format!("not ready, though it was tried for {tried} (see --timeout)");
            because(Code::Unavailable, &name, "notReady", why)
        }
        PublishResult::NotReady { why, .. } => because(Code::Unavailable, "not ready", "notReady", why),
        PublishResult::Halted(why) => because(Code::Unavailable, "halted", "halted", why),
        PublishResult::StorageFull => refused(
            Code::Io,
            "the sidecar's disk is full: make room, it goes on by itself".into(),
            json!({ "result": "storageFull" }),
        ),
        PublishResult::Overloaded { retry_after } => refused(
            Code::Temporary,
            format!("overloaded: try again in {}", humantime::format_duration(*retry_after)),
            json!({ "result": "overloaded", "retryAfterMs": millis(*retry_after) }),
        ),
        PublishResult::Draining => {
            refused(Code::Temporary, "the sidecar is about to end".into(), json!({ "result": "draining" }))
        }
    }
}
