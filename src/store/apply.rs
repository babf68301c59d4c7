//! A [`Batch`] becomes one write: its changes, in order, are applied to what is stored, so that each key is written once.
//!
//! Asserted, since a store that obeys nonsense is worse than a process that ends:
//! 1. A block is appended directly above soft, and links to it; the first one of a store is taken as it comes. A block is
//!    prepended directly below the tail, which links to it.
//! 2. Nothing at or below hard is taken back, and a truncation raises the epoch. Nothing above hard is pruned, or above soft
//!    while there is no hard.
//! 3. Only stored blocks are confirmed, or are a side of evidence.
//! 4. What is stored is not disowned: a block that is stored leaves the list in the same write. The core keeps the list short.
//! 5. The heads that the batch announces are those that its changes lead to; hard never decreases, never changes its hash,
//!    and is not above soft.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::StoreError;
use super::da_notes;
use super::db::{DbView, Writes};
use super::disowned::{CopyStamp, DisownedList};
use super::guard::{GuardChange, GuardWrite, StampedList};
use super::keys::{self, Space};
use super::read::decode_block;
use super::record::{self, HeaderRecord, StampedHeads};
use super::stand_in;
use crate::block::{Block, BlockId, Format, Hash, Height, SignedHeader};
use crate::sync::{
    Anchor, Basis, Batch, Change, Confirmation, DaNotes, Disowned, Evidence, EvidenceId, EvidenceSide, Floor,
    GuardEntry, Heads, Origin,
};
use crate::util::saturate;
use crate::verify::{Tip, VerifiedBlock};

/// Of which heights evidence is kept.
pub(super) type EvidenceIndex = BTreeMap<EvidenceId, Height>;

/// What the store remembers between commits.
#[derive(Clone, Debug)]
pub(super) struct ApplyState {
    /// As last committed; no target.
    pub(super) stamped: StampedHeads,
    /// The highest hard block ever; above `heads.hard` while a loss is being repaired.
    pub(super) hard: Option<Anchor>,
    pub(super) evidence: EvidenceIndex,
    /// The digest of the consumers' names.
    pub(super) consumers: u64,
    /// The database says the same.
    pub(super) disowned: Arc<DisownedList>,
    /// The store's id.
    pub(super) store_id: [u8; 16],
}

/// One write, and what it leads to.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) writes: Writes,
    pub(super) state: ApplyState,
    /// What becomes of the guard, and of what lies beside it.
    pub(super) guard: GuardWrite,
}

/// Applies a batch to the state that it follows.
pub(super) fn apply(
    view: &DbView,
    format: Format,
    max_evidence: usize,
    state: &ApplyState,
    batch: &Batch,
) -> Result<Applied, StoreError> {
    let before = state.stamped.heads;
    let mut applier = Applier {
        view,
        format,
        max_evidence,
        writes: Writes::new(),
        heads: Heads { tail: first_tail(&before, batch), ..before },
        blocks_bytes: state.stamped.blocks_bytes,
        evidence: None,
        reset_guard: None,
        known_evidence: &state.evidence,
        consumers: state.consumers,
        disowned: Arc::clone(&state.disowned),
    };
    batch.changes.iter().try_for_each(|change| applier.apply_change(change))?;
    applier.assert_leads_to(&batch.heads);
    assert_hard_stays(&before, &batch.heads);
    applier.assert_absent(batch)?;
    let after = applier.stamp(state, batch.heads)?;
    let stamp = CopyStamp { store_id: state.store_id, commit: after.stamped.commit };
    let stamped = |list| StampedList { list, stamp };
    let list = &after.disowned;
    let all = (*list != state.disowned).then(|| Arc::new(list.with_leaving(&state.disowned)));
    let guard = GuardWrite {
        afterwards: all.as_ref().filter(|all| *all != list).map(|_| stamped(Arc::clone(list))),
        disowned: all.map(stamped),
        change: applier.guard_change(batch.guard),
    };
    Ok(Applied { writes: applier.writes, state: after, guard })
}

