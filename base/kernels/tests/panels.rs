//! Float weights in panels: every instruction set against the plain reference, on random and odd shapes, with biases and
//! activations; and the promise that a row is the same alone and among others, with one thread and several, to the bit.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use kernels::{BlockType, Compute, Cpu, Gate, Level, MatrixSource, cpu::CpuMatrix, cpu::Rows, reference};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Numbers from a seed, in −1 … 1.
fn numbers(seed: u64, rows: usize, width: usize) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..rows).map(|_| (0..width).map(|_| next()).collect()).collect()
}

fn bytes(kind: BlockType, rows: &[Vec<f32>]) -> Vec<u8> {
    let all = rows.iter().flatten();
    match kind {
        BlockType::F32 => all.flat_map(|value| value.to_le_bytes()).collect(),
        BlockType::BF16 => all.flat_map(|value| ((value.to_bits() >> 16) as u16).to_le_bytes()).collect(),
        _ => all.flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect(),
    }
}

fn source(kind: BlockType, bytes: Vec<u8>, rows: usize, columns: usize, products: bool) -> MatrixSource {
    let range = 0..bytes.len();
    MatrixSource { storage: Arc::new(bytes), range, kind, rows, columns, use_for_products: products }
}

fn upload(cpu: &mut Cpu, rows: &[Vec<f32>]) -> Rows {
    let width = rows[0].len();
    let table = source(BlockType::F32, bytes(BlockType::F32, rows), rows.len(), width, false);
    let table = cpu.matrix(table).unwrap();
    let mut out = cpu.activation(width);
    cpu.embed(&table, &(0..rows.len() as u32).collect::<Vec<_>>(), 1.0, &mut out);
    out
}

fn product(
    cpu: &mut Cpu,
    weight: &CpuMatrix,
    outputs: usize,
    x: &[Vec<f32>],
    bias: Option<&Vec<f32>>,
    activation: Option<Gate>,
) -> Vec<f32> {
    let (mut x, mut y) = (upload(cpu, x), cpu.activation(outputs));
    cpu.linear(weight, bias, activation, &mut x, &mut y);
    let mut out = Vec::new();
    cpu.download(&y, &mut out);
    out
}

#[test]
fn every_level_as_the_reference() {
    let kinds = prop_oneof![Just(BlockType::F32), Just(BlockType::F16), Just(BlockType::BF16)];
    let activations = prop_oneof![Just(None), Just(Some(Gate::Gelu)), Just(Some(Gate::Silu))];
    let shapes = (1usize..150, 1usize..200, 1usize..70);
    TestRunner::new(Config::with_cases(32))
        .run(&(shapes, kinds, activations, any::<bool>(), 0u64..1000), |shape| {
            let ((outputs, columns, rows), kind, activation, biased, seed) = shape;
            let (w, x) = (numbers(seed, outputs, columns), numbers(seed + 1, rows, columns));
            let bias = biased.then(|| numbers(seed + 2, 1, outputs).remove(0));
            let bytes = bytes(kind, &w);
            let mut want = reference::matmul(kind, &bytes, columns, &x);
            for row in &mut want {
                for (at, value) in row.iter_mut().enumerate() {
                    *value += bias.as_ref().map_or(0.0, |bias| bias[at]);
                    *value = activation.map_or(*value, |kind| reference::activation(kind, *value));
                }
            }
            let scale = (columns as f32).sqrt();
            for level in Level::available() {
                for (rounded, tolerance) in [(false, 1e-5), (true, 8e-3)] {
                    let mut cpu = Cpu::with_level(1 + seed as usize % 3, level);
                    let weight = source(kind, bytes.clone(), outputs, columns, true);
                    let weight = cpu.batch_matrix(weight, rounded).unwrap();
                    let ours = product(&mut cpu, &weight, outputs, &x, bias.as_ref(), activation);
                    for (ours, want) in ours.iter().zip(want.iter().flatten()) {
                        let apart = (ours - want).abs() / scale;
                        prop_assert!(apart < tolerance, "{}, {rounded}: {ours}, want {want}", level.name());
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_row_is_the_same_alone_and_among_others() {
    let (outputs, columns) = (150, 96);
    let (w, x) = (numbers(1, outputs, columns), numbers(2, 131, columns));
    for level in Level::available() {
        for rounded in [false, true] {
            let mut alone = Cpu::with_level(1, level);
            let mut many = Cpu::with_level(3, level);
            let of = |cpu: &mut Cpu| {
                cpu.batch_matrix(
                    source(BlockType::F32, bytes(BlockType::F32, &w), outputs, columns, true),
                    rounded,
                )
                .unwrap()
            };
            let (weight, weight_of_many) = (of(&mut alone), of(&mut many));
            let together = product(&mut many, &weight_of_many, outputs, &x, None, Some(Gate::Gelu));
            for (row, together) in x.iter().zip(together.chunks_exact(outputs)) {
                let row = std::slice::from_ref(row);
                assert_eq!(product(&mut alone, &weight, outputs, row, None, Some(Gate::Gelu)), together);
            }
        }
    }
}
