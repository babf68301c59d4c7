//! The child that writes, and what its parent knows from its output.
//!
//! Before each commit it prints `TRY <state>`, and `ACK` when the commit has returned: whatever is found later must be the last
//! acknowledged state, or the one that was tried after it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use blocksyncd::block::{BlockId, Hash, Height, Lane};
use blocksyncd::store::{Durability, Options, Reader, Store, StoreError};
use blocksyncd::sync::{
    Basis, Batch, Change, CommitId, DaEvidence, DaPosition, Disowned, DisownedBy, GuardEntry, GuardState, Heads,
    Origin, Recovered, Seen, Sighting,
};
use blocksyncd::verify::{Tip, VerifiedBlock};

use super::blocks;
use super::tempdir::TempDir;

const TASK: &str = "STORE_CRASH_TASK";
/// What a child says first, before its number: whoever runs it below another program kills it by that.
pub const PID: &str = "PID ";

/// What a child is to do.
#[derive(Clone, Debug)]
pub struct Task {
    pub dir: PathBuf,
    pub durability: Durability,
    pub payload: usize,
    pub commits: u64,
    pub seed: u64,
}

pub fn options(dir: &Path, durability: Durability) -> Options {
    Options {
        dir: dir.join("data"),
        guard: Some(dir.join("guard")),
        durability,
        // Small, so that tables are written, too.
        cache_bytes: 1 << 20,
        max_evidence: 8,
        da_evidence: DaEvidence::Block,
    }
}

impl Task {
    /// This test binary, running nothing but [`child`].
    pub fn command(&self) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        self.prepare(&mut command);
        command
    }

    /// The same below a program that is given this binary's path and arguments.
    pub fn command_under(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).arg(std::env::current_exe().expect("this binary"));
        self.prepare(&mut command);
        command
    }

    fn prepare(&self, command: &mut Command) {
        let durability = if self.durability == Durability::Power { "power" } else { "process" };
        let Self { dir, payload, commits, seed, .. } = self;
        command
            .args(["--exact", "child::child", "--nocapture", "--test-threads=1"])
            .env(TASK, format!("{durability} {payload} {commits} {seed} {}", dir.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
    }

    fn from_env() -> Option<Self> {
        let text = std::env::var(TASK).ok()?;
        let mut words = text.splitn(5, ' ');
        let durability = if words.next()? == "power" { Durability::Power } else { Durability::Process };
        Some(Self {
            durability,
            payload: words.next()?.parse().ok()?,
            commits: words.next()?.parse().ok()?,
            seed: words.next()?.parse().ok()?,
            dir: words.next()?.into(),
        })
    }
}

/// Not a test by itself: what the rigs run in a process of its own.
#[test]
fn child() {
    let Some(task) = Task::from_env() else { return };
    say(&format!("{PID}{}", std::process::id()));
    let (mut store, reader, recovered) =
        Store::open(&options(&task.dir, task.durability), &blocks::rules()).expect("the store opens");
    let mut workload = Workload::new(&reader, &recovered, task.seed, task.payload);
    for _ in 0..task.commits {
        let batch = workload.next_batch();
        say(&workload.tries(&batch));
        if let Err(error) = store.commit(&batch) {
            return say(&format!("ERR {error:?}"));
        }
        say("ACK");
    }
}

/// One write per line, past the test runner's capture.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| out.flush()).expect("somebody listens");
}

/// Batches as a busy node writes them.
pub struct Workload {
    pub heads: Heads,
    pub guard: Option<BlockId>,
    guarded: bool,
    pub disowned: BTreeSet<BlockId>,
    /// What was taken back last, lowest first, and may come again.
    taken_back: Vec<VerifiedBlock>,
    random: fastrand::Rng,
    payload: usize,
    /// The last few blocks: enough to go back a little.
    recent: BTreeMap<Height, VerifiedBlock>,
    /// Of what is stored.
    tips: BTreeMap<Height, Tip>,
    /// What is below the height at which the store began: the same in every run.
    below: Vec<VerifiedBlock>,
    commit: CommitId,
}

