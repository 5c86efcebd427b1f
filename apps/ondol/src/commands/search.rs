//! `ondol search`: models of the catalogue by words in English or Korean, by use, language, size and licence. Also what
//! `ondol show` says of a model that is not in the store. Reads the catalogue alone: no network.

use clap::Args;
use kernels::KvType;
use registry::{Catalogue, CatalogueEntry, Commercial, Korean, Use};
use serde_json::{Value, json};

use crate::commands::Context;
use crate::fit::blueprint::Blueprint;
use crate::fit::calibrate::STEP_TOKENS;
use crate::fit::runs;
use crate::memory;
use crate::terminal::failure::Failure;
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::{output, table, units};

/// Tokens of the context with which memory is told.
const CONTEXT_TOKENS: u64 = 4096;
/// Parameters of what people call small, and large.
const SMALL_MAX: u64 = 2_500_000_000;
const LARGE_MIN: u64 = 20_000_000_000;

#[derive(Debug, Default, Args)]
pub(crate) struct Arguments {
    /// Words to look for, in English or Korean; all must match
    pub words: Vec<String>,
    /// Models that do well in Korean
    #[arg(long)]
    pub korean: bool,
    /// Models that turn texts into vectors
    #[arg(long)]
    pub embedding: bool,
    /// Models that order what a search found
    #[arg(long)]
    pub rerank: bool,
    /// Models that write programs
    #[arg(long)]
    pub code: bool,
    /// Models that call tools
    #[arg(long)]
    pub tools: bool,
    /// Models that a company may use
    #[arg(long)]
    pub commercial: bool,
    /// Models that this version can run
    #[arg(long)]
    pub runs: bool,
    /// Models that need no more memory (say 8G)
    #[arg(long, value_name = "SIZE")]
    pub max_memory: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What a word asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    Korean,
    Use(Use),
    Language(&'static str),
    Commercial,
    Small,
    Large,
    /// In a name, a licence or a description.
    Text(String),
}

pub(crate) fn run(context: &Context, arguments: &Arguments) -> anyhow::Result<()> {
    let catalogue = Catalogue::embedded();
    let memory_max = match &arguments.max_memory {
        None => None,
        Some(text) => Some(memory::parse_size(text.trim()).ok_or_else(|| {
            let wanted = context.terminal.say(Message::WantedMemory, &[]);
            let values = [("setting", "--max-memory"), ("value", text), ("wanted", &*wanted)];
            Failure::new(context.terminal.say(Message::SettingInvalid, &values))
        })?),
    };
    let found = search(&catalogue, arguments, memory_max);
    let language = context.settings.language;
    let text = if arguments.json {
        let list: Vec<Value> = found.iter().map(|entry| entry_json(entry)).collect();
        format!("{}\n", Value::from(list))
    } else if found.is_empty() {
        format!("{}\n", say(language, Message::SearchNothing, &[]))
    } else {
        screen(language, &found)
    };
    Ok(output::print(&text)?)
}

/// The entries that have all that is asked for, the best match first.
fn search<'a>(
    catalogue: &'a Catalogue,
    arguments: &Arguments,
    memory_max: Option<u64>,
) -> Vec<&'a CatalogueEntry> {
    let words: Vec<String> =
        arguments.words.iter().flat_map(|word| word.split_whitespace()).map(str::to_lowercase).collect();
    let mut wishes: Vec<Wish> = words.iter().map(|word| Wish::of(word)).collect();
    let flags = [
        (arguments.korean, Wish::Korean),
        (arguments.embedding, Wish::Use(Use::Embedding)),
        (arguments.rerank, Wish::Use(Use::Rerank)),
        (arguments.code, Wish::Use(Use::Code)),
        (arguments.tools, Wish::Use(Use::Tools)),
        (arguments.commercial, Wish::Commercial),
    ];
    wishes.extend(flags.into_iter().filter(|(asked, _)| *asked).map(|(_, wish)| wish));
    let entries = catalogue.entries().iter();
    let mut found: Vec<&CatalogueEntry> = entries
        .filter(|entry| wishes.iter().all(|wish| wish.is_met(entry)))
        .filter(|entry| !arguments.runs || runs::entry(entry))
        .filter(|entry| memory_max.is_none_or(|most| memory_bytes(entry).is_some_and(|bytes| bytes <= most)))
        .collect();
    let asks_korean = wishes.contains(&Wish::Korean);
    found.sort_by_key(|entry| {
        // Words that ask for a use or a language are in no name, and if they are, that says nothing.
        let texts =
            wishes.iter().filter_map(|wish| if let Wish::Text(text) = wish { Some(text) } else { None });
        let rank = texts.map(|text| rank(entry, text)).min().unwrap_or(0);
        let korean = if asks_korean { entry.korean } else { Korean::Weak };
        (rank, std::cmp::Reverse(korean), entry.parameters.unwrap_or(0))
    });
    found
}

