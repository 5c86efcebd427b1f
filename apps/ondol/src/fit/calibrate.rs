//! How fast this machine is at the work that models are made of, measured in a few seconds without any model: reading
//! memory, products of each block type with one token and with a whole step of them, attention, and all the small
//! operations of a layer. The kernels are those that serve requests. `predict` puts these together.
//!
//! Weights are noise. Nothing here depends on what they are, only on how many bytes and multiplications there are; the
//! matrices measured are together larger than the machine's caches, as a model's are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernels::pool::Pool;
use kernels::{
    AttentionShape, Batch, BlockType, Compute, ComputeError, Cpu, Gate, KvType, Level, MatrixSource,
    PAGE_TOKENS, PageShape, Pages, Rope, RopePairing, Span, Storage, probe,
};
use serde::Serialize;

/// Tokens of a step of a long prompt; what the engine takes at once.
pub(crate) const STEP_TOKENS: usize = 512;
/// Sides of the matrices that stand for a model's.
const SIDE: usize = 2048;
/// Of matrices so small that sharing out the work shows.
const SIDE_SMALL: usize = 512;
/// Times that all matrices go by.
const PASSES: usize = 3;
/// Widths of the two layers between which, and beyond, others are reckoned.
const WIDTHS: [usize; 2] = [512, 2048];
/// Bytes that bandwidth is measured over, at most.
const PROBE_BYTES_MAX: u64 = 256 << 20;
/// Bytes of weights of each type, at least and at most; between them, eight times the largest cache: caches are larger
/// than machines that are a part of another say, and twice the size still finds a third in them.
const STREAM_BYTES: [u64; 2] = [128 << 20, 512 << 20];
/// Bytes that matrices are packed from: packing makes a copy for each.
const NOISE_BYTES: usize = 64 << 20;
/// Rounds of what takes microseconds; the median counts.
const ROUNDS: usize = 15;
/// Layers of keys and values that attention goes over, one after another.
const ATTENDED_LAYERS: usize = 48;
/// Tokens of the context over which attention is measured.
const CONTEXT: usize = 1024;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rates {
    pub threads: usize,
    pub kernels: &'static str,
    pub kv_type: &'static str,
    /// GB/s that one thread reads, and all together.
    pub bandwidth_one_gb_per_s: f64,
    pub bandwidth_gb_per_s: f64,
    pub kinds: BTreeMap<&'static str, KindRates>,
    /// Seconds of a layer besides its weights, for one token: so much, and so much for each element of its state.
    pub layer: Line,
    /// The same for each token of a step of many.
    pub layer_step: Line,
    pub attention: AttentionRates,
    /// Seconds to bring one logit back and look at it.
    pub logit_s: f64,
    /// Seconds that all of this took.
    pub took_s: f64,
}

/// Products with one block type.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct KindRates {
    /// Bytes of weights, as the kernels hold them, that go by in a second when one token is multiplied with them.
    pub bytes_per_s: f64,
    /// Seconds that a product with one token takes besides: sharing out the work, and gathering it.
    pub product_s: f64,
    /// Multiplications and additions a second, when a step of a long prompt is.
    pub products_per_s: f64,
}

/// `fixed + each · x`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Line {
    pub fixed: f64,
    pub each: f64,
}

/// Seconds of attention for each position and element of a head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct AttentionRates {
    /// One token: for each element of a key head, and for each element of a query head.
    pub key: f64,
    pub query: f64,
    /// Many tokens: for each element of a query head.
    pub step: f64,
}

impl Line {
    /// The line through two points; never below the first of them, never falling.
    pub(crate) fn through(a: (f64, f64), b: (f64, f64)) -> Self {
        let each = ((b.1 - a.1) / (b.0 - a.0)).max(0.0);
        Self { fixed: (a.1 - each * a.0).max(0.0), each }
    }

    pub(crate) fn at(&self, x: f64) -> f64 {
        self.fixed + self.each * x
    }
}

/// What to measure with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    pub threads: usize,
    pub kv_type: KvType,
    /// Of the largest cache, where that is known.
    pub cache_bytes: Option<u64>,
    /// That may be used.
    pub memory_free: Option<u64>,
    /// Everything as small as can be: the machinery is tried, the figures mean nothing.
    pub trial: bool,
}

