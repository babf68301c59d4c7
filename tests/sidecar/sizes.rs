//! Blocks of all sizes.

use blocksyncd::api::client::PublishResult;
use blocksyncd::block::{BlockId, native};
use bytes::Bytes;

use super::host::{Host, time_of};
use super::hosts;
use super::place::{Place, header};

/// Bytes that do not compress.
fn random(size: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}

/// The largest payload of a block on top of `parent`.
fn largest(place: &Place, parent: BlockId, max_block_bytes: u64) -> usize {
    let header = header(&place.proposer(), Some(parent), time_of(parent.height.next()), b"");
    let header_len = native::encode_header(&header).len();
    let max = usize::try_from(max_block_bytes).unwrap();
    let overhead = native::encoded_len(header_len, max) - max;
    let size = max - overhead;
    assert_eq!(native::encoded_len(header_len, size), max, "not a byte is left");
    size
}

#[test]
fn one_byte_a_mebibyte_and_the_largest_block_arrive_and_one_byte_more_is_refused() {
    let place = Place::new();
    let (sequencer, full) = place.pair(&[]);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        let mut b = Host::follower(&full).await;
        let limits = a.status().await.info.limits;
        let mut sent = Vec::new();
        let mut parent = None;
        for size in [1, 1 << 20] {
            sent.push(random(size, 1));
            let published = a.publish(parent, sent.last().unwrap().clone()).await;
            parent = Some(published.id);
        }
        let size = largest(&place, parent.unwrap(), limits.max_block_bytes);
        assert!(size as u64 > limits.max_inline_bytes, "it takes an upload");
        let too_large = Host::new_block(parent, random(size + 1, 2));
        let refused = PublishResult::TooLarge { max_block_bytes: limits.max_block_bytes };
        assert_eq!(a.try_publish(&too_large).await, refused);
        let far_too_large = Host::new_block(parent, random(2 * size, 3));
        assert_eq!(a.try_publish(&far_too_large).await, refused);
        assert_eq!(a.stored(3).await, None);

        sent.push(random(size, 4));
        let published = a.publish(parent, sent[2].clone()).await;
        assert_eq!(published.signed_block.len() as u64, limits.max_block_bytes);
        for host in [&mut a, &mut b] {
            host.until_soft(3).await;
            assert!(host.ledger.payloads.values().eq(&sent), "every byte of every block");
        }
        // What is full does not stay full.
        a.publish(Some(published.id), "small").await;
        b.until_soft(4).await;
    });
}
