//! The text forms that a configuration uses: multiaddrs, checked before anything is opened.

use libp2p::multiaddr::{Multiaddr, Protocol};

/// Whether we can listen there: an IP address, and a TCP port or a QUIC one.
///
/// # Errors
/// Says what is wrong, and what would be right.
pub fn check_listen_address(text: &str) -> Result<(), String> {
    let address = parse(text)?;
    match transport(text, &address)? {
        (_, []) => Ok(()),
        _ => Err(format!(
            "`{}` says too much to listen there: end it with its port, or with /quic-v1",
            text.escape_debug()
        )),
    }
}

/// Whether we can dial it: an address as for listening, with a port other than 0, and the peer id of who is expected there,
/// which may be left out.
///
/// # Errors
/// Says what is wrong, and what would be right.
pub fn check_seed_address(text: &str) -> Result<(), String> {
    let address = parse(text)?;
    match transport(text, &address)? {
        (0, _) => Err(format!("`{}` has port 0, which cannot be dialled", text.escape_debug())),
        (_, [] | [Protocol::P2p(_)]) => Ok(()),
        _ => Err(format!("`{}` must end with its port, or with /p2p/<peer id>", text.escape_debug())),
    }
}

fn parse(text: &str) -> Result<Vec<Protocol<'static>>, String> {
    let address: Multiaddr = text.parse().map_err(|error| {
        format!("`{}` is not a multiaddr ({error}): write for example /ip4/192.0.2.1/tcp/7676", text.escape_debug())
    })?;
    Ok(address.into_iter().map(Protocol::acquire).collect())
}

/// The port, and what follows the transport.
fn transport<'a>(text: &str, address: &'a [Protocol<'static>]) -> Result<(u16, &'a [Protocol<'static>]), String> {
    match address {
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(port), rest @ ..]
        | [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(port), Protocol::QuicV1, rest @ ..] => Ok((*port, rest)),
        [Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_), ..] => {
            Err(format!("`{}` has a name, and names are not looked up: write the IP address", text.escape_debug()))
        }
        _ => Err(format!(
            "`{}` is neither TCP nor QUIC: write for example /ip4/192.0.2.1/tcp/7676 or /ip4/192.0.2.1/udp/7676/quic-v1",
            text.escape_debug()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

    #[test]
    fn what_can_be_listened_on_and_what_can_be_dialled() {
        for good in ["/ip4/0.0.0.0/tcp/0", "/ip6/::1/tcp/7676", "/ip4/127.0.0.1/udp/7676/quic-v1"] {
            assert_eq!(check_listen_address(good), Ok(()), "{good}");
        }
        for bad in
            ["", "127.0.0.1:7676", "/ip4/127.0.0.1", "/ip4/127.0.0.1/udp/1", "/dns/a.b/tcp/1", "/ip4/1.2.3.4/tcp/1/ws"]
        {
            assert!(check_listen_address(bad).is_err(), "{bad}");
            assert!(check_seed_address(bad).is_err(), "{bad}");
        }
        assert!(check_listen_address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}")).is_err());
        assert_eq!(check_seed_address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}")), Ok(()));
        assert_eq!(check_seed_address("/ip4/127.0.0.1/tcp/1"), Ok(()));
        assert!(check_seed_address(&format!("/ip4/127.0.0.1/tcp/0/p2p/{PEER}")).is_err());
        assert!(check_seed_address(&format!("/ip4/127.0.0.1/tcp/1/p2p/{PEER}/p2p-circuit")).is_err());
    }
}
