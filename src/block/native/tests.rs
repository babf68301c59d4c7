use proptest::prelude::*;

use super::*;
use crate::block::{BlockFormat as _, Format, Lane};

const MAX: usize = 1 << 20;

/// A header and a block, written out by hand; Go's and Python's protobuf encoders give the same bytes.
const GOLDEN_HEADER: &str = concat!(
    "0a08676f6c64656e2d31",                                                 // 1: "golden-1"
    "10ac02",                                                               // 2: 300
    "188180a8b1e39fe7cb17",                                                 // 3: 1_700_000_000_000_000_001
    "22201111111111111111111111111111111111111111111111111111111111111111", // 4
    "2a20239f59ed55e737c77147cf55ad0c1b030b6d7ee748a7426952f9b852d5a935e5", // 5: SHA-256("payload")
    "32208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c", // 6: the key of seed 0101..01
    "3a04686f7374",                                                         // 7: "host"
);
const GOLDEN_HASH: &str = "c555f3637e32a0344c5a3b79bcdf72e11218801e391c3119e4e276dd55ec5ef7";
/// Made by Go's `crypto/ed25519` over `"blocksync/block/v1\0" || header`.
const GOLDEN_SIGNATURE: &str = concat!(
    "ec885236e651503a5b10a42638acae601b24a8b0d376646755e758a902402589",
    "bdb03e710568e377382e92924a85d2f2ab670606559b88a473a203b8f67a2e06",
);

fn hex(text: &str) -> Vec<u8> {
    crate::util::hex::decode(text.as_bytes()).unwrap()
}

fn golden_block() -> Vec<u8> {
    [hex("0a8301"), hex(GOLDEN_HEADER), hex("1240"), hex(GOLDEN_SIGNATURE), hex("1a07"), b"payload".to_vec()].concat()
}

fn header() -> Header {
    Header {
        chain_id: ChainId::new("golden-1").unwrap(),
        height: Height::new(300).unwrap(),
        time_unix_nanos: 1_700_000_000_000_000_001,
        parent_hash: Some(Hash([0x11; 32])),
        payload_hash: Hash::of(b"payload"),
        proposer: PublicKey::from_hex("8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c").unwrap(),
        host_id: Bytes::from_static(b"host"),
    }
}

fn decode_vec(bytes: Vec<u8>) -> Result<Block, Malformed> {
    decode(&bytes.into(), MAX)
}

/// Decodes a block around these header bytes, canonical in itself.
fn with_header(header: &[u8]) -> Result<Block, Malformed> {
    decode(&encode(&Bytes::copy_from_slice(header), &[7; 64], &Bytes::from_static(b"payload")), MAX)
}

/// One protobuf field, length-delimited.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(value.len(), &mut out).unwrap();
    [out, value.to_vec()].concat()
}

/// The golden header's fields, in order, each with its tag.
fn header_fields() -> [Vec<u8>; 7] {
    let golden = hex(GOLDEN_HEADER);
    let ends = [10, 13, 23, 57, 91, 125, 131];
    let mut start = 0;
    ends.map(|end| golden[std::mem::replace(&mut start, end)..end].to_vec())
}

#[test]
fn golden_bytes() {
    let header_bytes = encode_header(&header());
    assert_eq!(header_bytes, hex(GOLDEN_HEADER));
    assert_eq!(decode_header(&header_bytes), Ok(header()));

    let signature = hex(GOLDEN_SIGNATURE).try_into().unwrap();
    assert_eq!(encode(&header_bytes, &signature, &Bytes::from_static(b"payload")), golden_block());

    let block = decode_vec(golden_block()).unwrap();
    assert_eq!(block.header(), &header());
    assert_eq!(block.hash().to_string(), GOLDEN_HASH);
    assert_eq!(block.height(), Height::new(300).unwrap());
    assert_eq!(block.id(), super::super::BlockId { height: block.height(), hash: block.hash() });
    assert_eq!(block.bytes(), &golden_block());
    assert_eq!(block.header_bytes(), &hex(GOLDEN_HEADER));
    assert_eq!(block.signature(), &signature);
    assert_eq!(block.payload(), &b"payload"[..]);
    assert_eq!(block.signed_header().hash(), block.hash());
    assert_eq!(block.signed_header().signature, signature);
    assert_eq!(format!("{block:?}"), "Block(300/c555f363.., 209 bytes)");
}

