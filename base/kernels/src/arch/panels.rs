//! Products of float weights with float activations, sixteen rows of weights a vector: `out = act(weight · x + bias)`.
//!
//! Weights lie `[group of 16 rows][step][row]`, a step being one column of f32 ([`Single`]) or two neighbours in bfloat16
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
    /// `[group][step][row]`.
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

/// Weights `[row][column]` of one group to `[step][row]`; `rows` of them exist.
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
    for (step, to) in panel.iter_mut().enumerate() {
        let mut lanes = [[0.0; 16]; 2];
        for (c, lanes) in lanes.iter_mut().enumerate().take(S::COLUMNS) {
            let column = step * S::COLUMNS + c;
            if column < columns {
                for row in 0..rows {
                    lanes[row] = weights[row * columns + column];
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

/// Groups outside, tokens inside: some groups' weights stay in the second-level cache while all tokens of the tile pass.
#[inline(always)]
pub(crate) fn panels_with<S: Step>(task: &PanelTask<'_>, tile: &mut Tile<'_>) {
    let columns = tile.columns();
    let (mut group, end) = (columns.start / GROUP, columns.end.div_ceil(GROUP));
    while group < end {
        if S::Lanes::REGISTERS == 32 && group + 4 <= end {
            over_tokens::<S, 4, 6>(task, group, tile);
            group += 4;
        } else if S::Lanes::REGISTERS == 32 && group + 2 <= end {
            over_tokens::<S, 2, 6>(task, group, tile);
            group += 2;
        } else {
            over_tokens::<S, 1, 6>(task, group, tile);
            group += 1;
        }
    }
}

#[inline(always)]
fn over_tokens<S: Step, const G: usize, const T: usize>(
    task: &PanelTask<'_>,
    group: usize,
    tile: &mut Tile<'_>,
) {
    let tokens = tile.rows();
    let mut token = tokens.start;
    while token + T <= tokens.end {
        multiply::<S, G, T>(task, group, token, tile);
        token += T;
    }
    if token + 4 <= tokens.end {
        multiply::<S, G, 4>(task, group, token, tile);
        token += 4;
    }
    while token < tokens.end {
        multiply::<S, G, 1>(task, group, token, tile);
        token += 1;
    }
}

/// `G` groups with `T` tokens.
#[inline(always)]
fn multiply<S: Step, const G: usize, const T: usize>(
    task: &PanelTask<'_>,
    group: usize,
    token: usize,
    tile: &mut Tile<'_>,
) {
    let steps = task.steps;
    let (weights, _) = task.weights.as_chunks::<16>();
    let mut planes = [&weights[..0]; G];
    for g in 0..G {
        planes[g] = &weights[(group + g) * steps..][..steps];
    }
    let mut rows = [&task.x[..0]; T];
    for t in 0..T {
        rows[t] = &task.x[(token + t) * task.stride..][..steps];
    }
    let mut sums = [[S::Lanes::zero(); T]; G];
    for step in 0..steps {
        let mut factors = [S::splat(0.0); G];
        for g in 0..G {
            factors[g] = S::load(&planes[g][step]);
        }
        for t in 0..T {
            let x = S::splat(rows[t][step]);
            for g in 0..G {
                sums[g][t] = S::add_product(sums[g][t], factors[g], x);
            }
        }
    }
    for g in 0..G {
        for t in 0..T {
            finish(task, group + g, sums[g][t], token + t, tile);
        }
    }
}

/// Adds the bias, activates, stores.
#[inline(always)]
fn finish<R: Rows>(task: &PanelTask<'_>, group: usize, sum: R, token: usize, tile: &mut Tile<'_>) {
    let columns = tile.columns();
    let count = GROUP.min(columns.end - group * GROUP);
    let mut lanes = [0.0; 16];
    match task.bias.map(|bias| &bias[group * GROUP..][..count]) {
        Some(bias) => match bias.first_chunk() {
            Some(bias) => sum.add(R::load(bias)).store(&mut lanes),
            None => {
                lanes[..count].copy_from_slice(bias);
                sum.add(R::load(&{ lanes })).store(&mut lanes);
            }
        },
        None => sum.store(&mut lanes),
    }
    if let Some(kind) = task.activation {
        act(kind, &mut lanes);
    }
    let first = group * GROUP - columns.start;
    tile.row(token)[first..first + count].copy_from_slice(&lanes[..count]);
}
