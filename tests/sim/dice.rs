//! What a run draws on its way: one stream of numbers for each purpose and actor.
//!
//! Invariants:
//! 1. The streams know nothing of each other. So a new purpose, or one more draw for one purpose, leaves all other draws as they
//!    were, and a kept world goes on to be the world that failed. A draw of a new kind takes a new purpose.
//! 2. A stream depends on the seed, its purpose's number and its actor alone. Numbers are never used again.
//! 3. Plans of drawing 1 draw everything from one stream, in the order in which it happens, as they did then.

use fastrand::Rng;

/// What is drawn for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// Who knows whom, and when everybody starts. No actor: 0.
    Layout = 1,
    /// Connections that come and go. No actor.
    Links = 2,
    /// Loss and delay, by who sends.
    Packets = 3,
    /// How answers break off, by who serves.
    Serving = 4,
    /// What adversaries make up, by adversary; what they do when.
    Lies = 5,
    /// Which faults happen when. No actor.
    Faults = 6,
    /// By node: how long writes take.
    Writes = 7,
    /// By node: where it crashes, and what is then on its disk.
    Crashes = 8,
    /// By node: what its signer does.
    Signer = 9,
    /// By node: what its operator wants.
    Operator = 10,
    /// By host: how long answers take to reach it, and what it acknowledges.
    Host = 11,
    /// What is made and published.
    Publisher = 12,
    /// What comes onto DA, and when. No actor.
    Da = 13,
    /// By host: what it reports of DA.
    Reporter = 14,
    /// What a planted bug does.
    Bug = 15,
    /// By node: with which configuration it starts.
    Settings = 16,
    /// By node: which of its requests never leave it.
    Requests = 17,
    /// By host: which block it refuses.
    Veto = 18,
    /// By node: what those do who only watch it.
    Watch = 19,
    /// How large blocks are. No actor.
    Sizes = 20,
    /// By host: what it says of DA that is not so.
    Mistakes = 21,
    /// By node: when what is written is told.
    Telling = 22,
    /// By node: when its operator hears of a new key.
    Rotation = 23,
    /// What the third branch is. No actor.
    Third = 24,
    /// By host: which of its reporters reports.
    Turns = 25,
    /// By node: what its host is shown of DA that is not so.
    Misled = 26,
    /// By node: which part of its store is damaged, and when it cannot be read.
    Records = 27,
    /// When the signers change their roles. No actor.
    Failover = 28,
    /// By node: which entries are wrong, and what is given up for nothing.
    Slips = 29,
    /// By host: what it acknowledges that is elsewhere, and when who watches sleeps.
    Elsewhere = 30,
    /// When DA reorganises, and into what. No actor.
    Reorganises = 31,
    /// By node: with which limits it starts.
    Limits = 32,
    /// When a block on nothing is signed, and how high. No actor.
    Orphans = 33,
    /// By node: when what a host calls hard is refused.
    Refuses = 34,
}

#[derive(Debug)]
pub struct Dice {
    /// By purpose, then by actor; or the only one.
    streams: Vec<Rng>,
    actors: usize,
}

/// More than there are.
const PURPOSES: usize = 48;

impl Dice {
    /// For so many actors.
    pub fn new(drawing: u32, seed: u64, actors: usize) -> Self {
        if drawing == 1 {
            return Self { streams: vec![Rng::with_seed(seed)], actors: 0 };
        }
        let stream = |index: usize| Self::stream(seed, index / actors, index % actors);
        Self { streams: (0..PURPOSES * actors).map(stream).collect(), actors }
    }

    fn stream(seed: u64, purpose: usize, actor: usize) -> Rng {
        let place = (purpose as u64) << 32 | actor as u64;
        Rng::with_seed(seed ^ Rng::with_seed(place).u64(..))
    }

    pub fn of(&mut self, purpose: Purpose, actor: usize) -> &mut Rng {
        let index = if self.actors == 0 { 0 } else { purpose as usize * self.actors + actor };
        &mut self.streams[index]
    }

    /// For what nobody does by himself.
    pub fn common(&mut self, purpose: Purpose) -> &mut Rng {
        self.of(purpose, 0)
    }
}