#[test]
fn the_signed_message_starts_with_the_domain() {
    assert_eq!(signing_message(b"header"), b"blocksync/block/v1\0header");
}

#[test]
fn the_lane_is_named_after_the_chain() {
    assert_eq!(network_id(&header().chain_id), "golden-1-block");
    assert_eq!(Format::Native.network_ids(&header().chain_id), ["golden-1-block"]);
}

#[test]
fn the_format_has_one_lane() {
    let bytes = golden_block().into();
    assert_eq!(Format::Native.decode(Lane::BLOCK, &bytes, MAX), decode(&bytes, MAX));
    assert_eq!(Format::Native.decode(Lane(1), &bytes, MAX), Err(Malformed::NotProtobuf("no such lane")));
}

#[test]
fn decoding_copies_neither_header_nor_payload() {
    let bytes = Bytes::from(golden_block());
    let block = decode(&bytes, MAX).unwrap();
    let inside = |part: &Bytes| bytes.as_ptr_range().contains(&part.as_ptr());
    assert!(inside(block.bytes()) && inside(block.header_bytes()) && inside(block.payload()));
    assert!(!inside(&block.signed_header().header), "evidence must not keep payloads in memory");
}

#[test]
fn what_may_be_absent_is_absent() {
    let plain = Header {
        height: Height::MIN,
        time_unix_nanos: 0,
        parent_hash: None,
        host_id: Bytes::new(),
        payload_hash: Hash::of(b""),
        ..header()
    };
    let bytes = encode_header(&plain);
    let [chain_id, _, _, _, _, proposer, _] = header_fields();
    assert_eq!(bytes, [chain_id, hex("1001"), field(5, &Hash::of(b"").0), proposer].concat());
    let block = decode(&encode(&bytes, &[0; 64], &Bytes::new()), MAX).unwrap();
    assert_eq!((block.header(), block.payload().len()), (&plain, 0));
}

#[test]
fn fields_of_the_header_have_their_lengths() {
    let golden = header_fields();
    let cases: [(usize, Vec<u8>, &str); 16] = [
        (0, vec![], "chain_id"),
        (0, field(1, b"a/b"), "chain_id"),
        (0, field(1, &[b'a'; 65]), "chain_id"),
        (1, vec![], "height"),
        (3, field(4, &[1; 31]), "parent_hash"),
        (3, field(4, &[1; 33]), "parent_hash"),
        (3, field(4, &[1; 1]), "parent_hash"),
        (4, vec![], "payload_hash"),
        (4, field(5, &[1; 31]), "payload_hash"),
        (4, field(5, &[1; 33]), "payload_hash"),
        (5, vec![], "proposer"),
        (5, field(6, &[1; 31]), "proposer"),
        (5, field(6, &[1; 33]), "proposer"),
        (6, field(7, &[1; MAX_HOST_ID_BYTES + 1]), "host_id"),
        (6, field(7, &[1; 200]), "host_id"),
        (6, field(7, &[1; MAX_OVERHEAD_BYTES]), "header"),
    ];
    for (at, replacement, name) in cases {
        let mut fields = golden.clone();
        fields[at] = replacement;
        assert_eq!(with_header(&fields.concat()), Err(Malformed::Field(name)), "field {} of {fields:?}", at + 1);
    }
    for (at, replacement) in [(0, field(1, &[b'a'; 64])), (2, vec![]), (3, vec![]), (6, vec![])] {
        let mut fields = golden.clone();
        fields[at] = replacement;
        assert!(with_header(&fields.concat()).is_ok(), "field {}", at + 1);
    }
    let mut fields = golden;
    fields[6] = field(7, &[1; MAX_HOST_ID_BYTES]);
    assert!(with_header(&fields.concat()).is_ok());
}

