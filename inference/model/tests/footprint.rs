//! What a header says of a model's size, beside what the model turns out to take when it is loaded.

use kernels::{BlockType, Compute, Cpu, KvType};
use model::{Footprint, Model, ModelError};
use seeded::{Family, Shape};
use weights::Gguf;

#[test]
fn a_header_tells_what_loading_finds() {
    for family in Family::ALL {
        for kind in [BlockType::F32, BlockType::Q8_0, BlockType::Q4_0] {
            let file = Gguf::from_bytes(seeded::tiny(family, kind)).unwrap();
            let told = Footprint::of(&file).unwrap();
            let mut compute = Cpu::new(1);
            let model: Model<Cpu> = Model::load(&file, &mut compute).unwrap();
            assert_eq!((&told.shape, told.vocab), (model.shape(), model.vocab()));
            for kv_type in [KvType::F16, KvType::F32] {
                for tokens in [1, 31, 32, 33, 1000] {
                    let found = model.context_bytes(kv_type, tokens);
                    assert_eq!(told.context_bytes(kv_type, tokens as u64), found, "{tokens} tokens");
                }
            }
            // Packed rows come in groups of sixteen, which a tiny model may not fill; real ones do.
            let stored = model.weight_bytes();
            let range = stored * 9 / 10..stored * 2;
            assert!(range.contains(&told.weight_bytes), "{} of {stored} bytes", told.weight_bytes);
            // A step of some tokens takes no more than was said: the widest rows are those of the feed-forward.
            let widest = model.shape().ff_width as u64 * 4;
            assert!(told.workspace_bytes(10, 0) > 10 * widest);
            assert!(told.workspace_bytes(0, 3) >= 3 * 2 * 4 * told.vocab as u64);
            assert!(told.text_bytes > 0);
            drop(compute.activation(1));
        }
    }
}

#[test]
fn a_larger_model_takes_more() {
    let of = |shape: Shape| Footprint::of(&Gguf::from_bytes(shape.gguf()).unwrap()).unwrap();
    let tiny = Shape::tiny(Family::Llama, BlockType::Q8_0);
    let (small, large) = (of(tiny.clone()), of(Shape { layers: tiny.layers * 2, ..tiny }));
    assert!(large.weight_bytes > small.weight_bytes);
    assert_eq!(large.context_bytes(KvType::F16, 64), 2 * small.context_bytes(KvType::F16, 64));
    assert_eq!(large.text_bytes, small.text_bytes);
}

#[test]
fn what_is_no_model_has_no_footprint() {
    let mut writer = weights::gguf::write::Writer::new();
    let of =
        |writer: &weights::gguf::write::Writer| Footprint::of(&Gguf::from_bytes(writer.finish()).unwrap());
    assert!(matches!(of(&writer), Err(ModelError::NoArchitecture)));
    writer.string("general.architecture", "abacus");
    assert!(matches!(of(&writer), Err(ModelError::Architecture { .. })));
}
