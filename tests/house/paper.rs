//! What `ARCHITECTURE.md` names is there: each file in backticks (`sync/intake.rs`, below `src/`), and each function or type
//! that it is said to have (`sync/intake.rs::incoming`).

use std::fs;
use std::path::Path;

use crate::source::tree;

/// What is named in `text`, and is in none of `files`, which are names and texts.
fn wrong_names(text: &str, files: &[(String, String)]) -> Vec<String> {
    let mut wrong = Vec::new();
    for quoted in text.split('`').skip(1).step_by(2) {
        let (file, name) = quoted.split_once("::").unwrap_or((quoted, ""));
        if Path::new(file).extension().is_none_or(|extension| extension != "rs") || file.contains(' ') {
            continue;
        }
        match files.iter().find(|(path, _)| *path == format!("src/{file}")) {
            None => wrong.push(format!("`{quoted}`: there is no src/{file}")),
            Some((_, source)) if !name.is_empty() && !declares(source, name) => {
                wrong.push(format!("`{quoted}`: src/{file} has no function and no type of that name"));
            }
            Some(_) => {}
        }
    }
    wrong
}

fn declares(source: &str, name: &str) -> bool {
    ["fn", "struct", "enum", "trait"].into_iter().any(|keyword| {
        let declaration = format!("{keyword} {name}");
        source.match_indices(&declaration).any(|(at, found)| {
            let after = source[at + found.len()..].chars().next();
            after.is_none_or(|after| !after.is_alphanumeric() && after != '_')
        })
    })
}

#[test]
fn the_paper_names_what_is_there() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(package.join("ARCHITECTURE.md")).expect("it can be read");
    assert!(text.matches(".rs::").count() > 20, "the lives of a block are told by functions");
    let wrong = wrong_names(&text, &tree::read(package));
    assert!(wrong.is_empty(), "ARCHITECTURE.md names what is not there (any more):\n  {}", wrong.join("\n  "));
}

#[test]
fn what_is_not_there_is_found() {
    let files = [("src/a/b.rs".to_owned(), "pub fn ask(x: u8) {} struct Peer;".to_owned())];
    for (text, wrong) in [
        ("`a/b.rs`, `a/b.rs::ask`, `a/b.rs::Peer`, `Peer`, `tests/sim`", 0),
        ("`a/c.rs`", 1),
        ("`a/b.rs::as`", 1),
        ("`a/b.rs::Peers` and `a/c.rs::ask`", 2),
    ] {
        assert_eq!(wrong_names(text, &files).len(), wrong, "{text}");
    }
}
