//! The network: libp2p, and nothing that decides. Commands go in, events come out, everything bounded.
//!
//! (Seam sketch: types are the contract, bodies are to be written.)

mod address;
mod key;
mod limits;
mod view;
mod wire;

pub use key::{KeyError, NodeKeyFile, peer_id_of};
pub use limits::{Limits, LimitsError, Queue};
pub use view::{Source, View};

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

pub use address::{check_listen_address, check_seed_address};

use crate::block::Lane;
use crate::store::Reader;
use crate::sync::{Fetch, Offence, PeerId, PeerInfo, RequestId, Ticket, Verdict};

pub struct Config {
    /// ed25519 seed of the node key.
    pub node_key: [u8; 32],
    /// Multiaddrs.
    pub listen: Vec<String>,
    pub seeds: Vec<String>,
    /// One go-header network id per lane.
    pub network_ids: Vec<String>,
    pub max_block_bytes: usize,
    /// Of all queues and buffers here together.
    pub memory_bytes: usize,
}

/// What the node asks of the network.
#[derive(Debug)]
pub enum Command {
    Judge {
        ticket: Ticket,
        verdict: Verdict,
    },
    Fetch(Fetch),
    Cancel(RequestId),
    /// Disconnect, and keep away for that long.
    Ban {
        peer: PeerId,
        offence: Offence,
        duration: Duration,
    },
    Broadcast {
        lane: Lane,
        bytes: Bytes,
    },
    Peers(oneshot::Sender<Vec<PeerInfo>>),
}

/// What the network tells the node.
#[derive(Debug)]
pub enum Event {
    Listening(String),
    PeerUp(PeerId),
    PeerDown(PeerId),
    Gossip {
        peer: PeerId,
        ticket: Ticket,
        lane: Lane,
        bytes: Bytes,
    },
    /// Dropped unread: our own queue was full.
    GossipMissed(PeerId),
    Fetched {
        request: RequestId,
        lane: Lane,
        bodies: Vec<Bytes>,
        ended: StreamEnded,
    },
}

/// As `sync::Ended`, before the bodies have been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnded {
    Complete,
    NotFound,
    Reset,
    Timeout,
    Disconnected,
    Unsupported,
    /// A frame broke the exchange protocol.
    Broken,
    NotSent,
}

/// The running network. Dropping it ends it.
pub struct Handle {
    pub commands: mpsc::Sender<Command>,
    /// base58.
    pub local_peer_id: String,
}

/// Starts listening and dialling. Seeds are dialled for ever, with backoff.
pub async fn start(_config: Config, _reader: Reader, _events: mpsc::Sender<Event>) -> Result<Handle, StartError> {
    Err(StartError { address: String::new(), why: "not built yet".into() })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {why}")]
pub struct StartError {
    pub address: String,
    pub why: String,
}
