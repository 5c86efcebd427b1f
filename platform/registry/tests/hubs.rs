//! Pulls over HTTP against a server that behaves well, badly and maliciously: bare addresses, Hugging Face, and the
//! Ollama registry protocol.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

mod stand_in;

use std::time::Duration;

use registry::{Digest, Origin, Progress, Reach, RegistryError, TemplateDialect};
use serde_json::json;
use stand_in::{Body, Home, Reply, StandIn, hex, model, options};

const SIZE: usize = 300_000;

/// What happened, by the error's own name: `Ok`, or for example `WrongDigest`.
fn kind<T>(result: &Result<T, RegistryError>) -> String {
    match result {
        Ok(_) => "Ok".to_owned(),
        Err(RegistryError::Net(error)) => format!("Net::{}", word(&format!("{error:?}"))),
        Err(error) => word(&format!("{error:?}")),
    }
}

fn word(debug: &str) -> String {
    debug.chars().take_while(char::is_ascii_alphanumeric).collect()
}

/// Pulls `/m.gguf` of the stand-in and compares the outcome; a good one must have the right bytes, a bad one must
/// leave no blob.
async fn check(server: &StandIn, fragment: &str, bytes: &[u8], expected: &str) -> Vec<Progress> {
    let home = Home::new();
    let (result, steps) = home.pull(&(server.url("/m.gguf") + fragment), &options(None)).await;
    assert_eq!(kind(&result), expected, "{result:?}");
    match result {
        Ok(entry) => assert_eq!(std::fs::read(&entry.path).unwrap(), bytes),
        Err(_) => assert_eq!(home.files("blobs"), Vec::<String>::new()),
    }
    steps
}

#[tokio::test]
async fn an_address_is_pulled_and_told_about_in_ollamas_words() {
    let bytes = model(SIZE);
    let served = bytes.clone();
    let server = StandIn::start(move |seen, _| Reply::file(seen, &served, Some("\"a\""))).await;
    let home = Home::new();
    let (result, steps) = home.pull(&server.url("/dir/My_Model.gguf?sig=secret"), &options(None)).await;
    let entry = result.unwrap();
    assert_eq!(entry.name.to_string(), "My_Model:latest");
    assert_eq!(entry.digest, format!("sha256:{}", hex(&bytes)));
    assert_eq!(entry.size_bytes, bytes.len() as u64);
    assert_eq!(entry.origin, Origin::Url { url: server.url("/dir/My_Model.gguf") });
    assert_eq!((entry.family.as_deref(), entry.context_length), (Some("llama"), Some(512)));
    let mut words: Vec<String> = steps.iter().map(Progress::status).collect();
    words.dedup();
    let expected = [
        "pulling manifest",
        "pulling",
        "verifying sha256 digest",
        "writing manifest",
        "removing any unused layers",
        "success",
    ];
    assert_eq!(words, expected);
    let total = bytes.len() as u64;
    assert!(steps.contains(&Progress::Pulling { digest: String::new(), total, completed: total }));
    assert_eq!(home.store.resolve("my_model").unwrap(), entry);
    assert_eq!(home.files("partial"), Vec::<String>::new());
}

