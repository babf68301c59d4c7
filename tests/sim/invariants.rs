//! What must hold after every step, whatever goes wrong around it.
//!
//! Safety:
//! 1. `tail <= hard <= soft <= target`; hard never decreases, over crashes too; soft decreases only with a rising epoch.
//! 2. A node's hard block is the one that DA's order decides, so no two nodes ever disagree about one.
//! 3. Whatever honest nodes store, forward, serve or tell was signed by the sequencer, and linked.
//! 4. The target was signed by the sequencer.
//! 5. Our own block is told, broadcast and acknowledged only when it is on disk, and what was acknowledged stays there.
//! 6. An honest guard never lets two blocks of one height leave the process, except after an operator's word, or where DA has
//!    decided against the branch of the first one.
//! 7. No honest peer is ever blamed, and no sound message is ever rejected.
//! 8. No queue is above its bound.
//! 9. Nothing is pruned above hard, or that a consumer has not acknowledged, or that the operator wants kept: checked where
//!    it is written, in [`super::disk`].
//! 10. No peer is asked for the same range again and again.
//!
//! Liveness: once everything has healed all honest nodes, their hosts and DA agree within a bound, and everybody keeps as much
//! as its operator wants; who needs what nobody has any more says so.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use blocksyncd::block::{BlockId, Hash, Height};
use blocksyncd::sync::{
    Batch, BlockQuery, Change, DaEvidence, DaPosition, Fetch, HardWait, Heads, MAX_RANGE, Offence, Origin, Phase,
    Syncer, Verdict,
};
use blocksyncd::verify::{AuthenticBlock, ScheduleEntry, Tip};

use super::byzantine_answers::Behaviour;
use super::disk::Image;
use super::faults::ReportBy;
use super::host::consumer_name;
use super::mutations::Bug;
use super::network::{Answered, Message};
use super::node::Node;
use super::tally::State;
use super::world::{World, index_of};

/// So long an honest peer has to answer a signer's question for its head, at most.
const HEARS_WITHIN: Duration = Duration::from_secs(12);

/// A peer is asked for the same range no more often than so, within so long; a third of all answers may be lost.
const ASKED_AGAIN: u32 = 60;
const ASKED_WITHIN: Duration = Duration::from_secs(10);

/// A signed block that may have left a process: which, whose, and when.
#[derive(Clone, Copy, Debug)]
struct Originated {
    hash: Hash,
    by: usize,
    at: Duration,
}

/// What outlives every crash: the facts that nodes are held to.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Acknowledged to the publisher.
    acknowledged: BTreeMap<usize, BTreeMap<Height, Hash>>,
    /// Signed blocks of the honest sequencer that may have left its process.
    originated: BTreeMap<Height, Originated>,
    /// The durable hard head of each node.
    hard: BTreeMap<usize, BlockId>,
}

impl Oracle {
    /// An operator took the branch from here on back, at a signer's node.
    pub fn abandoned(&mut self, n: usize, from: Height) {
        self.released(n, from);
        self.originated.split_off(&from);
    }

    /// The publisher's host refuses its own branch from here on: it may be taken back. What was signed was signed.
    pub fn released(&mut self, n: usize, from: Height) {
        self.acknowledged.entry(n).or_default().split_off(&from);
    }

    /// The node threw away a signature that it was given, since the world had changed meanwhile.
    pub fn unused(&mut self, id: BlockId) {
        if self.originated.get(&id.height).is_some_and(|known| known.hash == id.hash) {
            self.originated.remove(&id.height);
        }
    }

    /// It is so, wherever on DA it was seen.
    pub fn is_hard(&mut self, n: usize, hard: Option<BlockId>) {
        self.hard.extend(hard.map(|hard| (n, hard)));
    }

    /// The disk of a node is not what it was.
    pub fn damaged(&mut self, n: usize) {
        self.hard.remove(&n);
        self.acknowledged.remove(&n);
    }
}

