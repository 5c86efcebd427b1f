//! `ondol embed`: texts to vectors, one line of JSON each. It computes in this process; a server has `/api/embed`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use anyhow::Context as _;
use clap::Args;
use contract::{EmbedInput, EmbedRequest, Embedder, Embeddings, GenerateError, Reply};
use serde::Serialize;

use crate::assemble::{self, Models};
use crate::commands::Context;
use crate::terminal::failure;
use crate::terminal::output;

/// Texts that are computed before their lines are printed.
const BATCH: usize = 256;

#[derive(Debug, Args)]
pub(crate) struct EmbedFlags {
    /// A model's name, a .gguf file or a folder
    pub model: String,
    /// Texts, each a vector
    pub texts: Vec<String>,
    /// More texts, one a line; - for standard input
    #[arg(long, short = 'f', value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The first so many numbers of each vector
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub dimensions: Option<u32>,
    /// Vectors as the model has them, not of length 1
    #[arg(long)]
    pub raw: bool,
    /// Refuse texts that are longer than the model's context, in place of cutting them
    #[arg(long)]
    pub no_truncate: bool,
    /// Threads to compute with
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// A line of the output.
#[derive(Debug, Serialize)]
struct Line<'a> {
    index: usize,
    tokens: u32,
    truncated: bool,
    embedding: &'a [f32],
}

/// Runs the command.
pub(crate) fn run(context: &Context, flags: &EmbedFlags) -> anyhow::Result<()> {
    let mut texts = flags.texts.clone();
    if let Some(path) = &flags.file {
        let whole = read(path).with_context(|| path.display().to_string())?;
        texts.extend(whole.lines().map(str::to_owned));
    }
    let source = context.model_source(&flags.model)?;
    let host = assemble::host(&context.settings, source, flags.threads.map(usize::from), Models::One);
    let mut index = 0;
    for batch in texts.chunks(BATCH) {
        let inputs = batch.iter().map(|text| EmbedInput::Text(text.clone())).collect();
        let request = EmbedRequest {
            dimensions: flags.dimensions,
            normalise: Some(!flags.raw),
            truncate: !flags.no_truncate,
            ..EmbedRequest::new(&flags.model, inputs)
        };
        let found = answer(&host, request)
            .map_err(|error| failure::of_generation(context.terminal.language, &error))?;
        let mut lines = String::new();
        for one in &found.all {
            let line = Line { index, tokens: one.tokens, truncated: one.truncated, embedding: &one.values };
            lines.push_str(&serde_json::to_string(&line)?);
            lines.push('\n');
            index += 1;
        }
        output::print(&lines)?;
    }
    Ok(())
}

fn read(path: &Path) -> std::io::Result<String> {
    if path == Path::new("-") {
        let mut whole = String::new();
        std::io::stdin().read_to_string(&mut whole)?;
        return Ok(whole);
    }
    std::fs::read_to_string(path)
}

/// Waits for the vectors.
fn answer(host: &dyn Embedder, request: EmbedRequest) -> Result<Embeddings, GenerateError> {
    let (sender, receiver) = sync_channel(1);
    host.embed(request, Box::new(Waiting(sender)));
    receiver.recv().unwrap_or_else(|_| {
        Err(GenerateError::Internal { message: "the answer broke off without an end".to_owned() })
    })
}

struct Waiting(SyncSender<Result<Embeddings, GenerateError>>);

impl Reply<Embeddings> for Waiting {
    fn send(self: Box<Self>, answer: Result<Embeddings, GenerateError>) {
        // The one who waits is in this process, and waits.
        let _ = self.0.send(answer);
    }

    fn is_open(&self) -> bool {
        true
    }
}
