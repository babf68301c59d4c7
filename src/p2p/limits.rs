//! Every bound of the network, from one memory budget and the size of the largest block.
//!
//! Whatever queues blocks has a length in blocks here, chosen so that all of them full of the largest block at the same
//! time fit into the budget. What cannot be bounded by us is said in [`Limits::worst_case`]'s doc.

use std::fmt;

/// The most connections, however much memory there is.
const MAX_CONNECTIONS: usize = 64;

/// The fewest of anything that still makes a network.
const MIN: usize = 2;

/// How many of our requests one connection carries at a time: enough for ten thousands of small blocks a second over a round trip
/// of 100 ms. Go peers take 64 streams of a protocol from one peer.
pub(super) const MAX_ASKS_PER_CONNECTION: usize = 48;

/// How many requests of a peer's one connection are open at a time; more are reset. Above [`MAX_ASKS_PER_CONNECTION`],
/// because the other side sees the end of an answer before we see that it has.
pub(super) const MAX_SERVED_PER_CONNECTION: usize = 52;

/// Inbound streams whose protocol is not agreed yet.
pub(super) const MAX_NEGOTIATING: usize = 8;

/// Streams of a connection, both directions. One more ends the connection, so this is above all that good peers open:
/// requests both ways, negotiations, two each of gossip, identify and ping, and a few of the DHT.
pub(super) const MAX_STREAMS: usize = MAX_ASKS_PER_CONNECTION + MAX_SERVED_PER_CONNECTION + MAX_NEGOTIATING + 12;

/// What a peer can make us hold of a yamux stream that we do not read.
pub(super) const STREAM_WINDOW: usize = 256 * 1024;

/// The streams of a connection that a peer may fill unasked. Those of our own requests are counted with the answers.
const MAX_UNASKED_STREAMS: usize = MAX_STREAMS - MAX_ASKS_PER_CONNECTION;

/// What the protobuf around a gossiped block may take: author, signature, topic; and what of the next message may be in the
/// same buffer.
pub(super) const GOSSIP_OVERHEAD: usize = 64 * 1024;

/// How much of an answer is read from the store at once, when blocks are small.
pub(super) const SERVE_CHUNK: usize = 256 * 1024;

/// The largest RPC of go-libp2p-pubsub, unless it is told otherwise: when it is asked for many messages, it puts as many
/// into one as there is room for. We refuse none of them for its size, however small our blocks are: who refuses ends the
/// stream.
const GO_RPC: usize = 1 << 20;

/// Beside its send queue, one connection can hold the message that is being written, and its encoding;
const MESSAGES_PER_CONNECTION: usize = 2;

/// and the RPC that is being read, and two decoded that wait for the driver.
const RPCS_PER_CONNECTION: usize = 3;

/// What decoding can make of one byte of control messages, roughly: of an id of one byte, which takes three on the wire, a
/// vector and an allocation.
const CONTROL_GROWTH: usize = 16;

/// The most bytes of control messages in an RPC: the ids of one IHAVE or IWANT of go-libp2p-pubsub are up to 5000, with 48
/// bytes each. Less where blocks are small; to reach that, a chain makes hundreds of blocks a second.
const GO_CONTROL: usize = 256 * 1024;

/// The length of every queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_block_bytes: usize,
    pub memory_bytes: usize,
    /// Connections of both directions.
    pub connections: usize,
    /// Gossip messages that wait to be sent to one peer.
    pub gossip_send_queue: usize,
    /// Gossip messages whose verdict is awaited. The channel of events to the node has this capacity too.
    pub gossip_unjudged: usize,
    /// The bytes of all answers together that are being received.
    pub fetch_bytes: usize,
    /// The bytes of all answers together that are being sent.
    pub serve_bytes: usize,
    /// Commands from the node, each a block at worst.
    pub commands: usize,
}

/// One queue, full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueBound {
    pub name: &'static str,
    pub items: usize,
    pub item_bytes: usize,
}

impl QueueBound {
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.items.saturating_mul(self.item_bytes)
    }
}

impl fmt::Display for QueueBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} x {} bytes = {} bytes", self.name, self.items, self.item_bytes, self.bytes())
    }
}

