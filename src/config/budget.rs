//! One budget, many queues: how `limits.memory_bytes` is shared out.
//!
//! Every part divides its own share among its queues, and each queue's length is its bytes divided by `max_block_bytes`, so
//! that no flood of largest blocks can exceed the budget. What is not counted: the program itself, a few KiB per connection,
//! and what the operating system caches.
//!
//! ```text
//!   part     of what the store's cache leaves   holds
//!   p2p      7/14                               gossip and exchange queues, stream buffers, of all peers
//!   api      3/14                               messages, uploads and answers of all sessions
//!   verify   2/14                               messages that wait for their checks
//!   core     2/14                               verified blocks that wait for those before them, commits in flight
//! ```

use std::fmt::Write as _;

use super::settings::show_bytes;

/// A queue that holds fewer blocks than this would stand still while one is worked on.
pub const MIN_BLOCKS: u64 = 2;

/// What each part may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub p2p: u64,
    pub api: u64,
    pub verify: u64,
    pub core: u64,
    pub store_cache: u64,
    pub max_block: u64,
}

impl Budget {
    /// Shares out `memory` bytes; `cache` is the store's, an eighth by default.
    ///
    /// # Errors
    /// When a share would hold fewer than [`MIN_BLOCKS`] blocks of `max_block` bytes: what would suffice.
    pub fn share_out(memory: u64, cache: Option<u64>, max_block: u64) -> Result<Self, String> {
        let store_cache = cache.unwrap_or(memory / 8);
        let Some(rest) = memory.checked_sub(store_cache) else {
            return Err(format!("it is smaller than store.cache_bytes, {}", show_bytes(store_cache)));
        };
        let part = rest / 14;
        let budget = Self { p2p: part * 7, api: part * 3, verify: part * 2, core: part * 2, store_cache, max_block };
        let needed = MIN_BLOCKS.saturating_mul(max_block);
        match budget.shares().iter().find(|(_, bytes)| *bytes < needed) {
            None => Ok(budget),
            Some((name, bytes)) => {
                // The smallest share is 2/14 of what the cache leaves, and the cache is an eighth unless it was set.
                let rest = needed.saturating_mul(7);
                let enough = cache.map_or(rest.saturating_mul(8) / 7, |cache| rest.saturating_add(cache));
                Err(format!(
                    "the share of {name} would be {}, less than {MIN_BLOCKS} blocks of limits.max_block_bytes ({}): give it \
                     at least {}, or allow smaller blocks only",
                    show_bytes(*bytes),
                    show_bytes(max_block),
                    show_bytes(enough.next_multiple_of(1 << 20)),
                ))
            }
        }
    }

    fn shares(&self) -> [(&'static str, u64); 4] {
        [("p2p", self.p2p), ("api", self.api), ("verify", self.verify), ("core", self.core)]
    }

    /// What all of it comes to, at worst.
    #[must_use]
    pub fn worst_case(&self) -> u64 {
        self.p2p + self.api + self.verify + self.core + self.store_cache
    }

    /// The table for people, one part a line.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = format!("{:<12} {:>12}  blocks of {}\n", "share", "worst case", show_bytes(self.max_block));
        for (name, bytes) in self.shares() {
            let _ = writeln!(out, "{name:<12} {:>12}  {}", show_bytes(bytes), bytes / self.max_block.max(1));
        }
        let _ = writeln!(out, "{:<12} {:>12}", "store cache", show_bytes(self.store_cache));
        let _ = writeln!(out, "{:<12} {:>12}", "all", show_bytes(self.worst_case()));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn never_more_than_the_budget_and_never_a_queue_below_two_blocks() {
        for memory in (1..700).map(|mib| mib * MIB) {
            for cache in [None, Some(0), Some(MIB), Some(64 * MIB)] {
                for block in [1024, MIB, 8 * MIB] {
                    if let Ok(budget) = Budget::share_out(memory, cache, block) {
                        assert!(budget.worst_case() <= memory);
                        assert!(budget.shares().iter().all(|(_, bytes)| *bytes >= MIN_BLOCKS * block));
                    }
                }
            }
        }
    }

    #[test]
    fn the_advice_given_is_enough() {
        assert!(Budget::share_out(100 * MIB, None, 8 * MIB).unwrap_err().contains("at least 128 MiB"));
        assert!(Budget::share_out(128 * MIB, None, 8 * MIB).is_ok());
        assert!(Budget::share_out(100 * MIB, Some(64 * MIB), 8 * MIB).unwrap_err().contains("at least 176 MiB"));
        assert!(Budget::share_out(176 * MIB, Some(64 * MIB), 8 * MIB).is_ok());
        assert!(Budget::share_out(MIB, Some(2 * MIB), 1024).unwrap_err().contains("smaller than store.cache_bytes"));
    }
}
