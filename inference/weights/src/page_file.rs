//! The file of one page of keys and values, as it is kept between runs: a header, then the page's bytes. Who keeps such
//! files, where and for how long, is the caller's.
//!
//! A file is good for one model in one form on one kind of kernels (`maker`), and for the tokens that its key and seal
//! stand for: two halves of the hash of everything before and in it. It is read as a stranger's: what is not whole, of
//! another maker or for other tokens is a [`PageFileError`], upon which the page is computed.
//!
//! ```text
//! 0   "ondolkv1"        40  key             72  bytes of the page
//! 8   maker, 32 bytes   56  seal            80  sum of what stands before, and of the page; then the page
//! ```

use crate::packed::sum;

const MAGIC: [u8; 8] = *b"ondolkv1";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 96;
/// Where the sums begin.
const SUMS: usize = 80;

/// What a file must be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageFile {
    /// Stands for all that its bits depend on besides the tokens.
    pub maker: [u8; 32],
    pub key: u128,
    pub seal: u128,
    /// Bytes of a page.
    pub page_bytes: usize,
}

/// Why a file of a page is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageFileError {
    /// It is cut, or longer than it should be.
    #[error("it has {found} bytes, not {wanted}")]
    Length { found: usize, wanted: usize },
    /// Another kind of file, or of another version.
    #[error("it is no page of this version")]
    Magic,
    /// Made by another model, in another form, or by other kernels.
    #[error("it was made by another model, in another form, or by other kernels")]
    Maker,
    /// For other tokens.
    #[error("it is for other tokens")]
    Tokens,
    /// A sum is not what the bytes add up to.
    #[error("it is damaged")]
    Damaged,
}

impl PageFile {
    /// Bytes of a file.
    #[must_use]
    pub const fn file_bytes(&self) -> usize {
        HEADER_BYTES + self.page_bytes
    }

    /// The header in front of a page.
    #[must_use]
    pub fn header(&self, page: &[u8]) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..40].copy_from_slice(&self.maker);
        header[40..56].copy_from_slice(&self.key.to_le_bytes());
        header[56..72].copy_from_slice(&self.seal.to_le_bytes());
        header[72..80].copy_from_slice(&(self.page_bytes as u64).to_le_bytes());
        let of_header = sum(&header[..SUMS]);
        header[SUMS..88].copy_from_slice(&of_header.to_le_bytes());
        header[88..].copy_from_slice(&sum(page).to_le_bytes());
        header
    }

    /// The page in a file.
    ///
    /// # Errors
    /// When it is not exactly what it must be.
    pub fn read<'f>(&self, file: &'f [u8]) -> Result<&'f [u8], PageFileError> {
        if file.len() != self.file_bytes() {
            return Err(PageFileError::Length { found: file.len(), wanted: self.file_bytes() });
        }
        let (header, page) = file.split_at(HEADER_BYTES);
        let wanted = self.header(page);
        if header[..8] != wanted[..8] {
            return Err(PageFileError::Magic);
        }
        if header[8..40] != wanted[8..40] {
            return Err(PageFileError::Maker);
        }
        if header[40..72] != wanted[40..72] {
            return Err(PageFileError::Tokens);
        }
        if header[72..] != wanted[72..] {
            return Err(PageFileError::Damaged);
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_single_bit_and_any_other_length_is_seen() {
        let wanted = PageFile { maker: [7; 32], key: 1 << 100, seal: 5, page_bytes: 200 };
        let page: Vec<u8> = (0..200).collect();
        let file = [wanted.header(&page).as_slice(), &page].concat();
        assert_eq!(wanted.read(&file), Ok(page.as_slice()));
        for bit in 0..8 * file.len() {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(wanted.read(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..file.len() {
            assert_eq!(
                wanted.read(&file[..len]),
                Err(PageFileError::Length { found: len, wanted: file.len() })
            );
        }
        let longer = [file.as_slice(), &[0]].concat();
        assert!(wanted.read(&longer).is_err());
        for (other, error) in [
            (PageFile { maker: [8; 32], ..wanted }, PageFileError::Maker),
            (PageFile { key: 2, ..wanted }, PageFileError::Tokens),
            (PageFile { seal: 6, ..wanted }, PageFileError::Tokens),
            (
                PageFile { page_bytes: 201, ..wanted },
                PageFileError::Length { found: file.len(), wanted: file.len() + 1 },
            ),
        ] {
            assert_eq!(other.read(&file), Err(error));
        }
    }
}
