//! The API server against clients that are broken, hostile, or only unlucky. After each of them a client that behaves is
//! still served.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

#[path = "../mock_execution/api/mod.rs"]
mod api;
#[path = "../support/blocks.rs"]
mod blocks;
mod raw;
mod report;
mod stub;
#[path = "../support/tempdir.rs"]
mod tempdir;

use std::rc::Rc;
use std::time::Duration;

use blocksyncd::api::client::{
    Batch, BlockSigner, Client, ClientError, Event, Hello, Lookup, Payload, ProposedBlock, PublishResult, Publisher,
    Roles, Session, Start, Stream, StreamOptions, Which,
};
use blocksyncd::block::{BlockId, Hash, Height, PublicKey};
use blocksyncd::sync::Phase;
use blocksyncd::sync::cursor::WaitsFor;
use bytes::Bytes;
use ed25519_dalek::Signer as _;
use futures::future::join_all;

use raw::Raw;
use stub::{MAX_BLOCK, MAX_CONNECTIONS, Sidecar};

/// Only bounds a hang.
const DEADLINE: Duration = Duration::from_mins(1);
const LONG: Duration = Duration::from_secs(30);
const ALL: Roles = Roles { observer: true, publisher: true, reporter: true };

/// Runs a test on a runtime of its own. The sidecar's stub node runs beside it.
fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(DEADLINE, test()).await.expect("the test hangs");
    });
}

/// Does something blocking that the server must answer meanwhile.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn open(sidecar: &Sidecar, roles: Roles) -> Session {
    let client = Client::connect(&sidecar.socket).await.unwrap();
    let hello = Hello { name: "test".into(), chain_id: Some(blocks::chain_id()), roles };
    client.open(&hello, None).await.unwrap()
}

/// Heights 1 to 4, each with a payload of this byte.
async fn publish_four(publisher: &Publisher, payload: u8) -> Vec<BlockId> {
    let mut ids = Vec::new();
    for height in 1..=4 {
        ids.push(accepted(publisher.publish(&new_block(height, vec![payload])).await.unwrap()));
    }
    ids
}

fn new_block(height: u64, payload: Vec<u8>) -> ProposedBlock {
    ProposedBlock {
        height: Height::new(height).unwrap(),
        parent: None,
        time_unix_nanos: height,
        host_id: Bytes::from_static(b"host"),
        payload: payload.into(),
    }
}

fn accepted(result: PublishResult) -> BlockId {
    match result {
        PublishResult::Accepted(published) => published.id,
        other => panic!("{other:?}"),
    }
}

/// What a client that behaves would notice.
async fn still_serves(sidecar: &Sidecar) {
    let session = open(sidecar, Roles { observer: true, publisher: true, reporter: false }).await;
    let next = session.info.heads.soft.map_or(1, |soft| soft.height.get() + 1);
    let id = accepted(session.publisher.unwrap().publish(&new_block(next, vec![1; 100])).await.unwrap());
    let found = session.observer.unwrap().block(Which::Id(id)).await.unwrap();
    assert!(matches!(found, Lookup::Found { block, .. } if block.id == id));
}

/// This process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_giant_is_refused_when_it_is_announced() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        for announced in [64 << 20, 127 << 20, u32::MAX] {
            let mut raw = Raw::connect(&sidecar.socket);
            assert!(raw.say(&raw::header(announced)));
            beside(move || raw.hung_up_on()).await;
        }
        still_serves(&sidecar).await;
    });
}

#[test]
fn the_largest_message_costs_nothing_before_it_arrives() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let client = Client::connect(&sidecar.socket).await.unwrap();
        let largest = u32::try_from(client.info().await.unwrap().limits.max_message_bytes).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..MAX_CONNECTIONS - 2 {
            let mut raw = Raw::connect(&sidecar.socket);
            assert!(raw.say(&raw::header(largest)));
            assert!(raw.say(&[0; 1000]));
            waiting.push(raw);
        }
        still_serves(&sidecar).await;
    });
}

#[test]
fn what_is_no_rpc_is_hung_up_on() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let mut random = fastrand::Rng::with_seed(1);
        let mut garbage: Vec<Vec<u8>> = vec![
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n".to_vec(),
            vec![0xff; 4096],
            // A message of no words, and one of which the root pointer leads nowhere.
            [raw::header(0).as_slice(), &[]].concat(),
            [raw::header(8).as_slice(), &[0xff; 8]].concat(),
            // A Return that nobody waits for, and a call of nothing.
            raw::info(1, 77),
        ];
        garbage.extend((0..20).map(|_| {
            let mut bytes = raw::header(800).to_vec();
            bytes.extend((0..800).map(|_| random.u8(..)));
            bytes
        }));
        for bytes in garbage {
            let mut raw = Raw::connect(&sidecar.socket);
            raw.say(&bytes);
            raw.done_talking();
            beside(move || raw.hung_up_on()).await;
        }
        still_serves(&sidecar).await;
    });
}