const REACH: u64 = 6;
/// The list of the disowned is kept about so long.
const MAX_DISOWNED: usize = 12;
/// A store begins above so many blocks.
const BELOW: u64 = 40;

impl Workload {
    pub fn new(reader: &Reader, recovered: &Recovered, seed: u64, payload: usize) -> Self {
        let snapshot = reader.snapshot();
        let heads = recovered.heads;
        let mut recent: BTreeMap<Height, VerifiedBlock> = BTreeMap::new();
        if let Some(soft) = heads.soft_height() {
            for height in soft.get().saturating_sub(REACH).max(heads.tail.get())..=soft.get() {
                let height = Height::new(height).expect("not 0");
                let (block, _) = snapshot.block(height).expect("it reads").expect("it is stored");
                let base = heads.base.filter(|_| height == heads.tail);
                let parent = base.or_else(|| {
                    let parent = height.prev()?;
                    let hash = snapshot.hash(parent).expect("it reads")?;
                    let header = snapshot.header(parent).expect("it reads")?;
                    let id = BlockId { height: parent, hash };
                    Some(Tip { id, time_unix_nanos: header.time_unix_nanos })
                });
                let authentic = blocks::rules().check(Lane::BLOCK, block.bytes()).expect("only valid ones are stored");
                recent.insert(height, authentic.link(parent).expect("it links"));
            }
        }
        let guard = match recovered.guard {
            GuardState::Signed(entry) => Some(entry.last),
            _ => None,
        };
        let stored = heads.soft_height().map_or(0, |soft| soft.above(heads.tail) + 1);
        let tips = (0..stored).map(|index| heads.tail.plus(index)).map(|height| {
            let hash = snapshot.hash(height).expect("it reads").expect("it is stored");
            let header = snapshot.header(height).expect("it reads").expect("it is stored");
            (height, Tip { id: BlockId { height, hash }, time_unix_nanos: header.time_unix_nanos })
        });
        let (tips, below) = (tips.collect(), blocks::build_chain(BELOW, 2_000));
        Self {
            heads,
            guard,
            guarded: recovered.guard != GuardState::Missing,
            disowned: recovered.disowned.iter().map(|disowned| disowned.id).collect(),
            taken_back: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            payload,
            recent,
            tips,
            below,
            commit: CommitId(0),
        }
    }

    pub fn next_batch(&mut self) -> Batch {
        let mut changes = Vec::new();
        if !self.guarded {
            // Nobody has said what was signed, and nothing was.
            self.guarded = true;
            changes.push(Change::ResetGuard(None));
        }
        // As a branch that DA decides against, and then for again: both come in writes of their own.
        let comes_again = self.next_taken_back().is_some() && self.random.u8(..) < 150;
        if comes_again {
            self.store_again(&mut changes);
        } else if self.random.u8(..) < 100 {
            self.truncate(&mut changes);
        } else {
            self.taken_back.clear();
            for _ in 0..self.random.u8(1..4) {
                self.append_new(&mut changes);
            }
        }
        self.own(&mut changes);
        if self.random.u8(..) < 60 {
            self.confirm(&mut changes);
        }
        if self.random.u8(..) < 30 {
            self.prune(&mut changes);
        }
        if self.random.u8(..) < 100 {
            self.prepend(&mut changes);
        }
        if self.random.u8(..) < 60 {
            self.heads.scanned_through += 1;
            let position = DaPosition { height: self.heads.scanned_through, index: 0 };
            let what = Seen::Digest(Hash([self.random.u8(..); 32]));
            changes.push(Change::KeepSighting(Sighting { position, height: self.heads.next_height(), what }));
        }
        let guard = (self.random.u8(..) < 100).then(|| self.heads.soft_id().map(|last| GuardEntry { last })).flatten();
        // A key signs no height below the one that it signed last.
        let rises = |entry: &GuardEntry| self.guard.is_none_or(|known| known.height < entry.last.height);
        let guard = guard.filter(|entry| rises(entry) || self.guard == Some(entry.last));
        self.guard = guard.map(|guard| guard.last).or(self.guard);
        self.commit = self.commit.next();
        Batch { id: self.commit, changes, heads: self.heads, guard }
    }

