//! What one careful look finds better than many random ones.

use blocksyncd::block::{BlockId, Hash, Height, PublicKey};
use blocksyncd::store::{Options, Store, StoreError, guard};
use blocksyncd::sync::{
    Basis, Batch, Change, CommitId, Confirmation, DaEvidence, DaPosition, Disowned, DisownedBy, Epoch, Floor,
    GuardEntry, GuardState, Heads, Origin, Stored as _,
};
use blocksyncd::verify::{Rules, Schedule, ScheduleEntry, Tip, VerifiedBlock};

use super::copy_dir::copy_dir;
use super::tempdir::TempDir;
use super::{blocks, open, options};

fn append(chain: &[VerifiedBlock], before: Heads) -> Batch {
    let heads = Heads { soft: chain.last().map(VerifiedBlock::tip), ..before };
    let changes =
        chain.iter().map(|block| Change::Append { block: block.clone(), origin: Origin::Published }).collect();
    Batch { id: CommitId(1), changes, heads, guard: None }
}

fn filled(options: &Options, n: u64) -> Vec<VerifiedBlock> {
    let chain = blocks::build_chain(n, 100);
    let (mut store, reader, _) = open(options);
    let heads = reader.snapshot().heads().expect("heads");
    store.commit(&append(&chain, heads)).expect("it is written");
    chain
}

#[test]
fn a_second_process_is_told_that_the_store_is_in_use() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let (store, reader, _) = open(&options);
    let second = Store::open(&options, &blocks::rules());
    assert_eq!(second.err(), Some(StoreError::Locked(options.dir.clone())));
    drop(store);
    // A reader still holds it.
    assert!(matches!(Store::open(&options, &blocks::rules()), Err(StoreError::Locked(_))));
    drop(reader);
    open(&options);
}

#[test]
fn a_store_of_another_chain_is_refused_and_left_alone() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let chain = filled(&options, 3);
    let other = Store::open(&options, &blocks::rules_of("other"));
    assert!(matches!(other, Err(StoreError::WrongChain { found, .. }) if found == "test-chain"));
    // Also when the store itself is all that is left to tell.
    std::fs::remove_file(options.dir.join("mark")).expect("there is a mark");
    let other = Store::open(&options, &blocks::rules_of("other"));
    assert!(matches!(other, Err(StoreError::WrongChain { found, .. }) if found == "test-chain"));
    let (_store, reader, _) = open(&options);
    assert_eq!(reader.for_core().hash(Height::MIN), Some(chain[0].id().hash));
}

/// The chain's id alone does not make it the same chain.
#[test]
fn a_store_of_another_genesis_is_refused_and_left_alone() {
    let other_key = ed25519_dalek::SigningKey::from_bytes(&[8; 32]);
    let other = PublicKey(other_key.verifying_key().to_bytes());
    let begins = |initial: Height, first: PublicKey, more: &[ScheduleEntry]| {
        let entries = [&[ScheduleEntry { from: initial, proposer: first }], more].concat();
        let schedule = Schedule::new(initial, &entries).expect("a sound schedule");
        Rules { initial_height: initial, schedule, ..blocks::rules() }
    };
    let ours = blocks::public_key();
    let later = ScheduleEntry { from: Height::MIN.plus(100), proposer: other };
    for blocks in [0, 3] {
        let dir = TempDir::in_memory();
        let options = options(&dir);
        filled(&options, blocks);
        for (rules, differs) in [
            (begins(Height::MIN.next(), ours, &[]), "initial_height"),
            (begins(Height::MIN, other, &[]), "the first proposer"),
            (begins(Height::MIN, other, &[ScheduleEntry { from: later.from, proposer: ours }]), "the first proposer"),
        ] {
            let refused = Store::open(&options, &rules).err();
            assert!(matches!(refused, Some(StoreError::OtherGenesis { what, .. }) if what == differs), "{refused:?}");
        }
        // What was added at its end is the same genesis.
        assert!(Store::open(&options, &begins(Height::MIN, ours, &[later])).is_ok());
        assert_eq!(open(&options).2.heads.soft_height().map_or(0, Height::get), blocks);
    }
}

