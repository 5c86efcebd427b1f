//! `/v1/chat/completions`, `/v1/completions`, `/v1/models`.

use std::time::SystemTime;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use contract::{Event, GenerateError};
use dialects::openai::error::SERVER_ERROR;
use dialects::openai::wire::{Model, ModelList};
use dialects::openai::{Answer, Endpoint, ErrorReply, Header, request, response};
use registry::{ModelEntry, ModelName, RegistryError};

use super::{fresh_id, on_store, unix_seconds};
use crate::problem::{Dialect, openai_error};
use crate::stream::{Writer, answer, warn, whole};
use crate::{App, body, guard};

/// `POST /v1/chat/completions`
pub(crate) async fn chat(State(app): State<App>, request: Request) -> Response {
    run(app, request, Endpoint::Chat).await
}

/// `POST /v1/completions`
pub(crate) async fn completion(State(app): State<App>, request: Request) -> Response {
    run(app, request, Endpoint::Completion).await
}

async fn run(app: App, request: Request, endpoint: Endpoint) -> Response {
    let tenant = guard::tenant(&request);
    let body = match body::read(request.into_body(), &app.limits).await {
        Ok(body) => body,
        Err(problem) => return problem.reply(Dialect::OpenAi),
    };
    let (parsed, id) = match endpoint {
        Endpoint::Chat => (request::chat(&body), fresh_id("chatcmpl-")),
        Endpoint::Completion => (request::completion(&body), fresh_id("cmpl-")),
    };
    drop(body);
    let mut parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return openai_error(&error.into()),
    };
    parsed.request.tenant = tenant;
    let model = parsed.request.model.clone();
    if ModelName::parse(&model).is_err() {
        return openai_error(&ErrorReply::model_not_found(&model));
    }
    let header = Header { id, created: unix_seconds(SystemTime::now()), model };
    let writer = OpenAiWriter(Answer::new(endpoint, header, &parsed));
    let generator = &*app.services.generator;
    let response = answer(generator, parsed.requests(), parsed.stream, writer, app.limits.events_max).await;
    warn(response, &parsed.warnings)
}

/// `GET /v1/models`
pub(crate) async fn models(State(app): State<App>) -> Response {
    match on_store(&app, |store| store.list()).await {
        Ok(entries) => {
            let data = entries.iter().map(|entry| model_of(entry, entry.name.to_string())).collect();
            whole(response::whole(&ModelList::new(data)))
        }
        Err(error) => refused(&error, ""),
    }
}

/// `GET /v1/models/{model}`
pub(crate) async fn model(State(app): State<App>, Path(name): Path<String>) -> Response {
    let asked = name.clone();
    match on_store(&app, move |store| store.resolve(&asked)).await {
        // The name comes back as it was asked for, as with Ollama.
        Ok(entry) => whole(response::whole(&model_of(&entry, name))),
        Err(error) => refused(&error, &name),
    }
}

fn model_of(entry: &ModelEntry, id: String) -> Model {
    Model::new(id, unix_seconds(entry.modified), entry.name.namespace())
}

fn refused(error: &RegistryError, model: &str) -> Response {
    let reply = match error {
        RegistryError::NotFound { .. } | RegistryError::Name(_) => ErrorReply::model_not_found(model),
        other => ErrorReply::new(500, SERVER_ERROR, None, other.to_string()),
    };
    openai_error(&reply)
}

struct OpenAiWriter(Answer);

impl Writer for OpenAiWriter {
    const STREAM_TYPE: &'static str = "text/event-stream; charset=utf-8";

    fn frame(&mut self, sequence: usize, event: &Event) -> Option<String> {
        self.0.chunks(sequence, event)
    }

    fn whole(&mut self, sequence: usize, event: &Event) -> Option<Response> {
        Some(match self.0.collect(sequence, event)? {
            Ok(body) => whole(body),
            Err(error) => openai_error(&error),
        })
    }

    fn refusal(&self, error: &GenerateError) -> Response {
        openai_error(&error.into())
    }
}
