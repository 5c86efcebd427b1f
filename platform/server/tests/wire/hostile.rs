//! Slow, silent, greedy and vanishing clients. Every limit is set low; a test passes when the server gives up on the
//! client, and others are still served.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use contract::FinishReason;
use server::Limits;

use crate::support::{PATIENCE, Reply, Report, Setup, Stage, Step, finished, request, signal, started, text};

const SHORT: Duration = Duration::from_millis(200);

fn limited(limits: Limits) -> Stage {
    Stage::with(Setup { limits, ..Setup::default() })
}

/// Whether the server ends the connection, whatever it says before.
fn closes(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// One reply with a `content-length` from a connection that stays open.
fn one_reply(stream: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        bytes.push(byte[0]);
    }
    let length: usize = Reply::parse(&bytes).header("content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    bytes.extend(body);
    Reply::parse(&bytes)
}

#[test]
fn headers_that_never_end() {
    let stage = limited(Limits { header_timeout: SHORT, ..Limits::default() });
    let mut silent = stage.connect();
    let mut dripping = stage.connect();
    let deadline = Instant::now() + PATIENCE;
    // Each byte comes well within the timeout; the headers as a whole do not.
    let mut sent = b"GET /api/tags HTTP/1.1\r\nx-slow: ".iter().chain(std::iter::repeat(&b'a'));
    while Instant::now() < deadline && dripping.write_all(&[*sent.next().unwrap()]).is_ok() {
        std::thread::sleep(SHORT / 10);
    }
    assert!(Instant::now() < deadline, "the drip was not ended");
    assert!(closes(&mut dripping));
    assert!(closes(&mut silent));
    assert_eq!(stage.get("/health").status, 200);
}

#[test]
fn a_connection_may_rest_longer_than_headers_may_take() {
    let limits = Limits { header_timeout: SHORT, idle_timeout: 20 * SHORT, ..Limits::default() };
    let stage = limited(limits);
    let mut stream = stage.connect();
    let ask = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(ask).unwrap();
    assert_eq!(one_reply(&mut stream).status, 200);
    std::thread::sleep(3 * SHORT);
    stream.write_all(ask).unwrap();
    assert_eq!(one_reply(&mut stream).status, 200);
    assert!(closes(&mut stream), "and not for ever");
}

#[test]
fn bodies_that_never_end() {
    let stage = limited(Limits { body_timeout: SHORT, ..Limits::default() });
    let head = "POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    let reply = stage.raw(head.as_bytes());
    reply.is_ollama_error(408, "the request body did not arrive in time");
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{";
    let reply = stage.raw(head.as_bytes());
    reply.is_openai_error(408, Some("request_timeout"), "the request body did not arrive in time");
}

#[test]
fn bodies_that_drip() {
    let stage = limited(Limits { body_timeout: 2 * SHORT, ..Limits::default() });
    let mut stream = stage.connect();
    stream
        .write_all(b"POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n")
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && stream.write_all(b"a").is_ok() {
        std::thread::sleep(SHORT / 10);
    }
    assert!(Instant::now() < deadline, "the drip was not ended");
}

#[test]
fn bodies_that_are_too_large() {
    let stage = limited(Limits { body_bytes_max: 1000, body_timeout: SHORT, ..Limits::default() });
    let message = "the request body is larger than 1000 bytes";
    // Announced: refused before any of it comes.
    let head = "POST /api/chat HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1001\r\n\r\n";
    stage.raw(head.as_bytes()).is_ollama_error(413, message);
    // Not announced: refused when the limit is passed.
    let chunk = format!("3e9\r\n{}\r\n", "x".repeat(1001));
    let head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let reply = stage.raw(format!("{head}{chunk}").as_bytes());
    reply.is_openai_error(413, Some("request_too_large"), message);
    let fits = format!(r#"{{"model":"{}"}}"#, "m".repeat(1000 - 12));
    assert_eq!(fits.len(), 1000);
    assert_ne!(stage.post("/api/show", &fits).status, 413);
}

/// A connection closed on unread bytes is reset, and the client may never see why it was refused.
#[test]
fn a_refused_client_that_is_still_sending_reads_its_refusal() {
    let limits = Limits { body_bytes_max: 4 << 20, ..Limits::default() };
    let stage = Stage::with(Setup { keys: vec!["key".into()], limits, ..Setup::default() });
    let refused = |path: &str, key: &str, bytes: usize| {
        let mut stream = stage.connect();
        let body = "x".repeat(bytes);
        stream.write_all(request("POST", path, &[("authorization", key)], &body).as_bytes()).expect(path);
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).expect("an end, and no reset");
        Reply::parse(&reply).status
    };
    assert_eq!(refused("/api/chat", "Bearer wrong", 3 << 20), 401);
    assert_eq!(refused("/api/nothing", "Bearer key", 3 << 20), 404);
    assert_eq!(refused("/api/tags", "Bearer key", 3 << 20), 405);
    assert_eq!(refused("/api/create", "Bearer key", 3 << 20), 501);
    assert_eq!(refused("/api/chat", "Bearer key", 6 << 20), 413);
}

#[test]
fn a_body_that_breaks_off_reaches_no_model() {
    let stage = Stage::new();
    let mut stream = stage.connect();
    let head =
        "POST /api/generate HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"model\":\"m\"";
    stream.write_all(head.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert!(closes(&mut stream));
    assert!(stage.generator.requests.lock().unwrap().is_empty());
}

#[test]
fn requests_that_are_no_http() {
    let stage = Stage::new();
    let check = |bytes: &[u8], status: u16| assert_eq!(stage.raw(bytes).status, status, "{bytes:?}");
    check(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400);
    check(b"GET / HTTP/9.9\r\n\r\n", 400);
    check(b"GET / HTTP/1.1\r\nhost localhost\r\n\r\n", 400);
    check(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(200_000)).as_bytes(), 431);
    check(format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(500)).as_bytes(), 431);
    // Two lengths are a way to smuggle a request past a proxy.
    check(b"POST /api/chat HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400);
    assert_eq!(stage.get("/health").status, 200);
}

#[test]
fn a_client_that_leaves_ends_its_request() {
    let stage = Stage::new();
    stage.script("m", vec![started(), text("first"), Step::Hold]);
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"x"}],"stream":STREAM}"#;
    let prompt = r#"{"model":"m","prompt":"x","stream":STREAM}"#;
    let paths = [
        ("/api/chat", chat),
        ("/api/generate", prompt),
        ("/v1/chat/completions", chat),
        ("/v1/completions", prompt),
    ];
    for (path, body) in paths {
        for (stream, leave) in [("true", "close"), ("false", "close"), ("true", "half"), ("false", "half")] {
            let mut connection = stage.connect();
            let body = body.replace("STREAM", stream);
            connection.write_all(request("POST", path, &[], &body).as_bytes()).unwrap();
            if stream == "true" {
                let mut seen = Vec::new();
                while !String::from_utf8_lossy(&seen).contains("first") {
                    let mut piece = [0; 256];
                    let count = connection.read(&mut piece).unwrap();
                    seen.extend_from_slice(&piece[..count]);
                }
            } else {
                let deadline = Instant::now() + PATIENCE;
                while stage.generator.requests.lock().unwrap().is_empty() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            if leave == "close" {
                drop(connection);
            } else {
                connection.shutdown(Shutdown::Write).unwrap();
            }
            assert_eq!(stage.report(), Report::Closed { accepted_afterwards: 0 }, "{path} {stream} {leave}");
            stage.generator.requests.lock().unwrap().clear();
        }
    }
}

