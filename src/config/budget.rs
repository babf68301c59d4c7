//! One budget, many queues: how `limits.memory_bytes` is shared out.
//!
//! ```text
//!   part     of what the store leaves           holds
//!   p2p      9/14                               gossip and exchange queues, stream buffers, of all peers
//!   api      2/14                               messages, uploads and answers of all sessions
//!   verify   1/14                               messages that wait for their checks
//!   core     2/14                               verified blocks that wait for those before them, and for the disk
//! ```
//!
//! Invariants:
//! 1. Each part's queues, all full of the largest block at once, fit into its share, and the shares into the budget.
//! 2. No queue holds fewer than two blocks.
//!
//! What is not counted: the program itself, a few KiB per connection, and what the operating system caches.

use std::fmt::Write as _;

use super::units::show_bytes;
use crate::api::BlockBytes;
use crate::{api, p2p};

/// A queue that holds fewer blocks than this would stand still while one is worked on.
pub const MIN_BLOCKS: usize = 2;

/// The store's cache, unless it is set: an eighth of the budget, and no more than this. Its write buffers come on top: see
/// [`crate::store::Options`].
const DEFAULT_CACHE: usize = 64 << 20;

const P2P: usize = 9;
const API: usize = 2;
const VERIFY: usize = 1;
const CORE: usize = 2;
const PARTS: usize = P2P + API + VERIFY + CORE;

/// The core's own division, in eighths.
const HELD: usize = 3;
const COMMITS: usize = 2;
const SIGHTINGS: usize = 2;
const PROPOSALS: usize = 1;
const CORE_PARTS: usize = HELD + COMMITS + SIGHTINGS + PROPOSALS;

/// What there is, and what it must suffice for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetRequest {
    /// All of it, in bytes.
    pub memory: usize,
    /// The store's cache, when it is set.
    pub cache: Option<usize>,
    pub blocks: BlockBytes,
    /// Of hosts.
    pub max_connections: usize,
}

/// What each part may use, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub max_block: usize,
    pub p2p: p2p::Limits,
    pub api: usize,
    pub verify: usize,
    pub core: Core,
    pub store_cache: usize,
    /// Follows from `store_cache`.
    pub store_buffers: usize,
}

/// The core's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Core {
    /// Bytes of verified blocks above a gap.
    pub held: usize,
    /// Bytes of blocks on their way to the disk.
    pub commits: usize,
    /// Bytes of blocks that DA has shown and that wait for their turn.
    pub sightings: usize,
    /// Proposals of the host that wait for the one before them; a number, not bytes.
    pub proposals: usize,
}

impl Budget {
    /// Shares it out.
    ///
    /// # Errors
    /// When a queue would hold fewer than two blocks of `max_block` bytes: which, and what would suffice.
    pub fn share_out(wanted: BudgetRequest) -> Result<Self, String> {
        let BudgetRequest { memory, cache, blocks, max_connections } = wanted;
        let max_block = blocks.taken;
        let store_cache = cache.unwrap_or_else(|| default_cache(memory));
        let store_buffers = write_buffers(store_cache);
        let Some(rest) = memory.checked_sub(store_cache.saturating_add(store_buffers)) else {
            return Err(format!(
                "it is smaller than store.cache_bytes, {}, and the write buffers that go with it, {}: raise \
                 the one, or lower the other",
                show_bytes(store_cache),
                show_bytes(store_buffers)
            ));
        };
        let part = rest / PARTS;
        let too_small = |who: &str| {
            format!(
                "there would be no room for {MIN_BLOCKS} blocks of limits.max_block_bytes ({}) in every queue of {who}: give it at \
                 least {}MiB, or allow smaller blocks only",
                show_bytes(max_block),
                enough(wanted) >> 20
            )
        };
        let two_blocks = max_block.saturating_mul(MIN_BLOCKS);
        let needs = [
            ("the API", part * API, api::least_memory(max_connections, blocks).max(two_blocks)),
            ("the verify pool", part * VERIFY, two_blocks),
            ("the core", part * CORE / CORE_PARTS, two_blocks),
        ];
        if let Some((who, ..)) = needs.iter().find(|(_, share, least)| share < least) {
            return Err(too_small(who));
        }
        let core_part = part * CORE / CORE_PARTS;
        Ok(Self {
            max_block,
            p2p: p2p::Limits::derive(part * P2P, max_block).map_err(|_| too_small("the network"))?,
            api: part * API,
            verify: part * VERIFY,
            core: Core {
                held: core_part * HELD,
                commits: core_part * COMMITS,
                sightings: core_part * SIGHTINGS,
                proposals: (core_part * PROPOSALS / max_block).min(64),
            },
            store_cache,
            store_buffers,
        })
    }

    fn core_bytes(&self) -> usize {
        self.core.held + self.core.commits + self.core.sightings + self.core.proposals * self.max_block
    }

