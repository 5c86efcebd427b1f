//! Every known-bad container gives the typed error that belongs to it, without a panic and without memory for its
//! claims; files whose contents are wrong for a later layer open. Prints the outcome table (`--nocapture`).
//!
//! The files are built in `seeded::bad`. One test, because memory is counted for the whole process.

use std::{
    fs::File,
    io::Write,
    panic::catch_unwind,
    time::{Duration, Instant},
};

use seeded::{
    bad::{self, Case, Layer},
    memory::Counting,
};
use weights::{FileKind, Gguf, GgufError};

#[global_allocator]
static MEMORY: Counting = Counting::new();

/// What a refusal may take. The promise is in time too; time is printed, not asserted.
const MEMORY_BYTES_MAX: usize = 16 << 20;

struct Outcome {
    result: Result<Gguf, GgufError>,
    peak_bytes: usize,
    elapsed: Duration,
}

fn observed(name: &str, open: impl FnOnce() -> Result<Gguf, GgufError> + std::panic::UnwindSafe) -> Outcome {
    let start = Instant::now();
    let (result, peak_bytes) = MEMORY.peak_of(|| catch_unwind(open));
    let elapsed = start.elapsed();
    let result = result.unwrap_or_else(|_| panic!("{name}: the reader panicked"));
    Outcome { result, peak_bytes, elapsed }
}

#[test]
fn known_bad_files_are_refused_for_the_right_reason() {
    let mut slowest = Duration::ZERO;
    for Case { name, bytes, layer, .. } in bad::cases() {
        let outcome = observed(name, || Gguf::from_bytes(bytes));
        slowest = slowest.max(outcome.elapsed);
        print_row(name, layer, &outcome);
        assert!(outcome.peak_bytes <= MEMORY_BYTES_MAX, "{name}: {} bytes", outcome.peak_bytes);
        match (layer, outcome.result) {
            (Layer::Container, Err(error)) => {
                assert!(is_expected(name, &error), "{name}: {error:?}");
                assert!(error.to_string().len() < 400, "{name}: message too long");
            }
            (Layer::Container, Ok(_)) => panic!("{name}: accepted"),
            (_, Ok(_)) => {}
            (_, Err(error)) => panic!("{name}: is a sound container, refused with: {error}"),
        }
    }
    println!("slowest {slowest:?}");
    sparse_files();
}

/// A terabyte that takes no room on the disk: work and memory must follow what is allowed, not the size.
fn sparse_files() {
    let dir = tempfile::tempdir().expect("a folder for temporary files");
    for (name, header) in [
        ("sparse 1 TB of zeros", Vec::new()),
        ("sparse 1 TB, pairs in zeros", [&b"GGUF\x03\0\0\0"[..], &[0; 8], &65_536u64.to_le_bytes()].concat()),
        ("sparse 1 TB, 2^36 empty strings", bad::sparse_header(1 << 36)),
        ("sparse 1 TB, as many strings as allowed", bad::sparse_header(1 << 22)),
    ] {
        let path = dir.path().join("sparse.gguf");
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&header)?;
            file.set_len(1 << 40)
        });
        if let Err(error) = written {
            println!("not run: {name} (the file system has no sparse files of this size: {error})");
            continue;
        }
        let outcome = observed(name, || Gguf::open(&path));
        print_row(name, Layer::Container, &outcome);
        assert!(outcome.peak_bytes <= MEMORY_BYTES_MAX, "{name}: {} bytes", outcome.peak_bytes);
        match name {
            // Nothing in it is wrong: 2^22 strings are what the limit allows.
            "sparse 1 TB, as many strings as allowed" => assert!(outcome.result.is_ok(), "{name}"),
            _ => assert!(outcome.result.is_err_and(|error| is_expected(name, &error)), "{name}"),
        }
    }
}

fn print_row(name: &str, layer: Layer, outcome: &Outcome) {
    let said = match &outcome.result {
        Ok(_) if layer == Layer::Container => "opens, as it may".to_owned(),
        Ok(_) => format!("opens; {layer:?} must refuse it"),
        Err(error) => error.to_string(),
    };
    println!("{name:42} {:>7} kB {:>7} µs  {said}", outcome.peak_bytes / 1024, outcome.elapsed.as_micros());
}

