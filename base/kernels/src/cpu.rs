//! The CPU: [`Compute`] over a thread pool and this machine's best instruction set.
//!
//! Weights stay where the file maps them and are unpacked to f32 row by row as they are used. Every output element is
//! accumulated in one order (see `arch::lanes`), so results do not depend on the batch, the tile or the thread count.

mod attention;
mod panels;
mod requantised;
mod watch;
mod within;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use crate::arch::loops::MatmulTask;
use crate::arch::packed::{Block, PackedTask, TILE, tile_len};
use crate::arch::requantised::Line;
use crate::arch::unpacked::Unpacked;
use crate::arch::{self, Level};
use crate::blocks::BlockType;
use crate::compute::{
    AttentionShape, Batch, Compute, ComputeError, Gate, MatrixPlace, MatrixSource, OwnForm, Rope,
    RopePairing, WithinShape,
};
use crate::pack::{Arena, Format, GROUP, Packed, STEP};
use crate::pages::{PAGE_TOKENS, PageShape, Pages, Scratch, Slot, Strided};
use crate::pool::{Pool, TileShape};
use attention::Sharing;
use panels::Panels;
pub use panels::batch_bytes;
use watch::Watch;
pub use watch::Watched;

/// Weight rows that one task takes: small enough to share out, large enough to be worth a counter.
const ROWS_A_TASK: usize = 64;
/// Packed weights that one task takes: they stay in the second-level cache while tokens pass over them.
const TASK_BYTES: usize = 256 * 1024;
/// The same where a task's weights are read once: each begins without what is fetched ahead, and what is fetched beyond
/// its end is lost. Measured on Zen 5, one token, 150 MB, GB/s of two cores: 256 KiB 59 (Q4_0) and 56 (Q4_K), 1 MiB 65 and 66.
const STREAMED_TASK_BYTES: usize = 1024 * 1024;
/// Elements below which an operation is not worth waking other threads for.
const SERIAL: usize = 16 * 1024;

thread_local! {
    /// Scratch of each thread, so that a step allocates nothing once it is warm.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    static UNPACKED: RefCell<Unpacked> = RefCell::new(Unpacked::default());
}

/// The CPU of this machine.
#[derive(Debug)]
pub struct Cpu {
    pool: Pool,
    level: Level,
    kv_scratch: Scratch,
    sharing: Sharing,
    /// Where packed matrices lie.
    arena: Arena,
    watch: Option<Watch>,
    /// See [`Cpu::requantise_prompts`].
    requantises: bool,
}