/// Measures everything for these block types.
pub(crate) fn measure(effort: Effort, kinds: &[BlockType]) -> Result<Rates, ComputeError> {
    let began = Instant::now();
    let level = Level::detect();
    let [least, most] = STREAM_BYTES;
    let stream = effort.cache_bytes.map_or(least, |bytes| (8 * bytes).clamp(least, most));
    let stream = effort.memory_free.map_or(stream, |free| stream.min(free / 16));
    let stream = if effort.trial { 0 } else { stream as usize };
    let probe_bytes = effort.memory_free.map_or(PROBE_BYTES_MAX, |free| (free / 8).min(PROBE_BYTES_MAX));
    let probe_bytes = if effort.trial { 1 << 20 } else { probe_bytes };
    let (one, all) = bandwidth(effort.threads, probe_bytes);
    let mut bench = Bench {
        compute: Cpu::with_level(effort.threads, level),
        noise: noise(stream.clamp(SIDE * SIDE * 4, NOISE_BYTES)),
        trial: effort.trial,
    };
    let mut rates = BTreeMap::new();
    for kind in kinds {
        rates.insert(kind.name(), bench.kind(*kind, stream)?);
    }
    let [narrow, wide] = WIDTHS;
    let line = |bench: &mut Bench, tokens: usize| -> Result<Line, ComputeError> {
        let times = [bench.layer(narrow, tokens)?, bench.layer(wide, tokens)?];
        let points = [narrow, wide].map(|width| layer_elements(&plain_widths(width)));
        Ok(Line::through((points[0], times[0] / tokens as f64), (points[1], times[1] / tokens as f64)))
    };
    Ok(Rates {
        threads: bench.compute.threads(),
        kernels: level.name(),
        kv_type: effort.kv_type.name(),
        bandwidth_one_gb_per_s: one,
        bandwidth_gb_per_s: all,
        kinds: rates,
        layer: line(&mut bench, 1)?,
        layer_step: line(&mut bench, STEP_TOKENS)?,
        attention: bench.attention(effort.kv_type)?,
        logit_s: bench.logit()?,
        took_s: began.elapsed().as_secs_f64(),
    })
}

/// Widths of a layer's activations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LayerWidths {
    pub width: usize,
    pub ff_width: usize,
    pub query: usize,
    pub key: usize,
}

/// Elements that a layer's small operations touch.
pub(crate) fn layer_elements(widths: &LayerWidths) -> f64 {
    let LayerWidths { width, ff_width, query, key } = *widths;
    (6 * width + 2 * ff_width + 2 * query + 2 * key) as f64
}

const HEAD_WIDTH: usize = 64;

const fn plain_widths(width: usize) -> LayerWidths {
    LayerWidths { width, ff_width: 3 * width, query: width, key: width / 4 }
}

struct Bench {
    compute: Cpu,
    noise: Storage,
    trial: bool,
}

type Weights = <Cpu as Compute>::Matrix;
type Rows = <Cpu as Compute>::Activation;

impl Bench {
    fn rounds(&self) -> usize {
        if self.trial { 1 } else { ROUNDS }
    }

    fn matrix(
        &mut self,
        kind: BlockType,
        rows: usize,
        columns: usize,
        at: usize,
    ) -> Result<Weights, ComputeError> {
        let bytes = kind.row_bytes(columns).unwrap_or(0) * rows;
        let room = (*self.noise).as_ref().len().saturating_sub(bytes);
        // On a whole line, as in files.
        let start = if room == 0 { 0 } else { (at % room) / 64 * 64 };
        self.compute.matrix(MatrixSource {
            storage: Arc::clone(&self.noise),
            range: start..start + bytes,
            kind,
            rows,
            columns,
            use_for_products: true,
        })
    }

    /// An activation of noise.
    fn activation(&mut self, width: usize, tokens: usize) -> Result<Rows, ComputeError> {
        let table = self.compute.matrix(MatrixSource {
            storage: Arc::clone(&self.noise),
            range: 0..64 * width * 2,
            kind: BlockType::F16,
            rows: 64,
            columns: width,
            use_for_products: false,
        })?;
        let ids: Vec<u32> = (0..tokens as u32).map(|token| token % 64).collect();
        let mut rows = self.compute.activation(width);
        self.compute.embed(&table, &ids, 1.0, &mut rows);
        Ok(rows)
    }

