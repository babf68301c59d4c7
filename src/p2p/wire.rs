//! The bytes of the range exchange, `header-ex/v0.0.3`, exactly as go-header writes them: frames of a protobuf message
//! behind its length as an unsigned LEB128 varint.
//!
//! Invariants:
//! 1. Nothing is allocated because a peer announced it: a buffer grows by at most [`STEP`] beyond what has arrived.
//! 2. A frame longer than the reader's limit is refused at its length, before any of it is read.
//! 3. Every complete frame before an error is delivered before the error.

use std::io;

use bytes::Bytes;
use futures::io::{AsyncRead, AsyncReadExt as _};
use prost::Message as _;

/// The longest request that can mean anything is 37 bytes.
pub const MAX_REQUEST_BYTES: usize = 128;

/// What the protobuf of a response may have beside the body.
pub const RESPONSE_OVERHEAD: usize = 64;

/// The most by which a buffer grows beyond what has arrived.
pub const STEP: usize = 64 * 1024;

/// How much is read at once while the next frame's length is unknown.
const AHEAD: usize = 4 * 1024;

/// The longest varint of a `u64`.
const MAX_VARINT: usize = 10;

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HeaderRequest {
    #[prost(oneof = "Data", tags = "1, 2")]
    pub data: Option<Data>,
    #[prost(uint64, tag = "3")]
    pub amount: u64,
}

/// What is asked for. An `Origin` of 0 is written on the wire, because Go tells it from nothing at all.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Data {
    #[prost(uint64, tag = "1")]
    Origin(u64),
    #[prost(bytes = "bytes", tag = "2")]
    Hash(Bytes),
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HeaderResponse {
    #[prost(bytes = "bytes", tag = "1")]
    pub body: Bytes,
    #[prost(int32, tag = "2")]
    pub status_code: i32,
}

/// `INVALID` is 0, and is never sent by anyone who follows the protocol.
pub const OK: i32 = 1;
pub const NOT_FOUND: i32 = 2;

impl HeaderRequest {
    /// The highest block.
    pub const fn head() -> Self {
        Self::range(0, 1)
    }

    pub const fn range(origin: u64, amount: u64) -> Self {
        Self { data: Some(Data::Origin(origin)), amount }
    }

    pub fn hash(hash: &[u8]) -> Self {
        Self { data: Some(Data::Hash(Bytes::copy_from_slice(hash))), amount: 1 }
    }

    pub fn to_frame(&self) -> Vec<u8> {
        self.encode_length_delimited_to_vec()
    }
}

/// The one frame of "I do not have it".
pub const NOT_FOUND_FRAME: [u8; 3] = [2, 0x10, 2];

/// Appends the frame of one block.
pub fn put_ok_frame(body: &Bytes, out: &mut Vec<u8>) {
    let response = HeaderResponse { body: body.clone(), status_code: OK };
    out.reserve(response.encoded_len() + MAX_VARINT);
    response.encode_length_delimited(out).expect("a vector grows as needed");
}

/// What one frame of an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireAnswer {
    /// A block, not empty.
    Block(Bytes),
    NotFound,
}

/// Reads one response. `None`: not a response, or one that nobody may send (`OK` without a block, `INVALID`, another code).
pub fn decode_response(frame: Bytes) -> Option<WireAnswer> {
    let response = HeaderResponse::decode(frame).ok()?;
    match response.status_code {
        OK if !response.body.is_empty() => Some(WireAnswer::Block(response.body)),
        NOT_FOUND => Some(WireAnswer::NotFound),
        _ => None,
    }
}

/// Why there is no further frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {announced} bytes, the limit is {max}")]
    TooLong { announced: u64, max: usize },
    /// The length is not a varint.
    #[error("a frame without a length")]
    NoLength,
    #[error("the stream ended inside of a frame")]
    Truncated,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads frame after frame from a stream.
pub struct FrameReader<R> {
    from: R,
    max: usize,
    ahead: Box<[u8]>,
    /// What of `ahead` is still to be looked at.
    start: usize,
    end: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// `max` bounds the protobuf message, without its length.
    pub fn new(from: R, max: usize) -> Self {
        Self { from, max, ahead: vec![0; AHEAD].into_boxed_slice(), start: 0, end: 0 }
    }

