//! Folders of safetensors as models: the same whichever files they lie in, known again by their stamps, and the same once
//! more as the GGUF file that they are converted to.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kernels::BlockType;
use kernels::unpack::unpack;
use seeded::checkpoint::write_tiny;
use weights::convert::{self, Precision};
use weights::packed::SourceVersion;
use weights::quantize::{Mix, Options, Quantization};
use weights::{Array, FileStamp, Gguf, Quant, Value, checkpoint};

fn folder(number_type: &str, files: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_tiny(folder.path(), number_type, 64, files).unwrap();
    folder
}

/// Written and read again; what is told of the way is checked besides.
fn converted(source: &Gguf, precision: Precision, threads: usize) -> Gguf {
    let recast = convert::to_gguf(source, precision, threads);
    let (mut bytes, mut told) = (Vec::new(), Vec::new());
    recast.write(&mut bytes, &mut |written| told.push((written.bytes, written.tensor.is_some()))).unwrap();
    assert_eq!(bytes.len() as u64, recast.size_bytes());
    assert_eq!(told.last(), Some(&(recast.size_bytes(), false)));
    assert!(told.is_sorted() || told.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{told:?}");
    assert_eq!(told.len(), source.tensors().len() + 1);
    Gguf::from_bytes(bytes).unwrap()
}

/// Whether two values are equal; arrays of text are of the file in which they lie.
fn is_same(one: &Value<'_>, other: &Value<'_>) -> bool {
    match (one, other) {
        (Value::Array(Array::Strings(one)), Value::Array(Array::Strings(other))) => {
            one.iter_bytes().eq(other.iter_bytes())
        }
        (Value::Array(Array::Numbers(one)), Value::Array(Array::Numbers(other))) => {
            one.element() == other.element() && one.iter().eq(other.iter())
        }
        _ => one == other,
    }
}

fn f32s(file: &Gguf, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name).unwrap();
    let mut values = vec![0.0; tensor.elements()];
    unpack(tensor.block_type, &file.view(tensor), &mut values);
    values
}

#[test]
fn one_file_or_several_are_one_model() {
    let (one, three) = (folder("F32", 1), folder("F32", 3));
    let (one, three) = (checkpoint::open(one.path()).unwrap(), weights::open(three.path()).unwrap());
    assert_eq!((one.stamps().len(), three.stamps().len()), (1, 3));
    assert_eq!(one.tensors().len(), 21);
    for tensor in one.tensors() {
        let same = three.tensor(&tensor.name).unwrap();
        assert_eq!((&same.shape, same.block_type), (&tensor.shape, tensor.block_type));
        assert_eq!(*three.view(same), *one.view(tensor), "{}", tensor.name);
    }
}

#[test]
fn what_a_folder_says_of_its_model() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("Tiny-Llama_x");
    fs::create_dir(&folder).unwrap();
    write_tiny(&folder, "BF16", 64, 1).unwrap();
    let file = checkpoint::open(&folder).unwrap();
    let text = |key: &str| file.metadata().string(key).unwrap().unwrap().to_owned();
    assert_eq!(text("general.type"), "model");
    assert_eq!(text("general.name"), "Tiny Llama x");
    assert_eq!(text("general.license"), "apache-2.0");
    assert_eq!(text("general.size_label"), "111K");
    assert!(text("tokenizer.chat_template").starts_with("{% for m"));
    assert_eq!(file.metadata().get("general.sampling.top_k"), Some(Value::I32(20)));
    assert_eq!(file.metadata().get("general.sampling.temp"), Some(Value::F32(0.5)));
    assert_eq!(
        checkpoint::model_files(&folder).unwrap(),
        [
            "README.md",
            "chat_template.jinja",
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json"
        ]
    );
}

#[test]
fn other_forms_of_the_weights_are_no_part_of_the_model() {
    let folder = folder("F32", 2);
    let before = checkpoint::model_files(folder.path()).unwrap();
    for name in [
        "pytorch_model.bin",
        "consolidated.safetensors",
        "model.onnx",
        "x.png",
        ".hidden.json",
        "pytorch_model.bin.index.json",
        "old.gguf",
    ] {
        fs::write(folder.path().join(name), "{}").unwrap();
    }
    fs::create_dir(folder.path().join("onnx")).unwrap();
    fs::write(folder.path().join("onnx/config.json"), "{}").unwrap();
    assert_eq!(checkpoint::model_files(folder.path()).unwrap(), before);
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    fs::write(folder.path().join("1_Pooling/config.json"), "{}").unwrap();
    assert!(checkpoint::model_files(folder.path()).unwrap().contains(&"1_Pooling/config.json".to_owned()));
}

