//! The verify pool: the checks that need no state, on all cores, away from the loop.
//!
//! A job is whatever turns foreign bytes into an [`Input`] of the core. Jobs of one source come out in the order in which
//! they went in; between sources the pool is fair, one job of each in turn.
//!
//! Invariants:
//! 1. What waits here is bounded: unasked work (gossip) in bytes, by [`Pool::try_submit`]; asked work (range answers, the
//!    host's calls) by whoever asked for it.
//! 2. One source may fill at most half of the bytes, so that no peer can shut out the others.
//! 3. A job gives its answer, or the results come to their end, and with them the node: a worker that panics closes the pool.
//! 4. A signature that was good is not checked again while it is remembered, which is never longer than the rules hold under
//!    which it was.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::block::{Hash, Lane};
use crate::sync::{Content, Input, PeerId, RequestId};
use crate::verify::{AuthenticBlock, Fault, Rules, Signed};

/// Whose work it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckSource {
    Host,
    Signer,
    /// What a peer gossips.
    Peer(PeerId),
    /// The answer to one request: the answers of one peer are checked side by side.
    Answer(RequestId),
}

/// What a worker does. It must not block.
pub type CheckJob = Box<dyn FnOnce(&BlockChecker) -> Input + Send>;

/// There is no room; try again when others are done.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// How much work a job is.
#[derive(Clone, Copy, Debug)]
pub enum Load {
    /// One block of so many bytes, or less.
    Block(usize),
    Many,
}

impl Load {
    /// One signature and so many bytes take less time than two changes of threads, about 100 µs.
    const SMALL: usize = 16 << 10;

    fn is_small(self) -> bool {
        matches!(self, Self::Block(bytes) if bytes <= Self::SMALL)
    }
}

/// Signatures that the cache remembers, about 200 bytes each.
const MAX_KNOWN: usize = 4096;

/// Checks bytes against the rules in force, remembering which signatures were good.
#[derive(Debug)]
pub struct BlockChecker {
    /// What this node takes; the rules may allow more.
    max_block_bytes: usize,
    rules: RwLock<Arc<Rules>>,
    known: Mutex<KnownSignatures>,
}

/// The signatures that were found good lately under the rules in force; the oldest leave first.
#[derive(Debug, Default)]
struct KnownSignatures {
    good: HashSet<Signed>,
    order: VecDeque<Signed>,
}

impl BlockChecker {
    fn new(rules: Arc<Rules>, max_block_bytes: usize) -> Self {
        Self { max_block_bytes, rules: RwLock::new(rules), known: Mutex::default() }
    }

    /// # Errors
    /// The first [`Fault`] found.
    pub fn check(&self, lane: Lane, bytes: &Bytes) -> Result<AuthenticBlock, Fault> {
        self.check_by_the_rules(lane, bytes)?.within(self.max_block_bytes)
    }

    /// What bytes on DA are, and their digest. A block may be larger than this node takes.
    pub fn look_at(&self, lane: Lane, bytes: &Bytes) -> (Hash, Result<Content, Fault>) {
        let content = match self.check_by_the_rules(lane, bytes) {
            Ok(block) => Ok(Content::Block(block)),
            Err(Fault::NotScheduled { height, proposer }) => {
                let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
                rules.check_but_for_the_schedule(lane, bytes).map(|()| Content::Unscheduled { height, proposer })
            }
            Err(fault) => Err(fault),
        };
        (Hash::of(bytes), content)
    }

    fn check_by_the_rules(&self, lane: Lane, bytes: &Bytes) -> Result<AuthenticBlock, Fault> {
        let rules = Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner));
        let block = rules.check_unless_known(lane, bytes, |signed| lock(&self.known).good.contains(signed))?;
        let mut known = lock(&self.known);
        // Other rules may have come meanwhile, and they know nothing of this one.
        if Arc::ptr_eq(&rules, &self.rules.read().unwrap_or_else(PoisonError::into_inner)) {
            known.remember(block.signed());
        }
        Ok(block)
    }

    /// From now on these rules hold; what passed under others is checked again.
    fn set_rules(&self, rules: Arc<Rules>) {
        let mut known = lock(&self.known);
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        *known = KnownSignatures::default();
    }
}

