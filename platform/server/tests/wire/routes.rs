//! Every route answers, in its dialect, to the right method; everything else is refused in the right shape.

use serde_json::json;

use crate::support::Stage;

#[test]
fn the_sentence_that_clients_look_for() {
    let stage = Stage::new();
    let reply = stage.get("/");
    assert_eq!((reply.status, reply.text()), (200, "Ollama is running"));
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    for path in ["/", "/api/version", "/api/tags", "/health"] {
        let head = stage.ask("HEAD", path, "");
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{path}");
    }
    assert_eq!(stage.get("/api/version").json(), json!({"version": "1.2.3"}));
    assert_eq!(stage.get("/health").json(), json!({"status": "ok"}));
    assert_eq!(stage.get("/api/status").json()["cloud"]["disabled"], true);
}

#[test]
fn unknown_routes() {
    let stage = Stage::new();
    for path in ["/api", "/api/", "/api/nothing", "/x", "/v1x", "/api/tags/", "//", "/api/../api/tags"] {
        stage.get(path).is_ollama_error(404, "404 page not found");
    }
    for path in ["/v1", "/v1/", "/v1/nothing", "/v1/chat", "/v1/models/"] {
        stage.get(path).is_openai_error(404, Some("unknown_url"), &format!("Invalid URL (GET {path})"));
    }
}

#[test]
fn wrong_methods() {
    let stage = Stage::new();
    let check = |method: &str, path: &str, allowed: &str| {
        let reply = stage.ask(method, path, "");
        let message = format!("method {method} is not allowed on {path}");
        if path.starts_with("/v1") {
            reply.is_openai_error(405, Some("method_not_allowed"), &message);
        } else {
            reply.is_ollama_error(405, &message);
        }
        assert_eq!(reply.header("allow"), Some(allowed), "{method} {path}");
    };
    check("GET", "/api/chat", "POST");
    check("PUT", "/api/generate", "POST");
    check("POST", "/api/tags", "GET,HEAD");
    check("POST", "/api/delete", "DELETE");
    check("PATCH", "/", "GET,HEAD");
    check("GET", "/v1/chat/completions", "POST");
    check("POST", "/v1/models", "GET,HEAD");
}

#[test]
fn what_comes_later_says_so() {
    let stage = Stage::new();
    let ollama = ["/api/create", "/api/push", "/api/blobs/sha256:abc", "/api/me"];
    for path in ollama {
        let message = format!("{path} is not supported by this version of ondol");
        stage.post(path, "{}").is_ollama_error(501, &message);
    }
    for path in ["/v1/responses", "/v1/messages", "/v1/audio/speech", "/v1/moderations"] {
        let message = format!("{path} is not supported by this version of ondol");
        stage.post(path, "{}").is_openai_error(501, Some("not_implemented"), &message);
    }
    assert_eq!(stage.ask("HEAD", "/api/blobs/sha256:abc", "").status, 501);
    assert_eq!(stage.ask("DELETE", "/v1/models/smollm2", "").status, 501);
}

#[test]
fn bodies_that_are_refused() {
    let stage = Stage::new();
    for path in ["/api/generate", "/api/chat", "/api/show", "/api/pull", "/api/copy"] {
        stage.post(path, "").is_ollama_error(400, "missing request body");
        stage.post(path, "[]").is_ollama_error(400, "the request body must be a JSON object");
        let syntax = stage.post(path, "{\"model\": nope}");
        let message = "the request body is not valid JSON: expected ident at line 1 column 12";
        syntax.is_ollama_error(400, message);
    }
    stage.ask("DELETE", "/api/delete", "").is_ollama_error(400, "missing request body");
    for path in ["/api/generate", "/api/chat", "/api/show"] {
        stage.post(path, "{}").is_ollama_error(400, "model is required");
    }
    for name in ["../etc/passwd", "a b", "모델", "a:b:c", "x/../../y"] {
        let body =
            json!({"model": name, "prompt": "p", "messages": [{"role": "user", "content": "x"}]}).to_string();
        for path in ["/api/generate", "/api/chat", "/api/show", "/api/pull"] {
            stage.post(path, &body).is_ollama_error(400, "invalid model name");
        }
        let message = format!("name {name:?} is invalid");
        stage.ask("DELETE", "/api/delete", &body).is_ollama_error(400, &message);
        let missing = format!("The model '{name}' does not exist: pull it first");
        let code = Some("model_not_found");
        stage.post("/v1/chat/completions", &body).is_openai_error(404, code, &missing);
        stage.post("/v1/completions", &body).is_openai_error(404, code, &missing);
    }
    let empty = "We could not parse the JSON body of your request. (the body is empty)";
    for path in ["/v1/chat/completions", "/v1/completions"] {
        stage.post(path, "").is_openai_error(400, None, empty);
        let missing = Some("missing_required_parameter");
        stage.post(path, "{}").is_openai_error(400, missing, "you must provide a model parameter");
    }
    assert!(stage.generator.requests.lock().unwrap().is_empty(), "none of these reached the model");
}

#[test]
fn a_content_type_is_not_needed() {
    // The guides' curl calls send a form's type; PowerShell's send none.
    let stage = Stage::new();
    stage.says("m", &["ok"]);
    let body = r#"{"model":"m","prompt":"p","stream":false}"#;
    for headers in
        [&[("content-type", "application/x-www-form-urlencoded")][..], &[("content-type", "text/plain")], &[]]
    {
        assert_eq!(stage.ask_with("POST", "/api/generate", headers, body).status, 200);
    }
}

#[test]
fn every_reply_has_an_id() {
    let stage = Stage::new();
    let ours = stage.get("/api/tags");
    let id = ours.header("x-request-id").unwrap();
    assert!(id.starts_with("req_") && id.len() == 36, "{id}");
    assert_ne!(stage.get("/api/tags").header("x-request-id"), Some(id));
    let theirs = stage.ask_with("GET", "/nothing", &[("x-request-id", "trace-7")], "");
    assert_eq!(theirs.header("x-request-id"), Some("trace-7"));
    let odd = stage.ask_with("GET", "/", &[("x-request-id", "a b\u{7f}")], "");
    assert!(odd.status == 400 || odd.header("x-request-id").unwrap().starts_with("req_"));
    assert!(stage.get("/v1/models").header("openai-processing-ms").is_some());
}
