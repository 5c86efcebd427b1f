//! Attention whose keys and values are made of one short vector a token (DeepSeek-AI, "DeepSeek-V2", 2024). They are made once,
//! when the token is computed, and kept as those of other models are: a head's key is what turns, the same for all heads, and
//! then its own part; a value that is narrower than a key is filled up with zeros.

use std::ops::Range;

use kernels::{Batch, Compute};

use super::{Workspace, filled, linear};
use crate::load::{LatentWeights, LayerWeights, Model};
use crate::shape::{Latent, Shape};

/// Columns that go from one activation to another.
type Moves = Vec<(Range<usize>, usize)>;

/// Activations between the state and queries, keys and values.
pub(super) struct LatentSpace<C: Compute> {
    /// `query_rank`.
    query: C::Activation,
    query_normed: C::Activation,
    /// `rank`.
    vector: C::Activation,
    normed: C::Activation,
    /// `rope_width`.
    turned: C::Activation,
    /// `heads·plain_width`.
    keys: C::Activation,
    /// `heads·value_width`, of tokens and of what attention makes of them.
    values: C::Activation,
    attended: C::Activation,
    /// From `turned` and from `keys` to keys, from `values` to values, and from attention's output to `attended`.
    moves: [Moves; 4],
}

/// Numbers that a [`LatentSpace`] holds for each token.
pub(super) fn columns(shape: &Shape, latent: &Latent) -> usize {
    let Latent { query_rank, rank, plain_width, value_width } = *latent;
    let values = 2 * filled(shape.heads * value_width);
    2 * filled(query_rank)
        + 2 * filled(rank)
        + filled(shape.rope_width)
        + filled(shape.heads * plain_width)
        + values
}

impl<C: Compute> LatentSpace<C> {
    pub(super) fn new(compute: &mut C, shape: &Shape, latent: &Latent) -> Self {
        let Shape { heads, head_width, rope_width, .. } = *shape;
        let Latent { query_rank, rank, plain_width, value_width } = *latent;
        let moves = |each: &dyn Fn(usize) -> (Range<usize>, usize)| (0..heads).map(each).collect();
        Self {
            query: compute.activation(query_rank.max(1)),
            query_normed: compute.activation(query_rank.max(1)),
            vector: compute.activation(rank),
            normed: compute.activation(rank),
            turned: compute.activation(rope_width),
            keys: compute.activation(heads * plain_width),
            values: compute.activation(heads * value_width),
            attended: compute.activation(heads * value_width),
            moves: [
                moves(&|head| (0..rope_width, head * head_width)),
                moves(&|head| (head * plain_width..(head + 1) * plain_width, head * head_width + rope_width)),
                moves(&|head| (head * value_width..(head + 1) * value_width, head * head_width)),
                moves(&|head| (head * head_width..head * head_width + value_width, head * value_width)),
            ],
        }
    }
}

impl<C: Compute> Model<C> {
    /// As `attend`.
    pub(super) fn attend_latent(
        &self,
        compute: &mut C,
        space: &mut Workspace<C>,
        pages: &mut C::Pages,
        batch: &Batch,
        index: usize,
        (layer, weights): (&LayerWeights<C>, &LatentWeights<C>),
    ) {
        let Some(latent) = &mut space.latent else { return };
        let Shape { head_width, rope_width, .. } = self.plan.shape;
        let (input, tokens) = (&mut space.normed, batch.tokens.len());
        match &weights.query_down {
            Some((down, norm)) => {
                linear(compute, down, input, &mut latent.query);
                self.norm(compute, norm, &latent.query, &mut latent.query_normed);
                linear(compute, &weights.query, &mut latent.query_normed, &mut space.q);
            }
            None => linear(compute, &weights.query, input, &mut space.q),
        }
        linear(compute, &weights.down, input, &mut latent.vector);
        linear(compute, &weights.turned, input, &mut latent.turned);
        self.norm(compute, &weights.norm, &latent.vector, &mut latent.normed);
        linear(compute, &weights.keys, &mut latent.normed, &mut latent.keys);
        linear(compute, &weights.values, &mut latent.normed, &mut latent.values);
        if let Some(rope) = self.plan.layers[index].rope {
            compute.rope(&mut space.q, head_width, self.plan.pairing, &space.tables[rope]);
            compute.rope(&mut latent.turned, rope_width, self.plan.pairing, &space.tables[rope]);
        }
        let [turned, keys, values, attended] = &latent.moves;
        compute.zeros(&mut space.k, tokens);
        compute.copy_columns(&latent.turned, turned, &mut space.k);
        compute.copy_columns(&latent.keys, keys, &mut space.k);
        compute.zeros(&mut space.v, tokens);
        compute.copy_columns(&latent.values, values, &mut space.v);
        compute.store_kv(pages, index, batch, &space.k, &space.v);
        let shape = self.attention_shape(index);
        compute.attention(pages, &shape, layer.sinks.as_ref(), batch, &space.q, &mut space.attended);
        compute.zeros(&mut latent.attended, tokens);
        compute.copy_columns(&space.attended, attended, &mut latent.attended);
        linear(compute, &layer.output, &mut latent.attended, &mut space.delta);
    }
}
