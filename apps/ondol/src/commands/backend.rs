//! Who answers for a model: a file runs where it lies; a name runs on the server that is there, or else in this process; a
//! model that is missing is pulled first. `run` and `compare` begin here.

use std::sync::Arc;

use contract::Generator;
use engine::ModelSource;

use crate::assemble::{self, FileSource, Models, StoreSource};
use crate::commands::Context;
use crate::drafts::Drafts;
use crate::library::Library;
use crate::remote::Remote;
use crate::terminal::failure;

/// Who answers, and where its models are.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) generator: Arc<dyn Generator>,
    /// `None` for a file, which is in no library.
    pub(crate) library: Option<Library>,
}

/// What a command's flags say of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) model: &'a str,
    pub(crate) threads: Option<u16>,
    /// A smaller model that guesses, for this one.
    pub(crate) draft_model: Option<&'a str>,
}

/// Decides who answers. Flags that are about this machine (`--threads`, `--models`, `--draft-model`, `--quant`) mean this
/// process; then where its models come from is returned too.
pub(crate) fn find(
    context: &Context,
    wanted: Wanted<'_>,
) -> anyhow::Result<(Backend, Option<Arc<dyn ModelSource>>)> {
    let settings = &context.settings;
    let Wanted { model, threads, draft_model } = wanted;
    let threads = threads.map(usize::from);
    // A flag is about the one model of this command; the variable may be about many.
    let of_flag = draft_model.map(|draft| Drafts::for_one(model, draft));
    let drafts = of_flag.unwrap_or_else(|| settings.drafts.clone());
    if let Some(draft) = draft_model {
        assemble::model_path(context.terminal, draft)?;
    }
    let in_process = |source: Arc<dyn ModelSource>, library| -> anyhow::Result<_> {
        let source = assemble::drafted(source, drafts, || store_with(context, draft_model))?;
        let generator = Arc::new(assemble::host(settings, Arc::clone(&source), threads, Models::One));
        Ok((Backend { generator, library }, Some(source)))
    };
    let packed = context.packed.clone();
    if assemble::model_path(context.terminal, model)?.is_some() {
        return in_process(Arc::new(FileSource { packed }), None);
    }
    let of_flag = settings.quant.is_some_and(|quant| quant.required);
    let here = threads.is_some() || settings.models.is_some() || draft_model.is_some() || of_flag;
    let (backend, source) = match if here { None } else { Remote::find(settings) } {
        Some(remote) => {
            let library = Some(Library::Remote(remote.clone()));
            (Backend { generator: Arc::new(remote), library }, None)
        }
        None if settings.host_chosen && !settings.host.is_here() && !here => {
            return Err(failure::no_server(settings.language, &settings.host.to_string()).into());
        }
        None => {
            let store = assemble::store(settings)?;
            let source = Arc::new(StoreSource { store: Arc::clone(&store), packed });
            in_process(source, Some(Library::Local(store)))?
        }
    };
    ensure_there(context, &backend, model)?;
    Ok((backend, source))
}

/// The store, with the draft model that the flags name in it: one that is missing is pulled.
fn store_with(context: &Context, draft_model: Option<&str>) -> anyhow::Result<Arc<dyn ModelSource>> {
    let store = assemble::store(&context.settings)?;
    if let Some(draft) = draft_model {
        let library = Library::Local(Arc::clone(&store));
        if !library.has(draft)? {
            library.pull(&context.settings, context.terminal, draft, false)?;
        }
    }
    Ok(Arc::new(StoreSource { store, packed: context.packed.clone() }))
}

/// Pulls a model that the library does not have.
pub(crate) fn ensure_there(context: &Context, backend: &Backend, model: &str) -> anyhow::Result<()> {
    match &backend.library {
        Some(library) if !library.has(model)? => {
            library.pull(&context.settings, context.terminal, model, false)
        }
        _ => Ok(()),
    }
}
