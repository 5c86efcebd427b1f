//! The weights of a layer, found as the family's plan says: norms where they stand, queries, keys and values each for itself or
//! in one tensor, and the three kinds of feed-forward.

use std::ops::Range;

use kernels::Compute;

use super::{Expert, Experts, FeedForward, LayerWeights, Linear, Loader, Norm, Projections};
use crate::error::ModelError;
use crate::families;
use crate::shape::{ExpertsPlan, Order, Plan, QueryNorms, Reader, Shape, Stretched};

impl<C: Compute> Loader<'_, C> {
    /// The plan of the model, its rotary frequencies divided by what its tensors say. Of two sets of factors (LongRoPE) the long
    /// one is for sequences that are longer than the context the model was first trained for, as transformers has it; some
    /// files have it alone.
    pub(super) fn plan(&self, reader: Reader<'_>) -> Result<Plan, ModelError> {
        let (short, long) = ("rope_factors_short.weight", "rope_factors_long.weight");
        let there = |name: &str| self.file.tensor(name).is_some();
        if !there(short) {
            return self.plan_by(reader, if there(long) { long } else { "rope_freqs.weight" });
        }
        let plan = self.plan_by(reader, short)?;
        let first = reader.size("rope.scaling.original_context_length", 1 << 30)?;
        let Some(beyond) = first.map(|first| first as u32).filter(|first| *first < plan.shape.context_tokens)
        else {
            return Ok(plan);
        };
        if !there(long) {
            return Ok(plan);
        }
        let rope = self.plan_by(reader, long)?.ropes.swap_remove(0);
        Ok(Plan { stretched: Some(Stretched { rope, beyond }), ..plan })
    }

    /// The plan by the factors of one tensor, if it is there.
    fn plan_by(&self, reader: Reader<'_>, name: &str) -> Result<Plan, ModelError> {
        let plan = families::plan(reader, None)?;
        let Some(factors) = self.values(name)? else { return Ok(plan) };
        if factors.len() != plan.shape.rope_width / 2 {
            let (found, wanted) = (vec![factors.len()], vec![plan.shape.rope_width / 2]);
            return Err(ModelError::TensorShape { name: name.to_owned(), found, wanted });
        }
        if factors.iter().any(|factor| *factor <= 0.0) {
            let (value, why) = (format!("{factors:?}"), "frequency factors must be positive");
            return Err(ModelError::Value { key: name.to_owned(), value, why });
        }
        families::plan(reader, Some(&factors))
    }

    pub(crate) fn linear(
        &mut self,
        prefix: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Linear<C>, ModelError> {
        let weight = self.matrix(&format!("{prefix}.weight"), rows, columns, true)?;
        Ok(Linear { weight, bias: self.bias(prefix, 0..rows, rows)? })
    }

    /// Some of the rows of a tensor with several matrices, one upon the other.
    pub(super) fn linear_of(
        &mut self,
        prefix: &str,
        part: Range<usize>,
        rows: usize,
        columns: usize,
    ) -> Result<Linear<C>, ModelError> {
        let name = format!("{prefix}.weight");
        let tensor = self.checked(&name, &[columns, rows])?.clone();
        let view = self.file.view(&tensor);
        let weight = self.part(&tensor, &view, &format!("{name}.{}", part.start), part.clone(), true)?;
        if part.end == rows {
            self.release(&tensor, &weight);
        }
        Ok(Linear { weight, bias: self.bias(prefix, part, rows)? })
    }

    /// Part of a bias of `len` numbers, where there is one.
    pub(super) fn bias(
        &mut self,
        prefix: &str,
        part: Range<usize>,
        len: usize,
    ) -> Result<Option<C::Vector>, ModelError> {
        let name = format!("{prefix}.bias");
        if self.file.tensor(&name).is_none() {
            return Ok(None);
        }
        self.checked(&name, &[len])?;
        let values = self.values(&name)?.unwrap_or_default();
        Ok(Some(self.compute.vector(&values[part])))
    }

    pub(super) fn norm(&mut self, prefix: &str, width: usize) -> Result<Norm<C>, ModelError> {
        let gain = self.vector(&format!("{prefix}.weight"), width)?;
        Ok(Norm { gain, bias: self.bias(prefix, 0..width, width)? })
    }

    pub(super) fn layer(&mut self, plan: &Plan, index: usize) -> Result<LayerWeights<C>, ModelError> {
        let Shape { width, heads, kv_heads, head_width, .. } = plan.shape;
        let name = |part: &str| format!("blk.{index}.{part}");
        let (queries, keys) = (heads * head_width, kv_heads * head_width);
        let [q_norm, k_norm] = [("attn_q_norm.weight", queries), ("attn_k_norm.weight", keys)];
        let mut query_norm = |(part, whole): (&str, usize)| match plan.query_norms {
            QueryNorms::None => Ok(None),
            QueryNorms::Heads => self.vector(&name(part), head_width).map(Some),
            QueryNorms::Whole => self.vector(&name(part), whole).map(Some),
            QueryNorms::OwnIfThere => self.gains_of_heads(&name(part), head_width, whole),
        };
        let (q_norm, k_norm) = (query_norm(q_norm)?, query_norm(k_norm)?);
        let mut norm = |part: &str, stands: bool| stands.then(|| self.norm(&name(part), width)).transpose();
        let (before, after) = (plan.order.before(), plan.order.after());
        let attention_norm = norm("attn_norm", before)?;
        let post_attention_norm = norm("post_attention_norm", after)?;
        let post_ff_norm = norm("post_ffw_norm", after)?;
        let shares = plan.order == Order::Parallel
            && self.file.tensor(&name(&format!("{}.weight", plan.ff_norm))).is_none();
        let ff_norm = (before && !shares).then(|| self.norm(&name(plan.ff_norm), width)).transpose()?;
        let attended = heads * plan.latent.map_or(head_width, |latent| latent.value_width);
        let projections = match &plan.latent {
            Some(latent) => Projections::Latent(Box::new(self.latent(plan, latent, &name)?)),
            None => self.queries_keys_values(&name, [queries, keys, keys], width)?,
        };
        Ok(LayerWeights {
            attention_norm,
            projections,
            q_norm,
            k_norm,
            sinks: plan.sinks.then(|| self.vector(&name("attn_sinks.weight"), heads)).transpose()?,
            output: self.linear(&name("attn_output"), width, attended)?,
            post_attention_norm,
            ff_norm,
            feed_forward: self.feed_forward(plan, index)?,
            post_ff_norm,
        })
    }

    /// Gains of all heads, one after another, where the file has them.
    fn gains_of_heads(
        &mut self,
        name: &str,
        head_width: usize,
        whole: usize,
    ) -> Result<Option<C::Vector>, ModelError> {
        let Some(values) = self.values(name)? else { return Ok(None) };
        self.checked(name, &[head_width, whole / head_width])?;
        Ok(Some(self.compute.vector(&values)))
    }

    /// Three tensors, or one with their rows one upon the other.
    fn queries_keys_values(
        &mut self,
        name: &dyn Fn(&str) -> String,
        rows: [usize; 3],
        width: usize,
    ) -> Result<Projections<C>, ModelError> {
        let whole = name("attn_qkv");
        if self.file.tensor(&format!("{whole}.weight")).is_none() {
            return Ok(Projections::Separate {
                q: self.linear(&name("attn_q"), rows[0], width)?,
                k: self.linear(&name("attn_k"), rows[1], width)?,
                v: self.linear(&name("attn_v"), rows[2], width)?,
            });
        }
        let (k, v, all) = (rows[0], rows[0] + rows[1], rows.iter().sum());
        Ok(Projections::Separate {
            q: self.linear_of(&whole, 0..k, all, width)?,
            k: self.linear_of(&whole, k..v, all, width)?,
            v: self.linear_of(&whole, v..all, all, width)?,
        })
    }

    fn feed_forward(&mut self, plan: &Plan, index: usize) -> Result<FeedForward<C>, ModelError> {
        let Shape { width, ff_width, .. } = plan.shape;
        let name = |part: &str| format!("blk.{index}.{part}");
        if let Some(experts) = plan.experts.filter(|_| plan.layers[index].experts) {
            return Ok(FeedForward::Experts(self.experts(&experts, &name, width)?));
        }
        let down = self.linear(&name("ffn_down"), width, ff_width)?;
        if !plan.gated {
            return Ok(FeedForward::Plain { up: self.linear(&name("ffn_up"), ff_width, width)?, down });
        }
        if self.file.tensor(&name("ffn_gate.weight")).is_some() {
            let gate = self.linear(&name("ffn_gate"), ff_width, width)?;
            return Ok(FeedForward::Gated { gate, up: self.linear(&name("ffn_up"), ff_width, width)?, down });
        }
        // The gate's rows, and upon them those of what it lets through.
        let both = name("ffn_up");
        let gate = self.linear_of(&both, 0..ff_width, 2 * ff_width, width)?;
        let up = self.linear_of(&both, ff_width..2 * ff_width, 2 * ff_width, width)?;
        Ok(FeedForward::Gated { gate, up, down })
    }

    fn experts(
        &mut self,
        plan: &ExpertsPlan,
        name: &dyn Fn(&str) -> String,
        width: usize,
    ) -> Result<Experts<C>, ModelError> {
        let ExpertsPlan { count, ff_width, shared_ff_width, .. } = *plan;
        let router = self.linear(&name("ffn_gate_inp"), count, width)?;
        let gates = self.stack(&name("ffn_gate_exps"), count, ff_width, width)?;
        let ups = self.stack(&name("ffn_up_exps"), count, ff_width, width)?;
        let downs = self.stack(&name("ffn_down_exps"), count, width, ff_width)?;
        let all = gates.into_iter().zip(ups).zip(downs);
        let shared = match shared_ff_width {
            0 => None,
            wide => Some(Expert {
                gate: self.linear(&name("ffn_gate_shexp"), wide, width)?,
                up: self.linear(&name("ffn_up_shexp"), wide, width)?,
                down: self.linear(&name("ffn_down_shexp"), width, wide)?,
            }),
        };
        Ok(Experts { router, all: all.map(|((gate, up), down)| Expert { gate, up, down }).collect(), shared })
    }

    /// One matrix for each expert, from a tensor with all of them.
    fn stack(
        &mut self,
        prefix: &str,
        count: usize,
        rows: usize,
        columns: usize,
    ) -> Result<Vec<Linear<C>>, ModelError> {
        let name = format!("{prefix}.weight");
        let tensor = self.checked(&name, &[columns, rows, count])?.clone();
        let bias_name = format!("{prefix}.bias");
        let biases = match self.file.tensor(&bias_name) {
            Some(_) => {
                self.checked(&bias_name, &[rows, count])?;
                self.values(&bias_name)?
            }
            None => None,
        };
        let view = self.file.view(&tensor);
        let mut all = Vec::with_capacity(count);
        for expert in 0..count {
            let part = expert * rows..(expert + 1) * rows;
            let weight = self.part(&tensor, &view, &format!("{name}.{expert}"), part.clone(), true)?;
            let bias = biases.as_ref().map(|values| self.compute.vector(&values[part]));
            all.push(Linear { weight, bias });
        }
        if let Some(last) = all.last() {
            self.release(&tensor, &last.weight);
        }
        Ok(all)
    }
}
