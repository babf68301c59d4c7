//! The mock execution's memory on disk: a small text file that is appended to with each step, and read at start.
//!
//! ```text
//!   blocksyncd-mock-execution 1 <chain id> <initial height>
//!   soft <height> <hash> <state> <time>      executed
//!   hard <height>                            confirmed
//!   retract <height>                         everything above was undone
//!   intent <height> <time>                   about to publish this height with this time
//!   posted <height>                          everything up to here is on DA
//!   named <height> <hash> <DA height> <index>   the name reported for this place, where DA is reported by names
//! ```
//!
//! Invariants:
//! 1. A step is written before anything that follows from it: a line survives the death of the process (not of the machine:
//!    nothing is synced, this is a mock).
//! 2. A last line that was torn is dropped. Anything else that makes no sense is an error, never guessed at.
//! 3. The file is rewritten to what still matters at start and whenever it has grown enough, by a rename.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::da_places::{Named, Names};
use super::ledger::{Executed, Ledger};
use crate::atomic_file::{self, DEFAULT_MODE, Durability};
use crate::block::{BlockId, ChainId, Hash, Height};
use crate::foreign_file;
use crate::sync::DaPosition;

const MAGIC: &str = "blocksyncd-mock-execution 1";
/// Rewrite after so many appended lines.
const REWRITE_AFTER: usize = 20_000;
/// No journal gets near this size: a larger file is something else.
const MAX_BYTES: u64 = 256 << 20;

/// A block that is about to be published: made again after a crash with the same time, it is the same block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    pub height: Height,
    pub time_unix_nanos: u64,
}

/// Everything that a mock execution remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    pub ledger: Ledger,
    pub intent: Option<Intent>,
    /// Blocks up to this height are on DA; 0: none.
    pub posted: u64,
    pub names: Names,
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalStep {
    Soft(Executed),
    Hard(Height),
    Retract(u64),
    Intent(Intent),
    Posted(u64),
    Named(Named),
}

impl JournalStep {
    fn write(&self, out: &mut String) {
        let written = match self {
            Self::Soft(Executed { id, state, time_unix_nanos }) => {
                writeln!(out, "soft {} {} {state} {time_unix_nanos}", id.height, id.hash)
            }
            Self::Hard(height) => writeln!(out, "hard {height}"),
            Self::Retract(to) => writeln!(out, "retract {to}"),
            Self::Intent(Intent { height, time_unix_nanos }) => writeln!(out, "intent {height} {time_unix_nanos}"),
            Self::Posted(height) => writeln!(out, "posted {height}"),
            Self::Named(Named { id, position: DaPosition { height, index } }) => {
                writeln!(out, "named {} {} {height} {index}", id.height, id.hash)
            }
        };
        written.expect("a String grows");
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        let step = match kind {
            "soft" => {
                let height = Height::new(number()?)?;
                let hash = Hash::from_hex(words.next()?)?;
                let state = Hash::from_hex(words.next()?)?;
                let time_unix_nanos = words.next()?.parse().ok()?;
                Self::Soft(Executed { id: BlockId { height, hash }, state, time_unix_nanos })
            }
            "hard" => Self::Hard(Height::new(number()?)?),
            "retract" => Self::Retract(number()?),
            "intent" => Self::Intent(Intent { height: Height::new(number()?)?, time_unix_nanos: number()? }),
            "posted" => Self::Posted(number()?),
            "named" => {
                let height = Height::new(number()?)?;
                let hash = Hash::from_hex(words.next()?)?;
                let position = DaPosition { height: words.next()?.parse().ok()?, index: words.next()?.parse().ok()? };
                Self::Named(Named { id: BlockId { height, hash }, position })
            }
            _ => return None,
        };
        words.next().is_none().then_some(step)
    }
}

impl Memory {
    fn new(initial: Height) -> Self {
        Self { ledger: Ledger::new(initial), intent: None, posted: 0, names: Names::default() }
    }

