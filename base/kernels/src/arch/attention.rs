//! Softmax attention over pages, with a running maximum (Milakov & Gimelshein, 2018): `out = Σ 2^(sᵢ−m)·vᵢ / Σ 2^(sᵢ−m)`,
//! `s = q·k·scale·log₂e`, so that every exponential is a power of two.
//!
//! A *state* is one row's one head. Positions are cut into *sections* of [`SECTION_TOKENS`], counted from the sequence's
//! start. Within a section a state goes page by page, in ascending order, with a maximum, sixteen lanes of its total and
//! `head_width` sums; sections are then folded in ascending order, by [`fold`]. That order is all a state's result
//! depends on: not the rows beside it, nor who computes which section. A token that a state does not see has weight 0,
//! which changes no bit.
//!
//! For each page: keys and values as [`Pairs`], once for all states of the task; then for blocks of states the scores,
//! one token a lane, so that no product is summed across lanes; the weights; the weighted values, one element a lane.
//! Scores and values are held in registers. The maximum moves, and sums are multiplied, only when a score is 2⁸ times
//! above it: until then weights are just larger than 1, and lose nothing in floating point.
//!
//! Error: f32 keys and values are exact but for f32 addition. For f16 keys and values the form of the instruction set is
//! used; see `bf16` for what that rounds. Operations: 4·head_width for each state and token. Bytes: a page's keys and
//! values, once a task.

#![expect(clippy::needless_range_loop, reason = "register tiles are indexed in two directions at once")]

use std::ops::Range;

use super::lanes::{Lanes, exp2};
use super::pairs::{Pairs, Plain};
use super::rows::Rows;
use crate::pages::{PAGE_TOKENS, PageView};
use crate::pool::Tile;

/// Positions whose attention is computed in one go: what threads share when rows are few.
pub(crate) const SECTION_TOKENS: usize = 256;
/// Vectors of a page's tokens: lane `l` of vector `v` is token `16 v + l`.
const VECTORS: usize = PAGE_TOKENS / 16;
const _: () = assert!(PAGE_TOKENS == 32, "a page's weights are sixteen pairs");
/// How far, in powers of two, a score may be above the maximum before the maximum moves.
const SLACK: f32 = 8.0;

/// One run of a sequence's new tokens against heads that share keys and values.
pub(crate) struct AttentionTask<'a> {
    /// Queries, `q_stride` a row: the rows of the run.
    pub q: &'a [f32],
    pub q_stride: usize,
    pub head_width: usize,
    /// Heads of this task.
    pub heads: usize,
    /// The position of the run's first row.
    pub first_position: usize,
    /// The pages of the sequence, in order, for this layer and these heads' keys and values.
    pub pages: &'a dyn Fn(usize) -> PageView<'a>,
    pub scale: f32,
    /// Positions that a token sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// `cap·tanh(score/cap)`; 0 is off.
    pub soft_cap: f32,
    /// One more score for each of these heads, which weighs nothing but itself.
    pub sinks: Option<&'a [f32]>,
    /// Whether keys, values and weights enter the products as f32 even where a faster form is.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "no faster form there"))]
    pub exact: bool,
}

/// What is to be computed, and where it goes.
pub(crate) enum Part<'p, 't> {
    /// Everything that the tile's rows see; its columns are the task's heads.
    Whole(&'p mut Tile<'t>),
    /// What the rows see of one section: a record of each state, see [`record_len`]. `column` is the first head's.
    Section { section: usize, rows: Range<usize>, column: usize, records: &'p mut [f32] },
}

/// Numbers in a state's record: its maximum, total and sums.
pub(crate) const fn record_len(head_width: usize) -> usize {
    head_width + 2
}

impl AttentionTask<'_> {
    const fn position(&self, row: usize) -> usize {
        self.first_position + row
    }

    const fn oldest(&self, row: usize) -> usize {
        (self.position(row) + 1).saturating_sub(self.window)
    }

    /// The sections of which these rows see something.
    pub(crate) const fn sections(&self, rows: &Range<usize>) -> Range<usize> {
        self.oldest(rows.start) / SECTION_TOKENS..self.position(rows.end - 1) / SECTION_TOKENS + 1
    }

    /// The tokens of the page at `start` that a row sees, counted from the page's first.
    fn seen(&self, row: usize, start: usize) -> Range<usize> {
        let from = self.oldest(row).clamp(start, start + PAGE_TOKENS);
        let to = (self.position(row) + 1).clamp(from, start + PAGE_TOKENS);
        from - start..to - start
    }
}

