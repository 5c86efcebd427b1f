//! Quantising: which tensor gets which type, as llama.cpp's tool chose of models of the same names and metadata
//! (`tests/conformance/mixes/reference.py`); what is written reads back; what does not fit is said by name.

use kernels::encode::{Importance, encode};
use kernels::{BlockType, unpack::unpack};
use weights::gguf::write::Writer;
use weights::quantize::{
    Entry, Imatrix, ImatrixError, Keep, Mix, Options, Quantization, QuantizeError, TensorReport,
};
use weights::recast::RecastError;
use weights::{Gguf, Value};

/// A model of real names, as in the script: only names, row lengths and metadata matter.
struct Shape {
    name: &'static str,
    layers: usize,
    heads: u32,
    keys: u32,
    width: usize,
    down: usize,
    experts: usize,
    has_head: bool,
}

const fn shape(
    name: &'static str,
    [layers, heads, keys, width, down, experts]: [usize; 6],
    has_head: bool,
) -> Shape {
    Shape { name, layers, heads: heads as u32, keys: keys as u32, width, down, experts, has_head }
}

const SHAPES: [Shape; 7] = [
    shape("grouped", [24, 8, 2, 256, 512, 0], true),
    shape("plain", [16, 4, 4, 256, 256, 0], false),
    shape("narrow", [10, 9, 3, 96, 160, 0], false),
    shape("odd", [9, 2, 2, 100, 256, 0], true),
    shape("experts", [17, 8, 2, 256, 256, 8], true),
    shape("two", [8, 8, 2, 256, 256, 2], true),
    shape("large", [80, 64, 8, 256, 256, 0], true),
];

/// Name and extents, row length first.
fn tensors(shape: &Shape) -> Vec<(String, Vec<usize>)> {
    let Shape { layers, width, down, experts, has_head, .. } = *shape;
    let mut all = vec![
        ("token_embd.weight".to_owned(), vec![width, 4]),
        ("output_norm.weight".to_owned(), vec![width]),
    ];
    if has_head {
        all.push(("output.weight".to_owned(), vec![width, 4]));
    }
    for layer in 0..layers {
        let mut add =
            |part: &str, extents: Vec<usize>| all.push((format!("blk.{layer}.{part}.weight"), extents));
        for part in ["attn_norm", "ffn_norm"] {
            add(part, vec![width]);
        }
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            add(part, vec![width, 2]);
        }
        let rows = |columns| if experts > 0 { vec![columns, 2, experts] } else { vec![columns, 2] };
        let end = if experts > 0 { "_exps" } else { "" };
        if experts > 0 {
            add("ffn_gate_inp", vec![width, experts]);
        }
        for (part, columns) in [("ffn_gate", width), ("ffn_up", width), ("ffn_down", down)] {
            add(&format!("{part}{end}"), rows(columns));
        }
    }
    all
}

/// Weights that differ: waves of a few frequencies.
fn wave(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * (seed + 3)) as f32 * 0.37).sin() * ((i % 61) as f32 / 61.0 + 0.1)).collect()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn model(shape: &Shape) -> Gguf {
    let mut writer = Writer::new();
    writer.string("general.architecture", "llama").u32("general.file_type", 1);
    writer.u32("llama.block_count", shape.layers as u32).u32("llama.attention.head_count", shape.heads);
    writer.u32("llama.attention.head_count_kv", shape.keys);
    if shape.experts > 0 {
        writer.u32("llama.expert_count", shape.experts as u32);
    }
    writer.strings("tokenizer.ggml.tokens", &["a", "b"]).u32("general.quantization_version", 1);
    for (index, (name, extents)) in tensors(shape).into_iter().enumerate() {
        let values = wave(extents.iter().product(), index);
        let half = extents.len() > 1 && !name.contains("gate_inp");
        let kind = if half { BlockType::F16 } else { BlockType::F32 };
        let mut out = vec![0; values.len() * kind.block_bytes()];
        encode(kind, &values, None, &mut out).expect("finite");
        writer.tensor(&name, &extents, kind, out);
    }
    Gguf::from_bytes(writer.finish()).expect("a sound model")
}

fn options(mix: Mix) -> Options {
    Options { mix, keep: Vec::new(), imatrix: None, threads: 2 }
}

