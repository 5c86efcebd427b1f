//! `ondol list`: the models of the store, last changed first.

use std::time::SystemTime;

use crate::commands::Context;
use crate::flags::ListFlags;
use crate::library::{Library, Listed};
use crate::terminal::messages::Language;
use crate::terminal::{output, table, units};

pub(crate) fn run(context: &Context, flags: &ListFlags) -> anyhow::Result<()> {
    let mut models = Library::open(&context.settings)?.list()?;
    if let Some(prefix) = &flags.prefix {
        let prefix = prefix.to_lowercase();
        models.retain(|model| model.name.to_lowercase().starts_with(&prefix));
    }
    output::print(&screen(context.settings.language, &models, SystemTime::now()))?;
    Ok(())
}

fn screen(language: Language, models: &[Listed], now: SystemTime) -> String {
    let row = |model: &Listed| {
        vec![
            model.name.clone(),
            short_id(&model.digest),
            units::bytes(model.size_bytes),
            model.modified.map_or_else(String::new, |then| units::distance(language, now, then)),
        ]
    };
    let rows: Vec<Vec<String>> = models.iter().map(row).collect();
    table::columns(&["NAME", "ID", "SIZE", "MODIFIED"], &rows)
}

/// The first twelve digits of a digest, with or without its `sha256:`.
pub(crate) fn short_id(digest: &str) -> String {
    digest.rsplit(':').next().unwrap_or_default().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_screen_in_both_languages() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let models = [Listed {
            name: "smollm2:latest".to_owned(),
            digest: "sha256:8eeb52dfb3bb9aef".to_owned(),
            size_bytes: 98_400_000,
            modified: Some(now - Duration::from_secs(15 * 86_400)),
        }];
        assert_eq!(
            screen(Language::English, &models, now),
            "NAME              ID              SIZE     MODIFIED\n\
             smollm2:latest    8eeb52dfb3bb    98 MB    2 weeks ago\n"
        );
        assert!(screen(Language::Korean, &models, now).ends_with("98 MB    2주 전\n"));
        assert_eq!(screen(Language::English, &[], now), "NAME    ID    SIZE    MODIFIED\n");
    }
}