#[test]
fn a_flood_of_calls_without_reads_is_not_read_any_further_and_not_lost() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let before = resident();
        let mut raw = Raw::connect(&sidecar.socket);
        let (mut raw, asked) = beside(move || {
            assert!(raw.say(&raw::bootstrap(0)));
            // One byte too few to be a call, so that what was taken is always whole calls.
            let mut asked = 0;
            while raw.say(&raw::info(asked + 1, 0)) {
                asked += 1;
                assert!(asked < 500_000, "the server reads without end");
            }
            (raw, asked)
        })
        .await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes for a client that does not read");
        still_serves(&sidecar).await;
        let asked = usize::try_from(asked).unwrap();
        beside(move || raw.read_until(|said| raw::count_messages(said) > asked)).await;
        still_serves(&sidecar).await;
    });
}

#[test]
fn questions_that_are_never_finished_end_the_connection() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let mut raw = Raw::connect(&sidecar.socket);
        let answers = raw.reader();
        let reading = beside(move || answers.hung_up_on());
        let writing = beside(move || {
            // It is hung up on long before the end, which may show in any of these calls.
            let _ = (0..100_000).take_while(|question| raw.say(&raw::bootstrap(*question))).count();
        });
        let (said, ()) = tokio::join!(reading, writing);
        let answered = raw::count_messages(&said);
        assert!((1000..2000).contains(&answered), "{answered} answered");
        still_serves(&sidecar).await;
    });
}

#[test]
fn answers_cannot_be_parked_with_the_server() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let mut raw = Raw::connect(&sidecar.socket);
        assert!(raw.say(&raw::bootstrap(0)) && raw.say(&raw::info_to_yourself(1, 0)));
        beside(move || raw.hung_up_on()).await;
        still_serves(&sidecar).await;
    });
}

#[test]
fn too_many_calls_in_flight_are_answered_with_overloaded() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        sidecar.answering.send_replace(false);
        let session = open(&sidecar, ALL).await;
        let observer = session.observer.unwrap();
        let most = session.info.limits.max_calls as usize;
        let calls = (0..most + 6).map(|_| observer.status());
        let release = async {
            // Calls are answered in the order in which they came: when this one is refused, all others are in flight.
            while !matches!(observer.status().await, Err(ClientError::Overloaded(_))) {}
            sidecar.answering.send_replace(true);
        };
        let (answers, ()) = tokio::join!(join_all(calls), release);
        let overloaded = answers.iter().filter(|answer| matches!(answer, Err(ClientError::Overloaded(_)))).count();
        assert_eq!(overloaded, 6);
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), most);
        still_serves(&sidecar).await;
    });
}

#[test]
fn a_client_that_leaves_in_mid_call_leaves_nothing_behind() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let watcher = Client::connect(&sidecar.socket).await.unwrap().admin().await.unwrap();
        let session = open(&sidecar, ALL).await;
        let stream = session.observer.as_ref().unwrap().stream(&Start::Tip, &StreamOptions::default()).await.unwrap();
        let parked = tokio::task::spawn_local(async move {
            let _session = session;
            stream.next(0, 0, LONG).await
        });
        while watcher.status().await.unwrap().streams == 0 {}
        parked.abort();
        while watcher.status().await.map(|status| (status.streams, status.sessions)).unwrap() != (0, 0) {}
        still_serves(&sidecar).await;
    });
}

#[test]
fn streams_that_are_never_read_are_counted() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let session = open(&sidecar, ALL).await;
        let observer = session.observer.unwrap();
        let mut streams = Vec::new();
        let refused = loop {
            match observer.stream(&Start::Genesis, &StreamOptions::default()).await {
                Ok(stream) => streams.push(stream),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, ClientError::Busy(_)), "{refused}");
        let publisher = session.publisher.unwrap();
        for height in 1..=200 {
            accepted(publisher.publish(&new_block(height, vec![7; 10_000])).await.unwrap());
        }
        assert_eq!(streams.pop().unwrap().next(1, 0, LONG).await.unwrap().events.len(), 1);
        still_serves(&sidecar).await;
    });
}