impl KnownSignatures {
    fn remember(&mut self, signed: Signed) {
        if !self.good.insert(signed) {
            return;
        }
        self.order.push_back(signed);
        if self.order.len() > MAX_KNOWN
            && let Some(oldest) = self.order.pop_front()
        {
            self.good.remove(&oldest);
        }
    }
}

/// The jobs of one source.
#[derive(Default)]
struct Lineup {
    waiting: VecDeque<(u64, usize, CheckJob)>,
    /// Finished before a job that came earlier.
    early: BTreeMap<u64, Input>,
    next_in: u64,
    next_out: u64,
    bytes: usize,
}

#[derive(Default)]
struct PoolState {
    lineups: BTreeMap<CheckSource, Lineup>,
    /// The sources that have waiting jobs, in the order of their turns.
    turns: VecDeque<CheckSource>,
    bytes: usize,
    closed: bool,
}

struct PoolShared {
    state: Mutex<PoolState>,
    work: Condvar,
    checker: BlockChecker,
    max_bytes: usize,
    handing_out: Mutex<()>,
}

/// Closes the pool when its worker panics: what the job was to answer would be waited for without end.
struct PanicWatch<'a>(&'a PoolShared);

impl Drop for PanicWatch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

/// The running pool. Dropping it ends its threads; what waits is forgotten.
pub struct Pool {
    shared: Arc<PoolShared>,
    workers: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts `workers` threads, which take blocks of at most `max_block_bytes`. `max_bytes` bounds the waiting gossip. Results come out of the receiver.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(
        rules: Arc<Rules>,
        max_block_bytes: usize,
        workers: usize,
        max_bytes: usize,
    ) -> std::io::Result<(Self, mpsc::Receiver<Input>)> {
        let (done, results) = mpsc::channel(256);
        let shared = Arc::new(PoolShared {
            state: Mutex::default(),
            work: Condvar::new(),
            checker: BlockChecker::new(rules, max_block_bytes),
            max_bytes,
            handing_out: Mutex::new(()),
        });
        let mut pool = Self { shared, workers: Vec::new() };
        for index in 0..workers.max(1) {
            let (shared, done) = (Arc::clone(&pool.shared), done.clone());
            let thread = std::thread::Builder::new().name(format!("verify-{index}"));
            pool.workers.push(thread.spawn(move || shared.work(&done))?);
        }
        Ok((pool, results))
    }

    /// For work that nobody asked for.
    ///
    /// # Errors
    /// [`Full`] when all sources together, or this one alone, have their share waiting. One job always fits.
    pub fn try_submit(&self, source: CheckSource, bytes: usize, job: CheckJob) -> Result<(), Full> {
        let mut state = lock(&self.shared.state);
        let own = state.lineups.get(&source).map_or(0, |lineup| lineup.bytes);
        let all_full = state.bytes > 0 && state.bytes + bytes > self.shared.max_bytes;
        let own_full = own > 0 && own + bytes > self.shared.max_bytes / 2;
        if all_full || own_full {
            return Err(Full);
        }
        state.bytes += bytes;
        self.enqueue(state, source, bytes, job);
        Ok(())
    }

    /// For work whose amount is bounded by whoever asked for it. A small job of a source that has no other under way is done
    /// here and now, and its result returned: handing it over would take longer.
    pub fn submit(&self, source: CheckSource, load: Load, job: CheckJob) -> Option<Input> {
        let state = lock(&self.shared.state);
        if load.is_small() && !state.lineups.contains_key(&source) {
            drop(state);
            return Some(job(&self.shared.checker));
        }
        self.enqueue(state, source, 0, job);
        None
    }

