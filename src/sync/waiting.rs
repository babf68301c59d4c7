//! When a node that may sign waits, for what, and until when; and what was given up, by anybody.
//!
//! ```text
//!   gossip, answers, DA --> notice --> Awaited --walk down by hash--> ours: it is fetched, or DA decides
//!                                         |                           given up: forgotten, and told apart from then on
//!                                         '--> publishing waits       open: asked for; nobody has it: the operator
//! ```
//!
//! Invariants:
//! 1. While any block above soft is awaited, nothing is signed: whatever its time or size, and whether we can take it or not.
//! 2. What was given up is not stored, held or waited for, unless DA has it as the winner; see `descent` for what that is.
//! 3. What is taken back because of DA, or by the operator's order, is given up in the commit that takes it back; what only the
//!    host refused is awaited.
//! 4. What is awaited for more than a peer's word is awaited after a restart too: because DA has shown it (the sightings, and `proved`
//!    where they end), because there is evidence of it, because the host refuses it, or because it was taken back for a name.
//!    ([`Syncer::recall_awaited`])
//! 5. The guard falls by itself only where DA has decided against the block that it names.

use super::awaited::{Awaited, Missed};
use super::chain::Chain;
use super::descent::{Below, BranchView, Gone, Stand, below, lowest_given_up, trace};
use super::given_up::GivenUp;
use super::proved::Kept;
use super::walked::Walked;
use super::{Ctx, DaPosition, DisownedBy, Name, ProvedBlock, Stored, Syncer};
use crate::block::{BlockId, Hash, Header, Height};
use crate::verify::Fault;

/// So many refused blocks of one height are asked for, each of which may be the one that a host names.
const MAX_CANDIDATES: usize = 4;

/// Which blocks of the list count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// All that nobody need wait for: a name on DA does not settle that.
    Settled,
    /// Only those that were given up because of DA: an operator's word frees no guard.
    ByDa,
}

/// What is known of the blocks below others.
enum Knowledge<'a> {
    Awaited(&'a Awaited),
    /// Of this block alone, what it stands on.
    Block(BlockId, Below),
}

struct View<'a> {
    chain: &'a Chain,
    stored: &'a dyn Stored,
    given_up: &'a GivenUp,
    counting: Counting,
    decided: Option<Height>,
    knowledge: Knowledge<'a>,
}

impl BranchView for View<'_> {
    fn below(&self, block: BlockId) -> Below {
        // Below the tail there is nothing of ours to compare with.
        if block.height < self.chain.heads().tail {
            return Below::Nothing;
        }
        match self.knowledge {
            Knowledge::Awaited(awaited) => match awaited.below(block) {
                Below::Unknown => self.given_up.below(block),
                known => known,
            },
            Knowledge::Block(known, below) if known == block => below,
            Knowledge::Block(..) => Below::Unknown,
        }
    }

    fn ours(&self, height: Height) -> Option<Hash> {
        match self.chain.heads().base {
            Some(base) if base.id.height == height => Some(base.id.hash),
            _ => self.chain.hash(height, self.stored),
        }
    }

    fn is_given_up(&self, block: BlockId) -> bool {
        match self.given_up.by(block) {
            Some(DisownedBy::Da) => true,
            Some(DisownedBy::Operator) => self.counting == Counting::Settled,
            Some(DisownedBy::Name) | None => false,
        }
    }

    fn decided(&self) -> Option<Height> {
        self.decided
    }

    fn gone_before(&self, block: BlockId) -> Option<Gone> {
        match self.knowledge {
            Knowledge::Awaited(awaited) => awaited.gone(block, self.chain.heads()),
            Knowledge::Block(..) => None,
        }
    }
}

// ---- What is awaited -----------------------------------------------------------------------------------------------

