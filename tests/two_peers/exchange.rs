//! The range exchange: the decision table against the real server, with our client and with raw bytes; and our client
//! against servers of every kind.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use blocksyncd::p2p::{Command, Event, PeerPolicy};
use blocksyncd::sync::{BlockQuery, FetchOutcome};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::network::{
    Chain, MAX_BLOCK, Network, Options, PATIENCE, QUIC, TCP, block, hash, heights, pair, range, start,
};
use super::stranger::{Stranger, header_ex, read_to_end};

/// A request frame by hand: it may be one that our own encoder cannot make.
fn request(origin: u64, amount: u64) -> Vec<u8> {
    let mut message = vec![0x08];
    varint(origin, &mut message);
    if amount > 0 {
        message.push(0x18);
        varint(amount, &mut message);
    }
    frame(&message)
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    varint(message.len() as u64, &mut frame);
    frame.extend_from_slice(message);
    frame
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn ok(body: &[u8]) -> Vec<u8> {
    let mut message = vec![0x0a];
    varint(body.len() as u64, &mut message);
    message.extend_from_slice(body);
    message.extend_from_slice(&[0x10, 1]);
    frame(&message)
}

/// The frames of these blocks.
fn oks(heights: std::ops::RangeInclusive<u64>, size: usize) -> Vec<u8> {
    heights.flat_map(|height| ok(&block(height, size))).collect()
}

const NOT_FOUND: [u8; 3] = [2, 0x10, 2];
const RESET: [u8; 0] = [];

#[tokio::test]
async fn our_client_gets_every_row_of_the_table_over_tcp() {
    every_row(TCP).await;
}

#[tokio::test]
async fn our_client_gets_every_row_of_the_table_over_quic() {
    every_row(QUIC).await;
}

async fn every_row(listen: &str) {
    // Pruned below 50.
    let (mut client, server) = pair(listen, Chain::new(50..=200, 100)).await;
    let server = server.id();
    let rows = [
        (BlockQuery::Head, vec![200], FetchOutcome::Complete),
        (range(50, 1), vec![50], FetchOutcome::Complete),
        (range(100, 64), (100..=163).collect(), FetchOutcome::Complete),
        (range(199, 10), vec![199, 200], FetchOutcome::Complete),
        (range(201, 1), vec![], FetchOutcome::NotFound),
        (range(49, 2), vec![], FetchOutcome::NotFound),
        (range(1, 10), vec![], FetchOutcome::NotFound),
        (range(100, 65), vec![], FetchOutcome::Reset),
        (range(100, 0), vec![], FetchOutcome::Complete),
        (BlockQuery::Hash(hash(77)), vec![77], FetchOutcome::Complete),
        (BlockQuery::Hash(hash(7)), vec![], FetchOutcome::NotFound),
    ];
    for (query, expected, outcome) in rows {
        let (bodies, how) = client.fetch(&server, query).await;
        assert_eq!((heights(&bodies), how), (expected, outcome), "{query:?}");
    }
}

#[tokio::test]
async fn raw_requests_get_exactly_the_bytes_of_the_table() {
    let server = start(Options::new(2).chain(Chain::new(50..=200, 100))).await;
    let stranger = Stranger::connect(&server, &[]).await;
    let by_hash = |hash: &[u8]| {
        let mut message = vec![0x12];
        varint(hash.len() as u64, &mut message);
        message.extend_from_slice(hash);
        message.extend_from_slice(&[0x18, 1]);
        frame(&message)
    };
    let max = u64::MAX;
    let rows: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("head", vec![4, 8, 0, 0x18, 1], oks(200..=200, 100)),
        ("head, whatever the amount", request(0, max), oks(200..=200, 100)),
        ("head, nothing asked for", request(0, 0), RESET.into()),
        ("one", request(60, 1), oks(60..=60, 100)),
        ("a page", request(137, 64), oks(137..=200, 100)),
        ("the end", request(199, 64), oks(199..=200, 100)),
        ("above", request(201, 1), NOT_FOUND.into()),
        ("below", request(10, 5), NOT_FOUND.into()),
        ("across the tail", request(40, 64), NOT_FOUND.into()),
        ("nothing", request(60, 0), RESET.into()),
        ("65", request(60, 65), RESET.into()),
        ("overflow", request(max, 1), RESET.into()),
        ("overflow", request(60, max), RESET.into()),
        ("hash", by_hash(&hash(60).0), oks(60..=60, 100)),
        ("unknown hash", by_hash(&hash(1).0), NOT_FOUND.into()),
        ("short hash", by_hash(&[1; 31]), NOT_FOUND.into()),
        ("no member of the oneof", frame(&[0x18, 1]), RESET.into()),
        ("an empty frame", vec![0], RESET.into()),
        ("not protobuf", frame(&[0xff; 5]), RESET.into()),
        ("wrong wire type", frame(&[0x0a, 1, 0]), RESET.into()),
        ("a frame too long", vec![0x81, 1, 8, 0, 0x18, 1], RESET.into()),
        ("a frame far too long", vec![0xff, 0xff, 0xff, 0xff, 0x0f], RESET.into()),
        ("no length", vec![0xff; 12], RESET.into()),
    ];
    for (what, request, expected) in rows {
        // The server answers when the first frame is complete, whether or not we say that there is no other.
        for half_close in [true, false] {
            let answer = stranger.exchange(&request, half_close).await;
            assert_eq!(answer, expected, "{what}, half-close: {half_close}");
        }
    }
    assert_eq!(stranger.exchange(&[], true).await, RESET, "nothing at all");
    assert_eq!(stranger.exchange(&[4, 8], true).await, RESET, "half a frame");
}

