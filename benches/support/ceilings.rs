//! What the machine can do at best: each ceiling does the least that a job could take, and nothing of ours that could be slow.
//!
//! | ceiling | what it does |
//! |---|---|
//! | [`Appender`] | appends to a file, and syncs it: what a durable answer cannot be faster than |
//! | [`copy_over_tcp`], [`copy_over_unix`] | one thread writes, another reads |
//! | [`copy_over_noise_and_yamux`] | the same over libp2p's secure, multiplexed stream, both ends in this process |
//! | [`check_blocks`] | signature, hashes and framing of every block, on all cores |
//!
//! Included with `#[path]`, so not every benchmark uses all of it.
#![allow(dead_code)]

use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use blocksyncd::block::Lane;
use blocksyncd::verify::Rules;
use bytes::Bytes;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::core::Transport as _;
use libp2p::core::multiaddr::Protocol;
use libp2p::core::muxing::{StreamMuxerBox, StreamMuxerExt, SubstreamBox};
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, PortUse, TransportEvent};
use libp2p::core::upgrade::Version;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::identity::Keypair;
use libp2p::{PeerId, noise, tcp, yamux};

use super::host::local;

const CHUNK: usize = 64 << 10;

/// The way of whoever takes none.
pub fn direct(address: SocketAddr) -> SocketAddr {
    address
}

/// Bytes that do not compress, and differ from seed to seed.
pub fn random(size: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}

/// A file that grows by synced appends.
pub struct Appender {
    file: File,
    path: PathBuf,
    bytes: Bytes,
}

impl Appender {
    /// Each append has `size` bytes.
    pub fn new(dir: &Path, size: usize) -> Self {
        let path = dir.join("ceiling");
        Self { file: File::create(&path).expect("a file"), path, bytes: random(size, 1) }
    }

    /// One append, durable when it returns.
    pub fn append(&mut self) -> Duration {
        let begun = Instant::now();
        self.file.write_all(&self.bytes).expect("there is room");
        self.file.sync_data().expect("it syncs");
        begun.elapsed()
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A TCP connection to somebody who answers each message of `size` bytes with one byte.
pub struct Echo {
    here: TcpStream,
    message: Bytes,
}

impl Echo {
    pub fn new(size: usize) -> Self {
        let (here, mut there) = tcp_pair(direct);
        std::thread::spawn(move || {
            let mut bytes = vec![0; size];
            while there.read_exact(&mut bytes).is_ok() && there.write_all(&bytes[..1]).is_ok() {}
        });
        Self { here, message: random(size, 2) }
    }

    pub fn round_trip(&mut self) -> Duration {
        let begun = Instant::now();
        self.here.write_all(&self.message).expect("the other side reads");
        self.here.read_exact(&mut [0]).expect("the other side answers");
        begun.elapsed()
    }
}

/// `way` leads to the address of whoever listens: to itself, or through a link.
pub fn copy_over_tcp(bytes: usize, way: impl FnOnce(SocketAddr) -> SocketAddr) -> Duration {
    let (here, there) = tcp_pair(way);
    copy(there, here, bytes)
}

pub fn copy_over_unix(bytes: usize) -> Duration {
    let (here, there) = UnixStream::pair().expect("a socket pair");
    copy(here, there, bytes)
}

/// Whoever dialled, and whoever listened.
fn tcp_pair(way: impl FnOnce(SocketAddr) -> SocketAddr) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = way(listener.local_addr().expect("bound"));
    let here = TcpStream::connect(address).expect("loopback");
    let (there, _) = listener.accept().expect("loopback");
    here.set_nodelay(true).and_then(|()| there.set_nodelay(true)).expect("TCP");
    (here, there)
}

fn copy(mut from: impl Write + Send + 'static, mut to: impl Read, bytes: usize) -> Duration {
    let begun = Instant::now();
    let writer = std::thread::spawn(move || {
        let chunk = random(CHUNK, 3);
        let mut left = bytes;
        while left > 0 {
            let now = left.min(CHUNK);
            from.write_all(&chunk[..now]).expect("the other side reads");
            left -= now;
        }
    });
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let most = left.min(CHUNK);
        left -= to.read(&mut chunk[..most]).expect("the other side writes");
    }
    writer.join().expect("it ends");
    begun.elapsed()
}

