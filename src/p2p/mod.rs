//! The network: libp2p. It decides about connections (whom to dial, whom to let in, who is evicted, when a ban ends, how fast
//! a peer is served), and never about blocks. Commands go in, events come out, everything bounded.
//!
//! ```text
//!   Command --> driver --> swarm --+-- gossip     blocks as they are made, passed on only after their verdict
//!   Event   <--  outbox <--        +-- exchange   ranges: fetch asks, serve answers, wire has the bytes
//!                                  +-- gate       who may connect: limits, lists, bans
//!                                  +-- identify, ping
//!               listeners, seeds, peers, roll_call, tickets: small plain states beside it
//! ```
//!
//! Invariants:
//! 1. Nothing is passed on to other peers before the node has accepted it.
//! 2. Whatever the network sends is bounded before it is allocated; every queue's length follows from [`Limits`].
//! 3. The node and the network never wait for each other: a full event queue costs gossip, which is said
//!    ([`Event::GossipMissed`]), and delays the rest; commands are always taken.
//! 4. Each [`Command::Fetch`] is answered by exactly one [`Event::Fetched`], unless it is cancelled.
//! 5. A seed is dialled for ever, and so is a persistent peer.
//! 6. Nobody is connected whom the gate has not let in.
//!
//! Not here: what a block is, who is to be banned, whom to ask for what.

mod address;
mod address_book;
mod dialer;
mod direction;
mod discovery;
mod driver;
mod exchange;
mod fetch;
mod gate;
mod gossip;
mod key;
mod limits;
mod listeners;
mod memory_budget;
mod operate;
mod outbox;
mod peers;
mod policy;
mod rate_limit;
mod resolve;
mod roll_call;
mod seeds;
mod serve;
mod start;
mod swarm;
mod view;
mod wire;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::block::Lane;
use crate::sync::{
    Acquaintance, Fetch, FetchOutcome, Offence, PeerId, PeerList, PeerOrder, PeerStanding, RequestId, Ticket, Verdict,
};

pub use address::{check_listen_address, check_seed_address};
pub use key::peer_id_of;
pub use limits::{Limits, LimitsError, QueueBound};
pub use policy::{PeerPolicy, PolicyError};
pub use start::{start, start_with};
pub use view::{ServeSource, ServeView};

/// What the network is to be.
#[derive(Clone)]
pub struct Config {
    /// ed25519 seed of the node key.
    pub node_key: [u8; 32],
    /// Multiaddrs; see [`check_listen_address`].
    pub listen: Vec<String>,
    /// Multiaddrs, best with the peer's id.
    pub seeds: Vec<String>,
    /// Who may be a peer.
    pub policy: PeerPolicy,
    /// Where it is kept what is known of peers, with the bans; `None`: it is forgotten with the process.
    pub address_book: Option<PathBuf>,
    /// One go-header network id per lane.
    pub network_ids: Vec<String>,
    pub max_block_bytes: usize,
    /// Of all queues and buffers here together; see [`Limits`].
    pub memory_bytes: usize,
}

/// Without the key.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .field("seeds", &self.seeds)
            .field("policy", &self.policy)
            .field("address_book", &self.address_book)
            .field("network_ids", &self.network_ids)
            .field("max_block_bytes", &self.max_block_bytes)
            .field("memory_bytes", &self.memory_bytes)
            .finish_non_exhaustive()
    }
}

/// What the node asks of the network.
#[derive(Debug)]
pub enum Command {
    /// The verdict on a gossiped message. One that comes later than six seconds changes nothing.
    Judge { ticket: Ticket, verdict: Verdict },
    /// Asks a peer. The answer is cut at `max_bytes`, and at the network's own share of memory, but never below one block:
    /// it then ends early, as [`FetchOutcome::Cut`].
    Fetch(Fetch),
    /// Nobody waits for the answer any more: there will be none.
    Cancel(RequestId),
    /// Disconnect, and keep away for that long.
    Ban { peer: PeerId, offence: Offence, duration: Duration },
    /// Tries everybody in the address book, and the seeds, once; answered by [`Event::KnownPeersTried`], unless a later one comes first.
    TryKnownPeers { round: u64 },
    /// Gossips a block of our own. That nobody is there to hear it is no error.
    Broadcast { lane: Lane, bytes: Bytes },
    /// Who is here, who should be, and who is kept away; `standings` is what the node thinks of them.
    Peers { standings: BTreeMap<PeerId, PeerStanding>, reply: oneshot::Sender<PeerList> },
    /// An operator's; answered when it will outlive the process, or why it is not done.
    Order { order: PeerOrder, reply: oneshot::Sender<Result<(), String>> },
}

/// What the network tells the node.
#[derive(Debug)]
pub enum Event {
    /// An actual address, one of several when listening on all interfaces, with our peer id: what others take for a seed.
    Listening(String),
    /// Once: each configured listener has told its addresses, or is known to have none.
    Started,
    /// Connected, and speaks our range exchange.
    PeerUp(PeerId),
    /// Its last connection is gone, or it no longer speaks our range exchange. Only after a `PeerUp`.
    PeerDown(PeerId),
    /// Everybody in the address book, and each seed, was dialled since [`Command::TryKnownPeers`]; `PeerUp` was told of whom that
    /// has reached.
    KnownPeersTried { round: u64 },
    /// A gossiped message; `peer` handed it to us, whoever made it. It may be up to 64 KiB longer than a block may be.
    Gossip { peer: PeerId, ticket: Ticket, lane: Lane, bytes: Bytes },
    /// One or more messages from this peer were dropped unread: our own queue was full.
    GossipMissed(PeerId),
    /// `bodies` are whole, not empty, at most `max_block_bytes` each and no more than asked for, in the order of arrival;
    /// good to use however it ended. What is in them nobody has looked at: [`FetchOutcome::Invalid`] means that a frame broke the
    /// exchange protocol, and never carries a fault.
    Fetched { request: RequestId, lane: Lane, bodies: Vec<Bytes>, outcome: FetchOutcome },
}

/// The running network. Dropping it ends it.
#[derive(Debug)]
pub struct Handle {
    pub commands: mpsc::Sender<Command>,
    /// base58.
    pub local_peer_id: String,
    /// Whether anybody could be tried at the start.
    pub known_peers: Acquaintance,
    /// What the memory budget was divided into.
    pub limits: Limits,
    _stop: oneshot::Sender<Infallible>,
}

/// Why the network cannot start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {why}")]
    Listen { address: String, why: String },
    #[error("the address `{address}` {why}")]
    Address { address: String, why: String },
    #[error("`{0}` cannot be a network id: it must not be empty, and there may be 255 of them at most")]
    NetworkId(String),
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error(transparent)]
    PeerPolicy(#[from] PolicyError),
    #[error("SSLKEYLOGFILE is set, and QUIC would write its session keys there: unset it, or use no quic-v1 address")]
    KeyLog,
    #[error("the network cannot be set up: {0}")]
    Library(String),
}
