//! Who may connect, decided from one table: no libp2p in here, and no clock. Connections are named by whatever names them.
//!
//! Invariants:
//! 1. What the operator denies never connects: a deny entry wins over everything.
//! 2. Persistent peers are exempt from bans, from private mode, from the allow list, from eviction, and from every limit but
//!    `per_peer`. Seeds are exempt from those limits and from eviction only.
//! 3. What is known of an address alone is judged before the handshake, everything once more when the peer is known.
//! 4. What is counted is what is there: an entry is made by [`Table::pending`] or [`Table::established`], and taken away by
//!    [`Table::gone`].

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use super::super::direction::Direction;
use super::bans::Bans;
use super::evict::{Candidate, victim};
use super::subject::{Subject, Subnet};
use crate::sync::PeerId;

/// How many connections there may be. Those of seeds and persistent peers are not counted, but for `per_peer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub inbound: usize,
    pub outbound: usize,
    /// Handshakes under way, of each direction.
    pub pending: usize,
    pub per_peer: usize,
    pub per_ip: usize,
    /// A /24 of IPv4, a /48 of IPv6.
    pub per_subnet: usize,
}

/// What the operator has laid down.
#[derive(Clone, Debug)]
pub struct GateRules {
    pub limits: ConnectionLimits,
    /// Persistent peers only.
    pub private: bool,
    /// When it is not empty: only these, and persistent peers.
    pub allow: Vec<Subject>,
    pub deny: Vec<Subject>,
}

/// Why somebody is not let in; each names the setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("p2p.deny names it")]
    Denied,
    #[error("it is banned: {0}")]
    Banned(String),
    #[error("p2p.allow does not name it")]
    NotAllowed,
    #[error("p2p.mode is private, and it is no persistent peer")]
    Private,
    #[error("{0} connections are all that {1} allows")]
    TooMany(usize, &'static str),
}

#[derive(Clone, Copy, Debug)]
struct PendingConnection {
    direction: Direction,
    ip: Option<IpAddr>,
    /// Of a persistent peer, or of a seed.
    exempt: bool,
}

#[derive(Clone, Debug)]
struct Established {
    peer: PeerId,
    direction: Direction,
    ip: Option<IpAddr>,
    since: Duration,
}

/// All that connections are judged by. Bounded by its own limits, by the numbers of the seeds and persistent peers, and by the
/// bans' bound.
#[derive(Debug)]
pub struct Table<C> {
    rules: GateRules,
    pub bans: Bans,
    persistent: BTreeSet<PeerId>,
    seeds: BTreeSet<PeerId>,
    pending: HashMap<C, PendingConnection>,
    established: HashMap<C, Established>,
    /// Blocks that a connected peer gave us.
    useful: HashMap<PeerId, u64>,
}

impl<C: Copy + Eq + Hash> Table<C> {
    pub fn new(rules: GateRules) -> Self {
        Self {
            rules,
            bans: Bans::default(),
            persistent: BTreeSet::new(),
            seeds: BTreeSet::new(),
            pending: HashMap::new(),
            established: HashMap::new(),
            useful: HashMap::new(),
        }
    }

    pub fn add_persistent(&mut self, peer: PeerId) {
        self.persistent.insert(peer);
    }

    pub fn remove_persistent(&mut self, peer: &PeerId) {
        self.persistent.remove(peer);
    }

    pub fn is_persistent(&self, peer: &PeerId) -> bool {
        self.persistent.contains(peer)
    }

    pub fn persistent(&self) -> impl Iterator<Item = &PeerId> {
        self.persistent.iter()
    }

    /// Whether the settings deny this very peer.
    pub fn is_denied(&self, peer: &PeerId) -> bool {
        self.rules.deny.iter().any(|subject| subject.is_peer(peer))
    }

    pub fn add_seed(&mut self, peer: PeerId) {
        self.seeds.insert(peer);
    }

    /// Whether this peer is not counted, nor limited by anything but `per_peer`.
    pub fn is_exempt(&self, peer: &PeerId) -> bool {
        self.persistent.contains(peer) || self.seeds.contains(peer)
    }

