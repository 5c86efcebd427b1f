//! Half-precision numbers as bits, converted by integer arithmetic alone, so that loops over them become vector code
//! in every instruction set. (The `half` crate asks the processor at each call; here it is the reference in tests.)

/// IEEE 754 binary16 to binary32: exact, subnormals, infinities and NaN included.
#[inline(always)]
#[must_use]
pub const fn f16_to_f32(bits: u16) -> f32 {
    let magnitude = (bits & 0x7fff) as u32;
    let sign = ((bits & 0x8000) as u32) << 16;
    // Shifting moves the exponent into place but for its bias; multiplying by 2^112 mends that, for subnormals too.
    let scaled = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let finite = scaled.to_bits();
    let special = (magnitude << 13) | 0x7f80_0000;
    f32::from_bits(sign | if magnitude >= 0x7c00 { special } else { finite })
}

/// binary32 to binary16, rounded to nearest even; too large becomes infinity.
#[inline(always)]
#[must_use]
pub fn f32_to_f16(value: f32) -> u16 {
    half::f16::from_f32_const(value).to_bits()
}

/// bfloat16 to binary32: exact.
#[inline(always)]
#[must_use]
pub const fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_converts_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let ours = f16_to_f32(bits);
            let theirs = half::f16::from_bits(bits).to_f32_const();
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
            let brain = half::bf16::from_bits(bits).to_f32_const();
            assert!(
                bf16_to_f32(bits).to_bits() == brain.to_bits()
                    || (bf16_to_f32(bits).is_nan() && brain.is_nan()),
                "{bits:#06x}"
            );
        }
    }
}
