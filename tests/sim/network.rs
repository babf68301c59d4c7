//! The network between the nodes: links that come and go, gossip that is lost, repeated and overtaken, and streams that
//! stall, break off or are reset.
//!
//! Invariants:
//! 1. A link has a generation: what was sent over a connection that is gone never arrives.
//! 2. The honest nodes are connected among themselves, once all partitions have healed: adversaries can lie, but
//!    not cut.
//! 3. Every fetch is answered exactly once, by its deadline at the latest, unless it was cancelled.

use std::collections::BTreeMap;
use std::time::Duration;

use blocksyncd::sync::{BlockQuery, FetchOutcome, Input, RequestId};
use bytes::Bytes;
use fastrand::Rng;

use super::byzantine_answers::{self, Behaviour};
use super::dice::Purpose;
use super::mutations::Bug;
use super::node;
use super::world::{Event, World, peer_id};

/// How a server ends its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    Complete,
    NotFound,
    Reset,
    /// A frame of the largest size was announced, and does not come.
    TooHeavy,
}

/// A server's whole answer.
#[derive(Clone, Debug)]
pub struct Answered {
    pub bodies: Vec<Bytes>,
    pub end: StreamEnd,
}

impl Answered {
    /// `NOT_FOUND` when there is nothing.
    pub fn of(bodies: Vec<Bytes>) -> Self {
        let end = if bodies.is_empty() { StreamEnd::NotFound } else { StreamEnd::Complete };
        Self { bodies, end }
    }
}

/// A gossip message's id: its author, and the author's counter.
pub type MessageId = (usize, u64);

#[derive(Clone, Debug)]
pub struct Message {
    pub id: MessageId,
    pub bytes: Bytes,
}

#[derive(Clone, Debug)]
pub enum Packet {
    Gossip(Message),
    BlockQuery {
        request: RequestId,
        life: u64,
        query: BlockQuery,
    },
    /// What arrives of an answer before it ends; `None`: it never does.
    Answer {
        request: RequestId,
        life: u64,
        bodies: Vec<Bytes>,
        end: Option<StreamEnd>,
    },
}

#[derive(Clone, Debug, Default)]
struct Link {
    up: bool,
    generation: u64,
    up_since: Duration,
    /// Nothing passes from the lower end to the upper one, and back.
    blocked: [bool; 2],
    blocked_since: Option<Duration>,
    /// Not connected again before this moment.
    rest_until: Duration,
}

#[derive(Debug)]
pub struct Network {
    /// The pairs that would be connected if nothing went wrong.
    links: BTreeMap<(usize, usize), Link>,
}

/// A connection over which nothing comes is given up after this long.
const KEEP_ALIVE: Duration = Duration::from_secs(4);

