//! Judges what a sidecar tells its host, event by event, against the contract of the host's API.
//!
//! The contract: the chain's blocks one after the other, in order, without gap or repeat; each verified, linked to the one
//! before; `hard(h)` after `soft(h)`, in order, with the same hash, for ever; and what was told is taken back only by a
//! `retract`, to a block that the host has, never below hard.
//!
//! Invariants:
//! 1. An event that breaks a rule is not applied: the [`Ledger`] only ever holds what kept to the contract.
//! 2. The judgement depends on nothing but the ledger, the chain's rules and what this stream said before.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use crate::block::{BlockId, Hash, Height, Lane, native};
use crate::verify::{Fault, Rules};

/// What a stream says, as far as it can be right or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    Soft(SeenBlock),
    Hard(BlockId),
    /// Everything above `to` is taken back; `None`: everything.
    Retract {
        to: Option<BlockId>,
        epoch: u64,
    },
    /// The sidecar does not have these.
    Gap {
        from: u64,
        to: u64,
    },
}

/// A soft event's block, as told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenBlock {
    pub id: BlockId,
    pub parent_hash: Option<Hash>,
    pub time_unix_nanos: u64,
    /// The signed header bytes.
    pub header: Bytes,
    pub signature: [u8; 64],
    pub payload: Bytes,
}

impl SeenBlock {
    /// The whole encoded `SignedBlock`.
    pub fn encode(&self) -> Bytes {
        native::encode(&self.header, &self.signature, &self.payload)
    }
}

/// The rules of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Heights were left out.
    Gap,
    /// Something came again, or out of its order.
    Disorder,
    HardBeforeSoft,
    /// A hash is not the hash of what it names, or not the one that was told before.
    HashMismatch,
    /// Another block was told as hard where one is hard already.
    HardChanged,
    /// Another block was told as soft where one is soft already, and that one was not retracted.
    SoftChanged,
    /// A block does not build on the one that was told before it.
    BrokenLink,
    /// A block that the proposer did not sign.
    Unverified,
    RetractBelowHard,
    /// A publish was answered with something else than what was published, or accepted what was refused before.
    WrongAnswer,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    pub rule: Rule,
    pub height: u64,
    pub detail: String,
}

impl Violation {
    pub fn new(rule: Rule, height: u64, detail: impl Into<String>) -> Self {
        Self { rule, height, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at height {}: {}", self.rule, self.height, self.detail)
    }
}

/// Judges one stream.
#[derive(Debug)]
pub struct ContractChecker<'a> {
    rules: &'a Rules,
    /// The epoch of the last retraction that this stream told.
    epoch: Option<u64>,
    /// The sidecar's lowest block: below it, nothing is told any more.
    tail: Height,
}

impl<'a> ContractChecker<'a> {
    /// For a stream that was just opened where `ledger` stands.
    pub fn new(rules: &'a Rules) -> Self {
        Self { rules, epoch: None, tail: Height::MIN }
    }

    /// The events that follow are of a store whose lowest block is at this height.
    pub fn pruned_below(&mut self, tail: Height) {
        self.tail = tail;
    }

    /// Whether `event` keeps to the contract, for a host that has executed `ledger`.
    pub fn check(&mut self, ledger: &Ledger, event: &Observation) -> Result<(), Violation> {
        match event {
            Observation::Soft(block) => self.check_soft(ledger, block),
            Observation::Hard(id) => check_hard(ledger, *id, self.tail),
            Observation::Retract { to, epoch } => {
                check_retract(ledger, *to)?;
                self.check_epoch(to.map_or(0, |to| to.height.get()), *epoch)
            }
            // A host that needs the whole history cannot go on, however honestly it is told.
            Observation::Gap { from, to } => {
                Err(Violation::new(Rule::Gap, *from, format!("the sidecar does not have heights {from} to {to}")))
            }
        }
    }

