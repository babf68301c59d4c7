//! Finding peers: by the DHT, and by what is remembered.

use blocksyncd::p2p::PeerPolicy;

use super::network::{Options, QUIC, TCP, start};
use super::tempdir::TempDir;

fn in_the_dht() -> PeerPolicy {
    PeerPolicy { rendezvous: Some("test".into()), ..PeerPolicy::default() }
}

#[tokio::test]
async fn nodes_that_know_one_and_the_same_find_each_other() {
    for listen in [TCP, QUIC] {
        let hub = start(Options::new(2).listen(listen).policy(in_the_dht())).await;
        let join = |key| Options::new(key).listen(listen).seeds(&[&hub.address]).policy(in_the_dht());
        let (mut first, mut second) = (start(join(3)).await, start(join(4)).await);
        first.up(&second.id()).await;
        second.up(&first.id()).await;
        // Who asks later finds those that were announced before.
        let mut third = start(join(5)).await;
        third.up(&first.id()).await;
        third.up(&second.id()).await;
        // Who looks for nobody finds nobody.
        let mut other = start(join(6).policy(PeerPolicy::default())).await;
        other.up(&hub.id()).await;
        let mut fourth = start(join(7)).await;
        fourth.up(&first.id()).await;
        assert_eq!(other.peers().await.iter().filter(|peer| peer.outbound).count(), 1, "the hub alone");
    }
}

#[tokio::test]
async fn peers_that_were_met_are_dialled_after_a_restart_without_seeds() {
    let dir = TempDir::new();
    let book = dir.path().join("peers.json");
    let server = start(Options::new(2)).await;
    let mut node = start(Options::new(1).book(&book).seeds(&[&server.address])).await;
    node.up(&server.id()).await;
    node.stop().await;
    let mut node = start(Options::new(1).book(&book)).await;
    node.up(&server.id()).await;
    assert!(node.peers().await[0].outbound);
    node.stop().await;
    // Not who is denied now, and not by a node that wants no peers of its own choice.
    for policy in [
        PeerPolicy { deny: vec!["127.0.0.0/8".into()], ..PeerPolicy::default() },
        PeerPolicy { min_outbound: 0, ..PeerPolicy::default() },
    ] {
        let alone = start(Options::new(1).book(&book).policy(policy)).await;
        let mut witness = start(Options::new(3).book(&book)).await;
        witness.up(&server.id()).await;
        assert!(alone.peers().await.is_empty());
        alone.stop().await;
        witness.stop().await;
    }
}

#[tokio::test]
async fn what_is_announced_is_told_instead_of_where_we_listen() {
    let announce = vec!["/ip4/127.0.0.1/tcp/1".to_owned()];
    let dir = TempDir::new();
    let book = dir.path().join("peers.json");
    let mut node = start(Options::new(1).listen(TCP).book(&book).policy(in_the_dht())).await;
    let mut dialling =
        start(Options::new(3).seeds(&[&node.address]).policy(PeerPolicy { announce, ..in_the_dht() })).await;
    dialling.up(&node.id()).await;
    node.up(&dialling.id()).await;
    node.stop().await;
    let text = std::fs::read_to_string(&book).expect("written");
    let port = |address: &str| address.split('/').nth(4).expect("a port").to_owned();
    assert!(text.contains("/ip4/127.0.0.1/tcp/1\""), "{text}");
    assert!(!text.contains(&format!("/tcp/{}\"", port(&dialling.address))), "{text}");
}
