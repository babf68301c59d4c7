use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use super::*;
use crate::block::Header;

const SECOND: u64 = 1_000_000_000;
const INITIAL: u64 = 5;

fn height(height: u64) -> Height {
    Height::new(height).unwrap()
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    PublicKey(key(seed).verifying_key().to_bytes())
}

fn entry(from: u64, proposer: PublicKey) -> ScheduleEntry {
    ScheduleEntry { from: height(from), proposer }
}

/// A chain that starts at height 5; key 1 proposes, from height 10 on key 2.
fn rules() -> Rules {
    Rules {
        format: Format::Native,
        chain_id: ChainId::new("test").unwrap(),
        initial_height: height(INITIAL),
        max_block_bytes: 1000,
        max_clock_drift: Duration::from_secs(10),
        schedule: Schedule::new(height(INITIAL), &[entry(INITIAL, public(1)), entry(10, public(2))]).unwrap(),
    }
}

/// A valid header at height 7.
fn header() -> Header {
    Header {
        chain_id: ChainId::new("test").unwrap(),
        height: height(7),
        time_unix_nanos: 100 * SECOND,
        parent_hash: Some(Hash([6; 32])),
        payload_hash: Hash::of(b"payload"),
        proposer: public(1),
        host_id: Bytes::new(),
    }
}

fn sign(header: &Header, key: &SigningKey) -> Bytes {
    let header = native::encode_header(header);
    let signature = key.sign(&native::signing_message(&header)).to_bytes();
    native::encode(&header, &signature, &Bytes::from_static(b"payload"))
}

#[test]
fn what_nobody_scheduled_signed_is_told_apart_from_what_nobody_signed() {
    let foreign = Header { proposer: public(3), ..header() };
    let signed = sign(&foreign, &key(3));
    assert!(matches!(rules().check(Lane::BLOCK, &signed), Err(Fault::NotScheduled { .. })));
    assert_eq!(rules().check_but_for_the_schedule(Lane::BLOCK, &signed), Ok(()));
    // Its name is on it, and it is not its work.
    let forged = sign(&foreign, &key(1));
    assert_eq!(rules().check_but_for_the_schedule(Lane::BLOCK, &forged), Err(Fault::BadSignature));
    let elsewhere = Header { chain_id: ChainId::new("other").unwrap(), ..foreign.clone() };
    let elsewhere = sign(&elsewhere, &key(3));
    assert!(matches!(rules().check_but_for_the_schedule(Lane::BLOCK, &elsewhere), Err(Fault::WrongChain(_))));
    let weak = Header { proposer: PublicKey([0; 32]), ..foreign.clone() };
    assert_eq!(rules().check_but_for_the_schedule(Lane::BLOCK, &sign(&weak, &key(3))), Err(Fault::BadSignature));
    let other_payload = sign(&Header { payload_hash: Hash::of(b"another"), ..foreign }, &key(3));
    assert_eq!(rules().check_but_for_the_schedule(Lane::BLOCK, &other_payload), Err(Fault::PayloadMismatch));
}

#[test]
fn a_block_within_the_chains_rule_may_be_too_large_for_one_node() {
    let block = check(&header()).unwrap();
    let (len, id, parent) = (block.size(), block.id(), block.parent_hash());
    assert_eq!(block.clone().within(len), Ok(block.clone()));
    let fault = Fault::TooLargeHere(Box::new(TooLargeHere { id, parent, len, max: len - 1 }));
    assert_eq!(block.within(len - 1), Err(fault));
}

/// What the rules say of this header, signed with key 1 around the payload `payload`.
fn check(header: &Header) -> Result<AuthenticBlock, Fault> {
    rules().check(Lane::BLOCK, &sign(header, &key(1)))
}

fn authentic(header: &Header) -> AuthenticBlock {
    check(header).unwrap()
}

