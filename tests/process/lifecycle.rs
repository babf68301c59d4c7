//! What a supervisor relies on.
