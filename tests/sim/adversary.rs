//! What the adversaries do of their own: what they gossip, what they pass on, and the second branch of whoever stole the key.
//! What they answer when they are asked is in [`byzantine_answers`].

use std::collections::BTreeSet;
use std::rc::Rc;

use blocksyncd::block::Height;
use blocksyncd::verify::{AuthenticBlock, Fault};
use bytes::Bytes;

use super::byzantine_answers::{self, Behaviour};
use super::dice::Purpose;
use super::network::{Message, MessageId};
use super::world::World;

#[derive(Debug)]
pub struct Adversary {
    pub behaviour: Behaviour,
    pub seen: BTreeSet<MessageId>,
    pub messages: u64,
}

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
        if self.behaviour_of(index) == Some(Behaviour::Twin) && !self.twin_branch.is_empty() {
            return Rc::new(self.twin_base.iter().chain(&self.twin_branch).cloned().collect());
        }
        self.main_branch()
    }

    /// What the sequencer's node has, and what it had below its tail: the branch that its top ends. It is asked for often, and so
    /// kept until there is another top.
    pub fn main_branch(&mut self) -> Rc<Vec<AuthenticBlock>> {
        let top = self.nodes[0].disk.image.heads.top().map(|top| top.id);
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

    /// Whoever holds the stolen key signs the next block of its branch.
    pub fn twin_turn(&mut self) {
        let (Some(twin), Some(fork)) = (self.plan.twin, self.fork_height()) else { return };
        if self.twin_branch.len() as u64 >= twin.length || self.last_to_publish.is_some() {
            return;
        }
        let parent = match self.twin_branch.last() {
            Some(last) => last.clone(),
            None if self.healed => return,
            None => {
                let base: Vec<_> = self.main_branch().iter().filter(|block| block.height() < fork).cloned().collect();
                let Some(below) = base.last().filter(|below| below.height().next() == fork).cloned() else { return };
                self.twin_base = base;
                below
            }
        };
        let payload = Bytes::copy_from_slice(&parent.hash().0[..self.plan.payload_bytes.min(32)]);
        let mut block = self.chain.make(Some(parent.id()), parent.time_unix_nanos() + 1_000_000, &payload);
        if !self.twins.insert(block.hash()) {
            block = self.chain.make(Some(parent.id()), parent.time_unix_nanos() + 1_000_001, &payload);
            self.twins.insert(block.hash());
        }
        self.trace.note(self.now, format_args!("the twin signs {:?}", block.id()));
        self.twin_branch.push(block.clone());
        self.chain.publish(block.hash());
        self.adversary_gossips(0, block.block().bytes().clone());
        self.post_to_da(&block, true);
    }
}
