//! Catching up: how fast a node that starts late gets a whole chain from its peers, over an emulated link.
//!
//! ```text
//! cargo bench --bench catchup                     # the whole table
//! cargo bench --bench catchup -- --rtt-ms 50 --peers 1 --block-bytes 1024 --blocks 20000 --json    # one case
//! ```
//!
//! | option | default | |
//! |---|---|---|
//! | `--rtt-ms` | 0 | round trip of the link |
//! | `--mbit` | unlimited | bandwidth of the link, each direction, shared by all peers |
//! | `--peers` | 1 | peers that serve |
//! | `--block-bytes` | 1024 | payload of a block |
//! | `--blocks` | 20000 | length of the chain |
//! | `--json` | | one JSON object instead of a row |
//!
//! What is real: the processes, the sockets, the disk. Every serving peer is a `blocksyncd` with the same chain in its store, and
//! each is reached only through the link, which counts what it carries: a case whose chain did not go through it fails.
//! The clock runs from the moment at which the late node is ready until all blocks are soft there, which is durable.
//!
//! go-header's `Syncer` does the same behind a link of the same shape, with the same serving peers, after us: in Go, on badger,
//! already connected when its clock starts, for the first [`GO_BLOCKS`] blocks at most, since it takes its time. Where Go is
//! not installed its figure is null, and the reason is said.
//!
//! The disk has nothing left to write of what was prepared when a clock starts.
//!
//! The ceilings are measured in the same run, on the same cores, with nothing else running: a copy of as many bytes over TCP
//! through the link, the same under noise and yamux, the checks of all blocks, appends to a store, and the last three at the
//! same time, since they have to share the cores.

#[path = "../tests/support/blocks.rs"]
mod blocks;
#[path = "support/ceilings.rs"]
mod ceilings;
#[path = "../tests/support/copy_dir.rs"]
mod copy_dir;
#[path = "support/go_header.rs"]
mod go_header;
#[path = "support/host.rs"]
mod host;
#[path = "support/link.rs"]
mod link;
#[path = "../tests/support/process.rs"]
mod process;

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use blocksyncd::store::{Durability, Options, Store};
use blocksyncd::sync::{Batch, Change, CommitId, DaEvidence, Heads, Origin};
use blocksyncd::verify::VerifiedBlock;
use bytes::Bytes;
use ceilings::{check_blocks, copy_over_noise_and_yamux, copy_over_tcp};
use copy_dir::copy_dir;
use host::{local, until_soft};
use link::{Link, Shape};
use process::{Sidecar, TempDir, call, init_follower};

/// How many blocks a commit of the store's ceiling has.
const BATCH: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Case {
    rtt_ms: u64,
    mbit: Option<u64>,
    peers: usize,
    block_bytes: usize,
    blocks: u64,
}

/// Of how many blocks go-header is measured.
const GO_BLOCKS: u64 = 5_000;

/// All in blocks per second.
#[derive(Debug)]
struct Measured {
    ours: f64,
    /// Or why there is none.
    go_header: Result<f64, String>,
    /// Of the late node, in bytes.
    peak_rss: u64,
    ceilings: [(&'static str, f64); 5],
}

/// How a result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// As a row of the table.
    Rows,
    /// As one object.
    Json,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let text = arguments.iter().skip_while(|argument| *argument != name).nth(1)?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
    };
    let output = if arguments.iter().any(|argument| argument == "--json") { Output::Json } else { Output::Rows };
    let small =
        |name: &str, default: usize| value(name).map_or(default, |value| usize::try_from(value).expect("small"));
    let options = ["--rtt-ms", "--mbit", "--peers", "--block-bytes", "--blocks"];
    if options.iter().all(|option| value(option).is_none()) {
        return table(output);
    }
    let case = Case {
        rtt_ms: value("--rtt-ms").unwrap_or(0),
        mbit: value("--mbit"),
        peers: small("--peers", 1),
        block_bytes: small("--block-bytes", 1024),
        blocks: value("--blocks").unwrap_or(20_000),
    };
    let dir = TempDir::new();
    report(case, &measure(case, &Chain::make(dir.path(), case)), output);
}

