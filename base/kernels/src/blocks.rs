//! Block formats of weights as GGUF stores them: how many weights a block holds and how many bytes it takes.
//!
//! Facts from the GGUF specification and `ggml-common.h` of llama.cpp (structure sizes, type numbers); but for NF4, which is
//! ours.

/// How a tensor's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, reason = "the field's own names: Q4_K is written so everywhere")]
#[non_exhaustive]
pub enum BlockType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ2_XXS,
    IQ4_NL,
    IQ4_XS,
    MXFP4,
    /// Not of GGUF's: see [`NF4_ID`].
    NF4,
}

/// The number of NF4, a type of our own: 64 weights are a half-precision scale and sixteen levels (`codebooks`).
///
/// Numbers of ggml and of its forks are small and given out in order (some 40, and some 400 in ik_llama.cpp), and readers refuse
/// those that they do not know. So this one is far from all of them, positive in 32 signed bits, and reads `ONF4` in a file's
/// bytes, for whoever looks there.
pub const NF4_ID: u32 = u32::from_le_bytes(*b"ONF4");

impl BlockType {
    /// Every type, in the order of declaration.
    pub const ALL: [Self; 18] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ2_XXS,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::MXFP4,
        Self::NF4,
    ];

    /// Type number in a GGUF tensor description.
    #[must_use]
    pub const fn gguf_id(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q5_0 => 6,
            Self::Q5_1 => 7,
            Self::Q8_0 => 8,
            Self::Q2_K => 10,
            Self::Q3_K => 11,
            Self::Q4_K => 12,
            Self::Q5_K => 13,
            Self::Q6_K => 14,
            Self::IQ2_XXS => 16,
            Self::IQ4_NL => 20,
            Self::IQ4_XS => 23,
            Self::BF16 => 30,
            Self::MXFP4 => 39,
            Self::NF4 => NF4_ID,
        }
    }

    /// Whether only this program reads the type.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::NF4)
    }

    /// The type of a GGUF type number; `None` for one that is unknown or not supported.
    #[must_use]
    pub const fn from_gguf_id(id: u32) -> Option<Self> {
        let mut index = 0;
        while index < Self::ALL.len() {
            if Self::ALL[index].gguf_id() == id {
                return Some(Self::ALL[index]);
            }
            index += 1;
        }
        None
    }

    /// Weights in one block.
    #[must_use]
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL | Self::MXFP4 => 32,
            Self::NF4 => 64,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K | Self::IQ2_XXS | Self::IQ4_XS => {
                256
            }
        }
    }

    /// Bytes of one block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 | Self::IQ4_NL => 18,
            Self::MXFP4 => 17,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 | Self::NF4 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
            Self::IQ2_XXS => 66,
            Self::IQ4_XS => 136,
        }
    }

    /// Bytes of a row of `len` weights; `None` when `len` is not whole blocks or the size overflows.
    #[must_use]
    pub fn row_bytes(self, len: usize) -> Option<usize> {
        if !len.is_multiple_of(self.block_len()) {
            return None;
        }
        (len / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The name used in file names and by `ollama show`, for example `Q4_K`.
    ///
    /// Whether other programs know it says [`BlockType::is_ours`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
            Self::IQ2_XXS => "IQ2_XXS",
            Self::IQ4_NL => "IQ4_NL",
            Self::IQ4_XS => "IQ4_XS",
            Self::MXFP4 => "MXFP4",
            Self::NF4 => "NF4",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_distinct_and_round_trip() {
        for kind in BlockType::ALL {
            assert_eq!(BlockType::from_gguf_id(kind.gguf_id()), Some(kind), "{}", kind.name());
        }
        assert_eq!(BlockType::from_gguf_id(4), None);
        for kind in BlockType::ALL {
            assert_eq!(kind.is_ours(), kind.gguf_id() > 0xFFFF, "{}", kind.name());
        }
        assert!(i32::try_from(NF4_ID).is_ok(), "some readers keep it in a signed number");
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(BlockType::Q4_K.row_bytes(512), Some(288));
        assert_eq!(BlockType::Q4_K.row_bytes(100), None);
        assert_eq!(BlockType::F32.row_bytes(usize::MAX), None);
    }
}
