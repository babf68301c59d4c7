//! One client's connection, below the calls: frames in, frames out, and a meter that counts both. It takes the place of
//! `capnp_rpc::twoparty`, which allocates what a header announces, reads as fast as a client can call, and queues answers
//! without bound.
//!
//! Invariants:
//! 1. Memory for a message grows as its bytes arrive, never by more than has arrived; a message above the limit ends the
//!    connection when its header has been read.
//! 2. Nothing is read while a message's worth of calls waits for handlers, or while answers wait for the client.
//! 3. A client that stops in the middle of a message, or that takes no answers, is disconnected after a deadline.
//! 4. Questions that the client leaves unfinished are counted and bounded, because an answer with capabilities is kept until
//!    they are.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator, Reader, ReaderOptions, ReaderSegments};
use capnp::{Error, Word};
use capnp_rpc::rpc_capnp::{call, message};
use capnp_rpc::rpc_twoparty_capnp::Side;
use futures::FutureExt as _;
use futures::channel::oneshot;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::limits::{Limits, MAX_CALLS, MAX_QUESTIONS};

const WORD: usize = 8;
/// Memory is taken in steps of at least this much.
const FIRST_STEP_WORDS: usize = 1024;
const MAX_SEGMENTS: usize = 512;
/// What a queued answer costs beyond its words.
const QUEUED_OVERHEAD_BYTES: usize = 1024;
const BUFFER_BYTES: usize = 32 << 10;

/// What one connection holds at this moment.
#[derive(Debug)]
pub(super) struct Meter {
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
    meter: Rc<Meter>,
    amount: usize,
    counter: fn(&Meter) -> &Cell<usize>,
}

impl Counted {
    fn new(meter: &Rc<Meter>, amount: usize, counter: fn(&Meter) -> &Cell<usize>) -> Self {
        counter(meter).update(|sum| sum + amount);
        Self { meter: meter.clone(), amount, counter }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.meter).update(|sum| sum - self.amount);
        self.meter.changed.notify_waiters();
    }
}

/// A call in flight.
pub(super) struct InFlight(Rc<Meter>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.calls.update(|calls| calls - 1);
        self.0.changed.notify_waiters();
    }
}

impl Meter {
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

    /// Waits until an answer of this size has room. Hold the result until the answer is handed over.
    pub async fn room(self: &Rc<Self>, bytes: usize) -> Counted {
        let fits = || {
            let waiting = self.queued.get() + self.reserved.get();
            waiting == 0 || waiting + bytes <= self.limits.max_queued_bytes()
        };
        self.wait_until(fits).await;
        Counted::new(self, bytes, |meter| &meter.reserved)
    }

    /// Waits until no call is in flight and every answer is taken.
    pub async fn quiet(&self) {
        self.wait_until(|| self.calls.get() == 0 && self.queued.get() == 0).await;
    }

