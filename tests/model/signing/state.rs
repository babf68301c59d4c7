//! Everything that the world of a key consists of, as small as it can be written.

use crate::tree::{Block, Set};

use super::rules::By;

/// Why nothing is published or confirmed any more, until an operator acts; with our block that is contradicted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Halt {
    No,
    Diverged(Block),
    /// A name on DA, which proves nothing, is not the one of our block.
    Mismatch(Block),
}

/// What is disowned, as it is kept in a store and beside a guard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Lists {
    /// Taken back because DA has another one.
    pub decided: Set,
    /// On an operator's word.
    pub said: Set,
    /// Abandoned after a mismatch of names.
    pub named: Set,
    /// What both together must be: the promises are held against this one, so that they do not bend with the rules.
    pub owed: Set,
}

impl Lists {
    pub fn or(self, other: Self) -> Self {
        Self {
            decided: self.decided.or(other.decided),
            said: self.said.or(other.said),
            named: self.named.or(other.named),
            owed: self.owed.or(other.owed),
        }
    }

    pub fn by(self, block: Block) -> Option<By> {
        let all = [(self.decided, By::Da), (self.said, By::Word), (self.named, By::Name)];
        all.into_iter().find(|(set, _)| set.has(block)).map(|(_, by)| by)
    }

    pub fn remove(&mut self, block: Block) {
        for set in [&mut self.decided, &mut self.said, &mut self.named] {
            set.remove(block);
        }
    }
}

/// What one store has on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Store {
    pub soft: Block,
    pub tail: u8,
    pub hard: u8,
    pub halt: Halt,
    /// The block that the execution refuses; the root when there is none.
    pub veto: Block,
    pub lists: Lists,
}

/// What one guard file has on disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Guard {
    /// The root when the key has never signed.
    pub last: Block,
    pub lists: Lists,
}

/// A store and a guard that were put aside.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Backup {
    pub store: Store,
    pub guard: Guard,
    /// What the guard could know then of what the key had signed.
    pub guarded: Set,
    /// As in [`World`]: what an operator has said comes back with it.
    pub forgiven: Set,
    /// It was put aside while the key was signing.
    pub interrupted: bool,
}

/// What the node has in memory only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Memory {
    /// Blocks above soft that are waited for.
    pub awaited: Set,
    /// One more had to be left out.
    pub overflowed: bool,
    /// Of these it is known what they stand on.
    pub known: Set,
    /// What the key is signing, and what the guard was before.
    pub signing: Option<(Block, Block)>,
    /// Nothing need be heard before the key signs.
    pub heard: bool,
    /// Half a minute has passed since peers had to be asked.
    pub waited: bool,
    /// Hashes that are to be written into the list with the next commit.
    pub unwritten: Lists,
}

/// What a peer has said of its head since peers had to be asked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    No,
    /// To a request that was sent before.
    Stale,
    Fresh,
}

/// An answer on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct OnItsWay {
    pub head: Block,
    pub answer: Answer,
}

/// A peer that follows the chain honestly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer {
    pub head: Block,
    /// It can be reached and answers.
    pub answers: bool,
    pub in_book: bool,
    pub connected: bool,
    /// It was dialled since peers had to be asked.
    pub tried: bool,
    pub answered: Answer,
    pub on_its_way: Option<OnItsWay>,
}

/// Why blocks cannot be taken in at present.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cannot {
    No,
    /// They seem to be of the future.
    Time,
    /// They are larger than the limit.
    Size,
    /// The disk is full.
    Room,
}

/// How often each thing may happen yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Left {
    pub backups: u8,
    pub restores: u8,
    pub crashes: u8,
    pub torn: u8,
    pub turns: u8,
    pub vetoes: u8,
    pub mismatches: u8,
    pub commands: u8,
    pub troubles: u8,
    pub followed: u8,
    pub signatures: u8,
}

/// Everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub store: Store,
    pub guard: Guard,
    pub memory: Memory,
    pub peers: [Option<Peer>; 2],
    pub backups: [Option<Backup>; 2],
    /// What the key has signed, all machines together.
    pub signed: Set,
    /// Of these no guard of ours can know any more, or ever could: it was restored, or set by an operator, or another one signed.
    pub unguarded: Set,
    /// An operator took these back, and what stands on them, knowing what for; until one is stored again.
    pub forgiven: Set,
    /// What anybody has, and may repeat at any time.
    pub out: Set,
    /// What was told to the node since peers had to be asked.
    pub told: Set,
    /// The process ended while the key was signing: nobody knows whether what the guard names was made.
    pub interrupted: bool,
    /// The chain that DA has.
    pub da: Block,
    pub cannot: Cannot,
    pub left: Left,
}

/// What of a commit is on disk after a crash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    Store,
    Guard,
}

/// What can happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    Publish(Block),
    /// The signer outside is asked, and the guard written.
    AskSigner(Block),
    SignerAnswers,
    /// Somebody tells us of this block: gossip, an answer, or a replay of either.
    Hear(Block),
    /// A block that was asked for by its hash.
    Learn(Block),
    Dial(usize),
    PeerConnects(usize),
    PeerLeaves(usize),
    PeerAnswers(usize),
    AnswerIsSent(usize),
    AnswerArrives(usize),
    PeerFallsSilent(usize),
    PeerSpeaksAgain(usize),
    PeerFollows(usize, Block),
    HalfAMinutePasses,
    DaTakes(Block),
    DaIsScanned,
    NameMismatches,
    HostRejects(Block),
    Abandon,
    Disown(Block),
    AssertSigned(Block),
    LiftVeto,
    Crash,
    /// A crash while the commit of this step was being written.
    Torn(Half, Box<Step>),
    PutAside(usize),
    /// The store of one backup, and the guard of another; or what is there.
    Restore {
        store: Option<usize>,
        guard: Option<usize>,
    },
    Trouble(Cannot),
    TroubleEnds,
    /// What only a node without a certain clause does: it drops what it waits for.
    LosesPatience,
    /// The same: a peer that answers does not have the block.
    IsToldOfAbsence(Block),
    /// The same: the list is written later.
    WritesTheList,
}
