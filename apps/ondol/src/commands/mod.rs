//! The commands, one file each. A command gets a [`Context`] and its flags, and returns; what went wrong is said by
//! `main`, once.

pub(crate) mod backend;
pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod cp;
pub(crate) mod embed;
pub(crate) mod eval;
pub(crate) mod fit;
pub(crate) mod imatrix;
pub(crate) mod list;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod quantize;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod search;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod stop;
mod talk;

use std::sync::Arc;

use engine::ModelSource;

use crate::assemble::{self, FileSource, StoreSource};
use crate::flags::Command;
use crate::library::Library;
use crate::packed::Keeper;
use crate::settings::Settings;
use crate::terminal::output::Terminal;

/// What every command may use.
#[derive(Debug)]
pub(crate) struct Context {
    pub settings: Settings,
    pub terminal: Terminal,
    /// Packed weights of earlier runs.
    pub packed: Keeper,
}

impl Context {
    /// Where this process finds a model by name or by file; one that is missing is pulled first.
    pub(crate) fn model_source(&self, model: &str) -> anyhow::Result<Arc<dyn ModelSource>> {
        if assemble::model_path(self.terminal, model)?.is_some() {
            let source = Arc::new(FileSource { packed: self.packed.clone() });
            return Ok(assemble::quantised(&self.settings, source));
        }
        let store = assemble::store(&self.settings)?;
        let library = Library::Local(Arc::clone(&store));
        if !library.has(model)? {
            library.pull(&self.settings, self.terminal, model, false)?;
        }
        let source = Arc::new(StoreSource { store, packed: self.packed.clone() });
        Ok(assemble::quantised(&self.settings, source))
    }
}

/// Does what was asked.
pub(crate) fn dispatch(context: &Context, command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Run(flags) => run::run(context, flags),
        Command::Pull(flags) => pull::run(context, flags),
        Command::List(flags) => list::run(context, flags),
        Command::Search(arguments) => search::run(context, arguments),
        Command::Show(flags) => show::run(context, flags),
        Command::Rm(flags) => rm::run(context, flags),
        Command::Cp(flags) => cp::run(context, flags),
        Command::Ps => ps::run(context),
        Command::Stop(flags) => stop::run(context, flags),
        Command::Serve(flags) => serve::run(context, flags),
        Command::Bench(flags) => bench::run(context, flags),
        Command::Cache(flags) => cache::run(context, flags),
        Command::Fit(arguments) => fit::run(context, arguments),
        Command::Compare(arguments) => compare::run(context, arguments),
        Command::Embed(flags) => embed::run(context, flags),
        Command::Eval(arguments) => eval::run(context, arguments),
        Command::Convert(flags) => convert::run(context, flags),
        Command::Quantize(flags) => quantize::run(context, flags),
        Command::Imatrix(flags) => imatrix::run(context, flags),
        Command::Completions(flags) => completions::run(context, flags),
    }
}
