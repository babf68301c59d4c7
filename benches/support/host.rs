//! The hosts of the sidecars that are measured.

use std::time::Duration;

use blocksyncd::api::client::Client;

use super::process::Sidecar;

/// How often a node is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs hosts, all on this thread.
pub fn local<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// Waits until every block up to this height is soft there. No stream is open meanwhile: what a host costs is another case.
pub async fn until_soft(sidecar: &Sidecar, height: u64) {
    let client = Client::connect(&sidecar.socket()).await.expect("it is ready");
    let is_there = async || {
        let heads = client.info().await.expect("the sidecar goes on").heads;
        heads.soft.is_some_and(|soft| soft.height.get() >= height)
    };
    while !is_there().await {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
