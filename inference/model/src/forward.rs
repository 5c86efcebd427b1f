//! The decoder's forward pass (Vaswani et al., 2017; pre-norm, gated feed-forward, rotary positions), over any
//! device. What differs between families is in the [`Plan`](crate::Plan): there are no branches on names here.

use kernels::{AttentionShape, Batch, Compute};

use crate::load::{LayerWeights, Linear, Model};
use crate::shape::Shape;

/// The activations of a step; made once and used again. Each is `[tokens × …]`.
pub struct Workspace<C: Compute> {
    /// The state of each token: `width`.
    x: C::Activation,
    /// Normed input of a half layer, and its output before it is added: `width`.
    normed: C::Activation,
    delta: C::Activation,
    /// `heads·head_width`.
    q: C::Activation,
    attended: C::Activation,
    /// `kv_heads·head_width`.
    k: C::Activation,
    v: C::Activation,
    /// `ff_width`.
    gate: C::Activation,
    up: C::Activation,
    /// Cosines and sines, one table for each rotary embedding: `rope_width`.
    tables: Vec<C::Activation>,
    /// Rows whose logits are wanted: `width`, then `vocab`.
    last: C::Activation,
    logits: C::Activation,
}

impl<C: Compute> std::fmt::Debug for Workspace<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").finish_non_exhaustive()
    }
}

impl<C: Compute> Model<C> {
    /// Room for the activations of a step.
    pub fn workspace(&self, compute: &mut C) -> Workspace<C> {
        let Shape { width, ff_width, heads, kv_heads, head_width, rope_width, .. } = self.plan.shape;
        Workspace {
            x: compute.activation(width),
            normed: compute.activation(width),
            delta: compute.activation(width),
            q: compute.activation(heads * head_width),
            attended: compute.activation(heads * head_width),
            k: compute.activation(kv_heads * head_width),
            v: compute.activation(kv_heads * head_width),
            gate: compute.activation(ff_width),
            up: compute.activation(ff_width),
            tables: self.plan.ropes.iter().map(|_| compute.activation(rope_width)).collect(),
            last: compute.activation(width),
            logits: compute.activation(self.vocab),
        }
    }

    /// Computes a batch: keys and values go to the pages, and the logits of `batch.outputs` to `logits`, `vocab`
    /// numbers an output, in order.
    ///
    /// The pages that the batch names must have memory, and its tokens be below [`Model::vocab`].
    pub fn forward(
        &self,
        compute: &mut C,
        space: &mut Workspace<C>,
        pages: &mut C::Pages,
        batch: &Batch,
        logits: &mut Vec<f32>,
    ) {
        self.run_layers(compute, space, pages, batch);
        logits.clear();
        if batch.outputs.is_empty() {
            return;
        }
        self.norm_outputs(compute, space, batch);
        let head = self.head.as_ref().unwrap_or(&self.embedding);
        compute.matmul(head, &mut space.normed, &mut space.logits);
        if self.plan.logits_cap > 0.0 {
            compute.soft_cap(&mut space.logits, self.plan.logits_cap);
        }
        compute.download(&space.logits, logits);
    }

    /// The same without the head: the states of `batch.outputs` after the last norm, `width` numbers each.
    pub fn forward_states(
        &self,
        compute: &mut C,
        space: &mut Workspace<C>,
        pages: &mut C::Pages,
        batch: &Batch,
        states: &mut Vec<f32>,
    ) {
        self.run_layers(compute, space, pages, batch);
        states.clear();
        if !batch.outputs.is_empty() {
            self.norm_outputs(compute, space, batch);
            compute.download(&space.normed, states);
        }
    }

    /// Every layer over the whole batch.
    fn run_layers(&self, compute: &mut C, space: &mut Workspace<C>, pages: &mut C::Pages, batch: &Batch) {
        compute.embed(&self.embedding, &batch.tokens, self.plan.embedding_scale, &mut space.x);
        for (rope, table) in self.plan.ropes.iter().zip(&mut space.tables) {
            compute.rope_table(rope, &batch.positions, table);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            self.attend(compute, space, pages, batch, index, layer);
            self.feed_forward(compute, space, layer);
        }
    }

    /// The normed states of the rows that are wanted.
    fn norm_outputs(&self, compute: &mut C, space: &mut Workspace<C>, batch: &Batch) {
        compute.gather(&space.x, &batch.outputs, &mut space.last);
        compute.rms_norm(&space.last, &self.output_norm, self.plan.shape.norm_epsilon, &mut space.normed);
    }

    /// `x += post(output(attention(rope(q), rope(k), v)))` of the normed state.
    fn attend(
        &self,
        compute: &mut C,
        space: &mut Workspace<C>,
        pages: &mut C::Pages,
        batch: &Batch,
        index: usize,
        layer: &LayerWeights<C>,
    ) {
        let plan = &self.plan;
        let Shape { heads, kv_heads, head_width, norm_epsilon, .. } = plan.shape;
        compute.rms_norm(&space.x, &layer.attention_norm, norm_epsilon, &mut space.normed);
        linear(compute, &layer.q, &mut space.normed, &mut space.q);
        linear(compute, &layer.k, &mut space.normed, &mut space.k);
        linear(compute, &layer.v, &mut space.normed, &mut space.v);
        if let Some(gain) = &layer.q_norm {
            compute.rms_norm_heads(&mut space.q, gain, norm_epsilon);
        }
        if let Some(gain) = &layer.k_norm {
            compute.rms_norm_heads(&mut space.k, gain, norm_epsilon);
        }
        let table = &space.tables[plan.layers[index].rope];
        compute.rope(&mut space.q, head_width, plan.pairing, table);
        compute.rope(&mut space.k, head_width, plan.pairing, table);
        compute.store_kv(pages, index, batch, &space.k, &space.v);
        let shape = AttentionShape {
            layer: index,
            heads,
            kv_heads,
            head_width,
            scale: plan.attention_scale,
            window: plan.layers[index].window,
            soft_cap: plan.attention_cap,
        };
        compute.attention(pages, &shape, None, batch, &space.q, &mut space.attended);
        linear(compute, &layer.output, &mut space.attended, &mut space.delta);
        self.add_delta(compute, space, layer.post_attention_norm.as_ref());
    }

    /// `x += post(down(act(gate) · up))` of the normed state.
    fn feed_forward(&self, compute: &mut C, space: &mut Workspace<C>, layer: &LayerWeights<C>) {
        compute.rms_norm(&space.x, &layer.ff_norm, self.plan.shape.norm_epsilon, &mut space.normed);
        linear(compute, &layer.gate, &mut space.normed, &mut space.gate);
        linear(compute, &layer.up, &mut space.normed, &mut space.up);
        compute.gate(self.plan.gate, &mut space.gate, &space.up);
        linear(compute, &layer.down, &mut space.gate, &mut space.delta);
        self.add_delta(compute, space, layer.post_ff_norm.as_ref());
    }

    fn add_delta(&self, compute: &mut C, space: &mut Workspace<C>, norm: Option<&C::Vector>) {
        match norm {
            Some(gain) => {
                compute.rms_norm(&space.delta, gain, self.plan.shape.norm_epsilon, &mut space.normed);
                compute.add(&mut space.x, &space.normed);
            }
            None => compute.add(&mut space.x, &space.delta),
        }
    }
}

fn linear<C: Compute>(compute: &mut C, linear: &Linear<C>, x: &mut C::Activation, out: &mut C::Activation) {
    compute.matmul(&linear.weight, x, out);
    if let Some(bias) = &linear.bias {
        compute.add_bias(out, bias);
    }
}
