//! The disk is full: the commit says so, reads go on, and the next start works, also while it is still full.

use std::process::Stdio;

use blocksyncd::store::{Durability, Store, StoreError};
use blocksyncd::sync::Recovered;

use super::child::{Known, Task, Told, Workload, options};
use super::small_disk::SmallDisk;
use super::strace;
use super::tempdir::TempDir;
use super::{blocks, scale};

#[test]
fn a_full_disk_is_said_and_survived() {
    // Where only root may mount, strace is left, which CI requires.
    if let Some(small) = SmallDisk::mount("24m") {
        fill(&small);
    }
    if strace::available("full disk, by strace") {
        fail_writes();
    }
}

/// A real, small file system.
fn fill(small: &SmallDisk) {
    let options = options(small.path(), Durability::Power);
    let (mut store, reader, recovered) = Store::open(&options, &blocks::rules()).expect("it opens");
    let mut workload = Workload::new(&reader, &recovered, 1, 100_000);
    let mut told = Told::default();
    let mut acknowledged = recovered.heads;
    let (full, tried) = loop {
        let batch = workload.next_batch();
        told.hear(&workload.tries(&batch));
        match store.commit(&batch) {
            Ok(()) => told.hear("ACK"),
            Err(error) => break (error, workload.heads),
        }
        acknowledged = workload.heads;
    };
    assert!(matches!(full, StoreError::Full(_)), "{full:?}");
    assert!(told.acks > 20, "full after {} commits: the rig proves nothing", told.acks);
    // It writes no more, and reads on.
    assert!(store.commit(&workload.next_batch()).is_err());
    let snapshot = reader.snapshot();
    // There may have been room for the commit itself, and none for the journal that was to follow: it was written, then, and is read,
    // though it was not acknowledged.
    let heads = snapshot.heads().expect("it can be read");
    let is_written = heads == tried;
    assert!(is_written || heads == acknowledged, "{heads:?}");
    let known = if is_written { told.tried.as_ref().expect("it was tried") } else { &told.acknowledged };
    let read = Known::read(&reader, &Recovered { heads, ..recovered }).map(|known| known.chain);
    assert_eq!(read.as_ref(), Ok(&known.chain));
    let free = reader.free_bytes();
    drop((snapshot, store, reader));

    for round in 0..3 {
        told.check(small.path(), Durability::Power)
            .unwrap_or_else(|wrong| panic!("still full, start {round}: {wrong}"));
    }
    let (mut store, reader, recovered) = Store::open(&options, &blocks::rules()).expect("it opens");
    let mut too_large = Workload::new(&reader, &recovered, 2, 8_000_000).next_batch();
    too_large.guard = None;
    assert!(matches!(store.commit(&too_large), Err(StoreError::Full(_))));
    drop((store, reader));

    small.resize("64m");
    told.check(small.path(), Durability::Power).unwrap_or_else(|wrong| panic!("with more room: {wrong}"));
    let (mut store, reader, recovered) = Store::open(&options, &blocks::rules()).expect("it opens");
    let mut workload = Workload::new(&reader, &recovered, 3, 1000);
    for _ in 0..5 {
        store.commit(&workload.next_batch()).expect("there is room again");
    }
    assert_eq!(reader.snapshot().verify(|_| true), Ok(()));
    println!("full disk: full after {} commits with {free:?} bytes free, 0 lost, goes on with more room", told.acks);
}

/// The journal's writes fail from the n-th one on.
fn fail_writes() {
    for n in 0..4 * scale() {
        let dir = TempDir::in_memory();
        let journal = dir.path().join("data/store/0.jnl");
        let inject = format!("inject=write:error=ENOSPC:when={}+", 3 + 17 * n);
        let arguments = ["-f", "-o", "/dev/null", "-P", journal.to_str().expect("text"), "-e", &inject];
        let task =
            Task { dir: dir.path().to_owned(), durability: Durability::Power, payload: 3000, commits: 200, seed: n };
        let output = task.command_under("strace", &arguments).stderr(Stdio::null()).output().expect("strace runs");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut told = Told::default();
        output.lines().for_each(|line| told.hear(line));
        assert!(output.contains("\nERR Full("), "write {n} fails: {output}");
        if let Err(wrong) = told.check(dir.path(), Durability::Power) {
            panic!("no space from write {n} on, after {} acknowledgements: {wrong}", told.acks);
        }
    }
    println!("full disk, by strace: {} runs, 0 lost", 4 * scale());
}
