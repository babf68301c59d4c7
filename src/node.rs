//! The loop: inputs in, effects out, in order. Everything meets here, and nothing is decided.