#[test]
fn one_next_at_a_time() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let session = open(&sidecar, ALL).await;
        let stream = session.observer.unwrap().stream(&Start::Tip, &StreamOptions::default()).await.unwrap();
        let publisher = session.publisher.unwrap();
        let second = async {
            let second = stream.next(0, 0, LONG).await;
            accepted(publisher.publish(&new_block(1, vec![])).await.unwrap());
            second
        };
        let (first, second) = tokio::join!(stream.next(0, 0, LONG), second);
        assert!(matches!(second, Err(ClientError::Failed(_))), "{second:?}");
        assert_eq!(first.unwrap().events.len(), 1);
    });
}

#[test]
fn the_newest_publisher_fences_the_one_before() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let old = open(&sidecar, ALL).await;
        let (publisher, reporter) = (old.publisher.unwrap(), old.reporter.unwrap());
        accepted(publisher.publish(&new_block(1, vec![1])).await.unwrap());
        let new = open(&sidecar, ALL).await;
        for size in [1, MAX_BLOCK / 2] {
            let fenced = publisher.publish(&new_block(2, vec![2; size])).await;
            assert!(matches!(fenced, Err(ClientError::Disconnected(_))), "{fenced:?}");
        }
        assert!(matches!(reporter.position().await, Err(ClientError::Disconnected(_))));
        assert!(matches!(reporter.report(0, 1, &[]).await, Err(ClientError::Disconnected(_))));
        accepted(new.publisher.unwrap().publish(&new_block(2, vec![2])).await.unwrap());
        assert_eq!(new.reporter.unwrap().position().await, Ok(0));
        old.observer.unwrap().status().await.expect("who only observes is not concerned");
    });
}

#[test]
fn one_connection_too_many_is_turned_away_until_another_one_leaves() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let mut clients = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let client = Client::connect(&sidecar.socket).await.unwrap();
            client.info().await.unwrap();
            clients.push(client);
        }
        let turned_away = Client::connect(&sidecar.socket).await.unwrap().info().await;
        assert!(
            matches!(&turned_away, Err(ClientError::Overloaded(why)) if why.contains("api.max_connections")),
            "{turned_away:?}"
        );
        clients.pop();
        while Client::connect(&sidecar.socket).await.unwrap().info().await.is_err() {}
        clients.clear();
        while Client::connect(&sidecar.socket).await.unwrap().info().await.is_err() {}
    });
}

#[test]
fn draining_answers_who_waits_and_then_hangs_up() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let session = open(&sidecar, ALL).await;
        let observer = session.observer.unwrap();
        let stream = observer.stream(&Start::Tip, &StreamOptions::default()).await.unwrap();
        let waits = async {
            let batch = stream.next(0, 0, LONG).await.unwrap();
            assert_eq!((batch.phase, batch.events), (Phase::Draining, vec![]));
        };
        let drains = async {
            // The call of next went out before this one.
            let status = observer.status().await.unwrap();
            assert!(status.history_unavailable && !status.forked, "as the core says: {status:?}");
            sidecar.drain().await;
        };
        tokio::join!(waits, drains);
        let gone = stream.next(0, 0, LONG).await;
        assert!(matches!(gone, Err(ClientError::Disconnected(_))), "{gone:?}");
    });
}

#[test]
fn a_client_that_does_not_read_cannot_hold_up_the_end() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let mut raw = Raw::connect(&sidecar.socket);
        let _raw = beside(move || {
            assert!(raw.say(&raw::bootstrap(0)));
            let mut question = 1;
            while raw.say(&raw::info(question, 0)) {
                question += 1;
            }
            raw
        })
        .await;
        drop(sidecar);
    });
}

/// What two batches say, one after the other.
async fn events(stream: &Stream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        let Batch { events: more, .. } = stream.next(0, 0, LONG).await.unwrap();
        events.extend(more.into_iter().filter(|event| *event != Event::Progress));
    }
    events
}

