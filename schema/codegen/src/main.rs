//! Writes `blocksync_capnp.rs`, the Rust code of `schema/blocksync.capnp`, into the directory that it is given. Needs the
//! `capnp` tool, any version from 0.9 on.
//!
//! ```text
//! cargo run --manifest-path schema/codegen/Cargo.toml -- src/api
//! ```
//!
//! The header of the file names the schema's SHA-256, so that a stale file is noticed on machines without `capnp`, too.
//! `tests/schema` checks both.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use sha2::{Digest as _, Sha256};

const NAME: &str = "blocksync_capnp.rs";

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::args_os().nth(1).ok_or("usage: blocksync-codegen DIRECTORY")?);
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../blocksync.capnp").canonicalize()?;
    let prefix = schema.parent().ok_or("the schema has no directory")?;
    capnpc::CompilerCommand::new()
        .src_prefix(prefix)
        .file(&schema)
        .output_path(&out)
        .default_parent_module(vec!["api".into()])
        .run()?;
    let code = fs::read_to_string(out.join(NAME))?;
    let digest: String = Sha256::digest(fs::read(&schema)?).iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(out.join(NAME), format!("// schema sha256: {digest}\n{code}"))?;
    Ok(())
}
