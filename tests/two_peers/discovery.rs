//! Finding peers: by the DHT, and by what is remembered.

use blocksyncd::p2p::Policy;

use super::network::{Options, QUIC, TCP, start};
use super::tempdir::TempDir;

fn in_the_dht() -> Policy {
    Policy { rendezvous: Some("test".into()), ..Policy::default() }
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
        // Another chain meets elsewhere, and who looks for nobody finds nobody.
        for rendezvous in [Some("another".to_owned()), None] {
            let mut other = start(join(6).policy(Policy { rendezvous, ..Policy::default() })).await;
            other.up(&hub.id()).await;
            let mut fourth = start(join(7)).await;
            fourth.up(&first.id()).await;
            assert_eq!(other.peers().await.iter().filter(|peer| peer.outbound).count(), 1, "the hub alone");
        }
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
        Policy { deny: vec!["127.0.0.0/8".into()], ..Policy::default() },
        Policy { min_outbound: 0, ..Policy::default() },
    ] {
        let alone = start(Options::new(1).book(&book).policy(policy)).await;
        let mut witness = start(Options::new(3).book(&book)).await;
        witness.up(&server.id()).await;
        assert!(alone.peers().await.is_empty());
        alone.stop().await;
        witness.stop().await;
    }
}
