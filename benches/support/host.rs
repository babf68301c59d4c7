//! The hosts of the sidecars that are measured.

use std::time::Duration;

use blocksyncd::api::client::{Client, Hello, Roles, Session, Start, StreamOptions};

use super::process::Sidecar;

/// A long poll; it is repeated.
pub const POLL: Duration = Duration::from_secs(5);

/// Runs hosts, all on this thread.
pub fn local<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// A host that observes and may publish.
pub async fn open(sidecar: &Sidecar) -> Session {
    let client = Client::connect(&sidecar.socket()).await.expect("it is ready");
    let roles = Roles { observer: true, publisher: true, reporter: false };
    let hello = Hello { name: "bench".into(), roles, ..Hello::default() };
    client.open(&hello, None).await.expect("nobody else has the roles")
}

/// Waits until every block up to this height is soft there.
pub async fn until_soft(sidecar: &Sidecar, height: u64) {
    let host = open(sidecar).await;
    let observer = host.observer.as_ref().expect("asked for");
    let options = StreamOptions { with_bodies: false, ..StreamOptions::default() };
    let stream = observer.stream(&Start::Tip, &options).await.expect("a stream");
    let is_there = async || {
        let batch = stream.next(0, 0, POLL).await.expect("the sidecar goes on");
        batch.heads.soft.is_some_and(|soft| soft.height.get() >= height)
    };
    while !is_there().await {}
}
