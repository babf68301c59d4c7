//! A host's side of the API in Rust: plain words in, plain words out, no Cap'n Proto to be seen. `ctl` and the mock
//! execution attach with it, as a foreign host would.
//!
//! Nothing here is `Send`: everything of one connection stays on one thread, inside a [`tokio::task::LocalSet`].
//!
//! Invariants:
//! 1. We talk only to a socket that belongs to us, to root, or to a user that the caller names, in a directory that nobody
//!    else may write, and whose listener runs as one of these.
//! 2. Dropping a [`Stream`], a role, or the last of what a [`Client`] has given out gives it back to the sidecar; the
//!    connection closes with the last of them.
//! 3. Payloads too large for one message travel in pieces, unseen by the caller.

mod admin;
mod observe;
mod publish;
mod read;
mod report;
mod types;

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::rc::Rc;

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::net::UnixStream;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

pub use admin::Admin;
pub use observe::{Observer, Stream};
pub use publish::{BlockSigner, Publisher, patiently};
pub use report::Reporter;
pub use types::*;

pub use super::info::{HeadsView, Limits, ServerInfo};
pub use super::orders::{OperatorOutcome, ShutdownMode};
pub use super::report::{DenialReason, ReportDenial, ReportResult};
pub use super::status::{AheadOfClockView, StatusField, StatusValue, StatusView};

use super::blocksync_capnp as wire;
use super::convert::{self, text};
use super::{info, status};
use crate::block::BlockId;

/// Why a call did not give what it promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("{path} is not to be trusted: {why}")]
    Untrusted { path: String, why: String },
    #[error(
        "{path} is not to be trusted: it belongs to user {uid}, who is neither us, nor root, nor named as the sidecar's"
    )]
    Stranger { path: String, uid: u32 },
    #[error("cannot connect to {path}: {why}")]
    Connect { path: String, why: String },
    #[error("the sidecar is on chain `{0}`")]
    WrongChain(String),
    #[error("the sidecar speaks schema revisions from {oldest} on; this client was built with {ours}", ours = wire::SCHEMA_REVISION)]
    ClientTooOld { oldest: u32 },
    #[error("the sidecar speaks schema revision {theirs}; this client was built with {ours}", ours = wire::SCHEMA_REVISION)]
    ServerTooOld { theirs: u32 },
    #[error("the signer is refused: {0}")]
    NotSigner(String),
    #[error("try again later: {0}")]
    Busy(String),
    /// The host's hard block is not on the sidecar's chain: an operator must find out which of the two is wrong.
    #[error("our hard block {theirs} is not on the sidecar's chain, which has {ours:?} there")]
    ForkedBelowHard { theirs: BlockId, ours: Option<BlockId> },
    #[error("refused: {0}")]
    Invalid(String),
    /// Open again. A role that somebody else took ends like this, too.
    #[error("disconnected: {0}")]
    Disconnected(String),
    #[error("the sidecar is overloaded: {0}")]
    Overloaded(String),
    #[error("the sidecar is older than this client: {0}")]
    Unimplemented(String),
    #[error("the call failed: {0}")]
    Failed(String),
}

