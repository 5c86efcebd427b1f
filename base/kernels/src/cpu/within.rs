//! The work of attention within whole texts, for threads: tiles of rows of one head. Which thread computes what never
//! shows in the result: see `arch::within`.

use std::ops::Range;

use super::{Cpu, Rows, SCRATCH};
use crate::arch;
use crate::arch::within::WithinTask;
use crate::compute::WithinShape;
use crate::pool::TileShape;

/// The fewest rows of a tile: keys are turned once for all of them.
const ROWS_MIN: usize = 64;

impl Cpu {
    pub(super) fn attend_within(
        &self,
        shape: &WithinShape,
        spans: &[Range<usize>],
        [q, k, v]: [&Rows; 3],
        out: &mut Rows,
    ) {
        let WithinShape { heads, head_width, scale, reach, .. } = *shape;
        out.resize(q.rows);
        let mut rows_max = q.rows.max(ROWS_MIN);
        while rows_max > ROWS_MIN && q.rows.div_ceil(rows_max) * heads < 4 * self.pool.threads() {
            rows_max = (rows_max / 2).max(ROWS_MIN);
        }
        let tiles =
            TileShape { stride: out.stride, columns: heads * head_width, rows_max, columns_max: head_width };
        self.pool.for_tiles(out.used_mut(), tiles, |mut tile| {
            let (rows, column) = (tile.rows(), tile.columns().start);
            let first = spans.partition_point(|span| span.end <= rows.start);
            for span in spans[first..].iter().take_while(|span| span.start < rows.end) {
                let from = |x: &'_ Rows| span.start * x.stride + column;
                let task = WithinTask {
                    q: &q.used()[from(q)..],
                    k: &k.used()[from(k)..],
                    v: &v.used()[from(v)..],
                    stride: q.stride,
                    tokens: span.len(),
                    head_width,
                    scale,
                    reach,
                    slope: shape.slope(column / head_width),
                    first_row: span.start,
                };
                let own = span.start.max(rows.start) - span.start..span.end.min(rows.end) - span.start;
                SCRATCH.with_borrow_mut(|scratch| {
                    arch::within(self.level, &task, own, scratch, &mut tile);
                });
            }
        });
    }
}