#[test]
fn a_signature_has_64_bytes() {
    for len in [0, 1, 63, 65, 128] {
        let bytes = [field(1, &hex(GOLDEN_HEADER)), field(2, &vec![1; len]), field(3, b"payload")].concat();
        assert_eq!(decode_vec(bytes), Err(Malformed::Field("signature")), "{len}");
    }
    assert_eq!(decode_vec(field(1, &hex(GOLDEN_HEADER))), Err(Malformed::Field("signature")));
}

#[test]
fn nothing_and_no_header_are_refused() {
    assert_eq!(decode_vec(vec![]), Err(Malformed::Field("signature")));
    assert_eq!(decode_vec(field(2, &[1; 64])), Err(Malformed::Field("chain_id")));
    assert_eq!(decode_header(&Bytes::new()), Err(Malformed::Field("chain_id")));
}

#[test]
fn what_is_not_protobuf_is_refused() {
    let not_a_block = Err(Malformed::NotProtobuf("SignedBlock"));
    assert_eq!(decode_vec(vec![0xff; 11]), not_a_block);
    assert_eq!(decode_vec(golden_block()[..20].to_vec()), not_a_block);
    assert_eq!(decode_vec([golden_block(), vec![0x1a]].concat()), not_a_block, "a tag, and then nothing");
    assert_eq!(decode_vec(hex("0aff01")), not_a_block, "a length beyond the end");
    assert_eq!(decode_vec(hex("0affffffffffffffffff01")), not_a_block, "a length beyond all memory");
    assert_eq!(decode_vec(hex("0801")), not_a_block, "the header as a number");
    assert_eq!(decode_vec(vec![0x23; 100_000]), not_a_block, "groups in groups must not exhaust the stack");

    let not_a_header = Err(Malformed::NotProtobuf("BlockHeader"));
    assert_eq!(with_header(&[0xff; 11]), not_a_header);
    assert_eq!(with_header(&hex("0a02c328")), not_a_header, "not UTF-8");
    assert_eq!(with_header(&hex("1200")), not_a_header, "the height as bytes");
}

/// The same header or block in other bytes: all of these decode, to the same values, with any other protobuf decoder.
#[test]
fn other_encodings_of_the_same_block_are_refused() {
    let refused = |what: &str, block: Vec<u8>| assert_eq!(decode_vec(block), Err(Malformed::NotCanonical), "{what}");
    let [header, signature, payload] = [hex(GOLDEN_HEADER), hex(GOLDEN_SIGNATURE), b"payload".to_vec()];
    let [h, s, p] = [field(1, &header), field(2, &signature), field(3, &payload)];

    refused("fields in another order", [s.clone(), h.clone(), p.clone()].concat());
    refused("the payload first", [p.clone(), h.clone(), s.clone()].concat());
    refused("an unknown field", [h.clone(), s.clone(), p.clone(), hex("2001")].concat());
    refused("an unknown field first", [hex("2001"), h.clone(), s.clone(), p.clone()].concat());
    refused("an unknown group", [h.clone(), s.clone(), p.clone(), hex("2324")].concat());
    refused("a field twice", [h.clone(), s.clone(), p.clone(), p.clone()].concat());
    refused("the header twice", [h.clone(), h.clone(), s.clone(), p.clone()].concat());
    refused("another payload before", [h.clone(), s.clone(), field(3, b"x"), p.clone()].concat());
    refused("an explicit default", [h.clone(), s.clone(), hex("1a00")].concat());
    refused("a padded length", [hex("0a838100"), header.clone(), s.clone(), p.clone()].concat());
    refused("a padded length", [h.clone(), hex("12c000"), signature, p.clone()].concat());
    refused("a padded length", [h.clone(), s.clone(), hex("1a8700"), payload].concat());
    refused("a padded tag", [hex("8a008301"), header, s, p].concat());

    let refused =
        |what: &str, header: Vec<u8>| assert_eq!(with_header(&header), Err(Malformed::NotCanonical), "{what}");
    let golden = header_fields();
    for at in 0..6 {
        let mut fields = golden.clone();
        fields.swap(at, at + 1);
        refused("fields in another order", fields.concat());
    }
    for at in 0..7 {
        let mut fields = golden.to_vec();
        fields.insert(at, fields[at].clone());
        refused("a field twice", fields.concat());
        let mut fields = golden.to_vec();
        fields.insert(at, hex("4001"));
        refused("an unknown field", fields.concat());
    }
    for (at, padded) in [(0, "0a8800676f6c64656e2d31"), (1, "10ac8200"), (2, "188180a8b1e39fe7cb9700")] {
        let mut fields = golden.clone();
        fields[at] = hex(padded);
        refused("a padded number", fields.concat());
    }
    for (at, default) in [(2, "1800"), (3, "2200"), (6, "3a00")] {
        let mut fields = golden.clone();
        fields[at] = hex(default);
        refused("an explicit default", fields.concat());
    }
}