    /// What all of it comes to, at worst.
    #[must_use]
    pub fn worst_case(&self) -> usize {
        self.p2p.memory_bytes + self.api + self.verify + self.core_bytes() + self.store_cache + self.store_buffers
    }

    /// The table for people, one queue a line.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("{:<42} {:>12} {:>14}\n", "queue", "at worst", "largest blocks");
        let mut line = |name: &str, bytes: usize| {
            let _ = writeln!(out, "{name:<42} {:>12} {:>14}", show_bytes(bytes), bytes / self.max_block.max(1));
        };
        line("p2p, all", self.p2p.memory_bytes);
        for queue in self.p2p.worst_case() {
            line(&format!("  {} x {}", queue.name, queue.items), queue.bytes());
        }
        line("api: all sessions", self.api);
        line("verify: messages that wait", self.verify);
        line("core, all", self.core_bytes());
        line("  blocks above a gap", self.core.held);
        line("  commits", self.core.commits);
        line("  DA sightings", self.core.sightings);
        line(&format!("  proposals x {}", self.core.proposals), self.core.proposals * self.max_block);
        line("store: cache", self.store_cache);
        line("store: write buffers", self.store_buffers);
        line("all", self.worst_case());
        out
    }
}

/// Of the two keyspaces that are written to: each a quarter of the cache, from 1 to 64 MiB.
fn write_buffers(cache: usize) -> usize {
    2 * (cache / 4).clamp(1 << 20, 64 << 20)
}

fn default_cache(memory: usize) -> usize {
    (memory / 8).min(DEFAULT_CACHE)
}

/// A budget, in whole MiB, that suffices.
fn enough(BudgetRequest { cache, blocks, max_connections, .. }: BudgetRequest) -> usize {
    let max_block = blocks.taken;
    let two_blocks = max_block.saturating_mul(MIN_BLOCKS);
    // The network has many queues, and complains of one at a time.
    let mut network = two_blocks;
    while let Err(error) = p2p::Limits::derive(network, max_block) {
        network = error.needed_bytes.max(network.saturating_add(1));
        if network == usize::MAX {
            break;
        }
    }
    let parts = [
        network.div_ceil(P2P),
        api::least_memory(max_connections, blocks).max(two_blocks).div_ceil(API),
        two_blocks.div_ceil(VERIFY),
        two_blocks.saturating_mul(CORE_PARTS).div_ceil(CORE),
    ];
    let rest = parts.into_iter().max().unwrap_or(0).saturating_add(1).saturating_mul(PARTS);
    let cache = cache.unwrap_or(DEFAULT_CACHE);
    rest.saturating_add(cache).saturating_add(write_buffers(cache)).saturating_add((1 << 20) - 1) >> 20 << 20
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn never_more_than_the_budget_and_never_a_queue_below_two_blocks() {
        let mut accepted = 0;
        for memory in (1..3000).step_by(7).map(|mib| mib * MIB) {
            for cache in [None, Some(0), Some(MIB), Some(64 * MIB)] {
                for block in [1024, MIB, 8 * MIB] {
                    let blocks = BlockBytes { taken: block, of_chain: block.max(MIB) };
                    let wanted = BudgetRequest { memory, cache, blocks, max_connections: 32 };
                    if let Ok(budget) = Budget::share_out(wanted) {
                        accepted += 1;
                        assert!(budget.worst_case() <= memory, "{memory} {cache:?} {block}");
                        let core = budget.core;
                        for bytes in [budget.api, budget.verify, core.held, core.commits, core.sightings] {
                            assert!(bytes >= MIN_BLOCKS * block);
                        }
                        assert!(core.proposals >= MIN_BLOCKS);
                    }
                }
            }
        }
        assert!(accepted > 1000, "{accepted}");
    }

    #[test]
    fn the_advice_given_is_enough() {
        for cache in [None, Some(0), Some(256 * MIB)] {
            for block in [1024, 64 << 10, MIB, 8 * MIB, 64 * MIB] {
                for max_connections in [1, 32, 1024] {
                    let blocks = BlockBytes { taken: block, of_chain: block.max(8 * MIB) };
                    let wanted = BudgetRequest { memory: 0, cache, blocks, max_connections };
                    let memory = enough(wanted);
                    assert!(Budget::share_out(BudgetRequest { memory, ..wanted }).is_ok(), "{memory} {wanted:?}");
                }
            }
        }
        let blocks = BlockBytes::all(8 * MIB);
        let wanted = BudgetRequest { memory: 16 * MIB, cache: None, blocks, max_connections: 32 };
        let why = Budget::share_out(wanted).unwrap_err();
        assert!(why.contains("give it at least"), "{why}");
        let why = Budget::share_out(BudgetRequest { cache: Some(32 * MIB), ..wanted }).unwrap_err();
        assert!(why.contains("smaller than store.cache_bytes"), "{why}");
    }
}