/// Every case, grouped by chain, since making one takes longer than catching up with it.
fn table(output: Output) {
    if output == Output::Rows {
        println!(
            "| blocks | link | peers | ours | go-header | ratio | slowest ceiling | ratio | peak RSS |\n|---|---|---|---|---|---|---|---|---|"
        );
    }
    for (block_bytes, blocks) in [(1 << 10, 100_000), (64 << 10, 8_000), (1 << 20, 1_000)] {
        let base = Case { rtt_ms: 0, mbit: None, peers: 1, block_bytes, blocks };
        let dir = TempDir::new();
        let chain = Chain::make(dir.path(), base);
        for mbit in [None, Some(1_000)] {
            for rtt_ms in [0, 20, 50, 100] {
                for peers in [1, 4, 8] {
                    let case = Case { rtt_ms, mbit, peers, ..base };
                    report(case, &measure(case, &chain), output);
                }
            }
        }
    }
}

fn report(case: Case, measured: &Measured, output: Output) {
    let Measured { ours, go_header, peak_rss, ceilings } = measured;
    let slowest = ceilings.iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are five");
    let ratio = ours / slowest.1;
    let Case { rtt_ms, mbit, peers, block_bytes, blocks } = case;
    if output == Output::Json {
        let ceilings: serde_json::Map<_, _> =
            ceilings.iter().map(|(name, rate)| ((*name).into(), (*rate).into())).collect();
        let object = serde_json::json!({
            "rtt_ms": rtt_ms, "mbit": mbit, "peers": peers, "block_bytes": block_bytes, "blocks": blocks,
            "ours_blocks_per_s": ours,
            "go_header_blocks_per_s": go_header.as_ref().ok(),
            "go_header_missing": go_header.as_ref().err(),
            "ceilings": ceilings,
            "slowest_ceiling": slowest.0,
            "ratio_to_go_header": go_header.as_ref().ok().map(|go_header| ours / go_header),
            "ratio_to_slowest_ceiling": ratio,
            "peak_rss_bytes": peak_rss,
        });
        println!("{object}");
    } else {
        let link = mbit.map_or("unlimited".to_owned(), |mbit| format!("{mbit} Mbit/s"));
        let go_header = match go_header {
            Ok(go_header) => format!("{go_header:.0}/s | {:.1}", ours / go_header),
            Err(_) => "none | -".to_owned(),
        };
        println!(
            "| {blocks} x {block_bytes} | {rtt_ms} ms, {link} | {peers} | {ours:.0}/s | {go_header} | {}: {:.0}/s | {ratio:.2} | {} MiB |",
            slowest.0,
            slowest.1,
            peak_rss >> 20
        );
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The chain

/// The whole chain, and a store of it to be copied.
struct Chain {
    dir: PathBuf,
    /// Of the genesis file.
    genesis: PathBuf,
    blocks: Vec<VerifiedBlock>,
    /// The same, encoded.
    encoded: Vec<Bytes>,
    /// Of all of them.
    bytes: usize,
    /// How long the store took to append them.
    appending: Duration,
}

impl Chain {
    fn make(dir: &Path, case: Case) -> Self {
        let home = dir.join("genesis");
        let proposer = blocks::public_key().to_string();
        let args = ["--chain-id", "test-chain", "--proposer", &proposer].map(OsStr::new);
        call([OsStr::new("init"), home.as_ref(), "--json".as_ref()].into_iter().chain(args)).json();
        let blocks = blocks::build_chain(case.blocks, case.block_bytes);
        let encoded: Vec<Bytes> = blocks.iter().map(|block| block.block().bytes().clone()).collect();
        let stored = dir.join("chain");
        let appending = append_all(&stored, &blocks);
        let bytes = encoded.iter().map(Bytes::len).sum();
        Self { dir: stored, genesis: home.join("genesis.toml"), blocks, encoded, bytes, appending }
    }
}

/// A new store, and all blocks appended to it; how long the commits took.
fn append_all(dir: &Path, blocks: &[VerifiedBlock]) -> Duration {
    let (mut store, _, recovered) = Store::open(&options(dir), &blocks::rules()).expect("it opens");
    let mut heads = recovered.heads;
    let begun = Instant::now();
    for batch in blocks.chunks(BATCH) {
        heads = Heads { soft: batch.last().map(VerifiedBlock::tip), ..heads };
        let changes =
            batch.iter().map(|block| Change::Append { block: block.clone(), origin: Origin::Range }).collect();
        store.commit(&Batch { id: CommitId(1), changes, heads, guard: None }).expect("there is room");
    }
    begun.elapsed()
}

/// Checks, appends and a copy of everything through the link, all at the same time on the same cores, as a node that catches up
/// must do them; until the last of them is done.
fn all_at_once(dir: &Path, chain: &Chain, shape: Shape) -> Duration {
    settle_disk();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| check_blocks(&blocks::rules(), &chain.encoded));
        scope.spawn(|| append_all(&dir.join("ceiling"), &chain.blocks));
        scope.spawn(|| copy_over_noise_and_yamux(chain.bytes, way(Link::new(shape))));
    });
    begun.elapsed()
}