    /// The line that says what the batch is about to do.
    pub fn tries(&self, batch: &Batch) -> String {
        format!("TRY {}", Known::of(&self.heads, self.guard, &self.disowned).line(batch))
    }

    fn top(&self) -> Option<&VerifiedBlock> {
        self.recent.last_key_value().map(|(_, block)| block).or(self.below.last())
    }

    fn append_new(&mut self, changes: &mut Vec<Change>) {
        let size = self.random.usize(self.payload / 2..=self.payload);
        let block = blocks::extend(self.top(), 1, size, self.heads.epoch.0).remove(0);
        self.append(block, changes);
    }

    /// Which of what was taken back follows.
    fn next_taken_back(&self) -> Option<usize> {
        let top = self.top().map(|top| top.id().hash);
        self.taken_back.iter().position(|block| block.block().header().parent_hash == top)
    }

    fn store_again(&mut self, changes: &mut Vec<Change>) {
        while let Some(next) = self.next_taken_back() {
            let block = self.taken_back.remove(next);
            self.append(block, changes);
        }
    }

    /// As an operator owns a block again, or as the core forgets the oldest.
    fn own(&mut self, changes: &mut Vec<Change>) {
        if self.disowned.len() > MAX_DISOWNED || self.random.u8(..) < 20 {
            changes.extend(self.disowned.pop_first().map(Change::Own));
        }
    }

    fn append(&mut self, block: VerifiedBlock, changes: &mut Vec<Change>) {
        self.disowned.remove(&block.id());
        if self.heads.top().is_none() {
            self.heads.tail = block.id().height;
            self.heads.base = Tip::below(block.block());
        }
        self.heads.soft = Some(block.tip());
        self.tips.insert(block.id().height, block.tip());
        self.recent.insert(block.id().height, block.clone());
        while self.recent.len() as u64 > REACH {
            self.recent.pop_first();
        }
        changes.push(Change::Append { block, origin: Origin::Range });
    }

    fn truncate(&mut self, changes: &mut Vec<Change>) {
        let (Some(soft), Some((lowest, _))) = (self.heads.soft_height(), self.recent.first_key_value()) else { return };
        let lowest = lowest.next().max(self.heads.hard_height().map_or(Height::MIN, Height::next));
        if lowest > soft {
            return;
        }
        let from = Height::new(self.random.u64(lowest.get()..=soft.get())).expect("not 0");
        let taken_back = self.recent.split_off(&from);
        self.tips.split_off(&from);
        self.heads.soft = self.recent.last_key_value().map(|(_, block)| block.tip());
        self.heads.epoch = self.heads.epoch.next();
        changes.push(Change::Truncate { from, epoch: self.heads.epoch });
        // As an operator abandons a branch.
        if self.random.u8(..) < 200 {
            self.disowned.extend(taken_back.values().map(VerifiedBlock::id));
            let disown = |block: &VerifiedBlock| Change::Disown(Disowned { id: block.id(), by: DisownedBy::Da });
            changes.extend(taken_back.values().map(disown));
            self.guard = self.heads.soft_id();
            changes.push(Change::ResetGuard(self.guard));
        }
        // What was taken back before stands on it.
        self.taken_back.splice(0..0, taken_back.into_values());
    }

    /// A few blocks, up to hard.
    fn prune(&mut self, changes: &mut Vec<Change>) {
        let Some(hard) = self.heads.hard_height() else { return };
        let below = self.heads.tail.plus(self.random.u64(1..=12));
        if below > hard {
            return;
        }
        let kept = self.tips.split_off(&below);
        self.heads.base = std::mem::replace(&mut self.tips, kept).pop_last().map(|(_, base)| base);
        self.heads.tail = below;
        changes.push(Change::Prune { below });
    }

