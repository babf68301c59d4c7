//! The rules of validity, cheapest first: bytes become an [`AuthenticBlock`] without any state, and an authentic block
//! becomes a [`VerifiedBlock`] next to its verified parent.
//!
//! ```text
//!   bytes --check--> AuthenticBlock --link--> VerifiedBlock --> the store, nothing else is stored
//!          size, framing, canonical bytes,     parent hash, time
//!          chain id, height, proposer,
//!          signature, payload hash
//! ```
//!
//! Invariants:
//! 1. An [`AuthenticBlock`] was signed by the proposer that the schedule names for its height. There is no other way to
//!    make one.
//! 2. A [`VerifiedBlock`] is authentic, and links to a parent that was verified before it.
//! 3. One rule decides about signatures everywhere: RFC 8032 without cofactor, as Go's `crypto/ed25519` does it (dalek's
//!    `verify`). Batch verification accepts other signatures, so it never decides. Weak keys never enter a schedule.
//! 4. Every way to be wrong is a variant of [`Fault`]; who is to blame is decided in one place, `sync::blame`.

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signature, Verifier as _, VerifyingKey};

use crate::block::{
    Block, BlockFormat as _, BlockId, ChainId, Format, Hash, Header, Height, Lane, Malformed, PublicKey, native,
};
use crate::clock::Now;
use crate::util::saturate;

/// Why bytes are not a block that we accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    #[error("it belongs to chain `{0}`")]
    WrongChain(ChainId),
    #[error("height {0} is below the chain's initial height")]
    BelowInitialHeight(Height),
    #[error("a parent hash is required above the initial height, and forbidden at it")]
    ParentPresence,
    #[error("proposer {proposer} is not the scheduled one at height {height}")]
    NotScheduled { height: Height, proposer: PublicKey },
    #[error("the signature is not the proposer's")]
    BadSignature,
    #[error("the payload's hash is not the header's")]
    PayloadMismatch,
    #[error("its time is {} ms ahead of our clock", ahead.as_millis())]
    FromTheFuture { ahead: Duration },
    #[error("its time is before its parent's")]
    BeforeParent,
    #[error("its parent is {0:?}, not the block that we hold there")]
    OtherParent(Option<Hash>),
    /// Not the block's: it passed every other check.
    #[error(transparent)]
    TooLargeHere(Box<TooLargeHere>),
}

/// A block that is sound, and larger than this node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {id} has {len} bytes, more than the {max} that this node takes, though not more than the chain allows")]
pub struct TooLargeHere {
    pub id: BlockId,
    pub parent: Option<Hash>,
    pub len: usize,
    pub max: usize,
}

/// A key is refused in the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("the schedule is empty: nobody may propose")]
    Empty,
    #[error("proposer {0} is not a valid ed25519 public key")]
    NotAKey(PublicKey),
    #[error("proposer {0} is a weak key: anybody could sign for it")]
    WeakKey(PublicKey),
    #[error("entry at height {0} is not above the entry before it")]
    NotAscending(Height),
    #[error("the first entry must be at the chain's initial height {0}")]
    NotFromStart(Height),
    #[error("no entry begins at height {0}")]
    NoSuchEntry(Height),
    #[error("the first entry stays: somebody must propose")]
    TheFirst,
}

/// Who proposes from some height on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleEntry {
    pub from: Height,
    pub proposer: PublicKey,
}

/// Who may propose at each height: ascending, never empty, all keys sound. Entries are appended; the first one stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    entries: Vec<(ScheduleEntry, VerifyingKey)>,
}

impl Schedule {
    /// # Errors
    /// [`ScheduleError`] says which entry is refused, and why.
    pub fn new(initial_height: Height, entries: &[ScheduleEntry]) -> Result<Self, ScheduleError> {
        let first = entries.first().ok_or(ScheduleError::Empty)?;
        if first.from != initial_height {
            return Err(ScheduleError::NotFromStart(initial_height));
        }
        let mut schedule = Self { entries: Vec::with_capacity(entries.len()) };
        entries.iter().try_for_each(|entry| schedule.append(*entry))?;
        Ok(schedule)
    }

