//! Conversions between numbers that give the largest value where the real one does not fit: for limits, counters and
//! durations, where more than the largest means no more than that.

use std::time::Duration;

/// Exact on every machine that there is.
#[must_use]
pub fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Exact where a `usize` has 64 bits.
#[must_use]
pub fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// For lengths that are counted in 32 bits elsewhere.
#[must_use]
pub fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds, up to 584 years of them.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_the_largest() {
        for (number, narrow) in [(0, 0), (7, 7), (0xffff_ffff, u32::MAX), (0x1_0000_0000, u32::MAX)] {
            assert_eq!(to_u32(to_usize(number)), narrow, "{number}");
            assert_eq!(to_u64(to_usize(number)), number);
        }
        for (duration, in_millis, in_nanos) in [
            (Duration::ZERO, 0, 0),
            (Duration::from_nanos(1_999_999), 1, 1_999_999),
            (Duration::from_secs(20_000_000_000), 20_000_000_000_000, u64::MAX),
            (Duration::MAX, u64::MAX, u64::MAX),
        ] {
            assert_eq!((millis(duration), nanos(duration)), (in_millis, in_nanos), "{duration:?}");
        }
    }
}
