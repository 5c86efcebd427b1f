//! `/api/generate` and `/api/chat`.

use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::response::Response;
use contract::{Event, GenerateError, Input};
use dialects::ollama::{Answer, Endpoint, ErrorReply, Parsed, RequestError, Work, request};
use registry::{ModelName, RegistryError};

use super::models::refused;
use super::on_store;
use crate::problem::{Dialect, ollama_error};
use crate::stream::{Writer, answer, warn, whole};
use crate::{App, body, guard};

/// `POST /api/generate`
pub(crate) async fn generate(State(app): State<App>, request: Request) -> Response {
    run(app, request, Endpoint::Generate).await
}

/// `POST /api/chat`
pub(crate) async fn chat(State(app): State<App>, request: Request) -> Response {
    run(app, request, Endpoint::Chat).await
}

async fn run(app: App, request: Request, endpoint: Endpoint) -> Response {
    let tenant = guard::tenant(&request);
    let body = match body::read(request.into_body(), &app.limits).await {
        Ok(body) => body,
        Err(problem) => return problem.reply(Dialect::Ollama),
    };
    let parsed = match endpoint {
        Endpoint::Generate => request::generate(&body),
        Endpoint::Chat => request::chat(&body),
    };
    drop(body);
    let Parsed { mut request, work, stream, warnings } = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return ollama_error(&error.into()),
    };
    request.tenant = tenant;
    if ModelName::parse(&request.model).is_err() {
        return ollama_error(&RequestError::InvalidModelName.into());
    }
    let raw = matches!(request.input, Input::Text(_));
    let writer = OllamaWriter(Answer::new(endpoint, request.model.clone(), raw));
    let response = match work {
        Work::Generate => submit(&app, request, stream, writer).await,
        // Ollama sends these two whole, also to clients that stream.
        Work::Load => submit(&app, request, false, writer).await,
        Work::Unload => {
            request.keep_alive = Some(contract::KeepAlive::For(Duration::ZERO));
            unload(&app, &request.model, &writer).await
        }
    };
    warn(response, &warnings)
}

async fn submit(app: &App, request: contract::Request, stream: bool, writer: OllamaWriter) -> Response {
    answer(&*app.services.generator, vec![request], stream, writer, app.limits.events_max).await
}

/// Takes the model out of memory; one that was not there is a success too, one that does not exist is not.
async fn unload(app: &App, model: &str, writer: &OllamaWriter) -> Response {
    let name = model.to_owned();
    match on_store(app, move |store| store.resolve(&name)).await {
        Ok(entry) => {
            app.services.generator.unload(&entry.name.to_string());
            whole(writer.0.unloaded(SystemTime::now()))
        }
        Err(RegistryError::NotFound { .. }) => {
            let model = model.to_owned();
            ollama_error(&ErrorReply::from(&GenerateError::ModelNotFound { model }))
        }
        Err(error) => refused(&error, model),
    }
}

struct OllamaWriter(Answer);

impl Writer for OllamaWriter {
    const STREAM_TYPE: &'static str = "application/x-ndjson";

    fn frame(&mut self, _: usize, event: &Event) -> Option<String> {
        self.0.line(event, SystemTime::now())
    }

    fn whole(&mut self, _: usize, event: &Event) -> Option<Response> {
        Some(match self.0.collect(event, SystemTime::now())? {
            Ok(body) => whole(body),
            Err(error) => ollama_error(&error),
        })
    }

    fn refusal(&self, error: &GenerateError) -> Response {
        ollama_error(&error.into())
    }
}
