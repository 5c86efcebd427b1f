//! Attention's work for threads. Which thread computes what never shows in the result: see `arch::attention`.
//!
//! Many rows of a sequence are cut into tiles of rows and of heads that share keys and values; a tile goes over all that
//! its rows see. Few rows of a sequence would leave threads without work, and of several sequences the longest would
//! keep all others waiting: so of these each section of each group of heads is a task, which leaves a record of every
//! state, and the records are folded after.

use super::{Cpu, Rows, SCRATCH, SERIAL};
use crate::arch::attention::{AttentionTask, Part, SECTION_TOKENS, fold, normalise, record_len};
use crate::arch::{self, Level};
use crate::compute::{AttentionShape, Batch, Span};
use crate::pages::{KvType, Pages};
use crate::pool::{Pool, TileShape};

/// Rows of one sequence up to which its sections are shared out.
const FEW_ROWS: usize = 8;
/// States of a tile, and the fewest rows: enough to make pages unpacked once for all of them worth it.
const STATES: usize = 256;
const ROWS_MIN: usize = 16;

/// What is kept from step to step, so that a step allocates nothing once it is warm.
#[derive(Debug, Default)]
pub(super) struct Sharing {
    tasks: Vec<SectionTask>,
    /// For each row of the batch, where its records are.
    rows: Vec<Option<Place>>,
    records: Vec<f32>,
}

/// One section of one group of heads of one span.
#[derive(Debug, Clone, Copy)]
struct SectionTask {
    span: usize,
    kv_head: usize,
    section: usize,
}

/// Where a row's records are: those of a group of heads are `sections` tasks, the groups one after another.
#[derive(Debug, Clone, Copy)]
struct Place {
    first_task: usize,
    sections: usize,
    /// The row in its span.
    row: usize,
}

/// One call of the operation.
struct Call<'a> {
    level: Level,
    pages: &'a Pages,
    shape: AttentionShape,
    sinks: Option<&'a [f32]>,
    batch: &'a Batch,
    q: &'a Rows,
}

