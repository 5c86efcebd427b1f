//! The numbers under the samplers: exponential, logarithm and random draws, made of additions and multiplications
//! only, so that every machine and every C library gives the same bits. `exp` is written to be vectorised: a softmax
//! over a vocabulary of 128,256 is one of the few things a sampler may not do slowly.

/// The largest power of two below which a number is rounded to a whole one by adding and taking away 1.5 · 2²³.
const ROUND: f32 = 12_582_912.0;

/// e^x for x ≤ 0, as all softmaxes need it after the largest logit is taken off; 0 below -87.
///
/// x = k·ln 2 + r, |r| ≤ ln 2 / 2; e^r by its Taylor series to r⁷, whose next term is below 6e-9; 2^k by its bits.
/// Error against f64: below 2e-7 relative (tested).
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // ln 2 in two parts: the first has few digits, so that k times it is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // `max` also turns NaN into the bound.
    let x = x.max(-88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let mut sum = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = sum * r + term;
    }
    // The low bits of `shifted` are k; adding 127 and moving it into the exponent makes 2^k.
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { sum * power }
}

/// e^x in double precision, for single values. |x| up to 700.
pub(crate) fn exp64(x: f64) -> f64 {
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    if x.is_nan() {
        return x;
    }
    if x < -700.0 {
        return 0.0;
    }
    if x > 700.0 {
        return f64::INFINITY;
    }
    let k = (x * std::f64::consts::LOG2_E + 0.5).floor();
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..20 {
        term *= r / f64::from(n);
        sum += term;
    }
    sum * f64::from_bits(((k as i64 + 1023) as u64) << 52)
}

/// ln x in double precision: x = m·2^e with m between √½ and √2, and ln m = 2 artanh((m - 1)/(m + 1)).
pub(crate) fn ln(x: f64) -> f64 {
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    // Numbers too small for a full mantissa are made larger first.
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * (1u64 << 54) as f64, 54.0) } else { (x, 0.0) };
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0 - shift;
    let mut mantissa = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    // |s| ≤ 0.1716, so the term after s²¹/21 is below 1e-19.
    let mut sum = 0.0;
    for n in (0..11).rev() {
        sum = sum * square + 1.0 / f64::from(2 * n + 1);
    }
    exponent * LN2_HIGH + (2.0 * s * sum + exponent * LN2_LOW)
}

/// x^y for x > 0.
pub(crate) fn power(x: f64, y: f64) -> f64 {
    exp64(y * ln(x))
}

/// x^n by repeated squaring.
pub(crate) fn whole_power(x: f64, mut n: u32) -> f64 {
    let (mut result, mut square) = (1.0, x);
    while n > 0 {
        if n & 1 == 1 {
            result *= square;
        }
        square *= square;
        n >>= 1;
    }
    result
}

/// The largest of many; `-inf` of none. NaN does not count. Lane by lane, so that it is vectorised.
pub(crate) fn largest(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = values.as_chunks::<16>();
    for block in blocks {
        for (lane, value) in lanes.iter_mut().zip(block) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    let rest = rest.iter().copied();
    lanes
        .into_iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |best, value| if value > best { value } else { best })
}

