//! What is promised of a key, whatever happens: that it never signs twice, and that it is never stopped for ever.

use std::cell::RefCell;
use std::collections::HashSet;

use crate::explore;
use crate::tree::Block;

use super::node::{Law, Node, Outcome};
use super::rules::{By, Clause, Ours, Rules, frees_guard, stand};
use super::state::{Answer, Cannot, Halt, Left, Lists, Peer, Step, World};

/// Whether the key may sign this block, whatever the rules say: it has signed no other one at its height but those that DA decided
/// against, that an operator took back, or of which neither the guard nor anybody that could be heard knows.
pub fn may_have_signed(world: &World, block: Block) -> Result<(), String> {
    let others = world.signed.iter().filter(|other| other.height() == block.height() && *other != block);
    for other in others {
        let da_decided = !world.da.fork(other).eq(&other) && world.da.fork(other) != world.da;
        let known_lost =
            world.unguarded.has(other) && world.told.from(other).is_empty() && nobody_more_could_be_heard(world);
        if !da_decided && !world.is_forgiven(other) && !known_lost {
            return Err(format!("the key signs {block:?}, and has signed {other:?}"));
        }
    }
    Ok(())
}

/// Everybody who could know was asked, or half a minute was waited: then what a guard has lost is lost.
fn nobody_more_could_be_heard(world: &World) -> bool {
    let asked = world.peers().all(|peer| match (peer.answered, peer.connected) {
        (Answer::Fresh, _) => true,
        (_, true) => false,
        (_, false) => !peer.in_book || peer.tried,
    });
    let nobody_known = !world.peers().any(|peer| peer.connected || peer.in_book);
    let any = world.peers().any(|peer| peer.answered == Answer::Fresh);
    world.memory.waited || nobody_known || (asked && any)
}

/// Of the world what counts for [`Futures`].
fn what_goes_on(world: &World) -> World {
    let mut world = World { left: Left::default(), cannot: Cannot::No, backups: [None, None], ..*world };
    for peer in world.peers.iter_mut().flatten() {
        *peer = Peer { in_book: true, answers: true, connected: false, tried: false, answered: Answer::No, ..*peer };
        peer.on_its_way = None;
    }
    world
}

/// How the world goes on from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Future {
    /// Everybody can be reached and says everything, walks end, and DA is read.
    AllIsTold,
    /// Nobody says anything for half a minute.
    Silence,
}

/// What comes of a world in the end.
#[derive(Debug, Default)]
pub struct Futures {
    law: Law,
    /// From these worlds the node comes to publish, as is known already; by their hashes.
    good: RefCell<HashSet<u64>>,
}

impl Futures {
    pub fn new(law: Law) -> Self {
        Self { law, good: RefCell::default() }
    }

    /// Whether the node comes to publish again: when everybody tells what they have, when nobody does, with an operator's help or
    /// without.
    pub fn check(&self, world: &World) -> Result<(), String> {
        let hash = explore::hash(&what_goes_on(world));
        if self.good.borrow().contains(&hash) {
            return Ok(());
        }
        for future in [Future::AllIsTold, Future::Silence] {
            self.check_future(world, future)?;
        }
        self.good.borrow_mut().insert(hash);
        Ok(())
    }

    fn check_future(&self, world: &World, future: Future) -> Result<(), String> {
        let settled = self.settle(world, future)?;
        let hash = explore::hash(&(what_goes_on(&settled), future));
        if self.good.borrow().contains(&hash) {
            return Ok(());
        }
        let node = self.law.on(&settled);
        if future == Future::AllIsTold {
            takes_what_is_told(&node)?;
        }
        if !node.is_at_the_end() && !node.may_sign_anything() {
            if let Some(why) = ought_to_go_on(&node) {
                return Err(format!("{future:?}, and {why}: yet nothing can be signed"));
            }
            if !self.has_way_out(settled, future)? {
                return Err(format!("{future:?}, and no operator can make it sign"));
            }
        }
        self.good.borrow_mut().insert(hash);
        Ok(())
    }

    fn settle(&self, world: &World, future: Future) -> Outcome {
        match future {
            Future::AllIsTold => told_all(self.law, world),
            Future::Silence => silence(self.law, world),
        }
    }

