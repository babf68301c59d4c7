//! `init` makes a home that `run` accepts, and overwrites nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::process::{TempDir, call, init_follower, init_sequencer};

#[test]
fn a_sequencers_home_is_private_whole_and_accepted() {
    let dir = TempDir::new();
    let home = dir.join("seq");
    let made = init_sequencer(&home, "demo");
    let mode = |name: &str| fs::metadata(home.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(""), 0o700);
    assert_eq!((mode("node.key"), mode("proposer.key")), (0o600, 0o600));
    assert_eq!(made["chain_id"], "demo");
    for file in made["files"].as_array().unwrap() {
        assert!(fs::exists(file.as_str().unwrap()).unwrap(), "{file} was said to be made");
    }

    let genesis = fs::read_to_string(home.join("genesis.toml")).unwrap();
    assert!(genesis.contains(made["proposer"].as_str().unwrap()), "{genesis}");

    let checked = call(["run", "--check-config", "--home", home.to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains(made["peer_id"].as_str().unwrap()), "{checked:?}");
    assert!(checked.stdout.contains("chain demo"), "{checked:?}");
    assert!(!fs::exists(home.join("data")).unwrap(), "a check makes nothing");
}

#[test]
fn the_chains_own_rules_are_chosen_when_it_is_made() {
    let dir = TempDir::new();
    let init = |name: &str, args: &[&str]| {
        let home = dir.join(name);
        let first = ["init", home.to_str().unwrap(), "--chain-id", "demo", "--sequencer"];
        (call(first.iter().chain(args).copied()), home)
    };
    let (made, home) = init("a", &["--max-block-bytes", "1MiB", "--da-evidence", "named"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let genesis = fs::read_to_string(home.join("genesis.toml")).unwrap();
    assert!(
        genesis.contains("\nmax_block_bytes = 1048576\n") && genesis.contains("\nevidence = \"named\"\n"),
        "{genesis}"
    );
    for (args, words) in [
        (["--max-block-bytes", "7"], "7 is not between"),
        (["--max-block-bytes", "much"], "a number of bytes"),
        (["--da-evidence", "hash"], "neither `block` nor `named`"),
    ] {
        let refused = init("b", &args).0;
        assert!(refused.code == Some(64) && refused.stderr.contains(words), "{refused:?}");
    }
}

#[test]
fn a_follower_copies_the_genesis_and_signs_nothing() {
    let dir = TempDir::new();
    init_sequencer(&dir.join("seq"), "demo");
    let made = init_follower(&dir.join("full"), &dir.join("seq/genesis.toml"));
    assert_eq!(made["proposer"], serde_json::Value::Null);
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    assert_eq!(read("seq/genesis.toml"), read("full/genesis.toml"));
    assert!(!fs::exists(dir.join("full/proposer.key")).unwrap());
    assert_ne!(read("seq/node.key"), read("full/node.key"));
}

#[test]
fn the_configuration_that_is_written_is_the_default_one() {
    let dir = TempDir::new();
    let home = dir.join("a");
    let home = home.to_str().unwrap();
    init_sequencer(home.as_ref(), "demo");
    let settings = |home: &str| {
        let checked = call(["run", "--check-config", "--home", home]);
        let lines = checked.stdout.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.split(" #").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>()
    };
    let with_file = settings(home);
    let text = fs::read_to_string(dir.join("a/config.toml")).unwrap();
    // With every commented line in force it still says the same.
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(setting) if setting.split_once(" = ").is_some_and(|(name, _)| !name.contains(' ')) => {
                format!("{setting}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(all.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count() > 15, "{all}");
    fs::write(dir.join("a/config.toml"), all).unwrap();
    assert_eq!(settings(home), with_file);
}

#[test]
fn nothing_is_ever_overwritten() {
    let dir = TempDir::new();
    let home = dir.join("a");
    init_sequencer(&home, "demo");
    let before = fs::read(home.join("proposer.key")).unwrap();
    let again = ["init", home.to_str().unwrap(), "--sequencer", "--chain-id", "demo"];
    call(again).refused(73, &["node.key is there already", "choose another home"]);
    // A dangling link is there, too.
    fs::remove_file(home.join("node.key")).unwrap();
    std::os::unix::fs::symlink("nowhere", home.join("node.key")).unwrap();
    call(again).refused(73, &["node.key is there already"]);
    assert_eq!(fs::read(home.join("proposer.key")).unwrap(), before);
}

#[test]
fn who_proposes_must_be_said_and_must_be_sound() {
    let dir = TempDir::new();
    let home = dir.join("a");
    let home = home.to_str().unwrap();
    let init = |args: &[&str]| call(["init", home].iter().chain(args).copied());
    init(&["--chain-id", "demo"]).refused(64, &["say who proposes"]);
    init(&["--chain-id", "no/slash", "--sequencer"]).refused(64, &["`no/slash`"]);
    init(&["--chain-id", "demo", "--proposer", "abcd"]).refused(64, &["64 hex digits"]);
    // The neutral element: any signature over anything is valid for it.
    let weak = format!("01{}", "00".repeat(31));
    init(&["--chain-id", "demo", "--proposer", &weak]).refused(64, &["weak key"]);
    init(&["--chain-id", "demo", "--sequencer", "--initial-height", "0"]).refused(64, &["begins at 1"]);
    init(&["--genesis", "/does/not/exist"]).refused(78, &["cannot read the genesis file /does/not/exist"]);
    assert_eq!(init(&["--sequencer"]).code, Some(64), "no chain id");
    assert!(!fs::exists(home).unwrap(), "nothing was made");
}
