//! The thread of the API: accepts clients, gives each a connection of its own, and ends them.
//!
//! ```text
//!   start --> [thread: one current-thread runtime, one LocalSet]
//!               accept loop --> connection task per client: Link + RpcSystem + Root
//!               blocking pool: reads of the store, hashing
//!   Handle --drain--> streams answer `draining`, no new clients --quiet--> disconnect --grace--> end
//! ```
//!
//! Invariants:
//! 1. Cap'n Proto objects never leave the thread; what crosses it are the words of this module's `Request`s and answers.
//! 2. A client that breaks the protocol, panics a handler, or exceeds a bound ends its own connection and no other.
//!
//! The RPC library prints the errors of some tasks to the standard output; a program whose standard output has a reader must
//! redirect it after its ready line.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use capnp::Error;
use capnp_rpc::RpcSystem;
use futures::FutureExt as _;
use interprocess::local_socket::tokio::Listener;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::blocksync_capnp::{self as wire, block_sync};
use super::convert;
use super::info::{self, Info};
use super::limits::{Limits, MAX_CALLS, MAX_EVENTS, MAX_WAIT};
use super::link::Link;
use super::meter::{Counted, InFlight, Meter};
use super::publisher::{HostSigner, Uploads};
use super::session::Root;
use super::socket::Place;
use super::view::{Source, View};
use super::{Announced, Config, Request, StartError};
use crate::block::PublicKey;
use crate::store::StoreError;
use crate::sync::Phase;