    /// Adds an entry above all others.
    ///
    /// # Errors
    /// [`ScheduleError`]; the schedule is then unchanged.
    pub fn append(&mut self, entry: ScheduleEntry) -> Result<(), ScheduleError> {
        if self.entries.last().is_some_and(|(last, _)| entry.from <= last.from) {
            return Err(ScheduleError::NotAscending(entry.from));
        }
        self.insert(entry)
    }

    /// Puts an entry where it belongs, also between others.
    ///
    /// # Errors
    /// It is the first one, another one begins there, or its key is none.
    pub fn insert(&mut self, entry: ScheduleEntry) -> Result<(), ScheduleError> {
        let index = self.entries.partition_point(|(known, _)| known.from < entry.from);
        let is_taken = self.entries.get(index).is_some_and(|(known, _)| index == 0 || known.from == entry.from);
        if is_taken {
            return Err(ScheduleError::NotAscending(entry.from));
        }
        let key = VerifyingKey::from_bytes(&entry.proposer.0).map_err(|_| ScheduleError::NotAKey(entry.proposer))?;
        if key.is_weak() {
            return Err(ScheduleError::WeakKey(entry.proposer));
        }
        self.entries.insert(index, (entry, key));
        Ok(())
    }

    /// With what was appended on disk; what does not fit onto it is left out.
    #[must_use]
    pub fn extended(&self, entries: Vec<ScheduleEntry>) -> Self {
        let mut schedule = self.clone();
        for entry in entries {
            // The store has said so, when it read it.
            let _ = schedule.append(entry);
        }
        schedule
    }

    /// Takes back the entry that begins at this height: the one before it goes on.
    ///
    /// # Errors
    /// [`ScheduleError`]; the schedule is then unchanged.
    pub fn withdraw(&mut self, from: Height) -> Result<(), ScheduleError> {
        match self.entries.iter().position(|(entry, _)| entry.from == from) {
            None => Err(ScheduleError::NoSuchEntry(from)),
            Some(0) => Err(ScheduleError::TheFirst),
            Some(index) => {
                self.entries.remove(index);
                Ok(())
            }
        }
    }

    /// The proposer at `height`; `None` only below the initial height.
    #[must_use]
    pub fn proposer_at(&self, height: Height) -> Option<PublicKey> {
        self.at(height).map(|(entry, _)| entry.proposer)
    }

    /// Whether an entry that begins at `from` would be the one in force at `height`: no other one begins between them.
    #[must_use]
    pub fn leaves_to(&self, from: Height, height: Height) -> bool {
        self.entries().all(|known| known.from <= from || known.from > height)
    }

    /// The hash of all entries: two schedules that differ in any have not the same.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let entries =
            self.entries().flat_map(|entry| [&entry.from.get().to_be_bytes()[..], &entry.proposer.0].concat());
        Hash::of(&entries.collect::<Vec<u8>>())
    }

    /// Whether the proposer of this header is the one at its height.
    #[must_use]
    pub fn names(&self, header: &Header) -> bool {
        self.proposer_at(header.height) == Some(header.proposer)
    }

    pub fn entries(&self) -> impl ExactSizeIterator<Item = ScheduleEntry> {
        self.entries.iter().map(|(entry, _)| *entry)
    }

    fn at(&self, height: Height) -> Option<&(ScheduleEntry, VerifyingKey)> {
        let after = self.entries.partition_point(|(entry, _)| entry.from <= height);
        self.entries.get(after.checked_sub(1)?)
    }
}

/// What a chain demands of its blocks.
#[derive(Clone, Debug)]
pub struct Rules {
    pub format: Format,
    pub chain_id: ChainId,
    pub initial_height: Height,
    /// Counts the whole encoded block. The same at all nodes; a node of little memory may take less, see
    /// [`Fault::TooLargeHere`].
    pub max_block_bytes: usize,
    /// How far a block's time may be ahead of our clock; go-header's `clockDrift` is 10 s.
    pub max_clock_drift: Duration,
    pub schedule: Schedule,
}

