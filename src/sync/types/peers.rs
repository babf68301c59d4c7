//! Between the network and an operator: who is connected, who is kept away, and what the core thinks of them.

use std::time::Duration;

use super::exchange::Offence;

/// A peer, for an operator to read: connected, or persistent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerInfo {
    /// libp2p's text form, base58.
    pub peer: String,
    /// Of the connection; then where else it may be reached.
    pub addresses: Vec<String>,
    /// Whether we dialled it.
    pub outbound: bool,
    /// As it calls itself, escaped and cut to 64 characters: not to be trusted.
    pub agent: String,
    /// For how long; `None`: it is not connected.
    pub connected: Option<Duration>,
    /// Round trip of the last ping.
    pub latency: Option<Duration>,
    /// Never evicted, and never banned by the machine.
    pub persistent: bool,
    /// What it gave us, in this and earlier connections.
    pub blocks: u64,
    pub bytes: u64,
    pub standing: PeerStanding,
}

/// A ban in force, for an operator to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanInfo {
    /// A peer id, an IP address, or a subnet.
    pub subject: String,
    pub reason: String,
    pub left: Duration,
    pub by_operator: bool,
}

/// What an operator asks of the network's peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerList {
    pub peers: Vec<PeerInfo>,
    pub bans: Vec<BanInfo>,
}

/// What the core thinks of a peer: the selection score, and the ban score.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStanding {
    /// Selection: how long an answer is expected to take now; the peer with the least is asked first.
    pub expected_wait: Duration,
    /// Selection: requests in a row that brought nothing.
    pub failures: u32,
    /// Selection: nothing is asked of it for so long.
    pub rests: Duration,
    /// Bans that it has earned since this process started; each is twice as long as the one before.
    pub bans: u32,
    /// Blocks with a wrong signature that it handed us in the current minute.
    pub bad_signatures: u32,
    /// What it did wrong last, and how long ago.
    pub last_offence: Option<(Offence, Duration)>,
}

/// What an operator orders about peers. The texts are checked by the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerOrder {
    /// Make the peer at this multiaddr a persistent one.
    Add {
        address: String,
    },
    /// It is not persistent any more.
    Remove {
        peer: String,
    },
    /// Keep a peer, an address or a subnet away for a while.
    Ban {
        subject: String,
        duration: Duration,
        reason: String,
    },
    Unban {
        subject: String,
    },
}
