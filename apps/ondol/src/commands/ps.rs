//! `ondol ps`: what a running server has in memory, how much of it on an accelerator, and until when.

use std::time::{Duration, SystemTime};

use crate::commands::Context;
use crate::commands::list::short_id;
use crate::library::parse_time;
use crate::remote::{Remote, Running};
use crate::terminal::failure;
use crate::terminal::messages::{Language, Message, say};
use crate::terminal::{output, table, units};

/// A time further off than this is how servers write "never".
const FOREVER: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

pub(crate) fn run(context: &Context) -> anyhow::Result<()> {
    let server = server(context)?;
    output::print(&screen(context.settings.language, &server.running()?, SystemTime::now()))?;
    Ok(())
}

/// The configured server, whatever it is, or the failure that says there is none.
pub(crate) fn server(context: &Context) -> anyhow::Result<Remote> {
    let none = || failure::no_server(context.settings.language, &context.settings.host.to_string());
    Ok(Remote::find(&context.settings).ok_or_else(none)?)
}

fn screen(language: Language, models: &[Running], now: SystemTime) -> String {
    let row = |model: &Running| {
        vec![
            model.name.clone(),
            short_id(&model.digest),
            units::bytes(model.size),
            processor(model.size, model.size_vram),
            model.context_length.to_string(),
            until(language, &model.expires_at, now),
        ]
    };
    let rows: Vec<Vec<String>> = models.iter().map(row).collect();
    table::columns(&["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"], &rows)
}

/// `100% CPU`, `100% GPU`, or the two shares.
fn processor(size: u64, on_device: u64) -> String {
    match on_device {
        0 => "100% CPU".to_owned(),
        device if device >= size => "100% GPU".to_owned(),
        device => {
            let gpu = (u128::from(device) * 100 + u128::from(size) / 2) / u128::from(size);
            format!("{}%/{gpu}% CPU/GPU", 100 - gpu)
        }
    }
}

fn until(language: Language, expires_at: &str, now: SystemTime) -> String {
    match parse_time(expires_at) {
        None => say(language, Message::TimeForever, &[]),
        Some(then) if then.duration_since(now).is_ok_and(|left| left > FOREVER) => {
            say(language, Message::TimeForever, &[])
        }
        Some(then) if then <= now => say(language, Message::TimeStopping, &[]),
        Some(then) => units::distance(language, now, then),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen() {
        let now = parse_time("2026-11-20T00:00:00Z").expect("a time");
        let model = |expires_at: &str| Running {
            name: "smollm2:latest".to_owned(),
            digest: "8eeb52dfb3bb9aef".to_owned(),
            size: 200_000_000,
            size_vram: 0,
            context_length: 4096,
            expires_at: expires_at.to_owned(),
        };
        assert_eq!(
            screen(Language::English, &[model("2026-11-20T00:04:59Z")], now),
            "NAME              ID              SIZE      PROCESSOR    CONTEXT    UNTIL\n\
             smollm2:latest    8eeb52dfb3bb    200 MB    100% CPU     4096       4 minutes from now\n"
        );
        for (expires_at, english, korean) in [
            ("2318-01-01T00:00:00Z", "Forever", "계속"),
            ("", "Forever", "계속"),
            ("2026-11-19T00:00:00Z", "Stopping...", "내리는 중..."),
        ] {
            assert_eq!(until(Language::English, expires_at, now), english);
            assert_eq!(until(Language::Korean, expires_at, now), korean);
        }
    }

    #[test]
    fn shares_of_processors() {
        for (size, device, expected) in [
            (100, 0, "100% CPU"),
            (100, 100, "100% GPU"),
            (100, 52, "48%/52% CPU/GPU"),
            (0, 0, "100% CPU"),
            (u64::MAX, u64::MAX - 1, "0%/100% CPU/GPU"),
        ] {
            assert_eq!(processor(size, device), expected);
        }
    }
}
