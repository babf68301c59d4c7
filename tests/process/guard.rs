//! The guard belongs to one process: neither another path nor another name opens it twice, it is nobody else's file, and a
//! file system without locks is refused.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use super::process::{Ended, Sidecar, TempDir, blocksyncd, init_follower, init_sequencer, run};
use super::tracer;

/// A sequencer's home, and another one of its chain, which has nothing to sign with.
struct Homes {
    dir: TempDir,
    first: PathBuf,
    second: PathBuf,
}

impl Homes {
    fn new() -> Self {
        let dir = TempDir::new();
        let (first, second) = (dir.join("a"), dir.join("b"));
        init_sequencer(&first, "demo");
        init_follower(&second, &first.join("genesis.toml"));
        Self { dir, first, second }
    }

    fn guard(&self) -> PathBuf {
        self.first.join("proposer.key.guard")
    }

    /// The second home run with the first one's key, and with this guard; its own store and socket are free.
    fn with_guard(&self, guard: &Path) -> Ended {
        let (key, guard) = (self.first.join("proposer.key"), guard.display());
        let (key, guard) = (format!("signer.key={}", key.display()), format!("signer.guard={guard}"));
        second(&self.second, &["--set", &key, "--set", &guard])
    }
}

/// A run in the foreground, its log quiet so that what it says last is all that it says.
fn second(home: &Path, args: &[&str]) -> Ended {
    let args = [&["--log", "off", "--listen", "/ip4/127.0.0.1/tcp/0"], args].concat();
    run(blocksyncd().arg("run").arg("--home").arg(home).args(args))
}

#[test]
fn a_guard_is_open_once_whatever_it_is_called() {
    let homes = Homes::new();
    let sidecar = Sidecar::start(&homes.first, &[]);
    let pid = format!("process {}", sidecar.pid());
    let in_use = |guard: &Path, words: &[&str]| {
        let words = [&["the guard", "stop it", "one key"], words].concat();
        homes.with_guard(guard).refused(75, &words);
    };
    in_use(&homes.guard(), &[&pid]);
    symlink(&homes.first, homes.dir.join("link")).unwrap();
    in_use(&homes.dir.join("link/proposer.key.guard"), &[&pid]);
    fs::hard_link(homes.guard(), homes.dir.join("other.guard")).unwrap();
    in_use(&homes.dir.join("other.guard"), &[]);
    fs::rename(homes.guard(), homes.dir.join("moved.guard")).unwrap();
    in_use(&homes.dir.join("moved.guard"), &[]);
    // Nothing is left under the name, and it is not made anew.
    in_use(&homes.guard(), &[&pid]);
    assert!(!homes.guard().exists());

    fs::rename(homes.dir.join("moved.guard"), homes.guard()).unwrap();
    let published = sidecar.ctl(&["publish", "/dev/null"]);
    assert_eq!(published.code, Some(0), "{published:?}");
    sidecar.stop();
}

#[test]
fn whoever_holds_the_guard_may_die_and_another_goes_on() {
    let homes = Homes::new();
    Sidecar::start(&homes.first, &[]).kill();
    let key = format!("signer.key={}", homes.first.join("proposer.key").display());
    let sidecar = Sidecar::start(&homes.second, &["--set", &key]);
    second(&homes.first, &[]).refused(75, &["the guard", &format!("process {}", sidecar.pid())]);
    sidecar.stop();
    Sidecar::start(&homes.first, &[]).stop();
}

#[test]
fn a_guard_is_for_nobody_else_and_no_link() {
    let homes = Homes::new();
    for mode in [0o644, 0o660] {
        fs::set_permissions(homes.guard(), fs::Permissions::from_mode(mode)).unwrap();
        second(&homes.first, &[]).refused(78, &["the guard", "by others", &format!("{mode:04o}"), "chmod 600"]);
    }
    fs::set_permissions(homes.guard(), fs::Permissions::from_mode(0o600)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(homes.guard(), Some(65534), None).unwrap();
        second(&homes.first, &[]).refused(78, &["the guard", "belongs to user 65534"]);
        chown(homes.guard(), Some(0), None).unwrap();
    }
    for name in ["proposer.key.guard", "proposer.key.guard.lock", "proposer.key.guard.disowned"] {
        let (path, aside) = (homes.first.join(name), homes.dir.join("aside"));
        let _ = fs::remove_file(&aside);
        fs::rename(&path, &aside).or_else(|_| fs::write(&aside, "")).unwrap();
        symlink(&aside, &path).unwrap();
        second(&homes.first, &[]).refused(78, &[name, "symbolic link"]);
        fs::remove_file(&path).unwrap();
        if name == "proposer.key.guard" {
            fs::rename(&aside, &path).unwrap();
        }
    }
    fs::rename(homes.guard(), homes.dir.join("kept")).unwrap();
    fs::create_dir(homes.guard()).unwrap();
    second(&homes.first, &[]).refused(78, &["the guard", "not a regular file"]);
    fs::remove_dir(homes.guard()).unwrap();
    fs::rename(homes.dir.join("kept"), homes.guard()).unwrap();
    Sidecar::start(&homes.first, &[]).stop();
}

/// As orchestrators mount secrets: a link to a file in a directory that they exchange.
#[test]
fn a_key_may_be_a_link_where_a_setting_says_so() {
    let homes = Homes::new();
    let (key, secret) = (homes.first.join("proposer.key"), homes.dir.join("secret"));
    fs::rename(&key, &secret).unwrap();
    symlink(&secret, &key).unwrap();
    let linked = ["--set", "signer.key_may_be_link=on"];
    let guarded = [&linked[..], &["--set", "signer.guard=proposer.key.guard"]].concat();
    second(&homes.first, &[]).refused(78, &["symbolic link", "signer.key_may_be_link"]);
    // The guard would lie beside the link, in a directory that is exchanged.
    second(&homes.first, &linked).refused(78, &["`signer.guard` (default)", "a file that stays"]);
    for mode in [0o644, 0o640] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        second(&homes.first, &guarded).refused(78, &["proposer key", "can be read by others"]);
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let sidecar = Sidecar::start(&homes.first, &guarded);
    assert_eq!(sidecar.ctl(&["publish", "/dev/null"]).code, Some(0));
    sidecar.stop();
    // It says what it takes: a link to something else than a file is not a key.
    fs::remove_file(&secret).unwrap();
    fs::create_dir(&secret).unwrap();
    second(&homes.first, &guarded).refused(78, &["proposer key", "not a regular file"]);
}

#[test]
fn a_file_system_without_locks_is_refused() {
    if !tracer::available("locks that do not work") {
        return;
    }
    let homes = Homes::new();
    // The store's own lock, and from the third call on the guard's.
    for (inject, why) in [
        ("retval=0", "data/lock: a lock on it excludes nobody"),
        ("error=EOPNOTSUPP", "not supported"),
        ("error=ENOLCK", "data/lock"),
        ("retval=0:when=3+", "proposer.key.guard: a lock on it excludes nobody"),
        ("error=ENOLCK:when=3+", "proposer.key.guard"),
    ] {
        let mut command = std::process::Command::new("strace");
        let inject = format!("inject=flock:{inject}");
        command.args(["-f", "-o", "/dev/null", "-e", "trace=flock", "-e", &inject]).arg(blocksyncd().get_program());
        command.args(["run", "--log", "off", "--listen", "/ip4/127.0.0.1/tcp/0", "--home"]).arg(&homes.first);
        run(&mut command).refused(78, &["cannot lock", why, "file system"]);
    }
}
