//! The pre-tokenizer kinds that `tokenizer.ggml.pre` names: for each, the stages that cut text into words and the
//! few settings that go with the name.
//!
//! Names, groups and settings are those of llama.cpp's vocabulary loader (as in `llama-cpp-python` 0.3.36); the
//! expressions are those of each family's own `tokenizer.json`. Where llama.cpp approximates one (gpt-4o, tekken,
//! youtu and tiny-aya look at upper and lower case, which it can do for ASCII only) or leaves a step out (NFC), ours
//! is the family's.
//! Left out: hybriddna, rwkv and plamo2, which are no BPE of this form.

use super::split::{Alternative, Rule};

/// What a pre-tokenizer name means.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) stages: Vec<Vec<Alternative>>,
    /// A word that is a token is taken whole, whatever the merges would give.
    pub(crate) ignore_merges: bool,
    /// BOS is added unless the file says otherwise.
    pub(crate) add_bos: bool,
    /// Text is composed (NFC) first, as the family's own tokenizer does and llama.cpp does not: decomposed Hangul,
    /// as some file systems write it, would be another text for the model.
    pub(crate) compose: bool,
    /// The vocabulary is raw UTF-8 with `▁` for spaces and `<0xHH>` for bytes, not GPT-2's byte alphabet.
    pub(crate) spm_style: bool,
}

const fn whole(pattern: &'static str) -> Alternative {
    Alternative { pattern, rule: Rule::Whole }
}

const SPACES: Alternative = Alternative { pattern: r"\s+", rule: Rule::LeaveLastSpace };
const CONTRACTIONS: Alternative = whole(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)");
const LINES: Alternative = whole(r"\s*[\r\n]+");
const MARKS: Alternative = whole(r" ?[^\s\p{L}\p{N}]+[\r\n]*");
const MARKS_OR_SLASH: Alternative = whole(r" ?[^\s\p{L}\p{N}]+[\r\n/]*");
const LETTERS: Alternative = whole(r"[^\r\n\p{L}\p{N}]?\p{L}+");
const CJK: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
/// DeepSeek's, from the Arabic supplements up to Hangul.
const CJK_AND_MORE: &str = r"[\x{800}-\x{9FA5}\x{AC00}-\x{D7FF}]+";
const WORDS_AND_SPACE: &str = r" ?[^(\s|.,!?\x{2026}\x{3002}\x{FF0C}\x{3001}\x{964}\x{6D4}\x{60C})]+";

/// GPT-2's own: contractions, letters, numbers, marks, each with the space before it.
fn gpt2() -> Vec<Alternative> {
    vec![whole(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"), SPACES]
}

/// Llama 3's and all that follow it; what differs is how many digits stay together.
fn llama3(digits: &'static str) -> Vec<Alternative> {
    vec![CONTRACTIONS, LETTERS, whole(digits), MARKS, LINES, SPACES]
}

/// GPT-4o's: words are cut where lower case turns upper.
fn gpt4o(digits: &'static str) -> Vec<Alternative> {
    vec![
        whole(concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        )),
        whole(concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        )),
        whole(digits),
        MARKS_OR_SLASH,
        LINES,
        SPACES,
    ]
}

/// Mistral's: as GPT-4o's, without contractions.
fn tekken() -> Vec<Alternative> {
    vec![
        whole(r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"),
        whole(r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"),
        whole(r"\p{N}"),
        MARKS_OR_SLASH,
        LINES,
        SPACES,
    ]
}

/// Kimi K2's: as GPT-4o's, with Han characters apart.
fn kimi() -> Vec<Alternative> {
    vec![
        whole(r"\p{Han}+"),
        whole(concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*",
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        )),
        whole(concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+",
            r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        )),
        whole(r"\p{N}{1,3}"),
        MARKS,
        LINES,
        SPACES,
    ]
}

