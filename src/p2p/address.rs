//! Multiaddrs as a person writes them: what we can dial and listen on, and nothing else.

use std::io;
use std::net::{IpAddr, TcpListener};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::sync;

/// An address that this program can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Without the peer id.
    pub dial: Multiaddr,
    pub peer: Option<PeerId>,
    pub quic: bool,
    /// What has to be resolved before it can be dialled.
    pub host: Option<DialHost>,
}

/// The name of a host, and which addresses of it are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialHost {
    pub name: String,
    pub wants: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Any,
    V4,
    V6,
}

impl Family {
    pub const fn takes(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }
}

/// What the node was started with: QUIC only when an address of the settings needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transports {
    Tcp,
    TcpAndQuic,
}

impl Transports {
    /// Those that all of these addresses need.
    pub fn needed_by<'a>(mut addresses: impl Iterator<Item = &'a Address>) -> Self {
        if addresses.any(|address| address.quic) { Self::TcpAndQuic } else { Self::Tcp }
    }

    /// Whether this address can be dialled with them.
    pub const fn reach(self, address: &Address) -> bool {
        match self {
            Self::Tcp => !address.quic,
            Self::TcpAndQuic => true,
        }
    }
}

impl Address {
    /// Whether a name has to be resolved before it can be dialled.
    pub const fn is_named(&self) -> bool {
        self.host.is_some()
    }

    /// The same, at this address.
    pub fn at(&self, ip: IpAddr) -> Multiaddr {
        std::iter::once(Protocol::from(ip)).chain(self.dial.iter().skip(1)).collect()
    }

    /// Fails when another process listens there. libp2p shares its TCP port with whoever asks likewise, so that a second node on
    /// one port would silently take half of the first one's peers.
    pub fn check_free(&self) -> io::Result<()> {
        let mut parts = self.dial.iter();
        let ip: IpAddr = match parts.next() {
            Some(Protocol::Ip4(ip)) => ip.into(),
            Some(Protocol::Ip6(ip)) => ip.into(),
            _ => return Ok(()),
        };
        match parts.next() {
            Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind((ip, port)).map(drop),
            _ => Ok(()),
        }
    }
}

/// Whether we can listen there: an IP address with a TCP port or a QUIC one, port 0 for any.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn check_listen_address(text: &str) -> Result<(), String> {
    match parse(text) {
        Ok(Address { peer: None, host: Some(_), .. }) => {
            Err(format!("`{}` names a host: an address is needed to listen at", text.escape_debug()))
        }
        Ok(Address { peer: None, .. }) => Ok(()),
        Ok(_) => Err(format!("`{}` says too much to listen there: leave the peer id out", text.escape_debug())),
        Err(why) => Err(format!("`{}` {why}", text.escape_debug())),
    }
}

/// Whether we can dial it: as for listening, with a port other than 0, and the peer id of who is expected there, which may
/// be left out.
///
/// # Errors
/// What is wrong, as a sentence.
pub fn check_seed_address(text: &str) -> Result<(), String> {
    let address = parse(text).map_err(|why| format!("`{}` {why}", text.escape_debug()))?;
    if address.dial.iter().any(|part| matches!(part, Protocol::Tcp(0) | Protocol::Udp(0))) {
        return Err(format!("`{}` has port 0, which cannot be dialled", text.escape_debug()));
    }
    Ok(())
}

/// libp2p's peer id as the other modules have it.
pub(super) fn to_core(peer: PeerId) -> sync::PeerId {
    sync::PeerId::new(&peer.to_bytes())
}

/// The peer id as libp2p has it; `None`: it is none of libp2p's.
pub(super) fn to_libp2p(peer: &sync::PeerId) -> Option<PeerId> {
    PeerId::from_bytes(peer.as_bytes()).ok()
}

/// An address as it is kept: whose it is, is kept beside it.
pub(super) fn without_peer(address: &Multiaddr) -> Multiaddr {
    address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect()
}

/// The IP address that somebody connects from, or is dialled at.
pub(super) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => Some(ip.into()),
        Some(Protocol::Ip6(ip)) => Some(ip.into()),
        _ => None,
    }
}

/// What an address must be.
const WANTED: &str = "it must read /ip4/<address>/tcp/<port> or /ip4/<address>/udp/<port>/quic-v1, or the same with /ip6, \
                      or with /dns4, /dns6 or /dns and a name, and may end in /p2p/<peer id>";

pub(super) fn parse(text: &str) -> Result<Address, String> {
    let cannot_be_used = || format!("cannot be used: {WANTED}");
    let whole: Multiaddr = text.parse().map_err(|error| format!("is no multiaddr ({error}): {WANTED}"))?;
    let mut parts = whole.iter();
    let first = parts.next();
    let host = host(first.as_ref())?;
    let dial: Multiaddr = first.into_iter().collect();
    let (dial, quic) = match parts.next() {
        Some(tcp @ Protocol::Tcp(_)) => (dial.with(tcp), false),
        Some(udp @ Protocol::Udp(_)) if parts.next() == Some(Protocol::QuicV1) => {
            (dial.with(udp).with(Protocol::QuicV1), true)
        }
        _ => return Err(cannot_be_used()),
    };
    let peer = match parts.next() {
        None => None,
        Some(Protocol::P2p(peer)) => Some(peer),
        Some(_) => return Err(cannot_be_used()),
    };
    if parts.next().is_some() {
        return Err(cannot_be_used());
    }
    Ok(Address { dial, peer, quic, host })
}

