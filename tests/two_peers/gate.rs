//! The gate, with real connections: who is kept out, on which side, and who is let in all the same.

use std::net::TcpListener;

use blocksyncd::p2p::{PeerPolicy, peer_id_of};
use blocksyncd::sync::PeerId;

use super::network::{Network, Options, TCP, start};
use super::stranger::{Stranger, header_ex};

/// The name of the node that [`Options::new`] makes of this key.
fn name(key: u8) -> String {
    peer_id_of(&[key; 32])
}

fn word(key: u8) -> PeerId {
    let id: libp2p::PeerId = name(key).parse().expect("a peer id");
    PeerId::new(&id.to_bytes())
}

/// An address of the node with this key that nobody listens at: it is known, and comes by itself.
fn somewhere(key: u8) -> String {
    format!("/ip4/127.0.0.1/tcp/1/p2p/{}", name(key))
}

async fn has_peers(network: &Network, expected: usize) {
    while network.peers().await.len() != expected {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn denied_addresses_neither_come_in_nor_are_dialled() {
    let deny = vec!["127.0.0.0/8".to_owned()];
    let closed = start(Options::new(2).policy(PeerPolicy { deny: deny.clone(), ..PeerPolicy::default() })).await;
    Stranger::is_refused(&closed.address).await;
    assert!(closed.peers().await.is_empty());

    // Of two seeds, one at an address that is denied.
    let (there, here) = (start(Options::new(3).listen("/ip4/127.0.0.2/tcp/0")).await, start(Options::new(4)).await);
    let deny = vec!["127.0.0.2".to_owned()];
    let options = Options::new(1).seeds(&[&there.address, &here.address]);
    let mut node = start(options.policy(PeerPolicy { deny, ..PeerPolicy::default() })).await;
    node.up(&here.id()).await;
    assert_eq!((node.peers().await.len(), there.peers().await.len()), (1, 0));
}

#[tokio::test]
async fn denied_and_allowed_peers_are_known_by_their_names() {
    let mut denying = start(Options::new(2).policy(PeerPolicy { deny: vec![name(1)], ..PeerPolicy::default() })).await;
    let mut allowing =
        start(Options::new(3).policy(PeerPolicy { allow: vec![name(1)], ..PeerPolicy::default() })).await;
    Stranger::is_refused(&allowing.address).await;

    let mut node = start(Options::new(1).seeds(&[&denying.address, &allowing.address])).await;
    allowing.up(&word(1)).await;
    node.up(&allowing.id()).await;
    let mut other = start(Options::new(4).seeds(&[&denying.address])).await;
    denying.up(&word(4)).await;
    other.up(&denying.id()).await;
    // Whatever was tried meanwhile: node 1 never came in.
    assert_eq!(denying.peers().await.len(), 1);
    assert!(denying.seen().iter().all(|event| !format!("{event:?}").contains(&format!("{:?}", word(1)))));
}

#[tokio::test]
async fn a_private_node_has_its_persistent_peers_and_no_others() {
    let policy = PeerPolicy { private: true, persistent: vec![somewhere(1)], ..PeerPolicy::default() };
    let mut private = start(Options::new(2).policy(policy)).await;
    Stranger::is_refused(&private.address).await;
    let _friend = start(Options::new(1).seeds(&[&private.address])).await;
    private.up(&word(1)).await;
    assert_eq!(private.peers().await.len(), 1);
}

#[tokio::test]
async fn limits_hold_for_strangers_and_not_for_persistent_peers() {
    for policy in [
        PeerPolicy { max_per_ip: 2, ..PeerPolicy::default() },
        PeerPolicy { max_per_subnet: 2, ..PeerPolicy::default() },
        PeerPolicy { max_inbound: Some(2), ..PeerPolicy::default() },
    ] {
        let options = Options::new(2).policy(PeerPolicy { persistent: vec![somewhere(1)], ..policy });
        let mut server = start(options).await;
        let mut strangers = Vec::new();
        for _ in 0..2 {
            strangers.push(Stranger::connect(&server, &[&header_ex()]).await);
        }
        has_peers(&server, 2).await;
        Stranger::is_refused(&server.address).await;
        let friend = start(Options::new(1).seeds(&[&server.address])).await;
        server.up(&friend.id()).await;
        assert_eq!(server.peers().await.len(), 3);
        // A place is free again when one leaves.
        strangers.pop();
        has_peers(&server, 2).await;
        strangers.push(Stranger::connect(&server, &[&header_ex()]).await);
        has_peers(&server, 3).await;
    }
}

#[tokio::test]
async fn a_crowded_subnet_makes_room_for_another() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6, and so no second subnet");
        return;
    }
    let listen = format!("{TCP},/ip6/::1/tcp/0");
    let server =
        start(Options::new(2).listen(&listen).policy(PeerPolicy { max_inbound: Some(2), ..PeerPolicy::default() }))
            .await;
    let by = |family: &str| {
        let found = server.addresses.iter().find(|address| address.starts_with(family));
        found.unwrap_or_else(|| panic!("no {family} in {:?}", server.addresses)).clone()
    };
    let _first = Stranger::dial(&by("/ip4"), &[&header_ex()]).await.expect("let in");
    has_peers(&server, 1).await;
    let mut second = Stranger::dial(&by("/ip4"), &[&header_ex()]).await.expect("let in");
    has_peers(&server, 2).await;
    Stranger::is_refused(&by("/ip4")).await;
    let mut other = Stranger::dial(&by("/ip6"), &[&header_ex()]).await.expect("let in");
    // The youngest of two that gave nothing.
    second.closed().await;
    has_peers(&server, 2).await;
    Stranger::is_refused(&by("/ip6")).await;
    assert!(other.closed.try_recv().is_err(), "it stays");
}

#[tokio::test]
async fn a_persistent_peer_is_not_banned_by_the_machine() {
    let options = Options::new(2).policy(PeerPolicy { persistent: vec![somewhere(1)], ..PeerPolicy::default() });
    let mut server = start(options).await;
    let mut friend = start(Options::new(1).seeds(&[&server.address])).await;
    server.up(&word(1)).await;
    friend.up(&server.id()).await;
    let stranger = Stranger::connect(&server, &[&header_ex()]).await;
    server.ban(word(1), std::time::Duration::from_mins(1)).await;
    server.ban(stranger.id(), std::time::Duration::from_mins(1)).await;
    has_peers(&server, 1).await;
    assert_eq!(server.peers().await[0].peer, name(1));
    assert_eq!(friend.fetch(&server.id(), blocksyncd::sync::BlockQuery::Head).await.0.len(), 0);
    assert_eq!(friend.peers().await.len(), 1, "it is still connected");
}
