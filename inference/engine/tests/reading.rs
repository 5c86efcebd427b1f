//! Vectors and ranks through the host: what the Python package transformers computes (the goldens of `model`'s tests of
//! encoders), whoever else asks at the same time; and what is said when it cannot be.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use contract::{
    EmbedInput, EmbedRequest, Embedder, Embeddings, Event, FinishReason, GenerateError, Generator, Input,
    RankMethod, Ranking, Reply, Request, RerankRequest, Reranker, VectorsOf,
};
use engine::{Host, HostConfig, LocatedModel, ModelSource, Products};
use seeded::checkpoint::{self, Tensor};
use serde_json::Value;
use support::Listener;

/// Far longer than any answer takes: it only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const GOLDENS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/conformance/families");
const MODELS: [&str; 6] =
    ["bert", "modernbert", "qwen3-embedding", "gemma3-embedding", "bert-rerank", "bert-labels"];

fn golden(name: &str) -> Value {
    let path = Path::new(GOLDENS).join("encoders").join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Folders that transformers computed, made again.
struct Shelf(tempfile::TempDir);

impl Shelf {
    fn new() -> Arc<Self> {
        let shelf = tempfile::tempdir().unwrap();
        let tokenizer = std::fs::read_to_string(Path::new(GOLDENS).join("goldens/tokenizer.json")).unwrap();
        for name in MODELS {
            let golden = golden(name);
            let number = |value: &Value| value.as_f64().unwrap() as f32;
            let tensors = golden["tensors"].as_object().unwrap().iter().map(|(name, described)| {
                let shape = described[0].as_array().unwrap().iter();
                let shape = shape.map(|extent| extent.as_u64().unwrap() as usize).collect();
                let (spread, centre) = (number(&described[1]), number(&described[2]));
                Tensor { name: name.clone(), shape, spread, centre }
            });
            let folder = shelf.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let (config, kind) = (golden["config"].to_string(), golden["type"].as_str().unwrap());
            checkpoint::write(&folder, &config, &tokenizer, kind, &tensors.collect::<Vec<_>>()).unwrap();
            for (name, content) in golden["files"].as_object().unwrap() {
                let path = folder.join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content.to_string()).unwrap();
            }
        }
        Arc::new(Self(shelf))
    }
}

impl ModelSource for Shelf {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        let path = self.0.path().join(name);
        if path.exists() {
            return Ok(LocatedModel::bare(name, path));
        }
        Err(GenerateError::ModelNotFound { model: name.to_owned() })
    }
}

fn host(change: impl FnOnce(&mut HostConfig)) -> Host {
    let mut config = HostConfig {
        threads: Some(2),
        encoder_products: Products::Exact,
        batch_tokens_max: 48,
        models_max: 8,
        kv_type: kernels::KvType::F32,
        ..HostConfig::default()
    };
    change(&mut config);
    Host::new(Shelf::new(), config)
}

struct Waiting<T> {
    answer: Sender<Result<T, GenerateError>>,
    open: Arc<AtomicBool>,
}

impl<T: Send> Reply<T> for Waiting<T> {
    fn send(self: Box<Self>, answer: Result<T, GenerateError>) {
        let _ = self.answer.send(answer);
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst)
    }
}

type Answer<T> = Receiver<Result<T, GenerateError>>;

fn waiting<T: Send + 'static>() -> (Box<dyn Reply<T>>, Answer<T>, Arc<AtomicBool>) {
    let (answer, heard) = channel();
    let open = Arc::new(AtomicBool::new(true));
    (Box::new(Waiting { answer, open: Arc::clone(&open) }), heard, open)
}

fn embed_later(host: &Host, request: EmbedRequest) -> Answer<Embeddings> {
    let (reply, heard, _) = waiting();
    host.embed(request, reply);
    heard
}

fn embed(host: &Host, request: EmbedRequest) -> Result<Embeddings, GenerateError> {
    embed_later(host, request).recv_timeout(PATIENCE).unwrap()
}

