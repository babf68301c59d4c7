//! Signed blocks for the core's tests. A block is named by its height and its branch: the same name on the same parent is the
//! same block.

use std::time::Duration;

use blocksyncd::block::{BlockId, ChainId, Format, Hash, Header, Height, Lane, PublicKey, native};
use blocksyncd::sync::Proposal;
use blocksyncd::verify::{AuthenticBlock, Rules, Schedule, ScheduleEntry};
use bytes::Bytes;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::{Scalar, clamp_integer};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha512};

/// The wall clock at the start of every test, in seconds; block `n` is of second `n`, long before.
pub const START_UNIX_SECONDS: u64 = 1_000_000;
pub const DRIFT: Duration = Duration::from_secs(10);
pub const MAX_BLOCK_BYTES: usize = 4_096;

/// The proposers: the first one is the one of genesis.
pub fn key(proposer: u8) -> SigningKey {
    SigningKey::from_bytes(&[proposer; 32])
}

pub fn public_key(proposer: u8) -> PublicKey {
    PublicKey(key(proposer).verifying_key().to_bytes())
}

pub fn rules() -> Rules {
    rules_of(1)
}

fn rules_of(proposer: u8) -> Rules {
    let entry = ScheduleEntry { from: Height::MIN, proposer: public_key(proposer) };
    Rules {
        format: Format::Native,
        chain_id: ChainId::new("core").expect("a valid chain id"),
        initial_height: Height::MIN,
        max_block_bytes: MAX_BLOCK_BYTES,
        max_clock_drift: DRIFT,
        schedule: Schedule::new(Height::MIN, &[entry]).expect("a sound key"),
    }
}

pub fn h(height: u64) -> Height {
    Height::new(height).expect("not 0")
}

/// What a block is made of, beside its parent.
#[derive(Clone, Debug)]
pub struct Spec {
    pub proposer: u8,
    pub time_unix_nanos: Option<u64>,
    pub host_id: Bytes,
    pub payload: Bytes,
}

impl Spec {
    /// The block of this branch.
    pub fn of(branch: &str) -> Self {
        Self {
            proposer: 1,
            time_unix_nanos: None,
            host_id: Bytes::new(),
            payload: Bytes::copy_from_slice(branch.as_bytes()),
        }
    }

    pub fn on(self, parent: Option<&AuthenticBlock>) -> AuthenticBlock {
        let below = parent.map(|parent| (parent.id(), parent.time_unix_nanos()));
        let (header_bytes, payload) = self.header_on(below);
        sign(self.proposer, &header_bytes, &payload)
    }

    fn header_on(&self, parent: Option<(BlockId, u64)>) -> (Bytes, Bytes) {
        let height = parent.map_or(Height::MIN, |(parent, _)| parent.height.next());
        let header = Header {
            chain_id: rules().chain_id,
            height,
            time_unix_nanos: self.time_unix_nanos.unwrap_or(height.get() * 1_000_000_000),
            parent_hash: parent.map(|(parent, _)| parent.hash),
            payload_hash: Hash::of(&self.payload),
            proposer: public_key(self.proposer),
            host_id: self.host_id.clone(),
        };
        (native::encode_header(&header), self.payload.clone())
    }
}

/// Signs, and checks under rules by which that proposer is the right one.
pub fn sign(proposer: u8, header_bytes: &Bytes, payload: &Bytes) -> AuthenticBlock {
    let signature = key(proposer).sign(&native::signing_message(header_bytes)).to_bytes();
    let bytes = native::encode(header_bytes, &signature, payload);
    rules_of(proposer).check(Lane::BLOCK, &bytes).expect("a sound block")
}

/// The same block with another signature of the same key, which any other `nonce` gives.
pub fn signed_otherwise(block: &AuthenticBlock, nonce: u64) -> AuthenticBlock {
    let (header, payload) = (block.block().header_bytes(), block.block().payload());
    let expanded = Sha512::digest([1; 32]);
    let secret = Scalar::from_bytes_mod_order(clamp_integer(expanded[..32].try_into().expect("32 bytes")));
    let nonce = Scalar::from(nonce);
    let point = EdwardsPoint::mul_base(&nonce).compress().to_bytes();
    let message = native::signing_message(header);
    let challenge = Sha512::new().chain_update(point).chain_update(public_key(1).0).chain_update(message).finalize();
    let challenge = Scalar::from_bytes_mod_order_wide(&challenge.into());
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&point);
    signature[32..].copy_from_slice(&(nonce + challenge * secret).to_bytes());
    rules().check(Lane::BLOCK, &native::encode(header, &signature, payload)).expect("as sound as the other one")
}

/// `count` blocks of a branch on top of `base`.
pub fn branch(base: &[AuthenticBlock], name: &str, count: usize) -> Vec<AuthenticBlock> {
    let mut blocks: Vec<AuthenticBlock> = Vec::new();
    for _ in 0..count {
        let parent = blocks.last().or(base.last());
        blocks.push(Spec::of(name).on(parent));
    }
    blocks
}

/// The first blocks of the main branch.
pub fn chain(count: usize) -> Vec<AuthenticBlock> {
    branch(&[], "a", count)
}

/// What a host says to have this very block made.
pub fn proposal(block: &AuthenticBlock) -> Proposal {
    Proposal {
        height: block.height(),
        parent: block.parent_hash(),
        time_unix_nanos: block.time_unix_nanos(),
        host_id: block.block().header().host_id.clone(),
        payload: block.block().payload().clone(),
        payload_hash: block.block().header().payload_hash,
    }
}
