//! Products of float weights with float activations, sixteen rows of weights a vector: `out = act(weight · x + bias)`.
//!
//! Weights lie `[64 rows][step][row]`, 64 rows being a quad of groups of 16, and a step being one column of f32 ([`Single`]) or two neighbours in bfloat16
//! (`bf16::Brain`); activations lie as they are, or as pairs likewise. A lane is an output row, so no product is summed
//! across lanes: an output element is the sum of its steps in ascending order, whatever tile, batch or thread.
//!
//! Bytes a weight: 4 or 2. Operations: 2 a weight and token. Error: of f32 addition; in bfloat16 each factor is rounded to
//! nearest even besides, a relative error of at most 2⁻⁹.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use super::lanes::Lanes;
use super::loops::act;
use super::rows::Rows;
use crate::compute::Gate;
use crate::pack::GROUP;
use crate::pool::Tile;

/// One step's factors in one form.
///
/// Methods of a vector implementation may only be called in functions with that instruction set's features, after
/// they were detected: `arch` sees to both.
pub(crate) trait Step: Copy {
    /// What sums are held in.
    type Lanes: Rows;
    /// Columns of a step.
    const COLUMNS: usize;

    /// Sixteen weights, or pairs of them, of one step: `columns[c]` are those of column `c`.
    fn join(columns: [Self::Lanes; 2], to: &mut [f32; 16]);
    /// 32 activations in a row, as many words as they take.
    fn words(from: [Self::Lanes; 2], to: &mut [f32]);
    fn load(from: &[f32; 16]) -> Self;
    /// One word of activations in all lanes.
    fn splat(word: f32) -> Self;
    fn add_product(sum: Self::Lanes, a: Self, b: Self) -> Self::Lanes;
}

/// f32 as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Single<R>(R);

impl<R: Rows> Step for Single<R> {
    type Lanes = R;
    const COLUMNS: usize = 1;

    #[inline(always)]
    fn join(columns: [R; 2], to: &mut [f32; 16]) {
        columns[0].store(to);
    }

    #[inline(always)]
    fn words(from: [R; 2], to: &mut [f32]) {
        let (lanes, _) = to.as_chunks_mut::<16>();
        from[0].store(&mut lanes[0]);
        from[1].store(&mut lanes[1]);
    }

    #[inline(always)]
    fn load(from: &[f32; 16]) -> Self {
        Self(R::load(from))
    }

    #[inline(always)]
    fn splat(word: f32) -> Self {
        Self(R::splat(word))
    }

    #[inline(always)]
    fn add_product(sum: R, a: Self, b: Self) -> R {
        sum.fma(a.0, b.0)
    }
}

/// What such a product needs.
pub(crate) struct PanelTask<'a> {
    /// `[quad][step][group of the quad][row]`.
    pub weights: &'a [f32],
    /// Steps of a row.
    pub steps: usize,
    /// Words of activations, `stride` a row, at least `steps`.
    pub x: &'a [f32],
    pub stride: usize,
    /// One a row of the matrix.
    pub bias: Option<&'a [f32]>,
    pub activation: Option<Gate>,
}

/// The product in f32.
#[inline(always)]
pub(crate) fn panels<R: Rows>(task: &PanelTask<'_>, tile: &mut Tile<'_>) {
    panels_with::<Single<R>>(task, tile);
}

/// Rows of a quad of groups.
pub(crate) const QUAD: usize = 4 * GROUP;

/// Weights `[row][column]` of one quad, or of what there is of it, to `[step][row]`.
#[inline(always)]
pub(crate) fn panel_of<R: Rows>(weights: &[f32], columns: usize, panel: &mut [f32]) {
    panel_with::<Single<R>>(weights, columns, panel);
}

/// Activations to words: 32 columns at a time, the row's padding included.
#[inline(always)]
pub(crate) fn words<R: Rows>(x: &[f32], words: &mut [f32]) {
    words_with::<Single<R>>(x, words);
}

#[inline(always)]
pub(crate) fn panel_with<S: Step>(weights: &[f32], columns: usize, panel: &mut [f32]) {
    let rows = weights.len() / columns;
    let (panel, _) = panel.as_chunks_mut::<16>();
    for (at, to) in panel.iter_mut().enumerate() {
        let (step, group) = (at / 4, at % 4);
        let mut lanes = [[0.0; 16]; 2];
        for (c, lanes) in lanes.iter_mut().enumerate().take(S::COLUMNS) {
            let column = step * S::COLUMNS + c;
            if column < columns {
                for row in group * GROUP..rows.min((group + 1) * GROUP) {
                    lanes[row - group * GROUP] = weights[row * columns + column];
                }
            }
        }
        S::join([S::Lanes::load(&lanes[0]), S::Lanes::load(&lanes[1])], to);
    }
}

