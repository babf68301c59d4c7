//! `devnet`: the main job on one machine. A sequencer and full nodes, each a real sidecar process with a mock execution
//! process of its own, over real libp2p on loopback and real sockets, and a DA layer in this process.
//!
//! ```text
//!   devnet -- dev DA <-----------------.------------------.
//!     |                                |                  |
//!     |-- mock-execution --socket-- run (sequencer)       |
//!     |                                | libp2p           |
//!     '-- mock-execution --socket-- run (full-1), ... <---'  (the hosts watch and report DA, not the sidecars)
//! ```
//!
//! Invariants:
//! 1. No child outlives this process, however it ends: see [`child`].
//! 2. It ends by itself: when every node has every block hard, when nothing moves for the stall deadline, or when a child
//!    ends before its time.
//! 3. The exit code is zero only if the [`report`] has no fault.

mod child;
mod homes;
mod report;
mod view;

use std::ffi::OsString;
use std::future::pending;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use self::child::{Child, ChildEnd, Happened};
use self::homes::DevnetDir;
use self::report::{NodeReport, NodeViolation, Report};
use self::view::{LiveView, Picture, Row, Screen};
use super::dev_da::DevDa;
use super::mock_execution::HostRole;
use super::mock_execution::tell::{Progress, ReportLine};
use super::{Code, Failure};

const REDRAW_EVERY: Duration = Duration::from_millis(200);
/// How long full nodes may take to find the sequencer before it starts to make blocks all the same.
const PEERS_WITHIN: Duration = Duration::from_secs(10);
/// How long a child may take to end once it was told to.
const END_WITHIN: Duration = Duration::from_secs(15);
/// Of the sidecars: what they do themselves, and only trouble of their libraries.
const LOG_FILTER: &str = "warn,blocksyncd=info";
/// Added to a few DA blocks, when no stall deadline is given.
const STALL_BASE: Duration = Duration::from_secs(30);

/// Shows it working: a sequencer and full nodes on this machine, each with a mock execution.
///
/// Exits with zero when every node has every block confirmed by DA, with the same state, without a breach of the API's
/// contract, and full nodes got their blocks from their peers.
#[derive(Debug, clap::Args)]
pub struct DevnetArgs {
    /// Nodes, the sequencer included
    // All the others dial the sequencer, which takes no more from one address with the default limits.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=8))]
    nodes: u16,
    /// Blocks to make
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// Time between two blocks
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = humantime::parse_duration)]
    block_time: Duration,
    /// Time between two DA blocks
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
    da_block_time: Duration,
    /// Concatenated RLP lists, as `geth export` writes; each is a payload, over and over
    #[arg(long, value_name = "FILE", conflicts_with = "payload_size")]
    payloads: Option<PathBuf>,
    /// Payloads are so many random bytes
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    payload_size: usize,
    /// Live here, and leave everything; otherwise in a temporary directory, which is removed after a run without fault
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Give up when nothing has moved for so long [default: 30s and three DA blocks]
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    stall: Option<Duration>,
    /// Print one JSON object at the end, and nothing else, on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: &DevnetArgs) -> ExitCode {
    try_run(args).unwrap_or_else(|failure| super::exit::report(Err(failure)))
}

