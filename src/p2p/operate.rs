//! What an operator asks and orders about peers while the network runs.
//!
//! Invariants:
//! 1. What was ordered is in force, and on disk, when the answer is given.
//! 2. What the settings say is changed in the settings: an order against them is refused, with the setting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use libp2p::PeerId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::address::{self, to_core, to_libp2p};
use super::address_book::{self, AddressBookUpdate, AddressEntry};
use super::driver::Driver;
use super::gate::{Ban, LONGEST, Subject};
use super::policy;
use super::seeds::AddedBy;
use crate::sync::{BanInfo, PeerInfo, PeerList, PeerOrder, PeerStanding};

type Standings = BTreeMap<crate::sync::PeerId, PeerStanding>;

impl Driver {
    /// Everybody who is connected or persistent, in the order of their names, and all bans.
    pub(super) fn list(&self, standings: &Standings) -> PeerList {
        let (now, unix) = (Instant::now(), self.unix());
        let table = &self.swarm.behaviour().gate.table;
        let mut ids: BTreeSet<PeerId> = self.peers.ids().collect();
        ids.extend(table.persistent().filter_map(to_libp2p));
        let mut peers: Vec<_> = ids.into_iter().map(|id| self.info(id, standings, now)).collect();
        peers.sort_by(|a, b| a.peer.cmp(&b.peer));
        let ban = |(subject, ban): (&Subject, &Ban)| BanInfo {
            subject: policy::show(subject),
            reason: ban.reason.clone(),
            left: ban.until.saturating_sub(unix),
            by_operator: ban.by_operator,
        };
        PeerList { peers, bans: table.bans.iter().map(ban).filter(|ban| !ban.left.is_zero()).collect() }
    }

    fn info(&self, id: PeerId, standings: &Standings, now: Instant) -> PeerInfo {
        let mut info = self.peers.info(id, now);
        let named = to_core(id);
        info.persistent = self.swarm.behaviour().gate.table.is_persistent(&named);
        info.standing = standings.get(&named).cloned().unwrap_or_default();
        if let Some(AddressEntry { addresses, blocks, bytes, .. }) = self.address_book.get(&id) {
            for known in addresses {
                if !info.addresses.contains(known) {
                    info.addresses.push(known.clone());
                }
            }
            (info.blocks, info.bytes) = (*blocks, *bytes);
        }
        info
    }

    /// Carries out an order, and answers when it will outlive the process.
    pub(super) fn order(&mut self, order: PeerOrder, reply: oneshot::Sender<Result<(), String>>) {
        tracing::warn!(?order, "an operator's order");
        let outcome = match order {
            PeerOrder::Add { address } => self.add(&address),
            PeerOrder::Remove { peer } => self.remove(&peer),
            PeerOrder::Ban { subject, duration, reason } => self.ban_by_order(&subject, duration, &reason),
            PeerOrder::Unban { subject } => self.unban(&subject),
        };
        match outcome {
            Ok(()) => self.address_book_writer.and_tell(reply, Instant::now()),
            // Whoever asked may have gone away.
            Err(why) => drop(reply.send(Err(why))),
        }
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        policy::check_persistent_address(text)?;
        let address = address::parse(text)?;
        let peer = address.peer.ok_or("it has no peer id")?;
        let named = to_core(peer);
        if peer == *self.swarm.local_peer_id() {
            return Err("that is this node itself".into());
        }
        if !self.transports.reach(&address) {
            return Err(
                "this node was started without any QUIC address, and cannot dial one: put it into the settings".into(),
            );
        }
        let now = Instant::now();
        let table = &mut self.swarm.behaviour_mut().gate.table;
        if table.is_denied(&named) {
            return Err("p2p.deny names it: take it out there".into());
        }
        self.address_book.add(peer, &address.dial.to_string())?;
        table.bans.lift(&Subject::Peer(named.clone()));
        table.add_persistent(named);
        self.seeds.add(address, AddedBy::Operator, now);
        if self.swarm.is_connected(&peer) {
            self.seeds.mark_connected(peer, now);
        }
        Ok(())
    }

    fn remove(&mut self, text: &str) -> Result<(), String> {
        let peer = text.parse::<PeerId>().map_err(|_| format!("`{}` is no peer id", text.escape_debug()))?;
        let named = to_core(peer);
        if self.configured.contains(&peer) {
            return Err("p2p.persistent names it: take it out there".into());
        }
        if self.address_book.remove(&peer) == AddressBookUpdate::Unchanged {
            return Err("it is no persistent peer".into());
        }
        self.seeds.remove_added(peer);
        self.dial_ended(None);
        let gate = &mut self.swarm.behaviour_mut().gate;
        gate.table.remove_persistent(&named);
        gate.enforce();
        Ok(())
    }

    fn ban_by_order(&mut self, text: &str, duration: Duration, reason: &str) -> Result<(), String> {
        let subject = policy::subject(text)?;
        if duration.is_zero() || duration > LONGEST {
            let longest = LONGEST.as_secs() / (24 * 3600);
            return Err(format!("a ban lasts a while, and at most {longest} days: p2p.deny is for ever"));
        }
        if subject.is_peer(&to_core(*self.swarm.local_peer_id())) {
            return Err("that is this node itself".into());
        }
        let now = self.unix();
        let gate = &mut self.swarm.behaviour_mut().gate;
        if gate.table.persistent().any(|peer| subject.is_peer(peer)) {
            return Err("it is a persistent peer: remove it first".into());
        }
        let reason = if reason.is_empty() { "by the operator".into() } else { address_book::short(reason) };
        gate.table.bans.add(subject, Ban { until: now + duration, reason, by_operator: true }, now);
        gate.enforce();
        Ok(())
    }

    fn unban(&mut self, text: &str) -> Result<(), String> {
        let subject = policy::subject(text)?;
        match self.swarm.behaviour_mut().gate.table.bans.lift(&subject) {
            Some(_) => Ok(()),
            None => Err("it is not banned".into()),
        }
    }
}