fn ends(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    /// A ring of the honest, chords, and adversaries beside it.
    pub fn new(honest: usize, adversaries: usize, rng: &mut Rng) -> Self {
        let mut links = BTreeMap::new();
        for node in 0..honest {
            links.insert(ends(node, (node + 1) % honest), Link::default());
            for other in 0..node {
                if rng.bool() {
                    links.insert(ends(node, other), Link::default());
                }
            }
        }
        for adversary in honest..honest + adversaries {
            links.insert(ends(rng.usize(0..honest), adversary), Link::default());
            for other in 0..adversary {
                if rng.bool() {
                    links.insert(ends(adversary, other), Link::default());
                }
            }
        }
        links.retain(|(a, b), _| a != b);
        Self { links }
    }

    /// The honest as in any world; each adversary knows one to three of them.
    pub fn sparse(honest: usize, adversaries: usize, rng: &mut Rng) -> Self {
        let mut links = Self::new(honest, 0, rng).links;
        for adversary in honest..honest + adversaries {
            for _ in 0..rng.usize(1..=3) {
                links.insert(ends(rng.usize(0..honest), adversary), Link::default());
            }
        }
        Self { links }
    }

    /// The honest in a ring, and adversaries all around one of them.
    pub fn crowd(honest: usize, adversaries: usize, around: usize, rng: &mut Rng) -> Self {
        let mut links = Self::new(honest, 0, rng).links;
        for adversary in honest..honest + adversaries {
            links.insert(ends(around, adversary), Link::default());
            if rng.f64() < 0.1 {
                links.insert(ends(rng.usize(0..honest), adversary), Link::default());
            }
        }
        Self { links }
    }

    /// Nobody knows anybody.
    pub fn empty() -> Self {
        Self { links: BTreeMap::new() }
    }

    pub fn neighbours(&self, of: usize) -> Vec<usize> {
        let other = |(a, b): (usize, usize)| if a == of { Some(b) } else { (b == of).then_some(a) };
        self.links.iter().filter(|(_, link)| link.up).filter_map(|(pair, _)| other(*pair)).collect()
    }

    /// Whom it is connected to, or will be again.
    pub fn acquainted(&self, of: usize) -> Vec<usize> {
        let other = |(a, b): (usize, usize)| if a == of { Some(b) } else { (b == of).then_some(a) };
        self.links.keys().filter_map(|pair| other(*pair)).collect()
    }

    pub fn is_up(&self, a: usize, b: usize) -> bool {
        self.links.get(&ends(a, b)).is_some_and(|link| link.up)
    }

    /// Whether they have been connected for so long, and everything passes.
    pub fn is_open_since(&self, a: usize, b: usize, since: Duration) -> bool {
        self.is_open(a, b) && self.links.get(&ends(a, b)).is_some_and(|link| link.up_since <= since)
    }

    /// Whether they are connected, and everything passes.
    pub fn is_open(&self, a: usize, b: usize) -> bool {
        self.links.get(&ends(a, b)).is_some_and(|link| link.up && link.blocked == [false, false])
    }

    fn generation(&self, a: usize, b: usize) -> Option<u64> {
        self.links.get(&ends(a, b)).filter(|link| link.up).map(|link| link.generation)
    }

    fn blocked(&self, from: usize, to: usize) -> bool {
        self.links.get(&ends(from, to)).is_none_or(|link| link.blocked[usize::from(from > to)])
    }

    /// Cuts everything between `side` and the rest; `asymmetric` only what leaves `side`.
    pub fn partition(&mut self, side: &[usize], asymmetric: bool, now: Duration) {
        for ((a, b), link) in &mut self.links {
            let (a_in, b_in) = (side.contains(a), side.contains(b));
            if a_in == b_in {
                continue;
            }
            link.blocked = if asymmetric { [a_in, b_in] } else { [true, true] };
            link.blocked_since = Some(now);
        }
    }

    pub fn unblock(&mut self) {
        for link in self.links.values_mut() {
            link.blocked = [false, false];
            link.blocked_since = None;
        }
    }

    pub fn rest(&mut self, a: usize, b: usize, until: Duration) {
        if let Some(link) = self.links.get_mut(&ends(a, b)) {
            link.rest_until = link.rest_until.max(until);
        }
    }
}

impl World {
    /// Connects what should be connected, gives up what is dead, and lets a random link fall.
    pub fn tend_links(&mut self) {
        let pairs: Vec<(usize, usize)> = self.net.links.keys().copied().collect();
        for (a, b) in pairs {
            let alive = self.is_alive(a) && self.is_alive(b);
            let link = self.net.links.get_mut(&(a, b)).expect("listed above");
            let dead = link.blocked_since.is_some_and(|since| self.now > since + KEEP_ALIVE);
            let blocked = link.blocked != [false, false];
            if link.up && (dead || !alive) {
                self.disconnect(a, b);
            } else if !link.up
                && alive
                && !blocked
                && self.now >= link.rest_until
                && self.dice.common(Purpose::Links).f64() < 0.7
            {
                link.up = true;
                link.up_since = self.now;
                link.generation += 1;
                self.tell_peer_up(a, b);
                self.tell_peer_up(b, a);
            }
        }
        if !self.healed && self.dice.common(Purpose::Links).f64() < self.plan.disconnect_rate / 4.0 {
            let up: Vec<(usize, usize)> = self.net.links.iter().filter(|(_, l)| l.up).map(|(pair, _)| *pair).collect();
            if let Some((a, b)) = self.dice.common(Purpose::Links).choice(up) {
                self.disconnect(a, b);
            }
        }
    }

    /// Connects two who need not have known each other.
    pub fn connect(&mut self, a: usize, b: usize) {
        let link = self.net.links.entry(ends(a, b)).or_default();
        link.up = true;
        link.generation += 1;
        self.tell_peer_up(a, b);
        self.tell_peer_up(b, a);
    }

    fn tell_peer_up(&mut self, node: usize, peer: usize) {
        if node < self.nodes.len() {
            self.handle(node, Input::PeerUp { peer: peer_id(peer) });
        }
    }

    /// The connection is gone; both ends hear of it, in events of their own.
    pub fn disconnect(&mut self, a: usize, b: usize) {
        let Some(link) = self.net.links.get_mut(&ends(a, b)) else { return };
        if !std::mem::replace(&mut link.up, false) {
            return;
        }
        link.rest_until = link.rest_until.max(self.now + Duration::from_millis(200));
        for (node, peer) in [(a, b), (b, a)] {
            if let Some(life) = self.nodes.get(node).and_then(node::Node::life) {
                self.later(Duration::ZERO, Event::PeerDown { node, life, peer });
            }
        }
    }