/// The host that an address begins with, if it names one.
fn host(first: Option<&Protocol<'_>>) -> Result<Option<DialHost>, String> {
    let (name, wants) = match first {
        Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => return Ok(None),
        Some(Protocol::Dns(name)) => (name, Family::Any),
        Some(Protocol::Dns4(name)) => (name, Family::V4),
        Some(Protocol::Dns6(name)) => (name, Family::V6),
        // The system's resolver, which we ask, knows addresses only.
        Some(Protocol::Dnsaddr(name)) => {
            let record = format!("_dnsaddr.{name}").escape_debug().to_string();
            return Err(format!(
                "names addresses in TXT records, which are not looked up: write them out, as `dig +short TXT {record}` \
                 shows them; {WANTED}"
            ));
        }
        _ => return Err(format!("cannot be used: {WANTED}")),
    };
    if name.is_empty() || name.len() > 253 {
        return Err(format!("has a name that no host can have: {WANTED}"));
    }
    Ok(Some(DialHost { name: name.to_string(), wants }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWGjMCwqRGFRmPDrWGmPQzWRTvXMZNxSfyQdUYzyXBLVVJ";

    #[test]
    fn addresses_that_can_be_used() {
        for (text, quic, peer) in [
            ("/ip4/127.0.0.1/tcp/0".to_owned(), false, false),
            ("/ip6/::1/udp/7676/quic-v1".to_owned(), true, false),
            (format!("/ip4/10.0.0.1/tcp/7676/p2p/{PEER}"), false, true),
            (format!("/ip4/10.0.0.1/udp/1/quic-v1/p2p/{PEER}"), true, true),
        ] {
            let address = parse(&text).unwrap_or_else(|error| panic!("{text} {error}"));
            assert_eq!((address.quic, address.peer.is_some()), (quic, peer), "{text}");
            assert!(text.starts_with(&address.dial.to_string()));
        }
    }

    #[test]
    fn names_are_kept_for_later() {
        let address = parse("/dns4/peer.example/udp/7/quic-v1").expect("a name");
        assert!(address.is_named() && address.quic);
        assert_eq!(address.at([192, 0, 2, 1].into()).to_string(), "/ip4/192.0.2.1/udp/7/quic-v1");
        for (text, v4, v6) in
            [("/dns/a/tcp/1", true, true), ("/dns4/a/tcp/1", true, false), ("/dns6/a/tcp/1", false, true)]
        {
            let host = parse(text).expect(text).host.expect("a name");
            let takes = [IpAddr::from([1, 2, 3, 4]), "::1".parse().expect("an address")].map(|ip| host.wants.takes(ip));
            assert_eq!((host.name.as_str(), takes), ("a", [v4, v6]), "{text}");
        }
        assert!(check_seed_address("/dns4/peer.example/tcp/1").is_ok());
        assert!(check_listen_address("/dns4/peer.example/tcp/1").is_err());
        assert!(check_seed_address(&format!("/dns4/{}/tcp/1", "a".repeat(254))).is_err());
    }

    #[test]
    fn who_writes_a_dnsaddr_is_told_where_its_addresses_are() {
        for text in ["/dnsaddr/peers.example".to_owned(), format!("/dnsaddr/peers.example/p2p/{PEER}")] {
            let why = check_seed_address(&text).expect_err("it cannot be used");
            assert!(why.starts_with(&format!("`{text}` names addresses in TXT records")), "{why}");
            assert!(why.contains("write them out") && why.contains("TXT _dnsaddr.peers.example"), "{why}");
        }
    }

    #[test]
    fn addresses_that_cannot_are_refused_with_a_hint() {
        for text in [
            "",
            "127.0.0.1:7676",
            "/tcp/1",
            "/ip4/127.0.0.1",
            "/ip4/127.0.0.1/udp/1",
            "/ip4/127.0.0.1/udp/1/quic",
            "/ip4/127.0.0.1/tcp/1/ws",
            "/ip4/127.0.0.1/tcp/1/p2p/abc",
            "/ip4/127.0.0.1/tcp/99999",
            "/dns4/example.com",
            "/dnsaddr/example.com",
            "/dnsaddr/example.com/tcp/1",
            "/unix/tmp/x",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("/ip4/<address>/tcp/<port>"), "{text}: {error}");
        }
        assert!(parse(&format!("/ip4/1.2.3.4/tcp/1/p2p/{PEER}/p2p-circuit")).is_err());
    }
}
