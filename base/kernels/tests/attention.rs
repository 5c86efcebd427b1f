//! Attention of every instruction set and every type of keys and values against the reference, and against itself: a row's
//! result has the same bits whatever it is computed beside, in whatever pieces, on any number of threads.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::ops::Range;
use std::sync::Arc;

use kernels::cpu::Rows;
use kernels::{
    AttentionShape, Batch, BlockType, Compute, ComputeError, Cpu, KvType, Level, MatrixSource, PAGE_TOKENS,
    PageShape, Pages, Span, reference,
};

/// Numbers from a seed, in −1 … 1.
fn numbers(seed: u64, rows: usize, width: usize) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..rows).map(|_| (0..width).map(|_| next()).collect()).collect()
}

fn upload(cpu: &mut Cpu, rows: &[Vec<f32>]) -> Rows {
    let width = rows[0].len();
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let (range, kind) = (0..bytes.len(), BlockType::F32);
    let source = MatrixSource {
        storage: Arc::new(bytes),
        range,
        kind,
        rows: rows.len(),
        columns: width,
        use_for_products: false,
    };
    let table = cpu.matrix(source).unwrap();
    let mut out = cpu.activation(width);
    cpu.embed(&table, &(0..rows.len() as u32).collect::<Vec<_>>(), 1.0, &mut out);
    out
}

/// One sequence, its keys and values, and what a model asks of them.
#[derive(Clone)]
struct Case {
    heads: usize,
    kv_heads: usize,
    width: usize,
    tokens: usize,
    window: usize,
    soft_cap: f32,
    sinks: Option<Vec<f32>>,
    q: Vec<Vec<f32>>,
    k: Vec<Vec<f32>>,
    v: Vec<Vec<f32>>,
}

const SCALE: f32 = 0.7;

impl Case {
    fn new(
        [heads, kv_heads, width]: [usize; 3],
        tokens: usize,
        window: usize,
        soft_cap: f32,
        seed: u64,
    ) -> Self {
        let q = numbers(seed, tokens, heads * width);
        let k = numbers(seed + 1, tokens, kv_heads * width);
        let v = numbers(seed + 2, tokens, kv_heads * width);
        // Some above all scores, some below.
        let sinks =
            (seed % 2 == 1 && seed < 50).then(|| numbers(77, 1, heads)[0].iter().map(|x| 9.0 * x).collect());
        Self { heads, kv_heads, width, tokens, window, soft_cap, sinks, q, k, v }
    }

    fn page_shape(&self, kv_type: KvType) -> PageShape {
        PageShape { layers: 2, kv_heads: self.kv_heads, head_width: self.width, kv_type }
    }

    fn attention_shape(&self) -> AttentionShape {
        AttentionShape {
            layer: 1,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_width: self.width,
            scale: SCALE,
            window: self.window,
            soft_cap: self.soft_cap,
        }
    }

    /// The reference at one position, over keys and values as `stored` gives them.
    fn want(&self, position: usize, stored: &dyn Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
        let Self { heads, kv_heads, width, .. } = *self;
        let past = |rows: &[Vec<f32>], head: usize| -> Vec<Vec<f32>> {
            rows[..=position].iter().map(|row| stored(&row[head * width..][..width])).collect()
        };
        let heads = (0..heads).map(|head| {
            let kv_head = head / (heads / kv_heads);
            let q = &self.q[position][head * width..][..width];
            let (k, v) = (past(&self.k, kv_head), past(&self.v, kv_head));
            let sink = self.sinks.as_ref().map(|sinks| sinks[head]);
            reference::attention(q, &k, &v, position, self.window, SCALE, self.soft_cap, sink)
        });
        heads.flatten().collect()
    }
}

/// Sequences that share a page pool; each has pages of its own, in no particular order.
struct Sequences<'a> {
    cases: Vec<&'a Case>,
    ids: Vec<Vec<u32>>,
    pages: Pages,
    cpu: Cpu,
}