/// Nodes of one chain agree about what may be stored and what decides on DA, and a store goes by what it was begun with.
#[test]
fn a_store_of_other_rules_of_the_chain_is_refused_and_left_alone() {
    for blocks in [0, 3] {
        let dir = TempDir::in_memory();
        let ours = options(&dir);
        filled(&ours, blocks);
        let named = Options { da_evidence: DaEvidence::Named, ..ours.clone() };
        let larger = Rules { max_block_bytes: blocks::rules().max_block_bytes + 1, ..blocks::rules() };
        for (options, rules, differs) in
            [(&named, blocks::rules(), "da.evidence"), (&ours, larger.clone(), "max_block_bytes")]
        {
            let refused = Store::open(options, &rules).err();
            assert!(matches!(&refused, Some(StoreError::OtherGenesis { what, .. }) if *what == differs), "{refused:?}");
        }
        let refused = Store::open(&named, &blocks::rules()).err().map(|refused| refused.to_string());
        let words = "was begun with da.evidence block, and the genesis file says named";
        assert!(refused.as_ref().is_some_and(|said| said.contains(words)), "{refused:?}");
        assert_eq!(open(&ours).2.heads.soft_height().map_or(0, Height::get), blocks);
    }
}

#[test]
fn a_snapshot_does_not_see_what_comes_later() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let chain = filled(&options, 5);
    let (mut store, reader, _) = open(&options);
    let before = reader.snapshot();
    let heads = before.heads().expect("heads");
    let from = Height::MIN.plus(2);
    let branch = blocks::extend(Some(&chain[1]), 2, 10, 1);
    let mut batch = append(&branch, Heads { epoch: Epoch(1), ..heads });
    batch.changes.insert(0, Change::Truncate { from, epoch: Epoch(1) });
    store.commit(&batch).expect("it is written");

    assert_eq!(before.heads(), Ok(heads));
    assert_eq!(before.hash(from), Ok(Some(chain[2].id().hash)));
    assert_eq!(before.block(Height::MIN.plus(4)).map(|block| block.is_some()), Ok(true));
    let after = reader.snapshot();
    assert_eq!(after.hash(from), Ok(Some(branch[0].id().hash)));
    assert_eq!(after.block(Height::MIN.plus(4)), Ok(None));
    assert_eq!(after.retracted_since(Epoch(0)), Ok(Some(from)));
}

/// Where DA is read from, and where the chain began, is known even when everything else is lost; and then it may begin anew.
#[test]
fn the_floor_outlives_restarts_and_the_loss_of_everything() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let chain = blocks::build_chain(9, 10);
    let begin = |from: usize, da| {
        let id = chain[from].id();
        let floor = Some(Floor { id, da });
        let position = DaPosition::IMPLIED;
        let mut batch = append(&chain[from..], Heads { tail: id.height, floor, ..Heads::empty(Height::MIN) });
        batch.changes.insert(0, Change::Begin { tail: id.height, floor });
        batch.changes.push(Change::Confirm { height: id.height, position, basis: Basis::Trusted });
        batch.heads = Heads { hard: Some(id), base: Some(chain[from - 1].tip()), scanned_through: da, ..batch.heads };
        batch.heads.base = batch.heads.base.map(|base| Tip { time_unix_nanos: 0, ..base });
        batch
    };
    let (mut store, reader, _) = open(&options);
    let batch = begin(4, 20);
    store.commit(&batch).expect("it is written");
    let trusted = Confirmation { position: DaPosition::IMPLIED, basis: Basis::Trusted };
    assert_eq!(reader.snapshot().confirmation(chain[4].id().height), Ok(Some(trusted)));
    drop((store, reader));
    let (store, reader, recovered) = open(&options);
    assert_eq!(recovered.heads, Heads { target: None, ..batch.heads });
    drop((store, reader));

    std::fs::remove_dir_all(options.dir.join("store")).expect("it is there");
    let (mut store, reader, recovered) = open(&options);
    let heads = recovered.heads;
    assert_eq!((heads.floor, heads.tail, heads.soft), (batch.heads.floor, batch.heads.tail, None));
    assert_eq!(heads.lost.map(|lost| (lost.from, lost.to)), Some((chain[4].id().height, chain[8].id().height)));
    assert_eq!(recovered.anchor.map(|anchor| anchor.id), Some(chain[4].id()));
    // From a later block, on the operator's word: what was hard below it matters no more.
    let mut again = begin(6, 30);
    again.heads.lost = None;
    store.commit(&again).expect("it is written");
    drop((store, reader));
    let (_, reader, recovered) = open(&options);
    assert_eq!((recovered.heads, recovered.anchor), (Heads { target: None, ..again.heads }, None));
    reader.snapshot().verify(|_| true).expect("it is sound");
}