    /// Before the handshake of somebody who dials us.
    pub fn may_try(&self, ip: Option<IpAddr>, now: Duration) -> Result<(), Refusal> {
        let ConnectionLimits { pending, .. } = self.rules.limits;
        self.judge_address(ip, now)?;
        // Who it is will be known after the handshake only; until then it may be a persistent peer.
        let may_be_exempt = !self.persistent.is_empty() || !self.seeds.is_empty();
        if self.rules.private && self.persistent.is_empty() {
            return Err(Refusal::Private);
        }
        let by_address_only = self.rules.allow.iter().all(|subject| matches!(subject, Subject::Addresses(_)));
        if self.persistent.is_empty() && by_address_only && !self.is_allowed(None, ip) {
            return Err(Refusal::NotAllowed);
        }
        let trying = || self.pending.values().filter(|other| other.direction == Direction::Inbound);
        if trying().count() >= pending {
            return Err(Refusal::TooMany(pending, "p2p.max_pending"));
        }
        let inside = self.counted_ips().filter(|_| !may_be_exempt);
        self.judge_neighbours(ip, trying().map(|other| other.ip).chain(inside))
    }

    /// After the handshake of somebody who dialled us. `Some`: this one must go instead.
    pub fn may_enter(&self, peer: &PeerId, ip: Option<IpAddr>, now: Duration) -> Result<Option<C>, Refusal> {
        self.judge_address(ip, now)?;
        self.judge_peer(peer, ip, now)?;
        self.judge_peer_count(peer)?;
        if self.is_exempt(peer) {
            return Ok(None);
        }
        self.judge_neighbours(ip, self.counted_ips())?;
        let inbound: Vec<_> = self.candidates();
        if inbound.len() < self.rules.limits.inbound {
            return Ok(None);
        }
        let refusal = Refusal::TooMany(self.rules.limits.inbound, "p2p.max_inbound");
        victim(&inbound, ip.map(Subnet::around)).map(Some).ok_or(refusal)
    }

    /// Before we dial. Nothing is known of who answers when `peer` is `None`.
    pub fn may_dial(&self, peer: Option<&PeerId>, ips: &[IpAddr], now: Duration) -> Result<(), Refusal> {
        let ConnectionLimits { pending, outbound, .. } = self.rules.limits;
        let judge = |ip: Option<IpAddr>| {
            self.judge_address(ip, now)?;
            match peer {
                Some(peer) => self.judge_peer(peer, ip, now),
                None if self.rules.private => Err(Refusal::Private),
                None => Ok(()),
            }
        };
        // One address that may be dialled is enough; which one it was is judged once more.
        match ips {
            [] => judge(None)?,
            [first, others @ ..] => {
                judge(Some(*first))
                    .or_else(|why| if others.iter().any(|ip| judge(Some(*ip)).is_ok()) { Ok(()) } else { Err(why) })?;
            }
        }
        if peer.is_some_and(|peer| self.is_exempt(peer)) {
            return Ok(());
        }
        if self.pending.values().filter(|other| other.direction == Direction::Outbound && !other.exempt).count()
            >= pending
        {
            return Err(Refusal::TooMany(pending, "p2p.max_pending"));
        }
        if self.outbound() >= outbound {
            return Err(Refusal::TooMany(outbound, "p2p.max_outbound"));
        }
        Ok(())
    }

    /// After the handshake with somebody whom we dialled.
    pub fn may_be_joined(&self, peer: &PeerId, ip: Option<IpAddr>, now: Duration) -> Result<(), Refusal> {
        self.judge_address(ip, now)?;
        self.judge_peer(peer, ip, now)?;
        self.judge_peer_count(peer)?;
        if self.is_exempt(peer) {
            return Ok(());
        }
        self.judge_neighbours(ip, self.counted_ips())?;
        let most = self.rules.limits.outbound;
        if self.outbound() >= most { Err(Refusal::TooMany(most, "p2p.max_outbound")) } else { Ok(()) }
    }

    /// A handshake has begun.
    pub fn pending(&mut self, id: C, direction: Direction, peer: Option<&PeerId>, ip: Option<IpAddr>) {
        let exempt = peer.is_some_and(|peer| self.is_exempt(peer));
        self.pending.insert(id, PendingConnection { direction, ip: ip.map(|ip| ip.to_canonical()), exempt });
    }

