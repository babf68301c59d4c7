//! Logs: structured lines on stderr, as text for people and as JSON for machines.
//!
//! Invariants:
//! 1. Nothing waits for a reader of the log: lines go through a bounded queue to a thread of their own, and when a supervisor
//!    does not read its pipe, lines are dropped, counted, and the count is said as soon as there is room.
//! 2. The filter can be changed while running; what it is set to is checked first.
//! 3. Standard output is never written to.
//!
//! This is not a metrics system: what is counted is asked for over the host's API.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

/// Lines that wait to be written; a line is rarely longer than a few hundred bytes.
const MAX_WAITING_LINES: usize = 4096;

/// How long the end of the program waits for the last lines to be read.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text when stderr is a terminal, JSON otherwise.
    #[default]
    Auto,
    Text,
    Json,
}

/// Changes what is logged.
#[derive(Clone, Debug)]
pub struct FilterHandle(reload::Handle<EnvFilter, Registry>);

impl FilterHandle {
    /// # Errors
    /// Says what is wrong with the filter; the present one stays.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        self.0.reload(parse(filter)?).map_err(|error| error.to_string())
    }
}

/// Keeps the log alive. Dropping it writes what still waits.
#[derive(Debug)]
pub struct Logs {
    lines: Option<SyncSender<LogLine>>,
    writer: Option<JoinHandle<()>>,
}

type LogLine = Vec<u8>;

/// Whether `filter` is one.
///
/// # Errors
/// Says what is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), String> {
    parse(filter).map(|_| ())
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| format!("`{}` is not a log filter: {error}", filter.escape_debug()))
}

/// Installs the log of this process; to be called once.
///
/// # Errors
/// Says what is wrong with the filter, or that there is a log already.
pub fn install(filter: &str, format: LogFormat) -> Result<(FilterHandle, Logs), String> {
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let (lines, waiting) = sync_channel(MAX_WAITING_LINES);
    let dropped = Arc::new(AtomicU64::new(0));
    let writer = LineQueue { lines: lines.clone(), dropped: Arc::clone(&dropped) };
    let thread = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_lines(&waiting, &dropped))
        .map_err(|error| error.to_string())?;

    let (filter, handle) = reload::Layer::new(parse(filter)?);
    let layer = if json {
        fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
    } else {
        fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(writer).boxed()
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(|error| error.to_string())?;
    Ok((FilterHandle(handle), Logs { lines: Some(lines), writer: Some(thread) }))
}

/// Where the formatter writes to: one queue entry per line.
#[derive(Clone, Debug)]
struct LineQueue {
    lines: SyncSender<LogLine>,
    dropped: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &LineQueue {
    /// The formatter hands over whole lines, each in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line.to_vec()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The writing thread. Ends at the empty line that [`Logs`] sends last.
fn write_lines(waiting: &Receiver<LogLine>, dropped: &AtomicU64) {
    let mut stderr = io::stderr();
    while let Ok(line) = waiting.recv() {
        if line.is_empty() {
            return;
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        // A closed stderr is nothing that could be told to anyone.
        let _ = stderr.write_all(&line);
        if lost > 0 {
            let _ = writeln!(stderr, "{lost} log lines were dropped here: nobody read them");
        }
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let (Some(lines), Some(writer)) = (self.lines.take(), self.writer.take()) else { return };
        let deadline = Instant::now() + FLUSH_DEADLINE;
        // The queue may be full; the empty line says that nothing more will come.
        while let Err(TrySendError::Full(_)) = lines.try_send(LogLine::new()) {
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        while !writer.is_finished() {
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked() {
        assert_eq!(check_filter("info"), Ok(()));
        assert_eq!(check_filter("warn,blocksyncd::p2p=debug"), Ok(()));
        assert!(check_filter("blocksyncd=loud").is_err());
    }

    #[test]
    fn a_log_that_nobody_reads_blocks_nobody() {
        let (lines, waiting) = sync_channel(2);
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = LineQueue { lines, dropped: Arc::clone(&dropped) };
        for _ in 0..5 {
            (&queue).write_all(b"a line\n").unwrap();
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        assert_eq!(waiting.try_iter().count(), 2);
    }
}