impl Syncer {
    /// What is awaited at a start: whatever above soft is on record, the block that the host has refused, and those that were taken
    /// back for a name; of these last only the names are kept.
    pub(super) fn recall_awaited(&mut self) {
        let heads = *self.chain.heads();
        let soft = heads.soft_height();
        for (position, gone) in self.da.take_gone() {
            if Some(gone.id.height) > heads.hard_height() {
                self.remember(position, gone);
            }
        }
        if self.da.unremembered().is_some() {
            self.awaited.miss();
        }
        for ProvedBlock { id, parent, .. } in self.on_record_above(soft) {
            self.awaited.add(id, below(parent));
        }
        let named: Vec<_> = self.standing.vetoed().into_iter().chain(self.given_up.listed_for_names()).collect();
        for id in named {
            if Some(id.height) > soft && !self.awaited.has(id) {
                self.awaited.add(id, Below::Unknown);
            }
        }
    }

    /// The blocks above this height that are proved to exist by what is on disk: what DA has shown, and the evidence.
    fn on_record_above(&self, height: Option<Height>) -> Vec<ProvedBlock> {
        let is_on_chain = |block: &ProvedBlock| {
            let ProvedBlock { id, proposer, .. } = *block;
            let from = Some(id.height).filter(|from| Some(*from) > height && *from >= self.chain.heads().tail);
            from.and_then(|from| self.rules.schedule.proposer_at(from)) == Some(proposer)
        };
        let beside = self.proved.all().chain(self.standing.proved()).filter(is_on_chain);
        self.da.blocks_above(height).chain(beside).collect()
    }

    /// What DA has shown, and is no sighting any more, is remembered, unless it is ours, or DA has decided about its height.
    pub(super) fn keep_proved(&mut self, ctx: Ctx<'_>) {
        for (position, block) in self.da.take_gone() {
            let heads = self.chain.heads();
            let is_open = Some(block.id.height) > heads.hard_height() && block.id.height >= heads.tail;
            if is_open
                && !self.chain.contains(block.id, ctx.stored)
                && (self.proved.has_room() || !self.is_settled(ctx, &block))
            {
                self.remember(position, block);
            }
        }
    }

    fn remember(&mut self, position: DaPosition, block: ProvedBlock) {
        if self.proved.keep(block, &mut self.decision) == Kept::NoRoom {
            self.da.not_remember(block.id.height, position, &mut self.decision);
            self.awaited.miss();
        }
    }

    /// Whether the block was given up, so that nobody waits for it.
    fn is_settled(&self, ctx: Ctx<'_>, block: &ProvedBlock) -> bool {
        self.given_up_by(ctx, block.id, below(block.parent)).is_some()
    }

    /// There may be room by now for what DA has shown and was not remembered: then it is told anew.
    fn wait_for_unremembered(&mut self, ctx: Ctx<'_>, missed: Missed) {
        if self.da.unremembered().is_none() || !self.publishing.may_publish() {
            return;
        }
        if self.awaited.ids().next().is_some() {
            self.awaited.miss();
            return;
        }
        if missed == Missed::Something {
            let settled: Vec<_> = self.proved.all().filter(|block| self.is_settled(ctx, block)).collect();
            for block in settled {
                self.proved.forget(block.id, &mut self.decision);
            }
        }
        if self.proved.has_room() {
            self.da.read_unremembered();
        }
    }

    /// A block that passed all checks which need no parent, whether we can take it or not.
    pub(super) fn notice(&mut self, ctx: Ctx<'_>, id: BlockId, parent: Option<Hash>) {
        let is_above = Some(id.height) > self.chain.heads().soft_height();
        if !is_above || self.awaited.has(id) {
            return;
        }
        match self.given_up_by(ctx, id, below(parent)) {
            Some(by) => self.given_up.find(id, by, below(parent)),
            None => self.awaited.add(id, below(parent)),
        }
    }

    /// A block that did not pass all checks, and may be proved to exist all the same.
    pub(super) fn notice_fault(&mut self, ctx: Ctx<'_>, fault: &Fault) {
        if let Fault::TooLargeHere(large) = fault {
            self.notice(ctx, large.id, large.parent);
            self.step_down(ctx, large.id, large.parent);
        }
    }

    /// Whether the block was given up, and is not the one that DA is said to have next.
    pub(super) fn is_refused_as_given_up(&self, hash: Hash, header: &Header) -> bool {
        let id = BlockId { height: header.height, hash };
        self.given_up.by(id).is_some() && !self.da.names(hash, header)
    }

