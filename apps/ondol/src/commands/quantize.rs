//! `ondol quantize`: a model in fewer bits, as a GGUF file. Tensors stream from one file to the other, so memory is bound
//! by pieces of a tensor; the file is there whole or not at all. Ends with a report: sizes, the error of each tensor, and,
//! with a text, how much worse the model predicts it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use kernels::BlockType;
use weights::Gguf;
use weights::quantize::{Imatrix, Keep, Mix, Options, Quantization, TensorReport};

use crate::assemble;
use crate::commands::{Context, convert, eval, imatrix};
use crate::measure;
use crate::settings::invalid_setting;
use crate::terminal::messages::Message;
use crate::terminal::output;
use crate::terminal::units;

#[derive(Debug, Args)]
pub(crate) struct QuantizeFlags {
    /// A .gguf file, a folder with safetensors, or a model of the store
    pub source: String,
    /// The GGUF file to write
    pub output: PathBuf,
    /// Mix of types, for example Q4_K_M or Q8_0; NF4 is read by Ondol only
    #[arg(long, short = 't', value_name = "TYPE")]
    pub r#type: String,
    /// What errors in each column count: an importance matrix, or a text to make one of
    #[arg(long, value_name = "FILE")]
    pub imatrix: Option<PathBuf>,
    /// Give tensors of this name (* stands for any characters) this type, or without one leave them as they are
    #[arg(long, value_name = "NAME=TYPE")]
    pub keep: Vec<String>,
    /// A text: perplexity before and after is measured on it
    #[arg(long, value_name = "TEXT")]
    pub eval: Option<PathBuf>,
    /// How the report is printed
    #[arg(long, value_enum, value_name = "FORM", default_value_t = ReportForm::Text)]
    pub report: ReportForm,
    /// Replace the file if it is there
    #[arg(long)]
    pub force: bool,
    /// Threads to compute with
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportForm {
    Text,
    Json,
}

/// Tensors with the largest errors that the report names.
const WORST: usize = 5;

pub(crate) fn run(context: &Context, flags: &QuantizeFlags) -> anyhow::Result<()> {
    let language = context.settings.language;
    let wrong = |flag, value: &str| invalid_setting(language, flag, value, Message::WantedQuantization);
    let mix = Mix::parse(&flags.r#type).ok_or_else(|| wrong("--type", &flags.r#type))?;
    let keep = flags.keep.iter().map(|text| Keep::parse(text).map_err(|_| wrong("--keep", text)));
    let keep = keep.collect::<Result<Vec<_>, _>>()?;
    let path = assemble::source_path(context, &flags.source)?;
    if same_file(&path, &flags.output) {
        bail!("{} is the model itself: name another file to write", flags.output.display());
    }
    let source = weights::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let imatrix = flags.imatrix.as_deref().map(|file| matrix_of(context, &path, file)).transpose()?;
    let began = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = flags.threads.map(usize::from).or(context.settings.threads).unwrap_or(cores);
    let work = Quantization::new(&source, Options { mix, keep, imatrix, threads })?;
    warn_of_low_sources(context, &work);
    convert::warn_of_own_types(context, &flags.output, work.tensors().map(|(_, kind)| kind));
    let size = work.size_bytes();
    let tensors =
        convert::write(context, &flags.output, size, flags.force, |out, told| work.write(out, told))?;
    let report = Report {
        mix,
        output: flags.output.clone(),
        bytes_before: file_bytes(&source),
        bytes_after: size,
        seconds: began.elapsed().as_secs_f64(),
        peak_memory_bytes: Some(measure::peak_bytes_now()).filter(|bytes| *bytes > 0),
        perplexity: perplexity(context, flags, &path)?,
        tensors,
    };
    match flags.report {
        ReportForm::Text => output::print(&report.text(context))?,
        ReportForm::Json => output::print(&format!("{}\n", report.json()))?,
    }
    Ok(())
}

/// Whether two paths lead to one file.
fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The importance matrix in a file, or the one of the text in it.
fn matrix_of(context: &Context, model: &Path, file: &Path) -> anyhow::Result<Imatrix> {
    let cannot = || format!("cannot read {}", file.display());
    let mut magic = [0; 4];
    let mut opened = std::fs::File::open(file).with_context(cannot)?;
    let is_gguf = std::io::Read::read_exact(&mut opened, &mut magic).is_ok() && &magic == b"GGUF";
    if is_gguf {
        return Imatrix::open(file).with_context(cannot);
    }
    imatrix::collect(context, model, file, imatrix::WINDOW_TOKENS, None)
}

/// Says that a model which has lost bits before loses more than one that has not.
fn warn_of_low_sources(context: &Context, work: &Quantization) {
    let whole = [BlockType::F32, BlockType::F16, BlockType::BF16, BlockType::Q8_0];
    let lossy = |(tensor, to): &(&weights::Tensor, BlockType)| {
        tensor.block_type != *to && !whole.contains(&tensor.block_type)
    };
    let mut low: Vec<&str> =
        work.tensors().filter(lossy).map(|(tensor, _)| tensor.block_type.name()).collect();
    low.sort_unstable();
    low.dedup();
    if !low.is_empty() {
        context.terminal.note(Message::RequantizeWarning, &[("types", &low.join(", "))]);
    }
}

/// Of the model before and after, on the text that was named.
fn perplexity(context: &Context, flags: &QuantizeFlags, source: &Path) -> anyhow::Result<Option<(f64, f64)>> {
    let Some(text) = &flags.eval else { return Ok(None) };
    let text = std::fs::read_to_string(text).with_context(|| format!("cannot read {}", text.display()))?;
    let before = eval::perplexity(context, source, &text)?;
    let after = eval::perplexity(context, &flags.output, &text)?;
    Ok(Some((before, after)))
}

/// Bytes of all tensors of a model.
fn file_bytes(source: &Gguf) -> u64 {
    source.tensors().iter().map(|tensor| tensor.size_bytes() as u64).sum::<u64>()
        + source.header().len() as u64
}

/// What the command has to say at its end.
struct Report {
    mix: Mix,
    output: PathBuf,
    bytes_before: u64,
    bytes_after: u64,
    seconds: f64,
    /// `None` where the system does not tell.
    peak_memory_bytes: Option<u64>,
    /// Before and after.
    perplexity: Option<(f64, f64)>,
    tensors: Vec<TensorReport>,
}

impl Report {
    fn bits(&self, bytes: impl Fn(&TensorReport) -> u64) -> f64 {
        let weights: u64 = self.tensors.iter().map(|tensor| tensor.weights).sum();
        let bytes: u64 = self.tensors.iter().map(bytes).sum();
        8.0 * bytes as f64 / weights.max(1) as f64
    }

    /// Types with how many tensors have them, the most frequent first.
    fn types(&self) -> Vec<(&'static str, usize)> {
        let mut types: Vec<(&'static str, usize)> = Vec::new();
        for tensor in &self.tensors {
            match types.iter_mut().find(|(name, _)| *name == tensor.to.name()) {
                Some((_, count)) => *count += 1,
                None => types.push((tensor.to.name(), 1)),
            }
        }
        types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        types
    }

    fn worst(&self) -> Vec<&TensorReport> {
        let error = |tensor: &TensorReport| tensor.relative_rms.unwrap_or_default();
        let mut tensors: Vec<&TensorReport> =
            self.tensors.iter().filter(|tensor| tensor.relative_rms.is_some()).collect();
        tensors.sort_by(|a, b| error(b).total_cmp(&error(a)));
        tensors.truncate(WORST);
        tensors
    }

    fn text(&self, context: &Context) -> String {
        let say = |message, values: &[(&str, &str)]| context.terminal.say(message, values);
        let mut lines = vec![say(
            Message::Quantized,
            &[("path", &self.output.display().to_string()), ("type", self.mix.name())],
        )];
        let mut row = |name, value: String| lines.push(format!("  {}  {value}", say(name, &[])));
        let types: Vec<String> =
            self.types().iter().map(|(name, count)| format!("{count} × {name}")).collect();
        row(
            Message::QuantizedSize,
            format!("{} → {}", units::bytes(self.bytes_before), units::bytes(self.bytes_after)),
        );
        row(
            Message::QuantizedBits,
            format!("{:.2} → {:.2}", self.bits(|t| t.bytes_before), self.bits(|t| t.bytes_after)),
        );
        row(Message::QuantizedTypes, types.join(", "));
        row(Message::QuantizedTime, format!("{:.1} s", self.seconds));
        if let Some(peak) = self.peak_memory_bytes {
            row(Message::QuantizedMemory, units::bytes(peak));
        }
        if let Some((before, after)) = self.perplexity {
            let change = (after / before - 1.0) * 100.0;
            row(Message::QuantizedPerplexity, format!("{before:.4} → {after:.4} ({change:+.2} %)"));
        }
        for tensor in self.worst() {
            let error = tensor.relative_rms.unwrap_or_default() * 100.0;
            row(Message::QuantizedWorst, format!("{error:6.3} %  {}  {}", tensor.to.name(), tensor.name));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn json(&self) -> serde_json::Value {
        let tensor = |tensor: &TensorReport| {
            serde_json::json!({
                "name": tensor.name, "from": tensor.from.name(), "to": tensor.to.name(), "weights": tensor.weights,
                "bytes_before": tensor.bytes_before, "bytes_after": tensor.bytes_after,
                "relative_rms": tensor.relative_rms, "has_importance": tensor.has_importance,
            })
        };
        let mut out = serde_json::json!({
            "output": self.output, "type": self.mix.name(), "file_type": self.mix.file_type(),
            "bytes_before": self.bytes_before, "bytes_after": self.bytes_after,
            "bits_per_weight_before": self.bits(|tensor| tensor.bytes_before),
            "bits_per_weight": self.bits(|tensor| tensor.bytes_after),
            "seconds": self.seconds, "peak_memory_bytes": self.peak_memory_bytes,
            "tensors": self.tensors.iter().map(tensor).collect::<Vec<_>>(),
        });
        if let Some((before, after)) = self.perplexity {
            out["perplexity_before"] = before.into();
            out["perplexity_after"] = after.into();
        }
        out
    }
}
