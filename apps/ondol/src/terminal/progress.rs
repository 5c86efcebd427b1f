//! What a pull shows while it runs, and other work on files. On a terminal: one bar a layer with share, bytes, rate and time left, in the form
//! users of Ollama know. Elsewhere (a log, a pipe): a line when a step begins and at each tenth, no more.
//! The lines are made by pure functions; drawing is `indicatif`'s.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use unicode_width::UnicodeWidthStr;

use crate::terminal::messages::Message;
use crate::terminal::output::Terminal;
use crate::terminal::units;

/// Shows the steps of one pull on standard error.
#[derive(Debug)]
pub(crate) struct PullView {
    terminal: Terminal,
    bar: Option<ProgressBar>,
    layer: Option<Layer>,
}

/// The layer that is being fetched.
#[derive(Debug)]
struct Layer {
    /// What is done with it.
    work: Message,
    digest: String,
    total: u64,
    completed: u64,
    rate: Rate,
    /// Tenths that were reported in plain lines.
    tenths: Option<u64>,
}

impl PullView {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self { terminal, bar: None, layer: None }
    }

    /// A step that has no size: manifest, verification, success.
    pub(crate) fn step(&mut self, message: Message, values: &[(&str, &str)]) {
        self.finish_layer();
        self.terminal.note(message, values);
    }

    /// A step that has words of its own.
    pub(crate) fn line(&mut self, text: &str) {
        self.finish_layer();
        eprint_line(text);
    }

    /// A layer has this many of its bytes. Called as often as the pull likes.
    pub(crate) fn layer(&mut self, digest: &str, total: u64, completed: u64, now: Instant) {
        self.advance(Message::PullingLayer, digest, total, completed, now);
    }

    /// A file that is written has this many of its bytes.
    pub(crate) fn file(&mut self, name: &str, total: u64, completed: u64, now: Instant) {
        self.advance(Message::WritingFile, name, total, completed, now);
    }

    fn advance(&mut self, work: Message, digest: &str, total: u64, completed: u64, now: Instant) {
        if self.layer.as_ref().is_none_or(|layer| layer.digest != digest) {
            self.finish_layer();
            self.layer = Some(Layer {
                work,
                digest: digest.to_owned(),
                total,
                completed,
                rate: Rate::default(),
                tenths: None,
            });
        }
        let Some(layer) = &mut self.layer else { return };
        (layer.total, layer.completed) = (total, completed);
        layer.rate.measure(now, completed);
        if self.terminal.error_is_terminal {
            let line = layer.line(&self.terminal, true);
            let bar = self.bar.get_or_insert_with(new_bar);
            bar.set_message(line);
            bar.tick();
        } else if let Some(tenths) = layer.next_tenth() {
            layer.tenths = Some(tenths);
            let line = layer.line(&self.terminal, false);
            eprint_line(&line);
        }
    }

    /// Leaves the last bar on the screen and starts a new line.
    fn finish_layer(&mut self) {
        if let Some(layer) = self.layer.take()
            && let Some(bar) = self.bar.take()
        {
            bar.finish_with_message(layer.line(&self.terminal, true));
            // The bar ends where it stands; what follows begins a line.
            eprint_line("");
        }
    }
}

impl Drop for PullView {
    fn drop(&mut self) {
        // An interrupted pull leaves how far it came; the next one resumes there.
        if let Some(bar) = self.bar.take() {
            bar.abandon();
            eprint_line("");
        }
    }
}

impl Layer {
    /// The tenth that was reached and not yet said.
    fn next_tenth(&self) -> Option<u64> {
        // Without a total there is one line, when it begins.
        let tenth = if self.total == 0 { 0 } else { share(self.completed, self.total, 10) };
        self.tenths.is_none_or(|said| tenth > said).then_some(tenth)
    }

    /// `pulling 8eeb52dfb3bb:  42% ▕████    ▏ 1.2 GB/4.7 GB   35 MB/s   1m40s`, the bar only when asked for.
    fn line(&self, terminal: &Terminal, bar: bool) -> String {
        let hex = self.digest.rsplit(':').next().unwrap_or_default();
        let short: String = hex.chars().take(12).collect();
        let what = match short.as_str() {
            "" => terminal.say(Message::PullingSomething, &[]),
            _ if self.work == Message::WritingFile => terminal.say(self.work, &[("digest", &self.digest)]),
            short => terminal.say(self.work, &[("digest", short)]),
        };
        let known = self.total > 0;
        let done = known && self.completed >= self.total;
        let head = if known {
            format!("{what}: {:>3}%", share(self.completed, self.total, 100))
        } else {
            format!("{what}:")
        };
        let mut tail = match (known, done) {
            (true, false) => format!(" {}/{}", units::bytes(self.completed), units::bytes(self.total)),
            _ => format!(" {}", units::bytes(self.completed)),
        };
        if let Some(rate) = self.rate.bytes_per_second().filter(|_| !done) {
            tail.push_str(&format!("   {}/s", units::bytes(rate as u64)));
            let left = self.total.saturating_sub(self.completed) as f64 / rate;
            if let Some(left) = Duration::try_from_secs_f64(left).ok().filter(|_| known) {
                tail.push_str(&format!("   {}", units::time_left(left)));
            }
        }
        if !bar || !known {
            return format!("{head}{tail}");
        }
        let room = terminal.columns.saturating_sub(head.width() + tail.width() + 4).min(50);
        if room < 4 {
            return format!("{head}{tail}");
        }
        format!("{head} ▕{}▏{tail}", blocks(self.completed, self.total, room))
    }
}

