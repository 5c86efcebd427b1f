//! The numbers: block formats of quantised weights, and the list of operations a decoder needs, with a scalar
//! reference and a fast CPU form of each.
//!
//! In the first journey this crate stands under `model::forward`. It does no IO, reads no clock, and knows neither
//! files nor models. Tests: unit, property (every fast form against the scalar one).

pub mod blocks;

pub use blocks::BlockType;
