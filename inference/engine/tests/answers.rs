//! What a client can ask of an answer besides its text: log-probabilities, the prompt echoed, its length and its end, and
//! that none of it depends on the pieces in which a prompt is read. Whole requests on a seeded model.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use contract::{
    BiasTarget, Event, FinishReason, GenerateError, Generator, Input, LogitBias, Request, TokenLogprob, Usage,
};
use engine::{Host, HostConfig, LocatedModel, ModelSource};
use kernels::BlockType;
use seeded::Family;
use support::Listener;

struct One(std::path::PathBuf);

impl ModelSource for One {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        Ok(LocatedModel::bare(name, self.0.clone()))
    }
}

/// Every prompt is read in pieces of so many tokens.
fn host(piece_tokens: usize) -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    std::fs::write(&path, seeded::tiny(Family::Llama, BlockType::F32)).unwrap();
    let config = HostConfig { threads: Some(1), batch_tokens_max: piece_tokens, ..HostConfig::default() };
    (dir, Host::new(Arc::new(One(path)), config))
}

#[derive(Debug, PartialEq)]
struct Answer {
    text: String,
    tokens: Vec<TokenLogprob>,
    reason: FinishReason,
    usage: Usage,
}

fn try_ask(host: &Host, request: Request) -> Result<Answer, GenerateError> {
    let (events, receiver) = channel();
    host.submit(request, Box::new(Listener(events)));
    let (mut text, mut tokens) = (String::new(), Vec::new());
    loop {
        match receiver.recv_timeout(Duration::from_secs(60)).unwrap() {
            Event::Text(delta) => {
                text.push_str(&delta.text);
                tokens.extend(delta.logprobs);
            }
            Event::Finished(finished) => {
                return Ok(Answer { text, tokens, reason: finished.reason, usage: finished.usage });
            }
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
}

fn ask(host: &Host, request: Request) -> Answer {
    try_ask(host, request).unwrap()
}

const PROMPT: &str = "the cat sat on the mat and the cat sat on";

fn request(input: Input, new_tokens: u32) -> Request {
    let mut request = Request::new("m", input);
    request.limits.new_tokens_max = Some(new_tokens);
    request.sampling.temperature = Some(0.0);
    request.sampling.repeat_penalty = Some(1.0);
    request
}

fn text(text: &str, new_tokens: u32) -> Request {
    request(Input::Text(text.to_owned()), new_tokens)
}

/// Scoring a text in one go is scoring each of its tokens as the answer to those before it: the reference for an echo
/// is the engine without one, one request a token.
#[test]
fn an_echo_scores_a_prompt_as_answers_would() {
    let (_dir, host) = host(512);
    let mut whole = text(PROMPT, 0);
    (whole.echo, whole.logprobs) = (true, Some(3));
    let whole = ask(&host, whole);
    assert_eq!((whole.text.as_str(), whole.reason), (PROMPT, FinishReason::Length));
    assert_eq!(whole.usage.generated_tokens, 0);
    let ids: Vec<u32> = whole.tokens.iter().map(|token| token.id).collect();
    // The tokenizer's own BOS is not told, but it is what the first token follows.
    let bos = usize::try_from(whole.usage.prompt_tokens).unwrap() - ids.len();
    for (place, token) in whole.tokens.iter().enumerate() {
        assert_eq!(token.logprob.is_none(), place == 0 && bos == 0, "{place}");
        let before = &ids[..place];
        if before.is_empty() {
            continue;
        }
        let mut prompt = request(Input::Tokens(before.to_vec()), 1);
        if bos == 1 {
            // With a BOS, the text is what brings it.
            prompt.input = Input::Text(texts(&whole.tokens[..place]));
        }
        prompt.logprobs = Some(20);
        let next = ask(&host, prompt);
        let Some(told) = next.tokens.first() else { continue };
        assert_eq!(told.top[..3], token.top, "{place}");
    }
}

fn texts(tokens: &[TokenLogprob]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.bytes.clone()).collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_echo_does_not_depend_on_pieces_nor_on_what_was_read_before() {
    let answers: Vec<Answer> = [512, 7, 1]
        .into_iter()
        .flat_map(|piece| {
            let (_dir, host) = host(piece);
            let ask_once = || {
                let mut request = text(PROMPT, 5);
                (request.echo, request.logprobs) = (true, Some(2));
                let mut answer = ask(&host, request);
                answer.usage = Usage::default();
                answer
            };
            [ask_once(), ask_once()]
        })
        .collect();
    assert!(answers[0].text.starts_with(PROMPT) && answers[0].tokens.len() > 5);
    for (run, answer) in answers.iter().enumerate() {
        assert_eq!(answer.text, answers[0].text, "run {run}");
        for (place, (ours, first)) in answer.tokens.iter().zip(&answers[0].tokens).enumerate() {
            assert_eq!(ours, first, "run {run}, token {place}");
        }
        assert_eq!(answer.tokens.len(), answers[0].tokens.len(), "run {run}");
    }
}

#[test]
fn token_ids_are_echoed_as_text() {
    let (_dir, host) = host(512);
    let mut ids = text(PROMPT, 0);
    (ids.echo, ids.logprobs) = (true, Some(0));
    let ids: Vec<u32> = ask(&host, ids).tokens.iter().map(|token| token.id).collect();
    let mut echoed = request(Input::Tokens(ids.clone()), 1);
    (echoed.echo, echoed.logprobs) = (true, Some(0));
    let echoed = ask(&host, echoed);
    assert!(echoed.text.starts_with(PROMPT), "{:?}", echoed.text);
    assert_eq!(echoed.tokens[0].logprob, None, "nothing stands before it");
    assert_eq!(echoed.tokens[..ids.len()].iter().map(|token| token.id).collect::<Vec<_>>(), ids);
    assert!(echoed.tokens[1..].iter().all(|token| token.logprob.is_some_and(|logprob| logprob <= 0.0)));
}

#[test]
fn stop_tokens_minimum_lengths_and_bans() {
    let (_dir, host) = host(512);
    let mut plain = text(PROMPT, 8);
    plain.logprobs = Some(0);
    let plain = ask(&host, plain);
    let third = plain.tokens[2].id;
    let first_time = plain.tokens.iter().position(|token| token.id == third).unwrap();

    let stopping = |least: Option<u32>| {
        let mut request = text(PROMPT, 8);
        (request.stop_tokens, request.logprobs) = (vec![third], Some(0));
        request.sampling.min_tokens = least;
        ask(&host, request)
    };
    let stopped = stopping(None);
    assert_eq!((stopped.tokens.len(), stopped.reason), (first_time, FinishReason::Stop));
    let longer = stopping(Some(8));
    assert_eq!((longer.tokens.len(), longer.reason), (8, FinishReason::Length));
    assert!(longer.tokens.iter().all(|token| token.id != third));

    let mut banned = text(PROMPT, 8);
    banned.sampling.logit_bias =
        vec![LogitBias { target: BiasTarget::Token(third), bias: f32::NEG_INFINITY }];
    banned.logprobs = Some(0);
    let banned = ask(&host, banned);
    assert!(banned.tokens.iter().all(|token| token.id != third));
    // What is told is what the model thought, not what the options made of it.
    assert_eq!(banned.tokens[0].id == plain.tokens[0].id, third != plain.tokens[0].id);

    let mut unknown = text(PROMPT, 8);
    unknown.stop_tokens = vec![u32::MAX];
    let error = try_ask(&host, unknown).unwrap_err();
    assert!(matches!(error, GenerateError::Invalid { parameter: Some("stop_token_ids"), .. }), "{error}");
    let mut cold = text(PROMPT, 8);
    cold.sampling.xtc_probability = Some(2.0);
    let error = try_ask(&host, cold).unwrap_err();
    assert!(matches!(error, GenerateError::Invalid { parameter: Some("xtc_probability"), .. }), "{error}");
}

/// Breakers are found in the model's own vocabulary.
#[test]
fn dry_keeps_a_text_from_going_round() {
    let (_dir, host) = host(512);
    let mut echo = text(PROMPT, 0);
    (echo.echo, echo.logprobs) = (true, Some(0));
    let mut words: Vec<(u32, String)> = Vec::new();
    for token in ask(&host, echo).tokens {
        let text = String::from_utf8(token.bytes).unwrap();
        if !text.trim().is_empty() && words.iter().all(|(id, _)| *id != token.id) {
            words.push((token.id, text));
        }
    }
    let [a, b, c, d, e] = [0, 1, 2, 3, 4].map(|place| words[place].0);
    let next = |multiplier: f32, breakers: Option<Vec<String>>| {
        let mut request = request(Input::Tokens(vec![a, b, c, d, a, b, c, d, a, b, c]), 1);
        // Nothing but `d`, which goes round, and `e` is within reach, and `d` is nearer.
        let bias = |id: u32, bias: f32| LogitBias { target: BiasTarget::Token(id), bias };
        request.sampling.logit_bias = vec![bias(d, 100.0), bias(e, 70.0)];
        request.sampling.dry_multiplier = Some(multiplier);
        request.sampling.dry_penalty_last_n = Some(-1);
        request.sampling.dry_sequence_breakers = breakers;
        request.logprobs = Some(0);
        ask(&host, request).tokens[0].id
    };
    assert_eq!(next(0.0, None), d);
    assert_eq!(next(1000.0, Some(Vec::new())), e);
    assert_eq!(
        next(1000.0, Some(vec![words[2].1.clone()])),
        d,
        "a breaker at the end forgives what was before"
    );
}
