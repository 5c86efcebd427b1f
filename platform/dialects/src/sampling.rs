//! The samplers' options that dialects share: one table of names, kinds and bounds, read from JSON into
//! [`contract::Sampling`] and written back. OpenAI's fields take them as peers do (vLLM, llama.cpp), Ollama's `options`
//! and the parameters of a Modelfile too. What only one dialect has, or bounds in its own way (`temperature`, `top_p`,
//! `seed`), it reads itself. What the options do: `docs/reference/sampling.md`.

use contract::{BiasTarget, LogitBias, SamplerKind, Sampling};
use serde_json::{Map, Value, json};

use crate::fields::{Kind, whole};

/// More entries than this are refused: each is compared with every token of the answer.
const BIASES_MAX: usize = 1024;
const TEXTS_MAX: usize = 64;
const SAMPLERS_MAX: usize = 32;
/// Far enough to forbid or force any token, as OpenAI bounds it.
const BIAS_MAX: f64 = 100.0;

type Slot<T> = fn(&mut Sampling) -> &mut T;

/// What values an option takes, and where they go.
#[derive(Clone, Copy)]
enum Shape {
    Float {
        low: f64,
        high: f64,
        slot: Slot<Option<f32>>,
    },
    /// A number of something.
    Count {
        slot: Slot<Option<u32>>,
    },
    /// A number of past tokens; -1 is all of them.
    Window {
        slot: Slot<Option<i32>>,
    },
    Version {
        high: u8,
        slot: Slot<Option<u8>>,
    },
    Switch {
        slot: Slot<Option<bool>>,
    },
    Texts {
        slot: Slot<Option<Vec<String>>>,
    },
    BadWords,
    Samplers,
    Biases,
}

use Shape::{BadWords, Biases, Count, Float, Samplers, Switch, Texts, Version, Window};

/// A share of something.
const fn share(slot: Slot<Option<f32>>) -> Shape {
    Float { low: 0.0, high: 1.0, slot }
}

/// Anything from 0 on.
const fn amount(slot: Slot<Option<f32>>) -> Shape {
    Float { low: 0.0, high: 1e4, slot }
}

/// Every option, by name.
const TABLE: &[(&str, Shape)] = &[
    ("adaptive_decay", Float { low: 0.0, high: 0.99, slot: |s| &mut s.adaptive_decay }),
    ("adaptive_target", Float { low: -1e4, high: 1.0, slot: |s| &mut s.adaptive_target }),
    ("bad_words", BadWords),
    ("dry_allowed_length", Count { slot: |s| &mut s.dry_allowed_length }),
    ("dry_base", amount(|s| &mut s.dry_base)),
    ("dry_multiplier", amount(|s| &mut s.dry_multiplier)),
    ("dry_penalty_last_n", Window { slot: |s| &mut s.dry_penalty_last_n }),
    ("dry_sequence_breakers", Texts { slot: |s| &mut s.dry_sequence_breakers }),
    ("dynatemp_exponent", amount(|s| &mut s.dynamic_temperature_exponent)),
    ("dynatemp_range", amount(|s| &mut s.dynamic_temperature_range)),
    ("ignore_eos", Switch { slot: |s| &mut s.ignore_eos }),
    ("logit_bias", Biases),
    ("min_keep", Count { slot: |s| &mut s.min_keep }),
    ("min_p", share(|s| &mut s.min_p)),
    ("min_tokens", Count { slot: |s| &mut s.min_tokens }),
    ("mirostat", Version { high: 2, slot: |s| &mut s.mirostat }),
    ("mirostat_eta", amount(|s| &mut s.mirostat_eta)),
    ("mirostat_tau", amount(|s| &mut s.mirostat_tau)),
    ("penalize_newline", Switch { slot: |s| &mut s.penalise_newline }),
    ("repeat_last_n", Window { slot: |s| &mut s.repeat_last_n }),
    ("samplers", Samplers),
    ("tfs_z", share(|s| &mut s.tail_free_z)),
    ("top_n_sigma", Float { low: -1e4, high: 1e4, slot: |s| &mut s.top_n_sigma }),
    ("typical_p", share(|s| &mut s.typical_p)),
    ("xtc_probability", share(|s| &mut s.xtc_probability)),
    ("xtc_threshold", share(|s| &mut s.xtc_threshold)),
];

