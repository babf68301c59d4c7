//! Small worlds in which everything that can happen happens: breadth first, each state once, until nothing is new.
//!
//! `tests/sim` draws large worlds by chance; here small ones are exhausted, so that what needs five things to come together in one
//! order is found as surely as anything else. What breaks a promise is printed as the shortest way to it.
//!
//! `cargo test --no-default-features --test model -- --nocapture` prints how many states and transitions were explored, in which
//! time; a part that explores less than it did fails.

mod explore;
mod signing;
mod tree;