/// The budget is too small for blocks of this size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{memory_bytes} bytes of memory for the network give {queue} room for {items} with blocks of up to {max_block_bytes} bytes, \
     and {MIN} are needed: raise the memory limit to at least {needed_bytes} bytes, or lower max_block_bytes"
)]
pub struct LimitsError {
    pub queue: &'static str,
    pub items: usize,
    pub memory_bytes: usize,
    pub max_block_bytes: usize,
    pub needed_bytes: usize,
}

/// The budget's shares, in sixteenths.
const CONNECTIONS_SHARE: usize = 10;
const GOSSIP_SHARE: usize = 2;
const FETCH_SHARE: usize = 2;
const SERVE_SHARE: usize = 1;
const COMMANDS_SHARE: usize = 1;
const SHARES: usize = CONNECTIONS_SHARE + GOSSIP_SHARE + FETCH_SHARE + SERVE_SHARE + COMMANDS_SHARE;

impl Limits {
    /// Divides `memory_bytes`, the network's own part of the process's memory.
    ///
    /// # Errors
    /// When any queue would have room for less than two blocks.
    pub fn derive(memory_bytes: usize, max_block_bytes: usize) -> Result<Self, LimitsError> {
        let share = |sixteenths: usize| memory_bytes / SHARES * sixteenths;
        let at_least_two = |queue: &'static str, sixteenths: usize, item_bytes: usize| {
            let items = share(sixteenths) / item_bytes.max(1);
            if items < MIN {
                let needed_bytes = item_bytes.saturating_mul(MIN * SHARES).div_ceil(sixteenths).saturating_add(SHARES);
                return Err(LimitsError { queue, items, memory_bytes, max_block_bytes, needed_bytes });
            }
            Ok(items)
        };
        let message = gossip_message(max_block_bytes);

        let smallest = connection_bytes(MIN, max_block_bytes);
        let connections = at_least_two("connections", CONNECTIONS_SHARE, smallest)?.min(MAX_CONNECTIONS);
        // What is left over makes the send queues longer.
        let spare = share(CONNECTIONS_SHARE) / connections - smallest;
        Ok(Self {
            max_block_bytes,
            memory_bytes,
            connections,
            gossip_send_queue: (MIN + spare / message).min(8),
            // Each is there twice: in gossipsub's cache, and on its way to the node.
            gossip_unjudged: at_least_two("gossip", GOSSIP_SHARE, message.saturating_mul(2))?.min(256),
            fetch_bytes: at_least_two("answers that are received", FETCH_SHARE, max_block_bytes)? * max_block_bytes,
            serve_bytes: at_least_two("answers that are sent", SERVE_SHARE, serve_chunk_bytes(max_block_bytes))
                .map(|_| share(SERVE_SHARE))?,
            commands: at_least_two("commands", COMMANDS_SHARE, max_block_bytes)?.min(64),
        })
    }

    /// The most bytes that one answer may bring: a small part of all, so that many requests run at once, and never less than
    /// a block.
    #[must_use]
    pub fn fetch_bytes_per_request(&self) -> usize {
        (self.fetch_bytes / 32).max(self.max_block_bytes)
    }

    /// What is kept for answers of one block, heads and blocks by their hashes, as far as one does not fit into its stream's window:
    /// one largest block at least.
    #[must_use]
    pub fn single_bytes(&self) -> usize {
        (self.fetch_bytes / 8).max(self.max_block_bytes)
    }

    /// What is left for ranges, and for the windows of all streams: one largest block at least.
    #[must_use]
    pub fn range_bytes(&self) -> usize {
        self.fetch_bytes - self.single_bytes()
    }

    /// How many requests for ranges may be open at all peers together: each takes a stream's window at least, and so does each
    /// peer's request for its head.
    #[must_use]
    pub fn requests(&self) -> usize {
        (self.range_bytes() / STREAM_WINDOW).saturating_sub(self.connections).max(1)
    }

    /// Every queue of the network and what it takes when it is full, for an operator to read.
    ///
    /// Not in it, because the library gives no bound: a yamux stream that we read as fast as it comes may grow its window
    /// beyond 256 KiB, and blocks that we have accepted stay in gossipsub's cache for six seconds, which is bounded by the
    /// sequencer's rate alone. New connections are refused while the process uses nine tenths of the machine's memory.
    #[must_use]
    pub fn worst_case(&self) -> Vec<QueueBound> {
        let message = gossip_message(self.max_block_bytes);
        let queue = |name, items, item_bytes| QueueBound { name, items, item_bytes };
        vec![
            queue("connections: unread streams", self.connections, MAX_UNASKED_STREAMS * STREAM_WINDOW),
            queue("connections: gossip in transit", self.connections, transit_bytes(self.max_block_bytes)),
            queue("connections: gossip to be sent", self.connections, self.gossip_send_queue * message),
            queue("gossip: verdict awaited", self.gossip_unjudged, 2 * message),
            queue("answers: received", 1, self.fetch_bytes),
            queue("answers: sent", 1, self.serve_bytes),
            queue("commands", self.commands, self.max_block_bytes),
        ]
    }
}

