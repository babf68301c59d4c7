//! Whether a store is of the genesis file with which it is opened.
//!
//! Invariants:
//! 1. Whatever in the genesis file decides what is stored, and what becomes hard, is compared before anything is changed: a store
//!    that was begun otherwise is refused, and left as it is.
//! 2. What an earlier store does not say is taken from the genesis file when it is opened for the first time, and compared from
//!    then on.

use std::path::Path;

use bytes::Bytes;

use super::db::{Db, DbView, Writes};
use super::encoding::{Decoder, Encoder};
use super::error::intact;
use super::keys::{self, Space};
use super::record::{self, About};
use super::{Durability, StoreError};
use crate::block::PublicKey;
use crate::sync::DaEvidence;
use crate::util::saturate;
use crate::verify::Rules;

/// What the genesis file says, and whose store it is held against.
pub(super) struct GenesisCheck<'a> {
    pub dir: &'a Path,
    pub rules: &'a Rules,
    pub da_evidence: DaEvidence,
}

impl GenesisCheck<'_> {
    pub fn require_chain(&self, found: &str) -> Result<(), StoreError> {
        if found == self.rules.chain_id.as_str() {
            return Ok(());
        }
        let wanted = self.rules.chain_id.to_string();
        Err(StoreError::WrongChain { dir: self.dir.to_owned(), found: found.to_owned(), wanted })
    }

    /// Whether the store is of this genesis.
    pub fn require(&self, about: &About, view: &DbView) -> Result<(), StoreError> {
        self.require_chain(&about.chain_id)?;
        self.require_same("initial_height", &about.initial_height, &self.rules.initial_height)?;
        if let Some(found) = intact(view.chain_rules())?.flatten() {
            let wanted = self.chain_rules();
            self.require_same("max_block_bytes", &found.max_block_bytes, &wanted.max_block_bytes)?;
            self.require_same("da.evidence", &found.da_evidence.name(), &wanted.da_evidence.name())?;
        }
        let Some(wanted) = self.first_proposer() else { return Ok(()) };
        match intact(view.first_proposer())?.flatten() {
            Some(found) => self.require_same("the first proposer", &found, &wanted),
            None => self.require_proposer_of_lowest(view),
        }
    }

    /// A store of before does not say who proposed first; its lowest block says who made it.
    fn require_proposer_of_lowest(&self, view: &DbView) -> Result<(), StoreError> {
        let Some(stamped) = intact(view.stamped())? else { return Ok(()) };
        let tail = stamped.heads.tail;
        let Some(header) = intact(view.header(tail))?.flatten() else { return Ok(()) };
        let schedule = self.rules.schedule.extended(intact(view.schedule())?.unwrap_or_default());
        let wanted = schedule.proposer_at(tail).unwrap_or(header.proposer);
        self.require_same("a block of the proposer", &header.proposer, &wanted)
    }

    fn require_same<T: PartialEq + ToString>(
        &self,
        what: &'static str,
        found: &T,
        wanted: &T,
    ) -> Result<(), StoreError> {
        if found == wanted {
            return Ok(());
        }
        let (found, wanted) = (found.to_string(), wanted.to_string());
        Err(StoreError::OtherGenesis { dir: self.dir.to_owned(), what, found, wanted })
    }

    /// A store of before, or a new one, says from now on what it was begun with.
    pub fn say(&self, db: &Db, view: &DbView) -> Result<(), StoreError> {
        let mut writes = Writes::new();
        if matches!(view.chain_rules(), Ok(None)) {
            writes.extend([sealed(keys::CHAIN_RULES, &self.chain_rules().encode())]);
        }
        if let Some(PublicKey(key)) = self.first_proposer().filter(|_| matches!(view.first_proposer(), Ok(None))) {
            writes.extend([sealed(keys::FIRST_PROPOSER, &key)]);
        }
        if writes.is_empty() { Ok(()) } else { db.write(writes, Durability::Power) }
    }

    fn first_proposer(&self) -> Option<PublicKey> {
        self.rules.schedule.proposer_at(self.rules.initial_height)
    }

    fn chain_rules(&self) -> ChainRules {
        ChainRules { da_evidence: self.da_evidence, max_block_bytes: self.rules.max_block_bytes }
    }
}

/// What decides which blocks a store takes, and which of them become hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainRules {
    da_evidence: DaEvidence,
    max_block_bytes: usize,
}

impl ChainRules {
    fn encode(self) -> Vec<u8> {
        let mut encoder = Encoder::default();
        let evidence = match self.da_evidence {
            DaEvidence::Block => 0,
            DaEvidence::Named => 1,
        };
        encoder.u8(evidence).u64(saturate::to_u64(self.max_block_bytes));
        encoder.0
    }

    pub fn decode(body: Bytes) -> Option<Self> {
        let mut decoder = Decoder(body);
        let da_evidence = match decoder.u8()? {
            0 => DaEvidence::Block,
            1 => DaEvidence::Named,
            _ => return None,
        };
        let max_block_bytes = saturate::to_usize(decoder.u64()?);
        decoder.end(Self { da_evidence, max_block_bytes })
    }
}

fn sealed(key: &[u8], body: &[u8]) -> ((Space, Vec<u8>), Option<Vec<u8>>) {
    ((Space::Meta, key.to_vec()), Some(record::seal(Space::Meta, key, &[body])))
}
