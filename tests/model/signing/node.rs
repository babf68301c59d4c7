//! The node that may sign, as the rules have it: what it does with blocks, with DA, with operators, and when it signs.

use std::time::Duration;

use blocksyncd::sync::Acquaintance;
use blocksyncd::sync::hearing::{Answers, Book, PATIENCE, Round, must_wait};

use crate::tree::{Block, HEIGHTS, Set};

use super::rules::{By, Clause, Ours, Rules, Stand, frees_guard, stand};
use super::state::{Answer, Cannot, Halt, Lists, Peer, World};

/// By what the node acts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Law {
    pub rules: Rules,
    /// So many blocks can be waited for.
    pub room: u32,
}

impl Law {
    pub fn on(self, world: &World) -> Node<'_> {
        Node { law: self, world }
    }
}

/// A world, and how the node acts in it.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    pub law: Law,
    pub world: &'a World,
}

/// What was told breaks a promise.
pub type Outcome = Result<World, String>;

impl World {
    pub fn ours(&self) -> Ours {
        let lists = self.store.lists.or(self.guard.lists).or(self.memory.unwritten);
        Ours { soft: self.store.soft, tail: self.store.tail, hard: self.store.hard, lists }
    }

    /// Whether an operator took the block back, or what it stands on, knowing what for.
    pub fn is_forgiven(&self, block: Block) -> bool {
        !self.forgiven.and(Set::chain(block)).is_empty()
    }

    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().flatten()
    }

    /// What was taken back, by DA's word or an operator's, as far as it can be known here.
    pub fn taken_back(&self) -> Set {
        self.store.lists.owed.or(self.guard.lists.owed).without(Set::chain(self.store.soft))
    }
}

