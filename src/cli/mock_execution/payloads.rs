//! What the blocks of a mock execution contain: a function of the height alone, so that a block can be made again after a
//! crash, byte for byte.

use std::path::Path;

use bytes::Bytes;

use super::rlp;
use crate::block::Height;
use crate::foreign_file;

/// The largest payload file that is read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The payload of every height.
#[derive(Debug)]
pub enum Payloads {
    /// These, over and over; never empty.
    Cycled(Vec<Bytes>),
    /// Pseudo-random bytes.
    Random { bytes: usize, seed: u64 },
}

impl Payloads {
    /// Reads a file of concatenated RLP lists.
    ///
    /// # Errors
    /// One sentence that names the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let problem = |why: &dyn std::fmt::Display| format!("payload file {}: {why}", path.display());
        let file = foreign_file::read(path, MAX_FILE_BYTES).map_err(|why| problem(&why))?;
        rlp::split_lists(&file.into()).map(Self::Cycled).map_err(|error| problem(&error))
    }

    /// The payload at `height`.
    pub fn at(&self, height: Height) -> Bytes {
        match self {
            Self::Cycled(payloads) => {
                let index = (height.get() - 1) % payloads.len() as u64;
                payloads[usize::try_from(index).expect("less than the number of payloads")].clone()
            }
            Self::Random { bytes, seed } => {
                let mut payload = vec![0; *bytes];
                fastrand::Rng::with_seed(seed ^ height.get().wrapping_mul(0x9e37_79b9_7f4a_7c15)).fill(&mut payload);
                payload.into()
            }
        }
    }

    /// The size of the largest payload.
    pub fn max_bytes(&self) -> usize {
        match self {
            Self::Cycled(payloads) => payloads.iter().map(Bytes::len).max().unwrap_or_default(),
            Self::Random { bytes, .. } => *bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_follow_from_the_height() {
        let height = |n| Height::new(n).unwrap();
        let cycled = Payloads::Cycled(vec!["a".into(), "b".into()]);
        assert_eq!([1, 2, 3].map(|n| cycled.at(height(n))), ["a", "b", "a"]);
        let random = |seed| Payloads::Random { bytes: 100, seed };
        assert_eq!(random(1).at(height(7)), random(1).at(height(7)));
        assert_ne!(random(1).at(height(7)), random(1).at(height(8)));
        assert_ne!(random(1).at(height(7)), random(2).at(height(7)));
        assert_eq!(random(1).at(height(7)).len(), 100);
    }
}
