//! Publishing: from a host's proposal to a signed block on disk, and the guard that keeps the key from signing twice.
//!
//! ```text
//!   Publish --checks--> Sign --> Signed --checks again--> Commit (block + guard) --durable--> Broadcast, Reply
//! ```
//!
//! Invariants:
//! 1. The guard never allows two different hashes at one height, over crashes, wiped stores and restored backups: what was
//!    signed last is durable in it before the signed block leaves the process, and before a signer outside is asked.
//! 2. One block is being signed at a time; proposals for the heights after it wait, bounded by `limits.publish_queue`.
//! 3. The same proposal on the same parent gets the same answer, however often it is made.
//! 4. A signature that came and is not used leaves the guard as it was before it was asked for, from the next commit on.

use std::collections::VecDeque;
use std::time::Duration;

use super::chain::Chain;
use super::decision::Decision;
use super::{Answer, Ctx, GuardEntry, GuardState, Origin, Proposal, PublishAnswer, Stored, Syncer, Ticket};
use crate::block::{BlockId, Hash, Header, Height, Malformed, PublicKey, native};
use crate::verify::{AuthenticBlock, Fault};

/// A proposal whose signature is awaited.
#[derive(Debug)]
struct Signing {
    ticket: Ticket,
    id: BlockId,
    /// The guard as it was before.
    before: GuardState,
    /// The round of hearing in which it was asked for.
    round: u64,
}

/// The key's side of publishing: who signs, what was signed last, and what waits to be signed.
#[derive(Debug)]
pub(super) struct Publishing {
    signs: Option<PublicKey>,
    guard: GuardState,
    /// The block that the guard names, where another one is stored.
    strays: Option<BlockId>,
    signing: Option<Signing>,
    waiting: VecDeque<(Ticket, Proposal)>,
    max_waiting: usize,
}

/// What became of a proposal that came while another one was being signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    /// It is made when its turn comes.
    Waits,
    /// As many wait as may.
    NoRoom,
}

impl Publishing {
    pub fn new(signs: Option<PublicKey>, guard: GuardState, max_waiting: usize) -> Self {
        Self { signs, guard, strays: None, signing: None, waiting: VecDeque::new(), max_waiting }
    }

    /// Whether blocks of this node's making may be out there: it has a guard, or a key whose guard was lost.
    pub fn may_publish(&self) -> bool {
        self.has_guard() || self.signs.is_some()
    }

    pub fn has_guard(&self) -> bool {
        self.guard != GuardState::Missing
    }

    /// Whether there is a key to sign with now.
    pub fn has_signer(&self) -> bool {
        self.signs.is_some()
    }

    /// The key that signs now.
    pub fn signer(&self) -> Option<PublicKey> {
        self.signs
    }

    /// The block that the guard names.
    pub fn signed_last(&self) -> Option<BlockId> {
        match self.guard {
            GuardState::Missing | GuardState::Unused => None,
            GuardState::Signed(GuardEntry { last }) => Some(last),
        }
    }

    pub fn is_signing(&self) -> bool {
        self.signing.is_some()
    }

    /// Why nothing can be published now, when this node may publish.
    pub fn not_ready(&self, soft: Option<Height>) -> Option<String> {
        match self.guard {
            GuardState::Missing => self.signs.map(|_| GUARD_MISSING.to_owned()),
            GuardState::Signed(GuardEntry { last }) if soft < Some(last.height) && self.signing.is_none() => {
                Some(guard_ahead(last))
            }
            GuardState::Signed(GuardEntry { last }) if self.strays == Some(last) => Some(guard_strays(last)),
            GuardState::Unused | GuardState::Signed(_) => None,
        }
    }

    /// Of the block that the guard names, whether another one is stored there.
    pub fn note_strays(&mut self, strays: Option<BlockId>) {
        self.strays = strays;
    }

    /// The guard falls, or is found anew: by an operator's order, or because nothing came of what it was raised for.
    pub fn reset_guard(&mut self, last: Option<BlockId>, decision: &mut Decision) {
        self.guard = GuardState::after(last);
        decision.reset_guard(last);
    }

