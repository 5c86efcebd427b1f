//! What is written reads back; what is damaged fails cleanly. Property tests over small random files, and the getters of
//! metadata case by case. Named damage is in `bad_models.rs`.

use kernels::BlockType;
use proptest::prelude::*;
use weights::{Array, Gguf, MetadataError, Value, gguf::write::Writer};

/// Reads everything a file offers; returns a count so that nothing is optimised away.
fn walk(gguf: &Gguf) -> usize {
    let mut seen = 0;
    for (key, value) in gguf.metadata().iter() {
        seen += key.len();
        assert!(gguf.metadata().get(key).is_some());
        match value {
            Value::Array(Array::Strings(strings)) => {
                assert_eq!(strings.iter_bytes().count(), strings.len());
                seen += strings.iter_bytes().map(<[u8]>::len).sum::<usize>();
                for (index, bytes) in strings.iter_bytes().enumerate() {
                    assert_eq!(strings.get_bytes(index), Some(bytes));
                }
            }
            Value::Array(Array::Numbers(numbers)) => seen += numbers.iter().count(),
            Value::String(text) => seen += text.len(),
            _ => seen += 1,
        }
    }
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor(&tensor.name), Some(tensor));
        let bytes = gguf.view(tensor);
        assert_eq!(bytes.len(), tensor.size_bytes());
        assert_eq!(tensor.elements(), tensor.rows() * tensor.row_len());
        seen += bytes.len();
    }
    seen
}

#[derive(Debug, Clone)]
struct Contents {
    text: String,
    strings: Vec<Vec<u8>>,
    numbers: Vec<i32>,
    float: f32,
    tensors: Vec<(Vec<usize>, BlockType)>,
    alignment: u32,
}

prop_compose! {
    fn contents()(
        text in ".{0,20}",
        strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..100),
        numbers in prop::collection::vec(any::<i32>(), 0..20),
        float in any::<f32>(),
        tensors in prop::collection::vec((0usize..16, 1usize..3, 1usize..4), 0..6),
        alignment in prop::sample::select(vec![8u32, 16, 32, 64, 4096]),
    ) -> Contents {
        let tensors = tensors.into_iter().map(|(kind, blocks, rows)| {
            let kind = BlockType::ALL[kind];
            (vec![blocks * kind.block_len(), rows], kind)
        }).collect();
        Contents { text, strings, numbers, float, tensors, alignment }
    }
}

fn written(contents: &Contents) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.alignment(contents.alignment).string("text", &contents.text).strings("strings", &contents.strings);
    writer.i32s("numbers", &contents.numbers).f32("float", contents.float).bool("yes", true);
    for (index, (shape, kind)) in contents.tensors.iter().enumerate() {
        let size = kind.row_bytes(shape[0]).expect("whole blocks") * shape[1];
        writer.tensor(&format!("t{index}"), shape, *kind, vec![index as u8; size]);
    }
    writer.finish()
}

