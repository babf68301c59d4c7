//! The checker, checked: each rule is broken in every way that we could think of, and must be seen; what is allowed must
//! pass.

use crate::{check, circles, tree};

/// The messages for `source`, were it the whole of `file`.
fn messages(file: &str, source: &str) -> Vec<String> {
    check(file, source).into_iter().map(|violation| violation.message).collect()
}

/// Asserts that `source` in `file` breaks a rule whose message has `why` in it.
#[track_caller]
fn refused(file: &str, source: &str, why: &str) {
    let messages = messages(file, source);
    assert!(messages.iter().any(|message| message.contains(why)), "{file}: `{source}`: {messages:?} lacks `{why}`");
}

#[track_caller]
fn allowed(file: &str, source: &str) {
    assert_eq!(messages(file, source), Vec::<String>::new(), "{file}: `{source}`");
}

#[test]
fn arrows_point_only_downward() {
    let why = "arrows point only downward";
    refused("src/block/mod.rs", "use crate::verify::Rules;", why);
    refused("src/verify.rs", "use crate::sync;", why);
    refused("src/sync/fetch.rs", "use crate::{block::Height, store::{self, Reader}};", why);
    refused("src/store/keys.rs", "fn f() { crate::p2p::dial(); }", why);
    refused("src/store/keys.rs", "fn f(x: crate::api::Request) {}", why);
    refused("src/api/feed.rs", "impl crate::node::Handle for () {}", why);
    refused("src/p2p/mod.rs", "struct S { config: Vec<Option<crate::config::Config>> }", why);
    refused("src/node.rs", "pub use crate::cli::run;", why);
    allowed("src/sync/fetch.rs", "use crate::{block::Height, clock::Now, verify};");
    allowed("src/store/mod.rs", "use crate::sync::Batch; fn f() -> crate::block::Hash { crate::verify::g() }");
    allowed("src/node.rs", "use crate::{api, p2p, store, sync}; use std::fs; use tokio::sync::mpsc;");
    allowed("src/cli/run.rs", "use crate::{config::Config, node, telemetry};");
}

#[test]
fn neighbours_do_not_know_each_other() {
    let why = "do not know each other";
    refused("src/api/mod.rs", "use crate::p2p::Event;", why);
    refused("src/p2p/serve.rs", "fn f() { crate::api::g() }", why);
    refused("src/block/mod.rs", "use crate::clock::Now;", why);
    allowed("src/p2p/serve.rs", "use crate::p2p::wire; use crate::store::Reader;");
}

#[test]
fn every_way_to_write_a_path_is_read() {
    let file = "src/sync/fetch.rs";
    let why = "arrows point only downward";
    for source in [
        "use super::super::store::Reader;",
        "use self::super::super::store::Reader;",
        "fn f() { super::super::store::open() }",
        "use blocksyncd::store::Reader;",
        "use ::blocksyncd::store::Reader;",
        "use crate::store as cellar;",
        "use crate::store::*;",
        "mod inner { use super::super::super::store; }",
        "mod inner { fn f() { crate::store::open() } }",
        "fn f() { let x = <u8 as crate::store::Trait>::f(); }",
        "fn f() { let x = <crate::store::Reader>::f(); }",
        "fn f<T: crate::store::Trait>() where T: Sized {}",
        "fn f(x: &dyn crate::store::Trait) {}",
        "fn f() { if let crate::store::A { .. } = x {} }",
        "fn f() { let x = crate::store::Options { a: 1 }; }",
        "fn f() { let x = &[crate::store::LEN; 2]; }",
        "fn f() { g::<crate::store::Reader>() }",
        "fn f() { assert_eq!(1, crate::store::open()); }",
        "fn f() { vec![(1, { crate::store::open() })]; }",
        "fn f() { crate::store::mac!() }",
        "macro_rules! m { () => { $crate::store::open() } }",
        "macro_rules! m { () => { use crate::{block, store::Reader}; } }",
        "macro_rules! m { () => { use crate::{block::{Hash, Height}, store::*}; } }",
        "#[derive(crate::store::Derive)] struct S;",
        "#[attr(with = \"crate::store::text\")] struct S;",
        "#[crate::store::attribute] fn f() {}",
        "extern crate blocksyncd as us; use us::store::Reader;",
        "type X = crate::store::Reader;",
        "const X: usize = crate::store::LEN;",
        "pub trait T: crate::store::Trait {}",
        "#[cfg(test)] mod tests { use crate::store::Reader; }",
    ] {
        refused(file, source, why);
    }
    refused("src/main.rs", "fn main() { blocksyncd::sync::handle(); fjall::open() }", "`fjall` is at home");
    refused("src/verify.rs", "use super::sync::Heads;", why);
    refused("src/lib.rs", "pub use p2p::libp2p;", "`libp2p` is at home");
}

