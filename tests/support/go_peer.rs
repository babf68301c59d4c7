//! The program of the Go peers, `tests/interop/go`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds it; `Err` says why it cannot be.
pub fn build() -> Result<PathBuf, String> {
    // Each suite has its own, because a program that runs cannot be written.
    let name = concat!("gopeer-", env!("CARGO_CRATE_NAME"));
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/go");
    // Nothing of the caller's repository goes into the program, and go.sum is law.
    let built = Command::new("go")
        .args(["build", "-buildvcs=false", "-mod=readonly", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(module)
        .output()
        .map_err(|error| format!("Go is not here: {error}"))?;
    if built.status.success() { Ok(program) } else { Err(String::from_utf8_lossy(&built.stderr).into_owned()) }
}
