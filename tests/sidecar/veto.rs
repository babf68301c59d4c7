//! A host whose execution refuses a block that the sequencer signed.

use blocksyncd::api::ReportedAs;
use blocksyncd::sync::RejectAnswer;

use super::host::Host;
use super::hosts;
use super::place::{Place, Signed};

#[test]
fn a_refused_block_ends_the_chain_at_its_parent_until_da_decides() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let mut signed = a.publish_chain(None, 5).await;
        let mut chain: Vec<_> = signed.iter().map(|block| block.id).collect();
        b.until_soft(5).await;
        b.report_digests(1, &chain[..1]).await;
        b.until_hard(1).await;

        assert_eq!(b.observer().reject(chain[0], "hard").await.unwrap(), RejectAnswer::Hard);
        assert_eq!(b.observer().reject(chain[2], "bad state root").await.unwrap(), RejectAnswer::Stopped);
        b.until("the rewind", |ledger| ledger.retracts == [2]).await;

        // The sequencer goes on; the veto stands, over a crash, too.
        signed.extend(a.publish_chain(chain.last().copied(), 1).await);
        chain.push(signed[5].id);
        b.until_status("a sixth block", |status| status.info.heads.target == Some(chain[5].height)).await;
        let status = b.status().await;
        assert_eq!((status.vetoed, status.info.heads.soft), (Some(chain[2]), Some(chain[1])));
        full.kill();
        let full = place.full_node("full", &["--seed", &sequencer.address()]);
        let mut b = b.reattach(&full).await;
        let status = b.until_status("a peer's head", |status| status.info.heads.target == Some(chain[5].height)).await;
        assert_eq!((status.vetoed, status.info.heads.soft), (Some(chain[2]), Some(chain[1])));
        assert_eq!((b.ledger.soft(), b.stored(3).await), (2, None));

        // DA decides.
        let given = |block: &Signed| (block.id.height, ReportedAs::SignedBlock(block.bytes.clone()));
        b.report(2, &signed[1..].iter().map(given).collect::<Vec<_>>()).await;
        b.until_hard(6).await;
        assert_eq!((&b.ledger.chain, &b.ledger.retracts[..]), (&chain, &[2][..]));
        assert_eq!(b.status().await.vetoed, None);
    });
}
