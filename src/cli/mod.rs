//! The subcommands, one file each, and what they have in common: how a command line is read and how a command ends.
//!
//! A command returns `Result<(), Failure>`; [`main`] prints the failure as one line on stderr and turns it into the exit
//! code. Standard output belongs to the answer that was asked for, never to logs.

mod ctl;
mod dev_da;
mod devnet;
mod exit;
mod init;
mod mock_execution;
mod print;
mod run;
mod supervisor;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

pub use exit::{Code, Failure};

use crate::sync::{Basis, Phase};

#[derive(Debug, Parser)]
#[command(name = "blocksyncd", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Subcommand,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Run the sidecar
    Run(run::RunArgs),
    /// Make a home: configuration, keys and genesis file
    Init(init::InitArgs),
    /// Ask, or operate, a running sidecar over its socket
    Ctl(ctl::CtlArgs),
    /// Show it working: a sequencer and full nodes on this machine, each with a mock execution
    Devnet(devnet::DevnetArgs),
    /// A host that stands in for a rollup node: makes or executes blocks, over the host's API only
    MockExecution(mock_execution::MockArgs),
}

/// Runs the program with the process's own arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    match cli.command {
        Subcommand::Run(args) => exit::report(run::run(&args)),
        Subcommand::Init(args) => exit::report(init::run(&args)),
        Subcommand::Ctl(args) => exit::report(ctl::run(&args)),
        Subcommand::Devnet(args) => devnet::run(&args),
        Subcommand::MockExecution(args) => mock_execution::run(&args),
    }
}

/// Runs what must stay on one thread, as everything of [`crate::api::client`] must.
fn local<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Internal, format!("cannot start: {error}")))?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
}

/// As the schema calls it.
const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::WaitingForPeers => "waitingForPeers",
        Phase::Syncing => "syncing",
        Phase::Following => "following",
        Phase::Halted => "halted",
        Phase::Draining => "draining",
    }
}

/// As the schema calls it.
const fn basis_name(basis: Basis) -> &'static str {
    match basis {
        Basis::Bytes => "bytes",
        Basis::Named => "named",
        Basis::Implied => "implied",
        Basis::Trusted => "trusted",
    }
}

/// A path that the environment gives; empty is as good as unset.
fn path_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}
