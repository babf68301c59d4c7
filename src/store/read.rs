//! What the records mean: typed reads of one [`DbView`].
//!
//! Nothing that is damaged comes out of here as data, and nothing that must be there is reported as absent: both are
//! [`StoreError::Damaged`].

use bytes::Bytes;

use super::StoreError;
use super::da_notes;
use super::db::DbView;
use super::genesis::ChainRules;
use super::keys::{self, Space};
use super::record::{self, AboutRecord, HeaderRecord, SightingRecord, StampedHeads};
use crate::block::{Block, BlockFormat as _, BlockId, Format, Hash, Header, Height, Lane, PublicKey, native};
use crate::sync::{
    Anchor, Confirmation, DaNotes, DaPosition, Disowned, Epoch, Evidence, EvidenceId, Halt, LostWord, Origin,
    ProvedBlock, Sighting,
};
use crate::verify::{Rules, ScheduleEntry, Tip};

impl DbView {
    pub(super) fn about(&self) -> Result<AboutRecord, StoreError> {
        let body = self.get(Space::Meta, keys::ABOUT)?.ok_or_else(|| StoreError::damaged("the store's description"))?;
        AboutRecord::decode(body).ok_or_else(|| StoreError::damaged("the store's description"))
    }

    pub(super) fn first_proposer(&self) -> Result<Option<PublicKey>, StoreError> {
        let Some(body) = self.get(Space::Meta, keys::FIRST_PROPOSER)? else { return Ok(None) };
        let key = <[u8; PublicKey::LEN]>::try_from(body.as_ref()).ok().map(PublicKey);
        key.map(Some).ok_or_else(|| StoreError::damaged("the key of the first proposer"))
    }

    pub(super) fn chain_rules(&self) -> Result<Option<ChainRules>, StoreError> {
        let Some(body) = self.get(Space::Meta, keys::CHAIN_RULES)? else { return Ok(None) };
        ChainRules::decode(body).map(Some).ok_or_else(|| StoreError::damaged("the chain's rules"))
    }

    pub(super) fn stamped(&self) -> Result<StampedHeads, StoreError> {
        let body = self.get(Space::Meta, keys::HEADS)?.ok_or_else(|| StoreError::damaged("the record of the heads"))?;
        StampedHeads::decode(body).ok_or_else(|| StoreError::damaged("the record of the heads"))
    }

    pub(super) fn block(&self, format: Format, height: Height) -> Result<Option<(Block, Origin)>, StoreError> {
        let Some(body) = self.get(Space::Blocks, &keys::height(height))? else { return Ok(None) };
        decode_block(format, height, &body).map(Some).ok_or_else(|| StoreError::damaged(format!("block {height}")))
    }

    pub(super) fn header_record(&self, height: Height) -> Result<Option<HeaderRecord>, StoreError> {
        let Some(body) = self.get(Space::Headers, &keys::height(height))? else { return Ok(None) };
        HeaderRecord::decode(body).map(Some).ok_or_else(|| StoreError::damaged(format!("header {height}")))
    }

    pub(super) fn hash(&self, height: Height) -> Result<Option<Hash>, StoreError> {
        Ok(self.header_record(height)?.map(|record| record.hash))
    }

    pub(super) fn header(&self, height: Height) -> Result<Option<Header>, StoreError> {
        let Some(record) = self.header_record(height)? else { return Ok(None) };
        match native::decode_header(&record.header) {
            Ok(header) if header.height == height => Ok(Some(header)),
            _ => Err(StoreError::damaged(format!("header {height}"))),
        }
    }

    /// The header records from `from` to `to`, up to the first that is missing.
    pub(super) fn header_records(
        &self,
        from: Height,
        to: Height,
    ) -> impl Iterator<Item = Result<HeaderRecord, StoreError>> {
        self.run(Space::Headers, from, to).map(|entry| {
            let (height, body) = entry?;
            HeaderRecord::decode(body).ok_or_else(|| StoreError::damaged(format!("header {height}")))
        })
    }

    /// The blocks from `from` to `to`, up to the first that is missing.
    pub(super) fn blocks(
        &self,
        format: Format,
        from: Height,
        to: Height,
    ) -> impl Iterator<Item = Result<Block, StoreError>> {
        self.run(Space::Blocks, from, to).map(move |entry| {
            let (height, body) = entry?;
            let block = decode_block(format, height, &body);
            block.map(|(block, _)| block).ok_or_else(|| StoreError::damaged(format!("block {height}")))
        })
    }

