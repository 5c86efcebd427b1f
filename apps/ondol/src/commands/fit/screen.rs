//! What `ondol fit` shows on a terminal. Pure: values in, text out.
//! What it says comes from `crate::fit`.

use registry::{Commercial, Use};

use super::{Best, Blueprint, Candidate, Checked, Language, Machine, Message, Rates, Row, Wishes, say};
use crate::commands::bench::work_name;
use crate::commands::search::use_name;
use crate::terminal::{table, units};

/// The quantisation of a file is its own.
pub(super) const FILE: &str = "";

/// Whether a company may use a model, terms read or unread.
pub(super) fn is_for_companies(commercial: Commercial) -> bool {
    matches!(commercial, Commercial::Free | Commercial::Conditions)
}

/// What the machine is and can do.
pub(super) fn machine(
    language: Language,
    machine: &Machine,
    wishes: &Wishes,
    rates: Option<&Rates>,
) -> String {
    let title = |message| say(language, message, &[]);
    let mut rows = Vec::new();
    let cores = machine.cores.to_string();
    let compute = say(language, Message::FitCores, &[("cores", &cores), ("kernels", machine.kernels)]);
    let processor = machine.processor.as_ref().map(|name| format!("{name}, ")).unwrap_or_default();
    rows.push((title(Message::FitRowProcessor), format!("{processor}{compute}")));
    if let Some(bytes) = machine.memory_bytes {
        let free = machine.memory_free_bytes.map(units::bytes).unwrap_or_default();
        let mut text = say(language, Message::FitMemory, &[("total", &units::bytes(bytes)), ("free", &free)]);
        if let Some(limit) = machine.memory_limit_bytes.filter(|limit| *limit < bytes) {
            text += &say(language, Message::FitMemoryLimit, &[("limit", &units::bytes(limit))]);
        }
        rows.push((title(Message::FitRowMemory), text));
    }
    if let Some(budget) = wishes.budget_bytes {
        rows.push((title(Message::FitRowBudget), units::bytes(budget)));
    }
    if let Some(rates) = rates {
        let all = format!("{:.1}", rates.bandwidth_gb_per_s);
        let one = format!("{:.1}", rates.bandwidth_one_gb_per_s);
        rows.push((
            title(Message::FitRowBandwidth),
            say(language, Message::FitBandwidth, &[("all", &all), ("one", &one)]),
        ));
        let products = ["Q4_K", "Q8_0"].iter().filter_map(|kind| {
            let rates = rates.kinds.get(kind)?;
            Some(format!("{kind} {:.0}", 2.0 * rates.products_per_s / 1e9))
        });
        let products: Vec<String> = products.collect();
        if !products.is_empty() {
            rows.push((title(Message::FitRowProducts), format!("{} GOP/s", products.join(", "))));
        }
    }
    if let Some(free) = machine.disk_free_bytes {
        rows.push((
            title(Message::FitRowDisk),
            say(language, Message::FitDisk, &[("free", &units::bytes(free))]),
        ));
    }
    let names: Vec<&str> = machine.devices.iter().map(|device| device.name.as_str()).collect();
    let devices = match names.as_slice() {
        [] => title(Message::FitNoDevices),
        names => say(language, Message::FitDevicesUnused, &[("names", &names.join(", "))]),
    };
    rows.push((title(Message::FitRowDevices), devices));
    table::section(&title(Message::FitSectionMachine), &rows)
}