/// Σ e^(x - highest) over all logits, in a fixed order. NaN and `-inf` add nothing.
pub(crate) fn sum_of_exp(logits: &[f32], highest: f32) -> f64 {
    let mut total = 0.0;
    // Sixteen lanes of at most 16 numbers each in f32, then f64: the rounding stays below that of `exp`.
    for part in logits.chunks(256) {
        let mut lanes = [0.0f32; 16];
        let (blocks, rest) = part.as_chunks::<16>();
        for block in blocks {
            for (lane, logit) in lanes.iter_mut().zip(block) {
                *lane += exp(logit - highest);
            }
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
        total += rest.iter().map(|logit| f64::from(exp(logit - highest))).sum::<f64>();
    }
    total
}

/// Σ e^(x - highest)·(x - highest), in a fixed order; what is below -87 adds nothing.
pub(crate) fn sum_of_exp_below(logits: &[f32], highest: f32) -> f64 {
    let mut total = 0.0;
    for part in logits.chunks(256) {
        let mut lanes = [0.0f32; 16];
        let (blocks, rest) = part.as_chunks::<16>();
        for block in blocks {
            for (lane, logit) in lanes.iter_mut().zip(block) {
                // `max` also turns `-inf` and NaN into something that times 0 is 0.
                let below = (logit - highest).max(-100.0);
                *lane += exp(below) * below;
            }
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
        let rest = rest.iter().map(|logit| (logit - highest).max(-100.0));
        total += rest.map(|below| f64::from(exp(below) * below)).sum::<f64>();
    }
    total
}

/// Random numbers: splitmix64 (Steele, Lea & Flood, 2014) from the seed. Each sequence has its own.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// In 0 ≤ u < 1, a multiple of 2⁻⁵³.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_agree_with_the_standard_library() {
        for i in 0..=200_000 {
            let x = -88.0 * i as f32 / 200_000.0;
            let (ours, want) = (f64::from(exp(x)), f64::from(x).exp());
            if x > -87.0 {
                assert!((ours - want).abs() <= 2e-7 * want, "exp({x}): {ours}, want {want}");
            }
        }
        assert_eq!((exp(0.0), exp(-90.0), exp(f32::NEG_INFINITY), exp(f32::NAN)), (1.0, 0.0, 0.0, 0.0));
        for i in -20_000..20_000 {
            let x = f64::from(i) / 30.0;
            let (ours, want) = (exp64(x), x.exp());
            assert!((ours - want).abs() <= 1e-14 * want, "exp64({x}): {ours}, want {want}");
            let x = x.exp();
            let (ours, want) = (ln(x), x.ln());
            assert!((ours - want).abs() <= 1e-15 * want.abs().max(1.0), "ln({x}): {ours}, want {want}");
        }
        assert_eq!((ln(0.0), ln(1.0), ln(f64::INFINITY)), (f64::NEG_INFINITY, 0.0, f64::INFINITY));
        assert!((ln(5e-324) - 5e-324f64.ln()).abs() < 1e-12);
        assert!(ln(-1.0).is_nan() && exp64(f64::NAN).is_nan());
        assert!((power(2.5, -3.3) - 2.5f64.powf(-3.3)).abs() < 1e-14);
        assert!((whole_power(1.75, 19) - 1.75f64.powi(19)).abs() < 1e-9);
    }

    #[test]
    fn sums_and_maxima_of_any_length() {
        for length in [0, 1, 15, 16, 17, 255, 256, 257, 1000] {
            let logits: Vec<f32> = (0..length).map(|i| ((i * 7919) % 613) as f32 / 37.0 - 8.0).collect();
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(largest(&logits), highest, "{length}");
            if length == 0 {
                continue;
            }
            let want: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
            let ours = sum_of_exp(&logits, highest);
            assert!((ours - want).abs() < 1e-6 * want, "{length}: {ours}, want {want}");
            let below = logits.iter().map(|logit| f64::from(logit - highest));
            let want: f64 = below.map(|below| below.exp() * below).sum();
            let ours = sum_of_exp_below(&logits, highest);
            assert!((ours - want).abs() <= 1e-6 * want.abs(), "{length}: {ours}, want {want}");
        }
        assert_eq!(largest(&[f32::NAN, 2.0, f32::NEG_INFINITY]), 2.0);
    }

    /// The first outputs for seed 1234567, published with the algorithm's reference code.
    #[test]
    fn random_numbers_are_splitmix64() {
        let mut random = Random::new(1_234_567);
        for want in [6_457_827_717_110_365_317u64, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423] {
            assert_eq!(random.uniform(), (want >> 11) as f64 / (1u64 << 53) as f64);
        }
    }
}
