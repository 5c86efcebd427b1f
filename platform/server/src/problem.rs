//! What can go wrong around a request, before or beside the model: one table of text, status and code, and the two
//! shapes it is told in. What goes wrong *with* the model has its table in each dialect's `error.rs`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use dialects::openai::error::{INVALID_REQUEST, SERVER_ERROR};
use dialects::{ollama, openai, tei};

/// Whose errors a path answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Ollama,
    OpenAi,
    /// Text Embeddings Inference.
    Tei,
}

impl Dialect {
    /// The dialect of a path, known or not.
    pub(crate) fn of(path: &str) -> Self {
        match path {
            "/embed" | "/embed_all" | "/similarity" => Self::Tei,
            "/v1" | "/v2/rerank" | "/rerank" | "/reranking" => Self::OpenAi,
            _ if path.starts_with("/v1/") => Self::OpenAi,
            _ => Self::Ollama,
        }
    }
}

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Problem {
    /// No key, or a wrong one.
    #[error("unauthorized: send a valid key as 'Authorization: Bearer KEY'")]
    Unauthorized,
    /// A web page under a foreign name points at this machine, or a client uses a name we were not told.
    #[error(
        "host {0:?} is not allowed on a server that listens on this machine only: use localhost or 127.0.0.1"
    )]
    Host(String),
    /// More than one `Host` header, or one that is no host.
    #[error("the Host header is missing its one valid value")]
    BadHost,
    /// A web page that was not allowed.
    #[error("origin {0:?} is not allowed: add it to the allowed origins")]
    Origin(String),
    /// A web page of another site asks without saying which it is.
    #[error("requests from other sites are not allowed")]
    CrossSite,
    /// No such route.
    #[error("404 page not found")]
    NotFound { method: String, path: String },
    /// The route exists, for other methods.
    #[error("method {method} is not allowed on {path}")]
    Method { method: String, path: String },
    /// A route that other servers have, and this one not yet.
    #[error("{path} is not supported by this version of ondol")]
    Later { path: String },
    /// The body is larger than the limit.
    #[error("the request body is larger than {limit_bytes} bytes")]
    BodyTooLarge { limit_bytes: usize },
    /// The body came too slowly.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// The body broke off.
    #[error("the request body broke off")]
    BodyBroken,
    /// Our own mistake.
    #[error("internal error: the request failed unexpectedly; the server's log has request {id}")]
    Panic { id: String },
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Host(_) | Self::Origin(_) | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::BadHost | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Later { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Panic { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// OpenAI's code.
    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unauthorized => "invalid_api_key",
            Self::Host(_) => "host_not_allowed",
            Self::Origin(_) | Self::CrossSite => "origin_not_allowed",
            Self::NotFound { .. } => "unknown_url",
            Self::Method { .. } => "method_not_allowed",
            Self::Later { .. } => "not_implemented",
            Self::BodyTooLarge { .. } => "request_too_large",
            Self::BodyTimeout => "request_timeout",
            Self::BadHost | Self::BodyBroken | Self::Panic { .. } => return None,
        })
    }

    /// The reply, in the dialect's shape.
    pub(crate) fn reply(&self, dialect: Dialect) -> Response {
        let status = self.status();
        let message = self.to_string();
        let mut response = match dialect {
            Dialect::Ollama => ollama_error(&ollama::ErrorReply::new(status.as_u16(), message)),
            Dialect::Tei => {
                let kind = if status.is_server_error() { "Backend" } else { "Validation" };
                tei_error(&tei::ErrorReply { status: status.as_u16(), kind, message })
            }
            Dialect::OpenAi => {
                let kind = if status.is_server_error() { SERVER_ERROR } else { INVALID_REQUEST };
                let message = match self {
                    Self::NotFound { method, path } => format!("Invalid URL ({method} {path})"),
                    _ => message,
                };
                openai_error(&openai::ErrorReply::new(status.as_u16(), kind, self.code(), message))
            }
        };
        if *self == Self::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// An error in Ollama's shape.
pub(crate) fn ollama_error(error: &ollama::ErrorReply) -> Response {
    json(error.status, error.body().to_string())
}

/// An error in OpenAI's shape.
pub(crate) fn openai_error(error: &openai::ErrorReply) -> Response {
    json(error.status, error.body().to_string())
}

/// An error in TEI's shape.
pub(crate) fn tei_error(error: &tei::ErrorReply) -> Response {
    json(error.status, error.body().to_string())
}

/// A whole reply of JSON.
pub(crate) fn json(status: u16, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    // Client libraries wait this long, in seconds, before they try again.
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