/// Models by what they are for, the smallest first.
pub(super) fn table(language: Language, candidates: &[&Candidate<'_>], all: bool, wishes: &Wishes) -> String {
    let mut sorted: Vec<&Candidate<'_>> = candidates.to_vec();
    sorted.sort_by_key(|candidate| (group(candidate), candidate.entry.parameters));
    let mut rows = Vec::new();
    let mut hidden = 0;
    for candidate in sorted {
        let what = candidate.entry.uses.first().map_or_else(String::new, |what| use_name(language, *what));
        let shown: Vec<&Row> = match all {
            true => candidate.rows.iter().collect(),
            false => candidate.advised().filter(|_| candidate.runs).into_iter().collect(),
        };
        hidden += usize::from(shown.is_empty());
        for row in shown {
            let mut cells = vec![candidate.name.to_owned(), what.clone(), row.quantization.clone()];
            cells.extend(figures(row));
            let why = match (candidate.runs, row.fits) {
                (false, _) => say(language, Message::FitDoesNotRun, &[]),
                (_, false) => say(language, Message::FitDoesNotFit, &[]),
                _ => String::new(),
            };
            cells.push(why);
            rows.push(cells);
        }
    }
    let header = header(
        language,
        &[Message::FitColumnModel, Message::FitColumnUse, Message::FitColumnQuantization],
        wishes,
    );
    let mut text = columns(&header, &rows);
    if hidden > 0 {
        text.push('\n');
        text.push_str(&say(language, Message::FitHidden, &[("count", &hidden.to_string())]));
        text.push('\n');
    }
    text
}

fn group(candidate: &Candidate<'_>) -> u8 {
    match candidate.entry.uses.first() {
        Some(Use::Chat) => 0,
        Some(Use::Code) => 1,
        Some(Use::Completion) => 2,
        Some(Use::Embedding) => 3,
        _ => 4,
    }
}

fn header(language: Language, first: &[Message], wishes: &Wishes) -> Vec<String> {
    let tokens = wishes.context_tokens.to_string();
    let mut header: Vec<String> = first.iter().map(|message| say(language, *message, &[])).collect();
    header.push(say(language, Message::FitColumnWeights, &[]));
    header.push(say(language, Message::FitColumnKv, &[("type", wishes.kv_type.name()), ("tokens", &tokens)]));
    let rest = [
        Message::FitColumnTotal,
        Message::FitColumnPrefill,
        Message::FitColumnDecode,
        Message::FitColumnContext,
    ];
    header.extend(rest.map(|message| say(language, message, &[])));
    header.push(String::new());
    header
}

fn figures(row: &Row) -> Vec<String> {
    let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), tokens_per_s);
    vec![
        units::bytes(row.weight_bytes),
        units::bytes(row.kv_bytes),
        units::bytes(row.total_bytes),
        rate(row.speed.map(|speed| speed.prefill_tokens_per_s)),
        rate(row.speed.and_then(|speed| speed.decode_tokens_per_s)),
        row.context_tokens_max.map_or_else(|| "-".to_owned(), |tokens| tokens.to_string()),
    ]
}

fn tokens_per_s(value: f64) -> String {
    if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn columns(header: &[String], rows: &[Vec<String>]) -> String {
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table::columns(&header, rows)
}

/// What is the best for me.
pub(super) fn advice(language: Language, best: &Best) -> String {
    let title = |message| say(language, message, &[]);
    let rows = [
        (Message::FitBestKorean, &best.korean_chat),
        (Message::FitBestChat, &best.chat),
        (Message::FitBestEmbedding, &best.embedding),
        (Message::FitBestRerank, &best.rerank),
    ];
    let rows = rows
        .map(|(message, name)| (title(message), name.clone().unwrap_or_else(|| title(Message::FitBestNone))));
    format!("\n{}", table::section(&title(Message::FitSectionBest), &rows))
}

/// One model: by quantisation, and by context.
pub(super) fn model(
    language: Language,
    name: &str,
    of: &Blueprint,
    runs: bool,
    rows: &[Row],
    contexts: &[Row],
    wishes: &Wishes,
) -> String {
    let title = |message| say(language, message, &[]);
    let mut about = vec![
        (title(Message::RowArchitecture), of.family.clone()),
        (title(Message::RowParameters), units::parameters(of.parameters())),
        (title(Message::RowContextLength), of.context_tokens.to_string()),
    ];
    if !runs {
        about.push((String::new(), title(Message::FitDoesNotRun)));
    }
    let mut text = table::section(name, &about);
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let quantization = match row.quantization.as_str() {
                FILE => title(Message::FitThisFile),
                other => other.to_owned(),
            };
            let mut cells = vec![quantization];
            cells.extend(figures(row));
            cells.push(if row.fits { String::new() } else { title(Message::FitDoesNotFit) });
            cells
        })
        .collect();
    text.push_str(&columns(&header(language, &[Message::FitColumnQuantization], wishes), &lines));
    if of.is_encoder {
        return text;
    }
    let header = [
        Message::FitColumnAfter,
        Message::FitColumnKvF16,
        Message::FitColumnKvQ8,
        Message::FitColumnTotal,
        Message::FitColumnPrefill,
        Message::FitColumnDecode,
    ];
    let mut header: Vec<String> = header.map(title).to_vec();
    header.push(String::new());
    let lines: Vec<Vec<String>> = contexts
        .iter()
        .map(|row| {
            let rate = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), tokens_per_s);
            vec![
                row.context_tokens.to_string(),
                units::bytes(of.kv_bytes(kernels::KvType::F16, row.context_tokens)),
                units::bytes(row.kv_bytes_q8_0),
                units::bytes(row.total_bytes),
                rate(row.speed.map(|speed| speed.prefill_tokens_per_s)),
                rate(row.speed.and_then(|speed| speed.decode_tokens_per_s)),
                if row.fits { String::new() } else { title(Message::FitDoesNotFit) },
            ]
        })
        .collect();
    text.push('\n');
    text.push_str(&columns(&header, &lines));
    text
}

