//! How much memory a model is given, told from its header: weights, text, activations, and what is left for keys and
//! values. Pure, and the same for the same file and settings whoever else is loaded: which models fit together does not
//! depend on the order in which they came.

use kernels::{KvType, PAGE_TOKENS};
use model::Footprint;
use model::encoder::EncoderFootprint;

use crate::draft::KV_TYPE as DRAFT_KV_TYPE;

/// A context below this is of little use; a model that cannot have it is not loaded.
const CONTEXT_TOKENS_MIN: u64 = 512;
/// Of a context that nobody asked for, so much is worth more memory than an equal part.
const CONTEXT_TOKENS_USUAL: u64 = 16_384;

/// Of a model's weights, those of a draft model that was not chosen for this very model are at most so many percent: a
/// larger one takes longer to guess than is saved.
const DRAFT_PERCENT_MAX: u64 = 40;

/// Whether a draft model that nobody chose for this very model can be of use to it.
pub(super) const fn is_small_enough(draft: &Footprint, footprint: &Footprint) -> bool {
    draft.weight_bytes <= footprint.weight_bytes / 100 * DRAFT_PERCENT_MAX
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wishes {
    /// For all models together; `None`: nobody knows.
    pub budget_bytes: Option<u64>,
    pub models_max: usize,
    pub sequences_max: usize,
    pub batch_tokens_max: usize,
    pub kv_type: KvType,
    /// The context that manifest or settings ask for.
    pub context_tokens: Option<u32>,
}

/// A model's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// All that it may take.
    pub bytes: u64,
    /// Of that, for keys and values; `None`: as much as it likes.
    pub kv_bytes: Option<u64>,
    /// For its draft model, if it has one that is of use.
    pub draft: Option<DraftRoom>,
    /// It is an encoder.
    pub reads_only: bool,
}

/// A draft model's place beside its model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DraftRoom {
    /// For its keys and values; `None`: as much as it likes.
    pub kv_bytes: Option<u64>,
}

/// A model's place in the budget: what it cannot do without, then keys and values up to an equal part of the budget, or up
/// to one whole context where that is more, and never more than all its sequences can fill. A `bytes` above the budget says
/// that it does not fit. A draft model is a part of its model: what both cannot do without, and for each token the keys and
/// values of both.
pub(super) fn room(footprint: &Footprint, draft: Option<&Footprint>, wishes: &Wishes) -> Room {
    let trained = u64::from(footprint.shape.context_tokens);
    let context = wishes.context_tokens.map_or(trained, u64::from).clamp(1, trained);
    let own_bytes = |tokens: u64| footprint.context_bytes(wishes.kv_type, tokens);
    let draft_bytes = |tokens: u64| draft.map_or(0, |draft| draft.context_bytes(DRAFT_KV_TYPE, tokens));
    let bytes_of = |tokens: u64| own_bytes(tokens).saturating_add(draft_bytes(tokens));
    let outputs = (wishes.sequences_max as u64).max(1);
    let fixed_of = |footprint: &Footprint, text_bytes: u64| {
        let workspace = footprint.workspace_bytes(wishes.batch_tokens_max as u64, outputs);
        footprint.weight_bytes.saturating_add(text_bytes).saturating_add(workspace)
    };
    // A draft model needs no tokenizer of its own.
    let fixed =
        fixed_of(footprint, footprint.text_bytes).saturating_add(draft.map_or(0, |draft| fixed_of(draft, 0)));
    let usual = wishes.context_tokens.map_or(context.min(CONTEXT_TOKENS_USUAL), |_| context);
    let Some(budget) = wishes.budget_bytes else {
        let draft = draft.map(|_| DraftRoom { kv_bytes: None });
        return Room {
            bytes: fixed.saturating_add(bytes_of(usual)),
            kv_bytes: None,
            draft,
            reads_only: false,
        };
    };
    let least = bytes_of(context.min(CONTEXT_TOKENS_MIN));
    // Sequences do not share their last, half-filled pages.
    let most = bytes_of(context.saturating_add(PAGE_TOKENS as u64)).saturating_mul(outputs);
    let left = budget.saturating_sub(fixed);
    let part = (budget / wishes.models_max.max(1) as u64).saturating_sub(fixed);
    let kv_bytes = part.max(bytes_of(usual)).min(most).min(left).max(least);
    // Each gets its part of every token.
    let part = u128::from(kv_bytes) * u128::from(draft_bytes(1)) / u128::from(bytes_of(1).max(1));
    let draft_kv_bytes = u64::try_from(part).unwrap_or(u64::MAX);
    Room {
        bytes: fixed.saturating_add(kv_bytes),
        kv_bytes: Some(kv_bytes - draft_kv_bytes),
        draft: draft.map(|_| DraftRoom { kv_bytes: Some(draft_kv_bytes) }),
        reads_only: false,
    }
}

