//! Encoders: errors no larger than those of llama.cpp's quantiser, and of bitsandbytes for NF4, on the same numbers, bytes of the `gguf` package where a
//! format leaves no choice (both from `tests/conformance/encode/reference.py`), and what holds for any numbers.

use kernels::encode::{EncodeError, Importance, can_encode, encode, encode_at};
use kernels::{BlockType, Level, unpack::unpack};
use proptest::prelude::*;

const ROWS: usize = 64;
const COLUMNS: usize = 1024;

fn uniforms(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 44) as f32 / 1_048_576.0
    })
}

/// As in the script.
fn data(name: &str) -> Vec<f32> {
    let mut uniforms = uniforms(1);
    let mut gauss = || uniforms.by_ref().take(12).sum::<f32>() - 6.0;
    let narrow = (0..ROWS * COLUMNS).map(|_| gauss() * 0.031_25);
    match name {
        "gauss" => narrow.collect(),
        "heavy" => narrow.map(|x| x * x.abs() * 16.0).collect(),
        other => panic!("{other}"),
    }
}

fn importance() -> Vec<f32> {
    uniforms(2).take(COLUMNS).map(|u| u * u * u * 8.0 + 0.0625).collect()
}

fn named(name: &str) -> BlockType {
    BlockType::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or_else(|| panic!("{name}"))
}

fn encoded(kind: BlockType, weights: &[f32], importance: Option<&Importance>) -> Vec<u8> {
    let mut out = vec![0xAA; kind.row_bytes(weights.len()).expect("whole blocks")];
    encode(kind, weights, importance, &mut out).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
    out
}

fn decoded(kind: BlockType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / kind.block_bytes() * kind.block_len()];
    unpack(kind, bytes, &mut out);
    out
}

/// The root of Σ w·(x − y)² over Σ w·x².
fn relative_rms(x: &[f32], y: &[f32], w: impl Fn(usize) -> f32) -> f64 {
    let (mut error, mut all) = (0.0, 0.0);
    for (index, (x, y)) in x.iter().zip(y).enumerate() {
        let w = f64::from(w(index % COLUMNS));
        error += w * f64::from(x - y).powi(2);
        all += w * f64::from(*x).powi(2);
    }
    (error / all).sqrt()
}

fn written() -> impl Iterator<Item = BlockType> {
    BlockType::ALL.into_iter().filter(|kind| can_encode(*kind))
}

#[test]
fn errors_are_no_larger_than_those_of_others() {
    let goldens = include_str!("../../../tests/conformance/encode/goldens.txt");
    let raw = importance();
    let importance = Importance::new(&raw).expect("positive numbers");
    let mut checked = 0;
    for line in goldens.lines().filter_map(|line| line.strip_prefix("error ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let (kind, x) = (named(words[0]), data(words[1]));
        let (plain, weighed): (f64, f64) = (words[2].parse().unwrap(), words[3].parse().unwrap());
        let ours = relative_rms(&x, &decoded(kind, &encoded(kind, &x, None)), |_| 1.0);
        // The goldens have six digits.
        assert!(ours <= plain + 1e-6, "{line}: {ours:.6}");
        let ours = relative_rms(&x, &decoded(kind, &encoded(kind, &x, Some(&importance))), |c| raw[c]);
        assert!(ours <= weighed + 1e-6, "{line}: weighed {ours:.6}");
        checked += 1;
    }
    assert_eq!(checked, 26);
}

#[test]
fn where_there_is_no_choice_bytes_are_those_of_the_gguf_package() {
    let goldens = include_str!("../../../tests/conformance/encode/goldens.txt");
    let mut checked = 0;
    for line in goldens.lines().filter_map(|line| line.strip_prefix("bytes ")) {
        let (name, hash) = line.split_once(' ').expect("a name and a hash");
        let bytes = encoded(named(name), &data("heavy"), None);
        let fnv = bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
        });
        assert_eq!(format!("{fnv:016x}"), hash, "{name}");
        checked += 1;
    }
    assert_eq!(checked, 3);
}

