//! Seeded models against `tests/conformance/logits/reference.py`: an independent numpy implementation that makes the
//! same weights from the same seeds and computes logits in float32 with float64 sums. Tolerance 1e-4, in one piece
//! and in pieces, at every instruction set, alone and beside another sequence.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

use kernels::{Batch, BlockType, Compute, Cpu, KvType, Level, Span};
use model::Model;
use seeded::Family;
use serde_json::Value;
use support::logits;
use weights::Gguf;

fn golden(family: Family) -> Value {
    let text = match family {
        Family::Llama => include_str!("../../../tests/conformance/logits/goldens/llama.json"),
        _ => include_str!("../../../tests/conformance/logits/goldens/gemma3.json"),
    };
    serde_json::from_str(text).unwrap()
}

fn tokens(golden: &Value) -> Vec<u32> {
    golden["tokens"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn seeded_models_give_the_reference_logits() {
    for family in Family::ALL {
        let golden = golden(family);
        let tokens = tokens(&golden);
        let file = Gguf::from_bytes(seeded::tiny(family, BlockType::F32)).unwrap();
        for level in Level::available() {
            let mut cpu = Cpu::with_level(2, level);
            let model = Model::load(&file, &mut cpu).unwrap();
            for piece in [1, 7, tokens.len()] {
                let ours = logits(&mut cpu, &model, &tokens, piece, KvType::F32);
                let mut compared = 0;
                for entry in golden["logits"].as_array().unwrap() {
                    let position = entry["position"].as_u64().unwrap() as usize;
                    for (i, want) in entry["values"].as_array().unwrap().iter().enumerate() {
                        let (ours, want) = (f64::from(ours[position][i]), want.as_f64().unwrap());
                        assert!(
                            (ours - want).abs() <= 1e-4,
                            "{} {} pieces of {piece}: position {position} token {i}: {ours}, want {want}",
                            family.name(),
                            level.name()
                        );
                        compared += 1;
                    }
                }
                assert!(compared > 500, "{compared} logits compared");
            }
        }
    }
}

#[test]
fn logits_do_not_depend_on_pieces_or_threads() {
    for family in Family::ALL {
        let tokens = tokens(&golden(family));
        for block_type in [BlockType::F32, BlockType::Q8_0, BlockType::Q4_0] {
            let file = Gguf::from_bytes(seeded::tiny(family, block_type)).unwrap();
            let mut first: Option<Vec<Vec<f32>>> = None;
            for threads in [1, 3] {
                let mut cpu = Cpu::new(threads);
                let model = Model::load(&file, &mut cpu).unwrap();
                for piece in [1, 5, tokens.len()] {
                    let ours = logits(&mut cpu, &model, &tokens, piece, KvType::F16);
                    let first = first.get_or_insert_with(|| ours.clone());
                    assert!(*first == ours, "{} {block_type:?} {threads} threads, {piece}", family.name());
                }
            }
        }
    }
}

#[test]
fn two_sequences_in_one_batch_are_as_each_alone() {
    for family in Family::ALL {
        let file = Gguf::from_bytes(seeded::tiny(family, BlockType::F32)).unwrap();
        let mut cpu = Cpu::new(2);
        let model = Model::load(&file, &mut cpu).unwrap();
        let tokens = tokens(&golden(family));
        let (a, b) = (&tokens[..23], &tokens[5..40]);
        let alone = [a, b].map(|part| logits(&mut cpu, &model, part, part.len(), KvType::F16));

        let mut pages = cpu.pages(model.page_shape(KvType::F16)).unwrap();
        cpu.ensure_pages(&mut pages, &[0, 1, 2, 3]);
        let mut space = model.workspace(&mut cpu);
        let batch = Batch {
            tokens: [a, b].concat(),
            positions: (0..a.len() as u32).chain(0..b.len() as u32).collect(),
            spans: vec![
                Span { rows: 0..a.len(), pages: vec![2], stretched: false },
                Span { rows: a.len()..a.len() + b.len(), pages: vec![1, 3], stretched: false },
            ],
            outputs: vec![a.len() as u32 - 1, (a.len() + b.len()) as u32 - 1],
        };
        let mut out = Vec::new();
        model.forward(&mut cpu, &mut space, &mut pages, &batch, &mut out);
        let (together_a, together_b) = out.split_at(model.vocab());
        assert!(alone[0].last().unwrap() == together_a && alone[1].last().unwrap() == together_b);
    }
}
