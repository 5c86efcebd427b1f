//! Stop strings over a stream of text: the answer ends before the stop string that is whole first, whatever pieces
//! the text comes in, and nothing that may still become one is handed out early.
//!
//! Each stop string is matched by Knuth, Morris and Pratt's automaton, so the work is linear in the text however
//! the strings repeat themselves.

/// What to do after a piece of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text that may go out.
    pub emit: String,
    /// A stop string is whole: the answer ends behind `emit`.
    pub stopped: bool,
}

/// Looks for stop strings in a stream of text.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    patterns: Vec<Pattern>,
    /// Text that may still become a stop string.
    held: String,
    stopped: bool,
}

#[derive(Debug, Clone)]
struct Pattern {
    bytes: Vec<u8>,
    /// For each length, that of the longest proper prefix which is also a suffix.
    fallback: Vec<usize>,
    /// How many bytes of the pattern the text ends with.
    matched: usize,
}

impl Pattern {
    fn new(stop: &str) -> Self {
        let bytes = stop.as_bytes().to_vec();
        let mut fallback = vec![0; bytes.len() + 1];
        let mut length = 0;
        for end in 1..bytes.len() {
            while length > 0 && bytes[end] != bytes[length] {
                length = fallback[length];
            }
            length += usize::from(bytes[end] == bytes[length]);
            fallback[end + 1] = length;
        }
        Self { bytes, fallback, matched: 0 }
    }

    /// Takes a byte; whether the pattern is whole.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.fallback[self.matched];
        }
        self.matched += usize::from(self.bytes[self.matched] == byte);
        self.matched == self.bytes.len()
    }
}

impl StopMatcher {
    /// A matcher for these strings; empty ones stop nothing.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        Self { patterns: stops.map(|stop| Pattern::new(stop)).collect(), held: String::new(), stopped: false }
    }

    /// Takes more text. After a stop nothing more comes out.
    pub fn push(&mut self, text: &str) -> StopStep {
        if self.stopped {
            return StopStep { emit: String::new(), stopped: true };
        }
        let before = self.held.len();
        self.held.push_str(text);
        for (index, byte) in text.bytes().enumerate() {
            let mut whole = 0;
            for pattern in &mut self.patterns {
                if pattern.step(byte) {
                    whole = whole.max(pattern.bytes.len());
                }
            }
            if whole > 0 {
                self.stopped = true;
                let mut emit = std::mem::take(&mut self.held);
                emit.truncate(before + index + 1 - whole);
                return StopStep { emit, stopped: true };
            }
        }
        let hold = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        // A stop string begins with a whole character, so what is held does too.
        let rest = self.held.split_off(self.held.len() - hold);
        StopStep { emit: std::mem::replace(&mut self.held, rest), stopped: false }
    }

    /// Ends the text: what was held back was no stop string.
    #[must_use]
    pub fn finish(&mut self) -> String {
        for pattern in &mut self.patterns {
            pattern.matched = 0;
        }
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The whole text at once: the stop string that ends first, and of those the longest.
    fn naive(text: &str, stops: &[String]) -> (String, bool) {
        for end in text.char_indices().map(|(at, c)| at + c.len_utf8()) {
            let whole = stops.iter().filter(|stop| !stop.is_empty() && text[..end].ends_with(*stop));
            if let Some(length) = whole.map(String::len).max() {
                return (text[..end - length].to_owned(), true);
            }
        }
        (text.to_owned(), false)
    }

    fn run(pieces: &[&str], stops: &[String]) -> (String, bool) {
        let mut matcher = StopMatcher::new(stops);
        let mut out = String::new();
        for piece in pieces {
            let step = matcher.push(piece);
            out.push_str(&step.emit);
            if step.stopped {
                assert_eq!(matcher.push("more"), StopStep { emit: String::new(), stopped: true });
                return (out, true);
            }
        }
        out.push_str(&matcher.finish());
        (out, false)
    }

    #[test]
    fn holds_back_no_more_than_it_must() {
        let mut matcher = StopMatcher::new(&["\nUser:".to_owned(), "세요.".to_owned()]);
        assert_eq!(matcher.push("안녕하세").emit, "안녕하");
        assert_eq!(matcher.push("요").emit, "");
        assert_eq!(matcher.push("! \nU").emit, "세요! ");
        assert_eq!(matcher.push("ser:"), StopStep { emit: String::new(), stopped: true });
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            pieces in proptest::collection::vec("[ab가]{0,4}", 0..12),
            stops in proptest::collection::vec("[ab가]{0,4}", 0..4),
        ) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&pieces, &stops), naive(&pieces.concat(), &stops));
        }
    }
}
