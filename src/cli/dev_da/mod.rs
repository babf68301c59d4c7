//! A data-availability layer for one machine: enough of celestia-node's JSON-RPC for a devnet, and a client for it.
//!
//! ```text
//!   blob.Submit ---> pending --- every block time ---> DA block 1, 2, 3, ... ---> blob.GetAll, header.GetByHeight
//!                                                                    newest ---> header.NetworkHead
//! ```
//!
//! Invariants:
//! 1. A submit is answered when its blobs are in a DA block, with that block's height; they stay in submit order.
//! 2. A DA block never changes. The oldest are forgotten when [`chain::DaLimits`] says so, and asking for one of those is an
//!    error of its own, never an empty answer.
//! 3. Every body, in either direction, is bounded before it is read.
//!
//! It is not a chain: there is no consensus, no proof, no fee, and the commitment of a blob is only a hash of it.

mod chain;
mod client;
mod rpc;
mod server;

pub use client::{DaClient, DaError};
pub use rpc::Namespace;
pub use server::DevDa;
