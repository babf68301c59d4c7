//! What earlier versions wrote: their homes are in `tests/data`, and this version reads them, all of what is in them, and runs
//! on them.
//!
//! | home | what is in it |
//! |---|---|
//! | `v1/home` | a sequencer's: blocks 3 to 8 (1 and 2 pruned), hard up to 5, a branch taken back, sightings of all kinds, a schedule entry, an acknowledgement, evidence, a veto; guard, mark, `peers.json`, settings |
//! | `v1/halted` | a follower's: blocks 1 to 4, damage took 5 and 6 of which 5 was hard, and publishing is halted |
//!
//! `cargo test --test process -- --ignored writes_homes` writes them anew, as this version does, below [`WRITES`], and never
//! over some that are there: a version that writes something else writes homes of its own, and goes on reading the older
//! ones. What is asserted is what the homes say, not their bytes. Git keeps neither modes nor empty directories: [`copied`]
//! puts both right.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use blocksyncd::block::{BlockId, Hash, Height, PublicKey};
use blocksyncd::store::{Durability, Options, Reader, Snapshot, Store, StoreError, guard};
use blocksyncd::sync::{
    Basis, Batch, Change, CommitId, Confirmation, DaEvidence, DaPosition, DataLoss, Epoch, Evidence, EvidenceId,
    EvidenceSide, GuardEntry, GuardState, Halt, Heads, Name, Origin, Recovered, Seen, SeenBlock, Sighting,
};
use blocksyncd::util::hex;
use blocksyncd::verify::{Rules, Schedule, ScheduleEntry, VerifiedBlock};
use bytes::Bytes;
use serde_json::{Value, json};

use super::blocks;
use super::copy_dir::copy_dir;
use super::process::{Sidecar, TempDir, blocksyncd, call, run};

/// Where this version writes its homes.
const WRITES: &str = "v1";

/// A persistent peer that the operator added, and where it is: nobody listens there.
const PEER: &str = "12D3KooWQXohvR3DfiSdYJayrL8g26cumUcu8wRstV3t8Lbdrfrd";
const BANNED: &str = "192.0.2.0/24";
/// In seconds since the Unix epoch.
const YEAR_2500: u64 = 16_725_225_600;

fn data(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(version)
}

fn height(height: u64) -> Height {
    Height::new(height).unwrap()
}

fn position(height: u64, index: u32) -> DaPosition {
    DaPosition { height, index }
}

/// What both chains have.
fn chain() -> Vec<VerifiedBlock> {
    blocks::build_chain(8, 300)
}

/// The branch that was taken back: other blocks at 7 and 8.
fn branch() -> Vec<VerifiedBlock> {
    blocks::extend(chain().get(5), 2, 300, 1)
}

fn tip_of(block: &VerifiedBlock) -> Heads {
    Heads { soft: Some(block.tip()), ..Heads::empty(Height::MIN) }
}

fn new_proposer() -> ScheduleEntry {
    let proposer = PublicKey::from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
    ScheduleEntry { from: height(100), proposer }
}

/// Nothing is known of block 6, so none of them is judged.
fn sightings() -> Vec<Sighting> {
    let sighting = |at, number, what| Sighting { position: at, height: height(number), what };
    let proof_of_nothing = Bytes::from_static(b"rollup id of 8");
    let block = blocks::next(chain().get(5), 300, 0);
    let seen = SeenBlock { digest: Hash::of(block.block().bytes()), block };
    vec![
        sighting(position(16, 0), 7, Seen::Block(seen)),
        sighting(position(17, 2), 8, Seen::Named(Name::Block(chain()[7].id().hash))),
        sighting(position(18, 0), 8, Seen::Named(Name::HostId(proof_of_nothing))),
        sighting(position(18, 1), 9, Seen::Named(Name::Payload(chain()[0].id().hash))),
    ]
}

fn vetoed() -> BlockId {
    BlockId { height: height(9), hash: branch()[0].id().hash }
}

fn halt() -> Halt {
    let ours = chain()[5].id();
    Halt::Diverged { ours, da: BlockId { hash: branch()[0].id().hash, ..ours }, position: position(21, 3) }
}

