//! Who may ask: the names under which this server is reached, the web pages that may use it, and keys. And what every
//! request gets: an id, a line in the log, and a reply even when a handler panics.
//!
//! A browser can be made to send requests to this machine by any page (CSRF), also under a name that the page's owner
//! points here (DNS rebinding; CVE-2024-28224). So a server on loopback, which asks for no key, answers only to names
//! that cannot be pointed elsewhere, and every server refuses pages whose origin it does not know. A server that other
//! machines reach asks for a key, which such a page does not have; its names are the operator's affair.

use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;

use crate::config::Config;
use crate::handlers::fresh_id;
use crate::problem::{Dialect, Problem};
use crate::{App, body, routes};

/// Origins that Ollama allows without being told, as of August 2026; `*` stands for a port or for anything.
const DEFAULT_ORIGINS: &[&str] = &[
    "http://localhost",
    "https://localhost",
    "http://localhost:*",
    "https://localhost:*",
    "http://127.0.0.1",
    "https://127.0.0.1",
    "http://127.0.0.1:*",
    "https://127.0.0.1:*",
    "http://0.0.0.0",
    "https://0.0.0.0",
    "http://0.0.0.0:*",
    "https://0.0.0.0:*",
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
    "chrome-extension://*",
    "moz-extension://*",
    "safari-web-extension://*",
];

/// Names of this machine that need no telling: containers know it by the last one.
const LOCAL_NAMES: &[&str] = &["localhost", "host.docker.internal"];

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROCESSING_MS: HeaderName = HeaderName::from_static("openai-processing-ms");

/// What the checks need to know.
pub(crate) struct Guard {
    loopback: bool,
    keys: Vec<String>,
    origins: Vec<String>,
    hosts: Vec<String>,
}

impl Guard {
    pub(crate) fn new(config: &Config) -> Self {
        let configured =
            config.origins.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase());
        let configured: Vec<String> = configured.filter(|origin| !origin.is_empty()).collect();
        let hosts = configured.iter().filter_map(|origin| origin_host(origin)).map(str::to_owned).collect();
        let mut origins = configured;
        origins.extend(DEFAULT_ORIGINS.iter().map(|origin| (*origin).to_owned()));
        let loopback = config.listen.ip().to_canonical().is_loopback();
        Self { loopback, keys: config.keys.clone(), origins, hosts }
    }

    /// Checks the name under which the server was reached.
    fn check_host(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
        let mut names = headers.get_all(header::HOST).iter();
        let (name, second) = (names.next(), names.next());
        if second.is_some() {
            return Err(Problem::BadHost);
        }
        let header = name.map(|name| name.to_str().map_err(|_| Problem::BadHost)).transpose()?;
        let target = uri.authority().map(|authority| authority.as_str());
        for name in [header, target].into_iter().flatten() {
            let Some(host) = split_port(name) else { return Err(Problem::BadHost) };
            if self.loopback && !self.host_allowed(host) {
                return Err(Problem::Host(name.to_owned()));
            }
        }
        // HTTP/1.0 programs may leave the name out; browsers never do.
        Ok(())
    }

    fn host_allowed(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // An address cannot be pointed elsewhere, but a page may stand on a public one.
        if let Some(address) = parse_address(&host) {
            return is_near(address);
        }
        LOCAL_NAMES.contains(&host.as_str())
            || host.ends_with(".localhost")
            || host.is_empty()
            || self.hosts.contains(&host)
    }

    /// Checks the web page that asks, if one does. The answer is the origin to name in the reply.
    fn check_origin(&self, headers: &HeaderMap, method: &Method) -> Result<Option<HeaderValue>, Problem> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
            let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
            return if site == Some(b"cross-site") && !reads { Err(Problem::CrossSite) } else { Ok(None) };
        };
        let text = origin.to_str().unwrap_or("\u{fffd}").to_ascii_lowercase();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let same =
            |scheme: &str| host.is_some_and(|host| text == format!("{scheme}{}", host.to_ascii_lowercase()));
        let allowed =
            same("http://") || same("https://") || self.origins.iter().any(|one| matches(one, &text));
        if allowed { Ok(Some(origin.clone())) } else { Err(Problem::Origin(text)) }
    }

    /// `None`: no key is asked for here.
    fn check_key(&self, headers: &HeaderMap, path: &str) -> Result<Option<Caller>, Problem> {
        if self.keys.is_empty() || routes::is_open(path) {
            return Ok(None);
        }
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(given), None) = (given.next(), given.next()) else { return Err(Problem::Unauthorized) };
        let key = bearer(given.as_bytes()).ok_or(Problem::Unauthorized)?;
        // Every key is compared, whatever the others said.
        let known = self.keys.iter().enumerate().fold(None, |known, (number, one)| {
            if same_secret(one.as_bytes(), key) { Some(Caller(number)) } else { known }
        });
        known.map(Some).ok_or(Problem::Unauthorized)
    }
}