#[tokio::test]
async fn an_empty_store_says_that_it_has_no_head_and_a_broken_one_resets() {
    for (chain, head) in [(Chain::default(), NOT_FOUND.to_vec()), (Chain::broken(), RESET.to_vec())] {
        let server = start(Options::new(2).chain(chain)).await;
        let stranger = Stranger::connect(&server, &[]).await;
        assert_eq!(stranger.exchange(&request(0, 1), true).await, head);
        assert_eq!(stranger.exchange(&request(1, 3), true).await, RESET);
    }
}

#[tokio::test]
async fn a_hole_ends_the_answer_before_it() {
    let chain = Chain::new(1..=9, 100);
    chain.replace((1..=9).filter(|height| *height != 5).map(|height| (height, block(height, 100))).collect());
    let (mut client, server) = pair(TCP, chain).await;
    let (bodies, outcome) = client.fetch(&server.id(), range(3, 6)).await;
    assert_eq!((heights(&bodies), outcome), (vec![3, 4], FetchOutcome::Complete));
    assert_eq!(client.fetch(&server.id(), range(5, 2)).await, (vec![], FetchOutcome::NotFound));
}

#[tokio::test]
async fn no_request_reads_more_than_a_page() {
    let chain = Chain::new(1_000..=50_000, 10);
    let reads = chain.reads.clone();
    let server = start(Options::new(2).chain(chain)).await;
    let stranger = Stranger::connect(&server, &[]).await;
    for (origin, amount) in [(0, u64::MAX), (1, 64), (1, 10), (960, 64), (49_990, 64), (50_001, 64), (2_000, 64)] {
        let before = reads.load(Ordering::Relaxed);
        stranger.exchange(&request(origin, amount), true).await;
        let count = reads.load(Ordering::Relaxed) - before;
        assert!(count <= 65, "{origin} x {amount} read {count} blocks");
    }
}

#[tokio::test]
async fn large_blocks_arrive_whole_and_the_cap_cuts_between_them() {
    for listen in [TCP, QUIC] {
        let (mut client, server) = pair(listen, Chain::new(1..=64, MAX_BLOCK)).await;
        let (bodies, outcome) = client.fetch(&server.id(), range(1, 20)).await;
        assert_eq!((heights(&bodies), outcome), ((1..=20).collect(), FetchOutcome::Complete));
        // No request gets more than its share of our memory.
        let share = client.limits().fetch_bytes_per_request() as u64 / MAX_BLOCK as u64 - 1;
        let (rest, outcome) = client.fetch(&server.id(), range(1, 64)).await;
        assert_eq!((heights(&rest), outcome), ((1..=share).collect(), FetchOutcome::Cut));
        assert!(bodies.iter().enumerate().all(|(index, body)| *body == block(index as u64 + 1, MAX_BLOCK)));
        // Room for three and a half.
        let request = client.ask(&server.id(), range(1, 64), 7 * MAX_BLOCK / 2, PATIENCE).await;
        let (bodies, outcome) = client.answer(request).await;
        assert_eq!((heights(&bodies), outcome), (vec![1, 2, 3], FetchOutcome::Cut));
        // Not for the first one either.
        let request = client.ask(&server.id(), range(9, 64), MAX_BLOCK / 2, PATIENCE).await;
        let (bodies, outcome) = client.answer(request).await;
        assert_eq!((heights(&bodies), outcome), (vec![], FetchOutcome::Cut));
    }
}

