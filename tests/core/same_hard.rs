//! Two nodes that scanned the same part of DA have the same hard block, and each of them gets there: whatever their hosts report
//! of it (bytes, or digests whose bytes they give when they are asked), in whatever order and batches, and whatever their peers
//! gave them before.
//!
//! Everything stands on one hard block. On DA are up to six blobs: blocks of two heights and two branches, each in two signatures,
//! and junk of either height. What hard must be is told by an oracle that knows the rule and nothing else: at each height
//! the winner is the block at the lowest position whose parent is the winner below.
//!
//! Which of the two branches, and of the two signatures of a block, is called the first makes no difference, so that of what
//! is alike but for these names one is enough: 46,225 contents of 1 to 6 blobs are left of 1,111,110. Each test says how
//! many nodes it follows.

use std::sync::OnceLock;

use blocksyncd::block::{BlockId, Hash, Height};
use blocksyncd::sync::{Content, Finding, Found, ReportTaken, Wanted};
use blocksyncd::verify::AuthenticBlock;

use super::blocks::{branch, chain, h, signed_otherwise};
use super::driver::{Core, Setup, at, digest};

/// What a blob is: `Block(height, branch, signature)`, the heights being 2 and 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blob {
    Block(usize, usize, usize),
    Junk(usize),
}

use Blob::{Block, Junk};

const ALL: [Blob; 10] = [
    Block(0, 0, 0),
    Block(0, 0, 1),
    Block(0, 1, 0),
    Block(0, 1, 1),
    Block(1, 0, 0),
    Block(1, 0, 1),
    Block(1, 1, 0),
    Block(1, 1, 1),
    Junk(0),
    Junk(1),
];

/// The hard block below, and the others by height, branch and signature.
struct World {
    base: AuthenticBlock,
    blocks: [[[AuthenticBlock; 2]; 2]; 2],
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let base = chain(1).remove(0);
        let twice = |block: AuthenticBlock| [block.clone(), signed_otherwise(&block, 1)];
        let on_base = |name| branch(std::slice::from_ref(&base), name, 2);
        let (a, b) = (on_base("b"), on_base("c"));
        let blocks = [0, 1].map(|height: usize| [&a, &b].map(|of| twice(of[height].clone())));
        World { base, blocks }
    })
}

