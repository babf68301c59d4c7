//! Puts libp2p together: transports, and every behaviour with its limits.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, Swarm, Transport as _, identify, memory_connection_limits, noise, ping, quic, swarm, tcp, yamux};

use super::address::Transports;
use super::discovery::dht::Kad;
use super::exchange;
use super::gate::Gate;
use super::gossip::Gossip;
use super::limits::{MAX_NEGOTIATING, MAX_STREAMS};

/// Handshakes included.
const CONNECT_WITHIN: Duration = Duration::from_secs(8);

const PING_EVERY: Duration = Duration::from_secs(15);

/// The share of the machine's memory above which no more connections are made.
const MEMORY_SHARE: f64 = 0.9;

/// What a QUIC peer may send us before we have read it, of one stream and of all.
const QUIC_STREAM_WINDOW: u32 = 4 << 20;
const QUIC_CONNECTION_WINDOW: u32 = 8 << 20;

/// As go-libp2p says it.
const IDENTIFY_VERSION: &str = "ipfs/0.1.0";

#[derive(NetworkBehaviour)]
pub struct Network {
    // The gatekeepers come first: what they refuse, nobody else hears of.
    pub gate: Gate,
    pub memory: memory_connection_limits::Behaviour,
    pub exchange: exchange::Behaviour,
    pub gossip: Gossip,
    pub kad: Toggle<Kad>,
    pub identify: identify::Behaviour,
    pub ping: ping::Behaviour,
}

/// Whether peers are told the addresses that we listen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenAddresses {
    Told,
    Hidden,
}

/// What of a swarm follows from the settings.
pub struct SwarmParts {
    pub transports: Transports,
    pub listen_addresses: ListenAddresses,
    pub gate: Gate,
    pub exchange: exchange::Behaviour,
    pub gossip: Gossip,
    /// `None`: no DHT.
    pub kad: Option<Kad>,
}

pub fn build(keypair: &Keypair, parts: SwarmParts) -> Result<Swarm<Network>, noise::Error> {
    let transport = transport(keypair, parts.transports)?;
    let network = Network {
        gate: parts.gate,
        memory: memory_connection_limits::Behaviour::with_max_percentage(MEMORY_SHARE),
        exchange: parts.exchange,
        gossip: parts.gossip,
        kad: parts.kad.into(),
        identify: identify::Behaviour::new(
            identify::Config::new(IDENTIFY_VERSION.into(), keypair.public())
                .with_agent_version(concat!("blocksyncd/", env!("CARGO_PKG_VERSION")).into())
                .with_cache_size(0)
                .with_hide_listen_addrs(parts.listen_addresses == ListenAddresses::Hidden)
                .with_push_listen_addr_updates(false),
        ),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY)),
    };
    let config = swarm::Config::with_tokio_executor()
        .with_notify_handler_buffer_size(NonZeroUsize::new(8).expect("not 0"))
        // One event of each connection waits for the driver: it may be as large as a block.
        .with_per_connection_event_buffer_size(0)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
        // A request goes out together with the name of its protocol: one round trip instead of two.
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        .with_dial_concurrency_factor(NonZeroU8::new(4).expect("not 0"));
    Ok(Swarm::new(transport, network, keypair.public().to_peer_id(), config))
}

fn transport(keypair: &Keypair, transports: Transports) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let mut multiplexer = yamux::Config::default();
    multiplexer.set_max_num_streams(MAX_STREAMS);
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair)?)
        .multiplex(multiplexer)
        .timeout(CONNECT_WITHIN)
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    if transports == Transports::Tcp {
        return Ok(tcp.boxed());
    }
    let mut config = quic::Config::new(keypair);
    config.handshake_timeout = CONNECT_WITHIN;
    config.max_concurrent_stream_limit = u32::try_from(MAX_STREAMS).unwrap_or(u32::MAX);
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    let quic = quic::tokio::Transport::new(config).map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)));
    Ok(tcp.or_transport(quic).map(|either, _| either.into_inner()).boxed())
}
