//! `ondol eval`: measures a model against a text.

use clap::Args;

use crate::commands::Context;

/// The command line of `ondol eval`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// Runs the measurement.
pub(crate) fn run(_context: &Context, _arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::bail!("`ondol eval` is not there yet")
}