#[tokio::test]
async fn an_answer_that_we_cut_leaves_no_stream_behind() {
    let (mut client, server) = pair(TCP, Chain::new(1..=64, MAX_BLOCK)).await;
    // Many more than the server keeps open at a time, and less patience than it has with a reader that has stopped.
    let patience = Duration::from_secs(6);
    for turn in 0..100 {
        let request = client.ask(&server.id(), range(1, 64), 3 * MAX_BLOCK / 2, patience).await;
        let (bodies, outcome) = client.answer(request).await;
        assert_eq!((heights(&bodies), outcome), (vec![1], FetchOutcome::Cut), "{turn}");
    }
}

#[tokio::test]
async fn an_answer_is_of_one_moment() {
    // More than a chunk, so that the answer is read from the store in several steps.
    let chain = Chain::new(1..=64, MAX_BLOCK);
    let server = start(Options::new(2).chain(chain.clone())).await;
    let stranger = Stranger::connect(&server, &[]).await;
    let mut stream = stranger.open(&header_ex()).await;
    stream.write_all(&request(1, 64)).await.expect("written");
    let mut first = vec![0; 1024];
    stream.read_exact(&mut first).await.expect("it has begun");
    chain.replace(BTreeMap::from([(1, block(1, 10))]));
    let rest = read_to_end(&mut stream).await;
    assert_eq!([first, rest].concat(), oks(1..=64, MAX_BLOCK));
    assert_eq!(stranger.exchange(&request(1, 64), true).await, oks(1..=1, 10));
}

#[tokio::test]
async fn many_requests_at_once_are_all_answered() {
    let (mut client, server) = pair(TCP, Chain::new(1..=1000, 1000)).await;
    let mut requests = Vec::new();
    for page in 0..8 {
        requests.push((page, client.ask(&server.id(), range(page * 64 + 1, 64), usize::MAX, PATIENCE).await));
    }
    for (page, request) in requests {
        let (bodies, outcome) = client.answer(request).await;
        assert_eq!(heights(&bodies), (page * 64 + 1..=page * 64 + 64).collect::<Vec<_>>());
        assert_eq!(outcome, FetchOutcome::Complete);
    }
}

#[tokio::test]
async fn whoever_is_not_there_or_does_not_speak_is_not_asked() {
    let mut client = start(Options::new(1)).await;
    let absent = start(Options::new(3)).await;
    assert_eq!(client.fetch(&absent.id(), BlockQuery::Head).await, (vec![], FetchOutcome::Disconnected));
    let stranger = Stranger::connect(&client, &["/something/else"]).await;
    // It is connected once it is listed.
    while client.peers().await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(client.fetch(&stranger.id(), BlockQuery::Head).await, (vec![], FetchOutcome::Unsupported));
}

/// Our client, and a stranger that serves it.
async fn served_by_a_stranger() -> (Network, Stranger) {
    let mut client = start(Options::new(1)).await;
    let stranger = Stranger::connect(&client, &[&header_ex()]).await;
    client.up(&stranger.id()).await;
    (client, stranger)
}

#[tokio::test]
async fn our_requests_are_go_headers_bytes_and_half_closed() {
    let (mut client, mut stranger) = served_by_a_stranger().await;
    let rows = [
        (BlockQuery::Head, vec![4, 8, 0, 0x18, 1]),
        (range(5, 3), vec![4, 8, 5, 0x18, 3]),
        (range(1_000_000, 64), vec![6, 8, 0xc0, 0x84, 0x3d, 0x18, 0x40]),
    ];
    for (query, bytes) in rows {
        let request = client.ask(&stranger.id(), query, usize::MAX, PATIENCE).await;
        let mut stream = stranger.accept().await;
        assert_eq!(read_to_end(&mut stream).await, bytes, "{query:?}");
        drop(stream);
        assert_eq!(client.answer(request).await, (vec![], FetchOutcome::Reset));
    }
}

