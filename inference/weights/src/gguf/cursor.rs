//! Reading forward through bytes that may lie: every read proves first that its bytes are there. Under all other files
//! of the reader; knows no GGUF structure beyond strings and counts.

use crate::error::GgufError;

/// A place in the file. Little-endian throughout.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Bytes from here to the end of the file.
    pub(crate) const fn left(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: u64, what: &'static str) -> Result<&'a [u8], GgufError> {
        let missing =
            || GgufError::Truncated { what, offset: self.at as u64, needed: count, left: self.left() };
        let end =
            usize::try_from(count).ok().and_then(|count| self.at.checked_add(count)).ok_or_else(missing)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(missing)?;
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length, then its bytes.
    pub(crate) fn string(&mut self, what: &'static str) -> Result<&'a [u8], GgufError> {
        let length = self.u64(what)?;
        self.take(length, what)
    }

    /// A count of things that take at least `each` bytes: refused when the rest of the file cannot hold them, or
    /// when it passes `limit`.
    pub(crate) fn count(
        &self,
        claimed: u64,
        each: u64,
        limit: u64,
        what: &'static str,
    ) -> Result<usize, GgufError> {
        let possible = limit.min(self.left() / each);
        usize::try_from(claimed).ok().filter(|_| claimed <= possible).ok_or(GgufError::Count {
            what,
            claimed,
            possible,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_length_reads_past_the_end() {
        for length in [6, 1 << 32, u64::MAX, u64::MAX - 1, u64::MAX - 5] {
            let mut cursor = Cursor::new(b"hello", 0);
            assert!(
                matches!(cursor.take(length, "x"), Err(GgufError::Truncated { left: 5, .. })),
                "{length}"
            );
            assert_eq!(cursor.at(), 0, "a refused read does not move");
        }
        let mut beyond = Cursor::new(b"hello", 9);
        assert_eq!(beyond.left(), 0);
        assert!(beyond.take(1, "x").is_err());
    }

    #[test]
    fn counts_are_held_to_the_bytes_left() {
        let cursor = Cursor::new(&[0; 100], 20);
        assert_eq!(cursor.count(10, 8, 1000, "x").unwrap(), 10);
        assert!(matches!(cursor.count(11, 8, 1000, "x"), Err(GgufError::Count { possible: 10, .. })));
        assert!(matches!(cursor.count(6, 8, 5, "x"), Err(GgufError::Count { possible: 5, .. })));
        assert!(cursor.count(u64::MAX, 8, u64::MAX, "x").is_err());
    }
}
