//! `ctl`: asks and operates a running sidecar, over the socket that its host uses.
//!
//! Answers go to stdout: aligned text for people, or with `--json` one JSON object (of a list: one a line). What a peer
//! or a host has chosen is escaped before it reaches a terminal. Exit codes are those of [`super::exit`].

mod publish;
mod show;
mod tail;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::print::{print, print_raw};
use super::{Code, Failure, local};
use crate::api::client::{
    Admin, CheckpointAnswer, Client, ClientError, Hello, Lookup, Observer, OperatorOutcome, Payload, Roles, ServerInfo,
    ShutdownMode, Which,
};
use crate::block::{BlockId, Hash, Height, PublicKey, native};
use crate::config::{self, Sources};
use crate::sync::{EvidenceId, PeerOrder, Phase};
use crate::verify::ScheduleEntry;
use show::Printer;

/// The contract with every host, as this program was built with it.
const SCHEMA: &str = include_str!("../../../schema/blocksync.capnp");

/// Asks, or operates, a running sidecar over its socket.
#[derive(Debug, clap::Args)]
pub struct CtlArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    /// How long an answer may take, as 10s; without it 10s, and for publish, which waits while peers are heard, 45s
    #[arg(long, global = true, value_name = "DURATION", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    #[command(subcommand)]
    verb: Verb,
}

/// Which sidecar.
#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// The sidecar's home; its configuration says where the socket is
    #[arg(long, global = true, value_name = "DIR")]
    home: Option<PathBuf>,
    /// The sidecar's socket
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "home")]
    socket: Option<PathBuf>,
    /// The sidecar may run as this user, besides our own, root, and the owner of its home
    #[arg(long = "trust-uid", global = true, value_name = "UID")]
    trusted: Vec<u32>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Who the sidecar is: version, chain, limits, heads
    Info,
    /// Where it stands, and what keeps it from going on
    Status,
    /// Probe it: exit code 0 when it answers, 69 when it does not
    Health {
        /// Demand more than an answer: that it follows the chain's head
        #[arg(long)]
        ready: bool,
    },
    /// Its peers: who is connected, how well they serve, who is missing, who is banned
    Peers,
    /// The named consumers, and what each has acknowledged
    Consumers,
    /// Forget a consumer that is gone for good: pruning waits for it no longer
    ForgetConsumer {
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Change who is a peer; it survives a restart
    Peer {
        #[command(subcommand)]
        order: PeerVerb,
    },
    /// Follow the chain's events, as a host sees them
    Tail(tail::TailArgs),
    /// Show one block
    Get {
        /// A height, or a hash of 64 hex digits
        #[arg(value_name = "HEIGHT|HASH")]
        block: String,
        /// Write the payload to this file, which must not exist; - is stdout, and then nothing else is printed
        #[arg(long, value_name = "FILE|-")]
        payload: Option<PathBuf>,
        /// The same with the whole signed block: what a host posts to DA, and `publish --signed` takes
        #[arg(long, value_name = "FILE|-", conflicts_with = "payload")]
        signed: Option<PathBuf>,
    },
    /// Publish a file's contents as the payload of the next block
    Publish(publish::PublishArgs),
    /// Proofs that the sequencer signed two blocks for one height
    Evidence {
        /// Only what is newer than this id
        #[arg(long, default_value_t = 0)]
        after: u64,
        #[arg(long, default_value_t = 100)]
        max: u32,
    },
    /// Who may propose, from which height on
    Schedule {
        #[command(subcommand)]
        change: Option<ScheduleChange>,
    },
    /// After a divergence on DA: take back our own branch from this block on
    AbandonBranch {
        #[arg(value_name = "HEIGHT/HASH", value_parser = block_id)]
        from: BlockId,
    },
    /// Say what the proposer's key signed last, when its guard file is lost or ahead of the store
    AssertSigned {
        /// `none` when it never signed
        #[arg(value_name = "HEIGHT/HASH|none", value_parser = last_signed)]
        last: LastSigned,
    },
    /// Give up a block that this node waits for, of which nobody can show what it stands on
    Disown {
        #[arg(value_name = "HEIGHT/HASH", value_parser = block_id)]
        block: BlockId,
    },
    /// Lift the host's veto against a block
    LiftVeto,
    /// After a wrong report: forget what the host reported of DA from this DA height on, and read it again
    RescanDa {
        /// The lowest DA height that is read again
        #[arg(long, value_name = "DA-HEIGHT")]
        from: u64,
    },
    /// Print what another node's sync.from may be, by this node's word
    Checkpoint,
    /// Change what is logged, until the next start or SIGHUP
    LogFilter {
        /// As log.filter in the configuration
        filter: String,
    },
    /// End the sidecar, as SIGTERM does
    Shutdown {
        /// At once, without draining
        #[arg(long)]
        abrupt: bool,
    },
    /// Print the schema of the host's API
    Schema,
}

