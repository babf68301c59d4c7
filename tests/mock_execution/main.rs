//! The mock execution, as a real process, against a sidecar that follows a script: it notices every broken rule, resumes from
//! its own state, and does what each answer asks of it.

#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "a test ends with what goes wrong")]

mod api;
mod blocks;
mod da;
mod da_reports;
mod host;
mod script;
mod servers;
mod sidecar;

use blocks::{Piece, block, chain};
use blocksyncd::block::{BlockId, Hash};
use bytes::Bytes;
use host::Host;
use script::{Answer, Heard, Say, Script, Then};
use serde_json::Value;
use sidecar::Sidecar;

fn is(line: &Value, event: &str) -> bool {
    line["event"] == event
}

fn soft(blocks: &[Piece]) -> Vec<Say> {
    blocks.iter().cloned().map(Say::Soft).collect()
}

/// One stream that says this, and then nothing more.
fn says(says: Vec<Say>) -> Script {
    Script { streams: [(says, None)].into(), ..Script::default() }
}

/// What the host says of a sidecar that says this: the rule, and the height.
fn violation(script: Script, args: &[&str]) -> (String, u64) {
    let sidecar = Sidecar::start(script);
    let mut host = Host::start(&sidecar, args);
    let line = host.next("a violation", |line| is(line, "violation"));
    (line["rule"].as_str().unwrap().to_owned(), line["height"].as_u64().unwrap())
}

#[test]
fn a_sidecar_that_breaks_a_rule_is_told_on() {
    let chain = chain(4);
    let ids: Vec<BlockId> = chain.iter().map(|block| block.id).collect();
    let soft = |n: usize| Say::Soft(chain[n - 1].clone());
    let hard = |n: usize| Say::Hard(ids[n - 1]);
    let lie = |n: usize| BlockId { hash: Hash([9; 32]), ..ids[n - 1] };
    let changed = |n: usize, change: fn(&mut Piece)| {
        let mut piece = chain[n - 1].clone();
        change(&mut piece);
        Say::Soft(piece)
    };
    let cases: Vec<(&str, u64, Vec<Say>)> = vec![
        ("gap", 3, vec![soft(1), soft(3)]),
        ("gap", 2, vec![soft(2)]),
        ("gap", 2, vec![soft(1), soft(2), hard(2)]),
        ("gap", 1, vec![Say::Gap(1, 3), soft(4)]),
        ("disorder", 1, vec![soft(1), soft(2), soft(1)]),
        ("disorder", 1, vec![soft(1), hard(1), hard(1)]),
        ("hard_before_soft", 2, vec![soft(1), hard(1), hard(2), soft(2)]),
        ("hash_mismatch", 1, vec![soft(1), Say::Hard(lie(1))]),
        ("hash_mismatch", 2, vec![soft(1), changed(2, |piece| piece.id.hash.0[0] ^= 1)]),
        ("hash_mismatch", 2, vec![soft(1), changed(2, |piece| piece.payload = Bytes::from_static(b"x"))]),
        ("hard_changed", 1, vec![soft(1), hard(1), Say::Hard(lie(1))]),
        ("soft_changed", 2, vec![soft(1), soft(2), Say::Soft(block(Some(ids[0]), 2, b"other"))]),
        ("broken_link", 2, vec![soft(1), Say::Soft(block(Some(lie(1)), 2, b"other"))]),
        ("unverified", 2, vec![soft(1), changed(2, |piece| piece.signature[3] ^= 1)]),
        ("retract_below_hard", 1, vec![soft(1), soft(2), hard(1), hard(2), Say::Retract(Some(ids[0]), 1)]),
        ("disorder", 3, vec![soft(1), Say::Retract(Some(ids[2]), 1)]),
    ];
    for (rule, height, script) in cases {
        let name = format!("{script:?}");
        assert_eq!(violation(says(script), &[]), (rule.to_owned(), height), "{name}");
    }
}

#[test]
fn an_answer_with_another_block_is_told_on() {
    let script = Script { answers: [Answer::Accept, Answer::AnotherBlock].into(), ..Script::default() };
    let found = violation(script, &["--role", "sequencer", "--block-time", "1ms"]);
    assert_eq!(found, ("wrong_answer".to_owned(), 2));
}

