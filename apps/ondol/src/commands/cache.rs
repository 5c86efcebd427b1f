//! `ondol cache`: the packed weights that are kept between runs. Shows them, fills the cache ahead of the first run, reads
//! all of it and removes what is damaged, or empties it.

use std::path::Path;
use std::time::{Duration, SystemTime};

use engine::{LoadOptions, Loaded};
use kernels::{Cpu, KvType};
use registry::{Kept, PackedEntry, PackedFolder};
use weights::{PackedError, PackedFile};

use crate::commands::Context;
use crate::flags::CacheFlags;
use crate::packed::Filler;
use crate::terminal::failure::Failure;
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::{output, table, units};

/// A file that was written a moment ago is waited for so often, for so long: see `registry::Kept::Unsettled`.
const SETTLING: (usize, Duration) = (5, Duration::from_secs(1));

pub(crate) fn run(context: &Context, flags: &CacheFlags) -> anyhow::Result<()> {
    let Some(folder) = context.packed.folder() else {
        return Err(Failure::new(context.terminal.say(Message::CacheOff, &[])).into());
    };
    if flags.clear {
        folder.clear()?;
        return Ok(output::print(&format!("{}\n", context.terminal.say(Message::CacheCleared, &[])))?);
    }
    if flags.verify {
        return verify(context, folder);
    }
    for model in &flags.fill {
        fill(context, folder, model)?;
    }
    if flags.fill.is_empty() {
        output::print(&screen(context.terminal.language, &folder.list()?, SystemTime::now()))?;
    }
    Ok(())
}

fn fill(context: &Context, folder: &PackedFolder, model: &str) -> anyhow::Result<()> {
    let located = context.model_source(model)?.locate(model)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut compute = Cpu::new(context.settings.threads.unwrap_or(cores));
    let options = LoadOptions { kv_type: KvType::F16, memory_bytes: None, context_tokens: None };
    let mut tries = 0;
    let (message, bytes) = loop {
        let filler = Filler::new(folder);
        drop(Loaded::load_kept(located.clone(), options, Some(&filler), &mut compute)?);
        match filler.outcome().transpose()? {
            None | Some(Kept::Already) => break (Message::CacheAlready, 0),
            Some(Kept::Whole(bytes)) => break (Message::CacheKept, bytes),
            Some(Kept::Unsettled) if tries < SETTLING.0 => {
                tries += 1;
                std::thread::sleep(SETTLING.1);
            }
            Some(Kept::NoRoom { needed_bytes }) => {
                let values = [("model", model), ("needed", &*units::bytes(needed_bytes))];
                return Err(Failure::new(context.terminal.say(Message::CacheNoRoom, &values)).into());
            }
            Some(_) => {
                return Err(
                    Failure::new(context.terminal.say(Message::CacheBusy, &[("model", model)])).into()
                );
            }
        }
    };
    let values = [("model", model), ("size", &*units::bytes(bytes))];
    Ok(output::print(&format!("{}\n", context.terminal.say(message, &values)))?)
}

/// Reads every file whole. What is damaged is removed: the next load packs it again.
fn verify(context: &Context, folder: &PackedFolder) -> anyhow::Result<()> {
    let mut damaged = 0;
    for entry in folder.list()? {
        let state = match PackedFile::open(&entry.path).and_then(|file| file.verify()) {
            Ok(()) => Message::CacheSound,
            // Of another version of this program, which may still want it.
            Err(PackedError::Version { .. }) => Message::CacheOtherVersion,
            Err(error) => {
                tracing::warn!(path = %entry.path.display(), %error, "removed");
                std::fs::remove_file(&entry.path)?;
                damaged += 1;
                Message::CacheDamaged
            }
        };
        output::print(&format!("{}: {}\n", name(&entry), context.terminal.say(state, &[])))?;
    }
    match damaged {
        0 => Ok(()),
        _ => {
            let count = damaged.to_string();
            Err(Failure::new(context.terminal.say(Message::CacheWasDamaged, &[("count", &count)])).into())
        }
    }
}

fn screen(language: Language, entries: &[PackedEntry], now: SystemTime) -> String {
    let row = |entry: &PackedEntry| {
        let state = if entry.is_current { Message::CacheCurrent } else { Message::CacheStale };
        vec![
            name(entry),
            units::bytes(entry.size_bytes),
            units::distance(language, now, entry.used),
            say(language, state, &[]),
        ]
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    table::columns(&["MODEL FILE", "SIZE", "USED", "STATE"], &rows)
}

/// The model's file, or the cache's own where that cannot be read.
fn name(entry: &PackedEntry) -> String {
    let path: &Path = if entry.source.as_os_str().is_empty() { &entry.path } else { &entry.source };
    path.display().to_string()
}
