//! The second part of a pipeline: cutting a text into the pieces that the model encodes one by one. Steps are those of
//! `tokenizer.json`, by the same names; each cuts the pieces of the one before.

use serde_json::Value as Json;

use super::super::bytes;
use super::super::error::TokenizerError;
use super::super::split::Stage;
use super::read::{flag, kind_of, list, text_of, unknown};
use super::{classes, pattern};

/// GPT-2's own expression.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// One step.
#[derive(Debug)]
pub(crate) enum Step {
    /// Characters of a class are matches.
    Class(fn(char) -> bool, Behavior),
    /// So is one character.
    Character(char),
    /// So is what an expression finds; `invert`: what lies between is.
    Expression { stage: Stage, behavior: Behavior, invert: bool },
    /// A space before a piece that has none.
    LeadingSpace,
    /// Bytes become the characters of GPT-2's alphabet.
    Bytes,
    /// Spaces become a mark, and pieces begin at it.
    Marks { mark: char, prepend: Prepend, split: bool },
    /// Pieces of so many characters.
    Lengths(usize),
}

/// What becomes of matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behavior {
    Removed,
    Isolated,
    MergedWithPrevious,
    MergedWithNext,
    Contiguous,
}

/// Which pieces get a mark before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prepend {
    /// That at the very start of the text.
    First,
    Never,
    Always,
}

/// Where a piece stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// At the very start of the text.
    pub(crate) first: bool,
    /// Something may be put before it: not where the text goes on with another.
    pub(crate) prefix: bool,
}

const INSIDE: Place = Place { first: false, prefix: true };

/// Reads the steps, those of sequences one after another.
pub(crate) fn read(json: &Json, out: &mut Vec<Step>) -> Result<(), TokenizerError> {
    use Behavior::{Contiguous, Isolated, Removed};
    let step = match kind_of(json) {
        "Sequence" => return list(json, "pretokenizers")?.iter().try_for_each(|step| read(step, out)),
        "ByteLevel" => {
            if flag(json, "add_prefix_space").unwrap_or(true) {
                out.push(Step::LeadingSpace);
            }
            if flag(json, "use_regex").unwrap_or(true) {
                out.push(expression(GPT2)?);
            }
            Step::Bytes
        }
        "Split" => split(json)?,
        "Digits" if flag(json, "individual_digits").unwrap_or(false) => {
            Step::Class(char::is_numeric, Isolated)
        }
        "Digits" => Step::Class(char::is_numeric, Contiguous),
        "Punctuation" => Step::Class(classes::is_punctuation, behavior(json)?.unwrap_or(Isolated)),
        "WhitespaceSplit" => Step::Class(char::is_whitespace, Removed),
        "Whitespace" => Step::Expression {
            stage: pattern::compile(r"\w+|[^\w\s]+", false)?,
            behavior: Removed,
            invert: true,
        },
        "BertPreTokenizer" => {
            out.push(Step::Class(char::is_whitespace, Removed));
            Step::Class(classes::is_punctuation, Isolated)
        }
        "CharDelimiterSplit" => Step::Character(one_char(text_of(json, "delimiter")?)?),
        "Metaspace" => metaspace(json)?,
        "FixedLength" => {
            let length = json.get("length").and_then(Json::as_u64).unwrap_or(5);
            Step::Lengths(usize::try_from(length.max(1)).unwrap_or(usize::MAX))
        }
        other => return Err(unknown("pre_tokenizer", other)),
    };
    out.push(step);
    Ok(())
}

fn expression(expression: &str) -> Result<Step, TokenizerError> {
    let stage = pattern::compile(expression, true)?;
    Ok(Step::Expression { stage, behavior: Behavior::Isolated, invert: false })
}

fn split(json: &Json) -> Result<Step, TokenizerError> {
    let behavior = behavior(json)?.ok_or_else(|| unknown("pre_tokenizer", "Split without behavior"))?;
    let invert = flag(json, "invert").unwrap_or(false);
    let pattern = json.get("pattern").unwrap_or(&Json::Null);
    let stage =
        match (pattern.get("Regex").and_then(Json::as_str), pattern.get("String").and_then(Json::as_str)) {
            (Some(expression), _) => pattern::compile(expression, behavior == Behavior::Isolated)?,
            (None, Some(text)) if !text.is_empty() => pattern::literal(text)?,
            _ => return Err(unknown("pre_tokenizer", "Split without a pattern")),
        };
    Ok(Step::Expression { stage, behavior, invert })
}

fn behavior(json: &Json) -> Result<Option<Behavior>, TokenizerError> {
    Ok(Some(match json.get("behavior").and_then(Json::as_str) {
        None => return Ok(None),
        Some("Removed") => Behavior::Removed,
        Some("Isolated") => Behavior::Isolated,
        Some("MergedWithPrevious") => Behavior::MergedWithPrevious,
        Some("MergedWithNext") => Behavior::MergedWithNext,
        Some("Contiguous") => Behavior::Contiguous,
        Some(other) => return Err(unknown("behavior", other)),
    }))
}