    fn kind(&mut self, kind: BlockType, stream: usize) -> Result<KindRates, ComputeError> {
        let side = if self.trial { 256 } else { SIDE };
        let small_side = if self.trial { 256 } else { SIDE_SMALL };
        let small = self.stream(kind, small_side, stream / 4)?;
        let (weights, large) = self.stream_with(kind, side, stream)?;
        let mut out = self.compute.activation(side);
        let bytes_per_s = held_bytes(kind, side, side) as f64 / large;
        let product_s = (small - held_bytes(kind, small_side, small_side) as f64 / bytes_per_s).max(0.0);
        let tokens = if self.trial { 8 } else { STEP_TOKENS };
        let mut many = self.activation(side, tokens)?;
        let mut times: Vec<Duration> = Vec::new();
        for round in 0..if self.trial { 1 } else { 5 } {
            let weight = &weights[round % weights.len()];
            times.push(timed(|| self.compute.matmul(weight, &mut many, &mut out)));
        }
        let step = times.into_iter().min().unwrap_or_default();
        Ok(KindRates {
            bytes_per_s,
            product_s,
            products_per_s: (side * side * tokens) as f64 / seconds(step),
        })
    }

    fn stream(&mut self, kind: BlockType, side: usize, stream: usize) -> Result<f64, ComputeError> {
        self.stream_with(kind, side, stream).map(|(_, seconds)| seconds)
    }

    /// Square matrices of together so many bytes, and the seconds of a product of one of them with one token.
    fn stream_with(
        &mut self,
        kind: BlockType,
        side: usize,
        stream: usize,
    ) -> Result<(Vec<Weights>, f64), ComputeError> {
        let bytes = held_bytes(kind, side, side);
        let count = stream.div_ceil(bytes).max(1);
        let weights = (0..count).map(|index| self.matrix(kind, side, side, index * bytes));
        let weights = weights.collect::<Result<Vec<_>, _>>()?;
        let mut out = self.compute.activation(side);
        let mut one = self.activation(side, 1)?;
        let mut pass =
            || timed(|| weights.iter().for_each(|weight| self.compute.matmul(weight, &mut one, &mut out)));
        // The first pass takes memory and wakes the threads.
        pass();
        let mut times: Vec<Duration> = (0..if self.trial { 1 } else { PASSES }).map(|_| pass()).collect();
        let seconds = seconds(median(&mut times)) / count as f64;
        Ok((weights, seconds))
    }

    /// Seconds of one logit on its way from the device to the choice of a token.
    fn logit(&mut self) -> Result<f64, ComputeError> {
        let vocabulary = if self.trial { 64 } else { 1 << 16 };
        let logits = self.activation(vocabulary, 1)?;
        let mut values = Vec::new();
        let mut times: Vec<Duration> = (0..self.rounds())
            .map(|_| {
                timed(|| {
                    values.clear();
                    self.compute.download(&logits, &mut values);
                    std::hint::black_box(values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)));
                })
            })
            .collect();
        Ok(seconds(median(&mut times)) / vocabulary as f64)
    }

    /// Seconds of one layer with matrices of a few rows, in the order of `model::forward`, without attention over the
    /// past.
    fn layer(&mut self, width: usize, tokens: usize) -> Result<f64, ComputeError> {
        let widths = plain_widths(width);
        let tokens = if self.trial { 1 } else { tokens };
        let mut layer = Layer::new(self, &widths, tokens)?;
        layer.run(&mut self.compute);
        let rounds = if tokens == 1 { 4 * self.rounds() } else { self.rounds() / 3 };
        let mut times: Vec<Duration> =
            (0..rounds.max(1)).map(|_| timed(|| layer.run(&mut self.compute))).collect();
        Ok(seconds(median(&mut times)))
    }

    fn attention(&mut self, kv_type: KvType) -> Result<AttentionRates, ComputeError> {
        let context = if self.trial { PAGE_TOKENS } else { CONTEXT };
        // Two shapes with as many keys and other queries tell both apart.
        let few = self.attend(kv_type, [8, 8], context, 1)?;
        let many = self.attend(kv_type, [32, 8], context, 1)?;
        let element = (context * HEAD_WIDTH) as f64;
        let query = ((many - few) / (24.0 * element)).max(0.0);
        let key = (few / (8.0 * element) - query).max(0.0);
        let rows = if self.trial { PAGE_TOKENS } else { STEP_TOKENS };
        let pairs = (rows * (rows + 1) / 2) as f64;
        let step = self.attend(kv_type, [16, 4], rows, rows)? / (pairs * (16 * HEAD_WIDTH) as f64);
        Ok(AttentionRates { key, query, step })
    }

    /// Seconds of attention of the last `rows` of `context` positions.
    fn attend(
        &mut self,
        kv_type: KvType,
        heads: [usize; 2],
        context: usize,
        rows: usize,
    ) -> Result<f64, ComputeError> {
        let [heads, kv_heads] = heads;
        // So many layers that keys come from where a model's come, whose weights were there in between.
        let layers = if self.trial || rows > 1 { 1 } else { ATTENDED_LAYERS };
        let shape = PageShape { layers, kv_heads, head_width: HEAD_WIDTH, kv_type };
        let mut pages = self.compute.pages(shape)?;
        let ids: Vec<u32> = (0..context.div_ceil(PAGE_TOKENS) as u32).collect();
        self.compute.ensure_pages(&mut pages, &ids);
        let past = self.activation(kv_heads * HEAD_WIDTH, context)?;
        let all = batch(0, context, &ids);
        for layer in 0..layers {
            self.compute.store_kv(&mut pages, layer, &all, &past, &past);
        }
        let last = batch(context - rows, rows, &ids);
        let q = self.activation(heads * HEAD_WIDTH, rows)?;
        let mut out = self.compute.activation(heads * HEAD_WIDTH);
        let mut run = |compute: &mut Cpu, layer: usize| {
            let shape = attention_shape(layer, heads, kv_heads);
            timed(|| compute.attention(&pages, &shape, None, &last, &q, &mut out))
        };
        run(&mut self.compute, 0);
        let rounds = if rows > 1 { self.rounds() / 3 } else { 2 * self.rounds() };
        let mut times: Vec<Duration> =
            (0..rounds.max(1)).map(|round| run(&mut self.compute, round % layers)).collect();
        Ok(seconds(median(&mut times)))
    }
}

