//! A model of a registry that speaks Ollama's protocol: a Docker image manifest, version 2, whose layers are blobs.
//!
//! Protocol: the OCI distribution specification 1.1 (`/v2/{name}/manifests/{tag}`, `/v2/{name}/blobs/{digest}`), with
//! Ollama's media types. Anonymous tokens are fetched when a registry wants one. Left out: logins and pushing. No
//! credential of ours exists here, so a registry's own words about where to log in cannot lead one away.

use net::{Request, Response, Url};
use serde::Deserialize;

use super::download::{Remote, download, refusal};
use super::plan::Plan;
use super::reporter::Reporter;
use super::{Brought, Context};
use crate::digest::Digest;
use crate::entry::Origin;
use crate::error::RegistryError;
use crate::manifest::{Extras, MANIFEST_BYTES_MAX};
use crate::name::{DEFAULT_HOST, ModelName};
use crate::ollama::{ImageManifest, Layer, LayerKind, TEXT_BYTES_MAX};

const MANIFEST_KINDS: &str =
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";
/// Largest answer of a token server.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// What a registry asks for in `WWW-Authenticate`.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(alias = "access_token")]
    token: String,
}

pub(super) async fn fetch(
    context: &Context<'_>,
    plan: &Plan,
    name: &ModelName,
    report: &mut Reporter<'_>,
) -> Result<Brought, RegistryError> {
    let mut registry = Registry { context, name, token: None };
    let manifest = registry.manifest().await?;
    let weights = manifest.weights(name)?;
    if let Some(wanted) = plan.digest.filter(|wanted| *wanted != weights.digest) {
        let source_name = format!("registry {}", name.host());
        return Err(RegistryError::WrongDigest { source_name, wanted, found: weights.digest });
    }
    let remote = Remote {
        url: registry.address("blobs", &weights.digest.to_string())?,
        token: registry.token.clone(),
        what: name.to_string(),
        digest: Some(weights.digest),
        size_bytes: Some(weights.size),
    };
    let (digest, size_bytes, lock) = download(context, &remote, report).await?;
    let mut extras = Extras::default();
    for layer in &manifest.layers {
        if !matches!(layer.kind(), LayerKind::Weights | LayerKind::Optional | LayerKind::Unsupported) {
            extras.add(layer.kind(), registry.text(layer).await?);
        }
    }
    if extras.licence.is_none() {
        extras.licence.clone_from(&plan.extras.licence);
    }
    Ok(Brought { digest, size_bytes, origin: Origin::OllamaRegistry { name: name.full() }, extras, lock })
}

struct Registry<'a> {
    context: &'a Context<'a>,
    name: &'a ModelName,
    token: Option<String>,
}

impl Registry<'_> {
    fn address(&self, what: &str, which: &str) -> Result<Url, RegistryError> {
        let options = self.context.options;
        let base = if self.name.host() == DEFAULT_HOST {
            options.hubs.ollama.clone()
        } else {
            let scheme = if options.insecure { "http" } else { "https" };
            format!("{scheme}://{}", self.name.host())
        };
        let bad = || RegistryError::Unsupported {
            name: self.name.to_string(),
            what: format!("{base} is not the address of a registry"),
        };
        let mut url = Url::parse(&base).map_err(|_| bad())?;
        url.path_segments_mut().map_err(|()| bad())?.pop_if_empty().extend([
            "v2",
            self.name.namespace(),
            self.name.model(),
            what,
            which,
        ]);
        Ok(url)
    }

    async fn manifest(&mut self) -> Result<ImageManifest, RegistryError> {
        let url = self.address("manifests", self.name.tag())?;
        let mut response = self.get(url.clone()).await?;
        if response.status() == 401
            && let Some(challenge) = response.header("www-authenticate").and_then(challenge)
        {
            self.token = Some(self.anonymous_token(&challenge).await?);
            response = self.get(url).await?;
        }
        if !response.is_success() {
            return Err(refusal(&response, &self.name.to_string()));
        }
        let bytes = response.bytes(MANIFEST_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.protocol(error.to_string()))
    }

    async fn get(&self, url: Url) -> Result<Response, RegistryError> {
        let options = self.context.options;
        let mut request =
            Request::get(url).reach(options.reach).plain_http(options.insecure).accept(MANIFEST_KINDS);
        if let Some(token) = &self.token {
            request = request.bearer(token)?;
        }
        Ok(self.context.client.send(request).await?)
    }

    /// A token for reading what everybody may read.
    async fn anonymous_token(&self, challenge: &Challenge) -> Result<String, RegistryError> {
        let mut url = Url::parse(&challenge.realm).map_err(|error| self.protocol(error.to_string()))?;
        for (key, value) in [("service", &challenge.service), ("scope", &challenge.scope)] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        let options = self.context.options;
        let request = Request::get(url).reach(options.reach).plain_http(options.insecure);
        let response = self.context.client.send(request).await?;
        if !response.is_success() {
            return Err(refusal(&response, &self.name.to_string()));
        }
        let bytes = response.bytes(TOKEN_BYTES_MAX).await?;
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|error| self.protocol(error.to_string()))?;
        Ok(token.token)
    }

    /// A text layer, checked against its digest.
    async fn text(&self, layer: &Layer) -> Result<String, RegistryError> {
        let response = self.get(self.address("blobs", &layer.digest.to_string())?).await?;
        if !response.is_success() {
            return Err(refusal(&response, &self.name.to_string()));
        }
        let bytes = response.bytes(layer.size.min(TEXT_BYTES_MAX)).await?;
        let found = Digest::of(&bytes);
        if found != layer.digest {
            let source_name = format!("registry {}", self.name.host());
            return Err(RegistryError::WrongDigest { source_name, wanted: layer.digest, found });
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn protocol(&self, detail: String) -> RegistryError {
        let host = self.name.host().to_owned();
        RegistryError::Protocol { host, what: self.name.to_string(), detail }
    }
}

/// Reads `Bearer realm="…",service="…",scope="…"`; values in quotes may hold commas.
fn challenge(header: &str) -> Option<Challenge> {
    let mut rest = header.trim().strip_prefix("Bearer ").or_else(|| header.trim().strip_prefix("bearer "))?;
    let (mut realm, mut service, mut scope) = (None, None, None);
    while let Some((key, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"')?;
        match key.trim_matches([' ', ',']) {
            "realm" => realm = Some(value.to_owned()),
            "service" => service = Some(value.to_owned()),
            "scope" => scope = Some(value.to_owned()),
            _ => {}
        }
        rest = after;
    }
    Some(Challenge { realm: realm?, service, scope })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn challenges_are_read() {
        let found = challenge(
            "Bearer realm=\"https://r.test/token\",service=\"r\", scope=\"repository:a/b:pull,push\"",
        );
        let expected = Challenge {
            realm: "https://r.test/token".into(),
            service: Some("r".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(found, Some(expected));
        assert_eq!(challenge("Basic realm=\"x\""), None);
        assert_eq!(challenge("Bearer service=\"x\""), None);
        assert_eq!(challenge("Bearer realm=\"x"), None);
    }

    proptest! {
        /// A server may say anything in a header.
        #[test]
        fn no_header_is_too_strange(text in "(Bearer )?([a-z]{0,8}=\"?|[\",= :/é])*") {
            let _ = challenge(&text);
        }
    }
}
