//! Products of prompts with weights rounded once more, for those who asked for it by name: see `arch::requantised`.

use std::cell::RefCell;

use super::{Cpu, Rows};
use crate::arch;
use crate::arch::packed::{TILE, tile_len};
use crate::arch::requantised::{GROUPS, Line, Panel, RequantisedTask, SPAN, tile_lines};
use crate::pack::{GROUP, Packed};
use crate::pool::TileShape;

/// The fewest rows for which filling a panel pays.
pub(super) const ROWS_MIN: usize = 96;

thread_local! {
    /// The panel of each thread, so that a step allocates nothing once it is warm.
    static PANEL: RefCell<Panel> = RefCell::new(Panel::default());
}

impl Cpu {
    /// From now on products of [`ROWS_MIN`] rows or more may round weights once more, to int8 under one scale for 256 columns: faster
    /// where the machine multiplies bytes in one instruction, and no longer with the bits that the same rows have one by one.
    pub fn requantise_prompts(&mut self, yes: bool) {
        self.requantises = yes;
    }

    /// All of this device that the bits of a prompt's results depend on: its instruction set, and whether weights are rounded once more.
    #[must_use]
    pub fn form(&self) -> String {
        let once_more = if self.requantises && self.level.requantises() { ", requantised" } else { "" };
        format!("{}{once_more}", self.level.name())
    }

    /// Whether a product of so many rows takes that form.
    pub(super) fn takes_panels(&self, weights: &Packed, rows: usize) -> bool {
        self.requantises
            && rows >= ROWS_MIN
            && self.level.requantises()
            && weights.columns.is_multiple_of(SPAN)
    }

    pub(super) fn requantised_matmul(&self, weights: &Packed, x: &mut Rows, out: &mut Rows) {
        if !x.lines_valid {
            self.quantise_spans(x);
        }
        let task = RequantisedTask { weights, lines: &x.lines, tokens: x.rows };
        let shape = out.tiles(x.rows, GROUPS * GROUP);
        let level = self.level;
        self.pool.for_tiles(out.used_mut(), shape, |mut tile| {
            PANEL.with_borrow_mut(|panel| arch::requantised(level, &task, panel, &mut tile));
        });
    }

    fn quantise_spans(&self, x: &mut Rows) {
        let whole = x.rows / TILE * TILE;
        let each = tile_lines(TILE, x.width);
        let rest: usize = tiles(whole, x.rows).map(|(_, len)| tile_lines(len, x.width)).sum();
        x.lines.resize(whole / TILE * each + rest, Line::default());
        let (data, stride, width, level) = (&x.data, x.stride, x.width, self.level);
        let quantise = |token: usize, len: usize, lines: &mut [Line]| {
            for t in 0..len {
                arch::quantise_spans(level, &data[(token + t) * stride..][..width], t, len, lines);
            }
        };
        // Whole tiles are shared out, the rest is little.
        let (lines, mut rest) = x.lines.split_at_mut(whole / TILE * each);
        let shape = TileShape { stride: each, columns: each, rows_max: 1, columns_max: each };
        self.pool.for_tiles(lines, shape, |mut tile| {
            for row in tile.rows() {
                quantise(row * TILE, TILE, tile.row(row));
            }
        });
        for (token, len) in tiles(whole, x.rows) {
            let (lines, after) = rest.split_at_mut(tile_lines(len, width));
            quantise(token, len, lines);
            rest = after;
        }
        x.lines_valid = true;
    }
}

/// Where tiles of the tokens from `token` on begin, and how many tokens they hold.
fn tiles(mut token: usize, tokens: usize) -> impl Iterator<Item = (usize, usize)> {
    std::iter::from_fn(move || {
        let (at, len) = (token, if token < tokens { tile_len(token, tokens) } else { return None });
        token += len;
        Some((at, len))
    })
}
