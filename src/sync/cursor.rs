//! What a host's stream says next. A cursor is a few heights; everything else follows from the heads and the store, so
//! nothing is queued for a host, and nothing can be lost.
//!
//! ```text
//!   Start --resume--> Waiting --> Cursor --step--> retract | gap | dataLoss | equivocation | hard | soft | idle
//!                                    ^                |
//!                                    '----------------'   again, until there is nothing to say
//! ```
//!
//! What a host is promised, and what the simulator holds this file to:
//! 1. In order, at least once, no gaps: a soft event is of the height after the one before it, unless a `retract` or a `gap`
//!    came between.
//! 2. `hard(h)` never before `soft(h)`, ascending, and it means that everything below `h` is hard, too.
//! 3. A rewind is said before anything else, to the lowest height that any rewind which the host has missed took back.
//! 4. A host is never sent below a block that it calls hard.
//! 5. What cannot be judged yet is waited for; what cannot be said truthfully ends the stream, and the host resumes from its
//!    own state.
//!
//! Not in here: bodies, sizes, waiting, Cap'n Proto. `api::feed` adds these.

use crate::block::{BlockId, Hash, Height};

use super::{DataLoss, Epoch, EvidenceId, Heads};

/// The most blocks in a host's locator.
pub const MAX_LOCATOR: usize = 64;

/// What a cursor looks up, all of it from one state of the store.
pub trait Chain {
    type Error;

    /// The hash of the stored block at `height`.
    fn hash(&self, height: Height) -> Result<Option<Hash>, Self::Error>;

    /// The lowest height that was taken back by any epoch above `epoch`.
    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, Self::Error>;
}

/// Where a host wants to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the chain's initial height.
    Genesis,
    /// Above what is here now.
    Tip,
    /// From where the host itself stands.
    Resume(Locator),
}

/// A host's own state: some of its blocks, and the newest one that it knows to be hard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    /// Newest first.
    blocks: Vec<BlockId>,
    hard: Option<BlockId>,
}

impl Locator {
    /// # Errors
    /// Why it makes no sense, for the host to read.
    pub fn new(blocks: Vec<BlockId>, hard: Option<BlockId>) -> Result<Self, String> {
        if blocks.len() > MAX_LOCATOR {
            return Err(format!("a locator has at most {MAX_LOCATOR} blocks, not {}", blocks.len()));
        }
        if !blocks.is_sorted_by(|newer, older| newer.height > older.height) {
            return Err("a locator's blocks are newest first, one per height".into());
        }
        if let (Some(newest), Some(hard)) = (blocks.first(), hard) {
            if hard.height > newest.height {
                return Err(format!("hard block {hard} is above the newest block {newest}"));
            }
            if blocks.iter().any(|block| block.height == hard.height && block.hash != hard.hash) {
                return Err(format!("the locator has another block than {hard} at its height"));
            }
        }
        Ok(Self { blocks, hard })
    }

    /// The host's newest block.
    fn newest(&self) -> Option<BlockId> {
        self.blocks.first().copied().or(self.hard)
    }
}

/// What becomes of a [`Start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    Started(Cursor),
    /// We are behind the host, or have not seen enough of DA: ask again when the heads have changed.
    Waiting,
    /// The host's hard block contradicts ours. Never a rewind: an operator must find out who is wrong.
    ForkedBelowHard {
        theirs: BlockId,
        ours: BlockId,
    },
}

/// The next thing to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything above `to` is taken back; `None`: everything.
    Retract {
        to: Option<BlockId>,
        epoch: Epoch,
    },
    /// Blocks that are not here any more, or never were; both ends included.
    Gap {
        from: Height,
        to: Height,
    },
    DataLoss(DataLoss),
    /// The first evidence above `after` that [`Cursor::concerns`].
    Equivocation {
        after: EvidenceId,
    },
    /// Block `.0` is hard.
    Hard(Height),
    /// Block `.0` is the next one; tell the cursor about it with [`Cursor::link`].
    Soft(Height),
    Idle,
    /// Nothing truthful can be said: the host must resume from its own state.
    Lost,
}

