//! Starting: the settings are understood, libp2p is set up and listens, and the driver's task begins.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::kad::Mode;
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, Swarm, TransportError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::address::{self, Address, Transports, to_core};
use super::address_book::{AddressBook, AddressBookWriter};
use super::dialer::Dialer;
use super::discovery::dht::{self, Discovery, Kad};
use super::driver::{Driver, Ends, KnownPeers, ListeningSwarm, PeerFinding};
use super::exchange::{self, LaneProtocol};
use super::gate::{Gate, Table};
use super::gossip::{self, Topics};
use super::key;
use super::limits::Limits;
use super::listeners::Listeners;
use super::policy::{PeerPolicy, Understood};
use super::serve::RangeServer;
use super::swarm::{self, ListenAddresses, Network, SwarmParts};
use super::view::ServeSource;
use super::{Config, Event, Handle, StartError};
use crate::clock::Clock;
use crate::store::Reader;
use crate::sync::Acquaintance;

/// Starts listening and dialling. Seeds are dialled for ever, with backoff.
///
/// `events` should have room for [`Limits::gossip_unjudged`] events.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub async fn start(config: Config, reader: Reader, events: mpsc::Sender<Event>) -> Result<Handle, StartError> {
    start_with(config, Arc::new(reader), events).await
}

/// [`start`], serving from any [`ServeSource`].
///
/// # Errors
/// As [`start`].
#[allow(clippy::unused_async, reason = "it needs a runtime, and a signature that says so")]
pub async fn start_with(
    config: Config,
    source: Arc<dyn ServeSource>,
    events: mpsc::Sender<Event>,
) -> Result<Handle, StartError> {
    let limits = Limits::derive(config.memory_bytes, config.max_block_bytes)?;
    let keypair = key::keypair(&config.node_key);
    let local = keypair.public().to_peer_id();
    let (addresses, table, quota) = understand(&config, &limits, local)?;
    let transports = addresses.transports()?;
    let protocols = lane_protocols(&config.network_ids)?;
    let topics = Topics::new(&config.network_ids);
    let gossip = gossip::behaviour(&keypair, &topics, &limits).map_err(StartError::Library)?;
    let server = RangeServer::new(source, limits.serve_bytes, limits.max_block_bytes, config.policy.pace());

    let clock = Clock::start();
    let (gate, address_book) = gate_and_address_book(table, config.address_book.as_deref(), clock);
    let parts = SwarmParts {
        transports,
        listen_addresses: listen_addresses(&config.policy),
        gate,
        exchange: exchange::Behaviour::new(protocols, &limits, server),
        gossip,
        kad: kad(&config, local),
    };
    let mut swarm = swarm::build(&keypair, parts).map_err(|error| StartError::Library(error.to_string()))?;
    announce(&mut swarm, &config.policy.announce)?;
    let listeners = listen(&mut swarm, &addresses.listen, &config.listen)?;

    let (commands, commands_in) = mpsc::channel(limits.commands);
    let (stop, stopped) = oneshot::channel();
    let swarm = ListeningSwarm { swarm, listeners: Listeners::new(listeners, Instant::now()), topics };
    let peer_finding = peer_finding(&config.policy, quota, clock);
    let known_peers = acquaintance(&address_book, &addresses);
    let known = known(addresses, transports, address_book, AddressBookWriter::new(config.address_book));
    let ends = Ends { commands: commands_in, events, stop: stopped };
    tokio::spawn(Driver::new(swarm, known, peer_finding, limits.clone(), ends).run());
    Ok(Handle { commands, local_peer_id: local.to_base58(), known_peers, limits, _stop: stop })
}

/// The addresses of the settings, without our own.
struct Addresses {
    listen: Vec<Address>,
    seeds: Vec<Address>,
    persistent: Vec<Address>,
}

impl Addresses {
    /// The transports that they need.
    fn transports(&self) -> Result<Transports, StartError> {
        let transports = Transports::needed_by(self.listen.iter().chain(&self.seeds).chain(&self.persistent));
        match transports {
            Transports::TcpAndQuic if std::env::var_os("SSLKEYLOGFILE").is_some() => Err(StartError::KeyLog),
            Transports::Tcp | Transports::TcpAndQuic => Ok(transports),
        }
    }
}

