//! Cutting text into the words inside which byte-level BPE merges: stages of regular expressions, each applied to
//! the pieces of the one before; what a stage matches and what lies between its matches are both pieces.
//!
//! Own code over `regex-automata` and not the pre-tokenizers of the `tokenizers` crate: those backtrack
//! (`fancy-regex`, for one look-ahead), which a hostile text can make slow or make fail. Here each alternative is a
//! pattern of one automaton, which finds in linear time and says which alternative it was; the few look-aheads that
//! tokenizers use become rules that shorten or cut a finished match.

use std::ops::Range;

use regex_automata::{Input, meta::Regex};

/// What to do with a match besides making it a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Nothing.
    Whole,
    /// `\s+(?!\S)|\s+` or `\s+(?!\S)`: spaces before a word leave the last one to it.
    LeaveLastSpace,
    /// As above, in the powers of two of Jais 2: `\s{512}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`.
    SpacesByPowers,
    /// Digits in threes counted from the right: the first piece has one to three.
    ThreesFromRight,
}

/// One alternative of a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Alternative {
    pub(crate) pattern: &'static str,
    pub(crate) rule: Rule,
}

/// Stages, ready to cut.
#[derive(Debug)]
pub(crate) struct Splitter {
    stages: Vec<Stage>,
}

/// One stage: an automaton, and what to do with what it finds.
#[derive(Debug)]
pub(crate) struct Stage {
    regex: Regex,
    /// By pattern id.
    rules: Vec<Rule>,
}

impl Splitter {
    /// Compiles stages. `Err` only for a pattern of ours that does not compile, which a test rules out.
    pub(crate) fn new(stages: &[Vec<Alternative>]) -> Result<Self, String> {
        let compile = |alternatives: &Vec<Alternative>| {
            let patterns: Vec<_> = alternatives.iter().map(|alternative| alternative.pattern).collect();
            let regex = Regex::new_many(&patterns).map_err(|error| error.to_string())?;
            Ok(Stage::new(regex, alternatives.iter().map(|alternative| alternative.rule).collect()))
        };
        Ok(Self { stages: stages.iter().map(compile).collect::<Result<_, String>>()? })
    }

    /// Calls `word` with each piece of `text`, in order; together they are `text`.
    pub(crate) fn split<'t>(&self, text: &'t str, word: &mut dyn FnMut(&'t str)) {
        split_stages(&self.stages, text, word);
    }
}

fn split_stages<'t>(stages: &[Stage], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    match stages {
        [] if text.is_empty() => {}
        [] => word(text),
        [stage, rest @ ..] => stage.pieces(text, &mut |piece, _| split_stages(rest, piece, word)),
    }
}

impl Stage {
    /// A stage of one automaton with a rule for each of its patterns.
    pub(crate) fn new(regex: Regex, rules: Vec<Rule>) -> Self {
        debug_assert_eq!(regex.pattern_len(), rules.len(), "a rule for each pattern");
        Self { regex, rules }
    }

    /// Calls `piece` with each match and with what lies between two, in order, and whether it was a match. None is
    /// empty; together they are the text.
    pub(crate) fn pieces<'t>(&self, text: &'t str, piece: &mut dyn FnMut(&'t str, bool)) {
        // Up to here everything is cut; from `searched` on nothing is looked at yet.
        let mut done = 0;
        let mut searched = 0;
        while let Some(found) = self.regex.search(&Input::new(text).range(searched..)) {
            let span = found.range();
            if span.is_empty() {
                // No pattern of ours matches nothing; if one did, go on behind the next character.
                match text[span.start..].chars().next() {
                    Some(next) => searched = span.start + next.len_utf8(),
                    None => break,
                }
                continue;
            }
            if done < span.start {
                piece(&text[done..span.start], false);
            }
            let rule = self.rules[found.pattern().as_usize()];
            done = apply(rule, text, span, &mut |matched| piece(matched, true));
            searched = done;
        }
        if done < text.len() {
            piece(&text[done..], false);
        }
    }
}

/// Hands out the pieces of one match; returns where the next search begins.
fn apply<'t>(rule: Rule, text: &'t str, span: Range<usize>, piece: &mut dyn FnMut(&'t str)) -> usize {
    let matched = &text[span.clone()];
    match rule {
        Rule::Whole => {
            piece(matched);
            span.end
        }
        Rule::LeaveLastSpace => {
            let end = end_before_last(text, &span);
            piece(&text[span.start..end]);
            end
        }
        Rule::SpacesByPowers => {
            let (end, mut starts) = (end_before_last(text, &span), space_starts(text, &span));
            starts.retain(|&start| start < end);
            cut_by_powers(text, &starts, end, piece);
            end
        }
        Rule::ThreesFromRight => {
            let starts: Vec<_> = matched.char_indices().map(|(at, _)| span.start + at).collect();
            let first = match starts.len() % 3 {
                0 => 3,
                rest => rest,
            };
            let mut from = span.start;
            for &start in starts.iter().skip(first).step_by(3) {
                piece(&text[from..start]);
                from = start;
            }
            piece(&text[from..span.end]);
            span.end
        }
    }
}

/// The end of a run of spaces, without its last space when there is more than one and a word follows.
fn end_before_last(text: &str, span: &Range<usize>) -> usize {
    let last = text[span.clone()].chars().next_back().map_or(0, char::len_utf8);
    if span.end < text.len() && span.len() > last { span.end - last } else { span.end }
}

fn space_starts(text: &str, span: &Range<usize>) -> Vec<usize> {
    text[span.clone()].char_indices().map(|(at, _)| span.start + at).collect()
}

/// Largest power first, as the alternatives stand: 512 … 4, then two or one.
fn cut_by_powers<'t>(text: &'t str, starts: &[usize], end: usize, piece: &mut dyn FnMut(&'t str)) {
    let mut at = 0;
    while at < starts.len() {
        let left = starts.len() - at;
        let take = [512, 256, 128, 64, 32, 16, 8, 4, 2].into_iter().find(|&size| size <= left).unwrap_or(1);
        let to = starts.get(at + take).copied().unwrap_or(end);
        piece(&text[starts[at]..to]);
        at += take;
    }
}