    /// `None` when the step makes no sense here: the file is damaged.
    fn replay(&mut self, step: JournalStep) -> Option<()> {
        let hard = self.ledger.hard().map(|hard| hard.height);
        match step {
            JournalStep::Soft(executed) if self.ledger.fits(&executed) => self.ledger.push(executed),
            JournalStep::Hard(height) if self.ledger.get(height).is_some() && hard <= Some(height) => {
                self.ledger.confirm(height);
            }
            JournalStep::Retract(to) if hard.is_none_or(|hard| to >= hard.get()) => {
                self.ledger.retract(to);
                // What was posted of an undone branch does not count.
                self.posted = self.posted.min(to);
            }
            JournalStep::Intent(intent) => self.intent = Some(intent),
            JournalStep::Posted(height) => self.posted = height,
            JournalStep::Named(named) => self.names.take(named),
            _ => return None,
        }
        Some(())
    }

    fn steps(&self) -> impl Iterator<Item = JournalStep> {
        let soft = self.ledger.blocks().copied().map(JournalStep::Soft);
        let hard = self.ledger.hard().map(|hard| JournalStep::Hard(hard.height));
        let named = self.names.all().map(JournalStep::Named);
        let posted = [JournalStep::Posted(self.posted)];
        soft.chain(hard).chain(self.intent.map(JournalStep::Intent)).chain(posted).chain(named)
    }
}

/// The open file, and the memory that it amounts to.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    first_line: String,
    file: File,
    lines: usize,
    memory: Memory,
}

impl Journal {
    /// Opens, or creates, the journal of this chain.
    ///
    /// # Errors
    /// One sentence that names the file.
    pub fn open(path: &Path, chain_id: &ChainId, initial: Height) -> Result<Self, String> {
        let first_line = format!("{MAGIC} {chain_id} {initial}");
        let memory = match read(path)? {
            Some(text) => parse(&text, &first_line, initial).map_err(|why| format!("{}: {why}", path.display()))?,
            None => Memory::new(initial),
        };
        let (file, lines) =
            rewrite(path, &first_line, &memory).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path: path.to_owned(), first_line, file, lines, memory })
    }

    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    pub fn ledger(&self) -> &Ledger {
        &self.memory.ledger
    }

    /// Executes the next block, and remembers it.
    pub fn execute(&mut self, id: BlockId, time_unix_nanos: u64, payload: &[u8]) -> std::io::Result<()> {
        let executed = self.memory.ledger.execute(id, time_unix_nanos, payload);
        self.append(JournalStep::Soft(executed))
    }

    /// Remembers a step that is no execution.
    pub fn record(&mut self, step: JournalStep) -> std::io::Result<()> {
        self.memory.replay(step).ok_or_else(|| std::io::Error::other(format!("{step:?} makes no sense here")))?;
        self.append(step)
    }

    fn append(&mut self, step: JournalStep) -> std::io::Result<()> {
        if self.lines >= REWRITE_AFTER {
            (self.file, self.lines) = rewrite(&self.path, &self.first_line, &self.memory)?;
            // What was rewritten may itself be long; the next time is as far away again.
            self.lines = 0;
            return Ok(());
        }
        let mut line = String::new();
        step.write(&mut line);
        self.lines += 1;
        // One write per line: the kernel has all of it, or the line is torn and was never acted on.
        self.file.write_all(line.as_bytes())
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    let problem = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    match foreign_file::read(path, MAX_BYTES) {
        Err(why) if why.is_missing() => Ok(None),
        Err(why) => Err(problem(&why)),
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| problem(&error)),
    }
}

fn parse(text: &str, first_line: &str, initial: Height) -> Result<Memory, String> {
    // What comes after the last line break was torn.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    if lines.next() != Some(first_line) {
        return Err(format!("it does not begin with `{first_line}`: another chain's state, or no state at all"));
    }
    let mut memory = Memory::new(initial);
    for (number, line) in (2..).zip(lines) {
        JournalStep::read(line)
            .and_then(|step| memory.replay(step))
            .ok_or_else(|| format!("line {number} makes no sense"))?;
    }
    Ok(memory)
}

