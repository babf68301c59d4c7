//! The asking side of the range exchange: one stream, one request, and whatever comes back.
//!
//! Invariants:
//! 1. Blocks that arrived are returned, however the stream ended.
//! 2. No more than the cap is read, and no more than was asked for.

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::StreamEnded;
use super::wire::{self, Answer, FrameError, FrameReader, HeaderRequest};
use crate::sync::{Ask, RequestId};

/// One request, on its way to a stream.
#[derive(Debug)]
pub struct Job {
    pub request: RequestId,
    pub ask: Ask,
    /// The most bytes of the whole answer; room for one largest block at least.
    pub max_bytes: usize,
    pub max_block_bytes: usize,
    pub deadline: Instant,
}

impl Job {
    fn to_request(&self) -> HeaderRequest {
        match self.ask {
            Ask::Head => HeaderRequest::head(),
            Ask::Range { from, amount } => HeaderRequest::range(from.get(), amount),
            Ask::Hash(hash) => HeaderRequest::hash(&hash.0),
        }
    }

    const fn expected(&self) -> u64 {
        match self.ask {
            Ask::Head | Ask::Hash(_) => 1,
            Ask::Range { amount, .. } => amount,
        }
    }

    /// Asks, and reads the answer.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin + Send>(self, stream: S) -> (Vec<Bytes>, StreamEnded) {
        let mut bodies = Vec::new();
        let ended = match timeout_at(self.deadline, self.exchange(stream, &mut bodies)).await {
            Ok(ended) => ended,
            Err(_) => StreamEnded::Timeout,
        };
        (bodies, ended)
    }

    async fn exchange<S>(&self, mut stream: S, bodies: &mut Vec<Bytes>) -> StreamEnded
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        if stream.write_all(&self.to_request().to_frame()).await.is_err() {
            return StreamEnded::Reset;
        }
        // A Go server closes its reading half after the first frame, so that this may fail in a good exchange.
        let _ = stream.close().await;

        let mut reader = FrameReader::new(stream, self.max_block_bytes.saturating_add(wire::RESPONSE_OVERHEAD));
        let mut room = self.max_bytes;
        while (bodies.len() as u64) < self.expected() {
            let length = match reader.next_length().await {
                Ok(Some(length)) => length,
                // A yamux stream ends the same way when it is reset. Nobody who serves ends it without any frame.
                Ok(None) if bodies.is_empty() => return StreamEnded::Reset,
                Ok(None) => return StreamEnded::Complete,
                Err(error) => return ended_by(&error),
            };
            if length > room && !bodies.is_empty() {
                return StreamEnded::Complete;
            }
            let frame = match reader.message(length).await {
                Ok(frame) => frame,
                Err(error) => return ended_by(&error),
            };
            match wire::decode_response(frame) {
                Some(Answer::Block(body)) if body.len() <= self.max_block_bytes => bodies.push(body),
                Some(Answer::NotFound) => return StreamEnded::NotFound,
                _ => return StreamEnded::Broken,
            }
            room = room.saturating_sub(length);
        }
        StreamEnded::Complete
    }
}

const fn ended_by(error: &FrameError) -> StreamEnded {
    match error {
        FrameError::TooLong { .. } | FrameError::NoLength => StreamEnded::Broken,
        FrameError::Truncated | FrameError::Io(_) => StreamEnded::Reset,
    }
}
