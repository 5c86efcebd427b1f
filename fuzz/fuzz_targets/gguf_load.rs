//! A tiny sound model with metadata and tensors changed: loading it gives a model that can compute a step, or an error.
//!
//! Changing a sound file reaches the loader at once; bytes at random would hardly get past the header, which
//! `gguf_header` covers. Input that begins with GGUF is taken as a whole file all the same.
#![no_main]

use std::sync::LazyLock;

use arbitrary::{Arbitrary, Unstructured};
use kernels::{Batch, BlockType, Compute, Cpu, KvType, Span};
use libfuzzer_sys::fuzz_target;
use model::Model;
use seeded::{Family, Shape};
use weights::{Gguf, gguf::write::Writer};

/// What happens to one key or tensor of the sound file.
#[derive(Debug, Arbitrary)]
enum Change {
    Remove {
        key: u8,
    },
    U32 {
        key: u8,
        value: u32,
    },
    /// Small numbers pass more checks than large ones.
    Small {
        key: u8,
        value: u8,
    },
    I64 {
        key: u8,
        value: i64,
    },
    F32 {
        key: u8,
        value: f32,
    },
    Bool {
        key: u8,
        value: bool,
    },
    Text {
        key: u8,
        value: String,
    },
    Numbers {
        key: u8,
        values: Vec<u32>,
    },
    Flags {
        key: u8,
        values: Vec<bool>,
    },
    /// A key that the tiny models do not have.
    Extra {
        key: u8,
        value: u32,
    },
    ExtraF32 {
        key: u8,
        value: f32,
    },
    RemoveTensor {
        tensor: u8,
    },
    Reshape {
        tensor: u8,
        blocks: u8,
        rows: u8,
        third: bool,
        block_type: u8,
    },
}

#[derive(Debug, Arbitrary)]
struct Input {
    gemma3: bool,
    changes: Vec<Change>,
}

/// Keys that some files of the families have.
const EXTRA: [&str; 12] = [
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.freq_base_swa",
    "attention.sliding_window_pattern",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.scale",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "expert_count",
];

static SOUND: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    Family::ALL.map(|family| {
        let shape =
            Shape { layers: 2, width: 32, ff: 64, head_dim: 8, ..Shape::tiny(family, BlockType::Q8_0) };
        shape.gguf()
    })
});

fuzz_target!(|data: &[u8]| {
    let file = if data.starts_with(b"GGUF") {
        data.to_vec()
    } else {
        let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else { return };
        changed(&SOUND[usize::from(input.gemma3)], input)
    };
    let Ok(gguf) = Gguf::from_bytes(file) else { return };
    for tensor in gguf.tensors() {
        assert_eq!(gguf.view(tensor).len(), tensor.size_bytes());
    }
    let mut cpu = Cpu::new(1);
    match Model::load(&gguf, &mut cpu) {
        Ok(model) => step(&model, &mut cpu),
        Err(error) => assert!(error.to_string().len() < 4000, "an error message does not repeat the file"),
    }
});

fn changed(sound: &[u8], input: Input) -> Vec<u8> {
    let gguf = Gguf::from_bytes(sound.to_vec()).expect("sound");
    let keys: Vec<&str> = gguf.metadata().iter().map(|(key, _)| key).collect();
    let key = |index: u8| keys[usize::from(index) % keys.len()].to_owned();
    let architecture = if input.gemma3 { "gemma3" } else { "llama" };
    let extra = |index: u8| format!("{architecture}.{}", EXTRA[usize::from(index) % EXTRA.len()]);
    let tensor = |index: u8| &gguf.tensors()[usize::from(index) % gguf.tensors().len()];
    let mut gone: Vec<String> = Vec::new();
    let mut writes: Vec<Box<dyn Fn(&mut Writer)>> = Vec::new();
    for change in input.changes.into_iter().take(8) {
        let name = match &change {
            Change::Extra { key, .. } | Change::ExtraF32 { key, .. } => extra(*key),
            Change::RemoveTensor { tensor: index } | Change::Reshape { tensor: index, .. } => {
                tensor(*index).name.clone()
            }
            Change::Remove { key: index }
            | Change::U32 { key: index, .. }
            | Change::Small { key: index, .. }
            | Change::I64 { key: index, .. }
            | Change::F32 { key: index, .. }
            | Change::Bool { key: index, .. }
            | Change::Text { key: index, .. }
            | Change::Numbers { key: index, .. }
            | Change::Flags { key: index, .. } => key(*index),
        };
        if gone.contains(&name) {
            continue;
        }
        gone.push(name.clone());
        writes.push(Box::new(move |writer| write(writer, &name, &change)));
    }
    let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
    seeded::bad::edited(sound, &gone, |writer| writes.iter().for_each(|write| write(writer)))
}

fn write(writer: &mut Writer, name: &str, change: &Change) {
    match change {
        Change::Remove { .. } | Change::RemoveTensor { .. } => {}
        Change::U32 { value, .. } | Change::Extra { value, .. } => _ = writer.u32(name, *value),
        Change::Small { value, .. } => _ = writer.u32(name, u32::from(*value)),
        Change::I64 { value, .. } => _ = writer.i64(name, *value),
        Change::F32 { value, .. } | Change::ExtraF32 { value, .. } => _ = writer.f32(name, *value),
        Change::Bool { value, .. } => _ = writer.bool(name, *value),
        Change::Text { value, .. } => _ = writer.string(name, value),
        Change::Numbers { values, .. } => _ = writer.u32s(name, values),
        Change::Flags { values, .. } => _ = writer.bools(name, values),
        Change::Reshape { blocks, rows, third, block_type, .. } => {
            let kind = BlockType::ALL[usize::from(*block_type) % BlockType::ALL.len()];
            let row_len = usize::from(*blocks % 8 + 1) * kind.block_len().max(8);
            let rows = usize::from(*rows) + 1;
            let mut shape = vec![row_len, rows];
            if *third {
                shape.push(1);
            }
            let size = kind.row_bytes(row_len).expect("whole blocks") * rows;
            writer.tensor(name, &shape, kind, vec![0x3c; size]);
        }
    }
}

/// Two tokens, the last of the vocabulary among them.
fn step(model: &Model<Cpu>, cpu: &mut Cpu) {
    let Ok(mut pages) = cpu.pages(model.page_shape(KvType::F32)) else { return };
    cpu.ensure_pages(&mut pages, &[0]);
    let mut space = model.workspace(cpu);
    let batch = Batch {
        tokens: vec![0, model.vocab() as u32 - 1],
        positions: vec![0, 1],
        spans: vec![Span { rows: 0..2, pages: vec![0], stretched: false }],
        outputs: vec![1],
    };
    let mut logits = Vec::new();
    model.forward(cpu, &mut space, &mut pages, &batch, &mut logits);
    assert_eq!(logits.len(), model.vocab());
}
