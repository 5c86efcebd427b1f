//! Importance matrices of a mixture of experts: each expert's inputs are summed by themselves, kept so in the file, and weigh the
//! errors of that expert only.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use engine::{LoadOptions, Loaded, LocatedModel, importance, perplexity};
use kernels::encode::{Importance, encode};
use kernels::unpack::unpack;
use kernels::{BlockType, Cpu, KvType};
use seeded::{Family, Shape};
use weights::Gguf;
use weights::quantize::{Entry, Imatrix, Mix, Options, Quantization};

const TEXT: &str = "the floor is warm and the room is quiet while the kettle sings on the stove; ";

fn model(experts: usize, used: usize) -> Vec<u8> {
    Shape::tiny(Family::Llama, BlockType::F32).gguf_of_experts(experts, used)
}

/// Sums over a text of some hundred tokens, and how many rows that were.
fn collected(file: &[u8]) -> (Imatrix, f32) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("experts.gguf");
    std::fs::write(&path, file).unwrap();
    let mut cpu = Cpu::new(2);
    cpu.watch();
    let options = LoadOptions { kv_type: KvType::F32, memory_bytes: None, context_tokens: None };
    let loaded = Loaded::load(LocatedModel::bare("experts", &path), options, &mut cpu).unwrap();
    let (tokens, start) = perplexity::tokens(&loaded, &TEXT.repeat(2)).unwrap();
    let window = 40;
    let found = importance::collect(&loaded, &mut cpu, &tokens, &start, window, &mut |_, _| true).unwrap();
    let rows = (found.chunks * found.chunk_tokens) as f32;
    assert!(rows >= 40.0);
    (found, rows)
}

fn of<'a>(imatrix: &'a Imatrix, layer: usize, part: &str) -> &'a Entry {
    let name = format!("blk.{layer}.{part}.weight");
    imatrix.entries.get(&name).unwrap_or_else(|| panic!("{name}"))
}

/// The entry's matrices added up.
fn total(entry: &Entry) -> Vec<f32> {
    let columns = entry.columns();
    (0..columns).map(|column| entry.sums.iter().skip(column).step_by(columns).sum()).collect()
}

fn close(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    for (found, wanted) in found.iter().zip(wanted) {
        assert!((found - wanted).abs() <= 1e-4 * wanted.abs(), "{found} {wanted}");
    }
}

#[test]
fn each_expert_is_counted_by_itself() {
    for (experts, used) in [(4, 2), (8, 1), (3, 3)] {
        let (found, rows) = collected(&model(experts, used));
        for layer in 0..3 {
            let router = of(&found, layer, "ffn_gate_inp");
            assert_eq!(router.counts, [rows]);
            let [gate, up, down] =
                ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"].map(|part| of(&found, layer, part));
            assert_eq!(gate.counts.len(), experts);
            assert_eq!(gate.counts.iter().sum::<f32>(), rows * used as f32, "every row asks that many");
            assert_eq!((&gate.counts, &gate.sums), (&up.counts, &up.sums));
            assert_eq!(gate.counts, down.counts);
            assert_eq!((gate.columns(), down.columns()), (64, 192));
            // What the router saw went to so many of them.
            let wanted: Vec<f32> = router.sums.iter().map(|sum| sum * used as f32).collect();
            close(&total(gate), &wanted);
            for expert in 0..experts {
                let sums = &down.sums[expert * 192..][..192];
                assert_eq!(down.counts[expert] > 0.0, sums.iter().any(|sum| *sum > 0.0), "expert {expert}");
                if used == experts {
                    close(&gate.sums[expert * 64..][..64], &router.sums);
                }
            }
        }
    }
}

#[test]
fn an_expert_is_quantised_by_what_it_saw() {
    let file = model(8, 1);
    let source = Gguf::from_bytes(file.clone()).unwrap();
    let (found, _) = collected(&file);
    // As a file, which is how llama.cpp would have it.
    let mut bytes = Vec::new();
    found.write(&mut bytes).unwrap();
    let read = Imatrix::read(&Gguf::from_bytes(bytes).unwrap()).unwrap();
    assert_eq!(read, found);
    let name = "blk.1.ffn_up_exps.weight";
    let entry = &found.entries[name];
    let unseen = entry.counts.iter().filter(|count| **count == 0.0).count();
    assert!((1..8).contains(&unseen), "some experts answered and some did not: {:?}", entry.counts);
    let options = Options { mix: Mix::IQ4_NL, keep: Vec::new(), imatrix: Some(read), threads: 2 };
    let work = Quantization::new(&source, options).unwrap();
    let mut out = Vec::new();
    let report = work.write(&mut out, &mut |_| {}).unwrap();
    let experts = report.iter().filter(|tensor| tensor.name.contains("_exps"));
    assert!(experts.clone().count() == 9 && experts.clone().all(|tensor| tensor.has_importance));
    let made = Gguf::from_bytes(out).unwrap();
    let (old, new) = (source.tensor(name).unwrap(), made.tensor(name).unwrap());
    let mut weights = vec![0.0; old.elements()];
    unpack(old.block_type, &source.view(old), &mut weights);
    let view = made.view(new);
    for (expert, (weights, bytes)) in
        weights.chunks(old.elements() / 8).zip(view.chunks(new.size_bytes() / 8)).enumerate()
    {
        let importance = Importance::new(&entry.mean(expert));
        assert_eq!(importance.is_some(), entry.counts[expert] > 0.0);
        let mut wanted = vec![0; bytes.len()];
        encode(new.block_type, weights, importance.as_ref(), &mut wanted).unwrap();
        assert!(bytes == wanted, "expert {expert}");
    }
}
