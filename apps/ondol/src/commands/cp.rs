//! `ondol cp`: a second name for a model, or a first one for a file or folder, which is not copied.

use crate::assemble;
use crate::commands::Context;
use crate::flags::CpFlags;
use crate::library::Library;
use crate::terminal::messages::Message;
use crate::terminal::output;

pub(crate) fn run(context: &Context, flags: &CpFlags) -> anyhow::Result<()> {
    let (source, destination) = (flags.source.as_str(), flags.destination.as_str());
    if let Some(path) = assemble::model_path(context.terminal, source)? {
        assemble::store(&context.settings)?.import(path, destination)?;
    } else {
        Library::open(&context.settings)?.copy(source, destination)?;
    }
    let said = context.terminal.say(Message::Copied, &[("from", source), ("to", destination)]);
    output::print(&format!("{said}\n"))?;
    Ok(())
}
