//! `ondol pull`: fetches a model into the store, or goes on where an earlier pull stopped.

use crate::commands::Context;
use crate::flags::PullFlags;
use crate::library::Library;

pub(crate) fn run(context: &Context, flags: &PullFlags) -> anyhow::Result<()> {
    Library::open(&context.settings)?.pull(&context.settings, context.terminal, &flags.model, flags.insecure)
}
