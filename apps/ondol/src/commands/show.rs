//! `ondol show`: what is known of a model, in sections, or one part of it as it is.
//! Of a model that is not here, what the catalogue knows.

use engine::LocatedModel;
use kernels::BlockType;
use registry::{Catalogue, CatalogueEntry, ModelName};

use crate::assemble;
use crate::commands::{Context, search};
use crate::flags::ShowFlags;
use crate::library::{Library, Shown};
use crate::needs::Needs;
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::{output, table};

/// Lines of the licence that the overview shows.
const LICENCE_LINES: usize = 2;
/// Characters of a metadata value that the overview shows.
const VALUE_CHARS_MAX: usize = 100;

pub(crate) fn run(context: &Context, flags: &ShowFlags) -> anyhow::Result<()> {
    let mut shown = match assemble::model_path(context.terminal, &flags.model)? {
        Some(path) => Library::show_path(path, flags.verbose)?,
        None => {
            let library = Library::open(&context.settings)?;
            if let Some(entry) = only_in_the_catalogue(&library, &flags.model)? {
                let text = match flags.json {
                    true => format!("{}\n", search::entry_json(&entry)),
                    false => search::about(context.settings.language, &entry),
                };
                return Ok(output::print(&text)?);
            }
            library.show(&flags.model, flags.verbose)?
        }
    };
    add_memory(context, &flags.model, &mut shown);
    if flags.json {
        return Ok(output::print(&format!("{}\n", serde_json::to_string(&shown)?))?);
    }
    let part = if flags.license {
        Some(&shown.licence)
    } else if flags.modelfile {
        Some(&shown.modelfile)
    } else if flags.parameters {
        Some(&shown.parameters)
    } else if flags.system {
        Some(&shown.system)
    } else if flags.template {
        Some(&shown.template)
    } else {
        None
    };
    match part {
        Some(text) => output::print(&format!("{}\n", text.trim_end()))?,
        None => output::print(&screen(context.settings.language, &shown, flags.verbose))?,
    }
    Ok(())
}

/// What the model will take here, in the form in which it is to run.
fn add_memory(context: &Context, model: &str, shown: &mut Shown) {
    let settings = &context.settings;
    let Ok(Library::Local(_)) = Library::open(settings) else { return };
    let Ok(path) = assemble::source_path(context, model) else { return };
    let located = LocatedModel { quant: settings.quant, ..LocatedModel::bare(model, path) };
    let Ok(file) = located.open(1) else { return };
    if let Some(needs) = Needs::of(&file, settings.kv_type, settings.context_tokens) {
        shown.memory = needs.row(settings.language);
    }
    // One that is quantised already stays as it is.
    let is_made = file.tensors().iter().any(|tensor| file.is_made(tensor));
    if let Some(quant) = settings.quant.filter(|_| is_made) {
        let values = [("from", &*shown.quantization), ("to", quant.mix.name())];
        shown.quantization = say(settings.language, Message::QuantisedWhileLoading, &values);
    }
}

/// The entry of a model that the catalogue knows and the store does not have.
fn only_in_the_catalogue(library: &Library, model: &str) -> anyhow::Result<Option<CatalogueEntry>> {
    let Ok(name) = ModelName::parse(model) else { return Ok(None) };
    if !matches!(library, Library::Local(_)) || library.has(model)? {
        return Ok(None);
    }
    Ok(Catalogue::embedded().find(&name).cloned())
}

/// The name of a quantisation, and that no other program reads it where that is so.
fn quantization(language: Language, name: &str) -> String {
    let is_ours = BlockType::ALL.into_iter().any(|kind| kind.is_ours() && kind.name() == name);
    if is_ours { say(language, Message::OnlyOurs, &[("quantization", name)]) } else { name.to_owned() }
}

/// The overview; also `/show info`.
pub(crate) fn screen(language: Language, shown: &Shown, verbose: bool) -> String {
    let title = |message| say(language, message, &[]);
    let row = |message, value: String| (title(message), value);
    let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let mut model = vec![
        row(Message::RowArchitecture, shown.architecture.clone()),
        row(Message::RowParameters, shown.parameter_size.clone()),
        row(Message::RowContextLength, number(shown.context_length)),
        row(Message::RowEmbeddingLength, number(shown.embedding_length)),
        row(Message::RowQuantization, quantization(language, &shown.quantization)),
        row(Message::RowMemory, shown.memory.clone()),
    ];
    model.retain(|(_, value)| !value.is_empty());
    let mut out = table::section(&title(Message::SectionModel), &model);
    let mut section = |message, rows: Vec<(String, String)>| {
        if !rows.is_empty() {
            out.push_str(&table::section(&title(message), &rows));
        }
    };
    let bare = |text: &str| (text.to_owned(), String::new());
    section(Message::SectionCapabilities, shown.capabilities.iter().map(|name| bare(name)).collect());
    section(Message::SectionParameters, shown.parameters.lines().map(pair).collect());
    section(Message::SectionSystem, shown.system.lines().map(bare).collect());
    let licence = shown.licence.lines().map(str::trim).filter(|line| !line.is_empty());
    section(Message::SectionLicense, licence.take(LICENCE_LINES).map(bare).collect());
    if verbose {
        let metadata = shown.metadata.iter().map(|(key, value)| (key.clone(), shorten(&value.to_string())));
        section(Message::SectionMetadata, metadata.collect());
        let tensors =
            shown.tensors.iter().map(|(name, kind, shape)| (name.clone(), format!("{kind:<8}{shape}")));
        section(Message::SectionTensors, tensors.collect());
    }
    out
}

/// `name   value` of a stored parameter.
fn pair(line: &str) -> (String, String) {
    let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (name.to_owned(), value.trim().to_owned())
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sections() {
        let shown = Shown {
            architecture: "llama".to_owned(),
            parameter_size: "134.52M".to_owned(),
            context_length: Some(8192),
            quantization: "Q4_1".to_owned(),
            capabilities: vec!["completion".to_owned()],
            parameters: "stop                           \"<|im_end|>\"\ntemperature                    0.2"
                .to_owned(),
            licence: "\n  Apache License\n  Version 2.0, January 2004\n more".to_owned(),
            metadata: vec![("general.name".to_owned(), json!("x".repeat(200)))],
            tensors: vec![("output.weight".to_owned(), "Q8_0".to_owned(), "[576, 49152]".to_owned())],
            ..Shown::default()
        };
        assert_eq!(
            screen(Language::English, &shown, false),
            "  Model\n    architecture      llama\n    parameters        134.52M\n    context length    8192\n    \
             quantization      Q4_1\n\n  Capabilities\n    completion\n\n  Parameters\n    \
             stop           \"<|im_end|>\"\n    temperature    0.2\n\n  License\n    Apache License\n    \
             Version 2.0, January 2004\n\n"
        );
        let verbose = screen(Language::Korean, &shown, true);
        assert!(verbose.contains("  텐서\n    output.weight    Q8_0    [576, 49152]\n"), "{verbose}");
        assert!(verbose.lines().all(|line| line.chars().count() < 160));
    }
}