/// The names of what this sidecar can do beyond the first schema.
const FEATURES: [&str; 0] = [];
/// Said to a client whose call came too soon after too many others.
pub(super) const RETRY_MS: u32 = 100;
/// A pause when the system has no file descriptor for a client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// What all connections share.
pub(super) struct Server {
    pub config: Config,
    pub limits: Limits,
    pub source: Arc<dyn Source>,
    pub announced: watch::Receiver<Announced>,
    pub draining: watch::Receiver<bool>,
    requests: mpsc::Sender<Request>,
    reads: Arc<Semaphore>,
    /// In KiB.
    intake: Arc<Semaphore>,
    pub publisher: Rc<Role>,
    pub reporter: Rc<Role>,
    /// The host that signs now.
    pub signer: RefCell<Weak<HostSigner>>,
    pub uploads: Uploads,
    pub connections: Cell<usize>,
    pub sessions: Cell<u32>,
    pub streams: Cell<u32>,
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

/// A host cannot help it, and reading again may.
#[allow(clippy::needless_pass_by_value, reason = "it is mapped over results")]
pub(super) fn store_error(error: StoreError) -> Error {
    tracing::error!(%error, "the store cannot be read");
    Error::failed(format!("the store cannot be read: {error}"))
}

impl Server {
    pub fn new(
        config: Config,
        limits: Limits,
        source: Arc<dyn Source>,
        announced: watch::Receiver<Announced>,
        requests: mpsc::Sender<Request>,
        draining: watch::Receiver<bool>,
    ) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(limits.reads)),
            intake: Arc::new(Semaphore::new(limits.max_intake_bytes.div_ceil(1024))),
            config,
            limits,
            source,
            announced,
            draining,
            requests,
            publisher: Role::new("publisher"),
            reporter: Role::new("DA reporter"),
            signer: RefCell::default(),
            uploads: Uploads::default(),
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
    pub fn info(&self) -> Info {
        let (config, limits) = (&self.config, &self.limits);
        let Announced { heads, phase } = self.announced();
        Info {
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
            },
            phase,
            heads: (&heads).into(),
            proposer: self.proposer(),
            durability: config.durability,
        }
    }

    /// Asks the node.
    pub async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, NoAnswer> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply))?;
        answer.await.map_err(|_| NoAnswer::Ending)
    }

    /// What the node says of itself, together with what only the API knows.
    pub async fn tell_status(&self, to: wire::status::Builder<'_>) -> Result<(), Error> {
        let status = self.ask(|reply| Request::Status { reply }).await?;
        convert::set_status(to, &self.info(), &status, self.sessions.get(), self.streams.get());
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

/// A role that one session has at a time.
#[derive(Debug)]
pub(super) struct Role {
    name: &'static str,
    epoch: Cell<u64>,
}

/// One session's hold on a role.
#[derive(Debug)]
pub(super) struct Fence {
    role: Rc<Role>,
    epoch: u64,
}

impl Role {
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
pub(super) struct Seat {
    connection: Rc<Connection>,
    own: fn(&Connection) -> &Cell<u32>,
    all: Option<fn(&Server) -> &Cell<u32>>,
}

impl Seat {
    /// `None` when the connection has as many as it may.
    pub fn take(
        connection: &Rc<Connection>,
        max: u32,
        own: fn(&Connection) -> &Cell<u32>,
        all: Option<fn(&Server) -> &Cell<u32>>,
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

impl Drop for Seat {
    fn drop(&mut self) {
        (self.own)(&self.connection).update(|count| count - 1);
        if let Some(all) = self.all {
            all(&self.connection.server).update(|count| count - 1);
        }
    }
}

/// What the objects of one connection share.
pub(super) struct Connection {
    pub server: Rc<Server>,
    pub meter: Rc<Meter>,
    pub sessions: Cell<u32>,
    pub streams: Cell<u32>,
    pub readers: Cell<u32>,
    /// One read at a time, so that connections take turns.
    turn: Semaphore,
}

impl Connection {
    /// Every handler begins with this.
    pub fn enter(&self) -> Result<InFlight, Error> {
        self.meter.enter()
    }

    /// Waits until an answer of this size has room.
    pub async fn room(&self, bytes: usize) -> Counted {
        self.meter.room(bytes).await
    }

    /// Reads the store beside the RPC thread. The permit stands for the memory of what was read: keep it as long.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn View) -> T + Send + 'static,
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

/// Serves until it is told to stop, or has drained.
pub(super) async fn run(server: Rc<Server>, place: &Place, listener: Listener) {
    let mut draining = server.draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = place.accept(&listener) => accepted,
            _ = draining.wait_for(|draining| *draining) => break,
        };
        match accepted {
            Ok(_) if server.connections.get() >= server.limits.max_connections => {
                tracing::warn!(
                    limit = server.limits.max_connections,
                    "a client is turned away: too many are connected"
                );
            }
            Ok(stream) => {
                server.connections.update(|count| count + 1);
                let server = server.clone();
                tokio::task::spawn_local(async move {
                    let _leave = Leave(server.clone());
                    serve(server, stream).await;
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                tracing::warn!(%error, "a client is turned away");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while server.connections.get() > 0 {
        // Rare and short: the end of a process.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Counts a connection down, also when its task panics.
struct Leave(Rc<Server>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.connections.update(|count| count - 1);
    }
}

/// One client, from its first byte to its last.
async fn serve(server: Rc<Server>, stream: UnixStream) {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    tracing::debug!(pid, "a client has connected");
    let meter = Meter::new(server.limits);
    let (reader, writer) = stream.into_split();
    let mut draining = server.draining.clone();
    let connection = Rc::new(Connection {
        server,
        meter: meter.clone(),
        sessions: Cell::new(0),
        streams: Cell::new(0),
        readers: Cell::new(0),
        turn: Semaphore::new(1),
    });
    let root: block_sync::Client = capnp_rpc::new_client(Root::new(connection));
    let mut rpc = RpcSystem::new(Box::new(Link::new(reader, writer, meter.clone())), Some(root.client));
    let goodbye = rpc.get_disconnector();
    let ended = rpc.get_disconnector();
    let quiet = async {
        // An error means that the server itself is gone.
        let _ = draining.wait_for(|draining| *draining).await;
        meter.quiet().await;
    };
    let outcome = tokio::select! {
        outcome = &mut rpc => outcome,
        () = quiet => {
            let both = async { tokio::join!(goodbye, &mut rpc).1 };
            tokio::time::timeout(GOODBYE, both).await.unwrap_or(Ok(()))
        }
    };
    // However it ended: what the client held is let go now, or a capability of its own would keep it alive.
    let _ = ended.now_or_never();
    match outcome {
        Ok(()) => tracing::debug!(pid, "a client has left"),
        Err(error) => tracing::info!(pid, error = %convert::cut(&error.extra, 200), "a client is disconnected"),
    }
}

/// The other end of [`super::Handle`].
pub(super) struct Thread {
    pub server: Box<dyn FnOnce() -> Server + Send>,
    pub place: Place,
    pub stop: CancellationToken,
    pub started: std::sync::mpsc::SyncSender<Result<(), StartError>>,
}

impl Thread {
    /// The body of the thread; returns when everything is let go.
    pub fn main(self) {
        let Self { server, place, stop, started } = self;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("api-read")
            .max_blocking_threads(super::limits::MAX_READS + 2)
            .build()
            .map_err(|error| StartError::Io(error.to_string()));
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let listener = match place.listen() {
                Ok(listener) => listener,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            let server = Rc::new(server());
            tokio::select! {
                () = stop.cancelled() => {}
                () = run(server, &place, listener) => {}
            }
        });
        drop(local);
        runtime.shutdown_timeout(GOODBYE);
        drop(place);
    }
}