    /// A connection is there.
    pub fn established(&mut self, id: C, peer: PeerId, direction: Direction, ip: Option<IpAddr>, now: Duration) {
        self.pending.remove(&id);
        let ip = ip.map(|ip| ip.to_canonical());
        self.established.insert(id, Established { peer, direction, ip, since: now });
    }

    /// It failed, or is closed.
    pub fn gone(&mut self, id: C) {
        self.pending.remove(&id);
        if let Some(gone) = self.established.remove(&id)
            && !self.established.values().any(|other| other.peer == gone.peer)
        {
            self.useful.remove(&gone.peer);
        }
    }

    /// A connected peer gave us so many blocks.
    pub fn gave(&mut self, peer: &PeerId, blocks: u64) {
        if self.established.values().any(|other| other.peer == *peer) {
            let useful = self.useful.entry(peer.clone()).or_default();
            *useful = useful.saturating_add(blocks);
        }
    }

    /// The connections that the rules of this moment would not let in, whatever the limits.
    pub fn unwelcome(&self, now: Duration) -> Vec<(C, PeerId)> {
        let refused = |(id, connection): (&C, &Established)| {
            let Established { peer, ip, .. } = connection;
            let judged = self.judge_address(*ip, now).and_then(|()| self.judge_peer(peer, *ip, now));
            judged.is_err().then(|| (*id, peer.clone()))
        };
        self.established.iter().filter_map(refused).collect()
    }

    /// Connections that count, and that we dialled.
    pub fn outbound(&self) -> usize {
        self.counted().filter(|(_, connection)| connection.direction == Direction::Outbound).count()
    }

    /// The subnets of the connections that we dialled.
    pub fn outbound_subnets(&self) -> BTreeSet<Subnet> {
        let outbound = self.established.values().filter(|connection| connection.direction == Direction::Outbound);
        outbound.filter_map(|connection| connection.ip.map(Subnet::around)).collect()
    }

    /// Whose connection it is.
    pub fn peer_of(&self, id: C) -> Option<&PeerId> {
        self.established.get(&id).map(|connection| &connection.peer)
    }

    /// Rules about addresses. Persistent peers are free of bans, but not of one of their address: who is at an address is
    /// known too late.
    pub fn judge_address(&self, ip: Option<IpAddr>, now: Duration) -> Result<(), Refusal> {
        if self.rules.deny.iter().any(|subject| subject.covers(ip)) {
            return Err(Refusal::Denied);
        }
        match ip.and_then(|ip| self.bans.of_address(ip, now)) {
            Some(ban) => Err(Refusal::Banned(ban.reason.clone())),
            None => Ok(()),
        }
    }

    /// Rules about peers.
    pub fn judge_peer(&self, peer: &PeerId, ip: Option<IpAddr>, now: Duration) -> Result<(), Refusal> {
        if self.is_denied(peer) {
            return Err(Refusal::Denied);
        }
        if self.persistent.contains(peer) {
            return Ok(());
        }
        if let Some(ban) = self.bans.of_peer(peer, now) {
            return Err(Refusal::Banned(ban.reason.clone()));
        }
        if self.rules.private {
            return Err(Refusal::Private);
        }
        if self.is_allowed(Some(peer), ip) { Ok(()) } else { Err(Refusal::NotAllowed) }
    }

    fn is_allowed(&self, peer: Option<&PeerId>, ip: Option<IpAddr>) -> bool {
        let names = |subject: &Subject| subject.covers(ip) || peer.is_some_and(|peer| subject.is_peer(peer));
        self.rules.allow.is_empty() || self.rules.allow.iter().any(names)
    }

    fn judge_peer_count(&self, peer: &PeerId) -> Result<(), Refusal> {
        let most = self.rules.limits.per_peer;
        let there = self.established.values().filter(|connection| connection.peer == *peer).count();
        if there >= most { Err(Refusal::TooMany(most, "p2p.max_per_peer")) } else { Ok(()) }
    }

