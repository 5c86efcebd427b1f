//! Any bytes as the file of a kept page, as they are and with a good header over them: an error, or exactly the page that
//! was asked for. Never a panic, never a page of another maker or for other tokens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weights::page_file::{HEADER_BYTES, PageFile};

fuzz_target!(|data: (u8, u128, u128, Vec<u8>)| {
    let (maker, key, seal, bytes) = data;
    let wanted = PageFile { maker: [maker; 32], key, seal, page_bytes: bytes.len().saturating_sub(HEADER_BYTES) };
    if let Ok(page) = wanted.read(&bytes) {
        assert_eq!(page, &bytes[HEADER_BYTES..]);
        assert_eq!(bytes[..HEADER_BYTES], wanted.header(page));
    }
    let wanted = PageFile { page_bytes: bytes.len(), ..wanted };
    let mut file = [wanted.header(&bytes).as_slice(), &bytes].concat();
    assert_eq!(wanted.read(&file), Ok(bytes.as_slice()));
    let at = key as usize % file.len();
    file[at] ^= 1 << (seal % 8);
    assert!(wanted.read(&file).is_err());
});
