//! The task that owns the swarm: commands in, events out, and nothing decided but how the network is kept up.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::gossipsub::{self, MessageAcceptance, PublishError};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, ping};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::address::{self, Address, Transports, to_core, to_libp2p, without_peer};
use super::address_book::{AddressBook, AddressBookWriter};
use super::dialer::{Dialer, dial_of};
use super::direction::Direction;
use super::discovery::dht::Discovery;
use super::exchange::{Cancellation, ExchangeEvent};
use super::fetch::is_single;
use super::gate::{Ban, Subject};
use super::gossip::{Tickets, Topics, acceptance};
use super::limits::{Limits, STREAM_WINDOW};
use super::listeners::{Listeners, Spoke};
use super::outbox::{Closed, Outbox};
use super::peers::{Disconnection, Liveness, PeerChange, PeerTable};
use super::resolve::{Resolved, resolve};
use super::roll_call::round::RollCall;
use super::seeds::{AddedBy, SeedId, Seeds};
use super::swarm::{Network, NetworkEvent};
use super::{Command, Event, policy};
use crate::block::Lane;
use crate::clock::Clock;
use crate::sync::{self, Fetch, FetchOutcome, Offence, RequestId, Ticket, Verdict};

/// How long the driver sleeps when nothing is due.
const NEVER: Duration = Duration::from_hours(1);

/// How many events of the network are taken in one go: more than a machine has addresses.
const MAX_AT_ONCE: usize = 64;

/// libp2p, set up and listening.
pub struct ListeningSwarm {
    pub swarm: Swarm<Network>,
    pub listeners: Listeners,
    pub topics: Topics,
}

/// The driver's ends of what it shares with the node.
pub struct Ends {
    pub commands: mpsc::Receiver<Command>,
    pub events: mpsc::Sender<Event>,
    /// Closed when the handle is dropped.
    pub stop: oneshot::Receiver<Infallible>,
}

/// Whom the driver knows when it starts.
pub struct KnownPeers {
    /// Addresses that are dialled for ever.
    pub seeds: Vec<Address>,
    /// Persistent peers of the settings.
    pub configured: HashSet<PeerId>,
    pub address_book: AddressBook,
    pub address_book_writer: AddressBookWriter,
    pub transports: Transports,
}

/// How peers are found and chosen.
pub struct PeerFinding {
    pub discovery: Option<Discovery>,
    pub dialer: Dialer,
    /// Tells the wall-clock time of what is remembered.
    pub clock: Clock,
}

pub struct Driver {
    pub(super) swarm: Swarm<Network>,
    listeners: Listeners,
    topics: Topics,
    commands: mpsc::Receiver<Command>,
    pub(super) outbox: Outbox,
    stop: oneshot::Receiver<Infallible>,
    pub(super) seeds: Seeds,
    pub(super) configured: HashSet<PeerId>,
    pub(super) address_book: AddressBook,
    pub(super) address_book_writer: AddressBookWriter,
    pub(super) transports: Transports,
    clock: Clock,
    pub(super) discovery: Option<Discovery>,
    pub(super) dialer: Dialer,
    /// At most one for each seed.
    resolving: FuturesUnordered<BoxFuture<'static, Resolved>>,
    pub(super) peers: PeerTable,
    pub(super) roll_call: RollCall,
    tickets: Tickets,
    limits: Limits,
    /// Who is asked, and the bytes kept free for the answer; together at most `limits.range_bytes()`.
    reserved: HashMap<RequestId, (PeerId, usize)>,
}

