//! The host's API: Cap'n Proto over a Unix socket, on one thread of its own. Translates, bounds and answers; decides nothing.
//!
//! (Seam sketch: types are the contract, bodies are to be written.)

#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, missing_debug_implementations, unused_qualifications)]
mod blocksync_capnp;
pub mod client;
mod convert;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::block::{BlockId, ChainId, Height, PublicKey};
use crate::store::{Durability, Reader};
use crate::sync::{Command, DaPosition, Heads, PeerInfo, Phase, Proposal, PublishAnswer, RejectAnswer, Status};
use crate::verify::ScheduleEntry;

pub struct Config {
    pub socket: PathBuf,
    /// Users other than our own and root that may connect.
    pub allow_uids: Vec<u32>,
    pub chain_id: ChainId,
    pub initial_height: Height,
    pub peer_id: String,
    /// The key that this node signs with, unless a host brings its own.
    pub proposer: Option<PublicKey>,
    pub durability: Durability,
    pub max_block_bytes: usize,
    /// Of all sessions together.
    pub memory_bytes: usize,
    pub max_connections: usize,
    /// Streams are woken at least this often, whatever happens.
    pub block_time: Duration,
}

/// What the API needs to see: the announced heads and phase, which change together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    pub heads: Heads,
    pub phase: Phase,
}

/// What a host, or an operator, asks of the node. A reply that is dropped means that the node is ending.
#[derive(Debug)]
pub enum Request {
    Publish {
        proposal: Proposal,
        reply: oneshot::Sender<PublishAnswer>,
    },
    /// An encoded SignedBlock; the node checks it.
    PublishSigned {
        bytes: Bytes,
        reply: oneshot::Sender<PublishAnswer>,
    },
    Report {
        after: u64,
        scanned_through: u64,
        sightings: Vec<ReportedSighting>,
        reply: oneshot::Sender<Reported>,
    },
    Reject {
        block: BlockId,
        reply: oneshot::Sender<RejectAnswer>,
    },
    Ack {
        consumer: String,
        up_to: BlockId,
        reply: oneshot::Sender<bool>,
    },
    Operate {
        command: Command,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Status {
        reply: oneshot::Sender<NodeStatus>,
    },
    Peers {
        reply: oneshot::Sender<Vec<PeerInfo>>,
    },
    Schedule {
        reply: oneshot::Sender<Vec<ScheduleEntry>>,
    },
    /// A host signs from now on, with this key, until `signatures` is closed. `Err` says why it may not.
    SetSigner {
        key: PublicKey,
        signatures: mpsc::Sender<SignRequest>,
        reply: oneshot::Sender<Result<(), String>>,
    },
    SetLogFilter {
        filter: String,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Shutdown {
        abrupt: bool,
    },
}

/// One block to be signed by the host. Dropping `reply` means that there is no signature now.
#[derive(Debug)]
pub struct SignRequest {
    /// Domain prefix and header bytes.
    pub message: Bytes,
    pub id: BlockId,
    pub reply: oneshot::Sender<[u8; 64]>,
}

/// A sighting as the host reports it; blocks among them are not checked yet.
#[derive(Clone, Debug)]
pub struct ReportedSighting {
    pub position: DaPosition,
    pub height: Height,
    pub what: ReportedAs,
}

#[derive(Clone, Debug)]
pub enum ReportedAs {
    Hash(crate::block::Hash),
    SignedBlock(Bytes),
    HostId(Bytes),
    PayloadHash(crate::block::Hash),
}

#[derive(Clone, Debug)]
pub struct Reported {
    pub scanned_through: u64,
    pub wanted: Vec<BlockId>,
    /// Sightings that were no valid blocks of this chain.
    pub junk: u32,
}

/// The core's status, and what the node adds to it.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub core: Status,
    pub uptime: Duration,
    /// Each with `/p2p/<peer id>`.
    pub listen: Vec<String>,
}

/// The running API. Dropping it ends it at once and removes the socket.
pub struct Handle {}

impl Handle {
    /// Answers what is parked, tells the hosts, and ends within the grace.
    pub async fn drain(self, _grace: Duration) {}
}

/// Takes the lock, binds the socket, and serves until the handle is dropped or drained. A full `requests` queue is answered with
/// `overloaded`.
pub fn start(
    _config: Config,
    _reader: Reader,
    _announced: watch::Receiver<Announced>,
    _requests: mpsc::Sender<Request>,
) -> Result<Handle, StartError> {
    Err(StartError::Io("not built yet".into()))
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("another process serves the socket {0}")]
    InUse(PathBuf),
    #[error("the socket path {path} has {len} bytes; the system allows {max}: choose a shorter one")]
    PathTooLong { path: PathBuf, len: usize, max: usize },
    #[error("cannot serve the host's socket: {0}")]
    Io(String),
}
