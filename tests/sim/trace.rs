//! What happened: a hash over every input and effect, and on demand a transcript to read.
//!
//! The hash is of the `Debug` form, fed piece by piece: nothing is allocated, and whatever differs between two runs shows.

use std::fmt::{self, Write as _};
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Trace {
    hash: Option<Fnv>,
    print: bool,
    steps: u64,
}

impl Trace {
    /// Counts only.
    pub fn off() -> Self {
        Self::default()
    }

    /// Hashes, for comparing two runs.
    pub fn hashed() -> Self {
        Self { hash: Some(Fnv::default()), ..Self::default() }
    }

    /// Prints, for reading.
    pub fn printed() -> Self {
        Self { hash: Some(Fnv::default()), print: true, ..Self::default() }
    }

    pub fn note(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        self.steps += 1;
        if let Some(hash) = &mut self.hash {
            write!(hash, "{} {what}\n", at.as_nanos()).expect("hashing cannot fail");
        }
        if self.print {
            println!("{:>10.4} {what}", at.as_secs_f64());
        }
    }

    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub fn hash(&self) -> Option<u64> {
        self.hash.as_ref().map(|hash| hash.0)
    }
}

/// FNV-1a, 64 bits.
#[derive(Debug)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
