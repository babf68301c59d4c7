//! The serving side of the range exchange: one stream, one request, one answer, straight from the store.
//!
//! Invariants:
//! 1. An answer comes from one view of the store: what is written meanwhile does not tear it.
//! 2. At most two chunks of an answer are in memory, however long it is and however slowly it is read.
//! 3. What all answers together have in memory fits into one budget, and what those of one connection have into a quarter of it.
//!    Memory is reserved before blocks are read, for as much as they will take: the store knows their sizes without them.
//! 4. A peer that sends or reads too slowly loses its stream, never its connection, and never delays other streams for long:
//!    a request reserves no memory until it is complete, and an answer holds it for [`ANSWER_FOR`] at most.
//! 5. A peer that asks for more than its share waits before it is given memory, and is answered in parts; it is never held
//!    against it.
//!
//! The stream is *reset* by dropping it without a frame: yamux and QUIC then send a reset or an early end, which all clients
//! take for an empty answer.

use std::sync::Arc;
use std::time::Duration;

use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use libp2p::PeerId;
use prost::Message as _;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use super::limits::{SERVE_CHUNK, serve_chunk_bytes};
use super::memory_budget::{MemoryBudget, MemoryReservation};
use super::rate_limit::{Rate, RateLimiter};
use super::view::{ServeSource, ServeView};
use super::wire::{self, FrameReader, HeaderRequest};
use crate::block::{Height, Lane};
use crate::store::StoreError;
use crate::sync::serve::{Plan, RangeRequest, plan};

/// The whole request must be here by then.
const REQUEST_WITHIN: Duration = Duration::from_secs(2);

/// How long a request waits for memory. Go clients wait eight seconds for the whole answer.
const MEMORY_WITHIN: Duration = Duration::from_secs(8);

/// A reader that takes nothing for so long is given up.
const IDLE: Duration = Duration::from_secs(8);

/// A reader must take [`Pace::min_bytes_per_second`] on average, after this much time.
const FLOOR_AFTER: Duration = Duration::from_secs(5);

/// An answer that would have to wait longer for the peer's next bytes ends here: a partial answer, which is a good one.
const PAUSE: Duration = Duration::from_millis(500);

/// An answer that takes longer ends after the block that it is at: a partial answer, which is a good one.
const ANSWER_FOR: Duration = Duration::from_secs(15);

/// How much is given to the stream at once: what the pace is judged by.
const PIECE: usize = 16 * 1024;

/// How fast peers are served, and how fast they must read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub rate: Rate,
    pub min_bytes_per_second: u64,
}

/// Answers requests of all connections.
pub struct RangeServer {
    source: Arc<dyn ServeSource>,
    rate_limiter: RateLimiter,
    min_bytes_per_second: u64,
    budget: MemoryBudget,
    /// The most of it that one connection may take.
    connection_bytes: usize,
}