#[test]
fn the_guard_outlives_the_store_and_is_never_replaced_by_init() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let path = options.guard.clone().expect("a guard");
    let (store, reader, recovered) = open(&options);
    assert_eq!(recovered.guard, GuardState::Missing);
    drop((store, reader));

    guard::create_unused(&path, &blocks::chain_id()).expect("there is none yet");
    assert!(guard::create_unused(&path, &blocks::chain_id()).is_err());
    let (mut store, reader, recovered) = open(&options);
    assert_eq!(recovered.guard, GuardState::Unused);

    let chain = blocks::build_chain(2, 10);
    let entry = GuardEntry { last: chain[1].id() };
    let mut batch = append(&chain, reader.snapshot().heads().expect("heads"));
    batch.guard = Some(entry);
    store.commit(&batch).expect("it is written");
    drop((store, reader));
    std::fs::remove_dir_all(&options.dir).expect("the store can be wiped");
    let (mut store, reader, recovered) = open(&options);
    assert_eq!(recovered.guard, GuardState::Signed(entry));
    assert_eq!(recovered.heads, Heads::empty(Height::MIN));

    let next = GuardEntry { last: BlockId { height: Height::MIN.plus(2), hash: Hash([3; 32]) } };
    store.guard(next).expect("it is written");
    drop((store, reader));
    let (mut store, reader, recovered) = open(&options);
    assert_eq!(recovered.guard, GuardState::Signed(next));
    // The operator's word, and a signature after it in the same write.
    let heads = reader.snapshot().heads().expect("heads");
    let reset = |last: Option<BlockId>, guard: Option<GuardEntry>| Batch {
        id: CommitId(3),
        changes: vec![Change::ResetGuard(last)],
        heads,
        guard,
    };
    store.commit(&reset(None, None)).expect("it is written");
    drop((store, reader));
    let (mut store, reader, recovered) = open(&options);
    assert_eq!(recovered.guard, GuardState::Unused);
    store.commit(&reset(Some(next.last), None)).expect("it is written");
    drop((store, reader));
    let (mut store, reader, recovered) = open(&options);
    assert_eq!(recovered.guard, GuardState::Signed(next));
    store.commit(&reset(None, Some(entry))).expect("it is written");
    drop((store, reader));
    assert_eq!(open(&options).2.guard, GuardState::Signed(entry));
    let other = Store::open(&options, &blocks::rules_of("other"));
    assert!(matches!(other, Err(StoreError::GuardOfOtherChain { found, .. }) if found == "test-chain"));

    let mut bytes = std::fs::read(&path).expect("a guard");
    for byte in &mut bytes {
        *byte ^= 1;
    }
    std::fs::write(&path, bytes).expect("it can be damaged");
    assert_eq!(open(&options).2.guard, GuardState::Missing);
}

fn disown(id: BlockId) -> Change {
    Change::Disown(Disowned { id, by: DisownedBy::Da })
}

