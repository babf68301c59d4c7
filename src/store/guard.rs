//! The guard: the last block that this node's key signed, or was about to sign. Elsewhere it is called slashing protection, or
//! the last-sign state (EIP-3076, Tendermint's `priv_validator_state`).
//!
//! 1. It is a file of its own beside the key, not in the store: it outlives a wiped store and a restored backup.
//! 2. It is always synced, whatever the durability of the store.
//! 3. It rises only, never names a second block of one height, and says nothing where it is not known what was signed, unless
//!    an operator's word comes before. Anything else is refused before any of that commit is written.
//! 4. Whatever cannot be read counts as unknown, and then nothing is signed until an operator says what was. A slot that was
//!    torn may be the newer one: the other one, if sound, does not say what was signed last.
//! 5. One process has it from its opening on, until it ends (`lock.rs`). It is nobody else's file, and no link.
//! 6. It is written after the list of the disowned beside it (`disowned.rs`).
//! 7. It is bound to the chain, not to the key: a new key does not make a second block at a signed height right.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use bytes::Bytes;

use super::disowned::{CopyContents, CopyStamp, DisownedCopy, DisownedList};
use super::encoding::{Decoder, Encoder};
use super::error::At as _;
use super::lock::{self, GuardLock};
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
    if path.symlink_metadata().is_ok() {
        return Err(StoreError::Io {
            context: path.display().to_string(),
            why: "there is a guard already, and it is never replaced: it knows what this key has signed".into(),
        });
    }
    Slots::create(path, MAGIC, &encode(chain_id, None), 0o600).at(path).map(drop)
}

/// What becomes of the guard.
#[derive(Clone, Copy, Debug)]
pub(super) enum GuardChange {
    /// The key signs this block.
    Raise(GuardEntry),
    /// An operator's word: it holds, also where the guard falls by it. `None`: the key has never signed. What the key signs
    /// `then` stands above it.
    Reset { last: Option<BlockId>, then: Option<GuardEntry> },
}

impl GuardChange {
    /// What the guard says then; the entry that is refused, where the change breaks invariant 3.
    fn after(self, known: GuardState) -> Result<GuardState, GuardEntry> {
        match self {
            Self::Raise(entry) => raised(known, entry),
            Self::Reset { last, then: None } => Ok(GuardState::after(last)),
            Self::Reset { last, then: Some(entry) } => raised(GuardState::after(last), entry),
        }
    }
}

fn raised(known: GuardState, entry: GuardEntry) -> Result<GuardState, GuardEntry> {
    let rises = match known {
        GuardState::Missing => false,
        GuardState::Unused => true,
        GuardState::Signed(known) => known == entry || known.last.height < entry.last.height,
    };
    if rises { Ok(GuardState::Signed(entry)) } else { Err(entry) }
}

/// The list, and of which state it is.
#[derive(Clone, Debug)]
pub(super) struct StampedList {
    pub(super) list: Arc<DisownedList>,
    pub(super) stamp: CopyStamp,
}

/// What one commit writes beside the database.
#[derive(Debug, Default)]
pub(super) struct GuardWrite {
    /// The list as it is now, when it has changed; with what leaves it.
    pub(super) disowned: Option<StampedList>,
    /// Without that, once the database has the commit.
    pub(super) afterwards: Option<StampedList>,
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
    disowned: DisownedCopy,
    lock: GuardLock,
    /// The file that cannot be trusted: until it is replaced nobody else shall have it either.
    distrusted: Option<File>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct OpenedGuard {
    pub(super) guard: Guard,
    pub(super) state: GuardState,
    /// The list beside it.
    pub(super) disowned: CopyContents,
}

impl Guard {
    pub(super) fn open(path: &Path, chain_id: &ChainId) -> Result<OpenedGuard, StoreError> {
        let lock = GuardLock::take(path)?;
        let copy = DisownedCopy::beside(path, chain_id);
        let (path, chain_id) = (path.to_owned(), chain_id.clone());
        let mut guard = Self { path, chain_id, slots: None, disowned: copy, lock, distrusted: None };
        let state = guard.read()?;
        let disowned = guard.disowned.read()?;
        Ok(OpenedGuard { guard, state, disowned })
    }