fn metaspace(json: &Json) -> Result<Step, TokenizerError> {
    let mark = match json.get("replacement").and_then(Json::as_str) {
        Some(mark) => one_char(mark)?,
        None => '\u{2581}',
    };
    // Older files say only whether.
    let whether = flag(json, "add_prefix_space").unwrap_or(true);
    let prepend = match json.get("prepend_scheme").and_then(Json::as_str) {
        None | Some("always") if whether => Prepend::Always,
        None | Some("never") => Prepend::Never,
        Some("first") => Prepend::First,
        Some(other) => return Err(unknown("prepend_scheme", other)),
    };
    Ok(Step::Marks { mark, prepend, split: flag(json, "split").unwrap_or(true) })
}

fn one_char(text: &str) -> Result<char, TokenizerError> {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(one), None) => Ok(one),
        _ => Err(unknown("step", &format!("with {text:?} where one character belongs"))),
    }
}

/// Calls `each` with the pieces of a text, in order; none is empty.
pub(crate) fn run(steps: &[Step], piece: &str, place: Place, each: &mut dyn FnMut(&str)) {
    if piece.is_empty() {
        return;
    }
    let Some((step, rest)) = steps.split_first() else { return each(piece) };
    // Where a piece stands is known by its address: at the start of this one or not.
    let start = piece.as_ptr();
    let place_of = |part: &str| if part.as_ptr() == start { place } else { INSIDE };
    let mut go_on = |part: &str| run(rest, part, place_of(part), each);
    match step {
        Step::Class(class, behavior) => {
            by_behavior(piece, *behavior, false, &mut go_on, |out| by_class(piece, *class, out));
        }
        Step::Character(one) => {
            by_behavior(piece, Behavior::Removed, false, &mut go_on, |out| {
                by_class(piece, |c| c == *one, out)
            });
        }
        Step::Expression { stage, behavior, invert } => {
            by_behavior(piece, *behavior, *invert, &mut go_on, |out| stage.pieces(piece, out));
        }
        Step::LeadingSpace if place.prefix && !piece.starts_with(' ') => {
            run(rest, &format!(" {piece}"), place, each);
        }
        Step::LeadingSpace => run(rest, piece, place, each),
        Step::Bytes => {
            let mut mapped = String::with_capacity(piece.len() * 2);
            bytes::push_encoded(piece.as_bytes(), &mut mapped);
            run(rest, &mapped, place, each);
        }
        Step::Marks { mark, prepend, split } => {
            let marked = marked(piece, *mark, *prepend, place);
            let start = marked.as_ptr();
            let mut go_on = |part: &str| {
                run(rest, part, if part.as_ptr() == start { place } else { INSIDE }, each);
            };
            if *split { before_each(&marked, *mark, &mut go_on) } else { go_on(&marked) }
        }
        Step::Lengths(length) => {
            let mut left = piece;
            while !left.is_empty() {
                let end = left.char_indices().nth(*length).map_or(left.len(), |(at, _)| at);
                go_on(&left[..end]);
                left = &left[end..];
            }
        }
    }
}

fn marked(piece: &str, mark: char, prepend: Prepend, place: Place) -> String {
    let mut buffer = [0; 4];
    let text = mark.encode_utf8(&mut buffer);
    let mut out = String::with_capacity(piece.len() + piece.len() / 2 + 4);
    let wanted = prepend == Prepend::Always || (prepend == Prepend::First && place.first);
    if wanted && place.prefix && !piece.starts_with([mark, ' ']) {
        out.push_str(text);
    }
    for (index, part) in piece.split(' ').enumerate() {
        if index > 0 {
            out.push_str(text);
        }
        out.push_str(part);
    }
    out
}

/// Pieces that begin at each mark.
fn before_each<'t>(text: &'t str, mark: char, each: &mut dyn FnMut(&'t str)) {
    let mut start = 0;
    for (at, _) in text.match_indices(mark) {
        if at > start {
            each(&text[start..at]);
            start = at;
        }
    }
    each(&text[start..]);
}

/// Each character of the class alone, and what lies between two.
fn by_class<'t>(text: &'t str, class: impl Fn(char) -> bool, out: &mut dyn FnMut(&'t str, bool)) {
    let mut start = 0;
    for (at, c) in text.char_indices() {
        if class(c) {
            if start < at {
                out(&text[start..at], false);
            }
            start = at + c.len_utf8();
            out(&text[at..start], true);
        }
    }
    if start < text.len() {
        out(&text[start..], false);
    }
}

