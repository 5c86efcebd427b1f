//! A body taken apart into lines as it arrives: NDJSON and server-sent events are both read this way.

use bytes::{Bytes, BytesMut};

use crate::error::NetError;
use crate::response::Response;

/// The lines of a body, without their line ends.
#[derive(Debug)]
pub struct Lines {
    response: Response,
    split: Split,
    ended: bool,
}

impl Lines {
    pub(crate) fn new(response: Response, line_bytes_max: usize) -> Self {
        Self { response, split: Split { buffer: BytesMut::new(), searched: 0, line_bytes_max }, ended: false }
    }

    /// The next line; `None` at the end of the body. A last line without a line end counts.
    pub async fn next(&mut self) -> Result<Option<Bytes>, NetError> {
        loop {
            if let Some(line) = self.split.line() {
                return Ok(Some(line));
            }
            if self.ended {
                return Ok(self.split.rest());
            }
            if self.split.is_full() {
                let limit_bytes = self.split.line_bytes_max as u64;
                return Err(NetError::TooLarge { host: self.response.host().to_owned(), limit_bytes });
            }
            match self.response.chunk().await? {
                Some(chunk) => self.split.buffer.extend_from_slice(&chunk),
                None => self.ended = true,
            }
        }
    }
}

#[derive(Debug)]
struct Split {
    buffer: BytesMut,
    /// Bytes at the front of the buffer known to hold no line end.
    searched: usize,
    line_bytes_max: usize,
}

impl Split {
    fn line(&mut self) -> Option<Bytes> {
        let Some(end) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + end + 1).freeze();
        self.searched = 0;
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Some(line)
    }

    fn rest(&mut self) -> Option<Bytes> {
        self.searched = 0;
        let rest = self.buffer.split().freeze();
        (!rest.is_empty()).then_some(rest)
    }

    fn is_full(&self) -> bool {
        self.buffer.len() > self.line_bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_they_arrive() {
        let text = b"one\r\ntwo\n\nthree";
        for step in 1..=text.len() {
            let mut split = Split { buffer: BytesMut::new(), searched: 0, line_bytes_max: 100 };
            let mut lines = Vec::new();
            for piece in text.chunks(step) {
                split.buffer.extend_from_slice(piece);
                lines.extend(std::iter::from_fn(|| split.line()));
            }
            lines.extend(split.rest());
            assert_eq!(lines, ["one", "two", "", "three"], "in steps of {step}");
        }
    }
}