/// The largest gossip message.
pub(super) const fn gossip_message(max_block_bytes: usize) -> usize {
    max_block_bytes.saturating_add(GOSSIP_OVERHEAD)
}

/// The largest RPC of gossip.
pub(super) fn gossip_rpc(max_block_bytes: usize) -> usize {
    gossip_message(max_block_bytes.max(GO_RPC))
}

/// The most bytes of control messages in an RPC: decoded, they are not larger than the largest RPC.
pub(super) fn gossip_control(max_block_bytes: usize) -> usize {
    GO_CONTROL.min(gossip_rpc(max_block_bytes) / CONTROL_GROWTH)
}

fn transit_bytes(max_block_bytes: usize) -> usize {
    let written = gossip_message(max_block_bytes).saturating_mul(MESSAGES_PER_CONNECTION);
    written.saturating_add(gossip_rpc(max_block_bytes).saturating_mul(RPCS_PER_CONNECTION))
}

fn connection_bytes(send_queue: usize, max_block_bytes: usize) -> usize {
    gossip_message(max_block_bytes)
        .saturating_mul(send_queue)
        .saturating_add(transit_bytes(max_block_bytes))
        .saturating_add(MAX_UNASKED_STREAMS * STREAM_WINDOW)
}

/// The most that reading one chunk of an answer takes: the chunk, which is one block if that is larger, with what the frames
/// add, and the block that is being read.
pub(super) const fn serve_chunk_bytes(max_block_bytes: usize) -> usize {
    max_block_bytes.saturating_mul(2).saturating_add(SERVE_CHUNK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn a_small_budget_is_refused_with_what_would_do() {
        let error = Limits::derive(64 * MIB, 8 * MIB).expect_err("too small");
        assert_eq!(error.queue, "connections");
        assert!(error.to_string().contains("raise the memory limit"), "{error}");
        // A budget that each complaint in turn asks for is enough in the end.
        let mut memory = 1;
        let limits = loop {
            match Limits::derive(memory, 8 * MIB) {
                Ok(limits) => break limits,
                Err(error) => {
                    assert!(error.needed_bytes > memory, "{error}");
                    memory = error.needed_bytes;
                }
            }
        };
        assert!(limits.connections >= MIN && limits.memory_bytes <= 1024 * MIB, "{limits:?}");
    }

    #[test]
    fn a_large_budget_stops_at_what_is_useful() {
        let limits = Limits::derive(usize::MAX / 2, MIB).expect("plenty");
        assert_eq!((limits.connections, limits.gossip_send_queue), (MAX_CONNECTIONS, 8));
    }

    proptest! {
        #[test]
        fn all_queues_full_fit_into_the_budget(memory in any::<usize>(), block in any::<usize>()) {
            // Sizes of every magnitude.
            let (memory, block) = (memory >> (block % 60), block >> (memory % 60));
            if let Ok(limits) = Limits::derive(memory, block) {
                let total: usize = limits.worst_case().iter().map(QueueBound::bytes).sum();
                prop_assert!(total <= memory, "{total} of {memory}: {limits:?}");
                prop_assert!(limits.fetch_bytes_per_request() >= block);
                prop_assert!(limits.single_bytes() >= block && limits.range_bytes() >= block);
                prop_assert!(limits.range_bytes() >= limits.fetch_bytes_per_request());
                prop_assert!(limits.serve_bytes >= MIN * serve_chunk_bytes(block));
                for items in [limits.connections, limits.gossip_send_queue, limits.gossip_unjudged, limits.commands] {
                    prop_assert!(items >= MIN);
                }
            }
        }
    }
}
