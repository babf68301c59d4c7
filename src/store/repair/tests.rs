//! Damage to a store whose tail is above the initial height, record by record.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::block::{ChainId, Format, Hash, Header, Lane, PublicKey, native};
use crate::store::watermark::Watermark;
use crate::store::{Options, Reader, Store};
use crate::sync::{
    Basis, Batch, Change, CommitId, Confirmation, DaEvidence, DaPosition, Halt, LostWord, Origin, Recovered,
    Stored as _,
};
use crate::verify::{Schedule, ScheduleEntry, VerifiedBlock};

const TAIL: u64 = 10;
const HARD: u64 = 20;
const SOFT: u64 = 30;
const SCANNED: u64 = 5000;

/// Every block was posted long after the one below it, but for the one at 17, which was there before all of them.
fn position(number: u64) -> DaPosition {
    DaPosition { height: if number == 17 { 40 } else { number * 100 }, index: 0 }
}

fn height(height: u64) -> Height {
    Height::new(height).expect("not 0")
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

fn rules() -> Rules {
    let entry = ScheduleEntry { from: Height::MIN, proposer: PublicKey(key().verifying_key().to_bytes()) };
    Rules {
        format: Format::Native,
        chain_id: ChainId::new("repair").expect("a valid id"),
        initial_height: Height::MIN,
        max_block_bytes: 1024,
        max_clock_drift: Duration::ZERO,
        schedule: Schedule::new(Height::MIN, &[entry]).expect("a sound key"),
    }
}

fn chain() -> Vec<VerifiedBlock> {
    let mut chain: Vec<VerifiedBlock> = Vec::new();
    for number in 1..=SOFT {
        let parent = chain.last().map(VerifiedBlock::tip);
        let payload = Bytes::from(format!("payload {number}"));
        let header = native::encode_header(&Header {
            chain_id: rules().chain_id,
            height: height(number),
            time_unix_nanos: number,
            parent_hash: parent.map(|parent| parent.id.hash),
            payload_hash: Hash::of(&payload),
            proposer: PublicKey(key().verifying_key().to_bytes()),
            host_id: Bytes::new(),
        });
        let signature = key().sign(&native::signing_message(&header)).to_bytes();
        let block = rules().check(Lane::BLOCK, &native::encode(&header, &signature, &payload)).expect("sound");
        chain.push(block.link(parent).expect("it links"));
    }
    chain
}

fn at(chain: &[VerifiedBlock], number: u64) -> &VerifiedBlock {
    chain.iter().find(|block| block.id().height == height(number)).expect("it is one of them")
}

/// A store of the blocks from [`TAIL`] to [`SOFT`], hard up to [`HARD`]; once it had all of them but the last one.
struct Scene {
    options: Options,
    chain: Vec<VerifiedBlock>,
    /// The record of the heads as of before it was pruned.
    older_heads: Vec<u8>,
    store: Option<(Store, Reader)>,
    /// As it was left.
    left: Recovered,
}

impl Scene {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("bsd-repair-{name}-{}", std::process::id()));
        let options = Options {
            dir,
            guard: None,
            durability: Durability::Process,
            cache_bytes: 1 << 20,
            max_evidence: 1,
            da_evidence: DaEvidence::Block,
        };
        let chain = chain();
        let (mut store, reader, recovered) = Store::open(&options, &rules()).expect("it opens");
        let append = |block: &VerifiedBlock| Change::Append { block: block.clone(), origin: Origin::Range };
        let confirm =
            |number| Change::Confirm { height: height(number), position: position(number), basis: Basis::Bytes };
        let (last, first) = chain.split_last().expect("some");
        let mut changes: Vec<Change> = first.iter().map(append).collect();
        changes.extend((1..=HARD).map(confirm));
        let hard = Some(at(&chain, HARD).id());
        let heads =
            Heads { soft: first.last().map(VerifiedBlock::tip), hard, scanned_through: SCANNED, ..recovered.heads };
        store.commit(&Batch { id: CommitId(1), changes, heads, guard: None }).expect("it is written");
        let older_heads = record::seal(Space::Meta, keys::HEADS, &[&store.state.stamped.encode()]);
        let base = Some(at(&chain, TAIL - 1).tip());
        let heads = Heads { soft: Some(last.tip()), tail: height(TAIL), base, ..heads };
        let changes = vec![append(last), Change::Prune { below: height(TAIL) }];
        store.commit(&Batch { id: CommitId(2), changes, heads, guard: None }).expect("it is written");
        drop((store, reader));
        let (store, reader, left) = Store::open(&options, &rules()).expect("it opens");
        Self { options, chain, older_heads, store: Some((store, reader)), left }
    }

    fn watermark(&self) -> PathBuf {
        self.options.dir.join("mark")
    }

    fn open(&mut self) -> Recovered {
        let (store, reader, recovered) = Store::open(&self.options, &rules()).expect("it opens");
        self.store = Some((store, reader));
        recovered
    }

    /// With the heads that are.
    fn commit(&mut self, changes: Vec<Change>) {
        let (store, reader) = self.store.as_mut().expect("it is open");
        let heads = reader.snapshot().heads().expect("they read");
        store.commit(&Batch { id: CommitId(9), changes, heads, guard: None }).expect("it is written");
    }

    /// Instead of what is there.
    fn put(&self, space: Space, key: &[u8], record: &[u8]) {
        self.write(space, key, Some(record.to_vec()));
    }

    fn remove(&self, space: Space, key: &[u8]) {
        self.write(space, key, None);
    }

    fn write(&self, space: Space, key: &[u8], record: Option<Vec<u8>>) {
        let (store, _) = self.store.as_ref().expect("it is open");
        let write = ((space, key.to_vec()), record);
        store.shared.db.write(Writes::from([write]), Durability::Process).expect("it is written");
    }

    /// What the next process finds, which is sound, and says the same once more.
    fn reopened(&mut self) -> Recovered {
        self.store = None;
        let (store, reader, first) = Store::open(&self.options, &rules()).expect("it opens");
        drop((store, reader));
        let (store, reader, recovered) = Store::open(&self.options, &rules()).expect("it opens again");
        assert_eq!(recovered, first);
        let snapshot = reader.snapshot();
        assert_eq!(snapshot.verify(|_| true), Ok(()));
        for (number, block) in (1..).zip(&self.chain) {
            let kept = recovered.heads.stores(height(number)).then_some(block.id().hash);
            assert_eq!(reader.for_core().hash(height(number)), kept, "{number}");
            assert_eq!(snapshot.height_of(block.id().hash), Ok(kept.map(|_| height(number))), "{number}");
        }
        let kept = self.chain.iter().filter(|block| recovered.heads.stores(block.id().height));
        assert_eq!(recovered.stored_bytes, kept.map(|block| weight(block.block())).sum::<u64>());
        drop(snapshot);
        self.store = Some((store, reader));
        recovered
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it reads") {
        let path = entry.expect("it reads").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it can be copied");
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.store = None;
        let _ = fs::remove_dir_all(&self.options.dir);
    }
}

