//! The API as seen from another language: `clients/python` against the real binary.
//!
//! Needs Python with pycapnp: the interpreter that `BLOCKSYNC_PYTHON` names, or else `python3`. With `CI=true` a virtual
//! environment is made under `target/` when that one has no pycapnp, and a failure is a failure; elsewhere it is skipped.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

#[path = "../support/process.rs"]
mod process;

use std::path::{Path, PathBuf};
use std::process::Command;

use process::{Ended, Sidecar, TempDir, init_sequencer, run};
use serde_json::{Value, json};

/// What the client is written for.
const PYCAPNP: &str = "pycapnp==2.2.4";

/// An interpreter that can load pycapnp.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("BLOCKSYNC_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let capable = |python: &Path| {
        Command::new(python).args(["-c", "import capnp"]).output().is_ok_and(|output| output.status.success())
    };
    if capable(&given) {
        return Some(given);
    }
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let python = venv.join("bin/python");
    if capable(&python) {
        return Some(python);
    }
    if std::env::var_os("CI").is_none_or(|ci| ci != "true") {
        eprintln!("SKIPPED: {} has no pycapnp, and BLOCKSYNC_PYTHON names no other", given.display());
        return None;
    }
    let made = run(Command::new(&given).args(["-m", "venv"]).arg(&venv));
    assert_eq!(made.code, Some(0), "CI needs python3 with venv: {made:?}");
    let installed = run(Command::new(&python).args(["-m", "pip", "install", "--quiet", PYCAPNP]));
    assert_eq!(installed.code, Some(0), "CI needs pycapnp: {installed:?}");
    Some(python)
}

struct Client<'a> {
    python: &'a Path,
    socket: PathBuf,
}

impl Client<'_> {
    fn call(&self, args: &[&str]) -> Ended {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python/blocksync.py");
        run(Command::new(self.python).arg(script).arg(&self.socket).args(args))
    }

    /// One JSON value a line, of a command that succeeded.
    #[track_caller]
    fn lines(&self, args: &[&str]) -> Vec<Value> {
        let ended = self.call(args);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[test]
fn a_host_in_python_publishes_and_follows() {
    let Some(python) = python() else { return };
    let dir = TempDir::new();
    let home = dir.join("home");
    init_sequencer(&home, "python-chain");
    let sidecar = Sidecar::start(&home, &[]);
    let client = Client { python: &python, socket: sidecar.socket() };

    // One that fits into a message, and one that needs an upload, and comes back in pieces.
    let mut blocks = Vec::new();
    for (height, size) in [(1_u64, 1000_usize), (2, 7 << 20)] {
        let payload = dir.join("payload");
        std::fs::write(&payload, vec![u8::try_from(height).unwrap(); size]).unwrap();
        let published = &client.lines(&["publish", payload.to_str().unwrap()])[0];
        let hash = published["hash"].as_str().expect("a hash").to_owned();
        assert_eq!(*published, json!({"said": "published", "height": height, "hash": hash}));
        blocks.push((hash.clone(), json!({"said": "soft", "height": height, "hash": hash, "bytes": size})));
    }
    let [(first, soft1), (_, soft2)] = &blocks[..] else { unreachable!() };
    assert_eq!(client.lines(&["follow", "2"]), [soft1.clone(), soft2.clone()]);
    assert_eq!(client.lines(&["follow", "1", &format!("1/{first}")]), std::slice::from_ref(soft2));
    sidecar.stop();
}
