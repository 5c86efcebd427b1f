//! Attention within whole texts: every instruction set against the plain form, on random and odd shapes; and the promise
//! that a text's result does not depend on the texts beside it or on the number of threads, to the bit.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::ops::Range;
use std::sync::Arc;

use kernels::{BlockType, Compute, Cpu, Level, MatrixSource, WithinShape, cpu::Rows, reference};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Numbers from a seed, in −2 … 2.
fn numbers(seed: u64, rows: usize, width: usize) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 22) as f32 - 2.0
    };
    (0..rows).map(|_| (0..width).map(|_| next()).collect()).collect()
}

fn upload(cpu: &mut Cpu, rows: &[Vec<f32>]) -> Rows {
    let width = rows[0].len();
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let range = 0..bytes.len();
    let (kind, use_for_products) = (BlockType::F32, false);
    let source = MatrixSource {
        storage: Arc::new(bytes),
        range,
        kind,
        rows: rows.len(),
        columns: width,
        use_for_products,
    };
    let table = cpu.matrix(source).unwrap();
    let mut out = cpu.activation(width);
    cpu.embed(&table, &(0..rows.len() as u32).collect::<Vec<_>>(), 1.0, &mut out);
    out
}

fn attend(cpu: &mut Cpu, shape: &WithinShape, spans: &[Range<usize>], qkv: &[Vec<Vec<f32>>; 3]) -> Vec<f32> {
    let [q, k, v] = qkv.each_ref().map(|rows| upload(cpu, rows));
    let mut attended = cpu.activation(shape.heads * shape.head_width);
    cpu.attention_within(shape, spans, &q, &k, &v, &mut attended);
    let mut out = Vec::new();
    cpu.download(&attended, &mut out);
    out
}

fn spans(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut next = |len: &usize| {
        start += len;
        start - len..start
    };
    lengths.iter().map(&mut next).collect()
}

fn wanted(shape: &WithinShape, spans: &[Range<usize>], [q, k, v]: &[Vec<Vec<f32>>; 3]) -> Vec<f32> {
    let mut out = Vec::new();
    for span in spans {
        for row in span.clone() {
            for head in 0..shape.heads {
                let columns = head * shape.head_width..(head + 1) * shape.head_width;
                let of = |rows: &[Vec<f32>]| -> Vec<Vec<f32>> {
                    rows[span.clone()].iter().map(|row| row[columns.clone()].to_vec()).collect()
                };
                let (position, slope) = (row - span.start, shape.slope(head));
                let (q, reach, scale) = (&q[row][columns.clone()], shape.reach, shape.scale);
                out.extend(reference::attention_within(q, &of(k), &of(v), position, reach, scale, slope));
            }
        }
    }
    out
}

#[test]
fn every_level_as_the_reference() {
    let shapes = (1usize..4, prop_oneof![Just(8usize), Just(16), Just(20), Just(32), Just(64), Just(112)]);
    let reach = prop_oneof![Just(usize::MAX), 0usize..80];
    let lengths = prop::collection::vec(1usize..90, 1..4);
    TestRunner::new(Config::with_cases(24))
        .run(&(shapes, reach, lengths, 0u64..1000, any::<bool>()), |shape| {
            let ((heads, head_width), reach, lengths, seed, alibi) = shape;
            let scale = 1.0 / (head_width as f32).sqrt();
            let alibi = if alibi { 8.0 } else { 0.0 };
            let shape = WithinShape { heads, head_width, scale, reach, alibi };
            let spans = spans(&lengths);
            let (rows, width) = (lengths.iter().sum(), heads * head_width);
            let qkv = [1, 2, 3].map(|part| numbers(seed * 4 + part, rows, width));
            let want = wanted(&shape, &spans, &qkv);
            for level in Level::available() {
                for threads in [1, 3] {
                    let ours = attend(&mut Cpu::with_level(threads, level), &shape, &spans, &qkv);
                    for (ours, want) in ours.iter().zip(&want) {
                        prop_assert!((ours - want).abs() < 2e-5, "{}: {ours}, want {want}", level.name());
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_text_is_the_same_alone_and_among_others() {
    for reach in [usize::MAX, 9] {
        let shape = WithinShape { heads: 2, head_width: 32, scale: 0.2, reach, alibi: 0.0 };
        let lengths = [3, 70, 1, 41, 133, 17];
        let spans_all = spans(&lengths);
        let qkv = [1, 2, 3].map(|part| numbers(part, lengths.iter().sum(), 64));
        let mut cpu = Cpu::new(2);
        let together = attend(&mut cpu, &shape, &spans_all, &qkv);
        for span in spans_all {
            let own = qkv.each_ref().map(|rows| rows[span.clone()].to_vec());
            let alone = attend(&mut cpu, &shape, &spans(&[span.len()]), &own);
            assert_eq!(alone, together[span.start * 64..span.end * 64], "{span:?}, {reach}");
        }
    }
}

#[test]
fn slopes_of_heads() {
    let slopes = |heads: usize| -> Vec<f32> {
        let shape = WithinShape { heads, head_width: 16, scale: 1.0, reach: usize::MAX, alibi: 8.0 };
        (0..heads).map(|head| shape.slope(head)).collect()
    };
    assert_eq!(slopes(8), [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]);
    // As the paper's program has it for 12 heads: those of 8, then every second of those of 16.
    let more: Vec<f32> = [0.5f32, 1.5, 2.5, 3.5].map(|step| (-step).exp2()).to_vec();
    assert_eq!(slopes(12)[8..], more);
}
