//! Which models of the catalogue fit, in which quantisation, and which of them to take. Pure: machine, rates and
//! catalogue come in, rows go out.

use kernels::KvType;
use registry::{CatalogueEntry, Commercial, Korean, Use};
use serde::Serialize;

use crate::fit::blueprint::Blueprint;
use crate::fit::calibrate::{Rates, STEP_TOKENS};
use crate::fit::predict::{self, Speed};

/// A model that writes more slowly than one reads is not advised.
const DECODE_TOKENS_PER_S_MIN: f64 = 5.0;
/// A model made for Korean is worth one of so many times its size that was not.
const STRONG_WORTH: f64 = 2.0;
/// One that was taught to call tools is of a later time, and worth one of so many times its size that was not.
const TOOLS_WORTH: f64 = 1.5;

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    /// That models may take together; `None`: nobody knows.
    pub budget_bytes: Option<u64>,
    pub kv_type: KvType,
    /// Tokens of the context that is reckoned with.
    pub context_tokens: u64,
}

/// A model in one quantisation, on this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    pub name: String,
    pub quantization: String,
    pub file_bytes: u64,
    /// Weights as the kernels hold them.
    pub weight_bytes: u64,
    /// Keys and values of the context below.
    pub kv_bytes: u64,
    pub kv_bytes_q8_0: u64,
    /// Of the model's own, as far as is asked for.
    pub context_tokens: u64,
    pub total_bytes: u64,
    pub fits: bool,
    /// The longest context that fits, keys and values as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_tokens_max: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
}

/// A model of the catalogue with its rows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Candidate<'a> {
    #[serde(skip)]
    pub entry: &'a CatalogueEntry,
    pub name: &'a str,
    /// This version can run its family.
    pub runs: bool,
    pub rows: Vec<Row>,
}

/// Names of what to take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Best {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub korean_chat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank: Option<String>,
}

/// One row. `rates`: of a machine that was measured.
pub(crate) fn row(
    name: &str,
    quantization: &str,
    of: &Blueprint,
    wishes: &Wishes,
    rates: Option<&Rates>,
) -> Row {
    let tokens = wishes.context_tokens.min(of.context_tokens);
    let step = STEP_TOKENS as u64;
    let total_bytes = of.total_bytes(wishes.kv_type, tokens, step);
    let prompt = STEP_TOKENS.min(of.context_tokens as usize);
    Row {
        name: name.to_owned(),
        quantization: quantization.to_owned(),
        file_bytes: of.file_bytes,
        weight_bytes: of.weight_bytes(),
        kv_bytes: of.kv_bytes(wishes.kv_type, tokens),
        kv_bytes_q8_0: of.kv_bytes(KvType::Q8_0, tokens),
        context_tokens: tokens,
        total_bytes,
        fits: wishes.budget_bytes.is_none_or(|budget| total_bytes <= budget),
        context_tokens_max: match wishes.budget_bytes {
            Some(budget) => of.context_within(wishes.kv_type, budget, step),
            None => Some(of.context_tokens),
        },
        speed: rates.and_then(|rates| predict::speed(of, rates, prompt, 0)),
    }
}

/// Every model, in the catalogue's order. `runs`: whether this version can run a model.
pub(crate) fn candidates<'a>(
    entries: &'a [CatalogueEntry],
    runs: impl Fn(&CatalogueEntry) -> bool,
    wishes: &Wishes,
    rates: Option<&Rates>,
) -> Vec<Candidate<'a>> {
    let one = |entry: &'a CatalogueEntry| {
        let rows = entry.quantizations.iter().filter_map(|quantization| {
            let blueprint = Blueprint::of_entry(entry, quantization)?;
            Some(row(&entry.name, quantization, &blueprint, wishes, rates))
        });
        Candidate { entry, name: &entry.name, runs: runs(entry), rows: rows.collect() }
    };
    entries.iter().map(one).collect()
}

impl Candidate<'_> {
    /// The row that is advised: the first quantisation that fits. The catalogue gives the usual one first.
    pub(crate) fn advised(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.fits)
    }

    fn does(&self, what: Use) -> bool {
        self.entry.uses.contains(&what)
    }

    /// What its answers are worth, as far as sizes tell.
    fn worth(&self) -> f64 {
        let strong = if self.entry.korean == Korean::Strong { STRONG_WORTH } else { 1.0 };
        let late = if self.does(Use::Tools) { TOOLS_WORTH } else { 1.0 };
        let parameters = self.entry.active_parameters.map_or(self.parameters(), |active| {
            // Experts: between all of them and those that a token meets.
            (active as f64 * self.parameters()).sqrt()
        });
        parameters * strong * late
    }

    fn parameters(&self) -> f64 {
        self.entry.parameters.unwrap_or(0) as f64
    }

    fn is_quick(&self) -> bool {
        let speed = self.advised().and_then(|row| row.speed);
        speed.is_none_or(|speed| {
            speed.decode_tokens_per_s.is_none_or(|decode| decode >= DECODE_TOKENS_PER_S_MIN)
        })
    }
}