impl Node<'_> {
    fn has(&self, clause: Clause) -> bool {
        self.law.rules.has(clause)
    }

    fn stand_in(&self, world: &World, block: Block) -> Stand {
        let known = world.memory.known;
        stand(self.law.rules, &world.ours(), block, known)
    }

    pub fn stand(&self, block: Block) -> Stand {
        self.stand_in(self.world, block)
    }

    /// A block, with a valid signature, that somebody told us of.
    pub fn hear(&self, block: Block) -> Outcome {
        let mut world = *self.world;
        if !world.is_forgiven(block) {
            world.told.insert(block);
        }
        if block.height() <= world.store.soft.height() {
            Self::tidy_told(&mut world);
            return Ok(world);
        }
        world.memory.known.insert(block);
        if self.may_store(&world, block) {
            self.take(&mut world, block)?;
        } else if self.stand_in(&world, block).is_waited_for(self.law.rules) {
            self.wait_for(&mut world, block);
        }
        self.tidy(world)
    }

    /// Whether this block, which no DA gives us, is stored now.
    fn may_store(&self, world: &World, block: Block) -> bool {
        let disowned = self.stand_in(world, block).is_disowned();
        block.parent() == world.store.soft
            && world.cannot == Cannot::No
            && world.store.veto == Block::ROOT
            && !(disowned && self.has(Clause::DisownedIsNotStored))
    }

    fn take(&self, world: &mut World, block: Block) -> Result<(), String> {
        if world.taken_back().has(block) {
            return Err(format!("{block:?} was taken back, and is stored again"));
        }
        self.append(world, block);
        Ok(())
    }

    /// A block that was asked for by its hash, to learn what it stands on.
    pub fn learn(&self, block: Block) -> Outcome {
        let mut world = *self.world;
        world.memory.known.insert(block);
        let heard = self.law.on(&world).hear(block)?;
        self.tidy(heard)
    }

    fn wait_for(&self, world: &mut World, block: Block) {
        let overlooked = match world.cannot {
            Cannot::No => false,
            Cannot::Time => !self.has(Clause::WhateverItsTime),
            Cannot::Size => !self.has(Clause::WhateverItsSize),
            Cannot::Room => !self.has(Clause::EvenWithoutRoom),
        };
        let too_high = !self.has(Clause::NotOnlyTheNext) && block.height() > world.store.soft.height() + 1;
        let awaited = &mut world.memory.awaited;
        if overlooked || too_high || awaited.has(block) {
            return;
        }
        if !self.has(Clause::NotOnlyTheHighest) {
            match awaited.iter().last() {
                Some(highest) if highest.height() >= block.height() => return,
                _ => *awaited = Set::EMPTY,
            }
        }
        if awaited.len() < self.law.room {
            awaited.insert(block);
        } else {
            world.memory.overflowed = self.has(Clause::FullMeansWait);
        }
    }

    /// Stores what waited for what is there now, and forgets what need not be remembered, so that states which do not differ are
    /// the same.
    pub fn tidy(&self, mut world: World) -> Outcome {
        while let Some(next) = world.memory.awaited.iter().find(|block| self.may_store(&world, *block)) {
            self.take(&mut world, next)?;
        }
        let ours = world.ours();
        let known = world.memory.known;
        let above = |block: &Block| block.height() > ours.soft.height();
        let rules = self.law.rules;
        let waits = |block: &Block| stand(rules, &ours, *block, known).is_waited_for(rules);
        world.memory.awaited = world.memory.awaited.iter().filter(above).filter(waits).collect();
        if world.memory.overflowed && world.memory.awaited.len() < self.law.room {
            // What was left out has to be told again.
            self.ask_again(&mut world, Clause::FullMeansWait);
        }
        self.settle_guard(&mut world);
        let tops = world.memory.awaited.iter().chain([world.guard.last]);
        let walked = tops.fold(Set::EMPTY, |walked, top| walked.or(Set::chain(top)));
        world.memory.known = known.and(walked);
        Self::tidy_told(&mut world);
        Ok(world)
    }

    /// Only what tells of a block that no guard knows of counts.
    fn tidy_told(world: &mut World) {
        let unguarded = world.unguarded;
        world.told = world.told.iter().filter(|told| !unguarded.and(Set::chain(*told)).is_empty()).collect();
    }

    /// The guard falls where DA decided against what it names.
    fn settle_guard(&self, world: &mut World) {
        let last = world.guard.last;
        let is_here = world.ours().has(last) || last.height() < world.store.tail;
        if last == Block::ROOT || is_here || world.store.halt != Halt::No || world.memory.signing.is_some() {
            return;
        }
        let counts = match () {
            () if !self.has(Clause::WordFreesNothing) => By::Word,
            () if !self.has(Clause::MismatchFreesNothing) => By::Name,
            () => By::Da,
        };
        let frees = frees_guard(self.law.rules, &world.ours(), last, world.memory.known, counts);
        if frees && self.has(Clause::DisownedGuardStopsNobody) {
            world.guard.last = world.store.soft;
            world.interrupted = false;
            self.ask_again(world, Clause::AsksAfterTheGuardFell);
        }
    }

    /// Stores the block on top; that it was taken back once counts no longer.
    fn append(&self, world: &mut World, block: Block) {
        world.store.soft = block;
        world.forgiven.remove(block);
        for lists in [&mut world.store.lists, &mut world.guard.lists, &mut world.memory.unwritten] {
            lists.owed.remove(block);
            if self.has(Clause::LeavesTheListWhenStored) {
                lists.remove(block);
            }
        }
    }

    /// Peers have to be asked for their heads anew.
    fn ask_again(&self, world: &mut World, why: Clause) {
        world.memory.heard = !self.has(why) && (why == Clause::AsksAfterAStart || self.has_heard());
        world.memory.waited = false;
        world.memory.overflowed = false;
        world.told = Set::EMPTY;
        for peer in world.peers.iter_mut().flatten() {
            peer.tried = false;
            peer.answered = Answer::No;
            if let Some(flying) = &mut peer.on_its_way {
                flying.answer = Answer::Stale;
            }
        }
    }

    /// The node starts, from what is on disk.
    pub fn start(&self, mut world: World) -> Outcome {
        world.interrupted |= world.memory.signing.is_some();
        world.memory = super::state::Memory::default();
        // Whatever is stored was signed; what is given up already is no loss.
        let alive = |block: &Block| !Set::chain(*block).iter().any(|below| world.ours().lists.decided.has(below));
        let soft = world.store.soft;
        let top = (0..=soft.height()).rev().map(|height| soft.at(height)).find(alive).unwrap_or(Block::ROOT);
        if world.guard.last.is_on(top) && self.has(Clause::StartRaisesTheGuard) {
            world.guard.last = top;
            world.unguarded = world.unguarded.without(Set::chain(top));
        }
        if !self.has(Clause::ListIsDurable) {
            for lists in [&mut world.store.lists, &mut world.guard.lists] {
                *lists = Lists { owed: lists.owed, ..Lists::default() };
            }
        }
        for peer in world.peers.iter_mut().flatten() {
            peer.connected = false;
            peer.on_its_way = None;
        }
        self.ask_again(&mut world, Clause::AsksAfterAStart);
        self.tidy(world)
    }

    // ---- Signing -------------------------------------------------------------------------------------------------

    /// Whether peers were heard since they had to be asked.
    pub fn has_heard(&self) -> bool {
        let memory = &self.world.memory;
        if memory.heard || memory.waited || (self.world.guard.last == Block::ROOT && !self.has(Clause::NeverSignedToo))
        {
            return true;
        }
        !must_wait(&self.round())
    }

    /// What has become of the questions for heads since they had to be asked.
    fn round(&self) -> Round {
        let book = self.has(Clause::TheBookCounts);
        let is_known = |peer: &Peer| peer.connected || (peer.in_book && book);
        let answered = |peer: &Peer| match peer.answered {
            Answer::No => false,
            Answer::Stale => !self.has(Clause::SentSinceThen),
            Answer::Fresh => true,
        };
        let is_tried = |peer: &Peer| peer.tried || peer.connected || answered(peer);
        let somebody = self.world.peers().any(is_known) || !self.has(Clause::NobodyKnownNoWait);
        let tried = self.world.peers().filter(|peer| peer.in_book && book).all(is_tried);
        let any = self.world.peers().any(answered);
        let heard = self.world.peers().filter(|peer| peer.connected && answered(peer)).count();
        let connected = self.world.peers().filter(|peer| peer.connected).count();
        Round {
            age: if self.world.memory.waited { PATIENCE } else { Duration::ZERO },
            known: if somebody { Acquaintance::Somebody } else { Acquaintance::Nobody },
            book: if tried || !self.has(Clause::EveryPeerOfTheBook) { Book::Tried } else { Book::BeingTried },
            connected: if self.has(Clause::EveryConnectedPeer) { connected } else { heard },
            heard,
            answers: if any || !self.has(Clause::AtLeastOneAnswers) { Answers::Somebodys } else { Answers::Nobodys },
        }
    }

    fn guard_stops(&self, block: Block) -> bool {
        let (last, soft) = (self.world.guard.last, self.world.store.soft);
        if last == Block::ROOT || last == block {
            return false;
        }
        last.height() > soft.height() || (!last.is_on(soft) && last.height() >= self.world.store.tail)
    }

    /// Whether this block, which is the next one, may be made now; that it is asked for now, or only stored.
    fn nothing_is_in_its_way(&self) -> bool {
        let World { store, memory, .. } = self.world;
        let waits = self.has(Clause::WaitsForWhatIsAhead) && (!memory.awaited.is_empty() || memory.overflowed);
        store.halt == Halt::No && store.veto == Block::ROOT && !waits
    }

    pub fn may_sign(&self, block: Block) -> bool {
        block.parent() == self.world.store.soft
            && self.world.memory.signing.is_none()
            && self.nothing_is_in_its_way()
            && !self.guard_stops(block)
            && self.has_heard()
    }

    pub fn may_sign_anything(&self) -> bool {
        self.world.store.soft.children().any(|block| self.may_sign(block))
    }

    /// The blocks that a host could ask for: one that was signed already, and one that was not.
    pub fn proposals(&self) -> impl Iterator<Item = Block> {
        let new = self.world.store.soft.children().find(|block| !self.world.signed.has(*block));
        self.world.store.soft.children().filter(move |block| self.world.signed.has(*block) || Some(*block) == new)
    }

    /// The block is signed, and stored with the guard.
    pub fn publish(&self, block: Block) -> Outcome {
        let mut world = *self.world;
        world.guard.last = block;
        self.store_own(world, block)
    }

    fn store_own(&self, mut world: World, block: Block) -> Outcome {
        super::promises::may_have_signed(&world, block)?;
        world.memory.signing = None;
        world.signed.insert(block);
        world.unguarded.remove(block);
        world.interrupted = false;
        world.out.insert(block);
        self.append(&mut world, block);
        self.tidy(world)
    }

    pub fn ask_signer(&self, block: Block) -> World {
        let mut world = *self.world;
        world.memory.signing = Some((block, world.guard.last));
        world.guard.last = block;
        world
    }

    pub fn signer_answers(&self) -> Outcome {
        let mut world = *self.world;
        let Some((block, before)) = world.memory.signing else { return Ok(world) };
        if block.parent() == world.store.soft && self.nothing_is_in_its_way() {
            return self.store_own(world, block);
        }
        world.memory.signing = None;
        if self.has(Clause::UnusedSignaturePutsBack) {
            world.guard.last = before;
            self.ask_again(&mut world, Clause::AsksAfterTheGuardFell);
        }
        self.tidy(world)
    }

    // ---- DA ------------------------------------------------------------------------------------------------------

    /// The next block that DA decided.
    pub fn scan_da(&self) -> Option<Outcome> {
        let mut world = *self.world;
        let height = world.store.hard + 1;
        if height > world.da.height() || world.store.halt != Halt::No || world.store.tail > 1 {
            return None;
        }
        let winner = world.da.at(height);
        if world.store.soft.height() < height {
            let disowned = self.stand(winner).is_disowned() && !self.has(Clause::UnlessDaGivesIt);
            if disowned || world.cannot != Cannot::No {
                return None;
            }
            world.store.veto = if world.store.veto.height() == height { Block::ROOT } else { world.store.veto };
            self.append(&mut world, winner);
        } else if !winner.is_on(world.store.soft) {
            world.store.halt = Halt::Diverged(world.store.soft.at(height));
            return Some(Ok(world));
        }
        world.store.hard = height;
        Some(self.tidy(world))
    }

    pub fn mismatch(&self) -> World {
        let mut world = *self.world;
        world.store.halt = Halt::Mismatch(world.store.soft.at(world.store.hard + 1));
        world
    }

    /// Takes back everything from this block on.
    fn retract(world: &mut World, from: Block) -> Set {
        let taken = Set::chain(world.store.soft).iter().filter(|block| block.height() >= from.height()).collect();
        world.store.soft = from.parent();
        taken
    }

    pub fn reject(&self, block: Block) -> Outcome {
        let mut world = *self.world;
        Self::retract(&mut world, block);
        world.store.veto = block;
        self.ask_again(&mut world, Clause::AsksAfterSoftFell);
        self.tidy(world)
    }

    // ---- Operators -----------------------------------------------------------------------------------------------

    pub fn abandon(&self) -> Option<Outcome> {
        let mut world = *self.world;
        let (ours, by_names) = match world.store.halt {
            Halt::No => return None,
            Halt::Diverged(ours) => (ours, false),
            Halt::Mismatch(ours) => (ours, true),
        };
        let taken = if world.ours().has(ours) { Self::retract(&mut world, ours) } else { Set::EMPTY };
        world.store.halt = Halt::No;
        world.store.veto = Block::ROOT;
        let listed = if by_names {
            Lists { named: taken, ..Lists::default() }
        } else {
            Lists { decided: taken, ..Lists::default() }
        };
        let listed = if self.has(Clause::ListOfTheAbandoned) { listed } else { Lists::default() };
        self.list(&mut world, Lists { owed: taken, ..listed });
        if !by_names {
            world.forgiven.insert(ours);
        }
        let last = world.guard.last;
        let dead = taken.has(last);
        let frees = (dead || !self.has(Clause::AbandonFreesOnlyTheDead))
            && (!by_names || !self.has(Clause::MismatchFreesNothing));
        if last != Block::ROOT && frees {
            world.guard.last = world.store.soft;
        }
        self.ask_again(&mut world, Clause::AsksAfterSoftFell);
        Some(self.tidy(world))
    }

    fn list(&self, world: &mut World, more: Lists) {
        let owed = Lists { owed: more.owed, ..Lists::default() };
        let now = if self.has(Clause::ListInTheSameCommit) { more } else { owed };
        let beside_guard = if self.has(Clause::CopyBesideTheGuard) { now } else { owed };
        world.store.lists = world.store.lists.or(now);
        world.guard.lists = world.guard.lists.or(beside_guard);
        if !self.has(Clause::ListInTheSameCommit) {
            world.memory.unwritten = world.memory.unwritten.or(more);
        }
    }

    pub fn write_list(&self) -> World {
        let mut world = *self.world;
        world.store.lists = world.store.lists.or(world.memory.unwritten);
        world.guard.lists = world.guard.lists.or(world.memory.unwritten);
        world.memory.unwritten = Lists::default();
        world
    }

    pub fn disown(&self, block: Block) -> Option<Outcome> {
        let mut world = *self.world;
        let soft = world.store.soft;
        let of_ours = matches!(self.stand(block), Stand::On(ours) if ours == soft);
        if !self.has(Clause::OperatorDisowns) || (of_ours && self.has(Clause::NeverADescendantOfOurs)) {
            return None;
        }
        let said = [block].into_iter().collect();
        self.list(&mut world, Lists { said, owed: said, ..Lists::default() });
        if !of_ours {
            // What is told by telling of this block alone is dealt with, too.
            world.forgiven.insert(block);
            world.told = world.told.without(world.told.from(block));
        }
        Some(self.tidy(world))
    }

    /// An operator, who knows no better, says that what is stored is what was signed.
    pub fn assert_signed(&self) -> Option<Outcome> {
        let mut world = *self.world;
        let (last, soft) = (world.guard.last, world.store.soft);
        if last == Block::ROOT || world.ours().has(last) || last.height() < world.store.tail {
            return None;
        }
        world.guard.last = soft;
        world.interrupted = false;
        world.unguarded = world.unguarded.or(world.signed.without(Set::chain(soft)));
        self.ask_again(&mut world, Clause::AsksAfterTheGuardFell);
        Some(self.tidy(world))
    }

    pub fn lift_veto(&self) -> Outcome {
        let mut world = *self.world;
        world.store.veto = Block::ROOT;
        self.tidy(world)
    }

    /// Nothing above can be stored: the model ends there.
    pub fn is_at_the_end(&self) -> bool {
        self.world.store.soft.height() == HEIGHTS
    }
}