    /// What is stored was signed.
    pub fn raise_guard(&mut self, last: BlockId, decision: &mut Decision) {
        let entry = GuardEntry { last };
        self.guard = GuardState::Signed(entry);
        decision.guard(entry);
    }

    fn queue(&mut self, ticket: Ticket, proposal: Proposal) -> Queued {
        if self.waiting.len() >= self.max_waiting {
            return Queued::NoRoom;
        }
        self.waiting.push_back((ticket, proposal));
        Queued::Waits
    }

    /// The next proposal in line, as soon as nothing is being signed.
    fn next_waiting(&mut self) -> Option<(Ticket, Proposal)> {
        if self.is_signing() { None } else { self.waiting.pop_front() }
    }

    /// The proposal whose signature was awaited with this ticket.
    fn take_signing(&mut self, ticket: Ticket) -> Option<Signing> {
        self.signing.take_if(|signing| signing.ticket == ticket)
    }

    /// The block that was to be signed, or was, is not stored: nobody will ever see it.
    fn put_guard_back(&mut self, before: GuardState, decision: &mut Decision) {
        match before {
            // Without a guard nothing is signed.
            GuardState::Missing => {}
            GuardState::Unused => self.reset_guard(None, decision),
            GuardState::Signed(GuardEntry { last }) => self.reset_guard(Some(last), decision),
        }
    }

    /// Whether there is a signer, and it is the scheduled `proposer` at this height.
    fn check_signer(&self, height: Height, proposer: PublicKey) -> Result<(), PublishAnswer> {
        match self.signs {
            None => Err(PublishAnswer::NotReady("no signer: set signer.key, pass a signer to `open`, or publish blocks that the host has signed (publishSigned)".to_owned())),
            Some(key) if key != proposer => Err(PublishAnswer::NotReady(format!(
                "the proposer at height {height} is {proposer}, this node signs with {key}"
            ))),
            Some(_) => Ok(()),
        }
    }

    /// Passes the guard with this block, or not: the key never signs another one at a height where it signed.
    fn pass_guard(&mut self, id: BlockId, chain: &Chain, stored: &dyn Stored) -> Result<GuardEntry, PublishAnswer> {
        match self.guard {
            GuardState::Missing => return Err(PublishAnswer::NotReady(GUARD_MISSING.to_owned())),
            GuardState::Unused => {}
            GuardState::Signed(GuardEntry { last }) => check_after(last, id, chain, stored)?,
        }
        let entry = GuardEntry { last: id };
        self.guard = GuardState::Signed(entry);
        Ok(entry)
    }
}

/// Whether a key that signed `last` may sign `id`.
fn check_after(last: BlockId, id: BlockId, chain: &Chain, stored: &dyn Stored) -> Result<(), PublishAnswer> {
    if last.height > id.height {
        return Err(PublishAnswer::NotReady(guard_ahead(last)));
    }
    if last.height == id.height {
        return if last == id { Ok(()) } else { Err(PublishAnswer::Conflict(last)) };
    }
    match chain.hash(last.height, stored) {
        Some(hash) if hash != last.hash => Err(PublishAnswer::Halted(guard_strays(last))),
        _ => Ok(()),
    }
}

/// How soon a publish that came while the peers were being asked may be made again.
const HEARING_RETRY: Duration = Duration::from_millis(500);

const GUARD_MISSING: &str = "the guard file is missing or damaged, so nobody knows what this key has signed: an operator must say the \
                             last signed block (ctl assert-signed)";

fn guard_strays(last: BlockId) -> String {
    format!(
        "this key signed {last}, which is not on the chain that is stored: DA decides which branch is right; or an operator says \
         what was signed last (ctl assert-signed)"
    )
}

fn guard_ahead(last: BlockId) -> String {
    format!(
        "this key has signed up to {last}, and the store ends below it: syncing up to it. If nobody has that block any more, \
         publish the same one again, or let an operator say what was signed last (ctl assert-signed)"
    )
}

// ---- The steps of a publish ----------------------------------------------------------------------------------------