    /// Whether an operator can make it sign, by a few commands, where the world goes on like that after each.
    fn has_way_out(&self, settled: World, future: Future) -> Result<bool, String> {
        let mut known = vec![settled];
        let mut at = 0;
        while let Some(world) = known.get(at).copied() {
            at += 1;
            let node = self.law.on(&world);
            if node.is_at_the_end() || node.may_sign_anything() {
                return Ok(true);
            }
            let again = (Step::Crash, node.start(world));
            for (_, next) in commands(&node).into_iter().chain([again]) {
                let next = self.settle(&next?, future)?;
                if !known.contains(&next) {
                    known.push(next);
                }
            }
        }
        Ok(false)
    }
}

/// Where nothing stops the node it stores what DA decided, and what stands on its chain.
fn takes_what_is_told(node: &Node<'_>) -> Result<(), String> {
    let World { store, memory, da, out, .. } = node.world;
    if store.halt != Halt::No || store.veto != Block::ROOT || memory.signing.is_some() || store.tail > 1 {
        return Ok(());
    }
    if store.hard < da.height() {
        return Err(format!("DA decided on {da:?}, and it is never taken"));
    }
    let owed = node.world.owed();
    let alive = |block: &Block| !stand(Rules::default(), &owed, *block, memory.known).is_disowned();
    match store.soft.children().find(|block| out.has(*block) && alive(block)) {
        Some(block) => Err(format!("{block:?} stands on our chain, and is never taken")),
        None => Ok(()),
    }
}

/// Why no operator should be needed here.
fn ought_to_go_on(node: &Node<'_>) -> Option<&'static str> {
    let World { store, memory, guard, .. } = node.world;
    if store.halt != Halt::No || store.veto != Block::ROOT || memory.signing.is_some() {
        return None;
    }
    let owed = node.world.owed();
    let dead = |block| stand(Rules::default(), &owed, block, memory.known);
    let never_used = !node.world.signed.has(guard.last) && !node.world.interrupted;
    let guard_is_fine = guard.last == Block::ROOT
        || never_used
        || guard.last.is_on(store.soft)
        || frees_guard(Rules::default(), &owed, guard.last, memory.known, By::Da);
    let all_dead = memory.awaited.iter().all(|block| !dead(block).is_waited_for(Rules::default()));
    (guard_is_fine && all_dead).then_some("all that stands against it is dead")
}

/// Everybody can be reached and says everything, walks end, and DA is read.
fn told_all(law: Law, world: &World) -> Result<World, String> {
    let mut world = law.on(world).at_peace();
    loop {
        let before = world;
        if let Some(next) = law.on(&world).scan_da() {
            world = next?;
        }
        for block in world.out.iter() {
            world = law.on(&world).hear(block)?;
        }
        // What is asked for by its hash is given.
        let out = world.out;
        world.memory.known = world.memory.known.or(out);
        if world.memory.signing.is_some() {
            world = law.on(&world).signer_answers()?;
        }
        world = answered(law.on(&world).tidy(world)?);
        if world == before {
            return Ok(world);
        }
    }
}

fn answered(mut world: World) -> World {
    for peer in world.peers.iter_mut().flatten() {
        peer.answers = true;
        peer.connected = true;
        peer.tried = true;
        peer.on_its_way = None;
        peer.answered = Answer::Fresh;
    }
    world
}

/// Nobody says anything for half a minute.
fn silence(law: Law, world: &World) -> Outcome {
    let mut world = law.on(&law.on(world).at_peace()).signer_answers()?;
    for peer in world.peers.iter_mut().flatten() {
        peer.answers = false;
        peer.on_its_way = None;
    }
    world.memory.waited = law.rules.has(Clause::OrHalfAMinute);
    Ok(world)
}

impl World {
    /// Our chain, with the lists as they should be.
    fn owed(&self) -> Ours {
        let ours = self.ours();
        let said = ours.lists.said.or(self.taken_back().without(ours.lists.named));
        Ours { lists: Lists { said, ..ours.lists }, ..ours }
    }
}

impl Node<'_> {
    /// The same world without what keeps blocks out.
    fn at_peace(&self) -> World {
        World { cannot: Cannot::No, ..*self.world }
    }
}

/// What an operator can do, with the commands that there are.
pub fn commands(node: &Node<'_>) -> Vec<(Step, Outcome)> {
    let mut all = Vec::new();
    if node.world.memory.signing.is_some() {
        return all;
    }
    all.extend(node.abandon().map(|next| (Step::Abandon, next)));
    for block in node.world.memory.awaited.iter() {
        all.extend(node.disown(block).map(|next| (Step::Disown(block), next)));
    }
    all.extend(node.assert_signed().map(|next| (Step::AssertSigned(node.world.store.soft), next)));
    if node.world.store.veto != Block::ROOT {
        all.push((Step::LiftVeto, node.lift_veto()));
    }
    all
}
