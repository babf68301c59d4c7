//! What is kept beside something else: whatever became of it, the start says so, and makes it anew from what is true.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use blocksyncd::store::Options;
use blocksyncd::sync::{Batch, Change, CommitId, Disowned, DisownedBy};

use super::tempdir::TempDir;
use super::{blocks, open, options};

type Damage = fn(Vec<u8>) -> Vec<u8>;

/// Each way to be unreadable.
const DAMAGES: [(&str, Damage); 5] = [
    ("nothing in it", |_| Vec::new()),
    ("garbage", |_| b"no such file".repeat(1000)),
    ("garbage of the same length", |bytes| vec![7; bytes.len()]),
    ("its first byte", |bytes| flipped(bytes, 0)),
    ("its last byte", |bytes| {
        let last = bytes.len() - 1;
        flipped(bytes, last)
    }),
];

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

#[test]
fn an_unreadable_copy_is_told_and_made_anew_at_that_start() {
    for (name, path) in [("the list of the disowned", "guard.disowned"), ("the mark", "data/mark")] {
        for listed in [0, 1] {
            for (how, damage) in DAMAGES {
                let (what, dir) = (format!("{name}, {listed} listed, {how}"), TempDir::in_memory());
                let options = options(&dir);
                list(&options, listed);
                let path = dir.path().join(path);
                let damaged = damage(std::fs::read(&path).expect("it is there"));
                std::fs::write(&path, &damaged).expect("it can be damaged");
                assert!(names(&log_of_an_opening(&options), &path), "{what}");
                assert_ne!(std::fs::read(&path).expect("it is there"), damaged, "{what}");
                assert!(!names(&log_of_an_opening(&options), &path), "{what}, told again");
                assert_eq!(open(&options).2.disowned.len(), listed, "{what}");
            }
        }
    }
}

/// A store with a copy of its list, on which are so many.
fn list(options: &Options, listed: usize) {
    let (mut store, _, recovered) = open(options);
    let ids: Vec<_> = (0..2).map(|salt| blocks::extend(None, 1, 100, salt)[0].id()).collect();
    let write = |changes| Batch { id: CommitId(1), changes, heads: recovered.heads, guard: None };
    let disown = ids.iter().map(|id| Change::Disown(Disowned { id: *id, by: DisownedBy::Da }));
    store.commit(&write(disown.collect())).expect("it is written");
    store.commit(&write(ids[listed..].iter().copied().map(Change::Own).collect())).expect("it is written");
}

fn names(log: &str, path: &Path) -> bool {
    log.lines().any(|line| line.contains(&path.display().to_string()))
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_of_an_opening(options: &Options) -> String {
    let log = Arc::default();
    let lines = {
        let log = Arc::clone(&log);
        move || Lines(Arc::clone(&log))
    };
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines).finish();
    tracing::subscriber::with_default(subscriber, || drop(open(options)));
    String::from_utf8(log.lock().expect("no panic").clone()).expect("text")
}