#[test]
fn the_limit_counts_the_whole_block() {
    let bytes = Bytes::from(golden_block());
    let len = bytes.len();
    assert!(decode(&bytes, len).is_ok());
    assert_eq!(decode(&bytes, len - 1), Err(Malformed::TooLarge { len, max: len - 1 }));
    assert_eq!(
        decode(&Bytes::from(vec![0xff; 9]), 8),
        Err(Malformed::TooLarge { len: 9, max: 8 }),
        "before it is read"
    );
}

/// The largest header that there can be.
fn largest_header() -> Header {
    Header {
        chain_id: ChainId::new(&"a".repeat(ChainId::MAX_LEN)).unwrap(),
        height: Height::MAX,
        time_unix_nanos: u64::MAX,
        host_id: vec![0xff; MAX_HOST_ID_BYTES].into(),
        ..header()
    }
}

#[test]
fn the_overhead_has_a_bound() {
    let bytes = encode_header(&largest_header());
    assert_eq!(decode_header(&bytes), Ok(largest_header()));
    // A payload of 2 GiB, more than any limit, has the longest length prefix.
    let overhead = encoded_len(bytes.len(), 1 << 31) - (1 << 31);
    assert!(overhead <= MAX_OVERHEAD_BYTES, "{overhead}");
}

#[test]
fn encoded_len_is_the_length_of_what_is_encoded() {
    for payload in [0, 1, 127, 128, 16_383, 16_384, 70_000] {
        let payload = Bytes::from(vec![1; payload]);
        for header in [header(), largest_header()] {
            let header = encode_header(&header);
            let block = encode(&header, &[1; 64], &payload);
            assert_eq!(encoded_len(header.len(), payload.len()), block.len(), "{}", payload.len());
            assert!(block.len() <= payload.len() + MAX_OVERHEAD_BYTES);
        }
    }
    assert_eq!(encoded_len(0, 0), encode(&Bytes::new(), &[1; 64], &Bytes::new()).len());
}

/// One block, one encoding: so no change of the bytes can give the same block again.
#[test]
fn each_change_of_a_byte_changes_the_block_or_breaks_it() {
    let golden = golden_block();
    let original = decode_vec(golden.clone()).unwrap();
    let mut decoded = 0;
    for at in 0..golden.len() {
        for change in 1..=u8::MAX {
            let mut bytes = golden.clone();
            bytes[at] ^= change;
            if let Ok(block) = decode_vec(bytes) {
                decoded += 1;
                assert_ne!(
                    (block.header(), block.signature(), block.payload()),
                    (original.header(), original.signature(), original.payload()),
                    "byte {at} ^ {change:#04x}"
                );
            }
        }
    }
    assert!(decoded > 64 * 255, "at least each change of the signature still decodes: {decoded}");
}

#[test]
fn each_byte_more_or_less_breaks_the_block() {
    let golden = golden_block();
    let without_payload = golden.len() - 9;
    for at in 0..golden.len() {
        match decode_vec(golden[..at].to_vec()) {
            Ok(other) => assert_eq!((at, other.payload().len()), (without_payload, 0), "a block with an empty payload"),
            Err(_) => assert_ne!(at, without_payload),
        }
        let mut shorter = golden.clone();
        shorter.remove(at);
        assert!(decode_vec(shorter).is_err(), "without byte {at}");
    }
    for at in 0..=golden.len() {
        for byte in [0x00, 0x01, 0x0a, 0x12, 0x1a, 0x20, 0x80, 0xff] {
            let mut longer = golden.clone();
            longer.insert(at, byte);
            assert!(decode_vec(longer).is_err(), "{byte:#04x} at {at}");
        }
    }
}

