//! The plain form of every operation, in f64 and without a thought for speed: what the fast forms are held against.
//! Matrices are slices of rows. Not for use outside tests.

use crate::blocks::BlockType;
use crate::compute::{Gate, Rope, RopePairing};
use crate::pages::KvType;

/// `out[t][r] = Σ_k weight[r][k] · x[t][k]`.
#[must_use]
pub fn matmul(kind: BlockType, bytes: &[u8], columns: usize, x: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let row_bytes = kind.row_bytes(columns).expect("rows are whole blocks");
    let unpacked: Vec<Vec<f32>> = bytes
        .chunks_exact(row_bytes)
        .map(|row| {
            let mut out = vec![0.0; columns];
            crate::unpack::unpack(kind, row, &mut out);
            out
        })
        .collect();
    x.iter().map(|x| unpacked.iter().map(|w| dot(w, x) as f32).collect()).collect()
}

/// Activations as a product with packed weights sees them: each 32 rounded to int8 by their largest.
#[must_use]
pub fn rounded(x: &[f32]) -> Vec<f32> {
    x.chunks(32)
        .flat_map(|chunk| {
            let highest = chunk.iter().fold(0.0f32, |highest, value| highest.max(value.abs()));
            let inverse = if highest > 0.0 { 127.0 / highest } else { 0.0 };
            chunk.iter().map(move |value| (value * inverse).round_ties_even() * (highest / 127.0))
        })
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// `x / sqrt(mean(x²) + ε) · gain`.
#[must_use]
pub fn rms_norm(x: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    let scale = 1.0 / (dot(x, x) / x.len() as f64 + f64::from(epsilon)).sqrt();
    x.iter().zip(gain).map(|(x, gain)| (f64::from(*x) * scale * f64::from(*gain)) as f32).collect()
}

/// `(x − mean) / sqrt(variance + ε) · gain + bias`.
#[must_use]
pub fn layer_norm(x: &[f32], gain: &[f32], bias: Option<&[f32]>, epsilon: f32) -> Vec<f32> {
    let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / x.len() as f64;
    let apart: Vec<f64> = x.iter().map(|x| f64::from(*x) - mean).collect();
    let variance = apart.iter().map(|apart| apart * apart).sum::<f64>() / x.len() as f64;
    let scale = 1.0 / (variance + f64::from(epsilon)).sqrt();
    let bias = |i: usize| bias.map_or(0.0, |bias| f64::from(bias[i]));
    let normed = apart.iter().zip(gain).enumerate();
    normed.map(|(i, (apart, gain))| (apart * scale * f64::from(*gain) + bias(i)) as f32).collect()
}

/// An activation.
#[must_use]
pub fn activation(kind: Gate, x: f32) -> f32 {
    act(kind, f64::from(x)) as f32
}

fn act(kind: Gate, x: f64) -> f64 {
    match kind {
        Gate::Silu => x / (1.0 + (-x).exp()),
        Gate::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
        }
        Gate::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Gate::Relu => x.max(0.0),
        Gate::Clamped => {
            let x = x.min(7.0);
            x / (1.0 + (-1.702 * x).exp())
        }
    }
}

