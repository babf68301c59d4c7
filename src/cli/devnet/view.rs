//! How a run is shown while it goes: redrawn in place on a terminal, plain lines elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use super::super::mock_execution::Percentiles;
use super::super::mock_execution::tell::Progress;

/// Between two plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(1);
/// Between two pictures on a terminal.
const LIVE_EVERY: Duration = Duration::from_millis(100);

/// One node, as shown.
#[derive(Debug)]
pub struct Row<'a> {
    pub name: &'a str,
    pub progress: &'a Progress,
}

/// The whole, as shown.
#[derive(Debug)]
pub struct Picture<'a> {
    pub blocks: u64,
    pub da_head: u64,
    pub rows: Vec<Row<'a>>,
    pub violations: usize,
}

/// The stream that it is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    Stdout,
    /// While standard output belongs to the JSON object.
    Stderr,
}

/// Where it is shown.
#[derive(Debug)]
pub struct LiveView {
    screen: Screen,
    is_live: bool,
    /// Lines of the last picture, which the next one overwrites.
    drawn: usize,
    last_line: String,
    last_at: Option<Instant>,
}

impl LiveView {
    pub fn new(screen: Screen) -> Self {
        let is_live = match screen {
            Screen::Stdout => std::io::stdout().is_terminal(),
            Screen::Stderr => std::io::stderr().is_terminal(),
        };
        Self { screen, is_live, drawn: 0, last_line: String::new(), last_at: None }
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        self.drawn = 0;
        self.write(&format!("{text}\n"));
    }

    pub fn show(&mut self, picture: &Picture<'_>) {
        if self.is_live {
            if self.last_at.is_some_and(|at| at.elapsed() < LIVE_EVERY) {
                return;
            }
            self.last_at = Some(Instant::now());
            self.draw(picture);
        } else if self.last_at.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) {
            let line = plain_line(picture);
            if line != self.last_line {
                self.write(&format!("{line}\n"));
                self.last_line = line;
                self.last_at = Some(Instant::now());
            }
        }
    }

    /// Over the picture before.
    fn draw(&mut self, picture: &Picture<'_>) {
        let lines = table(picture);
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        for line in &lines {
            let _ = writeln!(text, "\x1b[2K{line}");
        }
        self.drawn = lines.len();
        self.write(&text);
    }

    /// The last picture, which stays.
    pub fn finish(&mut self, picture: &Picture<'_>) {
        if self.is_live {
            self.draw(picture);
            self.drawn = 0;
        } else {
            let lines = table(picture).join("\n");
            self.write(&format!("{lines}\n"));
        }
    }

    fn write(&self, text: &str) {
        // A reader that went away does not stop the run: its exit code still counts.
        let _ = match self.screen {
            Screen::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(text.as_bytes()).and_then(|()| out.flush())
            }
            Screen::Stderr => std::io::stderr().lock().write_all(text.as_bytes()),
        };
    }
}

fn table(picture: &Picture<'_>) -> Vec<String> {
    let made = picture.rows.iter().map(|row| row.progress.soft).max().unwrap_or_default();
    let mut lines = vec![
        format!(
            "block {made} of {}   DA height {}   violations {}",
            picture.blocks, picture.da_head, picture.violations
        ),
        format!(
            "{:<12} {:>7} {:>7} {:>6} {:>10} {:>7} {:>6} {:>4}   {:>17} {:>17}",
            "node", "soft", "hard", "peers", "published", "gossip", "range", "da", "soft p50/p99 ms", "hard p50/p99 ms"
        ),
    ];
    for Row { name, progress } in &picture.rows {
        let received = &progress.received;
        let waiting = progress.waiting_for.as_deref().map(|why| format!("  ({why})")).unwrap_or_default();
        lines.push(format!(
            "{name:<12} {:>7} {:>7} {:>6} {:>10} {:>7} {:>6} {:>4}   {:>17} {:>17}{waiting}",
            progress.soft,
            progress.hard,
            progress.peers,
            received.published,
            received.gossip,
            received.range,
            received.da,
            percentiles(progress.soft_latency_ms),
            percentiles(progress.hard_latency_ms),
        ));
    }
    lines
}

fn plain_line(picture: &Picture<'_>) -> String {
    let each = |what: fn(&Progress) -> u64| {
        picture.rows.iter().map(|row| what(row.progress).to_string()).collect::<Vec<_>>().join(" ")
    };
    format!(
        "of {} blocks: soft {}, hard {}; peers {}; DA height {}; violations {}",
        picture.blocks,
        each(|progress| progress.soft),
        each(|progress| progress.hard),
        each(|progress| progress.peers.into()),
        picture.da_head,
        picture.violations
    )
}

fn percentiles(latency: Option<Percentiles>) -> String {
    latency.map_or_else(|| "-".into(), |latency| format!("{:.1}/{:.1}", latency.p50, latency.p99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_name_every_node() {
        let progress = Progress { soft: 7, hard: 5, ..Progress::default() };
        let rows = || ["sequencer", "full-1"].map(|name| Row { name, progress: &progress }).into();
        let picture = Picture { blocks: 9, da_head: 3, rows: rows(), violations: 0 };
        assert_eq!(table(&picture).len(), 4);
        assert_eq!(plain_line(&picture), "of 9 blocks: soft 7 7, hard 5 5; peers 0 0; DA height 3; violations 0");
        assert_eq!(percentiles(Some(Percentiles { p50: 1.25, p99: 30.0 })), "1.2/30.0");
    }
}