fn rerank(host: &Host, request: RerankRequest) -> Result<Ranking, GenerateError> {
    let (reply, heard, _) = waiting();
    host.rerank(request, reply);
    heard.recv_timeout(PATIENCE).unwrap()
}

fn tokens(golden: &Value) -> Vec<EmbedInput> {
    let ids = |text: &Value| text.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    golden["texts"].as_array().unwrap().iter().map(|text| EmbedInput::Tokens(ids(text))).collect()
}

fn floats(values: &Value) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn text(text: &str) -> EmbedInput {
    EmbedInput::Text(text.to_owned())
}

fn apart(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Vectors as transformers computes them, several requests at once.
fn check_vectors(host: &Host, name: &str, pooling: &str) {
    let golden = golden(name);
    let request = || EmbedRequest::new(name, tokens(&golden));
    let answers: Vec<_> = (0..5).map(|_| embed_later(host, request())).collect();
    for answer in answers {
        let answer = answer.recv_timeout(PATIENCE).unwrap().unwrap();
        let wanted = golden["vectors"][pooling].as_array().unwrap();
        assert_eq!(answer.all.len(), wanted.len());
        for (ours, wanted) in answer.all.iter().zip(wanted) {
            let apart = apart(&ours.values, &floats(wanted));
            assert!(apart < 1e-4, "{name}: {apart}");
            assert!(ours.width == 32 && !ours.truncated);
        }
        let counts: Vec<u32> = answer.all.iter().map(|embedding| embedding.tokens).collect();
        assert_eq!((counts, answer.usage.prompt_tokens), (vec![1, 2, 17, 33, 60], 113));
    }
}

#[test]
fn vectors_are_those_of_transformers() {
    let host = host(|_| {});
    check_vectors(&host, "bert", "mean");
    check_vectors(&host, "modernbert", "first");
    check_vectors(&host, "qwen3-embedding", "last");
    check_vectors(&host, "gemma3-embedding", "mean");
    assert_eq!(host.counts().loads, 4);
    assert_eq!(host.loaded().len(), 4);
    assert!(host.unload("bert"));
}

#[test]
fn a_text_is_the_same_whoever_else_asks() {
    let host = host(|config| config.encoder_products = Products::Rounded);
    let inputs: Vec<EmbedInput> = (1..40).map(|length| text(&"the in an ".repeat(4)[..length])).collect();
    for model in ["bert", "qwen3-embedding"] {
        let together = embed(&host, EmbedRequest::new(model, inputs.clone())).unwrap();
        let alone =
            inputs.iter().map(|input| embed_later(&host, EmbedRequest::new(model, vec![input.clone()])));
        let alone: Vec<_> = alone.collect();
        for (alone, together) in alone.into_iter().zip(together.all) {
            assert_eq!(alone.recv_timeout(PATIENCE).unwrap().unwrap().all, [together], "{model}");
        }
    }
}

#[test]
fn scores_are_those_of_transformers_and_ranks_follow() {
    let host = host(|_| {});
    // Its golden's pairs are tokens; a text here is one whose tokens are its bytes.
    let documents = ["a b c", "d", "the cat", "in an inn", ""].map(str::to_owned).to_vec();
    let ranking = rerank(&host, RerankRequest::new("bert-rerank", "cat", documents.clone())).unwrap();
    assert_eq!((ranking.scores.len(), ranking.method), (5, RankMethod::CrossEncoder));
    // The same pair alone gives the same score.
    for (document, score) in documents.iter().zip(&ranking.scores) {
        let alone = rerank(&host, RerankRequest::new("bert-rerank", "cat", vec![document.clone()])).unwrap();
        assert_eq!(alone.scores, [*score]);
    }
    let nothing = rerank(&host, RerankRequest::new("bert-rerank", "cat", Vec::new())).unwrap();
    assert!(nothing.scores.is_empty());
}

#[test]
fn embedders_rank_by_their_tokens() {
    let host = host(|_| {});
    let documents = ["cat", "a dog", "cat and dog"].map(str::to_owned).to_vec();
    let ranking = rerank(&host, RerankRequest::new("bert", "cat", documents.clone())).unwrap();
    assert_eq!(ranking.method, RankMethod::LateInteraction);
    assert!((ranking.scores[0] - 1.0).abs() < 1e-5, "a text is most like itself: {:?}", ranking.scores);
    assert_eq!(ranking.order()[0], 0);
    // By hand from the vectors of tokens.
    let of = |words: &str| {
        let request =
            EmbedRequest { vectors: VectorsOf::Tokens, ..EmbedRequest::new("bert", vec![text(words)]) };
        embed(&host, request).unwrap().all.remove(0)
    };
    let (query, document) = (of("cat"), of("cat and dog"));
    assert_eq!(query.values.len(), query.tokens as usize * 32);
    let likeness = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let best = query
        .values
        .chunks(32)
        .map(|q| document.values.chunks(32).map(|d| likeness(q, d)).fold(f32::NEG_INFINITY, f32::max));
    let score = best.sum::<f32>() / query.tokens as f32;
    assert!((score - ranking.scores[2]).abs() < 1e-5, "{score}, {:?}", ranking.scores);
}

#[test]
fn vectors_are_cut_and_normed_as_asked() {
    let host = host(|_| {});
    let request = || EmbedRequest::new("bert", vec![text("the inn")]);
    let whole = embed(&host, EmbedRequest { normalise: Some(false), ..request() }).unwrap().all.remove(0);
    let length = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>().sqrt();
    assert!((length(&whole.values) - 1.0).abs() > 0.1);
    let cut = embed(&host, EmbedRequest { dimensions: Some(8), ..request() }).unwrap().all.remove(0);
    assert_eq!((cut.width, cut.values.len()), (8, 8));
    let scale = length(&whole.values[..8]);
    let wanted: Vec<f32> = whole.values[..8].iter().map(|value| value / scale).collect();
    assert!(apart(&cut.values, &wanted) < 1e-6);
    let refused = embed(&host, EmbedRequest { dimensions: Some(33), ..request() });
    assert!(matches!(refused, Err(GenerateError::Invalid { parameter: Some("dimensions"), .. })));
}

#[test]
fn long_texts_are_cut_or_refused() {
    let host = host(|_| {});
    let long = text(&"x y ".repeat(200));
    for model in ["bert", "qwen3-embedding"] {
        let context = if model == "bert" { 64 } else { 128 };
        let request = EmbedRequest::new(model, vec![text("x"), long.clone()]);
        let answer = embed(&host, request.clone()).unwrap();
        assert!(!answer.all[0].truncated && answer.all[1].truncated);
        assert_eq!(answer.all[1].tokens, context);
        let refused = embed(&host, EmbedRequest { truncate: false, ..request });
        let Err(GenerateError::ContextExceeded { prompt_tokens, context_tokens }) = refused else {
            panic!("{refused:?}")
        };
        assert!(prompt_tokens > 400 && context_tokens == context, "{prompt_tokens} {context_tokens}");
    }
    let request = RerankRequest::new("bert-rerank", "x", vec!["y z ".repeat(200)]);
    assert_eq!(rerank(&host, request.clone()).unwrap().usage.prompt_tokens, 64);
    let refused = rerank(&host, RerankRequest { truncate: false, ..request });
    assert!(matches!(refused, Err(GenerateError::ContextExceeded { .. })), "{refused:?}");
}

#[test]
fn what_a_model_cannot_do_is_said() {
    let host = host(|_| {});
    let unsupported = |error: GenerateError, model: &str, what: &str| {
        let GenerateError::Unsupported { model: named, what: said } = error else { panic!("{error:?}") };
        assert!(named == model && said.contains(what), "{named}: {said}");
    };
    let embedded = |model: &str| embed(&host, EmbedRequest::new(model, vec![text("x")]));
    unsupported(embedded("bert-rerank").unwrap_err(), "bert-rerank", "embeddings");
    let ranked = |model: &str| rerank(&host, RerankRequest::new(model, "x", vec!["y".to_owned()]));
    unsupported(ranked("qwen3-embedding").unwrap_err(), "qwen3-embedding", "ranking");
    unsupported(ranked("bert-labels").unwrap_err(), "bert-labels", "ranking");
    let missing = embedded("nothing").unwrap_err();
    assert_eq!(missing, GenerateError::ModelNotFound { model: "nothing".to_owned() });
    let (events, heard) = channel();
    host.submit(Request::new("bert", Input::Text("x".to_owned())), Box::new(Listener(events)));
    let Event::Failed(error) = heard.recv_timeout(PATIENCE).unwrap() else { panic!("it wrote") };
    unsupported(error, "bert", "generation");
    let foreign = embed(&host, EmbedRequest::new("bert", vec![EmbedInput::Tokens(vec![1, 5000])]));
    assert!(matches!(foreign, Err(GenerateError::Invalid { .. })), "{foreign:?}");
    let empty = embed(&host, EmbedRequest::new("bert", vec![EmbedInput::Tokens(Vec::new())]));
    assert!(matches!(empty, Err(GenerateError::Invalid { .. })), "{empty:?}");
}

#[test]
fn encoders_load_when_asked_to_and_answer_nothing_with_nothing() {
    let host = host(|_| {});
    let (events, heard) = channel();
    host.submit(Request::new("bert", Input::Load), Box::new(Listener(events)));
    assert!(matches!(heard.recv_timeout(PATIENCE).unwrap(), Event::Started(_)));
    let Event::Finished(finished) = heard.recv_timeout(PATIENCE).unwrap() else { panic!("it failed") };
    assert_eq!(finished.reason, FinishReason::Load);
    let shown = host.loaded().remove(0);
    assert_eq!((&*shown.name, shown.context_tokens), ("bert", 64));
    assert!(shown.memory_bytes > 10_000);
    let nothing = embed(&host, EmbedRequest::new("bert", Vec::new())).unwrap();
    assert!(nothing.all.is_empty() && nothing.usage.prompt_tokens == 0);
}

#[test]
fn who_leaves_is_not_waited_for() {
    let host = host(|config| config.batch_tokens_max = 1);
    for model in ["bert", "qwen3-embedding"] {
        let (reply, heard, open) = waiting();
        let texts = vec![text("a long text, again and again"); 2000];
        host.embed(EmbedRequest::new(model, texts), reply);
        open.store(false, Ordering::SeqCst);
        // It is dropped without a vector, long before all would have been computed.
        let answer = heard.recv_timeout(PATIENCE).unwrap();
        assert!(answer.is_err());
        assert!(embed(&host, EmbedRequest::new(model, vec![text("x")])).is_ok());
    }
}

#[test]
fn a_decoder_writes_and_reads_at_the_same_time() {
    let host = host(|_| {});
    let alone = embed(&host, EmbedRequest::new("qwen3-embedding", vec![text("the inn")])).unwrap().all;
    let (events, heard) = channel();
    let mut request = Request::new("qwen3-embedding", Input::Text("the in".to_owned()));
    request.limits.new_tokens_max = Some(60);
    request.sampling.temperature = Some(0.0);
    host.submit(request, Box::new(Listener(events)));
    for _ in 0..20 {
        let beside = embed(&host, EmbedRequest::new("qwen3-embedding", vec![text("the inn")])).unwrap().all;
        assert_eq!(beside, alone);
    }
    let last = heard.iter().last().unwrap();
    assert!(matches!(last, Event::Finished(_)), "{last:?}");
}
