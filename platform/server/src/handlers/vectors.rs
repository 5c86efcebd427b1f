//! Vectors and rankings: `/api/embed`, `/api/embeddings`, `/v1/embeddings`, the rerank routes, and TEI's. Each hands one
//! request to a port and waits for the answer, which comes in one piece; a client that leaves takes its request with it.

use axum::extract::{Request, State};
use axum::response::Response;
use contract::{EmbedRequest, Embeddings, GenerateError, Ranking, Reply, RerankRequest};
use dialects::ollama::{self, RequestError};
use dialects::openai::embeddings;
use dialects::rerank::{self, Dialect as RerankDialect};
use dialects::{openai, tei};
use registry::ModelName;
use tokio::sync::oneshot;

use super::fresh_id;
use crate::problem::{Dialect, ollama_error, openai_error, tei_error};
use crate::stream::{warn, whole};
use crate::{App, body, guard};

/// The port's end of an answer.
struct Sender<T>(oneshot::Sender<Result<T, GenerateError>>);

impl<T: Send> Reply<T> for Sender<T> {
    fn send(self: Box<Self>, answer: Result<T, GenerateError>) {
        // A client that left is told nothing.
        let _ = self.0.send(answer);
    }

    fn is_open(&self) -> bool {
        !self.0.is_closed()
    }
}

/// An engine that goes away without a word failed.
async fn received<T>(answer: oneshot::Receiver<Result<T, GenerateError>>) -> Result<T, GenerateError> {
    answer.await.unwrap_or_else(|_| {
        Err(GenerateError::Internal { message: "the answer broke off without an end".to_owned() })
    })
}

async fn embed(app: &App, request: EmbedRequest) -> Result<Embeddings, GenerateError> {
    let (sender, receiver) = oneshot::channel();
    app.services.embedder.embed(request, Box::new(Sender(sender)));
    received(receiver).await
}

async fn rank(app: &App, request: RerankRequest) -> Result<Ranking, GenerateError> {
    let (sender, receiver) = oneshot::channel();
    app.services.reranker.rerank(request, Box::new(Sender(sender)));
    received(receiver).await
}

/// `POST /api/embed`
pub(crate) async fn ollama_embed(State(app): State<App>, request: Request) -> Response {
    ollama(app, request, false).await
}

/// `POST /api/embeddings`
pub(crate) async fn ollama_embeddings(State(app): State<App>, request: Request) -> Response {
    ollama(app, request, true).await
}

async fn ollama(app: App, request: Request, old: bool) -> Response {
    let tenant = guard::tenant(&request);
    let body = match body::read(request.into_body(), &app.limits).await {
        Ok(body) => body,
        Err(problem) => return problem.reply(Dialect::Ollama),
    };
    let parsed = if old { ollama::embed::embeddings(&body) } else { ollama::embed::embed(&body) };
    let mut parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return ollama_error(&error.into()),
    };
    let model = parsed.request.model.clone();
    if ModelName::parse(&model).is_err() {
        return ollama_error(&RequestError::InvalidModelName.into());
    }
    parsed.request.tenant = tenant;
    match embed(&app, parsed.request).await {
        Ok(found) if old => warn(whole(ollama::embed::reply_to_one(&found)), &parsed.warnings),
        Ok(found) => warn(whole(ollama::embed::reply(&model, &found)), &parsed.warnings),
        Err(error) => ollama_error(&ollama::embed::error(&error)),
    }
}

/// `POST /v1/embeddings`
pub(crate) async fn openai_embeddings(State(app): State<App>, request: Request) -> Response {
    let tenant = guard::tenant(&request);
    let body = match body::read(request.into_body(), &app.limits).await {
        Ok(body) => body,
        Err(problem) => return problem.reply(Dialect::OpenAi),
    };
    let mut parsed = match embeddings::read(&body) {
        Ok(parsed) => parsed,
        Err(error) => return openai_error(&error.into()),
    };
    let model = parsed.request.model.clone();
    if ModelName::parse(&model).is_err() {
        return openai_error(&openai::ErrorReply::model_not_found(&model));
    }
    parsed.request.tenant = tenant;
    match embed(&app, parsed.request).await {
        Ok(found) => warn(whole(embeddings::reply(&model, &found, parsed.encoding)), &parsed.warnings),
        Err(error) => openai_error(&embeddings::error(&error)),
    }
}