impl Wish {
    fn of(word: &str) -> Self {
        match word {
            "한국어" | "한글" | "korean" | "ko" => Self::Korean,
            "임베딩" | "벡터" | "embedding" | "embeddings" | "embed" => Self::Use(Use::Embedding),
            "재순위" | "리랭커" | "리랭킹" | "rerank" | "reranker" => Self::Use(Use::Rerank),
            "코드" | "코딩" | "프로그래밍" | "code" | "coding" => Self::Use(Use::Code),
            "대화" | "채팅" | "챗봇" | "chat" => Self::Use(Use::Chat),
            "도구" | "tools" | "tool" => Self::Use(Use::Tools),
            "생각" | "추론" | "thinking" | "reasoning" => Self::Use(Use::Thinking),
            "상업" | "상업용" | "commercial" => Self::Commercial,
            "영어" | "english" => Self::Language("en"),
            "일본어" | "japanese" => Self::Language("ja"),
            "중국어" | "chinese" => Self::Language("zh"),
            "독일어" | "german" => Self::Language("de"),
            "프랑스어" | "french" => Self::Language("fr"),
            "작은" | "small" => Self::Small,
            "큰" | "large" => Self::Large,
            other => Self::Text(other.to_owned()),
        }
    }

    fn is_met(&self, entry: &CatalogueEntry) -> bool {
        match self {
            Self::Korean => entry.korean >= Korean::Good,
            Self::Use(what) => entry.uses.contains(what),
            Self::Language(tag) => entry.languages.iter().any(|language| language == tag),
            Self::Commercial => matches!(entry.commercial, Commercial::Free | Commercial::Conditions),
            Self::Small => entry.parameters.is_some_and(|count| count <= SMALL_MAX),
            Self::Large => entry.parameters.is_some_and(|count| count >= LARGE_MIN),
            Self::Text(text) => {
                let fields = [&entry.family, &entry.licence, &entry.description, &entry.description_ko];
                let fields = fields
                    .into_iter()
                    .map(String::as_str)
                    .chain(entry.names())
                    .chain(entry.weights.as_deref());
                fields.into_iter().any(|field| field.to_lowercase().contains(text))
            }
        }
    }
}

/// How well a word names an entry; the smaller the better.
fn rank(entry: &CatalogueEntry, word: &str) -> u8 {
    let of = |name: &str| match name.to_lowercase() {
        name if name == word => 0,
        name if name.starts_with(word) => 1,
        name if name.contains(word) => 2,
        _ => 3,
    };
    entry.names().map(of).min().unwrap_or(3)
}

/// Memory of a model in its usual quantisation, with a context of some length.
fn memory_bytes(entry: &CatalogueEntry) -> Option<u64> {
    let usual = entry.quantizations.first()?;
    let Some(blueprint) = Blueprint::of_entry(entry, usual) else {
        // Weights alone, five bits each: all that can be said.
        return entry.parameters.map(|count| count / 8 * 5);
    };
    let tokens = CONTEXT_TOKENS.min(blueprint.context_tokens);
    Some(blueprint.total_bytes(KvType::F16, tokens, STEP_TOKENS as u64))
}

fn screen(language: Language, found: &[&CatalogueEntry]) -> String {
    let header = [
        Message::FitColumnModel,
        Message::FitColumnUse,
        Message::SearchColumnSize,
        Message::SearchColumnMemory,
        Message::SearchColumnKorean,
        Message::SearchColumnCommercial,
        Message::SearchColumnAbout,
    ];
    let header: Vec<String> = header.map(|message| say(language, message, &[])).to_vec();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let row = |entry: &&CatalogueEntry| {
        let what: Vec<String> = entry.uses.iter().take(1).map(|what| use_name(language, *what)).collect();
        let mut about = description(language, entry).to_owned();
        if !runs::entry(entry) {
            about += &format!(" [{}]", say(language, Message::FitDoesNotRun, &[]));
        }
        vec![
            entry.name.clone(),
            what.join(", "),
            entry.parameters.map_or_else(String::new, units::parameters),
            memory_bytes(entry).map_or_else(String::new, units::bytes),
            korean_name(language, entry.korean),
            commercial_name(language, entry.commercial),
            about,
        ]
    };
    let rows: Vec<Vec<String>> = found.iter().map(row).collect();
    table::columns(&header, &rows)
}

