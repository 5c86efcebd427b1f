//! Which texts are computed together, and requests put together again of what was computed. Pure but for the clock that
//! says how long a request took.
//!
//! Invariants: a step has one text at least and, if it has several, no more tokens than it may; requests of the same
//! priority give one text each in turn, so that a long one does not keep short ones waiting; every request is answered
//! once, when all its texts are, or with the first error; what its client no longer wants is not computed.

use std::collections::VecDeque;

use contract::{EmbedUsage, Embedding, Embeddings, GenerateError, Priority, RankMethod, Ranking, VectorsOf};
use model::encoder::{max_similarity, normalise};
use text::Encoded;

use super::{Abilities, Ask, Reading};

/// What is wanted of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// One vector.
    Vector,
    /// The states of all its tokens.
    States,
    /// What the head says.
    Score,
}

/// A text that is computed next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Picked {
    request: u64,
    item: usize,
    pub encoded: Encoded,
    pub want: Want,
}

impl Picked {
    /// The first token of the second text of a pair.
    pub(crate) fn second(&self) -> usize {
        let segments = &self.encoded.segments;
        segments.iter().position(|segment| *segment == 1).unwrap_or(segments.len())
    }
}

/// Of so many steps one begins with what nobody waits for, so that it does not wait for ever.
const BATCH_EVERY: u64 = 8;

/// The texts of all requests.
pub(crate) struct Queue {
    /// In the order of their turns.
    requests: VecDeque<Asked>,
    /// Requests that may be here at once.
    requests_max: usize,
    next_id: u64,
    steps: u64,
}

/// A request some of whose texts are not computed.
struct Asked {
    id: u64,
    reading: Reading,
    /// Texts that were picked, and those whose output is here.
    picked: usize,
    outputs: Vec<Option<Output>>,
    /// A text that did not fit into the last step.
    held: Option<Encoded>,
}

/// What was computed of a text.
struct Output {
    values: Vec<f32>,
    tokens: u32,
    truncated: bool,
}