/// A layer of the plain decoder whose matrices have 16 rows: what is left is everything but the weights.
struct Layer {
    batch: Batch,
    pages: Pages,
    heads: [usize; 2],
    gain: <Cpu as Compute>::Vector,
    /// From the state, and from the feed-forward's inside.
    narrow: Weights,
    wide: Weights,
    rope: Rope,
    table: Rows,
    x: Rows,
    normed: Rows,
    delta: Rows,
    q: Rows,
    k: Rows,
    gate: Rows,
    up: Rows,
    out: Rows,
}

impl Layer {
    fn new(bench: &mut Bench, widths: &LayerWidths, tokens: usize) -> Result<Self, ComputeError> {
        let LayerWidths { width, ff_width, query, key } = *widths;
        let heads = [query / HEAD_WIDTH, key / HEAD_WIDTH];
        let shape = PageShape { layers: 1, kv_heads: heads[1], head_width: HEAD_WIDTH, kv_type: KvType::F16 };
        let mut pages = bench.compute.pages(shape)?;
        let ids: Vec<u32> = (0..tokens.div_ceil(PAGE_TOKENS) as u32).collect();
        bench.compute.ensure_pages(&mut pages, &ids);
        let frequencies = (0..HEAD_WIDTH / 2).map(|i| 1.0 / (i + 1) as f32).collect();
        let rope = Rope { frequencies, amplitude: 1.0, pairing: RopePairing::Halves };
        let batch = batch(0, tokens, &ids);
        let mut table = bench.compute.activation(HEAD_WIDTH);
        bench.compute.rope_table(&rope, &batch.positions, &mut table);
        let gain = bench.compute.vector(&vec![1.0; width]);
        Ok(Self {
            batch,
            pages,
            heads,
            gain,
            narrow: bench.matrix(BlockType::Q8_0, 16, width, 0)?,
            wide: bench.matrix(BlockType::Q8_0, 16, ff_width, 0)?,
            rope,
            table,
            x: bench.activation(width, tokens)?,
            normed: bench.compute.activation(width),
            delta: bench.activation(width, tokens)?,
            q: bench.activation(query, tokens)?,
            k: bench.activation(key, tokens)?,
            gate: bench.activation(ff_width, tokens)?,
            up: bench.activation(ff_width, tokens)?,
            out: bench.compute.activation(16),
        })
    }

