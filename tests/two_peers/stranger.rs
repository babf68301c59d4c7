//! A stranger: a libp2p peer that writes and reads whatever bytes a test wants, on streams of any protocol. It shares nothing
//! with the program under test but the library.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use blocksyncd::sync::PeerId as Peer;
use futures::future::{Ready, ready};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::identity::Keypair;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, SwarmEvent, THandler, THandlerInEvent, ToSwarm,
};
use libp2p::{PeerId, Stream, StreamProtocol, SwarmBuilder, identify, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::network::{NETWORK, Network, PATIENCE};

/// What it accepts: the bare stream, whichever of these protocols it is of.
#[derive(Clone, Debug)]
pub struct Names(Vec<StreamProtocol>);

impl UpgradeInfo for Names {
    type Info = StreamProtocol;
    type InfoIter = Vec<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone()
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

#[derive(Debug)]
pub struct Opening {
    protocol: StreamProtocol,
    reply: oneshot::Sender<Stream>,
}

struct Streams {
    accepts: Vec<StreamProtocol>,
    accepted: mpsc::UnboundedSender<Stream>,
    to_open: mpsc::UnboundedReceiver<(PeerId, Opening)>,
}

struct Handler {
    accepts: Names,
    accepted: mpsc::UnboundedSender<Stream>,
    to_open: VecDeque<Opening>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = Infallible;
    type InboundProtocol = Names;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = oneshot::Sender<Stream>;

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        SubstreamProtocol::new(self.accepts.clone(), ())
    }

    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        self.to_open.push_back(opening);
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, oneshot::Sender<Stream>, Infallible>> {
        match self.to_open.pop_front() {
            Some(Opening { protocol, reply }) => {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol), reply);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Names, ReadyUpgrade<StreamProtocol>, (), oneshot::Sender<Stream>>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                let _ = self.accepted.send(stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info }) => {
                let _ = info.send(stream);
            }
            _ => {}
        }
    }
}

impl Streams {
    fn handler(&self) -> Handler {
        Handler { accepts: Names(self.accepts.clone()), accepted: self.accepted.clone(), to_open: VecDeque::new() }
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler())
    }

    fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: Infallible) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        match self.to_open.poll_recv(cx) {
            Poll::Ready(Some((peer_id, event))) => {
                Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler: NotifyHandler::Any, event })
            }
            _ => Poll::Pending,
        }
    }
}

#[derive(NetworkBehaviour)]
struct Everything {
    streams: Streams,
    identify: identify::Behaviour,
}

pub struct Stranger {
    id: PeerId,
    target: PeerId,
    to_open: mpsc::UnboundedSender<(PeerId, Opening)>,
    accepted: mpsc::UnboundedReceiver<Stream>,
    /// Told when the last connection is gone.
    pub closed: mpsc::UnboundedReceiver<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn header_ex() -> String {
    format!("/{NETWORK}/header-ex/v0.0.3")
}

impl Stranger {
    /// Connects to `target`, accepting streams of these protocols.
    pub async fn connect(target: &Network, accepts: &[&str]) -> Self {
        Self::dial(&target.address, accepts).await.expect("connected")
    }

    /// Connects to `address`, and waits until it is sent away.
    pub async fn is_refused(address: &str) {
        if let Some(mut stranger) = Self::dial(address, &[&header_ex()]).await {
            stranger.closed().await;
        }
    }

    /// `None` when there is no connection, not even for a moment.
    pub async fn dial(address: &str, accepts: &[&str]) -> Option<Self> {
        let address: Multiaddr = address.parse().expect("an address");
        let keypair = Keypair::generate_ed25519();
        let id = keypair.public().to_peer_id();
        let Some(libp2p::multiaddr::Protocol::P2p(target)) = address.iter().last() else {
            panic!("no peer id in {address}");
        };
        let (accepted_in, accepted) = mpsc::unbounded_channel();
        let (to_open, to_open_out) = mpsc::unbounded_channel();
        let (closed_in, closed) = mpsc::unbounded_channel();
        let name = |name: &&str| StreamProtocol::try_from_owned((*name).to_owned()).expect("a protocol");
        let streams =
            Streams { accepts: accepts.iter().map(name).collect(), accepted: accepted_in, to_open: to_open_out };
        let identify = identify::Behaviour::new(
            identify::Config::new("ipfs/0.1.0".into(), keypair.public()).with_agent_version("stranger\n\x1b[0m".into()),
        );
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .expect("a transport")
            .with_quic()
            .with_behaviour(|_| Everything { streams, identify })
            .expect("behaviours")
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_hours(1)))
            .build();
        swarm.dial(address.clone()).expect("dialled");
        let (connected, is_connected) = oneshot::channel();
        let mut connected = Some(connected);
        let task = tokio::spawn(async move {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { .. } => {
                        if let Some(connected) = connected.take() {
                            let _ = connected.send(true);
                        }
                    }
                    SwarmEvent::OutgoingConnectionError { .. } => {
                        if let Some(connected) = connected.take() {
                            let _ = connected.send(false);
                        }
                    }
                    SwarmEvent::ConnectionClosed { num_established: 0, .. } => {
                        let _ = closed_in.send(());
                    }
                    _ => {}
                }
            }
        });
        let is_connected = timeout(PATIENCE, is_connected).await.expect("in time").expect("it runs");
        let stranger = Self { id, target, to_open, accepted, closed, task };
        is_connected.then_some(stranger)
    }

    /// base58.
    pub fn name(&self) -> String {
        self.id.to_base58()
    }

    pub fn id(&self) -> Peer {
        Peer::new(&self.id.to_bytes())
    }

    pub async fn open(&self, protocol: &str) -> Stream {
        timeout(PATIENCE, self.try_open(protocol)).await.expect("in time").expect("opened")
    }

    /// `None` when it is refused.
    pub async fn try_open(&self, protocol: &str) -> Option<Stream> {
        let (reply, stream) = oneshot::channel();
        let protocol = StreamProtocol::try_from_owned(protocol.to_owned()).expect("a protocol");
        self.to_open.send((self.target, Opening { protocol, reply })).expect("it runs");
        stream.await.ok()
    }

    /// The next stream that was opened to us.
    pub async fn accept(&mut self) -> Stream {
        timeout(PATIENCE, self.accepted.recv()).await.expect("in time").expect("it runs")
    }

    pub async fn closed(&mut self) {
        timeout(PATIENCE, self.closed.recv()).await.expect("in time").expect("it runs");
    }

    /// Writes `request` on a new stream, and reads to the end.
    pub async fn exchange(&self, request: &[u8], half_close: bool) -> Vec<u8> {
        let mut stream = self.open(&header_ex()).await;
        stream.write_all(request).await.expect("written");
        stream.flush().await.expect("written");
        if half_close {
            let _ = stream.close().await;
        }
        read_to_end(&mut stream).await
    }
}

/// Everything up to the end or the reset of the stream.
pub async fn read_to_end(stream: &mut Stream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("it ends") {
            Ok(0) | Err(_) => return all,
            Ok(count) => all.extend_from_slice(&buffer[..count]),
        }
    }
}