/// A block that the scheduled proposer signed and whose payload is the one that it signed for. Where it belongs on our
/// chain is not known yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticBlock(Block);

/// A block that may be stored: authentic, and linked to its verified parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBlock(Block);

/// A header, by its hash, and one signature of it: all that a signature check depends on beside the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signed {
    pub hash: Hash,
    pub signature: [u8; 64],
}

/// The block that the next one must link to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    pub id: BlockId,
    pub time_unix_nanos: u64,
}

impl Tip {
    /// What `block` links to, of which it tells the hash alone: the time is 0. `None` at the initial height.
    #[must_use]
    pub fn below(block: &Block) -> Option<Self> {
        let id = BlockId { height: block.height().prev()?, hash: block.header().parent_hash? };
        Some(Self { id, time_unix_nanos: 0 })
    }
}

impl Rules {
    /// All checks that need nothing but the rules, cheapest first.
    ///
    /// # Errors
    /// The first [`Fault`] found.
    pub fn check(&self, lane: Lane, bytes: &Bytes) -> Result<AuthenticBlock, Fault> {
        self.check_unless_known(lane, bytes, |_| false)
    }

    /// The same, without checking again a signature that was found good under these very rules.
    ///
    /// # Errors
    /// The first [`Fault`] found.
    pub fn check_unless_known(
        &self,
        lane: Lane,
        bytes: &Bytes,
        is_known: impl FnOnce(&Signed) -> bool,
    ) -> Result<AuthenticBlock, Fault> {
        let block = self.decode(lane, bytes)?;
        let header = block.header();
        let key = match self.schedule.at(header.height) {
            Some((entry, key)) if entry.proposer == header.proposer => key,
            _ => return Err(Fault::NotScheduled { height: header.height, proposer: header.proposer }),
        };
        let signed = Signed { hash: block.hash(), signature: *block.signature() };
        if !is_known(&signed) {
            check_signature(&block, key)?;
        }
        check_payload(&block)?;
        Ok(AuthenticBlock(block))
    }

    /// Whether bytes that are refused as [`Fault::NotScheduled`] would be a block, were their proposer the scheduled one. Without
    /// this anybody could put any key's name on anything.
    ///
    /// # Errors
    /// The first [`Fault`] found.
    pub fn check_but_for_the_schedule(&self, lane: Lane, bytes: &Bytes) -> Result<(), Fault> {
        let block = self.decode(lane, bytes)?;
        let proposer = &block.header().proposer;
        let key = VerifyingKey::from_bytes(&proposer.0).ok().filter(|key| !key.is_weak()).ok_or(Fault::BadSignature)?;
        check_signature(&block, &key)?;
        check_payload(&block)
    }

    /// A block of this chain, as far as it says so itself.
    fn decode(&self, lane: Lane, bytes: &Bytes) -> Result<Block, Fault> {
        let block = self.format.decode(lane, bytes, self.max_block_bytes)?;
        let header = block.header();
        if header.chain_id != self.chain_id {
            return Err(Fault::WrongChain(header.chain_id.clone()));
        }
        if header.height < self.initial_height {
            return Err(Fault::BelowInitialHeight(header.height));
        }
        if header.parent_hash.is_none() != (header.height == self.initial_height) {
            return Err(Fault::ParentPresence);
        }
        Ok(block)
    }

    /// The latest time of a block, in nanoseconds since the Unix epoch, that our clock can believe.
    #[must_use]
    pub fn latest_time(&self, now: Now) -> u64 {
        now.unix_nanos.saturating_add(saturate::nanos(self.max_clock_drift))
    }

