//! Small things that several modules need, each written once. They are pure, and know neither blocks nor peers.

pub mod backoff;
pub mod hex;
pub mod printable;
pub mod saturate;
