//! A network under test: the real thing, with a store in memory behind it and its events at hand.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blocksyncd::block::{Hash, Height, Lane};
use blocksyncd::p2p::{self, Command, Config, Event, Handle, Limits, PeerPolicy, ServeSource, ServeView, StartError};
use blocksyncd::store::StoreError;
use blocksyncd::sync::serve::Span;
use blocksyncd::sync::{
    Acquaintance, BlockQuery, Fetch, FetchOutcome, Offence, PeerId, PeerInfo, PeerList, PeerOrder, RequestId, Ticket,
    Verdict,
};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

pub const NETWORK: &str = "test-block";
pub const MAX_BLOCK: usize = 64 * 1024;

/// Only bounds a hang: nothing here is judged by how long it takes.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub fn height(height: u64) -> Height {
    Height::new(height).expect("not 0")
}

/// A chain in memory. Cheap to clone; what is changed is seen by new views only.
#[derive(Clone, Default)]
pub struct Chain {
    blocks: Arc<Mutex<Arc<BTreeMap<u64, Bytes>>>>,
    pub reads: Arc<AtomicUsize>,
    broken: bool,
}

impl Chain {
    /// Blocks of `size` bytes at these heights.
    pub fn new(heights: std::ops::RangeInclusive<u64>, size: usize) -> Self {
        let chain = Self::default();
        chain.replace(heights.map(|height| (height, block(height, size))).collect());
        chain
    }

    /// Every read fails.
    pub fn broken() -> Self {
        Self { broken: true, ..Self::new(1..=3, 10) }
    }

    pub fn replace(&self, blocks: BTreeMap<u64, Bytes>) {
        *self.blocks.lock().expect("not poisoned") = Arc::new(blocks);
    }
}

/// Tells its height, and is never empty.
pub fn block(height: u64, size: usize) -> Bytes {
    let mut bytes = height.to_be_bytes().to_vec();
    bytes.resize(size.max(8), 0xab);
    bytes.into()
}

pub fn hash(height: u64) -> Hash {
    Hash::of(&height.to_be_bytes())
}

impl ServeSource for Chain {
    fn view(&self) -> Box<dyn ServeView> {
        let blocks = self.blocks.lock().expect("not poisoned").clone();
        Box::new(Moment { blocks, reads: self.reads.clone(), broken: self.broken })
    }
}

struct Moment {
    blocks: Arc<BTreeMap<u64, Bytes>>,
    reads: Arc<AtomicUsize>,
    broken: bool,
}

impl Moment {
    /// Up to the first one that is missing.
    fn run(&self, from: Height, to: Height) -> impl Iterator<Item = &Bytes> {
        (from.get()..=to.get()).map_while(|height| self.blocks.get(&height))
    }
}

impl ServeView for Moment {
    fn span(&self) -> Result<Option<Span>, StoreError> {
        let first = self.blocks.keys().next().copied().and_then(Height::new);
        let last = self.blocks.keys().next_back().copied().and_then(Height::new);
        Ok(first.zip(last).map(|(tail, soft)| Span { tail, soft }))
    }

    fn sizes(&self, lane: Lane, from: Height, to: Height) -> Result<Vec<usize>, StoreError> {
        assert_eq!(lane, Lane::BLOCK);
        Ok(self.run(from, to).map(Bytes::len).collect())
    }

    fn parts(&self, lane: Lane, from: Height, to: Height, take: &mut dyn FnMut(Bytes)) -> Result<(), StoreError> {
        assert_eq!(lane, Lane::BLOCK);
        for block in self.run(from, to) {
            self.reads.fetch_add(1, Ordering::Relaxed);
            if self.broken {
                return Err(StoreError::Io { context: "planted".into(), why: "for the test".into() });
            }
            take(block.clone());
        }
        Ok(())
    }

    fn height_of(&self, _: Lane, wanted: Hash) -> Result<Option<Height>, StoreError> {
        Ok(self.blocks.keys().find(|height| hash(**height) == wanted).copied().and_then(Height::new))
    }
}

/// One running network.
pub struct Network {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    /// Events that were not what somebody waited for.
    aside: VecDeque<Event>,
    pub address: String,
    /// All of them, as far as they were told when it was ready.
    pub addresses: Vec<String>,
    next_request: u64,
}