#[derive(Clone, Debug, Subcommand)]
enum PeerVerb {
    /// Make it a persistent peer: dialled for ever, never evicted or banned by the sidecar itself
    Add {
        /// Ends in /p2p/ and the id of the peer
        #[arg(value_name = "MULTIADDR")]
        address: String,
    },
    /// Make it a peer like any other again
    Remove {
        #[arg(value_name = "PEER-ID")]
        peer: String,
    },
    /// Disconnect it, and keep it away for a while
    Ban {
        /// A peer id, an IP address, or a subnet as 192.0.2.0/24
        #[arg(value_name = "PEER-ID|IP|SUBNET")]
        subject: String,
        /// For how long
        #[arg(long = "for", value_name = "DURATION", default_value = "1d", value_parser = humantime::parse_duration)]
        duration: Duration,
        /// Shown by `ctl peers`
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let it in again
    Unban {
        #[arg(value_name = "PEER-ID|IP|SUBNET")]
        subject: String,
    },
}

impl PeerVerb {
    fn to_order(&self) -> PeerOrder {
        match self.clone() {
            Self::Add { address } => PeerOrder::Add { address },
            Self::Remove { peer } => PeerOrder::Remove { peer },
            Self::Ban { subject, duration, reason } => PeerOrder::Ban { subject, duration, reason },
            Self::Unban { subject } => PeerOrder::Unban { subject },
        }
    }
}

#[derive(Debug, Subcommand)]
enum ScheduleChange {
    /// Append an entry: from this height on, this key proposes
    Add {
        #[arg(long, value_name = "HEIGHT", value_parser = height)]
        from: Height,
        #[arg(long, value_name = "HEX", value_parser = public_key)]
        proposer: PublicKey,
    },
    /// Take the entry back that begins at this height, above all that is stored
    Withdraw {
        #[arg(value_name = "HEIGHT", value_parser = height)]
        from: Height,
    },
}

impl Verb {
    /// How long an answer may take where `--timeout` is not given.
    const fn timeout(&self) -> Duration {
        match self {
            Self::Publish(_) => publish::TIMEOUT,
            _ => Duration::from_secs(10),
        }
    }
}

/// The last signed block, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LastSigned(Option<BlockId>);

fn height(text: &str) -> Result<Height, String> {
    text.parse().ok().and_then(Height::new).ok_or_else(|| "it must be a height: a number, at least 1".into())
}

fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::from_hex(text).ok_or_else(|| "it must be a public key of 64 hex digits".into())
}

/// As blocks are printed everywhere: `12/9f86d081...`.
fn block_id(text: &str) -> Result<BlockId, String> {
    BlockId::from_text(text).ok_or_else(|| "it must be a height, a slash, and a hash of 64 hex digits".into())
}

fn last_signed(text: &str) -> Result<LastSigned, String> {
    if text == "none" { Ok(LastSigned(None)) } else { block_id(text).map(|id| LastSigned(Some(id))) }
}

pub fn run(args: &CtlArgs) -> Result<(), Failure> {
    if matches!(args.verb, Verb::Schema) {
        return print(SCHEMA.trim_end());
    }
    let (socket, trusted) = find(&args.target)?;
    let timeout = args.timeout.unwrap_or_else(|| args.verb.timeout());
    let context = CallContext { socket, trusted, printer: Printer { json: args.json }, timeout };
    local(async {
        if let Verb::Tail(tail) = &args.verb {
            return tail::run(&context, tail).await;
        }
        let late = |_| {
            let waited = humantime::format_duration(context.timeout);
            Failure::new(
                Code::Unavailable,
                format!("the sidecar at {} did not answer within {waited}", context.socket.display()),
            )
        };
        tokio::time::timeout(context.timeout, context.run(&args.verb)).await.map_err(late)?
    })?
}

