//! What one connection holds at this moment, counted, and waiting for there to be less of it.
//!
//! Invariants:
//! 1. What was counted is counted back when its guard is dropped, however that comes about.
//! 2. Questions that the client leaves unfinished are counted and bounded, because an answer with capabilities is kept until
//!    they are.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use capnp::Error;
use capnp_rpc::rpc_capnp::{call, message};
use tokio::sync::Notify;

use super::limits::{Limits, MAX_CALLS, MAX_QUESTIONS};

/// What one connection holds at this moment.
#[derive(Debug)]
pub(super) struct Accounting {
    limits: Limits,
    /// Of calls whose parameters are not dropped yet.
    held: Cell<usize>,
    /// Of answers that the client has not taken.
    queued: Cell<usize>,
    /// Of answers that are being made.
    reserved: Cell<usize>,
    calls: Cell<u32>,
    /// The client's questions that it has not finished.
    questions: RefCell<HashSet<u32>>,
    changed: Notify,
}

/// One counter, put back when dropped.
pub(super) struct Counted {
    accounting: Rc<Accounting>,
    amount: usize,
    counter: fn(&Accounting) -> &Cell<usize>,
}

impl Counted {
    fn new(accounting: &Rc<Accounting>, amount: usize, counter: fn(&Accounting) -> &Cell<usize>) -> Self {
        counter(accounting).update(|sum| sum + amount);
        Self { accounting: accounting.clone(), amount, counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.accounting).update(|sum| sum - self.amount);
        self.accounting.changed.notify_waiters();
    }
}

/// A call in flight.
pub(super) struct InFlight(Rc<Accounting>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.calls.update(|calls| calls - 1);
        self.0.changed.notify_waiters();
    }
}

impl Accounting {
    pub fn new(limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            limits,
            held: Cell::new(0),
            queued: Cell::new(0),
            reserved: Cell::new(0),
            calls: Cell::new(0),
            questions: RefCell::default(),
            changed: Notify::new(),
        })
    }

    /// Every handler begins with this.
    ///
    /// # Errors
    /// `overloaded` when too many calls are in flight.
    pub fn enter(self: &Rc<Self>) -> Result<InFlight, Error> {
        if self.calls.get() >= MAX_CALLS {
            return Err(Error::overloaded(format!("{MAX_CALLS} calls are in flight on this connection")));
        }
        self.calls.update(|calls| calls + 1);
        Ok(InFlight(self.clone()))
    }

    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Counts a message whose calls are not done yet.
    pub fn hold(self: &Rc<Self>, bytes: usize) -> Counted {
        Counted::new(self, bytes, |accounting| &accounting.held)
    }

    /// Counts an answer that waits for the client.
    pub fn queue(self: &Rc<Self>, bytes: usize) -> Counted {
        Counted::new(self, bytes, |accounting| &accounting.queued)
    }

    /// Waits until an answer of this size has room. Hold the result until the answer is handed over.
    pub async fn reserve(self: &Rc<Self>, bytes: usize) -> Counted {
        let fits = || {
            let waiting = self.queued.get() + self.reserved.get();
            waiting == 0 || waiting + bytes <= self.limits.max_queued_bytes()
        };
        self.wait_until(fits).await;
        Counted::new(self, bytes, |accounting| &accounting.reserved)
    }

    /// Waits until no call is in flight and every answer is taken.
    pub async fn wait_until_quiet(&self) {
        self.wait_until(|| self.calls.get() == 0 && self.queued.get() == 0).await;
    }

    /// Waits until another message may be read.
    pub async fn wait_to_read(&self) {
        let limit = self.limits.max_message_bytes;
        self.wait_until(|| self.held.get() < limit && self.queued.get() < limit).await;
    }

    async fn wait_until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            // One thread: nothing changes between the question and the wait.
            self.changed.notified().await;
        }
    }

    /// Looks at what the protocol layer is about to see.
    pub fn count_incoming(&self, incoming: message::Reader<'_>) -> Result<(), Error> {
        let question = match incoming.which() {
            Ok(message::Call(call)) => {
                let call = call?;
                if !matches!(call.get_send_results_to().which(), Ok(call::send_results_to::Caller(()))) {
                    return Err(Error::failed("results go to the caller, here".into()));
                }
                call.get_question_id()
            }
            Ok(message::Bootstrap(bootstrap)) => bootstrap?.get_question_id(),
            Ok(message::Finish(finish)) => {
                self.questions.borrow_mut().remove(&finish?.get_question_id());
                return Ok(());
            }
            _ => return Ok(()),
        };
        let mut questions = self.questions.borrow_mut();
        questions.insert(question);
        if questions.len() > MAX_QUESTIONS {
            return Err(Error::overloaded(format!("more than {MAX_QUESTIONS} questions are not finished")));
        }
        Ok(())
    }

    /// Looks at what the protocol layer has said.
    pub fn count_outgoing(&self, outgoing: message::Reader<'_>) -> Result<(), Error> {
        if let Ok(message::Return(answer)) = outgoing.which() {
            let answer = answer?;
            if answer.get_no_finish_needed() {
                self.questions.borrow_mut().remove(&answer.get_answer_id());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::super::limits::BlockBytes;
    use super::*;

    fn limits() -> Limits {
        Limits::derive(64 << 20, 4, BlockBytes::all(1 << 20)).unwrap()
    }

    #[tokio::test]
    async fn answers_wait_for_room() {
        let accounting = Accounting::new(limits());
        let most = limits().max_queued_bytes();
        let first = accounting.reserve(most).await;
        assert!(accounting.reserve(1).now_or_never().is_none());
        drop(first);
        let _huge = accounting.reserve(10 * most).now_or_never().expect("one answer always has room");
    }
}
