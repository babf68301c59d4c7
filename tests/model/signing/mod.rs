//! When a node that may sign waits: a key on a machine whose store and guard are lost, put aside and restored, mixed; peers that
//! answer, repeat what is old, or are silent; a DA layer that takes blocks of any branch; a host that refuses; an operator.

mod clauses;
mod node;
mod promises;
mod rules;
mod scopes;
mod state;
mod world;
