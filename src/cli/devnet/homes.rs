//! Where a devnet lives: one directory with a home per node, its logs, and the state of its hosts.
//!
//! ```text
//!   <dir>/sequencer/   home of the sequencer: config.toml, genesis.toml, keys, data/, api.sock
//!   <dir>/full-1/      home of a full node, with the same genesis.toml
//!   <dir>/host-*.state what each mock execution remembers
//!   <dir>/logs/        standard error of each process
//! ```

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::super::mock_execution::HostRole;
use super::super::{Code, Failure};
use crate::api::MAX_SOCKET_PATH_BYTES;
use crate::config::settings::ENV_PREFIX;

/// The chain of every devnet.
const CHAIN_ID: &str = "devnet";

/// The directory of a devnet; a temporary one is removed unless it is kept.
#[derive(Debug)]
pub struct DevnetDir {
    path: PathBuf,
    is_temporary: bool,
}

impl DevnetDir {
    /// Uses `dir`, or makes a temporary directory.
    pub fn make(dir: Option<&Path>) -> Result<Self, Failure> {
        let cannot = |path: &Path, error: std::io::Error| {
            Failure::new(Code::CannotCreate, format!("cannot make {}: {error}", path.display()))
        };
        let made = if let Some(dir) = dir {
            let path = std::path::absolute(dir).map_err(|error| cannot(dir, error))?;
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| cannot(&path, error))?;
            Self { path, is_temporary: false }
        } else {
            let path = temporary_path();
            DirBuilder::new().mode(0o700).create(&path).map_err(|error| cannot(&path, error))?;
            Self { path, is_temporary: true }
        };
        let longest = made.home("sequencer").join("api.sock");
        let len = longest.as_os_str().as_bytes().len();
        if len > MAX_SOCKET_PATH_BYTES {
            let message = format!(
                "{} has {len} bytes, and a socket's path may have {MAX_SOCKET_PATH_BYTES}: choose a shorter --dir",
                longest.display()
            );
            return Err(Failure::new(Code::Usage, message));
        }
        let logs = made.path.join("logs");
        DirBuilder::new().recursive(true).mode(0o700).create(&logs).map_err(|error| cannot(&logs, error))?;
        Ok(made)
    }

    pub fn home(&self, node: &str) -> PathBuf {
        self.path.join(node)
    }

    pub fn host_state(&self, node: &str) -> PathBuf {
        self.path.join(format!("host-{node}.state"))
    }

    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub fn log(&self, process: &str) -> PathBuf {
        self.logs().join(format!("{process}.log"))
    }

    /// Leaves everything where it is.
    pub fn keep(&mut self) {
        self.is_temporary = false;
    }

    /// Makes the home of a node, with `init` itself.
    pub async fn init(&self, node: &str, role: HostRole) -> Result<(), Failure> {
        let mut args: Vec<OsString> = vec!["init".into(), self.home(node).into(), "--json".into()];
        match role {
            HostRole::Sequencer => args.extend(["--chain-id".into(), CHAIN_ID.into(), "--sequencer".into()]),
            HostRole::Full => args.extend(["--genesis".into(), self.home("sequencer").join("genesis.toml").into()]),
        }
        let failed = |why: String| Failure::new(Code::CannotCreate, format!("cannot make the home of {node}: {why}"));
        let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(program);
        command.args(args).kill_on_drop(true);
        without_our_settings(&mut command);
        let output = command.output().await.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&output.stderr);
        let why = why.trim();
        Err(failed(why.strip_prefix("blocksyncd: ").unwrap_or(why).to_owned()))
    }
}

impl Drop for DevnetDir {
    fn drop(&mut self) {
        if self.is_temporary {
            // What cannot be removed is in the way of nobody.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// A name of our own in the temporary directory, or in /tmp where that one's path is too long for sockets.
fn temporary_path() -> PathBuf {
    let name = format!("bsd-{}-{:04x}", std::process::id(), fastrand::u16(..));
    let usual = std::env::temp_dir().join(&name);
    if usual.as_os_str().as_bytes().len() > 60 { Path::new("/tmp").join(name) } else { usual }
}

/// Settings of the user's own sidecar, in the environment, are not the devnet's.
pub fn without_our_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes()) {
            command.env_remove(name);
        }
    }
}