impl Call<'_> {
    const fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Calls `work` with the task of one span and one group of heads; its rows are counted from the span's first.
    fn with_task(&self, span: &Span, kv_head: usize, work: impl FnOnce(&AttentionTask<'_>)) {
        let AttentionShape { layer, head_width, scale, window, soft_cap, .. } = self.shape;
        work(&AttentionTask {
            q: &self.q.used()[span.rows.start * self.q.stride..],
            q_stride: self.q.stride,
            head_width,
            heads: self.group(),
            first_position: self.batch.positions[span.rows.start] as usize,
            pages: &|page| self.pages.view(span.pages[page], layer, kv_head),
            scale,
            window,
            soft_cap,
            sinks: self.sinks.map(|sinks| &sinks[kv_head * self.group()..][..self.group()]),
            exact: self.pages.shape().kv_type == KvType::F32,
        });
    }

    /// Tiles of a span's rows.
    fn tiles(&self, pool: &Pool, span: &Span, out: &mut Rows) {
        let AttentionShape { heads, kv_heads, head_width, .. } = self.shape;
        let columns_max = self.group() * head_width;
        let count = span.rows.len();
        let mut rows_max = (STATES / self.group()).clamp(ROWS_MIN, count.max(ROWS_MIN));
        while rows_max > ROWS_MIN && count.div_ceil(rows_max) * kv_heads < 4 * pool.threads() {
            rows_max = (rows_max / 2).max(ROWS_MIN);
        }
        let stride = out.stride;
        let tiles = TileShape { stride, columns: heads * head_width, rows_max, columns_max };
        let rows = &mut out.used_mut()[span.rows.start * stride..span.rows.end * stride];
        pool.for_tiles(rows, tiles, |mut tile| {
            let kv_head = tile.columns().start / columns_max;
            self.with_task(span, kv_head, |task| {
                SCRATCH.with_borrow_mut(|scratch| {
                    arch::attention(self.level, task, scratch, Part::Whole(&mut tile));
                });
            });
        });
    }

    /// Tasks and places of all spans of few rows.
    fn plan(&self, sharing: &mut Sharing) {
        let Sharing { tasks, rows, .. } = sharing;
        tasks.clear();
        rows.clear();
        rows.resize(self.q.rows, None);
        for (index, span) in self.batch.spans.iter().enumerate() {
            if !is_short(span) {
                continue;
            }
            let first = self.batch.positions[span.rows.start] as usize;
            let oldest = (first + 1).saturating_sub(self.shape.window);
            let sections = oldest / SECTION_TOKENS..(first + span.rows.len() - 1) / SECTION_TOKENS + 1;
            for row in 0..span.rows.len() {
                let (first_task, sections) = (tasks.len(), sections.len());
                rows[span.rows.start + row] = Some(Place { first_task, sections, row });
            }
            for kv_head in 0..self.shape.kv_heads {
                let task = |section| SectionTask { span: index, kv_head, section };
                tasks.extend(sections.clone().map(task));
            }
        }
    }

    /// Sections of all spans of few rows, then their records folded.
    fn sections(&self, pool: &Pool, sharing: &mut Sharing, out: &mut Rows) {
        self.plan(sharing);
        let AttentionShape { heads, head_width, .. } = self.shape;
        let record = record_len(head_width);
        let rows_most =
            self.batch.spans.iter().filter(|span| is_short(span)).map(|span| span.rows.len()).max();
        let task_len = rows_most.unwrap_or(0) * self.group() * record;
        let Sharing { tasks, rows, records } = sharing;
        let len = tasks.len() * task_len;
        if records.len() < len {
            records.resize(len, 0.0);
        }
        let each = TileShape { stride: task_len, columns: task_len, rows_max: 1, columns_max: task_len };
        pool.for_tiles(&mut records[..len], each, |mut tile| {
            let SectionTask { span, kv_head, section } = tasks[tile.rows().start];
            let span = &self.batch.spans[span];
            let column = kv_head * self.group() * head_width;
            let records = tile.row(tile.rows().start);
            self.with_task(span, kv_head, |task| {
                let part = Part::Section { section, rows: 0..span.rows.len(), column, records };
                SCRATCH.with_borrow_mut(|scratch| arch::attention(self.level, task, scratch, part));
            });
        });
        let read = tasks.len() * self.group() * record / rows.len().max(1);
        let shape = TileShape {
            stride: out.stride,
            columns: heads * head_width,
            rows_max: (SERIAL / read.max(1)).max(1),
            columns_max: heads * head_width,
        };
        pool.for_tiles(out.used_mut(), shape, |mut tile| {
            SCRATCH.with_borrow_mut(|scratch| {
                scratch.resize(scratch.len().max(record), 0.0);
                for row in tile.rows() {
                    let Some(place) = rows[row] else { continue };
                    for (head, out) in tile.row(row).chunks_exact_mut(head_width).enumerate() {
                        let own = &mut scratch[..record];
                        own[0] = f32::NEG_INFINITY;
                        for section in 0..place.sections {
                            let task = place.first_task + head / self.group() * place.sections + section;
                            let state = place.row * self.group() + head % self.group();
                            fold(own, &records[task * task_len + state * record..][..record]);
                        }
                        normalise(own, self.sinks.map(|sinks| sinks[head]), out);
                    }
                }
            });
        });
    }
}

const fn is_short(span: &Span) -> bool {
    span.rows.end - span.rows.start <= FEW_ROWS
}

impl Cpu {
    pub(super) fn attend(
        &mut self,
        pages: &Pages,
        shape: AttentionShape,
        sinks: Option<&[f32]>,
        batch: &Batch,
        q: &Rows,
        out: &mut Rows,
    ) {
        let call = Call { level: self.level, pages, shape, sinks, batch, q };
        out.resize(q.rows);
        for span in batch.spans.iter().filter(|span| !is_short(span)) {
            call.tiles(&self.pool, span, out);
        }
        if batch.spans.iter().any(is_short) {
            call.sections(&self.pool, &mut self.sharing, out);
        }
    }
}
