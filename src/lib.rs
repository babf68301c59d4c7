//! `blocksyncd`: P2P block sync for rollup nodes in any language, as a sidecar.
//!
//! ```text
//!                         blocksyncd
//!                        +------------------------------------------------------+
//!  +----------+   unix   |  +-------+  Request  +--------+  Command  +-------+  |  libp2p   +----------+
//!  |  rollup  |<----------->|  api  |---------->|  node  |---------->|  p2p  |<------------>|  peers   |
//!  |   node   |   capnp  |  |       |<----------| (sync) |<----------|       |  |           | (ours,   |
//!  |  (host)  |          |  +---+---+   Heads   +---+----+   Event   +---+---+  |           |  or Go)  |
//!  +----------+          |      | feed              | Batch             | serve|           +----------+
//!                        |      |               +---v-----+             |      |
//!                        |      +-------------->|  store  |<------------+      |
//!                        |          read        +---------+      read          |
//!                        +------------------------------------------------------+
//!
//!   tail               hard                  soft                        target
//!    |------- hard -----|------- soft --------|---- wanted / pending -----|
//!    '------------ stored, contiguous --------'
//!    always:  tail <= hard <= soft <= target        (hard may be "none yet")
//! ```
//!
//! Layers; arrows only downward, and `tests/layering` fails otherwise:
//!
//! ```text
//!   8  main  cli  config  telemetry
//!   7  node                         <- where everything meets, and nothing is decided
//!   6  api   p2p                    <- do not know each other; may read the store
//!   5  store                        <- knows what a Batch is, not why
//!   4  atomic_file  foreign_file    <- small files are written, and files of any kind are read
//!   3  sync                         <- decides; owns the types that the modules share
//!   2  verify
//!   1  block  clock
//!   0  util
//! ```
//!
//! Foreign libraries stay at home: libp2p only in `p2p`, Cap'n Proto only in `api`, fjall only in `store`.

#![forbid(unsafe_code)]

pub mod block;
pub mod clock;
pub mod sync;
pub mod util;
pub mod verify;

#[cfg(feature = "sidecar")]
pub mod api;
#[cfg(feature = "sidecar")]
pub mod atomic_file;
#[cfg(feature = "sidecar")]
pub mod cli;
#[cfg(feature = "sidecar")]
pub mod config;
#[cfg(feature = "sidecar")]
pub mod foreign_file;
#[cfg(feature = "sidecar")]
pub mod node;
#[cfg(feature = "sidecar")]
pub mod p2p;
#[cfg(feature = "sidecar")]
pub mod store;
#[cfg(feature = "sidecar")]
pub mod telemetry;
