//! Whether strace is here.

use std::process::Command;

/// Whether the rigs that need strace can run. Says so loudly when they cannot; with `CI=true` that is a failure.
pub fn available(rig: &str) -> bool {
    let runs = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status().is_ok_and(|s| s.success());
    if !runs {
        println!("SKIPPED: {rig}: strace is missing, or may not trace");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI=true requires strace");
    }
    runs
}
