//! What connections share: the server's state, the roles that one session has at a time, and what each connection
//! counts. Everything that a client can call stands on this file, and it knows none of it.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use capnp::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::accounting::{Accounting, Counted, InFlight};
use super::blocksync_capnp as wire;
use super::info::{self, ServerInfo};
use super::limits::{Limits, MAX_CALLS, MAX_EVENTS, MAX_WAIT};
use super::report::ReportedSighting;
use super::status::{self, StatusNow};
use super::upload::{PublishWork, Uploads};
use super::view::{HostSource, HostView};
use super::{Announced, Config, NodeStatus, Request};
use crate::block::PublicKey;
use crate::store::StoreError;
use crate::sync::Phase;

/// The names of what this sidecar can do beyond the first schema.
const FEATURES: [&str; 0] = [];
/// Said to a client whose call came too soon after too many others.
pub(super) const RETRY_MS: u32 = 100;

/// What all connections share.
pub(super) struct ApiServer {
    pub config: Config,
    pub limits: Limits,
    pub source: Arc<dyn HostSource>,
    pub announced: watch::Receiver<Announced>,
    pub draining: watch::Receiver<bool>,
    requests: mpsc::Sender<Request>,
    reads: Arc<Semaphore>,
    /// In KiB.
    intake: Arc<Semaphore>,
    pub publisher: Rc<ExclusiveRole>,
    pub reporter: Rc<ExclusiveRole>,
    /// The host that signs now.
    pub signer: RefCell<Weak<HostSigner>>,
    pub uploads: Uploads<PublishWork>,
    pub sighting_uploads: Uploads<ReportedSighting>,
    pub connections: Cell<usize>,
    pub sessions: Cell<u32>,
    pub streams: Cell<u32>,
}

/// How the node is heard and asked.
pub(super) struct NodeLink {
    pub announced: watch::Receiver<Announced>,
    pub requests: mpsc::Sender<Request>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The node has no room for the question.
    Full,
    /// The node is ending.
    Ending,
}

impl From<NoAnswer> for Error {
    fn from(why: NoAnswer) -> Self {
        match why {
            NoAnswer::Full => Self::overloaded("the node is busy: try again".into()),
            NoAnswer::Ending => Self::disconnected("the sidecar is about to end".into()),
        }
    }
}

/// A host cannot help it; what an operator can do, the error says.
#[allow(clippy::needless_pass_by_value, reason = "it is mapped over results")]
pub(super) fn store_error(error: StoreError) -> Error {
    tracing::error!(%error, "the store cannot be read");
    Error::failed(format!("the sidecar cannot read its store: {error}"))
}

impl ApiServer {
    pub fn new(
        config: Config,
        limits: Limits,
        source: Arc<dyn HostSource>,
        node: NodeLink,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let NodeLink { announced, requests } = node;
        Self {
            reads: Arc::new(Semaphore::new(limits.reads)),
            intake: Arc::new(Semaphore::new(limits.max_intake_bytes.div_ceil(1024))),
            config,
            limits,
            source,
            announced,
            draining,
            requests,
            publisher: ExclusiveRole::new("publisher"),
            reporter: ExclusiveRole::new("DA reporter"),
            signer: RefCell::default(),
            uploads: Uploads::default(),
            sighting_uploads: Uploads::default(),
            connections: Cell::new(0),
            sessions: Cell::new(0),
            streams: Cell::new(0),
        }
    }

    /// The heads and the phase, which is `Draining` as soon as we are.
    pub fn announced(&self) -> Announced {
        let announced = *self.announced.borrow();
        if self.is_draining() { Announced { phase: Phase::Draining, ..announced } } else { announced }
    }

    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// The key that the node signs with.
    pub fn proposer(&self) -> Option<PublicKey> {
        self.config.proposer.or_else(|| self.signer.borrow().upgrade().map(|signer| signer.key))
    }

    /// Who we are and where we stand, as every client may ask.
    pub fn info(&self) -> ServerInfo {
        let (config, limits) = (&self.config, &self.limits);
        let Announced { heads, phase } = self.announced();
        ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            schema_revision: wire::SCHEMA_REVISION,
            features: FEATURES.map(str::to_owned).into(),
            chain_id: config.chain_id.as_str().to_owned(),
            initial_height: config.initial_height,
            store_id: self.source.store_id(),
            peer_id: config.peer_id.clone(),
            limits: info::Limits {
                max_message_bytes: limits.max_message_bytes as u64,
                max_block_bytes: limits.max_block_bytes as u64,
                max_inline_bytes: limits.max_inline_bytes() as u64,
                max_events: MAX_EVENTS,
                max_wait: MAX_WAIT,
                max_calls: MAX_CALLS,
                max_report_bytes: limits.max_report_bytes() as u64,
            },
            phase,
            heads: (&heads).into(),
            proposer: self.proposer(),
            durability: config.durability,
            max_block_bytes: limits.chain_block_bytes as u64,
            da_evidence: Some(config.da_evidence),
        }
    }

    /// Asks the node.
    pub async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply))?;
        answer.await.map_err(|_| NoAnswer::Ending)
    }

    /// What the node says of itself, together with what only the API knows.
    pub async fn write_status(&self, to: wire::status::Builder<'_>) -> Result<(), Error> {
        let NodeStatus { core, uptime, listen, awaits_signer } = self.ask(|reply| Request::Status { reply }).await?;
        let (sessions, streams) = (self.sessions.get(), self.streams.get());
        let info = self.info();
        status::write(to, &StatusNow { info, core: &core, uptime, listen: &listen, awaits_signer, sessions, streams });
        Ok(())
    }

    /// Asks the node about something that costs memory until it is answered, even if nobody waits for the answer any more.
    pub async fn ask_holding<T: 'static>(
        &self,
        permit: OwnedSemaphorePermit,
        question: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply))?;
        let waiting = tokio::task::spawn_local(async move {
            let answer = answer.await;
            drop(permit);
            answer
        });
        waiting.await.map_err(|_| NoAnswer::Ending)?.map_err(|_| NoAnswer::Ending)
    }

    /// Tells the node something that has no answer.
    pub fn tell(&self, request: Request) -> Result<(), NoAnswer> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoAnswer::Full,
            mpsc::error::TrySendError::Closed(_) => NoAnswer::Ending,
        })
    }

    /// Room for bytes on their way in; `None` when there is none now.
    pub fn intake(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        // What is small costs, too.
        let kib = u32::try_from(bytes.div_ceil(1024).max(4)).ok()?;
        self.intake.clone().try_acquire_many_owned(kib).ok()
    }
}

