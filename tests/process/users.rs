//! Users: whom the socket is for, whose files are taken, and who may write where. Only root can become somebody else to try.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::{Ended, Sidecar, TempDir, blocksyncd, call, init_sequencer, run};

/// A user to whom nothing belongs, and the group of the same number.
const NOBODY: u32 = 65534;

/// The program, to be run as nobody; `None` where we cannot become nobody, or nobody cannot start it.
fn as_nobody() -> Option<Command> {
    let nobodys = || {
        let mut command = blocksyncd();
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command
    };
    let starts = nobodys().arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if starts.is_ok_and(|status| status.success()) {
        return Some(nobodys());
    }
    eprintln!("SKIPPED: only root can become another user, who must be able to start the program");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "required in CI");
    None
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// The home of a sequencer in a directory that everybody may search.
fn open_home() -> (TempDir, PathBuf) {
    let dir = TempDir::new();
    let home = dir.join("h");
    init_sequencer(&home, "demo");
    chmod(dir.path(), 0o755);
    (dir, home)
}

/// Makes the home, and all that is in it, nobody's.
fn give_to_nobody(home: &Path) {
    for path in fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).chain([home.to_owned()]) {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Asks `socket` for its sidecar's health, as nobody.
fn health_for_nobody(socket: &Path) -> Ended {
    run(as_nobody().expect("it worked before").args(["ctl", "health", "--socket"]).arg(socket))
}

#[test]
fn nobody_else_gets_in_unless_the_settings_name_them() {
    if as_nobody().is_none() {
        return;
    }
    let (_dir, home) = open_home();
    let sidecar = Sidecar::start(&home, &[]);
    let socket = sidecar.socket();
    let refused = |words: &[&str]| health_for_nobody(&socket).refused(69, words);
    // The directory, the socket and the look at who it is: each is enough.
    refused(&["cannot connect to", "Permission denied"]);
    chmod(&home, 0o711);
    refused(&["cannot connect to", "Permission denied"]);
    chmod(&socket, 0o666);
    refused(&["disconnected"]);
    sidecar.wait_for_log("user 65534 is not allowed");
    // Its own user minds nothing of it.
    assert_eq!(sidecar.ctl(&["health"]).code, Some(0));
    sidecar.stop();

    let sidecar = Sidecar::start(&home, &["--set", "api.allow_uids=12345,65534"]);
    assert_eq!(health_for_nobody(&socket).code, Some(0), "{}", sidecar.log());
    sidecar.stop();
}

#[test]
fn a_credential_that_root_hands_over_signs() {
    let Some(mut command) = as_nobody() else { return };
    let (dir, home) = open_home();
    let key = dir.join("credentials/proposer.key");
    fs::create_dir(dir.join("credentials")).unwrap();
    fs::rename(home.join("proposer.key"), &key).unwrap();
    // As systemd leaves it: it is root's, and the service may read it.
    chown(&key, Some(0), Some(NOBODY)).unwrap();
    chmod(&key, 0o440);
    give_to_nobody(&home);
    let signer = format!("signer.key={}", key.display());
    command.args(["run", "--listen", "/ip4/127.0.0.1/tcp/0", "--set", &signer]);
    command.args(["--set", "signer.guard=proposer.key.guard", "--home"]).arg(&home);

    run(&mut command).refused(78, &["belongs to user 0", "runs as 65534"]);
    let mut sidecar = Sidecar::spawn_command(command.env("CREDENTIALS_DIRECTORY", dir.join("credentials")), &home);
    sidecar.wait_ready();
    // The sidecar is another user's, for us: whoever names its home knows that.
    sidecar.ctl(&["health"]).refused(77, &["belongs to user 65534", "--trust-uid 65534"]);
    assert_eq!(sidecar.ctl(&["--trust-uid", "65534", "health"]).code, Some(0));
    let published = call(["ctl", "publish", "/dev/null", "--home", home.to_str().unwrap()]);
    assert_eq!(published.code, Some(0), "{published:?}");
    sidecar.stop();
}

#[test]
fn a_place_that_we_may_not_write_into_is_a_matter_of_permission() {
    if !rustix::process::geteuid().is_root() {
        let (_dir, home) = open_home();
        chmod(&home, 0o500);
        call(["run", "--log", "off", "--home", home.to_str().unwrap()]).refused(77, &["cannot write into"]);
        chmod(&home, 0o700);
        return;
    }
    // Root may write everywhere, so somebody else has to try.
    let Some(mut command) = as_nobody() else { return };
    let (dir, home) = open_home();
    give_to_nobody(&home);
    for path in [dir.path(), &home] {
        chmod(path, 0o555);
    }
    run(command.args(["run", "--home"]).arg(&home)).refused(77, &["user 65534 cannot write into"]);
}