    /// The block that DA is said to have next: by its hash; or, where a name does not tell that, those of its height that are refused
    /// here, since it may be one of them.
    pub(super) fn named_blocks(&self) -> Vec<BlockId> {
        match self.da.named() {
            None => Vec::new(),
            Some((height, Name::Block(hash))) => vec![BlockId { height, hash: *hash }],
            Some((height, Name::HostId(_) | Name::Payload(_))) => {
                let vetoed = self.standing.vetoed().filter(|vetoed| vetoed.height == height);
                vetoed.into_iter().chain(self.given_up.listed_at(height)).take(MAX_CANDIDATES).collect()
            }
        }
    }

    /// By whom the block was given up, or the one that it stands right on.
    fn given_up_by(&self, ctx: Ctx<'_>, id: BlockId, below: Below) -> Option<DisownedBy> {
        let is_given_up = |counting| {
            let knowledge = Knowledge::Block(id, below);
            trace(id, &self.view(ctx, knowledge, counting)) == Stand::GivenUp
        };
        if !is_given_up(Counting::Settled) {
            return None;
        }
        Some(if is_given_up(Counting::ByDa) { DisownedBy::Da } else { DisownedBy::Operator })
    }

    /// Brings what is awaited up to date: with what is stored, and with what was given up.
    pub(super) fn settle_awaited(&mut self, ctx: Ctx<'_>) {
        let now = ctx.now.elapsed;
        let chain = &self.chain;
        self.awaited.follow_heads(chain.heads(), |id| chain.contains(id, ctx.stored), now);
        let first = loop {
            // Lowest first: what stands on a block that was found to be given up is found in one step.
            let Some(id) = self.awaited.ids().next() else { break None };
            match self.stand(ctx, id) {
                Stand::GivenUp => self.find_given_up(ctx, id),
                stand => break Some((id, stand)),
            }
        };
        self.awaited.set_first(first);
        self.note_walked(ctx);
        self.settle_guard(ctx);
        let missed = self.awaited.take_missed();
        if missed == Missed::Something {
            self.notice_what_is_on_record(ctx);
            self.hear_again(ctx);
        }
        self.wait_for_unremembered(ctx, missed);
    }

    /// The way down from what is awaited first was looked at as far as it is known.
    fn note_walked(&mut self, ctx: Ctx<'_>) {
        let Some((first, Stand::Open(missing))) = self.awaited.first() else { return };
        let heads = *self.chain.heads();
        let Some(soft) = heads.soft_height().filter(|soft| missing.height < *soft) else { return };
        let known = self.awaited.take_walked();
        let highest = known.as_ref().map_or(soft, |known| known.highest().min(soft));
        let from = self.way_down(ctx, first, highest);
        let mut walked = match known {
            Some(known) if known.leads_from(from, &heads) => known,
            _ => Walked::from(self.way_down(ctx, first, soft), &heads),
        };
        let view = self.view(ctx, Knowledge::Awaited(&self.awaited), Counting::Settled);
        while let end = walked.end()
            && end != missing
            && view.ours(end.height).is_some()
            && let (Below::Block(hash), Some(height)) = (view.below(end), end.height.prev())
        {
            walked.go_on(BlockId { height, hash });
        }
        self.awaited.note_walked(walked);
    }

    /// Where the parents of a block lead that is awaited, or named by anybody.
    pub(super) fn stand(&self, ctx: Ctx<'_>, id: BlockId) -> Stand {
        trace(id, &self.view(ctx, Knowledge::Awaited(&self.awaited), Counting::Settled))
    }

    /// Up to where DA has decided for our chain; what is hard on the operator's word alone decides nothing.
    pub(super) fn decided_by_da(&self) -> Option<Height> {
        let heads = self.chain.heads();
        heads.hard_height().filter(|hard| heads.floor.is_none_or(|floor| *hard > floor.id.height))
    }

