//! Whether a node that may sign has heard enough of its peers: what it signed itself may have been lost here, and be at theirs.
//!
//! A round of hearing begins with each start, and with each commit that lowers soft or the guard. It is over when every connected
//! peer has answered a request for its head that was sent since then, everybody in the address book was tried, and anybody has
//! answered at all; or after [`PATIENCE`]. Who knows nobody waits for nobody.
//!
//! Invariants:
//! 1. An answer to a question from before the round does not count.
//! 2. A peer that says nothing holds signing up for [`PATIENCE`] at most.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::{Acquaintance, PeerId, RequestId};

/// For how long silent peers are waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How far a round of hearing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// How long ago it began.
    pub age: Duration,
    /// Whether anybody is known, in the address book or because of a connection.
    pub known: Acquaintance,
    /// What has become of those in the address book.
    pub book: Book,
    /// Connected peers.
    pub connected: usize,
    /// Those among them that have answered.
    pub heard: usize,
    /// Whether anybody has answered, and be it one that went away since.
    pub answers: Answers,
}

/// Whether everybody in the address book was tried in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Book {
    BeingTried,
    Tried,
}

/// Who has answered in this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    Nobodys,
    Somebodys,
}

/// Whether signing has to wait.
#[must_use]
pub fn must_wait(round: &Round) -> bool {
    let all = round.heard >= round.connected && round.book == Book::Tried && round.answers == Answers::Somebodys;
    round.known == Acquaintance::Somebody && !all && !round.left().is_zero()
}

#[derive(Debug)]
pub(super) struct Hearing {
    /// Which round this is; 0 before the first one.
    number: u64,
    began: Duration,
    /// The first request that was not sent before the round.
    first_request: RequestId,
    known: Acquaintance,
    book: Book,
    /// Connected peers that have answered.
    heard: BTreeSet<PeerId>,
    answers: Answers,
    /// What is waited for as of the last look.
    looked: Option<Round>,
    /// The last round that ended without everybody's answer.
    unheard: Option<UnheardRound>,
}

/// A round that ended because time was up: who may know of blocks of this key was not heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnheardRound {
    pub number: u64,
    /// As it was when it was last waited for.
    pub round: Round,
}

impl Hearing {
    /// `known`: whether the address book has anybody in it.
    pub fn new(known: Acquaintance) -> Self {
        Self {
            number: 0,
            began: Duration::ZERO,
            first_request: RequestId(0),
            known,
            book: Book::Tried,
            heard: BTreeSet::new(),
            answers: Answers::Nobodys,
            looked: None,
            unheard: None,
        }
    }

    /// Which round this is; 0: none has begun.
    pub fn round(&self) -> u64 {
        self.number
    }

    /// A round begins; `first_request` is the next one to be sent. Gives its number if everybody in the address book is to be tried.
    pub fn begin(&mut self, now: Duration, first_request: RequestId) -> Option<u64> {
        self.number += 1;
        self.began = now;
        self.first_request = first_request;
        self.heard.clear();
        self.answers = Answers::Nobodys;
        self.book = if self.known == Acquaintance::Nobody { Book::Tried } else { Book::BeingTried };
        (self.book == Book::BeingTried).then_some(self.number)
    }

    /// Somebody is connected.
    pub fn peer_up(&mut self) {
        self.known = Acquaintance::Somebody;
    }

    pub fn peer_down(&mut self, peer: &PeerId) {
        self.heard.remove(peer);
    }

    /// A connected peer has answered with its head, or that it has none.
    pub fn answered(&mut self, peer: &PeerId, request: RequestId) {
        if request >= self.first_request {
            self.heard.insert(peer.clone());
            self.answers = Answers::Somebodys;
        }
    }

    /// Everybody in the address book was tried since this round began.
    pub fn tried(&mut self, round: u64) {
        if round == self.number {
            self.book = Book::Tried;
        }
    }

    /// How far the round is, if signing has to wait for it.
    pub fn waits(&self, now: Duration, connected: usize) -> Option<Round> {
        let (known, book, answers) = (self.known, self.book, self.answers);
        let age = now.saturating_sub(self.began);
        let round = Round { age, known, book, connected, heard: self.heard.len(), answers };
        (self.number > 0 && must_wait(&round)).then_some(round)
    }

    /// Notes how far the round is, for those who ask without a clock.
    pub fn look(&mut self, now: Duration, connected: usize) {
        let looked = self.waits(now, connected);
        let before = std::mem::replace(&mut self.looked, looked);
        let is_over = now >= self.began + PATIENCE && self.looked.is_none();
        if let Some(round) = before.filter(|_| is_over) {
            self.unheard = Some(UnheardRound { number: self.number, round });
        }
    }

    /// The last round that ended without everybody's answer.
    pub fn unheard(&self) -> Option<UnheardRound> {
        self.unheard
    }

    /// What is waited for as of the last look.
    pub fn looked(&self) -> Option<Round> {
        self.looked
    }

    /// When the wait is over in any case.
    pub fn ends(&self) -> Option<Duration> {
        self.looked.map(|_| self.began + PATIENCE)
    }
}

impl Round {
    /// For how long silent peers are waited for from now on.
    #[must_use]
    pub fn left(&self) -> Duration {
        PATIENCE.saturating_sub(self.age)
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the peers are asked for their newest blocks first, since this key may have signed what is not here any more: {} of {} \
             that are connected have answered",
            self.heard, self.connected
        )?;
        if self.book == Book::BeingTried {
            f.write_str(", and others that are known are being tried")?;
        }
        write!(f, "; after {} s it goes on without them", self.left().as_secs_f32().ceil())
    }
}