impl Cpu {
    /// With `threads` threads and the best instruction set.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self::with_level(threads, Level::detect())
    }

    /// With a chosen instruction set of those the machine has.
    #[must_use]
    pub fn with_level(threads: usize, level: Level) -> Self {
        Self {
            pool: Pool::new(threads),
            level,
            kv_scratch: Scratch::default(),
            sharing: Sharing::default(),
            arena: Arena::default(),
            watch: None,
            requantises: false,
        }
    }

    /// From now on matrices that are made are known by their names, and what they are multiplied with is summed up.
    pub fn watch(&mut self) {
        self.watch = Some(Watch::default());
    }

    /// What was seen since [`Cpu::watch`], by the names of tensors; watching ends.
    pub fn watched(&mut self) -> HashMap<String, Watched> {
        self.watch.take().map(Watch::into_seen).unwrap_or_default()
    }

    /// Threads that take part.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Activations to int8, then groups of sixteen rows to threads.
    fn packed_matmul(&self, weights: &Packed, x: &mut Rows, out: &mut Rows) {
        if self.takes_panels(weights, x.rows) {
            return self.requantised_matmul(weights, x, out);
        }
        self.quantise(x, weights.format.offset_bits());
        let task = PackedTask { weights, blocks: &x.blocks, tokens: x.rows };
        let groups = weights.rows.div_ceil(GROUP);
        let bytes = if x.rows <= TILE { STREAMED_TASK_BYTES } else { TASK_BYTES };
        let share = groups_a_task(groups, self.pool.threads(), bytes / weights.group_bytes());
        let shape = out.tiles(x.rows.max(1), share * GROUP);
        let level = self.level;
        self.pool.for_tiles(out.used_mut(), shape, |mut tile| {
            UNPACKED.with_borrow_mut(|memory| arch::packed(level, &task, memory, &mut tile));
        });
    }

    /// `offset_bits` of 0 takes any blocks, since its kernels do not look at their offsets.
    fn quantise(&self, x: &mut Rows, offset_bits: u32) {
        if x.blocks_valid && (offset_bits == 0 || offset_bits == x.blocks_offset_bits) {
            return;
        }
        // Q6_K stands beside the types without an offset in most mixtures.
        let shift = if offset_bits == 0 { 5 } else { offset_bits };
        x.blocks_offset_bits = shift;
        let steps = x.width / STEP;
        x.blocks.resize(x.rows * steps, Block::default());
        let (data, stride, width, level) = (&x.data, x.stride, x.width, self.level);
        let quantise = |token: usize, len: usize, blocks: &mut [Block]| {
            for t in 0..len {
                arch::quantise(level, &data[(token + t) * stride..][..width], shift, len, &mut blocks[t..]);
            }
        };
        // Whole tiles are shared out, the rest is little.
        let (whole, rest) = x.blocks.split_at_mut(x.rows / TILE * TILE * steps);
        let shape = TileShape {
            stride: TILE * steps,
            columns: TILE * steps,
            rows_max: (SERIAL / (TILE * width)).max(1),
            columns_max: TILE * steps,
        };
        self.pool.for_tiles(whole, shape, |mut tile| {
            for row in tile.rows() {
                quantise(row * TILE, TILE, tile.row(row));
            }
        });
        let mut token = x.rows / TILE * TILE;
        let mut rest = rest;
        while token < x.rows {
            let len = tile_len(token, x.rows);
            let (blocks, after) = rest.split_at_mut(len * steps);
            quantise(token, len, blocks);
            (token, rest) = (token + len, after);
        }
        x.blocks_valid = true;
    }

    /// The instruction set in use.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }
}

/// How many groups of `groups` a task takes, at most `most`: so many that the threads end together, if they are equally
/// fast, and that groups go in pairs.
fn groups_a_task(groups: usize, threads: usize, most: usize) -> usize {
    // Small matrices are cut finer, so that every thread has some.
    let most = groups.div_ceil(threads * 4).clamp(1, most.max(1));
    let longest = |share: usize| groups.div_ceil(share).div_ceil(threads) * share;
    (most.div_ceil(2)..=most)
        .filter(|share| share.is_multiple_of(2) || most == 1)
        .min_by_key(|share| (longest(*share), std::cmp::Reverse(*share)))
        .unwrap_or(most)
}

/// A matrix as the file stores it, and packed for the kernels where its type has a packed form.
#[derive(Debug)]
pub struct CpuMatrix {
    source: MatrixSource,
    row_bytes: usize,
    packed: Option<Packed>,
    /// Floats in panels, where whoever took it said that its products may be rounded.
    panels: Option<Panels>,
    /// Known while they are watched.
    name: Option<watch::Name>,
}

impl CpuMatrix {
    fn bytes(&self) -> &[u8] {
        &(*self.source.storage).as_ref()[self.source.range.clone()]
    }
}

/// Bytes of a row of the file, once the source is known to hold all of them.
fn checked_row_bytes(source: &MatrixSource) -> Result<usize, ComputeError> {
    let inside = source.range.end <= (*source.storage).as_ref().len();
    if inside { unseen_row_bytes(source) } else { Err(wrong_size(source, source.range.len())) }
}