#[test]
fn a_valid_block_is_authentic() {
    let bytes = sign(&header(), &key(1));
    let block = rules().check(Lane::BLOCK, &bytes).unwrap();
    assert_eq!(block.block().bytes(), &bytes);
    assert_eq!(block.block().header(), &header());
    assert_eq!(block.height(), height(7));
    assert_eq!(block.hash(), Hash::of(&native::encode_header(&header())));
    assert_eq!(block.id(), BlockId { height: block.height(), hash: block.hash() });
    assert_eq!(block.parent_hash(), Some(Hash([6; 32])));
    assert_eq!(block.time_unix_nanos(), 100 * SECOND);
    assert_eq!(block.size(), bytes.len());
}

#[test]
fn malformed_blocks_are_refused() {
    let bytes = sign(&header(), &key(1));
    let longer = Bytes::from([&bytes[..], &[0]].concat());
    assert!(matches!(rules().check(Lane::BLOCK, &longer), Err(Fault::Malformed(_))));
    assert_eq!(
        rules().check(Lane(1), &bytes),
        Err(Fault::Malformed(Malformed::NotProtobuf("no such lane"))),
        "the native format has one lane"
    );
}

#[test]
fn the_size_limit_is_exact() {
    let bytes = sign(&header(), &key(1));
    let len = bytes.len();
    let with_limit = |max_block_bytes| Rules { max_block_bytes, ..rules() }.check(Lane::BLOCK, &bytes);
    assert!(with_limit(len).is_ok());
    assert_eq!(with_limit(len - 1), Err(Fault::Malformed(Malformed::TooLarge { len, max: len - 1 })));
}

#[test]
fn another_chain_is_refused() {
    let other = ChainId::new("Test").unwrap();
    assert_eq!(check(&Header { chain_id: other.clone(), ..header() }), Err(Fault::WrongChain(other)));
}

#[test]
fn the_chain_starts_at_its_initial_height() {
    let at = |h, parent_hash| check(&Header { height: height(h), parent_hash, ..header() });
    let parent = Some(Hash([6; 32]));
    assert!(at(INITIAL, None).is_ok());
    assert!(at(INITIAL + 1, parent).is_ok());
    assert_eq!(at(INITIAL - 1, parent), Err(Fault::BelowInitialHeight(height(INITIAL - 1))));
    assert_eq!(at(INITIAL - 1, None), Err(Fault::BelowInitialHeight(height(INITIAL - 1))));
    assert_eq!(at(INITIAL, parent), Err(Fault::ParentPresence));
    assert_eq!(at(INITIAL + 1, None), Err(Fault::ParentPresence));
}

#[test]
fn the_proposer_is_the_scheduled_one() {
    let at = |h, seed| {
        let header = Header { height: height(h), proposer: public(seed), ..header() };
        rules().check(Lane::BLOCK, &sign(&header, &key(seed)))
    };
    let not_scheduled = |h, seed| Err(Fault::NotScheduled { height: height(h), proposer: public(seed) });
    assert!(at(9, 1).is_ok());
    assert_eq!(at(9, 2), not_scheduled(9, 2));
    assert_eq!(at(10, 1), not_scheduled(10, 1));
    assert!(at(10, 2).is_ok());
    assert!(at(u64::MAX, 2).is_ok());
    assert_eq!(at(7, 3), not_scheduled(7, 3));
}

#[test]
fn the_signature_is_the_proposers_over_the_domain_and_the_header() {
    let header = header();
    let header_bytes = native::encode_header(&header);
    let with = |signature: &[u8; 64]| {
        rules().check(Lane::BLOCK, &native::encode(&header_bytes, signature, &b"payload"[..].into()))
    };
    let good = key(1).sign(&native::signing_message(&header_bytes)).to_bytes();
    assert!(with(&good).is_ok());
    assert_eq!(
        with(&key(2).sign(&native::signing_message(&header_bytes)).to_bytes()),
        Err(Fault::BadSignature),
        "the key"
    );
    assert_eq!(with(&key(1).sign(&header_bytes).to_bytes()), Err(Fault::BadSignature), "no domain");
    let other = native::signing_message(&native::encode_header(&Header { height: height(8), ..header.clone() }));
    assert_eq!(with(&key(1).sign(&other).to_bytes()), Err(Fault::BadSignature), "another header's");
    assert_eq!(with(&[0; 64]), Err(Fault::BadSignature));
    assert_eq!(with(&[0xff; 64]), Err(Fault::BadSignature));
    assert_eq!(with(&plus_order(good)), Err(Fault::BadSignature), "S is not canonical");
}

