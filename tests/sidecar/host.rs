//! A host: its own state, and one session with a sidecar at a time.
//!
//! Invariant: what a host is told is judged against the contract before it becomes part of its state. Because a host always
//! resumes from its own state, whatever is told twice is judged as disorder.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use blocksyncd::api::client::{
    BlockSigner, Client, ClientError, Event, Hello, Lookup, Payload, ProposedBlock, PublishResult, Published,
    Publisher, ReportResult, Reporter, Roles, Session, SoftBlock, Start, StatusView, Stream, StreamOptions, Which,
    patiently,
};
use blocksyncd::api::{ReportedAs, ReportedSighting};
use blocksyncd::block::{BlockId, ChainId, Hash, Height, native};
use blocksyncd::sync::cursor::WaitsFor;
use blocksyncd::sync::{DaPosition, Origin};
use bytes::Bytes;

use super::place::{CHAIN_ID, Signed};
use super::process::Sidecar;
use super::{height, within};

/// A long poll; how long does not matter, because it is repeated until the deadline.
const POLL: Duration = Duration::from_secs(5);

/// What a host has been told, in the order of the chain, from height 1 on.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub chain: Vec<BlockId>,
    /// The newest hard height; 0: none.
    pub hard: u64,
    /// To which heights it was told to rewind; 0: everything.
    pub retracts: Vec<u64>,
    pub equivocations: Vec<Height>,
    pub payloads: BTreeMap<u64, Bytes>,
    pub origins: BTreeMap<u64, Origin>,
    /// The newest height that it was told exists.
    pub target: u64,
    /// At which heights it was asked for its blocks, while it waited.
    pub asked_for: Vec<Height>,
}

impl Ledger {
    /// Of a host that executed these blocks long ago.
    pub fn starting_at(chain: &[BlockId]) -> Self {
        let hard = chain.len() as u64;
        Self { chain: chain.to_vec(), hard, ..Self::default() }
    }

    pub fn soft(&self) -> u64 {
        self.chain.len() as u64
    }

    /// The block at a height that was told.
    #[track_caller]
    pub fn at(&self, at: u64) -> BlockId {
        self.chain[usize::try_from(at - 1).unwrap()]
    }

    pub fn tip(&self) -> Option<BlockId> {
        self.chain.last().copied()
    }

    /// Dense for the newest ten, then sparser.
    fn locator(&self) -> Vec<BlockId> {
        let mut locator = Vec::new();
        let (mut at, mut step) = (self.soft(), 1);
        while at > self.hard {
            locator.push(self.at(at));
            if locator.len() >= 10 {
                step *= 2;
            }
            at = at.saturating_sub(step);
        }
        if self.hard > 0 {
            locator.push(self.at(self.hard));
        }
        if let Some(asked_for) = self.asked_for.last().filter(|at| at.get() <= self.soft()) {
            locator.push(self.at(asked_for.get()));
            locator.sort_by_key(|id| Reverse(id.height));
            locator.dedup();
        }
        locator
    }

    pub fn resume(&self) -> Start {
        let hard = (self.hard > 0).then(|| self.at(self.hard));
        Start::Resume { locator: self.locator(), hard, given_from: None }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Soft(block) => self.soft_event(block),
            Event::Hard { id, .. } => {
                assert_eq!(id.height.get(), self.hard + 1, "hard comes in order, each once: {self:?}");
                assert!(id.height.get() <= self.soft(), "hard {id} before soft: {self:?}");
                assert_eq!(self.at(id.height.get()), id, "what was soft becomes hard");
                self.hard += 1;
            }
            Event::Retract { to, .. } => {
                let at = to.map_or(0, |to| to.height.get());
                assert!((self.hard..self.soft()).contains(&at), "nonsense, to retract to {at}: {self:?}");
                self.chain.truncate(usize::try_from(at).unwrap());
                assert_eq!(self.tip(), to, "what stays is what was told");
                self.retracts.push(at);
            }
            Event::Equivocation { height, first, second } => {
                assert_ne!(first, second);
                self.equivocations.push(height);
            }
            Event::Progress => {}
            Event::Gap { .. } | Event::DataLoss { .. } => panic!("nothing was pruned or damaged: {event:?}"),
        }
    }

    fn soft_event(&mut self, block: SoftBlock) {
        let id = block.id;
        assert_eq!(id.height.get(), self.soft() + 1, "no gap and no repeat: {self:?}");
        assert_eq!(block.parent, self.tip().map(|tip| tip.hash), "block {id} on what was told before");
        assert_eq!(Hash::of(&block.header), id.hash);
        let Payload::Bytes(payload) = block.payload else { panic!("bodies were asked for") };
        self.chain.push(id);
        self.payloads.insert(id.height.get(), payload);
        self.origins.insert(id.height.get(), block.origin.expect("a sidecar of our own version says it"));
    }
}

/// What a host is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Publisher,
    Follower,
}

/// One session, with a stream that resumed from the host's own state.
#[derive(Debug)]
pub struct Host {
    pub ledger: Ledger,
    role: Role,
    session: Session,
    client: Client,
    stream: Stream,
}

