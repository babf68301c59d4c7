//! Splits a file of concatenated RLP lists, as `geth export` writes chains: each list is one payload.
//!
//! Only the outermost headers are read; what is inside is opaque.

use bytes::Bytes;

/// What is wrong with the file, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RlpError {
    #[error("it is empty")]
    Empty,
    #[error("at byte {at}: not an RLP list")]
    NotAList { at: usize },
    #[error("at byte {at}: the list's length is not encoded canonically")]
    NotCanonical { at: usize },
    #[error("at byte {at}: the list is cut off")]
    CutOff { at: usize },
}

/// The top-level lists of `file`, headers included, without copying.
pub fn split_lists(file: &Bytes) -> Result<Vec<Bytes>, RlpError> {
    let mut lists = Vec::new();
    let mut at = 0;
    while at < file.len() {
        let len = list_len(&file[at..], at)?;
        lists.push(file.slice(at..at + len));
        at += len;
    }
    if lists.is_empty() { Err(RlpError::Empty) } else { Ok(lists) }
}

/// How many bytes the list at the start of `bytes` takes, header included; never more than there are.
fn list_len(bytes: &[u8], at: usize) -> Result<usize, RlpError> {
    let cut_off = RlpError::CutOff { at };
    let (header, payload) = match *bytes.first().ok_or(cut_off)? {
        0..=0xbf => return Err(RlpError::NotAList { at }),
        short @ 0xc0..=0xf7 => (1, usize::from(short - 0xc0)),
        long @ 0xf8..=0xff => {
            let digits = usize::from(long - 0xf7);
            let length = bytes.get(1..=digits).ok_or(cut_off)?;
            let value =
                length.iter().try_fold(0usize, |value, byte| value.checked_mul(256)?.checked_add((*byte).into()));
            match value {
                Some(value) if length[0] != 0 && value > 55 => (1 + digits, value),
                Some(_) => return Err(RlpError::NotCanonical { at }),
                None => return Err(cut_off),
            }
        }
    };
    header.checked_add(payload).filter(|len| *len <= bytes.len()).ok_or(cut_off)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_in_the_test_data_has_54_blocks() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chain.rlp");
        let file = Bytes::from(std::fs::read(path).unwrap());
        let lists = split_lists(&file).unwrap();
        assert_eq!(lists.len(), 54);
        assert_eq!(lists.concat(), file);
        assert_eq!(lists.iter().map(Bytes::len).min(), Some(956));
        assert_eq!(lists.iter().map(Bytes::len).max(), Some(6321));
    }

    #[test]
    fn broken_files_are_named_with_their_place() {
        use RlpError::{CutOff, Empty, NotAList, NotCanonical};
        let long = |len: usize| [vec![0xf8, 56], vec![0; len]].concat();
        let cases: Vec<(Vec<u8>, Result<usize, RlpError>)> = vec![
            (vec![], Err(Empty)),
            (vec![0xc0], Ok(1)),
            (vec![0xc0, 0xc1, 0x80], Ok(2)),
            (vec![0xc0, 0x80], Err(NotAList { at: 1 })),
            (vec![0xc2, 0x80], Err(CutOff { at: 0 })),
            (long(56), Ok(1)),
            (long(55), Err(CutOff { at: 0 })),
            ([vec![0xf8, 55], vec![0; 55]].concat(), Err(NotCanonical { at: 0 })),
            ([vec![0xf9, 0, 56], vec![0; 56]].concat(), Err(NotCanonical { at: 0 })),
            (vec![0xff; 9], Err(CutOff { at: 0 })),
            (vec![0xf9, 1], Err(CutOff { at: 0 })),
        ];
        for (file, expected) in cases {
            let got = split_lists(&file.clone().into()).map(|lists| lists.len());
            assert_eq!(got, expected, "{file:02x?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_split_whole_or_refused(file: Vec<u8>) {
            if let Ok(lists) = split_lists(&file.clone().into()) {
                assert_eq!(lists.concat(), file);
            }
        }
    }
}
