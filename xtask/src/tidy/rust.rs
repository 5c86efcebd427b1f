//! Just enough of Rust's surface to judge it: which bytes are code, which are comments, where functions and test
//! modules begin and end.
//!
//! This is a lexer and a matcher of braces, no parser: macros are seen as they are written, and nothing is resolved.
//! That is what the rules need, and it keeps them free of a dependency that must follow the language.

use std::ops::Range;

/// A Rust file with its text sorted into code and comments. Both have the length of the file, byte for byte, with
/// blanks in place of the other (and of the insides of strings and characters), so that offsets and lines agree.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) code: String,
    pub(crate) comments: String,
    /// The words and signs of `code`.
    pub(crate) tokens: Vec<Token>,
    /// Offsets at which lines begin.
    lines: Vec<usize>,
    /// The insides of `#[cfg(test)] mod … { … }`.
    pub(crate) tests: Vec<Range<usize>>,
    /// The names of `#[cfg(test)] mod …;`.
    pub(crate) test_modules: Vec<String>,
}

/// A word, or one character of punctuation (`::` counts as one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) start: usize,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    /// The line of `fn`, from 1.
    pub(crate) line: usize,
    /// From that line to the closing brace, both counted.
    pub(crate) lines: usize,
}

impl Source {
    pub(crate) fn new(text: &str) -> Self {
        let (code, comments) = mask(text);
        let tokens = tokens(&code);
        let lines = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1));
        let lines = lines.collect();
        let mut source = Self { code, comments, tokens, lines, tests: Vec::new(), test_modules: Vec::new() };
        source.find_tests();
        source
    }

    /// The line of an offset, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    pub(crate) fn in_tests(&self, offset: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&offset))
    }

    /// The offsets at which these tokens stand in a row.
    pub(crate) fn find<'s>(&'s self, pattern: &'s [&str]) -> impl Iterator<Item = usize> + 's {
        self.tokens
            .windows(pattern.len())
            .filter(move |window| window.iter().zip(pattern).all(|(token, wanted)| token.text == *wanted))
            .filter_map(|window| window.first().map(|token| token.start))
    }

    /// Where `module::item` is named, also as `module::{…, item, …}` in a `use`.
    pub(crate) fn find_path(&self, module: &str, item: &str) -> Vec<usize> {
        let mut found: Vec<usize> = self.find(&[module, "::", item]).collect();
        for (at, window) in self.tokens.windows(3).enumerate() {
            if window[0].text != module || window[1].text != "::" || window[2].text != "{" {
                continue;
            }
            let close = self.closing(at + 2);
            let group = &self.tokens[at + 2..close];
            found.extend(group.iter().filter(|token| token.text == item).map(|token| token.start));
        }
        found
    }

    /// The index of the token that closes the bracket at token `open` (the last token when it is never closed).
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            match token.text.as_str() {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return at;
                    }
                }
                _ => {}
            }
        }
        self.tokens.len().saturating_sub(1)
    }

    /// Functions with a body, nested ones included.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for (at, pair) in self.tokens.windows(2).enumerate() {
            let [keyword, name] = pair else { continue };
            if keyword.text != "fn" || !name.text.starts_with(is_word) {
                continue;
            }
            let Some(body) = self.body(at + 2) else { continue };
            let end = self.tokens[self.closing(body)].start;
            let line = self.line(keyword.start);
            functions.push(Function { name: name.text.clone(), line, lines: self.line(end) - line + 1 });
        }
        functions
    }

    /// The brace that opens the body of a function whose name ends before token `from`; `None` for a declaration.
    fn body(&self, from: usize) -> Option<usize> {
        let mut depth = 0usize;
        for (at, token) in self.tokens.iter().enumerate().skip(from) {
            match token.text.as_str() {
                "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                "{" if depth == 0 => return Some(at),
                ";" if depth == 0 => return None,
                _ => {}
            }
        }
        None
    }

    fn find_tests(&mut self) {
        let marks: Vec<usize> = self
            .tokens
            .windows(7)
            .enumerate()
            .filter(|(_, w)| w.iter().map(|t| t.text.as_str()).eq(["#", "[", "cfg", "(", "test", ")", "]"]))
            .map(|(at, _)| at + 7)
            .collect();
        for mut at in marks {
            // Further attributes, and a visibility, may stand before `mod`.
            while let Some(token) = self.tokens.get(at) {
                match token.text.as_str() {
                    "#" => at = self.closing(at + 1) + 1,
                    "pub" => at += 1,
                    "(" => at = self.closing(at) + 1,
                    _ => break,
                }
            }
            let word = |n: usize| self.tokens.get(at + n).map(|t| t.text.as_str());
            match (word(0), word(1), word(2)) {
                (Some("mod"), Some(name), Some(";")) => self.test_modules.push(name.to_owned()),
                (Some("mod"), Some(_), Some("{")) => {
                    let close = self.closing(at + 2);
                    self.tests.push(self.tokens[at].start..self.tokens[close].start);
                }
                _ => {}
            }
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = code.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut text = String::from(c);
        if is_word(c) {
            while let Some((_, next)) = rest.next_if(|(_, next)| is_word(*next)) {
                text.push(next);
            }
        } else if c == ':' && rest.next_if(|(_, next)| *next == ':').is_some() {
            text.push(':');
        }
        tokens.push(Token { text, start });
    }
    tokens
}

/// Sorts the bytes of a file into code and comments.
fn mask(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let mut code = vec![b' '; bytes.len()];
    let mut comments = vec![b' '; bytes.len()];
    for (at, byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        code[at] = *byte;
        comments[at] = *byte;
    }
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        if let Some(length) = comment(rest) {
            comments[at..at + length].copy_from_slice(&rest[..length]);
            at += length;
        } else if let Some(length) = literal(rest, at.checked_sub(1).map(|before| bytes[before])) {
            // The quotes stay, so that a string is still one token apart from its neighbours.
            code[at] = b'"';
            at += length;
        } else {
            code[at] = bytes[at];
            at += 1;
        }
    }
    (String::from_utf8_lossy(&code).into_owned(), String::from_utf8_lossy(&comments).into_owned())
}