/// An encoder's place: it keeps nothing between its steps. The longest text is a step of its own.
pub(super) fn encoder_room(footprint: &EncoderFootprint, batch_tokens_max: usize) -> Room {
    let longest = u64::from(footprint.shape.context_tokens).max(batch_tokens_max as u64);
    let bytes = footprint.weight_bytes.saturating_add(footprint.text_bytes);
    let bytes = bytes.saturating_add(footprint.workspace_bytes(longest));
    Room { bytes, kv_bytes: None, draft: None, reads_only: true }
}

#[cfg(test)]
mod tests {
    use model::Shape;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// 100 MiB of weights, 32 KiB of keys and values a token.
    fn footprint() -> Footprint {
        let shape = Shape {
            architecture: "llama".to_owned(),
            layers: 16,
            width: 64,
            ff_width: 64,
            heads: 8,
            kv_heads: 8,
            head_width: 64,
            rope_width: 64,
            rope_base: 10_000.0,
            norm_epsilon: 1e-5,
            context_tokens: 131_072,
        };
        Footprint { weight_bytes: 100 * MIB, text_bytes: 0, shape, vocab: 0, columns: 2496 }
    }

    fn wishes(budget: Option<u64>) -> Wishes {
        Wishes {
            budget_bytes: budget.map(|mib| mib * MIB),
            models_max: 2,
            sequences_max: 4,
            batch_tokens_max: 0,
            kv_type: KvType::F16,
            context_tokens: None,
        }
    }

    /// Bytes for keys and values in MiB, activations (a kilobyte) rounded away, and whether the model fits.
    fn check(wishes: &Wishes, expected: (u64, bool)) {
        let room = room(&footprint(), None, wishes);
        let fits = wishes.budget_bytes.is_none_or(|budget| room.bytes <= budget);
        assert_eq!(((room.kv_bytes.unwrap_or(0) + MIB / 2) / MIB, fits), expected, "{wishes:?}");
    }

    #[test]
    fn places() {
        // An equal part: half of 4 GiB, less the weights.
        check(&wishes(Some(4096)), (2048 - 100, true));
        // A usual context where that is more than an equal part: 16384 tokens of 32 KiB.
        check(&wishes(Some(1000)), (512, true));
        // What is left, where even that is not there; and 512 tokens at least.
        check(&wishes(Some(300)), (200, true));
        check(&wishes(Some(116)), (16, false));
        check(&wishes(Some(10)), (16, false));
        // A context that was asked for, whole; and no more than all sequences can fill.
        let asked = |tokens| Wishes { context_tokens: Some(tokens), ..wishes(Some(4096)) };
        check(&asked(100_000), (3125, true));
        check(&asked(1024), (4 * 33, true));
        // Nobody knows how much there is.
        check(&wishes(None), (0, true));
    }

    #[test]
    fn models_that_are_alike_fit_as_often_as_there_are_parts() {
        for models_max in 1..6 {
            let wishes = Wishes { models_max, ..wishes(Some(8192)) };
            let bytes = room(&footprint(), None, &wishes).bytes;
            assert!(bytes * models_max as u64 <= 8192 * MIB, "{models_max}: {bytes}");
        }
    }

    #[test]
    fn a_draft_model_takes_its_part_of_every_token() {
        let target = footprint();
        let shape = Shape { layers: 4, ..target.shape.clone() };
        let small = Footprint { weight_bytes: 20 * MIB, shape, ..target.clone() };
        for wishes in [
            wishes(Some(4096)),
            wishes(Some(1000)),
            Wishes { context_tokens: Some(1024), ..wishes(Some(4096)) },
        ] {
            let (alone, both) = (room(&target, None, &wishes), room(&target, Some(&small), &wishes));
            let (kv, draft_kv) =
                (both.kv_bytes.unwrap_or(0), both.draft.and_then(|room| room.kv_bytes).unwrap_or(0));
            // A quarter of the layers: a fifth of the whole.
            assert!(kv.abs_diff(4 * draft_kv) < 8, "{wishes:?}: {both:?}");
            let fixed = both.bytes - kv - draft_kv;
            assert_eq!((fixed - (alone.bytes - alone.kv_bytes.unwrap_or(0))) / MIB, 20, "{wishes:?}");
            assert!(both.bytes <= 4096 * MIB || wishes.budget_bytes != Some(4096 * MIB), "{both:?}");
        }
        assert_eq!(room(&target, None, &wishes(Some(4096))).draft, None);
        assert!(is_small_enough(&small, &target) && !is_small_enough(&target, &target));
    }
}