/// The same signature with S + L in place of S: it satisfies the equation, and must be refused nevertheless, or anyone could
/// make a second block with the same hash out of each.
fn plus_order(mut signature: [u8; 64]) -> [u8; 64] {
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    signature
}

#[test]
fn the_payload_is_the_one_that_was_signed_for() {
    let header = Header { payload_hash: Hash::of(b"another"), ..header() };
    assert_eq!(check(&header), Err(Fault::PayloadMismatch));
}

/// Nobody but the proposer can make a second block out of one: any change is refused.
#[test]
fn no_bit_can_be_changed() {
    let bytes = sign(&header(), &key(1));
    let rules = rules();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(rules.check(Lane::BLOCK, &changed.into()).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(rules.check(Lane::BLOCK, &bytes.slice(..len)).is_err(), "cut at {len}");
    }
}

#[test]
fn cheap_checks_come_first() {
    // Each header is also wrong in everything that is checked later.
    let wrong = Header {
        chain_id: ChainId::new("other").unwrap(),
        height: height(4),
        parent_hash: None,
        payload_hash: Hash([0; 32]),
        proposer: public(3),
        ..header()
    };
    let check = |header: &Header| rules().check(Lane::BLOCK, &sign(header, &key(2))).unwrap_err();
    assert!(matches!(check(&wrong), Fault::WrongChain(_)));
    let wrong = Header { chain_id: header().chain_id, ..wrong };
    assert!(matches!(check(&wrong), Fault::BelowInitialHeight(_)));
    let wrong = Header { height: height(7), ..wrong };
    assert!(matches!(check(&wrong), Fault::ParentPresence));
    let wrong = Header { parent_hash: Some(Hash([0; 32])), ..wrong };
    assert!(matches!(check(&wrong), Fault::NotScheduled { .. }));
    let wrong = Header { proposer: public(1), ..wrong };
    assert!(matches!(check(&wrong), Fault::BadSignature));
}

#[test]
fn times_may_be_ahead_by_the_drift() {
    let now = |unix_nanos| Now { elapsed: Duration::ZERO, unix_nanos };
    let at = |time_unix_nanos, now| rules().check_time(&authentic(&Header { time_unix_nanos, ..header() }), now);
    let ahead = |nanos| Err(Fault::FromTheFuture { ahead: Duration::from_nanos(nanos) });
    assert_eq!(at(100 * SECOND, now(100 * SECOND)), Ok(()));
    assert_eq!(at(110 * SECOND, now(100 * SECOND)), Ok(()));
    assert_eq!(at(110 * SECOND + 1, now(100 * SECOND)), ahead(10 * SECOND + 1));
    assert_eq!(at(0, now(u64::MAX)), Ok(()), "the past is always possible");
    assert_eq!(at(u64::MAX, now(u64::MAX)), Ok(()), "nothing wraps around");
    assert_eq!(at(u64::MAX, now(0)), ahead(u64::MAX));
    let patient = Rules { max_clock_drift: Duration::MAX, ..rules() };
    assert_eq!(patient.check_time(&authentic(&Header { time_unix_nanos: u64::MAX, ..header() }), now(0)), Ok(()));
}

