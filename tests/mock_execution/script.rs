//! What a scripted sidecar says and hears: plain data.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::mpsc;

use blocksyncd::block::{BlockId, Hash};

use crate::blocks::Piece;

/// What a stream says.
#[derive(Clone, Debug)]
pub enum Say {
    Soft(Piece),
    Hard(BlockId),
    /// `None`: everything is taken back.
    Retract(Option<BlockId>, u64),
    Gap(u64, u64),
    /// No event: it waits, until the host names its block at this height.
    NameBlock(u64),
}

/// How a stream ends, after everything was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Long polls are answered with nothing, for ever.
    Silence,
    Draining,
    Disconnect,
}

/// How a publish is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Signed, and put on the chain.
    Accept,
    Duplicate,
    /// With a good block that is not the one that was published.
    AnotherBlock,
    NotReady,
    Overloaded,
    NotNext {
        height: u64,
    },
    Draining,
    /// Never answers.
    Silence,
}

/// What the sidecar hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    OpenedAtGenesis,
    Resumed {
        locator: Vec<BlockId>,
        hard: Option<u64>,
    },
    Published {
        height: u64,
        time_unix_nanos: u64,
        payload: Vec<u8>,
    },
    Reported {
        after: u64,
        scanned_through: u64,
        sightings: Vec<Sighted>,
    },
    /// A block on DA came in pieces.
    Uploaded(Sighted),
}

/// What a host reported of one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighted {
    pub da_height: u64,
    pub index: u32,
    /// 0: as the bytes say.
    pub height: u64,
    pub what: Said,
}

/// As what it was reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Their digest.
    Bytes(Hash),
    Digest(Hash),
    Name(Hash),
}

/// How a report is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The DA height, and the places that are wanted, as (DA height, index).
    Taken(u64, Vec<(u64, u32)>),
    OutOfOrder(u64),
    StorageFull,
    TooFar,
}

#[derive(Debug, Default)]
pub struct Script {
    /// What the first stream says, the second one, ...; after the last, streams are silent.
    pub streams: VecDeque<(Vec<Say>, Option<Then>)>,
    /// The answers to publishes; after the last, all are accepted.
    pub answers: VecDeque<Answer>,
    /// The answers to reports and to uploads on DA; after the last, what was reported is taken, and nothing is wanted.
    pub replies: VecDeque<Reply>,
    /// The chain's DA is told by names.
    pub named: bool,
    /// What one report may bring; 0: what any message may.
    pub max_report_bytes: u64,
    /// What is on the chain.
    pub stored: Vec<Piece>,
}

/// Shared by all sessions.
pub struct State {
    pub script: RefCell<Script>,
    pub scanned_through: RefCell<u64>,
    pub heard: mpsc::Sender<Heard>,
}
