//! The encoder's forward pass over any device. What differs between families is in the plan and in which weights a layer
//! has: there are no branches on names here.

use std::ops::Range;

use kernels::{Compute, Gate, RopePairing, WithinShape};

use super::load::{Encoder, LayerWeights, Norm};
use super::plan::{EncoderShape, Layer, Positions};
use super::pooling::Pooling;
use crate::load::Linear;

/// Texts that are computed together, one after another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    tokens: Vec<u32>,
    types: Vec<u32>,
    positions: Vec<u32>,
    spans: Vec<Range<usize>>,
}

impl Texts {
    /// Empties the batch, keeping its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.types.clear();
        self.positions.clear();
        self.spans.clear();
    }

    /// Adds a text of at least one token; those from `second` on are the second of a pair.
    pub fn push(&mut self, tokens: &[u32], second: usize) {
        assert!(!tokens.is_empty(), "a text has tokens: at least those around it");
        let start = self.tokens.len();
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(0..tokens.len() as u32);
        self.types.extend((0..tokens.len()).map(|at| u32::from(at >= second)));
        self.spans.push(start..self.tokens.len());
    }

    /// Tokens of all texts.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    /// The rows of each text.
    #[must_use]
    pub fn spans(&self) -> &[Range<usize>] {
        &self.spans
    }
}

/// The activations of a step; made once and used again. Each is `[tokens × …]`.
pub struct Workspace<C: Compute> {
    /// The state of each token: `width`.
    x: C::Activation,
    /// Normed input of a half layer, and its output before it is added: `width`.
    normed: C::Activation,
    delta: C::Activation,
    /// `width` each.
    q: C::Activation,
    k: C::Activation,
    v: C::Activation,
    attended: C::Activation,
    /// `ff_width`.
    gate: C::Activation,
    up: C::Activation,
    /// Cosines and sines, one table for each rotary embedding: `head_width`.
    tables: Vec<C::Activation>,
    /// One row a text: `width`, again, and what the head gives.
    pooled: C::Activation,
    dense: C::Activation,
    outputs: C::Activation,
}

impl<C: Compute> std::fmt::Debug for Workspace<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").finish_non_exhaustive()
    }
}

impl<C: Compute> Encoder<C> {
    /// Room for the activations of a step.
    pub fn workspace(&self, compute: &mut C) -> Workspace<C> {
        let EncoderShape { width, ff_width, head_width, .. } = self.plan.shape;
        let ropes = match &self.plan.positions {
            Positions::Rotary(ropes) => ropes.len(),
            _ => 0,
        };
        let mut wide = || compute.activation(width);
        let (x, normed, delta, q, k) = (wide(), wide(), wide(), wide(), wide());
        let (v, attended, pooled, dense) = (wide(), wide(), wide(), wide());
        Workspace {
            x,
            normed,
            delta,
            q,
            k,
            v,
            attended,
            gate: compute.activation(ff_width),
            up: compute.activation(ff_width),
            tables: (0..ropes).map(|_| compute.activation(head_width)).collect(),
            pooled,
            dense,
            outputs: compute.activation(self.outputs().max(1)),
        }
    }

    /// Computes texts: afterwards the workspace holds the states of their tokens, for what follows.
    ///
    /// Tokens are below [`Encoder::vocab`], and no text is longer than the context.
    pub fn forward(&self, compute: &mut C, space: &mut Workspace<C>, texts: &Texts) {
        let epsilon = self.plan.shape.norm_epsilon;
        compute.embed(&self.embedding, &texts.tokens, 1.0, &mut space.delta);
        if let Some(types) = &self.types {
            let last = (self.type_count() - 1) as u32;
            let types_of: Vec<u32> = texts.types.iter().map(|of| (*of).min(last)).collect();
            compute.embed(types, &types_of, 1.0, &mut space.normed);
            compute.add(&mut space.delta, &space.normed);
        }
        match (&self.plan.positions, &self.positions) {
            (Positions::Rotary(ropes), _) => {
                for (rope, table) in ropes.iter().zip(&mut space.tables) {
                    compute.rope_table(rope, &texts.positions, table);
                }
            }
            (_, Some(positions)) => {
                compute.embed(positions, &texts.positions, 1.0, &mut space.normed);
                compute.add(&mut space.delta, &space.normed);
            }
            _ => {}
        }
        norm(compute, &self.embedding_norm, epsilon, &space.delta, &mut space.x);
        for (layer, weights) in self.plan.layers.iter().zip(&self.layers) {
            self.attend(compute, space, texts, *layer, weights);
            self.feed_forward(compute, space, weights);
        }
        if let Some(output_norm) = &self.output_norm {
            norm(compute, output_norm, epsilon, &space.x, &mut space.normed);
            std::mem::swap(&mut space.x, &mut space.normed);
        }
    }

    /// Brings the states of all tokens back: `[token][width]`.
    pub fn states(&self, compute: &mut C, space: &Workspace<C>, out: &mut Vec<f32>) {
        compute.download(&space.x, out);
    }

    /// Brings one vector a text back: `[text][width]`.
    pub fn vectors(
        &self,
        compute: &mut C,
        space: &mut Workspace<C>,
        texts: &Texts,
        pooling: Pooling,
        out: &mut Vec<f32>,
    ) {
        pool(compute, space, texts, pooling);
        compute.download(&space.pooled, out);
    }