/// Where the socket is: the flag, or what the home's configuration and the environment say; and whose it may be. Whoever
/// names a home trusts its owner.
fn find(target: &Target) -> Result<(PathBuf, Vec<u32>), Failure> {
    let mut trusted = target.trusted.clone();
    if let Some(socket) = &target.socket {
        return Ok((socket.clone(), trusted));
    }
    let home = target.home.clone().or_else(|| super::path_variable("BLOCKSYNCD_HOME"));
    let file = super::path_variable("BLOCKSYNCD_CONFIG");
    if home.is_none() && file.is_none() {
        return Err(Failure::new(Code::Usage, "say which sidecar: --home DIR, or --socket PATH"));
    }
    let sources = Sources { home, file, environment: config::environment()?, assignments: Vec::new() };
    let (home, settings) = sources.settings()?;
    trusted.extend(std::fs::metadata(&home).map(|home| home.uid()));
    Ok((config::socket(&settings, &home)?, trusted))
}

/// Where the questions go, and how their answers look.
struct CallContext {
    socket: PathBuf,
    /// Users that the sidecar may run as.
    trusted: Vec<u32>,
    printer: Printer,
    timeout: Duration,
}

impl CallContext {
    async fn connect(&self) -> Result<Client, Failure> {
        Client::connect_trusting(&self.socket, &self.trusted).await.map_err(|error| match &error {
            ClientError::Stranger { uid, .. } => {
                Failure::new(Code::Permission, format!("{error}: if it is, say --trust-uid {uid}"))
            }
            _ => error.into(),
        })
    }

    async fn admin(&self) -> Result<Admin, Failure> {
        Ok(self.connect().await?.admin().await?)
    }

    async fn observer(&self, client: &Client) -> Result<Observer, Failure> {
        let roles = Roles { observer: true, ..Roles::default() };
        granted(client.open(&hello(roles), None).await?.observer)
    }

    async fn run(&self, verb: &Verb) -> Result<(), Failure> {
        match verb {
            Verb::Info => self.printer.info(&self.connect().await?.info().await?),
            Verb::Status => self.printer.status(&self.admin().await?.status().await?),
            Verb::Health { ready } => {
                let info = self.connect().await?.info().await?;
                self.printer.health(&info)?;
                if *ready { demand_ready(&info) } else { Ok(()) }
            }
            Verb::Peers => self.printer.peers(&self.admin().await?.peers().await?),
            Verb::Peer { order } => self.outcome(&self.admin().await?.order(&order.to_order()).await?),
            Verb::Consumers => self.printer.consumers(&self.admin().await?.consumers().await?),
            Verb::ForgetConsumer { name } => self.outcome(&self.admin().await?.forget_consumer(name).await?),
            Verb::Get { block, payload, signed } => self.get(block, payload.as_ref(), signed.as_ref()).await,
            Verb::Publish(args) => publish::run(self, args).await,
            Verb::Evidence { after, max } => {
                self.printer.evidence(&self.admin().await?.evidence(EvidenceId(*after), *max).await?)
            }
            Verb::Schedule { change } => self.schedule(change.as_ref()).await,
            Verb::AbandonBranch { from } => self.outcome(&self.admin().await?.abandon_branch(*from).await?),
            Verb::AssertSigned { last } => self.outcome(&self.admin().await?.assert_signed(last.0).await?),
            Verb::Disown { block } => self.outcome(&self.admin().await?.disown(*block).await?),
            Verb::RescanDa { from } => {
                self.outcome(&self.admin().await?.rescan_da(*from).await?)?;
                if !self.printer.json {
                    print(&format!("the host is to report DA again from DA height {from} on"))?;
                }
                Ok(())
            }
            Verb::Checkpoint => self.checkpoint().await,
            Verb::LiftVeto => self.outcome(&self.admin().await?.lift_veto().await?),
            Verb::LogFilter { filter } => self.outcome(&self.admin().await?.set_log_filter(filter).await?),
            Verb::Shutdown { abrupt: false } => self.shutdown(ShutdownMode::Drain).await,
            Verb::Shutdown { abrupt: true } => self.shutdown(ShutdownMode::Abrupt).await,
            Verb::Tail(_) | Verb::Schema => unreachable!("handled before a connection is made"),
        }
    }

