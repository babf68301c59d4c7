//! The promise of `cursor.rs`, stated once more as what a host may see, and held against every small case: each chain of ours
//! and each host up to a height, each locator that the host could send, and all that may happen to our chain next.
//!
//! What is held to, event by event:
//! 1. `soft` is of the next height, and its parent is the host's newest block, unless that one lies in a gap.
//! 2. `hard` is of the lowest block that the host was given, does not call hard, and we still have; and is the host's own block.
//! 3. A host is sent down only to a block in common, at or above the one that it calls hard; and after a resume only when our hard
//!    block is above the place where the two chains really part, or a block of the host's was given up.
//! 4. Nothing is owed when a stream is idle.
//! 5. A host that opens its stream anew ends up where it would have with the old one, or waits for DA to decide.
//! 6. A host that waits, and names what it is asked for, is asked for what it has, and once; and waits on only where our hard block
//!    is one of its own, or is not above the common block, or lies where it was given nothing, or while we catch up.

use std::convert::Infallible;
use std::ops::RangeInclusive;

use super::*;
use crate::verify::Tip;

/// Blocks are up to this height; a chain of ours may grow by one more.
const TOP: u64 = 4;

/// Whose block is at each height. A branch has the height of its first block in its name, so that equal blocks have equal
/// parents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line([u64; LEN]);

/// Two rewinds may each bring a block more than they took back.
const LEN: usize = 8;
const THEIRS: u64 = 10;
const LATER: u64 = 20;

impl Line {
    /// The trunk, and from `fork` on a branch of its own.
    fn new(fork: u64, of: u64) -> Self {
        let mut line = Self([0; LEN]);
        line.branch_off(fork, of);
        line
    }

    fn branch_off(&mut self, fork: u64, of: u64) {
        self.0.iter_mut().skip(at(fork)).for_each(|block| *block = of + fork);
    }

    /// Whether it has left the trunk there, to be a host's.
    fn is_branch_at(&self, height: u64) -> bool {
        self.0[at(height)] >= THEIRS
    }

    fn id(&self, height: u64) -> BlockId {
        let mut hash = [0; Hash::LEN];
        hash[..8].copy_from_slice(&height.to_be_bytes());
        hash[8..16].copy_from_slice(&self.0[at(height)].to_be_bytes());
        BlockId { height: h(height), hash: Hash(hash) }
    }
}

fn at(height: u64) -> usize {
    usize::try_from(height).unwrap()
}

fn h(height: u64) -> Height {
    Height::new(height).unwrap()
}

fn number(height: Option<Height>) -> u64 {
    height.map_or(0, Height::get)
}

/// Our chain. Heights of 0: none.
#[derive(Clone, Copy, Debug)]
struct Ours {
    line: Line,
    tail: u64,
    soft: u64,
    hard: u64,
    target: u64,
    /// The height at which the blocks of all hosts' branches were given up.
    given_up: u64,
    /// From where on each epoch took blocks back.
    rewinds: [u64; 3],
    epoch: u64,
}

impl ChainView for Ours {
    type Error = Infallible;

    fn hash(&self, height: Height) -> Result<Option<Hash>, Infallible> {
        let height = height.get();
        Ok((self.tail..=self.soft).contains(&height).then(|| self.line.id(height).hash))
    }

    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, Infallible> {
        let since = &self.rewinds[at(epoch.0)..at(self.epoch)];
        Ok(since.iter().min().map(|from| h(*from)))
    }

    fn is_given_up(&self, hash: Hash) -> Result<bool, Infallible> {
        let lines = (1..=TOP).map(|fork| Line::new(fork, THEIRS));
        Ok(lines.filter(|line| line.is_branch_at(self.given_up)).any(|line| line.id(self.given_up).hash == hash))
    }

    /// To whoever resumes, it is a block that was given up.
    fn vetoed(&self) -> Result<Option<BlockId>, Infallible> {
        Ok(None)
    }
}