#[test]
fn every_level_gives_the_same_bytes() {
    let x = &data("heavy")[..4 * COLUMNS];
    let importance = Importance::new(&importance()).expect("positive numbers");
    for kind in written() {
        let best = encoded(kind, x, Some(&importance));
        for level in Level::available() {
            let mut out = vec![0; best.len()];
            encode_at(level, kind, x, Some(&importance), &mut out).expect("finite");
            assert!(out == best, "{} at {}", kind.name(), level.name());
        }
    }
}

#[test]
fn what_a_block_can_hold_it_holds() {
    // Numbers of steps of a power of two, both ends of the range in each group.
    let check = |kind: BlockType, low: i32, high: i32| {
        let weights: Vec<f32> = uniforms(3)
            .take(COLUMNS)
            .enumerate()
            .map(|(index, u)| match index % 16 {
                3 => low as f32,
                11 => high as f32,
                _ => (low as f32 + u * (high - low + 1) as f32).floor(),
            })
            .map(|number| number * 0.015_625)
            .collect();
        let back = decoded(kind, &encoded(kind, &weights, None));
        // Scales of scales are no powers of two: what is left is the rounding of a half.
        let range = (high - low) as f32 * 0.015_625;
        let most = if kind.block_len() == 256 { 1e-3 * range } else { 0.0 };
        for (weight, back) in weights.iter().zip(&back) {
            assert!((weight - back).abs() <= most, "{}: {weight} {back}", kind.name());
        }
    };
    for (kind, low, high) in [
        (BlockType::Q4_0, -8, 7),
        (BlockType::Q4_1, 0, 15),
        (BlockType::Q4_1, -9, 6),
        (BlockType::Q5_0, -16, 15),
        (BlockType::Q5_1, -3, 28),
        (BlockType::Q8_0, -127, 127),
        (BlockType::Q2_K, 0, 3),
        (BlockType::Q3_K, -4, 3),
        (BlockType::Q4_K, -15, 0),
        (BlockType::Q5_K, -8, 23),
        (BlockType::Q6_K, -32, 31),
    ] {
        check(kind, low, high);
    }
}

#[test]
fn decoded_blocks_encode_to_what_they_were() {
    // Scales of a whole block are found again only nearly: the error is far below a step.
    for (kind, most) in [
        (BlockType::F16, 0.0),
        (BlockType::BF16, 0.0),
        (BlockType::Q8_0, 1e-3),
        (BlockType::Q4_0, 1e-3),
        (BlockType::Q5_0, 1e-3),
        (BlockType::Q4_1, 0.02),
        (BlockType::Q5_1, 0.01),
        (BlockType::IQ4_NL, 0.02),
        (BlockType::Q3_K, 0.03),
        (BlockType::Q6_K, 0.005),
        (BlockType::Q4_K, 0.02),
        (BlockType::Q5_K, 0.01),
        (BlockType::Q2_K, 0.12),
        (BlockType::IQ4_XS, 0.02),
        (BlockType::NF4, 0.02),
    ] {
        let first = decoded(kind, &encoded(kind, &data("gauss"), None));
        let again = decoded(kind, &encoded(kind, &first, None));
        let error = relative_rms(&first, &again, |_| 1.0);
        assert!(error <= most, "{}: {error}", kind.name());
    }
}

#[test]
fn zeros_stay_zeros_and_so_do_numbers_too_small_to_tell() {
    for kind in written() {
        for value in [0.0, -0.0, f32::from_bits(1), -1e-40, 1e-30] {
            let back = decoded(kind, &encoded(kind, &[value; 512], None));
            let limit = if kind.block_len() == 1 { value.abs() * 1.01 } else { 1e-7 };
            assert!(back.iter().all(|back| back.abs() <= limit), "{} {value:e}: {:e}", kind.name(), back[0]);
        }
    }
}

