//! The sequencer's part: makes a block every block time, publishes it, and posts what was signed to DA.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::checker::{Rule, SeenBlock, Violation};
use super::da_blob;
use super::host::{MockHost, SessionEnd};
use super::payloads::Payloads;
use crate::api::client::{
    ClientError, Lookup, Observer, Payload, ProposedBlock, PublishResult, Published, Publisher, ServerInfo, Which,
};
use crate::block::{BlockId, Hash, Height, Lane, native};
use crate::cli::dev_da::DaClient;
use crate::verify::Rules;

/// No more blocks are made while so many wait for DA.
const MAX_UNCONFIRMED: u64 = 10_000;
/// Blocks are posted together up to this size; a larger one travels alone.
const MAX_BLOB_BYTES: usize = 1 << 20;
const RETRY: Duration = Duration::from_millis(200);

/// What is made, and how fast.
#[derive(Debug)]
pub struct Production {
    pub payloads: Payloads,
    pub block_time: Duration,
    /// The last height that is made; `None`: no end.
    pub last: Option<Height>,
    /// DA confirms what is made.
    pub has_da: bool,
}

/// The block that can be made next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NextBlock {
    height: Height,
    parent: Option<Hash>,
}

/// What to do after an answer to a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    /// It is published.
    Made(Published),
    /// Another one is due.
    Turn(NextBlock),
    /// The same again, later.
    Wait(Duration, String),
    Reopen,
    Stop(String),
}

impl Then {
    fn reason_to_wait(&self) -> Option<String> {
        match self {
            Self::Wait(_, why) => Some(why.clone()),
            _ => None,
        }
    }
}

/// Makes and publishes blocks; notifies `made` after each.
pub async fn produce(
    host: &RefCell<MockHost>,
    publisher: &Publisher,
    info: &ServerInfo,
    rules: &Rules,
    production: &Production,
    made: &Notify,
) -> Result<Infallible, SessionEnd> {
    let mut next = match info.heads.soft {
        Some(soft) => NextBlock { height: soft.height.next(), parent: Some(soft.hash) },
        None => NextBlock { height: info.initial_height, parent: None },
    };
    let mut ticks = tokio::time::interval(production.block_time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let too_many = production.has_da && host.borrow().unconfirmed() >= MAX_UNCONFIRMED;
        if too_many || production.last.is_some_and(|last| next.height > last) {
            continue;
        }
        let id = publish_next(host, publisher, rules, production, &mut next).await?;
        next = NextBlock { height: id.height.next(), parent: Some(id.hash) };
        made.notify_one();
    }
}

/// Publishes one block, as often as it takes.
async fn publish_next(
    host: &RefCell<MockHost>,
    publisher: &Publisher,
    rules: &Rules,
    production: &Production,
    next: &mut NextBlock,
) -> Result<BlockId, SessionEnd> {
    loop {
        let NextBlock { height, parent } = *next;
        let time_unix_nanos = host.borrow_mut().intend(height, parent)?;
        let (host_id, payload) = (Bytes::new(), production.payloads.at(height));
        let block = ProposedBlock { height, parent, time_unix_nanos, host_id, payload };
        let then = match publisher.publish(&block).await {
            Err(ClientError::Overloaded(_)) => react(PublishResult::Overloaded { retry_after: RETRY }),
            answer => react(answer?),
        };
        host.borrow_mut().wait_for(height, then.reason_to_wait());
        match then {
            Then::Made(published) => {
                let mut host = host.borrow_mut();
                if let Err(violation) = check_published(rules, &block, &published) {
                    host.violated(violation);
                    return Err(SessionEnd::Violated);
                }
                host.published(published.id, published.signed_block);
                return Ok(published.id);
            }
            Then::Turn(turn) => {
                eprintln!("mock-execution: {height} cannot be published now, {} on {:?} can", turn.height, turn.parent);
                if turn == *next {
                    tokio::time::sleep(RETRY).await;
                }
                *next = turn;
            }
            Then::Wait(pause, _) => tokio::time::sleep(pause).await,
            Then::Reopen => return Err(SessionEnd::Draining),
            Then::Stop(why) => return Err(SessionEnd::Fatal(format!("block {height} cannot be published: {why}"))),
        }
    }
}

