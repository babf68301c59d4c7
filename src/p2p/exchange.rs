//! The range exchange as a libp2p behaviour: opens a stream for each request of ours, and serves each stream of a peer.
//!
//! Not built on libp2p's own `request-response`: there, an answer is complete or an error, while here the blocks before an
//! error count; its limits are per protocol rather than per request; and a second lane needs a second copy of it.
//!
//! Invariants:
//! 1. Every request that was accepted ends in exactly one [`ExchangeEvent`], unless it was cancelled.
//! 2. Streams, ours and theirs, are bounded per connection; serving is bounded over all connections.
//! 3. Nothing here waits for the driver: peers are served while the node is busy.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::{BoxFuture, Ready, ready};
use futures::stream::FuturesUnordered;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fetch::FetchJob;
use super::limits::{Limits, MAX_ASKS_PER_CONNECTION, MAX_SERVED_PER_CONNECTION};
use super::memory_budget::MemoryBudget;
use super::peers::PeerKind;
use super::serve::RangeServer;
use crate::block::Lane;
use crate::sync::{Fetch, FetchOutcome, RequestId};

/// The protocol of one lane, as negotiated.
#[derive(Clone, Debug)]
pub struct LaneProtocol {
    lane: Lane,
    name: StreamProtocol,
}

impl AsRef<str> for LaneProtocol {
    fn as_ref(&self) -> &str {
        self.name.as_ref()
    }
}

/// The protocols of the lanes with these go-header network ids; `None` when one cannot be part of a protocol name.
pub fn lane_protocols(network_ids: &[String]) -> Option<Vec<LaneProtocol>> {
    let protocol = |(index, id): (usize, &String)| {
        let name = StreamProtocol::try_from_owned(format!("/{id}/header-ex/v0.0.3")).ok()?;
        Some(LaneProtocol { lane: Lane(u8::try_from(index).ok()?), name })
    };
    network_ids.iter().enumerate().map(protocol).collect()
}

/// Negotiates one of the protocols, and hands over the bare stream.
#[derive(Clone, Debug)]
pub struct Upgrade(Arc<[LaneProtocol]>);

impl UpgradeInfo for Upgrade {
    type Info = LaneProtocol;
    type InfoIter = Vec<LaneProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.to_vec()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = (Lane, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: LaneProtocol) -> Self::Future {
        ready(Ok((protocol.lane, stream)))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: LaneProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

/// The answer to one of our requests.
#[derive(Debug)]
pub struct ExchangeEvent {
    pub request: RequestId,
    pub lane: Lane,
    pub bodies: Vec<Bytes>,
    pub outcome: FetchOutcome,
}

/// What became of a request that nobody waits for any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// It was open, and is forgotten: no event follows.
    Forgotten,
    /// It had ended before, so that its event is on its way, or it was never sent.
    TooLate,
}

struct OpenStream {
    peer: PeerId,
    connection: ConnectionId,
    lane: Lane,
    /// Dropped to cancel.
    _wanted: oneshot::Sender<Infallible>,
}

pub struct Behaviour {
    protocols: Arc<[LaneProtocol]>,
    max_block_bytes: usize,
    single_bytes: Arc<MemoryBudget>,
    server: Arc<RangeServer>,
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    open: HashMap<RequestId, OpenStream>,
    /// At most one of each kind per open request.
    to_swarm: VecDeque<ToSwarm<ExchangeEvent, ToHandler>>,
}

impl Behaviour {
    pub fn new(protocols: Vec<LaneProtocol>, limits: &Limits, server: RangeServer) -> Self {
        Self {
            protocols: protocols.into(),
            max_block_bytes: limits.max_block_bytes,
            single_bytes: Arc::new(MemoryBudget::new(limits.single_bytes())),
            server: Arc::new(server),
            connections: HashMap::new(),
            open: HashMap::new(),
            to_swarm: VecDeque::new(),
        }
    }

    /// What a peer is that lists these protocols.
    pub fn kind_of(&self, listed: &[StreamProtocol]) -> PeerKind {
        if self.protocols.iter().any(|protocol| listed.contains(&protocol.name)) {
            PeerKind::Chain
        } else {
            PeerKind::NonChain
        }
    }

