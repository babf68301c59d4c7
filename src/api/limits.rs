//! Every bound of the API, derived from one budget, so that nothing that any client does can cost more memory than the
//! configuration says.
//!
//! ```text
//!   memory = FIXED_BLOCKS * max_block          bodies that are being read or taken in, for all clients together
//!          + connections * PER_CONNECTION * message
//! ```

use std::time::Duration;

/// Bodies in memory at one time, for all connections together: [`READS`] that are read, and two that are taken in.
const FIXED_BLOCKS: usize = READS + 2;
/// Of one connection, in messages: one that arrives (half as much again while its buffer grows), one that waits for its
/// handler, two of answers that are not yet taken, one that is being built.
const PER_CONNECTION: usize = 6;

/// Reads of the store that may run at one time.
pub(super) const READS: usize = 4;
/// What of a message is not payload: headers, ids, and the envelope of the RPC protocol.
pub(super) const ENVELOPE_BYTES: usize = 32 << 10;
const MIN_MESSAGE_BYTES: usize = 128 << 10;
const MAX_MESSAGE_BYTES: usize = 8 << 20;

pub(super) const MAX_EVENTS: u32 = 4096;
pub(super) const MAX_WAIT: Duration = Duration::from_secs(30);
/// In flight on one connection; one more is answered with `overloaded`.
pub(super) const MAX_CALLS: u32 = 64;
/// Answered or not, but not finished by the client; one more ends the connection.
pub(super) const MAX_QUESTIONS: usize = 1024;
/// Of one connection; one more is answered with `busy`.
pub(super) const MAX_SESSIONS: u32 = 8;
/// Of one connection; one more is answered with `busy`.
pub(super) const MAX_STREAMS: u32 = 16;
/// Of one connection; one more is answered with `overloaded`.
pub(super) const MAX_READERS: u32 = 256;
pub(super) const MAX_NAME_BYTES: usize = 64;
pub(super) const MAX_EVIDENCE: u32 = 256;
const FRAME_DEADLINE: Duration = Duration::from_secs(30);
const STALL_DEADLINE: Duration = Duration::from_secs(30);
/// How long a host's signer may take.
pub(super) const SIGNER_DEADLINE: Duration = Duration::from_secs(10);

/// The bounds that depend on the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub max_block_bytes: usize,
    pub max_connections: usize,
    /// In either direction.
    pub max_message_bytes: usize,
    /// The first message must begin within this time of connecting, and each message must be complete this long after it
    /// began.
    pub frame_deadline: Duration,
    /// A client that takes no byte for this long, while answers wait for it, is disconnected.
    pub stall_deadline: Duration,
}

impl Limits {
    /// # Errors
    /// What the budget would have to be.
    pub fn derive(memory_bytes: usize, max_connections: usize, max_block_bytes: usize) -> Result<Self, String> {
        let connections = max_connections.max(1);
        let fixed = max_block_bytes.saturating_mul(FIXED_BLOCKS);
        let shares = connections.saturating_mul(PER_CONNECTION);
        let share = memory_bytes.saturating_sub(fixed) / shares;
        if share < MIN_MESSAGE_BYTES {
            let needed = fixed.saturating_add(shares.saturating_mul(MIN_MESSAGE_BYTES));
            return Err(format!(
                "{max_connections} connections and blocks of {max_block_bytes} bytes need at least {needed} bytes of memory, \
                 not {memory_bytes}"
            ));
        }
        Ok(Self {
            max_block_bytes,
            max_connections: connections,
            max_message_bytes: share.min(MAX_MESSAGE_BYTES) & !7,
            frame_deadline: FRAME_DEADLINE,
            stall_deadline: STALL_DEADLINE,
        })
    }

    /// The largest payload that fits into a message.
    pub const fn max_inline_bytes(&self) -> usize {
        self.max_message_bytes - ENVELOPE_BYTES
    }

    /// Answers that wait to be sent, of one connection.
    pub const fn max_queued_bytes(&self) -> usize {
        2 * self.max_message_bytes
    }

    /// Blocks and reports on their way in, of all connections.
    pub const fn max_intake_bytes(&self) -> usize {
        2 * self.max_block_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_add_up_to_more_than_the_budget() {
        for (memory, connections, block) in
            [(256 << 20, 16, 8 << 20), (64 << 20, 16, 1 << 20), (61 << 20, 16, 8 << 20), (1 << 40, 1, 64 << 20)]
        {
            let limits = Limits::derive(memory, connections, block).unwrap();
            let sum = FIXED_BLOCKS * block + connections * PER_CONNECTION * limits.max_message_bytes;
            assert!(sum <= memory, "{memory} {connections} {block}: {sum}");
            assert!((MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&limits.max_message_bytes));
        }
    }

    #[test]
    fn a_budget_that_is_too_small_names_the_one_that_is_not() {
        let error = Limits::derive(1 << 20, 16, 8 << 20).unwrap_err();
        let needed = 6 * (8 << 20) + 16 * 6 * (128 << 10);
        assert!(error.contains(&needed.to_string()), "{error}");
        assert!(Limits::derive(needed, 16, 8 << 20).is_ok());
    }
}