    fn run(&mut self, compute: &mut Cpu) {
        let Self {
            batch,
            pages,
            heads,
            gain,
            narrow,
            wide,
            rope,
            table,
            x,
            normed,
            delta,
            q,
            k,
            gate,
            up,
            out,
        } = self;
        compute.rms_norm(x, gain, 1e-5, normed);
        for _ in 0..3 {
            compute.matmul(narrow, normed, out);
        }
        compute.rope(q, HEAD_WIDTH, rope.pairing, table);
        compute.rope(k, HEAD_WIDTH, rope.pairing, table);
        compute.store_kv(pages, 0, batch, k, k);
        if batch.tokens.len() == 1 {
            // The past is one token: what is left is waking the threads.
            let shape = attention_shape(0, heads[0], heads[1]);
            compute.attention(pages, &shape, None, batch, q, normed);
        }
        compute.matmul(narrow, delta, out);
        compute.add(x, delta);
        compute.rms_norm(x, gain, 1e-5, normed);
        for _ in 0..2 {
            compute.matmul(narrow, normed, out);
        }
        compute.gate(Gate::Silu, gate, up);
        compute.matmul(wide, gate, out);
        compute.add(x, delta);
    }
}

fn attention_shape(layer: usize, heads: usize, kv_heads: usize) -> AttentionShape {
    let scale = 1.0 / (HEAD_WIDTH as f32).sqrt();
    AttentionShape {
        layer,
        heads,
        kv_heads,
        head_width: HEAD_WIDTH,
        scale,
        window: usize::MAX,
        soft_cap: 0.0,
    }
}

/// So many tokens of one sequence, from a position on.
fn batch(first: usize, tokens: usize, pages: &[u32]) -> Batch {
    Batch {
        tokens: vec![0; tokens],
        positions: (first as u32..).take(tokens).collect(),
        spans: vec![Span { rows: 0..tokens, pages: pages.to_vec(), stretched: false }],
        outputs: Vec::new(),
    }
}

fn held_bytes(kind: BlockType, rows: usize, columns: usize) -> usize {
    let packed = kernels::pack::Format::of(kind).and_then(|format| format.packed_bytes(rows, columns));
    packed.unwrap_or_else(|| kind.row_bytes(columns).unwrap_or(0) * rows)
}

/// Bytes of no meaning. Those bits are clear that would make a half, a bfloat or a float of two of them infinite.
fn noise(len: usize) -> Storage {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    while bytes.len() < len {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&(state & 0x3b3b_3b3b_3b3b_3b3b).to_le_bytes());
    }
    Arc::new(bytes)
}

/// GB/s of one thread and of all.
fn bandwidth(threads: usize, bytes: u64) -> (f64, f64) {
    // Ones: pages of zeros need not have memory of their own.
    let words = vec![1u64; (bytes / 8) as usize];
    let of = |threads: usize| {
        let pool = Pool::new(threads);
        let pass = || timed(|| _ = std::hint::black_box(probe::read_sum(&pool, &words)));
        pass();
        let best = (0..3).map(|_| pass()).min().unwrap_or_default();
        bytes as f64 / 1e9 / seconds(best)
    };
    let one = of(1);
    (one, if threads > 1 { of(threads) } else { one })
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64().max(1e-9)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_type_can_be_measured() {
        let effort =
            Effort { threads: 2, kv_type: KvType::F16, cache_bytes: None, memory_free: None, trial: true };
        let rates = measure(effort, &BlockType::ALL).expect("measured");
        assert_eq!(rates.kinds.len(), BlockType::ALL.len());
        for (kind, rates) in &rates.kinds {
            assert!(rates.bytes_per_s > 0.0 && rates.products_per_s > 0.0, "{kind}");
        }
        assert!(rates.bandwidth_gb_per_s > 0.0 && rates.attention.step > 0.0);
        let json = serde_json::to_value(&rates).expect("is JSON");
        assert!(json["kinds"]["Q4_K"]["bytes_per_s"].is_number());
    }

    #[test]
    fn noise_is_finite_in_every_float() {
        let noise = noise(1 << 12);
        let bytes = (*noise).as_ref();
        for pair in bytes.chunks_exact(2) {
            let bits = u16::from_le_bytes([pair[0], pair[1]]);
            // The exponents of a half and of a bfloat.
            assert!(bits & 0x7c00 != 0x7c00 && bits & 0x7f80 != 0x7f80);
        }
        assert!(bytes.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn lines() {
        let line = Line::through((1.0, 3.0), (3.0, 7.0));
        assert_eq!((line.fixed, line.each, line.at(5.0)), (1.0, 2.0, 11.0));
        // What measurement made fall is held level.
        assert_eq!(Line::through((1.0, 3.0), (3.0, 2.0)), Line { fixed: 3.0, each: 0.0 });
    }
}
