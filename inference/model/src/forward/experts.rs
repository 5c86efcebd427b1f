//! A feed-forward of experts (Shazeer et al., 2017): a router scores them for each token, the best few compute it, and what they
//! make is added, each weighed.
//!
//! Tokens are gathered by expert, so that each expert's weights are read once a step. Experts add in ascending order: a
//! token's sum does not depend on the others in the batch.

use kernels::{Compute, Gate};

use crate::load::Experts;
use crate::shape::{ExpertsPlan, Routing};

use super::{filled, linear};

/// Activations of a mixture, and who computes what.
pub(super) struct Routes<C: Compute> {
    /// A score for each expert: `[tokens × count]`.
    scores: C::Activation,
    /// The tokens of one expert: `width`, `ff_width` twice, `width`.
    input: C::Activation,
    gate: C::Activation,
    up: C::Activation,
    output: C::Activation,
    /// Of the expert that computes every token.
    shared_gate: C::Activation,
    shared_up: C::Activation,
    /// The scores here, and for each expert its tokens and their weights.
    host: Vec<f32>,
    chosen: Chosen,
    scratch: Scratch,
}

/// For each expert its tokens, and their weights.
type Chosen = Vec<(Vec<u32>, Vec<f32>)>;

/// Experts of one token in descending order, and the groups that are kept: here so that a step allocates nothing once it is
/// warm.
#[derive(Default)]
struct Scratch {
    order: Vec<usize>,
    groups: Vec<usize>,
}

/// Numbers that [`Routes`] hold for each token, should all tokens want one expert: those of `host` and `chosen` included, which
/// are as large.
pub(super) fn columns(width: usize, plan: &ExpertsPlan) -> usize {
    let ExpertsPlan { count, used, ff_width, shared_ff_width, .. } = *plan;
    // Lists that grow by themselves may hold twice as much.
    let host = 2 * count + 4 * used;
    let shared = if shared_ff_width == 0 { 0 } else { 2 * filled(shared_ff_width) };
    filled(count) + host + 2 * filled(width) + 2 * filled(ff_width) + shared
}

impl<C: Compute> Routes<C> {
    pub(super) fn new(compute: &mut C, width: usize, plan: &ExpertsPlan) -> Self {
        Self {
            scores: compute.activation(plan.count),
            input: compute.activation(width),
            gate: compute.activation(plan.ff_width),
            up: compute.activation(plan.ff_width),
            output: compute.activation(width),
            shared_gate: compute.activation(plan.shared_ff_width.max(1)),
            shared_up: compute.activation(plan.shared_ff_width.max(1)),
            host: Vec::new(),
            chosen: vec![(Vec::new(), Vec::new()); plan.count],
            scratch: Scratch::default(),
        }
    }

    /// `out = Σ weight · down(act(gate) · up)` over each token's experts, and the shared one.
    pub(super) fn compute(
        &mut self,
        compute: &mut C,
        plan: &ExpertsPlan,
        gate_kind: Gate,
        experts: &Experts<C>,
        x: &mut C::Activation,
        out: &mut C::Activation,
    ) {
        linear(compute, &experts.router, x, &mut self.scores);
        compute.download(&self.scores, &mut self.host);
        let tokens = self.host.len() / plan.count;
        route(plan, &self.host, &mut self.chosen, &mut self.scratch);
        compute.zeros(out, tokens);
        for ((rows, factors), expert) in self.chosen.iter().zip(&experts.all) {
            if rows.is_empty() {
                continue;
            }
            // All tokens in order, as when there is but one: they need not be gathered.
            let input = if rows.len() == tokens {
                &mut *x
            } else {
                compute.gather(x, rows, &mut self.input);
                &mut self.input
            };
            linear(compute, &expert.gate, input, &mut self.gate);
            linear(compute, &expert.up, input, &mut self.up);
            compute.gate(gate_kind, &mut self.gate, &self.up);
            linear(compute, &expert.down, &mut self.gate, &mut self.output);
            compute.add_rows(out, rows, factors, &self.output);
        }
        if let Some(shared) = &experts.shared {
            linear(compute, &shared.gate, x, &mut self.shared_gate);
            linear(compute, &shared.up, x, &mut self.shared_up);
            compute.gate(gate_kind, &mut self.shared_gate, &self.shared_up);
            linear(compute, &shared.down, &mut self.shared_gate, &mut self.output);
            compute.add(out, &self.output);
        }
    }
}

