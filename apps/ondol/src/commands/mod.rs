//! The commands, one file each.
pub(crate) mod eval;
#[derive(Debug)]
pub(crate) struct Context;
