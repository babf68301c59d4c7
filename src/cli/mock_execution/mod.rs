//! A host that stands in for a rollup node.

mod checker;
mod da_blob;
mod journal;
mod latency;
mod ledger;
mod payloads;
mod rlp;

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> ExitCode {
    super::exit::report(Err(super::Failure::new(super::Code::Unavailable, "not built yet")))
}
