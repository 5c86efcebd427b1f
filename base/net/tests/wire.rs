//! The client on the wire, against scripted answers on loopback: what it sends, through whom, and what it refuses to
//! follow or to wait for.

#![expect(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::{Client, Hosts, Method, NetError, Proxies, Reach, Request, Settings, Url};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that gives each connection the next of its answers (the last one again and again), and keeps what it was
/// sent.
struct Script {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn start<S: Into<String>>(answers: impl IntoIterator<Item = S>) -> Self {
        let answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read(&mut stream).await;
                let index = {
                    let mut log = log.lock().unwrap();
                    log.push(request);
                    log.len() - 1
                };
                let answer = answers[index.min(answers.len() - 1)].clone();
                tokio::spawn(async move {
                    for piece in answer.split('|') {
                        // A bar is a pause, so that pieces arrive one by one.
                        let _ = stream.write_all(piece.as_bytes()).await;
                        tokio::time::sleep(Duration::from_millis(15)).await;
                    }
                    if answer.contains("HANG") {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { address, seen }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await.unwrap_or(0);
        bytes.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if count == 0 { return text } else { continue }
        };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if count == 0 || body.len() >= length.unwrap_or(0) {
            return text;
        }
    }
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.replace('|', "").len()
    )
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 X\r\nconnection: close\r\ncontent-length: 0\r\nlocation: {to}\r\n\r\n")
}

fn local(url: Url) -> Request {
    Request::get(url).reach(Reach::Local)
}

fn client(settings: Settings) -> Client {
    Client::new(settings).unwrap()
}

#[tokio::test]
async fn a_request_carries_what_it_was_given_and_nothing_of_the_machine() {
    let server = Script::start([ok("hi")]).await;
    let client = client(Settings { user_agent: "ondol/test".into(), ..Settings::default() });
    let request = local(server.url("/a?b=c")).bearer("t0ken").unwrap().from_byte(7, Some("\"e\"")).unwrap();
    let response = client.send(request).await.unwrap();
    assert_eq!((response.status(), response.content_length()), (200, Some(2)));
    assert_eq!(response.bytes(10).await.unwrap(), "hi");
    let seen = server.seen().remove(0).to_ascii_lowercase();
    let mut lines: Vec<&str> = seen.lines().filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    let mut expected = vec![
        "get /a?b=c http/1.1",
        "accept: */*",
        "authorization: bearer t0ken",
        "if-range: \"e\"",
        "range: bytes=7-",
        "user-agent: ondol/test",
        &host,
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_server_of_ours_streams_lines_to_the_terminal() {
    let server = Script::start([ok("{\"a\":1}\n{\"b\":|2}\r\n\n{\"en|d\":3}")]).await;
    let request = Request::post_json(server.url("/api/chat"), "{\"stream\":true}");
    let response = Client::loopback().send(request).await.unwrap();
    let mut lines = response.lines(100);
    let mut found = Vec::new();
    while let Some(line) = lines.next().await.unwrap() {
        found.push(line);
    }
    assert_eq!(found, ["{\"a\":1}", "{\"b\":2}", "", "{\"end\":3}"]);
    let seen = server.seen().remove(0);
    assert!(seen.starts_with("POST /api/chat ") && seen.ends_with("\r\n\r\n{\"stream\":true}"), "{seen}");
    assert!(seen.to_ascii_lowercase().contains("content-type: application/json"), "{seen}");
    let delete = Request::new(Method::Delete, server.url("/api/delete")).json("{}");
    Client::loopback().send(delete).await.unwrap();
    assert!(server.seen()[1].starts_with("DELETE /api/delete "));
}

#[tokio::test]
async fn sizes_are_capped() {
    let server = Script::start([ok("0123456789"), ok("0123456789")]).await;
    let client = client(Settings::default());
    let response = client.send(local(server.url("/"))).await.unwrap();
    assert!(matches!(response.bytes(9).await, Err(NetError::TooLarge { limit_bytes: 9, .. })));
    let response = client.send(local(server.url("/"))).await.unwrap();
    assert!(matches!(response.lines(5).next().await, Err(NetError::TooLarge { limit_bytes: 5, .. })));
    // Not announced, so it has to be counted.
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n";
    let server = Script::start([chunked]).await;
    let response = client.send(local(server.url("/"))).await.unwrap();
    assert!(matches!(response.bytes(9).await, Err(NetError::TooLarge { .. })));
}

#[tokio::test]
async fn silence_and_broken_answers_end() {
    let quick = || Settings {
        connect_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(100),
        ..Settings::default()
    };
    let check = async |answer: &str, expected: &str| {
        let server = Script::start([answer]).await;
        let outcome = match client(quick()).send(local(server.url("/"))).await {
            Ok(response) => response.bytes(1000).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let error = outcome.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{answer}: {error:?}");
        assert!(error.is_transient());
    };
    check("|HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: HANG\r\n\r\n12", "Timeout").await;
    check("HANG", "Broken").await;
    check("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12", "Broken").await;
    check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12", "Broken").await;
    check("", "Broken").await;
    // A port that nobody listens on.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let error = client(quick()).send(local(url)).await.unwrap_err();
    assert!(matches!(&error, NetError::Connect { reason, .. } if reason.contains("refused")), "{error:?}");
}

#[tokio::test]
async fn a_redirect_may_not_leave_the_allowed_hosts() {
    let far = Script::start([ok("secret")]).await;
    let near = Script::start([redirect(&format!("http://localhost:{}/x", far.address.port()))]).await;
    let hosts = Hosts::Only(vec!["127.0.0.1".into()]);
    let narrow = client(Settings { hosts, ..Settings::default() });
    let error = narrow.send(local(near.url("/"))).await.unwrap_err();
    assert!(matches!(&error, NetError::HostRefused { host } if host == "localhost"), "{error:?}");
    assert_eq!(far.seen().len(), 0);
    let open = client(Settings::default());
    assert_eq!(open.send(local(near.url("/"))).await.unwrap().bytes(10).await.unwrap(), "secret");
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_before_it_is_connected() {
    let server = Script::start([ok("inside")]).await;
    let url = Url::parse(&format!("http://localhost:{}/", server.address.port())).unwrap();
    for reach in [Reach::Public, Reach::Private] {
        let error =
            client(Settings::default()).send(Request::get(url.clone()).reach(reach)).await.unwrap_err();
        assert!(matches!(error, NetError::AddressRefused { .. }), "{error:?}");
    }
    assert_eq!(server.seen().len(), 0);
    assert!(client(Settings::default()).send(local(url)).await.is_ok());
}

#[tokio::test]
async fn a_proxy_is_used_and_what_it_fetched_from_outside_may_not_lead_inside() {
    let inside = Script::start([ok("inside")]).await;
    let proxy =
        Script::start([ok("through"), redirect(inside.url("/").as_str()), redirect("http://10.0.0.9/")])
            .await;
    let proxies = Proxies {
        http: Some(format!("http://{}", proxy.address)),
        https: None,
        direct: Some("127.0.0.1".into()),
    };
    let client = client(Settings { proxies, ..Settings::default() });
    let ask = |path: &str| {
        let url = Url::parse(&format!("http://models.example.test{path}")).unwrap();
        client.send(Request::get(url).reach(Reach::Local).plain_http(true))
    };
    assert_eq!(ask("/a").await.unwrap().bytes(10).await.unwrap(), "through");
    assert!(proxy.seen()[0].starts_with("GET http://models.example.test/a HTTP/1.1"), "{:?}", proxy.seen());
    for path in ["/b", "/c"] {
        let error = ask(path).await.unwrap_err();
        assert!(matches!(error, NetError::AddressRefused { .. }), "{error:?}");
    }
    assert_eq!(inside.seen().len(), 0);
    // Named as direct: not through the proxy.
    assert!(client.send(local(inside.url("/"))).await.is_ok());
    assert_eq!((inside.seen().len(), proxy.seen().len()), (1, 3));
}

#[tokio::test]
async fn a_certificate_file_must_hold_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let ask = async || {
        let settings = Settings { ca_file: Some(path.clone()), ..Settings::default() };
        let url = Url::parse("https://127.0.0.1:1/").unwrap();
        client(settings).send(local(url)).await.unwrap_err()
    };
    assert!(matches!(ask().await, NetError::CaFile { .. }));
    std::fs::write(&path, "nothing of the kind").unwrap();
    assert!(matches!(ask().await, NetError::CaFile { .. }));
}

#[tokio::test]
async fn unusable_proxies_are_said_when_the_client_is_made() {
    for address in ["http://", "http://[bad", "::::"] {
        let proxies = Proxies { http: Some(address.into()), ..Proxies::default() };
        let error = Client::new(Settings { proxies, ..Settings::default() }).unwrap_err();
        assert!(matches!(error, NetError::Proxy { name: "http_proxy", .. }), "{address}: {error:?}");
    }
}

/// A TLS server for `localhost`, on a thread of its own: each connection gets the same answer.
fn tls(answer: String) -> u16 {
    let certificates =
        CertificateDer::pem_file_iter(tls_file("server.pem")).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(certificates, key).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream.unwrap());
            // A client that does not trust us leaves in the middle of the handshake.
            let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(answer.as_bytes()));
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    port
}

fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

#[tokio::test]
async fn an_extra_authority_is_trusted_and_only_then() {
    let url = Url::parse(&format!("https://localhost:{}/", tls(ok("sealed")))).unwrap();
    let trusting = client(Settings { ca_file: Some(tls_file("ca.pem")), ..Settings::default() });
    assert_eq!(trusting.send(local(url.clone())).await.unwrap().bytes(10).await.unwrap(), "sealed");
    let error = client(Settings::default()).send(local(url.clone())).await.unwrap_err();
    assert!(matches!(error, NetError::Connect { .. } | NetError::Setup { .. }), "{error:?}");
    // The same server under a name that its certificate does not have.
    let mut other = url;
    other.set_host(Some("127.0.0.1")).unwrap();
    let error = trusting.send(local(other)).await.unwrap_err();
    assert!(matches!(error, NetError::Connect { .. }), "{error:?}");
}

#[tokio::test]
async fn a_redirect_out_of_encryption_is_refused_even_on_this_machine() {
    let plain = Script::start([ok("in the clear")]).await;
    let url = Url::parse(&format!("https://localhost:{}/", tls(redirect(plain.url("/").as_str())))).unwrap();
    let client = client(Settings { ca_file: Some(tls_file("ca.pem")), ..Settings::default() });
    let error = client.send(local(url).plain_http(true)).await.unwrap_err();
    assert!(matches!(error, NetError::Downgrade { .. }), "{error:?}");
    assert_eq!(plain.seen().len(), 0);
}

#[tokio::test]
async fn what_is_no_https_server_is_a_connection_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read(&mut [0; 4096]);
    });
    let client = client(Settings { ca_file: Some(tls_file("ca.pem")), ..Settings::default() });
    let error = client.send(local(url)).await.unwrap_err();
    assert!(matches!(error, NetError::Connect { .. }), "{error:?}");
}