    fn view<'a>(&'a self, ctx: Ctx<'a>, knowledge: Knowledge<'a>, counting: Counting) -> View<'a> {
        let decided = self.decided_by_da();
        View { chain: &self.chain, stored: ctx.stored, given_up: &self.given_up, counting, decided, knowledge }
    }

    fn find_given_up(&mut self, ctx: Ctx<'_>, id: BlockId) {
        // What is found on the way says enough: only the guard asks for the lowest one.
        let view = self.view(ctx, Knowledge::Awaited(&self.awaited), Counting::ByDa);
        let is_by_da = trace(id, &view) == Stand::GivenUp;
        let by = if is_by_da { DisownedBy::Da } else { DisownedBy::Operator };
        self.given_up.find(id, by, self.awaited.below(id));
        self.forget_given_up(ctx, id);
    }

    /// A block that was given up is neither awaited nor held, and nothing is to be caught up with on its branch.
    fn forget_given_up(&mut self, ctx: Ctx<'_>, id: BlockId) {
        self.awaited.remove(id);
        self.pending.forget(id);
        if self.chain.heads().target == Some(id) {
            self.chain.drop_target();
            self.exchange.probe_all_soon(ctx.now.elapsed);
        }
    }

    /// What a block stands on at this height; or, as far down as that is known, above it.
    fn way_down(&self, ctx: Ctx<'_>, id: BlockId, height: Height) -> BlockId {
        let mut at = self.awaited.reached(id, height);
        let view = self.view(ctx, Knowledge::Awaited(&self.awaited), Counting::ByDa);
        while at.height > height
            && let (Below::Block(hash), Some(below)) = (view.below(at), at.height.prev())
        {
            at = BlockId { height: below, hash };
        }
        at
    }
}

// ---- The guard -----------------------------------------------------------------------------------------------------

impl Syncer {
    /// The key may sign again at the height of a block that lost on DA. Not where more of its branch may be alive than is stored
    /// here: the guard falls no lower than to below what lost.
    fn settle_guard(&mut self, ctx: Ctx<'_>) {
        let Some(last) = self.publishing.signed_last().filter(|_| !self.publishing.is_signing()) else { return };
        let heads = *self.chain.heads();
        let there = self.chain.hash(last.height, ctx.stored);
        self.publishing.note_strays(there.filter(|there| *there != last.hash).map(|_| last));
        if self.standing.halted().is_some() || last.height < heads.tail || there == Some(last.hash) {
            return;
        }
        let next = heads.next_height();
        let reached = self.way_down(ctx, last, next);
        self.awaited.note_reached(last, next, reached);
        if self.has_lost(ctx, last) {
            self.publishing.reset_guard(heads.soft_id(), &mut self.decision);
            self.hear_again(ctx);
        }
    }

    /// Whether DA has decided against this block, so low that no more of its branch can be alive than is stored here.
    pub(super) fn has_lost(&self, ctx: Ctx<'_>, id: BlockId) -> bool {
        let next = self.chain.heads().next_height();
        let at = self.way_down(ctx, id, next);
        let view = self.view(ctx, Knowledge::Awaited(&self.awaited), Counting::ByDa);
        at.height <= next && lowest_given_up(at, &view).is_some()
    }

    /// A power cut may have left the guard behind the store: what is stored was signed. But not what DA had decided against, which
    /// a power cut may have left in the store.
    pub(super) fn raise_guard(&mut self, ctx: Ctx<'_>) {
        let known = self.publishing.signed_last();
        let is_sound =
            known.is_none_or(|known| known.height < self.chain.heads().tail || self.chain.contains(known, ctx.stored));
        let Some(top) = self.stored_of_key(ctx).filter(|_| is_sound && self.publishing.has_guard()) else { return };
        let lost = self.given_up.listed_by_da().find(|lost| self.chain.contains(*lost, ctx.stored));
        let height = lost.map_or(Some(top.height), |lost| lost.height.prev().map(|below| below.min(top.height)));
        let signed = height.and_then(|height| self.chain.hash(height, ctx.stored).map(|hash| BlockId { height, hash }));
        if let Some(signed) = signed.filter(|signed| Some(signed.height) > known.map(|known| known.height)) {
            self.publishing.raise_guard(signed, &mut self.decision);
        }
    }
}