fn react(answer: PublishResult) -> Then {
    const SOON: Duration = Duration::from_millis(100);
    const LATER: Duration = Duration::from_secs(1);
    match answer {
        PublishResult::Accepted(published) | PublishResult::Duplicate(published) => Then::Made(published),
        PublishResult::NotNext { height, parent } => Then::Turn(NextBlock { height, parent }),
        PublishResult::Conflict(other) => Then::Wait(LATER, format!("conflict: the sidecar knows {other} there")),
        PublishResult::NotReady { why, retry_after } => {
            Then::Wait(retry_after.unwrap_or(SOON).clamp(SOON, LATER), format!("not ready: {why}"))
        }
        PublishResult::Halted(why) => Then::Wait(LATER, format!("halted: {why}")),
        PublishResult::StorageFull => Then::Wait(LATER, "the sidecar's disk is full".into()),
        PublishResult::Overloaded { retry_after } => Then::Wait(retry_after.clamp(SOON, LATER), "overloaded".into()),
        PublishResult::Draining => Then::Reopen,
        PublishResult::Invalid(why) => Then::Stop(why),
        PublishResult::TooLarge { max_block_bytes } => {
            Then::Stop(format!("it is larger than the {max_block_bytes} bytes that a block may have"))
        }
    }
}

/// Whether the signed block is the one that we published.
fn check_published(rules: &Rules, block: &ProposedBlock, published: &Published) -> Result<(), Violation> {
    let wrong = |detail: String| Err(Violation::new(Rule::WrongAnswer, block.height.get(), detail));
    let signed = match rules.check(Lane::BLOCK, &published.signed_block) {
        Ok(signed) => signed,
        Err(fault) => return wrong(format!("the signed block of the answer: {fault}")),
    };
    let header = signed.block().header();
    let same = signed.id() == published.id
        && signed.height() == block.height
        && header.time_unix_nanos == block.time_unix_nanos
        && header.host_id == block.host_id
        && signed.block().payload() == &block.payload
        && (block.parent.is_none() || header.parent_hash == block.parent);
    if same { Ok(()) } else { wrong(format!("{:?} was answered, and is not what was published", published.id)) }
}

/// Posts what is published, in order; goes on where an earlier life stopped.
pub async fn post(
    host: &RefCell<MockHost>,
    observer: &Observer,
    da: &DaClient,
    info: &ServerInfo,
    made: &Notify,
) -> Result<Infallible, SessionEnd> {
    loop {
        let (blob, last) = next_blob(host, observer, info).await?;
        let Some(last) = last else {
            made.notified().await;
            continue;
        };
        match da.submit(blob).await {
            Ok(_) => host.borrow_mut().posted(last)?,
            Err(error) => {
                eprintln!("mock-execution: posting up to block {last}: {error}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// The blocks that are to be posted next, as a blob, with the height of the last one.
async fn next_blob(
    host: &RefCell<MockHost>,
    observer: &Observer,
    info: &ServerInfo,
) -> Result<(Vec<u8>, Option<Height>), SessionEnd> {
    let mut blocks: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    let posted = Height::new(host.borrow().journal().memory().posted);
    let mut height = posted.map_or(info.initial_height, Height::next);
    while let Some(block) = signed_block(host, observer, height).await? {
        bytes += block.len();
        if last.is_some() && bytes > MAX_BLOB_BYTES {
            break;
        }
        blocks.push(block);
        last = Some(height);
        height = height.next();
    }
    Ok((da_blob::encode(&blocks), last))
}

/// The signed block at `height`: of the answer to its publish, or of the sidecar's store for those of an earlier life.
async fn signed_block(
    host: &RefCell<MockHost>,
    observer: &Observer,
    height: Height,
) -> Result<Option<Bytes>, SessionEnd> {
    let kept = host.borrow().unposted(height);
    if kept.is_some() {
        return Ok(kept);
    }
    let Lookup::Found { block, .. } = observer.block(Which::Height(height)).await? else { return Ok(None) };
    let Payload::Bytes(payload) = block.payload else { return Ok(None) };
    let signed = SeenBlock {
        id: block.id,
        parent_hash: block.parent,
        time_unix_nanos: block.time_unix_nanos,
        header: block.header,
        signature: block.signature,
        payload,
    };
    Ok(Some(signed.encode()))
}

/// Whether every payload fits into a block.
pub fn check_sizes(payloads: &Payloads, info: &ServerInfo) -> Result<(), SessionEnd> {
    let (payload, limit) = (payloads.max_bytes(), info.limits.max_block_bytes);
    if payload.saturating_add(native::MAX_OVERHEAD_BYTES) as u64 > limit {
        return Err(SessionEnd::Fatal(format!("a payload of {payload} bytes does not fit into a block of {limit}")));
    }
    Ok(())
}