#[test]
fn what_is_disowned_is_known_beside_the_guard_too() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let copy = dir.path().join("guard.disowned");
    let chain = filled(&options, 4);
    let ids: Vec<BlockId> = chain.iter().map(VerifiedBlock::id).collect();
    let listed = [Disowned { id: ids[3], by: DisownedBy::Da }];
    let (mut store, reader, recovered) = open(&options);
    assert_eq!((recovered.disowned.as_slice(), copy.exists()), ([].as_slice(), false));
    // Two are taken back, and one of them is stored again in the same write.
    let heads = Heads { soft: Some(chain[2].tip()), epoch: Epoch(1), ..recovered.heads };
    let changes = vec![
        Change::Truncate { from: ids[2].height, epoch: Epoch(1) },
        disown(ids[2]),
        disown(ids[3]),
        Change::Append { block: chain[2].clone(), origin: Origin::Da },
        Change::ResetGuard(Some(ids[2])),
    ];
    store.commit(&Batch { id: CommitId(2), changes, heads, guard: None }).expect("it is written");
    drop((store, reader));
    assert_eq!(open(&options).2.disowned, listed);

    // Without the copy, it is made again; what is in another chain's is refused.
    std::fs::remove_file(&copy).expect("there is one");
    assert_eq!(open(&options).2.disowned, listed);
    let of_this_chain = std::fs::read(&copy).expect("it was made again");
    let mut damaged = of_this_chain.clone();
    damaged[20] ^= 1;
    std::fs::write(&copy, damaged).expect("it can be damaged");
    assert_eq!(open(&options).2.disowned, listed);
    assert_eq!(std::fs::read(&copy).expect("it was made again"), of_this_chain);

    // Without the store, the copy has it; the store then has it, too.
    std::fs::remove_dir_all(&options.dir).expect("the store can be wiped");
    assert_eq!(open(&options).2.disowned, listed);
    std::fs::remove_file(&copy).expect("there is one");
    assert_eq!(open(&options).2.disowned, listed);

    // In a store from before, what is stored there is not disowned.
    std::fs::remove_dir_all(&options.dir).expect("the store can be wiped");
    let of_this_chain = std::fs::read(&copy).expect("it was made again");
    std::fs::rename(&copy, dir.path().join("aside")).expect("there is one");
    filled(&options, 4);
    std::fs::rename(dir.path().join("aside"), &copy).expect("it is put back");
    let (store, reader, recovered) = open(&options);
    assert_eq!(recovered.disowned, []);
    drop((store, reader));
    // The copy is left alone until something changes: the right store may come back.
    assert_eq!(std::fs::read(&copy).expect("there is one"), of_this_chain);
}

/// A store that is put back lists what was taken back since; who believed it would not wait for that block.
#[test]
fn a_store_of_before_revives_nothing_that_its_copy_has_settled() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let chain = filled(&options, 4);
    let ids: Vec<BlockId> = chain.iter().map(VerifiedBlock::id).collect();
    let heads = Heads { soft: Some(chain[1].tip()), epoch: Epoch(1), ..open(&options).2.heads };
    let (mut store, reader, _) = open(&options);
    let changes = vec![Change::Truncate { from: ids[2].height, epoch: Epoch(1) }, disown(ids[2]), disown(ids[3])];
    store.commit(&Batch { id: CommitId(2), changes, heads, guard: None }).expect("it is written");
    drop((store, reader));
    let before = dir.path().join("before");
    copy_dir(&options.dir, &before);
    // DA has the one after all, and an operator settles the other.
    let (mut store, reader, _) = open(&options);
    let changes = vec![Change::Append { block: chain[2].clone(), origin: Origin::Da }, Change::Own(ids[3])];
    let later = Heads { soft: Some(chain[2].tip()), ..heads };
    store.commit(&Batch { id: CommitId(1), changes, heads: later, guard: None }).expect("it is written");
    drop((store, reader));
    assert_eq!(open(&options).2.disowned, []);

    std::fs::remove_dir_all(&options.dir).expect("the store can be wiped");
    copy_dir(&before, &options.dir);
    let (mut store, reader, recovered) = open(&options);
    assert_eq!((recovered.heads.soft_id(), recovered.disowned), (Some(ids[1]), vec![]));
    // From then on it is its own list that counts again, also without the copy.
    store.commit(&Batch { id: CommitId(1), changes: vec![disown(ids[2])], heads, guard: None }).expect("it is written");
    drop((store, reader));
    let listed = [Disowned { id: ids[2], by: DisownedBy::Da }];
    assert_eq!(open(&options).2.disowned, listed);
    std::fs::remove_file(dir.path().join("guard.disowned")).expect("there is one");
    assert_eq!(open(&options).2.disowned, listed);
}

