//! The house in figures: what is counted in the source under `src/`, and how much of each there may be.
//!
//! `cargo test --test house -- --nocapture` prints the figures as a table. [`BOUNDS`] are not raised: a figure that grows past its
//! bound asks for a better shape. With `HOUSE_ROOT=/another/checkout` that one is measured, and nothing is asserted.
//!
//! Read is what is written by hand, and no tests: no item under `#[cfg(test)]`, no `mod tests`, no `tests.rs` (but for the
//! longest file). Names and declared types alone are looked at; each module here says what its measure sees and what not.

mod fields;
mod functions;
mod measure_tests;
mod paper;
mod parts;
#[path = "../support/source/mod.rs"]
mod source;
mod status;
mod types;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use functions::{Function, Results};
use parts::Parts;
use source::circles::Graph;
use source::names::Names;
use source::tree::{self, SourceFile};

/// How much of each there may be.
const BOUNDS: &[(&str, usize)] = &[
    ("functions above 40 lines", 16),
    ("functions above 60 lines", 0),
    ("bool parameters", 5),
    ("questions that take `&mut self`", 0),
    ("`&mut self -> bool`", 0),
    ("signatures with `Result<_, String>`", 46),
    ("`Result<_, ()>`", 0),
    ("`Result<Result<_>>`", 0),
    ("files above 600 lines, tests too", 0),
    ("names of more than one type", 25),
    ("circles among modules", 0),
    ("circles among the files of a module", 0),
    ("places that a new field of the status needs", 4),
    ("places of one that shares its row of text", 6),
    ("files that name a part's fields from outside", 0),
];

/// One row of the table.
struct Measure {
    name: &'static str,
    value: usize,
    /// What was counted.
    what: Vec<String>,
}

fn row(name: &'static str, what: Vec<String>) -> Measure {
    Measure { name, value: what.len(), what }
}

fn figure(name: &'static str, value: usize) -> Measure {
    Measure { name, value, what: Vec::new() }
}

/// The smallest of the numbers, which are in order, that so many percent of them do not exceed.
fn percentile(ordered: &[usize], percent: usize) -> usize {
    let rank = (ordered.len() * percent).div_ceil(100).max(1);
    ordered.get(rank - 1).copied().unwrap_or_default()
}

fn function_rows(functions: &[Function]) -> Vec<Measure> {
    let mut long: Vec<_> = functions.iter().filter_map(|it| Some((it.lines?, it.place()))).collect();
    long.sort_by(|a, b| b.cmp(a));
    let lines: Vec<_> = long.iter().rev().map(|(lines, _)| *lines).collect();
    let above = |bound: usize| lines.iter().filter(|lines| **lines > bound).count();
    let which = |holds: fn(&Function) -> bool| functions.iter().filter(|it| holds(it)).map(Function::place).collect();
    vec![
        figure("functions", lines.len()),
        figure("lines of a function, median", percentile(&lines, 50)),
        figure("lines of a function, p90", percentile(&lines, 90)),
        figure("lines of a function, p95", percentile(&lines, 95)),
        Measure {
            name: "lines of a function, longest",
            value: percentile(&lines, 100),
            what: long.iter().take(5).map(|(lines, place)| format!("{lines} {place}")).collect(),
        },
        figure("functions above 40 lines", above(40)),
        figure("functions above 60 lines", above(60)),
        Measure {
            name: "bool parameters",
            value: functions.iter().map(|it| it.bools).sum(),
            what: which(|it| it.bools > 0),
        },
        row("questions that take `&mut self`", which(|it| it.mutates && it.asks)),
        row("`&mut self -> bool`", which(|it| it.mutates && it.returns_bool)),
        row("signatures with `Result<_, String>`", which(|it| it.string_error)),
    ]
}

fn result_rows(files: &[SourceFile]) -> Vec<Measure> {
    let (mut units, mut nested) = (Vec::new(), Vec::new());
    for file in files {
        let results = Results::of(&file.code);
        units.extend(results.unit_errors.iter().map(|line| format!("{}:{line}", file.name)));
        nested.extend(results.nested.iter().map(|line| format!("{}:{line}", file.name)));
    }
    vec![row("`Result<_, ()>`", units), row("`Result<Result<_>>`", nested)]
}

fn file_rows(texts: &[(String, String)], files: &[SourceFile]) -> Vec<Measure> {
    let lines = |text: &String| text.lines().count();
    let mut all: Vec<_> = texts.iter().map(|(name, text)| (lines(text), name)).collect();
    all.sort_by(|a, b| b.cmp(a));
    let is_code = |name: &&String| files.iter().any(|file| file.name == **name);
    let code: Vec<_> = all.iter().rev().filter(|(_, name)| is_code(name)).map(|(lines, _)| *lines).collect();
    let above = all.iter().filter(|(lines, _)| *lines > 600).map(|(lines, name)| format!("{lines} {name}"));
    vec![
        figure("files", code.len()),
        figure("lines of a file, median", percentile(&code, 50)),
        figure("lines of a file, p95", percentile(&code, 95)),
        Measure {
            name: "lines of a file, longest, tests too",
            value: all.first().map_or(0, |(lines, _)| *lines),
            what: all.iter().take(3).map(|(lines, name)| format!("{lines} {name}")).collect(),
        },
        row("files above 600 lines, tests too", above.collect()),
    ]
}

