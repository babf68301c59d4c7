//! The asking side of the range exchange: one stream, one request, and whatever comes back.
//!
//! Invariants:
//! 1. Blocks that arrived are returned, however the stream ended.
//! 2. No more than the cap is kept, and no more than was asked for.
//! 3. A stream that is given up is reset, so that the other side does not go on.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::wire::{self, FrameError, FrameReader, HeaderRequest, WireAnswer};
use crate::sync::{BlockQuery, FetchOutcome, RequestId};

/// One request, on its way to a stream.
#[derive(Debug)]
pub struct FetchJob {
    pub request: RequestId,
    pub query: BlockQuery,
    /// The most bytes of the whole answer: it is cut before the block that would exceed them, be it the first.
    pub max_bytes: usize,
    pub max_block_bytes: usize,
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
        let outcome = tokio::select! {
            biased;
            _ = &mut wanted => return None,
            outcome = self.exchange(stream, &mut bodies) => outcome,
            () = sleep_until(self.deadline) => FetchOutcome::Timeout,
        };
        Some((bodies, outcome))
    }

    /// The stream is half-closed at once when the answer is a single frame. An answer of many may have to be given up, and yamux
    /// resets a stream that is dropped only while both halves are open: dropped half-closed, the server would wait for a
    /// reader until it loses patience.
    async fn exchange<S>(&self, stream: S, bodies: &mut Vec<Bytes>) -> FetchOutcome
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (reading, mut writing) = stream.split();
        let frame = self.to_request().to_frame();
        if writing.write_all(&frame).await.is_err() || writing.flush().await.is_err() {
            return FetchOutcome::Reset;
        }
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
        let outcome = self.read_answer(first, &mut reader, bodies).await;
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
            let frame = match reader.message(length).await {
                Ok(frame) => frame,
                Err(error) => return ended_by(&error),
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
}

const fn ended_by(error: &FrameError) -> FetchOutcome {
    match error {
        FrameError::TooLong { .. } | FrameError::NoLength => FetchOutcome::Invalid(None),
        FrameError::Truncated | FrameError::Io(_) => FetchOutcome::Reset,
    }
}
