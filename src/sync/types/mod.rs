//! The types that the modules share: what the core, the node, the network, the store and the API tell each other.
//!
//! Plain data only. A module outside of the core translates its own library's types into these, so that foreign
//! libraries stay in their folders.

mod chain;
mod exchange;
mod host;
mod ids;
mod peers;
mod store;

pub use chain::*;
pub use exchange::*;
pub use host::*;
pub use ids::*;
pub use peers::*;
pub use store::*;
