//! The `blocksyncd` program.

/// Many threads make and drop many small things: a block passes six of them on its way to disk. Catch-up is a tenth faster
/// with this allocator than with that of glibc, and takes no more memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    blocksyncd::cli::main()
}
