//! Where the explorations begin, and what each of them is about.

use crate::tree::{Block, Set};

use super::node::Law;
use super::rules::Rules;
use super::state::{Answer, Cannot, Guard, Halt, Left, Lists, Memory, Peer, Store, World};
use super::world::{Scope, Signing};

/// One exploration.
pub struct Exploration {
    pub name: &'static str,
    pub scope: Scope,
    pub roots: Vec<World>,
    /// Fewer states than this would be a fault of the exploration.
    pub at_least: usize,
}

impl Exploration {
    pub fn model(&self, rules: Rules) -> Signing {
        Signing::new(Law { rules, room: self.scope.room }, self.scope)
    }
}

/// How much may happen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// As much as every clause needs.
    Small,
    /// As much as fits into memory.
    Large,
}

impl Size {
    fn left(self, small: Left, large: Left) -> Left {
        match self {
            Self::Small => small,
            Self::Large => large,
        }
    }
}

pub fn all(size: Size) -> Vec<Exploration> {
    vec![
        hearing(size),
        trouble(size),
        taken_back(size),
        replayed(size),
        torn(size),
        names(size),
        slow(size),
        trusted(size),
    ]
}

fn b(name: &str) -> Block {
    Block::named(name)
}

/// A node that has stored and signed the chain which ends here.
fn node_at(soft: Block, left: Left) -> World {
    let store = Store { soft, tail: 1, hard: 0, halt: Halt::No, veto: Block::ROOT, lists: Lists::default() };
    World {
        store,
        guard: Guard { last: soft, lists: Lists::default() },
        memory: Memory::default(),
        peers: [None, None],
        backups: [None, None],
        signed: Set::chain(soft),
        unguarded: Set::EMPTY,
        forgiven: Set::EMPTY,
        out: Set::chain(soft),
        interrupted: false,
        told: Set::EMPTY,
        da: Block::ROOT,
        cannot: Cannot::No,
        left,
    }
}

fn peer(head: Block, in_book: bool, answers: bool) -> Peer {
    Peer { head, answers, in_book, connected: false, tried: false, answered: Answer::No, on_its_way: None }
}

impl World {
    /// The guard knows nothing of what the key signed after this block.
    fn guarded_by(mut self, last: Block) -> Self {
        self.guard.last = last;
        self.unguarded = self.signed.without(Set::chain(last));
        self
    }

    /// Somebody else who has the key, or had it, signed the chain that ends here.
    fn beside(mut self, top: Block) -> Self {
        let others = Set::chain(top).without(self.signed);
        self.signed = self.signed.or(others);
        self.unguarded = self.unguarded.or(others);
        self.out = self.out.or(others);
        self
    }

    fn with_peers(mut self, first: Option<Peer>, second: Option<Peer>) -> Self {
        self.peers = [first, second];
        self
    }

    fn signed_by_the_key(mut self, top: Block) -> Self {
        self.signed = self.signed.or(Set::chain(top));
        self.out = self.out.or(Set::chain(top));
        self
    }
}

/// Store and guard of any two moments, and two peers that were there or not.
fn hearing(size: Size) -> Exploration {
    let small = Left { turns: 1, commands: 1, signatures: 1, ..Left::default() };
    let left =
        size.left(small, Left { turns: 1, crashes: 1, commands: 1, signatures: 1, vetoes: 1, ..Left::default() });
    let mut peers = vec![None];
    for head in ["", "a", "aa"] {
        for (in_book, answers) in [(true, true), (true, false), (false, true)] {
            peers.push(Some(peer(b(head), in_book, answers)));
        }
    }
    let mut roots = Vec::new();
    for (soft, last) in pairs(&["", "a", "aa"]) {
        for (index, first) in peers.iter().enumerate() {
            for second in &peers[..=index] {
                let world = node_at(soft, left).signed_by_the_key(b("aa")).guarded_by(last);
                roots.push(world.with_peers(*first, *second));
            }
        }
    }
    Exploration { name: "hearing", scope: Scope { room: 15, ..Scope::default() }, roots, at_least: 20_000 }
}

fn pairs(names: &[&str]) -> Vec<(Block, Block)> {
    names.iter().flat_map(|first| names.iter().map(|second| (b(first), b(second)))).collect()
}

/// Blocks that are heard of and cannot be taken in.
fn trouble(size: Size) -> Exploration {
    let small = Left { troubles: 1, commands: 1, signatures: 1, ..Left::default() };
    let left =
        size.left(small, Left { troubles: 1, crashes: 1, turns: 1, commands: 1, signatures: 1, ..Left::default() });
    let mut roots = Vec::new();
    for (soft, last) in pairs(&["", "a", "aa"]) {
        let world = node_at(soft, left).signed_by_the_key(b("aaa")).guarded_by(last);
        for head in ["a", "aa", "aaa"] {
            roots.push(world.with_peers(Some(peer(b(head), true, true)), None));
        }
        roots.push(world.beside(b("bb")).with_peers(Some(peer(b("aa"), true, true)), None));
    }
    Exploration {
        name: "trouble",
        scope: Scope { room: 1, replays: true, ..Scope::default() },
        roots,
        at_least: 38_000,
    }
}

