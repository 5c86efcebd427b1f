//! A reply over HTTP/1.1 as it comes in: status, headers, body in chunks or until the end, body as lines. Just what
//! two servers on loopback send; it opens no connection and reads no clock.

use anyhow::{Result, bail, ensure};

/// More header than this is no header.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// A line of a stream, or the body of an error, is never this long.
const LINE_BYTES_MAX: usize = 16 << 20;

/// A reply, so far.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    status: Option<u16>,
    chunked: bool,
    /// Bytes that came and are not understood yet.
    raw: Vec<u8>,
    /// Of the chunk under way, with the line break behind it.
    chunk_left: usize,
    /// The beginning of a line of the body.
    line: Vec<u8>,
    ended: bool,
}

impl Reply {
    /// The status, once it has come.
    pub(crate) const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the body said that it is over.
    pub(crate) const fn ended(&self) -> bool {
        self.ended
    }

    /// What came after the last line break: the text of errors that are one object.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.line
    }

    /// Takes bytes, gives the lines of the body that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.raw.extend_from_slice(bytes);
        if self.status.is_none() && !self.head()? {
            return Ok(Vec::new());
        }
        let body = self.body()?;
        let mut lines = Vec::new();
        for byte in body {
            match byte {
                b'\n' => lines.push(std::mem::take(&mut self.line)),
                b'\r' => {}
                byte => self.line.push(byte),
            }
        }
        ensure!(self.line.len() <= LINE_BYTES_MAX, "a line of the reply has no end");
        Ok(lines)
    }

    /// Reads status and headers. `false`: they are not all there.
    fn head(&mut self) -> Result<bool> {
        let Some(end) = self.raw.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(self.raw.len() <= HEAD_BYTES_MAX, "the reply's header has no end");
            return Ok(false);
        };
        let head = String::from_utf8_lossy(&self.raw[..end]).to_ascii_lowercase();
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("http/1.").and_then(|rest| rest.split(' ').nth(1));
        let Some(status) = status.and_then(|status| status.parse().ok()) else {
            bail!("no HTTP reply: {first:?}");
        };
        self.status = Some(status);
        self.chunked = lines.any(|line| line.starts_with("transfer-encoding:") && line.contains("chunked"));
        self.raw.drain(..end + 4);
        Ok(true)
    }

    /// The bytes of the body among those that came.
    fn body(&mut self) -> Result<Vec<u8>> {
        if !self.chunked {
            return Ok(std::mem::take(&mut self.raw));
        }
        let (mut body, mut at) = (Vec::new(), 0);
        while !self.ended {
            let rest = &self.raw[at..];
            if self.chunk_left > 0 {
                let count = self.chunk_left.min(rest.len());
                // The last two bytes are the line break that ends a chunk.
                let data = count.min(self.chunk_left.saturating_sub(2));
                body.extend_from_slice(&rest[..data]);
                (at, self.chunk_left) = (at + count, self.chunk_left - count);
                if count == 0 {
                    break;
                }
                continue;
            }
            let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { break };
            let size = String::from_utf8_lossy(&rest[..end]);
            let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)?;
            ensure!(size <= LINE_BYTES_MAX, "a chunk of {size} bytes");
            at += end + 2;
            self.chunk_left = if size == 0 { 0 } else { size + 2 };
            self.ended = size == 0;
        }
        self.raw.drain(..at);
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
                           9\r\ndata: {}\n\r\n1;x=y\r\n\n\r\n7\r\ndata: [\r\n6\r\nDONE]\n\r\n0\r\n\r\n";
    const PLAIN: &str = "HTTP/1.0 503 Busy\r\nRetry-After: 1\r\n\r\n{\"error\":\"busy\"}";

    /// However the bytes are cut, the same comes out.
    fn check(text: &str, status: u16, lines: &[&str], rest: &str) {
        for step in 1..=text.len() {
            let mut reply = Reply::default();
            let mut found = Vec::new();
            for part in text.as_bytes().chunks(step) {
                found.extend(reply.push(part).expect("a reply"));
            }
            let found: Vec<&str> =
                found.iter().map(|line| std::str::from_utf8(line).expect("text")).collect();
            assert_eq!(reply.status(), Some(status));
            assert_eq!(found, lines, "in steps of {step}");
            assert_eq!(reply.rest(), rest.as_bytes());
        }
    }

    #[test]
    fn replies() {
        check(CHUNKED, 200, &["data: {}", "", "data: [DONE]"], "");
        check(PLAIN, 503, &[], "{\"error\":\"busy\"}");
    }

    #[test]
    fn what_is_no_reply() {
        for text in ["SSH-2.0\r\n\r\n", "HTTP/1.1 two\r\n\r\n"] {
            assert!(Reply::default().push(text.as_bytes()).is_err(), "{text}");
        }
        let mut reply = Reply::default();
        assert!(reply.push(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n").is_err());
        assert!(Reply::default().push(&vec![b'x'; HEAD_BYTES_MAX + 1]).is_err());
    }
}