/// A copy of the version before does not say of which commit it is: it is what either has.
#[test]
fn a_copy_of_before_is_read_and_takes_nothing_from_the_store() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let copy = dir.path().join("guard.disowned");
    let chain = filled(&options, 4);
    let ids: Vec<BlockId> = chain.iter().map(VerifiedBlock::id).collect();
    let (mut store, reader, recovered) = open(&options);
    let heads = Heads { soft: Some(chain[1].tip()), epoch: Epoch(1), ..recovered.heads };
    let changes = vec![Change::Truncate { from: ids[2].height, epoch: Epoch(1) }, disown(ids[2]), disown(ids[3])];
    store.commit(&Batch { id: CommitId(2), changes, heads, guard: None }).expect("it is written");
    drop((store, reader));
    let bytes = std::fs::read(&copy).expect("there is one");
    // The magic, the chain's id with its length, then what is new: the store's id and the commit; the number of blocks; one block.
    let stamp = 8 + 8 + blocks::rules().chain_id.as_str().len();
    let mut of_before =
        [&b"BSDISOW\x01"[..], &bytes[8..stamp], &1_u64.to_be_bytes(), &bytes[stamp + 32..][..41]].concat();
    of_before.extend(xxhash_rust::xxh3::xxh3_64(&of_before).to_be_bytes());
    std::fs::write(&copy, of_before).expect("it can be replaced");
    assert_eq!(open(&options).2.disowned.len(), 2);
    // And it is made anew.
    assert_eq!(std::fs::read(&copy).expect("there is one").len(), bytes.len());
}

/// Whatever fails, and however: the list is there before the guard falls.
#[test]
fn the_guard_does_not_fall_when_the_list_of_the_disowned_cannot_be_written() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let chain = filled(&options, 2);
    let ids: Vec<BlockId> = chain.iter().map(VerifiedBlock::id).collect();
    let (mut store, reader, recovered) = open(&options);
    let signed = GuardEntry { last: ids[1] };
    let batch = |changes: Vec<Change>, heads: Heads| Batch { id: CommitId(2), changes, heads, guard: None };
    store.commit(&batch(vec![Change::ResetGuard(Some(signed.last))], recovered.heads)).expect("it is written");
    let in_the_way = dir.path().join("guard.disowned.new");
    std::fs::create_dir(&in_the_way).expect("it can be made");
    let heads = Heads { soft: Some(chain[0].tip()), epoch: Epoch(1), ..recovered.heads };
    let abandon = vec![
        Change::Truncate { from: ids[1].height, epoch: Epoch(1) },
        disown(ids[1]),
        Change::ResetGuard(Some(ids[0])),
    ];
    assert!(store.commit(&batch(abandon, heads)).is_err());
    drop((store, reader));
    std::fs::remove_dir(in_the_way).expect("it is there");
    assert_eq!(open(&options).2.guard, GuardState::Signed(signed));
}

