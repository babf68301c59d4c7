//! What the sidecar costs: real processes, real sockets, real disks, each beside a ceiling measured in the same run.
//!
//! ```text
//! cargo bench --bench sidecar              # everything, a few minutes
//! cargo bench --bench sidecar -- --quick   # a tenth of it, to see that it works
//! ```
//!
//! It prints the tables of `BENCHMARKS.md`. What is quoted is the ratio to the ceiling: absolute numbers belong to a machine.
//! The ceilings do the least that the job could take, in this process, alone on the machine: an append and an fsync of the
//! same bytes, a copy of the same bytes over loopback TCP, or over a Unix socket.

#[path = "../tests/support/process.rs"]
mod process;

use std::fs::File;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blocksyncd::api::client::{
    Client, Event, Hello, NewBlock, Payload, PublishResult, Publisher, Roles, Session, Start, StreamOptions,
};
use blocksyncd::block::Height;
use bytes::Bytes;
use process::{Sidecar, TempDir, init_follower, init_sequencer};

/// A long poll; it is repeated.
const POLL: Duration = Duration::from_secs(5);

/// Publishes that are under way at the same time while a chain is made.
const IN_FLIGHT: u64 = 6;

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let share = if quick { 10 } else { 1 };
    println!("| case | measured | ceiling | ratio |\n|---|---|---|---|");
    publish(1_000 / share);
    catch_up_and_stream(1 << 10, 100_000 / share);
    catch_up_and_stream(1 << 20, 1_000 / share);
}

/// Publish to durable reply, and to the soft event at another host.
fn publish(count: u64) {
    let dir = TempDir::new();
    let (sequencer, follower) = pair(&dir);
    let payload = payload(1 << 10, 0);
    let (mut replies, mut softs) = local(async {
        let ours = open(&sequencer).await;
        let theirs = open(&follower).await;
        let observer = theirs.observer.as_ref().expect("asked for");
        let stream = observer.stream(&Start::Genesis, &StreamOptions::default()).await.expect("a stream");
        let publisher = ours.publisher.as_ref().expect("asked for");
        let (mut replies, mut softs) = (Vec::new(), Vec::new());
        for height in 1..=count {
            let begun = Instant::now();
            let told = async {
                loop {
                    let batch = stream.next(0, 0, POLL).await.expect("the follower goes on");
                    let is_it = |event: &Event| matches!(event, Event::Soft(block) if block.id.height.get() == height);
                    if batch.events.iter().any(is_it) {
                        return begun.elapsed();
                    }
                }
            };
            let replied = async {
                publish_one(publisher, height, payload.clone()).await;
                begun.elapsed()
            };
            let (reply, soft) = futures::join!(replied, told);
            replies.push(reply);
            softs.push(soft);
        }
        (replies, softs)
    });
    let mut appends = append_and_sync(dir.path(), count, 1, payload.len() + 300);
    let mut trips = round_trips(count, payload.len());
    // What it takes at least: to sync at one node, to cross over, to sync at the other.
    let mut least: Vec<Duration> = appends.iter().zip(&trips).map(|(append, trip)| *append * 2 + *trip / 2).collect();
    latency("publish 1 KiB → durable reply", &mut replies, "append + fdatasync", &mut appends);
    latency(
        "publish 1 KiB → soft event at another host",
        &mut softs,
        "two such, and half a TCP round trip",
        &mut least,
    );
    trips.clear();
    follower.stop();
    sequencer.stop();
}

