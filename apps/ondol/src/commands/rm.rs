//! `ondol rm`: forgets models. The first that fails ends it.

use crate::commands::Context;
use crate::flags::RmFlags;
use crate::library::Library;
use crate::terminal::messages::Message;
use crate::terminal::output;

pub(crate) fn run(context: &Context, flags: &RmFlags) -> anyhow::Result<()> {
    let library = Library::open(&context.settings)?;
    for model in &flags.names {
        library.remove(model)?;
        output::print(&format!("{}\n", context.terminal.say(Message::Deleted, &[("model", model)])))?;
    }
    Ok(())
}