#[test]
fn a_client_that_reads_nothing_ends_its_request() {
    // Either limit alone is enough: few events may wait, or the socket takes none for a while.
    for limits in [
        Limits { events_max: 16, ..Limits::default() },
        Limits { events_max: usize::MAX >> 4, write_timeout: SHORT, ..Limits::default() },
    ] {
        let stage = limited(limits);
        stage.script("m", vec![started(), Step::Flood]);
        let mut stream = stage.connect();
        stream
            .write_all(request("POST", "/api/generate", &[], r#"{"model":"m","prompt":"x"}"#).as_bytes())
            .unwrap();
        let Report::Flooded(sent) = stage.report() else { panic!("a flood") };
        assert!(sent < 1_000_000, "it was ended");
        assert_eq!(stage.get("/health").status, 200);
    }
}

#[test]
fn a_slow_reader_is_told_why_its_answer_ends() {
    let stage = limited(Limits { events_max: 16, ..Limits::default() });
    stage.script("m", vec![started(), Step::Flood]);
    let mut stream = stage.connect();
    stream
        .write_all(request("POST", "/api/generate", &[], r#"{"model":"m","prompt":"x"}"#).as_bytes())
        .unwrap();
    stage.report();
    let last = Reply::read(&mut stream).lines().pop().unwrap();
    assert!(last["error"].as_str().unwrap().contains("reads more slowly"), "{last}");
}

#[test]
fn there_is_room_for_so_many_connections() {
    let stage = limited(Limits { connections_max: 3, ..Limits::default() });
    let mut held: Vec<TcpStream> = (0..3).map(|_| stage.connect()).collect();
    let mut one_more = stage.connect();
    let refused = Reply::read(&mut one_more);
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    assert_eq!(refused.json()["error"], "too many connections");
    held.pop();
    let deadline = Instant::now() + PATIENCE;
    // The place is free once the server has seen the end.
    while stage.get("/health").status != 200 {
        assert!(Instant::now() < deadline, "no place was given back");
    }
}

#[test]
fn hundreds_of_idle_connections_are_in_nobodys_way() {
    let stage = Stage::new();
    let held: Vec<TcpStream> = (0..300).map(|_| stage.connect()).collect();
    stage.says("m", &["ok"]);
    let reply = stage.post("/api/generate", r#"{"model":"m","prompt":"x","stream":false}"#);
    assert_eq!(reply.json()["response"], "ok");
    drop(held);
}

#[test]
fn one_connection_carries_many_requests() {
    let stage = Stage::new();
    stage.says("m", &["ok"]);
    let mut stream = stage.connect();
    let body = r#"{"model":"m","prompt":"x","stream":false}"#;
    let ask = request("POST", "/api/generate", &[], body).replace("connection: close\r\n", "");
    for _ in 0..3 {
        stream.write_all(ask.as_bytes()).unwrap();
        assert_eq!(one_reply(&mut stream).json()["response"], "ok");
    }
    // Both at once: answered in order.
    stream.write_all(format!("{ask}{ask}").as_bytes()).unwrap();
    assert_eq!(one_reply(&mut stream).status, 200);
    assert_eq!(one_reply(&mut stream).status, 200);
}

#[test]
fn a_shutdown_lets_answers_end() {
    let mut stage = Stage::new();
    let (say, word) = signal();
    stage.script("m", vec![started(), text("first"), word, text("last"), finished(FinishReason::Stop)]);
    let mut idle = stage.connect();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    assert_eq!(one_reply(&mut idle).status, 200);
    let mut running = stage.connect();
    running
        .write_all(request("POST", "/api/generate", &[], r#"{"model":"m","prompt":"x"}"#).as_bytes())
        .unwrap();
    let mut seen = vec![0; 64];
    let count = running.read(&mut seen).unwrap();
    seen.truncate(count);
    stage.stop();
    assert!(closes(&mut idle), "resting connections end at once");
    say.send(()).unwrap();
    running.read_to_end(&mut seen).unwrap();
    let lines = Reply::parse(&seen).lines();
    assert_eq!(lines[1]["response"], "last");
    assert_eq!(lines[2]["done"], true);
    stage.join();
    assert!(TcpStream::connect(stage.address).is_err(), "nobody listens any more");
}

#[test]
fn a_shutdown_does_not_wait_for_ever() {
    let mut stage = limited(Limits { drain_timeout: SHORT, ..Limits::default() });
    stage.script("m", vec![started(), text("first"), Step::Hold]);
    let mut running = stage.connect();
    running.write_all(request("POST", "/api/chat", &[], CHAT).as_bytes()).unwrap();
    let mut seen = [0; 16];
    assert_ne!(running.read(&mut seen).unwrap(), 0);
    stage.stop();
    stage.join();
    assert_eq!(stage.report(), Report::Closed { accepted_afterwards: 0 });
    assert!(closes(&mut running));
}

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
