//! Two different blocks at one height: never, whatever happened to the store.

use std::fs;

use blocksyncd::api::client::PublishResult;
use blocksyncd::sync::EvidenceId;
use rustix::process::Signal;

use super::copy_dir::copy_dir;
use super::host::{Host, Ledger, Role};
use super::hosts;
use super::place::Place;

#[test]
fn a_second_block_at_a_height_is_a_conflict_and_changes_nothing() {
    let place = Place::new();
    let sequencer = place.sequencer(&[]);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let first = Host::new_block(None, "first");
        let PublishResult::Accepted(published) = a.try_publish(&first).await else { panic!("the first of all") };
        let one = published.id;
        let before = a.status().await.info.heads;

        for second in [
            Host::new_block(None, "second"),
            blocksyncd::api::client::ProposedBlock { time_unix_nanos: first.time_unix_nanos + 1, ..first.clone() },
        ] {
            assert_eq!(a.try_publish(&second).await, PublishResult::Conflict(one));
        }
        assert_eq!(a.status().await.info.heads, before);
        assert_eq!((a.stored(1).await, a.stored(2).await), (Some(one), None));
        assert_eq!(a.try_publish(&first).await, PublishResult::Duplicate(published));

        // Deeper down it is the same, and the chain goes on above.
        let two = a.publish(Some(one), "two").await.id;
        assert_eq!(a.try_publish(&Host::new_block(None, "third")).await, PublishResult::Conflict(one));
        a.publish(Some(two), "three").await;
        assert_eq!(a.status().await.halt, None);
    });
}

#[test]
fn a_wiped_store_is_no_licence_to_sign_again() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let chain = a.publish_chain(None, 3).await;
        b.until_soft(3).await;
        drop(a);
        sequencer.kill();
        fs::remove_dir_all(place.store("seq")).unwrap();

        // Alone, it cannot know what it signed: nothing is signed.
        let sequencer = place.sequencer(&[]);
        let a = Host::publisher(&sequencer).await;
        assert!(a.status().await.not_ready.is_some());
        let other = Host::new_block(None, "another first block");
        let answer = a.try_publish(&other).await;
        assert!(matches!(&answer, PublishResult::NotReady { why, .. } if why.contains("signed up to")), "{answer:?}");
        assert_eq!(a.stored(1).await, None);
        drop(a);
        sequencer.stop();

        // Others have the chain. With it, it knows.
        let sequencer = place.sequencer(&["--seed", &full.address()]);
        let mut a = Host::publisher(&sequencer).await;
        a.until_soft(3).await;
        assert_eq!(a.ledger.chain, chain.iter().map(|block| block.id).collect::<Vec<_>>());
        assert_eq!(a.try_publish(&other).await, PublishResult::Conflict(chain[0].id));
        let third = Host::new_block(Some(chain[1].id), "another third block");
        assert_eq!(a.try_publish(&third).await, PublishResult::Conflict(chain[2].id));
        let fourth = a.publish_chain(Some(chain[2].id), 1).await;
        b.until_soft(4).await;
        assert_eq!(b.ledger.tip(), Some(fourth[0].id));

        // Nobody ever saw two blocks at one height.
        assert_eq!((&b.ledger.retracts[..], &b.ledger.equivocations[..]), (&[][..], &[][..]));
        assert_eq!(b.admin().await.evidence(EvidenceId(0), 10).await.unwrap(), []);
    });
}

#[test]
fn a_store_restored_from_an_older_copy_is_no_licence_either() {
    let place = Place::new();
    let copy = place.home("copy");
    hosts(async {
        let sequencer = place.sequencer(&[]);
        let a = Host::publisher(&sequencer).await;
        let chain = a.publish_chain(None, 2).await;
        drop(a);
        sequencer.stop();
        copy_dir(&place.store("seq"), &copy);

        let sequencer = place.sequencer(&[]);
        let a = Host::resume(&sequencer, Role::Publisher, Ledger::default()).await;
        let third = Host::new_block(Some(chain[1].id), "third");
        let PublishResult::Accepted(published) = a.try_publish(&third).await else { panic!("it is next") };
        drop(a);
        sequencer.kill();
        fs::remove_dir_all(place.store("seq")).unwrap();
        copy_dir(&copy, &place.store("seq"));

        let sequencer = place.sequencer(&[]);
        let a = Host::publisher(&sequencer).await;
        let soft = a.status().await.info.heads.soft;
        assert_eq!(soft, Some(chain[1].id), "the copy is older");
        let other = Host::new_block(Some(chain[1].id), "another third block");
        assert_eq!(a.try_publish(&other).await, PublishResult::Conflict(published.id));
        assert_eq!(a.status().await.info.heads.soft, soft);
        // The very same block is the same block, to the last bit.
        assert_eq!(a.try_publish(&third).await, PublishResult::Accepted(published));
    });
}

/// The guard is of no help when it came back with the store: only the peers know what was signed.
#[test]
fn a_whole_home_restored_from_an_older_copy_hears_its_peers_before_it_signs() {
    let place = Place::new();
    let copy = place.home("copy");
    hosts(async {
        let full = place.full_node("full", &[]);
        let dials = ["--seed", &full.address()];
        let sequencer = place.sequencer(&dials);
        let a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let first = a.publish_chain(None, 1).await.remove(0);
        drop(a);
        sequencer.stop();
        copy_dir(&place.home("seq"), &copy);

        let sequencer = place.sequencer(&dials);
        let a = Host::resume(&sequencer, Role::Publisher, Ledger::default()).await;
        let lost = a.publish_chain(Some(first.id), 2).await;
        b.until_soft(3).await;
        drop(a);
        sequencer.kill();
        fs::remove_dir_all(place.home("seq")).unwrap();
        copy_dir(&copy, &place.home("seq"));

        // The one that has heard of the rest says nothing for now.
        full.signal(Signal::STOP);
        let sequencer = place.sequencer(&dials);
        let mut a = Host::publisher(&sequencer).await;
        let other = Host::new_block(Some(first.id), "another second block");
        let at_once = a.desk().publish(&other).await.unwrap();
        assert!(matches!(at_once, PublishResult::NotReady { retry_after: Some(_), .. }), "{at_once:?}");
        full.signal(Signal::CONT);
        let later = a.try_publish(&other).await;
        assert!(matches!(later, PublishResult::NotReady { .. } | PublishResult::Conflict(_)), "{later:?}");
        a.until_soft(3).await;
        assert_eq!(a.try_publish(&other).await, PublishResult::Conflict(lost[0].id));
        a.publish(Some(lost[1].id), "fourth").await;
        b.until_soft(4).await;
        assert_eq!(b.admin().await.evidence(EvidenceId(0), 10).await.unwrap(), []);
    });
}
