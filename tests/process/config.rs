//! `run` fails closed: one line that says what is wrong, and the right exit code, before anything is opened. Later layers of
//! settings win.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::process::{Ended, TempDir, blocksyncd, init_sequencer, run};

/// The home of a sequencer, to be spoilt.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        let dir = TempDir::new();
        init_sequencer(&dir.join("h"), "demo");
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("h")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    /// `run`, without `--check-config`: what is wrong must be found before anything is made.
    fn run(&self, args: &[&str], env: &[(&str, &str)]) -> Ended {
        let ended = run(blocksyncd().arg("run").arg("--home").arg(self.path()).args(args).envs(env.iter().copied()));
        assert!(!fs::exists(self.file("data")).unwrap(), "the store was opened: {ended:?}");
        assert!(!fs::exists(self.file("api.sock")).unwrap(), "the socket was opened: {ended:?}");
        ended
    }

    fn check(&self, args: &[&str], env: &[(&str, &str)]) -> Ended {
        let args: Vec<_> = ["--check-config"].iter().chain(args).copied().collect();
        self.run(&args, env)
    }
}

#[test]
fn without_a_home() {
    run(blocksyncd().arg("run")).refused(64, &["--home DIR", "blocksyncd init DIR"]);
    run(blocksyncd().args(["run", "--home", "/does/not/exist"])).refused(78, &["there is no home /does/not/exist"]);
    run(blocksyncd().args(["run", "--config", "/does/not/exist.toml"])).refused(78, &["there is no home /does/not"]);
    run(blocksyncd().args(["run", "--home", "/dev/null"])).refused(78, &["not a directory"]);
    let home = Home::new();
    home.run(&["--config", "/does/not/exist"], &[]).refused(78, &["cannot read the configuration /does/not/exist"]);
}

#[test]
fn wrong_command_lines() {
    for args in [&["run", "--frobnicate"][..], &["fly"], &[], &["ctl", "--home", "/", "get"]] {
        assert_eq!(run(blocksyncd().args(args)).code, Some(64), "{args:?}");
    }
    for args in [&["--help"][..], &["--version"], &["run", "--help"]] {
        assert_eq!(run(blocksyncd().args(args)).code, Some(0), "{args:?}");
    }
}