/// Something that happens to our chain.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Grow,
    Harden(u64),
    /// From this height on blocks are taken back, and so many others come.
    Rewind(u64, u64),
    Prune(u64),
    Backfill,
}

impl Ours {
    fn id(&self, height: u64) -> Option<BlockId> {
        (height > 0).then(|| self.line.id(height))
    }

    fn heads(&self) -> Heads {
        let tip = |height| self.id(height).map(|id| Tip { id, time_unix_nanos: 0 });
        Heads {
            base: tip(self.tail - 1),
            soft: tip(self.soft),
            hard: self.id(self.hard),
            target: self.id(self.target),
            epoch: Epoch(self.epoch),
            ..Heads::empty(h(self.tail))
        }
    }

    /// What we have, or have had, at a height, as far as we know it ourselves.
    fn knows(&self, height: u64) -> bool {
        (self.tail - 1..=self.soft).contains(&height)
    }

    /// All chains up to [`TOP`].
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for soft in 0..=TOP {
            for (tail, fork) in pairs(1..=soft.max(1), 1..=soft + 1) {
                for hard in (tail..=soft).chain([0]) {
                    let line = Line::new(fork, 0);
                    let rewinds = [0; 3];
                    all.push(Self { line, tail, soft, hard, target: soft, given_up: 0, rewinds, epoch: 0 });
                }
            }
        }
        all
    }

    /// What may happen next.
    fn may_happen(&self) -> Vec<Happens> {
        let mut may = Vec::new();
        if self.soft > 0 {
            may.push(Happens::Backfill);
        }
        if self.soft <= TOP {
            may.push(Happens::Grow);
        }
        may.extend((self.hard.max(self.tail - 1) + 1..=self.soft).map(Happens::Harden));
        may.extend((self.tail + 1..=self.hard).map(Happens::Prune));
        let taken_back = self.hard.max(self.tail - 1) + 1..=self.soft;
        may.extend(pairs(taken_back, 0..=2).into_iter().map(|(from, others)| Happens::Rewind(from, others)));
        may
    }

    fn after(mut self, happens: Happens) -> Self {
        match happens {
            Happens::Grow => self.soft = (self.soft + 1).max(self.tail),
            Happens::Harden(hard) => self.hard = hard,
            Happens::Prune(tail) => self.tail = tail,
            Happens::Backfill => self.tail = 1,
            Happens::Rewind(from, others) => {
                self.rewinds[at(self.epoch)] = from;
                self.epoch += 1;
                self.line.branch_off(from, LATER * self.epoch);
                self.soft = if from + others > self.tail { from + others - 1 } else { 0 };
            }
        }
        self.target = self.soft;
        self
    }
}

fn pairs(one: impl Iterator<Item = u64>, other: RangeInclusive<u64>) -> Vec<(u64, u64)> {
    one.flat_map(|one| other.clone().map(move |other| (one, other))).collect()
}

/// A host, as it is told. It holds the blocks `given_from..=newest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Host {
    line: Line,
    given_from: u64,
    newest: u64,
    hard: u64,
}

/// How a stream went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Went {
    lost: Option<Lost>,
    sent_down: bool,
}

impl Host {
    /// All hosts up to [`TOP`], next to a chain of ours: on it, or on a branch that leaves the same trunk.
    fn all(ours: &Ours) -> Vec<Self> {
        let mut all = Vec::new();
        for newest in 1..=TOP {
            for (given_from, hard) in pairs(1..=newest, 0..=newest) {
                let lines = (1..=newest).map(|fork| Line::new(fork, THEIRS)).chain([ours.line]);
                all.extend(lines.map(|line| Self { line, given_from, newest, hard }));
            }
        }
        all
    }

