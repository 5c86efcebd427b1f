//! `ondol completions`: a completion script for the user's shell, on standard output.

use crate::commands::Context;
use crate::flags::{self, CompletionsFlags};
use crate::terminal::output;

pub(crate) fn run(context: &Context, flags: &CompletionsFlags) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        flags.shell,
        &mut flags::command(context.settings.language),
        "ondol",
        &mut script,
    );
    output::print(&String::from_utf8(script)?)?;
    Ok(())
}
