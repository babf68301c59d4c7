//! A Go peer: `tests/interop/go`, built once in a run, started as a child, and driven by JSON lines (`go/main.go`).
//!
//! Invariants:
//! 1. No peer outlives the value that started it.
//! 2. Events that nobody waited for yet are kept, in order.
//! 3. What a peer wrote to its standard error is shown when its test fails.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Instant;

pub use blocksyncd::util::hex::encode as hex;
use serde_json::{Map, Value, json};

use super::DEADLINE;
use super::chain::{CHAIN_ID, SEED, proposer};
use super::go_peer;

/// Whether Go is here; to be asked first by every test. The first one to ask builds the peer.
pub fn is_here() -> bool {
    program().is_some()
}

fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let Ok(version) = Command::new("go").arg("version").output() else {
        let required = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!required, "Go is not installed, and CI=true requires the tests with real Go peers");
        // Past the test harness, which keeps to itself what a test that passes has printed.
        let _ = writeln!(std::io::stderr(), "SKIPPED: real Go peers, all of tests/interop: Go is not installed");
        return None;
    };
    println!("{}", String::from_utf8_lossy(&version.stdout).trim_end());
    let built = go_peer::build();
    Some(built.unwrap_or_else(|why| panic!("the Go peer cannot be built:\n{why}")))
}

/// What a Go peer is to be; the names are those of `go/main.go`.
#[derive(Clone, Debug)]
pub struct Options {
    role: &'static str,
    flags: Vec<String>,
    initial: u64,
}

impl Options {
    pub fn new(role: &'static str) -> Self {
        Self { role, flags: Vec::new(), initial: 1 }
    }

    fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.extend([name.to_owned(), value.into()]);
        self
    }

    pub fn initial(mut self, height: u64) -> Self {
        self.initial = height;
        self
    }

    pub fn dial(self, addresses: &[&str]) -> Self {
        self.flag("-dial", addresses.join(","))
    }

    pub fn listen(self, address: &str) -> Self {
        self.flag("-listen", address)
    }

    pub fn router(self, router: &str) -> Self {
        self.flag("-router", router)
    }

    pub fn home(self, dir: &str) -> Self {
        self.flag("-home", dir)
    }

    pub fn max(self, bytes: usize) -> Self {
        self.flag("-max", bytes.to_string())
    }

    #[track_caller]
    pub fn start(self) -> Peer {
        Peer::start(self)
    }
}

#[derive(Debug)]
pub struct Peer {
    child: Child,
    stdin: ChildStdin,
    stdout: mpsc::Receiver<Value>,
    log: PathBuf,
    aside: VecDeque<Value>,
    next: u64,
    pub id: String,
    pub address: String,
}

impl Peer {
    #[track_caller]
    fn start(options: Options) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gopeer.{}.{number}", std::process::id()));
        let mut child = Command::new(program().expect("is_here comes first"))
            .args(["-role", options.role, "-chain", CHAIN_ID, "-initial", &options.initial.to_string()])
            .args(["-proposer", &proposer().to_string(), "-seed", &hex(&SEED)])
            .args(options.flags)
            .env("GOLOG_LOG_LEVEL", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log file"))
            .spawn()
            .expect("the Go peer starts");
        let stdin = child.stdin.take().expect("piped");
        let from = child.stdout.take().expect("piped");
        let (to, stdout) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines() {
                let line = line.expect("text");
                let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                if to.send(value).is_err() {
                    return;
                }
            }
        });
        let (id, address) = (String::new(), String::new());
        let mut peer = Self { child, stdin, stdout, log, aside: VecDeque::new(), next: 0, id, address };
        let ready = peer.event("ready", |_| true);
        ready["id"].as_str().unwrap().clone_into(&mut peer.id);
        ready["addresses"][0].as_str().unwrap().clone_into(&mut peer.address);
        peer
    }

    /// Sends a command, and does not wait for its answer: [`Peer::answer`] does.
    #[track_caller]
    pub fn send(&mut self, name: &str, args: &Value) -> u64 {
        self.next += 1;
        let mut line = args.as_object().cloned().unwrap_or_else(Map::new);
        line.insert("id".into(), self.next.into());
        line.insert("do".into(), name.into());
        writeln!(self.stdin, "{}", Value::Object(line)).expect("it runs");
        self.next
    }

    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Result<Value, String> {
        let answer = self.wait(&format!("answer to command {id}"), |line| line["id"] == id);
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap().to_owned()),
            None => Ok(answer["ok"].clone()),
        }
    }

    #[track_caller]
    pub fn try_ask(&mut self, name: &str, args: &Value) -> Result<Value, String> {
        let id = self.send(name, args);
        self.answer(id)
    }

    #[track_caller]
    pub fn ask(&mut self, name: &str, args: &Value) -> Value {
        self.try_ask(name, args).unwrap_or_else(|error| panic!("{name} {args}: {error}"))
    }

    /// Ends it as its operator would: what it has stored is on disk then.
    #[track_caller]
    pub fn stop(mut self) {
        self.ask("quit", &json!({}));
        // It closes its standard output as the last thing that it does.
        let end = Instant::now() + DEADLINE;
        while self.stdout.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
        assert!(self.child.wait().expect("our own child").success(), "it did not end well");
    }

    /// The next event of this name that is wanted.
    #[track_caller]
    pub fn event(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait(&format!("event {name}"), |line| line["event"] == name && wanted(line))
    }

    /// The first line that is wanted; the others stay for later.
    #[track_caller]
    fn wait(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.aside.iter().position(&wanted) {
            return self.aside.remove(index).expect("it is there");
        }
        let end = Instant::now() + DEADLINE;
        loop {
            match self.stdout.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return line,
                Ok(line) => self.aside.push_back(line),
                Err(why) => panic!("no {what} ({why}); there was {:?}", self.aside),
            }
        }
    }

    /// Waits until this peer, of `GossipSub`, has another one in its mesh: it publishes to, and passes on to, nobody
    /// else.
    #[track_caller]
    pub fn grafts(&mut self, peer: &str) {
        self.event("graft", |event| event["peer"] == peer);
    }

    /// Waits until this peer knows that another one is on the topic: one of `FloodSub` publishes to all of those.
    #[track_caller]
    pub fn meets(&mut self, peer: &str) {
        self.event("topic", |event| event["peers"].as_array().is_some_and(|peers| peers.contains(&peer.into())));
    }

    /// Whom its connection gater keeps out.
    #[track_caller]
    pub fn blocked(&mut self) -> Vec<String> {
        serde_json::from_value(self.ask("blocked", &json!({}))).unwrap()
    }

    /// That it has not shut us out: not in its gater, and we are still connected.
    #[track_caller]
    pub fn expect_not_blocked(&mut self, us: &str) {
        assert_eq!(self.blocked(), Vec::<String>::new(), "a Go peer has blocked somebody");
        let peers = self.ask("peers", &json!({}));
        assert!(peers.as_array().unwrap().contains(&us.into()), "{us} is not among its peers any more: {peers}");
    }

    /// That it would go on asking us: go-header's peer tracker has us among the good ones. It asks nobody afterwards.
    #[track_caller]
    pub fn expect_tracked(&mut self, us: &str) {
        let tracked = self.ask("tracked", &json!({}));
        assert!(tracked.as_array().unwrap().contains(&us.into()), "{us} is not tracked any more: {tracked}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- log of the Go peer {} ---\n{log}--- end ---", self.id);
        }
        let _ = std::fs::remove_file(&self.log);
    }
}
