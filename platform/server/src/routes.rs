//! Every route, once: method, path, who may ask, and what answers. A route without an entry here does not exist, and
//! an entry cannot leave out who may ask. Whose errors a path speaks follows from the path ([`Dialect::of`]).

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, head, post};

use crate::handlers::{models, ollama, openai, plain, pull, vectors};
use crate::problem::{Dialect, Problem};
use crate::{App, body, guard};

/// How a route is asked. `Get` answers `HEAD` too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Get,
    Post,
    Delete,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Anybody: nothing is told but that the server runs.
    Open,
    /// Whoever has a key, when the server asks for keys.
    Key,
}

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Running,
    Health,
    Version,
    Status,
    Generate,
    Chat,
    Tags,
    Show,
    Processes,
    Pull,
    Delete,
    Copy,
    ChatCompletions,
    Completions,
    Models,
    Model,
    OllamaEmbed,
    OllamaEmbeddings,
    Embeddings,
    Rerank,
    RerankCohere,
    TeiEmbed,
    TeiEmbedAll,
    TeiSimilarity,
    /// Known to clients, not done by this version: 501 instead of 404, so that they can tell the difference.
    Later,
}

use Access::{Key, Open};
use Method::{Delete, Get, Head, Post};

/// The table.
const ROUTES: &[(Method, &str, Access, Target)] = &[
    (Get, "/", Open, Target::Running),
    (Get, "/health", Open, Target::Health),
    // Ollama
    (Get, "/api/version", Key, Target::Version),
    (Get, "/api/status", Key, Target::Status),
    (Post, "/api/generate", Key, Target::Generate),
    (Post, "/api/chat", Key, Target::Chat),
    (Get, "/api/tags", Key, Target::Tags),
    (Post, "/api/show", Key, Target::Show),
    (Get, "/api/ps", Key, Target::Processes),
    (Post, "/api/pull", Key, Target::Pull),
    (Delete, "/api/delete", Key, Target::Delete),
    (Post, "/api/copy", Key, Target::Copy),
    (Post, "/api/embed", Key, Target::OllamaEmbed),
    (Post, "/api/embeddings", Key, Target::OllamaEmbeddings),
    (Post, "/api/create", Key, Target::Later),
    (Post, "/api/push", Key, Target::Later),
    (Head, "/api/blobs/{digest}", Key, Target::Later),
    (Post, "/api/blobs/{digest}", Key, Target::Later),
    (Post, "/api/me", Key, Target::Later),
    (Post, "/api/signout", Key, Target::Later),
    (Post, "/api/experimental/web_search", Key, Target::Later),
    (Post, "/api/experimental/web_fetch", Key, Target::Later),
    // OpenAI
    (Post, "/v1/chat/completions", Key, Target::ChatCompletions),
    (Post, "/v1/completions", Key, Target::Completions),
    (Get, "/v1/models", Key, Target::Models),
    // Names of models hold slashes.
    (Get, "/v1/models/{*model}", Key, Target::Model),
    (Delete, "/v1/models/{*model}", Key, Target::Later),
    (Post, "/v1/embeddings", Key, Target::Embeddings),
    (Post, "/v1/responses", Key, Target::Later),
    (Post, "/v1/messages", Key, Target::Later),
    (Post, "/v1/audio/speech", Key, Target::Later),
    (Post, "/v1/audio/transcriptions", Key, Target::Later),
    (Post, "/v1/audio/translations", Key, Target::Later),
    (Post, "/v1/images/generations", Key, Target::Later),
    (Post, "/v1/moderations", Key, Target::Later),
    (Post, "/v1/systemone", Key, Target::Later),
    // Jina, Cohere
    (Post, "/v1/rerank", Key, Target::Rerank),
    (Post, "/v1/reranking", Key, Target::Rerank),
    (Post, "/rerank", Key, Target::Rerank),
    (Post, "/reranking", Key, Target::Rerank),
    (Post, "/v2/rerank", Key, Target::RerankCohere),
    // Text Embeddings Inference; its rerank shares a path with Jina's
    (Post, "/embed", Key, Target::TeiEmbed),
    (Post, "/embed_all", Key, Target::TeiEmbedAll),
    (Post, "/similarity", Key, Target::TeiSimilarity),
];

/// Whether a path may be asked for without a key. Paths that do not exist may not.
pub(crate) fn is_open(path: &str) -> bool {
    ROUTES.iter().any(|(_, known, access, _)| *known == path && *access == Open)
}

/// The table as a router, with the checks in front of everything, unknown paths included.
pub(crate) fn router(app: App) -> Router {
    let routes = ROUTES.iter().fold(Router::new(), |router, (method, path, _, target)| {
        router.route(path, handler(*method, *target))
    });
    routes
        .fallback(not_found)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

fn handler(method: Method, target: Target) -> MethodRouter<App> {
    macro_rules! on {
        ($handler:expr) => {
            match method {
                Method::Head => head($handler),
                Method::Get => get($handler),
                Method::Post => post($handler),
                Method::Delete => delete($handler),
            }
        };
    }
    match target {
        Target::Running => on!(plain::running),
        Target::Health => on!(plain::health),
        Target::Version => on!(plain::version),
        Target::Status => on!(plain::status),
        Target::Generate => on!(ollama::generate),
        Target::Chat => on!(ollama::chat),
        Target::Tags => on!(models::tags),
        Target::Show => on!(models::show),
        Target::Processes => on!(models::processes),
        Target::Pull => on!(pull::pull),
        Target::Delete => on!(models::delete),
        Target::Copy => on!(models::copy),
        Target::ChatCompletions => on!(openai::chat),
        Target::Completions => on!(openai::completion),
        Target::Models => on!(openai::models),
        Target::Model => on!(openai::model),
        Target::OllamaEmbed => on!(vectors::ollama_embed),
        Target::OllamaEmbeddings => on!(vectors::ollama_embeddings),
        Target::Embeddings => on!(vectors::openai_embeddings),
        Target::Rerank => on!(vectors::jina_rerank),
        Target::RerankCohere => on!(vectors::cohere_rerank),
        Target::TeiEmbed => on!(vectors::tei_embed),
        Target::TeiEmbedAll => on!(vectors::tei_embed_all),
        Target::TeiSimilarity => on!(vectors::tei_similarity),
        Target::Later => on!(later),
    }
}

async fn not_found(State(app): State<App>, request: Request) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    refuse(&app, request, &Problem::NotFound { method, path })
}

async fn wrong_method(State(app): State<App>, request: Request) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    refuse(&app, request, &Problem::Method { method, path })
}

async fn later(State(app): State<App>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    refuse(&app, request, &Problem::Later { path })
}

fn refuse(app: &App, request: Request, problem: &Problem) -> Response {
    let reply = problem.reply(Dialect::of(request.uri().path()));
    body::discard(request.into_body(), &app.limits);
    reply
}
