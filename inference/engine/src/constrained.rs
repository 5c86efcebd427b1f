//! What an answer is held to while it is written: the mask of its grammar on the logits before any sampler sees them, and
//! the grammar's step after each token. Masks are computed beside the forward pass, on a thread of their own.
//!
//! It fails closed: a token that the mask rules out is never taken, whatever bans, biases and broken grammars leave
//! over. The sequence drives it.

use contract::{GenerateError, Input, Request};
use text::grammar::{Constraint, GrammarError, Guide, Start};
use text::output::{Family, Style};

use crate::calls;
use crate::guides::{self, Wanted};
use crate::loaded::Loaded;
use crate::output::{Asked, tail};

/// The stack of the thread that computes masks: deep grammars recurse.
const MASK_STACK_BYTES: usize = 64 << 20;

/// An answer's grammar, if it has one.
#[derive(Default)]
pub(crate) struct Constrained {
    constraint: Option<Box<dyn Constraint>>,
}

/// What becomes of a token that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It may come.
    Taken,
    /// It may not come, and the answer may end here: nothing that may come was left to choose.
    End,
}

impl Constrained {
    /// Held to this guide.
    pub(crate) fn by(guide: Guide) -> Self {
        Self { constraint: Some(Box::new(guide)) }
    }

    /// Whether there is a mask to compute.
    pub(crate) const fn is_bound(&self) -> bool {
        self.constraint.is_some()
    }

    /// Rules out the tokens that may not come. Before the sampler, and before anything else looks at the logits.
    ///
    /// # Errors
    /// When the grammar cannot go on.
    pub(crate) fn restrict(&mut self, logits: &mut [f32]) -> Result<(), GenerateError> {
        if let Some(constraint) = &mut self.constraint
            && let Some(mask) = constraint.mask().map_err(|error| failed(&error))?
        {
            mask.apply(logits);
        }
        Ok(())
    }

    /// Looks at a token that was chosen. `ends`: it is an end of the answer.
    ///
    /// # Errors
    /// When it may not come, and the answer may not end either.
    pub(crate) fn choose(
        &mut self,
        id: u32,
        ends: impl Iterator<Item = u32>,
    ) -> Result<Choice, GenerateError> {
        let Some(constraint) = &mut self.constraint else { return Ok(Choice::Taken) };
        let Some(mask) = constraint.mask().map_err(|error| failed(&error))? else { return Ok(Choice::Taken) };
        if mask.allows(id) {
            return Ok(Choice::Taken);
        }
        if ends.into_iter().any(|end| mask.allows(end)) {
            return Ok(Choice::End);
        }
        let message = "the request's bans and biases leave no token that its format allows".to_owned();
        Err(GenerateError::Invalid { parameter: Some("format"), message })
    }

    /// The answer goes on by a token that is no end.
    ///
    /// # Errors
    /// When the grammar does not go on by it.
    pub(crate) fn commit(&mut self, id: u32) -> Result<(), GenerateError> {
        match &mut self.constraint {
            Some(constraint) => constraint.commit(id).map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }

    /// Tokens that come next in any case: they need no logits of their own, and may be computed in one piece.
    ///
    /// # Errors
    /// When the grammar cannot go on.
    pub(crate) fn forced(&mut self) -> Result<Vec<u32>, GenerateError> {
        match &mut self.constraint {
            Some(constraint) => constraint.forced().map_err(|error| failed(&error)),
            None => Ok(Vec::new()),
        }
    }

    /// Whether the answer is complete and nothing can follow.
    pub(crate) fn is_over(&self) -> bool {
        self.constraint.as_ref().is_some_and(|constraint| constraint.is_over())
    }
}

/// What the request promises of its answer, which `prompt` leads up to. Checks no schema and compiles nothing: see
/// `guides`.
///
/// # Errors
/// [`GenerateError::Invalid`] when what is asked for cannot go together.
pub(crate) fn wanted(
    loaded: &Loaded,
    request: &Request,
    asked: &Asked,
    prompt: &[u32],
) -> Result<Option<Wanted>, GenerateError> {
    if request.format.is_none() && asked.tools.is_empty() {
        return Ok(None);
    }
    let start = start(request, &asked.style, &tail(loaded, prompt));
    if let Some(calls) = calls::wanted(loaded, request, asked, start.clone())? {
        return Ok(Some(calls));
    }
    let format = request.format.clone();
    Ok(format.map(|format| Wanted::new("format", guides::Asked::Format(format), start)))
}

/// Does `work`, the forward pass, and computes the masks that will be wanted behind it at the same time.
pub(crate) fn beside<'c>(held: impl Iterator<Item = &'c mut Constrained>, work: impl FnOnce()) {
    let mut held: Vec<&mut Box<dyn Constraint>> =
        held.filter_map(|constrained| constrained.constraint.as_mut()).collect();
    if held.is_empty() {
        return work();
    }
    std::thread::scope(|scope| {
        let masks = move || held.iter_mut().for_each(|constraint| constraint.prepare());
        let builder = std::thread::Builder::new().name("masks".to_owned()).stack_size(MASK_STACK_BYTES);
        // Without a thread, each mask is computed when it is wanted.
        let thread = builder.spawn_scoped(scope, masks);
        work();
        // A panic there is one of a single answer's, which finds no mask and computes it again.
        drop(thread.map(std::thread::ScopedJoinHandle::join));
    });
}

/// From where on the grammar counts: behind thoughts, where there are any.
fn start(request: &Request, style: &Style, prompt: &str) -> Start {
    let formatted = matches!(request.input, Input::Chat { .. } | Input::Prompt { .. });
    if !formatted {
        return Start::AtOnce;
    }
    if style.family == Family::Harmony {
        return Start::After(b"<|channel|>final<|message|>".to_vec());
    }
    let Some(tags) = style.thinking else { return Start::AtOnce };
    let closes = tags.close.as_bytes().to_vec();
    if prompt.trim_end().ends_with(tags.open) {
        return Start::After(closes);
    }
    match request.thinking.enabled {
        Some(false) => Start::AtOnce,
        _ => Start::AfterIf { opens: tags.open.as_bytes().to_vec(), closes },
    }
}

fn refused(error: &GrammarError) -> GenerateError {
    GenerateError::Invalid { parameter: Some("format"), message: error.to_string() }
}

fn failed(error: &GrammarError) -> GenerateError {
    match error {
        GrammarError::NotAllowed { .. } => GenerateError::Internal { message: error.to_string() },
        error => refused(error),
    }
}
