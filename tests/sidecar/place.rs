//! One chain's homes in one directory, and the sidecars that run in them.

use std::fs;
use std::path::PathBuf;

use blocksyncd::api::ReportedAs;
use blocksyncd::block::{BlockId, ChainId, Hash, Header, PublicKey, native};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

use super::height;
use super::process::{Sidecar, TempDir, call, init_follower, init_sequencer};

pub const CHAIN_ID: &str = "whole";

/// The home of the node that signs.
pub const SEQUENCER: &str = "seq";

/// The homes of one chain. Dropped after the sidecars in it, where it is declared before them.
#[derive(Debug)]
pub struct Place(TempDir);

impl Place {
    /// With the home of a sequencer that has a key file.
    pub fn new() -> Self {
        let place = Self(TempDir::in_memory());
        init_sequencer(&place.home(SEQUENCER), CHAIN_ID);
        place
    }

    /// With the home of a node that `init` makes with these arguments.
    pub fn with_args(args: &[&str]) -> Self {
        let place = Self(TempDir::in_memory());
        let home = place.home(SEQUENCER);
        call(["init", home.to_str().unwrap(), "--json", "--chain-id", CHAIN_ID].iter().chain(args)).json();
        place
    }

    /// With the home of a sequencer whose host keeps this key.
    pub fn with_key_at_host(key: &SigningKey) -> Self {
        let place = Self(TempDir::in_memory());
        let home = place.home(SEQUENCER);
        let proposer = PublicKey(key.verifying_key().to_bytes()).to_string();
        let args = ["init", home.to_str().unwrap(), "--json", "--chain-id", CHAIN_ID, "--host-signs", "--proposer"];
        call(args.into_iter().chain([proposer.as_str()])).json();
        place
    }

    pub fn home(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Starts the sequencer, and waits until it is ready.
    #[track_caller]
    pub fn sequencer(&self, args: &[&str]) -> Sidecar {
        Sidecar::start(&self.home(SEQUENCER), args)
    }

    /// Makes the home of a full node, unless it is there, starts it, and waits until it is ready.
    #[track_caller]
    pub fn full_node(&self, name: &str, args: &[&str]) -> Sidecar {
        let home = self.home(name);
        if !home.exists() {
            init_follower(&home, &self.home(SEQUENCER).join("genesis.toml"));
        }
        Sidecar::start(&home, args)
    }

    /// Starts the sequencer and one full node that dials it, and waits until they are ready; `args` are the full node's.
    #[track_caller]
    pub fn pair(&self, args: &[&str]) -> (Sidecar, Sidecar) {
        let sequencer = self.sequencer(&[]);
        let full = self.full_node("full", &[&["--seed", &sequencer.address()], args].concat());
        (sequencer, full)
    }

    /// The proposer's secret, which only the sequencer's sidecar should ever use.
    pub fn proposer(&self) -> SigningKey {
        let text = fs::read_to_string(self.home(SEQUENCER).join("proposer.key")).unwrap();
        let seed = Hash::from_hex(text.trim()).expect("32 bytes in hex");
        SigningKey::from_bytes(&seed.0)
    }

    /// The block store of a node, guard and keys not included.
    pub fn store(&self, name: &str) -> PathBuf {
        self.home(name).join("data")
    }
}

/// A block that the proposer signed, whoever has its key.
#[derive(Clone, Debug)]
pub struct Signed {
    pub id: BlockId,
    pub bytes: Bytes,
}

impl Signed {
    /// As a host reports it of which the sidecar should have the same bytes.
    pub fn digest(&self) -> ReportedAs {
        ReportedAs::Digest(Hash::of(&self.bytes))
    }
}

/// The header that a publish of this block makes.
pub fn header(key: &SigningKey, parent: Option<BlockId>, time_unix_nanos: u64, payload: &[u8]) -> Header {
    Header {
        chain_id: ChainId::new(CHAIN_ID).unwrap(),
        height: parent.map_or(height(1), |parent| parent.height.next()),
        time_unix_nanos,
        parent_hash: parent.map(|parent| parent.hash),
        payload_hash: Hash::of(payload),
        proposer: PublicKey(key.verifying_key().to_bytes()),
        host_id: Bytes::new(),
    }
}

/// Signs a block on top of `parent`.
pub fn sign(key: &SigningKey, parent: Option<BlockId>, time_unix_nanos: u64, payload: &[u8]) -> Signed {
    let header = header(key, parent, time_unix_nanos, payload);
    let bytes = native::encode_header(&header);
    let signature = key.sign(&native::signing_message(&bytes)).to_bytes();
    Signed {
        id: BlockId { height: header.height, hash: Hash::of(&bytes) },
        bytes: native::encode(&bytes, &signature, &Bytes::copy_from_slice(payload)),
    }
}