/// Checks each block once, the blocks shared out evenly over all cores.
pub fn check_blocks(rules: &Rules, blocks: &[Bytes]) -> Duration {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for share in blocks.chunks(blocks.len().div_ceil(cores)) {
            scope.spawn(move || {
                for block in share {
                    rules.check(Lane::BLOCK, block).expect("they are valid");
                }
            });
        }
    });
    begun.elapsed()
}

// ---------------------------------------------------------------------------------------------------------------------
// libp2p's transport, and nothing above it

/// Copies over one stream of one connection from who listens to who dialled, each end on a thread of its own, from the request
/// to the last byte. The handshakes are not counted.
pub fn copy_over_noise_and_yamux(bytes: usize, way: impl FnOnce(SocketAddr) -> SocketAddr) -> Duration {
    let (address_in, address) = std::sync::mpsc::channel();
    let sender = std::thread::spawn(move || local(send(bytes, address_in)));
    let address = way(address.recv().expect("it listens"));
    let took = local(receive(bytes, address));
    sender.join().expect("it ends");
    took
}

async fn receive(bytes: usize, address: SocketAddr) -> Duration {
    let address: Multiaddr = format!("/ip4/{}/tcp/{}", address.ip(), address.port()).parse().expect("an address");
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let (_, connection) = transport().dial(address, options).expect("TCP").await.expect("a handshake");
    let mut stream = open(connection, StreamMuxerExt::poll_outbound_unpin).await;
    let begun = Instant::now();
    stream.write_all(&[0]).await.expect("the other side reads");
    stream.flush().await.expect("the other side reads");
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let read = stream.read(&mut chunk).await.expect("the other side writes");
        assert!(read > 0, "the other side ended early");
        left -= read;
    }
    let took = begun.elapsed();
    stream.close().await.expect("the other side waits for it");
    took
}

async fn send(bytes: usize, address: std::sync::mpsc::Sender<SocketAddr>) {
    let mut transport = transport();
    transport.listen_on(ListenerId::next(), "/ip4/127.0.0.1/tcp/0".parse().expect("an address")).expect("loopback");
    let connection = loop {
        match transport.next().await.expect("it goes on") {
            TransportEvent::NewAddress { listen_addr, .. } => {
                let port = listen_addr.iter().find_map(|part| match part {
                    Protocol::Tcp(port) => Some(port),
                    _ => None,
                });
                address.send(([127, 0, 0, 1], port.expect("TCP")).into()).expect("somebody dials");
            }
            TransportEvent::Incoming { upgrade, .. } => break upgrade.await.expect("a handshake").1,
            _ => {}
        }
    };
    let mut stream = open(connection, StreamMuxerExt::poll_inbound_unpin).await;
    stream.read_exact(&mut [0]).await.expect("the other side asks");
    let chunk = random(CHUNK, 3);
    let mut left = bytes;
    while left > 0 {
        let now = left.min(CHUNK);
        stream.write_all(&chunk[..now]).await.expect("the other side reads");
        left -= now;
    }
    stream.flush().await.expect("the other side reads");
    // Until it has all.
    let _ = stream.read(&mut [0]).await;
}

/// One stream of the connection, which runs beside it from then on.
async fn open(
    mut connection: StreamMuxerBox,
    mut poll: impl FnMut(&mut StreamMuxerBox, &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<SubstreamBox>>,
) -> SubstreamBox {
    let stream = poll_fn(|context| {
        if let std::task::Poll::Ready(stream) = poll(&mut connection, context) {
            return std::task::Poll::Ready(stream);
        }
        let _ = connection.poll_unpin(context);
        std::task::Poll::Pending
    });
    let stream = stream.await.expect("a stream");
    tokio::task::spawn_local(poll_fn(move |context| {
        while let std::task::Poll::Ready(Ok(_)) = connection.poll_unpin(context) {}
        std::task::Poll::<()>::Pending
    }));
    stream
}

fn transport() -> Boxed<(PeerId, StreamMuxerBox)> {
    let keypair = Keypair::generate_ed25519();
    tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&keypair).expect("a sound key"))
        .multiplex(yamux::Config::default())
        .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        .boxed()
}