impl<'a> Sequences<'a> {
    fn new(cases: Vec<&'a Case>, kv_type: KvType, mut cpu: Cpu) -> Self {
        let mut pages = cpu.pages(cases[0].page_shape(kv_type)).unwrap();
        let mut next = 0;
        let ids = cases.iter().map(|case| {
            let count = case.tokens.div_ceil(PAGE_TOKENS) as u32;
            let mut ids: Vec<u32> = (next..next + count).collect();
            next += count;
            ids.reverse();
            cpu.ensure_pages(&mut pages, &ids);
            ids
        });
        let ids = ids.collect();
        Self { cases, ids, pages, cpu }
    }

    /// One step: these positions of these sequences. The outputs, a row each, in order.
    fn step(&mut self, parts: &[(usize, Range<usize>)]) -> Vec<Vec<f32>> {
        let mut batch = Batch::default();
        let (mut q, mut k, mut v) = (Vec::new(), Vec::new(), Vec::new());
        for (sequence, positions) in parts {
            let first = batch.positions.len();
            batch.positions.extend(positions.clone().map(|position| position as u32));
            batch.spans.push(Span {
                rows: first..batch.positions.len(),
                pages: self.ids[*sequence].clone(),
                stretched: false,
            });
            let case = self.cases[*sequence];
            q.extend_from_slice(&case.q[positions.clone()]);
            k.extend_from_slice(&case.k[positions.clone()]);
            v.extend_from_slice(&case.v[positions.clone()]);
        }
        let Self { cpu, pages, cases, .. } = self;
        let [q, k, v] = [q, k, v].map(|rows| upload(cpu, &rows));
        cpu.store_kv(pages, 1, &batch, &k, &v);
        let width = cases[0].heads * cases[0].width;
        let mut out = cpu.activation(width);
        cpu.attention(pages, &cases[0].attention_shape(), cases[0].sinks.as_ref(), &batch, &q, &mut out);
        let mut all = Vec::new();
        cpu.download(&out, &mut all);
        all.chunks_exact(width).map(<[f32]>::to_vec).collect()
    }
}

/// Each level with one thread and with several.
fn machines() -> Vec<Cpu> {
    let levels = Level::available();
    levels.iter().flat_map(|level| [1, 3].map(|threads| Cpu::with_level(threads, *level))).collect()
}

/// Error of the sums, beside what storing has cost already, as a share of the largest output.
fn tolerance(level: Level, kv_type: KvType) -> f32 {
    // bfloat16 rounds each factor by up to 2⁻⁹.
    if level.name() == "avx512-bf16" && kv_type != KvType::F32 { 0.012 } else { 1e-5 }
}

/// What storing costs on top, as a share of the largest output, for numbers in −1 … 1.
fn loss(kv_type: KvType) -> f32 {
    match kv_type {
        KvType::F32 => 0.0,
        KvType::F16 => 1e-3,
        KvType::Q8_0 => 0.015,
        _ => 0.25,
    }
}

fn close(what: &str, ours: &[f32], want: &[f32], tolerance: f32) {
    let scale = want.iter().fold(1e-6f32, |highest, value| highest.max(value.abs()));
    for (i, (ours, want)) in ours.iter().zip(want).enumerate() {
        let error = (ours - want).abs() / scale;
        assert!(error <= tolerance, "{what} [{i}]: {ours}, want {want}: off by {error} of {scale}");
    }
}

/// Computes the case in every way of cutting it, and holds all of them against each other and the reference.
fn check(case: &Case, kv_types: &[KvType], cuts: &[Vec<usize>], compared: &[usize]) {
    for kv_type in kv_types {
        let stored: Vec<Vec<f32>> = compared
            .iter()
            .map(|position| case.want(*position, &|head| reference::stored(*kv_type, head)))
            .collect();
        let exact: Vec<Vec<f32>> =
            compared.iter().map(|position| case.want(*position, &<[f32]>::to_vec)).collect();
        let mut results: Vec<(Level, Vec<Vec<f32>>)> = Vec::new();
        for cut in cuts {
            for cpu in machines() {
                let (level, threads) = (cpu.level(), cpu.threads());
                let mut sequences = Sequences::new(vec![case], *kv_type, cpu);
                let (mut ours, mut first) = (Vec::new(), 0);
                for len in cut.iter().cycle() {
                    let end = (first + len).min(case.tokens);
                    ours.extend(sequences.step(&[(0, first..end)]));
                    first = end;
                    if first == case.tokens {
                        break;
                    }
                }
                let what = format!(
                    "{}/{}×{} window {} cap {} {} {} {threads} threads, pieces {cut:?}",
                    case.heads,
                    case.kv_heads,
                    case.width,
                    case.window,
                    case.soft_cap,
                    kv_type.name(),
                    level.name()
                );
                for ((position, stored), exact) in compared.iter().zip(&stored).zip(&exact) {
                    let what = format!("{what}, position {position}");
                    let tolerance = tolerance(level, *kv_type);
                    close(&what, &ours[*position], stored, tolerance);
                    close(&what, &ours[*position], exact, tolerance + loss(*kv_type));
                }
                match results.iter().find(|(other, _)| *other == level) {
                    Some((_, other)) => assert!(&ours == other, "{what}: other bits than in other pieces"),
                    None => results.push((level, ours)),
                }
            }
        }
        // There every level has the same operations, fused where the portable form is.
        if cfg!(target_arch = "aarch64") {
            let (_, portable) = &results[0];
            for (level, ours) in &results {
                assert!(
                    ours == portable,
                    "{} {}: other bits than the portable form",
                    kv_type.name(),
                    level.name()
                );
            }
        }
    }
}

