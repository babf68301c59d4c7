//! What a supervisor, be it systemd or the rollup node itself, is told, and how it tells us to end.
//!
//! Invariants:
//! 1. Standard output carries the ready line, one JSON object, and nothing else ever: from the start of the process on,
//!    whatever any library prints goes to stderr.
//! 2. The first request to end drains, the second one ends the process at once, whatever state it is in: signals are
//!    handled on a thread of their own, that waits for nobody.
//! 3. The watchdog is fed only after the whole way that a host's question takes was gone: socket, API, node, network.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sd_notify::NotifyState;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::{Code, Failure, local};
use crate::api::client::Client;

/// What the ready line says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadySignal {
    pub pid: u32,
    pub version: &'static str,
    pub socket: PathBuf,
    pub peer_id: String,
    /// The actual addresses, each with `/p2p/<peer id>`.
    pub listen: Vec<String>,
}

impl ReadySignal {
    pub fn new(socket: &Path, node: crate::node::Ready) -> Self {
        Self {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION"),
            socket: socket.to_owned(),
            peer_id: node.peer_id,
            listen: node.listen,
        }
    }
}

/// Where the ready line will go.
#[derive(Debug)]
pub struct ReadyLine {
    stdout: OwnedFd,
    extra: Option<File>,
}

impl ReadyLine {
    /// Takes standard output away from everybody else. `fd` is one more place to write to: the number of an inherited
    /// pipe's or file's descriptor.
    pub fn prepare(fd: Option<u32>) -> Result<Self, Failure> {
        let extra = fd.map(open_inherited).transpose()?;
        let redirect = || {
            let stdout = io::stdout().as_fd().try_clone_to_owned()?;
            rustix::stdio::dup2_stdout(io::stderr().as_fd())?;
            Ok(stdout)
        };
        let stdout = redirect()
            .map_err(|error: io::Error| Failure::new(Code::Io, format!("cannot set standard output aside: {error}")))?;
        Ok(Self { stdout, extra })
    }

    /// Writes the line, and closes standard output for good. That nobody reads it is no reason to end.
    pub fn announce(self, ready: &ReadySignal) {
        let mut line = serde_json::to_string(ready).expect("text and numbers can be written as JSON");
        line.push('\n');
        for mut to in [Some(File::from(self.stdout)), self.extra].into_iter().flatten() {
            if let Err(error) = to.write_all(line.as_bytes()) {
                tracing::warn!(%error, "nobody reads the ready line");
            }
        }
    }
}

/// A descriptor can be adopted only by the unsafe word of a caller, so it is opened once more by its name.
fn open_inherited(fd: u32) -> Result<File, Failure> {
    if fd < 3 {
        return Err(Failure::new(Code::Usage, format!("--ready-fd {fd}: take 3 or more; 0, 1 and 2 are taken")));
    }
    OpenOptions::new().write(true).open(format!("/dev/fd/{fd}")).map_err(|error| {
        Failure::new(Code::Usage, format!("--ready-fd {fd}: the descriptor must be an inherited pipe or file: {error}"))
    })
}

/// Why the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Terminated,
    Interrupted,
    /// Standard input ended, so our parent did too.
    StdinEnded,
}

impl Cause {
    /// The exit code of an end that did not wait for anything.
    const fn abrupt_code(self) -> Code {
        match self {
            Self::Interrupted => Code::Interrupted,
            Self::Terminated | Self::StdinEnded => Code::Terminated,
        }
    }
}

/// How the process is told to end.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    pub on_stdin_eof: bool,
    /// How long a drain may take before the process ends all the same.
    pub deadline: Duration,
}

/// Listens for signals, from the moment it returns. The watch becomes `Some` when the process shall drain; `on_hangup` is
/// run at every SIGHUP.
pub fn listen(
    ending: Ending,
    on_hangup: impl Fn() + Send + 'static,
) -> Result<watch::Receiver<Option<Cause>>, Failure> {
    let failed = |error: io::Error| Failure::new(Code::Internal, format!("cannot listen for signals: {error}"));
    let (stop, stopped) = watch::channel(None);
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let outcome = runtime.and_then(|runtime| {
                // Handlers can only be set within a runtime.
                let handlers = runtime.block_on(async { Handlers::new(&ending) })?;
                Ok((runtime, handlers))
            });
            match outcome {
                Ok((runtime, handlers)) => {
                    let _ = ready.send(Ok(()));
                    runtime.block_on(handle_signals(handlers, ending.deadline, &stop, on_hangup));
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        })
        .map_err(failed)?;
    is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended"))).map_err(failed)?;
    Ok(stopped)
}

struct Handlers {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    stdin_ended: oneshot::Receiver<()>,
    /// Keeps `stdin_ended` pending when nobody listens to standard input.
    _stdin_open: Option<oneshot::Sender<()>>,
}

impl Handlers {
    fn new(ending: &Ending) -> io::Result<Self> {
        let (ended, stdin_ended) = oneshot::channel();
        let stdin_open = if ending.on_stdin_eof {
            std::thread::Builder::new().name("stdin".into()).spawn(move || {
                wait_for_eof();
                let _ = ended.send(());
            })?;
            None
        } else {
            Some(ended)
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            stdin_ended,
            _stdin_open: stdin_open,
        })
    }
}

/// Ends the process as its supervisor would: draining first.
pub fn terminate_self() {
    if let Err(error) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM) {
        tracing::error!(%error, "cannot signal ourselves");
    }
}