/// Hands on the pieces of `source`, which together are `text`, as the behavior says.
fn by_behavior<'t>(
    text: &'t str,
    behavior: Behavior,
    invert: bool,
    each: &mut dyn FnMut(&'t str),
    source: impl FnOnce(&mut dyn FnMut(&'t str, bool)),
) {
    match behavior {
        Behavior::Isolated => source(&mut |piece, _| each(piece)),
        Behavior::Removed => source(&mut |piece, matched| {
            if matched == invert {
                each(piece);
            }
        }),
        _ => {
            let mut pieces = Vec::new();
            source(&mut |piece, matched| pieces.push((piece.len(), matched != invert)));
            let mut done = 0;
            let mut at = 0;
            while at < pieces.len() {
                let end = at + joined(behavior, &pieces[at..]);
                let length: usize = pieces[at..end].iter().map(|(length, _)| length).sum();
                each(&text[done..done + length]);
                (done, at) = (done + length, end);
            }
        }
    }
}

/// How many of these pieces, from the first, become one, by the rules of `tokenizers`: with the previous, a match is
/// joined to the piece before it unless that is a match as well; with the next, the same from the other side;
/// contiguous, equal neighbours are joined.
fn joined(behavior: Behavior, pieces: &[(usize, bool)]) -> usize {
    let first = pieces[0].1;
    let next = pieces.get(1).map(|piece| piece.1);
    match behavior {
        Behavior::Contiguous => pieces.iter().take_while(|piece| piece.1 == first).count(),
        Behavior::MergedWithPrevious if !first && next == Some(true) => 2,
        Behavior::MergedWithNext if first && next == Some(false) => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pieces(steps: &Json, text: &str, place: Place) -> Vec<String> {
        let mut read_steps = Vec::new();
        read(steps, &mut read_steps).unwrap();
        let mut out = Vec::new();
        run(&read_steps, text, place, &mut |piece| out.push(piece.to_owned()));
        out
    }

    fn check(steps: &Json, text: &str, expected: &[&str]) {
        let place = Place { first: true, prefix: true };
        assert_eq!(pieces(steps, text, place), expected, "{steps} on {text:?}");
    }

    #[test]
    fn behaviors() {
        let split = |behavior: &str, invert: bool| {
            json!({"type": "Split", "pattern": {"String": "-"},
            "behavior": behavior, "invert": invert})
        };
        check(&split("Removed", false), "a--b-", &["a", "b"]);
        check(&split("Removed", true), "a--b-", &["-", "-", "-"]);
        check(&split("Isolated", false), "a--b-", &["a", "-", "-", "b", "-"]);
        check(&split("MergedWithPrevious", false), "-a--b-", &["-", "a-", "-", "b-"]);
        check(&split("MergedWithNext", false), "-a--b-", &["-a", "-", "-b", "-"]);
        check(&split("Contiguous", false), "a--b-", &["a", "--", "b", "-"]);
        check(&split("Isolated", false), "", &[]);
    }

    #[test]
    fn steps() {
        check(&json!({"type": "Digits", "individual_digits": true}), "a12½", &["a", "1", "2", "½"]);
        check(&json!({"type": "Digits", "individual_digits": false}), "a12b", &["a", "12", "b"]);
        check(&json!({"type": "BertPreTokenizer"}), " a,b 가\u{3000}!", &["a", ",", "b", "가", "!"]);
        check(&json!({"type": "Whitespace"}), "a_b!? c", &["a_b", "!?", "c"]);
        check(&json!({"type": "CharDelimiterSplit", "delimiter": "|"}), "a||b", &["a", "b"]);
        check(&json!({"type": "FixedLength", "length": 2}), "가나다", &["가나", "다"]);
        check(&json!({"type": "Punctuation", "behavior": "Contiguous"}), "a!?b", &["a", "!?", "b"]);
    }

    #[test]
    fn marks() {
        let marks = |scheme: &str, split: bool| {
            json!({"type": "Metaspace", "replacement": "▁",
            "prepend_scheme": scheme, "split": split})
        };
        check(&marks("always", true), "a  b", &["▁a", "▁", "▁b"]);
        check(&marks("never", true), "a b ", &["a", "▁b", "▁"]);
        check(&marks("first", false), "a b", &["▁a▁b"]);
        check(&marks("always", false), " a", &["▁a"]);
        let words = |scheme| json!({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, marks(scheme, true)]});
        check(&words("always"), "a  b", &["▁a", "▁b"]);
        check(&words("first"), "a b", &["▁a", "b"]);
        check(&words("first"), " a b", &["a", "b"]);
        let go_on = Place { first: false, prefix: false };
        assert_eq!(pieces(&marks("always", true), "a b", go_on), ["a", "▁b"]);
    }

    #[test]
    fn bytes_in_the_middle() {
        // Falcon's: what is a number is asked of the alphabet, where some bytes read as one: `²` is B2.
        let steps = json!({"type": "Sequence", "pretokenizers": [
            {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true},
            {"type": "Digits", "individual_digits": false}]});
        check(&steps, "a12 겲", &["Ġa", "12", "Ġê", "²²"]);
    }

    #[test]
    fn what_is_not_known_is_named() {
        for (json, name) in [
            (json!({"type": "UnicodeScripts"}), "UnicodeScripts"),
            (json!({"type": "Split", "pattern": {"Regex": "(?<=a)b"}, "behavior": "Isolated"}), "(?<=a)b"),
            (json!({"type": "Split", "pattern": {"String": "a"}, "behavior": "Sideways"}), "Sideways"),
            (json!({"type": "Sequence", "pretokenizers": vec![json!({"type": "Digits"}); 100]}), "100 steps"),
            (json!({"type": "CharDelimiterSplit", "delimiter": "ab"}), "ab"),
        ] {
            let error = read(&json, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
