//! Damaged files: each byte of each kind of file may flip, each file may be cut short or vanish. Either everything is there, or
//! what is lost is said; never is the chain silently shorter, never is another block passed on, and it always goes on.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use blocksyncd::block::{BlockId, Height};
use blocksyncd::store::{Durability, Store, StoreError};
use blocksyncd::sync::{Change, GuardState, Recovered};

use super::child::{Known, Workload, options};
use super::copy_dir::copy_dir;
use super::tempdir::TempDir;
use super::{blocks, random, scale};

const PAYLOAD: usize = 20_000;

/// A sound store, with data in tables and in the journal.
struct Original {
    dir: TempDir,
    known: Known,
    /// With what was pruned: an older state may have it still.
    ever: BTreeMap<u64, String>,
    hard: Option<BlockId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Flip,
    ZeroPage,
    Shorten,
    Delete,
}

/// What one case came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Whole,
    Said,
}

#[test]
fn damage_is_said_and_never_passed_on() {
    let original = original();
    let mut random = random(6);
    let files = files(original.dir.path());
    assert!(files.iter().any(|file| file.extension().is_some_and(|extension| extension == "jnl")));
    assert!(
        files.iter().filter(|file| file.to_string_lossy().contains("/1/tables/")).count() > 0,
        "no tables: {files:?}"
    );
    let mut outcomes: BTreeMap<(String, Verdict), u64> = BTreeMap::new();
    let mut wrong = Vec::new();
    for number in 0..150 * scale() {
        // Each file in turn, so that small ones get their share.
        let file = &files[usize::try_from(number).expect("small") % files.len()];
        let harm = match random.u8(0..10) {
            0..=5 => Harm::Flip,
            6 => Harm::ZeroPage,
            7 => Harm::Shorten,
            _ => Harm::Delete,
        };
        let dir = TempDir::in_memory();
        copy_dir(original.dir.path(), dir.path());
        let what = damage(&dir.path().join(file), harm, &mut random);
        if std::env::var_os("STORE_CRASH_TALK").is_some() {
            println!("{number}: {} {what}", file.display());
        }
        let checked = catch_unwind(AssertUnwindSafe(|| check(&original, dir.path(), file)));
        match checked {
            Ok(Ok(verdict)) => *outcomes.entry((kind(file), verdict)).or_default() += 1,
            Ok(Err(why)) => wrong.push(format!("{} {what}: {why}", file.display())),
            Err(_) => wrong.push(format!("{} {what}: it panics", file.display())),
        }
    }
    println!("damage: {outcomes:#?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(outcomes.iter().any(|((kind, verdict), _)| kind == "journal" && *verdict == Verdict::Said));
    assert!(outcomes.iter().any(|((kind, verdict), _)| kind == "tables" && *verdict == Verdict::Said));
}

#[test]
fn a_store_that_vanishes_is_missed() {
    let original = original();
    for gone in ["data/store", "data/store/keyspaces", "data/store/version"] {
        let dir = TempDir::in_memory();
        copy_dir(original.dir.path(), dir.path());
        let path = dir.path().join(gone);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.expect("it can be removed");
        assert_eq!(check(&original, dir.path(), Path::new(gone)), Ok(Verdict::Said), "{gone}");
    }
}

/// What was lost stays lost over restarts, with its anchor, until it is back.
#[test]
fn a_loss_is_said_until_the_blocks_are_back() {
    let original = original();
    let dir = TempDir::in_memory();
    copy_dir(original.dir.path(), dir.path());
    fs::remove_dir_all(dir.path().join("data/store")).expect("it can be removed");
    let (tail, soft) = original.known.span().expect("it has blocks");
    let anchor = original.hard;
    for round in 0..3 {
        let (mut store, reader, recovered) =
            Store::open(&options(dir.path(), Durability::Power), &blocks::rules()).expect("it opens");
        let lost = recovered.heads.lost.expect("it is said");
        assert_eq!((lost.from.get(), lost.to.get()), (tail, soft), "round {round}");
        assert_eq!(recovered.anchor.map(|anchor| anchor.id), anchor, "round {round}");
        // A commit in between changes nothing about it.
        let mut workload = Workload::new(&reader, &recovered, 1, 100);
        let mut batch = workload.next_batch();
        batch.changes.clear();
        batch.heads = recovered.heads;
        store.commit(&batch).expect("it is written");
    }
}

fn original() -> Original {
    let dir = TempDir::in_memory();
    let mut known = Known::default();
    let mut ever = BTreeMap::new();
    let mut hard = None;
    // The second run's journal is not filled up with zeros.
    for (seed, commits) in [(1, 110), (2, 20)] {
        let (mut store, reader, recovered) =
            Store::open(&options(dir.path(), Durability::Process), &blocks::rules()).expect("it opens");
        let mut workload = Workload::new(&reader, &recovered, seed, PAYLOAD);
        for _ in 0..commits {
            let batch = workload.next_batch();
            for change in &batch.changes {
                match change {
                    Change::Append { block, .. } | Change::Prepend { block, .. } => {
                        ever.insert(block.id().height.get(), block.id().hash.to_string());
                    }
                    Change::Truncate { from, .. } => drop(ever.split_off(&from.get())),
                    _ => {}
                }
            }
            store.commit(&batch).expect("it is written");
        }
        hard = workload.heads.hard;
        known = Known::of(&workload.heads, workload.guard, &workload.disowned);
        let snapshot = reader.snapshot();
        let heads = workload.heads;
        for height in heads.tail.get()..=heads.soft_height().map_or(0, Height::get) {
            let height = Height::new(height).expect("not 0");
            let hash = snapshot.hash(height).expect("it reads").expect("it is stored");
            known.chain.insert(height.get(), hash.to_string());
        }
    }
    assert!(known.span().is_some_and(|(tail, _)| tail > 1) && known.chain.len() < ever.len(), "it was pruned");
    Original { dir, known, ever, hard }
}

/// Opens the damaged copy as restarted processes would, and reads all of it.
fn check(original: &Original, dir: &Path, file: &Path) -> Result<Verdict, String> {
    let mut said = false;
    for _ in 0..3 {
        let opened = Store::open(&options(dir, Durability::Power), &blocks::rules());
        let (mut store, reader, recovered) = opened.map_err(|error| format!("it does not open: {error}"))?;
        let found = match Known::read(&reader, &recovered) {
            Ok(found) => found,
            // Met only now, and said: the process would end, and start again.
            Err(StoreError::Damaged { .. }) => {
                said = true;
                continue;
            }
            Err(other) => return Err(other.to_string()),
        };
        let verdict = judge(original, &recovered, &found, file)?;
        let mut workload = Workload::new(&reader, &recovered, 9, 100);
        // What has been hard is not reached by other blocks.
        if recovered.anchor.is_none() {
            let mut batch = workload.next_batch();
            batch.guard = None;
            store.commit(&batch).map_err(|error| format!("it does not go on: {error}"))?;
        }
        return Ok(if said { Verdict::Said } else { verdict });
    }
    Err("restarting does not repair it".into())
}

fn judge(original: &Original, recovered: &Recovered, found: &Known, file: &Path) -> Result<Verdict, String> {
    let expected = &original.known;
    let tail = recovered.heads.tail.get();
    let soft = |known: &Known| known.chain.last_key_value().map_or(tail - 1, |(height, _)| *height);
    if found.chain.iter().any(|(height, hash)| original.ever.get(height) != Some(hash)) {
        return Err("it has other blocks".into());
    }
    let missing = soft(found) < soft(expected);
    match recovered.heads.lost {
        None if missing => return Err(format!("{} of {} blocks, silently", soft(found), soft(expected))),
        Some(lost) if (lost.from.get(), lost.to.get()) != (soft(found) + 1, soft(expected)) => {
            return Err(format!("it says {lost:?}, and has {} of {} blocks", soft(found), soft(expected)));
        }
        _ => {}
    }
    let behind = found.hard < expected.hard;
    if behind && recovered.anchor.map(|anchor| anchor.id) != original.hard {
        return Err(format!("hard is {}, was {}, the anchor is {:?}", found.hard, expected.hard, recovered.anchor));
    }
    if found.epoch < expected.epoch {
        return Err(format!("the epoch is {}, was {}", found.epoch, expected.epoch));
    }
    if found.scanned > expected.scanned {
        return Err("DA was scanned further".into());
    }
    match recovered.guard {
        GuardState::Missing if file == Path::new("guard") => {}
        _ if found.guard == expected.guard => {}
        other => return Err(format!("the guard says {other:?}, was {:?}", expected.guard)),
    }
    Ok(if missing || behind || recovered.guard == GuardState::Missing { Verdict::Said } else { Verdict::Whole })
}

/// All files but the locks, relative to `root`, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("it reads") {
            let path = entry.expect("it reads").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.file_name().is_some_and(|name| name != "lock") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(root, &mut found);
    found.sort();
    found.iter().map(|path| path.strip_prefix(root).expect("it lies below").to_owned()).collect()
}

fn kind(file: &Path) -> String {
    let text = file.to_string_lossy();
    let kinds = [(".jnl", "journal"), ("/tables/", "tables"), ("keyspaces", "manifests"), ("version", "version")];
    let known = kinds.iter().find(|(part, _)| text.contains(part)).map(|(_, kind)| (*kind).to_owned());
    known.unwrap_or_else(|| text.rsplit('/').next().unwrap_or_default().to_owned())
}

fn damage(path: &Path, harm: Harm, random: &mut fastrand::Rng) -> String {
    let mut bytes = fs::read(path).expect("it reads");
    if bytes.is_empty() || harm == Harm::Delete {
        fs::remove_file(path).expect("it can be removed");
        return "deleted".into();
    }
    let at = random.usize(..bytes.len());
    match harm {
        Harm::Flip => bytes[at] ^= 1 << random.u8(0..8),
        Harm::ZeroPage => {
            let from = at / 4096 * 4096;
            let to = bytes.len().min(from + 4096);
            bytes[from..to].fill(0);
        }
        Harm::Shorten => bytes.truncate(at),
        Harm::Delete => {}
    }
    fs::write(path, bytes).expect("it can be written");
    format!("{harm:?} at {at}")
}
