//! What a rule is about: one peer, one IP address, or a subnet.
//!
//! Invariants:
//! 1. An address has one form: an IPv4 address inside an IPv6 one is the IPv4 address, and a subnet has no bits behind its
//!    prefix, so that no rule can be passed by writing an address differently.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sync::PeerId;

/// The part of an address that one owner is likely to have as a whole.
const NEIGHBOURHOOD_V4: u8 = 24;
const NEIGHBOURHOOD_V6: u8 = 48;

/// Some addresses with a common prefix; one address, when the prefix is all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    first: IpAddr,
    bits: u8,
}

impl Subnet {
    /// As `192.0.2.1`, `192.0.2.0/24`, `2001:db8::/48`.
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip.parse().ok()?, Some(bits.parse().ok()?)),
            None => (text.parse().ok()?, None),
        };
        Self::new(ip, bits)
    }

    fn new(ip: IpAddr, bits: Option<u8>) -> Option<Self> {
        let all = width(ip);
        let bits = bits.unwrap_or(all);
        if bits > all {
            return None;
        }
        // ::ffff:192.0.2.0/120 is 192.0.2.0/24.
        let canonical = ip.to_canonical();
        let bits = if canonical == ip { bits } else { bits.checked_sub(96)? };
        Some(Self { first: masked(canonical, bits), bits })
    }

    /// The subnet that an address is counted with.
    pub fn around(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        let bits = if ip.is_ipv4() { NEIGHBOURHOOD_V4 } else { NEIGHBOURHOOD_V6 };
        Self { first: masked(ip, bits), bits }
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.first.is_ipv4() && masked(ip, self.bits) == self.first
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bits == width(self.first) { self.first.fmt(f) } else { write!(f, "{}/{}", self.first, self.bits) }
    }
}

const fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// Who a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    Peer(PeerId),
    Addresses(Subnet),
}

impl Subject {
    pub fn is_peer(&self, peer: &PeerId) -> bool {
        matches!(self, Self::Peer(named) if named == peer)
    }

    pub fn covers(&self, ip: Option<IpAddr>) -> bool {
        matches!((self, ip), (Self::Addresses(subnet), Some(ip)) if subnet.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn subnets_are_read_and_shown_in_one_form() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1/32", "192.0.2.1"),
            ("192.0.2.77/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8:1:2::3/48", "2001:db8:1::/48"),
            ("::ffff:192.0.2.77", "192.0.2.77"),
            ("::ffff:192.0.2.77/120", "192.0.2.0/24"),
        ] {
            assert_eq!(Subnet::parse(text).map(|subnet| subnet.to_string()).as_deref(), Some(shown), "{text}");
        }
        for text in ["", "192.0.2", "192.0.2.1/33", "::/129", "::ffff:192.0.2.77/90", "1.2.3.4/", "a/8", "1.2.3.4/-1"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_subnet_contains() {
        for (subnet, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.0/24", "::ffff:192.0.2.9", "2001:db8::1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.1", "::1"),
            ("2001:db8:1::/48", "2001:db8:1:ffff::1", "2001:db8:2::1"),
        ] {
            let parsed = Subnet::parse(subnet).expect(subnet);
            assert!(parsed.contains(ip(inside)), "{subnet} {inside}");
            assert!(!parsed.contains(ip(outside)), "{subnet} {outside}");
        }
        assert_eq!(Subnet::around(ip("::ffff:192.0.2.9")).to_string(), "192.0.2.0/24");
        assert_eq!(Subnet::around(ip("2001:db8:1:2::3")).to_string(), "2001:db8:1::/48");
    }
}