    /// Brings back what the head says of each text: `[text][outputs]`. Nothing without a head.
    pub fn scores(&self, compute: &mut C, space: &mut Workspace<C>, texts: &Texts, out: &mut Vec<f32>) {
        out.clear();
        let Some(head) = &self.head else { return };
        pool(compute, space, texts, self.plan.head.pooling);
        if let Some(dense) = &head.dense {
            let activation = self.plan.head.activation;
            linear(compute, dense, activation, &mut space.pooled, &mut space.dense);
            if activation.is_none() {
                // A cap of 1 is tanh itself.
                compute.soft_cap(&mut space.dense, 1.0);
            }
            std::mem::swap(&mut space.pooled, &mut space.dense);
        }
        if let Some(of) = &head.norm {
            norm(compute, of, self.plan.shape.norm_epsilon, &space.pooled, &mut space.dense);
            std::mem::swap(&mut space.pooled, &mut space.dense);
        }
        linear(compute, &head.output, None, &mut space.pooled, &mut space.outputs);
        compute.download(&space.outputs, out);
    }

    /// `x = norm(x + output(attention(q, k, v)))`, or with the norm before.
    fn attend(
        &self,
        compute: &mut C,
        space: &mut Workspace<C>,
        texts: &Texts,
        layer: Layer,
        weights: &LayerWeights<C>,
    ) {
        let EncoderShape { heads, head_width, norm_epsilon: epsilon, .. } = self.plan.shape;
        let input = match &weights.attention_norm {
            Some(of) => {
                norm(compute, of, epsilon, &space.x, &mut space.normed);
                &mut space.normed
            }
            None => &mut space.x,
        };
        linear(compute, &weights.q, None, input, &mut space.q);
        linear(compute, &weights.k, None, input, &mut space.k);
        linear(compute, &weights.v, None, input, &mut space.v);
        for (of, x) in [(&weights.q_norm, &mut space.q), (&weights.k_norm, &mut space.k)] {
            if let Some(of) = of {
                norm(compute, of, epsilon, x, &mut space.delta);
                std::mem::swap(x, &mut space.delta);
            }
        }
        let mut alibi = 0.0;
        match &self.plan.positions {
            Positions::Rotary(_) => {
                let table = &space.tables[layer.rope];
                compute.rope(&mut space.q, head_width, RopePairing::Halves, table);
                compute.rope(&mut space.k, head_width, RopePairing::Halves, table);
            }
            Positions::Distance(slope) => alibi = *slope,
            Positions::Table => {}
        }
        let scale = 1.0 / (head_width as f32).sqrt();
        let shape = WithinShape { heads, head_width, scale, reach: layer.reach, alibi };
        compute.attention_within(&shape, &texts.spans, &space.q, &space.k, &space.v, &mut space.attended);
        linear(compute, &weights.output, None, &mut space.attended, &mut space.delta);
        match (&weights.attention_sum_norm, &weights.second_sum_norm) {
            (Some(of), None) => sum_norm(compute, of, epsilon, space),
            (Some(of), Some(second)) => {
                compute.add(&mut space.delta, &space.x);
                norm(compute, of, epsilon, &space.delta, &mut space.normed);
                std::mem::swap(&mut space.delta, &mut space.normed);
                sum_norm(compute, second, epsilon, space);
            }
            (None, _) => compute.add(&mut space.x, &space.delta),
        }
    }

    /// `x = norm(x + down(act(up(x))))`, gated or not, or with the norm before.
    fn feed_forward(&self, compute: &mut C, space: &mut Workspace<C>, weights: &LayerWeights<C>) {
        let epsilon = self.plan.shape.norm_epsilon;
        let input = match &weights.ff_norm {
            Some(of) => {
                norm(compute, of, epsilon, &space.x, &mut space.normed);
                &mut space.normed
            }
            None => &mut space.x,
        };
        match &weights.gate {
            Some(gate) => {
                linear(compute, gate, None, input, &mut space.gate);
                linear(compute, &weights.up, None, input, &mut space.up);
                compute.gate(self.plan.activation, &mut space.gate, &space.up);
                linear(compute, &weights.down, None, &mut space.gate, &mut space.delta);
            }
            None => {
                linear(compute, &weights.up, Some(self.plan.activation), input, &mut space.up);
                linear(compute, &weights.down, None, &mut space.up, &mut space.delta);
            }
        }
        match &weights.layer_sum_norm {
            Some(of) => sum_norm(compute, of, epsilon, space),
            None => compute.add(&mut space.x, &space.delta),
        }
    }
}

fn linear<C: Compute>(
    compute: &mut C,
    linear: &Linear<C>,
    activation: Option<Gate>,
    x: &mut C::Activation,
    out: &mut C::Activation,
) {
    compute.linear(&linear.weight, linear.bias.as_ref(), activation, x, out);
}

fn norm<C: Compute>(
    compute: &mut C,
    norm: &Norm<C>,
    epsilon: f32,
    x: &C::Activation,
    out: &mut C::Activation,
) {
    compute.layer_norm(x, &norm.gain, norm.bias.as_ref(), epsilon, out);
}

/// `x = norm(x + delta)`.
fn sum_norm<C: Compute>(compute: &mut C, of: &Norm<C>, epsilon: f32, space: &mut Workspace<C>) {
    compute.add(&mut space.delta, &space.x);
    norm(compute, of, epsilon, &space.delta, &mut space.x);
}

/// One row a text.
fn pool<C: Compute>(compute: &mut C, space: &mut Workspace<C>, texts: &Texts, pooling: Pooling) {
    let rows = |row: fn(&Range<usize>) -> usize| -> Vec<u32> {
        texts.spans.iter().map(|span| row(span) as u32).collect()
    };
    match pooling {
        Pooling::Mean => compute.means(&space.x, &texts.spans, &mut space.pooled),
        Pooling::First => compute.gather(&space.x, &rows(|span| span.start), &mut space.pooled),
        Pooling::Last => compute.gather(&space.x, &rows(|span| span.end - 1), &mut space.pooled),
    }
}