    /// The records of one height after the other, in one sweep, which costs much less than to look for each.
    fn run(&self, space: Space, from: Height, to: Height) -> impl Iterator<Item = Result<(Height, Bytes), StoreError>> {
        let wanted = (from.get()..=to.get()).filter_map(Height::new);
        let entries = self.from(space, &keys::height(from)).zip(wanted).map(|(entry, height)| match entry {
            Ok((key, body)) => Ok((key == keys::height(height)).then_some((height, body))),
            Err((_, error)) => Err(error),
        });
        entries.map_while(Result::transpose)
    }

    /// What the next block must link to, were it the one above `height`.
    pub(super) fn tip(&self, height: Height) -> Result<Option<Tip>, StoreError> {
        let (Some(hash), Some(header)) = (self.hash(height)?, self.header(height)?) else { return Ok(None) };
        Ok(Some(Tip { id: BlockId { height, hash }, time_unix_nanos: header.time_unix_nanos }))
    }

    pub(super) fn height_of(&self, hash: &Hash) -> Result<Option<Height>, StoreError> {
        let Some(body) = self.get(Space::Hashes, keys::hash(hash))? else { return Ok(None) };
        let height = record::decode_u64(body).and_then(Height::new);
        height.map(Some).ok_or_else(|| StoreError::damaged(format!("the height of {hash}")))
    }

    /// Which block was confirmed, and where.
    pub(super) fn confirmation(&self, height: Height) -> Result<Option<(Hash, Confirmation)>, StoreError> {
        let Some(body) = self.get(Space::Confirmations, &keys::height(height))? else { return Ok(None) };
        let confirmation = record::decode_confirmation(body);
        confirmation.map(Some).ok_or_else(|| StoreError::damaged(format!("the confirmation of {height}")))
    }

    pub(super) fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, StoreError> {
        let Some(first) = epoch.0.checked_add(1) else { return Ok(None) };
        let mut lowest: Option<Height> = None;
        for entry in self.from(Space::Retractions, &keys::epoch(Epoch(first))) {
            let (_, body) = entry.map_err(|(_, error)| error)?;
            let from = record::decode_u64(body).and_then(Height::new);
            let from = from.ok_or_else(|| StoreError::damaged("the retraction log"))?;
            lowest = Some(lowest.map_or(from, |lowest| lowest.min(from)));
        }
        Ok(lowest)
    }

    pub(super) fn evidence(&self, after: EvidenceId, max: usize) -> Result<Vec<Evidence>, StoreError> {
        self.from(Space::Evidence, &keys::evidence(after.next()))
            .take(max)
            .map(|entry| {
                let (key, body) = entry.map_err(|(_, error)| error)?;
                let evidence = keys::read_u64(&key).and_then(|id| record::decode_evidence(body, EvidenceId(id)));
                evidence.ok_or_else(|| StoreError::damaged("evidence"))
            })
            .collect()
    }

    pub(super) fn acked(&self, consumer: &str) -> Result<Option<BlockId>, StoreError> {
        let Some(body) = self.get(Space::Meta, &keys::ack(consumer))? else { return Ok(None) };
        record::decode_id(body).map(Some).ok_or_else(|| StoreError::damaged("an acknowledgement"))
    }

    pub(super) fn acks(&self) -> Result<Vec<(String, BlockId)>, StoreError> {
        self.meta_under(keys::ACK)?
            .into_iter()
            .map(|(name, body)| {
                let name = String::from_utf8(name).ok();
                name.zip(record::decode_id(body)).ok_or_else(|| StoreError::damaged("an acknowledgement"))
            })
            .collect()
    }

    /// The blocks that were given up, in no order.
    pub(super) fn disowned(&self) -> Result<Vec<Disowned>, StoreError> {
        self.meta_by_hash(keys::DISOWNED, record::decode_disowned, "the list of disowned blocks")
    }

    pub(super) fn is_disowned(&self, hash: &Hash) -> Result<bool, StoreError> {
        self.contains(Space::Meta, &keys::disowned(hash))
    }

    /// The blocks that DA has shown, and that are no sightings any more, in no order.
    pub(super) fn proved(&self) -> Result<Vec<ProvedBlock>, StoreError> {
        self.meta_by_hash(keys::PROVED, record::decode_proved, "what DA has shown")
    }

    /// What hosts and operators had said and damage took.
    pub(super) fn lost_words(&self) -> Result<Vec<LostWord>, StoreError> {
        let words = self.meta_under(keys::LOST)?.into_iter();
        Ok(words.filter_map(|(word, _)| keys::read_lost(&[keys::LOST, &word].concat())).collect())
    }