/// The names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Problem {
    /// Of another kind. `place` is behind the option's name: `[3]`, `.5`.
    Type {
        place: String,
        wanted: &'static str,
        found: Kind,
    },
    Below {
        place: String,
        kind: &'static str,
        bound: f64,
        found: f64,
    },
    Above {
        place: String,
        kind: &'static str,
        bound: f64,
        found: f64,
    },
    TooMany {
        bound: usize,
    },
    /// A word that is none of these.
    Word {
        place: String,
        found: String,
        supported: &'static str,
    },
}

impl Problem {
    /// The problem in one line, for a person who set the option by hand.
    fn text(&self, name: &str) -> String {
        match self {
            Self::Type { place, wanted, .. } => format!("{name}{place} must be {wanted}"),
            Self::Below { place, bound, .. } => format!("{name}{place} must be {bound} or more"),
            Self::Above { place, bound, .. } => format!("{name}{place} must be {bound} or less"),
            Self::TooMany { bound } => format!("{name} must have {bound} entries or fewer"),
            Self::Word { place, supported, .. } => format!("{name}{place} must be one of {supported}"),
        }
    }
}

/// Sets an option from JSON. `None`: no such option.
///
/// # Errors
/// What is wrong with the value, in one line.
pub fn set(sampling: &mut Sampling, name: &str, value: &Value) -> Option<Result<(), String>> {
    Some(put(sampling, name, value)?.map_err(|problem| problem.text(name)))
}

/// The same, with the problem in parts.
pub(crate) fn put(sampling: &mut Sampling, name: &str, value: &Value) -> Option<Result<(), Problem>> {
    let place = TABLE.binary_search_by_key(&name, |(known, _)| known).ok()?;
    Some(store(sampling, TABLE[place].1, value))
}

fn store(sampling: &mut Sampling, shape: Shape, value: &Value) -> Result<(), Problem> {
    match shape {
        Float { low, high, slot } => *slot(sampling) = Some(decimal("", value, low, high)? as f32),
        // All bounds fit the types that the numbers go into.
        Count { slot } => *slot(sampling) = Some(integer(value, 0, i64::from(u32::MAX))? as u32),
        Window { slot } => *slot(sampling) = Some(integer(value, -1, i64::from(i32::MAX))? as i32),
        Version { high, slot } => *slot(sampling) = Some(integer(value, 0, i64::from(high))? as u8),
        Switch { slot } => {
            *slot(sampling) = Some(value.as_bool().ok_or_else(|| wrong("", "a boolean", value))?)
        }
        Texts { slot } => *slot(sampling) = Some(texts(value)?),
        BadWords => sampling.bad_words = texts(value)?,
        Samplers => sampling.samplers = Some(samplers(value)?),
        Biases => sampling.logit_bias = biases(value)?,
    }
    Ok(())
}

/// Every option that was said, as JSON that [`set`] reads back.
#[must_use]
pub fn said(sampling: &Sampling) -> Vec<(&'static str, Value)> {
    let mut copy = sampling.clone();
    let values = TABLE.iter().filter_map(|(name, shape)| {
        let value = match shape {
            Float { slot, .. } => short(slot(&mut copy).as_ref().copied()?),
            Count { slot } => json!(slot(&mut copy).as_ref()?),
            Window { slot } => json!(slot(&mut copy).as_ref()?),
            Version { slot, .. } => json!(slot(&mut copy).as_ref()?),
            Switch { slot } => json!(slot(&mut copy).as_ref()?),
            Texts { slot } => json!(slot(&mut copy).as_ref()?),
            BadWords => json!(Some(&copy.bad_words).filter(|words| !words.is_empty())?),
            Samplers => copy.samplers.as_ref()?.iter().map(|kind| json!(sampler_name(*kind))).collect(),
            Biases => bias_list(&copy.logit_bias)?,
        };
        Some((*name, value))
    });
    values.collect()
}