/// The length of the comment at the start of `rest`.
fn comment(rest: &[u8]) -> Option<usize> {
    if rest.starts_with(b"//") {
        return Some(rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with(b"/*") {
        return None;
    }
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    Some(rest.len())
}

/// The length of the string or character literal at the start of `rest`; `before` is the byte in front of it.
fn literal(rest: &[u8], before: Option<u8>) -> Option<usize> {
    if before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return None;
    }
    let prefix = rest.iter().take_while(|b| matches!(b, b'b' | b'c' | b'r')).count();
    if prefix <= 2 && rest[..prefix].contains(&b'r') {
        let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
        if rest.get(prefix + hashes) == Some(&b'"') {
            let mut close = vec![b'"'];
            close.resize(hashes + 1, b'#');
            let open = prefix + hashes + 1;
            let inside = rest[open..].windows(close.len()).position(|window| window == close);
            return Some(inside.map_or(rest.len(), |length| open + length + close.len()));
        }
        return None;
    }
    match rest.get(prefix)? {
        b'"' if prefix <= 1 => Some(quoted(rest, prefix, b'"')),
        b'\'' if prefix <= 1 => {
            let inside = &rest[prefix + 1..];
            let width = std::str::from_utf8(&inside[..inside.len().min(4)])
                .or_else(|error| std::str::from_utf8(&inside[..error.valid_up_to()]))
                .ok()
                .and_then(|text| text.chars().next())
                .map_or(1, char::len_utf8);
            let is_character = inside.first() == Some(&b'\\') || inside.get(width) == Some(&b'\'');
            is_character.then(|| quoted(rest, prefix, b'\''))
        }
        _ => None,
    }
}

/// The length of a literal whose opening quote is at `open`, escapes observed.
fn quoted(rest: &[u8], open: usize, quote: u8) -> usize {
    let mut at = open + 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_code(text: &str, expected: &str) {
        let source = Source::new(text);
        assert_eq!(source.code, expected, "of {text}");
        assert_eq!(source.comments.len(), text.len());
    }

    #[test]
    fn masks_what_is_not_code() {
        check_code("a // b\nc", "a     \nc");
        check_code("a /* b /* c */ d */ e", "a                   e");
        check_code(r#"f("unsafe \" x") + 1"#, r#"f("            ) + 1"#);
        check_code("r#\"x \" y\"# z", "\"          z");
        check_code("br\"a\" b\"c\" c\"d\" r#type", "\"     \"    \"    r#type");
        check_code("'a' 'b", "\"   'b");
        check_code("'\\'' '한' &'한글 str", "\"    \"     &'한글 str");
    }

    #[test]
    fn an_unfinished_literal_ends_with_the_file() {
        check_code("a \"b", "a \" ");
        check_code("a /* b", "a     ");
        check_code("'\\", "\" ");
    }

    #[test]
    fn measures_functions() {
        let source = Source::new(
            "fn a() {\n  let f: fn(u8) = b;\n}\n\ntrait T { fn c(&self); }\nfn d(x: [u8; 2]) {}\n",
        );
        let functions = source.functions();
        assert_eq!(
            functions,
            [
                Function { name: "a".into(), line: 1, lines: 3 },
                Function { name: "d".into(), line: 6, lines: 1 }
            ]
        );
    }

    #[test]
    fn finds_tests() {
        let source =
            Source::new("fn a() {}\n#[cfg(test)]\n#[path = \"x\"]\nmod b { fn c() {} }\n#[cfg(test)] mod d;");
        let inside: Vec<bool> = ["a", "c"]
            .iter()
            .map(|name| source.in_tests(source.find(&["fn", name]).next().unwrap()))
            .collect();
        assert_eq!(inside, [false, true]);
        assert_eq!(source.test_modules, ["d"]);
    }

    #[test]
    fn finds_paths_in_groups() {
        let source =
            Source::new("use std::process::{self, Command};\nprocess::exit(1); process::Command::new(x);");
        assert_eq!(source.find_path("process", "Command").len(), 2);
        assert_eq!(source.find_path("process", "exit").len(), 1);
    }
}