fn type_rows(files: &[SourceFile]) -> Vec<Measure> {
    let types = types::types(files);
    let mut several: Vec<_> = types.iter().filter(|(_, places)| places.len() > 1).collect();
    several.sort_by_key(|(_, places)| std::cmp::Reverse(places.len()));
    vec![
        figure("types", types.values().map(Vec::len).sum()),
        figure("types that share their name", several.iter().map(|(_, places)| places.len()).sum()),
        row(
            "names of more than one type",
            several.iter().map(|(name, places)| format!("{name} x{} ({})", places.len(), places.join(" "))).collect(),
        ),
    ]
}

fn circle_rows(files: &[SourceFile], names: &Names) -> Vec<Measure> {
    let circles = |graph: Graph| {
        let describe = |circle: &BTreeSet<String>| {
            let members: Vec<_> = circle.iter().map(String::as_str).collect();
            format!("{} ({} edges)", members.join(" + "), graph.edges_within(circle).len())
        };
        graph.circles().iter().map(describe).collect()
    };
    vec![
        row("circles among modules", circles(Graph::of_modules(files, names))),
        row("circles among the files of a module", circles(Graph::of_files(files, names))),
    ]
}

fn status_row(name: &'static str, fields: &[&str], schema: &str, files: &[SourceFile]) -> Measure {
    let mut most = 0;
    let mut what = Vec::new();
    for field in fields {
        let places = status::places(field, schema, files);
        most = most.max(places.len());
        let list: Vec<_> = places.iter().map(|(file, item, line)| format!("{item} ({file}:{line})")).collect();
        what.push(format!("{field} {}: {}", places.len(), list.join(" ")));
    }
    Measure { name, value: most, what }
}

fn part_rows(files: &[SourceFile], names: &Names) -> Vec<Measure> {
    let Some(parts) = Parts::of(files, names) else { return Vec::new() };
    let mut touched: Vec<_> = parts.fields.iter().map(|(field, files)| (files.len(), field)).collect();
    touched.sort_by(|a, b| b.cmp(a));
    let opened = parts.opened.iter().map(|(part, (files, fields))| {
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        format!("{part} {}: .{} in {}", files.len(), list(fields).replace(' ', " ."), list(files))
    });
    vec![
        figure("fields of Syncer", parts.fields.len()),
        row("files with impl Syncer", parts.impls.iter().cloned().collect()),
        Measure {
            name: "files that name one field of Syncer, most",
            value: touched.first().map_or(0, |(files, _)| *files),
            what: touched.iter().map(|(files, field)| format!("{field} {files}")).collect(),
        },
        row("parts of Syncer", parts.names.iter().cloned().collect()),
        Measure {
            name: "files that name a part's fields from outside",
            value: parts.opened.values().map(|(files, _)| files.len()).sum(),
            what: opened.collect(),
        },
    ]
}

fn measure(root: &Path) -> Vec<Measure> {
    let texts = tree::read(root);
    assert!(texts.len() >= 10, "only {} files found: this test would prove nothing", texts.len());
    let files = tree::parse(&texts).unwrap_or_else(|error| panic!("{error}"));
    let names = Names::of(&files);
    let schema = fs::read_to_string(root.join(status::SCHEMA)).expect("the schema can be read");
    let mut all = function_rows(&functions::functions(&files));
    all.extend(result_rows(&files));
    all.extend(file_rows(&texts, &files));
    all.extend(type_rows(&files));
    all.extend(circle_rows(&files, &names));
    all.push(status_row("places that a new field of the status needs", status::PLAIN, &schema, &files));
    all.push(status_row("places of one that shares its row of text", status::COMPOSED, &schema, &files));
    all.extend(part_rows(&files, &names));
    all
}

fn table(measures: &[Measure]) -> String {
    let mut table = "| measure | value |\n|---|---|\n".to_owned();
    for Measure { name, value, what } in measures {
        let colon = if what.is_empty() { "" } else { ": " };
        let _ = writeln!(table, "| {name} | {value}{colon}{} |", what.join(", "));
    }
    table
}

#[test]
fn the_house_is_in_order() {
    let elsewhere = std::env::var_os("HOUSE_ROOT").map(PathBuf::from);
    let root = elsewhere.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    let measures = measure(&root);
    println!("{}", table(&measures));
    if elsewhere.is_some() {
        return;
    }
    let mut broken = String::new();
    for (name, bound) in BOUNDS {
        let measure = measures.iter().find(|measure| measure.name == *name);
        let Measure { value, what, .. } = measure.unwrap_or_else(|| panic!("there is no measure `{name}`"));
        if value > bound {
            let _ = write!(broken, "\n{name}: {value}, may be {bound}\n  {}", what.join("\n  "));
        }
    }
    assert!(broken.is_empty(), "more than there may be (see BOUNDS):{broken}");
}
