//! Publishing: from a host's proposal to a signed block on disk, and the guard that keeps the key from signing twice.
//!
//! ```text
//!   Publish --checks--> Sign --> Signed --checks again--> Commit (block + guard) --durable--> Reply, Broadcast
//! ```
//!
//! Invariants:
//! 1. The guard never allows two different hashes at one height, over crashes, wiped stores and restored backups: what was
//!    signed last is durable in it before the signed block leaves the process, and before a signer outside is asked.
//! 2. One block is being signed at a time; proposals for the heights after it wait, bounded.
//! 3. The same proposal on the same parent gets the same answer, however often it is made.

use std::collections::VecDeque;

use super::{Answer, Ctx, Effect, GuardEntry, GuardState, Halt, Origin, Proposal, PublishAnswer, Syncer, Ticket};
use crate::block::{BlockId, Hash, Header, Height, Malformed, PublicKey, native};
use crate::verify::{AuthenticBlock, Fault};

/// A proposal whose signature is awaited.
#[derive(Debug)]
struct Signing {
    ticket: Ticket,
    id: BlockId,
}

#[derive(Debug)]
pub(super) struct Publishing {
    pub signs: Option<PublicKey>,
    guard: GuardState,
    signing: Option<Signing>,
    waiting: VecDeque<(Ticket, Proposal)>,
    max_waiting: usize,
}

impl Publishing {
    pub fn new(signs: Option<PublicKey>, guard: GuardState, max_waiting: usize) -> Self {
        Self { signs, guard, signing: None, waiting: VecDeque::new(), max_waiting }
    }

    /// Whether blocks of this node's making may be out there: it has a guard, or a key whose guard was lost.
    pub fn may_publish(&self) -> bool {
        self.has_guard() || self.signs.is_some()
    }

    pub fn has_guard(&self) -> bool {
        self.guard != GuardState::Missing
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
            GuardState::Unused | GuardState::Signed(_) => None,
        }
    }

    pub fn reset_guard(&mut self, last: Option<BlockId>) {
        self.guard = GuardState::after(last);
    }
}

const GUARD_MISSING: &str = "the guard file is missing, so nobody knows what this key has signed: an operator must say the \
                             last signed block (ctl assert-signed)";

fn guard_ahead(last: BlockId) -> String {
    format!(
        "this key has signed up to {last}, and the store ends below it: syncing up to it. If nobody has that block any more, \
         publish the same one again, or let an operator say what was signed last (ctl assert-signed)"
    )
}

/// Where a proposal stands.
enum Place {
    /// On top of soft: it can be made now.
    Next,
    /// The answer is known already.
    Answered(PublishAnswer),
}

impl Syncer {
    pub(super) fn publish(&mut self, ctx: Ctx<'_>, ticket: Ticket, proposal: Proposal) {
        if self.publishing.signing.is_some() {
            if self.publishing.waiting.len() >= self.publishing.max_waiting {
                self.answer(ticket, PublishAnswer::Overloaded);
            } else {
                self.publishing.waiting.push_back((ticket, proposal));
            }
            return;
        }
        if let Err(answer) = self.try_publish(ctx, ticket, &proposal) {
            self.answer(ticket, answer);
        }
    }

    /// Goes on with the proposals that waited for a signature.
    pub(super) fn publish_waiting(&mut self, ctx: Ctx<'_>) {
        while self.publishing.signing.is_none() {
            let Some((ticket, proposal)) = self.publishing.waiting.pop_front() else { break };
            self.publish(ctx, ticket, proposal);
        }
    }

    pub(super) fn drain_publishing(&mut self) {
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
        self.reply(ticket, Answer::Publish(answer));
        self.after_durable.extend(again.map(Effect::Broadcast));
    }

    fn try_publish(&mut self, ctx: Ctx<'_>, ticket: Ticket, proposal: &Proposal) -> Result<(), PublishAnswer> {
        self.may_take_blocks()?;
        let (header, parent) = self.header_of(ctx, proposal)?;
        let header_bytes = native::encode_header(&header);
        let id = BlockId { height: header.height, hash: Hash::of(&header_bytes) };
        if native::encoded_len(header_bytes.len(), proposal.payload.len()) > self.rules.max_block_bytes {
            return Err(PublishAnswer::TooLarge { max_block_bytes: self.rules.max_block_bytes });
        }
        match self.place(ctx, id, parent)? {
            Place::Answered(answer) => return Err(answer),
            Place::Next => {}
        }
        self.check_proposed_time(ctx, header.time_unix_nanos)?;
        match self.publishing.signs {
            None => {
                return Err(PublishAnswer::NotReady("no signer: set signer.key, pass a signer to `open`, or publish blocks that the host has signed (publishSigned)".to_owned()));
            }
            Some(key) if key != header.proposer => {
                let why =
                    format!("the proposer at height {} is {}, this node signs with {key}", id.height, header.proposer);
                return Err(PublishAnswer::NotReady(why));
            }
            Some(_) => {}
        }
        let guard = self.pass_guard(ctx, id)?;
        self.publishing.guard = GuardState::Signed(guard);
        self.publishing.signing = Some(Signing { ticket, id });
        let payload = proposal.payload.clone();
        self.immediate.push(Effect::Sign { ticket, header_bytes, payload, guard });
        Ok(())
    }

