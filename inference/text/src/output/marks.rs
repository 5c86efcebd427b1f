//! Looks for the first of several marks in a stream of characters, and holds back no more than may become one.

/// What came out for one character.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Text in which there is no mark.
    pub(super) passed: String,
    /// The mark that is whole now, by its place in the list.
    pub(super) mark: Option<usize>,
}

/// The marks, none of which is the beginning of another or stands inside one.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    marks: Vec<&'static str>,
    held: String,
}

impl Marks {
    pub(super) fn new(marks: Vec<&'static str>) -> Self {
        Self { marks, held: String::new() }
    }

    pub(super) fn push(&mut self, c: char) -> Found {
        self.held.push(c);
        let mut found = Found::default();
        while !self.held.is_empty() {
            found.mark = self.marks.iter().position(|mark| *mark == self.held);
            if found.mark.is_some() {
                self.held.clear();
                break;
            }
            if self.marks.iter().any(|mark| mark.starts_with(&self.held)) {
                break;
            }
            found.passed.push(self.held.remove(0));
        }
        found
    }

    /// Text that may still become a mark.
    pub(super) fn held(&self) -> &str {
        &self.held
    }

    /// Ends the text: what was held back was no mark.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    pub(super) fn text(&self, mark: usize) -> &'static str {
        self.marks.get(mark).copied().unwrap_or_default()
    }
}