/// The last stage of DeepSeek V3 and its kin; what differs is what newlines do.
fn deepseek3(marks: &'static str, lines: &'static str) -> Vec<Alternative> {
    vec![
        whole(r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##),
        whole(r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"),
        whole(marks),
        whole(lines),
        SPACES,
    ]
}

fn deepseek_llm() -> Vec<Vec<Alternative>> {
    vec![
        vec![whole(r"[\r\n]")],
        vec![whole(concat!(
            r"\s?[A-Za-z",
            r"\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293}",
            r"\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A}",
            r"\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556}",
            r"\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF}",
            r"\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D}",
            r"\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D}",
            r"\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4}",
            r"\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4}",
            r"\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124}",
            r"\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F}",
            r"\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4}",
            r"\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F}",
            r"\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17}",
            r"\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3}",
            r"\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF}",
            r"\x{1E900}-\x{1E943}",
            r"]+"
        ))],
        vec![whole(r"\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+")],
        vec![whole(r"\s+$")],
        vec![whole(CJK_AND_MORE)],
        vec![whole(r"\p{N}+")],
    ]
}

/// The stages of a pre-tokenizer, `None` for a name that is not known.
pub(crate) fn kind(pre: &str) -> Option<Kind> {
    like_gpt2(pre)
        .or_else(|| like_llama3(pre))
        .or_else(|| like_llama3_with_changes(pre))
        .or_else(|| like_deepseek(pre))
        .or_else(|| like_gpt4o(pre))
}

/// A kind with no settings of its own.
const fn plain(stages: Vec<Vec<Alternative>>) -> Kind {
    Kind { stages, ignore_merges: false, add_bos: false, compose: false, spm_style: false }
}

/// GPT-2's expression, alone or after stages that cut numbers or marks apart; and those with no words at all.
fn like_gpt2(pre: &str) -> Option<Kind> {
    let digit_then_gpt2 = || vec![vec![whole(r"\p{N}")], gpt2()];
    Some(match pre {
        "" | "default" => plain(vec![
            vec![whole(r"[\p{P}\$\+<=>\^~\|]+")],
            gpt2(),
            vec![whole(r"\p{N}+")],
            vec![whole("[0-9][0-9][0-9]")],
        ]),
        "falcon" => {
            plain(vec![vec![whole(r"[\p{P}\$\+<=>\^~\|`]+")], gpt2(), vec![whole("[0-9][0-9][0-9]")]])
        }
        "command-r" => Kind { compose: true, ..plain(digit_then_gpt2()) },
        "starcoder" | "refact" | "smollm" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            plain(digit_then_gpt2())
        }
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "gigachat" | "jina-v2-es" | "jina-v2-de" | "a.x-4.0"
        | "mellum" | "modern-bert" | "jina-v1-en" | "jina-v2-code" | "roberta-bpe" | "mpt" | "olmo"
        | "jais" | "trillion" | "granite-docling" | "exaone4" => plain(vec![gpt2()]),
        "poro-chat" | "bloom" | "gpt3-finnish" => plain(vec![vec![whole(WORDS_AND_SPACE)]]),
        "viking" => plain(vec![vec![whole(WORDS_AND_SPACE)], vec![whole(r"\p{N}")]]),
        _ => return None,
    })
}

/// Llama 3's expression.
fn like_llama3(pre: &str) -> Option<Kind> {
    Some(match pre {
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => Kind { ignore_merges: true, add_bos: true, ..plain(vec![llama3(r"\p{N}{1,3}")]) },
        "dbrx" | "smaug-bpe" | "chatglm-bpe" => plain(vec![llama3(r"\p{N}{1,3}")]),
        "glm4" | "glm5" => Kind { ignore_merges: true, ..plain(vec![llama3(r"\p{N}{1,3}")]) },
        "minicpm5" => {
            Kind { ignore_merges: true, ..plain(vec![vec![whole(r"\p{N}{1,3}")], llama3(r"\p{N}+")]) }
        }
        "qwen2" | "deepseek-r1-qwen" => Kind { compose: true, ..plain(vec![llama3(r"\p{N}")]) },
        "kormo" | "f2llmv2" | "megrez" | "stablelm2" | "hunyuan" | "solar-open" | "grok-2" => {
            plain(vec![llama3(r"\p{N}")])
        }
        "laguna" => plain(vec![vec![whole(r"[^\n]+|\n+")], llama3(r"\p{N}")]),
        "ufakzeka" => plain(vec![llama3(r"\p{N}")[1..].to_vec()]),
        "qwen35" => plain(vec![vec![
            CONTRACTIONS,
            whole(r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"),
            whole(r"\p{N}"),
            whole(r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"),
            LINES,
            SPACES,
        ]]),
        _ => return None,
    })
}

/// Llama 3's expression with a line or two of the family's own.
fn like_llama3_with_changes(pre: &str) -> Option<Kind> {
    Some(match pre {
        "jais-2" => {
            let spaces = Alternative { pattern: r"\s+", rule: Rule::SpacesByPowers };
            plain(vec![vec![CONTRACTIONS, LETTERS, whole(r"\p{N}{1,3}"), MARKS, LINES, spaces]])
        }
        "seed-coder" => plain(vec![vec![
            CONTRACTIONS,
            LETTERS,
            whole(r"\p{N}"),
            whole(r" ?[^\s\p{L}\p{N}\r\n]+"),
            LINES,
            SPACES,
        ]]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => plain(vec![vec![
            whole(r"'(?i:[sdmt]|ll|ve|re)"),
            LETTERS,
            whole(r"\p{N}"),
            MARKS,
            whole(r"\s*[\r\n]"),
            SPACES,
        ]]),
        "exaone-moe" => plain(vec![vec![
            CONTRACTIONS,
            whole(r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+"),
            whole(r"\p{N}"),
            whole(r" ?[^\s\p{L}\p{N}]+[\r\n/]?"),
            whole(r"\s*[\r\n]"),
            SPACES,
        ]]),
        _ => return None,
    })
}

/// DeepSeek's, and others that take East Asian scripts apart first.
fn like_deepseek(pre: &str) -> Option<Kind> {
    Some(match pre {
        "deepseek-llm" => plain(deepseek_llm()),
        "deepseek-coder" => plain(vec![
            vec![whole(r"[\r\n]")],
            vec![whole(r"\s?\p{L}+")],
            vec![whole(r"\s?\p{P}+")],
            vec![whole(CJK_AND_MORE)],
            vec![whole(r"\p{N}")],
        ]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => plain(vec![
            vec![whole(r"\p{N}{1,3}")],
            vec![whole(CJK)],
            deepseek3(r" ?[\p{P}\p{S}]+[\r\n]*", r"\s*[\r\n]+"),
        ]),
        "spark2_5" => plain(vec![
            vec![whole(r"\p{N}{1,3}")],
            vec![whole(CJK)],
            deepseek3(r" ?[\p{P}\p{S}]+", r"[\r\n]"),
            vec![whole(r"\p{N}")],
        ]),
        "afmoe" => plain(vec![
            vec![Alternative { pattern: r"\p{Nd}+", rule: Rule::ThreesFromRight }],
            vec![whole(concat!(
                r"[\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{8C48}-\x{FAFF}\x{3040}-\x{30FF}\x{FF65}-\x{FF9F}",
                r"\x{2F00}-\x{2FDF}\x{E40}-\x{EFF}\x{1780}-\x{17FF}\x{1000}-\x{109F}\x{AA60}-\x{AA7F}",
                r"\x{A9E0}-\x{A9FF}\x{AC00}-\x{D7AF}\x{1100}-\x{11FF}]+"
            ))],
            deepseek3(r" ?[\p{P}\p{S}]+[\r\n]*", r"\s*[\r\n]+"),
        ]),
        "youtu" => Kind {
            ignore_merges: true,
            ..plain(vec![
                vec![whole(concat!(
                    r"[\x{AC00}-\x{D7A3}\x{3131}-\x{318E}]+|",
                    r"[\x{FF01}\x{2026}\x{201C}\x{201D}\x{2018}\x{2019}\x{2014}\x{FF1A}\x{FF1B}\x{FF0C}",
                    r"\x{3001}-\x{303F}\x{FE30}-\x{FE4F}]+|[\x{3105}-\x{312F}]+|",
                    r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+"
                ))],
                gpt4o(r"\p{N}"),
            ])
        },
        _ => return None,
    })
}

/// GPT-4o's expression and its kin, and the kinds that merge over whole lines.
fn like_gpt4o(pre: &str) -> Option<Kind> {
    let newline_runs = || vec![vec![whole(r"[^\n]+|\n+")]];
    Some(match pre {
        "tekken" => Kind { ignore_merges: true, add_bos: true, ..plain(vec![tekken()]) },
        "chameleon" => Kind {
            add_bos: true,
            ..plain(vec![
                vec![whole("<sentinel:[0-9]+>")],
                vec![whole("(?:IMGIMG)[A-I]{1,4}Z")],
                vec![whole(r"[\t\n]|    |  ")],
                vec![whole(r"\p{N}")],
                vec![whole(r"[\p{P}!-/:-@\[-`{-~]")],
                gpt2(),
            ])
        },
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => plain(vec![gpt4o(r"\p{N}{1,3}")]),
        "granite-embed-multi-97m" => Kind { ignore_merges: true, ..plain(vec![gpt4o(r"\p{N}{1,3}")]) },
        "tiny_aya" | "cohere2moe" => plain(vec![
            vec![Alternative { pattern: r"\p{Nd}+", rule: Rule::ThreesFromRight }],
            gpt4o(r"\p{N}{1,3}"),
        ]),
        "kimi-k2" => plain(vec![kimi()]),
        "superbpe" => plain(vec![
            vec![whole(r"\p{N}+")],
            vec![Alternative { pattern: r"\p{Nd}+", rule: Rule::ThreesFromRight }],
        ]),
        "gemma4" | "granite-embed-multi-311m" => {
            Kind { spm_style: true, add_bos: true, ..plain(newline_runs()) }
        }
        "sarvam-moe" => Kind { spm_style: true, ..plain(newline_runs()) },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::split::Splitter;
    use super::*;

    /// Every name that llama.cpp knows.
    const NAMES: &str = "default llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano \
        minicpm5 deepseek-llm deepseek-coder deepseek-v3 spark2_5 youtu falcon mpt starcoder gpt-2 phi-2 jina-es \
        jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jais-2 gemma4 granite-embed-multi-311m \
        sarvam-moe jina-v1-en jina-v2-code roberta-bpe refact command-r qwen2 deepseek-r1-qwen kormo f2llmv2 \
        qwen35 stablelm2 olmo dbrx smaug-bpe poro-chat chatglm-bpe glm4 glm5 viking jais tekken smollm codeshell \
        bloom gpt3-finnish exaone exaone4 exaone-moe chameleon minerva-7b megrez gpt-4o llama4 kanana2 talkie \
        granite-embed-multi-97m tiny_aya cohere2moe superbpe trillion granite-docling bailingmoe bailingmoe2 \
        llada-moe seed-coder hunyuan hunyuan-dense hy_v4 joyai-llm kimi-k2 ufakzeka grok-2 afmoe laguna \
        minimax-m2 solar-open mellum2";

    fn words(pre: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let splitter = Splitter::new(&kind(pre).unwrap().stages).unwrap();
        splitter.split(text, &mut |word| words.push(word.to_owned()));
        words
    }

    fn check(pre: &str, text: &str, expected: &[&str]) {
        assert_eq!(words(pre, text), expected, "{pre}: {text:?}");
    }

    #[test]
    fn every_name_compiles_and_loses_nothing() {
        let text = "I'LL say:  안녕, 世界! ... 12345 \r\n\n\té́x  https://a.b/c\u{3000}ÀaBc\u{0}😀 \n ";
        for pre in NAMES.split_whitespace() {
            assert_eq!(words(pre, text).concat(), text, "{pre}");
            assert!(words(pre, "").is_empty(), "{pre}");
        }
        assert!(kind("no such").is_none());
    }

    #[test]
    fn the_last_space_belongs_to_the_word() {
        check("gpt-2", "a   b  ", &["a", "  ", " b", "  "]);
        check("llama-bpe", "a \n  b\t", &["a", " \n", " ", " b", "\t"]);
        check("gpt-2", "\tx", &["\t", "x"]);
    }

    #[test]
    fn digits() {
        check("llama-bpe", "12345", &["123", "45"]);
        check("qwen2", "123", &["1", "2", "3"]);
        check("superbpe", "a1234567", &["a", "1", "234", "567"]);
        check("afmoe", "123456", &["123", "456"]);
    }

    #[test]
    fn case_cuts_words_where_the_family_does() {
        check("gpt-4o", "HelloWORLDÉcole", &["Hello", "WORLDÉcole"]);
        check("gpt-4o", "IT'S fooBar's", &["IT'S", " foo", "Bar's"]);
        check("tekken", "fooBar's", &["foo", "Bar", "'s"]);
        check("kimi-k2", "中文abc", &["中文", "abc"]);
    }

    #[test]
    fn runs_of_spaces_in_powers_of_two() {
        check("jais-2", "     a", &["    ", " a"]);
        check("jais-2", "       ", &["    ", "  ", " "]);
    }
}
