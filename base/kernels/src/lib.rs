//! The numbers: block formats of quantised weights, and the operations that a decoder needs, with a plain reference
//! and a fast CPU form of each.
//!
//! In the first journey this crate stands under `model::forward`. It does no IO, reads no clock, and knows neither
//! files nor models. Tests: unit; every instruction set against the reference (`tests/forms.rs`); encoders against other
//! quantisers (`tests/encode.rs`); block formats against an independent implementation (`tests/blocks.rs`).

mod arch;
pub mod blocks;
mod codebooks;
pub mod compute;
pub mod cpu;
pub mod encode;
pub mod half;
pub mod pack;
pub mod pages;
pub mod pool;
pub mod probe;
pub mod reference;
pub mod unpack;

pub use arch::Level;
pub use blocks::BlockType;
pub use compute::{
    AttentionShape, Batch, Compute, ComputeError, Gate, MatrixPlace, MatrixSource, OwnForm, Rope,
    RopePairing, Span, Storage, WithinShape,
};
pub use cpu::Cpu;
pub use pages::{KvType, PAGE_TOKENS, PageShape, Pages, UnknownKvType};
