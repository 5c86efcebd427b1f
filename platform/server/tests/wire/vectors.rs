//! Vectors and rankings over the wire: each route's reply in its dialect's shape, and each way to be refused.

use contract::{EmbedInput, LoadedModel};
use serde_json::json;

use crate::support::Stage;

#[test]
fn ollama() {
    let stage = Stage::new();
    let reply = stage.post("/api/embed", r#"{"model":"vectors","input":["a","abc"]}"#);
    assert_eq!(reply.status, 200);
    let body = reply.json();
    assert_eq!(body["embeddings"], json!([[1.0, 1.0], [3.0, 1.0]]));
    assert_eq!((&body["model"], &body["prompt_eval_count"]), (&json!("vectors"), &json!(6)));
    assert!(body["total_duration"].is_u64() && body["load_duration"].is_u64(), "{body}");
    let nothing = stage.post("/api/embed", r#"{"model":"vectors"}"#).json();
    assert_eq!(nothing["embeddings"], json!([]));
    let old = stage.post("/api/embeddings", r#"{"model":"vectors","prompt":"ab"}"#).json();
    assert_eq!(old, json!({"embedding": [2.0, 1.0]}));
    let asked = stage.generator.embeds.lock().unwrap();
    assert_eq!((asked[0].normalise, asked[2].normalise), (None, Some(false)));
}

#[test]
fn ollama_refusals() {
    let stage = Stage::new();
    for path in ["/api/embed", "/api/embeddings"] {
        stage.post(path, "").is_ollama_error(400, "missing request body");
        stage.post(path, "{}").is_ollama_error(400, "model is required");
        stage.post(path, r#"{"model":"a b"}"#).is_ollama_error(400, "invalid model name");
        stage.post(path, r#"{"model":"chat"}"#).is_ollama_error(400, "\"chat\" does not support embeddings");
        let long = "the input length exceeds the context length: 600 tokens, and 512 fit";
        stage.post(path, r#"{"model":"long"}"#).is_ollama_error(400, long);
    }
    stage.post("/api/embed", r#"{"model":"vectors","input":[1]}"#).is_ollama_error(400, "invalid input type");
    let warned = stage.post("/api/embed", r#"{"model":"vectors","input":"a","options":{"num_ctx":9}}"#);
    assert!(warned.header("x-ondol-warning").is_some_and(|text| text.contains("num_ctx")));
}

#[test]
fn openai() {
    let stage = Stage::new();
    let body = stage.post("/v1/embeddings", r#"{"model":"vectors","input":["a",""+"b"]}"#);
    assert_eq!(body.status, 400, "no JSON");
    let reply = stage.post("/v1/embeddings", r#"{"model":"vectors","input":["a","bcd"]}"#).json();
    let item =
        |index: u32, length: f32| json!({"object": "embedding", "index": index, "embedding": [length, 1.0]});
    assert_eq!(reply["data"], json!([item(0, 1.0), item(1, 3.0)]));
    assert_eq!((&reply["object"], &reply["model"]), (&json!("list"), &json!("vectors")));
    assert_eq!(reply["usage"], json!({"prompt_tokens": 6, "total_tokens": 6}));
    let packed =
        stage.post("/v1/embeddings", r#"{"model":"vectors","input":"a","encoding_format":"base64"}"#);
    assert_eq!(packed.json()["data"][0]["embedding"], "AACAPwAAgD8=");
    stage.post("/v1/embeddings", r#"{"model":"vectors","input":[[1,2],[3]],"dimensions":1}"#);
    let asked = stage.generator.embeds.lock().unwrap().pop().unwrap();
    assert_eq!(asked.inputs, [EmbedInput::Tokens(vec![1, 2]), EmbedInput::Tokens(vec![3])]);
    assert_eq!((asked.dimensions, asked.truncate), (Some(1), false));
}

#[test]
fn openai_refusals() {
    let stage = Stage::new();
    let check = |body: &str, status: u16, code: &str, message: &str| {
        stage.post("/v1/embeddings", body).is_openai_error(status, Some(code), message);
    };
    check(r#"{"input":"a"}"#, 400, "missing_required_parameter", "you must provide a model parameter");
    check(r#"{"model":"m"}"#, 400, "missing_required_parameter", "Missing required parameter: 'input'.");
    check(
        r#"{"model":"chat","input":"a"}"#,
        400,
        "unsupported_value",
        "\"chat\" does not support embeddings",
    );
    let long = "This model's maximum context length is 512 tokens, however you requested 600 tokens. \
                Please reduce the length of the input.";
    check(r#"{"model":"long","input":"a"}"#, 400, "context_length_exceeded", long);
}

#[test]
fn rankings() {
    let stage = Stage::new();
    for path in ["/v1/rerank", "/v1/reranking", "/rerank", "/reranking"] {
        let body = r#"{"model":"ranks","query":"q","documents":["a",{"text":"abc"},"ab"],"top_n":2}"#;
        let reply = stage.post(path, body).json();
        let places: Vec<_> =
            reply["results"].as_array().unwrap().iter().map(|one| one["index"].clone()).collect();
        assert_eq!(places, [1, 2], "{path}: {reply}");
        assert_eq!(reply["results"][0]["document"], json!({"text": "abc"}));
        assert!((reply["results"][0]["relevance_score"].as_f64().unwrap() - 0.952_574).abs() < 1e-6);
        assert_eq!(reply["usage"]["total_tokens"], 7);
        let refused = stage.post(path, r#"{"model":"chat","query":"q","documents":["a"]}"#);
        refused.is_openai_error(400, Some("unsupported_value"), "\"chat\" does not support reranking");
        stage.post(path, r#"{"model":"ranks","query":"q","documents":[]}"#).is_openai_error(
            400,
            Some("empty_array"),
            "Invalid 'documents': empty array. Expected an array with minimum length 1, but got an empty array instead.",
        );
    }
    let cohere = stage.post("/v2/rerank", r#"{"model":"ranks","query":"q","documents":["a","ab"]}"#).json();
    assert_eq!(cohere["results"].as_array().unwrap().len(), 2);
    assert_eq!((&cohere["results"][0]["index"], cohere["results"][0].get("document")), (&json!(1), None));
    assert!(cohere["id"].is_string() && cohere["meta"].is_object(), "{cohere}");
}

#[test]
fn tei() {
    let stage = Stage::new();
    let unnamed = stage.post("/embed", r#"{"inputs":"a"}"#);
    assert_eq!((unnamed.status, unnamed.json()["error_type"].clone()), (422, json!("Validation")));
    let name = "vectors:latest".to_owned();
    stage.generator.in_memory.lock().unwrap().push(LoadedModel {
        name,
        memory_bytes: 1,
        device_bytes: 0,
        context_tokens: 1,
        expires_at: None,
        load: std::time::Duration::ZERO,
        draft_model: None,
        draft_tokens: 0,
        draft_accepted: 0,
    });
    assert_eq!(stage.post("/embed", r#"{"inputs":["a","ab"]}"#).json(), json!([[1.0, 1.0], [2.0, 1.0]]));
    assert_eq!(stage.post("/embed_all", r#"{"inputs":"a"}"#).json(), json!([[[1.0, 1.0]]]));
    let similar = r#"{"inputs":{"source_sentence":"a","sentences":["ab","abc"]}}"#;
    assert_eq!(stage.post("/similarity", similar).json(), json!([3.0, 4.0]));
    let ranks = r#"{"model":"ranks","query":"q","texts":["a","abc"],"raw_scores":true,"return_text":true}"#;
    let expected =
        json!([{"index": 1, "text": "abc", "score": 3.0}, {"index": 0, "text": "a", "score": 1.0}]);
    assert_eq!(stage.post("/rerank", ranks).json(), expected);
    let refused = stage.post("/embed", r#"{"inputs":"a","model":"chat"}"#);
    assert_eq!(
        (refused.status, refused.json()["error"].clone()),
        (422, json!("\"chat\" does not support embeddings"))
    );
    let long = stage.post("/embed", r#"{"inputs":"a","model":"long"}"#);
    assert_eq!(long.status, 413);
    let wrong = stage.ask("GET", "/embed", "");
    assert_eq!((wrong.status, wrong.json()["error_type"].clone()), (405, json!("Validation")));
}