/// The best experts of each token, of equal ones the first, and what they count.
fn route(plan: &ExpertsPlan, scores: &[f32], chosen: &mut Chosen, scratch: &mut Scratch) {
    let Scratch { order, groups } = scratch;
    for (rows, factors) in chosen.iter_mut() {
        rows.clear();
        factors.clear();
    }
    for (token, scores) in scores.chunks_exact(plan.count).enumerate() {
        order.clear();
        order.extend(0..plan.count);
        order.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        if plan.groups_used < plan.groups {
            keep_best_groups(plan, order, groups);
        }
        let best = &order[..plan.used];
        // In f64: the weights of many experts are summed.
        let power = |expert: &usize| f64::from(scores[*expert] - scores[best[0]]).exp();
        let total: f64 = match plan.routing {
            Routing::OfAll => (0..plan.count).map(|expert| power(&expert)).sum(),
            Routing::OfChosen => best.iter().map(power).sum(),
        };
        for expert in best {
            let (rows, factors) = &mut chosen[*expert];
            rows.push(token as u32);
            factors.push((power(expert) / total) as f32 * plan.scale);
        }
    }
}

/// Of experts in descending order, leaves those of the groups whose best are best.
fn keep_best_groups(plan: &ExpertsPlan, order: &mut Vec<usize>, best: &mut Vec<usize>) {
    let group = |expert: usize| expert / (plan.count / plan.groups);
    best.clear();
    for expert in order.iter() {
        if best.len() < plan.groups_used && !best.contains(&group(*expert)) {
            best.push(group(*expert));
        }
    }
    order.retain(|expert| best.contains(&group(*expert)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(routing: Routing, scores: &[f32], expected: &[(&[u32], &[f32])]) {
        let (groups, groups_used) = (1, 1);
        let plan = ExpertsPlan {
            count: 3,
            used: 2,
            ff_width: 1,
            shared_ff_width: 0,
            groups,
            groups_used,
            routing,
            scale: 2.0,
        };
        let mut chosen = vec![(vec![9], vec![9.0]); 3];
        route(&plan, scores, &mut chosen, &mut Scratch::default());
        for (expert, ((rows, factors), (want_rows, want))) in chosen.iter().zip(expected).enumerate() {
            assert_eq!(rows, want_rows, "{expert}");
            let close = factors.iter().zip(*want).all(|(found, want)| (found - want).abs() < 1e-6);
            assert!(close && factors.len() == want.len(), "{expert}: {factors:?}");
        }
    }

    #[test]
    fn experts_of_other_groups_are_not_asked() {
        let plan = ExpertsPlan {
            count: 6,
            used: 3,
            ff_width: 1,
            shared_ff_width: 0,
            groups: 3,
            groups_used: 2,
            routing: Routing::OfChosen,
            scale: 1.0,
        };
        // Groups of two; the last has the best, the first the next: the middle one is left out, though its second is better
        // than that of the first.
        let mut chosen = vec![(Vec::new(), Vec::new()); 6];
        route(&plan, &[4.0, 1.0, 3.0, 2.0, 0.0, 5.0], &mut chosen, &mut Scratch::default());
        let used: Vec<usize> = (0..6).filter(|expert| !chosen[*expert].0.is_empty()).collect();
        assert_eq!(used, [0, 1, 5]);
    }

    #[test]
    fn the_best_experts_count_as_their_softmax_says() {
        let ln2 = std::f32::consts::LN_2;
        // Powers 1, 2 and 4 for the first token; for the second all are equal, and the first ones are taken.
        let scores = [0.0, ln2, 2.0 * ln2, 5.0, 5.0, 5.0];
        let (third, seventh) = (2.0 / 3.0, 2.0 / 7.0);
        check(
            Routing::OfChosen,
            &scores,
            &[(&[1], &[1.0]), (&[0, 1], &[third, 1.0]), (&[0], &[2.0 * third])],
        );
        check(
            Routing::OfAll,
            &scores,
            &[(&[1], &[third]), (&[0, 1], &[2.0 * seventh, third]), (&[0], &[4.0 * seventh])],
        );
    }
}
