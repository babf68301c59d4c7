//! The DA blocks themselves: plain data, no clock, no network.

use std::collections::VecDeque;

use super::rpc::{Blob, Namespace};

/// What the chain may hold at once.
#[derive(Clone, Copy, Debug)]
pub struct DaLimits {
    /// Bytes of blob data in one DA block. At least one submission is taken however large it is.
    pub block_bytes: usize,
    /// Bytes of blob data that wait for a DA block; more is refused.
    pub pending_bytes: usize,
    /// Bytes of blob data in all DA blocks that are kept.
    pub history_bytes: usize,
    /// DA blocks that are kept.
    pub history_blocks: usize,
}

impl Default for DaLimits {
    fn default() -> Self {
        Self { block_bytes: 12 << 20, pending_bytes: 64 << 20, history_bytes: 512 << 20, history_blocks: 100_000 }
    }
}

/// Why there is no answer for a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    NotMadeYet {
        head: u64,
    },
    /// No blob of these namespaces.
    NoBlob,
    /// It was there once.
    Forgotten {
        oldest: u64,
    },
}

#[derive(Debug)]
struct DaBlock {
    time_unix_nanos: u64,
    blobs: Vec<Blob>,
    bytes: usize,
}

/// A chain of DA blocks. `T` is whatever waits for a submission to be included.
#[derive(Debug)]
pub struct DaChain<T> {
    limits: DaLimits,
    /// The DA height of `blocks[0]`.
    oldest: u64,
    blocks: VecDeque<DaBlock>,
    kept_bytes: usize,
    pending: VecDeque<(Vec<Blob>, T)>,
    pending_bytes: usize,
}

impl<T> DaChain<T> {
    /// A chain with its first block, at height 1, so that there always is a head.
    pub fn new(limits: DaLimits, time_unix_nanos: u64) -> Self {
        let genesis = DaBlock { time_unix_nanos, blobs: Vec::new(), bytes: 0 };
        Self {
            limits,
            oldest: 1,
            blocks: VecDeque::from([genesis]),
            kept_bytes: 0,
            pending: VecDeque::new(),
            pending_bytes: 0,
        }
    }

    pub fn head(&self) -> u64 {
        self.oldest + self.blocks.len() as u64 - 1
    }

    /// Queues blobs for a coming block; gives `waiter` back when there is no room.
    pub fn submit(&mut self, blobs: Vec<Blob>, waiter: T) -> Result<(), T> {
        let bytes = size(&blobs);
        if self.pending_bytes.saturating_add(bytes) > self.limits.pending_bytes {
            return Err(waiter);
        }
        self.pending_bytes += bytes;
        self.pending.push_back((blobs, waiter));
        Ok(())
    }

    /// Makes the next block of what is pending, and returns its height with whoever waited for it.
    pub fn make_block(&mut self, time_unix_nanos: u64) -> (u64, Vec<T>) {
        let mut block = DaBlock { time_unix_nanos, blobs: Vec::new(), bytes: 0 };
        let mut included = Vec::new();
        while let Some((blobs, _)) = self.pending.front() {
            let bytes = size(blobs);
            if !included.is_empty() && block.bytes + bytes > self.limits.block_bytes {
                break;
            }
            let Some((blobs, waiter)) = self.pending.pop_front() else { break };
            self.pending_bytes -= bytes;
            block.bytes += bytes;
            block.blobs.extend(blobs);
            included.push(waiter);
        }
        for (index, blob) in (0..).zip(&mut block.blobs) {
            blob.index = index;
        }
        self.kept_bytes += block.bytes;
        self.blocks.push_back(block);
        self.forget_the_oldest();
        (self.head(), included)
    }

    /// The blobs of these namespaces at a height, in block order.
    pub fn blobs(&self, height: u64, namespaces: &[Namespace]) -> Result<Vec<Blob>, Unavailable> {
        let block = self.block(height)?;
        let found: Vec<Blob> =
            block.blobs.iter().filter(|blob| namespaces.contains(&blob.namespace)).cloned().collect();
        if found.is_empty() { Err(Unavailable::NoBlob) } else { Ok(found) }
    }

    /// When the block at this height was made.
    pub fn time(&self, height: u64) -> Result<u64, Unavailable> {
        self.block(height).map(|block| block.time_unix_nanos)
    }