fn quantised(source: &Gguf, options: Options) -> (Gguf, Vec<TensorReport>) {
    let work = Quantization::new(source, options).expect("options that fit");
    let (mut file, mut last) = (Vec::new(), 0);
    let report = work.write(&mut file, &mut |written| {
        assert!(written.bytes >= last && written.bytes <= written.total_bytes);
        last = written.bytes;
    });
    assert_eq!((file.len() as u64, last), (work.size_bytes(), work.size_bytes()));
    (Gguf::from_bytes(file).expect("what we write, we read"), report.expect("written"))
}

#[test]
fn types_are_those_that_llama_cpp_chooses() {
    let mut checked = 0;
    for shape in &SHAPES {
        let source = model(shape);
        let goldens = include_str!("../../../tests/conformance/mixes/goldens.txt");
        let of_this = format!("{} ", shape.name);
        for line in goldens.lines().filter(|line| line.starts_with(&of_this)) {
            let words: Vec<&str> = line.split(' ').collect();
            let mix = Mix::parse(words[1]).unwrap_or_else(|| panic!("{line}"));
            let kinds = mix.kinds(&source, words[2] == "weighed").expect("sound metadata");
            let mut chosen: Vec<(&str, &str)> =
                source.tensors().iter().zip(&kinds).map(|(t, kind)| (t.name.as_str(), kind.name())).collect();
            chosen.sort_unstable();
            let mut counts = std::collections::BTreeMap::new();
            chosen.iter().for_each(|(_, kind)| *counts.entry(*kind).or_insert(0) += 1);
            let counts: Vec<String> = counts.iter().map(|(kind, count)| format!("{kind}:{count}")).collect();
            assert_eq!(counts.join(","), words[3], "{line}");
            let text: String = chosen.iter().map(|(name, kind)| format!("{name}={kind}\n")).collect();
            let hash = text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
            });
            assert_eq!(format!("{hash:016x}"), words[4], "{line}\n{text}");
            checked += 1;
        }
    }
    assert_eq!(checked, 260);
}

#[test]
fn every_mix_is_written_and_read_back() {
    let source = model(&SHAPES[0]);
    for mix in Mix::all() {
        let (made, report) = quantised(&source, options(mix));
        let number = |key| made.metadata().u32(key).expect("a number");
        assert_eq!(number("general.file_type"), Some(mix.file_type()), "{}", mix.name());
        assert_eq!(number("general.quantization_version"), Some(2));
        assert_eq!(made.metadata().get("llama.block_count"), source.metadata().get("llama.block_count"));
        assert_eq!(made.metadata().iter().count(), source.metadata().iter().count());
        for ((tensor, old), report) in made.tensors().iter().zip(source.tensors()).zip(&report) {
            assert_eq!((&tensor.name, &tensor.shape), (&old.name, &old.shape));
            assert_eq!((report.to, report.from), (tensor.block_type, old.block_type));
            assert_eq!(report.bytes_after, tensor.size_bytes() as u64);
            let (mut was, mut is) = (vec![0.0; old.elements()], vec![0.0; old.elements()]);
            unpack(old.block_type, &source.view(old), &mut was);
            unpack(tensor.block_type, &made.view(tensor), &mut is);
            if old.block_type == tensor.block_type {
                assert_eq!((was, report.relative_rms), (is, None), "{}", tensor.name);
                continue;
            }
            let mut expected = vec![0; tensor.size_bytes()];
            encode(tensor.block_type, &was, None, &mut expected).expect("finite");
            assert!(*made.view(tensor) == *expected, "{} {}", mix.name(), tensor.name);
            let sum = |of: &dyn Fn(f32, f32) -> f32| -> f64 {
                was.iter().zip(&is).map(|(was, is)| f64::from(of(*was, *is))).sum()
            };
            let error = (sum(&|was, is| (was - is).powi(2)) / sum(&|was, _| was * was)).sqrt();
            let told = report.relative_rms.expect("an error");
            assert!((told - error).abs() <= 1e-4 * error + 1e-9, "{}: {told} {error}", tensor.name);
        }
    }
}