    /// Sends a request whose answer may have `max_bytes`. An error means that nothing was sent, and no event follows.
    pub fn ask(&mut self, peer: PeerId, fetch: &Fetch, max_bytes: usize) -> Result<(), FetchOutcome> {
        let connections = self.connections.get(&peer).ok_or(FetchOutcome::Disconnected)?;
        if usize::from(fetch.lane.0) >= self.protocols.len() || self.open.contains_key(&fetch.request) {
            return Err(FetchOutcome::NotSent);
        }
        let load = |connection: &ConnectionId| self.open.values().filter(|open| open.connection == *connection).count();
        let (load, connection) = connections
            .iter()
            .map(|connection| (load(connection), *connection))
            .min()
            .ok_or(FetchOutcome::Disconnected)?;
        if load >= MAX_ASKS_PER_CONNECTION {
            return Err(FetchOutcome::NotSent);
        }
        let (wanting, wanted) = oneshot::channel();
        let job = FetchJob {
            request: fetch.request,
            query: fetch.query,
            max_bytes,
            max_block_bytes: self.max_block_bytes,
            single_bytes: Arc::clone(&self.single_bytes),
            deadline: Instant::now() + fetch.timeout,
            wanted,
        };
        self.open.insert(fetch.request, OpenStream { peer, connection, lane: fetch.lane, _wanted: wanting });
        let event = ToHandler { job, lane: fetch.lane };
        self.to_swarm.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event,
        });
        Ok(())
    }

    pub fn cancel(&mut self, request: RequestId) -> Cancellation {
        match self.open.remove(&request) {
            Some(_) => Cancellation::Forgotten,
            None => Cancellation::TooLate,
        }
    }

    fn answered(&mut self, request: RequestId, bodies: Vec<Bytes>, outcome: FetchOutcome) {
        if let Some(open) = self.open.remove(&request) {
            self.to_swarm.push_back(ToSwarm::GenerateEvent(ExchangeEvent {
                request,
                lane: open.lane,
                bodies,
                outcome,
            }));
        }
    }

    fn disconnected(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(connections) = self.connections.get_mut(&peer) {
            connections.retain(|other| *other != connection);
            if connections.is_empty() {
                self.connections.remove(&peer);
            }
        }
        let lost = |(request, open): (&RequestId, &OpenStream)| {
            (open.peer == peer && open.connection == connection).then_some(*request)
        };
        let lost: Vec<_> = self.open.iter().filter_map(lost).collect();
        for request in lost {
            self.answered(request, Vec::new(), FetchOutcome::Disconnected);
        }
    }

    fn new_handler(&self, peer: PeerId) -> Handler {
        Handler {
            peer,
            protocols: self.protocols.clone(),
            budget: Arc::new(self.server.connection_budget()),
            server: self.server.clone(),
            to_open: VecDeque::new(),
            asking: FuturesUnordered::new(),
            failed: VecDeque::new(),
            serving: FuturesUnordered::new(),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = ExchangeEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.new_handler(peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.new_handler(peer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.connections.entry(established.peer_id).or_default().push(established.connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.disconnected(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        self.answered(event.request, event.bodies, event.outcome);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // Nothing is ever added but by calls of the swarm or the driver, both of which poll afterwards.
        self.to_swarm.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// A request for a connection's handler.
#[derive(Debug)]
pub struct ToHandler {
    job: FetchJob,
    lane: Lane,
}

/// What became of a request.
#[derive(Debug)]
pub struct FromHandler {
    request: RequestId,
    bodies: Vec<Bytes>,
    outcome: FetchOutcome,
}

/// One connection's streams.
pub struct Handler {
    peer: PeerId,
    protocols: Arc<[LaneProtocol]>,
    server: Arc<RangeServer>,
    /// This connection's share of the server's memory.
    budget: Arc<MemoryBudget>,
    /// At most [`MAX_ASKS_PER_CONNECTION`], with `asking` and `failed` together.
    to_open: VecDeque<ToHandler>,
    asking: FuturesUnordered<BoxFuture<'static, Option<FromHandler>>>,
    failed: VecDeque<FromHandler>,
    /// At most [`MAX_SERVED_PER_CONNECTION`].
    serving: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Handler {
    fn serve(&self, lane: Lane, stream: Stream) {
        if self.serving.len() >= MAX_SERVED_PER_CONNECTION {
            tracing::debug!("a peer has too many requests open; one is reset");
            return;
        }
        let (server, budget, peer) = (self.server.clone(), self.budget.clone(), self.peer);
        self.serving.push(Box::pin(async move {
            if let Err(refused) = server.serve(peer, lane, stream, &budget).await {
                tracing::debug!(%refused, "a request is not answered");
            }
        }));
    }

    fn ask(&self, stream: Stream, order: ToHandler) {
        let request = order.job.request;
        let asking = async move {
            let (bodies, outcome) = order.job.run(stream).await?;
            Some(FromHandler { request, bodies, outcome })
        };
        self.asking.push(Box::pin(asking));
    }

    fn not_opened(&mut self, order: &ToHandler, error: &StreamUpgradeError<Infallible>) {
        let outcome = match error {
            StreamUpgradeError::Timeout => FetchOutcome::Timeout,
            StreamUpgradeError::NegotiationFailed => FetchOutcome::Unsupported,
            StreamUpgradeError::Apply(never) => match *never {},
            StreamUpgradeError::Io(_) => FetchOutcome::Reset,
        };
        self.failed.push_back(FromHandler { request: order.job.request, bodies: Vec::new(), outcome });
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = FromHandler;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ToHandler;

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(self.protocols.clone()), ())
    }

    /// A peer stays connected while there is nothing to say: gossip alone would drop those outside of the mesh.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, order: ToHandler) {
        self.to_open.push_back(order);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, ToHandler, FromHandler>> {
        if let Some(failed) = self.failed.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(failed));
        }
        while let Poll::Ready(Some(asked)) = self.asking.poll_next_unpin(cx) {
            if let Some(answer) = asked {
                return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(answer));
            }
        }
        if let Some(order) = self.to_open.pop_front() {
            let protocol = self.protocols.iter().filter(|protocol| protocol.lane == order.lane).cloned().collect();
            let timeout = order.job.deadline.saturating_duration_since(Instant::now());
            let protocol = SubstreamProtocol::new(Upgrade(protocol), order).with_timeout(timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        while let Poll::Ready(Some(())) = self.serving.poll_next_unpin(cx) {}
        Poll::Pending
    }

    /// The connection is gone: what has arrived of answers is still worth having.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<FromHandler>> {
        while let Poll::Ready(Some(asked)) = self.asking.poll_next_unpin(cx) {
            if let Some(answer) = asked {
                return Poll::Ready(Some(FromHandler { outcome: FetchOutcome::Disconnected, ..answer }));
            }
        }
        Poll::Ready(None)
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade, (), ToHandler>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (lane, stream), .. }) => {
                self.serve(lane, stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                self.ask(stream, info);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => self.not_opened(&info, &error),
            _ => {}
        }
    }
}