impl World {
    /// After every input.
    pub fn check_node(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let limits = node.limits;
        let Some(syncer) = &node.syncer else { return };
        let heads = syncer.heads();
        let status = syncer.status();
        let last = node.last.replace(heads);
        let mut wrong = check_heads(&heads).err();
        if let Some(last) = last {
            wrong = wrong.or(check_moved(&last, &heads).err());
        }
        if heads.lost.is_some() && !node.damaged {
            wrong = wrong.or(Some(format!("{:?} is said to be lost, and nothing was damaged", heads.lost)));
        }
        for (what, count, bound) in [
            ("held blocks", status.held_blocks, limits.pending_blocks),
            ("pending sightings", status.pending_sightings, limits.sightings),
        ] {
            if count > bound {
                wrong = wrong.or(Some(format!("{count} {what}, the bound is {bound}")));
            }
        }
        if let Some(target) = heads.target
            && self.chain.signed(target.hash).is_none_or(|block| block.id() != target)
        {
            wrong = wrong.or(Some(format!("nobody signed the target {target:?}")));
        }
        if let Some(why) = wrong {
            self.fail(format!("n{n}: {why}; {heads:?}"));
        }
    }

    /// A batch is on disk.
    pub fn check_committed(&mut self, n: usize, batch: &Batch) {
        for change in &batch.changes {
            match change {
                Change::Append { block, origin } => {
                    let id = block.id();
                    if self.chain.truth(block.block().bytes()).is_err() || self.chain.signed(id.hash).is_none() {
                        self.fail(format!("n{n} stored {id:?}, which nobody signed"));
                    }
                    if *origin == Origin::Published {
                        self.check_originated(n, id);
                    }
                }
                Change::Truncate { from, .. } => {
                    let acknowledged = self.oracle.acknowledged.get(&n).and_then(|known| known.range(from..).next());
                    if let Some((height, hash)) = acknowledged {
                        self.fail(format!("n{n} takes back {height}/{hash:?}, which it has acknowledged"));
                    }
                }
                _ => {}
            }
        }
        let Some(hard) = self.nodes[n].disk.image.heads.hard else { return };
        match self.oracle.hard.get(&n).copied() {
            Some(before) if before == hard => return,
            Some(before) if before.height >= hard.height => {
                self.fail(format!("n{n}: hard went from {before:?} to {hard:?}"));
            }
            _ => {}
        }
        if let Err(why) = self.check_hard(n, hard).and_then(|()| self.check_position(n, hard)) {
            self.fail(why);
        }
        self.oracle.hard.insert(n, hard);
    }

    /// After a crash, and whenever it matters: what was promised is there.
    pub fn check_disk(&mut self, n: usize) {
        let image = &self.nodes[n].disk.image;
        if let Some(acknowledged) = self.oracle.acknowledged.get(&n) {
            let lost = acknowledged
                .iter()
                .filter(|(height, _)| **height >= image.heads.tail)
                .find(|(height, hash)| image.id(**height).is_none_or(|stored| stored.hash != **hash));
            if let Some((height, hash)) = lost {
                let why =
                    format!("n{n} lost {height}/{hash:?}, which it has acknowledged; it has {:?}", image.id(*height));
                return self.fail(why);
            }
        }
        if let Some(hard) = self.oracle.hard.get(&n)
            && image.heads.hard.is_none_or(|now| now.height < hard.height)
        {
            let why = format!("n{n}: {hard:?} was hard before the crash, now {:?} is", image.heads.hard);
            self.fail(why);
        }
    }

    pub fn check_hard(&self, n: usize, id: BlockId) -> Result<(), String> {
        if self.misled == Some(n) || self.has_old_da(n) {
            return Ok(());
        }
        match self.da.winner(id.height) {
            Some((tip, _)) if tip.id == id || self.have_one_name(tip.id, id) => Ok(()),
            other => Err(format!("n{n} has {id:?} as hard, DA decided {:?}", other.map(|(tip, _)| tip.id))),
        }
    }

    /// Two blocks with the same payload, an empty one say, have one name where hosts name payloads, or their own ids: these are of the
    /// payload here.
    fn have_one_name(&self, one: BlockId, other: BlockId) -> bool {
        let payload = |id: BlockId| self.chain.signed(id.hash).map(|block| block.block().header().payload_hash);
        let names_it = matches!(self.plan.report_by, ReportBy::PayloadHash | ReportBy::HostId);
        names_it && payload(one) == payload(other)
    }

    /// Whether this node's host was ever shown another DA than everybody else's.
    pub fn was_misled(&self, n: usize) -> bool {
        self.plan.misled > 0.0 && n + 1 == self.nodes.len()
    }

    /// Where it became hard is where DA has it first, whatever was reported when.
    fn check_position(&self, n: usize, id: BlockId) -> Result<(), String> {
        let at = self.nodes[n].disk.image.confirmations.get(&id.height).copied();
        let first = self.da.winner(id.height).map(|(_, position)| position);
        let is_told = !self.was_misled(n) && !self.has_old_da(n) && at.is_some() && at != Some(DaPosition::IMPLIED);
        if is_told && at != first && self.plan.report_by.evidence() == DaEvidence::Block {
            return Err(format!("n{n}: {id:?} became hard at {at:?}, and DA has it first at {first:?}"));
        }
        Ok(())
    }