/// The same without a look at the source, whose bytes may have to be made for it.
fn unseen_row_bytes(source: &MatrixSource) -> Result<usize, ComputeError> {
    let wrong = || wrong_size(source, source.range.len());
    let row_bytes = source.kind.row_bytes(source.columns).ok_or_else(wrong)?;
    if row_bytes.checked_mul(source.rows) != Some(source.range.len()) {
        return Err(wrong());
    }
    Ok(row_bytes)
}

fn wrong_size(source: &MatrixSource, bytes: usize) -> ComputeError {
    ComputeError::MatrixSize { rows: source.rows, columns: source.columns, kind: source.kind.name(), bytes }
}

/// Rows of f32, each padded with zeros to whole lanes of 16.
#[derive(Debug, Default)]
pub struct Rows {
    data: Vec<f32>,
    rows: usize,
    width: usize,
    stride: usize,
    /// The same in int8, in tiles of tokens; made when the first packed matrix asks for it.
    blocks: Vec<Block>,
    blocks_valid: bool,
    /// The same for the form that rounds weights once more.
    lines: Vec<Line>,
    lines_valid: bool,
    /// The same as words of `arch::panels`, made when the first matrix in panels asks for it.
    words: Vec<f32>,
    words_valid: bool,
    /// What the blocks' offsets are multiplied with, as a power of two.
    blocks_offset_bits: u32,
}

impl Rows {
    fn new(width: usize) -> Self {
        // Rows that lie whole pages apart would share few lines of a cache.
        let stride = width.next_multiple_of(16).max(16);
        let stride = if stride.is_multiple_of(1024) { stride + 16 } else { stride };
        Self { width, stride, ..Self::default() }
    }

    /// Sets the number of rows. Contents are unspecified, the padding is zero: it is never written.
    fn resize(&mut self, rows: usize) {
        let len = rows * self.stride;
        if self.data.len() < len {
            // Not twice as much, in case that more comes: that was reckoned with before the model was loaded.
            self.data.reserve_exact(len - self.data.len());
            self.data.resize(len, 0.0);
        }
        self.rows = rows;
        self.changed();
    }

    /// What was made of the numbers is theirs no more.
    fn changed(&mut self) {
        (self.blocks_valid, self.words_valid, self.lines_valid) = (false, false, false);
    }

    fn used(&self) -> &[f32] {
        &self.data[..self.rows * self.stride]
    }

    fn used_mut(&mut self) -> &mut [f32] {
        self.changed();
        &mut self.data[..self.rows * self.stride]
    }

    /// One row without its padding.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.stride..][..self.width]
    }

    fn row_mut(&mut self, row: usize) -> &mut [f32] {
        self.changed();
        &mut self.data[row * self.stride..][..self.width]
    }

    /// The rows from this one on, without their padding.
    fn strided(&self, row: usize) -> Strided<'_> {
        Strided { data: &self.used()[row * self.stride..], stride: self.stride, width: self.width }
    }

    fn tiles(&self, rows_max: usize, columns_max: usize) -> TileShape {
        TileShape { stride: self.stride, columns: self.width, rows_max, columns_max }
    }

    /// Rows a task of an element-wise operation takes.
    fn rows_a_task(&self) -> usize {
        (SERIAL / self.stride).max(1)
    }
}

