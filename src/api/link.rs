//! One client's connection, below the calls: frames in, frames out, and the accounting of both. It takes the place of
//! `capnp_rpc::twoparty`, which allocates what a header announces, reads as fast as a client can call, and queues answers
//! without bound.
//!
//! Invariants:
//! 1. Nothing is read while a message's worth of calls waits for handlers, or while answers wait for the client.
//! 2. A client that breaks a frame's bounds, or its deadlines, is disconnected.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use capnp::Error;
use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions};
use capnp_rpc::rpc_twoparty_capnp::Side;
use futures::FutureExt as _;
use futures::channel::oneshot;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::accounting::{Accounting, Counted};
use super::frame::{FIRST_STEP_WORDS, FrameInput, Segments, WORD, buffered, progress, write_message};

/// What a queued answer costs beyond its words.
const QUEUED_OVERHEAD_BYTES: usize = 1024;

/// A connection, for [`capnp_rpc::RpcSystem`].
pub(super) struct Link<R> {
    connection: Option<RpcConnection<R>>,
    writer: Option<Promise<(), Error>>,
}

impl<R: AsyncRead + Unpin + 'static> Link<R> {
    pub fn new(reader: R, writer: impl AsyncWrite + Unpin + 'static, accounting: Rc<Accounting>) -> Self {
        let queue =
            Rc::new(SendQueue { items: RefCell::default(), added: Notify::new(), accounting: accounting.clone() });
        Self {
            writer: Some(Promise::from_future(write_all(queue.clone(), buffered(writer)))),
            connection: Some(RpcConnection {
                input: Rc::new(RefCell::new(Some(FrameInput::new(reader)))),
                queue,
                accounting,
            }),
        }
    }
}

impl<R: AsyncRead + Unpin + 'static> capnp_rpc::VatNetwork<Side> for Link<R> {
    /// A server calls nobody.
    fn connect(&mut self, _: Side) -> Option<Box<dyn capnp_rpc::Connection<Side>>> {
        None
    }

    fn accept(&mut self) -> Promise<Box<dyn capnp_rpc::Connection<Side>>, Error> {
        match self.connection.take() {
            Some(connection) => Promise::ok(Box::new(connection) as _),
            None => Promise::from_future(futures::future::pending()),
        }
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), Error> {
        self.writer.take().unwrap_or_else(|| Promise::from_future(futures::future::pending()))
    }
}

struct RpcConnection<R> {
    /// Taken while a message is being read.
    input: Rc<RefCell<Option<FrameInput<R>>>>,
    queue: Rc<SendQueue>,
    accounting: Rc<Accounting>,
}

impl<R: AsyncRead + Unpin + 'static> capnp_rpc::Connection<Side> for RpcConnection<R> {
    fn get_peer_vat_id(&self) -> Side {
        Side::Client
    }

    fn new_outgoing_message(&mut self, first_segment_words: u32) -> Box<dyn capnp_rpc::OutgoingMessage> {
        let allocator = HeapAllocator::new().first_segment_words(first_segment_words);
        Box::new(Outgoing { message: Builder::new(allocator), queue: self.queue.clone() })
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn capnp_rpc::IncomingMessage>>, Error> {
        let (slot, accounting) = (self.input.clone(), self.accounting.clone());
        let Some(mut input) = slot.borrow_mut().take() else {
            return Promise::err(Error::failed("two reads at a time".into()));
        };
        Promise::from_future(async move {
            accounting.wait_to_read().await;
            let Some(segments) = input.read(accounting.limits()).await? else { return Ok(None) };
            *slot.borrow_mut() = Some(input);
            let held = accounting.hold(segments.words() * WORD);
            let options = *ReaderOptions::new()
                // Each field may be read twice.
                .traversal_limit_in_words(Some(2 * segments.words() + FIRST_STEP_WORDS))
                .nesting_limit(16);
            let incoming = Incoming { message: Reader::new(segments, options), _held: held };
            accounting.count_incoming(incoming.message.get_root()?)?;
            Ok(Some(Box::new(incoming) as Box<dyn capnp_rpc::IncomingMessage>))
        })
    }

    fn shutdown(&mut self, result: capnp::Result<()>) -> Promise<(), Error> {
        let (done, wait) = oneshot::channel();
        self.queue.push(Item::End(result, done));
        Promise::from_future(wait.map(|end| end.map_err(|_| Error::disconnected("the connection is gone".into()))))
    }
}