    /// Whether the block's time is one that our clock can believe.
    ///
    /// # Errors
    /// [`Fault::FromTheFuture`]: it may become acceptable by waiting.
    pub fn check_time(&self, block: &AuthenticBlock, now: Now) -> Result<(), Fault> {
        let time = block.0.header().time_unix_nanos;
        if time > self.latest_time(now) {
            return Err(Fault::FromTheFuture { ahead: Duration::from_nanos(time.saturating_sub(now.unix_nanos)) });
        }
        Ok(())
    }
}

fn check_signature(block: &Block, key: &VerifyingKey) -> Result<(), Fault> {
    let message = native::signing_message(block.header_bytes());
    if is_signed_by(key, &message, block.signature()) { Ok(()) } else { Err(Fault::BadSignature) }
}

fn check_payload(block: &Block) -> Result<(), Fault> {
    if Hash::of(block.payload()) == block.header().payload_hash { Ok(()) } else { Err(Fault::PayloadMismatch) }
}

/// The one rule about signatures (invariant 3).
fn is_signed_by(key: &VerifyingKey, message: &[u8], signature: &[u8; 64]) -> bool {
    key.verify(message, &Signature::from_bytes(signature)).is_ok()
}

impl AuthenticBlock {
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.0
    }

    #[must_use]
    pub fn id(&self) -> BlockId {
        self.0.id()
    }

    #[must_use]
    pub fn height(&self) -> Height {
        self.0.height()
    }

    #[must_use]
    pub fn hash(&self) -> Hash {
        self.0.hash()
    }

    #[must_use]
    pub fn parent_hash(&self) -> Option<Hash> {
        self.0.header().parent_hash
    }

    #[must_use]
    pub fn time_unix_nanos(&self) -> u64 {
        self.0.header().time_unix_nanos
    }

    /// What its signature check depended on.
    #[must_use]
    pub fn signed(&self) -> Signed {
        Signed { hash: self.hash(), signature: *self.0.signature() }
    }

    /// Refuses a block that is larger than this node takes.
    ///
    /// # Errors
    /// [`Fault::TooLargeHere`].
    pub fn within(self, max: usize) -> Result<Self, Fault> {
        if self.size() > max {
            let fault = TooLargeHere { id: self.id(), parent: self.parent_hash(), len: self.size(), max };
            return Err(Fault::TooLargeHere(Box::new(fault)));
        }
        Ok(self)
    }

    /// Bytes that holding this block costs.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.bytes().len()
    }

    /// Checks the block against its parent; `parent` is `None` at the initial height.
    ///
    /// # Errors
    /// [`Fault::OtherParent`] and [`Fault::BeforeParent`]: both are the proposer's doing, never the relayer's.
    pub fn link(&self, parent: Option<Tip>) -> Result<VerifiedBlock, Fault> {
        if self.parent_hash() != parent.map(|parent| parent.id.hash) {
            return Err(Fault::OtherParent(self.parent_hash()));
        }
        if let Some(parent) = parent {
            if self.height() != parent.id.height.next() {
                return Err(Fault::OtherParent(self.parent_hash()));
            }
            if self.time_unix_nanos() < parent.time_unix_nanos {
                return Err(Fault::BeforeParent);
            }
        }
        Ok(VerifiedBlock(self.0.clone()))
    }

    /// Checks the block against the verified one above it, which names `parent` as what it links to.
    ///
    /// # Errors
    /// [`Fault::OtherParent`] when this is another block.
    pub fn link_below(&self, parent: BlockId) -> Result<VerifiedBlock, Fault> {
        if self.id() != parent {
            return Err(Fault::OtherParent(Some(parent.hash)));
        }
        Ok(VerifiedBlock(self.0.clone()))
    }
}

impl VerifiedBlock {
    #[must_use]
    pub fn block(&self) -> &Block {
        &self.0
    }

    #[must_use]
    pub fn id(&self) -> BlockId {
        self.0.id()
    }

    #[must_use]
    pub fn tip(&self) -> Tip {
        Tip { id: self.0.id(), time_unix_nanos: self.0.header().time_unix_nanos }
    }
}

#[cfg(test)]
mod tests;
