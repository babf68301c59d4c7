//! Real signed blocks to tell lies with.

use blocksyncd::block::{BlockId, ChainId, Hash, Header, Height, PublicKey, native};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

pub const CHAIN_ID: &str = "scripted";
const PROPOSER: u8 = 7;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> PublicKey {
    PublicKey(key(seed).verifying_key().to_bytes())
}

pub fn proposer() -> PublicKey {
    public(PROPOSER)
}

/// A block in pieces, each of which a lie can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub id: BlockId,
    pub parent: Option<Hash>,
    pub time_unix_nanos: u64,
    pub header: Bytes,
    pub signature: [u8; 64],
    pub payload: Bytes,
}

impl Piece {
    /// The encoded `SignedBlock`.
    pub fn signed(&self) -> Bytes {
        native::encode(&self.header, &self.signature, &self.payload)
    }
}

pub fn block(parent: Option<BlockId>, time_unix_nanos: u64, payload: &[u8]) -> Piece {
    signed_by(PROPOSER, parent, time_unix_nanos, payload)
}

/// A block that somebody signed who need not be the proposer.
pub fn signed_by(seed: u8, parent: Option<BlockId>, time_unix_nanos: u64, payload: &[u8]) -> Piece {
    let payload = Bytes::copy_from_slice(payload);
    let height = parent.map_or(Height::MIN, |parent| parent.height.next());
    let parent = parent.map(|parent| parent.hash);
    let header = native::encode_header(&Header {
        chain_id: ChainId::new(CHAIN_ID).unwrap(),
        height,
        time_unix_nanos,
        parent_hash: parent,
        payload_hash: Hash::of(&payload),
        proposer: public(seed),
        host_id: Bytes::new(),
    });
    let signature = key(seed).sign(&native::signing_message(&header)).to_bytes();
    Piece { id: BlockId { height, hash: Hash::of(&header) }, parent, time_unix_nanos, header, signature, payload }
}

/// Blocks 1 to `n`.
pub fn chain(n: u64) -> Vec<Piece> {
    let mut chain: Vec<Piece> = Vec::new();
    for height in 1..=n {
        chain.push(block(chain.last().map(|block| block.id), height, format!("payload {height}").as_bytes()));
    }
    chain
}
