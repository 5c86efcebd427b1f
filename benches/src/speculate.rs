//! Asks a server the prompts of `benches/speculate.toml`, one after another, the likeliest token always, and prints a line for
//! each set: the answers, word for word, and what the server says of time and guesses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::serve::Reply;

/// Far longer than an answer takes.
const REQUEST_SECONDS_MAX: u64 = 1200;

/// What is asked; the rest of the file is for `cargo xtask bench`.
#[derive(Debug, Deserialize)]
struct Definition {
    set: Vec<Set>,
}

/// Prompts of one kind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    name: String,
    /// Tokens of an answer at most.
    new: usize,
    prompts: Vec<String>,
    /// Each prompt is asked of each of them.
    #[serde(default)]
    programs: Vec<Program>,
}

/// Something to edit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    old: String,
    new: String,
    text: String,
}

/// The command line.
#[derive(Debug)]
struct Asked {
    address: String,
    definition: String,
    /// Of each set.
    prompts_max: usize,
    new_max: usize,
}

/// `speculate ADDRESS DEFINITION [--prompts N] [--new N]`: the model is called `bench`.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let asked = Asked::parse(words)?;
    let definition = read(Path::new(&asked.definition))?;
    // The model is loaded before anything is timed.
    ask(&asked.address, "Hello", 1)?;
    for set in &definition.set {
        println!("{}", answers(&asked, set).with_context(|| set.name.clone())?);
    }
    Ok(())
}

impl Asked {
    fn parse(words: &[String]) -> Result<Self> {
        let mut asked = Self {
            address: String::new(),
            definition: String::new(),
            prompts_max: usize::MAX,
            new_max: usize::MAX,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--prompts" => asked.prompts_max = value()?.parse()?,
                "--new" => asked.new_max = value()?.parse()?,
                flag if flag.starts_with("--") => bail!("unknown flag {flag}"),
                word if asked.address.is_empty() => {
                    let address = word.strip_prefix("http://").unwrap_or(word);
                    asked.address = address.trim_end_matches('/').to_owned();
                }
                word => word.clone_into(&mut asked.definition),
            }
        }
        ensure!(!asked.definition.is_empty(), "speculate ADDRESS DEFINITION.toml [--prompts N] [--new N]");
        Ok(asked)
    }
}

fn read(path: &Path) -> Result<Definition> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no definition of prompts", path.display()))
}

impl Set {
    /// Every prompt, with every program.
    fn prompts(&self) -> Vec<String> {
        if self.programs.is_empty() {
            return self.prompts.clone();
        }
        let of = |prompt: &String, program: &Program| {
            let task = prompt.replace("{old}", &program.old).replace("{new}", &program.new);
            format!("{task}\n\n```\n{}```\n", program.text)
        };
        self.prompts
            .iter()
            .flat_map(|prompt| self.programs.iter().map(move |program| of(prompt, program)))
            .collect()
    }
}

fn answers(asked: &Asked, set: &Set) -> Result<Json> {
    let (mut texts, mut tokens, mut seconds, mut made, mut right) = (Vec::new(), 0, 0.0, 0, 0);
    for prompt in set.prompts().iter().take(asked.prompts_max) {
        let reply = ask(&asked.address, prompt, set.new.min(asked.new_max))?;
        let text = reply["choices"][0]["message"]["content"].as_str().context("an answer without content")?;
        let timings = &reply["timings"];
        let written = timings["predicted_n"].as_u64().context("an answer without timings")?;
        // The first token comes with the prompt.
        tokens += written.saturating_sub(1);
        seconds += timings["predicted_ms"].as_f64().unwrap_or(0.0) / 1e3;
        made += timings["draft_n"].as_u64().unwrap_or(0);
        right += timings["draft_n_accepted"].as_u64().unwrap_or(0);
        texts.push(json!({"text": text, "tokens": written, "reason": reply["choices"][0]["finish_reason"]}));
    }
    Ok(json!({
        "set": set.name, "answers": texts, "tokens": tokens, "seconds": seconds, "guessed": made, "right": right,
    }))
}

/// One answer, whole.
fn ask(address: &str, prompt: &str, new: usize) -> Result<Json> {
    let body = json!({
        "model": "bench", "messages": [{"role": "user", "content": prompt}], "max_tokens": new, "temperature": 0,
        "repeat_penalty": 1.0, "stream": false,
    });
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: \
         {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).context("cannot connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(REQUEST_SECONDS_MAX)))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let (mut reply, mut text, mut buffer) = (Reply::default(), Vec::new(), vec![0; 64 << 10]);
    while !reply.ended() {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        text.extend(reply.push(&buffer[..count])?.concat());
    }
    text.extend_from_slice(reply.rest());
    match reply.status() {
        Some(200) => serde_json::from_slice(&text).context("the answer is no JSON"),
        Some(status) => bail!("status {status}: {}", String::from_utf8_lossy(&text)),
        None => bail!("the server closed the connection without a reply"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_that_ships_has_a_hundred_prompts() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("speculate.toml");
        let definition = read(&path).expect("parses");
        let mut all: Vec<String> = definition.set.iter().flat_map(Set::prompts).collect();
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|prompt| !prompt.contains("{old}") && !prompt.contains("{new}")));
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100, "no two are the same");
    }

    #[test]
    fn command_lines() {
        let parse = |line: &str| Asked::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let asked = parse("http://127.0.0.1:9/ x.toml --prompts 2 --new 8").expect("parses");
        assert_eq!((asked.address.as_str(), asked.definition.as_str()), ("127.0.0.1:9", "x.toml"));
        assert_eq!((asked.prompts_max, asked.new_max), (2, 8));
        for wrong in ["x", "x y --new", "x y --new many", "x y --loud"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