// ---- The walk down -------------------------------------------------------------------------------------------------

impl Syncer {
    /// The block to be asked for by its hash, so that it be known what the first one that is waited for stands on.
    pub(super) fn next_step_down(&self) -> Option<BlockId> {
        self.awaited.next_step().filter(|_| self.publishing.may_publish())
    }

    /// Takes a step down, when this is the block that was asked for.
    pub(super) fn step_down(&mut self, ctx: Ctx<'_>, id: BlockId, parent: Option<Hash>) {
        let Some(missing) = self.awaited.missing().filter(|missing| missing.hash == id.hash) else { return };
        if missing.height != id.height {
            // It is of another height than its name says: whatever names it as its parent can never be stored.
            self.awaited.add_step(missing, Below::Nothing);
        } else if Some(missing.height) <= self.chain.heads().soft_height() {
            self.awaited.add_step(missing, below(parent));
        }
        self.settle_awaited(ctx);
    }
}

// ---- Giving up -----------------------------------------------------------------------------------------------------

/// What becomes of blocks that are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    /// They are given up.
    GivenUp(DisownedBy),
    /// They may come back.
    Awaited,
}

impl Syncer {
    /// The stored blocks from `from` on, and what each stands on; the lowest ones, as many as can be remembered.
    pub(super) fn stored_from(&self, ctx: Ctx<'_>, from: Height) -> Vec<(BlockId, Option<Hash>)> {
        let Some(soft) = self.chain.heads().soft_height() else { return Vec::new() };
        let limits = self.config.limits;
        let mut parent = self.chain.parent_hash(from, ctx.stored);
        let mut blocks = Vec::new();
        let mut height = from;
        while height <= soft && blocks.len() < limits.disowned.max(limits.awaited) {
            let Some(hash) = self.chain.hash(height, ctx.stored) else { break };
            blocks.push((BlockId { height, hash }, parent));
            parent = Some(hash);
            height = height.next();
        }
        blocks
    }

    /// Blocks were taken back, and soft is below them.
    pub(super) fn taken_back(&mut self, ctx: Ctx<'_>, blocks: &[(BlockId, Option<Hash>)], afterwards: Afterwards) {
        let decided = self.decided_by_da();
        for (id, parent) in blocks {
            match afterwards {
                Afterwards::GivenUp(by) => {
                    self.given_up.disown(*id, by, decided, &mut self.decision);
                    self.given_up.find(*id, by, below(*parent));
                    self.awaited.remove(*id);
                }
                Afterwards::Awaited => {}
            }
            if matches!(afterwards, Afterwards::Awaited | Afterwards::GivenUp(DisownedBy::Name)) {
                self.awaited.add(*id, below(*parent));
            }
        }
        // What is on record of other branches was at or below soft before.
        self.notice_what_is_on_record(ctx);
        self.hear_again(ctx);
    }

    pub(super) fn notice_what_is_on_record(&mut self, ctx: Ctx<'_>) {
        for ProvedBlock { id, parent, .. } in self.on_record_above(self.chain.heads().soft_height()) {
            self.notice(ctx, id, parent);
        }
    }

    /// A block is on our chain now. What was thought to be given up since it stands on that one is awaited again.
    pub(super) fn own(&mut self, ctx: Ctx<'_>, id: BlockId) {
        self.proved.forget(id, &mut self.decision);
        let forgotten = self.given_up.own(id, &mut self.decision);
        if forgotten.is_empty() {
            return;
        }
        let soft = self.chain.heads().soft_height();
        for (id, below) in forgotten.into_iter().filter(|(id, _)| Some(id.height) > soft) {
            self.awaited.add(id, below);
        }
        self.notice_what_is_on_record(ctx);
        self.hear_again(ctx);
    }

    /// The operator gives a block up, which does not belong to our chain.
    pub(super) fn disown(&mut self, ctx: Ctx<'_>, id: BlockId) {
        self.given_up.disown(id, DisownedBy::Operator, self.decided_by_da(), &mut self.decision);
        self.forget_given_up(ctx, id);
    }