/// A node that starts late fetches the whole chain from one peer; then its host reads all of it.
fn catch_up_and_stream(size: usize, count: u64) {
    let dir = TempDir::new();
    let (sequencer, genesis) = sequencer(&dir);
    make_chain(&sequencer, size, count);

    let home = dir.join("late");
    init_follower(&home, &genesis);
    let seed = sequencer.address();
    let begun = Instant::now();
    let follower = Sidecar::start(&home, &["--listen", "/ip4/127.0.0.1/tcp/0", "--seed", &seed]);
    let caught_up = local(async {
        let host = open(&follower).await;
        let observer = host.observer.as_ref().expect("asked for");
        let options = StreamOptions { with_bodies: false, ..StreamOptions::default() };
        let stream = observer.stream(&Start::Tip, &options).await.expect("a stream");
        loop {
            let batch = stream.next(0, 0, POLL).await.expect("the follower goes on");
            if batch.heads.soft.is_some_and(|soft| soft.height.get() >= count) {
                return begun.elapsed();
            }
        }
    });
    let rss = peak_rss(follower.pid());
    let told = local(async {
        let host = open(&follower).await;
        let observer = host.observer.as_ref().expect("asked for");
        let stream = observer.stream(&Start::Genesis, &StreamOptions::default()).await.expect("a stream");
        let begun = Instant::now();
        let mut seen = 0;
        while seen < count {
            for event in stream.next(0, 0, POLL).await.expect("the follower goes on").events {
                if let Event::Soft(block) = event {
                    assert!(
                        matches!(&block.payload, Payload::Bytes(bytes) if bytes.len() == size),
                        "bodies were asked for"
                    );
                    seen += 1;
                }
            }
        }
        begun.elapsed()
    });
    follower.stop();
    sequencer.stop();

    let bytes = size * usize::try_from(count).expect("it fits");
    let name = if size >= 1 << 20 { format!("{} MiB", size >> 20) } else { format!("{} KiB", size >> 10) };
    let tcp = copy_over_tcp(bytes);
    let disk: Duration = append_and_sync(dir.path(), count.div_ceil(64), 64, size).iter().sum();
    let unix = copy_over_unix(bytes);
    let what = format!("catch-up of {count} x {name}, one peer, process start included; peak RSS {} MiB", rss >> 20);
    rate(&what, count, bytes, caught_up, "loopback TCP copy", tcp);
    rate(&format!("the same, {count} x {name}"), count, bytes, caught_up, "append, fdatasync per 64 blocks", disk);
    rate(&format!("`next` stream of {count} x {name}"), count, bytes, told, "Unix socket copy", unix);
}

// ---------------------------------------------------------------------------------------------------------------------
// The sidecars and their hosts

fn sequencer(dir: &TempDir) -> (Sidecar, std::path::PathBuf) {
    let home = dir.join("seq");
    init_sequencer(&home, "bench");
    let sequencer = Sidecar::start(&home, &["--listen", "/ip4/127.0.0.1/tcp/0"]);
    (sequencer, home.join("genesis.toml"))
}