#[tokio::test]
async fn a_broken_connection_goes_on_where_it_broke() {
    let bytes = model(SIZE);
    let served = bytes.clone();
    let server = StandIn::start(move |seen, before| {
        let whole = Reply::file(seen, &served, Some("\"a\""));
        if before < 2 { whole.broken_after(100_000) } else { whole }
    })
    .await;
    check(&server, "", &bytes, "Ok").await;
    assert_eq!(server.ranges(), [None, Some(100_000), Some(200_000)]);
    assert_eq!(server.seen()[1].header("if-range"), Some("\"a\""));
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_from_the_start() {
    let bytes = model(SIZE);
    let served = bytes.clone();
    let server = StandIn::start(move |_, before| {
        let whole = Reply::ok(&*served).with("etag", "\"a\"");
        if before == 0 { whole.broken_after(100_000) } else { whole }
    })
    .await;
    check(&server, "", &bytes, "Ok").await;
    assert_eq!(server.ranges(), [None, Some(100_000)]);
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_is_read_afresh() {
    let (old, new) = (model(SIZE), model(SIZE + 4));
    let expected = new.clone();
    let server = StandIn::start(move |seen, before| match before {
        0 => Reply::file(seen, &old, Some("\"old\"")).broken_after(100_000),
        _ => Reply::file(seen, &new, Some("\"new\"")),
    })
    .await;
    check(&server, "", &expected, "Ok").await;
    assert_eq!(server.ranges(), [None, Some(100_000)]);
}

#[tokio::test]
async fn without_tag_and_digest_nothing_is_resumed_but_with_a_digest_it_is() {
    let bytes = model(SIZE);
    for (fragment, second) in [(String::new(), None), (format!("#sha256={}", hex(&bytes)), Some(100_000))] {
        let served = bytes.clone();
        let server = StandIn::start(move |seen, before| {
            let whole = Reply::file(seen, &served, None);
            if before == 0 { whole.broken_after(100_000) } else { whole }
        })
        .await;
        check(&server, &fragment, &bytes, "Ok").await;
        assert_eq!(server.ranges(), [None, second], "{fragment}");
    }
}

#[tokio::test]
async fn a_beginning_that_is_not_of_this_file_is_thrown_away_once() {
    let bytes = model(SIZE);
    let key = format!("sha256-{}", hex(&bytes));
    let served = bytes.clone();
    let server = StandIn::start(move |seen, _| Reply::file(seen, &served, None)).await;
    let home = Home::new();
    let partial = home.folder.path().join("models/partial");
    std::fs::create_dir_all(&partial).unwrap();
    std::fs::write(partial.join(key), vec![0; 1000]).unwrap();
    let (result, _) =
        home.pull(&server.url(&format!("/m.gguf#sha256={}", hex(&bytes))), &options(None)).await;
    assert_eq!(std::fs::read(result.unwrap().path).unwrap(), bytes);
    assert_eq!(server.ranges(), [Some(1000), None]);
}

#[tokio::test]
async fn refusals_have_their_own_errors() {
    for (status, expected, requests) in [
        (401, "Unauthorised", 1),
        (403, "Unauthorised", 1),
        (404, "NotAtSource", 1),
        (410, "NotAtSource", 1),
        (429, "RateLimited", 3),
        (500, "Status", 3),
        (503, "Status", 3),
        (418, "Status", 1),
        (416, "Status", 1),
        (204, "Status", 1),
        (304, "Status", 1),
    ] {
        let server = StandIn::start(move |_, _| Reply::status(status).with("retry-after", "0")).await;
        check(&server, "", b"", expected).await;
        assert_eq!(server.seen().len(), requests, "{status}");
    }
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    for status in [429, 500, 502, 503, 504, 408] {
        let bytes = model(1000);
        let served = bytes.clone();
        let server = StandIn::start(move |seen, before| match before {
            0 | 1 => Reply::status(status),
            _ => Reply::file(seen, &served, None),
        })
        .await;
        check(&server, "", &bytes, "Ok").await;
    }
}

#[tokio::test]
async fn lies_about_length_are_noticed() {
    let bytes = model(SIZE);
    let fragment = format!("#sha256={}", hex(&bytes));
    // A body without a length is fine when it ends properly.
    let served = bytes.clone();
    let server = StandIn::start(move |_, _| Reply::new(200, Body::Chunked(served.clone()))).await;
    check(&server, &fragment, &bytes, "Ok").await;
    // Cut short, each time at the same place, until the tries are used up.
    let served = bytes[..1000].to_vec();
    let server = StandIn::start(move |_, _| Reply::new(200, Body::Announced(2000, served.clone()))).await;
    check(&server, &fragment, &bytes, "Net::Broken").await;
    assert_eq!(server.seen().len(), 3);
    // A proper end, but too early: only the digest can tell.
    let served = bytes[..1000].to_vec();
    let server = StandIn::start(move |_, _| Reply::ok(&*served)).await;
    check(&server, &fragment, &bytes, "WrongDigest").await;
}

#[tokio::test]
async fn an_endless_body_is_ended() {
    let server = StandIn::start(|_, _| Reply::new(200, Body::Endless)).await;
    let home = Home::new();
    let mut options = options(None);
    options.bytes_max = 1 << 20;
    let (result, _) = home.pull(&server.url("/m.gguf"), &options).await;
    assert_eq!(kind(&result), "WrongSize", "{result:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_part_that_was_not_asked_for_is_refused() {
    let bytes = model(SIZE);
    let fragment = format!("#sha256={}", hex(&bytes));
    let served = bytes.clone();
    let server = StandIn::start(move |_, _| Reply::part(&served, 5, 5)).await;
    check(&server, &fragment, &bytes, "Protocol").await;
    let served = bytes.clone();
    let server = StandIn::start(move |seen, before| match before {
        0 => Reply::file(seen, &served, None).broken_after(100_000),
        _ => Reply::part(&served, 100_000, 99_999),
    })
    .await;
    check(&server, &fragment, &bytes, "Protocol").await;
    let served = bytes.clone();
    let server = StandIn::start(move |_, _| Reply::ok(&*served).with("content-encoding", "gzip")).await;
    check(&server, &fragment, &bytes, "Protocol").await;
}

#[tokio::test]
async fn a_wrong_hash_is_refused_and_said_and_nothing_stays() {
    let (wanted, sent) = (model(SIZE), model(SIZE + 4));
    let served = sent.clone();
    let server = StandIn::start(move |seen, _| Reply::file(seen, &served, Some("\"a\""))).await;
    let home = Home::new();
    let (result, _) =
        home.pull(&server.url(&format!("/m.gguf#sha256={}", hex(&wanted))), &options(None)).await;
    let Err(RegistryError::WrongDigest { wanted: said, found, .. }) = &result else { panic!("{result:?}") };
    assert_eq!((said, found), (&Digest::of(&wanted), &Digest::of(&sent)));
    assert!(result.unwrap_err().to_string().contains(&hex(&sent)));
    assert_eq!((home.files("blobs"), home.files("partial")), (vec![], vec![]));
    assert!(home.store.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_page_instead_of_a_model_is_refused() {
    let server = StandIn::start(|_, _| Reply::ok("<!doctype html><title>Please log in</title>")).await;
    check(&server, "", b"", "NotGguf").await;
    let server = StandIn::start(|_, _| Reply::ok("")).await;
    check(&server, "", b"", "NotGguf").await;
}

#[tokio::test]
async fn redirects_are_followed_so_far_and_no_further() {
    let bytes = model(SIZE);
    let served = bytes.clone();
    let server = StandIn::start(move |seen, _| match seen.target.as_str() {
        "/m.gguf" => Reply::redirect("/two"),
        "/two" => Reply::status(307).with("location", "three?sig=1"),
        _ => Reply::file(seen, &served, None),
    })
    .await;
    check(&server, "", &bytes, "Ok").await;
    let loops = StandIn::start(|_, _| Reply::redirect("/m.gguf")).await;
    check(&loops, "", b"", "Net::TooManyRedirects").await;
    assert_eq!(loops.seen().len(), 9);
    let nowhere = StandIn::start(|_, _| Reply::status(302)).await;
    check(&nowhere, "", b"", "Net::Redirect").await;
    let file = StandIn::start(|_, _| Reply::redirect("file:///etc/passwd")).await;
    check(&file, "", b"", "Net::Address").await;
}

#[tokio::test]
async fn offline_and_reach_are_kept_without_a_connection() {
    let server = StandIn::start(|_, _| Reply::ok("x")).await;
    let mut offline = options(Some(&server));
    offline.network.offline = true;
    let mut outside = options(Some(&server));
    outside.reach = Reach::Private;
    let mut encrypted = options(Some(&server));
    encrypted.insecure = false;
    for name in ["smollm2", "gemma3:270m", "someone/thing", "hf.co/o/r"] {
        let home = Home::new();
        assert_eq!(kind(&home.pull(name, &offline).await.0), "Offline", "{name}");
    }
    let home = Home::new();
    assert_eq!(kind(&home.pull("someone/thing", &outside).await.0), "Net::AddressRefused");
    assert_eq!(kind(&home.pull("http://10.9.8.7/x.gguf", &encrypted).await.0), "Net::PlainHttp");
    assert_eq!(server.seen().len(), 0);
}

/// A hub with one repository, whose files lie at a second address as on the real one.
async fn hub(bytes: &[u8], oid: String, pages: bool) -> (StandIn, StandIn) {
    let (served, size) = (bytes.to_vec(), bytes.len());
    let far = StandIn::start(move |seen, _| Reply::file(seen, &served, Some("\"x\""))).await;
    let far_url = format!("http://localhost:{}/cdn/file?sig=1", far.address.port());
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let near = StandIn::start(move |seen, _| {
        let file = |path: &str| json!({"type": "file", "path": path, "size": size, "oid": "git", "lfs": {"oid": oid, "size": size, "pointerSize": 9}});
        let tree = format!("/api/models/Org/Repo-GGUF/tree/{commit}?recursive=true");
        let target = seen.target.as_str();
        if target == "/api/models/Org/Repo-GGUF/revision/main" {
            Reply::ok(json!({"sha": commit, "cardData": {"license": "apache-2.0"}}).to_string())
        } else if target == tree && pages {
            Reply::ok(json!([{"type": "directory", "path": "q", "oid": "x"}]).to_string())
                .with("link", format!("<{tree}&cursor=2>; rel=\"next\""))
        } else if target.starts_with(&tree) {
            Reply::ok(json!([file("README.md"), file("m-Q8_0.gguf"), file("q/m-Q4_K_M.gguf")]).to_string())
        } else if target == format!("/Org/Repo-GGUF/resolve/{commit}/q/m-Q4_K_M.gguf") {
            Reply::redirect(&far_url)
        } else {
            Reply::status(404)
        }
    })
    .await;
    (near, far)
}

#[tokio::test]
async fn a_repository_is_pinned_checked_and_its_token_stays_at_home() {
    for pages in [false, true] {
        let bytes = model(SIZE);
        let (near, far) = hub(&bytes, hex(&bytes), pages).await;
        let home = Home::new();
        let (result, _) = home.pull("hf.co/Org/Repo-GGUF:Q4_K_M", &options(Some(&near))).await;
        let entry = result.unwrap();
        assert_eq!(entry.name.to_string(), "hf.co/Org/Repo-GGUF:Q4_K_M");
        assert_eq!(entry.licence.as_deref(), Some("apache-2.0"));
        let expected = Origin::HuggingFace {
            repository: "Org/Repo-GGUF".into(),
            revision: "0123456789abcdef0123456789abcdef01234567".into(),
            file: "q/m-Q4_K_M.gguf".into(),
        };
        assert_eq!(entry.origin, expected);
        assert!(near.seen().iter().all(|seen| seen.header("authorization") == Some("Bearer hf_secret")));
        assert_eq!(far.seen().len(), 1);
        assert!(far.seen().iter().all(|seen| seen.header("authorization").is_none()));
    }
}

#[tokio::test]
async fn a_repository_whose_bytes_are_not_its_digest_is_refused() {
    let bytes = model(SIZE);
    let (near, _far) = hub(&bytes, hex(b"other"), false).await;
    let home = Home::new();
    let (result, _) = home.pull("hf.co/Org/Repo-GGUF", &options(Some(&near))).await;
    assert_eq!(kind(&result), "WrongDigest", "{result:?}");
    assert_eq!(home.files("blobs"), Vec::<String>::new());
}

#[tokio::test]
async fn a_repository_without_the_file_says_what_it_has() {
    let bytes = model(1000);
    let (near, _far) = hub(&bytes, hex(&bytes), false).await;
    let home = Home::new();
    let (result, _) = home.pull("hf.co/Org/Repo-GGUF:Q2_K", &options(Some(&near))).await;
    assert!(result.unwrap_err().to_string().contains("m-Q8_0.gguf"));
    assert_eq!(kind(&home.pull("hf.co/Org/Other", &options(Some(&near))).await.0), "NotAtSource");
    for (status, expected) in [(401, "Unauthorised"), (403, "Unauthorised"), (500, "Status")] {
        let gated = StandIn::start(move |_, _| Reply::status(status)).await;
        assert_eq!(kind(&home.pull("hf.co/Org/Repo", &options(Some(&gated))).await.0), expected);
    }
    let nonsense = StandIn::start(|_, _| Reply::ok("<html>")).await;
    assert_eq!(kind(&home.pull("hf.co/Org/Repo", &options(Some(&nonsense))).await.0), "Protocol");
    let moved = StandIn::start(|_, _| Reply::ok("{\"sha\": \"../../etc\"}")).await;
    assert_eq!(kind(&home.pull("hf.co/Org/Repo", &options(Some(&moved))).await.0), "Protocol");
}

/// Layers of an Ollama model; the texts are served by digest.
fn layer(kind: &str, bytes: &[u8]) -> serde_json::Value {
    json!({
        "mediaType": format!("application/vnd.ollama.image.{kind}"),
        "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len(),
    })
}

/// A registry that gives these blobs, after a token was fetched when `guarded`.
async fn ollama(layers: Vec<serde_json::Value>, blobs: Vec<Vec<u8>>, guarded: bool) -> StandIn {
    StandIn::start(move |seen, _| {
        let target = seen.target.as_str();
        if target.starts_with("/token") {
            assert!(seen.header("authorization").is_none());
            return Reply::ok("{\"token\": \"anonymous\"}");
        }
        if guarded && seen.header("authorization") != Some("Bearer anonymous") {
            let host = seen.header("host").unwrap();
            let realm = format!(
                "Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:library/m:pull\""
            );
            return Reply::status(401).with("www-authenticate", realm);
        }
        if target.contains("/manifests/") {
            return Reply::ok(json!({"schemaVersion": 2, "layers": layers}).to_string());
        }
        let blob = blobs.iter().find(|blob| target.ends_with(&format!("/blobs/sha256:{}", hex(blob))));
        blob.map_or(Reply::status(404), |blob| Reply::file(seen, blob, None))
    })
    .await
}

#[tokio::test]
async fn an_ollama_model_comes_with_all_its_layers() {
    let weights = model(SIZE);
    let texts: [(&str, &[u8]); 5] = [
        ("template", b"{{ .Prompt }}"),
        ("system", b"Be brief."),
        ("params", b"{\"stop\": [\"a\", \"b\"], \"temperature\": 0.5}"),
        ("license", b"Licence one"),
        ("license", b"Licence two"),
    ];
    for guarded in [false, true] {
        let mut layers = vec![layer("model", &weights), layer("projector", b"not fetched")];
        layers.extend(texts.iter().map(|(kind, text)| layer(kind, text)));
        let mut blobs = vec![weights.clone()];
        blobs.extend(texts.iter().map(|(_, text)| text.to_vec()));
        let server = ollama(layers, blobs, guarded).await;
        let home = Home::new();
        let (result, _) = home.pull("m", &options(Some(&server))).await;
        let entry = result.unwrap();
        assert_eq!(entry.digest, format!("sha256:{}", hex(&weights)));
        assert_eq!(
            (entry.template.as_deref(), entry.template_dialect),
            (Some("{{ .Prompt }}"), TemplateDialect::Go)
        );
        assert_eq!(entry.system.as_deref(), Some("Be brief."));
        assert_eq!(entry.licence.as_deref(), Some("Licence one\n\nLicence two"));
        let expected = [("stop", json!("a")), ("stop", json!("b")), ("temperature", json!(0.5))];
        assert_eq!(entry.parameters, expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(
            entry.origin,
            Origin::OllamaRegistry { name: "registry.ollama.ai/library/m:latest".into() }
        );
        let first = &server.seen()[0];
        assert_eq!(first.target, "/v2/library/m/manifests/latest");
        assert!(
            first.header("accept").unwrap().contains("application/vnd.docker.distribution.manifest.v2+json")
        );
    }
}

#[tokio::test]
async fn a_registry_of_ones_own_is_reached_by_its_host() {
    let weights = model(1000);
    let server = ollama(vec![layer("model", &weights)], vec![weights.clone()], false).await;
    let home = Home::new();
    let name = format!("localhost:{}/team/m:v1", server.address.port());
    let entry = home.pull(&name, &options(None)).await.0.unwrap();
    assert_eq!(entry.name.to_string(), name);
    assert_eq!(server.seen()[0].target, "/v2/team/m/manifests/v1");
    assert_eq!(home.store.resolve(&name).unwrap(), entry);
}

#[tokio::test]
async fn what_an_ollama_registry_gets_wrong_is_said() {
    let weights = model(1000);
    let check = async |layers: Vec<serde_json::Value>, blobs: Vec<Vec<u8>>, expected: &str| {
        let server = ollama(layers, blobs, false).await;
        let home = Home::new();
        let (result, _) = home.pull("m", &options(Some(&server))).await;
        assert_eq!(kind(&result), expected, "{result:?}");
        assert!(home.store.list().unwrap().is_empty());
    };
    let good = layer("model", &weights);
    check(vec![], vec![], "Unsupported").await;
    check(vec![good.clone(), good.clone()], vec![], "Unsupported").await;
    check(vec![good.clone(), layer("adapter", b"x")], vec![], "Unsupported").await;
    check(vec![good.clone()], vec![], "NotAtSource").await;
    check(vec![good.clone(), layer("template", b"x")], vec![weights.clone()], "NotAtSource").await;
    let mut evil = good.clone();
    evil["digest"] = json!("sha256:../../../../etc/passwd");
    check(vec![evil], vec![weights.clone()], "Protocol").await;
    let mut small = good.clone();
    small["size"] = json!(10);
    check(vec![small], vec![weights.clone()], "WrongSize").await;
    let mut text = layer("template", b"xxxx");
    text["size"] = json!(2);
    check(vec![good, text], vec![weights, b"xxxx".to_vec()], "Net::TooLarge").await;
    let home = Home::new();
    let absent = StandIn::start(|_, _| Reply::status(404)).await;
    assert_eq!(kind(&home.pull("m", &options(Some(&absent))).await.0), "NotAtSource");
}

#[tokio::test]
async fn two_pulls_of_the_same_weights_share_one_download() {
    let bytes = model(SIZE);
    let served = bytes.clone();
    let server = StandIn::start(move |seen, _| match Reply::file(seen, &served, None).body {
        Body::Whole(bytes) => Reply::new(200, Body::Slow(bytes, 50_000, Duration::from_millis(30))),
        _ => unreachable!("no ranges are asked for"),
    })
    .await;
    let home = Home::new();
    let url = server.url(&format!("/m.gguf#sha256={}", hex(&bytes)));
    let options = options(None);
    let mut second = options.clone();
    second.save_as = Some("other".into());
    let ((a, _), (b, _)) = tokio::join!(home.pull(&url, &options), home.pull(&url, &second));
    assert_eq!(a.unwrap().digest, b.unwrap().digest);
    assert_eq!(server.seen().len(), 1);
    let names: Vec<String> = home.store.list().unwrap().iter().map(|entry| entry.name.to_string()).collect();
    assert_eq!((names.len(), home.files("blobs").len()), (2, 1));
}

#[tokio::test]
async fn a_pull_that_is_dropped_is_resumed_by_the_next() {
    let bytes = model(SIZE);
    let served = bytes.clone();
    let server = StandIn::start(move |seen, before| match (Reply::file(seen, &served, None), before) {
        (Reply { body: Body::Whole(bytes), .. }, 0) => Reply::new(200, Body::Stalled(bytes, 120_000)),
        (reply, _) => reply,
    })
    .await;
    let home = Home::new();
    let url = server.url(&format!("/m.gguf#sha256={}", hex(&bytes)));
    {
        let options = options(None);
        let partial = home.folder.path().join(format!("models/partial/sha256-{}", hex(&bytes)));
        let arrived = async {
            while std::fs::metadata(&partial).map_or(0, |metadata| metadata.len()) < 120_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let mut quiet = |_| ();
        tokio::select! {
            result = home.store.pull(&url, &options, &mut quiet) => panic!("{result:?}"),
            () = arrived => {}
        }
    }
    let (result, _) = home.pull(&url, &options(None)).await;
    assert_eq!(std::fs::read(result.unwrap().path).unwrap(), bytes);
    assert!(matches!(server.ranges()[..], [None, Some(120_000)]), "{:?}", server.ranges());
}
