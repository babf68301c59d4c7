//! The chain of a test, known before it is made: its proposer's key, its homes, and its blocks, byte for byte as
//! `go/chain.go` makes them.

use std::fs;
use std::path::PathBuf;

use blocksyncd::block::{BlockId, ChainId, Hash, Header, Height, PublicKey, native};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

use super::process::{Sidecar, TempDir, call, init_follower};

pub const CHAIN_ID: &str = "interop";

/// The secret of every chain here.
pub const SEED: [u8; 32] = [7; 32];

pub fn proposer() -> PublicKey {
    PublicKey(SigningKey::from_bytes(&SEED).verifying_key().to_bytes())
}

/// A signed block.
#[derive(Clone, Debug)]
pub struct Signed {
    pub id: BlockId,
    pub bytes: Bytes,
}

/// One chain, or a branch of it.
#[derive(Clone, Copy, Debug)]
pub struct Maker {
    pub initial: u64,
    /// The size that payloads are padded to.
    pub size: usize,
    pub branch: &'static str,
}

impl Maker {
    pub const fn new(initial: u64) -> Self {
        Self { initial, size: 0, branch: "" }
    }

    /// The block on top of `parent`.
    pub fn next(self, parent: Option<BlockId>) -> Signed {
        let height = parent.map_or(Height::new(self.initial).unwrap(), |parent| parent.height.next());
        let mut payload = format!("block {height}{}", self.branch).into_bytes();
        payload.resize(payload.len().max(self.size), b'.');
        let header = Header {
            chain_id: ChainId::new(CHAIN_ID).unwrap(),
            height,
            time_unix_nanos: height.get() * 1_000_000_000,
            parent_hash: parent.map(|parent| parent.hash),
            payload_hash: Hash::of(&payload),
            proposer: proposer(),
            host_id: Bytes::new(),
        };
        let header = native::encode_header(&header);
        let signature = SigningKey::from_bytes(&SEED).sign(&native::signing_message(&header)).to_bytes();
        let bytes = native::encode(&header, &signature, &payload.into());
        Signed { id: BlockId { height, hash: Hash::of(&header) }, bytes }
    }

    /// The blocks after `parent`, up to a height.
    pub fn chain(self, mut parent: Option<BlockId>, to: u64) -> Vec<Signed> {
        let mut chain = Vec::new();
        while parent.map_or(self.initial - 1, |parent| parent.height.get()) < to {
            let block = self.next(parent);
            parent = Some(block.id);
            chain.push(block);
        }
        chain
    }
}

/// The hashes of a chain, as the Go side says them.
pub fn hashes(chain: &[Signed]) -> Vec<String> {
    chain.iter().map(|block| block.id.hash.to_string()).collect()
}

/// Homes of our program on one chain. Dropped after the sidecars in it, where it is declared before them.
#[derive(Debug)]
pub struct Place(TempDir);

impl Place {
    /// With the home `sequencer`, whose host keeps the proposer's key.
    pub fn new(initial: u64) -> Self {
        let place = Self(TempDir::in_memory());
        let home = place.path("sequencer");
        let (initial, proposer) = (initial.to_string(), proposer().to_string());
        let chain = ["--chain-id", CHAIN_ID, "--initial-height", &initial, "--host-signs", "--proposer", &proposer];
        call(["init", home.to_str().unwrap(), "--json"].into_iter().chain(chain)).json();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Starts the sequencer: its blocks come from [`super::host::Host::publish`].
    #[track_caller]
    pub fn sequencer(&self, args: &[&str]) -> Sidecar {
        Sidecar::start(&self.path("sequencer"), args)
    }

    /// Starts a full node, in a home that is made when it is not there.
    #[track_caller]
    pub fn follower(&self, name: &str, args: &[&str]) -> Sidecar {
        let home = self.path(name);
        if !home.exists() {
            init_follower(&home, &self.path("sequencer").join("genesis.toml"));
        }
        Sidecar::start(&home, args)
    }

    /// A directory for a Go peer's badger.
    pub fn badger(&self, name: &str) -> String {
        let dir = self.path(name);
        fs::create_dir(&dir).unwrap();
        dir.into_os_string().into_string().unwrap()
    }
}

/// Has a sidecar log whom it knows to be on the topic, for [`heard_by`].
pub const LOG_GOSSIP: [&str; 2] = ["--set", "log.filter=info,libp2p_gossipsub=debug"];

/// Waits until our sidecar knows that a peer is on the topic: from then on it is sent every block. Nobody but libp2p
/// can say so.
#[track_caller]
pub fn heard_by(sidecar: &Sidecar, peer: &str) {
    sidecar.wait_for_log(&format!(r#""SUBSCRIPTION: Adding gossip peer to topic","peer":"{peer}""#));
}

/// The peer id at the end of an address.
pub fn id_of(address: &str) -> String {
    address.rsplit('/').next().unwrap().to_owned()
}