/// Prediction and measurement.
pub(super) fn checked(language: Language, lines: &[Checked], drift: f64) -> String {
    let header = [
        Message::BenchColumnWork,
        Message::FitColumnPredicted,
        Message::FitColumnMeasured,
        Message::FitColumnError,
    ];
    let header: Vec<String> = header.map(|message| say(language, message, &[])).to_vec();
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            vec![
                work_name(language, line.work),
                tokens_per_s(line.predicted_tokens_per_s),
                tokens_per_s(line.measured_tokens_per_s),
                format!("{:+.1} %", line.error * 100.0),
            ]
        })
        .collect();
    let mut text = format!("\n{}", columns(&header, &rows));
    if drift >= super::DRIFT_MAX {
        let percent = format!("{:.0}", drift * 100.0);
        text.push_str(&say(language, Message::FitDrift, &[("percent", &percent)]));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use kernels::KvType;
    use registry::Catalogue;

    use super::*;
    use crate::fit::advice;
    use crate::fit::predict::tests::rates;
    use crate::measure::Work;

    const GIB: u64 = 1 << 30;

    fn wishes() -> Wishes {
        Wishes { budget_bytes: Some(8 * GIB), kv_type: KvType::F16, context_tokens: 4096 }
    }

    #[test]
    fn the_machine_in_both_languages() {
        let here = Machine {
            processor: Some("EPYC".to_owned()),
            cores: 2,
            kernels: "avx512",
            memory_bytes: Some(24_000_000_000),
            memory_free_bytes: Some(20_000_000_000),
            memory_limit_bytes: Some(16_000_000_000),
            ..Machine::default()
        };
        let english = machine(Language::English, &here, &wishes(), Some(&rates()));
        for part in ["EPYC, 2 cores, avx512 kernels", "24 GB, 20 GB free, 16 GB allowed", "10.0 GB/s", "none"]
        {
            assert!(english.contains(part), "{part} is not in\n{english}");
        }
        let korean = machine(Language::Korean, &here, &wishes(), None);
        assert!(korean.contains("코어 2개") && !korean.contains("GB/s"), "{korean}");
    }

    #[test]
    fn the_table_shows_what_runs_and_fits_unless_all_is_asked_for() {
        let catalogue = Catalogue::embedded();
        let rates = rates();
        let only_llama = |entry: &registry::CatalogueEntry| entry.family == "llama";
        let all = advice::candidates(catalogue.entries(), only_llama, &wishes(), Some(&rates));
        let shown: Vec<&Candidate<'_>> = all.iter().collect();
        let text = table(Language::English, &shown, false, &wishes());
        let has = |text: &str, name: &str| text.lines().any(|line| line.split(' ').next() == Some(name));
        assert!(has(&text, "llama3.1") && !has(&text, "llama3.1:70b") && !has(&text, "qwen3"), "{text}");
        assert!(text.contains("KV F16 4096") || text.contains("KV f16 4096"), "{text}");
        let text = table(Language::Korean, &shown, true, &wishes());
        assert!(has(&text, "llama3.1:70b") && has(&text, "qwen3"), "{text}");
        assert!(text.lines().filter(|line| line.starts_with("llama3.1 ")).count() >= 4, "{text}");
    }

    #[test]
    fn errors_have_a_sign() {
        let line = Checked {
            work: Work::Prefill { tokens: 512 },
            predicted_tokens_per_s: 95.0,
            measured_tokens_per_s: 100.0,
            error: -0.05,
            drift: 0.3,
        };
        let text = checked(Language::English, std::slice::from_ref(&line), 0.3);
        assert!(text.contains("changed by 30 %"), "{text}");
        let text = checked(Language::English, &[line], 0.02);
        assert!(!text.contains("changed"), "{text}");
        assert!(text.contains("-5.0 %") && text.contains("prefill 512"), "{text}");
    }
}