const GARBAGE: &[u8] = b"no record";

#[test]
fn the_record_of_the_heads_is_made_again() {
    let mut scene = Scene::new("heads");
    scene.put(Space::Meta, keys::HEADS, GARBAGE);
    assert_eq!(scene.reopened(), scene.left);
}

#[test]
fn without_its_mark_it_is_what_it_was() {
    let mut scene = Scene::new("mark");
    fs::remove_file(scene.watermark()).expect("there is one");
    assert_eq!(scene.reopened(), scene.left);
}

/// Then the lowest block tells what is below it, but not when that was made.
#[test]
fn without_heads_and_mark_it_begins_with_its_lowest_block() {
    let mut scene = Scene::new("heads-and-mark");
    scene.put(Space::Meta, keys::HEADS, GARBAGE);
    fs::remove_file(scene.watermark()).expect("there is one");
    let found = scene.reopened().heads;
    assert_eq!(
        (found.tail, found.soft, found.hard, found.lost),
        (height(TAIL), scene.left.heads.soft, scene.left.heads.hard, None)
    );
    assert_eq!(found.base.map(|base| base.id), scene.left.heads.base.map(|base| base.id));
}

#[test]
fn from_the_first_damaged_block_on_all_is_lost_and_nothing_below_the_tail() {
    for number in [TAIL, TAIL + 1, 15, HARD, HARD + 1, SOFT] {
        for space in [Space::Blocks, Space::Headers] {
            let mut scene = Scene::new("block");
            scene.put(space, &keys::height(height(number)), GARBAGE);
            let found = scene.reopened();
            let heads = found.heads;
            assert_eq!((heads.tail, heads.base), (height(TAIL), scene.left.heads.base), "{number}");
            assert_eq!(heads.soft_height().map_or(TAIL - 1, Height::get), number - 1);
            assert_eq!(heads.lost, Some(DataLoss { from: height(number), to: height(SOFT) }));
            let anchor = scene.left.heads.hard.filter(|_| number <= HARD);
            assert_eq!(found.anchor.map(|anchor| anchor.id), anchor, "{number}");
        }
    }
}

