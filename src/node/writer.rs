//! The writer thread: the only one that writes the store. One write at a time; whatever is decided meanwhile goes into the
//! next one together (group commit), but for what takes something back, which begins one of its own ([`Batch::may_absorb`]).
//!
//! Invariants:
//! 1. Everything is written in the order in which it was decided: commits, and the guards of signatures.
//! 2. A write is begun when the one before it was taken note of, so that what waited for that one is told of what is on disk.

use std::collections::VecDeque;
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

/// A write of one or more commits; they are numbered from 1 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(u64);

impl WriteId {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What was decided and is not handed over yet.
#[derive(Debug, Default)]
struct WriteQueue {
    waiting: VecDeque<WriteRequest>,
    /// The newest write that was begun or waits.
    newest: WriteId,
    /// Everything up to this one is on disk.
    done: WriteId,
    in_flight: bool,
}

impl WriteQueue {
    /// The write that the batch will be in.
    fn commit(&mut self, batch: Batch) -> WriteId {
        match self.waiting.back_mut() {
            Some(WriteRequest::Commit(last)) if last.may_absorb(&batch) => last.absorb(batch),
            _ => {
                self.waiting.push_back(WriteRequest::Commit(Box::new(batch)));
                self.newest = self.newest.next();
            }
        }
        self.newest
    }

    /// What may be handed over next.
    fn next(&mut self) -> Option<WriteRequest> {
        let commits = matches!(self.waiting.front()?, WriteRequest::Commit(_));
        if commits && self.in_flight {
            return None;
        }
        self.in_flight |= commits;
        self.waiting.pop_front()
    }

    /// The commit in flight is done.
    fn written(&mut self) -> WriteId {
        self.in_flight = false;
        self.done = self.done.next();
        self.done
    }
}

/// The running thread. It ends, after what it was given, when this is dropped.
#[derive(Debug)]
pub struct CommitWriter {
    writes: Option<blocking::SyncSender<WriteRequest>>,
    thread: Option<JoinHandle<()>>,
    queue: WriteQueue,
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
        Ok((Self { writes: Some(writes), thread: Some(thread), queue: WriteQueue::default() }, results))
    }

    /// Writes the batch, together with what else is decided before its turn. Gives the write that it will be in.
    pub fn commit(&mut self, batch: Batch) -> WriteId {
        let write = self.queue.commit(batch);
        self.hand_over();
        write
    }

    pub fn guard(&mut self, ticket: Ticket, entry: GuardEntry) {
        self.queue.waiting.push_back(WriteRequest::Guard(ticket, entry));
        self.hand_over();
    }

    /// The commit in flight is done. Gives the newest write that is on disk.
    pub fn written(&mut self) -> WriteId {
        let done = self.queue.written();
        self.hand_over();
        done
    }

    /// Whether everything that was decided is on disk.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        !self.queue.in_flight && self.queue.waiting.is_empty()
    }

    fn hand_over(&mut self) {
        while let Some(write) = self.queue.next() {
            // A thread that is gone has said why through its results.
            if let Some(writes) = &self.writes {
                let _ = writes.send(write);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockId, Hash, Height};
    use crate::sync::{Change, Heads};

    fn batch(id: u64, change: Change) -> Batch {
        Batch { id: CommitId(id), changes: vec![change], heads: Heads::empty(Height::MIN), guard: None }
    }

    fn ack(id: u64) -> Batch {
        let up_to = BlockId { height: Height::MIN, hash: Hash([0; 32]) };
        batch(id, Change::Ack { consumer: id.to_string(), up_to })
    }

    fn forget(id: u64) -> Batch {
        batch(id, Change::ForgetConsumer("a".to_owned()))
    }

    /// The commits of what is handed over now; 0 is a guard.
    fn handed_over(queue: &mut WriteQueue) -> Vec<u64> {
        let mut all = Vec::new();
        while let Some(write) = queue.next() {
            all.push(if let WriteRequest::Commit(batch) = write { batch.id.0 } else { 0 });
        }
        all
    }

    #[test]
    fn what_is_decided_during_a_write_goes_into_the_next_one_together() {
        let mut queue = WriteQueue::default();
        assert_eq!(queue.commit(ack(1)), WriteId(1));
        assert_eq!(handed_over(&mut queue), [1]);
        assert_eq!([queue.commit(ack(2)), queue.commit(ack(3))], [WriteId(2); 2]);
        assert!(handed_over(&mut queue).is_empty());
        assert_eq!(queue.written(), WriteId(1));
        assert_eq!(handed_over(&mut queue), [3]);
        assert_eq!(queue.written(), WriteId(2));
    }

    #[test]
    fn what_takes_something_back_begins_a_write_and_others_may_join_it() {
        let mut queue = WriteQueue::default();
        queue.commit(ack(1));
        assert_eq!(handed_over(&mut queue), [1]);
        assert_eq!([ack(2), forget(3), ack(4), forget(5)].map(|batch| queue.commit(batch).0), [2, 3, 3, 4]);
        for commits in [2, 4, 5] {
            queue.written();
            assert_eq!(handed_over(&mut queue), [commits]);
        }
    }

    #[test]
    fn a_guard_waits_for_what_was_decided_before_it_and_for_nothing_else() {
        let mut queue = WriteQueue::default();
        let guard = || {
            WriteRequest::Guard(Ticket(1), GuardEntry { last: BlockId { height: Height::MIN, hash: Hash([0; 32]) } })
        };
        queue.commit(ack(1));
        queue.waiting.push_back(guard());
        assert_eq!(handed_over(&mut queue), [1, 0], "the thread takes one after the other");
        queue.commit(ack(2));
        queue.waiting.push_back(guard());
        assert_eq!(queue.commit(ack(3)), WriteId(3), "not before the guard");
        assert!(handed_over(&mut queue).is_empty());
        queue.written();
        assert_eq!(handed_over(&mut queue), [2, 0]);
    }
}
