//! The asking side of the range exchange: one stream, one request, and whatever comes back.
//!
//! Invariants:
//! 1. Blocks that arrived are returned, however the stream ended.
//! 2. No more than the cap is kept, and no more than was asked for.
//! 3. A stream that is given up is reset, so that the other side does not go on.
//! 4. Who is silent holds no memory but a stream's window: of an answer of one block, which may be of any size, what goes beyond
//!    the window is taken from a budget when its size is known, and waited for. Who has it must send: no slower, after a head start,
//!    than brings all of it by the deadline, so that a few who drip do not hold the budget for as long as a request may take.
//! 5. Time and room that we lost are nobody's fault: who comes late to a deadline looks once more at what has come meanwhile, and
//!    an answer for which there was no room by then was not sent, as far as its sender is concerned.

use std::convert::Infallible;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{SemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

use super::limits::STREAM_WINDOW;
use super::memory_budget::MemoryBudget;
use super::wire::{self, FrameError, FrameReader, HeaderRequest, WireAnswer};
use crate::sync::{BlockQuery, FetchOutcome, RequestId};
use crate::util::saturate;

/// One request, on its way to a stream.
#[derive(Debug)]
pub struct FetchJob {
    pub request: RequestId,
    pub query: BlockQuery,
    /// The most bytes of the whole answer: it is cut before the block that would exceed them, be it the first.
    pub max_bytes: usize,
    pub max_block_bytes: usize,
    /// For answers of one block.
    pub single_bytes: Arc<MemoryBudget>,
    pub deadline: Instant,
    /// Closed when nobody waits for the answer any more.
    pub wanted: oneshot::Receiver<Infallible>,
}

/// A server that waits for the end of the request, rather than of its first frame, gets it then.
const HALF_CLOSE_AFTER: Duration = Duration::from_millis(250);

impl FetchJob {
    fn to_request(&self) -> HeaderRequest {
        match self.query {
            BlockQuery::Head => HeaderRequest::head(),
            BlockQuery::Range { from, amount } => HeaderRequest::range(from.get(), amount),
            BlockQuery::Hash(hash) => HeaderRequest::hash(&hash.0),
        }
    }

    const fn expected(&self) -> u64 {
        match self.query {
            BlockQuery::Head | BlockQuery::Hash(_) => 1,
            BlockQuery::Range { amount, .. } => amount,
        }
    }

    /// Asks, and reads the answer. `None`: nobody waits for it any more.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(
        mut self,
        stream: S,
    ) -> Option<(Vec<Bytes>, FetchOutcome)> {
        let mut bodies = Vec::new();
        let mut wanted = std::mem::replace(&mut self.wanted, oneshot::channel().1);
        let progress = AnswerProgress::default();
        let outcome = tokio::select! {
            biased;
            _ = &mut wanted => return None,
            outcome = self.exchange(stream, &mut bodies, &progress) => outcome,
            () = overdue(self.deadline) => progress.ended_late(),
        };
        Some((bodies, outcome))
    }

    /// The stream is half-closed at once when the answer is a single frame. An answer of many may have to be given up, and yamux
    /// resets a stream that is dropped only while both halves are open: dropped half-closed, the server would wait for a
    /// reader until it loses patience.
    async fn exchange<S>(&self, stream: S, bodies: &mut Vec<Bytes>, progress: &AnswerProgress) -> FetchOutcome
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (reading, mut writing) = stream.split();
        let frame = self.to_request().to_frame();
        if writing.write_all(&frame).await.is_err() || writing.flush().await.is_err() {
            return FetchOutcome::Reset;
        }
        let reading = CountingReader { from: reading, arrived: &progress.arrived };
        let mut reader = FrameReader::new(reading, self.max_block_bytes.saturating_add(wire::RESPONSE_OVERHEAD));
        let patience = if self.expected() == 1 { Duration::ZERO } else { HALF_CLOSE_AFTER };
        let first = {
            let mut first = pin!(reader.next_length());
            tokio::select! {
                first = &mut first => first,
                () = sleep(patience) => {
                    // A Go server closes its reading half after the first frame, so that this may fail in a good exchange.
                    let _ = writing.close().await;
                    first.await
                }
            }
        };
        let outcome = self.read_answer(first, &mut reader, bodies, progress).await;
        if outcome == FetchOutcome::Complete && bodies.len() as u64 == self.expected() {
            let _ = writing.close().await;
        }
        outcome
    }

    async fn read_answer<R: AsyncRead + Unpin>(
        &self,
        first: Result<Option<usize>, FrameError>,
        reader: &mut FrameReader<R>,
        bodies: &mut Vec<Bytes>,
        progress: &AnswerProgress,
    ) -> FetchOutcome {
        let mut next = Some(first);
        let mut room = self.max_bytes;
        while (bodies.len() as u64) < self.expected() {
            let length = match next.take() {
                Some(first) => first,
                None => reader.next_length().await,
            };
            let length = match length {
                Ok(Some(length)) => length,
                // A yamux stream that is reset between two frames cannot be told from one that is closed there. Nobody who
                // serves ends it without any frame.
                Ok(None) if bodies.is_empty() => return FetchOutcome::Reset,
                Ok(None) => return FetchOutcome::Complete,
                Err(error) => return ended_by(&error),
            };
            if length > room.saturating_add(wire::RESPONSE_OVERHEAD) {
                return FetchOutcome::Cut;
            }
            let frame = match self.read_message(length, reader, progress).await {
                Ok(frame) => frame,
                Err(outcome) => return outcome,
            };
            match wire::decode_response(frame) {
                Some(WireAnswer::Block(body)) if body.len() <= self.max_block_bytes => bodies.push(body),
                Some(WireAnswer::NotFound) => return FetchOutcome::NotFound,
                _ => return FetchOutcome::Invalid(None),
            }
            room = room.saturating_sub(length);
        }
        FetchOutcome::Complete
    }

    async fn read_message<R: AsyncRead + Unpin>(
        &self,
        length: usize,
        reader: &mut FrameReader<R>,
        progress: &AnswerProgress,
    ) -> Result<Bytes, FetchOutcome> {
        let room_taken = self.room_for(length, progress).await;
        let message = reader.message(length);
        let message = match room_taken {
            None => Some(message.await),
            Some(_) => self.in_time(length, message, progress).await,
        };
        message.ok_or(FetchOutcome::Timeout)?.map_err(|error| ended_by(&error))
    }

    /// Memory for this frame, where none was kept free for the answer.
    async fn room_for(&self, length: usize, progress: &AnswerProgress) -> Option<SemaphorePermit<'_>> {
        if !is_single(self.query) || length <= STREAM_WINDOW {
            return None;
        }
        progress.waits_for_room.store(true, Ordering::Relaxed);
        let room = self.single_bytes.take(length.min(self.max_block_bytes)).await;
        progress.waits_for_room.store(false, Ordering::Relaxed);
        room
    }

    /// The message, unless it comes too slowly for who holds memory for it. Time in which this process stood still does not count.
    async fn in_time<T>(
        &self,
        length: usize,
        message: impl Future<Output = T>,
        progress: &AnswerProgress,
    ) -> Option<T> {
        let mut message = pin!(message);
        let whole = self.deadline.saturating_duration_since(Instant::now());
        let before = progress.arrived.load(Ordering::Relaxed);
        let mut since = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                message = &mut message => return Some(message),
                () = sleep(LOOK) => since += LOOK,
            }
            let arrived = progress.arrived.load(Ordering::Relaxed).saturating_sub(before);
            if arrived < due(length, since, whole) {
                return None;
            }
        }
    }
}

