//! Korean particles: which of two forms (을 or 를, 이 or 가, 으로 or 로) follows a word, by the sound it ends with.
//! Used by `messages` for names that are only known when the program runs. Latin words are judged by how Koreans
//! usually read them aloud; what cannot be judged gets both forms, as in Korean print. No IO.

/// How a word ends, as far as particles care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A vowel: 를, 가, 는, 와, 로.
    Vowel,
    /// The consonant ㄹ: as other consonants, but 로.
    Rieul,
    /// Another consonant: 을, 이, 은, 과, 으로.
    Consonant,
    /// Nothing that has a known reading.
    Unknown,
}

/// The particle that follows `text`. `after_consonant` and `after_vowel` are the two forms, for example 을 and 를.
pub(crate) fn particle(text: &str, after_consonant: &str, after_vowel: &str) -> String {
    match ending(text) {
        Ending::Vowel => after_vowel.to_owned(),
        // 으로 is the one particle that treats ㄹ as a vowel: 서울로, 파일로.
        Ending::Rieul if after_consonant.starts_with('으') => after_vowel.to_owned(),
        Ending::Rieul | Ending::Consonant => after_consonant.to_owned(),
        Ending::Unknown => format!("{after_consonant}({after_vowel})"),
    }
}

/// The ending of the last letter or digit; quotes and brackets after it are not read aloud.
fn ending(text: &str) -> Ending {
    let word = text.trim_end_matches(|c: char| !c.is_alphanumeric());
    let Some(last) = word.chars().next_back() else {
        return Ending::Unknown;
    };
    match last {
        '가'..='힣' => hangul_ending(last),
        '0'..='9' => digit_ending(last),
        'a'..='z' | 'A'..='Z' => latin_ending(word),
        _ => Ending::Unknown,
    }
}

/// A Hangul syllable is `0xAC00 + (initial * 21 + vowel) * 28 + final` (Unicode 16, section 3.12); final 8 is ㄹ.
fn hangul_ending(syllable: char) -> Ending {
    match (u32::from(syllable) - 0xAC00) % 28 {
        0 => Ending::Vowel,
        8 => Ending::Rieul,
        _ => Ending::Consonant,
    }
}

/// 영 일 이 삼 사 오 육 칠 팔 구.
fn digit_ending(digit: char) -> Ending {
    match digit {
        '1' | '7' | '8' => Ending::Rieul,
        '0' | '3' | '6' => Ending::Consonant,
        _ => Ending::Vowel,
    }
}

/// One letter is read by its name (7b 비, 270m 엠), a word by its sound (model 모델, latest 레이티스트).
fn latin_ending(word: &str) -> Ending {
    let lower = word.to_ascii_lowercase();
    let letters = lower.chars().rev().take_while(char::is_ascii_lowercase).count();
    let last = lower.chars().next_back();
    match (letters, last) {
        (_, Some('l')) | (1, Some('r')) => Ending::Rieul,
        (_, Some('m' | 'n')) => Ending::Consonant,
        (2.., _) if lower.ends_with("ng") => Ending::Consonant,
        _ => Ending::Vowel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_particles() {
        for (word, expected) in [
            ("모델", "을"),
            ("파일", "을"),
            ("답", "을"),
            ("주소", "를"),
            ("서버", "를"),
            ("'smollm2'", "를"),
            ("'gemma3:270m'", "을"),
            ("qwen3:8b", "를"),
            ("smollm2:latest", "를"),
            ("model", "을"),
            ("\"llama3.1\"", "을"),
            ("버전 10", "을"),
            ("token", "을"),
            ("(…)", "을(를)"),
            ("", "을(를)"),
        ] {
            assert_eq!(particle(word, "을", "를"), expected, "{word}");
        }
    }

    #[test]
    fn direction_treats_rieul_as_a_vowel() {
        for (word, expected) in
            [("서울", "로"), ("부산", "으로"), ("주소", "로"), ("8", "로"), ("model", "로"), ("6", "으로")]
        {
            assert_eq!(particle(word, "으로", "로"), expected, "{word}");
        }
    }
}
