//! Settings: file, environment and flags become one checked `Config`.