    pub fn on_peer_down(&mut self, node: usize, peer: usize) {
        for request in self.nodes[node].fetches_at(peer) {
            self.end_fetch(node, request, FetchOutcome::Disconnected);
        }
        self.handle(node, Input::PeerDown { peer: peer_id(peer) });
    }

    fn delay(&mut self, from: usize) -> Duration {
        let (min, max) = self.plan.delay;
        let span = u64::try_from(max.saturating_sub(min).as_micros()).unwrap_or(0);
        let rng = self.dice.of(Purpose::Packets, from);
        let delay = min + Duration::from_micros(rng.u64(0..=span));
        let reorder = if self.healed { self.plan.lasting } else { self.plan.reorder };
        if reorder > 0.0 && rng.f64() < reorder { delay * 10 } else { delay }
    }

    pub fn send(&mut self, from: usize, to: usize, packet: Packet) {
        let Some(generation) = self.net.generation(from, to) else { return };
        if self.net.blocked(from, to) {
            return;
        }
        let (lost, twice) = match (&packet, self.healed) {
            (_, true) => (self.plan.lasting, self.plan.lasting),
            (Packet::Gossip(_), false) => (self.plan.loss, self.plan.duplicate),
            (Packet::BlockQuery { .. } | Packet::Answer { .. }, false) => (self.plan.stall, 0.0),
        };
        let rng = self.dice.of(Purpose::Packets, from);
        if rng.f64() < lost {
            return;
        }
        if rng.f64() < twice {
            let delay = self.delay(from);
            self.later(delay, Event::Packet { from, to, generation, packet: packet.clone() });
        }
        let delay = self.delay(from);
        self.later(delay, Event::Packet { from, to, generation, packet });
    }

    /// So that it comes just before it is given up.
    fn send_late(&mut self, from: usize, to: usize, packet: Packet) {
        let Some(generation) = self.net.generation(from, to) else { return };
        let timing = self.nodes.get(to).map_or(self.plan.timing, |node| node.timing);
        let wait = timing.request_timeout.saturating_sub(self.plan.delay.1 * 2).mul_f64(0.95);
        self.later(wait, Event::Packet { from, to, generation, packet });
    }

    pub fn on_packet(&mut self, from: usize, to: usize, generation: u64, packet: Packet) {
        if self.net.generation(from, to) != Some(generation) || self.net.blocked(from, to) {
            return;
        }
        match (to < self.nodes.len(), packet) {
            (true, Packet::Gossip(message)) => self.node_receives(to, from, message),
            (false, Packet::Gossip(message)) => self.adversary_receives(to, from, &message),
            (_, Packet::BlockQuery { request, life, query }) => self.serve(to, from, request, life, query),
            (true, Packet::Answer { request, life, bodies, end }) => {
                self.on_answer(to, request, life, bodies, end);
            }
            (false, Packet::Answer { .. }) => {}
        }
    }

    /// Passes a message on to everybody but its author and who gave it.
    pub fn spread(&mut self, by: usize, source: Option<usize>, message: &Message) {
        for to in self.net.neighbours(by) {
            if Some(to) != source && to != message.id.0 {
                self.send(by, to, Packet::Gossip(message.clone()));
            }
        }
    }

    fn serve(&mut self, server: usize, client: usize, request: RequestId, life: u64, query: BlockQuery) {
        let answered = if server < self.nodes.len() {
            let answered = self.nodes[server].serve(query, self.bug == Some(Bug::UnclampedRange));
            self.check_served(server, &answered);
            Some(answered)
        } else {
            let branch = self.branch_of(server);
            let behaviour = self.behaviour_now(server);
            byzantine_answers::answer(behaviour, query, &branch, &self.chain, self.dice.of(Purpose::Lies, server))
        };
        let Some(mut answered) = answered else { return };
        let mut end = Some(answered.end);
        if !self.healed {
            let rng = self.dice.of(Purpose::Serving, server);
            let cut = rng.usize(0..=answered.bodies.len());
            if rng.f64() < self.plan.reset {
                answered.bodies.truncate(cut);
                end = Some(StreamEnd::Reset);
            } else if rng.f64() < self.plan.stall {
                answered.bodies.truncate(cut);
                end = None;
            } else if rng.f64() < self.plan.partial && cut > 0 {
                answered.bodies.truncate(cut);
            }
        }
        let answer = Packet::Answer { request, life, bodies: answered.bodies, end };
        if self.behaviour_of(server) == Some(Behaviour::Drips) && self.behaviour_now(server) == Behaviour::Drips {
            return self.send_late(server, client, answer);
        }
        self.send(server, client, answer);
    }
}