/// Who asks: whoever has this key, by its place in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller(usize);

/// Whose request it is, for the engine: users with keys of their own are served evenly, and share nothing.
pub(crate) fn tenant(request: &Request) -> Option<String> {
    request.extensions().get::<Caller>().map(|caller| format!("key {}", caller.0 + 1))
}

/// The first and last stop of every request.
pub(crate) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request.headers().get(&REQUEST_ID).and_then(own_id).unwrap_or_else(|| fresh_id("req_"));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let dialect = Dialect::of(&path);
    let (mut response, origin) = match admit(&app.guard, &request) {
        Err(problem) => {
            body::discard(request.into_body(), &app.limits);
            (problem.reply(dialect), None)
        }
        Ok((origin, _)) if method == Method::OPTIONS && request.headers().contains_key(PREFLIGHT) => {
            (preflight(request.headers()), origin)
        }
        Ok((origin, caller)) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            (answer.unwrap_or_else(|_| Problem::Panic { id: id.clone() }.reply(dialect)), origin)
        }
    };
    let took = began.elapsed();
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static("x-request-id, x-ondol-warning");
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if dialect == Dialect::OpenAi {
        headers.insert(PROCESSING_MS, HeaderValue::from(u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    tracing::info!(id, %method, path, status, took_ms = took.as_millis(), "request");
    response
}

type Admitted = (Option<HeaderValue>, Option<Caller>);

fn admit(guard: &Guard, request: &Request) -> Result<Admitted, Problem> {
    let headers = request.headers();
    guard.check_host(headers, request.uri())?;
    let origin = guard.check_origin(headers, request.method())?;
    // A browser asks first without the key, and is told only that it may ask.
    let caller = match *request.method() {
        Method::OPTIONS => None,
        _ => guard.check_key(headers, request.uri().path())?,
    };
    Ok((origin, caller))
}

const PREFLIGHT: HeaderName = header::ACCESS_CONTROL_REQUEST_METHOD;

/// The answer to a browser that asks whether it may ask.
fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET, HEAD, POST, DELETE, OPTIONS");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    // The origin is known and trusted; which headers its client library adds is not for us to list.
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("43200"));
    response
}

/// A client's own id, when it can stand in a log as it is.
fn own_id(value: &HeaderValue) -> Option<String> {
    const LONGEST: usize = 128;
    let text = value.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (!text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain)).then(|| text.to_owned())
}

/// The key of an `Authorization: Bearer …` header.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ")).then(|| key.trim_ascii())
}

/// Compares in a time that does not tell how much of the key was right, only how long the given one is.
fn same_secret(secret: &[u8], given: &[u8]) -> bool {
    let mut difference = secret.len() ^ given.len();
    for (index, byte) in given.iter().enumerate() {
        // `secret` is never empty (`check_exposure`); past its end it begins again, and the lengths differ already.
        difference |= usize::from(byte ^ secret[index % secret.len()]);
        difference = black_box(difference);
    }
    difference == 0
}

