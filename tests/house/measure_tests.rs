//! The measures, measured: what each counts and what it leaves out.

use std::collections::BTreeSet;

use crate::functions::{self, Function, Results};
use crate::parts::{Parts, is_own_file};
use crate::source::names::Names;
use crate::source::tree::{self, SourceFile};
use crate::{percentile, status, types};

fn files(sources: &[(&str, &str)]) -> Vec<SourceFile> {
    let texts: Vec<_> = sources.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    tree::parse(&texts).expect("the snippets parse")
}

fn functions_of(source: &str) -> Vec<Function> {
    functions::functions(&files(&[("src/node.rs", source)]))
}

/// The names of the functions in `source` of which this holds.
fn which(source: &str, holds: impl Fn(&Function) -> bool) -> Vec<String> {
    functions_of(source).into_iter().filter(|it| holds(it)).map(|it| it.name).collect()
}

#[test]
fn tests_are_left_out() {
    let source = "
        fn kept() {}
        #[cfg(test)] fn a() {}
        #[cfg(all(unix, test))] fn b() {}
        #[test] fn c() {}
        #[tokio::test] async fn d() {}
        #[cfg(test)] mod helpers { fn e() {} }
        mod tests { fn f() {} }
        mod inner { #[cfg(test)] fn g() {} fn kept_too() {} }
        struct S;
        impl S { #[cfg(test)] fn h(&self) {} fn kept_as_well(&self) {} }
        trait T { #[cfg(test)] fn i(&self) {} fn kept_here(&self) {} }
        #[cfg(any(test, unix))] fn kept_anyway() {}
        #[cfg(not(test))] fn kept_in_the_program() {}
    ";
    let kept = which(source, |it| it.name.contains("kept"));
    assert_eq!((which(source, |_| true), kept.len()), (kept.clone(), 6), "{kept:?}");
    let left = files(&[
        ("src/store/mod.rs", "mod repair; #[cfg(test)] mod stub; mod tests;"),
        ("src/store/repair.rs", ""),
        ("src/store/stub/mod.rs", "mod deep;"),
        ("src/store/stub/deep.rs", ""),
        ("src/store/tests.rs", ""),
    ]);
    assert_eq!(
        left.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["src/store/mod.rs", "src/store/repair.rs"]
    );
}

#[test]
fn a_function_is_as_long_as_its_rows() {
    let source = "/// Documentation.\n#[inline]\npub async fn long(\n  x: u8,\n)\nwhere u8: Copy,\n{\n  fn inner() {}\n}\n\
                  impl S { fn short(&self) { let f = || {}; } }\n\
                  impl<T> Trait for Vec<T> { fn made(self) {\n} }\n\
                  trait Trait { fn declared(&self); fn given(&self) {} }\n\
                  macro_rules! m { () => { fn unseen() {} } }\n";
    let found: Vec<_> = functions_of(source).into_iter().map(|it| (it.name, it.lines)).collect();
    let expected = [
        ("long", Some(7)),
        ("inner", Some(1)),
        ("S::short", Some(1)),
        ("Vec::made", Some(2)),
        ("Trait::declared", None),
        ("Trait::given", Some(1)),
    ];
    assert_eq!(found, expected.map(|(name, lines)| (name.to_owned(), lines)));
}

#[test]
fn percentiles_are_numbers_that_are_there() {
    let numbers: Vec<_> = (1..=10).collect();
    assert_eq!([50, 90, 95, 100].map(|percent| percentile(&numbers, percent)), [5, 9, 10, 10]);
    assert_eq!((percentile(&[7], 50), percentile(&[], 50)), (7, 0));
}

#[test]
fn bools_are_counted_by_parameter() {
    let count = |source: &str| functions_of(source).iter().map(|it| it.bools).sum::<usize>();
    assert_eq!(count("fn f(a: bool, b: u8, c: &mut bool) {}"), 2);
    assert_eq!(count("trait T { fn f(&self, a: bool); } impl T for S { fn f(&self, a: bool) {} }"), 2);
    assert_eq!(
        count("struct S { a: bool } fn f(g: impl Fn(bool) -> bool, a: Option<bool>) -> bool { |x: bool| x }"),
        0
    );
    assert_eq!(count("fn f() { fn g(a: bool) {} }"), 1);
}

#[test]
fn methods_that_change_and_answer_are_found() {
    let methods = "impl S {
        fn is_due(&mut self) -> bool {}
        fn has(&mut self) {}
        fn is_set(&self) -> bool {}
        fn island(&mut self) {}
        fn add(&mut self) -> bool {}
        fn is_end(self: Pin<&mut Self>) -> bool {}
        fn can_take(mut self) -> bool {}
        fn find(&mut self, is: impl Fn(&S) -> bool) -> Option<bool> {}
        fn may_pass(self: &Self, other: &mut S) -> bool {}
    }";
    assert_eq!(which(methods, |it| it.mutates && it.asks), ["S::is_due", "S::has", "S::is_end"]);
    assert_eq!(which(methods, |it| it.mutates && it.returns_bool), ["S::is_due", "S::add", "S::is_end"]);
}

#[test]
fn results_are_read_wherever_they_stand() {
    let signatures = "
        fn a() -> Result<u8, String> {}
        fn b(to: oneshot::Sender<std::result::Result<(), String>>) {}
        fn c() -> impl Future<Output = Result<(), String>> {}
        fn d() -> Result<String, E> { let x: Result<(), String> = e(); }
        fn e() -> io::Result<String> {}
    ";
    assert_eq!(which(signatures, |it| it.string_error), ["a", "b", "c"]);
    let source = "fn a() -> Result<u8, ()> {}\n\
                  struct S { a: Result<(), E>, b: Option<Result<(), ()>> }\n\
                  fn b() { x.collect::<Result<Vec<u8>, ()>>() }\n\
                  type T = Result<Result<u8, E>, ()>;\n\
                  fn c() -> io::Result<capnp::Result<u8>> { Result::<u8, ()>::Ok(1) }\n\
                  fn d() -> Result<Option<Result<u8, E>>, E> {}\n";
    let results = Results::of(&syn::parse_file(source).expect("the snippet parses"));
    assert_eq!(results.unit_errors, [1, 2, 3, 4, 5]);
    assert_eq!(results.nested, [4, 5]);
}

#[test]
fn types_share_names() {
    let found = types::types(&files(&[
        (
            "src/api/mod.rs",
            "struct Place; enum Ended {} trait View { type Error; } type Result<T> = X<T>; union U { a: u8 }",
        ),
        (
            "src/store/mod.rs",
            "fn f() { struct Place; } impl View for S { type Error = u8; } #[cfg(test)] struct Ended;",
        ),
        ("src/node.rs", "use crate::store::Place as Ended; mod inner { pub type View = u8; }"),
    ]));
    let several: Vec<_> = found.iter().filter(|(_, places)| places.len() > 1).collect();
    let expected = [("Place", ["src/api/mod.rs", "src/store/mod.rs"]), ("View", ["src/api/mod.rs", "src/node.rs"])];
    let expected = expected.map(|(name, places)| (name.to_owned(), places.map(str::to_owned).to_vec()));
    assert_eq!(several, expected.iter().map(|(name, places)| (name, places)).collect::<Vec<_>>());
    assert_eq!(found.len(), 5, "{found:?}");
}

#[test]
fn a_status_field_is_counted_by_place() {
    let schema = "struct Status {\n  heldBlocks @9 :UInt32;  # not heldBlocks @1\n  # heldBlocks @2 :UInt8;\n}\n";
    let found = status::places(
        "held_blocks",
        schema,
        &files(&[
            ("src/sync/mod.rs", "impl S { fn status(&self) -> Status { Status { held_blocks: self.held_blocks() } } }"),
            (
                "src/sync/held.rs",
                "struct Held { held_blocks: u8 } fn held_blocks() {} struct CoreStatus { held_blocks: u8 }",
            ),
            (
                "src/api/convert.rs",
                "fn set(to: B) { to.set_held_blocks(1); to.set_held_blocks(2); } fn other() { set_it() }",
            ),
            (
                "src/api/client.rs",
                "struct View { held_blocks: u8 } table! { held_blocks: u32 } fn read() { f.get_held_blocks() }",
            ),
            (
                "src/cli/show.rs",
                "fn json() { json!({ \"heldBlocks\": status.x }); fn rows() { s.held_blocks } } const N: &str = \"held blocks\";",
            ),
            ("src/cli/ctl.rs", "/// The held_blocks.\nfn f() { unheld_blocks() } #[cfg(test)] fn g() { held_blocks }"),
        ]),
    );
    let found: Vec<_> = found.iter().map(|(file, item, _)| format!("{file} {item}")).collect();
    let expected = [
        "schema/blocksync.capnp heldBlocks",
        "src/api/client.rs View",
        "src/api/client.rs read",
        "src/api/client.rs table",
        "src/api/convert.rs set",
        "src/cli/show.rs json",
        "src/cli/show.rs rows",
        "src/sync/held.rs CoreStatus",
        "src/sync/mod.rs status",
    ];
    assert_eq!(found, expected);
}

const CORE: &str = "mod chain; mod walk; mod other; use chain::Chain; use walk::Walk; pub use chain::Heads;
    pub struct Config { pub most: usize }
    pub struct Syncer { config: Config, chain: Chain, walk: Option<Walk>, full: bool }";

const CHAIN: &str = "use super::Config;
    pub struct Heads { pub soft: u8 }
    pub(super) struct Chain { pub heads: Heads, pub inner: Inner, fresh: u8 }
    pub(super) struct Inner { pub depth: u8 }
    impl Chain {
        pub fn new() -> Self { Self { heads: Heads { soft: 1 }, inner: Inner { depth: 1 }, fresh: 0 } }
        pub fn heads(&self) -> &Heads { &self.heads }
        pub fn inner(&mut self) -> &mut Inner { &mut self.inner }
        pub fn is_fresh(&self) -> bool { self.fresh > 0 }
    }";

const WALK: &str =
    "use super::Syncer; pub(super) struct Walk { pub met: bool } impl Syncer { fn walk(&self) { self.full } }";

/// The parts as they are with `other` as one more file beside them.
fn parts(other: &str) -> Parts {
    let files = files(&[
        ("src/sync/mod.rs", CORE),
        ("src/sync/chain.rs", CHAIN),
        ("src/sync/walk.rs", WALK),
        ("src/sync/other.rs", other),
        ("src/node/mod.rs", "struct Syncer; impl Syncer { fn f(&self) { self.chain.heads } }"),
    ]);
    Parts::of(&files, &Names::of(&files)).expect("there is a Syncer")
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn the_core_is_counted() {
    let parts = parts(
        "use super::Syncer; impl Syncer { fn f(&mut self) { self.full = true; self.chain.is_fresh(); self.config() } }",
    );
    assert_eq!(parts.names, set(&["Chain", "Inner", "Walk"]));
    assert_eq!(parts.impls, set(&["other.rs", "walk.rs"]));
    let touches: Vec<_> = parts.fields.iter().map(|(field, files)| (field.as_str(), files.len())).collect();
    assert_eq!(touches, [("config", 0), ("chain", 1), ("walk", 0), ("full", 2)]);
    assert!(parts.opened.is_empty(), "{:?}", parts.opened);
}

#[test]
fn a_parts_folder_is_its_own() {
    for (file, definition, own) in [
        ("src/sync/chain.rs", "src/sync/chain.rs", true),
        ("src/sync/walk.rs", "src/sync/chain.rs", false),
        ("src/sync/exchange/asking.rs", "src/sync/exchange/mod.rs", true),
        ("src/sync/exchange/asking.rs", "src/sync/exchange/peers.rs", false),
        ("src/sync/chain.rs", "src/sync/exchange/mod.rs", false),
        ("src/sync/chain.rs", "src/sync/mod.rs", false),
    ] {
        assert_eq!(is_own_file(file, definition), own, "{file} {definition}");
    }
}

#[test]
fn a_parts_fields_are_seen_from_outside() {
    let inside = |body: &str| {
        format!("use super::{{Syncer, Chain}}; impl Syncer {{ fn f(&mut self, c: &mut Chain) {{ {body} }} }}")
    };
    for body in [
        "self.chain.heads.soft",
        "self.chain.heads = x",
        "g(&mut self.chain.heads)",
        "if self.chain.heads.soft > 1 { }",
        "let chain = &mut self.chain; chain.heads",
        "let (walk, chain) = (&self.walk, &self.chain); chain.heads",
        "let Self { chain, .. } = self; chain.heads",
        "let Chain { heads, .. } = &self.chain;",
        "c.heads",
        "let x = || c.heads;",
        "x.map(|y| y + self.chain.heads.soft)",
        "let chain = Chain::new(); chain.heads",
        "let chain: Chain = g(); chain.heads",
        "Chain { heads: x, ..y }",
        "assert_eq!(1, self.chain.heads.soft, \"why\")",
        "matches!(g(c.heads), Some(_) | None)",
        "match self { Self { chain, full } if *full => chain.heads, _ => x }",
    ] {
        assert_eq!(parts(&inside(body)).opened.get("Chain"), Some(&(set(&["other.rs"]), set(&["heads"]))), "{body}");
    }
    for body in [
        "self.chain.heads().soft",
        "self.chain.is_fresh()",
        "self.config.most",
        "let c = g(); c.heads",
        "let chain = &mut self.chain; { let chain = g(); chain.heads }",
        "for c in g() { c.heads }",
        "g(|c| c.heads)",
        "assert!(self.chain.heads().soft > 1 && self.full)",
        "self.heads",
    ] {
        assert!(parts(&inside(body)).opened.is_empty(), "{body}");
    }
    let walk = inside("if let Some(walk) = &self.walk { walk.met }");
    assert_eq!(parts(&walk).opened.get("Walk"), Some(&(set(&["other.rs"]), set(&["met"]))));
    let inner = inside("self.chain.inner().depth");
    assert_eq!(parts(&inner).opened.get("Inner"), Some(&(set(&["other.rs"]), set(&["depth"]))));
    let elsewhere =
        "struct Chain { heads: u8 } fn f(chain: &Chain) { chain.heads } fn g(chain: &super::Chain) { chain.heads() }";
    assert!(parts(elsewhere).opened.is_empty(), "another struct of that name");
    let free = "fn g(chain: &super::chain::Chain) { chain.fresh }";
    assert_eq!(parts(free).opened.get("Chain"), Some(&(set(&["other.rs"]), set(&["fresh"]))));
    let own = "use super::Chain; impl Chain { fn f(&self) { self.fresh } }";
    assert_eq!(parts(own).opened.get("Chain"), Some(&(set(&["other.rs"]), set(&["fresh"]))));
}
