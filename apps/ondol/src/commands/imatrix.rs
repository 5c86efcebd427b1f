//! `ondol imatrix`: what a model's matrices are multiplied with over a text, as a file that `ondol quantize --imatrix` and
//! llama.cpp's tools read.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use engine::{LoadOptions, Loaded, LocatedModel, importance, perplexity};
use kernels::{Cpu, KvType};
use weights::quantize::Imatrix;

use crate::assemble;
use crate::commands::Context;
use crate::terminal::failure::Failure;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::messages::Message;
use crate::terminal::output;
use crate::terminal::progress::PullView;
use crate::whole_file::WholeFile;

/// Tokens of a window, as llama.cpp's tool has them.
pub(crate) const WINDOW_TOKENS: usize = 512;

#[derive(Debug, Args)]
pub(crate) struct ImatrixFlags {
    /// A .gguf file, a folder with safetensors, or a model of the store
    pub source: String,
    /// The text, UTF-8: like what the model is to be used for
    #[arg(long, value_name = "FILE")]
    pub text: PathBuf,
    /// The file to write
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: PathBuf,
    /// Tokens of a window
    #[arg(long, value_name = "TOKENS", default_value_t = WINDOW_TOKENS)]
    pub window: usize,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
    /// Threads to compute with
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

pub(crate) fn run(context: &Context, flags: &ImatrixFlags) -> anyhow::Result<()> {
    let path = assemble::source_path(context, &flags.source)?;
    // Before the work: a file that cannot be written is said at once.
    let mut file = WholeFile::create(&flags.output, 0, flags.force)?;
    let matrix = collect(context, &path, &flags.text, flags.window, flags.threads)?;
    matrix.write(&mut file).with_context(|| format!("cannot write {}", flags.output.display()))?;
    file.finish()?;
    let values = [
        ("path", &*flags.output.display().to_string()),
        ("count", &*matrix.entries.len().to_string()),
        ("windows", &*matrix.chunks.to_string()),
        ("tokens", &*matrix.chunk_tokens.to_string()),
    ];
    Ok(output::print(&format!("{}\n", context.terminal.say(Message::ImatrixWritten, &values)))?)
}

/// Runs a model over a text and sums up what its matrices are multiplied with, showing how far it is.
pub(crate) fn collect(
    context: &Context,
    model: &Path,
    text_file: &Path,
    window: usize,
    threads: Option<u16>,
) -> anyhow::Result<Imatrix> {
    let text = std::fs::read_to_string(text_file)
        .with_context(|| format!("cannot read {} as a text", text_file.display()))?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = threads.map(usize::from).or(context.settings.threads).unwrap_or(cores);
    let mut compute = Cpu::new(threads);
    compute.watch();
    let options = LoadOptions { kv_type: KvType::F32, memory_bytes: None, context_tokens: None };
    let located = LocatedModel::bare(model.display().to_string(), model);
    let loaded = Loaded::load(located, options, &mut compute)?;
    let trained = loaded.model.shape().context_tokens as usize;
    if !(16..=trained).contains(&window) {
        bail!("--window must be between 16 and the model's context of {trained} tokens");
    }
    let (tokens, start) = perplexity::tokens(&loaded, &text)?;
    if tokens.len() < 16 {
        bail!(
            "{} has {} tokens: take a longer text, of some ten thousand",
            text_file.display(),
            tokens.len()
        );
    }
    let interrupt = Interrupt::listen()?;
    let name = text_file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut view = PullView::new(context.terminal);
    let window = window.min(tokens.len() + start.len());
    let mut matrix =
        importance::collect(&loaded, &mut compute, &tokens, &start, window, &mut |done, all| {
            let bytes = |windows: usize| (text.len() as u64 * windows as u64) / all as u64;
            view.file(&name, bytes(all), bytes(done), Instant::now());
            !interrupt.is_pressed()
        })?;
    drop(view);
    if interrupt.is_pressed() {
        return Err(Failure::new(context.terminal.say(Message::WriteStopped, &[("path", &name)])).into());
    }
    matrix.datasets = vec![name];
    Ok(matrix)
}
