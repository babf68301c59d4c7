//! Bytes of memory to be shared, by waiting for them.
//!
//! Invariants:
//! 1. What is reserved is never more than there is.
//! 2. Nobody waits while he holds a part of what he waits for: a reservation takes its connection's share first, then its
//!    part of the whole, always in this order.

use tokio::sync::{Semaphore, SemaphorePermit};

/// A number of bytes.
#[derive(Debug)]
pub struct MemoryBudget(Semaphore);

/// Bytes are counted in so many.
const UNIT: usize = 1024;

impl MemoryBudget {
    pub fn new(bytes: usize) -> Self {
        Self(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS)))
    }

    /// Waits for the bytes, less than a unit of which is not counted; to be given back, drop the permit.
    pub async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        self.0.acquire_many(u32::try_from(bytes / UNIT).unwrap_or(u32::MAX)).await.ok()
    }
}

/// Bytes of a connection's share, and of the whole. Given back when it is dropped.
#[derive(Debug)]
pub struct MemoryReservation<'a> {
    own: SemaphorePermit<'a>,
    all: SemaphorePermit<'a>,
}

impl<'a> MemoryReservation<'a> {
    /// Waits for the bytes. `None` never happens: budgets are not closed.
    pub async fn take(own: &'a MemoryBudget, all: &'a MemoryBudget, bytes: usize) -> Option<Self> {
        let own = own.0.acquire_many(units(bytes)).await.ok()?;
        Some(Self { own, all: all.0.acquire_many(units(bytes)).await.ok()? })
    }

    /// The bytes, if they are there.
    pub fn try_take(own: &'a MemoryBudget, all: &'a MemoryBudget, bytes: usize) -> Option<Self> {
        let own = own.0.try_acquire_many(units(bytes)).ok()?;
        Some(Self { own, all: all.0.try_acquire_many(units(bytes)).ok()? })
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let keep = usize::try_from(units(bytes)).unwrap_or(usize::MAX);
        for permit in [&mut self.own, &mut self.all] {
            drop(permit.split(permit.num_permits().saturating_sub(keep)));
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_never_more_than_there_is() {
        let (own, all) = (MemoryBudget::new(3 * UNIT), MemoryBudget::new(4 * UNIT));
        let mut first = MemoryReservation::try_take(&own, &all, 2 * UNIT).expect("there is room");
        assert!(MemoryReservation::try_take(&own, &all, 2 * UNIT).is_none(), "more than the connection's share");
        let other = MemoryBudget::new(3 * UNIT);
        assert!(MemoryReservation::try_take(&other, &all, 3 * UNIT).is_none(), "more than is left");
        // What did not succeed holds nothing.
        assert_eq!((own.0.available_permits(), other.0.available_permits(), all.0.available_permits()), (1, 3, 2));
        first.shrink_to(UNIT + 1);
        assert_eq!((own.0.available_permits(), all.0.available_permits()), (1, 2), "a part of a unit is a unit");
        first.shrink_to(1);
        assert_eq!((own.0.available_permits(), all.0.available_permits()), (2, 3));
        drop(first);
        assert_eq!((own.0.available_permits(), all.0.available_permits()), (3, 4));
    }
}
