//! The one chain of a simulated world: its keys, its rules, and everything that its keys ever signed.
//!
//! Invariants:
//! 1. Whether bytes are authentic is decided by the real [`Rules`], once per distinct bytes and schedule; the answer is kept, so that
//!    nine nodes verifying one block cost one check. The signatures that were made here are known to be good, and are not checked again; all
//!    others are. With `SIM_CHECK_ALL` each node makes all of its own checks.
//! 2. A block is in `signed` if and only if its header carries the signature of the key that the whole schedule names: made here,
//!    by the honest signer or by the twin that stole its key.

use std::collections::{BTreeMap, HashMap, HashSet};

use blocksyncd::block::{BlockId, ChainId, Format, Hash, Header, Height, Lane, PublicKey, native};
use blocksyncd::verify::{AuthenticBlock, Fault, Rules, Schedule, ScheduleEntry, Signed};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use fastrand::Rng;

/// The wall clock at the start of every world: 2024-01-01.
pub const EPOCH_UNIX_NANOS: u64 = 1_704_067_200_000_000_000;

/// Which checks of a block are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// All, each time, with the signature.
    All,
    /// Those whose outcome is not known.
    Unknown,
}

impl Checks {
    /// All where `SIM_CHECK_ALL` is set.
    pub fn from_env() -> Self {
        if std::env::var_os("SIM_CHECK_ALL").is_some() { Self::All } else { Self::Unknown }
    }
}

/// What one schedule makes of bytes.
#[derive(Debug)]
struct View {
    rules: Rules,
    /// By place in memory, where the bytes are held and so stay what they are: most are looked at again and again.
    seen: HashMap<(usize, usize), (Bytes, Result<AuthenticBlock, Fault>)>,
    /// Never iterated: its order is not deterministic.
    checked: HashMap<Bytes, Result<AuthenticBlock, Fault>>,
}

impl View {
    fn new(rules: Rules) -> Self {
        Self { rules, seen: HashMap::new(), checked: HashMap::new() }
    }

    fn is_of(&self, rules: &Rules) -> bool {
        self.rules.schedule == rules.schedule
    }

    /// [`Rules::check`], remembered.
    fn check(&mut self, bytes: &Bytes, made: &HashSet<Signed>) -> Result<AuthenticBlock, Fault> {
        let place = (bytes.as_ptr() as usize, bytes.len());
        if let Some((_, known)) = self.seen.get(&place) {
            return known.clone();
        }
        let outcome = match self.checked.get(bytes) {
            Some(known) => known.clone(),
            None => self.rules.check_unless_known(Lane::BLOCK, bytes, |signed| made.contains(signed)),
        };
        self.checked.entry(bytes.clone()).or_insert_with(|| outcome.clone());
        self.seen.insert(place, (bytes.clone(), outcome.clone()));
        outcome
    }
}

#[derive(Debug)]
pub struct Chain {
    /// With the genesis schedule.
    genesis: Rules,
    /// The first is of the whole schedule; the others are of those that a node has had.
    views: Vec<View>,
    keys: Vec<SigningKey>,
    entries: Vec<ScheduleEntry>,
    public: Vec<Hash>,
    checks: Checks,
    /// What this world's keys signed; never iterated.
    made: HashSet<Signed>,
    signed: BTreeMap<Hash, AuthenticBlock>,
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[7 + number; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(key.verifying_key().to_bytes())
}

impl Chain {
    pub fn new(initial_height: Height, max_block_bytes: usize, checks: Checks) -> Self {
        let key = key(0);
        let entry = ScheduleEntry { from: initial_height, proposer: public(&key) };
        let rules = Rules {
            format: Format::Native,
            chain_id: ChainId::new("sim").expect("a valid chain id"),
            initial_height,
            max_block_bytes,
            max_clock_drift: std::time::Duration::from_secs(10),
            schedule: Schedule::new(initial_height, &[entry]).expect("one sound key"),
        };
        Self {
            views: vec![View::new(rules.clone())],
            genesis: rules,
            keys: vec![key],
            entries: Vec::new(),
            public: Vec::new(),
            checks,
            made: HashSet::new(),
            signed: BTreeMap::new(),
        }
    }

    /// The genesis rules, with which nodes begin.
    pub fn rules(&self) -> &Rules {
        &self.genesis
    }

    pub fn initial_height(&self) -> Height {
        self.genesis.initial_height
    }

    /// The first key.
    pub fn public_key(&self) -> PublicKey {
        public(&self.keys[0])
    }

    /// From this height on another key signs. What was checked before is checked anew.
    pub fn rotate(&mut self, from: Height) -> ScheduleEntry {
        let key = key(u8::try_from(self.keys.len()).expect("few keys"));
        let entry = ScheduleEntry { from, proposer: public(&key) };
        let mut rules = self.views[0].rules.clone();
        rules.schedule.append(entry).expect("a sound key, above all others");
        self.keys.push(key);
        self.entries.push(entry);
        self.views.insert(0, View::new(rules));
        entry
    }