    /// Each locator that it could send: of the blocks below its newest one, those whose bit is set.
    fn locators(self) -> impl Iterator<Item = (Vec<u64>, Locator)> {
        (0..1u64 << (self.newest - self.given_from)).map(move |named| {
            let is_named = |height: &u64| *height == self.newest || named >> (height - self.given_from) & 1 == 1;
            let named: Vec<u64> = (self.given_from..=self.newest).rev().filter(is_named).collect();
            (named.clone(), self.locator(&named))
        })
    }

    fn locator(&self, named: &[u64]) -> Locator {
        let blocks = named.iter().map(|height| self.line.id(*height)).collect();
        Locator::new(blocks, self.hard(), Some(h(self.given_from))).unwrap()
    }

    fn is_in_gap(&self) -> bool {
        self.given_from > self.newest
    }

    /// Who holds nothing above a gap goes on from below it.
    fn without_gap(self) -> Self {
        if self.is_in_gap() { Self { newest: self.hard, given_from: self.hard + 1, ..self } } else { self }
    }

    /// Its longest locator.
    fn everything(&self) -> Locator {
        self.locator(&(self.given_from..=self.newest).rev().collect::<Vec<_>>())
    }

    fn hard(&self) -> Option<BlockId> {
        (self.hard > 0).then(|| self.line.id(self.hard))
    }

    /// Everything that there is to say.
    fn listen(&mut self, cursor: &mut Cursor, ours: &Ours) -> Went {
        let heads = ours.heads();
        let mut went = Went::default();
        loop {
            let before = *self;
            match cursor.step(&heads, ours) {
                Ok(Step::Idle) => break,
                Ok(Step::Lost(lost)) => return Went { lost: Some(lost), ..went },
                Ok(Step::Soft(height)) => self.soft(height.get(), cursor, ours),
                Ok(Step::Hard(height)) => self.harden(height.get(), ours),
                Ok(Step::Gap { from, to }) => self.gap(from.get(), to.get(), ours),
                Ok(Step::Retract { to, .. }) => {
                    went.sent_down = true;
                    self.retract(to, ours);
                }
                other => panic!("{other:?}"),
            }
            assert_ne!(*self, before, "nothing is said twice");
        }
        self.is_owed_nothing(cursor, ours);
        went
    }

    fn soft(&mut self, height: u64, cursor: &mut Cursor, ours: &Ours) {
        assert_eq!(height, self.newest + 1);
        let parent = (height > 1).then(|| ours.line.id(height - 1).hash);
        if self.given_from < height {
            assert_eq!(parent, Some(self.line.id(height - 1).hash), "soft {height} stands on what the host has");
        }
        assert_eq!(cursor.link(ours.line.id(height), parent), LinkCheck::Sound);
        self.line.0[at(height)] = ours.line.0[at(height)];
        self.newest = height;
    }

    fn harden(&mut self, height: u64, ours: &Ours) {
        let due = (self.given_from..=self.newest).find(|due| *due > self.hard && *due >= ours.tail);
        assert_eq!(due, Some(height), "hard comes in order, of what was given");
        assert!(height <= ours.hard);
        assert_eq!(self.line.id(height), ours.line.id(height));
        self.hard = height;
    }

    fn gap(&mut self, from: u64, to: u64, ours: &Ours) {
        assert_eq!((from, to + 1), (self.newest + 1, ours.tail));
        self.newest = to;
        self.given_from = to + 1;
    }

    fn retract(&mut self, to: Option<BlockId>, ours: &Ours) {
        let height = number(to.map(|to| to.height));
        assert!((self.hard..self.newest).contains(&height), "sent down to {height}");
        if height >= self.given_from {
            assert_eq!(to, Some(self.line.id(height)), "sent down to what it has");
        }
        if ours.knows(height) {
            assert_eq!(to, ours.id(height), "sent down to what we have");
        }
        self.newest = height;
        self.given_from = self.given_from.min(height + 1);
    }

