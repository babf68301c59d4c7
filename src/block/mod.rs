//! What a block is: heights, hashes, chain ids, and [`Block`], the decoded form of one signed block.
//!
//! Nothing here checks a signature or knows a parent: a [`Block`] is only *well formed*. What makes it believable is in
//! [`crate::verify`].
//!
//! Invariants:
//! 1. A [`Block`] keeps the exact bytes that it was decoded from; nothing is ever re-encoded on the way through.
//! 2. Its hash, header and payload all follow from those bytes, and one block has exactly one encoding.
//! 3. Decoding allocates nothing that is larger than its input.

mod format;
mod malformed;
pub mod native;

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;

pub use format::{BlockFormat, Format, Lane};
pub use malformed::Malformed;

use crate::util::hex;

/// The height of a block: at least 1, as on the go-header wire, where 0 means "the head".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Height(NonZeroU64);

impl Height {
    pub const MIN: Self = Self(NonZeroU64::MIN);
    pub const MAX: Self = Self(NonZeroU64::MAX);

    /// `None` for 0.
    #[must_use]
    pub const fn new(height: u64) -> Option<Self> {
        match NonZeroU64::new(height) {
            Some(height) => Some(Self(height)),
            None => None,
        }
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The next height, or [`Height::MAX`] for ever: no chain gets there, and no peer can make us wrap around.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The height below, `None` below 1.
    #[must_use]
    pub const fn prev(self) -> Option<Self> {
        Self::new(self.0.get() - 1)
    }

    /// `self + n`, saturating.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0.saturating_add(n))
    }

    /// How many heights lie above `lower` up to and including `self`; 0 when `self <= lower`.
    #[must_use]
    pub const fn above(self, lower: Self) -> u64 {
        self.0.get().saturating_sub(lower.0.get())
    }
}

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A SHA-256 hash. Its text form is lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash(pub [u8; Hash::LEN]);

impl Hash {
    pub const LEN: usize = 32;

    /// The SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// `None` unless `bytes` are exactly 32.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads 64 hex digits of either case.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode_array(text.as_bytes()).map(Self)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

/// The first four bytes: enough to tell blocks apart in a log line.
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0[..4])?;
        f.write_str("..")
    }
}

/// An ed25519 public key, as bytes: whether it is one that may sign is for [`crate::verify`] to say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; PublicKey::LEN]);

impl PublicKey {
    pub const LEN: usize = 32;

    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads 64 hex digits of either case.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode_array(text.as_bytes()).map(Self)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0[..4])?;
        f.write_str("..")
    }
}

/// The name of a chain: 1 to 64 of the characters `A-Z a-z 0-9 - _ .`, because it becomes part of protocol and topic
/// names. Compared byte for byte.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ChainId(String);

impl ChainId {
    pub const MAX_LEN: usize = 64;

    /// `None` when it is empty, too long, or has another character.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        (!text.is_empty() && text.len() <= Self::MAX_LEN && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which block: a height and the hash of the block there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    pub height: Height,
    pub hash: Hash,
}

impl BlockId {
    /// Reads what is printed: a height, a slash, and a hash in hex.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (height, hash) = text.split_once('/')?;
        Some(Self { height: Height::new(height.parse().ok()?)?, hash: Hash::from_hex(hash)? })
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.height, self.hash)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:?}", self.height, self.hash)
    }
}

/// What a block says of itself, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub chain_id: ChainId,
    pub height: Height,
    /// Nanoseconds since the Unix epoch.
    pub time_unix_nanos: u64,
    /// `None` only at the chain's initial height.
    pub parent_hash: Option<Hash>,
    pub payload_hash: Hash,
    pub proposer: PublicKey,
    /// The rollup's own id of the block, at most [`native::MAX_HOST_ID_BYTES`]; opaque to us.
    pub host_id: Bytes,
}

/// A well-formed signed block, nothing of it verified yet. Cloning is cheap: it is shared.
#[derive(Clone)]
pub struct Block(Arc<Decoded>);

struct Decoded {
    /// The exact bytes of the whole signed block, as stored, gossiped and served.
    bytes: Bytes,
    /// Views into `bytes`.
    header_bytes: Bytes,
    payload: Bytes,
    signature: [u8; 64],
    header: Header,
    hash: Hash,
}

