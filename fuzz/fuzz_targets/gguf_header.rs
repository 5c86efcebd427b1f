//! Any bytes as a model file: opening gives a file whose every value, string and tensor can be looked at, or an error.
//! Never a panic, never a byte outside. Metadata meaning and loading are `gguf_load`'s.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weights::{Array, Gguf, Value, gguf::write::Writer};

fuzz_target!(|data: &[u8]| {
    let gguf = match Gguf::from_bytes(data.to_vec()) {
        Ok(gguf) => gguf,
        Err(error) => {
            assert!(error.to_string().len() < 2000, "an error message does not repeat the file");
            return;
        }
    };
    let mut copy = Writer::new();
    for (key, value) in gguf.metadata().iter() {
        walk(key, &value, &gguf);
        copy.value(key, &value);
    }
    let mut placed: Vec<_> = Vec::new();
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        assert_eq!(gguf.view(tensor).len(), tensor.size_bytes());
        assert_eq!(
            tensor.block_type.row_bytes(tensor.row_len()).map(|row| row * tensor.rows()),
            Some(tensor.size_bytes())
        );
        assert_eq!(tensor.elements(), tensor.row_len() * tensor.rows());
        placed.push(tensor.range());
    }
    placed.sort_unstable_by_key(|range| range.start);
    assert!(placed.windows(2).all(|pair| pair[0].end <= pair[1].start), "tensors share no byte");

    // Copied metadata opens again with the same keys.
    if gguf.metadata().get("general.alignment").is_none() {
        let copy = Gguf::from_bytes(copy.finish()).expect("a copy of sound metadata is sound");
        assert!(copy.metadata().iter().map(|(key, _)| key).eq(gguf.metadata().iter().map(|(key, _)| key)));
    }
});

fn walk(key: &str, value: &Value<'_>, gguf: &Gguf) {
    let metadata = gguf.metadata();
    assert!(metadata.get(key).is_some());
    match value {
        Value::Array(Array::Strings(strings)) => {
            assert_eq!(strings.iter_bytes().count(), strings.len());
            for (index, bytes) in strings.iter_bytes().enumerate() {
                assert_eq!(strings.get_bytes(index), Some(bytes));
            }
            assert_eq!(strings.get_bytes(strings.len()), None);
            let all_text = strings.iter_bytes().all(|bytes| std::str::from_utf8(bytes).is_ok());
            assert_eq!(metadata.strings(key).is_ok(), all_text);
        }
        Value::Array(Array::Numbers(numbers)) => {
            assert_eq!(numbers.iter().count(), numbers.len());
            assert!(numbers.iter().all(|value| value.kind() == numbers.element()));
        }
        _ => {}
    }
    // Every getter on every value: the right type or an error.
    let _ = (metadata.string(key), metadata.u32(key), metadata.u64(key), metadata.i32(key));
    let _ = (metadata.f32(key), metadata.bool(key), metadata.byte_strings(key).is_ok());
    let _ = (metadata.f32s(key), metadata.i32s(key), metadata.u32s(key), metadata.bools(key));
}
