//! Runs worlds: one, or many of them, one per thread.
//!
//! Invariants:
//! 1. A world is made, run and forgotten on one thread, and shares nothing with another one.
//! 2. A panic of the core is a failure of its world as any other.

use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::chain::Checks;
use super::faults::Plan;
use super::mutations::Bug;
use super::trace::Trace;
use super::world::{Outcome, World};

/// One run of a plan.
#[derive(Debug)]
pub struct Run {
    pub plan: Plan,
    pub bug: Option<Bug>,
    pub trace: Trace,
    pub checks: Checks,
}

impl Run {
    pub fn of(plan: Plan) -> Self {
        Self { plan, bug: None, trace: Trace::off(), checks: Checks::from_env() }
    }

    pub fn seed(seed: u64) -> Self {
        Self::of(Plan::draw(seed))
    }

    pub fn with(self, bug: Bug) -> Self {
        Self { bug: Some(bug), ..self }
    }

    pub fn traced(self, trace: Trace) -> Self {
        Self { trace, ..self }
    }

    pub fn checking(self, checks: Checks) -> Self {
        Self { checks, ..self }
    }

    /// To the end: what it amounts to, or what went wrong.
    pub fn end(self) -> Result<Outcome, String> {
        let world = World::new(self);
        guarded(|| world.run())
    }
}

/// A panic is a failure.
pub fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without a text")))
    })
}

/// Runs `work` for each number, on as many threads as there are cores, or as `SIM_THREADS` says, and hands over each result as it
/// comes. Gives the processor time that all of it took, where the system tells.
pub fn in_parallel<T: Send>(
    numbers: Range<u64>,
    work: impl Fn(u64) -> T + Sync,
    take: impl FnMut(u64, T) + Send,
) -> Option<Duration> {
    let next = AtomicU64::new(numbers.start);
    let take = Mutex::new(take);
    let worker = || {
        let started = processor_time();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return Some(processor_time()?.saturating_sub(started?));
            }
            let result = work(number);
            (take.lock().expect("no other thread has panicked"))(number, result);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(worker)).collect();
        let times: Vec<_> = workers.into_iter().map(|worker| worker.join().expect("it catches panics")).collect();
        times.into_iter().sum()
    })
}

fn threads() -> usize {
    let wanted = std::env::var("SIM_THREADS").ok().map(|text| text.parse().expect("SIM_THREADS is a number"));
    wanted.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from)).max(1)
}

/// What this thread has used of a processor so far, on Linux.
fn processor_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}