#[test]
fn windows_caps_and_pieces() {
    let tokens = 3 * PAGE_TOKENS + 5;
    let cuts = [vec![1], vec![7], vec![64], vec![9, 23, 40], vec![tokens]];
    let all: Vec<usize> = (0..tokens).collect();
    for (window, soft_cap) in [(usize::MAX, 0.0), (17, 0.0), (usize::MAX, 2.0), (PAGE_TOKENS, 1.5), (1, 0.0)]
    {
        check(&Case::new([6, 2, 32], tokens, window, soft_cap, 9), &KvType::ALL, &cuts, &all);
    }
}

#[test]
fn head_widths_and_groups() {
    let tokens = PAGE_TOKENS + 9;
    let cuts = [vec![1], vec![tokens]];
    for shape in [[1, 1, 16], [7, 1, 48], [3, 3, 64], [8, 2, 80], [26, 2, 96], [4, 4, 112], [5, 1, 256]] {
        let kinds = KvType::ALL.into_iter().filter(|kind| shape[2] % kind.width_step() == 0);
        let case = Case::new(shape, tokens, usize::MAX, 0.0, 20);
        check(&case, &kinds.collect::<Vec<_>>(), &cuts, &[0, 5, tokens - 1]);
    }
}

/// Long enough for several sections, computed by one thread or shared out.
#[test]
fn long_contexts_and_sections() {
    let tokens = 700;
    let cuts = [vec![tokens], vec![257, 430, 1], vec![512, 180, 8], vec![40]];
    for window in [usize::MAX, 300, 20] {
        let case = Case::new([4, 2, 32], tokens, window, 0.0, 31);
        check(&case, &[KvType::F16, KvType::Q8_0], &cuts, &[255, 256, 257, 511, 530, 692, 699]);
    }
}

/// Scores that rise and fall by thousands: the running maximum moves often, and weights vanish.
#[test]
fn scores_far_apart() {
    let mut case = Case::new([2, 1, 32], 600, usize::MAX, 0.0, 40);
    for (i, k) in case.k.iter_mut().enumerate() {
        let size = if i < 320 { i as f32 } else { 600.0 - i as f32 };
        k.iter_mut().for_each(|value| *value *= size);
    }
    // Scores this large are off by more in f32 too: only positions with moderate ones are compared.
    check(&case, &[KvType::F32], &[vec![600], vec![1, 50]], &[0, 3]);
    case.k.iter_mut().flatten().for_each(|value| *value = 0.0);
    check(&case, &KvType::ALL, &[vec![600], vec![77]], &[0, 1, 300, 599]);
}