fn try_run(args: &DevnetArgs) -> Result<ExitCode, Failure> {
    if args.block_time.is_zero() || args.da_block_time.is_zero() {
        return Err(Failure::new(Code::Usage, "--block-time and --da-block-time must be above zero"));
    }
    let internal = |error: std::io::Error| Failure::new(Code::Internal, format!("the runtime: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    runtime.block_on(start_to_end(args))
}

async fn start_to_end(args: &DevnetArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new()?;
    let mut dir = DevnetDir::make(args.dir.as_deref())?;
    let mut net = Net::new(args).await?;
    net.view.say(&format!("logs: {}", dir.logs().display()));

    let played = tokio::select! {
        played = net.play(args, &dir) => played,
        code = signals.received() => Err(DevnetError::Stopped(code)),
    };
    // The second signal ends everything at once: dropping the children kills them.
    tokio::select! {
        () = net.end() => {}
        code = signals.received() => return Ok(code.into()),
    }

    // Nothing was run that could be reported.
    if let Err(DevnetError::Failed(failure)) = played {
        return Err(failure);
    }
    let report = net.report(args.blocks);
    net.finish(args.json.then_some(&report));
    match played {
        Err(DevnetError::Stopped(code)) => Ok(code.into()),
        Ok(()) if report.problems().is_empty() => Ok(ExitCode::SUCCESS),
        played => {
            dir.keep();
            let trouble = played.err().map(|trouble| trouble.to_string());
            for problem in trouble.into_iter().chain(report.problems()) {
                eprintln!("blocksyncd: devnet: {problem}");
            }
            eprintln!("blocksyncd: devnet: the logs are in {}", dir.logs().display());
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
enum DevnetError {
    #[error("told to stop")]
    Stopped(Code),
    #[error("{0}")]
    Failed(#[from] Failure),
    #[error("nothing has moved for {}: {what}", humantime::format_duration(*after))]
    Stalled { after: Duration, what: String },
    #[error("{name} ended before its time, with {status}: see {}", log.display())]
    Died { name: String, status: String, log: PathBuf },
}

/// SIGINT and SIGTERM, as often as they come.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(Code::Internal, format!("cannot listen for signals: {error}")))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn received(&mut self) -> Code {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Code::Interrupted,
            Some(()) = self.terminate.recv() => Code::Terminated,
            else => pending().await,
        }
    }
}

/// One node: its sidecar and its host.
#[derive(Debug)]
struct Member {
    name: String,
    role: HostRole,
    sidecar: Option<Child>,
    ready: Option<NodeReady>,
    host: Option<Child>,
    host_fell: bool,
    progress: Progress,
}

/// What a sidecar's ready line says, as far as it matters here.
#[derive(Debug, Deserialize)]
struct NodeReady {
    socket: PathBuf,
    listen: Vec<String>,
}

/// All that runs.
struct Net {
    members: Vec<Member>,
    da: DevDa,
    view: LiveView,
    happened: mpsc::Receiver<Happened>,
    tell: mpsc::Sender<Happened>,
    violations: Vec<NodeViolation>,
    stall: Duration,
    blocks: u64,
    /// When anything last moved, and the sum of what moves.
    moved: (Instant, u64),
}

/// What a run waits for before its next step.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// The sequencer's sidecar says where it listens.
    SequencerReady,
    AllReady,
    /// Every full node has a peer and a host, or it is too late to wait for that any longer.
    Connected {
        or_after: Instant,
    },
    /// Every node has every block hard.
    AllHard,
}

/// Children are numbered: the sidecar and the host of member 0, of member 1, ...
const fn sidecar_of(member: usize) -> usize {
    member * 2
}

const fn host_of(member: usize) -> usize {
    member * 2 + 1
}

impl Net {
    async fn new(args: &DevnetArgs) -> Result<Self, Failure> {
        let da = DevDa::start(args.da_block_time)
            .await
            .map_err(|error| Failure::new(Code::Io, format!("cannot serve the dev DA on loopback: {error}")))?;
        let (tell, happened) = mpsc::channel(64);
        let member = |number: u16| Member {
            name: if number == 0 { "sequencer".into() } else { format!("full-{number}") },
            role: if number == 0 { HostRole::Sequencer } else { HostRole::Full },
            sidecar: None,
            ready: None,
            host: None,
            host_fell: false,
            progress: Progress::default(),
        };
        Ok(Self {
            members: (0..args.nodes).map(member).collect(),
            da,
            view: LiveView::new(if args.json { Screen::Stderr } else { Screen::Stdout }),
            happened,
            tell,
            violations: Vec::new(),
            stall: args.stall.unwrap_or(STALL_BASE + args.da_block_time.saturating_mul(3)),
            blocks: args.blocks,
            moved: (Instant::now(), 0),
        })
    }

    /// From empty homes to the last block hard everywhere.
    async fn play(&mut self, args: &DevnetArgs, dir: &DevnetDir) -> Result<(), DevnetError> {
        for member in &self.members {
            dir.init(&member.name, member.role).await?;
        }
        self.start_sidecar(args, dir, 0, &[])?;
        self.reach(Goal::SequencerReady).await?;
        let seeds: Vec<String> = self.members[0].ready.iter().flat_map(|ready| ready.listen.clone()).collect();
        for member in 1..self.members.len() {
            self.start_sidecar(args, dir, member, &seeds)?;
        }
        self.reach(Goal::AllReady).await?;

        for member in 1..self.members.len() {
            self.start_host(args, dir, member)?;
        }
        self.reach(Goal::Connected { or_after: Instant::now() + PEERS_WITHIN }).await?;
        self.start_host(args, dir, 0)?;
        self.reach(Goal::AllHard).await
    }

    fn start_sidecar(
        &mut self,
        args: &DevnetArgs,
        dir: &DevnetDir,
        number: usize,
        seeds: &[String],
    ) -> Result<(), Failure> {
        let member = &self.members[number];
        let block_time = humantime::format_duration(args.block_time).to_string().replace(' ', "");
        let mut words: Vec<OsString> = vec!["run".into(), "--home".into(), dir.home(&member.name).into()];
        words.extend(
            ["--listen", "/ip4/127.0.0.1/tcp/0", "--exit-on-stdin-eof", "--log", LOG_FILTER, "--set"]
                .map(OsString::from),
        );
        words.push(format!("sync.block_time={block_time}").into());
        for seed in seeds {
            words.extend(["--seed".into(), seed.into()]);
        }
        let child = self.start(dir, sidecar_of(number), &format!("{}-sidecar", member.name), words)?;
        self.members[number].sidecar = Some(child);
        Ok(())
    }

    fn start_host(&mut self, args: &DevnetArgs, dir: &DevnetDir, number: usize) -> Result<(), Failure> {
        let member = &self.members[number];
        let Some(ready) = &member.ready else {
            return Err(Failure::new(Code::Internal, format!("the sidecar of {} is not ready", member.name)));
        };
        let poll = (args.da_block_time / 5).clamp(Duration::from_millis(10), Duration::from_millis(200));
        let duration = |duration| OsString::from(humantime::format_duration(duration).to_string().replace(' ', ""));
        let mut words: Vec<OsString> = vec!["mock-execution".into(), "--exit-on-stdin-eof".into()];
        words.extend(["--socket".into(), ready.socket.clone().into()]);
        words.extend(["--state".into(), dir.host_state(&member.name).into()]);
        words.extend(["--name".into(), format!("host-{}", member.name).into()]);
        words.extend(["--role".into(), member.role.name().into()]);
        words.extend(["--da".into(), self.da.url().into(), "--da-poll".into(), duration(poll)]);
        if member.role == HostRole::Sequencer {
            words.extend(["--blocks".into(), args.blocks.to_string().into()]);
            words.extend(["--block-time".into(), duration(args.block_time)]);
            match &args.payloads {
                Some(file) => words.extend(["--payloads".into(), file.into()]),
                None => words.extend(["--payload-size".into(), args.payload_size.to_string().into()]),
            }
        }
        let child = self.start(dir, host_of(number), &format!("{}-host", member.name), words)?;
        self.members[number].host = Some(child);
        Ok(())
    }

    fn start(&self, dir: &DevnetDir, who: usize, name: &str, words: Vec<OsString>) -> Result<Child, Failure> {
        Child::start(who, name, words, &dir.log(name), &self.tell)
            .map_err(|error| Failure::new(Code::Unavailable, format!("cannot start {name}: {error}")))
    }

    /// Goes on until `goal` is reached; an error when a child ends, or nothing moves for too long.
    async fn reach(&mut self, goal: Goal) -> Result<(), DevnetError> {
        self.moved.0 = Instant::now();
        while !self.is_reached(goal) {
            let next = tokio::time::timeout(REDRAW_EVERY, self.happened.recv()).await;
            if let Ok(Some(happened)) = next {
                self.take(happened);
            }
            self.show();
            self.check_children()?;
            self.check_stall()?;
        }
        Ok(())
    }

    fn is_reached(&self, goal: Goal) -> bool {
        let connected = |member: &Member| member.progress.attached && member.progress.peers > 0;
        match goal {
            Goal::SequencerReady => self.members[0].ready.is_some(),
            Goal::AllReady => self.members.iter().all(|member| member.ready.is_some()),
            Goal::Connected { or_after } => self.members[1..].iter().all(connected) || Instant::now() > or_after,
            Goal::AllHard => self.members.iter().all(|member| member.progress.hard >= self.blocks),
        }
    }

    fn take(&mut self, happened: Happened) {
        let (Happened::Said { who, .. } | Happened::Fell { who }) = happened;
        let Some(member) = self.members.get_mut(who / 2) else { return };
        let is_host = who == host_of(who / 2);
        match happened {
            Happened::Said { line, .. } if is_host => match ReportLine::read(&line) {
                Some(ReportLine::Progress(progress) | ReportLine::End(progress)) => member.progress = progress,
                Some(ReportLine::Violation(violation)) => {
                    self.violations.push(NodeViolation { node: member.name.clone(), violation });
                }
                None => {}
            },
            Happened::Said { line, .. } => member.ready = serde_json::from_str(&line).ok().or(member.ready.take()),
            Happened::Fell { .. } => member.host_fell |= is_host,
        }
    }

    fn check_children(&mut self) -> Result<(), DevnetError> {
        for member in &mut self.members {
            for child in [&mut member.sidecar, &mut member.host].into_iter().flatten() {
                if let Some(status) = child.ended() {
                    let (name, log) = (child.name.clone(), child.log.clone());
                    return Err(DevnetError::Died { name, status: status.to_string(), log });
                }
            }
        }
        if !self.da.is_running() {
            return Err(Failure::new(Code::Internal, "the dev DA has stopped").into());
        }
        Ok(())
    }

    fn check_stall(&mut self) -> Result<(), DevnetError> {
        let height = |member: &Member| member.progress.soft + member.progress.hard;
        let sum = self.members.iter().map(height).sum();
        if sum != self.moved.1 {
            self.moved = (Instant::now(), sum);
        } else if self.moved.0.elapsed() > self.stall {
            let waits = self.members.iter().filter_map(|member| {
                let why = match (&member.ready, &member.progress.waiting_for) {
                    (None, _) => "its sidecar is not ready".to_owned(),
                    (_, Some(why)) => why.clone(),
                    (_, None) if member.host.is_some() && !member.progress.attached => {
                        "its host is not attached".into()
                    }
                    (_, None) if member.progress.hard < self.blocks => {
                        format!("soft {}, hard {}", member.progress.soft, member.progress.hard)
                    }
                    _ => return None,
                };
                Some(format!("{}: {why}", member.name))
            });
            let what = waits.collect::<Vec<_>>().join("; ");
            return Err(DevnetError::Stalled { after: self.stall, what });
        }
        Ok(())
    }

    /// Ends the hosts, hears their last words, then ends the sidecars.
    async fn end(&mut self) {
        for member in &mut self.members {
            member.host.iter_mut().for_each(Child::let_go);
        }
        let silent = |member: &Member| member.host.is_none() || member.host_fell;
        let deadline = tokio::time::Instant::now() + END_WITHIN;
        while !self.members.iter().all(silent) {
            let Ok(Some(happened)) = tokio::time::timeout_at(deadline, self.happened.recv()).await else { break };
            self.take(happened);
        }
        self.wait_for(|member| member.host.take()).await;
        for member in &mut self.members {
            member.sidecar.iter_mut().for_each(Child::let_go);
        }
        self.wait_for(|member| member.sidecar.take()).await;
    }

    async fn wait_for(&mut self, which: fn(&mut Member) -> Option<Child>) {
        let children: Vec<Child> = self.members.iter_mut().filter_map(which).collect();
        for mut child in children {
            if child.wait(END_WITHIN).await == ChildEnd::Killed {
                eprintln!(
                    "blocksyncd: devnet: {} did not end in time, and was killed: see {}",
                    child.name,
                    child.log.display()
                );
            }
        }
    }

    fn report(&self, blocks: u64) -> Report {
        let node = |member: &Member| NodeReport::new(&member.name, member.role, &member.progress);
        Report { blocks, nodes: self.members.iter().map(node).collect(), violations: self.violations.clone() }
    }

    fn show(&mut self) {
        let picture = picture(&self.members, self.blocks, self.da.head(), self.violations.len());
        self.view.show(&picture);
    }

    fn finish(&mut self, json: Option<&Report>) {
        let picture = picture(&self.members, self.blocks, self.da.head(), self.violations.len());
        self.view.finish(&picture);
        if let Some(text) = json.and_then(|report| serde_json::to_string(report).ok()) {
            // The exit code counts all the same when nobody reads.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    }
}

fn picture(members: &[Member], blocks: u64, da_head: u64, violations: usize) -> Picture<'_> {
    let rows = members.iter().map(|member| Row { name: &member.name, progress: &member.progress }).collect();
    Picture { blocks, da_head, rows, violations }
}
