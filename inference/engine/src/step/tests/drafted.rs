//! The same promise with a draft model: whatever it guesses, however often it is wrong, with memory for it or without, and
//! whoever leaves or gives way meanwhile, every byte is as without one.

use super::*;
use crate::draft::Draft;
use crate::loaded::DraftModel;
use crate::speculate::GuessCounts;

/// A model, and models that guess for it, by name.
struct Models(tempfile::TempDir);

impl Models {
    fn new(shapes: &[(&str, &Shape)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, shape) in shapes {
            std::fs::write(dir.path().join(name), shape.gguf()).unwrap();
        }
        Self(dir)
    }

    /// The target with a draft model that has so many bytes for keys and values.
    fn engine(&self, draft: &str, kv_bytes: u64, limits: SchedulerLimits) -> Engine {
        let mut engine = engine(&self.0.path().join("target"), 1, limits);
        let draft = DraftModel { name: draft.to_owned(), path: self.0.path().join(draft), required: true };
        let draft = Draft::load(&draft, &engine.loaded, Some(kv_bytes), None, &mut engine.compute).unwrap();
        engine.with_draft(Some(draft))
    }
}

/// Bytes of so many pages.
const fn pages(shape: &Shape, count: u64) -> u64 {
    count * (shape.layers * 2 * shape.kv_heads * kernels::PAGE_TOKENS * shape.head_dim * 2) as u64
}

fn check(family: Family) {
    let target = Shape::tiny(family, BlockType::Q8_0);
    let coarse = Shape { block_type: BlockType::Q4_0, ..target.clone() };
    let short = Shape { context: 64, ..target.clone() };
    let wrong = Shape { seed: 99, layers: 1, ..target.clone() };
    let models =
        Models::new(&[("target", &target), ("coarse", &coarse), ("short", &short), ("wrong", &wrong)]);
    // Half of them: draft models take their time.
    let requests = requests(target.vocab() as u32).split_off(REQUESTS / 2);
    let free = SchedulerLimits { pages_max: 2000, idle_pages_max: 1000, ..SchedulerLimits::default() };
    let by_itself = SchedulerLimits { sequences_max: 1, share: false, draft_tokens_max: 0, ..free };
    let want = alone(&mut engine(&models.0.path().join("target"), 1, by_itself), &requests);
    let many = SchedulerLimits { draft_tokens_max: 40, ..free };
    let tight = SchedulerLimits { pages_max: 12, idle_pages_max: 12, batch_tokens_max: 64, ..many };
    let plenty = pages(&target, 2000);
    // Draft model, its memory, microseconds that each look at the clock takes, and the share of its guesses that is
    // right, in percent.
    let rows = [
        ("target", plenty, 0, many, 60..101),
        ("target", plenty, 900, free, 60..101),
        ("target", pages(&target, 20), 0, tight, 60..101),
        ("short", plenty, 0, many, 60..101),
        ("coarse", plenty, 0, SchedulerLimits { batch_tokens_max: 16, ..many }, 1..20),
        ("coarse", plenty, 0, SchedulerLimits { share: false, ..tight }, 0..20),
        ("wrong", pages(&wrong, 6), 0, many, 0..10),
    ];
    for (draft, kv_bytes, tick, limits, right) in rows {
        let what = format!("{family:?}, guessed for by {draft} with {kv_bytes} bytes, {tick}, {limits:?}");
        let mut engine = models.engine(draft, kv_bytes, limits);
        let ours = together(&mut engine, &requests, tick);
        let same = |ours: &Told, want: &Told| {
            *ours == Told { cached: ours.cached, guessed: ours.guessed, ..want.clone() }
        };
        let differing = ours.iter().zip(&want).filter(|(ours, want)| !same(ours, want)).count();
        let GuessCounts { drafted, drafted_right, .. } = engine.guess_counts();
        println!("{what}: {differing} of {} differ; {drafted_right} of {drafted} guesses right", ours.len());
        assert_eq!(differing, 0, "{what}");
        // Otherwise the row does not test what it says.
        assert!(drafted > 10, "{what}: {drafted}");
        let percent = 100 * drafted_right / drafted;
        assert!(right.contains(&percent), "{what}: {percent} % of {drafted}");
        assert!(limits.pages_max > 100 || engine.counts().preempted > 0, "{what}: {:?}", engine.counts());
        engine.rest();
        assert_eq!(engine.guessing.draft.as_ref().unwrap().held_pages(), 0, "{what}");
    }
}

#[test]
fn answers_of_llama_are_the_same_with_any_draft_model() {
    check(Family::Llama);
}

#[test]
fn answers_of_gemma_are_the_same_with_any_draft_model() {
    check(Family::Gemma3);
}

/// What the likeliest tokens are, a model that is its own draft model guesses without fail: its logits are the same bits.
#[test]
fn a_model_guesses_its_own_likeliest_tokens() {
    let target = Shape::tiny(Family::Llama, BlockType::Q8_0);
    let models = Models::new(&[("target", &target)]);
    let limits = SchedulerLimits { pages_max: 2000, ..SchedulerLimits::default() };
    let mut engine = models.engine("target", pages(&target, 2000), limits);
    let requests = (0..20u32).map(|index| {
        let prompt = (0..40).map(|at| (index * 17 + at * at) % target.vocab() as u32).collect();
        let mut request = Request::new("tiny", Input::Tokens(prompt));
        request.limits.new_tokens_max = Some(50);
        request.sampling = Sampling { temperature: Some(0.0), ignore_eos: Some(true), ..Sampling::default() };
        request
    });
    for request in requests {
        submit(&mut engine, &request, usize::MAX, 0);
        run(&mut engine);
    }
    let counts = engine.guess_counts();
    assert!(counts.drafted > 300 && counts.drafted_right == counts.drafted, "{counts:?}");
    // Seven guesses and a token of its own in each step, but where something was looked up, and the last.
    assert!(counts.made > 20 * 30, "{counts:?}");
}