    fn read(&mut self) -> Result<GuardState, StoreError> {
        let shown = self.path.display();
        let Some(file) = lock::open_guard(&self.path)? else {
            tracing::warn!(path = %shown, "the guard is missing: nobody knows what this key has signed");
            return Ok(GuardState::Missing);
        };
        self.lock.take_guard(&file)?;
        let slots = match Slots::read(file, MAGIC).at(&self.path)? {
            SlotContents::Damaged(file) => Err(file),
            SlotContents::Foreign => {
                return Err(StoreError::Unfit(format!(
                    "{shown} is no guard, and is left as it is: set signer.guard to a file of its own (unset, it is beside signer.key, \
                     with `.guard` added to its name)"
                )));
            }
            // The slot that cannot be read may have been the newer one.
            SlotContents::Present { slots, whole: false, .. } => Err(slots.into_file()),
            SlotContents::Present { slots, payload, .. } => match decode(payload) {
                Some((found, _)) if found != self.chain_id.as_str() => {
                    let wanted = self.chain_id.to_string();
                    return Err(StoreError::GuardOfOtherChain { path: self.path.clone(), found, wanted });
                }
                Some((_, last)) => Ok((slots, last)),
                None => Err(slots.into_file()),
            },
        };
        match slots {
            Ok((slots, last)) => {
                self.slots = Some(slots);
                Ok(GuardState::after(last))
            }
            Err(distrusted) => {
                tracing::error!(path = %shown, "the guard is damaged: nobody knows what this key has signed");
                self.distrusted = Some(distrusted);
                Ok(GuardState::Missing)
            }
        }
    }

    /// The list first: see invariant 6. Durable when it returns.
    fn carry_out(&mut self, order: &GuardOrder) -> Result<(), StoreError> {
        if let Some(list) = &order.disowned {
            self.disowned.write(&list.list, list.stamp)?;
        }
        let last = match order.says {
            None | Some(GuardState::Missing) => return Ok(()),
            Some(GuardState::Unused) => None,
            Some(GuardState::Signed(GuardEntry { last })) => Some(last),
        };
        let payload = encode(&self.chain_id, last);
        if let Some(slots) = &mut self.slots {
            return slots.write(&payload, Durability::Power).at(&self.path);
        }
        let slots = Slots::create(&self.path, MAGIC, &payload, 0o600).at(&self.path)?;
        self.lock.take_guard(slots.file())?;
        self.slots = Some(slots);
        self.distrusted = None;
        Ok(())
    }
}

/// What the thread of the guard is to write.
#[derive(Debug)]
struct GuardOrder {
    disowned: Option<StampedList>,
    /// What the guard is to say, when that is something else than it says.
    says: Option<GuardState>,
}

/// The guard on a thread of its own, so that its sync runs beside the database's.
#[derive(Debug)]
pub(super) struct GuardKeeper {
    path: PathBuf,
    /// What the file says, or will say when what was begun is done.
    state: GuardState,
    orders: Option<SyncSender<GuardOrder>>,
    outcomes: Receiver<Result<(), StoreError>>,
    thread: Option<JoinHandle<()>>,
}

impl GuardKeeper {
    pub(super) fn start(mut guard: Guard, state: GuardState) -> Result<Self, StoreError> {
        let path = guard.path.clone();
        let (orders, asked) = sync_channel(1);
        let (done, outcomes) = sync_channel(1);
        let work = move || {
            while let Ok(order) = asked.recv() {
                if done.send(guard.carry_out(&order)).is_err() {
                    return;
                }
            }
        };
        let thread = Builder::new().name("guard".to_owned()).spawn(work).at(&path)?;
        Ok(Self { path, state, orders: Some(orders), outcomes, thread: Some(thread) })
    }

    /// Begins a write. [`Self::finish`] comes next.
    ///
    /// # Errors
    /// [`StoreError::GuardRefuses`]: nothing was begun.
    pub(super) fn begin(&mut self, write: GuardWrite) -> Result<(), StoreError> {
        let says = write.change.map_or(Ok(self.state), |change| change.after(self.state));
        let says = says.map_err(|refused| self.refusal(refused))?;
        let changed = (says != self.state).then_some(says);
        self.state = says;
        if let Some(orders) = &self.orders {
            // If the thread is gone `finish` says so.
            let _ = orders.send(GuardOrder { disowned: write.disowned, says: changed });
        }
        Ok(())
    }

    fn refusal(&self, refused: GuardEntry) -> StoreError {
        let known = match self.state {
            GuardState::Missing => "nothing for sure".to_owned(),
            GuardState::Unused => "nothing signed".to_owned(),
            GuardState::Signed(GuardEntry { last }) => last.to_string(),
        };
        StoreError::GuardRefuses { guard: self.path.clone(), known, asked: refused.last }
    }

    /// The write that was begun is durable when this returns.
    pub(super) fn finish(&mut self) -> Result<(), StoreError> {
        let gone = |_| StoreError::Io { context: "guard".into(), why: "its thread has ended".into() };
        self.outcomes.recv().map_err(gone)?
    }
}

impl Drop for GuardKeeper {
    fn drop(&mut self) {
        self.orders = None;
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
