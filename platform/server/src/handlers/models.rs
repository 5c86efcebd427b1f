//! `/api/tags`, `/api/show`, `/api/ps`, `/api/delete`, `/api/copy`: what the store and the memory hold.
//! Reading the store may block, so it happens on a thread for blocking work.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use contract::LoadedModel;
use dialects::ollama::response::{Modelfile, modelfile_text, parameters_text, whole as written};
use dialects::ollama::wire::{Details, ListedModel, Models, RunningModel, Shown, ShownTensor, timestamp};
use dialects::ollama::{ErrorReply, RequestError, request};
use registry::{ModelDetails, ModelEntry, ModelName, RegistryError};
use serde_json::{Map, Value};

use super::on_store;
use crate::problem::{Dialect, ollama_error};
use crate::stream::whole;
use crate::{App, body};

/// Go's longest duration, which Ollama adds to the present for a model that stays for ever.
const FOREVER: Duration = Duration::from_secs(i64::MAX as u64 / 1_000_000_000);
/// Longer arrays of the metadata are shown empty unless everything is asked for.
const ARRAY_SHOWN_MAX: usize = 5;

/// `GET /api/tags`
pub(crate) async fn tags(State(app): State<App>) -> Response {
    match on_store(&app, |store| store.list()).await {
        Ok(entries) => whole(written(&Models { models: entries.iter().map(listed).collect() })),
        Err(error) => refused(&error, ""),
    }
}

fn listed(entry: &ModelEntry) -> ListedModel {
    let name = entry.name.to_string();
    ListedModel {
        model: name.clone(),
        name,
        modified_at: timestamp(entry.modified),
        size: entry.size_bytes,
        digest: bare_digest(&entry.digest),
        details: details(entry),
        // All that any model does in this version.
        capabilities: vec!["completion".to_owned()],
    }
}

fn details(entry: &ModelEntry) -> Details {
    let family = entry.family.clone().unwrap_or_default();
    Details {
        parent_model: String::new(),
        format: entry.format.name().to_owned(),
        families: if family.is_empty() { Vec::new() } else { vec![family.clone()] },
        family,
        parameter_size: entry.parameter_size.clone().unwrap_or_default(),
        quantization_level: entry.quantization.clone().unwrap_or_default(),
    }
}

fn bare_digest(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).to_owned()
}

/// `GET /api/ps`
pub(crate) async fn processes(State(app): State<App>) -> Response {
    let mut loaded = app.services.generator.loaded();
    // The longest to stay comes first.
    let expiry = |model: &LoadedModel| model.expires_at.unwrap_or_else(|| SystemTime::now() + FOREVER);
    loaded.sort_by_key(|model| std::cmp::Reverse(expiry(model)));
    let models = on_store(&app, move |store| {
        // A model that was removed from the store meanwhile is still in memory.
        let entry = |model: &LoadedModel| store.resolve(&model.name).ok();
        Ok(loaded.iter().map(|model| running(model, entry(model).as_ref(), expiry(model))).collect())
    });
    match models.await {
        Ok(models) => whole(written(&Models { models })),
        Err(error) => refused(&error, ""),
    }
}

fn running(model: &LoadedModel, entry: Option<&ModelEntry>, expires_at: SystemTime) -> RunningModel {
    let name = ModelName::parse(&model.name).map_or_else(|_| model.name.clone(), |name| name.to_string());
    RunningModel {
        model: name.clone(),
        name,
        size: model.memory_bytes,
        digest: entry.map(|entry| bare_digest(&entry.digest)).unwrap_or_default(),
        details: entry.map(details).unwrap_or_default(),
        expires_at: timestamp(expires_at),
        size_vram: model.device_bytes,
        context_length: model.context_tokens,
        draft_model: model.draft_model.clone(),
        draft_tokens: (model.draft_tokens > 0).then_some(model.draft_tokens),
        draft_accepted: (model.draft_tokens > 0).then_some(model.draft_accepted),
    }
}

/// `POST /api/show`
pub(crate) async fn show(State(app): State<App>, request: Request) -> Response {
    let parsed = match read(&app, request).await.map(|body| request::show(&body)) {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(error)) => return ollama_error(&error.into()),
        Err(response) => return response,
    };
    let (name, verbose) = (parsed.model.clone(), parsed.verbose);
    let details =
        on_store(&app, move |store| if verbose { store.show_whole(&name) } else { store.show(&name) }).await;
    match details {
        Ok(details) => whole(written(&shown(&details, parsed.system, verbose))),
        Err(error) => refused(&error, &parsed.model),
    }
}

