//! The store and the memory over the wire: tags, show, ps, copy, delete, and OpenAI's list. The model in the store is
//! a real file, tiny and seeded.

use std::time::{Duration, SystemTime};

use contract::LoadedModel;
use serde_json::{Value, json};

use crate::support::Stage;

fn names(stage: &Stage) -> Vec<String> {
    let tags = stage.get("/api/tags").json();
    let mut names: Vec<_> = tags["models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// RFC 3339 in UTC.
fn is_time(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T')
}

#[test]
fn an_empty_store() {
    let stage = Stage::new();
    assert_eq!(stage.get("/api/tags").json(), json!({"models": []}));
    assert_eq!(stage.get("/api/ps").json(), json!({"models": []}));
    assert_eq!(stage.get("/v1/models").json(), json!({"object": "list", "data": []}));
}

#[test]
fn tags() {
    let stage = Stage::new();
    stage.import("tiny");
    let model = stage.get("/api/tags").json()["models"][0].clone();
    assert_eq!((&model["name"], &model["model"]), (&json!("tiny:latest"), &json!("tiny:latest")));
    let digest = model["digest"].as_str().unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    assert!(model["size"].as_u64().unwrap() > 0 && is_time(&model["modified_at"]));
    assert_eq!(model["capabilities"], json!(["completion"]));
    let details = &model["details"];
    assert_eq!((&details["format"], &details["family"]), (&json!("gguf"), &json!("llama")));
    assert_eq!((&details["families"], &details["parent_model"]), (&json!(["llama"]), &json!("")));
    assert!(details["parameter_size"].is_string() && details["quantization_level"].is_string());
}

#[test]
fn show() {
    let stage = Stage::new();
    stage.import("tiny");
    for body in [r#"{"model":"tiny"}"#, r#"{"name":"tiny:latest"}"#] {
        let shown = stage.post("/api/show", body).json();
        assert_eq!(shown["model_info"]["general.architecture"], "llama");
        assert!(shown["model_info"]["general.parameter_count"].as_u64().unwrap() > 0);
        assert_eq!(
            shown["model_info"]["tokenizer.ggml.tokens"],
            json!([]),
            "long arrays only when asked for"
        );
        assert!(shown["model_info"].get("tokenizer.chat_template").is_none());
        assert!(shown["template"].as_str().is_some_and(|template| !template.is_empty()));
        assert!(shown["modelfile"].as_str().unwrap().contains("\nFROM "));
        assert_eq!(shown["capabilities"], json!(["completion"]));
        assert_eq!(shown["details"]["family"], "llama");
        assert!(is_time(&shown["modified_at"]));
        let tensor = &shown["tensors"][0];
        assert!(tensor["name"].is_string() && tensor["type"].is_string() && tensor["shape"].is_array());
    }
    let whole = stage.post("/api/show", r#"{"model":"tiny","verbose":true}"#).json();
    assert!(whole["model_info"]["tokenizer.ggml.tokens"].as_array().unwrap().len() > 100);
    let other = stage.post("/api/show", r#"{"model":"tiny","system":"Be brief."}"#).json();
    assert_eq!(other["system"], "Be brief.");
    stage.post("/api/show", r#"{"model":"nope"}"#).is_ollama_error(404, "model 'nope' not found");
}

#[test]
fn copy_and_delete() {
    let stage = Stage::new();
    stage.import("tiny");
    let copied = stage.post("/api/copy", r#"{"source":"tiny","destination":"me/mine:v1"}"#);
    assert_eq!((copied.status, copied.body.len()), (200, 0));
    assert_eq!(names(&stage), ["me/mine:v1", "tiny:latest"]);
    let check = |body: &str, status: u16, message: &str| {
        stage.post("/api/copy", body).is_ollama_error(status, message);
    };
    check(r#"{"source":"nope","destination":"x"}"#, 404, "model \"nope\" not found");
    check(r#"{"source":"../x","destination":"y"}"#, 400, "source \"../x\" is invalid");
    check(r#"{"source":"tiny","destination":"a b"}"#, 400, "destination \"a b\" is invalid");
    check(r#"{"source":"tiny"}"#, 400, "destination \"\" is invalid");
    let deleted = stage.ask("DELETE", "/api/delete", r#"{"model":"tiny"}"#);
    assert_eq!((deleted.status, deleted.body.len()), (200, 0));
    assert_eq!(names(&stage), ["me/mine:v1"]);
    assert_eq!(*stage.generator.unloaded.lock().unwrap(), ["tiny:latest"], "and out of memory");
    let again = stage.ask("DELETE", "/api/delete", r#"{"name":"tiny"}"#);
    again.is_ollama_error(404, "model 'tiny' not found");
    assert!(stage.folder.path().join("tiny.gguf").exists(), "a file that was imported in place stays");
}

#[test]
fn processes() {
    let stage = Stage::new();
    stage.import("tiny");
    let loaded = |name: &str, expires_at| LoadedModel {
        name: name.to_owned(),
        memory_bytes: 5000,
        device_bytes: 0,
        context_tokens: 4096,
        expires_at,
        load: Duration::ZERO,
        draft_model: (name == "tiny:latest").then(|| "tinier:latest".to_owned()),
        draft_tokens: if name == "tiny:latest" { 40 } else { 0 },
        draft_accepted: 30,
    };
    let soon = SystemTime::now() + Duration::from_secs(60);
    *stage.generator.in_memory.lock().unwrap() =
        vec![loaded("gone:latest", Some(soon)), loaded("tiny:latest", None)];
    let models = stage.get("/api/ps").json()["models"].clone();
    let first = &models[0];
    assert_eq!(
        (&first["name"], &first["model"]),
        (&json!("tiny:latest"), &json!("tiny:latest")),
        "for ever is longest"
    );
    assert_eq!(
        (&first["size"], &first["size_vram"], &first["context_length"]),
        (&json!(5000), &json!(0), &json!(4096))
    );
    assert_eq!(first["digest"].as_str().unwrap().len(), 64);
    assert_eq!(
        (&first["draft_model"], &first["draft_tokens"], &first["draft_accepted"]),
        (&json!("tinier:latest"), &json!(40), &json!(30))
    );
    let others = models[1].as_object().unwrap();
    assert!(!others.keys().any(|key| key.starts_with("draft")), "nothing is guessed for it: {others:?}");
    assert_eq!(first["details"]["family"], "llama");
    assert!(first["expires_at"].as_str().unwrap() > "2300", "for ever is a time far away");
    assert_eq!((&models[1]["name"], &models[1]["digest"]), (&json!("gone:latest"), &json!("")));
    assert!(is_time(&models[1]["expires_at"]));
}

#[test]
fn openai_models() {
    let stage = Stage::new();
    stage.import("tiny");
    stage.import("hf.co/Org/Repo-GGUF:Q8_0");
    let list = stage.get("/v1/models").json();
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"tiny:latest") && ids.contains(&"hf.co/Org/Repo-GGUF:Q8_0"), "{ids:?}");
    for (path, id, owner) in [
        ("/v1/models/tiny", "tiny", "library"),
        ("/v1/models/tiny:latest", "tiny:latest", "library"),
        ("/v1/models/tiny%3Alatest", "tiny:latest", "library"),
        ("/v1/models/hf.co/Org/Repo-GGUF:Q8_0", "hf.co/Org/Repo-GGUF:Q8_0", "Org"),
    ] {
        let model = stage.get(path).json();
        assert_eq!(
            (&model["id"], &model["object"], &model["owned_by"]),
            (&json!(id), &json!("model"), &json!(owner))
        );
        assert!(model["created"].as_u64().unwrap() > 1_700_000_000);
    }
    for name in ["nope", "..%2f..%2fetc", "%00", "a/b/c/d"] {
        let reply = stage.get(&format!("/v1/models/{name}"));
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].clone()),
            (404, json!("model_not_found")),
            "{name}"
        );
    }
}
