//! What the operator lays down about peers, as written and as understood.
//!
//! Invariants:
//! 1. What contradicts itself is refused, with the setting to change, before anything is opened.

use libp2p::PeerId;

use super::address::{self, Address, to_core};
use super::gate::{ConnectionLimits, GateRules, Subject, Subnet};
use super::limits::Limits;
use super::rate_limit::Rate;
use super::serve::Pace;

/// The most persistent peers, of the settings and of the operator together: they are exempt from the other limits.
pub const MAX_PERSISTENT: usize = 64;

/// See the settings of the same names, which have the same defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPolicy {
    /// Multiaddrs with peer ids.
    pub persistent: Vec<String>,
    /// Persistent peers only.
    pub private: bool,
    /// Peer ids, IP addresses, subnets.
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// `None`: five eighths of what memory allows.
    pub max_inbound: Option<usize>,
    /// `None`: the rest.
    pub max_outbound: Option<usize>,
    pub max_pending: usize,
    pub max_per_peer: usize,
    pub max_per_ip: usize,
    pub max_per_subnet: usize,
    /// So many peers are dialled, of those that we know, besides seeds and persistent peers.
    pub min_outbound: usize,
    /// The namespace in the DHT where nodes of the chain meet; `None`: no DHT. Never in private mode.
    pub rendezvous: Option<String>,
    /// Multiaddrs that peers are told instead of those that we listen at.
    pub announce: Vec<String>,
    /// What one peer is served, in bytes a second, and at once after a pause.
    pub serve_rate: u64,
    pub serve_burst: u64,
    /// What a peer must read of an answer, in bytes a second.
    pub serve_min_rate: u64,
}

impl Default for PeerPolicy {
    fn default() -> Self {
        Self {
            persistent: Vec::new(),
            private: false,
            allow: Vec::new(),
            deny: Vec::new(),
            max_inbound: None,
            max_outbound: None,
            max_pending: 32,
            max_per_peer: 2,
            max_per_ip: 8,
            max_per_subnet: 16,
            min_outbound: 4,
            rendezvous: None,
            announce: Vec::new(),
            serve_rate: 128 << 20,
            serve_burst: 256 << 20,
            serve_min_rate: 32 << 10,
        }
    }
}

/// The policy, understood.
#[derive(Clone, Debug)]
pub(super) struct Understood {
    pub rules: GateRules,
    pub persistent: Vec<Address>,
    pub quota: usize,
}

/// Which setting cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {why}")]
pub struct PolicyError {
    pub setting: &'static str,
    pub why: String,
}