/// Opens a session, or says why not.
async fn open(
    sidecar: &Sidecar,
    role: Role,
    signer: Option<Rc<dyn BlockSigner>>,
) -> Result<(Client, Session), ClientError> {
    let client = Client::connect(&sidecar.socket()).await?;
    let roles = Roles { observer: true, publisher: role == Role::Publisher, reporter: true };
    let hello = Hello { name: "test".into(), chain_id: ChainId::new(CHAIN_ID), roles };
    let session = client.open(&hello, signer).await?;
    Ok((client, session))
}

impl Host {
    /// A host that knows nothing yet.
    pub async fn publisher(sidecar: &Sidecar) -> Self {
        Self::resume(sidecar, Role::Publisher, Ledger::default()).await
    }

    /// A host that knows nothing yet.
    pub async fn follower(sidecar: &Sidecar) -> Self {
        Self::resume(sidecar, Role::Follower, Ledger::default()).await
    }

    /// A host that signs itself.
    pub async fn signer(sidecar: &Sidecar, ledger: Ledger, signer: Rc<dyn BlockSigner>) -> Self {
        Self::try_new(sidecar, Role::Publisher, ledger, Some(signer)).await.unwrap()
    }

    pub async fn resume(sidecar: &Sidecar, role: Role, ledger: Ledger) -> Self {
        Self::try_new(sidecar, role, ledger, None).await.unwrap()
    }

    pub async fn try_new(
        sidecar: &Sidecar,
        role: Role,
        ledger: Ledger,
        signer: Option<Rc<dyn BlockSigner>>,
    ) -> Result<Self, ClientError> {
        let opened = async {
            let (client, session) = open(sidecar, role, signer).await?;
            let stream = session.observer.as_ref().unwrap().stream(&ledger.resume(), &StreamOptions::default()).await?;
            Ok::<_, ClientError>((client, session, stream))
        };
        let (client, session, stream) = within("a session", opened).await?;
        Ok(Self { ledger, role, session, client, stream })
    }

    /// Goes on with another sidecar, or the same one started again, from the host's own state.
    pub async fn reattach(self, sidecar: &Sidecar) -> Self {
        Self::resume(sidecar, self.role, self.ledger).await
    }