/// What `show` says of a model that is only in the catalogue.
pub(crate) fn about(language: Language, entry: &CatalogueEntry) -> String {
    let title = |message| say(language, message, &[]);
    let mut rows = vec![(title(Message::RowArchitecture), entry.family.clone())];
    if let Some(count) = entry.parameters {
        let mut text = units::parameters(count);
        if let Some(active) = entry.active_parameters {
            text += &say(language, Message::ShowActive, &[("count", &units::parameters(active))]);
        }
        rows.push((title(Message::RowParameters), text));
    }
    if let Some(tokens) = entry.context_tokens {
        rows.push((title(Message::RowContextLength), tokens.to_string()));
    }
    if let Some(shape) = &entry.shape {
        rows.push((title(Message::RowEmbeddingLength), shape.width.to_string()));
    }
    rows.push((title(Message::RowQuantization), entry.quantizations.join(", ")));
    if let Some(bytes) = memory_bytes(entry) {
        let tokens = CONTEXT_TOKENS.min(entry.context_tokens.unwrap_or(CONTEXT_TOKENS)).to_string();
        let values = [("bytes", &*units::bytes(bytes)), ("tokens", &*tokens)];
        rows.push((title(Message::ShowRowMemory), say(language, Message::ShowMemory, &values)));
    }
    let answer = if runs::entry(entry) { Message::ShowRuns } else { Message::FitDoesNotRun };
    rows.push((title(Message::ShowRowHere), title(answer)));
    let mut text = format!("  {}\n\n", description(language, entry));
    text.push_str(&table::section(&title(Message::SectionModel), &rows));
    let uses: Vec<String> = entry.uses.iter().map(|what| use_name(language, *what)).collect();
    let rows = [
        (title(Message::ShowRowUses), uses.join(", ")),
        (title(Message::ShowRowLanguages), entry.languages.join(", ")),
        (title(Message::SearchColumnKorean), korean_name(language, entry.korean)),
        (title(Message::SectionLicense), entry.licence.clone()),
        (title(Message::SearchColumnCommercial), commercial_name(language, entry.commercial)),
    ];
    text.push_str(&table::section(&title(Message::ShowSectionUse), &rows));
    let mut sources: Vec<(String, String)> =
        entry.source_labels().into_iter().map(|label| (label, String::new())).collect();
    if let Some(folder) = entry.folder_label() {
        sources.push((say(language, Message::ShowFolder, &[("source", &folder)]), String::new()));
    }
    text.push_str(&table::section(&title(Message::ShowSectionSources), &sources));
    let hint = if entry.source_labels().is_empty() { Message::ShowFolderHint } else { Message::ShowPullHint };
    text.push_str(&say(language, hint, &[("model", &entry.name)]));
    text.push('\n');
    text
}

/// An entry for programs: fields as the catalogue has them.
pub(crate) fn entry_json(entry: &CatalogueEntry) -> Value {
    json!({
        "name": entry.name, "aliases": entry.aliases, "family": entry.family, "runs": runs::entry(entry),
        "uses": entry.uses, "languages": entry.languages, "korean": entry.korean, "licence": entry.licence,
        "commercial": entry.commercial, "description": entry.description, "description_ko": entry.description_ko,
        "parameters": entry.parameters, "active_parameters": entry.active_parameters,
        "context_tokens": entry.context_tokens, "quantizations": entry.quantizations, "shape": entry.shape,
        "memory_bytes": memory_bytes(entry), "sources": entry.source_labels(), "weights": entry.weights,
        "folder_package": entry.folder_package,
    })
}

fn description(language: Language, entry: &CatalogueEntry) -> &str {
    match language {
        Language::Korean => &entry.description_ko,
        Language::English => &entry.description,
    }
}

/// What a use is called.
pub(crate) fn use_name(language: Language, what: Use) -> String {
    let message = match what {
        Use::Chat => Message::UseChat,
        Use::Code => Message::UseCode,
        Use::Tools => Message::UseTools,
        Use::Thinking => Message::UseThinking,
        Use::Embedding => Message::UseEmbedding,
        Use::Rerank => Message::UseRerank,
        _ => Message::UseCompletion,
    };
    say(language, message, &[])
}