/// Whether `error` is the one that belongs to case `name`; a case without an entry is a mistake in this table.
fn is_expected(name: &str, error: &GgufError) -> bool {
    use GgufError as E;
    match name {
        "empty file" => matches!(error, E::Empty),
        "big-endian file" | "big-endian magic" => matches!(error, E::BigEndian),
        "GGUF inside a zip" => matches!(error, E::NotGguf(FileKind::Zip)),
        "safetensors named .gguf" => matches!(error, E::NotGguf(FileKind::Safetensors)),
        "gzip" => matches!(error, E::NotGguf(FileKind::Gzip)),
        "GGML of 2023" => matches!(error, E::NotGguf(FileKind::OldGgml)),
        "pickle" => matches!(error, E::NotGguf(FileKind::Pickle)),
        "Git LFS pointer" => matches!(error, E::NotGguf(FileKind::GitLfsPointer)),
        "web page" => matches!(error, E::NotGguf(FileKind::Html)),
        "bad magic" | "sparse 1 TB of zeros" => matches!(error, E::NotGguf(FileKind::Unknown)),
        "version 0" => matches!(error, E::Version(0)),
        "version 1" => matches!(error, E::Version(1)),
        "version 4" => matches!(error, E::Version(4)),
        "version 2^32 - 1" => matches!(error, E::Version(u32::MAX)),
        "four bytes GGUF"
        | "cut in the version"
        | "cut in the counts"
        | "cut in the middle of a sound file"
        | "key length 2^64 - 1"
        | "key length 2^63"
        | "key length beyond the file"
        | "string length 2^64 - 1"
        | "string length 2^40"
        | "string of an array beyond the file"
        | "value cut off"
        | "tensor name length 2^64 - 1"
        | "tensor name length beyond the file" => matches!(error, E::Truncated { .. }),
        "tensor count 2^64 - 1"
        | "tensor count wraps a multiplication"
        | "tensor count 2^32"
        | "pair count 2^64 - 1"
        | "pair count 2^32"
        | "array of 2^32 strings"
        | "array of 2^31 tokens"
        | "array of 2^64 - 1 strings"
        | "array whose bytes wrap"
        | "array beyond the file"
        | "sparse 1 TB, 2^36 empty strings" => matches!(error, E::Count { .. }),
        "empty key"
        | "key of 65,536 bytes"
        | "key not UTF-8"
        | "pairs claimed in zeros"
        | "sparse 1 TB, pairs in zeros" => {
            matches!(error, E::Key { index: 0, .. })
        }
        "duplicate key" => matches!(error, E::DuplicateKey(key) if key == "a"),
        "value type 13" => matches!(error, E::ValueType { type_id: 13, .. }),
        "value type 2^32 - 1" => matches!(error, E::ValueType { type_id: u32::MAX, .. }),
        "array of an unknown type" => matches!(error, E::ValueType { type_id: 77, .. }),
        "boolean 2" => matches!(error, E::Bool { value: 2, .. }),
        "array of booleans with a 7" => matches!(error, E::Bool { value: 7, .. }),
        "array of arrays" | "array of arrays, 1,000 deep" => matches!(error, E::NestedArray(_)),
        "part 1 of 3" => matches!(error, E::Split { number: 0, count: 3 }),
        "part 4 of 3" | "part 2 of nothing" | "part count as text" => matches!(error, E::SplitMetadata(_)),
        "alignment 2^31" => matches!(error, E::TensorBeyondFile { .. }),
        _ if name.starts_with("alignment") => matches!(error, E::Alignment { .. }),
        _ => is_expected_of_tensors(name, error),
    }
}

fn is_expected_of_tensors(name: &str, error: &GgufError) -> bool {
    use GgufError as E;
    match name {
        "tensor name of 64 bytes" | "tensor name empty" | "tensor name not UTF-8" => {
            matches!(error, E::TensorName { index: 0, .. })
        }
        // Zeros of the data section where its description should be.
        "one tensor more than there is" => matches!(error, E::TensorName { index: 1, .. }),
        "tensor type 4, removed" => matches!(error, E::TensorType { type_id: 4, name } if name == "t"),
        "tensor type 21, not supported" => {
            matches!(error, E::TensorType { type_id: 21, name } if name == "t")
        }
        "tensor type 255" => matches!(error, E::TensorType { type_id: 255, .. }),
        "tensor type 2^32 - 1" => matches!(error, E::TensorType { type_id: u32::MAX, .. }),
        "tensor offset not aligned" => matches!(error, E::TensorOffset { offset: 4, .. }),
        "tensors laid out by another alignment" => {
            matches!(error, E::TensorOffset { offset: 32, alignment: 64, .. })
        }
        "tensor offset beyond the file"
        | "tensor offset 2^64 - 32"
        | "bytes wrap when padded"
        | "data one byte short"
        | "no data"
        | "data of another alignment"
        | "sizes of tensors sum over 2^63"
        | "a download cut off" => matches!(error, E::TensorBeyondFile { .. }),
        "duplicate tensor" => matches!(error, E::DuplicateTensor(name) if name == "t"),
        "tensors at the same place"
        | "tensors that overlap by half"
        | "tensors that overlap, out of order" => {
            matches!(error, E::TensorsOverlap { .. })
        }
        "no dimensions" => matches!(error, E::TensorDimensions { found: 0, .. }),
        "5 dimensions" => matches!(error, E::TensorDimensions { found: 5, .. }),
        "2^32 - 1 dimensions" => matches!(error, E::TensorDimensions { found: u32::MAX, .. }),
        "extent 0"
        | "row length 0"
        | "extent negative"
        | "extent 2^63"
        | "product of extents wraps to 0"
        | "product of extents wraps to 1"
        | "product of extents 2^63"
        | "bytes of the tensor wrap"
        | "row not whole blocks of 32"
        | "row not whole blocks of 256" => matches!(error, E::TensorShape { .. }),
        _ => panic!("case {name:?} has no expected error: add it to the table"),
    }
}