#[test]
fn threads_do_not_change_a_byte() {
    let source = model(&SHAPES[4]);
    let file = |threads| {
        let mut out = Vec::new();
        let work = Quantization::new(&source, Options { threads, ..options(Mix::Q4_K_M) }).expect("fits");
        work.write(&mut out, &mut |_| {}).expect("written");
        out
    };
    let one = file(1);
    assert!([2, 3, 7].into_iter().all(|threads| file(threads) == one));
}

/// Importance of the first tensor's kind, by a rule.
fn imatrix(source: &Gguf, importance: impl Fn(usize, usize) -> f32) -> Imatrix {
    let mut out =
        Imatrix { datasets: vec!["text.txt".into()], chunks: 3, chunk_tokens: 512, ..Imatrix::default() };
    for tensor in
        source.tensors().iter().filter(|tensor| tensor.name.starts_with("blk.") && tensor.shape.len() > 1)
    {
        let matrices = tensor.shape.get(2).copied().unwrap_or(1);
        let sums = (0..matrices).flat_map(|matrix| (0..tensor.row_len()).map(move |column| (matrix, column)));
        let entry = Entry {
            sums: sums.map(|(matrix, column)| importance(matrix, column) * 8.0).collect(),
            counts: vec![8.0; matrices],
        };
        out.entries.insert(tensor.name.clone(), entry);
    }
    out
}

#[test]
fn each_expert_has_its_own_importance() {
    let source = model(&SHAPES[4]);
    let rule = |matrix: usize, column: usize| ((column + 37 * matrix) % 19 + 1) as f32;
    let with = Options { imatrix: Some(imatrix(&source, rule)), ..options(Mix::Q4_K_S) };
    let (made, report) = quantised(&source, with);
    assert_eq!(made.metadata().u32("quantize.imatrix.chunks_count"), Ok(Some(3)));
    let tensor = made.tensor("blk.3.ffn_up_exps.weight").expect("an expert tensor");
    let old = source.tensor(&tensor.name).expect("the same");
    let mut weights = vec![0.0; old.elements()];
    unpack(old.block_type, &source.view(old), &mut weights);
    let view = made.view(tensor);
    let each = weights.len() / 8;
    for matrix in 0..8 {
        let squares: Vec<f32> = (0..tensor.row_len()).map(|column| rule(matrix, column)).collect();
        let mut expected = vec![0; view.len() / 8];
        let weights = &weights[matrix * each..][..each];
        encode(tensor.block_type, weights, Importance::new(&squares).as_ref(), &mut expected)
            .expect("finite");
        assert!(view[matrix * expected.len()..][..expected.len()] == expected, "expert {matrix}");
    }
    let weighed = report.iter().filter(|tensor| tensor.has_importance).count();
    assert_eq!(weighed, 17 * 8, "all matrices of layers");
}

#[test]
fn importance_matrices_are_written_and_read_back() {
    let source = model(&SHAPES[5]);
    let before = imatrix(&source, |matrix, column| (matrix * 1000 + column) as f32);
    let mut file = Vec::new();
    before.write(&mut file).expect("written");
    let file = Gguf::from_bytes(file).expect("a GGUF file");
    assert_eq!(file.metadata().get("general.type"), Some(Value::String("imatrix")));
    assert_eq!(Imatrix::read(&file).expect("read"), before);
}