    async fn may_read(&self) {
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
    fn admit(&self, incoming: message::Reader<'_>) -> Result<(), Error> {
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
    fn saw_off(&self, outgoing: message::Reader<'_>) -> Result<(), Error> {
        if let Ok(message::Return(answer)) = outgoing.which() {
            let answer = answer?;
            if answer.get_no_finish_needed() {
                self.questions.borrow_mut().remove(&answer.get_answer_id());
            }
        }
        Ok(())
    }
}

/// A connection, for [`capnp_rpc::RpcSystem`].
pub(super) struct Link<R> {
    connection: Option<Connection<R>>,
    writer: Option<Promise<(), Error>>,
}

impl<R: AsyncRead + Unpin + 'static> Link<R> {
    pub fn new(reader: R, writer: impl AsyncWrite + Unpin + 'static, meter: Rc<Meter>) -> Self {
        let queue = Rc::new(Queue { items: RefCell::default(), added: Notify::new(), meter: meter.clone() });
        let writer = tokio::io::BufWriter::with_capacity(BUFFER_BYTES, writer);
        Self {
            writer: Some(Promise::from_future(write_all(queue.clone(), writer))),
            connection: Some(Connection {
                input: Rc::new(RefCell::new(Some(Input {
                    reader: tokio::io::BufReader::with_capacity(BUFFER_BYTES, reader),
                    began: false,
                }))),
                queue,
                meter,
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

struct Connection<R> {
    /// Taken while a message is being read.
    input: Rc<RefCell<Option<Input<R>>>>,
    queue: Rc<Queue>,
    meter: Rc<Meter>,
}

impl<R: AsyncRead + Unpin + 'static> capnp_rpc::Connection<Side> for Connection<R> {
    fn get_peer_vat_id(&self) -> Side {
        Side::Client
    }

    fn new_outgoing_message(&mut self, first_segment_words: u32) -> Box<dyn capnp_rpc::OutgoingMessage> {
        let allocator = HeapAllocator::new().first_segment_words(first_segment_words);
        Box::new(Outgoing { message: Builder::new(allocator), queue: self.queue.clone() })
    }

    fn receive_incoming_message(&mut self) -> Promise<Option<Box<dyn capnp_rpc::IncomingMessage>>, Error> {
        let (place, meter) = (self.input.clone(), self.meter.clone());
        let Some(mut input) = place.borrow_mut().take() else {
            return Promise::err(Error::failed("two reads at a time".into()));
        };
        Promise::from_future(async move {
            meter.may_read().await;
            let Some(segments) = input.read(&meter.limits).await? else { return Ok(None) };
            *place.borrow_mut() = Some(input);
            let held = Counted::new(&meter, segments.words.len() * WORD, |meter| &meter.held);
            let options = *ReaderOptions::new()
                // Each field may be read twice.
                .traversal_limit_in_words(Some(2 * segments.words.len() + FIRST_STEP_WORDS))
                .nesting_limit(16);
            let incoming = Incoming { message: Reader::new(segments, options), _held: held };
            meter.admit(incoming.message.get_root()?)?;
            Ok(Some(Box::new(incoming) as Box<dyn capnp_rpc::IncomingMessage>))
        })
    }

    fn shutdown(&mut self, result: capnp::Result<()>) -> Promise<(), Error> {
        let (done, wait) = oneshot::channel();
        self.queue.push(Item::End(result, done));
        Promise::from_future(wait.map(|end| end.map_err(|_| Error::disconnected("the connection is gone".into()))))
    }
}

struct Input<R> {
    reader: tokio::io::BufReader<R>,
    /// A message has arrived.
    began: bool,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// The next message; `None` when the client has gone.
    async fn read(&mut self, limits: &Limits) -> Result<Option<Segments>, Error> {
        let mut head = [0; WORD];
        let first = self.reader.read(&mut head);
        let read =
            if self.began { first.await? } else { in_time(limits.frame_deadline, "nothing was said", first).await? };
        if read == 0 {
            return Ok(None);
        }
        self.began = true;
        in_time(limits.frame_deadline, "a message was begun and not ended", async {
            self.reader.read_exact(&mut head[read..]).await?;
            Ok::<_, std::io::Error>(self.read_rest(head, limits.max_message_bytes).await)
        })
        .await?
        .map(Some)
    }

    async fn read_rest(&mut self, head: [u8; WORD], max_bytes: usize) -> Result<Segments, Error> {
        let [count, first] =
            [&head[..4], &head[4..]].map(|half| half.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)));
        if count >= MAX_SEGMENTS {
            return Err(Error::failed(format!("a message of {} segments", count.saturating_add(1))));
        }
        // `count` more sizes follow, padded to a whole word.
        let mut sizes = [0; MAX_SEGMENTS * 4];
        let sizes = &mut sizes[..count.next_multiple_of(2) * 4];
        self.reader.read_exact(sizes).await?;
        let mut ranges = Vec::with_capacity(count + 1);
        let mut end = 0_usize;
        let rest = sizes.chunks_exact(4).map(|size| size.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)));
        for size in std::iter::once(first).chain(rest.take(count)) {
            ranges.push((end, end + size));
            end += size;
        }
        if end > max_bytes / WORD {
            return Err(Error::failed(format!("a message of {} bytes; the limit is {max_bytes}", end * WORD)));
        }
        let mut words = Vec::new();
        while words.len() < end {
            let arrived = words.len();
            let step = arrived.max(FIRST_STEP_WORDS).min(end - arrived);
            words.reserve_exact(step);
            words.resize(arrived + step, capnp::word(0, 0, 0, 0, 0, 0, 0, 0));
            self.reader.read_exact(Word::words_to_bytes_mut(&mut words[arrived..])).await?;
        }
        Ok(Segments { words, ranges })
    }
}

async fn in_time<T, E>(limit: Duration, what: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, Error>
where
    Error: From<E>,
{
    match tokio::time::timeout(limit, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Error::disconnected(format!("{what} for {limit:?}"))),
    }
}

/// A message as it arrived.
struct Segments {
    words: Vec<Word>,
    /// In words.
    ranges: Vec<(usize, usize)>,
}

impl ReaderSegments for Segments {
    fn get_segment(&self, index: u32) -> Option<&[u8]> {
        let (from, to) = *self.ranges.get(usize::try_from(index).ok()?)?;
        Some(Word::words_to_bytes(&self.words[from..to]))
    }