/// Attention in the lanes' own f32.
#[inline(always)]
pub(crate) fn attention<R: Rows>(task: &AttentionTask<'_>, scratch: &mut Vec<f32>, part: Part<'_, '_>) {
    attention_with::<Plain<R>>(task, scratch, part);
}

/// Attention in a form of pairs.
#[inline(always)]
pub(crate) fn attention_with<P: Pairs>(task: &AttentionTask<'_>, scratch: &mut Vec<f32>, part: Part<'_, '_>) {
    let (rows, column, sections) = match &part {
        Part::Whole(tile) => (tile.rows(), tile.columns().start, task.sections(&tile.rows())),
        Part::Section { rows, column, section, .. } => (rows.clone(), *column, *section..*section + 1),
    };
    let states = rows.len() * task.heads;
    let Memory { keys, values, queries, weights, mut state, records: own } =
        Memory::<P>::new(scratch, task.head_width, states);
    let (tile, records) = match part {
        Part::Whole(tile) => (Some(tile), own),
        Part::Section { records, .. } => (None, &mut records[..states * record_len(task.head_width)]),
    };
    for record in records.chunks_exact_mut(record_len(task.head_width)) {
        record[0] = f32::NEG_INFINITY;
    }
    pack_queries::<P>(task, &rows, column, queries);
    for section in sections {
        state.maxima.fill(f32::NEG_INFINITY);
        for page in pages_of(task, &rows, section) {
            let start = page * PAGE_TOKENS;
            let end = task.position(rows.end - 1) + 1;
            let view = (task.pages)(page);
            let next = if start + PAGE_TOKENS < end { (task.pages)(page + 1) } else { view };
            view.unpack::<P>((end - start).min(PAGE_TOKENS), &next, keys, values);
            let page = Page::<P> { task, rows: &rows, start, keys, values };
            attend_page(&page, queries, weights, &mut state);
        }
        state.fold_into::<P::Lanes>(records);
    }
    if let Some(tile) = tile {
        let mut records = records.chunks_exact(record_len(task.head_width));
        for row in rows {
            for (head, (out, record)) in
                tile.row(row).chunks_exact_mut(task.head_width).zip(&mut records).enumerate()
            {
                normalise(record, task.sinks.map(|sinks| sinks[head]), out);
            }
        }
    }
}

/// The pages of a section that some of the rows see.
#[inline(always)]
fn pages_of(task: &AttentionTask<'_>, rows: &Range<usize>, section: usize) -> Range<usize> {
    let first = task.oldest(rows.start).max(section * SECTION_TOKENS);
    let end = (task.position(rows.end - 1) + 1).min((section + 1) * SECTION_TOKENS);
    first / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS).max(first / PAGE_TOKENS)
}

/// The scratch of a task, as slices that begin on cache lines.
struct Memory<'m, P: Pairs> {
    /// `[pair of elements][vector of tokens]`.
    keys: &'m mut [P::Sixteen],
    /// `[pair of tokens][vector of elements]`.
    values: &'m mut [P::Sixteen],
    /// `[block][pair of elements]`, and in the sixteen the states of the block.
    queries: &'m mut [P::Sixteen],
    /// Of one block: `[state]`, and in the sixteen the pairs of tokens.
    weights: &'m mut [P::Sixteen],
    state: State<'m>,
    /// Sections so far: `[state][record_len]`.
    records: &'m mut [f32],
}

/// Where the states of a section stand. Without a maximum a state has seen nothing, and the rest of it is undefined.
struct State<'m> {
    maxima: &'m mut [f32],
    totals: &'m mut [[f32; 16]],
    /// `[state][vector of elements]`.
    sums: &'m mut [[f32; 16]],
}

impl<'m, P: Pairs> Memory<'m, P> {
    #[inline(always)]
    fn new(scratch: &'m mut Vec<f32>, width: usize, states: usize) -> Self {
        let blocks = blocks::<P::Lanes>(states).count();
        let page = PAGE_TOKENS / 2 * width / 16 * P::WORDS;
        let queries = blocks * (width / 2) * P::WORDS;
        let weights = 16 * P::WORDS;
        let padded = states.next_multiple_of(16);
        let len = 2 * page + queries + weights + padded + states * (16 + width + record_len(width));
        // Room to begin on a cache line.
        if scratch.len() < len + 16 {
            scratch.resize(len + 16, 0.0);
        }
        let skip = scratch.as_ptr().align_offset(64).min(16);
        let mut rest = &mut scratch[skip..][..len];
        let mut take = |len: usize| {
            let (taken, after) = std::mem::take(&mut rest).split_at_mut(len);
            rest = after;
            taken
        };
        Self {
            keys: P::sixteens(take(page)),
            values: P::sixteens(take(page)),
            queries: P::sixteens(take(queries)),
            weights: P::sixteens(take(weights)),
            state: State {
                maxima: &mut take(padded)[..states],
                totals: take(states * 16).as_chunks_mut().0,
                sums: take(states * width).as_chunks_mut().0,
            },
            records: take(states * record_len(width)),
        }
    }
}

