//! The decoder's forward pass (Vaswani et al., 2017), over any device. What differs between families is in the
//! [`Plan`](crate::Plan): there are no branches on names here.

mod experts;
mod latent;

use kernels::{AttentionShape, Batch, Compute};

use crate::load::{FeedForward, LayerWeights, Linear, Model, Norm, Projections};
use crate::shape::{NormKind, Order, Plan, QueryNorms, Shape};
use experts::Routes;
use latent::LatentSpace;

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
    /// Of mixtures of experts.
    routes: Option<Routes<C>>,
    /// Of attention over short vectors.
    latent: Option<LatentSpace<C>>,
    /// Cosines and sines, one table for each rotary embedding: `rope_width`.
    tables: Vec<C::Activation>,
    /// Of those rows that turn in one of two ways: `rope_width`.
    other_table: C::Activation,
    /// Rows whose logits are wanted: `width`, then `vocab`.
    last: C::Activation,
    logits: C::Activation,
}

impl<C: Compute> std::fmt::Debug for Workspace<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").finish_non_exhaustive()
    }
}

/// Numbers that a [`Workspace`] holds for each token of a step, in rows that devices fill up.
pub(crate) fn columns(plan: &Plan) -> usize {
    let Shape { width, ff_width, heads, kv_heads, head_width, rope_width, .. } = plan.shape;
    let state = 3 * filled(width);
    let attention = 2 * filled(heads * head_width) + 2 * filled(kv_heads * head_width);
    // Experts have their own, and what no layer uses never gets rows.
    let dense = plan.layers.iter().any(|layer| plan.experts.is_none() || !layer.experts);
    let ff = usize::from(dense) * (1 + usize::from(plan.gated)) * filled(ff_width);
    let experts = plan.experts.as_ref().map_or(0, |experts| experts::columns(width, experts));
    let latent = plan.latent.as_ref().map_or(0, |latent| latent::columns(&plan.shape, latent));
    state + attention + ff + experts + latent + plan.ropes.len() * filled(rope_width)
}

