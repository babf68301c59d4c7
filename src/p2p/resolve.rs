//! Names of hosts in addresses, resolved by the system, each time that they are dialled.
//!
//! Invariants:
//! 1. Only names that the operator wrote are resolved, never those that a peer tells.
//! 2. Nobody waits for an answer longer than [`WITHIN`], and no more than [`MAX_IPS`] of it are dialled.
//! 3. At most [`LOOKUPS`] threads wait for the system, however long it takes: they are those that read the store, too.

use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::address::{Address, DialHost};
use super::seeds::SeedId;

const WITHIN: Duration = Duration::from_secs(5);
const MAX_IPS: usize = 4;
const LOOKUPS: usize = 4;

static LOOKING_UP: Semaphore = Semaphore::const_new(LOOKUPS);

/// Where a seed is, if it could be found.
pub type Resolved = (SeedId, Address, Vec<IpAddr>);

/// Looks up the name of a seed's host.
pub fn resolve(seed: SeedId, address: Address, host: DialHost) -> BoxFuture<'static, Resolved> {
    Box::pin(async move {
        let mut ips = Vec::new();
        match timeout(WITHIN, look_up(host.name.clone())).await {
            Ok(Ok(found)) => {
                for ip in found.into_iter().filter(|ip| host.wants.takes(*ip)) {
                    if !ips.contains(&ip) && ips.len() < MAX_IPS {
                        ips.push(ip);
                    }
                }
                if ips.is_empty() {
                    tracing::info!(name = host.name, "the host has no address of that kind");
                }
            }
            Ok(Err(error)) => tracing::info!(name = host.name, %error, "the name of a host cannot be resolved"),
            Err(_) => tracing::info!(name = host.name, "the name of a host is not resolved in time"),
        }
        (seed, address, ips)
    })
}

/// What the system says. Its thread cannot be stopped, and keeps its permit until it is done.
async fn look_up(name: String) -> io::Result<Vec<IpAddr>> {
    let permit = LOOKING_UP.acquire().await.map_err(io::Error::other)?;
    let lookup = spawn_blocking(move || {
        let _permit = permit;
        (name.as_str(), 0).to_socket_addrs().map(|found| found.map(|found| found.ip()).collect())
    });
    lookup.await.map_err(io::Error::other)?
}