    pub fn check_told_soft(&self, n: usize, id: BlockId) -> Result<(), String> {
        match self.chain.signed(id.hash) {
            Some(block) if block.id() == id => Ok(()),
            _ => Err(format!("n{n} tells {id:?}, which nobody signed")),
        }
    }

    pub fn check_announced(&mut self, n: usize, heads: &Heads) {
        let image = &self.nodes[n].disk.image;
        let gone = |id: BlockId| image.heads.epoch > heads.epoch || id.height < image.heads.tail;
        let stored = |id: BlockId| image.id(id.height) == Some(id) || gone(id);
        if !heads.soft_id().into_iter().chain(heads.hard).all(stored) {
            self.fail(format!("n{n} announces {heads:?}, on disk is {:?}", image.heads));
        }
    }

    pub fn check_acknowledged(&mut self, n: usize, id: BlockId) {
        let image = &self.nodes[n].disk.image;
        // What is written may be ahead of what is told.
        let told = self.nodes[n].announced.map_or(image.heads.epoch, |heads| heads.epoch);
        if image.heads.epoch == told && image.heads.epoch == self.nodes[n].last.map_or(told, |heads| heads.epoch) {
            if image.id(id.height) != Some(id) && id.height >= image.heads.tail {
                return self.fail(format!("n{n} acknowledges {id:?}, which is not on disk"));
            }
            self.oracle.acknowledged.entry(n).or_default().insert(id.height, id.hash);
        }
    }

    /// What a consumer has acknowledged is on disk, under one of as many names as are kept.
    pub fn check_acked(&mut self, n: usize, consumer: u8) {
        let acked = &self.nodes[n].disk.image.acked;
        let is_kept = acked.contains_key(&consumer_name(consumer)) && acked.len() <= self.nodes[n].most_consumers;
        // What is written may be ahead of what is told.
        if is_kept || self.nodes[n].has_untold() {
            return;
        }
        let why = format!("n{n} says that consumer {consumer} has acknowledged, on disk is {acked:?}");
        self.fail(why);
    }

    /// What an operator has added to the schedule is on disk, or was taken back since.
    pub fn check_scheduled(&mut self, n: usize, entry: ScheduleEntry) {
        let knows = |entries: &[ScheduleEntry]| entries.contains(&entry);
        let Some(syncer) = &self.nodes[n].syncer else { return };
        let holds_it = syncer.rules().schedule.entries().any(|known| known == entry);
        if holds_it && !knows(&self.nodes[n].disk.image.schedule) {
            self.fail(format!("n{n} says that {entry:?} is in the schedule, on disk it is not"));
        }
    }

    pub fn check_broadcast(&mut self, n: usize, id: BlockId) {
        let image = &self.nodes[n].disk.image;
        let retracted = self.nodes[n].last.is_some_and(|heads| heads.epoch > image.heads.epoch);
        let pruned = id.height < image.heads.tail;
        if image.id(id.height) != Some(id) && image.heads.epoch.0 == 0 && !retracted && !pruned {
            self.fail(format!("n{n} broadcasts {id:?}, which is not on disk"));
        }
    }

    /// A signed block of the honest sequencer may have left its process.
    pub fn check_originated(&mut self, n: usize, id: BlockId) {
        let now = Originated { hash: id.hash, by: n, at: self.now };
        // It may leave late, when its branch was given up already: that the key is free there was said before.
        if self.nodes[n].heard.has_given_up(id) {
            return;
        }
        match self.oracle.originated.insert(id.height, now) {
            Some(before)
                if before.hash != id.hash && !self.is_dead(before.hash) && self.could_know(n, id.height, before) =>
            {
                self.fail(format!("n{n} signed {id:?}, and {before:?} at that height before"));
            }
            _ => {}
        }
    }