impl Syncer {
    pub(super) fn publish(&mut self, ctx: Ctx<'_>, ticket: Ticket, proposal: Proposal) {
        if self.publishing.is_signing() && !self.draining {
            if self.publishing.queue(ticket, proposal) == Queued::NoRoom {
                self.answer(ticket, PublishAnswer::Overloaded);
            }
            return;
        }
        if let Err(answer) = self.try_publish(ctx, ticket, &proposal) {
            self.answer(ticket, answer);
        }
    }

    /// Goes on with the proposals that waited for a signature.
    pub(super) fn publish_waiting(&mut self, ctx: Ctx<'_>) {
        while let Some((ticket, proposal)) = self.publishing.next_waiting() {
            self.publish(ctx, ticket, proposal);
        }
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        for (ticket, _) in std::mem::take(&mut self.publishing.waiting) {
            self.answer(ticket, PublishAnswer::Draining);
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: PublishAnswer) {
        // What is here already is broadcast once more: the first time may have reached nobody.
        let again = match &answer {
            PublishAnswer::Duplicate(id) => Some(*id),
            _ => None,
        };
        self.decision.reply(ticket, Answer::Publish(answer));
        if let Some(id) = again {
            self.decision.broadcast(id);
        }
    }

    fn try_publish(&mut self, ctx: Ctx<'_>, ticket: Ticket, proposal: &Proposal) -> Result<(), PublishAnswer> {
        self.check_takes_blocks()?;
        let header = self.header_of(ctx, proposal)?;
        let header_bytes = native::encode_header(&header);
        let id = BlockId { height: header.height, hash: Hash::of(&header_bytes) };
        let max_block_bytes = self.config.limits.max_block_bytes;
        if native::encoded_len(header_bytes.len(), proposal.payload.len()) > max_block_bytes {
            return Err(PublishAnswer::TooLarge { max_block_bytes });
        }
        self.check_is_next(ctx, id.hash, &header)?;
        self.check_proposed_time(ctx, header.time_unix_nanos)?;
        self.publishing.check_signer(id.height, header.proposer)?;
        self.check_has_heard(ctx)?;
        let (before, round) = (self.publishing.guard, self.hearing.round());
        let guard = self.publishing.pass_guard(id, &self.chain, ctx.stored)?;
        self.publishing.signing = Some(Signing { ticket, id, before, round });
        self.decision.sign(ticket, header_bytes, proposal.payload.clone(), guard);
        Ok(())
    }

    /// The signature has come, or will not.
    pub(super) fn signed(&mut self, ctx: Ctx<'_>, ticket: Ticket, outcome: Result<AuthenticBlock, String>) {
        let Some(signing) = self.publishing.take_signing(ticket) else { return };
        let answer = match outcome {
            // Who knows what the signer did: it is asked for this block again, and for no other.
            Err(why) => PublishAnswer::NotReady(why),
            Ok(block) if block.id() != signing.id => {
                PublishAnswer::NotReady("the signer signed another block".to_owned())
            }
            Ok(block) => self.use_signature(ctx, &signing, &block).unwrap_or_else(|answer| {
                // What somebody brought meanwhile is out there, and was signed.
                if answer != PublishAnswer::Duplicate(signing.id) && !self.is_out_there(ctx, signing.id) {
                    self.forget_signature(ctx, signing.before);
                }
                answer
            }),
        };
        self.answer(ticket, answer);
    }

    /// The world may have changed while the signer thought.
    fn use_signature(
        &mut self,
        ctx: Ctx<'_>,
        signing: &Signing,
        block: &AuthenticBlock,
    ) -> Result<PublishAnswer, PublishAnswer> {
        if let Some(halt) = self.standing.halted() {
            return Err(PublishAnswer::Halted(halt.to_string()));
        }
        self.check_is_next(ctx, block.hash(), block.block().header())?;
        // Who connects while the signer thinks was not there to be heard before.
        if signing.round != self.hearing.round() {
            self.check_has_heard(ctx)?;
        }
        self.store_own(ctx, block, GuardEntry { last: signing.id })
    }

    /// Whether anybody else is known to have this block.
    fn is_out_there(&self, ctx: Ctx<'_>, id: BlockId) -> bool {
        self.awaited.has(id) || self.standing.vetoed() == Some(id) || self.chain.contains(id, ctx.stored)
    }

    /// A signature that is of no use leaves the process never: the key may sign another block there.
    fn forget_signature(&mut self, ctx: Ctx<'_>, before: GuardState) {
        self.publishing.put_guard_back(before, &mut self.decision);
        self.hear_again(ctx);
    }

    /// A block that the host signed itself.
    pub(super) fn publish_signed(&mut self, ctx: Ctx<'_>, ticket: Ticket, outcome: Result<AuthenticBlock, Fault>) {
        let answer = match outcome {
            Ok(block) => self.try_publish_signed(ctx, &block).unwrap_or_else(|answer| answer),
            Err(Fault::Malformed(Malformed::TooLarge { max, .. })) => PublishAnswer::TooLarge { max_block_bytes: max },
            Err(Fault::TooLargeHere(fault)) => PublishAnswer::TooLarge { max_block_bytes: fault.max },
            Err(fault) => PublishAnswer::Invalid(fault.to_string()),
        };
        self.answer(ticket, answer);
    }

    fn try_publish_signed(&mut self, ctx: Ctx<'_>, block: &AuthenticBlock) -> Result<PublishAnswer, PublishAnswer> {
        self.check_takes_blocks()?;
        if self.publishing.is_signing() {
            return Err(PublishAnswer::Overloaded);
        }
        self.check_is_next(ctx, block.hash(), block.block().header())?;
        self.check_proposed_time(ctx, block.time_unix_nanos())?;
        // What cannot be stored must not be in the way of what can.
        self.may_stand(block).map_err(|fault| PublishAnswer::Invalid(fault.to_string()))?;
        self.check_has_heard(ctx)?;
        let before = self.publishing.guard;
        let guard = self.publishing.pass_guard(block.id(), &self.chain, ctx.stored)?;
        self.store_own(ctx, block, guard).inspect_err(|_| self.forget_signature(ctx, before))
    }

    fn store_own(
        &mut self,
        ctx: Ctx<'_>,
        block: &AuthenticBlock,
        guard: GuardEntry,
    ) -> Result<PublishAnswer, PublishAnswer> {
        self.append(ctx, block, Origin::Published).map_err(|fault| PublishAnswer::Invalid(fault.to_string()))?;
        self.decision.guard(guard);
        self.decision.broadcast(block.id());
        Ok(PublishAnswer::Accepted(block.id()))
    }

    /// A host signs with this key from now on, or does so no longer. Before it came back, another node may have signed with it.
    pub(super) fn set_signer(&mut self, ctx: Ctx<'_>, key: Option<PublicKey>) {
        self.publishing.signs = key;
        if key.is_some() {
            self.hear_again(ctx);
        }
    }
}

// ---- The checks of a publish ---------------------------------------------------------------------------------------

impl Syncer {
    fn check_takes_blocks(&self) -> Result<(), PublishAnswer> {
        if self.draining {
            Err(PublishAnswer::Draining)
        } else if self.is_full() {
            Err(PublishAnswer::StorageFull)
        } else if let Some(halt) = self.standing.halted() {
            Err(PublishAnswer::Halted(halt.to_string()))
        } else if self.chain.fresh_bytes() > self.config.limits.commit_bytes {
            Err(PublishAnswer::Overloaded)
        } else {
            Ok(())
        }
    }

