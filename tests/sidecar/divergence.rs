//! DA has another block than the one that was gossiped, both signed by the proposer.

use blocksyncd::api::ReportedAs;
use blocksyncd::api::client::{OperatorOutcome, PublishResult};
use blocksyncd::sync::{EvidenceId, Phase};

use super::host::{Host, time_of};
use super::place::{Place, sign};
use super::{height, hosts};

#[test]
fn a_follower_rewinds_a_signer_halts_and_an_operator_lets_it_go_on() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let signed = a.publish_chain(None, 4).await;
        let ours: Vec<_> = signed.iter().map(|block| block.id).collect();
        a.until_soft(4).await;
        b.until_soft(4).await;

        // What the sequencer must never do: DA has another second block, and a third one on it.
        let key = place.proposer();
        let second = sign(&key, Some(ours[0]), time_of(height(2)), b"DA's second block");
        let third = sign(&key, Some(second.id), time_of(height(3)), b"DA's third block");
        let seen = [
            (height(1), signed[0].digest()),
            (height(2), ReportedAs::SignedBlock(second.bytes.clone())),
            (height(2), signed[1].digest()),
            (height(3), ReportedAs::SignedBlock(third.bytes.clone())),
        ];
        let theirs = [ours[0], second.id, third.id];

        // The follower takes DA's word.
        b.report(1, &seen).await;
        b.until_hard(3).await;
        assert_eq!((&b.ledger.chain[..], &b.ledger.retracts[..]), (&theirs[..], &[1][..]));
        let evidence = b.admin().await.evidence(EvidenceId(0), 10).await.unwrap();
        assert_eq!(evidence.iter().map(|evidence| evidence.height.get()).collect::<Vec<_>>(), [2, 3]);

        // The signer keeps what it has, says why, and signs nothing more.
        a.report(1, &seen).await;
        a.until_hard(1).await;
        let status = a.status().await;
        assert_eq!((status.info.phase, status.info.heads.soft), (Phase::Halted, Some(ours[3])));
        let why = status.halt.expect("it says why");
        let answer = a.try_publish(&Host::new_block(Some(ours[3]), "fifth")).await;
        let PublishResult::Halted(answer) = answer else { panic!("it is halted: {answer:?}") };
        for why in [&why, &answer] {
            for block in [second.id, ours[1]] {
                assert!(why.contains(&block.hash.to_string()), "both blocks are named: {why}");
            }
        }
        assert!(a.ledger.retracts.is_empty(), "{:?}", a.ledger.retracts);

        // It stays halted over a restart.
        sequencer.kill();
        let sequencer = place.sequencer(&["--seed", &full.address()]);
        let mut a = a.reattach(&sequencer).await;
        assert_eq!(a.status().await.halt, Some(why));

        // An operator decides, about the very block and no other.
        let admin = a.admin().await;
        assert!(matches!(admin.abandon_branch(ours[2]).await, Ok(OperatorOutcome::Refused(_))));
        assert_eq!(admin.abandon_branch(ours[1]).await, Ok(OperatorOutcome::Done));
        a.until_hard(3).await;
        assert_eq!((&a.ledger.chain[..], &a.ledger.retracts[..]), (&theirs[..], &[1][..]));
        let status = a.until_status("going on", |status| status.halt.is_none()).await;
        assert_ne!(status.info.phase, Phase::Halted);
        let again = admin.abandon_branch(ours[1]).await;
        assert!(matches!(again, Ok(OperatorOutcome::Refused(_))), "there is nothing to abandon any more");

        // And the chain goes on, on DA's branch, everywhere.
        let fourth = a.publish(Some(third.id), "fourth, on DA's branch").await.id;
        b.until_soft(4).await;
        assert_eq!(b.ledger.tip(), Some(fourth));
    });
}

#[test]
fn a_follower_that_is_to_halt_keeps_what_it_has() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&["--set", "sync.on_divergence=halt"]);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let ours = a.publish_chain(None, 2).await;
        b.until_soft(2).await;
        let first = sign(&place.proposer(), None, time_of(height(1)), b"DA's first block");
        b.report(1, &[(height(1), ReportedAs::SignedBlock(first.bytes.clone()))]).await;
        let status = b.until_status("a halt", |status| status.halt.is_some()).await;
        assert_eq!(status.info.heads.soft, Some(ours[1].id));
        full.wait_for_log(&format!("ctl abandon-branch {}", ours[0].id));
        full.wait_for_log("\"condition\":\"halted\"");
        let evidence = b.admin().await.evidence(EvidenceId(0), 10).await.unwrap();
        assert_eq!(evidence.iter().map(|evidence| evidence.height).collect::<Vec<_>>(), [height(1)]);
        b.until("the news of it", |ledger| ledger.equivocations == [height(1)]).await;

        assert_eq!(b.admin().await.abandon_branch(ours[0].id).await, Ok(OperatorOutcome::Done));
        b.until_hard(1).await;
        assert_eq!((&b.ledger.chain[..], &b.ledger.retracts[..]), (&[first.id][..], &[0][..]));
        full.wait_for_log("\"message\":\"it is over\",\"condition\":\"halted\"");
    });
}
