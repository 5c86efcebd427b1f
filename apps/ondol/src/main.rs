//! temporary
mod answer;
mod commands;
mod flags;
mod parameters;
mod session;
mod settings;
mod terminal;
fn main() {}
