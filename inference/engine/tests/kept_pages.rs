//! Pages that outlive their engine: what a second host answers with pages of the first is what it answers without, bit by
//! bit, whatever became of the pages meanwhile; and whose they are is kept apart.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use contract::{Event, GenerateError, Generator, Input, Request, Usage};
use engine::{Host, HostConfig, LocatedModel, ModelSource, PageShelf, PageStore};
use kernels::{BlockType, KvType};
use seeded::{Family, Shape};
use support::Listener;
use weights::packed::SourceVersion;

/// What is kept: by all that it depends on, then by key.
type Kept = HashMap<(String, u128), (u128, Vec<u8>)>;

/// Pages in memory, as a disk would keep them.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Kept>>);

impl PageStore for Memory {
    fn shelf(&self, _: &Path, version: &SourceVersion, form: &str, _: usize) -> Option<Box<dyn PageShelf>> {
        let model = format!("{version:?} {form}");
        Some(Box::new(Shelf { memory: self.clone(), model }))
    }
}

struct Shelf {
    memory: Memory,
    model: String,
}

impl PageShelf for Shelf {
    fn keys(&self) -> Vec<u128> {
        let kept = self.memory.0.lock().unwrap();
        kept.keys().filter(|(model, _)| *model == self.model).map(|(_, key)| *key).collect()
    }

    fn read(&mut self, key: u128, seal: u128) -> Option<Vec<u8>> {
        let kept = self.memory.0.lock().unwrap();
        let (found, page) = kept.get(&(self.model.clone(), key))?;
        (*found == seal).then(|| page.clone())
    }

    fn keep(&mut self, key: u128, seal: u128, page: &[u8]) -> Vec<u128> {
        let mut kept = self.memory.0.lock().unwrap();
        let before = kept.insert((self.model.clone(), key), (seal, page.to_vec()));
        // Whoever computes a page again computes the same page.
        assert!(before.is_none_or(|(_, before)| before.len() != page.len() || before == page));
        Vec::new()
    }
}

struct Source {
    path: std::path::PathBuf,
    pages: Option<Memory>,
}

impl ModelSource for Source {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        Ok(LocatedModel::bare(name, &self.path))
    }

    fn kept_pages(&self) -> Option<Arc<dyn PageStore>> {
        self.pages.clone().map(|pages| Arc::new(pages) as Arc<dyn PageStore>)
    }
}

/// Tokens, the bits of the log-probabilities, and what was counted.
fn ask(host: &Host, tenant: Option<&str>, prompt: &[u32]) -> (Vec<u32>, Vec<u32>, Usage) {
    let mut request = Request::new("tiny", Input::Tokens(prompt.to_vec()));
    request.limits.new_tokens_max = Some(20);
    request.logprobs = Some(0);
    request.tenant = tenant.map(str::to_owned);
    let (events, receiver) = channel();
    host.submit(request, Box::new(Listener(events)));
    let mut bits = Vec::new();
    loop {
        match receiver.recv_timeout(Duration::from_secs(120)).unwrap() {
            Event::Text(delta) => {
                bits.extend(delta.logprobs.iter().filter_map(|token| token.logprob.map(f32::to_bits)));
            }
            Event::Finished(finished) => return (finished.context, bits, finished.usage),
            Event::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
}

/// A host that has ended, with everything that it wanted to keep.
fn with_host<T>(path: &Path, pages: Option<&Memory>, kv_type: KvType, work: impl FnOnce(&Host) -> T) -> T {
    let source = Source { path: path.to_owned(), pages: pages.cloned() };
    let config = HostConfig { threads: Some(2), kv_type, ..HostConfig::default() };
    let host = Host::new(Arc::new(source), config);
    let done = work(&host);
    host.unload("tiny");
    drop(host);
    // Whoever holds the pages has written what it wanted to.
    while pages.is_some_and(|pages| Arc::strong_count(&pages.0) > 1) {
        std::thread::sleep(Duration::from_millis(2));
    }
    done
}

fn prompts(vocab: u32) -> Vec<Vec<u32>> {
    let token = |at: u32, kind: u32| (at.wrapping_mul(2_654_435_761) ^ kind.wrapping_mul(40_503)) % vocab;
    let whole: Vec<u32> = (0..500).map(|at| token(at, 1)).collect();
    let other = whole[..200].iter().copied().chain((0..150).map(|at| token(at, 2))).collect();
    vec![whole.clone(), whole[..330].to_vec(), other, whole[..31].to_vec()]
}

#[test]
fn answers_after_a_restart_have_the_same_bits_with_kept_pages_and_without() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let shape = Shape { context: 2048, ..Shape::tiny(Family::Llama, BlockType::Q8_0) };
    std::fs::write(&path, shape.gguf()).unwrap();
    let prompts = prompts(shape.vocab() as u32);
    for kv_type in [KvType::F16, KvType::F32] {
        let all = |host: &Host| -> Vec<_> { prompts.iter().map(|prompt| ask(host, None, prompt)).collect() };
        let bits = |answers: &[(Vec<u32>, Vec<u32>, Usage)]| -> Vec<_> {
            answers.iter().map(|(tokens, bits, _)| (tokens.clone(), bits.clone())).collect()
        };
        let cached = |answers: &[(Vec<u32>, Vec<u32>, Usage)]| -> Vec<u32> {
            answers.iter().map(|(_, _, usage)| usage.cached_tokens).collect()
        };
        let without = with_host(&path, None, kv_type, all);
        let memory = Memory::default();
        let first = with_host(&path, Some(&memory), kv_type, all);
        let pages = memory.0.lock().unwrap().len();
        // 500 tokens and 150 others behind 192 of them, in whole pages.
        assert!(pages >= 15 + 4, "{kv_type:?}: {pages} pages");
        assert_eq!(cached(&first)[0], 0);
        let second = with_host(&path, Some(&memory), kv_type, all);
        assert_eq!(cached(&second)[0], 480, "{kv_type:?}: all whole pages but the last token's");
        assert_eq!(bits(&first), bits(&without), "{kv_type:?}");
        assert_eq!(bits(&second), bits(&without), "{kv_type:?}");

        // Some of it is lost meanwhile, some is cut, and what is cut is only seen when it is wanted.
        let mut number = 0;
        memory.0.lock().unwrap().retain(|_, (_, page)| {
            number += 1;
            if number % 5 == 0 {
                page.truncate(7);
            }
            number % 7 != 0
        });
        let third = with_host(&path, Some(&memory), kv_type, all);
        assert_eq!(bits(&third), bits(&without), "{kv_type:?}");
    }
}

#[test]
fn another_user_another_form_another_file_find_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    let shape = Shape { context: 2048, ..Shape::tiny(Family::Llama, BlockType::F32) };
    std::fs::write(&path, shape.gguf()).unwrap();
    let prompt = &prompts(shape.vocab() as u32)[0];
    let memory = Memory::default();
    let one = |kv_type, tenant: Option<&str>| {
        with_host(&path, Some(&memory), kv_type, |host| ask(host, tenant, prompt).2.cached_tokens)
    };
    assert_eq!(one(KvType::F16, Some("a")), 0);
    assert_eq!(one(KvType::F16, Some("b")), 0, "another user");
    assert_eq!(one(KvType::F16, None), 0, "nobody in particular");
    assert_eq!(one(KvType::F16, Some("a")), 480);
    assert_eq!(one(KvType::F32, Some("a")), 0, "another form");
    let changed = Shape { context: 1024, ..shape };
    std::fs::write(&path, changed.gguf()).unwrap();
    assert_eq!(one(KvType::F16, Some("a")), 0, "another file");
}
