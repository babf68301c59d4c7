//! The house's layering rule, as a test: every path in every file under `src/` is read, resolved to what it names, and
//! held against the tables in [`rules`]; and neither the modules nor the files of one module go in circles.
//!
//! What it is not: a type checker. It reads names, so what a value is used for without being named is not seen, nor is
//! what a foreign macro expands to. What it could not judge (a renamed crate root, a glob over it, `#[path]`, `include!`)
//! it refuses.

mod checker_tests;
mod rules;
#[path = "../support/source/mod.rs"]
mod source;

use std::fs;
use std::path::Path;

use source::circles::Graph;
use source::names::Names;
use source::tree::SourceFile;
use source::{paths, tree};

/// One line of the report: where, which rule, why.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    file: String,
    line: usize,
    message: String,
}

/// Checks one file; `file` is its path below the package, such as `src/sync/fetch.rs`.
fn check(file: &str, source: &str) -> Vec<Violation> {
    let violation = |line, message| Violation { file: file.to_owned(), line, message };
    let (Some(module), Some(top)) = (tree::module_of(file), rules::top_of(file)) else {
        return vec![violation(1, format!("`{file}` is not where a module of the map can be"))];
    };
    let syntax = match syn::parse_file(source) {
        Ok(syntax) => syntax,
        Err(error) => return vec![violation(error.span().start().line, format!("it does not parse: {error}"))],
    };
    let found = paths::read(&module, &syntax);
    let mut violations: Vec<_> = found.refused.into_iter().map(|(line, why)| violation(line, why)).collect();
    for named in &found.named {
        violations.extend(rules::judge(file, top, named).into_iter().map(|why| violation(named.line, why)));
    }
    violations.sort();
    violations.dedup();
    violations
}

#[test]
fn every_path_in_the_code_keeps_to_the_layers() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = tree::rust_files(&package.join("src"));
    assert!(files.len() >= 10, "only {} files found: this test would prove nothing", files.len());

    let mut violations = Vec::new();
    for path in files {
        let name = path.strip_prefix(package).expect("found below the package").to_string_lossy().replace('\\', "/");
        violations.extend(check(&name, &fs::read_to_string(&path).expect("a source file is UTF-8")));
    }
    let report: Vec<_> = violations.iter().map(|v| format!("  {}:{}: {}", v.file, v.line, v.message)).collect();
    assert!(
        violations.is_empty(),
        "the layers (see src/lib.rs) keep what decides apart from what touches the world:\n{}\n\
         If a rule is in your way, the shape may be wrong, or the rule: both can be changed, in the open.",
        report.join("\n")
    );
}

/// The circles in `files`, each with the names that close it.
fn circles(files: &[SourceFile]) -> Vec<String> {
    let names = Names::of(files);
    let mut report = Vec::new();
    for graph in [Graph::of_modules(files, &names), Graph::of_files(files, &names)] {
        for circle in graph.circles() {
            let members: Vec<_> = circle.iter().map(String::as_str).collect();
            report.push(format!("a circle: {}", members.join(", ")));
            report.extend(graph.edges_within(&circle).into_iter().map(|edge| format!("  {edge}")));
        }
    }
    report
}

#[test]
fn nothing_goes_in_a_circle() {
    let files = tree::parse(&tree::read(Path::new(env!("CARGO_MANIFEST_DIR")))).expect("the source parses");
    let report = circles(&files);
    assert!(
        report.is_empty(),
        "modules, and the files of one module, name each other in one direction only:\n  {}\n\
         Move what both need into a file below them, or hand it in from above.",
        report.join("\n  ")
    );
}