impl PeerPolicy {
    /// Whether it can be used with this budget and these seeds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, limits: &Limits, seeds: &[String]) -> Result<(), PolicyError> {
        self.understand(limits, seeds).map(|_| ())
    }

    pub(super) fn understand(&self, limits: &Limits, seeds: &[String]) -> Result<Understood, PolicyError> {
        let wrong = |setting, why: String| PolicyError { setting, why };
        let persistent = self.persistent_addresses()?;
        if self.private && persistent.is_empty() {
            return Err(wrong("p2p.mode", "it is private, and p2p.persistent is empty: there would be no peer".into()));
        }
        if self.private && !seeds.is_empty() {
            let why = "it is private, and seeds are strangers: write them into p2p.persistent, or leave them out";
            return Err(wrong("p2p.seeds", why.into()));
        }
        let subjects = |setting, texts: &[String]| {
            let parsed = texts.iter().map(|text| subject(text).map_err(|why| wrong(setting, why)));
            parsed.collect::<Result<Vec<_>, _>>()
        };
        let (allow, deny) = (subjects("p2p.allow", &self.allow)?, subjects("p2p.deny", &self.deny)?);
        for peer in persistent.iter().filter_map(|address| address.peer) {
            if deny.iter().any(|subject| subject.is_peer(&to_core(peer))) {
                return Err(wrong("p2p.deny", format!("{peer} is persistent: it can be one or the other")));
            }
        }
        for (setting, number) in [("p2p.serve_rate", self.serve_rate), ("p2p.serve_min_rate", self.serve_min_rate)] {
            if number == 0 {
                return Err(wrong(setting, "with 0 nobody could be served".into()));
            }
        }
        for text in &self.announce {
            address::check_seed_address(text).map_err(|why| wrong("p2p.announce", why))?;
            if address::parse(text).is_ok_and(|address| address.peer.is_some()) {
                return Err(wrong("p2p.announce", format!("`{}`: leave the peer id out", text.escape_debug())));
            }
        }
        if self.private && self.rendezvous.is_some() {
            return Err(wrong("p2p.discovery", "it finds strangers, and p2p.mode is private: turn it off".into()));
        }
        let limits = self.connection_limits(limits)?;
        let quota = if self.private { 0 } else { self.min_outbound.min(limits.outbound) };
        let rules = GateRules { limits, private: self.private, allow, deny };
        Ok(Understood { rules, persistent, quota })
    }

    fn persistent_addresses(&self) -> Result<Vec<Address>, PolicyError> {
        let wrong = |why| PolicyError { setting: "p2p.persistent", why };
        let parse = |text: &String| {
            check_persistent_address(text).map_err(wrong)?;
            address::parse(text).map_err(wrong)
        };
        let persistent = self.persistent.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if persistent.len() > MAX_PERSISTENT {
            return Err(wrong(format!("there may be {MAX_PERSISTENT} at most")));
        }
        Ok(persistent)
    }

    pub(super) const fn pace(&self) -> Pace {
        Pace {
            rate: Rate { bytes_per_second: self.serve_rate, burst_bytes: self.serve_burst },
            min_bytes_per_second: self.serve_min_rate,
        }
    }

    fn connection_limits(&self, limits: &Limits) -> Result<ConnectionLimits, PolicyError> {
        let room = limits.connections;
        // More in than out, and neither all: strangers that dial us cannot take the places of the peers that we choose.
        let (inbound, outbound) = match (self.max_inbound, self.max_outbound) {
            (None, None) => {
                let outbound = (room * 3 / 8).max(1);
                (room - outbound, outbound)
            }
            (Some(inbound), None) => (inbound, room.saturating_sub(inbound)),
            (None, Some(outbound)) => (room.saturating_sub(outbound), outbound),
            (Some(inbound), Some(outbound)) => (inbound, outbound),
        };
        if inbound.saturating_add(outbound) > room {
            let setting = if self.max_inbound.is_some() { "p2p.max_inbound" } else { "p2p.max_outbound" };
            let why = format!(
                "with p2p.max_outbound it allows {} connections, and limits.memory_bytes has room for {room}: lower the \
                 one, or raise the other",
                inbound.saturating_add(outbound)
            );
            return Err(PolicyError { setting, why });
        }
        let Self { max_pending: pending, max_per_peer: per_peer, max_per_ip: per_ip, max_per_subnet, .. } = *self;
        for (setting, number) in [
            ("p2p.max_pending", pending),
            ("p2p.max_per_peer", per_peer),
            ("p2p.max_per_ip", per_ip),
            ("p2p.max_per_subnet", max_per_subnet),
        ] {
            if number == 0 {
                return Err(PolicyError { setting, why: "with 0 nobody could connect".into() });
            }
        }
        Ok(ConnectionLimits { inbound, outbound, pending, per_peer, per_ip, per_subnet: max_per_subnet })
    }
}

/// Whether it is an address of a peer that can be trusted: one with its id.
pub(super) fn check_persistent_address(text: &str) -> Result<(), String> {
    address::check_seed_address(text)?;
    match address::parse(text)?.peer {
        Some(_) => Ok(()),
        None => Err(format!("`{}` must end in /p2p/<peer id>: an address alone can be anybody's", text.escape_debug())),
    }
}