#[test]
fn what_is_no_number_is_refused_with_its_place() {
    for kind in written() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut weights = vec![0.5; 512];
            weights[300] = bad;
            let mut out = vec![0; kind.row_bytes(512).unwrap()];
            let found = encode(kind, &weights, None, &mut out);
            assert!(
                matches!(found, Err(EncodeError::NotFinite { at: 300, .. })),
                "{}: {found:?}",
                kind.name()
            );
        }
        let mut weights = vec![0.5; 512];
        weights[7] = 1e6;
        let mut out = vec![0; kind.row_bytes(512).unwrap()];
        let found = encode(kind, &weights, None, &mut out);
        let wide = matches!(kind, BlockType::F32 | BlockType::BF16);
        assert_eq!(matches!(found, Err(EncodeError::TooLarge { at: 7, .. })), !wide, "{}", kind.name());
    }
    let found = encode(BlockType::IQ2_XXS, &[0.0; 256], None, &mut [0; 66]);
    assert_eq!(found, Err(EncodeError::NotWritten("IQ2_XXS")));
}

#[test]
fn importance_says_something_or_is_none() {
    for (squares, expected) in [
        (vec![0.0; 32], false),
        (vec![f32::NAN; 32], false),
        (vec![-1.0; 32], false),
        (vec![f32::INFINITY; 32], false),
        (vec![1.0; 32], true),
        ((0..32).map(|i| i as f32).collect(), true),
    ] {
        assert_eq!(Importance::new(&squares).is_some(), expected, "{squares:?}");
    }
    // Even importance changes nothing.
    let even = Importance::new(&vec![3.5; COLUMNS]).unwrap();
    let x = &data("heavy")[..2 * COLUMNS];
    for kind in written() {
        assert_eq!(encoded(kind, x, Some(&even)), encoded(kind, x, None), "{}", kind.name());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// No weight leaves its group's range by more than a step, whatever the numbers.
    #[test]
    fn any_numbers_come_back_near(
        // Spikes of 40 · 2¹⁰ are still within half precision.
        exponent in -12i32..11,
        numbers in proptest::collection::vec(-1.0f32..1.0, 512),
        spikes in proptest::collection::vec((0usize..512, -40.0f32..40.0), 0..4),
    ) {
        let mut weights: Vec<f32> = numbers.iter().map(|number| number * 2f32.powi(exponent)).collect();
        for (at, factor) in spikes {
            weights[at] *= factor;
        }
        for kind in written() {
            let back = decoded(kind, &encoded(kind, &weights, None));
            let group = kind.block_len().min(64);
            for (x, y) in weights.chunks(group).zip(back.chunks(group)) {
                let top = x.iter().fold(0.0f32, |top, x| top.max(x.abs()));
                // A K type's group may get a scale that is too coarse when another group of its block is far larger.
                let block = weights.iter().fold(0.0f32, |top, x| top.max(x.abs()));
                let most = if kind.block_len() == 256 { top.max(block / 8.0) } else { top };
                for (x, y) in x.iter().zip(y) {
                    prop_assert!(y.is_finite() && (x - y).abs() <= most * 1.01, "{} {x} {y}", kind.name());
                }
            }
        }
    }

    /// Rows are independent: many at once are the same as one by one.
    #[test]
    fn rows_are_independent(rows in 1usize..5, blocks in 1usize..4, seed in any::<u64>()) {
        for kind in written() {
            let columns = kind.block_len().max(32) * blocks;
            let weights: Vec<f32> = uniforms(seed).take(rows * columns).map(|u| u - 0.4).collect();
            let importance = Importance::new(&uniforms(seed ^ 1).take(columns).collect::<Vec<_>>());
            let all = encoded(kind, &weights, importance.as_ref());
            let single: Vec<u8> = weights
                .chunks(columns)
                .flat_map(|row| encoded(kind, row, importance.as_ref()))
                .collect();
            prop_assert!(all == single, "{}", kind.name());
        }
    }
}
