//! The `blocksyncd` program.

fn main() -> std::process::ExitCode {
    blocksyncd::cli::main()
}
