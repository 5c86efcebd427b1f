//! Any bytes as the body of an OpenAI request: each reader answers, and what it accepts is within the bounds that it
//! tells clients of.
#![no_main]

use dialects::openai::{ErrorReply, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for parsed in [request::chat(data), request::completion(data)] {
        match parsed {
            Ok(parsed) => {
                let sampling = &parsed.request.sampling;
                assert!(!parsed.request.model.is_empty() && !parsed.request.limits.truncate);
                assert!(sampling.temperature.is_none_or(|value| (0.0..=2.0).contains(&value)));
                assert!(sampling.top_p.is_none_or(|value| (0.0..=1.0).contains(&value)));
                assert!(parsed.request.logprobs.is_none_or(|top| top <= 20));
                assert!(parsed.request.stop.iter().all(|stop| !stop.is_empty()));
            }
            Err(error) => assert_eq!(ErrorReply::from(error).status, 400),
        }
    }
});
