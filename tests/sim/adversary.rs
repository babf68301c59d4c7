//! What the adversaries do of their own: what they gossip, what they pass on, and the second branch of whoever stole the key.
//! What they answer when they are asked is in [`byzantine_answers`].

use std::collections::BTreeSet;
use std::rc::Rc;

use blocksyncd::block::{BlockId, Hash, Height};
use blocksyncd::verify::{AuthenticBlock, Fault};
use bytes::Bytes;

use super::byzantine_answers::{self, Behaviour};
use super::da::Poster;
use super::dice::Purpose;
use super::faults::Twin;
use super::network::{Message, MessageId};
use super::tally::State;
use super::world::World;

#[derive(Debug)]
pub struct Adversary {
    pub behaviour: Behaviour,
    pub seen: BTreeSet<MessageId>,
    pub messages: u64,
}

/// What whoever stole the key signs.
#[derive(Debug, Default)]
pub struct Fork {
    /// What it has in common with the main branch.
    pub base: Vec<AuthenticBlock>,
    pub blocks: Vec<AuthenticBlock>,
}

/// Which of the two branches beside the main one.
const SECOND: usize = 0;
const THIRD: usize = 1;

impl World {
    pub fn is_alive(&self, index: usize) -> bool {
        self.nodes.get(index).is_none_or(|node| node.life().is_some())
    }

    /// `None` for an honest node.
    pub fn behaviour_of(&self, index: usize) -> Option<Behaviour> {
        self.adversaries.get(index.checked_sub(self.nodes.len())?).map(|adversary| adversary.behaviour)
    }

    fn adversaries_have_stopped(&self) -> bool {
        self.healed && !self.plan.adversaries_persist
    }

    pub fn has_forgers(&self) -> bool {
        self.adversaries.iter().any(|adversary| {
            matches!(
                adversary.behaviour,
                Behaviour::Copies | Behaviour::Forges | Behaviour::FalseHead | Behaviour::Garbage
            )
        })
    }

    /// The blocks that an adversary builds its lies on.
    pub fn branch_of(&mut self, index: usize) -> Rc<Vec<AuthenticBlock>> {
        let is_third = self.plan.third.is_some() && index == self.nodes.len() + THIRD;
        let fork = &self.forks[if is_third { THIRD } else { SECOND }];
        if self.behaviour_of(index) == Some(Behaviour::Twin) && !fork.blocks.is_empty() {
            return Rc::new(fork.base.iter().chain(&fork.blocks).cloned().collect());
        }
        self.main_branch()
    }

    /// What the sequencer's node has, and what it had below its tail: the branch that its top ends. It is asked for often, and so
    /// kept until there is another top.
    pub fn main_branch(&mut self) -> Rc<Vec<AuthenticBlock>> {
        let top = self.nodes[self.publisher].disk.image.heads.top().map(|top| top.id);
        let kept = self.main_branch.last().map(AuthenticBlock::id);
        if top != kept {
            let block = top.and_then(|top| self.chain.signed(top.hash));
            match block {
                Some(next) if next.parent_hash() == kept.map(|kept| kept.hash) => {
                    Rc::make_mut(&mut self.main_branch).push(next.clone());
                }
                top => {
                    let down = std::iter::successors(top, |block| self.chain.signed(block.parent_hash()?));
                    let mut branch: Vec<AuthenticBlock> = down.cloned().collect();
                    branch.reverse();
                    self.main_branch = Rc::new(branch);
                }
            }
        }
        Rc::clone(&self.main_branch)
    }

    pub fn behaviour_now(&self, index: usize) -> Behaviour {
        let behaviour = self.behaviour_of(index).unwrap_or(Behaviour::WeakRelay);
        if self.adversaries_have_stopped() && behaviour != Behaviour::Twin { Behaviour::WeakRelay } else { behaviour }
    }

    pub fn adversary_receives(&mut self, index: usize, from: usize, message: &Message) {
        let behaviour = self.behaviour_now(index);
        let adversary = index - self.nodes.len();
        if !behaviour.forwards() || !self.adversaries[adversary].seen.insert(message.id) {
            return;
        }
        let sound = self.chain.truth(&message.bytes);
        match (behaviour, &sound) {
            // As a Go node does: what does not even decode goes nowhere.
            (Behaviour::WeakRelay, Err(fault)) if !matches!(fault, Fault::BadSignature) => return,
            // Whoever must not be blamed checks what it passes on.
            (_, Err(_))
                if self
                    .behaviour_of(index)
                    .is_some_and(|behaviour| behaviour != Behaviour::WeakRelay && !behaviour.deserves_bans()) =>
            {
                return;
            }
            (Behaviour::Copies, Ok(block)) => {
                let copy = byzantine_answers::copy(block, self.dice.of(Purpose::Lies, index));
                self.adversary_gossips(adversary, copy);
            }
            _ => {}
        }
        self.spread(index, Some(from), message);
    }

    fn adversary_gossips(&mut self, adversary: usize, bytes: Bytes) {
        let index = self.nodes.len() + adversary;
        self.adversaries[adversary].messages += 1;
        let message = Message { id: (index, self.adversaries[adversary].messages), bytes };
        self.spread(index, None, &message);
    }

