//! Word wrap for text that arrives in pieces: every piece is shown at once, and a word that turns out not to fit is
//! taken back from the end of the line and written again on the next. Widths are those of the terminal: Hangul,
//! Han and Kana take two columns. Pure: text in, text with control sequences out.
//!
//! Hangul is wrapped at spaces, as Korean is printed; Han and Kana, which have none, anywhere.

use unicode_width::UnicodeWidthChar;

/// Takes an answer apart into lines of the terminal's width.
#[derive(Debug)]
pub(crate) struct Wrapper {
    columns: usize,
    /// Columns written on this line.
    at: usize,
    /// The word at the end of the line that may still grow: what to write again, and its width.
    word: String,
    word_width: usize,
}

impl Wrapper {
    /// A wrapper for a terminal this many columns wide. The last one is left free: a cursor that has written it
    /// stands on it or after it, depending on the terminal, and going back from there is a guess.
    pub(crate) fn new(columns: usize) -> Self {
        Self { columns: columns.max(5) - 1, at: 0, word: String::new(), word_width: 0 }
    }

    /// What to write to the terminal for the next piece of the answer.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        let mut out = String::with_capacity(piece.len() + 16);
        for c in piece.chars() {
            self.push_char(c, &mut out);
        }
        out
    }

    fn push_char(&mut self, c: char, out: &mut String) {
        if c == '\n' {
            out.push(c);
            self.at = 0;
            self.end_word();
            return;
        }
        // A tab goes to the next multiple of eight; other control characters take no room.
        let width = if c == '\t' { 8 - self.at % 8 } else { c.width().unwrap_or(0) };
        if self.at + width > self.columns && width > 0 {
            if c == ' ' || c == '\t' {
                // The space that would start the next line is the line break itself.
                out.push('\n');
                self.at = 0;
                self.end_word();
                return;
            }
            self.break_line(out);
        }
        out.push(c);
        self.at += width;
        if c.is_whitespace() || breaks_anywhere(c) {
            self.end_word();
        } else {
            self.word.push(c);
            self.word_width += width;
        }
    }

    /// Moves to the next line, taking the unfinished word along unless it alone fills the line.
    fn break_line(&mut self, out: &mut String) {
        if self.word_width == 0 || self.word_width >= self.at {
            out.push('\n');
            self.at = 0;
            self.end_word();
        } else {
            // Left by the width of the word, erase to the end of the line.
            out.push_str(&format!("\x1b[{}D\x1b[K\n{}", self.word_width, self.word));
            self.at = self.word_width;
        }
    }

    fn end_word(&mut self) {
        self.word.clear();
        self.word_width = 0;
    }
}

/// Han and Kana, and their full-width punctuation.
fn breaks_anywhere(c: char) -> bool {
    matches!(c, '\u{2E80}'..='\u{30FF}' | '\u{31F0}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{FF00}'..='\u{FF60}' | '\u{20000}'..='\u{3FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    /// What the screen shows after the control sequences were obeyed.
    fn screen(output: &str) -> Vec<String> {
        let mut lines = vec![String::new()];
        let mut rest = output;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("\x1b[") {
                let end = after.find(['D', 'K']).expect("a known control sequence");
                if after.as_bytes()[end] == b'D' {
                    let mut columns: usize = after[..end].parse().expect("a count");
                    let line = lines.last_mut().expect("a line");
                    while columns > 0 {
                        columns -= line.pop().and_then(UnicodeWidthChar::width).unwrap_or(0);
                    }
                }
                rest = &after[end + 1..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => lines.push(String::new()),
                c => lines.last_mut().expect("a line").push(c),
            }
        }
        lines
    }

    fn check(columns: usize, text: &str, expected: &[&str]) {
        let whole = Wrapper::new(columns).push(text);
        assert_eq!(screen(&whole), expected, "{text} whole");
        let mut wrapper = Wrapper::new(columns);
        let pieces: String = text.chars().map(|c| wrapper.push(&c.to_string())).collect();
        assert_eq!(screen(&pieces), expected, "{text} in pieces");
    }

    #[test]
    fn words_go_to_the_next_line_whole() {
        check(11, "the quick brown fox", &["the quick ", "brown fox"]);
        check(11, "aaaa bbbbb cc", &["aaaa bbbbb", "cc"]);
        check(11, "one\ntwo three four", &["one", "two three ", "four"]);
        check(11, "", &[""]);
    }

    #[test]
    fn words_longer_than_a_line_are_cut() {
        check(9, "abcdefghijkl mn", &["abcdefgh", "ijkl mn"]);
        check(9, "x abcdefghijkl", &["x ", "abcdefgh", "ijkl"]);
    }

    #[test]
    fn hangul_takes_two_columns_and_stays_whole() {
        check(11, "하늘은 왜 파란가요", &["하늘은 왜 ", "파란가요"]);
        check(11, "가나다라마 바", &["가나다라마", "바"]);
        check(10, "가나다라마", &["가나다라", "마"]);
    }

    #[test]
    fn han_breaks_anywhere() {
        check(9, "天空為什麼", &["天空為什", "麼"]);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let text = "온돌(Ondol)은 floor heating 입니다 — 天空 👩‍💻 é e\u{301} supercalifragilistic";
        for columns in 5..40 {
            for line in screen(&Wrapper::new(columns).push(text)) {
                assert!(line.width() <= columns, "{line:?} in {columns}");
            }
        }
    }
}