#[test]
fn a_block_links_to_its_parent() {
    let block = authentic(&header());
    let parent = Tip { id: BlockId { height: height(6), hash: Hash([6; 32]) }, time_unix_nanos: 100 * SECOND };
    let other_parent = Err(Fault::OtherParent(Some(Hash([6; 32]))));
    let with_id = |id| block.link(Some(Tip { id, ..parent }));

    let linked = block.link(Some(parent)).unwrap();
    assert_eq!(linked.block(), block.block());
    assert_eq!(linked.id(), block.id());
    assert_eq!(linked.tip(), Tip { id: block.id(), time_unix_nanos: 100 * SECOND });
    assert!(
        authentic(&Header { height: height(8), parent_hash: Some(linked.id().hash), ..header() })
            .link(Some(linked.tip()))
            .is_ok()
    );

    assert_eq!(block.link(None), other_parent);
    assert_eq!(with_id(BlockId { hash: Hash([5; 32]), ..parent.id }), other_parent);
    assert_eq!(with_id(BlockId { height: height(5), ..parent.id }), other_parent, "a gap");
    assert_eq!(with_id(BlockId { height: height(7), ..parent.id }), other_parent, "the same height");
    assert_eq!(with_id(BlockId { height: height(8), ..parent.id }), other_parent, "from above");

    let at = |parent_time| block.link(Some(Tip { time_unix_nanos: parent_time, ..parent })).map(|_| ());
    assert_eq!(at(100 * SECOND - 1), Ok(()));
    assert_eq!(at(100 * SECOND), Ok(()), "the same time is no step back");
    assert_eq!(at(100 * SECOND + 1), Err(Fault::BeforeParent));
}

#[test]
fn the_first_block_links_to_nothing() {
    let first = authentic(&Header { height: height(INITIAL), parent_hash: None, ..header() });
    assert!(first.link(None).is_ok());
    let parent = Tip { id: BlockId { height: height(INITIAL - 1), hash: Hash([6; 32]) }, time_unix_nanos: 0 };
    assert_eq!(first.link(Some(parent)), Err(Fault::OtherParent(None)));
}

#[test]
fn schedules_start_at_the_start_and_ascend() {
    let new = |entries: &[ScheduleEntry]| Schedule::new(height(5), entries);
    assert_eq!(new(&[]), Err(ScheduleError::Empty));
    assert_eq!(new(&[entry(4, public(1))]), Err(ScheduleError::NotFromStart(height(5))));
    assert_eq!(new(&[entry(6, public(1))]), Err(ScheduleError::NotFromStart(height(5))));
    let descending = [entry(5, public(1)), entry(8, public(2)), entry(7, public(3))];
    assert_eq!(new(&descending), Err(ScheduleError::NotAscending(height(7))));
    assert_eq!(new(&[entry(5, public(1)), entry(5, public(2))]), Err(ScheduleError::NotAscending(height(5))));

    let entries = [entry(5, public(1)), entry(6, public(2)), entry(100, public(1))];
    let schedule = new(&entries).unwrap();
    assert_eq!(schedule.entries().collect::<Vec<_>>(), entries);
    assert_eq!(schedule.entries().len(), 3);
    let expected =
        [(1, None), (4, None), (5, Some(1)), (6, Some(2)), (99, Some(2)), (100, Some(1)), (u64::MAX, Some(1))];
    for (at, seed) in expected {
        assert_eq!(schedule.proposer_at(height(at)), seed.map(public), "{at}");
    }
}

#[test]
fn a_refused_entry_leaves_the_schedule_as_it_was() {
    let before = rules().schedule;
    let mut schedule = before.clone();
    assert_eq!(schedule.append(entry(10, public(3))), Err(ScheduleError::NotAscending(height(10))));
    assert_eq!(schedule.append(entry(11, PublicKey([0; 32]))), Err(ScheduleError::WeakKey(PublicKey([0; 32]))));
    assert_eq!(schedule, before);
    assert_eq!(schedule.append(entry(11, public(3))), Ok(()));
    assert_eq!(schedule.proposer_at(height(10)), Some(public(2)));
    assert_eq!(schedule.proposer_at(height(11)), Some(public(3)));
}