    /// From now on these rules hold.
    pub fn set_rules(&self, rules: Arc<Rules>) {
        self.shared.checker.set_rules(rules);
    }

    fn enqueue(&self, mut state: MutexGuard<'_, PoolState>, source: CheckSource, bytes: usize, job: CheckJob) {
        let lineup = state.lineups.entry(source.clone()).or_default();
        let turn = lineup.next_in;
        lineup.next_in += 1;
        lineup.bytes += bytes;
        lineup.waiting.push_back((turn, bytes, job));
        state.turns.push_back(source);
        drop(state);
        self.shared.work.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.close();
        // The workers end by themselves; one that hands out a result ends when nobody takes it any more.
    }
}

impl PoolShared {
    fn close(&self) {
        lock(&self.state).closed = true;
        self.work.notify_all();
    }

    fn work(&self, done: &mpsc::Sender<Input>) {
        let _watch = PanicWatch(self);
        while let Some((source, turn, bytes, job)) = self.take() {
            let input = job(&self.checker);
            // One worker hands out at a time, or two could swap what they just put in order.
            let _turn = lock(&self.handing_out);
            for input in self.finish(&source, turn, bytes, input) {
                if done.blocking_send(input).is_err() {
                    return;
                }
            }
        }
    }

    /// Waits for a job; `None` when the pool ends.
    fn take(&self) -> Option<(CheckSource, u64, usize, CheckJob)> {
        let mut state = lock(&self.state);
        loop {
            if state.closed {
                return None;
            }
            if let Some(source) = state.turns.pop_front() {
                let (turn, bytes, job) = state.lineups.get_mut(&source)?.waiting.pop_front()?;
                return Some((source, turn, bytes, job));
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Keeps the result until those before it are out, and gives what may go out now.
    fn finish(&self, source: &CheckSource, turn: u64, bytes: usize, input: Input) -> Vec<Input> {
        let mut state = lock(&self.state);
        if bytes > 0 {
            state.bytes -= bytes;
        }
        let Some(lineup) = state.lineups.get_mut(source) else { return Vec::new() };
        lineup.bytes -= bytes;
        lineup.early.insert(turn, input);
        let mut ready = Vec::new();
        while let Some(input) = lineup.early.remove(&lineup.next_out) {
            lineup.next_out += 1;
            ready.push(input);
        }
        if lineup.next_out == lineup.next_in {
            state.lineups.remove(source);
        }
        ready
    }
}

/// A lock whose holder panicked is still good: nothing in here is left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc as blocking;
    use std::time::Duration;

    use super::*;
    use crate::block::{ChainId, Format, Hash, Header, Height, PublicKey, native};
    use crate::sync::{CommitId, RequestId};
    use crate::verify::{Schedule, ScheduleEntry};

    fn key(seed: u8) -> ed25519_dalek::SigningKey {
        ed25519_dalek::SigningKey::from_bytes(&[seed; 32])
    }

    fn rules(seed: u8) -> Arc<Rules> {
        let proposer = PublicKey(key(seed).verifying_key().to_bytes());
        let entry = ScheduleEntry { from: Height::MIN, proposer };
        Arc::new(Rules {
            format: Format::Native,
            chain_id: ChainId::new("pool").expect("a valid id"),
            initial_height: Height::MIN,
            max_block_bytes: 4096,
            max_clock_drift: Duration::ZERO,
            schedule: Schedule::new(Height::MIN, &[entry]).expect("a sound key"),
        })
    }

    fn block(seed: u8) -> Bytes {
        use ed25519_dalek::Signer as _;
        let header = native::encode_header(&Header {
            chain_id: ChainId::new("pool").expect("a valid id"),
            height: Height::MIN,
            time_unix_nanos: 1,
            parent_hash: None,
            payload_hash: Hash::of(b""),
            proposer: PublicKey(key(seed).verifying_key().to_bytes()),
            host_id: Bytes::new(),
        });
        let signature = key(seed).sign(&native::signing_message(&header)).to_bytes();
        native::encode(&header, &signature, &Bytes::new())
    }

    fn peer(name: u8) -> CheckSource {
        CheckSource::Peer(PeerId::new(&[name]))
    }

    /// A job whose result carries a number, and which waits until it is let go.
    fn gated(number: u64) -> (blocking::Sender<()>, CheckJob) {
        let (open, gate) = blocking::channel();
        let job = move |_: &BlockChecker| {
            let _ = gate.recv();
            Input::Durable { commit: CommitId(number), stored_bytes: 0 }
        };
        (open, Box::new(job))
    }

    fn number(input: Option<Input>) -> u64 {
        match input {
            Some(Input::Durable { commit: CommitId(number), .. }) => number,
            other => panic!("not one of ours: {other:?}"),
        }
    }

    /// Too large to be done at once.
    const LARGE: Load = Load::Block(Load::SMALL + 1);
    const SMALL: Load = Load::Block(Load::SMALL);

    #[tokio::test]
    async fn one_source_comes_out_in_order_and_another_does_not_wait_for_it() {
        let (pool, mut results) = Pool::start(rules(1), 4096, 2, 1 << 20).expect("threads");
        let (open_first, first) = gated(1);
        let (open_second, second) = gated(2);
        assert!(pool.submit(CheckSource::Host, LARGE, first).is_none());
        assert!(pool.submit(CheckSource::Host, SMALL, second).is_none(), "not before the first");
        // The second is done first, and waits for the first.
        open_second.send(()).expect("it waits");
        let (open_other, other) = gated(3);
        assert!(pool.submit(CheckSource::Answer(RequestId(1)), Load::Many, other).is_none());
        open_other.send(()).expect("it waits");
        assert_eq!(number(results.recv().await), 3);
        open_first.send(()).expect("it waits");
        assert_eq!(number(results.recv().await), 1);
        assert_eq!(number(results.recv().await), 2);
    }

    #[tokio::test]
    async fn a_small_job_is_done_at_once_unless_it_would_overtake_another() {
        let (pool, mut results) = Pool::start(rules(1), 4096, 1, 1 << 20).expect("threads");
        let job =
            |number| Box::new(move |_: &BlockChecker| Input::Durable { commit: CommitId(number), stored_bytes: 0 });
        assert_eq!(number(pool.submit(CheckSource::Host, SMALL, job(1))), 1);
        let (open, slow) = gated(2);
        assert!(pool.submit(CheckSource::Host, LARGE, slow).is_none());
        assert!(pool.submit(CheckSource::Host, SMALL, job(3)).is_none());
        assert_eq!(number(pool.submit(CheckSource::Signer, SMALL, job(4))), 4);
        open.send(()).expect("it waits");
        assert_eq!((number(results.recv().await), number(results.recv().await)), (2, 3));
        assert_eq!(number(pool.submit(CheckSource::Host, SMALL, job(5))), 5);
    }

    /// Whoever takes the results hears that there will be no more.
    #[tokio::test]
    async fn a_job_that_panics_ends_the_results() {
        let (pool, mut results) = Pool::start(rules(1), 4096, 2, 1 << 20).expect("threads");
        let (begin, begun) = blocking::channel();
        let (open, before) = gated(1);
        let before = Box::new(move |checker: &BlockChecker| {
            let _ = begin.send(());
            before(checker)
        });
        assert!(pool.submit(CheckSource::Signer, LARGE, before).is_none());
        begun.recv().expect("it is begun");
        assert!(pool.submit(CheckSource::Host, LARGE, Box::new(|_| panic!("on purpose"))).is_none());
        open.send(()).expect("it waits");
        assert_eq!(number(results.recv().await), 1, "what the others have begun they finish");
        assert!(results.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_flooding_peer_fills_its_half_and_no_more() {
        let (pool, mut results) = Pool::start(rules(1), 4096, 1, 3000).expect("threads");
        // 1500 of one peer.
        let (open, job) = gated(0);
        pool.try_submit(peer(1), 1000, job).expect("there is room");
        assert_eq!(pool.try_submit(peer(1), 1000, gated(1).1), Err(Full));
        let (open_other, other) = gated(2);
        pool.try_submit(peer(2), 1500, other).expect("the other half is free");
        assert_eq!(pool.try_submit(peer(3), 600, gated(3).1), Err(Full));
        open.send(()).expect("it waits");
        open_other.send(()).expect("it waits");
        assert_eq!(number(results.recv().await) + number(results.recv().await), 2);
        let (open_again, again) = gated(4);
        pool.try_submit(peer(1), 1000, again).expect("there is room again");
        open_again.send(()).expect("it waits");
        assert_eq!(number(results.recv().await), 4);
    }

    #[test]
    fn what_passed_under_old_rules_is_checked_again() {
        let checker = BlockChecker::new(rules(1), 4096);
        let bytes = block(1);
        assert!(checker.check(Lane::BLOCK, &bytes).is_ok());
        assert!(checker.check(Lane::BLOCK, &bytes).is_ok(), "without its signature");
        checker.set_rules(rules(2));
        assert!(matches!(checker.check(Lane::BLOCK, &bytes), Err(Fault::NotScheduled { .. })));
        assert_eq!(lock(&checker.known).good.len(), 0);
    }

    #[test]
    fn what_stands_on_da_is_looked_at_by_the_chains_rules() {
        let bytes = block(1);
        let is = |rules: Arc<Rules>, max, bytes: &Bytes| BlockChecker::new(rules, max).look_at(Lane::BLOCK, bytes);
        // However little this node takes, a block is one.
        let (digest, content) = is(rules(1), 1, &bytes);
        assert_eq!(digest, Hash::of(&bytes));
        assert!(matches!(content, Ok(Content::Block(_))));
        assert!(matches!(BlockChecker::new(rules(1), 1).check(Lane::BLOCK, &bytes), Err(Fault::TooLargeHere(_))));
        let unscheduled =
            Content::Unscheduled { height: Height::MIN, proposer: PublicKey(key(1).verifying_key().to_bytes()) };
        assert_eq!(is(rules(2), 4096, &bytes).1, Ok(unscheduled));
        let mut forged = bytes.to_vec();
        *forged.last_mut().expect("not empty") ^= 1;
        assert_eq!(is(rules(2), 4096, &forged.into()).1, Err(Fault::BadSignature));
    }

    #[test]
    fn a_known_signature_makes_nothing_else_of_the_block_good() {
        let checker = BlockChecker::new(rules(1), 4096);
        let good = block(1);
        let mut other_payload = good.to_vec();
        other_payload.extend_from_slice(&[0x1a, 1, 7]);
        let mut other_signature = good.to_vec();
        *other_signature.last_mut().expect("not empty") ^= 1;
        assert!(checker.check(Lane::BLOCK, &good).is_ok());
        assert_eq!(checker.check(Lane::BLOCK, &other_payload.into()).err(), Some(Fault::PayloadMismatch));
        assert_eq!(checker.check(Lane::BLOCK, &other_signature.into()).err(), Some(Fault::BadSignature));
    }

    #[test]
    fn so_many_signatures_are_remembered_and_the_oldest_are_forgotten() {
        let mut known = KnownSignatures::default();
        let signed = |number: usize| Signed { hash: Hash::of(&number.to_be_bytes()), signature: [0; 64] };
        (0..=MAX_KNOWN).chain([1]).for_each(|number| known.remember(signed(number)));
        assert_eq!((known.good.len(), known.order.len()), (MAX_KNOWN, MAX_KNOWN));
        assert!(!known.good.contains(&signed(0)) && known.good.contains(&signed(1)));
    }
}