proptest! {
    // No regression files: a failure found here becomes a named test.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn written_files_read_back(contents in contents()) {
        let gguf = Gguf::from_bytes(written(&contents)).unwrap();
        let metadata = gguf.metadata();
        prop_assert_eq!(metadata.string("text").unwrap(), Some(&*contents.text));
        prop_assert_eq!(metadata.i32s("numbers").unwrap(), Some(contents.numbers.clone()));
        prop_assert_eq!(metadata.f32("float").unwrap().map(f32::to_bits), Some(contents.float.to_bits()));
        prop_assert_eq!(metadata.bool("yes").unwrap(), Some(true));
        let strings = metadata.byte_strings("strings").unwrap().unwrap();
        prop_assert!(strings.iter_bytes().eq(contents.strings.iter().map(Vec::as_slice)));
        let first_bad = contents.strings.iter().position(|bytes| std::str::from_utf8(bytes).is_err());
        match (metadata.strings("strings"), first_bad) {
            (Ok(Some(_)), None) => {}
            (Err(MetadataError::NotUtf8 { index, .. }), Some(_)) => prop_assert_eq!(index, first_bad),
            (other, _) => prop_assert!(false, "{other:?} {first_bad:?}"),
        }
        prop_assert_eq!(gguf.tensors().len(), contents.tensors.len());
        for (index, (tensor, (shape, kind))) in gguf.tensors().iter().zip(&contents.tensors).enumerate() {
            prop_assert_eq!(&tensor.shape, shape);
            prop_assert_eq!(tensor.block_type, *kind);
            prop_assert_eq!(tensor.range().start % contents.alignment as usize, 0);
            prop_assert!(gguf.view(tensor).iter().all(|byte| usize::from(*byte) == index));
        }
        walk(&gguf);

        // Copied value by value, the metadata is the same bytes.
        let mut copy = Writer::new();
        metadata.iter().for_each(|(key, value)| {
            copy.value(key, &value);
        });
        let (copy, plain) = (copy.finish(), written(&Contents { tensors: Vec::new(), ..contents }));
        let length = copy.len().min(plain.len()); // They differ in the padding at the end.
        prop_assert_eq!(&copy[..length], &plain[..length]);
    }

    #[test]
    fn damaged_files_fail_cleanly_or_stay_inside(
        contents in contents(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut file = written(&contents);
        for (place, byte) in damage {
            let place = place.index(file.len().min(600));
            file[place] = byte;
        }
        if let Ok(gguf) = Gguf::from_bytes(file) {
            walk(&gguf);
        }
    }

    #[test]
    fn every_cut_fails_cleanly(contents in contents(), cut in any::<prop::sample::Index>()) {
        let mut file = written(&contents);
        file.truncate(cut.index(file.len()));
        if let Ok(gguf) = Gguf::from_bytes(file) {
            // Only the padding at the end may be missing.
            prop_assert_eq!(gguf.tensors().len(), contents.tensors.len());
            walk(&gguf);
        }
    }

    #[test]
    fn lies_about_a_tensor_stay_inside(
        shape in prop::collection::vec(any::<u64>(), 1..5),
        kind in prop::sample::select(BlockType::ALL.to_vec()),
        offset in any::<u64>(),
        small in any::<bool>(),
    ) {
        let shape: Vec<u64> = shape.iter().map(|extent| if small { extent % 70 } else { *extent }).collect();
        let offset = if small { offset % 300 } else { offset };
        let mut file = [&b"GGUF"[..], &3u32.to_le_bytes(), &1u64.to_le_bytes(), &0u64.to_le_bytes()].concat();
        file.extend(1u64.to_le_bytes());
        file.push(b't');
        file.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|extent| file.extend(extent.to_le_bytes()));
        file.extend(kind.gguf_id().to_le_bytes());
        file.extend(offset.to_le_bytes());
        file.resize(file.len() + 4096, 7);
        let len = file.len();
        if let Ok(gguf) = Gguf::from_bytes(file) {
            prop_assert!(gguf.tensors()[0].range().end <= len);
            walk(&gguf);
        }
    }
}

#[test]
fn getters_convert_what_fits_and_name_what_does_not() {
    let mut writer = Writer::new();
    writer.u8("small", 7).i64("negative", -1).u64("large", 1 << 40).f64("double", 0.5).string("word", "x");
    writer
        .u8s("bytes", &[1, 2])
        .f32s("floats", &[1.0])
        .bools("bools", &[true, false])
        .strings::<&str>("none", &[]);
    writer.u64("split.count", 1).u16("split.no", 0);
    let gguf = Gguf::from_bytes(writer.finish()).unwrap();
    let metadata = gguf.metadata();
    assert_eq!(metadata.u32("small"), Ok(Some(7)));
    assert_eq!(metadata.i32("negative"), Ok(Some(-1)));
    assert_eq!(metadata.u64("large"), Ok(Some(1 << 40)));
    assert_eq!(metadata.f32("double"), Ok(Some(0.5)));
    assert_eq!(metadata.u32s("bytes"), Ok(Some(vec![1, 2])));
    assert_eq!(metadata.bools("bools"), Ok(Some(vec![true, false])));
    assert_eq!(metadata.strings("none").unwrap().map(|strings| strings.len()), Some(0));
    assert_eq!(metadata.u32("absent"), Ok(None));

    let message = |error: MetadataError| error.to_string();
    assert!(
        message(metadata.u32("negative").unwrap_err())
            .contains("\"negative\" holds -1, which is out of range")
    );
    assert!(
        message(metadata.u32("large").unwrap_err()).contains("out of range for an unsigned 32-bit number")
    );
    assert!(
        message(metadata.u32("word").unwrap_err())
            .contains("should hold an unsigned 32-bit number and holds string")
    );
    // The u8 array read as f32 of a published llama.cpp bug: refused, not reinterpreted.
    assert!(message(metadata.f32s("bytes").unwrap_err()).contains("an array of u8"));
    assert!(matches!(metadata.u32("floats"), Err(MetadataError::Type { .. })));
    assert!(matches!(metadata.bool("small"), Err(MetadataError::Type { .. })));
}
