//! What shows that a model has begun to call a tool by itself: its family's mark, or, for calls that stand bare, a call up
//! to the tool's name. A [`Watch`] follows a free answer byte by byte and says when one of them is whole. Marks in
//! thoughts do not count, as they do not for the reader of answers (`output`).

use std::sync::Arc;

use llguidance::toktrie::{TokTrie, TrieNode};

use super::Piece;

/// The beginning of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// As the answer's bytes show it; a control token counts as the text by which the vocabulary names it.
    pub text: String,
    /// The same as the grammar knows it, which begins with it: texts and tokens.
    pub spelt: Vec<Piece>,
    /// Whether it counts only where nothing but white space stands before it.
    pub first: bool,
}

/// The marks around thoughts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thoughts {
    pub opens: String,
    pub closes: String,
    /// Whether the answer begins inside of them.
    pub open: bool,
}

/// A free answer, as far as it may become a mark.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    marks: Arc<[Mark]>,
    thoughts: Option<Thoughts>,
    /// The end of the answer; all of it, without the white space before it, until something has begun.
    tail: Vec<u8>,
    /// Whether something came that is no beginning of a mark that must be first.
    begun: bool,
    thinking: bool,
    /// Most bytes of `tail` that matter.
    longest: usize,
    /// Tokens in which a mark stands behind other text, and goes on behind it.
    around: Arc<[Crossing]>,
}

/// A token that would end a mark and goes on behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crossing {
    pub(super) token: u32,
    /// The mark's place among the marks.
    pub(super) mark: usize,
    /// The token's bytes behind the mark.
    pub(super) rest: Vec<u8>,
}

impl Watch {
    pub(super) fn new(marks: Arc<[Mark]>, thoughts: Option<Thoughts>, trie: &TokTrie) -> Self {
        let ends = thoughts.iter().flat_map(|thoughts| [thoughts.opens.len(), thoughts.closes.len()]);
        let longest = marks.iter().map(|mark| mark.text.len()).chain(ends).max().unwrap_or(0);
        let thinking = thoughts.as_ref().is_some_and(|thoughts| thoughts.open);
        let around = around(&marks, trie).into();
        Self { marks, thoughts, tail: Vec::new(), begun: false, thinking, longest, around }
    }

    /// The call that began is over: the answer goes on as at its beginning.
    pub(super) fn restart(&mut self) {
        self.tail.clear();
        self.begun = false;
    }

    /// Goes on by these bytes. The mark that is whole now, and what is left of the bytes behind it.
    pub(super) fn see<'b>(&mut self, bytes: &'b [u8]) -> Option<(usize, &'b [u8])> {
        for (at, &byte) in bytes.iter().enumerate() {
            if let Some(mark) = self.see_one(byte) {
                return Some((mark, &bytes[at + 1..]));
            }
        }
        None
    }

    fn see_one(&mut self, byte: u8) -> Option<usize> {
        if self.tail.is_empty() && !self.begun && byte.is_ascii_whitespace() {
            return None;
        }
        self.tail.push(byte);
        if let Some(thoughts) = &self.thoughts {
            let end = if self.thinking { &thoughts.closes } else { &thoughts.opens };
            if !end.is_empty() && self.tail.ends_with(end.as_bytes()) {
                self.thinking = !self.thinking;
                self.restart();
                return None;
            }
        }
        if !self.thinking {
            let whole = |mark: &Mark| match mark.first {
                true => !self.begun && self.tail == mark.text.as_bytes(),
                false => self.tail.ends_with(mark.text.as_bytes()),
            };
            if let Some(mark) = self.marks.iter().position(whole) {
                self.restart();
                return Some(mark);
            }
        }
        let may_be = |mark: &Mark| mark.first && mark.text.as_bytes().starts_with(&self.tail);
        self.begun = self.begun || self.thinking || !self.marks.iter().any(may_be);
        if self.begun && self.tail.len() > self.longest {
            let more = self.tail.len() - self.longest;
            self.tail.drain(..more);
        }
        None
    }

    /// Tokens that would end a mark here and go on behind it.
    pub(super) fn crossings(&self, trie: &TokTrie) -> Vec<Crossing> {
        let mut found = Vec::new();
        if self.thinking {
            return found;
        }
        for (index, mark) in self.marks.iter().enumerate() {
            let text = mark.text.as_bytes();
            for come in self.come(mark) {
                extensions(trie, &text[come..], |token, rest| {
                    found.push(Crossing { token, mark: index, rest: rest.to_vec() });
                });
            }
        }
        found.extend(self.around.iter().cloned());
        found
    }

    /// How many bytes of a mark may have come: none, and each of its beginnings with which the answer ends.
    fn come(&self, mark: &Mark) -> Vec<usize> {
        let text = mark.text.as_bytes();
        if mark.first {
            let begins = !self.begun && text.starts_with(&self.tail) && self.tail.len() < text.len();
            return begins.then_some(self.tail.len()).into_iter().collect();
        }
        let most = self.tail.len().min(text.len() - 1);
        (0..=most).filter(|&come| self.tail.ends_with(&text[..come])).collect()
    }
}

