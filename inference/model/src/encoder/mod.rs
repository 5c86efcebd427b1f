//! Encoders: models that read a text as a whole and make a vector of it, of each of its tokens, or a score.
//!
//! A forward pass of its own beside the decoder's: no pages, every token sees both ways, several texts in one ragged batch
//! without padding. What families do differently stands in the [`Plan`]; how states become one vector, in [`Pooling`].
//! Tests: `tests/encoders.rs`, against what the Python package transformers computes.

mod footprint;
mod forward;
mod load;
mod modules;
mod plan;
mod pooling;

pub use footprint::EncoderFootprint;
pub use forward::{Texts, Workspace};
pub use load::{Encoder, Products};
pub use modules::Modules;
pub use plan::{EncoderShape, supported};
pub use pooling::{Pooling, max_similarity, normalise, pool};

/// Whether a model of this architecture is an encoder.
#[must_use]
pub fn is_encoder(architecture: &str) -> bool {
    supported().contains(&architecture)
}