/// Why a request was not answered, or not wholly. For the log only: what the peer sees is the end of the stream.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("the request did not come in time")]
    RequestTimeout,
    #[error("not a request: {0}")]
    Malformed(String),
    #[error("nothing that can be answered")]
    NotServed,
    #[error("too busy")]
    Busy,
    #[error("it has had more than its share")]
    OverRate,
    #[error("the answer is not read in time")]
    SlowReader,
    #[error("the peer went away: {0}")]
    Gone(#[from] std::io::Error),
    #[error("the store failed: {0}")]
    Store(#[from] StoreError),
    #[error("reading was stopped: {0}")]
    Stopped(#[from] JoinError),
}

impl RangeServer {
    /// `bytes` for all answers together, which suffices for two chunks of the largest blocks at least.
    pub fn new(source: Arc<dyn ServeSource>, bytes: usize, max_block_bytes: usize, pace: Pace) -> Self {
        Self {
            source,
            rate_limiter: RateLimiter::new(pace.rate),
            min_bytes_per_second: pace.min_bytes_per_second.max(1),
            budget: MemoryBudget::new(bytes),
            // No connection can take all of it, so that some is always left for the others.
            connection_bytes: (bytes / 4).max(serve_chunk_bytes(max_block_bytes)),
        }
    }

    /// The share of a new connection.
    pub fn connection_budget(&self) -> MemoryBudget {
        MemoryBudget::new(self.connection_bytes)
    }

    /// Serves one stream of `peer` to its end. `own` is the connection's share.
    pub async fn serve<S>(&self, peer: PeerId, lane: Lane, stream: S, own: &MemoryBudget) -> Result<(), Refused>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut reader = FrameReader::new(stream, wire::MAX_REQUEST_BYTES);
        let frame = match timeout(REQUEST_WITHIN, reader.next()).await {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return Err(Refused::Malformed("no frame".into())),
            Ok(Err(error)) => return Err(Refused::Malformed(error.to_string())),
            Err(_) => return Err(Refused::RequestTimeout),
        };
        let request = HeaderRequest::decode(frame).map_err(|error| Refused::Malformed(error.to_string()))?;

        let mut stream = self.answer(peer, lane, request, reader.into_inner(), own).await?;
        // Whether the peer still listens after the last frame is its own affair.
        let _ = timeout(IDLE, stream.close()).await;
        Ok(())
    }

    async fn answer<S>(
        &self,
        peer: PeerId,
        lane: Lane,
        request: HeaderRequest,
        stream: S,
        own: &MemoryBudget,
    ) -> Result<S, Refused>
    where
        S: AsyncWrite + Unpin + Send,
    {
        // Not while it holds memory that others could use.
        timeout(MEMORY_WITHIN, self.paid(peer)).await.map_err(|_| Refused::OverRate)?;
        let source = self.source.clone();
        let reading = spawn_blocking(move || Reading::begin(&*source, lane, &request)).await??;
        let mut reservation = self.reserve(own, reading.next_bytes()).await?;
        let mut chunk = spawn_blocking(move || reading.read()).await??;
        let mut paced = Paced::new(stream, self.min_bytes_per_second);
        loop {
            reservation.shrink_to(chunk.frames.len());
            self.rate_limiter.charge(peer, chunk.frames.len(), Instant::now());
            let Some(rest) = chunk.rest.filter(|_| paced.writing < ANSWER_FOR) else {
                paced.write(&chunk.frames).await?;
                return Ok(paced.stream);
            };
            // While one chunk is written the next is read, if there is memory for both. Waiting for memory with a chunk in hand
            // could be for ever.
            let next = match MemoryReservation::try_take(own, &self.budget, rest.next_bytes()) {
                Some(reservation) => NextChunk::Reading(reservation, spawn_blocking(move || rest.read())),
                None => NextChunk::Waiting(rest),
            };
            paced.write(&chunk.frames).await?;
            drop((reservation, chunk.frames));
            if timeout(PAUSE, self.paid(peer)).await.is_err() {
                return Ok(paced.stream);
            }
            (reservation, chunk) = match next {
                NextChunk::Reading(reservation, reading) => (reservation, reading.await??),
                NextChunk::Waiting(rest) => {
                    let reservation = self.reserve(own, rest.next_bytes()).await?;
                    (reservation, spawn_blocking(move || rest.read()).await??)
                }
            };
        }
    }

    async fn reserve<'a>(&'a self, own: &'a MemoryBudget, bytes: usize) -> Result<MemoryReservation<'a>, Refused> {
        let reservation = MemoryReservation::take(own, &self.budget, bytes);
        timeout(MEMORY_WITHIN, reservation).await.ok().flatten().ok_or(Refused::Busy)
    }

    /// Waits until this peer owes nothing.
    async fn paid(&self, peer: PeerId) {
        loop {
            let now = Instant::now();
            match self.rate_limiter.wait(&peer, now) {
                Duration::ZERO => return,
                // Whoever asks on another stream meanwhile makes it longer.
                wait => sleep(wait.clamp(Duration::from_millis(1), Duration::from_mins(1))).await,
            }
        }
    }
}

/// What is still to be read of an answer. Blocking.
struct Reading {
    view: Box<dyn ServeView>,
    lane: Lane,
    from: Height,
    /// Of each block that is still to be read, from `from` on.
    sizes: Vec<usize>,
    first: bool,
}

/// The chunk after this one.
enum NextChunk<'a> {
    Reading(MemoryReservation<'a>, JoinHandle<Result<Chunk, Refused>>),
    /// There is no memory for two.
    Waiting(Reading),
}

/// Some whole frames of an answer.
struct Chunk {
    frames: Vec<u8>,
    rest: Option<Reading>,
}

impl Reading {
    fn begin(source: &dyn ServeSource, lane: Lane, request: &HeaderRequest) -> Result<Self, Refused> {
        let wanted = match &request.data {
            Some(wire::Data::Origin(origin)) => RangeRequest::Origin { origin: *origin, amount: request.amount },
            Some(wire::Data::Hash(hash)) => RangeRequest::Hash(hash),
            None => return Err(Refused::NotServed),
        };
        let view = source.view();
        let heights = match plan(wanted, view.span()?) {
            Plan::Reset => return Err(Refused::NotServed),
            Plan::NotFound => None,
            Plan::Head(head) => Some((head, head)),
            Plan::Range { from, to } => Some((from, to)),
            Plan::ByHash(hash) => view.height_of(lane, hash)?.map(|height| (height, height)),
        };
        let (from, sizes) = match heights {
            Some((from, to)) => (from, view.sizes(lane, from, to)?),
            None => (Height::MIN, Vec::new()),
        };
        Ok(Self { view, lane, from, sizes, first: true })
    }

    /// How many blocks the next chunk has: at least one, more while they are small; 0 at the end.
    fn next_len(&self) -> usize {
        let fit = self.sizes.iter().scan(0_usize, |sum, size| {
            *sum = sum.saturating_add(*size);
            (*sum <= SERVE_CHUNK).then_some(())
        });
        fit.count().max(1).min(self.sizes.len())
    }

    /// What reading the next chunk takes: all of its frames, and the block that is being read.
    fn next_bytes(&self) -> usize {
        let sizes = &self.sizes[..self.next_len()];
        let frames: usize = sizes.iter().map(|size| size.saturating_add(wire::RESPONSE_OVERHEAD)).sum();
        frames.saturating_add(sizes.iter().copied().max().unwrap_or(0))
    }

    fn read(mut self) -> Result<Chunk, Refused> {
        let mut frames = Vec::with_capacity(self.next_bytes());
        let (asked, mut given) = (self.next_len(), 0);
        if let Some(more) = u64::try_from(asked).ok().and_then(|asked| asked.checked_sub(1)) {
            self.view.parts(self.lane, self.from, self.from.plus(more), &mut |part| {
                wire::put_ok_frame(&part, &mut frames);
                given += 1;
            })?;
            self.from = self.from.plus(more).next();
        }
        if self.first && frames.is_empty() {
            frames.extend_from_slice(&wire::NOT_FOUND_FRAME);
        }
        self.first = false;
        self.sizes.drain(..asked);
        // What came before a block that damage took is a good answer.
        let rest = (given == asked && !self.sizes.is_empty()).then_some(self);
        Ok(Chunk { frames, rest })
    }
}

/// A stream whose reader has to keep up.
struct Paced<S> {
    stream: S,
    /// Spent waiting for the reader, not for our own disk.
    writing: Duration,
    written: usize,
    min_bytes_per_second: u64,
}

impl<S: AsyncWrite + Unpin> Paced<S> {
    const fn new(stream: S, min_bytes_per_second: u64) -> Self {
        Self { stream, writing: Duration::ZERO, written: 0, min_bytes_per_second }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        for piece in bytes.chunks(PIECE) {
            let began = Instant::now();
            let done = timeout(IDLE, self.stream.write_all(piece)).await;
            self.writing += began.elapsed();
            self.written += piece.len();
            done.map_err(|_| Refused::SlowReader)??;
            if self.writing > allowed_for(self.written, self.min_bytes_per_second) {
                return Err(Refused::SlowReader);
            }
        }
        Ok(())
    }
}

/// How long a reader may take for so many bytes.
fn allowed_for(bytes: usize, min_bytes_per_second: u64) -> Duration {
    FLOOR_AFTER + Duration::from_secs(bytes as u64 / min_bytes_per_second)
}
