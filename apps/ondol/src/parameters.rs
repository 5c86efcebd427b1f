//! The parameters of a model by the names that Modelfiles, `/set parameter` and Ollama's API give them, and what they
//! become in a request. One table; used by the interactive session and for the parameters stored with a model.

use contract::{Limits, Request, Sampling};
use dialects::sampling;
use serde_json::Value;

use crate::terminal::messages::Message;

/// Sampling, limits and stop strings that somebody set.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Parameters {
    pub sampling: Sampling,
    /// `Some(None)`: said to be without limit.
    pub new_tokens_max: Option<Option<u32>>,
    pub context_tokens: Option<u32>,
    pub stop: Vec<String>,
}

/// Why a parameter was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParameterError {
    /// No parameter of that name.
    Unknown,
    /// Its value is not what this message says.
    Wanted(Message),
}

/// Every name, with what it does, for `/set parameter` without arguments.
pub(crate) const KNOWN: &[(&str, &str)] = &[
    ("seed", "<int>"),
    ("num_predict", "<int>"),
    ("num_ctx", "<int>"),
    ("top_k", "<int>"),
    ("top_p", "<float>"),
    ("min_p", "<float>"),
    ("temperature", "<float>"),
    ("repeat_penalty", "<float>"),
    ("repeat_last_n", "<int>"),
    ("presence_penalty", "<float>"),
    ("frequency_penalty", "<float>"),
    ("stop", "<string> <string> ..."),
];

impl Parameters {
    /// Sets a parameter from words, as after `/set parameter`. Nothing changes on an error.
    pub(crate) fn set(&mut self, name: &str, values: &[&str]) -> Result<(), ParameterError> {
        let first = values.first().copied().unwrap_or_default();
        let sampling = &mut self.sampling;
        match name {
            "temperature" => sampling.temperature = Some(number(first)?),
            "top_p" => sampling.top_p = Some(number(first)?),
            "min_p" => sampling.min_p = Some(number(first)?),
            "repeat_penalty" => sampling.repeat_penalty = Some(number(first)?),
            "presence_penalty" => sampling.presence_penalty = Some(number(first)?),
            "frequency_penalty" => sampling.frequency_penalty = Some(number(first)?),
            "top_k" => sampling.top_k = Some(whole(first)?),
            "repeat_last_n" => sampling.repeat_last_n = Some(whole(first)?),
            // Ollama's -1 asks for a fresh seed each time, which is what no seed means.
            "seed" => sampling.seed = u64::try_from(whole::<i64>(first)?).ok(),
            "num_predict" => self.new_tokens_max = Some(u32::try_from(whole::<i64>(first)?).ok()),
            "num_ctx" => self.context_tokens = Some(whole::<u32>(first)?).filter(|tokens| *tokens > 0),
            "stop" => {
                self.stop =
                    values.iter().filter(|stop| !stop.is_empty()).map(|stop| (*stop).to_owned()).collect()
            }
            _ => return self.set_other(name, values),
        }
        Ok(())
    }