/// The points whose order divides 8, in every encoding that has the length of one: anybody could sign for such a "key".
const WEAK_KEYS: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    // The same points again, y not reduced or x = 0 with a sign.
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

#[test]
fn weak_keys_may_not_propose() {
    for (at, weak) in WEAK_KEYS.iter().enumerate() {
        let weak = PublicKey::from_hex(weak).unwrap();
        let refused = Schedule::new(height(1), &[entry(1, weak)]);
        if at < 8 {
            assert_eq!(refused, Err(ScheduleError::WeakKey(weak)));
        } else {
            let why = [ScheduleError::WeakKey(weak), ScheduleError::NotAKey(weak)];
            assert!(refused.is_err_and(|error| why.contains(&error)), "{weak}");
        }
    }
}

#[test]
fn what_is_not_a_point_may_not_propose() {
    // y = 2 is on no point of the curve.
    let mut not_a_point = PublicKey([0; 32]);
    not_a_point.0[0] = 2;
    assert_eq!(Schedule::new(height(1), &[entry(1, not_a_point)]), Err(ScheduleError::NotAKey(not_a_point)));
}

/// The 12 vectors of "Taming the many `EdDSAs`" (Chalkias, Garillot, Nikolaenko 2020): message, key, signature, and whether
/// Go's `crypto/ed25519` (1.26) accepts. They are where implementations differ, and we must not differ from the Go peers.
const EDGE_CASES: [(&str, &str, &str, bool); 12] = [
    (
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        concat!(
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ),
        true,
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        concat!(
            "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
            "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        ),
        true,
    ),
    (
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        concat!(
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        ),
        true,
    ),
    (
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        concat!(
            "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f",
            "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        ),
        true,
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        concat!(
            "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512",
            "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        ),
        false,
    ),
    (
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        concat!(
            "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7",
            "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        ),
        false,
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        concat!(
            "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e",
            "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        ),
        false,
    ),
    (
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        concat!(
            "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942",
            "7e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        ),
        false,
    ),
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        concat!(
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
        ),
        false,
    ),
    (
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        concat!(
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
        ),
        false,
    ),
    (
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        concat!(
            "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
            "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        ),
        false,
    ),
    (
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        concat!(
            "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc",
            "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        ),
        true,
    ),
];

#[test]
fn signatures_are_judged_as_go_does() {
    let hex = |text: &str| crate::util::hex::decode(text.as_bytes()).unwrap();
    for (number, (message, key, signature, accepted)) in EDGE_CASES.into_iter().enumerate() {
        let signature = hex(signature).try_into().unwrap();
        let judged = VerifyingKey::from_bytes(&PublicKey::from_hex(key).unwrap().0)
            .is_ok_and(|key| is_signed_by(&key, &hex(message), &signature));
        assert_eq!(judged, accepted, "vector {number}");
    }
}

#[test]
fn faults_say_what_is_wrong() {
    let ahead = Duration::from_millis(12_345);
    assert_eq!(Fault::FromTheFuture { ahead }.to_string(), "its time is 12345 ms ahead of our clock");
    let fault = Fault::from(Malformed::TooLarge { len: 9, max: 8 });
    assert_eq!(fault.to_string(), "malformed: 9 bytes, the limit is 8");
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(lane in 0..3u8, bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
        prop_assert!(rules().check(Lane(lane), &bytes.into()).is_err());
    }

    /// What nobody signed is refused, however well it is made.
    #[test]
    fn no_signature_is_guessed(signature in proptest::collection::vec(any::<u8>(), 64)) {
        let header = native::encode_header(&header());
        let bytes = native::encode(&header, &signature.try_into().unwrap(), &b"payload"[..].into());
        prop_assert_eq!(rules().check(Lane::BLOCK, &bytes), Err(Fault::BadSignature));
    }
}
