//! The generated code of the schema, once more: a scripted sidecar speaks Cap'n Proto itself.

#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, dead_code, missing_debug_implementations, unused_qualifications)]
#[path = "../../../src/api/blocksync_capnp.rs"]
pub mod blocksync_capnp;