    /// Takes in events until `done`.
    #[track_caller]
    pub fn until<'a>(
        &'a mut self,
        what: &'a str,
        done: impl Fn(&Ledger) -> bool + 'a,
    ) -> impl Future<Output = ()> + 'a {
        within(what, async move {
            while !done(&self.ledger) {
                let batch = self.stream.next(0, 0, POLL).await.unwrap();
                for event in batch.events {
                    self.ledger.apply(event);
                }
                self.ledger.target = batch.heads.target.map_or(0, Height::get);
                if let Some(WaitsFor::Name(at)) = batch.waits_for {
                    self.ledger.asked_for.push(at);
                    let observer = self.session.observer.as_ref().unwrap();
                    self.stream = observer.stream(&self.ledger.resume(), &StreamOptions::default()).await.unwrap();
                }
            }
        })
    }

    pub async fn until_soft(&mut self, at: u64) {
        self.until("soft", |ledger| ledger.soft() >= at).await;
    }

    pub async fn until_hard(&mut self, at: u64) {
        self.until("hard", |ledger| ledger.hard >= at).await;
    }

    pub fn desk(&self) -> &Publisher {
        self.session.publisher.as_ref().unwrap()
    }

    pub fn reporter(&self) -> &Reporter {
        self.session.reporter.as_ref().unwrap()
    }

    /// The block of this payload on this parent, with a time that follows from the height.
    pub fn new_block(parent: Option<BlockId>, payload: impl Into<Bytes>) -> ProposedBlock {
        let at = parent.map_or(height(1), |parent| parent.height.next());
        ProposedBlock {
            height: at,
            parent: parent.map(|parent| parent.hash),
            time_unix_nanos: time_of(at),
            host_id: Bytes::new(),
            payload: payload.into(),
        }
    }

    pub async fn try_publish(&self, block: &ProposedBlock) -> PublishResult {
        within("an answer to a publish", patiently(Duration::MAX, || self.desk().publish(block))).await.unwrap()
    }

    pub async fn try_publish_signed(&self, block: &[u8]) -> PublishResult {
        within("an answer to a publish", patiently(Duration::MAX, || self.desk().publish_signed(block))).await.unwrap()
    }

    /// Publishes what must be accepted.
    pub async fn publish(&self, parent: Option<BlockId>, payload: impl Into<Bytes>) -> Published {
        match self.try_publish(&Self::new_block(parent, payload)).await {
            PublishResult::Accepted(published) => published,
            other => panic!("not accepted: {other:?}"),
        }
    }

    /// Publishes `n` small blocks on top of `parent`.
    pub async fn publish_chain(&self, parent: Option<BlockId>, n: u64) -> Vec<Signed> {
        let mut chain: Vec<Signed> = Vec::new();
        for _ in 0..n {
            let parent = chain.last().map(|block| block.id).or(parent);
            let published = self.publish(parent, payload_on(parent)).await;
            chain.push(Signed { id: published.id, bytes: published.signed_block });
        }
        chain
    }

    /// Publishes `n` small blocks, the first of the chain; their ids.
    pub async fn publish_first(&self, n: u64) -> Vec<BlockId> {
        self.publish_chain(None, n).await.into_iter().map(|block| block.id).collect()
    }

    /// Reports one DA height in which these blocks are, in this order. Nothing of it is junk.
    pub async fn report(&self, da_height: u64, blocks: &[(Height, ReportedAs)]) -> ReportResult {
        let sightings: Vec<_> = (0..)
            .zip(blocks)
            .map(|(index, (height, what))| ReportedSighting {
                position: DaPosition { height: da_height, index },
                height: Some(*height),
                what: what.clone(),
            })
            .collect();
        let reported = self.report_range(da_height - 1, da_height, &sightings).await;
        if let ReportResult::Taken(taken) = &reported {
            assert_eq!((taken.junk, taken.passed_over), (0, 0));
        }
        reported
    }

    pub async fn report_range(&self, after: u64, through: u64, sightings: &[ReportedSighting]) -> ReportResult {
        within("an answer to a report", self.reporter().report(after, through, sightings)).await.unwrap()
    }

    /// Reports one DA height in which these blocks are, which the sidecar has, by the digests of their bytes.
    pub async fn report_digests(&self, da_height: u64, blocks: &[BlockId]) -> ReportResult {
        let mut digests = Vec::new();
        for id in blocks {
            digests.push((id.height, ReportedAs::Digest(Hash::of(&self.bytes_of(*id).await))));
        }
        self.report(da_height, &digests).await
    }

    /// The encoded block, which the sidecar has.
    pub async fn bytes_of(&self, id: BlockId) -> Bytes {
        match within("a block", self.observer().block(Which::Id(id))).await.unwrap() {
            Lookup::Found { block: SoftBlock { header, signature, payload: Payload::Bytes(payload), .. }, .. } => {
                native::encode(&header, &signature, &payload)
            }
            other => panic!("{id} is not here: {other:?}"),
        }
    }

    /// Up to which DA height everything was reported.
    pub async fn da_position(&self) -> u64 {
        within("an answer", self.reporter().position()).await.unwrap()
    }

    pub async fn ack(&self, up_to: BlockId) -> bool {
        within("an answer to an ack", self.stream.ack(up_to)).await.unwrap()
    }

    pub async fn status(&self) -> StatusView {
        within("a status", self.observer().status()).await.unwrap()
    }

    /// Asks until the status is as wanted. There is no event for what only a status says.
    pub async fn until_status(&self, what: &str, done: impl Fn(&StatusView) -> bool) -> StatusView {
        within(what, async {
            loop {
                let status = self.observer().status().await.unwrap();
                if done(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Acknowledges under a name, up to what was told.
    pub async fn ack_as(&self, consumer: &str, up_to: BlockId) -> bool {
        let options = StreamOptions { consumer: Some(consumer.into()), ..StreamOptions::default() };
        let stream = within("a stream", self.observer().stream(&Start::Tip, &options)).await.unwrap();
        within("an answer to an ack", stream.ack(up_to)).await.unwrap()
    }

    /// What a stream from genesis on tells, in words, up to the soft block at `last` and the hard one at `last_hard`.
    pub async fn history(&self, last: u64, last_hard: u64) -> String {
        let stream =
            within("a stream", self.observer().stream(&Start::Genesis, &StreamOptions::default())).await.unwrap();
        let (mut words, mut soft, mut hard) = (Vec::new(), 0, 0);
        within("history", async {
            while soft < last || hard < last_hard {
                for event in stream.next(0, 0, POLL).await.unwrap().events {
                    match event {
                        Event::Soft(block) => {
                            soft = block.id.height.get();
                            words.push(soft.to_string());
                        }
                        Event::Hard { id, confirmed } => {
                            hard = id.height.get();
                            words.push(format!("hard{hard}@{}", confirmed.position.height));
                        }
                        Event::Gap { from, to } => words.push(format!("gap{from}-{to}")),
                        other => panic!("not history: {other:?}"),
                    }
                }
            }
        })
        .await;
        words.join(" ")
    }

    pub fn observer(&self) -> &blocksyncd::api::client::Observer {
        self.session.observer.as_ref().unwrap()
    }

    pub async fn admin(&self) -> blocksyncd::api::client::Admin {
        self.client.admin().await.unwrap()
    }

    /// What is stored at a height.
    pub async fn stored(&self, at: u64) -> Option<BlockId> {
        match within("a lookup", self.observer().block(Which::Height(height(at)))).await.unwrap() {
            Lookup::Found { block, .. } => Some(block.id),
            Lookup::NotFound => None,
            Lookup::Pruned { .. } => panic!("nothing is pruned here"),
        }
    }
}

/// Every height has its time, in seconds since the epoch: long past, so that no clock matters.
pub fn time_of(at: Height) -> u64 {
    at.get() * 1_000_000_000
}

/// The payload of the usual block on top of `parent`.
pub fn payload_on(parent: Option<BlockId>) -> Bytes {
    format!("payload on {parent:?}").into()
}
