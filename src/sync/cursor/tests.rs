//! The cursor against a small model of a chain, in words: what a host is told, event by event.

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
    /// Blocks that were given up.
    given_up: Vec<BlockId>,
    /// The block that a host's execution has refused.
    vetoed: Option<BlockId>,
}

impl Model {
    fn new(first: u64, branches: &str, hard: u64) -> Self {
        let blocks: BTreeMap<_, _> =
            (first..).zip(branches.chars()).map(|(height, branch)| (h(height), b(branch, height))).collect();
        let mut heads = Heads::empty(h(first));
        heads.soft = blocks.values().last().map(|id| Tip { id: *id, time_unix_nanos: 0 });
        heads.hard = Height::new(hard).and_then(|hard| blocks.get(&hard).copied());
        Self { blocks, heads, retractions: BTreeMap::new(), given_up: Vec::new(), vetoed: None }
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
        let start = Start::Resume(Locator::new(locator.to_vec(), hard, None).unwrap());
        resume(&start, EventFilter::Soft, h(1), &self.heads, self).unwrap()
    }

    fn start(&self, start: &Start, filter: EventFilter) -> Cursor {
        match resume(start, filter, h(1), &self.heads, self).unwrap() {
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
                Step::Lost(_) => "lost".into(),
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
                    assert_eq!(cursor.link(self.blocks[&height], parent), LinkCheck::Sound, "{height} does not link");
                    height.to_string()
                }
            });
        }
    }
}

impl ChainView for Model {
    type Error = Infallible;

    fn hash(&self, height: Height) -> Result<Option<Hash>, Infallible> {
        Ok(self.blocks.get(&height).map(|id| id.hash))
    }

    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, Infallible> {
        Ok(self.retractions.range(epoch.next()..).map(|(_, from)| *from).min())
    }

    fn is_given_up(&self, hash: Hash) -> Result<bool, Infallible> {
        Ok(self.given_up.iter().any(|id| id.hash == hash))
    }

