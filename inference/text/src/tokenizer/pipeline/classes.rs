//! Classes of characters that the pipelines of Hugging Face ask for, by ICU4X's tables.

use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup};

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

/// Punctuation as BERT has it: Unicode's, and every sign of ASCII.
pub(crate) fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || (!c.is_ascii() && GeneralCategoryGroup::Punctuation.contains(category(c)))
}

/// Mn.
pub(crate) fn is_nonspacing_mark(c: char) -> bool {
    !c.is_ascii() && category(c) == GeneralCategory::NonspacingMark
}

/// Mn, Mc and Me.
pub(crate) fn is_mark(c: char) -> bool {
    !c.is_ascii() && GeneralCategoryGroup::Mark.contains(category(c))
}

/// Controls, formats and private use, but not the three that are spaces.
pub(crate) fn is_bert_control(c: char) -> bool {
    use GeneralCategory::{Control, Format, PrivateUse};
    match c {
        '\t' | '\n' | '\r' => false,
        ' '..='~' => false,
        _ => matches!(category(c), Control | Format | PrivateUse),
    }
}

/// What BERT takes for Han characters.
pub(crate) fn is_bert_han(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        assert!("!$+<=>^`|~_、。「」…".chars().all(is_punctuation));
        assert!(!"aé가1 \t€∑".chars().any(is_punctuation));
        assert!("\u{300}\u{302E}".chars().any(is_nonspacing_mark));
        assert!(!is_nonspacing_mark('\u{903}') && is_mark('\u{903}'));
        assert!("\u{0}\u{7F}\u{200B}\u{E000}".chars().all(is_bert_control));
        assert!(!" \t\na가\u{378}".chars().any(is_bert_control));
        assert!(is_bert_han('中') && !is_bert_han('가') && !is_bert_han('あ'));
    }
}