    fn prepend(&mut self, changes: &mut Vec<Change>) {
        for _ in 0..self.random.u8(1..4) {
            let Some(base) = self.heads.base else { return };
            let Some(block) = self.below.iter().find(|block| block.id() == base.id) else { return };
            self.heads.tail = block.id().height;
            self.heads.base = Tip::below(block.block());
            self.tips.insert(block.id().height, block.tip());
            changes.push(Change::Prepend { block: block.clone(), origin: Origin::Range });
        }
    }

    fn confirm(&mut self, changes: &mut Vec<Change>) {
        let next = self.heads.hard_height().map_or(self.heads.tail, Height::next);
        let lowest = self.recent.first_key_value().map_or(next, |(lowest, _)| *lowest);
        // What has left our memory becomes hard all at once.
        let height = next.max(lowest);
        let Some(block) = self.recent.get(&height) else { return };
        self.heads.hard = Some(block.id());
        let position = DaPosition { height: height.get(), index: 0 };
        for height in next.get()..=height.get() {
            let height = Height::new(height).expect("not 0");
            changes.push(Change::Confirm { height, position, basis: Basis::Bytes });
        }
    }
}

/// A state of the store, as far as the child tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub chain: BTreeMap<u64, String>,
    pub hard: u64,
    pub epoch: u64,
    pub scanned: u64,
    pub guard: Option<String>,
    pub disowned: BTreeSet<String>,
}

impl Known {
    pub fn of(heads: &Heads, guard: Option<BlockId>, disowned: &BTreeSet<BlockId>) -> Self {
        Self {
            chain: BTreeMap::new(),
            hard: heads.hard_height().map_or(0, Height::get),
            epoch: heads.epoch.0,
            scanned: heads.scanned_through,
            guard: guard.map(|id| id.to_string()),
            disowned: disowned.iter().map(BlockId::to_string).collect(),
        }
    }

    /// The state that a batch leads to, told as a difference.
    fn line(&self, batch: &Batch) -> String {
        let guard = self.guard.as_deref().unwrap_or("none");
        let mut line = format!("{} {} {} {guard}", self.hard, self.epoch, self.scanned);
        for change in &batch.changes {
            match change {
                Change::Append { block, .. } | Change::Prepend { block, .. } => {
                    line = format!("{line} +{}", block.id());
                }
                Change::Prune { below } => line = format!("{line} ~{below}"),
                Change::Truncate { from, .. } => line = format!("{line} -{from}"),
                Change::Disown(disowned) => line = format!("{line} !{}", disowned.id),
                Change::Own(id) => line = format!("{line} ?{id}"),
                _ => {}
            }
        }
        line
    }

    fn follow(&self, line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = self.clone();
        next.hard = words.next()?.parse().ok()?;
        next.epoch = words.next()?.parse().ok()?;
        next.scanned = words.next()?.parse().ok()?;
        next.guard = Some(words.next()?.to_owned()).filter(|guard| guard != "none");
        for word in words {
            if let Some(from) = word.strip_prefix('-') {
                next.chain.split_off(&from.parse().ok()?);
            } else if let Some(below) = word.strip_prefix('~') {
                next.chain = next.chain.split_off(&below.parse().ok()?);
            } else if let Some(id) = word.strip_prefix('!') {
                next.disowned.insert(id.to_owned());
            } else if let Some(id) = word.strip_prefix('?') {
                next.disowned.remove(id);
            } else {
                let id = word.strip_prefix('+')?;
                next.disowned.remove(id);
                let (height, hash) = id.split_once('/')?;
                next.chain.insert(height.parse().ok()?, hash.to_owned());
            }
        }
        Some(next)
    }

    /// The lowest height and the highest.
    pub fn span(&self) -> Option<(u64, u64)> {
        Some((*self.chain.first_key_value()?.0, *self.chain.last_key_value()?.0))
    }