/// 2/√π · Σ (−1)ⁿ x^(2n+1) / (n!(2n+1)); beyond 5 it is 1 but for 1.5e-12.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut power, mut sum) = (x, x);
    for n in 1..200 {
        power *= -x * x / f64::from(n);
        sum += power / f64::from(2 * n + 1);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

/// `act(gate) · up`.
#[must_use]
pub fn gate(kind: Gate, gate: &[f32], up: &[f32]) -> Vec<f32> {
    let other = |up: f32| match kind {
        Gate::Clamped => f64::from(up.clamp(-7.0, 7.0)) + 1.0,
        _ => f64::from(up),
    };
    gate.iter().zip(up).map(|(g, u)| (act(kind, f64::from(*g)) * other(*u)) as f32).collect()
}

/// One head turned by its position.
#[must_use]
pub fn rope(head: &[f32], rope: &Rope, position: u32) -> Vec<f32> {
    let half = rope.frequencies.len();
    let mut out = head.to_vec();
    for (i, frequency) in rope.frequencies.iter().enumerate() {
        let (a, b) = match rope.pairing {
            RopePairing::Adjacent => (2 * i, 2 * i + 1),
            RopePairing::Halves => (i, i + half),
        };
        let (sine, cosine) = (f64::from(position) * f64::from(*frequency)).sin_cos();
        let (x, y) = (f64::from(head[a]), f64::from(head[b]));
        let amplitude = f64::from(rope.amplitude);
        out[a] = ((x * cosine - y * sine) * amplitude) as f32;
        out[b] = ((x * sine + y * cosine) * amplitude) as f32;
    }
    out
}

/// A key or value as the pages give it back.
#[must_use]
pub fn stored(kind: KvType, head: &[f32]) -> Vec<f32> {
    let half = |value: f32| half::f16::from_f32_const(value).to_f32_const();
    let block = |block: &[f32]| -> Vec<f32> {
        let farthest = block.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
        let (d, middle) =
            if kind == KvType::Q4_0 { (farthest / -8.0, 8.0) } else { (farthest.abs() / 127.0, 0.0) };
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        let highest = if kind == KvType::Q4_0 { 15.0 } else { 127.0 };
        let quant = |value: f32| (f64::from(value * inverse) + middle).round_ties_even().min(highest);
        block.iter().map(|value| (quant(*value) - middle) as f32 * half(d)).collect()
    };
    match kind {
        KvType::F32 => head.to_vec(),
        KvType::F16 => head.iter().copied().map(half).collect(),
        KvType::Q8_0 | KvType::Q4_0 => head.chunks(32).flat_map(block).collect(),
    }
}

/// One head's attention at `position` over `keys` and `values`, one a position.
#[must_use]
#[expect(clippy::too_many_arguments, reason = "all that attention depends on")]
pub fn attention(
    q: &[f32],
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    position: usize,
    window: usize,
    scale: f32,
    soft_cap: f32,
    sink: Option<f32>,
) -> Vec<f32> {
    let from = (position + 1).saturating_sub(window);
    let scores: Vec<f64> = (from..=position)
        .map(|i| {
            let score = dot(q, &keys[i]) * f64::from(scale);
            let cap = f64::from(soft_cap);
            if soft_cap > 0.0 { cap * (score / cap).tanh() } else { score }
        })
        .collect();
    let sink = sink.map_or(f64::NEG_INFINITY, f64::from);
    let highest = scores.iter().copied().fold(sink, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let total: f64 = weights.iter().sum::<f64>() + (sink - highest).exp();
    (0..q.len())
        .map(|j| {
            let sum: f64 = weights.iter().enumerate().map(|(i, w)| w * f64::from(values[from + i][j])).sum();
            (sum / total) as f32
        })
        .collect()
}

/// One head's attention of the row at `position` over a whole text, as far as it sees.
#[must_use]
pub fn attention_within(
    q: &[f32],
    keys: &[Vec<f32>],
    values: &[Vec<f32>],
    position: usize,
    reach: usize,
    scale: f32,
    slope: f32,
) -> Vec<f32> {
    let seen: Vec<usize> = (0..keys.len()).filter(|key| key.abs_diff(position) <= reach).collect();
    let score = |key: &usize| {
        dot(q, &keys[*key]) * f64::from(scale) - f64::from(slope) * key.abs_diff(position) as f64
    };
    let scores: Vec<f64> = seen.iter().map(score).collect();
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..q.len())
        .map(|j| {
            let sum: f64 = seen.iter().zip(&weights).map(|(key, w)| w * f64::from(values[*key][j])).sum();
            (sum / total) as f32
        })
        .collect()
}
