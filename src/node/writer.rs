//! The writer thread: the only one that writes the store. One write at a time; whatever is decided meanwhile goes into the
//! next one together (group commit).

use std::sync::mpsc as blocking;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use crate::store::{Store, StoreError};
use crate::sync::{Batch, CommitId, GuardEntry, Ticket};

/// What the thread is asked to do.
#[derive(Debug)]
enum WriteRequest {
    Commit(Box<Batch>),
    /// Makes the guard durable before a signer outside is asked.
    Guard(Ticket, GuardEntry),
}

/// What it has done.
#[derive(Debug)]
pub enum Written {
    Durable {
        commit: CommitId,
        /// Of the blocks that are stored now.
        stored_bytes: u64,
    },
    Guarded(Ticket),
    /// The process must end: restart recovers from disk, there is no un-doing.
    Failed(StoreError),
}

/// The running thread. It ends, after what it was given, when this is dropped.
#[derive(Debug)]
pub struct CommitWriter {
    writes: Option<blocking::SyncSender<WriteRequest>>,
    thread: Option<JoinHandle<()>>,
    /// Decided, and waiting for the write in flight.
    pending: Option<Batch>,
    /// The guard of the next signature, which must not be overtaken by the batch before it.
    pending_guard: Option<(Ticket, GuardEntry)>,
    in_flight: bool,
}

/// More than are ever asked for at once: one commit, and one guard per signature, of which there is one at a time.
const MAX_WRITES: usize = 4;

impl CommitWriter {
    /// # Errors
    /// When the system gives no thread.
    pub fn start(store: Store) -> std::io::Result<(Self, mpsc::Receiver<Written>)> {
        let (writes, requests) = blocking::sync_channel(MAX_WRITES);
        let (done, results) = mpsc::channel(MAX_WRITES);
        let thread =
            std::thread::Builder::new().name("writer".to_owned()).spawn(move || run(store, &requests, &done))?;
        Ok((
            Self { writes: Some(writes), thread: Some(thread), pending: None, pending_guard: None, in_flight: false },
            results,
        ))
    }

    /// Writes the batch, together with what else is decided before its turn.
    pub fn commit(&mut self, batch: Batch) {
        match &mut self.pending {
            Some(pending) => pending.absorb(batch),
            None => self.pending = Some(batch),
        }
        self.start_next();
    }

    pub fn guard(&mut self, ticket: Ticket, entry: GuardEntry) {
        if self.pending.is_some() {
            self.pending_guard = Some((ticket, entry));
        } else {
            self.send(WriteRequest::Guard(ticket, entry));
        }
    }

    /// The write in flight is done.
    pub fn written(&mut self) {
        self.in_flight = false;
        self.start_next();
    }

    /// Whether everything that was decided is on disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.in_flight && self.pending.is_none()
    }

    fn start_next(&mut self) {
        if !self.in_flight
            && let Some(batch) = self.pending.take()
        {
            self.in_flight = true;
            self.send(WriteRequest::Commit(Box::new(batch)));
            if let Some((ticket, entry)) = self.pending_guard.take() {
                self.send(WriteRequest::Guard(ticket, entry));
            }
        }
    }

    fn send(&self, write: WriteRequest) {
        // A thread that is gone has said why through its results.
        if let Some(writes) = &self.writes {
            let _ = writes.send(write);
        }
    }
}

impl Drop for CommitWriter {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut store: Store, writes: &blocking::Receiver<WriteRequest>, done: &mpsc::Sender<Written>) {
    while let Ok(write) = writes.recv() {
        let result = match write {
            WriteRequest::Commit(batch) => {
                let commit = batch.id;
                store.commit(&batch).map(|()| Written::Durable { commit, stored_bytes: store.stored_bytes() })
            }
            WriteRequest::Guard(ticket, entry) => store.guard(entry).map(|()| Written::Guarded(ticket)),
        };
        let failed = result.is_err();
        if done.blocking_send(result.unwrap_or_else(Written::Failed)).is_err() || failed {
            return;
        }
    }
}