    fn check_soft(&self, ledger: &Ledger, block: &SeenBlock) -> Result<(), Violation> {
        let expected = ledger.next_height();
        let BlockId { height, hash } = block.id;
        let broken = |rule, detail: String| Err(Violation::new(rule, height.get(), detail));
        if height > expected {
            return broken(Rule::Gap, format!("soft {height} was told where {expected} was due"));
        }
        if height < expected {
            return match ledger.get(height) {
                Some(known) if known.id.hash != hash => broken(
                    Rule::SoftChanged,
                    format!("soft as {:?}, then as {hash:?} without a retract", known.id.hash),
                ),
                _ => broken(Rule::Disorder, format!("soft {height} was told again; {expected} was due")),
            };
        }
        if Hash::of(&block.header) != hash {
            return broken(Rule::HashMismatch, format!("{hash:?} is not the hash of its header"));
        }
        let parent = ledger.top().map(|top| top.id.hash);
        if block.parent_hash != parent {
            return broken(
                Rule::BrokenLink,
                format!("its parent is {:?}, told before was {parent:?}", block.parent_hash),
            );
        }
        let authentic = match self.rules.check(Lane::BLOCK, &block.encode()) {
            Ok(authentic) => authentic,
            Err(fault @ (Fault::PayloadMismatch | Fault::Malformed(_))) => {
                return broken(Rule::HashMismatch, fault.to_string());
            }
            Err(fault) => return broken(Rule::Unverified, fault.to_string()),
        };
        if authentic.height() != height || authentic.time_unix_nanos() != block.time_unix_nanos {
            return broken(Rule::HashMismatch, "its height or time is not its header's".into());
        }
        if authentic.parent_hash() != parent {
            return broken(Rule::BrokenLink, format!("its header's parent is {:?}", authentic.parent_hash()));
        }
        Ok(())
    }

    fn check_epoch(&mut self, height: u64, epoch: u64) -> Result<(), Violation> {
        let before = self.epoch.replace(epoch);
        if before.is_some_and(|before| epoch <= before) {
            return Err(Violation::new(Rule::Disorder, height, format!("a retract of epoch {epoch} after {before:?}")));
        }
        Ok(())
    }
}

fn check_hard(ledger: &Ledger, id: BlockId, tail: Height) -> Result<(), Violation> {
    let BlockId { height, hash } = id;
    let broken = |rule, detail: String| Err(Violation::new(rule, height.get(), detail));
    let known = ledger.get(height);
    let hard = ledger.hard();
    if height >= ledger.next_height() {
        return broken(Rule::HardBeforeSoft, format!("hard {height} was told before soft {height}"));
    }
    if let Some(hard) = hard
        && height <= hard.height
    {
        return match known {
            Some(known) if known.id.hash != hash => {
                broken(Rule::HardChanged, format!("hard as {:?}, then as {hash:?}", known.id.hash))
            }
            _ => broken(Rule::Disorder, format!("hard {height} was told again; hard is {hard}")),
        };
    }
    let expected = hard.map(|hard| hard.height.next()).or_else(|| ledger.blocks().next().map(|first| first.id.height));
    if expected.map(|expected| expected.max(tail)) != Some(height) {
        return broken(Rule::Gap, format!("hard {height} was told where {expected:?} was due"));
    }
    match known {
        Some(known) if known.id.hash == hash => Ok(()),
        known => {
            broken(Rule::HashMismatch, format!("hard as {hash:?}, soft as {:?}", known.map(|known| known.id.hash)))
        }
    }
}

