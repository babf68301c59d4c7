//! What is on its way to the node, whose queue may be full.
//!
//! Gossip that finds no room is not kept: it is answered `Ignore` at once, and the node is told from whom something was
//! missed. Everything else must arrive and waits here, in order; while [`Outbox::is_full`], the driver takes no more from
//! the network, and goes on taking commands, so that node and driver never wait for each other.

use std::collections::{HashSet, VecDeque};

use tokio::sync::mpsc;

use super::Event;
use crate::sync::PeerId;

/// How much may wait before the network has to.
const ENOUGH: usize = 64;

/// The node has gone away.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

pub struct Outbox {
    events: mpsc::Sender<Event>,
    /// At most [`ENOUGH`] and what one event of the network adds, and the refusals of the node's own open requests.
    waiting: VecDeque<Event>,
    /// Connected peers.
    missed: HashSet<PeerId>,
}

impl Outbox {
    pub fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events, waiting: VecDeque::new(), missed: HashSet::new() }
    }

    pub fn is_full(&self) -> bool {
        self.waiting.len() >= ENOUGH
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.missed.is_empty()
    }

    /// Something that must arrive.
    pub fn push(&mut self, event: Event) {
        self.waiting.push_back(event);
    }

    /// Room for one message, if there is any right now. It never overtakes what must arrive.
    pub fn room_for_gossip(&self) -> Option<mpsc::Permit<'_, Event>> {
        if !self.waiting.is_empty() {
            return None;
        }
        self.events.try_reserve().ok()
    }

    /// A message from this peer was dropped.
    pub fn missed(&mut self, peer: PeerId) {
        self.missed.insert(peer);
    }

    /// Nobody asks a peer for what it cannot give any more.
    pub fn forget(&mut self, peer: &PeerId) {
        self.missed.remove(peer);
    }

    /// Waits for room, and gives the node one event. May be dropped while it waits.
    pub async fn deliver(&mut self) -> Result<(), Closed> {
        let permit = self.events.reserve().await.map_err(|_| Closed)?;
        if let Some(event) = self.waiting.pop_front() {
            permit.send(event);
        } else if let Some(peer) = self.missed.iter().next().cloned() {
            self.missed.remove(&peer);
            permit.send(Event::GossipMissed(peer));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: u8) -> PeerId {
        PeerId::new(&[name])
    }

    #[tokio::test]
    async fn what_must_arrive_arrives_in_order_and_misses_once_per_peer() {
        let (sender, mut node) = mpsc::channel(1);
        let mut outbox = Outbox::new(sender);
        assert!(outbox.room_for_gossip().is_some() && outbox.is_empty());
        outbox.push(Event::PeerUp(peer(1)));
        outbox.push(Event::PeerDown(peer(2)));
        assert!(outbox.room_for_gossip().is_none(), "it would overtake");
        for _ in 0..3 {
            outbox.missed(peer(3));
        }
        outbox.missed(peer(4));
        outbox.forget(&peer(4));
        let mut seen = Vec::new();
        while !outbox.is_empty() {
            outbox.deliver().await.expect("the node is there");
            assert!(outbox.room_for_gossip().is_none(), "the queue is full");
            seen.push(format!("{:?}", node.recv().await.expect("an event")));
        }
        assert_eq!(seen, ["PeerUp(peer..01)", "PeerDown(peer..02)", "GossipMissed(peer..03)"]);
        drop(node);
        assert_eq!(outbox.deliver().await, Err(Closed));
    }

    #[test]
    fn it_says_when_it_is_full() {
        let (sender, _node) = mpsc::channel(1);
        let mut outbox = Outbox::new(sender);
        for count in 0..ENOUGH {
            assert!(!outbox.is_full(), "{count}");
            outbox.push(Event::PeerUp(peer(1)));
        }
        assert!(outbox.is_full());
    }
}
