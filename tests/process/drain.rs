//! A drain that cannot finish, because the host's signer does not answer: a second signal ends it at once, and so does the
//! end of its grace.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use blocksyncd::api::client::{BlockSigner, Client, Hello, ProposedBlock, Roles};
use blocksyncd::block::{BlockId, Height, PublicKey};

use super::process::{DEADLINE, Sidecar, Signal, TempDir, call};

/// The public key of RFC 8032's first test vector. Nothing is ever signed with it here.
pub const KEY: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// A signer that says when it is asked, and answers only when its caller is gone.
struct Silent {
    asked: mpsc::Sender<()>,
    end: mpsc::Receiver<()>,
}

impl BlockSigner for Silent {
    fn public_key(&self) -> PublicKey {
        PublicKey::from_hex(KEY).unwrap()
    }

    fn sign(&self, _: &[u8], _: BlockId) -> Result<[u8; 64], String> {
        self.asked.send(()).unwrap();
        let _ = self.end.recv();
        Err("not now".into())
    }
}

/// A sidecar that waits for a signature, and what keeps it waiting.
struct Waiting {
    sidecar: Sidecar,
    end: mpsc::Sender<()>,
    host: JoinHandle<()>,
    _dir: TempDir,
}

impl Waiting {
    fn new(args: &[&str]) -> Self {
        let dir = TempDir::new();
        let home = dir.join("h");
        let home_text = home.to_str().unwrap();
        let made = call(["init", home_text, "--chain-id", "demo", "--proposer", KEY, "--host-signs"]);
        assert_eq!(made.code, Some(0), "{made:?}");
        let sidecar = Sidecar::start(&home, args);
        let (asked, is_asked) = mpsc::channel();
        let (end, at_end) = mpsc::channel();
        let socket = sidecar.socket();
        let host = std::thread::spawn(move || publish(socket, Silent { asked, end: at_end }));
        is_asked.recv_timeout(DEADLINE).expect("the signer is asked");
        assert_eq!(sidecar.ask(&["status"])["awaitsSigner"], false);
        Self { sidecar, end, host, _dir: dir }
    }

    /// Lets the host go.
    fn finish(self) {
        drop(self.end);
        self.host.join().unwrap();
    }
}

/// A host that publishes one block, and does not care what becomes of it.
fn publish(socket: PathBuf, signer: Silent) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let client = Client::connect(&socket).await.unwrap();
        let roles = Roles { publisher: true, ..Roles::default() };
        let hello = Hello { name: "silent".into(), chain_id: None, roles };
        let session = client.open(&hello, Some(Rc::new(signer))).await.unwrap();
        let block = ProposedBlock {
            height: Height::MIN,
            parent: None,
            time_unix_nanos: 1,
            host_id: bytes::Bytes::new(),
            payload: bytes::Bytes::from_static(b"payload"),
        };
        drop(session.publisher.unwrap().publish(&block).await);
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (second, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut waiting = Waiting::new(&["--set", "shutdown_grace=10m"]);
        waiting.sidecar.signal(Signal::TERM);
        waiting.sidecar.wait_for_log("draining");
        waiting.sidecar.signal(second);
        assert_eq!(waiting.sidecar.wait().code(), Some(code), "{}", waiting.sidecar.log());
        waiting.finish();
    }
}

#[test]
fn the_end_of_the_grace_ends_it() {
    let mut waiting = Waiting::new(&["--set", "shutdown_grace=0s"]);
    waiting.sidecar.signal(Signal::TERM);
    assert_eq!(waiting.sidecar.wait().code(), Some(0), "{}", waiting.sidecar.log());
    assert!(waiting.sidecar.log().contains("the grace is over"), "{}", waiting.sidecar.log());
    waiting.finish();
}