    fn is_owed_nothing(&self, cursor: &Cursor, ours: &Ours) {
        let shown = if cursor.filter == EventFilter::Soft { ours.soft } else { ours.hard };
        assert!(self.newest >= shown);
        if (self.given_from.max(ours.tail)..=self.newest).contains(&ours.hard) {
            assert!(self.hard >= ours.hard);
        }
    }

    /// Whether a block of its own branch was.
    fn was_given_up(&self, ours: &Ours) -> bool {
        (self.given_from..=self.newest).contains(&ours.given_up) && self.line.is_branch_at(ours.given_up)
    }

    /// Where its chain and ours really part.
    fn parts_at(&self, ours: &Ours) -> u64 {
        (1..=TOP + 1).find(|height| self.line.id(*height) != ours.line.id(*height)).unwrap_or(TOP + 2)
    }
}

/// What is to become of a host that has named these heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Started,
    Waiting,
    /// It is to name its block at this height.
    Asked(u64),
    Forked,
}

fn expected(host: &Host, named: &[u64], ours: &Ours) -> Expected {
    let is_ahead = |height: u64| height > ours.soft && height >= ours.tail;
    let is_other =
        |height: u64| ours.knows(height) && host.hard.max(height) > 0 && host.line.id(height) != ours.line.id(height);
    if host.hard > 0 && is_ahead(host.hard) {
        return Expected::Waiting;
    }
    if host.hard > 0 && is_other(host.hard) {
        return if ours.hard >= host.hard { Expected::Forked } else { Expected::Waiting };
    }
    let above = named.iter().copied().filter(|height| *height > host.hard);
    let common = above.clone().find(|height| !is_ahead(*height) && !is_other(*height)).unwrap_or(host.hard);
    let mut elsewhere = above.clone().filter(|height| *height > common);
    let is_given_up = elsewhere.clone().any(|height| height == ours.given_up && host.line.is_branch_at(height));
    let is_decided = is_given_up || elsewhere.any(|height| is_other(height) && height <= ours.hard);
    if common == host.newest || is_decided {
        return Expected::Started;
    }
    let has_it = ours.hard > common && ours.hard >= host.given_from && ours.target == ours.soft;
    if has_it { Expected::Asked(ours.hard) } else { Expected::Waiting }
}

fn resumed(host: &Host, locator: Locator, filter: EventFilter, ours: &Ours) -> (Expected, Option<Cursor>) {
    match resume(&Start::Resume(locator), filter, h(1), &ours.heads(), ours) {
        Ok(Resumed::Started(cursor)) => (Expected::Started, Some(cursor)),
        Ok(Resumed::Waiting(WaitsFor::Name(height))) => (Expected::Asked(height.get()), None),
        Ok(Resumed::Waiting(WaitsFor::Us | WaitsFor::Da)) => (Expected::Waiting, None),
        Ok(Resumed::ForkedBelowHard { theirs, ours: there }) => {
            assert_eq!((Some(theirs), Some(there)), (host.hard(), ours.id(host.hard)));
            (Expected::Forked, None)
        }
    }
}

/// Resumes, and what is said at once.
#[test]
fn where_a_host_goes_on_is_right_in_every_small_case() {
    let mut cases = 0;
    for mut ours in Ours::all() {
        for (given_up, target) in given_up_and(&[0, 1]) {
            (ours.target, ours.given_up) = (ours.soft + target, given_up);
            for host in Host::all(&ours) {
                for (named, locator) in host.locators() {
                    cases += goes_on_right(&host, &named, locator, &ours);
                }
            }
        }
    }
    assert!(cases > 10_000, "{cases} cases");
}