impl Queue {
    pub(crate) const fn new(requests_max: usize) -> Self {
        Self { requests: VecDeque::new(), requests_max, next_id: 0, steps: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Takes a request, or answers it at once where there is nothing to compute.
    pub(crate) fn take(&mut self, reading: Reading, abilities: &Abilities<'_>) {
        if let Err(error) = abilities.check(&reading.ask) {
            return reading.ask.fail(error);
        }
        let items = items(&reading.ask, abilities);
        let id = self.next_id;
        self.next_id += 1;
        let outputs = (0..items).map(|_| None).collect();
        let asked = Asked { id, reading, picked: 0, outputs, held: None };
        if items == 0 {
            return asked.answer(abilities);
        }
        if self.requests.len() >= self.requests_max {
            return asked.reading.ask.fail(GenerateError::Busy);
        }
        self.requests.push_back(asked);
    }

    /// Forgets requests whose clients left.
    pub(crate) fn drop_the_gone(&mut self) {
        self.requests.retain(|asked| asked.reading.ask.is_open());
    }

    /// The texts of the next step: at most so many tokens, or one text.
    pub(crate) fn pick(&mut self, tokens_max: usize, abilities: &Abilities<'_>) -> Vec<Picked> {
        let (mut step, mut tokens, mut full) = (Vec::new(), 0, false);
        let mut order = [Priority::Interactive, Priority::Batch];
        if self.steps % BATCH_EVERY == BATCH_EVERY - 1 {
            order.reverse();
        }
        self.steps += 1;
        for priority in order {
            // Each request in turn, as long as one of them has something.
            let mut left = self.requests.len();
            while left > 0 && !full {
                let Some(mut asked) = self.requests.pop_front() else { break };
                left -= 1;
                if asked.reading.ask.priority() != priority || !asked.has_more() {
                    self.requests.push_back(asked);
                    continue;
                }
                let encoded = asked.held.take().map_or_else(|| asked.encode(abilities), Ok);
                match encoded {
                    Err(error) => {
                        step.retain(|picked: &Picked| picked.request != asked.id);
                        asked.reading.ask.fail(error);
                        continue;
                    }
                    Ok(encoded) if !step.is_empty() && tokens + encoded.ids.len() > tokens_max => {
                        asked.held = Some(encoded);
                        full = true;
                        // It did not have its turn.
                        self.requests.push_front(asked);
                    }
                    Ok(encoded) => {
                        tokens += encoded.ids.len();
                        let (request, item) = (asked.id, asked.picked);
                        step.push(Picked { request, item, encoded, want: asked.want(abilities) });
                        asked.picked += 1;
                        self.requests.push_back(asked);
                        left = self.requests.len();
                    }
                }
            }
        }
        step
    }

    /// What was computed of a text, before the modules behind the model: `width` numbers a token, or one vector, or the head's numbers.
    pub(crate) fn deliver(&mut self, picked: Picked, values: Vec<f32>, abilities: &Abilities<'_>) {
        let values = match picked.want {
            Want::Vector => abilities.modules.text(values),
            Want::States => abilities.modules.tokens(values),
            Want::Score => values,
        };
        let Some(at) = self.requests.iter().position(|asked| asked.id == picked.request) else { return };
        let Encoded { ids, truncated, .. } = &picked.encoded;
        let output = Output { values, tokens: ids.len() as u32, truncated: *truncated };
        let asked = &mut self.requests[at];
        asked.outputs[picked.item] = Some(output);
        if asked.outputs.iter().all(Option::is_some)
            && let Some(asked) = self.requests.remove(at)
        {
            asked.answer(abilities);
        }
    }
}

/// How many texts a request has.
fn items(ask: &Ask, abilities: &Abilities<'_>) -> usize {
    match ask {
        Ask::Embed(request, _) => request.inputs.len(),
        Ask::Rerank(request, _) if request.documents.is_empty() => 0,
        Ask::Rerank(request, _) => match abilities.ranks {
            // The query comes first, alone.
            Some(RankMethod::LateInteraction) => request.documents.len() + 1,
            _ => request.documents.len(),
        },
    }
}

impl Asked {
    fn has_more(&self) -> bool {
        self.picked < self.outputs.len()
    }

    fn encode(&self, abilities: &Abilities<'_>) -> Result<Encoded, GenerateError> {
        match &self.reading.ask {
            Ask::Embed(request, _) => abilities.encode(&request.inputs[self.picked], request.truncate),
            Ask::Rerank(request, _) => match abilities.ranks {
                Some(RankMethod::LateInteraction) => {
                    let document = |at: usize| &*request.documents[at];
                    let text = self.picked.checked_sub(1).map_or(&*request.query, document);
                    abilities.sentence(text, request.truncate)
                }
                _ => abilities.pair(&request.query, &request.documents[self.picked], request.truncate),
            },
        }
    }

    fn want(&self, abilities: &Abilities<'_>) -> Want {
        match &self.reading.ask {
            Ask::Embed(request, _) if request.vectors == VectorsOf::Tokens => Want::States,
            Ask::Embed(..) => Want::Vector,
            Ask::Rerank(..) if abilities.ranks == Some(RankMethod::LateInteraction) => Want::States,
            Ask::Rerank(..) => Want::Score,
        }
    }

    /// Answers a request of which all is there.
    fn answer(self, abilities: &Abilities<'_>) {
        let Self { reading: Reading { ask, arrived, load }, outputs, .. } = self;
        let mut outputs: Vec<Output> = outputs.into_iter().flatten().collect();
        let prompt_tokens = outputs.iter().map(|output| output.tokens).fold(0, u32::saturating_add);
        let usage = || EmbedUsage { prompt_tokens, total: arrived.elapsed(), load };
        match ask {
            Ask::Embed(request, reply) => {
                let own = match request.vectors {
                    VectorsOf::Texts => abilities.width,
                    VectorsOf::Tokens => abilities.token_width,
                };
                let width = request.dimensions.map_or(own, |wanted| wanted as usize);
                let normed = request.normalise.unwrap_or(true);
                let all = outputs
                    .into_iter()
                    .map(|output| {
                        let values = vectors(output.values, own, width, normed);
                        Embedding { values, width, tokens: output.tokens, truncated: output.truncated }
                    })
                    .collect();
                reply.send(Ok(Embeddings { all, usage: usage() }));
            }
            Ask::Rerank(_, reply) => {
                let method = abilities.ranks.unwrap_or(RankMethod::CrossEncoder);
                let scores = match method {
                    RankMethod::CrossEncoder => {
                        outputs.iter().map(|output| output.values.first().copied().unwrap_or(0.0)).collect()
                    }
                    RankMethod::LateInteraction => late_scores(&mut outputs, abilities.token_width),
                };
                reply.send(Ok(Ranking { scores, method, usage: usage() }));
            }
        }
    }
}

/// Vectors cut to `wanted` numbers, and normed.
fn vectors(mut values: Vec<f32>, width: usize, wanted: usize, normed: bool) -> Vec<f32> {
    if wanted < width {
        values = values.chunks_exact(width).flat_map(|vector| &vector[..wanted]).copied().collect();
    }
    if normed {
        values.chunks_exact_mut(wanted.max(1)).for_each(normalise);
    }
    values
}

/// MaxSim of each document, over the tokens of the query.
fn late_scores(outputs: &mut [Output], width: usize) -> Vec<f32> {
    for output in outputs.iter_mut() {
        output.values.chunks_exact_mut(width).for_each(normalise);
    }
    let Some((query, documents)) = outputs.split_first() else { return Vec::new() };
    let tokens = query.tokens.max(1) as f32;
    documents.iter().map(|document| max_similarity(&query.values, &document.values, width) / tokens).collect()
}