    /// Whether the signer could know that this block was signed: from its guard, or, where that may be an old one, from an honest peer
    /// that has had time to show it.
    fn could_know(&self, n: usize, height: Height, before: Originated) -> bool {
        let since = self.now.saturating_sub(HEARS_WITHIN);
        let shows = |peer: &usize| {
            let Some(other) = self.nodes.get(*peer).filter(|other| other.life().is_some()) else { return false };
            let heads = other.disk.image.heads;
            // What it answers when it is asked for its head leads there.
            let has_it = other.disk.image.id(height).is_some_and(|id| id.hash == before.hash)
                && heads.soft_height() == Some(height);
            has_it && self.net.is_open_since(n, *peer, since) && other.is_older_than(since)
        };
        (before.by == n && !self.plan.guard_restored) || before.at <= since && self.net.neighbours(n).iter().any(shows)
    }

    /// Whether DA has decided against this block, or against what it stands on.
    fn is_dead(&self, hash: Hash) -> bool {
        let mut at = self.chain.signed(hash);
        while let Some(block) = at {
            if let Some((tip, _)) = self.da.winner(block.height()) {
                return tip.id != block.id();
            }
            at = block.parent_hash().and_then(|parent| self.chain.signed(parent));
        }
        false
    }

    /// What DA has decided against by now, whoever had signed it may have signed another one since, whatever DA says later.
    pub fn what_died_is_released(&mut self) {
        let mut originated = std::mem::take(&mut self.oracle.originated);
        originated.retain(|_, known| !self.is_dead(known.hash));
        self.oracle.originated = originated;
    }

    pub fn check_received(&mut self, n: usize, from: usize, message: &Message) {
        if from < self.nodes.len() && self.chain.truth(&message.bytes).is_err() {
            self.fail(format!("n{from} passed on to n{n} what is no block"));
        }
    }

    pub fn check_judged(&mut self, n: usize, from: usize, message: &Message, verdict: Verdict) {
        let outcome = self.chain.truth(&message.bytes);
        match (verdict, &outcome) {
            (Verdict::Accept, Err(fault)) => self.fail(format!("n{n} accepted from {from}: {fault}")),
            (Verdict::Reject, Ok(block)) => self.fail(format!("n{n} rejected {:?} from {from}", block.id())),
            _ => {}
        }
        if self.bug == Some(Bug::BanWeakRelay) && outcome.is_err() {
            self.penalize(n, from, Offence::BadSignature, Some(Duration::from_mins(1)));
        }
    }

    pub fn check_served(&mut self, n: usize, answered: &Answered) {
        let most = usize::try_from(MAX_RANGE).unwrap_or(usize::MAX);
        let blocks: Result<Vec<AuthenticBlock>, _> =
            answered.bodies.iter().map(|body| self.chain.truth(body)).collect();
        let sound = blocks.is_ok_and(|blocks| {
            blocks.len() <= most && blocks.windows(2).all(|pair| pair[1].parent_hash() == Some(pair[0].hash()))
        });
        if !sound {
            self.fail(format!("n{n} serves what it should not: {} bodies", answered.bodies.len()));
        }
    }

    pub fn check_fetch(&mut self, n: usize, fetch: &Fetch) {
        let peer = index_of(&fetch.peer);
        let open = self.nodes[n].fetches_at(peer).len();
        // One head request, and three by hash, may be open beside the others.
        if open > self.nodes[n].limits.requests_per_peer + 3 {
            self.fail(format!("n{n} has {open} requests open at {peer} already"));
        }
        if let BlockQuery::Range { from, .. } = fetch.query {
            self.check_asked_again(n, peer, from);
        }
        if let BlockQuery::Range { amount, .. } = fetch.query
            && !(1..=MAX_RANGE).contains(&amount)
        {
            self.fail(format!("n{n} asks for {amount} blocks"));
        }
    }

