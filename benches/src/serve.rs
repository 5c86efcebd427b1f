//! A crowd of streaming clients at a server that is running already: `POST /v1/completions` with prompts of token ids,
//! of which the first part is shared by all, and an answer of fixed length. Prints one JSON object: speed, times to the
//! first token, times between tokens, and what went wrong.
//!
//! One thread for all clients, so that the crowd costs the server little of the processor that they share.

mod http;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) use http::Reply;

/// Far longer than an answer takes, even the last of 64.
const REQUEST_SECONDS_MAX: u64 = 3600;
const READ_BYTES: usize = 64 << 10;

/// What is asked, and how often.
#[derive(Debug, Clone)]
pub(super) struct Crowd {
    /// Host and port.
    address: String,
    model: String,
    clients: usize,
    /// Of each client, one after another.
    requests: usize,
    prompt_tokens: usize,
    /// Of those, the first so many are the same in every prompt.
    shared_tokens: usize,
    new_tokens: usize,
    /// Ids that stand for plain text in every model measured: from, to.
    ids: (u32, u32),
    seed: u64,
    /// What this server needs beside the fields that all get.
    body: Map<String, Json>,
}

/// What happened to one request.
#[derive(Debug, Clone, Default, PartialEq)]
struct Outcome {
    /// From sending to the first text, seconds.
    first: Option<f64>,
    /// Between texts, seconds.
    gaps: Vec<f64>,
    /// As the server counts them.
    generated: u64,
    cached: u64,
    error: Option<String>,
}

/// Runs the crowd and prints the figures.
pub(super) fn run(words: &[String]) -> Result<()> {
    let crowd = Crowd::parse(words)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(measure(&crowd))?;
    println!("{figures}");
    Ok(())
}

impl Crowd {
    fn parse(words: &[String]) -> Result<Self> {
        let mut crowd = Self {
            address: String::new(),
            model: "bench".to_owned(),
            clients: 1,
            requests: 1,
            prompt_tokens: 512,
            shared_tokens: 400,
            new_tokens: 128,
            ids: (300, 30_000),
            seed: 1,
            body: Map::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--model" => crowd.model.clone_from(value()?),
                "--clients" => crowd.clients = value()?.parse()?,
                "--requests" => crowd.requests = value()?.parse()?,
                "--prompt" => crowd.prompt_tokens = value()?.parse()?,
                "--shared" => crowd.shared_tokens = value()?.parse()?,
                "--new" => crowd.new_tokens = value()?.parse()?,
                "--ids" => {
                    let (from, to) = value()?.split_once(',').context("--ids wants FROM,TO")?;
                    crowd.ids = (from.parse()?, to.parse()?);
                }
                "--seed" => crowd.seed = value()?.parse()?,
                "--body" => {
                    crowd.body = serde_json::from_str(value()?).context("--body is no JSON object")?
                }
                flag if flag.starts_with("--") => bail!("unknown flag {flag}"),
                address => {
                    let address = address.strip_prefix("http://").unwrap_or(address);
                    crowd.address = address.trim_end_matches('/').to_owned();
                }
            }
        }
        ensure!(!crowd.address.is_empty(), "say where the server is");
        ensure!(crowd.ids.0 < crowd.ids.1, "no ids between {} and {}", crowd.ids.0, crowd.ids.1);
        ensure!(crowd.shared_tokens < crowd.prompt_tokens, "prompts must differ in their last tokens");
        Ok(crowd)
    }

    /// The prompt of a request: the shared part, then its own.
    fn prompt(&self, request: u64) -> Vec<u32> {
        let mut shared = Random(self.seed);
        let mut own = Random(self.seed ^ (request + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        (0..self.prompt_tokens)
            .map(|at| if at < self.shared_tokens { shared.next() } else { own.next() })
            .map(|random| self.ids.0 + (random % u64::from(self.ids.1 - self.ids.0)) as u32)
            .collect()
    }

    fn request(&self, number: u64, new_tokens: usize) -> Vec<u8> {
        let mut body = Map::from_iter([
            ("model".to_owned(), json!(self.model)),
            ("prompt".to_owned(), json!(self.prompt(number))),
            ("max_tokens".to_owned(), json!(new_tokens)),
            ("temperature".to_owned(), json!(0)),
            ("stream".to_owned(), json!(true)),
            ("stream_options".to_owned(), json!({"include_usage": true})),
        ]);
        body.extend(self.body.clone());
        let body = Json::Object(body).to_string();
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            self.address,
            body.len()
        );
        [head.into_bytes(), body.into_bytes()].concat()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

async fn measure(crowd: &Crowd) -> Result<Json> {
    // One request before the clock runs: the model is loaded, and the shared part of the prompts has been seen once, as
    // in a server that has been up for a while.
    let warm = ask(crowd, u64::MAX - 1, crowd.new_tokens.min(8)).await;
    if let Some(error) = warm.error {
        bail!("the first request failed: {error}");
    }
    let began = Instant::now();
    let clients: Vec<_> = (0..crowd.clients)
        .map(|client| {
            let crowd = crowd.clone();
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                for request in 0..crowd.requests {
                    let number = (client * crowd.requests + request) as u64;
                    outcomes.push(ask(&crowd, number, crowd.new_tokens).await);
                }
                outcomes
            })
        })
        .collect();
    let mut outcomes = Vec::new();
    for client in clients {
        outcomes.extend(client.await.context("a client panicked")?);
    }
    Ok(figures(crowd, &outcomes, began.elapsed()))
}

