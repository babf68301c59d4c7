//! Logs, and what a supervisor is told.