/// DA decides between branches, operators act, and stores and guards are put aside and restored.
fn taken_back(size: Size) -> Exploration {
    let small = Left { commands: 1, backups: 1, restores: 1, signatures: 1, ..Left::default() };
    let left = size.left(small, Left { commands: 2, backups: 2, restores: 2, signatures: 2, ..Left::default() });
    let mut roots = Vec::new();
    for (soft, other) in [("", "bbb"), ("a", "bb"), ("aa", "ab")] {
        let world = node_at(b(soft), left).beside(b(other));
        roots.push(world.with_peers(Some(peer(b(soft), true, true)), None));
    }
    let scope = Scope { room: 15, da: true, replays: true, ..Scope::default() };
    Exploration { name: "taken back", scope, roots, at_least: 95_000 }
}

/// What was abandoned is repeated by anybody.
fn replayed(size: Size) -> Exploration {
    let small = Left { commands: 1, signatures: 1, vetoes: 1, ..Left::default() };
    let left = size.left(small, Left { commands: 2, crashes: 2, signatures: 2, vetoes: 1, ..Left::default() });
    let mut roots = Vec::new();
    for (soft, ours, other) in [("a", "aaa", "b"), ("aa", "aaa", "ab"), ("", "a", "bbb")] {
        let world = node_at(b(soft), left).signed_by_the_key(b(ours)).beside(b(other));
        for last in [soft, ours] {
            let world = world.guarded_by(b(last));
            roots.push(World { unguarded: world.unguarded.or(world.signed.without(Set::chain(b(ours)))), ..world });
        }
    }
    roots.push(restored_after_an_abandon(left));
    let scope = Scope { room: 15, da: true, replays: true, ..Scope::default() };
    Exploration { name: "replayed", scope, roots, at_least: 105_000 }
}

/// The key signed `b`, `ba` and `baa`, DA has `bb`, `ba` was abandoned, and then everything but the guard was lost.
fn restored_after_an_abandon(left: Left) -> World {
    let mut world = node_at(b("baa"), left).beside(b("bb"));
    let given_up = Set::chain(b("ba")).without(Set::chain(b("b")));
    world.guard.lists = Lists { decided: given_up, owed: given_up, ..Lists::default() };
    world.store.soft = Block::ROOT;
    world.forgiven = given_up;
    world.da = b("bb");
    world
}

/// Crashes between the two halves of a commit, and stores that are put aside and restored beside a guard that is not.
fn torn(size: Size) -> Exploration {
    let small = Left { backups: 1, restores: 1, signatures: 2, torn: 1, ..Left::default() };
    let left =
        size.left(small, Left { commands: 1, backups: 1, restores: 2, signatures: 2, torn: 1, ..Left::default() });
    let mut roots = Vec::new();
    for (soft, other) in [("", "bb"), ("a", "bb"), ("aa", "b")] {
        let world = node_at(b(soft), left).beside(b(other));
        roots.push(world.with_peers(Some(peer(b(soft), true, true)), None));
        roots.push(world);
    }
    let scope = Scope { room: 15, da: true, replays: true, ..Scope::default() };
    Exploration { name: "torn", scope, roots, at_least: 195_000 }
}

/// DA is known by names that prove nothing.
fn names(size: Size) -> Exploration {
    let small = Left { mismatches: 1, commands: 2, backups: 1, restores: 1, signatures: 2, ..Left::default() };
    let left = size
        .left(small, Left { mismatches: 1, commands: 2, backups: 1, restores: 1, signatures: 2, ..Left::default() });
    let mut roots = Vec::new();
    for (soft, last) in pairs(&["", "a", "aa"]) {
        let world = node_at(soft, left).signed_by_the_key(b("aa")).guarded_by(last);
        roots.push(world.with_peers(Some(peer(b("aa"), true, true)), None));
    }
    Exploration { name: "names", scope: Scope { room: 15, replays: true, ..Scope::default() }, roots, at_least: 39_000 }
}

/// Signatures and answers take their time.
fn slow(size: Size) -> Exploration {
    let small = Left { commands: 1, turns: 1, vetoes: 1, signatures: 1, ..Left::default() };
    let left = size.left(
        small,
        Left { commands: 1, crashes: 1, turns: 1, vetoes: 1, signatures: 2, followed: 1, ..Left::default() },
    );
    let mut roots = Vec::new();
    for (soft, last) in pairs(&["", "a", "aa"]) {
        for head in ["", "a", "aa"] {
            let world = node_at(soft, left).signed_by_the_key(b("aa")).guarded_by(last);
            roots.push(world.with_peers(Some(peer(b(head), true, true)), None));
        }
    }
    let scope = Scope { room: 15, slow_answers: true, slow_signer: true, replays: true, ..Scope::default() };
    Exploration { name: "slow", scope, roots, at_least: 85_000 }
}

/// An empty store that begins at a block which an operator trusts.
fn trusted(size: Size) -> Exploration {
    let small = Left { commands: 2, crashes: 1, signatures: 2, turns: 1, ..Left::default() };
    let left = size.left(small, Left { commands: 2, crashes: 1, signatures: 2, turns: 1, ..Left::default() });
    let mut roots = Vec::new();
    for (begin, signed, last) in [("ba", "aaa", ""), ("ba", "aa", "aa"), ("aa", "aaa", ""), ("b", "aaa", "a")] {
        let mut world = node_at(b(signed), left).guarded_by(b(last)).beside(b(begin));
        world.store.soft = b(begin);
        world.store.tail = b(begin).height();
        roots.push(world.with_peers(Some(peer(b(signed), true, true)), None));
    }
    Exploration {
        name: "trusted",
        scope: Scope { room: 15, replays: true, ..Scope::default() },
        roots,
        at_least: 3_200,
    }
}
