//! The real API server, on a real socket, over a chain in memory and a node that only does what it is told.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blocksyncd::api::{
    self, Announced, BlockBytes, Handle, HostSource, HostView, NodeStatus, ReportedSighting, Request, SignRequest,
};
use blocksyncd::block::{Block, BlockId, Format, Hash, Header, Height, Lane, PublicKey, native};
use blocksyncd::store::{Durability, StoreError};
use blocksyncd::sync::{
    Basis, Confirmation, DaEvidence, DaPosition, Epoch, Evidence, EvidenceId, Heads, History, Origin, PeerList, Phase,
    Proposal, PublishAnswer, Received, RejectAnswer, ReportAnswer, ReportTaken, Status,
};
use blocksyncd::verify::{ScheduleEntry, Tip};
use bytes::Bytes;
use ed25519_dalek::Signer as _;
use tokio::sync::{mpsc, oneshot, watch};

use crate::blocks;
use crate::tempdir::TempDir;

pub const MAX_BLOCK: usize = 1 << 20;
/// The chain allows more than this node takes.
pub const BLOCKS: BlockBytes = BlockBytes { taken: MAX_BLOCK, of_chain: 2 * MAX_BLOCK };
pub const MAX_CONNECTIONS: usize = 6;

#[derive(Clone, Default)]
struct State {
    /// From height 1 on.
    blocks: Vec<Block>,
    hard: usize,
    retractions: Vec<Height>,
    scanned_through: u64,
}

impl State {
    fn heads(&self) -> Heads {
        let id = |count: usize| count.checked_sub(1).and_then(|index| self.blocks.get(index)).map(Block::id);
        let soft = self.blocks.last();
        Heads {
            soft: soft.map(|block| Tip { id: block.id(), time_unix_nanos: block.header().time_unix_nanos }),
            hard: id(self.hard),
            target: soft.map(Block::id),
            epoch: Epoch(self.retractions.len() as u64),
            scanned_through: self.scanned_through,
            ..Heads::empty(Height::MIN)
        }
    }

    fn at(&self, height: Height) -> Option<&Block> {
        self.blocks.get(usize::try_from(height.get()).ok()? - 1)
    }
}

impl HostView for State {
    fn heads(&self) -> Result<Heads, StoreError> {
        Ok(self.heads())
    }

    fn block(&self, height: Height) -> Result<Option<(Block, Origin)>, StoreError> {
        Ok(self.at(height).map(|block| (block.clone(), Origin::Published)))
    }

    fn hash(&self, height: Height) -> Result<Option<Hash>, StoreError> {
        Ok(self.at(height).map(Block::hash))
    }

    fn height_of(&self, hash: Hash) -> Result<Option<Height>, StoreError> {
        Ok(self.blocks.iter().find(|block| block.hash() == hash).map(Block::height))
    }

    fn confirmation(&self, height: Height) -> Result<Option<Confirmation>, StoreError> {
        let hard = height.get() <= self.hard as u64;
        let position = DaPosition { height: 100 + height.get(), index: 0 };
        Ok(hard.then_some(Confirmation { position, basis: Basis::Bytes }))
    }

    fn retracted_since(&self, epoch: Epoch) -> Result<Option<Height>, StoreError> {
        Ok(self.retractions.iter().skip(usize::try_from(epoch.0).unwrap()).min().copied())
    }

    fn evidence(&self, _: EvidenceId, _: usize) -> Result<Vec<Evidence>, StoreError> {
        Ok(Vec::new())
    }

    fn acks(&self) -> Result<Vec<(String, BlockId)>, StoreError> {
        Ok(Vec::new())
    }

    fn vetoed(&self) -> Result<Option<BlockId>, StoreError> {
        Ok(None)
    }

    fn is_disowned(&self, _: Hash) -> Result<bool, StoreError> {
        Ok(false)
    }
}

#[derive(Default)]
struct Chain(Mutex<State>);

impl HostSource for Chain {
    fn view(&self) -> Box<dyn HostView> {
        Box::new(self.0.lock().unwrap().clone())
    }