pub struct Options {
    pub key: u8,
    pub listen: String,
    pub seeds: Vec<String>,
    pub policy: PeerPolicy,
    pub book: Option<PathBuf>,
    pub chain: Chain,
    /// The room of the event queue.
    pub events: usize,
}

impl Options {
    pub fn new(key: u8) -> Self {
        Self {
            key,
            listen: TCP.into(),
            seeds: Vec::new(),
            policy: PeerPolicy::default(),
            book: None,
            chain: Chain::default(),
            events: 64,
        }
    }

    /// Of the node that this makes.
    pub fn id(&self) -> PeerId {
        let id: libp2p::PeerId = p2p::peer_id_of(&[self.key; 32]).parse().expect("a peer id");
        PeerId::new(&id.to_bytes())
    }

    pub fn seeds(mut self, seeds: &[&str]) -> Self {
        self.seeds = seeds.iter().map(|&seed| seed.to_owned()).collect();
        self
    }

    pub fn policy(mut self, policy: PeerPolicy) -> Self {
        self.policy = policy;
        self
    }

    pub fn book(mut self, path: &Path) -> Self {
        self.book = Some(path.to_owned());
        self
    }

    pub fn chain(mut self, chain: Chain) -> Self {
        self.chain = chain;
        self
    }

    pub fn listen(mut self, address: &str) -> Self {
        address.clone_into(&mut self.listen);
        self
    }
}

pub const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

pub fn config(options: &Options) -> Config {
    Config {
        node_key: [options.key; 32],
        listen: options.listen.split(',').map(str::to_owned).collect(),
        seeds: options.seeds.clone(),
        policy: options.policy.clone(),
        address_book: options.book.clone(),
        network_ids: vec![NETWORK.into()],
        max_block_bytes: MAX_BLOCK,
        memory_bytes: 512 << 20,
    }
}