/// Whether the answer is one block, of any size.
pub const fn is_single(query: BlockQuery) -> bool {
    matches!(query, BlockQuery::Head | BlockQuery::Hash(_))
}

/// How often it is looked whether who holds memory sends,
const LOOK: Duration = Duration::from_millis(500);
/// and when for the first time anything must have come.
const HEAD_START: Duration = Duration::from_secs(1);

/// How much of `length` bytes must have come after `since`, where all of them have to come within `whole`: what comes evenly is never
/// late, and neither is what is late by the head start.
fn due(length: usize, since: Duration, whole: Duration) -> usize {
    let since = since.saturating_sub(HEAD_START).as_millis();
    let length = saturate::to_u64(length);
    let due = u128::from(length) * since / whole.as_millis().max(1);
    saturate::to_usize(u64::try_from(due).unwrap_or(u64::MAX).min(length))
}

/// How far an answer has come.
#[derive(Debug, Default)]
struct AnswerProgress {
    arrived: AtomicUsize,
    waits_for_room: AtomicBool,
}

impl AnswerProgress {
    /// What it is called when the deadline has passed.
    fn ended_late(&self) -> FetchOutcome {
        if self.waits_for_room.load(Ordering::Relaxed) { FetchOutcome::NotSent } else { FetchOutcome::Timeout }
    }
}

/// Counts what is read.
struct CountingReader<'a, R> {
    from: R,
    arrived: &'a AtomicUsize,
}

impl<R: AsyncRead + Unpin> AsyncRead for CountingReader<'_, R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut [u8]) -> Poll<std::io::Result<usize>> {
        let read = Pin::new(&mut self.from).poll_read(cx, to);
        if let Poll::Ready(Ok(bytes)) = read {
            self.arrived.fetch_add(bytes, Ordering::Relaxed);
        }
        read
    }
}

/// Who comes to a deadline later than this has stood still,
const LATE: Duration = Duration::from_millis(500);
/// and reads for so long what came meanwhile.
const MOMENT: Duration = Duration::from_secs(1);

async fn overdue(deadline: Instant) {
    sleep_until(deadline).await;
    if let Some(until) = moment_after(deadline, Instant::now()) {
        sleep_until(until).await;
    }
}

fn moment_after(deadline: Instant, now: Instant) -> Option<Instant> {
    (now.saturating_duration_since(deadline) > LATE).then(|| now + MOMENT)
}

