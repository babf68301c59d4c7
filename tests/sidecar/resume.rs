//! Hosts whose own state is not what the sidecar has.

use blocksyncd::api::client::{ClientError, ReportResult};
use blocksyncd::block::{BlockId, Hash};

use super::host::{Host, Ledger, Role};
use super::place::Place;
use super::{height, hosts};

/// A block that nobody signed.
fn foreign(at: u64) -> BlockId {
    BlockId { height: height(at), hash: Hash::of(format!("foreign {at}").as_bytes()) }
}

#[test]
fn a_host_with_blocks_that_are_not_ours_is_told_to_retract_to_the_right_height() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let chain = a.publish_first(30).await;
        a.report_digests(1, &chain[..4]).await;
        a.until_hard(4).await;
        a.until_soft(30).await;

        // Nothing in common, and nothing hard: everything goes, since DA has decided at that height.
        let ledger = Ledger { chain: (1..=3).map(foreign).collect(), ..Ledger::default() };
        let mut host = Host::resume(&sequencer, Role::Follower, ledger).await;
        host.until("the chain, from its beginning", |ledger| ledger.chain == chain && ledger.hard == 4).await;
        assert_eq!(host.ledger.retracts, [0]);
        // Common up to a height, foreign above; as high as we are, and higher. They wait for DA.
        let mut waiting = Vec::new();
        for (common, top) in [(7, 9), (25, 30), (28, 35)] {
            let blocks = chain[..common].iter().copied().chain((common as u64 + 1..=top).map(foreign));
            let ledger = Ledger { chain: blocks.collect(), hard: 4, ..Ledger::default() };
            waiting.push((common as u64, Host::resume(&sequencer, Role::Follower, ledger).await));
        }
        // The newest session reports.
        waiting.last().unwrap().1.report_digests(2, &chain[4..]).await;
        for (common, mut host) in waiting {
            host.until("the chain, after a rewind", |ledger| ledger.chain == chain && ledger.hard == 30).await;
            assert_eq!(host.ledger.retracts, [common]);
        }
        a.until_hard(30).await;
        // In agreement: nothing to retract, nothing told twice.
        let mut host = Host::resume(&sequencer, Role::Follower, a.ledger.clone()).await;
        a.publish_chain(chain.last().copied(), 1).await;
        host.until_soft(31).await;
        assert!(host.ledger.retracts.is_empty(), "{:?}", host.ledger.retracts);
    });
}

/// It names nothing at the heights that we have above its hard block; and we know of no other branch than ours.
#[test]
fn a_host_that_is_far_ahead_is_asked_for_its_block_where_da_has_decided() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let chain = a.publish_first(5).await;
        a.report_digests(1, &chain).await;
        a.until_hard(5).await;

        let far_ahead = |common: usize| {
            let blocks = chain[..common].iter().copied().chain((common as u64 + 1..=60).map(foreign));
            Ledger { chain: blocks.collect(), hard: 2, ..Ledger::default() }
        };
        let mut host = Host::resume(&sequencer, Role::Follower, far_ahead(3)).await;
        host.until("our chain", |ledger| ledger.chain == chain && ledger.hard == 5).await;
        assert_eq!((host.ledger.asked_for, host.ledger.retracts), (vec![height(5)], vec![2]));
        // It is only ahead, as far as anybody can say: it keeps what it has.
        let mut host = Host::resume(&sequencer, Role::Follower, far_ahead(5)).await;
        host.until("the question", |ledger| ledger.asked_for == [height(5)]).await;
        a.publish_chain(chain.last().copied(), 1).await;
        host.until("the sixth block", |ledger| ledger.target == 6).await;
        assert!(host.ledger.retracts.is_empty());
    });
}

#[test]
fn a_host_whose_hard_block_is_not_ours_is_never_told_to_rewind() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let chain = a.publish_first(5).await;
        a.report_digests(1, &chain[..3]).await;
        a.until_hard(3).await;

        let blocks = vec![chain[0], foreign(2), foreign(3)];
        let ledger = Ledger { chain: blocks, hard: 2, ..Ledger::default() };
        let refused = Host::try_new(&sequencer, Role::Follower, ledger, None).await.unwrap_err();
        assert_eq!(refused, ClientError::ForkedBelowHard { theirs: foreign(2), ours: Some(chain[1]) });
    });
}

#[test]
fn what_was_acknowledged_and_what_da_was_scanned_for_outlives_the_process() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let chain = a.publish_first(4).await;
        a.until_soft(4).await;
        assert!(a.ack(chain[2]).await);
        assert!(!a.ack(foreign(3)).await, "not on our chain");
        assert_eq!(a.da_position().await, 0);
        a.report_digests(1, &chain[..1]).await;
        a.report_digests(2, &[]).await;
        // What leaves something out is not taken.
        let reported = a.report_digests(7, &chain[1..2]).await;
        assert_eq!((reported, a.da_position().await), (ReportResult::OutOfOrder { scanned_through: 2 }, 2));
        a.until_hard(1).await;
        sequencer.kill();

        let sequencer = place.sequencer(&[]);
        let mut a = a.reattach(&sequencer).await;
        assert_eq!(a.da_position().await, 2);
        // To report the same again is harmless.
        a.report_digests(2, &chain[..1]).await;
        a.report_digests(3, &chain[1..]).await;
        a.until_hard(4).await;
        assert_eq!(a.da_position().await, 3);
    });
}