impl From<capnp::Error> for ClientError {
    fn from(error: capnp::Error) -> Self {
        match error.kind {
            capnp::ErrorKind::Disconnected => Self::Disconnected(error.extra),
            capnp::ErrorKind::Overloaded => Self::Overloaded(error.extra),
            capnp::ErrorKind::Unimplemented => Self::Unimplemented(error.extra),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<capnp::NotInSchema> for ClientError {
    fn from(arm: capnp::NotInSchema) -> Self {
        Self::Failed(format!("the sidecar is newer than this client: {arm}"))
    }
}

/// Ends the connection when the last user of it is gone.
#[derive(Debug)]
struct Connection(tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One connection to a sidecar.
#[derive(Clone)]
pub struct Client {
    root: wire::block_sync::Client,
    connection: Rc<Connection>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("open", &!self.connection.0.is_finished()).finish_non_exhaustive()
    }
}

/// The roles that [`Client::open`] was granted: those that were asked for.
#[derive(Debug)]
pub struct Session {
    pub info: ServerInfo,
    pub observer: Option<Observer>,
    pub publisher: Option<Publisher>,
    pub reporter: Option<Reporter>,
}

impl Client {
    /// Attaches to the sidecar at `socket`, which must belong to our user or to root.
    ///
    /// # Errors
    /// [`ClientError::Untrusted`], [`ClientError::Stranger`], [`ClientError::Connect`].
    ///
    /// # Panics
    /// Outside of a [`tokio::task::LocalSet`].
    pub async fn connect(socket: &Path) -> Result<Self, ClientError> {
        Self::connect_trusting(socket, &[]).await
    }

    /// As [`Client::connect`], for a sidecar that runs as one of these other users.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_trusting(socket: &Path, uids: &[u32]) -> Result<Self, ClientError> {
        let ours = rustix::process::geteuid().as_raw();
        let trusted = |uid: u32| uid == ours || uid == 0 || uids.contains(&uid);
        let path = socket.display().to_string();
        let connect = |error: std::io::Error| cannot_connect(socket, &error);
        check_place(socket, trusted)?;
        let stream = UnixStream::connect(socket).await.map_err(connect)?;
        let listener = stream.peer_cred().map_err(connect)?.uid();
        if !trusted(listener) {
            return Err(ClientError::Stranger { path, uid: listener });
        }
        let (reader, writer) = stream.into_split();
        let network = twoparty::VatNetwork::new(
            futures::io::BufReader::with_capacity(64 << 10, reader.compat()),
            futures::io::BufWriter::with_capacity(64 << 10, writer.compat_write()),
            Side::Client,
            capnp::message::ReaderOptions::new(),
        );
        let mut rpc = RpcSystem::new(Box::new(network), None);
        let root = rpc.bootstrap(Side::Server);
        // How it ended is told to every caller by its own call.
        let connection = Rc::new(Connection(tokio::task::spawn_local(async move { drop(rpc.await) })));
        Ok(Self { root, connection })
    }

    /// Who the sidecar is and where it stands. Never waits.
    pub async fn info(&self) -> Result<ServerInfo, ClientError> {
        let answer = self.root.info_request().send().promise.await?;
        Ok(info::read(answer.get()?.get_info()?)?)
    }

    /// Takes roles. With `signer`, which needs the publisher's role, the sidecar signs nothing itself and asks for every
    /// signature.
    pub async fn open(&self, hello: &Hello, signer: Option<Rc<dyn BlockSigner>>) -> Result<Session, ClientError> {
        use wire::open_result::Which;
        let mut request = self.root.open_request();
        let mut to = request.get().init_hello();
        to.set_name(&hello.name);
        to.set_schema_revision(wire::SCHEMA_REVISION);
        if let Some(chain_id) = &hello.chain_id {
            to.set_chain_id(chain_id.as_str());
        }
        to.set_want_observer(hello.roles.observer);
        to.set_want_publisher(hello.roles.publisher);
        to.set_want_reporter(hello.roles.reporter);
        if let Some(signer) = signer {
            to.set_signer(publish::serve(signer));
        }
        let answer = request.send().promise.await?;
        let granted = match answer.get()?.get_result()?.which()? {
            Which::Granted(granted) => granted?,
            Which::WrongChain(chain) => return Err(ClientError::WrongChain(text(chain?)?)),
            Which::ClientTooOld(oldest) => return Err(ClientError::ClientTooOld { oldest }),
            Which::ServerTooOld(theirs) => return Err(ClientError::ServerTooOld { theirs }),
            Which::Busy(why) => return Err(ClientError::Busy(text(why?)?)),
            Which::NotSigner(why) => return Err(ClientError::NotSigner(text(why?)?)),
        };
        let info = info::read(granted.get_info()?)?;
        let inline = info.limits.max_inline_bytes;
        Ok(Session {
            observer: granted
                .has_observer()
                .then(|| Ok::<_, capnp::Error>(Observer::new(granted.get_observer()?, self.connection.clone())))
                .transpose()?,
            publisher: granted
                .has_publisher()
                .then(|| {
                    Ok::<_, capnp::Error>(Publisher::new(granted.get_publisher()?, inline, self.connection.clone()))
                })
                .transpose()?,
            reporter: granted
                .has_reporter()
                .then(|| {
                    Ok::<_, capnp::Error>(Reporter::new(granted.get_reporter()?, &info.limits, self.connection.clone()))
                })
                .transpose()?,
            info,
        })
    }

    /// What an operator may ask and order.
    pub async fn admin(&self) -> Result<Admin, ClientError> {
        let answer = self.root.admin_request().send().promise.await?;
        Ok(Admin::new(answer.get()?.get_admin()?, self.connection.clone()))
    }
}

fn cannot_connect(path: &Path, error: &std::io::Error) -> ClientError {
    let why = match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => format!("no sidecar runs there ({error})"),
        _ => error.to_string(),
    };
    ClientError::Connect { path: path.display().to_string(), why }
}

/// Whoever could put a socket of their own in this place could pose as the sidecar.
fn check_place(socket: &Path, trusted: impl Fn(u32) -> bool) -> Result<(), ClientError> {
    let untrusted =
        |path: &Path, why: &str| Err(ClientError::Untrusted { path: path.display().to_string(), why: why.to_owned() });
    let strangers = |path: &Path, uid| Err(ClientError::Stranger { path: path.display().to_string(), uid });
    let look = |path: &Path| std::fs::symlink_metadata(path).map_err(|error| cannot_connect(path, &error));
    let found = look(socket)?;
    if !found.file_type().is_socket() {
        return untrusted(socket, "it is not a socket");
    }
    if !trusted(found.uid()) {
        return strangers(socket, found.uid());
    }
    let parent = match socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Through symbolic links: what matters is the directory that the socket is in.
    let parent = parent.canonicalize().map_err(|error| cannot_connect(parent, &error))?;
    let found = look(&parent)?;
    if !trusted(found.uid()) {
        return strangers(&parent, found.uid());
    }
    if found.mode() & 0o002 != 0 {
        return untrusted(&parent, "everybody may write there");
    }
    Ok(())
}
