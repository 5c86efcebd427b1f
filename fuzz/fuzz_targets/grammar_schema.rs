//! Any JSON as a schema: it is refused with a text of bounded length, or it compiles, and an answer under it goes on by
//! tokens that its masks allow until it ends or runs into a limit. In bounded time and memory.
#![no_main]

mod grammar;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use text::grammar::{Grammar, Spacing};

fuzz_target!(|data: &[u8]| {
    let Ok(schema) = serde_json::from_slice::<Value>(data) else { return };
    let outcome = Grammar::json_schema(&schema, Spacing::Free);
    if let Err(error) = outcome.and_then(|grammar| grammar::walk(&grammar, data, 40)) {
        grammar::check(&error);
    }
});