/// Widening an f32 prints digits nobody wrote (0.8 → 0.800000011920929); this keeps the short form.
pub(crate) fn short(value: f32) -> Value {
    let short = value.to_string().parse::<f64>().unwrap_or(f64::from(value));
    Value::from(short)
}

fn wrong(place: &str, wanted: &'static str, found: &Value) -> Problem {
    Problem::Type { place: place.to_owned(), wanted, found: Kind::of(found) }
}

fn decimal(place: &str, value: &Value, low: f64, high: f64) -> Result<f64, Problem> {
    let found = value.as_f64().ok_or_else(|| wrong(place, "a decimal", value))?;
    bounded(place, "decimal", found, low, high).map(|()| found)
}

fn integer(value: &Value, low: i64, high: i64) -> Result<i64, Problem> {
    let found = whole(value).ok_or_else(|| wrong("", "an integer", value))?;
    bounded("", "integer", found as f64, low as f64, high as f64).map(|()| found)
}

fn bounded(place: &str, kind: &'static str, found: f64, low: f64, high: f64) -> Result<(), Problem> {
    let place = || place.to_owned();
    if found < low {
        return Err(Problem::Below { place: place(), kind, bound: low, found });
    }
    if found > high {
        return Err(Problem::Above { place: place(), kind, bound: high, found });
    }
    Ok(())
}

fn list(value: &Value, max: usize) -> Result<&[Value], Problem> {
    let items = value.as_array().ok_or_else(|| wrong("", "an array", value))?;
    if items.len() > max {
        return Err(Problem::TooMany { bound: max });
    }
    Ok(items)
}

fn texts(value: &Value) -> Result<Vec<String>, Problem> {
    let items = list(value, TEXTS_MAX)?.iter().enumerate();
    items
        .map(|(place, item)| match item.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(wrong(&format!("[{place}]"), "a string", item)),
        })
        .collect()
}

/// The names that llama.cpp gives them, and its letters for them; tail-free has the name that it had there.
const SAMPLERS: &[(SamplerKind, &str, char)] = &[
    (SamplerKind::Penalties, "penalties", 'e'),
    (SamplerKind::Dry, "dry", 'd'),
    (SamplerKind::TopNSigma, "top_n_sigma", 's'),
    (SamplerKind::TopK, "top_k", 'k'),
    (SamplerKind::TailFree, "tfs_z", 'f'),
    (SamplerKind::Typical, "typ_p", 'y'),
    (SamplerKind::TopP, "top_p", 'p'),
    (SamplerKind::MinP, "min_p", 'm'),
    (SamplerKind::Xtc, "xtc", 'x'),
    (SamplerKind::Temperature, "temperature", 't'),
    (SamplerKind::AdaptiveP, "adaptive_p", 'a'),
];
const SAMPLER_NAMES: &str = "'penalties', 'dry', 'top_n_sigma', 'top_k', 'tfs_z', 'typ_p', 'top_p', 'min_p', 'xtc', \
                             'temperature', and 'adaptive_p'";

fn sampler_name(kind: SamplerKind) -> &'static str {
    SAMPLERS.iter().find(|(known, ..)| *known == kind).map_or("", |(_, name, _)| name)
}

/// A list of names, or a text of letters.
fn samplers(value: &Value) -> Result<Vec<SamplerKind>, Problem> {
    let unknown = |place: usize, found: &str| Problem::Word {
        place: format!("[{place}]"),
        found: found.chars().take(40).collect(),
        supported: SAMPLER_NAMES,
    };
    if let Some(letters) = value.as_str() {
        let known = |letter| SAMPLERS.iter().find(|(_, _, known)| *known == letter);
        let kinds = letters.chars().take(SAMPLERS_MAX).enumerate().map(|(place, letter)| {
            known(letter).map(|(kind, ..)| *kind).ok_or_else(|| unknown(place, &letter.to_string()))
        });
        return kinds.collect();
    }
    let names = list(value, SAMPLERS_MAX)?.iter().enumerate().map(|(place, item)| {
        let name = item.as_str().ok_or_else(|| wrong(&format!("[{place}]"), "a string", item))?;
        sampler_named(name).ok_or_else(|| unknown(place, name))
    });
    names.collect()
}