    /// What was appended to the genesis schedule, ascending.
    pub(super) fn schedule(&self) -> Result<Vec<ScheduleEntry>, StoreError> {
        self.meta_under(keys::SCHEDULE)?
            .into_iter()
            .map(|(from, body)| {
                let entry = keys::read_height(&from).and_then(|from| record::decode_key_of_schedule(body, from));
                entry.ok_or_else(|| StoreError::damaged("the proposer schedule"))
            })
            .collect()
    }

    pub(super) fn veto(&self) -> Result<Option<BlockId>, StoreError> {
        let Some(body) = self.get(Space::Meta, keys::VETO)? else { return Ok(None) };
        record::decode_id(body).map(Some).ok_or_else(|| StoreError::damaged("the host's veto"))
    }

    pub(super) fn halt(&self) -> Result<Option<Halt>, StoreError> {
        let Some(body) = self.get(Space::Meta, keys::HALT)? else { return Ok(None) };
        record::decode_halt(body).map(Some).ok_or_else(|| StoreError::damaged("the reason of the halt"))
    }

    pub(super) fn anchor(&self) -> Result<Option<Anchor>, StoreError> {
        let Some(body) = self.get(Space::Meta, keys::ANCHOR)? else { return Ok(None) };
        record::decode_anchor(body).map(Some).ok_or_else(|| StoreError::damaged("the anchor"))
    }

    pub(super) fn cursor(&self) -> Result<u64, StoreError> {
        let Some(body) = self.get(Space::Sightings, keys::CURSOR)? else { return Ok(0) };
        record::decode_u64(body).ok_or_else(|| StoreError::damaged("the DA cursor"))
    }

    /// All sightings, blocks among them checked again; and where there are those that today's rules refuse.
    pub(super) fn sightings(&self, rules: &Rules) -> Result<(Vec<Sighting>, Vec<DaPosition>), StoreError> {
        let (mut read, mut refused) = (Vec::new(), Vec::new());
        for entry in self.from(Space::Sightings, &[]) {
            let (key, body) = entry.map_err(|(_, error)| error)?;
            let Some(position) = keys::read_position(&key) else { continue };
            match record::decode_sighting(body, position, rules) {
                Some(SightingRecord::Sound(sighting)) => read.push(sighting),
                Some(SightingRecord::Refused) => {
                    tracing::warn!(
                        ?position,
                        "a block seen on DA is dropped, and is to be reported again: the rules refuse it now"
                    );
                    refused.push(position);
                }
                None => return Err(StoreError::damaged("a sighting")),
            }
        }
        Ok((read, refused))
    }

    pub(super) fn da_notes(&self) -> Result<DaNotes, StoreError> {
        let Some(body) = self.get(Space::Sightings, keys::DA_NOTES)? else { return Ok(DaNotes::default()) };
        da_notes::decode(body).ok_or_else(|| StoreError::damaged("what is remembered of DA"))
    }

    /// The records of the meta keyspace whose key is `prefix` and a hash; `what` they are.
    fn meta_by_hash<T>(
        &self,
        prefix: &[u8],
        decode: impl Fn(Bytes, Hash) -> Option<T>,
        what: &str,
    ) -> Result<Vec<T>, StoreError> {
        self.meta_under(prefix)?
            .into_iter()
            .map(|(hash, body)| {
                let record = Hash::from_slice(&hash).and_then(|hash| decode(body, hash));
                record.ok_or_else(|| StoreError::damaged(what))
            })
            .collect()
    }

    /// The records of the meta keyspace whose key starts with `prefix`, without it.
    pub(super) fn meta_under(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError> {
        let mut found = Vec::new();
        for entry in self.from(Space::Meta, prefix) {
            let (key, body) = entry.map_err(|(_, error)| error)?;
            match key.strip_prefix(prefix) {
                Some(rest) => found.push((rest.to_vec(), body)),
                None => break,
            }
        }
        Ok(found)
    }
}

/// A block's record; `None` unless it is a well-formed block of that height.
pub(super) fn decode_block(format: Format, height: Height, body: &Bytes) -> Option<(Block, Origin)> {
    let origin = record::decode_origin(*body.first()?)?;
    let block = format.decode(Lane::BLOCK, &body.slice(1..), usize::MAX).ok()?;
    (block.height() == height).then_some((block, origin))
}