    /// Why the operator cannot give a block up: it belongs to our chain, or it is a slip of the pen.
    pub(super) fn why_not_disown(&self, ctx: Ctx<'_>, id: BlockId) -> Option<String> {
        self.belongs(ctx, id).or_else(|| {
            let is_known = self.awaited.knows(id)
                || self.given_up.by(id).is_some()
                || self.publishing.signed_last() == Some(id)
                || self.standing.vetoed() == Some(id)
                || self.pending.at(id.height).any(|waiting| waiting.block.id() == id);
            (!is_known)
                .then(|| format!("nothing is known of {id}, so that nothing waits for it: ctl status names what does"))
        })
    }

    /// Why a block belongs to our chain, as far as that is known, so that no operator can give it up. What was taken back for a
    /// name does not, though it would fit.
    fn belongs(&self, ctx: Ctx<'_>, id: BlockId) -> Option<String> {
        if self.reverse_sync.pinned(id.height) == Some(id) {
            return Some(format!("{id} is pinned: it was hard before damage took it, or sync.from trusts it"));
        }
        let Stand::Ours { on, first } = self.stand(ctx, id) else { return None };
        let Some(first) = first else {
            return Some(format!("{on} is on our chain: only DA, or abandon-branch, takes it back"));
        };
        let is_next = Some(on) == self.chain.heads().soft_id() && self.given_up.by(first).is_none();
        is_next.then(|| format!("{id} stands on our soft head {on}, by {first}: it belongs to our chain"))
    }
}

// ---- Hearing -------------------------------------------------------------------------------------------------------

impl Syncer {
    /// Soft or the guard has fallen, or the node has just started: nothing is signed before the peers were heard.
    pub(super) fn hear_again(&mut self, ctx: Ctx<'_>) {
        if !self.publishing.may_publish() {
            return;
        }
        let now = ctx.now.elapsed;
        if let Some(round) = self.hearing.begin(now, self.exchange.next_request()) {
            self.decision.try_known_peers(round);
        }
        self.exchange.probe_all_by(now);
    }
}

// ---- What is said of it --------------------------------------------------------------------------------------------

impl Syncer {
    fn awaits_unremembered(&self) -> Option<String> {
        let more = self.da.unremembered()?;
        Some(format!(
            "DA has shown more blocks up to height {} than are remembered: the host is to report DA again, up to DA height {}",
            more.height, more.through.height
        ))
    }

    /// Why nothing can be signed now, as far as others' blocks are the reason.
    pub(super) fn awaits(&self) -> Option<String> {
        let Some((id, stand)) = self.awaited.first() else { return self.awaits_unremembered() };
        let what = format!("block {} is proved to exist ({id})", id.height);
        let soft = self.chain.heads().soft_id();
        Some(match stand {
            Stand::Ours { first: Some(first), .. } if self.given_up.by(first) == Some(DisownedBy::Name) => format!(
                "{what}, and {first} was taken back, since a name on DA is another one's: if that branch was given up, an operator must \
                 say so: ctl disown {first}"
            ),
            Stand::Ours { on, .. } if Some(on) == soft => format!("{what}: syncing up to it"),
            Stand::Ours { on, first } => {
                let first = first.unwrap_or(id);
                format!(
                    "{what}, on a branch that leaves ours above {on}: DA decides; or an operator, when that branch was given up: \
                     ctl disown {first}"
                )
            }
            Stand::Open(missing) if !self.awaited.has_room_for(missing) => format!(
                "{what}. It stands on {missing}, which nobody is asked for, since so much of its branch is remembered already: DA \
                 decides; or an operator, when that branch was given up: ctl disown {missing}"
            ),
            Stand::Open(missing) => format!(
                "{what}: syncing up to it. It stands on {missing}, which is being asked for. If nobody has that block any more, \
                 and its branch was given up, an operator must say so: ctl disown {missing}"
            ),
            Stand::Apart(lowest) => format!(
                "{what}, on a branch that has nothing in common with what is stored here: an operator must look; if it was given \
                 up: ctl disown {lowest}"
            ),
            // It is forgotten at once.
            Stand::GivenUp => what,
        })
    }
}
