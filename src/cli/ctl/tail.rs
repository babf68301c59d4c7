//! `ctl tail`: the chain's events as a host sees them, from a point on, until it is stopped.

use std::time::Duration;

use super::{CallContext, Code, Failure};
use crate::api::client::{Client, Event, Lookup, Observer, Start, StreamOptions, Which};
use crate::block::Height;
use crate::sync::Phase;

/// One long poll; the sidecar may shorten it.
const WAIT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct TailArgs {
    /// Where to begin
    #[arg(long, value_name = "genesis|tip|HEIGHT", default_value = "tip", value_parser = start)]
    from: TailStart,
    /// End after so many events, instead of never
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Tell a block only when it is hard
    #[arg(long)]
    hard_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TailStart {
    Genesis,
    Tip,
    Height(Height),
}

fn start(text: &str) -> Result<TailStart, String> {
    match text {
        "genesis" => Ok(TailStart::Genesis),
        "tip" => Ok(TailStart::Tip),
        _ => super::height(text)
            .map(TailStart::Height)
            .map_err(|_| "it must be genesis, tip, or a height of at least 1".into()),
    }
}

pub async fn run(context: &CallContext, args: &TailArgs) -> Result<(), Failure> {
    let client = context.connect().await?;
    let observer = context.observer(&client).await?;
    let start = match args.from {
        TailStart::Genesis => Start::Genesis,
        TailStart::Tip => Start::Tip,
        TailStart::Height(height) => start_at(&client, &observer, height).await?,
    };
    let options = StreamOptions { consumer: None, with_bodies: false, soft_events: !args.hard_only };
    let stream = observer.stream(&start, &options).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let batch = stream.next(u32::try_from(left.min(256)).unwrap_or(256), 0, WAIT).await?;
        for event in batch.events.iter().filter(|event| !matches!(event, Event::Progress)) {
            context.printer.event(event)?;
            left = left.saturating_sub(1);
        }
        if batch.phase == Phase::Draining {
            return Err(Failure::new(Code::Temporary, "the sidecar is about to end"));
        }
    }
    Ok(())
}

/// A host that goes on at `height`, and was given nothing below.
async fn start_at(client: &Client, observer: &Observer, height: Height) -> Result<Start, Failure> {
    let info = client.info().await?;
    let Some(below) = height.prev().filter(|_| height > info.initial_height) else {
        return Ok(Start::Genesis);
    };
    let refuse = |message: String| Err(Failure::new(Code::Data, message));
    match observer.block(Which::Height(below)).await? {
        Lookup::Found { block, .. } => {
            Ok(Start::Resume { locator: vec![block.id], hard: None, given_from: Some(height) })
        }
        Lookup::NotFound => refuse(format!("--from {height}: the sidecar has no block at height {below} yet")),
        Lookup::Pruned { tail } => refuse(format!("--from {height}: the sidecar's lowest block is at height {tail}")),
    }
}