/// By its name, with or without its underscores, or by the others that llama.cpp knows.
fn sampler_named(name: &str) -> Option<SamplerKind> {
    let plain = |name: &str| name.chars().filter(|letter| !"_-".contains(*letter)).collect::<String>();
    let name = match plain(name).as_str() {
        "temp" => "temperature".to_owned(),
        "nucleus" => "topp".to_owned(),
        "typical" | "typicalp" | "typ" => "typp".to_owned(),
        "tfs" | "tailfree" => "tfsz".to_owned(),
        other => other.to_owned(),
    };
    SAMPLERS.iter().find(|(_, known, _)| plain(known) == name).map(|(kind, ..)| *kind)
}

/// OpenAI's object (token → bias) or llama.cpp's list of pairs (token or text, bias); `false` forbids a token.
fn biases(value: &Value) -> Result<Vec<LogitBias>, Problem> {
    let target = |text: &str| match text.parse() {
        Ok(id) => BiasTarget::Token(id),
        Err(_) => BiasTarget::Text(text.to_owned()),
    };
    match value {
        Value::Object(map) if map.len() > BIASES_MAX => Err(Problem::TooMany { bound: BIASES_MAX }),
        Value::Object(map) => {
            let biases = map.iter().map(|(text, value)| {
                let place = format!(".{}", text.chars().take(40).collect::<String>());
                Ok(LogitBias { target: target(text), bias: bias(&place, value)? })
            });
            biases.collect()
        }
        Value::Array(_) => {
            let biases = list(value, BIASES_MAX)?.iter().enumerate().map(|(place, item)| {
                let place = format!("[{place}]");
                let pair = item.as_array().map(Vec::as_slice);
                let Some([of, value]) = pair else { return Err(wrong(&place, "a pair", item)) };
                let id = || whole(of).and_then(|id| u32::try_from(id).ok());
                let target = match (of.as_str(), id()) {
                    (Some(text), _) => BiasTarget::Text(text.to_owned()),
                    (None, Some(id)) => BiasTarget::Token(id),
                    (None, None) => return Err(wrong(&place, "a token id or a text, and a bias", of)),
                };
                Ok(LogitBias { target, bias: bias(&place, value)? })
            });
            biases.collect()
        }
        other => Err(wrong("", "an object", other)),
    }
}

fn bias(place: &str, value: &Value) -> Result<f32, Problem> {
    match value {
        Value::Bool(false) => Ok(f32::NEG_INFINITY),
        value => Ok(decimal(place, value, -BIAS_MAX, BIAS_MAX)? as f32),
    }
}