struct Incoming {
    message: Reader<Segments>,
    _held: Counted,
}

impl capnp_rpc::IncomingMessage for Incoming {
    fn get_body(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_root()
    }
}

type Message = Rc<Builder<HeapAllocator>>;

struct Outgoing {
    message: Builder<HeapAllocator>,
    queue: Rc<SendQueue>,
}

impl capnp_rpc::OutgoingMessage for Outgoing {
    fn get_body(&mut self) -> capnp::Result<capnp::any_pointer::Builder<'_>> {
        self.message.get_root()
    }

    fn get_body_as_reader(&self) -> capnp::Result<capnp::any_pointer::Reader<'_>> {
        self.message.get_root_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), Error>, Message) {
        let (done, wait) = oneshot::channel();
        let message = Rc::new(self.message);
        let accounting = &self.queue.accounting;
        if let Err(error) = message.get_root_as_reader().and_then(|root| accounting.count_outgoing(root)) {
            tracing::debug!(%error, "an answer of our own cannot be read");
        }
        let bytes = message.size_in_words() * WORD + QUEUED_OVERHEAD_BYTES;
        self.queue.push(Item::Message(message.clone(), accounting.queue(bytes), done));
        let sent = wait.map(|sent| sent.map_err(|_| Error::disconnected("the connection is gone".into())));
        (Promise::from_future(sent), message)
    }

    fn take(self: Box<Self>) -> Builder<HeapAllocator> {
        self.message
    }

    fn size_in_words(&self) -> usize {
        self.message.size_in_words()
    }
}

enum Item {
    Message(Message, Counted, oneshot::Sender<()>),
    End(capnp::Result<()>, oneshot::Sender<()>),
}

/// Answers that wait for the client. Its length is bounded by the accounting: nothing is read, and no large answer is
/// made, while it is long.
struct SendQueue {
    items: RefCell<VecDeque<Item>>,
    added: Notify,
    accounting: Rc<Accounting>,
}

impl SendQueue {
    fn push(&self, item: Item) {
        self.items.borrow_mut().push_back(item);
        self.added.notify_one();
    }

    fn pop(&self) -> Option<Item> {
        self.items.borrow_mut().pop_front()
    }
}

/// Sends one answer after the other, and returns when the connection is to end.
async fn write_all(queue: Rc<SendQueue>, mut to: impl AsyncWrite + Unpin) -> Result<(), Error> {
    let stall = queue.accounting.limits().stall_deadline;
    loop {
        match queue.pop() {
            Some(Item::Message(message, counted, done)) => {
                write_message(&mut to, &message, stall).await?;
                drop((message, counted));
                // Nobody may be waiting.
                let _ = done.send(());
            }
            Some(Item::End(result, done)) => {
                progress(stall, to.flush()).await?;
                let _ = done.send(());
                return result;
            }
            None => {
                progress(stall, to.flush()).await?;
                queue.added.notified().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::limits::{BlockBytes, Limits};
    use super::*;

    #[tokio::test]
    async fn answers_that_nobody_takes_end_the_connection() {
        let (_client, server) = tokio::io::duplex(64);
        let limits = Limits::derive(64 << 20, 4, BlockBytes::all(1 << 20)).unwrap();
        let accounting = Accounting::new(Limits { stall_deadline: Duration::from_millis(1), ..limits });
        let mut link = Link::new(tokio::io::empty(), server, accounting.clone());
        let mut connection = capnp_rpc::VatNetwork::accept(&mut link).await.unwrap();
        let mut message = connection.new_outgoing_message(0);
        message.get_body().unwrap().set_as::<capnp::data::Owned>(&[7; 4096][..]).unwrap();
        let (_sent, _) = message.send();
        assert!(accounting.wait_until_quiet().now_or_never().is_none(), "it is counted");
        let error = capnp_rpc::VatNetwork::drive_until_shutdown(&mut link).await.unwrap_err();
        assert_eq!(error.kind, capnp::ErrorKind::Disconnected, "{error}");
    }
}