    /// A peer that gave nothing of use rests, or is asked for something else. One on another branch may be asked with each new head of
    /// its: that might be ours.
    fn check_asked_again(&mut self, n: usize, peer: usize, from: Height) {
        let soft = self.nodes[n].disk.image.heads.soft_id();
        let is_elsewhere = |other: &Node| soft.is_some_and(|soft| other.disk.image.id(soft.height) != Some(soft));
        if self.nodes.get(peer).is_some_and(is_elsewhere) {
            return;
        }
        let now = self.now;
        let (since, count) = self.nodes[n].ranges.entry((peer, from)).or_insert((now, 0));
        if now > *since + ASKED_WITHIN {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        let count = *count;
        // Who takes small blocks only asks for a large one until an operator lets it in.
        let takes_all = self.nodes[n].limits.max_block_bytes >= self.plan.limits.max_block_bytes;
        if takes_all && count > ASKED_AGAIN {
            self.fail(format!("n{n} asks {peer} for the range from {from} on again and again"));
        }
    }

    pub fn penalize(&mut self, n: usize, peer: usize, offence: Offence, ban: Option<Duration>) {
        let innocent = match self.behaviour_of(peer) {
            None => true,
            // A relay that checks nothing may be banned where it relays little but forgeries.
            Some(Behaviour::WeakRelay) => ban.is_some() && !self.has_forgers(),
            Some(behaviour) => !behaviour.deserves_bans(),
        };
        if innocent {
            return self.fail(format!("n{n} blames {peer}, which is honest: {offence:?}, ban {ban:?}"));
        }
        if let Some(ban) = ban {
            self.tally.count(State::Ban);
            self.disconnect(n, peer);
            self.net.rest(n, peer, self.now + ban);
        }
    }

    pub fn tip_below(&self, block: &AuthenticBlock) -> Option<Tip> {
        let parent = self.chain.signed(block.parent_hash()?)?;
        Some(Tip { id: parent.id(), time_unix_nanos: parent.time_unix_nanos() })
    }

    /// Now.
    pub fn count_unavailable(&mut self) {
        let says = |node: &&Node| node.syncer.as_ref().is_some_and(|syncer| syncer.status().history_unavailable);
        let count = self.nodes.iter().filter(says).count();
        self.tally.add(State::HistoryUnavailable, count as u64);
    }

    /// Whether everything agrees; else what does not.
    pub fn converged(&self) -> Result<(), String> {
        // Its own host named its blocks wrongly, its operator believed it, and nobody else had them; or it is halted for good. What
        // others have of it may never come to DA.
        let is_halted_for_good = self.is_late() && self.waits_for_operator(self.publisher);
        if self.is_publishers_chain_gone() || is_halted_for_good {
            return Ok(());
        }
        if self.last_to_publish.is_none() || !self.da.is_quiet() {
            return Err("there is more to be published, or for DA to include".to_owned());
        }
        // Where there is no DA layer, what the publisher would have posted there is what everybody must have.
        let Some(expected) = self.da.last_winner() else { return Err("nothing is on DA".to_owned()) };
        for (n, node) in self.nodes.iter().enumerate() {
            self.node_converged(n, node, expected).map_err(|why| format!("n{n} {why}, expected {expected:?}"))?;
        }
        Ok(())
    }

    /// Whether a node is halted, as it should be where DA decided otherwise, and its operator has no remedy.
    pub fn waits_for_operator(&self, n: usize) -> bool {
        let status = self.nodes[n].syncer.as_ref().map(Syncer::status);
        status.is_some_and(|status| status.halted.is_some()) && !self.plan.operator_abandons
    }

    fn node_converged(&self, n: usize, node: &Node, expected: BlockId) -> Result<(), String> {
        let Some(syncer) = &node.syncer else { return Err("is down".to_owned()) };
        let (status, host) = (syncer.status(), &self.hosts[n]);
        let heads = status.heads;
        if self.waits_for_operator(n) {
            return Ok(());
        }
        let hard = Some(expected).filter(|_| !self.plan.without_da);
        if self.lacks_what_is_gone(n) {
            return Ok(());
        }
        if heads.soft_id() != Some(expected) || heads.hard != hard {
            return Err(format!("has {heads:?}, {status:?}, host at {:?}", host.state.tip()));
        }
        if heads.target != Some(expected) && !self.is_led_astray(n, node) {
            return Err(format!("has target {:?}", heads.target));
        }
        if node.disk.image.heads.soft_id() != Some(expected) || node.disk.image.heads.hard != hard {
            return Err("has not written everything".to_owned());
        }
        let (written, decided) = (node.disk.image.heads, Heads { target: None, ..heads });
        if node.disk.is_idle() && written != decided {
            return Err(format!("has not written {decided:?}, but {written:?}"));
        }
        self.history_converged(n, node)?;
        // What was lost before it reached anybody is missed until the chain is that high again.
        if heads.lost.is_some_and(|lost| lost.to <= expected.height) {
            return Err(format!("still misses {:?}", heads.lost));
        }
        if host.state.tip() != Some(expected) || host.state.hard != hard {
            return Err(format!("'s host has {:?}, hard {:?}", host.state.tip(), host.state.hard));
        }
        self.watchers_converged(n, expected, hard)
    }

    /// What everybody stores, in short.
    pub fn stores(&self) -> String {
        let stores = |(n, node): (usize, &Node)| {
            let Heads { tail, soft, .. } = node.disk.image.heads;
            format!("n{n} {tail}..{:?}", soft.map(|soft| soft.id))
        };
        self.nodes.iter().enumerate().map(stores).collect::<Vec<_>>().join(", ")
    }

    /// Whether nobody has what it needs any more, and it says so: that this is gone, what hard waits for, or that it syncs.
    pub fn lacks_what_is_gone(&self, n: usize) -> bool {
        let Some(status) = self.nodes[n].syncer.as_ref().map(Syncer::status) else { return false };
        let named = matches!(status.hard_waits, Some(HardWait::Named { .. } | HardWait::Beginning(_)));
        let waits = named || status.phase == Phase::Syncing;
        (status.history_unavailable && self.is_history_gone(n))
            || ((status.history_unavailable || waits) && self.is_lost(n))
    }

    /// Whether as much of the chain is kept as the operator wants.
    fn history_converged(&self, n: usize, node: &Node) -> Result<(), String> {
        let (image, history) = (&node.disk.image, &node.disk.history);
        let tail = image.heads.tail;
        let floor = image.prune_floor(history);
        let enough = |retain: NonZeroU64| floor.is_none_or(|floor| floor.above(tail) < retain.get());
        if history.retain_blocks.is_some_and(|retain| !enough(retain)) {
            return Err(format!("has not pruned: tail {tail}, {floor:?}, {history:?}"));
        }
        if history.max_bytes.is_some_and(|max| image.bytes() > max.get()) && floor != Some(tail) {
            return Err(format!("stores {} bytes from {tail} on, {floor:?}, {history:?}", image.bytes()));
        }
        // Those who have it may be halted for ever. What nobody honest has any more nobody owes, even if somebody else gives it.
        let is_gone = (!self.plan.operator_abandons && self.is_below_tail_gone(image, &self.net.acquainted(n)))
            || (self.is_late() && self.is_below_tail_gone(image, &(0..self.nodes.len()).collect::<Vec<_>>()));
        if history.backfills() && tail > self.chain.initial_height() && !is_gone {
            return Err(format!("has not fetched what is below {tail}"));
        }
        Ok(())
    }

    fn is_below_tail_gone(&self, image: &Image, others: &[usize]) -> bool {
        let Some(below) = image.heads.base.map(|base| base.id) else { return false };
        let mut images = others.iter().filter_map(|other| self.nodes.get(*other)).map(|node| &node.disk.image);
        images.all(|image| image.id(below.height) != Some(below))
    }

    /// Whether no honest neighbour has the block that this one needs next, above or below.
    fn is_history_gone(&self, n: usize) -> bool {
        let heads = self.nodes[n].disk.image.heads;
        let lowest = heads.base.map(|base| base.id.height).filter(|_| self.nodes[n].disk.history.backfills());
        let neighbours = self.net.acquainted(n);
        let others = || neighbours.iter().filter_map(|other| self.nodes.get(*other)).map(|node| &node.disk.image);
        [Some(heads.next_height()), lowest]
            .into_iter()
            .flatten()
            .any(|needed| others().all(|image| image.id(needed).is_none()))
    }
}

fn check_heads(heads: &Heads) -> Result<(), String> {
    let (soft, hard, target) = (heads.soft_height(), heads.hard_height(), heads.target.map(|target| target.height));
    let ordered = soft.is_none_or(|soft| heads.tail <= soft && target.is_none_or(|target| soft <= target))
        && hard.is_none_or(|hard| heads.tail <= hard && soft.is_some_and(|soft| hard <= soft));
    if ordered { Ok(()) } else { Err("not tail <= hard <= soft <= target".to_owned()) }
}

fn check_moved(before: &Heads, after: &Heads) -> Result<(), String> {
    if after.epoch < before.epoch {
        return Err(format!("the epoch fell from {}", before.epoch));
    }
    if after.soft_height() < before.soft_height() && after.epoch == before.epoch {
        return Err(format!("soft fell from {:?} in one epoch", before.soft));
    }
    if let Some(lost) = before.lost
        && after.lost.is_none()
        // What came back and lost on DA in one batch was back.
        && after.epoch == before.epoch
        && after.soft_height() < Some(lost.to)
    {
        return Err(format!("{lost:?} is said to be back, soft is {:?}", after.soft));
    }
    if let Some(hard) = before.hard
        && after.hard.is_none_or(|now| now.height < hard.height || (now.height == hard.height && now != hard))
    {
        return Err(format!("hard was {hard:?}"));
    }
    Ok(())
}
