//! Prompts with weights rounded once more: near the exact product on every type and odd shape, the same bits at every level and
//! with any number of threads, taken only when asked for, and only for as many rows as it pays for.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use kernels::cpu::{CpuMatrix, Rows};
use kernels::{BlockType, Compute, Cpu, Level, MatrixSource, encode, pack, reference};

/// Normal enough numbers from a seed: sums of four.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..len).map(|_| (next() + next() + next() + next()) * 0.5).collect()
}

fn matrix(cpu: &mut Cpu, kind: BlockType, bytes: Vec<u8>, rows: usize, columns: usize) -> CpuMatrix {
    let range = 0..bytes.len();
    cpu.matrix(MatrixSource { storage: Arc::new(bytes), range, kind, rows, columns, use_for_products: true })
        .unwrap()
}

fn upload(cpu: &mut Cpu, x: &[f32], width: usize) -> Rows {
    let bytes: Vec<u8> = x.iter().flat_map(|value| value.to_le_bytes()).collect();
    let table = matrix(cpu, BlockType::F32, bytes, x.len() / width, width);
    let mut out = cpu.activation(width);
    let tokens: Vec<u32> = (0..(x.len() / width) as u32).collect();
    cpu.embed(&table, &tokens, 1.0, &mut out);
    out
}

fn product(cpu: &mut Cpu, weight: &CpuMatrix, x: &[f32], rows: usize, width: usize) -> Vec<f32> {
    let mut x = upload(cpu, x, width);
    let (mut out, mut values) = (cpu.activation(rows), Vec::new());
    cpu.matmul(weight, &mut x, &mut out);
    cpu.download(&out, &mut values);
    values
}

/// √(Σ(ours − want)² / Σwant²).
fn apart(ours: &[f32], want: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let off: f64 = ours.iter().zip(want).map(|(a, b)| square(f64::from(a - b))).sum();
    (off / want.iter().map(|b| square(f64::from(*b))).sum::<f64>()).sqrt()
}

#[test]
fn every_type_and_odd_shape_is_near_the_exact_product() {
    let packed = BlockType::ALL.into_iter().filter(|kind| pack::Format::of(*kind).is_some());
    // One group, groups that are no whole panel, a last group that is not full; tokens in tiles of 8, 4, 2 and 1.
    for (kind, (rows, columns, tokens)) in
        packed.flat_map(|kind| [(16, 256, 96), (37, 768, 111), (130, 512, 97)].map(|shape| (kind, shape)))
    {
        let weights = numbers(rows as u64, rows * columns);
        let mut bytes = vec![0; rows * kind.row_bytes(columns).unwrap()];
        if encode::encode(kind, &weights, None, &mut bytes).is_err() {
            continue;
        }
        let x = numbers(tokens as u64, tokens * columns);
        let x_rows: Vec<Vec<f32>> = x.chunks(columns).map(<[f32]>::to_vec).collect();
        let exact: Vec<f32> = reference::matmul(kind, &bytes, columns, &x_rows).concat();
        let mut seen: Option<Vec<f32>> = None;
        for level in Level::available() {
            for threads in [1, 3] {
                let mut cpu = Cpu::with_level(threads, level);
                let weight = matrix(&mut cpu, kind, bytes.clone(), rows, columns);
                let plain = product(&mut cpu, &weight, &x, rows, columns);
                cpu.requantise_prompts(true);
                let ours = product(&mut cpu, &weight, &x, rows, columns);
                let what = format!("{} {rows}×{columns}×{tokens} {}", kind.name(), level.name());
                let off = apart(&ours, &exact);
                assert!(off < 0.013, "{what}: off by {off}");
                let takes_it = ["avx-vnni", "avx512", "avx512-bf16"].contains(&level.name());
                assert_eq!(
                    cpu.form() != level.name(),
                    takes_it,
                    "{what}: pages of other bits have another form"
                );
                assert_eq!(ours != plain, takes_it, "{what}");
                let one = product(&mut cpu, &weight, &x[..columns], rows, columns);
                assert_eq!(one, plain[..rows], "{what}: a single row is as ever");
                if takes_it {
                    assert!(seen.get_or_insert_with(|| ours.clone()) == &ours, "{what}: other bits");
                }
            }
        }
    }
}

#[test]
fn widths_that_are_no_whole_span_are_as_ever() {
    let (rows, columns, tokens) = (32, 96, 100);
    let mut bytes = vec![0; rows * BlockType::Q8_0.row_bytes(columns).unwrap()];
    encode::encode(BlockType::Q8_0, &numbers(1, rows * columns), None, &mut bytes).unwrap();
    let x = numbers(2, tokens * columns);
    let mut cpu = Cpu::new(1);
    let weight = matrix(&mut cpu, BlockType::Q8_0, bytes, rows, columns);
    let plain = product(&mut cpu, &weight, &x, rows, columns);
    cpu.requantise_prompts(true);
    assert_eq!(product(&mut cpu, &weight, &x, rows, columns), plain);
}

/// The offset of unsigned bytes is large beside what it is taken from when all activations have one sign.
#[test]
fn activations_of_one_sign() {
    let (rows, columns, tokens) = (48, 2048, 96);
    let kind = BlockType::Q4_0;
    let mut bytes = vec![0; rows * kind.row_bytes(columns).unwrap()];
    encode::encode(kind, &numbers(3, rows * columns), None, &mut bytes).unwrap();
    let x: Vec<f32> = numbers(4, tokens * columns).iter().map(|x| 1.0 + 0.1 * x).collect();
    let x_rows: Vec<Vec<f32>> = x.chunks(columns).map(<[f32]>::to_vec).collect();
    let exact: Vec<f32> = reference::matmul(kind, &bytes, columns, &x_rows).concat();
    let mut cpu = Cpu::new(2);
    cpu.requantise_prompts(true);
    let weight = matrix(&mut cpu, kind, bytes, rows, columns);
    let off = apart(&product(&mut cpu, &weight, &x, rows, columns), &exact);
    assert!(off < 0.01, "off by {off}");
}