#[test]
fn payloads_of_every_size_come_back_as_they_went() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let session = open(&sidecar, ALL).await;
        let (observer, publisher) = (session.observer.unwrap(), session.publisher.unwrap());
        let inline = usize::try_from(session.info.limits.max_inline_bytes).unwrap();
        let sizes = [0, 1, inline - 100, inline, inline + 1, 3 * inline, MAX_BLOCK - 512];
        let mut random = fastrand::Rng::with_seed(3);
        let payloads: Vec<Vec<u8>> = sizes.iter().map(|size| (0..*size).map(|_| random.u8(..)).collect()).collect();
        for (height, payload) in (1..).zip(&payloads) {
            match publisher.publish(&new_block(height, payload.clone())).await.unwrap() {
                PublishResult::Accepted(published) => {
                    assert!(published.signed_block.ends_with(payload), "the answer carries the signed block");
                }
                other => panic!("{other:?}"),
            }
        }
        let too_large = publisher.publish(&new_block(9, vec![0; MAX_BLOCK + 1])).await.unwrap();
        assert_eq!(too_large, PublishResult::TooLarge { max_block_bytes: MAX_BLOCK as u64 });
        let stream = observer.stream(&Start::Genesis, &StreamOptions::default()).await.unwrap();
        for (event, payload) in events(&stream, payloads.len()).await.iter().zip(&payloads) {
            let Event::Soft(block) = event else { panic!("{event:?}") };
            assert_eq!(Hash::of(&block.header), block.id.hash);
            assert!(block.payload == Payload::Bytes(payload.clone().into()), "{:?}", block.id);
            let Lookup::Found { block: found, .. } = observer.block(Which::Hash(block.id.hash)).await.unwrap() else {
                panic!("{:?} is not found", block.id)
            };
            assert!(found == *block);
        }
        let options = StreamOptions { with_bodies: false, ..StreamOptions::default() };
        let stream = observer.stream(&Start::Genesis, &options).await.unwrap();
        for (event, payload) in events(&stream, payloads.len()).await.iter().zip(&payloads) {
            assert!(matches!(event, Event::Soft(block) if block.payload == Payload::Omitted(payload.len() as u64)));
        }
    });
}

#[test]
fn a_host_follows_resumes_and_is_told_to_rewind() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let session = open(&sidecar, ALL).await;
        let (observer, publisher) = (session.observer.unwrap(), session.publisher.unwrap());
        let ids = publish_four(&publisher, 0).await;
        sidecar.harden(2);
        let short = |events: Vec<Event>| -> Vec<String> {
            let say = |event| match event {
                Event::Soft(block) => format!("soft {}", block.id.height),
                Event::Hard { id, .. } => format!("hard {}", id.height),
                Event::Retract { to, .. } => format!("retract {}", to.map_or(0, |to| to.height.get())),
                other => format!("{other:?}"),
            };
            events.into_iter().map(say).collect()
        };
        let stream = observer.stream(&Start::Genesis, &StreamOptions::default()).await.unwrap();
        assert_eq!(short(events(&stream, 6).await), ["soft 1", "hard 1", "soft 2", "hard 2", "soft 3", "soft 4"]);
        assert_eq!(stream.ack(ids[1]).await, Ok(true));
        assert_eq!(stream.ack(BlockId { hash: Hash([0; 32]), ..ids[1] }).await, Ok(false));
        sidecar.rewind(4);
        assert_eq!(short(events(&stream, 1).await), ["retract 3"]);
        // The host has kept block 4, and comes back: of two blocks 4 it is told when one of them is hard.
        let start = Start::Resume { locator: vec![ids[3], ids[2]], hard: Some(ids[1]), given_from: None };
        accepted(publisher.publish(&new_block(4, vec![44])).await.unwrap());
        let again = observer.stream(&start, &StreamOptions::default()).await.unwrap();
        sidecar.harden(4);
        assert_eq!(short(events(&again, 4).await), ["retract 3", "hard 3", "soft 4", "hard 4"]);
        let hard = StreamOptions { soft_events: false, consumer: Some("me".into()), ..StreamOptions::default() };
        let stream = observer.stream(&Start::Genesis, &hard).await.unwrap();
        assert_eq!(short(events(&stream, 4).await)[..4], ["soft 1", "hard 1", "soft 2", "hard 2"]);
        // A host that was given nothing below block 2 hears of no other that it is hard.
        let start = Start::Resume { locator: vec![ids[1]], hard: None, given_from: Some(ids[1].height) };
        let stream = observer.stream(&start, &StreamOptions::default()).await.unwrap();
        assert_eq!(short(events(&stream, 3).await)[..3], ["hard 2", "soft 3", "hard 3"]);
        let foreign = BlockId { height: ids[1].height, hash: Hash([1; 32]) };
        let start = Start::Resume { locator: vec![], hard: Some(foreign), given_from: None };
        let forked = observer.stream(&start, &StreamOptions::default()).await;
        assert!(
            matches!(forked, Err(ClientError::ForkedBelowHard { theirs, ours }) if theirs == foreign && ours == Some(ids[1])),
            "{forked:?}"
        );
        let start = Start::Resume { locator: vec![ids[0], ids[1]], hard: None, given_from: None };
        assert!(matches!(observer.stream(&start, &StreamOptions::default()).await, Err(ClientError::Invalid(_))));
    });
}

