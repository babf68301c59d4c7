//! The digests of blocks that did not come from DA: what is stored, or waits, is recognised by them where DA was told by digests.
//!
//! To compute one is to read and to hash a whole block, on the loop. So each is computed once, and no decision computes more than
//! [`READS`], or [`BYTES`]: what is left over is computed by the next one, which is due at once. But for what one input brings and
//! is kept nowhere, which cannot be put off: that is no more than one answer's worth, and once for each block, so that nobody keeps
//! the loop busy by sending one again and again.
//!
//! Invariants:
//! 1. What is known here is true for ever: a digest of verified bytes of that block.
//! 2. Bounded: only of heights above hard of which a digest was seen, and `max_known` of them.

use std::collections::BTreeMap;

use crate::block::{Hash, Height};
use crate::verify::AuthenticBlock;

/// The most digests that one decision computes,
const READS: usize = 256;
/// and no more once they are of so many bytes together.
const BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Digests {
    /// By height, and by the hash of the stored block, or what tells the bytes of another one apart ([`name_of`]).
    known: BTreeMap<(Height, Hash), Hash>,
    max_known: usize,
    reads: usize,
    bytes: usize,
    /// One was asked for that this decision may not compute any more.
    left_over: bool,
}

/// A digest that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DigestAnswer {
    Is(Hash),
    /// It cannot be told.
    Unreadable,
    /// Not by this decision.
    Later,
}

impl Digests {
    pub fn new(max_known: usize) -> Self {
        Self { known: BTreeMap::new(), max_known, reads: 0, bytes: 0, left_over: false }
    }

    /// A decision begins.
    pub fn begin(&mut self) {
        (self.reads, self.bytes, self.left_over) = (0, 0, false);
    }

    /// Whether the next decision is due at once.
    pub fn are_left_over(&self) -> bool {
        self.left_over
    }

    /// The digest of a block that waits.
    pub fn of_waiting(&mut self, block: &AuthenticBlock) -> DigestAnswer {
        self.of(block.height(), name_of(block), || Some((Hash::of(block.block().bytes()), block.size())))
    }

    /// The digest of a block that will not be kept.
    pub fn of_passing(&mut self, block: &AuthenticBlock) -> Hash {
        let (height, name) = (block.height(), name_of(block));
        if let Some(digest) = self.known.get(&(height, name)) {
            return *digest;
        }
        let digest = Hash::of(block.block().bytes());
        self.reads += 1;
        self.bytes += block.size();
        self.remember(height, name, digest);
        digest
    }

    /// The digest of this block; `compute` gives it with the number of its bytes.
    pub fn of(&mut self, height: Height, hash: Hash, compute: impl FnOnce() -> Option<(Hash, usize)>) -> DigestAnswer {
        if let Some(digest) = self.known.get(&(height, hash)) {
            return DigestAnswer::Is(*digest);
        }
        if self.reads >= READS || self.bytes >= BYTES {
            self.left_over = true;
            return DigestAnswer::Later;
        }
        self.reads += 1;
        let Some((digest, bytes)) = compute() else { return DigestAnswer::Unreadable };
        self.bytes += bytes;
        self.remember(height, hash, digest);
        DigestAnswer::Is(digest)
    }

    fn remember(&mut self, height: Height, name: Hash, digest: Hash) {
        if self.known.len() >= self.max_known {
            // The highest are needed last.
            self.known.pop_last();
        }
        self.known.insert((height, name), digest);
    }

    /// Nothing at or below this height is asked for any more.
    pub fn forget_through(&mut self, height: Height) {
        self.known = self.known.split_off(&(height.next(), Hash([0; Hash::LEN])));
    }
}

/// Tells the bytes of verified blocks apart, at the price of a few: the block's hash covers all of them but the signature.
fn name_of(block: &AuthenticBlock) -> Hash {
    let mut bytes = [0; Hash::LEN + 64];
    bytes[..Hash::LEN].copy_from_slice(&block.hash().0);
    bytes[Hash::LEN..].copy_from_slice(block.block().signature());
    Hash::of(&bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::block::{ChainId, Format, Header, Lane, PublicKey, native};
    use crate::verify::{Rules, Schedule, ScheduleEntry};

    fn block() -> AuthenticBlock {
        let key = SigningKey::from_bytes(&[1; 32]);
        let (chain_id, payload) = (ChainId::new("digests").expect("a valid id"), Bytes::from_static(b"payload"));
        let entry = ScheduleEntry { from: Height::MIN, proposer: PublicKey(key.verifying_key().to_bytes()) };
        let header = native::encode_header(&Header {
            chain_id: chain_id.clone(),
            height: Height::MIN,
            time_unix_nanos: 1,
            parent_hash: None,
            payload_hash: Hash::of(&payload),
            proposer: entry.proposer,
            host_id: Bytes::new(),
        });
        let signature = key.sign(&native::signing_message(&header)).to_bytes();
        let rules = Rules {
            format: Format::Native,
            chain_id,
            initial_height: Height::MIN,
            max_block_bytes: 1024,
            max_clock_drift: Duration::ZERO,
            schedule: Schedule::new(Height::MIN, &[entry]).expect("a sound key"),
        };
        rules.check(Lane::BLOCK, &native::encode(&header, &signature, &payload)).expect("it is sound")
    }

    /// Whoever sends it again and again makes nobody hash it again.
    #[test]
    fn what_passes_is_hashed_once_and_counts() {
        let (mut digests, block) = (Digests::new(4), block());
        let digest = Hash::of(block.block().bytes());
        for _ in 0..3 {
            assert_eq!(digests.of_passing(&block), digest);
            assert_eq!(digests.of_waiting(&block), DigestAnswer::Is(digest));
        }
        assert_eq!((digests.reads, digests.bytes), (1, block.size()));
        // It is never put off, and puts off what may be.
        let mut digests = Digests::new(4);
        digests.bytes = BYTES;
        assert_eq!(digests.of_waiting(&block), DigestAnswer::Later);
        assert_eq!(digests.of_passing(&block), digest);
        assert_eq!(digests.of_waiting(&block), DigestAnswer::Is(digest));
    }
}