#[tokio::test]
async fn answers_of_every_kind_are_taken_for_what_they_are() {
    let (mut client, mut stranger) = served_by_a_stranger().await;
    let two = oks(1..=2, 20);
    let with = |rest: &[u8]| [&two[..], rest].concat();
    let status = |code: u8| frame(&[0x10, code]);
    let rows: Vec<(&str, Vec<u8>, usize, FetchOutcome)> = vec![
        ("all", oks(1..=4, 20), 4, FetchOutcome::Complete),
        ("more than asked for", oks(1..=9, 20), 4, FetchOutcome::Complete),
        ("a prefix", two.clone(), 2, FetchOutcome::Complete),
        ("nothing", vec![], 0, FetchOutcome::Reset),
        ("not found", NOT_FOUND.into(), 0, FetchOutcome::NotFound),
        ("a prefix, then not found", with(&NOT_FOUND), 2, FetchOutcome::NotFound),
        ("a prefix, then half a frame", with(&ok(&[7; 50])[..30]), 2, FetchOutcome::Reset),
        ("a prefix, then INVALID", with(&status(0)), 2, FetchOutcome::Invalid(None)),
        ("an empty frame", vec![0], 0, FetchOutcome::Invalid(None)),
        ("OK without a block", status(1), 0, FetchOutcome::Invalid(None)),
        ("another code", status(9), 0, FetchOutcome::Invalid(None)),
        ("not protobuf", frame(&[0xff; 9]), 0, FetchOutcome::Invalid(None)),
        ("a prefix, then a giant", with(&[0xff, 0xff, 0xff, 0x7f]), 2, FetchOutcome::Invalid(None)),
        ("no length", vec![0xff; 20], 0, FetchOutcome::Invalid(None)),
        ("a block too long", ok(&vec![1; MAX_BLOCK + 1]), 0, FetchOutcome::Invalid(None)),
        ("the longest block", ok(&vec![1; MAX_BLOCK]), 1, FetchOutcome::Complete),
    ];
    for (what, answer, count, outcome) in rows {
        let request = client.ask(&stranger.id(), range(1, 4), usize::MAX, PATIENCE).await;
        let mut stream = stranger.accept().await;
        read_to_end(&mut stream).await;
        // The client may have hung up before all is written.
        let _ = stream.write_all(&answer).await;
        let _ = stream.close().await;
        let (bodies, how) = client.answer(request).await;
        assert_eq!((bodies.len(), how), (count, outcome), "{what}");
    }
}

#[tokio::test]
async fn what_arrived_before_a_timeout_or_the_end_of_the_connection_is_kept() {
    let (mut client, mut stranger) = served_by_a_stranger().await;
    let peer = stranger.id();
    let request = client.ask(&peer, range(1, 4), usize::MAX, Duration::from_millis(500)).await;
    let mut stalled = stranger.accept().await;
    stalled.write_all(&oks(1..=2, 20)).await.expect("written");
    stalled.flush().await.expect("written");
    let (bodies, outcome) = client.answer(request).await;
    assert_eq!((heights(&bodies), outcome), (vec![1, 2], FetchOutcome::Timeout));

    let request = client.ask(&peer, range(1, 4), usize::MAX, PATIENCE).await;
    let _stalled = stranger.accept().await;
    drop(stranger);
    let (_, outcome) = client.answer(request).await;
    assert_eq!(outcome, FetchOutcome::Disconnected);
    client.down(&peer).await;
}

#[tokio::test]
async fn one_request_more_than_a_connection_takes_is_not_sent() {
    let (mut client, mut stranger) = served_by_a_stranger().await;
    let peer = stranger.id();
    let mut open = Vec::new();
    for _ in 0..48 {
        open.push((client.ask(&peer, BlockQuery::Head, 1000, PATIENCE).await, stranger.accept().await));
    }
    let one_more = client.ask(&peer, BlockQuery::Head, 1000, PATIENCE).await;
    assert_eq!(client.answer(one_more).await, (vec![], FetchOutcome::NotSent));
    for (request, mut stream) in open {
        stream.write_all(&oks(1..=1, 20)).await.expect("written");
        assert_eq!(client.answer(request).await, (vec![block(1, 20)], FetchOutcome::Complete));
    }
}