/// Which events a host wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Blocks as soon as they are soft.
    #[default]
    Soft,
    /// Blocks only when they are hard.
    Hard,
}

/// How far one stream has come. Copy it, step the copy, and keep it once what it says has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    wanted: Wanted,
    initial_height: Height,
    /// The height of the next soft event.
    next: Height,
    /// The block below `next`, as the host was told it; `None` when the host was not told any.
    on: Option<Hash>,
    /// The host stands elsewhere than below `next` and does not know it yet.
    must_retract: bool,
    /// The height of the next hard event.
    next_hard: Height,
    /// Rewinds up to this epoch are known to the host.
    epoch: Epoch,
    /// Evidence up to this one is known to the host.
    evidence: EvidenceId,
    /// Evidence at or below this height is of no interest any more.
    settled: Option<Height>,
    /// The damage that was said last.
    loss: Option<DataLoss>,
}

/// Finds where a host goes on.
///
/// # Errors
/// What `chain` fails with.
pub fn resume<C: Chain + ?Sized>(
    start: &Start,
    wanted: Wanted,
    initial_height: Height,
    heads: &Heads,
    chain: &C,
) -> Result<Resumed, C::Error> {
    let fresh = Cursor {
        wanted,
        initial_height,
        next: initial_height,
        on: None,
        must_retract: false,
        next_hard: initial_height,
        epoch: heads.epoch,
        evidence: EvidenceId(0),
        settled: heads.hard_height(),
        loss: None,
    };
    let locator = match start {
        Start::Genesis => return Ok(Resumed::Started(fresh)),
        Start::Tip => {
            let shown = shown(wanted, heads);
            return Ok(Resumed::Started(Cursor {
                next: shown.map_or(heads.tail, |id| id.height.next()),
                on: shown.map(|id| id.hash),
                next_hard: heads.hard_height().map_or(initial_height, Height::next),
                evidence: heads.evidence,
                loss: heads.lost,
                ..fresh
            }));
        }
        Start::Resume(locator) => locator,
    };
    let Some(newest) = locator.newest() else { return Ok(Resumed::Started(fresh)) };
    if let Some(theirs) = locator.hard {
        match place(theirs, heads, chain)? {
            Place::Above => return Ok(Resumed::Waiting),
            Place::Other(ours) if heads.hard_height().is_some_and(|hard| theirs.height <= hard) => {
                return Ok(Resumed::ForkedBelowHard { theirs, ours });
            }
            // They have seen DA further than we have, and we are about to change our mind, or they are wrong.
            Place::Other(_) => return Ok(Resumed::Waiting),
            Place::Ours | Place::Below => {}
        }
    }
    // Nothing below their hard block is looked at: whatever else they have, they keep that one.
    let floor = locator.hard.map(|hard| hard.height);
    let candidates = locator.blocks.iter().copied().filter(|block| Some(block.height) > floor).chain(locator.hard);
    let mut on = None;
    let mut unknown = false;
    let mut other = false;
    for block in candidates {
        match place(block, heads, chain)? {
            Place::Above => unknown = true,
            Place::Other(_) => other = true,
            Place::Ours | Place::Below => {
                on = Some(block);
                break;
            }
        }
    }
    // Blocks above our head may be ours tomorrow, but not when they stand on one that is not.
    if unknown && !other {
        return Ok(Resumed::Waiting);
    }
    Ok(Resumed::Started(Cursor {
        next: on.map_or(initial_height, |block| block.height.next()),
        on: on.map(|block| block.hash),
        must_retract: on != Some(newest),
        next_hard: locator.hard.map_or(initial_height, |hard| hard.height.next()),
        ..fresh
    }))
}

/// How a block of the host's relates to our chain.
enum Place {
    Ours,
    /// We have this one at its height.
    Other(BlockId),
    /// Higher than anything that we have.
    Above,
    /// Lower than anything that we have: it is taken on trust.
    Below,
}