impl Driver {
    pub fn new(
        ListeningSwarm { swarm, listeners, topics }: ListeningSwarm,
        KnownPeers { seeds, configured, address_book, address_book_writer, transports }: KnownPeers,
        PeerFinding { discovery, dialer, clock }: PeerFinding,
        limits: Limits,
        Ends { commands, events, stop }: Ends,
    ) -> Self {
        let mut driver = Self {
            swarm,
            listeners,
            topics,
            commands,
            outbox: Outbox::new(events),
            stop,
            seeds: Seeds::new(seeds, Instant::now()),
            configured,
            address_book,
            address_book_writer,
            transports,
            discovery,
            dialer,
            resolving: FuturesUnordered::new(),
            clock,
            peers: PeerTable::default(),
            roll_call: RollCall::default(),
            tickets: Tickets::new(limits.gossip_unjudged),
            limits,
            reserved: HashMap::new(),
        };
        driver.remember_added();
        driver
    }

    /// The persistent peers that the operator added in an earlier life.
    fn remember_added(&mut self) {
        for (peer, entry) in self.address_book.iter().filter(|(_, entry)| entry.added) {
            self.swarm.behaviour_mut().gate.table.add_persistent(to_core(*peer));
            for text in &entry.addresses {
                if let Ok(address) = address::parse(text)
                    && self.transports.reach(&address)
                {
                    self.seeds.add(Address { peer: Some(*peer), ..address }, AddedBy::Operator, Instant::now());
                }
            }
        }
    }

    /// Runs until the handle is dropped, or the node has gone away.
    pub async fn run(mut self) {
        self.work().await;
        let text = self.address_book.to_text(&self.swarm.behaviour().gate.table.bans);
        self.address_book_writer.finish(text).await;
    }

    async fn work(&mut self) {
        if self.listeners.wait_until().is_none() {
            self.say_started();
        }
        loop {
            let timers = [
                self.seeds.next_dial(),
                self.next_ban_end(),
                self.listeners.wait_until(),
                self.address_book_writer.next(),
                self.next_peer_search(),
            ];
            let due = timers.into_iter().flatten().min();
            let due = due.unwrap_or_else(|| Instant::now() + NEVER);
            tokio::select! {
                _ = &mut self.stop => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => return,
                },
                delivered = self.outbox.deliver(), if !self.outbox.is_empty() => {
                    if delivered == Err(Closed) {
                        return;
                    }
                }
                event = self.swarm.select_next_some(), if !self.outbox.is_full() => self.on_swarm_event(event),
                Some(resolved) = self.resolving.next(), if !self.resolving.is_empty() => self.on_resolved(resolved),
                outcome = self.address_book_writer.written() => self.address_book_writer.on_written(&outcome, Instant::now()),
                () = sleep_until(due) => self.on_time(),
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Judge { ticket, verdict } => self.judge(ticket, verdict),
            Command::Fetch(fetch) => self.fetch(&fetch),
            Command::Cancel(request) => match self.swarm.behaviour_mut().exchange.cancel(request) {
                Cancellation::Forgotten => {
                    self.reserved.remove(&request);
                }
                // Its event gives back what is reserved.
                Cancellation::TooLate => {}
            },
            Command::Ban { peer, offence, duration } => self.ban(&peer, offence, duration),
            Command::TryKnownPeers { round } => self.call_the_roll(round),
            Command::Broadcast { lane, bytes } => self.broadcast(lane, &bytes),
            // Whoever asked may have gone away.
            Command::Peers { standings, reply } => drop(reply.send(self.list(&standings))),
            Command::Order { order, reply } => self.order(order, reply),
        }
    }

    fn judge(&mut self, ticket: Ticket, verdict: Verdict) {
        if let Some(waiting) = self.tickets.take(ticket) {
            let gossip = &mut self.swarm.behaviour_mut().gossip;
            gossip.report_message_validation_result(&waiting.message, &waiting.source, acceptance(verdict));
            if verdict == Verdict::Accept {
                self.delivered(waiting.source, 1, waiting.bytes);
            }
        }
    }