fn shown(model: &ModelDetails, system: Option<String>, verbose: bool) -> Shown {
    let entry = &model.entry;
    let system = system.or_else(|| entry.system.clone());
    let modelfile = modelfile_text(&Modelfile {
        name: &entry.name.to_string(),
        from: &entry.path.display().to_string(),
        template: model.template.as_deref(),
        system: system.as_deref(),
        parameters: &entry.parameters,
        licence: entry.licence.as_deref(),
    });
    let tensor = |tensor: &registry::TensorInfo| ShownTensor {
        name: tensor.name.clone(),
        kind: tensor.block_type.clone(),
        shape: tensor.shape.clone(),
    };
    Shown {
        license: entry.licence.clone().unwrap_or_default(),
        modelfile,
        parameters: parameters_text(&entry.parameters),
        template: model.template.clone().unwrap_or_default(),
        system: system.unwrap_or_default(),
        details: details(entry),
        model_info: model_info(model, verbose),
        tensors: model.tensors.iter().map(tensor).collect(),
        capabilities: model.capabilities.clone(),
        modified_at: timestamp(entry.modified),
    }
}

/// The metadata, without what stands elsewhere in the reply, and with the count that Ollama works out too.
fn model_info(model: &ModelDetails, verbose: bool) -> Map<String, Value> {
    let mut info = Map::new();
    for (key, value) in &model.metadata {
        if key == "general.name" || key == "tokenizer.chat_template" {
            continue;
        }
        let long = value.as_array().is_some_and(|items| items.len() > ARRAY_SHOWN_MAX);
        let shown = if long && !verbose { Value::Array(Vec::new()) } else { value.clone() };
        info.insert(key.clone(), shown);
    }
    info.insert("general.parameter_count".to_owned(), Value::from(model.parameter_count));
    info
}

/// `DELETE /api/delete`
pub(crate) async fn delete(State(app): State<App>, request: Request) -> Response {
    let model = match read(&app, request).await.map(|body| request::delete(&body)) {
        Ok(Ok(model)) => model,
        Ok(Err(error)) => return ollama_error(&error.into()),
        Err(response) => return response,
    };
    if ModelName::parse(&model).is_err() {
        return ollama_error(&RequestError::InvalidName { part: "name", name: model }.into());
    }
    let name = model.clone();
    let removed = on_store(&app, move |store| {
        let entry = store.resolve(&name)?;
        store.remove(&name)?;
        Ok(entry.name.to_string())
    });
    match removed.await {
        Ok(name) => {
            app.services.generator.unload(&name);
            Response::new(Body::empty())
        }
        Err(error) => refused(&error, &model),
    }
}

/// `POST /api/copy`
pub(crate) async fn copy(State(app): State<App>, request: Request) -> Response {
    let parsed = match read(&app, request).await.map(|body| request::copy(&body)) {
        Ok(Ok(parsed)) => parsed,
        Ok(Err(error)) => return ollama_error(&error.into()),
        Err(response) => return response,
    };
    for (part, name) in [("source", &parsed.source), ("destination", &parsed.destination)] {
        if ModelName::parse(name).is_err() {
            return ollama_error(&RequestError::InvalidName { part, name: name.clone() }.into());
        }
    }
    let source = parsed.source.clone();
    match on_store(&app, move |store| store.copy(&parsed.source, &parsed.destination)).await {
        Ok(()) => Response::new(Body::empty()),
        // This route has quotes of its own.
        Err(RegistryError::NotFound { .. }) => {
            ollama_error(&ErrorReply::new(404, format!("model {source:?} not found")))
        }
        Err(error) => refused(&error, &source),
    }
}

async fn read(app: &App, request: Request) -> Result<Bytes, Response> {
    body::read(request.into_body(), &app.limits).await.map_err(|problem| problem.reply(Dialect::Ollama))
}

/// The table of the store's errors, in Ollama's shape. `model` is the name as the client wrote it.
pub(crate) fn refused(error: &RegistryError, model: &str) -> Response {
    ollama_error(&error_reply(error, model))
}

/// See [`refused`].
pub(crate) fn error_reply(error: &RegistryError, model: &str) -> ErrorReply {
    let status = match error {
        RegistryError::NotFound { .. } => return ErrorReply::new(404, format!("model '{model}' not found")),
        RegistryError::Name(_) => return RequestError::InvalidModelName.into(),
        RegistryError::NotAtSource { .. } => 404,
        RegistryError::ReadOnly { .. } => 403,
        RegistryError::DiskFull { .. } => 507,
        RegistryError::RateLimited { .. } => 429,
        _ => 500,
    };
    ErrorReply::new(status, error.to_string())
}