impl Block {
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0.bytes
    }

    /// What the proposer signed (after the domain prefix), and what the hash is of.
    #[must_use]
    pub fn header_bytes(&self) -> &Bytes {
        &self.0.header_bytes
    }

    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    #[must_use]
    pub fn signature(&self) -> &[u8; 64] {
        &self.0.signature
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        &self.0.header
    }

    #[must_use]
    pub fn height(&self) -> Height {
        self.0.header.height
    }

    #[must_use]
    pub fn hash(&self) -> Hash {
        self.0.hash
    }

    #[must_use]
    pub fn id(&self) -> BlockId {
        BlockId { height: self.height(), hash: self.hash() }
    }

    /// The signed header alone: what is kept as evidence. A copy, so that it does not keep the whole block in memory.
    #[must_use]
    pub fn signed_header(&self) -> SignedHeader {
        SignedHeader { header: Bytes::copy_from_slice(self.header_bytes()), signature: *self.signature() }
    }
}

/// Two blocks with the same bytes are the same block.
impl PartialEq for Block {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Block {}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({:?}, {} bytes)", self.id(), self.bytes().len())
    }
}

/// A header with the signature over it: enough to prove to anyone that its proposer signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeader {
    /// The header exactly as it was carried; its SHA-256 is the block's hash.
    pub header: Bytes,
    pub signature: [u8; 64],
}

impl SignedHeader {
    #[must_use]
    pub fn hash(&self) -> Hash {
        Hash::of(&self.header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_never_wrap_and_never_reach_zero() {
        assert_eq!(Height::new(0), None);
        assert_eq!(Height::MIN.prev(), None);
        assert_eq!(Height::MAX.next(), Height::MAX);
        assert_eq!(Height::MAX.plus(7), Height::MAX);
        assert_eq!(Height::MIN.above(Height::MAX), 0);
        assert_eq!(Height::MAX.above(Height::MIN), u64::MAX - 1);
    }

    #[test]
    fn heights_count() {
        let height = |height| Height::new(height).unwrap();
        assert_eq!(height(7).get(), 7);
        assert_eq!(height(7).next(), height(8));
        assert_eq!(height(7).prev(), Some(height(6)));
        assert_eq!(height(7).plus(5), height(12));
        assert_eq!(height(7).above(height(5)), 2);
        assert_eq!(height(7).above(height(7)), 0);
    }

    #[test]
    fn names_in_logs_are_short_and_names_for_people_are_whole() {
        let hash = Hash::of(b"abc");
        let key = PublicKey(hash.0);
        let id = BlockId { height: Height::MIN.next(), hash };
        let whole = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!((id.height.to_string(), format!("{:?}", id.height)), ("2".into(), "2".into()));
        assert_eq!((hash.to_string(), format!("{hash:?}")), (whole.into(), "ba7816bf..".into()));
        assert_eq!((key.to_string(), format!("{key:?}")), (whole.into(), "ba7816bf..".into()));
        assert_eq!((id.to_string(), format!("{id:?}")), (format!("2/{whole}"), "2/ba7816bf..".into()));
        let chain = ChainId::new("my-chain").unwrap();
        assert_eq!((chain.to_string(), format!("{chain:?}")), ("my-chain".into(), "my-chain".into()));
    }

    #[test]
    fn hashes_and_keys_are_32_bytes() {
        for len in [0, 31, 33] {
            assert_eq!(Hash::from_slice(&vec![7; len]), None);
            assert_eq!(PublicKey::from_slice(&vec![7; len]), None);
        }
        assert_eq!(Hash::from_slice(&[7; 32]), Some(Hash([7; 32])));
        assert_eq!(PublicKey::from_slice(&[7; 32]), Some(PublicKey([7; 32])));
    }

    #[test]
    fn hashes_read_their_own_text() {
        let hash = Hash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Hash::from_hex(&hash.to_string()), Some(hash));
        assert_eq!(Hash::from_hex(&hash.to_string().to_uppercase()), Some(hash));
        for bad in ["", "ba78", &"g".repeat(64), &"é".repeat(32), &"a".repeat(65)] {
            assert_eq!(Hash::from_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn chain_ids_fit_into_protocol_names() {
        assert!(ChainId::new("my-chain_1.x").is_some());
        assert!(ChainId::new(&"a".repeat(ChainId::MAX_LEN)).is_some());
        for bad in ["", "a/b", "a b", "é", &"a".repeat(65)] {
            assert_eq!(ChainId::new(bad), None, "{bad}");
        }
    }
}
