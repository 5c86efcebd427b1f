//! `ondol stop`: takes a model out of a running server's memory.

use registry::ModelName;

use crate::commands::{Context, ps};
use crate::flags::StopFlags;
use crate::terminal::failure::Failure;
use crate::terminal::messages::Message;
use crate::terminal::output;

pub(crate) fn run(context: &Context, flags: &StopFlags) -> anyhow::Result<()> {
    let server = ps::server(context)?;
    let values = [("model", flags.model.as_str())];
    if !server.running()?.iter().any(|running| same(&running.name, &flags.model)) {
        return Err(Failure::new(context.terminal.say(Message::ModelNotLoaded, &values)).into());
    }
    server.stop(&flags.model)?;
    output::print(&format!("{}\n", context.terminal.say(Message::Stopped, &values)))?;
    Ok(())
}

/// Whether two names mean one model, however short they are written.
fn same(one: &str, other: &str) -> bool {
    match (ModelName::parse(one), ModelName::parse(other)) {
        (Ok(one), Ok(other)) => one.matches(&other),
        _ => one == other,
    }
}