/// Where an empty store begins is told by its first block, or, as long as there is none, by the heads.
fn first_tail(before: &Heads, batch: &Batch) -> Height {
    if before.top().is_some() {
        return before.tail;
    }
    let first = batch.changes.iter().find_map(|change| match change {
        Change::Append { block, .. } => Some(block.id().height),
        _ => None,
    });
    first.unwrap_or(batch.heads.tail)
}

fn assert_hard_stays(before: &Heads, heads: &Heads) {
    assert!(before.hard_height() <= heads.hard_height(), "hard never decreases");
    if before.hard_height() == heads.hard_height() {
        assert_eq!(before.hard, heads.hard, "hard never changes its hash");
    }
}

/// Whether a consumer is one from now on, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    From,
    NoLonger,
}

struct Applier<'a> {
    view: &'a DbView,
    format: Format,
    max_evidence: usize,
    writes: Writes,
    /// As they are after the changes so far.
    heads: Heads,
    /// Bytes of the blocks that are stored then.
    blocks_bytes: u64,
    /// A copy of the known evidence, once it changes.
    evidence: Option<EvidenceIndex>,
    known_evidence: &'a EvidenceIndex,
    consumers: u64,
    disowned: Arc<DisownedList>,
    /// The operator's last word about the guard.
    #[expect(clippy::option_option, reason = "nothing said, or said that nothing was signed")]
    reset_guard: Option<Option<BlockId>>,
}