/// Several sequences in one step, some decoding, one in its prompt: the same bits as each alone.
#[test]
fn a_sequence_is_the_same_alone_and_among_others() {
    let lens = [700, 33, 290, 64, 5, 420];
    let cases: Vec<Case> =
        (0u64..).zip(lens).map(|(i, len)| Case::new([6, 2, 32], len, usize::MAX, 0.0, 50 + i)).collect();
    for kv_type in [KvType::F16, KvType::Q4_0] {
        for level in Level::available() {
            let alone: Vec<Vec<Vec<f32>>> = cases
                .iter()
                .map(|case| {
                    let mut alone = Sequences::new(vec![case], kv_type, Cpu::with_level(1, level));
                    alone.step(&[(0, 0..case.tokens)])
                })
                .collect();
            for threads in [1, 2, 5] {
                let cpu = Cpu::with_level(threads, level);
                let mut together = Sequences::new(cases.iter().collect(), kv_type, cpu);
                // All but the last tokens first, each sequence by itself; then all at once.
                let last = [1, 2, 1, 64, 5, 100];
                for (i, (len, last)) in lens.into_iter().zip(last).enumerate() {
                    if len > last {
                        together.step(&[(i, 0..len - last)]);
                    }
                }
                let parts: Vec<(usize, Range<usize>)> =
                    lens.into_iter().zip(last).map(|(len, last)| len - last..len).enumerate().collect();
                let mut rows = together.step(&parts).into_iter();
                for (i, positions) in parts {
                    for position in positions {
                        let ours = rows.next().unwrap();
                        assert!(
                            ours == alone[i][position],
                            "{} {} {threads} threads: sequence {i}, position {position}",
                            kv_type.name(),
                            level.name()
                        );
                    }
                }
            }
        }
    }
}

/// A page may hold anything where no token of this sequence stands: what another left there, NaN included.
#[test]
fn what_others_left_in_a_page_is_not_seen() {
    let case = Case::new([2, 1, 32], 37, usize::MAX, 0.0, 60);
    let mut poison = Case::new([2, 1, 32], 64, usize::MAX, 0.0, 61);
    for row in poison.k.iter_mut().chain(&mut poison.v) {
        row.fill(f32::NAN);
    }
    for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
        for level in Level::available() {
            let cpu = Cpu::with_level(1, level);
            let mut clean = Sequences::new(vec![&case], kv_type, cpu);
            let want = clean.step(&[(0, 0..case.tokens)]);
            let mut used = Sequences::new(vec![&case, &poison], kv_type, Cpu::with_level(1, level));
            used.ids[0] = used.ids[1].clone();
            used.step(&[(1, 0..poison.tokens)]);
            for piece in [1, case.tokens] {
                let mut ours = Vec::new();
                for first in (0..case.tokens).step_by(piece) {
                    ours.extend(used.step(&[(0, first..first + piece)]));
                }
                assert!(ours == want, "{} {} pieces of {piece}", kv_type.name(), level.name());
                used.step(&[(1, 0..poison.tokens)]);
            }
        }
    }
}

#[test]
fn widths_that_cannot_be_stored_are_refused() {
    let mut cpu = Cpu::new(1);
    let mut check = |head_width, kv_type, want: Option<ComputeError>| {
        let got = cpu.pages(PageShape { layers: 1, kv_heads: 1, head_width, kv_type }).err();
        assert_eq!(got, want, "{head_width} {kv_type:?}");
    };
    check(80, KvType::F16, None);
    check(96, KvType::Q8_0, None);
    check(0, KvType::F16, Some(ComputeError::HeadWidth(0)));
    check(40, KvType::Q4_0, Some(ComputeError::HeadWidth(40)));
    check(2048, KvType::F16, Some(ComputeError::HeadWidth(2048)));
    for kv_type in [KvType::Q8_0, KvType::Q4_0] {
        let refused = ComputeError::KvTypeWidth { head_width: 80, kv_type: kv_type.name(), step: 32 };
        check(80, kv_type, Some(refused));
    }
}

#[test]
fn types_by_name_and_size() {
    for kind in KvType::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
        assert_eq!(kind.name().to_uppercase().parse(), Ok(kind));
    }
    assert!("q5_1".parse::<KvType>().is_err());
    let bytes = |kv_type| PageShape { layers: 3, kv_heads: 2, head_width: 64, kv_type }.page_bytes();
    let elements = 3 * 2 * 2 * PAGE_TOKENS * 64;
    assert_eq!(bytes(KvType::F32), 4 * elements);
    assert_eq!(bytes(KvType::F16), 2 * elements);
    // 34 and 18 bytes for 32 elements.
    assert_eq!(bytes(KvType::Q8_0), elements / 32 * 34);
    assert_eq!(bytes(KvType::Q4_0), elements / 32 * 18);
}
