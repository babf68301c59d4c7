//! What this chain's DA blobs contain: one or more encoded `SignedBlock`s, each after its length as a protobuf varint.

use bytes::{Buf as _, Bytes};

/// One blob of these blocks.
pub fn encode<'a>(blocks: impl IntoIterator<Item = &'a Bytes>) -> Vec<u8> {
    let mut blob = Vec::new();
    for block in blocks {
        prost::encode_length_delimiter(block.len(), &mut blob).expect("a Vec grows");
        blob.extend_from_slice(block);
    }
    blob
}

/// What is in a blob: the encoded blocks, in order, up to the first thing that is no block of at most `max_block_bytes`.
/// Anybody can post to a namespace, so what is left over is junk, not an error. Copies nothing.
pub fn decode(mut blob: Bytes, max_block_bytes: usize) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let mut rest = blob.clone();
        let len = prost::decode_length_delimiter(&mut rest).ok()?;
        if len == 0 || len > max_block_bytes || len > rest.remaining() {
            blob.clear();
            return None;
        }
        let block = rest.split_to(len);
        blob = rest;
        Some(block)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_in_order_and_junk_ends_a_blob() {
        let blocks: Vec<Bytes> = vec!["a".into(), vec![7; 300].into(), "bc".into()];
        let blob = encode(&blocks);
        assert_eq!(decode(blob.clone().into(), 1000).collect::<Vec<_>>(), blocks);
        assert_eq!(decode(blob.clone().into(), 299).collect::<Vec<_>>(), blocks[..1]);
        let cut_off = blob[..blob.len() - 1].to_vec();
        assert_eq!(decode(cut_off.into(), 1000).collect::<Vec<_>>(), blocks[..2]);
        for junk in [&[][..], &[0], &[0, 0, 0], &[0xff; 20], &[5, 1]] {
            assert_eq!(decode(Bytes::copy_from_slice(junk), 1000).count(), 0, "{junk:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_blob_is_read_without_panic(blob: Vec<u8>) {
            let total: usize = decode(blob.clone().into(), 64).map(|block| block.len()).sum();
            assert!(total <= blob.len());
        }
    }
}
