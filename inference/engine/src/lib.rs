//! Requests to events: who is computed when, which token comes next, and what a client is told.
//!
//! In the first journey this crate stands between `server` (or the terminal) and `model::forward`. One thread owns one
//! loaded model ([`worker`]); a pure state machine decides what each step computes ([`scheduler`]); [`Host`] keeps the
//! loaded models and is the [`contract::Generator`] that everything above knows. It does no IO of its own but reading
//! model files through `weights`; names are resolved by a [`ModelSource`] that the binary provides.
//!
//! Tests: unit; the scheduler simulated from seeds (`tests/simulation.rs`); whole requests on seeded models
//! (`tests/requests.rs`).

mod calls;
mod constrained;
mod draft;
mod guides;
mod host;
pub mod importance;
mod kept;
pub mod loaded;
mod output;
mod pages;
pub mod perplexity;
mod prompt;
mod reading;
mod report;
pub mod sampler;
pub mod scheduler;
mod sequence;
mod speculate;
mod spill;
mod step;
mod worker;

pub use draft::DraftError;
pub use host::{Counts as HostCounts, Host, HostConfig};
pub use kept::PackedStore;
pub use loaded::{DraftModel, LoadOptions, Loaded, LocatedModel, ModelSource, TemplateChoice};
pub use model::encoder::Products;
pub use pages::{PageTable, PrefixKey, Sealed};
pub use sampler::{Sampler, SamplerSettings};
pub use speculate::GuessCounts;
pub use spill::{PageShelf, PageStore};