const fn ended_by(error: &FrameError) -> FetchOutcome {
    match error {
        FrameError::TooLong { .. } | FrameError::NoLength => FetchOutcome::Invalid(None),
        FrameError::Truncated | FrameError::Io(_) => FetchOutcome::Reset,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::io::AsyncWriteExt as _;
    use tokio_util::compat::TokioAsyncReadCompatExt as _;

    use super::*;

    const BLOCK: usize = 4 * STREAM_WINDOW;

    fn head(single_bytes: &Arc<MemoryBudget>) -> (FetchJob, oneshot::Sender<Infallible>) {
        let (wanting, wanted) = oneshot::channel();
        let job = FetchJob {
            request: RequestId(1),
            query: BlockQuery::Head,
            max_bytes: BLOCK,
            max_block_bytes: BLOCK,
            single_bytes: single_bytes.clone(),
            deadline: Instant::now() + Duration::from_hours(1),
            wanted,
        };
        (job, wanting)
    }

    /// An answer with one block of this size.
    fn frame(size: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        wire::put_ok_frame(&vec![7; size].into(), &mut frame);
        frame
    }

    #[tokio::test]
    async fn who_is_silent_holds_no_memory_and_a_large_block_takes_it_when_it_comes() {
        let budget = Arc::new(MemoryBudget::new(BLOCK));
        let mut silent = Vec::new();
        for _ in 0..20 {
            let (near, far) = tokio::io::duplex(64);
            let (job, wanting) = head(&budget);
            let mut running = Box::pin(job.run(near.compat()));
            assert!((&mut running).now_or_never().is_none());
            silent.push((running, far, wanting));
        }
        for size in [BLOCK, 20] {
            let (near, far) = tokio::io::duplex(64);
            let (job, _wanting) = head(&budget);
            let mut far = far.compat();
            let writing = async {
                far.write_all(&frame(size)).await.expect("written");
                far
            };
            let (answer, _far) = futures::join!(job.run(near.compat()), writing);
            let (bodies, outcome) = answer.expect("it is wanted");
            assert_eq!((bodies.len(), bodies[0].len(), outcome), (1, size, FetchOutcome::Complete));
        }
    }

    #[tokio::test]
    async fn a_large_block_waits_for_memory() {
        let budget = Arc::new(MemoryBudget::new(BLOCK));
        let all = budget.take(BLOCK).await;
        let (near, far) = tokio::io::duplex(2 * BLOCK);
        let (job, _wanting) = head(&budget);
        let mut far = far.compat();
        far.write_all(&frame(BLOCK)).await.expect("written");
        let mut running = Box::pin(job.run(near.compat()));
        assert!((&mut running).now_or_never().is_none(), "there is no room for it");
        drop(all);
        let (bodies, outcome) = running.await.expect("it is wanted");
        assert_eq!((bodies.len(), outcome), (1, FetchOutcome::Complete));
    }

    /// Nobody is to blame for it but we.
    #[tokio::test]
    async fn what_there_was_no_room_for_in_time_was_not_sent() {
        let budget = Arc::new(MemoryBudget::new(BLOCK));
        let _all = budget.take(BLOCK).await;
        let (near, far) = tokio::io::duplex(2 * BLOCK);
        let (job, _wanting) = head(&budget);
        let mut far = far.compat();
        far.write_all(&frame(BLOCK)).await.expect("written");
        let answer = FetchJob { deadline: Instant::now(), ..job }.run(near.compat()).await;
        assert_eq!(answer, Some((vec![], FetchOutcome::NotSent)));
    }

    /// It has an hour, and would hold the memory for as long.
    #[tokio::test]
    async fn who_holds_memory_and_does_not_send_is_given_up_long_before_the_deadline() {
        let budget = Arc::new(MemoryBudget::new(BLOCK));
        let (near, far) = tokio::io::duplex(2 * BLOCK);
        let (job, _wanting) = head(&budget);
        let mut far = far.compat();
        far.write_all(&frame(BLOCK)[..1000]).await.expect("written");
        assert_eq!(job.run(near.compat()).await, Some((vec![], FetchOutcome::Timeout)));
    }

    #[test]
    fn what_comes_evenly_is_never_late() {
        let whole = Duration::from_secs(8);
        for length in [1, 1 << 20, 8 << 20, usize::MAX] {
            for millis in (0..=8000_u64).step_by(500) {
                let evenly = u128::from(saturate::to_u64(length)) * u128::from(millis) / 8000;
                let due = due(length, Duration::from_millis(millis), whole);
                assert!(u128::from(saturate::to_u64(due)) <= evenly, "{length} {millis}");
                assert_eq!(due == 0, millis <= 1000 || length == 1, "{length} {millis}");
            }
        }
        assert_eq!(due(100, Duration::from_hours(1), whole), 100);
        assert_eq!(due(100, Duration::from_secs(2), Duration::ZERO), 100);
    }

    #[test]
    fn who_comes_late_to_a_deadline_looks_once_more() {
        let deadline = Instant::now();
        assert_eq!(moment_after(deadline, deadline), None);
        assert_eq!(moment_after(deadline, deadline + LATE), None);
        let late = deadline + LATE + Duration::from_nanos(1);
        assert_eq!(moment_after(deadline, late), Some(late + MOMENT));
    }
}