fn korean_name(language: Language, korean: Korean) -> String {
    let message = match korean {
        Korean::Strong => Message::KoreanStrong,
        Korean::Good => Message::KoreanGood,
        Korean::Fair => Message::KoreanFair,
        _ => Message::KoreanWeak,
    };
    say(language, message, &[])
}

fn commercial_name(language: Language, commercial: Commercial) -> String {
    let message = match commercial {
        Commercial::Free => Message::CommercialFree,
        Commercial::Conditions => Message::CommercialConditions,
        Commercial::No => Message::CommercialNo,
        _ => Message::CommercialUnstated,
    };
    say(language, message, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &str, arguments: Arguments, memory_max: Option<u64>) -> Vec<String> {
        let words = words.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        let arguments = Arguments { words, ..arguments };
        search(&Catalogue::embedded(), &arguments, memory_max)
            .iter()
            .map(|entry| entry.name.clone())
            .collect()
    }

    #[test]
    fn words_in_both_languages_find_the_same() {
        for (english, korean) in [
            ("korean embedding", "한국어 임베딩"),
            ("korean reranker", "한국어 재순위"),
            ("small korean chat", "작은 한국어 대화"),
            ("code", "코딩"),
            ("commercial thinking", "상업용 추론"),
            ("japanese", "일본어"),
        ] {
            let found = names(english, Arguments::default(), None);
            assert_eq!(found, names(korean, Arguments::default(), None), "{english}");
            assert!(!found.is_empty(), "{english}");
        }
    }

    #[test]
    fn the_named_one_comes_first() {
        for (words, first) in [
            ("mistral", "mistral"),
            ("llama3.1:8b", "llama3.1"),
            ("엑사원 4", ""),
            ("카카오", "kanana-nano:2.1b"),
            ("BGE-M3", "bge-m3"),
            ("no such thing at all", ""),
        ] {
            let found = names(words, Arguments::default(), None);
            assert_eq!(found.first().map_or("", String::as_str), first, "{words}: {found:?}");
        }
    }

    #[test]
    fn flags_narrow() {
        let all = names("", Arguments::default(), None);
        let check = |arguments: Arguments, memory_max, has: &str, lacks: &str| {
            let found = names("", arguments, memory_max);
            assert!(found.iter().any(|name| name == has), "{has} is not in {found:?}");
            assert!(found.iter().all(|name| name != lacks), "{lacks} is in {found:?}");
            assert!(all.iter().any(|name| name == lacks), "{lacks} is no model at all");
        };
        check(Arguments { korean: true, ..Arguments::default() }, None, "kanana1.5:8b", "llama2:7b");
        check(Arguments { commercial: true, ..Arguments::default() }, None, "kanana1.5:8b", "exaone3.5");
        check(Arguments { embedding: true, ..Arguments::default() }, None, "bge-m3", "llama3.1");
        check(Arguments { rerank: true, ..Arguments::default() }, None, "bge-reranker-v2-m3", "bge-m3");
        check(Arguments { code: true, ..Arguments::default() }, None, "starcoder2", "llama3.1");
        check(Arguments { tools: true, ..Arguments::default() }, None, "qwen3", "gemma2");
        let running = names("", Arguments { runs: true, ..Arguments::default() }, None);
        for entry in Catalogue::embedded().entries() {
            assert_eq!(running.contains(&entry.name), runs::entry(entry), "{}", entry.name);
        }
        check(Arguments::default(), Some(2 << 30), "smollm2", "llama3.1");
    }

    #[test]
    fn every_entry_can_be_shown_in_both_languages() {
        for entry in Catalogue::embedded().entries() {
            for language in [Language::English, Language::Korean] {
                let text = about(language, entry);
                assert!(text.contains(&entry.licence) && text.contains(&entry.family), "{text}");
                assert!(!text.contains('{'), "{text}");
            }
            assert!(entry_json(entry)["runs"].is_boolean());
            assert!(memory_bytes(entry).is_some_and(|bytes| bytes > 0), "{}", entry.name);
        }
    }

    #[test]
    fn what_is_found_is_told_in_the_users_language() {
        let catalogue = Catalogue::embedded();
        let found: Vec<&CatalogueEntry> =
            catalogue.entries().iter().filter(|entry| entry.name == "exaone3.5").collect();
        let korean = screen(Language::Korean, &found);
        assert!(korean.contains("한국어와 영어용") && korean.contains("7.8B"), "{korean}");
        let english = screen(Language::English, &found);
        assert!(english.contains("for Korean and English"), "{english}");
    }
}
