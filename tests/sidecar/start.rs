//! Beginnings: nobody there yet, or nothing there yet.

use blocksyncd::sync::Phase;

use super::host::Host;
use super::hosts;
use super::place::Place;

#[test]
fn a_node_without_peers_waits_for_those_that_come_later() {
    let place = Place::new();
    let full = place.full_node("full", &[]);
    hosts(async {
        let mut b = Host::follower(&full).await;
        let status = b.status().await;
        assert_eq!((status.peers, status.info.phase), (0, Phase::WaitingForPeers));

        // The one that has the blocks made them before it knew anybody.
        let alone = place.sequencer(&[]);
        let a = Host::publisher(&alone).await;
        let chain = a.publish_chain(None, 3).await;
        drop(a);
        alone.stop();
        let sequencer = place.sequencer(&["--seed", &full.address()]);
        b.until_soft(3).await;
        assert_eq!(b.ledger.tip(), Some(chain[2].id));
        let status = b.until_status("following", |status| status.info.phase == Phase::Following).await;
        assert_eq!(status.peers, 1);
        sequencer.stop();
    });
}

#[test]
fn peers_that_have_no_chain_yet_wait_for_its_first_block() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let status = b.until_status("a peer", |status| status.peers == 1).await;
        assert_eq!((status.info.heads.soft, status.info.heads.target), (None, None));
        // Long enough for questions about a chain that nobody has: an answer to one is an answer all the same.
        a.until_status("a peer", |status| status.peers == 1).await;
        let first = a.publish_chain(None, 1).await;
        b.until_soft(1).await;
        assert_eq!(b.ledger.tip(), Some(first[0].id));
    });
}