/// A peer id, an IP address, or a subnet.
pub(super) fn subject(text: &str) -> Result<Subject, String> {
    if let Some(addresses) = Subnet::parse(text) {
        return Ok(Subject::Addresses(addresses));
    }
    text.parse::<PeerId>()
        .map(|peer| Subject::Peer(to_core(peer)))
        .map_err(|_| format!("`{}` is no peer id, no IP address, and no subnet as 192.0.2.0/24", text.escape_debug()))
}

/// As it is written.
pub(super) fn show(subject: &Subject) -> String {
    match subject {
        Subject::Addresses(addresses) => addresses.to_string(),
        Subject::Peer(peer) => address::to_libp2p(peer).map_or_else(|| format!("{peer:?}"), PeerId::to_base58),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWGjMCwqRGFRmPDrWGmPQzWRTvXMZNxSfyQdUYzyXBLVVJ";

    fn limits() -> Limits {
        Limits::derive(1 << 30, 1 << 20).expect("enough")
    }

    #[test]
    fn contradictions_are_refused_with_the_setting_to_change() {
        let trusted = || vec![format!("/ip4/192.0.2.1/tcp/1/p2p/{PEER}")];
        let list = |text: &str| vec![text.to_owned()];
        let room = limits().connections;
        for (setting, policy) in [
            ("p2p.persistent", PeerPolicy { persistent: list("/ip4/192.0.2.1/tcp/1"), ..PeerPolicy::default() }),
            ("p2p.persistent", PeerPolicy { persistent: list("nonsense"), ..PeerPolicy::default() }),
            ("p2p.mode", PeerPolicy { private: true, ..PeerPolicy::default() }),
            ("p2p.seeds", PeerPolicy { private: true, persistent: trusted(), ..PeerPolicy::default() }),
            ("p2p.allow", PeerPolicy { allow: list("192.0.2.0/33"), ..PeerPolicy::default() }),
            ("p2p.deny", PeerPolicy { deny: list("12D3Koo"), ..PeerPolicy::default() }),
            ("p2p.deny", PeerPolicy { deny: list(PEER), persistent: trusted(), ..PeerPolicy::default() }),
            ("p2p.max_inbound", PeerPolicy { max_inbound: Some(room), max_outbound: Some(1), ..PeerPolicy::default() }),
            ("p2p.max_outbound", PeerPolicy { max_outbound: Some(room + 1), ..PeerPolicy::default() }),
            ("p2p.announce", PeerPolicy { announce: list("/ip4/192.0.2.1/tcp/0"), ..PeerPolicy::default() }),
            ("p2p.announce", PeerPolicy { announce: trusted(), ..PeerPolicy::default() }),
            ("p2p.max_per_ip", PeerPolicy { max_per_ip: 0, ..PeerPolicy::default() }),
            ("p2p.serve_rate", PeerPolicy { serve_rate: 0, ..PeerPolicy::default() }),
        ] {
            let error = policy.check(&limits(), &list("/ip4/192.0.2.9/tcp/1")).expect_err(setting);
            assert_eq!(error.setting, setting, "{error}");
        }
        let private = PeerPolicy { private: true, persistent: trusted(), ..PeerPolicy::default() };
        private.check(&limits(), &[]).expect("a private network");
    }

    #[test]
    fn what_is_not_set_follows_from_memory() {
        let connections = |policy: PeerPolicy| policy.connection_limits(&limits()).expect("sound");
        let room = limits().connections;
        let derived = connections(PeerPolicy::default());
        assert_eq!(derived.inbound + derived.outbound, room);
        assert!(derived.inbound > derived.outbound && derived.outbound > 0, "{derived:?}");
        assert_eq!(connections(PeerPolicy { max_inbound: Some(1), ..PeerPolicy::default() }).outbound, room - 1);
        assert_eq!(connections(PeerPolicy { max_outbound: Some(0), ..PeerPolicy::default() }).inbound, room);
    }

    #[test]
    fn subjects_are_shown_as_they_are_written() {
        for text in [PEER, "192.0.2.1", "192.0.2.0/24", "2001:db8::/32"] {
            assert_eq!(subject(text).map(|subject| show(&subject)).as_deref(), Ok(text));
        }
    }
}