    /// Whether one more fits among `others`, whose addresses are canonical, as the table's are.
    fn judge_neighbours(
        &self,
        ip: Option<IpAddr>,
        others: impl Iterator<Item = Option<IpAddr>>,
    ) -> Result<(), Refusal> {
        let Some(ip) = ip.map(|ip| ip.to_canonical()) else { return Ok(()) };
        let ConnectionLimits { per_ip, per_subnet, .. } = self.rules.limits;
        let subnet = Subnet::around(ip);
        let near: Vec<_> = others.flatten().filter(|other| subnet.contains(*other)).collect();
        if near.iter().filter(|other| **other == ip).count() >= per_ip {
            return Err(Refusal::TooMany(per_ip, "p2p.max_per_ip"));
        }
        if near.len() >= per_subnet {
            return Err(Refusal::TooMany(per_subnet, "p2p.max_per_subnet"));
        }
        Ok(())
    }

    fn counted(&self) -> impl Iterator<Item = (&C, &Established)> {
        self.established.iter().filter(|(_, connection)| !self.is_exempt(&connection.peer))
    }

    fn counted_ips(&self) -> impl Iterator<Item = Option<IpAddr>> {
        self.counted().map(|(_, connection)| connection.ip)
    }

    fn candidates(&self) -> Vec<Candidate<C>> {
        let candidate = |(id, connection): (&C, &Established)| Candidate {
            id: *id,
            subnet: connection.ip.map(Subnet::around),
            useful: self.useful.get(&connection.peer).copied().unwrap_or(0),
            since: connection.since,
        };
        self.counted().filter(|(_, connection)| connection.direction == Direction::Inbound).map(candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bans::Ban;
    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn peer(name: u8) -> PeerId {
        PeerId::new(&[name])
    }

    #[allow(clippy::unnecessary_wraps, reason = "as the table takes it")]
    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn subnet(text: &str) -> Subject {
        Subject::Addresses(Subnet::parse(text).expect("a subnet"))
    }

    fn rules() -> GateRules {
        let limits = ConnectionLimits { inbound: 4, outbound: 2, pending: 3, per_peer: 2, per_ip: 2, per_subnet: 3 };
        GateRules { limits, private: false, allow: Vec::new(), deny: Vec::new() }
    }

    /// Peer 1 persistent, peer 2 a seed, peer 3 banned, the addresses 203.0.113.0/24 too.
    fn table(rules: GateRules) -> Table<u32> {
        let mut table = Table::new(rules);
        table.add_persistent(peer(1));
        table.add_seed(peer(2));
        let ban = Ban { until: NOW + Duration::from_mins(1), reason: "why".into(), by_operator: false };
        table.bans.add(Subject::Peer(peer(1)), ban.clone(), NOW);
        table.bans.add(Subject::Peer(peer(3)), ban.clone(), NOW);
        table.bans.add(subnet("203.0.113.0/24"), ban, NOW);
        table
    }

    #[test]
    fn who_is_who() {
        use Refusal::{Banned, Denied, NotAllowed, Private};
        let banned = || Some(Banned("why".into()));
        let denies = |deny: Subject| GateRules { deny: vec![deny], ..rules() };
        let allows = |allow: Subject| GateRules { allow: vec![allow], ..rules() };
        let private = || GateRules { private: true, ..rules() };
        for (name, rules, who, from, expected) in [
            ("a stranger", rules(), 9, "192.0.2.1", None),
            ("a banned one", rules(), 3, "192.0.2.1", banned()),
            ("a persistent one is free of bans", rules(), 1, "192.0.2.1", None),
            ("a banned address", rules(), 9, "203.0.113.9", banned()),
            ("a banned address, written otherwise", rules(), 9, "::ffff:203.0.113.9", banned()),
            ("denied by name", denies(Subject::Peer(peer(9))), 9, "192.0.2.1", Some(Denied)),
            ("denied by address", denies(subnet("192.0.2.1")), 9, "192.0.2.1", Some(Denied)),
            ("the next address", denies(subnet("192.0.2.1")), 9, "192.0.2.2", None),
            ("denied by subnet", denies(subnet("192.0.2.0/24")), 9, "192.0.2.77", Some(Denied)),
            ("denied by subnet, IPv6", denies(subnet("2001:db8::/32")), 9, "2001:db8:7::1", Some(Denied)),
            ("denied, though persistent", denies(Subject::Peer(peer(1))), 1, "192.0.2.1", Some(Denied)),
            ("an address denied to a persistent one", denies(subnet("192.0.2.0/24")), 1, "192.0.2.1", Some(Denied)),
            ("allowed by name", allows(Subject::Peer(peer(9))), 9, "192.0.2.1", None),
            ("not allowed", allows(Subject::Peer(peer(8))), 9, "192.0.2.1", Some(NotAllowed)),
            ("allowed by subnet", allows(subnet("192.0.2.0/24")), 9, "192.0.2.1", None),
            ("not in the subnet", allows(subnet("192.0.2.0/24")), 9, "192.0.3.1", Some(NotAllowed)),
            ("persistent, and so allowed", allows(subnet("192.0.2.0/24")), 1, "192.0.3.1", None),
            ("allowed, but banned", allows(Subject::Peer(peer(3))), 3, "192.0.2.1", banned()),
            ("private: a stranger", private(), 9, "192.0.2.1", Some(Private)),
            ("private: a seed", private(), 2, "192.0.2.1", Some(Private)),
            ("private: a persistent one", private(), 1, "192.0.2.1", None),
        ] {
            let table = table(rules);
            let (peer, from) = (peer(who), ip(from));
            assert_eq!(table.may_enter(&peer, from, NOW).err(), expected, "in: {name}");
            assert_eq!(table.may_be_joined(&peer, from, NOW).err(), expected, "out, joined: {name}");
            assert_eq!(table.may_dial(Some(&peer), &[from.expect("given")], NOW).err(), expected, "out: {name}");
        }
    }

    #[test]
    fn what_an_address_alone_decides_is_decided_before_the_handshake() {
        for (name, rules, from, refused) in [
            ("a stranger", rules(), "192.0.2.1", false),
            ("banned", rules(), "203.0.113.9", true),
            ("denied", GateRules { deny: vec![subnet("192.0.2.0/24")], ..rules() }, "192.0.2.1", true),
            ("not allowed", GateRules { allow: vec![subnet("192.0.2.0/24")], ..rules() }, "192.0.3.1", true),
            ("perhaps allowed", GateRules { allow: vec![Subject::Peer(peer(9))], ..rules() }, "192.0.3.1", false),
            ("private", GateRules { private: true, ..rules() }, "192.0.2.1", true),
        ] {
            let mut table = table(rules);
            table.remove_persistent(&peer(1));
            assert_eq!(table.may_try(ip(from), NOW).is_err(), refused, "{name}");
            table.add_persistent(peer(1));
            let by_address = matches!(name, "banned" | "denied");
            assert_eq!(table.may_try(ip(from), NOW).is_err(), by_address, "{name}, but it may be a persistent peer");
        }
    }

    #[test]
    fn numbers_hold_for_both_directions_and_not_for_persistent_peers() {
        let too_many = |most, setting| Some(Refusal::TooMany(most, setting));
        let mut table = table(rules());
        for (id, from) in [(0, "10.0.0.1"), (1, "10.0.0.1"), (2, "10.0.0.2")] {
            let who = peer(10 + u8::try_from(id).expect("small"));
            assert_eq!(table.may_enter(&who, ip(from), NOW), Ok(None));
            table.established(id, who, Direction::Inbound, ip(from), NOW);
        }
        let enters = |table: &Table<u32>, who: u8, from| table.may_enter(&peer(who), ip(from), NOW).err();
        assert_eq!(enters(&table, 20, "10.0.0.1"), too_many(2, "p2p.max_per_ip"));
        assert_eq!(enters(&table, 20, "::ffff:10.0.0.1"), too_many(2, "p2p.max_per_ip"));
        assert_eq!(enters(&table, 20, "10.0.0.3"), too_many(3, "p2p.max_per_subnet"));
        let joined = table.may_be_joined(&peer(20), ip("10.0.0.3"), NOW).err();
        assert_eq!(joined, too_many(3, "p2p.max_per_subnet"), "and outbound");
        for exempt in [1, 2] {
            assert_eq!(enters(&table, exempt, "10.0.0.1"), None, "persistent, and a seed");
        }
        assert_eq!(enters(&table, 20, "10.0.1.1"), None);
        table.gone(1);
        assert_eq!(enters(&table, 20, "10.0.0.1"), None, "a place is free again");

        // One peer's own.
        table.established(30, peer(1), Direction::Inbound, ip("10.9.0.1"), NOW);
        table.established(31, peer(1), Direction::Outbound, ip("10.9.0.1"), NOW);
        assert_eq!(enters(&table, 1, "10.9.0.2"), too_many(2, "p2p.max_per_peer"), "also a persistent one");

        // Outbound, where persistent ones do not count.
        for (id, who, from) in [(40, 40, "10.1.0.1"), (41, 41, "10.2.0.1")] {
            assert_eq!(table.may_dial(Some(&peer(who)), &[], NOW), Ok(()));
            table.established(id, peer(who), Direction::Outbound, ip(from), NOW);
        }
        assert_eq!(table.may_dial(Some(&peer(42)), &[], NOW).err(), too_many(2, "p2p.max_outbound"));
        assert_eq!(table.may_be_joined(&peer(42), ip("10.3.0.1"), NOW).err(), too_many(2, "p2p.max_outbound"));
        assert_eq!(table.may_dial(Some(&peer(2)), &[], NOW), Ok(()));
        assert_eq!(table.outbound(), 2);
    }

    #[test]
    fn handshakes_are_counted_before_anybody_is_known() {
        let mut table = table(rules());
        let tries = |table: &Table<u32>, from| table.may_try(ip(from), NOW).is_ok();
        table.pending(0, Direction::Inbound, None, ip("10.0.0.1"));
        assert!(tries(&table, "10.0.0.1"));
        table.pending(1, Direction::Inbound, None, ip("10.0.0.1"));
        assert!(!tries(&table, "10.0.0.1") && tries(&table, "10.0.0.2"));
        assert!(!tries(&table, "::ffff:10.0.0.1"), "the same, written otherwise");
        table.pending(2, Direction::Inbound, None, ip("10.5.0.1"));
        assert!(!tries(&table, "10.6.0.1"), "all places to wait are taken");
        table.gone(2);
        assert!(tries(&table, "10.6.0.1"));
        // While persistent peers are missing, a full house may still be theirs; without any, it is refused at the door.
        table.established(0, peer(8), Direction::Inbound, ip("10.0.0.1"), NOW);
        table.established(1, peer(9), Direction::Inbound, ip("10.0.0.1"), NOW);
        assert!(tries(&table, "10.0.0.1"));
        table.remove_persistent(&peer(1));
        table.seeds.clear();
        assert!(!tries(&table, "10.0.0.1"));
        // Ours are counted apart.
        for id in 10..13 {
            assert_eq!(table.may_dial(None, &[], NOW), Ok(()));
            table.pending(id, Direction::Outbound, None, None);
        }
        assert!(table.may_dial(None, &[], NOW).is_err());
        assert!(tries(&table, "10.6.0.1"));
    }

    #[test]
    fn a_full_house_makes_room_for_another_subnet_only() {
        let mut table = table(rules());
        for (id, from) in [(0, "10.0.0.1"), (1, "10.0.0.2"), (2, "10.0.1.1"), (3, "10.0.2.1")] {
            table.established(id, peer(10 + u8::try_from(id).expect("small")), Direction::Inbound, ip(from), NOW);
        }
        table.gave(&peer(11), 5);
        assert_eq!(table.may_enter(&peer(20), ip("10.0.3.1"), NOW), Ok(Some(0)), "the less useful of the pair");
        assert!(table.may_enter(&peer(20), ip("10.0.1.2"), NOW).is_err());
        // A persistent peer needs no place, and is nobody's.
        table.add_persistent(peer(10));
        assert_eq!(table.may_enter(&peer(20), ip("10.0.3.1"), NOW), Ok(None));
        table.gone(1);
        assert!(table.useful.is_empty());
    }

    #[test]
    fn who_is_inside_is_judged_again_by_new_rules() {
        let mut table = table(rules());
        table.established(0, peer(9), Direction::Inbound, ip("192.0.2.1"), NOW);
        table.established(1, peer(3), Direction::Inbound, ip("192.0.2.2"), NOW);
        table.established(2, peer(1), Direction::Inbound, ip("203.0.113.1"), NOW);
        let mut unwelcome = table.unwelcome(NOW);
        unwelcome.sort_by_key(|(id, _)| *id);
        assert_eq!(unwelcome, [(1, peer(3)), (2, peer(1))]);
        assert!(table.unwelcome(NOW + Duration::from_mins(1)).is_empty(), "bans end");
    }
}