/// Returns never: the process ends around it, or by it.
async fn handle_signals(
    mut on: Handlers,
    deadline: Duration,
    stop: &watch::Sender<Option<Cause>>,
    on_hangup: impl Fn(),
) {
    let mut first: Option<(Cause, tokio::time::Instant)> = None;
    let mut stdin_open = true;
    loop {
        let too_late = async {
            match first {
                Some((cause, at)) => {
                    tokio::time::sleep_until(at).await;
                    cause
                }
                None => std::future::pending().await,
            }
        };
        let cause = tokio::select! {
            _ = on.terminate.recv() => Cause::Terminated,
            _ = on.interrupt.recv() => Cause::Interrupted,
            _ = &mut on.stdin_ended, if stdin_open => {
                stdin_open = false;
                Cause::StdinEnded
            },
            _ = on.hangup.recv() => {
                on_hangup();
                continue;
            },
            cause = too_late => {
                eprintln!("blocksyncd: the drain took longer than shutdown_grace: ending at once");
                std::process::exit(cause.abrupt_code() as i32);
            },
        };
        if first.is_some() {
            if cause == Cause::StdinEnded {
                continue;
            }
            eprintln!("blocksyncd: told to end a second time: ending at once");
            std::process::exit(cause.abrupt_code() as i32);
        }
        first = Some((cause, tokio::time::Instant::now() + deadline));
        notify(&[NotifyState::Stopping]);
        tracing::info!(?cause, "draining");
        stop.send_replace(Some(cause));
    }
}

fn wait_for_eof() {
    let mut stdin = io::stdin().lock();
    let mut buffer = [0; 256];
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Tells systemd, if it started us.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

/// Keeps systemd informed, when it started us: `STATUS=`, and `WATCHDOG=1` when it asked for that. A thread of its own
/// attaches to our own socket, as a host would, so that a part which hangs is noticed.
pub fn report_to_systemd(socket: PathBuf) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let longest = Duration::from_secs(5);
    let (period, reports) = match sd_notify::watchdog_enabled() {
        Some(within) => ((within / 3).min(longest), Reports::StatusAndWatchdog),
        None => (longest, Reports::Status),
    };
    let spawned = std::thread::Builder::new().name("watchdog".into()).spawn(move || {
        // It has no end of its own.
        let outcome: Result<std::convert::Infallible, Failure> = local(async move {
            loop {
                if let Err(error) = look_after(&socket, period, reports).await {
                    tracing::warn!(error, "our own socket does not answer");
                }
                tokio::time::sleep(period).await;
            }
        });
        match outcome {
            Err(failure) => tracing::error!(%failure, "there is no watchdog"),
        }
    });
    if let Err(error) = spawned {
        tracing::error!(%error, "there is no watchdog");
    }
}

/// What systemd is told after each answer of our own socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reports {
    Status,
    /// It asked for the watchdog, too: it ends the process when it is not told in time.
    StatusAndWatchdog,
}

/// Asks over one connection until a question fails.
async fn look_after(socket: &Path, period: Duration, reports: Reports) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let client = Client::connect(socket).await.map_err(|error| text(&error))?;
    let admin = client.admin().await.map_err(|error| text(&error))?;
    loop {
        // Peers are asked of the network, by way of the node.
        let peers = tokio::time::timeout(period, admin.peers()).await;
        let peers = peers.map_err(|late| text(&late))?.map_err(|error| text(&error))?;
        let info = client.info().await.map_err(|error| text(&error))?;
        let height = |id: Option<crate::block::BlockId>| id.map_or(0, |id| id.height.get());
        let status = format!(
            "{}: soft {}, hard {}, {} peers",
            super::phase_name(info.phase),
            height(info.heads.soft),
            height(info.heads.hard),
            peers.connected()
        );
        notify(&[NotifyState::Status(&status)]);
        if reports == Reports::StatusAndWatchdog {
            notify(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(period).await;
    }
}

/// From now on a panic anywhere, in any thread or task, is logged and ends the process: what is left after it is not known to
/// be whole, and a restart recovers from disk.
pub fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "unknown".into(), ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("no message");
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::force_capture();
        eprintln!(
            "blocksyncd: a bug: thread `{}` panicked at {place}: {what}\n{backtrace}",
            thread.name().unwrap_or("unnamed")
        );
        std::process::exit(Code::Internal as i32);
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says to the copy of this test that runs as a process of its own that it is the one.
    const CHILD: &str = "BLOCKSYNCD_TEST_PANICS";

    #[test]
    fn a_panic_in_any_thread_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            end_on_panic();
            let thread = std::thread::Builder::new().name("unlucky".into()).spawn(|| panic!("on purpose"));
            let _ = thread.expect("a thread").join();
            // Not reached: the thread has ended the process.
            std::process::exit(0);
        }
        let name = "cli::supervisor::tests::a_panic_in_any_thread_ends_the_process";
        let child = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .output()
            .expect("this test can be started");
        let said = String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.code(), Some(Code::Internal as i32), "{said}");
        assert!(
            said.contains("thread `unlucky` panicked at src/cli/supervisor.rs") && said.contains("on purpose"),
            "{said}"
        );
    }

    #[test]
    fn the_ready_line_has_the_names_that_supervisors_read() {
        let ready = ReadySignal {
            pid: 7,
            version: "1.2.3",
            socket: "/s".into(),
            peer_id: "12D3".into(),
            listen: vec!["/ip4/127.0.0.1/tcp/1/p2p/12D3".into()],
        };
        assert_eq!(
            serde_json::to_string(&ready).expect("plain data"),
            r#"{"pid":7,"version":"1.2.3","socket":"/s","peer_id":"12D3","listen":["/ip4/127.0.0.1/tcp/1/p2p/12D3"]}"#
        );
    }
}