/// `completed / total` in `parts`, rounded down, never more than `parts`.
fn share(completed: u64, total: u64, parts: u64) -> u64 {
    let share = u128::from(completed.min(total)) * u128::from(parts) / u128::from(total.max(1));
    share as u64
}

/// A bar of eighth blocks, `width` columns wide.
fn blocks(completed: u64, total: u64, width: usize) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = share(completed, total, width as u64 * 8) as usize;
    let mut bar = "█".repeat(eighths / 8);
    bar.push_str(EIGHTHS[eighths % 8]);
    let used = eighths.div_ceil(8);
    bar.push_str(&" ".repeat(width - used));
    bar
}

fn new_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{msg}") {
        bar.set_style(style);
    }
    bar
}

fn eprint_line(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Bytes a second over the last ten seconds, kept as at most ten points. The clock is handed in.
#[derive(Debug, Default)]
struct Rate {
    points: VecDeque<(Instant, u64)>,
}

impl Rate {
    const POINTS_MAX: usize = 10;
    const SPACING: Duration = Duration::from_secs(1);

    fn measure(&mut self, now: Instant, completed: u64) {
        match self.points.back() {
            // A source that starts again from an earlier byte starts a new measurement.
            Some((_, before)) if completed < *before => self.points.clear(),
            _ => {}
        }
        // The newest point moves along; the one before it stays once it is a second old.
        let settled = self.points.len() < 2
            || self
                .points
                .iter()
                .rev()
                .nth(1)
                .is_some_and(|(at, _)| now.duration_since(*at) >= Self::SPACING);
        if !settled {
            self.points.pop_back();
        }
        self.points.push_back((now, completed));
        if self.points.len() > Self::POINTS_MAX {
            self.points.pop_front();
        }
    }

    fn bytes_per_second(&self) -> Option<f64> {
        let ((start, first), (end, last)) = (self.points.front()?, self.points.back()?);
        let seconds = end.duration_since(*start).as_secs_f64();
        // Under half a second a rate is a guess.
        (seconds >= 0.5 && last > first).then(|| (last - first) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::messages::Language;

    fn terminal(language: Language, columns: usize) -> Terminal {
        Terminal {
            language,
            input_is_terminal: false,
            output_is_terminal: false,
            error_is_terminal: true,
            columns,
        }
    }

    fn layer(completed: u64, total: u64, rate: u64) -> Layer {
        let mut measured = Rate::default();
        let start = Instant::now();
        measured.measure(start, completed.saturating_sub(rate));
        measured.measure(start + Duration::from_secs(1), completed);
        Layer {
            work: Message::PullingLayer,
            digest: "sha256:8eeb52dfb3bb9aefdf9d1ef24b3bdbcfbe82238798c4b918278320b6fcef18fe".into(),
            total,
            completed,
            rate: measured,
            tenths: None,
        }
    }

    #[test]
    fn the_line_of_a_layer() {
        let half = layer(1_974_000_000, 4_700_000_000, 35_000_000);
        assert_eq!(
            half.line(&terminal(Language::English, 80), true),
            "pulling 8eeb52dfb3bb:  42% ▕███████▌          ▏ 1.9 GB/4.7 GB   35 MB/s   1m17s"
        );
        assert_eq!(
            half.line(&terminal(Language::Korean, 80), false),
            "받는 중 8eeb52dfb3bb:  42% 1.9 GB/4.7 GB   35 MB/s   1m17s"
        );
        assert_eq!(
            half.line(&terminal(Language::English, 20), true),
            half.line(&terminal(Language::English, 20), false)
        );
        let done = layer(4_700_000_000, 4_700_000_000, 1);
        assert_eq!(done.line(&terminal(Language::English, 80), false), "pulling 8eeb52dfb3bb: 100% 4.7 GB");
        let unknown = Layer { digest: String::new(), total: 0, ..layer(5_000_000, 0, 1_000_000) };
        assert_eq!(unknown.line(&terminal(Language::English, 80), true), "pulling: 5 MB   1 MB/s");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in 70..130 {
            for completed in (0..=4_700_000_000).step_by(470_000_000) {
                for language in [Language::English, Language::Korean] {
                    let line =
                        layer(completed, 4_700_000_000, 35_000_000).line(&terminal(language, columns), true);
                    assert!(line.width() <= columns, "{line}");
                }
            }
        }
    }

    #[test]
    fn plain_lines_come_at_tenths() {
        let mut layer = layer(0, 1000, 0);
        let mut said = Vec::new();
        for completed in 0..=1000 {
            layer.completed = completed;
            if let Some(tenth) = layer.next_tenth() {
                layer.tenths = Some(tenth);
                said.push(completed);
            }
        }
        assert_eq!(said, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000]);
    }

    #[test]
    fn bars_have_one_width() {
        for completed in 0..=100 {
            assert_eq!(blocks(completed, 100, 13).width(), 13);
        }
        assert_eq!(blocks(5, 0, 3).width(), 3);
        assert_eq!(blocks(200, 100, 3), "███");
    }

    #[test]
    fn the_rate_is_of_the_last_ten_seconds() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.bytes_per_second(), None);
        // A hundred seconds at 1000 a second, then 20 at 10, reported ten times a second.
        let mut completed = 0;
        for step in 0..1200_u32 {
            completed += if step < 1000 { 100 } else { 1 };
            rate.measure(start + Duration::from_millis(100) * step, completed);
        }
        let measured = rate.bytes_per_second().expect("a rate");
        assert!((9.0..11.0).contains(&measured), "{measured}");
        assert!(rate.points.len() <= Rate::POINTS_MAX);
        // Starting again forgets.
        rate.measure(start + Duration::from_secs(200), 0);
        assert_eq!(rate.bytes_per_second(), None);
    }
}
