//! The gate: the one behaviour that lets connections in and out, or does not. What it is asked by libp2p it asks the table;
//! see [`rules`], which decides, [`evict`], [`bans`], and [`subject`].
//!
//! Invariants:
//! 1. Every connection, inbound or outbound, whoever wanted it, passes here twice: before its handshake by address, and
//!    after it by peer and address.
//! 2. Who is evicted is closed by the same call that let the newcomer in.

mod bans;
mod evict;
mod rules;
mod subject;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};

use super::address::{ip_of, to_core, to_libp2p};
use super::direction::Direction;
use crate::clock::Clock;

pub use bans::{Ban, Bans, LONGEST};
use rules::Refusal;
pub use rules::{ConnectionLimits, GateRules, Table};
pub use subject::{Subject, Subnet};

pub struct Gate {
    pub table: Table<ConnectionId>,
    clock: Clock,
    /// At most one for each connection.
    to_close: VecDeque<(libp2p::PeerId, ConnectionId)>,
}

impl Gate {
    pub fn new(table: Table<ConnectionId>, clock: Clock) -> Self {
        Self { table, clock, to_close: VecDeque::new() }
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.clock.now().unix_nanos)
    }

    /// Closes the connections that the rules, which have changed, no longer let in.
    pub fn enforce(&mut self) {
        for (id, peer) in self.table.unwelcome(self.now()) {
            self.close(id, &peer);
        }
    }

    fn close(&mut self, id: ConnectionId, peer: &crate::sync::PeerId) {
        if let Some(peer) = to_libp2p(peer) {
            self.to_close.push_back((peer, id));
        }
    }
}

fn refused(peer: Option<libp2p::PeerId>, ip: Option<IpAddr>, refusal: Refusal) -> ConnectionDenied {
    let peer = peer.map(libp2p::PeerId::to_base58);
    if let Refusal::TooMany(..) = refusal {
        // An operator who wonders where the peers are must find it.
        tracing::info!(?ip, ?peer, %refusal, "a connection is refused");
    } else {
        tracing::debug!(?ip, ?peer, %refusal, "a connection is refused");
    }
    ConnectionDenied::new(refusal)
}

impl NetworkBehaviour for Gate {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let ip = ip_of(remote);
        self.table.may_try(ip, self.now()).map_err(|refusal| refused(None, ip, refusal))?;
        self.table.pending(id, Direction::Inbound, None, ip);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let ip = ip_of(remote);
        let entered = self.table.may_enter(&to_core(peer), ip, self.now());
        if let Some(evicted) = entered.map_err(|refusal| refused(Some(peer), ip, refusal))?
            && let Some(victim) = self.table.peer_of(evicted).cloned()
        {
            tracing::info!(?victim, newcomer = %peer, "a peer makes room for one from another subnet");
            self.close(evicted, &victim);
            // Its place is free now, and not only when it has gone.
            self.table.gone(evicted);
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<libp2p::PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let ips: Vec<_> = addresses.iter().filter_map(ip_of).collect();
        let named = peer.map(to_core);
        let judged = self.table.may_dial(named.as_ref(), &ips, self.now());
        judged.map_err(|refusal| refused(peer, ips.first().copied(), refusal))?;
        self.table.pending(id, Direction::Outbound, named.as_ref(), None);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let ip = ip_of(address);
        let judged = self.table.may_be_joined(&to_core(peer), ip, self.now());
        judged.map_err(|refusal| refused(Some(peer), ip, refusal))?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let (now, endpoint) = (self.now(), established.endpoint);
                let ip = ip_of(endpoint.get_remote_address());
                let peer = to_core(established.peer_id);
                self.table.established(established.connection_id, peer, endpoint.into(), ip, now);
            }
            FromSwarm::ConnectionClosed(closed) => self.table.gone(closed.connection_id),
            FromSwarm::DialFailure(failure) => self.table.gone(failure.connection_id),
            FromSwarm::ListenFailure(failure) => self.table.gone(failure.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: libp2p::PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Nothing is ever added but by calls of the swarm or the driver, both of which poll afterwards.
        let Some((peer_id, id)) = self.to_close.pop_front() else { return Poll::Pending };
        Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) })
    }
}