    /// What a node with these rules finds out about bytes that it is given.
    pub fn check(&mut self, rules: &Rules, bytes: &Bytes) -> Result<AuthenticBlock, Fault> {
        if self.checks == Checks::All {
            return rules.check(Lane::BLOCK, bytes);
        }
        let known = self.views.iter().position(|view| view.is_of(rules));
        let index = known.unwrap_or_else(|| {
            self.views.push(View::new(rules.clone()));
            self.views.len() - 1
        });
        self.views[index].check(bytes, &self.made)
    }

    /// What the simulator knows of bytes.
    pub fn truth(&mut self, bytes: &Bytes) -> Result<AuthenticBlock, Fault> {
        self.views[0].check(bytes, &self.made)
    }

    /// Whoever holds the key that the header names signs it.
    pub fn sign(&mut self, header_bytes: &Bytes, payload: &Bytes) -> Result<AuthenticBlock, Fault> {
        let named = native::decode_header(header_bytes)?.proposer;
        let key = self.keys.iter().find(|key| public(key) == named).unwrap_or(&self.keys[0]);
        let signature = key.sign(&native::signing_message(header_bytes)).to_bytes();
        self.made.insert(Signed { hash: Hash::of(header_bytes), signature });
        let block = self.truth(&native::encode(header_bytes, &signature, payload))?;
        self.signed.insert(block.hash(), block.clone());
        Ok(block)
    }

    /// A block on `parent`, signed.
    pub fn make(&mut self, parent: Option<BlockId>, time_unix_nanos: u64, payload: &Bytes) -> AuthenticBlock {
        let height = parent.map_or(self.initial_height(), |parent| parent.height.next());
        let scheduled = self.views[0].rules.schedule.proposer_at(height);
        let header = Header {
            chain_id: self.genesis.chain_id.clone(),
            height,
            time_unix_nanos,
            parent_hash: parent.map(|parent| parent.hash),
            payload_hash: Hash::of(payload),
            proposer: scheduled.expect("from the initial height on"),
            host_id: host_id(payload),
        };
        self.sign(&native::encode_header(&header), payload).expect("our own block is sound")
    }

    /// A block was gossiped by who made it: from now on anybody may have it.
    pub fn publish(&mut self, hash: Hash) {
        self.public.push(hash);
    }

    /// Any block, of any branch, that was ever gossiped.
    pub fn any_public(&self, rng: &mut Rng) -> Option<&AuthenticBlock> {
        let hash = rng.choice(&self.public)?;
        self.signed.get(hash)
    }

    /// What the schedule has beyond its beginning, lowest first.
    pub fn entries(&self) -> &[ScheduleEntry] {
        &self.entries
    }

    /// Above everything that was ever signed.
    pub fn above_all(&self) -> Height {
        self.signed.values().map(AuthenticBlock::height).max().map_or(self.initial_height(), Height::next)
    }

    /// Whose key signs this height.
    pub fn proposer_at(&self, height: Height) -> Option<PublicKey> {
        self.views[0].rules.schedule.proposer_at(height)
    }

    /// How many blocks were signed.
    pub fn signatures(&self) -> usize {
        self.signed.len()
    }

    /// The block with this hash, if the sequencer ever signed it.
    pub fn signed(&self, hash: Hash) -> Option<&AuthenticBlock> {
        self.signed.get(&hash)
    }

    /// A block like this one, which nobody signed.
    pub fn forge(&self, height: Height, parent: Hash, payload: &Bytes) -> Bytes {
        let header = Header {
            chain_id: self.genesis.chain_id.clone(),
            height,
            time_unix_nanos: EPOCH_UNIX_NANOS,
            parent_hash: Some(parent),
            payload_hash: Hash::of(payload),
            proposer: self.public_key(),
            host_id: Bytes::new(),
        };
        native::encode(&native::encode_header(&header), &[3; 64], payload)
    }
}

/// The rollup's own id of a block: of what is in it.
pub fn host_id(payload: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&Hash::of(payload).0)
}

/// The same block with another signature: the hash does not cover it.
pub fn resigned(block: &AuthenticBlock) -> Bytes {
    let mut signature = *block.block().signature();
    signature[0] ^= 1;
    native::encode(block.block().header_bytes(), &signature, block.block().payload())
}

/// The same block with bytes behind it that protobuf readers skip.
pub fn padded(block: &AuthenticBlock) -> Bytes {
    // Field 15, varint, value 0: unknown to the format.
    [block.block().bytes().as_ref(), &[0x78, 0x00]].concat().into()
}
