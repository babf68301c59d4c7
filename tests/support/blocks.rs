//! Valid blocks for tests: deterministic, signed, verified the way in which blocks from the network are.
//!
//! Included with `#[path]`, so not every test uses all of it.
#![allow(dead_code)]

use std::time::Duration;

use blocksyncd::block::{ChainId, Format, Hash, Header, Height, Lane, PublicKey, native};
use blocksyncd::verify::{AuthenticBlock, Rules, Schedule, ScheduleEntry, VerifiedBlock};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

/// The proposer of all test chains.
pub fn signing_key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub fn public_key() -> PublicKey {
    PublicKey(signing_key().verifying_key().to_bytes())
}

pub fn chain_id() -> ChainId {
    ChainId::new("test-chain").expect("a valid chain id")
}

/// Rules under which [`extend`]'s blocks are valid.
pub fn rules() -> Rules {
    rules_of("test-chain")
}

/// The same rules for a chain of another name.
pub fn rules_of(chain: &str) -> Rules {
    let entry = ScheduleEntry { from: Height::MIN, proposer: public_key() };
    Rules {
        format: Format::Native,
        chain_id: ChainId::new(chain).expect("a valid chain id"),
        initial_height: Height::MIN,
        max_block_bytes: 8 << 20,
        max_clock_drift: Duration::from_secs(10),
        schedule: Schedule::new(Height::MIN, &[entry]).expect("a sound schedule"),
    }
}

/// The first `n` blocks of the chain, each with a payload of `payload_size` bytes.
pub fn build_chain(n: u64, payload_size: usize) -> Vec<VerifiedBlock> {
    extend(None, n, payload_size, 0)
}

/// `n` more blocks on top of `parent`. Blocks of another `branch` have other payloads, hence other hashes.
pub fn extend(parent: Option<&VerifiedBlock>, n: u64, payload_size: usize, branch: u64) -> Vec<VerifiedBlock> {
    let mut chain: Vec<VerifiedBlock> = Vec::new();
    for _ in 0..n {
        let parent = chain.last().or(parent);
        let authentic = next(parent, payload_size, branch);
        chain.push(authentic.link(parent.map(VerifiedBlock::tip)).expect("it links to its parent"));
    }
    chain
}

/// The block on top of `parent`, signed, and checked by [`rules`].
pub fn next(parent: Option<&VerifiedBlock>, payload_size: usize, branch: u64) -> AuthenticBlock {
    let height = parent.map_or(Height::MIN, |parent| parent.id().height.next());
    let payload = payload(height, payload_size, branch);
    let header = Header {
        chain_id: chain_id(),
        height,
        time_unix_nanos: height.get() * 1_000_000_000 + branch,
        parent_hash: parent.map(|parent| parent.id().hash),
        payload_hash: Hash::of(&payload),
        proposer: public_key(),
        host_id: Bytes::new(),
    };
    let header_bytes = native::encode_header(&header);
    let signature = signing_key().sign(&native::signing_message(&header_bytes)).to_bytes();
    let bytes = native::encode(&header_bytes, &signature, &payload);
    rules().check(Lane::BLOCK, &bytes).expect("a valid block")
}

/// Bytes that no two blocks share, and that do not compress.
fn payload(height: Height, size: usize, branch: u64) -> Bytes {
    let mut random = fastrand::Rng::with_seed(height.get() ^ (branch << 48));
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    bytes.into()
}
