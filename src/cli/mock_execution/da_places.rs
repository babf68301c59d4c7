//! What stands in this chain's namespace at one DA height, and what there is to report of it.
//!
//! Invariants:
//! 1. What number a place has follows from the blobs alone: whoever looks, whatever he thinks of what stands there, and whenever.
//! 2. Where bytes decide, only what can be no block of this chain is left out: who may propose, the sidecar knows.
//! 3. Where names decide, of each height only one place is named, whose block stands on the one that was named below it.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::da_blob;
use crate::api::{ReportedAs, ReportedSighting};
use crate::block::{BlockId, Hash, Height, Lane};
use crate::sync::{DaEvidence, DaPosition};
use crate::verify::{AuthenticBlock, Fault, Rules};

/// Names that are remembered, of the highest heights.
const MAX_NAMED: usize = 4096;

/// The bytes at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub position: DaPosition,
    pub bytes: Bytes,
}

impl Place {
    /// The very bytes, whatever they are.
    pub fn given(&self) -> ReportedSighting {
        ReportedSighting { position: self.position, height: None, what: ReportedAs::SignedBlock(self.bytes.clone()) }
    }
}

/// Everything that is framed as a block at this DA height, as DA orders it.
pub fn places(da_height: u64, blobs: Vec<Bytes>, max_block_bytes: usize) -> Vec<Place> {
    let all = blobs.into_iter().flat_map(|blob| da_blob::decode(blob, max_block_bytes));
    let place = |(index, bytes)| Place { position: DaPosition { height: da_height, index }, bytes };
    (0..).zip(all).map(place).collect()
}

/// How blocks are reported.
#[derive(Clone, Copy, Debug)]
pub enum Naming {
    /// By digest, until the sidecar wants the bytes.
    Digests,
    /// By their bytes at once.
    Bytes,
    /// By hash, as this host's own rule takes them.
    Names,
}

impl Naming {
    pub fn new(evidence: DaEvidence, at_once: Bodies) -> Self {
        match (evidence, at_once) {
            (DaEvidence::Named, _) => Self::Names,
            (DaEvidence::Block, Bodies::WhenWanted) => Self::Digests,
            (DaEvidence::Block, Bodies::AtOnce) => Self::Bytes,
        }
    }

    /// What there is to say of a place; nothing of what decides nothing. `names` are those of the places before it.
    pub fn report(self, place: &Place, rules: &Rules, names: &Names) -> Option<ReportedSighting> {
        let position = place.position;
        let sighting = |height, what| Some(ReportedSighting { position, height: Some(height), what });
        match self {
            Self::Digests => sighting(may_be_block(place, rules)?, ReportedAs::Digest(Hash::of(&place.bytes))),
            Self::Bytes => may_be_block(place, rules).map(|_| place.given()),
            Self::Names => {
                let block = rules.check(Lane::BLOCK, &place.bytes).ok()?;
                sighting(block.height(), ReportedAs::BlockHash(names.name_of(position, &block)?))
            }
        }
    }
}

/// Whether bytes are given before they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bodies {
    WhenWanted,
    AtOnce,
}

/// The height of a block of this chain, whoever proposes there.
fn may_be_block(place: &Place, rules: &Rules) -> Option<Height> {
    match rules.check(Lane::BLOCK, &place.bytes) {
        Ok(block) => Some(block.height()),
        Err(Fault::NotScheduled { height, .. }) => {
            rules.check_but_for_the_schedule(Lane::BLOCK, &place.bytes).is_ok().then_some(height)
        }
        Err(_) => None,
    }
}

/// A place that is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named {
    pub id: BlockId,
    pub position: DaPosition,
}

impl Named {
    /// What a report says of its place, if it names it.
    pub fn of(sighting: &ReportedSighting) -> Option<Self> {
        match (&sighting.what, sighting.height) {
            (ReportedAs::BlockHash(hash), Some(height)) => {
                Some(Self { id: BlockId { height, hash: *hash }, position: sighting.position })
            }
            _ => None,
        }
    }
}

/// This host's own rule, where its DA is reported by names: the first valid block of each height that links to the one below. Names
/// that were reported are kept over a restart, since a second name for one height would contradict the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    taken: BTreeMap<Height, (DaPosition, Hash)>,
}

impl Names {
    /// The block's hash, if it is taken here: not when another place is taken at its height, or another block below it.
    fn name_of(&self, position: DaPosition, block: &AuthenticBlock) -> Option<Hash> {
        let (height, hash) = (block.height(), block.hash());
        if let Some((known, _)) = self.taken.get(&height) {
            return (*known == position).then_some(hash);
        }
        let below = height.prev().and_then(|below| self.taken.get(&below));
        let fits = below.is_none_or(|(_, below)| Some(*below) == block.parent_hash());
        fits.then_some(hash)
    }

