//! Which models fit this machine, and how fast they will be: told before anything is downloaded.
//!
//! `machine` says what the machine is, `calibrate` measures what it can do, `blueprint` lists the matrices of a model,
//! `predict` reckons time from both, `runs` knows what this version can run, and `advice` chooses. The command and its screens are in `commands::fit`.

pub(crate) mod advice;
pub(crate) mod blueprint;
pub(crate) mod calibrate;
pub(crate) mod machine;
pub(crate) mod predict;
pub(crate) mod runs;