    /// A peer gave us blocks: gossip that was accepted, or answers. That those are good is for the node to find out; a peer
    /// whose answers are not is banned.
    fn delivered(&mut self, peer: PeerId, blocks: usize, bytes: usize) {
        if self.address_book.get(&peer).is_none() {
            self.address_book.reached(peer, None, self.unix());
        }
        self.address_book.gave(&peer, blocks as u64, bytes as u64);
        self.address_book_writer.soon(Instant::now());
        self.swarm.behaviour_mut().gate.table.gave(&to_core(peer), blocks as u64);
    }

    fn fetch(&mut self, fetch: &Fetch) {
        if let Err(outcome) = self.try_fetch(fetch) {
            self.outbox.push(Event::Fetched { request: fetch.request, lane: fetch.lane, bodies: Vec::new(), outcome });
        }
    }

    fn try_fetch(&mut self, fetch: &Fetch) -> Result<(), FetchOutcome> {
        let peer = PeerId::from_bytes(fetch.peer.as_bytes()).map_err(|_| FetchOutcome::Disconnected)?;
        if self.swarm.is_connected(&peer) && !self.peers.is_up(peer) {
            return Err(FetchOutcome::Unsupported);
        }
        let room = self.limits.range_bytes() - self.reserved.values().map(|(_, bytes)| bytes).sum::<usize>();
        let max_bytes = fetch.max_bytes.min(self.limits.fetch_bytes_per_request());
        // What the stream's window lets in beyond the answer is there, too. An answer of one block takes what it needs beyond that
        // when it comes.
        let reserved = if is_single(fetch.query) { STREAM_WINDOW } else { max_bytes.max(STREAM_WINDOW) };
        if reserved > room {
            return Err(FetchOutcome::NotSent);
        }
        self.swarm.behaviour_mut().exchange.ask(peer, fetch, max_bytes)?;
        self.reserved.insert(fetch.request, (peer, reserved));
        Ok(())
    }

    fn ban(&mut self, peer: &sync::PeerId, offence: Offence, duration: Duration) {
        let shown = to_libp2p(peer).map(PeerId::to_base58);
        let now = self.unix();
        let gate = &mut self.swarm.behaviour_mut().gate;
        if gate.table.is_persistent(peer) {
            tracing::warn!(peer = ?shown, "a persistent peer stays, although it {}", offence.reason());
            return;
        }
        tracing::warn!(peer = ?shown, ?duration, "a peer is kept away: it {}", offence.reason());
        let ban = Ban { until: now.saturating_add(duration), reason: offence.reason().to_owned(), by_operator: false };
        gate.table.bans.add(Subject::Peer(peer.clone()), ban, now);
        gate.enforce();
        self.address_book_writer.at_once(Instant::now());
    }

    /// Wall-clock time, since the Unix epoch: what bans are measured by.
    pub(super) fn unix(&self) -> Duration {
        Duration::from_nanos(self.clock.now().unix_nanos)
    }

    fn next_ban_end(&self) -> Option<Instant> {
        let end = self.swarm.behaviour().gate.table.bans.next_end()?;
        Some(Instant::now() + end.saturating_sub(self.unix()))
    }