impl Blob {
    fn block(self) -> Option<&'static AuthenticBlock> {
        match self {
            Block(height, branch, signature) => Some(&world().blocks[height][branch][signature]),
            Junk(_) => None,
        }
    }

    fn height(self) -> Height {
        let (Block(height, ..) | Junk(height)) = self;
        h(height as u64 + 2)
    }

    /// One junk is like the other: the same bytes twice are met as well.
    fn digest(self) -> Hash {
        self.block().map_or(Hash([u8::try_from(self.height().get()).expect("small"); 32]), digest)
    }

    fn found(self, by: By) -> Found {
        let content = self.block().cloned().map_or(Content::Junk, Content::Block);
        match by {
            By::Bytes => Found::Bytes { digest: self.digest(), content },
            By::Digest => Found::Digest(self.digest()),
        }
    }

    fn at(self, place: usize, by: By) -> Finding {
        Finding { position: at(place as u64 + 1, 0), height: self.height(), what: self.found(by) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Bytes,
    Digest,
}

impl By {
    fn of(mask: usize, place: usize) -> Self {
        if mask >> place & 1 == 1 { Self::Digest } else { Self::Bytes }
    }
}

/// What hard must be once all of this was scanned.
fn oracle(da: &[Blob]) -> BlockId {
    let mut winner = world().base.id();
    for height in 0..2 {
        let blocks = da.iter().filter(|blob| matches!(blob, Block(at, ..) if *at == height));
        let next = blocks.filter_map(|blob| blob.block()).find(|block| block.parent_hash() == Some(winner.hash));
        let Some(next) = next else { break };
        winner = next.id();
    }
    winner
}

/// All contents of so many blobs, of those that are alike but for names the first.
fn contents(len: usize) -> Vec<Vec<Blob>> {
    let mut all = vec![Vec::new()];
    for _ in 0..len {
        all = all.iter().flat_map(|da: &Vec<Blob>| ALL.map(|blob| [&da[..], &[blob]].concat())).collect();
        all.retain(|da| is_first_of_its_kind(da));
    }
    all
}

/// Whether the branches, and the signatures of each block, are called in the order in which they occur.
fn is_first_of_its_kind(da: &[Blob]) -> bool {
    let in_order = |mut names: Box<dyn Iterator<Item = usize> + '_>| names.next().is_none_or(|first| first == 0);
    let branches = da.iter().filter_map(|blob| if let Block(_, branch, _) = blob { Some(*branch) } else { None });
    in_order(Box::new(branches))
        && (0..2).all(|height| {
            (0..2).all(|branch| {
                let signatures = da.iter().filter_map(move |blob| match blob {
                    Block(at, of, signature) if (*at, *of) == (height, branch) => Some(*signature),
                    _ => None,
                });
                in_order(Box::new(signatures))
            })
        })
}

/// A node, and its host that reports truly.
struct Node {
    core: Core,
    da: Vec<Blob>,
    reports: usize,
    /// What is nothing is not told, unless by its digest.
    omits_junk: bool,
}

impl Node {
    /// With what its peers gave it before.
    fn new(da: &[Blob], from_peers: &[Blob]) -> Self {
        let mut core = Setup::follower().storing(std::slice::from_ref(&world().base), 1).start();
        for blob in from_peers {
            let _ = core.gossip(blob.block().expect("a block"));
        }
        Self { core, da: da.to_vec(), reports: 0, omits_junk: false }
    }

    fn report(&mut self, after: usize, through: usize, findings: Vec<Finding>) -> ReportTaken {
        self.reports += 1;
        assert!(self.reports < 40, "it comes to no end: {:?}", self.da);
        self.core.report(after as u64, through as u64, findings).0
    }

    /// Reports everything after what was scanned, in batches: a bit says that the batch ends there.
    fn scan(&mut self, mask: usize, batches: usize) {
        loop {
            let from = usize::try_from(self.core.heads().scanned_through).expect("small");
            if from >= self.da.len() {
                return;
            }
            let to = (from + 1..self.da.len()).find(|place| batches >> (place - 1) & 1 == 1).unwrap_or(self.da.len());
            let said = (from..to).filter(|place| self.tells(mask, *place));
            let findings = said.map(|place| self.da[place].at(place, By::of(mask, place))).collect();
            let taken = self.report(from, to, findings);
            self.give_bytes(&taken.wanted);
        }
    }

    fn tells(&self, mask: usize, place: usize) -> bool {
        !(self.omits_junk && matches!(self.da[place], Junk(_)) && By::of(mask, place) == By::Bytes)
    }

    /// Tells what lies in these places before its turn, in this order; every other answer is left as it is.
    fn tell_early(&mut self, order: &[usize], mask: usize, batches: usize) {
        let mut findings = Vec::new();
        for (told, place) in order.iter().enumerate() {
            findings.push(self.da[*place].at(*place, By::of(mask, *place)));
            if batches >> told & 1 == 1 || told + 1 == order.len() {
                let wanted = self.report(0, 0, std::mem::take(&mut findings)).wanted;
                if told % 2 == 0 {
                    self.give_bytes(&wanted);
                }
            }
        }
    }

    /// The host gives what it is asked for, until it is asked no more.
    fn give_bytes(&mut self, wanted: &[Wanted]) {
        let mut wanted = wanted.to_vec();
        while !wanted.is_empty() {
            let bytes = wanted.iter().map(|open| {
                let place = usize::try_from(open.position.height).expect("small") - 1;
                self.da[place].at(place, By::Bytes)
            });
            let findings = bytes.collect();
            wanted = self.report(0, 0, findings).wanted;
        }
    }

    fn assert_hard(&self, how: &dyn std::fmt::Debug) {
        assert_eq!(self.core.hard(), Some(oracle(&self.da)), "{:?}, {how:?}", self.da);
        assert_eq!(self.core.status().halted, None);
    }
}

/// What peers may have given: nothing, either branch, each signature, or what does not link yet.
const FROM_PEERS: [&[Blob]; 6] = [
    &[],
    &[Block(0, 0, 0), Block(1, 0, 0)],
    &[Block(0, 0, 1), Block(1, 0, 1)],
    &[Block(0, 1, 0), Block(1, 1, 0)],
    &[Block(0, 1, 1), Block(1, 1, 1)],
    &[Block(1, 0, 0), Block(1, 1, 1)],
];

fn permutations(len: usize) -> Vec<Vec<usize>> {
    if len == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(len - 1);
    let longer = shorter.iter().flat_map(|order| {
        (0..len).map(|place| {
            let mut order = order.clone();
            order.insert(place, len - 1);
            order
        })
    });
    longer.collect()
}

/// Each on one node, with what its host, its batches and its peers are taken in turn: 83,418 nodes.
#[test]
fn every_content_has_one_hard_block() {
    let mut nodes = 0;
    for da in (1..=6).flat_map(contents) {
        // None of these numbers divides another one.
        let (mask, batches, peers) = (nodes % 63 + 1, nodes % 31 + 1, nodes % FROM_PEERS.len());
        let mut node = Node::new(&da, FROM_PEERS[peers]);
        node.omits_junk = nodes % 5 == 0;
        node.scan(mask, batches);
        node.assert_hard(&(mask, batches, peers));
        nodes += 1;
    }
    assert_eq!(nodes, 83_418);
}

/// Contents of up to three blobs: with everything that can be different, but for what peers gave, which is taken in turn.
#[test]
fn whatever_is_told_in_whatever_order_hard_is_the_same() {
    let mut nodes = 0;
    for da in (1..=3).flat_map(contents) {
        for order in permutations(da.len()) {
            for choice in 0..1 << (2 * da.len() - 1) {
                let (mask, batches) = (choice & ((1 << da.len()) - 1), choice >> da.len());
                let peers = nodes % FROM_PEERS.len();
                let mut node = Node::new(&da, FROM_PEERS[peers]);
                node.tell_early(&order, mask, batches);
                // What was told before is told again, or is told otherwise.
                node.scan(if nodes % 4 < 2 { mask } else { !mask }, batches);
                node.assert_hard(&(&order, mask, batches, peers));
                nodes += 1;
            }
        }
    }
    assert_eq!(nodes, 28_776);
}

/// One of two nodes has the blocks from its peers before, the other from DA alone.
#[test]
fn peers_make_no_difference() {
    let mut nodes = 0;
    for da in (1..=3).flat_map(contents) {
        for from_peers in FROM_PEERS {
            for mask in 0..1 << da.len() {
                let mut node = Node::new(&da, from_peers);
                node.scan(mask, nodes);
                node.assert_hard(&(from_peers, mask));
                nodes += 1;
            }
        }
    }
    assert_eq!(nodes, 7_680);
}

/// Six blobs in all orders and batches, by bytes and digests in turn.
#[test]
fn six_sightings_in_every_order_give_one_hard_block() {
    let mut nodes = 0;
    // Both begin with what loses, or is none; a copy with another signature lies before, and after, what it is a copy of.
    for da in [
        [Junk(0), Block(1, 1, 0), Block(0, 0, 1), Block(0, 1, 0), Block(1, 0, 0), Block(0, 0, 0)],
        [Block(1, 0, 1), Block(0, 1, 1), Junk(0), Block(0, 1, 0), Block(1, 1, 0), Junk(0)],
    ] {
        for order in permutations(6) {
            for batches in 0..32 {
                let mut node = Node::new(&da, FROM_PEERS[nodes % 2]);
                node.tell_early(&order, nodes % 63, batches);
                node.scan(nodes % 61, 0);
                node.assert_hard(&(&order, batches, nodes));
                nodes += 1;
            }
        }
    }
    assert_eq!(nodes, 46_080);
}