fn options(home: &Path, guard: Option<&str>) -> Options {
    Options {
        dir: home.join("data"),
        guard: guard.map(|name| home.join(name)),
        durability: Durability::Process,
        cache_bytes: 1 << 20,
        max_evidence: 16,
        da_evidence: DaEvidence::Block,
    }
}

fn open(options: &Options) -> (Store, Reader, Recovered) {
    Store::open(options, &blocks::rules()).unwrap()
}

/// A copy of a home that can be opened, and run.
fn copied(version: &str, name: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new();
    let home = dir.join("h");
    copy_dir(&data(version).join(name), &home);
    for entry in fs::read_dir(home.join("data/store/keyspaces")).unwrap() {
        fs::create_dir_all(entry.unwrap().path().join("tables")).unwrap();
    }
    for secret in ["node.key", "proposer.key", "proposer.key.guard"] {
        if home.join(secret).exists() {
            fs::set_permissions(home.join(secret), fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
    (dir, home)
}

fn assert_blocks(snapshot: &Snapshot, stored: std::ops::RangeInclusive<u64>) {
    snapshot.verify(|_| true).unwrap();
    for (number, block) in (1..).zip(chain()) {
        let found = snapshot.block(height(number)).unwrap().map(|(block, _)| block);
        assert_eq!(found, stored.contains(&number).then(|| block.block().clone()), "{number}");
    }
}

#[test]
fn a_store_of_version_1_says_what_it_said() {
    let (_dir, home) = copied("v1", "home");
    let (store, reader, recovered) = open(&options(&home, Some("proposer.key.guard")));
    let chain = chain();
    let heads = Heads {
        tail: height(3),
        base: Some(chain[1].tip()),
        hard: Some(chain[4].id()),
        epoch: Epoch(1),
        scanned_through: 20,
        evidence: EvidenceId(1),
        ..tip_of(&chain[7])
    };
    assert_eq!(recovered.heads, heads);
    let mut found = recovered.sightings;
    found.sort_by_key(|sighting| sighting.position);
    assert_eq!(found, sightings());
    assert_eq!((recovered.schedule, recovered.vetoed), (vec![new_proposer()], Some(vetoed())));
    assert_eq!((recovered.halted, recovered.anchor), (None, None));
    assert_eq!(recovered.consumers, [("indexer".to_owned(), chain[4].id())]);
    assert_eq!(recovered.evidence.iter().map(|evidence| evidence.height).collect::<Vec<_>>(), [height(7)]);
    assert_eq!(recovered.guard, GuardState::Signed(GuardEntry { last: chain[7].id() }));
    let weight = chain[2..].iter().map(|block| block.block().bytes().len() as u64).sum::<u64>();
    assert_eq!((recovered.stored_bytes, store.stored_bytes()), (weight, weight));

    let snapshot = reader.snapshot();
    assert_blocks(&snapshot, 3..=8);
    let origins = [3, 8].map(|number| snapshot.block(height(number)).unwrap().map(|(_, origin)| origin));
    assert_eq!(origins, [Some(Origin::Range), Some(Origin::Published)]);
    assert_eq!(
        snapshot.confirmation(height(5)),
        Ok(Some(Confirmation { position: position(15, 0), basis: Basis::Bytes }))
    );
    assert_eq!(snapshot.retracted_since(Epoch(0)), Ok(Some(height(7))));
    let [evidence] = <[Evidence; 1]>::try_from(snapshot.evidence(EvidenceId(0), 9).unwrap()).unwrap();
    assert_eq!(evidence.first, EvidenceSide::Carried(branch()[0].block().signed_header()));
    assert_eq!(evidence.second, chain[6].block().signed_header());
}

/// It does not say who proposed first: its blocks do. Nor what the chain's rules are.
#[test]
fn a_store_of_version_1_is_not_opened_for_another_genesis() {
    let (_dir, home) = copied("v1", "home");
    let rules = |from: u64, proposer: PublicKey| {
        let entry = ScheduleEntry { from: height(from), proposer };
        let schedule = Schedule::new(height(from), &[entry]).unwrap();
        Rules { initial_height: height(from), schedule, ..blocks::rules() }
    };
    let options = options(&home, Some("proposer.key.guard"));
    for (rules, differs) in [
        (rules(2, blocks::public_key()), "initial_height"),
        (rules(1, new_proposer().proposer), "a block of the proposer"),
    ] {
        let refused = Store::open(&options, &rules).err();
        assert!(matches!(refused, Some(StoreError::OtherGenesis { what, .. }) if what == differs), "{refused:?}");
    }
    // Opened once, it says it itself, and what it did not say before.
    open(&options);
    let named = Options { da_evidence: DaEvidence::Named, ..options.clone() };
    let refused = Store::open(&named, &blocks::rules()).err();
    assert!(matches!(refused, Some(StoreError::OtherGenesis { what: "da.evidence", .. })), "{refused:?}");
    let refused = Store::open(&options, &rules(1, new_proposer().proposer)).err();
    assert!(matches!(refused, Some(StoreError::OtherGenesis { what: "the first proposer", .. })), "{refused:?}");
}

#[test]
fn a_damaged_and_halted_store_of_version_1_says_what_it_said() {
    let (_dir, home) = copied("v1", "halted");
    let (_store, reader, recovered) = open(&options(&home, None));
    let chain = chain();
    let lost = Some(DataLoss { from: height(5), to: height(6) });
    let heads = recovered.heads;
    assert_eq!((heads.soft, heads.hard, heads.lost), (Some(chain[3].tip()), None, lost));
    assert_eq!(recovered.anchor.map(|anchor| (anchor.id, anchor.position)), Some((chain[4].id(), position(15, 0))));
    assert_eq!(recovered.halted, Some(halt()));
    assert_blocks(&reader.snapshot(), 1..=4);
}

#[test]
fn the_program_runs_on_a_home_of_version_1() {
    let (_dir, home) = copied("v1", "home");
    let sidecar = Sidecar::start(&home, &[]);
    let status = sidecar.ask(&["status"]);
    let at = |number: usize| {
        let id = chain()[number - 1].id();
        json!({ "height": id.height.get(), "hash": id.hash.to_string() })
    };
    let heads = &status["info"]["heads"];
    assert_eq!((&heads["soft"], &heads["hard"], &heads["tail"]), (&at(8), &at(5), &3.into()), "{status}");
    // What hosts named counts for nothing any more on a chain whose DA is told by bytes: it is to be reported again.
    assert_eq!((&heads["scannedThrough"], &status["pendingSightings"]), (&16.into(), &1.into()), "{status}");
    let answer = run(blocksyncd().args(["ctl", "--json", "peers", "--home"]).arg(&home));
    let rows: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let peer = rows.iter().find(|row| row["peerId"] == PEER).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!(peer["persistent"], true);
    let ban = rows.iter().find(|row| row["banned"] == BANNED).unwrap_or_else(|| panic!("{rows:?}"));
    assert_eq!((&ban["reason"], &ban["byOperator"]), (&"seen before".into(), &true.into()));
    let consumers = sidecar.ask(&["consumers"]);
    assert_eq!(consumers["name"], "indexer");
    sidecar.stop();
}

/// Each setting that there was, with a value that is not its default.
#[test]
fn every_setting_of_version_1_is_still_one() {
    let (_dir, home) = copied("v1", "home");
    let every = home.join("every.toml");
    let checked =
        call(["run", "--check-config", "--home", home.to_str().unwrap(), "--config", every.to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    for said in ["retain_blocks = 1000", "mode = \"open\"", "format = \"json\"", "listen = [\"/ip4/127.0.0.1/tcp/0\"]"]
    {
        assert!(checked.stdout.contains(said), "`{said}` is not said: {checked:?}");
    }
}

// ---- The homes are written ------------------------------------------------------------------------------------------

#[test]
#[ignore = "writes into the tree; see the top of this file"]
fn writes_homes() {
    let data = data(WRITES);
    assert!(!data.exists(), "{} is there, and is read by what comes later: name another version", data.display());
    let dir = TempDir::new();
    for (name, signs) in [("home", true), ("halted", false)] {
        let home = dir.join(name);
        init(&home, signs);
        if signs {
            write_store(&home);
            write_peers(&home);
            write_every_setting(&home);
        } else {
            write_halted_store(&home);
        }
        copy_dir(&home, &data.join(name));
    }
}

fn init(home: &Path, signs: bool) {
    let proposer = blocks::public_key().to_string();
    let mut args = vec!["init", home.to_str().unwrap(), "--chain-id", "test-chain", "--proposer", &proposer];
    args.extend(signs.then_some("--host-signs"));
    assert_eq!(call(args).code, Some(0));
    let config = fs::read_to_string(home.join("config.toml")).unwrap();
    let mut config = config.replace("# discovery = \"on\"", "discovery = \"off\"");
    if signs {
        config = config.replace("guard = \"signer.guard\"", "key = \"proposer.key\"");
        fs::remove_file(home.join("signer.guard")).unwrap();
        let seed = hex::encode(&blocks::signing_key().to_bytes());
        fs::write(home.join("proposer.key"), format!("{seed}\n")).unwrap();
        fs::set_permissions(home.join("proposer.key"), fs::Permissions::from_mode(0o600)).unwrap();
        guard::create_unused(&home.join("proposer.key.guard"), &blocks::chain_id()).unwrap();
    }
    fs::write(home.join("config.toml"), config).unwrap();
}

fn append(block: &VerifiedBlock, origin: Origin) -> Change {
    Change::Append { block: block.clone(), origin }
}

fn confirm(number: u64) -> Change {
    Change::Confirm { height: height(number), position: position(10 + number, 0), basis: Basis::Bytes }
}

fn write_store(home: &Path) {
    let (mut store, reader, _) = open(&options(home, Some("proposer.key.guard")));
    let (chain, branch) = (chain(), branch());
    let mut changes: Vec<Change> = chain[..6].iter().map(|block| append(block, Origin::Range)).collect();
    changes.extend(branch.iter().map(|block| append(block, Origin::Gossip)));
    changes.extend((1..=5).map(confirm));
    let heads = Heads { hard: Some(chain[4].id()), scanned_through: 15, ..tip_of(&branch[1]) };
    store.commit(&Batch { id: CommitId(1), changes, heads, guard: None }).unwrap();

    let evidence = Evidence {
        id: EvidenceId(1),
        height: height(7),
        first: EvidenceSide::Carried(branch[0].block().signed_header()),
        second: chain[6].block().signed_header(),
    };
    let mut changes = vec![
        Change::Evidence(evidence),
        Change::Truncate { from: height(7), epoch: Epoch(1) },
        append(&chain[6], Origin::Published),
        append(&chain[7], Origin::Published),
        Change::Schedule(new_proposer()),
        Change::Veto(Some(vetoed())),
        Change::Ack { consumer: "gone".to_owned(), up_to: chain[1].id() },
        Change::ForgetConsumer("gone".to_owned()),
        Change::Ack { consumer: "indexer".to_owned(), up_to: chain[4].id() },
        Change::Prune { below: height(3) },
    ];
    changes.extend(sightings().into_iter().map(Change::KeepSighting));
    let heads = Heads {
        tail: height(3),
        base: Some(chain[1].tip()),
        soft: Some(chain[7].tip()),
        epoch: Epoch(1),
        scanned_through: 20,
        evidence: EvidenceId(1),
        ..heads
    };
    let guard = Some(GuardEntry { last: chain[7].id() });
    store.commit(&Batch { id: CommitId(2), changes, heads, guard }).unwrap();
    drop((store, reader));
}

/// The database is older than its mark by the last write.
fn write_halted_store(home: &Path) {
    let options = options(home, None);
    let (chain, older) = (chain(), home.join("older"));
    let (mut store, reader, _) = open(&options);
    let changes = chain[..4].iter().map(|block| append(block, Origin::Da)).collect();
    store.commit(&Batch { id: CommitId(1), changes, heads: tip_of(&chain[3]), guard: None }).unwrap();
    drop((store, reader));
    copy_dir(&options.dir.join("store"), &older);
    let (mut store, reader, _) = open(&options);
    let mut changes: Vec<Change> = chain[4..6].iter().map(|block| append(block, Origin::Da)).collect();
    changes.extend((1..=5).map(confirm));
    let heads = Heads { hard: Some(chain[4].id()), ..tip_of(&chain[5]) };
    store.commit(&Batch { id: CommitId(2), changes, heads, guard: None }).unwrap();
    drop((store, reader));
    fs::remove_dir_all(options.dir.join("store")).unwrap();
    fs::rename(older, options.dir.join("store")).unwrap();
    let (mut store, reader, recovered) = open(&options);
    let changes = vec![Change::Halt(Some(halt()))];
    store.commit(&Batch { id: CommitId(3), changes, heads: recovered.heads, guard: None }).unwrap();
    drop((store, reader));
}

fn write_peers(home: &Path) {
    let sidecar = Sidecar::start(home, &[]);
    let address = format!("/ip4/127.0.0.1/tcp/9/p2p/{PEER}");
    for order in
        [["peer", "add", &address].as_slice(), &["peer", "ban", BANNED, "--for", "365days", "--reason", "seen before"]]
    {
        let ended = sidecar.ctl(order);
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    sidecar.stop();
    // The longest ban that an operator can order would end before this is read.
    let book = home.join("data/peers.json");
    let mut peers: Value = serde_json::from_str(&fs::read_to_string(&book).unwrap()).unwrap();
    peers["bans"][0]["until"] = YEAR_2500.into();
    fs::write(&book, peers.to_string()).unwrap();
    for entry in fs::read_dir(home).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("stderr.") || name.starts_with("api.sock") {
            fs::remove_file(path).unwrap();
        }
    }
}

fn write_every_setting(home: &Path) {
    let address = format!("/ip4/127.0.0.1/tcp/9/p2p/{PEER}");
    let persistent = format!("p2p.persistent={address}");
    let seeds = format!("p2p.seeds={address}");
    let from = format!("sync.from={}", chain()[2].id());
    let set = [
        "shutdown_grace=11s",
        "chain.genesis=genesis.toml",
        "p2p.listen=/ip4/127.0.0.1/tcp/0",
        &seeds,
        "p2p.announce=/dns4/peer.example/tcp/7676",
        &persistent,
        "p2p.mode=open",
        "p2p.allow=127.0.0.0/8",
        "p2p.deny=192.0.2.1",
        "p2p.max_inbound=3",
        "p2p.max_outbound=2",
        "p2p.min_outbound=1",
        "p2p.discovery=off",
        "p2p.max_pending=31",
        "p2p.max_per_peer=1",
        "p2p.max_per_ip=7",
        "p2p.max_per_subnet=15",
        "p2p.serve_rate=127MiB",
        "p2p.serve_burst=255MiB",
        "p2p.serve_min_rate=31KiB",
        "p2p.node_key=node.key",
        "api.socket=other.sock",
        "api.allow_uids=12345",
        "api.max_connections=31",
        "store.dir=data",
        "store.durability=process",
        "store.cache_bytes=8MiB",
        "store.reserve_bytes=255MiB",
        "store.retain_blocks=1000",
        "store.max_bytes=1GiB",
        "store.prune_unconfirmed=on",
        "limits.memory_bytes=3GiB",
        "limits.max_block_bytes=4MiB",
        "sync.on_divergence=halt",
        &from,
        "sync.backfill=off",
        "sync.block_time=2s",
        "sync.max_clock_drift=9s",
        "signer.key=proposer.key",
        "signer.guard=proposer.key.guard",
        "log.filter=warn",
        "log.format=json",
    ];
    let mut command = blocksyncd();
    command.args(["run", "--check-config", "--home"]).arg(home);
    for setting in set {
        command.args(["--set", setting]);
    }
    let described = run(&mut command);
    assert_eq!(described.code, Some(0), "{described:?}");
    // As a person writes it: numbers are numbers, and nothing says where they came from.
    let plain = |line: &str| {
        let line = line.split(" #").next().unwrap_or_default().trim_end();
        match line.split_once(" = \"") {
            Some((key, value)) if value.trim_end_matches('"').parse::<u64>().is_ok() => {
                format!("{key} = {}", value.trim_end_matches('"'))
            }
            _ => line.to_owned(),
        }
    };
    let lines = described.stdout.lines().skip_while(|line| line.starts_with('#') || line.is_empty());
    let settings: Vec<String> = lines.take_while(|line| !line.starts_with("# Memory")).map(plain).collect();
    fs::write(home.join("every.toml"), settings.join("\n")).unwrap();
}
