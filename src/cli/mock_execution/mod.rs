//! `mock-execution`: a host that stands in for a rollup node. It makes or executes blocks, watches the DA layer, and knows
//! its sidecar only through the host's API, as a foreign host would.
//!
//! ```text
//!              publish, answer            signed blocks
//!   produce  <-----------------> sidecar        |
//!      '--------------------------------> post -'--> DA
//!   follow   <--- soft, hard --- sidecar             |
//!      '--> checker --> journal                      |
//!   watch_da ---- reports -----> sidecar <-----------'
//! ```
//!
//! Invariants:
//! 1. It resumes from its own state, whatever dies: itself, the sidecar, or the DA node. It reconnects for ever.
//! 2. Everything that it is told is judged by the [`checker`]; what breaks the contract is told and not applied.
//! 3. Standard output carries the lines of [`tell`] and nothing else.

mod checker;
mod da_blob;
mod da_places;
mod follow;
mod host;
mod journal;
mod latency;
mod ledger;
mod payloads;
mod produce;
mod rlp;
pub mod tell;
mod watch_da;

use std::cell::RefCell;
use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use self::da_places::Bodies;
use self::host::{MockHost, SessionEnd};
use self::journal::Journal;
use self::payloads::Payloads;
use self::produce::Production;
use self::tell::{ReportLine, Teller};
use super::dev_da::{DaClient, Namespace};
use super::{Code, Failure};
use crate::api::client::{Client, ClientError, Hello, Observer, Roles, ServerInfo, Session};
use crate::block::{ChainId, Format, Height};
use crate::util::saturate;
use crate::verify::{Rules, Schedule};

#[cfg(test)]
pub use self::checker::Rule;
pub use self::checker::Violation;
pub use self::latency::Percentiles;

/// Between two tries to attach.
const RECONNECT: Duration = Duration::from_millis(100);
const MAX_RECONNECT: Duration = Duration::from_secs(2);
const TELL_EVERY: Duration = Duration::from_millis(100);
/// Progress lines between two questions for the sidecar's status.
const STATUS_EVERY: u32 = 3;
/// How long an orderly end may wait for a last status.
const LAST_STATUS: Duration = Duration::from_secs(1);

/// Stands in for a rollup node: makes or executes blocks, and knows its sidecar only through the host's API.
#[derive(Debug, clap::Args)]
pub struct MockArgs {
    /// The sidecar's socket
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The file in which it remembers what it has executed; made when it is not there
    #[arg(long, value_name = "FILE")]
    state: PathBuf,
    /// `sequencer` makes blocks and posts them to DA, `full` follows
    #[arg(long, value_enum, default_value = "full")]
    role: HostRole,
    /// How it introduces itself to the sidecar
    #[arg(long, default_value = "mock-execution")]
    name: String,
    /// A DA node that speaks celestia-node's JSON-RPC, as http://host:port; without one nothing becomes hard
    #[arg(long, value_name = "URL")]
    da: Option<String>,
    /// How often to ask the DA node for news
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = humantime::parse_duration)]
    da_poll: Duration,
    /// Give the sidecar the bytes of blocks on DA at once, and not only when it asks for them
    #[arg(long)]
    report_bodies: bool,
    /// Time between two blocks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    block_time: Duration,
    /// The last height to make
    #[arg(long, value_name = "HEIGHT", value_parser = height)]
    blocks: Option<Height>,
    /// Concatenated RLP lists, as `geth export` writes; each is a payload, over and over
    #[arg(long, value_name = "FILE", conflicts_with = "payload_size")]
    payloads: Option<PathBuf>,
    /// Payloads are so many random bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    payload_size: usize,
    /// Of the random payloads
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// End when this height is hard
    #[arg(long, value_name = "HEIGHT", value_parser = height)]
    until_hard: Option<Height>,
    /// End when standard input does, as when whoever started it has died
    #[arg(long)]
    exit_on_stdin_eof: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HostRole {
    Sequencer,
    Full,
}

impl HostRole {
    /// As the command line and the devnet's report write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sequencer => "sequencer",
            Self::Full => "full",
        }
    }
}

fn height(text: &str) -> Result<Height, String> {
    text.parse().ok().and_then(Height::new).ok_or_else(|| "a height is a number from 1 on".into())
}

pub fn run(args: &MockArgs) -> ExitCode {
    super::exit::report(try_run(args))
}

