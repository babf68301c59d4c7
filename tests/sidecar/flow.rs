//! The main job: what one host publishes becomes soft, and then hard, at another.

use blocksyncd::sync::Origin;

use super::host::{Host, payload_on};
use super::hosts;
use super::place::Place;

#[test]
fn a_published_block_becomes_soft_and_then_hard_on_another_node() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let chain = a.publish_first(5).await;

        b.until_soft(5).await;
        assert_eq!((&b.ledger.chain, b.ledger.hard), (&chain, 0), "the same blocks, and DA has not spoken");
        let payloads: Vec<_> = (0..5_usize).map(|n| payload_on(n.checked_sub(1).map(|below| chain[below]))).collect();
        assert_eq!(b.ledger.payloads.values().cloned().collect::<Vec<_>>(), payloads);
        assert!(b.ledger.origins.values().all(|origin| matches!(origin, Origin::Gossip | Origin::Range)));

        // Each host reports what its own DA node says.
        b.report_digests(1, &chain[..2]).await;
        b.until_hard(2).await;
        b.report_digests(2, &chain[2..]).await;
        b.until_hard(5).await;
        a.until_soft(5).await;
        assert_eq!((&a.ledger.chain, a.ledger.hard), (&chain, 0), "the sequencer's host has not reported yet");
        assert!(a.ledger.origins.values().all(|origin| *origin == Origin::Published));
        a.report_digests(1, &chain).await;
        a.until_hard(5).await;

        let received = b.status().await.received;
        assert_eq!((received.gossip + received.range, received.published, received.da), (5, 0, 0));
    });
    full.stop();
    sequencer.stop();
}

#[test]
fn a_full_node_that_starts_late_catches_up_through_the_range_exchange() {
    const BLOCKS: u64 = 150;
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let chain = a.publish_first(BLOCKS).await;

        let late = place.full_node("late", &["--seed", &sequencer.address()]);
        let mut b = Host::follower(&late).await;
        b.until_soft(BLOCKS).await;
        assert_eq!(b.ledger.chain, chain);
        let received = b.status().await.received;
        assert_eq!((received.range, received.gossip, received.da, received.published), (BLOCKS, 0, 0, 0));

        // And then it follows.
        a.publish_chain(chain.last().copied(), 1).await;
        b.until_soft(BLOCKS + 1).await;
    });
}
