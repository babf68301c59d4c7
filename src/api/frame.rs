//! Messages on a byte stream, as Cap'n Proto frames them: a table of segment sizes, then the segments.
//!
//! Invariants:
//! 1. Memory for a message grows as its bytes arrive, never by more than has arrived; a message above the limit is refused
//!    when its table has been read.
//! 2. Whoever stops in the middle of a message, or takes none, fails after a deadline.

use std::future::Future;
use std::time::Duration;

use capnp::message::{Builder, HeapAllocator, ReaderSegments};
use capnp::{Error, Word};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, BufWriter};

use super::limits::Limits;

pub(super) const WORD: usize = 8;
/// Memory is taken in steps of at least this much.
pub(super) const FIRST_STEP_WORDS: usize = 1024;
const MAX_SEGMENTS: usize = 512;
const BUFFER_BYTES: usize = 32 << 10;

/// The messages that come in.
pub(super) struct FrameInput<R> {
    reader: BufReader<R>,
    /// A message has arrived.
    began: bool,
}

impl<R: AsyncRead + Unpin> FrameInput<R> {
    pub fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER_BYTES, reader), began: false }
    }

    /// The next message; `None` when the client has gone.
    pub async fn read(&mut self, limits: &Limits) -> Result<Option<Segments>, Error> {
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
pub(super) struct Segments {
    words: Vec<Word>,
    /// In words.
    ranges: Vec<(usize, usize)>,
}

impl Segments {
    pub fn words(&self) -> usize {
        self.words.len()
    }
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

/// Where messages go.
pub(super) fn buffered<W: AsyncWrite>(to: W) -> BufWriter<W> {
    BufWriter::with_capacity(BUFFER_BYTES, to)
}

pub(super) async fn write_message(
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

/// Something that the client has to let happen.
pub(super) async fn progress<T>(limit: Duration, work: impl Future<Output = std::io::Result<T>>) -> Result<T, Error> {
    in_time(limit, "the client took no answer", work).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use futures::FutureExt as _;

    use super::super::limits::BlockBytes;
    use super::*;

    fn limits() -> Limits {
        Limits::derive(64 << 20, 4, BlockBytes::all(1 << 20)).unwrap()
    }

    fn impatient() -> Limits {
        Limits { frame_deadline: Duration::from_millis(1), stall_deadline: Duration::from_millis(1), ..limits() }
    }

    /// What reading these bytes, and then the end, comes to.
    async fn read(bytes: &[u8]) -> Result<Option<Segments>, Error> {
        let limits = Limits { max_message_bytes: 1 << 20, ..limits() };
        FrameInput::new(bytes).read(&limits).await
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
            FrameInput { reader: BufReader::with_capacity(16, Trickle(asked.clone(), bytes)), began: false };
        assert!(input.read(&Limits { max_message_bytes: 8 << 20, ..limits() }).now_or_never().is_none());
        assert!((16..=FIRST_STEP_WORDS * WORD).contains(&asked.get()), "{} bytes were made room for", asked.get());
    }

    #[tokio::test]
    async fn a_message_that_is_not_ended_ends_the_connection() {
        let (client, server) = tokio::io::duplex(64);
        let mut input = FrameInput::new(server);
        assert!(input.read(&impatient()).await.is_err(), "nothing was ever said");
        let mut client = client;
        client.write_all(&header(&[1])).await.unwrap();
        let error = input.read(&impatient()).await.err().unwrap();
        assert_eq!(error.kind, capnp::ErrorKind::Disconnected, "{error}");
    }
}
