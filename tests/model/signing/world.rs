//! What can happen to the node, and how often.

use crate::explore::Model;
use crate::tree::{Block, Set};

use super::node::{Law, Node, Outcome};
use super::promises::{self, Futures};
use super::rules::Clause;
use super::state::{Answer, Backup, Cannot, Half, Halt, Lists, OnItsWay, Peer, Step, World};

/// What a part of the exploration is about: what there is no end of is bounded by [`super::state::Left`], in its roots.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope {
    /// How many blocks can be waited for.
    pub room: u32,
    pub da: bool,
    /// Answers are on their way for a while.
    pub slow_answers: bool,
    /// The signer is outside, and takes its time.
    pub slow_signer: bool,
    /// Old blocks are repeated by anybody; else only peers say what they have.
    pub replays: bool,
}

pub struct Signing {
    pub law: Law,
    pub scope: Scope,
    futures: Futures,
}

type Visit<'a> = &'a mut dyn FnMut(Step, Outcome);

impl Model for Signing {
    type State = World;
    type Step = Step;

    fn steps(&self, world: &World, visit: Visit<'_>) {
        let node = self.at(world);
        let visit: Visit<'_> = &mut |step, next| {
            Self::tear(&node, &step, &next, visit);
            visit(step, next);
        };
        self.blocks(&node, visit);
        self.signer(&node, visit);
        self.da(&node, visit);
        for (index, peer) in world.peers.iter().enumerate() {
            if let Some(peer) = *peer {
                self.peer(&node, index, peer, visit);
            }
        }
        self.operator(&node, visit);
        Self::disk(&node, visit);
        self.weather(&node, visit);
        self.without_clauses(&node, visit);
    }

    fn check(&self, world: &World) -> Result<(), String> {
        self.futures.check(world)
    }
}

/// The same world with one of something less.
macro_rules! spend {
    ($world:expr, $what:ident) => {
        $world.left.$what.checked_sub(1).map(|left| {
            let mut world = *$world;
            world.left.$what = left;
            world
        })
    };
}

impl Signing {
    pub fn new(law: Law, scope: Scope) -> Self {
        Self { law, scope, futures: Futures::new(law) }
    }