    pub fn has(&self, Named { id, position }: Named) -> bool {
        self.taken.get(&id.height) == Some(&(position, id.hash))
    }

    pub fn take(&mut self, Named { id, position }: Named) {
        self.taken.insert(id.height, (position, id.hash));
        while self.taken.len() > MAX_NAMED {
            self.taken.pop_first();
        }
    }

    /// Ascending.
    pub fn all(&self) -> impl Iterator<Item = Named> {
        self.taken.iter().map(|(height, (position, hash))| Named {
            id: BlockId { height: *height, hash: *hash },
            position: *position,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::block::{ChainId, Format, Header, PublicKey, native};
    use crate::verify::{Schedule, ScheduleEntry};

    fn public(key: u8) -> PublicKey {
        PublicKey(SigningKey::from_bytes(&[key; 32]).verifying_key().to_bytes())
    }

    fn rules() -> Rules {
        let entry = ScheduleEntry { from: Height::MIN, proposer: public(1) };
        Rules {
            format: Format::Native,
            chain_id: ChainId::new("test").unwrap(),
            initial_height: Height::MIN,
            max_block_bytes: 1000,
            max_clock_drift: Duration::ZERO,
            schedule: Schedule::new(Height::MIN, &[entry]).unwrap(),
        }
    }

    fn block(chain: &str, height: u64, parent: Option<Hash>, key: u8, payload: &'static str) -> Bytes {
        let payload = Bytes::from(payload);
        let header = native::encode_header(&Header {
            chain_id: ChainId::new(chain).unwrap(),
            height: Height::new(height).unwrap(),
            time_unix_nanos: height,
            parent_hash: parent,
            payload_hash: Hash::of(&payload),
            proposer: public(key),
            host_id: Bytes::new(),
        });
        let signature = SigningKey::from_bytes(&[key; 32]).sign(&native::signing_message(&header)).to_bytes();
        native::encode(&header, &signature, &payload)
    }

    fn hash(block: &Bytes) -> Hash {
        rules().check(Lane::BLOCK, block).unwrap().hash()
    }

    fn report_all(naming: Naming, names: &mut Names, blocks: &[Bytes]) -> Vec<(u32, ReportedAs)> {
        let blobs = blocks.iter().map(|block| da_blob::encode([block]).into()).collect();
        let places = places(7, blobs, 1000);
        let report = |place| {
            let sighting = naming.report(place, &rules(), names)?;
            if let Some(named) = Named::of(&sighting) {
                names.take(named);
            }
            Some((sighting.position.index, sighting.what))
        };
        places.iter().filter_map(report).collect()
    }

    #[test]
    fn a_place_has_its_number_whatever_stands_around_it() {
        let good = block("test", 1, None, 1, "a");
        let foreign = block("other", 1, None, 1, "a");
        let junk: Bytes = vec![8; 40].into();
        let all = [junk, good.clone(), foreign, good.clone()];
        let reported = report_all(Naming::Digests, &mut Names::default(), &all);
        assert_eq!(reported, [(1, ReportedAs::Digest(Hash::of(&good))), (3, ReportedAs::Digest(Hash::of(&good)))]);
        let reported = report_all(Naming::Bytes, &mut Names::default(), &all);
        assert_eq!(reported, [(1, ReportedAs::SignedBlock(good.clone())), (3, ReportedAs::SignedBlock(good))]);
    }

    #[test]
    fn a_block_of_an_unscheduled_key_is_reported_and_one_that_its_proposer_did_not_sign_is_not() {
        let rotated = block("test", 2, Some(Hash::of(b"1")), 2, "b");
        let mut forged = rotated.to_vec();
        let at = forged.windows(2).rposition(|two| two == [0x12, 64]).expect("the signature's field") + 2;
        forged[at] ^= 1;
        let mut names = Names::default();
        let reported = report_all(Naming::Digests, &mut names, &[forged.into(), rotated.clone()]);
        assert_eq!(reported, [(1, ReportedAs::Digest(Hash::of(&rotated)))]);
        assert_eq!(report_all(Naming::Names, &mut names, &[rotated]), [], "its own rule does not take it");
    }

    #[test]
    fn of_each_height_one_place_is_named_on_top_of_the_one_below() {
        let one = block("test", 1, None, 1, "a");
        let other_one = block("test", 1, None, 1, "b");
        let two = block("test", 2, Some(hash(&one)), 1, "c");
        let other_two = block("test", 2, Some(hash(&other_one)), 1, "d");
        let mut names = Names::default();
        let named = |index, block: &Bytes| (index, ReportedAs::BlockHash(hash(block)));
        let all = [one.clone(), other_one, other_two, two.clone(), one.clone()];
        let expected = [named(0, &one), named(3, &two)];
        assert_eq!(report_all(Naming::Names, &mut names, &all), expected);
        assert_eq!(report_all(Naming::Names, &mut names, &all), expected, "read again, it is the same");
    }
}