/// Writes the file anew, beside, and puts it in place; returns it open for appending, with the number of its lines.
fn rewrite(path: &Path, first_line: &str, memory: &Memory) -> std::io::Result<(File, usize)> {
    let mut text = format!("{first_line}\n");
    memory.steps().for_each(|step| step.write(&mut text));
    let aside = path.with_extension("new");
    atomic_file::replace(path, &aside, text.as_bytes(), DEFAULT_MODE, Durability::Process)?;
    let file = OpenOptions::new().append(true).open(path)?;
    Ok((file, text.lines().count()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn height(n: u64) -> Height {
        Height::new(n).unwrap()
    }

    fn id(n: u64) -> BlockId {
        BlockId { height: height(n), hash: Hash::of(&n.to_be_bytes()) }
    }

    /// A path of its own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("bsd-journal-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn open(&self) -> Result<Journal, String> {
            Journal::open(&self.0.join("state"), &ChainId::new("test").unwrap(), Height::MIN)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn fill(journal: &mut Journal) {
        for n in 1..=5 {
            journal.execute(id(n), n, b"payload").unwrap();
        }
        journal.record(JournalStep::Hard(height(1))).unwrap();
        journal.record(JournalStep::Posted(5)).unwrap();
        journal.record(JournalStep::Retract(4)).unwrap();
        journal.record(JournalStep::Intent(Intent { height: height(5), time_unix_nanos: 77 })).unwrap();
        let position = DaPosition { height: 9, index: 4 };
        journal.record(JournalStep::Named(Named { id: id(3), position })).unwrap();
    }

    #[test]
    fn what_was_recorded_is_there_after_a_restart() {
        let scratch = Scratch::new("restart");
        let mut journal = scratch.open().unwrap();
        fill(&mut journal);
        let before = journal.memory().clone();
        assert_eq!((before.posted, before.ledger.hard()), (4, Some(id(1))));
        drop(journal);
        for _ in 0..2 {
            assert_eq!(scratch.open().unwrap().memory(), &before);
        }
    }

    #[test]
    fn it_opens_wherever_the_last_line_was_torn() {
        let scratch = Scratch::new("torn");
        fill(&mut scratch.open().unwrap());
        let path = scratch.0.join("state");
        let whole = std::fs::read_to_string(&path).unwrap();
        let first_line = whole.find('\n').unwrap() + 1;
        for end in first_line..=whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            scratch.open().unwrap_or_else(|why| panic!("cut at {end}: {why}"));
        }
    }

    #[test]
    fn damage_and_other_chains_are_refused() {
        let scratch = Scratch::new("damage");
        fill(&mut scratch.open().unwrap());
        let path = scratch.0.join("state");
        let whole = std::fs::read_to_string(&path).unwrap();
        for (from, to) in [
            ("soft 2 ", "soft 3 "),
            ("hard 1", "hard 9"),
            ("retract 4", "retract 0"),
            ("intent 5 77", "intent 5 77 1"),
            (" test 1", " other 1"),
            ("posted", "postponed"),
            (" 9 4", " 9"),
        ] {
            assert!(whole.contains(from), "{from}");
            std::fs::write(&path, whole.replace(from, to)).unwrap();
            assert!(scratch.open().is_err(), "{from} -> {to}");
        }
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let scratch = Scratch::new("growth");
        let mut journal = scratch.open().unwrap();
        journal.execute(id(1), 1, b"").unwrap();
        for n in 0..2 * REWRITE_AFTER as u64 {
            journal.record(JournalStep::Posted(n)).unwrap();
        }
        assert!(std::fs::read_to_string(scratch.0.join("state")).unwrap().lines().count() < REWRITE_AFTER + 10);
        assert_eq!(scratch.open().unwrap().memory(), journal.memory());
    }
}
