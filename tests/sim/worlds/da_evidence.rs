//! Whatever hosts report, and in whatever way: two nodes that have read the same DA have the same hard block.

use std::time::Duration;

use blocksyncd::verify::AuthenticBlock;
use bytes::Bytes;

use super::{BOUND, holds};
use crate::chain::resigned;
use crate::faults::{Plan, ReportBy};
use crate::scene::{Scene, hard};

fn bytes(block: &AuthenticBlock) -> Bytes {
    block.block().bytes().clone()
}

/// Followers that store `stored` blocks of the chain, and know nobody. One host gives bytes, the others do not verify what they
/// name. At the given DA heights are the given blobs, made of the first three blocks and of another second one.
fn one_hard_block(
    stored: usize,
    blobs: impl Fn(&[AuthenticBlock], &AuthenticBlock) -> Vec<(u64, Vec<Bytes>)>,
) -> Result<(), String> {
    let ways = [ReportBy::Bytes, ReportBy::Unverified, ReportBy::Unverified];
    let mut scene = Scene::new(Plan { report_junk: 1.0, ..Plan::calm(1 + ways.len(), Vec::new()) });
    let blocks = scene.chain(&[], 3, "block");
    let other = scene.chain(&blocks[..1], 1, "the other second block").remove(0);
    let da = blobs(&blocks, &other);
    for height in 1..=20 {
        let here = da.iter().find(|(at, _)| *at == height).map(|(_, blobs)| blobs.clone());
        scene.da_has(&here.unwrap_or_default());
    }
    for (n, by) in (1..).zip(ways) {
        scene.store(n, &blocks[..stored]);
        scene.start(n);
        scene.world.hosts[n].reporter.by = Some(by);
    }
    scene.hosts_act(&[1, 2, 3]);
    let expected = scene.world.da.last_winner();
    scene.until(&format!("{expected:?} is hard everywhere"), BOUND, |world| {
        (1..=ways.len()).all(|n| hard(world, n) == expected)
    })?;
    scene.pass(Duration::from_secs(30));
    Ok(())
}

/// A copy of our second block with a junk signature, then the sequencer's other one.
#[test]
fn a_junk_copy_decides_nothing() {
    holds("a junk copy of our block", || {
        one_hard_block(3, |blocks, other| {
            vec![(1, vec![bytes(&blocks[0])]), (5, vec![resigned(&blocks[1])]), (7, vec![bytes(other)])]
        })
    });
}

#[test]
fn a_block_behind_its_junk_copy_is_found() {
    holds("behind a junk copy", || {
        one_hard_block(1, |blocks, _| {
            vec![(1, vec![bytes(&blocks[0])]), (5, vec![resigned(&blocks[1])]), (7, vec![bytes(&blocks[1])])]
        })
    });
}

#[test]
fn a_block_behind_its_junk_copy_wins_over_a_later_one() {
    holds("behind a junk copy, before another", || {
        one_hard_block(1, |blocks, other| {
            vec![
                (1, vec![bytes(&blocks[0])]),
                (5, vec![resigned(&blocks[1])]),
                (7, vec![bytes(&blocks[1])]),
                (9, vec![bytes(other)]),
            ]
        })
    });
}

/// A host says that everything up to the end of time has been read; then it reads on.
#[test]
fn a_report_from_the_future_costs_nothing() {
    holds("a report from the future", || {
        let mut scene = Scene::new(Plan::calm(2, Vec::new()));
        let blocks = scene.chain(&[], 5, "block");
        scene.store(1, &blocks);
        scene.da_has_each(&blocks[..2]);
        scene.start(1);
        scene.hosts_act(&[1]);
        scene.until("two are hard", BOUND, |world| hard(world, 1) == Some(blocks[1].id()))?;
        scene.world.hosts[1].reporter.exaggerates = Some(u64::MAX);
        scene.pass(Duration::from_secs(5));
        scene.da_has_each(&blocks[2..]);
        scene.until("all are hard", BOUND, |world| hard(world, 1) == Some(blocks[4].id())).map(drop)
    });
}
