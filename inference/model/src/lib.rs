//! Tokens to logits: one decoder forward pass, written once for all families and all devices.
//!
//! In the first journey this crate stands between `engine` (which decides what to compute) and `kernels` (which
//! computes). A file in `families/` states what a family does differently, and nothing else. It does no IO, knows no
//! text, and owns no sequence: batches and page numbers come from the engine.
//!
//! Tests: unit; seeded models against an independent float reference (`tests/logits.rs`); hostile metadata
//! (`tests/hostile.rs`). Real weights are compared with another engine by `tests/conformance/perplexity`.

pub mod encoder;
mod error;
pub mod families;
mod footprint;
mod forward;
mod load;
mod shape;

pub use error::ModelError;
pub use footprint::Footprint;
pub use forward::Workspace;
pub use load::{Model, PackedParts};
pub use shape::{ExpertsPlan, Latent, Layer, NormKind, Order, Plan, QueryNorms, Routing, Shape, Stretched};
