//! The layouts of packed weights: what was packed once is read by later versions of this program out of files that name
//! `pack::LAYOUT`, so their bytes may not change without it. And what is read out of such files computes the same.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use kernels::pack::{Format, LAYOUT, Packed};
use kernels::pool::Pool;
use kernels::{BlockType, Compute, ComputeError, Cpu, MatrixSource, OwnForm};

/// The version, and FNV-1a of the packed form of seeded blocks (19 rows of 512 columns) of each type. When this fails,
/// packed bytes have changed: raise `pack::LAYOUT`, then put both here.
const VERSION: u32 = 1;
const GOLDENS: [(BlockType, u64); 15] = [
    (BlockType::Q4_0, 0x3593_3CC0_2C08_A04F),
    (BlockType::Q4_1, 0xEA0E_B0F0_8BE8_27C1),
    (BlockType::Q5_0, 0x1326_6C80_AC20_F6EC),
    (BlockType::Q5_1, 0xF940_F159_46F9_ED6B),
    (BlockType::Q8_0, 0xBD07_9E8A_949B_1B03),
    (BlockType::Q2_K, 0xE130_BBAF_58FE_F605),
    (BlockType::Q3_K, 0x8C67_47EE_CD9B_EB22),
    (BlockType::Q4_K, 0x0A37_026A_E766_B003),
    (BlockType::Q5_K, 0xC007_E7B1_99EF_C696),
    (BlockType::Q6_K, 0xA758_6DB5_3C92_B3B7),
    (BlockType::IQ2_XXS, 0x4BC7_29ED_2D70_F376),
    (BlockType::IQ4_NL, 0xAFD7_20F6_1C10_6EF0),
    (BlockType::IQ4_XS, 0x1928_4DA8_EE3A_0E73),
    (BlockType::MXFP4, 0x233F_EB4F_A319_A4E1),
    (BlockType::NF4, 0x3353_B89B_6CE1_D1C6),
];
const ROWS: usize = 19;
const COLUMNS: usize = 512;

/// Bytes from a seed (Steele and others, splitmix64).
fn random_bytes(mut seed: u64, len: usize) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

fn blocks(kind: BlockType) -> Vec<u8> {
    random_bytes(u64::from(kind.gguf_id()), ROWS * kind.row_bytes(COLUMNS).unwrap())
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
}

#[test]
fn packed_bytes_change_only_with_the_version() {
    let pool = Pool::new(2);
    let found: Vec<(BlockType, u64)> = BlockType::ALL
        .into_iter()
        .filter_map(|kind| {
            let format = Format::of(kind)?;
            let packed = Packed::new(format, &blocks(kind), COLUMNS, &pool);
            let form = packed.own_form();
            assert_eq!(format.packed_bytes(ROWS, COLUMNS), Some(form.bytes().len()), "{}", kind.name());
            Some((kind, fnv(form.bytes())))
        })
        .collect();
    let table: String = found
        .iter()
        .map(|(kind, hash)| format!("    (BlockType::{}, {hash:#018X}),\n", kind.name()))
        .collect();
    assert!(
        LAYOUT == VERSION && found == GOLDENS,
        "packed bytes are others than those of layout {VERSION}: raise pack::LAYOUT, then correct this table to\n{table}"
    );
}

#[test]
fn sizes_that_no_machine_has_are_refused() {
    let format = Format::of(BlockType::Q4_K).unwrap();
    for (rows, columns) in [(usize::MAX, 256), (1, usize::MAX), (16, usize::MAX / 256 * 256), (16, 100)] {
        assert_eq!(format.packed_bytes(rows, columns), None, "{rows} × {columns}");
    }
    assert_eq!(format.packed_bytes(0, 256), Some(0));
}

fn source(kind: BlockType) -> MatrixSource {
    let bytes = blocks(kind);
    let range = 0..bytes.len();
    MatrixSource {
        storage: Arc::new(bytes),
        range,
        kind,
        rows: ROWS,
        columns: COLUMNS,
        use_for_products: true,
    }
}

/// Products of a matrix with the first rows of itself.
fn products(cpu: &mut Cpu, matrix: &kernels::cpu::CpuMatrix) -> Vec<f32> {
    let (mut x, mut out) = (cpu.activation(COLUMNS), cpu.activation(ROWS));
    cpu.embed(matrix, &[0, 5, 18], 1.0, &mut x);
    cpu.matmul(matrix, &mut x, &mut out);
    let mut values = Vec::new();
    cpu.download(&out, &mut values);
    values
}

#[test]
fn a_stored_matrix_computes_the_same() {
    let mut cpu = Cpu::new(2);
    for (kind, _) in GOLDENS {
        let fresh = cpu.matrix(source(kind)).unwrap();
        cpu.loaded();
        let form = cpu.own_form(&fresh).unwrap();
        // At another place, behind something else, as in a file.
        let mut file = vec![7u8; 4096 + form.bytes().len() + 64];
        let start = 64 + file.as_ptr().align_offset(64);
        file[start..start + form.bytes().len()].copy_from_slice(form.bytes());
        let range = start..start + form.bytes().len();
        let stored = cpu.stored_matrix(source(kind), OwnForm { storage: Arc::new(file), range }).unwrap();
        assert!(cpu.has_copied(&stored));
        let (want, found) = (products(&mut cpu, &fresh), products(&mut cpu, &stored));
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&want), "{}", kind.name());
    }
}

#[test]
fn forms_that_do_not_fit_are_refused() {
    let mut cpu = Cpu::new(1);
    let kind = BlockType::Q6_K;
    let fresh = cpu.matrix(source(kind)).unwrap();
    cpu.loaded();
    let form = cpu.own_form(&fresh).unwrap();
    let len = form.bytes().len();
    let mut file = vec![0u8; len + 4096];
    let start = file.as_ptr().align_offset(64);
    file[start..start + len].copy_from_slice(form.bytes());
    let storage: kernels::Storage = Arc::new(file);
    let mut take = |source: MatrixSource, range: std::ops::Range<usize>| {
        cpu.stored_matrix(source, OwnForm { storage: storage.clone(), range }).map(|_| ())
    };
    assert_eq!(take(source(kind), start..start + len), Ok(()));
    let wrong = |result| assert!(matches!(result, Err(ComputeError::MatrixSize { .. })), "{result:?}");
    wrong(take(source(kind), start..start + len - 64));
    wrong(take(source(kind), start + 8..start + 8 + len));
    wrong(take(source(kind), len..len + len));
    wrong(take(source(kind), usize::MAX - 63..usize::MAX));
    // Another type, and one that has no packed form.
    wrong(take(source(BlockType::Q4_K), start..start + len));
    wrong(take(source(BlockType::F16), start..start + len));
    // A table is used as it is.
    wrong(take(MatrixSource { use_for_products: false, ..source(kind) }, start..start + len));
}
