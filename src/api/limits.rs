//! Every bound of the API, derived from one budget, so that nothing that any client does can cost more memory than the
//! configuration says.
//!
//! ```text
//!   memory = reads * max_block                 bodies that are read for all clients together
//!          + intake * chain_block              what is taken in of them; of DA also what is larger than this node's blocks
//!          + connections * PER_CONNECTION * message
//! ```

use std::time::Duration;

use super::report::ReportBounds;

/// Of one connection, in messages: one that arrives (half as much again while its buffer grows), one that waits for its
/// handler, two of answers that are not yet taken, one that is being built.
const PER_CONNECTION: usize = 6;
/// Reads of the store that may run at one time, where there is memory for them.
pub(super) const MAX_READS: usize = 4;

/// What of a message is not payload: headers, ids, and the envelope of the RPC protocol.
pub(super) const ENVELOPE_BYTES: usize = 32 << 10;
const MIN_MESSAGE_BYTES: usize = 64 << 10;
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
/// How long a goodbye may take.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
const FRAME_DEADLINE: Duration = Duration::from_secs(30);
const STALL_DEADLINE: Duration = Duration::from_secs(30);
/// How long a host's signer may think about one block.
pub const SIGNER_DEADLINE: Duration = Duration::from_secs(10);

/// How large blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockBytes {
    /// The largest that this node takes...
    pub taken: usize,
    /// ...and the largest that the chain allows.
    pub of_chain: usize,
}

impl BlockBytes {
    /// Of a node that takes whatever its chain allows.
    #[must_use]
    pub const fn all(bytes: usize) -> Self {
        Self { taken: bytes, of_chain: bytes }
    }
}

/// The bounds that depend on the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// The largest block that is taken.
    pub max_block_bytes: usize,
    /// The largest block that the chain allows, and so the largest that may be reported of DA.
    pub chain_block_bytes: usize,
    pub max_connections: usize,
    /// Reads of the store at one time.
    pub reads: usize,
    /// Blocks and reports on their way in, of all connections.
    pub max_intake_bytes: usize,
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
    pub fn derive(memory_bytes: usize, max_connections: usize, blocks: BlockBytes) -> Result<Self, String> {
        let least = least_memory(max_connections, blocks);
        if memory_bytes < least {
            return Err(format!(
                "{max_connections} connections and blocks of {} bytes need at least {least} bytes of memory, not \
                 {memory_bytes}",
                blocks.of_chain
            ));
        }
        let connections = max_connections.max(1);
        let block = blocks.taken.max(1);
        let largest = blocks.of_chain.max(block);
        // Of what is left beyond the least, a quarter goes to more reads, and an eighth to more intake.
        let spare = memory_bytes - least;
        let reads = 1 + (spare / 4 / block).min(MAX_READS - 1);
        let intake = largest + (spare / 8).min(largest);
        let share = memory_bytes.saturating_sub(reads * block + intake) / (connections * PER_CONNECTION);
        Ok(Self {
            max_block_bytes: block,
            chain_block_bytes: largest,
            max_connections: connections,
            reads,
            max_intake_bytes: intake,
            max_message_bytes: share.min(MAX_MESSAGE_BYTES) & !7,
            frame_deadline: FRAME_DEADLINE,
            stall_deadline: STALL_DEADLINE,
        })
    }

    /// The largest payload that fits into a message.
    pub const fn max_inline_bytes(&self) -> usize {
        self.max_message_bytes - ENVELOPE_BYTES
    }

    /// What one report may cost: it fits into a message, and into the intake.
    pub fn max_report_bytes(&self) -> usize {
        self.max_inline_bytes().min(self.max_intake_bytes)
    }

    /// What one report may bring.
    pub fn report_bounds(&self) -> ReportBounds {
        ReportBounds { report_bytes: self.max_report_bytes(), block_bytes: self.chain_block_bytes }
    }

    /// Answers that wait to be sent, of one connection.
    pub const fn max_queued_bytes(&self) -> usize {
        2 * self.max_message_bytes
    }
}

/// The smallest budget with which the API can serve as many connections and blocks as large.
#[must_use]
pub fn least_memory(max_connections: usize, blocks: BlockBytes) -> usize {
    let shares = max_connections.max(1).saturating_mul(PER_CONNECTION * MIN_MESSAGE_BYTES);
    let taken = blocks.taken.max(1);
    taken.saturating_add(blocks.of_chain.max(taken)).saturating_add(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_add_up_to_more_than_the_budget() {
        for memory in (0..4096).map(|mib: usize| mib << 20) {
            for (connections, taken, of_chain) in
                [(16, 8 << 20, 8 << 20), (16, 1 << 20, 8 << 20), (1, 64 << 20, 64 << 20), (64, 1000, 1000)]
            {
                let blocks = BlockBytes { taken, of_chain };
                let Ok(limits) = Limits::derive(memory, connections, blocks) else {
                    assert!(memory < least_memory(connections, blocks));
                    continue;
                };
                let sum = limits.reads * taken
                    + limits.max_intake_bytes
                    + connections * PER_CONNECTION * limits.max_message_bytes;
                assert!(sum <= memory, "{memory} {connections} {blocks:?}: {sum}");
                assert!(
                    (MIN_MESSAGE_BYTES..=MAX_MESSAGE_BYTES).contains(&limits.max_message_bytes),
                    "{memory} {limits:?}"
                );
                assert!(limits.max_intake_bytes >= of_chain);
                assert!(limits.max_report_bytes() <= limits.max_intake_bytes);
            }
        }
    }

    #[test]
    fn a_budget_that_is_too_small_names_the_one_that_is_not() {
        let blocks = BlockBytes::all(8 << 20);
        let least = least_memory(16, blocks);
        let error = Limits::derive(least - 1, 16, blocks).unwrap_err();
        assert!(error.contains(&least.to_string()), "{error}");
        assert!(Limits::derive(least, 16, blocks).is_ok());
    }
}
