//! The native block format (`schema/block.proto`): one protobuf message per block, for any rollup.
//!
//! - Block hash = SHA-256 of the header bytes, as carried.
//! - Signature = ed25519 over [`SIGNING_DOMAIN`] followed by the header bytes.
//! - One block, one encoding: bytes that [`encode`] would not have produced, of the header or of the block around it, are
//!   refused, so nobody can pad a block that we store and serve.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{Block, ChainId, Decoded, Hash, Header, Height, Malformed, PublicKey};

/// Put before the header bytes when they are signed, so that no other signature can be mistaken for a block's.
pub const SIGNING_DOMAIN: &[u8] = b"blocksync/block/v1\0";

/// The longest `host_id`, in bytes.
pub const MAX_HOST_ID_BYTES: usize = 64;

/// More than the header, the signature and all field tags can take: a payload of `max_block_bytes - MAX_OVERHEAD_BYTES`
/// always fits, and no block is more than this much larger than its payload.
pub const MAX_OVERHEAD_BYTES: usize = 512;

/// The lane's go-header network id; rollkit used the same name when the mechanism was born.
#[must_use]
pub fn network_id(chain_id: &ChainId) -> String {
    format!("{chain_id}-block")
}

/// `SignedBlock` of `schema/block.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct WireBlock {
    #[prost(bytes = "bytes", tag = "1")]
    header: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    signature: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    payload: Bytes,
}

/// `BlockHeader` of `schema/block.proto`.
#[derive(Clone, PartialEq, prost::Message)]
struct WireHeader {
    #[prost(string, tag = "1")]
    chain_id: String,
    #[prost(uint64, tag = "2")]
    height: u64,
    #[prost(uint64, tag = "3")]
    time_unix_nanos: u64,
    #[prost(bytes = "bytes", tag = "4")]
    parent_hash: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    payload_hash: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    proposer: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    host_id: Bytes,
}

/// The bytes of a header: what is hashed, and after the domain prefix signed.
#[must_use]
pub fn encode_header(header: &Header) -> Bytes {
    let wire = WireHeader {
        chain_id: header.chain_id.as_str().to_owned(),
        height: header.height.get(),
        time_unix_nanos: header.time_unix_nanos,
        parent_hash: header.parent_hash.map_or_else(Bytes::new, |hash| Bytes::copy_from_slice(&hash.0)),
        payload_hash: Bytes::copy_from_slice(&header.payload_hash.0),
        proposer: Bytes::copy_from_slice(&header.proposer.0),
        host_id: header.host_id.clone(),
    };
    wire.encode_to_vec().into()
}

/// The message that the proposer signs for these header bytes.
#[must_use]
pub fn signing_message(header_bytes: &[u8]) -> Vec<u8> {
    [SIGNING_DOMAIN, header_bytes].concat()
}

/// The bytes of a whole signed block.
#[must_use]
pub fn encode(header_bytes: &Bytes, signature: &[u8; 64], payload: &Bytes) -> Bytes {
    let wire = WireBlock {
        header: header_bytes.clone(),
        signature: Bytes::copy_from_slice(signature),
        payload: payload.clone(),
    };
    wire.encode_to_vec().into()
}

/// How many bytes [`encode`] gives for a header and a payload of these lengths.
#[must_use]
pub fn encoded_len(header_len: usize, payload_len: usize) -> usize {
    let field = |len: usize| if len == 0 { 0 } else { 1 + prost::length_delimiter_len(len) + len };
    field(header_len) + field(64) + field(payload_len)
}

/// Decodes one block of at most `max_block_bytes`.
///
/// # Errors
/// [`Malformed`] for anything that [`encode`] and [`encode_header`] would not have produced.
pub fn decode(bytes: &Bytes, max_block_bytes: usize) -> Result<Block, Malformed> {
    if bytes.len() > max_block_bytes {
        return Err(Malformed::TooLarge { len: bytes.len(), max: max_block_bytes });
    }
    // `Bytes` fields share the input's buffer: nothing of the payload is copied.
    let wire = WireBlock::decode(bytes.clone()).map_err(|_| Malformed::NotProtobuf("SignedBlock"))?;
    let signature = *wire.signature.first_chunk::<64>().ok_or(Malformed::Field("signature"))?;
    if wire.signature.len() != 64 {
        return Err(Malformed::Field("signature"));
    }
    let header = decode_header(&wire.header)?;
    if !is_canonical_block(bytes, &wire) {
        return Err(Malformed::NotCanonical);
    }
    let hash = Hash::of(&wire.header);
    Ok(Block(Arc::new(Decoded {
        bytes: bytes.clone(),
        header_bytes: wire.header,
        payload: wire.payload,
        signature,
        header,
        hash,
    })))
}

/// Whether encoding `wire` again gives `bytes`, without copying the payload: protobuf encodes in field order, so the
/// payload of a canonical block is its tail.
fn is_canonical_block(bytes: &Bytes, wire: &WireBlock) -> bool {
    if wire.encoded_len() != bytes.len() {
        return false;
    }
    let prefix_len = bytes.len() - wire.payload.len();
    let mut prefix = WireBlock { payload: Bytes::new(), ..wire.clone() }.encode_to_vec();
    if !wire.payload.is_empty() {
        prefix.push(0x1a); // field 3, length-delimited
        if prost::encode_length_delimiter(wire.payload.len(), &mut prefix).is_err() {
            return false;
        }
    }
    bytes[..prefix_len] == prefix[..] && bytes[prefix_len..] == wire.payload
}

/// Decodes header bytes.
///
/// # Errors
/// [`Malformed`] for anything that [`encode_header`] would not have produced.
pub fn decode_header(bytes: &Bytes) -> Result<Header, Malformed> {
    if bytes.len() > MAX_OVERHEAD_BYTES {
        return Err(Malformed::Field("header"));
    }
    let wire = WireHeader::decode(bytes.clone()).map_err(|_| Malformed::NotProtobuf("BlockHeader"))?;
    let header = Header {
        chain_id: ChainId::new(&wire.chain_id).ok_or(Malformed::Field("chain_id"))?,
        height: Height::new(wire.height).ok_or(Malformed::Field("height"))?,
        time_unix_nanos: wire.time_unix_nanos,
        parent_hash: match wire.parent_hash.as_ref() {
            [] => None,
            hash => Some(Hash::from_slice(hash).ok_or(Malformed::Field("parent_hash"))?),
        },
        payload_hash: Hash::from_slice(&wire.payload_hash).ok_or(Malformed::Field("payload_hash"))?,
        proposer: PublicKey::from_slice(&wire.proposer).ok_or(Malformed::Field("proposer"))?,
        host_id: match wire.host_id.len() {
            0..=MAX_HOST_ID_BYTES => wire.host_id,
            _ => return Err(Malformed::Field("host_id")),
        },
    };
    if encode_header(&header) != bytes {
        return Err(Malformed::NotCanonical);
    }
    Ok(header)
}

#[cfg(test)]
mod tests;