/// At once, and again when it is something else; nothing else is said meanwhile.
#[test]
fn a_stream_that_waits_says_what_for() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let session = open(&sidecar, ALL).await;
        let (observer, publisher) = (session.observer.unwrap(), session.publisher.unwrap());
        let ids = publish_four(&publisher, 1).await;
        sidecar.harden(2);
        let ahead = BlockId { height: Height::new(9).unwrap(), hash: Hash([9; 32]) };
        let resume = async |named: &[BlockId]| {
            let start = Start::Resume { locator: [&[ahead], named].concat(), hard: None, given_from: None };
            observer.stream(&start, &StreamOptions::default()).await.unwrap()
        };
        let told = async |stream: &Stream| {
            let batch = stream.next(0, 0, LONG).await.unwrap();
            (batch.waits_for, batch.events)
        };
        let stream = resume(&[]).await;
        assert_eq!(told(&stream).await, (Some(WaitsFor::Name(ids[1].height)), vec![]));
        let stream = resume(&[ids[1]]).await;
        assert_eq!(told(&stream).await, (Some(WaitsFor::Us), vec![]));
        sidecar.harden(3);
        assert_eq!(told(&stream).await, (Some(WaitsFor::Name(ids[2].height)), vec![Event::Progress]));
        let other = BlockId { hash: Hash([3; 32]), ..ids[2] };
        let stream = resume(&[other, ids[1]]).await;
        let (waits_for, events) = told(&stream).await;
        assert_eq!((waits_for, &events[0]), (None, &Event::Retract { to: Some(ids[1]), epoch: 0 }));
        let other = BlockId { hash: Hash([4; 32]), ..ids[3] };
        let stream = resume(&[other, ids[2]]).await;
        assert_eq!(told(&stream).await, (Some(WaitsFor::Da), vec![]));
    });
}

struct KeyHolder(std::cell::Cell<bool>);

impl BlockSigner for KeyHolder {
    fn public_key(&self) -> PublicKey {
        blocks::public_key()
    }

    fn sign(&self, message: &[u8], _: BlockId) -> Result<[u8; 64], String> {
        if self.0.get() { Ok(blocks::signing_key().sign(message).to_bytes()) } else { Err("the key is locked".into()) }
    }
}

#[test]
fn a_host_signs_for_itself() {
    run(|| async {
        let sidecar = Sidecar::start(false);
        let client = Client::connect(&sidecar.socket).await.unwrap();
        let signer = Rc::new(KeyHolder(true.into()));
        let hello = Hello { name: "signer".into(), chain_id: None, roles: ALL };
        let session = client.open(&hello, Some(signer.clone())).await.unwrap();
        assert_eq!(session.info.proposer, Some(blocks::public_key()));
        let publisher = session.publisher.unwrap();
        accepted(publisher.publish(&new_block(1, vec![1])).await.unwrap());
        signer.0.set(false);
        let locked = publisher.publish(&new_block(2, vec![1])).await.unwrap();
        assert!(matches!(locked, PublishResult::NotReady { .. }), "{locked:?}");
        // The role goes, and the signer with it.
        drop(publisher);
        while client.info().await.unwrap().proposer.is_some() {}
        let own = Sidecar::start(true);
        let client = Client::connect(&own.socket).await.unwrap();
        let refused = client.open(&hello, Some(signer)).await;
        assert!(matches!(refused, Err(ClientError::NotSigner(_))), "{refused:?}");
    });
}

#[test]
fn a_host_of_another_chain_is_told_so() {
    run(|| async {
        let sidecar = Sidecar::start(true);
        let client = Client::connect(&sidecar.socket).await.unwrap();
        let chain_id = blocksyncd::block::ChainId::new("other");
        let refused = client.open(&Hello { name: String::new(), chain_id, roles: ALL }, None).await;
        assert!(matches!(refused, Err(ClientError::WrongChain(ref ours)) if ours == "test-chain"), "{refused:?}");
    });
}

/// For trying out clients by hand: `cargo test --test api_hostile -- --ignored stub_sidecar`, with the socket's path in
/// `STUB_SOCKET`; ends with its standard input.
#[test]
#[ignore = "a tool, not a test"]
fn stub_sidecar() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let path = std::env::var_os("STUB_SOCKET").expect("STUB_SOCKET names a path");
    let sidecar = Sidecar::start_at(tempdir::TempDir::in_memory(), path.as_ref(), true);
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    drop(sidecar);
}