#[test]
fn damaged_importance_matrices_are_refused() {
    let check = |tensors: &[(&str, &[usize], &[f32])], expected: &str| {
        let mut writer = Writer::new();
        for (name, extents, values) in tensors {
            writer.tensor(name, extents, BlockType::F32, bytes(values));
        }
        let file = Gguf::from_bytes(writer.finish()).expect("a GGUF file");
        let error = Imatrix::read(&file).expect_err("damaged");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(&[], "no tensor that ends in .in_sum2");
    check(&[("x.weight", &[2], &[1.0, 2.0])], "no tensor that ends in .in_sum2");
    check(&[("a.in_sum2", &[2], &[1.0, 2.0])], "a has sums and no counts");
    check(&[("a.in_sum2", &[3], &[1.0, 2.0, 3.0]), ("a.counts", &[2], &[1.0, 1.0])], "do not divide");
    check(&[("a.in_sum2", &[1], &[f32::NAN]), ("a.counts", &[1], &[1.0])], "no sum of squares");
    check(&[("a.in_sum2", &[1], &[-1.0]), ("a.counts", &[1], &[1.0])], "no sum of squares");
    assert!(matches!(Imatrix::open(std::path::Path::new("/nowhere/at/all")), Err(ImatrixError::File(_))));
}

#[test]
fn tensors_can_be_kept() {
    let source = model(&SHAPES[0]);
    let keep = |texts: &[&str]| -> Vec<Keep> {
        texts.iter().map(|text| Keep::parse(text).expect("a type")).collect()
    };
    let with = |texts: &[&str]| Options { keep: keep(texts), ..options(Mix::Q4_0) };
    let (made, _) =
        quantised(&source, with(&["output.weight", "blk.*.attn_v.weight=q8_0", "blk.1.attn_v.weight=F32"]));
    for (name, kind) in [
        ("output.weight", BlockType::F16),
        ("blk.0.attn_v.weight", BlockType::Q8_0),
        ("blk.1.attn_v.weight", BlockType::F32),
        ("blk.1.attn_k.weight", BlockType::Q4_0),
    ] {
        assert_eq!(made.tensor(name).expect("there").block_type, kind, "{name}");
    }
    let refused = |texts: &[&str]| Quantization::new(&source, with(texts)).expect_err("refused").to_string();
    assert!(refused(&["blk.99.attn_v.weight=Q8_0"]).contains("blk.99.attn_v.weight"));
    let odd = model(&SHAPES[3]);
    let error = Quantization::new(&odd, with(&["blk.0.attn_q.weight=Q4_K"])).expect_err("rows of 100");
    assert!(matches!(&error, QuantizeError::KeptShape { columns: 100, .. }), "{error}");
    for text in ["a=Q9_9", "a=IQ2_XXS", "a="] {
        assert!(Keep::parse(text).is_err(), "{text}");
    }
}

#[test]
fn what_belongs_to_another_model_is_refused_by_name() {
    let (source, other) = (model(&SHAPES[0]), model(&SHAPES[2]));
    let with = |imatrix| Options { imatrix: Some(imatrix), ..options(Mix::Q4_0) };
    let error = Quantization::new(&source, with(imatrix(&other, |_, _| 1.0))).expect_err("other columns");
    assert!(matches!(&error, QuantizeError::OtherModel { found: 96, wanted: 256, .. }), "{error}");
    let mut none = imatrix(&source, |_, _| 1.0);
    none.entries = none.entries.into_iter().map(|(name, entry)| (format!("x{name}"), entry)).collect();
    let error = Quantization::new(&source, with(none)).expect_err("other names");
    assert!(matches!(error, QuantizeError::NothingInCommon), "{error}");
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    for (value, expected) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (1e9, "1000000000")] {
        let mut writer = Writer::new();
        writer.string("general.architecture", "llama");
        let mut values = wave(512, 1);
        values[300] = value;
        writer.tensor("blk.0.ffn_up.weight", &[256, 2], BlockType::F32, bytes(&values));
        let source = Gguf::from_bytes(writer.finish()).expect("sound");
        let work = Quantization::new(&source, options(Mix::Q4_K_M)).expect("fits");
        let error = work.write(&mut Vec::new(), &mut |_| {}).expect_err("refused");
        let text = error.to_string();
        assert!(matches!(error, RecastError::Encode { .. }), "{text}");
        assert!(
            text.contains("blk.0.ffn_up.weight") && text.contains("300") && text.contains(expected),
            "{text}"
        );
    }
}

#[test]
fn its_place_is_that_in_the_tensor_and_not_in_a_piece() {
    let mut writer = Writer::new();
    writer.string("general.architecture", "llama");
    let mut values = vec![0.5; 1536 * 1024];
    values[1_500_000] = f32::NAN;
    writer.tensor("blk.0.ffn_up.weight", &[1024, 1536], BlockType::F32, bytes(&values));
    let source = Gguf::from_bytes(writer.finish()).expect("sound");
    let work = Quantization::new(&source, options(Mix::Q8_0)).expect("fits");
    let text = work.write(&mut Vec::new(), &mut |_| {}).expect_err("refused").to_string();
    assert!(text.contains("weight number 1500000"), "{text}");
}