#[test]
fn renaming_hides_nothing() {
    refused("src/sync/mod.rs", "use crate as c; fn f() { c::store::open() }", "arrows point only downward");
    refused("src/sync/mod.rs", "use crate::{self as c};", "hides which layer");
    refused("src/sync/mod.rs", "use crate::*;", "hides which layer");
    refused("src/clock.rs", "use super::*;", "hides which layer");
    refused("src/sync/mod.rs", "extern crate self as us;", "under another name");
    refused("src/sync/mod.rs", "use std as s; use s::time as t; fn f() { t::Instant::now() }", "only `clock`");
    refused("src/node.rs", "use crate::Reader;", "in no layer");
    refused("src/node.rs", "#[path = \"store/mod.rs\"] mod cellar;", "`#[path]`");
    refused("src/node.rs", "include!(\"store/mod.rs\");", "`include!`");
}

#[test]
fn foreign_crates_stay_at_home() {
    for (krate, home) in [
        ("libp2p", "src/p2p/swarm.rs"),
        ("libp2p_identity", "src/p2p/swarm.rs"),
        ("capnp", "src/api/convert.rs"),
        ("capnp_rpc", "src/api/session.rs"),
        ("interprocess", "src/api/mod.rs"),
        ("fjall", "src/store/mod.rs"),
        ("lsm_tree", "src/store/mod.rs"),
        ("hyper", "src/cli/devnet.rs"),
        ("hyper_util", "src/cli/devnet.rs"),
        ("http_body_util", "src/cli/devnet.rs"),
        ("clap", "src/cli/mod.rs"),
        ("clap", "src/main.rs"),
    ] {
        for source in [
            format!("use {krate}::Thing;"),
            format!("use {krate} as it;"),
            format!("use ::{krate}::Thing;"),
            format!("extern crate {krate};"),
            format!("fn f(x: {krate}::Thing) {{}}"),
            format!("fn f() {{ ::{krate}::f() }}"),
            format!("fn f() {{ {krate}::mac!() }}"),
            format!("fn f() {{ println!(\"{{}}\", {krate}::f()) }}"),
            format!("#[derive({krate}::Thing)] struct S;"),
        ] {
            refused("src/node.rs", &source, "is at home in");
            refused("src/sync/mod.rs", &source, "is at home in");
            allowed(home, &source);
        }
    }
    refused("src/api/mod.rs", "use libp2p::PeerId;", "is at home in `p2p`");
    refused("src/node.rs", "fn f() { crate::p2p::libp2p::f() }", "`libp2p` is at home");
}

