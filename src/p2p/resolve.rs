//! Names of hosts in addresses, resolved by the system, each time that they are dialled.
//!
//! Invariants:
//! 1. Only names that the operator wrote are resolved, never those that a peer tells.
//! 2. Nobody waits for an answer longer than [`WITHIN`], and no more than [`MAX_IPS`] of it are dialled.

use std::net::IpAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::timeout;

use super::address::{Address, Host};
use super::seeds::SeedId;

const WITHIN: Duration = Duration::from_secs(5);
const MAX_IPS: usize = 4;

/// Where a seed is, if it could be found.
pub type Resolved = (SeedId, Address, Vec<IpAddr>);

/// Looks up the name of a seed's host.
pub fn resolve(seed: SeedId, address: Address, host: Host) -> BoxFuture<'static, Resolved> {
    Box::pin(async move {
        let lookup = timeout(WITHIN, tokio::net::lookup_host((host.name.as_str(), 0))).await;
        let mut ips = Vec::new();
        match lookup {
            Ok(Ok(found)) => {
                for ip in found.map(|found| found.ip()).filter(|ip| host.wants.takes(*ip)) {
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
