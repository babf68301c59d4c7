//! Who is connected: several connections to one peer are one peer, and it is *up* once it has said that it speaks our range
//! exchange, so that nobody is asked who cannot answer; or at once, when we dialled it because it does.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::address::without_peer;
use super::direction::Direction;
use crate::sync::PeerInfo;
use crate::util::printable::{Escape, Limit, printable};

/// What a peer may call itself, in characters.
const MAX_AGENT: usize = 64;

/// A connection on which so many pings in a row are lost is dead.
const MAX_LOST_PINGS: u32 = 3;

/// Places are for peers of the chain: others have so long to become one, or to be asked where those are.
const NON_CHAIN_FOR: Duration = Duration::from_mins(1);

/// What the node is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    Up,
    Down,
}

/// What a peer is to us, by the protocols that it lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// It speaks our range exchange, and can be asked for blocks.
    Chain,
    /// It does not, as peers of the DHT may not.
    NonChain,
}

/// What a closed connection means for its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnection {
    /// Others to the same peer are there: it is connected as before.
    OneOfSeveral,
    /// The peer is gone, or never was here; the node is told if it was up.
    Last(Option<PeerChange>),
}

/// What a ping says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    Alive,
    /// Too many pings in a row were lost: the connection is to be closed.
    Dead,
}

struct PeerConnection {
    id: ConnectionId,
    address: Multiaddr,
    direction: Direction,
    since: Instant,
    lost_pings: u32,
}

struct ConnectedPeer {
    connections: Vec<PeerConnection>,
    agent: String,
    up: bool,
    /// Whether it has said what it is, or is presumed to be one of the chain.
    identified: bool,
    /// Since when it does not speak our protocol, as far as we know; `None`: it does, or was told to go.
    non_chain_since: Option<Instant>,
    latency: Option<Duration>,
}

/// The connected peers: bounded by the connection limits.
#[derive(Default)]
pub struct PeerTable {
    peers: HashMap<PeerId, ConnectedPeer>,
}

impl PeerTable {
    pub fn connected(
        &mut self,
        peer: PeerId,
        id: ConnectionId,
        address: Multiaddr,
        direction: Direction,
        now: Instant,
    ) {
        let entry = self.peers.entry(peer).or_insert_with(|| ConnectedPeer {
            connections: Vec::new(),
            agent: String::new(),
            up: false,
            identified: false,
            non_chain_since: Some(now),
            latency: None,
        });
        entry.connections.push(PeerConnection { id, address, direction, since: now, lost_pings: 0 });
    }

