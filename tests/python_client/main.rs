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
use std::sync::LazyLock;

use blocksyncd::block::native;
use blocksyncd::util::hex;
use bytes::Bytes;
use process::{Ended, Sidecar, TempDir, init_follower, init_sequencer, run};
use serde_json::{Value, json};

/// What the client is written for.
const PYCAPNP: &str = "pycapnp==2.2.4";

/// An interpreter that can load pycapnp. It is looked for once: the tests run in parallel, and would otherwise make one
/// virtual environment at the same time.
fn python() -> Option<&'static Path> {
    static FOUND: LazyLock<Option<PathBuf>> = LazyLock::new(find_or_make_python);
    FOUND.as_deref()
}

fn find_or_make_python() -> Option<PathBuf> {
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
    script: &'static str,
}

impl Client<'_> {
    fn call(&self, args: &[&str]) -> Ended {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python").join(self.script);
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
    let client = Client { python, socket: sidecar.socket(), script: "blocksync.py" };

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

/// The signed block at this height, as it would stand on DA.
fn signed(sidecar: &Sidecar, dir: &TempDir, height: u64) -> Bytes {
    let file = dir.join(format!("payload-{height}"));
    let block = sidecar.ask(&["get", &height.to_string(), "--payload", file.to_str().unwrap()]);
    let hex = |field: &str| hex::decode(block[field].as_str().unwrap().as_bytes()).expect("hex");
    let signature = hex("signature").try_into().expect("64 bytes");
    native::encode(&hex("header").into(), &signature, &std::fs::read(file).unwrap().into())
}

#[test]
fn a_host_in_python_reports_what_da_has_and_gives_what_is_wanted() {
    let Some(python) = python() else { return };
    let dir = TempDir::new();
    let home = dir.join("home");
    init_sequencer(&home, "python-chain");
    let sequencer = Sidecar::start(&home, &[]);
    // The second one does not fit into a message.
    for (name, size) in [("a", 1000_usize), ("b", 6 << 20), ("c", 10)] {
        std::fs::write(dir.join(name), vec![7; size]).unwrap();
        assert_eq!(sequencer.ctl(&["publish", dir.join(name).to_str().unwrap()]).code, Some(0));
    }
    let blocks: Vec<_> = (1..=3).map(|height| signed(&sequencer, &dir, height)).collect();
    let mut forged = blocks[2].to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let da = dir.join("da");
    for (place, bytes) in [
        ("2/0", &blocks[0][..]),
        ("2/3", b"junk"),
        ("3/0", &forged),
        ("3/1", &blocks[1]),
        ("5/0", &blocks[2]),
        ("5/1", &blocks[0]),
    ] {
        let file = da.join(place);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    // One node has the blocks, the other one has nothing but DA.
    let other = dir.join("other");
    init_follower(&other, &home.join("genesis.toml"));
    let follower = Sidecar::start(&other, &[]);
    for sidecar in [&sequencer, &follower] {
        let client = Client { python, socket: sidecar.socket(), script: "report_da.py" };
        let told = client.lines(&[da.to_str().unwrap()]);
        let last = json!({"said": "taken", "scannedThrough": 5, "wanted": 0, "junk": 0, "passedOver": 0});
        assert_eq!(told.last(), Some(&last), "{told:?}");
        assert!(told.iter().any(|line| line["junk"] == 1), "the forged one was wanted, and is junk: {told:?}");
        let status = sidecar.ask(&["status"]);
        assert_eq!(status["info"]["heads"]["hard"]["height"], 3, "{status}");
        let inclusion = &sidecar.ask(&["get", "3"])["inclusion"];
        assert_eq!(*inclusion, json!({"daHeight": 5, "index": 0, "basis": "bytes"}));
    }
    // Nothing is new.
    let client = Client { python, socket: follower.socket(), script: "report_da.py" };
    assert_eq!(client.lines(&[da.to_str().unwrap()]).len(), 1);

    // Now DA decides for hosts that were elsewhere, and the one in Python is told at once.
    let client = Client { script: "blocksync.py", ..client };
    let first = sequencer.ask(&["get", "1"])["id"]["hash"].as_str().unwrap().to_owned();
    let rewound = client.lines(&["follow", "2", &format!("2/{}", "00".repeat(32))]);
    assert_eq!(rewound[0], json!({"said": "retract", "height": 0, "hash": ""}));
    assert_eq!((&rewound[1]["said"], &rewound[1]["hash"]), (&"soft".into(), &first.into()));
}