    pub fn adversaries_turn(&mut self) {
        if self.adversaries_have_stopped() {
            return;
        }
        let branch = self.main_branch();
        let Some(top) = branch.last() else { return };
        for adversary in 0..self.adversaries.len() {
            let index = self.nodes.len() + adversary;
            let rng = self.dice.of(Purpose::Lies, index);
            let bytes = match self.adversaries[adversary].behaviour {
                Behaviour::Replays if rng.bool() => branch[rng.usize(0..branch.len())].block().bytes().clone(),
                // Whatever was ever signed, of any branch.
                Behaviour::Replays => match self.chain.any_public(rng) {
                    Some(block) => block.block().bytes().clone(),
                    None => continue,
                },
                Behaviour::Copies => byzantine_answers::copy(&branch[rng.usize(0..branch.len())], rng),
                Behaviour::Flaps => {
                    self.net.neighbours(index).into_iter().for_each(|peer| self.disconnect(index, peer));
                    continue;
                }
                Behaviour::ForgesRarely if rng.f64() > 0.02 => continue,
                Behaviour::Forges | Behaviour::ForgesRarely => {
                    self.chain.forge(top.height().next(), top.hash(), &Bytes::from_static(b"forged"))
                }
                Behaviour::FalseHead => {
                    let height = Height::MIN.plus(rng.u64(1_000..=1 << 40));
                    self.chain.forge(height, top.hash(), &Bytes::from_static(b"far"))
                }
                Behaviour::Garbage => (0..rng.usize(0..150)).map(|_| rng.u8(..)).collect(),
                _ => continue,
            };
            self.adversary_gossips(adversary, bytes);
        }
    }

    pub fn fork_height(&self) -> Option<Height> {
        self.plan.twin.map(|twin| self.chain.initial_height().plus(twin.fork))
    }

    /// Whoever holds a stolen key signs what comes next on its branch.
    pub fn twins_turn(&mut self) {
        for _ in 0..self.plan.twin_burst {
            self.twin_signs(SECOND, self.plan.twin);
            self.twin_signs(THIRD, self.plan.third);
        }
    }

    fn twin_signs(&mut self, which: usize, twin: Option<Twin>) {
        let Some(twin) = twin else { return };
        if self.forks[which].blocks.len() as u64 >= twin.length || self.last_to_publish.is_some() {
            return;
        }
        let parent = match self.forks[which].blocks.last() {
            Some(last) => last.clone(),
            None if self.healed => return,
            None => {
                let Some(base) = self.base_of(which, twin) else { return };
                self.forks[which].base = base;
                self.forks[which].base.last().expect("it ends below the fork").clone()
            }
        };
        let payload = Bytes::copy_from_slice(&parent.hash().0[..self.plan.payload_bytes.min(32)]);
        let time = parent.time_unix_nanos() + 1_000_000;
        let mut block = self.chain.make(Some(parent.id()), time + 2 * which as u64, &payload);
        if self.twins.contains(&block.hash()) {
            block = self.chain.make(Some(parent.id()), time + 2 * which as u64 + 1, &payload);
        }
        if which == SECOND {
            self.twins.insert(block.hash());
        } else {
            self.tally.count(State::ThirdBranch);
        }
        self.trace.note(self.now, format_args!("the twin {which} signs {:?}", block.id()));
        self.forks[which].blocks.push(block.clone());
        self.chain.publish(block.hash());
        self.adversary_gossips(which, block.block().bytes().clone());
        self.post_to_da(&block, [Poster::Twin, Poster::Third][which]);
    }

    /// Whoever stole the key signs a block on one that nobody has, and shows it.
    pub fn orphan_is_signed(&mut self) {
        let Some(soft) = self.nodes[self.publisher].disk.image.heads.soft else { return };
        let rng = self.dice.common(Purpose::Orphans);
        let below = BlockId { height: soft.id.height.plus(rng.u64(1..=5)), hash: Hash::of(&rng.u64(..).to_le_bytes()) };
        let block = self.chain.make(Some(below), soft.time_unix_nanos + 1_000_000, &Bytes::from_static(b"orphan"));
        self.trace.note(self.now, format_args!("the twin signs {:?} on {below:?}, which nobody has", block.id()));
        self.tally.count(State::Orphan);
        self.adversary_gossips(SECOND, block.block().bytes().clone());
    }

    /// What a branch stands on, once there is as much: the third one stands on the second one where that is there already, and this
    /// is drawn.
    fn base_of(&mut self, which: usize, twin: Twin) -> Option<Vec<AuthenticBlock>> {
        let fork = self.chain.initial_height().plus(twin.fork);
        let below = |block: &&AuthenticBlock| block.height() < fork;
        let reaches = |base: &Vec<AuthenticBlock>| base.last().is_some_and(|last| last.height().next() == fork);
        if which == THIRD && self.dice.common(Purpose::Third).bool() {
            let second = &self.forks[SECOND];
            let base = second.base.iter().chain(&second.blocks).filter(below).cloned().collect();
            if reaches(&base) {
                return Some(base);
            }
        }
        Some(self.main_branch().iter().filter(below).cloned().collect()).filter(reaches)
    }
}