#[test]
fn as_they_are_nothing_is_lost() {
    for (number_type, file_type) in [("F32", 0), ("F16", 1), ("BF16", 32)] {
        let folder = folder(number_type, 2);
        let source = checkpoint::open(folder.path()).unwrap();
        let file = converted(&source, Precision::Stored, 3);
        for (tensor, theirs) in file.tensors().iter().zip(source.tensors()) {
            assert_eq!((&tensor.name, tensor.block_type), (&theirs.name, theirs.block_type));
            assert_eq!(*file.view(tensor), *source.view(theirs), "{}", tensor.name);
        }
        // Everything it said, and what files say besides.
        for (key, value) in source.metadata().iter() {
            assert!(is_same(&file.metadata().get(key).unwrap(), &value), "{key}");
        }
        assert_eq!(file.metadata().u32("general.file_type").unwrap(), Some(file_type));
        assert_eq!(file.metadata().u32("general.quantization_version").unwrap(), Some(2));
        assert_eq!(file.metadata().len(), source.metadata().len() + 2);
        // Once more, from the file.
        let again = converted(&file, Precision::Stored, 1);
        assert_eq!(again.header(), file.header());
    }
}

#[test]
fn types_are_as_asked_and_vectors_stay() {
    let folder = folder("BF16", 1);
    let source = checkpoint::open(folder.path()).unwrap();
    for (name, kind, most) in [
        ("f32", BlockType::F32, 0.0),
        ("F16", BlockType::F16, 1e-3),
        ("bf16", BlockType::BF16, 0.0),
        ("q8_0", BlockType::Q8_0, 5e-3),
    ] {
        let precision = Precision::parse(name).unwrap();
        let file = converted(&source, precision, 2);
        for tensor in file.tensors() {
            let wanted = if tensor.shape.len() == 1 { BlockType::F32 } else { kind };
            assert_eq!(tensor.block_type, wanted, "{}", tensor.name);
            let pairs = f32s(&source, &tensor.name).into_iter().zip(f32s(&file, &tensor.name));
            let apart = pairs.map(|(wanted, found)| (wanted - found).abs()).fold(0.0, f32::max);
            assert!(apart <= most, "{name} {}: {apart}", tensor.name);
        }
    }
    assert_eq!(Precision::parse("q4_k_m"), None);
    assert!(Precision::NAMES.iter().all(|name| Precision::parse(name).is_some()));
}

#[test]
fn which_tensors_are_f32_in_every_file() {
    let mut writer = weights::gguf::write::Writer::new();
    for (name, shape, _) in ROWS {
        writer.tensor(name, shape, BlockType::F16, vec![0; 2 * shape.iter().product::<usize>()]);
    }
    let source = Gguf::from_bytes(writer.finish()).unwrap();
    let file = converted(&source, Precision::Type(BlockType::Q8_0), 1);
    for (name, _, kind) in ROWS {
        assert_eq!(file.tensor(name).unwrap().block_type, *kind, "{name}");
    }
}

/// Name, shape, and what becomes of it as Q8_0: what llama.cpp's converter makes of such tensors.
const ROWS: &[(&str, &[usize], BlockType)] = &[
    ("token_embd.weight", &[32, 4], BlockType::Q8_0),
    ("token_types.weight", &[32, 2], BlockType::F32),
    ("position_embd.weight", &[32, 4], BlockType::F32),
    ("blk.0.attn_q.weight", &[32, 4], BlockType::Q8_0),
    ("blk.0.attn_q.bias", &[32], BlockType::F32),
    ("blk.0.attn_q_norm.weight", &[32, 2], BlockType::F32),
    ("blk.0.ffn_gate_inp.weight", &[32, 4], BlockType::F32),
    ("blk.0.ffn_gate_exps.weight", &[32, 4, 3], BlockType::Q8_0),
    ("blk.0.attn_k_b.weight", &[12, 4], BlockType::F16),
    ("rope_freqs.weight", &[16], BlockType::F32),
];

#[test]
fn what_a_type_cannot_hold_is_said() {
    let mut writer = weights::gguf::write::Writer::new();
    let bytes: Vec<u8> = [1.0f32, 70_000.0, 1.0, 1.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    writer.tensor("blk.0.attn_q.weight", &[4, 1], BlockType::F32, bytes);
    let source = Gguf::from_bytes(writer.finish()).unwrap();
    let recast = convert::to_gguf(&source, Precision::Type(BlockType::F16), 2);
    let error = recast.write(&mut Vec::new(), &mut |_| ()).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(
        text.contains("blk.0.attn_q.weight") && text.contains("70000") && text.contains("BF16"),
        "{text}"
    );
}

#[test]
fn a_failing_disk_ends_it() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = folder("F32", 1);
    let source = checkpoint::open(folder.path()).unwrap();
    let recast = convert::to_gguf(&source, Precision::Stored, 1);
    let size = recast.size_bytes() as usize;
    for room in [0, 10_000, 50_000, size - 1] {
        let error = recast.write(&mut Full(room), &mut |_| ()).unwrap_err();
        assert!(
            matches!(&error, weights::recast::RecastError::Write(io)
            if io.kind() == std::io::ErrorKind::StorageFull),
            "{room}: {error}"
        );
    }
    recast.write(&mut Full(size), &mut |_| ()).unwrap();
}