pub async fn start(options: Options) -> Network {
    timeout(PATIENCE, async {
        loop {
            match try_start(&options).await {
                Ok(network) => return network,
                // Whoever had this very port a moment ago is still letting go of it.
                Err(StartError::Listen { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
    .expect("it starts in time")
}

async fn try_start(options: &Options) -> Result<Network, StartError> {
    let (sender, events) = mpsc::channel(options.events);
    let handle = p2p::start_with(config(options), Arc::new(options.chain.clone()), sender).await?;
    let mut network = Network {
        handle,
        events,
        aside: VecDeque::new(),
        address: String::new(),
        addresses: Vec::new(),
        next_request: 0,
    };
    loop {
        let listening = |event| match event {
            Event::Listening(address) => Ok(Some(address)),
            Event::Started => Ok(None),
            other => Err(other),
        };
        match network.wait("that it has started", listening).await {
            Some(address) => network.addresses.push(address),
            None => break,
        }
    }
    network.address = network.addresses[0].clone();
    Ok(network)
}

/// Two that are connected, the second with `chain`; both know each other as up.
pub async fn pair(listen: &str, chain: Chain) -> (Network, Network) {
    let mut server = start(Options::new(2).listen(listen).chain(chain)).await;
    let mut client = start(Options::new(1).listen(listen).seeds(&[&server.address])).await;
    client.up(&server.id()).await;
    server.up(&client.id()).await;
    (client, server)
}

impl Network {
    pub fn id(&self) -> PeerId {
        let id: libp2p::PeerId = self.handle.local_peer_id.parse().expect("a peer id");
        PeerId::new(&id.to_bytes())
    }

    pub fn known_peers(&self) -> Acquaintance {
        self.handle.known_peers
    }

    pub fn limits(&self) -> Limits {
        self.handle.limits.clone()
    }

    pub async fn send(&self, command: Command) {
        timeout(PATIENCE, self.handle.commands.send(command)).await.expect("taken in time").expect("it runs");
    }

    /// The first event that `wanted` takes; the others stay for later.
    pub async fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Result<T, Event>) -> T {
        let mut others = VecDeque::new();
        let mut earlier = std::mem::take(&mut self.aside);
        let found = loop {
            let event = match earlier.pop_front() {
                Some(event) => event,
                None => timeout(PATIENCE, self.events.recv())
                    .await
                    .unwrap_or_else(|_| panic!("no {what}; there was {others:?}"))
                    .unwrap_or_else(|| panic!("it ended before: {what}")),
            };
            match wanted(event) {
                Ok(found) => break found,
                Err(other) => others.push_back(other),
            }
        };
        others.extend(earlier);
        self.aside = others;
        found
    }

    /// What has arrived until now.
    pub fn seen(&mut self) -> Vec<Event> {
        let mut seen: Vec<_> = self.aside.drain(..).collect();
        while let Ok(event) = self.events.try_recv() {
            seen.push(event);
        }
        seen
    }

    pub async fn up(&mut self, wanted: &PeerId) {
        self.wait("PeerUp", |event| match event {
            Event::PeerUp(peer) if peer == *wanted => Ok(()),
            other => Err(other),
        })
        .await;
    }

    pub async fn down(&mut self, wanted: &PeerId) {
        self.wait("PeerDown", |event| match event {
            Event::PeerDown(peer) if peer == *wanted => Ok(()),
            other => Err(other),
        })
        .await;
    }

    pub async fn gossip(&mut self) -> (PeerId, Ticket, Bytes) {
        self.wait("Gossip", |event| match event {
            Event::Gossip { peer, ticket, bytes, .. } => Ok((peer, ticket, bytes)),
            other => Err(other),
        })
        .await
    }

    pub async fn judge(&self, ticket: Ticket, verdict: Verdict) {
        self.send(Command::Judge { ticket, verdict }).await;
    }

    pub async fn broadcast(&self, bytes: Bytes) {
        self.send(Command::Broadcast { lane: Lane::BLOCK, bytes }).await;
    }

    pub async fn ban(&self, peer: PeerId, duration: Duration) {
        self.send(Command::Ban { peer, offence: Offence::BadRange, duration }).await;
    }

    /// Those that are connected.
    pub async fn peers(&self) -> Vec<PeerInfo> {
        let all = self.list().await.peers;
        all.into_iter().filter(|peer| peer.connected.is_some()).collect()
    }

    /// Asks until the connected peers are as wanted. There is no event for what only the list says.
    pub async fn until(&self, what: &str, done: impl Fn(&[PeerInfo]) -> bool) {
        let asking = async {
            while !done(&self.peers().await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    pub async fn list(&self) -> PeerList {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Peers { standings: BTreeMap::new(), reply }).await;
        timeout(PATIENCE, answer).await.expect("in time").expect("answered")
    }

    pub async fn order(&self, order: PeerOrder) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Order { order, reply }).await;
        timeout(PATIENCE, answer).await.expect("in time").expect("answered")
    }

    pub async fn ask(&mut self, peer: &PeerId, query: BlockQuery, max_bytes: usize, timeout: Duration) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        let fetch = Fetch { request, peer: peer.clone(), lane: Lane::BLOCK, query, max_bytes, timeout };
        self.send(Command::Fetch(fetch)).await;
        request
    }

    pub async fn answer(&mut self, wanted: RequestId) -> (Vec<Bytes>, FetchOutcome) {
        self.wait("Fetched", |event| match event {
            Event::Fetched { request, bodies, outcome, .. } if request == wanted => Ok((bodies, outcome)),
            other => Err(other),
        })
        .await
    }

    pub async fn fetch(&mut self, peer: &PeerId, query: BlockQuery) -> (Vec<Bytes>, FetchOutcome) {
        let request = self.ask(peer, query, usize::MAX, PATIENCE).await;
        self.answer(request).await
    }

    /// Stops, and waits until nothing of it runs.
    pub async fn stop(self) {
        let Self { handle, mut events, .. } = self;
        drop(handle);
        while timeout(PATIENCE, events.recv()).await.expect("it ends").is_some() {}
    }
}

pub fn range(from: u64, amount: u64) -> BlockQuery {
    BlockQuery::Range { from: height(from), amount }
}

/// The heights of what was fetched.
pub fn heights(bodies: &[Bytes]) -> Vec<u64> {
    let first = |body: &Bytes| body[..8].try_into().map(u64::from_be_bytes).expect("eight bytes");
    bodies.iter().map(first).collect()
}