#[tokio::test]
async fn a_cancelled_request_is_never_answered() {
    let (mut client, mut stranger) = served_by_a_stranger().await;
    for _ in 0..20 {
        let request = client.ask(&stranger.id(), range(1, 4), usize::MAX, PATIENCE).await;
        let mut stream = stranger.accept().await;
        client.send(Command::Cancel(request)).await;
        let _ = stream.write_all(&oks(1..=4, 20)).await;
        let _ = stream.close().await;
    }
    // Its place is free again, all twenty times.
    let request = client.ask(&stranger.id(), range(1, 1), usize::MAX, PATIENCE).await;
    let mut stream = stranger.accept().await;
    let _ = stream.write_all(&oks(1..=1, 20)).await;
    assert_eq!(client.answer(request).await, (vec![block(1, 20)], FetchOutcome::Complete));
    assert!(client.seen().is_empty());
}

#[tokio::test]
async fn slow_peers_lose_their_streams_and_delay_nobody() {
    let chain = Chain::new(1..=200, MAX_BLOCK);
    let mut server = start(Options::new(2).chain(chain)).await;
    let mut honest = start(Options::new(1).seeds(&[&server.address])).await;
    honest.up(&server.id()).await;
    server.up(&honest.id()).await;

    // Requests that never become complete, and answers that are never read, as many as are taken.
    let stranger = Stranger::connect(&server, &[]).await;
    let mut dripping = Vec::new();
    let mut unread = Vec::new();
    for _ in 0..6 {
        let mut stream = stranger.open(&header_ex()).await;
        stream.write_all(&[4]).await.expect("written");
        stream.flush().await.expect("written");
        dripping.push(stream);
        let mut stream = stranger.open(&header_ex()).await;
        stream.write_all(&request(1, 64)).await.expect("written");
        stream.flush().await.expect("written");
        unread.push(stream);
    }
    for page in 0..10 {
        let (bodies, outcome) = honest.fetch(&server.id(), range(page * 10 + 1, 10)).await;
        assert_eq!((bodies.len(), outcome), (10, FetchOutcome::Complete));
    }
    for mut stream in dripping {
        assert_eq!(read_to_end(&mut stream).await, RESET, "it was not in time");
    }
    for mut stream in unread {
        // The server gives up an answer that nobody reads, and says so when it is written to.
        let given_up = async {
            while stream.write_all(&[0]).await.is_ok() && stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, given_up).await.expect("in time");
        assert!(read_to_end(&mut stream).await.len() < oks(1..=64, MAX_BLOCK).len(), "it had gone on");
    }
    assert_eq!(honest.fetch(&server.id(), BlockQuery::Head).await.1, FetchOutcome::Complete);
}

#[tokio::test]
async fn a_peer_that_asks_for_more_than_its_share_waits_and_others_do_not() {
    // Two blocks at once, and then one in four seconds: more than a pause within an answer, less than a client's patience.
    let size = MAX_BLOCK / 2;
    let policy = PeerPolicy { serve_rate: size as u64 / 4, serve_burst: 2 * size as u64, ..PeerPolicy::default() };
    let mut server = start(Options::new(2).chain(Chain::new(1..=64, size)).policy(policy)).await;
    let mut greedy = start(Options::new(1).seeds(&[&server.address])).await;
    let mut modest = start(Options::new(3).seeds(&[&server.address])).await;
    for node in [&mut greedy, &mut modest] {
        node.up(&server.id()).await;
        server.up(&node.id()).await;
    }
    let (bodies, outcome) = greedy.fetch(&server.id(), range(1, 64)).await;
    let served = bodies.len();
    // A part of it, and a good one: it ends between two blocks.
    assert!((1..64).contains(&served) && outcome == FetchOutcome::Complete, "{served} {outcome:?}");
    assert_eq!(heights(&bodies), (1..=served as u64).collect::<Vec<_>>());
    // It goes on when it has paid; until then, or when that is too long, there is nothing for it, but nothing against it.
    let late = greedy.ask(&server.id(), range(1, 1), usize::MAX, PATIENCE).await;
    assert_eq!(modest.fetch(&server.id(), range(1, 1)).await.0.len(), 1);
    assert!(
        !greedy.seen().iter().any(|event| matches!(event, Event::Fetched { request, .. } if *request == late)),
        "the other was served first"
    );
    assert_eq!((server.peers().await.len(), server.list().await.bans.len()), (2, 0));
}