/// What was copied for the case is written out first: a commit that waits for it is not what is measured.
fn settle_disk() {
    rustix::fs::sync();
}

fn way(link: Link) -> impl FnOnce(SocketAddr) -> SocketAddr {
    move |address| link.to(address)
}

fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        guard: None,
        durability: Durability::Power,
        cache_bytes: 64 << 20,
        max_evidence: 16,
        da_evidence: DaEvidence::Block,
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// One case

fn measure(case: Case, chain: &Chain) -> Measured {
    let dir = TempDir::new();
    let shape = Shape {
        round_trip: Duration::from_millis(case.rtt_ms),
        bytes_per_second: case.mbit.map(|mbit| mbit * 1_000_000 / 8),
    };
    let serving: Vec<Sidecar> = (0..case.peers).map(|number| serve(dir.path(), chain, number)).collect();
    let link = Link::new(shape);
    let seeds: Vec<String> = serving.iter().map(|peer| through(&link, &peer.address())).collect();
    let (took, peak_rss) = catch_up(dir.path(), chain, case, &seeds);
    let carried = link.carried_back();
    assert!(carried >= chain.bytes as u64, "the chain has {} bytes, and the link carried {carried}", chain.bytes);
    let go_header = go_header_catches_up(dir.path(), shape, case, &serving);
    serving.into_iter().for_each(Sidecar::stop);

    let rate = |took: Duration| per_second(case.blocks, took);
    let ceilings = [
        ("link", rate(copy_over_tcp(chain.bytes, way(Link::new(shape))))),
        ("noise_yamux", rate(copy_over_noise_and_yamux(chain.bytes, way(Link::new(shape))))),
        ("checks", rate(check_blocks(&blocks::rules(), &chain.encoded))),
        ("store_appends", rate(chain.appending)),
        ("all_at_once", rate(all_at_once(dir.path(), chain, shape))),
    ];
    Measured { ours: rate(took), go_header, peak_rss, ceilings }
}

/// Blocks per second, or why there is no figure.
fn go_header_catches_up(dir: &Path, shape: Shape, case: Case, serving: &[Sidecar]) -> Result<f64, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(go_header::build).as_ref().map_err(Clone::clone)?;
    let link = Link::new(shape);
    let peers: Vec<String> = serving.iter().map(|peer| through(&link, &peer.address())).collect();
    let height = case.blocks.min(GO_BLOCKS);
    let task = go_header::Task {
        chain_id: "test-chain",
        proposer: &blocks::public_key().to_string(),
        peers: &peers,
        home: &dir.join("badger"),
        max_message: (2 * case.block_bytes).max(1 << 20),
        height,
    };
    settle_disk();
    let took = go_header::catch_up(program, &task);
    let least = height * case.block_bytes as u64;
    assert!(link.carried_back() >= least, "go-header took another way: {} of {least} bytes", link.carried_back());
    Ok(per_second(height, took))
}

fn serve(dir: &Path, chain: &Chain, number: usize) -> Sidecar {
    let home = dir.join(format!("serving-{number}"));
    init_follower(&home, &chain.genesis);
    copy_dir(&chain.dir, &home.join("data"));
    Sidecar::start(&home, &["--listen", "/ip4/127.0.0.1/tcp/0"])
}

/// The multiaddress of the same peer, through the link.
fn through(link: &Link, address: &str) -> String {
    let parts: Vec<&str> = address.split('/').collect();
    let ["", "ip4", host, "tcp", port, "p2p", peer] = parts.as_slice() else {
        panic!("not such an address: {address}")
    };
    let target: SocketAddr = format!("{host}:{port}").parse().expect("an address");
    let near = link.to(target);
    format!("/ip4/{}/tcp/{}/p2p/{peer}", near.ip(), near.port())
}

/// How long it took, and the most memory that the node ever had.
fn catch_up(dir: &Path, chain: &Chain, case: Case, seeds: &[String]) -> (Duration, u64) {
    let home = dir.join("late");
    init_follower(&home, &chain.genesis);
    let mut args = vec!["--listen", "/ip4/127.0.0.1/tcp/0"];
    args.extend(seeds.iter().flat_map(|seed| ["--seed", seed.as_str()]));
    settle_disk();
    let late = Sidecar::start(&home, &args);
    let begun = Instant::now();
    let took = local(async {
        until_soft(&late, case.blocks).await;
        begun.elapsed()
    });
    let peak = process::peak_rss(late.pid());
    late.stop();
    (took, peak)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}
