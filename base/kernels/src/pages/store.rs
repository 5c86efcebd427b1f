//! New tokens' keys and values into a page: rounded to what the page holds, keys turned so that tokens lie side by side.

use super::{KvType, PAGE_TOKENS, Page, PageShape};
use crate::arch::{self, Level};

/// Rows of numbers, `stride` from one to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub width: usize,
}

impl<'a> Strided<'a> {
    pub(crate) fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.stride..][..self.width]
    }
}

/// Rounded rows on their way into a page.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    halves: Vec<u16>,
    quants: Vec<u8>,
}

/// Where a run of tokens goes: they are neighbours in the page.
pub(super) struct Place {
    pub layer: usize,
    pub token: usize,
    pub count: usize,
}

/// Stores rows `0..count` of `k` and `v`, each `kv_heads × head_width`.
pub(super) fn store(
    level: Level,
    shape: &PageShape,
    page: &mut Page,
    at: &Place,
    [k, v]: [Strided<'_>; 2],
    scratch: &mut Scratch,
) {
    let width = shape.kv_heads * shape.head_width;
    for (side, rows) in [k, v].into_iter().enumerate() {
        let start = shape.offset(at.layer, side, 0);
        let placed = Placed { shape, at, values: side == 1, width };
        match page {
            Page::F32(data) => {
                placed.across(&mut data[start..], |token, element| rows.row(token)[element]);
            }
            Page::F16(data) => {
                scratch.halves.resize(at.count * width, 0);
                for (row, halves) in scratch.halves.chunks_exact_mut(width).enumerate() {
                    arch::to_f16(level, rows.row(row), halves);
                }
                placed.across(&mut data[start..], |token, element| scratch.halves[token * width + element]);
            }
            Page::Quants(data) => {
                let blocks = width / 32;
                scratch.quants.resize(at.count * width, 0);
                scratch.halves.resize(at.count * blocks, 0);
                for row in 0..at.count {
                    let quants = &mut scratch.quants[row * width..][..width];
                    let scales = &mut scratch.halves[row * blocks..][..blocks];
                    arch::to_quants(level, shape.kv_type, rows.row(row), quants, scales);
                }
                placed.quants(&mut data[start..], &scratch.quants, &scratch.halves);
            }
        }
    }
}

/// Where the elements of rows go, in one side of one layer of a page.
struct Placed<'a> {
    shape: &'a PageShape,
    at: &'a Place,
    values: bool,
    /// Of a row: all heads.
    width: usize,
}

impl Placed<'_> {
    /// One element after another: keys `[element][token]`, values `[token][element]`.
    fn across<T: Copy>(&self, side: &mut [T], get: impl Fn(usize, usize) -> T) {
        let PageShape { head_width, .. } = *self.shape;
        let Place { token, count, .. } = *self.at;
        let runs = side.chunks_exact_mut(PAGE_TOKENS * head_width);
        for (run, first) in runs.zip((0..self.width).step_by(head_width)) {
            if self.values {
                for (row, to) in run.chunks_exact_mut(head_width).skip(token).take(count).enumerate() {
                    for (element, to) in to.iter_mut().enumerate() {
                        *to = get(row, first + element);
                    }
                }
            } else {
                for (element, column) in run.chunks_exact_mut(PAGE_TOKENS).enumerate() {
                    for (row, to) in column[token..token + count].iter_mut().enumerate() {
                        *to = get(row, first + element);
                    }
                }
            }
        }
    }

    /// Quants, one a byte in `quants`, and the scales of their blocks.
    fn quants(&self, side: &mut [u8], quants: &[u8], scales: &[u16]) {
        let PageShape { head_width, kv_type, .. } = *self.shape;
        let Place { token: first, count, .. } = *self.at;
        let (blocks, row_blocks) = (head_width / 32, self.width / 32);
        let runs = side.chunks_exact_mut(kv_type.run_bytes(head_width));
        for (head, run) in runs.take(self.shape.kv_heads).enumerate() {
            let (to_scales, to_quants) = run.split_at_mut(2 * PAGE_TOKENS * blocks);
            for row in 0..count {
                let token = first + row;
                let scales = &scales[row * row_blocks + head * blocks..][..blocks];
                for (block, scale) in scales.iter().enumerate() {
                    let index =
                        if self.values { token * blocks + block } else { block * PAGE_TOKENS + token };
                    to_scales[2 * index..2 * index + 2].copy_from_slice(&scale.to_le_bytes());
                }
                let quants = &quants[row * self.width + head * head_width..][..head_width];
                for (element, quant) in quants.iter().enumerate() {
                    let index = if self.values {
                        token * head_width + element
                    } else {
                        element * PAGE_TOKENS + token
                    };
                    if kv_type == KvType::Q4_0 {
                        // Of each 32, the first sixteen in the low halves.
                        let byte = &mut to_quants[index / 32 * 16 + index % 16];
                        let high = 4 * (index / 16 % 2) as u32;
                        *byte = (*byte & !(15 << high)) | (quant << high);
                    } else {
                        to_quants[index] = *quant;
                    }
                }
            }
        }
    }
}