    /// The next frame; `None` at the end of the stream. Not to be called again after an error, or when dropped half-way.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.next_length().await? {
            Some(length) => self.message(length).await.map(Some),
            None => Ok(None),
        }
    }

    /// The length of the next frame, already known to be within the limit: for a caller that has another limit of its own.
    pub async fn next_length(&mut self) -> Result<Option<usize>, FrameError> {
        let mut length = 0_u64;
        for index in 0..MAX_VARINT {
            if self.start == self.end && !self.refill().await? {
                return if index == 0 { Ok(None) } else { Err(FrameError::Truncated) };
            }
            let byte = self.ahead[self.start];
            self.start += 1;
            // The tenth byte has room for one bit.
            if index == MAX_VARINT - 1 && byte > 1 {
                return Err(FrameError::NoLength);
            }
            length |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                return match usize::try_from(length) {
                    Ok(length) if length <= self.max => Ok(Some(length)),
                    _ => Err(FrameError::TooLong { announced: length, max: self.max }),
                };
            }
        }
        Err(FrameError::NoLength)
    }

    /// The message whose length [`Self::next_length`] has just told.
    pub async fn message(&mut self, length: usize) -> Result<Bytes, FrameError> {
        let mut message = Vec::new();
        while message.len() < length {
            let missing = length - message.len();
            let step = missing.min(STEP);
            message.reserve_exact(step);
            let buffered = &self.ahead[self.start..self.end];
            if !buffered.is_empty() {
                let taken = buffered.len().min(step);
                message.extend_from_slice(&buffered[..taken]);
                self.start += taken;
            } else if missing < AHEAD {
                // The rest is short, so what follows it may be read along.
                if !self.refill().await? {
                    return Err(FrameError::Truncated);
                }
            } else {
                let arrived = message.len();
                message.resize(arrived + step, 0);
                let read = self.from.read(&mut message[arrived..]).await?;
                if read == 0 {
                    return Err(FrameError::Truncated);
                }
                message.truncate(arrived + read);
            }
        }
        Ok(message.into())
    }

    /// Gives the stream back; what was read ahead is lost.
    pub fn into_inner(self) -> R {
        self.from
    }

    /// Whether there was anything more to read.
    async fn refill(&mut self) -> io::Result<bool> {
        self.start = 0;
        self.end = 0;
        self.end = self.from.read(&mut self.ahead).await?;
        Ok(self.end > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        crate::util::hex::decode(text.replace(' ', "").as_bytes()).expect("hex digits")
    }

    /// Gives out its bytes in pieces of the given sizes, over and over, then ends, or fails.
    struct FramePieces<'a> {
        bytes: &'a [u8],
        sizes: Vec<usize>,
        turn: usize,
        fails: bool,
        /// The largest buffer that anyone held out, which bounds what was allocated for it.
        widest: usize,
    }

    impl AsyncRead for FramePieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            self.widest = self.widest.max(into.len());
            if self.bytes.is_empty() && self.fails {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            let size = self.sizes[self.turn % self.sizes.len()].min(into.len()).min(self.bytes.len());
            self.turn += 1;
            let (now, later) = self.bytes.split_at(size);
            into[..size].copy_from_slice(now);
            self.bytes = later;
            Poll::Ready(Ok(size))
        }
    }

    fn pieces(bytes: &[u8], sizes: Vec<usize>) -> FramePieces<'_> {
        FramePieces { bytes, sizes, turn: 0, fails: false, widest: 0 }
    }

    /// All frames, and how it ended.
    fn frames(from: FramePieces<'_>, max: usize) -> (Vec<Bytes>, Result<(), FrameError>) {
        let mut reader = FrameReader::new(from, max);
        let mut frames = Vec::new();
        let ended = loop {
            match block_on(reader.next()) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        (frames, ended)
    }

    #[test]
    fn requests_are_go_headers_bytes() {
        let hash: Vec<u8> = (0..32).collect();
        let golden = [
            (HeaderRequest::head(), hex("04 08 00 18 01")),
            (HeaderRequest::range(5, 3), hex("04 08 05 18 03")),
            (HeaderRequest::range(1_000_000, 64), hex("06 08 c0 84 3d 18 40")),
            (HeaderRequest::hash(&hash), [hex("24 12 20"), hash.clone(), hex("18 01")].concat()),
        ];
        for (request, bytes) in golden {
            assert_eq!(request.to_frame(), bytes, "{request:?}");
            let (read, ended) = frames(pieces(&bytes, vec![1]), MAX_REQUEST_BYTES);
            ended.expect("it ends after the frame");
            assert_eq!(HeaderRequest::decode(read[0].clone()).expect("a request"), request);
        }
    }

    #[test]
    fn responses_are_go_headers_bytes() {
        let mut frame = Vec::new();
        put_ok_frame(&Bytes::from_static(b"abc"), &mut frame);
        assert_eq!(frame, hex("07 0a 03 61 62 63 10 01"));
        assert_eq!(
            decode_response(Bytes::copy_from_slice(&frame[1..])),
            Some(WireAnswer::Block(Bytes::from_static(b"abc")))
        );
        let not_found = HeaderResponse { body: Bytes::new(), status_code: NOT_FOUND };
        assert_eq!(not_found.encode_length_delimited_to_vec(), NOT_FOUND_FRAME);
        assert_eq!(decode_response(Bytes::from_static(&NOT_FOUND_FRAME[1..])), Some(WireAnswer::NotFound));
    }

    #[test]
    fn responses_that_nobody_may_send_are_refused() {
        for bad in ["", "10 00", "10 01", "0a 03 61 62 63", "0a 03 61 62 63 10 07", "0a 04 61 62 63", "08 01", "ff"] {
            assert_eq!(decode_response(hex(bad).into()), None, "{bad}");
        }
    }

    #[test]
    fn an_origin_of_zero_is_told_from_none() {
        let none = HeaderRequest::decode(&hex("18 01")[..]).expect("a request");
        assert_eq!(none.data, None);
        // The last one counts, and unknown fields are skipped, as in Go.
        let last = HeaderRequest::decode(&hex("08 05 08 07 18 02 20 09")[..]).expect("a request");
        assert_eq!(last, HeaderRequest::range(7, 2));
    }

    #[test]
    fn frames_before_an_error_are_delivered() {
        let mut bytes = Vec::new();
        put_ok_frame(&Bytes::from_static(b"abc"), &mut bytes);
        put_ok_frame(&Bytes::from_static(b"defg"), &mut bytes);
        let whole = bytes.len();
        // Cut inside of the second frame.
        let (read, ended) = frames(pieces(&bytes[..whole - 1], vec![3]), 100);
        assert_eq!(read.len(), 1);
        assert!(matches!(ended, Err(FrameError::Truncated)), "{ended:?}");
        // Reset after the second frame.
        let (read, ended) = frames(FramePieces { fails: true, ..pieces(&bytes, vec![1000]) }, 100);
        assert_eq!(read.len(), 2);
        assert!(matches!(ended, Err(FrameError::Io(_))), "{ended:?}");
    }

    #[test]
    fn a_length_is_refused_before_its_frame_is_read() {
        let (_, ended) = frames(pieces(&hex("81 01 00"), vec![1]), 128);
        assert!(matches!(ended, Err(FrameError::TooLong { announced: 129, max: 128 })), "{ended:?}");
        let (read, ended) = frames(pieces(&[&hex("80 01")[..], &[0; 128]].concat(), vec![7]), 128);
        assert!(ended.is_ok() && read[0].len() == 128);
        for no_length in ["ff ff ff ff ff ff ff ff ff 02", "80 80 80 80 80 80 80 80 80 80 01"] {
            let (_, ended) = frames(pieces(&hex(no_length), vec![1]), 128);
            assert!(matches!(ended, Err(FrameError::NoLength)), "{ended:?}");
        }
        let (_, ended) = frames(pieces(&hex("ff ff ff ff ff ff ff ff ff 01"), vec![1]), 128);
        assert!(matches!(ended, Err(FrameError::TooLong { announced: u64::MAX, .. })), "{ended:?}");
    }

    #[test]
    fn an_announced_length_allocates_nothing() {
        // 8 MiB announced, 5 bytes delivered.
        let bytes = [hex("80 80 80 04"), vec![1; 5]].concat();
        let mut reader = FrameReader::new(pieces(&bytes, vec![1]), 8 << 20);
        assert!(matches!(block_on(reader.next()), Err(FrameError::Truncated)));
        assert!(reader.from.widest <= STEP, "{}", reader.from.widest);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9000), 0..5),
            sizes in prop::collection::vec(1_usize..70_000, 1..8),
        ) {
            let mut bytes = Vec::new();
            for body in &bodies {
                put_ok_frame(&Bytes::copy_from_slice(body), &mut bytes);
            }
            let (read, ended) = frames(pieces(&bytes, sizes), 1 << 20);
            prop_assert!(ended.is_ok());
            let answers: Vec<_> = read.into_iter().map(decode_response).collect();
            let expected: Vec<_> = bodies.into_iter().map(|body| Some(WireAnswer::Block(body.into()))).collect();
            prop_assert_eq!(answers, expected);
        }

        #[test]
        fn any_bytes_are_read_without_panic_and_within_bounds(
            bytes in prop::collection::vec(any::<u8>(), 0..300), size in 1_usize..50, fails in any::<bool>(),
        ) {
            let (read, _) = frames(FramePieces { fails, ..pieces(&bytes, vec![size]) }, MAX_REQUEST_BYTES);
            for frame in read {
                prop_assert!(frame.len() <= MAX_REQUEST_BYTES);
                let _ = HeaderRequest::decode(frame.clone());
                let _ = decode_response(frame);
            }
        }

        #[test]
        fn mutated_requests_are_read_without_panic(
            at in 0_usize..37, to in any::<u8>(), cut in 0_usize..38,
        ) {
            let mut frame = HeaderRequest::hash(&[9; 32]).to_frame();
            frame[at] = to;
            frame.truncate(cut);
            let (read, _) = frames(pieces(&frame, vec![5]), MAX_REQUEST_BYTES);
            for frame in read {
                let _ = HeaderRequest::decode(frame);
            }
        }
    }
}