/// Tokens that begin with `bytes` and go on, by what goes on.
fn extensions(trie: &TokTrie, bytes: &[u8], mut found: impl FnMut(u32, &[u8])) {
    let Some(node) = trie.child_at_bytes(trie.root(), bytes) else { return };
    let mut rest = Vec::new();
    below(trie, node, &mut rest, &mut found);
}

/// Tokens are at most some hundred bytes long, and so is the way down.
fn below(trie: &TokTrie, node: &TrieNode, rest: &mut Vec<u8>, found: &mut impl FnMut(u32, &[u8])) {
    for child in trie.node_children(node) {
        rest.push(child.byte());
        if let Some(token) = child.token_id() {
            found(token, rest);
        }
        below(trie, child, rest, found);
        rest.pop();
    }
}

fn around(marks: &[Mark], trie: &TokTrie) -> Vec<Crossing> {
    let mut found = Vec::new();
    let within: Vec<(usize, &[u8])> = marks
        .iter()
        .enumerate()
        .filter(|(_, mark)| !mark.first)
        .map(|(i, mark)| (i, mark.text.as_bytes()))
        .collect();
    for token in 0..trie.vocab_size() as u32 {
        let bytes = trie.token(token);
        for &(mark, text) in &within {
            if bytes.len() <= text.len() + 1 {
                continue;
            }
            let at = bytes.windows(text.len()).position(|window| window == text);
            if let Some(at) = at.filter(|&at| at > 0 && at + text.len() < bytes.len()) {
                found.push(Crossing { token, mark, rest: bytes[at + text.len()..].to_vec() });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use llguidance::toktrie::TokRxInfo;

    use super::*;

    fn mark(text: &str, first: bool) -> Mark {
        Mark { text: text.to_owned(), spelt: vec![Piece::Text(text.to_owned())], first }
    }

    fn trie() -> TokTrie {
        let words = ["<", "<c", ">", ">x", ">\n", "a<call>b", "{\"f\"", "\":", "call", "\","];
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        TokTrie::from(&TokRxInfo::new(words.len() as u32, 0), &words)
    }

    fn watch(thoughts: Option<Thoughts>) -> Watch {
        let marks = [mark("<call>", false), mark("{\"f\"", true), mark("{\"g\"", true)];
        Watch::new(marks.into(), thoughts, &trie())
    }

    #[test]
    fn marks_are_seen_where_they_count() {
        fn check(text: &str, wanted: Option<(usize, &str)>) {
            let thoughts = Thoughts { opens: "<think>".into(), closes: "</think>".into(), open: false };
            let seen = watch(Some(thoughts)).see(text.as_bytes()).map(|(mark, rest)| (mark, rest.to_vec()));
            assert_eq!(seen, wanted.map(|(mark, rest)| (mark, rest.as_bytes().to_vec())), "{text}");
        }
        check("so <call>\nx", Some((0, "\nx")));
        check("so <<call>", Some((0, "")));
        check("<cal l>", None);
        check(" \n {\"f\": 1", Some((1, ": 1")));
        check("{\"g\"", Some((2, "")));
        check("so {\"f\": 1", None);
        check("{\"h\"{\"f\"", None);
        check("<think><call></think>\n{\"f\"", Some((1, "")));
        check("<think>a<call>", None);
        check("a <think>b</think> c <call>", Some((0, "")));
    }

    #[test]
    fn a_watch_starts_again() {
        let mut watch = watch(Some(Thoughts { opens: "<t>".into(), closes: "</t>".into(), open: true }));
        assert_eq!(watch.see(b"<call> {\"f\""), None);
        assert_eq!(watch.see(b"</t><call>"), Some((0, &b""[..])));
        assert_eq!(watch.see(b" {\"f\""), Some((1, &b""[..])));
    }

    #[test]
    fn tokens_that_go_on_behind_a_mark() {
        let trie = trie();
        let mut watch = watch(None);
        let named = |watch: &Watch| -> Vec<(u32, usize, String)> {
            let crossings = watch.crossings(&trie).into_iter();
            crossings.map(|c| (c.token, c.mark, String::from_utf8(c.rest).unwrap())).collect()
        };
        assert_eq!(named(&watch), [(5, 0, "b".to_owned())]);
        watch.see(b"x <call");
        assert_eq!(named(&watch), [(4, 0, "\n".to_owned()), (3, 0, "x".to_owned()), (5, 0, "b".to_owned())]);
        watch.see(b"l {");
        assert_eq!(named(&watch).len(), 1);
        watch.restart();
        watch.see(b" {\"f");
        let rest = [(9, 1, ",".to_owned()), (7, 1, ":".to_owned()), (5, 0, "b".to_owned())];
        assert_eq!(named(&watch), rest);
    }
}