    pub fn disconnected(&mut self, peer: PeerId, id: ConnectionId) -> Disconnection {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return Disconnection::Last(None);
        };
        entry.connections.retain(|connection| connection.id != id);
        if !entry.connections.is_empty() {
            return Disconnection::OneOfSeveral;
        }
        let change = entry.up.then_some(PeerChange::Down);
        self.peers.remove(&peer);
        Disconnection::Last(change)
    }

    /// It is one that speaks our protocol, as far as we know from elsewhere: it need not be waited for until it says so itself.
    pub fn presumed(&mut self, peer: PeerId) -> Option<PeerChange> {
        let entry = self.peers.get_mut(&peer)?;
        entry.identified = true;
        (!std::mem::replace(&mut entry.up, true)).then_some(PeerChange::Up)
    }

    /// A peer has told, perhaps anew, what it is and whether it speaks our protocol.
    pub fn identified(&mut self, peer: PeerId, agent: &str, kind: PeerKind) -> Option<PeerChange> {
        let entry = self.peers.get_mut(&peer)?;
        entry.agent = printable(agent, Escape::Ascii, Limit::Bytes(MAX_AGENT));
        let was_up = std::mem::replace(&mut entry.up, kind == PeerKind::Chain);
        entry.identified = true;
        match kind {
            PeerKind::Chain => {
                entry.non_chain_since = None;
                (!was_up).then_some(PeerChange::Up)
            }
            PeerKind::NonChain => was_up.then_some(PeerChange::Down),
        }
    }

    pub fn is_up(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.up)
    }

    /// Whether it is known what it is: whether it is up is decided then.
    pub fn is_identified(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.identified)
    }

    /// `None` for a lost ping.
    pub fn pinged(&mut self, peer: PeerId, id: ConnectionId, round_trip: Option<Duration>) -> Liveness {
        let Some(entry) = self.peers.get_mut(&peer) else {
            return Liveness::Alive;
        };
        if round_trip.is_some() {
            entry.latency = round_trip;
        }
        let Some(connection) = entry.connections.iter_mut().find(|connection| connection.id == id) else {
            return Liveness::Alive;
        };
        connection.lost_pings = if round_trip.is_some() { 0 } else { connection.lost_pings + 1 };
        if connection.lost_pings >= MAX_LOST_PINGS { Liveness::Dead } else { Liveness::Alive }
    }

    /// When the next peer will have been here for long without being one of the chain.
    pub fn next_idle_non_chain_peer(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.non_chain_since).min().map(|since| since + NON_CHAIN_FOR)
    }

    /// Those that have been here for long without speaking our protocol, as peers of the DHT may; each is told once.
    pub fn take_idle_non_chain_peers(&mut self, now: Instant) -> Vec<PeerId> {
        let is_late = |peer: &ConnectedPeer| peer.non_chain_since.is_some_and(|since| now >= since + NON_CHAIN_FOR);
        let late = self.peers.iter_mut().filter(|(_, peer)| is_late(peer));
        late.map(|(id, peer)| {
            peer.non_chain_since = None;
            *id
        })
        .collect()
    }

    pub fn ids(&self) -> impl Iterator<Item = PeerId> {
        self.peers.keys().copied()
    }

    /// Where we dialled it.
    pub fn dialled(&self, peer: PeerId) -> Option<&Multiaddr> {
        let connections = &self.peers.get(&peer)?.connections;
        connections
            .iter()
            .find(|connection| connection.direction == Direction::Outbound)
            .map(|connection| &connection.address)
    }

    /// For an operator to read, as far as it is known here.
    pub fn info(&self, id: PeerId, now: Instant) -> PeerInfo {
        let mut info = PeerInfo { peer: id.to_base58(), ..PeerInfo::default() };
        let Some(peer) = self.peers.get(&id) else { return info };
        if let Some(oldest) = peer.connections.first() {
            info.addresses.push(without_peer(&oldest.address).to_string());
            info.outbound = oldest.direction == Direction::Outbound;
            info.connected = Some(now.duration_since(oldest.since));
        }
        info.agent.clone_from(&peer.agent);
        info.latency = peer.latency;
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(id: usize) -> ConnectionId {
        ConnectionId::new_unchecked(id)
    }

    #[test]
    fn two_connections_are_one_peer_and_only_speakers_are_up() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut peers = PeerTable::default();
        peers.connected(peer, connection(1), Multiaddr::empty(), Direction::Outbound, now);
        assert!(!peers.is_up(peer));
        assert_eq!(peers.identified(peer, "other/1", PeerKind::NonChain), None);
        assert_eq!(peers.identified(peer, "blocksyncd/1", PeerKind::Chain), Some(PeerChange::Up));
        peers.connected(peer, connection(2), Multiaddr::empty(), Direction::Inbound, now);
        assert_eq!(peers.identified(peer, "blocksyncd/1", PeerKind::Chain), None);
        assert_eq!(peers.disconnected(peer, connection(1)), Disconnection::OneOfSeveral);
        assert!(peers.info(peer, now).connected.is_some());
        // It stops to speak the protocol, and starts again.
        assert_eq!(peers.identified(peer, "blocksyncd/1", PeerKind::NonChain), Some(PeerChange::Down));
        assert_eq!(peers.identified(peer, "blocksyncd/1", PeerKind::Chain), Some(PeerChange::Up));
        assert_eq!(peers.disconnected(peer, connection(2)), Disconnection::Last(Some(PeerChange::Down)));
        assert_eq!(peers.identified(peer, "too late", PeerKind::Chain), None);
        assert_eq!((peers.ids().count(), peers.info(peer, now).connected), (0, None));
    }

    #[test]
    fn what_a_peer_calls_itself_is_cut_and_escaped() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut peers = PeerTable::default();
        peers.connected(peer, connection(1), Multiaddr::empty(), Direction::Outbound, now);
        peers.identified(peer, &format!("\x1b[31m\n{}", "é".repeat(5000)), PeerKind::Chain);
        let agent = peers.info(peer, now).agent;
        assert!(agent.starts_with("\\u{1b}[31m\\n\\u{e9}"), "{agent}");
        assert!(agent.len() == MAX_AGENT && agent.is_ascii(), "{agent}");
    }

    #[test]
    fn who_does_not_speak_our_protocol_does_not_stay() {
        let (now, [peer, other]) = (Instant::now(), [PeerId::random(), PeerId::random()]);
        let mut peers = PeerTable::default();
        peers.connected(peer, connection(1), Multiaddr::empty(), Direction::Outbound, now);
        peers.connected(other, connection(2), Multiaddr::empty(), Direction::Outbound, now);
        peers.identified(peer, "", PeerKind::Chain);
        peers.identified(other, "", PeerKind::NonChain);
        assert_eq!(peers.next_idle_non_chain_peer(), Some(now + NON_CHAIN_FOR));
        assert!(peers.take_idle_non_chain_peers(now).is_empty());
        assert_eq!(peers.take_idle_non_chain_peers(now + NON_CHAIN_FOR), [other]);
        assert_eq!(
            (peers.next_idle_non_chain_peer(), peers.take_idle_non_chain_peers(now + NON_CHAIN_FOR)),
            (None, vec![])
        );
    }

    #[test]
    fn lost_pings_in_a_row_mean_a_dead_connection() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut peers = PeerTable::default();
        peers.connected(peer, connection(1), Multiaddr::empty(), Direction::Outbound, now);
        let lost = |peers: &mut PeerTable| peers.pinged(peer, connection(1), None);
        assert_eq!([lost(&mut peers), lost(&mut peers)], [Liveness::Alive; 2]);
        assert_eq!(peers.pinged(peer, connection(1), Some(Duration::from_millis(3))), Liveness::Alive);
        assert_eq!(peers.info(peer, now).latency, Some(Duration::from_millis(3)));
        assert_eq!([lost(&mut peers), lost(&mut peers)], [Liveness::Alive; 2]);
        assert_eq!(lost(&mut peers), Liveness::Dead);
    }
}