impl State<'_> {
    #[inline(always)]
    fn fold_into<L: Lanes>(&self, records: &mut [f32]) {
        let vectors = self.sums.len() / self.maxima.len();
        let states = self.maxima.iter().zip(&*self.totals).zip(self.sums.chunks_exact(vectors));
        for (record, ((maximum, total), sums)) in
            records.chunks_exact_mut(record_len(16 * vectors)).zip(states)
        {
            fold_section(record, *maximum, L::load(total).sum(), sums.as_flattened());
        }
    }
}

/// Adds a later section's record to what there is.
pub(crate) fn fold(record: &mut [f32], section: &[f32]) {
    fold_section(record, section[0], section[1], &section[2..]);
}

/// Sums of two maxima, brought to the higher. Plain operations, so that every instruction set has the same bits.
#[inline(always)]
fn fold_section(record: &mut [f32], maximum: f32, total: f32, sums: &[f32]) {
    let (head, own) = record.split_at_mut(2);
    if maximum == f32::NEG_INFINITY {
        return;
    }
    if head[0] == f32::NEG_INFINITY {
        (head[0], head[1]) = (maximum, total);
        own.copy_from_slice(sums);
        return;
    }
    let highest = if maximum > head[0] { maximum } else { head[0] };
    let (a, b) = (exp2(head[0] - highest), exp2(maximum - highest));
    (head[0], head[1]) = (highest, head[1] * a + total * b);
    for (own, sum) in own.iter_mut().zip(sums) {
        *own = *own * a + *sum * b;
    }
}

/// The attention that a state's folded record stands for.
#[inline(always)]
pub(crate) fn normalise(record: &[f32], sink: Option<f32>, out: &mut [f32]) {
    // Maxima are in powers of two.
    let more = sink.map_or(0.0, |sink| exp2(sink * std::f32::consts::LOG2_E - record[0]));
    let inverse = 1.0 / (record[1] + more);
    for (out, sum) in out.iter_mut().zip(&record[2..]) {
        *out = sum * inverse;
    }
}

/// States that are computed together: the most whose scores fit the registers, and fewer where few are left.
#[inline(always)]
fn block_len<R: Rows>(left: usize) -> usize {
    match left {
        12.. if R::REGISTERS == 32 => 12,
        4.. => 4,
        2.. => 2,
        _ => 1,
    }
}

/// Blocks of states, in order.
#[inline(always)]
fn blocks<R: Rows>(states: usize) -> impl Iterator<Item = Range<usize>> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let block = first..first + block_len::<R>(states - first);
        first = block.end;
        (block.start < states).then_some(block)
    })
}

/// Queries, scaled, as pairs of elements.
#[inline(always)]
fn pack_queries<P: Pairs>(
    task: &AttentionTask<'_>,
    rows: &Range<usize>,
    column: usize,
    queries: &mut [P::Sixteen],
) {
    let scale = P::Lanes::splat(task.scale * std::f32::consts::LOG2_E);
    let states = rows.len() * task.heads;
    for (block, queries) in blocks::<P::Lanes>(states).zip(queries.chunks_exact_mut(task.head_width / 2)) {
        for (slot, state) in block.enumerate() {
            let (row, head) = (rows.start + state / task.heads, state % task.heads);
            let q = &task.q[row * task.q_stride + column + head * task.head_width..][..task.head_width];
            for (elements, queries) in q.as_chunks::<16>().0.iter().zip(queries.chunks_exact_mut(8)) {
                let mut packed = queries[0];
                P::neighbours(P::Lanes::load(elements).mul(scale), P::Lanes::zero(), &mut packed);
                for (pair, query) in queries.iter_mut().enumerate() {
                    P::copy_pair(&packed, pair, query, slot);
                }
            }
        }
    }
}

/// One page as a task sees it.
struct Page<'a, 't, P: Pairs> {
    task: &'a AttentionTask<'t>,
    rows: &'a Range<usize>,
    /// Position of its first token.
    start: usize,
    keys: &'a [P::Sixteen],
    values: &'a [P::Sixteen],
}

