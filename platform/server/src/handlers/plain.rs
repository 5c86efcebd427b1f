//! Routes that need neither a model nor the store.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::App;
use crate::problem::json;

/// `GET /`: the sentence by which clients and dashboards know that the port is the right one.
pub(crate) async fn running() -> Response {
    let mut response = "Ollama is running".into_response();
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// `GET /health`
pub(crate) async fn health() -> Response {
    json(200, r#"{"status":"ok"}"#.to_owned())
}

/// `GET /api/version`
pub(crate) async fn version(State(app): State<App>) -> Response {
    let version = dialects::ollama::wire::Version { version: app.services.version.to_owned() };
    json(200, dialects::ollama::response::whole(&version))
}

/// `GET /api/status`: there is no cloud behind this server.
pub(crate) async fn status() -> Response {
    json(200, r#"{"cloud":{"disabled":true,"source":"config"}}"#.to_owned())
}
