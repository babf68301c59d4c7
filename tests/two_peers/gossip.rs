//! Gossip: passed on after its verdict and not before, by whoever handed it over, and missed with a word when there is no
//! room.

use blocksyncd::p2p::Event;
use blocksyncd::sync::{PeerId, Ticket, Verdict};
use bytes::Bytes;
use futures::AsyncWriteExt as _;
use libp2p::identity::Keypair;
use tokio::time::{Duration, interval};

use super::network::{MAX_BLOCK, Network, Options, PATIENCE, QUIC, TCP, block, start};
use super::rpc::{Control, IHave, Publish, Rpc, control, subscribe, topic};
use super::stranger::{Stranger, header_ex};

/// Publishes one block after the other until `reached` has seen one that everybody on the way accepted. Returns its number.
///
/// Meshes form at gossipsub's own pace, so that the first blocks may reach nobody.
async fn until_it_flows(from: &Network, way: &mut [Network]) -> u64 {
    let mut tick = interval(Duration::from_millis(100));
    let mut number = 0;
    loop {
        tick.tick().await;
        number += 1;
        from.broadcast(block(number, 100)).await;
        let last = way.len() - 1;
        for (index, network) in way.iter_mut().enumerate() {
            for event in network.seen() {
                if let Event::Gossip { ticket, bytes, .. } = event {
                    network.judge(ticket, Verdict::Accept).await;
                    if index == last {
                        return u64::from_be_bytes(bytes[..8].try_into().expect("eight bytes"));
                    }
                }
            }
        }
    }
}

/// The next message with this number or a higher one.
async fn message(network: &mut Network, number: u64) -> (PeerId, Ticket, Bytes) {
    loop {
        let (peer, ticket, bytes) = network.gossip().await;
        if bytes[..8] >= number.to_be_bytes()[..] {
            return (peer, ticket, bytes);
        }
        network.judge(ticket, Verdict::Ignore).await;
    }
}

#[tokio::test]
async fn only_what_is_accepted_is_passed_on_over_tcp() {
    only_what_is_accepted_is_passed_on(TCP).await;
}

#[tokio::test]
async fn only_what_is_accepted_is_passed_on_over_quic() {
    only_what_is_accepted_is_passed_on(QUIC).await;
}

/// `a - b - c`, and whatever `c` sees went through `b`.
async fn only_what_is_accepted_is_passed_on(listen: &str) {
    let mut b = start(Options::new(2).listen(listen)).await;
    let a = start(Options::new(1).listen(listen).seeds(&[&b.address])).await;
    let c = start(Options::new(3).listen(listen).seeds(&[&b.address])).await;
    let (a_id, b_id) = (a.id(), b.id());
    b.up(&a_id).await;
    b.up(&c.id()).await;
    let mut way = [b, c];
    until_it_flows(&a, &mut way).await;
    let [mut b, mut c] = way;

    let first = 1_000_000;
    for (number, verdict) in [(first, Verdict::Ignore), (first + 1, Verdict::Reject)] {
        a.broadcast(block(number, 100)).await;
        let (peer, ticket, bytes) = message(&mut b, first).await;
        assert_eq!((peer, bytes), (a_id.clone(), block(number, 100)));
        b.judge(ticket, verdict).await;
        // A second verdict changes nothing.
        b.judge(ticket, Verdict::Accept).await;
    }
    a.broadcast(block(first + 2, MAX_BLOCK)).await;
    let (_, ticket, _) = message(&mut b, first).await;
    b.judge(ticket, Verdict::Accept).await;
    let (peer, _, bytes) = message(&mut c, first).await;
    assert_eq!(bytes, block(first + 2, MAX_BLOCK), "what was ignored or rejected came through");
    assert_eq!(peer, b_id, "the peer is who handed it over, not who made it");
}

#[tokio::test]
async fn a_block_for_nobody_is_no_error() {
    let alone = start(Options::new(1)).await;
    alone.broadcast(block(1, 100)).await;
    assert!(alone.peers().await.is_empty());
}

#[tokio::test]
async fn a_full_queue_costs_gossip_and_says_so() {
    let mut b = start(Options { events: 2, ..Options::new(2) }).await;
    let a = start(Options::new(1).seeds(&[&b.address])).await;
    let a_id = a.id();
    b.up(&a_id).await;
    let mut way = [b];
    until_it_flows(&a, &mut way).await;
    let [mut b] = way;

    // More than the queue holds, while nobody reads it. Commands are taken all the same.
    let first = 1_000_000;
    for number in first..first + 20 {
        a.broadcast(block(number, 100)).await;
        b.peers().await;
    }
    // They are all on their way; what is read later is told as missed.
    let mut seen = 0;
    let mut missed = 0;
    while missed == 0 {
        let event = b
            .wait("anything", |event| match event {
                event @ (Event::Gossip { .. } | Event::GossipMissed(_)) => Ok(event),
                other => Err(other),
            })
            .await;
        match event {
            Event::Gossip { .. } => seen += 1,
            Event::GossipMissed(peer) => {
                assert_eq!(peer, a_id);
                missed += 1;
            }
            _ => {}
        }
    }
    assert!(seen < 20, "nothing was missed");
    // And it goes on.
    let mut way = [b];
    until_it_flows(&a, &mut way).await;
}

/// What go-libp2p-pubsub puts into one RPC: the ids of everything that it heard in three seconds, and then, up to 1 MiB, all
/// that it was asked for of that. Whatever is too much for us ends the stream.
#[tokio::test]
async fn an_rpc_may_be_as_large_as_those_of_go() {
    const MESHSUB: &str = "/meshsub/1.1.0";
    let mut node = start(Options { events: 1000, ..Options::new(1) }).await;
    let mut go = Stranger::connect(&node, &[MESHSUB, &header_ex()]).await;
    node.up(&go.id()).await;
    let mut writing = go.open(MESHSUB).await;
    let mut reading = go.accept().await;

    let author = Keypair::generate_ed25519();
    let heard: Vec<_> = (0..1300).map(|number| Publish::signed(&author, number, block(number, 3800).into())).collect();
    let ids = heard.iter().map(Publish::id).collect();
    writing.write_all(&subscribe(vec![topic()])).await.expect("written");
    let ihave = control(Control { ihave: vec![IHave { topic: topic(), ids }], ..Control::default() });
    writing.write_all(&ihave).await.expect("written");
    writing.flush().await.expect("written");

    let asked = async {
        loop {
            let rpc = Rpc::read(&mut reading).await;
            if let Some(iwant) = rpc.control.and_then(|control| control.iwant.into_iter().next()) {
                return iwant.ids;
            }
        }
    };
    let asked = tokio::time::timeout(PATIENCE, asked).await.expect("it asks");
    let publish: Vec<_> = heard.into_iter().filter(|message| asked.contains(&message.id())).collect();
    let answered = publish.len();
    let answer = Rpc { publish, ..Rpc::default() }.frame();
    assert!(answered > 100 && answer.len() > 1_000_000 && answer.len() < 1 << 20, "{answered}, {}", answer.len());
    writing.write_all(&answer).await.expect("written");
    writing.flush().await.expect("written");
    for _ in 0..answered {
        let (_, ticket, _) = node.gossip().await;
        node.judge(ticket, Verdict::Ignore).await;
    }
}
