//! Bytes as hex digits: written in lower case, read in either.
//!
//! Invariants:
//! 1. Two digits a byte, with no prefix and nothing between them; any other text is refused.
//! 2. Nothing is kept in a buffer other than the caller's, which may wipe it: secret keys may pass here.

use std::fmt;

/// Writes the digits of `bytes` to a formatter or a text.
pub fn write(out: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    bytes
        .iter()
        .try_for_each(|byte| [byte >> 4, byte & 15].into_iter().try_for_each(|half| out.write_char(digit(half))))
}

/// The digits of `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    write(&mut out, bytes).expect("a String grows");
    out
}

/// The bytes that `digits` stand for; `None` unless they are an even number of hex digits.
#[must_use]
pub fn decode(digits: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; digits.len() / 2];
    decode_into(&mut out, digits).map(|()| out)
}

/// As [`decode`], of exactly `N` bytes.
#[must_use]
pub fn decode_array<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    decode_into(&mut out, digits).map(|()| out)
}

/// Fills `out`; `None`, with `out` partly written, unless `digits` are hex digits for exactly that many bytes.
#[must_use = "`out` is whole only if the digits were"]
pub fn decode_into(out: &mut [u8], digits: &[u8]) -> Option<()> {
    let (pairs, odd) = digits.as_chunks::<2>();
    if !odd.is_empty() || pairs.len() != out.len() {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(())
}

fn digit(half: u8) -> char {
    char::from_digit(half.into(), 16).expect("half a byte is a hex digit")
}

fn value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_written() {
        for (bytes, digits) in [
            (&[][..], ""),
            (&[0], "00"),
            (&[0x0f, 0xf0], "0ff0"),
            (&[0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef], "0123456789abcdef"),
        ] {
            assert_eq!(encode(bytes), digits);
            assert_eq!(decode(digits.as_bytes()).as_deref(), Some(bytes));
            assert_eq!(decode(digits.to_uppercase().as_bytes()).as_deref(), Some(bytes));
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(encode(&all).as_bytes()), Some(all));
    }

    #[test]
    fn whatever_is_not_digits_in_pairs_is_refused() {
        for bad in ["0", "000", "0g", "g0", "0x00", " 00", "00 ", "0 0", "+0", "-1", "é", "00é"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn arrays_have_exactly_their_length() {
        assert_eq!(decode_array::<2>(b"0a0B"), Some([0x0a, 0x0b]));
        assert_eq!(decode_array::<0>(b""), Some([]));
        for bad in ["", "0a", "0a0", "0a0b0c"] {
            assert_eq!(decode_array::<2>(bad.as_bytes()), None, "{bad}");
        }
    }
}
