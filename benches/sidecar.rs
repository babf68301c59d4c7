//! What the sidecar costs: real processes, real sockets, real disks, each beside a ceiling measured in the same run.
//!
//! ```text
//! cargo bench --bench sidecar              # everything, a few minutes
//! cargo bench --bench sidecar -- --quick   # a tenth of it, to see that it works
//! cargo bench --bench sidecar -- --case small   # one of publish, small (blocks of 1 KiB), large (1 MiB)
//! ```
//!
//! It prints the tables of `BENCHMARKS.md`. What is quoted is the ratio to the ceiling: absolute numbers belong to a machine.
//! The ceilings do the least that the job could take, in this process, alone on the machine: an append and an fsync of the
//! same bytes, a copy of the same bytes over loopback TCP, or over a Unix socket.

#[path = "../tests/support/blocks.rs"]
mod blocks;
#[path = "support/ceilings.rs"]
mod ceilings;
#[path = "support/host.rs"]
mod host;
#[path = "../tests/support/process.rs"]
mod process;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use blocksyncd::api::client::{
    Client, Event, Hello, Payload, ProposedBlock, PublishResult, Publisher, Roles, Session, Start, StreamOptions,
};
use blocksyncd::block::Height;
use bytes::Bytes;
use ceilings::{
    Appender, Echo, check_blocks, copy_over_noise_and_yamux, copy_over_tcp, copy_over_unix, direct, random,
};
use host::{local, until_soft};
use process::{Sidecar, TempDir, init_follower, init_sequencer, peak_rss};

/// Publishes that are under way at the same time while a chain is made.
const IN_FLIGHT: u64 = 6;

/// A long poll; it is repeated.
const POLL: Duration = Duration::from_secs(5);

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let share = if quick { 10 } else { 1 };
    let only = std::env::args().skip_while(|arg| arg != "--case").nth(1);
    let wanted = |case: &str| only.as_deref().is_none_or(|only| only == case);
    println!("| case | measured | ceiling | ratio |\n|---|---|---|---|");
    if wanted("publish") {
        publish(1_000 / share);
    }
    if wanted("small") {
        catch_up_and_stream(1 << 10, 100_000 / share);
    }
    if wanted("large") {
        catch_up_and_stream(1 << 20, 1_000 / share);
    }
}

/// A host that observes and may publish.
async fn open(sidecar: &Sidecar) -> Session {
    let client = Client::connect(&sidecar.socket()).await.expect("it is ready");
    let roles = Roles { observer: true, publisher: true, reporter: false };
    let hello = Hello { name: "bench".into(), roles, ..Hello::default() };
    client.open(&hello, None).await.expect("nobody else has the roles")
}

/// Publish to durable reply, and to the soft event at another host.
fn publish(count: u64) {
    let dir = TempDir::new();
    let (sequencer, follower) = pair(&dir);
    let payload = payload(1 << 10, 0);
    // Beside each publish, since a disk is not the same from one second to the next.
    let mut appender = Appender::new(dir.path(), payload.len() + 300);
    let mut echo = Echo::new(payload.len());
    let (mut appends, mut least) = (Vec::new(), Vec::new());
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
            let append = appender.append();
            appends.push(append);
            // To sync at one node, to cross over, to sync at the other.
            least.push(append + echo.round_trip() / 2 + appender.append());
        }
        (replies, softs)
    });
    latency("publish 1 KiB → durable reply", &mut replies, "append + fdatasync", &mut appends);
    latency(
        "publish 1 KiB → soft event at another host",
        &mut softs,
        "two such, and half a TCP round trip",
        &mut least,
    );
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
        until_soft(&follower, count).await;
        begun.elapsed()
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
    let mut appender = Appender::new(dir.path(), size * 64);
    let disk: Duration = (0..count.div_ceil(64)).map(|_| appender.append()).sum();
    let unix = copy_over_unix(bytes);
    let what = format!("catch-up of {count} x {name}, one peer, process start included; peak RSS {} MiB", rss >> 20);
    let ceilings = [
        ("loopback TCP copy", copy_over_tcp(bytes, direct)),
        ("the same under noise and yamux", copy_over_noise_and_yamux(bytes, direct)),
        ("checks of all blocks on all cores, and nothing else", check_all(size, count)),
        ("append, fdatasync per 64 blocks", disk),
    ];
    for (ceiling_is, ceiling) in ceilings {
        rate(&what, count, bytes, caught_up, ceiling_is, ceiling);
    }
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
    let block = ProposedBlock {
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

fn payload(size: usize, height: u64) -> Bytes {
    random(size, height)
}

/// How long the checks of so many such blocks take: of a thousand of them, again and again.
fn check_all(size: usize, count: u64) -> Duration {
    let sample = count.min(1_000).min((64 << 20) / size as u64);
    let blocks: Vec<Bytes> =
        blocks::build_chain(sample, size).iter().map(|block| block.block().bytes().clone()).collect();
    let all: Vec<Bytes> = blocks.iter().cycle().take(usize::try_from(count).expect("it fits")).cloned().collect();
    check_blocks(&blocks::rules(), &all)
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