#[test]
fn pure_layers_touch_nothing() {
    for file in ["src/block/mod.rs", "src/clock.rs", "src/verify.rs", "src/sync/heads.rs"] {
        for source in [
            "use tokio::sync::mpsc;",
            "async fn f() { tokio::task::yield_now().await }",
            "fn f() { tokio::select! {} }",
            "use std::net::TcpStream;",
            "fn f() { std::fs::read(\"x\"); }",
            "use std::{fmt, fs};",
            "use std::{self as s}; fn f() { s::env::var(\"x\"); }",
            "use std::*;",
            "fn f() { std::thread::sleep(d); }",
            "fn f() { tracing::info!(\"done\"); }",
        ] {
            refused(file, source, "pure");
        }
        refused(file, "fn f() { fastrand::u64(..); }", "unseeded");
        refused(file, "use fastrand::Rng; fn f() { Rng::new(); }", "unseeded");
        allowed(file, "use fastrand::Rng; fn f() { Rng::with_seed(7); }");
        allowed(file, "use std::{fmt, time::Duration, collections::BTreeMap}; fn f(x: fmt::Error) {}");
    }
}

#[test]
fn only_the_clock_reads_the_clock() {
    for source in [
        "use std::time::SystemTime;",
        "use std::time::{Duration, Instant};",
        "fn f() { std::time::Instant::now(); }",
        "use std::time; fn f() { time::Instant::now(); }",
        "use std::time::*;",
        "fn f() { dbg!(std::time::UNIX_EPOCH); }",
    ] {
        for file in ["src/block/mod.rs", "src/verify.rs", "src/sync/peers.rs"] {
            refused(file, source, "only `clock` reads the clock");
        }
        allowed("src/clock.rs", source);
        allowed("src/p2p/driver.rs", source);
    }
}

#[test]
fn the_core_has_no_random_order() {
    for source in [
        "use std::collections::HashMap;",
        "use std::collections::{BTreeMap, HashSet};",
        "use std::collections::*;",
        "use std::collections; fn f() { collections::HashMap::new(); }",
        "use std::collections::hash_map::Entry;",
        "struct S { x: std::collections::HashSet<u8> }",
    ] {
        refused("src/sync/held.rs", source, "order differs from run to run");
        allowed("src/p2p/driver.rs", source);
    }
}

#[test]
fn new_modules_need_a_layer() {
    refused("src/wallet.rs", "use crate::block::Hash;", "has no layer yet");
    refused("src/sync/mod.rs", "use crate::wallet::Coin;", "in no layer");
    refused("src/block/mod.rs", "fn f( {", "does not parse");
}

#[test]
fn words_that_name_nothing_pass() {
    allowed("src/sync/mod.rs", "pub(crate) fn f() {} pub(super) struct S; pub(in crate::sync) fn g() {}");
    allowed(
        "src/sync/mod.rs",
        "//! See [`crate::store`].\n/// And `libp2p::Swarm`.\nfn f() { let store = 1; store + 1; }",
    );
    allowed("src/sync/mod.rs", "fn f() { \"crate::store::open\"; self.tokio; self.store.f(); Self::store(); }");
    allowed("src/sync/mod.rs", "#[cfg(test)] mod tests { use super::*; use super::words::Heads; }");
    allowed("src/block/tests.rs", "use super::native; use super::super::block::Hash;");
}

#[test]
fn a_violation_says_where() {
    let found = check("src/sync/mod.rs", "fn f() {}\n\nuse crate::store;\n");
    assert_eq!((found.len(), found[0].file.as_str(), found[0].line), (1, "src/sync/mod.rs", 3));
}

/// What is reported of the circles in these files.
fn circles_in(sources: &[(&str, &str)]) -> Vec<String> {
    let texts: Vec<_> = sources.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    circles(&tree::parse(&texts).expect("the snippets parse"))
}

/// `mod.rs`, `a.rs` and `b.rs` of a module, and whether the two go in a circle.
#[track_caller]
fn circle(parent: &str, a: &str, b: &str, expected: bool) {
    let files = [("src/store/mod.rs", parent), ("src/store/a.rs", a), ("src/store/b.rs", b)];
    let report = circles_in(&files);
    let first = report.first().map(String::as_str);
    assert_eq!(first, expected.then_some("a circle: src/store/a.rs, src/store/b.rs"), "{files:?}: {report:?}");
}

const PARENT: &str = "mod a; mod b;";