/// What to take of these, of those that run and fit. `commercial`: only what a company may use.
pub(crate) fn best(candidates: &[Candidate<'_>], commercial: bool) -> Best {
    let usable = || {
        candidates.iter().filter(move |candidate| {
            let allowed = matches!(candidate.entry.commercial, Commercial::Free | Commercial::Conditions);
            candidate.runs
                && candidate.advised().is_some()
                && candidate.is_quick()
                && (allowed || !commercial)
        })
    };
    let most = |found: Vec<&Candidate<'_>>| {
        let best = found.into_iter().max_by(|a, b| a.worth().total_cmp(&b.worth()))?;
        Some(best.name.to_owned())
    };
    // One that must think first is slow to answer, on a machine that is not.
    let chats = |candidate: &&Candidate<'_>| {
        candidate.does(Use::Chat) && (!candidate.does(Use::Thinking) || candidate.does(Use::Tools))
    };
    let korean = |candidate: &&Candidate<'_>| candidate.entry.korean >= Korean::Good;
    let by_korean = |what: Use| {
        let found = usable().filter(|candidate| candidate.does(what));
        // Larger ones beyond a billion gain little, and take the machine from the model that answers.
        let key = |candidate: &&Candidate<'_>| (candidate.entry.korean, candidate.parameters() < 1e9);
        let best =
            found.max_by(|a, b| key(a).cmp(&key(b)).then(a.parameters().total_cmp(&b.parameters())))?;
        Some(best.name.to_owned())
    };
    Best {
        korean_chat: most(usable().filter(chats).filter(korean).collect()),
        chat: most(usable().filter(chats).collect()),
        embedding: by_korean(Use::Embedding),
        rerank: by_korean(Use::Rerank),
    }
}

#[cfg(test)]
mod tests {
    use registry::Catalogue;

    use super::*;
    use crate::fit::predict::tests::rates;

    const GIB: u64 = 1 << 30;

    fn wishes(budget: Option<u64>) -> Wishes {
        Wishes { budget_bytes: budget, kv_type: KvType::F16, context_tokens: 4096 }
    }

    #[test]
    fn more_memory_never_fits_less() {
        let catalogue = Catalogue::embedded();
        let mut before = 0;
        for gib in [0, 1, 2, 4, 8, 16, 32, 64, 256] {
            let all = candidates(catalogue.entries(), |_| true, &wishes(Some(gib * GIB)), None);
            let fitting = all.iter().filter(|candidate| candidate.advised().is_some()).count();
            assert!(fitting >= before, "{gib}: {fitting} < {before}");
            before = fitting;
            for row in all.iter().flat_map(|candidate| &candidate.rows).filter(|row| row.fits) {
                assert!(
                    row.total_bytes <= gib * GIB && row.context_tokens_max >= Some(row.context_tokens),
                    "{row:?}"
                );
            }
        }
        assert!(before > 100, "{before}");
    }

    #[test]
    fn the_advice_for_machines_of_several_sizes() {
        let catalogue = Catalogue::embedded();
        // 50 GB/s.
        let mut rates = rates();
        rates.kinds.values_mut().for_each(|kind| kind.bytes_per_s *= 5.0);
        let check =
            |gib: u64, runs: fn(&CatalogueEntry) -> bool, commercial: bool, expected: [Option<&str>; 2]| {
                let all = candidates(catalogue.entries(), runs, &wishes(Some(gib * GIB)), Some(&rates));
                let best = best(&all, commercial);
                assert_eq!([best.korean_chat.as_deref(), best.embedding.as_deref()], expected, "{gib} GiB");
            };
        check(0, |_| true, false, [None, None]);
        check(2, |_| true, true, [Some("kanana1.5:2.1b"), Some("kure")]);
        check(8, |_| true, true, [Some("kanana1.5:8b"), Some("kure")]);
        // Only what runs is advised.
        check(8, |entry| entry.family == "qwen2", false, [Some("qwen2.5"), None]);
    }

    #[test]
    fn too_slow_a_model_is_not_advised() {
        let catalogue = Catalogue::embedded();
        let mut slow = rates();
        for kind in slow.kinds.values_mut() {
            kind.bytes_per_s /= 4.0;
        }
        let name = |rates: &Rates| {
            let all = candidates(catalogue.entries(), |_| true, &wishes(Some(64 * GIB)), Some(rates));
            let best = best(&all, false).chat.expect("one");
            catalogue
                .entries()
                .iter()
                .find(|entry| entry.name == best)
                .expect("known")
                .parameters
                .expect("said")
        };
        assert!(name(&slow) < name(&rates()));
    }
}