#[test]
fn what_cannot_be_printed_is_said() {
    let home = Home::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (path, other) = (home.path(), home.dir.join("other"));
    let check = ["run", "--check-config", "--home", path.to_str().unwrap()];
    let init = ["init", other.to_str().unwrap(), "--chain-id", "demo", "--sequencer"];
    for args in [&check[..], &init, &["ctl", "schema"]] {
        let ended = blocksyncd().args(args).stdout(full()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.code() == Some(74) && said.starts_with("blocksyncd: cannot print: "), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn the_genesis_file() {
    let home = Home::new();
    let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let proposer = |key: &str| format!("[[proposers]]\nfrom_height = 1\npublic_key = \"{key}\"\n");
    let weak = format!("01{}", "00".repeat(31));
    let chain = "chain_id = \"demo\"\ninitial_height = 1\n";
    for (text, words) in [
        (format!("initial_height = 1\n{}", proposer(key)), &["chain_id"][..]),
        (format!("chain_id = \"\"\ninitial_height = 1\n{}", proposer(key)), &["1 to 64 characters"]),
        (format!("chain_id = \"a/b\"\ninitial_height = 1\n{}", proposer(key)), &["`a/b`"]),
        (format!("chain_id = \"demo\"\n{}", proposer(key)), &["initial_height"]),
        (format!("chain_id = \"demo\"\ninitial_height = 0\n{}", proposer(key)), &["heights begin at 1"]),
        (chain.to_owned(), &["nobody may propose"]),
        (format!("{chain}{}", proposer(&weak)), &["weak key"]),
        (format!("{chain}{}", proposer("beef")), &["`beef`", "64 hex digits"]),
        (format!("{chain}{}{}", proposer(key), proposer(key)), &["not above the entry before it"]),
        (format!("chain_id = \"demo\"\ninitial_height = 5\n{}", proposer(key)), &["initial height 5"]),
        (format!("{chain}colour = \"red\"\n{}", proposer(key)), &["line 3", "colour"]),
        (format!("{chain}max_block_bytes = 10\n{}", proposer(key)), &["max_block_bytes", "10 is not between"]),
        (format!("{chain}max_block_bytes = \"8MiB\"\n{}", proposer(key)), &["line 3", "invalid type"]),
        (format!("{chain}[da]\nevidence = \"hash\"\n{}", proposer(key)), &["`hash` is neither `block` nor `named`"]),
        (format!("{chain}[da]\nproof = 1\n{}", proposer(key)), &["line 4", "proof"]),
        ("chain_id = ".to_owned(), &["line 1"]),
        ("x".repeat((1 << 20) + 1), &["larger than 1 MiB"]),
    ] {
        home.write("genesis.toml", &text);
        home.run(&[], &[]).refused(78, &[&["genesis"], words].concat());
    }
    fs::write(home.file("genesis.toml"), b"chain_id = \"\xff\"").unwrap();
    home.run(&[], &[]).refused(78, &["not UTF-8"]);
    fs::remove_file(home.file("genesis.toml")).unwrap();
    home.run(&[], &[]).refused(78, &["cannot read the genesis file"]);
}

/// The block size is the chain's rule: a node may take less, never more. A file of before there was such a rule means 8 MiB.
#[test]
fn a_node_takes_no_larger_blocks_than_its_chain() {
    let home = Home::new();
    let made = fs::read_to_string(home.file("genesis.toml")).unwrap();
    assert!(made.contains("\nmax_block_bytes = 8388608\n") && made.contains("[da]\nevidence = \"block\"\n"), "{made}");
    let old: String = made
        .lines()
        .filter(|line| !["max_b", "[da]", "evide"].iter().any(|new| line.starts_with(new)))
        .fold(String::new(), |all, line| all + line + "\n");
    for genesis in [made.clone(), old.clone()] {
        home.write("genesis.toml", &genesis);
        let checked = home.check(&[], &[]);
        assert!(checked.stdout.contains("blocks of at most 8 MiB, DA evidence `block`"), "{checked:?}");
        assert_eq!(home.check(&["--set", "limits.max_block_bytes=8MiB"], &[]).code, Some(0));
        home.check(&["--set", "limits.max_block_bytes=9MiB"], &[])
            .refused(78, &["`limits.max_block_bytes` (command line)", "9 MiB is more than the 8 MiB", "genesis file"]);
    }
    home.write("genesis.toml", &made.replace("8388608", "1048576").replace("\"block\"", "\"named\""));
    let checked = home.check(&[], &[]);
    assert!(checked.stdout.contains("blocks of at most 1 MiB, DA evidence `named`"), "{checked:?}");
    home.check(&["--set", "limits.max_block_bytes=2MiB"], &[]).refused(78, &["2 MiB is more than the 1 MiB"]);
    let less = ["--set", "limits.max_block_bytes=512KiB"];
    let warned = |args: &[&str]| home.check(args, &[]).stdout.contains("wait for every block of its key");
    assert!(warned(&less) && !warned(&[&less[..], &["--set", "signer.key="]].concat()));
    home.check(&["--set", "p2p.node_key=proposer.key"], &[]).refused(78, &["the proposer's key, too"]);
}

#[test]
fn nothing_below_the_chains_first_height_is_trusted() {
    let home = Home::new();
    let genesis = fs::read_to_string(home.file("genesis.toml")).unwrap();
    home.write(
        "genesis.toml",
        &genesis.replace("initial_height = 1", "initial_height = 5").replace("from_height = 1", "from_height = 5"),
    );
    let from = |height: u64| format!("sync.from={height}/{}", "ab".repeat(32));
    home.run(&["--set", &from(4)], &[]).refused(78, &["`sync.from`", "begins at height 5, above 4"]);
    assert_eq!(home.check(&["--set", &from(5)], &[]).code, Some(0));
    for (da, words) in
        [("", "neither"), ("x", "neither"), ("-1", "neither"), ("9223372036854775808", "DA heights are below")]
    {
        home.run(&["--set", &format!("{}@{da}", from(5))], &[]).refused(78, &["`sync.from`", words]);
    }
    for da in [0, 1, (1_u64 << 63) - 1] {
        assert_eq!(home.check(&["--set", &format!("{}@{da}", from(5))], &[]).code, Some(0), "{da}");
    }
}

#[test]
fn settings_that_are_wrong_are_named_with_their_place() {
    let home = Home::new();
    for (text, words) in [
        ("colour = 1", &["line 1", "no setting `colour`"][..]),
        ("[p2p]\n\nlisten_on = []", &["line 3", "`p2p.listen_on`", "was `p2p.listen` meant?"]),
        ("[log]\n\np2p.seeds = []", &["line 3", "below [log]", "`p2p` is written below [p2p]"]),
        ("[peer2peer]\nlisten = []", &["no setting `peer2peer`"]),
        ("[p2p.listen]\nx = 1", &["`p2p.listen`", "must be a list"]),
        ("p2p = 3", &["no setting `p2p`"]),
        ("[p2p]\nlisten = \"x\"", &["must be a list"]),
        ("[p2p]\nlisten = [\"localhost:7676\"]", &["`p2p.listen`", "line 2", "`localhost:7676` is no multiaddr"]),
        ("[p2p]\nlisten = [\"/ip4/127.0.0.1/udp/1\"]", &["cannot be used"]),
        ("[p2p]\nlisten = [\"/dns/example.org/tcp/1\"]", &["names a host"]),
        ("[p2p]\nseeds = [\"/ip4/127.0.0.1/tcp/0\"]", &["`p2p.seeds`", "port 0"]),
        ("[p2p]\nlisten = []", &["could never meet a peer"]),
        ("[sync]\nblock_time = 1", &["`sync.block_time`", "\"200ms\""]),
        ("[sync]\nblock_time = \"0s\"", &["between 1ms and 1h"]),
        ("[sync]\non_divergence = \"hope\"", &["\"follow\", \"halt\""]),
        ("[store]\ndurability = \"none\"", &["\"power\", \"process\""]),
        ("[store]\ncache_bytes = \"8 bits\"", &["\"8MiB\""]),
        ("[store]\nretain_blocks = 0", &["`store.retain_blocks`", "at least one block"]),
        ("[store]\nmax_bytes = \"8MiB\"", &["`store.max_bytes`", "two blocks of limits.max_block_bytes"]),
        ("[store]\nprune_unconfirmed = \"on\"", &["`store.prune_unconfirmed`", "says how much is kept"]),
        ("[store]\nretain_blocks = 9\n[sync]\nbackfill = \"on\"", &["`sync.backfill`", "would be pruned again"]),
        ("[sync]\nfrom = \"12\"", &["`sync.from`", "\"12\" is neither `genesis`, nor HEIGHT/HASH@DA"]),
        ("[sync]\nfrom = \"0/00\"", &["neither"]),
        ("[api]\nmax_connections = 0", &["between 1 and 1024"]),
        ("[api]\nmax_connections = -1", &["whole number"]),
        ("[api]\nallow_uids = [\"root\"]", &["`root` is not a number"]),
        ("[limits]\nmax_block_bytes = 10", &["`limits.max_block_bytes`", "10 is not between"]),
        (
            "[api]\nmax_connections = 1024\n[limits]\nmax_block_bytes = \"64KiB\"\nmemory_bytes = \"256MiB\"",
            &["the API", "at least"],
        ),
        ("[limits]\nmemory_bytes = \"16MiB\"", &["`limits.memory_bytes`", "16 MiB is too small", "at least"]),
        ("[log]\nfilter = \"blocksyncd=loud\"", &["`log.filter`", "not a log filter"]),
        ("[log]\nformat = \"xml\"", &["\"auto\", \"text\", \"json\""]),
        ("[chain\n", &["line 1", "not TOML"]),
        ("shutdown_grace = \"1s\"\nshutdown_grace = \"2s\"", &["line 2", "not TOML"]),
    ] {
        home.write("config.toml", text);
        home.run(&[], &[]).refused(78, words);
    }
    let long = format!("[api]\nsocket = \"{}\"", "s".repeat(120));
    home.write("config.toml", &long);
    home.run(&[], &[]).refused(78, &["`api.socket`", "the system allows 107"]);
}

#[test]
fn key_files_are_for_nobody_else() {
    let home = Home::new();
    let chmod = |name: &str, mode| fs::set_permissions(home.file(name), fs::Permissions::from_mode(mode)).unwrap();
    for (name, what) in [("node.key", "node key"), ("proposer.key", "proposer key")] {
        for mode in [0o644, 0o640, 0o604, 0o660] {
            chmod(name, mode);
            home.run(&[], &[]).refused(78, &[what, "can be read by others", "chmod 600", &format!("{mode:04o}")]);
        }
        chmod(name, 0o400);
        assert_eq!(home.check(&[], &[]).code, Some(0));

        chmod(name, 0o600);
        let good = fs::read_to_string(home.file(name)).unwrap();
        for bad in ["", "beef\n", &format!("{}\n\n", "g".repeat(64)), &format!("{}00", good.trim_end())] {
            home.write(name, bad);
            home.run(&[], &[]).refused(78, &[what, "64 hex digits"]);
        }
        home.write(name, &good);

        fs::rename(home.file(name), home.file("aside")).unwrap();
        std::os::unix::fs::symlink("aside", home.file(name)).unwrap();
        home.run(&[], &[]).refused(78, &[what, "symbolic link"]);
        fs::remove_file(home.file(name)).unwrap();
        fs::create_dir(home.file(name)).unwrap();
        home.run(&[], &[]).refused(78, &[what, "not a regular file"]);
        fs::remove_dir(home.file(name)).unwrap();
        home.run(&[], &[]).refused(78, &[what, "cannot read"]);
        fs::rename(home.file("aside"), home.file(name)).unwrap();
    }
    assert_eq!(home.check(&[], &[]).code, Some(0));
}

#[test]
fn a_credential_of_systemd_may_have_a_group_and_keeps_no_guard() {
    let home = Home::new();
    let credentials = home.dir.join("credentials");
    let key = credentials.join("proposer.key");
    fs::create_dir(&credentials).unwrap();
    fs::rename(home.file("proposer.key"), &key).unwrap();
    let chmod = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    let signer = format!("signer.key={}", key.display());
    let guarded = ["--set", signer.as_str(), "--set", "signer.guard=proposer.key.guard"];
    let env = [("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap())];

    // A mask shows as the rights of a group.
    chmod(0o440);
    assert_eq!(home.check(&guarded, &env).code, Some(0));
    home.run(&guarded, &[]).refused(78, &["proposer key", "can be read by others"]);
    home.run(&guarded, &[("CREDENTIALS_DIRECTORY", home.dir.path().to_str().unwrap())]).refused(78, &["by others"]);
    chmod(0o444);
    home.run(&guarded, &env).refused(78, &["proposer key", "can be read by others"]);

    // Beside the key it would be gone at the next start.
    chmod(0o400);
    home.run(&["--set", &signer], &env).refused(78, &["`signer.guard` (default)", "a file that stays"]);
}

#[test]
fn the_command_line_beats_the_environment_beats_the_file_beats_the_default() {
    let home = Home::new();
    let grace = |ended: &Ended| {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = ended.stdout.lines().find(|line| line.starts_with("shutdown_grace")).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    home.write("config.toml", "");
    assert_eq!(grace(&home.check(&[], &[])), "shutdown_grace = \"10s\" # default");
    home.write("config.toml", "\nshutdown_grace = \"2s\"");
    let file = format!("shutdown_grace = \"2s\" # {} line 2", home.file("config.toml").display());
    assert_eq!(grace(&home.check(&[], &[])), file);
    let env = [("BLOCKSYNCD_SHUTDOWN_GRACE", "3s")];
    let from_env = "shutdown_grace = \"3s\" # environment BLOCKSYNCD_SHUTDOWN_GRACE";
    assert_eq!(grace(&home.check(&[], &env)), from_env);
    let flag = grace(&home.check(&["--set", "shutdown_grace=4s"], &env));
    assert_eq!(flag, "shutdown_grace = \"4s\" # command line");
}

#[test]
fn the_environment_and_the_command_line_are_as_strict_as_the_file() {
    let home = Home::new();
    home.run(&[], &[("BLOCKSYNCD_P2P_LISTENS", "x")])
        .refused(78, &["BLOCKSYNCD_P2P_LISTENS is no setting", "was `BLOCKSYNCD_P2P_LISTEN` meant?"]);
    home.run(&[], &[("BLOCKSYNCD_SYNC_BLOCK_TIME", "soon")]).refused(78, &["environment BLOCKSYNCD_SYNC_BLOCK_TIME"]);
    home.run(&["--set", "p2p.listens=x"], &[]).refused(64, &["no setting `p2p.listens`"]);
    home.run(&["--set", "p2p.listen"], &[]).refused(64, &["key=value"]);
    home.run(&["--listen", "nowhere"], &[]).refused(78, &["`p2p.listen` (command line)"]);
    // What Kubernetes sets for a service of our name is not ours.
    let kubernetes = [("BLOCKSYNCD_SERVICE_HOST", "10.0.0.1"), ("BLOCKSYNCD_PORT", "tcp://10.0.0.1:1")];
    assert_eq!(home.check(&[], &kubernetes).code, Some(0));

    let seeds = home.check(&[], &[("BLOCKSYNCD_P2P_SEEDS", "/ip4/127.0.0.1/tcp/1, /ip4/127.0.0.1/tcp/2")]);
    assert!(seeds.stdout.contains("seeds = [\"/ip4/127.0.0.1/tcp/1\", \"/ip4/127.0.0.1/tcp/2\"]"), "{seeds:?}");
    let seeds = home.check(&["--seed", "/ip4/127.0.0.1/tcp/3"], &[("BLOCKSYNCD_P2P_SEEDS", "/ip4/127.0.0.1/tcp/1")]);
    assert!(seeds.stdout.contains("seeds = [\"/ip4/127.0.0.1/tcp/3\"]"), "{seeds:?}");
}

#[test]
fn a_home_can_come_from_the_environment_and_needs_no_file() {
    let home = Home::new();
    fs::remove_file(home.file("config.toml")).unwrap();
    let check = |name: &str, value: &Path| run(blocksyncd().args(["run", "--check-config"]).env(name, value));
    assert_eq!(check("BLOCKSYNCD_HOME", &home.path()).code, Some(0));
    home.write("other.toml", "[signer]\nkey = \"proposer.key\"");
    let other = check("BLOCKSYNCD_CONFIG", &home.file("other.toml"));
    assert!(other.stdout.contains("key = \"proposer.key\""), "{other:?}");
}

#[test]
fn what_is_printed_can_be_read_again_and_the_memory_adds_up() {
    let home = Home::new();
    let first = home.check(&["--set", "limits.max_block_bytes=1MiB"], &[]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains("waiting for peers that dial us"), "{first:?}");
    home.write("config.toml", &first.stdout);
    let second = home.check(&[], &[]);
    let values = |ended: &Ended| -> Vec<String> {
        ended.stdout.lines().map(|line| line.split(" # ").next().unwrap().trim_end().to_owned()).collect()
    };
    assert_eq!(values(&first), values(&second));

    // The budget's own tests count bytes; here it must only be there, whole.
    for queue in ["p2p, all", "api", "verify", "core, all", "store: cache", "all"] {
        assert!(first.stdout.lines().any(|line| line.starts_with(&format!("# {queue}"))), "{queue}: {first:?}");
    }
}

#[test]
fn a_key_that_proposes_nowhere_is_pointed_out() {
    let home = Home::new();
    let other = Home::new();
    fs::copy(other.file("proposer.key"), home.file("proposer.key")).unwrap();
    let ended = home.check(&[], &[]);
    assert_eq!(ended.code, Some(0), "the schedule may have been extended with it");
    assert!(ended.stdout.contains("proposes at no height of the genesis file"), "{ended:?}");
}

/// A guard is replaced once an operator has said what was signed; a key that was named by mistake would be gone then.
#[test]
fn what_is_no_guard_is_left_as_it_is() {
    let home = Home::new();
    for file in ["proposer.key", "node.key", "genesis.toml"] {
        let before = fs::read(home.file(file)).unwrap();
        fs::set_permissions(home.file(file), fs::Permissions::from_mode(0o600)).unwrap();
        let guard = format!("signer.guard={file}");
        let ended = run(blocksyncd().arg("run").arg("--home").arg(home.path()).args(["--set", &guard]));
        assert!(ended.code == Some(78) && ended.stderr.contains("is no guard"), "{ended:?}");
        assert_eq!(fs::read(home.file(file)).unwrap(), before, "{file}");
    }
}