    fn vetoed(&self) -> Result<Option<BlockId>, Infallible> {
        Ok(self.vetoed)
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
    let mut cursor = model.start(&Start::Genesis, EventFilter::Soft);
    assert_eq!(model.say(&mut cursor), "1 hard1 2 hard2 3 4");
    model.heads.hard = Some(b('a', 4));
    assert_eq!(model.say(&mut cursor), "hard3 hard4");
    assert_eq!(model.say(&mut cursor), "");
}

#[test]
fn an_empty_chain_says_nothing_and_then_everything() {
    let empty = Model::new(1, "", 0);
    for start in [Start::Genesis, Start::Tip, Start::Resume(Locator::new(vec![], None, None).unwrap())] {
        let mut cursor = empty.start(&start, EventFilter::Soft);
        assert_eq!(empty.say(&mut cursor), "");
        assert_eq!(Model::new(1, "aa", 0).say(&mut cursor), "1 2");
    }
}

#[test]
fn from_the_tip_only_what_is_new() {
    let mut cursor = Model::new(1, "aaa", 2).start(&Start::Tip, EventFilter::Soft);
    assert_eq!(Model::new(1, "aaaa", 3).say(&mut cursor), "4", "of block 3 it was told nothing");
    assert_eq!(Model::new(1, "aaaa", 4).say(&mut cursor), "hard4");
}

#[test]
fn what_does_not_stand_on_the_tip_is_not_told() {
    let mut cursor = Model::new(1, "aaa", 0).start(&Start::Tip, EventFilter::Soft);
    let model = Model::new(1, "aaaa", 0);
    assert_eq!(cursor.step(&model.heads, &model), Ok(Step::Soft(h(4))));
    assert_eq!(cursor.link(b('b', 4), Some(b('b', 3).hash)), LinkCheck::Broken);
}

#[test]
fn damage_before_the_tip_is_not_told() {
    let mut model = Model::new(1, "aaa", 0);
    model.heads.lost = Some(DataLoss { from: h(4), to: h(9) });
    let mut cursor = model.start(&Start::Tip, EventFilter::Soft);
    assert_eq!(model.say(&mut cursor), "");
}

#[test]
fn with_hard_events_only_a_block_is_told_when_da_has_decided() {
    let mut model = Model::new(1, "aaaaa", 2);
    let mut cursor = model.start(&Start::Genesis, EventFilter::Hard);
    assert_eq!(model.say(&mut cursor), "1 hard1 2 hard2");
    model.rewind(4, "bbb");
    assert_eq!(model.say(&mut cursor), "", "nothing that was told is taken back");
    model.heads.hard = Some(b('b', 4));
    assert_eq!(model.say(&mut cursor), "3 hard3 4 hard4");
}

#[test]
fn a_host_below_our_tail_is_told_of_the_gap() {
    let model = Model::new(5, "aaa", 6);
    let mut cursor = model.start(&Start::Genesis, EventFilter::Soft);
    assert_eq!(model.say(&mut cursor), "gap:1-4 5 hard5 6 hard6 7");
    let mut cursor = started(model.resume(&[b('a', 2)], None));
    assert_eq!(model.say(&mut cursor), "gap:3-4 5 hard5 6 hard6 7");
    let mut cursor = started(model.resume(&[b('a', 4)], Some(b('a', 3))));
    assert_eq!(model.say(&mut cursor), "5 hard5 6 hard6 7");
    // Pruned while the host slept: told soft, never told hard, and now below the tail.
    let mut cursor = Model::new(1, "aaa", 0).start(&Start::Tip, EventFilter::Soft);
    assert_eq!(model.say(&mut cursor), "gap:4-4 5 hard5 6 hard6 7");
}

#[test]
fn a_store_that_is_still_empty_announces_no_gap() {
    let model = Model::new(5, "", 0);
    let mut cursor = model.start(&Start::Genesis, EventFilter::Soft);
    assert_eq!(model.say(&mut cursor), "");
}

#[test]
fn a_rewind_is_said_first_and_once() {
    let mut model = Model::new(1, "aaaaa", 1);
    let mut cursor = model.start(&Start::Genesis, EventFilter::Soft);
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
    let mut cursor = model.start(&Start::Tip, EventFilter::Soft);
    model.rewind(3, "bbb");
    model.rewind(5, "c");
    assert_eq!(model.say(&mut cursor), "retract:2 3 4 5");
    model.rewind(6, "d");
    assert_eq!(model.say(&mut cursor), "6", "what was not told needs no retract");
}

#[test]
fn everything_can_be_taken_back_while_nothing_is_hard() {
    let mut model = Model::new(1, "aa", 0);
    let mut cursor = model.start(&Start::Tip, EventFilter::Soft);
    model.rewind(1, "b");
    assert_eq!(model.say(&mut cursor), "retract:0 1");
}

#[test]
fn below_the_initial_height_there_is_no_block_to_go_back_to() {
    let mut model = Model::new(5, "aa", 0);
    let resumed = resume(&Start::Tip, EventFilter::Soft, h(5), &model.heads, &model).unwrap();
    model.rewind(5, "b");
    assert_eq!(model.say(&mut started(resumed)), "retract:0 5");
}

#[test]
fn a_rewind_to_what_we_do_not_have_ends_the_stream() {
    let mut model = Model::new(5, "aaa", 0);
    let mut cursor = model.start(&Start::Tip, EventFilter::Soft);
    model.rewind(5, "b");
    assert_eq!(cursor.step(&model.heads, &model), Ok(Step::Lost(Lost::NothingToGoBackTo)));
}

#[test]
fn a_host_resumes_on_the_newest_common_block() {
    let model = Model::new(1, "aaabbb", 5);
    let cases = [
        // At our head; below it; elsewhere above block 3; nothing in common at all.
        (vec![b('b', 6)], Some(b('b', 4)), "hard5"),
        (vec![b('b', 5)], Some(b('a', 3)), "hard4 hard5 6"),
        (vec![b('b', 5)], None, "hard1 hard2 hard3 hard4 hard5 6"),
        (vec![b('a', 5), b('a', 4), b('a', 3), b('a', 2)], Some(b('a', 2)), "retract:3 hard3 4 hard4 5 hard5 6"),
        (vec![b('a', 5), b('a', 1)], None, "retract:1 hard1 2 hard2 3 hard3 4 hard4 5 hard5 6"),
        (vec![b('c', 5)], None, "retract:0 1 hard1 2 hard2 3 hard3 4 hard4 5 hard5 6"),
        // Never below their hard block, which is the last resort.
        (vec![b('a', 5), b('a', 1)], Some(b('a', 2)), "retract:2 3 hard3 4 hard4 5 hard5 6"),
        (vec![b('c', 5)], Some(b('a', 2)), "retract:2 3 hard3 4 hard4 5 hard5 6"),
        // Hard alone, and a host that has nothing.
        (vec![], Some(b('a', 3)), "4 hard4 5 hard5 6"),
        (vec![], None, "1 hard1 2 hard2 3 hard3 4 hard4 5 hard5 6"),
        // They are ahead of us, but on another branch.
        (vec![b('c', 9), b('c', 5), b('a', 2)], None, "retract:2 hard1 hard2 3 hard3 4 hard4 5 hard5 6"),
    ];
    for (locator, hard, said) in cases {
        let mut cursor = started(model.resume(&locator, hard));
        assert_eq!(model.say(&mut cursor), said, "{locator:?} {hard:?}");
    }
}

#[test]
fn a_host_is_sent_to_our_branch_when_our_hard_block_has_decided() {
    let told = |hard: u64, locator: &[BlockId]| {
        let model = Model::new(1, "aaabbb", hard);
        match model.resume(locator, Some(b('a', 2))) {
            Resumed::Started(mut cursor) => model.say(&mut cursor),
            other => format!("{other:?}"),
        }
    };
    let waiting = "Waiting(Da)";
    let dense = [b('a', 6), b('a', 5), b('a', 4), b('a', 3)];
    assert_eq!(told(3, &dense), waiting, "block 4 of either branch may win");
    assert_eq!(told(4, &dense), "retract:3 hard3 4 hard4 5 6");
    // The host does not say what it has at 4.
    let sparse = [b('a', 6), b('a', 5), b('a', 3)];
    assert_eq!(told(4, &sparse), "Waiting(Name(4))");
    assert_eq!(told(5, &sparse), "retract:3 hard3 4 hard4 5 hard5 6");
}

#[test]
fn a_host_is_sent_to_our_branch_when_its_own_was_given_up() {
    // Nothing on DA has decided, and perhaps nothing ever will.
    let mut model = Model::new(1, "aaaa", 0);
    let theirs = [b('b', 4), b('b', 3), b('a', 2)];
    assert_eq!(model.resume(&theirs, None), Resumed::Waiting(WaitsFor::Da));
    model.given_up = vec![b('b', 3)];
    let mut cursor = started(model.resume(&theirs, None));
    assert_eq!(model.say(&mut cursor), "retract:2 3 4");
    // What stands on it, too, where our chain does not even reach it; but what the host does not name is not known to us.
    let ahead = [b('b', 7), b('b', 5), b('a', 2)];
    assert_eq!(model.resume(&ahead, None), Resumed::Waiting(WaitsFor::Us));
    model.given_up = vec![b('b', 5)];
    let mut cursor = started(model.resume(&ahead, None));
    assert_eq!(model.say(&mut cursor), "retract:2 3 4");
    // Never below what the host calls hard.
    assert_eq!(model.resume(&ahead, Some(b('b', 5))), Resumed::Waiting(WaitsFor::Us));
}

/// A stream that was open was sent below what the execution refuses; who comes back is told the same.
#[test]
fn a_host_is_sent_below_a_block_that_was_refused() {
    let mut model = Model::new(1, "aaaa", 1);
    model.vetoed = Some(b('a', 5));
    let dense = [b('a', 7), b('a', 6), b('a', 5), b('a', 4), b('a', 3)];
    let mut cursor = started(model.resume(&dense, Some(b('a', 1))));
    assert_eq!(model.say(&mut cursor), "retract:4");
    // Whether it has that very block it is to say.
    let sparse = [b('a', 7), b('a', 6), b('a', 4)];
    assert_eq!(model.resume(&sparse, None), Resumed::Waiting(WaitsFor::Name(h(5))));
    // Unless it was given nothing there.
    let given_from = |from| {
        let locator = Locator::new(sparse.to_vec(), None, Height::new(from)).unwrap();
        resume(&Start::Resume(locator), EventFilter::Soft, h(1), &model.heads, &model).unwrap()
    };
    assert_eq!(given_from(5), Resumed::Waiting(WaitsFor::Name(h(5))));
    assert_eq!(given_from(6), Resumed::Waiting(WaitsFor::Us));
    // It has another one, which may come here yet; or none.
    let elsewhere = [b('b', 7), b('b', 5), b('a', 4)];
    assert_eq!(model.resume(&elsewhere, None), Resumed::Waiting(WaitsFor::Us));
    let mut below = started(model.resume(&[b('a', 4)], None));
    assert_eq!(model.say(&mut below), "hard1");
    // Never below what the host calls hard.
    assert_eq!(model.resume(&dense, Some(b('a', 6))), Resumed::Waiting(WaitsFor::Us));
}

/// What lies in a gap is filled below, and confirmed: the host has none of it, whether its stream is old or new.
#[test]
fn hard_is_told_of_what_was_given_and_not_of_a_gap() {
    let mut cursor = Model::new(6, "aaaa", 0).start(&Start::Genesis, EventFilter::Soft);
    assert_eq!(Model::new(6, "aaaa", 0).say(&mut cursor), "gap:1-5 6 7 8 9");
    let here = [b('a', 9), b('a', 8), b('a', 7), b('a', 6)];
    let given_from = |from| {
        let locator = Locator::new(here.to_vec(), None, Height::new(from)).unwrap();
        Model::new(1, "aaaaaaaaa", 0).start(&Start::Resume(locator), EventFilter::Soft)
    };
    let (mut anew, mut all) = (given_from(6), given_from(0));
    // It went back to below the gap, and says so late.
    let mut from_above = given_from(99);
    for (hard, said, said_to_all) in
        [(2, "", "hard1 hard2"), (5, "", "hard3 hard4 hard5"), (7, "hard6 hard7", "hard6 hard7")]
    {
        let model = Model::new(1, "aaaaaaaaa", hard);
        assert_eq!(model.say(&mut cursor), said);
        assert_eq!(model.say(&mut anew), said);
        assert_eq!(model.say(&mut from_above), "");
        assert_eq!(model.say(&mut all), said_to_all, "who says nothing of a gap was told of none");
    }
}

#[test]
fn a_rewind_into_a_gap_gives_what_comes_after() {
    let mut cursor = Model::new(6, "aaaa", 0).start(&Start::Genesis, EventFilter::Soft);
    Model::new(6, "aaaa", 0).say(&mut cursor);
    let mut model = Model::new(1, "aaaaaaaaa", 2);
    model.rewind(4, "bbb");
    assert_eq!(model.say(&mut cursor), "retract:3 4 5 6");
    model.heads.hard = Some(b('b', 5));
    assert_eq!(model.say(&mut cursor), "hard4 hard5");
}

/// Our own hard block is lower: the store was put back, or has not read DA again yet.
#[test]
fn a_host_is_not_sent_below_what_it_calls_hard() {
    let mut model = Model::new(1, "aaaaaaaaaaaa", 5);
    let locator = [b('a', 12), b('a', 11)];
    let mut cursor = started(model.resume(&locator, Some(b('a', 10))));
    let mut lower = started(model.resume(&locator, Some(b('a', 7))));
    assert_eq!(model.say(&mut cursor), "");
    model.rewind(8, "");
    assert_eq!(cursor.step(&model.heads, &model), Ok(Step::Lost(Lost::BelowTheirHard)));
    assert_eq!(model.say(&mut lower), "retract:7");
    // It waits for what it has, which may come back; and if DA has another block there, for an operator.
    assert_eq!(model.resume(&locator, Some(b('a', 10))), Resumed::Waiting(WaitsFor::Us));
    model.rewind(8, "aaa");
    let mut cursor = started(model.resume(&[b('a', 10)], Some(b('a', 10))));
    assert_eq!(model.say(&mut cursor), "");
    model.rewind(8, "bbb");
    assert_eq!(model.resume(&locator, Some(b('a', 10))), Resumed::Waiting(WaitsFor::Da));
    model.heads.hard = Some(b('b', 10));
    let forked = Resumed::ForkedBelowHard { theirs: b('a', 10), ours: b('b', 10) };
    assert_eq!(model.resume(&locator, Some(b('a', 10))), forked);
}

#[test]
fn what_was_told_hard_on_this_stream_counts_too() {
    let mut model = Model::new(1, "aaaa", 3);
    let mut cursor = model.start(&Start::Genesis, EventFilter::Soft);
    model.say(&mut cursor);
    // No store does this: what is hard stays.
    model.heads.hard = None;
    model.rewind(3, "bb");
    assert_eq!(cursor.step(&model.heads, &model), Ok(Step::Lost(Lost::BelowTheirHard)));
}

#[test]
fn what_was_believed_is_checked_when_it_can_be() {
    let resumed = || started(Model::new(5, "aaa", 6).resume(&[b('c', 3)], None));
    let filled = Model::new(1, "aaaaaaa", 6);
    assert_eq!(resumed().step(&filled.heads, &filled), Ok(Step::Lost(Lost::OtherThanTrusted)));
    let mut cursor = resumed();
    assert_eq!(Model::new(5, "aaa", 6).say(&mut cursor), "gap:4-4 5 hard5 6 hard6 7");
    assert_eq!(filled.say(&mut cursor), "", "it stands above a gap");
}

#[test]
fn we_wait_while_we_are_behind_the_host() {
    let model = Model::new(1, "aaa", 2);
    for (locator, hard, waits_for) in [
        (vec![b('a', 9), b('a', 3)], None, WaitsFor::Us),
        (vec![b('a', 9)], Some(b('a', 9)), WaitsFor::Us),
        // They have seen more of DA than we have.
        (vec![b('c', 3)], Some(b('c', 3)), WaitsFor::Da),
    ] {
        assert_eq!(model.resume(&locator, hard), Resumed::Waiting(waits_for), "{locator:?} {hard:?}");
    }
    let caught_up = Model::new(1, "aaaaa", 2);
    let mut cursor = started(caught_up.resume(&[b('a', 4)], None));
    assert_eq!(caught_up.say(&mut cursor), "hard1 hard2 5");
    assert_eq!(Model::new(1, "", 0).resume(&[b('a', 1)], None), Resumed::Waiting(WaitsFor::Us));
}

#[test]
fn the_block_at_our_tail_is_not_taken_on_trust() {
    let mut model = Model::new(5, "aa", 5);
    model.heads.base = Some(Tip { id: b('a', 4), time_unix_nanos: 0 });
    let mut cursor = started(model.resume(&[b('c', 5), b('a', 4)], None));
    assert_eq!(model.say(&mut cursor), "retract:4 5 hard5 6");
    let mut cursor = started(model.resume(&[b('c', 5), b('c', 4), b('a', 3)], None));
    assert_eq!(model.say(&mut cursor), "retract:3 gap:4-4 5 hard5 6");
}

/// What is said to a host that is ahead of us and names what it has at these heights, of branch c, and that its hard block is a2.
fn told_who_is_ahead(model: &Model, named: &[u64], given_from: u64) -> String {
    let locator = named.iter().map(|height| b('c', *height)).collect();
    let start = Start::Resume(Locator::new(locator, Some(b('a', 2)), Height::new(given_from)).unwrap());
    match resume(&start, EventFilter::Soft, h(1), &model.heads, model).unwrap() {
        Resumed::Started(mut cursor) => model.say(&mut cursor),
        Resumed::Waiting(waits_for) => format!("{waits_for:?}"),
        forked @ Resumed::ForkedBelowHard { .. } => panic!("{forked:?}"),
    }
}

/// A sparse locator hides whether a host that is ahead of us stands on our branch. We may know of no other one: we may have lost
/// all that we had, the evidence too.
#[test]
fn a_host_ahead_of_us_is_asked_for_what_it_has_where_da_has_decided() {
    let model = |first: u64, branches: &str, hard: u64| Model::new(first, branches, hard);
    assert_eq!(told_who_is_ahead(&model(1, "aaaaa", 5), &[9, 8], 0), "Name(5)");
    assert_eq!(told_who_is_ahead(&model(1, "aaaaa", 5), &[9, 8, 5], 0), "retract:2 3 hard3 4 hard4 5 hard5");
    assert_eq!(told_who_is_ahead(&model(1, "aacca", 4), &[9, 8], 0), "Name(4)");
    assert_eq!(
        told_who_is_ahead(&model(1, "aacca", 4), &[9, 8, 4], 0),
        "Us",
        "it is just ahead, or DA has not decided"
    );
    assert_eq!(told_who_is_ahead(&model(1, "aaccaaa", 4), &[9, 6], 0), "Name(4)");
    assert_eq!(told_who_is_ahead(&model(1, "aaccaaa", 4), &[9, 6, 4], 0), "Da", "it may yet go on with 6");
    assert_eq!(told_who_is_ahead(&model(1, "aa", 2), &[9, 8], 0), "Us", "what is hard is in common");
    assert_eq!(told_who_is_ahead(&model(4, "aa", 5), &[9, 8], 0), "Name(5)");
    assert_eq!(told_who_is_ahead(&model(4, "aa", 5), &[9, 8, 5], 0), "retract:2 gap:3-3 4 hard4 5 hard5");
    assert_eq!(told_who_is_ahead(&model(1, "aaaaa", 5), &[9, 8], 6), "Us", "it was never given block 5");
    assert_eq!(told_who_is_ahead(&model(1, "aaaaa", 5), &[9, 8], 5), "Name(5)");
    let mut behind = model(1, "aaaaa", 5);
    behind.heads.target = Some(b('a', 6));
    assert_eq!(told_who_is_ahead(&behind, &[9, 8], 0), "Us", "we know that we are behind");
}

#[test]
fn a_host_ahead_of_us_that_names_nothing_in_common_goes_on_from_the_beginning() {
    let model = Model::new(1, "aa", 2);
    assert_eq!(model.resume(&[b('c', 9)], None), Resumed::Waiting(WaitsFor::Name(h(2))));
    let mut cursor = started(model.resume(&[b('c', 9), b('c', 2)], None));
    assert_eq!(model.say(&mut cursor), "retract:0 1 hard1 2 hard2");
    assert_eq!(Model::new(1, "aa", 0).resume(&[b('c', 9)], None), Resumed::Waiting(WaitsFor::Us));
    assert_eq!(Model::new(1, "", 0).resume(&[b('c', 9)], None), Resumed::Waiting(WaitsFor::Us));
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
    let hard = |hard| Model::new(1, "aaaaaa", hard);
    let mut model = hard(5);
    let mut cursor = started(model.resume(&[b('c', 5), b('a', 4)], None));
    model.heads.hard = Some(b('a', 2));
    model.rewind(3, "bbb");
    assert_eq!(model.say(&mut cursor), "retract:2 hard1 hard2 3 4 5");
    let mut model = hard(5);
    let mut cursor = started(model.resume(&[b('c', 5), b('a', 3)], None));
    model.rewind(6, "d");
    assert_eq!(
        model.say(&mut cursor),
        "retract:3 hard1 hard2 hard3 4 hard4 5 hard5 6",
        "below the rewind, the resume's own retract stands"
    );
}

#[test]
fn a_block_that_does_not_link_is_not_told() {
    let model = Model::new(1, "aaa", 0);
    let mut cursor = started(model.resume(&[b('a', 2)], None));
    assert_eq!(cursor.step(&model.heads, &model), Ok(Step::Soft(h(3))));
    assert_eq!(cursor.link(b('b', 3), Some(b('b', 2).hash)), LinkCheck::Broken);
}

#[test]
fn damage_is_said_when_it_grows() {
    let mut model = Model::new(1, "aaa", 0);
    let mut cursor = model.start(&Start::Tip, EventFilter::Soft);
    let lost = |from, to| Some(DataLoss { from: h(from), to: h(to) });
    for (loss, said) in
        [(lost(4, 9), "loss:4-9"), (lost(6, 9), ""), (lost(4, 10), "loss:4-10"), (None, ""), (lost(5, 5), "loss:5-5")]
    {
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
    assert_eq!(model.say(&mut model.start(&Start::Tip, EventFilter::Soft)), "");
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
        assert!(Locator::new(blocks.clone(), hard, None).is_err(), "{blocks:?} {hard:?}");
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

#[test]
fn every_part_of_the_heads_waits_for_its_announcement() {
    let announced =
        Heads { target: Some(b('a', 9)), scanned_through: 3, evidence: EvidenceId(1), ..Model::new(1, "aaa", 1).heads };
    let stored = Heads { target: None, scanned_through: 4, evidence: EvidenceId(2), ..announced };
    assert_eq!(visible(&announced, &stored), Some(announced));
    let taken_back = Heads { scanned_through: 2, ..announced };
    assert_eq!(visible(&announced, &taken_back), Some(taken_back), "it can be read from the store no more");
}
