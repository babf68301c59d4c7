//! The node's side of the network: what comes from it goes to the checks, what goes to it waits here until it is taken.
//!
//! 1. What is asked for, or promised, is never dropped: verdicts, fetches and their like. Broadcasts are, the oldest first: who
//!    misses one asks for heads.
//! 2. Nothing reaches the core unchecked.

use bytes::Bytes;

use super::pool::{BlockChecker, CheckSource, Load};
use super::{Node, Ready};
use crate::block::{BlockId, Lane};
use crate::p2p;
use crate::sync::{FetchOutcome, Fetched, Input, PeerId, Ticket, Verdict};

/// Broadcasts that wait for the network to take them.
const MAX_BROADCASTS: usize = 64;

impl Node {
    pub(super) fn command(&mut self, command: p2p::Command) {
        if let p2p::Command::Broadcast { .. } = command {
            let is_broadcast = |command: &p2p::Command| matches!(command, p2p::Command::Broadcast { .. });
            if self.outbox.iter().filter(|command| is_broadcast(command)).count() >= MAX_BROADCASTS
                && let Some(oldest) = self.outbox.iter().position(is_broadcast)
            {
                self.outbox.remove(oldest);
            }
        }
        self.outbox.push_back(command);
    }

    pub(super) fn broadcast(&mut self, id: BlockId) {
        match self.reader.snapshot().block(id.height) {
            Ok(Some((block, _))) if block.hash() == id.hash => {
                self.command(p2p::Command::Broadcast { lane: Lane::BLOCK, bytes: block.bytes().clone() });
            }
            Ok(_) => tracing::debug!(%id, "a block was taken back before it was broadcast"),
            Err(error) => tracing::error!(%id, %error, "a block cannot be read to be broadcast"),
        }
    }

    pub(super) fn event(&mut self, event: p2p::Event) {
        match event {
            p2p::Event::Listening(address) => {
                tracing::info!(%address, "listening");
                self.listen.push(address);
            }
            p2p::Event::Started => self.say_ready(),
            p2p::Event::PeerUp(peer) => self.input(Input::PeerUp { peer }),
            p2p::Event::PeerDown(peer) => self.input(Input::PeerDown { peer }),
            p2p::Event::KnownPeersTried { round } => self.input(Input::KnownPeersTried { round }),
            p2p::Event::GossipMissed(peer) => self.input(Input::GossipMissed { peer }),
            p2p::Event::Gossip { peer, ticket, lane, bytes } => self.check_gossip(peer, ticket, lane, bytes),
            p2p::Event::Fetched { request, lane, bodies, outcome } => {
                let load = if let [body] = bodies.as_slice() { Load::Block(body.len()) } else { Load::Many };
                let check = move |checker: &BlockChecker| Input::Fetched {
                    request,
                    fetched: check_answer(checker, lane, &bodies, outcome),
                };
                match self.pool.submit(CheckSource::Answer(request), load, Box::new(check)) {
                    Some(input) => self.input(input),
                    // It has come in time, however long its checks take.
                    None => self.input(Input::Arrived { request }),
                }
            }
        }
    }

    fn say_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // Whoever asked may have gone away.
            let _ = ready.send(Ready { peer_id: self.peer_id.clone(), listen: self.listen.clone() });
        }
    }

    fn check_gossip(&mut self, peer: PeerId, ticket: Ticket, lane: Lane, bytes: Bytes) {
        let (source, size) = (CheckSource::Peer(peer.clone()), bytes.len());
        let from = peer.clone();
        let check = move |checker: &BlockChecker| {
            let outcome = checker.check(lane, &bytes);
            Input::Gossip { peer: from, ticket, outcome }
        };
        if self.pool.try_submit(source, size, Box::new(check)).is_err() {
            self.command(p2p::Command::Judge { ticket, verdict: Verdict::Ignore });
            self.input(Input::GossipMissed { peer });
        }
    }
}

/// An answer from the network, each block checked. What comes after a bad one is not looked at.
fn check_answer(checker: &BlockChecker, lane: Lane, bodies: &[Bytes], outcome: FetchOutcome) -> Fetched {
    let mut blocks = Vec::with_capacity(bodies.len());
    for body in bodies {
        match checker.check(lane, body) {
            Ok(block) => blocks.push(block),
            Err(fault) => return Fetched { blocks, outcome: FetchOutcome::Invalid(Some(fault)) },
        }
    }
    Fetched { blocks, outcome }
}
