//! Who may ask: keys on every route, names on loopback, web pages. The rules themselves have their tables in
//! `guard.rs`; here is what they do to whole requests.

use crate::support::{Setup, Stage, request};

fn with_keys() -> Stage {
    Stage::with(Setup { keys: vec!["first-key".into(), "second-key".into()], ..Setup::default() })
}

/// Method and path of every route, and a few that do not exist.
const PROTECTED: &[(&str, &str)] = &[
    ("GET", "/api/version"),
    ("HEAD", "/api/version"),
    ("GET", "/api/status"),
    ("POST", "/api/generate"),
    ("POST", "/api/chat"),
    ("GET", "/api/tags"),
    ("HEAD", "/api/tags"),
    ("POST", "/api/show"),
    ("GET", "/api/ps"),
    ("POST", "/api/pull"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/copy"),
    ("POST", "/api/embed"),
    ("POST", "/api/create"),
    ("POST", "/api/push"),
    ("HEAD", "/api/blobs/sha256:0"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/m"),
    ("DELETE", "/v1/models/m"),
    ("POST", "/v1/embeddings"),
    ("GET", "/no/such/route"),
    ("GET", "/v1/no/such/route"),
    ("GET", "/health/x"),
];

#[test]
fn without_a_key_nothing_is_told() {
    let stage = with_keys();
    let message = "unauthorized: send a valid key as 'Authorization: Bearer KEY'";
    for (method, path) in PROTECTED {
        for headers in
            [&[][..], &[("authorization", "Bearer wrong")], &[("authorization", "Basic first-key")]]
        {
            let reply = stage.ask_with(method, path, headers, "{}");
            assert_eq!(reply.status, 401, "{method} {path} {headers:?}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
            match *method {
                "HEAD" => {}
                _ if path.starts_with("/v1") => reply.is_openai_error(401, Some("invalid_api_key"), message),
                _ => reply.is_ollama_error(401, message),
            }
        }
        for key in ["Bearer first-key", "bearer second-key"] {
            let reply = stage.ask_with(method, path, &[("authorization", key)], "{}");
            assert_ne!(reply.status, 401, "{method} {path} {key}");
        }
    }
    for path in ["/", "/health"] {
        assert_eq!(stage.get(path).status, 200, "{path}");
    }
    assert!(stage.generator.requests.lock().unwrap().is_empty());
}

/// Users with keys of their own are told apart, so that the engine can be even to them and share nothing between them.
#[test]
fn the_engine_is_told_whose_request_it_is() {
    let asked = |stage: &Stage, key: Option<&str>| {
        let headers: Vec<(&str, &str)> = key.map(|key| ("authorization", key)).into_iter().collect();
        let body = r#"{"model":"m","prompt":"x","messages":[{"role":"user","content":"x"}]}"#;
        for path in ["/api/generate", "/api/chat", "/v1/completions", "/v1/chat/completions"] {
            stage.ask_with("POST", path, &headers, body);
        }
        let requests = std::mem::take(&mut *stage.generator.requests.lock().unwrap());
        requests.into_iter().map(|request| request.tenant).collect::<Vec<_>>()
    };
    let stage = with_keys();
    stage.says("m", &["a"]);
    assert_eq!(asked(&stage, Some("Bearer first-key")), vec![Some("key 1".to_owned()); 4]);
    assert_eq!(asked(&stage, Some("Bearer second-key")), vec![Some("key 2".to_owned()); 4]);
    let open = Stage::new();
    open.says("m", &["a"]);
    assert_eq!(asked(&open, None), vec![None; 4]);
}

#[test]
fn without_keys_loopback_needs_none() {
    let stage = Stage::new();
    assert_eq!(stage.get("/api/tags").status, 200);
    let reply = stage.ask_with("GET", "/api/tags", &[("authorization", "Bearer ollama")], "");
    assert_eq!(reply.status, 200, "clients that always send one");
}

#[test]
fn names_that_can_be_pointed_at_this_machine_are_refused() {
    let stage = Stage::new();
    for path in ["/", "/api/tags", "/v1/models", "/nothing"] {
        let reply = stage.ask_with("GET", path, &[("host", "evil.example:11434")], "");
        let message = "host \"evil.example:11434\" is not allowed on a server that listens on this machine only: \
            use localhost or 127.0.0.1";
        if path.starts_with("/v1") {
            reply.is_openai_error(403, Some("host_not_allowed"), message);
        } else {
            reply.is_ollama_error(403, message);
        }
    }
    for host in ["localhost", "127.0.0.1:11434", "[::1]:11434"] {
        assert_eq!(stage.ask_with("GET", "/api/tags", &[("host", host)], "").status, 200, "{host}");
    }
    let two = stage.ask_with("GET", "/api/tags", &[("host", "localhost"), ("host", "evil.example")], "");
    assert_eq!(two.status, 400);
    let absolute = request("GET", "http://evil.example/api/tags", &[], "");
    assert_eq!(stage.raw(absolute.as_bytes()).status, 403);
    let near = request("GET", "http://127.0.0.1/api/tags", &[], "");
    assert_eq!(stage.raw(near.as_bytes()).status, 200);
    assert_eq!(stage.raw(b"GET /api/tags HTTP/1.0\r\n\r\n").status, 200, "no name at all");
}

#[test]
fn foreign_pages_are_refused_and_known_ones_are_let_in() {
    let stage = Stage::with(Setup { origins: vec!["https://chat.example.com/".into()], ..Setup::default() });
    stage.says("m", &["ok"]);
    let body = r#"{"model":"m","prompt":"p","stream":false}"#;
    let foreign = stage.ask_with("POST", "/api/generate", &[("origin", "https://evil.example")], body);
    foreign.is_ollama_error(
        403,
        "origin \"https://evil.example\" is not allowed: add it to the allowed origins",
    );
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    assert!(stage.generator.requests.lock().unwrap().is_empty());
    for origin in ["http://localhost:3000", "https://chat.example.com"] {
        let reply = stage.ask_with("POST", "/api/generate", &[("origin", origin)], body);
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(origin)));
        assert_eq!(reply.header("vary"), Some("origin"));
        assert_eq!(reply.header("access-control-allow-credentials"), None);
    }
    let hidden = [("sec-fetch-site", "cross-site"), ("content-type", "text/plain")];
    assert_eq!(stage.ask_with("POST", "/api/generate", &hidden, body).status, 403);
    let trusted_name = stage.ask_with("GET", "/api/tags", &[("host", "chat.example.com")], "");
    assert_eq!(trusted_name.status, 200, "the host of a configured origin is a name of ours");
}

#[test]
fn browsers_may_ask_whether_they_may_ask() {
    let stage = with_keys();
    let asking = |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "authorization,content-type,x-stainless-os"),
        ];
        stage.ask_with("OPTIONS", "/v1/chat/completions", &headers, "")
    };
    let allowed = asking("http://localhost:5173");
    assert_eq!((allowed.status, allowed.body.len()), (204, 0));
    assert_eq!(allowed.header("access-control-allow-origin"), Some("http://localhost:5173"));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("x-stainless-os"));
    assert!(allowed.header("access-control-allow-methods").unwrap().contains("DELETE"));
    assert_eq!(asking("https://evil.example").status, 403);
    let real = stage.ask_with("POST", "/v1/chat/completions", &[("origin", "http://localhost:5173")], "{}");
    assert_eq!(real.status, 401, "the question itself still needs the key");
    assert_eq!(real.header("access-control-allow-origin"), None);
}

#[test]
fn a_server_that_others_reach_does_not_start_without_a_key() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new();
    let error = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
        // The settings claim loopback; the listener is what counts.
        let config = server::Config::new("127.0.0.1:1".parse().unwrap());
        let options = registry::StoreOptions { root: folder.path().into(), ..Default::default() };
        let services = server::Services {
            generator: stage.generator.clone(),
            embedder: stage.generator.clone(),
            reranker: stage.generator.clone(),
            store: std::sync::Arc::new(registry::Store::open(options).unwrap()),
            pull: registry::PullOptions::default(),
            version: "0",
        };
        server::serve(listener, config, services, std::future::pending()).await.unwrap_err()
    });
    assert!(error.to_string().contains("without a key"), "{error}");
}
