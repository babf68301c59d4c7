//! What a scripted sidecar says and hears: plain data.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::mpsc;

use blocksyncd::block::BlockId;

use crate::blocks::Piece;

/// What a stream says.
#[derive(Clone, Debug)]
pub enum Say {
    Soft(Piece),
    Hard(BlockId),
    /// `None`: everything is taken back.
    Retract(Option<BlockId>, u64),
    Gap(u64, u64),
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
    /// Sightings as (DA height, index, id), all of them by hash.
    Reported {
        scanned_through: u64,
        sightings: Vec<(u64, u32, BlockId)>,
    },
    /// As (DA height, index, length).
    ReportedBytes {
        blocks: Vec<(u64, u32, usize)>,
    },
}

#[derive(Debug, Default)]
pub struct Script {
    /// What the first stream says, the second one, ...; after the last, streams are silent.
    pub streams: VecDeque<(Vec<Say>, Option<Then>)>,
    /// The answers to publishes; after the last, all are accepted.
    pub answers: VecDeque<Answer>,
    /// Reports are answered with these DA heights; after the last, with what was reported.
    pub scanned: VecDeque<u64>,
    /// What the first report's answer wants.
    pub wanted: Vec<BlockId>,
    /// What is on the chain.
    pub stored: Vec<Piece>,
}

/// Shared by all sessions.
pub struct State {
    pub script: RefCell<Script>,
    pub scanned_through: RefCell<u64>,
    pub heard: mpsc::Sender<Heard>,
}