#[test]
fn a_sidecar_that_keeps_to_the_contract_is_not() {
    let chain = chain(4);
    let other = block(Some(chain[1].id), 3, b"other");
    let script = [
        soft(&chain[..3]),
        vec![Say::Hard(chain[0].id), Say::Retract(Some(chain[1].id), 7), Say::Soft(other.clone())],
        vec![Say::Hard(chain[1].id), Say::Hard(other.id)],
    ];
    let sidecar = Sidecar::start(says(script.concat()));
    let mut host = Host::start(&sidecar, &["--until-hard", "3"]);
    let end = host.next("the end", |line| is(line, "end"));
    assert_eq!((&end["soft"], &end["hard"], &end["violations"]), (&3.into(), &3.into(), &0.into()), "{end}");
    assert_eq!(end["hard_basis"], "bytes");
    assert_eq!(end["received"]["gossip"], 41, "the sidecar's status is asked at the end: {end}");

    // Executed were the payloads of 1, 2 and the other 3; what was retracted left no trace.
    let mut state = [0; 32];
    for payload in [&chain[0].payload, &chain[1].payload, &other.payload] {
        state = Hash::of(&[&state[..], payload].concat()).0;
    }
    assert_eq!(end["state_hash"], Hash(state).to_string());
    assert!(host.wait().success());
}

#[test]
fn a_violation_makes_the_exit_code() {
    let sidecar = Sidecar::start(says(soft(&chain(3)[1..])));
    let mut host = Host::start(&sidecar, &[]);
    host.next("a violation", |line| is(line, "violation"));
    host.let_go();
    assert_eq!(host.wait().code(), Some(65));
}

#[test]
fn it_resumes_from_its_own_state_after_a_kill() {
    let chain = chain(6);
    let ids: Vec<BlockId> = chain.iter().map(|block| block.id).collect();
    let mut first = soft(&chain[..5]);
    first.extend([Say::Hard(ids[0]), Say::Hard(ids[1])]);
    let second = vec![Say::Soft(chain[5].clone()), Say::Hard(ids[2])];
    let script = Script { streams: [(first, None), (second, None)].into(), ..Script::default() };
    let sidecar = Sidecar::start(script);

    let mut host = Host::start(&sidecar, &[]);
    host.next("hard 2", |line| line["hard"] == 2);
    host.kill();
    assert_eq!(sidecar.next(Some), Heard::OpenedAtGenesis);

    let mut host = Host::start(&sidecar, &["--until-hard", "3"]);
    assert!(host.wait().success());
    let locator = [ids[4], ids[3], ids[2], ids[1]].into();
    assert_eq!(sidecar.next(Some), Heard::Resumed { locator, hard: Some(2) });
}

#[test]
fn it_names_the_block_that_it_is_asked_for() {
    let chain = chain(30);
    let ids: Vec<BlockId> = chain.iter().map(|block| block.id).collect();
    // It has no block 31, and names none twice.
    let asks = vec![Say::NameBlock(31), Say::NameBlock(12)];
    let asks_again = vec![Say::NameBlock(12), Say::Hard(ids[0])];
    let first = (soft(&chain), Some(Then::Draining));
    let script = Script { streams: [first, (asks, None), (asks_again, None)].into(), ..Script::default() };
    let sidecar = Sidecar::start(script);
    let mut host = Host::start(&sidecar, &["--until-hard", "1"]);
    assert!(host.wait().success());
    let named = |heard| match heard {
        Heard::Resumed { locator, .. } => Some(locator),
        _ => None,
    };
    let sparse = sidecar.next(named);
    assert!(!sparse.contains(&ids[11]), "{sparse:?}");
    let mut expected = sparse.clone();
    expected.insert(sparse.partition_point(|id| id.height > ids[11].height), ids[11]);
    assert_eq!(sidecar.next(named), expected);
}

#[test]
fn it_opens_again_when_the_sidecar_drains_or_goes_away() {
    let chain = chain(3);
    let stream = |n: usize, then| (vec![Say::Soft(chain[n].clone())], Some(then));
    let last = (vec![Say::Soft(chain[2].clone()), Say::Hard(chain[0].id)], None);
    let script =
        Script { streams: [stream(0, Then::Draining), stream(1, Then::Disconnect), last].into(), ..Script::default() };
    let sidecar = Sidecar::start(script);
    let mut host = Host::start(&sidecar, &["--until-hard", "1"]);
    assert!(host.wait().success());
    let newest = |heard| match heard {
        Heard::Resumed { locator, .. } => Some(locator[0]),
        _ => None,
    };
    assert_eq!(sidecar.next(newest), chain[0].id);
    assert_eq!(sidecar.next(newest), chain[1].id);
}