impl Applier<'_> {
    /// The batch announces the heads that its changes lead to.
    fn assert_leads_to(&self, heads: &Heads) {
        assert_eq!(self.heads.tail, heads.tail, "the changes of a commit lead to its tail");
        assert_eq!(self.heads.base, heads.base, "the changes of a commit lead to its base");
        assert_eq!(self.heads.soft, heads.soft, "the changes of a commit lead to its soft head");
        assert_eq!(self.heads.epoch, heads.epoch, "only a truncation changes the epoch");
        assert_eq!(self.heads.floor, heads.floor, "the floor changes only where a store begins");
        assert!(heads.hard_height() <= heads.soft_height(), "hard is not above soft");
        assert!(heads.hard_height().is_none_or(|hard| heads.tail <= hard), "nothing above hard is pruned");
    }

    /// What this batch disowns is not stored after it.
    fn assert_absent(&self, batch: &Batch) -> Result<(), StoreError> {
        for change in &batch.changes {
            if let Change::Disown(Disowned { id, .. }) = change
                && self.disowned.contains(&id.hash)
            {
                let there = self.get(Space::Headers, &keys::height(id.height))?.and_then(HeaderRecord::decode);
                assert!(there.is_none_or(|there| there.hash != id.hash), "what is stored is not disowned");
            }
        }
        assert!(self.disowned.len() <= DisownedList::MAX, "the core keeps the list of the disowned short");
        Ok(())
    }

    /// Writes what changes with every commit, and says what is remembered after it.
    fn stamp(&mut self, before: &ApplyState, heads: Heads) -> Result<ApplyState, StoreError> {
        let hard = self.highest_hard(before, heads.hard)?;
        let stamped = StampedHeads {
            commit: before.stamped.commit + 1,
            heads: Heads { target: None, ..heads },
            blocks_bytes: self.blocks_bytes,
        };
        self.put(Space::Meta, keys::HEADS, &stamped.encode());
        if before.stamped.heads.scanned_through != heads.scanned_through {
            self.put(Space::Sightings, keys::CURSOR, &heads.scanned_through.to_be_bytes());
        }
        let evidence = self.evidence.take().unwrap_or_else(|| before.evidence.clone());
        let (consumers, disowned) = (self.consumers, Arc::clone(&self.disowned));
        Ok(ApplyState { stamped, hard, evidence, consumers, disowned, store_id: before.store_id })
    }

    fn guard_change(&self, signed: Option<GuardEntry>) -> Option<GuardChange> {
        match (self.reset_guard, signed) {
            // What was signed after the operator's word stands above it.
            (Some(last), then) => Some(GuardChange::Reset { last, then }),
            (None, entry) => entry.map(GuardChange::Raise),
        }
    }

    fn apply_change(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Append { block, origin } => self.append(block, *origin),
            Change::Truncate { from, epoch } => {
                assert!(*epoch > self.heads.epoch, "a truncation raises the epoch");
                self.heads.epoch = *epoch;
                self.truncate(*from)?;
                self.put(Space::Retractions, &keys::epoch(*epoch), &keys::height(*from));
            }
            Change::Prune { below } => self.prune(*below)?,
            Change::Prepend { block, origin } => self.prepend(block, *origin),
            Change::Begin { tail, floor } => self.begin(*tail, *floor),
            Change::Confirm { height, position, basis } => {
                assert!(self.heads.stores(*height), "only a stored block is confirmed");
                let hash = self.stored_hash(*height)?;
                let confirmation = Confirmation { position: *position, basis: *basis };
                let body = record::encode_confirmation(hash, confirmation);
                self.put(Space::Confirmations, &keys::height(*height), &body);
            }
            Change::KeepSighting(sighting) => {
                let body = record::encode_sighting(sighting);
                self.put(Space::Sightings, &keys::position(sighting.position), &body);
            }
            Change::DropSighting(position) => self.remove(Space::Sightings, &keys::position(*position)),
            Change::DaNotes(notes) if *notes == DaNotes::default() => self.remove(Space::Sightings, keys::DA_NOTES),
            Change::DaNotes(notes) => self.put(Space::Sightings, keys::DA_NOTES, &da_notes::encode(notes)),
            Change::KeepProved(proved) => {
                self.put(Space::Meta, &keys::proved(&proved.id.hash), &record::encode_proved(*proved));
            }
            Change::ForgetProved(id) => self.remove(Space::Meta, &keys::proved(&id.hash)),
            Change::Evidence(evidence) => self.keep_evidence(evidence)?,
            Change::WithdrawSchedule(from) => self.remove(Space::Meta, &keys::schedule(*from)),
            Change::Schedule(entry) => self.put(Space::Meta, &keys::schedule(entry.from), &entry.proposer.0),
            Change::Veto(vetoed) => self.put_or_remove(keys::VETO, vetoed.map(record::encode_id)),
            Change::Halt(halted) => self.put_or_remove(keys::HALT, halted.map(record::encode_halt)),
            Change::Ack { consumer, up_to } => {
                self.count_consumer(consumer, Counts::From)?;
                self.put(Space::Meta, &keys::ack(consumer), &record::encode_id(*up_to));
            }
            Change::ForgetConsumer(consumer) => {
                self.count_consumer(consumer, Counts::NoLonger)?;
                self.remove(Space::Meta, &keys::ack(consumer));
            }
            Change::Disown(disowned) => self.disown(*disowned),
            Change::Own(id) => self.own(&id.hash),
            Change::ForgetLost(word) => self.remove(Space::Meta, &keys::lost(*word)),
            Change::ResetGuard(last) => self.reset_guard = Some(*last),
        }
        Ok(())
    }

    fn begin(&mut self, tail: Height, floor: Option<Floor>) {
        assert!(self.heads.soft.is_none(), "only an empty store begins");
        self.heads = Heads { tail, base: None, floor, ..self.heads };
    }

    fn append(&mut self, verified: &VerifiedBlock, origin: Origin) {
        let block = verified.block();
        let height = block.height();
        assert_eq!(height, self.heads.next_height(), "a block is appended directly above soft");
        match self.heads.top() {
            Some(top) => assert_eq!(block.header().parent_hash, Some(top.id.hash), "an appended block links to soft"),
            None => self.heads.base = Tip::below(block),
        }
        self.put_block(block, origin);
        self.heads.soft = Some(verified.tip());
    }

    fn prepend(&mut self, verified: &VerifiedBlock, origin: Origin) {
        let block = verified.block();
        assert_eq!(Some(block.id()), self.heads.base.map(|base| base.id), "the tail links to a prepended block");
        self.put_block(block, origin);
        self.heads.tail = block.height();
        self.heads.base = Tip::below(block);
    }

    fn put_block(&mut self, block: &Block, origin: Origin) {
        let key = keys::height(block.height());
        let hash = block.hash();
        self.put_parts(Space::Blocks, &key, &[&[record::encode_origin(origin)], block.bytes()]);
        let len = block.bytes().len();
        self.put_parts(Space::Headers, &key, &[&HeaderRecord::prefix(hash, len), block.header_bytes()]);
        self.put(Space::Hashes, keys::hash(&hash), &key);
        self.blocks_bytes += saturate::to_u64(len);
        self.own(&hash);
    }

    /// Before its acknowledgement is written, or removed.
    fn count_consumer(&mut self, name: &str, counts: Counts) -> Result<(), StoreError> {
        let key = keys::ack(name);
        let is_known = match self.writes.get(&(Space::Meta, key.clone())) {
            Some(written) => written.is_some(),
            None => self.view.contains(Space::Meta, &key)?,
        };
        if is_known == (counts == Counts::NoLonger) {
            self.consumers ^= stand_in::digest([name.as_bytes()]);
        }
        Ok(())
    }

    fn disown(&mut self, disowned: Disowned) {
        Arc::make_mut(&mut self.disowned).add(disowned);
        self.put(Space::Meta, &keys::disowned(&disowned.id.hash), &record::encode_disowned(disowned));
    }

    fn own(&mut self, hash: &Hash) {
        if self.disowned.contains(hash) {
            Arc::make_mut(&mut self.disowned).remove(hash);
            self.remove(Space::Meta, &keys::disowned(hash));
        }
    }

    fn remove_block(&mut self, height: Height) -> Result<(), StoreError> {
        let HeaderRecord { hash, block_bytes, .. } = self.stored_header(height)?;
        let key = keys::height(height);
        self.remove(Space::Blocks, &key);
        self.remove(Space::Headers, &key);
        self.remove(Space::Hashes, keys::hash(&hash));
        self.remove(Space::Confirmations, &key);
        self.blocks_bytes = self.blocks_bytes.saturating_sub(block_bytes);
        Ok(())
    }

    fn prune(&mut self, below: Height) -> Result<(), StoreError> {
        assert!(self.heads.stores(below), "what is left is stored");
        let base = below.prev().map(|base| self.tip(base)).transpose()?.flatten();
        for height in heights(self.heads.tail, below) {
            self.remove_block(height)?;
        }
        self.heads.tail = below;
        self.heads.base = base;
        Ok(())
    }

    fn truncate(&mut self, from: Height) -> Result<(), StoreError> {
        assert!(self.heads.hard_height().is_none_or(|hard| from > hard), "nothing at or below hard is taken back");
        let Some(soft) = self.heads.soft_height() else { return Ok(()) };
        let from = from.max(self.heads.tail);
        for height in heights(from, soft.next()) {
            self.remove_block(height)?;
        }
        if from <= soft {
            let parent = from.prev().filter(|parent| *parent >= self.heads.tail);
            self.heads.soft = match parent {
                None => None,
                Some(parent) => self.tip(parent)?,
            };
        }
        Ok(())
    }

    fn keep_evidence(&mut self, evidence: &Evidence) -> Result<(), StoreError> {
        let mut index = self.evidence.take().unwrap_or_else(|| self.known_evidence.clone());
        // One pair proves it; more of them prove nothing more.
        if !index.values().any(|height| *height == evidence.height) {
            let first = match &evidence.first {
                EvidenceSide::Carried(signed) => signed.clone(),
                EvidenceSide::Stored(id) => self.stored_signed_header(*id)?,
            };
            let body = record::encode_evidence(evidence.height, &first, &evidence.second);
            self.put(Space::Evidence, &keys::evidence(evidence.id), &body);
            index.insert(evidence.id, evidence.height);
            while index.len() > self.max_evidence
                && let Some((oldest, _)) = index.pop_first()
            {
                self.remove(Space::Evidence, &keys::evidence(oldest));
            }
        }
        self.evidence = Some(index);
        Ok(())
    }

    /// Hard itself, or what was hard before a loss and is not reached again yet.
    fn highest_hard(&mut self, state: &ApplyState, hard: Option<BlockId>) -> Result<Option<Anchor>, StoreError> {
        let Some(id) = hard else { return Ok(state.hard) };
        match state.hard {
            Some(highest) if highest.id.height > id.height => return Ok(state.hard),
            Some(highest) if highest.id.height == id.height => {
                assert_eq!(highest.id, id, "what was hard once stays so");
                if state.stamped.heads.hard != hard {
                    self.remove(Space::Meta, keys::ANCHOR);
                    let key = keys::height(id.height);
                    if self.get(Space::Confirmations, &key)?.is_none() {
                        // The anchor knows where it was confirmed.
                        let confirmation = Confirmation { position: highest.position, basis: Basis::Bytes };
                        let body = record::encode_confirmation(id.hash, confirmation);
                        self.put(Space::Confirmations, &key, &body);
                    }
                }
                return Ok(state.hard);
            }
            Some(highest) if self.heads.stores(highest.id.height) => {
                let stored = self.stored_hash(highest.id.height)?;
                assert_eq!(stored, highest.id.hash, "hard moves on along what was hard before");
            }
            _ => {}
        }
        self.remove(Space::Meta, keys::ANCHOR);
        let position = match self.get(Space::Confirmations, &keys::height(id.height))? {
            Some(body) => record::decode_confirmation(body).map(|(_, confirmation)| confirmation.position),
            None => None,
        };
        // The core confirms a block no later than in the batch that makes it hard.
        let position = position.unwrap_or_else(|| panic!("the hard block {} is a confirmed one", id.height));
        Ok(Some(Anchor { id, position }))
    }

    fn stored_hash(&self, height: Height) -> Result<Hash, StoreError> {
        self.stored_header(height).map(|record| record.hash)
    }

    fn stored_header(&self, height: Height) -> Result<HeaderRecord, StoreError> {
        let body = self.get(Space::Headers, &keys::height(height))?;
        body.and_then(HeaderRecord::decode).ok_or_else(|| StoreError::damaged(format!("header {height}")))
    }

    fn stored_signed_header(&self, id: BlockId) -> Result<SignedHeader, StoreError> {
        let body = self.get(Space::Blocks, &keys::height(id.height))?;
        let block = body.and_then(|body| decode_block(self.format, id.height, &body));
        let (block, _) = block.ok_or_else(|| StoreError::damaged(format!("block {}", id.height)))?;
        assert_eq!(block.id(), id, "the stored side of evidence is stored");
        Ok(block.signed_header())
    }

    /// The tip of the chain that ends at `height`, which must be stored.
    fn tip(&self, height: Height) -> Result<Option<Tip>, StoreError> {
        if !self.writes.contains_key(&(Space::Blocks, keys::height(height).to_vec())) {
            return self.view.tip(height)?.map(Some).ok_or_else(|| StoreError::damaged(format!("header {height}")));
        }
        let body = self.get(Space::Blocks, &keys::height(height))?;
        let block = body.and_then(|body| decode_block(self.format, height, &body));
        let (block, _) = block.ok_or_else(|| StoreError::damaged(format!("block {height}")))?;
        Ok(Some(Tip { id: block.id(), time_unix_nanos: block.header().time_unix_nanos }))
    }

    /// What this batch wrote, or else what is stored.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.writes.get(&(space, key.to_vec())) {
            Some(written) => Ok(written.as_ref().map(|record| record::body(record))),
            None => self.view.get(space, key),
        }
    }

    fn put(&mut self, space: Space, key: &[u8], body: &[u8]) {
        self.put_parts(space, key, &[body]);
    }

    fn put_parts(&mut self, space: Space, key: &[u8], parts: &[&[u8]]) {
        self.writes.insert((space, key.to_vec()), Some(record::seal(space, key, parts)));
    }

    fn put_or_remove(&mut self, key: &[u8], body: Option<Vec<u8>>) {
        match body {
            Some(body) => self.put(Space::Meta, key, &body),
            None => self.remove(Space::Meta, key),
        }
    }

    fn remove(&mut self, space: Space, key: &[u8]) {
        self.writes.insert((space, key.to_vec()), None);
    }
}

/// The heights from `from` on that are below `end`.
fn heights(from: Height, end: Height) -> impl Iterator<Item = Height> {
    (from.get()..end.get()).filter_map(Height::new)
}
