//! The source as the tests read it that judge its shape (`tests/layering`, `tests/house`): the files under `src/`, what each
//! names, and the circles among them.

pub mod circles;
pub mod names;
pub mod paths;
pub mod tree;