    /// What the store says of itself.
    ///
    /// # Errors
    /// Damage that it meets.
    pub fn read(reader: &Reader, recovered: &Recovered) -> Result<Self, StoreError> {
        let guard = match recovered.guard {
            GuardState::Signed(entry) => Some(entry.last),
            _ => None,
        };
        let snapshot = reader.snapshot();
        let mut known =
            Self::of(&recovered.heads, guard, &recovered.disowned.iter().map(|disowned| disowned.id).collect());
        if let Some(soft) = recovered.heads.soft_height() {
            for height in recovered.heads.tail.get()..=soft.get() {
                let block = snapshot.block(Height::new(height).expect("not 0"))?;
                let (block, _) = block.expect("everything up to soft is stored");
                known.chain.insert(height, block.hash().to_string());
            }
        }
        Ok(known)
    }
}

/// What is known from a child's output.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub acknowledged: Known,
    pub tried: Option<Known>,
    pub acks: u64,
}

impl Told {
    pub fn hear(&mut self, line: &str) {
        if let Some(state) = line.strip_prefix("TRY ") {
            // The last line of a killed child may be cut.
            self.tried = self.acknowledged.follow(state);
        } else if line == "ACK" {
            self.acknowledged = self.tried.take().expect("what was acknowledged was tried before");
            self.acks += 1;
        }
    }

    /// Opens the store as a restarted process would; it must need no help, and hold what was acknowledged.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&mut self, dir: &Path, durability: Durability) -> Result<(), String> {
        let opened = Store::open(&options(dir, durability), &blocks::rules());
        let (store, reader, recovered) = opened.map_err(|error| format!("it does not open: {error}"))?;
        if let Some(lost) = recovered.heads.lost {
            return Err(format!("it says that {lost:?} are lost"));
        }
        if recovered.anchor.is_some() {
            return Err("it says that the hard block is lost".into());
        }
        reader.snapshot().verify(|_| true).map_err(|error| format!("it is not sound: {error}"))?;
        let found = Known::read(&reader, &recovered).map_err(|error| error.to_string())?;
        drop((store, reader));
        self.check_disowned(dir, &found)?;
        // The guard may be ahead by the entry that was being written.
        let unguarded = |known: &Known| Known { guard: None, ..known.clone() };
        let states: Vec<&Known> = [Some(&self.acknowledged), self.tried.as_ref()].into_iter().flatten().collect();
        if !states.iter().any(|state| state.guard == found.guard) {
            return Err(format!("its guard says {:?}, not {:?}", found.guard, self.acknowledged.guard));
        }
        if !states.iter().any(|state| unguarded(state) == unguarded(&found)) {
            return Err(self.difference(&found));
        }
        self.acknowledged = found;
        self.tried = None;
        Ok(())
    }

    /// A guard that has fallen knows for which blocks it fell, also without the store.
    fn check_disowned(&self, dir: &Path, found: &Known) -> Result<(), String> {
        let Some(tried) = self.tried.as_ref().filter(|tried| tried.guard == found.guard) else { return Ok(()) };
        let beside = TempDir::in_memory();
        for name in ["guard", "guard.disowned"].iter().filter(|name| dir.join(name).exists()) {
            std::fs::copy(dir.join(name), beside.join(name)).expect("it can be copied");
        }
        let (_store, _reader, recovered) = Store::open(&options(beside.path(), Durability::Process), &blocks::rules())
            .map_err(|error| format!("beside the guard: {error}"))?;
        let known: BTreeSet<String> = recovered.disowned.iter().map(|disowned| disowned.id.to_string()).collect();
        let new: Vec<_> = tried.disowned.difference(&self.acknowledged.disowned).collect();
        let fell = self.acknowledged.guard != found.guard && !new.is_empty();
        match new.into_iter().find(|id| !known.contains(*id)) {
            Some(missing) if fell => Err(format!("the guard says {:?}, and {missing} is not disowned", found.guard)),
            _ => Ok(()),
        }
    }

    fn difference(&self, found: &Known) -> String {
        let head = |known: &Known| (known.span(), known.hard, known.epoch, known.scanned);
        let (is, was) = (head(found), head(&self.acknowledged));
        let lost: Vec<_> = self.acknowledged.disowned.difference(&found.disowned).collect();
        format!("(tail..soft, hard, epoch, DA) is {is:?}, acknowledged was {was:?}; disowned no more: {lost:?}")
    }
}