/// Sends a request and follows its answer.
async fn ask(crowd: &Crowd, number: u64, new_tokens: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let limit = Duration::from_secs(REQUEST_SECONDS_MAX);
    let followed = tokio::time::timeout(limit, follow(crowd, number, new_tokens, &mut outcome)).await;
    let problem = match followed {
        Ok(Ok(())) if outcome.generated == new_tokens as u64 => None,
        Ok(Ok(())) => Some(format!("{} tokens in place of {new_tokens}", outcome.generated)),
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some(format!("no end after {REQUEST_SECONDS_MAX} s")),
    };
    outcome.error = problem;
    outcome
}

async fn follow(crowd: &Crowd, number: u64, new_tokens: usize, outcome: &mut Outcome) -> Result<()> {
    let request = crowd.request(number, new_tokens);
    let sent = Instant::now();
    let mut last = sent;
    let mut stream = TcpStream::connect(&crowd.address).await.context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.write_all(&request).await?;
    let mut reply = Reply::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut done = false;
    while !reply.ended() && !done {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            break;
        }
        let now = Instant::now();
        for line in reply.push(&buffer[..count])? {
            let Some(event) = line.strip_prefix(b"data:") else { continue };
            if event.trim_ascii() == b"[DONE]" {
                done = true;
                continue;
            }
            if outcome.take(&serde_json::from_slice(event)?)? {
                match outcome.first {
                    None => outcome.first = Some((now - sent).as_secs_f64()),
                    Some(_) => outcome.gaps.push((now - last).as_secs_f64()),
                }
                last = now;
            }
        }
    }
    match reply.status() {
        Some(200) => Ok(()),
        Some(status) => bail!("status {status}: {}", String::from_utf8_lossy(reply.rest())),
        None => bail!("the server closed the connection without a reply"),
    }
}

impl Outcome {
    /// Takes an event of the stream. `true`: it brought text.
    fn take(&mut self, event: &Json) -> Result<bool> {
        if let Some(error) = event.get("error") {
            bail!("in the stream: {error}");
        }
        let usage = &event["usage"];
        if let Some(tokens) = usage["completion_tokens"].as_u64() {
            self.generated = tokens;
            self.cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap_or(0);
        }
        Ok(event["choices"][0]["text"].as_str().is_some_and(|text| !text.is_empty()))
    }
}

