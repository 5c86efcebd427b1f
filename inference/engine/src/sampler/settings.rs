//! What a request and its model say about sampling, with every default filled in, and what is allowed.

use contract::Sampling;

/// Settings with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerSettings {
    pub temperature: f32,
    /// 0 is off.
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub repeat_penalty: f32,
    /// Past tokens that penalties look at; `usize::MAX` for all.
    pub repeat_last_n: usize,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub seed: u64,
}

impl SamplerSettings {
    /// What the request says, else what the model says, else Ollama's defaults.
    #[must_use]
    pub fn resolve(request: &Sampling, model: &Sampling, fresh_seed: u64) -> Self {
        let last_n = request.repeat_last_n.or(model.repeat_last_n).unwrap_or(64);
        Self {
            temperature: request.temperature.or(model.temperature).unwrap_or(0.8),
            top_k: request.top_k.or(model.top_k).unwrap_or(40),
            top_p: request.top_p.or(model.top_p).unwrap_or(0.9),
            min_p: request.min_p.or(model.min_p).unwrap_or(0.0),
            repeat_penalty: request.repeat_penalty.or(model.repeat_penalty).unwrap_or(1.1),
            repeat_last_n: usize::try_from(last_n).unwrap_or(usize::MAX),
            presence_penalty: request.presence_penalty.or(model.presence_penalty).unwrap_or(0.0),
            frequency_penalty: request.frequency_penalty.or(model.frequency_penalty).unwrap_or(0.0),
            seed: request.seed.or(model.seed).unwrap_or(fresh_seed),
        }
    }

    /// The first setting that is out of its range: its name and what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        let finite = |value: f32| value.is_finite();
        let checks = [
            (finite(self.temperature) && self.temperature >= 0.0, "temperature", "0 or more"),
            ((0.0..=1.0).contains(&self.top_p), "top_p", "between 0 and 1"),
            ((0.0..=1.0).contains(&self.min_p), "min_p", "between 0 and 1"),
            (finite(self.repeat_penalty) && self.repeat_penalty > 0.0, "repeat_penalty", "more than 0"),
            (finite(self.presence_penalty), "presence_penalty", "a finite number"),
            (finite(self.frequency_penalty), "frequency_penalty", "a finite number"),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map(|(_, name, allowed)| (name, allowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SamplerSettings {
        SamplerSettings::resolve(&Sampling::default(), &Sampling::default(), 0)
    }

    #[test]
    fn settings_out_of_range_are_named() {
        assert_eq!(settings().problem(), None);
        assert_eq!(SamplerSettings { top_p: 1.5, ..settings() }.problem().map(|p| p.0), Some("top_p"));
        assert_eq!(
            SamplerSettings { temperature: f32::NAN, ..settings() }.problem().map(|p| p.0),
            Some("temperature")
        );
        assert_eq!(
            SamplerSettings { repeat_penalty: 0.0, ..settings() }.problem().map(|p| p.0),
            Some("repeat_penalty")
        );
    }
}