    fn len(&self) -> usize {
        self.ranges.len()
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
    queue: Rc<Queue>,
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
        let meter = &self.queue.meter;
        if let Err(error) = message.get_root_as_reader().and_then(|root| meter.saw_off(root)) {
            tracing::debug!(%error, "an answer of our own cannot be read");
        }
        let bytes = message.size_in_words() * WORD + QUEUED_OVERHEAD_BYTES;
        let counted = Counted::new(meter, bytes, |meter| &meter.queued);
        self.queue.push(Item::Message(message.clone(), counted, done));
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

/// Answers that wait for the client. Its length is bounded by the meter: nothing is read, and no large answer is made, while
/// it is long.
struct Queue {
    items: RefCell<VecDeque<Item>>,
    added: Notify,
    meter: Rc<Meter>,
}

impl Queue {
    fn push(&self, item: Item) {
        self.items.borrow_mut().push_back(item);
        self.added.notify_one();
    }

    fn pop(&self) -> Option<Item> {
        self.items.borrow_mut().pop_front()
    }
}

/// Sends one answer after the other, and returns when the connection is to end.
async fn write_all(queue: Rc<Queue>, mut to: impl AsyncWrite + Unpin) -> Result<(), Error> {
    let stall = queue.meter.limits.stall_deadline;
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

async fn write_message(
    to: &mut (impl AsyncWrite + Unpin),
    message: &Builder<HeapAllocator>,
    stall: Duration,
) -> Result<(), Error> {
    let segments = message.get_segments_for_output();
    let size = |bytes: usize| u32::try_from(bytes / WORD).map_err(|_| Error::failed("a segment is too large".into()));
    let mut table = Vec::with_capacity((segments.len() / 2 + 1) * WORD);
    table.extend_from_slice(
        &u32::try_from(segments.len() - 1).map_err(|_| Error::failed("too many".into()))?.to_le_bytes(),
    );
    for segment in &segments[..] {
        table.extend_from_slice(&size(segment.len())?.to_le_bytes());
    }
    table.resize(table.len().next_multiple_of(WORD), 0);
    for mut bytes in std::iter::once(&table[..]).chain(segments.iter().copied()) {
        while !bytes.is_empty() {
            let written = progress(stall, to.write(bytes)).await?;
            if written == 0 {
                return Err(Error::disconnected("the client takes nothing any more".into()));
            }
            bytes = &bytes[written..];
        }
    }
    Ok(())
}

async fn progress<T>(limit: Duration, work: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    in_time(limit, "the client took no answer", work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::derive(64 << 20, 4, 1 << 20).unwrap()
    }

    /// What reading these bytes, and then the end, comes to.
    async fn read(bytes: &[u8]) -> Result<Option<Segments>, Error> {
        let limits = Limits { max_message_bytes: 1 << 20, ..limits() };
        Input { reader: tokio::io::BufReader::new(bytes), began: false }.read(&limits).await
    }

    fn impatient() -> Limits {
        Limits { frame_deadline: Duration::from_millis(1), stall_deadline: Duration::from_millis(1), ..limits() }
    }

    fn header(sizes: &[u32]) -> Vec<u8> {
        let mut bytes = (u32::try_from(sizes.len()).unwrap() - 1).to_le_bytes().to_vec();
        bytes.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[tokio::test]
    async fn frames_of_any_shape_are_read_whole() {
        for sizes in [vec![0], vec![1], vec![3, 0], vec![1, 2, 3], vec![5, 1, 1, 1], vec![9000, 1]] {
            let words = sizes.iter().sum::<u32>() as usize;
            let mut bytes = header(&sizes);
            bytes.extend((0..words * 8).map(|at| u8::try_from(at % 251).unwrap()));
            let body = bytes[header(&sizes).len()..].to_vec();
            let segments = read(&bytes).await.unwrap().unwrap();
            assert_eq!(segments.len(), sizes.len());
            let read: Vec<u8> = (0..).map_while(|index| segments.get_segment(index)).flatten().copied().collect();
            assert!(read == body, "{sizes:?}");
        }
    }

    #[tokio::test]
    async fn what_is_not_a_frame_is_refused() {
        assert!(read(&[]).await.unwrap().is_none(), "a client may leave");
        for bytes in [
            vec![0],
            header(&[1]),
            header(&[(1 << 17) + 1]),
            header(&[u32::MAX, u32::MAX, u32::MAX]),
            [0xff; 16].to_vec(),
            [[0xff, 1, 0, 0].as_slice(), &[0; 64]].concat(),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ] {
            assert!(read(&bytes).await.is_err(), "{bytes:?}");
        }
    }

    /// Counts what is asked of it at one time, and never has enough.
    struct Trickle(Rc<Cell<usize>>, VecDeque<u8>);

    impl AsyncRead for Trickle {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            self.0.set(self.0.get().max(buf.remaining()));
            let Some(byte) = self.1.pop_front() else { return std::task::Poll::Pending };
            buf.put_slice(&[byte]);
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_announced_giant_gets_no_memory_before_its_bytes() {
        let asked = Rc::new(Cell::new(0));
        let mut bytes: VecDeque<u8> = header(&[1 << 20]).into();
        bytes.extend([0; 100]);
        let mut input =
            Input { reader: tokio::io::BufReader::with_capacity(16, Trickle(asked.clone(), bytes)), began: false };
        assert!(input.read(&Limits { max_message_bytes: 8 << 20, ..limits() }).now_or_never().is_none());
        assert!((16..=FIRST_STEP_WORDS * WORD).contains(&asked.get()), "{} bytes were made room for", asked.get());
    }

    #[tokio::test]
    async fn a_message_that_is_not_ended_ends_the_connection() {
        let (client, server) = tokio::io::duplex(64);
        let mut input = Input { reader: tokio::io::BufReader::new(server), began: false };
        assert!(input.read(&impatient()).await.is_err(), "nothing was ever said");
        let mut client = client;
        client.write_all(&header(&[1])).await.unwrap();
        let error = input.read(&impatient()).await.err().unwrap();
        assert_eq!(error.kind, capnp::ErrorKind::Disconnected, "{error}");
    }

    #[tokio::test]
    async fn answers_that_nobody_takes_end_the_connection() {
        let (_client, server) = tokio::io::duplex(64);
        let meter = Meter::new(impatient());
        let mut link = Link::new(tokio::io::empty(), server, meter.clone());
        let mut connection = capnp_rpc::VatNetwork::accept(&mut link).await.unwrap();
        let mut message = connection.new_outgoing_message(0);
        message.get_body().unwrap().set_as::<capnp::data::Owned>(&[7; 4096][..]).unwrap();
        let (_sent, _) = message.send();
        assert!(meter.queued.get() >= 4096);
        let error = capnp_rpc::VatNetwork::drive_until_shutdown(&mut link).await.unwrap_err();
        assert_eq!(error.kind, capnp::ErrorKind::Disconnected, "{error}");
    }

    #[tokio::test]
    async fn answers_wait_for_room() {
        let meter = Meter::new(limits());
        let most = limits().max_queued_bytes();
        let first = meter.room(most).await;
        assert!(meter.room(1).now_or_never().is_none());
        drop(first);
        let _huge = meter.room(10 * most).now_or_never().expect("one answer always has room");
    }
}
