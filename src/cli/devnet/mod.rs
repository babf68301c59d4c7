//! Shows the main job on one machine.

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: Args) -> ExitCode {
    super::exit::report(Err(super::Failure::new(super::Code::Unavailable, "not built yet")))
}
