//! Strangers that mean harm, on every protocol that we speak. Whatever they send, the others are served.

use blocksyncd::sync::{BlockQuery, FetchOutcome};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::network::{Chain, MAX_BLOCK, Network, PATIENCE, TCP, pair};
use super::rpc::{Control, Graft, IHave, IWant, Prune, Publish, Rpc, control, subscribe, topic};
use super::stranger::{Stranger, header_ex, read_to_end};

fn many(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("t{number}")).collect()
}

async fn still_serves(honest: &mut Network, server: &Network, after: &str) {
    let (bodies, outcome) = honest.fetch(&server.id(), BlockQuery::Head).await;
    assert_eq!((bodies.len(), outcome), (1, FetchOutcome::Complete), "after {after}");
}

#[tokio::test]
async fn gossip_attacks() {
    let (mut honest, server) = pair(TCP, Chain::new(1..=9, 10)).await;
    let prune = |backoff| Prune { topic: topic(), backoff };
    let grafts = |topics: Vec<String>| topics.into_iter().map(|topic| Graft { topic }).collect();
    let ids = |count: u32| (0..count).map(|id| id.to_be_bytes().to_vec()).collect::<Vec<_>>();
    let publish = |data: usize, from: Vec<u8>| {
        let message = Publish { from, data: vec![7; data], seqno: vec![0; 8], topic: topic(), signature: Vec::new() };
        Rpc { publish: vec![message; 3], ..Rpc::default() }.frame()
    };
    let attacks: Vec<(&str, Vec<u8>)> = vec![
        ("PRUNE for ever", control(Control { prune: vec![prune(u64::MAX)], ..Control::default() })),
        ("PRUNE nearly for ever", control(Control { prune: vec![prune(u64::MAX / 2); 9], ..Control::default() })),
        (
            "PRUNE of a topic that nobody has",
            control(Control { prune: vec![Prune { topic: "x".into(), backoff: 1 }], ..Control::default() }),
        ),
        ("GRAFT of a thousand topics", control(Control { graft: grafts(many(1000)), ..Control::default() })),
        ("GRAFT of a million topics", control(Control { graft: grafts(many(100_000)), ..Control::default() })),
        ("GRAFT over and over", control(Control { graft: grafts(vec![topic(); 500]), ..Control::default() })),
        ("a thousand topics", subscribe(many(1000))),
        ("ten topics of others", subscribe(many(10))),
        ("IWANT of nothing", control(Control { iwant: vec![IWant { ids: ids(1000) }], ..Control::default() })),
        (
            "IHAVE of nothing",
            control(Control { ihave: vec![IHave { topic: topic(), ids: ids(1000) }; 2], ..Control::default() }),
        ),
        ("messages of nobody", publish(100, Vec::new())),
        ("messages that nobody signed", publish(100, server.id().as_bytes().to_vec())),
        ("a giant message", publish(MAX_BLOCK, vec![1; 40])),
        ("a giant announced", vec![0xff, 0xff, 0xff, 0x7f]),
        ("garbage", vec![0xff; 4000]),
    ];
    for (what, bytes) in attacks {
        let stranger = Stranger::connect(&server, &["/meshsub/1.1.0", &header_ex()]).await;
        let stream = stranger.open("/meshsub/1.1.0").await;
        let (mut reading, mut writing) = stream.split();
        let write = async {
            // It may be hung up on half-way.
            let _ = writing.write_all(&subscribe(vec![topic()])).await;
            for _ in 0..3 {
                let _ = writing.write_all(&bytes).await;
            }
            let _ = writing.close().await;
            std::future::pending::<()>().await;
        };
        // gossipsub has seen it all, or as much as it wants to, once the stream is at its end.
        let read = async { while matches!(reading.read(&mut [0; 100]).await, Ok(count) if count > 0) {} };
        let outcome = futures::future::select(Box::pin(write), Box::pin(read));
        timeout(PATIENCE, outcome).await.unwrap_or_else(|_| panic!("{what} is never taken"));
        still_serves(&mut honest, &server, what).await;
    }
}

#[tokio::test]
async fn more_streams_than_allowed_end_only_the_own_connection() {
    let (mut honest, server) = pair(TCP, Chain::new(1..=9, 10)).await;
    let mut stranger = Stranger::connect(&server, &[]).await;
    let mut streams = Vec::new();
    for _ in 0..52 {
        streams.push(Some(stranger.open(&header_ex()).await));
    }
    // What is above the limit is reset at once; the others still get their answer.
    let mut reset = stranger.open(&header_ex()).await;
    assert!(read_to_end(&mut reset).await.is_empty());
    let mut first = streams.remove(0).expect("opened");
    first.write_all(&[4, 8, 0, 0x18, 1]).await.expect("written");
    assert!(!read_to_end(&mut first).await.is_empty());
    still_serves(&mut honest, &server, "too many streams").await;
    let (_none, none) = mpsc::unbounded_channel();
    let mut closed = std::mem::replace(&mut stranger.closed, none);
    // And far too many end the stranger's own connection.
    let flood = async {
        loop {
            streams.push(stranger.try_open(&header_ex()).await);
        }
    };
    let _ = futures::future::select(Box::pin(flood), Box::pin(async { closed.recv().await })).await;
    still_serves(&mut honest, &server, "far too many streams").await;
}