    fn at<'a>(&self, world: &'a World) -> Node<'a> {
        self.law.on(world)
    }

    fn blocks(&self, node: &Node<'_>, visit: Visit<'_>) {
        let world = node.world;
        if self.scope.replays {
            for block in world.out.iter().filter(|block| !block.is_on(world.store.soft)) {
                visit(Step::Hear(block), node.hear(block));
            }
        }
        let unknown = world.memory.awaited.iter().chain([world.guard.last]);
        let unknown: Set = unknown
            .filter_map(|block| match node.stand(block) {
                super::rules::Stand::Unknown(block) => Some(block),
                _ => None,
            })
            .collect();
        for block in unknown.and(world.out).iter() {
            visit(Step::Learn(block), node.learn(block));
        }
    }

    fn signer(&self, node: &Node<'_>, visit: Visit<'_>) {
        if node.world.memory.signing.is_some() {
            return visit(Step::SignerAnswers, node.signer_answers());
        }
        let Some(left) = node.world.left.signatures.checked_sub(1) else { return };
        for block in node.proposals().filter(|block| node.may_sign(*block)) {
            let spend = |mut next: World| {
                next.left.signatures = left;
                next
            };
            if self.scope.slow_signer {
                visit(Step::AskSigner(block), Ok(spend(node.ask_signer(block))));
            } else {
                visit(Step::Publish(block), node.publish(block).map(spend));
            }
        }
    }

    fn da(&self, node: &Node<'_>, visit: Visit<'_>) {
        let world = node.world;
        if let Some(mismatched) = spend!(world, mismatches)
            && world.store.halt == Halt::No
            && world.store.soft.height() > world.store.hard
        {
            visit(Step::NameMismatches, Ok(self.at(&mismatched).mismatch()));
        }
        if !self.scope.da {
            return;
        }
        for block in world.da.children().filter(|block| world.out.has(*block)) {
            visit(Step::DaTakes(block), Ok(World { da: block, ..*world }));
        }
        if let Some(next) = node.scan_da() {
            visit(Step::DaIsScanned, next);
        }
    }

    fn peer(&self, node: &Node<'_>, index: usize, peer: Peer, visit: Visit<'_>) {
        let world = node.world;
        let with = |world: &World, change: &dyn Fn(&mut Peer)| {
            let mut next = *world;
            if let Some(peer) = &mut next.peers[index] {
                change(peer);
            }
            next
        };
        if !peer.connected && peer.in_book && (!peer.tried || peer.answers) {
            let dialled = |peer: &mut Peer| {
                peer.tried = true;
                peer.connected = peer.answers;
            };
            visit(Step::Dial(index), Ok(with(world, &dialled)));
        }
        if peer.connected && peer.answers && peer.answered != Answer::Fresh {
            self.answer(node, index, peer, visit);
        }
        if let Some(flying) = peer.on_its_way {
            let arrived = with(world, &|peer| {
                peer.on_its_way = None;
                peer.answered = flying.answer;
            });
            visit(Step::AnswerArrives(index), self.hear_head(&arrived, flying.head));
        }
        if let Some(followed) = spend!(world, followed) {
            let below = |block: &Block| block.parent() == peer.head;
            for block in world.out.iter().filter(below) {
                visit(Step::PeerFollows(index, block), Ok(with(&followed, &|peer| peer.head = block)));
            }
            if world.da.fork(peer.head) != peer.head && world.da.fork(peer.head) != world.da {
                visit(Step::PeerFollows(index, world.da), Ok(with(&followed, &|peer| peer.head = world.da)));
            }
        }
        if let Some(turned) = spend!(world, turns) {
            let step = if peer.answers { Step::PeerFallsSilent(index) } else { Step::PeerSpeaksAgain(index) };
            visit(step, Ok(with(&turned, &|peer| peer.answers = !peer.answers)));
            if peer.connected {
                visit(Step::PeerLeaves(index), Ok(with(&turned, &|peer| peer.connected = false)));
            } else if !peer.in_book {
                visit(Step::PeerConnects(index), Ok(with(&turned, &|peer| peer.connected = true)));
            }
        }
    }

    fn hear_head(&self, world: &World, head: Block) -> Outcome {
        if head == Block::ROOT { Ok(*world) } else { self.at(world).hear(head) }
    }

    fn answer(&self, node: &Node<'_>, index: usize, peer: Peer, visit: Visit<'_>) {
        let mut next = *node.world;
        let Some(answering) = &mut next.peers[index] else { return };
        if !self.scope.slow_answers {
            answering.answered = Answer::Fresh;
            visit(Step::PeerAnswers(index), self.hear_head(&next, peer.head));
        } else if answering.on_its_way.is_none() {
            answering.on_its_way = Some(OnItsWay { head: peer.head, answer: Answer::Fresh });
            visit(Step::AnswerIsSent(index), Ok(next));
        }
    }

    fn operator(&self, node: &Node<'_>, visit: Visit<'_>) {
        let Some(spent) = spend!(node.world, commands) else { return };
        for (step, next) in promises::commands(&self.at(&spent)) {
            visit(step, next);
        }
    }

    fn disk(node: &Node<'_>, visit: Visit<'_>) {
        let world = node.world;
        if let Some(crashed) = spend!(world, crashes) {
            visit(Step::Crash, node.start(crashed));
        }
        if let Some(mut next) = spend!(world, backups) {
            let slot = usize::from(world.left.backups - 1);
            next.backups[slot] = Some(Backup {
                store: world.store,
                guard: world.guard,
                forgiven: world.forgiven,
                guarded: world.signed.without(world.unguarded),
                interrupted: world.interrupted || world.memory.signing.is_some(),
            });
            visit(Step::PutAside(slot), Ok(next));
        }
        let Some(restored) = spend!(world, restores) else { return };
        let choices = [None, Some(0), Some(1)];
        for (store, guard) in choices.iter().flat_map(|store| choices.iter().map(move |guard| (*store, *guard))) {
            if let Some(next) = restore(restored, store, guard) {
                visit(Step::Restore { store, guard }, node.start(next));
            }
        }
    }

    /// The process ends when only half of what a step writes is written.
    fn tear(node: &Node<'_>, step: &Step, next: &Outcome, visit: Visit<'_>) {
        let (Some(torn), Ok(next)) = (spend!(node.world, torn), next) else { return };
        if next.store == torn.store || next.guard == torn.guard || matches!(step, Step::Restore { .. }) {
            return;
        }
        let interrupted = torn.interrupted || next.guard.last != torn.guard.last;
        let guard = World { guard: next.guard, interrupted, forgiven: torn.forgiven.or(next.forgiven), ..torn };
        visit(Step::Torn(Half::Guard, Box::new(step.clone())), node.start(guard));
        let World { store, signed, unguarded, forgiven, out, .. } = *next;
        let store = World { store, signed, unguarded, forgiven, out, ..torn };
        visit(Step::Torn(Half::Store, Box::new(step.clone())), node.start(store));
    }

    fn weather(&self, node: &Node<'_>, visit: Visit<'_>) {
        let world = node.world;
        let nobody_left = world.peers().all(|peer| {
            let outstanding = peer.connected && peer.answers && peer.answered != Answer::Fresh;
            let to_be_dialled = peer.in_book && !peer.connected && !peer.tried;
            !outstanding && !to_be_dialled
        });
        if nobody_left && !world.memory.waited && !node.has_heard() && self.law.rules.has(Clause::OrHalfAMinute) {
            let mut next = *world;
            next.memory.waited = true;
            visit(Step::HalfAMinutePasses, Ok(next));
        }
        if let Some(vetoing) = spend!(world, vetoes)
            && world.store.veto == Block::ROOT
        {
            for block in Set::chain(world.store.soft).iter().filter(|block| block.height() > world.store.hard) {
                visit(Step::HostRejects(block), self.at(&vetoing).reject(block));
            }
        }
        if world.cannot != Cannot::No {
            visit(Step::TroubleEnds, node.tidy(World { cannot: Cannot::No, ..*world }));
        } else if let Some(troubled) = spend!(world, troubles) {
            for cannot in [Cannot::Time, Cannot::Size, Cannot::Room] {
                visit(Step::Trouble(cannot), Ok(World { cannot, ..troubled }));
            }
        }
    }

    /// What can happen only where a clause is missing.
    fn without_clauses(&self, node: &Node<'_>, visit: Visit<'_>) {
        let world = node.world;
        if !self.law.rules.has(Clause::NoPatience) {
            let mut next = *world;
            next.memory.awaited = Set::EMPTY;
            visit(Step::LosesPatience, node.tidy(next));
        }
        if !self.law.rules.has(Clause::NoAbsence) {
            for block in world.memory.awaited.iter() {
                let lacks = |peer: &Peer| peer.connected && peer.answers && !block.is_on(peer.head);
                if world.peers().any(lacks) {
                    let mut next = *world;
                    next.memory.awaited.remove(block);
                    visit(Step::IsToldOfAbsence(block), node.tidy(next));
                }
            }
        }
        if world.memory.unwritten != Lists::default() {
            visit(Step::WritesTheList, Ok(node.write_list()));
        }
    }
}

/// The store of one backup beside the guard of another.
fn restore(mut world: World, store: Option<usize>, guard: Option<usize>) -> Option<World> {
    if (store, guard) == (None, None) {
        return None;
    }
    if let Some(slot) = store {
        let backup = world.backups[slot]?;
        world.store = backup.store;
        world.forgiven = world.forgiven.or(backup.forgiven);
    }
    if let Some(slot) = guard {
        let backup = world.backups[slot]?;
        world.guard = backup.guard;
        world.unguarded = world.signed.without(backup.guarded);
        world.interrupted = backup.interrupted;
        world.forgiven = world.forgiven.or(backup.forgiven);
    }
    Some(world)
}
