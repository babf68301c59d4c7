//! The host beside one of our sidecars: publishes blocks that it signed itself, and waits for what it is told.

use std::time::Duration;

use blocksyncd::api::client::{
    Client, Hello, PublishResult, ReportResult, Roles, Session, Start, Stream, StreamOptions, patiently,
};
use blocksyncd::api::{ReportedAs, ReportedSighting};
use blocksyncd::block::{BlockId, ChainId};
use blocksyncd::sync::DaPosition;
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use super::DEADLINE;
use super::chain::{CHAIN_ID, Signed};
use super::process::Sidecar;

/// A long poll; how long does not matter, because it is repeated until the deadline.
const POLL: Duration = Duration::from_secs(5);

/// One session. Its calls block, since Go peers are driven by calls that block.
pub struct Host {
    runtime: Runtime,
    tasks: LocalSet,
    session: Session,
    stream: Stream,
    _client: Client,
}

impl Host {
    #[track_caller]
    pub fn publisher(sidecar: &Sidecar) -> Self {
        Self::open(sidecar, true)
    }

    #[track_caller]
    pub fn follower(sidecar: &Sidecar) -> Self {
        Self::open(sidecar, false)
    }

    #[track_caller]
    fn open(sidecar: &Sidecar, publisher: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tasks = LocalSet::new();
        let (client, session, stream) = tasks.block_on(&runtime, async {
            let client = Client::connect(&sidecar.socket()).await.unwrap();
            let roles = Roles { observer: true, publisher, reporter: true };
            let hello = Hello { name: "interop".into(), chain_id: ChainId::new(CHAIN_ID), roles };
            let session = client.open(&hello, None).await.unwrap();
            let options = StreamOptions { with_bodies: false, ..StreamOptions::default() };
            let stream = session.observer.as_ref().unwrap().stream(&Start::Genesis, &options).await.unwrap();
            (client, session, stream)
        });
        Self { runtime, tasks, session, stream, _client: client }
    }

    #[track_caller]
    fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let future = async { tokio::time::timeout(DEADLINE, future).await };
        self.tasks.block_on(&self.runtime, future).unwrap_or_else(|_| panic!("it never comes to pass: {what}"))
    }

    /// Publishes what must be accepted.
    #[track_caller]
    pub fn publish(&self, blocks: &[Signed]) {
        let desk = self.session.publisher.as_ref().unwrap();
        for block in blocks {
            let publish = patiently(DEADLINE, || desk.publish_signed(&block.bytes));
            let result = self.within("an answer to a publish", publish).unwrap();
            assert!(matches!(&result, PublishResult::Accepted(published) if published.id == block.id), "{result:?}");
        }
    }

    /// Reads on until a height is soft; gives the newest block that is.
    #[track_caller]
    pub fn until_soft(&self, at: u64) -> BlockId {
        self.until(&format!("soft {at}"), |soft| soft.height.get() >= at)
    }

    /// Reads on until this very block is soft.
    #[track_caller]
    pub fn until_tip(&self, tip: BlockId) {
        self.until(&format!("tip {tip:?}"), |soft| soft == tip);
    }

    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(BlockId) -> bool) -> BlockId {
        self.within(what, async {
            loop {
                let batch = self.stream.next(0, 0, POLL).await.unwrap();
                if let Some(soft) = batch.heads.soft.filter(|soft| done(*soft)) {
                    return soft;
                }
            }
        })
    }

    /// Reports one DA height in which these blocks are.
    #[track_caller]
    pub fn report(&self, da_height: u64, blocks: &[Signed]) {
        let sightings: Vec<_> = (0..)
            .zip(blocks)
            .map(|(index, block)| ReportedSighting {
                position: DaPosition { height: da_height, index },
                height: Some(block.id.height),
                what: ReportedAs::SignedBlock(block.bytes.clone()),
            })
            .collect();
        let reporter = self.session.reporter.as_ref().unwrap();
        let reported = self.within("an answer to a report", reporter.report(da_height - 1, da_height, &sightings));
        let reported = reported.unwrap();
        assert!(matches!(&reported, ReportResult::Taken(taken) if taken.junk == 0), "{reported:?}");
    }
}
