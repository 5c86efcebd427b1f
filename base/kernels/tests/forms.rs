//! Every instruction set of this machine against the plain reference, on random and odd shapes; and the promise that
//! a result does not depend on what it is computed beside: 1 row or many, 1 thread or several, to the bit.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use kernels::{
    BlockType, Compute, Cpu, Gate, Level, MatrixSource, Rope, RopePairing, cpu::Rows, pack, reference,
};
use proptest::test_runner::{Config, TestRunner};

/// Numbers from a seed, in −1 … 1.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn take(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }

    fn rows(&mut self, rows: usize, len: usize) -> Vec<Vec<f32>> {
        (0..rows).map(|_| self.take(len)).collect()
    }

    /// Random blocks whose scales are finite: the top exponent bit of every 16-bit scale is cleared.
    fn blocks(&mut self, kind: BlockType, rows: usize, columns: usize) -> Vec<u8> {
        if kind == BlockType::F32 {
            return self.take(rows * columns).iter().flat_map(|value| value.to_le_bytes()).collect();
        }
        let scales: &[usize] = match kind {
            BlockType::Q2_K => &[80, 82],
            BlockType::Q3_K => &[108],
            BlockType::Q6_K => &[208],
            BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
            _ => &[0],
        };
        let mut bytes: Vec<u8> = (0..rows * kind.row_bytes(columns).unwrap())
            .map(|_| ((self.next() + 1.0) * 127.9) as u8)
            .collect();
        for block in bytes.chunks_exact_mut(kind.block_bytes()) {
            if kind == BlockType::MXFP4 {
                // Around 1.
                block[0] = 116 + block[0] % 16;
            }
            for scale in scales {
                block[scale + 1] &= 0xB3;
            }
        }
        bytes
    }
}

/// Rows onto the device, by way of an F32 matrix and the embedding operation.
fn upload(cpu: &mut Cpu, rows: &[Vec<f32>]) -> Rows {
    let width = rows[0].len();
    let bytes: Vec<u8> = rows.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
    let table = matrix(cpu, BlockType::F32, bytes, rows.len(), width);
    let mut out = cpu.activation(width);
    let tokens: Vec<u32> = (0..rows.len() as u32).collect();
    cpu.embed(&table, &tokens, 1.0, &mut out);
    out
}

fn matrix(
    cpu: &mut Cpu,
    kind: BlockType,
    bytes: Vec<u8>,
    rows: usize,
    columns: usize,
) -> kernels::cpu::CpuMatrix {
    let range = 0..bytes.len();
    cpu.matrix(MatrixSource { storage: Arc::new(bytes), range, kind, rows, columns, use_for_products: true })
        .unwrap()
}

fn download(cpu: &mut Cpu, rows: &Rows) -> Vec<f32> {
    let mut out = Vec::new();
    cpu.download(rows, &mut out);
    out
}

fn close(what: &str, ours: &[f32], want: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-6f32, |highest, value| highest.max(value.abs()));
    for (i, (ours, want)) in ours.iter().zip(want).enumerate() {
        assert!(
            (ours - want).abs() <= tolerance * scale,
            "{what} [{i}]: {ours}, want {want} (scale {scale})"
        );
    }
}

/// Levels that fuse multiplication and addition in f32 give the same bits: all but the portable form of x86-64.
fn levels_agree(what: &str, results: &[(Level, Vec<f32>)]) {
    let portable_too = cfg!(target_arch = "aarch64");
    let mut fused = results
        .iter()
        .filter(|(level, _)| (portable_too || level.name() != "portable") && !level.name().ends_with("bf16"));
    let Some((first, want)) = fused.next() else { return };
    for (level, ours) in fused {
        assert!(ours == want, "{what}: {} gives other bits than {}", level.name(), first.name());
    }
}

/// Whoever emulates a processor names the levels that it must have, so that no test passes for want of a level.
#[test]
fn levels_that_were_promised() {
    let names: Vec<&str> = Level::available().iter().map(|level| level.name()).collect();
    assert_eq!(names[0], "portable");
    if let Ok(expected) = std::env::var("KERNELS_EXPECT") {
        assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    }
}

fn machines() -> Vec<Cpu> {
    let levels = Level::available();
    levels.iter().flat_map(|level| [1, 3].map(|threads| Cpu::with_level(threads, *level))).collect()
}