#[test]
fn without_a_guard_the_store_alone_has_the_disowned() {
    let dir = TempDir::in_memory();
    let options = Options { guard: None, ..options(&dir) };
    let chain = filled(&options, 1);
    let stranger = blocks::extend(None, 1, 100, 5)[0].id();
    let (mut store, reader, recovered) = open(&options);
    let batch = |changes: Vec<Change>| Batch { id: CommitId(2), changes, heads: recovered.heads, guard: None };
    store.commit(&batch(vec![disown(stranger)])).expect("it is written");
    drop((store, reader));
    let (mut store, reader, found) = open(&options);
    assert_eq!(found.disowned, [Disowned { id: stranger, by: DisownedBy::Da }]);
    store.commit(&batch(vec![Change::Own(stranger), Change::Own(chain[0].id())])).expect("it is written");
    drop((store, reader));
    assert_eq!(open(&options).2.disowned, []);
    assert!(!dir.path().join("guard.disowned").exists());
}

#[test]
fn the_guard_refuses_what_only_an_operator_may_say_and_then_nothing_is_written() {
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let path = options.guard.clone().expect("a guard");
    let chain = blocks::build_chain(3, 10);
    let twin = BlockId { hash: Hash([9; 32]), ..chain[1].id() };
    let known = GuardState::Signed(GuardEntry { last: chain[1].id() });
    let commit = |store: &mut Store, heads: Heads, last: BlockId, changes: Vec<Change>| {
        let mut batch = append(&chain[..1], heads);
        batch.changes.extend(changes);
        store.commit(&Batch { guard: Some(GuardEntry { last }), ..batch })
    };
    for (found, refused) in [(GuardState::Missing, chain[0].id()), (known, twin), (known, chain[0].id())] {
        let _ = std::fs::remove_dir_all(&options.dir);
        let _ = std::fs::remove_file(&path);
        if let GuardState::Signed(entry) = found {
            guard::create_unused(&path, &blocks::chain_id()).expect("there is none yet");
            open(&options).0.guard(entry).expect("it is written");
        }
        let (mut store, reader, recovered) = open(&options);
        assert_eq!(recovered.guard, found);
        let outcome = store.guard(GuardEntry { last: refused });
        assert!(matches!(outcome, Err(StoreError::GuardRefuses { .. })), "{outcome:?}");
        let outcome = commit(&mut store, recovered.heads, refused, vec![]);
        assert!(matches!(outcome, Err(StoreError::GuardRefuses { .. })), "{outcome:?}");
        // Not even what goes with it.
        assert_eq!(reader.snapshot().heads(), Ok(recovered.heads));
        drop((store, reader));
        let (mut store, reader, recovered) = open(&options);
        assert_eq!((recovered.guard, recovered.heads.soft), (found, None));
        // Neither is what the operator's own word does not reach.
        let above = vec![Change::ResetGuard(Some(chain[2].id()))];
        assert!(commit(&mut store, recovered.heads, refused, above).is_err());
        drop((store, reader));
        let (mut store, reader, recovered) = open(&options);
        commit(&mut store, recovered.heads, refused, vec![Change::ResetGuard(None)]).expect("it is written");
        drop((store, reader));
        assert_eq!(open(&options).2.guard, GuardState::Signed(GuardEntry { last: refused }));
    }
}

/// What is intact may be the older one of the two: the key may have signed since.
#[test]
fn a_guard_with_one_torn_slot_says_nothing() {
    const SLOTS: [usize; 2] = [0, 4096];
    let dir = TempDir::in_memory();
    let options = options(&dir);
    let path = options.guard.clone().expect("a guard");
    guard::create_unused(&path, &blocks::chain_id()).expect("there is none yet");
    let chain = blocks::build_chain(3, 10);
    for block in &chain[..2] {
        open(&options).0.guard(GuardEntry { last: block.id() }).expect("it is written");
    }
    let whole = std::fs::read(&path).expect("it reads");
    for torn in SLOTS.into_iter().flat_map(|slot| [slot, slot + 100, slot + 511]) {
        let mut bytes = whole.clone();
        bytes[torn] ^= 1;
        std::fs::write(&path, &bytes).expect("it can be damaged");
        let (mut store, _reader, recovered) = open(&options);
        assert_eq!(recovered.guard, GuardState::Missing, "byte {torn}");
        assert!(store.guard(GuardEntry { last: chain[2].id() }).is_err(), "nothing is signed");
    }
    // An operator's word makes it whole again.
    let (mut store, reader, recovered) = open(&options);
    let changes = vec![Change::ResetGuard(Some(chain[1].id()))];
    store.commit(&Batch { id: CommitId(1), changes, heads: recovered.heads, guard: None }).expect("it is written");
    drop((store, reader));
    assert_eq!(open(&options).2.guard, GuardState::Signed(GuardEntry { last: chain[1].id() }));
}

