//! What is remembered of peers, and what an operator orders about them, over restarts.

use std::time::Duration;

use blocksyncd::p2p::{PeerPolicy, peer_id_of};
use blocksyncd::sync::{BlockQuery, PeerOrder};

use super::network::{Chain, Network, Options, TCP, range, start};
use super::stranger::{Stranger, header_ex};
use super::tempdir::TempDir;

const MINUTE: Duration = Duration::from_mins(1);

fn add(address: &str) -> PeerOrder {
    PeerOrder::Add { address: address.to_owned() }
}

fn ban(subject: &str) -> PeerOrder {
    PeerOrder::Ban { subject: subject.to_owned(), duration: MINUTE, reason: "it\nis rude".to_owned() }
}

fn unban(subject: &str) -> PeerOrder {
    PeerOrder::Unban { subject: subject.to_owned() }
}

fn remove(peer: &str) -> PeerOrder {
    PeerOrder::Remove { peer: peer.to_owned() }
}

/// The subjects that are banned, with reasons.
async fn bans(network: &Network) -> Vec<(String, String)> {
    let bans = network.list().await.bans;
    assert!(bans.iter().all(|ban| ban.left <= MINUTE && !ban.left.is_zero()), "{bans:?}");
    bans.into_iter().map(|ban| (ban.subject, ban.reason)).collect()
}

#[tokio::test]
async fn orders_are_in_force_at_once_and_after_a_restart() {
    let dir = TempDir::new();
    let book = dir.path().join("peers.json");
    let mut server = start(Options::new(2)).await;
    let (server_name, subnet) = (peer_id_of(&[2; 32]), "203.0.113.0/24");

    let mut node = start(Options::new(1).book(&book)).await;
    let stranger = Stranger::connect(&node, &[&header_ex()]).await;
    let mut rude = Stranger::connect(&node, &[&header_ex()]).await;
    let rude_name = rude.name();
    node.order(ban(&rude_name)).await.expect("done");
    rude.closed().await;
    node.order(ban(subnet)).await.expect("done");
    node.order(add(&server.address)).await.expect("done");
    node.up(&server.id()).await;
    assert!(node.order(ban(&server_name)).await.is_err(), "a persistent peer");
    drop(stranger);
    server.up(&node.id()).await;
    node.stop().await;
    server.down(&Options::new(1).id()).await;

    let mut node = start(Options::new(1).book(&book)).await;
    node.up(&server.id()).await;
    assert!(node.peers().await.iter().any(|peer| peer.peer == server_name && peer.persistent));
    let reason = "it\\nis rude".to_owned();
    let mut expected = vec![(rude_name.clone(), reason.clone()), (subnet.to_owned(), reason)];
    expected.sort();
    let mut found = bans(&node).await;
    found.sort();
    assert_eq!(found, expected);

    node.order(unban(&rude_name)).await.expect("done");
    node.order(remove(&server_name)).await.expect("done");
    assert!(node.order(unban(&rude_name)).await.is_err() && node.order(remove(&server_name)).await.is_err());
    node.stop().await;
    let node = start(Options::new(1).book(&book)).await;
    assert_eq!(bans(&node).await.len(), 1);
    assert!(node.list().await.peers.iter().all(|peer| !peer.persistent));
}

#[tokio::test]
async fn a_ban_by_the_machine_survives_it() {
    let dir = TempDir::new();
    let book = dir.path().join("peers.json");
    let mut server = start(Options::new(2).book(&book)).await;
    let client = start(Options::new(1).seeds(&[&server.address])).await;
    server.up(&client.id()).await;
    server.ban(client.id(), MINUTE).await;
    server.down(&client.id()).await;
    server.stop().await;
    let server = start(Options::new(2).book(&book)).await;
    let banned = bans(&server).await;
    assert_eq!(banned[0].0, peer_id_of(&[1; 32]));
    assert!(banned[0].1.starts_with("answered a range request"), "{banned:?}");
}

#[tokio::test]
async fn orders_that_cannot_be_carried_out_say_why() {
    let persistent = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", peer_id_of(&[7; 32]));
    let policy =
        PeerPolicy { persistent: vec![persistent.clone()], deny: vec![peer_id_of(&[8; 32])], ..PeerPolicy::default() };
    let node = start(Options::new(1).policy(policy)).await;
    let own = node.address.clone();
    let denied = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", peer_id_of(&[8; 32]));
    let too_long = PeerOrder::Ban { subject: "192.0.2.1".into(), duration: Duration::MAX, reason: String::new() };
    for (order, why) in [
        (add("nonsense"), "multiaddr"),
        (add("/ip4/127.0.0.1/tcp/1"), "/p2p/"),
        (add("/ip4/127.0.0.1/udp/1/quic-v1/p2p/12D3KooWGjMCwqRGFRmPDrWGmPQzWRTvXMZNxSfyQdUYzyXBLVVJ"), "QUIC"),
        (add(&own), "itself"),
        (add(&denied), "p2p.deny"),
        (remove("nobody"), "peer id"),
        (remove(&peer_id_of(&[7; 32])), "p2p.persistent"),
        (ban("192.0.2.0/33"), "subnet"),
        (ban(&peer_id_of(&[7; 32])), "persistent"),
        (too_long, "p2p.deny"),
        (unban("192.0.2.1"), "not banned"),
    ] {
        let said = node.order(order.clone()).await.expect_err("refused");
        assert!(said.contains(why), "{order:?}: {said}");
    }
    let missing = node.list().await.peers;
    assert_eq!((missing.len(), missing[0].connected, missing[0].persistent), (1, None, true));
}

#[tokio::test]
async fn what_a_peer_gave_is_counted_and_remembered() {
    let dir = TempDir::new();
    let book = dir.path().join("peers.json");
    let server = start(Options::new(2).chain(Chain::new(1..=5, 100))).await;
    let mut client = start(Options::new(1).seeds(&[&server.address]).book(&book)).await;
    client.up(&server.id()).await;
    assert_eq!(client.fetch(&server.id(), range(1, 3)).await.0.len(), 3);
    client.fetch(&server.id(), BlockQuery::Head).await;
    let gave = |peer: &blocksyncd::sync::PeerInfo| (peer.blocks, peer.bytes);
    assert_eq!(gave(&client.peers().await[0]), (4, 400));
    client.stop().await;
    let mut client = start(Options::new(1).seeds(&[&server.address]).book(&book)).await;
    client.up(&server.id()).await;
    client.fetch(&server.id(), BlockQuery::Head).await;
    assert_eq!(gave(&client.peers().await[0]), (5, 500));
}

#[tokio::test]
async fn a_damaged_file_stops_nobody() {
    let dir = TempDir::new();
    let book = dir.path().join("peers.json");
    for damage in ["", "{", "\u{0}\u{1}", "{\"version\":1,\"peers\":[7],\"bans\":[{}]}"] {
        std::fs::write(&book, damage).expect("written");
        let node = start(Options::new(1).book(&book)).await;
        node.order(ban("192.0.2.1")).await.expect("done");
        node.stop().await;
        let node = start(Options::new(1).book(&book).listen(TCP)).await;
        assert_eq!(bans(&node).await.len(), 1, "{damage:?}");
        node.stop().await;
    }
    // Nor does one that cannot be written: it is said.
    let node = start(Options::new(1).book(&dir.path().join("no/such/directory"))).await;
    assert!(node.order(ban("192.0.2.1")).await.expect_err("not kept").contains("kept on disk"));
    assert_eq!(bans(&node).await.len(), 1, "but it is in force");
}
