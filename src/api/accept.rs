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
//! 1. Cap'n Proto objects never leave the thread; what crosses it are the words of [`super::Request`] and its answers.
//! 2. A client that breaks the protocol, panics a handler, or exceeds a bound ends its own connection and no other.
//!
//! The RPC library prints the errors of some tasks to the standard output; a program whose standard output has a reader must
//! redirect it after its ready line.

use std::rc::Rc;
use std::time::Duration;

use capnp_rpc::RpcSystem;
use futures::FutureExt as _;
use interprocess::local_socket::tokio::Listener;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::StartError;
use super::accounting::Accounting;
use super::blocksync_capnp::block_sync;
use super::convert::cut;
use super::goodbye::Goodbyes;
use super::limits::{GOODBYE, MAX_READS};
use super::link::Link;
use super::session::Root;
use super::shared::{ApiServer, ClientConnection};
use super::socket::SocketLock;

/// A pause when the system has no file descriptor for a client.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is told to stop, or has drained.
async fn run(server: Rc<ApiServer>, lock: &SocketLock, listener: Listener) {
    let mut draining = server.draining.clone();
    let goodbyes = Goodbyes::new();
    loop {
        let accepted = tokio::select! {
            accepted = lock.accept(&listener) => accepted,
            _ = draining.wait_for(|draining| *draining) => break,
        };
        match accepted {
            Ok(stream) if server.connections.get() >= server.limits.max_connections => {
                let limit = server.limits.max_connections;
                tracing::warn!(limit, "a client is turned away: all api.max_connections are taken");
                goodbyes.say(stream, &format!("all {limit} connections for hosts are taken (api.max_connections)"));
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
struct Leave(Rc<ApiServer>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.connections.update(|count| count - 1);
    }
}

/// One client, from its first byte to its last.
async fn serve(server: Rc<ApiServer>, stream: UnixStream) {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
    tracing::debug!(pid, "a client has connected");
    let accounting = Accounting::new(server.limits);
    let (reader, writer) = stream.into_split();
    let mut draining = server.draining.clone();
    let connection = ClientConnection::new(server, accounting.clone());
    let root: block_sync::Client = capnp_rpc::new_client(Root::new(connection));
    let mut rpc = RpcSystem::new(Box::new(Link::new(reader, writer, accounting.clone())), Some(root.client));
    let goodbye = rpc.get_disconnector();
    let ended = rpc.get_disconnector();
    let quiet = async {
        // An error means that the server itself is gone.
        let _ = draining.wait_for(|draining| *draining).await;
        accounting.wait_until_quiet().await;
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
        Err(error) => tracing::info!(pid, error = %cut(&error.extra, 200), "a client is disconnected"),
    }
}

/// The other end of [`super::Handle`].
pub(super) struct ApiThread {
    pub server: Box<dyn FnOnce() -> ApiServer + Send>,
    pub lock: SocketLock,
    pub stop: CancellationToken,
    pub started: std::sync::mpsc::SyncSender<Result<(), StartError>>,
}

impl ApiThread {
    /// The body of the thread; returns when everything is let go.
    pub fn main(self) {
        let Self { server, lock, stop, started } = self;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("api-read")
            .max_blocking_threads(MAX_READS + 2)
            .build()
            .map_err(|error| StartError::Io(error.to_string()));
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error))),
        };
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let listener = match lock.listen() {
                Ok(listener) => listener,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            let server = Rc::new(server());
            tokio::select! {
                () = stop.cancelled() => {}
                () = run(server, &lock, listener) => {}
            }
        });
        drop(local);
        runtime.shutdown_timeout(GOODBYE);
        drop(lock);
    }
}