fn any_header() -> impl Strategy<Value = Header> {
    (
        "[A-Za-z0-9_.-]{1,64}",
        1..=u64::MAX,
        prop_oneof![Just(0), any::<u64>()],
        any::<Option<[u8; 32]>>(),
        any::<[u8; 32]>(),
        any::<[u8; 32]>(),
        proptest::collection::vec(any::<u8>(), 0..=MAX_HOST_ID_BYTES),
    )
        .prop_map(|(chain_id, height, time_unix_nanos, parent, payload_hash, proposer, host_id)| Header {
            chain_id: ChainId::new(&chain_id).unwrap(),
            height: Height::new(height).unwrap(),
            time_unix_nanos,
            parent_hash: parent.map(Hash),
            payload_hash: Hash(payload_hash),
            proposer: PublicKey(proposer),
            host_id: host_id.into(),
        })
}

/// Bytes that look like protobuf more often than chance would have it: fields of every kind, with true and false lengths.
fn almost_protobuf() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(|bytes| (2, field(0, &bytes)[1..].to_vec())),
        any::<u64>().prop_map(|number| {
            let mut out = Vec::new();
            prost::encoding::encode_varint(number, &mut out);
            (0, out)
        }),
        any::<[u8; 8]>().prop_map(|bytes| (1, bytes.to_vec())),
        any::<[u8; 4]>().prop_map(|bytes| (5, bytes.to_vec())),
        Just((3, vec![])),
        Just((4, vec![])),
        any::<u64>().prop_map(|len| {
            let mut out = Vec::new();
            prost::encoding::encode_varint(len, &mut out);
            (2, out)
        }),
    ];
    let field = (0u8..10, value).prop_map(|(number, (kind, value))| [vec![number << 3 | kind], value].concat());
    proptest::collection::vec(field, 0..8).prop_map(|fields| fields.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_vec(bytes.clone());
        let _ = decode_header(&bytes.into());
    }

    #[test]
    fn what_decodes_is_its_own_encoding(bytes in almost_protobuf(), header in almost_protobuf()) {
        let around = encode(&header.into(), &[1; 64], &Bytes::from_static(b"x"));
        for bytes in [bytes.into(), around] {
            if let Ok(block) = decode(&bytes, MAX) {
                prop_assert_eq!(&encode_header(block.header()), block.header_bytes());
                prop_assert_eq!(&encode(block.header_bytes(), block.signature(), block.payload()), &bytes);
            }
            let _ = decode_header(&bytes);
        }
    }

    #[test]
    fn what_is_encoded_decodes(
        header in any_header(),
        signature in any::<[u8; 32]>(),
        payload in proptest::collection::vec(any::<u8>(), 0..2000),
    ) {
        let signature: [u8; 64] = [signature, signature].concat().try_into().unwrap();
        let header_bytes = encode_header(&header);
        let bytes = encode(&header_bytes, &signature, &payload.clone().into());
        prop_assert_eq!(bytes.len(), encoded_len(header_bytes.len(), payload.len()));
        let block = decode(&bytes, MAX).unwrap();
        prop_assert_eq!(block.header(), &header);
        prop_assert_eq!(block.signature(), &signature);
        prop_assert_eq!(block.payload(), &payload);
        prop_assert_eq!(block.hash(), Hash::of(&header_bytes));
    }

    #[test]
    fn a_changed_block_is_another_block(header in any_header(), at in any::<prop::sample::Index>(), change in 1..=u8::MAX) {
        let bytes = encode(&encode_header(&header), &[9; 64], &Bytes::from_static(b"payload"));
        let original = decode(&bytes, MAX).unwrap();
        let mut changed = bytes.to_vec();
        let at = at.index(changed.len());
        changed[at] ^= change;
        if let Ok(block) = decode_vec(changed) {
            prop_assert_ne!(
                (block.header(), block.signature(), block.payload()),
                (original.header(), original.signature(), original.payload())
            );
            prop_assert_ne!(block, original);
        }
    }
}
