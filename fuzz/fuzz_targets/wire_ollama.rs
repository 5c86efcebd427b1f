//! Any bytes as the body of an Ollama request, and as a line of an Ollama server's answer: each reader answers, and a
//! request that was accepted can be sent on and read again as the same.
#![no_main]

use dialects::ollama::client::{self, Reader};
use dialects::ollama::{Endpoint, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for parsed in [request::generate(data), request::chat(data)].into_iter().flatten() {
        assert!(!parsed.request.model.is_empty() && parsed.request.logprobs.is_none_or(|top| top <= 20));
        let outgoing = client::request(&parsed.request).expect("nothing that came in has token ids");
        let body = outgoing.body.to_string();
        let again = match outgoing.endpoint {
            Endpoint::Chat => request::chat(body.as_bytes()),
            Endpoint::Generate => request::generate(body.as_bytes()),
        };
        let mut again = again.expect("our own requests are sound").request;
        // Fractions of a nanosecond do not survive seconds written as a float.
        again.keep_alive = parsed.request.keep_alive;
        assert_eq!(again, parsed.request);
    }
    let _ = request::pull(data);
    let _ = request::show(data);
    let _ = request::delete(data);
    let _ = request::copy(data);
    for endpoint in [Endpoint::Chat, Endpoint::Generate] {
        let mut reader = Reader::new(endpoint, "m");
        for line in data.split(|byte| *byte == b'\n') {
            let _ = reader.line(line);
        }
        let _ = reader.refused(500, data);
    }
});
