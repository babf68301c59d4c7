//! The store against a model: random batches, merged as the writer merges them, with reopenings in between; after each commit
//! everything that can be read must be what the model says.
#![cfg(feature = "sidecar")]

#[path = "../support/blocks.rs"]
mod blocks;
#[path = "../support/copy_dir.rs"]
mod copy_dir;
#[path = "../support/tempdir.rs"]
mod tempdir;

mod beside;
mod edges;
mod model;

use blocksyncd::block::Height;
use blocksyncd::store::{Durability, Options, Reader, Store};
use blocksyncd::sync::{DaEvidence, Recovered};
use model::Model;
use tempdir::TempDir;

pub const MAX_EVIDENCE: usize = 5;

pub fn options(dir: &TempDir) -> Options {
    Options {
        dir: dir.path().join("data"),
        guard: Some(dir.path().join("guard")),
        durability: Durability::Process,
        cache_bytes: 4 << 20,
        max_evidence: MAX_EVIDENCE,
        da_evidence: DaEvidence::Block,
    }
}

pub fn open(options: &Options) -> (Store, Reader, Recovered) {
    Store::open(options, &blocks::rules()).expect("the store opens")
}

/// Seeds and steps per seed; `STORE_MODEL_SEEDS` runs more.
#[test]
fn random_batches_leave_what_the_model_says() {
    let seeds = std::env::var("STORE_MODEL_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(12);
    for seed in 0..seeds {
        run(seed, 60);
    }
}

fn run(seed: u64, steps: usize) {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let mut random = fastrand::Rng::with_seed(seed);
    // Every other store begins above the initial height.
    let begins_at = Height::MIN.plus(if seed % 2 == 1 { random.u64(1..30) } else { 0 });
    let mut model = Model::new(begins_at);
    let (mut store, mut reader, recovered) = open(&options);
    model.assert_recovered(&recovered, seed);
    for step in 0..steps {
        let mut batch = model.random_batch(&mut random);
        while random.u8(..) < 80 {
            let next = model.random_batch(&mut random);
            if batch.may_absorb(&next) {
                batch.absorb(next);
            } else {
                store.commit(&batch).expect("it is written");
                batch = next;
            }
        }
        store.commit(&batch).expect("it is written");
        assert_eq!(store.stored_bytes(), model.stored_bytes(), "seed {seed}, step {step}");
        model.assert_read(&reader.snapshot(), &format!("seed {seed}, step {step}"));
        if random.u8(..) < 25 {
            drop((store, reader));
            let recovered;
            (store, reader, recovered) = open(&options);
            model.assert_recovered(&recovered, seed);
            model.assert_read(&reader.snapshot(), &format!("seed {seed}, step {step}, reopened"));
        }
    }
}
