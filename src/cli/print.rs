//! Standard output, for answers: whatever cannot be printed is a failure with an exit code, never a panic.

use std::io::{self, Write as _};

use super::{Code, Failure};

/// Prints one line, or several that belong together. A reader that has seen enough is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    finish(out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Prints bytes as they are.
pub fn print_raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    finish(out.write_all(bytes).and_then(|()| out.flush()))
}

fn finish(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Ok(()) => Ok(()),
        // As `head` does it to whatever writes into it.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(Code::Io, format!("cannot print: {error}"))),
    }
}