    fn store_id(&self) -> [u8; 16] {
        [9; 16]
    }
}

/// The server with all that it needs.
pub struct Sidecar {
    pub socket: PathBuf,
    chain: Arc<Chain>,
    announce: watch::Sender<Announced>,
    /// Status questions are answered when this is true.
    pub answering: watch::Sender<bool>,
    /// Everything that hosts reported.
    pub reports: watch::Receiver<Vec<ReportedSighting>>,
    handle: Option<Handle>,
    _dir: TempDir,
}

impl Sidecar {
    /// With a proposer key of its own, unless a host is to sign.
    pub fn start(own_key: bool) -> Self {
        let dir = TempDir::in_memory();
        let socket = dir.path().join("run/api.sock");
        Self::start_at(dir, &socket, own_key)
    }

    pub fn start_at(dir: TempDir, socket: &Path, own_key: bool) -> Self {
        let config = api::Config {
            socket: socket.to_owned(),
            allow_uids: vec![],
            chain_id: blocks::chain_id(),
            initial_height: Height::MIN,
            peer_id: "stub".into(),
            proposer: own_key.then(blocks::public_key),
            durability: Durability::Power,
            block_bytes: BLOCKS,
            da_evidence: DaEvidence::Block,
            memory_bytes: 2 * api::least_memory(MAX_CONNECTIONS, BLOCKS),
            max_connections: MAX_CONNECTIONS,
            block_time: Duration::from_secs(1),
        };
        let chain = Arc::new(Chain::default());
        let (announce, announced) =
            watch::channel(Announced { heads: State::default().heads(), phase: Phase::Following });
        let (answering, answers) = watch::channel(true);
        let (requests, inbox) = mpsc::channel(256);
        let (reported, reports) = watch::channel(Vec::new());
        let node = Node { chain: chain.clone(), announce: announce.clone(), answers, signer: None, reported };
        tokio::spawn(node.run(inbox));
        let handle = api::start_over(config, chain.clone(), announced, requests).expect("the API starts");
        Self { socket: socket.to_owned(), chain, announce, answering, reports, handle: Some(handle), _dir: dir }
    }

    /// Everything up to this height is hard.
    pub fn harden(&self, height: usize) {
        self.change(|state| state.hard = height);
    }

