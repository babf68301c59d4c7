//! An emulated link: TCP through this process, delayed and as slow as it is told to be.
//!
//! ```text
//!   dialler --> listener --> [ queue: each chunk leaves when the link has carried it, and half a round trip later ] --> target
//! ```
//!
//! 1. All connections of one link share its bandwidth, each direction its own.
//! 2. The delay is added to each direction; what waits for its time is bounded, so that a sender feels a full link.
//! 3. Every byte is counted, so that whoever measures can tell that his traffic really went through.
//!
//! What it is not: it neither loses nor reorders, and the kernel's own buffers on both sides come on top.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

const CHUNK: usize = 64 << 10;

/// Chunks that wait for their time: twice what a link of 1 Gbit/s has on its way at a round trip of 100 ms.
const WAITING: usize = 256;

/// What the link is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub round_trip: Duration,
    /// `None`: as fast as this machine.
    pub bytes_per_second: Option<u64>,
}

/// One link, through which any number of targets can be reached.
#[derive(Clone)]
pub struct Link {
    shape: Shape,
    /// When each direction will have carried what it was given: towards the target, and back.
    free_at: Arc<[Mutex<Instant>; 2]>,
    carried: Arc<[AtomicU64; 2]>,
}

impl Link {
    pub fn new(shape: Shape) -> Self {
        let now = || Mutex::new(Instant::now());
        Self { shape, free_at: Arc::new([now(), now()]), carried: Arc::new([AtomicU64::new(0), AtomicU64::new(0)]) }
    }

    /// An address on loopback that leads to `target` through the link.
    pub fn to(&self, target: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let link = self.clone();
        std::thread::spawn(move || {
            while let Ok((near, _)) = listener.accept() {
                let Ok(far) = TcpStream::connect(target) else { continue };
                link.carry(&near, &far);
            }
        });
        address
    }

    /// Bytes that came back from the targets.
    pub fn carried_back(&self) -> u64 {
        self.carried[1].load(Ordering::Relaxed)
    }

    fn carry(&self, near: &TcpStream, far: &TcpStream) {
        for (direction, from, to) in [(0, near, far), (1, far, near)] {
            let from = from.try_clone().expect("a descriptor");
            let to = to.try_clone().expect("a descriptor");
            to.set_nodelay(true).expect("TCP");
            let (chunks_in, chunks) = sync_channel(WAITING);
            let link = self.clone();
            std::thread::spawn(move || link.read(direction, from, &chunks_in));
            std::thread::spawn(move || write(to, &chunks));
        }
    }

    fn read(&self, direction: usize, mut from: TcpStream, chunks: &SyncSender<(Instant, Vec<u8>)>) {
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = match from.read(&mut chunk) {
                Ok(0) | Err(_) => return,
                Ok(read) => read,
            };
            chunk.truncate(read);
            self.carried[direction].fetch_add(read as u64, Ordering::Relaxed);
            let there_at = self.carried_at(direction, read) + self.shape.round_trip / 2;
            if chunks.send((there_at, chunk)).is_err() {
                return;
            }
        }
    }

    /// When the link will have carried so many bytes more.
    fn carried_at(&self, direction: usize, bytes: usize) -> Instant {
        let now = Instant::now();
        let Some(bytes_per_second) = self.shape.bytes_per_second else { return now };
        let takes = Duration::from_nanos(bytes as u64 * 1_000_000_000 / bytes_per_second);
        let mut free_at = self.free_at[direction].lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = (*free_at).max(now) + takes;
        *free_at
    }
}

fn write(mut to: TcpStream, chunks: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((there_at, chunk)) = chunks.recv() {
        std::thread::sleep(there_at.saturating_duration_since(Instant::now()));
        if to.write_all(&chunk).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
