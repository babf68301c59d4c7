//! Connections: seeds, bans, and who counts as a peer.

use std::time::Duration;

use blocksyncd::p2p::{Event, Limits, PeerPolicy, StartError, start_with};
use blocksyncd::sync::BlockQuery;
use tokio::sync::mpsc;

use super::network::{Chain, Options, PATIENCE, QUIC, TCP, config, pair, start};
use super::stranger::{Stranger, header_ex};

#[tokio::test]
async fn a_seed_that_comes_later_is_found_and_found_again_when_it_comes_back() {
    for listen in [TCP, QUIC] {
        // Learn an address that is free, then leave it.
        let seed = start(Options::new(2).listen(listen)).await;
        let address = seed.address.clone();
        let (place, _) = address.split_once("/p2p/").expect("with its peer id");
        let id = seed.id();
        seed.stop().await;

        let mut node = start(Options::new(1).listen(listen).seeds(&[&address])).await;
        // It listens already, so that the first dial was tried, or is about to be.
        assert!(node.peers().await.is_empty());
        for _ in 0..2 {
            let seed = start(Options::new(2).listen(place)).await;
            node.up(&id).await;
            let peers = node.peers().await;
            assert_eq!((peers.len(), peers[0].outbound), (1, true));
            // It is up before it has said who it is.
            node.until("its name", |peers| peers[0].agent.starts_with("blocksyncd/")).await;
            seed.stop().await;
            node.down(&id).await;
        }
    }
}

#[tokio::test]
async fn a_seed_may_be_without_its_name() {
    let server = start(Options::new(2)).await;
    let (place, _) = server.address.split_once("/p2p/").expect("with its peer id");
    let mut client = start(Options::new(1).seeds(&[place])).await;
    client.up(&server.id()).await;
}

#[tokio::test]
async fn two_that_dial_each_other_are_one_peer_each() {
    // The first one knows where the second will be.
    let place = start(Options::new(2)).await;
    let second_address = place.address.clone();
    let (second_place, _) = second_address.split_once("/p2p/").expect("with its peer id");
    let second_place = second_place.to_owned();
    place.stop().await;
    let mut first = start(Options::new(1).seeds(&[&second_address])).await;
    let first_address = first.address.clone();
    let mut second = start(Options::new(2).listen(&second_place).seeds(&[&first_address, &second_address])).await;
    first.up(&second.id()).await;
    second.up(&first.id()).await;
    assert_eq!((first.peers().await.len(), second.peers().await.len()), (1, 1));
    let second_id = second.id();
    second.stop().await;
    first.down(&second_id).await;
    assert!(!first.seen().iter().any(|event| matches!(event, Event::PeerUp(_) | Event::PeerDown(_))));
}

#[tokio::test]
async fn a_banned_peer_is_disconnected_kept_away_and_let_in_again() {
    let (mut client, mut server) = pair(TCP, Chain::new(1..=3, 10)).await;
    let (client_id, server_id) = (client.id(), server.id());
    // Long enough that the client, whose pauses begin at a second, is refused in between.
    server.ban(client_id.clone(), Duration::from_secs(4)).await;
    server.down(&client_id).await;
    client.down(&server_id).await;
    assert!(server.peers().await.is_empty());
    // The refused dials may look like short connections to the client, but never to the server.
    server.up(&client_id).await;
    while client.fetch(&server_id, BlockQuery::Head).await.0.is_empty() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A ban of another, who is not even here, disturbs nobody.
    let stranger = Stranger::connect(&server, &[&header_ex()]).await;
    server.ban(stranger.id(), PATIENCE).await;
    assert_eq!(client.fetch(&server_id, BlockQuery::Head).await.0.len(), 1);
}

#[tokio::test]
async fn a_stranger_is_listed_but_not_up_and_cannot_write_into_the_terminal() {
    let mut server = start(Options::new(2)).await;
    let mut stranger = Stranger::connect(&server, &["/something/else"]).await;
    let agent = loop {
        match server.peers().await.pop() {
            Some(peer) if !peer.agent.is_empty() => break peer.agent,
            _ => tokio::task::yield_now().await,
        }
    };
    assert_eq!(agent, "stranger\\n\\u{1b}[0m");
    server.ban(stranger.id(), PATIENCE).await;
    stranger.closed().await;
    assert!(!server.seen().iter().any(|event| matches!(event, Event::PeerUp(_) | Event::PeerDown(_))));
}

#[tokio::test]
async fn listening_on_all_interfaces_tells_each_address() {
    let mut node = start(Options::new(1).listen("/ip4/0.0.0.0/tcp/0")).await;
    let mut addresses = vec![node.address.clone()];
    addresses.extend(node.addresses.clone());
    while !addresses.iter().any(|address| address.starts_with("/ip4/127.0.0.1/tcp/")) {
        let address = node
            .wait("Listening", |event| match event {
                Event::Listening(address) => Ok(address),
                other => Err(other),
            })
            .await;
        addresses.push(address);
    }
    for address in addresses {
        assert!(!address.contains("0.0.0.0") && !address.contains("/tcp/0/") && address.contains("/p2p/"), "{address}");
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let taken = start(Options::new(2)).await;
    let (place, _) = taken.address.split_once("/p2p/").expect("with its peer id");
    let good = config(&Options::new(1));
    let starts = async |config| {
        let (events, _keep) = mpsc::channel(1);
        start_with(config, std::sync::Arc::new(Chain::default()), events).await.map(|_| ())
    };
    let mut bad = good.clone();
    bad.listen = vec![place.to_owned()];
    let error = starts(bad).await.expect_err("taken");
    assert!(matches!(&error, StartError::Listen { address, .. } if address == place), "{error}");

    let mut bad = good.clone();
    bad.seeds = vec!["/dnsaddr/peer.example/tcp/1".into()];
    let error = starts(bad).await.expect_err("no such records are looked up");
    assert!(matches!(&error, StartError::Address { .. }), "{error}");

    let mut bad = good.clone();
    bad.network_ids = vec![String::new()];
    assert!(matches!(starts(bad).await, Err(StartError::NetworkId(_))));

    let mut bad = good.clone();
    bad.memory_bytes = 1 << 20;
    let error = starts(bad).await.expect_err("too little memory");
    assert!(matches!(&error, StartError::Limits(_)) && error.to_string().contains("raise"), "{error}");
    assert!(!format!("{good:?}").contains("node_key"));
    assert_eq!(taken.limits(), Limits::derive(good.memory_bytes, good.max_block_bytes).expect("enough"));
}

#[tokio::test]
async fn a_seed_may_be_named_by_its_host() {
    let server = start(Options::new(2)).await;
    let named = server.address.replace("/ip4/127.0.0.1/", "/dns4/localhost/");
    let mut client = start(Options::new(1).seeds(&[&named])).await;
    client.up(&server.id()).await;
    // What is denied is denied under every name; the other seed shows that both were tried.
    let other = start(Options::new(3).listen("/ip4/127.0.0.2/tcp/0")).await;
    let deny = vec!["127.0.0.1".to_owned()];
    let options = Options::new(4).seeds(&[&named, "/dns4/no-such-host.invalid/tcp/1", &other.address]);
    let mut picky = start(options.policy(PeerPolicy { deny, ..PeerPolicy::default() })).await;
    picky.up(&other.id()).await;
    assert_eq!(picky.peers().await.len(), 1);
}
