//! Follows the sidecar's stream: judge, execute, remember; and says now and then up to where it has come.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use super::checker::ContractChecker;
use super::host::{MockHost, SessionEnd};
use crate::api::client::{Batch, Observer, Start, StreamOptions};
use crate::block::Height;
use crate::sync::Phase;
use crate::sync::cursor::WaitsFor;
use crate::verify::Rules;

/// Long enough to be silent when nothing happens, short enough to notice a dead peer.
const WAIT: Duration = Duration::from_secs(10);
const MAX_BATCH_BYTES: u64 = 4 << 20;
/// Pruning waits for what we acknowledge, so it need not be precise, and each one costs the sidecar a write.
const ACK_EVERY: u64 = 64;
const CONSUMER: &str = "mock-execution";

/// Returns when a stream ends, or `until_hard` is reached.
pub async fn follow(
    host: &RefCell<MockHost>,
    observer: &Observer,
    rules: &Rules,
    until_hard: Option<Height>,
) -> Result<Infallible, SessionEnd> {
    let mut asked_for = None;
    loop {
        asked_for = Some(follow_stream(host, observer, rules, until_hard, asked_for).await?);
    }
}

/// Follows one stream; ends with the height at which the sidecar wants us to name our block, too.
async fn follow_stream(
    host: &RefCell<MockHost>,
    observer: &Observer,
    rules: &Rules,
    until_hard: Option<Height>,
    named: Option<Height>,
) -> Result<Height, SessionEnd> {
    let options = StreamOptions { consumer: Some(CONSUMER.into()), ..StreamOptions::default() };
    let start = where_we_stand(&host.borrow(), named);
    let stream = observer.stream(&start, &options).await?;
    let mut checker = ContractChecker::new(rules);
    let mut acked = 0;
    loop {
        if until_hard.is_some_and(|until| host.borrow().hard() >= until.get()) {
            return Err(SessionEnd::Done);
        }
        let batch = stream.next(0, MAX_BATCH_BYTES, WAIT).await?;
        if let Some(height) = asked_for(&batch, &host.borrow(), named) {
            return Ok(height);
        }
        let top = {
            let mut host = host.borrow_mut();
            checker.pruned_below(batch.heads.tail);
            batch.events.into_iter().try_for_each(|event| host.hear(&mut checker, event))?;
            host.journal().ledger().top().map(|top| top.id)
        };
        if batch.phase == Phase::Draining {
            return Err(SessionEnd::Draining);
        }
        if let Some(top) = top
            && top.height.get() >= acked + ACK_EVERY
        {
            // Not known: it was taken back meanwhile, and the retract is on its way.
            stream.ack(top).await?;
            acked = top.height.get();
        }
    }
}

/// What we have named already is not named again, and what we do not have we cannot name: we wait.
fn asked_for(batch: &Batch, host: &MockHost, named: Option<Height>) -> Option<Height> {
    match batch.waits_for? {
        WaitsFor::Name(height) if named != Some(height) => host.journal().ledger().get(height).map(|_| height),
        _ => None,
    }
}

fn where_we_stand(host: &MockHost, named: Option<Height>) -> Start {
    let ledger = host.journal().ledger();
    match ledger.locator(named) {
        locator if locator.is_empty() => Start::Genesis,
        // It was never told of a gap: it would have ended.
        locator => Start::Resume { locator, hard: ledger.hard(), given_from: None },
    }
}