    /// The header that this proposal has on our chain.
    fn header_of(&self, ctx: Ctx<'_>, proposal: &Proposal) -> Result<Header, PublishAnswer> {
        let heads = self.chain.heads();
        let height = proposal.height;
        if height < heads.tail {
            return Err(PublishAnswer::Invalid(format!("height {height} is below the lowest that is kept here")));
        }
        if height > heads.next_height() {
            return Err(self.not_next());
        }
        if proposal.host_id.len() > native::MAX_HOST_ID_BYTES {
            return Err(PublishAnswer::Invalid(format!("hostId is longer than {} bytes", native::MAX_HOST_ID_BYTES)));
        }
        let parent_hash = self.chain.parent_hash(height, ctx.stored);
        if proposal.parent.is_some() && proposal.parent != parent_hash {
            return Err(match self.chain.hash(height, ctx.stored) {
                Some(hash) => PublishAnswer::Conflict(BlockId { height, hash }),
                None => self.not_next(),
            });
        }
        let Some(proposer) = self.rules.schedule.proposer_at(height) else {
            return Err(PublishAnswer::Invalid("nobody proposes at this height".to_owned()));
        };
        Ok(Header {
            chain_id: self.rules.chain_id.clone(),
            height,
            time_unix_nanos: proposal.time_unix_nanos,
            parent_hash,
            payload_hash: proposal.payload_hash,
            proposer,
            host_id: proposal.host_id.clone(),
        })
    }

