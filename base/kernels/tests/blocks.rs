//! Block formats against an independent implementation: `tests/conformance/blocks/reference.py` unpacked the same
//! blocks with the `gguf` package; its hashes and first values are the goldens here. Equal to the bit.

use kernels::{BlockType, unpack::unpack};

/// As in the script: type, and the places of its f16 scales.
const TYPES: [(BlockType, &[usize]); 17] = [
    (BlockType::F16, &[0]),
    (BlockType::BF16, &[0]),
    (BlockType::Q4_0, &[0]),
    (BlockType::Q4_1, &[0, 2]),
    (BlockType::Q5_0, &[0]),
    (BlockType::Q5_1, &[0, 2]),
    (BlockType::Q8_0, &[0]),
    (BlockType::Q2_K, &[80, 82]),
    (BlockType::Q3_K, &[108]),
    (BlockType::Q4_K, &[0, 2]),
    (BlockType::Q5_K, &[0, 2]),
    (BlockType::Q6_K, &[208]),
    (BlockType::IQ2_XXS, &[0]),
    (BlockType::IQ4_NL, &[0]),
    (BlockType::IQ4_XS, &[0]),
    (BlockType::MXFP4, &[]),
    (BlockType::NF4, &[0]),
];

fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn blocks(seed: u64, kind: BlockType, scales: &[usize]) -> Vec<u8> {
    let size = kind.block_bytes();
    let count = if size == 2 { 256 } else { 16 };
    let mut state = seed;
    let mut bytes: Vec<u8> =
        (0..(count * size).div_ceil(8)).flat_map(|_| splitmix64(&mut state).to_le_bytes()).collect();
    bytes.truncate(count * size);
    for block in 0..count {
        for place in scales {
            bytes[block * size + place + 1] &= 0xBF;
        }
    }
    bytes
}

fn fnv(values: &[f32]) -> u64 {
    let bytes = values.iter().flat_map(|value| (value + 0.0).to_le_bytes());
    bytes.fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

#[test]
fn every_block_type_unpacks_as_the_gguf_package_does() {
    let goldens = include_str!("../../../tests/conformance/blocks/goldens.txt");
    let mut checked = 0;
    for (seed, ((kind, scales), golden)) in TYPES.into_iter().zip(goldens.lines()).enumerate() {
        let mut words = golden.split(' ');
        assert_eq!(words.next(), Some(kind.name()));
        let hash = u64::from_str_radix(words.next().unwrap(), 16).unwrap();
        let bytes = blocks(seed as u64, kind, scales);
        let mut values = vec![0.0; bytes.len() / kind.block_bytes() * kind.block_len()];
        unpack(kind, &bytes, &mut values);
        for (i, word) in words.enumerate() {
            let want: f32 = word.parse().unwrap();
            assert!(
                (values[i] - want).abs() <= 1e-6 * want.abs(),
                "{} {i}: {} {want}",
                kind.name(),
                values[i]
            );
        }
        assert_eq!(fnv(&values), hash, "{}", kind.name());
        checked += 1;
    }
    assert_eq!(checked, TYPES.len());
}
