//! A file of a Hugging Face repository: its revision is pinned first, its digest is the one that Git LFS keeps for it.
//!
//! Protocol: the hub's HTTP API (`/api/models/{repository}/revision/{revision}`, `…/tree/{commit}`) and
//! `/{repository}/resolve/{commit}/{file}`, as documented in November 2026. Left out: files split into several, and
//! repositories with anything but GGUF.

use net::{Request, Url};
use serde::Deserialize;

use super::download::{Remote, download, refusal};
use super::plan::{Choice, Plan};
use super::reporter::Reporter;
use super::{Brought, Context};
use crate::digest::Digest;
use crate::entry::Origin;
use crate::error::RegistryError;

/// Largest answer of the API that is read, and most pages of a file list.
const ANSWER_BYTES_MAX: u64 = 16 << 20;
const PAGES_MAX: usize = 20;

/// What most people want, best first, when nothing is said: small loss, a quarter of the size.
const USUAL: [&str; 8] = ["Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0", "IQ4_XS", "BF16", "F16"];

#[derive(Deserialize)]
struct Revision {
    sha: String,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Card {
    #[serde(default)]
    license: Option<serde_json::Value>,
}

#[derive(Debug, Clone, Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Debug, Clone, Deserialize)]
struct Lfs {
    oid: Digest,
    size: u64,
}

pub(super) async fn fetch(
    context: &Context<'_>,
    plan: &Plan,
    repository: &str,
    revision: &str,
    choice: &Choice,
    report: &mut Reporter<'_>,
) -> Result<Brought, RegistryError> {
    let hub = Hub { context, repository };
    let pinned: Revision = hub.json(hub.address(&["api", "models"], &["revision", revision])?).await?.0;
    if !pinned.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) || pinned.sha.len() != 40 {
        return Err(hub.protocol("its revision is not a commit".to_owned()));
    }
    let items = hub.files(&pinned.sha).await?;
    let item = choose(&items, choice).map_err(|what| hub.refuse(plan, what))?;
    let (digest, size_bytes) = match &item.lfs {
        Some(lfs) => (Some(lfs.oid), lfs.size),
        None => (None, item.size),
    };
    if let (Some(wanted), Some(found)) = (plan.digest, digest)
        && wanted != found
    {
        let source_name = format!("Hugging Face {repository}");
        return Err(RegistryError::WrongDigest { source_name, wanted, found });
    }
    let mut segments = vec!["resolve", &pinned.sha];
    segments.extend(item.path.split('/'));
    let remote = Remote {
        url: hub.address(&[], &segments)?,
        token: hub.token(),
        what: format!("{repository}/{}", item.path),
        digest: plan.digest.or(digest),
        size_bytes: Some(size_bytes),
    };
    let (digest, size_bytes, lock) = download(context, &remote, report).await?;
    let mut extras = plan.extras.clone();
    if extras.licence.is_none() {
        let named = pinned.card.and_then(|card| card.license);
        extras.licence = named.and_then(|name| name.as_str().map(str::to_owned));
    }
    let origin = Origin::HuggingFace {
        repository: repository.to_owned(),
        revision: pinned.sha,
        file: item.path.clone(),
    };
    Ok(Brought { digest, size_bytes, origin, extras, lock })
}

struct Hub<'a> {
    context: &'a Context<'a>,
    repository: &'a str,
}

impl Hub<'_> {
    /// `{hub}/{before…}/{repository}/{after…}`, every segment encoded.
    fn address(&self, before: &[&str], after: &[&str]) -> Result<Url, RegistryError> {
        let base = &self.context.options.hubs.huggingface;
        let bad = || RegistryError::Unsupported {
            name: base.clone(),
            what: "the address of the Hugging Face hub is not one".to_owned(),
        };
        let mut url = Url::parse(base).map_err(|_| bad())?;
        let mut segments = url.path_segments_mut().map_err(|()| bad())?;
        segments.pop_if_empty().extend(before).extend(self.repository.split('/')).extend(after);
        drop(segments);
        Ok(url)
    }

    fn token(&self) -> Option<String> {
        self.context.options.huggingface_token.as_ref().map(|secret| secret.0.clone())
    }

    /// All files of a commit.
    async fn files(&self, commit: &str) -> Result<Vec<Item>, RegistryError> {
        let mut url = self.address(&["api", "models"], &["tree", commit])?;
        url.query_pairs_mut().append_pair("recursive", "true");
        let (first, origin) = (url.clone(), url.origin());
        let mut items: Vec<Item> = Vec::new();
        for _ in 0..PAGES_MAX {
            let (page, next): (Vec<Item>, _) = self.json(url).await?;
            items.extend(page.into_iter().filter(|item| item.kind == "file"));
            match next.and_then(|next| first.join(&next).ok()) {
                // The token goes along with these requests: they stay where they began.
                Some(next) if next.origin() == origin => url = next,
                Some(_) => return Err(self.protocol("its file list goes on at another host".to_owned())),
                None => break,
            }
        }
        Ok(items)
    }

    /// An answer of the API, and the address of its next page.
    async fn json<T: for<'de> Deserialize<'de>>(
        &self,
        url: Url,
    ) -> Result<(T, Option<String>), RegistryError> {
        let options = self.context.options;
        let mut request = Request::get(url).reach(options.reach).plain_http(options.insecure);
        request = request.accept("application/json");
        if let Some(token) = self.token() {
            request = request.bearer(&token)?;
        }
        let response = self.context.client.send(request).await?;
        if !response.is_success() {
            return Err(refusal(&response, self.repository));
        }
        let next = response.header("link").and_then(next_page);
        let bytes = response.bytes(ANSWER_BYTES_MAX).await?;
        let parsed = serde_json::from_slice(&bytes).map_err(|error| self.protocol(error.to_string()))?;
        Ok((parsed, next))
    }

    fn protocol(&self, detail: String) -> RegistryError {
        let host = "Hugging Face".to_owned();
        RegistryError::Protocol { host, what: self.repository.to_owned(), detail }
    }

    fn refuse(&self, plan: &Plan, what: Refusal) -> RegistryError {
        match what {
            Refusal::Absent(detail) => RegistryError::NotAtSource { name: plan.asked.clone(), detail },
            Refusal::Split => RegistryError::Unsupported {
                name: plan.asked.clone(),
                what: "its weights are split into several files".to_owned(),
            },
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Absent(String),
    Split,
}

/// The file that was meant.
fn choose<'a>(items: &'a [Item], choice: &Choice) -> Result<&'a Item, Refusal> {
    if let Choice::File(file) = choice {
        let found = items.iter().find(|item| item.path == *file);
        return found.ok_or_else(|| Refusal::Absent(format!("the repository has no {file}")));
    }
    let models: Vec<&Item> = items.iter().filter(|item| is_model(&item.path)).collect();
    let with = |wanted: &str| {
        let fits: Vec<&Item> =
            models.iter().copied().filter(|item| has_quantization(&item.path, wanted)).collect();
        // A whole file before a split one, then the shortest name: variants add to it.
        fits.into_iter().min_by_key(|item| (is_split(&item.path), item.path.len(), item.path.clone()))
    };
    let found = match choice {
        Choice::Quantization(wanted) => with(wanted),
        _ => USUAL.iter().find_map(|usual| with(usual)).or_else(|| models.first().copied()),
    };
    match found {
        Some(item) if is_split(&item.path) => Err(Refusal::Split),
        Some(item) => Ok(item),
        None => {
            let names: Vec<&str> = models.iter().map(|item| item.path.as_str()).take(20).collect();
            let there = if names.is_empty() { "no GGUF file at all".to_owned() } else { names.join(", ") };
            Err(Refusal::Absent(format!("the repository has {there}")))
        }
    }
}