    /// Takes back everything from this height on.
    pub fn rewind(&self, from: u64) {
        self.change(|state| {
            state.blocks.truncate(usize::try_from(from).unwrap() - 1);
            state.retractions.push(Height::new(from).unwrap());
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.chain.0.lock().unwrap();
        change(&mut state);
        self.announce.send_modify(|announced| announced.heads = state.heads());
    }

    pub async fn drain(mut self) {
        if let Some(handle) = self.handle.take() {
            handle.drain(Duration::from_secs(20)).await;
        }
        assert!(!self.socket.exists(), "the socket is removed");
    }
}

struct Node {
    chain: Arc<Chain>,
    announce: watch::Sender<Announced>,
    answers: watch::Receiver<bool>,
    signer: Option<(PublicKey, mpsc::Sender<SignRequest>)>,
    reported: watch::Sender<Vec<ReportedSighting>>,
}

impl Node {
    async fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        while let Some(request) = inbox.recv().await {
            match request {
                Request::Publish { proposal, reply } => drop(reply.send(self.publish(proposal).await)),
                Request::PublishSigned { bytes, reply } => drop(reply.send(self.append(&bytes))),
                Request::Report { scanned_through, sightings, reply, .. } => {
                    let junk = u32::try_from(sightings.len()).unwrap();
                    let taken = ReportTaken { scanned_through, junk, ..ReportTaken::default() };
                    self.reported.send_modify(|reported| reported.extend(sightings));
                    drop(reply.send(ReportAnswer::Taken(taken)));
                }
                Request::Reject { reply, .. } => drop(reply.send(RejectAnswer::Stopped)),
                Request::Ack { up_to, reply, .. } => {
                    let known = self.chain.0.lock().unwrap().at(up_to.height).map(Block::id) == Some(up_to);
                    let _ = reply.send(known);
                }
                Request::Operate { reply, .. } | Request::OrderPeers { reply, .. } => {
                    drop(reply.send(Err("not now".into())));
                }
                Request::Status { reply } => self.status(reply),
                Request::Peers { reply } => drop(reply.send(PeerList::default())),
                Request::Schedule { reply } => {
                    drop(reply.send(vec![ScheduleEntry { from: Height::MIN, proposer: blocks::public_key() }]));
                }
                Request::SetSigner { key, signatures, reply } => {
                    self.signer = Some((key, signatures));
                    drop(reply.send(Ok(())));
                }
                Request::SetLogFilter { reply, .. } => drop(reply.send(Ok(()))),
                Request::Shutdown { .. } => return,
            }
        }
    }

    /// Answers when it is allowed to.
    fn status(&self, reply: oneshot::Sender<NodeStatus>) {
        let heads = self.chain.0.lock().unwrap().heads();
        let mut answers = self.answers.clone();
        tokio::spawn(async move {
            let core = Status {
                heads,
                phase: Phase::Following,
                forked: false,
                history_unavailable: true,
                unknown_proposer: None,
                ahead_of_clock: None,
                halted: None,
                vetoed: None,
                unheard: None,
                not_ready: None,
                wanted: Vec::new(),
                hard_waits: None,
                passed_over: 0,
                lowest_passed_over: None,
                below_trusted: 0,
                checkpoint: None,
                received: Received::default(),
                stored_bytes: 0,
                history: History::default(),
                pruning_waits_for: None,
                held_blocks: 0,
                open_requests: 0,
                pending_sightings: 0,
                peers: 0,
                storage_full: false,
                lost_words: Vec::new(),
            };
            if answers.wait_for(|answering| *answering).await.is_ok() {
                drop(reply.send(NodeStatus {
                    core,
                    uptime: Duration::from_secs(1),
                    listen: vec![],
                    awaits_signer: false,
                }));
            }
        });
    }

    async fn publish(&mut self, proposal: Proposal) -> PublishAnswer {
        let (height, parent) = {
            let state = self.chain.0.lock().unwrap();
            (state.heads().next_height(), state.blocks.last().map(Block::hash))
        };
        if proposal.height != height {
            return PublishAnswer::NotNext { height, parent };
        }
        assert_eq!(proposal.payload_hash, Hash::of(&proposal.payload));
        let proposer = self.signer.as_ref().map_or_else(blocks::public_key, |(key, _)| *key);
        let header = native::encode_header(&Header {
            chain_id: blocks::chain_id(),
            height,
            time_unix_nanos: proposal.time_unix_nanos,
            parent_hash: parent,
            payload_hash: proposal.payload_hash,
            proposer,
            host_id: proposal.host_id,
        });
        let message = native::signing_message(&header);
        let signature = match &self.signer {
            None => blocks::signing_key().sign(&message).to_bytes(),
            Some((_, host)) => {
                let (reply, signature) = oneshot::channel();
                let id = BlockId { height, hash: Hash::of(&header) };
                if host.send(SignRequest { message: message.into(), id, reply }).await.is_err() {
                    return PublishAnswer::NotReady("the signer is gone".into());
                }
                match signature.await {
                    Ok(signature) => signature,
                    Err(_) => return PublishAnswer::NotReady("the signer did not sign".into()),
                }
            }
        };
        self.append(&native::encode(&header, &signature, &proposal.payload))
    }

    fn append(&self, bytes: &Bytes) -> PublishAnswer {
        use blocksyncd::block::BlockFormat as _;
        let block = match Format::Native.decode(Lane::BLOCK, bytes, MAX_BLOCK) {
            Ok(block) => block,
            Err(error) => return PublishAnswer::Invalid(error.to_string()),
        };
        let id = block.id();
        let mut state = self.chain.0.lock().unwrap();
        state.blocks.push(block);
        self.announce.send_modify(|announced| announced.heads = state.heads());
        PublishAnswer::Accepted(id)
    }
}
