//! Draft models through the `Generator` port: the same answers, memory that is reckoned, guesses that are counted, and what is
//! said where a model cannot guess for another. That no byte changes under load is tested beside the engine
//! (`step/tests/drafted.rs`).

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use contract::{Event, Finished, GenerateError, Generator, Input, LoadedModel, Request};
use engine::{DraftModel, Host, HostConfig, LocatedModel, ModelSource};
use kernels::BlockType;
use seeded::{Family, Shape};
use support::Listener;

/// Far longer than any answer takes: it only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Files by name, and a draft model for all of them.
struct Folder {
    path: PathBuf,
    draft: Option<(&'static str, bool)>,
}

impl ModelSource for Folder {
    fn locate(&self, name: &str) -> Result<LocatedModel, GenerateError> {
        let mut located = LocatedModel::bare(name, self.path.join(name));
        located.draft = self.draft.map(|(draft, required)| DraftModel {
            name: draft.to_owned(),
            path: self.path.join(draft),
            required,
        });
        Ok(located)
    }
}

/// `target`, `draft` with a twelfth of its layers, `gemma` of another vocabulary, and `broken`.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let target = Shape { layers: 12, ..Shape::tiny(Family::Llama, BlockType::Q8_0) };
    write("target", &target.gguf());
    write("draft", &Shape { layers: 1, ..target.clone() }.gguf());
    write("gemma", &Shape { layers: 1, ..Shape::tiny(Family::Gemma3, BlockType::Q8_0) }.gguf());
    write("broken", &target.gguf()[..1000]);
    dir
}

fn host(folder: &Path, draft: Option<(&'static str, bool)>) -> Host {
    let config = HostConfig { threads: Some(1), context_tokens: Some(256), ..HostConfig::default() };
    Host::new(Arc::new(Folder { path: folder.to_owned(), draft }), config)
}

fn ask(host: &Host, seed: u64, temperature: f32) -> Result<Finished, GenerateError> {
    let mut request = Request::new("target", Input::Tokens((0..50).map(|at| (at * at) % 200).collect()));
    request.limits.new_tokens_max = Some(40);
    request.sampling.temperature = Some(temperature);
    request.sampling.ignore_eos = Some(true);
    request.sampling.seed = Some(seed);
    let (events, receiver) = channel();
    host.submit(request, Box::new(Listener(events)));
    loop {
        match receiver.recv_timeout(PATIENCE).unwrap() {
            Event::Finished(finished) => return Ok(finished),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
}

fn loaded(host: &Host) -> LoadedModel {
    host.loaded().remove(0)
}

#[test]
fn answers_are_the_same_and_guesses_are_counted() {
    let dir = folder();
    let (plain, guessing) = (host(dir.path(), None), host(dir.path(), Some(("draft", false))));
    let mut made = 0;
    for (seed, temperature) in [(1, 0.0), (2, 0.8), (3, 1.5), (4, 0.0)] {
        let (want, ours) =
            (ask(&plain, seed, temperature).unwrap(), ask(&guessing, seed, temperature).unwrap());
        assert_eq!(ours.context, want.context, "{seed} at {temperature}");
        assert!(ours.usage.draft_accepted <= ours.usage.draft_tokens);
        made += u64::from(ours.usage.draft_tokens);
    }
    assert!(made > 0);
    let (without, with) = (loaded(&plain), loaded(&guessing));
    assert_eq!((without.draft_model, with.draft_model.as_deref()), (None, Some("draft")));
    // The last step's guesses may not be in the sum yet.
    assert!((1..=made).contains(&with.draft_tokens), "{} of {made}", with.draft_tokens);
    assert!(with.memory_bytes > without.memory_bytes, "{} > {}", with.memory_bytes, without.memory_bytes);
}

/// Asks a model with a draft model that cannot be of use: it answers without, or, where that was chosen for it, is not
/// loaded and says this.
fn refused(draft: &'static str, says: &[&str]) {
    let dir = folder();
    let want = ask(&host(dir.path(), None), 1, 0.8).unwrap();
    let optional = host(dir.path(), Some((draft, false)));
    assert_eq!(ask(&optional, 1, 0.8).unwrap().context, want.context, "{draft}");
    assert_eq!(loaded(&optional).draft_model, None, "{draft}");
    let error = ask(&host(dir.path(), Some((draft, true))), 1, 0.8).unwrap_err();
    let GenerateError::Load { model, message } = error else { panic!("{error:?}") };
    assert_eq!(model, "target");
    for word in says {
        assert!(message.contains(word), "{message}");
    }
}

#[test]
fn a_model_that_cannot_guess_for_another_is_said() {
    refused("gemma", &["gemma", "target", "choose a smaller model of the same family"]);
    refused("broken", &["the draft model broken cannot be loaded"]);
    refused("missing", &["the draft model missing cannot be loaded"]);
}

#[test]
fn a_model_that_is_not_much_smaller_guesses_only_where_it_was_chosen() {
    let dir = folder();
    let (any, chosen) = (host(dir.path(), Some(("target", false))), host(dir.path(), Some(("target", true))));
    assert_eq!(ask(&any, 1, 0.8).unwrap().context, ask(&chosen, 1, 0.8).unwrap().context);
    assert_eq!(loaded(&any).draft_model, None);
    assert_eq!(loaded(&chosen).draft_model.as_deref(), Some("target"));
}