fn is_model(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.ends_with(".gguf") && !name.contains("mmproj") && !name.contains("imatrix")
}

/// `…-00001-of-00003.gguf`.
fn is_split(path: &str) -> bool {
    let stem = path.to_ascii_lowercase();
    let stem = stem.strip_suffix(".gguf").unwrap_or(&stem);
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    stem.rsplit_once("-of-").is_some_and(|(before, count)| {
        digits(count) && before.rsplit_once('-').is_some_and(|(_, number)| digits(number))
    })
}

/// Whether a quantisation's name stands in a path as a word of its own: `Q4_K` is not in `x-Q4_K_M.gguf`.
fn has_quantization(path: &str, wanted: &str) -> bool {
    let (path, wanted) = (path.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    path.match_indices(&wanted).any(|(at, _)| {
        let (before, after) = (&path.as_bytes()[..at], &path.as_bytes()[at + wanted.len()..]);
        !is_word(before.last()) && !is_word(after.first())
    })
}

/// The target with `rel="next"` of a Link header.
fn next_page(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.split(';').any(|part| part.trim() == "rel=\"next\"").then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items(paths: &[&str]) -> Vec<Item> {
        let item = |path: &&str| Item { kind: "file".into(), path: (*path).into(), size: 1, lfs: None };
        paths.iter().map(item).collect()
    }

    #[test]
    fn the_file_that_was_meant_is_chosen() {
        let check = |paths: &[&str], choice: Choice, expected: Result<&str, ()>| {
            let items = items(paths);
            let found = choose(&items, &choice).map(|item| item.path.as_str()).map_err(|_| ());
            assert_eq!(found, expected, "{paths:?} {choice:?}");
        };
        let quant = |text: &str| Choice::Quantization(text.into());
        let many = ["README.md", "m-Q4_K_S.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m-Q8_0.gguf"];
        check(&many, Choice::Usual, Ok("m-Q4_K_M.gguf"));
        check(&many, quant("q8_0"), Ok("m-Q8_0.gguf"));
        check(&many, quant("Q4_K"), Err(()));
        check(&many, quant("Q4"), Err(()));
        check(&many, Choice::File("m-Q4_K_S.gguf".into()), Ok("m-Q4_K_S.gguf"));
        check(&many, Choice::File("x.gguf".into()), Err(()));
        check(&["only.gguf"], Choice::Usual, Ok("only.gguf"));
        check(&["model.safetensors"], Choice::Usual, Err(()));
        check(&["m.Q4_0.gguf", "m-Q4_K_M-00001-of-00002.gguf"], quant("Q4_K_M"), Err(()));
        check(&["d/m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M.gguf"], quant("Q4_K_M"), Ok("m-Q4_K_M.gguf"));
        check(&["m-Q4_K_M-pure.gguf", "m-Q4_K_M.gguf"], Choice::Usual, Ok("m-Q4_K_M.gguf"));
    }

    #[test]
    fn the_next_page_is_found() {
        let check = |header: &str, expected: Option<&str>| assert_eq!(next_page(header).as_deref(), expected);
        check("<https://x.test/a?cursor=1>; rel=\"next\"", Some("https://x.test/a?cursor=1"));
        check("</p>; rel=\"prev\", </n>; rel=\"next\"", Some("/n"));
        check("</p>; rel=\"prev\"", None);
        check("nonsense", None);
    }

    proptest! {
        /// A server may say anything in a header.
        #[test]
        fn no_header_is_too_strange(text in "[<>;,a-z=\" /é-]{0,40}") {
            let _ = next_page(&text);
            let _ = (is_split(&text), is_model(&text), has_quantization(&text, "q4_0"), has_quantization("x-q4_0.gguf", &text));
        }
    }
}