fn place<C: Chain + ?Sized>(block: BlockId, heads: &Heads, chain: &C) -> Result<Place, C::Error> {
    if heads.soft_height().is_none_or(|soft| block.height > soft) {
        return Ok(if block.height < heads.tail { Place::Below } else { Place::Above });
    }
    if block.height < heads.tail {
        return Ok(Place::Below);
    }
    Ok(match chain.hash(block.height)? {
        Some(hash) if hash == block.hash => Place::Ours,
        Some(hash) => Place::Other(BlockId { height: block.height, hash }),
        // Stored by the heads, but not there: damage. It will be fetched again.
        None => Place::Above,
    })
}

/// The newest block that a host with these wishes is told.
fn shown(wanted: Wanted, heads: &Heads) -> Option<BlockId> {
    match wanted {
        Wanted::Soft => heads.soft_id(),
        Wanted::Hard => heads.hard,
    }
}

/// What may be told of a state of the store, which may be ahead of what was announced as durable. `None`: nothing yet, the
/// announcement of a rewind is on its way.
#[must_use]
pub fn visible(announced: &Heads, stored: &Heads) -> Option<Heads> {
    if announced.epoch != stored.epoch {
        return None;
    }
    Some(Heads {
        soft: if announced.soft_height() < stored.soft_height() { announced.soft } else { stored.soft },
        hard: if announced.hard_height() < stored.hard_height() { announced.hard } else { stored.hard },
        target: announced.target,
        scanned_through: announced.scanned_through.min(stored.scanned_through),
        evidence: announced.evidence.min(stored.evidence),
        ..*stored
    })
}

impl Cursor {
    /// Says what comes next, and takes it as said. `heads` and `chain` are of one state of the store.
    ///
    /// # Errors
    /// What `chain` fails with.
    pub fn step<C: Chain + ?Sized>(&mut self, heads: &Heads, chain: &C) -> Result<Step, C::Error> {
        if heads.epoch > self.epoch {
            let from = chain.retracted_since(self.epoch)?;
            self.epoch = heads.epoch;
            if let Some(from) = from.filter(|from| *from < self.next) {
                let to = match from.prev().filter(|_| from > self.initial_height) {
                    None => None,
                    Some(height) => match chain.hash(height)? {
                        Some(hash) => Some(BlockId { height, hash }),
                        None => return Ok(Step::Lost),
                    },
                };
                self.next = from;
                self.on = to.map(|to| to.hash);
                self.must_retract = false;
                return Ok(Step::Retract { to, epoch: self.epoch });
            }
        }
        if self.must_retract {
            self.must_retract = false;
            let to = match (self.next.prev(), self.on) {
                (Some(height), Some(hash)) => Some(BlockId { height, hash }),
                _ => None,
            };
            return Ok(Step::Retract { to, epoch: self.epoch });
        }
        match heads.lost {
            None => self.loss = None,
            Some(lost) if self.loss.is_none_or(|said| lost.from < said.from || lost.to > said.to) => {
                self.loss = Some(lost);
                return Ok(Step::DataLoss(lost));
            }
            Some(_) => {}
        }
        if heads.evidence > self.evidence {
            let after = self.evidence;
            self.evidence = heads.evidence;
            return Ok(Step::Equivocation { after });
        }
        let Some(shown) = shown(self.wanted, heads).map(|id| id.height) else { return Ok(Step::Idle) };
        if self.next < heads.tail {
            let from = self.next;
            self.next = heads.tail;
            self.on = None;
            if let Some(to) = heads.tail.prev() {
                return Ok(Step::Gap { from, to });
            }
        }
        self.next_hard = self.next_hard.max(heads.tail);
        if heads.hard_height().is_some_and(|hard| self.next_hard <= hard) && self.next_hard < self.next {
            let height = self.next_hard;
            self.next_hard = height.next();
            return Ok(Step::Hard(height));
        }
        if self.next <= shown {
            let height = self.next;
            self.next = height.next();
            return Ok(Step::Soft(height));
        }
        Ok(Step::Idle)
    }

