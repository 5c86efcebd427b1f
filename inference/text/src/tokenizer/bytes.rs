//! GPT-2's way to write any byte as a printable character, which byte-level vocabularies are stored in: bytes that
//! are printable in Latin-1 stand for themselves, the others for U+0100 and up, in order.

/// The character that stands for a byte.
pub(crate) const fn byte_to_char(byte: u8) -> char {
    if is_direct(byte) {
        return byte as char;
    }
    // How many of the lower bytes were not direct either.
    let mut shifted = 0;
    let mut lower = 0;
    while lower < byte {
        if !is_direct(lower) {
            shifted += 1;
        }
        lower += 1;
    }
    match char::from_u32(0x100 + shifted) {
        Some(character) => character,
        None => char::REPLACEMENT_CHARACTER,
    }
}

const fn is_direct(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The 68 bytes that are not direct, in order: the inverse for U+0100 to U+0143.
const SHIFTED: [u8; 68] = {
    let mut shifted = [0; 68];
    let mut next = 0;
    let mut byte = 0;
    while byte < 256 {
        if !is_direct(byte as u8) {
            shifted[next] = byte as u8;
            next += 1;
        }
        byte += 1;
    }
    shifted
};

/// The byte that a character stands for; `None` for characters that stand for none.
pub(crate) fn char_to_byte(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ 0..=0xFF => is_direct(code as u8).then_some(code as u8),
        code @ 0x100..=0x143 => Some(SHIFTED[(code - 0x100) as usize]),
        _ => None,
    }
}

/// Appends what `bytes` is stored as.
pub(crate) fn push_encoded(bytes: &[u8], out: &mut String) {
    const TABLE: [char; 256] = {
        let mut table = ['\0'; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = byte_to_char(byte as u8);
            byte += 1;
        }
        table
    };
    out.extend(bytes.iter().map(|&byte| TABLE[usize::from(byte)]));
}

/// The bytes that a stored token stands for; a character outside the alphabet stands for itself.
pub(crate) fn decode(stored: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(stored.len());
    for character in stored.chars() {
        match char_to_byte(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_characters() {
        assert_eq!(byte_to_char(b' '), 'Ġ');
        assert_eq!(byte_to_char(b'\n'), 'Ċ');
        assert_eq!(byte_to_char(0xAD), 'Ń');
        assert_eq!(byte_to_char(b'A'), 'A');
    }

    #[test]
    fn every_byte_returns() {
        let all: Vec<u8> = (0..=255).collect();
        let mut stored = String::new();
        push_encoded(&all, &mut stored);
        assert_eq!(decode(&stored), all);
        assert_eq!(stored.chars().count(), 256);
    }
}