    /// The signature has come, or will not.
    pub(super) fn signed(&mut self, ctx: Ctx<'_>, ticket: Ticket, outcome: Result<AuthenticBlock, String>) {
        let Some(signing) = self.publishing.signing.take_if(|signing| signing.ticket == ticket) else { return };
        let outcome = match outcome {
            Ok(block) if block.id() != signing.id => Err("the signer signed another block".to_owned()),
            outcome => outcome,
        };
        if let (Ok(_), Some(halt)) = (&outcome, self.halted) {
            return self.answer(ticket, PublishAnswer::Halted(halt.to_string()));
        }
        let answer = match outcome {
            Err(why) => PublishAnswer::NotReady(why),
            // The world may have changed while the signer thought.
            Ok(block) => match self.place(ctx, block.id(), block.parent_hash()) {
                Err(answer) | Ok(Place::Answered(answer)) => answer,
                Ok(Place::Next) => self.store_own(ctx, &block, GuardEntry { last: block.id() }),
            },
        };
        self.answer(ticket, answer);
    }

    /// A block that the host signed itself.
    pub(super) fn publish_signed(&mut self, ctx: Ctx<'_>, ticket: Ticket, outcome: Result<AuthenticBlock, Fault>) {
        let answer = match outcome {
            Ok(block) => self.try_publish_signed(ctx, &block).unwrap_or_else(|answer| answer),
            Err(Fault::Malformed(Malformed::TooLarge { max, .. })) => PublishAnswer::TooLarge { max_block_bytes: max },
            Err(fault) => PublishAnswer::Invalid(fault.to_string()),
        };
        self.answer(ticket, answer);
    }

    fn try_publish_signed(&mut self, ctx: Ctx<'_>, block: &AuthenticBlock) -> Result<PublishAnswer, PublishAnswer> {
        self.may_take_blocks()?;
        if self.publishing.signing.is_some() {
            return Err(PublishAnswer::Overloaded);
        }
        match self.place(ctx, block.id(), block.parent_hash())? {
            Place::Answered(answer) => return Err(answer),
            Place::Next => {}
        }
        self.check_proposed_time(ctx, block.time_unix_nanos())?;
        // What cannot be stored must not be in the way of what can.
        self.may_stand(block).map_err(|fault| PublishAnswer::Invalid(fault.to_string()))?;
        let guard = self.pass_guard(ctx, block.id())?;
        self.publishing.guard = GuardState::Signed(guard);
        Ok(self.store_own(ctx, block, guard))
    }

    fn store_own(&mut self, ctx: Ctx<'_>, block: &AuthenticBlock, guard: GuardEntry) -> PublishAnswer {
        match self.append(ctx, block, Origin::Published) {
            Ok(()) => {
                self.guard_change = Some(guard);
                self.after_durable.push(Effect::Broadcast(block.id()));
                PublishAnswer::Accepted(block.id())
            }
            Err(fault) => PublishAnswer::Invalid(fault.to_string()),
        }
    }

    fn may_take_blocks(&self) -> Result<(), PublishAnswer> {
        if self.draining {
            Err(PublishAnswer::Draining)
        } else if self.is_full() {
            Err(PublishAnswer::StorageFull)
        } else if let Some(halt) = self.halted {
            Err(PublishAnswer::Halted(halt.to_string()))
        } else if self.chain.fresh_bytes() > self.config.limits.commit_bytes {
            Err(PublishAnswer::Overloaded)
        } else {
            Ok(())
        }
    }