#[test]
fn files_that_name_each_other_go_in_a_circle() {
    let b = "pub struct B; pub fn b() { super::a::f() }";
    for a in [
        "use super::b::B; pub fn f() {}",
        "use super::b; pub fn f() {}",
        "use crate::store::b::B; pub fn f() {}",
        "use super::{b::{B as Other}}; pub fn f() {}",
        "use super::b::*; pub fn f() {}",
        "pub fn f() { super::b::b() }",
        "pub fn f() { crate::store::b::b() }",
        "pub fn f(x: super::b::B) {}",
        "pub fn f() { println!(\"{}\", super::b::b()); }",
        "mod inner { use super::super::b::B; } pub fn f() {}",
    ] {
        circle(PARENT, a, b, true);
    }
    circle(PARENT, "pub fn f() {}", b, false);
}

#[test]
fn what_a_parent_passes_on_is_the_childs() {
    let a = "use super::B; pub fn f() {}";
    let b = "pub struct B; pub fn b() { super::a::f() }";
    circle("mod a; mod b; pub use b::B;", a, b, true);
    circle("mod a; mod b; use b::B;", a, b, true);
    circle("mod a; mod b; pub use self::b::B;", a, b, true);
    circle("mod a; mod b; pub use crate::store::b::{B, b};", a, b, true);
    circle("mod a; mod b; pub use b::*;", a, b, true);
    circle("mod a; mod b; pub use b::Other as B;", a, b, true);
    circle("mod a; mod b; pub struct B;", a, b, false);
    circle("mod a; mod b; pub use bytes::B;", a, b, false);
}

#[test]
fn a_parent_and_its_children_may_name_each_other() {
    circle(
        "mod a; mod b; pub struct P; fn f() { a::f(); b::b() }",
        "use super::P; pub fn f() {}",
        "pub fn b() {}",
        false,
    );
    let parent = ("src/store/a.rs", "mod deep; pub struct A; use deep::Deep;");
    let child = ("src/store/a/deep.rs", "use super::A; pub struct Deep; use super::super::b::B;");
    let other = ("src/store/b.rs", "pub struct B;");
    let root = ("src/store/mod.rs", PARENT);
    assert_eq!(circles_in(&[root, parent, child, other]), Vec::<String>::new());
    let other = ("src/store/b.rs", "pub struct B; use super::a::deep::Deep;");
    let report = circles_in(&[root, parent, child, other]);
    assert_eq!(report[0], "a circle: src/store/a/deep.rs, src/store/b.rs");
}

#[test]
fn tests_close_no_circle() {
    let b = "pub struct B; pub fn b() { super::a::f() }";
    circle(PARENT, "pub fn f() {} #[cfg(test)] mod tests { use super::super::b::B; }", b, false);
    circle(PARENT, "pub fn f() {} #[cfg(all(test, unix))] use super::b::B;", b, false);
    circle(PARENT, "pub fn f() {} #[cfg(not(test))] use super::b::B;", b, true);
    let files = [
        ("src/store/a.rs", "#[cfg(test)] mod stub; pub fn f() {}"),
        ("src/store/a/stub.rs", "use super::super::b::B;"),
        ("src/store/b.rs", "pub struct B; use super::a::stub;"),
    ];
    assert_eq!(circles_in(&files), Vec::<String>::new());
}

#[test]
fn modules_go_in_no_circle_either() {
    let files = [
        ("src/cli/mod.rs", "use crate::config::Config;"),
        ("src/config/mod.rs", "mod deep; pub struct Config;"),
        ("src/config/deep.rs", "use crate::telemetry::Level;"),
        ("src/telemetry.rs", "fn f() { crate::cli::run() }"),
    ];
    let report = circles_in(&files);
    assert_eq!(report[0], "a circle: cli, config, telemetry");
    assert!(report.contains(&"  telemetry -> cli: crate::cli::run".to_owned()), "{report:?}");
    assert_eq!(circles_in(&files[..3]), Vec::<String>::new());
}
