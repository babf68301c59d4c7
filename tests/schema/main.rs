//! The committed Rust code is that of the committed schema.
#![cfg(feature = "sidecar")]
#![allow(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::path::Path;
use std::process::Command;

use blocksyncd::block::Hash;

const CODE: &str = "src/api/blocksync_capnp.rs";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// On every machine: the code names the schema that it was made from.
#[test]
fn the_code_was_made_from_this_schema() {
    let digest = Hash::of(read("schema/blocksync.capnp").as_bytes());
    let first = read(CODE).lines().next().map(str::to_owned);
    assert_eq!(
        first,
        Some(format!("// schema sha256: {digest}")),
        "run: cargo run --manifest-path schema/codegen/Cargo.toml -- src/api"
    );
}

/// Where the compiler is installed: making the code again gives the same.
#[test]
fn the_code_is_what_the_compiler_makes() {
    let ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    if let Err(error) = Command::new("capnp").arg("--version").output() {
        assert!(!ci, "CI needs the capnp tool: {error}");
        eprintln!("SKIPPED: the capnp tool is not installed ({error})");
        return;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let out = target.join("schema");
    std::fs::create_dir_all(&out).unwrap();
    let made = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--locked", "--manifest-path", "schema/codegen/Cargo.toml", "--target-dir"])
        .arg(target.join("codegen"))
        .arg("--")
        .arg(&out)
        .current_dir(root())
        .output()
        .unwrap();
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr);
        assert!(!ci, "{why}");
        eprintln!("SKIPPED: the code generator cannot be built here (offline?): {why}");
        return;
    }
    // Comments name the versions of the tools.
    let code = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect()
    };
    let (ours, made) = (code(&read(CODE)), code(&read(out.join("blocksync_capnp.rs"))));
    let differs = ours.iter().zip(&made).position(|(ours, made)| ours != made);
    assert_eq!(differs, None, "the first line that differs");
    assert_eq!(ours.len(), made.len());
}

/// Go's generator makes functions besides types, all in one name space: a struct `NewBlock` and the constructor of `Block` could not
/// both be there.
#[test]
fn no_type_is_called_like_a_function_that_is_generated_for_another() {
    let schema = read("schema/blocksync.capnp");
    let declared = |line: &str| {
        let mut words = line.split_whitespace();
        let is_type = matches!(words.next(), Some("struct" | "interface" | "enum"));
        words.next().filter(|_| is_type).map(|name| name.trim_end_matches(['{', ';']).to_owned())
    };
    let types: Vec<String> = schema.lines().filter_map(declared).collect();
    assert!(types.len() > 40, "the types are found: {types:?}");
    for name in &types {
        for made in ["New", "NewRoot", "ReadRoot"] {
            let taken = format!("{made}{name}");
            assert!(!types.contains(&taken), "{taken} is generated for {name}");
        }
    }
}