    fn broadcast(&mut self, lane: Lane, bytes: &Bytes) {
        let Some(topic) = self.topics.of(lane) else {
            return;
        };
        match self.swarm.behaviour_mut().gossip.publish(topic.hash(), bytes.to_vec()) {
            Ok(_) => {}
            // Whoever comes later asks for the head.
            Err(PublishError::NoPeersSubscribedToTopic) => tracing::debug!("nobody is here to hear of a block"),
            Err(error) => tracing::warn!(%error, "a block could not be gossiped"),
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        let unix = self.unix();
        while let Some(subject) = self.swarm.behaviour_mut().gate.table.bans.pop_ended(unix) {
            tracing::info!(subject = policy::show(&subject), "a ban has ended");
        }
        let bans = &self.swarm.behaviour().gate.table.bans;
        self.address_book_writer.write_if_due(|| self.address_book.to_text(bans), now);
        match self.listeners.give_up(now) {
            0 => {}
            silent => {
                tracing::warn!(
                    silent,
                    "a listener has no address: no network interface of this machine has one of its kind"
                );
                self.say_started();
            }
        }
        self.find_peers(now);
        for (seed, address) in self.seeds.due(now) {
            self.dial(seed, &address, now);
        }
    }

    /// Dials a seed, or has its host looked up first.
    fn dial(&mut self, seed: SeedId, address: &Address, now: Instant) {
        match &address.host {
            None => self.dial_at(seed, address, vec![address.dial.clone()], now),
            Some(host) => {
                self.seeds.mark_resolving(seed);
                self.resolving.push(resolve(seed, address.clone(), host.clone()));
            }
        }
    }

    fn on_resolved(&mut self, (seed, address, ips): Resolved) {
        // It may have come by itself, or have been removed.
        if !self.seeds.is_resolving(seed) {
            return;
        }
        let (now, unix) = (Instant::now(), self.unix());
        let table = &self.swarm.behaviour().gate.table;
        // What the operator denies is denied under every name.
        let may = |ip: &&IpAddr| table.judge_address(Some(**ip), unix).is_ok();
        let places: Vec<_> = ips.iter().filter(may).map(|ip| address.at(*ip)).collect();
        if places.is_empty() {
            self.seeds.not_dialled(seed, now);
            self.dial_ended(None);
        } else {
            self.dial_at(seed, &address, places, now);
        }
    }

    fn dial_at(&mut self, seed: SeedId, address: &Address, mut places: Vec<Multiaddr>, now: Instant) {
        let options = if let Some(peer) = address.peer {
            dial_of(peer, places)
        } else {
            // Who answers is not known, and so one place is one dial.
            let place = places.swap_remove(0);
            DialOpts::unknown_peer_id().address(place).allocate_new_port().build()
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => self.seeds.mark_dialling(seed, connection),
            Err(error) => {
                tracing::debug!(address = %address.dial, %error, "a seed cannot be dialled now");
                self.seeds.not_dialled(seed, now);
                self.dial_ended(None);
            }
        }
    }

    fn on_swarm_event(&mut self, event: SwarmEvent<NetworkEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_network_event(event),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                let address = format!("{address}/p2p/{}", self.swarm.local_peer_id());
                self.outbox.push(Event::Listening(address));
                self.listener_spoke(listener_id);
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                self.on_closed(peer_id, connection_id);
                tracing::debug!(peer = %peer_id, ?cause, "a connection is closed");
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                if let Some(peer) = peer_id {
                    self.dialer.failed(peer, Instant::now());
                }
                if let Some((address, pause)) = self.seeds.dial_failed(connection_id, Instant::now()) {
                    tracing::info!(address, ?pause, %error, "a seed cannot be reached; it is tried again");
                }
                self.dial_ended(peer_id);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "an inbound connection failed");
            }
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                tracing::error!(?addresses, ?reason, "a listener has ended");
                self.listener_spoke(listener_id);
            }
            SwarmEvent::ListenerError { listener_id, error } => {
                tracing::warn!(%error, "a listener has trouble");
                self.listener_spoke(listener_id);
            }
            _ => {}
        }
    }

    fn on_established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let (now, direction) = (Instant::now(), Direction::from(endpoint));
        self.peers.connected(peer, connection, endpoint.get_remote_address().clone(), direction, now);
        self.seeds.connected(peer, connection, now);
        self.dialer.reached(&peer);
        // What it can, the operator said, or it showed before: that saves a round trip.
        if direction == Direction::Outbound && (self.seeds.includes(peer) || self.address_book.get(&peer).is_some()) {
            let change = self.peers.presumed(peer);
            self.tell(peer, change);
            self.dial_ended(Some(peer));
        }
    }

    fn listener_spoke(&mut self, listener: ListenerId) {
        match self.listeners.spoke(listener) {
            Spoke::Last => self.say_started(),
            Spoke::NotLast => {}
        }
    }

    /// Says that we have started, after what is known at this moment: a listener has more than the one address that it was
    /// waited for.
    fn say_started(&mut self) {
        for _ in 0..MAX_AT_ONCE {
            let Some(event) = self.swarm.select_next_some().now_or_never() else { break };
            self.on_swarm_event(event);
        }
        self.outbox.push(Event::Started);
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        let change = match self.peers.disconnected(peer, connection) {
            Disconnection::OneOfSeveral => return,
            Disconnection::Last(change) => change,
        };
        self.seeds.disconnected(peer, Instant::now());
        self.outbox.forget(&to_core(peer));
        self.dial_ended(Some(peer));
        if self.address_book.get(&peer).is_some() {
            self.address_book.reached(peer, None, self.unix());
            self.address_book_writer.soon(Instant::now());
        }
        self.tell(peer, change);
    }

    fn tell(&mut self, peer: PeerId, change: Option<PeerChange>) {
        match change {
            Some(PeerChange::Up) => {
                self.remember(peer);
                self.outbox.push(Event::PeerUp(to_core(peer)));
            }
            Some(PeerChange::Down) => self.outbox.push(Event::PeerDown(to_core(peer))),
            None => {}
        }
    }

    /// A peer that we reached, and that is of use, is dialled again after a restart.
    fn remember(&mut self, peer: PeerId) {
        if let Some(address) = self.peers.dialled(peer) {
            let address = without_peer(address).to_string();
            self.address_book.reached(peer, Some(&address), self.unix());
            self.address_book_writer.soon(Instant::now());
        }
    }

    fn on_network_event(&mut self, event: NetworkEvent) {
        match event {
            NetworkEvent::Exchange(ExchangeEvent { request, lane, bodies, outcome }) => {
                if let Some((peer, _)) = self.reserved.remove(&request)
                    && !bodies.is_empty()
                {
                    self.delivered(peer, bodies.len(), bodies.iter().map(Bytes::len).sum());
                }
                self.outbox.push(Event::Fetched { request, lane, bodies, outcome });
            }
            NetworkEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_gossip(propagation_source, &message_id, message);
            }
            NetworkEvent::Gossip(event) => tracing::debug!(?event, "gossip"),
            NetworkEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                let kind = self.swarm.behaviour().exchange.kind_of(&info.protocols);
                self.met(peer_id, &info, kind);
                let change = self.peers.identified(peer_id, &info.agent_version, kind);
                self.tell(peer_id, change);
                self.dial_ended(Some(peer_id));
            }
            NetworkEvent::Kad(event) => self.on_kad(event),
            NetworkEvent::Identify(_) => {}
            NetworkEvent::Ping(ping::Event { peer, connection, result }) => {
                let round_trip = match result {
                    Ok(round_trip) => Some(round_trip),
                    Err(ping::Failure::Unsupported) => return,
                    Err(_) => None,
                };
                match self.peers.pinged(peer, connection, round_trip) {
                    Liveness::Alive => {}
                    Liveness::Dead => {
                        self.swarm.close_connection(connection);
                    }
                }
            }
            NetworkEvent::Gate(never) | NetworkEvent::Memory(never) => match never {},
        }
    }

    fn on_gossip(&mut self, source: PeerId, id: &gossipsub::MessageId, message: gossipsub::Message) {
        let lane = self.topics.lane(&message.topic);
        if let Some(lane) = lane
            && let Some(room) = self.outbox.room_for_gossip()
            && let Some(ticket) = self.tickets.admit(id.clone(), source, message.data.len(), Instant::now())
        {
            room.send(Event::Gossip { peer: to_core(source), ticket, lane, bytes: message.data.into() });
            return;
        }
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(id, &source, MessageAcceptance::Ignore);
        if lane.is_some() {
            self.outbox.missed(to_core(source));
        }
    }
}