fn check_retract(ledger: &Ledger, to: Option<BlockId>) -> Result<(), Violation> {
    let height = to.map_or(0, |to| to.height.get());
    let broken = |rule, detail: String| Err(Violation::new(rule, height, detail));
    if let Some(hard) = ledger.hard()
        && height < hard.height.get()
    {
        return broken(Rule::RetractBelowHard, format!("a retract to {height}, and {hard} is hard"));
    }
    let Some(to) = to else { return Ok(()) };
    if to.height >= ledger.next_height() {
        return broken(Rule::Disorder, format!("a retract to {to:?}, which was never told"));
    }
    match ledger.get(to.height) {
        Some(known) if known.id.hash == to.hash => Ok(()),
        known => {
            let known: Option<Height> = known.map(|known| known.id.height);
            broken(Rule::HashMismatch, format!("a retract to {to:?}, which is not what was told at {known:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;
    use crate::block::{ChainId, Format, Header, PublicKey};
    use crate::verify::{Schedule, ScheduleEntry};

    const KEY: [u8; 32] = [7; 32];

    fn rules() -> Rules {
        let proposer = PublicKey(SigningKey::from_bytes(&KEY).verifying_key().to_bytes());
        Rules {
            format: Format::Native,
            chain_id: ChainId::new("test").unwrap(),
            initial_height: Height::MIN,
            max_block_bytes: 1 << 20,
            max_clock_drift: Duration::from_secs(10),
            schedule: Schedule::new(Height::MIN, &[ScheduleEntry { from: Height::MIN, proposer }]).unwrap(),
        }
    }

    fn block(parent: Option<BlockId>, payload: &'static str, key: [u8; 32]) -> SeenBlock {
        let key = SigningKey::from_bytes(&key);
        let height = parent.map_or(Height::MIN, |parent| parent.height.next());
        let payload = Bytes::from(payload);
        let header = native::encode_header(&Header {
            chain_id: ChainId::new("test").unwrap(),
            height,
            time_unix_nanos: height.get(),
            parent_hash: parent.map(|parent| parent.hash),
            payload_hash: Hash::of(&payload),
            proposer: PublicKey(SigningKey::from_bytes(&KEY).verifying_key().to_bytes()),
            host_id: Bytes::new(),
        });
        let signature = key.sign(&native::signing_message(&header)).to_bytes();
        let id = BlockId { height, hash: Hash::of(&header) };
        SeenBlock {
            id,
            parent_hash: parent.map(|parent| parent.hash),
            time_unix_nanos: height.get(),
            header,
            signature,
            payload,
        }
    }

    /// Blocks 1 to `n`.
    fn chain(n: usize) -> Vec<SeenBlock> {
        let mut chain: Vec<SeenBlock> = Vec::new();
        for _ in 0..n {
            chain.push(block(chain.last().map(|block| block.id), "payload", KEY));
        }
        chain
    }

    /// Tells the events one after the other, applying each that is right; the rule that the last one breaks.
    fn tell(events: &[Observation]) -> Option<Rule> {
        let rules = rules();
        let (mut checker, mut ledger) = (ContractChecker::new(&rules), Ledger::new(Height::MIN));
        for (n, event) in events.iter().enumerate() {
            match (checker.check(&ledger, event), event) {
                (Err(violation), _) if n + 1 == events.len() => return Some(violation.rule),
                (Err(violation), _) => panic!("event {n}: {violation}"),
                (Ok(()), Observation::Soft(block)) => {
                    ledger.execute(block.id, block.time_unix_nanos, &block.payload);
                }
                (Ok(()), Observation::Hard(id)) => ledger.confirm(id.height),
                (Ok(()), Observation::Retract { to, .. }) => ledger.retract(to.map_or(0, |to| to.height.get())),
                (Ok(()), Observation::Gap { .. }) => unreachable!("never right"),
            }
        }
        None
    }

    #[test]
    fn every_rule_is_noticed_when_it_breaks() {
        let chain = chain(3);
        let ids: Vec<BlockId> = chain.iter().map(|block| block.id).collect();
        let other = block(Some(ids[0]), "other", KEY);
        let soft = |n: usize| Observation::Soft(chain[n - 1].clone());
        let hard = |n: usize| Observation::Hard(ids[n - 1]);
        let retract = |to: Option<BlockId>, epoch| Observation::Retract { to, epoch };
        let changed = |change: fn(&mut SeenBlock)| {
            let mut block = chain[1].clone();
            change(&mut block);
            Observation::Soft(block)
        };
        let other_hash = |n: usize| BlockId { hash: Hash([9; 32]), ..ids[n - 1] };

        let cases: Vec<(&str, Vec<Observation>, Option<Rule>)> = vec![
            ("nothing", vec![], None),
            ("in order", vec![soft(1), soft(2), hard(1), soft(3), hard(2), hard(3)], None),
            ("a left out block", vec![soft(1), soft(3)], Some(Rule::Gap)),
            ("not from the start", vec![soft(2)], Some(Rule::Gap)),
            ("a told gap", vec![soft(1), Observation::Gap { from: 2, to: 5 }], Some(Rule::Gap)),
            ("a left out hard", vec![soft(1), soft(2), hard(2)], Some(Rule::Gap)),
            ("soft repeated", vec![soft(1), soft(2), soft(2)], Some(Rule::Disorder)),
            ("an old soft", vec![soft(1), soft(2), soft(1)], Some(Rule::Disorder)),
            ("hard repeated", vec![soft(1), hard(1), hard(1)], Some(Rule::Disorder)),
            ("hard before soft", vec![soft(1), hard(1), hard(2)], Some(Rule::HardBeforeSoft)),
            ("hard of nothing", vec![hard(1)], Some(Rule::HardBeforeSoft)),
            ("hard is another block", vec![soft(1), Observation::Hard(other_hash(1))], Some(Rule::HashMismatch)),
            ("hard changes", vec![soft(1), hard(1), Observation::Hard(other_hash(1))], Some(Rule::HardChanged)),
            ("soft changes", vec![soft(1), soft(2), Observation::Soft(other.clone())], Some(Rule::SoftChanged)),
            ("a wrong hash", vec![soft(1), changed(|block| block.id.hash.0[0] ^= 1)], Some(Rule::HashMismatch)),
            ("another payload", vec![soft(1), changed(|block| block.payload = "x".into())], Some(Rule::HashMismatch)),
            ("another time", vec![soft(1), changed(|block| block.time_unix_nanos += 1)], Some(Rule::HashMismatch)),
            ("another parent", vec![soft(1), changed(|block| block.parent_hash = None)], Some(Rule::BrokenLink)),
            (
                "a hidden parent",
                vec![
                    soft(1),
                    Observation::Soft({
                        let mut block = block(Some(other_hash(1)), "x", KEY);
                        block.parent_hash = Some(ids[0].hash);
                        block
                    }),
                ],
                Some(Rule::BrokenLink),
            ),
            ("a forged signature", vec![soft(1), changed(|block| block.signature[0] ^= 1)], Some(Rule::Unverified)),
            (
                "another signer",
                vec![soft(1), Observation::Soft(block(Some(ids[0]), "x", [8; 32]))],
                Some(Rule::Unverified),
            ),
            ("a retraction", vec![soft(1), soft(2), retract(Some(ids[0]), 1), Observation::Soft(other)], None),
            ("of everything", vec![soft(1), soft(2), retract(None, 1), soft(1)], None),
            (
                "below hard",
                vec![soft(1), soft(2), hard(1), hard(2), retract(Some(ids[0]), 1)],
                Some(Rule::RetractBelowHard),
            ),
            ("of everything below hard", vec![soft(1), hard(1), retract(None, 1)], Some(Rule::RetractBelowHard)),
            ("to what was not told", vec![soft(1), retract(Some(ids[1]), 1)], Some(Rule::Disorder)),
            ("to another block", vec![soft(1), soft(2), retract(Some(other_hash(1)), 1)], Some(Rule::HashMismatch)),
            (
                "an epoch again",
                vec![soft(1), soft(2), retract(Some(ids[0]), 1), soft(2), retract(Some(ids[0]), 1)],
                Some(Rule::Disorder),
            ),
        ];
        for (name, events, expected) in cases {
            assert_eq!(tell(&events), expected, "{name}");
        }
    }

    #[test]
    fn hard_blocks_are_passed_over_only_where_they_were_pruned() {
        let (rules, chain) = (rules(), chain(3));
        for (tail, verdict) in [(1, Some(Rule::Gap)), (2, Some(Rule::Gap)), (3, None)] {
            let (mut checker, mut ledger) = (ContractChecker::new(&rules), Ledger::new(Height::MIN));
            for block in &chain {
                ledger.execute(block.id, block.time_unix_nanos, &block.payload);
            }
            checker.pruned_below(Height::new(tail).unwrap());
            let judged = checker.check(&ledger, &Observation::Hard(chain[2].id));
            assert_eq!(judged.err().map(|violation| violation.rule), verdict, "tail {tail}");
        }
    }

    #[test]
    fn the_second_block_without_its_first_is_a_gap_also_after_a_retraction() {
        let chain = chain(3);
        let events = [
            Observation::Soft(chain[0].clone()),
            Observation::Soft(chain[1].clone()),
            Observation::Retract { to: None, epoch: 1 },
            Observation::Soft(chain[1].clone()),
        ];
        assert_eq!(tell(&events), Some(Rule::Gap));
    }
}
