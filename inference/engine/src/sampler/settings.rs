//! What a request and its model say about sampling, with every default filled in, and what is allowed.
//!
//! The defaults are Ollama's where Ollama has the option, else llama.cpp's. They stand in `docs/reference/sampling.md`.

use contract::{SamplerKind, Sampling};

use super::dry::DrySettings;
use super::penalties::PenaltySettings;
use super::steered::{AdaptiveSettings, MirostatSettings};

/// llama.cpp's order, with tail-free where it stood before llama.cpp gave it up.
pub const DEFAULT_ORDER: &[SamplerKind] = &[
    SamplerKind::Penalties,
    SamplerKind::Dry,
    SamplerKind::TopNSigma,
    SamplerKind::TopK,
    SamplerKind::TailFree,
    SamplerKind::Typical,
    SamplerKind::TopP,
    SamplerKind::MinP,
    SamplerKind::Xtc,
    SamplerKind::Temperature,
    SamplerKind::AdaptiveP,
];

/// Settings with every default filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerSettings {
    pub temperature: f32,
    /// 0 is off.
    pub dynamic_range: f32,
    pub dynamic_exponent: f32,
    /// 0 is off.
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub typical_p: f32,
    pub tail_free_z: f32,
    pub top_n_sigma: f32,
    pub min_keep: usize,
    pub xtc_probability: f32,
    pub xtc_threshold: f32,
    pub penalties: PenaltySettings,
    pub dry: DrySettings,
    pub mirostat: MirostatSettings,
    pub adaptive: AdaptiveSettings,
    /// Which steps are taken, and in which order.
    pub order: Vec<SamplerKind>,
    pub min_tokens: usize,
    pub ignore_eos: bool,
    pub seed: u64,
}

impl SamplerSettings {
    /// What the request says, else what the model says, else the defaults.
    #[must_use]
    pub fn resolve(request: &Sampling, model: &Sampling, fresh_seed: u64) -> Self {
        macro_rules! said {
            ($field:ident, $default:expr) => {
                request.$field.or(model.$field).unwrap_or($default)
            };
        }
        // -1, and any other negative number, is the whole sequence.
        let window = |count: i32| usize::try_from(count).unwrap_or(usize::MAX);
        let order = request.samplers.as_ref().or(model.samplers.as_ref());
        Self {
            temperature: said!(temperature, 0.8),
            dynamic_range: said!(dynamic_temperature_range, 0.0),
            dynamic_exponent: said!(dynamic_temperature_exponent, 1.0),
            top_k: said!(top_k, 40),
            top_p: said!(top_p, 0.9),
            min_p: said!(min_p, 0.0),
            typical_p: said!(typical_p, 1.0),
            tail_free_z: said!(tail_free_z, 1.0),
            top_n_sigma: said!(top_n_sigma, -1.0),
            min_keep: said!(min_keep, 0) as usize,
            xtc_probability: said!(xtc_probability, 0.0),
            xtc_threshold: said!(xtc_threshold, 0.1),
            penalties: PenaltySettings {
                repeat: said!(repeat_penalty, 1.1),
                presence: said!(presence_penalty, 0.0),
                frequency: said!(frequency_penalty, 0.0),
                last_n: window(said!(repeat_last_n, 64)),
                newline: said!(penalise_newline, true),
            },
            dry: DrySettings {
                multiplier: said!(dry_multiplier, 0.0),
                base: said!(dry_base, 1.75),
                allowed_length: said!(dry_allowed_length, 2) as usize,
                last_n: window(said!(dry_penalty_last_n, 64)),
            },
            mirostat: MirostatSettings {
                version: said!(mirostat, 0),
                tau: said!(mirostat_tau, 5.0),
                eta: said!(mirostat_eta, 0.1),
            },
            adaptive: AdaptiveSettings {
                target: said!(adaptive_target, -1.0),
                decay: said!(adaptive_decay, 0.9),
            },
            order: order.map_or_else(|| DEFAULT_ORDER.to_vec(), Clone::clone),
            min_tokens: said!(min_tokens, 0) as usize,
            ignore_eos: said!(ignore_eos, false),
            seed: said!(seed, fresh_seed),
        }
    }

    /// Everything off: a draw from the softmax of the logits.
    #[must_use]
    pub fn plain(seed: u64) -> Self {
        let off = Sampling {
            temperature: Some(1.0),
            top_k: Some(0),
            top_p: Some(1.0),
            repeat_penalty: Some(1.0),
            seed: Some(seed),
            ..Sampling::default()
        };
        Self::resolve(&off, &Sampling::default(), 0)
    }

