//! The HTTP side: JSON-RPC 2.0 over HTTP/1.1, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::chain::{DaChain, DaLimits, Unavailable};
use super::rpc::{
    BLOB_NOT_FOUND, Blob, ExtendedHeader, FROM_THE_FUTURE, MAX_REQUEST_BYTES, Namespace, RpcCall, RpcError, RpcHeader,
    RpcReply,
};
use crate::clock::Clock;

const MAX_CONNECTIONS: usize = 64;
/// Bodies that are read and parsed at the same time: the bound on memory that requests take.
const MAX_BODIES: usize = 8;
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// celestia-node puts the chain's name into each header; this one marks what it comes from.
const DA_CHAIN_ID: &str = "blocksyncd-dev-da";

/// A running dev DA. Dropping it ends it and all its connections.
#[derive(Debug)]
pub struct DevDa {
    address: SocketAddr,
    chain: Arc<DaServerState>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct DaServerState {
    chain: Mutex<DaChain<oneshot::Sender<u64>>>,
    clock: Clock,
    bodies: Semaphore,
}

impl DaServerState {
    fn chain(&self) -> MutexGuard<'_, DaChain<oneshot::Sender<u64>>> {
        // Nothing under this lock can panic half-way; a poisoned one is as good as any.
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DevDa {
    /// Binds a free port on loopback and makes a DA block every `block_time`.
    pub async fn start(block_time: Duration) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let clock = Clock::start();
        let chain = Arc::new(DaServerState {
            chain: Mutex::new(DaChain::new(DaLimits::default(), clock.now().unix_nanos)),
            clock,
            bodies: Semaphore::new(MAX_BODIES),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(make_blocks(chain.clone(), block_time));
        tasks.spawn(accept(listener, chain.clone()));
        Ok(Self { address, chain, tasks })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The height of the newest DA block.
    pub fn head(&self) -> u64 {
        self.chain.chain().head()
    }

    /// Whether it still works: its tasks end only by a bug.
    pub fn is_running(&self) -> bool {
        self.tasks.len() == 2
    }
}

async fn make_blocks(shared: Arc<DaServerState>, block_time: Duration) {
    let mut ticks = tokio::time::interval(block_time);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await; // the first one is immediate, and block 1 is there already
    loop {
        ticks.tick().await;
        let now = shared.clock.now().unix_nanos;
        let (height, included) = shared.chain().make_block(now);
        for waiter in included {
            // Whoever submitted may have hung up; the blobs are in all the same.
            let _ = waiter.send(height);
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<DaServerState>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => { connections.spawn(serve(stream, shared.clone())); }
                // Out of file descriptors, say: not the listener's end.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<DaServerState>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { respond(&shared, request).await }
    });
    // An error is the client's: it hung up, or does not speak HTTP.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn respond(
    shared: &DaServerState,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::http::Error> {
    let plain = |status, text: &'static str| Response::builder().status(status).body(Full::from(text));
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "POST a JSON-RPC call\n");
    }
    let call = {
        let Ok(_permit) = shared.bodies.acquire().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "ending\n");
        };
        let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect();
        let body = match tokio::time::timeout(READ_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) => return plain(StatusCode::PAYLOAD_TOO_LARGE, "unreadable, or more than 16 MiB\n"),
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "too slow\n"),
        };
        match serde_json::from_slice::<RpcCall>(&body) {
            Ok(call) => call,
            Err(_) => return plain(StatusCode::BAD_REQUEST, "not a JSON-RPC call\n"),
        }
    };
    let id = call.id.clone();
    let (result, error) = match dispatch(shared, call).await {
        Ok(result) => (Some(result), None),
        Err(fault) => (None, Some(fault)),
    };
    let reply = RpcReply { jsonrpc: "2.0".into(), id, result, error };
    let body = serde_json::to_vec(&reply).unwrap_or_default();
    Response::builder().header(header::CONTENT_TYPE, "application/json").body(Full::from(body))
}

async fn dispatch(shared: &DaServerState, call: RpcCall) -> Result<Value, RpcError> {
    let mut params = call.params.into_iter();
    match call.method.as_str() {
        "blob.Submit" => submit(shared, param(params.next())?).await,
        "blob.GetAll" => get_all(shared, param(params.next())?, &param::<Vec<Namespace>>(params.next())?),
        "header.NetworkHead" => {
            let head = shared.chain().head();
            header(shared, head)
        }
        "header.GetByHeight" => header(shared, param(params.next())?),
        other => Err(RpcError::method_not_found(other)),
    }
}

fn param<T: DeserializeOwned>(value: Option<Value>) -> Result<T, RpcError> {
    serde_json::from_value(value.unwrap_or_default()).map_err(RpcError::invalid_params)
}

fn result(value: impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(value).map_err(RpcError::failed)
}

/// Answers once the blobs are in a DA block, as celestia-node does.
async fn submit(shared: &DaServerState, blobs: Vec<Blob>) -> Result<Value, RpcError> {
    if blobs.is_empty() || blobs.iter().any(|blob| blob.data.0.is_empty()) {
        return Err(RpcError::invalid_params("no blobs, or an empty one"));
    }
    let (waiter, included) = oneshot::channel();
    shared.chain().submit(blobs, waiter).map_err(|_| RpcError::failed("mempool is full"))?;
    result(included.await.map_err(|_| RpcError::failed("ending"))?)
}

fn get_all(shared: &DaServerState, height: u64, namespaces: &[Namespace]) -> Result<Value, RpcError> {
    let found = shared.chain().blobs(height, namespaces);
    result(found.map_err(|unavailable| fault(unavailable, height))?)
}

fn header(shared: &DaServerState, height: u64) -> Result<Value, RpcError> {
    let time = shared.chain().time(height).map_err(|unavailable| fault(unavailable, height))?;
    let time = humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(time)).to_string();
    result(ExtendedHeader { header: RpcHeader { chain_id: DA_CHAIN_ID.into(), height, time } })
}

fn fault(unavailable: Unavailable, height: u64) -> RpcError {
    match unavailable {
        Unavailable::NotMadeYet { head } => {
            RpcError::failed(format!("header: {FROM_THE_FUTURE}: networkHeight: {head}, requestedHeight: {height}"))
        }
        Unavailable::NoBlob => RpcError::failed(BLOB_NOT_FOUND),
        Unavailable::Forgotten { oldest } => {
            RpcError::failed(format!("header: not found: height {height} is below {oldest}"))
        }
    }
}
