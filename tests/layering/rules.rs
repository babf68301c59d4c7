//! The rules, as tables, and the one function that holds a name against them.

use crate::source::paths::Named;

/// The layers; an arrow may only point to a lower one.
const LAYERS: &[(&str, u8)] = &[
    ("util", 0),
    ("block", 1),
    ("clock", 1),
    ("verify", 2),
    ("sync", 3),
    ("atomic_file", 4),
    ("foreign_file", 4),
    ("store", 5),
    ("api", 6),
    ("p2p", 6),
    ("node", 7),
    ("cli", TOP),
    ("config", TOP),
    ("telemetry", TOP),
    ("main", TOP),
    ("lib", TOP),
];

/// The process around the node. Its modules may name each other.
const TOP: u8 = 8;

/// Up to here the code is pure: no I/O, no clock, no chance.
const PURE: u8 = 3;

/// Foreign crates with a home; their subcrates (`libp2p_*`) live there too.
const HOMES: &[(&str, &[&str])] = &[
    ("libp2p", &["p2p"]),
    ("capnp", &["api"]),
    ("interprocess", &["api"]),
    ("fjall", &["store"]),
    ("lsm_tree", &["store"]),
    ("hyper", &["cli"]),
    ("http_body_util", &["cli"]),
    ("clap", &["cli", "main"]),
];

/// What pure code may not name, and why.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "it waits; the core is called"),
    ("tokio_util", "it waits; the core is called"),
    ("futures", "it waits; the core is called"),
    ("rustix", "it talks to the operating system"),
    ("getrandom", "it is chance; take the seed instead"),
    ("tracing", "the log is the world's; what is worth a line goes out as an effect"),
    ("std::env", "it reads the world"),
    ("std::fs", "it reads the world"),
    ("std::net", "it touches the network"),
    ("std::os", "it talks to the operating system"),
    ("std::process", "it talks to the operating system"),
    ("std::thread", "the core has one thread: its caller's"),
    ("std::io::stdin", "it reads the world"),
];

/// What only `clock` reads, of the pure modules.
const CLOCKS: &[&str] = &["std::time::SystemTime", "std::time::Instant", "std::time::UNIX_EPOCH"];

/// What would make the same seed give different effects in `sync`.
const UNORDERED: &[&str] = &[
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::collections::hash_map",
    "std::collections::hash_set",
    "std::hash::RandomState",
];

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The top-level module that a file belongs to; `lib` and `main` for the roots.
pub fn top_of(file: &str) -> Option<&str> {
    let path = file.strip_prefix("src/")?.strip_suffix(".rs")?;
    path.split('/').next()
}

/// Whether `named` is `rule` or lies below it, or, as a glob, brings it into scope.
fn names(named: &Named, rule: &str) -> bool {
    let rule: Vec<_> = rule.split("::").collect();
    let shared = named.path.iter().zip(&rule).take_while(|(a, b)| a == *b).count();
    shared == rule.len() || (named.glob && shared == named.path.len() && shared + 1 == rule.len())
}

/// The rules that module `from` of `file` breaks by naming `named`.
pub fn judge(file: &str, from: &str, named: &Named) -> Vec<String> {
    let path = named.path.join("::");
    let mut broken = Vec::new();
    let Some(own) = layer_of(from) else {
        return vec![format!(
            "module `{from}` has no layer yet: give it one in tests/layering/rules.rs and src/lib.rs"
        )];
    };

    if named.path[0] == "crate" {
        match named.path.get(1).map(String::as_str) {
            None => broken.push(format!("`{path}` alone hides which layer is meant: name the module")),
            Some(to) => match layer_of(to) {
                None => {
                    broken.push(format!("`{path}` is in no layer: name things by their module, not by the crate's root"));
                }
                Some(_) if to == from => {}
                Some(layer) if layer > own => broken.push(format!(
                    "`{from}` (layer {own}) names `{path}` (layer {layer}): arrows point only downward, so move the word \
                     down or hand it in from above"
                )),
                Some(layer) if layer == own && own != TOP => broken.push(format!(
                    "`{from}` names `{path}`: modules of layer {own} do not know each other; they meet in a higher layer"
                )),
                Some(_) => {}
            },
        }
    }

    // Wherever it stands in the path: a foreign crate that its home re-exports has still left home.
    for (krate, homes) in HOMES {
        let sub_crate = || named.path[0].strip_prefix(krate).is_some_and(|rest| rest.starts_with('_'));
        if !homes.contains(&from) && (named.path.iter().any(|word| word == krate) || sub_crate()) {
            broken
                .push(format!("`{path}`: `{krate}` is at home in `{}`; `{from}` must not see it", homes.join("`, `")));
        }
    }

    if own <= PURE {
        for (rule, why) in IMPURE {
            if names(named, rule) {
                broken.push(format!("`{path}` in `{from}`, which is pure: {why}"));
            }
        }
        if file != "src/clock.rs" && CLOCKS.iter().any(|clock| names(named, clock)) {
            broken.push(format!("`{path}` in `{from}`: only `clock` reads the clock; take a `Now`"));
        }
        let seeded = named.path.get(1).is_some_and(|name| name == "Rng") && !names(named, "fastrand::Rng::new");
        if named.path[0] == "fastrand" && !seeded {
            broken.push(format!("`{path}` in `{from}` draws from an unseeded generator: use `Rng::with_seed`"));
        }
    }
    if from == "sync" && UNORDERED.iter().any(|rule| names(named, rule)) {
        broken.push(format!("`{path}` in `sync`: its order differs from run to run; use a BTreeMap or BTreeSet"));
    }
    broken
}
