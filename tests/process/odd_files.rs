//! A path may lead to anything: whatever stands where a file is read or written, the start neither hangs nor takes in more than
//! such a file has. It is refused with its name, or, where nothing depends on it, left aside.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::copy_dir::copy_dir;
use super::process::{Sidecar, Signal, TempDir, blocksyncd, init_sequencer, run};

type Make = fn(&Path);

/// Each way not to be a file of ours.
const ODDITIES: [(&str, Make); 5] = [
    ("pipe", |path| assert!(Command::new("mkfifo").arg(path).args(["-m", "600"]).status().unwrap().success())),
    ("socket", |path| drop(UnixListener::bind(path).unwrap())),
    ("directory", |path| fs::create_dir(path).unwrap()),
    ("device", |path| symlink("/dev/zero", path).unwrap()),
    ("endless", |path| {
        File::create(path).unwrap().set_len(1 << 40).unwrap();
        chmod(path, 0o600);
    }),
];

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// All that a sidecar says from its start to its end.
#[track_caller]
fn log_of_a_run(home: &Path) -> String {
    let mut sidecar = Sidecar::start(home, &[]);
    sidecar.signal(Signal::TERM);
    assert_eq!(sidecar.wait().code(), Some(0), "{}", sidecar.log());
    sidecar.log()
}

/// What becomes of the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// It ends, and names the file.
    Refused,
    /// It goes on, and says what it left aside.
    GoesOn,
    /// Nothing is read of it.
    Unnoticed,
}

/// Each file, and what becomes of a start where it is odd; then where it is only endless, if that is another matter.
const FILES: [(&str, Start, Start); 11] = [
    ("config.toml", Start::Refused, Start::Refused),
    ("genesis.toml", Start::Refused, Start::Refused),
    ("node.key", Start::Refused, Start::Refused),
    ("proposer.key", Start::Refused, Start::Refused),
    ("proposer.key.guard", Start::Refused, Start::GoesOn),
    ("proposer.key.guard.lock", Start::Refused, Start::Unnoticed),
    ("proposer.key.guard.disowned", Start::Refused, Start::GoesOn),
    ("api.sock.lock", Start::Refused, Start::Unnoticed),
    ("data/lock", Start::Refused, Start::Unnoticed),
    ("data/mark", Start::Refused, Start::GoesOn),
    ("data/peers.json", Start::GoesOn, Start::GoesOn),
];

#[test]
fn a_start_never_hangs_on_what_is_no_file() {
    let dir = TempDir::new();
    let sound = dir.join("sound");
    init_sequencer(&sound, "demo");
    Sidecar::start(&sound, &[]).stop();
    for (name, odd, endless) in FILES {
        for (kind, make) in ODDITIES {
            let home = dir.join(format!("{}-{kind}", name.replace('/', "-")));
            copy_dir(&sound, &home);
            let path = home.join(name);
            let _ = fs::remove_file(&path);
            make(&path);
            match if kind == "endless" { endless } else { odd } {
                Start::Refused => {
                    let args = ["--log", "off", "--listen", "/ip4/127.0.0.1/tcp/0", "--home"];
                    let ended = run(blocksyncd().arg("run").args(args).arg(&home));
                    assert!(ended.code.is_some_and(|code| (64..=78).contains(&code)), "{name}, {kind}: {ended:?}");
                    assert!(ended.stderr.contains(path.file_name().unwrap().to_str().unwrap()), "{name}: {ended:?}");
                }
                start => {
                    let log = log_of_a_run(&home);
                    let told = log.contains(&path.display().to_string());
                    assert_eq!(told, start == Start::GoesOn, "{name}, {kind}: {log}");
                }
            }
        }
    }
}

/// Whoever can open the store's lock can hold it.
#[test]
fn what_is_made_in_the_data_directory_is_ours_alone() {
    let dir = TempDir::new();
    let home = dir.join("h");
    init_sequencer(&home, "demo");
    for above in [dir.path(), &home] {
        chmod(above, 0o755);
    }
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let log = log_of_a_run(&home);
    assert_eq!((mode(&home.join("data")), mode(&home.join("data/lock"))), (0o700, 0o600));
    assert!(!log.contains("chmod"), "{log}");

    // What was there is left as it is.
    for (wider, words) in [(0o750, "can look into"), (0o777, "can change what is in")] {
        chmod(&home.join("data"), wider);
        let log = log_of_a_run(&home);
        assert!(log.contains(words) && log.contains("chmod 700"), "{log}");
        assert_eq!(mode(&home.join("data")), wider);
    }
    // Nobody comes as far.
    chmod(&home, 0o700);
    let log = log_of_a_run(&home);
    assert!(!log.contains("chmod"), "{log}");
}
