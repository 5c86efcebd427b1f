//! Token ids back to text, as they come: only whole characters leave, and bytes that are no UTF-8 become U+FFFD just
//! as `String::from_utf8_lossy` of the whole answer would make them. It does not know about stop strings
//! (`StopMatcher`) nor about thinking and tool calls (`output`).

use crate::tokenizer::Tokenizer;

/// Where the decoded ids stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// They begin a text: the space that the tokenizer puts before every text is taken off again.
    OfText,
    /// They go on with something that is already there, as an answer does after its prompt.
    Continuation,
}

/// Decodes one sequence of ids.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// The beginning of a character whose end has not come yet.
    pending: Vec<u8>,
    /// Whether the next bytes may lose a leading space.
    strip: bool,
    /// Control tokens that come out as the text that names them.
    shown: Vec<u32>,
}

impl Decoder {
    /// A decoder for ids of this tokenizer.
    #[must_use]
    pub fn new(tokenizer: &Tokenizer, start: Start) -> Self {
        Self {
            pending: Vec::new(),
            strip: start == Start::OfText && tokenizer.adds_space_prefix(),
            shown: Vec::new(),
        }
    }

    /// Lets these marks come out as text where the vocabulary has them as control tokens, for whoever reads the format
    /// of an answer ([`crate::output`]).
    #[must_use]
    pub fn showing<'m>(mut self, tokenizer: &Tokenizer, marks: impl Iterator<Item = &'m str>) -> Self {
        let ids = marks.filter_map(|mark| tokenizer.token_id(mark));
        self.shown = ids.filter(|id| tokenizer.is_control(*id)).collect();
        self
    }

    /// Takes the next id; returns the characters that are now whole.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        if self.shown.contains(&id) {
            return self.push_bytes(tokenizer.token_text(id).unwrap_or_default().as_bytes());
        }
        self.push_bytes(&tokenizer.token_bytes(id))
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> String {
        let mut bytes = bytes;
        if self.strip && !bytes.is_empty() {
            self.strip = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut done = 0;
        loop {
            match std::str::from_utf8(&self.pending[done..]) {
                Ok(valid) => {
                    text.push_str(valid);
                    done = self.pending.len();
                    break;
                }
                Err(error) => {
                    let valid = done + error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[done..valid]));
                    done = valid;
                    match error.error_len() {
                        Some(length) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            done += length;
                        }
                        None => break,
                    }
                }
            }
        }
        self.pending.drain(..done);
        text
    }

    /// Ends the sequence: a character that never became whole becomes U+FFFD.
    #[must_use]
    pub fn finish(&mut self) -> String {
        self.strip = false;
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoder(strip: bool) -> Decoder {
        Decoder { pending: Vec::new(), strip, shown: Vec::new() }
    }

    #[test]
    fn a_syllable_in_three_tokens() {
        let mut decoder = decoder(false);
        assert_eq!(decoder.push_bytes(&[0xEA]), "");
        assert_eq!(decoder.push_bytes(&[0xB0]), "");
        assert_eq!(decoder.push_bytes(&[0x80, b'!']), "가!");
        assert_eq!(decoder.push_bytes(&[0xEA, 0xB0]), "");
        assert_eq!(decoder.finish(), "\u{FFFD}");
        assert_eq!(decoder.finish(), "");
    }

    #[test]
    fn the_space_of_the_tokenizer_comes_off_once() {
        let mut decoder = decoder(true);
        assert_eq!(decoder.push_bytes(b""), "");
        assert_eq!(decoder.push_bytes(b"  a"), " a");
        assert_eq!(decoder.push_bytes(b" b"), " b");
    }

    /// Bytes that are often nearly UTF-8.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..4),
            proptest::sample::select(vec![0xE0_u8, 0xED, 0xA0, 0xF0, 0xF4, 0x90, 0xC0, 0x80])
                .prop_map(|byte| vec![byte]),
        ];
        proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(bytes in bytes(), cuts in proptest::collection::vec(0_usize..90, 0..12)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut decoder = decoder(false);
            let mut text: String =
                cuts.windows(2).map(|cut| decoder.push_bytes(&bytes[cut[0]..cut[1]])).collect();
            text.push_str(&decoder.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
