//! The guard: the last block that this node's key signed, or was about to sign. Elsewhere it is called slashing protection, or
//! the last-sign state (EIP-3076, Tendermint's `priv_validator_state`).
//!
//! 1. It is a file of its own beside the key, not in the store: it outlives a wiped store and a restored backup.
//! 2. It is always synced, whatever the durability of the store.
//! 3. Whatever cannot be read, be it the older of its slots, counts as unknown, and then nothing is signed until an operator
//!    says what was.
//! 4. It is written after the list of the disowned beside it (`disowned.rs`).
//! 5. It is bound to the chain, not to the key: a new key does not make a second block at a signed height right.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;

use super::disowned::{DisownedCopy, DisownedList};
use super::error::At as _;
use super::record::{Decoder, Encoder};
use super::slots::{SlotContents, Slots};
use super::{Durability, StoreError};
use crate::block::{BlockId, ChainId};
use crate::sync::{GuardEntry, GuardState};

const MAGIC: [u8; 8] = *b"BSGUARD\x01";

/// Makes the guard of a key that has never signed. Refuses to touch one that exists.
///
/// # Errors
/// [`StoreError::Io`] when there is a guard already, or when it cannot be written.
pub fn create_unused(path: &Path, chain_id: &ChainId) -> Result<(), StoreError> {
    match Slots::open(path, MAGIC).at(path)? {
        SlotContents::Absent => Slots::create(path, MAGIC, &encode(chain_id, None), 0o600).at(path).map(|_| ()),
        _ => Err(StoreError::Io {
            context: path.display().to_string(),
            why: "there is a guard already, and it is never replaced: it knows what this key has signed".into(),
        }),
    }
}

/// What becomes of the guard.
#[derive(Clone, Copy, Debug)]
pub(super) enum GuardChange {
    /// The key signs this block; a lower one than the last changes nothing.
    Raise(GuardEntry),
    /// An operator's word: it holds, also where the guard falls by it. `None`: the key has never signed.
    Reset(Option<BlockId>),
}

/// What one commit writes beside the database.
#[derive(Debug, Default)]
pub(super) struct GuardWrite {
    /// The list as it is now, when it has changed.
    pub(super) disowned: Option<Arc<DisownedList>>,
    pub(super) change: Option<GuardChange>,
}

impl GuardWrite {
    pub(super) fn is_empty(&self) -> bool {
        self.disowned.is_none() && self.change.is_none()
    }
}

/// The guard's file, which need not exist yet.
#[derive(Debug)]
pub(super) struct Guard {
    path: PathBuf,
    chain_id: ChainId,
    slots: Option<Slots>,
    /// As the file has it.
    last: Option<BlockId>,
    disowned: DisownedCopy,
}

/// What was found.
#[derive(Debug)]
pub(super) struct OpenedGuard {
    pub(super) guard: Guard,
    pub(super) state: GuardState,
    /// The list beside it.
    pub(super) disowned: DisownedList,
}

impl Guard {
    pub(super) fn open(path: &Path, chain_id: &ChainId) -> Result<OpenedGuard, StoreError> {
        let (copy, disowned) = DisownedCopy::open(path, chain_id)?;
        let mut guard =
            Self { path: path.to_owned(), chain_id: chain_id.clone(), slots: None, last: None, disowned: copy };
        let state = match Slots::open(path, MAGIC).at(path)? {
            SlotContents::Absent => {
                tracing::warn!(path = %path.display(), "the guard is missing: nobody knows what this key has signed");
                GuardState::Missing
            }
            // The slot that cannot be read may have been the newer one.
            SlotContents::Damaged | SlotContents::Present { whole: false, .. } => guard.distrust(),
            SlotContents::Present { slots, payload, .. } => match decode(payload) {
                Some((found, _)) if found != chain_id.as_str() => {
                    let wanted = chain_id.to_string();
                    return Err(StoreError::GuardOfOtherChain { path: path.to_owned(), found, wanted });
                }
                Some((_, last)) => {
                    guard.slots = Some(slots);
                    guard.last = last;
                    last.map_or(GuardState::Unused, |last| GuardState::Signed(GuardEntry { last }))
                }
                None => guard.distrust(),
            },
        };
        Ok(OpenedGuard { guard, state, disowned })
    }

    fn distrust(&self) -> GuardState {
        tracing::error!(path = %self.path.display(), "the guard is damaged: nobody knows what this key has signed");
        GuardState::Missing
    }

    /// The list first: see invariant 4.
    fn write(&mut self, write: &GuardWrite) -> Result<(), StoreError> {
        if let Some(list) = &write.disowned {
            self.disowned.write(list)?;
        }
        match write.change {
            Some(GuardChange::Raise(entry)) => self.raise(entry),
            Some(GuardChange::Reset(last)) => self.reset(last),
            None => Ok(()),
        }
    }

    /// The key signs `entry`: durable when it returns. A lower one than the guard has is in it already.
    fn raise(&mut self, entry: GuardEntry) -> Result<(), StoreError> {
        if self.slots.is_some() && self.last.is_some_and(|last| last.height > entry.last.height) {
            return Ok(());
        }
        self.reset(Some(entry.last))
    }

    /// Durable when it returns. `None`: the key has never signed. The only way in which the guard may fall.
    fn reset(&mut self, last: Option<BlockId>) -> Result<(), StoreError> {
        let payload = encode(&self.chain_id, last);
        match &mut self.slots {
            Some(slots) => slots.write(&payload, Durability::Power).at(&self.path)?,
            None => self.slots = Some(Slots::create(&self.path, MAGIC, &payload, 0o600).at(&self.path)?),
        }
        self.last = last;
        Ok(())
    }
}

/// The guard on a thread of its own, so that its sync runs beside the database's.
#[derive(Debug)]
pub(super) struct GuardKeeper {
    writes: Option<SyncSender<GuardWrite>>,
    outcomes: Receiver<Result<(), StoreError>>,
    thread: Option<JoinHandle<()>>,
}

impl GuardKeeper {
    pub(super) fn start(mut guard: Guard) -> Result<Self, StoreError> {
        let path = guard.path.clone();
        let (writes, asked) = sync_channel(1);
        let (done, outcomes) = sync_channel(1);
        let work = move || {
            while let Ok(write) = asked.recv() {
                if done.send(guard.write(&write)).is_err() {
                    return;
                }
            }
        };
        let thread = Builder::new().name("guard".to_owned()).spawn(work).at(&path)?;
        Ok(Self { writes: Some(writes), outcomes, thread: Some(thread) })
    }

    /// Begins a write. [`Self::finish`] comes next.
    pub(super) fn begin(&mut self, write: GuardWrite) {
        if let Some(writes) = &self.writes {
            // If the thread is gone `finish` says so.
            let _ = writes.send(write);
        }
    }

    /// The write that was begun is durable when this returns.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        let gone = |_| StoreError::Io { context: "guard".into(), why: "its thread has ended".into() };
        self.outcomes.recv().map_err(gone)?
    }
}

impl Drop for GuardKeeper {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn encode(chain_id: &ChainId, last: Option<BlockId>) -> Vec<u8> {
    let mut encoder = Encoder::default();
    encoder.bytes(chain_id.as_str().as_bytes()).opt(last, |encoder, last| {
        encoder.id(last);
    });
    encoder.0
}

fn decode(payload: Vec<u8>) -> Option<(String, Option<BlockId>)> {
    let mut decoder = Decoder(Bytes::from(payload));
    let chain_id = String::from_utf8(decoder.bytes()?.to_vec()).ok()?;
    let last = decoder.opt(Decoder::id)?;
    decoder.end((chain_id, last))
}
