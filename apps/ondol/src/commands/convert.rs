//! `ondol convert`: a folder with safetensors, or a GGUF file of another type, to a GGUF file. Tensors stream from one to the
//! other; the file is there whole or not at all.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use kernels::BlockType;
use weights::convert::{self, Precision};
use weights::recast::{RecastError, Written};

use crate::assemble;
use crate::commands::Context;
use crate::settings::invalid_setting;
use crate::terminal::failure::Failure;
use crate::terminal::interrupt::Interrupt;
use crate::terminal::messages::Message;
use crate::terminal::progress::PullView;
use crate::terminal::{output, units};
use crate::whole_file::WholeFile;

#[derive(Debug, Args)]
pub(crate) struct ConvertFlags {
    /// A folder with safetensors, a .gguf file, or a model of the store
    pub source: String,
    /// The GGUF file to write
    #[arg(long, short = 'o', value_name = "FILE")]
    pub output: std::path::PathBuf,
    /// Type of the matrices: stored (as they are), f32, f16, bf16 or q8_0; for other types --quant
    #[arg(long, value_name = "TYPE", default_value = "stored")]
    pub r#type: String,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
    /// Threads to compute with
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

pub(crate) fn run(context: &Context, flags: &ConvertFlags) -> anyhow::Result<()> {
    let language = context.settings.language;
    let precision = Precision::parse(&flags.r#type)
        .ok_or_else(|| invalid_setting(language, "--type", &flags.r#type, Message::WantedPrecision))?;
    let path = assemble::source_path(context, &flags.source)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = flags.threads.map(usize::from).or(context.settings.threads).unwrap_or(cores);
    // The variable is for models that are run: only the flag means this file.
    let quant = context.settings.quant.filter(|quant| quant.required);
    if quant.is_some() && precision != Precision::Stored {
        return Err(Failure::new(context.terminal.say(Message::QuantOrType, &[])).into());
    }
    let source =
        weights::open_as(&path, quant, threads).with_context(|| format!("cannot read {}", path.display()))?;
    let recast = convert::to_gguf(&source, precision, threads);
    write(context, &flags.output, recast.size_bytes(), flags.force, |out, told| recast.write(out, told))?;
    warn_of_own_types(context, &flags.output, recast.tensors().map(|(_, kind)| kind));
    let values = [
        ("path", &*flags.output.display().to_string()),
        ("size", &*units::bytes(recast.size_bytes())),
        ("count", &*recast.tensors().count().to_string()),
    ];
    Ok(output::print(&format!("{}\n", context.terminal.say(Message::Converted, &values)))?)
}

/// Says that a file has types which no other program reads.
pub(crate) fn warn_of_own_types(context: &Context, path: &Path, kinds: impl Iterator<Item = BlockType>) {
    if let Some(kind) = kinds.into_iter().find(|kind| kind.is_ours()) {
        let values = [("types", kind.name()), ("path", &*path.display().to_string())];
        context.terminal.note(Message::OnlyOursWarning, &values);
    }
}

/// Writes a model that is made anew to its file, showing how far it is; Ctrl-C ends it, and leaves nothing.
/// `work` writes its bytes, and what it returns is returned.
pub(crate) fn write<T>(
    context: &Context,
    target: &Path,
    size_bytes: u64,
    replace: bool,
    work: impl FnOnce(&mut dyn std::io::Write, &mut dyn FnMut(Written<'_>)) -> Result<T, RecastError>,
) -> anyhow::Result<T> {
    let mut file = WholeFile::create(target, size_bytes, replace)?;
    let interrupt = Interrupt::listen()?;
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut view = PullView::new(context.terminal);
    let mut out = Stoppable { out: &mut file, interrupt };
    let outcome = work(&mut out, &mut |Written { bytes, total_bytes, .. }| {
        view.file(&name, total_bytes, bytes, Instant::now());
    });
    drop(view);
    if outcome.is_err() && out.stopped() {
        return Err(Failure::new(context.terminal.say(Message::WriteStopped, &[("path", &name)])).into());
    }
    let made = outcome?;
    file.finish()?;
    Ok(made)
}

/// Fails to write once Ctrl-C was pressed.
struct Stoppable<'a> {
    out: &'a mut WholeFile,
    interrupt: Interrupt,
}

impl Stoppable<'_> {
    fn stopped(&self) -> bool {
        self.interrupt.is_pressed()
    }
}

impl std::io::Write for Stoppable<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.stopped() {
            // Not `Interrupted`, which writers try again upon.
            return Err(std::io::Error::other("stopped"));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