/// As an object where every target is a token, else as a list.
fn bias_list(biases: &[LogitBias]) -> Option<Value> {
    let bias = |bias: f32| if bias == f32::NEG_INFINITY { json!(false) } else { short(bias) };
    if biases.is_empty() {
        return None;
    }
    let tokens: Option<Map<String, Value>> = biases
        .iter()
        .map(|one| match one.target {
            BiasTarget::Token(id) => Some((id.to_string(), bias(one.bias))),
            BiasTarget::Text(_) => None,
        })
        .collect();
    let pairs = biases.iter().map(|one| match &one.target {
        BiasTarget::Token(id) => json!([id, bias(one.bias)]),
        BiasTarget::Text(text) => json!([text, bias(one.bias)]),
    });
    // An object keeps one bias a token; a list keeps what was said.
    Some(match tokens.filter(|tokens| tokens.len() == biases.len()) {
        Some(tokens) => Value::Object(tokens),
        None => pairs.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: Value) -> Result<Sampling, String> {
        let mut sampling = Sampling::default();
        set(&mut sampling, name, &value).expect("a known option").map(|()| sampling)
    }

    #[test]
    fn the_table_is_sorted_and_every_option_is_written_as_it_was_read() {
        assert!(TABLE.is_sorted_by_key(|(name, _)| *name));
        assert!(names().count() == TABLE.len());
        for (name, shape) in TABLE {
            let value = match shape {
                Float { low, high, .. } => json!(0.5f64.clamp(*low, *high)),
                Count { .. } | Window { .. } => json!(7),
                Version { high, .. } => json!(high),
                Switch { .. } => json!(true),
                Texts { .. } | BadWords => json!(["a", "나"]),
                Samplers => SAMPLERS.iter().map(|(_, name, _)| json!(name)).collect(),
                Biases => json!({ "5": -1.5, "6": false, "7": 100.0 }),
            };
            let sampling = read(name, value.clone()).expect(name);
            assert_ne!(sampling, Sampling::default(), "{name} goes somewhere");
            assert_eq!(said(&sampling), [(*name, value)]);
        }
        assert_eq!(said(&Sampling::default()), []);
        assert!(set(&mut Sampling::default(), "colour", &json!(1)).is_none());
    }

    #[test]
    fn values_out_of_bounds_or_of_another_kind() {
        let check =
            |name: &str, value: Value, want: &str| assert_eq!(read(name, value), Err(want.to_owned()));
        check("min_p", json!(1.5), "min_p must be 1 or less");
        check("min_p", json!("much"), "min_p must be a decimal");
        check("typical_p", json!(-0.1), "typical_p must be 0 or more");
        check("mirostat", json!(3), "mirostat must be 2 or less");
        check("mirostat", json!(1.5), "mirostat must be an integer");
        check("repeat_last_n", json!(-2), "repeat_last_n must be -1 or more");
        check("min_tokens", json!(4_294_967_296u64), "min_tokens must be 4294967295 or less");
        check("ignore_eos", json!(1), "ignore_eos must be a boolean");
        check("bad_words", json!("x"), "bad_words must be an array");
        check("bad_words", json!(["x", 5]), "bad_words[1] must be a string");
        check("bad_words", json!(vec!["x"; 65]), "bad_words must have 64 entries or fewer");
        check("logit_bias", json!({ "5": 101 }), "logit_bias.5 must be 100 or less");
        check("logit_bias", json!({ "5": "x" }), "logit_bias.5 must be a decimal");
        check("logit_bias", json!([[5]]), "logit_bias[0] must be a pair");
        check("logit_bias", json!([[-1, 5]]), "logit_bias[0] must be a token id or a text, and a bias");
        check("logit_bias", json!(5), "logit_bias must be an object");
        check("samplers", json!(["top_k", 5]), "samplers[1] must be a string");
        assert!(
            read("samplers", json!(["colour"]))
                .is_err_and(|text| text.starts_with("samplers[0] must be one of"))
        );
        assert!(
            read("samplers", json!("kz")).is_err_and(|text| text.starts_with("samplers[1] must be one of"))
        );
    }

    #[test]
    fn samplers_have_many_names() {
        use SamplerKind::{Dry, MinP, Penalties, Temperature, TopK, TopP, Typical, Xtc};
        let check = |value: Value, want: &[SamplerKind]| {
            assert_eq!(read("samplers", value).map(|read| read.samplers), Ok(Some(want.to_vec())));
        };
        check(json!(["top-k", "typ_p", "minp", "temp"]), &[TopK, Typical, MinP, Temperature]);
        check(json!(["nucleus", "typical_p", "typical"]), &[TopP, Typical, Typical]);
        check(json!("edkypmxt"), &[Penalties, Dry, TopK, Typical, TopP, MinP, Xtc, Temperature]);
        check(json!([]), &[]);
    }

    #[test]
    fn biases_of_tokens_and_texts() {
        let biases = |value: Value| read("logit_bias", value).map(|read| read.logit_bias);
        let one = |target, bias| LogitBias { target, bias };
        let text = |text: &str| BiasTarget::Text(text.to_owned());
        assert_eq!(
            biases(json!([[3, 1.0], ["ha", false], [3, -2]])),
            Ok(vec![
                one(BiasTarget::Token(3), 1.0),
                one(text("ha"), f32::NEG_INFINITY),
                one(BiasTarget::Token(3), -2.0)
            ])
        );
        assert_eq!(biases(json!({ "ha": 5 })), Ok(vec![one(text("ha"), 5.0)]));
        let mixed = Sampling {
            logit_bias: vec![one(text("7"), 1.0), one(BiasTarget::Token(7), 2.0)],
            ..Sampling::default()
        };
        assert_eq!(said(&mixed), [("logit_bias", json!([["7", 1.0], [7, 2.0]]))]);
    }
}