    /// The first setting that is out of its range: its name and what is allowed.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, &'static str)> {
        const SHARE: &str = "between 0 and 1";
        const FINITE: &str = "a finite number";
        const NOT_NEGATIVE: &str = "0 or more";
        let share = |value: f32| (0.0..=1.0).contains(&value);
        let not_negative = |value: f32| value.is_finite() && value >= 0.0;
        let positive = |value: f32| value.is_finite() && value > 0.0;
        let checks = [
            (not_negative(self.temperature), "temperature", NOT_NEGATIVE),
            (not_negative(self.dynamic_range), "dynatemp_range", NOT_NEGATIVE),
            (not_negative(self.dynamic_exponent), "dynatemp_exponent", NOT_NEGATIVE),
            (share(self.top_p), "top_p", SHARE),
            (share(self.min_p), "min_p", SHARE),
            (share(self.typical_p), "typical_p", SHARE),
            (share(self.tail_free_z), "tfs_z", SHARE),
            (self.top_n_sigma.is_finite(), "top_n_sigma", FINITE),
            (share(self.xtc_probability), "xtc_probability", SHARE),
            (share(self.xtc_threshold), "xtc_threshold", SHARE),
            // Dividing by less would make infinities of ordinary logits.
            (
                positive(self.penalties.repeat) && self.penalties.repeat >= 1e-6,
                "repeat_penalty",
                "more than 0",
            ),
            (self.penalties.presence.is_finite(), "presence_penalty", FINITE),
            (self.penalties.frequency.is_finite(), "frequency_penalty", FINITE),
            (not_negative(self.dry.multiplier), "dry_multiplier", NOT_NEGATIVE),
            (not_negative(self.dry.base), "dry_base", NOT_NEGATIVE),
            (self.mirostat.version <= 2, "mirostat", "0, 1 or 2"),
            (not_negative(self.mirostat.tau), "mirostat_tau", NOT_NEGATIVE),
            (not_negative(self.mirostat.eta), "mirostat_eta", NOT_NEGATIVE),
            (self.adaptive.target <= 1.0, "adaptive_target", "at most 1"),
            ((0.0..=0.99).contains(&self.adaptive.decay), "adaptive_decay", "between 0 and 0.99"),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map(|(_, name, allowed)| (name, allowed))
    }

    /// Whether the best token is always taken. Cuts and draws are then passed over: none of them is to change that.
    pub(super) fn is_greedy(&self) -> bool {
        let steered = self.mirostat.version > 0;
        self.temperature == 0.0
            && (steered || self.dynamic_range == 0.0)
            && self.order.contains(&SamplerKind::Temperature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_heard_before_the_model_and_the_model_before_the_defaults() {
        let model = Sampling { top_k: Some(7), seed: Some(3), top_p: Some(0.5), ..Sampling::default() };
        let request = Sampling { top_p: Some(0.7), repeat_last_n: Some(-1), ..Sampling::default() };
        let settings = SamplerSettings::resolve(&request, &model, 9);
        assert_eq!((settings.top_k, settings.top_p, settings.min_p, settings.seed), (7, 0.7, 0.0, 3));
        assert_eq!((settings.penalties.last_n, settings.penalties.repeat), (usize::MAX, 1.1));
        assert_eq!(SamplerSettings::resolve(&request, &Sampling::default(), 9).seed, 9);
        assert_eq!(settings.order, DEFAULT_ORDER);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let check = |name: &'static str, change: &dyn Fn(&mut SamplerSettings)| {
            let mut settings = SamplerSettings::plain(1);
            assert_eq!(settings.problem(), None);
            change(&mut settings);
            assert_eq!(settings.problem().map(|problem| problem.0), Some(name));
        };
        check("temperature", &|settings| settings.temperature = f32::NAN);
        check("temperature", &|settings| settings.temperature = -0.1);
        check("dynatemp_range", &|settings| settings.dynamic_range = -1.0);
        check("dynatemp_exponent", &|settings| settings.dynamic_exponent = f32::INFINITY);
        check("top_p", &|settings| settings.top_p = 1.5);
        check("min_p", &|settings| settings.min_p = -0.5);
        check("typical_p", &|settings| settings.typical_p = 2.0);
        check("tfs_z", &|settings| settings.tail_free_z = f32::NAN);
        check("top_n_sigma", &|settings| settings.top_n_sigma = f32::INFINITY);
        check("xtc_probability", &|settings| settings.xtc_probability = 1.1);
        check("xtc_threshold", &|settings| settings.xtc_threshold = -0.1);
        check("repeat_penalty", &|settings| settings.penalties.repeat = 0.0);
        check("presence_penalty", &|settings| settings.penalties.presence = f32::INFINITY);
        check("frequency_penalty", &|settings| settings.penalties.frequency = f32::NAN);
        check("dry_multiplier", &|settings| settings.dry.multiplier = -1.0);
        check("dry_base", &|settings| settings.dry.base = f32::NAN);
        check("mirostat", &|settings| settings.mirostat.version = 3);
        check("mirostat_tau", &|settings| settings.mirostat.tau = -1.0);
        check("mirostat_eta", &|settings| settings.mirostat.eta = f32::NAN);
        check("adaptive_target", &|settings| settings.adaptive.target = 1.5);
        check("adaptive_decay", &|settings| settings.adaptive.decay = 1.0);
    }
}