/// What was seen on DA of the blocks that are hard no more was dropped when they were judged: all of it is reported again, and no
/// more than that where it is known where it was.
#[test]
fn when_hard_falls_da_is_reported_again_from_before_the_first_of_what_was_lost() {
    let lose = |number: u64, confirmation: Option<u64>| {
        let mut scene = Scene::new("cursor");
        scene.put(Space::Blocks, &keys::height(height(number)), GARBAGE);
        if let Some(number) = confirmation {
            scene.put(Space::Confirmations, &keys::height(height(number)), GARBAGE);
        }
        let heads = scene.reopened().heads;
        assert_eq!(heads.hard_height().map_or(TAIL - 1, Height::get), number.min(HARD + 1) - 1);
        heads.scanned_through
    };
    assert_eq!(lose(SOFT, None), SCANNED, "hard has not fallen");
    assert_eq!(lose(19, None), 1899);
    assert_eq!(lose(18, None), 1799);
    assert_eq!(lose(17, None), 39, "and not only from where the hard block of now was");
    assert_eq!(lose(TAIL, None), 39);
    // It is not known any more where one of them was.
    assert_eq!(lose(18, Some(19)), 0);
    assert_eq!(lose(18, Some(15)), 1799, "this one was not lost");
}

/// What it said is reported again, and all that comes after.
#[test]
fn da_is_reported_again_from_the_first_damaged_sighting_on() {
    let mut scene = Scene::new("sighting");
    for height in [3000, 700, 4000] {
        scene.put(Space::Sightings, &keys::position(DaPosition { height, index: 3 }), GARBAGE);
    }
    assert_eq!(scene.reopened().heads.scanned_through, 699);
}

/// While the store is behind it.
#[test]
fn the_mark_says_what_was_hard_once() {
    let mut scene = Scene::new("mark-hard");
    scene.put(Space::Blocks, &keys::height(height(18)), GARBAGE);
    let found = scene.reopened();
    let (_, mark) = Watermark::open(&scene.watermark()).expect("it reads").expect("there is one");
    assert_eq!((mark.hard, mark.hard.map(|hard| hard.id)), (found.anchor, scene.left.heads.hard));
}

/// Nothing that it lacks is pruned, whatever it has acknowledged.
#[test]
fn a_consumer_whose_acknowledgement_is_damaged_is_waited_for() {
    let mut scene = Scene::new("ack");
    let up_to = at(&scene.chain, HARD).id();
    scene.commit(["one", "other"].map(|name| Change::Ack { consumer: name.to_owned(), up_to }).to_vec());
    scene.put(Space::Meta, &keys::ack("one"), GARBAGE);
    let lowest = at(&scene.chain, TAIL).id();
    assert_eq!(scene.reopened().consumers, [("one".to_owned(), lowest), ("other".to_owned(), up_to)]);
}