#[test]
fn matmul_of_every_type_level_and_odd_shape() {
    for kind in BlockType::ALL {
        for (rows, columns, tokens) in [(1, 256, 1), (7, 512, 2), (130, 768, 5), (64, 256, 9), (72, 512, 29)]
        {
            let mut numbers = Numbers(rows as u64);
            let bytes = numbers.blocks(kind, rows, columns);
            let x = numbers.rows(tokens, columns);
            let exact: Vec<f32> = reference::matmul(kind, &bytes, columns, &x).concat();
            let packed = pack::Format::of(kind).is_some();
            let seen: Vec<Vec<f32>> =
                if packed { x.iter().map(|x| reference::rounded(x)).collect() } else { x.clone() };
            let want: Vec<f32> = reference::matmul(kind, &bytes, columns, &seen).concat();
            let mut levels: Vec<(Level, Vec<f32>)> = Vec::new();
            for mut cpu in machines() {
                let weight = matrix(&mut cpu, kind, bytes.clone(), rows, columns);
                let mut x = upload(&mut cpu, &x);
                let mut out = cpu.activation(rows);
                cpu.matmul(&weight, &mut x, &mut out);
                let ours = download(&mut cpu, &out);
                let what = format!("{} {rows}×{columns}×{tokens} {}", kind.name(), cpu.level().name());
                close(&what, &ours, &want, 2e-6 * (columns as f32).sqrt());
                // Rounding activations to int8 must cost no more than it has to: half a step of 127 each, at random.
                if rows >= 64 {
                    close(&format!("{what}, exactly"), &ours, &exact, 0.03);
                }
                match levels.iter().find(|(level, _)| *level == cpu.level()) {
                    Some((_, other)) => assert_eq!(&ours, other, "{what}: threads change the result"),
                    None => levels.push((cpu.level(), ours)),
                }
            }
            levels_agree(&format!("{} {rows}×{columns}×{tokens}", kind.name()), &levels);
        }
    }
}

/// Quants and activations all at the ends of what they may be, where sums of 16 bits would overflow.
#[test]
fn matmul_of_the_highest_and_lowest_quants() {
    // With two more below: enough for quants that are unpacked beforehand.
    let (rows, columns, tokens) = (32, 256, 17);
    for kind in BlockType::ALL.into_iter().filter(|kind| pack::Format::of(*kind).is_some()) {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut bytes = Numbers(1).blocks(kind, rows, columns);
            for block in bytes.chunks_exact_mut(kind.block_bytes()) {
                // The middle of a block is quants in every type; scales stay as they are.
                let len = block.len();
                block[len / 2..len - 4].fill(byte);
            }
            let x: Vec<Vec<f32>> = (0..tokens)
                .map(|t| (0..columns).map(|c| if (c >> (t % 4)) & 1 == 0 { 1.0 } else { -1.0 }).collect())
                .chain([vec![1.0; columns], vec![-1.0; columns]])
                .collect();
            let want: Vec<f32> = reference::matmul(kind, &bytes, columns, &x).concat();
            let mut levels: Vec<(Level, Vec<f32>)> = Vec::new();
            for level in Level::available() {
                let mut cpu = Cpu::with_level(1, level);
                let weight = matrix(&mut cpu, kind, bytes.clone(), rows, columns);
                let mut x = upload(&mut cpu, &x);
                let mut out = cpu.activation(rows);
                cpu.matmul(&weight, &mut x, &mut out);
                let ours = download(&mut cpu, &out);
                let what = format!("{} of {byte:#04x} {}", kind.name(), level.name());
                close(&what, &ours, &want, 1e-4);
                levels.push((level, ours));
            }
            levels_agree(kind.name(), &levels);
        }
    }
}

#[test]
fn a_row_is_the_same_alone_and_among_others() {
    let mut numbers = Numbers(5);
    // Three groups: a pair, one beside it, and that one not full. Tokens: tiles of 8, 8, 4, 2 and 1.
    let (rows, columns) = (37, 512);
    let bytes = numbers.blocks(BlockType::Q4_K, rows, columns);
    let x = numbers.rows(23, columns);
    for mut cpu in machines() {
        let weight = matrix(&mut cpu, BlockType::Q4_K, bytes.clone(), rows, columns);
        let mut run = |x: &[Vec<f32>]| {
            let mut x = upload(&mut cpu, x);
            let mut out = cpu.activation(rows);
            cpu.matmul(&weight, &mut x, &mut out);
            download(&mut cpu, &out)
        };
        let together = run(&x);
        for (row, alone) in x.iter().enumerate() {
            assert_eq!(run(std::slice::from_ref(alone)), together[row * rows..][..rows], "row {row}");
        }
    }
}