/// `POST /v1/rerank` and its other names; a body with `texts` is TEI's.
pub(crate) async fn jina_rerank(State(app): State<App>, request: Request) -> Response {
    ranked(app, request, RerankDialect::Jina).await
}

/// `POST /v2/rerank`
pub(crate) async fn cohere_rerank(State(app): State<App>, request: Request) -> Response {
    ranked(app, request, RerankDialect::Cohere).await
}

async fn ranked(app: App, request: Request, dialect: RerankDialect) -> Response {
    let tenant = guard::tenant(&request);
    let body = match body::read(request.into_body(), &app.limits).await {
        Ok(body) => body,
        Err(problem) => return problem.reply(Dialect::OpenAi),
    };
    if tei::request::is_rerank(&body) {
        return tei_ranked(app, &body, tenant).await;
    }
    let mut parsed = match rerank::request::read(&body, dialect) {
        Ok(parsed) => parsed,
        Err(error) => return openai_error(&error.into()),
    };
    let model = &parsed.request.model;
    if ModelName::parse(model).is_err() {
        return openai_error(&openai::ErrorReply::model_not_found(model));
    }
    parsed.request.tenant = tenant;
    match rank(&app, parsed.request.clone()).await {
        Ok(found) => {
            let reply = rerank::response::reply(dialect, &parsed, &found, &fresh_id("rerank-"));
            warn(whole(reply), &parsed.warnings)
        }
        Err(error) => openai_error(&embeddings::error(&error)),
    }
}

async fn tei_ranked(app: App, body: &[u8], tenant: Option<String>) -> Response {
    let parsed = tei::request::rerank(body);
    let mut parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return tei_error(&error.into()),
    };
    let request = &mut parsed.asked.request;
    if let Err(refused) = name_model(&app, &mut request.model) {
        return refused;
    }
    request.tenant = tenant;
    match rank(&app, request.clone()).await {
        Ok(found) => warn(whole(tei::response::ranks(&parsed.asked, &found)), &parsed.warnings),
        Err(error) => tei_error(&(&error).into()),
    }
}

/// Which of TEI's routes for vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TeiRoute {
    Embed,
    EmbedAll,
    Similarity,
}

/// `POST /embed`
pub(crate) async fn tei_embed(State(app): State<App>, request: Request) -> Response {
    tei_vectors(app, request, TeiRoute::Embed).await
}

/// `POST /embed_all`
pub(crate) async fn tei_embed_all(State(app): State<App>, request: Request) -> Response {
    tei_vectors(app, request, TeiRoute::EmbedAll).await
}

/// `POST /similarity`
pub(crate) async fn tei_similarity(State(app): State<App>, request: Request) -> Response {
    tei_vectors(app, request, TeiRoute::Similarity).await
}

async fn tei_vectors(app: App, request: Request, route: TeiRoute) -> Response {
    let tenant = guard::tenant(&request);
    let body = match body::read(request.into_body(), &app.limits).await {
        Ok(body) => body,
        Err(problem) => return problem.reply(Dialect::Tei),
    };
    let parsed = match route {
        TeiRoute::Similarity => tei::request::similarity(&body),
        _ => tei::request::embed(&body, route == TeiRoute::EmbedAll),
    };
    let mut parsed = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return tei_error(&error.into()),
    };
    if let Err(refused) = name_model(&app, &mut parsed.asked.model) {
        return refused;
    }
    parsed.asked.tenant = tenant;
    let found = match embed(&app, parsed.asked).await {
        Ok(found) => found,
        Err(error) => return tei_error(&(&error).into()),
    };
    let reply = match route {
        TeiRoute::Embed => tei::response::embeddings(&found),
        TeiRoute::EmbedAll => tei::response::all_embeddings(&found),
        TeiRoute::Similarity => tei::response::similarities(&found),
    };
    warn(whole(reply), &parsed.warnings)
}

/// TEI's clients name no model: it is the one that is in memory.
#[expect(clippy::result_large_err, reason = "the reply is sent at once")]
fn name_model(app: &App, model: &mut String) -> Result<(), Response> {
    if model.is_empty() {
        let loaded = app.services.generator.loaded();
        let [only] = &loaded[..] else {
            return Err(tei_error(&tei::RequestError::ModelRequired { loaded: loaded.len() }.into()));
        };
        model.clone_from(&only.name);
    }
    if ModelName::parse(model).is_err() {
        let error = GenerateError::ModelNotFound { model: model.clone() };
        return Err(tei_error(&(&error).into()));
    }
    Ok(())
}