    async fn schedule(&self, change: Option<&ScheduleChange>) -> Result<(), Failure> {
        let admin = self.admin().await?;
        match change {
            None => self.printer.schedule(&admin.schedule().await?),
            Some(ScheduleChange::Add { from, proposer }) => {
                let entry = ScheduleEntry { from: *from, proposer: *proposer };
                self.outcome(&admin.extend_schedule(entry).await?)
            }
            Some(ScheduleChange::Withdraw { from }) => self.outcome(&admin.withdraw_schedule(*from).await?),
        }
    }

    async fn checkpoint(&self) -> Result<(), Failure> {
        match self.admin().await?.checkpoint().await? {
            CheckpointAnswer::Here(checkpoint) => self.printer.checkpoint(checkpoint),
            CheckpointAnswer::None(why) => {
                Err(Failure::new(Code::Data, format!("there is no checkpoint: {}", show::plain(&why))))
            }
        }
    }

    async fn shutdown(&self, mode: ShutdownMode) -> Result<(), Failure> {
        match self.admin().await?.shutdown(mode).await {
            // It ended faster than it could answer.
            Ok(()) | Err(ClientError::Disconnected(_)) => self.printer.done(),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows a block; writes its payload, or all of it, where that is asked for.
    async fn get(&self, block: &str, payload: Option<&PathBuf>, signed: Option<&PathBuf>) -> Result<(), Failure> {
        let which = which_block(block)?;
        let client = self.connect().await?;
        let (block, inclusion) = match self.observer(&client).await?.block(which).await? {
            Lookup::Found { block, inclusion } => (block, inclusion),
            Lookup::NotFound => return Err(Failure::new(Code::Data, "that block is not on the sidecar's chain")),
            Lookup::Pruned { tail } => {
                return Err(Failure::new(
                    Code::Data,
                    format!("that block is not kept here: the lowest one is at height {tail}"),
                ));
            }
        };
        if let (Some(path), Payload::Bytes(bytes)) = (payload.or(signed), &block.payload) {
            let whole = || native::encode(&block.header, &block.signature, bytes);
            let bytes = if signed.is_some() { whole() } else { bytes.clone() };
            if path.as_os_str() == "-" {
                return print_raw(&bytes);
            }
            config::keys::create_file(path, &bytes, 0o644)?;
        }
        self.printer.block(&block, inclusion)
    }

    fn outcome(&self, outcome: &OperatorOutcome) -> Result<(), Failure> {
        match outcome {
            OperatorOutcome::Done => self.printer.done(),
            OperatorOutcome::Refused(why) => Err(Failure::new(Code::Data, format!("refused: {}", show::plain(why)))),
        }
    }
}

fn which_block(text: &str) -> Result<Which, Failure> {
    match (height(text).ok(), Hash::from_hex(text)) {
        (Some(height), _) => Ok(Which::Height(height)),
        (None, Some(hash)) => Ok(Which::Hash(hash)),
        (None, None) => {
            let shown = text.escape_debug();
            Err(Failure::new(Code::Usage, format!("`{shown}` is neither a height nor a hash of 64 hex digits")))
        }
    }
}

/// That it answers is enough to be alive; to be ready it must be at the head of its chain.
fn demand_ready(info: &ServerInfo) -> Result<(), Failure> {
    if info.phase == Phase::Following {
        return Ok(());
    }
    let phase = super::phase_name(info.phase);
    Err(Failure::new(Code::Unavailable, format!("not ready: the sidecar is {phase}")))
}

fn hello(roles: Roles) -> Hello {
    Hello { name: "blocksyncd ctl".into(), chain_id: None, roles }
}

fn granted<T>(role: Option<T>) -> Result<T, Failure> {
    role.ok_or_else(|| Failure::new(Code::Internal, "the sidecar granted less than was asked for"))
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = match &error {
            ClientError::Untrusted { .. } | ClientError::Stranger { .. } => Code::Permission,
            ClientError::WrongChain(_) | ClientError::ForkedBelowHard { .. } | ClientError::Invalid(_) => Code::Data,
            ClientError::NotSigner(_) => Code::Config,
            ClientError::Busy(_) | ClientError::Overloaded(_) => Code::Temporary,
            ClientError::Connect { .. }
            | ClientError::Disconnected(_)
            | ClientError::ClientTooOld { .. }
            | ClientError::ServerTooOld { .. }
            | ClientError::Unimplemented(_) => Code::Unavailable,
            ClientError::Failed(_) => Code::Internal,
        };
        Self::new(code, show::plain(&error.to_string()))
    }
}
