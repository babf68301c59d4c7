//! Brings the address book to disk, off the driver's task: one write at a time, and the newest state next.
//!
//! Invariants:
//! 1. Who waits for a change to be on disk is answered after a write that began later than the change.
//! 2. A write that fails is said and tried again; it ends nothing.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;

/// What may get lost with the process: it is of use, but nobody was promised it.
const SOON: Duration = Duration::from_secs(2);

/// After a write that failed.
const RETRY: Duration = Duration::from_mins(1);

type OrderReply = oneshot::Sender<Result<(), String>>;

pub struct AddressBookWriter {
    /// `None`: nothing outlives the process.
    path: Option<PathBuf>,
    due: Option<Instant>,
    writing: Option<JoinHandle<io::Result<()>>>,
    /// For the write that has not begun yet, and for the one that has.
    waiting: Vec<OrderReply>,
    answering: Vec<OrderReply>,
}

impl AddressBookWriter {
    pub const fn new(path: Option<PathBuf>) -> Self {
        Self { path, due: None, writing: None, waiting: Vec::new(), answering: Vec::new() }
    }

    /// Something has changed that may take its time.
    pub fn soon(&mut self, now: Instant) {
        let at = now + SOON;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// Something has changed that must not be lost.
    pub fn at_once(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// As [`AddressBookWriter::at_once`]; `reply` is told when it is on disk.
    pub fn and_tell(&mut self, reply: OrderReply, now: Instant) {
        if self.path.is_none() {
            drop(reply.send(Ok(())));
            return;
        }
        self.waiting.push(reply);
        self.at_once(now);
    }

    pub fn next(&self) -> Option<Instant> {
        self.due.filter(|_| self.writing.is_none())
    }

    /// Writes what `text` gives, if it is time.
    pub fn write_if_due(&mut self, text: impl FnOnce() -> String, now: Instant) {
        if self.next().is_none_or(|due| now < due) {
            return;
        }
        self.due = None;
        let Some(path) = self.path.clone() else { return };
        let text = text();
        self.answering = std::mem::take(&mut self.waiting);
        self.writing = Some(spawn_blocking(move || super::write(&path, &text)));
    }

    /// Waits for the write that is under way; for ever, when there is none. May be dropped while it waits.
    pub async fn written(&mut self) -> io::Result<()> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let outcome = writing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        self.writing = None;
        outcome
    }

    /// A write has ended.
    pub fn on_written(&mut self, outcome: &io::Result<()>, now: Instant) {
        if let Err(error) = outcome {
            tracing::error!(%error, path = ?self.path, "what is remembered of peers cannot be written; it is tried again");
            self.due = Some(self.due.map_or(now + RETRY, |due| due.min(now + RETRY)));
        }
        let told =
            outcome.as_ref().copied().map_err(|error| format!("it is done, but cannot be kept on disk: {error}"));
        for reply in self.answering.drain(..) {
            // Whoever asked may have gone away.
            drop(reply.send(told.clone()));
        }
    }

    /// The last write, when the network ends.
    pub async fn finish(mut self, text: String) {
        if self.writing.is_some() {
            let outcome = self.written().await;
            self.on_written(&outcome, Instant::now());
        }
        if self.due.is_some() {
            self.due = Some(Instant::now());
            self.write_if_due(|| text, Instant::now());
            if self.writing.is_some() {
                let outcome = self.written().await;
                self.on_written(&outcome, Instant::now());
            }
        }
    }
}