/// The store is older than its mark, or has lost a record without a trace: only the mark can tell.
#[test]
fn consumers_that_are_not_known_any_more_have_one_that_stands_for_them() {
    let unknown = |scene: &mut Scene| {
        let consumers = scene.reopened().consumers;
        consumers.into_iter().find(|(name, _)| name == LOST_BY_DAMAGE).map(|(_, acked)| acked)
    };
    let lowest = |scene: &Scene| Some(at(&scene.chain, TAIL).id());
    let ack = |scene: &Scene, name: &str| Change::Ack { consumer: name.to_owned(), up_to: at(&scene.chain, HARD).id() };
    let mut scene = Scene::new("behind");
    let (store, older) = (scene.options.dir.join("store"), scene.options.dir.join("older"));
    for (acked, is_missed) in [(None, false), (Some("one"), true)] {
        scene.store = None;
        fs::rename(&store, &older).expect("nobody has it open");
        copy(&older, &store);
        scene.open();
        let changes = acked.map(|name| ack(&scene, name)).into_iter().collect();
        scene.commit(changes);
        scene.store = None;
        fs::remove_dir_all(&store).expect("nobody has it open");
        fs::rename(&older, &store).expect("it is there");
        assert_eq!(unknown(&mut scene), lowest(&scene).filter(|_| is_missed), "{acked:?}");
    }
    // Until an operator forgets it; it comes once for each loss.
    scene.commit(vec![Change::ForgetConsumer(LOST_BY_DAMAGE.to_owned()), ack(&scene, "one")]);
    assert_eq!(unknown(&mut scene), None);
    scene.put(Space::Meta, keys::HEADS, GARBAGE);
    assert_eq!(unknown(&mut scene), None, "the consumers are all there");
    scene.remove(Space::Meta, &keys::ack("one"));
    scene.put(Space::Meta, keys::HEADS, GARBAGE);
    assert_eq!(unknown(&mut scene), lowest(&scene));
}

/// Nothing could stand for them: what is gone is said until it is said again.
#[test]
fn of_a_damaged_veto_and_of_damaged_entries_of_the_schedule_it_is_known_that_they_are_lost() {
    let mut scene = Scene::new("words");
    let proposer = PublicKey(key().verifying_key().to_bytes());
    let entries = [SOFT + 5, SOFT + 9].map(|from| ScheduleEntry { from: height(from), proposer });
    let veto = Change::Veto(Some(at(&scene.chain, SOFT).id()));
    scene.commit([veto.clone()].into_iter().chain(entries.map(Change::Schedule)).collect());
    scene.put(Space::Meta, keys::VETO, GARBAGE);
    scene.put(Space::Meta, &keys::schedule(entries[1].from), GARBAGE);
    let found = scene.reopened();
    let lost = [LostWord::Schedule(entries[1].from), LostWord::Veto];
    assert_eq!((found.vetoed, &found.schedule[..], &found.lost_words[..]), (None, &entries[..1], &lost[..]));
    // Also once that itself was damaged.
    scene.put(Space::Meta, &keys::lost(LostWord::Veto), GARBAGE);
    assert_eq!(scene.reopened().lost_words, lost);
    scene.commit(vec![Change::Schedule(entries[1]), Change::ForgetLost(lost[0])]);
    assert_eq!(scene.reopened().lost_words, [LostWord::Veto]);
    scene.commit(vec![veto, Change::ForgetLost(LostWord::Veto)]);
    assert_eq!(scene.reopened().lost_words, []);
}

/// The mark alone knows that there was more, and not what.
#[test]
fn where_all_or_the_latest_is_lost_it_is_said_that_words_may_be() {
    for is_all in [true, false] {
        let mut scene = Scene::new("all-words");
        let (store, older) = (scene.options.dir.join("store"), scene.options.dir.join("older"));
        scene.store = None;
        fs::rename(&store, &older).expect("nobody has it open");
        copy(&older, &store);
        scene.open();
        scene.commit(vec![]);
        scene.store = None;
        fs::remove_dir_all(&store).expect("nobody has it open");
        if is_all {
            fs::remove_dir_all(&older).expect("it is there");
        } else {
            fs::rename(&older, &store).expect("it is there");
        }
        assert_eq!(scene.reopened().lost_words, [LostWord::Unknown], "{is_all}");
    }
}

