//! A sidecar that says what a script tells it to, and writes down what it hears.

use std::cell::RefCell;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::api::blocksync_capnp as wire;
use crate::script::{Heard, Script, State};
use crate::servers::Root;

/// Only bounds a hang.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// A running scripted sidecar, in a directory of its own.
pub struct Sidecar {
    pub dir: PathBuf,
    pub heard: mpsc::Receiver<Heard>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sidecar {
    pub fn start(script: Script) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("bsm-{}-{number}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
        let (heard_by, heard) = mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (listening, is_listening) = mpsc::channel();
        let socket = dir.join("api.sock");
        let thread = std::thread::spawn(move || {
            let state =
                Rc::new(State { script: RefCell::new(script), scanned_through: RefCell::new(0), heard: heard_by });
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let serve = serve(&socket, state, listening);
            runtime.block_on(tokio::task::LocalSet::new().run_until(async move {
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            }));
        });
        is_listening.recv_timeout(DEADLINE).unwrap();
        Self { dir, heard, stop: Some(stop), thread: Some(thread) }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    /// The next thing that it hears and that `filter` takes.
    pub fn next<T>(&self, filter: impl Fn(Heard) -> Option<T>) -> T {
        loop {
            let heard = self.heard.recv_timeout(DEADLINE).expect("the host says nothing more");
            if let Some(wanted) = filter(heard) {
                return wanted;
            }
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn serve(socket: &Path, state: Rc<State>, listening: mpsc::Sender<()>) {
    let listener = UnixListener::bind(socket).unwrap();
    listening.send(()).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::task::spawn_local(session(stream, state.clone()));
    }
}

async fn session(stream: UnixStream, state: Rc<State>) {
    let (reader, writer) = stream.into_split();
    let network = twoparty::VatNetwork::new(
        futures::io::BufReader::new(reader.compat()),
        futures::io::BufWriter::new(writer.compat_write()),
        Side::Server,
        capnp::message::ReaderOptions::new(),
    );
    let hang_up = Rc::new(tokio::sync::Notify::new());
    let root: wire::block_sync::Client = capnp_rpc::new_client(Root { state, hang_up: hang_up.clone() });
    let rpc = RpcSystem::new(Box::new(network), Some(root.client));
    tokio::select! {
        _ = rpc => {}
        () = hang_up.notified() => {}
    }
}