    /// The options that only other servers know, by the table that the dialects read them with.
    fn set_other(&mut self, name: &str, values: &[&str]) -> Result<(), ParameterError> {
        let json = |text: &&str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(*text));
        let mut sampling = self.sampling.clone();
        let mut set = |value: &Value| sampling::set(&mut sampling, name, value);
        // One word is a value, or a list of one; `samplers` and `bad_words` are lists.
        let list = Value::Array(values.iter().map(|text| Value::from(*text)).collect());
        let first = values.first().map_or(Value::Null, json);
        let done = match set(&first) {
            Some(Err(_)) => set(&list),
            done => done,
        };
        done.ok_or(ParameterError::Unknown)?.map_err(|_| ParameterError::Wanted(Message::WantedNumber))?;
        self.sampling = sampling;
        Ok(())
    }

    /// Sets a parameter as it is stored with a model. `stop` may come several times and adds up.
    pub(crate) fn set_json(&mut self, name: &str, value: &Value) -> Result<(), ParameterError> {
        let words: Vec<String> = match value {
            Value::Array(items) => items.iter().map(word).collect(),
            value => vec![word(value)],
        };
        if name == "stop" {
            self.stop.extend(words.into_iter().filter(|stop| !stop.is_empty()));
            return Ok(());
        }
        self.set(name, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Puts what was set into a request, over what the request has.
    pub(crate) fn apply(&self, request: &mut Request) {
        let (set, sampling) = (&self.sampling, &mut request.sampling);
        sampling.temperature = set.temperature.or(sampling.temperature);
        sampling.top_k = set.top_k.or(sampling.top_k);
        sampling.top_p = set.top_p.or(sampling.top_p);
        sampling.min_p = set.min_p.or(sampling.min_p);
        sampling.repeat_penalty = set.repeat_penalty.or(sampling.repeat_penalty);
        sampling.repeat_last_n = set.repeat_last_n.or(sampling.repeat_last_n);
        sampling.presence_penalty = set.presence_penalty.or(sampling.presence_penalty);
        sampling.frequency_penalty = set.frequency_penalty.or(sampling.frequency_penalty);
        sampling.seed = set.seed.or(sampling.seed);
        for (name, value) in sampling::said(set) {
            // What was read once can be read again.
            let _ = sampling::set(sampling, name, &value);
        }
        let limits: &mut Limits = &mut request.limits;
        limits.new_tokens_max = self.new_tokens_max.unwrap_or(limits.new_tokens_max);
        limits.context_tokens = self.context_tokens.or(limits.context_tokens);
        if !self.stop.is_empty() {
            request.stop.clone_from(&self.stop);
        }
    }

    /// What was set, name and value, in the order of [`KNOWN`].
    pub(crate) fn list(&self) -> Vec<(&'static str, String)> {
        let sampling = &self.sampling;
        let text = |name: &str| -> Vec<String> {
            let float = |value: Option<f32>| value.map(|value| value.to_string()).into_iter().collect();
            match name {
                "seed" => sampling.seed.map(|seed| seed.to_string()).into_iter().collect(),
                "num_predict" => self
                    .new_tokens_max
                    .map(|most| most.map_or_else(|| "-1".to_owned(), |most| most.to_string()))
                    .into_iter()
                    .collect(),
                "num_ctx" => self.context_tokens.map(|tokens| tokens.to_string()).into_iter().collect(),
                "top_k" => sampling.top_k.map(|k| k.to_string()).into_iter().collect(),
                "repeat_last_n" => sampling.repeat_last_n.map(|n| n.to_string()).into_iter().collect(),
                "top_p" => float(sampling.top_p),
                "min_p" => float(sampling.min_p),
                "temperature" => float(sampling.temperature),
                "repeat_penalty" => float(sampling.repeat_penalty),
                "presence_penalty" => float(sampling.presence_penalty),
                "frequency_penalty" => float(sampling.frequency_penalty),
                _ => self.stop.iter().map(|stop| format!("{stop:?}")).collect(),
            }
        };
        let known = KNOWN.iter().flat_map(|(name, _)| text(name).into_iter().map(|value| (*name, value)));
        let others = sampling::said(sampling).into_iter();
        let others = others.filter(|(name, _)| KNOWN.iter().all(|(known, _)| known != name));
        known.chain(others.map(|(name, value)| (name, value.to_string()))).collect()
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(text: &str) -> Result<f32, ParameterError> {
    let value = text.parse::<f32>().ok().filter(|value| value.is_finite());
    value.ok_or(ParameterError::Wanted(Message::WantedNumber))
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T, ParameterError> {
    text.parse().map_err(|_| ParameterError::Wanted(Message::WantedWholeNumber))
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::Input;
    use serde_json::json;

    #[test]
    fn every_known_parameter_can_be_set_and_listed() {
        for (name, kind) in KNOWN {
            let mut parameters = Parameters::default();
            let value = if *kind == "<float>" { "0.5" } else { "7" };
            assert_eq!(parameters.set(name, &[value]), Ok(()), "{name}");
            let shown = if *name == "stop" { "\"7\"" } else { value };
            assert_eq!(parameters.list(), [(*name, shown.to_owned())]);
            let mut request = Request::new("m", Input::Load);
            let before = request.clone();
            parameters.apply(&mut request);
            assert_ne!(request, before, "{name} changes nothing");
        }
    }

    #[test]
    fn options_of_other_servers_are_set_listed_and_applied() {
        for (name, words, shown) in [
            ("typical_p", &["0.5"][..], "0.5"),
            ("mirostat", &["2"], "2"),
            ("dry_multiplier", &["0.8"], "0.8"),
            ("ignore_eos", &["true"], "true"),
            ("samplers", &["top_k", "temperature"], r#"["top_k","temperature"]"#),
            ("bad_words", &["7"], r#"["7"]"#),
            ("logit_bias", &[r#"{"5":-1.5}"#], r#"{"5":-1.5}"#),
        ] {
            let mut parameters = Parameters::default();
            assert_eq!(parameters.set(name, words), Ok(()), "{name}");
            assert_eq!(parameters.list(), [(name, shown.to_owned())]);
            let mut request = Request::new("m", Input::Load);
            parameters.apply(&mut request);
            assert_eq!(request.sampling, parameters.sampling);
        }
        let mut parameters = Parameters::default();
        assert_eq!(parameters.set("mirostat", &["3"]), Err(ParameterError::Wanted(Message::WantedNumber)));
        assert_eq!(parameters, Parameters::default());
    }

    #[test]
    fn wrong_values_change_nothing() {
        let whole = Err(ParameterError::Wanted(Message::WantedWholeNumber));
        let number = Err(ParameterError::Wanted(Message::WantedNumber));
        for (name, value, expected) in [
            ("top_k", "many", whole),
            ("top_k", "-1", whole),
            ("top_k", "1.5", whole),
            ("num_ctx", "", whole),
            ("temperature", "hot", number),
            ("temperature", "NaN", number),
            ("warmth", "1", Err(ParameterError::Unknown)),
        ] {
            let mut parameters = Parameters::default();
            assert_eq!(parameters.set(name, &[value]), expected, "{name} {value}");
            assert_eq!(parameters, Parameters::default());
        }
    }

    #[test]
    fn stored_parameters_are_json() {
        let mut parameters = Parameters::default();
        for (name, value) in [
            ("stop", json!("<|im_end|>")),
            ("stop", json!(["a", "b"])),
            ("temperature", json!(0.25)),
            ("num_ctx", json!(4096)),
            ("num_predict", json!(-1)),
            ("seed", json!("42")),
        ] {
            assert_eq!(parameters.set_json(name, &value), Ok(()), "{name}");
        }
        assert_eq!(parameters.stop, ["<|im_end|>", "a", "b"]);
        assert_eq!(parameters.sampling.temperature, Some(0.25));
        assert_eq!(parameters.sampling.seed, Some(42));
        assert_eq!(parameters.context_tokens, Some(4096));
        assert_eq!(parameters.new_tokens_max, Some(None));
        assert_eq!(
            parameters.set_json("temperature", &json!({})),
            Err(ParameterError::Wanted(Message::WantedNumber))
        );
    }

    #[test]
    fn no_limit_overrides_a_limit() {
        let mut request = Request::new("m", Input::Load);
        request.limits.new_tokens_max = Some(8);
        let mut parameters = Parameters::default();
        parameters.apply(&mut request);
        assert_eq!(request.limits.new_tokens_max, Some(8));
        parameters.set("num_predict", &["-1"]).expect("a whole number");
        parameters.apply(&mut request);
        assert_eq!(request.limits.new_tokens_max, None);
    }
}