/// How many streams were opened.
fn goes_on_right(host: &Host, named: &[u64], locator: Locator, ours: &Ours) -> usize {
    let case = (host, named, ours);
    let (outcome, cursor) = resumed(host, locator, EventFilter::Soft, ours);
    assert_eq!(outcome, expected(host, named, ours), "{case:?}");
    if let Expected::Asked(height) = outcome {
        assert!((host.given_from..host.newest).contains(&height) && !named.contains(&height), "{case:?}");
        let more: Vec<u64> =
            (1..=TOP).rev().filter(|named_now| *named_now == height || named.contains(named_now)).collect();
        let (outcome, _) = resumed(host, host.locator(&more), EventFilter::Soft, ours);
        let is_ours = host.line.id(height) == ours.line.id(height);
        assert_eq!(outcome, if is_ours { Expected::Waiting } else { Expected::Started }, "{case:?}");
    }
    let Some(mut cursor) = cursor else { return 0 };
    let mut told = *host;
    let went = told.listen(&mut cursor, ours);
    let decided = host.parts_at(ours) <= ours.hard || host.was_given_up(ours);
    assert!(went.lost.is_none() && (decided || !went.sent_down), "{case:?}: {went:?}");
    1
}

/// Each of the cases with nothing given up, and the first and the last of them with each height.
fn given_up_and<C: Copy>(cases: &[C]) -> Vec<(u64, C)> {
    let ends = [cases.first(), cases.last()].into_iter().flatten();
    let given_up = ends.flat_map(|case| (1..=TOP).map(|height| (height, *case)));
    cases.iter().map(|case| (0, *case)).chain(given_up).collect()
}

/// A stream that is kept and one that is opened anew, while our chain goes on: step after step, to this depth.
#[test]
fn a_host_is_told_the_same_on_an_old_stream_and_on_a_new_one() {
    for (filter, depth) in [(EventFilter::Soft, 2), (EventFilter::Hard, 1)] {
        for ours in Ours::all() {
            for mut host in Host::all(&ours) {
                let (_, cursor) = resumed(&host, host.everything(), filter, &ours);
                let Some(mut cursor) = cursor else { continue };
                host.listen(&mut cursor, &ours);
                go_on(&host, &cursor, &ours, depth);
            }
        }
    }
}

fn go_on(host: &Host, cursor: &Cursor, ours: &Ours, depth: usize) {
    for happens in ours.may_happen() {
        let later = ours.after(happens);
        let (mut told, mut kept) = (*host, *cursor);
        let went = told.listen(&mut kept, &later);
        told_the_same(host, &told, went, &resumed_and_told(host, cursor.filter, &later), &(happens, ours));
        if went.lost.is_none() && depth > 1 {
            go_on(&told, &kept, &later, depth - 1);
        }
    }
}

fn told_the_same(before: &Host, told: &Host, went: Went, anew: &(Expected, Host), case: &(Happens, &Ours)) {
    let (happens, _) = case;
    match (went.lost, anew.0) {
        (None, _) if before.is_in_gap() => {}
        (None, Expected::Started) => assert_eq!(*told, anew.1, "{before:?}: {case:?}"),
        // The old stream has heard that blocks were taken back. A host that has not asks where it stands.
        (None, Expected::Waiting) => assert!(went.sent_down, "{before:?}: {case:?}"),
        (Some(Lost::BelowTheirHard), _) => {
            assert!(matches!(happens, Happens::Rewind(from, _) if *from <= before.hard), "{before:?}: {case:?}");
        }
        (Some(Lost::OtherThanTrusted), _) => {
            assert!(matches!(happens, Happens::Backfill), "{before:?}: {case:?}");
        }
        unexpected => panic!("{unexpected:?} {before:?}: {case:?}"),
    }
}

fn resumed_and_told(host: &Host, filter: EventFilter, ours: &Ours) -> (Expected, Host) {
    let mut told = host.without_gap();
    let (outcome, cursor) = resumed(&told, told.everything(), filter, ours);
    if let Some(mut cursor) = cursor {
        let went = told.listen(&mut cursor, ours);
        assert_eq!(went.lost, None);
    }
    (outcome, told)
}
