//! `ondol bench`: how fast a model is on this machine, and how far that is from what its memory allows. What is
//! measured, and how, is in `measure`; engineers' tables come from `cargo xtask bench`, which runs this.

use crate::commands::Context;
use crate::flags::BenchFlags;
use crate::measure::{self, Figures, Plan, Run, Work};
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::{output, table, units};

pub(crate) fn run(context: &Context, flags: &BenchFlags) -> anyhow::Result<()> {
    let located = context.model_source(&flags.model)?.locate(&flags.model)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let plan = Plan {
        prefill: flags.prefill.clone(),
        decode: flags.decode,
        contexts: flags.context.clone(),
        batches: flags.batch.iter().map(|batch| usize::from(*batch)).collect(),
        repeats: usize::from(flags.repeat),
        threads: flags.threads.map(usize::from).or(context.settings.threads).unwrap_or(cores),
        kernels: flags.kernels.clone(),
        kv_type: context.settings.kv_type,
        fast_prefill: context.settings.fast_prefill,
    };
    let language = context.settings.language;
    let packed = context.packed.reader();
    let figures =
        measure::run(located, &plan, packed.as_deref(), crate::memory::free(), &mut |work, trained| {
            let values = [("work", &*work_name(language, work)), ("context", &*trained.to_string())];
            context.terminal.note(Message::BenchSkipped, &values);
        })?;
    let text = if flags.json {
        format!("{}\n", serde_json::to_string(&figures)?)
    } else {
        screen(language, &figures)
    };
    Ok(output::print(&text)?)
}

fn screen(language: Language, figures: &Figures) -> String {
    let title = |message| say(language, message, &[]);
    let seconds = |value: f64| format!("{value:.2} s");
    let threads = figures.threads.to_string();
    let machine =
        say(language, Message::BenchMachine, &[("threads", &*threads), ("kernels", figures.kernels)]);
    let mut rows = vec![
        (title(Message::BenchRowMachine), machine),
        (title(Message::BenchRowWeights), units::bytes(figures.weight_bytes)),
        (title(Message::BenchRowLoad), seconds(figures.load_s)),
        (title(Message::BenchRowFirstToken), seconds(figures.first_token_s)),
    ];
    if figures.peak_bytes > 0 {
        rows.push((title(Message::BenchRowMemory), units::bytes(figures.peak_bytes)));
    }
    rows.push((title(Message::BenchRowBandwidth), format!("{:.1} GB/s", figures.bandwidth_gb_per_s)));
    let mut out = table::section(&figures.model, &rows);
    let header = [
        Message::BenchColumnWork,
        Message::BenchColumnSpeed,
        Message::BenchColumnStreamed,
        Message::BenchColumnShare,
    ]
    .map(title);
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = figures.runs.iter().map(|run| row(language, run, figures)).collect();
    out.push_str(&table::columns(&header, &rows));
    out
}

fn row(language: Language, run: &Run, figures: &Figures) -> Vec<String> {
    let mut cells = vec![work_name(language, run.work), format!("{:.1}", run.tokens_per_s)];
    if let Some(streamed) = run.gb_per_s {
        let share = streamed / figures.bandwidth_gb_per_s * 100.0;
        cells.extend([format!("{streamed:.1}"), format!("{share:.0} %")]);
    }
    cells
}

pub(crate) fn work_name(language: Language, work: Work) -> String {
    let (message, tokens, context, batch) = match work {
        Work::Prefill { tokens } => (Message::BenchPrefill, tokens, 0, 1),
        Work::Decode { tokens, context: 0, batch: 1 } => (Message::BenchDecode, tokens, 0, 1),
        Work::Decode { tokens, context, batch: 1 } => (Message::BenchDecodeAfter, tokens, context, 1),
        Work::Decode { tokens, context, batch } => (Message::BenchDecodeBatch, tokens, context, batch),
    };
    let [tokens, context, batch] = [tokens, context, batch].map(|number| number.to_string());
    say(language, message, &[("tokens", &tokens), ("context", &context), ("batch", &batch)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_in_both_languages() {
        let run = |work, gb_per_s| Run { work, tokens_per_s: 61.25, gb_per_s, samples: vec![61.25] };
        let figures = Figures {
            engine: "ondol",
            version: "0",
            model: "smollm2".to_owned(),
            kernels: "avx2",
            kv_type: "f16",
            fast_prefill: false,
            threads: 2,
            weight_bytes: 98_000_000,
            streamed_bytes: 98_000_000,
            matmul_weights: 106_000_000,
            was_packed: true,
            load_s: 0.25,
            first_token_s: 0.5,
            peak_bytes: 0,
            bandwidth_gb_per_s: 50.0,
            runs: vec![
                run(Work::Prefill { tokens: 512 }, None),
                run(Work::Decode { tokens: 128, context: 0, batch: 1 }, Some(40.0)),
                run(Work::Decode { tokens: 128, context: 0, batch: 16 }, Some(30.0)),
            ],
        };
        // Columns have their own tests: here only the words count.
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let check = |language, lines: &[&str]| {
            let text = screen(language, &figures);
            for line in lines {
                assert!(text.lines().any(|found| words(found) == *line), "{line:?} is not in\n{text}");
            }
        };
        check(
            Language::English,
            &[
                "machine 2 threads, avx2 kernels",
                "prefill 512 61.2",
                "decode 128 61.2 40.0 80 %",
                "decode 128, 16 at once 61.2 30.0 60 %",
            ],
        );
        check(
            Language::Korean,
            &["메모리 대역폭 50.0 GB/s", "첫 토큰까지 0.50 s", "생성 128토큰 61.2 40.0 80 %"],
        );
    }
}
