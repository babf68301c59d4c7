//! The one chain of a simulated world: its key, its rules, and everything that its key ever signed.
//!
//! Invariants:
//! 1. Whether bytes are authentic is decided by the real [`Rules::check`], once per distinct bytes; the answer is kept, so
//!    that nine nodes verifying one block cost one signature check.
//! 2. A block is in `signed` if and only if its header carries the sequencer's signature: made here, by the honest signer or
//!    by the twin that stole its key.

use std::collections::{BTreeMap, HashMap};

use blocksyncd::block::{BlockId, ChainId, Format, Hash, Header, Height, Lane, PublicKey, native};
use blocksyncd::verify::{AuthenticBlock, Fault, Rules, Schedule, ScheduleEntry};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

/// The wall clock at the start of every world: 2024-01-01.
pub const EPOCH_UNIX_NANOS: u64 = 1_704_067_200_000_000_000;

/// Whether a signature is the sequencer's does not depend on who asks.
#[derive(Debug)]
pub struct Chain {
    rules: Rules,
    key: SigningKey,
    /// Never iterated: its order is not deterministic.
    checked: HashMap<Bytes, Result<AuthenticBlock, Fault>>,
    signed: BTreeMap<Hash, AuthenticBlock>,
}

impl Chain {
    pub fn new(initial_height: Height, max_block_bytes: usize) -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        let entry = ScheduleEntry { from: initial_height, proposer: PublicKey(key.verifying_key().to_bytes()) };
        let rules = Rules {
            format: Format::Native,
            chain_id: ChainId::new("sim").expect("a valid chain id"),
            initial_height,
            max_block_bytes,
            max_clock_drift: std::time::Duration::from_secs(10),
            schedule: Schedule::new(initial_height, &[entry]).expect("one sound key"),
        };
        Self { rules, key, checked: HashMap::new(), signed: BTreeMap::new() }
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn initial_height(&self) -> Height {
        self.rules.initial_height
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes())
    }

    /// [`Rules::check`], remembered.
    pub fn check(&mut self, bytes: &Bytes) -> Result<AuthenticBlock, Fault> {
        if let Some(known) = self.checked.get(bytes) {
            return known.clone();
        }
        let outcome = self.rules.check(Lane::BLOCK, bytes);
        self.checked.insert(bytes.clone(), outcome.clone());
        outcome
    }

    /// Whoever holds the key signs a header.
    pub fn sign(&mut self, header_bytes: &Bytes, payload: &Bytes) -> Result<AuthenticBlock, Fault> {
        let signature = self.key.sign(&native::signing_message(header_bytes)).to_bytes();
        let block = self.check(&native::encode(header_bytes, &signature, payload))?;
        self.signed.insert(block.hash(), block.clone());
        Ok(block)
    }

    /// A block on `parent`, signed.
    pub fn make(&mut self, parent: Option<BlockId>, time_unix_nanos: u64, payload: &Bytes) -> AuthenticBlock {
        let height = parent.map_or(self.rules.initial_height, |parent| parent.height.next());
        let header = Header {
            chain_id: self.rules.chain_id.clone(),
            height,
            time_unix_nanos,
            parent_hash: parent.map(|parent| parent.hash),
            payload_hash: Hash::of(payload),
            proposer: self.public_key(),
            host_id: host_id(payload),
        };
        self.sign(&native::encode_header(&header), payload).expect("our own block is sound")
    }

    /// The block with this hash, if the sequencer ever signed it.
    pub fn signed(&self, hash: Hash) -> Option<&AuthenticBlock> {
        self.signed.get(&hash)
    }

    /// A block like this one, which nobody signed.
    pub fn forge(&self, height: Height, parent: Hash, payload: &Bytes) -> Bytes {
        let header = Header {
            chain_id: self.rules.chain_id.clone(),
            height,
            time_unix_nanos: EPOCH_UNIX_NANOS,
            parent_hash: Some(parent),
            payload_hash: Hash::of(payload),
            proposer: self.public_key(),
            host_id: Bytes::new(),
        };
        native::encode(&native::encode_header(&header), &[3; 64], payload)
    }
}

/// The rollup's own id of a block: of what is in it.
pub fn host_id(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&Hash::of(payload).0)
}

/// The same block with another signature: the hash does not cover it.
pub fn resigned(block: &AuthenticBlock) -> Bytes {
    let mut signature = *block.block().signature();
    signature[0] ^= 1;
    native::encode(block.block().header_bytes(), &signature, block.block().payload())
}

/// The same block with bytes behind it that protobuf readers skip.
pub fn padded(block: &AuthenticBlock) -> Bytes {
    // Field 15, varint, value 0: unknown to the format.
    [block.block().bytes().as_ref(), &[0x78, 0x00]].concat().into()
}