/// Turns each pair of a head by its angle.
fn turn(head: &mut [f32], pairing: RopePairing, cosines: &[f32], sines: &[f32]) {
    match pairing {
        RopePairing::Adjacent => {
            let (pairs, _) = head.as_chunks_mut::<2>();
            for ((pair, c), s) in pairs.iter_mut().zip(cosines).zip(sines) {
                let [a, b] = *pair;
                *pair = [a * c - b * s, a * s + b * c];
            }
        }
        RopePairing::Halves => {
            let (low, high) = head.split_at_mut(cosines.len());
            for (((a, b), c), s) in low.iter_mut().zip(high).zip(cosines).zip(sines) {
                (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
            }
        }
    }
}

impl Compute for Cpu {
    type Matrix = CpuMatrix;
    type Vector = Vec<f32>;
    type Activation = Rows;
    type Pages = Pages;

    fn matrix(&mut self, source: MatrixSource) -> Result<CpuMatrix, ComputeError> {
        let row_bytes = checked_row_bytes(&source)?;
        let packed = Format::of(source.kind).filter(|_| source.use_for_products).map(|format| {
            let bytes = &(*source.storage).as_ref()[source.range.clone()];
            Packed::beside(format, bytes, source.columns, &self.pool, &mut self.arena)
        });
        Ok(CpuMatrix {
            source,
            row_bytes,
            packed,
            panels: None,
            name: self.watch.as_mut().and_then(Watch::take_name),
        })
    }

    fn batch_matrix(&mut self, source: MatrixSource, rounded: bool) -> Result<CpuMatrix, ComputeError> {
        let floats = matches!(source.kind, BlockType::F32 | BlockType::F16 | BlockType::BF16);
        let mut matrix = self.matrix(source)?;
        if floats && matrix.source.use_for_products {
            let level = if rounded { self.level } else { self.level.exact() };
            matrix.panels = Some(Panels::new(&matrix.source, matrix.row_bytes, level, &self.pool));
        }
        Ok(matrix)
    }

    fn stored_matrix(&mut self, source: MatrixSource, form: OwnForm) -> Result<CpuMatrix, ComputeError> {
        let row_bytes = unseen_row_bytes(&source)?;
        let bytes = form.range.len();
        let packed = Format::of(source.kind)
            .filter(|_| source.use_for_products)
            .and_then(|format| Packed::stored(format, source.rows, source.columns, form.storage, form.range));
        let Some(packed) = packed else { return Err(wrong_size(&source, bytes)) };
        let name = self.watch.as_mut().and_then(Watch::take_name);
        Ok(CpuMatrix { source, row_bytes, packed: Some(packed), panels: None, name })
    }

    fn next_matrix_is(&mut self, tensor: &str, place: MatrixPlace) {
        if let Some(watch) = &mut self.watch {
            watch.next_is(tensor, place);
        }
    }

    fn loaded(&mut self) {
        self.arena.close();
    }

    fn own_form(&self, matrix: &CpuMatrix) -> Option<OwnForm> {
        matrix.packed.as_ref().map(Packed::own_form)
    }

    fn has_copied(&self, matrix: &CpuMatrix) -> bool {
        matrix.packed.is_some() || matrix.panels.is_some()
    }

    fn vector(&mut self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn activation(&mut self, width: usize) -> Rows {
        Rows::new(width)
    }

    fn pages(&mut self, shape: PageShape) -> Result<Pages, ComputeError> {
        shape.check()?;
        Ok(Pages::new(shape))
    }

    fn ensure_pages(&mut self, pages: &mut Pages, ids: &[u32]) {
        for id in ids {
            pages.ensure(*id);
        }
    }

    fn release_page(&mut self, pages: &mut Pages, id: u32) {
        pages.release(id);
    }

    fn copy_page(&mut self, pages: &mut Pages, from: u32, to: u32) {
        pages.copy(from, to);
    }

    fn embed(&mut self, table: &CpuMatrix, tokens: &[u32], scale: f32, out: &mut Rows) {
        out.resize(tokens.len());
        let (bytes, level) = (table.bytes(), self.level);
        let shape = out.tiles(out.rows_a_task(), out.width);
        self.pool.for_tiles(out.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                let from = &bytes[tokens[row] as usize * table.row_bytes..][..table.row_bytes];
                let to = tile.row(row);
                arch::unpack(level, table.source.kind, from, to);
                if scale != 1.0 {
                    for value in to {
                        *value *= scale;
                    }
                }
            }
        });
    }

    fn rms_norm(&mut self, x: &Rows, gain: &Vec<f32>, epsilon: f32, out: &mut Rows) {
        assert!(x.width == out.width && gain.len() == x.width, "norm of {} by {}", x.width, gain.len());
        out.resize(x.rows);
        let (level, shape) = (self.level, out.tiles(x.rows_a_task(), x.width));
        self.pool.for_tiles(out.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                arch::rms_norm(level, x.row(row), gain, epsilon, tile.row(row));
            }
        });
    }

    fn layer_norm(
        &mut self,
        x: &Rows,
        gain: &Vec<f32>,
        bias: Option<&Vec<f32>>,
        epsilon: f32,
        out: &mut Rows,
    ) {
        assert!(x.width == out.width && gain.len() == x.width, "norm of {} by {}", x.width, gain.len());
        assert!(bias.is_none_or(|bias| bias.len() == x.width), "biases for {}", x.width);
        out.resize(x.rows);
        let (level, shape) = (self.level, out.tiles(x.rows_a_task(), x.width));
        self.pool.for_tiles(out.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                arch::layer_norm(level, x.row(row), gain, bias.map(Vec::as_slice), epsilon, tile.row(row));
            }
        });
    }

    fn rms_norm_heads(&mut self, x: &mut Rows, gain: &Vec<f32>, epsilon: f32) {
        assert!(x.width.is_multiple_of(gain.len()), "heads of {} in {}", gain.len(), x.width);
        let (level, shape) = (self.level, x.tiles(x.rows_a_task(), x.width));
        self.pool.for_tiles(x.used_mut(), shape, |mut tile| {
            SCRATCH.with_borrow_mut(|scratch| {
                for row in tile.rows() {
                    for head in tile.row(row).chunks_exact_mut(gain.len()) {
                        scratch.clear();
                        scratch.extend_from_slice(head);
                        arch::rms_norm(level, scratch, gain, epsilon, head);
                    }
                }
            });
        });
    }

    fn layer_norm_heads(&mut self, x: &mut Rows, head_width: usize, gain: &Vec<f32>, epsilon: f32) {
        assert!(x.width == gain.len() && x.width.is_multiple_of(head_width), "heads of {head_width}");
        let (level, shape) = (self.level, x.tiles(x.rows_a_task(), x.width));
        self.pool.for_tiles(x.used_mut(), shape, |mut tile| {
            SCRATCH.with_borrow_mut(|scratch| {
                for row in tile.rows() {
                    let heads = tile.row(row).chunks_exact_mut(head_width);
                    for (head, gain) in heads.zip(gain.chunks_exact(head_width)) {
                        scratch.clear();
                        scratch.extend_from_slice(head);
                        arch::layer_norm(level, scratch, gain, None, epsilon, head);
                    }
                }
            });
        });
    }

    fn matmul(&mut self, weight: &CpuMatrix, x: &mut Rows, out: &mut Rows) {
        let MatrixSource { kind, rows, columns, .. } = weight.source;
        assert!(x.width == columns && out.width == rows, "{rows}×{columns} by {} to {}", x.width, out.width);
        out.resize(x.rows);
        if let Some(watch) = &mut self.watch {
            watch.saw(weight, x);
        }
        if let Some(panels) = &weight.panels {
            return self.panel_product(weight, panels, (None, None), x, out);
        }
        if let Some(packed) = &weight.packed {
            if self.arena.is_open() {
                self.arena.close();
            }
            return self.packed_matmul(packed, x, out);
        }
        let task = MatmulTask {
            kind,
            bytes: weight.bytes(),
            row_bytes: weight.row_bytes,
            columns,
            x: x.used(),
            stride: x.stride,
        };
        // Small matrices are cut finer, so that every thread has some.
        let share = rows.div_ceil(self.pool.threads() * 4).next_multiple_of(4);
        let shape = out.tiles(x.rows.max(1), ROWS_A_TASK.min(share));
        let level = self.level;
        self.pool.for_tiles(out.used_mut(), shape, |mut tile| {
            SCRATCH.with_borrow_mut(|scratch| arch::matmul(level, &task, scratch, &mut tile));
        });
    }

    fn add_rows(&mut self, x: &mut Rows, rows: &[u32], factors: &[f32], y: &Rows) {
        assert!(x.width == y.width && rows.len() == y.rows && factors.len() == y.rows);
        for (from, (to, factor)) in rows.iter().zip(factors).enumerate() {
            for (x, y) in x.row_mut(*to as usize).iter_mut().zip(y.row(from)) {
                *x += factor * y;
            }
        }
    }

    fn copy_columns(&mut self, x: &Rows, moves: &[(Range<usize>, usize)], out: &mut Rows) {
        assert_eq!(x.rows, out.rows);
        let shape = out.tiles(out.rows_a_task(), out.width);
        self.pool.for_tiles(out.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                let (from, to) = (x.row(row), tile.row(row));
                for (range, at) in moves {
                    to[*at..at + range.len()].copy_from_slice(&from[range.clone()]);
                }
            }
        });
    }

    fn scale(&mut self, x: &mut Rows, factor: f32) {
        let shape = x.tiles(x.rows_a_task(), x.width);
        self.pool.for_tiles(x.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                tile.row(row).iter_mut().for_each(|value| *value *= factor);
            }
        });
    }

    fn zeros(&mut self, x: &mut Rows, rows: usize) {
        x.resize(rows);
        x.used_mut().fill(0.0);
    }

    fn linear(
        &mut self,
        weight: &CpuMatrix,
        bias: Option<&Vec<f32>>,
        activation: Option<Gate>,
        x: &mut Rows,
        out: &mut Rows,
    ) {
        if let (Some(panels), None) = (&weight.panels, &self.watch) {
            let MatrixSource { rows, columns, .. } = weight.source;
            assert!(
                x.width == columns && out.width == rows,
                "{rows}×{columns} by {} to {}",
                x.width,
                out.width
            );
            out.resize(x.rows);
            return self.panel_product(weight, panels, (bias.map(Vec::as_slice), activation), x, out);
        }
        self.matmul(weight, x, out);
        if let Some(bias) = bias {
            self.add_bias(out, bias);
        }
        if let Some(kind) = activation {
            self.activate(kind, out);
        }
    }

    fn add(&mut self, x: &mut Rows, y: &Rows) {
        assert!(x.rows == y.rows && x.width == y.width);
        let shape = x.tiles(x.rows_a_task(), x.width);
        self.pool.for_tiles(x.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                for (x, y) in tile.row(row).iter_mut().zip(y.row(row)) {
                    *x += y;
                }
            }
        });
    }

    fn add_bias(&mut self, x: &mut Rows, bias: &Vec<f32>) {
        assert_eq!(x.width, bias.len());
        let shape = x.tiles(x.rows_a_task(), x.width);
        self.pool.for_tiles(x.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                for (x, bias) in tile.row(row).iter_mut().zip(bias) {
                    *x += bias;
                }
            }
        });
    }

    fn rope_table(&mut self, rope: &Rope, positions: &[u32], table: &mut Rows) {
        let half = rope.frequencies.len();
        assert_eq!(table.width, 2 * half, "a table holds a cosine and a sine for each pair");
        table.resize(positions.len());
        for (row, position) in positions.iter().enumerate() {
            let (cosines, sines) = table.row_mut(row).split_at_mut(half);
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&rope.frequencies) {
                // In f64: at position 30,000 an f32 angle is off by a thousandth of a radian.
                let (s, c) = (f64::from(*position) * f64::from(*frequency)).sin_cos();
                (*cosine, *sine) = (c as f32 * rope.amplitude, s as f32 * rope.amplitude);
            }
        }
    }

    fn rope(&mut self, x: &mut Rows, head_width: usize, pairing: RopePairing, table: &Rows) {
        let half = table.width / 2;
        assert!(
            x.rows == table.rows && table.width <= head_width,
            "rope over {} of {head_width}",
            table.width
        );
        let shape = x.tiles(x.rows_a_task(), x.width);
        self.pool.for_tiles(x.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                let (cosines, sines) = table.row(row).split_at(half);
                for head in tile.row(row).chunks_exact_mut(head_width) {
                    turn(&mut head[..2 * half], pairing, cosines, sines);
                }
            }
        });
    }

    fn store_kv(&mut self, pages: &mut Pages, layer: usize, batch: &Batch, k: &Rows, v: &Rows) {
        for span in &batch.spans {
            let mut row = span.rows.start;
            while row < span.rows.end {
                let position = batch.positions[row] as usize;
                let token = position % PAGE_TOKENS;
                let at = Slot { page: span.pages[position / PAGE_TOKENS], token, layer };
                let count = (span.rows.end - row).min(PAGE_TOKENS - token);
                let rows = [k, v].map(|rows| rows.strided(row));
                pages.store(self.level, at, count, rows, &mut self.kv_scratch);
                row += count;
            }
        }
    }

    fn attention(
        &mut self,
        pages: &Pages,
        shape: &AttentionShape,
        sinks: Option<&Vec<f32>>,
        batch: &Batch,
        q: &Rows,
        out: &mut Rows,
    ) {
        let AttentionShape { heads, kv_heads, head_width, .. } = *shape;
        assert!(q.width == heads * head_width && out.width == q.width && heads.is_multiple_of(kv_heads));
        assert!(sinks.is_none_or(|sinks| sinks.len() == heads), "one sink for each head");
        self.attend(pages, *shape, sinks.map(Vec::as_slice), batch, q, out);
    }

    fn attention_within(
        &mut self,
        shape: &WithinShape,
        spans: &[Range<usize>],
        q: &Rows,
        k: &Rows,
        v: &Rows,
        out: &mut Rows,
    ) {
        let width = shape.heads * shape.head_width;
        assert!([q, k, v].iter().all(|x| x.width == width && x.rows == q.rows) && out.width == width);
        assert!(spans.last().is_none_or(|span| span.end <= q.rows), "sequences lie within the batch");
        self.attend_within(shape, spans, [q, k, v], out);
    }

    fn activate(&mut self, kind: Gate, x: &mut Rows) {
        let (level, shape) = (self.level, x.tiles(x.rows_a_task(), x.width));
        self.pool.for_tiles(x.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                arch::activate(level, kind, tile.row(row));
            }
        });
    }

    fn gate(&mut self, kind: Gate, gate: &mut Rows, up: &Rows) {
        assert!(gate.rows == up.rows && gate.width == up.width);
        let (level, shape) = (self.level, gate.tiles(gate.rows_a_task(), gate.width));
        self.pool.for_tiles(gate.used_mut(), shape, |mut tile| {
            for row in tile.rows() {
                arch::gate(level, kind, tile.row(row), up.row(row));
            }
        });
    }

    fn gather(&mut self, x: &Rows, rows: &[u32], out: &mut Rows) {
        assert_eq!(x.width, out.width);
        out.resize(rows.len());
        for (to, from) in rows.iter().enumerate() {
            out.row_mut(to).copy_from_slice(x.row(*from as usize));
        }
    }

    fn means(&mut self, x: &Rows, spans: &[Range<usize>], out: &mut Rows) {
        assert_eq!(x.width, out.width);
        out.resize(spans.len());
        for (to, span) in spans.iter().enumerate() {
            let sums = out.row_mut(to);
            sums.fill(0.0);
            for row in span.clone() {
                for (sum, value) in sums.iter_mut().zip(x.row(row)) {
                    *sum += value;
                }
            }
            for sum in sums {
                *sum /= span.len() as f32;
            }
        }
    }

    fn soft_cap(&mut self, x: &mut Rows, cap: f32) {
        for value in x.used_mut() {
            *value = cap * (*value / cap).tanh();
        }
    }

    fn download(&mut self, x: &Rows, out: &mut Vec<f32>) {
        out.clear();
        for row in 0..x.rows {
            out.extend_from_slice(x.row(row));
        }
    }
}
