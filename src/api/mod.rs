//! The host's API: Cap'n Proto over a Unix socket, on one thread of its own. Translates, bounds and answers; decides nothing.
//!
//! ```text
//!   host --unix--> link (frames, bounds) --> session, stream, publisher, admin --Request--> node
//!                                                  |  feed: a cursor over one view of the store
//!                                                  '--> store (read beside the thread)
//! ```
//!
//! - `limits`: every bound, from one budget; `socket`: who may come in; `accept`: the thread; `link`: one client's bytes.
//! - `shared`: what connections share; on it `session`, `stream`, `publisher`, `admin`: what a client can call; `feed`: what a
//!   stream says.
//! - `convert`, `info`, `status`, `report`, `orders`: words that the server writes and a client reads.
//! - [`client`]: the other side, for `ctl`, the mock execution and tests. It names nothing of the server's.
//!
//! Invariants:
//! 1. Memory is bounded by [`Config::memory_bytes`], whatever clients do.
//! 2. No client can harm another one, or the node: what it breaks is its own connection.
//! 3. A role has one holder; whoever took it last.
//! 4. Nothing is told that was not announced.

#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, missing_debug_implementations, unused_qualifications)]
mod blocksync_capnp;
mod accept;
mod accounting;
mod admin;
pub mod client;
mod convert;
mod feed;
mod frame;
mod goodbye;
mod info;
mod limits;
mod link;
mod orders;
mod publisher;
mod report;
mod reporter;
mod session;
mod shared;
mod socket;
mod status;
mod stream;
mod upload;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

pub use limits::{BlockBytes, SIGNER_DEADLINE, least_memory};
pub use orders::ShutdownMode;
pub use report::{DenialReason, ReportDenial, ReportResult, ReportedAs, ReportedSighting};
pub use socket::MAX_SOCKET_PATH_BYTES;
pub use view::{HostSource, HostView};

use crate::block::{BlockId, ChainId, Height, PublicKey};
use crate::store::{Durability, Reader};
use crate::sync::{
    Command, DaEvidence, Heads, PeerList, PeerOrder, Phase, Proposal, PublishAnswer, RejectAnswer, ReportAnswer, Status,
};
use crate::verify::ScheduleEntry;

/// What the API is to be.
#[derive(Clone, Debug)]
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
    pub block_bytes: BlockBytes,
    /// A rule of the chain.
    pub da_evidence: DaEvidence,
    /// Of all sessions together; at least [`least_memory`].
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
    /// An encoded `SignedBlock`; the node checks it.
    PublishSigned {
        bytes: Bytes,
        reply: oneshot::Sender<PublishAnswer>,
    },
    Report {
        after: u64,
        scanned_through: u64,
        sightings: Vec<ReportedSighting>,
        reply: oneshot::Sender<ReportAnswer>,
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
        reply: oneshot::Sender<PeerList>,
    },
    /// Done when it will outlive the process.
    OrderPeers {
        order: PeerOrder,
        reply: oneshot::Sender<Result<(), String>>,
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
        mode: ShutdownMode,
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

/// The core's status, and what the node adds to it.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub core: Status,
    pub uptime: Duration,
    /// Each with `/p2p/<peer id>`.
    pub listen: Vec<String>,
    /// There is a guard, but no signer: neither a key file nor a host's `Signer`.
    pub awaits_signer: bool,
}

/// The running API. Dropping it ends it at once and removes the socket.
#[derive(Debug)]
pub struct Handle {
    draining: watch::Sender<bool>,
    stop: CancellationToken,
    /// Closed when the thread has drained.
    ended: oneshot::Receiver<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Handle {
    /// Says `draining` to everybody who waits, lets calls in flight be answered, and disconnects; whoever is not done after
    /// `grace` is cut off.
    pub async fn drain(mut self, grace: Duration) {
        self.draining.send_replace(true);
        if tokio::time::timeout(grace, &mut self.ended).await.is_err() {
            tracing::warn!(?grace, "hosts are cut off");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the API's thread has panicked");
        }
    }
}

/// Takes the lock, binds the socket, and serves until the handle is dropped or drained. A full `requests` queue is answered with
/// `overloaded`.
///
/// # Errors
/// [`StartError`].
pub fn start(
    config: Config,
    reader: Reader,
    announced: watch::Receiver<Announced>,
    requests: mpsc::Sender<Request>,
) -> Result<Handle, StartError> {
    start_over(config, Arc::new(reader), announced, requests)
}

/// As [`start`], over anything that can be read like a store.
///
/// # Errors
/// [`StartError`].
pub fn start_over(
    config: Config,
    source: Arc<dyn HostSource>,
    announced: watch::Receiver<Announced>,
    requests: mpsc::Sender<Request>,
) -> Result<Handle, StartError> {
    let limits = limits::Limits::derive(config.memory_bytes, config.max_connections, config.block_bytes)
        .map_err(StartError::Io)?;
    let lock = socket::SocketLock::take(&config.socket, &config.allow_uids)?;
    let node = shared::NodeLink { announced, requests };
    let (draining, drains) = watch::channel(false);
    let (end, ended) = oneshot::channel();
    let (started, outcome) = std::sync::mpsc::sync_channel(1);
    let stop = CancellationToken::new();
    let thread = accept::ApiThread {
        server: Box::new(move || shared::ApiServer::new(config, limits, source, node, drains)),
        lock,
        stop: stop.clone(),
        started,
    };
    let thread = std::thread::Builder::new()
        .name("api".into())
        .spawn(move || {
            thread.main();
            // Nobody may be waiting.
            let _ = end.send(());
        })
        .map_err(|error| StartError::Io(error.to_string()))?;
    let handle = Handle { draining, stop, ended, thread: Some(thread) };
    outcome.recv().map_err(|_| StartError::Io("the thread ended before it began".into()))??;
    Ok(handle)
}

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("another process serves the socket {0}")]
    InUse(PathBuf),
    #[error("the socket path {path} has {len} bytes; the system allows {max}: choose a shorter one")]
    PathTooLong { path: PathBuf, len: usize, max: usize },
    #[error("cannot serve the host's socket: {0}")]
    Io(String),
}
