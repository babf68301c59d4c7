//! The digests of blocks that did not come from DA: what is stored, or waits, is recognised by them where DA was told by digests.
//!
//! To compute one is to read and to hash a whole block, on the loop. So each is computed once, and no decision computes more than
//! [`READS`], or [`BYTES`]: what is left over is computed by the next one, which is due at once.
//!
//! Invariants:
//! 1. What is known here is true for ever: a digest of verified bytes of that block.
//! 2. Bounded: only of heights above hard of which a digest was seen, and `max_known` of them.

use std::collections::BTreeMap;

use crate::block::{Hash, Height};

/// The most digests that one decision computes,
const READS: usize = 256;
/// and no more once they are of so many bytes together.
const BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(super) struct Digests {
    /// By height and hash of the block.
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
        if self.known.len() >= self.max_known {
            // The highest are needed last.
            self.known.pop_last();
        }
        self.known.insert((height, hash), digest);
        DigestAnswer::Is(digest)
    }

    /// Nothing at or below this height is asked for any more.
    pub fn forget_through(&mut self, height: Height) {
        self.known = self.known.split_off(&(height.next(), Hash([0; Hash::LEN])));
    }
}