#[inline(always)]
fn attend_page<P: Pairs>(
    page: &Page<'_, '_, P>,
    queries: &[P::Sixteen],
    weights: &mut [P::Sixteen],
    state: &mut State<'_>,
) {
    let heads = page.task.heads;
    let half = page.task.head_width / 2;
    for (block, queries) in blocks::<P::Lanes>(page.rows.len() * heads).zip(queries.chunks_exact(half)) {
        let seen = |state: usize| page.task.seen(page.rows.start + state / heads, page.start);
        // Rows see ranges that only move up: if neither end sees anything, the block is before or behind.
        if seen(block.start).is_empty() && seen(block.end - 1).is_empty() {
            continue;
        }
        match block.len() {
            12 if P::Lanes::REGISTERS == 32 => {
                attend_block::<P, 12>(page, block.start, queries, weights, state);
                gather::<P, 6>(page, block.start, &weights[..6], state.sums);
                gather::<P, 6>(page, block.start + 6, &weights[6..12], state.sums);
            }
            4 => {
                attend_block::<P, 4>(page, block.start, queries, weights, state);
                gather::<P, 4>(page, block.start, &weights[..4], state.sums);
            }
            2 => {
                attend_block::<P, 2>(page, block.start, queries, weights, state);
                gather::<P, 2>(page, block.start, &weights[..2], state.sums);
            }
            _ => {
                attend_block::<P, 1>(page, block.start, queries, weights, state);
                gather::<P, 1>(page, block.start, &weights[..1], state.sums);
            }
        }
    }
}

/// The weights of `T` states for one page.
#[inline(always)]
fn attend_block<P: Pairs, const T: usize>(
    page: &Page<'_, '_, P>,
    first: usize,
    queries: &[P::Sixteen],
    weights: &mut [P::Sixteen],
    state: &mut State<'_>,
) {
    let scores = scores::<P, T>(queries, page.keys);
    let vectors = page.task.head_width / 16;
    let seen_by = |state: usize| page.task.seen(page.rows.start + state / page.task.heads, page.start);
    // Rows see ranges that only move up.
    let all = seen_by(first).end == PAGE_TOKENS && seen_by(first + T - 1).start == 0;
    for t in 0..T {
        let at = first + t;
        let seen = if all { 0..PAGE_TOKENS } else { seen_by(at) };
        if seen.is_empty() {
            P::neighbours(P::Lanes::zero(), P::Lanes::zero(), &mut weights[t]);
            continue;
        }
        let sums = &mut state.sums[at * vectors..][..vectors];
        let powers = weigh(page.task, scores[t], seen, &mut state.maxima[at], &mut state.totals[at], sums);
        P::neighbours(powers[0], powers[1], &mut weights[t]);
    }
}

/// `q · key` of `T` states, one token a lane, pairs of elements in ascending order.
#[inline(always)]
fn scores<P: Pairs, const T: usize>(queries: &[P::Sixteen], keys: &[P::Sixteen]) -> [[P::Lanes; VECTORS]; T] {
    if P::Lanes::REGISTERS == 32 {
        return vectors_of_scores::<P, T, VECTORS>(queries, keys, 0);
    }
    let mut scores = [[P::Lanes::zero(); VECTORS]; T];
    for v in 0..VECTORS {
        let one = vectors_of_scores::<P, T, 1>(queries, keys, v);
        for t in 0..T {
            scores[t][v] = one[t][0];
        }
    }
    scores
}

/// The same for `V` vectors of tokens: as many as the registers hold.
#[inline(always)]
fn vectors_of_scores<P: Pairs, const T: usize, const V: usize>(
    queries: &[P::Sixteen],
    keys: &[P::Sixteen],
    first: usize,
) -> [[P::Lanes; V]; T] {
    let mut sums = [[P::Lanes::zero(); V]; T];
    for (query, keys) in queries.iter().zip(keys.as_chunks::<VECTORS>().0) {
        let mut pairs = [P::load(&keys[first]); V];
        for v in 1..V {
            pairs[v] = P::load(&keys[first + v]);
        }
        for t in 0..T {
            let query = P::splat(query, t);
            for v in 0..V {
                sums[t][v] = P::add_products(sums[t][v], pairs[v], query);
            }
        }
    }
    sums
}