#[test]
fn what_was_halted_stays_halted_when_the_reason_is_damaged() {
    let mut scene = Scene::new("halt");
    let [ours, da] = [HARD + 1, HARD + 2].map(|number| at(&scene.chain, number).id());
    let position = DaPosition { height: 7, index: 1 };
    scene.commit(vec![Change::Halt(Some(Halt::Diverged { ours, da, position }))]);
    scene.put(Space::Meta, keys::HALT, GARBAGE);
    assert_eq!(scene.reopened().halted, Some(Halt::Contradicted { ours, position: DaPosition::IMPLIED }));
}

/// A repair moves the damaged store away, and the new one into its place: it may die before, in between, and after.
#[test]
fn a_repair_that_died_is_finished_or_made_again() {
    let mut scene = Scene::new("died");
    let [store, repaired] = ["store", "store.repaired"].map(|name| scene.options.dir.join(name));
    scene.store = None;
    fs::rename(&store, &repaired).expect("nobody has it open");
    assert_eq!(scene.reopened(), scene.left, "it only had to be put into its place");
    assert!(!repaired.exists());

    scene.store = None;
    fs::create_dir(&repaired).expect("it can be made");
    fs::write(repaired.join("half"), "of what was copied").expect("it can be written");
    assert_eq!(scene.reopened(), scene.left);
    assert!(!repaired.exists());

    // And the whole of it: what was damaged is kept, what is left is in its place.
    scene.put(Space::Meta, keys::HEADS, GARBAGE);
    assert_eq!(scene.reopened(), scene.left);
    assert!(scene.options.dir.join("store.damaged-1").is_dir() && store.is_dir() && !repaired.exists());
}

/// The keyspaces are not equally old after damage: the watermark knows better where the chain begins.
#[test]
fn heads_from_before_it_was_pruned_lose_nothing() {
    let mut scene = Scene::new("older-heads");
    let older = scene.older_heads.clone();
    scene.put(Space::Meta, keys::HEADS, &older);
    let found = scene.reopened().heads;
    assert_eq!((found.tail, found.base), (height(TAIL), scene.left.heads.base));
    assert_eq!((found.soft, found.hard, found.lost), (scene.left.heads.soft, scene.left.heads.hard, None));
}

#[test]
fn what_comes_back_from_below_the_tail_is_taken_away() {
    let mut scene = Scene::new("below");
    let block = at(&scene.chain, TAIL - 1).clone();
    let key = keys::height(block.id().height);
    let parts: [&[u8]; 2] = [&[record::encode_origin(Origin::Range)], block.block().bytes()];
    scene.put(Space::Blocks, &key, &record::seal(Space::Blocks, &key, &parts));
    let prefix = record::HeaderRecord::prefix(block.id().hash, block.block().bytes().len());
    scene.put(Space::Headers, &key, &record::seal(Space::Headers, &key, &[&prefix, block.block().header_bytes()]));
    let position = DaPosition { height: TAIL - 1, index: 0 };
    let confirmation = record::encode_confirmation(block.id().hash, Confirmation { position, basis: Basis::Bytes });
    scene.put(Space::Confirmations, &key, &record::seal(Space::Confirmations, &key, &[&confirmation]));
    let found = scene.reopened();
    assert_eq!(found.heads, scene.left.heads);
}

/// As of another node, which has pruned what this one stored last.
#[test]
fn a_copy_of_another_store_that_has_pruned_more_is_sound() {
    let mut scene = Scene::new("copy");
    let (watermark, state) = Watermark::open(&scene.watermark()).expect("it reads").expect("there is one");
    drop(watermark);
    let soft = Some(at(&scene.chain, TAIL - 2).tip());
    let heads = Heads { soft, hard: None, tail: Height::MIN, base: None, ..state.heads };
    let of_another = WatermarkState { store_id: [7; 16], hard: None, heads, ..state };
    fs::remove_file(scene.watermark()).expect("there is one");
    drop(Watermark::create(&scene.watermark(), &of_another).expect("it is written"));
    assert_eq!(scene.reopened(), scene.left);
}
