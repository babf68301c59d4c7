//! To be written.

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args) -> Result<(), super::Failure> {
    Err(super::Failure::new(super::Code::Unavailable, "not built yet"))
}