    /// The block of the [`Step::Soft`] that was just taken. `false`: it does not stand on what the host was told before, so
    /// nothing truthful can be said; as [`Step::Lost`].
    #[must_use]
    pub fn link(&mut self, id: BlockId, parent: Option<Hash>) -> bool {
        let links = self.on.is_none_or(|on| parent == Some(on)) && id.height.next() == self.next;
        self.on = Some(id.hash);
        links
    }

    /// Evidence was said up to and including `said`; more of what [`Step::Equivocation`] promised is left.
    pub fn evidence_left(&mut self, said: EvidenceId) {
        self.evidence = said;
    }

    /// Whether evidence about `height` is still of interest: DA had not decided when the stream began.
    #[must_use]
    pub fn concerns(&self, height: Height) -> bool {
        self.settled.is_none_or(|settled| height > settled)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::verify::Tip;

    fn h(height: u64) -> Height {
        Height::new(height).unwrap()
    }

    /// Block `height` of a branch.
    fn b(branch: char, height: u64) -> BlockId {
        BlockId { height: h(height), hash: Hash::of(format!("{branch}{height}").as_bytes()) }
    }

    /// A chain whose blocks at `first..` are of the branches that a string names: `"aab"` is a1 a2 b3.
    #[derive(Clone)]
    struct Model {
        blocks: BTreeMap<Height, BlockId>,
        heads: Heads,
        retractions: BTreeMap<Epoch, Height>,
    }

    impl Model {
        fn new(first: u64, branches: &str, hard: u64) -> Self {
            let blocks: BTreeMap<_, _> =
                (first..).zip(branches.chars()).map(|(height, branch)| (h(height), b(branch, height))).collect();
            let mut heads = Heads::empty(h(first));
            heads.soft = blocks.values().last().map(|id| Tip { id: *id, time_unix_nanos: 0 });
            heads.hard = Height::new(hard).and_then(|hard| blocks.get(&hard).copied());
            Self { blocks, heads, retractions: BTreeMap::new() }
        }

        /// Takes back everything from `from` on, and puts other blocks there.
        fn rewind(&mut self, from: u64, branches: &str) {
            self.heads.epoch = self.heads.epoch.next();
            self.retractions.insert(self.heads.epoch, h(from));
            self.blocks.split_off(&h(from));
            self.blocks.extend((from..).zip(branches.chars()).map(|(height, branch)| (h(height), b(branch, height))));
            self.heads.soft = self.blocks.values().last().map(|id| Tip { id: *id, time_unix_nanos: 0 });
        }

        fn resume(&self, locator: &[BlockId], hard: Option<BlockId>) -> Resumed {
            let start = Start::Resume(Locator::new(locator.to_vec(), hard).unwrap());
            resume(&start, Wanted::Soft, h(1), &self.heads, self).unwrap()
        }

        fn start(&self, start: &Start, wanted: Wanted) -> Cursor {
            match resume(start, wanted, h(1), &self.heads, self).unwrap() {
                Resumed::Started(cursor) => cursor,
                other => panic!("{other:?}"),
            }
        }

        /// Everything that there is to say now, in words.
        fn say(&self, cursor: &mut Cursor) -> String {
            let mut said = Vec::new();
            loop {
                said.push(match cursor.step(&self.heads, self).unwrap() {
                    Step::Idle => return said.join(" "),
                    Step::Lost => "lost".into(),
                    Step::Retract { to, .. } => format!("retract:{}", to.map_or(0, |to| to.height.get())),
                    Step::Gap { from, to } => format!("gap:{from}-{to}"),
                    Step::DataLoss(loss) => format!("loss:{}-{}", loss.from, loss.to),
                    Step::Equivocation { after } => format!("evidence>{after}"),
                    Step::Hard(height) => format!("hard{height}"),
                    Step::Soft(height) => {
                        // What lies below a tail is of branch a.
                        let below =
                            height.prev().map(|below| self.blocks.get(&below).copied().unwrap_or(b('a', below.get())));
                        let parent = below.map(|id| id.hash);
                        assert!(cursor.link(self.blocks[&height], parent), "{height} does not link");
                        height.to_string()
                    }
                });
            }
        }
    }

    impl Chain for Model {
        type Error = Infallible;

        fn hash(&self, height: Height) -> Result<Option<Hash>, Infallible> {
            Ok(self.blocks.get(&height).map(|id| id.hash))
        }

        fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, Infallible> {
            Ok(self.retractions.range(epoch.next()..).map(|(_, from)| *from).min())
        }
    }

    fn started(resumed: Resumed) -> Cursor {
        match resumed {
            Resumed::Started(cursor) => cursor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn from_genesis_hard_follows_soft() {
        let mut model = Model::new(1, "aaaa", 2);
        let mut cursor = model.start(&Start::Genesis, Wanted::Soft);
        assert_eq!(model.say(&mut cursor), "1 hard1 2 hard2 3 4");
        model.heads.hard = Some(b('a', 4));
        assert_eq!(model.say(&mut cursor), "hard3 hard4");
        assert_eq!(model.say(&mut cursor), "");
    }

    #[test]
    fn an_empty_chain_says_nothing_and_then_everything() {
        let empty = Model::new(1, "", 0);
        for start in [Start::Genesis, Start::Tip, Start::Resume(Locator::new(vec![], None).unwrap())] {
            let mut cursor = empty.start(&start, Wanted::Soft);
            assert_eq!(empty.say(&mut cursor), "");
            assert_eq!(Model::new(1, "aa", 0).say(&mut cursor), "1 2");
        }
    }

    #[test]
    fn from_the_tip_only_what_is_new() {
        let mut cursor = Model::new(1, "aaa", 2).start(&Start::Tip, Wanted::Soft);
        assert_eq!(Model::new(1, "aaaa", 3).say(&mut cursor), "hard3 4");
    }

    #[test]
    fn with_hard_events_only_a_block_is_told_when_da_has_decided() {
        let mut model = Model::new(1, "aaaaa", 2);
        let mut cursor = model.start(&Start::Genesis, Wanted::Hard);
        assert_eq!(model.say(&mut cursor), "1 hard1 2 hard2");
        model.rewind(4, "bbb");
        assert_eq!(model.say(&mut cursor), "", "nothing that was told is taken back");
        model.heads.hard = Some(b('b', 4));
        assert_eq!(model.say(&mut cursor), "3 hard3 4 hard4");
    }

    #[test]
    fn a_host_below_our_tail_is_told_of_the_gap() {
        let model = Model::new(5, "aaa", 6);
        let mut cursor = model.start(&Start::Genesis, Wanted::Soft);
        assert_eq!(model.say(&mut cursor), "gap:1-4 5 hard5 6 hard6 7");
        let mut cursor = started(model.resume(&[b('a', 2)], None));
        assert_eq!(model.say(&mut cursor), "gap:3-4 5 hard5 6 hard6 7");
        let mut cursor = started(model.resume(&[b('a', 4)], Some(b('a', 3))));
        assert_eq!(model.say(&mut cursor), "5 hard5 6 hard6 7");
        // Pruned while the host slept: told soft, never told hard, and now below the tail.
        let mut cursor = Model::new(1, "aaa", 0).start(&Start::Tip, Wanted::Soft);
        assert_eq!(model.say(&mut cursor), "gap:4-4 5 hard5 6 hard6 7");
    }

    #[test]
    fn a_store_that_is_still_empty_announces_no_gap() {
        let model = Model::new(5, "", 0);
        let mut cursor = model.start(&Start::Genesis, Wanted::Soft);
        assert_eq!(model.say(&mut cursor), "");
    }

    #[test]
    fn a_rewind_is_said_first_and_once() {
        let mut model = Model::new(1, "aaaaa", 1);
        let mut cursor = model.start(&Start::Genesis, Wanted::Soft);
        model.say(&mut cursor);
        model.rewind(3, "bb");
        model.heads.evidence = EvidenceId(1);
        model.heads.lost = Some(DataLoss { from: h(9), to: h(9) });
        model.heads.hard = Some(b('b', 3));
        assert_eq!(model.say(&mut cursor), "retract:2 loss:9-9 evidence>0 hard2 3 hard3 4");
    }

    #[test]
    fn of_several_missed_rewinds_the_lowest_counts() {
        let mut model = Model::new(1, "aaaaaa", 1);
        let mut cursor = model.start(&Start::Tip, Wanted::Soft);
        model.rewind(3, "bbb");
        model.rewind(5, "c");
        assert_eq!(model.say(&mut cursor), "retract:2 3 4 5");
        model.rewind(6, "d");
        assert_eq!(model.say(&mut cursor), "6", "what was not told needs no retract");
    }

    #[test]
    fn everything_can_be_taken_back_while_nothing_is_hard() {
        let mut model = Model::new(1, "aa", 0);
        let mut cursor = model.start(&Start::Tip, Wanted::Soft);
        model.rewind(1, "b");
        assert_eq!(model.say(&mut cursor), "retract:0 1");
    }

    #[test]
    fn a_rewind_to_what_we_do_not_have_ends_the_stream() {
        let mut model = Model::new(5, "aaa", 0);
        let mut cursor = model.start(&Start::Tip, Wanted::Soft);
        model.rewind(5, "b");
        assert_eq!(cursor.step(&model.heads, &model), Ok(Step::Lost));
    }

    #[test]
    fn a_host_resumes_on_the_newest_common_block() {
        let model = Model::new(1, "aaabbb", 2);
        let cases = [
            // At our head; below it; elsewhere above block 3; nothing in common at all.
            (vec![b('b', 6)], None, "hard1 hard2"),
            (vec![b('b', 5)], None, "hard1 hard2 6"),
            (vec![b('b', 5)], Some(b('a', 1)), "hard2 6"),
            (vec![b('a', 5), b('a', 4), b('a', 3), b('a', 2)], Some(b('a', 2)), "retract:3 4 5 6"),
            (vec![b('a', 5), b('a', 1)], None, "retract:1 hard1 2 hard2 3 4 5 6"),
            (vec![b('c', 5)], None, "retract:0 1 hard1 2 hard2 3 4 5 6"),
            // Never below their hard block, which is the last resort.
            (vec![b('a', 5), b('a', 1)], Some(b('a', 2)), "retract:2 3 4 5 6"),
            (vec![b('c', 5)], Some(b('a', 2)), "retract:2 3 4 5 6"),
            // Hard alone, and a host that has nothing.
            (vec![], Some(b('a', 2)), "3 4 5 6"),
            (vec![], None, "1 hard1 2 hard2 3 4 5 6"),
            // They are ahead of us, but on another branch.
            (vec![b('c', 9), b('c', 5), b('a', 2)], None, "retract:2 hard1 hard2 3 4 5 6"),
        ];
        for (locator, hard, said) in cases {
            let mut cursor = started(model.resume(&locator, hard));
            assert_eq!(model.say(&mut cursor), said, "{locator:?} {hard:?}");
        }
    }

    #[test]
    fn we_wait_while_we_are_behind_the_host() {
        let model = Model::new(1, "aaa", 2);
        for (locator, hard) in [
            (vec![b('a', 4)], None),
            (vec![b('a', 9), b('a', 3)], None),
            (vec![b('a', 9)], Some(b('a', 9))),
            // They have seen more of DA than we have.
            (vec![b('c', 3)], Some(b('c', 3))),
        ] {
            assert_eq!(model.resume(&locator, hard), Resumed::Waiting, "{locator:?} {hard:?}");
        }
        let caught_up = Model::new(1, "aaaaa", 2);
        let mut cursor = started(caught_up.resume(&[b('a', 4)], None));
        assert_eq!(caught_up.say(&mut cursor), "hard1 hard2 5");
        assert_eq!(Model::new(1, "", 0).resume(&[b('a', 1)], None), Resumed::Waiting);
    }

    #[test]
    fn a_foreign_hard_block_is_never_answered_with_a_rewind() {
        let model = Model::new(1, "aaaa", 3);
        let forked = Resumed::ForkedBelowHard { theirs: b('c', 2), ours: b('a', 2) };
        assert_eq!(model.resume(&[b('c', 4), b('a', 1)], Some(b('c', 2))), forked);
        assert_eq!(model.resume(&[], Some(b('c', 2))), forked);
    }

    #[test]
    fn a_rewind_overtakes_the_retract_of_a_resume() {
        let mut model = Model::new(1, "aaaaa", 0);
        let mut cursor = started(model.resume(&[b('c', 5), b('a', 4)], None));
        model.rewind(3, "bbb");
        assert_eq!(model.say(&mut cursor), "retract:2 3 4 5");
        let mut cursor = started(model.resume(&[b('c', 5), b('b', 3)], None));
        model.rewind(5, "d");
        assert_eq!(model.say(&mut cursor), "retract:3 4 5", "below the rewind, the resume's own retract stands");
    }

    #[test]
    fn a_block_that_does_not_link_is_not_told() {
        let model = Model::new(1, "aaa", 0);
        let mut cursor = started(model.resume(&[b('a', 2)], None));
        assert_eq!(cursor.step(&model.heads, &model), Ok(Step::Soft(h(3))));
        assert!(!cursor.link(b('b', 3), Some(b('b', 2).hash)));
    }

    #[test]
    fn damage_is_said_when_it_grows() {
        let mut model = Model::new(1, "aaa", 0);
        let mut cursor = model.start(&Start::Tip, Wanted::Soft);
        let lost = |from, to| Some(DataLoss { from: h(from), to: h(to) });
        for (loss, said) in [
            (lost(4, 9), "loss:4-9"),
            (lost(6, 9), ""),
            (lost(4, 10), "loss:4-10"),
            (None, ""),
            (lost(5, 5), "loss:5-5"),
        ] {
            model.heads.lost = loss;
            assert_eq!(model.say(&mut cursor), said, "{loss:?}");
        }
    }

    #[test]
    fn evidence_is_said_to_whoever_may_have_missed_it() {
        let mut model = Model::new(1, "aaa", 2);
        model.heads.evidence = EvidenceId(4);
        let mut cursor = started(model.resume(&[b('a', 3)], Some(b('a', 2))));
        assert!(!cursor.concerns(h(2)));
        assert!(cursor.concerns(h(3)));
        assert_eq!(model.say(&mut cursor), "evidence>0");
        cursor.evidence_left(EvidenceId(3));
        assert_eq!(model.say(&mut cursor), "evidence>3");
        assert_eq!(model.say(&mut model.start(&Start::Tip, Wanted::Soft)), "");
    }

    #[test]
    fn locators_are_checked() {
        let too_long = (1..=65).rev().map(|height| b('a', height)).collect();
        for (blocks, hard) in [
            (vec![b('a', 1), b('a', 2)], None),
            (vec![b('a', 2), b('b', 2)], None),
            (vec![b('a', 2)], Some(b('a', 3))),
            (vec![b('a', 3), b('a', 2)], Some(b('b', 2))),
            (too_long, None),
        ] {
            assert!(Locator::new(blocks.clone(), hard).is_err(), "{blocks:?} {hard:?}");
        }
    }

    #[test]
    fn nothing_is_visible_before_it_is_announced() {
        let announced = Model::new(1, "aaa", 1).heads;
        let stored = Model::new(1, "aaaaa", 2).heads;
        let seen = visible(&announced, &stored).unwrap();
        assert_eq!((seen.soft_id(), seen.hard), (Some(b('a', 3)), Some(b('a', 1))));
        assert_eq!(visible(&announced, &Heads { epoch: Epoch(1), ..stored }), None);
        let nothing = Model::new(1, "", 0).heads;
        assert_eq!(visible(&nothing, &stored).unwrap().soft, None);
    }
}