    /// Whether a block of ours is the one that can be stored next. Else the answer to its publish is known already.
    fn check_is_next(&self, ctx: Ctx<'_>, hash: Hash, header: &Header) -> Result<(), PublishAnswer> {
        let heads = self.chain.heads();
        let id = BlockId { height: header.height, hash };
        if let Some(hash) = self.chain.hash(id.height, ctx.stored) {
            let known = BlockId { height: id.height, hash };
            return Err(if hash == id.hash { PublishAnswer::Duplicate(known) } else { PublishAnswer::Conflict(known) });
        }
        let links = heads.top().is_none_or(|top| header.parent_hash == Some(top.id.hash));
        if id.height != heads.next_height() || !links {
            return Err(self.not_next());
        }
        if let Some(pinned) = self.reverse_sync.pinned(id.height).filter(|pinned| *pinned != id) {
            return Err(PublishAnswer::Conflict(pinned));
        }
        if self.standing.vetoed().is_some() && !self.da.names(hash, header) {
            return Err(PublishAnswer::NotReady("the execution's veto stands: DA or an operator decides".to_owned()));
        }
        if self.is_refused_as_given_up(hash, header) {
            return Err(PublishAnswer::Invalid("this very block was given up: make another one".to_owned()));
        }
        // What somebody has seen signed already is no new signature.
        let awaits = self.awaits().filter(|_| !self.awaited.has(id));
        awaits.map_or(Ok(()), |why| Err(PublishAnswer::NotReady(why)))
    }

    /// Whether the peers were heard since the node started, or soft or the guard fell.
    fn check_has_heard(&self, ctx: Ctx<'_>) -> Result<(), PublishAnswer> {
        match self.hearing.waits(ctx.now.elapsed, self.exchange.connected_peers()) {
            None => Ok(()),
            Some(round) => {
                Err(PublishAnswer::NotYet { why: round.to_string(), retry_after: HEARING_RETRY.min(round.left()) })
            }
        }
    }

    /// Why nothing can be published now, when this node may publish.
    pub(super) fn not_ready(&self) -> Option<String> {
        // What an operator is to do then is said with the halt, and whatever else is in the way may go away with it.
        if self.standing.halted().is_some() && self.publishing.may_publish() {
            return Some("halted: an operator has to look (ctl status says at what)".to_owned());
        }
        let of_guard = self.publishing.not_ready(self.chain.heads().soft_height());
        let awaits = self.awaits().filter(|_| self.publishing.may_publish());
        // Without a guard nothing else matters; where it is ahead, what is awaited says more.
        let first = if self.publishing.has_guard() { awaits.or(of_guard) } else { of_guard.or(awaits) };
        first.or_else(|| self.hearing.looked().map(|round| round.to_string()))
    }

    fn not_next(&self) -> PublishAnswer {
        let heads = self.chain.heads();
        PublishAnswer::NotNext { height: heads.next_height(), parent: heads.top().map(|top| top.id.hash) }
    }

    fn check_proposed_time(&self, ctx: Ctx<'_>, time_unix_nanos: u64) -> Result<(), PublishAnswer> {
        if self.chain.heads().soft.is_some_and(|soft| time_unix_nanos < soft.time_unix_nanos) {
            return Err(PublishAnswer::Invalid("its time is before its parent's".to_owned()));
        }
        match time_unix_nanos.saturating_sub(self.rules.latest_time(ctx.now)) {
            0 => Ok(()),
            ahead => Err(PublishAnswer::NotYet {
                why: "its time is ahead of the sidecar's clock: compare both clocks".to_owned(),
                retry_after: Duration::from_nanos(ahead),
            }),
        }
    }
}