/// Scores to weights `2^(score − maximum)` of the tokens in `seen`, 0 for all others; the maximum and totals go on.
#[inline(always)]
fn weigh<L: Lanes>(
    task: &AttentionTask<'_>,
    mut scores: [L; VECTORS],
    seen: Range<usize>,
    maximum: &mut f32,
    total: &mut [f32; 16],
    sums: &mut [[f32; 16]],
) -> [L; VECTORS] {
    if task.soft_cap > 0.0 {
        for v in 0..VECTORS {
            scores[v] = capped(scores[v], task.soft_cap * std::f32::consts::LOG2_E);
        }
    }
    if seen.len() < PAGE_TOKENS {
        for v in 0..VECTORS {
            scores[v] = masked(scores[v], 16 * v, &seen);
        }
    }
    let mut highest = scores[0];
    for v in 1..VECTORS {
        highest = highest.max(scores[v]);
    }
    if highest.any_above(*maximum + SLACK) {
        let highest = highest.highest();
        if *maximum == f32::NEG_INFINITY {
            // The section begins: what stands in memory is another's.
            for lanes in sums.iter_mut().chain(std::iter::once(&mut *total)) {
                L::zero().store(lanes);
            }
        } else {
            let factor = L::splat(exp2(*maximum - highest));
            for lanes in sums.iter_mut().chain(std::iter::once(&mut *total)) {
                L::load(lanes).mul(factor).store(lanes);
            }
        }
        *maximum = highest;
    }
    let below = L::splat(-*maximum);
    let mut sum = L::load(total);
    for v in 0..VECTORS {
        scores[v] = scores[v].add(below).exp2();
        sum = sum.add(scores[v]);
    }
    sum.store(total);
    scores
}

/// −∞ where a token is not seen: whatever stands in a page that no one has written.
#[inline(always)]
fn masked<L: Lanes>(scores: L, first: usize, seen: &Range<usize>) -> L {
    let mut lanes = [0.0; 16];
    scores.store(&mut lanes);
    let (from, to) = (seen.start as i32, seen.end as i32);
    for (token, lane) in (first as i32..).zip(&mut lanes) {
        *lane = if token >= from && token < to { *lane } else { f32::NEG_INFINITY };
    }
    L::load(&lanes)
}

/// `cap · tanh(score / cap)`, as 1 − 2 / (1 + e^2y).
#[inline(always)]
fn capped<L: Lanes>(scores: L, cap: f32) -> L {
    let mut lanes = [0.0; 16];
    scores.mul(L::splat(2.0 * std::f32::consts::LOG2_E / cap)).exp2().store(&mut lanes);
    for lane in &mut lanes {
        *lane = cap * (1.0 - 2.0 / (1.0 + *lane));
    }
    L::load(&lanes)
}

/// `sums[state] += Σ weights[state][token] · values[token]` of `T` states, pairs of tokens in ascending order.
#[inline(always)]
fn gather<P: Pairs, const T: usize>(
    page: &Page<'_, '_, P>,
    first: usize,
    weights: &[P::Sixteen],
    sums: &mut [[f32; 16]],
) {
    let vectors = page.task.head_width / 16;
    let sums = &mut sums[first * vectors..][..T * vectors];
    let mut vector = 0;
    if P::Lanes::REGISTERS == 32 {
        while vector + 4 <= vectors {
            gather_vectors::<P, T, 4>(weights, page.values, vector, vectors, sums);
            vector += 4;
        }
    }
    while vector < vectors {
        gather_vectors::<P, T, 1>(weights, page.values, vector, vectors, sums);
        vector += 1;
    }
}

#[inline(always)]
fn gather_vectors<P: Pairs, const T: usize, const WIDE: usize>(
    weights: &[P::Sixteen],
    values: &[P::Sixteen],
    vector: usize,
    vectors: usize,
    sums: &mut [[f32; 16]],
) {
    let weights = &weights[..T];
    let mut lanes = [[P::Lanes::zero(); WIDE]; T];
    for t in 0..T {
        for j in 0..WIDE {
            lanes[t][j] = P::Lanes::load(&sums[t * vectors + vector + j]);
        }
    }
    for (pair, values) in values.chunks_exact(vectors).enumerate().take(16) {
        let mut value = [P::load(&values[vector]); WIDE];
        for j in 1..WIDE {
            value[j] = P::load(&values[vector + j]);
        }
        for t in 0..T {
            let weight = P::splat(&weights[t], pair);
            for j in 0..WIDE {
                lanes[t][j] = P::add_products(lanes[t][j], value[j], weight);
            }
        }
    }
    for t in 0..T {
        for j in 0..WIDE {
            lanes[t][j].store(&mut sums[t * vectors + vector + j]);
        }
    }
}