/// Each breaks one assertion of `store/apply.rs`.
#[test]
fn a_batch_that_breaks_the_chain_ends_the_process_instead_of_being_written() {
    let chain = blocks::build_chain(4, 100);
    let stranger = blocks::extend(Some(&blocks::extend(None, 1, 100, 5)[0]), 1, 100, 5);
    let [one, two, ..] = chain.as_slice() else { unreachable!("four blocks") };
    let heads = Heads { soft: Some(one.tip()), ..Heads::empty(Height::MIN) };
    let confirm =
        Change::Confirm { height: Height::MIN, position: DaPosition { height: 1, index: 0 }, basis: Basis::Bytes };
    let hard = Heads { hard: Some(one.id()), ..heads };
    let after = |changes: Vec<Change>, heads: Heads| Batch { id: CommitId(2), changes, heads, guard: None };
    let prune = Change::Prune { below: two.id().height };
    let truncate = |epoch: u64| Change::Truncate { from: Height::MIN, epoch: Epoch(epoch) };
    let broken = [
        ("a gap", append(&chain[2..3], heads)),
        ("another branch", append(&stranger, heads)),
        ("heads of another state", after(vec![], Heads { soft: Some(two.tip()), ..heads })),
        ("a rising epoch without a truncation", after(vec![], Heads { epoch: Epoch(1), ..heads })),
        ("a truncation within an epoch", after(vec![truncate(0)], Heads { soft: None, ..heads })),
        (
            "a truncation below hard",
            after(vec![confirm.clone(), truncate(1)], Heads { soft: None, epoch: Epoch(1), ..heads }),
        ),
        ("hard above soft", after(vec![], Heads { hard: Some(two.id()), ..heads })),
        ("hard without a confirmation", after(vec![], hard)),
        (
            "a confirmation of nothing",
            after(
                vec![Change::Confirm {
                    height: Height::MIN.plus(8),
                    position: DaPosition { height: 1, index: 0 },
                    basis: Basis::Bytes,
                }],
                heads,
            ),
        ),
        ("a prune up to what is not stored", after(vec![prune.clone()], Heads { tail: two.id().height, ..heads })),
        (
            "a prune above hard",
            Batch {
                changes: vec![confirm.clone(), append(&chain[1..2], heads).changes.remove(0), prune.clone()],
                heads: Heads { tail: two.id().height, base: Some(one.tip()), soft: Some(two.tip()), ..hard },
                ..after(vec![], heads)
            },
        ),
        (
            "a block below the lowest that there is",
            after(vec![Change::Prepend { block: stranger[0].clone(), origin: Origin::Range }], heads),
        ),
        ("a disowned block that is stored", after(vec![disown(one.id())], heads)),
        ("a tail that nothing led to", after(vec![], Heads { tail: two.id().height, ..heads })),
    ];
    for (what, batch) in broken {
        let dir = TempDir::in_memory();
        let options = options(&dir);
        filled(&options, 1);
        let (mut store, reader, recovered) = open(&options);
        assert_eq!(recovered.heads, heads);
        if what == "a truncation below hard" {
            store.commit(&after(vec![confirm.clone()], hard)).expect("it is written");
        }
        let expected = reader.snapshot().heads();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.commit(&batch)));
        assert!(outcome.is_err(), "{what} was accepted: {outcome:?}");
        assert_eq!(reader.snapshot().heads(), expected, "{what} was written");
    }
}