#[inline(always)]
pub(crate) fn words_with<S: Step>(x: &[f32], words: &mut [f32]) {
    let (x, _) = x.as_chunks::<16>();
    let (pairs, rest) = x.as_chunks::<2>();
    let mut words = words.chunks_mut(32 / S::COLUMNS);
    for pair in pairs {
        let to = words.next().expect("words are as many as activations");
        S::words([S::Lanes::load(&pair[0]), S::Lanes::load(&pair[1])], to);
    }
    if let (Some(last), Some(to)) = (rest.first(), words.next()) {
        let mut all = [0.0; 32];
        S::words([S::Lanes::load(last), S::Lanes::zero()], &mut all[..32 / S::COLUMNS]);
        to.copy_from_slice(&all[..to.len()]);
    }
}

/// Quads of groups outside, tokens inside: a quad's weights stay in the second-level cache while all tokens of the tile
/// pass.
#[inline(always)]
pub(crate) fn panels_with<S: Step>(task: &PanelTask<'_>, tile: &mut Tile<'_>) {
    let columns = tile.columns();
    for quad in columns.start / QUAD..columns.end.div_ceil(QUAD) {
        if S::Lanes::REGISTERS == 32 {
            over_tokens::<S, 4>(task, quad, 0, tile);
        } else {
            for group in 0..4 {
                over_tokens::<S, 1>(task, quad, group, tile);
            }
        }
    }
}

#[inline(always)]
fn over_tokens<S: Step, const G: usize>(
    task: &PanelTask<'_>,
    quad: usize,
    group: usize,
    tile: &mut Tile<'_>,
) {
    let tokens = tile.rows();
    let mut token = tokens.start;
    while token + 6 <= tokens.end {
        multiply::<S, G, 6>(task, quad, group, token, tile);
        token += 6;
    }
    match tokens.end - token {
        0 => {}
        1 => multiply::<S, G, 1>(task, quad, group, token, tile),
        2 => multiply::<S, G, 2>(task, quad, group, token, tile),
        3 => multiply::<S, G, 3>(task, quad, group, token, tile),
        4 => multiply::<S, G, 4>(task, quad, group, token, tile),
        _ => multiply::<S, G, 5>(task, quad, group, token, tile),
    }
}

/// `G` groups of a quad from `group` on, with `T` tokens.
#[inline(always)]
fn multiply<S: Step, const G: usize, const T: usize>(
    task: &PanelTask<'_>,
    quad: usize,
    group: usize,
    token: usize,
    tile: &mut Tile<'_>,
) {
    let steps = task.steps;
    let weights = &task.weights.as_chunks::<16>().0.as_chunks::<4>().0[quad * steps..][..steps];
    let mut rows = [&task.x[..0]; T];
    for t in 0..T {
        rows[t] = &task.x[(token + t) * task.stride..][..steps];
    }
    let mut sums = [[S::Lanes::zero(); G]; T];
    for (step, weights) in weights.iter().enumerate() {
        let mut factors = [S::splat(0.0); G];
        for g in 0..G {
            factors[g] = S::load(&weights[group + g]);
        }
        for t in 0..T {
            // SAFETY: each of the rows was cut to `steps` words above, and so many weights there are.
            let x = S::splat(unsafe { *rows[t].get_unchecked(step) });
            for g in 0..G {
                sums[t][g] = S::add_product(sums[t][g], factors[g], x);
            }
        }
    }
    for t in 0..T {
        for g in 0..G {
            finish(task, quad * 4 + group + g, sums[t][g], token + t, tile);
        }
    }
}

/// Adds the bias, activates, stores. Groups that only fill up a quad are left out.
#[inline(always)]
fn finish<R: Rows>(task: &PanelTask<'_>, group: usize, sum: R, token: usize, tile: &mut Tile<'_>) {
    let columns = tile.columns();
    if group * GROUP >= columns.end {
        return;
    }
    let row = &mut tile.row(token)[group * GROUP - columns.start..];
    if let Some(to) = row.first_chunk_mut::<16>() {
        let bias = task.bias.and_then(|bias| bias[group * GROUP..].first_chunk());
        let sum = bias.map_or(sum, |bias| sum.add(R::load(bias)));
        sum.store(to);
        if let Some(kind) = task.activation {
            act(kind, to);
        }
        return;
    }
    let mut lanes = [0.0; 16];
    sum.store(&mut lanes);
    for (at, (to, sum)) in row.iter_mut().zip(lanes).enumerate() {
        *to = sum + task.bias.map_or(0.0, |bias| bias[group * GROUP + at]);
    }
    if let Some(kind) = task.activation {
        act(kind, row);
    }
}