/// What the settings say: the addresses, the gate's table, and how many peers are to be dialled.
fn understand(
    config: &Config,
    limits: &Limits,
    local: PeerId,
) -> Result<(Addresses, Table<ConnectionId>, usize), StartError> {
    let listen = parse_all(&config.listen)?;
    let mut seeds = parse_all(&config.seeds)?;
    let Understood { rules, mut persistent, quota } = config.policy.understand(limits, &config.seeds)?;
    // One list for all nodes is a good idea, and then we are in it.
    seeds.retain(|seed| seed.peer != Some(local));
    persistent.retain(|peer| peer.peer != Some(local));
    let mut table = Table::new(rules);
    seeds.iter().filter_map(|seed| seed.peer).for_each(|peer| table.add_seed(to_core(peer)));
    persistent.iter().filter_map(|peer| peer.peer).for_each(|peer| table.add_persistent(to_core(peer)));
    Ok((Addresses { listen, seeds, persistent }, table, quota))
}

fn parse_all(texts: &[String]) -> Result<Vec<Address>, StartError> {
    texts.iter().map(|text| parse(text)).collect()
}

fn parse(text: &str) -> Result<Address, StartError> {
    address::parse(text).map_err(|why| StartError::Address { address: text.to_owned(), why })
}

fn lane_protocols(network_ids: &[String]) -> Result<Vec<LaneProtocol>, StartError> {
    if let Some(bad) = network_ids.iter().find(|id| id.is_empty()) {
        return Err(StartError::NetworkId(bad.clone()));
    }
    exchange::lane_protocols(network_ids).ok_or_else(|| StartError::NetworkId(network_ids.concat()))
}

/// The gate, with the bans that the address book remembers.
fn gate_and_address_book(mut table: Table<ConnectionId>, path: Option<&Path>, clock: Clock) -> (Gate, AddressBook) {
    let now = Duration::from_nanos(clock.now().unix_nanos);
    let address_book = path.map(|path| AddressBook::read(path, &mut table.bans, now)).unwrap_or_default();
    (Gate::new(table, clock), address_book)
}

fn listen_addresses(policy: &PeerPolicy) -> ListenAddresses {
    // Who wants to be found says where, unless the operator says it better.
    if policy.rendezvous.is_some() && policy.announce.is_empty() {
        ListenAddresses::Told
    } else {
        ListenAddresses::Hidden
    }
}

fn kad(config: &Config, local: PeerId) -> Option<Kad> {
    let mode = if config.listen.is_empty() { Mode::Client } else { Mode::Server };
    config.policy.rendezvous.as_ref().map(|_| dht::behaviour(local, mode))
}

/// Whether there is anybody who can be tried: in the address book, or in the settings.
fn acquaintance(book: &AddressBook, addresses: &Addresses) -> Acquaintance {
    let is_nobody = addresses.seeds.is_empty() && addresses.persistent.is_empty() && book.iter().next().is_none();
    if is_nobody { Acquaintance::Nobody } else { Acquaintance::Somebody }
}

/// Where peers are told that we are.
fn announce(swarm: &mut Swarm<Network>, addresses: &[String]) -> Result<(), StartError> {
    for text in addresses {
        swarm.add_external_address(parse(text)?.dial);
    }
    Ok(())
}

fn listen(swarm: &mut Swarm<Network>, addresses: &[Address], texts: &[String]) -> Result<Vec<ListenerId>, StartError> {
    let one = |(address, text): (&Address, &String)| {
        let failed = |why| StartError::Listen { address: text.clone(), why };
        address.check_free().map_err(|error| failed(error.to_string()))?;
        swarm.listen_on(address.dial.clone()).map_err(|error| failed(reason(error)))
    };
    addresses.iter().zip(texts).map(one).collect()
}

fn peer_finding(policy: &PeerPolicy, quota: usize, clock: Clock) -> PeerFinding {
    let now = Instant::now();
    let discovery = policy.rendezvous.as_deref().map(|namespace| Discovery::new(namespace, now));
    PeerFinding { discovery, dialer: Dialer::new(quota, now), clock }
}

fn known(
    addresses: Addresses,
    transports: Transports,
    address_book: AddressBook,
    address_book_writer: AddressBookWriter,
) -> KnownPeers {
    let Addresses { mut seeds, persistent, .. } = addresses;
    let configured = persistent.iter().filter_map(|peer| peer.peer).collect();
    seeds.extend(persistent);
    KnownPeers { seeds, configured, address_book, address_book_writer, transports }
}

/// libp2p's own text leaves out what matters.
fn reason(error: TransportError<std::io::Error>) -> String {
    match error {
        TransportError::MultiaddrNotSupported(_) => "there is no transport for it".into(),
        TransportError::Other(error) => error.to_string(),
    }
}
