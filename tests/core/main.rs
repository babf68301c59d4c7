//! The core's rules, one per test: a [`driver::Core`] is given inputs by hand, and its effects are compared with what the rule
//! says, at the very edge of the rule where it has one.
//!
//! `tests/sim` shows that the rules together keep what is promised, whatever happens; here each of them is held for itself,
//! so that a rule which is changed by accident has a test that names it. No I/O; everything goes through the core's public
//! face.

mod answers;
mod backfill;
mod blocks;
mod branches;
mod catch_up;
mod confirm;
mod costs;
mod da_again;
mod driver;
mod guard;
mod hashes;
mod hearing;
mod history;
mod life;
mod lost_words;
mod named;
mod neighbours;
mod operator;
mod peers;
mod pending;
mod proofs;
mod prune;
mod publish;
mod recalled;
mod reverse_sync;
mod rotation;
mod same_hard;
mod selection;
mod sightings;
mod trusted;
mod waiting;
mod writes;
