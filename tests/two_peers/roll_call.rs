//! Everybody who is known is tried before a signer signs.

use blocksyncd::p2p::{Command, Event};
use blocksyncd::sync::Acquaintance;

use super::network::{Network, Options, TCP, start};
use super::tempdir::TempDir;

impl Network {
    /// Waits until the roll call of this round has ended; who came up before that.
    async fn roll_call(&mut self, round: u64) -> Vec<blocksyncd::sync::PeerId> {
        self.send(Command::TryKnownPeers { round }).await;
        let mut up = Vec::new();
        let ended = |event| match event {
            Event::KnownPeersTried { round: ended } => Ok(ended),
            other => {
                if let Event::PeerUp(peer) = &other {
                    up.push(peer.clone());
                }
                Err(other)
            }
        };
        assert_eq!(self.wait("the end of the roll call", ended).await, round);
        up
    }
}

/// An address at which nobody listens any more.
async fn gone() -> String {
    let network = start(Options::new(9)).await;
    let address = network.address.clone();
    network.stop().await;
    address
}

#[tokio::test]
async fn whoever_knows_nobody_has_nobody_to_wait_for() {
    let mut node = start(Options::new(1)).await;
    assert_eq!(node.known_peers(), Acquaintance::Nobody);
    assert_eq!(node.roll_call(1).await, []);
}

#[tokio::test]
async fn seeds_are_tried_at_once_whatever_their_pause_and_told_before_the_end() {
    let server = start(Options::new(2)).await;
    let nobody = gone().await;
    let mut node = start(Options::new(1).seeds(&[&nobody, &server.address])).await;
    assert_eq!(node.known_peers(), Acquaintance::Somebody);
    assert_eq!(node.roll_call(1).await, [server.id()]);
    // The pauses of the one that is gone grow; a roll call does not wait for them.
    for round in 2..6 {
        let _ = node.seen();
        assert_eq!(node.roll_call(round).await, []);
    }
}

/// Beyond the number of peers that the node would dial by itself, which is none here.
#[tokio::test]
async fn the_whole_address_book_is_tried() {
    let dir = TempDir::new();
    let book = dir.path().join("peers.json");
    let mut servers = Vec::new();
    for key in 2..6 {
        servers.push(start(Options::new(key).listen(TCP)).await);
    }
    let addresses: Vec<_> = servers.iter().map(|server| server.address.as_str()).collect();
    let mut node = start(Options::new(1).seeds(&addresses).book(&book)).await;
    for server in &servers {
        node.up(&server.id()).await;
    }
    node.stop().await;
    servers.pop().expect("there are four").stop().await;

    let policy = blocksyncd::p2p::PeerPolicy { min_outbound: 0, ..Default::default() };
    let mut node = start(Options::new(1).book(&book).policy(policy)).await;
    assert_eq!(node.known_peers(), Acquaintance::Somebody);
    let mut up = node.roll_call(7).await;
    up.sort();
    let mut expected: Vec<_> = servers.iter().map(Network::id).collect();
    expected.sort();
    assert_eq!(up, expected);
}
