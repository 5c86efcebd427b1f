//! Any bytes as an importance matrix, and a sound one whose names, shapes and numbers are arbitrary: an error of one short line,
//! or a matrix whose every mean can be asked for, which is written and read back the same, and with which a tiny model is
//! quantised or refused.
#![no_main]

use std::sync::LazyLock;

use kernels::BlockType;
use libfuzzer_sys::fuzz_target;
use weights::Gguf;
use weights::gguf::write::Writer;
use weights::quantize::{Imatrix, Mix, Options, Quantization};

/// Two matrices of one layer, one of them of two experts.
static MODEL: LazyLock<Gguf> = LazyLock::new(|| {
    let mut writer = Writer::new();
    writer.string("general.architecture", "llama").u32("llama.block_count", 1);
    for (name, shape) in
        [("blk.0.ffn_up.weight", vec![32, 2]), ("blk.0.ffn_down_exps.weight", vec![32, 2, 2])]
    {
        let count: usize = shape.iter().product();
        let bytes = (0..count).flat_map(|i| ((i % 7) as f32 - 3.0).to_le_bytes()).collect();
        writer.tensor(name, &shape, BlockType::F32, bytes);
    }
    Gguf::from_bytes(writer.finish()).expect("a sound model")
});

/// Name, columns, matrices, numbers.
type Parts = Vec<(u8, u8, u8, Vec<u32>)>;

fuzz_target!(|data: (Vec<u8>, Parts)| {
    let (bytes, parts) = data;
    check(bytes);
    let mut writer = Writer::new();
    for (index, (name, columns, matrices, numbers)) in parts.into_iter().enumerate().take(6) {
        let name = match name % 4 {
            0 => "blk.0.ffn_up.weight".to_owned(),
            1 => "blk.0.ffn_down_exps.weight".to_owned(),
            _ => format!("other.{index}"),
        };
        let (columns, matrices) = (usize::from(columns % 40) + 1, usize::from(matrices % 3) + 1);
        let mut numbers = numbers.into_iter().cycle().map(f32::from_bits);
        let mut take = |count: usize| -> Vec<u8> {
            (0..count).flat_map(|_| numbers.next().unwrap_or(1.0).to_le_bytes()).collect()
        };
        writer.tensor(
            &format!("{name}.in_sum2"),
            &[columns, matrices],
            BlockType::F32,
            take(columns * matrices),
        );
        writer.tensor(&format!("{name}.counts"), &[1, matrices], BlockType::F32, take(matrices));
    }
    check(writer.finish());
});

fn check(bytes: Vec<u8>) {
    let short = |text: String| assert!(text.len() < 600 && !text.contains('\n'), "{text}");
    let Ok(file) = Gguf::from_bytes(bytes) else { return };
    let matrix = match Imatrix::read(&file) {
        Ok(matrix) => matrix,
        Err(error) => return short(error.to_string()),
    };
    for entry in matrix.entries.values() {
        for index in 0..entry.matrices() {
            assert_eq!(entry.mean(index).len(), entry.columns());
        }
    }
    let mut again = Vec::new();
    matrix.write(&mut again).expect("memory takes it");
    if let Ok(again) = Gguf::from_bytes(again) {
        assert_eq!(Imatrix::read(&again).expect("what we write, we read"), matrix);
    }
    let options = Options { mix: Mix::Q4_0, keep: Vec::new(), imatrix: Some(matrix), threads: 1 };
    match Quantization::new(&MODEL, options) {
        Ok(work) => {
            let report = work.write(&mut Vec::new(), &mut |_| {}).expect("the model's weights are finite");
            assert!(report.iter().all(|tensor| tensor.relative_rms.is_none_or(|error| error.is_finite())));
        }
        Err(error) => short(error.to_string()),
    }
}