/// A row as devices lay it out, in whole lanes.
fn filled(width: usize) -> usize {
    width.next_multiple_of(16)
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
            routes: self.plan.experts.as_ref().map(|plan| Routes::new(compute, width, plan)),
            latent: self
                .plan
                .latent
                .as_ref()
                .map(|latent| LatentSpace::new(compute, &self.plan.shape, latent)),
            tables: self.plan.ropes.iter().map(|_| compute.activation(rope_width)).collect(),
            other_table: compute.activation(rope_width),
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
        compute.linear(head, self.head_bias.as_ref(), None, &mut space.normed, &mut space.logits);
        if self.plan.logits_scale != 1.0 {
            compute.scale(&mut space.logits, self.plan.logits_scale);
        }
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
        if let Some(table) = &self.positions {
            compute.embed(table, &batch.positions, 1.0, &mut space.delta);
            compute.add(&mut space.x, &space.delta);
        }
        self.rope_tables(compute, space, batch);
        for (index, layer) in self.layers.iter().enumerate() {
            if let Some(norm) = &layer.attention_norm {
                self.norm(compute, norm, &space.x, &mut space.normed);
            }
            self.attend(compute, space, pages, batch, index, layer);
            if self.plan.order == Order::Parallel {
                // Both halves read the state as it was.
                if let Some(norm) = &layer.ff_norm {
                    self.norm(compute, norm, &space.x, &mut space.normed);
                }
                self.add_delta(compute, space, None);
            } else {
                self.add_delta(compute, space, layer.post_attention_norm.as_ref());
                if let Some(norm) = &layer.ff_norm {
                    self.norm(compute, norm, &space.x, &mut space.normed);
                }
            }
            self.feed_forward(compute, space, layer);
            self.add_delta(compute, space, layer.post_ff_norm.as_ref());
        }
    }

    /// Cosines and sines of all rows, for each rotary embedding.
    fn rope_tables(&self, compute: &mut C, space: &mut Workspace<C>, batch: &Batch) {
        let stretched = |wanted: bool| batch.spans.iter().filter(move |span| span.stretched == wanted);
        for (index, (rope, table)) in self.plan.ropes.iter().zip(&mut space.tables).enumerate() {
            let other = self.plan.stretched.as_ref().filter(|_| index == 0 && stretched(true).count() > 0);
            let Some(other) = other else {
                compute.rope_table(rope, &batch.positions, table);
                continue;
            };
            if stretched(false).count() == 0 {
                compute.rope_table(&other.rope, &batch.positions, table);
                continue;
            }
            // Some of the rows by the one, the others by the other.
            compute.zeros(table, batch.positions.len());
            for (rope, wanted) in [(rope, false), (&other.rope, true)] {
                let rows = stretched(wanted).flat_map(|span| span.rows.clone().map(|row| row as u32));
                let rows: Vec<u32> = rows.collect();
                let positions: Vec<u32> = rows.iter().map(|row| batch.positions[*row as usize]).collect();
                compute.rope_table(rope, &positions, &mut space.other_table);
                compute.add_rows(table, &rows, &vec![1.0; rows.len()], &space.other_table);
            }
        }
    }

    /// The normed states of the rows that are wanted.
    fn norm_outputs(&self, compute: &mut C, space: &mut Workspace<C>, batch: &Batch) {
        compute.gather(&space.x, &batch.outputs, &mut space.last);
        self.norm(compute, &self.output_norm, &space.last, &mut space.normed);
    }

    fn norm(&self, compute: &mut C, norm: &Norm<C>, x: &C::Activation, out: &mut C::Activation) {
        let epsilon = self.plan.shape.norm_epsilon;
        match self.plan.norm {
            NormKind::Rms => compute.rms_norm(x, &norm.gain, epsilon, out),
            NormKind::Layer => compute.layer_norm(x, &norm.gain, norm.bias.as_ref(), epsilon, out),
        }
    }

    /// `delta = output(attention(rope(q), rope(k), v))` of the normed state, or of the state where no norm stands before.
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
        let Shape { head_width, norm_epsilon, .. } = plan.shape;
        let input = if plan.order.before() { &mut space.normed } else { &mut space.x };
        let (q, k, v) = match &layer.projections {
            Projections::Separate { q, k, v } => (q, k, v),
            Projections::Latent(weights) => {
                return self.attend_latent(compute, space, pages, batch, index, (layer, weights));
            }
        };
        linear(compute, q, input, &mut space.q);
        linear(compute, k, input, &mut space.k);
        linear(compute, v, input, &mut space.v);
        for (x, gain) in [(&mut space.q, &layer.q_norm), (&mut space.k, &layer.k_norm)] {
            match gain {
                Some(gain) if plan.query_norms == QueryNorms::OwnIfThere => {
                    compute.layer_norm_heads(x, head_width, gain, norm_epsilon);
                }
                Some(gain) => compute.rms_norm_heads(x, gain, norm_epsilon),
                None => {}
            }
        }
        if let Some(rope) = plan.layers[index].rope {
            let table = &space.tables[rope];
            compute.rope(&mut space.q, head_width, plan.pairing, table);
            compute.rope(&mut space.k, head_width, plan.pairing, table);
        }
        compute.store_kv(pages, index, batch, &space.k, &space.v);
        compute.attention(
            pages,
            &self.attention_shape(index),
            layer.sinks.as_ref(),
            batch,
            &space.q,
            &mut space.attended,
        );
        linear(compute, &layer.output, &mut space.attended, &mut space.delta);
    }

    fn attention_shape(&self, layer: usize) -> AttentionShape {
        let Shape { heads, kv_heads, head_width, .. } = self.plan.shape;
        AttentionShape {
            layer,
            heads,
            kv_heads,
            head_width,
            scale: self.plan.attention_scale,
            window: self.plan.layers[layer].window,
            soft_cap: self.plan.attention_cap,
        }
    }

    /// `delta = down(act(gate) · up)`, or `down(act(up))`, or what experts make, of the normed state, or of the state.
    fn feed_forward(&self, compute: &mut C, space: &mut Workspace<C>, layer: &LayerWeights<C>) {
        let gate_kind = self.plan.gate;
        let input = if self.plan.order.before() { &mut space.normed } else { &mut space.x };
        match &layer.feed_forward {
            FeedForward::Gated { gate, up, down } => {
                linear(compute, gate, input, &mut space.gate);
                linear(compute, up, input, &mut space.up);
                compute.gate(gate_kind, &mut space.gate, &space.up);
                linear(compute, down, &mut space.gate, &mut space.delta);
            }
            FeedForward::Plain { up, down } => {
                compute.linear(&up.weight, up.bias.as_ref(), Some(gate_kind), input, &mut space.up);
                linear(compute, down, &mut space.up, &mut space.delta);
            }
            FeedForward::Experts(experts) => {
                let (Some(plan), Some(routes)) = (&self.plan.experts, &mut space.routes) else { return };
                routes.compute(compute, plan, gate_kind, experts, input, &mut space.delta);
            }
        }
    }

    /// `x += norm(delta)`.
    fn add_delta(&self, compute: &mut C, space: &mut Workspace<C>, norm: Option<&Norm<C>>) {
        if let Some(norm) = norm {
            self.norm(compute, norm, &space.delta, &mut space.normed);
            std::mem::swap(&mut space.delta, &mut space.normed);
        }
        if self.plan.residual_scale != 1.0 {
            compute.scale(&mut space.delta, self.plan.residual_scale);
        }
        compute.add(&mut space.x, &space.delta);
    }
}

fn linear<C: Compute>(compute: &mut C, linear: &Linear<C>, x: &mut C::Activation, out: &mut C::Activation) {
    compute.linear(&linear.weight, linear.bias.as_ref(), None, x, out);
}