/// Sets a file's times back to what they were: all that anybody but the system can do.
fn rewrite(path: &Path, bytes: &[u8]) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    // Another moment, by the clock of the file system.
    std::thread::sleep(Duration::from_millis(20));
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_folder_is_another_version_when_anything_of_it_is() {
    let folder = folder("F32", 3);
    let version = || SourceVersion::of(&checkpoint::open(folder.path()).unwrap()).unwrap();
    let mut seen = vec![version()];
    assert_eq!(version(), seen[0]);
    assert_eq!(FileStamp::of(folder.path()).unwrap(), seen[0].stamp);
    let mut is_new = |what: &str| {
        let now = version();
        assert!(!seen.contains(&now), "{what}");
        seen.push(now);
    };
    let shard = folder.path().join("model-00002-of-00003.safetensors");
    // One bit of one weight, the same size; and the same time where only the system can tell.
    let mut bytes = fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    if cfg!(unix) {
        rewrite(&shard, &bytes);
    } else {
        fs::write(&shard, &bytes).unwrap();
    }
    is_new("a weight");
    // Older than the newest of the others.
    let old = SystemTime::now() - Duration::from_secs(1000);
    fs::File::options().write(true).open(&shard).unwrap().set_modified(old).unwrap();
    is_new("the time of one file");
    let config = folder.path().join("config.json");
    let text = fs::read_to_string(&config).unwrap().replace("10000.0", "20000.0");
    rewrite(&config, text.as_bytes());
    is_new("a setting");
    rewrite(&folder.path().join("chat_template.jinja"), b"{{ messages[0].content }}");
    is_new("the template");
    fs::remove_file(&shard).unwrap();
    assert!(FileStamp::of(folder.path()).is_err());
}

#[test]
fn quantised_while_loading_is_quantised_first() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny(folder.path(), "BF16", 256, 2).unwrap();
    for mix in Mix::all() {
        let quant = Quant { mix, required: true };
        let at_once = weights::open_as(folder.path(), Some(quant), 2).unwrap();
        // Converted, written, opened, quantised, written, opened.
        let file = converted(&checkpoint::open(folder.path()).unwrap(), Precision::Stored, 1);
        let options = Options { mix, keep: Vec::new(), imatrix: None, threads: 3 };
        let mut bytes = Vec::new();
        Quantization::new(&file, options).unwrap().write(&mut bytes, &mut |_| ()).unwrap();
        let written = Gguf::from_bytes(bytes).unwrap();
        assert_eq!(at_once.metadata().get("general.file_type"), written.metadata().get("general.file_type"));
        for (one, other) in at_once.tensors().iter().zip(written.tensors()) {
            assert_eq!((&one.name, one.block_type), (&other.name, other.block_type), "{}", mix.name());
            assert!(*at_once.view(one) == *written.view(other), "{} {}", mix.name(), one.name);
        }
        assert_eq!(at_once.failure(), None);
        // Known again, and not taken for the folder as it is.
        let version = SourceVersion::of(&at_once).unwrap();
        assert_ne!(Some(version), SourceVersion::of(&checkpoint::open(folder.path()).unwrap()));
        assert_eq!(version.stamp, FileStamp::of(folder.path()).unwrap());
    }
}

#[test]
fn what_is_quantised_is_not_quantised_again() {
    let folder = tempfile::tempdir().unwrap();
    write_tiny(folder.path(), "F32", 256, 1).unwrap();
    let path = folder.path().join("small.gguf");
    let quant = |required| Some(Quant { mix: Mix::parse("q4_0").unwrap(), required });
    let small = weights::open_as(folder.path(), quant(true), 1).unwrap();
    let recast = convert::to_gguf(&small, Precision::Stored, 1);
    recast.write(&mut fs::File::create(&path).unwrap(), &mut |_| ()).unwrap();
    let error = weights::open_as(&path, quant(true), 1).unwrap_err().to_string();
    assert!(error.contains("quantised already") && error.contains("Q4_0"), "{error}");
    let same = weights::open_as(&path, quant(false), 1).unwrap();
    assert_eq!(same.header(), Gguf::open(&path).unwrap().header());
}

#[test]
fn what_cannot_be_quantised_is_told_to_whoever_looked() {
    let mut writer = weights::gguf::write::Writer::new();
    let mut numbers = vec![1.0f32; 64];
    numbers[40] = f32::NAN;
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    writer.tensor("blk.0.attn_q.weight", &[32, 2], BlockType::F32, bytes);
    let source = Gguf::from_bytes(writer.finish()).unwrap();
    let view = convert::to_gguf(&source, Precision::Type(BlockType::Q8_0), 1).view().unwrap();
    let tensor = view.tensor("blk.0.attn_q.weight").unwrap();
    let bytes = view.view(tensor);
    assert_eq!(view.failure(), None, "nobody looked yet");
    assert_eq!(bytes.len(), tensor.size_bytes());
    let failure = view.failure().unwrap();
    assert!(failure.contains("blk.0.attn_q.weight") && failure.contains("NaN"), "{failure}");
}