#[test]
fn norms_and_gates() {
    TestRunner::new(Config::with_cases(24))
        .run(&(1usize..5, 1usize..300, 0u64..1000), |(rows, width, seed)| {
            let mut numbers = Numbers(seed);
            let (x, y, gain) = (numbers.rows(rows, width), numbers.rows(rows, width), numbers.take(width));
            for mut cpu in machines() {
                let (device_x, device_y) = (upload(&mut cpu, &x), upload(&mut cpu, &y));
                let mut out = cpu.activation(width);
                cpu.rms_norm(&device_x, &gain, 1e-5, &mut out);
                let want: Vec<f32> = x.iter().flat_map(|x| reference::rms_norm(x, &gain, 1e-5)).collect();
                close("norm", &download(&mut cpu, &out), &want, 1e-5);
                for bias in [None, Some(&y[0])] {
                    cpu.layer_norm(&device_x, &gain, bias, 1e-5, &mut out);
                    let bias = bias.map(Vec::as_slice);
                    let want = |x: &Vec<f32>| reference::layer_norm(x, &gain, bias, 1e-5);
                    let want: Vec<f32> = x.iter().flat_map(want).collect();
                    close("layer norm", &download(&mut cpu, &out), &want, 2e-5);
                }
                for kind in [Gate::Silu, Gate::GeluTanh, Gate::Gelu, Gate::Relu, Gate::Clamped] {
                    let scaled: Vec<Vec<f32>> =
                        x.iter().map(|row| row.iter().map(|value| value * 30.0).collect()).collect();
                    let mut gate = upload(&mut cpu, &scaled);
                    cpu.gate(kind, &mut gate, &device_y);
                    let want: Vec<f32> =
                        scaled.iter().zip(&y).flat_map(|(g, u)| reference::gate(kind, g, u)).collect();
                    close("gate", &download(&mut cpu, &gate), &want, 1e-5);
                    let mut alone = upload(&mut cpu, &x);
                    cpu.activate(kind, &mut alone);
                    let want: Vec<f32> =
                        x.iter().flatten().map(|x| reference::activation(kind, *x)).collect();
                    close("activation", &download(&mut cpu, &alone), &want, 1e-6);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn rope_of_both_pairings() {
    let width = 32;
    for pairing in [RopePairing::Adjacent, RopePairing::Halves] {
        let frequencies = (0..width / 2).map(|i| 10_000f32.powf(-2.0 * i as f32 / width as f32)).collect();
        let rope = Rope { frequencies, amplitude: 1.25, pairing };
        let positions = [0, 1, 77, 8191];
        let heads = Numbers(3).rows(positions.len(), 2 * width);
        let mut cpu = Cpu::new(1);
        let (mut x, mut table) = (upload(&mut cpu, &heads), cpu.activation(width));
        cpu.rope_table(&rope, &positions, &mut table);
        cpu.rope(&mut x, width, pairing, &table);
        let want: Vec<f32> = heads
            .iter()
            .zip(positions)
            .flat_map(|(row, position)| {
                row.chunks(width).flat_map(|head| reference::rope(head, &rope, position)).collect::<Vec<_>>()
            })
            .collect();
        close("rope", &download(&mut cpu, &x), &want, 1e-6);
    }
}

fn rows_of(all: &[f32], width: usize) -> impl Iterator<Item = &[f32]> {
    all.chunks_exact(width)
}

#[test]
fn rows_are_added_where_they_belong() {
    let width = 33;
    let (x, y) = (Numbers(5).rows(4, width), Numbers(6).rows(3, width));
    let (rows, factors) = ([2, 0, 2], [0.5, -2.0, 1.0]);
    for mut cpu in machines() {
        let (mut device, y_device) = (upload(&mut cpu, &x), upload(&mut cpu, &y));
        cpu.add_rows(&mut device, &rows, &factors, &y_device);
        cpu.scale(&mut device, 3.0);
        let mut want = x.clone();
        for ((row, factor), y) in rows.iter().zip(factors).zip(&y) {
            want[*row as usize].iter_mut().zip(y).for_each(|(x, y)| *x += factor * y);
        }
        let want: Vec<f32> = want.iter().flatten().map(|value| 3.0 * value).collect();
        close("rows", &download(&mut cpu, &device), &want, 1e-6);
        let mut moved = upload(&mut cpu, &x);
        cpu.copy_columns(&device, &[(3..5, 30), (0..1, 7)], &mut moved);
        for (moved, (device, before)) in rows_of(&download(&mut cpu, &moved), width)
            .zip(rows_of(&download(&mut cpu, &device), width).zip(&x))
        {
            assert!(moved[30..32] == device[3..5] && moved[7] == device[0] && moved[8..30] == before[8..30]);
        }
        cpu.zeros(&mut device, 2);
        assert_eq!(download(&mut cpu, &device), vec![0.0; 2 * width]);
    }
}