    /// The header that this proposal has on our chain, and its parent's hash.
    fn header_of(&self, ctx: Ctx<'_>, proposal: &Proposal) -> Result<(Header, Option<Hash>), PublishAnswer> {
        let next = self.chain.heads.next_height();
        let height = proposal.height;
        if height < self.chain.heads.tail {
            return Err(PublishAnswer::Invalid(format!("height {height} is below the lowest that is kept here")));
        }
        if height > next {
            return Err(self.not_next());
        }
        if proposal.host_id.len() > native::MAX_HOST_ID_BYTES {
            return Err(PublishAnswer::Invalid(format!("hostId is longer than {} bytes", native::MAX_HOST_ID_BYTES)));
        }
        let parent = self.chain.parent_hash(height, ctx.stored);
        if proposal.parent.is_some() && proposal.parent != parent {
            return Err(match self.chain.hash(height, ctx.stored) {
                Some(hash) => PublishAnswer::Conflict(BlockId { height, hash }),
                None => self.not_next(),
            });
        }
        let Some(proposer) = self.rules.schedule.proposer_at(height) else {
            return Err(PublishAnswer::Invalid("nobody proposes at this height".to_owned()));
        };
        let header = Header {
            chain_id: self.rules.chain_id.clone(),
            height,
            time_unix_nanos: proposal.time_unix_nanos,
            parent_hash: parent,
            payload_hash: proposal.payload_hash,
            proposer,
            host_id: proposal.host_id.clone(),
        };
        Ok((header, parent))
    }

    /// Where a block of ours belongs.
    fn place(&self, ctx: Ctx<'_>, id: BlockId, parent: Option<Hash>) -> Result<Place, PublishAnswer> {
        let heads = self.chain.heads;
        if let Some(hash) = self.chain.hash(id.height, ctx.stored) {
            let known = BlockId { height: id.height, hash };
            return Ok(Place::Answered(if hash == id.hash {
                PublishAnswer::Duplicate(known)
            } else {
                PublishAnswer::Conflict(known)
            }));
        }
        let links = heads.top().is_none_or(|top| parent == Some(top.id.hash));
        if id.height != heads.next_height() || !links {
            return Err(self.not_next());
        }
        if let Some(pinned) = self.pinned(id.height).filter(|pinned| *pinned != id) {
            return Err(PublishAnswer::Conflict(pinned));
        }
        if self.vetoed.is_some() {
            return Err(PublishAnswer::NotReady("the execution's veto stands: DA or an operator decides".to_owned()));
        }
        if self.behind() {
            let target = heads.target.map_or(id.height, |target| target.height);
            return Err(PublishAnswer::NotReady(format!("block {target} is proved to exist: syncing up to it")));
        }
        Ok(Place::Next)
    }

    fn not_next(&self) -> PublishAnswer {
        let heads = self.chain.heads;
        PublishAnswer::NotNext { height: heads.next_height(), parent: heads.top().map(|top| top.id.hash) }
    }

    fn check_proposed_time(&self, ctx: Ctx<'_>, time_unix_nanos: u64) -> Result<(), PublishAnswer> {
        let drift = u64::try_from(self.rules.max_clock_drift.as_nanos()).unwrap_or(u64::MAX);
        if self.chain.heads.soft.is_some_and(|soft| time_unix_nanos < soft.time_unix_nanos) {
            return Err(PublishAnswer::Invalid("its time is before its parent's".to_owned()));
        }
        if time_unix_nanos > ctx.now.unix_nanos.saturating_add(drift) {
            return Err(PublishAnswer::Invalid(
                "its time is ahead of the sidecar's clock: compare both clocks".to_owned(),
            ));
        }
        Ok(())
    }

    /// Whether the key may sign this block: never another one at a height where it signed.
    fn pass_guard(&self, ctx: Ctx<'_>, id: BlockId) -> Result<GuardEntry, PublishAnswer> {
        let entry = GuardEntry { last: id };
        let last = match self.publishing.guard {
            GuardState::Missing => {
                return Err(PublishAnswer::NotReady(GUARD_MISSING.to_owned()));
            }
            GuardState::Unused => return Ok(entry),
            GuardState::Signed(GuardEntry { last }) => last,
        };
        if last.height > id.height {
            return Err(PublishAnswer::NotReady(guard_ahead(last)));
        }
        if last.height == id.height {
            return if last == id { Ok(entry) } else { Err(PublishAnswer::Conflict(last)) };
        }
        match self.chain.hash(last.height, ctx.stored) {
            Some(hash) if hash != last.hash => {
                Err(PublishAnswer::Halted(format!("this key signed {last}, which is not on the chain that is stored")))
            }
            _ => Ok(entry),
        }
    }
}

impl std::fmt::Display for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Diverged { ours, da, position } => write!(
                f,
                "DA height {} has block {da} where {ours} is stored: an operator must abandon the branch \
                 (ctl abandon-branch {ours})",
                position.height
            ),
            Self::Contradicted { ours, position } => write!(
                f,
                "DA height {} names something else than {ours} by an id that proves nothing: an operator must look",
                position.height
            ),
        }
    }
}