/// A host that signs. Dropping it ends that.
pub(super) struct HostSigner {
    pub key: PublicKey,
    /// Passes one block after the other to the host.
    pub task: tokio::task::JoinHandle<()>,
}

impl Drop for HostSigner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A role that one session has at a time.
#[derive(Debug)]
pub(super) struct ExclusiveRole {
    name: &'static str,
    epoch: Cell<u64>,
}

/// One session's hold on a role.
#[derive(Debug)]
pub(super) struct Fence {
    role: Rc<ExclusiveRole>,
    epoch: u64,
}

impl ExclusiveRole {
    fn new(name: &'static str) -> Rc<Self> {
        Rc::new(Self { name, epoch: Cell::new(0) })
    }

    /// The newest wins.
    pub fn take(self: &Rc<Self>) -> Fence {
        self.epoch.update(|epoch| epoch + 1);
        Fence { role: self.clone(), epoch: self.epoch.get() }
    }
}

impl Fence {
    /// # Errors
    /// `disconnected` when somebody else has taken the role.
    pub fn check(&self) -> Result<(), Error> {
        if self.holds() {
            return Ok(());
        }
        Err(Error::disconnected(format!("another session has taken the role of the {}", self.role.name)))
    }

    pub fn holds(&self) -> bool {
        self.role.epoch.get() == self.epoch
    }
}

/// Raises a connection's counter, and the server's, for as long as it lives.
pub(super) struct CountGuard {
    connection: Rc<ClientConnection>,
    own: fn(&ClientConnection) -> &Cell<u32>,
    all: Option<fn(&ApiServer) -> &Cell<u32>>,
}

impl CountGuard {
    /// `None` when the connection has as many as it may.
    pub fn take(
        connection: &Rc<ClientConnection>,
        max: u32,
        own: fn(&ClientConnection) -> &Cell<u32>,
        all: Option<fn(&ApiServer) -> &Cell<u32>>,
    ) -> Option<Self> {
        if own(connection).get() >= max {
            return None;
        }
        own(connection).update(|count| count + 1);
        if let Some(all) = all {
            all(&connection.server).update(|count| count + 1);
        }
        Some(Self { connection: connection.clone(), own, all })
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        (self.own)(&self.connection).update(|count| count - 1);
        if let Some(all) = self.all {
            all(&self.connection.server).update(|count| count - 1);
        }
    }
}

/// What the objects of one connection share.
pub(super) struct ClientConnection {
    pub server: Rc<ApiServer>,
    accounting: Rc<Accounting>,
    pub sessions: Cell<u32>,
    pub streams: Cell<u32>,
    pub readers: Cell<u32>,
    /// One read at a time, so that connections take turns.
    turn: Semaphore,
}

impl ClientConnection {
    pub fn new(server: Rc<ApiServer>, accounting: Rc<Accounting>) -> Rc<Self> {
        Rc::new(Self {
            server,
            accounting,
            sessions: Cell::new(0),
            streams: Cell::new(0),
            readers: Cell::new(0),
            turn: Semaphore::new(1),
        })
    }

    /// Every handler begins with this, or with [`Self::enter_as`].
    pub fn enter(&self) -> Result<InFlight, Error> {
        self.accounting.enter()
    }

    /// Every handler of a role begins with this.
    ///
    /// # Errors
    /// As [`Self::enter`], and as [`Fence::check`].
    pub fn enter_as(&self, role: &Fence) -> Result<InFlight, Error> {
        let call = self.enter()?;
        role.check()?;
        Ok(call)
    }

    /// Waits until an answer of this size has room.
    pub async fn reserve(&self, bytes: usize) -> Counted {
        self.accounting.reserve(bytes).await
    }

    /// Reads the store beside the RPC thread. The permit stands for the memory of what was read: keep it as long.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn HostView) -> T + Send + 'static,
    ) -> Result<(T, OwnedSemaphorePermit), Error> {
        let closed = |_| Error::disconnected("the sidecar is about to end".into());
        let _turn = self.turn.acquire().await.map_err(closed)?;
        let permit = self.server.reads.clone().acquire_owned().await.map_err(closed)?;
        let source = self.server.source.clone();
        tokio::task::spawn_blocking(move || (read(&*source.view()), permit))
            .await
            .map_err(|error| Error::failed(format!("reading the store: {error}")))
    }
}