/// A host without its port; `None` when it is neither a name nor an address.
fn split_port(name: &str) -> Option<&str> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.len() <= 5;
    if let Some(rest) = name.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        let port = if after.is_empty() { "" } else { after.strip_prefix(':')? };
        return is_port(port).then_some(address);
    }
    let (host, port) = name.split_once(':').unwrap_or((name, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    (is_port(port) && host.bytes().all(plain)).then_some(host)
}

fn parse_address(host: &str) -> Option<IpAddr> {
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// This machine, or its own network (forwarded ports carry such an address).
fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_unspecified() || v4.is_link_local(),
        IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

/// The host in `scheme://host[:port]`, when there is no `*` in it.
fn origin_host(origin: &str) -> Option<&str> {
    let (_, rest) = origin.split_once("://")?;
    let host = split_port(rest.strip_suffix(":*").unwrap_or(rest))?;
    (!host.is_empty()).then_some(host)
}

/// Whether an origin is the one that `pattern` names; one `*` stands for anything, after a colon for a port.
fn matches(pattern: &str, origin: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == origin };
    let middle = origin.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    middle.is_some_and(|middle| {
        let is_port = pattern.ends_with(":*");
        !is_port || (!middle.is_empty() && middle.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard_of(listen: &str, origins: &[&str]) -> Guard {
        let mut config = Config::new(listen.parse().unwrap());
        config.origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        config.keys = vec!["first-key".to_owned(), "둘".to_owned(), "second".to_owned()];
        Guard::new(&config)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn hosts_on_loopback() {
        let guard = guard_of("127.0.0.1:11434", &["https://chat.example.com", "http://*.lab.example"]);
        let check = |host: &str, allowed: bool| {
            let found = guard.check_host(&headers(&[("host", host)]), &Uri::from_static("/api/tags"));
            assert_eq!(found.is_ok(), allowed, "{host:?} {found:?}");
        };
        for host in [
            "localhost",
            "localhost:11434",
            "LocalHost:11434",
            "localhost.",
            "localhost.:11434",
            "127.0.0.1",
            "127.0.0.1:80",
            "127.1.2.3",
            "[::1]",
            "[::1]:11434",
            "[::ffff:127.0.0.1]:1",
            "0.0.0.0:11434",
            "192.168.1.9:11434",
            "10.0.0.1",
            "app.localhost",
            "host.docker.internal:11434",
            "chat.example.com",
            "chat.example.com:8443",
            "",
        ] {
            check(host, true);
        }
        for host in [
            "evil.example",
            "evil.example:11434",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil-localhost",
            "notlocalhost",
            "8.8.8.8",
            "8.8.8.8:11434",
            "[2001:4860:4860::8888]:11434",
            "[::ffff:8.8.8.8]",
            "printer.local",
            "vault.internal",
            "x.lab.example",
            "localhost@evil.example",
            "localhost:11434@evil.example",
            "localhost:port",
            "[::1",
            "::1",
            "[localhost]",
            "a b",
            "localhost/",
            "localhost:123456",
        ] {
            check(host, false);
        }
    }

    #[test]
    fn one_host_and_the_same_in_an_absolute_target() {
        let guard = guard_of("127.0.0.1:1", &[]);
        let two = headers(&[("host", "localhost"), ("host", "localhost")]);
        assert_eq!(guard.check_host(&two, &Uri::from_static("/")), Err(Problem::BadHost));
        let one = headers(&[("host", "localhost")]);
        let target = Uri::from_static("http://evil.example/api/tags");
        assert!(matches!(guard.check_host(&one, &target), Err(Problem::Host(_))));
        assert_eq!(guard.check_host(&one, &Uri::from_static("http://localhost:1/")), Ok(()));
        assert_eq!(guard.check_host(&HeaderMap::new(), &Uri::from_static("/")), Ok(()));
    }

    #[test]
    fn an_address_that_others_reach_has_names_we_do_not_know() {
        let guard = guard_of("0.0.0.0:1", &[]);
        assert_eq!(
            guard.check_host(&headers(&[("host", "gpu1.example.com")]), &Uri::from_static("/")),
            Ok(())
        );
    }

    #[test]
    fn origins() {
        let guard = guard_of("127.0.0.1:11434", &["https://chat.example.com", "http://*.lab.example:8080"]);
        let check = |origin: &str, allowed: bool| {
            let map = headers(&[("host", "my.localhost:99"), ("origin", origin)]);
            assert_eq!(guard.check_origin(&map, &Method::POST).is_ok(), allowed, "{origin}");
        };
        for origin in [
            "http://localhost",
            "http://localhost:3000",
            "https://127.0.0.1:8443",
            "http://0.0.0.0:1",
            "app://obsidian.md",
            "tauri://localhost",
            "file://",
            "vscode-webview://abc",
            "https://chat.example.com",
            "HTTPS://Chat.Example.com",
            "http://a.lab.example:8080",
            "http://my.localhost:99",
            "chrome-extension://abcdef",
        ] {
            check(origin, true);
        }
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://localhost.evil.example",
            "http://localhost:evil",
            "http://localhost:",
            "http://localhost:80.evil.example",
            "https://chat.example.com.evil.example",
            "http://chat.example.com",
            "http://lab.example:8080",
            "http://a.lab.example:80",
            "http://127.0.0.1.evil",
            "http://other.localhost:99",
            "javascript://x",
        ] {
            check(origin, false);
        }
    }

    #[test]
    fn a_foreign_page_that_hides_its_origin_may_only_read() {
        let guard = guard_of("127.0.0.1:1", &[]);
        let map = headers(&[("sec-fetch-site", "cross-site")]);
        assert_eq!(guard.check_origin(&map, &Method::POST), Err(Problem::CrossSite));
        assert_eq!(guard.check_origin(&map, &Method::DELETE), Err(Problem::CrossSite));
        assert_eq!(guard.check_origin(&map, &Method::GET), Ok(None));
        assert_eq!(guard.check_origin(&HeaderMap::new(), &Method::POST), Ok(None));
    }

    #[test]
    fn keys() {
        let guard = guard_of("0.0.0.0:1", &[]);
        let check = |values: &[&str], path: &str, allowed: bool| {
            let pairs: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
            assert_eq!(guard.check_key(&headers(&pairs), path).is_ok(), allowed, "{values:?} {path}");
        };
        check(&["Bearer first-key"], "/api/tags", true);
        check(&["bearer second"], "/api/tags", true);
        check(&["Bearer  second "], "/api/tags", true);
        check(&[], "/api/tags", false);
        check(&[], "/no/such/route", false);
        check(&["Bearer "], "/api/tags", false);
        check(&["Bearer first-ke"], "/api/tags", false);
        check(&["Bearer first-keyy"], "/api/tags", false);
        check(&["Bearer first-keyfirst-key"], "/api/tags", false);
        check(&["Basic first-key"], "/api/tags", false);
        check(&["first-key"], "/api/tags", false);
        check(&["Bearer second", "Bearer second"], "/api/tags", false);
        check(&[], "/", true);
        check(&[], "/health", true);
        check(&[], "/health/", false);
    }

    #[test]
    fn ids_of_clients_are_taken_only_when_plain() {
        let check = |text: &str, taken: bool| {
            assert_eq!(own_id(&HeaderValue::from_str(text).unwrap()).is_some(), taken, "{text}");
        };
        check("8a6e0804-2bd0-4672-b79d-d97027f9071a", true);
        check("trace:1.2_3", true);
        check("", false);
        check("two words", false);
        check("a\"b", false);
        check(&"x".repeat(129), false);
    }
}