fn pair(dir: &TempDir) -> (Sidecar, Sidecar) {
    let (sequencer, genesis) = sequencer(dir);
    let home = dir.join("full");
    init_follower(&home, &genesis);
    let seed = sequencer.address();
    let follower = Sidecar::start(&home, &["--listen", "/ip4/127.0.0.1/tcp/0", "--seed", &seed]);
    local(async {
        let observer = open(&sequencer).await.observer.expect("asked for");
        while observer.status().await.expect("the sequencer goes on").peers == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    (sequencer, follower)
}

async fn open(sidecar: &Sidecar) -> Session {
    let client = Client::connect(&sidecar.socket()).await.expect("it is ready");
    let roles = Roles { observer: true, publisher: true, reporter: false };
    let hello = Hello { name: "bench".into(), roles, ..Hello::default() };
    client.open(&hello, None).await.expect("nobody else has the roles")
}

fn make_chain(sequencer: &Sidecar, size: usize, count: u64) {
    local(async {
        let host = open(sequencer).await;
        let publisher = host.publisher.as_ref().expect("asked for");
        let heights: Vec<u64> = (1..=count).collect();
        for heights in heights.chunks(usize::try_from(IN_FLIGHT).expect("small")) {
            let calls = heights.iter().map(|height| publish_one(publisher, *height, payload(size, *height)));
            futures::future::join_all(calls).await;
        }
    });
}

async fn publish_one(publisher: &Publisher, height: u64, payload: Bytes) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_nanos();
    let block = NewBlock {
        height: Height::new(height).expect("from 1 on"),
        parent: None,
        time_unix_nanos: u64::try_from(now).expect("before 2554"),
        host_id: Bytes::new(),
        payload,
    };
    loop {
        match publisher.publish(&block).await.expect("the sequencer goes on") {
            PublishResult::Accepted(_) => return,
            // Only while a chain is made: too many at once, or one before this one was one of them.
            PublishResult::Overloaded { .. } | PublishResult::NotNext { .. } => {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            other => panic!("block {height}: {other:?}"),
        }
    }
}

/// Bytes that do not compress, and differ from block to block.
fn payload(size: usize, height: u64) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(height).fill(&mut bytes);
    bytes.into()
}

fn local<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// The most memory that the process ever had, in bytes.
fn peak_rss(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") << 10
}

// ---------------------------------------------------------------------------------------------------------------------
// The ceilings

/// Appends `batch` blocks of `size` bytes and syncs, `count` times.
fn append_and_sync(dir: &Path, count: u64, batch: usize, size: usize) -> Vec<Duration> {
    let mut file = File::create(dir.join("ceiling")).expect("a file");
    let bytes = payload(size * batch, 1);
    let durations = (0..count).map(|_| {
        let begun = Instant::now();
        file.write_all(&bytes).expect("there is room");
        file.sync_data().expect("it syncs");
        begun.elapsed()
    });
    let durations = durations.collect();
    std::fs::remove_file(dir.join("ceiling")).expect("it was there");
    durations
}

fn round_trips(count: u64, size: usize) -> Vec<Duration> {
    let (mut here, mut there) = tcp_pair();
    let echo = std::thread::spawn(move || {
        let mut bytes = vec![0; size];
        while there.read_exact(&mut bytes).is_ok() && there.write_all(&bytes[..1]).is_ok() {}
    });
    let bytes = payload(size, 2);
    let trips = (0..count).map(|_| {
        let begun = Instant::now();
        here.write_all(&bytes).expect("the other side reads");
        here.read_exact(&mut [0]).expect("the other side answers");
        begun.elapsed()
    });
    let trips = trips.collect();
    drop(here);
    echo.join().expect("it ends with the connection");
    trips
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let here = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
    let (there, _) = listener.accept().expect("loopback");
    here.set_nodelay(true).and_then(|()| there.set_nodelay(true)).expect("TCP");
    (here, there)
}

fn copy_over_tcp(bytes: usize) -> Duration {
    let (here, there) = tcp_pair();
    copy(here, there, bytes)
}

fn copy_over_unix(bytes: usize) -> Duration {
    let (here, there) = UnixStream::pair().expect("a socket pair");
    copy(here, there, bytes)
}

fn copy(mut from: impl std::io::Write + Send + 'static, mut to: impl std::io::Read, bytes: usize) -> Duration {
    const CHUNK: usize = 64 << 10;
    let begun = Instant::now();
    let writer = std::thread::spawn(move || {
        let chunk = payload(CHUNK, 3);
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

// ---------------------------------------------------------------------------------------------------------------------
// The tables

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn latency(what: &str, measured: &mut [Duration], ceiling_is: &str, ceiling: &mut [Duration]) {
    let percentile = |durations: &mut [Duration], percent: usize| {
        durations.sort_unstable();
        durations[(durations.len() * percent / 100).min(durations.len() - 1)].as_secs_f64() * 1e3
    };
    let (p50, p99) = (percentile(measured, 50), percentile(measured, 99));
    let (c50, c99) = (percentile(ceiling, 50), percentile(ceiling, 99));
    println!(
        "| {what} | p50 {p50:.2} ms, p99 {p99:.2} ms | {ceiling_is}: p50 {c50:.2} ms, p99 {c99:.2} ms | {:.1} x at p50 |",
        p50 / c50
    );
}

#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn rate(what: &str, count: u64, bytes: usize, measured: Duration, ceiling_is: &str, ceiling: Duration) {
    let mib = bytes as f64 / f64::from(1 << 20);
    let per_second = |duration: Duration| (count as f64 / duration.as_secs_f64(), mib / duration.as_secs_f64());
    let ((blocks, speed), (most, top)) = (per_second(measured), per_second(ceiling));
    println!(
        "| {what} | {blocks:.0} blocks/s, {speed:.1} MiB/s | {ceiling_is}: {most:.0} blocks/s, {top:.0} MiB/s | {:.3} |",
        speed / top
    );
}
