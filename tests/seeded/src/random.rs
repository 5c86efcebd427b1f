//! The numbers of a tensor from the model's seed and the tensor's name.
//!
//! ```text
//! state = fnv1a64(name) xor seed
//! x[i]  = splitmix64: state += 0x9E3779B97F4A7C15; z = state; z = (z ^ z>>30) * 0xBF58476D1CE4E5B9;
//!                     z = (z ^ z>>27) * 0x94D049BB133111EB; z ^ z>>31
//! u[i]  = float32(x[i] >> 40) * 2^-23 - 1          exact, in [-1, 1)
//! w[i]  = float32(float32(u[i] * scale) + centre)
//! ```
//!
//! splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.

/// The generator.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64(u64);

impl SplitMix64 {
    pub(crate) fn of(seed: u64, name: &str) -> Self {
        Self(fnv1a(name.as_bytes()) ^ seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Passes over `count` numbers.
    pub(crate) const fn skip(&mut self, count: u64) {
        self.0 = self.0.wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }

    /// Uniform in [-1, 1), 24 bits.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    pub(crate) const fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }
}

/// FNV-1a, 64 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

/// `count` numbers around `centre`, at most `scale` away.
pub(crate) fn numbers(seed: u64, name: &str, count: usize, scale: f32, centre: f32) -> Vec<f32> {
    let mut random = SplitMix64::of(seed, name);
    (0..count).map(|_| random.unit() * scale + centre).collect()
}

/// Scale of a matrix with rows of `row_len`, so that its products keep the size of what goes in: the variance of
/// uniform numbers in [-s, s) is s² / 3.
pub(crate) fn matrix_scale(row_len: usize) -> f32 {
    (3.0 / row_len as f64).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // First outputs of splitmix64 for state 0, as published with the algorithm.
        let mut random = SplitMix64(0);
        assert_eq!(random.next(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(random.next(), 0x6E78_9E6A_A1B9_65F4);
        // FNV-1a test vectors of its authors.
        assert_eq!(fnv1a(b""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xAF63_DC4C_8601_EC8C);
    }

    #[test]
    fn numbers_fill_their_range_and_no_more() {
        let values = numbers(1, "x", 10_000, 0.5, 1.0);
        let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
        assert!((0.5..0.51).contains(&low) && (1.49..=1.5).contains(&high), "{low} {high}");
        let mean = values.iter().sum::<f32>() / 10_000.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }
}