#[test]
fn it_waits_for_a_sidecar_that_is_not_there_yet() {
    let sidecar = Sidecar::start(says(vec![]));
    let away = sidecar.dir.join("away.sock");
    std::fs::rename(sidecar.socket(), &away).unwrap();
    let mut host = Host::start(&sidecar, &[]);
    std::fs::rename(&away, sidecar.socket()).unwrap();
    host.next("a session", |line| line["attached"] == true);
}

#[test]
fn the_end_of_standard_input_ends_it() {
    let sidecar = Sidecar::start(says(soft(&chain(2))));
    let mut host = Host::start(&sidecar, &[]);
    host.next("soft 2", |line| line["soft"] == 2);
    host.let_go();
    host.next("the end", |line| is(line, "end") && line["soft"] == 2);
    assert!(host.wait().success());
}

fn published(heard: Heard) -> Option<(u64, u64, Vec<u8>)> {
    match heard {
        Heard::Published { height, time_unix_nanos, payload } => Some((height, time_unix_nanos, payload)),
        _ => None,
    }
}

#[test]
fn a_publish_is_repeated_as_it_was_until_it_is_taken() {
    let answers = [Answer::NotReady, Answer::Overloaded, Answer::Draining, Answer::Duplicate, Answer::Accept];
    let sidecar = Sidecar::start(Script { answers: answers.into(), ..Script::default() });
    let _host = Host::start(&sidecar, &["--role", "sequencer", "--block-time", "1ms", "--blocks", "2"]);
    let first = sidecar.next(published);
    assert_eq!((first.0, first.2.len()), (1, 1024));
    for answer in &answers[1..4] {
        assert_eq!(sidecar.next(published), first, "after {answer:?}");
    }
    assert_eq!(sidecar.next(published).0, 2);
}

#[test]
fn a_publish_is_repeated_as_it_was_after_a_kill() {
    let sidecar = Sidecar::start(Script { answers: [Answer::Silence].into(), ..Script::default() });
    let args = ["--role", "sequencer", "--block-time", "1ms"];
    let mut host = Host::start(&sidecar, &args);
    let first = sidecar.next(published);
    host.kill();
    let _host = Host::start(&sidecar, &args);
    assert_eq!(sidecar.next(published), first);
}

#[test]
fn a_sequencer_makes_the_block_that_is_due() {
    let stored = chain(2);
    let script = Script { answers: [Answer::NotNext { height: 3 }].into(), stored, ..Script::default() };
    let sidecar = Sidecar::start(script);
    let _host = Host::start(&sidecar, &["--role", "sequencer", "--block-time", "1ms"]);
    assert_eq!(sidecar.next(published).0, 3);
    assert_eq!(sidecar.next(published).0, 3);
    assert_eq!(sidecar.next(published).0, 4);
}

#[test]
fn payloads_come_from_a_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chain.rlp");
    let file = std::fs::read(path).unwrap();
    let sidecar = Sidecar::start(Script::default());
    let args = ["--role", "sequencer", "--block-time", "1ms", "--blocks", "55", "--payloads", path];
    let _host = Host::start(&sidecar, &args);
    let payloads: Vec<Vec<u8>> = (0..55).map(|_| sidecar.next(published).2).collect();
    assert_eq!(payloads[..54].concat(), file);
    assert_eq!(payloads[54], payloads[0]);
}

#[test]
fn bad_command_lines_and_files_are_refused_in_one_sentence() {
    let sidecar = Sidecar::start(Script::default());
    let missing = sidecar.dir.join("missing");
    let missing = missing.to_str().unwrap();
    std::fs::write(sidecar.dir.join("state"), "another file\n").unwrap();
    for (args, code) in [
        (vec!["--block-time", "0s"], 64),
        (vec!["--da", "https://x"], 64),
        (vec!["--until-hard", "0"], 64),
        (vec!["--payloads", missing], 65),
        (vec![], 65),
    ] {
        let mut host = Host::start(&sidecar, &args);
        assert_eq!(host.wait().code(), Some(code), "{args:?}");
        assert!(!host.kill().is_empty(), "{args:?}: it says why");
    }
}