fn figures(crowd: &Crowd, outcomes: &[Outcome], wall: Duration) -> Json {
    let errors: Vec<&str> = outcomes.iter().filter_map(|outcome| outcome.error.as_deref()).collect();
    if let Some(error) = errors.first() {
        eprintln!("{} of {} requests failed, the first: {error}", errors.len(), outcomes.len());
    }
    let firsts = sorted(outcomes.iter().filter_map(|outcome| outcome.first));
    let gaps = sorted(outcomes.iter().flat_map(|outcome| outcome.gaps.iter().copied()));
    let generated: u64 = outcomes.iter().map(|outcome| outcome.generated).sum();
    let cached: u64 = outcomes.iter().map(|outcome| outcome.cached).sum();
    let ms = |values: &[f64], share: f64| percentile(values, share).map(|seconds| seconds * 1e3);
    json!({
        "clients": crowd.clients, "requests": outcomes.len(), "errors": errors.len(), "wall_s": wall.as_secs_f64(),
        "prompt_tokens": outcomes.len() * crowd.prompt_tokens, "cached_tokens": cached,
        "generated_tokens": generated, "tokens_per_s": generated as f64 / wall.as_secs_f64(),
        "first_ms_p50": ms(&firsts, 0.5), "first_ms_p95": ms(&firsts, 0.95),
        "gap_ms_p50": ms(&gaps, 0.5), "gap_ms_p95": ms(&gaps, 0.95), "texts": gaps.len() + firsts.len(),
    })
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The smallest value that at least this share of all do not exceed (nearest rank).
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil().max(1.0) as usize;
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd(line: &str) -> Result<Crowd> {
        Crowd::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn command_lines() {
        let crowd =
            crowd("http://127.0.0.1:9/ --clients 3 --prompt 8 --shared 5 --ids 10,12").expect("parses");
        assert_eq!((crowd.address.as_str(), crowd.clients), ("127.0.0.1:9", 3));
        for wrong in
            ["--clients 3", "x --ids 5,5", "x --prompt 4 --shared 4", "x --loud", "x --body []", "x --new"]
        {
            assert!(
                Crowd::parse(&wrong.split(' ').map(str::to_owned).collect::<Vec<_>>()).is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn prompts_share_their_beginning_only() {
        let crowd = crowd("x --prompt 24 --shared 16 --ids 100,1000").expect("parses");
        let (one, two) = (crowd.prompt(0), crowd.prompt(1));
        assert_eq!(one[..16], two[..16]);
        assert_ne!(one[16..], two[16..]);
        assert_eq!(one, crowd.prompt(0));
        assert!(one.iter().chain(&two).all(|id| (100..1000).contains(id)));
    }

    #[test]
    fn events_of_both_servers() {
        for (event, text, generated) in [
            (r#"{"choices":[{"text":"a"}],"usage":null}"#, true, 0),
            (r#"{"choices":[{"text":""}]}"#, false, 0),
            (r#"{"choices":[],"usage":{"completion_tokens":7}}"#, false, 7),
            (r#"{"choices":[{"text":"b"}],"usage":{"completion_tokens":7}}"#, true, 7),
        ] {
            let mut outcome = Outcome::default();
            assert_eq!(
                outcome.take(&serde_json::from_str(event).expect("JSON")).expect("fine"),
                text,
                "{event}"
            );
            assert_eq!(outcome.generated, generated);
        }
        assert!(Outcome::default().take(&json!({"error": {"message": "x"}})).is_err());
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        for (values, share, expected) in [
            (hundred.as_slice(), 0.5, Some(50.0)),
            (&hundred, 0.95, Some(95.0)),
            (&hundred[..1], 0.95, Some(1.0)),
            (&hundred[..4], 0.95, Some(4.0)),
            (&[], 0.5, None),
        ] {
            assert_eq!(percentile(values, share), expected);
        }
    }
}