    fn block(&self, height: u64) -> Result<&DaBlock, Unavailable> {
        let head = self.head();
        if height > head {
            return Err(Unavailable::NotMadeYet { head });
        }
        let forgotten = Unavailable::Forgotten { oldest: self.oldest };
        let index = height.checked_sub(self.oldest).and_then(|index| usize::try_from(index).ok()).ok_or(forgotten)?;
        self.blocks.get(index).ok_or(forgotten)
    }

    fn forget_the_oldest(&mut self) {
        let too_much = |chain: &Self| {
            chain.kept_bytes > chain.limits.history_bytes || chain.blocks.len() > chain.limits.history_blocks
        };
        while self.blocks.len() > 1 && too_much(self) {
            if let Some(block) = self.blocks.pop_front() {
                self.kept_bytes -= block.bytes;
                self.oldest += 1;
            }
        }
    }
}

fn size(blobs: &[Blob]) -> usize {
    blobs.iter().map(|blob| blob.data.0.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DaLimits = DaLimits { block_bytes: 10, pending_bytes: 25, history_bytes: 20, history_blocks: 4 };

    fn blob(name: &str, len: usize) -> Blob {
        Blob::new(Namespace::of(name), vec![b'x'; len])
    }

    #[test]
    fn submissions_are_included_in_order_up_to_the_size_of_a_block() {
        let mut chain = DaChain::new(LIMITS, 0);
        for (waiter, len) in [(1, 6), (2, 4), (3, 1)] {
            chain.submit(vec![blob("a", len)], waiter).unwrap();
        }
        assert_eq!(chain.make_block(1), (2, vec![1, 2]));
        assert_eq!(chain.make_block(2), (3, vec![3]));
        let found = chain.blobs(2, &[Namespace::of("a")]).unwrap();
        assert_eq!(found.iter().map(|blob| (blob.index, blob.data.0.len())).collect::<Vec<_>>(), [(0, 6), (1, 4)]);
    }

    #[test]
    fn one_submission_larger_than_a_block_gets_a_block_of_its_own() {
        let mut chain = DaChain::new(LIMITS, 0);
        chain.submit(vec![blob("a", 20)], 1).unwrap();
        chain.submit(vec![blob("a", 1)], 2).unwrap();
        assert_eq!(chain.make_block(1), (2, vec![1]));
        assert_eq!(chain.make_block(2), (3, vec![2]));
    }

    #[test]
    fn too_much_pending_is_refused() {
        let mut chain = DaChain::new(LIMITS, 0);
        chain.submit(vec![blob("a", 20)], 1).unwrap();
        assert_eq!(chain.submit(vec![blob("a", 6)], 2), Err(2));
        chain.submit(vec![blob("a", 5)], 3).unwrap();
        chain.make_block(1);
        chain.submit(vec![blob("a", 20)], 4).unwrap();
    }

    #[test]
    fn what_is_not_there_says_why() {
        let mut chain = DaChain::new(LIMITS, 7);
        assert_eq!(chain.time(1), Ok(7));
        assert_eq!(chain.blobs(2, &[]), Err(Unavailable::NotMadeYet { head: 1 }));
        assert_eq!(chain.blobs(0, &[]), Err(Unavailable::Forgotten { oldest: 1 }));
        chain.submit(vec![blob("a", 1)], ()).unwrap();
        chain.make_block(8);
        assert_eq!(chain.blobs(2, &[Namespace::of("b")]), Err(Unavailable::NoBlob));
        for time in 9..13 {
            chain.make_block(time);
        }
        assert_eq!(chain.head(), 6);
        assert_eq!(chain.time(2), Err(Unavailable::Forgotten { oldest: 3 }));
        assert_eq!(chain.time(3), Ok(9));
    }

    #[test]
    fn history_is_bounded_in_bytes() {
        let mut chain = DaChain::new(LIMITS, 0);
        for _ in 0..3 {
            chain.submit(vec![blob("a", 9)], ()).unwrap();
            chain.make_block(0);
        }
        assert_eq!(chain.kept_bytes, 18);
        assert_eq!(chain.blobs(2, &[Namespace::of("a")]), Err(Unavailable::Forgotten { oldest: 3 }));
    }
}