fn try_run(args: &MockArgs) -> Result<(), Failure> {
    if args.block_time.is_zero() || args.da_poll.is_zero() {
        return Err(Failure::new(Code::Usage, "--block-time and --da-poll must be above zero"));
    }
    if let Some(url) = &args.da {
        // The namespace follows from the chain, which is not known yet.
        DaClient::new(url, Namespace::of("")).map_err(|why| Failure::new(Code::Usage, why))?;
    }
    let payloads = match &args.payloads {
        Some(path) => Payloads::read(path).map_err(|why| Failure::new(Code::Data, why))?,
        None => Payloads::Random { bytes: args.payload_size, seed: args.seed },
    };
    let production = Production { payloads, block_time: args.block_time, last: args.blocks, has_da: args.da.is_some() };
    let internal = |error: std::io::Error| Failure::new(Code::Internal, format!("the runtime: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    runtime.block_on(LocalSet::new().run_until(sessions(args, &production)))
}

/// One session after the other, until there is a reason to stop.
async fn sessions(args: &MockArgs, production: &Production) -> Result<(), Failure> {
    let teller = Rc::new(Teller::new().map_err(|error| Failure::new(Code::Io, format!("standard output: {error}")))?);
    let stop = stop_token(args)?;
    let mut host: Option<RefCell<MockHost>> = None;
    let mut pause = RECONNECT;
    loop {
        let chain_id = host.as_ref().map(|host| host.borrow().chain_id().clone());
        let ended = match stop.run_until_cancelled(attach(args, chain_id)).await {
            None => SessionEnd::Done,
            Some(Err(ended)) => ended,
            Some(Ok(attached)) => {
                pause = RECONNECT;
                let host = match &host {
                    Some(host) => host,
                    None => host.insert(open_state(args, &teller, &attached.rules)?),
                };
                one_session(args, production, host, &attached, &stop).await
            }
        };
        match ended {
            SessionEnd::Done => break,
            SessionEnd::Fatal(why) => return Err(Failure::new(Code::Data, why)),
            SessionEnd::Sidecar(error) => eprintln!("mock-execution: {error}; trying again"),
            SessionEnd::Draining => eprintln!("mock-execution: the sidecar is draining; opening again"),
            SessionEnd::Violated => eprintln!("mock-execution: opening again"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
        pause = (pause * 2).min(MAX_RECONNECT);
    }
    let progress = host.map(|host| host.borrow().progress()).unwrap_or_default();
    let violations = progress.violations;
    teller.tell(&ReportLine::End(progress));
    match violations {
        0 => Ok(()),
        n => Err(Failure::new(Code::Data, format!("the sidecar broke the contract {n} times"))),
    }
}

/// A session, and what it is good for.
struct Attached {
    session: Session,
    rules: Rules,
    da: Option<DaClient>,
}

async fn attach(args: &MockArgs, chain_id: Option<ChainId>) -> Result<Attached, SessionEnd> {
    let client = Client::connect(&args.socket).await?;
    let roles = Roles { observer: true, publisher: args.role == HostRole::Sequencer, reporter: args.da.is_some() };
    let session = client.open(&Hello { name: args.name.clone(), chain_id, roles }, None).await?;
    let rules = rules(&client, &session.info).await?;
    let da = args.da.as_deref().map(|url| DaClient::new(url, Namespace::of(rules.chain_id.as_str())));
    Ok(Attached { session, da: da.transpose().map_err(SessionEnd::Fatal)?, rules })
}

/// The chain's rules, as the sidecar tells them.
async fn rules(client: &Client, info: &ServerInfo) -> Result<Rules, SessionEnd> {
    let nonsense =
        |what: &dyn std::fmt::Display| SessionEnd::Fatal(format!("the sidecar's chain makes no sense: {what}"));
    let schedule = client.admin().await?.schedule().await?;
    Ok(Rules {
        format: Format::Native,
        chain_id: ChainId::new(&info.chain_id).ok_or_else(|| nonsense(&info.chain_id.escape_debug()))?,
        initial_height: info.initial_height,
        max_block_bytes: saturate::to_usize(info.max_block_bytes),
        // Never asked: whether a time is plausible is the sidecar's to judge.
        max_clock_drift: Duration::ZERO,
        schedule: Schedule::new(info.initial_height, &schedule).map_err(|error| nonsense(&error))?,
    })
}

fn open_state(args: &MockArgs, teller: &Rc<Teller>, rules: &Rules) -> Result<RefCell<MockHost>, Failure> {
    let journal = Journal::open(&args.state, &rules.chain_id, rules.initial_height)
        .map_err(|why| Failure::new(Code::Data, format!("state file {why}")))?;
    Ok(RefCell::new(MockHost::new(teller.clone(), journal, rules.chain_id.clone(), args.role)))
}

/// Serves until the session ends; asks for a last status when the end is an orderly one.
async fn one_session(
    args: &MockArgs,
    production: &Production,
    host: &RefCell<MockHost>,
    attached: &Attached,
    stop: &CancellationToken,
) -> SessionEnd {
    host.borrow_mut().attached = true;
    let served = stop.run_until_cancelled(serve(args, production, host, attached)).await;
    let ended = served.unwrap_or(SessionEnd::Done);
    if let (SessionEnd::Done, Some(observer)) = (&ended, &attached.session.observer) {
        // The sidecar may be gone already, and then the status before was the last one.
        let _ = tokio::time::timeout(LAST_STATUS, ask_status(host, observer)).await;
    }
    host.borrow_mut().attached = false;
    host.borrow().tell_progress();
    ended
}

/// All workers of one session; the first that ends, ends it.
async fn serve(args: &MockArgs, production: &Production, host: &RefCell<MockHost>, attached: &Attached) -> SessionEnd {
    let Attached { session, rules, da } = attached;
    let info = &session.info;
    let Some(observer) = &session.observer else {
        return SessionEnd::Sidecar(ClientError::Failed("the observer's role was asked for and not granted".into()));
    };
    if session.publisher.is_some()
        && let Err(ended) = produce::check_sizes(&production.payloads, info)
    {
        return ended;
    }
    let made = Notify::new();
    let produce = async {
        let Some(publisher) = &session.publisher else { return std::future::pending().await };
        produce::produce(host, publisher, info, rules, production, &made).await
    };
    let post = async {
        match (&session.publisher, da) {
            (Some(_), Some(da)) => produce::post(host, observer, da, info, &made).await,
            _ => std::future::pending().await,
        }
    };
    let watch = async {
        let (Some(reporter), Some(da)) = (&session.reporter, da) else { return std::future::pending().await };
        let Some(evidence) = info.da_evidence else {
            return Err(SessionEnd::Fatal("the sidecar judges DA by a rule that is newer than this host".into()));
        };
        let bodies = if args.report_bodies { Bodies::AtOnce } else { Bodies::WhenWanted };
        let settings = watch_da::DaSettings { poll: args.da_poll, bodies, evidence };
        watch_da::watch_da(host, reporter, da, rules, settings).await
    };
    tokio::select! {
        Err(ended) = follow::follow(host, observer, rules, args.until_hard) => ended,
        Err(ended) = produce => ended,
        Err(ended) = post => ended,
        Err(ended) = watch => ended,
        Err(ended) = tell_progress(host, observer) => ended,
    }
}

/// Tells how it goes, and keeps asking the sidecar for its part of it.
async fn tell_progress(host: &RefCell<MockHost>, observer: &Observer) -> Result<Infallible, SessionEnd> {
    let mut told = None;
    let mut ticks = tokio::time::interval(TELL_EVERY);
    loop {
        for _ in 0..STATUS_EVERY {
            ticks.tick().await;
            let progress = host.borrow().progress();
            if told.as_ref() != Some(&progress) {
                host.borrow().tell_progress();
                told = Some(progress);
            }
        }
        ask_status(host, observer).await?;
    }
}

async fn ask_status(host: &RefCell<MockHost>, observer: &Observer) -> Result<(), SessionEnd> {
    let status = observer.status().await?;
    let mut host = host.borrow_mut();
    host.peers = status.peers;
    host.received = status.received.into();
    Ok(())
}

/// Cancelled by SIGINT, by SIGTERM, and by the end of standard input when that is asked for.
fn stop_token(args: &MockArgs) -> Result<CancellationToken, Failure> {
    let stop = CancellationToken::new();
    let internal = |error: std::io::Error| Failure::new(Code::Internal, format!("signals: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(internal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(internal)?;
    let signalled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        signalled.cancel();
    });
    if args.exit_on_stdin_eof {
        let ended = stop.clone();
        // A thread of its own: a read of standard input cannot be cancelled, and must not hold up the end.
        std::thread::spawn(move || {
            // What is sent is of no interest, and neither is why it ended.
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            ended.cancel();
        });
    }
    Ok(stop)
}
