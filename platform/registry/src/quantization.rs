//! How weights are called: the name of a quantisation, and a number of parameters as people say it.

use std::collections::HashMap;

use weights::Gguf;

/// Name of a `general.file_type` number. Source: `llama_ftype` in llama.h of llama.cpp; gaps are retired types.
/// NF4 is ours.
pub(crate) fn file_type_name(number: u32) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        24 => "IQ1_S",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        31 => "IQ1_M",
        32 => "BF16",
        36 => "TQ1_0",
        37 => "TQ2_0",
        38 => "MXFP4",
        0x3446_4E4F => "NF4",
        _ => return None,
    })
}

/// The quantisation of a file: as it says itself, or else the type that most of its weights have.
pub(crate) fn of_file(file: &Gguf) -> Option<String> {
    let said = file.metadata().u32("general.file_type").ok().flatten();
    if let Some(name) = said.and_then(file_type_name) {
        return Some(name.to_owned());
    }
    let mut elements = HashMap::new();
    for tensor in file.tensors() {
        *elements.entry(tensor.block_type).or_insert(0_u128) += tensor.elements() as u128;
    }
    // Ties are broken by the type's number, so that the answer never depends on the map's order.
    let most = elements.into_iter().max_by_key(|(kind, count)| (*count, kind.gguf_id()));
    most.map(|(kind, _)| format!("{kind:?}"))
}

/// A number of parameters, as Ollama writes it: `134.52M`, `1.1B`, `7B`.
pub(crate) fn human_count(count: u64) -> String {
    let write = |unit: u64, letter: char, places: usize| {
        let whole = count.is_multiple_of(unit);
        let number = count as f64 / unit as f64;
        if whole { format!("{number:.0}{letter}") } else { format!("{number:.places$}{letter}") }
    };
    match count {
        1_000_000_000.. => write(1_000_000_000, 'B', 1),
        1_000_000.. => write(1_000_000, 'M', 2),
        1_000.. => format!("{:.0}K", count as f64 / 1e3),
        _ => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_mixes_have_their_names() {
        for mix in weights::quantize::Mix::all() {
            assert_eq!(file_type_name(mix.file_type()), Some(mix.name()));
        }
    }

    #[test]
    fn counts_are_written_as_ollama_writes_them() {
        let check = |count: u64, expected: &str| assert_eq!(human_count(count), expected, "{count}");
        check(134_515_008, "134.52M");
        check(268_098_176, "268.10M");
        check(1_100_048_384, "1.1B");
        check(7_000_000_000, "7B");
        check(2_000_000, "2M");
        check(12_345, "12K");
        check(999, "999");
    }
}
