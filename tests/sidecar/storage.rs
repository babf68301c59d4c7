//! The disk under a sidecar's store is full, or nearly.

use std::fs;

use blocksyncd::api::client::PublishResult;
use blocksyncd::block::BlockId;

use super::host::{Host, payload_on};
use super::hosts;
use super::place::Place;
use super::small_disk::SmallDisk;

const MIB: usize = 1 << 20;

/// The setting that puts a store onto this disk.
fn on(disk: &SmallDisk) -> String {
    format!("store.dir={}", disk.path().join("data").display())
}

#[test]
fn below_its_reserve_it_takes_nothing_in_and_goes_on_by_itself() {
    let Some(disk) = SmallDisk::mount("64m") else { return };
    let place = Place::new();
    let (dir, reserve) = (on(&disk), "store.reserve_bytes=16MiB");
    let small = ["--set", dir.as_str(), "--set", reserve, "--set", "store.cache_bytes=4MiB"];
    let sequencer = place.sequencer(&small);
    hosts(async {
        let a = Host::publisher(&sequencer).await;
        let chain = a.publish_chain(None, 3).await;
        let filler = disk.path().join("filler");
        let free = usize::try_from(blocksyncd::store::free_bytes(disk.path()).unwrap()).unwrap();
        fs::write(&filler, vec![0; free - 8 * MIB]).unwrap();
        a.until_status("a full disk", |status| status.storage_full).await;
        let fourth = Host::new_block(Some(chain[2].id), "four");
        assert_eq!(a.try_publish(&fourth).await, PublishResult::StorageFull);
        sequencer.ctl(&["publish", "/dev/null"]).refused(74, &["disk is full", "by itself"]);
        assert!(sequencer.ctl(&["status"]).stdout.contains("DISK FULL"));
        // That one has taken the publisher's role.
        let mut a = a.reattach(&sequencer).await;

        // Who reads, reads on: its own host, and others that begin.
        a.until_soft(3).await;
        assert_eq!(a.stored(2).await, Some(chain[1].id));
        let full = place.full_node("full", &["--seed", &sequencer.address()]);
        let mut b = Host::follower(&full).await;
        b.until_soft(3).await;

        fs::remove_file(&filler).unwrap();
        a.until_status("room", |status| !status.storage_full).await;
        assert!(matches!(a.try_publish(&fourth).await, PublishResult::Accepted(_)));
        b.until_soft(4).await;
    });
}

#[test]
fn what_was_acknowledged_before_the_disk_was_full_is_there_afterwards() {
    let Some(disk) = SmallDisk::mount("64m") else { return };
    let place = Place::new();
    let dir = on(&disk);
    let small = ["--set", dir.as_str(), "--set", "store.reserve_bytes=0", "--set", "store.cache_bytes=4MiB"];
    let mut sequencer = place.sequencer(&small);
    let block_on = |parent: Option<BlockId>| {
        let mut payload = payload_on(parent).to_vec();
        payload.resize(MIB / 2, 7);
        Host::new_block(parent, payload)
    };
    let mut chain: Vec<BlockId> = Vec::new();
    let last = hosts(async {
        let a = Host::publisher(&sequencer).await;
        loop {
            let next = block_on(chain.last().copied());
            match a.desk().publish(&next).await {
                Ok(PublishResult::Accepted(published)) => chain.push(published.id),
                _ => return next,
            }
        }
    });
    assert!(chain.len() > 20, "full after {} blocks", chain.len());
    assert_eq!(sequencer.wait().code(), Some(74), "{}", sequencer.log());
    let log = sequencer.log();
    let why = log.lines().last().unwrap();
    for word in ["blocksyncd: no space left", disk.path().to_str().unwrap(), "make room, then start again"] {
        assert!(why.contains(word), "`{word}`: {why}");
    }

    disk.resize("160m");
    let sequencer = place.sequencer(&small);
    hosts(async {
        let mut a = Host::publisher(&sequencer).await;
        a.until_soft(chain.len() as u64).await;
        assert_eq!(a.ledger.chain[..chain.len()], chain);
        // The block that got no answer is the same block.
        let answer = a.try_publish(&last).await;
        assert!(matches!(answer, PublishResult::Accepted(_) | PublishResult::Duplicate(_)), "{answer:?}");
        let before = a.ledger.soft();
        a.until_soft(before.max(chain.len() as u64 + 1)).await;
        a.publish(a.ledger.tip(), "and on it goes").await;
    });
}
