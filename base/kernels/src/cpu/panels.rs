//! Matrices of floats in panels, for products of many rows: see `arch::panels`. What threads share are tiles of rows and
//! of groups; who computes which never shows in the result.

use super::{Cpu, CpuMatrix, Rows, SERIAL};
use crate::arch::panels::{PanelTask, QUAD};
use crate::arch::{self, Level};
use crate::compute::{Gate, MatrixSource};
use crate::pool::{Pool, TileShape};

/// Bytes of weights that one task takes: they stay in the second-level cache while tokens pass.
const TASK_BYTES: usize = 384 * 1024;
/// The fewest rows of a task.
const ROWS_MIN: usize = 48;

/// A matrix in panels.
pub(super) struct Panels {
    /// `[quad of groups][step][row]`; in bfloat16 a word is a pair.
    words: Vec<f32>,
    steps: usize,
    /// What they are multiplied at: it decides what a step is.
    level: Level,
}

impl std::fmt::Debug for Panels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "panels of {} words", self.words.len())
    }
}

/// Bytes of a matrix of floats in panels on this machine, exact or rounded.
#[must_use]
pub fn batch_bytes(rows: usize, columns: usize, rounded: bool) -> usize {
    let level = if rounded { Level::detect() } else { Level::detect().exact() };
    let steps = columns.div_ceil(level.step_columns());
    rows.next_multiple_of(QUAD).saturating_mul(steps).saturating_mul(size_of::<f32>())
}

impl Panels {
    /// Reads the matrix once, with all threads.
    pub(super) fn new(source: &MatrixSource, row_bytes: usize, level: Level, pool: &Pool) -> Self {
        let MatrixSource { kind, rows, columns, .. } = *source;
        let bytes = &(*source.storage).as_ref()[source.range.clone()];
        let steps = columns.div_ceil(level.step_columns());
        let panel = steps * QUAD;
        let mut words = vec![0.0; rows.div_ceil(QUAD) * panel];
        let each = TileShape { stride: panel, columns: panel, rows_max: 1, columns_max: panel };
        pool.for_tiles(&mut words, each, |mut tile| {
            let quad = tile.rows().start;
            let own = quad * QUAD..rows.min((quad + 1) * QUAD);
            let mut weights = vec![0.0; own.len() * columns];
            arch::unpack(level, kind, &bytes[own.start * row_bytes..own.end * row_bytes], &mut weights);
            arch::panel_of(level, &weights, columns, tile.row(quad));
        });
        Self { words, steps, level }
    }
}

impl Cpu {
    /// `out = act(weight · x + bias)`.
    pub(super) fn panel_product(
        &self,
        weight: &CpuMatrix,
        panels: &Panels,
        epilogue: (Option<&[f32]>, Option<Gate>),
        x: &mut Rows,
        out: &mut Rows,
    ) {
        let level = panels.level;
        let step_columns = level.step_columns();
        if step_columns > 1 {
            self.words(x, step_columns);
        }
        let (words, stride) = match step_columns {
            1 => (x.used(), x.stride),
            _ => (&x.words[..], x.stride / step_columns),
        };
        let (bias, activation) = epilogue;
        let task =
            PanelTask { weights: &panels.words, steps: panels.steps, x: words, stride, bias, activation };
        let quads = weight.source.rows.div_ceil(QUAD);
        let mut quads_max = (TASK_BYTES / (panels.steps * QUAD * 4)).clamp(1, quads);
        let mut rows_max = x.rows.max(1);
        // Enough tasks for threads to end together: first fewer quads, then fewer rows.
        let enough = 4 * self.pool.threads();
        let tasks = |quads_max: usize, rows_max: usize| quads.div_ceil(quads_max) * x.rows.div_ceil(rows_max);
        while quads_max > 1 && tasks(quads_max, rows_max) < enough {
            quads_max = quads_max.div_ceil(2);
        }
        while rows_max > ROWS_MIN && tasks(quads_max, rows_max) < enough {
            rows_max = (rows_max / 2).next_multiple_of(12).max(ROWS_MIN);
        }
        let tiles = out.tiles(rows_max, quads_max * QUAD);
        self.pool.for_tiles(out.used_mut(), tiles, |mut tile| arch::panels(level, &task, &mut tile));
    }

    /// Activations as pairs, kept for the next product: a device has one form of pairs only.
    fn words(&self, x: &mut Rows, step_columns: usize) {
        if x.words_valid {
            return;
        }
        let stride = x.stride / step_columns;
        if x.words.len() < x.rows * stride {
            x.words.resize(x.rows * stride, 0.0);
        }
        let level = self.level;
        let shape =
            TileShape { stride, columns: stride, rows_max: (SERIAL / x.stride).max(1), columns_max: stride };
        let (data, from) = (&x.data, x.stride);
        self.pool.for_tiles(&mut x.words[..x.rows * stride], shape, |mut tile| {
            for row in tile.rows() {
                arch::words(level, &data[row * from..][..from], tile.row(row));
            }
        });
        x.words_valid = true;
    }
}
