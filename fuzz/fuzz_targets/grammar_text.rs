//! Any text as a grammar in GBNF, in Lark, and as a regular expression: it is refused with a text of bounded length, or it
//! compiles, and an answer under it goes on by tokens that its masks allow. In bounded time and memory.
#![no_main]

mod grammar;

use libfuzzer_sys::fuzz_target;
use text::grammar::Grammar;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    for grammar in [Grammar::gbnf(&text), Grammar::lark(&text), Grammar::regex(&text)] {
        if let Err(error) = grammar.and_then(|grammar| grammar::walk(&grammar, data, 40)) {
            grammar::check(&error);
        }
    }
});
